//! Import of what administrators exported: JSON of both PowerShells' `ConvertTo-Json` and of the command line, CLIXML of
//! `Export-Clixml`, CSV of `Export-Csv`.
//!
//! A file is read object by object, each object is fitted to a noun of the table, and all become one transaction of the
//! store: every one, or none.

mod fit;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use exops_psobject::Limits;
use exops_psobject::exported::{self, Entry, FileError};
use exops_store::{Load, Refusal, Row, StoreError, TenantStore};
use serde_json::{Value as Json, json};
use thiserror::Error;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::FOREST;
use crate::nouns::{Noun, noun, nouns};
use crate::organization::{Entity, Organization};
use crate::values::fold;
use fit::Fit;

/// Bounds of each object in a file.
const LIMITS: Limits = Limits { bytes: 16 << 20, depth: 100, values: 1_000_000, attributes: 64, own_members: true };
/// Most objects in a file.
const OBJECTS: u64 = 5_000_000;
/// Refused objects, and kinds of warnings, that a report lists; it counts the others.
const LISTED: usize = 100;
/// Different recipients named by others that are looked for after an import.
const REFERENCES: usize = 5_000;
/// Objects that go to the store at once.
const BATCH: usize = 200;

/// Why nothing could be imported, and nothing was kept.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file cannot be read to its end.
    #[error(transparent)]
    File(#[from] FileError),
    /// It has too many objects.
    #[error("there are more than {OBJECTS} objects in the file")]
    TooMany,
    /// `--noun` names none.
    #[error("\"{0}\" is no noun that can be imported; those are {nouns}", nouns = importable().join(", "))]
    UnknownNoun(String),
    /// The store failed.
    #[error("the objects could not be written: {0}")]
    Store(#[from] StoreError),
}

/// How to import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// What objects are that do not say it themselves.
    pub noun: Option<String>,
    /// Keep nothing, and say what would happen.
    pub dry_run: bool,
}

/// An object that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedObject {
    /// Number of the object in the file, from 1.
    pub object: u64,
    /// Line on which it begins, from 1.
    pub line: u64,
    /// Why.
    pub reason: String,
}

/// What became of a file.
#[derive(Debug, Clone, Default)]
pub struct ImportReport {
    /// Objects by noun; in the directory now unless something was refused or it was a dry run.
    pub objects: BTreeMap<String, u64>,
    /// Objects that were not taken, at most 100. Where there is one, nothing was kept.
    pub refused: Vec<RefusedObject>,
    /// How many there are in all.
    pub refused_count: u64,
    /// What was understood only in part: text and number of objects.
    pub warnings: BTreeMap<String, u64>,
}

impl ImportReport {
    /// As the lab's API answers it.
    #[must_use]
    pub fn to_json(&self, dry_run: bool) -> Json {
        let refused: Vec<Json> = self.refused.iter().map(|r| json!({"object": r.object, "line": r.line, "reason": r.reason})).collect();
        let warnings: Vec<Json> = self.warnings.iter().map(|(text, count)| json!({"text": text, "objects": count})).collect();
        json!({
            "imported": self.refused_count == 0 && !dry_run,
            "dry_run": dry_run,
            "objects": self.objects,
            "refused": refused,
            "refused_count": self.refused_count,
            "warnings": warnings,
        })
    }

    fn refuse(&mut self, refused: RefusedObject) {
        self.refused_count += 1;
        if self.refused.len() < LISTED {
            self.refused.push(refused);
        }
    }

    fn warn(&mut self, text: String) {
        if let Some(count) = self.warnings.get_mut(&text) {
            *count += 1;
        } else {
            let text = if self.warnings.len() < LISTED { text } else { "there are warnings that are not listed here".to_owned() };
            *self.warnings.entry(text).or_default() += 1;
        }
    }
}

/// The nouns that can be imported.
#[must_use]
pub fn importable() -> Vec<&'static str> {
    nouns().iter().filter(|noun| can_import(noun)).map(|noun| &*noun.name).collect()
}

fn can_import(noun: &Noun) -> bool {
    // There is one configuration, and the organisation has it from the beginning.
    !noun.view && &*noun.name != "OrganizationConfig"
}

