//! A pull reader for the small part of XML that CLIXML uses, made for it: text that stands in the document as it reads is
//! borrowed from there, and nothing is looked at twice.
//!
//! Accepted: elements, attributes, text, CDATA, comments, an XML 1.0 declaration at the start, the five named and
//! the numeric character references. Refused: document types (so no entity can be defined and nothing is ever
//! fetched), processing instructions, characters that XML 1.0 does not allow, and whatever exceeds [`Limits`].
//! Namespaces are not resolved: elements go by their local name, attributes by their unprefixed name, since peers
//! of MS-PSRP write the default namespace or leave it out.

use std::borrow::Cow;

use memchr::{memchr, memchr2};
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
    at: usize,
    limits: Limits,
    /// Names of the open elements as they were written, outermost first.
    open: Vec<&'a str>,
    elements: usize,
    attributes: Vec<(&'a str, &'a str)>,
    /// The last start tag was `<x/>`: its end is still to be reported.
    empty: bool,
    /// Text that does not stand in the source as it reads.
    unescaped: String,
}

enum Token<'a> {
    Start(&'a str),
    Text(Cow<'a, str>),
    Character(char),
    End,
    Eof,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `source`.
    #[must_use]
    pub fn new(source: &'a str, limits: &Limits) -> Self {
        let (open, attributes, unescaped) = (Vec::new(), Vec::new(), String::new());
        Self { source, at: 0, limits: *limits, open, elements: 0, attributes, empty: false, unescaped }
    }

    /// Bytes of the source that are read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Number of open elements.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.open.len()
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
                Token::Eof if self.open.is_empty() => return Ok(None),
                Token::Eof => return Err(XmlError::Truncated),
                Token::Text(text) if text.bytes().all(|b| b.is_ascii_whitespace()) => {}
                Token::Character(c) if c.is_ascii_whitespace() => {}
                Token::Text(_) | Token::Character(_) => return Err(XmlError::UnexpectedText(self.at)),
            }
        }
    }

    /// Reads the text of the current element and leaves it.
    ///
    /// # Errors
    /// When there is a child element, or as [`Self::child`].
    pub fn text(&mut self) -> Result<&str, XmlError> {
        if !self.empty
            && let rest = self.rest()
            && let Some(length) = memchr(b'<', rest.as_bytes())
            && let (text, tag) = rest.split_at(length)
            && tag.starts_with("</")
            && !has_control(text)
        {
            self.at += length;
            if memchr(b'&', text.as_bytes()).is_none() {
                self.leave()?;
                return Ok(text);
            }
            let mut unescaped = std::mem::take(&mut self.unescaped);
            unescaped.clear();
            self.unescape(text, &mut unescaped)?;
            self.unescaped = unescaped;
            self.leave()?;
            return Ok(&self.unescaped);
        }
        self.unescaped.clear();
        loop {
            match self.token()? {
                Token::Text(text) => self.unescaped.push_str(&text),
                Token::Character(c) => self.unescaped.push(c),
                Token::End => return Ok(&self.unescaped),
                Token::Eof => return Err(XmlError::Truncated),
                Token::Start(_) => return Err(XmlError::UnexpectedElement(self.at)),
            }
        }
    }

    /// Leaves the current element with everything in it.
    ///
    /// # Errors
    /// When that is not well formed or exceeds a limit.
    pub fn skip(&mut self) -> Result<(), XmlError> {
        let outside = self.depth().saturating_sub(1);
        while self.depth() > outside {
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
        if !has_control(raw) && memchr(b'&', raw.as_bytes()).is_none() {
            return Ok(Some(Cow::Borrowed(raw)));
        }
        let raw = clean(raw, true).ok_or(XmlError::Character(self.at))?;
        let mut value = String::with_capacity(raw.len());
        self.unescape(&raw, &mut value)?;
        Ok(Some(Cow::Owned(value)))
    }

    /// Appends text with its references resolved.
    fn unescape(&self, mut text: &str, out: &mut String) -> Result<(), XmlError> {
        while let Some(at) = memchr(b'&', text.as_bytes()) {
            out.push_str(&text[..at]);
            let (entity, after) = split_at_byte(&text[at + 1..], b';').ok_or_else(|| self.malformed("'&' without ';'"))?;
            out.push(self.entity(entity)?);
            text = after;
        }
        out.push_str(text);
        Ok(())
    }

    fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn token(&mut self) -> Result<Token<'a>, XmlError> {
        if self.empty {
            self.empty = false;
            self.open.pop();
            return Ok(Token::End);
        }
        loop {
            let rest = self.rest();
            return match rest.as_bytes() {
                [] => Ok(Token::Eof),
                [b'<', b'/', ..] => self.leave().map(|()| Token::End),
                [b'<', b'!', ..] => match self.declared(rest)? {
                    Some(text) => Ok(Token::Text(text)),
                    None => continue,
                },
                [b'<', b'?', ..] => {
                    self.declaration(rest)?;
                    continue;
                }
                [b'<', ..] => self.enter().map(Token::Start),
                [b'&', ..] => {
                    let (name, _) = split_at_byte(&rest[1..], b';').ok_or_else(|| self.malformed("'&' without ';'"))?;
                    self.at += name.len() + 2;
                    self.entity(name).map(Token::Character)
                }
                bytes => {
                    let length = memchr2(b'<', b'&', bytes).unwrap_or(bytes.len());
                    self.at += length;
                    self.plain(&rest[..length]).map(Token::Text)
                }
            };
        }
    }

    /// Takes a start tag and answers its local name.
    fn enter(&mut self) -> Result<&'a str, XmlError> {
        if self.open.len() >= self.limits.depth {
            return Err(XmlError::TooDeep(self.limits.depth));
        }
        if self.elements >= self.limits.values {
            return Err(XmlError::TooMany(self.limits.values));
        }
        self.elements += 1;
        self.attributes.clear();
        let tag = self.rest().get(1..).unwrap_or_default();
        let (name, mut rest) = split_where(tag, |b| is_space(b) || matches!(b, b'/' | b'>' | b'<'));
        if name.is_empty() {
            return Err(self.malformed("a tag without name"));
        }
        loop {
            let trimmed = rest.trim_ascii_start();
            let after = match trimmed.as_bytes() {
                [b'>', ..] => &trimmed[1..],
                [b'/', b'>', ..] => {
                    self.empty = true;
                    &trimmed[2..]
                }
                _ => {
                    if trimmed.len() == rest.len() {
                        return Err(self.malformed("no space before an attribute, or no end of a tag"));
                    }
                    if self.attributes.len() >= self.limits.attributes {
                        return Err(XmlError::TooManyAttributes(self.limits.attributes));
                    }
                    let (key, value, after) = first_attribute(trimmed).map_err(|message| self.malformed(message))?;
                    if self.attributes.iter().any(|(k, _)| *k == key) {
                        return Err(self.malformed("an attribute stands twice"));
                    }
                    self.attributes.push((key, value));
                    rest = after;
                    continue;
                }
            };
            self.at = self.source.len() - after.len();
            self.open.push(name);
            return Ok(split_at_byte(name, b':').map_or(name, |(_, local)| local));
        }
    }

    /// Takes an end tag.
    fn leave(&mut self) -> Result<(), XmlError> {
        let tag = self.rest().get(2..).unwrap_or_default();
        let name = self.open.last().ok_or_else(|| self.malformed("an end tag without its start"))?;
        match tag.strip_prefix(name).map(|rest| rest.trim_ascii_start()) {
            Some(after) if after.as_bytes().first() == Some(&b'>') => {
                self.at = self.source.len() - after.len() + 1;
                self.open.pop();
                Ok(())
            }
            _ => Err(self.malformed("an end tag that is not that of the open element")),
        }
    }

    /// Takes a comment or the text of a CDATA section.
    fn declared(&mut self, rest: &'a str) -> Result<Option<Cow<'a, str>>, XmlError> {
        if let Some(comment) = rest.strip_prefix("<!--") {
            let length = find(comment, "-->").ok_or_else(|| self.malformed("a comment without end"))?;
            self.at += length + "<!---->".len();
            return Ok(None);
        }
        if let Some(text) = rest.strip_prefix("<![CDATA[") {
            let length = find(text, "]]>").ok_or_else(|| self.malformed("a CDATA section without end"))?;
            self.at += length + "<![CDATA[]]>".len();
            return self.plain(&text[..length]).map(Some);
        }
        Err(XmlError::DocumentType(self.at))
    }

    /// Takes the declaration at the start; nothing else in `<?` and `?>` is accepted.
    fn declaration(&mut self, rest: &'a str) -> Result<(), XmlError> {
        let content = rest.strip_prefix("<?xml").filter(|content| content.bytes().next().is_some_and(is_space));
        let Some(content) = content.filter(|_| self.at == 0) else { return Err(XmlError::ProcessingInstruction(self.at)) };
        let length = find(content, "?>").ok_or_else(|| self.malformed("a declaration without end"))?;
        let (mut version, mut encoding) = (None, None);
        let mut rest = content[..length].trim_ascii();
        while !rest.is_empty() {
            let (name, value, after) = first_attribute(rest).map_err(|message| XmlError::Declaration(message.to_owned()))?;
            match name {
                "version" if version.is_none() => version = Some(value),
                "encoding" if encoding.is_none() => encoding = Some(value),
                "standalone" => {}
                other => return Err(XmlError::Declaration(format!("{:?}", start_of(other)))),
            }
            rest = after.trim_ascii_start();
        }
        if version != Some("1.0") {
            let version = version.map_or("none", start_of);
            return Err(XmlError::Declaration(format!("version {version}, which is not read")));
        }
        // The text is decoded already: an encoding other than the two that `decode` reads contradicts that.
        match encoding.filter(|name| !["utf-8", "utf-16"].iter().any(|known| name.eq_ignore_ascii_case(known))) {
            Some(other) => Err(XmlError::Declaration(format!("encoding {}, which is not read", start_of(other)))),
            None => {
                self.at = self.source.len() - content.len() + length + 2;
                Ok(())
            }
        }
    }

    /// Normalises line ends; refuses characters that may not stand in XML.
    fn plain(&self, text: &'a str) -> Result<Cow<'a, str>, XmlError> {
        if !has_control(text) {
            return Ok(Cow::Borrowed(text));
        }
        clean(text, false).map(Cow::Owned).ok_or(XmlError::Character(self.at))
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
                _ => return Err(XmlError::UnknownEntity { name: start_of(name).to_owned(), position: self.at }),
            },
        };
        number.and_then(char::from_u32).filter(|c| *c >= ' ' || matches!(c, '\t' | '\n' | '\r')).ok_or(XmlError::Character(self.at))
    }

    fn malformed(&self, message: &str) -> XmlError {
        XmlError::Malformed { position: self.at, message: message.to_owned() }
    }
}

