//! One organisation's objects: from stored bodies to what cmdlets show, and to the rows that find them.

use std::collections::HashMap;
use std::sync::Arc;

use exops_filter::Filter;
use exops_psobject::{Properties, PsObject, Value, json};
use exops_store::{Identity, Object, PropertyIndex, Row, StoreError};
use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::nouns::{Default, Form, Noun, Property, Type, noun, nouns};
use crate::values::{fold, smtp_address, to_filter, to_wire};

/// What stands in the index for a text of nothing but blanks.
const BLANK: &str = " ";
/// Where a body keeps, in annotated form, what an import brought and no noun knows; no property has such a name.
pub(crate) const MORE: &str = "@more";

/// An object with its body read.
///
/// A body is a JSON object of the values that differ from the noun's defaults, by property name. Types stand in the
/// noun table and nowhere else, so a body is small, quick to read, and cannot disagree with the table. Values of
/// properties that the noun does not show (a mailbox's department) are kept too: views show them.
#[derive(Debug, Clone)]
pub(crate) struct Entity {
    pub(crate) id: Uuid,
    pub(crate) noun: &'static Noun,
    pub(crate) values: Map<String, Json>,
}

impl Entity {
    pub(crate) fn read(object: &Object) -> Result<Self, StoreError> {
        Self::of(object, serde_json::from_slice(&object.body))
    }

    /// With the values of these properties only: for a look at many objects.
    pub(crate) fn read_some(object: &Object, properties: &[Arc<str>]) -> Result<Self, StoreError> {
        if properties.is_empty() {
            return Self::of(object, Ok(Map::new()));
        }
        let mut reader = serde_json::Deserializer::from_slice(&object.body);
        Self::of(object, reader.deserialize_map(SomeOf { properties }))
    }

    fn of(object: &Object, values: serde_json::Result<Map<String, Json>>) -> Result<Self, StoreError> {
        let corrupt = |reason: String| StoreError::Corrupt { what: "directory object", reason };
        let noun = noun(&object.noun).ok_or_else(|| corrupt(format!("unknown noun {}", object.noun)))?;
        Ok(Self { id: object.id, noun, values: values.map_err(|e| corrupt(e.to_string()))? })
    }
}

/// Reads the values of some properties of a body and skips the others.
struct SomeOf<'a> {
    properties: &'a [Arc<str>],
}

impl<'de> Visitor<'de> for SomeOf<'_> {
    type Value = Map<String, Json>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut body: A) -> Result<Self::Value, A::Error> {
        let mut values = Map::new();
        while let Some(name) = body.next_key_seed(Name(self.properties))? {
            match name {
                Some(name) => {
                    values.insert(name.to_owned(), body.next_value()?);
                }
                None => {
                    body.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(values)
    }
}

/// Which of these names a key is, without a copy of it.
struct Name<'a>(&'a [Arc<str>]);

impl<'de, 'a> DeserializeSeed<'de> for Name<'a> {
    type Value = Option<&'a str>;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Self::Value, D::Error> {
        key.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Name<'a> {
    type Value = Option<&'a str>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().map(|name| &**name).find(|name| *name == key))
    }
}

/// What is known of an organisation beside its objects: names for templates, and the defaults they give.
#[derive(Debug)]
pub(crate) struct Organization {
    name: String,
    /// The kind of identity that no property has.
    canonical: Arc<str>,
    defaults: HashMap<&'static str, Vec<Given>>,
}

/// A default with its templates filled in: stored form and wire form.
#[derive(Debug)]
enum Given {
    Value(Json, Value),
    Same(usize),
}

static NULL: Json = Json::Null;

impl Organization {
    /// `name` is the initial domain, `forest` and `server` the host names that objects show.
    pub(crate) fn new(name: &str, forest: &str, server: &str) -> Self {
        let fill = |text: &str| text.replace("{organization}", name).replace("{forest}", forest).replace("{server}", server);
        let given = |noun: &Noun, property: &Property| match &property.default {
            Default::Same(other) => noun.position(other).map_or(Given::Value(Json::Null, Value::Null), Given::Same),
            Default::Raw(json) => {
                let json = match json {
                    Json::String(text) => fill(text).into(),
                    Json::Array(items) => items.iter().map(|i| i.as_str().map_or_else(|| i.clone(), |t| fill(t).into())).collect(),
                    other => other.clone(),
                };
                let wire = to_wire(&property.kind, &json);
                Given::Value(json, wire)
            }
        };
        let all = |noun: &'static Noun| (&*noun.name, noun.properties.iter().map(|p| given(noun, p)).collect());
        Self { name: name.to_owned(), canonical: "canonical".into(), defaults: nouns().iter().map(all).collect() }
    }

