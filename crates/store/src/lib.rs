//! SQLite behind named operations.
//!
//! * [`Store::open`] brings the schema up and starts the one writer; [`Store::tenant`] gives the handle on which every
//!   operation lives, so that none exists without a tenant.
//! * Writes are queued: many share one transaction, each in a savepoint of its own, and each is acknowledged after the
//!   commit was synced. What one of them does is all or nothing.
//! * Audit records are chained rows; the outcome of a change commits in the transaction of the change
//!   ([`TenantStore::change_object`]).
//! * Columns are TEXT, BIGINT and BLOB only, and every read has an index.
//!
//! This crate knows no noun, no cmdlet and no HTTP: an object's body is bytes to it.

mod audit;
mod batch;
mod entra;
mod error;
mod index;
pub mod migrations;
mod objects;
mod settings;
mod store;
mod stream;
mod writer;

pub use audit::{AuditCursor, AuditPage, AuditQuery};
pub use entra::{AppRole, AppRoleAssignment, ApplicationRow, Credential, CredentialKind, EntraKey, RoleAssignment, ServicePrincipal};
pub use error::StoreError;
pub use index::{Identity, PropertyIndex, Refusal};
pub use objects::{Change, Fate, Found, Listing, Lookup, Match, Object, Position, Related, Row, Text};
pub use store::{Store, TenantStore};
pub use stream::Load;
