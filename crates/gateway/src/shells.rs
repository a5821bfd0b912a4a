//! Open shells and the pipelines that run in them.
//!
//! A shell belongs to one principal of one tenant, never to a connection or one token. Its protocol machine stands
//! behind a lock that is held for computing only; each pipeline has a task that pulls records from the session layer
//! and stops pulling while enough bytes wait for the client.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use exops_catalogue::{Argument, Catalogue, Command, Pipeline};
use exops_policy::Caller;
use exops_psobject::{ErrorCategory, ErrorRecord, Value};
use exops_psrp::{CommandDescription, CommandKind, MetadataRequest, Output, ParameterDescription, PipelineEnd, PipelineRequest, count_object, error_to_value};
use exops_remoting::server::{Handled, HttpAnswer, ServerConfig, ServerSession, SessionEvent, Ticket};
use exops_runspace::{Confirm, Ended, Fault, Record, Step, StopToken};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::session::{Call, SessionLayer, internal_error};

/// Shells of one principal; a Create above it gets the quota fault.
const SHELLS_PER_CALLER: usize = 20;
/// Bytes of one pipeline that may wait for its client before its task stops pulling records.
const BUFFER: usize = 512 << 10;
/// Records that are written before waiting answers are looked at.
const BATCH: usize = 64;
/// Objects piped into one pipeline.
const INPUT: usize = 100_000;
/// How long running pipelines get to end when the gateway closes.
const CLOSE: Duration = Duration::from_secs(5);

/// Tenant and object id.
type Owner = (Uuid, Uuid);

fn owner(caller: &Caller) -> Owner {
    (caller.tenant.0, caller.principal.object_id())
}

/// One open shell.
pub(crate) struct Shell {
    id: String,
    owner: Owner,
    state: Mutex<State>,
    /// Told whenever bytes went out.
    drained: Notify,
}

struct State {
    session: ServerSession,
    /// As the latest request brought it: a role that was taken away counts from the next command on.
    caller: Caller,
    waiting: HashMap<Ticket, oneshot::Sender<HttpAnswer>>,
    /// Pipelines whose input is still coming.
    collecting: HashMap<Uuid, Collecting>,
    running: HashMap<Uuid, Running>,
    closed: bool,
}

struct Collecting {
    request: PipelineRequest,
    input: Vec<Value>,
}

struct Running {
    stop: StopToken,
    task: JoinHandle<()>,
}

impl Shell {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All shells.
pub(crate) struct Shells {
    layer: Arc<SessionLayer>,
    shells: Mutex<HashMap<String, Arc<Shell>>>,
    started: Instant,
}

impl Shells {
    pub(crate) fn new(layer: Arc<SessionLayer>) -> Self {
        Self { layer, shells: Mutex::default(), started: Instant::now() }
    }

    /// Milliseconds of a clock that never jumps.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Shell>>> {
        self.shells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_rights(&self, caller: &Caller) -> bool {
        !self.layer.rights(caller).is_empty()
    }

    /// The caller's shell of that id. Another principal's is as if it were not there.
    pub(crate) fn find(&self, id: &str, caller: &Caller) -> Option<Arc<Shell>> {
        self.lock().get(&id.to_ascii_uppercase()).filter(|s| s.owner == owner(caller)).cloned()
    }
}
