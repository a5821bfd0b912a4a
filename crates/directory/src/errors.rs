//! Error records in the form of Exchange's tasks.

use exops_psobject::{ErrorCategory, ErrorRecord};
use uuid::Uuid;

/// What every error of one run of a cmdlet names.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// Cmdlet.
    pub(crate) cmdlet: String,
    /// .NET class of its task.
    pub(crate) task: String,
    /// Host name of the server.
    pub(crate) server: String,
    /// The request.
    pub(crate) request: Uuid,
    /// Unix milliseconds.
    pub(crate) time: i64,
}

const NOT_FOUND: &str = "Microsoft.Exchange.Configuration.Tasks.ManagementObjectNotFoundException";
const AMBIGUOUS: &str = "Microsoft.Exchange.Configuration.Tasks.ManagementObjectAmbiguousException";
const TRANSFORMATION: &str = "System.Management.Automation.ParameterBindingArgumentTransformationException";
const VALIDATION: &str = "Microsoft.Exchange.Data.DataValidationException";
const EXISTS: &str = "Microsoft.Exchange.Data.Directory.ADObjectAlreadyExistsException";
const PROXY_TAKEN: &str = "Microsoft.Exchange.Data.ProxyAddressExistsException";
const FOREIGN_DOMAIN: &str = "Microsoft.Exchange.Configuration.ObjectModel.NotAcceptedDomainException";
const UNASKED: &str = "System.Management.Automation.Host.HostException";
const DENIED: &str = "Microsoft.Exchange.Configuration.Authorization.CmdletAccessDeniedException";
const MEMBER_EXISTS: &str = "Microsoft.Exchange.Management.RecipientTasks.MemberAlreadyExistsException";
const MEMBER_NOT_FOUND: &str = "Microsoft.Exchange.Management.RecipientTasks.MemberNotFoundException";
const NOT_A_MANAGER: &str = "Microsoft.Exchange.Management.RecipientTasks.OperationRequiresGroupManagerException";
const WRONG_RECIPIENT: &str = "Microsoft.Exchange.Configuration.Tasks.RecipientTaskException";
const STORAGE: &str = "Microsoft.Exchange.Data.Directory.ADTransientException";
const STOPPED_BY_PREFERENCE: &str = "System.Management.Automation.ActionPreferenceStopException";

impl Origin {
    /// An identity that leads to nothing, or to nothing of the right kind.
    pub(crate) fn not_found(&self, identity: &str) -> Box<ErrorRecord> {
        let text = format!("The operation couldn't be performed because object '{identity}' couldn't be found on '{}'.", self.server);
        self.task_error(NOT_FOUND, text, ErrorCategory::NotSpecified, Some("Ex6F9304"))
    }

    /// An identity that leads to several objects.
    pub(crate) fn ambiguous(&self, identity: &str) -> Box<ErrorRecord> {
        let text = format!("The operation couldn't be performed because '{identity}' matches multiple entries.");
        self.task_error(AMBIGUOUS, text, ErrorCategory::NotSpecified, Some("Ex9E65A2"))
    }

    /// A value that does not become what the parameter takes.
    pub(crate) fn conversion(&self, parameter: &str, value: &str, to: &str, reason: &str) -> Box<ErrorRecord> {
        let text = format!(
            "Cannot process argument transformation on parameter '{parameter}'. Cannot convert value \"{value}\" to type \"{to}\". {reason}"
        );
        let id = format!("ParameterArgumentTransformationError,{}", self.cmdlet);
        Box::new(ErrorRecord {
            activity: self.cmdlet.as_str().into(),
            ..ErrorRecord::new(TRANSFORMATION, text, ErrorCategory::InvalidData, &id)
        })
    }

    /// Values that do not go together on one object.
    pub(crate) fn validation(&self, text: String) -> Box<ErrorRecord> {
        self.task_error(VALIDATION, text, ErrorCategory::InvalidData, None)
    }

