//! The audit trail: chained records, and the entries that searches find.

use exops_audit::{Ending, Entry, Intent, IntentId, Outcome, chain};
use exops_policy::TenantId;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;

use crate::store::{id, key};
use crate::{StoreError, TenantStore};

const LAST: &str = "SELECT seq, link FROM audit_log WHERE tenant = $1 ORDER BY seq DESC LIMIT 1";
const RECORDS: &str = "SELECT seq, body, link FROM audit_log WHERE tenant = $1 AND seq > $2 ORDER BY seq LIMIT $3";
const OPEN: &str = "SELECT id FROM audit_entries WHERE tenant = $1 AND ending = '' ORDER BY id LIMIT $2";
const BY_TIME: &str = "SELECT time, id FROM audit_entries WHERE tenant = $1 AND (time, id) < ($2, $3) AND time >= $4 \
                       ORDER BY time DESC, id DESC LIMIT $5";
const BY_TERM: &str = "SELECT time, id FROM audit_terms WHERE tenant = $1 AND term = $2 AND (time, id) < ($3, $4) AND time >= $5 \
                       ORDER BY time DESC, id DESC LIMIT $6";
const ENTRY: &str = "SELECT e.outcome, i.body AS intent_body, o.body AS outcome_body FROM audit_entries e \
                     JOIN audit_log i ON i.tenant = e.tenant AND i.seq = e.intent \
                     LEFT JOIN audit_log o ON o.tenant = e.tenant AND o.seq = e.outcome WHERE e.tenant = $1 AND e.id = $2";
const STATE: &str = "SELECT time, ending FROM audit_entries WHERE tenant = $1 AND id = $2";

/// Statements of reads, for the test of query plans.
pub(crate) const QUERIES: &[(&str, &str)] = &[
    ("end of the trail", LAST),
    ("records of the trail", RECORDS),
    ("open audit entries", OPEN),
    ("audit entries by time", BY_TIME),
    ("audit entries by term", BY_TERM),
    ("audit entry", ENTRY),
    ("state of an audit entry", STATE),
];

/// Orphans that one transaction closes.
const ORPHANS: i64 = 500;

/// One record of the trail, as its bytes and hash hold it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TrailRecord {
    Intent(Intent),
    Outcome(Outcome),
}

/// Which entries a search finds. Empty lists and `None` do not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Any of these cmdlets, without case.
    pub cmdlets: Vec<String>,
    /// Any of these callers: display name, client id or object id, without case.
    pub callers: Vec<String>,
    /// Any of these objects, by the identity that the outcome names, without case.
    pub objects: Vec<String>,
    /// Not before this time (Unix milliseconds).
    pub from: Option<i64>,
    /// Not after this time (Unix milliseconds).
    pub to: Option<i64>,
}

/// Where a page of entries ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditCursor {
    time: i64,
    id: Uuid,
}

/// Some entries, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<AuditCursor>,
}

impl AuditQuery {
    /// The narrowest list as search terms; the other lists are checked on what it finds.
    fn terms(&self) -> Vec<String> {
        [("object", &self.objects), ("actor", &self.callers), ("cmdlet", &self.cmdlets)]
            .into_iter()
            .find(|(_, values)| !values.is_empty())
            .map_or_else(Vec::new, |(kind, values)| values.iter().map(|value| term(kind, value)).collect())
    }

    fn matches(&self, entry: &Entry) -> bool {
        let any = |wanted: &[String], have: &[String]| wanted.is_empty() || wanted.iter().any(|w| have.contains(&w.to_lowercase()));
        let actor = &entry.intent.actor;
        let object = entry.outcome.as_ref().map(|o| o.object.to_lowercase());
        any(&self.cmdlets, &[entry.intent.cmdlet.to_lowercase()])
            && any(&self.callers, &[actor.name.to_lowercase(), actor.app_id.to_string(), actor.object_id.to_string()])
            && any(&self.objects, object.as_slice())
    }
}

impl TenantStore {
    /// Makes an intent durable. Nothing that it announces may begin before this answers.
    ///
    /// # Errors
    /// When it could not be written, or belongs to another tenant: then the command must be refused.
    pub async fn audit_intent(&self, intent: &Intent) -> Result<(), StoreError> {
        let (tenant, intent) = (self.tenant, intent.clone());
        self.store.write(move |connection| Box::pin(async move { append_intent(connection, tenant, &intent).await })).await
    }

