//! What finds an object: names by their digests, and the beginnings of property values.
//!
//! Both are one narrow row each, kept in key order and nowhere else. There is no way from an object to its rows: whoever
//! changes it says what it had before.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};
use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use crate::StoreError;
use crate::objects::Row;
use crate::store::{id, key};

pub(crate) const OWNER: &str = "SELECT id FROM identities WHERE tenant = $1 AND term = $2 AND kind = $3 AND slot = $4";

/// Rows of one statement where many are written.
const CHUNK: usize = 200;
/// Rows that are collected before they are sorted and written: in key order, so that each page of the index is met once.
const RUN: usize = 400_000;
/// Characters of a property's text that are kept.
const KEPT: usize = 32;

/// Something that finds an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// What kind of name it is (`guid`, `proxy`, `alias` …).
    pub kind: String,
    /// The folded value.
    pub value: String,
    /// No other object of the tenant may have the same value of that kind.
    pub exclusive: bool,
}

/// One indexed property of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PropertyIndex {
    /// Canonical property name.
    pub property: String,
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
    text.char_indices().nth(KEPT).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    term: [u8; 16],
    identity: Identity,
    id: Uuid,
    /// Number of the object among all that are added; it does not tell names apart.
    row: u64,
}

impl Name {
    /// One slot for all where the name is exclusive, else one for each object: the key keeps out a second owner.
    fn slot(&self) -> Vec<u8> {
        if self.identity.exclusive { Vec::new() } else { key(self.id) }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Property {
    field: i64,
    text: String,
    id: Uuid,
}

/// Rows of the index that are to be written.
#[derive(Default)]
pub(crate) struct Index {
    names: Vec<Name>,
    properties: Vec<Property>,
}

impl Index {
    /// What finds one object.
    pub(crate) fn of(row: Row) -> Self {
        let mut index = Self::default();
        index.push(0, row);
        index
    }

    /// Adds what finds the object with that number.
    pub(crate) fn push(&mut self, row: u64, (object, identities, properties): Row) {
        let id = object.id;
        self.names.extend(identities.into_iter().map(|identity| Name { term: term(&identity.value), identity, id, row }));
        self.properties.extend(properties.into_iter().map(|property| {
            let mut text = property.text;
            text.truncate(kept(&text).len());
            Property { field: field(&object.listing, &property.property), text, id }
        }));
    }

    pub(crate) fn is_full(&self) -> bool {
        self.names.len() + self.properties.len() >= RUN
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
            let query = sqlx::query(sql).bind(tenant).bind(&name.term[..]).bind(&name.identity.kind).bind(name.slot());
            query.bind(key(name.id)).execute(&mut *connection).await?;
        }
        for property in self.properties {
            let sql = "DELETE FROM properties WHERE tenant = $1 AND field = $2 AND text = $3 AND id = $4";
            let query = sqlx::query(sql).bind(tenant).bind(property.field).bind(&property.text).bind(key(property.id));
            query.execute(&mut *connection).await?;
        }
        Ok(())
    }

    /// Writes the rows, in key order, and answers those that another object's are in the way of, at most `limit`.
    pub(crate) async fn write(
        &mut self,
        connection: &mut SqliteConnection,
        tenant: &[u8],
        limit: usize,
    ) -> Result<Vec<Refusal>, StoreError> {
        let mut refused = Vec::new();
        self.names.sort_unstable();
        self.names.dedup_by(|a, b| (&a.term, &a.identity, a.id) == (&b.term, &b.identity, b.id));
        for chunk in self.names.chunks(CHUNK) {
            let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO identities (tenant, term, kind, slot, id) ");
            insert.push_values(chunk, |mut row, name| {
                row.push_bind(tenant).push_bind(&name.term[..]).push_bind(&name.identity.kind).push_bind(name.slot());
                row.push_bind(key(name.id));
            });
            insert.push(" ON CONFLICT DO NOTHING");
            let written = insert.build().persistent(chunk.len() == CHUNK).execute(&mut *connection).await?.rows_affected();
            if written != chunk.len() as u64 && refused.len() < limit {
                refused.extend(taken(connection, tenant, chunk).await?);
            }
        }
        self.names.clear();
        self.properties.sort_unstable();
        self.properties.dedup();
        for chunk in self.properties.chunks(CHUNK) {
            let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO properties (tenant, field, text, id) ");
            insert.push_values(chunk, |mut row, property| {
                row.push_bind(tenant).push_bind(property.field).push_bind(&property.text).push_bind(key(property.id));
            });
            insert.push(" ON CONFLICT DO NOTHING");
            insert.build().persistent(chunk.len() == CHUNK).execute(&mut *connection).await?;
        }
        self.properties.clear();
        refused.truncate(limit);
        Ok(refused)
    }
}

/// Which of these names another object holds.
async fn taken(connection: &mut SqliteConnection, tenant: &[u8], names: &[Name]) -> Result<Vec<Refusal>, StoreError> {
    let mut owners = HashMap::new();
    for name in names.iter().filter(|name| name.identity.exclusive) {
        let query = sqlx::query(OWNER).bind(tenant).bind(&name.term[..]).bind(&name.identity.kind).bind(name.slot());
        if let Some(row) = query.fetch_optional(&mut *connection).await? {
            owners.insert((name.term, &name.identity.kind), id(&row, "id")?);
        }
    }
    let refusal = |name: &Name| {
        let owner = *owners.get(&(name.term, &name.identity.kind)).filter(|owner| name.identity.exclusive && **owner != name.id)?;
        Some(Refusal { row: name.row, owner, identity: Some((name.identity.kind.clone(), name.identity.value.clone())) })
    };
    Ok(names.iter().filter_map(refusal).collect())
}
