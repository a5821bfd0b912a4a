//! The Graph subset by which applications are set up: `/v1.0/…` and `/beta/…`.

mod applications;
mod credentials;
mod principals;
mod roles;

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use exops_auth::secret;
use exops_store::{StoreError, TenantStore};
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::failure::client_request_id;
use crate::{Authority, Tenant};

/// Longest text that a name may have.
const MAX_NAME: usize = 256;

/// A refusal in Graph's form.
#[derive(Debug)]
pub(crate) struct GraphError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl GraphError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Request_BadRequest", message)
    }

    fn not_found(id: impl std::fmt::Display) -> Self {
        let message = format!("Resource '{id}' does not exist or one of its queried reference-property objects are not present.");
        Self::new(StatusCode::NOT_FOUND, "Request_ResourceNotFound", message)
    }
}

impl From<StoreError> for GraphError {
    fn from(error: StoreError) -> Self {
        if let StoreError::Exists(what) = error {
            return Self::bad(format!("Another {what} with the same key value already exists."));
        }
        tracing::error!(%error, "a Graph call failed inside the authority");
        // The set-up token is the lab owner's: the reason is for whoever can make room on the disk.
        let text = format!("The service could not complete the request: {error}.");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", text)
    }
}

/// What a call answers.
pub(crate) enum Answer {
    /// A body with its status.
    Body(StatusCode, Value),
    /// 204.
    Nothing,
}

type Result<T> = std::result::Result<T, GraphError>;

/// One call, taken apart.
struct Call<'a> {
    authority: &'a Authority,
    store: TenantStore,
    method: Method,
    /// Path segments after the version.
    segments: Vec<&'a str>,
    query: Vec<(String, String)>,
    body: Map<String, Value>,
    base: &'a str,
    version: &'a str,
}

/// An object by its id, or by the client id of `(appId='…')`.
pub(crate) use exops_store::EntraKey as Key;

impl Call<'_> {
    fn now(&self) -> i64 {
        (self.authority.clock)()
    }

    fn option(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The one comparison `name eq 'value'` of `$filter`.
    fn filter(&self) -> Result<Option<(&str, String)>> {
        let Some(text) = self.option("$filter") else { return Ok(None) };
        let unsupported = || {
            let message = format!("Unsupported filter '{}': one comparison of the form name eq 'value' is served.", shorten(text));
            GraphError::new(StatusCode::BAD_REQUEST, "Request_UnsupportedQuery", message)
        };
        let (name, rest) = text.trim().split_once(' ').ok_or_else(unsupported)?;
        let (operator, value) = rest.trim().split_once(' ').ok_or_else(unsupported)?;
        let value = value.trim().strip_prefix('\'').and_then(|v| v.strip_suffix('\'')).ok_or_else(unsupported)?;
        let value = value.replace("''", "\u{0}");
        if !operator.eq_ignore_ascii_case("eq") || value.contains('\'') {
            return Err(unsupported());
        }
        Ok(Some((name, value.replace('\u{0}', "'"))))
    }

    /// The names of `$select`, when there are any.
    fn selected(&self) -> Option<Vec<&str>> {
        self.option("$select").map(|list| list.split(',').map(str::trim).filter(|n| !n.is_empty()).collect())
    }

    /// Cuts an entity to what `$select` names.
    fn select(&self, mut entity: Value) -> Value {
        if let (Some(names), Value::Object(map)) = (self.selected(), &mut entity) {
            map.retain(|name, _| name.starts_with('@') || names.iter().any(|n| n.eq_ignore_ascii_case(name)));
        }
        entity
    }

    /// A list, cut to what `$select` names.
    fn list(&self, path: &str, items: impl IntoIterator<Item = Value>) -> Answer {
        let value: Vec<Value> = items.into_iter().map(|item| self.select(item)).collect();
        let context = format!("{}/{}/$metadata#{path}", self.base, self.version);
        Answer::Body(StatusCode::OK, json!({"@odata.context": context, "value": value}))
    }

    fn entity(&self, status: StatusCode, path: &str, entity: Value) -> Answer {
        let mut whole = Map::new();
        whole.insert("@odata.context".to_owned(), json!(format!("{}/{}/$metadata#{path}/$entity", self.base, self.version)));
        if let Value::Object(map) = self.select(entity) {
            whole.extend(map);
        }
        Answer::Body(status, Value::Object(whole))
    }

    fn text(&self, name: &'static str) -> Result<&str> {
        let value = self.body.get(name).and_then(Value::as_str).filter(|v| !v.is_empty());
        let value = value.ok_or_else(|| GraphError::bad(format!("A value is required for property '{name}' of resource.")))?;
        if value.chars().count() > MAX_NAME {
            return Err(GraphError::bad(format!("Property '{name}' is longer than {MAX_NAME} characters.")));
        }
        Ok(value)
    }

    fn id(&self, name: &'static str) -> Result<Uuid> {
        let text = self.text(name)?;
        Uuid::try_parse(text).map_err(|_| GraphError::bad(format!("Property '{name}' is not a GUID: '{}'.", shorten(text))))
    }

    /// The object that the path addresses, by `(appId='…')` or by its id in the second segment, and the segments behind it;
    /// `None` where it addresses the collection.
    fn object(&self, addressed: Option<Key>) -> Result<Option<(Key, &[&str])>> {
        match (addressed, self.segments.get(1..).unwrap_or_default()) {
            (Some(key), action) => Ok(Some((key, action))),
            (None, []) => Ok(None),
            (None, [id, action @ ..]) => {
                let id = Uuid::try_parse(id).map_err(|_| GraphError::not_found(id))?;
                Ok(Some((Key::Object(id), action)))
            }
        }
    }

    fn unknown_route(&self) -> GraphError {
        let path = shorten(&self.segments.join("/"));
        GraphError::bad(format!("{} {path} is not a call that this service knows.", self.method))
    }
}

