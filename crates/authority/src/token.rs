//! The token endpoints: client credentials by certificate or secret.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exops_auth::assertion::{self, Expected, RegisteredKey};
use exops_auth::token::{self as access_token, ClientCredential, Grant};
use exops_auth::{Certificate, secret};
use exops_store::{CredentialKind, EntraKey, StoreError};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use uuid::Uuid;

use crate::failure::{self, Failure};
use crate::resource::Resource;
use crate::{Authority, Tenant, Version, resource};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Scopes that libraries add by themselves and the service ignores here.
const RESERVED_SCOPES: [&str; 4] = ["openid", "offline_access", "profile", "email"];
/// Most parameters that one form may have.
const PARAMETERS: usize = 64;
/// Parameters that decide something; none may be given twice.
const DECISIVE: [&str; 8] =
    ["grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "scope", "resource", "tenant"];

pub(crate) async fn v1(
    State(authority): State<Arc<Authority>>,
    method: Method,
    tenant: Path<String>,
    query: RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(&authority, Version::V1, &method, &tenant, query.0, &headers, &body).await
}

pub(crate) async fn v2(
    State(authority): State<Arc<Authority>>,
    method: Method,
    tenant: Path<String>,
    query: RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(&authority, Version::V2, &method, &tenant, query.0, &headers, &body).await
}

async fn answer(
    authority: &Authority,
    version: Version,
    method: &Method,
    tenant: &str,
    query: Option<String>,
    headers: &HeaderMap,
    body: &[u8],
) -> Response {
    let now = authority.seconds();
    let headers = &with_request_id(headers, query.as_deref());
    if method != Method::POST {
        let text = format!("The endpoint only accepts POST requests. Received a {method} request.");
        let failure = Failure { status: StatusCode::METHOD_NOT_ALLOWED, ..Failure::request(900_561, text) };
        let mut response = failure.response(authority.base(headers), headers, now);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let granted = match Form::read(headers, query.as_deref(), body) {
        Ok(form) => grant(authority, version, tenant, &form, now).await,
        Err(failure) => Err(failure),
    };
    match granted {
        Ok(granted) => success(version, &granted, headers, now),
        Err(failure) => failure.response(authority.base(headers), headers, now),
    }
}

/// The headers, with the `client-request-id` that some libraries put into the query.
fn with_request_id(headers: &HeaderMap, query: Option<&str>) -> HeaderMap {
    let mut headers = headers.clone();
    let given = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).find(|(name, _)| name == "client-request-id");
    if let Some(value) = given.and_then(|(_, value)| HeaderValue::from_str(&value).ok()) {
        headers.entry("client-request-id").or_insert(value);
    }
    headers
}

/// A token that was granted.
struct Granted {
    token: SecretString,
    audience: String,
}

fn success(version: Version, granted: &Granted, headers: &HeaderMap, now: i64) -> Response {
    let expires = access_token::LIFETIME - 1;
    let token = granted.token.expose_secret();
    let body = match version {
        Version::V2 => json!({"token_type": "Bearer", "expires_in": expires, "ext_expires_in": expires, "access_token": token}),
        // Version 1 writes every number as text.
        Version::V1 => json!({
            "token_type": "Bearer", "expires_in": expires.to_string(), "ext_expires_in": expires.to_string(),
            "expires_on": (now + access_token::LIFETIME).to_string(), "not_before": (now - access_token::BACKDATED).to_string(),
            "resource": granted.audience, "access_token": token,
        }),
    };
    let mut response = Json(body).into_response();
    no_store(&mut response, Uuid::new_v4(), headers);
    response
}

/// Headers that every answer of the endpoint has.
pub(crate) fn no_store(response: &mut Response, request_id: Uuid, request: &HeaderMap) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-cache"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000; includeSubDomains"));
    headers.insert("x-ms-ests-server", HeaderValue::from_static("exops"));
    for (name, value) in [("x-ms-request-id", Some(request_id)), ("client-request-id", failure::client_request_id(request))] {
        if let Some(value) = value.and_then(|v| HeaderValue::from_str(&v.to_string()).ok()) {
            headers.insert(name, value);
        }
    }
}

