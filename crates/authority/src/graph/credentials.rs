//! Key and password credentials of an application.

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exops_auth::{Certificate, secret};
use exops_store::{ApplicationRow, Credential, CredentialKind};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answer, Call, GraphError, Result, date, shorten};

/// Most key credentials of one application.
const MAX_KEYS: usize = 100;
/// Life of a secret where the caller gives none, in seconds: two years.
const SECRET_LIFE: i64 = 2 * 365 * 86_400;

/// Reads a `keyCredentials` list. An entry of `present` that is named by its `keyId` without bytes stays as it is.
pub(super) fn read_keys(list: &Value, present: &[Credential], now: i64) -> Result<Vec<Credential>> {
    let items = list.as_array().ok_or_else(|| GraphError::bad("Property 'keyCredentials' is not a list."))?;
    if items.len() > MAX_KEYS {
        return Err(GraphError::bad(format!("An application has at most {MAX_KEYS} key credentials.")));
    }
    items.iter().map(|item| read_key(item, present, now)).collect()
}

fn read_key(item: &Value, present: &[Credential], now: i64) -> Result<Credential> {
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    let invalid = |code: &'static str, message: &str| GraphError::new(StatusCode::BAD_REQUEST, code, message);
    let id = text("keyId").and_then(|id| Uuid::try_parse(id).ok());
    if text("key").is_none()
        && let Some(kept) = present.iter().find(|c| c.kind == CredentialKind::Certificate && Some(c.id) == id)
    {
        return Ok(kept.clone());
    }
    if text("type").is_some_and(|t| t != "AsymmetricX509Cert") || text("usage").is_some_and(|u| u != "Verify") {
        return Err(GraphError::bad("A key credential of type 'AsymmetricX509Cert' with usage 'Verify' is served, no other."));
    }
    let key = text("key").filter(|k| !k.is_empty());
    let key = key.ok_or_else(|| invalid("KeyCredentialsInvalidValue", "Key credential value is invalid: it is empty."))?;
    let der = STANDARD
        .decode(key.trim())
        .map_err(|_| invalid("KeyCredentialsInvalidValue", "Key credential value is invalid: it is not base64."))?;
    let certificate = Certificate::from_der(&der)
        .map_err(|error| invalid("KeyCredentialsInvalidValue", &format!("Key credential value is invalid: {error}.")))?;
    if certificate.is_rsa() && certificate.key_bits() < 2048 {
        let message =
            format!("Key credential value is invalid: its RSA key has {} bits, at least 2048 are needed.", certificate.key_bits());
        return Err(invalid("KeyCredentialsInvalidValue", &message));
    }
    let instant = |name: &str| text(name).map(|t| t.parse::<Timestamp>().map(Timestamp::as_second));
    let starts = match instant("startDateTime") {
        None => certificate.not_before().max(0),
        Some(Ok(starts)) if starts >= certificate.not_before() => starts,
        Some(_) => return Err(invalid("KeyCredentialsInvalidStartDate", "Key credential start date is invalid.")),
    };
    let ends = match instant("endDateTime") {
        None => certificate.not_after(),
        // Not one second past the certificate's own end.
        Some(Ok(ends)) if ends <= certificate.not_after() && ends > starts => ends,
        Some(_) => return Err(invalid("KeyCredentialsInvalidEndDate", "Key credential end date is invalid.")),
    };
    if ends < now && text("endDateTime").is_some() {
        return Err(invalid("KeyCredentialsInvalidEndDate", "Key credential end date is invalid: it is past."));
    }
    Ok(Credential {
        id: id.unwrap_or_else(Uuid::new_v4),
        kind: CredentialKind::Certificate,
        material: der,
        display_name: text("displayName").map_or_else(|| certificate.subject().to_owned(), shorten),
        hint: String::new(),
        starts,
        ends,
    })
}

/// A key credential; its bytes only where they were asked for.
pub(super) fn show_key(credential: &Credential, with_key: bool) -> Value {
    let thumbprint = Certificate::from_der(&credential.material).map(|c| c.sha1_thumbprint()).unwrap_or_default();
    let key = with_key.then(|| STANDARD.encode(&credential.material));
    json!({
        "keyId": credential.id, "customKeyIdentifier": thumbprint, "displayName": credential.display_name,
        "startDateTime": date(credential.starts), "endDateTime": date(credential.ends),
        "type": "AsymmetricX509Cert", "usage": "Verify", "key": key,
    })
}

/// A password credential without its secret.
pub(super) fn show_password(credential: &Credential) -> Value {
    json!({
        "keyId": credential.id, "displayName": credential.display_name, "hint": credential.hint, "secretText": null,
        "startDateTime": date(credential.starts), "endDateTime": date(credential.ends),
    })
}

/// Adds a secret and shows it, this once. A secret of the caller's choice is the lab's own extension.
pub(super) async fn add_password(call: &Call<'_>, application: &ApplicationRow) -> Result<Answer> {
    let given = call.body.get("passwordCredential").cloned().unwrap_or_else(|| json!({}));
    let text = |name: &str| given.get(name).and_then(Value::as_str);
    let now = call.now().div_euclid(1000);
    let ends = match text("endDateTime").map(str::parse::<Timestamp>) {
        None => now.saturating_add(SECRET_LIFE),
        Some(Ok(ends)) if ends.as_second() > now => ends.as_second(),
        Some(_) => return Err(GraphError::bad("Password credential end date is invalid.")),
    };
    let internal = |error: exops_auth::IdentityError| {
        GraphError::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", format!("No secret could be made: {error}."))
    };
    let secret_text = match text("secretText") {
        Some(chosen) if !chosen.is_empty() && chosen.len() <= 1024 => SecretString::from(chosen),
        Some(_) => return Err(GraphError::bad("Property 'secretText' is empty or longer than 1024 bytes.")),
        None => secret::generate().map_err(internal)?,
    };
    let credential = Credential {
        id: Uuid::new_v4(),
        kind: CredentialKind::Secret,
        material: secret::hash(&secret_text).map_err(internal)?,
        display_name: text("displayName").map(shorten).unwrap_or_default(),
        hint: secret_text.expose_secret().chars().take(3).collect(),
        starts: now,
        ends,
    };
    call.store.add_credential(application.id, &credential).await?;
    let mut shown = show_password(&credential);
    shown["secretText"] = json!(secret_text.expose_secret());
    Ok(Answer::Body(StatusCode::OK, shown))
}

pub(super) async fn remove_password(call: &Call<'_>, application: &ApplicationRow) -> Result<Answer> {
    let id = call.id("keyId")?;
    if call.store.remove_credential(application.id, id, CredentialKind::Secret).await? {
        return Ok(Answer::Nothing);
    }
    Err(GraphError::bad(format!("No password credential found with keyId '{id}'.")))
}
