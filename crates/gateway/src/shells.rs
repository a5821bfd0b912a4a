//! Open shells and the pipelines that run in them.
//!
//! A shell belongs to one principal of one tenant, never to a connection or one token. Its protocol machine stands
//! behind a lock that is held for computing only; each pipeline has a task that pulls records from the session layer
//! and stops pulling while enough bytes wait for the client.

mod host;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use exops_catalogue::Pipeline;
use exops_policy::Caller;
use exops_psobject::{ErrorCategory, ErrorRecord, Value};
use exops_psrp::{HostMethod, MetadataRequest, PipelineRequest};
use exops_remoting::server::{
    Handled, HttpAnswer, Output, Peer, PipelineEnd, ServerConfig, ServerSession, SessionEvent, Ticket, commands_answer, fault_answer,
    shells_answer,
};
use exops_remoting::wsman::{Fault as WsmanFault, Request};
use exops_runspace::{Confirm, Host, HostError, Record, Step, StopToken};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

use host::ClientHost;

use crate::display::Display;
use crate::quota::{Meters, Operation, Unfinished};
use crate::secrets::Secrets;
use crate::session::{Call, SessionLayer, internal_error};
use crate::{Clock, Gone, Quotas, translate};

/// Bytes of one pipeline that may wait for its client before its task stops pulling records.
const BUFFER: usize = 512 << 10;
/// Records that are written before waiting answers are looked at.
const BATCH: usize = 64;
/// Objects that may wait to be read by the pipeline into which they are piped.
const INPUT: usize = 100_000;
/// How long running pipelines get to end when the gateway closes.
const CLOSE: Duration = Duration::from_secs(5);

/// Tenant and object id.
pub(crate) type Owner = (Uuid, Uuid);

fn owner(caller: &Caller) -> Owner {
    (caller.tenant.0, caller.principal.object_id())
}

/// One open shell.
pub(crate) struct Shell {
    id: String,
    owner: Owner,
    state: Mutex<State>,
    /// Told whenever bytes went out or something came in.
    drained: Notify,
}

struct State {
    session: ServerSession,
    /// As the latest request brought it: a role that was taken away counts from the next command on.
    caller: Caller,
    waiting: HashMap<Ticket, oneshot::Sender<HttpAnswer>>,
    running: HashMap<Uuid, Running>,
    /// Questions on a client's host that are not answered yet, by pipeline and call id.
    prompts: HashMap<(Uuid, i64), oneshot::Sender<Result<Value, HostError>>>,
    secrets: Secrets,
    /// The client was asked for its key and sent none in time.
    withholds_key: bool,
    unfinished: Unfinished,
    closed: bool,
}

struct Running {
    stop: StopToken,
    task: JoinHandle<()>,
    /// Where its input goes while some may come.
    input: Option<mpsc::Sender<Value>>,
}

impl Shell {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All shells.
pub(crate) struct Shells {
    layer: Arc<SessionLayer>,
    clock: Clock,
    server_name: String,
    shells: Mutex<HashMap<String, Arc<Shell>>>,
    meters: Arc<Meters>,
    started: Instant,
}

impl Shells {
    pub(crate) fn new(layer: Arc<SessionLayer>, clock: Clock, server_name: String, quotas: Quotas) -> Self {
        let meters = Arc::new(Meters::new(quotas));
        Self { layer, clock, server_name, shells: Mutex::default(), meters, started: Instant::now() }
    }

    /// Milliseconds of a clock that never jumps.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Held for look-ups only, never while a shell's state is being locked.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Shell>>> {
        self.shells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_rights(&self, caller: &Caller) -> bool {
        !self.layer.rights(caller).is_empty()
    }

    /// Counts a request against its caller's quotas.
    pub(crate) fn admit(&self, caller: &Caller) -> Result<Operation, WsmanFault> {
        self.meters.begin(owner(caller), self.now())
    }

