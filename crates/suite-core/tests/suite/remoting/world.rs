//! A server with one shell, a client, and a network between that reorders, loses and repeats.

use std::collections::{BTreeMap, HashMap, VecDeque};

use exops_psobject::{ErrorCategory, ErrorRecord, PsObject, Value};
use exops_psrp::{Command, PipelineEnd};
use exops_remoting::client::{ClientConfig, ClientEvent, ClientSession, RequestId};
use exops_remoting::server::{
    Handled, HttpAnswer, Output, Peer, ServerConfig, ServerSession, SessionEvent, Target, Ticket, commands_answer, fault_answer, target,
};
use exops_wsman::{Fault, Limits, Request, RequestBody, parse_request};
use uuid::Uuid;

pub(super) fn counter(start: u128) -> impl FnMut() -> Uuid + Send {
    let mut next = start << 64;
    move || {
        next += 1;
        Uuid::from_u128(next)
    }
}

/// xorshift: the same run for the same seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

pub(super) fn error(text: &str) -> ErrorRecord {
    ErrorRecord::new("System.InvalidOperationException", text, ErrorCategory::InvalidOperation, "Scripted")
}

/// What the far end of a pipeline does.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Item {
    Object(Value),
    Error(String),
    Warning(String),
}

pub(super) struct Running {
    items: VecDeque<Item>,
    end: PipelineEnd,
    /// Waits for `EndOfInput`, then writes the input back.
    echo: bool,
    /// Never ends by itself.
    endless: bool,
}

/// A server with one shell, a client, and the network between.
pub(super) struct World {
    pub(super) now: u64,
    pub(super) random: Random,
    pub(super) config: ServerConfig,
    pub(super) server: Option<ServerSession>,
    pub(super) client: ClientSession,
    pub(super) ids: Box<dyn FnMut() -> Uuid>,
    pub(super) flying: Vec<(RequestId, Vec<u8>)>,
    pub(super) held: HashMap<Ticket, (RequestId, Request)>,
    pub(super) scripts: HashMap<String, (Vec<Item>, PipelineEnd)>,
    pub(super) running: BTreeMap<Uuid, Running>,
    /// Receives are lost, before or after they were served.
    pub(super) lossy: bool,
    pub(super) largest_answer: usize,
    /// Bytes of all answers that arrived.
    pub(super) answered: usize,
    pub(super) events: Vec<ClientEvent>,
    /// How often each request was lost: the client gives up after five times.
    pub(super) lost: HashMap<String, u32>,
}

impl World {
    pub(super) fn new(seed: u64, change: impl FnOnce(&mut ClientConfig, &mut ServerConfig)) -> Self {
        let mut ids = counter(1);
        let mut client = ClientConfig::new("https://localhost/powershell-liveid", ids(), ids());
        let mut config = ServerConfig::default();
        change(&mut client, &mut config);
        Self {
            now: 1_000,
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            config,
            server: None,
            client: ClientSession::new(client, Box::new(counter(2))),
            ids: Box::new(ids),
            flying: Vec::new(),
            held: HashMap::new(),
            scripts: HashMap::new(),
            running: BTreeMap::new(),
            lossy: false,
            largest_answer: 0,
            answered: 0,
            events: Vec::new(),
            lost: HashMap::new(),
        }
    }

    pub(super) fn script(&mut self, name: &str, items: Vec<Item>, end: PipelineEnd) {
        self.scripts.insert(name.to_owned(), (items, end));
    }

    pub(super) fn invoke(&mut self, name: &str) -> Uuid {
        self.client.invoke(&Command::new(name).into())
    }

