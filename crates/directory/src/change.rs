//! Changing cmdlets: convert, resolve, ask, then one transaction.

use exops_audit::{Change as Changed, Ending, IntentId, Outcome};
use exops_psobject::ErrorRecord;
use exops_runspace::{Choice, Confirm, Ended};
use exops_store::{Change, Object, StoreError};
use serde_json::Value as Json;

use crate::nouns::{Noun, Property};
use crate::organization::Entity;
use crate::output::Flow;
use crate::values::{from_client, to_text};
use crate::{Directory, Run};

/// A property and its new stored value.
type Assignment = (&'static Property, Json);

/// How the transaction ended.
enum Done {
    Changed,
    /// Everything was so already; the object's canonical name.
    Unchanged(String),
    /// Not changed; the record says why.
    Rejected(Box<ErrorRecord>),
}

impl Run {
    pub(crate) async fn set(&self, noun: &'static Noun) -> Flow {
        let asks_only = self.command.flag("WhatIf") || self.invocation.confirm == Confirm::ReportOnly;
        if self.invocation.intent.is_none() && !asks_only {
            let text = format!("'{}' was not carried out: there is no audit entry for it.", self.origin().cmdlet);
            return Err(Ended::Refused(self.origin().denied(text)));
        }
        let assignments = match self.assignments(noun) {
            Ok(assignments) => assignments,
            Err(record) => return Err(self.terminate(record).await),
        };
        let Some(identity) = self.identity() else {
            let record = self.origin().conversion("Identity", "", "an identity", "It must name an object.");
            return Err(self.terminate(record).await);
        };
        let entity = match self.resolve(noun, &identity).await {
            Ok(Ok(entity)) => entity,
            Ok(Err(record)) => return self.reject(record).await,
            Err(end) => return Err(self.close_entry(end).await),
        };
        if let Err(end) = self.output.check() {
            return Err(self.close_entry(end).await);
        }
        match self.asked(noun, &entity).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(end) => return Err(self.close_entry(end).await),
        }
        let transaction = Transaction {
            directory: self.directory.clone(),
            noun,
            assignments,
            scopes: self.permit.obligations().write_scopes.clone(),
            intent: self.invocation.intent,
            identity,
            origin: self.origin().clone(),
        };
        match self.store().change_object(entity.id, move |object| transaction.decide(object.as_ref())).await {
            Ok(Done::Changed) => Ok(()),
            Ok(Done::Unchanged(name)) => {
                let text = format!("The command completed successfully but no settings of '{name}' have been modified.");
                self.output.warning(text).await
            }
            Ok(Done::Rejected(record)) => self.output.error(record).await,
            Err(StoreError::IdentityTaken { kind, value, .. }) => {
                let text = format!("The {kind} \"{value}\" is already being used by another recipient. Choose another one.");
                self.reject(self.origin().validation(text)).await
            }
            Err(error) => Err(self.terminate(self.origin().storage(&error)).await),
        }
    }

    /// The values to set, converted.
    fn assignments(&self, noun: &'static Noun) -> Result<Vec<Assignment>, Box<ErrorRecord>> {
        let settable = |name: &str| noun.set.iter().flat_map(|set| &set.parameters).any(|p| p.eq_ignore_ascii_case(name));
        let arguments = self.command.arguments.iter().filter(|a| settable(&a.parameter.name));
        arguments
            .filter_map(|argument| noun.property(&argument.parameter.name).map(|property| (argument, property)))
            .map(|(argument, property)| match from_client(&property.kind, property.length, &argument.value) {
                Ok(json) => Ok((property, json)),
                Err(reason) => {
                    let kind = property.kind.chain.first().map_or(&*property.kind.name, |t| t);
                    Err(self.origin().conversion(&argument.parameter.name, &argument.value.display(), kind, &reason))
                }
            })
            .collect()
    }

    /// Whether to go on: `-WhatIf` and a validation call only say what would be done; `-Confirm` asks where somebody
    /// can answer.
    async fn asked(&self, noun: &Noun, entity: &Entity) -> Flow<bool> {
        let action = format!("Setting {} Identity:\"{}\".", noun.name.to_lowercase(), self.organization().canonical_name(entity));
        if self.command.flag("WhatIf") {
            self.output.host_line(format!("What if: {action}")).await?;
            return Ok(false);
        }
        match self.invocation.confirm {
            Confirm::ReportOnly => {
                self.output.host_line(action).await?;
                Ok(false)
            }
            Confirm::Ask if self.command.flag("Confirm") => {
                let unanswered = |reason: &str| Ended::Failed(self.origin().unanswered(&action, reason));
                let Some(host) = &self.invocation.host else { return Err(unanswered("nobody can answer")) };
                let choice = |label: &str, help: &str| Choice { label: label.to_owned(), help: help.to_owned() };
                let choices = [choice("&Yes", "Carry it out."), choice("&No", "Do not carry it out.")];
                let question = "Are you sure you want to perform this action?";
                let answer = host.prompt_for_choice("Confirm", &format!("{question}\n{action}"), &choices, 0).await;
                let yes = answer.map_err(|error| unanswered(&error.to_string()))? == 0;
                if !yes {
                    self.write_failure("the question was answered with no").await;
                }
                Ok(yes)
            }
            _ => Ok(true),
        }
    }

    /// A non-terminating error that also closes the audit entry.
    async fn reject(&self, record: Box<ErrorRecord>) -> Flow {
        self.write_failure(&record.message).await;
        self.output.error(record).await
    }

    /// A terminating error that also closes the audit entry.
    async fn terminate(&self, record: Box<ErrorRecord>) -> Ended {
        self.close_entry(Ended::Failed(record)).await
    }

    /// Closes the audit entry of a run that ends before its transaction.
    async fn close_entry(&self, end: Ended) -> Ended {
        match &end {
            Ended::Failed(record) => self.write_failure(&record.message).await,
            _ => self.write_failure("stopped before it was carried out").await,
        }
        end
    }

    /// When this cannot be written either, the entry stays open and is closed at the next start as unknown.
    async fn write_failure(&self, text: &str) {
        let Some(id) = self.invocation.intent else { return };
        let outcome = Outcome {
            id,
            time: self.origin().time,
            ending: Ending::Failed(text.to_owned()),
            object: self.identity().unwrap_or_default(),
            changes: Vec::new(),
        };
        if let Err(error) = self.store().audit_outcome(&outcome).await {
            tracing::error!(%error, "an audit entry could not be closed");
        }
    }
}

