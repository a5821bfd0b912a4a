//! The task that drives one session: requests out, answers in, records to their consumers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use exops_catalogue::is_read;
use exops_psobject::{ErrorCategory, ErrorRecord, InformationRecord, Value};
use exops_psrp::{HostCall, HostInfo, HostMethod, HostResponse, PipelineEnd, PipelineRequest};
use exops_remoting::client::{ClientConfig, ClientError, ClientEvent, ClientSession, Operation, RequestId};
use exops_runspace::{BoxFuture, Choice, Ended, Fault, FaultKind, Host, Record, Step, StopToken};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::exchange::{Exchanged, Exchanger, OPERATION};
use crate::http::{CONNECTION_LOST, Lost};
use crate::rest::{now, outcome_unknown};

/// Tries of a read.
const TRIES: u32 = 4;
/// Pause before a request is sent again whose answer got lost; it doubles with every further loss in a row.
const PAUSE: Duration = Duration::from_millis(100);
/// So often it doubles.
const DOUBLINGS: u32 = 5;

/// What the task is asked to do.
pub(super) enum Order {
    Start(Box<Started>),
    Close(oneshot::Sender<()>),
}

/// A pipeline to run.
pub(super) struct Started {
    pub cmdlet: String,
    pub request: PipelineRequest,
    pub input: Vec<Value>,
    pub host: Option<Arc<dyn Host>>,
    pub stop: StopToken,
    pub deadline: Option<Duration>,
    pub steps: mpsc::Sender<Step>,
}

struct Running {
    started: Started,
    /// Something of it reached its consumer: it cannot be begun again unseen.
    told: bool,
    tries: u32,
}

/// Something that a future of the task brought.
enum Arrived {
    Answer(RequestId, Result<Exchanged, Lost>),
    /// The pause after a lost answer is over.
    Lost(RequestId),
    Stop(Uuid),
    HostAnswer(Option<Uuid>, HostResponse),
}

struct Driver {
    exchanger: Exchanger,
    session: ClientSession,
    running: HashMap<Uuid, Running>,
    work: FuturesUnordered<BoxFuture<'static, Arrived>>,
    closing: Option<oneshot::Sender<()>>,
    /// The shell was opened once.
    opened: bool,
    /// Exchanges in a row that brought no answer.
    losses: u32,
    /// Why an exchange brought nothing usable, for the error that the session makes of it.
    last_fault: Option<Fault>,
}

/// Drives one session until it is closed or broken.
pub(super) async fn drive(exchanger: Exchanger, mut orders: mpsc::UnboundedReceiver<Order>) {
    let config = ClientConfig {
        operation_timeout: u64::try_from(OPERATION.as_millis()).unwrap_or(u64::MAX),
        host: HostInfo::INTERACTIVE,
        ..ClientConfig::new(exchanger.url(), Uuid::new_v4(), Uuid::new_v4())
    };
    let mut driver = Driver {
        exchanger,
        session: ClientSession::new(config, Box::new(Uuid::new_v4)),
        running: HashMap::new(),
        work: FuturesUnordered::new(),
        closing: None,
        opened: false,
        losses: 0,
        last_fault: None,
    };
    let mut begun = false;
    let mut open = true;
    // An event that its consumer has no room for yet; nothing else is taken from the session meanwhile.
    let mut blocked: Option<(mpsc::Sender<Step>, Step)> = None;
    loop {
        while blocked.is_none() {
            let Some(event) = driver.session.next_event() else { break };
            blocked = driver.event(event);
        }
        // The pool is opened by the first pipeline.
        while begun && let Some((id, envelope)) = driver.session.poll_request() {
            let exchanger = driver.exchanger.clone();
            driver.work.push(Box::pin(async move { Arrived::Answer(id, exchanger.post(envelope).await) }));
        }
        if blocked.is_none() && driver.session.is_ended() {
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
                // Nobody is left who could ask for anything.
                None => {
                    open = false;
                    if driver.running.is_empty() {
                        driver.session.close();
                    }
                }
            },
            Some(arrived) = driver.work.next(), if !driver.work.is_empty() => driver.arrived(arrived),
        }
        if !open && driver.running.is_empty() {
            driver.session.close();
        }
    }
    // Orders that came too late: their consumers learn that it is over.
    orders.close();
    while let Ok(order) = orders.try_recv() {
        if let Order::Start(started) = order {
            let fault = Fault::new(FaultKind::Unreachable, "the remote PowerShell session was closed").with_hint("try again");
            let _ = started.steps.send(Step::Ended(Ended::Unreachable(fault))).await;
        }
    }
    if let Some(done) = driver.closing {
        let _ = done.send(());
    }
}

