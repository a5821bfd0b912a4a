use std::sync::Arc;
use std::time::Duration;

use exops_psobject::{ErrorCategory, ErrorRecord, Limits};
use serde_json::{Map, Value as Json, json};
use thiserror::Error;

use crate::{bounded, link};

const NOT_FOUND: &str = "ManagementObjectNotFoundException";
const GENERIC: &str = "Error executing cmdlet";
const ODATA_EXCEPTION: &str = "Microsoft.Exchange.Admin.OData.Core.ODataServiceException";
/// Longest waiting time that is believed.
const RETRY_CAP: Duration = Duration::from_secs(120);

/// An answer that reports an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorBody {
    /// HTTP status.
    pub status: u16,
    /// Headers that belong to it.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Length of the body that [`forbidden_body`] makes.
pub const FORBIDDEN_BODY_BYTES: usize = 64;

/// The answer to a cmdlet that does not exist for the caller, as the real service gives it: 403, a run of NUL bytes
/// and `Content-Encoding: gzip` although it is none (measured by two independent clients). `reason` travels in
/// `x-ms-diagnostics`.
#[must_use]
pub fn forbidden_body(reason: &str) -> ErrorBody {
    let diagnostics = format!("2000003;reason=\"{}\"", header_text(reason));
    ErrorBody {
        status: 403,
        headers: vec![("x-ms-diagnostics", diagnostics), ("Content-Encoding", "gzip".to_owned())],
        body: vec![0; FORBIDDEN_BODY_BYTES],
    }
}

/// Header values are printable ASCII without quotes here, whatever an object's name holds.
fn header_text(text: &str) -> String {
    text.chars().map(|c| if (c.is_ascii_graphic() && c != '"') || c == ' ' { c } else { '?' }).take(500).collect()
}

/// Writes the error envelope. The status follows from the record: 404 for an object that is not found, 403 for
/// refused access, 503 and 504 for a back end that is busy or too slow, 500 for its own failures, else 400.
///
/// `further` are the errors after the first, each a detail of its own, in order. What is known of the service shows one
/// detail, and its module reads no other. A client that reads on has them all; one that does not sees that the call
/// failed, which texts under status 200 ([`Page::errors`](crate::Page::errors)) would not tell it.
#[must_use]
pub fn error_body(record: &ErrorRecord, further: &[&ErrorRecord], warnings: &[Arc<str>]) -> ErrorBody {
    let (status, code) = status(record);
    let details: Vec<Json> = std::iter::once(record).chain(further.iter().copied()).map(detail).collect();
    let body = json!({"error": {
        "code": code,
        "message": GENERIC,
        "details": details,
        "innererror": {
            "message": GENERIC,
            "type": ODATA_EXCEPTION,
            "stacktrace": "",
            "internalexception": {"message": text_of(record), "type": record.exception_type(), "stacktrace": ""},
        },
        "adminapi.warnings@odata.type": "#Collection(String)",
        "@adminapi.warnings": warnings.iter().map(|w| &**w).collect::<Vec<_>>(),
    }});
    let mut headers =
        vec![("Content-Type", "application/json; charset=utf-8".to_owned()), ("x-ExceptionType", header_text(&record.reason))];
    if !record.target_type.is_empty() {
        headers.push(("X-ExceptionTargetType", header_text(&record.target_type)));
    }
    ErrorBody { status, headers, body: body.to_string().into_bytes() }
}

/// What a detail tells of one error: category, target, and in one text its key, exception type and message.
pub(crate) fn detail(record: &ErrorRecord) -> Json {
    let exception = record.exception_type();
    let pipe = format!("{}|{exception}|{}", record.string_id.as_deref().unwrap_or_default(), text_of(record));
    // "Client" is what the service says where the category is the default one and for parameters that do not bind.
    let client = record.category == ErrorCategory::NotSpecified || is_binding(exception);
    let code = if client { "Client".to_owned() } else { record.category.name() };
    json!({"code": code, "target": &*record.target_name, "message": pipe})
}

/// The text that is shown of an error.
pub(crate) fn text_of(record: &ErrorRecord) -> &str {
    record.details_message.as_deref().unwrap_or(&record.message)
}

fn is_binding(exception: &str) -> bool {
    ["ParameterBindingException", "ParameterBindingValidationException", "AmbiguousParameterSetException"]
        .iter()
        .any(|name| exception.ends_with(name))
}