    /// A name that another object of the same organisational unit has.
    pub(crate) fn exists(&self, object: &str) -> Box<ErrorRecord> {
        let text = format!("The object \"{object}\" already exists on '{}'. Choose another name.", self.server);
        self.task_error(EXISTS, text, ErrorCategory::NotSpecified, None)
    }

    /// An address that another object of the organisation has.
    pub(crate) fn proxy_taken(&self, address: &str, owner: &str) -> Box<ErrorRecord> {
        let text = format!(
            "The proxy address \"{address}\" is already being used by the proxy addresses or LegacyExchangeDN of \"{owner}\". \
             Choose another proxy address."
        );
        self.task_error(PROXY_TAKEN, text, ErrorCategory::NotSpecified, None)
    }

    /// An address in a domain that is not the organisation's.
    pub(crate) fn foreign_domain(&self, domain: &str, address: &str, recipient: &str) -> Box<ErrorRecord> {
        let text = format!(
            "The domain \"{domain}\" of the address \"{address}\" for \"{recipient}\" can't be used: it's not an accepted domain for \
             your organization. Get-AcceptedDomain lists those that are."
        );
        self.task_error(FOREIGN_DOMAIN, text, ErrorCategory::NotSpecified, None)
    }

    /// A filter that is not understood or names what cannot be filtered on.
    pub(crate) fn filter(&self, filter: &str, reason: &str) -> Box<ErrorRecord> {
        let text = format!("Cannot bind parameter 'Filter' to the target. The filter \"{filter}\" is not valid: {reason}");
        let id = format!("ParameterBindingFailed,{}", self.cmdlet);
        let kind = "System.Management.Automation.ParameterBindingException";
        Box::new(ErrorRecord { activity: self.cmdlet.as_str().into(), ..ErrorRecord::new(kind, text, ErrorCategory::InvalidArgument, &id) })
    }

    /// A parameter that exists and is not carried out here.
    pub(crate) fn not_served(&self, parameter: &str) -> Box<ErrorRecord> {
        let text = format!(
            "The parameter '{parameter}' of '{}' is not served by this organisation. Nothing was carried out. Leave it out to run the command.",
            self.cmdlet
        );
        self.task_error("System.NotSupportedException", text, ErrorCategory::NotImplemented, None)
    }

    /// A command that this organisation does not have, or a pipeline that it does not run.
    pub(crate) fn not_supported(&self, text: String) -> Box<ErrorRecord> {
        self.task_error("System.NotSupportedException", text, ErrorCategory::NotImplemented, None)
    }

    /// No permit, or one for something else.
    pub(crate) fn denied(&self, text: String) -> Box<ErrorRecord> {
        self.task_error(DENIED, text, ErrorCategory::PermissionDenied, None)
    }

    /// A recipient that is in the group already.
    pub(crate) fn member_exists(&self, member: &str, group: &str) -> Box<ErrorRecord> {
        let text = format!("The recipient \"{member}\" is already a member of the group \"{group}\".");
        self.task_error(MEMBER_EXISTS, text, ErrorCategory::NotSpecified, None)
    }

    /// A recipient that is not in the group.
    pub(crate) fn member_not_found(&self, member: &str, group: &str) -> Box<ErrorRecord> {
        let text = format!("The recipient \"{member}\" isn't a member of the group \"{group}\".");
        self.task_error(MEMBER_NOT_FOUND, text, ErrorCategory::NotSpecified, None)
    }

    /// A recipient of a kind that cannot be named there.
    pub(crate) fn wrong_recipient(&self, name: &str, kind: &str, instead: &str) -> Box<ErrorRecord> {
        let text = format!("\"{name}\" is a {kind}. Only {instead} can be named here.");
        self.task_error(WRONG_RECIPIENT, text, ErrorCategory::InvalidArgument, None)
    }