    /// Closes an entry. Does nothing when it has an outcome already: the first one stands.
    ///
    /// # Errors
    /// When it could not be written, or there is no such intent.
    pub async fn audit_outcome(&self, outcome: &Outcome) -> Result<(), StoreError> {
        let (tenant, outcome) = (self.tenant, outcome.clone());
        self.store.write(move |connection| Box::pin(async move { append_outcome(connection, tenant, &outcome).await })).await
    }

    /// Writes the whole entry of a command that was not tried, in one go.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn audit_refused(&self, intent: Intent, outcome: Outcome) -> Result<(), StoreError> {
        let tenant = self.tenant;
        self.store
            .write(move |connection| {
                Box::pin(async move {
                    append_intent(connection, tenant, &intent).await?;
                    append_outcome(connection, tenant, &outcome).await
                })
            })
            .await
    }

    /// Closes every entry without outcome as "outcome unknown": at start, before anything runs. Answers how many
    /// there were.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn audit_close_orphans(&self, now: i64) -> Result<u64, StoreError> {
        let mut closed = 0;
        loop {
            let tenant = self.tenant;
            let count = self
                .store
                .write(move |connection| {
                    Box::pin(async move {
                        let query = sqlx::query(OPEN).bind(key(tenant.0)).bind(ORPHANS);
                        let rows = query.fetch_all(&mut *connection).await?;
                        for row in &rows {
                            let ending = Ending::Unknown("the service stopped while the command ran".to_owned());
                            let id = IntentId(id(row, "id")?);
                            let outcome = Outcome { id, time: now, ending, object: String::new(), changes: Vec::new() };
                            append_outcome(connection, tenant, &outcome).await?;
                        }
                        Ok(rows.len() as u64)
                    })
                })
                .await?;
            closed += count;
            if count < ORPHANS as u64 {
                return Ok(closed);
            }
        }
    }

    /// The next entries that a query finds, newest first, at most `limit` read at once: a page may hold fewer, also
    /// none, while there are more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn audit_search(&self, query: &AuditQuery, after: Option<AuditCursor>, limit: u32) -> Result<AuditPage, StoreError> {
        let tenant = self.key();
        let mut connection = self.store.read().await?;
        let before = after.unwrap_or(AuditCursor { time: query.to.map_or(i64::MAX, |t| t.saturating_add(1)), id: Uuid::nil() });
        let from = query.from.unwrap_or(i64::MIN);
        let terms = query.terms();
        let mut found = Vec::new();
        if terms.is_empty() {
            let rows = sqlx::query(BY_TIME).bind(&tenant).bind(before.time).bind(key(before.id)).bind(from).bind(i64::from(limit));
            found.extend(rows.fetch_all(&mut *connection).await?);
        }
        for term in &terms {
            let rows = sqlx::query(BY_TERM).bind(&tenant).bind(term).bind(before.time).bind(key(before.id)).bind(from);
            found.extend(rows.bind(i64::from(limit)).fetch_all(&mut *connection).await?);
        }
        let mut cursors = found
            .iter()
            .map(|row: &SqliteRow| Ok(AuditCursor { time: row.try_get("time")?, id: id(row, "id")? }))
            .collect::<Result<Vec<_>, StoreError>>()?;
        cursors.sort_by_key(|c| std::cmp::Reverse((c.time, c.id)));
        cursors.dedup();
        let more = cursors.len() >= limit as usize;
        cursors.truncate(limit as usize);
        let mut entries = Vec::with_capacity(cursors.len());
        for cursor in &cursors {
            let row = sqlx::query(ENTRY).bind(&tenant).bind(key(cursor.id)).fetch_one(&mut *connection).await?;
            let entry = entry(&row)?;
            if query.matches(&entry) {
                entries.push(entry);
            }
        }
        Ok(AuditPage { entries, next: cursors.last().copied().filter(|_| more) })
    }

    /// The next records of the trail after a sequence number (0 begins): number, bytes and link, as
    /// [`exops_audit::verify`] takes them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn audit_records(&self, after: i64, limit: u32) -> Result<Vec<(i64, Vec<u8>, [u8; 32])>, StoreError> {
        let query = sqlx::query(RECORDS).bind(self.key()).bind(after).bind(i64::from(limit));
        let rows = query.fetch_all(&mut *self.store.read().await?).await?;
        rows.iter().map(|row| Ok((row.try_get("seq")?, row.try_get("body")?, link(row)?))).collect()
    }
}

