//! What answers mean, and what their absence does.

use exops_psobject::{ErrorCategory, ErrorRecord, Value};
use exops_psrp::{Channel, ClientPoolEvent, HostCall, HostMethod, HostResponse};
use exops_wsman::{CommandState, Fault, Limits, Response, ResponseBody, StreamData, parse_response, xpress};
use uuid::Uuid;

use super::{ClientError, ClientEvent, ClientSession, Kind, Outstanding, Phase, RequestId};
use crate::MAX_RESTORED;

/// How often a request is sent whose answer gets lost.
const ATTEMPTS: u32 = 5;
/// Longest part of a body that is not SOAP which goes into an error.
const EXCERPT: usize = 200;

impl ClientSession {
    /// Takes the answer to a request.
    pub fn handle_answer(&mut self, id: RequestId, status: u16, body: &[u8]) {
        let Some(outstanding) = self.outstanding.remove(&id) else { return };
        if self.phase == Phase::Ended {
            return;
        }
        let kind = outstanding.kind;
        match self.read(&outstanding, status, body) {
            Ok(ResponseBody::Fault(fault)) if is_overload(&fault) => {
                self.outstanding.insert(id, outstanding);
                self.events.push_back(ClientEvent::Throttled { request: id, milliseconds: fault.not_before(), fault });
            }
            // The first copy may have been served: what became of the pipeline is asked by a Receive.
            Ok(ResponseBody::Fault(fault)) if outstanding.may_have_begun() && !is_disconnected(&fault) => self.started(kind),
            Err(_) if outstanding.may_have_begun() => self.fail(kind, ClientError::Lost { operation: outstanding.operation() }),
            Ok(ResponseBody::Fault(fault)) if is_disconnected(&fault) => self.was_disconnected(outstanding),
            Ok(ResponseBody::Fault(fault)) => self.fault(kind, fault),
            Ok(body) => self.success(kind, body),
            Err(error) => self.fail(kind, error),
        }
    }

    fn read(&self, outstanding: &Outstanding, status: u16, body: &[u8]) -> Result<ResponseBody, ClientError> {
        let operation = outstanding.kind.operation();
        let limits = Limits { bytes: self.config.max_envelope, ..Limits::default() };
        match parse_response(body, &limits) {
            Ok(Response { relates_to: Some(id), body }) if !id.eq_ignore_ascii_case(&outstanding.message_id) => {
                // A server that could not read the request cannot say which one it was.
                if matches!(body, ResponseBody::Fault(_)) {
                    Ok(body)
                } else {
                    Err(ClientError::Protocol { operation, reason: format!("it relates to {id}") })
                }
            }
            Ok(Response { body, .. }) if status == 200 || matches!(body, ResponseBody::Fault(_)) => Ok(body),
            Err(error) if status == 200 => Err(ClientError::Protocol { operation, reason: error.to_string() }),
            _ => Err(ClientError::Http { operation, status, excerpt: excerpt(body) }),
        }
    }

    /// Takes note that no answer to a request will come, and that trying again is of no use.
    pub fn give_up(&mut self, id: RequestId) {
        let Some(outstanding) = self.outstanding.remove(&id) else { return };
        if self.phase != Phase::Ended {
            self.fail(outstanding.kind, ClientError::Lost { operation: outstanding.operation() });
        }
    }

    /// Takes note that a request did not go out, nobody being there to take it. It is sent again as if for the first time;
    /// how long that may go on is the driver's affair.
    pub fn handle_unsent(&mut self, id: RequestId) {
        if let Some(outstanding) = self.outstanding.remove(&id).filter(|_| self.phase != Phase::Ended) {
            self.again.push_back(outstanding);
        }
    }

    /// As [`handle_answer`](Self::handle_answer), of an HTTP redirect with the address in its `Location`.
    pub fn handle_redirect(&mut self, id: RequestId, status: u16, location: &str) {
        let Some(outstanding) = self.outstanding.remove(&id).filter(|_| self.phase != Phase::Ended) else { return };
        let operation = outstanding.kind.operation();
        if !self.moved(outstanding.kind, location) {
            self.fail(outstanding.kind, ClientError::Http { operation, status, excerpt: String::new() });
        }
    }

