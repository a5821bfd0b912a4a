use std::path::{Path, PathBuf};
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
pub(crate) const WRITER_CACHE: u32 = 4096;
const READER_CACHE: u32 = 1024;
/// Page cache of the writing connection of a draft, in KiB.
const DRAFT_CACHE: u32 = 64 * 1024;
/// Bytes of the write-ahead log that stay on the disk after a large write.
const MAX_LOG: u32 = 32 << 20;
/// Rows that a connection reads ahead of whoever takes them.
const ROWS: usize = 500;
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
        Self::connect(path, SqliteJournalMode::Wal, SqliteSynchronous::Full, WRITER_CACHE).await
    }

    /// Opens a new database that becomes the one at `path` with [`Store::publish`] and is nothing until then: what is
    /// written to it is fast and survives no crash. One that was left behind goes.
    ///
    /// # Errors
    /// [`StoreError::Open`]: the file or the disk.
    pub async fn draft(path: &Path) -> Result<Self, StoreError> {
        let draft = draft_of(path);
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::Open { path: draft, reason: error.to_string() });
            }
            _ => {}
        }
        Self::connect(&draft, SqliteJournalMode::Memory, SqliteSynchronous::Off, DRAFT_CACHE).await
    }

    /// Closes the draft for `path`, brings it to the disk and gives it its name.
    ///
    /// # Errors
    /// [`StoreError::Open`]: the file or the disk.
    pub async fn publish(self, path: &Path) -> Result<(), StoreError> {
        self.close().await;
        let draft = draft_of(path);
        let sync = |file: &Path| std::fs::File::open(file).and_then(|file| file.sync_all());
        let published = sync(&draft).and_then(|()| std::fs::rename(&draft, path)).and_then(|()| {
            // A folder is a file that can be synced on Unix alone.
            path.parent().filter(|_| cfg!(unix)).map_or(Ok(()), sync)
        });
        published.map_err(|error| StoreError::Open { path: draft, reason: error.to_string() })
    }

    /// Throws the draft for `path` away.
    pub async fn discard(self, path: &Path) {
        self.close().await;
        let _ = std::fs::remove_file(draft_of(path));
    }

    async fn connect(path: &Path, journal: SqliteJournalMode, synchronous: SqliteSynchronous, cache: u32) -> Result<Self, StoreError> {
        let fail = |reason: String| StoreError::Open { path: path.to_owned(), reason };
        make_private(path).map_err(|e| fail(e.to_string()))?;
        let options = SqliteConnectOptions::new().filename(path).journal_mode(journal).busy_timeout(BUSY).disable_statement_logging();
        let options = options.row_buffer_size(ROWS);
        let writing = options.clone().synchronous(synchronous).pragma("cache_size", format!("-{cache}"));
        let writing = writing.pragma("journal_size_limit", MAX_LOG.to_string());
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

fn draft_of(path: &Path) -> PathBuf {
    path.with_extension("draft")
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
