//! A session that outlives its client, or whose service moved.

use exops_psrp::ClientPool;
use uuid::Uuid;

use super::{ClientConfig, ClientError, ClientEvent, ClientSession, Kind, Outstanding, Phase, Pipeline};

impl ClientSession {
    /// A session that somebody else opened and disconnected from: [`ClientConfig::pool_id`] is its shell's id. Once it is
    /// open, [`ClientEvent::Pipelines`] tells which pipelines it has; their output comes from the first object on that was
    /// not fetched before.
    #[must_use]
    pub fn attach(config: ClientConfig, ids: Box<dyn FnMut() -> Uuid + Send>) -> Self {
        let compressed = config.compression;
        Self { attaches: true, asks_commands: true, compressed, ..Self::with_pool(config, ids, ClientPool::attach) }
    }

    /// Leaves the session without ending it: the server keeps it, and pipelines go on until what they may keep is full, for
    /// the idle time-out in milliseconds, or the server's own. What was fetched before still comes as events, then
    /// [`ClientEvent::Disconnected`]. `false` where the session is not open.
    pub fn disconnect(&mut self, idle_timeout: Option<u64>) -> bool {
        let may = self.phase == Phase::Open && !self.closing;
        if may {
            self.phase = Phase::Disconnecting;
            (self.disconnect_idle, self.disconnect_sent) = (idle_timeout, false);
        }
        may
    }

    /// Comes back to a session after [`ClientEvent::Disconnected`].
    pub fn reconnect(&mut self) {
        if self.phase == Phase::Disconnected && !self.closing {
            self.phase = Phase::Reconnecting;
        }
    }

    /// Follows a redirect: the session is opened at another address. Only after [`ClientEvent::Redirected`].
    pub fn follow(&mut self, url: String) {
        if self.phase == Phase::Redirected {
            (self.config.url, self.phase) = (url, Phase::New);
        }
    }

    /// Does not follow a redirect: the session is lost.
    pub fn stay(&mut self, location: &str) {
        if self.phase == Phase::Redirected {
            self.broken(ClientError::Redirected { location: location.to_owned() });
        }
    }

    /// Whether an answer to what opens a session leads elsewhere.
    pub(super) fn moved(&mut self, kind: Kind, location: &str) -> bool {
        let opens = matches!(kind, Kind::Create | Kind::Connect) && !self.closing;
        if opens {
            self.phase = Phase::Redirected;
            self.events.push_back(ClientEvent::Redirected { location: location.to_owned() });
        }
        opens
    }

    pub(super) fn created(&mut self) {
        self.phase = Phase::Created;
        self.opening = Vec::new();
    }

    pub(super) fn connected(&mut self) {
        self.created();
        // State and private data follow on the pool's stream.
        self.pool_events();
    }

    /// The pipelines of a session that somebody else opened.
    pub(super) fn commands(&mut self) {
        let found = std::mem::take(&mut self.listed).items;
        let ids: Vec<Uuid> = found.iter().filter_map(|c| c.command_id.as_deref()).filter_map(|id| Uuid::parse_str(id).ok()).collect();
        for id in &ids {
            if self.order.contains_key(id) {
                continue;
            }
            self.pool.adopt(*id);
            self.order.insert(*id, self.next_order);
            self.pipelines.insert(self.next_order, (*id, Pipeline { adopted: true, ..Pipeline::default() }));
            self.next_order += 1;
        }
        self.events.push_back(ClientEvent::Pipelines(ids));
    }

    /// A request was refused because the shell is disconnected. It waits for the reconnect under its own message id: an
    /// answer to it that got lost may still hold output.
    pub(super) fn was_disconnected(&mut self, mut outstanding: Outstanding) {
        let is_receive = matches!(outstanding.kind, Kind::PoolReceive | Kind::Receive(_));
        if self.closing {
            return;
        }
        if self.phase == Phase::Open && outstanding.connection == self.connection {
            if is_receive && outstanding.parked {
                // It is the kept answer of the Receive that ended then: a new one asks for what is there now.
                return;
            }
            self.disconnected();
        }
        outstanding.parked = true;
        self.again.push_back(outstanding);
    }

    pub(super) fn disconnected(&mut self) {
        if matches!(self.phase, Phase::Open | Phase::Disconnecting) {
            (self.phase, self.disconnect_told) = (Phase::Disconnected, false);
        }
    }

    /// The event comes after everything that was under way.
    pub(super) fn tell_disconnected(&mut self) -> Option<ClientEvent> {
        let tells = self.phase == Phase::Disconnected && self.outstanding.is_empty() && !self.disconnect_told;
        self.disconnect_told |= tells;
        tells.then_some(ClientEvent::Disconnected)
    }

    /// The server does not let go: the session goes on as it was.
    pub(super) fn stays(&mut self, error: ClientError) {
        self.phase = Phase::Open;
        self.events.push_back(ClientEvent::StaysConnected(error));
    }

    pub(super) fn reconnected(&mut self) {
        if self.phase == Phase::Reconnecting {
            self.phase = Phase::Open;
            self.connection += 1;
            self.events.push_back(ClientEvent::Reconnected);
        }
    }
}
