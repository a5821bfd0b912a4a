//! Changing cmdlets: convert, resolve, ask, then one transaction.

use std::collections::{BTreeSet, HashSet};

use exops_audit::{Change as Changed, Ending, IntentId, Outcome};
use exops_psobject::{ErrorRecord, Value};
use exops_runspace::{Choice, Confirm, Ended};
use exops_store::{Change, Fate, Found, Listing, StoreError};
use serde_json::Value as Json;

use crate::addresses;
use crate::edit::Edit;
use crate::errors::Origin;
use crate::mailbox::check_name;
use crate::nouns::{Noun, Property, Variant};
use crate::organization::{Entity, Organization};
use crate::output::Flow;
use crate::references::{Accepts, Recipients, Referred, rename, renamed};
use crate::seed::escape_dn;
use crate::values::to_text;
use crate::{Directory, Run};

/// More accepted domains than an organisation can have.
const DOMAINS: u32 = 10_000;
/// A parameter that looks for the object among those without a licence only. There are none here.
const INACTIVE: &str = "InactiveMailbox";
/// Parameters that set nothing: the one above, and the one that leaves out a check which only changes of members have.
const NO_PROPERTY: [&str; 2] = [INACTIVE, "BypassSecurityGroupManagerCheck"];

/// Properties that change the list of addresses.
const ADDRESSES: [&str; 3] = ["EmailAddresses", "WindowsEmailAddress", "PrimarySmtpAddress"];

/// An accepted domain.
pub(crate) struct Domain {
    /// Folded.
    pub(crate) name: String,
    /// New recipients get addresses in it.
    pub(crate) default: bool,
}

