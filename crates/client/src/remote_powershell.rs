//! A connection over remote PowerShell as a runspace.

mod driver;
mod exchange;
mod keys;
mod outcome;
mod prompts;
mod redirect;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use exops_catalogue::{Catalogue, Stage};
use exops_policy::Caller;
use exops_psobject::Value;
use exops_psrp::{
    Argument, Command, CommandMetadata, HostInfo, MetadataRequest, PipelineRequest, RunspaceAnswer, RunspaceRequest, read_commands,
};
use exops_remoting::client::{ClientConfig, ClientSession, ShellList};
use exops_remoting::wsman::uri;
use exops_runspace::{BoxFuture, Ended, Fault, FaultKind, Invocation, Record, RecordStream, Runspace, Step, StopToken, ended};
use futures_util::{StreamExt as _, stream};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use self::driver::{Order, Started, Work};
use self::exchange::{Exchanger, OPERATION};
use self::outcome::session_fault;
use crate::{Http, TokenSource, arguments};

/// Records that may wait for the consumer; then the far end is not asked for more.
const WAITING_RECORDS: usize = 64;

/// What to ask of the far end when a session is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// Compressed streams (XPRESS); the far end may go on without. When a session is attached to: whether it has them.
    pub compression: bool,
    /// Fewest and most runspaces; the far end may give fewer.
    pub runspaces: (i32, i32),
    /// How long the session may be idle before the far end closes it; `None` leaves it to the far end.
    pub idle_timeout: Option<Duration>,
    /// How long the far end may take to exchange the key for SecureStrings.
    pub key_timeout: Duration,
}

impl Default for SessionOptions {
    /// One runspace, nothing compressed.
    fn default() -> Self {
        Self { compression: false, runspaces: (1, 1), idle_timeout: None, key_timeout: Duration::from_mins(1) }
    }
}

/// A pipeline of a session that was attached to.
pub struct AttachedPipeline {
    /// Its id.
    pub id: Uuid,
    /// Its records, from the first that nobody fetched before.
    pub records: RecordStream,
}

impl std::fmt::Debug for AttachedPipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttachedPipeline").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A session of the caller's at the far end, by its own description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteSession {
    /// What it is [attached](RemotePowerShellConnection::attach) to by.
    pub id: Uuid,
    /// Name of its session configuration, as `Microsoft.Exchange`.
    pub configuration: String,
    /// Some client is connected to it.
    pub is_connected: bool,
}

/// Runs cmdlets in a remote runspace pool (WS-Management and PSRP). Cheap to clone; clones share the pool.
///
/// The first cmdlet opens the pool. A task of the tokio runtime drives it; it ends with [`Runspace::close`].
#[derive(Debug, Clone)]
pub struct RemotePowerShellConnection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    exchanger: Exchanger,
    options: SessionOptions,
    /// Orders to the task, once there is one.
    orders: Mutex<Option<Task>>,
}

#[derive(Debug)]
struct Task {
    orders: mpsc::UnboundedSender<Order>,
    shell: Uuid,
}

impl RemotePowerShellConnection {
    /// A connection; nothing is sent before the first cmdlet.
    #[must_use]
    pub fn new(http: Http, tokens: TokenSource) -> Self {
        Self::with_options(http, tokens, SessionOptions::default())
    }

    /// As [`new`](Self::new), with wishes about the session.
    #[must_use]
    pub fn with_options(http: Http, tokens: TokenSource, options: SessionOptions) -> Self {
        Self(Arc::new(Inner { exchanger: Exchanger::new(http, tokens), options, orders: Mutex::new(None) }))
    }

    /// Leaves the open session without ending it: the far end keeps it for that idle time-out, or its own, and runs its
    /// pipelines on as far as it may keep their output. What arrived before is still delivered; then streams of pipelines
    /// that go on end with an unknown outcome, whose code is `SessionLeft`. Gives the id with which any process of the same
    /// caller [`attach`](Self::attach)es to it. The next cmdlet of this connection opens another session.
    ///
    /// # Errors
    /// When no session is open, or the far end does not let it go.
    pub async fn leave(&self, idle_timeout: Option<Duration>) -> Result<Uuid, Fault> {
        let none = || Fault::new(FaultKind::Unreachable, "there is no open remote PowerShell session to leave");
        let (done, left) = oneshot::channel();
        let shell = {
            let orders = self.0.orders.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let task = orders.as_ref().ok_or_else(none)?;
            task.orders.send(Order::Leave(idle_timeout, done)).map_err(|_| none())?;
            task.shell
        };
        left.await.map_err(|_| none())??;
        Ok(shell)
    }

