//! The audit record: who did what, when, to which object, how it ended.
//!
//! A command that is not a read leaves an [`Intent`] before it runs and an [`Outcome`] with the change; together
//! they are one searchable [`Entry`]. Records are chained: each carries the hash of all before it ([`chain`]), so
//! that a removed, edited or reordered record shows.
//!
//! This crate knows no storage.

mod event;

pub use event::admin_audit_log_event;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Identifies an entry. Version 7, so that ids sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IntentId(pub Uuid);

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Client id of the application.
    pub app_id: Uuid,
    /// Object id of its service principal.
    pub object_id: Uuid,
    /// Display name at that time.
    pub name: String,
    /// Address and port of the client.
    pub client_address: String,
}

/// One parameter as it was bound. Values of secret types are replaced by their type before they come here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Canonical name, or the name as sent where it did not bind.
    pub name: String,
    /// The value as text.
    pub value: String,
}

/// What is about to be done. Durable before anything changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Identifies the entry.
    pub id: IntentId,
    /// The tenant.
    pub tenant: Uuid,
    /// Milliseconds since 1970 UTC.
    pub time: i64,
    /// Who.
    pub actor: Actor,
    /// Canonical cmdlet name.
    pub cmdlet: String,
    /// Bound parameters in binding order.
    pub parameters: Vec<Parameter>,
    /// The request that caused it.
    pub correlation_id: Uuid,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "reason")]
pub enum Ending {
    /// Carried out.
    Succeeded,
    /// Tried and not carried out; the error's text.
    Failed(String),
    /// Not tried: access, binding or a switched-off parameter; the reason.
    Refused(String),
    /// Nobody can tell whether it was carried out.
    Unknown(String),
}

impl Ending {
    /// One word: `succeeded`, `failed`, `refused`, `unknown`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed(_) => "failed",
            Self::Refused(_) => "refused",
            Self::Unknown(_) => "unknown",
        }
    }

    /// The error's text or the reason; empty when it succeeded.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Succeeded => "",
            Self::Failed(text) | Self::Refused(text) | Self::Unknown(text) => text,
        }
    }
}

/// One property before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Property name.
    pub property: String,
    /// Text before.
    pub old: String,
    /// Text after.
    pub new: String,
}

/// How an intent ended. Commits in the transaction of the change itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The intent.
    pub id: IntentId,
    /// Milliseconds since 1970 UTC.
    pub time: i64,
    /// How it ended.
    pub ending: Ending,
    /// Identity (canonical name) of the object, empty when none was found.
    pub object: String,
    /// What changed.
    pub changes: Vec<Change>,
}

/// An intent with its outcome: what a search shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What was to be done.
    pub intent: Intent,
    /// How it ended; `None` while it runs.
    pub outcome: Option<Outcome>,
}

/// One link: SHA-256 over the previous link and the record's bytes.
#[must_use]
pub fn chain(previous: &[u8; 32], record: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update((record.len() as u64).to_be_bytes());
    hash.update(record);
    hash.finalize().into()
}

/// Walks stored records and their links in order and names the first that does not fit (its position from 0).
///
/// # Errors
/// The position of the first bad record.
pub fn verify<'a>(records: impl IntoIterator<Item = (&'a [u8], [u8; 32])>) -> Result<(), u64> {
    let mut previous = [0; 32];
    for (position, (record, link)) in records.into_iter().enumerate() {
        previous = chain(&previous, record);
        if previous != link {
            return Err(position as u64);
        }
    }
    Ok(())
}
