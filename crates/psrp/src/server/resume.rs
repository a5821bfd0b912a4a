//! A pool whose client goes away and comes back, or is followed by another one; and the key that a client asks for.

use exops_psobject::Value;
use uuid::Uuid;

use super::{Inputs, Phase, ServerPool};
use crate::capability::private_data;
use crate::message::TO_CLIENT;
use crate::notes::{Reader, object, text};
use crate::outbox::decode_all;
use crate::{Capability, Channel, Defragmenter, MessageType, Outbox, PoolState, ProtocolError};

impl ServerPool {
    /// Takes a new client. It sends SESSION_CAPABILITY and CONNECT_RUNSPACEPOOL, each in one fragment, and gets the bytes
    /// returned here; the pool's private data and state follow on its channel. All that waits on pipelines' channels starts anew,
    /// in a new numbering: what the client before has read of an unfinished message counts for nothing.
    ///
    /// # Errors
    /// When the pool is not open, the messages are others or for another pool, or they name both numbers of runspaces and both
    /// are wrong. The pool is unchanged then.
    pub fn connect(&mut self, bytes: &[u8]) -> Result<Vec<u8>, ProtocolError> {
        let unexpected = |when| ProtocolError::Unexpected { kind: MessageType::ConnectRunspacePool, when };
        if self.phase != Phase::Open {
            return Err(unexpected("while the pool is not open"));
        }
        let mut objects = Vec::new();
        let mut defragmenter = Defragmenter::new(self.config.fragments);
        defragmenter.push(bytes, &mut objects)?;
        let whole: usize = objects.iter().map(|o| o.len() + crate::fragment::HEADER).sum();
        let messages = decode_all(objects).collect::<Result<Vec<_>, _>>()?;
        let [capability, connect] = messages.as_slice() else {
            return Err(unexpected("unless it follows SESSION_CAPABILITY, and nothing follows it"));
        };
        if capability.kind != MessageType::SessionCapability || connect.kind != MessageType::ConnectRunspacePool || whole != bytes.len() {
            return Err(unexpected("unless it follows SESSION_CAPABILITY, each in one fragment"));
        }
        if let Some(wrong) = [capability, connect].into_iter().find(|m| m.pool_id != self.id || m.destination == TO_CLIENT) {
            return Err(ProtocolError::WrongTarget { kind: wrong.kind, found: wrong.pool_id, expected: self.id });
        }
        Capability::from_value(&self.value(capability)?)?.check()?;
        // A client without a wish sends an empty string.
        let wish = self.value(connect)?;
        if let Ok(reader) = Reader::new(connect.kind, &wish) {
            let differs = |name, own| reader.number(name).is_ok_and(|n| n != own);
            if differs("MinRunspaces", self.asked.0) && differs("MaxRunspaces", self.asked.1) {
                return Err(reader.lacks("MinRunspaces"));
            }
        }
        self.input = Inputs::default();
        self.outbox = Outbox::default();
        self.key_asked = false;
        self.next_object = 1;
        self.push_pool(MessageType::SessionCapability, &Capability::own().to_value());
        let numbers = object([("MinRunspaces", number(self.asked.0)), ("MaxRunspaces", number(self.asked.1))]);
        self.push_pool(MessageType::RunspacePoolInitData, &numbers);
        let answer = self.take(Channel::Pool, usize::MAX);
        let data = private_data(&self.config.ps_version, self.id);
        self.push_pool(MessageType::ApplicationPrivateData, &data);
        self.push_pool(MessageType::RunspacePoolState, &PoolState::Opened.to_value(None));
        for (id, pipeline) in &mut self.pipelines {
            pipeline.input = Inputs::default();
            // What the client before was asked and did not answer, this one is asked.
            let moved = pipeline.outbox.renumber(&mut self.next_object);
            for (object, call) in pipeline.calls.values_mut() {
                if let Some(new) = moved.get(object) {
                    *object = *new;
                    continue;
                }
                *object = self.next_object;
                pipeline.outbox.push(*object, TO_CLIENT, MessageType::PipelineHostCall, self.id, *id, &call.to_value());
                self.next_object += 1;
            }
        }
        for (object, call) in self.calls.values_mut() {
            *object = self.next_object;
            self.outbox.push(*object, TO_CLIENT, MessageType::RunspacePoolHostCall, self.id, Uuid::nil(), &call.to_value());
            self.next_object += 1;
        }
        Ok(answer)
    }

    /// Loses the oldest output of each pipeline above `limit` bytes; how a pipeline ended stays.
    pub fn drop_oldest(&mut self, limit: usize) {
        self.pipelines.values_mut().for_each(|pipeline| pipeline.outbox.drop_oldest(limit));
    }

    /// Pipelines that a client can connect to.
    pub fn pipelines(&self) -> impl Iterator<Item = Uuid> {
        self.pipelines.keys().copied()
    }

    /// PUBLIC_KEY: once for each client (case C-09).
    pub(super) fn public_key(&mut self, key: String) -> Result<(), ProtocolError> {
        if self.key_asked {
            return Err(ProtocolError::Unexpected { kind: MessageType::PublicKey, when: "a second time" });
        }
        self.key_asked = true;
        self.events.push_back(super::ServerPoolEvent::PublicKey { key });
        Ok(())
    }

    /// Answers a public key: the session's key under it, as base64.
    pub fn answer_key(&mut self, encrypted: &str) {
        self.push_pool(MessageType::EncryptedSessionKey, &object([("EncryptedSessionKey", text(encrypted))]));
    }

    /// Asks the client for its public key, before a SecureString can be written to it.
    pub fn request_key(&mut self) {
        if !self.key_asked {
            self.push_pool(MessageType::PublicKeyRequest, &text(""));
        }
    }
}

fn number(value: i64) -> Value {
    Value::I32(i32::try_from(value).unwrap_or(i32::MAX))
}
