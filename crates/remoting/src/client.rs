//! The client half.
//!
//! A driver POSTs what [`ClientSession::poll_request`] gives, several at once (one Receive for the session and one for each
//! running pipeline stay open at the server), and hands every answer to [`ClientSession::handle_answer`] or, when none
//! came, [`ClientSession::handle_lost`]. After that: drain [`ClientSession::next_event`], then ask for requests again.
//! While many events wait, no further output is asked for: a slow consumer stops the producer.

mod error;
mod event;

use std::collections::{BTreeMap, HashMap, VecDeque};

use exops_psobject::{ErrorCategory, ErrorRecord, Value};
use exops_psrp::{
    Channel, ClientPool, ClientPoolConfig, ClientPoolEvent, HostCall, HostInfo, HostMethod, HostResponse, PROTOCOL_VERSION, PipelineEnd,
    PipelineRequest,
};
use exops_wsman::request::{self, Header, NewShell};
use exops_wsman::{CommandState, Fault, Limits, Response, ResponseBody, StreamData, parse_response, uri, xpress};
use uuid::Uuid;

use crate::MAX_RESTORED;

pub use error::{ClientError, Operation};
pub use event::ClientEvent;

/// Envelopes of this size every server takes; larger ones only from protocol 2.2 on.
const CAUTIOUS_ENVELOPE: usize = 153_600;
/// Above so many waiting events no more output is asked for.
const WAITING_EVENTS: usize = 256;
/// How often a request is sent whose answer gets lost.
const ATTEMPTS: u32 = 5;
/// Longest part of a body that is not SOAP which goes into an error.
const EXCERPT: usize = 200;

/// How a session is opened.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// URL of the endpoint with its query, as it stands in `a:To`.
    pub url: String,
    /// Name of the session configuration.
    pub configuration: String,
    /// Id of the runspace pool and of the shell.
    pub pool_id: Uuid,
    /// Id of the client's session.
    pub session_id: Uuid,
    /// How long the server may hold a Receive, in milliseconds; HTTP time-outs must be longer.
    pub operation_timeout: u64,
    /// Idle time-out to ask for, in milliseconds.
    pub idle_timeout: Option<u64>,
    /// Language of texts.
    pub locale: String,
    /// Largest answer that is accepted, in bytes; also the largest request to servers that take it.
    pub max_envelope: usize,
    /// Asks for compressed streams (XPRESS); a server may go on without.
    pub compression: bool,
    /// Whether somebody can be asked.
    pub host: HostInfo,
}

impl ClientConfig {
    /// Exchange's configuration, three minutes, 512,000 bytes, no host.
    #[must_use]
    pub fn new(url: impl Into<String>, pool_id: Uuid, session_id: Uuid) -> Self {
        Self {
            url: url.into(),
            configuration: "Microsoft.Exchange".to_owned(),
            pool_id,
            session_id,
            operation_timeout: 180_000,
            idle_timeout: None,
            locale: "en-US".to_owned(),
            max_envelope: 512_000,
            compression: false,
            host: HostInfo::NONE,
        }
    }
}

/// Names a request until its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Creating,
    /// The shell exists.
    Created,
    /// The pool is open.
    Open,
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Create,
    PoolReceive,
    PoolSend,
    Command(Uuid),
    Receive(Uuid),
    Send(Uuid),
    Prompt(Option<Uuid>),
    Stop(Uuid),
    Terminate(Uuid),
    Delete,
}

impl Kind {
    fn operation(self) -> Operation {
        match self {
            Self::Create => Operation::Open,
            Self::PoolReceive => Operation::ReceiveSession,
            Self::PoolSend | Self::Prompt(None) => Operation::SendSession,
            Self::Command(_) => Operation::StartPipeline,
            Self::Receive(_) => Operation::ReceivePipeline,
            Self::Send(_) | Self::Prompt(Some(_)) => Operation::SendPipeline,
            Self::Stop(_) | Self::Terminate(_) => Operation::StopPipeline,
            Self::Delete => Operation::Close,
        }
    }

    fn pipeline(self) -> Option<Uuid> {
        match self {
            Self::Command(id) | Self::Receive(id) | Self::Send(id) | Self::Stop(id) | Self::Terminate(id) => Some(id),
            Self::Prompt(id) => id,
            Self::Create | Self::PoolReceive | Self::PoolSend | Self::Delete => None,
        }
    }
}

