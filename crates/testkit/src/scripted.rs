//! A runspace that answers from a table.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use exops_catalogue::{Catalogue, Cmdlet, Stage};
use exops_policy::Caller;
use exops_psobject::{ErrorCategory, ErrorRecord, Value};
use exops_runspace::{BoxFuture, Ended, Fault, FaultKind, Invocation, Record, RecordStream, Runspace, Step, StopToken, ended};
use futures_core::Stream;

/// One thing that a scripted cmdlet does.
#[derive(Debug, Clone)]
pub enum Act {
    /// Writes a record.
    Write(Record),
    /// Writes the same record that many times, one a poll.
    Flood(Record, u64),
    /// Waits until the token is stopped. The script of a test opens the gate, or the invocation's own stop ends the wait.
    WaitFor(StopToken),
    /// Waits for ever: only the invocation's own stop ends it.
    Hang,
    /// Ends so. Without it a script ends as [`Ended::Completed`].
    End(Ended),
}

impl Act {
    /// Writes an output object.
    #[must_use]
    pub fn output(value: impl Into<Value>) -> Self {
        Self::Write(Record::Output(value.into()))
    }

    /// Writes a warning.
    #[must_use]
    pub fn warning(text: &str) -> Self {
        Self::Write(Record::Warning(text.into()))
    }

    /// Writes a non-terminating "not found" error, as Exchange words it.
    #[must_use]
    pub fn not_found(identity: &str) -> Self {
        let message = format!("The operation couldn't be performed because object '{identity}' couldn't be found on 'testkit'.");
        let kind = "Microsoft.Exchange.Configuration.Tasks.ManagementObjectNotFoundException";
        Self::Write(Record::Error(Box::new(ErrorRecord {
            string_id: Some("Ex6F9304".into()),
            target_name: identity.into(),
            ..ErrorRecord::new(kind, message, ErrorCategory::NotSpecified, "0,GetMailbox")
        })))
    }
}

/// What a cmdlet does, made anew for each invocation.
pub type Script = Box<dyn Fn(&Invocation) -> RecordStream + Send + Sync>;

/// Answers each cmdlet of its catalogue with a script and remembers what it was asked.
///
/// A stop ends a script as [`Ended::Stopped`] before its next act. It has no access control: it shows every caller the same
/// catalogue and looks at no permit.
#[derive(Default)]
pub struct ScriptedRunspace {
    catalogue: Arc<Catalogue>,
    scripts: BTreeMap<String, Script>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    invocations: Vec<Invocation>,
    closed: bool,
}

impl ScriptedRunspace {
    /// A runspace of these cmdlets with what each does, whatever it is asked.
    #[must_use]
    pub fn new(scripts: impl IntoIterator<Item = (Arc<Cmdlet>, Vec<Act>)>) -> Self {
        Self::of_scripts(scripts.into_iter().map(|(cmdlet, acts)| {
            let script: Script = Box::new(move |invocation| {
                Box::pin(Play { acts: acts.iter().cloned().collect(), stop: invocation.stop.clone(), over: false })
            });
            (cmdlet, script)
        }))
    }

    /// A runspace of these cmdlets whose scripts look at what they are asked.
    #[must_use]
    pub fn of_scripts(scripts: impl IntoIterator<Item = (Arc<Cmdlet>, Script)>) -> Self {
        let (cmdlets, scripts): (Vec<_>, BTreeMap<_, _>) =
            scripts.into_iter().map(|(cmdlet, script)| (cmdlet.clone(), (cmdlet.name.to_ascii_lowercase(), script))).unzip();
        Self { catalogue: Arc::new(Catalogue::new(cmdlets)), scripts, state: Mutex::default() }
    }

    /// What it was asked to run so far.
    #[must_use]
    pub fn invocations(&self) -> Vec<Invocation> {
        self.lock().invocations.clone()
    }

    /// Whether somebody closed it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runspace for ScriptedRunspace {
    fn catalogue<'a>(&'a self, _: &'a Caller) -> BoxFuture<'a, Result<Arc<Catalogue>, Fault>> {
        Box::pin(std::future::ready(Ok(self.catalogue.clone())))
    }

    fn invoke(&self, invocation: Invocation) -> RecordStream {
        let mut state = self.lock();
        if state.closed {
            return ended(Ended::Unreachable(Fault::new(FaultKind::Unreachable, "the scripted runspace is closed")));
        }
        let script = match invocation.pipeline.stages.first() {
            Some(Stage::Cmdlet(command)) => self.scripts.get(&command.cmdlet.name.to_ascii_lowercase()),
            _ => None,
        };
        let stop = invocation.stop.clone();
        let stages = invocation.pipeline.stages.get(1..).unwrap_or_default().to_vec();
        let records = script.map(|script| script(&invocation));
        state.invocations.push(invocation);
        let Some(records) = records else {
            let text = "the scripted runspace has no script for this pipeline";
            return ended(Ended::Refused(Box::new(ErrorRecord::new(
                "System.Management.Automation.CommandNotFoundException",
                text,
                ErrorCategory::ObjectNotFound,
                "CommandNotFoundException",
            ))));
        };
        exops_runspace::run_local_stages(records, &stages, &stop)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.lock().closed = true;
        Box::pin(std::future::ready(()))
    }
}

struct Play {
    acts: VecDeque<Act>,
    stop: StopToken,
    over: bool,
}

impl Stream for Play {
    type Item = Step;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Step>> {
        let play = &mut *self;
        if play.over {
            return Poll::Ready(None);
        }
        if play.stop.poll_stopped(context).is_ready() {
            play.acts.clear();
            play.acts.push_front(Act::End(Ended::Stopped));
        }
        loop {
            let step = match play.acts.pop_front() {
                Some(Act::Write(record)) => Step::Record(record),
                Some(Act::Flood(_, 0)) => continue,
                Some(Act::Flood(record, count)) => {
                    play.acts.push_front(Act::Flood(record.clone(), count - 1));
                    Step::Record(record)
                }
                Some(Act::WaitFor(gate)) => {
                    if gate.poll_stopped(context).is_ready() {
                        continue;
                    }
                    play.acts.push_front(Act::WaitFor(gate));
                    return Poll::Pending;
                }
                Some(Act::Hang) => {
                    play.acts.push_front(Act::Hang);
                    return Poll::Pending;
                }
                Some(Act::End(end)) => {
                    play.over = true;
                    Step::Ended(end)
                }
                None => {
                    play.over = true;
                    Step::Ended(Ended::Completed)
                }
            };
            return Poll::Ready(Some(step));
        }
    }
}
