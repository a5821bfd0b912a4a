//! The JSON of the REST admin API: values beside annotations `Name@data.type` (.NET) and `Name@odata.type` (OData).
//!
//! Text, booleans, nulls, enumerations, sizes, time spans and identities travel bare, as the text that they show;
//! lists of text carry `#Collection(String)`; `Guid`, `Int32`, `Int16` and `DateTime` are annotated as recorded from
//! the service. The other rows of the table below follow the same pattern and are assumed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use memchr::memchr;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Map, Number, Value as Json};
use thiserror::Error;
use uuid::Uuid;

use crate::{Base, DateTime, DateTimeKind, Properties, PsObject, Value};

/// Deepest nesting that is read or written.
const MAX_DEPTH: usize = 128;
const HASH_TABLE: &str = "#Exchange.GenericHashTable";
const BYTE_ARRAY: &str = "#Exchange.ByteArrayType";
const DATE_TIME: &str = "DateTimeOffset";
const OWN_TYPE: &str = "@odata.type";
const HASH_TABLE_NAMES: [&str; 2] = ["System.Collections.Hashtable", "System.Object"];

/// Why an annotated JSON value is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JsonError {
    /// More levels than are read.
    #[error("the JSON is nested more than {0} deep")]
    TooDeep(usize),
    /// A value that its annotation contradicts.
    #[error("property {name}: {text} is no {annotation}")]
    BadValue {
        /// The property.
        name: String,
        /// The type that the annotation names.
        annotation: String,
        /// The start of the value.
        text: String,
    },
}

/// A type that is annotated: its .NET name, its OData name, whether a single value bears the OData name too.
struct Annotated {
    dotnet: &'static str,
    edm: &'static str,
    both: bool,
}

const ANNOTATED: [Annotated; 14] = [
    Annotated { dotnet: "System.Guid", edm: "Guid", both: true },
    Annotated { dotnet: "System.Int32", edm: "Int32", both: false },
    Annotated { dotnet: "System.DateTime", edm: DATE_TIME, both: false },
    Annotated { dotnet: "System.Int16", edm: "Int16", both: true },
    Annotated { dotnet: "System.Int64", edm: "Int64", both: true },
    Annotated { dotnet: "System.Byte", edm: "Byte", both: true },
    Annotated { dotnet: "System.SByte", edm: "SByte", both: true },
    Annotated { dotnet: "System.Single", edm: "Single", both: true },
    Annotated { dotnet: "System.Double", edm: "Double", both: false },
    Annotated { dotnet: "System.Decimal", edm: "Decimal", both: true },
    Annotated { dotnet: "System.Byte[]", edm: "Binary", both: true },
    Annotated { dotnet: "System.UInt16", edm: "", both: false },
    Annotated { dotnet: "System.UInt32", edm: "", both: false },
    Annotated { dotnet: "System.UInt64", edm: "", both: false },
];