struct Outstanding {
    kind: Kind,
    message_id: String,
    attempts: u32,
    /// What was sent; not kept of a Receive, which can be written again.
    envelope: Option<Vec<u8>>,
}

impl Outstanding {
    /// A command that was sent more than once may run although its last copy was refused.
    fn may_have_begun(&self) -> bool {
        self.attempts > 0 && matches!(self.kind, Kind::Command(_))
    }

    /// What failed, when it fails. A command that may have begun counts as one whose records are lost.
    fn operation(&self) -> Operation {
        if self.may_have_begun() { Operation::ReceivePipeline } else { self.kind.operation() }
    }
}

#[derive(Default)]
struct Pipeline {
    /// The Command went out.
    sent: bool,
    /// The server confirmed it.
    started: bool,
    /// The end was told.
    ended: bool,
    stop: bool,
    stop_sent: bool,
    terminate_sent: bool,
    prompts: VecDeque<Vec<u8>>,
}

/// One remote session.
pub struct ClientSession {
    config: ClientConfig,
    resource_uri: String,
    ids: Box<dyn FnMut() -> Uuid + Send>,
    phase: Phase,
    pool: ClientPool,
    /// The server agreed to compressed streams.
    compressed: bool,
    shell_id: String,
    pipelines: BTreeMap<u64, (Uuid, Pipeline)>,
    order: HashMap<Uuid, u64>,
    next_order: u64,
    pool_prompts: VecDeque<Vec<u8>>,
    outstanding: BTreeMap<RequestId, Outstanding>,
    /// Requests to be sent again under their own id.
    again: VecDeque<Outstanding>,
    next_request: u64,
    events: VecDeque<ClientEvent>,
    closing: bool,
    delete_sent: bool,
}

impl ClientSession {
    /// A session whose first request opens it. `ids` gives random ids, for messages and pipelines.
    #[must_use]
    pub fn new(config: ClientConfig, ids: Box<dyn FnMut() -> Uuid + Send>) -> Self {
        let pool = ClientPool::new(ClientPoolConfig { host: config.host, ..ClientPoolConfig::new(config.pool_id) });
        Self {
            resource_uri: format!("{}{}", uri::CONFIGURATION_PREFIX, config.configuration),
            shell_id: config.pool_id.to_string().to_uppercase(),
            config,
            compressed: false,
            ids,
            phase: Phase::New,
            pool,
            pipelines: BTreeMap::new(),
            order: HashMap::new(),
            next_order: 0,
            pool_prompts: VecDeque::new(),
            outstanding: BTreeMap::new(),
            again: VecDeque::new(),
            next_request: 0,
            events: VecDeque::new(),
            closing: false,
            delete_sent: false,
        }
    }

    /// `true` once nothing follows: closed or broken.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// ApplicationPrivateData of the server (PSVersionTable …), null until it came.
    #[must_use]
    pub fn private_data(&self) -> &Value {
        self.pool.private_data()
    }

    /// Starts a pipeline as soon as the session is open; its records and its end come as events.
    pub fn invoke(&mut self, request: &PipelineRequest) -> Uuid {
        let id = (self.ids)();
        self.pool.invoke(id, request);
        self.order.insert(id, self.next_order);
        self.pipelines.insert(self.next_order, (id, Pipeline::default()));
        self.next_order += 1;
        if self.phase == Phase::Ended || self.closing {
            self.lose(id, ClientError::Closed);
        }
        id
    }

    /// Pipes an object in; the request must say that there is input.
    pub fn input(&mut self, pipeline: Uuid, value: &Value) {
        self.pool.input(pipeline, value);
    }

    /// No more input follows.
    pub fn end_input(&mut self, pipeline: Uuid) {
        self.pool.end_input(pipeline);
    }

    /// Asks the server to stop a pipeline; its end still comes.
    pub fn stop(&mut self, pipeline: Uuid) {
        let Some(state) = self.pipeline(pipeline) else { return };
        if !state.sent {
            state.ended = true;
            self.events.push_back(ClientEvent::PipelineEnded { pipeline, end: PipelineEnd::Stopped });
            self.remove(pipeline);
        } else {
            state.stop = true;
        }
    }