/// Answers for a tenant segment that names nobody.
pub(crate) fn unknown_tenant(tenant: &str) -> Failure {
    let shown: String = tenant.chars().filter(|c| c.is_ascii_graphic()).take(100).collect();
    if Uuid::try_parse(&shown).is_ok_and(|id| id.is_nil()) {
        return Failure::request(900_021, format!("Requested tenant identifier '{shown}' is not valid."));
    }
    let is_name = shown.contains('.') && shown.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
    if is_name || Uuid::try_parse(&shown).is_ok() {
        return Failure::request(
            90_002,
            format!(
                "Tenant '{shown}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. \
                 The tenant may also have no active subscription."
            ),
        );
    }
    Failure::request(900_023, format!("Specified tenant identifier '{shown}' is neither a valid DNS name, nor a valid external domain."))
}

async fn grant(authority: &Authority, version: Version, segment: &str, form: &Form, now: i64) -> Result<Granted, Failure> {
    if ["common", "organizations", "consumers"].iter().any(|s| s.eq_ignore_ascii_case(segment)) {
        let text = format!("The grant type is not supported over the /{segment} endpoint: use the endpoint of the tenant.");
        return Err(Failure::request(9_001_023, text));
    }
    let tenant = authority.tenant(segment).ok_or_else(|| unknown_tenant(segment))?;
    let grant_type = form.required("grant_type")?;
    if grant_type != "client_credentials" {
        let text = format!("The app requested an unsupported grant type '{}'.", shorten(grant_type));
        return Err(Failure::other(70_003, "unsupported_grant_type", text));
    }
    let client_id = form.client_id.as_deref().or(form.get("client_id")).ok_or_else(|| Failure::missing("client_id"))?;
    let asked = asked_resource(version, form)?;
    let internal = |error: StoreError| Failure::internal(&error.to_string());
    let store = authority.store.tenant(tenant.id);
    let unknown = || {
        let directory = tenant.domains.first().map_or("", String::as_str);
        let text = format!(
            "Application with identifier '{}' was not found in the directory '{directory}'. This can happen if the application has \
             not been installed by the administrator of the tenant or the request was sent to the wrong tenant.",
            shorten(client_id)
        );
        Failure::other(700_016, "unauthorized_client", text)
    };
    let app_id = Uuid::try_parse(client_id).map_err(|_| unknown())?;
    let application = store.application(EntraKey::Client(app_id)).await.map_err(internal)?.ok_or_else(unknown)?;
    let principal = store.service_principal(EntraKey::Client(app_id)).await.map_err(internal)?.ok_or_else(unknown)?;
    if !principal.enabled {
        let text = format!("Application '{app_id}'({}) is disabled.", principal.display_name);
        return Err(Failure::other(7_000_112, "unauthorized_client", text));
    }
    let credential = authenticate(authority, tenant, form, app_id, application.id, now).await?;
    let Some(Resource { app_id: resource_app, audience }) = resource::find(&asked, &authority.bases) else {
        return Err(unknown_resource(&asked, tenant));
    };
    let resource = store.service_principal(EntraKey::Client(resource_app)).await.map_err(internal)?;
    let resource = resource.ok_or_else(|| unknown_resource(&asked, tenant))?;
    let granted = store.app_roles_of(principal.id).await.map_err(internal)?;
    let roles: Vec<String> = (resource.app_roles.iter())
        .filter(|role| granted.iter().any(|g| g.resource == resource.id && g.role == role.id))
        .map(|role| role.value.clone())
        .collect();
    let directory_roles: Vec<Uuid> =
        store.role_assignments(Some(principal.id)).await.map_err(internal)?.into_iter().map(|a| a.role).collect();
    let grant = Grant {
        tenant: tenant.id.0,
        audience: &audience,
        app_id,
        object_id: principal.id,
        app_display_name: &application.display_name,
        credential,
        roles: &roles,
        directory_roles: &directory_roles,
        lab: authority.lab,
        unique_id: Uuid::new_v4(),
    };
    let key = authority.signing_keys.first().ok_or_else(|| Failure::internal("there is no signing key"))?;
    let token = access_token::mint(key, &grant, now).map_err(|error| Failure::internal(&error.to_string()))?;
    authority.issued.fetch_add(1, Ordering::Relaxed);
    Ok(Granted { token, audience })
}

fn unknown_resource(asked: &str, tenant: &Tenant) -> Failure {
    let directory = tenant.domains.first().map_or("", String::as_str);
    let asked = shorten(asked);
    let text = format!("The resource principal named {asked} was not found in the tenant named {directory}.");
    Failure::other(500_011, "invalid_resource", text)
}

