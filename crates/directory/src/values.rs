//! Values of the noun table: from their stored form to what leaves, and from what a client sends to the stored form.

use std::sync::Arc;

use exops_psobject::{Base, DateTime, DateTimeKind, ListKind, PsObject, TimeSpan, Value};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::nouns::{Form, Property, Type};
use crate::parameters::parse_time;

/// Units of `ByteQuantifiedSize`, largest first.
const UNITS: [(&str, u64); 5] = [("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10), ("B", 1)];

/// 100 ns units of a day.
const TICKS_A_DAY: i64 = 864_000_000_000;

/// The word for "no limit".
pub(crate) const UNLIMITED: &str = "Unlimited";

/// The value that leaves for a stored one. A stored value that does not fit its type becomes null.
pub(crate) fn to_wire(kind: &Type, stored: &Json) -> Value {
    let object = |text: &str| Value::from(PsObject { type_names: kind.chain.clone(), to_string: Some(text.into()), ..PsObject::default() });
    let converted = match (&kind.form, stored) {
        (_, Json::Null) => Some(Value::Null),
        (Form::Text, Json::String(text)) => Some(text.as_str().into()),
        (Form::Uri, Json::String(text)) => Some(Value::Uri(text.as_str().into())),
        (Form::Bool, Json::Bool(flag)) => Some(Value::Bool(*flag)),
        (Form::Guid, Json::String(text)) => Uuid::try_parse(text).ok().map(Value::Guid),
        (Form::Object, Json::String(text)) => Some(object(text)),
        (Form::UnlimitedSize | Form::UnlimitedNumber, Json::String(text)) => Some(object(text)),
        (Form::Enum { wide, members }, Json::String(text)) => members.iter().find(|(name, _)| **name == **text).map(|(name, number)| {
            let number = if *wide { Value::I64(*number) } else { i32::try_from(*number).map_or(Value::Null, Value::I32) };
            let base = Base::Primitive(number);
            Value::from(PsObject { type_names: kind.chain.clone(), to_string: Some(name.clone()), base, ..PsObject::default() })
        }),
        (Form::List(item), Json::Array(items)) => {
            let base = Base::List(ListKind::List, items.iter().map(|i| to_wire(item, i)).collect());
            Some(Value::from(PsObject { type_names: kind.chain.clone(), base, ..PsObject::default() }))
        }
        (form, Json::Number(number)) => number.as_i64().and_then(|n| match form {
            Form::Int16 => i16::try_from(n).ok().map(Value::I16),
            Form::Int32 => i32::try_from(n).ok().map(Value::I32),
            Form::UInt32 => u32::try_from(n).ok().map(Value::U32),
            Form::DateTimeUtc => Some(DateTime::from_unix_milliseconds(n).into()),
            Form::DateTime => {
                let utc = DateTime::from_unix_milliseconds(n);
                DateTime::from_ticks(utc.ticks(), DateTimeKind::Local(0)).map(Value::DateTime)
            }
            Form::Size | Form::UnlimitedSize => u64::try_from(n).ok().map(|n| object(&size_text(n))),
            Form::UnlimitedNumber => Some(object(&n.to_string())),
            _ => None,
        }),
        _ => None,
    };
    converted.unwrap_or_else(|| {
        tracing::error!(kind = &*kind.name, "a stored value does not fit its type");
        Value::Null
    })
}

/// A stored value as filters compare it: text, number (sizes in bytes), boolean, time, list of these, or null. Text
/// that is not set is null. An SMTP address can be named with and without its prefix.
pub(crate) fn to_filter(kind: &Type, stored: &Json) -> Value {
    match (&kind.form, stored) {
        (Form::DateTime | Form::DateTimeUtc, Json::Number(n)) => DateTime::from_unix_milliseconds(n.as_i64().unwrap_or_default()).into(),
        (_, Json::Number(n)) => Value::I64(n.as_i64().unwrap_or_default()),
        (_, Json::Bool(flag)) => Value::Bool(*flag),
        (_, Json::String(text)) if !text.is_empty() => text.as_str().into(),
        (Form::List(item), Json::Array(items)) if !items.is_empty() => {
            let bare = items.iter().filter_map(Json::as_str).filter_map(smtp_address);
            PsObject::from_list(items.iter().map(|i| to_filter(item, i)).chain(bare.map(Value::from)).collect()).into()
        }
        _ => Value::Null,
    }
}

/// The text that audit entries and errors show. Items of a list are joined with `;`.
pub(crate) fn to_text(kind: &Type, stored: &Json) -> String {
    match (&kind.form, stored) {
        (Form::List(item), Json::Array(items)) => items.iter().map(|json| to_text(item, json)).collect::<Vec<_>>().join(";"),
        _ => to_wire(kind, stored).display(),
    }
}

/// The address of `smtp:…` in any case.
pub(crate) fn smtp_address(proxy: &str) -> Option<&str> {
    proxy.split_at_checked(5).filter(|(prefix, _)| prefix.eq_ignore_ascii_case("smtp:")).map(|(_, address)| address)
}

/// Text as identities, indexes and orders hold it.
pub(crate) fn fold(text: &str) -> String {
    text.trim().to_lowercase()
}

/// The stored form of a value that a client sent for a property of that type, or why it is none.
///
/// `kind` is the type of the property, or of an item of it where it is a list.
pub(crate) fn from_client(property: &Property, kind: &Type, value: &Value) -> Result<Json, String> {
    let text = || value.display();
    match &kind.form {
        Form::Text if property.members.is_some() => named(property.members.as_deref(), &text()),
        Form::Text => {
            let text = if value.is_null() { String::new() } else { text() };
            let count = text.chars().count();
            match property.length {
                Some((min, max)) if count < min || count > max => Err(format!("It has {count} characters; {min} to {max} are allowed.")),
                _ => Ok(if text.is_empty() { Json::Null } else { text.into() }),
            }
        }
        Form::Bool => flag(value).map(Json::from),
        Form::Size | Form::UnlimitedSize => {
            let text = text();
            if matches!(kind.form, Form::UnlimitedSize) && text.trim().eq_ignore_ascii_case(UNLIMITED) {
                return Ok(UNLIMITED.into());
            }
            let bytes = match value.as_i64() {
                Some(number) => u64::try_from(number).ok(),
                None => parse_size(&text),
            };
            bytes
                .filter(|b| i64::try_from(*b).is_ok())
                .map(Json::from)
                .ok_or_else(|| "It must be a size such as 49.5GB, 100 MB or a number of bytes, or Unlimited.".to_owned())
        }
        Form::Object if &*kind.name == "ProxyAddress" => {
            let text = text();
            let address = smtp_address(text.trim()).unwrap_or(text.trim());
            match address {
                "" => Ok(Json::Null),
                address if is_smtp_address(address) => Ok(format!("smtp:{address}").into()),
                _ => Err("It must be an SMTP address such as smtp:ann@contoso.com.".to_owned()),
            }
        }
        Form::Int32 => {
            let number = value.as_i64().or_else(|| text().trim().parse().ok()).and_then(|n| i32::try_from(n).ok()).filter(|n| *n >= 0);
            number.map(Json::from).ok_or_else(|| "It must be a number from 0 on.".to_owned())
        }
        Form::UnlimitedNumber => {
            let text = text();
            if text.trim().eq_ignore_ascii_case(UNLIMITED) {
                return Ok(UNLIMITED.into());
            }
            let number = value.as_i64().or_else(|| text.trim().parse().ok()).and_then(|n| i32::try_from(n).ok()).filter(|n| *n >= 0);
            number.map(Json::from).ok_or_else(|| "It must be a number from 0 on, or Unlimited.".to_owned())
        }
        Form::DateTime | Form::DateTimeUtc if value.is_null() => Ok(Json::Null),
        Form::DateTime | Form::DateTimeUtc => {
            let time = if let Value::DateTime(time) = value { Some(*time) } else { parse_time(&text()) };
            // The directory keeps times in whole seconds.
            time.map(|time| (time.unix_milliseconds().div_euclid(1000) * 1000).into())
                .ok_or_else(|| "It must be a time such as 2026-11-24T09:30:00Z or 11/24/2026 9:30 AM.".to_owned())
        }
        Form::Object => object_from_client(property, kind, value),
        Form::Enum { members, .. } => {
            let name = text();
            let found = members.iter().find(|(member, _)| member.eq_ignore_ascii_case(name.trim())).map(|(member, _)| (**member).into());
            found
                .ok_or_else(|| format!("It must be one of {}.", members.iter().map(|(member, _)| &**member).collect::<Vec<_>>().join(", ")))
        }
        _ => Err("Values of this type cannot be set.".to_owned()),
    }
}

/// A boolean that a client sent, or why it is none.
pub(crate) fn flag(value: &Value) -> Result<bool, String> {
    match (value.as_bool(), value.display().trim_start_matches('$').to_ascii_lowercase().as_str()) {
        (Some(flag), _) => Ok(flag),
        (None, "true" | "1") => Ok(true),
        (None, "false" | "0") => Ok(false),
        _ => Err("It must be $true or $false.".to_owned()),
    }
}

/// The same for types of which only the string form leaves.
fn object_from_client(property: &Property, kind: &Type, value: &Value) -> Result<Json, String> {
    let text = value.display();
    let text = text.trim();
    match &*kind.name {
        "ADObjectId" if text.is_empty() => Ok(Json::Null),
        "ADObjectId" if property.names.is_some() => named(property.names.as_deref(), text),
        // The recipient is looked for before the change.
        "ADObjectId" if property.reference => Ok(text.into()),
        "SmtpAddress" if is_smtp_address(text) => Ok(text.into()),
        "SmtpAddress" => Err("It must be an SMTP address such as ann@contoso.com.".to_owned()),
        "EnhancedTimeSpan" => {
            let span = match value {
                Value::TimeSpan(span) => Some(*span),
                _ => TimeSpan::parse(text).or_else(|| text.parse::<u16>().ok().map(|days| TimeSpan(i64::from(days) * TICKS_A_DAY))),
            };
            span.filter(|span| span.0 >= 0)
                .map(|span| span.to_string().into())
                .ok_or_else(|| "It must be a time span such as 90 (days) or 90.00:00:00.".to_owned())
        }
        _ => Err("Values of this type cannot be set.".to_owned()),
    }
}

/// The one of these names that a text is, without case.
fn named(names: Option<&[Arc<str>]>, text: &str) -> Result<Json, String> {
    let names = names.unwrap_or_default();
    let found = names.iter().find(|name| name.eq_ignore_ascii_case(text.trim())).map(|name| Json::from(&**name));
    found.ok_or_else(|| match names {
        [] => "This organisation has none; only $null can be set.".to_owned(),
        names => format!("It must be one of {}.", names.join(", ")),
    })
}

/// `local@domain` as far as Exchange checks it: one `@`, no blanks or control characters, a domain of labels.
pub(crate) fn is_smtp_address(text: &str) -> bool {
    let label = |l: &str| !l.is_empty() && l.len() <= 63 && l.chars().all(|c| c.is_alphanumeric() || c == '-') && !l.starts_with('-');
    let Some((local, domain)) = text.split_once('@') else { return false };
    let local_fits =
        !local.is_empty() && local.len() <= 64 && !local.chars().any(|c| c.is_whitespace() || c.is_control() || c == '<' || c == '>');
    local_fits && domain.len() <= 255 && domain.split('.').all(label)
}

/// `49.5 GB (53,150,220,288 bytes)`: the largest unit that gives at least one, four significant digits.
pub(crate) fn size_text(bytes: u64) -> String {
    let (unit, factor) = UNITS.into_iter().find(|(_, factor)| bytes >= *factor).unwrap_or(("B", 1));
    #[allow(clippy::cast_precision_loss, reason = "four digits are shown")]
    let amount = bytes as f64 / factor as f64;
    let decimals = match amount {
        a if a < 10.0 => 3,
        a if a < 100.0 => 2,
        a if a < 1000.0 => 1,
        _ => 0,
    };
    let amount = format!("{amount:.decimals$}");
    let amount = if amount.contains('.') { amount.trim_end_matches('0').trim_end_matches('.') } else { &amount };
    format!("{amount} {unit} ({} bytes)", grouped(bytes))
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Reads `49.5GB`, `50 GB`, a number of bytes, or the display form, whose exact number counts.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Some((_, exact)) = text.split_once('(') {
        let digits = exact.strip_suffix(')')?.trim().strip_suffix("bytes")?.trim().replace(',', "");
        return digits.parse().ok();
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let factor = match unit.trim() {
        "" => 1,
        unit => UNITS.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    let number = number.replace(',', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    if whole.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? * u128::from(factor) / scale };
    whole.checked_add(u64::try_from(part).ok()?)
}
