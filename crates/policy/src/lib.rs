//! Who calls, what Exchange's role-based access control grants them, and the decision.
//!
//! The model is Exchange's: directory roles of a token lead into role groups, role groups hold role
//! assignments, an assignment grants a role, a role is a set of entries (cmdlet and parameters). [`decide`] is a
//! pure, total function: a [`Permit`] or a denial with the rule that decided.
//!
//! This crate knows neither HTTP nor SQL nor PowerShell syntax: it sees principals, cmdlet names and names of
//! bound parameters.

mod caller;
mod decision;
mod model;

pub use caller::{Application, Caller, DirectoryRole, EXCHANGE_MANAGE_AS_APP, Principal, TenantId};
pub use decision::{Decision, Denial, Digest, Obligations, Permit, Request, decide};
pub use model::{Grant, ModelError, Rights, RoleModel};