/// What a value is to JSON, before primitives are put into words.
pub(crate) enum Shape<'a> {
    /// Text that stands for an object.
    Text(Cow<'a, str>),
    /// A primitive.
    Primitive(&'a Value),
    /// An array.
    List(&'a [Value]),
    /// An object by keys.
    Dictionary(&'a [(Value, Value)]),
    /// An object by property names.
    Properties(&'a PsObject),
}

/// The one rule for both wire forms and the canonical one. At the `top` an object is its properties; below, whatever
/// has a string form is that text, since that is all the service gives of it.
pub(crate) fn shape(value: &Value, top: bool) -> Shape<'_> {
    let Value::Object(object) = value else { return Shape::Primitive(value) };
    match &object.base {
        Base::List(_, items) => return Shape::List(items),
        Base::Dictionary(entries) => return Shape::Dictionary(entries),
        _ if top && object.properties().any(|(name, _)| !is_adornment(name)) => return Shape::Properties(object),
        _ => {}
    }
    match (&object.to_string, &object.base) {
        (Some(text), _) => Shape::Text(Cow::Borrowed(text)),
        (None, Base::Primitive(Value::Object(_))) => Shape::Text(Cow::Owned(object.display())),
        (None, Base::Primitive(inner)) => Shape::Primitive(inner),
        (None, _) => Shape::Properties(object),
    }
}

/// What PowerShell's own client adds to every object that it receives.
pub(crate) fn is_adornment(name: &str) -> bool {
    ["PSComputerName", "RunspaceId", "PSShowComputerName"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// The annotated form, as an element of the `value` array of an answer.
#[must_use]
pub fn to_rest(value: &Value) -> Json {
    built(rest(value))
}

/// What [`to_rest`] gives, to be written without being built first.
#[must_use]
pub fn rest(value: &Value) -> impl Serialize {
    Written { value, top: true, annotate: true, named: false, depth: 0 }
}

/// The same form without any key that contains `@`: what `-o json` prints.
#[must_use]
pub fn to_plain(value: &Value) -> Json {
    built(plain(value))
}

/// What [`to_plain`] gives, to be written without being built first.
#[must_use]
pub fn plain(value: &Value) -> impl Serialize {
    Written { value, top: true, annotate: false, named: false, depth: 0 }
}

/// Every key is text, so nothing fails.
fn built(written: impl Serialize) -> Json {
    serde_json::to_value(written).unwrap_or_default()
}

#[derive(Clone, Copy)]
struct Written<'a> {
    value: &'a Value,
    top: bool,
    annotate: bool,
    /// An annotation says of a time, alone or in a list, that it is one. It then has its recorded form, else that of
    /// [`instant`].
    named: bool,
    depth: usize,
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.depth >= MAX_DEPTH {
            return serializer.serialize_str(self.value.type_name());
        }
        match shape(self.value, self.top) {
            Shape::Text(text) => serializer.serialize_str(&text),
            Shape::Primitive(Value::String(text)) => serializer.serialize_str(text),
            Shape::Primitive(Value::DateTime(time)) if self.named => serializer.serialize_str(&time.to_rest()),
            Shape::Primitive(value) => primitive(value).serialize(serializer),
            Shape::List(items) => {
                serializer.collect_seq(items.iter().map(|value| Self { value, top: false, depth: self.depth + 1, ..*self }))
            }
            Shape::Dictionary(entries) => {
                let entries: Vec<_> = entries.iter().map(|(key, value)| (key.display(), value)).collect();
                self.members(serializer, Some(HASH_TABLE), entries.iter().map(|(key, value)| (key.as_str(), *value)))
            }
            Shape::Properties(object) => self.members(serializer, None, object.properties().map(|(name, value)| (&**name, value))),
        }
    }
}

impl Written<'_> {
    fn members<'m, S: Serializer>(
        &self,
        serializer: S,
        own_type: Option<&str>,
        members: impl Iterator<Item = (&'m str, &'m Value)>,
    ) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(own_type) = own_type.filter(|_| self.annotate) {
            map.serialize_entry(OWN_TYPE, own_type)?;
        }
        for (name, value) in distinct(members) {
            // Without annotations it matters for times alone, which may stand in lists.
            let matters = !name.is_empty() && (self.annotate || matches!(value, Value::DateTime(_) | Value::Object(_)));
            let annotation = if matters { annotation(value) } else { None };
            if self.annotate {
                match annotation {
                    Some(Annotation::One(row)) => {
                        map.serialize_entry(&format_args!("{name}@data.type"), row.dotnet)?;
                        if row.both {
                            map.serialize_entry(&format_args!("{name}{OWN_TYPE}"), &format_args!("#{}", row.edm))?;
                        }
                    }
                    Some(Annotation::List(edm)) => {
                        map.serialize_entry(&format_args!("{name}{OWN_TYPE}"), &format_args!("#Collection({edm})"))?;
                    }
                    None => {}
                }
            }
            let named = match annotation {
                Some(Annotation::One(_)) => true,
                Some(Annotation::List(edm)) => edm == DATE_TIME,
                None => false,
            };
            map.serialize_entry(name, &Written { value, top: false, annotate: self.annotate, named, depth: self.depth + 1 })?;
        }
        map.end()
    }
}

/// The members that are no annotations, each name once: a note hides a property of the same name, in its place.
fn distinct<'m>(members: impl Iterator<Item = (&'m str, &'m Value)>) -> Vec<(&'m str, &'m Value)> {
    let mut distinct: Vec<(&str, &Value)> = Vec::with_capacity(members.size_hint().0);
    let mut places = HashMap::with_capacity(members.size_hint().0);
    for (name, value) in members.filter(|(name, _)| !is_annotation(name)) {
        let place = *places.entry(name).or_insert(distinct.len());
        match distinct.get_mut(place) {
            Some(hidden) => hidden.1 = value,
            None => distinct.push((name, value)),
        }
    }
    distinct
}

fn is_annotation(name: &str) -> bool {
    memchr(b'@', name.as_bytes()).is_some()
}

