//! Short forms for building and reading the property bags that messages are.

use std::sync::Arc;

use exops_psobject::{Base, ErrorRecord, ListKind, Properties, PsObject, TypeNames, Value};

use crate::{MessageType, ProtocolError};

pub(crate) fn types(names: &[&str]) -> TypeNames {
    names.iter().map(|n| Arc::from(*n)).collect()
}

/// `[name, value]…` as note properties.
pub(crate) fn notes<const N: usize>(entries: [(&str, Value); N]) -> PsObject {
    PsObject::notes(entries.into_iter().collect())
}

pub(crate) fn object<const N: usize>(entries: [(&str, Value); N]) -> Value {
    notes(entries).into()
}

pub(crate) fn enumeration(name: &str, member: &str, number: i32) -> Value {
    PsObject::enumeration(types(&[name, "System.Enum", "System.ValueType", "System.Object"]), member, number).into()
}

/// A list with the type names of an `ArrayList`.
pub(crate) fn array_list(items: Vec<Value>) -> Value {
    typed_list(&["System.Collections.ArrayList", "System.Object"], items)
}

pub(crate) fn typed_list(names: &[&str], items: Vec<Value>) -> Value {
    PsObject { type_names: types(names), base: Base::List(ListKind::List, items), ..PsObject::default() }.into()
}

pub(crate) fn dictionary(names: &[&str], entries: Vec<(Value, Value)>) -> Value {
    PsObject { type_names: types(names), base: Base::Dictionary(entries), ..PsObject::default() }.into()
}

pub(crate) fn text(text: &str) -> Value {
    Value::from(text)
}

/// Text, or null when there is none.
pub(crate) fn optional_text(value: Option<&Arc<str>>) -> Value {
    value.map_or(Value::Null, |t| Value::String(Arc::clone(t)))
}

/// Reads properties of a message's content without case.
pub(crate) struct Reader<'a> {
    kind: MessageType,
    object: &'a PsObject,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(kind: MessageType, value: &'a Value) -> Result<Self, ProtocolError> {
        let object = value.as_object().ok_or(ProtocolError::Property { kind, property: "its object" })?;
        Ok(Self { kind, object })
    }

    pub(crate) fn get(&self, property: &str) -> Option<&'a Value> {
        self.object.property(property).filter(|v| !v.is_null())
    }

    pub(crate) fn lacks(&self, property: &'static str) -> ProtocolError {
        ProtocolError::Property { kind: self.kind, property }
    }

    pub(crate) fn number(&self, property: &'static str) -> Result<i64, ProtocolError> {
        self.get(property).and_then(Value::as_i64).ok_or_else(|| self.lacks(property))
    }

    pub(crate) fn text(&self, property: &'static str) -> Result<&'a str, ProtocolError> {
        self.get(property).and_then(Value::as_str).ok_or_else(|| self.lacks(property))
    }

    pub(crate) fn flag(&self, property: &str) -> bool {
        self.get(property).and_then(Value::as_bool).unwrap_or(false)
    }

    pub(crate) fn reader(&self, property: &'static str) -> Result<Reader<'a>, ProtocolError> {
        let value = self.get(property).ok_or_else(|| self.lacks(property))?;
        Reader::new(self.kind, value).map_err(|_| self.lacks(property))
    }

    /// Items of a list; a single value counts as a list of one, null as an empty list.
    pub(crate) fn list(&self, property: &str) -> &'a [Value] {
        match self.get(property) {
            None => &[],
            Some(value) => value.as_list().unwrap_or(std::slice::from_ref(value)),
        }
    }
}

/// An error record inside a state message, when there is one.
pub(crate) fn exception(value: &Value) -> Option<ErrorRecord> {
    let record = value.as_object()?.property("ExceptionAsErrorRecord").filter(|v| !v.is_null())?;
    Some(crate::error_from_value(record))
}

pub(crate) fn adapted<const N: usize>(entries: [(&str, Value); N]) -> Properties {
    entries.into_iter().collect()
}
