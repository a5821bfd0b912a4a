//! A connection over remote PowerShell as a runspace.

use std::sync::Arc;

use exops_catalogue::Catalogue;
use exops_policy::Caller;
use exops_runspace::{BoxFuture, Ended, Fault, FaultKind, Invocation, RecordStream, Runspace, ended};

use crate::{Http, TokenSource};

/// Runs cmdlets in a remote runspace pool (WS-Management and PSRP). Cheap to clone.
#[derive(Debug, Clone)]
pub struct RemotePowerShellConnection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    _http: Http,
    _tokens: TokenSource,
}

impl RemotePowerShellConnection {
    /// A connection; the pool is opened by the first cmdlet.
    #[must_use]
    pub fn new(http: Http, tokens: TokenSource) -> Self {
        Self(Arc::new(Inner { _http: http, _tokens: tokens }))
    }
}

impl Runspace for RemotePowerShellConnection {
    fn catalogue<'a>(&'a self, _caller: &'a Caller) -> BoxFuture<'a, Result<Arc<Catalogue>, Fault>> {
        Box::pin(async { Ok(Catalogue::built_in()) })
    }

    fn invoke(&self, _invocation: Invocation) -> RecordStream {
        ended(Ended::Unreachable(Fault::new(FaultKind::Internal, "not built yet")))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
