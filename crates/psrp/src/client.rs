mod pool;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use exops_psobject::clixml::Decoder;
use exops_psobject::{ErrorCategory, ErrorRecord, InformationRecord, Limits, ProgressRecord, Value};
use uuid::Uuid;

use self::pool::RunspaceCalls;
pub use self::pool::{RunspaceAnswer, RunspaceRequest};
use crate::message::{TO_CLIENT, TO_SERVER};
use crate::notes::{Reader, enumeration, exception, object};
use crate::outbox::decode_all;
use crate::record::{information_from_value, informational_text, progress_from_value};
use crate::{
    Capability, Channel, Defragmenter, FragmentLimits, HostCall, HostInfo, HostResponse, Message, MessageType, MetadataRequest, Outbox,
    PipelineEnd, PipelineRequest, PoolState, ProtocolError, UserEvent,
};

/// What a client pool says when it opens and how much it takes.
#[derive(Debug, Clone)]
pub struct ClientPoolConfig {
    /// The pool's id.
    pub pool_id: Uuid,
    /// The client's host.
    pub host: HostInfo,
    /// Fewest and most runspaces to ask for, at least one.
    pub runspaces: (i32, i32),
    /// Bounds of each incoming stream.
    pub fragments: FragmentLimits,
    /// Bounds of each message's content.
    pub values: Limits,
}

impl ClientPoolConfig {
    /// A pool of one runspace without a host and with default limits.
    #[must_use]
    pub fn new(pool_id: Uuid) -> Self {
        // What a server sends is not skipped for a reference of an object to itself, which PowerShell writes.
        let (fragments, values) = (FragmentLimits::default(), Limits { own_members: true, ..Limits::default() });
        Self { pool_id, host: HostInfo::NONE, runspaces: (1, 1), fragments, values }
    }
}

/// What a server said. `pipeline` is `None` for the pool itself.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientPoolEvent {
    /// The pool is open.
    Opened,
    /// The pool ended; broken with the server's reason, or closed.
    Ended(Option<Box<ErrorRecord>>),
    /// An output object.
    Output(Uuid, Value),
    /// A non-terminating error.
    Error(Uuid, Box<ErrorRecord>),
    /// A warning; some servers send one for the pool.
    Warning(Option<Uuid>, Arc<str>),
    /// Verbose text.
    Verbose(Uuid, Arc<str>),
    /// Debug text.
    Debug(Uuid, Arc<str>),
    /// An information record.
    Information(Uuid, Box<InformationRecord>),
    /// Progress.
    Progress(Uuid, Box<ProgressRecord>),
    /// A call of the host.
    HostCall(Option<Uuid>, HostCall),
    /// A pipeline ended.
    PipelineEnded(Uuid, PipelineEnd),
    /// The server wants the client's public key: see [`ClientPool::send_key`].
    KeyRequested,
    /// The session's key under the client's, as base64.
    Key(String),
    /// The answer to [`ClientPool::ask_runspaces`], by the id that it gave.
    Runspaces(i64, RunspaceAnswer),
    /// Something happened that somebody subscribed to in the far runspace.
    UserEvent(Box<UserEvent>),
}

#[derive(Default)]
struct Pipeline {
    outbox: Outbox,
    input: Defragmenter,
    ended: bool,
}

/// The client half of a runspace pool and its pipelines.
pub struct ClientPool {
    config: ClientPoolConfig,
    outbox: Outbox,
    input: Defragmenter,
    /// One for all messages: thousands of objects have the same names.
    decoder: Decoder,
    pipelines: HashMap<Uuid, Pipeline>,
    events: VecDeque<ClientPoolEvent>,
    peer: Option<Capability>,
    private_data: Value,
    opened: bool,
    next_object: u64,
    next_call: i64,
    runspace_calls: RunspaceCalls,
    ignored: u64,
}

impl ClientPool {
    /// A pool whose opening messages wait on [`Channel::Pool`].
    #[must_use]
    pub fn new(config: ClientPoolConfig) -> Self {
        let mut pool = Self::unopened(config);
        let (min, max) = pool.config.runspaces;
        let init = object([
            ("MinRunspaces", min.into()),
            ("MaxRunspaces", max.into()),
            ("PSThreadOptions", enumeration("System.Management.Automation.Runspaces.PSThreadOptions", "Default", 0)),
            ("ApartmentState", enumeration("System.Threading.ApartmentState", "Unknown", 2)),
            ("HostInfo", HostInfo { use_runspace_host: false, ..pool.config.host }.to_value()),
            ("ApplicationArguments", Value::Null),
        ]);
        pool.push(None, MessageType::InitRunspacePool, &init);
        pool
    }

