//! PowerShell values, objects and records, with readers and writers for their two wire forms.
//!
//! * [`Value`], [`PsObject`]: what travels in a pipeline, as plain data. A type name read from the wire is
//!   text and never instantiates anything.
//! * [`clixml`]: the XML form of remote PowerShell (MS-PSRP 2.2.5) and of `Export-Clixml` files.
//! * [`json`]: the annotated JSON form of the REST admin API.
//! * [`canonical`]: one form to which both reduce, so that the same object can be compared over both.
//! * [`exported`]: files of objects that administrators have, of any size.
//! * [`wildcard`]: PowerShell's patterns for names.
//! * [`record`]: error, information and progress records.
//!
//! This crate knows no transport, holds no clock and opens nothing.

pub mod canonical;
pub mod clixml;
mod datetime;
pub mod exported;
pub mod json;
mod limits;
mod object;
pub mod record;
mod secure;
mod value;
pub mod wildcard;
pub mod xml;

pub use datetime::{DateTime, DateTimeKind, TimeSpan};
pub use limits::Limits;
pub use object::{Base, ListKind, MemberSet, Properties, PsObject, TypeNames};
pub use record::{ErrorCategory, ErrorRecord, InformationRecord, ProgressRecord, ProgressType};
pub use secure::{CREDENTIAL, SECURE_STRING, SecureString};
pub use value::Value;
