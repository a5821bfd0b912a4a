use exops_psobject::{ErrorCategory, ErrorRecord, InformationRecord, ProgressRecord, Value};

use crate::notes::{exception, notes};
use crate::record::error_to_value;

/// States of a runspace pool (MS-PSRP 2.2.3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
#[allow(missing_docs, reason = "the names are those of the specification")]
pub enum PoolState {
    BeforeOpen = 0,
    Opening = 1,
    Opened = 2,
    Closed = 3,
    Closing = 4,
    Broken = 5,
}

impl PoolState {
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        [Self::BeforeOpen, Self::Opening, Self::Opened, Self::Closed, Self::Closing, Self::Broken]
            .into_iter()
            .find(|s| i64::from(*s as i32) == number)
    }

    pub(crate) fn to_value(self, error: Option<&ErrorRecord>) -> Value {
        state_message("RunspaceState", self as i32, error)
    }
}

/// States of a pipeline (MS-PSRP 2.2.3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
#[allow(missing_docs, reason = "the names are those of the specification")]
pub enum PipelineState {
    NotStarted = 0,
    Running = 1,
    Stopping = 2,
    Stopped = 3,
    Completed = 4,
    Failed = 5,
    Disconnected = 6,
}

/// How a pipeline ended. There is exactly one end.
#[derive(Debug, Clone, PartialEq)]
pub enum PipelineEnd {
    /// Ran to its end; errors on the way were records.
    Completed,
    /// A terminating error.
    Failed(Box<ErrorRecord>),
    /// Stopped on request.
    Stopped,
}

impl PipelineEnd {
    pub(crate) fn to_value(&self) -> Value {
        match self {
            Self::Completed => state_message("PipelineState", PipelineState::Completed as i32, None),
            Self::Failed(record) => state_message("PipelineState", PipelineState::Failed as i32, Some(record)),
            Self::Stopped => {
                let record = ErrorRecord::new(
                    "System.Management.Automation.PipelineStoppedException",
                    "The pipeline has been stopped.",
                    ErrorCategory::OperationStopped,
                    "PipelineStopped",
                );
                state_message("PipelineState", PipelineState::Stopped as i32, Some(&record))
            }
        }
    }

    /// The end that a PIPELINE_STATE tells; `None` for states on the way, which some servers send.
    pub(crate) fn from_value(number: i64, value: &Value) -> Option<Self> {
        if number == i64::from(PipelineState::Completed as i32) {
            Some(Self::Completed)
        } else if number == i64::from(PipelineState::Stopped as i32) {
            Some(Self::Stopped)
        } else if number == i64::from(PipelineState::Failed as i32) {
            let record = exception(value).unwrap_or_else(|| {
                ErrorRecord::new(
                    "System.Management.Automation.RemoteException",
                    "The pipeline failed; the server sent no reason.",
                    ErrorCategory::NotSpecified,
                    "RemotePipelineFailed",
                )
            });
            Some(Self::Failed(Box::new(record)))
        } else {
            None
        }
    }
}

fn state_message(property: &str, state: i32, error: Option<&ErrorRecord>) -> Value {
    let mut content = notes([(property, state.into())]);
    if let Some(record) = error {
        content.extended.push("ExceptionAsErrorRecord", error_to_value(record));
    }
    content.into()
}

/// One item that a pipeline writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Output<'a> {
    /// An output object.
    Object(&'a Value),
    /// A non-terminating error.
    Error(&'a ErrorRecord),
    /// A warning's text.
    Warning(&'a str),
    /// Verbose text.
    Verbose(&'a str),
    /// Debug text.
    Debug(&'a str),
    /// An information record.
    Information(&'a InformationRecord),
    /// Progress.
    Progress(&'a ProgressRecord),
}
