//! The server half.
//!
//! What a driver does with a POST (its body within the limits, the caller authenticated):
//! ```text
//! parse_request → Err: fault_answer(&error.fault, error.message_id, …)
//! target(&request)
//!   Identify       → identify_answer
//!   Create         → ServerSession::open; keep the session under its shell_id
//!   Shell(id)      → look the session up (it belongs to the caller, or it does not exist: fault unknown_shell);
//!                    session.handle → Answer, or Held: keep the connection until poll_answer gives its ticket
//!   Refused(fault) → fault_answer
//! ```
//! After every call that can change something: drain `next_event` and `poll_answer`, re-arm the timer from
//! `poll_timeout`. Once `Closed` came and `poll_answer` is empty, forget the session.

mod check;
mod event;
mod output;
mod receive;
mod resume;
mod route;

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use exops_psrp::{Channel, Priority, ServerPool, ServerPoolConfig, ServerPoolEvent, first_pipeline_id};
use exops_wsman::answer::{self, ShellDescription};
use exops_wsman::{Action, BufferMode, Fault, Request, RequestBody, StreamData, uri, xpress};
use uuid::Uuid;

use check::{SMALLEST_ENVELOPE, check_common, check_create, parse_command_id, protocol_fault, wants_xpress};
use receive::{DEFAULT_ENVELOPE, Held, LastAnswer};

pub use event::SessionEvent;
pub use exops_psrp::{Output, PipelineEnd};
pub use route::{Target, commands_answer, fault_answer, identify_answer, shells_answer, target};

use crate::{CONTENT_TYPE, MAX_RESTORED};

/// Answers to requests other than Receive that are kept for a repeated request.
const KEPT_ANSWERS: usize = 64;

/// What the endpoint offers.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Names of session configurations that may be opened, compared without case.
    pub configurations: Vec<String>,
    /// Idle time-out in milliseconds of a client that does not ask for one. A shell without any request for so long
    /// is closed.
    pub idle_timeout: u64,
    /// Longest idle time-out in milliseconds that a client can ask for.
    pub max_idle_timeout: u64,
    /// How long a Receive is held, in milliseconds, when the client does not say.
    pub operation_timeout: u64,
    /// Longest time in milliseconds that a Receive is held, whatever the client says.
    pub max_operation_timeout: u64,
    /// A client without a request for so long, in milliseconds, has left its shell behind: another one may connect to it.
    pub lost_after: u64,
    /// The same after the connection of its last Receive broke.
    pub broken_after: u64,
    /// Bytes of output that a pipeline keeps while nobody is connected, where the oldest may be lost.
    pub disconnected_output: usize,
    /// Largest answer in bytes, whatever the client takes.
    pub max_envelope: usize,
    /// `ProductVendor` for Identify.
    pub vendor: String,
    /// `ProductVersion` for Identify.
    pub product_version: String,
    /// Limits and version of the runspace pool.
    pub pool: ServerPoolConfig,
}

impl Default for ServerConfig {
    /// Exchange's values.
    fn default() -> Self {
        Self {
            configurations: vec!["Microsoft.Exchange".to_owned()],
            idle_timeout: 900_000,
            max_idle_timeout: 43_200_000,
            operation_timeout: 60_000,
            max_operation_timeout: 300_000,
            // Windows' client tries for four minutes to come back.
            lost_after: 240_000,
            broken_after: 10_000,
            disconnected_output: 4 << 20,
            max_envelope: 512_000,
            vendor: "ExOPS".to_owned(),
            product_version: "OS: 0.0.0 SP: 0.0 Stack: 3.0".to_owned(),
            pool: ServerPoolConfig::default(),
        }
    }
}

/// Who opens a shell, for its description.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Account name.
    pub owner: &'a str,
    /// Address.
    pub client_ip: &'a str,
}

/// An HTTP answer. It must be sent with Content-Length: a chunked one kills PowerShell's client on Unix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// HTTP status: 200, or 500 for a fault.
    pub status: u16,
    /// Media type.
    pub content_type: &'static str,
    /// The envelope.
    pub body: Bytes,
}

