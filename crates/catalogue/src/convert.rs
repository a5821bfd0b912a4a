use exops_psobject::{DateTime, PsObject, TimeSpan, Value};
use thiserror::Error;
use uuid::Uuid;

use crate::ParameterKind;

/// Why a value does not become what a parameter takes. Worded as PowerShell words it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConvertError {
    /// `$null` where the type has no such value.
    #[error("it is null")]
    Null,
    /// The text or number does not have the form.
    #[error("Cannot convert value \"{value}\" to type \"{target}\". {reason}")]
    Value {
        /// The value as PowerShell shows it.
        value: String,
        /// .NET name of the type that was wanted.
        target: &'static str,
        /// What is wrong, a sentence.
        reason: String,
    },
    /// A value of that type never becomes the type that was wanted.
    #[error("Cannot convert '{from}' to the type '{target}'")]
    Kind {
        /// .NET name of the value's type.
        from: String,
        /// .NET name of the type that was wanted.
        target: &'static str,
    },
}

const BOOLEAN_REASON: &str = "Boolean parameters accept only Boolean values and numbers, such as $True, $False, 1 or 0 instead.";

/// Converts a value to what a parameter of that kind takes. `Any` takes everything as it is, number literals
/// as their number: its cmdlet converts it.
///
/// `$null` stays `$null` for kinds that have one and is "present" for a switch. Besides what PowerShell takes, the texts
/// `True` and `False` are taken for switches and booleans: the REST admin API carries some of them as text.
///
/// # Errors
/// [`ConvertError`] when the value has no meaning for the kind.
pub fn convert(value: &Value, kind: ParameterKind) -> Result<Value, ConvertError> {
    match kind {
        ParameterKind::Object => Ok(value.clone()),
        ParameterKind::Any => Ok(literal(value).clone()),
        ParameterKind::Switch if value.is_null() => Ok(Value::Bool(true)),
        ParameterKind::Switch => boolean(value, "System.Management.Automation.SwitchParameter"),
        ParameterKind::Boolean => boolean(value, "System.Boolean"),
        ParameterKind::Int32 => integer(value, "System.Int32", i64::from(i32::MIN), i64::from(i32::MAX)).map(|n| Value::I32(n as i32)),
        ParameterKind::UInt32 => integer(value, "System.UInt32", 0, i64::from(u32::MAX)).map(|n| Value::U32(n as u32)),
        _ if value.is_null() => match kind {
            ParameterKind::Guid | ParameterKind::DateTime | ParameterKind::TimeSpan => Err(ConvertError::Null),
            _ => Ok(Value::Null),
        },
        ParameterKind::Text => text(value).map(Value::String),
        ParameterKind::TextList => text_list(value),
        ParameterKind::Guid => guid(value),
        ParameterKind::DateTime => date_time(value),
        ParameterKind::TimeSpan => time_span(value),
        ParameterKind::Bytes => bytes(value),
        ParameterKind::SecureString => match inner(value) {
            secret @ Value::SecureString(_) => Ok(secret.clone()),
            other => Err(kind_error(other, "System.Security.SecureString")),
        },
        ParameterKind::Credential => match value.as_object() {
            Some(object) if object.type_name() == Some("System.Management.Automation.PSCredential") => Ok(value.clone()),
            _ => Err(kind_error(value, "System.Management.Automation.PSCredential")),
        },
        ParameterKind::Hashtable => match value.as_object() {
            Some(object) if object.dictionary().is_some() => Ok(value.clone()),
            _ => Err(kind_error(value, "System.Collections.Hashtable")),
        },
    }
}

/// A number that was written as `10MB` or `0x2` comes with that text and no type of its own: the number counts. An enumeration's
/// member, which names its type, stays what it is.
fn literal(value: &Value) -> &Value {
    let written = value.as_object().filter(|o| o.type_names.is_empty() && o.properties().next().is_none());
    written.and_then(|o| o.primitive()).filter(|p| p.as_i64().is_some()).unwrap_or(value)
}

/// The primitive inside an extended one (`10MB`, an enumeration's number).
fn inner(value: &Value) -> &Value {
    value.as_object().and_then(|o| o.primitive()).unwrap_or(value)
}

