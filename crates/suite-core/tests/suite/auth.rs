//! Certificates, key files, assertions in every dialect, tokens.
#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use exops_auth::assertion::{self, AssertionError, Expected, RegisteredKey, Request, Verified};
use exops_auth::token::{self, ClientCredential, Grant, KeySet, SigningKey, TokenError};
use exops_auth::{
    Algorithm, Certificate, Identity, IdentityError, JwtError, Signer as _, Thumbprint, ThumbprintError, issue, pem, pfx, secret,
};
use proptest::prelude::*;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// 2026-11-24T12:00:00Z.
const NOW: i64 = 1_795_521_600;
const CLIENT: &str = "11111111-2222-3333-4444-555555555555";
const AUDIENCE: &str = "https://localhost:8443/contoso.onmicrosoft.com/oauth2/v2.0/token";

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| issue::self_signed("CN=ExOPS", 365, NOW).unwrap());
static ATTACKER: LazyLock<Identity> = LazyLock::new(|| issue::self_signed("CN=ExOPS", 365, NOW).unwrap());

fn registered(certificate: &Certificate) -> RegisteredKey {
    RegisteredKey {
        key_id: Uuid::from_u128(7),
        sha1: certificate.sha1(),
        sha256: certificate.sha256(),
        key: certificate.public_key().unwrap(),
        start: certificate.not_before(),
        end: certificate.not_after(),
    }
}

fn verify_at(assertion: &str, strict: bool, now: i64) -> Result<Verified, AssertionError> {
    let keys = [registered(&IDENTITY.certificate)];
    let expected = Expected { client_id: CLIENT, keys: &keys, audience: &|a| a == AUDIENCE, strict };
    assertion::verify(assertion, &expected, now)
}

fn verify(assertion: &str, strict: bool) -> Result<Verified, AssertionError> {
    verify_at(assertion, strict, NOW)
}

