//! Tokens of the client-credentials flow: made when needed, kept in memory, renewed before they end.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use exops_policy::{Application, Caller, Principal, TenantId};
use exops_runspace::{Fault, FaultKind};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::credential::Credential;
use crate::http::{Answer, Request, clock_error, mark_fault, place};
use crate::{EXCHANGE_RESOURCE, Endpoint, Http};

const TIMEOUT: Duration = Duration::from_secs(30);
/// A token that ends sooner than this is not used for a new request.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// Tries at a token service that is busy.
const TRIES: u32 = 4;
/// Longest single wait for a busy token service.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// Longest token that is read, in bytes.
const LONGEST_TOKEN: usize = 64 << 10;

/// What a token says about itself. Read, not verified: its audience does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenClaims {
    /// The tenant (`tid`).
    pub tenant_id: Uuid,
    /// The application (`appid`).
    pub app_id: Uuid,
    /// Object id of its service principal (`oid`).
    pub object_id: Uuid,
    /// Its name (`app_displayname`).
    pub display_name: String,
    /// Granted app roles (`roles`).
    pub app_roles: Vec<String>,
    /// Directory roles (`wids`).
    pub directory_roles: Vec<Uuid>,
    /// The service that it is for (`aud`).
    pub audience: String,
    /// When its life begins (`nbf`), in unix seconds by the token service's clock.
    pub not_before: i64,
    /// When its life ends (`exp`), in unix seconds by the token service's clock; 0 where it does not say.
    pub expires: i64,
    /// The lab's mark.
    pub is_lab: bool,
}

/// An access token.
#[derive(Debug)]
pub struct Token {
    text: SecretString,
    claims: TokenClaims,
    renew_at: Instant,
    expires_at: SystemTime,
}

impl Token {
    /// What it says.
    #[must_use]
    pub fn claims(&self) -> &TokenClaims {
        &self.claims
    }

    /// When it ends.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// Whoever it speaks for.
    #[must_use]
    pub fn caller(&self) -> Caller {
        let claims = self.claims.clone();
        Caller {
            tenant: TenantId(claims.tenant_id),
            principal: Principal::Application(Application {
                app_id: claims.app_id,
                object_id: claims.object_id,
                display_name: claims.display_name,
                app_roles: claims.app_roles,
                directory_roles: claims.directory_roles,
            }),
            client_address: String::new(),
        }
    }

    /// Value of an `Authorization` header.
    pub(crate) fn bearer(&self) -> SecretString {
        format!("Bearer {}", self.text.expose_secret()).into()
    }
}

/// Gives tokens for one application in one organisation. Cheap to clone; clones share the cache.
#[derive(Debug, Clone)]
pub struct TokenSource(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: Http,
    endpoint: Endpoint,
    app_id: Uuid,
    credential: Credential,
    resource: &'static str,
    cached: Mutex<Option<Arc<Token>>>,
}

impl TokenSource {
    /// A source that has no token yet.
    #[must_use]
    pub fn new(http: Http, endpoint: Endpoint, app_id: Uuid, credential: Credential) -> Self {
        Self(Arc::new(Inner { http, endpoint, app_id, credential, resource: EXCHANGE_RESOURCE, cached: Mutex::new(None) }))
    }

    /// The source of tokens of the same application for another service; it shares nothing but the credential.
    pub(crate) fn for_resource(&self, resource: &'static str) -> Self {
        let inner = &*self.0;
        if inner.resource == resource {
            return self.clone();
        }
        let (http, endpoint, credential) = (inner.http.clone(), inner.endpoint.clone(), inner.credential.clone());
        Self(Arc::new(Inner { http, endpoint, app_id: inner.app_id, credential, resource, cached: Mutex::new(None) }))
    }

    /// The endpoint whose token service it asks.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// The cached token while it is good for some minutes, else a new one. Callers that come together share one
    /// request.
    ///
    /// # Errors
    /// `SignIn` with the service's code and advice, or `Unreachable`.
    pub async fn token(&self) -> Result<Arc<Token>, Fault> {
        let mut cached = self.0.cached.lock().await;
        if let Some(token) = cached.as_ref().filter(|t| Instant::now() < t.renew_at) {
            return Ok(token.clone());
        }
        let token = Arc::new(self.fetch().await?);
        *cached = Some(token.clone());
        Ok(token)
    }

