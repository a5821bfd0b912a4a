//! Records of PowerShell's streams other than output.

use std::sync::Arc;

use crate::{DateTime, Value};

/// PowerShell's `ErrorCategory` with its wire number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(i32)]
#[allow(missing_docs, reason = "the names are those of System.Management.Automation.ErrorCategory")]
pub enum ErrorCategory {
    #[default]
    NotSpecified = 0,
    OpenError = 1,
    CloseError = 2,
    DeviceError = 3,
    DeadlockDetected = 4,
    InvalidArgument = 5,
    InvalidData = 6,
    InvalidOperation = 7,
    InvalidResult = 8,
    InvalidType = 9,
    MetadataError = 10,
    NotImplemented = 11,
    NotInstalled = 12,
    ObjectNotFound = 13,
    OperationStopped = 14,
    OperationTimeout = 15,
    SyntaxError = 16,
    ParserError = 17,
    PermissionDenied = 18,
    ResourceBusy = 19,
    ResourceExists = 20,
    ResourceUnavailable = 21,
    ReadError = 22,
    WriteError = 23,
    FromStdErr = 24,
    SecurityError = 25,
    ProtocolError = 26,
    ConnectionError = 27,
    AuthenticationError = 28,
    LimitsExceeded = 29,
    QuotaExceeded = 30,
    NotEnabled = 31,
}

impl ErrorCategory {
    const ALL: [Self; 32] = [
        Self::NotSpecified,
        Self::OpenError,
        Self::CloseError,
        Self::DeviceError,
        Self::DeadlockDetected,
        Self::InvalidArgument,
        Self::InvalidData,
        Self::InvalidOperation,
        Self::InvalidResult,
        Self::InvalidType,
        Self::MetadataError,
        Self::NotImplemented,
        Self::NotInstalled,
        Self::ObjectNotFound,
        Self::OperationStopped,
        Self::OperationTimeout,
        Self::SyntaxError,
        Self::ParserError,
        Self::PermissionDenied,
        Self::ResourceBusy,
        Self::ResourceExists,
        Self::ResourceUnavailable,
        Self::ReadError,
        Self::WriteError,
        Self::FromStdErr,
        Self::SecurityError,
        Self::ProtocolError,
        Self::ConnectionError,
        Self::AuthenticationError,
        Self::LimitsExceeded,
        Self::QuotaExceeded,
        Self::NotEnabled,
    ];

    /// From the wire number; unknown numbers are `NotSpecified`.
    #[must_use]
    pub fn from_number(number: i64) -> Self {
        usize::try_from(number).ok().and_then(|n| Self::ALL.get(n)).copied().unwrap_or_default()
    }

    /// From the member's name without case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name().eq_ignore_ascii_case(name))
    }

    /// The wire number.
    #[must_use]
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The member's name.
    #[must_use]
    pub fn name(self) -> String {
        format!("{self:?}")
    }
}

/// An error record (MS-PSRP 2.2.3.15): what `$_` is in a catch block.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ErrorRecord {
    /// .NET type names of the exception, most derived first, without `Deserialized.`.
    pub exception_types: Vec<Arc<str>>,
    /// The exception's message.
    pub message: Arc<str>,
    /// `FullyQualifiedErrorId`.
    pub fully_qualified_error_id: Arc<str>,
    /// `CategoryInfo.Category`.
    pub category: ErrorCategory,
    /// `CategoryInfo.Activity`: the cmdlet.
    pub activity: Arc<str>,
    /// `CategoryInfo.Reason`: the exception's short type name.
    pub reason: Arc<str>,
    /// `CategoryInfo.TargetName`.
    pub target_name: Arc<str>,
    /// `CategoryInfo.TargetType`.
    pub target_type: Arc<str>,
    /// `TargetObject`.
    pub target_object: Value,
    /// `ErrorDetails.Message`, shown instead of the exception's message.
    pub details_message: Option<Arc<str>>,
    /// `ErrorDetails.RecommendedAction`.
    pub recommended_action: Option<Arc<str>>,
    /// Identifier of the text at the place where it arose (`Ex6F9304` for "not found"); travels over REST only.
    pub string_id: Option<Arc<str>>,
}

