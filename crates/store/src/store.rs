use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use exops_policy::TenantId;
use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Row as _, Sqlite};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::StoreError;
use crate::migrations::migrator;
use crate::writer::Writer;

/// Reading connections. Each holds a small page cache: a lab lives beside other programs on a small machine.
const READERS: u32 = 4;
/// Page cache of the writing connection and of each reading one, in KiB.
const WRITER_CACHE: u32 = 4096;
const READER_CACHE: u32 = 1024;
/// How long a connection waits for another process's lock. Within one process only one connection writes.
const BUSY: Duration = Duration::from_secs(5);

/// The database: one file, one writing connection with group commit, a few reading ones. Clones share it.
///
/// It has no operations on rows of its own: take a handle that is bound to a tenant with [`Store::tenant`].
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    writer: Mutex<Option<Writer>>,
    task: Mutex<Option<JoinHandle<()>>>,
    readers: SqlitePool,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Opens or makes the database file (readable for its owner only) and brings it to this version's schema.
    ///
    /// # Errors
    /// [`StoreError::Open`]: the file, the disk, a newer or edited schema.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let fail = |reason: String| StoreError::Open { path: path.to_owned(), reason };
        make_private(path).map_err(|e| fail(e.to_string()))?;
        let options =
            SqliteConnectOptions::new().filename(path).journal_mode(SqliteJournalMode::Wal).busy_timeout(BUSY).disable_statement_logging();
        let writing = options.clone().synchronous(SqliteSynchronous::Full).pragma("cache_size", format!("-{WRITER_CACHE}"));
        let mut connection = writing.connect().await.map_err(|e| fail(e.to_string()))?;
        migrator().run(&mut connection).await.map_err(|e| fail(e.to_string()))?;
        let reading =
            options.synchronous(SqliteSynchronous::Normal).pragma("cache_size", format!("-{READER_CACHE}")).pragma("query_only", "ON");
        let readers = SqlitePoolOptions::new().max_connections(READERS).connect_lazy_with(reading);
        let (writer, task) = Writer::start(connection);
        Ok(Self(Arc::new(Inner { writer: Mutex::new(Some(writer)), task: Mutex::new(Some(task)), readers })))
    }

    /// A handle whose operations see and change rows of that tenant only.
    #[must_use]
    pub fn tenant(&self, tenant: TenantId) -> TenantStore {
        TenantStore { store: self.clone(), tenant }
    }

    /// A handle for what belongs to no tenant: the lab's own keys and marks.
    #[must_use]
    pub fn whole(&self) -> TenantStore {
        self.tenant(TenantId(Uuid::nil()))
    }

    /// Commits what is queued and closes all connections. Later operations fail with [`StoreError::Closed`].
    pub async fn close(&self) {
        drop(self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take());
        let task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await;
        }
        self.0.readers.close().await;
    }

    /// Runs an operation in a savepoint of the next transaction; answers once its commit is on the disk. The operation
    /// may wait for the database and for nothing else.
    pub(crate) async fn write<T, F>(&self, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    {
        let writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        writer.ok_or(StoreError::Closed)?.write(operation).await
    }

    /// A reading connection, for one query or page: never held while a consumer is waited for.
    pub(crate) async fn read(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        match self.0.readers.acquire().await {
            Err(sqlx::Error::PoolClosed) => Err(StoreError::Closed),
            other => Ok(other?),
        }
    }

    /// The plan of every statement that a query makes, by the statement's name: for tests that keep each of them on
    /// an index.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn query_plans(&self) -> Result<Vec<(&'static str, Vec<String>)>, StoreError> {
        let mut plans = Vec::new();
        let mut connection = self.read().await?;
        for (name, statement) in
            crate::objects::QUERIES.iter().chain(crate::audit::QUERIES).chain(crate::settings::QUERIES).chain(crate::entra::QUERIES)
        {
            let explain = format!("EXPLAIN QUERY PLAN {statement}");
            let rows = sqlx::query(sqlx::AssertSqlSafe(explain)).fetch_all(&mut *connection).await?;
            plans.push((*name, rows.iter().map(|row| row.try_get("detail")).collect::<Result<_, _>>()?));
        }
        Ok(plans)
    }
}

/// The store as one tenant sees it. Every operation carries the tenant in its keys.
#[derive(Debug, Clone)]
pub struct TenantStore {
    pub(crate) store: Store,
    pub(crate) tenant: TenantId,
}

impl TenantStore {
    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The tenant as it stands in key columns.
    pub(crate) fn key(&self) -> Vec<u8> {
        key(self.tenant.0)
    }
}

/// An id as it stands in a column.
pub(crate) fn key(id: Uuid) -> Vec<u8> {
    id.as_bytes().to_vec()
}

/// Reads an id column.
pub(crate) fn id(row: &SqliteRow, column: &str) -> Result<Uuid, StoreError> {
    let bytes: &[u8] = row.try_get(column)?;
    Uuid::from_slice(bytes).map_err(|e| StoreError::corrupt("id", e))
}

/// The file holds keys: it is made before SQLite makes it, so that it never exists with wider permissions. SQLite
/// gives its side files the same ones.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}