    /// A new token in place of one that was refused; another caller may have renewed it already.
    ///
    /// # Errors
    /// As [`Self::token`].
    pub async fn renew(&self, refused: &Arc<Token>) -> Result<Arc<Token>, Fault> {
        {
            let mut cached = self.0.cached.lock().await;
            if cached.as_ref().is_some_and(|t| Arc::ptr_eq(t, refused)) {
                *cached = None;
            }
        }
        self.token().await
    }

    async fn fetch(&self) -> Result<Token, Fault> {
        let inner = &*self.0;
        let url = inner.endpoint.token_url();
        let mut tries = 0;
        loop {
            tries += 1;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_secs()).ok()).unwrap_or_default();
            let scope = format!("{}/.default", inner.resource);
            let client_id = inner.app_id.to_string();
            let mut form = vec![("grant_type", "client_credentials"), ("client_id", &client_id), ("scope", &scope)];
            let proof = inner.credential.proof(&client_id, &url, now).await?;
            for (name, value) in &proof {
                form.push((name, value.expose_secret()));
            }
            let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&form).finish().into_bytes();
            let headers = vec![
                ("Content-Type", "application/x-www-form-urlencoded".to_owned()),
                ("Accept", "application/json".to_owned()),
                ("client-request-id", Uuid::new_v4().to_string()),
            ];
            let request = Request { method: http::Method::POST, url: &url, headers, authorization: None, body, timeout: TIMEOUT };
            let answer = inner.http.send(request).await.map_err(|lost| lost.fault)?;
            if answer.status == 200 {
                return self.read(&answer);
            }
            let busy = matches!(answer.status, 429 | 503 | 504);
            if !busy || tries == TRIES {
                return Err(refusal(&answer, &url, &inner.endpoint, inner.app_id));
            }
            let asked = answer.header("Retry-After").and_then(|v| exops_adminapi::link::retry_after(v, LONGEST_WAIT));
            tokio::time::sleep(asked.unwrap_or_else(|| Duration::from_secs(1 << tries))).await;
        }
    }

    fn read(&self, answer: &Answer) -> Result<Token, Fault> {
        #[derive(Deserialize)]
        struct Granted {
            access_token: String,
            expires_in: u64,
        }
        let endpoint = &self.0.endpoint;
        let strange = |what: &str| Fault::new(FaultKind::Protocol, format!("{} answered with {what}", place(&endpoint.authority)));
        let granted: Granted = serde_json::from_slice(&answer.body).map_err(|_| strange("no token"))?;
        let claims = read_claims(&granted.access_token).ok_or_else(|| strange("a token that cannot be read"))?;
        if claims.is_lab != endpoint.is_lab {
            return Err(mark_fault(claims.is_lab, &format!("the token of {}", place(&endpoint.authority))));
        }
        if endpoint.tenant_id.is_some_and(|id| id != claims.tenant_id) {
            return Err(Fault::new(
                FaultKind::SignIn,
                format!("the token is for tenant {}, the profile is for {}", claims.tenant_id, endpoint.token_url()),
            ));
        }
        let life = Duration::from_secs(granted.expires_in.min(7 * 24 * 3600));
        // A lab may hand out tokens of a minute: then renew in the last tenth.
        let margin = RENEW_BEFORE.min(life / 10);
        tracing::debug!(app = %claims.app_id, tenant = %claims.tenant_id, seconds = life.as_secs(), "token received");
        Ok(Token {
            text: granted.access_token.into(),
            claims,
            renew_at: Instant::now() + (life - margin),
            expires_at: SystemTime::now() + life,
        })
    }
}

fn read_claims(token: &str) -> Option<TokenClaims> {
    #[derive(Deserialize)]
    struct Wire {
        tid: Uuid,
        #[serde(alias = "azp")]
        appid: Uuid,
        #[serde(default)]
        oid: Uuid,
        #[serde(default)]
        app_displayname: String,
        #[serde(default)]
        roles: Vec<String>,
        #[serde(default)]
        wids: Vec<Uuid>,
        #[serde(default)]
        aud: serde_json::Value,
        #[serde(default)]
        nbf: i64,
        #[serde(default)]
        exp: i64,
        #[serde(default)]
        exops_lab: bool,
    }
    let payload = token.split('.').nth(1).filter(|_| token.len() <= LONGEST_TOKEN)?;
    let wire: Wire = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    Some(TokenClaims {
        tenant_id: wire.tid,
        app_id: wire.appid,
        object_id: wire.oid,
        display_name: wire.app_displayname,
        app_roles: wire.roles,
        directory_roles: wire.wids,
        audience: wire.aud.as_str().unwrap_or("several services").chars().take(200).collect(),
        not_before: wire.nbf,
        expires: wire.exp,
        is_lab: wire.exops_lab,
    })
}

