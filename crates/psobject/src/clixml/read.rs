use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use uuid::Uuid;

use super::{ClixmlError, MAX_DEPTH, PROGRESS_MEMBERS, PROGRESS_TYPES, escape};
use crate::xml::{self, Reader, XmlError};
use crate::{Base, DateTime, Limits, ListKind, MemberSet, Properties, PsObject, TimeSpan, TypeNames, Value};

/// Longest text of a name that is kept for sharing.
const SHARED_NAME: usize = 256;
/// Slots for shared names, a power of two.
const NAME_SLOTS: usize = 1024;
/// Type-name chains that are kept for sharing.
const SHARED_CHAINS: usize = 64;
/// Names of a chain that is kept for sharing.
const LONGEST_CHAIN: usize = 32;

/// Reads many messages and lets them share their property and type names.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// The last name with that hash; bounded, so a hostile peer gains nothing from new names.
    names: Vec<Option<Arc<str>>>,
    chains: Vec<TypeNames>,
    next_chain: usize,
}

impl Decoder {
    /// A decoder that has seen nothing yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let limits = Limits { depth: limits.depth.min(MAX_DEPTH), ..limits };
        Self { limits, names: Vec::new(), chains: Vec::new(), next_chain: 0 }
    }

    /// Reads the one rootless value that a PSRP message carries; an empty text is [`Value::Null`].
    ///
    /// # Errors
    /// When it is malformed or exceeds a limit.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Value, ClixmlError> {
        let text = xml::decode(bytes, &self.limits)?;
        let mut document = Document::new(&text, self);
        let Some(name) = document.xml.child()? else { return Ok(Value::Null) };
        let value = document.value(name)?;
        document.end()?;
        Ok(value)
    }

    /// Reads an `<Objs>` document in UTF-8 or, with a byte order mark, UTF-16.
    ///
    /// # Errors
    /// When it is malformed or exceeds a limit.
    pub fn read_document(&mut self, bytes: &[u8]) -> Result<Vec<Value>, ClixmlError> {
        let text = xml::decode(bytes, &self.limits)?;
        let mut document = Document::new(&text, self);
        document.root()?;
        let values = document.items()?;
        document.end()?;
        Ok(values)
    }

    /// As [`Self::read_document`], but an object that is no CLIXML is an error in its place and the others are read.
    ///
    /// # Errors
    /// When the document is not the XML that is accepted, or exceeds a limit: then nothing behind that place can be read.
    pub fn read_each(&mut self, bytes: &[u8]) -> Result<Vec<Result<Value, ClixmlError>>, ClixmlError> {
        let text = xml::decode(bytes, &self.limits)?;
        let mut document = Document::new(&text, self);
        document.root()?;
        let mut values = Vec::new();
        while let Some(child) = document.xml.child()? {
            match document.value(child) {
                Err(ClixmlError::Xml(error)) if !matches!(error, XmlError::UnexpectedText(_) | XmlError::UnexpectedElement(_)) => {
                    return Err(error.into());
                }
                result => {
                    while document.xml.depth() > 1 {
                        document.xml.skip()?;
                    }
                    document.open.clear();
                    document.members.clear();
                    document.deepest = 0;
                    values.push(result);
                }
            }
        }
        document.end()?;
        Ok(values)
    }

    /// The name as a shared text.
    fn name(&mut self, text: &str) -> Arc<str> {
        if text.len() > SHARED_NAME {
            return text.into();
        }
        if self.names.is_empty() {
            self.names.resize(NAME_SLOTS, None);
        }
        match self.names.get_mut(slot(text)) {
            Some(Some(known)) if **known == *text => known.clone(),
            Some(place) => place.insert(text.into()).clone(),
            None => text.into(),
        }
    }

    /// The chain as a shared one.
    fn chain(&mut self, names: &[Arc<str>]) -> TypeNames {
        if let Some(known) = self.chains.iter().find(|c| ***c == *names) {
            return known.clone();
        }
        let chain: TypeNames = names.into();
        if names.len() <= LONGEST_CHAIN && names.iter().all(|name| name.len() <= SHARED_NAME) {
            match self.chains.get_mut(self.next_chain) {
                Some(place) => *place = chain.clone(),
                None => self.chains.push(chain.clone()),
            }
            self.next_chain = (self.next_chain + 1) % SHARED_CHAINS;
        }
        chain
    }
}

