//! PKCS#12 files (RFC 7292), also called PFX: one key with its certificates.
//!
//! Reading and writing are written out here because the files of .NET's certificate stores have *no* password, which is
//! another thing than an empty one, because the work that a file asks for must be bounded in total, and because decrypted
//! keys are wiped.

use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use zeroize::Zeroizing;

use crate::der::{self, DerError, Element, Reader};
use crate::pbe::{self, Budget, Password};
use crate::{Certificate, Identity, IdentityError, PrivateKey};

/// Longest file, in bytes.
const MAX_BYTES: usize = 1024 * 1024;
/// Most items (keys, certificates, others) in a file.
const MAX_BAGS: usize = 64;
/// Rounds when writing: .NET bounds the work for files without a password.
const ROUNDS: u32 = 2000;

/// Content of object identifiers.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x06];
/// Bag types but for their last number.
const BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01];
const KEY_BAG: u8 = 1;
const SHROUDED_KEY_BAG: u8 = 2;
const CERTIFICATE_BAG: u8 = 3;
const SAFE_CONTENTS_BAG: u8 = 6;
const X509_CERTIFICATE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
const LOCAL_KEY_ID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x15];
const IMPLICIT_OCTETS_0: u8 = 0x80;

/// Reads a PFX file. Without a password, or with an empty one, both forms of an empty password are tried.
///
/// # Errors
/// A wrong or missing password, another number of keys than one, a key that is not RSA or fits no certificate, a bad
/// form, or more work than an honest file asks for.
pub fn read(bytes: &[u8], password: Option<&SecretString>) -> Result<Identity, IdentityError> {
    if bytes.len() > MAX_BYTES {
        return Err(IdentityError::TooLarge { what: "PFX file", limit: MAX_BYTES, unit: "bytes" });
    }
    let mut file = Reader::only(bytes, der::SEQUENCE).map_err(malformed)?;
    if file.number().map_err(malformed)? != 3 {
        return Err(IdentityError::malformed("PFX file", "its version is not 3"));
    }
    let (kind, safes) = content_info(file.expect(der::SEQUENCE).map_err(malformed)?)?;
    if kind != DATA {
        return Err(IdentityError::UnsupportedProtection("a signature instead of a check value".to_owned()));
    }
    let safes = inner_octets(safes)?;
    let mac = file.optional(der::SEQUENCE).map_err(malformed)?;
    file.end().map_err(malformed)?;
    for candidate in Password::candidates(password) {
        let mut reading = Reading { password: candidate, budget: Budget::new(), keys: Vec::new(), certificates: Vec::new(), bags: 0 };
        let right = match mac {
            Some(mac) => pbe::mac_matches(mac, safes, &reading.password, &mut reading.budget)?,
            None => true,
        };
        if right && reading.safes(safes)? {
            return Identity::join(reading.keys, reading.certificates);
        }
    }
    let given = password.is_some_and(|p| !p.expose_secret().is_empty());
    Err(if given { IdentityError::WrongPassword } else { IdentityError::PasswordNeeded })
}

/// Writes a PFX file: AES-256 (PBES2) and a check value with SHA-256, 2,000 rounds; without a password where none is given.
///
/// # Errors
/// Where the cryptographic library refuses.
pub fn write(identity: &Identity, password: Option<&SecretString>) -> Result<SecretSlice<u8>, IdentityError> {
    let password = Password::new(password);
    let key_id = identity.certificate.sha1();
    let bag = |kind: u8, value: &[u8], named: bool| {
        let id = der::element(der::SET, &[&der::element(der::OCTET_STRING, &[&key_id])]);
        let attribute = der::element(der::SEQUENCE, &[&der::element(der::OID, &[LOCAL_KEY_ID]), &id]);
        let attributes = if named { der::element(der::SET, &[&attribute]) } else { Vec::new() };
        der::element(der::SEQUENCE, &[&der::element(der::OID, &[BAG, &[kind]]), &der::element(der::EXPLICIT_0, &[value]), &attributes])
    };
    let mut certificates = Vec::new();
    for (index, certificate) in std::iter::once(&identity.certificate).chain(&identity.chain).enumerate() {
        let octets = der::element(der::EXPLICIT_0, &[&der::element(der::OCTET_STRING, &[certificate.as_der()])]);
        let value = der::element(der::SEQUENCE, &[&der::element(der::OID, &[X509_CERTIFICATE]), &octets]);
        certificates.extend(bag(CERTIFICATE_BAG, &value, index == 0));
    }
    let (algorithm, encrypted) = pbe::encrypt(&der::element(der::SEQUENCE, &[&certificates]), &password, ROUNDS)?;
    let content =
        der::element(der::SEQUENCE, &[&der::element(der::OID, &[DATA]), &algorithm, &der::element(IMPLICIT_OCTETS_0, &[&encrypted])]);
    let encrypted_data = der::element(der::SEQUENCE, &[&der::number(0), &content]);
    let certificates =
        der::element(der::SEQUENCE, &[&der::element(der::OID, &[ENCRYPTED_DATA]), &der::element(der::EXPLICIT_0, &[&encrypted_data])]);
    let (algorithm, encrypted) = pbe::encrypt(identity.key.pkcs8(), &password, ROUNDS)?;
    let key = der::element(der::SEQUENCE, &[&algorithm, &der::element(der::OCTET_STRING, &[&encrypted])]);
    let key = data(&der::element(der::SEQUENCE, &[&bag(SHROUDED_KEY_BAG, &key, true)]));
    let safes = der::element(der::SEQUENCE, &[&certificates, &key]);
    let mac = pbe::mac(&safes, &password, ROUNDS)?;
    Ok(der::element(der::SEQUENCE, &[&der::number(3), &data(&safes), &mac]).into())
}

