//! What finds an object: names by their digests, and the beginnings of property values.
//!
//! Both are one narrow row each, kept in key order and nowhere else. There is no way from an object to its rows: whoever
//! changes it says what it had before.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;

use crate::StoreError;
use crate::batch::Batch;
use crate::objects::Row;
use crate::store::key;

pub(crate) const OWNER: &str = "SELECT id FROM identities WHERE tenant = $1 AND term = $2 AND kind = $3 AND slot = $4";

/// Rows that are collected before they are sorted and written: in key order, so that each page of the index is met once.
const RUN: usize = 300_000;
/// Characters of a property's text that are kept.
pub(crate) const KEPT: u32 = 32;

/// Something that finds an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// What kind of name it is (`guid`, `proxy`, `alias` …).
    pub kind: Arc<str>,
    /// The folded value.
    pub value: String,
    /// No other object of the tenant may have the same value of that kind.
    pub exclusive: bool,
}

/// One indexed property of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PropertyIndex {
    /// Canonical property name.
    pub property: Arc<str>,
    /// Its value or one of them, folded; never empty.
    pub text: String,
}

/// An object that could not be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which one: counted from 0 over all that was sent.
    pub row: u64,
    /// The object that is in its way: one that was there before, or another one of the stream.
    pub owner: Uuid,
    /// Kind and folded value of the identity that both have; `None` when both have the same id.
    pub identity: Option<(String, String)>,
}

/// A name in the form in which it is a key: SHA-256, cut to 16 bytes. Nobody can make two names that share one.
pub(crate) fn term(value: &str) -> [u8; 16] {
    let (digest, mut cut) = (Sha256::digest(value), [0; 16]);
    cut.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    cut
}

/// A property of a listing as a number. Where two share one, lookups answer too much, and what they answer is evaluated.
pub(crate) fn field(listing: &str, property: &str) -> i64 {
    term(&format!("{listing}/{property}")).iter().take(4).fold(0, |number, byte| number << 8 | i64::from(*byte))
}

/// The kept beginning of a text.
pub(crate) fn kept(text: &str) -> &str {
    text.char_indices().nth(KEPT as usize).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) term: [u8; 16],
    pub(crate) identity: Identity,
    pub(crate) id: Uuid,
    /// Number of the object among all that are added; it does not tell names apart.
    pub(crate) row: u64,
}

impl Name {
    /// One slot for all where the name is exclusive, else one for each object: the key keeps out a second owner.
    pub(crate) fn slot(&self) -> Vec<u8> {
        if self.identity.exclusive { Vec::new() } else { key(self.id) }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Property {
    pub(crate) field: i64,
    pub(crate) text: String,
    pub(crate) id: Uuid,
}

/// Rows of the index that are to be written.
#[derive(Default)]
pub(crate) struct Index {
    names: Vec<Name>,
    properties: Vec<Property>,
    /// Numbers of properties by listing and property.
    fields: HashMap<String, HashMap<Arc<str>, i64>>,
}

impl Index {
    /// What finds one object.
    pub(crate) fn of(row: Row) -> Self {
        let mut index = Self::default();
        let (object, identities, properties) = row;
        index.push(0, object.id, &object.listing, identities, properties);
        index
    }

    /// Adds what finds the object with that number.
    pub(crate) fn push(&mut self, row: u64, id: Uuid, listing: &str, identities: Vec<Identity>, properties: Vec<PropertyIndex>) {
        self.names.extend(identities.into_iter().map(|identity| Name { term: term(&identity.value), identity, id, row }));
        if !self.fields.contains_key(listing) {
            self.fields.insert(listing.to_owned(), HashMap::new());
        }
        let Some(fields) = self.fields.get_mut(listing) else { return };
        self.properties.extend(properties.into_iter().map(|PropertyIndex { property, mut text }| {
            text.truncate(kept(&text).len());
            let field = *fields.entry(property).or_insert_with_key(|property| field(listing, property));
            Property { field, text, id }
        }));
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len() + self.properties.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= RUN
    }

    /// Takes the rows out.
    pub(crate) fn take(&mut self) -> Self {
        let (names, properties) = (std::mem::take(&mut self.names), std::mem::take(&mut self.properties));
        Self { names, properties, fields: HashMap::new() }
    }

    /// Takes from two states of one object what both have, so that only what differs is left.
    pub(crate) fn without_common(&mut self, other: &mut Self) {
        fn differ<T: Ord>(one: &mut Vec<T>, two: &mut Vec<T>) {
            one.sort_unstable();
            two.sort_unstable();
            let common: Vec<bool> = one.iter().map(|item| two.binary_search(item).is_ok()).collect();
            two.retain(|item| one.binary_search(item).is_err());
            let mut common = common.into_iter();
            one.retain(|_| common.next() != Some(true));
        }
        differ(&mut self.names, &mut other.names);
        differ(&mut self.properties, &mut other.properties);
    }

    pub(crate) async fn delete(self, connection: &mut SqliteConnection, tenant: &[u8]) -> Result<(), StoreError> {
        for name in self.names {
            let sql = "DELETE FROM identities WHERE tenant = $1 AND term = $2 AND kind = $3 AND slot = $4 AND id = $5";
            let query = sqlx::query(sql).bind(tenant).bind(&name.term[..]).bind(&*name.identity.kind).bind(name.slot());
            query.bind(key(name.id)).execute(&mut *connection).await?;
        }
        for property in self.properties {
            let sql = "DELETE FROM properties WHERE tenant = $1 AND field = $2 AND text = $3 AND id = $4";
            let query = sqlx::query(sql).bind(tenant).bind(property.field).bind(&property.text).bind(key(property.id));
            query.execute(&mut *connection).await?;
        }
        Ok(())
    }

    /// Writes the rows and answers those that another object's are in the way of.
    pub(crate) async fn write(self, connection: &mut SqliteConnection, tenant: &[u8]) -> Result<Vec<Refusal>, StoreError> {
        let mut refused = Vec::new();
        for batch in self.batches(tenant) {
            refused.extend(batch?.write(connection, tenant).await?);
        }
        Ok(refused)
    }

    /// The statements that write the rows, in key order.
    pub(crate) fn batches(self, tenant: &[u8]) -> impl Iterator<Item = Result<Batch, StoreError>> {
        let Self { mut names, mut properties, .. } = self;
        names.sort_unstable();
        names.dedup_by(|a, b| (&a.term, &a.identity, a.id) == (&b.term, &b.identity, b.id));
        properties.sort_unstable();
        properties.dedup();
        Batch::names(tenant, names).chain(Batch::properties(tenant, properties))
    }
}