/// What stands in `@data.type` and `@odata.type` beside a value.
#[derive(Clone, Copy)]
enum Annotation {
    /// The type of a primitive.
    One(&'static Annotated),
    /// The OData type of a list's items.
    List(&'static str),
}

fn annotation(value: &Value) -> Option<Annotation> {
    match shape(value, false) {
        Shape::Primitive(primitive) => annotated(primitive).map(Annotation::One),
        Shape::List(items) => element_type(items).map(Annotation::List),
        _ => None,
    }
}

fn annotated(primitive: &Value) -> Option<&'static Annotated> {
    match primitive {
        // Most values; none of them has a row.
        Value::Null | Value::String(_) | Value::Bool(_) => None,
        other => ANNOTATED.iter().find(|row| row.dotnet == other.type_name()),
    }
}

/// The canonical text of a time: UTC, `yyyy-MM-ddTHH:mm:ss.fffffffZ`.
fn instant(time: DateTime) -> String {
    time.to_utc().to_rest().replace("+00:00", "Z")
}

/// The OData type that all items but nulls share; a list without any counts as one of text.
fn element_type(items: &[Value]) -> Option<&'static str> {
    fn of(item: &Value) -> Option<&'static str> {
        match shape(item, false) {
            Shape::Text(_) => Some("String"),
            Shape::Dictionary(_) => HASH_TABLE.strip_prefix('#'),
            Shape::Primitive(value) => match annotated(value) {
                Some(row) => Some(row.edm).filter(|edm| !edm.is_empty()),
                None => primitive(value).is_string().then_some("String"),
            },
            _ => None,
        }
    }
    let mut items = items.iter().filter(|item| !item.is_null());
    let Some(first) = items.next() else { return Some("String") };
    let element = of(first)?;
    items.all(|item| of(item) == Some(element)).then_some(element)
}

/// A primitive without annotation, in the same words for all forms.
pub(crate) fn primitive(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::U8(n) => (*n).into(),
        Value::I8(n) => (*n).into(),
        Value::U16(n) => (*n).into(),
        Value::I16(n) => (*n).into(),
        Value::U32(n) => (*n).into(),
        Value::I32(n) => (*n).into(),
        Value::U64(n) => (*n).into(),
        Value::I64(n) => (*n).into(),
        // By way of the shortest text, so that 0.1 stays 0.1 and does not become 0.10000000149011612.
        Value::Single(n) => floating(n.to_string().parse().unwrap_or(f64::from(*n))),
        Value::Double(n) => floating(*n),
        Value::DateTime(time) => Json::String(instant(*time)),
        Value::Bytes(b) => Json::String(BASE64.encode(b)),
        // As in CLIXML: the ciphertext where there is one, never a secret.
        Value::SecureString(s) => s.ciphertext().into(),
        other => Json::String(other.display()),
    }
}

/// JSON has no word for what is not finite; OData writes these three.
fn floating(number: f64) -> Json {
    match Number::from_f64(number) {
        Some(number) => Json::Number(number),
        None if number.is_nan() => "NaN".into(),
        None => if number > 0.0 { "INF" } else { "-INF" }.into(),
    }
}

/// Reads the annotated form: an element of an answer's `value`, or the `Parameters` of a request.
///
/// An object becomes one whose values are notes, in order; one that calls itself `#Exchange.GenericHashTable` a
/// hash table, `#Exchange.ByteArrayType` its bytes. A number without annotation is `Int64` or `Double`. Unknown
/// annotations are ignored, as OData demands.
///
/// # Errors
/// When a value contradicts its annotation or the nesting is too deep.
pub fn from_rest(json: &Json) -> Result<Value, JsonError> {
    read(json, 0)
}

fn read(json: &Json, depth: usize) -> Result<Value, JsonError> {
    if depth > MAX_DEPTH {
        return Err(JsonError::TooDeep(MAX_DEPTH));
    }
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => number(n),
        Json::String(s) => Value::String(s.as_str().into()),
        Json::Array(items) => PsObject::from_list(items.iter().map(|item| read(item, depth + 1)).collect::<Result<_, _>>()?).into(),
        Json::Object(map) => match map.get(OWN_TYPE).and_then(Json::as_str) {
            Some(HASH_TABLE) => hash_table(map, depth)?,
            Some(BYTE_ARRAY) => {
                let data = map.get("Data").unwrap_or(&Json::Null);
                typed("System.Byte[]", data).ok_or_else(|| bad("Data", "Edm.Binary", data))?
            }
            _ => PsObject::notes(members(map, depth)?.collect::<Result<Properties, _>>()?).into(),
        },
    })
}

fn number(number: &Number) -> Value {
    match (number.as_i64(), number.as_u64()) {
        (Some(n), _) => Value::I64(n),
        (None, Some(n)) => Value::U64(n),
        _ => Value::Double(number.as_f64().unwrap_or_default()),
    }
}

fn hash_table(map: &Map<String, Json>, depth: usize) -> Result<Value, JsonError> {
    let mut entries = Vec::with_capacity(map.len());
    for member in members(map, depth)? {
        let (name, value) = member?;
        entries.push((Value::String(name), value));
    }
    let type_names = HASH_TABLE_NAMES.map(Arc::from).as_slice().into();
    Ok(PsObject { type_names, base: Base::Dictionary(entries), ..PsObject::default() }.into())
}

type Member = Result<(Arc<str>, Value), JsonError>;