/// The resource that the request names: `resource` for version 1, one `…/.default` scope for version 2.
fn asked_resource(version: Version, form: &Form) -> Result<String, Failure> {
    if version == Version::V1 {
        return form.required("resource").map(str::to_owned);
    }
    if form.get("resource").is_some() {
        let text = "The 'resource' request parameter is not supported.";
        return Err(Failure::request(901_002, text));
    }
    let scope = form.required("scope")?;
    let mut scopes: Vec<&str> = scope.split_ascii_whitespace().filter(|s| !RESERVED_SCOPES.contains(s)).collect();
    scopes.dedup();
    let invalid = |code, text: String| Failure::other(code, "invalid_scope", text);
    match scopes.as_slice() {
        [] => Err(invalid(
            70_011,
            format!("The provided value for the input parameter 'scope' isn't valid. The scope {} names no resource.", shorten(scope)),
        )),
        [one] if one.trim_start_matches('/') == ".default" => {
            let text =
                format!("The provided value for the input parameter 'scope' isn't valid. The scope {} names no resource.", shorten(one));
            Err(invalid(70_011, text))
        }
        [one] => one.strip_suffix("/.default").map(str::to_owned).ok_or_else(|| {
            invalid(
                1_002_012,
                format!(
                    "The provided value for scope {} is not valid. Client credential flows must have a scope value with /.default \
                     suffixed to the resource identifier (application ID URI).",
                    shorten(one)
                ),
            )
        }),
        several => {
            let text = format!("The scope names {} resources. One request can be for one resource only.", several.len());
            Err(invalid(700_022, text))
        }
    }
}

/// Checks the one credential that the request brings.
async fn authenticate(
    authority: &Authority,
    tenant: &Tenant,
    form: &Form,
    app_id: Uuid,
    application: Uuid,
    now: i64,
) -> Result<ClientCredential, Failure> {
    let secret = form.client_secret.as_ref().map(|s| s.expose_secret()).or(form.get("client_secret"));
    let credentials = authority.store.tenant(tenant.id).credentials(application).await.map_err(|e| Failure::internal(&e.to_string()))?;
    match (form.get("client_assertion"), secret) {
        // Which of two proofs counts is never ours to choose.
        (Some(_), Some(_)) => {
            Err(Failure::request(90_023, "The request presents both 'client_assertion' and 'client_secret': present one of them."))
        }
        (None, None) => {
            let text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
            Err(Failure::client(7_000_218, text))
        }
        (Some(presented), None) => {
            if form.required("client_assertion_type")? != ASSERTION_TYPE {
                let text = format!("The value of 'client_assertion_type' is not supported. It must be '{ASSERTION_TYPE}'.");
                return Err(Failure::request(7_000_219, text));
            }
            let keys = credentials.iter().filter(|c| c.kind == CredentialKind::Certificate).filter_map(|c| {
                // A key that cannot sign an assertion (elliptic curve) may be registered and is never found.
                let certificate = Certificate::from_der(&c.material).ok()?;
                let key = certificate.public_key().ok()?;
                let (sha1, sha256) = (certificate.sha1(), certificate.sha256());
                Some(RegisteredKey { key_id: c.id, sha1, sha256, key, start: c.starts, end: c.ends })
            });
            let keys: Vec<RegisteredKey> = keys.collect();
            let client_id = app_id.to_string();
            let verified = {
                let audience = |audience: &str| is_own_audience(authority, tenant, audience);
                let expected = Expected { client_id: &client_id, keys: &keys, audience: &audience, strict: authority.strict };
                assertion::verify(presented, &expected, now).map_err(|error| failure::assertion(&error, &client_id, now))?
            };
            // Released libraries send one assertion for every scope until it nears its end, so only strict reading
            // takes each once.
            if authority.strict {
                let (jti, until) = (verified.jti.unwrap_or_default(), verified.expires.saturating_add(assertion::SKEW));
                let store = authority.store.tenant(tenant.id);
                let fresh = store.redeem_assertion(application, &jti, until, now).await.map_err(|e| Failure::internal(&e.to_string()))?;
                if !fresh {
                    return Err(Failure::request(50_027, "JWT token is invalid or malformed. The assertion was presented before."));
                }
            }
            Ok(ClientCredential::Certificate)
        }
        (None, Some(presented)) => {
            let presented = SecretString::from(presented);
            let matching =
                credentials.iter().filter(|c| c.kind == CredentialKind::Secret).find(|c| secret::matches(&presented, &c.material));
            match matching {
                Some(credential) if now > credential.ends => Err(Failure::client(
                    7_000_222,
                    format!("The provided client secret keys for app '{app_id}' are expired. Add a new secret to the application."),
                )),
                Some(_) => Ok(ClientCredential::Secret),
                None => Err(Failure::client(
                    7_000_215,
                    format!(
                        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not \
                         the client secret ID, for a secret added to app '{app_id}'."
                    ),
                )),
            }
        }
    }
}