    pub(super) fn serve(&mut self, bytes: &[u8]) -> Handled {
        let request = parse_request(bytes, &Limits::default()).unwrap();
        let limit = request.max_envelope_size.unwrap();
        let handled = match (target(&request), &mut self.server) {
            (Target::Create(Some(_)), None) => {
                let peer = Peer { owner: "app", client_ip: "127.0.0.1" };
                match ServerSession::open(&request, &self.config, peer, &mut self.ids, self.now) {
                    Ok((session, answer)) => {
                        self.server = Some(session);
                        Handled::Answer(answer)
                    }
                    Err(answer) => Handled::Answer(answer),
                }
            }
            // The same request again gets the same answer.
            (Target::Create(Some(_)), Some(server)) => server.handle(&request, self.now),
            (Target::Shell(id), Some(server)) if server.shell_id() == id => server.handle(&request, self.now),
            (Target::Shell(id), _) => Handled::Answer(fault_answer(&Fault::unknown_shell(&id), Some(&request.message_id), Uuid::nil())),
            (Target::Commands(id), Some(server)) if server.shell_id() == id => {
                Handled::Answer(commands_answer(&request, server, (self.ids)()))
            }
            (other, _) => panic!("{other:?}"),
        };
        if let Handled::Answer(answer) = &handled {
            assert!(answer.body.len() <= limit, "{} of {limit}", answer.body.len());
        }
        handled
    }

    pub(super) fn answer(&mut self, id: RequestId, answer: &HttpAnswer) {
        self.largest_answer = self.largest_answer.max(answer.body.len());
        self.answered += answer.body.len();
        self.client.handle_answer(id, answer.status, &answer.body);
    }

    /// Loses a Receive now and then.
    pub(super) fn lose(&mut self, id: RequestId, request: &Request) -> bool {
        if !self.lossy || !matches!(request.body, RequestBody::Receive { .. }) || !self.random.one_in(8) {
            return false;
        }
        let times = self.lost.entry(request.message_id.clone()).or_default();
        if *times == 4 {
            return false;
        }
        *times += 1;
        self.client.handle_lost(id);
        true
    }

    /// The driver's work at the server: a few items of each pipeline and events.
    pub(super) fn run_pipelines(&mut self) -> bool {
        let Some(server) = &mut self.server else { return false };
        let mut busy = false;
        while let Some(event) = server.next_event() {
            busy = true;
            match event {
                SessionEvent::CreatePipeline { id, request } => {
                    let name = &request.commands[0].name;
                    let (items, end) = self.scripts.get(name).cloned().unwrap_or((Vec::new(), PipelineEnd::Completed));
                    let running = Running { items: items.into(), end, echo: name == "Echo" || name == "Ask", endless: name == "Endless" };
                    self.running.insert(id, running);
                    if name == "Ask" {
                        server.read_line(id).unwrap();
                    }
                }
                SessionEvent::Input { id, value } => self.running.get_mut(&id).unwrap().items.push_back(Item::Object(value)),
                SessionEvent::EndOfInput { id } => self.running.get_mut(&id).unwrap().echo = false,
                SessionEvent::Stop { id } | SessionEvent::Terminated { id } => {
                    let stopped = Running { items: VecDeque::new(), end: PipelineEnd::Stopped, echo: false, endless: false };
                    self.running.insert(id, stopped);
                }
                SessionEvent::HostResponse { id, response } => {
                    let running = self.running.get_mut(&id).unwrap();
                    running.items.push_back(Item::Object(response.result.unwrap()));
                    running.echo = false;
                }
                SessionEvent::Opened
                | SessionEvent::PublicKey { .. }
                | SessionEvent::PoolHostResponse { .. }
                | SessionEvent::CommandMetadata { .. }
                | SessionEvent::Closed => {}
            }
        }
        let ids: Vec<Uuid> = self.running.keys().copied().collect();
        for id in ids {
            let running = self.running.get_mut(&id).unwrap();
            for _ in 0..=self.random.below(6) {
                // Back-pressure, as a driver applies it.
                if running.echo || server.buffered(id) > 1_000_000 {
                    break;
                }
                let Some(item) = running.items.pop_front() else { break };
                busy = true;
                match &item {
                    Item::Object(value) => server.write(id, Output::Object(value), self.now),
                    Item::Error(text) => server.write(id, Output::Error(&error(text)), self.now),
                    Item::Warning(text) => server.write(id, Output::Warning(text), self.now),
                }
            }
            if running.items.is_empty() && !running.echo && !running.endless {
                busy = true;
                server.finish(id, &running.end, self.now);
                self.running.remove(&id);
            }
        }
        busy
    }