/// Names and values without annotations, the values typed by them.
fn members(map: &Map<String, Json>, depth: usize) -> Result<impl Iterator<Item = Member>, JsonError> {
    if depth >= MAX_DEPTH {
        return Err(JsonError::TooDeep(MAX_DEPTH));
    }
    // .NET's type and OData's.
    let mut annotations: HashMap<&str, (Option<&str>, Option<&str>)> = HashMap::new();
    for (name, json) in map.iter().filter(|(name, _)| is_annotation(name)) {
        let Some((name, kind)) = name.split_once('@') else { continue };
        match kind {
            "data.type" => annotations.entry(name).or_default().0 = json.as_str(),
            "odata.type" => annotations.entry(name).or_default().1 = json.as_str(),
            _ => {}
        }
    }
    let members = map.iter().filter(|(name, _)| !is_annotation(name)).map(move |(name, json)| {
        let (dotnet, odata) = annotations.get(name.as_str()).copied().unwrap_or_default();
        let collection = odata.and_then(|odata| odata.strip_prefix("#Collection(")?.strip_suffix(')'));
        let value = match (dotnet, collection, json) {
            (Some(dotnet), ..) => known(name, dotnet, json, depth)?,
            (None, Some(element), Json::Array(items)) => collection_of(name, element, items, depth)?,
            _ => read(json, depth + 1)?,
        };
        Ok((Arc::from(name.as_str()), value))
    });
    Ok(members)
}

fn collection_of(name: &str, element: &str, items: &[Json], depth: usize) -> Result<Value, JsonError> {
    let row = ANNOTATED.iter().find(|row| row.edm == element && !element.is_empty());
    let items = items.iter().map(|item| match (row, item) {
        (Some(row), item) => known(name, row.dotnet, item, depth + 1),
        (None, Json::Object(map)) if HASH_TABLE.strip_prefix('#') == Some(element) => hash_table(map, depth + 1),
        (None, item) => read(item, depth + 2),
    });
    Ok(PsObject::from_list(items.collect::<Result<_, _>>()?).into())
}

/// A value whose .NET type is named; one that is not in the table is read as it stands.
fn known(name: &str, dotnet: &str, json: &Json, depth: usize) -> Result<Value, JsonError> {
    if json.is_null() || !ANNOTATED.iter().any(|row| row.dotnet == dotnet) {
        return read(json, depth + 1);
    }
    typed(dotnet, json).ok_or_else(|| bad(name, dotnet, json))
}

fn bad(name: &str, annotation: &str, json: &Json) -> JsonError {
    let text = json.to_string().chars().take(40).collect();
    JsonError::BadValue { name: name.to_owned(), annotation: annotation.to_owned(), text }
}

fn typed(dotnet: &str, json: &Json) -> Option<Value> {
    fn integer<T: TryFrom<i64>>(json: &Json) -> Option<T> {
        T::try_from(json.as_i64().or_else(|| json.as_str()?.parse().ok())?).ok()
    }
    let text = json.as_str();
    Some(match dotnet {
        "System.Guid" => Value::Guid(Uuid::parse_str(text?).ok()?),
        "System.DateTime" => Value::DateTime(match DateTime::parse(text?)? {
            utc if utc.kind() == DateTimeKind::Local(0) => utc.to_utc(),
            other => other,
        }),
        "System.Int32" => Value::I32(integer(json)?),
        "System.Int16" => Value::I16(integer(json)?),
        "System.Int64" => Value::I64(integer(json)?),
        "System.Byte" => Value::U8(integer(json)?),
        "System.SByte" => Value::I8(integer(json)?),
        "System.UInt16" => Value::U16(integer(json)?),
        "System.UInt32" => Value::U32(integer(json)?),
        "System.UInt64" => Value::U64(json.as_u64().or_else(|| text?.parse().ok())?),
        "System.Single" | "System.Double" => {
            let number = match text {
                Some("NaN") => f64::NAN,
                Some("INF") => f64::INFINITY,
                Some("-INF") => f64::NEG_INFINITY,
                Some(_) => return None,
                None => json.as_f64()?,
            };
            match dotnet {
                "System.Double" => Value::Double(number),
                // By way of the text: the single nearest to 0.1 as it was written. Rust spells the others alike too.
                _ => Value::Single(number.to_string().parse().ok()?),
            }
        }
        "System.Decimal" => {
            let text = text.map_or_else(|| json.to_string(), str::to_owned);
            let digits = text.strip_prefix('-').unwrap_or(&text);
            let plain = !digits.is_empty() && digits.len() <= 30 && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            Value::Decimal(plain.then_some(text)?.into())
        }
        "System.Byte[]" => match json {
            Json::Array(items) => {
                let bytes: Option<Vec<u8>> = items.iter().map(integer::<u8>).collect();
                Value::Bytes(bytes?.into())
            }
            _ => Value::Bytes(BASE64.decode(text?).ok()?.into()),
        },
        _ => return None,
    })
}
