//! Results that are read page by page over REST.
//!
//! A cursor holds the running pipeline between two requests: the runspace waits, nothing is gathered. It belongs to one
//! principal of one tenant and lives half an hour. The last page is kept, so that a repeated request for it (its
//! answer was lost) gets the same bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use exops_adminapi::{Page, PageWriter, ResponseFormat};
use exops_psobject::{ErrorCategory, ErrorRecord, Value};
use exops_runspace::{Ended, Record, RecordStream, Step};
use futures_util::StreamExt as _;
use uuid::Uuid;

use crate::session::{RUN_LIMIT, internal_error};

/// Milliseconds after which an untouched cursor is gone; the real service names the same time.
const LIFE: i64 = 30 * 60 * 1000;
/// Milliseconds for which a finished cursor is kept for a repeated request.
const LIFE_FINISHED: i64 = 60 * 1000;
/// Cursors of one principal; the one that was idle longest makes room.
const PER_OWNER: usize = 8;
/// Cursors altogether.
const TOTAL: usize = 128;

/// Errors of one page; of more it is said how many.
const ERRORS: usize = 1_000;

/// Whose cursor: tenant and object id of the principal.
pub(crate) type Owner = (Uuid, Uuid);

/// How pages of one result are made.
pub(crate) struct Shape {
    /// Metadata URL without fragment.
    pub(crate) context: String,
    /// URL of the operation, to which `?$skiptoken=` is added.
    pub(crate) url: String,
    /// JSON or CLIXML.
    pub(crate) format: ResponseFormat,
    /// Properties to keep; empty keeps all.
    pub(crate) select: Vec<String>,
    /// Objects a page.
    pub(crate) size: usize,
}

/// The rest of a result.
pub(crate) struct Cursor {
    records: RecordStream,
    shape: Shape,
    /// The object that showed that there is a next page.
    ahead: Option<Value>,
    /// Number of the page that was made last, from 0.
    page: u64,
    /// The answer that page gave.
    last: Option<Arc<Made>>,
    finished: bool,
}

/// What a page request leads to.
pub(crate) enum Made {
    /// A page.
    Page(Bytes),
    /// Nothing but errors: how the pipeline ended, the errors where it went on, and the warnings.
    Error {
        /// The non-terminating errors.
        errors: Vec<ErrorRecord>,
        /// The end.
        end: Ended,
        /// Warnings so far.
        warnings: Vec<Arc<str>>,
    },
}

impl Cursor {
    pub(crate) fn new(records: RecordStream, shape: Shape) -> Self {
        Self { records, shape, ahead: None, page: 0, last: None, finished: false }
    }

    /// Makes the next page, for as long as a cmdlet may run. `id` is where the rest will be found; answers whether
    /// there is a rest.
    pub(crate) async fn make(&mut self, id: Uuid) -> (Made, bool) {
        let made = tokio::time::timeout(RUN_LIMIT, self.gather(id)).await;
        made.unwrap_or_else(|_| {
            let text = format!("the command ran longer than {} minutes and was stopped", RUN_LIMIT.as_secs() / 60);
            let record = ErrorRecord::new("System.TimeoutException", text, ErrorCategory::OperationTimeout, "OperationTimeout");
            (Made::Error { errors: Vec::new(), end: Ended::Failed(Box::new(record)), warnings: Vec::new() }, false)
        })
    }

    async fn gather(&mut self, id: Uuid) -> (Made, bool) {
        let select: Vec<&str> = self.shape.select.iter().map(String::as_str).collect();
        let mut writer = PageWriter::new(&self.shape.context, self.shape.format, &select);
        let mut beside = Page::default();
        let mut more_errors = 0_u64;
        if let Some(object) = self.ahead.take() {
            writer.push(&object);
        }
        let end = loop {
            match self.records.next().await {
                Some(Step::Record(Record::Output(object))) => {
                    if writer.count() >= self.shape.size {
                        self.ahead = Some(object);
                        break None;
                    }
                    writer.push(&object);
                }
                Some(Step::Record(Record::Warning(text))) => beside.warnings.push(text),
                Some(Step::Record(Record::Error(error))) if beside.errors.len() < ERRORS => beside.errors.push(*error),
                Some(Step::Record(Record::Error(_))) => more_errors += 1,
                // What a cmdlet would do (-WhatIf) or asks for is the only host text that REST carries.
                Some(Step::Record(Record::Information(record))) if record.is_for_host() => {
                    let text = record.message.display();
                    beside.confirmation = Some(text.strip_prefix("What if: ").unwrap_or(&text).into());
                }
                Some(Step::Record(_)) => {}
                Some(Step::Ended(end)) => break Some(end),
                None => break Some(Ended::Failed(Box::new(internal_error("the command ended without a result")))),
            }
        };
        if more_errors > 0 {
            let text = format!("{more_errors} more errors were left out: the answer holds the first {ERRORS}");
            let kind = "System.InvalidOperationException";
            beside.errors.push(ErrorRecord::new(kind, text, ErrorCategory::LimitsExceeded, "ErrorLimitExceeded"));
        }
        if writer.count() == 0 && (!beside.errors.is_empty() || !matches!(end, None | Some(Ended::Completed))) {
            let end = end.unwrap_or(Ended::Completed);
            return (Made::Error { errors: beside.errors, end, warnings: beside.warnings }, false);
        }
        beside.errors.extend(end.as_ref().and_then(end_record));
        let more = self.ahead.is_some();
        if more {
            self.page += 1;
            beside.next_link = Some(format!("{}?$skiptoken={id:x}.{}", self.shape.url, self.page));
        }
        (Made::Page(writer.finish(&beside).into()), more)
    }
}

