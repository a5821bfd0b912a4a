//! CLIXML, the XML form of PowerShell objects (MS-PSRP 2.2.5): of messages of remote PowerShell and of files that
//! `Export-Clixml` writes.
//!
//! Reading never makes anything of a type name but text. References are resolved to shared objects, and what a
//! document would be without them is counted against the limits too, so that a short text cannot stand for a huge
//! object. A reference to what comes later is an error, and so is an object that is its own member. A reference to an object
//! further out, which PowerShell writes of drives and their provider and of an exception and its record, becomes that object's
//! string form, so that no value has a cycle.
//!
//! Text is any UTF-16 in .NET and Unicode here. Half of a surrogate pair that stands alone (an `_xD83D_` without its other
//! half) is kept as the private-use character U+100000 plus the half, and is written as that half again.

mod escape;
mod read;
mod write;

use thiserror::Error;

pub use read::Decoder;
pub use write::{DocumentWriter, write, write_document, write_into, write_to_depth};

use crate::xml::XmlError;
use crate::{Limits, Value};

/// Levels of objects that are read, whatever [`Limits::depth`] says: everything that walks values recurses.
const MAX_DEPTH: usize = 128;

/// A progress record as an object: its type, and its members in the order of `PR` (MS-PSRP 2.2.5.1.25): element, name,
/// whether it is a number.
const PROGRESS_TYPES: [&str; 2] = ["System.Management.Automation.ProgressRecord", "System.Object"];
const PROGRESS_MEMBERS: [(&str, &str, bool); 8] = [
    ("AV", "Activity", false),
    ("AI", "ActivityId", true),
    ("S", "CurrentOperation", false),
    ("PI", "ParentActivityId", true),
    ("PC", "PercentComplete", true),
    ("T", "Type", false),
    ("SR", "SecondsRemaining", true),
    ("SD", "StatusDescription", false),
];

/// Why a text is not CLIXML that is accepted here. Positions are bytes of the decoded text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClixmlError {
    /// Not the XML that is accepted.
    #[error("CLIXML is refused: {0}")]
    Xml(#[from] XmlError),
    /// An element that may not stand there.
    #[error("CLIXML is refused: unexpected element {name} before byte {position}")]
    UnexpectedElement {
        /// Local name.
        name: String,
        /// Where.
        position: usize,
    },
    /// The text of an element is no value of its type.
    #[error("CLIXML is refused: {text:?} is no value of type {element}, before byte {position}")]
    BadValue {
        /// Local name of the element.
        element: &'static str,
        /// The start of the text.
        text: String,
        /// Where.
        position: usize,
    },
    /// `Ref` or `TNRef` without number, or to something that did not come before.
    #[error("CLIXML is refused: reference to unknown id {id:?} before byte {position}")]
    UnknownReference {
        /// The `RefId`.
        id: String,
        /// Where.
        position: usize,
    },
    /// A property without `N`, or a dictionary entry without key or value.
    #[error("CLIXML is refused: a member without name before byte {0}")]
    MissingName(usize),
    /// References would make the document larger than the limits allow.
    #[error("CLIXML is refused: its references stand for more than the limits allow, before byte {0}")]
    Expansion(usize),
    /// An object that is its own member.
    #[error("CLIXML is refused: object {id} is a member of itself, before byte {position}")]
    SelfReference {
        /// Its `RefId`.
        id: u64,
        /// Byte offset just after it.
        position: usize,
    },
    /// More than one value, or something after the end.
    #[error("CLIXML is refused: more than one value where one is expected, before byte {0}")]
    Several(usize),
}

/// Reads the one rootless value that a PSRP message carries; an empty text is [`Value::Null`].
///
/// # Errors
/// When it is malformed or exceeds a limit.
pub fn read(bytes: &[u8], limits: &Limits) -> Result<Value, ClixmlError> {
    Decoder::new(*limits).read(bytes)
}

/// Reads an `<Objs>` document in UTF-8 or, with a byte order mark, UTF-16.
///
/// # Errors
/// When it is malformed or exceeds a limit.
pub fn read_document(bytes: &[u8], limits: &Limits) -> Result<Vec<Value>, ClixmlError> {
    Decoder::new(*limits).read_document(bytes)
}
