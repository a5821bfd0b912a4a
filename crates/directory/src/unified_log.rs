//! `Search-UnifiedAuditLog`: the trail in the rows of the unified audit log, with its session paging.
//!
//! A session is what a caller names with `-SessionId`: each call goes on where the last one ended, until one answers
//! nothing. Sessions live in memory, in bounded number; after a restart a search begins anew.

use std::collections::VecDeque;
use std::sync::LazyLock;

use exops_audit::{Ending, Entry};
use exops_psobject::{DateTime, Properties, PsObject, TypeNames, Value};
use exops_store::{AuditCursor, AuditQuery};
use serde_json::json;
use uuid::Uuid;

use crate::Run;
use crate::audit_log::{caller, originating_server};
use crate::output::Flow;

pub(crate) const PARAMETERS: [&str; 13] = [
    "StartDate",
    "EndDate",
    "Operations",
    "RecordType",
    "UserIds",
    "ObjectIds",
    "IPAddresses",
    "FreeText",
    "SessionId",
    "SessionCommand",
    "ResultSize",
    "Formatted",
    "HighCompleteness",
];

/// Entries that are read at once.
const PAGE: u32 = 200;
/// Rows of a call that does not say how many.
const DEFAULT_SIZE: u64 = 100;
/// Rows that one session answers: with `ReturnLargeSet`, with `ReturnNextPreviewPage`, with both.
const LIMITS: [u64; 3] = [50_000, 5_000, 10_000];
/// Sessions that are remembered; the one that was used longest ago is forgotten first.
const SESSIONS: usize = 200;
/// Characters of a session's name.
const NAME: usize = 256;
/// Records that the organisation has, of those that there are.
const RECORD_TYPE: &str = "ExchangeAdmin";
const RECORD_TYPES: [&str; 16] = [
    RECORD_TYPE,
    "ExchangeItem",
    "ExchangeItemGroup",
    "ExchangeItemAggregated",
    "SharePoint",
    "SharePointFileOperation",
    "SharePointSharingOperation",
    "OneDrive",
    "AzureActiveDirectory",
    "AzureActiveDirectoryAccountLogon",
    "AzureActiveDirectoryStsLogon",
    "DataCenterSecurityCmdlet",
    "ComplianceDLPExchange",
    "ComplianceDLPSharePoint",
    "SecurityComplianceCenterEOPCmdlet",
    "MicrosoftTeams",
];
/// `UserType` of a service principal.
const SERVICE_PRINCIPAL: i32 = 6;

/// The type name is assumed: no recorded row names it.
static ROW: LazyLock<TypeNames> = LazyLock::new(|| {
    [
        "Microsoft.Exchange.Management.SystemConfigurationTasks.UnifiedAuditLogEvent",
        "Microsoft.Exchange.Data.ConfigurableObject",
        "System.Object",
    ]
    .map(Into::into)
    .into_iter()
    .collect()
});

/// What one call asks for beside its session.
#[derive(Debug, Clone, PartialEq)]
struct Search {
    query: AuditQuery,
    /// No record of the organisation is of a type that is asked for.
    nothing: bool,
    addresses: Vec<String>,
    /// In lower case.
    free_text: Option<String>,
}

/// Where a session stands.
#[derive(Debug, Clone)]
struct Session {
    caller: Uuid,
    /// In lower case.
    name: String,
    search: Search,
    /// `ReturnLargeSet` and `ReturnNextPreviewPage` were used.
    used: [bool; 2],
    next: Option<AuditCursor>,
    ended: bool,
    /// Rows answered.
    index: u64,
    /// Rows that there are.
    count: u64,
}

/// The sessions of one organisation, the one used last at the end.
#[derive(Debug, Default)]
pub(crate) struct Sessions(VecDeque<Session>);

impl Sessions {
    fn take(&mut self, caller: Uuid, name: &str) -> Option<Session> {
        let position = self.0.iter().position(|s| s.caller == caller && s.name == name)?;
        self.0.remove(position)
    }

    fn put(&mut self, session: Session) {
        if self.0.len() >= SESSIONS {
            self.0.pop_front();
        }
        self.0.push_back(session);
    }
}

