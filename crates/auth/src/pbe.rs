//! Encryption under a password: PBES2 (RFC 8018 6.2) and PKCS#12's own schemes (RFC 7292 appendices B and C), reading
//! everything that usual programs write, within a bound on work.

use aws_lc_rs::digest;
use aws_lc_rs::hmac;
use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt as _, KeyInit, KeyIvInit as _};
use pkcs8::der::{Decode as _, Encode as _};
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::{Kdf, Parameters};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::IdentityError;
use crate::der::{self, DerError, Element};
use crate::key::random;

/// Most rounds that one derivation may ask for: .NET's bound too.
const MAX_ROUNDS: u64 = 600_000;
/// Most rounds of all derivations of a file: the check value, the certificates and the key.
const MAX_TOTAL: u64 = 3 * MAX_ROUNDS;
/// Most that scrypt may ask for: N · r · p, at 128 bytes each. OpenSSL's default is 131,072.
const MAX_SCRYPT: u64 = 512 * 1024;

/// Content of object identifiers.
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
const PBMAC1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0e];
const PKCS12_PBE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01];
const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
/// The SHA-2 family but for its last number.
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
const SHA256_NUMBER: u8 = 1;

/// Purposes of PKCS#12's derivation (RFC 7292 B.3).
const FOR_KEY: u8 = 1;
const FOR_IV: u8 = 2;
const FOR_MAC: u8 = 3;

/// A password in both forms in which derivations take it.
pub(crate) struct Password {
    utf8: Zeroizing<Vec<u8>>,
    /// Big-endian UTF-16 with a terminator, or nothing where no password is meant.
    bmp: Zeroizing<Vec<u8>>,
}

impl Password {
    fn given(text: &str) -> Self {
        let bmp = text.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect();
        Self { utf8: Zeroizing::new(text.as_bytes().to_vec()), bmp: Zeroizing::new(bmp) }
    }

    /// No password: what .NET gives the files of its certificate stores.
    pub(crate) fn absent() -> Self {
        Self { utf8: Zeroizing::default(), bmp: Zeroizing::default() }
    }

    /// For writing.
    pub(crate) fn new(password: Option<&SecretString>) -> Self {
        match password {
            Some(text) if !text.expose_secret().is_empty() => Self::given(text.expose_secret()),
            _ => Self::absent(),
        }
    }

    /// For reading: programs disagree on what an empty password is, so both forms are tried.
    pub(crate) fn candidates(password: Option<&SecretString>) -> Vec<Self> {
        match password {
            Some(text) if !text.expose_secret().is_empty() => vec![Self::given(text.expose_secret())],
            _ => vec![Self::absent(), Self::given("")],
        }
    }
}

/// What is left of the work that a file may ask for.
pub(crate) struct Budget(u64);

impl Budget {
    pub(crate) fn new() -> Self {
        Self(MAX_TOTAL)
    }

    fn charge(&mut self, what: &'static str, rounds: u64, limit: u64, unit: &str) -> Result<(), IdentityError> {
        match self.0.checked_sub(rounds) {
            Some(left) if rounds <= limit => self.0 = left,
            Some(_) => {
                return Err(IdentityError::TooMuchWork { what, asked: format!("{rounds} {unit}"), limit: format!("{limit}") });
            }
            None => {
                return Err(IdentityError::TooMuchWork {
                    what,
                    asked: format!("{rounds} more {unit}"),
                    limit: format!("{MAX_TOTAL} for the whole file"),
                });
            }
        }
        Ok(())
    }
}

