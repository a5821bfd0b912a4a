//! The key under which SecureStrings travel in one session: exchanged when the first one has to.

use exops_auth::session_key::{ExchangeKey, SessionKey};
use exops_psobject::{SecureString, Value};
use exops_psrp::{HostCall, HostQuestion};
use exops_runspace::{Ended, Fault, FaultKind, Step};
use uuid::Uuid;

use super::driver::Started;

/// Where the exchange of keys is.
#[derive(Default)]
enum State {
    #[default]
    Unasked,
    Asked(ExchangeKey),
    Known(SessionKey),
    Failed,
}

/// What goes on when the exchange is over, whatever came of it.
pub(super) enum Waiting {
    /// A pipeline with secrets among its arguments, and its number of tries.
    Pipeline(Box<Started>, u32),
    /// A question whose answer is a secret: nobody is asked for one in vain.
    Question(Option<Uuid>, HostCall, HostQuestion),
    /// Output of a pipeline with secrets in it.
    Output(Uuid),
}

/// The key of one session and what waits for it.
#[derive(Default)]
pub(super) struct Keys {
    state: State,
    waiting: Vec<Waiting>,
}

impl Keys {
    /// The exchange is over, with or without a key.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.state, State::Known(_) | State::Failed)
    }

    /// There will be no key.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.state, State::Failed)
    }

    /// Seals every SecureString of a pipeline; `false` while there is no key.
    pub(super) fn seal(&self, started: &mut Started) -> Result<bool, Fault> {
        if !self.is_settled() {
            return Ok(false);
        }
        started.values_mut().try_for_each(|value| self.seal_value(value))?;
        Ok(true)
    }

    /// Seals every SecureString of one value.
    pub(super) fn seal_value(&self, value: &mut Value) -> Result<(), Fault> {
        let State::Known(key) = &self.state else { return Err(failed()) };
        let seal = |secret: &SecureString| match secret.secret() {
            Some(clear) => key.encrypt(clear).map(SecureString::sealed),
            None => Ok(secret.clone()),
        };
        value.replace_secrets(&seal).map_err(|_| failed())
    }

    /// Opens every SecureString of one value; `false` where one stays sealed.
    pub(super) fn open_value(&self, value: &mut Value) -> bool {
        let State::Known(key) = &self.state else { return false };
        let open = |secret: &SecureString| match secret.ciphertext() {
            Some(sealed) => key.decrypt(sealed).map(SecureString::clear),
            None => Ok(secret.clone()),
        };
        value.replace_secrets(&open).is_ok()
    }

    /// Lets something wait for the key.
    pub(super) fn wait(&mut self, waiting: Waiting) {
        self.waiting.push(waiting);
    }

    /// The public key to send, where none was sent yet.
    pub(super) fn request(&mut self) -> Option<String> {
        if !matches!(self.state, State::Unasked) {
            return None;
        }
        let Ok(own) = ExchangeKey::generate() else {
            self.state = State::Failed;
            return None;
        };
        let public_key = own.public_key().to_owned();
        self.state = State::Asked(own);
        Some(public_key)
    }

    /// Takes the far end's answer, or that none came in time; gives what waited.
    pub(super) fn arrived(&mut self, sealed: Option<&str>) -> Vec<Waiting> {
        if let State::Asked(own) = &self.state {
            self.state = sealed.and_then(|sealed| own.open(sealed).ok()).map_or(State::Failed, State::Known);
        }
        if self.is_settled() { std::mem::take(&mut self.waiting) } else { Vec::new() }
    }

    /// Something waits.
    pub(super) fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Tells pipelines that wait that there will be no key.
    pub(super) fn abandon(&mut self) {
        for waiting in self.waiting.drain(..) {
            if let Waiting::Pipeline(started, _) = waiting {
                let _ = started.steps.try_send(Step::Ended(Ended::Unreachable(failed())));
            }
        }
    }
}

fn failed() -> Fault {
    Fault::new(FaultKind::Protocol, "the far end exchanged no key for the SecureString, which was not sent").with_code("KeyExchange")
}