    /// Takes over a session that was [left](Self::leave), with all its pipelines; further cmdlets run in it.
    ///
    /// # Errors
    /// When this connection has a session already, there is no such session, or somebody else is connected to it.
    pub async fn attach(&self, shell: Uuid) -> Result<Vec<AttachedPipeline>, Fault> {
        let (finding, found) = oneshot::channel();
        {
            let mut orders = self.0.orders.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if orders.as_ref().is_some_and(|task| !task.orders.is_closed()) {
                return Err(Fault::new(FaultKind::Internal, "this connection has a session: attach with another one"));
            }
            let session = ClientSession::attach(self.config(shell), Box::new(Uuid::new_v4));
            *orders = Some(self.spawn(shell, session, Some(finding)));
        }
        let gone = |_| Fault::new(FaultKind::Unreachable, "the remote PowerShell session ended");
        let pipelines = found.await.map_err(gone)??;
        Ok(pipelines.into_iter().map(|(id, receiver)| AttachedPipeline { id, records: records(receiver) }).collect())
    }

    /// The caller's sessions at the far end, left or not, of any client. Opens none.
    ///
    /// # Errors
    /// When the far end does not list them.
    pub async fn sessions(&self) -> Result<Vec<RemoteSession>, Fault> {
        let exchanger = &self.0.exchanger;
        let mut list = ShellList::new(self.config(Uuid::new_v4()), Box::new(Uuid::new_v4));
        loop {
            let exchanged = exchanger.post(list.request()).await.map_err(|lost| lost.fault)?;
            match list.handle_answer(exchanged.status, &exchanged.body) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Err(session_fault(&error, exchanged.refusal)),
            }
        }
        let sessions = list.shells().into_iter().filter_map(|shell| {
            let id = Uuid::parse_str(&shell.shell_id).ok()?;
            // Other shells are no business of this connection.
            let configuration = shell.resource_uri.strip_prefix(uri::CONFIGURATION_PREFIX)?.to_owned();
            Some(RemoteSession { id, configuration, is_connected: shell.connected })
        });
        Ok(sessions.collect())
    }

    /// The commands that the far end offers this caller, with their parameters (GET_COMMAND_METADATA): those whose names match
    /// one of the patterns.
    ///
    /// # Errors
    /// When the session does not open, or the far end does not list them.
    pub async fn commands(&self, names: &[&str]) -> Result<Vec<CommandMetadata>, Fault> {
        let mut steps = self.start(|steps| Started {
            cmdlet: "Get-Command".to_owned(),
            work: Work::Commands(MetadataRequest::of_names(names.iter().copied())),
            input: Vec::new(),
            host: None,
            stop: StopToken::new(),
            deadline: None,
            steps,
        });
        let protocol = |text: String| Fault::new(FaultKind::Protocol, text);
        let mut output: Vec<Value> = Vec::new();
        while let Some(step) = steps.next().await {
            match step {
                Step::Record(Record::Output(value)) if output.len() <= exops_psrp::MOST_COMMANDS + 1 => output.push(value),
                // Their number comes first; one more than that is enough to refuse the list.
                Step::Record(_) | Step::Ended(Ended::Completed) => {}
                Step::Ended(Ended::Failed(record) | Ended::Refused(record)) => {
                    let text = format!("the far end lists no commands: {}", record.message);
                    return Err(protocol(text).with_code(&*record.fully_qualified_error_id));
                }
                Step::Ended(Ended::Unreachable(fault) | Ended::SignIn(fault) | Ended::OutcomeUnknown(fault)) => return Err(fault),
                Step::Ended(_) => return Err(protocol("the far end did not finish the list of its commands".to_owned())),
            }
        }
        read_commands(&output).map_err(|error| protocol(error.to_string()))
    }

    /// Asks how many runspaces of the session are free, or for more or fewer of them.
    ///
    /// # Errors
    /// When the session does not open, or there is no answer before it ends or within [`SessionOptions::key_timeout`].
    pub async fn runspaces(&self, request: RunspaceRequest) -> Result<RunspaceAnswer, Fault> {
        let (sender, answer) = oneshot::channel();
        self.order(Order::Runspaces(request, sender));
        let none = |why: &str| Fault::new(FaultKind::Unreachable, format!("the remote PowerShell session {why} its runspaces"));
        let answer = tokio::time::timeout(self.0.options.key_timeout, answer).await.map_err(|_| none("does not tell"))?;
        answer.map_err(|_| none("ended before it told"))
    }

    /// Starts a pipeline; gives its steps.
    fn start(&self, started: impl FnOnce(mpsc::Sender<Step>) -> Started) -> RecordStream {
        let (sender, receiver) = mpsc::channel(WAITING_RECORDS);
        self.order(Order::Start(Box::new(started(sender))));
        records(receiver)
    }

    fn config(&self, shell: Uuid) -> ClientConfig {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let SessionOptions { compression, runspaces, idle_timeout, .. } = self.0.options;
        ClientConfig {
            operation_timeout: milliseconds(OPERATION),
            idle_timeout: idle_timeout.map(milliseconds),
            compression,
            runspaces,
            host: HostInfo::INTERACTIVE,
            ..ClientConfig::new(self.0.exchanger.url(), shell, Uuid::new_v4())
        }
    }

    fn spawn(&self, shell: Uuid, session: ClientSession, finding: Option<oneshot::Sender<Result<driver::Found, Fault>>>) -> Task {
        let (orders, receiver) = mpsc::unbounded_channel();
        let (driven, connection) = (
            driver::drive(self.0.exchanger.clone(), session, receiver, finding, shell, self.0.options.key_timeout),
            Arc::downgrade(&self.0),
        );
        tokio::spawn(async move {
            // The session ended meanwhile: another one is opened for them.
            for started in driven.await {
                match connection.upgrade() {
                    Some(inner) => Self(inner).order(Order::Start(started)),
                    None => started.end(Fault::new(FaultKind::Unreachable, "the remote PowerShell session ended")).await,
                }
            }
        });
        Task { orders, shell }
    }

    /// Hands an order to the task; starts one where none runs.
    fn order(&self, order: Order) {
        let mut orders = self.0.orders.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let refused = match orders.as_ref() {
            None => order,
            Some(task) => match task.orders.send(order) {
                Ok(()) => return,
                // The task ended with its session: the next cmdlet opens another.
                Err(returned) => returned.0,
            },
        };
        let shell = Uuid::new_v4();
        let task = self.spawn(shell, ClientSession::new(self.config(shell), Box::new(Uuid::new_v4)), None);
        if task.orders.send(refused).is_ok() {
            *orders = Some(task);
        }
    }
}