/// Whether an assertion's audience means this service and tenant: the token URLs under every base and spelling of the
/// tenant, letter by letter; unless strict also in another case, the issuers and the shared segments, which released
/// libraries and older documents use.
fn is_own_audience(authority: &Authority, tenant: &Tenant, audience: &str) -> bool {
    let lenient = !authority.strict;
    let same = |a: &str, b: &str| if lenient { a.eq_ignore_ascii_case(b) } else { a == b };
    let names_tenant = |segment: &str| same(segment, &tenant.id.to_string()) || tenant.domains.iter().any(|d| same(segment, d));
    let shared = |segment: &str| lenient && (same(segment, "common") || same(segment, "organizations"));
    if lenient && audience == access_token::issuer(tenant.id.0) {
        return true;
    }
    authority.bases.iter().any(|base| {
        let path = audience.split_at_checked(base.len()).filter(|(start, _)| same(start, base));
        // What follows the base must begin a path: a longer port or host name is somebody else's.
        let Some(path) = path.and_then(|(_, rest)| rest.strip_prefix('/')) else { return false };
        match path.split('/').collect::<Vec<_>>().as_slice() {
            [segment, "oauth2", "token"] | [segment, "oauth2", "v2.0", "token"] => names_tenant(segment) || shared(segment),
            [segment] | [segment, ""] | [segment, "v2.0"] => lenient && names_tenant(segment),
            _ => false,
        }
    })
}

fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The parameters of a token request.
struct Form {
    parameters: Vec<(String, SecretString)>,
    /// From HTTP Basic.
    client_id: Option<String>,
    client_secret: Option<SecretString>,
}

impl Form {
    fn read(headers: &HeaderMap, query: Option<&str>, body: &[u8]) -> Result<Self, Failure> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let is_form = content_type.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"));
        // Another content type is not read at all: the first parameter is then missing, as the real service says.
        let body = if is_form { body } else { &[] };
        let parameters: Vec<(String, SecretString)> = form_urlencoded::parse(body)
            .take(PARAMETERS + 1)
            .map(|(name, value)| (name.into_owned(), SecretString::from(value.into_owned())))
            .collect();
        if parameters.len() > PARAMETERS {
            return Err(Failure::request(
                9_000_411,
                format!("The request is not properly formatted. It has more than {PARAMETERS} parameters."),
            ));
        }
        let (client_id, client_secret) = basic(headers)?.map_or((None, None), |(id, secret)| (Some(id), Some(secret)));
        let in_query: Vec<String> = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).map(|(n, _)| n.into_owned()).collect();
        for name in DECISIVE {
            let basic = match name {
                "client_secret" => usize::from(client_secret.is_some()),
                _ => 0,
            };
            let count = parameters.iter().filter(|(n, _)| n == name).count() + in_query.iter().filter(|n| *n == name).count() + basic;
            if count > 1 {
                let text = format!("The request is not properly formatted. The parameter '{name}' is duplicated.");
                return Err(Failure::request(9_000_411, text));
            }
        }
        let form = Self { parameters, client_id, client_secret };
        if let (Some(basic), Some(named)) = (&form.client_id, form.get("client_id"))
            && !basic.eq_ignore_ascii_case(named)
        {
            return Err(Failure::request(9_000_411, "The request is not properly formatted. The parameter 'client_id' is duplicated."));
        }
        Ok(form)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.expose_secret()).filter(|v| !v.is_empty())
    }

    fn required(&self, name: &str) -> Result<&str, Failure> {
        self.get(name).ok_or_else(|| Failure::missing(name))
    }
}

/// Client id and secret of HTTP Basic, form-encoded each (RFC 6749 2.3.1).
fn basic(headers: &HeaderMap) -> Result<Option<(String, SecretString)>, Failure> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let malformed = || Failure::request(900_144, "The Authorization header is not HTTP Basic with a client id and a secret.");
    let (scheme, pair) = value.to_str().ok().and_then(|v| v.trim().split_once(' ')).ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return Err(malformed());
    }
    let pair = STANDARD.decode(pair.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(malformed)?;
    let (id, secret) = pair.split_once(':').ok_or_else(malformed)?;
    let decode = |text: &str| {
        // A lone value decodes as the name of a pair, once the two separators that a client forgot to encode are.
        let text = text.replace('&', "%26").replace('=', "%3D");
        form_urlencoded::parse(text.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
    };
    Ok(Some((decode(id), SecretString::from(decode(secret)))))
}