    /// The caller's shell of that id (in capitals). Another principal's is as if it were not there.
    pub(crate) fn find(&self, id: &str, caller: &Caller) -> Option<Arc<Shell>> {
        self.lock().get(id).filter(|s| s.owner == owner(caller)).cloned()
    }

    /// Serves Enumerate of shells: the caller's own.
    pub(crate) fn list(&self, request: &Request, caller: &Caller) -> HttpAnswer {
        let mut shells: Vec<Arc<Shell>> = self.lock().values().filter(|s| s.owner == owner(caller)).cloned().collect();
        // One order for everybody who locks several.
        shells.sort_by(|a, b| a.id.cmp(&b.id));
        let states: Vec<_> = shells.iter().map(|shell| shell.lock()).collect();
        shells_answer(request, states.iter().map(|state| &state.session), Uuid::new_v4(), self.now())
    }

    /// Serves Enumerate of a shell's commands.
    pub(crate) fn commands(&self, shell: &Shell, request: &Request) -> HttpAnswer {
        commands_answer(request, &shell.lock().session, Uuid::new_v4())
    }

    /// Serves Create. `wanted` is the id that the client chose.
    pub(crate) fn open(self: &Arc<Self>, request: &Request, config: &ServerConfig, caller: Caller, wanted: Option<&str>) -> HttpAnswer {
        let refuse = |fault: &WsmanFault| fault_answer(fault, Some(&request.message_id), Uuid::new_v4());
        self.make_room(&owner(&caller));
        let (shell, answer) = {
            let mut shells = self.lock();
            if let Some(existing) = wanted.and_then(|id| shells.get(id)).cloned() {
                drop(shells);
                return self.open_again(&existing, request, &caller);
            }
            if shells.values().filter(|s| s.owner == owner(&caller)).count() >= self.meters.quotas.shells {
                return refuse(&self.meters.quotas.too_many_shells());
            }
            let peer = Peer { owner: caller.principal.display_name(), client_ip: &caller.client_address };
            let (session, answer) = match ServerSession::open(request, config, peer, &mut Uuid::new_v4, self.now()) {
                Ok(opened) => opened,
                Err(answer) => return answer,
            };
            let shell = Arc::new(Shell {
                id: session.shell_id().to_owned(),
                owner: owner(&caller),
                state: Mutex::new(State {
                    session,
                    caller,
                    waiting: HashMap::new(),
                    running: HashMap::new(),
                    prompts: HashMap::new(),
                    secrets: Secrets::default(),
                    withholds_key: false,
                    unfinished: Unfinished::new(&self.meters.unfinished),
                    closed: false,
                }),
                drained: Notify::new(),
            });
            shells.insert(shell.id.clone(), Arc::clone(&shell));
            (shell, answer)
        };
        self.pump(&shell, &mut shell.lock());
        answer
    }

    /// Ends a shell that its client left behind, where the caller has as many as it may have: one without a running command
    /// before any other, the one left first before a later one.
    fn make_room(self: &Arc<Self>, owner: &Owner) {
        let shells: Vec<Arc<Shell>> = self.lock().values().filter(|s| s.owner == *owner).cloned().collect();
        if shells.len() < self.meters.quotas.shells {
            return;
        }
        let now = self.now();
        let left = shells.iter().filter_map(|shell| {
            let state = shell.lock();
            state.session.is_lost(now).then(|| (!state.running.is_empty(), state.session.last_activity(), shell))
        });
        if let Some((_, _, shell)) = left.min_by_key(|(runs, since, _)| (*runs, *since)) {
            let mut state = shell.lock();
            // Its client may have come back since.
            if state.session.is_lost(now) {
                state.session.close(now);
                self.pump(shell, &mut state);
            }
        }
    }