    /// A pool that exists at the server, opened by somebody else. The messages that connect to it wait on
    /// [`Channel::Pool`]; the answer goes to [`connected`](Self::connected).
    #[must_use]
    pub fn attach(config: ClientPoolConfig) -> Self {
        let mut pool = Self::unopened(config);
        // No wish about runspaces.
        pool.push(None, MessageType::ConnectRunspacePool, &Value::from(""));
        pool
    }

    fn unopened(config: ClientPoolConfig) -> Self {
        let mut pool = Self {
            outbox: Outbox::default(),
            input: Defragmenter::new(config.fragments),
            decoder: Decoder::new(config.values),
            config,
            pipelines: HashMap::new(),
            events: VecDeque::new(),
            peer: None,
            private_data: Value::Null,
            opened: false,
            next_object: 1,
            next_call: 1,
            runspace_calls: RunspaceCalls::new(),
            ignored: 0,
        };
        pool.push(None, MessageType::SessionCapability, &Capability::own().to_value());
        pool
    }

    /// Takes what the server answered to the messages of [`attach`](Self::attach). State and private data follow.
    ///
    /// # Errors
    /// When it is not what a server answers, or the server speaks another version.
    pub fn connected(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        self.receive(Channel::Pool, bytes)?;
        let missing = ProtocolError::Unexpected { kind: MessageType::RunspacePoolInitData, when: "without SESSION_CAPABILITY" };
        if self.peer.is_some() { Ok(()) } else { Err(missing) }
    }

    /// Takes a pipeline over that exists at the server.
    pub fn adopt(&mut self, id: Uuid) {
        self.pipelines.insert(id, Pipeline { input: Defragmenter::new(self.config.fragments), ..Pipeline::default() });
    }

    /// Queues the client's public key, as base64 of the blob that MS-PSRP 2.2.5.1 describes. The server takes one from each
    /// client and answers with [`ClientPoolEvent::Key`].
    pub fn send_key(&mut self, public_key: &str) {
        self.push(None, MessageType::PublicKey, &object([("PublicKey", public_key.into())]));
    }

    /// What the server said about itself, once it did.
    #[must_use]
    pub fn peer(&self) -> Option<&Capability> {
        self.peer.as_ref()
    }

    /// ApplicationPrivateData of the server, null until it came.
    #[must_use]
    pub fn private_data(&self) -> &Value {
        &self.private_data
    }

    /// Messages that were dropped because nobody here knows or expects them.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// The next thing that the server said.
    pub fn next_event(&mut self) -> Option<ClientPoolEvent> {
        self.events.pop_front()
    }

    /// Number of events that wait.
    #[must_use]
    pub fn waiting_events(&self) -> usize {
        self.events.len()
    }

    /// Makes a pipeline; its request waits on its channel.
    pub fn invoke(&mut self, id: Uuid, request: &PipelineRequest) {
        self.adopt(id);
        self.push(Some(id), MessageType::CreatePipeline, &request.to_value());
    }

    /// Asks which commands there are, as a pipeline of its own: its output is what [`read_commands`](crate::read_commands)
    /// reads.
    pub fn get_commands(&mut self, id: Uuid, request: &MetadataRequest) {
        self.adopt(id);
        self.push(Some(id), MessageType::GetCommandMetadata, &request.to_value());
    }

    /// Queues an object for a pipeline's input.
    pub fn input(&mut self, id: Uuid, value: &Value) {
        self.push(Some(id), MessageType::PipelineInput, value);
    }

    /// Queues the end of a pipeline's input.
    pub fn end_input(&mut self, id: Uuid) {
        self.push(Some(id), MessageType::EndOfPipelineInput, &Value::Null);
    }

    /// The bytes of an answer to a host call, to be sent on the prompt-response stream.
    pub fn respond(&mut self, pipeline: Option<Uuid>, response: &HostResponse) -> Vec<u8> {
        let kind = if pipeline.is_some() { MessageType::PipelineHostResponse } else { MessageType::RunspacePoolHostResponse };
        let mut outbox = Outbox::default();
        outbox.push(self.next_object, TO_SERVER, kind, self.config.pool_id, pipeline.unwrap_or_default(), &response.to_value());
        self.next_object += 1;
        let mut out = Vec::new();
        outbox.take(usize::MAX, &mut out);
        out
    }

