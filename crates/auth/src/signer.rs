use thiserror::Error;

use crate::{Certificate, Identity};

/// A signature algorithm of assertions and tokens (RFC 7518 3.3, 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PSS with SHA-256; what current documents ask of client assertions.
    Ps256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}

impl Algorithm {
    /// The name in a header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ps256 => "PS256",
            Self::Rs256 => "RS256",
        }
    }

    /// The algorithm of exactly that name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        [Self::Ps256, Self::Rs256].into_iter().find(|a| a.name() == name)
    }
}

/// A signature was not made, or is not the certificate's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignError {
    /// The key's owner (card, module, library) refused.
    #[error("the private key of {subject} did not sign: {reason}")]
    Refused {
        /// Subject of the certificate.
        subject: String,
        /// What the key's owner said.
        reason: String,
    },
    /// The signature does not verify with the certificate: it never leaves.
    #[error("the signature that was made does not verify with the certificate {subject}")]
    NotVerified {
        /// Subject of the certificate.
        subject: String,
    },
}

/// A certificate whose private key signs, wherever the key is. May block (a PIN, a network).
pub trait Signer: Send + Sync {
    /// The certificate.
    fn certificate(&self) -> &Certificate;

    /// What the key can do, best first.
    fn algorithms(&self) -> &[Algorithm];

    /// Signs the SHA-256 digest of a message.
    ///
    /// # Errors
    /// Where the key's owner refuses.
    fn sign(&self, algorithm: Algorithm, digest: &[u8; 32]) -> Result<Vec<u8>, SignError>;
}

impl Signer for Identity {
    fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    fn algorithms(&self) -> &[Algorithm] {
        &[Algorithm::Ps256, Algorithm::Rs256]
    }

    fn sign(&self, algorithm: Algorithm, digest: &[u8; 32]) -> Result<Vec<u8>, SignError> {
        let refused = || SignError::Refused {
            subject: self.certificate.subject().to_owned(),
            reason: "the cryptographic library refused".to_owned(),
        };
        self.key.sign_digest(algorithm, digest).ok_or_else(refused)
    }
}
