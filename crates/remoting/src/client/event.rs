use std::sync::Arc;

use exops_psobject::{ErrorRecord, InformationRecord, ProgressRecord, Value};
use exops_psrp::{HostCall, PipelineEnd};
use uuid::Uuid;

use super::ClientError;

/// What became known.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientEvent {
    /// The session is open.
    Opened,
    /// An output object.
    Output {
        /// Whose.
        pipeline: Uuid,
        /// The object.
        value: Value,
    },
    /// A non-terminating error.
    Error {
        /// Whose.
        pipeline: Uuid,
        /// The record.
        record: Box<ErrorRecord>,
    },
    /// A warning, of the session when there is no pipeline.
    Warning {
        /// Whose.
        pipeline: Option<Uuid>,
        /// The text.
        text: Arc<str>,
    },
    /// Verbose text.
    Verbose {
        /// Whose.
        pipeline: Uuid,
        /// The text.
        text: Arc<str>,
    },
    /// Debug text.
    Debug {
        /// Whose.
        pipeline: Uuid,
        /// The text.
        text: Arc<str>,
    },
    /// An information record.
    Information {
        /// Whose.
        pipeline: Uuid,
        /// The record.
        record: Box<InformationRecord>,
    },
    /// Progress.
    Progress {
        /// Whose.
        pipeline: Uuid,
        /// The record.
        record: Box<ProgressRecord>,
    },
    /// The server calls the host. Calls that repeat a warning, verbose, debug or progress record are left out.
    HostCall {
        /// Whose; `None` for the session.
        pipeline: Option<Uuid>,
        /// The call; answer with [`ClientSession::respond`](super::ClientSession::respond) when it expects one.
        call: HostCall,
    },
    /// The pipeline ended; nothing of it follows.
    PipelineEnded {
        /// Which.
        pipeline: Uuid,
        /// How.
        end: PipelineEnd,
    },
    /// The pipeline's end will never be known; nothing of it follows.
    PipelineLost {
        /// Which.
        pipeline: Uuid,
        /// Why.
        error: ClientError,
    },
    /// The session is lost; nothing follows.
    Broken(ClientError),
    /// The session is closed; nothing follows.
    Closed,
}