    /// Takes a fault that asked for a pause as final.
    pub fn refuse(&mut self, id: RequestId, fault: Fault) {
        if let Some(outstanding) = self.outstanding.remove(&id).filter(|_| self.phase != Phase::Ended) {
            self.fail(outstanding.kind, ClientError::Fault { operation: outstanding.operation(), fault });
        }
    }

    /// Takes note that no answer to a request will come. It is sent again, a few times, under the same message id and with
    /// the same fragments: a server gives the same answer, or refuses what it has already, but nothing happens twice. A
    /// driver pauses before it tells that the same request was lost again.
    pub fn handle_lost(&mut self, id: RequestId) {
        let Some(mut outstanding) = self.outstanding.remove(&id) else { return };
        if self.phase == Phase::Ended {
            return;
        }
        outstanding.attempts += 1;
        let kind = outstanding.kind;
        if outstanding.attempts < ATTEMPTS {
            self.again.push_back(outstanding);
        } else {
            self.fail(kind, ClientError::Lost { operation: outstanding.operation() });
        }
    }

    fn success(&mut self, kind: Kind, body: ResponseBody) {
        let operation = kind.operation();
        match (kind, body) {
            (Kind::Create, ResponseBody::Created { shell_id, compressed }) => {
                self.compressed = compressed && self.config.compression;
                if let Some(id) = shell_id {
                    self.shell_id = id;
                }
                self.created();
            }
            (Kind::Connect, ResponseBody::Connected(data)) => match self.pool.connected(&data) {
                Ok(()) => self.connected(),
                Err(error) => self.fail(kind, ClientError::Protocol { operation, reason: error.to_string() }),
            },
            (Kind::Commands, ResponseBody::Enumerated { items, context }) => match self.listed.take(items, context) {
                Ok(true) => self.asks_commands = true,
                Ok(false) => self.commands(),
                Err(reason) => self.fail(kind, ClientError::Protocol { operation, reason }),
            },
            (Kind::ConnectCommand(_), ResponseBody::Connected(_)) => self.started(kind),
            (Kind::Disconnect, _) => self.disconnected(),
            (Kind::Reconnect, _) => self.reconnected(),
            (Kind::PoolReceive | Kind::Receive(_), ResponseBody::Receive { streams, state }) => self.received(kind, &streams, state),
            (Kind::Command(_), ResponseBody::Command { .. }) => self.started(kind),
            (Kind::Terminate(id), _) => self.remove(id),
            (Kind::Delete, _) => self.closed(),
            (Kind::PoolSend | Kind::Send(_) | Kind::Prompt(_) | Kind::Stop(_), _) => {}
            (
                Kind::Create
                | Kind::Connect
                | Kind::Commands
                | Kind::ConnectCommand(_)
                | Kind::PoolReceive
                | Kind::Receive(_)
                | Kind::Command(_),
                _,
            ) => {
                self.fail(kind, ClientError::Protocol { operation, reason: "it answers another operation".to_owned() });
            }
        }
    }

    fn started(&mut self, kind: Kind) {
        if let Some(pipeline) = kind.pipeline().and_then(|id| self.pipeline(id)) {
            pipeline.started = true;
        }
    }

    fn received(&mut self, kind: Kind, streams: &[StreamData], state: Option<CommandState>) {
        let channel = kind.pipeline().map_or(Channel::Pool, Channel::Pipeline);
        for stream in streams {
            let read = if self.compressed {
                let restored = xpress::decompress(&stream.data, MAX_RESTORED).map_err(|e| e.to_string());
                restored.and_then(|data| self.pool.receive(channel, &data).map_err(|e| e.to_string()))
            } else {
                self.pool.receive(channel, &stream.data).map_err(|e| e.to_string())
            };
            if let Err(reason) = read {
                self.pool_events();
                return self.fail(kind, ClientError::Protocol { operation: kind.operation(), reason });
            }
        }
        self.pool_events();
        if let (Kind::Receive(id), Some(CommandState::Done)) = (kind, state)
            && self.pool.is_running(id)
        {
            self.fail(
                kind,
                ClientError::Protocol { operation: kind.operation(), reason: "the command is done without a pipeline state".to_owned() },
            );
        }
    }