/// Imports a file into an organisation (its initial domain; `server` is the host name that its objects show): all objects
/// in one transaction, or none.
///
/// # Errors
/// When the file cannot be read as a whole. Objects that are refused are in the report.
pub async fn import(
    store: &TenantStore,
    organization: &str,
    server: &str,
    mut file: File,
    options: ImportOptions,
) -> Result<ImportReport, ImportError> {
    let wanted = match &options.noun {
        None => None,
        Some(name) => {
            let found = nouns().iter().find(|noun| can_import(noun) && noun.name.eq_ignore_ascii_case(name));
            Some(found.ok_or_else(|| ImportError::UnknownNoun(name.clone()))?)
        }
    };
    let fit = Fit { organization: Organization::new(organization, FOREST, server), wanted };
    let (sender, receiver) = mpsc::channel(4);
    let dry_run = options.dry_run;
    let reading = tokio::task::spawn_blocking(move || {
        let mut pass = Pass { fit, batch: Vec::new(), places: Vec::new(), references: BTreeSet::new(), report: ImportReport::default() };
        let read = pass.run(&mut file, &sender, dry_run);
        // So that the store does not wait for the rest of a file that cannot be read.
        drop(sender);
        (pass, file, read)
    });
    let written = store.insert_stream(receiver, LISTED).await;
    let (mut pass, mut file, read) = reading.await.map_err(broken)?;
    read?;
    match written {
        Ok(refusals) => {
            for refusal in refusals {
                pass.collision(store, &refusal).await?;
            }
        }
        // A check that found nothing in the way.
        Err(StoreError::GivenUp) if dry_run || pass.report.refused_count > 0 => {}
        Err(error) => return Err(error.into()),
    }
    pass.report.refused.sort_by_key(|refused| refused.object);
    let mut missing = Vec::new();
    for (property, text) in std::mem::take(&mut pass.references) {
        if pass.report.refused_count == 0 && store.resolve(&fold(&text), 1).await?.is_empty() {
            missing.push((property, text));
        }
    }
    if dry_run && !missing.is_empty() {
        // What the file itself would have brought is not there.
        let looking = tokio::task::spawn_blocking(move || {
            let found = pass.fit.without_own(&mut file, &mut missing);
            (pass, missing, found)
        });
        let found;
        (pass, missing, found) = looking.await.map_err(broken)?;
        found?;
    }
    for (property, text) in missing {
        pass.report.warn(format!("{property} names \"{text}\", which is not in the organisation; it is kept as text"));
    }
    Ok(pass.report)
}

/// One reading of a file.
struct Pass {
    fit: Fit,
    batch: Vec<Row>,
    /// Number, line and id of every object that went to the store, in order.
    places: Vec<(u32, u32, Uuid)>,
    /// Recipients that objects name.
    references: BTreeSet<(String, String)>,
    report: ImportReport,
}

impl Pass {
    fn run(&mut self, file: &mut File, sender: &mpsc::Sender<Load>, dry_run: bool) -> Result<(), ImportError> {
        for (number, entry) in (1..).zip(exported::read(file, &LIMITS)?) {
            let Entry { line, value, row } = entry?;
            if number > OBJECTS {
                return Err(ImportError::TooMany);
            }
            let fitted = value.map_err(|error| error.to_string()).and_then(|value| self.fit.object(&value, row));
            match fitted {
                Ok(fitted) => {
                    *self.report.objects.entry(fitted.entity.noun.name.to_string()).or_default() += 1;
                    fitted.warnings.into_iter().for_each(|text| self.report.warn(text));
                    for reference in fitted.references {
                        if self.references.len() < REFERENCES || self.references.contains(&reference) {
                            self.references.insert(reference);
                        } else {
                            self.report.warn(format!("{} names a recipient that was not looked for: there are too many", reference.0));
                        }
                    }
                    self.keep(number, line, &fitted.entity, sender)?;
                }
                Err(reason) => self.report.refuse(RefusedObject { object: number, line, reason }),
            }
        }
        self.flush(sender);
        let all_well = !dry_run && self.report.refused_count == 0;
        // A store that is gone says why itself.
        let _ = sender.blocking_send(if all_well { Load::End } else { Load::Check });
        Ok(())
    }

    fn keep(&mut self, number: u64, line: u64, entity: &Entity, sender: &mpsc::Sender<Load>) -> Result<(), ImportError> {
        self.batch.push(self.fit.organization.rows(entity)?);
        let short = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        self.places.push((short(number), short(line), entity.id));
        if self.batch.len() >= BATCH {
            self.flush(sender);
        }
        Ok(())
    }

    fn flush(&mut self, sender: &mpsc::Sender<Load>) {
        // Nobody takes them any more where enough was refused: the rest is still read for its own refusals.
        let _ = sender.blocking_send(Load::Rows(std::mem::take(&mut self.batch)));
    }

    /// Names an object whose identity another one has, and that one where it is of the same file.
    async fn collision(&mut self, store: &TenantStore, refusal: &Refusal) -> Result<(), ImportError> {
        let Some((number, line, id)) = usize::try_from(refusal.row).ok().and_then(|row| self.places.get(row)).copied() else {
            return Ok(());
        };
        let what = match &refusal.identity {
            Some((kind, value)) => format!("{kind} \"{value}\""),
            None => format!("id {id}"),
        };
        let other = self.places.iter().find(|(n, _, other)| *other == refusal.owner && *n != number).copied();
        let reason = match (store.object(refusal.owner).await?, other) {
            (Some(object), _) => {
                let owner = Entity::read(&object)?;
                let name = self.fit.organization.text(&owner, "Name").to_owned();
                format!("{what} is taken: {} \"{name}\" of the organisation has it", owner.noun.name)
            }
            (None, Some((other, other_line, _))) => {
                let reason = format!("{what} is also that of object {number} (line {line})");
                let (object, line) = (u64::from(other), u64::from(other_line));
                if !self.report.refused.iter().any(|r| r.object == object && r.reason == reason) {
                    self.report.refuse(RefusedObject { object, line, reason });
                }
                format!("{what} is also that of object {other} (line {other_line})")
            }
            (None, None) => format!("{what} is taken"),
        };
        self.report.refuse(RefusedObject { object: number.into(), line: line.into(), reason });
        Ok(())
    }
}

/// A reading that ended in a panic.
fn broken(error: tokio::task::JoinError) -> FileError {
    std::io::Error::other(error).into()
}

/// The noun of that name, if it can be imported.
fn stored_noun(name: &str) -> Option<&'static Noun> {
    noun(name).filter(|noun| can_import(noun))
}
