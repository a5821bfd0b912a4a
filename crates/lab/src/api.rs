//! The lab's own small API under `/exops-lab/v1/`: how the command line asks, resets and stops a running lab, and how a test pulls
//! its levers.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use exops_auth::secret;
use exops_authority::Authority;
use exops_directory::Seed;
use exops_gateway::Gateway;
use exops_store::TenantStore;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::Ready;

/// What the routes share with the running lab.
pub(crate) struct Api {
    /// The ready file's content.
    pub(crate) ready: Ready,
    /// When it began to accept requests.
    pub(crate) started: Timestamp,
    /// Counts requests; it holds these routes, so they do not hold it.
    pub(crate) gateway: OnceLock<Weak<Gateway>>,
    /// Counts the tokens that it issues.
    pub(crate) authority: Arc<Authority>,
    /// It refuses what the real token service lets pass.
    pub(crate) strict: bool,
    /// Rows of the tenant.
    pub(crate) rows: TenantStore,
    /// The bearer token.
    pub(crate) token: SecretString,
    /// Seconds by which the lab's clock is ahead of the machine's.
    pub(crate) clock_offset: Arc<AtomicI32>,
    /// Told when somebody asks the lab to stop.
    pub(crate) stop: Arc<Notify>,
}

pub(crate) fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/exops-lab/v1/status", get(status))
        .route("/exops-lab/v1/shutdown", post(shutdown))
        .route("/exops-lab/v1/reset", post(reset))
        .route("/exops-lab/v1/levers", post(levers))
        // A file of any size: it is not read into memory.
        .route("/exops-lab/v1/import", post(crate::import::import).layer(DefaultBodyLimit::disable()))
        // Of these routes alone: an unknown path is nobody's secret.
        .route_layer(middleware::from_fn_with_state(Arc::clone(&api), authorized))
        .with_state(api)
}

async fn status(State(api): State<Arc<Api>>) -> Json<Value> {
    let gateway = api.gateway.get().and_then(Weak::upgrade);
    let (requests, refused) = gateway.map_or((0, 0), |gateway| (gateway.requests(), gateway.authenticator().tokens_refused()));
    let mut document = serde_json::to_value(&api.ready).unwrap_or_default();
    if let Value::Object(map) = &mut document {
        map.insert("running".into(), true.into());
        map.insert("started".into(), api.started.to_string().into());
        map.insert("strict".into(), api.strict.into());
        map.insert("requests".into(), requests.into());
        map.insert("tokens_issued".into(), api.authority.tokens_issued().into());
        map.insert("tokens_refused".into(), refused.into());
    }
    Json(document)
}

async fn shutdown(State(api): State<Arc<Api>>) -> (StatusCode, Json<Value>) {
    // One permit is kept until somebody waits: asking twice is the same as once.
    api.stop.notify_one();
    (StatusCode::ACCEPTED, Json(json!({"stopping": true})))
}

async fn reset(State(api): State<Arc<Api>>) -> (StatusCode, Json<Value>) {
    match Seed::reset(&api.rows, &api.ready.organization).await {
        Ok(seed) => (StatusCode::OK, Json(json!({"reset": true, "organization": api.ready.organization, "seed": seed.name()}))),
        Err(error) => {
            tracing::error!(%error, "the organisation was not reset");
            let body = json!({"error": {"code": "NotReset", "message": format!("the organisation is as it was: {error}")}});
            (StatusCode::INTERNAL_SERVER_ERROR, Json(body))
        }
    }
}

/// What a test can make the lab do.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Levers {
    /// Requests for which a token is good on both transports; null or absent lifts it.
    token_requests: Option<NonZeroU32>,
    /// Seconds by which the lab's clock is ahead of the machine's, behind it where negative; absent sets it right.
    #[serde(default)]
    clock_offset: i32,
}

async fn levers(State(api): State<Arc<Api>>, body: Result<Json<Levers>, JsonRejection>) -> (StatusCode, Json<Value>) {
    let Json(levers) = match body {
        Ok(levers) => levers,
        Err(rejection) => {
            let body = json!({"error": {"code": "BadLever", "message": rejection.body_text()}});
            return (StatusCode::BAD_REQUEST, Json(body));
        }
    };
    let limited = api.gateway.get().and_then(Weak::upgrade).is_some_and(|g| g.authenticator().limit_token_uses(levers.token_requests));
    let status = if limited { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    api.clock_offset.store(levers.clock_offset, Ordering::Relaxed);
    (status, Json(json!({"token_requests": levers.token_requests, "clock_offset": levers.clock_offset})))
}

async fn authorized(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    if bearer(request.headers()).is_some_and(|token| secret::equal(&token.into(), &api.token)) {
        return next.run(request).await;
    }
    let body = json!({"error": {"code": "Unauthorized", "message": "this route takes the token of the lab's bootstrap.json as bearer"}});
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], Json(body)).into_response()
}

/// The token of exactly one bearer header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then_some(token.trim())
}