    /// A Create whose id is in use: the same request again (its answer was lost) gets the same answer, any other is
    /// refused and the shell stays.
    fn open_again(self: &Arc<Self>, shell: &Arc<Shell>, request: &Request, caller: &Caller) -> HttpAnswer {
        if shell.owner == owner(caller)
            && let Handled::Answer(answer) = shell.lock().session.handle(request, self.now())
            && answer.status == 200
        {
            return answer;
        }
        let fault = WsmanFault::new(WsmanFault::UNEXPECTED_SELECTORS, format!("The shell id {} is in use: choose another one.", shell.id));
        fault_answer(&fault, Some(&request.message_id), Uuid::new_v4())
    }

    /// Serves a request of a shell; waits where it is a Receive without data.
    pub(crate) async fn handle(self: &Arc<Self>, shell: &Arc<Shell>, request: &Request, caller: Caller, mut gone: Gone) -> HttpAnswer {
        let (ticket, mut answer) = {
            let mut state = shell.lock();
            state.caller = caller;
            let handled = state.session.handle(request, self.now());
            let unfinished = state.session.unfinished_bytes();
            if state.unfinished.grown(unfinished).is_some_and(|of_all| of_all > self.meters.quotas.unfinished) {
                state.session.close(self.now());
                state.unfinished.grown(0);
                self.pump(shell, &mut state);
                return fault_answer(&self.meters.quotas.too_much_unfinished(), Some(&request.message_id), Uuid::new_v4());
            }
            let answer = match handled {
                Handled::Answer(answer) => {
                    self.pump(shell, &mut state);
                    return answer;
                }
                Handled::Held(ticket) => {
                    let (sender, receiver) = oneshot::channel();
                    state.waiting.insert(ticket, sender);
                    (ticket, receiver)
                }
            };
            self.pump(shell, &mut state);
            answer
        };
        loop {
            let wait = shell.lock().session.poll_timeout().map_or(u64::MAX >> 24, |at| at.saturating_sub(self.now()));
            tokio::select! {
                answer = &mut answer => return answer.unwrap_or_else(|_| {
                    fault_answer(&WsmanFault::unknown_shell(&shell.id), Some(&request.message_id), Uuid::new_v4())
                }),
                // What it would have got waits for the next Receive.
                _ = &mut gone => {
                    let mut state = shell.lock();
                    state.waiting.remove(&ticket);
                    state.session.connection_gone(ticket, self.now());
                    return fault_answer(&WsmanFault::timed_out(), Some(&request.message_id), Uuid::new_v4());
                }
                () = tokio::time::sleep(Duration::from_millis(wait + 1)) => {
                    let mut state = shell.lock();
                    state.session.handle_timeout(self.now());
                    self.pump(shell, &mut state);
                }
            }
        }
    }

    /// Carries out what the session asks for and hands out answers that are ready now.
    fn pump(self: &Arc<Self>, shell: &Arc<Shell>, state: &mut State) {
        while let Some(event) = state.session.next_event() {
            self.event(shell, state, event);
        }
        let now = self.now();
        while let Some((ticket, answer)) = state.session.poll_answer(now) {
            if let Some(sender) = state.waiting.remove(&ticket) {
                let _ = sender.send(answer);
            }
        }
        shell.drained.notify_waiters();
    }