    /// Answers a host call.
    pub fn respond(&mut self, pipeline: Option<Uuid>, response: &HostResponse) {
        let bytes = self.pool.respond(pipeline, response);
        match pipeline {
            None => self.pool_prompts.push_back(bytes),
            Some(id) => {
                if let Some(state) = self.pipeline(id) {
                    state.prompts.push_back(bytes);
                }
            }
        }
    }

    /// Closes the session; pipelines that have not ended are lost.
    pub fn close(&mut self) {
        if self.closing || self.phase == Phase::Ended {
            return;
        }
        self.closing = true;
        self.lose_all(&ClientError::Closed);
        if self.phase == Phase::New {
            self.phase = Phase::Ended;
            self.events.push_back(ClientEvent::Closed);
        }
    }

    /// The next thing that became known.
    pub fn next_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    fn pipeline(&mut self, id: Uuid) -> Option<&mut Pipeline> {
        let order = self.order.get(&id)?;
        self.pipelines.get_mut(order).map(|(_, p)| p)
    }

    fn remove(&mut self, id: Uuid) {
        if let Some(order) = self.order.remove(&id) {
            self.pipelines.remove(&order);
        }
        self.pool.forget(id);
    }

    fn is_outstanding(&self, kind: Kind) -> bool {
        self.outstanding.values().chain(&self.again).any(|o| o.kind == kind)
    }

