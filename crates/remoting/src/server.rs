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
mod resume;

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use exops_psobject::Value;
use exops_psrp::{
    Channel, HostMethod, Priority, ServerPool, ServerPoolConfig, ServerPoolEvent, choice_call, first_pipeline_id, read_line_call,
};
use exops_wsman::answer::{self, ShellDescription};
use exops_wsman::{Action, BufferMode, CommandState, Fault, Request, RequestBody, StreamData, uri, xpress};
use uuid::Uuid;

use check::{SMALLEST_ENVELOPE, check_common, check_create, parse_command_id, protocol_fault, wants_xpress};

pub use event::SessionEvent;
pub use exops_psrp::{Output, PipelineEnd};

use crate::{CONTENT_TYPE, MAX_RESTORED};

/// What a client gets that does not say how much it takes: the limit of version 2 servers.
const DEFAULT_ENVELOPE: usize = 153_600;
/// Answers to requests other than Receive that are kept for a repeated request.
const KEPT_ANSWERS: usize = 64;
/// Connections on which one held Receive may wait.
const COPIES: usize = 4;
/// Message ids of Receives that are remembered for each channel: a request that was late on its way is known by them.
const KNOWN_RECEIVES: usize = 32;

/// How long the last answer of a channel is kept for a client that does not come back, in milliseconds. One that comes
/// back with its next Receive has got it, so an idle session holds none.
const KEPT_TIME: u64 = 600_000;

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

/// Where a request belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Answer with [`identify_answer`]; needs no authentication.
    Identify,
    /// Opens a shell. The id is the client's choice in capitals, when it made one: an id that is in use must be refused.
    Create(Option<String>),
    /// Belongs to this shell, its id in capitals.
    Shell(String),
    /// Answer with [`shells_answer`].
    Shells,
    /// Answer with [`commands_answer`]: the commands of this shell, its id in capitals.
    Commands(String),
    /// Not served.
    Refused(Fault),
}

/// Tells where a parsed request belongs.
#[must_use]
pub fn target(request: &Request) -> Target {
    match (&request.action, &request.body, &request.shell_id) {
        (Action::Identify, _, _) => Target::Identify,
        (Action::Create, RequestBody::Create(shell), _) => Target::Create(shell.shell_id.as_ref().map(|id| id.to_uppercase())),
        (Action::Enumerate, RequestBody::Enumerate { shell_id }, _) => enumerated(request, shell_id.as_deref()),
        (Action::Create | Action::Enumerate | Action::Pull | Action::Other(_), _, _) => {
            Target::Refused(Fault::action_not_supported(&request.action.uri()))
        }
        (_, _, Some(id)) => Target::Shell(id.to_uppercase()),
        (Action::Get, _, None) => Target::Refused(Fault::action_not_supported(&request.action.uri())),
        (_, _, None) => Target::Refused(Fault::new(Fault::UNEXPECTED_SELECTORS, "the request names no shell: selector ShellId is missing")),
    }
}

fn enumerated(request: &Request, shell_id: Option<&str>) -> Target {
    match (request.resource_uri.as_str(), shell_id) {
        (uri::SHELL, None) => Target::Shells,
        (uri::SHELL_COMMAND, Some(id)) => Target::Commands(id.to_uppercase()),
        (uri::SHELL_COMMAND, None) => {
            Target::Refused(Fault::new(Fault::UNEXPECTED_SELECTORS, "the filter names no shell: selector ShellId is missing"))
        }
        (other, _) => Target::Refused(Fault::unknown_resource(other)),
    }
}

/// The HTTP answer to Enumerate of shells. It names what is given; whose they are is the driver's business.
#[must_use]
pub fn shells_answer<'a>(
    request: &Request,
    sessions: impl IntoIterator<Item = &'a ServerSession>,
    message_id: Uuid,
    now_ms: u64,
) -> HttpAnswer {
    let shells: Vec<_> = sessions.into_iter().map(|s| s.description(now_ms)).collect();
    HttpAnswer::ok(answer::enumerate_shells(&shells, &request.message_id, &message_text(message_id)))
}

