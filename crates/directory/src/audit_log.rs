//! `Search-AdminAuditLog`: entries of the trail in the documented shape, newest first.

use exops_audit::{Ending, Entry, admin_audit_log_event};
use exops_store::AuditQuery;

use crate::Run;
use crate::organization::Entity;
use crate::output::Flow;
use crate::parameters::ResultSize;
use crate::values::fold;

pub(crate) const PARAMETERS: [&str; 9] =
    ["Cmdlets", "Parameters", "StartDate", "EndDate", "ObjectIds", "UserIds", "IsSuccess", "StartIndex", "ResultSize"];

/// Entries that are read at once.
const PAGE: u32 = 200;
/// How far a search without start date goes back (14 days, the documented default), in milliseconds.
const WINDOW: i64 = 14 * 24 * 3_600_000;
/// Version that originating servers show.
const SERVER_VERSION: &str = "15.20.9000.000";

impl Run {
    pub(crate) async fn search_admin_audit_log(&self) -> Flow {
        let (from, to) = (self.time("StartDate")?, self.time("EndDate")?);
        if let (Some(from), Some(to)) = (from, to)
            && from > to
        {
            let value = self.command.argument("StartDate").cloned().unwrap_or_default();
            return Err(self.conversion("StartDate", &value, "System.DateTime", "It must not be after EndDate."));
        }
        let is_success = self.is_success()?;
        let parameters = self.list("Parameters");
        let mut skip = self.start_index()?;
        let mut left = match self.result_size()? {
            ResultSize::Unlimited => u64::MAX,
            size => size.limit(),
        };
        let query = AuditQuery {
            cmdlets: self.list("Cmdlets"),
            callers: self.list("UserIds").iter().map(|user| caller(user)).collect(),
            objects: self.objects().await?,
            from: Some(from.unwrap_or_else(|| to.unwrap_or(self.origin().time).saturating_sub(WINDOW))),
            to,
        };
        let server = originating_server(&self.origin().server);
        let mut cursor = None;
        loop {
            let page = self.store().audit_search(&query, cursor, PAGE).await.map_err(|e| self.storage(&e))?;
            for entry in &page.entries {
                self.output.check()?;
                if !wanted(entry, is_success, &parameters) {
                    continue;
                }
                let Some(event) = admin_audit_log_event(entry, &server) else { continue };
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                if left == 0 {
                    return Ok(());
                }
                left -= 1;
                self.output.object(event.into()).await?;
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// `-ObjectIds` as entries name objects: as given, and by canonical name where it leads to objects.
    pub(crate) async fn objects(&self) -> Flow<Vec<String>> {
        let mut names = self.list("ObjectIds");
        for index in 0..names.len() {
            let given = names.get(index).cloned().unwrap_or_default();
            for found in self.store().resolve(&fold(&given), PAGE).await.map_err(|e| self.storage(&e))? {
                if let Some(object) = self.store().object(found.id).await.map_err(|e| self.storage(&e))? {
                    let entity = Entity::read(&object).map_err(|e| self.storage(&e))?;
                    names.push(self.organization().canonical_name(&entity));
                }
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn is_success(&self) -> Flow<Option<bool>> {
        let Some(value) = self.command.argument("IsSuccess").filter(|v| !v.is_null()) else { return Ok(None) };
        match (value.as_bool(), value.display().trim_start_matches('$').to_ascii_lowercase().as_str()) {
            (Some(flag), _) => Ok(Some(flag)),
            (None, "true" | "1") => Ok(Some(true)),
            (None, "false" | "0") => Ok(Some(false)),
            _ => Err(self.conversion("IsSuccess", value, "System.Boolean", "It must be $true or $false.")),
        }
    }

    fn start_index(&self) -> Flow<u64> {
        let Some(value) = self.command.argument("StartIndex").filter(|v| !v.is_null()) else { return Ok(0) };
        let number = value.as_i64().and_then(|n| u64::try_from(n).ok()).or_else(|| value.display().trim().parse().ok());
        number.ok_or_else(|| self.conversion("StartIndex", value, "System.Int32", "It must be a number from 0 on."))
    }
}

/// A server as audit rows name it: `NAME (version)`.
pub(crate) fn originating_server(host: &str) -> String {
    format!("{} ({SERVER_VERSION})", host.split('.').next().unwrap_or_default().to_uppercase())
}

/// A caller as the trail knows it: `ServicePrincipal_<object id>` and `name (client id)` are spellings of ids.
pub(crate) fn caller(text: &str) -> String {
    let id = text.strip_prefix("ServicePrincipal_").or_else(|| text.strip_suffix(')').and_then(|t| t.rsplit_once(" (")).map(|(_, id)| id));
    id.filter(|id| uuid::Uuid::try_parse(id).is_ok()).unwrap_or(text).to_lowercase()
}

fn wanted(entry: &Entry, is_success: Option<bool>, parameters: &[String]) -> bool {
    let succeeded = entry.outcome.as_ref().is_some_and(|o| o.ending == Ending::Succeeded);
    let has = |wanted: &String| entry.intent.parameters.iter().any(|p| p.name.eq_ignore_ascii_case(wanted));
    is_success.is_none_or(|flag| flag == succeeded) && (parameters.is_empty() || parameters.iter().any(has))
}
