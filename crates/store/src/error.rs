use std::path::PathBuf;

use thiserror::Error;
use uuid::Uuid;

use crate::Refusal;

/// Why an operation of the store failed. Nothing of it was written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file cannot be opened or brought to this version's schema.
    #[error("cannot open the database {path}: {reason}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system or the database said.
        reason: String,
    },
    /// The database refused a statement, or the disk did.
    #[error("the database refused: {0}")]
    Database(#[from] sqlx::Error),
    /// The operation ran, but the transaction that held it was not committed.
    #[error("the change was not written: {0}")]
    NotCommitted(String),
    /// The store was closed, or its writer broke off.
    #[error("the database is closed")]
    Closed,
    /// A stored row does not have the form that this version writes.
    #[error("a stored {what} is not readable: {reason}")]
    Corrupt {
        /// What kind of row.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// An identity that must be unique already belongs to another object.
    #[error("the {kind} \"{value}\" already belongs to another object")]
    IdentityTaken {
        /// Kind of identity.
        kind: String,
        /// The folded value.
        value: String,
        /// The object that holds it.
        owner: Uuid,
    },
    /// Who was sending objects went away before the end.
    #[error("the objects were not all sent: none was kept")]
    GivenUp,
    /// Objects of a stream that could not be added; it never leaves the store.
    #[error("{} objects could not be added", .0.len())]
    #[doc(hidden)]
    Refused(Vec<Refusal>),
    /// A row of that kind is there already.
    #[error("the {0} exists already")]
    Exists(&'static str),
    /// An outcome names an intent that was never written, or an intent's id was used twice.
    #[error("audit entry {0}: {1}")]
    Audit(Uuid, &'static str),
}

impl StoreError {
    pub(crate) fn corrupt(what: &'static str, reason: impl ToString) -> Self {
        Self::Corrupt { what, reason: reason.to_string() }
    }
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        match refusal.identity {
            Some((kind, value)) => Self::IdentityTaken { kind, value, owner: refusal.owner },
            None => Self::Exists("object"),
        }
    }
}
