use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{PROGRESS_MEMBERS, PROGRESS_TYPES, escape};
use crate::{Base, ListKind, MemberSet, Properties, PsObject, TypeNames, Value};

/// Levels of objects that are written at most, the top among them, as PowerShell does: 50 below the top.
const MAX_LEVELS: usize = 51;
/// How a document begins.
const BEGINNING: &str = "<Objs Version=\"1.1.0.1\" xmlns=\"http://schemas.microsoft.com/powershell/2004/04\">";
/// Type-name chains that are looked for one by one, first by address; hashing every name of a chain costs more.
const FIRST_CHAINS: usize = 64;

/// Writes one rootless value as a PSRP message carries it, in one line, without namespace, ids counted from 0.
#[must_use]
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    write_into(value, &mut out);
    out
}

/// Appends one rootless value, as [`write()`].
pub fn write_into(value: &Value, out: &mut String) {
    Writer::new(out).value(None, value);
}

/// As [`write()`], with `levels` levels of objects, the top among them: `-Depth` of `Export-Clixml`. What lies deeper is
/// its string form; a container that is one level too deep keeps its items, as their string forms.
#[must_use]
pub fn write_to_depth(value: &Value, levels: usize) -> String {
    let mut out = String::new();
    Writer { levels: levels.min(MAX_LEVELS), ..Writer::new(&mut out) }.value(None, value);
    out
}

/// Writes an `<Objs>` document, as `Export-Clixml` does, with one space of ids.
#[must_use]
pub fn write_document(values: &[Value]) -> String {
    let mut out = BEGINNING.to_owned();
    let mut writer = Writer::new(&mut out);
    for value in values {
        writer.value(None, value);
    }
    out.push_str("</Objs>");
    out
}

/// Writes an `<Objs>` document object by object, for output of any length: only the ids are kept.
#[derive(Debug, Default)]
pub struct DocumentWriter {
    next_object: u32,
    next_types: u32,
    begun: bool,
}

impl DocumentWriter {
    /// The text of the next object, behind the document's beginning where it is the first.
    pub fn object(&mut self, value: &Value) -> String {
        let mut out = self.beginning();
        let mut writer = Writer::new(&mut out);
        (writer.next_object, writer.next_types) = (self.next_object, self.next_types);
        writer.value(None, value);
        (self.next_object, self.next_types) = (writer.next_object, writer.next_types);
        out
    }

    /// The end of the document.
    pub fn finish(&mut self) -> String {
        self.beginning() + "</Objs>"
    }

    fn beginning(&mut self) -> String {
        if std::mem::replace(&mut self.begun, true) { String::new() } else { BEGINNING.to_owned() }
    }
}

struct Writer<'o> {
    out: &'o mut String,
    depth: usize,
    levels: usize,
    next_object: u32,
    /// Ids of objects that something else holds too: only those can come again.
    objects: HashMap<*const PsObject, u32>,
    chains: Vec<(TypeNames, u32)>,
    /// Those that came behind the first ones.
    further_chains: HashMap<TypeNames, u32>,
    next_types: u32,
    /// What was declared inside the containers that are open now.
    scope: Vec<Declared>,
}

/// An id that holds until the container ends in which it was given.
enum Declared {
    Types(TypeNames),
    Object(*const PsObject),
}

impl<'o> Writer<'o> {
    fn new(out: &'o mut String) -> Self {
        Self {
            out,
            depth: 0,
            levels: MAX_LEVELS,
            next_object: 0,
            objects: HashMap::new(),
            chains: Vec::new(),
            further_chains: HashMap::new(),
            next_types: 0,
            scope: Vec::new(),
        }
    }

    /// `<tag`, and the name where there is one.
    fn open(&mut self, tag: &str, name: Option<&str>) {
        self.out.push('<');
        self.out.push_str(tag);
        if let Some(name) = name {
            self.out.push_str(" N=\"");
            escape::encode(name, self.out);
            self.out.push('"');
        }
    }

    fn close(&mut self, tag: &str) {
        self.out.push_str("</");
        self.out.push_str(tag);
        self.out.push('>');
    }

    /// An element whose text needs escapes.
    fn text(&mut self, tag: &str, name: Option<&str>, text: &str) {
        self.open(tag, name);
        self.out.push('>');
        escape::encode(text, self.out);
        self.close(tag);
    }