/// A JWS of exactly those header and payload bytes.
fn jws(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>, algorithm: Algorithm, signer: &Identity) -> String {
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = signer.sign(algorithm, &Sha256::digest(&input).into()).unwrap();
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn claims(change: impl FnOnce(&mut Value)) -> String {
    let mut claims = json!({"aud": AUDIENCE, "iss": CLIENT, "sub": CLIENT, "jti": "j", "nbf": NOW, "iat": NOW, "exp": NOW + 600});
    change(&mut claims);
    claims.to_string()
}

fn header(change: impl FnOnce(&mut Value)) -> String {
    let mut header = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": IDENTITY.certificate.x5t_s256()});
    change(&mut header);
    header.to_string()
}

/// One assertion as each released library writes it, byte by byte.
#[test]
fn assertion_dialects() {
    let certificate = &IDENTITY.certificate;
    let (sha1, sha256) = (certificate.sha1(), certificate.sha256());
    let der = STANDARD.encode(certificate.as_der());
    let of_pem = STANDARD.encode(certificate.to_pem());
    let identifiers = format!(r#""aud":"{AUDIENCE}","iss":"{CLIENT}","sub":"{CLIENT}","jti":"{}""#, Uuid::from_u128(1));
    let (exp, nbf) = (NOW + 600, NOW + 1);
    // Library, algorithm, header, dates, accepted by strict reading too.
    let rows: [(&str, Algorithm, String, String, bool); 8] = [
        (
            "msal-python, certificate",
            Algorithm::Ps256,
            format!(r#"{{"alg":"PS256","typ":"JWT","x5t#S256":"{}","x5c":["{der}"]}}"#, URL_SAFE.encode(sha256)),
            format!(r#""exp":{exp}.4127,"iat":{NOW}.4127"#),
            false,
        ),
        (
            "msal-python, thumbprint",
            Algorithm::Rs256,
            format!(r#"{{"alg":"RS256","typ":"JWT","x5t":"{}"}}"#, URL_SAFE.encode(sha1)),
            format!(r#""exp":{exp}.5,"iat":{NOW}.5"#),
            false,
        ),
        (
            "azure-identity (Python), azure-cli",
            Algorithm::Rs256,
            format!(r#"{{"typ":"JWT","alg":"RS256","x5t":"{}","x5c":["{der}"]}}"#, URL_SAFE.encode(sha1)),
            format!(r#""exp":{exp}.0,"iat":{NOW}.0"#),
            false,
        ),
        (
            "msal-node, @azure/identity",
            Algorithm::Ps256,
            format!(r#"{{"alg":"PS256","x5t#S256":"{}","x5c":["{der}"]}}"#, URL_SAFE_NO_PAD.encode(sha256)),
            format!(r#""iat":{NOW},"nbf":{nbf},"exp":{exp}"#),
            true,
        ),
        (
            "CLI for Microsoft 365",
            Algorithm::Rs256,
            format!(r#"{{"alg":"RS256","x5t":"{}"}}"#, URL_SAFE_NO_PAD.encode(sha1)),
            format!(r#""iat":{NOW},"nbf":{nbf},"exp":{exp}"#),
            false,
        ),
        (
            "azure_identity (Rust)",
            Algorithm::Rs256,
            format!(r#"{{"alg":"RS256","typ":"JWT","x5t":"{}","x5c":["{of_pem}"]}}"#, STANDARD.encode(sha1)),
            format!(r#""nbf":{NOW},"exp":{},"iat":{NOW}"#, NOW + 300),
            false,
        ),
        (
            "MSAL.NET",
            Algorithm::Ps256,
            format!(r#"{{"alg":"PS256","typ":"JWT","x5t#S256":"{}","x5c":"{der}"}}"#, URL_SAFE_NO_PAD.encode(sha256)),
            format!(r#""nbf":"{NOW}","exp":"{exp}""#),
            false,
        ),
        (
            "MSAL.NET, RS256",
            Algorithm::Rs256,
            format!(r#"{{"alg":"RS256","typ":"JWT","x5t":"{}"}}"#, URL_SAFE_NO_PAD.encode(sha1)),
            format!(r#""nbf":"{NOW}","exp":"{exp}""#),
            false,
        ),
    ];
    for (library, algorithm, header, dates, strict) in rows {
        let assertion = jws(header, format!("{{{identifiers},{dates}}}"), algorithm, &IDENTITY);
        let verified = verify(&assertion, false).unwrap_or_else(|e| panic!("{library}: {e}"));
        assert_eq!((verified.key_id, verified.jti.is_some()), (Uuid::from_u128(7), true), "{library}");
        assert_eq!(verify(&assertion, true).is_ok(), strict, "{library}, strict");
    }
    // What this project writes, in one phase and in two.
    let request = Request { client_id: CLIENT, audience: AUDIENCE, jti: Uuid::from_u128(2), now: NOW, chain: Some(&[]) };
    let ours = assertion::sign(&*IDENTITY, &request).unwrap();
    assert!(verify(ours.expose_secret(), true).is_ok());
    let prepared = assertion::prepare(certificate, Algorithm::Rs256, &request);
    let signature = IDENTITY.sign(prepared.algorithm(), &prepared.digest()).unwrap();
    let ours = assertion::finish(prepared.clone(), certificate, &signature).unwrap();
    assert!(verify(ours.expose_secret(), false).is_ok());
    // A signer that signs with another key than the certificate's: nothing leaves (K-07).
    let foreign = ATTACKER.sign(prepared.algorithm(), &prepared.digest()).unwrap();
    assert!(assertion::finish(prepared, certificate, &foreign).is_err());
}

/// J-01, J-02, J-03, J-04, J-11: algorithm and key come from what is registered.
#[test]
fn assertion_keys_and_algorithms() {
    let good = claims(|_| ());
    for name in ["none", "None", "nOnE", "NONE", "", "ps256", "RS512", "HS256"] {
        let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(header(|h| h["alg"] = json!(name))), URL_SAFE_NO_PAD.encode(&good));
        let signed = jws(header(|h| h["alg"] = json!(name)), &good, Algorithm::Ps256, &IDENTITY);
        for assertion in [unsigned, signed] {
            assert_eq!(verify(&assertion, false), Err(AssertionError::Algorithm { elliptic_curve: false }), "{name}");
        }
    }
    let missing = header(|h| drop(h.as_object_mut().unwrap().remove("alg")));
    assert_eq!(
        verify(&jws(missing, "not read", Algorithm::Ps256, &IDENTITY), false),
        Err(AssertionError::Algorithm { elliptic_curve: false })
    );
    let curve = jws(header(|h| h["alg"] = json!("ES256")), &good, Algorithm::Ps256, &IDENTITY);
    assert_eq!(verify(&curve, false), Err(AssertionError::Algorithm { elliptic_curve: true }));
    // J-02: the public key as the secret of HS256, in every form in which it is public.
    let certificate = &IDENTITY.certificate;
    for key in [certificate.as_der().to_vec(), certificate.to_pem().into_bytes(), certificate.x5t_s256().into_bytes()] {
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header(|h| h["alg"] = json!("HS256"))), URL_SAFE_NO_PAD.encode(&good));
        let assertion = format!("{input}.{}", URL_SAFE_NO_PAD.encode(hmac_sha256(&key, input.as_bytes())));
        assert_eq!(verify(&assertion, false), Err(AssertionError::Algorithm { elliptic_curve: false }));
    }
    // The header's algorithm is one of two and still must be the one that signed.
    let confused = jws(header(|h| h["alg"] = json!("RS256")), &good, Algorithm::Ps256, &IDENTITY);
    assert!(matches!(verify(&confused, false), Err(AssertionError::Signature { .. })));
    // J-03, J-11: a key of the attacker's in the header, under the registered thumbprint.
    let attacker = STANDARD.encode(ATTACKER.certificate.as_der());
    let jwk = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"});
    for (name, value) in
        [("x5c", json!([attacker])), ("jwk", jwk), ("jku", json!("https://attacker.example/")), ("x5u", json!("https://attacker.example/"))]
    {
        let assertion = jws(header(|h| h[name] = value), &good, Algorithm::Ps256, &ATTACKER);
        assert!(matches!(verify(&assertion, false), Err(AssertionError::Signature { .. })), "{name}");
    }
    let unregistered = jws(header(|h| h["x5t#S256"] = json!(ATTACKER.certificate.x5t_s256())), &good, Algorithm::Ps256, &ATTACKER);
    let Err(AssertionError::KeyNotFound { thumbprint }) = verify(&unregistered, false) else { panic!("it is not registered") };
    assert_eq!(Thumbprint::parse(&thumbprint), Ok(Thumbprint::Sha256(ATTACKER.certificate.sha256())));
    // Both thumbprints must name the same key.
    let both = jws(header(|h| h["x5t"] = json!(ATTACKER.certificate.x5t())), &good, Algorithm::Ps256, &IDENTITY);
    assert!(matches!(verify(&both, false), Err(AssertionError::KeyNotFound { .. })));
    assert_eq!(verify(&jws(r#"{"alg":"PS256"}"#, &good, Algorithm::Ps256, &IDENTITY), false), Err(AssertionError::NoThumbprint));
    // J-04: names that are no names.
    let mebibyte = "A".repeat(1 << 20);
    for hint in ["../../etc/passwd", "' OR 1=1 --", "a\u{0}b", "", "====", mebibyte.as_str()] {
        for name in ["x5t", "x5t#S256"] {
            let error = verify(&jws(header(|h| h[name] = json!(hint)), &good, Algorithm::Ps256, &IDENTITY), false).unwrap_err();
            assert!(matches!(error, AssertionError::Malformed(_) | AssertionError::NotJwt(JwtError::TooLong)), "{name} {error}");
        }
    }
    assert_eq!(
        verify(&jws(header(|h| h["kid"] = json!(mebibyte)), &good, Algorithm::Ps256, &IDENTITY), false),
        Err(AssertionError::NotJwt(JwtError::TooLong))
    );
    assert!(verify(&jws(header(|h| h["kid"] = json!("../../key")), &good, Algorithm::Ps256, &IDENTITY), false).is_ok());
    let critical = jws(header(|h| h["crit"] = json!(["b64"])), &good, Algorithm::Ps256, &IDENTITY);
    assert_eq!(verify(&critical, false), Err(AssertionError::NotJwt(JwtError::Critical)));
    // J-19: signatures of another length.
    let whole = jws(header(|_| ()), &good, Algorithm::Ps256, &IDENTITY);
    let (input, signature) = whole.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for bytes in [&signature[1..], &signature[..255], &[signature.as_slice(), &[0]].concat(), &[0; 256], &[]] {
        let cut = format!("{input}.{}", URL_SAFE_NO_PAD.encode(bytes));
        assert!(matches!(verify(&cut, false), Err(AssertionError::Signature { .. })), "{} bytes", bytes.len());
    }
    // The registered dates decide, not the certificate's, and to the second.
    for (start, end, good_key) in [(NOW + 1, NOW + 9, false), (NOW, NOW, true), (NOW - 9, NOW - 1, false)] {
        let keys = [RegisteredKey { start, end, ..registered(&IDENTITY.certificate) }];
        let result = assertion::verify(&whole, &Expected { client_id: CLIENT, keys: &keys, audience: &|_| true, strict: false }, NOW);
        assert_eq!(result.is_ok(), good_key);
        assert!(good_key || matches!(result, Err(AssertionError::KeyExpired { .. })));
    }
}

/// J-07, J-08, J-09: claims.
#[test]
fn assertion_claims() {
    let check = |change: &dyn Fn(&mut Value), strict| verify(&jws(header(|_| ()), claims(change), Algorithm::Ps256, &IDENTITY), strict);
    for audience in [
        json!("https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token"),
        json!(format!("{AUDIENCE}/")),
        json!(AUDIENCE.to_uppercase()),
        json!([AUDIENCE, "https://attacker.example/"]),
        json!([]),
        json!({"a": AUDIENCE}),
        Value::Null,
    ] {
        assert_eq!(check(&|c| c["aud"] = audience.clone(), false), Err(AssertionError::Audience), "{audience}");
    }
    assert!(check(&|c| c["aud"] = json!([AUDIENCE]), false).is_ok());
    for name in ["iss", "sub"] {
        for value in [json!("99999999-2222-3333-4444-555555555555"), json!(""), json!(7), Value::Null] {
            assert_eq!(check(&|c| c[name] = value.clone(), false), Err(AssertionError::Identifier), "{name} {value}");
        }
    }
    assert!(check(&|c| c["iss"] = json!(CLIENT.to_uppercase()), false).is_ok());
    // Dates: what no reading takes.
    for name in ["exp", "nbf", "iat"] {
        for value in
            [json!(-1), json!(1u64 << 63), json!(1e300), json!("1e9"), json!("-1"), json!("9".repeat(30)), json!(true), json!([NOW])]
        {
            let result = check(&|c| c[name] = value.clone(), false);
            assert!(matches!(result, Err(AssertionError::Malformed(_))), "{name} {value}: {result:?}");
        }
    }
    assert!(matches!(check(&|c| drop(c.as_object_mut().unwrap().remove("exp")), false), Err(AssertionError::Malformed(_))));
    // Skew of 300 seconds, to the second. A begin may be late, an end may be early.
    for (claim, last_good, first_bad) in [("nbf", NOW + 300, NOW + 301), ("iat", NOW + 300, NOW + 301), ("exp", NOW - 299, NOW - 300)] {
        for strict in [false, true] {
            assert!(check(&|c| c[claim] = json!(last_good), strict).is_ok(), "{claim}");
            assert!(matches!(check(&|c| c[claim] = json!(first_bad), strict), Err(AssertionError::TimeRange { .. })), "{claim}");
        }
    }
    // What only strict reading refuses.
    let years = NOW + 10 * 365 * 86_400;
    type Edit<'a> = (&'a str, &'a dyn Fn(&mut Value));
    let only_strict: [Edit; 6] = [
        ("years", &|c| c["exp"] = json!(years)),
        ("float", &|c| c["exp"] = json!(NOW as f64 + 600.5)),
        ("text", &|c| c["exp"] = json!((NOW + 600).to_string())),
        ("no nbf, no iat", &|c| c.as_object_mut().unwrap().retain(|n, _| n != "nbf" && n != "iat")),
        ("no jti", &|c| drop(c.as_object_mut().unwrap().remove("jti"))),
        ("floating nbf", &|c| c["nbf"] = json!(NOW as f64 + 0.5)),
    ];
    for (name, change) in only_strict {
        assert!(check(change, false).is_ok(), "{name}");
        assert!(matches!(check(change, true), Err(AssertionError::Malformed(_))), "{name}, strict");
    }
}

/// J-12, J-13: the form.
#[test]
fn assertion_form() {
    let (head, body) = (header(|_| ()), claims(|_| ()));
    let sign = |head: &[u8], body: &[u8]| jws(head, body, Algorithm::Ps256, &IDENTITY);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let with = |text: &str, member: &str| format!("{{{member},{}", text.strip_prefix('{').unwrap()).into_bytes();
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("duplicate key", with(&body, &format!(r#""iss":"{CLIENT}""#))),
        ("duplicate key, escaped", with(&body, &format!(r#""\u0069ss":"{CLIENT}""#))),
        ("duplicate key, nested", with(&body, r#""a":{"b":1,"b":2}"#)),
        ("trailing bytes", [body.as_bytes(), b"x"].concat()),
        ("two objects", [body.as_bytes(), body.as_bytes()].concat()),
        ("byte order mark", [b"\xef\xbb\xbf", body.as_bytes()].concat()),
        ("lone surrogate", with(&body, r#""a":"\ud800""#)),
        ("no UTF-8", with(&body, "\"a\":\"x\"").into_iter().map(|b| if b == b'x' { 0xff } else { b }).collect()),
        ("deep", with(&body, &format!(r#""a":{deep}"#))),
        ("nine levels", with(&body, r#""a":[[[[[[[[1]]]]]]]]"#)),
        ("no object", b"[]".to_vec()),
        ("empty", Vec::new()),
    ];
    for (name, bytes) in &bad {
        assert_eq!(verify(&sign(head.as_bytes(), bytes), false), Err(AssertionError::NotJwt(JwtError::Json("payload"))), "{name}");
    }
    let twice = with(&head, r#""alg":"PS256""#);
    assert_eq!(verify(&sign(&twice, body.as_bytes()), false), Err(AssertionError::NotJwt(JwtError::Json("header"))));
    let deep_header = with(&head, &format!(r#""a":{deep}"#));
    assert_eq!(verify(&sign(&deep_header, body.as_bytes()), false), Err(AssertionError::NotJwt(JwtError::Json("header"))));

    let good = sign(head.as_bytes(), body.as_bytes());
    assert!(verify(&good, true).is_ok());
    let parts: Vec<&str> = good.split('.').collect();
    for (index, name) in ["header", "payload", "signature"].into_iter().enumerate() {
        for change in ["=", " ", "\n", "+", "\u{0}", "é"] {
            let mut parts: Vec<String> = parts.iter().map(|p| (*p).to_owned()).collect();
            parts[index].push_str(change);
            let error = verify(&parts.join("."), false).unwrap_err();
            // A changed payload fails at its signature before anybody reads it.
            let expected = matches!(error, AssertionError::NotJwt(JwtError::Base64(n)) if n == name);
            assert!(expected || (name == "payload" && matches!(error, AssertionError::Signature { .. })), "{name} {change:?}: {error}");
        }
    }
    // The last character of 256 bytes has four spare bits: another character with the same meaning is refused.
    let last = good.chars().last().unwrap();
    let twin = char::from(u8::try_from(last).unwrap() + 1);
    let twin = format!("{}{twin}", &good[..good.len() - 1]);
    assert_eq!(verify(&twin, false), Err(AssertionError::NotJwt(JwtError::Base64("signature"))));
    for text in ["", ".", "..", "...", "a.b", "a.b.c.d", good.rsplit_once('.').unwrap().0] {
        assert!(matches!(verify(text, false), Err(AssertionError::NotJwt(_))), "{text}");
    }
    assert_eq!(verify(&format!("{good}{}", "A".repeat(1 << 20)), false), Err(AssertionError::NotJwt(JwtError::TooLong)));
}

/// The shape of app-only tokens, and J-15, J-16 as far as a token alone goes.
#[test]
fn access_tokens() {
    let key = SigningKey::generate(NOW).unwrap();
    let key = SigningKey::from_pem(key.to_pem().expose_secret().as_bytes()).unwrap();
    let keys = KeySet::of(std::slice::from_ref(&key)).unwrap();
    let (tenant, app_id, object_id) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
    let (roles, directory_roles) = (["Exchange.ManageAsApp".to_owned()], [Uuid::from_u128(4)]);
    let grant = Grant {
        tenant,
        audience: "https://outlook.office365.com",
        app_id,
        object_id,
        app_display_name: "exops",
        credential: ClientCredential::Certificate,
        roles: &roles,
        directory_roles: &directory_roles,
        lab: true,
        unique_id: Uuid::from_u128(5),
    };
    let token = token::mint(&key, &grant, NOW).unwrap();
    let text = token.expose_secret();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text.split('.').next().unwrap()).unwrap()).unwrap();
    assert_eq!(header, json!({"typ": "JWT", "alg": "RS256", "x5t": key.kid(), "kid": key.kid()}));
    let claims = Value::Object(token::read_unverified(&token).unwrap());
    let issuer = format!("https://sts.windows.net/{tenant}/");
    let expected = json!({
        "aud": "https://outlook.office365.com", "iss": issuer, "iat": NOW - 300, "nbf": NOW - 300, "exp": NOW + 3600,
        "aio": claims["aio"], "app_displayname": "exops", "appid": app_id, "appidacr": "2", "idp": issuer, "idtyp": "app",
        "oid": object_id, "rh": claims["rh"], "roles": roles, "sub": object_id, "tid": tenant, "uti": claims["uti"], "ver": "1.0",
        "wids": [directory_roles[0], "0997a1d0-0d1d-4acb-b408-d5ca73121e90"], "exops_lab": true,
    });
    assert_eq!(claims, expected);
    let bare = Grant { credential: ClientCredential::Secret, roles: &[], directory_roles: &[], lab: false, ..grant };
    let bare = token::read_unverified(&token::mint(&key, &bare, NOW).unwrap()).unwrap();
    assert_eq!((bare.get("roles"), bare.get("exops_lab"), &bare["appidacr"]), (None, None, &json!("1")));
    assert_eq!(bare["wids"], json!(["0997a1d0-0d1d-4acb-b408-d5ca73121e90"]));

    let audiences = ["https://outlook.office365.com".to_owned()];
    let check = |token: &str, now| token::verify(token, &keys, &token::Expected { audiences: &audiences }, now);
    let verified = check(text, NOW).unwrap();
    assert_eq!((verified.tenant, verified.app_id, verified.object_id, verified.lab), (tenant, app_id, object_id, true));
    assert_eq!((verified.roles.as_slice(), verified.directory_roles.as_slice()), (&roles[..], &directory_roles[..]));
    // Life, with a skew of 300 seconds.
    for (now, result) in
        [(NOW - 600, Ok(())), (NOW - 601, Err(TokenError::NotYetValid)), (NOW + 3899, Ok(())), (NOW + 3900, Err(TokenError::Expired))]
    {
        assert_eq!(check(text, now).map(drop), result);
    }
    let slash = token::mint(&key, &Grant { audience: "https://outlook.office365.com/", ..grant }, NOW).unwrap();
    assert!(check(slash.expose_secret(), NOW).is_ok());
    let graph = token::mint(&key, &Grant { audience: "https://graph.microsoft.com", ..grant }, NOW).unwrap();
    assert_eq!(check(graph.expose_secret(), NOW), Err(TokenError::Audience));
    // Another key's token, and this key's name on another key's signature.
    let other = SigningKey::generate(NOW).unwrap();
    let foreign = token::mint(&other, &grant, NOW).unwrap();
    assert_eq!(check(foreign.expose_secret(), NOW), Err(TokenError::UnknownKey));
    let (_, signature) = foreign.expose_secret().rsplit_once('.').unwrap();
    assert_eq!(check(&format!("{}.{signature}", text.rsplit_once('.').unwrap().0), NOW), Err(TokenError::Signature));
    // Signed by the right key, but saying the wrong thing.
    let signer = pem::read_identity(key.to_pem().expose_secret().as_bytes(), None, None).unwrap();
    let say = |algorithm: &str, member: &str, value: Value| {
        let mut claims = expected.clone();
        claims[member] = value;
        let header = json!({"typ": "JWT", "alg": algorithm, "kid": key.kid(), "x5t": key.kid()}).to_string();
        jws(header, claims.to_string(), if algorithm == "PS256" { Algorithm::Ps256 } else { Algorithm::Rs256 }, &signer)
    };
    let other_tenant = Uuid::from_u128(99);
    for (algorithm, member, value, error) in [
        ("PS256", "ver", json!("1.0"), TokenError::Algorithm),
        ("none", "ver", json!("1.0"), TokenError::Algorithm),
        ("RS256", "ver", json!("2.0"), TokenError::Issuer),
        ("RS256", "idtyp", json!("user"), TokenError::Issuer),
        ("RS256", "iss", json!(format!("https://sts.windows.net/{other_tenant}/")), TokenError::Issuer),
        ("RS256", "iss", json!(format!("https://localhost:8443/{tenant}/v2.0")), TokenError::Issuer),
        ("RS256", "tid", json!(other_tenant), TokenError::Issuer),
        ("RS256", "aud", json!("https://outlook.office365.com//"), TokenError::Audience),
        ("RS256", "aud", json!(["https://outlook.office365.com"]), TokenError::Claim("aud")),
        ("RS256", "exp", json!("9999999999"), TokenError::Claim("exp")),
        ("RS256", "wids", json!(["Global Administrator"]), TokenError::Claim("wids")),
        ("RS256", "roles", json!("Exchange.ManageAsApp"), TokenError::Claim("roles")),
    ] {
        assert_eq!(check(&say(algorithm, member, value.clone()), NOW), Err(error), "{member} {value}");
    }
    assert!(check(&say("RS256", "ver", json!("1.0")), NOW).is_ok());
}

#[test]
fn made_certificates() {
    let certificate = &IDENTITY.certificate;
    assert_eq!((certificate.subject(), certificate.issuer()), ("CN=ExOPS", "CN=ExOPS"));
    assert_eq!((certificate.not_before(), certificate.not_after()), (NOW - 600, NOW + 365 * 86_400));
    assert_eq!((certificate.is_rsa(), certificate.key_bits(), certificate.serial().len()), (true, 2048, 32));
    assert!(certificate.serial() < "80" && IDENTITY.certificate.serial() != ATTACKER.certificate.serial());
    assert_eq!(issue::self_signed("CN=a, O=b c,C=DE", 1, NOW).unwrap().certificate.subject(), "CN=a, O=b c, C=DE");
    assert_eq!(issue::self_signed("just a name", 1, NOW).unwrap().certificate.subject(), "CN=just a name");
    for (subject, days) in
        [("", 1), ("CN=", 1), ("CN=a,b", 1), ("XX=a", 1), ("CN=a,CN=b", 1), ("C=Germany", 1), ("CN=a", 0), ("CN=a", 36_501)]
    {
        assert!(matches!(issue::self_signed(subject, days, NOW), Err(IdentityError::Malformed { .. })), "{subject} {days}");
    }
    let aliases = ["login.microsoftonline.com".to_owned()];
    let authority = issue::lab_authority(&aliases, NOW).unwrap();
    assert_eq!(authority.certificate().not_after(), NOW + 30 * 86_400);
    let again = issue::LabAuthority::from_pem(authority.certificate().to_pem().as_bytes(), &authority.key_pem()).unwrap();
    let server = issue::server_certificate(&again, &aliases, NOW).unwrap();
    assert!(server.certificate.is_issued_by(authority.certificate()));
    assert_eq!(server.certificate.not_after(), authority.certificate().not_after());
    for alias in ["", ".", "a..b", "-a", "a b", "*.example.com", "10.0.0.1", "é", "a\u{0}"] {
        assert!(issue::lab_authority(&[alias.to_owned()], NOW).is_err(), "{alias}");
        assert!(issue::server_certificate(&authority, &[alias.to_owned()], NOW).is_err(), "{alias}");
    }
    assert!(format!("{:?} {authority:?} {server:?}", *IDENTITY).contains("CN=ExOPS"));
}

#[test]
fn key_files() {
    let same = |a: &Identity| a.certificate == IDENTITY.certificate && a.key.pkcs8() == IDENTITY.key.pkcs8();
    let password = |text: &str| SecretString::from(text);
    // PFX: with a password, with one that is not ASCII, with none, with an empty one.
    for text in ["hunter2", "Pässwörd ☃ 😀"] {
        let file = pfx::write(&IDENTITY, Some(&password(text))).unwrap();
        assert!(same(&pfx::read(file.expose_secret(), Some(&password(text))).unwrap()));
        assert!(same(&Identity::read(file.expose_secret(), Some(&password(text))).unwrap()));
        for wrong in ["hunter3", "Hunter2", "hunter2 "] {
            assert_eq!(pfx::read(file.expose_secret(), Some(&password(wrong))).unwrap_err(), IdentityError::WrongPassword);
        }
        for none in [None, Some(password(""))] {
            assert_eq!(pfx::read(file.expose_secret(), none.as_ref()).unwrap_err(), IdentityError::PasswordNeeded);
        }
    }
    let file = pfx::write(&IDENTITY, None).unwrap();
    for none in [None, Some(password(""))] {
        assert!(same(&pfx::read(file.expose_secret(), none.as_ref()).unwrap()));
    }
    assert_eq!(pfx::read(file.expose_secret(), Some(&password("x"))).unwrap_err(), IdentityError::WrongPassword);
    let chained = Identity { chain: vec![ATTACKER.certificate.clone()], ..IDENTITY.clone() };
    assert!(same(&pfx::read(pfx::write(&chained, None).unwrap().expose_secret(), None).unwrap()));

    // PEM: together, apart, with noise and other line ends, and what is no identity (K-02).
    let text = pem::write_identity(&IDENTITY);
    let text = text.expose_secret();
    let (certificate, key) = text.split_at(text.find("-----BEGIN PRIVATE").unwrap());
    let noisy = format!("\u{feff}Bag Attributes\n  friendlyName: x\n{key}subject=CN = ExOPS\n\n{certificate}").replace('\n', "\r\n");
    for (first, second) in [(text, None), (certificate, Some(key)), (key, Some(certificate)), (noisy.as_str(), None)] {
        assert!(same(&pem::read_identity(first.as_bytes(), second.map(str::as_bytes), None).unwrap()));
    }
    let other = pem::write_identity(&ATTACKER);
    let other = other.expose_secret();
    let other_key = &other[other.find("-----BEGIN PRIVATE").unwrap()..];
    let authority = issue::lab_authority(&[], NOW).unwrap();
    let curve = authority.key_pem();
    let read = |parts: &[&str]| pem::read_identity(parts.concat().as_bytes(), None, None).map(drop);
    assert_eq!(read(&[certificate, key, other_key]), Err(IdentityError::SeveralKeys { count: 2 }));
    assert_eq!(read(&[certificate, other_key]), Err(IdentityError::KeyMismatch { subject: "CN=ExOPS".into() }));
    assert_eq!(read(&[certificate, key, key]), Ok(()));
    assert_eq!(read(&[key]), Err(IdentityError::NoCertificate));
    assert_eq!(read(&[certificate]), Err(IdentityError::NoKey));
    assert_eq!(read(&[certificate, curve.expose_secret()]), Err(IdentityError::EllipticCurve));
    assert_eq!(authority.certificate().public_key().unwrap_err(), IdentityError::EllipticCurve);
    assert!(read(&[certificate, &key.replace("END PRIVATE", "END RSA")]).is_err());
    assert!(read(&[certificate, key.split_once("-----END").unwrap().0]).is_err());
    let dek = key.replace("BEGIN PRIVATE KEY-----\n", "BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: DES-EDE3-CBC,00\n\n");
    assert!(matches!(read(&[certificate, &dek.replace("END PRIVATE", "END RSA PRIVATE")]), Err(IdentityError::UnsupportedProtection(_))));
    assert_eq!(Identity::read(b"hello", None).unwrap_err(), IdentityError::NotRecognised);
    assert_eq!(Identity::read(b"", None).unwrap_err(), IdentityError::NotRecognised);
    assert!(pem::read_certificates(certificate.as_bytes()).is_ok_and(|c| !c.holds_key && c.certificate == IDENTITY.certificate));
    assert!(pem::read_certificates(text.as_bytes()).is_ok_and(|c| c.holds_key));
    assert!(pem::read_certificates(IDENTITY.certificate.as_der()).is_ok_and(|c| c.certificate == IDENTITY.certificate));
    assert!(pem::read_certificates(key.as_bytes()).is_err());
    // No secret in any text.
    let shown = format!("{IDENTITY:?} {:?}", IDENTITY.key);
    assert!(shown.contains("<redacted>") && shown.len() < 600, "{shown}");
}

/// K-01, K-02: files that ask for more than they are worth.
#[test]
fn key_files_that_attack() {
    let written = pfx::write(&IDENTITY, None).unwrap();
    let written = written.expose_secret();
    let rounds = |n: u64| change_numbers(written, 2000, n);
    let work = |bytes: &[u8]| matches!(pfx::read(bytes, None), Err(IdentityError::TooMuchWork { .. }));
    assert!(work(&rounds(1 << 31)) && work(&rounds(600_001)) && work(&rounds(u64::MAX >> 1)));
    // Without a check value the derivations of the safes are reached.
    let no_mac =
        |bytes: &[u8]| element(0x30, &children(children(bytes)[0].1).iter().take(2).map(|(_, _, w)| *w).collect::<Vec<_>>().concat());
    assert!(pfx::read(&no_mac(written), None).is_ok());
    assert!(work(&no_mac(&rounds(1 << 31))) && work(&no_mac(&rounds(600_001))));
    // An honest number of rounds that is not the one with which it was made: wrong, at once, but not refused as work.
    assert_eq!(pfx::read(&rounds(10_000), None).unwrap_err(), IdentityError::PasswordNeeded);

    // Bags within bags, and many bags.
    let data_oid = [0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
    let bag_oid = |kind: u8| [&[0x06u8, 11, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01][..], &[kind]].concat();
    let data = |content: &[u8]| element(0x30, &[&data_oid[..], &element(0xa0, &element(0x04, content))].concat());
    let file = |contents: &[u8]| {
        let safes = element(0x30, &data(contents));
        element(0x30, &[&[2u8, 1, 3][..], &data(&safes)].concat())
    };
    let mut nested = element(0x30, &[]);
    for _ in 0..10_000 {
        let bag = element(0x30, &[bag_oid(6), element(0xa0, &nested)].concat());
        nested = element(0x30, &bag);
    }
    assert!(matches!(pfx::read(&file(&nested), None), Err(IdentityError::Malformed { .. })));
    let crl = element(0x30, &[bag_oid(4), element(0xa0, &[5, 0])].concat());
    assert!(matches!(pfx::read(&file(&element(0x30, &crl.repeat(10_000))), None), Err(IdentityError::TooLarge { .. })));
    assert_eq!(pfx::read(&file(&element(0x30, &[])), None).unwrap_err(), IdentityError::NoKey);
    // Absent and NULL contents (CVE-2024-0727), indefinite and lying lengths.
    let bare = element(0x30, &data_oid);
    for bytes in [
        element(0x30, &[&[2u8, 1, 3][..], &bare].concat()),
        element(0x30, &[&[2u8, 1, 3][..], &element(0x30, &[&data_oid[..], &[0xa0, 2, 5, 0]].concat())].concat()),
        [&[0x30, 0x80][..], &written[4..], &[0, 0]].concat(),
        [&[0x30, 0x84, 0x7f, 0xff, 0xff, 0xff][..], &written[4..]].concat(),
        [written, &[0]].concat(),
        vec![0x30],
        vec![0x30; 100_000],
    ] {
        assert!(matches!(pfx::read(&bytes, None), Err(IdentityError::Malformed { .. })));
    }
    // Every truncation and every damaged byte of a good file is an error or a good file, never a panic.
    for length in (0..written.len()).step_by(7) {
        assert!(pfx::read(&written[..length], None).is_err());
    }

    // K-02: encrypted PKCS#8 whose scrypt asks for 128 · N · r · p bytes.
    let scrypt = |n: u64, r: u64, p: u64| {
        let oid = |content: &[u8]| element(0x06, content);
        let number = |n| element(0x02, &digits(n));
        let kdf = [
            oid(&[0x2b, 6, 1, 4, 1, 0xda, 0x47, 4, 11]),
            element(0x30, &[element(4, b"12345678"), number(n), number(r), number(p)].concat()),
        ];
        let cipher = [oid(&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 0x2a]), element(4, &[0; 16])];
        let parameters = element(0x30, &[element(0x30, &kdf.concat()), element(0x30, &cipher.concat())].concat());
        let algorithm = element(0x30, &[oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 0x0d]), parameters].concat());
        let body = STANDARD.encode(element(0x30, &[algorithm, element(4, &[0; 32])].concat()));
        let text = format!("-----BEGIN ENCRYPTED PRIVATE KEY-----\n{body}\n-----END ENCRYPTED PRIVATE KEY-----\n");
        pem::read_identity(text.as_bytes(), None, Some(&"x".into())).map(drop)
    };
    for (n, r, p) in [(1 << 30, 8, 1), (1 << 14, 8, 1000), (1 << 14, 60_000, 1), (1 << 40, 1, 1)] {
        assert!(matches!(scrypt(n, r, p), Err(IdentityError::TooMuchWork { .. })), "{n} {r} {p}: {:?}", scrypt(n, r, p));
    }
    assert_eq!(scrypt(1 << 14, 8, 1), Err(IdentityError::WrongPassword));
    assert!(matches!(
        pem::read_identity("-----BEGIN X-----\n-----END X-----\n".repeat(1000).as_bytes(), None, None),
        Err(IdentityError::TooLarge { .. })
    ));
}

#[test]
fn secrets() {
    let generated = secret::generate().unwrap();
    assert_eq!(generated.expose_secret().len(), 40);
    let kept = secret::hash(&generated).unwrap();
    assert!(secret::matches(&generated, &kept) && kept != secret::hash(&generated).unwrap());
    for (wrong, kept) in [("", kept.as_slice()), ("x", &kept), (generated.expose_secret(), &kept[..40]), (generated.expose_secret(), &[])] {
        assert!(!secret::matches(&wrong.into(), kept));
    }
    assert!(
        secret::equal(&"a".into(), &"a".into()) && !secret::equal(&"a".into(), &"b".into()) && !secret::equal(&"a".into(), &"ab".into())
    );
}

proptest! {
    /// K-05: what people paste.
    #[test]
    fn thumbprints(bytes in prop::collection::vec(any::<u8>(), 32), long in any::<bool>(), upper in any::<bool>(),
                   gaps in prop::collection::vec(prop::sample::select(vec!["", " ", ":", "-", "\u{200e}", "\u{202a}", "\u{feff}", "\u{a0}", "\r\n"]), 32)) {
        let (expected, count) = if long {
            (Thumbprint::Sha256(bytes.clone().try_into().unwrap()), 32)
        } else {
            (Thumbprint::Sha1(bytes[..20].try_into().unwrap()), 20)
        };
        let pasted: String = bytes.iter().zip(&gaps).take(count)
            .map(|(b, gap)| if upper { format!("{gap}{b:02X}") } else { format!("{gap}{b:02x}") }).collect();
        prop_assert_eq!(Thumbprint::parse(&pasted), Ok(expected));
        prop_assert_eq!(Thumbprint::parse(&expected.to_string()), Ok(expected));
        let one_more = format!("{pasted}0");
        prop_assert_eq!(Thumbprint::parse(&one_more), Err(ThumbprintError::Length(count * 2 + 1)));
        prop_assert_eq!(Thumbprint::parse(&format!("{pasted}g")), Err(ThumbprintError::Character('g')));
    }

    /// Damaged key files and texts are errors, never panics.
    #[test]
    fn damaged_files(position in any::<prop::sample::Index>(), value in any::<u8>(), noise in prop::collection::vec(any::<u8>(), 0..200)) {
        static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| pfx::write(&IDENTITY, None).unwrap().expose_secret().to_vec());
        let mut file = FILE.clone();
        let index = position.index(file.len());
        file[index] = value;
        let changed = file != *FILE;
        let read = pfx::read(&file, None);
        prop_assert!(!changed || read.is_err() || read.is_ok_and(|i| i.certificate == IDENTITY.certificate));
        let mut der = IDENTITY.certificate.as_der().to_vec();
        let index = position.index(der.len());
        der[index] = value;
        let _ = Certificate::from_der(&der).map(|c| c.public_key().is_ok());
        let _ = Certificate::from_der(&noise);
        let _ = Identity::read(&noise, None);
        let _ = pem::read_identity(&[b"-----BEGIN PRIVATE KEY-----\n", STANDARD.encode(&noise).as_bytes(), b"\n-----END PRIVATE KEY-----"].concat(), None, None);
    }
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let key = if key.len() > 64 { Sha256::digest(key).to_vec() } else { key.to_vec() };
    let pad = |byte: u8| (0..64).map(|i| key.get(i).copied().unwrap_or_default() ^ byte).collect::<Vec<u8>>();
    let inner = Sha256::digest([&pad(0x36), message].concat());
    Sha256::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
}

/// A DER element.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let digits: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
    let head = if length < 0x80 {
        vec![u8::try_from(length).unwrap()]
    } else {
        [&[0x80 | u8::try_from(digits.len()).unwrap()][..], &digits].concat()
    };
    [&[tag][..], &head, content].concat()
}

/// The elements of a well-formed series: tag, content, whole.
fn children(mut bytes: &[u8]) -> Vec<(u8, &[u8], &[u8])> {
    let mut found = Vec::new();
    while let [tag, first, ..] = bytes {
        // Longer lengths do not occur in these files; other bytes than DER come here too.
        if *first > 0x84 || bytes.len() < 6 && *first > 0x80 {
            return Vec::new();
        }
        let count = if *first < 0x80 { 0 } else { usize::from(first & 0x7f) };
        let length = if count == 0 { usize::from(*first) } else { bytes[2..2 + count].iter().fold(0, |n, b| (n << 8) | usize::from(*b)) };
        let end = 2 + count + length;
        if end > bytes.len() {
            return Vec::new();
        }
        found.push((*tag, &bytes[2 + count..end], &bytes[..end]));
        bytes = &bytes[end..];
    }
    found
}

/// The same DER with every integer `from` replaced, also inside octet strings that hold DER.
fn change_numbers(bytes: &[u8], from: u64, to: u64) -> Vec<u8> {
    let change = |(tag, content, whole): (u8, &[u8], &[u8])| match tag {
        2 if content == digits(from) => element(2, &digits(to)),
        4 if matches!(children(content).as_slice(), [(0x30, ..)]) => element(4, &change_numbers(content, from, to)),
        tag if tag & 0x20 != 0 => element(tag, &change_numbers(content, from, to)),
        _ => whole.to_vec(),
    };
    children(bytes).into_iter().flat_map(change).collect()
}

/// A positive number as the content of an integer.
fn digits(number: u64) -> Vec<u8> {
    let digits: Vec<u8> = number.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
    if digits[0] & 0x80 != 0 { [&[0][..], &digits].concat() } else { digits }
}

/// Secrets in parameters of REST: what is sealed opens, and nothing else does, with one text for all.
#[test]
fn parameter_keys() {
    use exops_auth::parameter_key::{ParameterKey, ParameterKeyError, seal};
    let (own, other) = (ParameterKey::generate().unwrap(), ParameterKey::generate().unwrap());
    let public = own.public_key();
    for text in ["p@ss w\u{f6}rd", "", &"x".repeat(245), "\u{1F511} key"] {
        let sealed = seal(public, &SecretString::from(text)).unwrap();
        assert_eq!(own.open(&sealed).unwrap().expose_secret(), text);
        assert_eq!(own.open(&format!(" {sealed}\r\n")).unwrap().expose_secret(), text);
        assert_eq!(other.open(&sealed).unwrap_err(), ParameterKeyError);
        assert_ne!(seal(public, &SecretString::from(text)).unwrap(), sealed, "padded with random bytes");
    }
    assert_eq!(seal(public, &SecretString::from("x".repeat(246))).unwrap_err(), ParameterKeyError);
    for wrong in ["", "plain text", "AAAA", &STANDARD.encode([0; 256]), &STANDARD.encode([255; 256]), &"A".repeat(1 << 20)] {
        assert_eq!(own.open(wrong).unwrap_err(), ParameterKeyError);
    }
    let small = format!("<RSAKeyValue><Modulus>{}</Modulus><Exponent>AQAB</Exponent></RSAKeyValue>", STANDARD.encode([0xC1; 64]));
    for wrong in [
        "",
        "<Modulus></Modulus><Exponent></Exponent>",
        "<Modulus>AQAB",
        &small,
        &public.replace("AQAB", ""),
        &public.replace("<Modulus>", "<M>"),
    ] {
        assert_eq!(seal(wrong, &SecretString::from("x")).unwrap_err(), ParameterKeyError, "{wrong}");
    }
    assert!(format!("{own:?}").len() < 20);
    let script = |text: &str| json!({"value": [{"fileName": "x"}, {"fileName": "a.psm1", "fileContent": text}]}).to_string();
    let read = |text: &str| exops_adminapi::public_key(text.as_bytes(), &exops_psobject::Limits::default());
    assert_eq!(read(&script(&format!("# x\n$PublicKey = '{public}'\nthrow"))).as_deref(), Some(public));
    for wrong in ["", "{}", &script("$PublicKey"), &script("$PublicKey = '<RSAKeyValue>'"), &script(public)] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}
