use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256,
};
use zeroize::Zeroizing;

use crate::der::{self, Reader};
use crate::{Algorithm, IdentityError};

/// Content of the object identifiers of key algorithms.
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// An RSA key that checks signatures, parsed once. Clones share it.
#[derive(Clone)]
pub struct RsaPublicKey(Arc<PublicInner>);

struct PublicInner {
    der: Vec<u8>,
    pss: ParsedPublicKey,
    pkcs1: ParsedPublicKey,
}

impl RsaPublicKey {
    /// From DER of `RSAPublicKey` (RFC 8017 A.1.1).
    ///
    /// # Errors
    /// Not such a key, or not between 2048 and 8192 bits.
    pub fn from_der(der: &[u8]) -> Result<Self, IdentityError> {
        let fail = |_| IdentityError::malformed("public key", "it is no RSA key of 2048 to 8192 bits");
        let pss = ParsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, der).map_err(fail)?;
        let pkcs1 = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).map_err(fail)?;
        Ok(Self(Arc::new(PublicInner { der: der.to_vec(), pss, pkcs1 })))
    }

    /// Whether the signature over the message is this key's.
    #[must_use]
    pub fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let key = match algorithm {
            Algorithm::Ps256 => &self.0.pss,
            Algorithm::Rs256 => &self.0.pkcs1,
        };
        key.verify_sig(message, signature).is_ok()
    }

    /// Modulus and exponent, big-endian without leading zeros (JWK `n` and `e`).
    pub(crate) fn components(&self) -> Option<(&[u8], &[u8])> {
        let mut fields = Reader::only(&self.0.der, der::SEQUENCE).ok()?;
        let strip = |bytes: &[u8]| bytes.iter().take_while(|b| **b == 0).count();
        let n = fields.expect(der::INTEGER).ok()?.content;
        let e = fields.expect(der::INTEGER).ok()?.content;
        Some((n.get(strip(n)..)?, e.get(strip(e)..)?))
    }
}

impl PartialEq for RsaPublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for RsaPublicKey {}

impl fmt::Debug for RsaPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RsaPublicKey")
    }
}

/// An RSA private key, parsed once. Its bytes are wiped when the last clone goes.
#[derive(Clone)]
pub struct PrivateKey(Arc<PrivateInner>);

struct PrivateInner {
    pkcs8: Zeroizing<Vec<u8>>,
    pair: KeyPair,
}

impl PrivateKey {
    /// A new RSA key of 2048 bits.
    ///
    /// # Errors
    /// Where the cryptographic library cannot make one.
    pub fn generate() -> Result<Self, IdentityError> {
        let fail = |_| IdentityError::malformed("new key", "the cryptographic library could not make one");
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(fail)?;
        let pkcs8 = Zeroizing::new(pair.as_der().map_err(fail)?.as_ref().to_vec());
        Ok(Self(Arc::new(PrivateInner { pkcs8, pair })))
    }

    /// From PKCS#8 (RFC 5208) that is not encrypted.
    ///
    /// # Errors
    /// Not PKCS#8, not RSA, below 2048 bits, or inconsistent.
    pub fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, IdentityError> {
        let malformed = |e: der::DerError| IdentityError::malformed("private key", e);
        let mut info = Reader::only(&pkcs8, der::SEQUENCE).map_err(malformed)?;
        info.number().map_err(malformed)?;
        let algorithm = info.expect(der::SEQUENCE).map_err(malformed)?.inside().expect(der::OID).map_err(malformed)?.content;
        match algorithm {
            RSA_ENCRYPTION => {}
            EC_PUBLIC_KEY => return Err(IdentityError::EllipticCurve),
            other => return Err(IdentityError::UnsupportedKey(other.iter().map(|b| format!("{b:02x}")).collect())),
        }
        let key = info.expect(der::OCTET_STRING).map_err(malformed)?.content;
        let mut fields = Reader::only(key, der::SEQUENCE).map_err(malformed)?;
        fields.number().map_err(malformed)?;
        let modulus = fields.expect(der::INTEGER).map_err(malformed)?.content;
        let bits = modulus
            .iter()
            .position(|b| *b != 0)
            .and_then(|i| modulus.get(i..))
            .map_or(0, |digits| digits.len() * 8 - digits.first().map_or(0, |first| first.leading_zeros() as usize));
        if bits < 2048 {
            return Err(IdentityError::WeakKey { bits });
        }
        let pair = KeyPair::from_pkcs8(&pkcs8).map_err(|e| IdentityError::malformed("private key", e))?;
        Ok(Self(Arc::new(PrivateInner { pkcs8, pair })))
    }

    /// From PKCS#1 (`RSA PRIVATE KEY`, RFC 8017 A.1.2).
    ///
    /// # Errors
    /// As [`PrivateKey::from_pkcs8`].
    pub fn from_pkcs1(pkcs1: &[u8]) -> Result<Self, IdentityError> {
        let algorithm = der::element(der::SEQUENCE, &[&der::element(der::OID, &[RSA_ENCRYPTION]), &[der::NULL, 0]]);
        let key = Zeroizing::new(der::element(der::OCTET_STRING, &[pkcs1]));
        Self::from_pkcs8(Zeroizing::new(der::element(der::SEQUENCE, &[&der::number(0), &algorithm, &key])))
    }

    /// PKCS#8, not encrypted.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.0.pkcs8
    }

    /// DER of its `RSAPublicKey`.
    pub(crate) fn public_der(&self) -> &[u8] {
        self.0.pair.public_key().as_ref()
    }

    /// Signs the SHA-256 digest of a message.
    pub(crate) fn sign_digest(&self, algorithm: Algorithm, digest: &[u8; 32]) -> Option<Vec<u8>> {
        let digest = aws_lc_rs::digest::Digest::import_less_safe(digest, &aws_lc_rs::digest::SHA256).ok()?;
        let mut signature = vec![0; self.0.pair.public_modulus_len()];
        match algorithm {
            Algorithm::Ps256 => self.0.pair.sign_digest(&RSA_PSS_SHA256, &digest, &mut signature),
            Algorithm::Rs256 => self.0.pair.sign_digest(&RSA_PKCS1_SHA256, &digest, &mut signature),
        }
        .ok()?;
        Some(signature)
    }

    /// Signs a message.
    pub(crate) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Option<Vec<u8>> {
        self.sign_digest(algorithm, &crate::certificate::sha256(message))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(<redacted>)")
    }
}

/// Fills an array with random bytes of the cryptographic library.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::SecureRandom::fill(&SystemRandom::new(), &mut bytes)
        .map_err(|_| IdentityError::malformed("random source", "the cryptographic library gives no random bytes"))?;
    Ok(bytes)
}
