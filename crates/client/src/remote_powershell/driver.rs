//! The task that drives one session: requests out, answers in, records to their consumers.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use exops_catalogue::is_read;
use exops_psobject::{ErrorCategory, ErrorRecord, InformationRecord, Value};
use exops_psrp::{
    Command, HostCall, HostQuestion, MetadataRequest, PipelineEnd, PipelineRequest, RunspaceAnswer, RunspaceRequest, UserEvent,
};
use exops_remoting::client::{ClientError, ClientEvent, ClientSession, RequestId};
use exops_runspace::{BoxFuture, Ended, Fault, FaultKind, Host, Record, Step, StopToken};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use super::WAITING_RECORDS;
use super::exchange::{Exchanged, Exchanger};
use super::keys::{Keys, Waiting};
use super::outcome::{lost, session_fault, was_not_begun};
use super::prompts::{Meaning, ask, busy, meaning, nobody, unsealed, wants_secret};
use crate::http::{CONNECTION_LOST, CONNECTION_REFUSED, Lost, NO_ROUTE, TIMEOUT};
use crate::rest::LONGEST_WAIT;

/// Tries of a read, and of what is throttled.
const TRIES: u32 = 4;
/// Pause before a request is sent again whose answer got lost; it doubles with every further loss in a row.
const PAUSE: Duration = Duration::from_millis(100);
/// So often it doubles.
const DOUBLINGS: u32 = 5;
/// How long a network that is gone may take to come back, where the caller says nothing else.
const PATIENCE: Duration = Duration::from_mins(4);

/// The code of faults about pipelines whose session was left.
pub(super) const LEFT: &str = "SessionLeft";
/// Pause before a throttled request is sent again, where the far end names none.
const THROTTLED: Duration = Duration::from_secs(1);
/// Events of one pipeline that wait for the session's key; past that they go on without it.
const MOST_HELD: usize = 1_000;
/// Reconnects of one session that nobody asked for.
const RECONNECTS: u32 = 16;

/// What the task is asked to do.
pub(super) enum Order {
    Start(Box<Started>),
    Close(oneshot::Sender<()>),
    /// Leave the session at the far end, for that idle time-out.
    Leave(Option<Duration>, oneshot::Sender<Result<(), Fault>>),
    /// Ask about the session's runspaces, or for more or fewer.
    Runspaces(RunspaceRequest, oneshot::Sender<RunspaceAnswer>),
}

/// What a pipeline does.
pub(super) enum Work {
    /// Runs commands.
    Run(PipelineRequest),
    /// Lists the commands that there are.
    Commands(MetadataRequest),
}

/// What the pipelines of a session that somebody else opened bring.
pub(super) type Found = Vec<(Uuid, mpsc::Receiver<Step>)>;

/// A pipeline to run.
pub(super) struct Started {
    pub cmdlet: String,
    pub work: Work,
    pub input: Vec<Value>,
    pub host: Option<Arc<dyn Host>>,
    pub stop: StopToken,
    pub deadline: Option<Duration>,
    pub steps: mpsc::Sender<Step>,
}

impl Started {
    /// A pipeline that runs already.
    fn adopted(steps: mpsc::Sender<Step>) -> Self {
        Self {
            cmdlet: String::new(),
            work: Work::Run(PipelineRequest::default()),
            input: Vec::new(),
            host: None,
            stop: StopToken::new(),
            deadline: None,
            steps,
        }
    }

    /// Tells its consumer that it was not begun.
    pub(super) async fn end(self, fault: Fault) {
        let _ = self.steps.send(Step::Ended(Ended::Unreachable(fault))).await;
    }

    fn holds_secret(&self) -> bool {
        self.commands().flat_map(|command| &command.arguments).filter_map(|a| a.value.as_ref()).chain(&self.input).any(Value::has_secret)
    }

    fn commands(&self) -> impl Iterator<Item = &Command> {
        let request = if let Work::Run(request) = &self.work { Some(request) } else { None };
        request.into_iter().flat_map(|request| request.commands.iter().chain(request.more_statements.iter().flatten()))
    }