/// What stands behind the errors for an end that is no success.
pub(crate) fn end_record(end: &Ended) -> Option<ErrorRecord> {
    Some(match end {
        Ended::Completed => return None,
        Ended::Failed(record) | Ended::Refused(record) => ErrorRecord::clone(record),
        Ended::SignIn(fault) | Ended::Unreachable(fault) | Ended::OutcomeUnknown(fault) => internal_error(&fault.message),
        Ended::Stopped => internal_error("the command was stopped"),
        _ => internal_error("the command did not run to its end"),
    })
}

struct Entry {
    owner: Owner,
    used: i64,
    finished: bool,
    cursor: Arc<tokio::sync::Mutex<Cursor>>,
}

/// All cursors.
#[derive(Default)]
pub(crate) struct Cursors(Mutex<HashMap<Uuid, Entry>>);

impl Cursors {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the rest of a result under the id that its link names.
    pub(crate) fn keep(&self, id: Uuid, owner: Owner, cursor: Cursor, now: i64) {
        let mut cursors = self.lock();
        let oldest = |cursors: &HashMap<Uuid, Entry>, of: Option<Owner>| {
            let entries = cursors.iter().filter(|(_, e)| of.is_none_or(|of| e.owner == of));
            entries.min_by_key(|(_, e)| (!e.finished, e.used)).map(|(id, _)| *id)
        };
        let full = if cursors.values().filter(|e| e.owner == owner).count() >= PER_OWNER {
            oldest(&cursors, Some(owner))
        } else if cursors.len() >= TOTAL {
            oldest(&cursors, None)
        } else {
            None
        };
        if let Some(full) = full {
            cursors.remove(&full);
        }
        cursors.insert(id, Entry { owner, used: now, finished: false, cursor: Arc::new(tokio::sync::Mutex::new(cursor)) });
    }

    /// The page that a skip token names: the next one, or the last one again. `None` for a token of nobody, of somebody
    /// else, past its time, or of an earlier page.
    pub(crate) async fn page(&self, token: &str, owner: Owner, now: i64) -> Option<Arc<Made>> {
        let (id, page) = token.split_once('.')?;
        let (id, page) = (Uuid::try_parse(id).ok()?, page.parse::<u64>().ok()?);
        let cursor = {
            let mut cursors = self.lock();
            let entry = cursors.get_mut(&id).filter(|e| e.owner == owner && !expired(e, now))?;
            entry.used = now;
            Arc::clone(&entry.cursor)
        };
        // Two requests for one page at the same time: the second waits and gets the first one's bytes.
        let mut cursor = cursor.lock().await;
        if let Some((made_page, made)) = cursor.last.as_ref().map(|made| (cursor.made_page(), made))
            && made_page == page
        {
            return Some(Arc::clone(made));
        }
        if cursor.finished || cursor.page != page {
            return None;
        }
        let (made, more) = cursor.make(id).await;
        let made = Arc::new(made);
        cursor.last = Some(Arc::clone(&made));
        if !more {
            cursor.finished = true;
            if let Some(entry) = self.lock().get_mut(&id) {
                entry.finished = true;
            }
        }
        Some(made)
    }

    /// Drops what is past its time; a dropped cursor stops its pipeline.
    pub(crate) fn reap(&self, now: i64) {
        self.lock().retain(|_, e| !expired(e, now));
    }

    /// Drops all.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }
}

impl Cursor {
    /// The page whose answer `last` is: the one before the next, or the final one.
    fn made_page(&self) -> u64 {
        if self.finished { self.page } else { self.page.saturating_sub(1) }
    }
}

fn expired(entry: &Entry, now: i64) -> bool {
    now.saturating_sub(entry.used) > if entry.finished { LIFE_FINISHED } else { LIFE }
}