impl Run {
    pub(crate) async fn search_unified_audit_log(&self) -> Flow {
        let size = self.command.argument("ResultSize").and_then(Value::as_i64).and_then(|n| u64::try_from(n).ok()).unwrap_or(DEFAULT_SIZE);
        let large = self.large_set()?;
        let search = self.search().await?;
        let name = self.session_name()?;
        let caller = self.invocation.caller.principal.object_id();
        let known = name.as_ref().and_then(|name| self.sessions().take(caller, name));
        let mut session = match known {
            Some(session) if session.search == search => session,
            Some(session) => {
                self.sessions().put(session);
                let value = self.command.argument("SessionId").cloned().unwrap_or_default();
                let reason = "A session of that name was begun with other conditions. Use another name.";
                return Err(self.conversion("SessionId", &value, "System.String", reason));
            }
            None => {
                let count = self.count(&search).await?;
                let name = name.clone().unwrap_or_default();
                Session { caller, name, search, used: [false; 2], next: None, ended: false, index: 0, count }
            }
        };
        if let Some(used) = session.used.get_mut(usize::from(!large)) {
            *used = true;
        }
        let limit = match session.used {
            [true, false] => LIMITS[0],
            [false, true] => LIMITS[1],
            _ => LIMITS[2],
        };
        let left = size.min(limit.saturating_sub(session.index));
        let end = self.rows(&mut session, left).await;
        if name.is_some() {
            self.sessions().put(session);
        }
        end
    }

    /// Writes up to `left` rows and moves the session behind them.
    async fn rows(&self, session: &mut Session, mut left: u64) -> Flow {
        let server = originating_server(&self.origin().server);
        while left > 0 && !session.ended && !session.search.nothing {
            // Never more entries than rows wanted, so that the next call can go on behind the last one read.
            let limit = PAGE.min(u32::try_from(left).unwrap_or(PAGE));
            let page = self.store().audit_search(&session.search.query, session.next, limit).await.map_err(|e| self.storage(&e))?;
            for entry in &page.entries {
                let Some((row, data)) = self.row(entry, &server) else { continue };
                if !session.search.wants(entry, &data) {
                    continue;
                }
                session.index += 1;
                left = left.saturating_sub(1);
                self.output.object(finished(row, data, entry.intent.id.0, session).into()).await?;
            }
            session.ended = page.next.is_none();
            session.next = page.next;
        }
        Ok(())
    }