    fn event(self: &Arc<Self>, shell: &Arc<Shell>, state: &mut State, event: SessionEvent) {
        match event {
            // The gateway asks for a pipeline, never for the whole session.
            SessionEvent::Opened | SessionEvent::PoolHostResponse { .. } => {}
            // A client without a usable key could not be told anything: its shell ends (case C-09).
            SessionEvent::PublicKey { key } => match state.secrets.answer(&key) {
                Ok(encrypted) => state.session.answer_key(&encrypted),
                Err(_) => state.session.close(self.now()),
            },
            SessionEvent::HostResponse { id, response } => {
                // An answer to nothing that was asked finds nobody (case C-11).
                if let Some(waiting) = state.prompts.remove(&(id, response.call_id)) {
                    let answer = response.result.map_err(|_| HostError::NotInteractive);
                    let _ = waiting.send(answer.and_then(|mut value| match state.secrets.open(&mut value) {
                        Ok(()) => Ok(value),
                        Err(_) => Err(HostError::Unreadable),
                    }));
                }
            }
            SessionEvent::CreatePipeline { id, request } => self.begin(shell, state, id, *request),
            SessionEvent::Input { id, value } => self.input(state, id, value),
            SessionEvent::EndOfInput { id } => {
                if let Some(running) = state.running.get_mut(&id) {
                    running.input = None;
                }
            }
            SessionEvent::CommandMetadata { id, request } => {
                let (shells, caller) = (Arc::clone(self), state.caller.clone());
                let work = {
                    let shell = Arc::clone(shell);
                    async move { shells.describe(&shell, id, &caller, &request).await }
                };
                self.spawn(shell, state, id, StopToken::new(), None, work);
            }
            SessionEvent::Stop { id } | SessionEvent::Terminated { id } => {
                if let Some(running) = state.running.get(&id) {
                    running.stop.stop();
                }
            }
            SessionEvent::Closed => {
                state.closed = true;
                for running in state.running.values() {
                    running.stop.stop();
                }
                self.lock().remove(&shell.id);
            }
        }
    }

    /// An object for a pipeline that takes input. One that is too much or cannot be read ends it.
    fn input(&self, state: &mut State, id: Uuid, mut value: Value) {
        let Some(running) = state.running.get_mut(&id) else { return };
        let Some(input) = &running.input else { return };
        let taken = state.secrets.open(&mut value).and_then(|()| match input.try_send(value) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(Box::new(too_much_input())),
            // Whoever reads no more, like `Select-Object -First`, has enough.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        });
        if let Err(record) = taken {
            running.input = None;
            running.stop.stop();
            state.session.finish(id, &PipelineEnd::Failed(record), self.now());
        }
    }

    fn begin(self: &Arc<Self>, shell: &Arc<Shell>, state: &mut State, id: Uuid, mut request: PipelineRequest) {
        if let Err(record) = state.secrets.open_request(&mut request) {
            state.session.finish(id, &PipelineEnd::Failed(record), self.now());
            return;
        }
        let stop = StopToken::new();
        let (sender, input) = if request.no_input { (None, None) } else { Some(mpsc::channel(INPUT)).unzip() };
        let statements: Vec<Pipeline> = std::iter::once(request.commands).chain(request.more_statements).map(translate::pipeline).collect();
        let work = {
            let (shells, shell, stop) = (Arc::clone(self), Arc::clone(shell), stop.clone());
            async move { shells.run(&shell, id, statements, input, &stop).await }
        };
        self.spawn(shell, state, id, stop, sender, work);
    }

    /// Runs a pipeline's work in a task and finishes the pipeline with what comes out, also when the work panics.
    fn spawn(
        self: &Arc<Self>,
        shell: &Arc<Shell>,
        state: &mut State,
        id: Uuid,
        stop: StopToken,
        input: Option<mpsc::Sender<Value>>,
        work: impl Future<Output = PipelineEnd> + Send + 'static,
    ) {
        let (shells, task_shell) = (Arc::clone(self), Arc::clone(shell));
        let task = tokio::spawn(async move {
            let end = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
                tracing::error!(pipeline = %id, "a pipeline failed inside the gateway");
                PipelineEnd::Failed(Box::new(internal_error("the command failed inside the server")))
            });
            let mut state = task_shell.lock();
            state.session.finish(id, &end, shells.now());
            state.running.remove(&id);
            shells.pump(&task_shell, &mut state);
        });
        state.running.insert(id, Running { stop, task, input });
    }

