//! Objects of the directory: reading, finding, changing.

use std::collections::{BTreeSet, HashSet};

use exops_audit::Outcome;
use futures_util::TryStreamExt as _;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;

use crate::batch::Batch;
use crate::index::{self, Index, KEPT, field, kept, term};
use crate::store::{id, key};
use crate::{Identity, PropertyIndex, Refusal, StoreError, TenantStore};

const GET: &str = "SELECT id, noun, listing, sort, revision, body FROM objects WHERE tenant = $1 AND id = $2";
const BY_NOUN: &str = "SELECT id, noun, listing, sort, revision, body FROM objects \
                       WHERE tenant = $1 AND noun = $2 AND (sort, id) > ($3, $4) ORDER BY sort, id LIMIT $5";
const BY_LISTING: &str = "SELECT id, noun, listing, sort, revision, body FROM objects \
                          WHERE tenant = $1 AND listing = $2 AND (sort, id) > ($3, $4) ORDER BY sort, id LIMIT $5";
const RESOLVE: &str = "SELECT i.id, i.kind, i.slot, o.noun FROM identities i \
                       JOIN objects o ON o.tenant = i.tenant AND o.id = i.id WHERE i.tenant = $1 AND i.term = $2 LIMIT $3";
const NAMED: &str = "SELECT id FROM identities WHERE tenant = $1 AND term = $2 LIMIT $3";
const OF_NOUN: &str = "SELECT id FROM objects WHERE tenant = $1 AND noun = $2 LIMIT $3";
const SORTED: &str = "SELECT id FROM objects WHERE tenant = $1 AND listing = $2 AND sort >= $3 AND sort <= $4 \
                      AND (sort LIKE $5 ESCAPE '\\' OR instr(CAST(sort AS BLOB), x'00')) LIMIT $6";
// A text as long as what is kept can go on. For LIKE and length a text ends at its first NUL: what is behind may be anything.
const HOLDING: &str = "SELECT id FROM properties WHERE tenant = $1 AND field = $2 AND text >= $3 AND text <= $4 \
                       AND (text LIKE $5 ESCAPE '\\' OR length(text) >= $6 OR instr(CAST(text AS BLOB), x'00')) \
                       LIMIT $7";
const POSITION: &str = "SELECT sort, id FROM objects WHERE tenant = $1 AND id = $2";

/// Statements of reads, for the test of query plans.
pub(crate) const QUERIES: &[(&str, &str)] = &[
    ("object by id", GET),
    ("objects by noun", BY_NOUN),
    ("objects by listing", BY_LISTING),
    ("identity", RESOLVE),
    ("owner of an identity", index::OWNER),
    ("objects of a name", NAMED),
    ("objects of a noun", OF_NOUN),
    ("objects by sort", SORTED),
    ("objects by property", HOLDING),
    ("place in a list", POSITION),
];

/// An object with everything that finds it.
pub type Row = (Object, Vec<Identity>, Vec<PropertyIndex>);

/// An object as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Immutable id.
    pub id: Uuid,
    /// Its noun.
    pub noun: String,
    /// The wider noun under which it is also listed; its own where there is none.
    pub listing: String,
    /// The folded name by which lists are ordered.
    pub sort: String,
    /// Counts changes from 1; the store sets it.
    pub revision: i64,
    /// The values, in the form that the owner of the noun writes.
    pub body: Vec<u8>,
}

/// What becomes of an object.
#[derive(Debug)]
pub enum Fate {
    /// It stays as it is.
    Kept,
    /// Its new state with everything that finds it. It is made where there is none.
    Changed(Box<Row>),
    /// It goes.
    Removed,
}

/// What a change has to see beside the object itself.
#[derive(Debug, Default)]
pub struct Related {
    /// Objects that it is going to refer to.
    pub named: BTreeSet<Uuid>,
    /// Those that refer to it: properties of its listing, and the folded text that one of them can be.
    pub holding: (Vec<String>, String),
}

/// An object and what is related to it, as they are in the transaction.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The object, where it exists.
    pub object: Option<Object>,
    /// Those of [`Related::named`] that exist.
    pub named: Vec<Object>,
    /// The other objects that can refer to it.
    pub holders: Vec<Object>,
}

