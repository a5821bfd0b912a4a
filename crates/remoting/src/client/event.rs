use std::sync::Arc;

use exops_psobject::{ErrorRecord, InformationRecord, ProgressRecord, Value};
use exops_psrp::{HostCall, PipelineEnd, RunspaceAnswer, UserEvent};
use exops_wsman::Fault;
use uuid::Uuid;

use super::{ClientError, RequestId};

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
    /// The pipelines of a session that somebody else opened, in no order. Their events follow.
    Pipelines(Vec<Uuid>),
    /// The server wants the client's public key: see [`ClientSession::send_key`](super::ClientSession::send_key).
    KeyRequested,
    /// The session's key under the client's, as base64 of the blob that MS-PSRP 2.2.5.2 describes.
    Key(String),
    /// The answer to [`ClientSession::ask_runspaces`](super::ClientSession::ask_runspaces).
    Runspaces {
        /// The id that it gave.
        call: i64,
        /// What the server says.
        answer: RunspaceAnswer,
    },
    /// Something happened that somebody subscribed to in the far runspace.
    UserEvent(Box<UserEvent>),
    /// The service is elsewhere: [`ClientSession::follow`](super::ClientSession::follow) or
    /// [`ClientSession::stay`](super::ClientSession::stay).
    Redirected {
        /// The address as the server gave it: not to be trusted.
        location: String,
    },
    /// The server is too busy for a request. After a pause [`ClientSession::handle_unsent`](super::ClientSession::handle_unsent)
    /// sends it again; [`ClientSession::refuse`](super::ClientSession::refuse) takes the fault as final.
    Throttled {
        /// Which request.
        request: RequestId,
        /// The shortest pause that the server wants, where it says so.
        milliseconds: Option<u64>,
        /// What it said.
        fault: Fault,
    },
    /// The session goes on at the server without this client, by [`ClientSession::disconnect`](super::ClientSession::disconnect)
    /// or because of something there. [`ClientSession::reconnect`](super::ClientSession::reconnect) comes back to it.
    Disconnected,
    /// The session is connected again; pipelines go on where they were.
    Reconnected,
    /// The server refused to let the client go: the session stays as it was.
    StaysConnected(ClientError),
    /// The session is lost; nothing follows.
    Broken(ClientError),
    /// The session is closed; nothing follows.
    Closed,
}

impl ClientEvent {
    /// The pipeline that it is about.
    #[must_use]
    pub fn pipeline(&self) -> Option<Uuid> {
        match self {
            Self::Output { pipeline, .. }
            | Self::Error { pipeline, .. }
            | Self::Verbose { pipeline, .. }
            | Self::Debug { pipeline, .. }
            | Self::Information { pipeline, .. }
            | Self::Progress { pipeline, .. }
            | Self::PipelineEnded { pipeline, .. }
            | Self::PipelineLost { pipeline, .. } => Some(*pipeline),
            Self::Warning { pipeline, .. } | Self::HostCall { pipeline, .. } => *pipeline,
            _ => None,
        }
    }
}
