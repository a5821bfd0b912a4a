//! Objects on standard output, as they arrive.

mod list;
mod table;

use std::io::{self, Write};

use clap::ValueEnum;
use exops_psobject::{Value, json};

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
    table: table::Table,
}

impl<W: Write> Output<W> {
    /// `cmdlet` chooses the default view where objects do not say their type; `width` bounds the lines of a table.
    pub(crate) fn new(format: Format, out: W, cmdlet: &str, width: Option<usize>) -> Self {
        Self { format, out, count: 0, table: table::Table::new(cmdlet, width) }
    }

    /// Shows an object.
    pub(crate) fn object(&mut self, value: &Value) -> io::Result<()> {
        let first = self.count == 0;
        self.count += 1;
        match self.format {
            Format::Table => self.table.object(value, &mut self.out),
            Format::List => list::object(value, first, &mut self.out),
            Format::Json => {
                self.out.write_all(if first { b"[\n" } else { b",\n" })?;
                serde_json::to_writer(&mut self.out, &json::to_plain(value)).map_err(io::Error::from)
            }
            Format::Jsonl => {
                serde_json::to_writer(&mut self.out, &json::to_plain(value)).map_err(io::Error::from)?;
                self.out.write_all(b"\n")
            }
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
            Format::Json => self.out.write_all(if self.count == 0 { b"[]\n" } else { b"\n]\n" })?,
            Format::List | Format::Jsonl => {}
        }
        self.out.flush()
    }
}

/// A value in one cell: lists in braces, nothing for null.
pub(crate) fn cell(value: &Value) -> String {
    match value.as_list() {
        Some(items) => format!("{{{}}}", items.iter().map(Value::display).collect::<Vec<_>>().join(", ")),
        None => value.display(),
    }
}

/// Control characters would reach the terminal as commands.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