fn slot(text: &str) -> usize {
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let mut hash = text.len() as u64;
    for word in words {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }
    let tail = rest.iter().fold(0, |n, b| n << 8 | u64::from(*b));
    hash = (hash ^ tail).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    usize::try_from(hash >> 54).unwrap_or(0)
}

/// A finished object that may be referred to, with what it would be if it were written out again.
struct Finished {
    object: Arc<PsObject>,
    height: usize,
    values: usize,
    bytes: usize,
}

/// One document: reference ids live as long as it.
struct Document<'a, 'd> {
    xml: Reader<'a>,
    decoder: &'d mut Decoder,
    types: BTreeMap<u64, TypeNames>,
    objects: BTreeMap<u64, Finished>,
    /// The objects that are being read, outermost first: id, and the string form as far as it is known.
    open: Vec<(Option<u64>, Option<Arc<str>>)>,
    /// Values and bytes that references stand for.
    referred: (usize, usize),
    /// Deepest level of objects inside the object that is being read.
    deepest: usize,
    /// Properties of the objects that are being read, so that each object gets room for its own and no more.
    members: Vec<(Arc<str>, Value)>,
}

impl<'a, 'd> Document<'a, 'd> {
    fn new(text: &'a str, decoder: &'d mut Decoder) -> Self {
        // A level of objects has three elements at most (`Obj`, `DCT`, `En`), and primitives inside the last one two.
        let xml = Reader::new(text, &Limits { depth: decoder.limits.depth * 3 + 4, ..decoder.limits });
        let (types, objects, open, members) = (BTreeMap::new(), BTreeMap::new(), Vec::new(), Vec::new());
        Self { xml, decoder, types, objects, open, referred: (0, 0), deepest: 0, members }
    }

    /// Enters `Objs`.
    fn root(&mut self) -> Result<(), ClixmlError> {
        match self.xml.child()? {
            Some("Objs") => Ok(()),
            Some(other) => Err(self.unexpected(other)),
            None => Err(XmlError::Truncated.into()),
        }
    }

    fn end(&mut self) -> Result<(), ClixmlError> {
        match self.xml.child()? {
            None => Ok(()),
            Some(_) => Err(ClixmlError::Several(self.xml.position())),
        }
    }

    fn unexpected(&self, name: &str) -> ClixmlError {
        ClixmlError::UnexpectedElement { name: name.chars().take(40).collect(), position: self.xml.position() }
    }

    fn unknown(&self, id: &str) -> ClixmlError {
        ClixmlError::UnknownReference { id: id.chars().take(40).collect(), position: self.xml.position() }
    }

    fn string(&mut self) -> Result<Arc<str>, ClixmlError> {
        Ok(escape::decode(self.xml.text()?.into()).into())
    }

