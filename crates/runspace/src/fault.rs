use std::time::Duration;

use thiserror::Error;

/// What kind of failure of the connection or session it is, as opposed to an error of a cmdlet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// No token, or one that is not accepted: sign in (again).
    SignIn,
    /// Signed in, but no role grants a session or this command.
    Forbidden,
    /// Not reached: name, connection, TLS, time-out.
    Unreachable,
    /// Reached and not understood, or an answer that the protocol does not allow.
    Protocol,
    /// Asked to come back later.
    Throttled(Duration),
    /// Ours.
    Internal,
}

/// A failure outside any cmdlet. `message` says what failed with which value, `hint` what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Fault {
    /// The kind; exit codes and HTTP statuses are read off it.
    pub kind: FaultKind,
    /// Machine-readable word or code of the far end (`AADSTS700027`, `2150858843`), empty when there is none.
    pub code: String,
    /// One sentence without secrets.
    pub message: String,
    /// What to do next, empty when there is nothing to advise.
    pub hint: String,
    /// The far end's request id, where it gave one.
    pub request_id: Option<String>,
}

impl Fault {
    /// A fault with kind and message only.
    #[must_use]
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, code: String::new(), message: message.into(), hint: String::new(), request_id: None }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Adds the far end's code.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = code.into();
        self
    }
}
