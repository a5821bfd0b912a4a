//! A pull reader for the small part of XML that CLIXML uses; the one place that knows quick-xml.
//!
//! Accepted: elements, attributes, text, CDATA, comments, an XML 1.0 declaration at the start, the five named and
//! the numeric character references. Refused: document types (so no entity can be defined and nothing is ever
//! fetched), processing instructions, characters that XML 1.0 does not allow, and whatever exceeds [`Limits`].
//! Namespaces are not resolved: elements go by their local name, attributes by their unprefixed name, since peers
//! of MS-PSRP write the default namespace or leave it out.

use std::borrow::Cow;

use quick_xml::events::{BytesDecl, BytesStart, Event};
use thiserror::Error;

use crate::Limits;

/// Why a text is not XML that is accepted here. Positions are bytes of the decoded text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum XmlError {
    /// Longer than [`Limits::bytes`].
    #[error("the document is longer than {0} bytes")]
    TooLong(usize),
    /// Deeper than [`Limits::depth`].
    #[error("elements are nested more than {0} deep")]
    TooDeep(usize),
    /// More elements than [`Limits::values`].
    #[error("the document has more than {0} values")]
    TooMany(usize),
    /// More attributes in one element than [`Limits::attributes`].
    #[error("an element has more than {0} attributes")]
    TooManyAttributes(usize),
    /// Neither UTF-8 nor UTF-16 with a byte order mark.
    #[error("the document is not valid UTF-8, nor UTF-16 with a byte order mark")]
    Encoding,
    /// An XML version or encoding that is not read.
    #[error("XML declaration with {0}")]
    Declaration(String),
    /// A document type declaration.
    #[error("a document type declaration at byte {0} is refused")]
    DocumentType(usize),
    /// A processing instruction, or a declaration that does not stand at the start.
    #[error("a processing instruction at byte {0} is refused")]
    ProcessingInstruction(usize),
    /// A reference to an entity that is neither predefined nor numeric.
    #[error("unknown entity &{name}; before byte {position}")]
    UnknownEntity {
        /// Name between `&` and `;`.
        name: String,
        /// Where.
        position: usize,
    },
    /// A character that XML does not allow.
    #[error("a character that XML does not allow before byte {0}")]
    Character(usize),
    /// Text where only elements may stand.
    #[error("text where an element is expected before byte {0}")]
    UnexpectedText(usize),
    /// An element where only text may stand.
    #[error("an element where text is expected before byte {0}")]
    UnexpectedElement(usize),
    /// The text ends inside an element.
    #[error("the document ends inside an element")]
    Truncated,
    /// Anything else that is not well formed.
    #[error("not well-formed XML before byte {position}: {message}")]
    Malformed {
        /// Where.
        position: usize,
        /// The parser's words.
        message: String,
    },
}

/// Checks the length, removes a byte order mark and decodes UTF-16.
///
/// # Errors
/// When the bytes are too many or not text.
pub fn decode<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Cow<'a, str>, XmlError> {
    if bytes.len() > limits.bytes {
        return Err(XmlError::TooLong(limits.bytes));
    }
    let utf16 = |rest: &[u8], unit: fn([u8; 2]) -> u16| -> Result<Cow<'a, str>, XmlError> {
        let (pairs, odd) = rest.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(XmlError::Encoding);
        }
        let text: Result<String, _> = char::decode_utf16(pairs.iter().map(|p| unit(*p))).collect();
        text.map(Cow::Owned).map_err(|_| XmlError::Encoding)
    };
    match bytes {
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xEF, 0xBB, 0xBF, rest @ ..] => std::str::from_utf8(rest).map(Cow::Borrowed).map_err(|_| XmlError::Encoding),
        rest => std::str::from_utf8(rest).map(Cow::Borrowed).map_err(|_| XmlError::Encoding),
    }
}

/// Walks a document element by element. At any time it stands inside one element, at first outside all of them.
#[derive(Debug)]
pub struct Reader<'a> {
    source: &'a str,
    inner: quick_xml::Reader<&'a [u8]>,
    limits: Limits,
    depth: usize,
    elements: usize,
    attributes: Vec<(&'a str, &'a str)>,
    /// The last start tag was `<x/>`: its end is still to be reported.
    empty: bool,
}

