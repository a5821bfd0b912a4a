//! Cmdlet metadata, the binder, value conversion and view columns.
//!
//! * [`Catalogue`]: which cmdlets and parameters exist for a caller, with sets, positions, validators and impact.
//!   [`Catalogue::built_in`] is a compact table of all cmdlets that one recorded Exchange Online session offered.
//! * [`Pipeline`]: names and values as a client sent them. [`BoundPipeline`]: resolved against a catalogue by
//!   [`bind`]. Never one type, so that nothing unbound can be executed.
//! * [`view`]: the columns of default tables.
//!
//! This crate does not know where cmdlets run.

mod bind;
mod catalogue;
mod cmdlet;
mod convert;
mod digest;
mod pipeline;
mod refusal;
mod table;
mod validate;
pub mod view;

pub use bind::{BindError, UnknownNames, bind, bind_input, bind_session};
pub use catalogue::Catalogue;
pub use cmdlet::{COMMON_PARAMETERS, Cmdlet, ConfirmImpact, Parameter, ParameterKind, SetMembership, Validator, is_read};
pub use convert::{ConvertError, convert};
pub use pipeline::{Argument, BoundArgument, BoundCommand, BoundPipeline, Command, LocalStage, Pipeline, Stage};