    fn attribute(&self, name: &str) -> Result<Option<Cow<'a, str>>, ClixmlError> {
        Ok(self.xml.attribute(name)?.map(escape::decode))
    }

    fn ref_id(&self) -> Result<Option<u64>, ClixmlError> {
        match self.xml.attribute("RefId")? {
            None => Ok(None),
            Some(id) => id.parse().map(Some).map_err(|_| self.unknown(&id)),
        }
    }

    /// Reads the value whose element was just entered.
    fn value(&mut self, name: &'a str) -> Result<Value, ClixmlError> {
        match name {
            "S" => Ok(Value::String(self.string()?)),
            "Nil" => {
                self.xml.skip()?;
                Ok(Value::Null)
            }
            "Obj" => self.object().map(Value::Object),
            "Ref" => self.reference(),
            "SBK" => Ok(Value::ScriptBlock(self.string()?)),
            "URI" => Ok(Value::Uri(self.string()?)),
            "XD" => Ok(Value::Xml(self.string()?)),
            "SS" => Ok(Value::SecureString(self.string()?.trim_ascii().into())),
            "PR" => self.progress(),
            _ => {
                let Some(index) = PRIMITIVES.iter().position(|(n, _)| *n == name) else { return Err(self.unexpected(name)) };
                let (element, parse) = PRIMITIVES[index];
                let text = self.xml.text()?;
                if let Some(value) = parse(text.trim_ascii()) {
                    return Ok(value);
                }
                let text = text.chars().take(40).collect();
                Err(ClixmlError::BadValue { element, text, position: self.xml.position() })
            }
        }
    }

    fn object(&mut self) -> Result<Arc<PsObject>, ClixmlError> {
        let id = self.ref_id()?;
        let level = self.enter(id)?;
        let outer = std::mem::replace(&mut self.deepest, level);
        let start = (self.values(), self.bytes());
        let mut object = PsObject::default();
        while let Some(child) = self.xml.child()? {
            match child {
                "TN" => object.type_names = self.type_names()?,
                "TNRef" => {
                    let id = self.ref_id()?;
                    object.type_names = match id.and_then(|id| self.types.get(&id)) {
                        Some(known) => known.clone(),
                        None => return Err(self.unknown(&id.map(|id| id.to_string()).unwrap_or_default())),
                    };
                    self.xml.skip()?;
                }
                "ToString" => {
                    object.to_string = Some(self.string()?);
                    if let Some((_, text)) = self.open.last_mut() {
                        text.clone_from(&object.to_string);
                    }
                }
                "Props" => self.members(&mut object.adapted, &mut object.member_sets)?,
                "MS" => self.members(&mut object.extended, &mut object.member_sets)?,
                _ if !matches!(object.base, Base::None) => return Err(ClixmlError::Several(self.xml.position())),
                "LST" => object.base = Base::List(ListKind::List, self.items()?),
                "IE" => object.base = Base::List(ListKind::Enumerable, self.items()?),
                "STK" => object.base = Base::List(ListKind::Stack, self.items()?),
                "QUE" => object.base = Base::List(ListKind::Queue, self.items()?),
                "DCT" => object.base = Base::Dictionary(self.entries()?),
                primitive => object.base = Base::Primitive(self.value(primitive)?),
            }
        }
        self.open.pop();
        let object = Arc::new(object);
        let height = self.deepest - level + 1;
        self.deepest = self.deepest.max(outer);
        if let Some(id) = id {
            let (values, bytes) = (self.values() - start.0, self.bytes() - start.1);
            self.objects.insert(id, Finished { object: object.clone(), height, values, bytes });
        }
        Ok(object)
    }

    /// Goes one level of objects deeper and answers the level.
    fn enter(&mut self, id: Option<u64>) -> Result<usize, ClixmlError> {
        let deepest = self.decoder.limits.depth;
        if self.open.len() >= deepest {
            return Err(XmlError::TooDeep(deepest).into());
        }
        self.open.push((id, None));
        Ok(self.open.len())
    }

    /// Values so far, references written out.
    fn values(&self) -> usize {
        self.xml.elements() + self.referred.0
    }

    /// Bytes so far, references written out.
    fn bytes(&self) -> usize {
        self.xml.position() + self.referred.1
    }

    /// A shared object. One that encloses the reference further out is its string form, as PowerShell shows it below its depth:
    /// values here have no cycles, and PowerShell's own error records have one. An object that is its own member is refused
    /// (case C-03) unless the limits say otherwise.
    fn reference(&mut self) -> Result<Value, ClixmlError> {
        let id = self.ref_id()?;
        if let (Some(id), Some((Some(own), _))) = (id, self.open.last())
            && id == *own
            && !self.decoder.limits.own_members
        {
            return Err(ClixmlError::SelfReference { id, position: self.xml.position() });
        }
        if let Some((_, text)) = self.open.iter().rev().find(|(open, _)| open.is_some() && *open == id) {
            let text = Value::String(text.clone().unwrap_or_default());
            self.xml.skip()?;
            return Ok(text);
        }
        let Some(finished) = id.and_then(|id| self.objects.get(&id)) else {
            return Err(self.unknown(&id.map(|id| id.to_string()).unwrap_or_default()));
        };
        let object = finished.object.clone();
        self.deepest = self.deepest.max(self.open.len().saturating_add(finished.height));
        self.referred.0 = self.referred.0.saturating_add(finished.values);
        self.referred.1 = self.referred.1.saturating_add(finished.bytes);
        let limits = &self.decoder.limits;
        if self.deepest > limits.depth {
            return Err(XmlError::TooDeep(limits.depth).into());
        }
        if self.values() > limits.values || self.bytes() > limits.bytes {
            return Err(ClixmlError::Expansion(self.xml.position()));
        }
        self.xml.skip()?;
        Ok(Value::Object(object))
    }

    fn type_names(&mut self) -> Result<TypeNames, ClixmlError> {
        let id = self.ref_id()?;
        let mut names = Vec::with_capacity(8);
        while let Some(child) = self.xml.child()? {
            if child != "T" {
                return Err(self.unexpected(child));
            }
            let name = escape::decode(self.xml.text()?.into());
            names.push(self.decoder.name(&name));
        }
        let chain = self.decoder.chain(&names);
        if let Some(id) = id {
            self.types.insert(id, chain.clone());
        }
        Ok(chain)
    }

    fn members(&mut self, properties: &mut Properties, sets: &mut Vec<MemberSet>) -> Result<(), ClixmlError> {
        let outer = self.members.len();
        while let Some(child) = self.xml.child()? {
            if child == "MS" {
                let name = self.attribute("N")?.unwrap_or_default();
                let mut set = MemberSet { name: self.decoder.name(&name), ..MemberSet::default() };
                self.deepest = self.deepest.max(self.enter(None)?);
                self.members(&mut set.properties, &mut set.member_sets)?;
                self.open.pop();
                sets.push(set);
                continue;
            }
            let Some(name) = self.attribute("N")? else { return Err(ClixmlError::MissingName(self.xml.position())) };
            let name = self.decoder.name(&name);
            let value = self.value(child)?;
            self.members.push((name, value));
        }
        properties.extend(self.members.drain(outer..));
        Ok(())
    }

    fn items(&mut self) -> Result<Vec<Value>, ClixmlError> {
        let mut items = Vec::new();
        while let Some(child) = self.xml.child()? {
            items.push(self.value(child)?);
        }
        Ok(items)
    }

    fn entries(&mut self) -> Result<Vec<(Value, Value)>, ClixmlError> {
        let mut entries = Vec::new();
        while let Some(child) = self.xml.child()? {
            if child != "En" {
                return Err(self.unexpected(child));
            }
            let (mut key, mut value) = (None, None);
            while let Some(child) = self.xml.child()? {
                let name = self.attribute("N")?;
                let place = match name.as_deref() {
                    Some("Key") => &mut key,
                    Some("Value") => &mut value,
                    _ => return Err(ClixmlError::MissingName(self.xml.position())),
                };
                if place.is_some() {
                    return Err(ClixmlError::Several(self.xml.position()));
                }
                *place = Some(self.value(child)?);
            }
            match (key, value) {
                (Some(key), Some(value)) => entries.push((key, value)),
                _ => return Err(ClixmlError::MissingName(self.xml.position())),
            }
        }
        Ok(entries)
    }

    /// `PR` as the object that other forms of a progress record are.
    fn progress(&mut self) -> Result<Value, ClixmlError> {
        let mut notes = Properties::default();
        while let Some(child) = self.xml.child()? {
            let Some((_, name, number)) = PROGRESS_MEMBERS.iter().find(|(element, ..)| *element == child) else {
                if child == "Nil" {
                    self.xml.skip()?;
                    continue;
                }
                return Err(self.unexpected(child));
            };
            let name = self.decoder.name(name);
            let value = if *number { self.value("I32")? } else { Value::String(self.string()?) };
            notes.push(name, value);
        }
        let names = PROGRESS_TYPES.map(|name| self.decoder.name(name));
        Ok(PsObject { type_names: self.decoder.chain(&names), ..PsObject::notes(notes) }.into())
    }
}

