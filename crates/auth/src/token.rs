//! App-only access tokens of version 1.0, as Exchange and Graph take them: made with a signing key, checked with a key set.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use thiserror::Error;
use uuid::Uuid;

use crate::jwt::{self, Unverified};
use crate::{Algorithm, Certificate, Identity, IdentityError, JwtError, RsaPublicKey, SignError, issue, pem};

/// Seconds that a token is good for from its making; the answer of the token service says one less.
pub const LIFETIME: i64 = 3600;
/// A token's life begins that many seconds before its making.
pub const BACKDATED: i64 = 300;
/// Difference of clocks that is forgiven, in seconds.
pub const SKEW: i64 = 300;
/// Entry of `wids` that every app-only token has and that is no role.
pub const NO_ROLE: Uuid = Uuid::from_u128(0x0997_a1d0_0d1d_4acb_b408_d5ca_7312_1e90);
/// Claim that marks a token of a lab.
pub const LAB_CLAIM: &str = "exops_lab";
/// Longest token that is read, in bytes.
const MAX_BYTES: usize = 32 * 1024;
/// Life of a signing key's certificate, in days.
const KEY_DAYS: u32 = 5 * 365;

/// A key that signs tokens, with the certificate that publishes it. Clones share it.
#[derive(Debug, Clone)]
pub struct SigningKey(Arc<Identity>);

impl SigningKey {
    /// A new one. `now` in unix seconds.
    ///
    /// # Errors
    /// Where the cryptographic library cannot make one.
    pub fn generate(now: i64) -> Result<Self, IdentityError> {
        Ok(Self(Arc::new(issue::self_signed("CN=exops token signing", KEY_DAYS, now)?)))
    }

    /// Reads what [`SigningKey::to_pem`] wrote.
    ///
    /// # Errors
    /// As [`pem::read_identity`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, IdentityError> {
        pem::read_identity(pem, None, None).map(|identity| Self(Arc::new(identity)))
    }

    /// Certificate and PKCS#8 key, not encrypted: for a store that only the owner reads.
    #[must_use]
    pub fn to_pem(&self) -> SecretString {
        pem::write_identity(&self.0)
    }

    /// Name of the key (`kid` and `x5t`): the thumbprint of its certificate.
    #[must_use]
    pub fn kid(&self) -> String {
        self.0.certificate.x5t()
    }
}

/// A published key.
#[derive(Debug, Clone)]
pub struct VerificationKey {
    kid: String,
    certificate: Certificate,
    key: RsaPublicKey,
}

impl VerificationKey {
    /// Its name.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The certificate that publishes it.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// JWK members `n` and `e` (RFC 7518 6.3.1).
    #[must_use]
    pub fn components(&self) -> (String, String) {
        let (n, e) = self.key.components().unwrap_or_default();
        (URL_SAFE_NO_PAD.encode(n), URL_SAFE_NO_PAD.encode(e))
    }
}

/// The keys with which tokens verify. Found by name only; a token brings no key.
#[derive(Debug, Clone, Default)]
pub struct KeySet(Vec<VerificationKey>);

impl KeySet {
    /// The public halves of signing keys.
    ///
    /// # Errors
    /// A certificate whose key cannot verify.
    pub fn of(keys: &[SigningKey]) -> Result<Self, IdentityError> {
        let public = |key: &SigningKey| {
            let certificate = key.0.certificate.clone();
            Ok(VerificationKey { kid: key.kid(), key: certificate.public_key()?, certificate })
        };
        keys.iter().map(public).collect::<Result<_, _>>().map(Self)
    }

    /// All keys.
    #[must_use]
    pub fn keys(&self) -> &[VerificationKey] {
        &self.0
    }

    /// The key of that name.
    #[must_use]
    pub fn find(&self, kid: &str) -> Option<&VerificationKey> {
        self.0.iter().find(|k| k.kid == kid)
    }
}

/// How an application proved who it is (claim `appidacr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCredential {
    /// A secret: `1`.
    Secret,
    /// A certificate: `2`.
    Certificate,
}

