//! The digest of a bound command: SHA-256 over an encoding in which every piece has a tag and a length, so that two
//! different commands never have one encoding.

use exops_psobject::{Base, DateTimeKind, Properties, PsObject, Value};
use secrecy::ExposeSecret;
use sha2::{Digest as _, Sha256};

use crate::BoundCommand;

pub(crate) fn digest(command: &BoundCommand) -> [u8; 32] {
    let mut sink = Sink(Sha256::new());
    sink.text(b'n', &command.cmdlet.name.to_ascii_lowercase());
    match &command.set {
        Some(set) => sink.text(b's', set),
        None => sink.piece(b'-', &[]),
    }
    let mut arguments: Vec<(String, &Value)> =
        command.arguments.iter().map(|a| (a.parameter.name.to_ascii_lowercase(), &a.value)).collect();
    arguments.sort_by(|a, b| a.0.cmp(&b.0));
    sink.count(b'a', arguments.len());
    for (name, value) in arguments {
        sink.text(b'p', &name);
        sink.value(value);
    }
    sink.0.finalize().into()
}

struct Sink(Sha256);

impl Sink {
    fn piece(&mut self, tag: u8, bytes: &[u8]) {
        self.0.update([tag]);
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn text(&mut self, tag: u8, text: &str) {
        self.piece(tag, text.as_bytes());
    }

    fn count(&mut self, tag: u8, count: usize) {
        self.piece(tag, &(count as u64).to_be_bytes());
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.piece(0, &[]),
            Value::String(s) => self.text(1, s),
            Value::ScriptBlock(s) => self.text(2, s),
            Value::Char(c) => self.piece(3, &c.to_be_bytes()),
            Value::Bool(b) => self.piece(4, &[u8::from(*b)]),
            Value::DateTime(time) => {
                let zone = match time.kind() {
                    DateTimeKind::Local(minutes) => i32::from(minutes),
                    DateTimeKind::Utc => i32::MAX,
                    DateTimeKind::Unspecified => i32::MIN,
                };
                self.piece(5, &[&time.ticks().to_be_bytes()[..], &zone.to_be_bytes()].concat());
            }
            Value::TimeSpan(span) => self.piece(6, &span.0.to_be_bytes()),
            Value::U8(n) => self.piece(7, &n.to_be_bytes()),
            Value::I8(n) => self.piece(8, &n.to_be_bytes()),
            Value::U16(n) => self.piece(9, &n.to_be_bytes()),
            Value::I16(n) => self.piece(10, &n.to_be_bytes()),
            Value::U32(n) => self.piece(11, &n.to_be_bytes()),
            Value::I32(n) => self.piece(12, &n.to_be_bytes()),
            Value::U64(n) => self.piece(13, &n.to_be_bytes()),
            Value::I64(n) => self.piece(14, &n.to_be_bytes()),
            Value::Single(n) => self.piece(15, &n.to_bits().to_be_bytes()),
            Value::Double(n) => self.piece(16, &n.to_bits().to_be_bytes()),
            Value::Decimal(s) => self.text(17, s),
            Value::Bytes(b) => self.piece(18, b),
            Value::Guid(g) => self.piece(19, g.as_bytes()),
            Value::Uri(s) => self.text(20, s),
            Value::Version(s) => self.text(21, s),
            Value::Xml(s) => self.text(22, s),
            Value::SecureString(s) => match (s.ciphertext(), s.secret()) {
                (Some(sealed), _) => self.text(23, sealed),
                (None, secret) => self.text(24, secret.map(ExposeSecret::expose_secret).unwrap_or_default()),
            },
            Value::Object(object) => self.object(object),
            // A kind of value that this crate does not know yet still counts with all that it shows of itself.
            other => self.text(u8::MAX, &format!("{other:?}")),
        }
    }

    fn object(&mut self, object: &PsObject) {
        self.count(32, object.type_names.len());
        for name in object.type_names.iter() {
            self.text(33, name);
        }
        match &object.to_string {
            Some(text) => self.text(34, text),
            None => self.piece(35, &[]),
        }
        match &object.base {
            Base::None => self.piece(36, &[]),
            Base::Primitive(value) => {
                self.piece(37, &[]);
                self.value(value);
            }
            Base::List(kind, items) => {
                self.text(38, &format!("{kind:?}"));
                self.count(39, items.len());
                items.iter().for_each(|item| self.value(item));
            }
            Base::Dictionary(entries) => {
                self.count(40, entries.len());
                for (key, value) in entries {
                    self.value(key);
                    self.value(value);
                }
            }
        }
        self.properties(&object.adapted);
        self.properties(&object.extended);
    }

    fn properties(&mut self, properties: &Properties) {
        self.count(41, properties.len());
        for (name, value) in properties.iter() {
            self.text(42, name);
            self.value(value);
        }
    }
}
