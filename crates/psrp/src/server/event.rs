use exops_psobject::Value;
use uuid::Uuid;

use crate::{HostResponse, MetadataRequest, PipelineRequest};

/// What a client asked of a server pool.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerPoolEvent {
    /// The pool is open.
    Opened,
    /// The client wants a key for SecureStrings: answer with [`ServerPool::answer_key`](crate::ServerPool::answer_key).
    PublicKey {
        /// The client's RSA key, as base64 of the blob that MS-PSRP 2.2.5.1 describes.
        key: String,
    },
    /// Run a pipeline. Comes only when a runspace is free.
    Pipeline {
        /// Its id.
        id: Uuid,
        /// What to run.
        request: Box<PipelineRequest>,
    },
    /// Describe commands: the count object, then one object a command, as output of a pipeline.
    Metadata {
        /// Its id.
        id: Uuid,
        /// What is asked.
        request: MetadataRequest,
    },
    /// An object for the pipeline's input.
    Input {
        /// The pipeline.
        id: Uuid,
        /// The object.
        value: Value,
    },
    /// No more input.
    EndOfInput {
        /// The pipeline.
        id: Uuid,
    },
    /// Answer to a host call.
    HostResponse {
        /// The pipeline.
        id: Uuid,
        /// The answer.
        response: HostResponse,
    },
    /// Answer to a call of the pool's host.
    PoolHostResponse {
        /// The answer.
        response: HostResponse,
    },
    /// Stop the pipeline; it must still be finished.
    Stop {
        /// The pipeline.
        id: Uuid,
    },
    /// The client gave the running pipeline up: nothing that it writes is sent any more. It must still be finished, to
    /// free its runspace.
    Terminated {
        /// The pipeline.
        id: Uuid,
    },
}