    pub(super) fn pool_events(&mut self) {
        while let Some(event) = self.pool.next_event() {
            let event = match event {
                ClientPoolEvent::Opened => {
                    if self.phase == Phase::Created {
                        self.phase = Phase::Open;
                    }
                    ClientEvent::Opened
                }
                ClientPoolEvent::Ended(record) => {
                    let reason = record.map_or_else(|| "it was closed there".to_owned(), |r| r.message.to_string());
                    return self.broken(ClientError::Ended(reason));
                }
                ClientPoolEvent::Output(pipeline, value) => ClientEvent::Output { pipeline, value },
                ClientPoolEvent::Error(pipeline, record) => ClientEvent::Error { pipeline, record },
                ClientPoolEvent::Warning(pipeline, text) => ClientEvent::Warning { pipeline, text },
                ClientPoolEvent::Verbose(pipeline, text) => ClientEvent::Verbose { pipeline, text },
                ClientPoolEvent::Debug(pipeline, text) => ClientEvent::Debug { pipeline, text },
                ClientPoolEvent::Information(pipeline, record) => {
                    if let Some(state) = self.pipeline(pipeline) {
                        state.shown = record.is_for_host().then(|| record.message.display());
                    }
                    ClientEvent::Information { pipeline, record }
                }
                ClientPoolEvent::Progress(pipeline, record) => ClientEvent::Progress { pipeline, record },
                ClientPoolEvent::HostCall(pipeline, call) => match self.host_call(pipeline, call) {
                    Some(event) => event,
                    None => continue,
                },
                ClientPoolEvent::KeyRequested => ClientEvent::KeyRequested,
                ClientPoolEvent::Key(key) => ClientEvent::Key(key),
                ClientPoolEvent::Runspaces(call, answer) => ClientEvent::Runspaces { call, answer },
                ClientPoolEvent::UserEvent(event) => ClientEvent::UserEvent(event),
                ClientPoolEvent::PipelineEnded(pipeline, end) => {
                    if let Some(state) = self.pipeline(pipeline) {
                        state.ended = true;
                    }
                    ClientEvent::PipelineEnded { pipeline, end }
                }
            };
            // Only the call that follows at once says the same.
            if !matches!(event, ClientEvent::Information { .. })
                && let Some(state) = event.pipeline().and_then(|id| self.pipeline(id))
            {
                state.shown = None;
            }
            self.events.push_back(event);
        }
    }

    fn host_call(&mut self, pipeline: Option<Uuid>, call: HostCall) -> Option<ClientEvent> {
        if call.expects_answer() && !self.config.host.has_ui() {
            // The server waits; nobody here can say anything.
            let record = ErrorRecord::new(
                "System.Management.Automation.Host.HostException",
                "The client has no host that could answer.",
                ErrorCategory::NotImplemented,
                "HostFunctionNotImplemented",
            );
            self.respond(pipeline, &HostResponse { call_id: call.call_id, method: call.method, result: Err(Box::new(record)) });
            return None;
        }
        let repeats_a_record = match call.method {
            HostMethod::WriteWarningLine | HostMethod::WriteVerboseLine | HostMethod::WriteDebugLine | HostMethod::WriteProgress => true,
            // What was written for the host comes as a record and then as this call; a line without its record is news.
            HostMethod::Write1 | HostMethod::WriteLine2 | HostMethod::Write2 | HostMethod::WriteLine3 => {
                let shown = pipeline.and_then(|id| self.pipeline(id)).and_then(|state| state.shown.take());
                // The text stands last, behind the colours.
                shown.is_some_and(|text| call.parameters.last().is_some_and(|line| line.display() == text))
            }
            _ => false,
        };
        if repeats_a_record && call.expects_answer() {
            self.respond(pipeline, &call.answer(Ok(Value::Null)));
        }
        (!repeats_a_record).then_some(ClientEvent::HostCall { pipeline, call })
    }