    /// Every value that goes out with it.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        let request = if let Work::Run(request) = &mut self.work { Some(request) } else { None };
        let commands = request.into_iter().flat_map(|r| r.commands.iter_mut().chain(r.more_statements.iter_mut().flatten()));
        commands.flat_map(|command| &mut command.arguments).filter_map(|argument| argument.value.as_mut()).chain(&mut self.input)
    }
}

struct Running {
    started: Started,
    /// Something of it reached its consumer: it cannot be begun again unseen.
    told: bool,
    tries: u32,
    /// When the caller's time is over.
    until: Option<Instant>,
}

/// Something that a future of the task brought.
enum Arrived {
    Answer(RequestId, Result<Exchanged, Lost>),
    /// The pause after a lost answer is over.
    Lost(RequestId),
    /// The pause after a request that did not go out is over.
    Unsent(RequestId),
    Stop(Uuid),
    HostAnswer(Option<Uuid>, HostCall, Result<Value, Box<ErrorRecord>>),
    /// The far end had its time to answer a public key.
    KeyTime,
}

struct Driver {
    exchanger: Exchanger,
    session: ClientSession,
    running: HashMap<Uuid, Running>,
    work: FuturesUnordered<BoxFuture<'static, Arrived>>,
    closing: Option<oneshot::Sender<()>>,
    /// Who wants to know that the session was left.
    leaving: Option<oneshot::Sender<Result<(), Fault>>>,
    /// The session goes on at the far end without this task.
    left: bool,
    /// Pipelines that go on there, and what their consumers are told.
    parting: Vec<(mpsc::Sender<Step>, Fault)>,
    /// Who waits for the pipelines of a session that somebody else opened.
    finding: Option<oneshot::Sender<Result<Found, Fault>>>,
    keys: Keys,
    /// How long the far end may take to answer a public key.
    key_timeout: Duration,
    /// Of whom a question waits for its answer.
    asking: HashSet<Option<Uuid>>,
    /// Pipelines whose output waits for the key, and that output.
    held: HashMap<Uuid, Vec<ClientEvent>>,
    /// Events that waited for something and go before those of the session.
    released: VecDeque<ClientEvent>,
    /// Who waits for answers about runspaces.
    asked: HashMap<i64, oneshot::Sender<RunspaceAnswer>>,
    /// The session's id.
    shell: Uuid,
    /// The shell was opened once.
    opened: bool,
    /// Throttled requests in a row.
    throttled: u32,
    reconnects: u32,
    /// Exchanges in a row that brought no answer.
    losses: u32,
    /// When the first of those was.
    lost_since: Option<Instant>,
    /// Why an exchange brought nothing usable, for the error that the session makes of it.
    last_fault: Option<Fault>,
}

