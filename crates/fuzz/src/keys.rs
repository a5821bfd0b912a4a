//! Key files, certificates, DER; assertions and tokens.

use std::sync::LazyLock;

use exops_auth::assertion::{self, Expected, RegisteredKey, Request};
use exops_auth::session_key::SessionKey;
use exops_auth::token::{self, ClientCredential, Grant, KeySet, SigningKey};
use exops_auth::{Certificate, Identity, RsaPublicKey, Thumbprint, issue, pem, pfx};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use crate::{Outcome, Problem, holds, refused, same, taken};

/// 2026-11-24T12:00:00Z.
const NOW: i64 = 1_795_521_600;
const CLIENT: &str = "11111111-2222-3333-4444-555555555555";
const AUDIENCE: &str = "https://localhost/token";
const RESOURCE: &str = "https://outlook.office365.com";

pub(crate) const PEM: &[&[u8]] = &[
    b"-----BEGIN CERTIFICATE-----\n",
    b"-----END CERTIFICATE-----\n",
    b"-----BEGIN PRIVATE KEY-----\n",
    b"-----END PRIVATE KEY-----\n",
    b"-----BEGIN RSA PRIVATE KEY-----\n",
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
    b"Proc-Type: 4,ENCRYPTED\n",
    b"\x30\x82\xff\xff",
    b"\x30\x80",
    b"\x30\x84\xff\xff\xff\xff",
    b"\x02\x01\x01",
    b"\x02\x04\x7f\xff\xff\xff",
    b"\x04\x00",
    b"\x05\x00",
    b"\x31\x00",
    b"\xa0\x82",
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01",
    b"====",
    b"\xef\xbb\xbf",
];
pub(crate) const JWT: &[&[u8]] = &[
    b".",
    b"..",
    b"e30",
    b"eyJhbGciOiJub25lIn0",
    b"eyJhbGciOiJIUzI1NiJ9",
    b"=",
    b"-",
    b"_",
    b"+/",
    b"AAAA",
    b"Bearer ",
    b"{",
    b"\xe2\x80\x8e",
];

/// What the targets know: made once a process, since keys are random.
struct Known {
    identity: Identity,
    registered: Vec<RegisteredKey>,
    assertion: SecretString,
    token: SecretString,
    keys: KeySet,
    session: SessionKey,
}

static KNOWN: LazyLock<Option<Known>> = LazyLock::new(|| {
    let identity = issue::self_signed("CN=ExOPS", 365, NOW).ok()?;
    let certificate = &identity.certificate;
    let registered = vec![RegisteredKey {
        key_id: Uuid::from_u128(7),
        sha1: certificate.sha1(),
        sha256: certificate.sha256(),
        key: certificate.public_key().ok()?,
        start: certificate.not_before(),
        end: certificate.not_after(),
    }];
    let request = Request { client_id: CLIENT, audience: AUDIENCE, jti: Uuid::from_u128(1), now: NOW, chain: None };
    let assertion = assertion::sign(&identity, &request).ok()?;
    let signing = SigningKey::generate(NOW).ok()?;
    let grant = Grant {
        tenant: Uuid::from_u128(1),
        audience: RESOURCE,
        app_id: Uuid::from_u128(2),
        object_id: Uuid::from_u128(3),
        app_display_name: "fuzz",
        credential: ClientCredential::Certificate,
        roles: &["Exchange.ManageAsApp".to_owned()],
        directory_roles: &[Uuid::from_u128(4)],
        lab: true,
        unique_id: Uuid::from_u128(5),
    };
    let token = token::mint(&signing, &grant, NOW).ok()?;
    let keys = KeySet::of(std::slice::from_ref(&signing)).ok()?;
    Some(Known { registered, assertion, token, keys, session: SessionKey::generate().ok()?, identity })
});

fn known() -> Result<&'static Known, Problem> {
    KNOWN.as_ref().ok_or_else(|| "no keys could be made".to_owned())
}

fn password() -> SecretString {
    SecretString::from("secret")
}

pub(crate) fn key_files(input: &[u8]) -> Result<Outcome, Problem> {
    let mut outcome: Outcome = 0;
    for password in [None, Some(password())] {
        match Identity::read(input, password.as_ref()) {
            Ok(identity) => {
                let written = pem::write_identity(&identity);
                let again = Identity::read(written.expose_secret().as_bytes(), None)
                    .map_err(|error| format!("what is written is not read: {error}"))?;
                same("written again, the certificate differs", &identity.certificate.as_der(), &again.certificate.as_der())?;
                holds("written again, the key differs", identity.key.pkcs8() == again.key.pkcs8())?;
                outcome ^= taken(&[1, identity.chain.len()]);
            }
            Err(error) => outcome = refused(&error) ^ outcome.rotate_left(7),
        }
    }
    match pem::read_certificates(input) {
        Ok(_) => outcome ^= 0x10,
        Err(error) => outcome ^= refused(&error).rotate_left(11),
    }
    match Certificate::from_der(input) {
        Ok(certificate) => {
            same("a certificate is not the bytes that it was read from", &input, &certificate.as_der())?;
            holds(
                "it has its own thumbprint",
                Thumbprint::parse(&certificate.sha1_thumbprint()).is_ok_and(|own| certificate.has_thumbprint(&own)),
            )?;
            let _ = certificate.public_key();
            outcome ^= taken(&[2, certificate.subject().len(), certificate.key_bits()]);
        }
        Err(error) => outcome ^= refused(&error).rotate_left(13),
    }
    let _ = RsaPublicKey::from_der(input).map(|_| outcome ^= 0x20);
    let _ = exops_auth::PrivateKey::from_pkcs1(input).map(|_| outcome ^= 0x40);
    Ok(outcome)
}

