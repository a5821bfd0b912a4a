//! Reads an envelope into a small tree with resolved namespaces, under limits.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;
use thiserror::Error;

use crate::Limits;

/// Why a document is not read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum XmlError {
    /// Longer than allowed.
    #[error("the envelope has {size} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Bytes that came.
        size: usize,
        /// Bytes that are accepted.
        limit: usize,
    },
    /// More elements, attributes, levels or namespaces than allowed.
    #[error("the envelope has more than {limit} {what}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many are accepted.
        limit: usize,
    },
    /// Not UTF-8, another encoding declared, or a character that XML 1.0 forbids.
    #[error("the envelope is not XML 1.0 in UTF-8: {0}")]
    Encoding(&'static str),
    /// A document type or processing instruction.
    #[error("the envelope contains {0}, which is not accepted")]
    Forbidden(&'static str),
    /// Not well-formed.
    #[error("the envelope is not well-formed XML: {0}")]
    Malformed(String),
}

/// An element with its namespace resolved. Text of comments is dropped, CDATA is text (case X-12).
#[derive(Debug, Default)]
pub(crate) struct Element {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Namespace (empty for none), local name, value.
    attributes: Vec<(String, String, String)>,
    pub(crate) text: String,
    pub(crate) children: Vec<Element>,
}

impl Element {
    pub(crate) fn is(&self, namespace: &str, name: &str) -> bool {
        self.name == name && self.namespace == namespace
    }

    pub(crate) fn child(&self, namespace: &str, name: &str) -> Option<&Element> {
        self.children.iter().find(|c| c.is(namespace, name))
    }

    pub(crate) fn all<'a>(&'a self, namespace: &'a str, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |c| c.is(namespace, name))
    }

    /// An attribute without namespace.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.qualified("", name)
    }

    pub(crate) fn qualified(&self, namespace: &str, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(ns, n, _)| n == name && ns == namespace).map(|(_, _, v)| v.as_str())
    }

    /// Text of this element and all below it, in order of elements.
    pub(crate) fn deep_text(&self) -> String {
        let mut text = self.text.trim().to_owned();
        for child in &self.children {
            let inner = child.deep_text();
            if !text.is_empty() && !inner.is_empty() {
                text.push(' ');
            }
            text.push_str(&inner);
        }
        text
    }
}

pub(crate) fn read(bytes: &[u8], limits: &Limits) -> Result<Element, XmlError> {
    let text = text_of(bytes, limits)?;
    let mut reader = NsReader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    reader.resolver_mut().set_max_namespace_bindings(limits.namespaces);
    let mut open: Vec<Element> = Vec::new();
    let mut count = 0usize;
    loop {
        match reader.read_event().map_err(|e| XmlError::Malformed(e.to_string()))? {
            Event::Start(start) => {
                count += 1;
                if count > limits.elements {
                    return Err(XmlError::TooMany { what: "elements", limit: limits.elements });
                }
                if open.len() >= limits.depth {
                    return Err(XmlError::TooMany { what: "levels", limit: limits.depth });
                }
                open.push(element(&reader, &start, limits)?);
            }
            Event::End(_) => {
                let Some(done) = open.pop() else { return Err(XmlError::Malformed("an end tag without a start".to_owned())) };
                match open.last_mut() {
                    Some(parent) => parent.children.push(done),
                    None => return end_of(&mut reader).map(|()| done),
                }
            }
            Event::Text(text) => match open.last_mut() {
                Some(element) => element.text.push_str(&text.xml10_content()),
                None if text.trim().is_empty() => {}
                None => return Err(XmlError::Malformed("text outside the root element".to_owned())),
            },
            Event::CData(data) => {
                let Some(element) = open.last_mut() else { return Err(XmlError::Malformed("text outside the root element".to_owned())) };
                element.text.push_str(&data.xml10_content());
            }
            Event::GeneralRef(reference) => {
                let Some(element) = open.last_mut() else { return Err(XmlError::Malformed("text outside the root element".to_owned())) };
                let character = match &*reference {
                    "lt" => Some('<'),
                    "gt" => Some('>'),
                    "amp" => Some('&'),
                    "quot" => Some('"'),
                    "apos" => Some('\''),
                    _ => reference.resolve_char_ref().map_err(|e| XmlError::Malformed(e.to_string()))?,
                };
                element.text.push(character.ok_or(XmlError::Forbidden("a reference to an entity"))?);
            }
            Event::Decl(declaration) => {
                let version = declaration.version().map_err(|e| XmlError::Malformed(e.to_string()))?;
                if version != "1.0" {
                    return Err(XmlError::Encoding("another XML version is declared"));
                }
                if let Some(encoding) = declaration.encoding() {
                    let encoding = encoding.map_err(|e| XmlError::Malformed(e.to_string()))?;
                    if !encoding.eq_ignore_ascii_case("utf-8") {
                        return Err(XmlError::Encoding("another encoding is declared"));
                    }
                }
            }
            Event::Comment(_) => {}
            Event::DocType(_) => return Err(XmlError::Forbidden("a document type")),
            Event::PI(_) => return Err(XmlError::Forbidden("a processing instruction")),
            Event::Eof => return Err(XmlError::Malformed("it ends inside an element".to_owned())),
            Event::Empty(_) => return Err(XmlError::Malformed("an element that is not expanded".to_owned())),
        }
    }
}