/// Waits until the consumer of a blocked event has room; `None` when it is gone.
async fn room(blocked: &Option<(mpsc::Sender<Step>, Step)>) -> Option<mpsc::OwnedPermit<Step>> {
    match blocked {
        Some((sender, _)) => sender.clone().reserve_owned().await.ok(),
        None => std::future::pending().await,
    }
}

impl Driver {
    fn start(&mut self, started: Started, tries: u32) {
        let id = self.session.invoke(&started.request);
        for value in &started.input {
            self.session.input(id, value);
        }
        if !started.request.no_input {
            self.session.end_input(id);
        }
        let (stop, deadline) = (started.stop.clone(), started.deadline);
        self.work.push(Box::pin(async move {
            match deadline {
                // Past its deadline it is stopped like any other.
                Some(deadline) => drop(tokio::time::timeout(deadline, stop.stopped()).await),
                None => stop.stopped().await,
            }
            Arrived::Stop(id)
        }));
        self.running.insert(id, Running { started, told: false, tries });
    }

    fn arrived(&mut self, arrived: Arrived) {
        match arrived {
            Arrived::Answer(id, Ok(exchanged)) => {
                self.losses = 0;
                if exchanged.refusal.is_some() {
                    self.last_fault = exchanged.refusal;
                }
                self.session.handle_answer(id, exchanged.status, &exchanged.body);
            }
            Arrived::Answer(id, Err(lost)) => {
                tracing::debug!(reason = %lost.fault, sent = lost.sent, "no answer");
                // Somebody was reached before, or may have been now: the connection may come back.
                let worth_it = lost.fault.kind == FaultKind::Unreachable && (lost.sent || self.opened);
                self.last_fault = Some(lost.fault);
                if worth_it {
                    let pause = PAUSE * 2_u32.pow(self.losses.min(DOUBLINGS)) / 2;
                    self.losses += 1;
                    self.work.push(Box::pin(async move {
                        tokio::time::sleep(pause).await;
                        Arrived::Lost(id)
                    }));
                } else {
                    self.session.give_up(id);
                }
            }
            Arrived::Lost(id) => self.session.handle_lost(id),
            Arrived::Stop(id) => {
                if self.running.contains_key(&id) {
                    self.session.stop(id);
                }
            }
            Arrived::HostAnswer(pipeline, response) => self.session.respond(pipeline, &response),
        }
    }