/// Drives one session until it is closed, broken or left. `finding` is told the pipelines of one that somebody else opened.
/// Gives what came too late for it and was not closed with it: another session can run that.
pub(super) async fn drive(
    exchanger: Exchanger,
    session: ClientSession,
    mut orders: mpsc::UnboundedReceiver<Order>,
    finding: Option<oneshot::Sender<Result<Found, Fault>>>,
    shell: Uuid,
    key_timeout: Duration,
) -> Vec<Box<Started>> {
    // The pool is opened by the first pipeline, or connected to at once.
    let mut begun = finding.is_some();
    let mut driver = Driver {
        exchanger,
        session,
        running: HashMap::new(),
        work: FuturesUnordered::new(),
        closing: None,
        leaving: None,
        left: false,
        parting: Vec::new(),
        finding,
        keys: Keys::default(),
        key_timeout,
        asking: HashSet::new(),
        held: HashMap::new(),
        released: VecDeque::new(),
        asked: HashMap::new(),
        shell,
        opened: false,
        throttled: 0,
        reconnects: 0,
        losses: 0,
        lost_since: None,
        last_fault: None,
    };
    let mut open = true;
    // An event that its consumer has no room for yet; nothing else is taken from the session meanwhile.
    let mut blocked: Option<(mpsc::Sender<Step>, Step)> = None;
    loop {
        while blocked.is_none() {
            let Some(event) = driver.released.pop_front().or_else(|| driver.session.next_event()) else { break };
            blocked = driver.event(event);
        }
        while begun && let Some((id, envelope)) = driver.session.poll_request() {
            let exchanger = driver.exchanger.clone();
            driver.work.push(Box::pin(async move { Arrived::Answer(id, exchanger.post(envelope).await) }));
        }
        if blocked.is_none() && (driver.session.is_ended() || driver.left) {
            break;
        }
        tokio::select! {
            permit = room(&blocked) => {
                if let Some((_, step)) = blocked.take() && let Some(permit) = permit {
                    permit.send(step);
                }
            }
            order = orders.recv(), if open => match order {
                Some(Order::Start(started)) => {
                    begun = true;
                    driver.start(*started, 1);
                }
                Some(Order::Close(done)) => {
                    driver.closing = Some(done);
                    driver.session.close();
                }
                Some(Order::Leave(idle, done)) => driver.leave(idle, done),
                Some(Order::Runspaces(request, answer)) => {
                    begun = true;
                    let call = driver.session.ask_runspaces(request);
                    // Of those who asked, some have given up.
                    driver.asked.retain(|_, asked| !asked.is_closed());
                    driver.asked.insert(call, answer);
                }
                // Nobody is left who could ask for anything.
                None => open = false,
            },
            Some(arrived) = driver.work.next(), if !driver.work.is_empty() => driver.arrived(arrived),
        }
        if !open && driver.running.is_empty() && !driver.keys.is_waited_for() {
            driver.session.close();
        }
    }
    driver.keys.abandon();
    orders.close();
    let mut late = Vec::new();
    while let Ok(order) = orders.try_recv() {
        if let Order::Start(started) = order {
            late.push(started);
        }
    }
    if driver.closing.is_some() {
        for started in late.drain(..) {
            started.end(Fault::new(FaultKind::Unreachable, "the remote PowerShell session was closed").with_hint("try again")).await;
        }
    }
    if let Some(done) = driver.closing {
        let _ = done.send(());
    }
    let gone = || driver.last_fault.clone().unwrap_or_else(|| Fault::new(FaultKind::Unreachable, "the remote PowerShell session ended"));
    if let Some(done) = driver.leaving {
        let _ = done.send(if driver.left { Ok(()) } else { Err(gone()) });
    }
    if let Some(found) = driver.finding {
        let _ = found.send(Err(gone()));
    }
    for (steps, fault) in driver.parting {
        let _ = steps.send(Step::Ended(Ended::OutcomeUnknown(fault))).await;
    }
    late
}

/// Waits until the consumer of a blocked event has room; `None` when it is gone.
async fn room(blocked: &Option<(mpsc::Sender<Step>, Step)>) -> Option<mpsc::OwnedPermit<Step>> {
    match blocked {
        Some((sender, _)) => sender.clone().reserve_owned().await.ok(),
        None => std::future::pending().await,
    }
}

impl Driver {
    fn start(&mut self, mut started: Started, tries: u32) {
        if started.holds_secret() {
            match self.keys.seal(&mut started) {
                Ok(true) => {}
                // It waits for the session's key.
                Ok(false) => return self.await_key(Waiting::Pipeline(Box::new(started), tries)),
                Err(fault) => return drop(started.steps.try_send(Step::Ended(Ended::Unreachable(fault)))),
            }
        }
        let id = match &started.work {
            Work::Commands(request) => self.session.get_commands(request),
            Work::Run(request) => {
                let id = self.session.invoke(request);
                for value in &started.input {
                    self.session.input(id, value);
                }
                if !request.no_input {
                    self.session.end_input(id);
                }
                id
            }
        };
        self.run(id, started, tries);
    }

    fn run(&mut self, id: Uuid, started: Started, tries: u32) {
        let (stop, deadline) = (started.stop.clone(), started.deadline);
        self.work.push(Box::pin(async move {
            match deadline {
                // Past its deadline it is stopped like any other.
                Some(deadline) => drop(tokio::time::timeout(deadline, stop.stopped()).await),
                None => stop.stopped().await,
            }
            Arrived::Stop(id)
        }));
        let until = deadline.and_then(|deadline| Instant::now().checked_add(deadline));
        self.running.insert(id, Running { started, told: false, tries, until });
    }