/// An envelope in UTF-16 as one in UTF-8. The byte order mark tells the order, without one the first character does. A declaration
/// that names another encoding is a conflict (case X-05).
pub(crate) fn from_utf16(bytes: &[u8], limits: &Limits) -> Result<String, XmlError> {
    if bytes.len() > limits.bytes {
        return Err(XmlError::TooLarge { size: bytes.len(), limit: limits.bytes });
    }
    let (bytes, little) = match bytes {
        [0xFF, 0xFE, rest @ ..] => (rest, true),
        [0xFE, 0xFF, rest @ ..] => (rest, false),
        [0, b'<', ..] => (bytes, false),
        _ => (bytes, true),
    };
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(XmlError::Encoding("it has half a character at its end"));
    }
    let units: Vec<u16> = pairs.iter().map(|pair| if little { u16::from_le_bytes(*pair) } else { u16::from_be_bytes(*pair) }).collect();
    let text = String::from_utf16(&units).map_err(|_| XmlError::Encoding("it is not valid UTF-16"))?;
    let Some((declaration, rest)) = text.strip_prefix("<?xml").and_then(|text| text.split_once("?>")) else { return Ok(text) };
    let declaration = declaration.to_ascii_lowercase();
    if declaration.contains("encoding") && !declaration.contains("utf-16") {
        return Err(XmlError::Encoding("another encoding is declared"));
    }
    // The version is checked like any other's.
    let version = declaration.split("encoding").next().unwrap_or_default();
    Ok(format!("<?xml{version}?>{rest}"))
}

fn text_of<'a>(bytes: &'a [u8], limits: &Limits) -> Result<&'a str, XmlError> {
    if bytes.len() > limits.bytes {
        return Err(XmlError::TooLarge { size: bytes.len(), limit: limits.bytes });
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|_| XmlError::Encoding("it is not valid UTF-8"))?;
    // Long envelopes are one text of base64: the smallest byte, and whether there is an 0xEF, is found many bytes at a time.
    let control = bytes.iter().fold(b' ', |least, b| least.min(*b)) < b' ';
    if (control && bytes.iter().any(|b| *b < b' ' && !matches!(b, b'\t' | b'\r' | b'\n')))
        || (bytes.contains(&0xEF) && text.contains(['\u{FFFE}', '\u{FFFF}']))
    {
        return Err(XmlError::Encoding("it contains a control character"));
    }
    Ok(text)
}

fn element(reader: &NsReader<&[u8]>, start: &BytesStart<'_>, limits: &Limits) -> Result<Element, XmlError> {
    let resolver = reader.resolver();
    let (namespace, name) = resolver.resolve_element(start.name());
    let mut element = Element { namespace: bound(&namespace)?, name: name.as_ref().to_owned(), ..Element::default() };
    for (index, attribute) in start.attributes().enumerate() {
        if index >= limits.attributes {
            return Err(XmlError::TooMany { what: "attributes of one element", limit: limits.attributes });
        }
        let attribute = attribute.map_err(|e| XmlError::Malformed(e.to_string()))?;
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        let value = attribute.normalized_value(XmlVersion::Explicit1_0).map_err(|e| XmlError::Malformed(e.to_string()))?;
        let (namespace, name) = resolver.resolve_attribute(attribute.key);
        element.attributes.push((bound(&namespace)?, name.as_ref().to_owned(), value.into_owned()));
    }
    Ok(element)
}

fn bound(result: &ResolveResult<'_>) -> Result<String, XmlError> {
    match result {
        ResolveResult::Bound(namespace) => Ok(namespace.into_inner().to_owned()),
        ResolveResult::Unbound => Ok(String::new()),
        ResolveResult::Unknown(prefix) => Err(XmlError::Malformed(format!("prefix {prefix} is not declared"))),
    }
}

/// Nothing but blanks and comments may follow the root element.
fn end_of(reader: &mut NsReader<&[u8]>) -> Result<(), XmlError> {
    loop {
        match reader.read_event().map_err(|e| XmlError::Malformed(e.to_string()))? {
            Event::Eof => return Ok(()),
            Event::Comment(_) => {}
            Event::Text(text) if text.trim().is_empty() => {}
            _ => return Err(XmlError::Malformed("something follows the root element".to_owned())),
        }
    }
}
