//! CSV of both PowerShells' `Export-Csv` (with and without `#TYPE`) and of the command line: comma, semicolon or tab.

use std::sync::Arc;

use super::scanner::Scanner;
use super::{Entry, EntryError, FileError};
use crate::{Properties, PsObject, Value};

/// Most columns.
const COLUMNS: usize = 4096;

pub(super) struct Reader<'a> {
    text: Scanner<'a>,
    columns: Vec<Arc<str>>,
    separator: u8,
    /// What a line `#TYPE` says.
    type_names: Vec<Arc<str>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(mut text: Scanner<'a>) -> Result<Self, FileError> {
        let mut type_names: Vec<Arc<str>> = Vec::new();
        if text.peek_text()? == Some(b'#') {
            let line = row(&mut text, None)?.unwrap_or_default().0.concat();
            type_names.extend(line.strip_prefix("#TYPE ").map(|name| Arc::from(name.trim())));
        }
        let (columns, separator) = row(&mut text, None)?.ok_or(FileError::Empty)?;
        if columns.len() < 2 {
            return Err(FileError::Malformed { line: text.begun, reason: "a header with several columns is expected".to_owned() });
        }
        Ok(Self { text, columns: columns.iter().map(|name| name.trim().into()).collect(), separator, type_names })
    }

    pub(super) fn next(&mut self) -> Result<Option<Entry>, FileError> {
        let Some((cells, _)) = row(&mut self.text, Some(self.separator))? else { return Ok(None) };
        let value = if cells.len() == self.columns.len() {
            let columns = self.columns.iter().cloned();
            let notes: Properties = columns.zip(cells.iter().map(|cell| Value::from(unguarded(cell)))).collect();
            Ok(PsObject { type_names: self.type_names.clone().into(), ..PsObject::notes(notes) }.into())
        } else {
            Err(EntryError::Cells { found: cells.len(), expected: self.columns.len() })
        };
        Ok(Some(Entry { line: self.text.begun, value, row: true }))
    }
}

/// An apostrophe before what a spreadsheet would run is no part of the value.
fn unguarded(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|rest| rest.starts_with(['=', '+', '-', '@', '\t', '\r'])).unwrap_or(cell)
}

/// The next row that is not blank, and its separator: of the header the first that stands outside quotation marks.
fn row(text: &mut Scanner<'_>, separator: Option<u8>) -> Result<Option<(Vec<String>, u8)>, FileError> {
    while matches!(text.peek()?, Some(b'\r' | b'\n')) {
        text.next()?;
    }
    if text.peek()?.is_none() {
        return Ok(None);
    }
    text.begin();
    let (mut separator, mut cells, mut quoted, mut cell) = (separator, Vec::new(), false, Vec::new());
    while let Some(next) = text.peek()? {
        if next == b'\n' && !quoted {
            break;
        }
        let byte = text.keep()?;
        match byte {
            b'"' if quoted && text.peek()? == Some(b'"') => cell.push(text.keep()?),
            b'"' if quoted || cell.is_empty() => quoted = !quoted,
            b',' | b';' | b'\t' if !quoted && separator.is_none_or(|known| known == byte) => {
                separator = Some(byte);
                cells.push(std::mem::take(&mut cell));
                if cells.len() > COLUMNS {
                    return Err(FileError::TooLarge { line: text.line, what: "there are more columns", limit: COLUMNS });
                }
            }
            _ => cell.push(byte),
        }
    }
    if quoted {
        return Err(FileError::Truncated { line: text.begun });
    }
    if cell.last() == Some(&b'\r') {
        cell.pop();
    }
    cells.push(cell);
    // The whole row is text, and cells end at characters of ASCII.
    text.kept()?;
    let cells: Vec<String> = cells.iter().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect();
    if cells.iter().any(|cell| cell.contains('\0')) {
        return Err(text.malformed("it holds NUL characters"));
    }
    Ok(Some((cells, separator.unwrap_or(b','))))
}
