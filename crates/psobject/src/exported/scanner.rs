//! From bytes to text.

use std::io::{self, BufRead as _, BufReader, Read, Seek};

use super::{FileError, NOT_UTF8};

/// How a file holds its text.
#[derive(Clone, Copy)]
pub(super) enum Encoding {
    Utf8 { mark: u64 },
    Utf16 { big: bool, mark: u64 },
}

impl Encoding {
    pub(super) fn of(head: &[u8]) -> Self {
        match head {
            [0xEF, 0xBB, 0xBF, ..] => Self::Utf8 { mark: 3 },
            [0xFF, 0xFE, ..] => Self::Utf16 { big: false, mark: 2 },
            [0xFE, 0xFF, ..] => Self::Utf16 { big: true, mark: 2 },
            // All three formats begin with a character of ASCII.
            [first, 0, ..] if *first != 0 => Self::Utf16 { big: false, mark: 0 },
            [0, second, ..] if *second != 0 => Self::Utf16 { big: true, mark: 0 },
            _ => Self::Utf8 { mark: 0 },
        }
    }

    /// The file from its beginning, as UTF-8.
    pub(super) fn text<'a, F: Read + Seek>(self, file: &'a mut F) -> io::Result<Box<dyn Read + 'a>> {
        let (Self::Utf8 { mark } | Self::Utf16 { mark, .. }) = self;
        file.seek(io::SeekFrom::Start(mark))?;
        Ok(match self {
            Self::Utf8 { .. } => Box::new(file),
            Self::Utf16 { big, .. } => {
                Box::new(Utf16 { inner: BufReader::with_capacity(1 << 16, file), big, high: None, out: Vec::new(), at: 0 })
            }
        })
    }
}

/// UTF-16 as UTF-8. Half a pair becomes U+FFFD.
struct Utf16<R> {
    inner: BufReader<R>,
    big: bool,
    high: Option<u16>,
    out: Vec<u8>,
    at: usize,
}

impl<R: Read> Utf16<R> {
    fn unit(&mut self) -> io::Result<Option<u16>> {
        let mut pair = [0; 2];
        match self.inner.read_exact(&mut pair) {
            Ok(()) => Ok(Some(if self.big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.out.len() {
            (self.at, self.out) = (0, Vec::with_capacity(1 << 14));
            let mut units: Vec<u16> = self.high.take().into_iter().collect();
            while units.len() < 4096 {
                let Some(unit) = self.unit()? else { break };
                units.push(unit);
            }
            if units.len() >= 4096 && units.last().is_some_and(|unit| (0xD800..0xDC00).contains(unit)) {
                self.high = units.pop();
            }
            for c in char::decode_utf16(units) {
                let c = c.unwrap_or(char::REPLACEMENT_CHARACTER);
                self.out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        let rest = self.out.get(self.at..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at += count;
        Ok(count)
    }
}

/// Bytes one by one, with the line they are on, and the bytes of the object that is being read.
pub(super) struct Scanner<'a> {
    inner: BufReader<Box<dyn Read + 'a>>,
    /// Line of the next byte, from 1.
    pub(super) line: u64,
    /// Bytes that [`Scanner::keep`] put aside.
    pub(super) bytes: Vec<u8>,
    /// Line on which they begin.
    pub(super) begun: u64,
    /// Most of them.
    limit: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(inner: Box<dyn Read + 'a>, limit: usize) -> Self {
        Self { inner: BufReader::with_capacity(1 << 16, inner), line: 1, bytes: Vec::new(), begun: 1, limit }
    }

    /// The next byte, which stays.
    pub(super) fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.inner.fill_buf()?.first().copied())
    }

    /// The next byte.
    pub(super) fn next(&mut self) -> io::Result<Option<u8>> {
        let byte = self.peek()?;
        if byte.is_some() {
            self.inner.consume(1);
        }
        self.line += u64::from(byte == Some(b'\n'));
        Ok(byte)
    }

    /// The next byte that is no blank, which stays.
    pub(super) fn peek_text(&mut self) -> io::Result<Option<u8>> {
        while let Some(byte) = self.peek()? {
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
            self.next()?;
        }
        Ok(None)
    }

    /// Begins an object here.
    pub(super) fn begin(&mut self) {
        self.bytes.clear();
        self.begun = self.line;
    }

    /// Takes the next byte into the object.
    pub(super) fn keep(&mut self) -> Result<u8, FileError> {
        let byte = self.next()?.ok_or(FileError::Truncated { line: self.begun })?;
        if self.bytes.len() >= self.limit {
            return Err(FileError::TooLarge { line: self.begun, what: "an object has more bytes", limit: self.limit });
        }
        self.bytes.push(byte);
        Ok(byte)
    }

    /// What was taken into the object.
    pub(super) fn kept(&self) -> Result<&str, FileError> {
        std::str::from_utf8(&self.bytes).map_err(|error| {
            let before = self.bytes.get(..error.valid_up_to()).unwrap_or_default();
            let lines = before.iter().filter(|byte| **byte == b'\n').count();
            FileError::Malformed { line: self.begun + lines as u64, reason: NOT_UTF8.to_owned() }
        })
    }

    /// What is wrong at this place.
    pub(super) fn malformed(&self, reason: impl Into<String>) -> FileError {
        FileError::Malformed { line: self.line, reason: reason.into() }
    }
}
