//! PEM files (RFC 7468): certificates, keys in PKCS#8 and PKCS#1, encrypted or not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::{Zeroize as _, Zeroizing};

use crate::pbe::{Budget, Password};
use crate::{Certificate, Identity, IdentityError, PrivateKey, pfx};

/// Longest file, in bytes.
const MAX_BYTES: usize = 1024 * 1024;
/// Most blocks in a file.
const MAX_BLOCKS: usize = 64;

/// The certificates of a file.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The first one.
    pub certificate: Certificate,
    /// The others, in their order.
    pub others: Vec<Certificate>,
    /// The file holds a private key too; it was not read.
    pub holds_key: bool,
}

/// Whether the bytes look like PEM.
#[must_use]
pub(crate) fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(11).any(|w| w == b"-----BEGIN ")
}

/// Reads one private key and its certificate, from one file or from two. The password opens an encrypted key.
///
/// # Errors
/// Another number of keys than one, a key that is not RSA or fits no certificate, a wrong or missing password, a bad
/// form, or more work than an honest file asks for.
pub fn read_identity(first: &[u8], second: Option<&[u8]>, password: Option<&SecretString>) -> Result<Identity, IdentityError> {
    let (mut keys, mut certificates) = (Vec::new(), Vec::new());
    for file in std::iter::once(first).chain(second) {
        for block in blocks(file)? {
            match block.label.as_str() {
                "CERTIFICATE" => certificates.push(Certificate::from_der(&block.der)?),
                "PRIVATE KEY" => keys.push(PrivateKey::from_pkcs8(block.der)?),
                "RSA PRIVATE KEY" if block.encrypted => {
                    return Err(IdentityError::UnsupportedProtection("OpenSSL's old PEM encryption (DEK-Info)".to_owned()));
                }
                "RSA PRIVATE KEY" => keys.push(PrivateKey::from_pkcs1(&block.der)?),
                "EC PRIVATE KEY" => return Err(IdentityError::EllipticCurve),
                "ENCRYPTED PRIVATE KEY" => {
                    let given = password.filter(|p| !p.expose_secret().is_empty()).ok_or(IdentityError::PasswordNeeded)?;
                    let key = pfx::encrypted_key(&block.der, &Password::new(Some(given)), &mut Budget::new())?;
                    keys.push(key.ok_or(IdentityError::WrongPassword)?);
                }
                // Parameters, requests, public keys.
                _ => {}
            }
        }
    }
    Identity::join(keys, certificates)
}

/// Reads the certificates of a PEM file, or the one that a DER file is. Private keys are not touched.
///
/// # Errors
/// No certificate in it, or one that cannot be read.
pub fn read_certificates(bytes: &[u8]) -> Result<Certificates, IdentityError> {
    if !is_pem(bytes) {
        let certificate = Certificate::from_der(bytes)?;
        return Ok(Certificates { certificate, others: Vec::new(), holds_key: false });
    }
    let mut holds_key = false;
    let mut certificates = Vec::new();
    for block in blocks(bytes)? {
        match block.label.as_str() {
            "CERTIFICATE" => certificates.push(Certificate::from_der(&block.der)?),
            label => holds_key |= label.ends_with("PRIVATE KEY"),
        }
    }
    let mut certificates = certificates.into_iter();
    let certificate = certificates.next().ok_or(IdentityError::NoCertificate)?;
    Ok(Certificates { certificate, others: certificates.collect(), holds_key })
}

/// Certificate, chain and key (PKCS#8, not encrypted) in one text.
#[must_use]
pub fn write_identity(identity: &Identity) -> SecretString {
    let mut text: String = std::iter::once(&identity.certificate).chain(&identity.chain).map(Certificate::to_pem).collect();
    let mut key = block("PRIVATE KEY", identity.key.pkcs8());
    let whole = format!("{text}{key}");
    text.zeroize();
    key.zeroize();
    whole.into()
}

/// One block of text.
pub(crate) fn block(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(STANDARD.encode(der));
    let mut text = String::with_capacity(body.len() * 66 / 64 + 80);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in body.as_bytes().chunks(64) {
        // Base64 is ASCII.
        text.push_str(str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

struct Block {
    label: String,
    /// It has RFC 1421 headers, which OpenSSL writes for its old encryption.
    encrypted: bool,
    der: Zeroizing<Vec<u8>>,
}

/// All blocks; what stands around them is ignored, as RFC 7468 5.2 allows.
fn blocks(bytes: &[u8]) -> Result<Vec<Block>, IdentityError> {
    if bytes.len() > MAX_BYTES {
        return Err(IdentityError::TooLarge { what: "PEM file", limit: MAX_BYTES, unit: "bytes" });
    }
    let text = str::from_utf8(bytes).map_err(|_| IdentityError::malformed("PEM file", "it is not text"))?;
    let mut found = Vec::new();
    let mut open: Option<(&str, bool, Zeroizing<String>)> = None;
    for line in text.trim_start_matches('\u{feff}').lines().map(str::trim) {
        let marker = |word: &str| line.strip_prefix("-----")?.strip_prefix(word)?.strip_suffix("-----");
        match &mut open {
            None => {
                if let Some(label) = marker("BEGIN ") {
                    open = Some((label, false, Zeroizing::new(String::with_capacity(bytes.len()))));
                }
            }
            Some((label, encrypted, body)) => {
                if let Some(end) = marker("END ") {
                    if end != *label {
                        return Err(IdentityError::malformed("PEM file", "a block ends under another name than it begins"));
                    }
                    if found.len() == MAX_BLOCKS {
                        return Err(IdentityError::TooLarge { what: "PEM file", limit: MAX_BLOCKS, unit: "blocks" });
                    }
                    let der =
                        STANDARD.decode(body.as_bytes()).map_err(|_| IdentityError::malformed("PEM file", "a block is not base64"))?;
                    found.push(Block { label: (*label).to_owned(), encrypted: *encrypted, der: Zeroizing::new(der) });
                    open = None;
                } else if line.contains(':') {
                    *encrypted |= line.starts_with("Proc-Type") || line.starts_with("DEK-Info");
                } else {
                    body.push_str(line);
                }
            }
        }
    }
    if open.is_some() {
        return Err(IdentityError::malformed("PEM file", "its last block does not end"));
    }
    Ok(found)
}
