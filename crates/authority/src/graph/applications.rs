//! `/applications`

use axum::http::{Method, StatusCode};
use exops_store::{ApplicationRow, Credential, CredentialKind};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answer, Call, GraphError, Key, Result, credentials, date, missing};

pub(super) async fn handle(call: &Call<'_>, addressed: Option<Key>) -> Result<Answer> {
    let Some((key, action)) = call.object(addressed)? else {
        return match call.method {
            Method::POST => create(call).await,
            Method::GET => list(call).await,
            _ => Err(call.unknown_route()),
        };
    };
    let application = call.store.application(key).await?.ok_or_else(|| missing(key))?;
    match (&call.method, action) {
        (&Method::GET, []) => {
            let credentials = call.store.credentials(application.id).await?;
            Ok(call.entity(StatusCode::OK, "applications", show(call, &application, &credentials)))
        }
        (&Method::PATCH, []) => change(call, &application).await,
        (&Method::DELETE, []) => {
            call.store.remove_application(application.id).await?;
            Ok(Answer::Nothing)
        }
        (&Method::POST, ["addPassword"]) => credentials::add_password(call, &application).await,
        (&Method::POST, ["removePassword"]) => credentials::remove_password(call, &application).await,
        _ => Err(call.unknown_route()),
    }
}

async fn create(call: &Call<'_>) -> Result<Answer> {
    if call.body.get("passwordCredentials").is_some_and(|list| list.as_array().is_none_or(|l| !l.is_empty())) {
        return Err(GraphError::bad("Property 'passwordCredentials' cannot be set here: use addPassword."));
    }
    let now = call.now();
    // A client id of the caller's choice is the lab's own extension: programs with a fixed one can be tested.
    let app_id = if call.body.contains_key("appId") { call.id("appId")? } else { Uuid::new_v4() };
    let application = ApplicationRow {
        id: Uuid::new_v4(),
        app_id,
        display_name: call.text("displayName")?.to_owned(),
        required_access: call.body.get("requiredResourceAccess").unwrap_or(&json!([])).to_string(),
        created: now,
    };
    let keys = match call.body.get("keyCredentials") {
        None => Vec::new(),
        Some(list) => credentials::read_keys(list, &[], now.div_euclid(1000))?,
    };
    call.store.add_application(&application, &keys).await.map_err(|error| match error {
        exops_store::StoreError::Exists(_) => {
            let message = format!("Another object with the same value for property appId already exists: {app_id}.");
            GraphError::new(StatusCode::BAD_REQUEST, "Request_MultipleObjectsWithSameKeyValue", message)
        }
        other => other.into(),
    })?;
    Ok(call.entity(StatusCode::CREATED, "applications", show(call, &application, &keys)))
}

async fn list(call: &Call<'_>) -> Result<Answer> {
    let filter = call.filter()?;
    let mut found = match &filter {
        Some(("appId", value)) => {
            let id = Uuid::try_parse(value).ok();
            match id {
                Some(id) => call.store.application(Key::Client(id)).await?.into_iter().collect(),
                None => Vec::new(),
            }
        }
        Some(("displayName", _)) | None => call.store.applications(Uuid::nil()).await?,
        Some((name, _)) => return Err(GraphError::bad(format!("'{name}' is not a property to filter applications by."))),
    };
    if let Some(("displayName", value)) = &filter {
        found.retain(|a| a.display_name.eq_ignore_ascii_case(value));
    }
    let mut items = Vec::with_capacity(found.len());
    for application in &found {
        let credentials = call.store.credentials(application.id).await?;
        items.push(show(call, application, &credentials));
    }
    Ok(call.list("applications", items))
}

/// `keyCredentials` replaces the whole list, as it does in Graph: a caller that wants to add reads first.
async fn change(call: &Call<'_>, application: &ApplicationRow) -> Result<Answer> {
    if let Some(list) = call.body.get("keyCredentials") {
        let present = call.store.credentials(application.id).await?;
        let keys = credentials::read_keys(list, &present, call.now().div_euclid(1000))?;
        call.store.replace_credentials(application.id, CredentialKind::Certificate, &keys).await?;
    }
    if call.body.contains_key("displayName") {
        call.store.rename_application(application.id, call.text("displayName")?).await?;
    }
    Ok(Answer::Nothing)
}

/// The entity. The bytes of certificates come back only where one object is read with `$select=keyCredentials`.
fn show(call: &Call<'_>, application: &ApplicationRow, credentials: &[Credential]) -> Value {
    let one = call.segments.len() > 1 || call.segments.first().is_some_and(|s| s.contains('('));
    let with_key = one && call.selected().is_some_and(|names| names.iter().any(|n| n.eq_ignore_ascii_case("keyCredentials")));
    let of = |kind: CredentialKind| credentials.iter().filter(move |c| c.kind == kind);
    let keys: Vec<Value> = of(CredentialKind::Certificate).map(|c| credentials::show_key(c, with_key)).collect();
    let passwords: Vec<Value> = of(CredentialKind::Secret).map(credentials::show_password).collect();
    let required: Value = serde_json::from_str(&application.required_access).unwrap_or_else(|_| json!([]));
    json!({
        "id": application.id, "appId": application.app_id, "displayName": application.display_name,
        "createdDateTime": date(application.created.div_euclid(1000)), "signInAudience": "AzureADMyOrg",
        "requiredResourceAccess": required, "keyCredentials": keys, "passwordCredentials": passwords,
    })
}
