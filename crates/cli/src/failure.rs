//! What went wrong, and its one renderer.

use std::io::Write as _;
use std::time::Duration;

use exops_lab::LabError;
use exops_psobject::{ErrorCategory, ErrorRecord};
use exops_runspace::{Fault, FaultKind};
use serde_json::{Map, Value as Json, json};

use crate::exit::Exit;
use crate::output::{printable, without_tokens};

/// A failure as a person or a program is told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failure {
    pub exit: Option<Exit>,
    pub code: String,
    pub message: String,
    pub hint: String,
    pub category: String,
    pub cmdlet: String,
    pub target: String,
    pub request_id: Option<String>,
    pub client_request_id: Option<String>,
    pub retry_after: Option<Duration>,
    pub retryable: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit: Some(exit), message: message.into(), ..Self::default() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: "Usage".to_owned(), ..Self::new(Exit::Usage, message) }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Of an error record; `exit` from [`Exit::of_record`].
    pub(crate) fn of_record(record: &ErrorRecord, exit: Exit) -> Self {
        let text = record.details_message.as_deref().unwrap_or(&record.message);
        let activity = &*record.activity;
        let message = if activity.is_empty() || text.contains(activity) { text.to_owned() } else { format!("{activity}: {text}") };
        let code = record.string_id.as_deref().filter(|s| !s.is_empty()).unwrap_or(&record.reason);
        Self {
            code: code.to_owned(),
            hint: record.recommended_action.as_deref().unwrap_or_default().to_owned(),
            category: record.category.name(),
            cmdlet: activity.to_owned(),
            target: record.target_name.to_string(),
            retryable: matches!(
                record.category,
                ErrorCategory::ResourceBusy | ErrorCategory::ResourceUnavailable | ErrorCategory::OperationTimeout
            ),
            ..Self::new(exit, message)
        }
    }

    /// Prints it: a JSON object on one line, or text with a hint below.
    pub(crate) fn print(&self, as_json: bool) {
        let mut err = std::io::stderr().lock();
        // Nobody is left to tell when standard error is closed.
        let _ = if as_json { writeln!(err, "{}", self.json()) } else { write!(err, "{}", self.text()) };
    }

    /// `error: …`, then `hint: …` where there is one.
    pub(crate) fn text(&self) -> String {
        let line = |name: &str, text: &str| format!("{name}: {}\n", printable(&without_tokens(text)));
        let mut text = line("error", &self.message);
        if !self.hint.is_empty() {
            text += &line("hint", &self.hint);
        }
        if let Some(id) = &self.request_id {
            text += &line("request id", id);
        }
        text
    }

    /// The JSON error object; members without a value are absent.
    pub(crate) fn json(&self) -> Json {
        let mut error = Map::new();
        let mut text = |name: &str, value: &str| {
            if !value.is_empty() {
                error.insert(name.to_owned(), without_tokens(value).into());
            }
        };
        text("code", &self.code);
        text("message", &self.message);
        text("hint", &self.hint);
        text("category", &self.category);
        text("cmdlet", &self.cmdlet);
        text("target", &self.target);
        text("requestId", self.request_id.as_deref().unwrap_or_default());
        text("clientRequestId", self.client_request_id.as_deref().unwrap_or_default());
        if let Some(after) = self.retry_after {
            error.insert("retryAfter".to_owned(), json!(after.as_secs_f64()));
        }
        error.insert("retryable".to_owned(), self.retryable.into());
        json!({ "error": error })
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let (category, retryable) = match fault.kind {
            FaultKind::SignIn => ("SignIn", false),
            FaultKind::Forbidden => ("Forbidden", false),
            FaultKind::Unreachable => ("Unreachable", true),
            FaultKind::Protocol => ("Protocol", false),
            FaultKind::Throttled(_) => ("Throttled", true),
            _ => ("Internal", false),
        };
        Self {
            exit: Some(Exit::of_fault(&fault)),
            code: fault.code,
            message: fault.message,
            hint: fault.hint,
            category: category.to_owned(),
            request_id: fault.request_id,
            retry_after: if let FaultKind::Throttled(after) = fault.kind { Some(after) } else { None },
            retryable,
            ..Self::default()
        }
    }
}

impl From<LabError> for Failure {
    fn from(error: LabError) -> Self {
        let exit = Exit::of_lab(&error);
        let code = match &error {
            LabError::DataFolderInUse { .. } => "DataFolderInUse",
            LabError::PortTaken { .. } => "PortTaken",
            LabError::NotRunning { .. } => "LabNotRunning",
            _ => "Lab",
        };
        let text = crate::without_os_error(&error.to_string()).replace('`', "'");
        Self { code: code.to_owned(), hint: error.hint().replace('`', "'"), ..Self::new(exit, text) }
    }
}