    /// Forgets a pipeline.
    pub fn forget(&mut self, id: Uuid) {
        self.pipelines.remove(&id);
    }

    /// `true` while the pipeline is known and has not ended.
    #[must_use]
    pub fn is_running(&self, id: Uuid) -> bool {
        self.pipelines.get(&id).is_some_and(|p| !p.ended)
    }

    /// `true` when something waits to be sent on a channel.
    #[must_use]
    pub fn has_output(&self, channel: Channel) -> bool {
        match channel {
            Channel::Pool => !self.outbox.is_empty(),
            Channel::Pipeline(id) => self.pipelines.get(&id).is_some_and(|p| !p.outbox.is_empty()),
        }
    }

    /// Whole fragments that wait on a channel, at most `capacity` bytes of them.
    pub fn take(&mut self, channel: Channel, capacity: usize) -> Vec<u8> {
        let outbox = match channel {
            Channel::Pool => Some(&mut self.outbox),
            Channel::Pipeline(id) => self.pipelines.get_mut(&id).map(|p| &mut p.outbox),
        };
        let mut out = Vec::new();
        if let Some(outbox) = outbox {
            outbox.take(capacity, &mut out);
        }
        out
    }

    /// The first fragment of a pipeline's request: what starts its command, alone.
    pub fn take_first(&mut self, id: Uuid, capacity: usize) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(pipeline) = self.pipelines.get_mut(&id) {
            pipeline.outbox.take_fragments(1, capacity, &mut out);
        }
        out
    }

    fn push(&mut self, pipeline: Option<Uuid>, kind: MessageType, value: &Value) {
        let outbox = match pipeline {
            None => &mut self.outbox,
            Some(id) => match self.pipelines.get_mut(&id) {
                Some(pipeline) => &mut pipeline.outbox,
                None => return,
            },
        };
        outbox.push(self.next_object, TO_SERVER, kind, self.config.pool_id, pipeline.unwrap_or_default(), value);
        self.next_object += 1;
    }

    /// Takes bytes that came on a channel. An object whose content cannot be read becomes an error record of its
    /// pipeline; the rest goes on.
    ///
    /// # Errors
    /// When the stream itself cannot go on: the pool is broken then.
    pub fn receive(&mut self, channel: Channel, bytes: &[u8]) -> Result<(), ProtocolError> {
        let mut objects = Vec::new();
        let result = match channel {
            Channel::Pool => self.input.push(bytes, &mut objects),
            Channel::Pipeline(id) => match self.pipelines.get_mut(&id) {
                Some(pipeline) => pipeline.input.push(bytes, &mut objects),
                // Late bytes of a pipeline that was given up.
                None => return Ok(()),
            },
        };
        for message in decode_all(objects) {
            let message = message?;
            if message.destination != TO_CLIENT {
                return Err(ProtocolError::Unexpected { kind: message.kind, when: "from a server" });
            }
            if !message.pool_id.is_nil() && message.pool_id != self.config.pool_id {
                return Err(ProtocolError::WrongTarget { kind: message.kind, found: message.pool_id, expected: self.config.pool_id });
            }
            match channel {
                Channel::Pool => self.pool_message(&message)?,
                Channel::Pipeline(id) => self.pipeline_message(id, &message)?,
            }
        }
        result.map_err(ProtocolError::from)
    }

    fn value(&mut self, message: &Message) -> Result<Value, ProtocolError> {
        self.decoder.read(message.content()).map_err(|error| ProtocolError::Clixml { kind: message.kind, error })
    }

    fn pool_message(&mut self, message: &Message) -> Result<(), ProtocolError> {
        match message.kind {
            MessageType::SessionCapability => {
                let peer = Capability::from_value(&self.value(message)?)?;
                peer.check()?;
                self.peer = Some(peer);
            }
            MessageType::ApplicationPrivateData => {
                let content = self.value(message)?;
                self.private_data = Reader::new(message.kind, &content)?.get("ApplicationPrivateData").cloned().unwrap_or_default();
            }
            MessageType::RunspacePoolState => {
                let content = self.value(message)?;
                let state = Reader::new(message.kind, &content)?.number("RunspaceState")?;
                match PoolState::from_number(state) {
                    Some(PoolState::Opened) if self.peer.is_none() => {
                        return Err(ProtocolError::Unexpected { kind: message.kind, when: "before SESSION_CAPABILITY" });
                    }
                    Some(PoolState::Opened) if !self.opened => {
                        self.opened = true;
                        self.events.push_back(ClientPoolEvent::Opened);
                    }
                    Some(PoolState::Closed) => self.events.push_back(ClientPoolEvent::Ended(None)),
                    Some(PoolState::Broken) => {
                        let record = exception(&content).unwrap_or_else(|| unreadable("the server broke the session without a reason"));
                        self.events.push_back(ClientPoolEvent::Ended(Some(Box::new(record))));
                    }
                    _ => {}
                }
            }
            MessageType::WarningRecord => {
                let text = informational_text(&self.value(message)?);
                self.events.push_back(ClientPoolEvent::Warning(None, text));
            }
            MessageType::RunspacePoolHostCall => {
                let call = HostCall::from_value(message.kind, &self.value(message)?)?;
                self.events.push_back(ClientPoolEvent::HostCall(None, call));
            }
            MessageType::PublicKeyRequest => self.events.push_back(ClientPoolEvent::KeyRequested),
            MessageType::EncryptedSessionKey => {
                let content = self.value(message)?;
                let key = Reader::new(message.kind, &content)?.text("EncryptedSessionKey")?.to_owned();
                self.events.push_back(ClientPoolEvent::Key(key));
            }
            MessageType::RunspaceAvailability => self.availability(message)?,
            MessageType::UserEvent => self.user_event(message)?,
            MessageType::CreatePipeline | MessageType::InitRunspacePool | MessageType::GetCommandMetadata => {
                return Err(ProtocolError::Unexpected { kind: message.kind, when: "from a server" });
            }
            _ => self.ignored += 1,
        }
        Ok(())
    }

    fn pipeline_message(&mut self, id: Uuid, message: &Message) -> Result<(), ProtocolError> {
        if message.pipeline_id != id {
            return Err(ProtocolError::WrongTarget { kind: message.kind, found: message.pipeline_id, expected: id });
        }
        if !self.is_running(id) {
            self.ignored += 1;
            return Ok(());
        }
        let content = match self.value(message) {
            Ok(content) => content,
            Err(error) if message.kind == MessageType::PipelineState => return Err(error),
            Err(error) => {
                self.events.push_back(ClientPoolEvent::Error(id, Box::new(unreadable(&error.to_string()))));
                return Ok(());
            }
        };
        let event = match message.kind {
            MessageType::PipelineOutput => ClientPoolEvent::Output(id, content),
            MessageType::ErrorRecord => ClientPoolEvent::Error(id, Box::new(crate::error_from_value(&content))),
            MessageType::WarningRecord => ClientPoolEvent::Warning(Some(id), informational_text(&content)),
            MessageType::VerboseRecord => ClientPoolEvent::Verbose(id, informational_text(&content)),
            MessageType::DebugRecord => ClientPoolEvent::Debug(id, informational_text(&content)),
            MessageType::InformationRecord => ClientPoolEvent::Information(id, Box::new(information_from_value(&content))),
            MessageType::ProgressRecord => ClientPoolEvent::Progress(id, Box::new(progress_from_value(&content))),
            MessageType::PipelineHostCall => ClientPoolEvent::HostCall(Some(id), HostCall::from_value(message.kind, &content)?),
            MessageType::PipelineState => {
                let state = Reader::new(message.kind, &content)?.number("PipelineState")?;
                let Some(end) = PipelineEnd::from_value(state, &content) else { return Ok(()) };
                if let Some(pipeline) = self.pipelines.get_mut(&id) {
                    pipeline.ended = true;
                }
                ClientPoolEvent::PipelineEnded(id, end)
            }
            _ => {
                self.ignored += 1;
                return Ok(());
            }
        };
        self.events.push_back(event);
        Ok(())
    }
}

fn unreadable(message: &str) -> ErrorRecord {
    ErrorRecord::new(
        "System.Management.Automation.Remoting.PSRemotingDataStructureException",
        message,
        ErrorCategory::ProtocolError,
        "PSRemotingDataUnreadable",
    )
}