enum Token<'a> {
    Start(&'a str),
    Text(Cow<'a, str>),
    End,
    Eof,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `source`.
    #[must_use]
    pub fn new(source: &'a str, limits: &Limits) -> Self {
        let inner = quick_xml::Reader::from_str(source);
        Self { source, inner, limits: *limits, depth: 0, elements: 0, attributes: Vec::new(), empty: false }
    }

    /// Bytes of the source that are read.
    #[must_use]
    pub fn position(&self) -> usize {
        usize::try_from(self.inner.buffer_position()).unwrap_or(usize::MAX)
    }

    /// Number of open elements.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Number of elements that were opened so far.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Enters the next child of the current element and answers its local name; `None` leaves the current element,
    /// or says that the document is at its end.
    ///
    /// # Errors
    /// When the document is not well formed, has text here, or exceeds a limit.
    pub fn child(&mut self) -> Result<Option<&'a str>, XmlError> {
        loop {
            match self.token()? {
                Token::Start(name) => return Ok(Some(name)),
                Token::End => return Ok(None),
                Token::Eof if self.depth == 0 => return Ok(None),
                Token::Eof => return Err(XmlError::Truncated),
                Token::Text(text) if text.bytes().all(|b| b.is_ascii_whitespace()) => {}
                Token::Text(_) => return Err(XmlError::UnexpectedText(self.position())),
            }
        }
    }

    /// Reads the text of the current element and leaves it.
    ///
    /// # Errors
    /// When there is a child element, or as [`Self::child`].
    pub fn text(&mut self) -> Result<Cow<'a, str>, XmlError> {
        let mut all = Cow::Borrowed("");
        loop {
            match self.token()? {
                Token::Text(text) if all.is_empty() => all = text,
                Token::Text(text) => all.to_mut().push_str(&text),
                Token::End => return Ok(all),
                Token::Eof => return Err(XmlError::Truncated),
                Token::Start(_) => return Err(XmlError::UnexpectedElement(self.position())),
            }
        }
    }

    /// Leaves the current element with everything in it.
    ///
    /// # Errors
    /// When that is not well formed or exceeds a limit.
    pub fn skip(&mut self) -> Result<(), XmlError> {
        let outside = self.depth.saturating_sub(1);
        while self.depth > outside {
            if matches!(self.token()?, Token::Eof) {
                return Err(XmlError::Truncated);
            }
        }
        Ok(())
    }

    /// An attribute of the element that was entered last; to be asked before anything else is read.
    ///
    /// # Errors
    /// When its value has an unknown entity or a character that XML does not allow.
    pub fn attribute(&self, name: &str) -> Result<Option<Cow<'a, str>>, XmlError> {
        let Some((_, raw)) = self.attributes.iter().find(|(n, _)| *n == name) else { return Ok(None) };
        let raw: &'a str = raw;
        if !raw.bytes().fold(false, |found, b| found | (b == b'&') | (b < b' ')) {
            return Ok(Some(Cow::Borrowed(raw)));
        }
        let mut value = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some((before, after)) = rest.split_once('&') {
            value.push_str(before);
            let (entity, after) = after.split_once(';').ok_or_else(|| self.malformed("'&' without ';'"))?;
            value.push(self.entity(entity)?);
            rest = after;
        }
        value.push_str(rest);
        Ok(Some(Cow::Owned(clean(&value, true).ok_or(XmlError::Character(self.position()))?)))
    }

    fn token(&mut self) -> Result<Token<'a>, XmlError> {
        if self.empty {
            self.empty = false;
            self.depth -= 1;
            return Ok(Token::End);
        }
        loop {
            let before = self.position();
            let event = self.inner.read_event().map_err(|e| self.malformed(&e.to_string()))?;
            return Ok(match event {
                Event::Text(text) => match text.into_inner() {
                    Cow::Borrowed(text) => Token::Text(self.plain(text)?),
                    Cow::Owned(text) => Token::Text(Cow::Owned(self.plain(&text)?.into_owned())),
                },
                Event::Start(tag) => Token::Start(self.enter(&tag, 1)?),
                Event::Empty(tag) => {
                    let name = self.enter(&tag, 2)?;
                    self.empty = true;
                    Token::Start(name)
                }
                Event::End(_) => {
                    self.depth = self.depth.saturating_sub(1);
                    Token::End
                }
                Event::GeneralRef(entity) => Token::Text(Cow::Owned(self.entity(&entity)?.to_string())),
                Event::CData(text) => Token::Text(Cow::Owned(self.plain(&text)?.into_owned())),
                Event::Comment(_) => continue,
                Event::Decl(declaration) if before == 0 => {
                    check_declaration(&declaration)?;
                    continue;
                }
                Event::Decl(_) | Event::PI(_) => return Err(XmlError::ProcessingInstruction(before)),
                Event::DocType(_) => return Err(XmlError::DocumentType(before)),
                Event::Eof => Token::Eof,
            });
        }
    }

    /// Takes a start tag whose closing delimiter has `close` bytes and answers its local name.
    fn enter(&mut self, tag: &BytesStart<'_>, close: usize) -> Result<&'a str, XmlError> {
        if self.depth >= self.limits.depth {
            return Err(XmlError::TooDeep(self.limits.depth));
        }
        if self.elements >= self.limits.values {
            return Err(XmlError::TooMany(self.limits.values));
        }
        self.depth += 1;
        self.elements += 1;
        self.attributes.clear();
        let end = self.position().saturating_sub(close);
        let content = self.source.get(end.saturating_sub(tag.len())..end).ok_or_else(|| self.malformed("tag"))?;
        let name_length = tag.name().as_ref().len();
        let name = content.get(..name_length).unwrap_or_default();
        let mut rest = content.get(name_length..).unwrap_or_default();
        while let Some((key, value, after)) = first_attribute(rest).map_err(|message| self.malformed(message))? {
            if self.attributes.len() >= self.limits.attributes {
                return Err(XmlError::TooManyAttributes(self.limits.attributes));
            }
            if self.attributes.iter().any(|(k, _)| *k == key) {
                return Err(self.malformed("an attribute stands twice"));
            }
            self.attributes.push((key, value));
            rest = after;
        }
        Ok(split_at_byte(name, b':').map_or(name, |(_, local)| local))
    }

    /// Normalises line ends; refuses characters that may not stand in XML.
    fn plain<'t>(&self, text: &'t str) -> Result<Cow<'t, str>, XmlError> {
        // A fold without early exit is what the compiler turns into vector code.
        if !text.bytes().fold(false, |found, b| found | (b < b' ')) {
            return Ok(Cow::Borrowed(text));
        }
        clean(text, false).map(Cow::Owned).ok_or(XmlError::Character(self.position()))
    }

    fn entity(&self, name: &str) -> Result<char, XmlError> {
        let number = match name {
            "lt" => return Ok('<'),
            "gt" => return Ok('>'),
            "amp" => return Ok('&'),
            "apos" => return Ok('\''),
            "quot" => return Ok('"'),
            _ => match name.strip_prefix('#').map(|n| (n, n.strip_prefix('x'))) {
                Some((_, Some(hex))) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(hex, 16).ok(),
                Some((decimal, None)) if decimal.bytes().all(|b| b.is_ascii_digit()) => decimal.parse().ok(),
                _ => return Err(XmlError::UnknownEntity { name: name.chars().take(40).collect(), position: self.position() }),
            },
        };
        number.and_then(char::from_u32).filter(|c| *c >= ' ' || matches!(c, '\t' | '\n' | '\r')).ok_or(XmlError::Character(self.position()))
    }

    fn malformed(&self, message: &str) -> XmlError {
        XmlError::Malformed { position: self.position(), message: message.to_owned() }
    }
}

