//! `/servicePrincipals` and the app roles granted to and by them.

use axum::http::{Method, StatusCode};
use exops_store::{AppRoleAssignment, ServicePrincipal, StoreError};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answer, Call, GraphError, Key, Result, date, missing};

pub(super) async fn handle(call: &Call<'_>, addressed: Option<Key>) -> Result<Answer> {
    let Some((key, action)) = call.object(addressed)? else {
        return match call.method {
            Method::POST => create(call).await,
            Method::GET => list(call).await,
            _ => Err(call.unknown_route()),
        };
    };
    let principal = call.store.service_principal(key).await?.ok_or_else(|| missing(key))?;
    match (&call.method, action) {
        (&Method::GET, []) => Ok(call.entity(StatusCode::OK, "servicePrincipals", show(&principal))),
        (&Method::PATCH, []) => {
            let enabled = call.body.get("accountEnabled").and_then(Value::as_bool);
            let enabled = enabled.ok_or_else(|| GraphError::bad("Only property 'accountEnabled' can be changed here."))?;
            call.store.enable_service_principal(principal.id, enabled).await?;
            Ok(Answer::Nothing)
        }
        (&Method::GET, ["appRoleAssignments"]) => {
            let found = call.store.app_roles_of(principal.id).await?;
            assignments(call, "appRoleAssignments", found).await
        }
        (&Method::GET, ["appRoleAssignedTo"]) => {
            let found = call.store.app_roles_on(principal.id).await?;
            assignments(call, "appRoleAssignedTo", found).await
        }
        (&Method::POST, ["appRoleAssignments" | "appRoleAssignedTo"]) => grant(call, &principal).await,
        (&Method::DELETE, ["appRoleAssignments" | "appRoleAssignedTo", id]) => {
            let id = Uuid::try_parse(id).map_err(|_| GraphError::not_found(id))?;
            let mut held = call.store.app_roles_of(principal.id).await?;
            held.extend(call.store.app_roles_on(principal.id).await?);
            if !held.iter().any(|a| a.id == id) || !call.store.remove_app_role_assignment(id).await? {
                return Err(GraphError::not_found(id));
            }
            Ok(Answer::Nothing)
        }
        _ => Err(call.unknown_route()),
    }
}

async fn create(call: &Call<'_>) -> Result<Answer> {
    let app_id = call.id("appId")?;
    let application = call.store.application(Key::Client(app_id)).await?;
    let application = application.ok_or_else(|| {
        GraphError::bad(format!("The appId '{app_id}' of the service principal does not reference a valid application object."))
    })?;
    let principal =
        ServicePrincipal { id: Uuid::new_v4(), app_id, display_name: application.display_name, enabled: true, app_roles: Vec::new() };
    call.store.add_service_principal(&principal).await.map_err(|error| match error {
        StoreError::Exists(_) => {
            let message = format!("The service principal cannot be created: the name {app_id} is already in use.");
            GraphError::new(StatusCode::CONFLICT, "Request_MultipleObjectsWithSameKeyValue", message)
        }
        other => other.into(),
    })?;
    Ok(call.entity(StatusCode::CREATED, "servicePrincipals", show(&principal)))
}

async fn list(call: &Call<'_>) -> Result<Answer> {
    let filter = call.filter()?;
    let mut found = match &filter {
        Some(("appId", value)) => match Uuid::try_parse(value) {
            Ok(id) => call.store.service_principal(Key::Client(id)).await?.into_iter().collect(),
            Err(_) => Vec::new(),
        },
        Some(("displayName", _)) | None => call.store.service_principals(Uuid::nil()).await?,
        Some((name, _)) => return Err(GraphError::bad(format!("'{name}' is not a property to filter service principals by."))),
    };
    if let Some(("displayName", value)) = &filter {
        found.retain(|p| p.display_name.eq_ignore_ascii_case(value));
    }
    Ok(call.list("servicePrincipals", found.iter().map(show)))
}

/// Grants a resource's app role to a principal; the path names either of the two.
async fn grant(call: &Call<'_>, addressed: &ServicePrincipal) -> Result<Answer> {
    let (principal, resource, role) = (call.id("principalId")?, call.id("resourceId")?, call.id("appRoleId")?);
    if addressed.id != principal && addressed.id != resource {
        return Err(GraphError::bad("The service principal of the path is neither the principal nor the resource of the assignment."));
    }
    let find = async |id: Uuid| call.store.service_principal(Key::Object(id)).await?.ok_or_else(|| GraphError::not_found(id));
    let resource = find(resource).await?;
    find(principal).await?;
    if !resource.app_roles.iter().any(|r| r.id == role) {
        return Err(GraphError::bad(format!("Permission being assigned was not found on application '{}'.", resource.app_id)));
    }
    let assignment = AppRoleAssignment { id: Uuid::new_v4(), principal, resource: resource.id, role, created: call.now() };
    call.store.add_app_role_assignment(&assignment).await.map_err(|error| match error {
        StoreError::Exists(_) => GraphError::bad("Permission being assigned already exists on the object."),
        other => other.into(),
    })?;
    let shown = show_assignment(call, &assignment).await?;
    Ok(call.entity(StatusCode::CREATED, "appRoleAssignments", shown))
}

async fn assignments(call: &Call<'_>, path: &str, found: Vec<AppRoleAssignment>) -> Result<Answer> {
    let mut items = Vec::with_capacity(found.len());
    for assignment in &found {
        items.push(show_assignment(call, assignment).await?);
    }
    Ok(call.list(path, items))
}

async fn show_assignment(call: &Call<'_>, assignment: &AppRoleAssignment) -> Result<Value> {
    let name = async |id: Uuid| call.store.service_principal(Key::Object(id)).await.map(|p| p.map(|p| p.display_name));
    Ok(json!({
        "id": assignment.id, "createdDateTime": date(assignment.created.div_euclid(1000)), "appRoleId": assignment.role,
        "principalId": assignment.principal, "principalType": "ServicePrincipal",
        "principalDisplayName": name(assignment.principal).await?,
        "resourceId": assignment.resource, "resourceDisplayName": name(assignment.resource).await?,
    }))
}

fn show(principal: &ServicePrincipal) -> Value {
    let roles: Vec<Value> = (principal.app_roles.iter())
        .map(|r| {
            json!({
                "id": r.id, "value": r.value, "displayName": r.display_name, "isEnabled": true,
                "allowedMemberTypes": ["Application"],
            })
        })
        .collect();
    json!({
        "id": principal.id, "appId": principal.app_id, "displayName": principal.display_name,
        "accountEnabled": principal.enabled, "servicePrincipalType": "Application", "appRoles": roles,
    })
}
