use std::path::PathBuf;

use exops_auth::{IdentityError, Thumbprint};
use thiserror::Error;

/// Why a certificate store did not do what it was asked for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeystoreError {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried: "read", "write", "make", "remove".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// No readable file of the store holds that certificate.
    #[error("no certificate with the thumbprint {thumbprint} is in the certificate store {directory}")]
    NotFound {
        /// The thumbprint.
        thumbprint: Thumbprint,
        /// The store.
        directory: PathBuf,
    },
    /// All names that .NET would try are taken by other files.
    #[error("no free file name for the certificate {thumbprint} in {directory}")]
    NoFreeName {
        /// The thumbprint.
        thumbprint: Thumbprint,
        /// The store.
        directory: PathBuf,
    },
    /// The certificate could not be put into a file.
    #[error("the certificate cannot be written: {0}")]
    Write(#[from] IdentityError),
}

impl KeystoreError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File { .. } => "check that the folder belongs to you and that you may write there",
            Self::NotFound { .. } => "`exops cert list` shows what is there; `exops cert new` makes a certificate",
            Self::NoFreeName { .. } => "remove files of that name",
            Self::Write(e) => e.hint(),
        }
    }
}
