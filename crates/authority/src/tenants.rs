use exops_store::{EntraKey, StoreError, TenantStore};

use crate::resource;

/// Makes what every tenant has from its first day: the service principals of Exchange Online and Graph. Does nothing where
/// they are there.
///
/// # Errors
/// When the database refuses.
pub async fn ensure_tenant(store: &TenantStore) -> Result<(), StoreError> {
    for principal in resource::principals(store.tenant().0) {
        if store.service_principal(EntraKey::Client(principal.app_id)).await?.is_none() {
            store.add_service_principal(&principal).await?;
        }
    }
    Ok(())
}