    /// The next request to POST, as long as there is one: its envelope. Ask again after every answer and every call that
    /// gives the session something to do.
    pub fn poll_request(&mut self) -> Option<(RequestId, Vec<u8>)> {
        if self.phase == Phase::Ended {
            return None;
        }
        let mut outstanding = match self.again.pop_front() {
            Some(again) => again,
            None => Outstanding {
                kind: self.next_kind()?,
                message_id: format!("uuid:{}", (self.ids)().to_string().to_uppercase()),
                attempts: 0,
                envelope: None,
            },
        };
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

    fn next_kind(&mut self) -> Option<Kind> {
        match self.phase {
            Phase::New => {
                self.phase = Phase::Creating;
                return Some(Kind::Create);
            }
            Phase::Creating | Phase::Ended => return None,
            Phase::Created | Phase::Open => {}
        }
        if self.closing {
            let first = !self.delete_sent;
            self.delete_sent = true;
            return first.then_some(Kind::Delete);
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
        let may_receive = self.events.len() < WAITING_EVENTS;
        let found = self.pipelines.values().find_map(|(id, pipeline)| self.next_of(*id, pipeline, may_receive));
        if let Some(kind) = found
            && let Some(pipeline) = kind.pipeline().and_then(|id| self.pipeline(id))
        {
            match kind {
                Kind::Command(_) => pipeline.sent = true,
                Kind::Stop(_) => pipeline.stop_sent = true,
                Kind::Terminate(_) => pipeline.terminate_sent = true,
                _ => {}
            }
        }
        found
    }

    fn next_of(&self, id: Uuid, pipeline: &Pipeline, may_receive: bool) -> Option<Kind> {
        if !pipeline.sent {
            return Some(Kind::Command(id));
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
        (may_receive && !self.is_outstanding(Kind::Receive(id))).then_some(Kind::Receive(id))
    }

    fn build(&mut self, kind: Kind, message_id: &str) -> Option<String> {
        let header = Header {
            to: &self.config.url,
            resource_uri: &self.resource_uri,
            message_id,
            max_envelope_size: self.config.max_envelope,
            operation_timeout: self.config.operation_timeout,
            session_id: &format!("uuid:{}", self.config.session_id.to_string().to_uppercase()),
            shell_id: (kind != Kind::Create).then_some(self.shell_id.as_str()),
            locale: &self.config.locale,
        };
        let takes_large = self.pool.peer().is_some_and(exops_psrp::Capability::takes_large_envelopes);
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
            Kind::Create => {
                let creation = self.pool.take(Channel::Pool, capacity);
                let shell = NewShell {
                    shell_id: &self.shell_id,
                    protocol_version: PROTOCOL_VERSION,
                    idle_timeout: self.config.idle_timeout,
                    compressed: self.config.compression,
                };
                request::create(&header, &shell, &creation)
            }
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

    /// Takes the answer to a request.
    pub fn handle_answer(&mut self, id: RequestId, status: u16, body: &[u8]) {
        let Some(outstanding) = self.outstanding.remove(&id) else { return };
        if self.phase == Phase::Ended {
            return;
        }
        let kind = outstanding.kind;
        match self.read(&outstanding, status, body) {
            // The first copy may have been served: what became of the pipeline is asked by a Receive.
            Ok(ResponseBody::Fault(_)) if outstanding.may_have_begun() => self.started(kind),
            Err(_) if outstanding.may_have_begun() => self.fail(kind, ClientError::Lost { operation: outstanding.operation() }),
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
            _ => Err(ClientError::Http {
                operation,
                status,
                excerpt: String::from_utf8_lossy(body.get(..body.len().min(EXCERPT)).unwrap_or_default()).into_owned(),
            }),
        }
    }

    /// Takes note that no answer to a request will come, and that trying again is of no use.
    pub fn give_up(&mut self, id: RequestId) {
        let Some(outstanding) = self.outstanding.remove(&id) else { return };
        if self.phase != Phase::Ended {
            self.fail(outstanding.kind, ClientError::Lost { operation: outstanding.operation() });
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
                self.phase = Phase::Created;
            }
            (Kind::PoolReceive | Kind::Receive(_), ResponseBody::Receive { streams, state }) => self.received(kind, &streams, state),
            (Kind::Command(_), ResponseBody::Command { .. }) => self.started(kind),
            (Kind::Terminate(id), _) => self.remove(id),
            (Kind::Delete, _) => self.closed(),
            (Kind::PoolSend | Kind::Send(_) | Kind::Prompt(_) | Kind::Stop(_), _) => {}
            (Kind::Create | Kind::PoolReceive | Kind::Receive(_) | Kind::Command(_), _) => {
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

    fn pool_events(&mut self) {
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
                ClientPoolEvent::Information(pipeline, record) => ClientEvent::Information { pipeline, record },
                ClientPoolEvent::Progress(pipeline, record) => ClientEvent::Progress { pipeline, record },
                ClientPoolEvent::HostCall(pipeline, call) => match self.host_call(pipeline, call) {
                    Some(event) => event,
                    None => continue,
                },
                ClientPoolEvent::PipelineEnded(pipeline, end) => {
                    if let Some(state) = self.pipeline(pipeline) {
                        state.ended = true;
                    }
                    ClientEvent::PipelineEnded { pipeline, end }
                }
            };
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
        let repeats_a_record =
            [HostMethod::WriteWarningLine, HostMethod::WriteVerboseLine, HostMethod::WriteDebugLine, HostMethod::WriteProgress]
                .contains(&call.method);
        (!repeats_a_record).then_some(ClientEvent::HostCall { pipeline, call })
    }

    fn fault(&mut self, kind: Kind, fault: Fault) {
        match kind {
            // Nothing happened in time: ask again.
            Kind::PoolReceive | Kind::Receive(_) if fault.code == Fault::TIMED_OUT => {}
            _ => self.fail(kind, ClientError::Fault { operation: kind.operation(), fault }),
        }
    }

    /// A request failed for good: the session or the pipeline that depends on it is lost.
    fn fail(&mut self, kind: Kind, error: ClientError) {
        match kind {
            // The outcome of closing is the same.
            Kind::Delete => self.closed(),
            _ if self.closing && kind != Kind::Create => {}
            Kind::Create if self.closing => self.closed(),
            Kind::Create | Kind::PoolReceive | Kind::PoolSend | Kind::Prompt(None) => self.broken(error),
            Kind::Terminate(id) => self.remove(id),
            // The pipeline may have ended just before.
            Kind::Stop(_) => {}
            Kind::Command(id) if matches!(error, ClientError::Lost { .. }) => {
                // The server may have it: it shall not occupy the runspace.
                self.started(kind);
                self.lose(id, error);
            }
            Kind::Command(id) | Kind::Receive(id) | Kind::Send(id) | Kind::Prompt(Some(id)) => self.lose(id, error),
        }
    }

    fn lose(&mut self, id: Uuid, error: ClientError) {
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

    fn lose_all(&mut self, error: &ClientError) {
        let ids: Vec<Uuid> = self.pipelines.values().map(|(id, _)| *id).collect();
        for id in ids {
            self.lose(id, error.clone());
        }
    }

    fn broken(&mut self, error: ClientError) {
        self.phase = Phase::Ended;
        self.lose_all(&error);
        self.events.push_back(ClientEvent::Broken(error));
    }

    fn closed(&mut self) {
        self.phase = Phase::Ended;
        self.events.push_back(ClientEvent::Closed);
    }
}
