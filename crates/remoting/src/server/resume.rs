//! Disconnect, Reconnect and Connect: a shell outlives its client.

use exops_wsman::answer::CommandDescription;
use exops_wsman::{Action, BufferMode, Fault, Request};

use exops_psrp::Channel;

use super::ServerSession;
use super::check::protocol_fault;

impl ServerSession {
    /// `true` while nobody is connected and the oldest output may be lost, so that no pipeline has to wait.
    pub(super) fn loses_output(&self) -> bool {
        self.disconnected && self.buffer_mode == BufferMode::Drop
    }

    /// What a shell that nobody is connected to takes: somebody who connects, a question about it, its end.
    pub(super) fn check_connected(&self, request: &Request) -> Result<(), Fault> {
        let taken = matches!(request.action, Action::Reconnect | Action::Connect | Action::Disconnect | Action::Get | Action::Delete);
        if self.disconnected && !taken { Err(disconnected()) } else { Ok(()) }
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
        Ok(())
    }

    /// Another client comes: to the shell with its session data, then to each command that it wants.
    pub(super) fn connect(&mut self, request: &Request, command_id: Option<&str>, data: &[u8]) -> Result<Vec<u8>, Fault> {
        if command_id.is_some() {
            if self.disconnected {
                return Err(disconnected());
            }
            return self.channel(command_id).map(|_| Vec::new());
        }
        if !self.disconnected {
            return Err(Fault::new(
                Fault::CONNECTED_TO_DIFFERENT_CLIENT,
                "Another client is connected to the shell: disconnect there first, or open a new shell.",
            ));
        }
        let answer = self.pool.connect(data).map_err(|e| protocol_fault(&e))?;
        // Nothing that the client before did not get is repeated to this one.
        self.last.clear();
        self.recent.clear();
        self.disconnected = false;
        self.client.clone_from(&request.session_id);
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
            shell_id: self.shell_id.clone(),
            command_id: id.to_string().to_uppercase(),
            connected: !self.disconnected,
        };
        self.pool.pipelines().map(describe).collect()
    }
}

fn disconnected() -> Fault {
    Fault::new(Fault::SHELL_DISCONNECTED, "The shell is disconnected: reconnect or connect to it first.")
}
