//! Who calls: a bearer token, plain or as the password of Basic credentials.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exops_auth::token::{self, Claims, Expected, KeySet};
use exops_policy::{Application, Caller, EXCHANGE_MANAGE_AS_APP, Principal, TenantId};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Response};
use uuid::Uuid;

use crate::{Clock, Tenant, answer};

/// Exchange Online's application id, named in challenges.
const EXCHANGE_APP: &str = "00000002-0000-0ff1-ce00-000000000000";

/// Tokens that are counted before expired ones are forgotten.
const TOKENS_SEEN: usize = 1024;

/// Which challenge a front end answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// REST.
    Bearer,
    /// Remote PowerShell: its clients choose the mechanism from the challenge.
    Basic,
}

/// Checks tokens.
pub struct Authenticator {
    pub(crate) keys: Arc<dyn Fn() -> Arc<KeySet> + Send + Sync>,
    pub(crate) audiences: Vec<String>,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) authority: String,
    pub(crate) lab: bool,
    pub(crate) clock: Clock,
    pub(crate) uses: TokenUses,
}

/// A lab's lever: after so many requests a token is refused as if it had expired.
#[derive(Default)]
pub(crate) struct TokenUses(Mutex<Uses>);

#[derive(Default)]
struct Uses {
    limit: Option<NonZeroU32>,
    /// Requests and end of life by the token's own name.
    seen: HashMap<String, (u32, i64)>,
    /// Requests that were refused since the start, whatever the limit was.
    refused: u64,
}

impl TokenUses {
    /// Counts a request; `false` when the token was good for fewer.
    fn take(&self, claims: &Claims, now: i64) -> bool {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(limit) = uses.limit else { return true };
        if uses.seen.len() >= TOKENS_SEEN {
            uses.seen.retain(|_, (_, expires)| *expires > now);
        }
        let (count, _) = uses.seen.entry(claims.unique_id.clone()).or_insert((0, claims.expires));
        *count = count.saturating_add(1);
        let good = *count <= limit.get();
        uses.refused += u64::from(!good);
        good
    }
}

/// Why a request has no caller. Always answered with 401; there is no default identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    code: u32,
    reason: String,
    category: &'static str,
    authorization_uri: String,
}

impl Denied {
    /// The reason, without any part of the credentials.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The answer: 401 with the challenge of the front end and the reason in `x-ms-diagnostics`.
    #[must_use]
    pub fn response(&self, scheme: Scheme) -> Response<Body> {
        let challenge = match scheme {
            Scheme::Basic => "Basic realm=\"Exchange\"".to_owned(),
            Scheme::Bearer => format!(
                "Bearer client_id=\"{EXCHANGE_APP}\", trusted_issuers=\"{EXCHANGE_APP}@*\", token_types=\"app_asserted_user_v1 \
                 service_asserted_app_v1\", authorization_uri=\"{}\", error=\"{}\"",
                self.authorization_uri, self.category
            ),
        };
        let diagnostics = format!("{};reason=\"{}\";error_category=\"{}\"", self.code, self.reason, self.category);
        answer::whole(401, [("WWW-Authenticate", challenge), ("x-ms-diagnostics", diagnostics)], Vec::new())
    }
}

impl Authenticator {
    /// Makes each token good for so many requests from now on; `None` lifts it. Only a lab has this lever: elsewhere nothing
    /// changes and the answer is `false`.
    pub fn limit_token_uses(&self, requests: Option<NonZeroU32>) -> bool {
        if self.lab {
            let mut uses = self.uses.0.lock().unwrap_or_else(PoisonError::into_inner);
            *uses = Uses { limit: requests, seen: HashMap::new(), refused: uses.refused };
        }
        self.lab
    }

    /// Requests that the lever refused since the start.
    #[must_use]
    pub fn tokens_refused(&self) -> u64 {
        self.uses.0.lock().unwrap_or_else(PoisonError::into_inner).refused
    }

