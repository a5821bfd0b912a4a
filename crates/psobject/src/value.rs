use std::sync::Arc;

use uuid::Uuid;

use crate::{DateTime, PsObject, SecureString, TimeSpan};

/// One PowerShell value: a primitive of MS-PSRP 2.2.5.1 or an object.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum Value {
    /// `$null` (`Nil`).
    #[default]
    Null,
    /// `System.String` (`S`).
    String(Arc<str>),
    /// The text of a script block (`SBK`); never evaluated.
    ScriptBlock(Arc<str>),
    /// `System.Char` as its UTF-16 code unit (`C`).
    Char(u16),
    /// `System.Boolean` (`B`).
    Bool(bool),
    /// `System.DateTime` (`DT`).
    DateTime(DateTime),
    /// `System.TimeSpan` (`TS`).
    TimeSpan(TimeSpan),
    /// `System.Byte` (`By`).
    U8(u8),
    /// `System.SByte` (`SB`).
    I8(i8),
    /// `System.UInt16` (`U16`).
    U16(u16),
    /// `System.Int16` (`I16`).
    I16(i16),
    /// `System.UInt32` (`U32`).
    U32(u32),
    /// `System.Int32` (`I32`).
    I32(i32),
    /// `System.UInt64` (`U64`).
    U64(u64),
    /// `System.Int64` (`I64`).
    I64(i64),
    /// `System.Single` (`Sg`).
    Single(f32),
    /// `System.Double` (`Db`).
    Double(f64),
    /// `System.Decimal` as its plain decimal text, scale kept (`D`).
    Decimal(Arc<str>),
    /// `System.Byte[]` (`BA`).
    Bytes(Arc<[u8]>),
    /// `System.Guid` (`G`).
    Guid(Uuid),
    /// `System.Uri` (`URI`).
    Uri(Arc<str>),
    /// `System.Version` (`Version`).
    Version(Arc<str>),
    /// `System.Xml.XmlDocument` as text (`XD`).
    Xml(Arc<str>),
    /// `System.Security.SecureString` (`SS`).
    SecureString(SecureString),
    /// Anything with type names, properties or a container (`Obj`).
    Object(Arc<PsObject>),
}

impl Value {
    /// The string form of a value that is text already: strings, and extended primitives that hold one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) | Self::ScriptBlock(s) | Self::Uri(s) | Self::Version(s) | Self::Decimal(s) => Some(s),
            Self::Object(o) => match o.primitive() {
                Some(inner) => inner.as_str(),
                None => None,
            },
            _ => None,
        }
    }

    /// The object, if this is one.
    #[must_use]
    pub fn as_object(&self) -> Option<&Arc<PsObject>> {
        match self {
            Self::Object(o) => Some(o),
            _ => None,
        }
    }

    /// The items of a list, stack, queue or enumerable object.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Value]> {
        self.as_object().and_then(|o| o.list())
    }

    /// A boolean: `B`, or a `SwitchParameter` object (its `IsPresent`).
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            Self::Object(o) => match o.primitive() {
                Some(inner) => inner.as_bool(),
                None => o.property("IsPresent").and_then(Value::as_bool),
            },
            _ => None,
        }
    }

    /// A whole number that fits `i64`, also from an extended primitive (an enumeration, `10MB`).
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        Some(match self {
            Self::U8(n) => i64::from(*n),
            Self::I8(n) => i64::from(*n),
            Self::U16(n) => i64::from(*n),
            Self::I16(n) => i64::from(*n),
            Self::U32(n) => i64::from(*n),
            Self::I32(n) => i64::from(*n),
            Self::I64(n) => *n,
            Self::U64(n) => i64::try_from(*n).ok()?,
            Self::Object(o) => return o.primitive().and_then(Value::as_i64),
            _ => return None,
        })
    }

    /// The .NET type of a primitive; of an object its most derived type name as it came, `System.Object` without one.
    #[must_use]
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "System.Object",
            Self::String(_) => "System.String",
            Self::ScriptBlock(_) => "System.Management.Automation.ScriptBlock",
            Self::Char(_) => "System.Char",
            Self::Bool(_) => "System.Boolean",
            Self::DateTime(_) => "System.DateTime",
            Self::TimeSpan(_) => "System.TimeSpan",
            Self::U8(_) => "System.Byte",
            Self::I8(_) => "System.SByte",
            Self::U16(_) => "System.UInt16",
            Self::I16(_) => "System.Int16",
            Self::U32(_) => "System.UInt32",
            Self::I32(_) => "System.Int32",
            Self::U64(_) => "System.UInt64",
            Self::I64(_) => "System.Int64",
            Self::Single(_) => "System.Single",
            Self::Double(_) => "System.Double",
            Self::Decimal(_) => "System.Decimal",
            Self::Bytes(_) => "System.Byte[]",
            Self::Guid(_) => "System.Guid",
            Self::Uri(_) => "System.Uri",
            Self::Version(_) => "System.Version",
            Self::Xml(_) => "System.Xml.XmlDocument",
            Self::SecureString(_) => crate::SECURE_STRING,
            Self::Object(o) => o.type_names.first().map_or("System.Object", |n| n),
        }
    }

    /// `true` for `$null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// What PowerShell's string conversion shows: the `ToString` of objects, `True`/`False`, list items joined
    /// with a blank, the empty string for `$null`.
    #[must_use]
    pub fn display(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::String(s) | Self::ScriptBlock(s) | Self::Decimal(s) | Self::Uri(s) | Self::Version(s) | Self::Xml(s) => s.to_string(),
            Self::SecureString(_) => crate::SECURE_STRING.to_owned(),
            Self::Char(c) => char::from_u32(u32::from(*c)).map(String::from).unwrap_or_default(),
            Self::Bool(b) => if *b { "True" } else { "False" }.to_owned(),
            Self::DateTime(d) => d.to_string(),
            Self::TimeSpan(t) => t.to_string(),
            Self::U8(n) => n.to_string(),
            Self::I8(n) => n.to_string(),
            Self::U16(n) => n.to_string(),
            Self::I16(n) => n.to_string(),
            Self::U32(n) => n.to_string(),
            Self::I32(n) => n.to_string(),
            Self::U64(n) => n.to_string(),
            Self::I64(n) => n.to_string(),
            Self::Single(n) => n.to_string(),
            Self::Double(n) => n.to_string(),
            Self::Bytes(b) => b.iter().map(u8::to_string).collect::<Vec<_>>().join(" "),
            Self::Guid(g) => g.to_string(),
            Self::Object(o) => o.display(),
        }
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Self::String(s.into())
    }
}
impl From<String> for Value {
    fn from(s: String) -> Self {
        Self::String(s.into())
    }
}
impl From<Arc<str>> for Value {
    fn from(s: Arc<str>) -> Self {
        Self::String(s)
    }
}
impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}
impl From<i32> for Value {
    fn from(n: i32) -> Self {
        Self::I32(n)
    }
}
impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::I64(n)
    }
}
impl From<Uuid> for Value {
    fn from(g: Uuid) -> Self {
        Self::Guid(g)
    }
}
impl From<DateTime> for Value {
    fn from(d: DateTime) -> Self {
        Self::DateTime(d)
    }
}
impl From<PsObject> for Value {
    fn from(o: PsObject) -> Self {
        Self::Object(Arc::new(o))
    }
}
impl From<Arc<PsObject>> for Value {
    fn from(o: Arc<PsObject>) -> Self {
        Self::Object(o)
    }
}
