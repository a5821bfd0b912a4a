//! `--params`: parameters of a cmdlet as a JSON object, out of reach of any shell.

use std::io::Read as _;
use std::path::Path;

use exops_adminapi::{BodyError, parse_unique};
use exops_catalogue::Argument;
use exops_psobject::{Base, Limits, PsObject, Value};
use serde_json::Value as Json;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::io_reason;
use crate::session::read;

/// Longest JSON from standard input, in bytes.
const LIMIT: u64 = 4 << 20;
/// Bounds of parameters. A longer file than `LIMIT` is not read at all.
const LIMITS: Limits = Limits { bytes: 5 << 20, depth: 64, values: 1_000_000, attributes: 0, own_members: false };
/// How the option is written.
const FORM: &str =
    "such as --params '{\"Identity\": \"ann\", \"EmailAddresses\": {\"Add\": [\"smtp:a@contoso.com\"]}}', --params @FILE or --params -";

/// The arguments that `--params` gives: JSON itself, `@file`, or `-` for standard input.
pub(crate) fn arguments(given: &str) -> Result<Vec<Argument>, Failure> {
    let refused = |why: String| Failure::usage(format!("--params {why}")).hint(FORM);
    let map = match parse_unique(&bytes(given)?, &LIMITS) {
        Ok(Json::Object(map)) => map,
        Ok(_) => return Err(refused("is JSON, but no object of parameters and their values".to_owned())),
        Err(BodyError::NotJson(why)) => return Err(refused(format!("is no JSON: {why}"))),
        Err(error) => return Err(refused(format!("is not taken: {error}"))),
    };
    let mut arguments: Vec<Argument> = Vec::with_capacity(map.len());
    for (name, value) in map {
        let name = name.strip_prefix('-').unwrap_or(&name).to_owned();
        let same = |a: &Argument| a.name.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(&name));
        if arguments.iter().any(same) {
            return Err(refused(format!("is not taken: it gives -{name} twice")));
        }
        arguments.push(Argument { name: Some(name), value: Some(value_of(value)), glued: true });
    }
    Ok(arguments)
}

/// What an option gives: the text itself, `@file`, or `-` for standard input; without a byte order mark.
pub(crate) fn bytes(given: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = match given.strip_prefix('@') {
        Some(file) => read(Path::new(file))?,
        None if given == "-" => {
            let mut bytes = Vec::new();
            std::io::stdin()
                .take(LIMIT)
                .read_to_end(&mut bytes)
                .map_err(|e| Failure::new(Exit::Unexpected, format!("standard input cannot be read: {}", io_reason(&e))))?;
            bytes
        }
        None => given.as_bytes().to_vec(),
    };
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    Ok(bytes)
}

/// A JSON object is a hashtable, as `@{…}` is.
fn value_of(json: Json) -> Value {
    value(json, &|entries| hashtable(entries.into_iter().map(|(name, value)| (name.into(), value)).collect()))
}

/// The value of a JSON text; `object` makes one of names and values.
pub(crate) fn value(json: Json, object: &dyn Fn(Vec<(String, Value)>) -> Value) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(b),
        Json::String(text) => text.into(),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(n), _) => i32::try_from(n).map_or(Value::I64(n), Value::I32),
            (None, Some(n)) => Value::Double(n),
            (None, None) => number.to_string().into(),
        },
        Json::Array(items) => PsObject::from_list(items.into_iter().map(|item| value(item, object)).collect()).into(),
        Json::Object(map) => object(map.into_iter().map(|(name, item)| (name, value(item, object))).collect()),
    }
}

/// A `System.Collections.Hashtable`.
pub(crate) fn hashtable(entries: Vec<(Value, Value)>) -> Value {
    let type_names = ["System.Collections.Hashtable".into(), "System.Object".into()];
    PsObject { type_names: type_names.into(), base: Base::Dictionary(entries), ..PsObject::default() }.into()
}
