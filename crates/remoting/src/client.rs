//! The client half.
//!
//! A driver POSTs what [`ClientSession::poll_request`] gives, several at once (one Receive for the session and one for each
//! running pipeline stay open at the server), and hands every answer to [`ClientSession::handle_answer`] or, when none
//! came, [`ClientSession::handle_lost`]. After that: drain [`ClientSession::next_event`], then ask for requests again.
//! While many events wait, no further output is asked for: a slow consumer stops the producer.

mod answer;
mod error;
mod event;
mod list;
mod request;
mod resume;

use std::collections::{BTreeMap, HashMap, VecDeque};

use exops_psobject::Value;
use exops_psrp::{ClientPool, ClientPoolConfig, HostInfo, HostResponse, MetadataRequest, PipelineEnd, PipelineRequest, RunspaceRequest};
use exops_wsman::uri;
use uuid::Uuid;

pub use error::{ClientError, Operation};
pub use event::ClientEvent;
use list::Parts;
pub use list::ShellList;

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
    /// Asks for compressed streams (XPRESS); a server may go on without. Of a session that somebody else opened: whether
    /// its streams are.
    pub compression: bool,
    /// Fewest and most runspaces to ask for, at least one.
    pub runspaces: (i32, i32),
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
            runspaces: (1, 1),
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
    /// The service moved: somebody has to say whether it is followed.
    Redirected,
    /// The shell exists.
    Created,
    /// The pool is open.
    Open,
    Disconnecting,
    /// The shell goes on without this client.
    Disconnected,
    Reconnecting,
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Create,
    Connect,
    Commands,
    ConnectCommand(Uuid),
    Disconnect,
    Reconnect,
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
            Self::Connect | Self::Commands => Operation::Connect,
            Self::ConnectCommand(_) => Operation::ReceivePipeline,
            Self::Disconnect => Operation::Disconnect,
            Self::Reconnect => Operation::Reconnect,
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
            Self::Command(id) | Self::ConnectCommand(id) | Self::Receive(id) | Self::Send(id) | Self::Stop(id) | Self::Terminate(id) => {
                Some(id)
            }
            Self::Prompt(id) => id,
            Self::Create
            | Self::Connect
            | Self::Commands
            | Self::Disconnect
            | Self::Reconnect
            | Self::PoolReceive
            | Self::PoolSend
            | Self::Delete => None,
        }
    }
}

struct Outstanding {
    kind: Kind,
    message_id: String,
    attempts: u32,
    /// How often the session had been reconnected when it was sent.
    connection: u32,
    /// It was sent before the last reconnect, or refused because the shell was disconnected: what its id is answered may be the
    /// answer of that time.
    parked: bool,
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
    /// It existed at the server before.
    adopted: bool,
    /// The Command, or the Connect of one that existed, went out.
    sent: bool,
    /// The server confirmed it.
    started: bool,
    /// The end was told.
    ended: bool,
    stop: bool,
    stop_sent: bool,
    /// Its output is not asked for now.
    paused: bool,
    terminate_sent: bool,
    prompts: VecDeque<Vec<u8>>,
    /// The text of the information record just read, when it was written on the host: a call with the same text follows.
    shown: Option<String>,
}

/// One remote session.
pub struct ClientSession {
    config: ClientConfig,
    resource_uri: String,
    ids: Box<dyn FnMut() -> Uuid + Send>,
    phase: Phase,
    pool: ClientPool,
    /// What opens the pool or connects to it, until that is answered: a service that moved gets the same.
    opening: Vec<u8>,
    /// The session was opened by somebody else: connect to it.
    attaches: bool,
    /// Its pipelines are still to be asked for.
    asks_commands: bool,
    /// What came of the list of them so far.
    listed: Parts,
    /// How often the session was reconnected.
    connection: u32,
    disconnect_sent: bool,
    disconnect_told: bool,
    disconnect_idle: Option<u64>,
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
        Self::with_pool(config, ids, ClientPool::new)
    }

    fn with_pool(config: ClientConfig, ids: Box<dyn FnMut() -> Uuid + Send>, pool: fn(ClientPoolConfig) -> ClientPool) -> Self {
        let pool = pool(ClientPoolConfig { host: config.host, runspaces: config.runspaces, ..ClientPoolConfig::new(config.pool_id) });
        Self {
            resource_uri: format!("{}{}", uri::CONFIGURATION_PREFIX, config.configuration),
            shell_id: config.pool_id.to_string().to_uppercase(),
            config,
            compressed: false,
            ids,
            phase: Phase::New,
            pool,
            opening: Vec::new(),
            attaches: false,
            asks_commands: false,
            listed: Parts::default(),
            connection: 0,
            disconnect_sent: false,
            disconnect_told: false,
            disconnect_idle: None,
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
        self.begin(id)
    }

    /// Asks which commands there are, as a pipeline whose output [`exops_psrp::read_commands`] reads.
    pub fn get_commands(&mut self, request: &MetadataRequest) -> Uuid {
        let id = (self.ids)();
        self.pool.get_commands(id, request);
        self.begin(id)
    }

    fn begin(&mut self, id: Uuid) -> Uuid {
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

    /// Sends the client's public key, as base64 of the blob that MS-PSRP 2.2.5.1 describes: before the first SecureString
    /// goes out, and once in a session. [`ClientEvent::Key`] brings the answer.
    pub fn send_key(&mut self, public_key: &str) {
        self.pool.send_key(public_key);
    }

    /// Asks about the session's runspaces, or for more or fewer; [`ClientEvent::Runspaces`] answers with the id given here.
    pub fn ask_runspaces(&mut self, request: RunspaceRequest) -> i64 {
        self.pool.ask_runspaces(request)
    }

    /// Asks for no more output of a pipeline until it shall go on. What is under way still comes.
    pub fn pause(&mut self, pipeline: Uuid, paused: bool) {
        if let Some(state) = self.pipeline(pipeline) {
            state.paused = paused;
        }
    }

    /// Closes the session; pipelines that have not ended are lost.
    pub fn close(&mut self) {
        if self.closing || self.phase == Phase::Ended {
            return;
        }
        self.closing = true;
        self.lose_all(&ClientError::Closed);
        if matches!(self.phase, Phase::New | Phase::Redirected) {
            self.phase = Phase::Ended;
            self.events.push_back(ClientEvent::Closed);
        }
    }

    /// The next thing that became known.
    pub fn next_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front().or_else(|| self.tell_disconnected())
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
}