/// What a token says.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'a> {
    /// The tenant.
    pub tenant: Uuid,
    /// The resource as it was asked for.
    pub audience: &'a str,
    /// Client id.
    pub app_id: Uuid,
    /// Object id of the service principal.
    pub object_id: Uuid,
    /// Display name of the application.
    pub app_display_name: &'a str,
    /// How it proved who it is.
    pub credential: ClientCredential,
    /// App roles of the resource.
    pub roles: &'a [String],
    /// Template ids of directory roles.
    pub directory_roles: &'a [Uuid],
    /// The token is a lab's.
    pub lab: bool,
    /// Name of the token.
    pub unique_id: Uuid,
}

/// Issuer of version 1.0 tokens of a tenant.
#[must_use]
pub fn issuer(tenant: Uuid) -> String {
    format!("https://sts.windows.net/{tenant}/")
}

/// Makes a token. `now` in unix seconds.
///
/// # Errors
/// Where the key does not sign.
pub fn mint(key: &SigningKey, grant: &Grant<'_>, now: i64) -> Result<SecretString, SignError> {
    mint_lasting(key, grant, now, LIFETIME)
}

/// As [`mint`], for another life than the usual one, in seconds.
///
/// # Errors
/// As [`mint`].
pub fn mint_lasting(key: &SigningKey, grant: &Grant<'_>, now: i64, lifetime: i64) -> Result<SecretString, SignError> {
    let (kid, issuer) = (key.kid(), issuer(grant.tenant));
    let begin = now.saturating_sub(BACKDATED);
    let name = URL_SAFE_NO_PAD.encode(grant.unique_id.as_bytes());
    let app_id_acr = match grant.credential {
        ClientCredential::Secret => "1",
        ClientCredential::Certificate => "2",
    };
    let mut wids = grant.directory_roles.to_vec();
    wids.push(NO_ROLE);
    let mut claims = json!({
        "aud": grant.audience, "iss": issuer, "iat": begin, "nbf": begin, "exp": now.saturating_add(lifetime),
        "aio": format!("k2{name}="), "app_displayname": grant.app_display_name, "appid": grant.app_id, "appidacr": app_id_acr,
        "idp": issuer, "idtyp": "app", "oid": grant.object_id, "rh": format!("1.{}.", URL_SAFE_NO_PAD.encode(grant.tenant.as_bytes())),
        "sub": grant.object_id, "tid": grant.tenant, "uti": name, "ver": "1.0", "wids": wids,
    });
    // Absent rather than empty where no app role is granted.
    if !grant.roles.is_empty() {
        claims["roles"] = json!(grant.roles);
    }
    if grant.lab {
        claims[LAB_CLAIM] = Value::Bool(true);
    }
    let header = json!({ "typ": "JWT", "alg": Algorithm::Rs256.name(), "x5t": kid, "kid": kid });
    let input = jwt::signing_input(&header, &claims);
    let refused =
        || SignError::Refused { subject: "the token signing key".to_owned(), reason: "the cryptographic library refused".to_owned() };
    let signature = key.0.key.sign(Algorithm::Rs256, input.as_bytes()).ok_or_else(refused)?;
    Ok(jwt::assemble(&input, &signature).into())
}

/// What a token is checked against.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Accepted audiences, without a trailing slash; a token's may have one.
    pub audiences: &'a [String],
}

/// What a verified token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The tenant (`tid`; the issuer is that tenant's).
    pub tenant: Uuid,
    /// The audience as the token has it.
    pub audience: String,
    /// Client id (`appid`).
    pub app_id: Uuid,
    /// Object id of the service principal (`oid`).
    pub object_id: Uuid,
    /// Display name (`app_displayname`).
    pub app_display_name: String,
    /// App roles (`roles`).
    pub roles: Vec<String>,
    /// Template ids of directory roles (`wids` without the entry that is no role).
    pub directory_roles: Vec<Uuid>,
    /// End of life, unix seconds.
    pub expires: i64,
    /// Name of the token (`uti`).
    pub unique_id: String,
    /// It carries the lab's mark.
    pub lab: bool,
}