    /// The statements of a pipeline, one after the other.
    async fn run(
        self: &Arc<Self>,
        shell: &Arc<Shell>,
        id: Uuid,
        statements: Vec<Pipeline>,
        mut input: Option<mpsc::Receiver<Value>>,
        stop: &StopToken,
    ) -> PipelineEnd {
        for pipeline in statements {
            let (caller, can_ask) = {
                let state = shell.lock();
                (state.caller.clone(), state.session.has_host(id))
            };
            let host = can_ask.then(|| -> Arc<dyn Host> {
                Arc::new(ClientHost { shells: Arc::clone(self), shell: Arc::clone(shell), pipeline: id, stop: stop.clone() })
            });
            let ends_with = |name: &str| pipeline.commands.last().is_some_and(|c| c.name.eq_ignore_ascii_case(name));
            let display = ends_with("Out-Default").then(Display::default);
            let leaves = pipeline.commands.iter().any(|c| c.name.eq_ignore_ascii_case("Exit-PSSession"));
            let call = Call {
                caller,
                pipeline,
                input: input.take(),
                session: true,
                on_confirm: Confirm::Ask,
                host,
                stop: stop.clone(),
                correlation_id: id,
            };
            let end = self.write_all(shell, id, call, display, stop).await;
            if leaves && end == PipelineEnd::Completed {
                shell.lock().session.tell_host(id, HostMethod::PopRunspace, Vec::new());
            }
            if end != PipelineEnd::Completed {
                return end;
            }
        }
        PipelineEnd::Completed
    }

    /// Hands the records of a run to the session, as fast as the client fetches them.
    async fn write_all(
        self: &Arc<Self>,
        shell: &Arc<Shell>,
        id: Uuid,
        call: Call,
        mut display: Option<Display>,
        stop: &StopToken,
    ) -> PipelineEnd {
        let mut records = self.layer.run(call).await.ready_chunks(BATCH);
        while let Some(steps) = records.next().await {
            let has_secret = steps.iter().any(|step| matches!(step, Step::Record(Record::Output(value)) if value.has_secret()));
            // Waited for once: every part of a long output would wait again.
            if has_secret && !shell.lock().withholds_key {
                self.share_key(shell, stop).await;
            }
            let mut end = None;
            {
                let mut state = shell.lock();
                for step in steps {
                    match step {
                        Step::Record(record) => match display.as_mut().and_then(|display| display.lines(&record)) {
                            Some((method, lines)) => {
                                lines.into_iter().for_each(|line| state.session.tell_host(id, method, vec![line.into()]))
                            }
                            None => self.write(&mut state, id, record, has_secret),
                        },
                        Step::Ended(ended) => end = Some(ended),
                    }
                }
                self.pump(shell, &mut state);
            }
            if let Some(end) = end {
                return translate::end(end, |record| self.mark(id, record));
            }
            self.room(shell, id, stop).await;
        }
        PipelineEnd::Failed(Box::new(internal_error("the command ended without a result")))
    }

    /// `has_secret`: an output may hold a SecureString.
    fn write(&self, state: &mut State, id: Uuid, mut record: Record, has_secret: bool) {
        let now = self.now();
        if has_secret
            && let Record::Output(value) = &mut record
            && let Err(unreadable) = state.secrets.seal(value)
        {
            record = Record::Error(unreadable);
        }
        let session = &mut state.session;
        match &record {
            Record::Output(value) => session.write(id, Output::Object(value), now),
            Record::Error(error) => {
                let mut error = ErrorRecord::clone(error);
                self.mark(id, &mut error);
                session.write(id, Output::Error(&error), now);
            }
            Record::Warning(text) => session.write(id, Output::Warning(text), now),
            Record::Verbose(text) => session.write(id, Output::Verbose(text), now),
            Record::Debug(text) => session.write(id, Output::Debug(text), now),
            Record::Information(record) => session.write(id, Output::Information(record), now),
            Record::Progress(record) => session.write(id, Output::Progress(record), now),
        }
    }

