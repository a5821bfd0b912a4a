//! Making certificates: self-signed ones for applications, and a lab's authority with its server certificate.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_RSA_SHA256, SerialNumber,
};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

use crate::key::random;
use crate::{Certificate, Identity, IdentityError, PrivateKey};

/// Begin of a life before its making, in seconds: clocks differ.
const BACKDATED: i64 = 600;
const DAY: i64 = 86_400;
/// Life of a lab's authority, in days.
const AUTHORITY_DAYS: i64 = 30;
/// Longest life of a certificate, in days.
const MAX_DAYS: u32 = 36_500;
/// What a lab answers to beside its aliases.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Attribute names of a subject, with the number of their type where rcgen has no word for it.
const ATTRIBUTES: &[(&str, DnType)] = &[
    ("CN", DnType::CommonName),
    ("O", DnType::OrganizationName),
    ("OU", DnType::OrganizationalUnitName),
    ("C", DnType::CountryName),
    ("L", DnType::LocalityName),
    ("ST", DnType::StateOrProvinceName),
    ("S", DnType::StateOrProvinceName),
];

/// A self-signed certificate with a new RSA key of 2048 bits, as Entra takes it for applications and as
/// `New-SelfSignedCertificate` makes it: SHA-256, for signatures and key encipherment, client and server authentication.
/// `subject` is `CN=ExOPS`, with further attributes after commas; a text without `=` is a common name.
///
/// # Errors
/// A subject that is not understood, or a life of no days or more than 36,500. `now` is unix seconds.
pub fn self_signed(subject: &str, days: u32, now: i64) -> Result<Identity, IdentityError> {
    if !(1..=MAX_DAYS).contains(&days) {
        return Err(IdentityError::malformed("life", format!("{days} days; 1 to {MAX_DAYS} are possible")));
    }
    let mut params = parameters(distinguished_name(subject)?, now, now.saturating_add(i64::from(days) * DAY))?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let key = PrivateKey::generate()?;
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&key.pkcs8().into(), &PKCS_RSA_SHA256).map_err(library)?;
    let certificate = Certificate::from_der(params.self_signed(&pair).map_err(library)?.der())?;
    Ok(Identity { certificate, chain: Vec::new(), key })
}

/// The authority of one lab. It can vouch for this machine and the lab's aliases and for nothing else: its name
/// constraints are critical.
#[derive(Debug)]
pub struct LabAuthority {
    certificate: Certificate,
    key: KeyPair,
}

/// A new authority for a lab, valid for 30 days. `aliases` are host names beside `localhost`. `now` is unix seconds.
///
/// # Errors
/// An alias that is no host name.
pub fn lab_authority(aliases: &[String], now: i64) -> Result<LabAuthority, IdentityError> {
    let mut params = parameters(distinguished_name("CN=exops lab authority")?, now, now.saturating_add(AUTHORITY_DAYS * DAY))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let mut permitted = vec![GeneralSubtree::DnsName("localhost".to_owned())];
    for alias in aliases {
        permitted.push(GeneralSubtree::DnsName(host_name(alias)?.to_owned()));
    }
    permitted.push(GeneralSubtree::IpAddress(CidrSubnet::V4([127, 0, 0, 0], [255, 0, 0, 0])));
    permitted.push(GeneralSubtree::IpAddress(CidrSubnet::V6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [0xff; 16])));
    params.name_constraints = Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() });
    let key = KeyPair::generate().map_err(library)?;
    let certificate = Certificate::from_der(params.self_signed(&key).map_err(library)?.der())?;
    Ok(LabAuthority { certificate, key })
}

impl LabAuthority {
    /// Reads what [`LabAuthority::certificate`] and [`LabAuthority::key_pem`] gave.
    ///
    /// # Errors
    /// Not those.
    pub fn from_pem(certificate: &[u8], key: &SecretString) -> Result<Self, IdentityError> {
        let certificate = crate::pem::read_certificates(certificate)?.certificate;
        let key =
            KeyPair::from_pem(key.expose_secret()).map_err(|_| IdentityError::malformed("key of the lab's authority", "it is no key"))?;
        Ok(Self { certificate, key })
    }

