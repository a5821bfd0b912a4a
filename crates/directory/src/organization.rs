//! One organisation's objects: from stored bodies to what cmdlets show, and to the rows that find them.

use std::collections::HashMap;
use std::sync::Arc;

use exops_psobject::{Properties, PsObject, Value, json};
use exops_store::{Identity, Object, PropertyIndex, Row, StoreError};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::nouns::{Default, Form, Noun, Property, Type, noun, nouns};
use crate::values::{fold, smtp_address, to_filter, to_wire};

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
        let corrupt = |reason: String| StoreError::Corrupt { what: "directory object", reason };
        let noun = noun(&object.noun).ok_or_else(|| corrupt(format!("unknown noun {}", object.noun)))?;
        let values = serde_json::from_slice(&object.body).map_err(|e| corrupt(e.to_string()))?;
        Ok(Self { id: object.id, noun, values })
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
        let mut properties = Properties::with_capacity(view.properties.len());
        for (position, property) in view.properties.iter().enumerate() {
            if !hidden.is_empty() && hidden.contains(&property.name.to_lowercase()) {
                continue;
            }
            // The default's wire form was made once; most properties of most objects are defaults.
            let stored = entity.values.contains_key(&*property.name);
            if property.unseen && !(stored && std::ptr::eq(entity.noun, view)) {
                continue;
            }
            let own = stored || !std::ptr::eq(entity.noun, view);
            let value = match self.given(view, position).filter(|_| !own) {
                Some(Given::Value(_, wire)) => wire.clone(),
                _ => to_wire(&property.kind, self.stored(entity, view, &property.name)),
            };
            properties.push(property.name.clone(), value);
        }
        if std::ptr::eq(entity.noun, view)
            && let Some(Ok(Value::Object(more))) = entity.values.get(MORE).map(json::from_rest)
        {
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

    /// Whether an object that is listed there has that value of a property without storing it.
    pub(crate) fn is_default(&self, listing: &Noun, name: &str, text: &str, begins: bool) -> bool {
        let blank = |noun: &'static Noun| Entity { id: Uuid::nil(), noun, values: Map::new() };
        let listed = nouns().iter().filter(|noun| noun.listed_as() == &*listing.name && !noun.view);
        listed.map(blank).any(|entity| {
            let mut found = false;
            let view = noun(&listing.name).unwrap_or(entity.noun);
            if let Some(property) = view.property(name).filter(|_| !self.follows(entity.noun, name)) {
                let stored = self.stored(&entity, view, name);
                index_texts(&property.kind, stored, &mut |value| found |= if begins { value.starts_with(text) } else { value == text });
            }
            found
        })
    }
}

/// The texts of the index for a stored value: what [`to_filter`] gives, folded. Null has none.
fn index_texts(kind: &Type, stored: &Json, add: &mut impl FnMut(String)) {
    let mut text = |text: &str| Some(fold(text)).filter(|text| !text.is_empty()).into_iter().for_each(&mut *add);
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
