use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::{Base, PsObject, Value};

/// .NET name of the type of [`SecureString`].
pub const SECURE_STRING: &str = "System.Security.SecureString";
/// .NET name of the type of a user name with its password (MS-PSRP 2.2.3.25).
pub const CREDENTIAL: &str = "System.Management.Automation.PSCredential";

impl Value {
    /// Whether it has what makes a PSCredential: `UserName`, a string, and `Password`, a SecureString.
    #[must_use]
    pub fn is_credential(&self) -> bool {
        let property = |name| self.as_object().and_then(|object| object.property(name));
        property("UserName").is_some_and(|user| user.as_str().is_some()) && matches!(property("Password"), Some(Self::SecureString(_)))
    }
}

/// `System.Security.SecureString`: a ciphertext as it travels, or the secret itself once somebody with the key opened it.
///
/// Neither form is ever shown: `Debug` gives no content, and CLIXML is written of a ciphertext alone. Equality looks at
/// the content and takes no care of the time it needs: it is for tests and digests, not for checking a password.
#[derive(Clone)]
pub struct SecureString(Form);

#[derive(Clone)]
enum Form {
    Sealed(Arc<str>),
    Clear(Arc<SecretString>),
}

impl SecureString {
    /// The base64 ciphertext of an `SS` element (MS-PSRP 2.2.5.1.24).
    #[must_use]
    pub fn sealed(ciphertext: impl Into<Arc<str>>) -> Self {
        Self(Form::Sealed(ciphertext.into()))
    }

    /// The secret in clear.
    #[must_use]
    pub fn clear(secret: SecretString) -> Self {
        Self(Form::Clear(Arc::new(secret)))
    }

    /// The base64 ciphertext; `None` of a secret in clear.
    #[must_use]
    pub fn ciphertext(&self) -> Option<&str> {
        match &self.0 {
            Form::Sealed(text) => Some(text),
            Form::Clear(_) => None,
        }
    }

    /// The secret; `None` while it is sealed.
    #[must_use]
    pub fn secret(&self) -> Option<&SecretString> {
        match &self.0 {
            Form::Sealed(_) => None,
            Form::Clear(secret) => Some(secret),
        }
    }
}

impl PartialEq for SecureString {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Form::Sealed(a), Form::Sealed(b)) => a == b,
            (Form::Clear(a), Form::Clear(b)) => a.expose_secret() == b.expose_secret(),
            _ => false,
        }
    }
}

impl fmt::Debug for SecureString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Form::Sealed(_) => "SecureString(sealed)",
            Form::Clear(_) => "SecureString(clear)",
        })
    }
}

/// Sealed: no conversion makes a secret of a text in passing.
impl From<&str> for SecureString {
    fn from(ciphertext: &str) -> Self {
        Self::sealed(ciphertext)
    }
}

impl Value {
    /// Whether it is a SecureString or holds one: in a list, a dictionary or a property (a PSCredential's password).
    #[must_use]
    pub fn has_secret(&self) -> bool {
        match self {
            Self::SecureString(_) => true,
            Self::Object(object) => holds_secret(object),
            _ => false,
        }
    }

    /// Replaces every SecureString in it. How deep values nest is bounded where they were read.
    ///
    /// # Errors
    /// The first that `replace` gives; what was replaced before stays replaced.
    pub fn replace_secrets<E>(&mut self, replace: &dyn Fn(&SecureString) -> Result<SecureString, E>) -> Result<(), E> {
        self.replace_each(&|secret| replace(secret).map(Self::SecureString))
    }

    /// Puts the text of every SecureString in clear in its place: for whoever asked to see it, and for nobody else.
    pub fn reveal_secrets(&mut self) {
        let shown = |secret: &SecureString| match secret.secret() {
            Some(clear) => Ok::<_, std::convert::Infallible>(clear.expose_secret().into()),
            None => Ok(Self::SecureString(secret.clone())),
        };
        let _ = self.replace_each(&shown);
    }

    fn replace_each<E>(&mut self, replace: &dyn Fn(&SecureString) -> Result<Self, E>) -> Result<(), E> {
        match self {
            Self::SecureString(secret) => *self = replace(secret)?,
            Self::Object(object) if holds_secret(object) => {
                let object = Arc::make_mut(object);
                match &mut object.base {
                    Base::None => {}
                    Base::Primitive(inner) => inner.replace_each(replace)?,
                    Base::List(_, items) => items.iter_mut().try_for_each(|item| item.replace_each(replace))?,
                    Base::Dictionary(entries) => entries.iter_mut().try_for_each(|(_, entry)| entry.replace_each(replace))?,
                }
                for properties in [&mut object.adapted, &mut object.extended] {
                    let found: Vec<(Arc<str>, Self)> =
                        properties.iter().filter(|(_, v)| v.has_secret()).map(|(name, v)| (Arc::clone(name), v.clone())).collect();
                    for (name, mut inner) in found {
                        inner.replace_each(replace)?;
                        properties.set(&name, inner);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn holds_secret(object: &PsObject) -> bool {
    let base = match &object.base {
        Base::None => false,
        Base::Primitive(inner) => inner.has_secret(),
        Base::List(_, items) => items.iter().any(Value::has_secret),
        Base::Dictionary(entries) => entries.iter().any(|(_, entry)| entry.has_secret()),
    };
    base || [&object.adapted, &object.extended].into_iter().any(|p| p.iter().any(|(_, v)| v.has_secret()))
}
