//! Discovery documents and keys.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::{Authority, Version, token};

/// Tenant segments that name no tenant; the issuer then holds a placeholder, as the real document does.
const SHARED: [&str; 3] = ["common", "organizations", "consumers"];

pub(crate) async fn document_v1(authority: State<Arc<Authority>>, tenant: Path<String>, headers: HeaderMap) -> Response {
    document(&authority, &tenant, &headers, Version::V1)
}

pub(crate) async fn document_v2(authority: State<Arc<Authority>>, tenant: Path<String>, headers: HeaderMap) -> Response {
    document(&authority, &tenant, &headers, Version::V2)
}

fn document(authority: &Authority, tenant: &str, headers: &HeaderMap, version: Version) -> Response {
    let base = authority.base(headers);
    let issuer_tenant = match authority.tenant(tenant) {
        Some(tenant) => tenant.id.to_string(),
        None if SHARED.iter().any(|s| s.eq_ignore_ascii_case(tenant)) => "{tenantid}".to_owned(),
        None => return token::unknown_tenant(tenant).response(base, headers, authority.seconds()),
    };
    // The segment as the caller spelled it goes into every URL: libraries compare.
    let (path, keys, issuer) = match version {
        Version::V1 => ("oauth2", "discovery/keys", format!("https://sts.windows.net/{issuer_tenant}/")),
        Version::V2 => ("oauth2/v2.0", "discovery/v2.0/keys", format!("{base}/{issuer_tenant}/v2.0")),
    };
    let graph = base.split_once("://").map_or(base, |(_, host)| host);
    Json(json!({
        "token_endpoint": format!("{base}/{tenant}/{path}/token"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "jwks_uri": format!("{base}/{tenant}/{keys}"),
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "issuer": issuer,
        "authorization_endpoint": format!("{base}/{tenant}/{path}/authorize"),
        "tenant_region_scope": "EU",
        "cloud_instance_name": graph,
        "cloud_graph_host_name": graph,
        "msgraph_host": graph,
    }))
    .into_response()
}

pub(crate) async fn keys_v1(authority: State<Arc<Authority>>, tenant: Path<String>, headers: HeaderMap) -> Response {
    keys(&authority, &tenant, &headers, Version::V1)
}

pub(crate) async fn keys_v2(authority: State<Arc<Authority>>, tenant: Path<String>, headers: HeaderMap) -> Response {
    keys(&authority, &tenant, &headers, Version::V2)
}

fn keys(authority: &Authority, tenant: &str, headers: &HeaderMap, version: Version) -> Response {
    let base = authority.base(headers);
    let shared = SHARED.iter().any(|s| s.eq_ignore_ascii_case(tenant));
    if authority.tenant(tenant).is_none() && !shared {
        return token::unknown_tenant(tenant).response(base, headers, authority.seconds());
    }
    let list = authority.keys.keys().iter().map(|key| {
        let (n, e) = key.components();
        let mut entry = json!({
            "kty": "RSA", "use": "sig", "kid": key.kid(), "x5t": key.kid(), "n": n, "e": e,
            "x5c": [STANDARD.encode(key.certificate().as_der())],
        });
        if version == Version::V2 {
            let issuer = authority.tenant(tenant).map_or_else(|| "{tenantid}".to_owned(), |t| t.id.to_string());
            entry["issuer"] = json!(format!("{base}/{issuer}/v2.0"));
        }
        entry
    });
    Json(json!({ "keys": list.collect::<Vec<Value>>() })).into_response()
}

/// Instance discovery: whether a sign-in host is one of ours.
pub(crate) async fn instance(
    State(authority): State<Arc<Authority>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let base = authority.base(&headers);
    let asked = query.get("authorization_endpoint").map(String::as_str).unwrap_or_default();
    let (origin, path) = split_origin(asked);
    let same = |base: &&String| base.eq_ignore_ascii_case(origin);
    // msal (Python) leaves the port out of what it asks about.
    let same_host = |base: &&String| without_port(base).eq_ignore_ascii_case(origin);
    let Some(own) = authority.bases.iter().find(same).or_else(|| authority.bases.iter().find(same_host)) else {
        let failure = Failure::other(50_049, "invalid_instance", "Unknown or invalid instance.");
        return failure.response(base, &headers, authority.seconds());
    };
    let tenant = path.split('/').next().filter(|t| !t.is_empty()).unwrap_or("common");
    let hosts: Vec<&str> = authority.bases.iter().filter_map(|b| b.split_once("://").map(|(_, host)| host)).collect();
    let preferred = own.split_once("://").map_or(own.as_str(), |(_, host)| host);
    let body = json!({
        "tenant_discovery_endpoint": format!("{own}/{tenant}/v2.0/.well-known/openid-configuration"),
        "api-version": query.get("api-version").map_or("1.1", String::as_str),
        "metadata": [{"preferred_network": preferred, "preferred_cache": preferred, "aliases": hosts}],
    });
    (StatusCode::OK, Json(body)).into_response()
}

/// `https://host:port` and what follows the next slash.
fn split_origin(url: &str) -> (&str, &str) {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let rest = url.get(authority..).unwrap_or_default();
    match rest.find('/').and_then(|at| url.split_at_checked(authority + at)) {
        Some((origin, path)) => (origin, path.trim_start_matches('/')),
        None => (url, ""),
    }
}

fn without_port(base: &str) -> &str {
    match base.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => base,
    }
}