/// What one parameter does.
enum Assignment {
    /// A property becomes something else.
    Property(&'static Property, Edit),
    /// Several properties take fixed values.
    Variant(&'static Variant),
}

impl Assignment {
    fn sets(&self, name: &str) -> bool {
        matches!(self, Self::Property(property, _) if &*property.name == name)
    }
}

/// How the transaction ended.
pub(crate) enum Done {
    Changed,
    /// Everything was so already; the object's canonical name.
    Unchanged(String),
    /// Not changed; the record says why.
    Rejected(Box<ErrorRecord>),
}

impl Run {
    pub(crate) async fn set(&self, noun: &'static Noun) -> Flow {
        self.need_intent()?;
        let mut assignments = match self.assignments(noun) {
            Ok(assignments) => assignments,
            Err(record) => return Err(self.terminate(record).await),
        };
        let Some(identity) = self.identity() else {
            let record = self.origin().conversion("Identity", "", "an identity", "It must name an object.");
            return Err(self.terminate(record).await);
        };
        let entity = match self.resolve(noun, &identity).await {
            Ok(Ok(_)) if self.command.flag(INACTIVE) => return self.reject(self.origin().not_found(&identity)).await,
            Ok(Ok(entity)) => entity,
            Ok(Err(record)) => return self.reject(record).await,
            Err(end) => return Err(self.close_entry(end).await),
        };
        let referred = match self.references(noun, &mut assignments).await {
            Ok(Ok(referred)) => referred,
            Ok(Err(record)) => return self.reject(record).await,
            Err(end) => return Err(self.close_entry(end).await),
        };
        let domains = match self.accepted_domains(&assignments).await {
            Ok(domains) => domains,
            Err(end) => return Err(self.close_entry(end).await),
        };
        let name = self.organization().canonical_name(&entity);
        if !self.agreed(&entity, format!("Setting {} Identity:\"{name}\".", noun.name.to_lowercase())).await? {
            return Ok(());
        }
        let transaction = Transaction {
            directory: self.directory.clone(),
            noun,
            assignments,
            referred,
            domains,
            caller: self.invocation.caller.principal.display_name().to_owned(),
            scopes: self.permit.obligations().write_scopes.clone(),
            intent: self.invocation.intent,
            identity,
            origin: self.origin().clone(),
        };
        // Only a new name touches those that refer to the object.
        let renames = transaction.assignments.iter().any(|a| a.sets("Name"));
        let related = transaction.referred.related(&self.directory, renames);
        let decide = move |found: Found| transaction.decide(&found);
        match self.store().change_object(entity.id, related, self.directory.index(), decide).await {
            Ok(Done::Changed) => Ok(()),
            Ok(Done::Unchanged(name)) => {
                let text = format!("The command completed successfully but no settings of '{name}' have been modified.");
                self.output.warning(text).await
            }
            Ok(Done::Rejected(record)) => self.output.error(record).await,
            Err(StoreError::IdentityTaken { kind, value, owner }) => self.reject(self.taken(&kind, &value, owner).await).await,
            Err(error) => Err(self.terminate(self.origin().storage(&error)).await),
        }
    }

    /// What the parameters set, converted.
    fn assignments(&self, noun: &'static Noun) -> Result<Vec<Assignment>, Box<ErrorRecord>> {
        let settable = |name: &str| noun.set.iter().flat_map(|set| &set.parameters).any(|p| p.eq_ignore_ascii_case(name));
        let arguments = self.command.arguments.iter().filter(|a| settable(&a.parameter.name) && !NO_PROPERTY.contains(&&*a.parameter.name));
        arguments
            .map(|argument| {
                let name = &*argument.parameter.name;
                let refuse = |kind: &str, reason: &str| self.origin().conversion(name, &argument.value.display(), kind, reason);
                if let Some(property) = noun.property(name) {
                    let kind = property.kind.chain.first().map_or(&*property.kind.name, |t| t);
                    let edit = Edit::read(property, &argument.value).map_err(|reason| refuse(kind, &reason))?;
                    return Ok(Assignment::Property(property, edit));
                }
                let text = argument.value.display();
                let mut variants = noun.variants.iter().filter(|v| v.parameter.eq_ignore_ascii_case(name));
                let legal = || variants.clone().map(|v| &*v.value).collect::<Vec<_>>().join(", ");
                let reason = format!("It must be one of {}.", legal());
                let found = variants.find(|v| v.value.eq_ignore_ascii_case(text.trim()));
                found.map(Assignment::Variant).ok_or_else(|| refuse(name, &reason))
            })
            .collect()
    }

    /// Puts ids where the client wrote whatever identifies recipients; the record when one is not found, or cannot stand there.
    async fn references(&self, noun: &'static Noun, assignments: &mut [Assignment]) -> Flow<Result<Referred, Box<ErrorRecord>>> {
        let mut referred = Referred::default();
        for union in &noun.unions {
            let sets = |name: &str| assignments.iter().any(|a| a.sets(name));
            if let Some(part) = [&union.senders, &union.members].into_iter().find(|part| sets(&union.whole) && sets(part)) {
                let text = format!("The parameters {} and {part} can't be used together: the first sets both lists.", union.whole);
                return Ok(Err(self.origin().validation(text)));
            }
        }
        for assignment in assignments {
            let Assignment::Property(property, edit) = assignment else { continue };
            if !property.reference {
                continue;
            }
            let accepts = if noun.unions.iter().any(|union| union.senders == property.name) {
                Accepts::Senders
            } else if noun.unions.iter().any(|union| union.members == property.name) {
                Accepts::Groups
            } else {
                Accepts::Recipients
            };
            if let Err(record) = self.refer(edit, accepts, &mut referred).await? {
                return Ok(Err(record));
            }
        }
        Ok(Ok(referred))
    }

    /// The accepted domains, folded, when addresses are being set.
    async fn accepted_domains(&self, assignments: &[Assignment]) -> Flow<Vec<String>> {
        if !assignments.iter().any(|a| ADDRESSES.iter().any(|name| a.sets(name))) {
            return Ok(Vec::new());
        }
        Ok(self.domains().await?.into_iter().map(|domain| domain.name).collect())
    }

    /// The accepted domains.
    pub(crate) async fn domains(&self) -> Flow<Vec<Domain>> {
        let objects = self.store().page(Listing::Noun("AcceptedDomain"), None, DOMAINS).await.map_err(|e| self.storage(&e))?;
        let read = |object| {
            Entity::read(object).map(|entity| Domain {
                name: self.organization().text(&entity, "DomainName").to_lowercase(),
                default: self.organization().stored(&entity, entity.noun, "Default").as_bool() == Some(true),
            })
        };
        objects.iter().map(read).collect::<Result<_, _>>().map_err(|e| self.storage(&e))
    }

    /// Names the object that has what must be unique.
    pub(crate) async fn taken(&self, kind: &str, value: &str, owner: uuid::Uuid) -> Box<ErrorRecord> {
        let owner = match self.store().object(owner).await.map(|found| found.as_ref().map(Entity::read)) {
            Ok(Some(Ok(entity))) => self.organization().canonical_name(&entity),
            _ => owner.to_string(),
        };
        match kind {
            "proxy" => self.origin().proxy_taken(&addresses::prefixed(value), &owner),
            "canonical" | "dn" => self.origin().exists(&owner),
            _ => self.origin().validation(format!("The {kind} \"{value}\" is already being used by \"{owner}\". Choose another one.")),
        }
    }

    /// Nothing is changed without an audit entry.
    pub(crate) fn need_intent(&self) -> Flow {
        let asks_only = self.command.flag("WhatIf") || self.invocation.confirm == Confirm::ReportOnly;
        if self.invocation.intent.is_none() && !asks_only {
            let text = format!("'{}' was not carried out: there is no audit entry for it.", self.origin().cmdlet);
            return Err(Ended::Refused(self.origin().denied(text)));
        }
        Ok(())
    }

    /// Whether to go on with a change of that object. A run that ends here closes its audit entry.
    ///
    /// Outside the write scope nothing is announced and nobody is asked; the transaction looks again, at what is there then.
    pub(crate) async fn agreed(&self, entity: &Entity, action: String) -> Flow<bool> {
        match self.output.check() {
            Ok(()) => {}
            Err(end) => return Err(self.close_entry(end).await),
        }
        if !in_scope(self.organization(), entity.noun, &self.permit.obligations().write_scopes, entity) {
            let name = self.organization().canonical_name(entity);
            self.reject(self.origin().out_of_scope(&entity.noun.name, &name)).await?;
            return Ok(false);
        }
        match self.asked(action).await {
            Ok(agreed) => Ok(agreed),
            Err(end) => Err(self.close_entry(end).await),
        }
    }

    /// `-WhatIf` and a validation call only say what would be done; where the session says so, somebody is asked.
    async fn asked(&self, action: String) -> Flow<bool> {
        if self.command.flag("WhatIf") {
            self.output.host_line(format!("What if: {action}")).await?;
            return Ok(false);
        }
        match self.invocation.confirm {
            Confirm::ReportOnly => {
                self.output.host_line(action).await?;
                Ok(false)
            }
            Confirm::Ask => {
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
            Confirm::Yes => Ok(true),
        }
    }

    /// A non-terminating error that also closes the audit entry.
    pub(crate) async fn reject(&self, record: Box<ErrorRecord>) -> Flow {
        self.write_failure(&record.message).await;
        self.output.error(record).await
    }

    /// A terminating error that also closes the audit entry.
    pub(crate) async fn terminate(&self, record: Box<ErrorRecord>) -> Ended {
        self.close_entry(Ended::Failed(record)).await
    }

    /// Closes the audit entry of a run that ends before its transaction.
    pub(crate) async fn close_entry(&self, end: Ended) -> Ended {
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
            // A new object has no identity yet.
            object: self.identity().or_else(|| self.command.argument("Name").map(Value::display)).unwrap_or_default(),
            changes: Vec::new(),
        };
        if let Err(error) = self.store().audit_outcome(&outcome).await {
            tracing::error!(%error, "an audit entry could not be closed");
        }
    }
}

/// What differs, by name.
pub(crate) fn changes(organization: &Organization, noun: &'static Noun, before: &Entity, after: &Entity) -> Vec<Changed> {
    let names: BTreeSet<_> = before.values.keys().chain(after.values.keys()).collect();
    let changed = |name: &String| {
        let property = noun.property(name)?;
        let (old, new) = (organization.stored(before, noun, name), organization.stored(after, noun, name));
        let text = |json| to_text(&property.kind, json);
        (old != new).then(|| Changed { property: name.clone(), old: text(old), new: text(new) })
    };
    names.into_iter().filter_map(changed).collect()
}

/// Whether all of these write scopes hold the object.
pub(crate) fn in_scope(organization: &Organization, noun: &'static Noun, scopes: &[exops_filter::Filter], entity: &Entity) -> bool {
    scopes.iter().all(|scope| scope.matches(&|name| organization.filter_value(entity, noun, name)))
}

/// The outcome to commit with a change; none where there is no intent.
pub(crate) fn outcome(intent: Option<IntentId>, origin: &Origin, ending: Ending, object: &str, changes: Vec<Changed>) -> Option<Outcome> {
    intent.map(|id| Outcome { id, time: origin.time, ending, object: object.to_owned(), changes })
}

/// Stores a value, or with `None` gives the default back.
pub(crate) fn put(entity: &mut Entity, name: &str, value: Option<Json>) {
    match value {
        Some(value) => entity.values.insert(name.to_owned(), value),
        None => entity.values.remove(name),
    };
}

fn texts(list: &[Json]) -> Vec<&str> {
    list.iter().filter_map(Json::as_str).collect()
}

fn items(list: &Json) -> &[Json] {
    list.as_array().map_or(&[], Vec::as_slice)
}

/// A DN with another name in front.
fn renamed_dn(dn: &str, name: &str) -> String {
    let mut escaped = false;
    let comma = dn.find(|c| {
        let ends = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    format!("CN={}{}", escape_dn(name), comma.and_then(|at| dn.get(at..)).unwrap_or_default())
}

/// The directory keeps times in whole seconds.
pub(crate) fn seconds(milliseconds: i64) -> Json {
    (milliseconds.div_euclid(1000) * 1000).into()
}

/// What the left side of an address may be without quotes.
pub(crate) fn is_alias(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "!#%*+-/=?^_~$&'`{}|.".contains(c) || ('\u{A1}'..='\u{FF}').contains(&c);
    text.chars().all(legal) && text.split('.').all(|part| !part.is_empty())
}

/// Everything that the decision inside the transaction needs.
struct Transaction {
    directory: Directory,
    noun: &'static Noun,
    assignments: Vec<Assignment>,
    referred: Referred,
    /// Accepted domains, folded.
    domains: Vec<String>,
    /// Name of the caller.
    caller: String,
    scopes: Vec<exops_filter::Filter>,
    intent: Option<IntentId>,
    identity: String,
    origin: Origin,
}

impl Transaction {
    /// Sees the object as it is in the transaction: what was resolved before may have changed since.
    fn decide(self, found: &Found) -> Change<Done> {
        let read = found.object.as_ref().map(Entity::read).transpose().map_err(|e| self.origin.storage(&e));
        let mut entity = match read {
            Ok(Some(entity)) if entity.noun.name == self.noun.name => entity,
            Ok(_) => return self.rejected("", self.origin.not_found(&self.identity)),
            Err(record) => return self.rejected("", record),
        };
        let organization = &self.directory.0.organization;
        let name = organization.canonical_name(&entity);
        if !self.in_scope(&entity) {
            return self.rejected(&name, self.origin.out_of_scope(&self.noun.name, &name));
        }
        let before = entity.clone();
        let recipients = match self.referred.found(organization, &self.origin, &found.named) {
            Ok(recipients) => recipients,
            Err(record) => return self.rejected(&name, record),
        };
        for assignment in &self.assignments {
            if let Err(record) = self.apply(&mut entity, assignment, &recipients) {
                return self.rejected(&name, record);
            }
        }
        self.unite(&mut entity);
        self.follow_hold(&before, &mut entity);
        let (old, new) = (organization.text(&before, "Name"), organization.text(&entity, "Name").to_owned());
        let mut refer = Vec::new();
        if *old != *new {
            refer = match renamed(organization, &found.holders, old, Some(&new)) {
                Ok(rows) => rows,
                Err(error) => return self.rejected(&name, self.origin.storage(&error)),
            };
            rename(&mut entity, old, Some(&new));
            let unit = organization.text(&before, "DistinguishedName");
            put(&mut entity, "DistinguishedName", Some(renamed_dn(unit, &new).into()));
        }
        let changes = changes(organization, self.noun, &before, &entity);
        if let Some(text) = self.disorder(&entity) {
            return self.rejected(&name, self.origin.validation(text));
        }
        if !self.in_scope(&entity) {
            return self.rejected(&name, self.origin.out_of_scope(&self.noun.name, &name));
        }
        if changes.is_empty() {
            let outcome = self.outcome(Ending::Succeeded, &name, changes);
            return Change { fate: Fate::Kept, holders: Vec::new(), outcome, answer: Done::Unchanged(name) };
        }
        put(&mut entity, "WhenChanged", Some(seconds(self.origin.time)));
        match organization.rows(&entity) {
            Ok(row) => {
                let outcome = self.outcome(Ending::Succeeded, &name, changes);
                Change { fate: Fate::Changed(Box::new(row)), holders: refer, outcome, answer: Done::Changed }
            }
            Err(error) => self.rejected(&name, self.origin.storage(&error)),
        }
    }

    fn apply(&self, entity: &mut Entity, assignment: &Assignment, recipients: &Recipients) -> Result<(), Box<ErrorRecord>> {
        let invalid = |reason| self.origin.validation(reason);
        let (property, edit) = match assignment {
            Assignment::Property(property, edit) => (*property, edit),
            Assignment::Variant(variant) => {
                for (name, value) in &variant.sets {
                    put(entity, name, Some(value.clone()).filter(|v| !v.is_null()));
                }
                return Ok(());
            }
        };
        if let Some(union) = self.noun.unions.iter().find(|union| union.whole == property.name) {
            for (part, groups) in [(&union.senders, false), (&union.members, true)] {
                let edit = recipients.name(edit, Some(groups));
                let after = edit.apply(property, self.directory.0.organization.stored(entity, self.noun, part));
                put(entity, part, after);
            }
            return Ok(());
        }
        let edit = &if property.reference { recipients.name(edit, None) } else { edit.clone() };
        let old = self.directory.0.organization.stored(entity, self.noun, &property.name).clone();
        match (&*property.name, edit) {
            ("EmailAddresses", Edit::Replace(new)) => {
                let new = addresses::replace(&texts(items(new))).map_err(invalid)?;
                self.set_addresses(entity, &old, new)
            }
            ("EmailAddresses", Edit::Amend { add, remove }) => {
                let new = addresses::amend(&texts(items(&old)), &texts(add), &texts(remove)).map_err(invalid)?;
                self.set_addresses(entity, &old, new)
            }
            ("WindowsEmailAddress" | "PrimarySmtpAddress", Edit::Replace(Json::String(primary))) => {
                let old = self.directory.0.organization.stored(entity, self.noun, "EmailAddresses").clone();
                let new = addresses::promote(&texts(items(&old)), primary);
                self.set_addresses(entity, &old, new)
            }
            ("Name", Edit::Replace(new)) => {
                let name = new.as_str().unwrap_or_default().trim();
                check_name(name).map_err(invalid)?;
                put(entity, "Name", Some(name.into()));
                Ok(())
            }
            ("Alias", Edit::Replace(Json::String(alias))) if !is_alias(alias) => Err(invalid(format!(
                "The value \"{alias}\" of the property Alias is not valid: it may have letters, digits and !#$%&'*+-/=?^_`{{|}}~, and dots \
                 between them."
            ))),
            (name, edit) => {
                put(entity, name, edit.apply(property, &old));
                Ok(())
            }
        }
    }

    /// Lists that are two in one hold what those hold, where one of them was set.
    fn unite(&self, entity: &mut Entity) {
        for union in &self.noun.unions {
            if [&union.whole, &union.senders, &union.members].into_iter().any(|name| self.assignments.iter().any(|a| a.sets(name))) {
                let stored = |name| items(self.directory.0.organization.stored(entity, self.noun, name)).iter().cloned();
                let whole = stored(&union.senders).chain(stored(&union.members)).collect();
                put(entity, &union.whole, Some(whole));
            }
        }
    }

    /// New addresses must lie in an accepted domain; the primary one is also a property of its own.
    fn set_addresses(&self, entity: &mut Entity, old: &Json, new: Vec<String>) -> Result<(), Box<ErrorRecord>> {
        let known: HashSet<_> = texts(items(old)).into_iter().filter_map(addresses::domain).collect();
        let foreign = |item: &&String| addresses::domain(item).is_some_and(|d| !self.domains.contains(&d) && !known.contains(&d));
        if let Some(item) = new.iter().find(foreign) {
            let domain = addresses::domain(item).unwrap_or_default();
            let name = self.directory.0.organization.text(entity, "Name").to_owned();
            return Err(self.origin.foreign_domain(&domain, item, &name));
        }
        if let Some(primary) = addresses::primary(&new) {
            put(entity, "PrimarySmtpAddress", Some(primary.into()));
        }
        put(entity, "EmailAddresses", Some(new.into()));
        Ok(())
    }

    /// A hold that begins notes when and by whom, unless the caller says so; one that ends forgets it.
    fn follow_hold(&self, before: &Entity, entity: &mut Entity) {
        let on = |entity: &Entity| self.directory.0.organization.stored(entity, self.noun, "LitigationHoldEnabled").as_bool() == Some(true);
        let notes = match (on(before), on(entity)) {
            (false, true) => [Some(seconds(self.origin.time)), Some(self.caller.as_str().into())],
            (true, false) => [None, None],
            _ => return,
        };
        for (name, note) in ["LitigationHoldDate", "LitigationHoldOwner"].into_iter().zip(notes) {
            if !self.assignments.iter().any(|a| a.sets(name)) {
                put(entity, name, note);
            }
        }
    }

    fn in_scope(&self, entity: &Entity) -> bool {
        in_scope(&self.directory.0.organization, self.noun, &self.scopes, entity)
    }

    /// Sizes that would decrease where they must not, if one of them is being set.
    fn disorder(&self, entity: &Entity) -> Option<String> {
        if !self.noun.ordered.iter().any(|name| self.assignments.iter().any(|a| a.sets(name))) {
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
        outcome(self.intent, &self.origin, ending, object, changes)
    }

    fn rejected(&self, object: &str, record: Box<ErrorRecord>) -> Change<Done> {
        let object = if object.is_empty() { &self.identity } else { object };
        let outcome = self.outcome(Ending::Failed(record.message.to_string()), object, Vec::new());
        Change { fate: Fate::Kept, holders: Vec::new(), outcome, answer: Done::Rejected(record) }
    }
}
