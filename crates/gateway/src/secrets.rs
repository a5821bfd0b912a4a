//! The SecureStrings of one shell: its key, and how values that hold some are opened and sealed.

use std::sync::Arc;

use exops_auth::session_key::{SessionKey, SessionKeyError};
use exops_psobject::{Base, ErrorCategory, ErrorRecord, PsObject, SecureString, Value};
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
            Some(ciphertext) => Ok(SecureString::clear(self.key()?.decrypt(ciphertext)?)),
            None => Ok(secret.clone()),
        };
        each_secret(value, &open).map_err(|error| unusable("SecureStringNotReadable", error.to_string()))
    }

    /// Seals the SecureStrings that a value holds, for the client that has the key.
    pub(crate) fn seal(&self, value: &mut Value) -> Result<(), Box<ErrorRecord>> {
        let seal = |secret: &SecureString| match secret.secret() {
            Some(clear) => Ok(SecureString::sealed(self.key()?.encrypt(clear)?)),
            None => Ok(secret.clone()),
        };
        each_secret(value, &seal).map_err(|_| {
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

/// Replaces a SecureString, also in a list or a property (a PSCredential's password). How deep values nest is bounded where
/// they were read.
fn each_secret(value: &mut Value, replace: &dyn Fn(&SecureString) -> Result<SecureString, SessionKeyError>) -> Result<(), SessionKeyError> {
    match value {
        Value::SecureString(secret) => *secret = replace(secret)?,
        Value::Object(object) if holds_secret(object) => {
            let object = Arc::make_mut(object);
            match &mut object.base {
                Base::None => {}
                Base::Primitive(inner) => each_secret(inner, replace)?,
                Base::List(_, items) => items.iter_mut().try_for_each(|item| each_secret(item, replace))?,
                Base::Dictionary(entries) => entries.iter_mut().try_for_each(|(_, entry)| each_secret(entry, replace))?,
            }
            for properties in [&mut object.adapted, &mut object.extended] {
                let found: Vec<(Arc<str>, Value)> =
                    properties.iter().filter(|(_, v)| is_secret(v)).map(|(name, v)| (Arc::clone(name), v.clone())).collect();
                for (name, mut inner) in found {
                    each_secret(&mut inner, replace)?;
                    properties.set(&name, inner);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// The value is or holds a SecureString.
pub(crate) fn is_secret(value: &Value) -> bool {
    match value {
        Value::SecureString(_) => true,
        Value::Object(object) => holds_secret(object),
        _ => false,
    }
}

fn holds_secret(object: &PsObject) -> bool {
    let base = match &object.base {
        Base::None => false,
        Base::Primitive(inner) => is_secret(inner),
        Base::List(_, items) => items.iter().any(is_secret),
        Base::Dictionary(entries) => entries.iter().any(|(_, entry)| is_secret(entry)),
    };
    base || [&object.adapted, &object.extended].into_iter().any(|p| p.iter().any(|(_, v)| is_secret(v)))
}