/// Decrypts what the algorithm identifier says. `None`: the password is not the right one.
pub(crate) fn decrypt(
    algorithm: Element<'_>,
    data: &[u8],
    password: &Password,
    budget: &mut Budget,
) -> Result<Option<Zeroizing<Vec<u8>>>, IdentityError> {
    let malformed = |e: DerError| IdentityError::malformed("encryption parameters", e);
    let mut fields = algorithm.inside();
    let oid = fields.expect(der::OID).map_err(malformed)?.content;
    if oid == PBES2 {
        return pbes2(algorithm, data, password, budget);
    }
    let Some((PKCS12_PBE, &[number])) = oid.split_at_checked(PKCS12_PBE.len()) else {
        return Err(IdentityError::UnsupportedProtection("an encryption scheme that is neither PBES2 nor PKCS#12's".to_owned()));
    };
    let mut parameters = fields.expect(der::SEQUENCE).map_err(malformed)?.inside();
    let salt = parameters.expect(der::OCTET_STRING).map_err(malformed)?.content;
    let rounds = parameters.number().map_err(malformed)?;
    let mut cipher = |length: usize| {
        // Two blocks of SHA-1 for a key of 24 bytes, and one for the initial vector.
        budget.charge("encryption", rounds, MAX_ROUNDS, "rounds")?;
        let derived = |purpose, length| derive(&digest::SHA1_FOR_LEGACY_USE_ONLY, purpose, password, salt, rounds, length);
        Ok((derived(FOR_KEY, length), derived(FOR_IV, 8)))
    };
    match number {
        3 => cipher(24).map(|(key, iv)| cbc_decrypt::<des::TdesEde3>(&key, &iv, data)),
        4 => cipher(16).map(|(key, iv)| cbc_decrypt::<des::TdesEde2>(&key, &iv, data)),
        5 => cipher(16).map(|(key, iv)| cbc_decrypt::<rc2::Rc2>(&key, &iv, data)),
        6 => cipher(5).map(|(key, iv)| cbc_decrypt::<rc2::Rc2>(&key, &iv, data)),
        _ => Err(IdentityError::UnsupportedProtection("RC4".to_owned())),
    }
}

fn pbes2(
    algorithm: Element<'_>,
    data: &[u8],
    password: &Password,
    budget: &mut Budget,
) -> Result<Option<Zeroizing<Vec<u8>>>, IdentityError> {
    let scheme =
        EncryptionScheme::from_der(algorithm.whole).map_err(|_| IdentityError::UnsupportedProtection("a variant of PBES2".to_owned()))?;
    match scheme.pbes2().map(|parameters| &parameters.kdf) {
        Some(Kdf::Pbkdf2(p)) => budget.charge("encryption", p.iteration_count.into(), MAX_ROUNDS, "rounds of PBKDF2")?,
        Some(Kdf::Scrypt(p)) => {
            let cost = p.cost_parameter.saturating_mul(p.block_size.into()).saturating_mul(p.parallelization.into());
            budget.charge("encryption", cost, MAX_SCRYPT, "blocks of scrypt (N · r · p)")?;
        }
        _ => return Err(IdentityError::UnsupportedProtection("a variant of PBES2".to_owned())),
    }
    match scheme.decrypt(&*password.utf8, data) {
        Ok(plain) => Ok(Some(Zeroizing::new(plain))),
        Err(pkcs8::pkcs5::Error::DecryptFailed | pkcs8::pkcs5::Error::EncryptFailed) => Ok(None),
        Err(e) => Err(IdentityError::UnsupportedProtection(e.to_string())),
    }
}

/// Encrypts with PBES2: PBKDF2 with HMAC-SHA-256, AES-256-CBC. Gives the algorithm identifier and the data.
pub(crate) fn encrypt(data: &[u8], password: &Password, rounds: u32) -> Result<(Vec<u8>, Vec<u8>), IdentityError> {
    let (salt, iv) = (random::<16>()?, random::<16>()?);
    let fail = |e: pkcs8::pkcs5::Error| IdentityError::malformed("encryption", e);
    let parameters = Parameters::generate_pbkdf2_sha256_aes256cbc(rounds, &salt, iv).map_err(fail)?;
    let encrypted = parameters.encrypt(&*password.utf8, data).map_err(fail)?;
    let algorithm = EncryptionScheme::from(parameters).to_der().map_err(|e| IdentityError::malformed("encryption", e))?;
    Ok((algorithm, encrypted))
}

