//! The lab's own small API under `/exops-lab/v1/`: how the command line asks and stops a running lab.

use std::sync::{Arc, OnceLock, Weak};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use exops_auth::secret;
use exops_gateway::Gateway;
use jiff::Timestamp;
use secrecy::SecretString;
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
    /// The bearer token.
    pub(crate) token: SecretString,
    /// Told when somebody asks the lab to stop.
    pub(crate) stop: Arc<Notify>,
}

pub(crate) fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/exops-lab/v1/status", get(status))
        .route("/exops-lab/v1/shutdown", post(shutdown))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), authorized))
        .with_state(api)
}

async fn status(State(api): State<Arc<Api>>) -> Json<Value> {
    let requests = api.gateway.get().and_then(Weak::upgrade).map_or(0, |gateway| gateway.requests());
    let mut document = serde_json::to_value(&api.ready).unwrap_or_default();
    if let Value::Object(map) = &mut document {
        map.insert("running".into(), true.into());
        map.insert("started".into(), api.started.to_string().into());
        map.insert("requests".into(), requests.into());
    }
    Json(document)
}

async fn shutdown(State(api): State<Arc<Api>>) -> (StatusCode, Json<Value>) {
    // One permit is kept until somebody waits: asking twice is the same as once.
    api.stop.notify_one();
    (StatusCode::ACCEPTED, Json(json!({"stopping": true})))
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
