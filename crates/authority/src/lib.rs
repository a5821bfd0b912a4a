//! The Entra-compatible token service and the Graph subset that sets applications up, as routes that a listener mounts.
//!
//! * Discovery, keys and the v1 and v2 token endpoints for client credentials by certificate and by secret.
//! * Graph: applications, service principals, their credentials, app role and directory role assignments.
//!
//! Users, applications, service principals and directory roles are rows of `store` that this crate owns. It knows no
//! cmdlet and listens nowhere.

mod discovery;
mod failure;
mod graph;
mod resource;
mod tenants;
mod token;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::HeaderMap;
use axum::routing::{any, get};
use exops_auth::IdentityError;
use exops_auth::token::{KeySet, SigningKey};
use exops_policy::TenantId;
use exops_store::{Store, StoreError};
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;

pub use resource::{EXCHANGE_APP_ID, EXCHANGE_RESOURCE, GRAPH_APP_ID};
pub use tenants::ensure_tenant;

/// Milliseconds since 1970 UTC.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Largest request body that is read, in bytes: an assertion with a long chain, or a list of certificates.
const MAX_BODY: usize = 256 * 1024;
/// Name of the setting that holds the token signing key (PEM).
const SIGNING_KEY: &str = "authority.signing-key";

/// Generation of the token service's endpoints and documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// A tenant as the token service knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its verified domains; the first is the initial one.
    pub domains: Vec<String>,
}

/// What an authority is made of.
pub struct AuthorityConfig {
    /// Where its rows are.
    pub store: Store,
    /// Keys that sign tokens; the first signs, all are published.
    pub signing_keys: Vec<SigningKey>,
    /// Base URLs without a trailing slash (`https://localhost:8443`), aliases included. A document shows the one by which it
    /// was asked for, else the first.
    pub bases: Vec<String>,
    /// The tenants.
    pub tenants: Vec<Tenant>,
    /// The bearer token that Graph accepts.
    pub bootstrap_token: SecretString,
    /// The time.
    pub clock: Clock,
    /// Refuses assertions that the RFCs do not allow although real libraries write them.
    pub strict: bool,
    /// Marks tokens as a lab's.
    pub lab: bool,
}

/// Why an authority could not be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The signing key.
    #[error("the token signing key: {0}")]
    Key(#[from] IdentityError),
}

/// The token service and its Graph.
pub struct Authority {
    store: Store,
    signing_keys: Vec<SigningKey>,
    keys: Arc<KeySet>,
    bases: Vec<String>,
    tenants: Vec<Tenant>,
    bootstrap_token: SecretString,
    clock: Clock,
    strict: bool,
    lab: bool,
    /// Tokens that were issued since the start.
    issued: AtomicU64,
}

impl Authority {
    /// An authority that is not mounted yet.
    ///
    /// # Errors
    /// A signing key whose public half cannot be published.
    pub fn new(config: AuthorityConfig) -> Result<Arc<Self>, AuthorityError> {
        let keys = Arc::new(KeySet::of(&config.signing_keys)?);
        Ok(Arc::new(Self {
            store: config.store,
            signing_keys: config.signing_keys,
            keys,
            bases: config.bases,
            tenants: config.tenants,
            bootstrap_token: config.bootstrap_token,
            clock: config.clock,
            strict: config.strict,
            lab: config.lab,
            issued: AtomicU64::new(0),
        }))
    }

    /// The keys with which its tokens verify.
    #[must_use]
    pub fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys)
    }

    /// Tokens that were issued since the start.
    #[must_use]
    pub fn tokens_issued(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }

    /// The routes: `/{tenant}/…` of the token service, `/v1.0/…` and `/beta/…` of Graph.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/common/discovery/instance", get(discovery::instance))
            .route("/{tenant}/.well-known/openid-configuration", get(discovery::document_v1))
            .route("/{tenant}/v2.0/.well-known/openid-configuration", get(discovery::document_v2))
            .route("/{tenant}/discovery/keys", get(discovery::keys_v1))
            .route("/{tenant}/discovery/v2.0/keys", get(discovery::keys_v2))
            .route("/{tenant}/oauth2/token", any(token::v1))
            .route("/{tenant}/oauth2/v2.0/token", any(token::v2))
            .route("/v1.0/{*path}", any(graph::handle))
            .route("/beta/{*path}", any(graph::handle))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(self)
    }

    /// A tenant by id or domain, without case.
    fn tenant(&self, id_or_domain: &str) -> Option<&Tenant> {
        let id = uuid::Uuid::try_parse(id_or_domain).ok().map(TenantId);
        self.tenants.iter().find(|t| Some(t.id) == id || t.domains.iter().any(|d| d.eq_ignore_ascii_case(id_or_domain)))
    }

    /// The base URL under which a request came in.
    fn base(&self, headers: &HeaderMap) -> &str {
        let host = headers.get("host").and_then(|h| h.to_str().ok()).unwrap_or_default();
        let named = self.bases.iter().find(|b| b.split_once("://").is_some_and(|(_, place)| place.eq_ignore_ascii_case(host)));
        named.or(self.bases.first()).map_or("", String::as_str)
    }

    fn seconds(&self) -> i64 {
        (self.clock)().div_euclid(1000)
    }
}

/// The token signing key that the store keeps; made and kept where there is none. `now` in Unix seconds.
///
/// # Errors
/// The database, or a kept key that is not readable.
pub async fn signing_key(store: &Store, now: i64) -> Result<SigningKey, AuthorityError> {
    let whole = store.whole();
    if let Some(pem) = whole.setting(SIGNING_KEY).await? {
        return Ok(SigningKey::from_pem(&pem)?);
    }
    let key = SigningKey::generate(now)?;
    whole.set_setting(SIGNING_KEY, key.to_pem().expose_secret().as_bytes()).await?;
    Ok(key)
}