fn status(record: &ErrorRecord) -> (u16, &'static str) {
    if record.exception_type().ends_with(NOT_FOUND) {
        return (404, "NotFound");
    }
    match record.category {
        ErrorCategory::PermissionDenied | ErrorCategory::SecurityError => (403, "Forbidden"),
        ErrorCategory::ResourceBusy | ErrorCategory::ResourceUnavailable | ErrorCategory::ConnectionError => (503, "ServiceUnavailable"),
        ErrorCategory::OperationTimeout => (504, "GatewayTimeout"),
        ErrorCategory::DeviceError
        | ErrorCategory::DeadlockDetected
        | ErrorCategory::InvalidResult
        | ErrorCategory::ReadError
        | ErrorCategory::WriteError
        | ErrorCategory::MetadataError => (500, "InternalServerError"),
        _ => (400, "BadRequest"),
    }
}

/// An answer that is not a page.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("HTTP {status}: {}", .record.message)]
pub struct ApiError {
    /// HTTP status; 200 where an error came under it.
    pub status: u16,
    /// The error as PowerShell would show it. Activity is set only where the answer names the cmdlet.
    pub record: Box<ErrorRecord>,
    /// Errors after the first, which were told in the same answer.
    pub further: Vec<ErrorRecord>,
    /// The body was an error envelope. `false` for the NUL body of a refused cmdlet, HTML, plain text.
    pub structured: bool,
    /// `request-id` of the answer.
    pub request_id: Option<String>,
    /// `Retry-After`, capped at two minutes.
    pub retry_after: Option<Duration>,
    /// `x-ms-diagnostics`.
    pub diagnostics: Option<String>,
    /// The claims challenge of `WWW-Authenticate`, as sent (base64 text).
    pub claims: Option<String>,
    /// Warnings beside the error.
    pub warnings: Vec<Arc<str>>,
}

/// Reads an answer that is not a page. Never fails: bodies that are not the envelope (NUL bytes, HTML, broken
/// compression, nothing) give a record made of the status, the headers and, for short plain text, the body.
#[must_use]
pub fn parse_error(status: u16, headers: &[(String, String)], body: &[u8], limits: &Limits) -> ApiError {
    let header = |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
    let start = body.iter().position(|b| !b.is_ascii_whitespace() && *b != 0).unwrap_or(body.len());
    let end = body.iter().rposition(|b| !b.is_ascii_whitespace() && *b != 0).map_or(start, |i| i + 1);
    let text = body.get(start..end).unwrap_or_default();
    let json = text.starts_with(b"{").then(|| bounded::parse(text, limits).ok()).flatten();
    let error = json.as_ref().and_then(|j| j.get("error")).and_then(Json::as_object);
    let mut record = match error {
        Some(error) => envelope(error),
        None => unstructured(status, header("x-ms-diagnostics"), text),
    };
    if let Some(reason) = header("x-ExceptionType").filter(|r| !r.is_empty()) {
        record.reason = reason.into();
    }
    record.target_type = header("x-ExceptionTargetType").unwrap_or_default().into();
    let details = error.and_then(|e| e.get("details")).and_then(Json::as_array);
    let mut further: Vec<ErrorRecord> = details.into_iter().flatten().skip(1).filter_map(|detail| of_detail(detail, None)).collect();
    std::iter::once(&mut record).chain(&mut further).for_each(|record| place(record, headers));
    ApiError {
        status,
        record: Box::new(record),
        further,
        structured: error.is_some(),
        request_id: header("request-id").map(str::to_owned),
        retry_after: header("Retry-After").and_then(|v| link::retry_after(v, RETRY_CAP)),
        diagnostics: header("x-ms-diagnostics").map(str::to_owned),
        claims: header("WWW-Authenticate").and_then(claims),
        warnings: error.map(|e| texts(e, "@adminapi.warnings")).unwrap_or_default(),
    }
}

fn claims(challenge: &str) -> Option<String> {
    let (_, rest) = challenge.split_once("claims=\"")?;
    rest.split_once('"').map(|(claims, _)| claims.to_owned())
}

/// The texts of an array member; absent or of another shape is none.
pub(crate) fn texts(map: &Map<String, Json>, key: &str) -> Vec<Arc<str>> {
    map.get(key).and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).map(Arc::from).collect()
}

fn text<'a>(json: &'a Json, pointer: &str) -> Option<&'a str> {
    json.pointer(pointer).and_then(Json::as_str).filter(|s| !s.is_empty())
}

/// Says of an error what the answer's headers tell: by whom and when, and of which cmdlet.
pub(crate) fn place(record: &mut ErrorRecord, headers: &[(String, String)]) {
    let header = |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).unwrap_or_default();
    record.activity = header("Cmdlet-Name").into();
    let server = header("X-CalculatedBETarget").split('.').next().unwrap_or_default();
    let (request, time) = (header("request-id"), header("Date"));
    record.fully_qualified_error_id = format!("[Server={server},RequestId={request},TimeStamp={time}],Write-ErrorMessage").into();
}

