use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use exops_psobject::{ErrorRecord, InformationRecord, ProgressRecord, Value};
use futures_core::Stream;

use crate::{Fault, FaultKind};

/// One item of one PowerShell stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// An output object.
    Output(Value),
    /// A non-terminating error.
    Error(Box<ErrorRecord>),
    /// A warning's text.
    Warning(Arc<str>),
    /// Verbose text.
    Verbose(Arc<str>),
    /// Debug text.
    Debug(Arc<str>),
    /// An information record.
    Information(Box<InformationRecord>),
    /// Progress.
    Progress(Box<ProgressRecord>),
}

/// How a pipeline ended. Exit codes, HTTP statuses and PSRP states are read off it, nowhere else.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Ended {
    /// Ran to its end; there may have been errors on the way.
    Completed,
    /// A terminating error.
    Failed(Box<ErrorRecord>),
    /// Stopped on request.
    Stopped,
    /// Not allowed, or not understood, and therefore not begun.
    Refused(Box<ErrorRecord>),
    /// Not begun: come back after that time.
    Throttled(Duration),
    /// Not begun: the token is missing or not accepted.
    SignIn(Fault),
    /// Not begun, or a read that was cut off: the far end is not reached or gave no usable answer.
    Unreachable(Fault),
    /// The connection was lost after a write was sent: nobody can tell whether it was carried out.
    OutcomeUnknown(Fault),
}

/// What a [`RecordStream`] yields.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A record.
    Record(Record),
    /// The last item.
    Ended(Ended),
}

/// Records, then exactly one end.
pub type RecordStream = Pin<Box<dyn Stream<Item = Step> + Send>>;

/// A stream that ends at once.
#[must_use]
pub fn ended(end: Ended) -> RecordStream {
    struct Once(Option<Ended>);
    impl Stream for Once {
        type Item = Step;
        fn poll_next(mut self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<Step>> {
            std::task::Poll::Ready(self.0.take().map(Step::Ended))
        }
    }
    Box::pin(Once(Some(end)))
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        match fault.kind {
            FaultKind::SignIn => Self::SignIn(fault),
            FaultKind::Throttled(after) => Self::Throttled(after),
            _ => Self::Unreachable(fault),
        }
    }
}
