//! The key with which the two ends of a remote PowerShell session hide SecureStrings from each other's logs (MS-PSRP 2.2.5,
//! 3.1.1.5): made by the server, sent to the client under the client's RSA key.
//!
//! The protocol is fixed: RSA with PKCS #1 v1.5, AES-256-CBC with a zero vector, the blobs of Windows' old cryptographic
//! interface. It protects nothing that TLS does not protect already. Every failure has one text (case C-09).

use std::fmt;

use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{
    KeySize, Pkcs1PrivateDecryptingKey, Pkcs1PublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey, PublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::der::{self, Reader};
use crate::key::random;

/// `PUBLICKEYBLOB` of an RSA key of 2048 bits for key exchange; exponent and modulus follow, little endian.
const PUBLIC_HEADER: [u8; 16] = *b"\x06\x02\0\0\0\xA4\0\0RSA1\0\x08\0\0";
/// `SIMPLEBLOB` of an AES-256 key under such a key; the encrypted key follows, little endian.
const SESSION_HEADER: [u8; 12] = [1, 2, 0, 0, 0x10, 0x66, 0, 0, 0, 0xA4, 0, 0];
const MODULUS: usize = 256;
const EXPONENT: usize = 4;
const KEY: usize = 32;
const BLOCK: usize = 16;

/// A key or a SecureString is not usable. It does not say why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the key exchange of the session failed, or a SecureString does not belong to its key")]
pub struct SessionKeyError;

/// A session's key. Its bytes are wiped when it goes.
pub struct SessionKey(Zeroizing<[u8; KEY]>);

impl SessionKey {
    /// A new key: the server's part of the exchange.
    ///
    /// # Errors
    /// Where there are no random bytes.
    pub fn generate() -> Result<Self, SessionKeyError> {
        random::<KEY>().map(|key| Self(Zeroizing::new(key))).map_err(|_| SessionKeyError)
    }

    /// The content of ENCRYPTED_SESSION_KEY for a client that sent `public_key` as content of PUBLIC_KEY, both base64.
    ///
    /// # Errors
    /// When that is no RSA key of 2048 bits in a `PUBLICKEYBLOB`.
    pub fn seal(&self, public_key: &str) -> Result<String, SessionKeyError> {
        let blob = decode(public_key, PUBLIC_HEADER.len() + EXPONENT + MODULUS)?;
        let rest = blob.strip_prefix(&PUBLIC_HEADER).ok_or(SessionKeyError)?;
        let (exponent, modulus) = rest.split_at_checked(EXPONENT).ok_or(SessionKeyError)?;
        let reversed = |bytes: &[u8]| bytes.iter().rev().copied().skip_while(|b| *b == 0).collect::<Vec<u8>>();
        let key: PublicEncryptingKey =
            PublicKeyComponents { n: reversed(modulus), e: reversed(exponent) }.try_into().map_err(|_| SessionKeyError)?;
        let key = Pkcs1PublicEncryptingKey::new(key).map_err(|_| SessionKeyError)?;
        if key.key_size_bytes() != MODULUS {
            return Err(SessionKeyError);
        }
        let mut sealed = [0; MODULUS];
        key.encrypt(&*self.0, &mut sealed).map_err(|_| SessionKeyError)?;
        sealed.reverse();
        Ok(STANDARD.encode([&SESSION_HEADER[..], &sealed].concat()))
    }

    fn cipher(&self) -> Result<UnboundCipherKey, SessionKeyError> {
        UnboundCipherKey::new(&AES_256, &*self.0).map_err(|_| SessionKeyError)
    }

    /// A text as it travels in `<SS>`.
    ///
    /// # Errors
    /// Where the cryptographic library refuses.
    pub fn encrypt(&self, secret: &SecretString) -> Result<String, SessionKeyError> {
        // Room for the padding, so that no copy of the clear text is left behind by a growing buffer.
        let units = secret.expose_secret().encode_utf16().count();
        let mut text = Zeroizing::new(Vec::with_capacity(units * 2 + BLOCK));
        text.extend(secret.expose_secret().encode_utf16().flat_map(u16::to_le_bytes));
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(self.cipher()?).map_err(|_| SessionKeyError)?;
        key.less_safe_encrypt(&mut *text, EncryptionContext::Iv128(FixedLength::from([0; BLOCK]))).map_err(|_| SessionKeyError)?;
        Ok(STANDARD.encode(&*text))
    }

    /// The text of an `<SS>`; empty content is the empty text, as some clients write it.
    ///
    /// # Errors
    /// When it was not made with this key.
    pub fn decrypt(&self, content: &str) -> Result<SecretString, SessionKeyError> {
        if content.is_empty() {
            return Ok(SecretString::from(String::new()));
        }
        let mut bytes = Zeroizing::new(STANDARD.decode(content.trim()).map_err(|_| SessionKeyError)?);
        if bytes.len() % BLOCK != 0 {
            return Err(SessionKeyError);
        }
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(self.cipher()?).map_err(|_| SessionKeyError)?;
        let clear = key.decrypt(&mut bytes, DecryptionContext::Iv128(FixedLength::from([0; BLOCK]))).map_err(|_| SessionKeyError)?;
        let (pairs, rest) = clear.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(SessionKeyError);
        }
        let mut text = String::with_capacity(pairs.len() * 3);
        for character in char::decode_utf16(pairs.iter().map(|pair| u16::from_le_bytes(*pair))) {
            text.push(character.map_err(|_| SessionKeyError)?);
        }
        Ok(text.into())
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey")
    }
}