    /// The caller of a request. `path_tenant` is the tenant that the path names (id or domain), which must be the token's;
    /// so must a tenant that the routing hint names.
    ///
    /// # Errors
    /// No credentials, two of them, another scheme, a token that does not verify, a token without the app role, or one
    /// of another tenant.
    pub fn caller(&self, headers: &HeaderMap, peer: SocketAddr, path_tenant: Option<&str>) -> Result<Caller, Denied> {
        let token = bearer(headers).map_err(|reason| self.denied(2_000_001, reason, "invalid_request"))?;
        let expected = Expected { audiences: &self.audiences };
        let now = (self.clock)().div_euclid(1000);
        let claims = token::verify(&token, &(self.keys)(), &expected, now)
            .map_err(|error| self.denied(2_000_002, &error.to_string(), "invalid_token"))?;
        if claims.lab != self.lab {
            let reason = if claims.lab { "the token is a lab's" } else { "the token is not the lab's" };
            return Err(self.denied(2_000_002, reason, "invalid_token"));
        }
        if !self.uses.take(&claims, now) {
            return Err(self.denied(2_000_002, "the token is past the number of requests that the lab's lever allows", "invalid_token"));
        }
        let tenant = TenantId(claims.tenant);
        let wrong_tenant = |what: &str| self.denied(2_000_005, &format!("the {what} names another tenant than the token"), "invalid_token");
        if !self.tenants.iter().any(|t| t.id == tenant) {
            return Err(self.denied(2_000_005, "the token is for a tenant that is not served here", "invalid_token"));
        }
        if path_tenant.is_some_and(|named| self.tenant(named) != Some(tenant)) {
            return Err(wrong_tenant("path"));
        }
        if headers.get("X-AnchorMailbox").is_some_and(|anchor| self.foreign_anchor(anchor.to_str().unwrap_or_default(), tenant)) {
            return Err(wrong_tenant("X-AnchorMailbox header"));
        }
        if !claims.roles.iter().any(|role| role == EXCHANGE_MANAGE_AS_APP) {
            let reason = "The token contains no permissions, or permissions can not be understood.";
            return Err(self.denied(2_000_008, reason, "invalid_grant"));
        }
        let principal = Principal::Application(Application {
            app_id: claims.app_id,
            object_id: claims.object_id,
            display_name: claims.app_display_name,
            app_roles: claims.roles,
            directory_roles: claims.directory_roles,
        });
        Ok(Caller { tenant, principal, client_address: peer.to_string() })
    }

    /// A served tenant by id or domain, without case.
    #[must_use]
    pub fn tenant(&self, id_or_domain: &str) -> Option<TenantId> {
        let id = Uuid::try_parse(id_or_domain).ok();
        let tenant = self.tenants.iter().find(|t| Some(t.id.0) == id || t.domains.iter().any(|d| d.eq_ignore_ascii_case(id_or_domain)))?;
        Some(tenant.id)
    }

    /// A routing hint ends in `@{tenant id}` or `@{domain}`. A domain that nobody here owns decides nothing.
    fn foreign_anchor(&self, anchor: &str, tenant: TenantId) -> bool {
        let Some((_, place)) = anchor.rsplit_once('@') else { return false };
        match Uuid::try_parse(place) {
            Ok(id) => TenantId(id) != tenant,
            Err(_) => self.tenant(place).is_some_and(|named| named != tenant),
        }
    }

    fn denied(&self, code: u32, reason: &str, category: &'static str) -> Denied {
        let reason = reason.chars().map(|c| if (c.is_ascii_graphic() && c != '"') || c == ' ' { c } else { '?' }).take(300).collect();
        Denied { code, reason, category, authorization_uri: format!("{}/common/oauth2/authorize", self.authority) }
    }
}

/// The token of exactly one `Authorization` header.
fn bearer(headers: &HeaderMap) -> Result<String, &'static str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value,
        (None, _) => return Err("The request has no Authorization header"),
        (Some(_), Some(_)) => return Err("The request has more than one Authorization header"),
    };
    let value = value.to_str().map_err(|_| "The Authorization header is not ASCII")?;
    let (scheme, credentials) = value.trim().split_once(' ').ok_or("The Authorization header holds no credentials")?;
    let credentials = credentials.trim();
    let token = if scheme.eq_ignore_ascii_case("Bearer") {
        credentials.to_owned()
    } else if scheme.eq_ignore_ascii_case("Basic") {
        basic(credentials).ok_or("The Basic credentials are not a user name and 'Bearer <token>' as password")?
    } else {
        return Err("The authorization scheme is neither Bearer nor Basic");
    };
    if token.is_empty() { Err("The Authorization header holds an empty token") } else { Ok(token) }
}

/// Any user name, but one; the pair splits at the first colon, as a token holds none.
fn basic(credentials: &str) -> Option<String> {
    let pair = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    let (scheme, token) = password.split_once(' ')?;
    (!user.is_empty() && scheme.eq_ignore_ascii_case("Bearer")).then(|| token.trim().to_owned())
}