    fn fault(&mut self, kind: Kind, fault: Fault) {
        match kind {
            // Nothing happened in time: ask again.
            Kind::PoolReceive | Kind::Receive(_) if fault.code == Fault::TIMED_OUT => {}
            // A server that cannot list commands has none that could be found.
            Kind::Commands if fault.code == Fault::ACTION_NOT_SUPPORTED => self.commands(),
            Kind::Create | Kind::Connect if fault.location().is_some_and(|location| self.moved(kind, location)) => {}
            _ => self.fail(kind, ClientError::Fault { operation: kind.operation(), fault }),
        }
    }

    /// A request failed for good: the session or the pipeline that depends on it is lost.
    fn fail(&mut self, kind: Kind, error: ClientError) {
        match kind {
            // The outcome of closing is the same.
            Kind::Delete => self.closed(),
            _ if self.closing && !matches!(kind, Kind::Create | Kind::Connect) => {}
            Kind::Create | Kind::Connect if self.closing => self.closed(),
            Kind::Disconnect if matches!(error, ClientError::Fault { .. }) => self.stays(error),
            Kind::Create
            | Kind::Connect
            | Kind::Commands
            | Kind::Disconnect
            | Kind::Reconnect
            | Kind::PoolReceive
            | Kind::PoolSend
            | Kind::Prompt(None) => self.broken(error),
            Kind::Terminate(id) => self.remove(id),
            // The pipeline may have ended just before.
            Kind::Stop(_) => {}
            Kind::Command(id) if matches!(error, ClientError::Lost { .. }) => {
                // The server may have it: it shall not occupy the runspace.
                self.started(kind);
                self.lose(id, error);
            }
            Kind::Command(id) | Kind::ConnectCommand(id) | Kind::Receive(id) | Kind::Send(id) | Kind::Prompt(Some(id)) => {
                self.lose(id, error);
            }
        }
    }

    pub(super) fn lose(&mut self, id: Uuid, error: ClientError) {
        let Some(pipeline) = self.pipeline(id) else { return };
        if pipeline.ended {
            return;
        }
        pipeline.ended = true;
        // Where the server may still have it, it is told to forget it.
        if !pipeline.started || self.closing || self.phase == Phase::Ended {
            self.remove(id);
        }
        self.events.push_back(ClientEvent::PipelineLost { pipeline: id, error });
    }

    pub(super) fn lose_all(&mut self, error: &ClientError) {
        let ids: Vec<Uuid> = self.pipelines.values().map(|(id, _)| *id).collect();
        for id in ids {
            self.lose(id, error.clone());
        }
    }

    pub(super) fn broken(&mut self, error: ClientError) {
        self.phase = Phase::Ended;
        self.lose_all(&error);
        self.events.push_back(ClientEvent::Broken(error));
    }

    fn closed(&mut self) {
        self.phase = Phase::Ended;
        self.events.push_back(ClientEvent::Closed);
    }
}

/// Beginning of a body that is no SOAP.
pub(super) fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body.get(..body.len().min(EXCERPT)).unwrap_or_default()).into_owned()
}

/// The shell is disconnected, by this client or behind its back.
fn is_disconnected(fault: &Fault) -> bool {
    matches!(fault.code, Fault::SHELL_DISCONNECTED | Fault::STREAM_DISCONNECTED)
}

/// The request was not looked at, and may be sent again after a pause.
fn is_overload(fault: &Fault) -> bool {
    matches!(fault.code, Fault::QUOTA_USER | Fault::QUOTA_SYSTEM)
}