    async fn count(&self, search: &Search) -> Flow<u64> {
        let (mut count, mut next) = (0, None);
        let server = originating_server(&self.origin().server);
        while !search.nothing && count < LIMITS[0] {
            self.output.check()?;
            let page = self.store().audit_search(&search.query, next, PAGE).await.map_err(|e| self.storage(&e))?;
            let found = page.entries.iter().filter_map(|entry| Some((entry, self.row(entry, &server)?.1)));
            count += found.filter(|(entry, data)| search.wants(entry, data)).count() as u64;
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        Ok(count)
    }

    async fn search(&self) -> Flow<Search> {
        let (from, to) = (self.time("StartDate")?, self.time("EndDate")?);
        if from > to {
            let value = self.command.argument("StartDate").cloned().unwrap_or_default();
            return Err(self.conversion(
                "StartDate",
                &value,
                "Microsoft.Exchange.ExchangeSystem.ExDateTime",
                "It must not be after EndDate.",
            ));
        }
        let types = self.list("RecordType");
        if let Some(wrong) = types.iter().find(|name| !RECORD_TYPES.iter().any(|t| t.eq_ignore_ascii_case(name)) && *name != "1") {
            let reason = format!("It must be one of {}.", RECORD_TYPES.join(", "));
            return Err(self.conversion(
                "RecordType",
                &wrong.as_str().into(),
                "Microsoft.Office.CompliancePolicy.AuditRecordType",
                &reason,
            ));
        }
        let text = |parameter: &str| self.command.argument(parameter).map(Value::display).filter(|t| !t.trim().is_empty());
        Ok(Search {
            query: AuditQuery {
                cmdlets: self.list("Operations"),
                callers: self.list("UserIds").iter().map(|user| caller(user)).collect(),
                objects: self.objects().await?,
                from,
                to,
            },
            nothing: !types.is_empty() && !types.iter().any(|name| name.eq_ignore_ascii_case(RECORD_TYPE) || name == "1"),
            addresses: self.list("IPAddresses"),
            free_text: text("FreeText").map(|t| t.to_lowercase()),
        })
    }

    fn large_set(&self) -> Flow<bool> {
        let Some(value) = self.command.argument("SessionCommand").filter(|v| !v.is_null()) else { return Ok(false) };
        match value.display().to_ascii_lowercase().as_str() {
            "returnlargeset" => Ok(true),
            "returnnextpreviewpage" => Ok(false),
            _ => {
                let kind = "Microsoft.Exchange.Data.ApplicationLogic.UnifiedAuditSessionCommand";
                Err(self.conversion("SessionCommand", value, kind, "It must be one of ReturnLargeSet, ReturnNextPreviewPage."))
            }
        }
    }

    fn session_name(&self) -> Flow<Option<String>> {
        let Some(value) = self.command.argument("SessionId").filter(|v| !v.is_null()) else { return Ok(None) };
        let name = value.display().to_lowercase();
        match name.chars().count() {
            1..=NAME => Ok(Some(name)),
            _ => Err(self.conversion("SessionId", value, "System.String", &format!("It must have 1 to {NAME} characters."))),
        }
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.directory.0.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The columns of an entry before its place in the answer, and its `AuditData`; nothing for entries that the log
    /// does not show: refused ones, and ones that still run.
    fn row(&self, entry: &Entry, server: &str) -> Option<(Properties, String)> {
        let outcome = entry.outcome.as_ref().filter(|o| !matches!(o.ending, Ending::Refused(_)))?;
        let (intent, actor) = (&entry.intent, &entry.intent.actor);
        let user = format!("ServicePrincipal_{}", actor.object_id);
        let time = DateTime::from_unix_milliseconds(intent.time / 1000 * 1000);
        let formatted = self.command.flag("Formatted");
        let number = |name: &str, number: i32| if formatted { json!(name) } else { json!(number) };
        let data = json!({
            "CreationTime": time.to_string().chars().take(19).collect::<String>(),
            "Id": intent.id.0,
            "Operation": intent.cmdlet,
            "OrganizationId": intent.tenant,
            "RecordType": number(RECORD_TYPE, 1),
            "ResultStatus": if outcome.ending == Ending::Succeeded { "True" } else { "False" },
            "UserKey": user,
            "UserType": number("ServicePrincipal", SERVICE_PRINCIPAL),
            "Version": 1,
            "Workload": "Exchange",
            "ClientIP": actor.client_address,
            "ObjectId": outcome.object,
            "UserId": user,
            "AppId": actor.app_id,
            "ClientAppId": "",
            "AppAccessContext": {"ClientAppId": actor.app_id},
            "ExternalAccess": false,
            "OrganizationName": self.organization().name(),
            "OriginatingServer": server,
            "Parameters": intent.parameters.iter().map(|p| json!({"Name": p.name, "Value": p.value})).collect::<Vec<_>>(),
            "ModifiedProperties":
                outcome.changes.iter().map(|c| json!({"Name": c.property, "OldValue": c.old, "NewValue": c.new})).collect::<Vec<_>>(),
            "RequestId": intent.correlation_id,
        });
        let mut row = Properties::with_capacity(10);
        row.push("RecordType", RECORD_TYPE);
        row.push("CreationDate", time);
        row.push("UserIds", user);
        row.push("Operations", intent.cmdlet.as_str());
        Some((row, data.to_string()))
    }
}

impl Search {
    fn wants(&self, entry: &Entry, data: &str) -> bool {
        let address = host(&entry.intent.actor.client_address);
        (self.addresses.is_empty() || self.addresses.iter().any(|wanted| host(wanted).eq_ignore_ascii_case(address)))
            && self.free_text.as_ref().is_none_or(|text| data.to_lowercase().contains(text))
    }
}

/// The address of `address:port`, `[address]:port` or an address alone.
fn host(text: &str) -> &str {
    match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None if text.matches(':').count() == 1 => text.split(':').next().unwrap_or_default(),
        None => text,
    }
}

fn finished(mut row: Properties, data: String, id: Uuid, session: &Session) -> PsObject {
    row.push("AuditData", data);
    row.push("ResultIndex", i32::try_from(session.index).unwrap_or(i32::MAX));
    row.push("ResultCount", i32::try_from(session.count.max(session.index)).unwrap_or(i32::MAX));
    row.push("Identity", id);
    row.push("IsValid", true);
    row.push("ObjectState", "Unchanged");
    PsObject { to_string: Some(id.to_string().into()), ..PsObject::typed(ROW.clone(), row) }
}