    /// The certificate: what clients of the lab trust.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The key. It never leaves the lab's data folder.
    #[must_use]
    pub fn key_pem(&self) -> SecretString {
        self.key.serialize_pem().into()
    }
}

/// A server certificate with its key.
#[derive(Debug)]
pub struct ServerCertificate {
    /// The certificate.
    pub certificate: Certificate,
    /// Its key as PKCS#8 (elliptic curve P-256).
    pub key: SecretSlice<u8>,
}

/// A certificate for the lab's listener: `localhost`, `127.0.0.1`, `::1` and the aliases, valid as long as its authority.
/// `now` is unix seconds.
///
/// # Errors
/// An alias that is no host name.
pub fn server_certificate(authority: &LabAuthority, aliases: &[String], now: i64) -> Result<ServerCertificate, IdentityError> {
    let mut params = parameters(distinguished_name("CN=localhost")?, now, authority.certificate.not_after())?;
    let mut names: Vec<String> = LOOPBACK.map(str::to_owned).to_vec();
    for alias in aliases {
        names.push(host_name(alias)?.to_owned());
    }
    params.subject_alt_names = CertificateParams::new(names).map_err(library)?.subject_alt_names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let issuer = Issuer::from_ca_cert_der(&authority.certificate.as_der().into(), &authority.key).map_err(library)?;
    let key = KeyPair::generate().map_err(library)?;
    let certificate = Certificate::from_der(params.signed_by(&key, &issuer).map_err(library)?.der())?;
    Ok(ServerCertificate { certificate, key: key.serialize_der().into() })
}

/// Subject, life and a random positive serial number of 16 bytes.
fn parameters(subject: DistinguishedName, now: i64, end: i64) -> Result<CertificateParams, IdentityError> {
    let mut serial = random::<16>()?;
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + seconds(now.saturating_sub(BACKDATED))?;
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + seconds(end)?;
    Ok(params)
}

/// Since 1970; up to the year 9999, which is the last that a certificate can say.
fn seconds(unix: i64) -> Result<Duration, IdentityError> {
    let in_range = u64::try_from(unix).ok().filter(|s| *s < 253_402_300_800);
    in_range.map(Duration::from_secs).ok_or_else(|| IdentityError::malformed("life", "it does not lie between 1970 and 9999"))
}

fn distinguished_name(subject: &str) -> Result<DistinguishedName, IdentityError> {
    let fail = |reason: String| IdentityError::malformed("subject", reason);
    let mut name = DistinguishedName::new();
    if !subject.contains('=') && !subject.trim().is_empty() {
        name.push(DnType::CommonName, subject.trim());
        return Ok(name);
    }
    for part in subject.split(',') {
        let (attribute, value) = part.split_once('=').ok_or_else(|| fail(format!("\"{}\" has no '='", part.trim())))?;
        let (attribute, value) = (attribute.trim(), value.trim());
        let (_, kind) = ATTRIBUTES.iter().find(|(n, _)| n.eq_ignore_ascii_case(attribute)).ok_or_else(|| {
            let known = ATTRIBUTES.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
            fail(format!("the attribute \"{attribute}\" is not known; these are: {known}"))
        })?;
        if value.is_empty() || name.get(kind).is_some() {
            return Err(fail(format!("the attribute \"{attribute}\" is empty or occurs twice")));
        }
        if *kind == DnType::CountryName {
            let country = value.try_into().ok().filter(|_| value.len() == 2);
            let country = country.ok_or_else(|| fail(format!("\"{value}\" is no country code of two letters")))?;
            name.push(kind.clone(), DnValue::PrintableString(country));
        } else {
            name.push(kind.clone(), value);
        }
    }
    Ok(name)
}

fn host_name(alias: &str) -> Result<&str, IdentityError> {
    let label = |l: &str| {
        (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !l.starts_with('-') && !l.ends_with('-')
    };
    let is_name = alias.len() <= 253
        && alias.split('.').all(label)
        && !alias.split('.').next_back().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    if is_name { Ok(alias) } else { Err(IdentityError::malformed("host name", format!("\"{alias}\" is none"))) }
}

fn library(error: rcgen::Error) -> IdentityError {
    IdentityError::malformed("new certificate", error)
}
