//! A connection over remote PowerShell as a runspace.

mod driver;
mod exchange;

use std::sync::{Arc, Mutex};

use exops_catalogue::{Catalogue, Stage};
use exops_policy::Caller;
use exops_psrp::{Argument, Command, PipelineRequest};
use exops_runspace::{BoxFuture, Ended, Fault, FaultKind, Invocation, RecordStream, Runspace, ended};
use futures_util::stream;
use tokio::sync::{mpsc, oneshot};

use self::driver::{Order, Started};
use self::exchange::Exchanger;
use crate::{Http, TokenSource, arguments};

/// Records that may wait for the consumer; then the far end is not asked for more.
const WAITING_RECORDS: usize = 64;

/// Runs cmdlets in a remote runspace pool (WS-Management and PSRP). Cheap to clone; clones share the pool.
///
/// The first cmdlet opens the pool. A task of the tokio runtime drives it; it ends with [`Runspace::close`].
#[derive(Debug, Clone)]
pub struct RemotePowerShellConnection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    exchanger: Exchanger,
    /// Orders to the task, once there is one.
    orders: Mutex<Option<mpsc::UnboundedSender<Order>>>,
}

impl RemotePowerShellConnection {
    /// A connection; nothing is sent before the first cmdlet.
    #[must_use]
    pub fn new(http: Http, tokens: TokenSource) -> Self {
        Self(Arc::new(Inner { exchanger: Exchanger::new(http, tokens), orders: Mutex::new(None) }))
    }

    /// Hands an order to the task; starts one where none runs.
    fn order(&self, order: Order) {
        let mut orders = self.0.orders.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let refused = match orders.as_ref() {
            None => order,
            Some(sender) => match sender.send(order) {
                Ok(()) => return,
                // The task ended with its session: the next cmdlet opens another.
                Err(returned) => returned.0,
            },
        };
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(driver::drive(self.0.exchanger.clone(), receiver));
        if sender.send(refused).is_ok() {
            *orders = Some(sender);
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
        let (sender, receiver) = mpsc::channel(WAITING_RECORDS);
        let started = Started {
            cmdlet: command.name.clone(),
            request: PipelineRequest { no_input: invocation.input.is_empty(), ..PipelineRequest::from(command) },
            input: invocation.input.clone(),
            host: invocation.host.clone(),
            stop: invocation.stop.clone(),
            deadline: invocation.deadline,
            steps: sender,
        };
        self.order(Order::Start(Box::new(started)));
        let records = stream::unfold((receiver, false), |(mut receiver, over)| async move {
            if over {
                return None;
            }
            let step = receiver.recv().await.unwrap_or_else(|| {
                exops_runspace::Step::Ended(Ended::Unreachable(Fault::new(FaultKind::Internal, "the task of the session ended early")))
            });
            let over = matches!(step, exops_runspace::Step::Ended(_));
            Some((step, (receiver, over)))
        });
        arguments::with_local_stages(Box::pin(records), &invocation)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let sender = self.0.orders.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            let (done, closed) = oneshot::channel();
            if let Some(sender) = sender
                && sender.send(Order::Close(done)).is_ok()
            {
                // An error means that the session had ended already.
                let _ = closed.await;
            }
        })
    }
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
