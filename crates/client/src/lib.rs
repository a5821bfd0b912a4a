//! The client side of an Exchange organisation: tokens, set-up calls, and connections that are runspaces.
//!
//! * [`Endpoint`]: where an organisation is; [`Http`]: one connection pool with that endpoint's trust.
//! * [`TokenSource`]: tokens for an application by certificate or secret, cached and renewed.
//! * [`RestConnection`] and [`RemotePowerShellConnection`] implement [`exops_runspace::Runspace`].
//! * [`GraphSetup`]: applications, service principals and role assignments through Graph.
//!
//! Tokens leave toward the endpoint's hosts only: links are checked, redirects are not followed but for those of a remote
//! PowerShell session that stay on the host or in the cloud. A lab's tokens and
//! answers carry a mark; a connection refuses what does not fit its endpoint.

mod arguments;
mod credential;
mod diagnosis;
mod endpoint;
mod graph;
mod http;
mod raw;
mod remote_powershell;
mod rest;
mod token;

pub use ::http::Method;
pub use credential::{CERTIFICATE_EXPIRED, CERTIFICATE_NOT_YET_VALID, Credential};
pub use endpoint::{EXCHANGE_RESOURCE, Endpoint, GRAPH_RESOURCE};
pub use graph::{GraphSetup, NewApplication, RegisteredApplication, RegisteredCertificate};
pub use http::{Http, LAB_MARK};
pub use raw::{RawCall, RawFailure};
pub use remote_powershell::{AttachedPipeline, RemotePowerShellConnection, RemoteSession, SessionOptions};
pub use rest::RestConnection;
pub use token::{Token, TokenClaims, TokenSource};
