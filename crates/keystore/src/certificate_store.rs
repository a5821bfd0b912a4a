use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use exops_auth::{Identity, IdentityError, Thumbprint, pfx};
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use crate::KeystoreError;

/// .NET's folder of the current user's personal certificates on Linux, under the home folder. The store's name is in
/// lower case. Source: dotnet/runtime, OpenSslDirectoryBasedStoreProvider.
const DOTNET: &str = ".dotnet/corefx/cryptography/x509stores/my";
/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;
/// Most files that are looked at.
const MAX_FILES: usize = 10_000;
/// .NET tries these many names when one is taken.
const MAX_COLLISIONS: u32 = 9;

/// A folder of PFX files without password, one certificate each, named `<SHA-1 thumbprint>.pfx`.
///
/// Shared with PowerShell and every .NET program on Linux when it is [`CertificateStore::current_user`]. Reading ignores
/// names. What is written is PBES2 with AES-256, which .NET reads since long; what .NET wrote is read in its old and new form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateStore {
    directory: PathBuf,
}

/// A certificate of a store.
#[derive(Debug)]
pub struct Entry {
    /// Its file.
    pub path: PathBuf,
    /// Certificate and key.
    pub identity: Identity,
    /// Others than the owner may read the file: worth a warning.
    pub exposed: bool,
}

/// A file that is no usable certificate, and why.
#[derive(Debug)]
pub struct Unreadable {
    /// The file.
    pub path: PathBuf,
    /// The reason.
    pub reason: String,
}

/// The content of a store.
#[derive(Debug, Default)]
pub struct Listing {
    /// Usable certificates, by file name.
    pub entries: Vec<Entry>,
    /// PFX files that were skipped.
    pub unreadable: Vec<Unreadable>,
}

impl CertificateStore {
    /// A store in a folder of its own. It is made by the first [`CertificateStore::add`].
    #[must_use]
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The store that .NET calls `CurrentUser\My`, under the given home folder.
    #[must_use]
    pub fn current_user(home: &Path) -> Self {
        Self::at(home.join(DOTNET))
    }

    /// The folder.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// All certificates with their keys. A store that does not exist yet is empty.
    ///
    /// # Errors
    /// The folder cannot be read. A file that cannot is listed, not an error.
    pub fn list(&self) -> Result<Listing, KeystoreError> {
        let fail = |source| KeystoreError::File { action: "read", path: self.directory.clone(), source };
        let mut paths = Vec::new();
        match fs::read_dir(&self.directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Listing::default()),
            Err(e) => return Err(fail(e)),
            Ok(items) => {
                for item in items.take(MAX_FILES) {
                    let path = item.map_err(fail)?.path();
                    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("pfx")) {
                        paths.push(path);
                    }
                }
            }
        }
        paths.sort();
        let mut listing = Listing::default();
        for path in paths {
            match read(&path) {
                Ok((identity, exposed)) => listing.entries.push(Entry { path, identity, exposed }),
                Err(reason) => listing.unreadable.push(Unreadable { path, reason }),
            }
        }
        Ok(listing)
    }

    /// The certificate of that thumbprint, with its key.
    ///
    /// # Errors
    /// None has it, or the folder cannot be read.
    pub fn find(&self, thumbprint: &Thumbprint) -> Result<Entry, KeystoreError> {
        let found = self.list()?.entries.into_iter().find(|e| e.identity.certificate.has_thumbprint(thumbprint));
        found.ok_or_else(|| KeystoreError::NotFound { thumbprint: *thumbprint, directory: self.directory.clone() })
    }

    /// Puts a certificate with its key into the store: the file appears whole or not at all, readable for its owner only.
    /// A certificate that is there already stays as it is. Gives the file.
    ///
    /// # Errors
    /// The folder or file cannot be written.
    pub fn add(&self, identity: &Identity) -> Result<PathBuf, KeystoreError> {
        let thumbprint = Thumbprint::Sha1(identity.certificate.sha1());
        match self.find(&thumbprint) {
            Ok(entry) => return Ok(entry.path),
            Err(KeystoreError::NotFound { .. }) => {}
            Err(other) => return Err(other),
        }
        let fail = |action, path: &Path| {
            let path = path.to_owned();
            move |source| KeystoreError::File { action, path, source }
        };
        let content = pfx::write(identity, None)?;
        make_private(&self.directory).map_err(fail("make", &self.directory))?;
        // Made with mode 0600 under a random name, synced, and then linked to its own.
        let mut file = tempfile::Builder::new().prefix(".exops-").tempfile_in(&self.directory).map_err(fail("write", &self.directory))?;
        file.write_all(content.expose_secret()).map_err(fail("write", file.path()))?;
        file.as_file().sync_all().map_err(fail("write", file.path()))?;
        for attempt in 0..=MAX_COLLISIONS {
            let name = if attempt == 0 { format!("{thumbprint}.pfx") } else { format!("{thumbprint}.{attempt}.pfx") };
            let path = self.directory.join(name);
            match file.persist_noclobber(&path) {
                Ok(_) => return Ok(path),
                Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => file = e.file,
                Err(e) => return Err(fail("write", &path)(e.error)),
            }
        }
        Err(KeystoreError::NoFreeName { thumbprint, directory: self.directory.clone() })
    }

    /// Removes the certificate of that thumbprint with its key, in every file that holds it. Gives the files.
    ///
    /// # Errors
    /// None has it, or a file cannot be removed.
    pub fn remove(&self, thumbprint: &Thumbprint) -> Result<Vec<PathBuf>, KeystoreError> {
        let mut removed = Vec::new();
        for entry in self.list()?.entries {
            if entry.identity.certificate.has_thumbprint(thumbprint) {
                fs::remove_file(&entry.path).map_err(|source| KeystoreError::File {
                    action: "remove",
                    path: entry.path.clone(),
                    source,
                })?;
                removed.push(entry.path);
            }
        }
        if removed.is_empty() {
            return Err(KeystoreError::NotFound { thumbprint: *thumbprint, directory: self.directory.clone() });
        }
        Ok(removed)
    }
}

/// Reads one file: opened once, and what was opened is checked, so that nothing is exchanged in between.
fn read(path: &Path) -> Result<(Identity, bool), String> {
    let text = |e: io::Error| e.to_string();
    // Before opening: opening a pipe would wait for its other end.
    if !fs::symlink_metadata(path).map_err(text)?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let file = File::open(path).map_err(text)?;
    let metadata = file.metadata().map_err(text)?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(format!("it is not a regular file of at most {MAX_BYTES} bytes"));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default() + 1));
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(text)?;
    let identity = pfx::read(&bytes, None).map_err(|e: IdentityError| e.to_string())?;
    Ok((identity, exposed(&metadata)))
}

/// Whether others than its owner may read a file; not known (`false`) where there are no such permissions.
#[must_use]
pub fn is_exposed(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| exposed(&metadata))
}

#[cfg(unix)]
fn exposed(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0
}

#[cfg(not(unix))]
fn exposed(_: &fs::Metadata) -> bool {
    false
}

/// Makes the folder and what is missing above it, for the owner only.
fn make_private(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}
