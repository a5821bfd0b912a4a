use std::sync::{Arc, LazyLock};

use exops_psobject::{Base, DateTime, ListKind, Properties, PsObject, TypeNames, Value};

use crate::{Ending, Entry};

fn names(types: &[&str]) -> TypeNames {
    types.iter().map(|t| Arc::from(*t)).collect()
}

static EVENT: LazyLock<TypeNames> = LazyLock::new(|| {
    names(&[
        "Microsoft.Exchange.Management.SystemConfigurationTasks.AdminAuditLogEvent",
        "Microsoft.Exchange.Data.ConfigurableObject",
        "System.Object",
    ])
});
static PARAMETER: LazyLock<TypeNames> =
    LazyLock::new(|| names(&["Microsoft.Exchange.Management.SystemConfigurationTasks.AdminAuditLogCmdletParameter", "System.Object"]));
static PROPERTY: LazyLock<TypeNames> =
    LazyLock::new(|| names(&["Microsoft.Exchange.Management.SystemConfigurationTasks.AdminAuditLogModifiedProperty", "System.Object"]));
static COLLECTION: LazyLock<TypeNames> =
    LazyLock::new(|| names(&["Microsoft.Exchange.Data.MultiValuedProperty`1[[System.Object, mscorlib]]", "System.Object"]));

/// The row that `Search-AdminAuditLog` shows for an entry (fields of the documented audit log structure), or
/// `None` for entries that it does not show: refused ones, and ones that still run.
///
/// `server` is shown as the originating server.
/// `CmdletParameters` holds objects of `Name` and `Value`, `ModifiedProperties` of `Name`, `OldValue`, `NewValue`.
#[must_use]
pub fn admin_audit_log_event(entry: &Entry, server: &str) -> Option<PsObject> {
    let outcome = entry.outcome.as_ref()?;
    if matches!(outcome.ending, Ending::Refused(_)) {
        return None;
    }
    let list =
        |items: Vec<Value>| PsObject { type_names: COLLECTION.clone(), base: Base::List(ListKind::List, items), ..PsObject::default() };
    let item = |types: &TypeNames, fields: &[(&str, &str)]| Value::from(PsObject::typed(types.clone(), fields.iter().copied().collect()));
    let parameters = entry.intent.parameters.iter().map(|p| item(&PARAMETER, &[("Name", &p.name), ("Value", &p.value)])).collect();
    let modified =
        outcome.changes.iter().map(|c| item(&PROPERTY, &[("Name", &c.property), ("OldValue", &c.old), ("NewValue", &c.new)])).collect();
    let error = if outcome.ending == Ending::Succeeded { "None" } else { outcome.ending.reason() };
    let mut row = Properties::with_capacity(14);
    row.push("ObjectModified", outcome.object.as_str());
    row.push("ModifiedObjectResolvedName", outcome.object.as_str());
    row.push("CmdletName", entry.intent.cmdlet.as_str());
    row.push("CmdletParameters", list(parameters));
    row.push("ModifiedProperties", list(modified));
    row.push("Caller", format!("{} ({})", entry.intent.actor.name, entry.intent.actor.app_id));
    row.push("ExternalAccess", false);
    row.push("Succeeded", outcome.ending == Ending::Succeeded);
    row.push("Error", error);
    row.push("RunDate", DateTime::from_unix_milliseconds(entry.intent.time));
    row.push("OriginatingServer", server);
    row.push("ClientIP", entry.intent.actor.client_address.as_str());
    row.push("Identity", entry.intent.id.0.to_string());
    row.push("IsValid", true);
    row.push("ObjectState", "New");
    Some(PsObject { to_string: Some(entry.intent.id.0.to_string().into()), ..PsObject::typed(EVENT.clone(), row) })
}
