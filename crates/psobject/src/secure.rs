use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

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
