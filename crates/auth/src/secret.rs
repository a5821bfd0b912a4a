//! Client secrets: made, kept as salted hashes, compared in constant time.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::IdentityError;
use crate::key::random;

const SALT: usize = 16;
const HASH: usize = 32;
/// Rounds of PBKDF2: a secret that a person chose is not guessed from a stolen database at once.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(9_999);

/// A new secret of 240 random bits, as text of 40 characters.
///
/// # Errors
/// Where there are no random bytes.
pub fn generate() -> Result<SecretString, IdentityError> {
    let bytes = Zeroizing::new(random::<30>()?);
    Ok(URL_SAFE_NO_PAD.encode(*bytes).into())
}

/// Salt and PBKDF2 hash: what is kept of a secret.
///
/// # Errors
/// Where there are no random bytes.
pub fn hash(secret: &SecretString) -> Result<Vec<u8>, IdentityError> {
    let mut kept = random::<SALT>()?.to_vec();
    let mut derived = [0; HASH];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, &kept, secret.expose_secret().as_bytes(), &mut derived);
    kept.extend_from_slice(&derived);
    Ok(kept)
}

/// Whether `kept` was made of that secret.
#[must_use]
pub fn matches(secret: &SecretString, kept: &[u8]) -> bool {
    let Some((salt, hash)) = kept.split_at_checked(SALT).filter(|(_, hash)| hash.len() == HASH) else { return false };
    pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt, secret.expose_secret().as_bytes(), hash).is_ok()
}

/// Whether two secrets are equal, in a time that depends on their lengths alone.
#[must_use]
pub fn equal(a: &SecretString, b: &SecretString) -> bool {
    constant_time::verify_slices_are_equal(a.expose_secret().as_bytes(), b.expose_secret().as_bytes()).is_ok()
}
