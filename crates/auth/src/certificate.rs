use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey as ParsedKey;

use crate::{IdentityError, RsaPublicKey, Thumbprint, pem};

/// Longest certificate that is read, in bytes.
const MAX_BYTES: usize = 64 * 1024;
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";

/// An X.509 certificate. Clones share the bytes.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    der: Vec<u8>,
    subject: String,
    issuer: String,
    serial: String,
    subject_der: Vec<u8>,
    issuer_der: Vec<u8>,
    not_before: i64,
    not_after: i64,
    sha1: [u8; 20],
    sha256: [u8; 32],
    key: KeyKind,
}

enum KeyKind {
    /// DER of `RSAPublicKey` (RFC 8017 A.1.1) and the length of the modulus in bits.
    Rsa {
        der: Vec<u8>,
        bits: usize,
    },
    EllipticCurve,
    Other(String),
}

impl Certificate {
    /// Reads DER.
    ///
    /// # Errors
    /// Not one whole certificate, or longer than 64 KiB.
    pub fn from_der(der: &[u8]) -> Result<Self, IdentityError> {
        if der.len() > MAX_BYTES {
            return Err(IdentityError::TooLarge { what: "certificate", limit: MAX_BYTES, unit: "bytes" });
        }
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|e| IdentityError::malformed("certificate", e))?;
        if !rest.is_empty() {
            return Err(IdentityError::malformed("certificate", "bytes follow it"));
        }
        let info = parsed.public_key();
        let key = match info.parsed() {
            Ok(ParsedKey::RSA(rsa)) => {
                let modulus = rsa.modulus.iter().skip_while(|b| **b == 0).collect::<Vec<_>>();
                let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
                KeyKind::Rsa { der: info.subject_public_key.data.to_vec(), bits }
            }
            _ if info.algorithm.algorithm.to_id_string() == EC_PUBLIC_KEY => KeyKind::EllipticCurve,
            _ => KeyKind::Other(info.algorithm.algorithm.to_id_string()),
        };
        Ok(Self(Arc::new(Inner {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            serial: parsed.raw_serial().iter().map(|b| format!("{b:02X}")).collect(),
            subject_der: parsed.subject().as_raw().to_vec(),
            issuer_der: parsed.issuer().as_raw().to_vec(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            sha1: sha1(der),
            sha256: sha256(der),
            key,
            der: der.to_vec(),
        })))
    }

    /// The whole certificate as DER.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.0.der
    }

    /// The certificate as PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::block("CERTIFICATE", &self.0.der)
    }

    /// Subject, in the order of the certificate (`CN=ExOPS`).
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Issuer, in the order of the certificate.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Whether `other`'s subject is this certificate's issuer, byte by byte. The signature is not checked.
    #[must_use]
    pub fn is_issued_by(&self, other: &Self) -> bool {
        self.0.issuer_der == other.0.subject_der
    }

    /// Serial number, upper-case hexadecimal.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.0.serial
    }

    /// First second of its life, unix seconds.
    #[must_use]
    pub fn not_before(&self) -> i64 {
        self.0.not_before
    }

    /// Last second of its life, unix seconds.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.0.not_after
    }

    /// SHA-1 over the DER: the thumbprint as Windows and Entra show it, upper-case hexadecimal.
    #[must_use]
    pub fn sha1_thumbprint(&self) -> String {
        Thumbprint::Sha1(self.0.sha1).to_string()
    }

    /// SHA-1 over the DER.
    #[must_use]
    pub fn sha1(&self) -> [u8; 20] {
        self.0.sha1
    }

    /// SHA-256 over the DER.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        self.0.sha256
    }

    /// Header value `x5t` (RFC 7515 4.1.7).
    #[must_use]
    pub fn x5t(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.sha1)
    }

    /// Header value `x5t#S256` (RFC 7515 4.1.8).
    #[must_use]
    pub fn x5t_s256(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.sha256)
    }

    /// Whether it is the one that the thumbprint names.
    #[must_use]
    pub fn has_thumbprint(&self, thumbprint: &Thumbprint) -> bool {
        match thumbprint {
            Thumbprint::Sha1(digest) => *digest == self.0.sha1,
            Thumbprint::Sha256(digest) => *digest == self.0.sha256,
        }
    }

    /// Whether its key is RSA.
    #[must_use]
    pub fn is_rsa(&self) -> bool {
        matches!(self.0.key, KeyKind::Rsa { .. })
    }

    /// Length of the RSA modulus in bits; 0 for other keys.
    #[must_use]
    pub fn key_bits(&self) -> usize {
        if let KeyKind::Rsa { bits, .. } = self.0.key { bits } else { 0 }
    }

    /// Its key, for checking signatures.
    ///
    /// # Errors
    /// Not RSA, below 2048 bits, or a modulus or exponent that no RSA key has.
    pub fn public_key(&self) -> Result<RsaPublicKey, IdentityError> {
        match &self.0.key {
            KeyKind::Rsa { bits, .. } if *bits < 2048 => Err(IdentityError::WeakKey { bits: *bits }),
            KeyKind::Rsa { der, .. } => RsaPublicKey::from_der(der),
            KeyKind::EllipticCurve => Err(IdentityError::EllipticCurve),
            KeyKind::Other(kind) => Err(IdentityError::UnsupportedKey(kind.clone())),
        }
    }

    /// DER of its `RSAPublicKey`.
    pub(crate) fn rsa_der(&self) -> Option<&[u8]> {
        if let KeyKind::Rsa { der, .. } = &self.0.key { Some(der) } else { None }
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, {})", self.subject(), self.sha1_thumbprint())
    }
}

pub(crate) fn sha1(bytes: &[u8]) -> [u8; 20] {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
    digest.as_ref().try_into().unwrap_or_default()
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().try_into().unwrap_or_default()
}
