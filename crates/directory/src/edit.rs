//! What a client wants a property to become: a new value, or items to add and to remove.

use std::collections::HashSet;

use exops_psobject::Value;
use serde_json::Value as Json;

use crate::addresses;
use crate::nouns::{Default, Form, Property, Type};
use crate::values::from_client;

/// Text that stands for no member in a list of named members.
const NO_MEMBER: &str = "None";

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Edit {
    /// The stored form of the new value; null clears.
    Replace(Json),
    /// `@{Add=…; Remove=…}` of a list.
    Amend {
        /// Stored forms.
        add: Vec<Json>,
        /// Stored forms.
        remove: Vec<Json>,
    },
}

impl Edit {
    /// Reads what a client sent for a property, or says why it is nothing for it.
    pub(crate) fn read(property: &Property, value: &Value) -> Result<Self, String> {
        let Form::List(item) = &property.kind.form else { return from_client(property, &property.kind, value).map(Self::Replace) };
        let Some(entries) = value.as_object().and_then(|o| o.dictionary()) else { return items(property, item, value).map(Self::replace) };
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        for (key, value) in entries {
            let into = match key.display().to_ascii_lowercase().as_str() {
                "add" => &mut add,
                "remove" => &mut remove,
                _ => return Err(format!("A change of a list is @{{Add=…; Remove=…}}; \"{}\" is neither.", key.display())),
            };
            into.extend(items(property, item, value)?);
        }
        Ok(Self::Amend { add, remove })
    }

    fn replace(items: Vec<Json>) -> Self {
        Self::Replace(Json::Array(items))
    }

    /// Every text of it, to be put into another form.
    pub(crate) fn texts_mut(&mut self) -> impl Iterator<Item = &mut Json> {
        let (one, two): (&mut [Json], &mut [Json]) = match self {
            Self::Replace(Json::Array(items)) => (items, &mut []),
            Self::Replace(value) => (std::slice::from_mut(value), &mut []),
            Self::Amend { add, remove } => (add, remove),
        };
        one.iter_mut().chain(two).filter(|json| json.is_string())
    }

    /// The same with other texts, each once; of a list, those go for which there is none.
    pub(crate) fn with_texts(&self, text: impl Fn(&str) -> Option<String>) -> Self {
        let other = |json: &Json| match json {
            Json::String(old) => text(old).map(Json::from),
            json => Some(json.clone()),
        };
        let others = |items: &[Json]| -> Vec<Json> {
            let mut seen = HashSet::with_capacity(items.len());
            items.iter().filter_map(other).filter(|item| seen.insert(item.clone())).collect()
        };
        match self {
            Self::Replace(Json::Array(items)) => Self::replace(others(items)),
            Self::Replace(value) => Self::Replace(other(value).unwrap_or(Json::Null)),
            Self::Amend { add, remove } => Self::Amend { add: others(add), remove: others(remove) },
        }
    }

    /// The value that a property has afterwards. `None` gives its default back.
    pub(crate) fn apply(&self, property: &Property, old: &Json) -> Option<Json> {
        match self {
            Self::Replace(Json::Null) => match &property.default {
                Default::Raw(Json::String(text)) if !text.is_empty() => Some(Json::Null),
                _ => None,
            },
            Self::Replace(value) => Some(value.clone()),
            Self::Amend { add, remove } => {
                let removed: HashSet<_> = remove.iter().map(lower).collect();
                let mut list: Vec<Json> = old.as_array().cloned().unwrap_or_default();
                list.retain(|item| !removed.contains(&lower(item)));
                let mut there: HashSet<_> = list.iter().map(lower).collect();
                list.extend(add.iter().filter(|item| there.insert(lower(item))).cloned());
                Some(Json::Array(list))
            }
        }
    }
}

/// The items of a list, or one value as the only item. Null has none.
fn items(property: &Property, kind: &Type, value: &Value) -> Result<Vec<Json>, String> {
    let single = std::slice::from_ref(value);
    let items = value.as_list().unwrap_or(single).iter().filter(|item| !item.is_null());
    let items = items.filter(|item| property.members.is_none() || !item.display().eq_ignore_ascii_case(NO_MEMBER));
    items
        .map(|item| match &*kind.name {
            "ProxyAddress" => {
                addresses::read(&item.display()).map(Json::from).map_err(|reason| format!("\"{}\": {reason}", item.display()))
            }
            _ => match from_client(property, kind, item)? {
                Json::Null => Err("An item of a list cannot be empty.".to_owned()),
                item => Ok(item),
            },
        })
        .collect()
}

/// What items that are the same have in common: case does not tell texts apart.
fn lower(item: &Json) -> Json {
    item.as_str().map_or_else(|| item.clone(), |text| text.to_lowercase().into())
}
