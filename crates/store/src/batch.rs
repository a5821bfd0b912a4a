//! Many rows in one statement. What binds them can be made on another thread than the one that waits for the database.

use std::collections::{HashMap, HashSet};
use std::iter;
use std::sync::{Arc, LazyLock};

use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments as _, AssertSqlSafe};
use uuid::Uuid;

use crate::StoreError;
use crate::index::{self, Name, Property, Refusal};
use crate::objects::Object;
use crate::store::{id, key};

/// Objects of one statement: their bodies are long.
const OBJECTS: usize = 50;
/// Names or properties of one statement.
pub(crate) const FINDERS: usize = 400;

/// Rows of one table. The tenant, which all share, is bound once; the others are `column1`, `column2` …
struct Table {
    /// Columns to fill, and what each is filled with.
    columns: [&'static str; 2],
    /// Values that are bound for a row.
    width: usize,
    /// What happens to a row whose key is there already.
    conflict: &'static str,
    /// Rows of a whole batch.
    rows: usize,
}

static OBJECT_TABLE: Table = Table {
    columns: ["objects (tenant, id, noun, listing, sort, revision, body)", "column1, column2, column3, column4, 1, column5"],
    width: 5,
    conflict: "ON CONFLICT (tenant, id) DO NOTHING RETURNING id",
    rows: OBJECTS,
};
static NAME_TABLE: Table = Table {
    columns: ["identities (tenant, term, kind, slot, id)", "column1, column2, CASE column3 WHEN 1 THEN x'' ELSE column4 END, column4"],
    width: 4,
    conflict: "ON CONFLICT DO NOTHING",
    rows: FINDERS,
};
static PROPERTY_TABLE: Table = Table {
    columns: ["properties (tenant, field, text, id)", "column1, column2, column3"],
    width: 3,
    conflict: "ON CONFLICT DO NOTHING",
    rows: FINDERS,
};
/// Statements of whole batches: their texts are made once.
static WHOLE: LazyLock<[Arc<str>; 3]> =
    LazyLock::new(|| [&OBJECT_TABLE, &NAME_TABLE, &PROPERTY_TABLE].map(|table| table.sql(table.rows).into()));

impl Table {
    fn sql(&self, rows: usize) -> String {
        let row = format!("({})", vec!["?"; self.width].join(","));
        let ([columns, values], conflict) = (self.columns, self.conflict);
        let rows = vec![row; rows].join(",");
        // Without the condition, ON CONFLICT would be read as the condition of a join.
        format!("INSERT INTO {columns} SELECT ?, {values} FROM (VALUES {rows}) WHERE TRUE {conflict}")
    }
}

/// What the rows of a batch are, as far as it is needed where one is refused.
enum Content {
    /// The number of the first object, and the ids.
    Objects(u64, Vec<Uuid>),
    Names(Vec<Name>),
    Properties(usize),
}

/// One statement with its rows.
pub(crate) struct Batch {
    content: Content,
    arguments: SqliteArguments,
}

impl Batch {
    /// Batches of these objects, which are numbered from `first`.
    pub(crate) fn objects(tenant: &[u8], first: u64, objects: Vec<Object>) -> impl Iterator<Item = Result<Self, StoreError>> {
        let mut first = first;
        chunks(objects, OBJECTS).map(move |chunk| {
            let mut arguments = arguments(tenant, &OBJECT_TABLE, chunk.len())?;
            let mut ids = Vec::with_capacity(chunk.len());
            for object in chunk {
                ids.push(object.id);
                add(&mut arguments, key(object.id))?;
                add(&mut arguments, object.noun)?;
                add(&mut arguments, object.listing)?;
                add(&mut arguments, object.sort)?;
                add(&mut arguments, object.body)?;
            }
            let content = Content::Objects(first, ids);
            first += content.len() as u64;
            Ok(Self { content, arguments })
        })
    }

    pub(crate) fn names(tenant: &[u8], names: Vec<Name>) -> impl Iterator<Item = Result<Self, StoreError>> {
        chunks(names, FINDERS).map(move |chunk| {
            let mut arguments = arguments(tenant, &NAME_TABLE, chunk.len())?;
            for name in &chunk {
                add(&mut arguments, name.term.to_vec())?;
                add(&mut arguments, Arc::clone(&name.identity.kind))?;
                add(&mut arguments, i64::from(name.identity.exclusive))?;
                add(&mut arguments, key(name.id))?;
            }
            Ok(Self { content: Content::Names(chunk), arguments })
        })
    }

