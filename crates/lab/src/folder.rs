//! The data folder: who may use it, and the files in it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::LabError;

/// The database.
pub(crate) const DATABASE: &str = "lab.sqlite";
/// Certificate of the lab's authority.
pub(crate) const CA_CERTIFICATE: &str = "ca.pem";
/// Its key; never exported.
pub(crate) const CA_KEY: &str = "ca.key";
/// Where everything of the running lab is.
pub(crate) const READY: &str = "ready.json";
/// The token for its own API.
pub(crate) const BOOTSTRAP: &str = "bootstrap.json";
/// Held as long as a lab uses the folder; its text is the process id.
const LOCK: &str = "lock";

/// A program that looks whether a lab runs holds the lock for a moment: so long a starting lab tries again.
const LOCK_PATIENCE: Duration = Duration::from_millis(300);

/// A data folder that this process holds. Dropping it lets go of it and removes an ephemeral one.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// The lock goes with the handle.
    lock: File,
    /// Removes the folder when dropped.
    ephemeral: Option<tempfile::TempDir>,
}

impl Folder {
    /// Takes a data folder, making it (for its owner only) where it is not there; `None` makes an ephemeral one.
    ///
    /// # Errors
    /// [`LabError::DataFolderInUse`] when another process holds it.
    pub(crate) fn take(data_dir: Option<&Path>) -> Result<Self, LabError> {
        let (path, ephemeral) = match data_dir {
            Some(path) => (path.to_owned(), None),
            None => {
                let parent = std::env::temp_dir();
                let made = tempfile::Builder::new().prefix("exops-lab-").tempdir_in(&parent).map_err(file("make a folder in", &parent))?;
                (made.path().to_owned(), Some(made))
            }
        };
        make_folder(&path)?;
        let path = path.canonicalize().map_err(file("open", &path))?;
        let lock_path = path.join(LOCK);
        let mut lock = private().create(true).truncate(false).open(&lock_path).map_err(file("open", &lock_path))?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => std::thread::sleep(Duration::from_millis(20)),
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    let _ = lock.read_to_string(&mut holder);
                    return Err(LabError::DataFolderInUse { path, pid: holder.trim().parse().ok() });
                }
                Err(TryLockError::Error(source)) => return Err(LabError::File { action: "lock", path: lock_path, source }),
            }
        }
        let told = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| write!(lock, "{}", std::process::id()));
        told.map_err(file("write", &lock_path))?;
        Ok(Self { path, lock, ephemeral })
    }

    /// Whether some process holds a folder.
    pub(crate) fn is_held(path: &Path) -> bool {
        let Ok(lock) = OpenOptions::new().read(true).open(path.join(LOCK)) else { return false };
        matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Lets go of the folder; an ephemeral one is removed.
    pub(crate) fn leave(self) -> Result<(), LabError> {
        drop(self.lock);
        let removed = self.ephemeral.map(tempfile::TempDir::close).transpose();
        removed.map(drop).map_err(file("remove", &self.path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn make_folder(path: &Path) -> Result<(), LabError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(file("make", path))
}

/// Reads a text file; `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>, LabError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LabError::File { action: "read", path: path.to_owned(), source }),
    }
}

/// Writes a file that only its owner may read, whole or not at all: readers never see a part of it.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), LabError> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Files of this maker have mode 0600 from the beginning.
    let mut temporary = tempfile::NamedTempFile::new_in(parent).map_err(file("write", path))?;
    temporary.write_all(content).and_then(|()| temporary.as_file().sync_all()).map_err(file("write", path))?;
    temporary.persist(path).map(drop).map_err(|error| LabError::File { action: "write", path: path.to_owned(), source: error.error })
}

/// Writes a JSON document the same way.
pub(crate) fn write_json(path: &Path, content: &impl Serialize) -> Result<(), LabError> {
    let mut text = serde_json::to_vec_pretty(content).map_err(|error| LabError::part("writing JSON", error))?;
    text.push(b'\n');
    write(path, &text)
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<(), LabError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LabError::File { action: "remove", path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LabError {
    let path = path.to_owned();
    move |source| LabError::File { action, path, source }
}