    /// An element whose text cannot need escapes.
    fn plain(&mut self, tag: &str, name: Option<&str>, text: impl std::fmt::Display) {
        self.open(tag, name);
        self.out.push('>');
        let _ = write!(self.out, "{text}");
        self.close(tag);
    }

    fn value(&mut self, name: Option<&str>, value: &Value) {
        match value {
            Value::String(s) => self.text("S", name, s),
            Value::Null => {
                self.open("Nil", name);
                self.out.push_str("/>");
            }
            Value::Bool(b) => self.text("B", name, if *b { "true" } else { "false" }),
            Value::Object(o) => self.object(name, o),
            Value::ScriptBlock(s) => self.text("SBK", name, s),
            Value::Uri(s) => self.text("URI", name, s),
            Value::Xml(s) => self.text("XD", name, s),
            Value::Version(s) => self.text("Version", name, s),
            Value::Decimal(s) => self.text("D", name, s),
            // A secret in clear is sealed by whoever has the key before it comes here, or it stays behind.
            Value::SecureString(s) => self.text("SS", name, s.ciphertext().unwrap_or_default()),
            Value::Char(n) => self.plain("C", name, n),
            Value::DateTime(d) => self.plain("DT", name, d),
            Value::TimeSpan(t) => self.plain("TS", name, t.to_duration()),
            Value::U8(n) => self.plain("By", name, n),
            Value::I8(n) => self.plain("SB", name, n),
            Value::U16(n) => self.plain("U16", name, n),
            Value::I16(n) => self.plain("I16", name, n),
            Value::U32(n) => self.plain("U32", name, n),
            Value::I32(n) => self.plain("I32", name, n),
            Value::U64(n) => self.plain("U64", name, n),
            Value::I64(n) => self.plain("I64", name, n),
            Value::Single(n) => self.plain("Sg", name, floating(*n, f64::from(*n), 7)),
            Value::Double(n) => self.plain("Db", name, floating(*n, *n, 15)),
            Value::Bytes(b) => {
                self.open("BA", name);
                self.out.push('>');
                BASE64.encode_string(b, self.out);
                self.close("BA");
            }
            Value::Guid(g) => self.plain("G", name, g.hyphenated()),
        }
    }

    fn object(&mut self, name: Option<&str>, object: &Arc<PsObject>) {
        let container = matches!(object.base, Base::List(..) | Base::Dictionary(_));
        if self.depth > self.levels || (self.depth == self.levels && !container) {
            return self.text("S", name, &object.display());
        }
        if let Some(members) = progress(object) {
            return self.progress(name, members);
        }
        let id = self.next_object;
        if Arc::strong_count(object) > 1 {
            if let Some(id) = self.objects.get(&Arc::as_ptr(object)).copied() {
                self.open("Ref", name);
                let _ = write!(self.out, " RefId=\"{id}\"/>");
                return;
            }
            self.objects.insert(Arc::as_ptr(object), id);
            self.scope.push(Declared::Object(Arc::as_ptr(object)));
        }
        self.next_object += 1;
        self.depth += 1;
        self.open("Obj", name);
        let _ = write!(self.out, " RefId=\"{id}\">");
        self.type_names(&object.type_names);
        if let Some(text) = &object.to_string {
            self.text("ToString", None, text);
        }
        match &object.base {
            Base::None => {}
            Base::Primitive(value) => self.value(None, value),
            Base::List(kind, items) => self.list(*kind, items),
            Base::Dictionary(entries) => {
                self.out.push_str("<DCT>");
                self.container(|writer| {
                    for (key, value) in entries {
                        writer.out.push_str("<En>");
                        writer.value(Some("Key"), key);
                        writer.value(Some("Value"), value);
                        writer.out.push_str("</En>");
                    }
                });
                self.out.push_str("</DCT>");
            }
        }
        self.members("Props", None, &object.adapted, &[]);
        self.members("MS", None, &object.extended, &object.member_sets);
        self.out.push_str("</Obj>");
        self.depth -= 1;
    }

    fn list(&mut self, kind: ListKind, items: &[Value]) {
        let tag = match kind {
            ListKind::List => "LST",
            ListKind::Enumerable => "IE",
            ListKind::Stack => "STK",
            ListKind::Queue => "QUE",
        };
        self.open(tag, None);
        if items.is_empty() {
            self.out.push_str("/>");
            return;
        }
        self.out.push('>');
        self.container(|writer| items.iter().for_each(|item| writer.value(None, item)));
        self.close(tag);
    }