/// What [`TenantStore::change_object`] is to do.
#[derive(Debug)]
pub struct Change<T> {
    /// The object itself.
    pub fate: Fate,
    /// New states of those that refer to it.
    pub holders: Vec<Row>,
    /// The audit outcome that commits with it.
    pub outcome: Option<Outcome>,
    /// What the caller gets back once all is durable.
    pub answer: T,
}

/// Which objects a list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing<'a> {
    /// Exactly of that noun.
    Noun(&'a str),
    /// Of every noun that is listed under that one.
    Wider(&'a str),
}

/// Where a page of a list ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Folded name.
    pub sort: String,
    /// Id, for objects of one name.
    pub id: Uuid,
}

/// An object that an identity led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The object.
    pub id: Uuid,
    /// Its noun.
    pub noun: String,
    /// The kind of identity that matched.
    pub kind: String,
    /// That kind is unique.
    pub exclusive: bool,
}

/// A condition that an index answers. What it answers may be more than what satisfies the condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// One of the names that find the object is this folded text.
    Name(String),
    /// The object is of that noun.
    Noun(String),
    /// The text by which lists are ordered.
    Sort(Text),
    /// A property that is indexed, or one of its values.
    Property(String, Text),
}

/// What an indexed text is compared with; folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// It is that.
    Is(String),
    /// It fits a pattern in which `*` stands for any text.
    Like(String),
}

impl Text {
    /// The first and the last text that it can be, and what SQL compares those between with.
    fn range(&self) -> (&str, String, String) {
        match self {
            Self::Is(text) => (text, text.clone(), "%".to_owned()),
            Self::Like(pattern) => {
                let begin = pattern.split('*').next().unwrap_or_default();
                let mut like = String::with_capacity(pattern.len());
                for c in pattern.chars() {
                    match c {
                        '*' => like.push('%'),
                        '%' | '_' | '\\' => like.extend(['\\', c]),
                        c => like.push(c),
                    }
                }
                // U+10FFFF sorts behind every character that text can continue with.
                (begin, format!("{begin}\u{10FFFF}"), like)
            }
        }
    }
}

impl TenantStore {
    /// Adds objects in one transaction, all or none. One whose id exists already is left as it is.
    ///
    /// # Errors
    /// [`StoreError::IdentityTaken`], or when they could not be written.
    pub async fn insert_objects(&self, objects: Vec<Row>) -> Result<(), StoreError> {
        let tenant = self.key();
        self.store.write(move |connection| Box::pin(async move { add(connection, &tenant, objects).await })).await
    }

