use std::io::{self, Write};

use exops_psobject::{Value, json};
use serde_json::Value as Json;

/// Between the items of a list.
const SEPARATOR: &str = ";";

/// RFC 4180 with LF. The first object names the columns.
#[derive(Default)]
pub(super) struct Csv {
    columns: Vec<String>,
}

impl Csv {
    pub(super) fn object(&mut self, value: &Value, out: &mut impl Write) -> io::Result<()> {
        let plain = match json::to_plain(value) {
            Json::Object(map) => map,
            other => [("Value".to_owned(), other)].into_iter().collect(),
        };
        if self.columns.is_empty() {
            self.columns = plain.keys().cloned().collect();
            line(self.columns.iter().map(String::as_str), out)?;
        }
        let cells: Vec<String> = self.columns.iter().map(|c| plain.get(c).map(text).unwrap_or_default()).collect();
        line(cells.iter().map(String::as_str), out)
    }
}

fn line<'a>(cells: impl Iterator<Item = &'a str>, out: &mut impl Write) -> io::Result<()> {
    let quoted: Vec<String> = cells.map(cell).collect();
    writeln!(out, "{}", quoted.join(","))
}

/// A spreadsheet takes a text that begins like this for a formula and runs it; an apostrophe in front makes it text. A
/// number with a sign is none.
fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err();
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) || text != text.trim() { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// As Export-Csv writes them, except for lists, of which it writes the type's name.
fn text(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        Json::Bool(true) => "True".to_owned(),
        Json::Bool(false) => "False".to_owned(),
        Json::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(SEPARATOR),
        other => other.to_string(),
    }
}