/// Name, raw value and what is behind the attribute that `tag` begins with.
fn first_attribute(tag: &str) -> Result<(&str, &str, &str), &'static str> {
    let (name, rest) = split_where(tag, |b| is_space(b) || matches!(b, b'=' | b'"' | b'\'' | b'<' | b'>' | b'&' | b'/'));
    if name.is_empty() {
        return Err("no attribute name");
    }
    let value = rest.trim_ascii_start().strip_prefix('=').ok_or("an attribute without value")?.trim_ascii_start();
    let quote = match value.as_bytes().first() {
        Some(quote @ (b'"' | b'\'')) => *quote,
        _ => return Err("an attribute value without quotes"),
    };
    let (value, rest) = split_at_byte(&value[1..], quote).ok_or("an attribute value without end")?;
    Ok((name, value, rest))
}

/// `split_once` for an ASCII delimiter in short text, where the search of the standard library costs more than it saves.
fn split_at_byte(text: &str, delimiter: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|b| b == delimiter)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// The text before the first byte, an ASCII one, that `ends`, and the text from there on.
fn split_where(text: &str, ends: impl Fn(u8) -> bool) -> (&str, &str) {
    text.split_at(text.bytes().position(ends).unwrap_or(text.len()))
}

fn find(text: &str, delimiter: &str) -> Option<usize> {
    memchr::memmem::find(text.as_bytes(), delimiter.as_bytes())
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Whether there is a control character. The smallest byte is what the compiler finds with vector code.
fn has_control(text: &str) -> bool {
    text.bytes().fold(b' ', u8::min) < b' '
}

/// As much of a name as an error shows.
fn start_of(name: &str) -> &str {
    name.char_indices().nth(40).map_or(name, |(end, _)| &name[..end])
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