type Parse = fn(&str) -> Option<Value>;

/// Elements whose text has a syntax of its own.
const PRIMITIVES: [(&str, Parse); 18] = [
    ("B", boolean),
    ("I32", |s| integer(s).map(Value::I32)),
    ("G", guid),
    ("DT", |s| DateTime::parse(s).map(Value::DateTime)),
    ("I64", |s| integer(s).map(Value::I64)),
    ("C", |s| integer(s).map(Value::Char)),
    ("TS", |s| TimeSpan::parse_duration(s).map(Value::TimeSpan)),
    ("By", |s| integer(s).map(Value::U8)),
    ("SB", |s| integer(s).map(Value::I8)),
    ("U16", |s| integer(s).map(Value::U16)),
    ("I16", |s| integer(s).map(Value::I16)),
    ("U32", |s| integer(s).map(Value::U32)),
    ("U64", |s| integer(s).map(Value::U64)),
    ("Sg", single),
    ("Db", double),
    ("D", decimal),
    ("BA", |s| BASE64.decode(without_spaces(s).as_bytes()).ok().map(|b| Value::Bytes(b.into()))),
    ("Version", version),
];

fn boolean(text: &str) -> Option<Value> {
    match text {
        "true" | "1" => Some(Value::Bool(true)),
        "false" | "0" => Some(Value::Bool(false)),
        _ => text.eq_ignore_ascii_case("true").then_some(true).or(text.eq_ignore_ascii_case("false").then_some(false)).map(Value::Bool),
    }
}

