//! The PowerShell remoting protocol (MS-PSRP): fragments, messages, runspace pools and pipelines, both halves.
//!
//! Bytes go in and out per [`Channel`]: one for the runspace pool, one for each pipeline. What carries them (a
//! WS-Management shell, a pipe) is not known here. [`ServerPool`] and [`ClientPool`] are the two machines; both take
//! bytes with `receive`, give events with `next_event` and bytes to send with `take`. They hold no clock and no
//! random source: ids are arguments.

mod capability;
mod client;
mod command;
mod fragment;
mod host;
mod message;
mod metadata;
mod notes;
mod outbox;
mod pipeline;
mod prompt;
mod record;
mod server;
mod user_event;

use exops_psobject::clixml::ClixmlError;
use thiserror::Error;
use uuid::Uuid;

pub use capability::{Capability, PROTOCOL_VERSION};
pub use client::{ClientPool, ClientPoolConfig, ClientPoolEvent, RunspaceAnswer, RunspaceRequest};
pub use command::{Argument, Command, HostInfo, Merge, PipelineRequest};
pub use fragment::{Defragmenter, FragmentError, FragmentLimits};
pub use host::{HostCall, HostMethod, HostResponse, choice_call, credential_call, prompt_call, read_line_call};
pub use message::{Message, MessageType, first_pipeline_id};
pub use metadata::{
    CommandDescription, CommandKind, CommandMetadata, MOST_COMMANDS, MetadataError, MetadataRequest, ParameterDescription,
    ParameterMetadata, count_object, read_commands,
};
pub use outbox::Outbox;
pub use pipeline::{Output, PipelineEnd, PipelineState, PoolState};
pub use prompt::{ChoiceDescription, FieldDescription, HostQuestion, QuestionError};
pub use record::{error_from_value, error_to_value};
pub use server::{ServerPool, ServerPoolConfig, ServerPoolEvent};
pub use user_event::UserEvent;

/// Which of the two kinds of byte streams: the pool's own or that of one pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// State changes, key exchange, host calls of the pool.
    Pool,
    /// One pipeline by its id.
    Pipeline(Uuid),
}

/// Input streams of a channel. Fragments of one object never change the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Everything but answers to prompts.
    Default,
    /// Answers to prompts, which overtake queued input.
    PromptResponse,
}

/// Why received bytes are not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The fragments are wrong.
    #[error(transparent)]
    Fragment(#[from] FragmentError),
    /// A message is shorter than its header.
    #[error("a message of {0} bytes is shorter than its header")]
    ShortMessage(usize),
    /// A message's content is not CLIXML.
    #[error("the content of {kind:?} is not readable: {error}")]
    Clixml {
        /// The message.
        kind: MessageType,
        /// What is wrong with it.
        error: ClixmlError,
    },
    /// A message lacks a property or has one of the wrong type.
    #[error("{kind:?} lacks {property} or has it in a wrong type")]
    Property {
        /// The message.
        kind: MessageType,
        /// The property.
        property: &'static str,
    },
    /// A message that only the other side sends, or one that makes no sense now.
    #[error("{kind:?} is not acceptable {when}")]
    Unexpected {
        /// The message.
        kind: MessageType,
        /// Where or when it came.
        when: &'static str,
    },
    /// A message for another pool or pipeline than the one on whose stream it came.
    #[error("{kind:?} came for {found} on the stream of {expected}")]
    WrongTarget {
        /// The message.
        kind: MessageType,
        /// Id in the message.
        found: Uuid,
        /// Id of the stream.
        expected: Uuid,
    },
    /// More pipelines at once than there may be.
    #[error("{limit} pipelines exist already")]
    TooManyPipelines {
        /// How many there may be.
        limit: usize,
    },
    /// The peer speaks an incompatible version.
    #[error("the peer's {what} is {found}; {needed} is needed")]
    Version {
        /// Which of the three versions.
        what: &'static str,
        /// What the peer says.
        found: String,
        /// What is spoken here.
        needed: &'static str,
    },
    /// More pipelines or queued input than allowed.
    #[error("the limit of {limit} {what} is reached")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// There is no such pipeline (any more).
    #[error("pipeline {0} does not exist")]
    UnknownPipeline(Uuid),
    /// The id is in use.
    #[error("pipeline {0} exists already")]
    PipelineExists(Uuid),
}