/// Whether PKCS#12's check value (`MacData`) is right for the data.
pub(crate) fn mac_matches(mac: Element<'_>, data: &[u8], password: &Password, budget: &mut Budget) -> Result<bool, IdentityError> {
    let malformed = |e: DerError| IdentityError::malformed("PFX check value", e);
    let mut fields = mac.inside();
    let mut info = fields.expect(der::SEQUENCE).map_err(malformed)?.inside();
    let oid = info.expect(der::SEQUENCE).map_err(malformed)?.inside().expect(der::OID).map_err(malformed)?.content;
    let value = info.expect(der::OCTET_STRING).map_err(malformed)?.content;
    let salt = fields.expect(der::OCTET_STRING).map_err(malformed)?.content;
    let rounds = if fields.is_empty() { 1 } else { fields.number().map_err(malformed)? };
    let (digest, hmac) = match (oid, oid.split_at_checked(SHA2.len())) {
        (SHA1, _) => (&digest::SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        (_, Some((SHA2, &[4]))) => (&digest::SHA224, hmac::HMAC_SHA224),
        (_, Some((SHA2, &[SHA256_NUMBER]))) => (&digest::SHA256, hmac::HMAC_SHA256),
        (_, Some((SHA2, &[2]))) => (&digest::SHA384, hmac::HMAC_SHA384),
        (_, Some((SHA2, &[3]))) => (&digest::SHA512, hmac::HMAC_SHA512),
        (PBMAC1, _) => return Err(IdentityError::UnsupportedProtection("PBMAC1".to_owned())),
        _ => return Err(IdentityError::UnsupportedProtection("a check value of an unknown digest".to_owned())),
    };
    budget.charge("PFX check value", rounds, MAX_ROUNDS, "rounds")?;
    let key = derive(digest, FOR_MAC, password, salt, rounds, digest.output_len);
    Ok(hmac::verify(&hmac::Key::new(hmac, &key), data, value).is_ok())
}

/// A check value (`MacData`) with SHA-256.
pub(crate) fn mac(data: &[u8], password: &Password, rounds: u32) -> Result<Vec<u8>, IdentityError> {
    let salt = random::<16>()?;
    let key = derive(&digest::SHA256, FOR_MAC, password, &salt, rounds.into(), digest::SHA256.output_len);
    let value = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), data);
    let algorithm = der::element(der::SEQUENCE, &[&der::element(der::OID, &[SHA2, &[SHA256_NUMBER]]), &[der::NULL, 0]]);
    let info = der::element(der::SEQUENCE, &[&algorithm, &der::element(der::OCTET_STRING, &[value.as_ref()])]);
    Ok(der::element(der::SEQUENCE, &[&info, &der::element(der::OCTET_STRING, &[&salt]), &der::number(rounds)]))
}

fn cbc_decrypt<C: BlockCipherDecrypt + KeyInit>(key: &[u8], iv: &[u8], data: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let plain = Decryptor::<C>::new_from_slices(key, iv).ok()?.decrypt_padded_vec::<Pkcs7>(data).ok()?;
    Some(Zeroizing::new(plain))
}

/// PKCS#12's key derivation (RFC 7292 B.2); the names u, v, D, I, A, B are its.
fn derive(
    hash: &'static digest::Algorithm,
    purpose: u8,
    password: &Password,
    salt: &[u8],
    rounds: u64,
    length: usize,
) -> Zeroizing<Vec<u8>> {
    let v = hash.block_len();
    let diversifier = vec![purpose; v];
    let fill = |bytes: &[u8]| bytes.iter().copied().cycle().take(bytes.len().div_ceil(v) * v).collect::<Vec<_>>();
    let mut input = Zeroizing::new(fill(salt));
    input.extend_from_slice(&Zeroizing::new(fill(&password.bmp)));
    let mut derived = Zeroizing::new(Vec::with_capacity(length + hash.output_len));
    while derived.len() < length {
        let mut context = digest::Context::new(hash);
        context.update(&diversifier);
        context.update(&input);
        let mut a = context.finish();
        for _ in 1..rounds {
            a = digest::digest(hash, a.as_ref());
        }
        derived.extend_from_slice(a.as_ref());
        // Every block of I becomes I + B + 1, modulo 2 to the length of a block.
        let b: Vec<u8> = a.as_ref().iter().copied().cycle().take(v).collect();
        for block in input.chunks_mut(v) {
            let mut carry = 1u16;
            for (digit, add) in block.iter_mut().zip(&b).rev() {
                carry += u16::from(*digit) + u16::from(*add);
                let [high, low] = carry.to_be_bytes();
                *digit = low;
                carry = high.into();
            }
        }
    }
    derived.truncate(length);
    derived
}
