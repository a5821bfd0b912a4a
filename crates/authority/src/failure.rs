//! Refusals of the token service: AADSTS codes with the error word, status and text that go with each.

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use exops_auth::assertion::AssertionError;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use crate::token::no_store;

/// A refusal. The texts begin as the real service's do, since programs match on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: u32,
    pub(crate) error: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn request(code: u32, text: impl Into<String>) -> Self {
        Self { code, error: "invalid_request", status: StatusCode::BAD_REQUEST, text: text.into() }
    }

    pub(crate) fn client(code: u32, text: impl Into<String>) -> Self {
        Self { code, error: "invalid_client", status: StatusCode::UNAUTHORIZED, text: text.into() }
    }

    pub(crate) fn other(code: u32, error: &'static str, text: impl Into<String>) -> Self {
        Self { code, error, status: StatusCode::BAD_REQUEST, text: text.into() }
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        Self::request(900_144, format!("The request body must contain the following parameter: '{parameter}'."))
    }

    /// Something of ours: the database.
    pub(crate) fn internal(text: &str) -> Self {
        tracing::error!(%text, "a token request failed inside the authority");
        let text = "The service is temporarily unavailable. Please retry later.".to_owned();
        Self { code: 90_033, error: "temporarily_unavailable", status: StatusCode::SERVICE_UNAVAILABLE, text }
    }

    /// The answer. `correlation` echoes the request's `client-request-id`.
    pub(crate) fn response(self, base: &str, headers: &HeaderMap, now: i64) -> Response {
        let correlation = client_request_id(headers).unwrap_or_else(Uuid::new_v4);
        let (trace, code) = (Uuid::new_v4(), self.code);
        let time = stamp(now);
        let description = format!("AADSTS{code}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {time}", self.text);
        let body = json!({
            "error": self.error, "error_description": description, "error_codes": [code], "timestamp": time,
            "trace_id": trace, "correlation_id": correlation, "error_uri": format!("{base}/error?code={code}"),
        });
        let mut response = (self.status, Json(body)).into_response();
        no_store(&mut response, trace, headers);
        response
    }
}

/// The refusal of an assertion. `client_id` as the request named it; `now` in Unix seconds.
pub(crate) fn assertion(error: &AssertionError, client_id: &str, now: i64) -> Failure {
    let found = |start: &i64, end: &i64| format!("Found key 'Start={}, End={}'", local(*start), local(*end));
    match error {
        AssertionError::KeyNotFound { thumbprint } => Failure::client(
            700_027,
            format!(
                "The certificate with identifier used to sign the client assertion is not registered on application. [Reason - The key \
                 was not found., Thumbprint of key used by client: '{thumbprint}', Application '{client_id}'.]"
            ),
        ),
        AssertionError::NoThumbprint => {
            Failure::request(5_002_723, "Invalid JWT token. Its header has no certificate thumbprint (x5t#S256 or x5t).")
        }
        AssertionError::Signature { thumbprint, start, end } => Failure::client(
            700_027,
            format!(
                "Client assertion failed signature validation. [Reason - Key was found, but use of the key to verify the signature \
                 failed., Thumbprint of key used by client: '{thumbprint}', {}]",
                found(start, end)
            ),
        ),
        AssertionError::KeyExpired { thumbprint, start, end } => Failure::client(
            700_027,
            format!(
                "The certificate with identifier used to sign the client assertion is expired on application. [Reason - The key used \
                 is expired., Thumbprint of key used by client: '{thumbprint}', {}]",
                found(start, end)
            ),
        ),
        AssertionError::TimeRange { not_before, expires } => Failure::client(
            700_024,
            format!(
                "Client assertion is not within its valid time range. Current time: {}, assertion valid from {}, expiry time of \
                 assertion {}.",
                iso(now),
                iso(not_before.unwrap_or(0)),
                iso(*expires)
            ),
        ),
        AssertionError::Audience => Failure::client(700_023, "Client assertion audience claim does not match Realm issuer."),
        AssertionError::Identifier => {
            Failure::client(700_021, "Client assertion application identifier doesn't match 'client_id' parameter.")
        }
        AssertionError::Algorithm { elliptic_curve: true } => {
            Failure::request(5_002_738, "Invalid JWT token. Elliptic curve signatures are not supported: use PS256 or RS256.")
        }
        AssertionError::Algorithm { elliptic_curve: false } => {
            Failure::request(5_002_730, "Invalid JWT token. The algorithm of the signature is not supported: use PS256 or RS256.")
        }
        other => Failure::request(50_027, format!("JWT token is invalid or malformed. {other}.")),
    }
}

/// `client-request-id` where it is a GUID.
pub(crate) fn client_request_id(headers: &HeaderMap) -> Option<Uuid> {
    Uuid::try_parse(headers.get("client-request-id")?.to_str().ok()?).ok()
}

fn stamp(seconds: i64) -> String {
    format(seconds, "%Y-%m-%d %H:%M:%SZ")
}

fn iso(seconds: i64) -> String {
    format(seconds, "%Y-%m-%dT%H:%M:%S.0000000Z")
}

/// The form in which the real service shows dates of keys.
fn local(seconds: i64) -> String {
    format(seconds, "%m/%d/%Y %H:%M:%S")
}

fn format(seconds: i64, pattern: &str) -> String {
    Timestamp::from_second(seconds).map(|t| t.strftime(pattern).to_string()).unwrap_or_default()
}
