//! What one caller of remote PowerShell may use at once, so that it takes nothing from the others (case R-03).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exops_remoting::wsman::Fault;

use crate::shells::Owner;

/// Bounds of what one caller may use. Above one, its requests get the fault that Windows gives, and nobody else notices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotas {
    /// Open shells. One that its client left without a word makes room for a new one.
    pub shells: usize,
    /// Requests that are not answered yet, Receives that wait included.
    pub operations: usize,
    /// Commands of one shell: running, waiting, or not yet read to their end.
    pub commands: usize,
    /// Commands of one shell that run at the same time, where its client asks for more than one.
    pub runspaces: usize,
    /// Requests within [`per`](Self::per), after a pause in one burst.
    pub requests: u32,
    /// Whole seconds in which that many requests are let through.
    pub per: Duration,
    /// Connections of one address; more are closed at once.
    pub connections: usize,
    /// A peer that takes nothing of an answer for so long is cut off. The system tells of progress in steps of some hundred KiB, and
    /// no client waits longer than minutes for an answer.
    pub stalled_after: Duration,
    /// After the connection of a shell's last Receive broke, its client is gone when it does not come back within this time.
    pub broken_after: Duration,
    /// The body of a request must have come within this time, and a second more for each 64 KiB of it.
    pub body_within: Duration,
    /// Bytes of messages that were begun and not ended, of all shells together. The shell that goes beyond is closed (case C-01).
    pub unfinished: usize,
    /// How long a client gets to send its key once a SecureString is to travel; a client that listens needs one round trip.
    pub key_after: Duration,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            shells: 20,
            operations: 1_500,
            commands: 64,
            runspaces: 5,
            requests: 5_000,
            per: Duration::from_secs(10),
            connections: 2_048,
            stalled_after: Duration::from_secs(300),
            broken_after: Duration::from_secs(10),
            body_within: Duration::from_secs(60),
            unfinished: 256 << 20,
            key_after: Duration::from_secs(10),
        }
    }
}

impl Quotas {
    /// The fault for a Create above the number of shells.
    pub(crate) fn too_many_shells(&self) -> Fault {
        let text = format!(
            "The WS-Management service cannot process the request. This user is allowed a maximum number of {} concurrent shells, which \
             has been exceeded. Close existing shells or raise the quota for this user.",
            self.shells
        );
        Fault::new(Fault::QUOTA_SHELLS, text)
    }

    /// The fault for a request that left more unfinished than there is room for.
    pub(crate) fn too_much_unfinished(&self) -> Fault {
        let text = format!(
            "The service holds more than {} bytes of messages that were begun and not ended. The shell was closed: open another one, and send \
             each message to its end.",
            self.unfinished
        );
        Fault::new(Fault::QUOTA_USER, text)
    }

    fn too_many_operations(&self) -> Fault {
        let text = format!(
            "The WS-Management service cannot process the request. This user is allowed a maximum number of {} concurrent operations, \
             which has been exceeded. Close existing operations for this user, or raise the quota for this user.",
            self.operations
        );
        Fault::new(Fault::QUOTA_OPERATIONS, text)
    }

    fn too_fast(&self, wait: u64) -> Fault {
        let text = format!(
            "The WS-Management service cannot process the request. The user load quota of {} requests per {} seconds has been exceeded. \
             Send future requests at a slower rate or raise the quota for this user. The next request from this user will not be \
             approved for at least {wait} milliseconds.",
            self.requests,
            self.per.as_secs().max(1)
        );
        Fault::new(Fault::QUOTA_USER, text)
    }
}

#[derive(Default)]
struct Meter {
    /// Microseconds at which all requests so far would have been due at the steady rate.
    due: u64,
    operations: usize,
}

/// What each caller uses now.
pub(crate) struct Meters {
    pub(crate) quotas: Quotas,
    meters: Mutex<HashMap<Owner, Meter>>,
    /// Bytes of unfinished messages of all shells.
    pub(crate) unfinished: Arc<AtomicUsize>,
}

/// What one shell adds to the bytes of unfinished messages; nothing any more once it is dropped.
pub(crate) struct Unfinished {
    of_all: Arc<AtomicUsize>,
    own: usize,
}

impl Unfinished {
    pub(crate) fn new(of_all: &Arc<AtomicUsize>) -> Self {
        Self { of_all: Arc::clone(of_all), own: 0 }
    }

    /// Takes note of what the shell holds now; gives the bytes of all, where it has grown.
    pub(crate) fn grown(&mut self, now: usize) -> Option<usize> {
        let before = std::mem::replace(&mut self.own, now);
        let of_all = self.of_all.fetch_add(now, Ordering::Relaxed).saturating_add(now);
        self.of_all.fetch_sub(before, Ordering::Relaxed);
        (now > before).then(|| of_all.saturating_sub(before))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.grown(0);
    }
}

/// A request of a caller that is being served; it counts until it is dropped.
pub(crate) struct Operation {
    meters: Arc<Meters>,
    owner: Owner,
}

impl Meters {
    pub(crate) fn new(quotas: Quotas) -> Self {
        Self { quotas, meters: Mutex::default(), unfinished: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Owner, Meter>> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that came at `now`, in milliseconds of a clock that never jumps.
    ///
    /// # Errors
    /// The fault of the quota that it is above. Such a request counts for nothing.
    pub(crate) fn begin(self: &Arc<Self>, owner: Owner, now: u64) -> Result<Operation, Fault> {
        let window = u64::try_from(self.quotas.per.as_micros()).unwrap_or(u64::MAX / 4).clamp(1_000_000, u64::MAX / 4);
        let each = window / u64::from(self.quotas.requests.max(1));
        let now = now.saturating_mul(1_000);
        let mut meters = self.lock();
        let meter = meters.entry(owner).or_default();
        let due = meter.due.max(now).saturating_add(each);
        if let Some(early) = due.checked_sub(now.saturating_add(window)).filter(|early| *early > 0) {
            return Err(self.quotas.too_fast(early.div_ceil(1_000)));
        }
        if meter.operations >= self.quotas.operations {
            return Err(self.quotas.too_many_operations());
        }
        (meter.due, meter.operations) = (due, meter.operations + 1);
        drop(meters);
        Ok(Operation { meters: Arc::clone(self), owner })
    }

    /// Forgets callers who use nothing.
    pub(crate) fn reap(&self, now: u64) {
        self.lock().retain(|_, meter| meter.operations > 0 || meter.due > now.saturating_mul(1_000));
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Some(meter) = self.meters.lock().get_mut(&self.owner) {
            meter.operations = meter.operations.saturating_sub(1);
        }
    }
}
