//! `exops cert …`: certificates in the store.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use exops_auth::{Certificate, Identity, Thumbprint, issue};
use exops_client::Credential;
use exops_keystore::{CertificateStore, Entry, KeystoreError};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde_json::{Value as Json, json};

use crate::exit::{Exit, NOT_IN_STORE};
use crate::failure::Failure;
use crate::options::{CertExport, CertImport, CertList, CertNew, CertRemove, CertShow};
use crate::profile::file_failure;
use crate::{note, password, places, print, tell};

/// Makes a certificate and puts it into the store.
pub(crate) fn new(options: &CertNew, as_json: bool) -> Result<Exit, Failure> {
    let store = store(options.common.store.as_deref())?;
    let identity = make(&options.subject, options.days)?;
    let file = add(&store, &identity)?;
    if let Some(out) = &options.out {
        std::fs::write(out, identity.certificate.to_pem()).map_err(|e| file_failure("write", out, &e))?;
    }
    let described = describe(&identity.certificate);
    if as_json {
        print(&format!("{}\n", with_files(described, &file, options.out.as_deref())))?;
    } else {
        print(&text(&identity.certificate))?;
        print(&format!("  file        {}\n", file.display()))?;
        if let Some(out) = &options.out {
            print(&format!("  public part {}\n", out.display()))?;
        }
    }
    Ok(Exit::Ok)
}

/// Shows all certificates of the store.
pub(crate) fn list(options: &CertList, as_json: bool) -> Result<Exit, Failure> {
    let store = store(options.store.as_deref())?;
    let all = store.list().map_err(store_failure)?;
    for skipped in &all.unreadable {
        note(&format!("{} is skipped: {}", skipped.path.display(), skipped.reason));
    }
    if as_json {
        print(&format!("{}\n", all.entries.iter().map(|e| describe(&e.identity.certificate)).collect::<Json>()))?;
    } else if all.entries.is_empty() {
        tell(&format!("no certificate is in {}: exops cert new", store.directory().display()));
    } else {
        for entry in &all.entries {
            let certificate = &entry.identity.certificate;
            print(&format!("{}  {:>4} days  {}\n", certificate.sha1_thumbprint(), days_left(certificate), certificate.subject()))?;
        }
    }
    Ok(Exit::Ok)
}

/// The thumbprints of the store, for completion.
pub(crate) fn thumbprints() -> Vec<String> {
    let all = store(None).and_then(|s| s.list().map_err(store_failure));
    all.map(|a| a.entries.iter().map(|e| e.identity.certificate.sha1_thumbprint().to_string()).collect()).unwrap_or_default()
}

/// Shows one certificate.
pub(crate) fn show(options: &CertShow, as_json: bool) -> Result<Exit, Failure> {
    let entry = find(&options.thumbprint, options.common.store.as_deref())?;
    let certificate = &entry.identity.certificate;
    if options.pem {
        print(&certificate.to_pem())?;
    } else if as_json {
        print(&format!("{}\n", describe(certificate)))?;
    } else {
        print(&text(certificate))?;
    }
    Ok(Exit::Ok)
}

/// Writes a certificate with its key into a file that only its owner can read.
pub(crate) fn export(options: &CertExport, as_json: bool) -> Result<Exit, Failure> {
    let entry = find(&options.thumbprint, options.common.store.as_deref())?;
    let is_pem = options.out.extension().is_some_and(|e| e.eq_ignore_ascii_case("pem"));
    let out = &options.out;
    if is_pem && options.certificate_password_file.is_some() {
        return Err(Failure::usage("a PEM file is written without a password").hint("leave the password out, or name the file .pfx"));
    }
    let password = options.certificate_password_file.as_deref().map(password::first_line).transpose()?;
    let fail = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::new(Exit::Unexpected, format!("{} is there already", out.display()))
            .hint("no file is written over: choose another name, or remove it"),
        _ => file_failure("write", out, &e),
    };
    let mut file = private_file(out).map_err(fail)?;
    if is_pem {
        file.write_all(exops_auth::pem::write_identity(&entry.identity).expose_secret().as_bytes()).map_err(fail)?;
    } else {
        let content = exops_auth::pfx::write(&entry.identity, password.as_ref())
            .map_err(|e| Failure::new(Exit::Unexpected, format!("{} cannot be written: {e}", out.display())).hint(e.hint()))?;
        file.write_all(content.expose_secret()).map_err(fail)?;
    }
    told(&entry.identity.certificate, out, as_json)
}

