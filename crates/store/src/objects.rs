//! Objects of the directory, what finds them, and their filterable properties.

use std::collections::{BTreeSet, HashMap};

use exops_audit::Outcome;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Row as _, Sqlite};
use uuid::Uuid;

use crate::store::{id, key};
use crate::{StoreError, TenantStore};

const GET: &str = "SELECT id, noun, listing, sort, revision, body FROM objects WHERE tenant = $1 AND id = $2";
const BY_NOUN: &str = "SELECT id, noun, listing, sort, revision, body FROM objects \
                       WHERE tenant = $1 AND noun = $2 AND (sort, id) > ($3, $4) ORDER BY sort, id LIMIT $5";
const BY_LISTING: &str = "SELECT id, noun, listing, sort, revision, body FROM objects \
                          WHERE tenant = $1 AND listing = $2 AND (sort, id) > ($3, $4) ORDER BY sort, id LIMIT $5";
const RESOLVE: &str = "SELECT i.id, i.kind, i.exclusive, o.noun FROM identities i \
                       JOIN objects o ON o.tenant = i.tenant AND o.id = i.id WHERE i.tenant = $1 AND i.value = $2 LIMIT $3";
const OWNER: &str = "SELECT id FROM identities WHERE tenant = $1 AND kind = $2 AND value = $3 AND exclusive = 1";
const TEXT_EQUAL: &str = "SELECT o.sort, o.id FROM properties p JOIN objects o ON o.tenant = p.tenant AND o.id = p.id \
                          WHERE p.tenant = $1 AND p.listing = $2 AND p.property = $3 AND p.text = $4 AND p.number = 0 LIMIT $5";
const TEXT_RANGE: &str = "SELECT o.sort, o.id FROM properties p JOIN objects o ON o.tenant = p.tenant AND o.id = p.id \
                          WHERE p.tenant = $1 AND p.listing = $2 AND p.property = $3 AND p.text >= $4 AND p.text < $5 LIMIT $6";
const NUMBER_RANGE: &str = "SELECT o.sort, o.id FROM properties p JOIN objects o ON o.tenant = p.tenant AND o.id = p.id \
                            WHERE p.tenant = $1 AND p.listing = $2 AND p.property = $3 AND p.text = '' \
                            AND p.number >= $4 AND p.number <= $5 LIMIT $6";

/// Statements of reads, for the test of query plans.
pub(crate) const QUERIES: &[(&str, &str)] = &[
    ("object by id", GET),
    ("objects by noun", BY_NOUN),
    ("objects by listing", BY_LISTING),
    ("identity", RESOLVE),
    ("owner of an identity", OWNER),
    ("text property equal", TEXT_EQUAL),
    ("text property range", TEXT_RANGE),
    ("number property range", NUMBER_RANGE),
];

/// Rows of one statement where many are written.
const CHUNK: usize = 200;
/// What an organisation has beside settings and registrations.
const TABLES: [&str; 6] = ["objects", "identities", "properties", "audit_log", "audit_entries", "audit_terms"];

/// An object with everything that finds it.
pub type Row = (Object, Vec<Identity>, Vec<PropertyIndex>);

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

/// A value in the index of properties.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum IndexValue {
    /// Folded text; never empty.
    Text(String),
    /// A number; booleans are 0 and 1.
    Number(i64),
}

/// One indexed property of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PropertyIndex {
    /// Canonical property name.
    pub property: String,
    /// Its value, or one of them.
    pub value: IndexValue,
}

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

/// What [`TenantStore::change_object`] is to do.
#[derive(Debug)]
pub struct Change<T> {
    /// The object's new state with everything that finds it; `None` leaves it as it is.
    pub object: Option<Row>,
    /// The audit outcome that commits with it.
    pub outcome: Option<Outcome>,
    /// What the caller gets back once both are durable.
    pub answer: T,
}

/// What [`TenantStore::remove_object`] is to do.
#[derive(Debug)]
pub struct Removal<T> {
    /// The object goes.
    pub remove: bool,
    /// New states of other objects.
    pub changed: Vec<Row>,
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

/// A condition that the index of properties answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The folded text equals.
    Text(String),
    /// The folded text begins with.
    Prefix(String),
    /// The number lies between, both included.
    Numbers(i64, i64),
}

