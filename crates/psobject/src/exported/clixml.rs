//! CLIXML of `Export-Clixml`, object by object. Type names and objects that later objects refer to are put aside, so that
//! an object can be read without those before it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::scanner::Scanner;
use super::{Entry, FileError};
use crate::{Limits, Value, clixml};

/// Objects that others refer to.
const SHARED: usize = 1_000_000;

pub(super) struct Reader<'a> {
    elements: Elements<'a>,
    limits: Limits,
    aside: Aside,
}

impl<'a> Reader<'a> {
    /// `shared` is what [`shared`] found.
    pub(super) fn new(text: Scanner<'a>, limits: Limits, shared: HashSet<u64>) -> Self {
        let aside = Aside { shared, limit: limits.bytes.saturating_mul(4), ..Aside::default() };
        let limits = Limits { bytes: limits.bytes.saturating_add(aside.limit), ..limits };
        Self { elements: Elements { text, inside: false }, limits, aside }
    }

    pub(super) fn next(&mut self) -> Result<Option<Entry>, FileError> {
        if !self.elements.advance()? {
            return Ok(None);
        }
        let (line, element) = (self.elements.text.begun, self.elements.text.kept()?);
        let value = clixml::read_document(self.aside.document(element).as_bytes(), &self.limits);
        self.aside.put(line, element)?;
        let value = value.map(|mut values| values.pop().unwrap_or(Value::Null)).map_err(Into::into);
        Ok(Some(Entry { line, value, row: false }))
    }
}

/// Ids of objects to which later top-level objects refer.
pub(super) fn shared(text: Scanner<'_>) -> Result<HashSet<u64>, FileError> {
    let (mut shared, mut elements) = (HashSet::new(), Elements { text, inside: false });
    let (mut referred, mut own) = (Vec::new(), HashSet::new());
    while elements.advance()? {
        own.clear();
        referred.clear();
        for tag in tags(elements.text.kept()?) {
            match (tag.name, tag.id) {
                ("Obj", Some(id)) => drop(own.insert(id)),
                ("Ref", Some(id)) => referred.push(id),
                _ => {}
            }
        }
        shared.extend(referred.iter().filter(|id| !own.contains(*id)));
        if shared.len() > SHARED {
            let line = elements.text.begun;
            return Err(FileError::TooLarge { line, what: "there are more references between objects", limit: SHARED });
        }
    }
    Ok(shared)
}

/// Elements that are needed again, as text.
#[derive(Default)]
struct Aside {
    shared: HashSet<u64>,
    types: BTreeMap<u64, String>,
    objects: BTreeMap<u64, String>,
    bytes: usize,
    /// Most of them.
    limit: usize,
}

impl Aside {
    fn put(&mut self, line: u64, element: &str) -> Result<(), FileError> {
        for tag in tags(element) {
            let (into, Some(id)) = (
                match tag.name {
                    "TN" => &mut self.types,
                    "Obj" if tag.id.is_some_and(|id| self.shared.contains(&id)) => &mut self.objects,
                    _ => continue,
                },
                tag.id,
            ) else {
                continue;
            };
            let whole = element.get(tag.start..).and_then(|rest| rest.get(..end(rest)?)).unwrap_or_default();
            self.bytes += whole.len();
            if self.bytes > self.limit {
                return Err(FileError::TooLarge { line, what: "what objects share has more bytes", limit: self.limit });
            }
            into.insert(id, whole.to_owned());
        }
        Ok(())
    }

    /// A document of an element and of what it refers to.
    fn document(&self, element: &str) -> String {
        let (mut types, mut objects) = (BTreeSet::new(), BTreeSet::new());
        let mut open = vec![element];
        while let Some(text) = open.pop() {
            for tag in tags(text) {
                match (tag.name, tag.id) {
                    ("TNRef", Some(id)) => drop(types.insert(id)),
                    ("Ref", Some(id)) => {
                        if let Some(object) = self.objects.get(&id).filter(|_| objects.insert(id)) {
                            open.push(object);
                        }
                    }
                    _ => {}
                }
            }
        }
        let types = types.iter().filter_map(|id| self.types.get(id)).map(|text| format!("<Obj>{text}</Obj>"));
        let objects = objects.iter().filter_map(|id| self.objects.get(id)).cloned();
        let before: String = types.chain(objects).collect();
        format!("<Objs Version=\"1.1.0.1\" xmlns=\"http://schemas.microsoft.com/powershell/2004/04\">{before}{element}</Objs>")
    }
}

