//! To come.
use exops_store::{StoreError, TenantStore};
/// To come.
///
/// # Errors
/// To come.
pub async fn seed_standard(_store: &TenantStore, _organization: &str) -> Result<(), StoreError> {
    Ok(())
}
