//! The seam that every cmdlet passes: a pipeline goes in, records come out.
//!
//! Everything that can run a cmdlet implements [`Runspace`]: the embedded organisation, a connection over REST or
//! over remote PowerShell, a scripted one in tests. Access control, audit, retry and journal wrap one and implement
//! it again. Front ends, the command line and scripts consume it and cannot tell which one they talk to.

mod fault;
mod host;
mod invocation;
mod record;
mod stages;
mod stop;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use exops_catalogue::Catalogue;
use exops_policy::Caller;

pub use fault::{Fault, FaultKind};
pub use host::{Choice, Field, Host, HostError, NO_DEFAULT, Question};
pub use invocation::{Confirm, Invocation};
pub use record::{Ended, Record, RecordStream, Step, ended};
pub use stages::run_local_stages;
pub use stop::StopToken;

/// A boxed future, so that the trait is object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Something that runs pipelines.
pub trait Runspace: Send + Sync {
    /// What this caller may see. Front ends bind against it; `Get-Command`, completion and command metadata come from
    /// it. A connection may have to fetch it.
    ///
    /// # Errors
    /// A [`Fault`] when it cannot be had, or when the caller gets no session at all.
    fn catalogue<'a>(&'a self, caller: &'a Caller) -> BoxFuture<'a, Result<Arc<Catalogue>, Fault>>;

    /// Starts a pipeline. The stream yields records as they arise, then exactly one [`Step::Ended`], then nothing.
    /// Dropping the stream is not a stop: use the invocation's [`StopToken`] and wait for the end.
    fn invoke(&self, invocation: Invocation) -> RecordStream;

    /// Ends sessions and frees what they hold. Further invocations end as [`Ended::Unreachable`].
    fn close(&self) -> BoxFuture<'_, ()>;
}