    /// A group of which the caller is no owner.
    pub(crate) fn not_a_manager(&self) -> Box<ErrorRecord> {
        let text = "You don't have sufficient permissions. This operation can only be performed by a manager of the group. \
                    -BypassSecurityGroupManagerCheck leaves the check out."
            .to_owned();
        self.task_error(NOT_A_MANAGER, text, ErrorCategory::PermissionDenied, None)
    }

    /// An object that the caller may not change.
    pub(crate) fn out_of_scope(&self, kind: &str, name: &str) -> Box<ErrorRecord> {
        let text = format!(
            "The operation on {} \"{name}\" failed because it's out of the current user's write scope. The object must be within the \
             scope before and after the operation.",
            kind.to_lowercase()
        );
        self.task_error("System.InvalidOperationException", text, ErrorCategory::PermissionDenied, None)
    }

    /// A warning where `-WarningAction Stop` makes it the end.
    pub(crate) fn warned(&self, warning: &str) -> Box<ErrorRecord> {
        let text = format!(
            "The running command stopped because the preference variable \"WarningPreference\" or common parameter is set to Stop: {warning}"
        );
        let id = format!("ActionPreferenceStop,{}", self.task);
        Box::new(ErrorRecord {
            activity: self.cmdlet.as_str().into(),
            ..ErrorRecord::new(STOPPED_BY_PREFERENCE, text, ErrorCategory::OperationStopped, &id)
        })
    }

    /// The time that the caller gave is over.
    pub(crate) fn deadline(&self) -> Box<ErrorRecord> {
        let text = format!("'{}' did not end within the time given; what it had not written yet is missing.", self.cmdlet);
        self.task_error("System.TimeoutException", text, ErrorCategory::OperationTimeout, None)
    }

    /// A question that nobody answers.
    pub(crate) fn unanswered(&self, question: &str, reason: &str) -> Box<ErrorRecord> {
        let text = format!("'{}' asks \"{question}\" and {reason}. Use -Confirm:$false to run it without the question.", self.cmdlet);
        let mut record = self.task_error(UNASKED, text, ErrorCategory::InvalidOperation, None);
        // PowerShell's own id where a host cannot be asked.
        record.fully_qualified_error_id = "HostFunctionNotImplemented".into();
        record
    }

    /// The store failed.
    pub(crate) fn storage(&self, reason: &dyn std::fmt::Display) -> Box<ErrorRecord> {
        self.task_error(
            STORAGE,
            format!("The directory could not carry out '{}': {reason}", self.cmdlet),
            ErrorCategory::ResourceUnavailable,
            None,
        )
    }

    /// `string_id` of the text where Exchange's is known; else one of our own, stable for a task and exception.
    fn task_error(&self, exception: &str, text: String, category: ErrorCategory, string_id: Option<&str>) -> Box<ErrorRecord> {
        let key = fnv(&format!("{}:{exception}", self.task));
        let reason = exception.rsplit('.').next().unwrap_or(exception);
        let server = self.server.split('.').next().unwrap_or_default().to_uppercase();
        let id = format!(
            "[Server={server},RequestId={},TimeStamp={}] [FailureCategory=Cmdlet-{reason}] {key:08X},{}",
            self.request,
            culture_date(self.time),
            self.task
        );
        let mut record = Box::new(ErrorRecord::new(exception, text, category, &id));
        record.activity = self.cmdlet.as_str().into();
        // Exceptions that are not Exchange's own have none.
        if exception.starts_with("Microsoft.Exchange.") {
            record.string_id = Some(string_id.map_or_else(|| format!("Ex{:06X}", key & 0xFF_FFFF), str::to_owned).into());
        }
        record
    }
}

/// FNV-1a: small, and the same in every build.
fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// A time as the en-US culture writes it, as recorded error ids have it.
fn culture_date(milliseconds: i64) -> String {
    let time = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::from_millisecond(milliseconds).unwrap_or_default());
    time.strftime("%-m/%-d/%Y %-I:%M:%S %p").to_string()
}
