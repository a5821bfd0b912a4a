//! What became of a command, as far as this end can tell.

use exops_catalogue::is_read;
use exops_psobject::ErrorRecord;
use exops_remoting::client::{ClientError, Operation};
use exops_remoting::wsman;
use exops_runspace::{Ended, Fault, FaultKind};

use crate::rest::outcome_unknown;

/// Errors that a server makes before it begins: names that do not exist for the caller, values that do not bind.
pub(super) fn was_not_begun(record: &ErrorRecord) -> bool {
    let exception = record.exception_type();
    exception.ends_with("CommandNotFoundException") || exception.contains("ParameterBinding")
}

/// What became of a command whose end will never be known.
pub(super) fn lost(cmdlet: &str, error: &ClientError, last: Option<Fault>) -> Ended {
    let not_begun = match error {
        ClientError::Fault { operation, .. } | ClientError::Http { operation, .. } => {
            matches!(operation, Operation::Open | Operation::StartPipeline)
        }
        ClientError::Redirected { .. } => true,
        ClientError::Lost { operation } | ClientError::Protocol { operation, .. } => {
            *operation == Operation::Open
                || (*operation == Operation::StartPipeline && last.as_ref().is_some_and(|f| f.kind != FaultKind::Unreachable))
        }
        _ => false,
    };
    let fault = session_fault(error, last);
    if not_begun || is_read(cmdlet) { fault.into() } else { Ended::OutcomeUnknown(outcome_unknown(cmdlet, &fault.message)) }
}

/// What the failure of a session means to a person; `last` is what the last exchange was told.
pub(super) fn session_fault(error: &ClientError, last: Option<Fault>) -> Fault {
    match (error, last) {
        (ClientError::Http { .. } | ClientError::Lost { .. } | ClientError::Redirected { .. }, Some(last)) => last,
        (ClientError::Fault { fault, .. }, Some(last)) if is_overload(fault) && matches!(last.kind, FaultKind::Throttled(_)) => last,
        (ClientError::Fault { fault, .. }, _) => {
            let kind = if fault.code == 5 { FaultKind::Forbidden } else { FaultKind::Protocol };
            Fault::new(kind, error.to_string()).with_code(fault.code.to_string())
        }
        _ => Fault::new(FaultKind::Unreachable, error.to_string()).with_hint("try again"),
    }
}

/// The far end was too busy, and the callers do not wait longer.
fn is_overload(fault: &wsman::Fault) -> bool {
    matches!(fault.code, wsman::Fault::QUOTA_USER | wsman::Fault::QUOTA_SYSTEM)
}
