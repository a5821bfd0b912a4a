//! Any number of objects in one transaction and in flat memory. One thread sorts what finds them and binds the values, while
//! the writer waits for the database.

use std::collections::HashSet;

use sqlx::sqlite::SqliteConnection;
use tokio::sync::mpsc;

use crate::batch::{Batch, FINDERS};
use crate::index::Index;
use crate::objects::Row;
use crate::store::WRITER_CACHE;
use crate::{Refusal, StoreError, TenantStore};

/// Page cache while a stream is written, in KiB.
const STREAM_CACHE: u32 = 64 * 1024;
/// Statements that may wait for the writer.
const WAITING: usize = 16;
/// What an organisation has beside settings and registrations.
const TABLES: [&str; 6] = ["objects", "identities", "properties", "audit_log", "audit_entries", "audit_terms"];

/// What is sent to [`TenantStore::insert_stream`].
#[derive(Debug)]
pub enum Load {
    /// The next objects.
    Rows(Vec<Row>),
    /// That was all: keep them. A sender that goes away without saying this wants nothing to be kept.
    End,
    /// That was all: say what would be refused, and keep nothing. Where nothing would be, the answer is
    /// [`StoreError::GivenUp`].
    Check,
}

/// What the writer is to do next.
enum Work {
    Write(Batch),
    /// That was all; it is to be kept, or only checked.
    End {
        keep: bool,
    },
}

impl TenantStore {
    /// Adds objects as they come, any number of them in flat memory: one transaction, all or none. Other writers wait until
    /// it ends, readers do not. Answers the objects that could not be added, at most `limit`; where there is one, nothing
    /// was kept.
    ///
    /// # Errors
    /// [`StoreError::GivenUp`] when the sender went away before [`Load::End`], or when they could not be written. Then
    /// nothing was kept either.
    pub async fn insert_stream(&self, rows: mpsc::Receiver<Load>, limit: usize) -> Result<Vec<Refusal>, StoreError> {
        self.stream(rows, limit, None).await
    }