/// A content info of kind data.
fn data(content: &[u8]) -> Vec<u8> {
    let octets = der::element(der::EXPLICIT_0, &[&der::element(der::OCTET_STRING, &[content])]);
    der::element(der::SEQUENCE, &[&der::element(der::OID, &[DATA]), &octets])
}

/// What one attempt with one password found.
struct Reading {
    password: Password,
    budget: Budget,
    keys: Vec<PrivateKey>,
    certificates: Vec<Certificate>,
    bags: usize,
}

impl Reading {
    /// `false`: the password does not open one of the safes.
    fn safes(&mut self, safes: &[u8]) -> Result<bool, IdentityError> {
        let mut safes = Reader::only(safes, der::SEQUENCE).map_err(malformed)?;
        while !safes.is_empty() {
            let (kind, content) = content_info(safes.expect(der::SEQUENCE).map_err(malformed)?)?;
            let opened = match kind {
                DATA => self.bags(inner_octets(content)?)?,
                ENCRYPTED_DATA => {
                    let mut fields = Reader::only(content, der::SEQUENCE).map_err(malformed)?;
                    fields.number().map_err(malformed)?;
                    let mut info = fields.expect(der::SEQUENCE).map_err(malformed)?.inside();
                    info.expect(der::OID).map_err(malformed)?;
                    let algorithm = info.expect(der::SEQUENCE).map_err(malformed)?;
                    let encrypted = info.expect(IMPLICIT_OCTETS_0).map_err(malformed)?.content;
                    match pbe::decrypt(algorithm, encrypted, &self.password, &mut self.budget)? {
                        Some(plain) => self.bags(&plain)?,
                        None => false,
                    }
                }
                _ => return Err(IdentityError::UnsupportedProtection("encryption to a public key".to_owned())),
            };
            if !opened {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn bags(&mut self, contents: &[u8]) -> Result<bool, IdentityError> {
        let mut bags = Reader::only(contents, der::SEQUENCE).map_err(malformed)?;
        while !bags.is_empty() {
            self.bags += 1;
            if self.bags > MAX_BAGS {
                return Err(IdentityError::TooLarge { what: "PFX file", limit: MAX_BAGS, unit: "keys and certificates" });
            }
            let mut bag = bags.expect(der::SEQUENCE).map_err(malformed)?.inside();
            let oid = bag.expect(der::OID).map_err(malformed)?.content;
            let value = bag.expect(der::EXPLICIT_0).map_err(malformed)?.content;
            let Some((BAG, &[kind])) = oid.split_at_checked(BAG.len()) else { continue };
            match kind {
                KEY_BAG => self.keys.push(PrivateKey::from_pkcs8(Zeroizing::new(value.to_vec()))?),
                SHROUDED_KEY_BAG => match encrypted_key(value, &self.password, &mut self.budget)? {
                    Some(key) => self.keys.push(key),
                    None => return Ok(false),
                },
                CERTIFICATE_BAG => {
                    let mut fields = Reader::only(value, der::SEQUENCE).map_err(malformed)?;
                    if fields.expect(der::OID).map_err(malformed)?.content == X509_CERTIFICATE {
                        let octets = inner_octets(fields.expect(der::EXPLICIT_0).map_err(malformed)?.content)?;
                        self.certificates.push(Certificate::from_der(octets)?);
                    }
                }
                SAFE_CONTENTS_BAG => return Err(IdentityError::malformed("PFX file", "it has containers within containers")),
                // Revocation lists and other secrets are nothing that an identity needs.
                _ => {}
            }
        }
        Ok(true)
    }
}

/// Opens `EncryptedPrivateKeyInfo` (RFC 5958 3). `None`: the password is not the right one.
pub(crate) fn encrypted_key(bytes: &[u8], password: &Password, budget: &mut Budget) -> Result<Option<PrivateKey>, IdentityError> {
    let malformed = |e: DerError| IdentityError::malformed("encrypted private key", e);
    let mut fields = Reader::only(bytes, der::SEQUENCE).map_err(malformed)?;
    let algorithm = fields.expect(der::SEQUENCE).map_err(malformed)?;
    let encrypted = fields.expect(der::OCTET_STRING).map_err(malformed)?.content;
    match pbe::decrypt(algorithm, encrypted, password, budget)? {
        // One time in 256 a wrong password leaves valid padding; then the content is no element.
        Some(plain) if Reader::only(&plain, der::SEQUENCE).is_ok() => PrivateKey::from_pkcs8(plain).map(Some),
        _ => Ok(None),
    }
}

/// Kind and content of a `ContentInfo`; an absent content is an error, not a crash (CVE-2024-0727).
fn content_info(info: Element<'_>) -> Result<(&[u8], &[u8]), IdentityError> {
    let mut fields = info.inside();
    let kind = fields.expect(der::OID).map_err(malformed)?.content;
    let content = fields.expect(der::EXPLICIT_0).map_err(malformed)?.content;
    Ok((kind, content))
}

fn inner_octets(bytes: &[u8]) -> Result<&[u8], IdentityError> {
    let mut reader = Reader::new(bytes);
    let octets = reader.expect(der::OCTET_STRING).map_err(malformed)?.content;
    reader.end().map_err(malformed)?;
    Ok(octets)
}

fn malformed(error: DerError) -> IdentityError {
    IdentityError::malformed("PFX file", error)
}
