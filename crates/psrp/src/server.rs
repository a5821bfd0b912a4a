mod event;
mod output;
mod pool;
mod resume;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use exops_psobject::{ErrorCategory, ErrorRecord, Limits, Value, clixml};
use uuid::Uuid;

use crate::capability::private_data;
use crate::message::TO_CLIENT;
use crate::notes::Reader;
use crate::outbox::decode_all;
use crate::{
    Capability, Channel, Defragmenter, FragmentLimits, HostCall, HostInfo, HostResponse, Message, MessageType, MetadataRequest, Outbox,
    PipelineEnd, PipelineRequest, PoolState, Priority, ProtocolError,
};

pub use event::ServerPoolEvent;

/// What a server pool offers and how much it takes.
#[derive(Debug, Clone)]
pub struct ServerPoolConfig {
    /// Announced as PSVersionTable.PSVersion. From 5.1 on clients ask for format data with their own version.
    pub ps_version: String,
    /// Pipelines that run at once; further ones wait. Exchange has one.
    pub runspaces: usize,
    /// Pipelines that exist at once: running, waiting, or finished and not yet fetched.
    pub pipelines: usize,
    /// Bytes of input that may wait for a pipeline that has not begun.
    pub waiting_input: usize,
    /// Bounds of each incoming stream.
    pub fragments: FragmentLimits,
    /// Bounds of each message's content.
    pub values: Limits,
}