/// Everything that the decision inside the transaction needs.
struct Transaction {
    directory: Directory,
    noun: &'static Noun,
    assignments: Vec<Assignment>,
    scopes: Vec<exops_filter::Filter>,
    intent: Option<IntentId>,
    identity: String,
    origin: crate::errors::Origin,
}

impl Transaction {
    /// Sees the object as it is in the transaction: what was resolved before may have changed since.
    fn decide(self, object: Option<&Object>) -> Change<Done> {
        let read = object.map(Entity::read).transpose().map_err(|e| self.origin.storage(&e));
        let mut entity = match read {
            Ok(Some(entity)) if entity.noun.name == self.noun.name => entity,
            Ok(_) => return self.rejected("", self.origin.not_found(&self.identity)),
            Err(record) => return self.rejected("", record),
        };
        let organization = &self.directory.0.organization;
        let name = organization.canonical_name(&entity);
        if !self.in_scope(&entity) {
            return self.rejected(&name, self.out_of_scope(&name));
        }
        let mut changes = Vec::new();
        for (property, new) in &self.assignments {
            let old = organization.stored(&entity, self.noun, &property.name).clone();
            // Null gives the property its default back.
            match new {
                Json::Null => entity.values.remove(&*property.name),
                new => entity.values.insert(property.name.to_string(), new.clone()),
            };
            let new = organization.stored(&entity, self.noun, &property.name);
            if old != *new {
                let (old, new) = (to_text(&property.kind, &old), to_text(&property.kind, new));
                changes.push(Changed { property: property.name.to_string(), old, new });
            }
        }
        if let Some(text) = self.disorder(&entity) {
            return self.rejected(&name, self.origin.validation(text));
        }
        if !self.in_scope(&entity) {
            return self.rejected(&name, self.out_of_scope(&name));
        }
        if changes.is_empty() {
            return Change { object: None, outcome: self.outcome(Ending::Succeeded, &name, changes), answer: Done::Unchanged(name) };
        }
        // The directory keeps times in whole seconds.
        entity.values.insert("WhenChanged".to_owned(), (self.origin.time / 1000 * 1000).into());
        match organization.rows(&entity) {
            Ok(rows) => Change { object: Some(rows), outcome: self.outcome(Ending::Succeeded, &name, changes), answer: Done::Changed },
            Err(error) => self.rejected(&name, self.origin.storage(&error)),
        }
    }

    fn in_scope(&self, entity: &Entity) -> bool {
        let organization = &self.directory.0.organization;
        self.scopes.iter().all(|scope| scope.matches(&|name| organization.filter_value(entity, self.noun, name)))
    }

    fn out_of_scope(&self, name: &str) -> Box<ErrorRecord> {
        self.origin.denied(format!("'{name}' isn't within your current write scopes. Can't perform the requested operation on it."))
    }

    /// Sizes that would decrease where they must not, if one of them is being set.
    fn disorder(&self, entity: &Entity) -> Option<String> {
        if !self.assignments.iter().any(|(property, _)| self.noun.ordered.contains(&property.name)) {
            return None;
        }
        let stored = |name: &str| self.directory.0.organization.stored(entity, self.noun, name);
        let pairs = self.noun.ordered.iter().zip(self.noun.ordered.iter().skip(1));
        pairs.into_iter().find_map(|(small, large)| {
            let (low, high) = (stored(small), stored(large));
            let text = |name: &str, json| self.noun.property(name).map(|p| to_text(&p.kind, json)).unwrap_or_default();
            (low.as_u64().unwrap_or(u64::MAX) > high.as_u64().unwrap_or(u64::MAX)).then(|| {
                format!(
                    "The value of {small} ({}) must be less than or equal to the value of {large} ({}). Set both in one command.",
                    text(small, low),
                    text(large, high)
                )
            })
        })
    }

    fn outcome(&self, ending: Ending, object: &str, changes: Vec<Changed>) -> Option<Outcome> {
        self.intent.map(|id| Outcome { id, time: self.origin.time, ending, object: object.to_owned(), changes })
    }

    fn rejected(&self, object: &str, record: Box<ErrorRecord>) -> Change<Done> {
        let object = if object.is_empty() { &self.identity } else { object };
        let outcome = self.outcome(Ending::Failed(record.message.to_string()), object, Vec::new());
        Change { object: None, outcome, answer: Done::Rejected(record) }
    }
}