/// Precedence as the module's: first detail, then the inner exception, then the envelope's own message.
fn envelope(error: &Map<String, Json>) -> ErrorRecord {
    let inner = error.get("innererror").and_then(|i| i.get("internalexception")).unwrap_or(&Json::Null);
    let detail = error.get("details").and_then(|d| d.get(0)).unwrap_or(&Json::Null);
    of_detail(detail, text(inner, "/type")).unwrap_or_else(|| {
        let message = text(inner, "/message").or_else(|| error.get("message").and_then(Json::as_str));
        let message = message.unwrap_or("the service reported an error without a text").to_owned();
        of_parts(detail, (None, None, message), text(inner, "/type").unwrap_or(ODATA_EXCEPTION))
    })
}

/// The error of a detail that has a text; `exception` where the text names none.
pub(crate) fn of_detail(detail: &Json, exception: Option<&str>) -> Option<ErrorRecord> {
    Some(of_parts(detail, detail_message(text(detail, "/message")?), exception.unwrap_or("System.Exception")))
}

/// The error of a text alone.
pub(crate) fn of_text(message: &str) -> ErrorRecord {
    of_parts(&Json::Null, detail_message(message), "System.Exception")
}

fn of_parts(detail: &Json, (id, exception, message): (Option<String>, Option<String>, String), fallback: &str) -> ErrorRecord {
    let exception = exception.as_deref().unwrap_or(fallback);
    let category = match detail.get("code") {
        Some(Json::Number(n)) => n.as_i64().map(ErrorCategory::from_number),
        Some(Json::String(s)) => s.parse().ok().map(ErrorCategory::from_number).or_else(|| ErrorCategory::from_name(s)),
        _ => None,
    };
    let otherwise = if is_binding(exception) { ErrorCategory::InvalidArgument } else { ErrorCategory::NotSpecified };
    let mut record = ErrorRecord::new(exception, message, category.unwrap_or(otherwise), "");
    record.string_id = id.map(Arc::from);
    record.target_name = text(detail, "/target").unwrap_or_default().into();
    record
}

/// String id, exception type and text of a detail: the pipe form (the text may hold pipes itself), a serialised
/// exception, or plain text.
fn detail_message(message: &str) -> (Option<String>, Option<String>, String) {
    let mut parts = message.splitn(3, '|');
    if let (Some(id), Some(exception), Some(text)) = (parts.next(), parts.next(), parts.next()) {
        let is_id = id.is_empty() || (id.starts_with("Ex") && id.len() <= 16 && id.bytes().all(|b| b.is_ascii_alphanumeric()));
        if is_id && !exception.is_empty() && !exception.contains(' ') {
            return ((!id.is_empty()).then(|| id.to_owned()), Some(exception.to_owned()), text.to_owned());
        }
    }
    // serde_json's own depth limit holds here; the length was checked with the body that this text is part of.
    let json = message.starts_with('{').then(|| serde_json::from_str::<Json>(message).ok()).flatten().unwrap_or_default();
    if let Some(inner) = text(&json, "/Message") {
        let exception = text(&json, "/ClassName").or_else(|| text(&json, "/TypeName"));
        return (text(&json, "/localizedString/stringId").map(str::to_owned), exception.map(str::to_owned), inner.to_owned());
    }
    (None, None, message.to_owned())
}

fn unstructured(status: u16, diagnostics: Option<&str>, body: &[u8]) -> ErrorRecord {
    let plain = std::str::from_utf8(body).ok().filter(|t| {
        !t.is_empty() && t.len() <= 1000 && !t.starts_with(['<', '{']) && !t.chars().any(|c| c.is_control() && !c.is_whitespace())
    });
    let reason = diagnostics.and_then(|d| d.split_once("reason=\"")).and_then(|(_, rest)| rest.split('"').next());
    let message = match (plain, reason) {
        (Some(text), _) => text.to_owned(),
        (None, Some(reason)) if !reason.is_empty() => reason.to_owned(),
        _ => format!("the service answered with HTTP status {status} and no error text"),
    };
    let category = match status {
        401 => ErrorCategory::AuthenticationError,
        403 => ErrorCategory::PermissionDenied,
        404 => ErrorCategory::ObjectNotFound,
        429 => ErrorCategory::LimitsExceeded,
        502 | 503 => ErrorCategory::ResourceUnavailable,
        504 => ErrorCategory::OperationTimeout,
        _ => ErrorCategory::ProtocolError,
    };
    ErrorRecord::new("System.Net.Http.HttpRequestException", message, category, "")
}
