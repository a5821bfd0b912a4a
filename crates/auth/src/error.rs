use thiserror::Error;

/// Why a certificate, a key or a file of both cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Neither PEM nor PKCS#12.
    #[error("the file is neither PEM nor PKCS#12 (PFX)")]
    NotRecognised,
    /// The form is right but the content is not.
    #[error("the {what} cannot be read: {reason}")]
    Malformed {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// More bytes or items than a key file has.
    #[error("the {what} has more than {limit} {unit}")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// The limit.
        limit: usize,
        /// What is counted.
        unit: &'static str,
    },
    /// The password does not open it.
    #[error("the password is wrong")]
    WrongPassword,
    /// It is protected and no password was given.
    #[error("the file is protected by a password and none was given")]
    PasswordNeeded,
    /// No private key in it.
    #[error("there is no private key in it")]
    NoKey,
    /// No certificate in it.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// More than one private key: which one is meant is not for a program to guess.
    #[error("there are {count} private keys in it; one is expected")]
    SeveralKeys {
        /// How many.
        count: usize,
    },
    /// The private key belongs to none of the certificates.
    #[error("the private key does not belong to the certificate {subject}")]
    KeyMismatch {
        /// Subject of the first certificate.
        subject: String,
    },
    /// An elliptic-curve key. Entra refuses them for applications (AADSTS5002730).
    #[error("the key is an elliptic-curve key; Entra accepts only RSA certificates for applications")]
    EllipticCurve,
    /// Another kind of key.
    #[error("the key is of an unsupported kind ({0}); Entra accepts only RSA certificates for applications")]
    UnsupportedKey(String),
    /// An RSA key below 2048 bits.
    #[error("the RSA key has {bits} bits; at least 2048 are needed")]
    WeakKey {
        /// Its length.
        bits: usize,
    },
    /// Opening it would take more work than any honest file asks for.
    #[error("opening the {what} asks for {asked}, more than the limit of {limit}")]
    TooMuchWork {
        /// Which part.
        what: &'static str,
        /// What it asks for, with its unit.
        asked: String,
        /// What is allowed.
        limit: String,
    },
    /// A method that is not implemented.
    #[error("it is protected by {0}, which is not supported")]
    UnsupportedProtection(String),
}

impl IdentityError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotRecognised | Self::Malformed { .. } | Self::TooLarge { .. } => {
                "give a PFX file, or PEM with CERTIFICATE and PRIVATE KEY; export it again if it is damaged"
            }
            Self::WrongPassword => "check the password; for PFX files upper and lower case count",
            Self::PasswordNeeded => "give the password by prompt, file or environment variable",
            Self::NoKey => "export the certificate together with its private key",
            Self::NoCertificate => "add the certificate to the file, or give it as a second file",
            Self::SeveralKeys { .. } => "leave one private key in the file",
            Self::KeyMismatch { .. } => "put the certificate that was made for this key into the file",
            Self::EllipticCurve | Self::UnsupportedKey(_) | Self::WeakKey { .. } => "make an RSA certificate with `exops cert new`",
            Self::TooMuchWork { .. } => "export it again with fewer rounds (2,000 to 600,000 are usual)",
            Self::UnsupportedProtection(_) => "protect it with AES-256 (openssl: -keypbe AES-256-CBC -certpbe AES-256-CBC -macalg sha256)",
        }
    }

    pub(crate) fn malformed(what: &'static str, reason: impl ToString) -> Self {
        Self::Malformed { what, reason: reason.to_string() }
    }
}
