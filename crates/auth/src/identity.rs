use secrecy::SecretString;

use crate::{Certificate, IdentityError, PrivateKey, pem, pfx};

/// Certificates that a file may bring beside its leaf.
const MAX_CHAIN: usize = 10;

/// A certificate with its private key, and the certificates above it where the file had them.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: Certificate,
    /// Its issuer, that one's issuer, and so on; may be empty.
    pub chain: Vec<Certificate>,
    /// Its key.
    pub key: PrivateKey,
}

impl Identity {
    /// Reads PFX or PEM, whichever the bytes are. See [`pfx::read`] and [`pem::read_identity`].
    ///
    /// # Errors
    /// As those.
    pub fn read(bytes: &[u8], password: Option<&SecretString>) -> Result<Self, IdentityError> {
        if pem::is_pem(bytes) {
            pem::read_identity(bytes, None, password)
        } else if bytes.first() == Some(&0x30) {
            pfx::read(bytes, password)
        } else {
            Err(IdentityError::NotRecognised)
        }
    }

    /// Joins what a file held: exactly one key, and the newest of the certificates that belong to it.
    pub(crate) fn join(mut keys: Vec<PrivateKey>, certificates: Vec<Certificate>) -> Result<Self, IdentityError> {
        keys.dedup_by(|a, b| a.public_der() == b.public_der());
        let count = keys.len();
        let key = match (keys.pop(), count) {
            (Some(key), 1) => key,
            (None, _) => return Err(IdentityError::NoKey),
            (Some(_), count) => return Err(IdentityError::SeveralKeys { count }),
        };
        let first = certificates.first().ok_or(IdentityError::NoCertificate)?;
        let certificate = certificates
            .iter()
            .filter(|c| c.rsa_der() == Some(key.public_der()))
            .max_by_key(|c| c.not_after())
            .cloned()
            .ok_or_else(|| IdentityError::KeyMismatch { subject: first.subject().to_owned() })?;
        let mut chain = Vec::new();
        let mut last = certificate.clone();
        while chain.len() < MAX_CHAIN
            && !last.is_issued_by(&last)
            && let Some(next) = certificates.iter().find(|c| last.is_issued_by(c) && **c != certificate && !chain.contains(*c))
        {
            chain.push(next.clone());
            last = next.clone();
        }
        Ok(Self { certificate, chain, key })
    }
}