    /// One object.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn object(&self, id: Uuid) -> Result<Option<Object>, StoreError> {
        get(&mut *self.store.read().await?, &self.key(), id).await
    }

    /// The objects of these ids that exist, in the order given.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn objects(&self, ids: &[Uuid]) -> Result<Vec<Object>, StoreError> {
        all(&mut *self.store.read().await?, &self.key(), ids.iter().copied()).await
    }

    /// The next `limit` objects of a list after a position, ordered by folded name and id.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn page(&self, listing: Listing<'_>, after: Option<&Position>, limit: u32) -> Result<Vec<Object>, StoreError> {
        self.scan(listing, after, (limit, limit), &mut |_| Ok(true)).await.map(|(found, _)| found)
    }

    /// The next objects of a list after a position that `keep` takes, and where to go on; no position where the list is at
    /// its end. Looks at `look` objects at most, and stops when it has `limit`.
    ///
    /// # Errors
    /// When the database does not answer, or what `keep` says.
    pub async fn scan(
        &self,
        listing: Listing<'_>,
        after: Option<&Position>,
        (look, limit): (u32, u32),
        keep: &mut (dyn FnMut(&Object) -> Result<bool, StoreError> + Send),
    ) -> Result<(Vec<Object>, Option<Position>), StoreError> {
        let (sql, noun) = match listing {
            Listing::Noun(noun) => (BY_NOUN, noun),
            Listing::Wider(noun) => (BY_LISTING, noun),
        };
        let (sort, id) = after.map_or(("", Vec::new()), |p| (p.sort.as_str(), key(p.id)));
        let query = sqlx::query(sql).bind(self.key()).bind(noun).bind(sort).bind(id).bind(i64::from(look));
        let mut connection = self.store.read().await?;
        let mut rows = query.fetch(&mut *connection);
        let (mut found, mut looked) = (Vec::new(), 0);
        while let Some(row) = rows.try_next().await? {
            let object = object(&row)?;
            looked += 1;
            let kept = keep(&object)?;
            let position = || Position { sort: object.sort.clone(), id: object.id };
            let end = (looked == look || (kept && found.len() + 1 >= limit as usize)).then(position);
            if kept {
                found.push(object);
            }
            if end.is_some() {
                return Ok((found, end));
            }
        }
        Ok((found, None))
    }

    /// The objects that a folded name, address or id leads to, at most `limit` matches.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn resolve(&self, value: &str, limit: u32) -> Result<Vec<Match>, StoreError> {
        let query = sqlx::query(RESOLVE).bind(self.key()).bind(term(value).to_vec()).bind(i64::from(limit));
        let rows = query.fetch_all(&mut *self.store.read().await?).await?;
        let read = |row: &SqliteRow| {
            let slot: &[u8] = row.try_get("slot")?;
            Ok(Match { id: id(row, "id")?, noun: row.try_get("noun")?, kind: row.try_get("kind")?, exclusive: slot.is_empty() })
        };
        rows.iter().map(read).collect()
    }

    /// The objects that can satisfy a condition, among them all of the listing that do; `None` when there are more than
    /// `limit`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn candidates(&self, listing: &str, lookup: &Lookup, limit: u32) -> Result<Option<HashSet<Uuid>>, StoreError> {
        let query = match lookup {
            Lookup::Name(name) => sqlx::query(NAMED).bind(self.key()).bind(term(name).to_vec()),
            Lookup::Noun(noun) => sqlx::query(OF_NOUN).bind(self.key()).bind(noun),
            Lookup::Sort(text) => {
                let (from, to, like) = text.range();
                sqlx::query(SORTED).bind(self.key()).bind(listing).bind(from).bind(to).bind(like)
            }
            Lookup::Property(property, text) => {
                let (from, to, like) = text.range();
                let (from, to) = (kept(from), kept(&to).to_owned());
                sqlx::query(HOLDING).bind(self.key()).bind(field(listing, property)).bind(from).bind(to).bind(like).bind(KEPT)
            }
        };
        let rows = query.bind(i64::from(limit) + 1).fetch_all(&mut *self.store.read().await?).await?;
        if rows.len() > limit as usize {
            return Ok(None);
        }
        rows.iter().map(|row| id(row, "id")).collect::<Result<_, _>>().map(Some)
    }

    /// Where objects stand in their lists, in list order.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn positions(&self, ids: impl IntoIterator<Item = Uuid>) -> Result<BTreeSet<Position>, StoreError> {
        let mut connection = self.store.read().await?;
        let mut found = BTreeSet::new();
        for object in ids {
            let query = sqlx::query(POSITION).bind(self.key()).bind(key(object));
            if let Some(row) = query.fetch_optional(&mut *connection).await? {
                found.insert(Position { sort: row.try_get("sort")?, id: id(&row, "id")? });
            }
        }
        Ok(found)
    }

    /// Reads an object, decides, and writes what was decided: one transaction with nothing in between. `related` says what
    /// else must be seen, so that no reference is made to what is gone by then, and none is left behind by what goes or gets
    /// another name. `index` says what finds an object that was stored.
    ///
    /// # Errors
    /// [`StoreError::IdentityTaken`], or when it could not be written. Then neither change nor outcome is there.
    pub async fn change_object<T, R, I, F>(&self, id: Uuid, related: R, index: I, decide: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        R: FnOnce(Option<&Object>) -> Related + Send + 'static,
        I: Fn(&Object) -> Result<Row, StoreError> + Send + Sync + 'static,
        F: FnOnce(Found) -> Change<T> + Send + 'static,
    {
        let (tenant, tenant_id) = (self.key(), self.tenant);
        self.store
            .write(move |connection| {
                Box::pin(async move {
                    let old = get(connection, &tenant, id).await?;
                    let Related { named, holding: (properties, text) } = related(old.as_ref());
                    let mut holders = BTreeSet::new();
                    for property in &properties {
                        let listing = old.as_ref().map_or("", |object| &object.listing);
                        let (field, text) = (field(listing, property), kept(&text));
                        let query = sqlx::query(HOLDING).bind(&tenant).bind(field).bind(text).bind(text).bind("%").bind(KEPT);
                        let query = query.bind(i64::MAX);
                        for row in query.fetch_all(&mut *connection).await? {
                            holders.insert(crate::store::id(&row, "id")?);
                        }
                    }
                    holders.remove(&id);
                    let (named, holders) = (all(connection, &tenant, named).await?, all(connection, &tenant, holders).await?);
                    let change = decide(Found { object: old.clone(), named, holders: holders.clone() });
                    for row in change.holders {
                        let before = holders.iter().find(|object| object.id == row.0.id);
                        let before = before.ok_or_else(|| StoreError::corrupt("object", "a change of an object that was not shown"))?;
                        update(connection, &tenant, index(before)?, row).await?;
                    }
                    match (change.fate, old) {
                        (Fate::Changed(row), None) => add(connection, &tenant, vec![*row]).await?,
                        (Fate::Changed(row), Some(old)) => update(connection, &tenant, index(&old)?, *row).await?,
                        (Fate::Removed, Some(old)) => {
                            Index::of(index(&old)?).delete(connection, &tenant).await?;
                            let query = sqlx::query("DELETE FROM objects WHERE tenant = $1 AND id = $2").bind(&tenant).bind(key(id));
                            query.execute(&mut *connection).await?;
                        }
                        (Fate::Removed, None) | (Fate::Kept, _) => {}
                    }
                    if let Some(outcome) = &change.outcome {
                        crate::audit::append_outcome(connection, tenant_id, outcome).await?;
                    }
                    Ok(change.answer)
                })
            })
            .await
    }
}

