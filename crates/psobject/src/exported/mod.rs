//! Files that administrators exported, read object by object: JSON of both PowerShells' `ConvertTo-Json` and of the command
//! line, CLIXML of `Export-Clixml`, CSV of `Export-Csv`; in UTF-8 or UTF-16, with byte order mark or without.
//!
//! A file may be of any size: one object, and in CLIXML what objects share, is in memory at a time. Which format it is, its
//! beginning tells.

mod clixml;
mod csv;
mod json;
mod scanner;

use std::io::{self, Read, Seek};

use thiserror::Error;

use crate::clixml::ClixmlError;
use crate::json::JsonError;
use crate::{Limits, Value};
use scanner::{Encoding, Scanner};

/// Bytes that are looked at to tell encoding and format.
const HEAD: u64 = 4096;
/// What is said of other encodings: `Set-Content` of Windows PowerShell writes one unless it is told.
const NOT_UTF8: &str = "it is neither UTF-8 nor UTF-16; write the file with -Encoding UTF8";

/// One object of a file.
#[derive(Debug)]
pub struct Entry {
    /// Line on which it begins, from 1.
    pub line: u64,
    /// What it is, or why it cannot be read.
    pub value: Result<Value, EntryError>,
    /// It is a row of CSV, whose empty cells say less than an empty text.
    pub row: bool,
}

/// Why one object cannot be read; the others can.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EntryError {
    /// Its XML is no object.
    #[error(transparent)]
    Clixml(#[from] ClixmlError),
    /// Its JSON is no object.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The row is longer or shorter than the header.
    #[error("it has {found} cells; the header has {expected}")]
    Cells {
        /// Of the row.
        found: usize,
        /// Of the header.
        expected: usize,
    },
}

/// Why a file cannot be read any further.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// There is none in it.
    #[error("there is no object in the file")]
    Empty,
    /// Neither JSON, nor CLIXML, nor CSV.
    #[error("the file is not text: it holds {0}; JSON, CLIXML or CSV is expected")]
    NotText(&'static str),
    /// The format's rules are broken.
    #[error("line {line}: {reason}")]
    Malformed {
        /// Counted from 1.
        line: u64,
        /// What is wrong there.
        reason: String,
    },
    /// It ends in the middle.
    #[error("the file ends in the middle of the object that begins on line {line}")]
    Truncated {
        /// Counted from 1.
        line: u64,
    },
    /// A limit is exceeded.
    #[error("line {line}: {what} than {limit}")]
    TooLarge {
        /// Counted from 1.
        line: u64,
        /// As a sentence up to the number.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// It could not be read.
    #[error("the file cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// The objects of a file, in order. After an error there are no more.
pub struct Entries<'a> {
    format: Format<'a>,
    /// How many there were.
    count: u64,
    ended: bool,
}

enum Format<'a> {
    Json(json::Reader<'a>),
    Clixml(clixml::Reader<'a>),
    Csv(csv::Reader<'a>),
}

/// Reads a file from its beginning, whatever its position; more than once where the format needs that. [`Limits::bytes`]
/// bounds each object, and what CLIXML objects share to four times as much.
///
/// # Errors
/// When the beginning of the file tells that it is none of the formats, or cannot be read.
pub fn read<'a, F: Read + Seek>(file: &'a mut F, limits: &Limits) -> Result<Entries<'a>, FileError> {
    let mut head = Vec::new();
    file.rewind()?;
    file.by_ref().take(HEAD).read_to_end(&mut head)?;
    let encoding = Encoding::of(&head);
    let mut sample = Vec::new();
    encoding.text(file)?.take(HEAD).read_to_end(&mut sample)?;
    let begin = String::from_utf8_lossy(&sample);
    let format = match begin.trim_start().chars().next() {
        None => return Err(FileError::Empty),
        Some(_) if begin.contains('\0') => return Err(FileError::NotText("NUL characters")),
        Some('[' | '{') => Format::Json(json::Reader::new(Scanner::new(encoding.text(file)?, limits.bytes), limits.depth)),
        Some('<') => {
            let shared = clixml::shared(Scanner::new(encoding.text(file)?, limits.bytes))?;
            Format::Clixml(clixml::Reader::new(Scanner::new(encoding.text(file)?, limits.bytes), *limits, shared))
        }
        Some(_) if begin.chars().any(|c| c.is_control() && !c.is_whitespace()) => return Err(FileError::NotText("control characters")),
        Some(_) => Format::Csv(csv::Reader::new(Scanner::new(encoding.text(file)?, limits.bytes))?),
    };
    Ok(Entries { format, count: 0, ended: false })
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = match &mut self.format {
            Format::Json(reader) => reader.next(),
            Format::Clixml(reader) => reader.next(),
            Format::Csv(reader) => reader.next(),
        };
        let next = match next {
            Ok(None) if self.count == 0 => Some(Err(FileError::Empty)),
            next => next.transpose(),
        };
        self.count += 1;
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}
