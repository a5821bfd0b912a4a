//! The key under which SecureStrings travel to one session: exchanged when the first one has to.

use std::time::Duration;

use exops_auth::session_key::{ExchangeKey, SessionKey};
use exops_psobject::{SecureString, Value};
use exops_runspace::{Ended, Fault, FaultKind, Step};

use super::driver::Started;

/// How long the far end may take to answer a public key.
pub(super) const KEY_TIMEOUT: Duration = Duration::from_mins(1);

/// Where the exchange of keys is.
#[derive(Default)]
enum State {
    #[default]
    Unasked,
    Asked(ExchangeKey),
    Known(SessionKey),
    Failed,
}

/// The key of one session and the pipelines that wait for it.
#[derive(Default)]
pub(super) struct Keys {
    state: State,
    waiting: Vec<(Started, u32)>,
}

impl Keys {
    /// Seals every SecureString of a pipeline; `false` while there is no key.
    pub(super) fn seal(&self, started: &mut Started) -> Result<bool, Fault> {
        match &self.state {
            State::Known(_) => {}
            State::Failed => return Err(failed()),
            State::Unasked | State::Asked(_) => return Ok(false),
        }
        let commands = started.request.commands.iter_mut().chain(started.request.more_statements.iter_mut().flatten());
        let arguments = commands.flat_map(|command| &mut command.arguments).filter_map(|argument| argument.value.as_mut());
        for value in arguments.chain(&mut started.input) {
            self.seal_value(value)?;
        }
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

    /// Lets a pipeline wait for the key.
    pub(super) fn wait(&mut self, started: Started, tries: u32) {
        self.waiting.push((started, tries));
    }

    /// The public key to send, where none was sent yet.
    pub(super) fn request(&mut self) -> Result<Option<String>, Fault> {
        if !matches!(self.state, State::Unasked) {
            return Ok(None);
        }
        let own = ExchangeKey::generate().map_err(|_| failed())?;
        let public_key = own.public_key().to_owned();
        self.state = State::Asked(own);
        Ok(Some(public_key))
    }

    /// Takes the far end's answer, or that none came in time; gives the pipelines that can begin now. The others are told.
    pub(super) fn arrived(&mut self, sealed: Option<&str>) -> Vec<(Started, u32)> {
        let State::Asked(own) = &self.state else { return Vec::new() };
        self.state = sealed.and_then(|sealed| own.open(sealed).ok()).map_or(State::Failed, State::Known);
        let waiting = std::mem::take(&mut self.waiting);
        if matches!(self.state, State::Known(_)) {
            return waiting;
        }
        self.waiting = waiting;
        self.abandon();
        Vec::new()
    }

    /// Pipelines wait.
    pub(super) fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Tells those that wait that there will be no key.
    pub(super) fn abandon(&mut self) {
        for (started, _) in self.waiting.drain(..) {
            let _ = started.steps.try_send(Step::Ended(Ended::Unreachable(failed())));
        }
    }
}

fn failed() -> Fault {
    Fault::new(FaultKind::Protocol, "the far end exchanged no key for the SecureString, which was not sent").with_code("KeyExchange")
}