/// Writes the new state of an object that is there.
async fn update(connection: &mut SqliteConnection, tenant: &[u8], old: Row, new: Row) -> Result<(), StoreError> {
    let object = &new.0;
    let sql = "UPDATE objects SET sort = $1, revision = revision + 1, body = $2 WHERE tenant = $3 AND id = $4";
    let query = sqlx::query(sql).bind(&object.sort).bind(&object.body).bind(tenant).bind(key(object.id));
    if query.execute(&mut *connection).await?.rows_affected() != 1 {
        return Err(StoreError::corrupt("object", "a change of an object that does not exist"));
    }
    let (mut old, mut new) = (Index::of(old), Index::of(new));
    old.without_common(&mut new);
    old.delete(connection, tenant).await?;
    none_refused(new.write(connection, tenant).await?)
}

/// Adds objects and what finds them; one whose id exists already is left as it is.
async fn add(connection: &mut SqliteConnection, tenant: &[u8], rows: Vec<Row>) -> Result<(), StoreError> {
    let (mut objects, mut finders) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    for (object, identities, properties) in rows {
        finders.push((object.id, object.listing.clone(), identities, properties));
        objects.push(object);
    }
    let mut there = HashSet::new();
    for batch in Batch::objects(tenant, 0, objects) {
        there.extend(batch?.write(connection, tenant).await?.into_iter().map(|refusal| refusal.row));
    }
    let mut index = Index::default();
    for (row, (id, listing, identities, properties)) in (0..).zip(finders).filter(|(row, _)| !there.contains(row)) {
        index.push(row, id, &listing, identities, properties);
    }
    none_refused(index.write(connection, tenant).await?)
}

fn none_refused(refused: Vec<Refusal>) -> Result<(), StoreError> {
    refused.into_iter().next().map_or(Ok(()), |refusal| Err(refusal.into()))
}

/// Those that exist, in the order given.
async fn all(connection: &mut SqliteConnection, tenant: &[u8], ids: impl IntoIterator<Item = Uuid>) -> Result<Vec<Object>, StoreError> {
    let mut found = Vec::new();
    for id in ids {
        found.extend(get(connection, tenant, id).await?);
    }
    Ok(found)
}

async fn get(connection: &mut SqliteConnection, tenant: &[u8], id: Uuid) -> Result<Option<Object>, StoreError> {
    let query = sqlx::query(GET).bind(tenant).bind(key(id));
    query.fetch_optional(connection).await?.as_ref().map(object).transpose()
}

fn object(row: &SqliteRow) -> Result<Object, StoreError> {
    Ok(Object {
        id: id(row, "id")?,
        noun: row.try_get("noun")?,
        listing: row.try_get("listing")?,
        sort: row.try_get("sort")?,
        revision: row.try_get("revision")?,
        body: row.try_get("body")?,
    })
}
