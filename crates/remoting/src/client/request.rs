//! What is asked for, in which order.

use exops_psrp::{Capability, Channel, PROTOCOL_VERSION};
use exops_wsman::request::{self, Header, NewShell};
use exops_wsman::{StreamData, uri, xpress};
use uuid::Uuid;

use super::{ClientSession, Kind, Outstanding, Phase, Pipeline, RequestId};

/// Envelopes of this size every server takes; larger ones only from protocol 2.2 on.
const CAUTIOUS_ENVELOPE: usize = 153_600;
/// Above so many waiting events no more output is asked for.
const WAITING_EVENTS: usize = 256;

impl ClientSession {
    /// The next request to POST, as long as there is one: its envelope. Ask again after every answer and every call that
    /// gives the session something to do.
    pub fn poll_request(&mut self) -> Option<(RequestId, Vec<u8>)> {
        if self.phase == Phase::Ended {
            return None;
        }
        let again = self.again.iter().position(|o| self.may_send(o.kind)).and_then(|index| self.again.remove(index));
        let mut outstanding = match again {
            Some(again) => again,
            None => Outstanding {
                kind: self.next_kind()?,
                message_id: format!("uuid:{}", (self.ids)().to_string().to_uppercase()),
                attempts: 0,
                connection: 0,
                parked: false,
                envelope: None,
            },
        };
        // What the server keeps for its id is the answer that it got then.
        outstanding.parked |= outstanding.connection != self.connection;
        outstanding.connection = self.connection;
        let envelope = match &outstanding.envelope {
            Some(envelope) => envelope.clone(),
            None => self.build(outstanding.kind, &outstanding.message_id)?.into_bytes(),
        };
        if !matches!(outstanding.kind, Kind::PoolReceive | Kind::Receive(_)) {
            outstanding.envelope = Some(envelope.clone());
        }
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.outstanding.insert(id, outstanding);
        Some((id, envelope))
    }

    /// What waits for its repetition while the shell is disconnected goes out after the reconnect.
    fn may_send(&self, kind: Kind) -> bool {
        match self.phase {
            Phase::New | Phase::Creating | Phase::Created | Phase::Open => true,
            Phase::Disconnecting => matches!(kind, Kind::Disconnect | Kind::Delete),
            Phase::Reconnecting => matches!(kind, Kind::Reconnect | Kind::Delete),
            Phase::Disconnected => kind == Kind::Delete,
            Phase::Redirected | Phase::Ended => false,
        }
    }

    fn next_kind(&mut self) -> Option<Kind> {
        match self.phase {
            Phase::New => {
                self.phase = Phase::Creating;
                return Some(if self.attaches { Kind::Connect } else { Kind::Create });
            }
            Phase::Creating | Phase::Redirected | Phase::Ended => return None,
            _ => {}
        }
        if self.closing {
            return first(&mut self.delete_sent).then_some(Kind::Delete);
        }
        match self.phase {
            Phase::Disconnecting => return first(&mut self.disconnect_sent).then_some(Kind::Disconnect),
            Phase::Reconnecting => return (!self.is_outstanding(Kind::Reconnect)).then_some(Kind::Reconnect),
            Phase::Disconnected => return None,
            _ => {}
        }
        if self.pool.has_output(Channel::Pool) && !self.is_outstanding(Kind::PoolSend) {
            return Some(Kind::PoolSend);
        }
        if !self.is_outstanding(Kind::PoolReceive) {
            return Some(Kind::PoolReceive);
        }
        if !self.pool_prompts.is_empty() && !self.is_outstanding(Kind::Prompt(None)) {
            return Some(Kind::Prompt(None));
        }
        if self.phase != Phase::Open {
            return None;
        }
        if std::mem::take(&mut self.asks_commands) {
            return Some(Kind::Commands);
        }
        let may_receive = self.events.len() < WAITING_EVENTS;
        let found = self.pipelines.values().find_map(|(id, pipeline)| self.next_of(*id, pipeline, may_receive));
        if let Some(kind) = found
            && let Some(pipeline) = kind.pipeline().and_then(|id| self.pipeline(id))
        {
            match kind {
                Kind::Command(_) | Kind::ConnectCommand(_) => pipeline.sent = true,
                Kind::Stop(_) => pipeline.stop_sent = true,
                Kind::Terminate(_) => pipeline.terminate_sent = true,
                _ => {}
            }
        }
        found
    }

