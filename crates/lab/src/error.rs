use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

const DISK_FULL: &str = "make room on that disk, or choose a folder on another one with --data";

/// Why a lab does not start or is not found.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LabError {
    /// Another lab uses the folder.
    #[error("the data folder {path} is in use by another lab{}", pid.map(|p| format!(" (process {p})")).unwrap_or_default())]
    DataFolderInUse {
        /// The folder.
        path: PathBuf,
        /// The process that holds it, where it said so.
        pid: Option<u32>,
    },
    /// Something else listens there.
    #[error("{addr} is taken: another program listens there")]
    PortTaken {
        /// The address.
        addr: SocketAddr,
    },
    /// No lab runs on that folder.
    #[error("no lab is running on {data_dir}")]
    NotRunning {
        /// The folder.
        data_dir: PathBuf,
    },
    /// The folder holds another organisation than the one asked for.
    #[error("the data folder {path} holds {found}, not {wanted}")]
    OtherOrganization {
        /// The folder.
        path: PathBuf,
        /// What it holds.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// A value that was asked for cannot be used.
    #[error("{what} \"{value}\" cannot be used: {reason}")]
    BadValue {
        /// Which setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// Why.
        reason: String,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried: "read", "write", "make", "lock".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The listener could not be opened for another reason.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The database, a key or a certificate.
    #[error("{what} failed: {reason}")]
    Part {
        /// Which part.
        what: &'static str,
        /// Its reason.
        reason: String,
    },
}

impl LabError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::DataFolderInUse { .. } => {
                "stop that lab with `exops lab down`, or give this one a folder of its own with --data or --ephemeral"
            }
            Self::PortTaken { .. } | Self::Listen { .. } => "choose another address with --listen; port 0 lets the system choose",
            Self::NotRunning { .. } => "start one with `exops lab up`, or name its folder with --data",
            Self::OtherOrganization { .. } => "leave out --organization, --tenant-id and --seed, or use another folder with --data",
            Self::BadValue { .. } => "correct the value",
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => DISK_FULL,
            Self::File { .. } => "check that the folder exists and that you may write there, or choose another with --data",
            Self::Part { reason, .. } if reason.contains("disk is full") || reason.contains("No space left") => DISK_FULL,
            Self::Part { .. } => "the data folder may be damaged; a lab on another folder (--data) shows whether it is",
        }
    }

    pub(crate) fn part(what: &'static str, reason: impl ToString) -> Self {
        Self::Part { what, reason: reason.to_string() }
    }
}
