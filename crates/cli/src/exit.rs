//! Exit codes: one table, read off how things ended.

use exops_catalogue::Catalogue;
use exops_client::{CERTIFICATE_EXPIRED, CERTIFICATE_NOT_YET_VALID};
use exops_lab::LabError;
use exops_psobject::{ErrorCategory, ErrorRecord};
use exops_runspace::{Fault, FaultKind};

/// Code of a fault about a thumbprint that no store holds.
pub(crate) const NOT_IN_STORE: &str = "CertificateNotInStore";

/// What the process tells its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All well.
    Ok = 0,
    /// Unexpected; port or data folder taken.
    Unexpected = 1,
    /// Usage; a cmdlet or parameter that nobody knows.
    Usage = 2,
    /// At least one error of a cmdlet.
    Cmdlet = 3,
    /// Sign-in or credential.
    SignIn = 4,
    /// A known cmdlet or parameter, refused to this caller.
    Refused = 5,
    /// Throttled, and gave up.
    Throttled = 6,
    /// Not reached: lab not running, CA not trusted.
    Network = 8,
    /// Certificate expired, not yet valid, or in no store.
    Certificate = 9,
    /// Nobody can tell whether a write was carried out.
    OutcomeUnknown = 10,
    /// Interrupted.
    Interrupted = 130,
    /// Standard output was closed.
    OutputClosed = 141,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// Of a failure outside any cmdlet.
    pub(crate) fn of_fault(fault: &Fault) -> Self {
        match (fault.code.as_str(), fault.kind) {
            (CERTIFICATE_EXPIRED | CERTIFICATE_NOT_YET_VALID | NOT_IN_STORE, _) => Self::Certificate,
            ("Request_ResourceNotFound", _) => Self::Cmdlet,
            (_, FaultKind::SignIn) => Self::SignIn,
            (_, FaultKind::Forbidden) => Self::Refused,
            (_, FaultKind::Unreachable) => Self::Network,
            (_, FaultKind::Throttled(_)) => Self::Throttled,
            _ => Self::Unexpected,
        }
    }

    /// Of a lab that does not start or is not there.
    pub(crate) fn of_lab(error: &LabError) -> Self {
        match error {
            LabError::NotRunning { .. } => Self::Network,
            LabError::BadValue { .. } | LabError::OtherOrganization { .. } => Self::Usage,
            _ => Self::Unexpected,
        }
    }

    /// Of an error record of one command. `parameters` are the names that were sent.
    ///
    /// A cmdlet or parameter that the far end does not have is a matter of usage when the built-in catalogue has none
    /// such either; otherwise it exists and this caller does not get it.
    pub(crate) fn of_record(record: &ErrorRecord, cmdlet: &str, parameters: &[String]) -> Self {
        let id = bare_id(&record.fully_qualified_error_id);
        let exception = record.exception_type();
        let known = Catalogue::built_in().cmdlet(cmdlet).cloned();
        if id == "CommandNotFoundException"
            || exception.ends_with("CommandNotFoundException")
            || record.category == ErrorCategory::PermissionDenied
        {
            return if known.is_some() { Self::Refused } else { Self::Usage };
        }
        let no_such_parameter = id == "NamedParameterNotFound" || record.message.contains("Invalid cmdlet parameters specified");
        if no_such_parameter {
            let knows = |name: &String| known.as_ref().is_some_and(|c| crate::words::parameter(c, name).is_some());
            return if parameters.iter().all(knows) { Self::Refused } else { Self::Usage };
        }
        if is_not_served(record) {
            return Self::Refused;
        }
        match id {
            "PositionalParameterNotFound"
            | "AmbiguousParameter"
            | "AmbiguousParameterSet"
            | "MissingMandatoryParameter"
            | "MissingArgument"
            | "ParameterAlreadyBound"
            // A question where nobody can answer: the command line must say the answer.
            | "HostFunctionNotImplemented" => Self::Usage,
            _ => Self::Cmdlet,
        }
    }
}

/// An error id without what Exchange puts in front (`[Server=…] [FailureCategory=…] `) and PowerShell behind (`,<cmdlet>`).
fn bare_id(id: &str) -> &str {
    let id = if id.starts_with('[') { id.rsplit("] ").next().unwrap_or_default() } else { id };
    id.split(',').next().unwrap_or_default()
}

/// Whether the far end knows the cmdlet and parameter and does not serve them.
pub(crate) fn is_not_served(record: &ErrorRecord) -> bool {
    record.exception_type() == "System.NotSupportedException"
}