/// A DER element of up to 65,535 bytes with its content given in parts.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    let head = match length {
        0..=0x7f => vec![tag, low],
        0x80..=0xff => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head, content].concat()
}

/// A PFX file without encryption and check value, so that mutations reach its bags.
fn open_pfx(identity: &Identity) -> Vec<u8> {
    const DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
    const BAG: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01";
    const X509: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x16\x01";
    let data = |content: &[u8]| element(0x30, &[&element(6, &[DATA]), &element(0xa0, &[&element(4, &[content])])]);
    let bag = |kind: u8, value: &[u8]| element(0x30, &[&element(6, &[BAG, &[kind]]), &element(0xa0, &[value])]);
    let certificate = element(0x30, &[&element(6, &[X509]), &element(0xa0, &[&element(4, &[identity.certificate.as_der()])])]);
    let bags = element(0x30, &[&bag(3, &certificate), &bag(1, identity.key.pkcs8())]);
    element(0x30, &[&element(2, &[&[3]]), &data(&element(0x30, &[&data(&bags)]))])
}

pub(crate) fn key_file_seeds() -> Vec<Vec<u8>> {
    let Ok(Known { identity, .. }) = known() else { return Vec::new() };
    let pfx =
        |password: Option<&SecretString>| pfx::write(identity, password).map(|bytes| bytes.expose_secret().to_vec()).unwrap_or_default();
    vec![
        pem::write_identity(identity).expose_secret().as_bytes().to_vec(),
        open_pfx(identity),
        pfx(None),
        pfx(Some(&password())),
        identity.certificate.as_der().to_vec(),
        identity.key.pkcs8().to_vec(),
        identity.certificate.to_pem().repeat(3).into_bytes(),
    ]
}

/// A text: as an assertion, as a token, as a thumbprint, as the content of a SecureString. Nothing but what was signed
/// may be taken.
pub(crate) fn tokens(input: &[u8]) -> Result<Outcome, Problem> {
    let known = known()?;
    let Ok(text) = std::str::from_utf8(input) else { return Ok(1) };
    let signed = |text: &str, genuine: &SecretString| {
        let part = |text: &str| text.rsplit_once('.').map(|(signed, _)| signed.to_owned());
        part(text) == part(genuine.expose_secret())
    };
    let mut outcome: Outcome = 0;
    for strict in [false, true] {
        let expected = Expected { client_id: CLIENT, keys: &known.registered, audience: &|audience| audience == AUDIENCE, strict };
        match assertion::verify(text, &expected, NOW) {
            Ok(_) => {
                holds("an assertion is taken that nobody signed", signed(text, &known.assertion))?;
                outcome ^= 0x100;
            }
            Err(error) => outcome = refused(&error) ^ outcome.rotate_left(3),
        }
    }
    let expected = token::Expected { audiences: &[RESOURCE.to_owned()] };
    match token::verify(text, &known.keys, &expected, NOW) {
        Ok(_) => {
            holds("a token is taken that nobody signed", signed(text, &known.token))?;
            outcome ^= 0x200;
        }
        Err(error) => outcome ^= refused(&error).rotate_left(17),
    }
    match token::read_unverified(&SecretString::from(text)) {
        Ok(claims) => outcome ^= taken(&[claims.len()]),
        Err(error) => outcome ^= refused(&error).rotate_left(19),
    }
    match Thumbprint::parse(text) {
        Ok(thumbprint) => holds("a thumbprint of another length", [20, 32].contains(&thumbprint.as_bytes().len()))?,
        Err(error) => outcome ^= refused(&error).rotate_left(23),
    }
    match known.session.decrypt(text) {
        Ok(secret) => outcome ^= taken(&[secret.expose_secret().len()]),
        Err(error) => outcome ^= refused(&error).rotate_left(29),
    }
    Ok(outcome)
}

pub(crate) fn token_seeds() -> Vec<Vec<u8>> {
    let Ok(known) = known() else { return Vec::new() };
    let thumbprint = known.identity.certificate.sha1_thumbprint();
    let secret = known.session.encrypt(&SecretString::from("p\u{e4}ss w\u{f6}rd")).unwrap_or_default();
    [known.assertion.expose_secret(), known.token.expose_secret(), thumbprint.as_str(), secret.as_str(), "\u{200e}a1 b2:c3"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}