/// The HTTP answer to Enumerate of a shell's commands.
#[must_use]
pub fn commands_answer(request: &Request, session: &ServerSession, message_id: Uuid) -> HttpAnswer {
    HttpAnswer::ok(answer::enumerate_commands(&session.commands(), &request.message_id, &message_text(message_id)))
}

/// The HTTP answer for a fault.
#[must_use]
pub fn fault_answer(fault: &Fault, relates_to: Option<&str>, message_id: Uuid) -> HttpAnswer {
    fault_with(fault, relates_to, &message_text(message_id))
}

fn fault_with(fault: &Fault, relates_to: Option<&str>, message_id: &str) -> HttpAnswer {
    HttpAnswer { status: 500, content_type: CONTENT_TYPE, body: fault.envelope(relates_to, message_id).into() }
}

/// The HTTP answer to Identify.
#[must_use]
pub fn identify_answer(request: &Request, config: &ServerConfig, message_id: Uuid) -> HttpAnswer {
    let relates_to = Some(request.message_id.as_str()).filter(|id| !id.is_empty());
    HttpAnswer::ok(answer::identify(&config.vendor, &config.product_version, relates_to, &message_text(message_id)))
}

fn message_text(id: Uuid) -> String {
    format!("uuid:{}", id.to_string().to_uppercase())
}

struct Held {
    ticket: Ticket,
    /// The same request, repeated: whichever connection is alive gets the answer.
    copies: Vec<Ticket>,
    channel: Channel,
    /// The command id as the client wrote it.
    command_id: Option<String>,
    message_id: String,
    max_envelope: usize,
    deadline: u64,
}