/// Exceptions of .NET and PowerShell whose base is not `System.Exception` itself: type, base.
const BASES: [(&str, &str); 15] = [
    (
        "System.Management.Automation.ParameterBindingArgumentTransformationException",
        "System.Management.Automation.ParameterBindingException",
    ),
    ("System.Management.Automation.ParameterBindingValidationException", "System.Management.Automation.ParameterBindingException"),
    ("System.Management.Automation.AmbiguousParameterSetException", "System.Management.Automation.ParameterBindingException"),
    ("System.Management.Automation.ParameterBindingException", "System.Management.Automation.RuntimeException"),
    ("System.Management.Automation.CommandNotFoundException", "System.Management.Automation.RuntimeException"),
    ("System.Management.Automation.ParseException", "System.Management.Automation.RuntimeException"),
    ("System.Management.Automation.PipelineStoppedException", "System.Management.Automation.RuntimeException"),
    ("System.Management.Automation.ActionPreferenceStopException", "System.Management.Automation.RuntimeException"),
    ("System.Management.Automation.Host.HostException", "System.Management.Automation.RuntimeException"),
    ("System.Management.Automation.RuntimeException", "System.SystemException"),
    ("System.Management.Automation.PSNotSupportedException", "System.NotSupportedException"),
    ("System.NotSupportedException", "System.SystemException"),
    ("System.InvalidOperationException", "System.SystemException"),
    ("System.TimeoutException", "System.SystemException"),
    ("System.SystemException", "System.Exception"),
];

/// The base of Exchange's own exceptions.
const LOCALIZED: &str = "Microsoft.Exchange.Data.Common.LocalizedException";

/// An exception's type names, most derived first.
fn chain(exception_type: &str) -> Vec<Arc<str>> {
    let mut types: Vec<Arc<str>> = vec![exception_type.into()];
    if exception_type.starts_with("Microsoft.Exchange.") && exception_type != LOCALIZED {
        types.push(LOCALIZED.into());
    }
    while let Some((_, base)) = types.last().and_then(|last| BASES.iter().find(|(name, _)| **name == **last)) {
        types.push((*base).into());
    }
    let ends = ["System.Exception", "System.Object"].into_iter().filter(|end| types.last().is_none_or(|last| **last != **end));
    let ends: Vec<Arc<str>> = ends.map(Into::into).collect();
    types.extend(ends);
    types
}

impl ErrorRecord {
    /// A record from the exception's most derived type, its message, a category and an error id. Activity,
    /// target and details are left empty; `reason` is the short type name. Base types are added where they are known.
    #[must_use]
    pub fn new(exception_type: &str, message: impl Into<Arc<str>>, category: ErrorCategory, id: &str) -> Self {
        let short = exception_type.rsplit('.').next().unwrap_or(exception_type);
        Self {
            exception_types: chain(exception_type),
            message: message.into(),
            fully_qualified_error_id: id.into(),
            category,
            reason: short.into(),
            ..Self::default()
        }
    }

    /// The exception's most derived type name.
    #[must_use]
    pub fn exception_type(&self) -> &str {
        self.exception_types.first().map_or("System.Exception", |t| t)
    }
}

/// An information record (MS-PSRP 2.2.3.30 in protocol 2.3).
#[derive(Debug, Clone, PartialEq)]
pub struct InformationRecord {
    /// What was written.
    pub message: Value,
    /// The command that wrote it.
    pub source: Arc<str>,
    /// When.
    pub time: DateTime,
    /// Tags, `PSHOST` for `Write-Host`.
    pub tags: Vec<Arc<str>>,
}

impl InformationRecord {
    /// Whether it was written for whoever sits at the host, as `Write-Host` and `-WhatIf` do.
    #[must_use]
    pub fn is_for_host(&self) -> bool {
        self.tags.iter().any(|tag| &**tag == "PSHOST")
    }
}

/// Whether a progress bar goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ProgressType {
    /// Still running.
    #[default]
    Processing,
    /// Done: the bar goes away.
    Completed,
}

/// A progress record (MS-PSRP 2.2.3.28).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressRecord {
    /// What is being done.
    pub activity: Arc<str>,
    /// Distinguishes bars.
    pub activity_id: i32,
    /// What it does just now.
    pub status: Arc<str>,
    /// The item in work.
    pub current_operation: Arc<str>,
    /// The enclosing bar or -1.
    pub parent_activity_id: i32,
    /// 0 to 100 or -1 when unknown.
    pub percent_complete: i32,
    /// Seconds or -1 when unknown.
    pub seconds_remaining: i32,
    /// Goes on or done.
    pub kind: ProgressType,
}