    /// Asks the client for its key, where it has not sent one by itself, and waits for it a while.
    async fn share_key(self: &Arc<Self>, shell: &Arc<Shell>, stop: &StopToken) {
        {
            let mut state = shell.lock();
            if state.secrets.are_shared() {
                return;
            }
            state.session.request_key();
            self.pump(shell, &mut state);
        }
        let shared = async {
            loop {
                let told = shell.drained.notified();
                tokio::pin!(told);
                told.as_mut().enable();
                if shell.lock().secrets.are_shared() {
                    return;
                }
                told.await;
            }
        };
        tokio::select! {
            shared = tokio::time::timeout(self.meters.quotas.key_after, shared) => shell.lock().withholds_key = shared.is_err(),
            () = stop.stopped() => {}
        }
    }

    /// Waits until the client has fetched enough, or nobody wants the rest.
    async fn room(&self, shell: &Shell, id: Uuid, stop: &StopToken) {
        loop {
            let drained = shell.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            if stop.is_stopped() || shell.lock().session.buffered(id) <= BUFFER {
                return;
            }
            tokio::select! {
                () = drained => {}
                () = stop.stopped() => {}
            }
        }
    }

    /// Exchange puts server, request and time in front of the id of every error of a cmdlet.
    fn mark(&self, id: Uuid, record: &mut ErrorRecord) {
        if record.fully_qualified_error_id.starts_with("[Server=") {
            return;
        }
        let time = jiff::Timestamp::from_millisecond((self.clock)()).unwrap_or_default().strftime("%-m/%-d/%Y %-I:%M:%S %p");
        let server = self.server_name.split('.').next().unwrap_or_default();
        record.fully_qualified_error_id = format!(
            "[Server={server},RequestId={id},TimeStamp={time}] [FailureCategory=Cmdlet-{}] {}",
            record.reason, record.fully_qualified_error_id
        )
        .into();
    }

    /// Answers GET_COMMAND_METADATA: the cmdlets that exist for the caller.
    async fn describe(self: &Arc<Self>, shell: &Arc<Shell>, id: Uuid, caller: &Caller, request: &MetadataRequest) -> PipelineEnd {
        let catalogue = match self.layer.catalogue(caller).await {
            Ok(catalogue) => catalogue,
            Err(fault) => return translate::end(fault.into(), |_| {}),
        };
        let mut state = shell.lock();
        let now = self.now();
        for object in translate::descriptions(&catalogue, request) {
            state.session.write(id, Output::Object(&object), now);
        }
        PipelineEnd::Completed
    }

    /// Ends what is past its time: held Receives and idle shells.
    pub(crate) fn reap(self: &Arc<Self>) {
        let shells: Vec<Arc<Shell>> = self.lock().values().cloned().collect();
        let now = self.now();
        self.meters.reap(now);
        for shell in shells {
            let mut state = shell.lock();
            if state.session.poll_timeout().is_some_and(|at| at <= now) {
                state.session.handle_timeout(now);
                self.pump(&shell, &mut state);
            }
        }
    }

    /// Closes all shells: held Receives are answered, pipelines are stopped and awaited for a while.
    pub(crate) async fn close(self: &Arc<Self>) {
        let shells: Vec<Arc<Shell>> = self.lock().values().cloned().collect();
        let mut tasks = Vec::new();
        for shell in shells {
            let mut state = shell.lock();
            state.session.close(self.now());
            tasks.extend(state.running.drain().map(|(_, running)| {
                running.stop.stop();
                running.task
            }));
            self.pump(&shell, &mut state);
        }
        let _ = tokio::time::timeout(CLOSE, futures_util::future::join_all(tasks)).await;
    }
}

fn too_much_input() -> ErrorRecord {
    let text = format!("more than {INPUT} objects wait to be read by the command into which they are piped: send them in smaller parts");
    ErrorRecord::new("System.InvalidOperationException", text, ErrorCategory::LimitsExceeded, "PipelineInputLimitExceeded")
}