struct LastAnswer {
    message_id: String,
    /// `None` when it was given and is no longer kept.
    answer: Option<HttpAnswer>,
    /// Then nobody asks for it any more.
    expires: u64,
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
    /// Nobody is connected.
    disconnected: bool,
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
        let answer = HttpAnswer::ok(answer::create(&session.description(now_ms), &request.message_id, &message_id));
        session.keep(&request.message_id, &answer);
        Ok((session, answer))
    }

    fn description(&self, now_ms: u64) -> ShellDescription<'_> {
        ShellDescription {
            buffer_mode: self.buffer_mode,
            connected: !self.disconnected,
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
        self.last_activity = now_ms;
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
                let data = self.connect(request, command_id.as_deref(), connect)?;
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
        if code == uri::SIGNAL_STOP || code == uri::SIGNAL_STOP_PYPSRP {
            return self.pool.stop(id).map_err(|e| protocol_fault(&e));
        }
        if code != uri::SIGNAL_TERMINATE {
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

    fn receive(&mut self, request: &Request, command_id: Option<&str>, now_ms: u64) -> Handled {
        let channel = match self.channel(command_id) {
            Ok(channel) => channel,
            Err(fault) => return self.refuse(&fault, request),
        };
        if let Some(last) = self.last.get_mut(&channel).filter(|last| last.message_id == request.message_id) {
            if let Some(answer) = &last.answer {
                last.expires = now_ms.saturating_add(KEPT_TIME);
                return Handled::Answer(answer.clone());
            }
            let text = "the answer to this Receive was given and is no longer kept; what it held is lost";
            return self.refuse(&Fault::new(Fault::PLUGIN_EXCEPTION, text), request);
        }
        if self.is_late(channel, &request.message_id) {
            return self.refuse(&Fault::timed_out(), request);
        }
        self.last.remove(&channel);
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        if let Some(held) = self.held.iter_mut().find(|held| held.channel == channel && held.message_id == request.message_id)
            && held.copies.len() < COPIES
        {
            held.copies.push(ticket);
            return Handled::Held(ticket);
        }
        // A second Receive means that the connection of the first is dead (case X-08).
        self.end_held(|held| held.channel == channel, &Fault::timed_out());
        let timeout = request.operation_timeout.unwrap_or(self.operation_timeout).min(self.max_operation_timeout);
        let held = Held {
            ticket,
            copies: Vec::new(),
            channel,
            command_id: command_id.map(str::to_owned),
            message_id: request.message_id.clone(),
            max_envelope: request.max_envelope_size.unwrap_or(DEFAULT_ENVELOPE).min(self.max_envelope),
            deadline: now_ms.saturating_add(timeout),
        };
        match self.produce(&held, now_ms) {
            Some(answer) => Handled::Answer(answer),
            None => {
                self.held.push(held);
                Handled::Held(ticket)
            }
        }
    }

    /// Whether a Receive was overtaken by a later one of its channel. Nobody waits for its answer any more: data that it got
    /// would be lost.
    fn is_late(&mut self, channel: Channel, message_id: &str) -> bool {
        let known = self.receives.entry(channel).or_default();
        if known.iter().any(|id| id == message_id) {
            return known.back().is_some_and(|newest| newest != message_id);
        }
        if known.len() == KNOWN_RECEIVES {
            known.pop_front();
        }
        known.push_back(message_id.to_owned());
        false
    }

    /// The answer to a Receive, if there is something to answer now.
    fn produce(&mut self, held: &Held, now_ms: u64) -> Option<HttpAnswer> {
        let id = match held.channel {
            Channel::Pipeline(id) => Some(id),
            Channel::Pool => None,
        };
        let command_id = held.command_id.as_deref();
        if self.pool.has_output(held.channel) {
            // "Done" never travels with data: PowerShell's client on Unix would not see it.
            let state = id.map(|_| CommandState::Running);
            let message_id = self.next_message_id();
            let capacity = answer::receive_capacity(held.max_envelope, command_id, state, &held.message_id, &message_id);
            let data = if self.compressed {
                xpress::compress(&self.pool.take(held.channel, xpress::capacity(capacity)))
            } else {
                self.pool.take(held.channel, capacity)
            };
            let answer = HttpAnswer::ok(answer::receive(command_id, &data, state, &held.message_id, &message_id));
            let expires = now_ms.saturating_add(KEPT_TIME);
            self.last.insert(held.channel, LastAnswer { message_id: held.message_id.clone(), answer: Some(answer.clone()), expires });
            return Some(answer);
        }
        if id.is_some_and(|id| self.pool.is_drained(id)) {
            let message_id = self.next_message_id();
            return Some(HttpAnswer::ok(answer::receive(command_id, &[], Some(CommandState::Done), &held.message_id, &message_id)));
        }
        None
    }

    fn end_held(&mut self, which: impl Fn(&Held) -> bool, fault: &Fault) {
        let (ended, kept) = std::mem::take(&mut self.held).into_iter().partition(|held| which(held));
        self.held = kept;
        let ended: Vec<Held> = ended;
        for held in ended {
            let id = self.next_message_id();
            let answer = fault_with(fault, Some(&held.message_id), &id);
            // The answer of that request, should it be repeated.
            let (message_id, expires) = (held.message_id.clone(), u64::MAX);
            self.last.insert(held.channel, LastAnswer { message_id, answer: Some(answer.clone()), expires });
            self.give(&held, &answer);
        }
    }

    fn give(&mut self, held: &Held, answer: &HttpAnswer) {
        self.ready.extend(held.copies.iter().chain([&held.ticket]).map(|ticket| (*ticket, answer.clone())));
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
            ServerPoolEvent::Stop { id } => SessionEvent::Stop { id },
            ServerPoolEvent::Terminated { id } => SessionEvent::Terminated { id },
        })
    }

    /// Writes one item of a running pipeline; ignored when it does not run. Errors go into the output when the client
    /// asked for that (`2>&1`).
    pub fn write(&mut self, pipeline: Uuid, output: Output<'_>, _now_ms: u64) {
        self.pool.write(pipeline, output);
        if self.loses_output() {
            self.pool.drop_oldest(self.disconnected_output);
        }
    }

    /// Ends a pipeline; the next waiting one may begin. Only the first call counts.
    pub fn finish(&mut self, pipeline: Uuid, end: &PipelineEnd, _now_ms: u64) {
        self.pool.finish(pipeline, end);
    }

    /// Bytes of a pipeline that wait to be fetched: above a bound of its own, the driver stops pulling from the
    /// runspace until a Receive took some.
    #[must_use]
    pub fn buffered(&self, pipeline: Uuid) -> usize {
        if self.loses_output() {
            return 0;
        }
        self.pool.buffered(Channel::Pipeline(pipeline))
    }

    /// `true` when somebody on the client's side can be asked.
    #[must_use]
    pub fn has_host(&self, pipeline: Uuid) -> bool {
        self.pool.has_ui(pipeline)
    }

    /// Offers `(label, help)` choices on the client's host. The answer comes as [`SessionEvent::HostResponse`] with the id
    /// returned here and the index as its value; `None` when nobody can be asked.
    pub fn prompt_for_choice(
        &mut self,
        pipeline: Uuid,
        caption: &str,
        message: &str,
        choices: &[(&str, &str)],
        default: i32,
    ) -> Option<i64> {
        let (method, parameters) = choice_call(caption, message, choices, default);
        self.call_host(pipeline, method, parameters)
    }

    /// Reads a line on the client's host; as [`prompt_for_choice`](Self::prompt_for_choice), with the line as value.
    pub fn read_line(&mut self, pipeline: Uuid) -> Option<i64> {
        let (method, parameters) = read_line_call();
        self.call_host(pipeline, method, parameters)
    }

    /// Tells the client's host something that it gives no answer to: a line to write, the end of an interactive session.
    pub fn tell_host(&mut self, pipeline: Uuid, method: HostMethod, parameters: Vec<Value>) {
        self.pool.tell_host(pipeline, method, parameters);
    }

    /// Calls any method of the client's host that gives an answer.
    pub fn call_host(&mut self, pipeline: Uuid, method: HostMethod, parameters: Vec<Value>) -> Option<i64> {
        self.pool.call_host(pipeline, method, parameters)
    }

    /// An answer to a held request.
    pub fn poll_answer(&mut self, now_ms: u64) -> Option<(Ticket, HttpAnswer)> {
        if let Some(ready) = self.ready.pop_front() {
            return Some(ready);
        }
        for index in 0..self.held.len() {
            let held = self.held.swap_remove(index);
            if let Some(answer) = self.produce(&held, now_ms) {
                self.give(&held, &answer);
                return self.ready.pop_front();
            }
            self.held.push(held);
            let last = self.held.len() - 1;
            self.held.swap(index, last);
        }
        None
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        if self.closed {
            return None;
        }
        let idle = self.last_activity.saturating_add(self.idle_timeout);
        let next = self.held.iter().map(|h| h.deadline).min().unwrap_or(idle);
        Some(self.last.values().map(|l| l.expires).min().unwrap_or(next).min(next))
    }

    /// Ends Receives that were held for their time, and the shell when no request came for its idle time-out.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        if self.closed {
            return;
        }
        for last in self.last.values_mut().filter(|last| last.expires <= now_ms) {
            (last.answer, last.expires) = (None, u64::MAX);
        }
        if self.held.iter().any(|h| h.deadline <= now_ms) {
            self.last_activity = now_ms;
            self.end_held(|held| held.deadline <= now_ms, &Fault::timed_out());
        } else if self.held.is_empty() && self.last_activity.saturating_add(self.idle_timeout) <= now_ms {
            self.end(Some(now_ms));
        }
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