/// A start tag.
struct Tag<'a> {
    name: &'a str,
    id: Option<u64>,
    start: usize,
}

/// The start tags of a text; text between tags holds no `<`.
fn tags(text: &str) -> impl Iterator<Item = Tag<'_>> {
    text.match_indices('<').filter_map(|(start, _)| {
        let tag = text.get(start + 1..)?;
        let tag = tag.get(..tag.find('>')?)?;
        let name = tag.split([' ', '\t', '\r', '\n', '/']).next().filter(|name| !name.is_empty())?;
        let id = tag.split_once("RefId=").and_then(|(_, rest)| rest.get(1..)?.split(['"', '\'']).next()?.parse().ok());
        Some(Tag { name, id, start })
    })
}

/// Where the element ends with which a text begins.
fn end(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (start, _) in text.match_indices('<') {
        let close = start + text.get(start..)?.find('>')?;
        let tag = text.get(start..close)?;
        match (tag.starts_with("</"), tag.ends_with('/')) {
            (true, _) => depth = depth.checked_sub(1)?,
            (false, true) => {}
            (false, false) => depth += 1,
        }
        if depth == 0 {
            return Some(close + 1);
        }
    }
    None
}

/// The children of `<Objs>`, one after the other.
struct Elements<'a> {
    text: Scanner<'a>,
    /// `<Objs>` has begun.
    inside: bool,
}

impl Elements<'_> {
    /// Takes the next into the scanner; `false` at the end.
    fn advance(&mut self) -> Result<bool, FileError> {
        while self.text.peek_text()?.is_some() {
            self.text.begin();
            let mut depth = 0_usize;
            loop {
                let start = tag(&mut self.text)?;
                let tag = self.text.bytes.get(start..).unwrap_or_default();
                if tag.starts_with(b"<?") && !self.inside && depth == 0 {
                    break;
                }
                if tag.starts_with(b"<!") || tag.starts_with(b"<?") {
                    return Err(self.text.malformed("a DOCTYPE, comment or instruction is not accepted in CLIXML"));
                }
                match (tag.starts_with(b"</"), tag.ends_with(b"/>")) {
                    (true, _) if depth == 0 && self.inside && tag.starts_with(b"</Objs") => {
                        return match self.text.peek_text()? {
                            None => Ok(false),
                            Some(_) => Err(self.text.malformed("something follows the end of the document")),
                        };
                    }
                    (true, _) => depth = depth.checked_sub(1).ok_or_else(|| self.text.malformed("an end without a beginning"))?,
                    (false, empty) if !self.inside => {
                        if !tag.starts_with(b"<Objs") {
                            return Err(self.text.malformed("CLIXML begins with <Objs>, and this is another kind of XML"));
                        }
                        if empty {
                            return Ok(false);
                        }
                        self.inside = true;
                        break;
                    }
                    (false, true) => {}
                    (false, false) => depth += 1,
                }
                if depth == 0 {
                    return Ok(true);
                }
            }
        }
        Err(FileError::Truncated { line: self.text.begun })
    }
}

/// Reads up to the end of the next tag and answers where it begins.
fn tag(text: &mut Scanner<'_>) -> Result<usize, FileError> {
    while text.keep()? != b'<' {}
    let start = text.bytes.len() - 1;
    let mut quote = None;
    loop {
        match (text.keep()?, quote) {
            (b'>', None) => return Ok(start),
            (byte @ (b'"' | b'\''), None) => quote = Some(byte),
            (byte, Some(open)) if byte == open => quote = None,
            _ => {}
        }
    }
}
