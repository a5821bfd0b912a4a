//! The key under which secrets travel in parameters of the REST admin API: RSA with PKCS #1 v1.5 over UTF-8, in base64. The
//! module file carries it as `<RSAKeyValue>` (XML Signature 4.5.2.2). As inside a session, it protects nothing that TLS does
//! not protect already. Every failure has one text.

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{
    KeySize, Pkcs1PrivateDecryptingKey, Pkcs1PublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey, PublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::der::{self, Reader};

/// Longest key and longest sealed secret in base64: of a key of 4096 bits, with room.
const LONGEST: usize = 1_024;

/// A key or a sealed secret is not usable. It does not say why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the secret is too long for the service's public key, or not sealed with it")]
pub struct ParameterKeyError;

/// The service's key.
pub struct ParameterKey {
    key: Pkcs1PrivateDecryptingKey,
    public_key: String,
}

impl ParameterKey {
    /// A new key of 2048 bits.
    ///
    /// # Errors
    /// Where the cryptographic library cannot make one.
    pub fn generate() -> Result<Self, ParameterKeyError> {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).map_err(|_| ParameterKeyError)?;
        let spki = key.public_key().as_der().map_err(|_| ParameterKeyError)?;
        let public_key = rsa_key_value(spki.as_ref()).ok_or(ParameterKeyError)?;
        let key = Pkcs1PrivateDecryptingKey::new(key).map_err(|_| ParameterKeyError)?;
        Ok(Self { key, public_key })
    }

    /// The public half as `<RSAKeyValue>`.
    #[must_use]
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// Opens what [`seal`] made.
    ///
    /// # Errors
    /// When it is not sealed with this key, or no text.
    pub fn open(&self, sealed: &str) -> Result<SecretString, ParameterKeyError> {
        let sealed = decode(sealed)?;
        let mut room = Zeroizing::new(vec![0; self.key.min_output_size()]);
        let clear = self.key.decrypt(&sealed, &mut room).map_err(|_| ParameterKeyError)?;
        std::str::from_utf8(clear).map(SecretString::from).map_err(|_| ParameterKeyError)
    }
}

impl fmt::Debug for ParameterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParameterKey")
    }
}

/// Seals a secret for the service that has this `<RSAKeyValue>`.
///
/// # Errors
/// When that is no RSA key of at least 2048 bits, or the secret is longer than it takes.
pub fn seal(public_key: &str, secret: &SecretString) -> Result<String, ParameterKeyError> {
    let part = |name: &str| {
        let (_, rest) = public_key.split_once(&format!("<{name}>")).ok_or(ParameterKeyError)?;
        let (text, _) = rest.split_once("</").ok_or(ParameterKeyError)?;
        let bytes = decode(text)?;
        Ok(bytes.into_iter().skip_while(|b| *b == 0).collect::<Vec<u8>>())
    };
    let key: PublicEncryptingKey =
        PublicKeyComponents { n: part("Modulus")?, e: part("Exponent")? }.try_into().map_err(|_| ParameterKeyError)?;
    let key = Pkcs1PublicEncryptingKey::new(key).map_err(|_| ParameterKeyError)?;
    let mut sealed = vec![0; key.ciphertext_size()];
    let made = key.encrypt(secret.expose_secret().as_bytes(), &mut sealed).map_err(|_| ParameterKeyError)?;
    Ok(STANDARD.encode(made))
}

fn decode(text: &str) -> Result<Vec<u8>, ParameterKeyError> {
    let text = text.trim();
    let bytes = if text.len() > LONGEST { return Err(ParameterKeyError) } else { STANDARD.decode(text) };
    bytes.map_err(|_| ParameterKeyError)
}

/// The key of a SubjectPublicKeyInfo (RFC 5280 4.1).
fn rsa_key_value(spki: &[u8]) -> Option<String> {
    let mut info = Reader::only(spki, der::SEQUENCE).ok()?;
    info.expect(der::SEQUENCE).ok()?;
    let key = info.expect(der::BIT_STRING).ok()?.content.get(1..)?;
    let mut fields = Reader::only(key, der::SEQUENCE).ok()?;
    let mut number = || -> Option<String> {
        let content = fields.expect(der::INTEGER).ok()?.content;
        Some(STANDARD.encode(content.strip_prefix(&[0]).unwrap_or(content)))
    };
    let (modulus, exponent) = (number()?, number()?);
    Some(format!("<RSAKeyValue><Modulus>{modulus}</Modulus><Exponent>{exponent}</Exponent></RSAKeyValue>"))
}