impl TenantStore {
    /// Adds objects in one transaction, all or none. One whose id exists already is left as it is.
    ///
    /// # Errors
    /// [`StoreError::IdentityTaken`], or when they could not be written.
    pub async fn insert_objects(&self, objects: Vec<Row>) -> Result<(), StoreError> {
        let tenant = self.key();
        self.store.write(move |connection| Box::pin(async move { add(connection, &tenant, &objects).await })).await
    }

    /// Makes these the objects of the tenant and sets `mark` (name and value of a setting), in one transaction: the objects
    /// that were there and the whole audit trail go, since no entry may claim a change that is not there.
    ///
    /// # Errors
    /// [`StoreError::IdentityTaken`], or when they could not be written. Then everything is as it was.
    pub async fn replace_objects(&self, objects: Vec<Row>, mark: (&'static str, &'static [u8])) -> Result<(), StoreError> {
        let tenant = self.key();
        self.store
            .write(move |connection| {
                Box::pin(async move {
                    for table in TABLES {
                        let sql = format!("DELETE FROM {table} WHERE tenant = $1");
                        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&tenant).execute(&mut *connection).await?;
                    }
                    add(connection, &tenant, &objects).await?;
                    crate::settings::put(connection, &tenant, mark.0, mark.1).await
                })
            })
            .await
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
        let mut connection = self.store.read().await?;
        let (tenant, mut found) = (self.key(), Vec::with_capacity(ids.len()));
        for id in ids {
            found.extend(get(&mut connection, &tenant, *id).await?);
        }
        Ok(found)
    }

    /// The next `limit` objects of a list after a position, ordered by folded name and id.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn page(&self, listing: Listing<'_>, after: Option<&Position>, limit: u32) -> Result<Vec<Object>, StoreError> {
        let (sql, noun) = match listing {
            Listing::Noun(noun) => (BY_NOUN, noun),
            Listing::Wider(noun) => (BY_LISTING, noun),
        };
        let (sort, id) = after.map_or(("", Vec::new()), |p| (p.sort.as_str(), key(p.id)));
        let query = sqlx::query(sql).bind(self.key()).bind(noun).bind(sort).bind(id).bind(i64::from(limit));
        query.fetch_all(&mut *self.store.read().await?).await?.iter().map(object).collect()
    }

    /// The objects that a folded name, address or id leads to, at most `limit` matches.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn resolve(&self, value: &str, limit: u32) -> Result<Vec<Match>, StoreError> {
        let query = sqlx::query(RESOLVE).bind(self.key()).bind(value).bind(i64::from(limit));
        let rows = query.fetch_all(&mut *self.store.read().await?).await?;
        let read = |row: &SqliteRow| {
            let exclusive: i64 = row.try_get("exclusive")?;
            Ok(Match { id: id(row, "id")?, noun: row.try_get("noun")?, kind: row.try_get("kind")?, exclusive: exclusive != 0 })
        };
        rows.iter().map(read).collect()
    }

    /// Where the objects stand that satisfy a condition on an indexed property, in list order without repeats; `None`
    /// when there are more than `limit`, so that walking the list is cheaper.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn candidates(
        &self,
        listing: &str,
        property: &str,
        lookup: &Lookup,
        limit: u32,
    ) -> Result<Option<BTreeSet<Position>>, StoreError> {
        let sql = match lookup {
            Lookup::Text(_) => TEXT_EQUAL,
            Lookup::Prefix(_) => TEXT_RANGE,
            Lookup::Numbers(..) => NUMBER_RANGE,
        };
        let query = sqlx::query(sql).bind(self.key()).bind(listing).bind(property);
        let query = match lookup {
            Lookup::Text(text) => query.bind(text),
            // U+10FFFF sorts behind every character that text can continue with.
            Lookup::Prefix(prefix) => query.bind(prefix).bind(format!("{prefix}\u{10FFFF}")),
            Lookup::Numbers(from, to) => query.bind(from).bind(to),
        };
        let query = query.bind(i64::from(limit) + 1);
        let rows = query.fetch_all(&mut *self.store.read().await?).await?;
        if rows.len() > limit as usize {
            return Ok(None);
        }
        let read = |row: &SqliteRow| Ok(Position { sort: row.try_get("sort")?, id: id(row, "id")? });
        rows.iter().map(read).collect::<Result<_, StoreError>>().map(Some)
    }

    /// Reads an object, decides, and writes what was decided: one transaction with nothing in between. `decide` sees
    /// the object as it is at that moment, or `None`, and may then make it; its outcome becomes durable together with
    /// the change.
    ///
    /// # Errors
    /// [`StoreError::IdentityTaken`], or when it could not be written. Then neither change nor outcome is there.
    pub async fn change_object<T, F>(&self, id: Uuid, decide: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(Option<Object>) -> Change<T> + Send + 'static,
    {
        let (tenant, tenant_id) = (self.key(), self.tenant);
        self.store
            .write(move |connection| {
                Box::pin(async move {
                    let old = get(connection, &tenant, id).await?;
                    let new = old.is_none();
                    let change = decide(old);
                    match &change.object {
                        Some(row) if new => add(connection, &tenant, std::slice::from_ref(row)).await?,
                        Some(row) => update(connection, &tenant, row).await?,
                        None => {}
                    }
                    if let Some(outcome) = &change.outcome {
                        crate::audit::append_outcome(connection, tenant_id, outcome).await?;
                    }
                    Ok(change.answer)
                })
            })
            .await
    }

    /// Removes an object in one transaction. `decide` sees it as it is at that moment, and the objects of its listing of
    /// which one of `properties` is that folded text, so that no reference to it is left behind.
    ///
    /// # Errors
    /// When it could not be written. Then neither removal nor outcome is there.
    pub async fn remove_object<T, F>(&self, id: Uuid, properties: Vec<String>, text: String, decide: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(Option<Object>, Vec<Object>) -> Removal<T> + Send + 'static,
    {
        let (tenant, tenant_id) = (self.key(), self.tenant);
        self.store
            .write(move |connection| {
                Box::pin(async move {
                    let old = get(connection, &tenant, id).await?;
                    let mut holders = BTreeSet::new();
                    for property in properties.iter().filter(|_| old.is_some()) {
                        let listing = old.as_ref().map_or("", |object| &object.listing);
                        let query = sqlx::query(TEXT_EQUAL).bind(&tenant).bind(listing).bind(property).bind(&text).bind(i64::MAX);
                        for row in query.fetch_all(&mut *connection).await? {
                            holders.insert(crate::store::id(&row, "id")?);
                        }
                    }
                    let mut found = Vec::with_capacity(holders.len());
                    for holder in holders.into_iter().filter(|holder| *holder != id) {
                        found.extend(get(connection, &tenant, holder).await?);
                    }
                    let removal = decide(old, found);
                    for row in &removal.changed {
                        update(connection, &tenant, row).await?;
                    }
                    if removal.remove {
                        forget_index(connection, &tenant, id).await?;
                        let query = sqlx::query("DELETE FROM objects WHERE tenant = $1 AND id = $2").bind(&tenant).bind(key(id));
                        query.execute(&mut *connection).await?;
                    }
                    if let Some(outcome) = &removal.outcome {
                        crate::audit::append_outcome(connection, tenant_id, outcome).await?;
                    }
                    Ok(removal.answer)
                })
            })
            .await
    }
}

/// Writes the new state of an object that is there.
async fn update(connection: &mut SqliteConnection, tenant: &[u8], row: &Row) -> Result<(), StoreError> {
    let object = &row.0;
    let sql = "UPDATE objects SET sort = $1, revision = revision + 1, body = $2 WHERE tenant = $3 AND id = $4";
    let query = sqlx::query(sql).bind(&object.sort).bind(&object.body).bind(tenant).bind(key(object.id));
    if query.execute(&mut *connection).await?.rows_affected() != 1 {
        return Err(StoreError::corrupt("object", "a change of an object that does not exist"));
    }
    forget_index(connection, tenant, object.id).await?;
    write_index(connection, tenant, &[row]).await
}

async fn forget_index(connection: &mut SqliteConnection, tenant: &[u8], id: Uuid) -> Result<(), StoreError> {
    for sql in ["DELETE FROM identities WHERE tenant = $1 AND id = $2", "DELETE FROM properties WHERE tenant = $1 AND id = $2"] {
        sqlx::query(sql).bind(tenant).bind(key(id)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Adds objects and what finds them; one whose id exists already is left as it is.
async fn add(connection: &mut SqliteConnection, tenant: &[u8], objects: &[Row]) -> Result<(), StoreError> {
    let mut added = Vec::with_capacity(objects.len());
    for row in objects {
        let sql = "INSERT INTO objects (tenant, id, noun, listing, sort, revision, body) VALUES ($1, $2, $3, $4, $5, 1, $6) \
                   ON CONFLICT (tenant, id) DO NOTHING";
        let object = &row.0;
        let query = sqlx::query(sql).bind(tenant).bind(key(object.id)).bind(&object.noun).bind(&object.listing);
        let query = query.bind(&object.sort).bind(&object.body);
        if query.execute(&mut *connection).await?.rows_affected() == 1 {
            added.push(row);
        }
    }
    write_index(connection, tenant, &added).await
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

/// Adds the rows that find objects, many in one statement. The ones they had before are gone already.
async fn write_index(connection: &mut SqliteConnection, tenant: &[u8], objects: &[&Row]) -> Result<(), StoreError> {
    let identities: BTreeSet<_> = objects.iter().flat_map(|(object, identities, _)| identities.iter().map(|i| (i, object.id))).collect();
    for chunk in identities.iter().collect::<Vec<_>>().chunks(CHUNK) {
        let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO identities (tenant, value, kind, id, exclusive) ");
        insert.push_values(chunk, |mut row, (identity, id)| {
            row.push_bind(tenant.to_vec()).push_bind(identity.value.clone()).push_bind(identity.kind.clone());
            row.push_bind(key(*id)).push_bind(i64::from(identity.exclusive));
        });
        match insert.build().persistent(chunk.len() == CHUNK).execute(&mut *connection).await {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                return Err(taken(connection, tenant, &identities).await?.unwrap_or(sqlx::Error::Database(error).into()));
            }
            other => other?,
        };
    }
    let properties: BTreeSet<_> =
        objects.iter().flat_map(|(object, _, properties)| properties.iter().map(|p| (p, &object.listing, object.id))).collect();
    for chunk in properties.into_iter().collect::<Vec<_>>().chunks(CHUNK) {
        let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO properties (tenant, listing, property, text, number, id) ");
        insert.push_values(chunk, |mut row, (index, listing, id)| {
            let (text, number) = match &index.value {
                IndexValue::Text(text) => (text.clone(), 0),
                IndexValue::Number(number) => (String::new(), *number),
            };
            row.push_bind(tenant.to_vec()).push_bind((*listing).clone()).push_bind(index.property.clone());
            row.push_bind(text).push_bind(number).push_bind(key(*id));
        });
        insert.build().persistent(chunk.len() == CHUNK).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Which of the identities another object holds: one that is stored, or one of the same list.
async fn taken(
    connection: &mut SqliteConnection,
    tenant: &[u8],
    identities: &BTreeSet<(&Identity, Uuid)>,
) -> Result<Option<StoreError>, StoreError> {
    let mut seen = HashMap::new();
    for (identity, own) in identities.iter().filter(|(identity, _)| identity.exclusive) {
        let mut owner = seen.insert((&identity.kind, &identity.value), *own);
        if owner.is_none() {
            let query = sqlx::query(OWNER).bind(tenant).bind(&identity.kind).bind(&identity.value);
            owner = query.fetch_optional(&mut *connection).await?.map(|row| id(&row, "id")).transpose()?;
        }
        if let Some(owner) = owner.filter(|owner| owner != own) {
            return Ok(Some(StoreError::IdentityTaken { kind: identity.kind.clone(), value: identity.value.clone(), owner }));
        }
    }
    Ok(None)
}