/// Name, raw value and the rest of a tag behind its name; `None` at its end. quick-xml's own iterator goes byte by byte
/// and took a third of the time of reading CLIXML.
fn first_attribute(tag: &str) -> Result<Option<(&str, &str, &str)>, &'static str> {
    let trimmed = tag.trim_ascii_start();
    if trimmed.is_empty() {
        return Ok(None);
    }
    if trimmed.len() == tag.len() {
        return Err("no space before an attribute");
    }
    let (name, value) = split_at_byte(trimmed, b'=').ok_or("an attribute without value")?;
    let value = value.trim_ascii_start();
    let quote = match value.as_bytes().first() {
        Some(quote @ (b'"' | b'\'')) => *quote,
        _ => return Err("an attribute value without quotes"),
    };
    let (value, rest) = value.get(1..).and_then(|v| split_at_byte(v, quote)).ok_or("an attribute value without end")?;
    let name = name.trim_ascii_end();
    if name.is_empty() || name.bytes().any(|b| b.is_ascii_whitespace() || b"\"'<>&/".contains(&b)) {
        return Err("no attribute name");
    }
    Ok(Some((name, value, rest)))
}

/// `split_once` for an ASCII delimiter in short text, where the search of the standard library costs more than it saves.
fn split_at_byte(text: &str, delimiter: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|b| b == delimiter)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// XML's normalisation of line ends (in text) or white space (in attributes); `None` for a forbidden character.
fn clean(text: &str, attribute: bool) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        out.push(match c {
            '\t' | '\n' if !attribute => c,
            '\r' if !attribute => {
                characters.next_if_eq(&'\n');
                '\n'
            }
            '\t' | '\n' | '\r' => ' ',
            c if c < ' ' => return None,
            c => c,
        });
    }
    Some(out)
}

/// The text is decoded already: a declared encoding other than the two that [`decode`] reads contradicts that.
fn check_declaration(declaration: &BytesDecl<'_>) -> Result<(), XmlError> {
    let version = declaration.version().map_err(|e| XmlError::Declaration(e.to_string()))?;
    if version != "1.0" {
        return Err(XmlError::Declaration(format!("version {version}, which is not read")));
    }
    match declaration.encoding() {
        Some(Ok(name)) if !["utf-8", "utf-16"].iter().any(|known| name.eq_ignore_ascii_case(known)) => {
            Err(XmlError::Declaration(format!("encoding {name}, which is not read")))
        }
        Some(Err(error)) => Err(XmlError::Declaration(error.to_string())),
        _ => Ok(()),
    }
}
