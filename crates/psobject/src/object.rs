use std::sync::Arc;

use crate::Value;

/// The type-name chain of an object, most derived first; shared between objects of one type.
pub type TypeNames = Arc<[Arc<str>]>;

/// Which .NET container a list was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListKind {
    /// Array, `ArrayList`, `List<T>` (`LST`).
    List,
    /// Any other enumerable (`IE`).
    Enumerable,
    /// Stack, top first (`STK`).
    Stack,
    /// Queue (`QUE`).
    Queue,
}

/// What an object wraps beside its properties.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Base {
    /// Nothing: a property bag.
    #[default]
    None,
    /// A primitive with type names or properties of its own: an enumeration's number, a string with notes.
    Primitive(Value),
    /// A list.
    List(ListKind, Vec<Value>),
    /// A dictionary in wire order.
    Dictionary(Vec<(Value, Value)>),
}

/// Named values in wire order. Names are matched without case, as PowerShell does.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Properties(Vec<(Arc<str>, Value)>);

impl Properties {
    /// An empty set with room for `capacity` properties.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// The value of `name`, matched without case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    /// Adds a property at the end without looking for one of the same name.
    pub fn push(&mut self, name: impl Into<Arc<str>>, value: impl Into<Value>) {
        self.0.push((name.into(), value.into()));
    }

    /// Replaces the property of that name (without case) in place, or adds it at the end.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        match self.0.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            Some((_, v)) => *v = value.into(),
            None => self.push(name, value),
        }
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Value)> {
        self.0.iter().map(|(n, v)| (n, v))
    }

    /// Number of properties.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// `true` when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<Arc<str>>, V: Into<Value>> FromIterator<(N, V)> for Properties {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(iter: T) -> Self {
        Self(iter.into_iter().map(|(n, v)| (n.into(), v.into())).collect())
    }
}

impl Extend<(Arc<str>, Value)> for Properties {
    fn extend<T: IntoIterator<Item = (Arc<str>, Value)>>(&mut self, iter: T) {
        self.0.extend(iter);
    }
}

/// An object of MS-PSRP 2.2.5.2: type names, an optional string form, a base and two sets of properties.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PsObject {
    /// Type names, most derived first; empty when the wire gave none.
    pub type_names: TypeNames,
    /// What `ToString()` gave on the other side.
    pub to_string: Option<Arc<str>>,
    /// The wrapped primitive or container.
    pub base: Base,
    /// Properties of the live .NET object (`Props`).
    pub adapted: Properties,
    /// Note properties (`MS`).
    pub extended: Properties,
    /// Member sets among the notes: `PSStandardMembers` and the like, which say how an object is shown and are no
    /// properties of it.
    pub member_sets: Vec<MemberSet>,
}

/// Named notes, and further sets, inside the notes of an object.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MemberSet {
    /// Its name; empty when the wire gave none.
    pub name: Arc<str>,
    /// Its values.
    pub properties: Properties,
    /// Sets inside it.
    pub member_sets: Vec<MemberSet>,
}

impl PsObject {
    /// A property bag of a live type (values in `Props`).
    #[must_use]
    pub fn typed(type_names: TypeNames, adapted: Properties) -> Self {
        Self { type_names, adapted, ..Self::default() }
    }

    /// A bag without type names whose values are notes (`MS`), as PSRP messages are.
    #[must_use]
    pub fn notes(extended: Properties) -> Self {
        Self { extended, ..Self::default() }
    }

    /// An `ArrayList`-like list without type names.
    #[must_use]
    pub fn from_list(items: Vec<Value>) -> Self {
        Self { base: Base::List(ListKind::List, items), ..Self::default() }
    }

    /// An enumeration member: type names `<name>`, `System.Enum`, `System.ValueType`, `System.Object`, the
    /// member as string form, its number as primitive.
    #[must_use]
    pub fn enumeration(type_names: TypeNames, member: &str, number: i32) -> Self {
        Self { type_names, to_string: Some(member.into()), base: Base::Primitive(Value::I32(number)), ..Self::default() }
    }

    /// A property by name without case: notes first, as PowerShell resolves them, then adapted ones.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&Value> {
        self.extended.get(name).or_else(|| self.adapted.get(name))
    }

    /// All properties, adapted ones first.
    pub fn properties(&self) -> impl Iterator<Item = (&Arc<str>, &Value)> {
        self.adapted.iter().chain(self.extended.iter())
    }

    /// The wrapped primitive.
    #[must_use]
    pub fn primitive(&self) -> Option<&Value> {
        match &self.base {
            Base::Primitive(v) => Some(v),
            _ => None,
        }
    }

    /// The wrapped list.
    #[must_use]
    pub fn list(&self) -> Option<&[Value]> {
        match &self.base {
            Base::List(_, items) => Some(items),
            _ => None,
        }
    }

    /// The wrapped dictionary.
    #[must_use]
    pub fn dictionary(&self) -> Option<&[(Value, Value)]> {
        match &self.base {
            Base::Dictionary(entries) => Some(entries),
            _ => None,
        }
    }

    /// The most derived type name without a `Deserialized.` prefix.
    #[must_use]
    pub fn type_name(&self) -> Option<&str> {
        self.type_names.first().map(|n| n.strip_prefix("Deserialized.").unwrap_or(n))
    }

    /// The string form: `ToString` where the wire gave one, else that of the base, else the properties as PowerShell
    /// shows a property bag (`@{Name=…; Value=…}`), else the type name.
    #[must_use]
    pub fn display(&self) -> String {
        if let Some(s) = &self.to_string {
            return s.to_string();
        }
        match &self.base {
            Base::Primitive(v) => v.display(),
            Base::List(_, items) => items.iter().map(Value::display).collect::<Vec<_>>().join(" "),
            Base::Dictionary(_) => "System.Collections.Hashtable".to_owned(),
            Base::None if self.adapted.is_empty() && self.extended.is_empty() => self.type_name().unwrap_or_default().to_owned(),
            Base::None => {
                let parts: Vec<_> = self.properties().map(|(name, value)| format!("{name}={}", value.display())).collect();
                format!("@{{{}}}", parts.join("; "))
            }
        }
    }
}
