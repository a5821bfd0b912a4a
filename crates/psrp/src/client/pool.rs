//! What concerns the pool and none of its pipelines: numbers of runspaces, and events.

use std::collections::HashMap;

use exops_psobject::Value;

use super::{ClientPool, ClientPoolEvent};
use crate::notes::{Reader, object};
use crate::{Message, MessageType, ProtocolError, UserEvent};

/// A question about a pool's runspaces, or a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunspaceRequest {
    /// GET_AVAILABLE_RUNSPACES (MS-PSRP 2.2.2.11).
    Available,
    /// SET_MAX_RUNSPACES (MS-PSRP 2.2.2.6).
    Max(i32),
    /// SET_MIN_RUNSPACES (MS-PSRP 2.2.2.7).
    Min(i32),
}

/// What a server answers (RUNSPACE_AVAILABILITY, MS-PSRP 2.2.2.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunspaceAnswer {
    /// So many runspaces run nothing.
    Available(i64),
    /// Whether the wish was granted.
    Granted(bool),
}

/// Requests that wait for their answers.
pub(super) type RunspaceCalls = HashMap<i64, RunspaceRequest>;

impl ClientPool {
    /// Queues a question or a wish about the runspaces; [`ClientPoolEvent::Runspaces`] answers with the id given here.
    pub fn ask_runspaces(&mut self, request: RunspaceRequest) -> i64 {
        let call = self.next_call;
        self.next_call += 1;
        self.runspace_calls.insert(call, request);
        let (kind, content) = match request {
            RunspaceRequest::Available => (MessageType::GetAvailableRunspaces, object([("ci", call.into())])),
            RunspaceRequest::Max(count) => (MessageType::SetMaxRunspaces, object([("MaxRunspaces", count.into()), ("ci", call.into())])),
            RunspaceRequest::Min(count) => (MessageType::SetMinRunspaces, object([("MinRunspaces", count.into()), ("ci", call.into())])),
        };
        self.push(None, kind, &content);
        call
    }

    pub(super) fn availability(&mut self, message: &Message) -> Result<(), ProtocolError> {
        let content = self.value(message)?;
        let reader = Reader::new(message.kind, &content)?;
        let call = reader.number("ci")?;
        let given = reader.get("SetMinMaxRunspacesResponse");
        let answer = match self.runspace_calls.remove(&call) {
            Some(RunspaceRequest::Available) => given.and_then(Value::as_i64).filter(|count| *count >= 0).map(RunspaceAnswer::Available),
            Some(_) => given.and_then(Value::as_bool).map(RunspaceAnswer::Granted),
            None => {
                // Not asked, or asked and answered.
                self.ignored += 1;
                return Ok(());
            }
        };
        let answer = answer.ok_or_else(|| reader.lacks("SetMinMaxRunspacesResponse"))?;
        self.events.push_back(ClientPoolEvent::Runspaces(call, answer));
        Ok(())
    }

    pub(super) fn user_event(&mut self, message: &Message) -> Result<(), ProtocolError> {
        let event = UserEvent::from_value(&self.value(message)?)?;
        self.events.push_back(ClientPoolEvent::UserEvent(Box::new(event)));
        Ok(())
    }
}
