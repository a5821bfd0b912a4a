//! PowerShell values as JSON parameters.
//!
//! The rules are those of the generated proxy module: hashtables are objects marked
//! `#Exchange.GenericHashTable`, lists of hashtables are marked beside the list, dates travel as UTC without a
//! zone, everything that has only a string form travels as that.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exops_psobject::{Base, CREDENTIAL, DateTime, DateTimeKind, ListKind, PsObject, TypeNames, Value};
use serde_json::{Map, Number, Value as Json};
use thiserror::Error;

const TYPE_KEY: &str = "@odata.type";
const HASHTABLE: &str = "#Exchange.GenericHashTable";
const BYTES: &str = "#Exchange.ByteArrayType";
/// Ticks of 100 ns in a second.
const SECOND: i64 = 10_000_000;

/// A value that has no encoding.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("parameter '{parameter}': {problem}")]
pub struct ParameterError {
    /// The parameter.
    pub parameter: String,
    /// What is wrong with its value; never the value itself.
    pub problem: String,
}

/// Encodes parameters in order.
///
/// # Errors
/// A secure string: the service takes those only under its own public key, and a clear text must not travel by
/// accident.
pub fn encode(parameters: &[(String, Value)]) -> Result<Map<String, Json>, ParameterError> {
    let mut map = Map::new();
    for (name, value) in parameters {
        let fail = |problem: &str| ParameterError { parameter: name.clone(), problem: problem.to_owned() };
        if let Some(items) = value.as_list().filter(|items| !items.is_empty()) {
            let annotation = if items.iter().all(|i| dictionary(i).is_some()) {
                Some("#Collection(Exchange.GenericHashTable)")
            } else if items.iter().all(|i| matches!(i, Value::Bytes(_))) {
                Some("#Collection(Exchange.ByteArrayType)")
            } else {
                None
            };
            if let Some(annotation) = annotation {
                map.insert(format!("{name}{TYPE_KEY}"), annotation.into());
            }
        }
        let encoded = encode_value(value, true).map_err(fail)?;
        map.insert(name.clone(), encoded);
    }
    Ok(map)
}

fn dictionary(value: &Value) -> Option<&[(Value, Value)]> {
    value.as_object().and_then(|o| o.dictionary())
}

/// `annotate`: hashtables say their type. Items of a list do not: the list's own annotation tells.
fn encode_value(value: &Value, annotate: bool) -> Result<Json, &'static str> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Single(n) => Number::from_f64(f64::from(*n)).map_or_else(|| n.to_string().into(), Json::Number),
        Value::Double(n) => Number::from_f64(*n).map_or_else(|| n.to_string().into(), Json::Number),
        Value::U64(n) => (*n).into(),
        Value::U8(_) | Value::I8(_) | Value::U16(_) | Value::I16(_) | Value::U32(_) | Value::I32(_) | Value::I64(_) => {
            value.as_i64().map_or(Json::Null, Json::from)
        }
        Value::DateTime(time) => {
            let ticks = time.utc_ticks();
            DateTime::from_ticks(ticks - ticks.rem_euclid(SECOND), DateTimeKind::Unspecified).map_or(Json::Null, |t| t.to_string().into())
        }
        Value::Bytes(bytes) => {
            let mut object = Map::new();
            if annotate {
                object.insert(TYPE_KEY.to_owned(), BYTES.into());
            }
            object.insert("Data".to_owned(), bytes.iter().map(|b| Json::from(*b)).collect());
            Json::Object(object)
        }
        Value::SecureString(_) => return Err("a secure string cannot travel over REST without the service's public key"),
        Value::Object(object) => encode_object(object, annotate)?,
        other => other.display().into(),
    })
}

fn encode_object(object: &PsObject, annotate: bool) -> Result<Json, &'static str> {
    Ok(match &object.base {
        Base::Dictionary(entries) => {
            let mut map = Map::new();
            if annotate {
                map.insert(TYPE_KEY.to_owned(), HASHTABLE.into());
            }
            for (key, value) in entries {
                map.insert(key.display(), encode_value(value, annotate)?);
            }
            Json::Object(map)
        }
        Base::List(_, items) => Json::Array(items.iter().map(|i| encode_value(i, false)).collect::<Result<_, _>>()?),
        // `10MB` arrives as a number with that text; an enumeration as its number with the member's name.
        Base::Primitive(inner) if !object.type_names.iter().any(|t| t.ends_with("System.Enum")) => encode_value(inner, annotate)?,
        Base::None if object.type_name() == Some(CREDENTIAL) => {
            return Err("a credential cannot travel over REST without the service's public key");
        }
        Base::None => match object.property("IsPresent").and_then(Value::as_bool) {
            Some(present) if object.type_name() == Some("System.Management.Automation.SwitchParameter") => present.into(),
            _ => object.display().into(),
        },
        Base::Primitive(_) => object.display().into(),
    })
}

/// Decodes parameters in order. Keys that hold `@` are annotations and skipped. Numbers become the smallest of
/// Int32, Int64, UInt64 and Double that holds them; what text means is decided by binding, not here.
#[must_use]
pub fn decode(parameters: &Map<String, Json>) -> Vec<(String, Value)> {
    parameters.iter().filter(|(name, _)| !name.contains('@')).map(|(name, value)| (name.clone(), decode_value(value))).collect()
}

fn decode_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::String(s) => s.as_str().into(),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => i32::try_from(n).map_or(Value::I64(n), Value::I32),
            (None, Some(n)) => Value::U64(n),
            (None, None) => Value::Double(n.as_f64().unwrap_or_default()),
        },
        Json::Array(items) => list(items.iter().map(decode_value).collect()),
        Json::Object(map) => decode_bytes(map).unwrap_or_else(|| {
            let entries = map.iter().filter(|(k, _)| !k.contains('@')).map(|(k, v)| (k.as_str().into(), decode_value(v))).collect();
            hashtable(entries)
        }),
    }
}

/// `{Data}` as a number array (what PowerShell writes) or base64 (what OData's `Edm.Binary` is).
fn decode_bytes(map: &Map<String, Json>) -> Option<Value> {
    let marked = map.get(TYPE_KEY).and_then(Json::as_str) == Some(BYTES);
    let bytes: Option<Vec<u8>> = match map.get("Data") {
        Some(Json::Array(items)) if marked => items.iter().map(|i| i.as_u64().and_then(|n| u8::try_from(n).ok())).collect(),
        Some(Json::String(text)) if marked => STANDARD.decode(text).ok(),
        _ => None,
    };
    bytes.map(|b| Value::Bytes(b.into()))
}

fn type_names(names: &[&str]) -> TypeNames {
    names.iter().map(|n| Arc::from(*n)).collect()
}

fn list(items: Vec<Value>) -> Value {
    let type_names = type_names(&["System.Object[]", "System.Array", "System.Object"]);
    PsObject { type_names, base: Base::List(ListKind::List, items), ..PsObject::default() }.into()
}

fn hashtable(entries: Vec<(Value, Value)>) -> Value {
    let type_names = type_names(&["System.Collections.Hashtable", "System.Object"]);
    PsObject { type_names, base: Base::Dictionary(entries), ..PsObject::default() }.into()
}
