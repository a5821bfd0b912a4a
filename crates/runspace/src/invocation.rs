use std::sync::Arc;
use std::time::Duration;

use exops_audit::IntentId;
use exops_catalogue::BoundPipeline;
use exops_policy::{Caller, Permit};
use exops_psobject::Value;
use uuid::Uuid;

use crate::{Host, StopToken};

/// What to do where a cmdlet would ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Confirm {
    /// Carry out without asking.
    #[default]
    Yes,
    /// Ask over the host.
    Ask,
    /// Do nothing and report the question (REST's validation call).
    ReportOnly,
}

/// One pipeline to run, with everything that belongs to it.
#[derive(Clone)]
pub struct Invocation {
    /// For whom.
    pub caller: Caller,
    /// What.
    pub pipeline: BoundPipeline,
    /// Objects that are piped in.
    pub input: Vec<Value>,
    /// Longest run time; `None` leaves it to the backend.
    pub deadline: Option<Duration>,
    /// Asks it to stop.
    pub stop: StopToken,
    /// The request that caused it, for logs and the audit trail.
    pub correlation_id: Uuid,
    /// The way back for prompts.
    pub host: Option<Arc<dyn Host>>,
    /// What to do where a cmdlet would ask.
    pub confirm: Confirm,
    /// Proof that the command was allowed. A backend with access control refuses an invocation without one.
    pub permit: Option<Permit>,
    /// The durable intent under which it runs: its outcome commits where the change does.
    pub intent: Option<IntentId>,
}

impl Invocation {
    /// An invocation of one pipeline with defaults for the rest: no input, no deadline, no host, no permit, fresh
    /// stop token.
    #[must_use]
    pub fn new(caller: Caller, pipeline: BoundPipeline, correlation_id: Uuid) -> Self {
        Self {
            caller,
            pipeline,
            input: Vec::new(),
            deadline: None,
            stop: StopToken::new(),
            correlation_id,
            host: None,
            confirm: Confirm::default(),
            permit: None,
            intent: None,
        }
    }
}