/// The code of an assertion outside its life.
const ASSERTION_TIME: u32 = 700_024;

/// Advice by AADSTS code, and by a part of the text where one code has several meanings; the first row that fits
/// counts. Codes: wire table of the token service's errors.
const ADVICE: &[(u32, &str, &str, &str)] = &[
    (700027, "expired", crate::CERTIFICATE_EXPIRED, "make a new certificate with 'exops cert new' and register it with the application"),
    (700027, "Key was found", "", "the registered certificate has the same thumbprint and another key: register this one again"),
    (
        700027,
        "",
        "",
        "register the certificate with the application: in a lab 'exops lab app create --certificate FILE', in Entra under 'Certificates & secrets'; a new one may take some minutes to be known",
    ),
    (ASSERTION_TIME, "", "", "check this machine's clock: the assertion is valid for ten minutes only"),
    (700016, "", "", "check --app-id and --organization: this tenant has no such application ('exops lab app list' shows a lab's)"),
    (90002, "", "", "check --organization: a domain of the tenant such as contoso.onmicrosoft.com; 'exops lab status' shows a lab's"),
    (900023, "", "", "check --organization: a domain of the tenant such as contoso.onmicrosoft.com"),
    (900021, "", "", "check --organization: a domain of the tenant such as contoso.onmicrosoft.com"),
    (7000215, "", "", "give the value of the secret, not its id, or sign in with a certificate"),
    (7000222, "", "", "make a new secret for the application, or sign in with a certificate"),
    (7000112, "", "", "an administrator has to enable the application in Entra"),
    (501051, "", "", "assign the application to an app role of Exchange Online (Exchange.ManageAsApp)"),
    (53003, "", "", "a Conditional Access policy for workload identities blocks this sign-in; its log says which"),
];

/// A refusal of the token service as a fault: what, with which value, what to do.
fn refusal(answer: &Answer, url: &str, endpoint: &Endpoint, app_id: Uuid) -> Fault {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Wire {
        error: String,
        error_description: String,
        error_codes: Vec<u32>,
        trace_id: Option<String>,
    }
    let wire: Wire = serde_json::from_slice(&answer.body).unwrap_or_default();
    if wire.error.is_empty() {
        return Fault::new(FaultKind::Unreachable, format!("{} answered HTTP {} instead of a token", place(url), answer.status))
            .with_hint("check --authority: is this a token service?");
    }
    let code = wire.error_codes.first().copied().or_else(|| leading_code(&wire.error_description)).unwrap_or_default();
    // Trace id, correlation id and time follow in one line or several.
    let text = wire.error_description.split("Trace ID:").next().unwrap_or_default().trim();
    let text: String = text.chars().filter(|c| !c.is_control()).take(1000).collect();
    let kind = match answer.status {
        429 => FaultKind::Throttled(Duration::from_secs(60)),
        500..=599 => FaultKind::Unreachable,
        _ => FaultKind::SignIn,
    };
    let message = format!(
        "sign-in of application {app_id} to {} failed: {}",
        endpoint.organization,
        if text.is_empty() { &wire.error } else { &text }
    );
    let mut fault = Fault::new(kind, message).with_code(if code == 0 { wire.error } else { format!("AADSTS{code}") });
    if let Some((_, _, own_code, hint)) = ADVICE.iter().find(|(c, part, ..)| *c == code && text.contains(part)) {
        fault.hint = (*hint).to_owned();
        if !own_code.is_empty() {
            fault.code = (*own_code).to_owned();
        }
    }
    // A certificate that is good by this clock and not by the service's is no certificate that is over.
    if (code == ASSERTION_TIME || fault.code == crate::CERTIFICATE_EXPIRED)
        && let Some(hint) = clock_error(answer, url)
    {
        fault.code = format!("AADSTS{code}");
        fault.hint = hint;
    }
    fault.request_id = wire.trace_id.filter(|id| id.len() <= 64);
    fault
}

fn leading_code(description: &str) -> Option<u32> {
    let rest = description.strip_prefix("AADSTS")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