/// Why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Not a JWS.
    #[error("the token is malformed: {0}")]
    NotJwt(#[from] JwtError),
    /// A claim that is missing or of another form.
    #[error("the token's claim {0} is missing or malformed")]
    Claim(&'static str),
    /// Another algorithm than RS256.
    #[error("the token is not signed with RS256")]
    Algorithm,
    /// No published key has its name.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("the token's signature is not valid")]
    Signature,
    /// For another resource.
    #[error("the token is for another audience")]
    Audience,
    /// The issuer is not that of the token's tenant, or the token is not an app-only token of version 1.0.
    #[error("the token's issuer, version or kind is not accepted")]
    Issuer,
    /// Its life is over.
    #[error("the token expired")]
    Expired,
    /// Its life has not begun.
    #[error("the token is not valid yet")]
    NotYetValid,
}

/// Checks a token: RS256 and nothing else, a key of the set by `kid`, issuer and version of the token's own tenant,
/// audience, time. Which tenants are served is the caller's to say. `now` in unix seconds.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(token: &str, keys: &KeySet, expected: &Expected<'_>, now: i64) -> Result<Claims, TokenError> {
    let jws = Unverified::parse(token, MAX_BYTES)?;
    let header = |name: &str| jws.header.get(name).and_then(Value::as_str);
    if header("alg") != Some(Algorithm::Rs256.name()) {
        return Err(TokenError::Algorithm);
    }
    let key = header("kid").and_then(|kid| keys.find(kid)).ok_or(TokenError::UnknownKey)?;
    if !key.key.verify(Algorithm::Rs256, jws.signing_input.as_bytes(), &jws.signature) {
        return Err(TokenError::Signature);
    }
    let claims = jws.claims()?;
    let tenant = id(&claims, "tid")?;
    if text(&claims, "iss")? != issuer(tenant) || text(&claims, "ver")? != "1.0" || text(&claims, "idtyp")? != "app" {
        return Err(TokenError::Issuer);
    }
    let audience = text(&claims, "aud")?;
    if !expected.audiences.iter().any(|a| a == audience.strip_suffix('/').unwrap_or(audience)) {
        return Err(TokenError::Audience);
    }
    let seconds = |name| claims.get(name).and_then(Value::as_i64).ok_or(TokenError::Claim(name));
    let expires = seconds("exp")?;
    if expires.saturating_add(SKEW) <= now {
        return Err(TokenError::Expired);
    }
    if seconds("nbf")? > now.saturating_add(SKEW) {
        return Err(TokenError::NotYetValid);
    }
    let directory_roles = list(&claims, "wids")?.into_iter().map(|w| Uuid::try_parse(w).map_err(|_| TokenError::Claim("wids")));
    let directory_roles = directory_roles.filter(|w| *w != Ok(NO_ROLE)).collect::<Result<_, _>>()?;
    Ok(Claims {
        tenant,
        audience: audience.to_owned(),
        app_id: id(&claims, "appid")?,
        object_id: id(&claims, "oid")?,
        app_display_name: text(&claims, "app_displayname").unwrap_or_default().to_owned(),
        roles: list(&claims, "roles")?.into_iter().map(str::to_owned).collect(),
        directory_roles,
        expires,
        unique_id: text(&claims, "uti").unwrap_or_default().to_owned(),
        lab: claims.get(LAB_CLAIM) == Some(&Value::Bool(true)),
    })
}

/// What the owner of a token may know about it: its claims, **not verified**. For showing, caching and the check of the
/// lab's mark, never for a decision about somebody else.
///
/// # Errors
/// Not a token of this form.
pub fn read_unverified(token: &SecretString) -> Result<Map<String, Value>, TokenError> {
    Ok(Unverified::parse(token.expose_secret(), MAX_BYTES)?.claims()?)
}

fn text<'c>(claims: &'c Map<String, Value>, name: &'static str) -> Result<&'c str, TokenError> {
    claims.get(name).and_then(Value::as_str).ok_or(TokenError::Claim(name))
}

fn id(claims: &Map<String, Value>, name: &'static str) -> Result<Uuid, TokenError> {
    Uuid::try_parse(text(claims, name)?).map_err(|_| TokenError::Claim(name))
}

/// A list of texts; absent is empty.
fn list<'c>(claims: &'c Map<String, Value>, name: &'static str) -> Result<Vec<&'c str>, TokenError> {
    match claims.get(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => items.iter().map(|i| i.as_str().ok_or(TokenError::Claim(name))).collect(),
        Some(_) => Err(TokenError::Claim(name)),
    }
}
