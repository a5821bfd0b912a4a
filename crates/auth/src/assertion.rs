//! Client assertions (RFC 7523): an application proves with its certificate who it is.
//!
//! Written in the strict form: PS256 with `x5t#S256`, or RS256 with `x5t`, whole seconds, no padding, an array of DER.
//! Read in every dialect that a released identity library writes; see [`verify`].

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use thiserror::Error;
use uuid::Uuid;

use crate::jwt::{self, Unverified};
use crate::{Algorithm, Certificate, JwtError, RsaPublicKey, SignError, Signer, certificate};

/// Life of an assertion, in seconds.
pub const LIFETIME: i64 = 600;
/// Difference of clocks that is forgiven, in seconds.
pub const SKEW: i64 = 300;
/// Longest assertion that is read, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// Longest life that strict reading allows, in seconds. The real service has no bound.
const MAX_STRICT_LIFE: i64 = 3600;
/// 9999-12-31T23:59:59Z.
const MAX_DATE: i64 = 253_402_300_799;

/// What an assertion says.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The application.
    pub client_id: &'a str,
    /// The token URL.
    pub audience: &'a str,
    /// A name that is used once.
    pub jti: Uuid,
    /// The time, unix seconds.
    pub now: i64,
    /// Sends the certificate and this chain along (`x5c`).
    pub chain: Option<&'a [Certificate]>,
}

/// An assertion that lacks its signature.
#[derive(Debug, Clone)]
pub struct Prepared {
    signing_input: String,
    algorithm: Algorithm,
}

impl Prepared {
    /// How it is to be signed.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The SHA-256 digest that is to be signed.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        certificate::sha256(self.signing_input.as_bytes())
    }
}

/// First phase: everything but the signature.
#[must_use]
pub fn prepare(certificate: &Certificate, algorithm: Algorithm, request: &Request<'_>) -> Prepared {
    let (name, thumbprint) = match algorithm {
        Algorithm::Ps256 => ("x5t#S256", certificate.x5t_s256()),
        Algorithm::Rs256 => ("x5t", certificate.x5t()),
    };
    let mut header = json!({ "alg": algorithm.name(), "typ": "JWT", name: thumbprint });
    if let Some(chain) = request.chain {
        header["x5c"] = std::iter::once(certificate).chain(chain).map(|c| STANDARD.encode(c.as_der())).collect();
    }
    let claims = json!({
        "aud": request.audience, "iss": request.client_id, "sub": request.client_id, "jti": request.jti,
        "nbf": request.now, "iat": request.now, "exp": request.now.saturating_add(LIFETIME),
    });
    Prepared { signing_input: jwt::signing_input(&header, &claims), algorithm }
}

/// Second phase: adds the signature, after checking it with the certificate.
///
/// # Errors
/// The signature is not the certificate's.
pub fn finish(prepared: Prepared, certificate: &Certificate, signature: &[u8]) -> Result<SecretString, SignError> {
    let verified = certificate.public_key().is_ok_and(|key| key.verify(prepared.algorithm, prepared.signing_input.as_bytes(), signature));
    if !verified {
        return Err(SignError::NotVerified { subject: certificate.subject().to_owned() });
    }
    Ok(jwt::assemble(&prepared.signing_input, signature).into())
}

/// Both phases: with PS256 where the key can, else with RS256.
///
/// # Errors
/// The signer refuses, or its signature does not verify.
pub fn sign(signer: &dyn Signer, request: &Request<'_>) -> Result<SecretString, SignError> {
    let certificate = signer.certificate();
    let none = || SignError::Refused { subject: certificate.subject().to_owned(), reason: "it can neither PS256 nor RS256".to_owned() };
    let prepared = prepare(certificate, *signer.algorithms().first().ok_or_else(none)?, request);
    let signature = signer.sign(prepared.algorithm, &prepared.digest())?;
    finish(prepared, certificate, &signature)
}

/// A certificate that is registered for an application.
#[derive(Debug, Clone)]
pub struct RegisteredKey {
    /// Id of the credential.
    pub key_id: Uuid,
    /// SHA-1 over the certificate.
    pub sha1: [u8; 20],
    /// SHA-256 over the certificate.
    pub sha256: [u8; 32],
    /// Its key.
    pub key: RsaPublicKey,
    /// First second in which it may be used, unix seconds.
    pub start: i64,
    /// Last second in which it may be used, unix seconds.
    pub end: i64,
}