pub(crate) async fn handle(
    State(authority): State<Arc<Authority>>,
    method: Method,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
    uri: axum::extract::OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let base = authority.base(&headers);
    let version = uri.path().split('/').nth(1).unwrap_or("v1.0");
    let result = call(&authority, method, &path, query.as_deref(), &headers, &body, base, version).await;
    let request_id = Uuid::new_v4();
    let mut response = match result {
        Ok(Answer::Body(status, body)) => (status, Json(body)).into_response(),
        Ok(Answer::Nothing) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            let date = Timestamp::from_second(authority.seconds()).map(|t| t.strftime("%Y-%m-%dT%H:%M:%S").to_string());
            let inner = json!({
                "date": date.unwrap_or_default(), "request-id": request_id,
                "client-request-id": client_request_id(&headers).unwrap_or(request_id),
            });
            let body = json!({"error": {"code": error.code, "message": error.message, "innerError": inner}});
            (error.status, Json(body)).into_response()
        }
    };
    if let Ok(value) = HeaderValue::from_str(&request_id.to_string()) {
        response.headers_mut().insert("request-id", value);
    }
    response
}

#[allow(clippy::too_many_arguments, reason = "the parts of one HTTP request")]
async fn call(
    authority: &Authority,
    method: Method,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &[u8],
    base: &str,
    version: &str,
) -> Result<Answer> {
    authorize(authority, headers)?;
    let tenant: &Tenant = authority
        .tenants
        .first()
        .ok_or_else(|| GraphError::new(StatusCode::NOT_FOUND, "Request_ResourceNotFound", "There is no tenant."))?;
    let body = match body {
        [] => Map::new(),
        bytes => match serde_json::from_slice(bytes) {
            Ok(Value::Object(map)) => map,
            _ => return Err(GraphError::bad("The body is not a JSON object.")),
        },
    };
    let query = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
    let segments = path.split('/').filter(|s| !s.is_empty()).collect();
    let call = Call { authority, store: authority.store.tenant(tenant.id), method, segments, query, body, base, version };
    let (collection, key) = call.segments.first().map(|s| addressed(s)).transpose()?.unwrap_or(("", None));
    match collection {
        "applications" => applications::handle(&call, key).await,
        "servicePrincipals" => principals::handle(&call, key).await,
        "roleManagement" => roles::handle(&call).await,
        _ => Err(call.unknown_route()),
    }
}

/// `applications` or `applications(appId='…')`.
fn addressed(segment: &str) -> Result<(&str, Option<Key>)> {
    let Some((collection, rest)) = segment.split_once('(') else { return Ok((segment, None)) };
    let id = rest.strip_prefix("appId='").and_then(|r| r.strip_suffix("')")).and_then(|id| Uuid::try_parse(id).ok());
    let id = id.ok_or_else(|| GraphError::bad(format!("'{}' does not address an object: appId='GUID' is served.", shorten(segment))))?;
    Ok((collection, Some(Key::Client(id))))
}

/// Only the bootstrap token: no application may register others here.
fn authorize(authority: &Authority, headers: &HeaderMap) -> Result<()> {
    let refused = |message: &str| GraphError::new(StatusCode::UNAUTHORIZED, "InvalidAuthenticationToken", message);
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none()).and_then(|v| v.to_str().ok());
    let token = value.and_then(|v| v.trim().split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"));
    let (_, token) = token.ok_or_else(|| refused("Access token is empty."))?;
    if !secret::equal(&SecretString::from(token.trim()), &authority.bootstrap_token) {
        return Err(refused("Access token validation failure: it is not the lab's bootstrap token."));
    }
    Ok(())
}

/// There is no object of that key.
fn missing(key: Key) -> GraphError {
    match key {
        Key::Object(id) | Key::Client(id) => GraphError::not_found(id),
    }
}

/// Unix seconds as Graph writes times.
fn date(seconds: i64) -> String {
    Timestamp::from_second(seconds).map(|t| t.to_string()).unwrap_or_default()
}

fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
