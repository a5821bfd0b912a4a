//! Disconnect, Reconnect and Connect: a shell outlives its client.

use exops_wsman::{Action, BufferMode, CommandDescription, CommandState, Fault, Request};

use exops_psrp::Channel;

use super::ServerSession;
use super::check::protocol_fault;
use super::receive::KEPT_TIME;

/// Clients that are remembered for having lost the shell to another one.
const OUSTED: usize = 8;

impl ServerSession {
    /// `true` when the client left without a word: no request of it for a while, and no Receive that waits. It may come back
    /// as if nothing had happened, as long as nobody else connected.
    #[must_use]
    pub fn is_lost(&self, now_ms: u64) -> bool {
        let limit = if self.broken { self.broken_after } else { self.lost_after };
        !self.closed && !self.disconnected && self.held.is_empty() && self.last_activity.saturating_add(limit) <= now_ms
    }

    /// When the client was last heard of.
    #[must_use]
    pub fn last_activity(&self) -> u64 {
        self.last_activity
    }

    /// `true` while nobody is connected and the oldest output may be lost, so that no pipeline has to wait.
    pub(super) fn loses_output(&self) -> bool {
        self.disconnected && self.buffer_mode == BufferMode::Drop
    }

    /// What a shell that nobody is connected to takes: somebody who connects, a question about it, its end.
    pub(super) fn check_connected(&self, request: &Request) -> Result<(), Fault> {
        let ousted = request.session_id.as_deref().is_some_and(|id| self.ousted.iter().any(|old| old.eq_ignore_ascii_case(id)));
        match request.action {
            Action::Connect | Action::Get | Action::Delete => Ok(()),
            _ if ousted => Err(connected_elsewhere()),
            Action::Reconnect | Action::Disconnect => Ok(()),
            _ if self.disconnected => Err(disconnected()),
            _ => Ok(()),
        }
    }

    /// Held Receives end; pipelines go on. The idle time-out counts from now.
    pub(super) fn disconnect(&mut self, idle_timeout: Option<u64>, buffer_mode: Option<BufferMode>) {
        self.disconnected = true;
        if let Some(wanted) = idle_timeout.filter(|t| *t > 0) {
            self.idle_timeout = wanted.min(self.max_idle_timeout);
        }
        self.buffer_mode = buffer_mode.unwrap_or(self.buffer_mode);
        if self.loses_output() {
            self.pool.drop_oldest(self.disconnected_output);
        }
        let stream = Fault::new(Fault::STREAM_DISCONNECTED, "The stream of the command ended because its shell was disconnected.");
        self.end_held(|held| held.channel == Channel::Pool, &disconnected());
        self.end_held(|_| true, &stream);
    }

    /// The client that disconnected comes back: both ends go on in the same numbering.
    pub(super) fn reconnect(&mut self, request: &Request, command_id: Option<&str>) -> Result<(), Fault> {
        if let (Some(own), Some(other)) = (&self.client, &request.session_id)
            && !own.eq_ignore_ascii_case(other)
        {
            let text = "The shell belongs to another client session: connect to it instead of reconnecting.";
            return Err(Fault::new(Fault::CLIENT_SESSION_MISMATCH, text));
        }
        // A command comes back with its shell.
        self.channel(command_id)?;
        self.disconnected = false;
        let expires = self.last_activity.saturating_add(KEPT_TIME);
        self.last.values_mut().filter(|last| last.expires != u64::MAX).for_each(|last| last.expires = expires);
        Ok(())
    }

    /// Another client comes: to the shell with its session data, then to each command that it wants.
    pub(super) fn connect(&mut self, request: &Request, command_id: Option<&str>, data: &[u8], now_ms: u64) -> Result<Vec<u8>, Fault> {
        if command_id.is_some() {
            if self.disconnected {
                return Err(disconnected());
            }
            return self.channel(command_id).map(|_| Vec::new());
        }
        if !self.disconnected && !self.is_lost(now_ms) {
            return Err(connected_elsewhere());
        }
        let answer = self.pool.connect(data).map_err(|e| protocol_fault(&e))?;
        // Nothing that the client before did not get is repeated to this one.
        self.last.clear();
        self.recent.clear();
        self.receives.clear();
        self.disconnected = false;
        (self.last_activity, self.broken) = (now_ms, false);
        let before = std::mem::replace(&mut self.client, request.session_id.clone());
        self.ousted.extend(before);
        self.ousted.retain(|old| !request.session_id.as_deref().is_some_and(|new| old.eq_ignore_ascii_case(new)));
        if self.ousted.len() > OUSTED {
            self.ousted.pop_front();
        }
        Ok(answer)
    }

    /// Answers [`SessionEvent::PublicKey`](super::SessionEvent::PublicKey) with the session's key under the client's, as
    /// base64 of the blob that MS-PSRP 2.2.5.2 describes.
    pub fn answer_key(&mut self, encrypted: &str) {
        self.pool.answer_key(encrypted);
    }

    /// Asks the client for its public key, before a SecureString can be written to it.
    pub fn request_key(&mut self) {
        self.pool.request_key();
    }

    pub(super) fn commands(&self) -> Vec<CommandDescription> {
        let describe = |id: uuid::Uuid| CommandDescription {
            command_id: id.to_string().to_uppercase(),
            state: if self.pool.is_drained(id) { CommandState::Done } else { CommandState::Running },
        };
        let mut commands: Vec<_> = self.pool.pipelines().map(describe).collect();
        commands.sort_by(|a, b| a.command_id.cmp(&b.command_id));
        commands
    }
}

fn disconnected() -> Fault {
    Fault::new(Fault::SHELL_DISCONNECTED, "The shell is disconnected: reconnect or connect to it first.")
}

fn connected_elsewhere() -> Fault {
    Fault::new(
        Fault::CONNECTED_TO_DIFFERENT_CLIENT,
        "Another client is connected to the shell: disconnect there first, or open a new shell.",
    )
}
