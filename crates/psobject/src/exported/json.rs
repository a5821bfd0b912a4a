//! JSON: an array of objects, one object, several documents behind each other, and the wrapper `{"value": […], "Count": n}`.

use std::vec;

use serde_json::Value as Json;

use super::scanner::Scanner;
use super::{Entry, FileError};
use crate::json;

pub(super) struct Reader<'a> {
    text: Scanner<'a>,
    /// Deepest nesting of arrays and objects.
    depth: usize,
    /// Line on which the array begins that is being read.
    array: Option<u64>,
    /// What is left of a wrapper.
    wrapped: vec::IntoIter<Json>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: Scanner<'a>, depth: usize) -> Self {
        Self { text, depth, array: None, wrapped: Vec::new().into_iter() }
    }

    pub(super) fn next(&mut self) -> Result<Option<Entry>, FileError> {
        loop {
            if let Some(object) = self.wrapped.next() {
                return Ok(Some(self.entry(&object)));
            }
            match (self.text.peek_text()?, self.array) {
                (None, None) => return Ok(None),
                (None, Some(line)) => return Err(FileError::Truncated { line }),
                (Some(b'['), None) => self.array = Some(self.text.line),
                (Some(b']'), Some(_)) => self.array = None,
                (Some(b','), Some(_)) => {}
                (Some(b'{'), _) => {
                    match self.object()? {
                        Json::Array(items) => self.wrapped = items.into_iter(),
                        object => return Ok(Some(self.entry(&object))),
                    }
                    continue;
                }
                (Some(other), _) => {
                    let shown = char::from(other).escape_default();
                    return Err(self.text.malformed(format!("an object is expected, and there is \"{shown}\"")));
                }
            }
            self.text.next()?;
        }
    }

    fn entry(&self, object: &Json) -> Entry {
        Entry { line: self.text.begun, value: json::from_rest(object).map_err(Into::into), row: false }
    }

    /// The object that begins here, or the objects that it wraps.
    fn object(&mut self) -> Result<Json, FileError> {
        self.text.begin();
        let (mut depth, mut quoted) = (0, false);
        loop {
            match self.text.keep()? {
                b'"' => quoted = !quoted,
                b'\\' if quoted => {
                    self.text.keep()?;
                }
                b'{' | b'[' if !quoted => {
                    depth += 1;
                    if depth > self.depth {
                        return Err(FileError::TooLarge { line: self.text.line, what: "it is nested deeper", limit: self.depth });
                    }
                }
                b'}' | b']' if !quoted => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                _ => {}
            }
        }
        let parsed = serde_json::from_str(self.text.kept()?).map_err(|error| {
            let within = u64::try_from(error.line()).unwrap_or(1).saturating_sub(1);
            let reason = error.to_string();
            // The place that it names is one within the object.
            let reason = reason.rsplit_once(" at line ").map_or(&*reason, |(reason, _)| reason).to_owned();
            FileError::Malformed { line: self.text.begun + within, reason }
        })?;
        Ok(unwrapped(parsed))
    }
}

/// Takes off what stands around arrays and times where PowerShell had added properties to them, and around the objects of an
/// answer of the admin API.
fn unwrapped(mut json: Json) -> Json {
    match &mut json {
        Json::Array(items) => items.iter_mut().for_each(|item| *item = unwrapped(item.take())),
        Json::Object(members) => {
            members.values_mut().for_each(|member| *member = unwrapped(member.take()));
            let is_answer = members.contains_key("@odata.context");
            let is_wrapper = |names: &[&str]| members.len() == names.len() && names.iter().all(|name| members.contains_key(*name));
            let wraps = match members.get("value") {
                Some(Json::Array(_)) => is_answer || is_wrapper(&["value", "Count"]),
                Some(Json::String(_)) => is_wrapper(&["value", "DisplayHint", "DateTime"]) || is_wrapper(&["value", "DateTime"]),
                _ => false,
            };
            if let Some(value) = members.get_mut("value").filter(|_| wraps) {
                return value.take();
            }
        }
        _ => {}
    }
    json
}