/// The client's part of the exchange: an RSA key that serves for one session.
pub struct ExchangeKey {
    key: Pkcs1PrivateDecryptingKey,
    public_key: String,
}

impl ExchangeKey {
    /// A new key of 2048 bits.
    ///
    /// # Errors
    /// Where the cryptographic library cannot make one.
    pub fn generate() -> Result<Self, SessionKeyError> {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).map_err(|_| SessionKeyError)?;
        let spki = key.public_key().as_der().map_err(|_| SessionKeyError)?;
        let blob = public_blob(spki.as_ref()).ok_or(SessionKeyError)?;
        let key = Pkcs1PrivateDecryptingKey::new(key).map_err(|_| SessionKeyError)?;
        Ok(Self { key, public_key: STANDARD.encode(blob) })
    }

    /// The content of PUBLIC_KEY.
    #[must_use]
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// The key in the content of ENCRYPTED_SESSION_KEY.
    ///
    /// # Errors
    /// When it is not a key for this one, or has another size.
    pub fn open(&self, encrypted: &str) -> Result<SessionKey, SessionKeyError> {
        let blob = decode(encrypted, SESSION_HEADER.len() + MODULUS)?;
        let mut sealed = blob.strip_prefix(&SESSION_HEADER).ok_or(SessionKeyError)?.to_vec();
        sealed.reverse();
        let mut room = Zeroizing::new([0; MODULUS]);
        let clear = self.key.decrypt(&sealed, &mut *room).map_err(|_| SessionKeyError)?;
        Ok(SessionKey(Zeroizing::new(<[u8; KEY]>::try_from(&*clear).map_err(|_| SessionKeyError)?)))
    }
}

impl fmt::Debug for ExchangeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExchangeKey")
    }
}

/// Base64 of exactly `length` bytes; the length of the text is looked at first.
fn decode(text: &str, length: usize) -> Result<Vec<u8>, SessionKeyError> {
    let text = text.trim();
    let bytes = if text.len() > length.div_ceil(3) * 4 { return Err(SessionKeyError) } else { STANDARD.decode(text) };
    bytes.ok().filter(|b| b.len() == length).ok_or(SessionKeyError)
}

/// The blob of a key in a SubjectPublicKeyInfo (RFC 5280 4.1).
fn public_blob(spki: &[u8]) -> Option<Vec<u8>> {
    let mut info = Reader::only(spki, der::SEQUENCE).ok()?;
    info.expect(der::SEQUENCE).ok()?;
    // One byte of the bit string says how many bits are unused: none.
    let key = info.expect(der::BIT_STRING).ok()?.content.get(1..)?;
    let mut fields = Reader::only(key, der::SEQUENCE).ok()?;
    let mut blob = PUBLIC_HEADER.to_vec();
    let (modulus, exponent) = (fields.expect(der::INTEGER).ok()?.content, fields.expect(der::INTEGER).ok()?.content);
    for (number, length) in [(exponent, EXPONENT), (modulus, MODULUS)] {
        let mut bytes: Vec<u8> = number.iter().rev().copied().collect();
        // The byte that keeps a DER integer positive.
        bytes.truncate(length);
        bytes.resize(length, 0);
        blob.extend(bytes);
    }
    Some(blob)
}