impl HttpAnswer {
    fn ok(envelope: String) -> Self {
        Self { status: 200, content_type: CONTENT_TYPE, body: envelope.into() }
    }
}

/// A Receive that is not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handled {
    /// Send this.
    Answer(HttpAnswer),
    /// Keep the connection; [`ServerSession::poll_answer`] will give the answer under this ticket.
    Held(Ticket),
}

fn fault_with(fault: &Fault, relates_to: Option<&str>, message_id: &str) -> HttpAnswer {
    HttpAnswer { status: 500, content_type: CONTENT_TYPE, body: fault.envelope(relates_to, message_id).into() }
}

fn message_text(id: Uuid) -> String {
    format!("uuid:{}", id.to_string().to_uppercase())
}

/// One open shell.
pub struct ServerSession {
    shell_id: String,
    resource_uri: String,
    address: String,
    owner: String,
    client_ip: String,
    idle_timeout: u64,
    max_idle_timeout: u64,
    operation_timeout: u64,
    max_operation_timeout: u64,
    max_envelope: usize,
    /// Streams are compressed, in both directions.
    compressed: bool,
    /// What becomes of output above [`ServerConfig::disconnected_output`] while nobody is connected.
    buffer_mode: BufferMode,
    disconnected_output: usize,
    /// The client disconnected.
    disconnected: bool,
    lost_after: u64,
    broken_after: u64,
    /// The connection of the last held Receive broke, and nothing came since.
    broken: bool,
    /// `p:SessionId`s of clients whose shell another one took over.
    ousted: VecDeque<String>,
    /// The client's `p:SessionId`, where it sends one.
    client: Option<String>,
    opened: u64,
    pool: ServerPool,
    message_seed: Uuid,
    messages: u32,
    tickets: u64,
    held: Vec<Held>,
    /// Decided answers of held requests.
    ready: VecDeque<(Ticket, HttpAnswer)>,
    /// The last Receive answer with data of each channel: a client whose answer got lost repeats the request.
    last: HashMap<Channel, LastAnswer>,
    /// Message ids of the Receives of each channel, the newest last.
    receives: HashMap<Channel, VecDeque<String>>,
    /// The last answers to other requests, for the same reason.
    recent: VecDeque<(String, HttpAnswer)>,
    last_activity: u64,
    closed: bool,
    closed_told: bool,
}

impl ServerSession {
    /// Serves Create.
    ///
    /// # Errors
    /// The fault to send when the shell cannot be opened.
    pub fn open(
        request: &Request,
        config: &ServerConfig,
        peer: Peer<'_>,
        ids: &mut dyn FnMut() -> Uuid,
        now_ms: u64,
    ) -> Result<(Self, HttpAnswer), HttpAnswer> {
        let refuse = |fault: &Fault, id: Uuid| fault_answer(fault, Some(&request.message_id), id);
        let shell = check_create(request, config).map_err(|fault| refuse(&fault, ids()))?;
        let shell_id = shell.shell_id.clone().unwrap_or_else(|| ids().to_string()).to_uppercase();
        let mut session = Self {
            shell_id,
            resource_uri: request.resource_uri.clone(),
            address: request.to.clone(),
            owner: peer.owner.to_owned(),
            client_ip: peer.client_ip.to_owned(),
            idle_timeout: shell.idle_timeout.filter(|t| *t > 0).unwrap_or(config.idle_timeout).min(config.max_idle_timeout),
            max_idle_timeout: config.max_idle_timeout,
            operation_timeout: config.operation_timeout,
            max_operation_timeout: config.max_operation_timeout,
            max_envelope: config.max_envelope.max(SMALLEST_ENVELOPE),
            compressed: wants_xpress(request),
            buffer_mode: BufferMode::Block,
            disconnected_output: config.disconnected_output,
            disconnected: false,
            lost_after: config.lost_after,
            broken_after: config.broken_after,
            broken: false,
            ousted: VecDeque::new(),
            client: request.session_id.clone(),
            opened: now_ms,
            pool: ServerPool::new(config.pool.clone()),
            message_seed: ids(),
            messages: 0,
            tickets: 0,
            held: Vec::new(),
            ready: VecDeque::new(),
            last: HashMap::new(),
            receives: HashMap::new(),
            recent: VecDeque::new(),
            last_activity: now_ms,
            closed: false,
            closed_told: false,
        };
        session.pool.receive(Channel::Pool, Priority::Default, &shell.creation).map_err(|e| refuse(&protocol_fault(&e), ids()))?;
        let message_id = session.next_message_id();
        let envelope = answer::create(&session.description(now_ms), &request.message_id, &message_id);
        let limit = request.max_envelope_size.unwrap_or(DEFAULT_ENVELOPE);
        if envelope.len() > limit {
            // It repeats the address that the client used.
            let text = format!("the answer has {} bytes, more than the {limit} of MaxEnvelopeSize", envelope.len());
            return Err(refuse(&Fault::new(Fault::ENVELOPE_TOO_LARGE, text), ids()));
        }
        let answer = HttpAnswer::ok(envelope);
        session.keep(&request.message_id, &answer);
        Ok((session, answer))
    }