fn boolean(value: &Value, target: &'static str) -> Result<Value, ConvertError> {
    if value.is_null() {
        return Err(ConvertError::Null);
    }
    if let Some(flag) = value.as_bool() {
        return Ok(Value::Bool(flag));
    }
    if let Some(number) = value.as_i64() {
        return Ok(Value::Bool(number != 0));
    }
    match inner(value) {
        Value::Double(n) => Ok(Value::Bool(*n != 0.0)),
        Value::Single(n) => Ok(Value::Bool(*n != 0.0)),
        Value::String(s) if s.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
        Value::String(s) if s.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
        other => Err(ConvertError::Value { value: type_of(other), target, reason: BOOLEAN_REASON.to_owned() }),
    }
}

fn integer(value: &Value, target: &'static str, low: i64, high: i64) -> Result<i64, ConvertError> {
    let fail = |reason: &str| ConvertError::Value { value: value.display(), target, reason: format!("Error: \"{reason}\"") };
    let number = match inner(value) {
        Value::Null => return Err(ConvertError::Null),
        Value::Bool(flag) => Some(i64::from(*flag)),
        Value::Single(n) => rounded(f64::from(*n)),
        Value::Double(n) => rounded(*n),
        Value::U64(n) => Some(i64::try_from(*n).unwrap_or(i64::MAX)),
        Value::String(text) | Value::Decimal(text) => number_in(text).ok_or_else(|| fail("Input string was not in a correct format."))?,
        other => match other.as_i64() {
            Some(number) => Some(number),
            None => return Err(kind_error(other, target)),
        },
    };
    let short = target.strip_prefix("System.").unwrap_or(target);
    number.filter(|n| (low..=high).contains(n)).ok_or_else(|| fail(&format!("Value was either too large or too small for an {short}.")))
}

/// A whole number as PowerShell reads text: decimal, `0x` hexadecimal, with a fraction that is rounded, with a size suffix.
/// `Some(None)` is a number out of all bounds.
fn number_in(text: &str) -> Option<Option<i64>> {
    let text = text.trim();
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return hex.bytes().all(|b| b.is_ascii_hexdigit()).then(|| i64::from_str_radix(hex, 16).ok()).filter(|_| !hex.is_empty());
    }
    let split = text.len().saturating_sub(2);
    let (digits, factor) = match text.get(split..).map(str::to_ascii_lowercase).as_deref() {
        Some("kb") => (text.get(..split)?, 1i64 << 10),
        Some("mb") => (text.get(..split)?, 1 << 20),
        Some("gb") => (text.get(..split)?, 1 << 30),
        Some("tb") => (text.get(..split)?, 1 << 40),
        Some("pb") => (text.get(..split)?, 1 << 50),
        _ => (text, 1),
    };
    if let Ok(number) = digits.parse::<i64>() {
        return Some(number.checked_mul(factor));
    }
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    plain.then(|| digits.parse::<f64>().ok())?.map(|n| rounded(n * factor as f64))
}

/// Rounds half to even, as .NET does.
fn rounded(number: f64) -> Option<i64> {
    (number.is_finite() && number.abs() < 9e18).then(|| number.round_ties_even() as i64)
}

fn text(value: &Value) -> Result<std::sync::Arc<str>, ConvertError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::SecureString(_) => Err(kind_error(value, "System.String")),
        Value::Object(object) if object.list().is_some() => Err(kind_error(value, "System.String")),
        other => Ok(other.display().into()),
    }
}

fn text_list(value: &Value) -> Result<Value, ConvertError> {
    let item = |item: &Value| match item {
        Value::ScriptBlock(_) => Err(kind_error(item, "System.String")),
        Value::Object(object) if object.dictionary().is_some() => Err(kind_error(item, "System.String")),
        Value::Null => Ok(Value::Null),
        other => text(other).map(Value::String),
    };
    let items = match value.as_list() {
        Some(items) => items.iter().map(item).collect::<Result<Vec<_>, _>>()?,
        None => vec![item(value)?],
    };
    Ok(PsObject::from_list(items).into())
}

fn guid(value: &Value) -> Result<Value, ConvertError> {
    match inner(value) {
        Value::Guid(guid) => Ok(Value::Guid(*guid)),
        Value::String(text) => {
            let trimmed = text.trim();
            let open = trimmed.strip_prefix('(').and_then(|t| t.strip_suffix(')')).unwrap_or(trimmed);
            Uuid::try_parse(open).map(Value::Guid).map_err(|_| ConvertError::Value {
                value: text.to_string(),
                target: "System.Guid",
                reason: "Error: \"Guid should contain 32 digits with 4 dashes (xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx).\"".to_owned(),
            })
        }
        other => Err(kind_error(other, "System.Guid")),
    }
}

