//! Records of the streams beside output, to and from CLIXML.

use std::sync::Arc;

use exops_psobject::{
    DateTime, DateTimeKind, ErrorCategory, ErrorRecord, InformationRecord, ProgressRecord, ProgressType, PsObject, Value,
};

use crate::MessageType;
use crate::notes::{adapted, array_list, enumeration, notes, object, optional_text, text, types};

/// `COR_E_EXCEPTION`'s relative that every exception without an own number has.
const HRESULT: i32 = -2_146_233_087;

fn string(value: &Arc<str>) -> Value {
    Value::String(Arc::clone(value))
}

/// An error record as it travels: all ten properties that PowerShell's client insists on are there, with nulls where
/// it allows them.
#[must_use]
pub fn error_to_value(record: &ErrorRecord) -> Value {
    let exception = PsObject {
        type_names: record.exception_types.iter().cloned().collect(),
        to_string: Some(format!("{}: {}", record.exception_type(), record.message).into()),
        adapted: adapted([
            ("Message", string(&record.message)),
            ("Data", Value::Null),
            ("HelpLink", Value::Null),
            ("HResult", HRESULT.into()),
            ("InnerException", Value::Null),
            ("Source", Value::Null),
            ("StackTrace", Value::Null),
            ("TargetSite", Value::Null),
        ]),
        ..PsObject::default()
    };
    let category =
        format!("{}: ({}:{}) [{}], {}", record.category.name(), record.target_name, record.target_type, record.activity, record.reason);
    let mut content = notes([
        ("Exception", exception.into()),
        ("TargetObject", record.target_object.clone()),
        ("FullyQualifiedErrorId", string(&record.fully_qualified_error_id)),
        ("InvocationInfo", Value::Null),
        ("ErrorCategory_Category", record.category.number().into()),
        ("ErrorCategory_Activity", string(&record.activity)),
        ("ErrorCategory_Reason", string(&record.reason)),
        ("ErrorCategory_TargetName", string(&record.target_name)),
        ("ErrorCategory_TargetType", string(&record.target_type)),
        ("ErrorCategory_Message", category.into()),
    ]);
    if record.details_message.is_some() || record.recommended_action.is_some() {
        content.extended.push("ErrorDetails_Message", optional_text(record.details_message.as_ref()));
        content.extended.push("ErrorDetails_RecommendedAction", optional_text(record.recommended_action.as_ref()));
    }
    content.extended.push("SerializeExtendedInfo", false);
    content.type_names = types(&["System.Management.Automation.ErrorRecord", "System.Object"]);
    content.to_string = Some(Arc::clone(record.details_message.as_ref().unwrap_or(&record.message)));
    content.into()
}

/// Reads an error record of any server. Whatever is missing stays empty; the message falls back to the record's own
/// string form.
#[must_use]
pub fn error_from_value(value: &Value) -> ErrorRecord {
    let Some(record) = value.as_object() else {
        return ErrorRecord::new("System.Management.Automation.RemoteException", value.display(), ErrorCategory::NotSpecified, "");
    };
    let field = |name: &str| record.property(name).filter(|v| !v.is_null());
    let text = |name: &str| field(name).map(|v| Arc::from(v.display())).unwrap_or_default();
    let exception = field("Exception").and_then(Value::as_object);
    let exception_types: Vec<Arc<str>> = exception
        .map(|e| e.type_names.iter().map(|n| Arc::from(n.strip_prefix("Deserialized.").unwrap_or(n))).collect())
        .unwrap_or_default();
    let message = exception.and_then(|e| e.property("Message")).filter(|m| !m.is_null()).map(Value::display);
    let mut reason: Arc<str> = text("ErrorCategory_Reason");
    if reason.is_empty() {
        reason = exception_types.first().and_then(|t| t.rsplit('.').next()).unwrap_or_default().into();
    }
    ErrorRecord {
        message: message.or_else(|| exception.map(|e| e.display())).filter(|m| !m.is_empty()).unwrap_or_else(|| record.display()).into(),
        exception_types,
        fully_qualified_error_id: text("FullyQualifiedErrorId"),
        category: ErrorCategory::from_number(field("ErrorCategory_Category").and_then(Value::as_i64).unwrap_or(0)),
        activity: text("ErrorCategory_Activity"),
        reason,
        target_name: text("ErrorCategory_TargetName"),
        target_type: text("ErrorCategory_TargetType"),
        target_object: field("TargetObject").cloned().unwrap_or_default(),
        details_message: field("ErrorDetails_Message").map(|v| v.display().into()),
        recommended_action: field("ErrorDetails_RecommendedAction").map(|v| v.display().into()),
        string_id: None,
    }
}