    /// Makes the objects that come those of the tenant and sets `mark` (name and value of a setting), as
    /// [`TenantStore::insert_stream`] does: the objects that were there and the whole audit trail go, since no entry may
    /// claim a change that is not there.
    ///
    /// # Errors
    /// [`StoreError::IdentityTaken`], [`StoreError::GivenUp`], or when they could not be written. Then everything is as it
    /// was.
    pub async fn replace_stream(&self, rows: mpsc::Receiver<Load>, mark: (&'static str, Vec<u8>)) -> Result<(), StoreError> {
        let refused = self.stream(rows, 1, Some(mark)).await?;
        refused.into_iter().next().map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    async fn stream(
        &self,
        rows: mpsc::Receiver<Load>,
        limit: usize,
        replace: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Vec<Refusal>, StoreError> {
        let tenant = self.key();
        let (sender, mut work) = mpsc::channel(WAITING);
        let prepared = {
            let tenant = tenant.clone();
            tokio::task::spawn_blocking(move || prepare(rows, &sender, &tenant))
        };
        let written = self
            .store
            .write(move |connection| {
                Box::pin(async move {
                    cache(connection, STREAM_CACHE).await?;
                    let loaded = load(connection, &tenant, &mut work, limit.max(1), replace).await;
                    cache(connection, WRITER_CACHE).await?;
                    sqlx::query("PRAGMA shrink_memory").execute(connection).await?;
                    let refused = loaded?;
                    // An error, so that it is rolled back.
                    if refused.is_empty() { Ok(()) } else { Err(StoreError::Refused(refused)) }
                })
            })
            .await;
        match written {
            Ok(()) => Ok(Vec::new()),
            Err(StoreError::Refused(refused)) => Ok(refused),
            // The sender went away, or what it sent could not be bound.
            Err(StoreError::GivenUp) => {
                prepared.await.map_err(|error| StoreError::NotCommitted(error.to_string()))??;
                Err(StoreError::GivenUp)
            }
            Err(error) => Err(error),
        }
    }
}

/// Makes statements of what comes, until it ends or the writer takes no more.
fn prepare(mut rows: mpsc::Receiver<Load>, work: &mpsc::Sender<Work>, tenant: &[u8]) -> Result<(), StoreError> {
    let (mut index, mut count) = (Index::default(), 0);
    // What finds the objects of the last run goes out between those of the next one, so that nobody waits for it.
    let mut last: Box<dyn Iterator<Item = Result<Batch, StoreError>>> = Box::new(std::iter::empty());
    loop {
        let batch = match rows.blocking_recv() {
            None => return Ok(()),
            Some(Load::Rows(batch)) => batch,
            Some(end) => {
                if send_all(work, last.chain(index.batches(tenant)))? {
                    let _ = work.blocking_send(Work::End { keep: matches!(end, Load::End) });
                }
                return Ok(());
            }
        };
        let (mut objects, before, first) = (Vec::with_capacity(batch.len()), index.len(), count);
        for (object, identities, properties) in batch {
            index.push(count, object.id, &object.listing, identities, properties);
            objects.push(object);
            count += 1;
        }
        let mut going = send_all(work, Batch::objects(tenant, first, objects))?;
        // Twice as many as came: the last run is out before the next one is full.
        going = going && send_all(work, last.by_ref().take(2 * (index.len() - before).div_ceil(FINDERS)))?;
        if going && index.is_full() {
            going = send_all(work, &mut last)?;
            last = Box::new(index.take().batches(tenant));
        }
        if !going {
            return Ok(());
        }
    }
}

/// `false` where the writer takes no more.
fn send_all(work: &mpsc::Sender<Work>, batches: impl Iterator<Item = Result<Batch, StoreError>>) -> Result<bool, StoreError> {
    for batch in batches {
        if work.blocking_send(Work::Write(batch?)).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Does what is prepared to its end, and answers what could not be added.
async fn load(
    connection: &mut SqliteConnection,
    tenant: &[u8],
    work: &mut mpsc::Receiver<Work>,
    limit: usize,
    replace: Option<(&'static str, Vec<u8>)>,
) -> Result<Vec<Refusal>, StoreError> {
    if replace.is_some() {
        empty(connection, tenant).await?;
    }
    let (mut refused, mut keep) = (Vec::new(), true);
    while refused.len() < limit {
        match work.recv().await.ok_or(StoreError::GivenUp)? {
            Work::Write(batch) => refused.extend(batch.write(connection, tenant).await?),
            Work::End { keep: wanted } => {
                keep = wanted;
                break;
            }
        }
    }
    if !keep && refused.is_empty() {
        return Err(StoreError::GivenUp);
    }
    if let Some((name, value)) = replace {
        crate::settings::put(connection, tenant, name, &value).await?;
    }
    // An object whose id is there has nothing else that could be wrong.
    let there: HashSet<u64> = refused.iter().filter(|refusal| refusal.identity.is_none()).map(|refusal| refusal.row).collect();
    refused.retain(|refusal| refusal.identity.is_none() || !there.contains(&refusal.row));
    refused.sort_by_key(|refusal| refusal.row);
    refused.truncate(limit);
    Ok(refused)
}

/// Takes the tenant's rows out. Where no other tenant has any, the table is emptied as a whole, which takes no time.
async fn empty(connection: &mut SqliteConnection, tenant: &[u8]) -> Result<(), StoreError> {
    for table in TABLES {
        let others = format!("SELECT 1 FROM {table} WHERE tenant < $1 UNION ALL SELECT 1 FROM {table} WHERE tenant > $1 LIMIT 1");
        let others = sqlx::query(sqlx::AssertSqlSafe(others)).bind(tenant).fetch_optional(&mut *connection).await?;
        let delete = match others {
            Some(_) => sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM {table} WHERE tenant = $1"))).bind(tenant),
            None => sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM {table}"))),
        };
        delete.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Sets the page cache of the writing connection, in KiB.
async fn cache(connection: &mut SqliteConnection, kibibytes: u32) -> Result<(), StoreError> {
    sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA cache_size = -{kibibytes}"))).execute(connection).await?;
    Ok(())
}