    /// Lets something wait for the session's key, which is exchanged where it was not yet.
    fn await_key(&mut self, waiting: Waiting) {
        self.keys.wait(waiting);
        self.exchange_key();
    }

    fn exchange_key(&mut self) {
        if let Some(public_key) = self.keys.request() {
            self.session.send_key(&public_key);
            let timeout = self.key_timeout;
            self.work.push(Box::pin(async move {
                tokio::time::sleep(timeout).await;
                Arrived::KeyTime
            }));
        } else if self.keys.is_refused() {
            self.key_arrived(None);
        }
    }

    /// The exchange of keys is over: what waited for it goes on, or is told why not.
    fn key_arrived(&mut self, sealed: Option<&str>) {
        for waiting in self.keys.arrived(sealed) {
            match waiting {
                Waiting::Pipeline(started, tries) => self.start(*started, tries),
                Waiting::Question(pipeline, call, question) => {
                    self.asking.remove(&pipeline);
                    self.ask(pipeline, call, question);
                }
                Waiting::Output(pipeline) => {
                    self.session.pause(pipeline, false);
                    self.released.extend(self.held.remove(&pipeline).unwrap_or_default());
                }
            }
        }
    }

    fn leave(&mut self, idle: Option<Duration>, done: oneshot::Sender<Result<(), Fault>>) {
        let idle = idle.map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX));
        if self.session.disconnect(idle) {
            self.leaving = Some(done);
        } else {
            let fault = Fault::new(FaultKind::Unreachable, "there is no open remote PowerShell session to leave");
            let _ = done.send(Err(fault));
        }
    }

    fn arrived(&mut self, arrived: Arrived) {
        match arrived {
            Arrived::Answer(id, Ok(exchanged)) => {
                self.losses = 0;
                self.lost_since = None;
                if exchanged.status == 200 {
                    self.throttled = 0;
                }
                if let Some(wait) = exchanged.retry_after
                    && self.pause(id, wait)
                {
                    return;
                }
                if exchanged.refusal.is_some() {
                    self.last_fault = exchanged.refusal;
                }
                match exchanged.location {
                    Some(location) => self.session.handle_redirect(id, exchanged.status, &location),
                    None => self.session.handle_answer(id, exchanged.status, &exchanged.body),
                }
            }
            Arrived::Answer(id, Err(lost)) => {
                tracing::debug!(reason = %lost.fault, sent = lost.sent, "no answer");
                let (sent, worth_it) = (lost.sent, self.is_worth_it(&lost));
                self.last_fault = Some(lost.fault);
                if worth_it {
                    let pause = PAUSE * 2_u32.pow(self.losses.min(DOUBLINGS)) / 2;
                    self.losses += 1;
                    self.work.push(Box::pin(async move {
                        tokio::time::sleep(pause).await;
                        if sent { Arrived::Lost(id) } else { Arrived::Unsent(id) }
                    }));
                } else {
                    self.session.give_up(id);
                }
            }
            Arrived::Lost(id) => self.session.handle_lost(id),
            Arrived::Unsent(id) => self.session.handle_unsent(id),
            Arrived::Stop(id) => {
                if self.held.contains_key(&id) {
                    // Nobody waits for the key any more.
                    self.key_arrived(None);
                }
                if self.running.contains_key(&id) {
                    self.session.stop(id);
                }
            }
            Arrived::HostAnswer(pipeline, call, result) => self.answered(pipeline, &call, result),
            Arrived::KeyTime => self.key_arrived(None),
        }
    }

    /// Whether a request without an answer is sent again. One that may have arrived is: the session counts how often. One
    /// that did not go out is, as long as the caller waits; who sets no time limit waits for a network that is gone, but not
    /// for a host that has nobody who listens.
    fn is_worth_it(&mut self, lost: &Lost) -> bool {
        if lost.fault.kind != FaultKind::Unreachable {
            return false;
        }
        if lost.sent {
            return true;
        }
        let now = Instant::now();
        let since = *self.lost_since.get_or_insert(now);
        let is_network = matches!(&*lost.fault.code, NO_ROUTE | TIMEOUT);
        self.opened
            && match self.until() {
                Some(until) => now < until && (is_network || lost.fault.code == CONNECTION_REFUSED),
                None => is_network && now.duration_since(since) < PATIENCE,
            }
    }

    /// When the time of all callers is over, where one of them set a limit.
    fn until(&self) -> Option<Instant> {
        self.running.values().filter_map(|r| r.until).max()
    }

    /// Sends a request again that the far end was too busy for, after that time; `false` where the callers do not wait so
    /// long. Who sets no time limit waits a few times, a minute at most.
    fn pause(&mut self, id: RequestId, wait: Duration) -> bool {
        let waits = match self.until() {
            Some(until) => Instant::now().checked_add(wait).is_some_and(|then| then <= until),
            None => wait <= LONGEST_WAIT && self.throttled + 1 < TRIES,
        };
        if waits {
            tracing::info!(milliseconds = wait.as_millis(), "the far end is busy: trying again");
            self.throttled += 1;
            self.work.push(Box::pin(async move {
                tokio::time::sleep(wait).await;
                Arrived::Unsent(id)
            }));
        }
        waits
    }

    /// Hands an event on; answers what its consumer has no room for.
    fn event(&mut self, mut event: ClientEvent) -> Option<(mpsc::Sender<Step>, Step)> {
        if let Some(held) = event.pipeline().and_then(|id| self.held.get_mut(&id)) {
            held.push(event);
            if held.len() > MOST_HELD {
                self.key_arrived(None);
            }
            return None;
        }
        if let ClientEvent::Output { pipeline, value } = &mut event
            && value.has_secret()
        {
            let pipeline = *pipeline;
            if !self.keys.is_settled() {
                self.session.pause(pipeline, true);
                self.held.insert(pipeline, vec![event]);
                self.await_key(Waiting::Output(pipeline));
                return None;
            }
            if !self.keys.open_value(value) {
                self.released.push_front(ClientEvent::Error { pipeline, record: Box::new(unopened()) });
            }
        }
        let (pipeline, record) = match event {
            ClientEvent::Opened => {
                self.opened = true;
                return None;
            }
            ClientEvent::Closed => {
                self.key_arrived(None);
                return None;
            }
            ClientEvent::Redirected { location } => {
                self.redirected(&location);
                return None;
            }
            ClientEvent::Throttled { request, milliseconds, fault } => {
                let wait = milliseconds.map_or(THROTTLED, Duration::from_millis);
                if !self.pause(request, wait) {
                    self.last_fault = Some(Fault::new(FaultKind::Throttled(wait), fault.to_string()).with_code(fault.code.to_string()));
                    self.session.refuse(request, fault);
                }
                return None;
            }
            ClientEvent::KeyRequested => {
                self.exchange_key();
                return None;
            }
            ClientEvent::Runspaces { call, answer } => {
                if let Some(asked) = self.asked.remove(&call) {
                    // Whoever asked may be gone.
                    let _ = asked.send(answer);
                }
                return None;
            }
            ClientEvent::UserEvent(event) => {
                // It belongs to no pipeline; any that runs can tell it.
                match self.running.keys().next() {
                    Some(id) => self.released.push_back(ClientEvent::Information { pipeline: *id, record: Box::new(information(&event)) }),
                    None => tracing::info!(source = %event.source, "event of the session"),
                }
                return None;
            }
            ClientEvent::Key(sealed) => {
                self.key_arrived(Some(&sealed));
                return None;
            }
            ClientEvent::Pipelines(ids) => {
                self.found(&ids);
                return None;
            }
            ClientEvent::Disconnected => {
                if !self.held.is_empty() {
                    // What came goes to its consumers first: the far end does not send it again.
                    self.key_arrived(None);
                    self.released.push_back(ClientEvent::Disconnected);
                    return None;
                }
                self.disconnected();
                return None;
            }
            ClientEvent::Reconnected => {
                tracing::info!("reconnected to the session");
                return None;
            }
            ClientEvent::StaysConnected(error) => {
                if let Some(done) = self.leaving.take() {
                    let _ = done.send(Err(Fault::new(FaultKind::Protocol, error.to_string())));
                }
                return None;
            }
            ClientEvent::Broken(error) => {
                tracing::debug!(%error, "session broken");
                if let Some(finding) = self.finding.take() {
                    let _ = finding.send(Err(session_fault(&error, self.last_fault.clone())));
                }
                self.key_arrived(None);
                return None;
            }
            ClientEvent::Output { pipeline, value } => (pipeline, Record::Output(value)),
            ClientEvent::Error { pipeline, record } => (pipeline, Record::Error(record)),
            ClientEvent::Warning { pipeline: Some(pipeline), text } => (pipeline, Record::Warning(text)),
            ClientEvent::Warning { pipeline: None, text } => {
                tracing::info!(%text, "warning of the session");
                return None;
            }
            ClientEvent::Verbose { pipeline, text } => (pipeline, Record::Verbose(text)),
            ClientEvent::Debug { pipeline, text } => (pipeline, Record::Debug(text)),
            ClientEvent::Information { pipeline, record } => (pipeline, Record::Information(record)),
            ClientEvent::Progress { pipeline, record } => (pipeline, Record::Progress(record)),
            ClientEvent::HostCall { pipeline, call } => (pipeline?, self.host_call(pipeline, call)?),
            ClientEvent::PipelineEnded { pipeline, end } => {
                return self.end(pipeline, |_| match end {
                    PipelineEnd::Completed => Ended::Completed,
                    PipelineEnd::Stopped => Ended::Stopped,
                    PipelineEnd::Failed(record) if was_not_begun(&record) => Ended::Refused(record),
                    PipelineEnd::Failed(record) => Ended::Failed(record),
                });
            }
            ClientEvent::PipelineLost { pipeline, error } => {
                let fault = self.last_fault.clone();
                if matches!(error, ClientError::Lost { .. }) && self.begin_again(pipeline, fault.as_ref()) {
                    return None;
                }
                return self.end(pipeline, |cmdlet| lost(cmdlet, &error, fault));
            }
        };
        let running = self.running.get_mut(&pipeline)?;
        running.told = true;
        deliver(running.started.steps.clone(), Step::Record(record))
    }

    /// The session is opened elsewhere, where the credential may go there.
    fn redirected(&mut self, location: &str) {
        match self.exchanger.redirected(location) {
            Ok(exchanger) => {
                let text: Arc<str> = format!("Your connection has been redirected to the following URI: \"{}\"", exchanger.url()).into();
                for running in self.running.values() {
                    // Nobody waits for room here: the pipelines have not begun.
                    let _ = running.started.steps.try_send(Step::Record(Record::Warning(Arc::clone(&text))));
                }
                self.session.follow(exchanger.url().to_owned());
                self.exchanger = exchanger;
            }
            Err(fault) => {
                self.last_fault = Some(fault);
                self.session.stay(location);
            }
        }
    }

    /// The session was left, on purpose or not.
    fn disconnected(&mut self) {
        if self.leaving.is_some() {
            self.left = true;
            let fault = || Fault::new(FaultKind::Unreachable, "the session was left; the command goes on there").with_code(LEFT);
            self.parting = self.running.drain().map(|(_, running)| (running.started.steps, fault())).collect();
        } else if self.reconnects < RECONNECTS {
            self.reconnects += 1;
            self.session.reconnect();
        } else {
            self.session.close();
        }
    }

    /// The pipelines of a session that somebody else opened.
    fn found(&mut self, ids: &[Uuid]) {
        let Some(finding) = self.finding.take() else { return };
        let mut found = Vec::new();
        for id in ids {
            let (sender, receiver) = mpsc::channel(WAITING_RECORDS);
            found.push((*id, receiver));
            self.run(*id, Started::adopted(sender), TRIES);
        }
        let _ = finding.send(Ok(found));
    }

    /// A read whose connection was cut before anything of it came is begun again.
    fn begin_again(&mut self, pipeline: Uuid, fault: Option<&Fault>) -> bool {
        let worth_it = |r: &Running| is_read(&r.started.cmdlet) && !r.told && r.tries < TRIES;
        let was_cut = fault.is_some_and(|f| f.code == CONNECTION_LOST) && !self.session.is_ended();
        match self.running.get(&pipeline) {
            Some(running) if was_cut && worth_it(running) => {}
            _ => return false,
        }
        let Some(mut running) = self.running.remove(&pipeline) else { return false };
        // What is left of the caller's time.
        running.started.deadline = running.until.map(|until| until.saturating_duration_since(Instant::now()));
        tracing::info!(cmdlet = %running.started.cmdlet, "trying again");
        self.start(running.started, running.tries + 1);
        true
    }

    fn end(&mut self, pipeline: Uuid, how: impl FnOnce(&str) -> Ended) -> Option<(mpsc::Sender<Step>, Step)> {
        let running = self.running.remove(&pipeline)?;
        let end = how(&running.started.cmdlet);
        deliver(running.started.steps, Step::Ended(end))
    }

    /// A line for the host is information; a question goes to the invocation's host, or is refused.
    fn host_call(&mut self, pipeline: Option<Uuid>, call: HostCall) -> Option<Record> {
        let (answer, record) = match meaning(&call, self.shell) {
            Meaning::Ask(question) => {
                self.ask(pipeline, call, question);
                return None;
            }
            Meaning::Line(record) => (Ok(Value::Null), Some(record)),
            Meaning::Answer(answer) => (answer, None),
            Meaning::Refuse(error) => {
                let text = format!("a prompt of the far end was refused: {error}");
                (Err(Box::new(error.record())), Some(Record::Warning(text.into())))
            }
        };
        if call.expects_answer() {
            self.session.respond(pipeline, &call.answer(answer));
        }
        record
    }

    /// Puts a question to the host of whoever runs the pipeline; one of the session goes to any that there is. Who would have to
    /// type a secret is asked when it can be sent.
    fn ask(&mut self, pipeline: Option<Uuid>, call: HostCall, question: HostQuestion) {
        let host = match pipeline {
            Some(id) => self.running.get(&id).and_then(|r| r.started.host.clone()),
            None => self.running.values().find_map(|r| r.started.host.clone()),
        };
        let refused = match &host {
            _ if !call.expects_answer() => return,
            None => Some(nobody("nobody can answer a prompt here")),
            Some(_) if self.asking.contains(&pipeline) => Some(busy()),
            Some(_) if wants_secret(&question) && self.keys.is_refused() => Some(unsealed()),
            Some(_) => None,
        };
        if let Some(record) = refused {
            return self.session.respond(pipeline, &call.answer(Err(Box::new(record))));
        }
        if wants_secret(&question) && !self.keys.is_settled() {
            self.asking.insert(pipeline);
            return self.await_key(Waiting::Question(pipeline, call, question));
        }
        if let Some(host) = host {
            self.asking.insert(pipeline);
            self.work.push(Box::pin(async move {
                let result = ask(host.as_ref(), question).await;
                Arrived::HostAnswer(pipeline, call, result)
            }));
        }
    }

    fn answered(&mut self, pipeline: Option<Uuid>, call: &HostCall, result: Result<Value, Box<ErrorRecord>>) {
        self.asking.remove(&pipeline);
        let sealed = result.and_then(|mut value| match value.has_secret().then(|| self.keys.seal_value(&mut value)) {
            Some(Err(_)) => Err(Box::new(unsealed())),
            _ => Ok(value),
        });
        self.session.respond(pipeline, &call.answer(sealed));
    }
}

/// An event as a record: what was attached to it, or its name.
fn information(event: &UserEvent) -> InformationRecord {
    InformationRecord {
        message: if event.data.is_null() { event.source.as_str().into() } else { event.data.clone() },
        source: event.source.as_str().into(),
        time: event.time,
        tags: vec!["PSEvent".into()],
    }
}

/// A SecureString in the output stays sealed.
fn unopened() -> ErrorRecord {
    let why = "a SecureString in the output cannot be opened: it does not belong to the session's key, or none was exchanged";
    ErrorRecord::new(
        "System.Management.Automation.Remoting.PSRemotingDataStructureException",
        why,
        ErrorCategory::SecurityError,
        "SecureStringSealed",
    )
}

fn deliver(steps: mpsc::Sender<Step>, step: Step) -> Option<(mpsc::Sender<Step>, Step)> {
    match steps.try_send(step) {
        Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
        Err(mpsc::error::TrySendError::Full(step)) => Some((steps, step)),
    }
}
