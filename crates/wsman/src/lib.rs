//! WS-Management for remote shells: SOAP envelopes, shell operations and faults, both halves, as data.
//!
//! * Server half: [`parse_request`] gives a [`Request`]; [`answer`] and [`Fault`] write what goes back.
//! * Client half: [`request`] writes requests; [`parse_response`] gives a [`Response`].
//!
//! What a shell carries is opaque bytes here: this crate does not know PSRP. It holds no clock, no random source and
//! opens nothing; an address inside an envelope is never followed (case X-06).

pub mod answer;
mod duration;
mod enumeration;
mod fault;
mod incoming;
mod limits;
pub mod request;
mod response;
pub mod uri;
mod xml;
pub mod xpress;

pub use duration::{format_duration, parse_duration};
pub use enumeration::{CommandDescription, Enumeration, Part};
pub use fault::{Fault, FaultParty};
pub use incoming::{
    Action, BufferMode, CreateShell, Request, RequestBody, RequestError, ShellOption, StreamData, parse_request, parse_request_utf16,
};
pub use limits::Limits;
pub use response::{CommandState, Enumerated, Response, ResponseBody, ResponseError, parse_response};
pub use xml::XmlError;
