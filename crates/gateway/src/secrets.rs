//! The SecureStrings of one shell: its key, and how values that hold some are opened and sealed.

use exops_auth::session_key::{SessionKey, SessionKeyError};
use exops_psobject::{ErrorCategory, ErrorRecord, SecureString, Value};
use exops_psrp::PipelineRequest;

/// A shell's key, made when its client asks for one. A client that connects later gets the same one.
#[derive(Default)]
pub(crate) struct Secrets(Option<SessionKey>);

impl Secrets {
    /// What answers a client's public key.
    pub(crate) fn answer(&mut self, public_key: &str) -> Result<String, SessionKeyError> {
        let key = match self.0.take() {
            Some(key) => key,
            None => SessionKey::generate()?,
        };
        self.0.insert(key).seal(public_key)
    }

    /// A client has the key.
    pub(crate) fn are_shared(&self) -> bool {
        self.0.is_some()
    }

    /// Opens every SecureString among the arguments of a request.
    pub(crate) fn open_request(&self, request: &mut PipelineRequest) -> Result<(), Box<ErrorRecord>> {
        let commands = request.commands.iter_mut().chain(request.more_statements.iter_mut().flatten());
        commands
            .flat_map(|command| &mut command.arguments)
            .filter_map(|argument| argument.value.as_mut())
            .try_for_each(|value| self.open(value))
    }

    /// Opens the SecureStrings that a value holds.
    pub(crate) fn open(&self, value: &mut Value) -> Result<(), Box<ErrorRecord>> {
        let open = |secret: &SecureString| match secret.ciphertext() {
            Some(ciphertext) => Ok::<_, SessionKeyError>(SecureString::clear(self.key()?.decrypt(ciphertext)?)),
            None => Ok(secret.clone()),
        };
        value.replace_secrets(&open).map_err(|error| unusable("SecureStringNotReadable", error.to_string()))
    }

    /// Seals the SecureStrings that a value holds, for the client that has the key.
    pub(crate) fn seal(&self, value: &mut Value) -> Result<(), Box<ErrorRecord>> {
        let seal = |secret: &SecureString| match secret.secret() {
            Some(clear) => Ok::<_, SessionKeyError>(SecureString::sealed(self.key()?.encrypt(clear)?)),
            None => Ok(secret.clone()),
        };
        value.replace_secrets(&seal).map_err(|_| {
            let text = "the output holds a SecureString, and this client exchanged no key for it: exchange keys first";
            unusable("SecureStringNotWritable", text.to_owned())
        })
    }

    fn key(&self) -> Result<&SessionKey, SessionKeyError> {
        self.0.as_ref().ok_or(SessionKeyError)
    }
}

fn unusable(id: &str, text: String) -> Box<ErrorRecord> {
    let kind = "System.Security.Cryptography.CryptographicException";
    Box::new(ErrorRecord::new(kind, text, ErrorCategory::SecurityError, id))
}