    /// As [`run_pipelines`](Self::run_pipelines), and the answers that are ready then.
    pub(super) fn work(&mut self) -> bool {
        let mut busy = self.run_pipelines();
        let Some(server) = &mut self.server else { return false };
        let mut answers = Vec::new();
        while let Some((ticket, answer)) = server.poll_answer(self.now) {
            answers.push((ticket, answer));
        }
        for (ticket, answer) in answers {
            busy = true;
            if let Some((id, request)) = self.held.remove(&ticket) {
                assert!(answer.body.len() <= request.max_envelope_size.unwrap());
                if !self.lose(id, &request) {
                    self.answer(id, &answer);
                }
            }
        }
        busy
    }

    /// One step of the network; `false` when nothing moves.
    pub(super) fn step(&mut self) -> bool {
        while let Some((id, bytes)) = self.client.poll_request() {
            let parsed = parse_request(&bytes, &Limits::default()).unwrap();
            assert!(bytes.len() <= 512_000 && (!matches!(parsed.body, RequestBody::Create(_)) || bytes.len() <= 153_600));
            self.flying.push((id, bytes));
        }
        let mut busy = !self.flying.is_empty();
        if busy {
            let (id, bytes) = self.flying.swap_remove(self.random.below(self.flying.len()));
            let request = parse_request(&bytes, &Limits::default()).unwrap();
            if !self.lose(id, &request) {
                // Served, and then the answer, or the connection while it is held, may be lost: the server does not know.
                let handled = self.serve(&bytes);
                if !self.lose(id, &request) {
                    match handled {
                        Handled::Answer(answer) => self.answer(id, &answer),
                        Handled::Held(ticket) => {
                            self.held.insert(ticket, (id, request));
                        }
                    }
                }
            }
        }
        busy |= self.work();
        if self.random.one_in(3) || !busy {
            while let Some(event) = self.client.next_event() {
                busy = true;
                self.events.push(event);
            }
        }
        busy
    }

    pub(super) fn run(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < 200_000, "it does not come to rest: {:?}", self.events.last());
        }
    }

    pub(super) fn tick(&mut self, milliseconds: u64) {
        self.now += milliseconds;
        let now = self.now;
        if let Some(server) = &mut self.server {
            while server.poll_timeout().is_some_and(|t| t <= now) {
                server.handle_timeout(now);
            }
        }
        self.run();
    }

    pub(super) fn items(&self, id: Uuid) -> Vec<Item> {
        self.events
            .iter()
            .filter_map(|event| match event {
                ClientEvent::Output { pipeline, value } if *pipeline == id => Some(Item::Object(value.clone())),
                ClientEvent::Error { pipeline, record } if *pipeline == id => Some(Item::Error(record.message.to_string())),
                ClientEvent::Warning { pipeline: Some(pipeline), text } if *pipeline == id => Some(Item::Warning(text.to_string())),
                _ => None,
            })
            .collect()
    }

    pub(super) fn ends(&self, id: Uuid) -> Vec<&PipelineEnd> {
        self.events
            .iter()
            .filter(|e| matches!(e, ClientEvent::PipelineEnded { pipeline, .. } if *pipeline == id))
            .map(|e| match e {
                ClientEvent::PipelineEnded { end, .. } => end,
                _ => unreachable!(),
            })
            .collect()
    }

    pub(super) fn close(&mut self) {
        self.client.close();
        self.run();
        assert_eq!(self.events.last(), Some(&ClientEvent::Closed));
        assert!(self.client.is_ended() && self.held.is_empty());
    }
}

pub(super) fn items(random: &mut Random, count: usize) -> Vec<Item> {
    (0..count)
        .map(|n| match random.below(8) {
            0 => Item::Object(Value::Null),
            1 => Item::Error(format!("error {n} <&> \u{1F600}")),
            2 => Item::Warning(format!("warning {n}")),
            3 => {
                Item::Object(PsObject::notes([("Name", Value::from(n.to_string())), ("Index", Value::I32(1))].into_iter().collect()).into())
            }
            4 => Item::Object(Value::from("é".repeat(random.below(15_000)))),
            _ => Item::Object(Value::I64(i64::try_from(n).unwrap())),
        })
        .collect()
}
