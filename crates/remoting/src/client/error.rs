use exops_wsman::Fault;
use thiserror::Error;

/// What was being done when something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is spelt out in Display")]
pub enum Operation {
    Open,
    Connect,
    Disconnect,
    Reconnect,
    ReceiveSession,
    SendSession,
    StartPipeline,
    ReceivePipeline,
    SendPipeline,
    StopPipeline,
    Close,
    List,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "opening the remote PowerShell session",
            Self::Connect => "connecting to the remote PowerShell session",
            Self::Disconnect => "disconnecting from the remote PowerShell session",
            Self::Reconnect => "reconnecting to the remote PowerShell session",
            Self::ReceiveSession => "waiting for the remote PowerShell session",
            Self::SendSession => "sending to the remote PowerShell session",
            Self::StartPipeline => "starting a remote command",
            Self::ReceivePipeline => "waiting for the output of a remote command",
            Self::SendPipeline => "sending input to a remote command",
            Self::StopPipeline => "stopping a remote command",
            Self::Close => "closing the remote PowerShell session",
            Self::List => "listing remote PowerShell sessions",
        })
    }
}

/// Why a pipeline or the session is lost.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server refused.
    #[error("{operation} failed: {fault}")]
    Fault {
        /// At what.
        operation: Operation,
        /// Why; see [`Fault`]'s codes.
        fault: Fault,
    },
    /// An HTTP answer without SOAP: 401 and 403 mean the credential, 302 a redirect, 404 and 503 the endpoint.
    #[error("{operation} failed: the server answered HTTP {status}")]
    Http {
        /// At what.
        operation: Operation,
        /// HTTP status.
        status: u16,
        /// Beginning of the body.
        excerpt: String,
    },
    /// The server's bytes are not what the protocol allows.
    #[error("{operation} failed: the server's answer is not acceptable: {reason}")]
    Protocol {
        /// At what.
        operation: Operation,
        /// Why.
        reason: String,
    },
    /// No answer came. Of a started command nobody knows whether it was carried out.
    #[error("{operation} failed: the connection was lost before the answer came")]
    Lost {
        /// At what.
        operation: Operation,
    },
    /// The service is elsewhere, and it is not followed.
    #[error("the remote PowerShell service redirects to '{location}', which is not followed")]
    Redirected {
        /// Where it is, by its own word.
        location: String,
    },
    /// The server ended the session.
    #[error("the server ended the remote PowerShell session: {0}")]
    Ended(String),
    /// The session was closed while the pipeline ran.
    #[error("the remote PowerShell session was closed while the command ran")]
    Closed,
}

impl ClientError {
    /// The fault, when a fault is the reason.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Fault { fault, .. } => Some(fault),
            _ => None,
        }
    }

    /// `true` when the server does not know the session (any more): it may be opened again.
    #[must_use]
    pub fn is_session_gone(&self) -> bool {
        matches!(self, Self::Ended(_)) || self.fault().is_some_and(|f| f.code == Fault::UNEXPECTED_SELECTORS)
    }
}
