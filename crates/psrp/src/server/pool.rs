//! What concerns the pool and none of its pipelines: numbers of runspaces, calls of its client's host, events.

use exops_psobject::Value;

use super::{ServerPool, ServerPoolEvent};
use crate::notes::{Reader, array_list, object};
use crate::{HostCall, HostMethod, HostResponse, Message, MessageType, ProtocolError, UserEvent, host};

impl ServerPool {
    /// Questions about the runspaces, and wishes.
    pub(super) fn runspaces_message(&mut self, message: &Message) -> Result<(), ProtocolError> {
        let content = self.value(message)?;
        let reader = Reader::new(message.kind, &content)?;
        let call = reader.number("ci")?;
        let answer: Value = match message.kind {
            MessageType::SetMaxRunspaces => {
                let wanted = reader.number("MaxRunspaces")?;
                let possible = i64::try_from(self.config.runspaces.max(1)).unwrap_or(i64::MAX);
                let done = (self.asked.0.max(1)..=possible.max(self.asked.1)).contains(&wanted);
                if done {
                    self.asked.1 = wanted;
                    self.runspaces = self.config.runspaces.max(1).min(usize::try_from(wanted).unwrap_or(usize::MAX));
                }
                done.into()
            }
            MessageType::SetMinRunspaces => {
                let wanted = reader.number("MinRunspaces")?;
                let done = (1..=self.asked.1).contains(&wanted);
                if done {
                    self.asked.0 = wanted;
                }
                done.into()
            }
            // There is no state to lose; one that is in use is not reset.
            MessageType::ResetRunspaceState => (self.running() == 0).into(),
            _ => i64::try_from(self.runspaces.saturating_sub(self.running())).unwrap_or(0).into(),
        };
        self.push_pool(MessageType::RunspaceAvailability, &object([("SetMinMaxRunspacesResponse", answer), ("ci", call.into())]));
        self.start_next();
        Ok(())
    }

    /// Calls the host of the pool's client; the answer comes as [`ServerPoolEvent::PoolHostResponse`] with the id returned here.
    /// `None` when nobody is there.
    pub fn call_pool_host(&mut self, method: HostMethod, parameters: Vec<Value>) -> Option<i64> {
        if !self.is_open() || !self.host.has_ui() {
            return None;
        }
        let call = HostCall { call_id: self.next_call, method, parameters };
        let (call_id, value) = (call.call_id, call.to_value());
        self.next_call += 1;
        self.calls.insert(call_id, (self.next_object, call));
        self.push_pool(MessageType::RunspacePoolHostCall, &value);
        Some(call_id)
    }

    /// Tells the host of the pool's client something that it gives no answer to; ignored where nobody is there.
    pub fn tell_pool_host(&mut self, method: HostMethod, parameters: Vec<Value>) {
        if self.is_open() && self.host.has_ui() {
            let call = object([("ci", host::NO_ANSWER.into()), ("mi", host::method_value(method)), ("mp", array_list(parameters))]);
            self.push_pool(MessageType::RunspacePoolHostCall, &call);
        }
    }

    pub(super) fn pool_host_response(&mut self, message: &Message) -> Result<(), ProtocolError> {
        let response = HostResponse::from_value(message.kind, &self.value(message)?)?;
        if self.calls.remove(&response.call_id).is_some() {
            self.events.push_back(ServerPoolEvent::PoolHostResponse { response });
        } else {
            // Not asked, or asked and answered (case C-11).
            self.ignored += 1;
        }
        Ok(())
    }

    /// Tells the client of an event that it subscribed to; ignored while the pool is not open.
    pub fn raise_event(&mut self, event: &UserEvent) {
        if self.is_open() {
            self.push_pool(MessageType::UserEvent, &event.to_value());
        }
    }
}
