//! The certificate store: a folder that .NET programs share.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use exops_auth::{Identity, Thumbprint, issue, pem, pfx};
use exops_keystore::{CertificateStore, KeystoreError};
use secrecy::ExposeSecret as _;

const NOW: i64 = 1_795_521_600;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn thumbprint(identity: &Identity) -> Thumbprint {
    Thumbprint::Sha1(identity.certificate.sha1())
}

#[test]
fn certificate_store() {
    let home = tempfile::tempdir().unwrap();
    let store = CertificateStore::current_user(home.path());
    assert_eq!(store.directory(), home.path().join(".dotnet/corefx/cryptography/x509stores/my"));
    let nothing = store.list().unwrap();
    assert!(nothing.entries.is_empty() && nothing.unreadable.is_empty() && !store.directory().exists());
    let (first, second) = (issue::self_signed("CN=a", 30, NOW).unwrap(), issue::self_signed("CN=a", 60, NOW).unwrap());
    assert!(matches!(store.find(&thumbprint(&first)), Err(KeystoreError::NotFound { .. })));
    let path = store.add(&first).unwrap();
    assert_eq!(path, store.directory().join(format!("{}.pfx", first.certificate.sha1_thumbprint())));
    assert_eq!((mode(&path), mode(store.directory())), (0o600, 0o700));
    assert_eq!(store.add(&first).unwrap(), path, "a certificate is there once");
    // The name is taken by something else: .NET's next name.
    let taken = store.directory().join(format!("{}.pfx", second.certificate.sha1_thumbprint()));
    fs::write(&taken, "something else").unwrap();
    let path = store.add(&second).unwrap();
    assert_eq!(path, store.directory().join(format!("{}.1.pfx", second.certificate.sha1_thumbprint())));
    // Names do not matter when reading; what is no certificate with a key is skipped and named (K-04, K-06).
    let third = issue::self_signed("CN=b", 30, NOW).unwrap();
    let other_name = store.directory().join("from elsewhere.PFX");
    fs::write(&other_name, pfx::write(&third, None).unwrap().expose_secret()).unwrap();
    fs::write(store.directory().join("protected.pfx"), pfx::write(&third, Some(&"x".into())).unwrap().expose_secret()).unwrap();
    fs::write(store.directory().join("notes.txt"), "not looked at").unwrap();
    std::os::unix::fs::symlink(&other_name, store.directory().join("link.pfx")).unwrap();
    fs::create_dir(store.directory().join("folder.pfx")).unwrap();
    let pipe = store.directory().join("pipe.pfx");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::File::create(store.directory().join("huge.pfx")).unwrap().set_len(1 << 40).unwrap();
    let listing = store.list().unwrap();
    assert_eq!(listing.entries.len(), 3);
    let skipped: Vec<&str> = listing.unreadable.iter().map(|u| u.path.file_name().unwrap().to_str().unwrap()).collect();
    let named = taken.file_name().unwrap().to_str().unwrap();
    let mut expected = [named, "folder.pfx", "huge.pfx", "link.pfx", "pipe.pfx", "protected.pfx"];
    expected.sort_unstable();
    assert_eq!(skipped, expected);
    assert!(listing.unreadable.iter().all(|u| !u.reason.is_empty()));
    // A file that others may read is used, and said.
    let found = store.find(&thumbprint(&third)).unwrap();
    assert_eq!((found.exposed, found.path.as_path()), (true, other_name.as_path()));
    let by_sha256 = store.find(&Thumbprint::Sha256(first.certificate.sha256())).unwrap();
    assert_eq!((by_sha256.exposed, &by_sha256.identity.certificate), (false, &first.certificate));
    // K-05: as people paste it.
    let pasted = format!("\u{200e}{}", first.certificate.sha1_thumbprint().to_lowercase());
    assert!(store.find(&Thumbprint::parse(&pasted).unwrap()).is_ok());
    assert_eq!(pem::write_identity(&by_sha256.identity).expose_secret(), pem::write_identity(&first).expose_secret());
    // Removing leaves the others alone.
    assert_eq!(store.remove(&thumbprint(&second)).unwrap(), [path]);
    assert!(taken.exists() && matches!(store.remove(&thumbprint(&second)), Err(KeystoreError::NotFound { .. })));
    assert_eq!(store.list().unwrap().entries.len(), 2);
    assert!(fs::read_dir(store.directory()).unwrap().all(|f| !f.unwrap().file_name().to_string_lossy().starts_with(".exops-")));
}