    /// The initial domain.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The stored form of a property of an object: its own value, its noun's default, else that of a view.
    pub(crate) fn stored<'a>(&'a self, entity: &'a Entity, view: &'static Noun, name: &str) -> &'a Json {
        if let Some(json) = entity.values.get(name) {
            return json;
        }
        for noun in [entity.noun, view] {
            if let Some(position) = noun.position(name) {
                return match self.given(noun, position) {
                    Some(Given::Value(json, _)) => json,
                    Some(Given::Same(other)) => noun.properties.get(*other).map_or(&NULL, |p| self.stored(entity, view, &p.name)),
                    None => &NULL,
                };
            }
        }
        &NULL
    }

    fn given(&self, noun: &Noun, position: usize) -> Option<&Given> {
        self.defaults.get(&*noun.name).and_then(|all| all.get(position))
    }

    /// The default of a property is the value of another one.
    fn follows(&self, noun: &Noun, name: &str) -> bool {
        noun.position(name).and_then(|at| self.given(noun, at)).is_some_and(|given| matches!(given, Given::Same(_)))
    }

    /// A text property, empty where there is none.
    pub(crate) fn text<'a>(&'a self, entity: &'a Entity, name: &str) -> &'a str {
        self.stored(entity, entity.noun, name).as_str().unwrap_or_default()
    }

    /// The object as a cmdlet of `view` shows it, without the properties that must not leave (folded names).
    pub(crate) fn show(&self, entity: &Entity, view: &'static Noun, hidden: &[String]) -> Value {
        let is_own = std::ptr::eq(entity.noun, view);
        let mut stored = vec![None; view.properties.len()];
        for (name, json) in entity.values.iter().filter(|_| is_own) {
            if let Some(place) = view.position(name).and_then(|position| stored.get_mut(position)) {
                *place = Some(json);
            }
        }
        let defaults = self.defaults.get(&*view.name).map(Vec::as_slice).unwrap_or_default();
        let mut properties = Properties::with_capacity(view.properties.len());
        for ((property, stored), default) in view.properties.iter().zip(stored).zip(defaults) {
            if (property.unseen && stored.is_none()) || (!hidden.is_empty() && hidden.contains(&property.name.to_lowercase())) {
                continue;
            }
            let value = match (stored, default) {
                (Some(json), _) => to_wire(&property.kind, json),
                // The default's wire form was made once; most properties of most objects are defaults.
                (None, Given::Value(_, wire)) if is_own => wire.clone(),
                (None, _) => to_wire(&property.kind, self.stored(entity, view, &property.name)),
            };
            properties.push(property.name.clone(), value);
        }
        if is_own && let Some(Ok(Value::Object(more))) = entity.values.get(MORE).map(json::from_rest) {
            let known = |name: &str| hidden.contains(&name.to_lowercase());
            more.properties().filter(|(name, _)| !known(name)).for_each(|(name, value)| properties.push(name.clone(), value.clone()));
        }
        let name = self.text(entity, "Name").into();
        PsObject { to_string: Some(name), ..PsObject::typed(view.chain.clone(), properties) }.into()
    }

    /// A property as filters compare it.
    pub(crate) fn filter_value(&self, entity: &Entity, view: &'static Noun, name: &str) -> Option<Value> {
        let property = view.property(name)?;
        Some(to_filter(&property.kind, self.stored(entity, view, &property.name)))
    }

    /// Organisational unit and name: what audit entries and messages call the object.
    pub(crate) fn canonical_name(&self, entity: &Entity) -> String {
        let (unit, name) = (self.text(entity, "OrganizationalUnit"), self.text(entity, "Name"));
        if unit.is_empty() { name.to_owned() } else { format!("{unit}/{name}") }
    }

    /// The rows to store: the object and everything that finds it.
    pub(crate) fn rows(&self, entity: &Entity) -> Result<Row, StoreError> {
        let corrupt = |e: serde_json::Error| StoreError::Corrupt { what: "directory object", reason: e.to_string() };
        let sort = match self.text(entity, "DisplayName") {
            "" => self.text(entity, "Name"),
            name => name,
        };
        let object = Object {
            id: entity.id,
            noun: entity.noun.name.to_string(),
            listing: entity.noun.listed_as().to_owned(),
            sort: fold(sort),
            revision: 0,
            body: serde_json::to_vec(&entity.values).map_err(corrupt)?,
        };
        Ok((object, self.identities(entity), self.index(entity)))
    }

    fn identities(&self, entity: &Entity) -> Vec<Identity> {
        let mut identities = Vec::new();
        let mut add = |kind: &Arc<str>, unique: bool, text: &str| {
            let text = fold(smtp_address(text).unwrap_or(text));
            if !text.is_empty() {
                identities.push(Identity { kind: Arc::clone(kind), value: text, exclusive: unique });
            }
        };
        for finder in &entity.noun.finders {
            for property in &finder.properties {
                match self.stored(entity, entity.noun, property) {
                    Json::String(text) => add(&finder.kind, finder.unique, text),
                    Json::Array(items) => items.iter().filter_map(Json::as_str).for_each(|text| add(&finder.kind, finder.unique, text)),
                    _ => {}
                }
            }
        }
        if !self.text(entity, "OrganizationalUnit").is_empty() {
            add(&self.canonical, true, &self.canonical_name(entity));
        }
        identities
    }

    /// The rows of an object that is stored.
    pub(crate) fn rows_of(&self, object: &Object) -> Result<Row, StoreError> {
        self.rows(&Entity::read(object)?)
    }

    /// Values that differ from the default: one that most objects have finds nothing.
    fn index(&self, entity: &Entity) -> Vec<PropertyIndex> {
        let view = noun(entity.noun.listed_as()).unwrap_or(entity.noun);
        let mut rows = Vec::new();
        // References too: what names an object must be found when that object goes.
        let references = entity.noun.properties.iter().filter(|p| p.reference);
        for property in view.properties.iter().filter(|p| p.indexed && !p.reference).chain(references) {
            let stored = match entity.values.get(&*property.name) {
                Some(stored) => stored,
                None if self.follows(entity.noun, &property.name) => self.stored(entity, view, &property.name),
                None => continue,
            };
            index_texts(&property.kind, stored, &mut |text| rows.push(PropertyIndex { property: Arc::clone(&property.name), text }));
        }
        rows
    }

    /// The nouns of a listing whose objects match a comparison with that property without storing it.
    pub(crate) fn matching_by_default(&self, listing: &'static Noun, name: &str, filter: &Filter) -> Vec<&'static Noun> {
        let blank = |noun: &'static Noun| Entity { id: Uuid::nil(), noun, values: Map::new() };
        let listed = nouns().iter().filter(|noun| noun.listed_as() == &*listing.name && !noun.view && !self.follows(noun, name));
        listed.filter(|noun| filter.matches(&|name| self.filter_value(&blank(noun), listing, name))).collect()
    }

    /// These properties, and those whose values they show where they have none.
    pub(crate) fn reads<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Vec<Arc<str>> {
        let mut all: Vec<Arc<str>> = names.into_iter().map(Arc::from).collect();
        let mut at = 0;
        while let Some(name) = all.get(at).cloned() {
            at += 1;
            for noun in nouns() {
                let given = noun.position(&name).and_then(|position| self.given(noun, position));
                let Some(Given::Same(other)) = given else { continue };
                all.extend(noun.properties.get(*other).filter(|p| !all.contains(&p.name)).map(|p| Arc::clone(&p.name)));
            }
        }
        all
    }
}

/// The texts of the index for a stored value: what [`to_filter`] gives, folded. Null has none.
fn index_texts(kind: &Type, stored: &Json, add: &mut impl FnMut(String)) {
    // Nothing but blanks is a value too.
    let mut text = |text: &str| {
        Some(fold(text))
            .filter(|_| !text.is_empty())
            .map(|t| if t.is_empty() { BLANK.to_owned() } else { t })
            .into_iter()
            .for_each(&mut *add)
    };
    match (&kind.form, to_filter(kind, stored)) {
        (Form::List(_), Value::Object(list)) => list.list().into_iter().flatten().filter_map(Value::as_str).for_each(text),
        (_, Value::Bool(flag)) => text(index_flag(flag)),
        (_, value) => value.as_str().into_iter().for_each(text),
    }
}

/// A flag as it stands in the index.
pub(crate) fn index_flag(flag: bool) -> &'static str {
    if flag { "1" } else { "0" }
}