    fn next_of(&self, id: Uuid, pipeline: &Pipeline, may_receive: bool) -> Option<Kind> {
        if !pipeline.sent {
            return Some(if pipeline.adopted { Kind::ConnectCommand(id) } else { Kind::Command(id) });
        }
        if pipeline.ended {
            return (pipeline.started && !pipeline.terminate_sent).then_some(Kind::Terminate(id));
        }
        if !pipeline.started {
            return None;
        }
        if pipeline.stop && !pipeline.stop_sent {
            return Some(Kind::Stop(id));
        }
        if !pipeline.prompts.is_empty() && !self.is_outstanding(Kind::Prompt(Some(id))) {
            return Some(Kind::Prompt(Some(id)));
        }
        if self.pool.has_output(Channel::Pipeline(id)) && !self.is_outstanding(Kind::Send(id)) {
            return Some(Kind::Send(id));
        }
        (may_receive && !pipeline.paused && !self.is_outstanding(Kind::Receive(id))).then_some(Kind::Receive(id))
    }

    fn build(&mut self, kind: Kind, message_id: &str) -> Option<String> {
        let header = Header {
            to: &self.config.url,
            resource_uri: if kind == Kind::Commands { uri::SHELL_COMMAND } else { &self.resource_uri },
            message_id,
            max_envelope_size: self.config.max_envelope,
            operation_timeout: self.config.operation_timeout,
            session_id: &format!("uuid:{}", self.config.session_id.to_string().to_uppercase()),
            shell_id: (!matches!(kind, Kind::Create | Kind::Commands)).then_some(self.shell_id.as_str()),
            locale: &self.config.locale,
        };
        let takes_large = self.pool.peer().is_some_and(Capability::takes_large_envelopes);
        let envelope = if takes_large { self.config.max_envelope } else { self.config.max_envelope.min(CAUTIOUS_ENVELOPE) };
        let whole = request::payload_capacity(&header, envelope);
        let compressed = self.compressed;
        let capacity = if compressed { xpress::capacity(whole) } else { whole };
        let command_text = |id: Uuid| id.to_string().to_uppercase();
        let send = |name: &str, id: Option<Uuid>, data: Vec<u8>| {
            let data = if compressed { xpress::compress(&data) } else { data };
            request::send(&header, &StreamData { name: name.to_owned(), command_id: id.map(command_text), data })
        };
        Some(match kind {
            Kind::Create | Kind::Connect if self.opening.is_empty() => {
                self.opening = self.pool.take(Channel::Pool, capacity);
                return self.build(kind, message_id);
            }
            Kind::Create => {
                let shell = NewShell {
                    shell_id: &self.shell_id,
                    protocol_version: PROTOCOL_VERSION,
                    idle_timeout: self.config.idle_timeout,
                    compressed: self.config.compression,
                };
                request::create(&header, &shell, &self.opening)
            }
            Kind::Connect => request::connect(&header, &self.opening),
            Kind::Commands => match &self.listed.context {
                Some(context) => request::pull(&header, context),
                None => request::enumerate(&header, Some(&self.shell_id)),
            },
            Kind::ConnectCommand(id) => request::connect_command(&header, &command_text(id)),
            Kind::Disconnect => request::disconnect(&header, self.disconnect_idle),
            Kind::Reconnect => request::reconnect(&header),
            Kind::PoolReceive => request::receive(&header, None),
            Kind::Receive(id) => request::receive(&header, Some(&command_text(id))),
            Kind::PoolSend => send("stdin", None, self.pool.take(Channel::Pool, capacity)),
            Kind::Send(id) => send("stdin", Some(id), self.pool.take(Channel::Pipeline(id), capacity)),
            Kind::Prompt(None) => send("pr", None, self.pool_prompts.pop_front()?),
            Kind::Prompt(Some(id)) => {
                let data = self.order.get(&id).and_then(|o| self.pipelines.get_mut(o)).and_then(|(_, p)| p.prompts.pop_front())?;
                send("pr", Some(id), data)
            }
            Kind::Command(id) => {
                let argument = self.pool.take_first(id, capacity);
                request::command(&header, &command_text(id), &argument)
            }
            Kind::Stop(id) => request::signal(&header, &command_text(id), uri::SIGNAL_STOP),
            Kind::Terminate(id) => request::signal(&header, &command_text(id), uri::SIGNAL_TERMINATE),
            Kind::Delete => request::delete(&header),
        })
    }
}

/// `true` the first time.
fn first(done: &mut bool) -> bool {
    !std::mem::replace(done, true)
}