impl Default for ServerPoolConfig {
    fn default() -> Self {
        Self {
            ps_version: "5.1.17763.1".to_owned(),
            runspaces: 1,
            pipelines: 64,
            waiting_input: 16 << 20,
            fragments: FragmentLimits::default(),
            values: Limits::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing came yet.
    New,
    /// Versions are agreed on.
    Negotiated,
    Open,
    Ended,
}

enum State {
    /// The request's fragments are still coming.
    Receiving,
    /// Waits for a runspace.
    Waiting(ServerPoolEvent),
    Running,
    Ended,
}

struct Pipeline {
    state: State,
    outbox: Outbox,
    input: Inputs,
    merges_errors: bool,
    has_ui: bool,
    /// The client has a raw user interface, which knows colours.
    has_colours: bool,
    nested: bool,
    /// Calls of the client's host that are not answered, with the ids of the objects that carried them.
    calls: BTreeMap<i64, (u64, HostCall)>,
    /// What came for it before it began.
    waiting: VecDeque<ServerPoolEvent>,
    waiting_bytes: usize,
}

impl Pipeline {
    fn is_drained(&self) -> bool {
        matches!(self.state, State::Ended) && self.outbox.is_empty()
    }
}

/// One defragmenter for each stream of a channel, made when it is used.
#[derive(Default)]
struct Inputs {
    default: Option<Defragmenter>,
    prompt: Option<Defragmenter>,
}

impl Inputs {
    fn push(&mut self, priority: Priority, bytes: &[u8], limits: FragmentLimits) -> (Vec<Vec<u8>>, Result<(), ProtocolError>) {
        let slot = match priority {
            Priority::Default => &mut self.default,
            Priority::PromptResponse => &mut self.prompt,
        };
        let mut objects = Vec::new();
        let defragmenter = slot.get_or_insert_with(|| Defragmenter::new(limits));
        let result = defragmenter.push(bytes, &mut objects);
        (objects, result.map_err(ProtocolError::from))
    }

    fn open_bytes(&self) -> usize {
        self.default.iter().chain(&self.prompt).map(Defragmenter::open_bytes).sum()
    }
}

/// The server half of a runspace pool and its pipelines.
pub struct ServerPool {
    config: ServerPoolConfig,
    phase: Phase,
    id: Uuid,
    host: HostInfo,
    runspaces: usize,
    /// MinRunspaces and MaxRunspaces as the client asked for them.
    asked: (i64, i64),
    /// Calls of the host of the pool's client that are not answered, with the ids of the objects that carried them.
    calls: BTreeMap<i64, (u64, HostCall)>,
    /// The client sent its public key.
    key_asked: bool,
    outbox: Outbox,
    input: Inputs,
    pipelines: HashMap<Uuid, Pipeline>,
    /// Waiting pipelines in order.
    queue: VecDeque<Uuid>,
    /// Given up by the client, not yet finished by the runspace.
    abandoned: HashSet<Uuid>,
    /// Pipelines in the order in which they ended.
    ended: VecDeque<Uuid>,
    events: VecDeque<ServerPoolEvent>,
    next_object: u64,
    next_call: i64,
    ignored: u64,
}

impl ServerPool {
    /// A pool that has not received anything.
    #[must_use]
    pub fn new(config: ServerPoolConfig) -> Self {
        Self {
            runspaces: config.runspaces.max(1),
            config,
            phase: Phase::New,
            id: Uuid::nil(),
            host: HostInfo::NONE,
            asked: (1, 1),
            calls: BTreeMap::new(),
            key_asked: false,
            outbox: Outbox::default(),
            input: Inputs::default(),
            pipelines: HashMap::new(),
            queue: VecDeque::new(),
            abandoned: HashSet::new(),
            ended: VecDeque::new(),
            events: VecDeque::new(),
            next_object: 1,
            next_call: 1,
            ignored: 0,
        }
    }

    /// The pool's id; nil until the client said it.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Messages that were dropped because nobody here knows or expects them.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// The next thing to do.
    pub fn next_event(&mut self) -> Option<ServerPoolEvent> {
        self.events.pop_front()
    }

    /// Makes a pipeline whose request will come on its channel.
    ///
    /// # Errors
    /// When the pool is not open (case C-10), the id is in use, or there are too many.
    pub fn begin_pipeline(&mut self, id: Uuid) -> Result<(), ProtocolError> {
        if self.phase != Phase::Open {
            return Err(ProtocolError::Unexpected { kind: MessageType::CreatePipeline, when: "while the pool is not open" });
        }
        self.reap();
        if self.pipelines.contains_key(&id) || self.abandoned.contains(&id) {
            return Err(ProtocolError::PipelineExists(id));
        }
        if self.pipelines.len() + self.abandoned.len() >= self.config.pipelines {
            return Err(ProtocolError::TooManyPipelines { limit: self.config.pipelines });
        }
        let pipeline = Pipeline {
            state: State::Receiving,
            outbox: Outbox::default(),
            input: Inputs::default(),
            merges_errors: false,
            has_ui: false,
            has_colours: false,
            nested: false,
            calls: BTreeMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        };
        self.pipelines.insert(id, pipeline);
        Ok(())
    }

    /// Makes room: forgets pipelines that the client has read to the end but never terminated, as pypsrp does. The others
    /// stay for a client that asks once more, or whose termination is on its way.
    fn reap(&mut self) {
        while self.pipelines.len() + self.abandoned.len() >= self.config.pipelines {
            let drained = self.ended.iter().position(|id| self.is_drained(*id));
            let Some(id) = drained.and_then(|oldest| self.ended.remove(oldest)) else { return };
            self.pipelines.remove(&id);
        }
    }

    /// Takes bytes of one stream of a channel. What was complete before an error counts; the stream starts afresh
    /// after one.
    ///
    /// # Errors
    /// When they are not what this protocol allows now.
    pub fn receive(&mut self, channel: Channel, priority: Priority, bytes: &[u8]) -> Result<(), ProtocolError> {
        let limits = self.config.fragments;
        let (objects, result) = match channel {
            Channel::Pool => self.input.push(priority, bytes, limits),
            Channel::Pipeline(id) => match self.pipelines.get_mut(&id) {
                Some(pipeline) => pipeline.input.push(priority, bytes, limits),
                None => return Err(ProtocolError::UnknownPipeline(id)),
            },
        };
        for message in decode_all(objects) {
            let message = message?;
            if message.destination == TO_CLIENT {
                return Err(ProtocolError::Unexpected { kind: message.kind, when: "from a client" });
            }
            match channel {
                Channel::Pool => self.pool_message(&message)?,
                Channel::Pipeline(id) => self.pipeline_message(id, &message)?,
            }
        }
        result
    }

    fn value(&self, message: &Message) -> Result<Value, ProtocolError> {
        clixml::read(message.content(), &self.config.values).map_err(|error| ProtocolError::Clixml { kind: message.kind, error })
    }

    fn pool_message(&mut self, message: &Message) -> Result<(), ProtocolError> {
        if self.phase != Phase::New && message.pool_id != self.id {
            return Err(ProtocolError::WrongTarget { kind: message.kind, found: message.pool_id, expected: self.id });
        }
        match (self.phase, message.kind) {
            (Phase::New, MessageType::SessionCapability) => self.negotiate(message),
            (Phase::Negotiated, MessageType::InitRunspacePool) => self.initialise(message),
            (_, MessageType::Unknown(_)) => {
                self.ignored += 1;
                Ok(())
            }
            (Phase::Open, MessageType::PublicKey) => {
                let content = self.value(message)?;
                let key = Reader::new(message.kind, &content)?.text("PublicKey")?.to_owned();
                self.public_key(key)
            }
            (
                Phase::Open,
                MessageType::SetMaxRunspaces
                | MessageType::SetMinRunspaces
                | MessageType::ResetRunspaceState
                | MessageType::GetAvailableRunspaces,
            ) => self.runspaces_message(message),
            // pypsrp sends a pipeline's answers on the pool's stream.
            (Phase::Open, MessageType::PipelineHostResponse) => self.host_response(message),
            (Phase::Open, MessageType::RunspacePoolHostResponse) => self.pool_host_response(message),
            (_, kind) => Err(ProtocolError::Unexpected { kind, when: "on the pool's stream in this state" }),
        }
    }

    fn negotiate(&mut self, message: &Message) -> Result<(), ProtocolError> {
        self.id = message.pool_id;
        let checked = self.value(message).and_then(|v| Capability::from_value(&v)).and_then(|c| c.check());
        if let Err(error) = checked {
            self.break_off(&error);
            return Err(error);
        }
        self.phase = Phase::Negotiated;
        self.push_pool(MessageType::SessionCapability, &Capability::own().to_value());
        Ok(())
    }

    fn initialise(&mut self, message: &Message) -> Result<(), ProtocolError> {
        let opened = self.value(message).and_then(|content| {
            let reader = Reader::new(message.kind, &content)?;
            let (min, max) = (reader.number("MinRunspaces")?, reader.number("MaxRunspaces")?);
            if min < 1 {
                return Err(reader.lacks("MinRunspaces"));
            }
            if max < min {
                return Err(reader.lacks("MaxRunspaces"));
            }
            Ok(((min, max), HostInfo::from_value(reader.get("HostInfo"))))
        });
        match opened {
            Err(error) => {
                self.break_off(&error);
                Err(error)
            }
            Ok((asked, host)) => {
                self.asked = asked;
                self.runspaces = self.runspaces.min(usize::try_from(asked.1).unwrap_or(usize::MAX));
                self.host = host;
                self.phase = Phase::Open;
                let data = private_data(&self.config.ps_version, self.id);
                self.push_pool(MessageType::ApplicationPrivateData, &data);
                self.push_pool(MessageType::RunspacePoolState, &PoolState::Opened.to_value(None));
                self.events.push_back(ServerPoolEvent::Opened);
                Ok(())
            }
        }
    }

    fn break_off(&mut self, error: &ProtocolError) {
        let record = ErrorRecord::new(
            "System.Management.Automation.Remoting.PSRemotingDataStructureException",
            error.to_string(),
            ErrorCategory::ProtocolError,
            "PSRemotingProtocolError",
        );
        self.phase = Phase::Ended;
        self.push_pool(MessageType::RunspacePoolState, &PoolState::Broken.to_value(Some(&record)));
    }

    fn pipeline_message(&mut self, id: Uuid, message: &Message) -> Result<(), ProtocolError> {
        if message.pool_id != self.id || message.pipeline_id != id {
            let (found, expected) = if message.pool_id == self.id { (message.pipeline_id, id) } else { (message.pool_id, self.id) };
            return Err(ProtocolError::WrongTarget { kind: message.kind, found, expected });
        }
        match message.kind {
            MessageType::CreatePipeline => {
                let request = PipelineRequest::from_value(&self.value(message)?)?;
                self.enqueue(id, ServerPoolEvent::Pipeline { id, request: Box::new(request) }, message.kind)
            }
            MessageType::GetCommandMetadata => {
                let request = MetadataRequest::from_value(&self.value(message)?)?;
                self.enqueue(id, ServerPoolEvent::Metadata { id, request }, message.kind)
            }
            MessageType::PipelineInput => {
                let value = self.value(message)?;
                self.input_event(id, ServerPoolEvent::Input { id, value }, message)
            }
            // psrpcore 0.3.1 writes a null that goes in as one that comes out.
            MessageType::PipelineOutput if message.content().is_empty() => {
                self.input_event(id, ServerPoolEvent::Input { id, value: Value::Null }, message)
            }
            MessageType::EndOfPipelineInput => self.input_event(id, ServerPoolEvent::EndOfInput { id }, message),
            MessageType::PipelineHostResponse => self.host_response(message),
            MessageType::Unknown(_) => {
                self.ignored += 1;
                Ok(())
            }
            kind => Err(ProtocolError::Unexpected { kind, when: "on a pipeline's stream" }),
        }
    }

    fn host_response(&mut self, message: &Message) -> Result<(), ProtocolError> {
        let id = message.pipeline_id;
        let response = HostResponse::from_value(message.kind, &self.value(message)?)?;
        if self.pipelines.get_mut(&id).is_some_and(|p| p.calls.remove(&response.call_id).is_some()) {
            self.events.push_back(ServerPoolEvent::HostResponse { id, response });
        } else {
            // Not asked, or asked and answered (case C-11).
            self.ignored += 1;
        }
        Ok(())
    }

    fn enqueue(&mut self, id: Uuid, event: ServerPoolEvent, kind: MessageType) -> Result<(), ProtocolError> {
        let pool_host = self.host;
        let Some(pipeline) = self.pipelines.get_mut(&id).filter(|p| matches!(p.state, State::Receiving)) else {
            return Err(ProtocolError::Unexpected { kind, when: "for a pipeline that has its request" });
        };
        if let ServerPoolEvent::Pipeline { request, .. } = &event {
            pipeline.merges_errors = request.merges_errors();
            pipeline.nested = request.is_nested;
            let host = if request.host.use_runspace_host { pool_host } else { request.host };
            pipeline.has_ui = host.has_ui();
            pipeline.has_colours = !host.is_raw_ui_null;
        }
        pipeline.state = State::Waiting(event);
        self.queue.push_back(id);
        self.start_next();
        Ok(())
    }

    fn input_event(&mut self, id: Uuid, event: ServerPoolEvent, message: &Message) -> Result<(), ProtocolError> {
        let limit = self.config.waiting_input;
        let Some(pipeline) = self.pipelines.get_mut(&id) else { return Ok(()) };
        match pipeline.state {
            State::Running => self.events.push_back(event),
            State::Ended => self.ignored += 1,
            State::Receiving | State::Waiting(_) => {
                pipeline.waiting_bytes += message.content().len() + size_of::<ServerPoolEvent>();
                if pipeline.waiting_bytes > limit {
                    return Err(ProtocolError::TooMuch { what: "bytes of input for a waiting pipeline", limit });
                }
                pipeline.waiting.push_back(event);
            }
        }
        Ok(())
    }

    fn running(&self) -> usize {
        self.abandoned.len() + self.pipelines.values().filter(|p| matches!(p.state, State::Running)).count()
    }

    /// The next pipeline that a runspace is free for. One that waits for its client's host lends its runspace to nested ones.
    fn next_waiting(&mut self) -> Option<Uuid> {
        let running = self.running();
        let lent = self.pipelines.values().filter(|p| matches!(p.state, State::Running) && !p.calls.is_empty()).count();
        let fits = |id: &Uuid| {
            let nested = self.pipelines.get(id).is_some_and(|p| p.nested);
            running < self.runspaces + if nested { lent } else { 0 }
        };
        let index = self.queue.iter().position(fits)?;
        self.queue.remove(index)
    }

    fn start_next(&mut self) {
        while let Some(id) = self.next_waiting() {
            let Some(pipeline) = self.pipelines.get_mut(&id) else { continue };
            match std::mem::replace(&mut pipeline.state, State::Running) {
                State::Waiting(event) => {
                    self.events.push_back(event);
                    self.events.extend(pipeline.waiting.drain(..));
                    pipeline.waiting_bytes = 0;
                }
                other => pipeline.state = other,
            }
        }
    }

    /// Asks for a pipeline to be stopped. One that has not begun ends at once.
    ///
    /// # Errors
    /// When there is no such pipeline.
    pub fn stop(&mut self, id: Uuid) -> Result<(), ProtocolError> {
        let Some(pipeline) = self.pipelines.get_mut(&id) else { return Err(ProtocolError::UnknownPipeline(id)) };
        match pipeline.state {
            State::Running => self.events.push_back(ServerPoolEvent::Stop { id }),
            State::Receiving | State::Waiting(_) => {
                pipeline.state = State::Ended;
                pipeline.waiting.clear();
                self.queue.retain(|q| *q != id);
                self.ended.push_back(id);
                self.push_pipeline(id, MessageType::PipelineState, &PipelineEnd::Stopped.to_value());
            }
            State::Ended => {}
        }
        Ok(())
    }

    /// Forgets a pipeline with all that waits to be sent.
    ///
    /// # Errors
    /// When there is no such pipeline.
    pub fn terminate(&mut self, id: Uuid) -> Result<(), ProtocolError> {
        let Some(pipeline) = self.pipelines.remove(&id) else { return Err(ProtocolError::UnknownPipeline(id)) };
        self.queue.retain(|q| *q != id);
        self.ended.retain(|ended| *ended != id);
        if matches!(pipeline.state, State::Running) {
            self.abandoned.insert(id);
            self.events.push_back(ServerPoolEvent::Terminated { id });
        }
        Ok(())
    }

    /// Ends the pool: tells the client, gives up all pipelines.
    pub fn close(&mut self) {
        if self.phase == Phase::Ended {
            return;
        }
        self.phase = Phase::Ended;
        self.push_pool(MessageType::RunspacePoolState, &PoolState::Closed.to_value(None));
        let ids: Vec<Uuid> = self.pipelines.keys().copied().collect();
        for id in ids {
            let _ = self.terminate(id);
        }
    }

    /// Bytes of messages whose end has not come, of the pool and all pipelines, and of input that waits for a pipeline to begin.
    #[must_use]
    pub fn unfinished_bytes(&self) -> usize {
        self.input.open_bytes() + self.pipelines.values().map(|p| p.input.open_bytes() + p.waiting_bytes).sum::<usize>()
    }

    /// `true` when the pipeline exists for the client.
    #[must_use]
    pub fn has_pipeline(&self, id: Uuid) -> bool {
        self.pipelines.contains_key(&id)
    }

    /// `true` when somebody on the client's side sees lines and can be asked.
    #[must_use]
    pub fn has_ui(&self, id: Uuid) -> bool {
        self.pipelines.get(&id).is_some_and(|p| p.has_ui)
    }

    /// `true` when the pipeline ended and all of it went out.
    #[must_use]
    pub fn is_drained(&self, id: Uuid) -> bool {
        self.pipelines.get(&id).is_some_and(Pipeline::is_drained)
    }

    /// Ends a pipeline and lets the next one begin. Only the first call for a pipeline counts (case C-14).
    pub fn finish(&mut self, id: Uuid, end: &PipelineEnd) {
        if !self.abandoned.remove(&id) {
            let Some(pipeline) = self.pipelines.get_mut(&id).filter(|p| matches!(p.state, State::Running)) else { return };
            pipeline.state = State::Ended;
            pipeline.calls.clear();
            self.ended.push_back(id);
            self.push_pipeline(id, MessageType::PipelineState, &end.to_value());
        }
        self.start_next();
    }

    fn push_pool(&mut self, kind: MessageType, value: &Value) {
        self.outbox.push(self.next_object, TO_CLIENT, kind, self.id, Uuid::nil(), value);
        self.next_object += 1;
    }

    fn push_pipeline(&mut self, id: Uuid, kind: MessageType, value: &Value) {
        if let Some(pipeline) = self.pipelines.get_mut(&id) {
            pipeline.outbox.push(self.next_object, TO_CLIENT, kind, self.id, id, value);
            self.next_object += 1;
        }
    }

    fn outbox(&self, channel: Channel) -> Option<&Outbox> {
        match channel {
            Channel::Pool => Some(&self.outbox),
            Channel::Pipeline(id) => self.pipelines.get(&id).map(|p| &p.outbox),
        }
    }

    /// Bytes that wait to be sent on a channel.
    #[must_use]
    pub fn buffered(&self, channel: Channel) -> usize {
        self.outbox(channel).map_or(0, Outbox::len)
    }

    /// `true` when something waits to be sent on a channel.
    #[must_use]
    pub fn has_output(&self, channel: Channel) -> bool {
        self.outbox(channel).is_some_and(|o| !o.is_empty())
    }

    /// Whole fragments that wait on a channel, at most `capacity` bytes of them.
    pub fn take(&mut self, channel: Channel, capacity: usize) -> Vec<u8> {
        let outbox = match channel {
            Channel::Pool => Some(&mut self.outbox),
            Channel::Pipeline(id) => self.pipelines.get_mut(&id).map(|p| &mut p.outbox),
        };
        let mut out = Vec::new();
        if let Some(outbox) = outbox {
            out.reserve(capacity.min(outbox.len() + 64));
            outbox.take(capacity, &mut out);
        }
        out
    }
}
