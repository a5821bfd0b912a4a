//! Answers that both front ends give.

use axum::body::Body;
use exops_adminapi::ErrorBody;
use http::header::EXPECT;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Incoming};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// Longest time in which a body must have come.
const BODY_READ: Duration = Duration::from_secs(60);
/// How much of a body that nobody reads is taken in, and for how long.
const DISCARD_BYTES: usize = 8 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(10);

/// An answer with a whole body, so that it goes out with its length.
pub(crate) fn whole<'a>(status: u16, headers: impl IntoIterator<Item = (&'a str, String)>, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// A short JSON error outside any cmdlet.
pub(crate) fn error(status: u16, code: &str, message: &str) -> Response<Body> {
    let body = json!({"error": {"code": code, "message": message}}).to_string().into_bytes();
    whole(status, [("Content-Type", "application/json; charset=utf-8".to_owned())], body)
}

/// The answer after a failure of our own.
pub(crate) fn internal(request_id: Uuid) -> Response<Body> {
    error(500, "InternalServerError", &format!("the request failed inside the server; its id is {request_id}"))
}

/// An error envelope as an answer.
pub(crate) fn envelope(error: ErrorBody) -> Response<Body> {
    whole(error.status, error.headers, error.body)
}

/// Reads a request body.
///
/// # Errors
/// The HTTP status to answer with: 413 above the limit (before anything is read where the length is announced), 408
/// when it does not come, 400 when it breaks off.
pub(crate) async fn read_body(body: &mut Incoming, limit: usize) -> Result<Vec<u8>, u16> {
    if body.size_hint().lower() > limit as u64 {
        return Err(413);
    }
    match tokio::time::timeout(BODY_READ, Limited::new(body, limit).collect()).await {
        Err(_) => Err(408),
        Ok(Ok(collected)) => Ok(collected.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(413),
        Ok(Err(_)) => Err(400),
    }
}

/// Takes in what is left of a request's body after it was refused. A client that still writes when its connection is closed reads a broken
/// connection and never the refusal. One that waits for `100 Continue` has written nothing and is not asked to.
pub(crate) async fn discard(headers: &HeaderMap, body: &mut Incoming) {
    if !body.is_end_stream() && !headers.contains_key(EXPECT) {
        let mut left = DISCARD_BYTES;
        let taken = async {
            while let Some(Ok(frame)) = body.frame().await {
                left = left.saturating_sub(frame.data_ref().map_or(1, |data| data.len().max(1)));
                if left == 0 {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(DISCARD_TIME, taken).await;
    }
}