fn date_time(value: &Value) -> Result<Value, ConvertError> {
    match inner(value) {
        Value::DateTime(time) => Ok(Value::DateTime(*time)),
        Value::String(text) => {
            let read = DateTime::parse(text).or_else(|| DateTime::parse(&iso(text)?));
            read.map(Value::DateTime).ok_or_else(|| ConvertError::Value {
                value: text.to_string(),
                target: "System.DateTime",
                reason: "Error: \"String was not recognized as a valid DateTime.\"".to_owned(),
            })
        }
        other => Err(kind_error(other, "System.DateTime")),
    }
}

/// `M/d/yyyy[ h:mm[:ss][ AM|PM]]` or a date alone, which PowerShell reads with the invariant culture, in ISO form.
fn iso(text: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    let date = words.next()?;
    let date = match date.split('/').collect::<Vec<_>>()[..] {
        [month, day, year] if year.len() == 4 => format!("{year}-{month:0>2}-{day:0>2}"),
        [date] => date.to_owned(),
        _ => return None,
    };
    let (mut hour, mut rest) = (0u32, ":00:00".to_owned());
    if let Some(clock) = words.next() {
        let parts: Vec<&str> = clock.split(':').collect();
        let (h, m, s) = match parts[..] {
            [h, m] => (h, m, "00"),
            [h, m, s] => (h, m, s),
            _ => return None,
        };
        hour = h.parse().ok()?;
        rest = format!(":{m:0>2}:{s:0>2}");
    }
    match words.next().map(str::to_ascii_uppercase).as_deref() {
        None => {}
        Some("AM") if (1..=12).contains(&hour) => hour %= 12,
        Some("PM") if (1..=12).contains(&hour) => hour = hour % 12 + 12,
        _ => return None,
    }
    words.next().is_none().then(|| format!("{date}T{hour:02}{rest}"))
}

fn time_span(value: &Value) -> Result<Value, ConvertError> {
    match inner(value) {
        Value::TimeSpan(span) => Ok(Value::TimeSpan(*span)),
        Value::String(text) => {
            let days = || text.trim().parse::<i64>().ok()?.checked_mul(864_000_000_000).map(TimeSpan);
            TimeSpan::parse(text).or_else(days).map(Value::TimeSpan).ok_or_else(|| ConvertError::Value {
                value: text.to_string(),
                target: "System.TimeSpan",
                reason: "Error: \"String was not recognized as a valid TimeSpan.\"".to_owned(),
            })
        }
        other => other.as_i64().map(|ticks| Value::TimeSpan(TimeSpan(ticks))).ok_or_else(|| kind_error(other, "System.TimeSpan")),
    }
}

fn bytes(value: &Value) -> Result<Value, ConvertError> {
    if let Value::Bytes(_) = inner(value) {
        return Ok(inner(value).clone());
    }
    let single = std::slice::from_ref(value);
    let items = value.as_list().unwrap_or(single);
    let bytes = items.iter().map(|item| match item {
        Value::Object(_) | Value::SecureString(_) => Err(kind_error(value, "System.Byte[]")),
        item => integer(item, "System.Byte", 0, 255).map(|n| n as u8),
    });
    bytes.collect::<Result<Vec<u8>, _>>().map(|bytes| Value::Bytes(bytes.into()))
}

fn kind_error(value: &Value, target: &'static str) -> ConvertError {
    ConvertError::Kind { from: type_of(value), target }
}

/// .NET name of a value's type.
pub(crate) fn type_of(value: &Value) -> String {
    let name = match value {
        Value::Null => "null",
        Value::String(_) => "System.String",
        Value::ScriptBlock(_) => "System.Management.Automation.ScriptBlock",
        Value::Bool(_) => "System.Boolean",
        Value::DateTime(_) => "System.DateTime",
        Value::TimeSpan(_) => "System.TimeSpan",
        Value::I32(_) => "System.Int32",
        Value::I64(_) => "System.Int64",
        Value::Double(_) => "System.Double",
        Value::Decimal(_) => "System.Decimal",
        Value::Bytes(_) => "System.Byte[]",
        Value::Guid(_) => "System.Guid",
        Value::SecureString(_) => "System.Security.SecureString",
        Value::Object(object) if object.list().is_some() => "System.Object[]",
        Value::Object(object) if object.dictionary().is_some() => "System.Collections.Hashtable",
        Value::Object(object) => return object.type_name().unwrap_or("System.Management.Automation.PSObject").to_owned(),
        _ => "System.Object",
    };
    name.to_owned()
}
