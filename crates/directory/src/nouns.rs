//! The noun table: what objects look like and which cmdlets serve them, as data.
//!
//! `nouns/nouns.txt` is written by `nouns/generate.py` from recorded output types and `nouns/facts.txt`; its statements
//! are explained there. A further noun is further statements, not code.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use exops_psobject::TypeNames;
use serde_json::Value as Json;

/// How a value is stored and how it looks on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// `System.String`.
    Text,
    /// `System.Uri`.
    Uri,
    /// `System.Boolean`.
    Bool,
    /// `System.Int16`.
    Int16,
    /// `System.Int32`.
    Int32,
    /// `System.UInt32`.
    UInt32,
    /// `System.Guid`, stored as its text.
    Guid,
    /// `System.DateTime` with the offset of the service's clock (zero), stored as Unix milliseconds.
    DateTime,
    /// The same as UTC.
    DateTimeUtc,
    /// A .NET object of which only the string form leaves.
    Object,
    /// A size, stored in bytes.
    Size,
    /// A size, or the text `Unlimited`.
    UnlimitedSize,
    /// A number, or the text `Unlimited`.
    UnlimitedNumber,
    /// An enumeration with its members' numbers; `wide` ones are 64 bits long.
    Enum {
        /// 64 bits.
        wide: bool,
        /// Members and numbers.
        members: Vec<(Arc<str>, i64)>,
    },
    /// A list of items of another type.
    List(Arc<Type>),
}

/// A type of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// Name in the table.
    pub name: Arc<str>,
    /// Form.
    pub form: Form,
    /// .NET type names, most derived first; empty for primitives.
    pub chain: TypeNames,
}

/// What a property is when nothing is stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Default {
    /// This value; text may hold the templates `{organization}`, `{forest}`, `{server}`.
    Raw(Json),
    /// The value of another property of the object.
    Same(Arc<str>),
}

/// A property of a noun.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// Canonical name.
    pub name: Arc<str>,
    /// Type.
    pub kind: Arc<Type>,
    /// The type was not recorded but concluded.
    pub assumed: bool,
    /// Kept in the index of properties.
    pub indexed: bool,
    /// May stand in `-Filter`.
    pub filterable: bool,
    /// Compared as it is: `-like` takes no wildcard for it.
    pub plain: bool,
    /// For filters only: no cmdlet shows it, unless an object stores a value for it.
    pub unseen: bool,
    /// Value when nothing is stored.
    pub default: Default,
    /// Characters that a text, or each text of a list, may have.
    pub length: Option<(usize, usize)>,
    /// The only texts that it, or each item of a list, may be set to.
    pub members: Option<Vec<Arc<str>>>,
    /// Names of the objects that it may be set to, which are no nouns.
    pub names: Option<Vec<Arc<str>>>,
    /// Holds names of recipients.
    pub reference: bool,
}

/// What a parameter that sets no property of its name does for one of its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// The parameter.
    pub parameter: Arc<str>,
    /// One of its values.
    pub value: Arc<str>,
    /// Properties and what they become; null gives a default back.
    pub sets: serde_json::Map<String, Json>,
}

/// A list of recipients that is two lists in one: setting it sets both, and it always holds what both hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Union {
    /// The property with everybody.
    pub whole: Arc<str>,
    /// The one with all that are no groups.
    pub senders: Arc<str>,
    /// The one with the groups.
    pub members: Arc<str>,
}

/// A cmdlet that serves a noun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `Verb-Noun`.
    pub cmdlet: Arc<str>,
    /// .NET class of the task, shown in error ids.
    pub task: Arc<str>,
    /// Parameters that it serves, beside the common ones. For a changing cmdlet also the properties that they set.
    pub parameters: Vec<Arc<str>>,
}

/// Properties by which objects are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finder {
    /// Kind of identity.
    pub kind: Arc<str>,
    /// No two objects share a value.
    pub unique: bool,
    /// The properties.
    pub properties: Vec<Arc<str>>,
}