    pub(crate) fn properties(tenant: &[u8], properties: Vec<Property>) -> impl Iterator<Item = Result<Self, StoreError>> {
        chunks(properties, FINDERS).map(move |chunk| {
            let content = Content::Properties(chunk.len());
            let mut arguments = arguments(tenant, &PROPERTY_TABLE, chunk.len())?;
            for property in chunk {
                add(&mut arguments, property.field)?;
                add(&mut arguments, property.text)?;
                add(&mut arguments, key(property.id))?;
            }
            Ok(Self { content, arguments })
        })
    }

    /// Writes the rows and answers those that another object's are in the way of.
    pub(crate) async fn write(self, connection: &mut SqliteConnection, tenant: &[u8]) -> Result<Vec<Refusal>, StoreError> {
        let (rows, table) = (self.content.len(), self.content.table());
        let sql = if rows == table.rows { Arc::clone(self.content.whole()) } else { table.sql(rows).into() };
        let query = sqlx::query_with(AssertSqlSafe(sql), self.arguments).persistent(rows == table.rows);
        match self.content {
            Content::Objects(first, ids) => {
                let added = query.fetch_all(connection).await?;
                let mut added = added.iter().map(|row| id(row, "id")).collect::<Result<HashSet<_>, _>>()?;
                // Taken out: of two with one id only the first was added.
                let refused = (first..).zip(ids).filter(|(_, id)| !added.remove(id));
                Ok(refused.map(|(row, owner)| Refusal { row, owner, identity: None }).collect())
            }
            Content::Names(names) => {
                let written = query.execute(&mut *connection).await?.rows_affected();
                if written == names.len() as u64 { Ok(Vec::new()) } else { taken(connection, tenant, &names).await }
            }
            Content::Properties(_) => {
                query.execute(connection).await?;
                Ok(Vec::new())
            }
        }
    }
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Self::Objects(_, ids) => ids.len(),
            Self::Names(names) => names.len(),
            Self::Properties(rows) => *rows,
        }
    }

    fn table(&self) -> &'static Table {
        match self {
            Self::Objects(..) => &OBJECT_TABLE,
            Self::Names(_) => &NAME_TABLE,
            Self::Properties(_) => &PROPERTY_TABLE,
        }
    }

    fn whole(&self) -> &'static Arc<str> {
        let [objects, names, properties] = &*WHOLE;
        match self {
            Self::Objects(..) => objects,
            Self::Names(_) => names,
            Self::Properties(_) => properties,
        }
    }
}

fn chunks<T>(all: Vec<T>, size: usize) -> impl Iterator<Item = Vec<T>> {
    let mut all = all.into_iter();
    iter::from_fn(move || {
        let chunk: Vec<T> = all.by_ref().take(size).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Room for the values of so many rows, with the tenant before them.
fn arguments(tenant: &[u8], table: &Table, rows: usize) -> Result<SqliteArguments, StoreError> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(1 + rows * table.width, 0);
    add(&mut arguments, tenant)?;
    Ok(arguments)
}

fn add<'t, T>(arguments: &mut SqliteArguments, value: T) -> Result<(), StoreError>
where
    T: sqlx::Encode<'t, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    arguments.add(value).map_err(|error| StoreError::Database(sqlx::Error::Encode(error)))
}

/// Which of these names another object holds.
async fn taken(connection: &mut SqliteConnection, tenant: &[u8], names: &[Name]) -> Result<Vec<Refusal>, StoreError> {
    let mut owners = HashMap::new();
    for name in names.iter().filter(|name| name.identity.exclusive) {
        let query = sqlx::query(index::OWNER).bind(tenant).bind(&name.term[..]).bind(&*name.identity.kind).bind(name.slot());
        if let Some(row) = query.fetch_optional(&mut *connection).await? {
            owners.insert((name.term, &name.identity.kind), id(&row, "id")?);
        }
    }
    let refusal = |name: &Name| {
        let owner = *owners.get(&(name.term, &name.identity.kind)).filter(|owner| name.identity.exclusive && **owner != name.id)?;
        Some(Refusal { row: name.row, owner, identity: Some((name.identity.kind.to_string(), name.identity.value.clone())) })
    };
    Ok(names.iter().filter_map(refusal).collect())
}