/// What an assertion is checked against.
pub struct Expected<'a> {
    /// The application that the request names.
    pub client_id: &'a str,
    /// What is registered for it. Alone decides with which key and how a signature verifies.
    pub keys: &'a [RegisteredKey],
    /// Whether an audience means this token service and tenant.
    pub audience: &'a dyn Fn(&str) -> bool,
    /// Refuses what the RFCs do not allow although real libraries write it and the real service reads it.
    pub strict: bool,
}

/// A verified assertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The credential that signed.
    pub key_id: Uuid,
    /// Its name, where it has one.
    pub jti: Option<String>,
    /// End of its life, unix seconds.
    pub expires: i64,
}

/// Why an assertion is refused. What a token service needs for its answer is in the variant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AssertionError {
    /// Not a JWS.
    #[error("the assertion is malformed: {0}")]
    NotJwt(#[from] JwtError),
    /// A member that is missing, of another type or out of range.
    #[error("the assertion is malformed: {0}")]
    Malformed(&'static str),
    /// The algorithm is missing or none that RSA certificates sign with here.
    #[error("the assertion's algorithm is not PS256 or RS256")]
    Algorithm {
        /// It is one of the elliptic-curve family.
        elliptic_curve: bool,
    },
    /// No thumbprint says which key signed.
    #[error("the assertion names no certificate thumbprint")]
    NoThumbprint,
    /// No registered certificate has that thumbprint.
    #[error("no registered certificate has the thumbprint {thumbprint}")]
    KeyNotFound {
        /// Upper-case hexadecimal.
        thumbprint: String,
    },
    /// The registered certificate does not verify the signature.
    #[error("the signature does not verify with the registered certificate {thumbprint}")]
    Signature {
        /// Upper-case hexadecimal.
        thumbprint: String,
        /// First second of the registered key.
        start: i64,
        /// Last second of the registered key.
        end: i64,
    },
    /// The registered certificate is past its end or before its start.
    #[error("the registered certificate {thumbprint} is expired or not yet valid")]
    KeyExpired {
        /// Upper-case hexadecimal.
        thumbprint: String,
        /// First second of the registered key.
        start: i64,
        /// Last second of the registered key.
        end: i64,
    },
    /// Now is outside the assertion's life.
    #[error("the assertion is outside its time range")]
    TimeRange {
        /// Begin of its life, where it says one.
        not_before: Option<i64>,
        /// End of its life.
        expires: i64,
    },
    /// It is meant for somebody else.
    #[error("the assertion's audience is not this token service")]
    Audience,
    /// Issuer or subject is not the application that the request names.
    #[error("the assertion's issuer or subject is not the application that asks")]
    Identifier,
}

/// Checks an assertion.
///
/// Algorithm and key come from what is registered: a key in the header (`x5c`, `jwk`, `jku`, `x5u`) is not even read, and
/// the header's algorithm must be one of two. Released libraries deviate from the RFCs, and the real service lets them,
/// so unless `strict`: thumbprints may be padded or in plain base64, `x5t` alone is enough, dates may be fractions or
/// decimal text, `nbf`, `iat` and `jti` may be absent, and a life may be of any length.
///
/// # Errors
/// The first thing that is wrong, in this order: form, algorithm, key, signature, the key's dates, issuer and subject,
/// audience, time.
pub fn verify(assertion: &str, expected: &Expected<'_>, now: i64) -> Result<Verified, AssertionError> {
    let jws = Unverified::parse(assertion, MAX_BYTES)?;
    let name = jws.header.get("alg").and_then(Value::as_str).unwrap_or_default();
    let algorithm = Algorithm::find(name).ok_or_else(|| AssertionError::Algorithm { elliptic_curve: name.starts_with("ES") })?;
    let (key, thumbprint) = registered_key(&jws.header, expected, now)?;
    if !key.key.verify(algorithm, jws.signing_input.as_bytes(), &jws.signature) {
        return Err(AssertionError::Signature { thumbprint, start: key.start, end: key.end });
    }
    if !is_current(key, now) {
        return Err(AssertionError::KeyExpired { thumbprint, start: key.start, end: key.end });
    }
    let claims = jws.claims()?;
    let text = |name: &'static str| claims.get(name).and_then(Value::as_str);
    let is_client = |name| text(name).is_some_and(|v| v.eq_ignore_ascii_case(expected.client_id));
    if !is_client("iss") || !is_client("sub") {
        return Err(AssertionError::Identifier);
    }
    if !audience(&claims).is_some_and(|a| (expected.audience)(a)) {
        return Err(AssertionError::Audience);
    }
    let date = |name| date(&claims, name, expected.strict);
    let expires = date("exp")?.ok_or(AssertionError::Malformed("it has no exp"))?;
    let (not_before, issued) = (date("nbf")?, date("iat")?);
    let jti = match claims.get("jti") {
        None => None,
        Some(Value::String(jti)) if jti.len() <= 256 => Some(jti.clone()),
        Some(_) => return Err(AssertionError::Malformed("its jti is not a short text")),
    };
    if expected.strict {
        let begin = not_before.or(issued).ok_or(AssertionError::Malformed("it has neither nbf nor iat"))?;
        if jti.is_none() || expires.saturating_sub(begin) > MAX_STRICT_LIFE {
            return Err(AssertionError::Malformed("it has no jti or lives longer than an hour"));
        }
    }
    let begins_later = not_before.into_iter().chain(issued).any(|begin| begin > now.saturating_add(SKEW));
    if begins_later || expires.saturating_add(SKEW) <= now {
        return Err(AssertionError::TimeRange { not_before, expires });
    }
    Ok(Verified { key_id: key.key_id, jti, expires })
}

fn is_current(key: &RegisteredKey, now: i64) -> bool {
    key.start <= now && now <= key.end
}

/// The registered key that the header's thumbprints name, and the thumbprint for messages. One certificate can be
/// registered twice with other dates; then the one that may be used now is meant.
fn registered_key<'k>(
    header: &Map<String, Value>,
    expected: &Expected<'k>,
    now: i64,
) -> Result<(&'k RegisteredKey, String), AssertionError> {
    let sha256 = thumbprint::<32>(header, "x5t#S256", expected.strict)?;
    let sha1 = thumbprint::<20>(header, "x5t", expected.strict)?;
    let shown = match (&sha256, &sha1) {
        (Some(digest), _) => hex(digest),
        (None, Some(digest)) if !expected.strict => hex(digest),
        _ => return Err(AssertionError::NoThumbprint),
    };
    let named = expected.keys.iter().filter(|k| sha256.is_none_or(|d| d == k.sha256) && sha1.is_none_or(|d| d == k.sha1));
    match named.max_by_key(|k| (is_current(k, now), k.end)) {
        Some(key) => Ok((key, shown)),
        None => Err(AssertionError::KeyNotFound { thumbprint: shown }),
    }
}