/// A noun.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Noun {
    /// Name.
    pub name: Arc<str>,
    /// Not stored: shows every noun whose `listing` it is, or the one of `shows`.
    pub view: bool,
    /// The only noun that this view shows.
    pub shows: Option<Arc<str>>,
    /// What `-RecipientTypeDetails` of the reading cmdlet takes.
    pub kinds: Vec<Arc<str>>,
    /// The wider noun under which its objects are listed too.
    pub listing: Option<Arc<str>>,
    /// .NET type names, most derived first.
    pub chain: TypeNames,
    /// Properties in the order in which they are shown.
    pub properties: Vec<Property>,
    /// Properties by which it is found.
    pub finders: Vec<Finder>,
    /// The cmdlet that reads it.
    pub get: Option<Service>,
    /// The cmdlet that changes it.
    pub set: Option<Service>,
    /// Sizes that must not decrease in this order.
    pub ordered: Vec<Arc<str>>,
    /// Values of parameters that set several properties.
    pub variants: Vec<Variant>,
    /// Lists that are two in one.
    pub unions: Vec<Union>,
    by_name: HashMap<String, usize>,
}

impl Noun {
    /// A property by name without case.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&Property> {
        self.position(name).and_then(|i| self.properties.get(i))
    }

    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(&name.to_ascii_lowercase()).copied()
    }

    /// The noun under which the store lists its objects.
    #[must_use]
    pub fn listed_as(&self) -> &str {
        self.listing.as_deref().unwrap_or(&self.name)
    }
}

/// All nouns that are built in.
#[must_use]
pub fn nouns() -> &'static [Noun] {
    static NOUNS: LazyLock<Vec<Noun>> = LazyLock::new(|| {
        parse(include_str!("../nouns/nouns.txt")).unwrap_or_else(|problem| {
            // The table is part of the source and a test parses it.
            tracing::error!(problem, "the built-in noun table is not readable");
            Vec::new()
        })
    });
    &NOUNS
}

/// A noun by exact name.
#[must_use]
pub fn noun(name: &str) -> Option<&'static Noun> {
    nouns().iter().find(|n| &*n.name == name)
}