/// A warning, verbose or debug record.
pub(crate) fn informational(kind: MessageType, message: &str) -> Value {
    let own = match kind {
        MessageType::VerboseRecord => "System.Management.Automation.VerboseRecord",
        MessageType::DebugRecord => "System.Management.Automation.DebugRecord",
        _ => "System.Management.Automation.WarningRecord",
    };
    PsObject {
        type_names: types(&[own, "System.Management.Automation.InformationalRecord", "System.Object"]),
        to_string: Some(message.into()),
        ..notes([("InformationalRecord_Message", text(message)), ("InformationalRecord_SerializeInvocationInfo", false.into())])
    }
    .into()
}

pub(crate) fn informational_text(value: &Value) -> Arc<str> {
    let message = value.as_object().and_then(|o| o.property("InformationalRecord_Message")).unwrap_or(value);
    message.display().into()
}

pub(crate) fn information_to_value(record: &InformationRecord) -> Value {
    object([
        ("MessageData", record.message.clone()),
        ("Source", string(&record.source)),
        ("TimeGenerated", record.time.into()),
        ("Tags", array_list(record.tags.iter().map(string).collect())),
        ("User", text("")),
        ("Computer", text("")),
        ("ProcessId", Value::U32(0)),
        ("NativeThreadId", Value::U32(0)),
        ("ManagedThreadId", Value::U32(0)),
    ])
}

pub(crate) fn information_from_value(value: &Value) -> InformationRecord {
    let field = |name: &str| value.as_object().and_then(|o| o.property(name)).filter(|v| !v.is_null());
    let time = match field("TimeGenerated") {
        Some(Value::DateTime(time)) => Some(*time),
        _ => DateTime::from_ticks(0, DateTimeKind::Unspecified),
    };
    InformationRecord {
        message: field("MessageData").cloned().unwrap_or_default(),
        source: field("Source").map(|v| v.display().into()).unwrap_or_default(),
        time: time.unwrap_or_else(|| DateTime::from_unix_milliseconds(0)),
        tags: field("Tags").and_then(Value::as_list).unwrap_or_default().iter().map(|t| t.display().into()).collect(),
    }
}

pub(crate) fn progress_to_value(record: &ProgressRecord) -> Value {
    let (member, number) = match record.kind {
        ProgressType::Processing => ("Processing", 0),
        ProgressType::Completed => ("Completed", 1),
    };
    let operation = if record.current_operation.is_empty() { Value::Null } else { string(&record.current_operation) };
    object([
        ("Activity", string(&record.activity)),
        ("ActivityId", record.activity_id.into()),
        ("StatusDescription", string(&record.status)),
        ("CurrentOperation", operation),
        ("ParentActivityId", record.parent_activity_id.into()),
        ("PercentComplete", record.percent_complete.into()),
        ("Type", enumeration("System.Management.Automation.ProgressRecordType", member, number)),
        ("SecondsRemaining", record.seconds_remaining.into()),
    ])
}

pub(crate) fn progress_from_value(value: &Value) -> ProgressRecord {
    let field = |name: &str| value.as_object().and_then(|o| o.property(name)).filter(|v| !v.is_null());
    let text = |name: &str| field(name).map(|v| v.display().into()).unwrap_or_default();
    let number = |name: &str, absent: i32| field(name).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok()).unwrap_or(absent);
    ProgressRecord {
        activity: text("Activity"),
        activity_id: number("ActivityId", 0),
        status: text("StatusDescription"),
        current_operation: text("CurrentOperation"),
        parent_activity_id: number("ParentActivityId", -1),
        percent_complete: number("PercentComplete", -1),
        seconds_remaining: number("SecondsRemaining", -1),
        kind: if number("Type", 0) == 1 { ProgressType::Completed } else { ProgressType::Processing },
    }
}
