//! The SecureStrings of one shell: its key, and how values that hold some are opened.

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

    /// Opens every SecureString among the arguments of a request.
    pub(crate) fn open_request(&self, request: &mut PipelineRequest) -> Result<(), Box<ErrorRecord>> {
        let commands = request.commands.iter_mut().chain(request.more_statements.iter_mut().flatten());
        for value in commands.flat_map(|command| &mut command.arguments).filter_map(|argument| argument.value.as_mut()) {
            self.open(value).map_err(|error| {
                let id = "SecureStringNotReadable";
                Box::new(ErrorRecord::new(
                    "System.Security.Cryptography.CryptographicException",
                    error.to_string(),
                    ErrorCategory::SecurityError,
                    id,
                ))
            })?;
        }
        Ok(())
    }

    /// Opens a SecureString, also in a list or a property (a PSCredential's password). How deep values nest is bounded where
    /// they were read.
    fn open(&self, value: &mut Value) -> Result<(), SessionKeyError> {
        match value {
            Value::SecureString(sealed) => {
                if let Some(ciphertext) = sealed.ciphertext() {
                    let key = self.0.as_ref().ok_or(SessionKeyError)?;
                    *value = Value::SecureString(SecureString::clear(key.decrypt(ciphertext)?));
                }
            }
            Value::Object(object) if holds_secret(object) => {
                let object = Arc::make_mut(object);
                match &mut object.base {
                    Base::None => {}
                    Base::Primitive(inner) => self.open(inner)?,
                    Base::List(_, items) => items.iter_mut().try_for_each(|item| self.open(item))?,
                    Base::Dictionary(entries) => entries.iter_mut().try_for_each(|(_, entry)| self.open(entry))?,
                }
                for properties in [&mut object.adapted, &mut object.extended] {
                    let sealed: Vec<(Arc<str>, Value)> =
                        properties.iter().filter(|(_, v)| is_secret(v)).map(|(name, v)| (Arc::clone(name), v.clone())).collect();
                    for (name, mut inner) in sealed {
                        self.open(&mut inner)?;
                        properties.set(&name, inner);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn is_secret(value: &Value) -> bool {
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