    /// Hands an event on; answers what its consumer has no room for.
    fn event(&mut self, event: ClientEvent) -> Option<(mpsc::Sender<Step>, Step)> {
        let (pipeline, record) = match event {
            ClientEvent::Opened => {
                self.opened = true;
                return None;
            }
            ClientEvent::Closed => return None,
            ClientEvent::Broken(error) => {
                tracing::debug!(%error, "session broken");
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
            ClientEvent::HostCall { pipeline, call } => (pipeline?, self.host_call(pipeline, &call)?),
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

    /// A read whose connection was cut before anything of it came is begun again.
    fn begin_again(&mut self, pipeline: Uuid, fault: Option<&Fault>) -> bool {
        let worth_it = |r: &Running| is_read(&r.started.cmdlet) && !r.told && r.tries < TRIES;
        let was_cut = fault.is_some_and(|f| f.code == CONNECTION_LOST) && !self.session.is_ended();
        match self.running.get(&pipeline) {
            Some(running) if was_cut && worth_it(running) => {}
            _ => return false,
        }
        let Some(running) = self.running.remove(&pipeline) else { return false };
        tracing::info!(cmdlet = %running.started.cmdlet, "trying again");
        self.start(running.started, running.tries + 1);
        true
    }

    fn end(&mut self, pipeline: Uuid, how: impl FnOnce(&str) -> Ended) -> Option<(mpsc::Sender<Step>, Step)> {
        let running = self.running.remove(&pipeline)?;
        let end = how(&running.started.cmdlet);
        deliver(running.started.steps, Step::Ended(end))
    }

    /// A line for the host is information; a question goes to the invocation's host, or is answered with "nobody".
    fn host_call(&mut self, pipeline: Option<Uuid>, call: &HostCall) -> Option<Record> {
        let text = |i: usize| call.parameters.get(i).map(Value::display).unwrap_or_default();
        match call.method {
            HostMethod::Write1 | HostMethod::WriteLine2 | HostMethod::WriteErrorLine => return Some(line(text(0))),
            HostMethod::Write2 | HostMethod::WriteLine3 => return Some(line(text(2))),
            _ if !call.expects_answer() => return None,
            _ => {}
        }
        let (call_id, method) = (call.call_id, call.method);
        let host = pipeline.and_then(|id| self.running.get(&id)).and_then(|r| r.started.host.clone());
        let Some(host) = host else {
            self.session
                .respond(pipeline, &HostResponse { call_id, method, result: Err(Box::new(nobody("nobody can answer a prompt here"))) });
            return None;
        };
        let parameters = call.parameters.clone();
        self.work.push(Box::pin(async move {
            let result = ask(host.as_ref(), method, &parameters).await;
            Arrived::HostAnswer(pipeline, HostResponse { call_id, method, result })
        }));
        None
    }
}

fn deliver(steps: mpsc::Sender<Step>, step: Step) -> Option<(mpsc::Sender<Step>, Step)> {
    match steps.try_send(step) {
        Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
        Err(mpsc::error::TrySendError::Full(step)) => Some((steps, step)),
    }
}

async fn ask(host: &dyn Host, method: HostMethod, parameters: &[Value]) -> Result<Value, Box<ErrorRecord>> {
    let text = |i: usize| parameters.get(i).map(Value::display).unwrap_or_default();
    let failed = |e: exops_runspace::HostError| Box::new(nobody(&e.to_string()));
    match method {
        HostMethod::ReadLine => host.read_line().await.map(Value::from).map_err(failed),
        HostMethod::PromptForChoice => {
            let choice = |v: &Value| {
                let part = |name: &str| v.as_object().and_then(|o| o.property(name)).map(Value::display).unwrap_or_default();
                Choice { label: part("label"), help: part("helpMessage") }
            };
            let choices: Vec<Choice> = parameters.get(2).and_then(Value::as_list).unwrap_or_default().iter().map(choice).collect();
            let default = parameters.get(3).and_then(Value::as_i64).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
            let chosen = host.prompt_for_choice(&text(0), &text(1), &choices, default).await.map_err(failed)?;
            Ok(Value::I32(i32::try_from(chosen).unwrap_or(i32::MAX)))
        }
        _ => Err(Box::new(nobody("this client's host does not offer that"))),
    }
}

fn nobody(why: &str) -> ErrorRecord {
    ErrorRecord::new("System.Management.Automation.Host.HostException", why, ErrorCategory::NotImplemented, "HostFunctionNotImplemented")
}

fn line(text: String) -> Record {
    Record::Information(Box::new(InformationRecord {
        message: text.into(),
        source: "Write-Host".into(),
        time: now(),
        tags: vec!["PSHOST".into()],
    }))
}

/// Errors that a server makes before it begins: names that do not exist for the caller, values that do not bind.
fn was_not_begun(record: &ErrorRecord) -> bool {
    let exception = record.exception_type();
    exception.ends_with("CommandNotFoundException") || exception.contains("ParameterBinding")
}

/// What became of a command whose end will never be known.
fn lost(cmdlet: &str, error: &ClientError, last: Option<Fault>) -> Ended {
    let not_begun = match error {
        ClientError::Fault { operation, .. } | ClientError::Http { operation, .. } => {
            matches!(operation, Operation::Open | Operation::StartPipeline)
        }
        ClientError::Lost { operation } | ClientError::Protocol { operation, .. } => {
            *operation == Operation::Open
                || (*operation == Operation::StartPipeline && last.as_ref().is_some_and(|f| f.kind != FaultKind::Unreachable))
        }
        _ => false,
    };
    let fault = match (error, last) {
        (ClientError::Http { .. } | ClientError::Lost { .. }, Some(last)) => last,
        (ClientError::Fault { fault, .. }, _) => {
            let kind = if fault.code == 5 { FaultKind::Forbidden } else { FaultKind::Protocol };
            Fault::new(kind, error.to_string()).with_code(fault.code.to_string())
        }
        _ => Fault::new(FaultKind::Unreachable, error.to_string()).with_hint("try again"),
    };
    if not_begun || is_read(cmdlet) { fault.into() } else { Ended::OutcomeUnknown(outcome_unknown(cmdlet, &fault.message)) }
}
