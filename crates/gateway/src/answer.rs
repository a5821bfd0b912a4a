//! Answers that both front ends give.

use std::convert::Infallible;
use std::io::Write as _;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use exops_adminapi::ErrorBody;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::StreamExt as _;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body as _;
use serde_json::json;
use uuid::Uuid;

use crate::connections::{Paced, TooSlow};

/// Shorter answers are not packed.
const SMALLEST_PACKED: usize = 1_024;
/// Up to this length an answer is packed whole and goes out with its length.
const LONGEST_WHOLE: usize = 1 << 20;
/// How much of a longer one is packed at a time.
const PART: usize = 64 << 10;
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

/// The answer compressed, where the client asked for it and it is long enough to be worth it. A long one is packed on its
/// way, part by part: its beginning does not wait for its end, and the thread serves others in between.
pub(crate) async fn packed(response: Response<Body>, asked: &HeaderMap) -> Response<Body> {
    // The body of a refused cmdlet claims to be gzip and is none.
    if !takes_gzip(asked) || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(body) = body.collect().await else { return whole(500, [], Vec::new()) };
    let body = body.to_bytes();
    parts.headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if body.len() < SMALLEST_PACKED {
        return Response::from_parts(parts, Body::from(body));
    }
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let is_long = body.len() > LONGEST_WHOLE;
    let packing = Some((GzEncoder::new(Vec::new(), Compression::fast()), body));
    let mut packed = Box::pin(futures_util::stream::unfold(packing, pack));
    if is_long {
        return Response::from_parts(parts, Body::from_stream(packed.map(Ok::<_, Infallible>)));
    }
    let mut body = Vec::new();
    while let Some(part) = packed.next().await {
        body.extend_from_slice(&part);
    }
    Response::from_parts(parts, Body::from(body))
}

/// Packs on until there is something to send. Writing into memory does not fail.
async fn pack(packing: Option<(GzEncoder<Vec<u8>>, Bytes)>) -> Option<(Bytes, Option<(GzEncoder<Vec<u8>>, Bytes)>)> {
    let (mut encoder, mut rest) = packing?;
    while !rest.is_empty() {
        let part = rest.split_to(rest.len().min(PART));
        let _ = encoder.write_all(&part);
        if !encoder.get_ref().is_empty() {
            return Some((std::mem::take(encoder.get_mut()).into(), Some((encoder, rest))));
        }
        tokio::task::yield_now().await;
    }
    Some((encoder.finish().unwrap_or_default().into(), None))
}

/// A client asked for gzip by name.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let wishes = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    wishes.into_iter().any(|wish| {
        let (name, quality) = wish.split_once(';').unwrap_or((wish, ""));
        let refused = quality.split_once('=').is_some_and(|(_, q)| q.trim().parse::<f32>().is_ok_and(|q| q <= 0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

/// Reads a request body.
///
/// # Errors
/// The HTTP status to answer with: 413 above the limit (before anything is read where the length is announced), 408
/// when it does not come, 400 when it breaks off.
pub(crate) async fn read_body(body: &mut Paced, limit: usize) -> Result<Vec<u8>, u16> {
    if body.size_hint().lower() > limit as u64 {
        return Err(413);
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes().to_vec()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(413),
        Err(error) if error.is::<TooSlow>() => Err(408),
        Err(_) => Err(400),
    }
}

/// Takes in what is left of a request's body after it was refused. A client that still writes when its connection is closed reads a broken
/// connection and never the refusal. One that waits for `100 Continue` has written nothing and is not asked to.
pub(crate) async fn discard(headers: &HeaderMap, body: &mut Paced) {
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
