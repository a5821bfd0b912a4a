//! As much DER as key files need: a reader that never trusts a length, and a writer.

use thiserror::Error;

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// Context-specific, constructed, number 0.
pub(crate) const EXPLICIT_0: u8 = 0xa0;

/// Bytes that are not the DER that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum DerError {
    #[error("it ends too early")]
    Truncated,
    #[error("a length is not in its shortest form, or of indefinite form")]
    Length,
    #[error("an element of another type was expected")]
    Tag,
    #[error("bytes follow the last element")]
    Trailing,
    #[error("a number is negative or too large")]
    Number,
}

/// One element.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// With tag and length.
    pub(crate) whole: &'a [u8],
}

impl<'a> Element<'a> {
    /// A reader over its content.
    pub(crate) fn inside(self) -> Reader<'a> {
        Reader(self.content)
    }
}

/// Reads elements one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The content of the one element that the bytes are.
    pub(crate) fn only(bytes: &'a [u8], tag: u8) -> Result<Self, DerError> {
        let mut reader = Self(bytes);
        let element = reader.expect(tag)?;
        reader.end()?;
        Ok(element.inside())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nothing may follow.
    pub(crate) fn end(&self) -> Result<(), DerError> {
        if self.0.is_empty() { Ok(()) } else { Err(DerError::Trailing) }
    }

    /// The next element, whatever it is.
    pub(crate) fn any(&mut self) -> Result<Element<'a>, DerError> {
        let (&tag, rest) = self.0.split_first().ok_or(DerError::Truncated)?;
        let (&first, mut rest) = rest.split_first().ok_or(DerError::Truncated)?;
        let length = match first {
            0..=0x7f => usize::from(first),
            0x81..=0x84 => {
                let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(DerError::Truncated)?;
                rest = after;
                let length = digits.iter().fold(0usize, |n, &d| (n << 8) | usize::from(d));
                if digits.first() == Some(&0) || length < 0x80 {
                    return Err(DerError::Length);
                }
                length
            }
            _ => return Err(DerError::Length),
        };
        let (content, after) = rest.split_at_checked(length).ok_or(DerError::Truncated)?;
        let whole = self.0.get(..self.0.len() - after.len()).ok_or(DerError::Truncated)?;
        self.0 = after;
        Ok(Element { tag, content, whole })
    }

    /// The next element, which must have that tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<Element<'a>, DerError> {
        let element = self.any()?;
        if element.tag == tag { Ok(element) } else { Err(DerError::Tag) }
    }

    /// The next element if it has that tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, DerError> {
        if self.0.first() == Some(&tag) { self.any().map(Some) } else { Ok(None) }
    }

    /// A number that is not negative.
    pub(crate) fn number(&mut self) -> Result<u64, DerError> {
        let content = self.expect(INTEGER)?.content;
        let digits = match content {
            [] => return Err(DerError::Number),
            [first, ..] if first & 0x80 != 0 => return Err(DerError::Number),
            [0, rest @ ..] => rest,
            all => all,
        };
        if digits.len() > 8 {
            return Err(DerError::Number);
        }
        Ok(digits.iter().fold(0u64, |n, &d| (n << 8) | u64::from(d)))
    }
}

/// An element made of parts.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|p| p.len()).sum();
    let digits = length.to_be_bytes();
    let significant = digits.iter().position(|&d| d != 0).and_then(|i| digits.get(i..)).unwrap_or_default();
    let mut out = Vec::with_capacity(length + 10);
    out.push(tag);
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            // A usize has at most eight digits.
            out.push(0x80 | u8::try_from(significant.len()).unwrap_or_default());
            out.extend_from_slice(significant);
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// A small number.
pub(crate) fn number(value: u32) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let first = bytes.iter().position(|&b| b != 0).unwrap_or(3);
    let digits = bytes.get(first..).unwrap_or_default();
    // A leading zero keeps the number positive.
    if digits.first().is_some_and(|d| d & 0x80 != 0) { element(INTEGER, &[&[0], digits]) } else { element(INTEGER, &[digits]) }
}
