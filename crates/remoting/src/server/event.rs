use exops_psobject::Value;
use exops_psrp::{HostResponse, MetadataRequest, PipelineRequest};
use uuid::Uuid;

/// What a client asked of a session.
#[derive(Debug, Clone, PartialEq)]
pub enum SessionEvent {
    /// The runspace pool is open: pipelines may come.
    Opened,
    /// The client wants a key for SecureStrings: answer with
    /// [`ServerSession::answer_key`](super::ServerSession::answer_key).
    PublicKey {
        /// The client's RSA key, as base64 of the blob that MS-PSRP 2.2.5.1 describes.
        key: String,
    },
    /// Run this. It comes when a runspace is free: with one runspace, after the pipeline before was finished.
    CreatePipeline {
        /// The pipeline's id, for `write` and `finish`.
        id: Uuid,
        /// What to run.
        request: Box<PipelineRequest>,
    },
    /// Describe commands: write [`exops_psrp::count_object`], then one [`exops_psrp::CommandDescription`] object a command,
    /// and finish.
    CommandMetadata {
        /// The pipeline's id.
        id: Uuid,
        /// Which commands.
        request: MetadataRequest,
    },
    /// An object for the pipeline's input.
    Input {
        /// The pipeline's id.
        id: Uuid,
        /// The object.
        value: Value,
    },
    /// No more input.
    EndOfInput {
        /// The pipeline's id.
        id: Uuid,
    },
    /// The client's answer to a host call.
    HostResponse {
        /// The pipeline's id.
        id: Uuid,
        /// The answer with the id of the call.
        response: HostResponse,
    },
    /// The client's answer to a call of the host of its session.
    PoolHostResponse {
        /// The answer with the id of the call.
        response: HostResponse,
    },
    /// Stop the pipeline; it must still be finished.
    Stop {
        /// The pipeline's id.
        id: Uuid,
    },
    /// The client gave the pipeline up: what it writes is dropped. It must still be stopped and finished.
    Terminated {
        /// The pipeline's id.
        id: Uuid,
    },
    /// The shell is gone; nothing follows.
    Closed,
}
