//! Small values by name.

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use crate::{StoreError, TenantStore};

const GET: &str = "SELECT value FROM settings WHERE tenant = $1 AND name = $2";

/// Statements of reads, for the test of query plans.
pub(crate) const QUERIES: &[(&str, &str)] = &[("setting", GET)];

impl TenantStore {
    /// The value under that name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut connection = self.store.read().await?;
        let row = sqlx::query(GET).bind(self.key()).bind(name).fetch_optional(&mut *connection).await?;
        Ok(row.map(|row| row.try_get("value")).transpose()?)
    }

    /// Puts a value under a name, durably.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn set_setting(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        let (tenant, name, value) = (self.key(), name.to_owned(), value.to_vec());
        self.store.write(move |connection| Box::pin(async move { put(connection, &tenant, &name, &value).await })).await
    }
}

/// Puts a value under a name.
pub(crate) async fn put(connection: &mut SqliteConnection, tenant: &[u8], name: &str, value: &[u8]) -> Result<(), StoreError> {
    let put = "INSERT INTO settings (tenant, name, value) VALUES ($1, $2, $3) \
               ON CONFLICT (tenant, name) DO UPDATE SET value = excluded.value";
    sqlx::query(put).bind(tenant).bind(name).bind(value).execute(connection).await?;
    Ok(())
}
