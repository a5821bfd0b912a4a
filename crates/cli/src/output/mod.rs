//! Objects on standard output, as they arrive.

mod csv;
mod list;
mod table;
mod yaml;

use std::borrow::Cow;
use std::io::{self, Write};

use clap::ValueEnum;
use exops_psobject::clixml::DocumentWriter;
use exops_psobject::{PsObject, Value, json};
use serde_json::Value as Json;

use crate::query;

/// How objects are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns of the type's default view.
    Table,
    /// All properties, one a line.
    List,
    /// One array.
    Json,
    /// One object a line.
    Jsonl,
    /// A head line and a line an object; lists are joined with ';'.
    Csv,
    /// A list of mappings.
    Yaml,
    /// What Export-Clixml writes: the objects with their types.
    Clixml,
}

impl Format {
    pub(crate) fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Jsonl)
    }
}

/// Writes objects in one format. Nothing but a table's first rows, from which it takes its widths, is kept.
pub(crate) struct Output<W: Write> {
    format: Format,
    out: W,
    count: usize,
    ended: bool,
    select: Vec<String>,
    table: table::Table,
    csv: csv::Csv,
    clixml: DocumentWriter,
}

impl<W: Write> Output<W> {
    /// `cmdlet` chooses the default view where objects do not say their type; `width` bounds the lines of a table;
    /// `select` names the properties that are shown, all where it is empty; `queried` says that an expression made the
    /// objects.
    pub(crate) fn new(format: Format, out: W, cmdlet: &str, width: Option<usize>, select: Vec<String>, queried: bool) -> Self {
        let columns = match (select.is_empty(), queried) {
            (false, _) => table::Columns::All,
            (true, true) => table::Columns::ViewIfWhole,
            (true, false) => table::Columns::View,
        };
        let table = table::Table::new(cmdlet, width, columns);
        Self { format, out, count: 0, ended: false, select, table, csv: csv::Csv::default(), clixml: DocumentWriter::default() }
    }

    /// Shows an object.
    pub(crate) fn object(&mut self, value: &Value) -> io::Result<()> {
        let first = self.count == 0;
        self.count += 1;
        let selected;
        let value = if self.select.is_empty() {
            value
        } else {
            selected = select(value, &self.select);
            &selected
        };
        match self.format {
            Format::Csv => self.csv.object(value, &mut self.out),
            Format::Yaml => yaml::object(value, &mut self.out),
            Format::Clixml => self.out.write_all(self.clixml.object(value).as_bytes()),
            Format::Table => self.table.object(value, &mut self.out),
            Format::List => list::object(value, first, &mut self.out),
            Format::Json => {
                self.out.write_all(if first { b"[\n" } else { b",\n" })?;
                serde_json::to_writer(&mut self.out, &json::plain(value)).map_err(io::Error::from)
            }
            Format::Jsonl => {
                serde_json::to_writer(&mut self.out, &json::plain(value)).map_err(io::Error::from)?;
                self.out.write_all(b"\n")
            }
        }
    }

    /// Shows the one value that is the whole result, where no object was shown.
    pub(crate) fn whole(&mut self, json: &Json) -> io::Result<()> {
        let value = &query::value(json.clone());
        match self.format {
            Format::Json => {
                writeln!(self.out, "{json}")?;
                self.out.flush()?;
                self.ended = true;
                Ok(())
            }
            Format::Table | Format::List | Format::Csv if json.is_null() => Ok(()),
            Format::Table | Format::List if value.as_object().is_none_or(|o| o.properties().next().is_none()) => {
                writeln!(self.out, "{}", printable(&cell(value)))
            }
            _ => self.object(value),
        }
    }

    /// Shows what waits, as far as it is known.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Ends the document, also after an error in the middle.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        match self.format {
            Format::Table => self.table.finish(&mut self.out)?,
            Format::Json if self.ended => {}
            Format::Json => self.out.write_all(if self.count == 0 { b"[]\n" } else { b"\n]\n" })?,
            Format::Yaml if self.count == 0 => self.out.write_all(b"[]\n")?,
            Format::Clixml => {
                self.out.write_all(self.clixml.finish().as_bytes())?;
                self.out.write_all(b"\n")?;
            }
            Format::List | Format::Jsonl | Format::Csv | Format::Yaml => {}
        }
        self.out.flush()
    }
}

/// The object with these properties only, in this order; null where it has none of that name.
fn select(value: &Value, names: &[String]) -> Value {
    let Some(object) = value.as_object() else { return value.clone() };
    let mut selected = PsObject { type_names: object.type_names.clone(), ..PsObject::default() };
    for name in names {
        let found = object.properties().find(|(n, _)| n.eq_ignore_ascii_case(name));
        let (name, value) = found.map_or_else(|| (name.as_str().into(), Value::Null), |(n, v)| (n.clone(), v.clone()));
        selected.extended.push(name, value);
    }
    selected.into()
}

/// A value in one cell: lists in braces, nothing for null.
pub(crate) fn cell(value: &Value) -> String {
    match value.as_list() {
        Some(items) => format!("{{{}}}", items.iter().map(Value::display).collect::<Vec<_>>().join(", ")),
        None => value.display(),
    }
}

/// Control characters would reach the terminal as commands, and marks of writing direction would reorder the line.
pub(crate) fn printable(text: &str) -> String {
    let harmful = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if harmful(c) { ' ' } else { c }).collect()
}

/// The same without what has the shape of a token or an assertion: a service may send back what it was sent.
pub(crate) fn without_tokens(text: &str) -> Cow<'_, str> {
    const SIGN: &str = "eyJ";
    let (mut rest, mut out) = (text, String::new());
    while let Some((before, from)) = rest.find(SIGN).and_then(|at| rest.split_at_checked(at)) {
        let end = from.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).unwrap_or(from.len());
        let (word, after) = from.split_at_checked(end).unwrap_or((from, ""));
        out += before;
        out += if word.contains('.') { "[token]" } else { word };
        rest = after;
    }
    if out.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(out + rest) }
}