fn thumbprint<const N: usize>(header: &Map<String, Value>, name: &str, strict: bool) -> Result<Option<[u8; N]>, AssertionError> {
    let malformed = AssertionError::Malformed("a certificate thumbprint is not the base64url of a digest");
    let text = match header.get(name) {
        None => return Ok(None),
        Some(Value::String(text)) if text.len() <= 64 => text,
        Some(_) => return Err(malformed),
    };
    let text = if strict { text.clone() } else { text.trim_end_matches('=').replace('+', "-").replace('/', "_") };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed.clone())?;
    bytes.try_into().map(Some).map_err(|_| malformed)
}

/// One audience; a list may hold exactly one.
fn audience(claims: &Map<String, Value>) -> Option<&str> {
    match claims.get("aud")? {
        Value::String(audience) => Some(audience),
        Value::Array(list) if list.len() == 1 => list.first()?.as_str(),
        _ => None,
    }
}

fn date(claims: &Map<String, Value>, name: &'static str, strict: bool) -> Result<Option<i64>, AssertionError> {
    let malformed = AssertionError::Malformed("a date is not a number of seconds since 1970");
    let seconds = match claims.get(name) {
        None => return Ok(None),
        Some(Value::Number(n)) => match n.as_i64() {
            Some(whole) => whole,
            None if strict => return Err(malformed),
            // Out of the range of a date or not: the cast saturates, and the check below sees it.
            #[allow(clippy::cast_possible_truncation)]
            None => n.as_f64().ok_or_else(|| malformed.clone())?.floor() as i64,
        },
        Some(Value::String(text)) if !strict && text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse().map_err(|_| malformed.clone())?
        }
        Some(_) => return Err(malformed),
    };
    if (0..=MAX_DATE).contains(&seconds) { Ok(Some(seconds)) } else { Err(malformed) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect()
}
