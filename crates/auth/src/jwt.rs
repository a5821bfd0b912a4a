//! JSON Web Signature, compact form (RFC 7515 7.1): written in two phases, read without trusting anything in it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::json;

/// Longest header that is read, in bytes. Room for a certificate chain; nothing in a header is worth more work.
const MAX_HEADER: usize = 48 * 1024;
/// Longest signature: RSA of 8192 bits.
const MAX_SIGNATURE: usize = 1024;

/// A text that is no compact JWS with JSON objects as header and payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JwtError {
    /// Longer than the caller allows.
    #[error("it is too long")]
    TooLong,
    /// Not three parts.
    #[error("it does not have three parts")]
    Parts,
    /// A part that is not canonical base64url without padding.
    #[error("its {0} is not base64url")]
    Base64(&'static str),
    /// A part that is not one JSON object with each name once.
    #[error("its {0} is not a JSON object with each name once")]
    Json(&'static str),
    /// It demands extensions that are not understood (RFC 7515 4.1.11).
    #[error("it names critical extensions")]
    Critical,
}

/// A JWS taken apart; nothing of it is verified.
#[derive(Debug)]
pub(crate) struct Unverified<'a> {
    pub(crate) header: Map<String, Value>,
    payload: &'a str,
    /// What was signed.
    pub(crate) signing_input: &'a str,
    pub(crate) signature: Vec<u8>,
}

impl<'a> Unverified<'a> {
    /// Splits a token and reads its header. The payload is read only by [`Unverified::claims`].
    pub(crate) fn parse(token: &'a str, max_bytes: usize) -> Result<Self, JwtError> {
        if token.len() > max_bytes {
            return Err(JwtError::TooLong);
        }
        let (signing_input, signature) = token.rsplit_once('.').ok_or(JwtError::Parts)?;
        let (header, payload) = signing_input.split_once('.').ok_or(JwtError::Parts)?;
        if payload.contains('.') {
            return Err(JwtError::Parts);
        }
        if header.len() > MAX_HEADER || signature.len() > MAX_SIGNATURE * 4 / 3 + 3 {
            return Err(JwtError::TooLong);
        }
        let header = decode(header, "header")?;
        let header = json::object(&header).ok_or(JwtError::Json("header"))?;
        if header.contains_key("crit") {
            return Err(JwtError::Critical);
        }
        Ok(Self { header, payload, signing_input, signature: decode(signature, "signature")? })
    }

    pub(crate) fn claims(&self) -> Result<Map<String, Value>, JwtError> {
        json::object(&decode(self.payload, "payload")?).ok_or(JwtError::Json("payload"))
    }
}

/// What is signed: `base64url(header).base64url(payload)`.
pub(crate) fn signing_input(header: &Value, claims: &Value) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// The whole token.
pub(crate) fn assemble(signing_input: &str, signature: &[u8]) -> String {
    format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn decode(part: &str, name: &'static str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Base64(name))
}