impl Runspace for RemotePowerShellConnection {
    fn catalogue<'a>(&'a self, _caller: &'a Caller) -> BoxFuture<'a, Result<Arc<Catalogue>, Fault>> {
        Box::pin(async { Ok(Catalogue::built_in()) })
    }

    fn invoke(&self, invocation: Invocation) -> RecordStream {
        let stage = match arguments::remote_stage(&invocation, "a connection runs one cmdlet at a time") {
            Ok(stage) => stage,
            Err(end) => return ended(end),
        };
        let command = command(stage);
        let records = self.start(|steps| Started {
            cmdlet: command.name.clone(),
            work: Work::Run(PipelineRequest { no_input: invocation.input.is_empty(), ..PipelineRequest::from(command) }),
            input: invocation.input.clone(),
            host: invocation.host.clone(),
            stop: invocation.stop.clone(),
            deadline: invocation.deadline,
            steps,
        });
        arguments::with_local_stages(records, &invocation)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let task = self.0.orders.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            let (done, closed) = oneshot::channel();
            if let Some(task) = task
                && task.orders.send(Order::Close(done)).is_ok()
            {
                // An error means that the session had ended already.
                let _ = closed.await;
            }
        })
    }
}

/// What a task sends of one pipeline, until its end.
fn records(receiver: mpsc::Receiver<Step>) -> RecordStream {
    Box::pin(stream::unfold((receiver, false), |(mut receiver, over)| async move {
        if over {
            return None;
        }
        let step = receiver
            .recv()
            .await
            .unwrap_or_else(|| Step::Ended(Ended::Unreachable(Fault::new(FaultKind::Internal, "the task of the session ended early"))));
        let over = matches!(step, Step::Ended(_));
        Some((step, (receiver, over)))
    }))
}

/// The command of a stage as it travels: bound ones by canonical names, others as they were written.
fn command(stage: &Stage) -> Command {
    match stage {
        Stage::Cmdlet(bound) => Command {
            name: bound.cmdlet.name.to_string(),
            arguments: bound.arguments.iter().map(|a| Argument::named(&a.parameter.name, a.value.clone())).collect(),
            ..Command::default()
        },
        Stage::Unresolved(sent) => Command {
            name: sent.name.clone(),
            is_script: sent.is_script,
            arguments: sent.arguments.iter().map(|a| Argument { name: a.name.clone(), value: a.value.clone(), glued: a.glued }).collect(),
            ..Command::default()
        },
        _ => Command::default(),
    }
}