async fn append_intent(connection: &mut SqliteConnection, tenant: TenantId, intent: &Intent) -> Result<(), StoreError> {
    let entry = intent.id.0;
    if intent.tenant != tenant.0 {
        return Err(StoreError::Audit(entry, "belongs to another tenant"));
    }
    let seq = append(connection, tenant, &TrailRecord::Intent(intent.clone())).await?;
    let sql = "INSERT INTO audit_entries (tenant, id, time, ending, intent, outcome) VALUES ($1, $2, $3, '', $4, 0)";
    let query = sqlx::query(sql).bind(key(tenant.0)).bind(key(entry)).bind(intent.time).bind(seq);
    match query.execute(&mut *connection).await {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => return Err(StoreError::Audit(entry, "exists already")),
        other => other?,
    };
    let actor = &intent.actor;
    for term in [
        term("cmdlet", &intent.cmdlet),
        term("actor", &actor.name),
        term("actor", &actor.app_id.to_string()),
        term("actor", &actor.object_id.to_string()),
    ] {
        add_term(connection, tenant, &term, intent.time, entry).await?;
    }
    Ok(())
}

/// Closes an entry inside the transaction of the change itself.
pub(crate) async fn append_outcome(connection: &mut SqliteConnection, tenant: TenantId, outcome: &Outcome) -> Result<(), StoreError> {
    let entry = outcome.id.0;
    let Some(row) = sqlx::query(STATE).bind(key(tenant.0)).bind(key(entry)).fetch_optional(&mut *connection).await? else {
        return Err(StoreError::Audit(entry, "has no intent"));
    };
    if !row.try_get::<&str, _>("ending")?.is_empty() {
        return Ok(());
    }
    let time: i64 = row.try_get("time")?;
    let seq = append(connection, tenant, &TrailRecord::Outcome(outcome.clone())).await?;
    let sql = "UPDATE audit_entries SET ending = $1, outcome = $2 WHERE tenant = $3 AND id = $4";
    let query = sqlx::query(sql).bind(outcome.ending.word()).bind(seq).bind(key(tenant.0)).bind(key(entry));
    query.execute(&mut *connection).await?;
    if !outcome.object.is_empty() {
        add_term(connection, tenant, &term("object", &outcome.object), time, entry).await?;
    }
    Ok(())
}

/// Adds a record at the end of the tenant's chain and answers its number.
async fn append(connection: &mut SqliteConnection, tenant: TenantId, record: &TrailRecord) -> Result<i64, StoreError> {
    let body = serde_json::to_vec(record).map_err(|e| StoreError::corrupt("audit record", e))?;
    let (last, previous) = match sqlx::query(LAST).bind(key(tenant.0)).fetch_optional(&mut *connection).await? {
        Some(row) => (row.try_get::<i64, _>("seq")?, link(&row)?),
        None => (0, [0; 32]),
    };
    let (seq, link) = (last + 1, chain(&previous, &body));
    let sql = "INSERT INTO audit_log (tenant, seq, body, link) VALUES ($1, $2, $3, $4)";
    sqlx::query(sql).bind(key(tenant.0)).bind(seq).bind(body).bind(link.to_vec()).execute(connection).await?;
    Ok(seq)
}

async fn add_term(connection: &mut SqliteConnection, tenant: TenantId, term: &str, time: i64, entry: Uuid) -> Result<(), StoreError> {
    let sql = "INSERT INTO audit_terms (tenant, term, time, id) VALUES ($1, $2, $3, $4) ON CONFLICT (tenant, term, time, id) DO NOTHING";
    sqlx::query(sql).bind(key(tenant.0)).bind(term).bind(time).bind(key(entry)).execute(connection).await?;
    Ok(())
}

fn term(kind: &str, value: &str) -> String {
    format!("{kind}:{}", value.to_lowercase())
}

fn link(row: &SqliteRow) -> Result<[u8; 32], StoreError> {
    row.try_get::<&[u8], _>("link")?.try_into().map_err(|e| StoreError::corrupt("audit link", e))
}

fn entry(row: &SqliteRow) -> Result<Entry, StoreError> {
    let read = |column| -> Result<TrailRecord, StoreError> {
        serde_json::from_slice(row.try_get(column)?).map_err(|e| StoreError::corrupt("audit record", e))
    };
    let TrailRecord::Intent(intent) = read("intent_body")? else {
        return Err(StoreError::corrupt("audit record", "an outcome where an intent belongs"));
    };
    let outcome = match row.try_get::<i64, _>("outcome")? {
        0 => None,
        _ => match read("outcome_body")? {
            TrailRecord::Outcome(outcome) => Some(outcome),
            TrailRecord::Intent(_) => return Err(StoreError::corrupt("audit record", "an intent where an outcome belongs")),
        },
    };
    Ok(Entry { intent, outcome })
}