fn integer<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn guid(text: &str) -> Option<Value> {
    // `parse_str` also takes URNs, which no peer writes.
    (text.len() <= 38).then(|| Uuid::parse_str(text).ok()).flatten().map(Value::Guid)
}

/// Text of a finite number, or one of the three words that XML Schema has for the others.
fn floating<T: FromStr>(text: &str) -> Option<Result<T, &str>> {
    match text {
        "INF" | "-INF" | "NaN" => Some(Err(text)),
        _ if text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) => text.parse().ok().map(Ok),
        _ => None,
    }
}

fn double(text: &str) -> Option<Value> {
    Some(Value::Double(match floating::<f64>(text)? {
        Ok(n) if n.is_finite() => n,
        Ok(_) => return None,
        Err("INF") => f64::INFINITY,
        Err("-INF") => f64::NEG_INFINITY,
        Err(_) => f64::NAN,
    }))
}

fn single(text: &str) -> Option<Value> {
    Some(Value::Single(match floating::<f32>(text)? {
        Ok(n) if n.is_finite() => n,
        Ok(_) => return None,
        Err("INF") => f32::INFINITY,
        Err("-INF") => f32::NEG_INFINITY,
        Err(_) => f32::NAN,
    }))
}

/// `System.Decimal`: 96 bits of digits, at most 28 of them after the point; the scale is kept.
fn decimal(text: &str) -> Option<Value> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let fits = !whole.is_empty()
        && (fraction.is_empty() != digits.contains('.'))
        && fraction.len() <= 28
        && all.len() <= 64
        && all.bytes().all(|b| b.is_ascii_digit())
        && all.parse::<u128>().is_ok_and(|n| n < 1 << 96);
    fits.then(|| Value::Decimal(text.into()))
}

/// `System.Version`: two to four numbers of 31 bits.
fn version(text: &str) -> Option<Value> {
    let mut parts = 0;
    for part in text.split('.') {
        parts += 1;
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) || part.parse::<i32>().is_err() {
            return None;
        }
    }
    (2..=4).contains(&parts).then(|| Value::Version(text.into()))
}

fn without_spaces(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_whitespace()) { text.split_ascii_whitespace().collect::<String>().into() } else { text.into() }
}
