//! `/roleManagement/directory`: directory roles and who holds them.

use axum::http::{Method, StatusCode};
use exops_policy::DirectoryRole;
use exops_store::{RoleAssignment, StoreError};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answer, Call, GraphError, Key, Result, shorten};

pub(super) async fn handle(call: &Call<'_>) -> Result<Answer> {
    match (&call.method, call.segments.get(1..).unwrap_or_default()) {
        (&Method::GET, ["directory", "roleDefinitions"]) => definitions(call),
        (&Method::GET, ["directory", "roleDefinitions", id]) => {
            let role = Uuid::try_parse(id).ok().and_then(by_id).ok_or_else(|| GraphError::not_found(id))?;
            Ok(call.entity(StatusCode::OK, "roleManagement/directory/roleDefinitions", show_definition(role)))
        }
        (&Method::POST, ["directory", "roleAssignments"]) => assign(call).await,
        (&Method::GET, ["directory", "roleAssignments"]) => list(call).await,
        (&Method::DELETE, ["directory", "roleAssignments", id]) => {
            let id = Uuid::try_parse(id).map_err(|_| GraphError::not_found(id))?;
            if call.store.remove_role_assignment(id).await? { Ok(Answer::Nothing) } else { Err(GraphError::not_found(id)) }
        }
        _ => Err(call.unknown_route()),
    }
}

fn by_id(id: Uuid) -> Option<DirectoryRole> {
    DirectoryRole::ALL.into_iter().find(|r| r.template_id() == id)
}

fn definitions(call: &Call<'_>) -> Result<Answer> {
    let wanted: Vec<DirectoryRole> = match call.filter()? {
        None => DirectoryRole::ALL.to_vec(),
        Some(("displayName" | "templateId" | "id", value)) => DirectoryRole::find(&value).into_iter().collect(),
        Some((name, _)) => return Err(GraphError::bad(format!("'{name}' is not a property to filter role definitions by."))),
    };
    Ok(call.list("roleManagement/directory/roleDefinitions", wanted.into_iter().map(show_definition)))
}

async fn assign(call: &Call<'_>) -> Result<Answer> {
    let definition = call.text("roleDefinitionId")?;
    let role = Uuid::try_parse(definition).ok().and_then(by_id).ok_or_else(|| GraphError::not_found(shorten(definition)))?;
    let principal = call.id("principalId")?;
    let scope = call.text("directoryScopeId")?;
    if scope != "/" {
        return Err(GraphError::bad(format!("Directory scope '{}' is not served: '/' is.", shorten(scope))));
    }
    call.store.service_principal(Key::Object(principal)).await?.ok_or_else(|| GraphError::not_found(principal))?;
    let assignment = RoleAssignment { id: Uuid::new_v4(), principal, role: role.template_id(), scope: scope.to_owned() };
    call.store.add_role_assignment(&assignment).await.map_err(|error| match error {
        StoreError::Exists(_) => {
            GraphError::bad("A conflicting object with one or more of the specified property values is present in the directory.")
        }
        other => other.into(),
    })?;
    Ok(call.entity(StatusCode::CREATED, "roleManagement/directory/roleAssignments", show(&assignment)))
}

async fn list(call: &Call<'_>) -> Result<Answer> {
    let found = match call.filter()? {
        None => call.store.role_assignments(None).await?,
        Some(("principalId", value)) => match Uuid::try_parse(&value) {
            Ok(principal) => call.store.role_assignments(Some(principal)).await?,
            Err(_) => Vec::new(),
        },
        Some((name, _)) => return Err(GraphError::bad(format!("'{name}' is not a property to filter role assignments by."))),
    };
    Ok(call.list("roleManagement/directory/roleAssignments", found.iter().map(show)))
}

fn show(assignment: &RoleAssignment) -> Value {
    json!({
        "id": assignment.id, "principalId": assignment.principal, "roleDefinitionId": assignment.role,
        "directoryScopeId": assignment.scope,
    })
}

fn show_definition(role: DirectoryRole) -> Value {
    json!({
        "id": role.template_id(), "templateId": role.template_id(), "displayName": role.display_name(),
        "isBuiltIn": true, "isEnabled": true,
    })
}
