//! `--query`: a JMESPath expression over the objects of a result.

use std::cmp::Reverse;
use std::collections::HashMap;

use exops_psobject::{PsObject, Value, json};
use jmespath::Variable;
use jmespath::ast::Ast;
use serde_json::Value as Json;

use crate::failure::Failure;
use crate::params;

/// How the option is written.
const FORM: &str = "such as --query \"[?IsShared].PrimarySmtpAddress\"; jmespath.org has the grammar";

/// A compiled expression and what it waits for.
pub(crate) struct Query {
    expression: jmespath::Expression<'static>,
    /// The expression gives the same for each object alone, one after the other.
    streams: bool,
    /// Objects that wait for the last one, as plain JSON.
    waiting: Vec<Json>,
    /// Place of each property in the objects that came; JMESPath sorts them.
    order: HashMap<String, usize>,
}

/// What an expression made of the objects.
pub(crate) enum Found {
    /// A list: each item is shown as an object is.
    Items(Vec<Value>),
    /// Anything else, which is the whole result.
    One(Json),
}

impl Query {
    /// Compiles it; nothing was sent yet.
    pub(crate) fn new(expression: &str) -> Result<Self, Failure> {
        let expression = jmespath::compile(expression).map_err(|e| failure(&e))?;
        let streams = streams(expression.as_ast());
        Ok(Self { expression, streams, waiting: Vec::new(), order: HashMap::new() })
    }

    /// What can be shown of one object already.
    pub(crate) fn object(&mut self, value: &Value) -> Result<Vec<Value>, Failure> {
        let plain = json::to_plain(value);
        for name in plain.as_object().into_iter().flat_map(|o| o.keys()) {
            if !self.order.contains_key(name) {
                self.order.insert(name.clone(), self.order.len());
            }
        }
        if !self.streams {
            self.waiting.push(plain);
            return Ok(Vec::new());
        }
        match self.search(Json::Array(vec![plain]))? {
            Found::Items(items) => Ok(items),
            Found::One(_) => Ok(Vec::new()),
        }
    }

    /// What only the whole list gives; `None` where every object had its turn.
    pub(crate) fn finish(&mut self) -> Result<Option<Found>, Failure> {
        if self.streams {
            return Ok(None);
        }
        let all = std::mem::take(&mut self.waiting);
        self.search(Json::Array(all)).map(Some)
    }

    fn search(&self, objects: Json) -> Result<Found, Failure> {
        let found = Variable::from_serializable(objects).and_then(|input| self.expression.search(input)).map_err(|e| failure(&e))?;
        let found = serde_json::to_value(&*found).map_err(|e| Failure::usage(format!("the result of --query is no JSON: {e}")))?;
        Ok(match found {
            Json::Array(items) => Found::Items(items.into_iter().map(|item| value(self.ordered(item))).collect()),
            other => Found::One(self.ordered(other)),
        })
    }

    /// Properties in the order of the expression where it names them all (`{Name: …, Mail: …}`), else in that of the
    /// objects.
    fn ordered(&self, value: Json) -> Json {
        match value {
            Json::Object(map) => {
                let text = self.expression.as_str();
                let written: Option<Vec<usize>> = map.keys().map(|k| text.find(k.as_str())).collect();
                let mut entries: Vec<(String, Json)> = map.into_iter().map(|(k, v)| (k, self.ordered(v))).collect();
                entries.sort_by_key(|(k, _)| match &written {
                    Some(_) => text.find(k.as_str()).map_or((usize::MAX, Reverse(0)), |at| (at, Reverse(k.len()))),
                    None => (self.order.get(k).copied().unwrap_or(usize::MAX), Reverse(0)),
                });
                Json::Object(entries.into_iter().collect())
            }
            Json::Array(items) => Json::Array(items.into_iter().map(|i| self.ordered(i)).collect()),
            other => other,
        }
    }
}

/// A value of plain JSON as an object of a cmdlet.
pub(crate) fn value(json: Json) -> Value {
    params::value(json, &object)
}

fn object(entries: Vec<(String, Value)>) -> Value {
    let mut object = PsObject::default();
    for (name, value) in entries {
        object.extended.push(name.as_str(), value);
    }
    object.into()
}

/// Whether the list of an expression over a list is the lists of its parts, one after the other: projections and
/// flattenings of the list itself are such, a slice, a pipe or a function is not.
fn streams(ast: &Ast) -> bool {
    match ast {
        Ast::Identity { .. } => true,
        Ast::Projection { lhs, .. } => streams(lhs),
        Ast::Flatten { node, .. } => streams(node),
        _ => false,
    }
}

fn failure(error: &jmespath::JmespathError) -> Failure {
    let (what, reason) = match &error.reason {
        jmespath::ErrorReason::Parse(text) => ("is no JMESPath expression", text.clone()),
        jmespath::ErrorReason::Runtime(reason) => ("cannot be worked out", reason.to_string()),
    };
    let (expression, at) = (&error.expression, error.offset.saturating_add(1));
    let text = format!("--query '{expression}' {what}: {}, at character {at}", reason.trim_end_matches(['.', '\n']));
    Failure { code: "Query".to_owned(), target: expression.clone(), ..Failure::usage(text) }.hint(FORM)
}