    /// Ids that are given inside a container are not referred to from outside it. The protocol allows it, but pypsrp
    /// leaves the containers of an object unread, and then fails on an id that it never saw.
    fn container(&mut self, write: impl FnOnce(&mut Self)) {
        let (outside, chains) = (self.scope.len(), self.chains.len());
        write(self);
        self.chains.truncate(chains);
        for declared in self.scope.drain(outside..) {
            match declared {
                Declared::Types(names) => drop(self.further_chains.remove(&names)),
                Declared::Object(object) => drop(self.objects.remove(&object)),
            }
        }
    }

    fn members(&mut self, tag: &str, name: Option<&str>, properties: &Properties, sets: &[MemberSet]) {
        if name.is_none() && properties.is_empty() && sets.is_empty() {
            return;
        }
        self.open(tag, name);
        self.out.push('>');
        for (name, value) in properties.iter() {
            self.value(Some(name), value);
        }
        for set in sets {
            self.members("MS", Some(&set.name), &set.properties, &set.member_sets);
        }
        self.close(tag);
    }

    fn progress(&mut self, name: Option<&str>, members: [Option<&Value>; PROGRESS_MEMBERS.len()]) {
        self.open("PR", name);
        self.out.push('>');
        for ((element, ..), value) in PROGRESS_MEMBERS.iter().zip(members) {
            match value {
                Some(Value::I32(number)) => self.plain(element, None, number),
                Some(value) => self.text(element, None, value.as_str().unwrap_or_default()),
                // The one that .NET leaves out when it has none.
                None if *element == "S" => self.out.push_str("<Nil/>"),
                None => {}
            }
        }
        self.close("PR");
    }

    fn type_names(&mut self, names: &TypeNames) {
        if names.is_empty() {
            return;
        }
        let same = self.chains.iter().find(|(known, _)| Arc::ptr_eq(known, names));
        let known = same.or_else(|| self.chains.iter().find(|(known, _)| known == names)).map(|(_, id)| *id);
        if let Some(id) = known.or_else(|| self.further_chains.get(names).copied()) {
            let _ = write!(self.out, "<TNRef RefId=\"{id}\"/>");
            return;
        }
        let id = self.next_types;
        self.next_types += 1;
        if self.chains.len() < FIRST_CHAINS {
            self.chains.push((names.clone(), id));
        } else {
            self.further_chains.insert(names.clone(), id);
            self.scope.push(Declared::Types(names.clone()));
        }
        let _ = write!(self.out, "<TN RefId=\"{id}\">");
        for name in names.iter() {
            self.text("T", None, name);
        }
        self.out.push_str("</TN>");
    }
}

/// The members of an object that `PR` can carry whole.
fn progress(object: &PsObject) -> Option<[Option<&Value>; PROGRESS_MEMBERS.len()]> {
    let bare =
        matches!(object.base, Base::None) && object.to_string.is_none() && object.adapted.is_empty() && object.member_sets.is_empty();
    if !bare || !object.type_names.iter().map(|name| &**name).eq(PROGRESS_TYPES) {
        return None;
    }
    let mut members = [None; PROGRESS_MEMBERS.len()];
    let mut row = PROGRESS_MEMBERS.iter().zip(&mut members);
    for (name, value) in object.extended.iter() {
        let ((.., number), place) = row.find(|((_, member, _), _)| **name == **member)?;
        *place = match value {
            Value::I32(_) if *number => Some(value),
            Value::String(_) if !number => Some(value),
            _ => return None,
        };
    }
    Some(members)
}

/// The shortest text that reads back as the same number, with an exponent where .NET writes one (below 1E-4, and
/// from 10 to the power of `digits` on).
fn floating<T: std::fmt::Display + std::fmt::UpperExp>(number: T, size: f64, digits: i32) -> String {
    if size.is_nan() {
        return "NaN".to_owned();
    }
    if size.is_infinite() {
        return if size > 0.0 { "INF" } else { "-INF" }.to_owned();
    }
    let size = size.abs();
    if size == 0.0 || (1e-4..10f64.powi(digits)).contains(&size) {
        return number.to_string();
    }
    let text = format!("{number:E}");
    let (mantissa, exponent) = text.split_once('E').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |e| ("-", e));
    format!("{mantissa}E{sign}{exponent:0>2}")
}