/// A new file for its owner only. One that is there is not written over: its permissions may be another's wish.
fn private_file(path: &Path) -> std::io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Puts the certificate and key of a file into the store.
pub(crate) fn import(options: &CertImport, as_json: bool) -> Result<Exit, Failure> {
    let source = password::source(options.certificate_password_file.as_deref())?;
    let (identity, _) = password::identity(&options.file, source)?;
    let file = add(&store(options.common.store.as_deref())?, &identity)?;
    told(&identity.certificate, &file, as_json)
}

/// Removes a certificate and its key.
pub(crate) fn remove(options: &CertRemove, as_json: bool) -> Result<Exit, Failure> {
    let store = store(options.common.store.as_deref())?;
    let removed = store.remove(&parse(&options.thumbprint)?).map_err(store_failure)?;
    if as_json {
        print(&format!("{}\n", json!({ "removed": removed })))?;
    } else {
        removed.iter().try_for_each(|file| print(&format!("removed {}\n", file.display())))?;
    }
    Ok(Exit::Ok)
}

/// Which certificate is in which file now.
fn told(certificate: &Certificate, file: &Path, as_json: bool) -> Result<Exit, Failure> {
    if as_json {
        print(&format!("{}\n", with_files(describe(certificate), file, None)))?;
    } else {
        print(&format!("{}  file        {}\n", text(certificate), file.display()))?;
    }
    Ok(Exit::Ok)
}

/// A self-signed certificate with a new RSA key.
pub(crate) fn make(subject: &str, days: u32) -> Result<Identity, Failure> {
    issue::self_signed(subject, days, now()).map_err(|e| {
        Failure::new(Exit::Usage, format!("no certificate for '{subject}': {e}"))
            .hint("a subject is written as CN=name, or CN=name,O=organisation")
    })
}

/// Puts a certificate into a store; answers its file.
pub(crate) fn add(store: &CertificateStore, identity: &Identity) -> Result<PathBuf, Failure> {
    store.add(identity).map_err(store_failure)
}

/// The credential of a certificate in a store.
pub(crate) fn from_store(thumbprint: &str, store: Option<&Path>) -> Result<Credential, Failure> {
    let entry = find(thumbprint, store)?;
    if entry.exposed {
        note(&format!("others than you may read the private key in {}: chmod 600", entry.path.display()));
    }
    Ok(Credential::Certificate(Arc::new(entry.identity)))
}

fn find(thumbprint: &str, store_folder: Option<&Path>) -> Result<Entry, Failure> {
    store(store_folder)?.find(&parse(thumbprint)?).map_err(store_failure)
}

fn parse(thumbprint: &str) -> Result<Thumbprint, Failure> {
    Thumbprint::parse(thumbprint)
        .map_err(|e| Failure::usage(format!("'{thumbprint}' is no thumbprint: {e}")).hint("'exops cert list' shows those of the store"))
}

fn store_failure(error: KeystoreError) -> Failure {
    let (exit, code) = match &error {
        KeystoreError::NotFound { .. } => (Exit::Certificate, NOT_IN_STORE),
        _ => (Exit::Unexpected, "CertificateStore"),
    };
    Failure { code: code.to_owned(), ..Failure::new(exit, error.to_string()).hint(error.hint().replace('`', "'")) }
}

fn store(given: Option<&Path>) -> Result<CertificateStore, Failure> {
    Ok(match given {
        Some(folder) => CertificateStore::at(folder),
        None => CertificateStore::current_user(&places::certificate_store_home()?),
    })
}

fn describe(certificate: &Certificate) -> Json {
    json!({
        "subject": certificate.subject(),
        "issuer": certificate.issuer(),
        "thumbprint": certificate.sha1_thumbprint(),
        "sha256": certificate.sha256().iter().map(|b| format!("{b:02X}")).collect::<String>(),
        "key": format!("RSA {}", certificate.key_bits()),
        "not_before": time(certificate.not_before()),
        "not_after": time(certificate.not_after()),
        "days_left": days_left(certificate),
    })
}

fn with_files(mut described: Json, file: &Path, out: Option<&Path>) -> Json {
    if let Some(map) = described.as_object_mut() {
        map.insert("file".to_owned(), json!(file));
        if let Some(out) = out {
            map.insert("out".to_owned(), json!(out));
        }
    }
    described
}

fn text(certificate: &Certificate) -> String {
    format!(
        "{}\n  thumbprint  {}\n  key         RSA {}\n  valid       {} to {} ({} days left)\n",
        certificate.subject(),
        certificate.sha1_thumbprint(),
        certificate.key_bits(),
        time(certificate.not_before()),
        time(certificate.not_after()),
        days_left(certificate),
    )
}

fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map(|t| t.to_string()).unwrap_or_default()
}

fn days_left(certificate: &Certificate) -> i64 {
    (certificate.not_after() - now()) / 86_400
}

/// Seconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_secs()).ok()).unwrap_or_default()
}
