//! Group commit: one task owns the one writing connection, and operations that arrive while a commit is synced to
//! disk share the next one.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Executor as _};
use tokio::sync::{mpsc, oneshot};

use crate::StoreError;

/// Operations that may share one commit: bounds how long the first of them waits.
const GROUP: usize = 128;
/// Operations that may wait before senders wait too.
const QUEUE: usize = 1024;

/// Tells the caller of an operation how the commit went.
type Settle = Box<dyn FnOnce(Result<(), String>) + Send>;
/// An operation. It answers `None` when it failed and has told its caller so itself.
type Job = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Option<Settle>> + Send>;

/// The way to the writer. The task ends, after everything that was queued, when the last clone is gone.
#[derive(Clone)]
pub(crate) struct Writer(mpsc::Sender<Job>);

impl Writer {
    /// Starts the writer task on its connection. The second half ends when the connection is closed.
    pub(crate) fn start(connection: SqliteConnection) -> (Self, tokio::task::JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), tokio::spawn(run(connection, receiver)))
    }

    /// Runs an operation in a savepoint of the next transaction and answers after its commit was synced.
    pub(crate) async fn write<T, F>(&self, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    {
        let (answer, receiver) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            Box::pin(async move {
                match operation(connection).await {
                    Ok(value) => {
                        let settle: Settle = Box::new(move |commit| {
                            let _ = answer.send(commit.map(|()| value).map_err(StoreError::NotCommitted));
                        });
                        Some(settle)
                    }
                    Err(error) => {
                        let _ = answer.send(Err(error));
                        None
                    }
                }
            })
        });
        self.0.send(job).await.map_err(|_| StoreError::Closed)?;
        // Not answered: the transaction did not begin, or the operation panicked. The log has the reason.
        receiver.await.map_err(|_| StoreError::NotCommitted("it was given up before the commit; see the log".to_owned()))?
    }
}

async fn run(mut connection: SqliteConnection, mut jobs: mpsc::Receiver<Job>) {
    let mut group = Vec::with_capacity(GROUP);
    while jobs.recv_many(&mut group, GROUP).await > 0 {
        let mut settles = Vec::with_capacity(group.len());
        let result = commit_group(&mut connection, &mut group, &mut settles).await;
        if let Err(error) = &result {
            tracing::error!(%error, operations = settles.len(), "a group of changes was not committed");
            let _ = connection.execute("ROLLBACK").await;
        }
        let result = result.map_err(|error| error.to_string());
        for settle in settles {
            settle(result.clone());
        }
        group.clear();
    }
    let _ = connection.close().await;
}

async fn commit_group(connection: &mut SqliteConnection, group: &mut Vec<Job>, settles: &mut Vec<Settle>) -> Result<(), sqlx::Error> {
    connection.execute("BEGIN IMMEDIATE").await?;
    for job in group.drain(..) {
        connection.execute("SAVEPOINT operation").await?;
        // A panic in one operation must not take the writer, and with it every other caller, down.
        match AssertUnwindSafe(job(connection)).catch_unwind().await {
            Ok(Some(settle)) => settles.push(settle),
            Ok(None) => {
                connection.execute("ROLLBACK TO operation").await?;
            }
            Err(_) => {
                tracing::error!("a change panicked and was rolled back");
                connection.execute("ROLLBACK TO operation").await?;
            }
        }
        // Where the database gave up the whole transaction by itself (disk full), the savepoint is gone and this
        // fails: then nothing of the group is acknowledged.
        connection.execute("RELEASE operation").await?;
    }
    connection.execute("COMMIT").await?;
    Ok(())
}
