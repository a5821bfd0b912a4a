//! The running end of a pipeline: records go out under the caller's preferences, and a stop, a deadline or a failure
//! comes back as the end to unwind to.

use std::sync::Arc;
use std::time::Duration;

use exops_catalogue::BoundCommand;
use exops_psobject::{DateTime, ErrorRecord, InformationRecord, Value};
use exops_runspace::{Ended, Record, RecordStream, Step, StopToken};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::errors::Origin;

/// Records that wait for a slow consumer before the cmdlet waits for it.
const QUEUE: usize = 64;

/// How the run goes on: `Err` unwinds to that end.
pub(crate) type Flow<T = ()> = Result<T, Ended>;

pub(crate) struct Output {
    records: mpsc::Sender<Step>,
    stop: StopToken,
    deadline: Option<Instant>,
    origin: Origin,
    on_error: Preference,
    on_warning: Preference,
}

/// What a record of a stream does. What would ask in the middle of a stream is refused when the parameters are bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preference {
    Continue,
    Silent,
    Stop,
}

impl Preference {
    fn of(command: &BoundCommand, parameter: &str) -> Self {
        let value = command.argument(parameter).map(Value::display).unwrap_or_default();
        match value.to_ascii_lowercase().as_str() {
            "silentlycontinue" | "ignore" | "0" | "4" => Self::Silent,
            "stop" | "1" => Self::Stop,
            _ => Self::Continue,
        }
    }
}

impl Output {
    /// A stream of records and the end that writes it.
    pub(crate) fn open(command: &BoundCommand, origin: Origin, stop: StopToken, limit: Option<Duration>) -> (Self, RecordStream) {
        let (records, mut receiver) = mpsc::channel(QUEUE);
        // A run that broke off (a defect: it panicked) still ends, so that nobody waits for it for ever.
        let mut broken_off = Some(Step::Ended(Ended::Failed(origin.storage(&"it broke off"))));
        let output = Self {
            records,
            stop,
            deadline: limit.and_then(|limit| Instant::now().checked_add(limit)),
            origin,
            on_error: Preference::of(command, "ErrorAction"),
            on_warning: Preference::of(command, "WarningAction"),
        };
        let steps = futures_util::stream::poll_fn(move |context| {
            receiver.poll_recv(context).map(|step| match step {
                Some(end @ Step::Ended(_)) => {
                    broken_off = None;
                    Some(end)
                }
                None => broken_off.take(),
                record => record,
            })
        });
        (output, Box::pin(steps))
    }

    /// What errors of this run name.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Ends the run when it was stopped or its time is over: asked between objects.
    pub(crate) fn check(&self) -> Flow {
        if self.stop.is_stopped() {
            return Err(Ended::Stopped);
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Ended::Failed(self.origin.deadline())),
            _ => Ok(()),
        }
    }

    pub(crate) async fn object(&self, value: Value) -> Flow {
        self.send(Record::Output(value)).await
    }

    /// A non-terminating error, which `-ErrorAction Stop` makes terminating.
    pub(crate) async fn error(&self, record: Box<ErrorRecord>) -> Flow {
        match self.on_error {
            Preference::Stop => Err(Ended::Failed(record)),
            Preference::Silent => Ok(()),
            Preference::Continue => self.send(Record::Error(record)).await,
        }
    }

    /// A warning, which `-WarningAction Stop` makes the end.
    pub(crate) async fn warning(&self, text: impl Into<Arc<str>>) -> Flow {
        match self.on_warning {
            Preference::Stop => Err(Ended::Failed(self.origin.warned(&text.into()))),
            Preference::Silent => Ok(()),
            Preference::Continue => self.send(Record::Warning(text.into())).await,
        }
    }

    /// A line for the host, as `What if:` lines are.
    pub(crate) async fn host_line(&self, text: String) -> Flow {
        let record = InformationRecord {
            message: text.into(),
            source: self.origin.cmdlet.as_str().into(),
            time: DateTime::from_unix_milliseconds(self.origin.time),
            tags: vec!["PSHOST".into()],
        };
        self.send(Record::Information(Box::new(record))).await
    }

    /// Sends a record. A consumer that is gone stops the run at its next record.
    async fn send(&self, record: Record) -> Flow {
        self.check()?;
        let late = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            sent = self.records.send(Step::Record(record)) => sent.map_err(|_| Ended::Stopped),
            () = self.stop.stopped() => Err(Ended::Stopped),
            () = late => Err(Ended::Failed(self.origin.deadline())),
        }
    }

    /// The last item.
    pub(crate) async fn end(self, end: Ended) {
        let _ = self.records.send(Step::Ended(end)).await;
    }
}