/// Reads a noun table.
///
/// # Errors
/// The first statement that is not understood, with its line number.
pub fn parse(text: &str) -> Result<Vec<Noun>, String> {
    let mut types = primitives();
    let mut nouns: Vec<Noun> = Vec::new();
    let mut lengths: HashMap<String, (usize, usize)> = HashMap::new();
    let mut members: HashMap<String, Vec<Arc<str>>> = HashMap::new();
    let mut names: HashMap<String, Vec<Arc<str>>> = HashMap::new();
    let mut references: Vec<Arc<str>> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
        let fail = || format!("line {}: {line}", number + 1);
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "type" {
            let kind = read_type(rest, &types).ok_or_else(fail)?;
            types.insert(kind.name.to_string(), Arc::new(kind));
            continue;
        }
        if word == "noun" {
            lengths.clear();
            members.clear();
            names.clear();
            references.clear();
            nouns.push(Noun { name: rest.into(), ..Noun::default() });
            continue;
        }
        let noun = nouns.last_mut().ok_or_else(fail)?;
        match word {
            "view" => noun.view = true,
            "shows" => noun.shows = Some(rest.into()),
            "kinds" => noun.kinds = words(rest),
            "listing" => noun.listing = Some(rest.into()),
            "chain" => noun.chain = rest.split(" | ").map(Arc::from).collect(),
            "ordered" => noun.ordered = words(rest),
            "get" | "set" => {
                let (head, parameters) = rest.split_once(" =").ok_or_else(fail)?;
                let (cmdlet, task) = head.split_once(' ').ok_or_else(fail)?;
                let service = Some(Service { cmdlet: cmdlet.into(), task: task.into(), parameters: words(parameters) });
                if word == "get" { noun.get = service } else { noun.set = service }
            }
            "length" => {
                let (range, names) = rest.split_once(" = ").ok_or_else(fail)?;
                let (min, max) = range.split_once(' ').ok_or_else(fail)?;
                let range = (min.parse().map_err(|_| fail())?, max.parse().map_err(|_| fail())?);
                lengths.extend(names.split_whitespace().map(|name| (name.to_owned(), range)));
            }
            "reference" => references = words(rest),
            "members" => {
                let (property, legal) = rest.split_once(" =").ok_or_else(fail)?;
                members.insert(property.to_owned(), words(legal));
            }
            "names" => {
                let (property, legal) = rest.split_once(" =").ok_or_else(fail)?;
                names.insert(property.to_owned(), legal.split(" | ").map(str::trim).filter(|n| !n.is_empty()).map(Arc::from).collect());
            }
            "union" => match words(rest).as_slice() {
                [whole, senders, members] => {
                    noun.unions.push(Union { whole: whole.clone(), senders: senders.clone(), members: members.clone() });
                }
                _ => return Err(fail()),
            },
            "variant" => {
                let (head, sets) = rest.split_once(" = ").ok_or_else(fail)?;
                let (parameter, value) = head.split_once(' ').ok_or_else(fail)?;
                let sets = serde_json::from_str(sets).map_err(|_| fail())?;
                noun.variants.push(Variant { parameter: parameter.into(), value: value.into(), sets });
            }
            "unique" | "shared" => {
                let (kind, properties) = rest.split_once(' ').ok_or_else(fail)?;
                noun.finders.push(Finder { kind: kind.into(), unique: word == "unique", properties: words(properties) });
            }
            "property" => {
                let mut parts = rest.splitn(4, ' ');
                let (name, kind) = (parts.next().ok_or_else(fail)?, parts.next().ok_or_else(fail)?);
                let (flags, default) = (parts.next().ok_or_else(fail)?, parts.next().ok_or_else(fail)?);
                let has = |flag| flags.split(',').any(|f| f == flag);
                let property = Property {
                    name: name.into(),
                    kind: types.get(kind).ok_or_else(fail)?.clone(),
                    assumed: has("assumed"),
                    indexed: has("index"),
                    filterable: has("filter"),
                    plain: has("plain"),
                    unseen: has("unseen"),
                    default: match default.strip_prefix('@') {
                        Some(other) => Default::Same(other.into()),
                        None => Default::Raw(serde_json::from_str(default).map_err(|_| fail())?),
                    },
                    length: lengths.get(name).copied(),
                    members: members.get(name).cloned(),
                    names: names.get(name).cloned(),
                    reference: references.iter().any(|r| **r == *name),
                };
                noun.by_name.insert(name.to_ascii_lowercase(), noun.properties.len());
                noun.properties.push(property);
            }
            _ => return Err(fail()),
        }
    }
    Ok(nouns)
}

fn words(text: &str) -> Vec<Arc<str>> {
    text.split_whitespace().map(Arc::from).collect()
}

fn primitives() -> HashMap<String, Arc<Type>> {
    [
        ("Text", Form::Text),
        ("Uri", Form::Uri),
        ("Bool", Form::Bool),
        ("Int16", Form::Int16),
        ("Int32", Form::Int32),
        ("UInt32", Form::UInt32),
        ("Guid", Form::Guid),
        ("DateTime", Form::DateTime),
        ("DateTimeUtc", Form::DateTimeUtc),
    ]
    .into_iter()
    .map(|(name, form)| (name.to_owned(), Arc::new(Type { name: name.into(), form, chain: TypeNames::default() })))
    .collect()
}

fn read_type(rest: &str, types: &HashMap<String, Arc<Type>>) -> Option<Type> {
    let mut parts = rest.split(" | ");
    let mut head = parts.next()?.split(' ');
    let (name, form) = (head.next()?, head.next()?);
    let form = match form {
        "object" => Form::Object,
        "size" => Form::Size,
        "unlimited-size" => Form::UnlimitedSize,
        "unlimited-number" => Form::UnlimitedNumber,
        "enum32" | "enum64" => {
            let member = |m: &str| m.split_once('=').and_then(|(name, n)| Some((Arc::from(name), n.parse().ok()?)));
            Form::Enum { wide: form == "enum64", members: head.map(member).collect::<Option<_>>()? }
        }
        "list" => Form::List(types.get(head.next()?)?.clone()),
        _ => return None,
    };
    Some(Type { name: name.into(), form, chain: parts.map(Arc::from).collect() })
}