    fn description(&self, now_ms: u64) -> ShellDescription<'_> {
        ShellDescription {
            buffer_mode: self.buffer_mode,
            connected: !self.disconnected && !self.is_lost(now_ms),
            age: now_ms.saturating_sub(self.opened),
            inactivity: now_ms.saturating_sub(self.last_activity),
            compressed: self.compressed,
            shell_id: &self.shell_id,
            resource_uri: &self.resource_uri,
            address: &self.address,
            owner: &self.owner,
            client_ip: &self.client_ip,
            idle_timeout: self.idle_timeout,
            max_idle_timeout: self.max_idle_timeout,
        }
    }

    /// The shell's id in capitals.
    #[must_use]
    pub fn shell_id(&self) -> &str {
        &self.shell_id
    }

    /// Messages of the client that were dropped because nobody here knows or expects them.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.pool.ignored()
    }

    /// Serves a request that belongs to this shell.
    pub fn handle(&mut self, request: &Request, now_ms: u64) -> Handled {
        if self.closed {
            return self.refuse(&Fault::unknown_shell(&self.shell_id), request);
        }
        if let Err(fault) = check_common(request).and_then(|()| self.check_resource(request)).and_then(|()| self.check_connected(request)) {
            return self.refuse(&fault, request);
        }
        // A question about the shell, or an attempt to take it over, is no sign of life of its client.
        if !matches!(request.action, Action::Get | Action::Connect) {
            (self.last_activity, self.broken) = (now_ms, false);
        }
        if let RequestBody::Receive { command_id } = &request.body {
            return self.receive(request, command_id.as_deref(), now_ms);
        }
        if let Some((_, answer)) = self.recent.iter().find(|(id, _)| *id == request.message_id) {
            return Handled::Answer(answer.clone());
        }
        match self.perform(request, now_ms) {
            Ok(envelope) => {
                let answer = HttpAnswer::ok(envelope);
                self.keep(&request.message_id, &answer);
                Handled::Answer(answer)
            }
            Err(fault) => self.refuse(&fault, request),
        }
    }

    fn refuse(&mut self, fault: &Fault, request: &Request) -> Handled {
        let id = self.next_message_id();
        Handled::Answer(fault_with(fault, Some(&request.message_id), &id))
    }

    fn keep(&mut self, message_id: &str, answer: &HttpAnswer) {
        if self.recent.len() == KEPT_ANSWERS {
            self.recent.pop_front();
        }
        self.recent.push_back((message_id.to_owned(), answer.clone()));
    }

    fn check_resource(&self, request: &Request) -> Result<(), Fault> {
        // Get asks about the shell under the shell's own resource.
        if request.action == Action::Get || request.resource_uri.eq_ignore_ascii_case(&self.resource_uri) {
            return Ok(());
        }
        Err(Fault::unknown_resource(&request.resource_uri))
    }

    fn perform(&mut self, request: &Request, now_ms: u64) -> Result<String, Fault> {
        let relates_to = &request.message_id;
        match (&request.action, &request.body) {
            (_, RequestBody::Command { command_id, arguments }) => {
                let id = self.command(command_id.as_deref(), arguments)?;
                Ok(answer::command(&id, relates_to, &self.next_message_id()))
            }
            (_, RequestBody::Send(streams)) => {
                self.send(streams)?;
                Ok(answer::send(relates_to, &self.next_message_id()))
            }
            (_, RequestBody::Signal { command_id, code }) => {
                self.signal(command_id.as_deref(), code)?;
                Ok(answer::signal(relates_to, &self.next_message_id()))
            }
            (Action::Delete, _) => {
                self.end(None);
                Ok(answer::delete(relates_to, &self.next_message_id()))
            }
            (Action::Get, _) => {
                let id = self.next_message_id();
                Ok(answer::get(&self.description(now_ms), relates_to, &id))
            }
            (_, RequestBody::Disconnect { idle_timeout, buffer_mode }) => {
                self.disconnect(*idle_timeout, *buffer_mode);
                Ok(answer::disconnect(relates_to, &self.next_message_id()))
            }
            (_, RequestBody::Reconnect { command_id }) => {
                self.reconnect(request, command_id.as_deref())?;
                Ok(answer::reconnect(relates_to, &self.next_message_id()))
            }
            (_, RequestBody::Connect { command_id, connect }) => {
                let data = self.connect(request, command_id.as_deref(), connect, now_ms)?;
                Ok(answer::connect(&data, relates_to, &self.next_message_id()))
            }
            (action, _) => Err(Fault::action_not_supported(&action.uri())),
        }
    }

    fn command(&mut self, command_id: Option<&str>, arguments: &[Vec<u8>]) -> Result<String, Fault> {
        let [argument] = arguments else {
            return Err(Fault::new(
                Fault::PLUGIN_BAD_ARGUMENTS,
                format!("Command has {} Arguments elements; exactly one is needed", arguments.len()),
            ));
        };
        let id = match command_id {
            Some(text) => parse_command_id(text)?,
            None => first_pipeline_id(argument).ok_or_else(|| Fault::new(Fault::PLUGIN_BAD_ARGUMENTS, "Command names no command id"))?,
        };
        self.pool.begin_pipeline(id).map_err(|e| protocol_fault(&e))?;
        if let Err(error) = self.pool.receive(Channel::Pipeline(id), Priority::Default, argument) {
            let _ = self.pool.terminate(id);
            return Err(protocol_fault(&error));
        }
        Ok(command_id.map_or_else(|| id.to_string().to_uppercase(), str::to_owned))
    }

    fn send(&mut self, streams: &[StreamData]) -> Result<(), Fault> {
        let mut checked = Vec::with_capacity(streams.len());
        for stream in streams {
            let priority = match stream.name.as_str() {
                "stdin" => Priority::Default,
                "pr" => Priority::PromptResponse,
                other => {
                    return Err(Fault::new(
                        Fault::PLUGIN_BAD_ARGUMENTS,
                        format!("the shell has no input stream {other:?}; it has stdin and pr"),
                    ));
                }
            };
            let data = if self.compressed {
                let restored = xpress::decompress(&stream.data, MAX_RESTORED);
                Cow::Owned(restored.map_err(|e| Fault::new(Fault::PLUGIN_BAD_ARGUMENTS, e.to_string()))?)
            } else {
                Cow::Borrowed(&*stream.data)
            };
            checked.push((self.channel(stream.command_id.as_deref())?, priority, data));
        }
        if checked.is_empty() {
            return Err(Fault::new(Fault::SCHEMA, "Send holds no Stream"));
        }
        for (channel, priority, data) in checked {
            self.pool.receive(channel, priority, &data).map_err(|e| protocol_fault(&e))?;
        }
        Ok(())
    }

    fn signal(&mut self, command_id: Option<&str>, code: &str) -> Result<(), Fault> {
        let Channel::Pipeline(id) = self.channel(command_id)? else {
            return Err(Fault::new(Fault::SCHEMA, "Signal names no command"));
        };
        let means = |signal: &str| code.eq_ignore_ascii_case(signal);
        if uri::SIGNALS_STOP.into_iter().any(means) {
            return self.pool.stop(id).map_err(|e| protocol_fault(&e));
        }
        if !means(uri::SIGNAL_TERMINATE) {
            return Err(Fault::new(Fault::PLUGIN_BAD_ARGUMENTS, format!("signal {code:?} is not known here")));
        }
        self.pool.terminate(id).map_err(|e| protocol_fault(&e))?;
        self.last.remove(&Channel::Pipeline(id));
        self.receives.remove(&Channel::Pipeline(id));
        self.end_held(|held| held.channel == Channel::Pipeline(id), &Fault::unknown_command());
        Ok(())
    }

    /// The channel of a command id as a client wrote it.
    fn channel(&self, command_id: Option<&str>) -> Result<Channel, Fault> {
        let Some(text) = command_id else { return Ok(Channel::Pool) };
        let id = parse_command_id(text)?;
        if self.pool.has_pipeline(id) { Ok(Channel::Pipeline(id)) } else { Err(Fault::unknown_command()) }
    }

    /// Answers of one session differ in the last group of their id.
    fn next_message_id(&mut self) -> String {
        self.messages = self.messages.wrapping_add(1);
        message_text(Uuid::from_u128(self.message_seed.as_u128() ^ u128::from(self.messages)))
    }

    /// The next thing to do.
    pub fn next_event(&mut self) -> Option<SessionEvent> {
        let Some(event) = self.pool.next_event() else {
            let tell = self.closed && !self.closed_told;
            self.closed_told |= tell;
            return tell.then_some(SessionEvent::Closed);
        };
        Some(match event {
            ServerPoolEvent::Opened => SessionEvent::Opened,
            ServerPoolEvent::PublicKey { key } => SessionEvent::PublicKey { key },
            ServerPoolEvent::Pipeline { id, request } => SessionEvent::CreatePipeline { id, request },
            ServerPoolEvent::Metadata { id, request } => SessionEvent::CommandMetadata { id, request },
            ServerPoolEvent::Input { id, value } => SessionEvent::Input { id, value },
            ServerPoolEvent::EndOfInput { id } => SessionEvent::EndOfInput { id },
            ServerPoolEvent::HostResponse { id, response } => SessionEvent::HostResponse { id, response },
            ServerPoolEvent::PoolHostResponse { response } => SessionEvent::PoolHostResponse { response },
            ServerPoolEvent::Stop { id } => SessionEvent::Stop { id },
            ServerPoolEvent::Terminated { id } => SessionEvent::Terminated { id },
        })
    }

    /// Ends the shell from this side: the client learns it from its open Receive.
    pub fn close(&mut self, now_ms: u64) {
        if !self.closed {
            self.end(Some(now_ms));
        }
    }

    /// `tell` is the time when the end is this side's wish: the client's open Receive then learns it as a state.
    fn end(&mut self, tell: Option<u64>) {
        self.pool.close();
        if let Some(now_ms) = tell
            && let Some(index) = self.held.iter().position(|h| h.channel == Channel::Pool)
        {
            let held = self.held.swap_remove(index);
            if let Some(answer) = self.produce(&held, now_ms) {
                self.give(&held, &answer);
            }
        }
        self.closed = true;
        self.end_held(|_| true, &Fault::unknown_shell(&self.shell_id.clone()));
        self.last.clear();
        self.receives.clear();
    }
}
