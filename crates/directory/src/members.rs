//! Members of groups: what a group names as recipients, and how that changes.

use exops_audit::{Ending, IntentId};
use exops_psobject::{ErrorRecord, Value};
use exops_store::{Change, Fate, Found};
use serde_json::Value as Json;

use crate::change::{changes, in_scope, outcome, put, seconds};
use crate::edit::Edit;
use crate::errors::Origin;
use crate::nouns::{Noun, Property, noun};
use crate::organization::Entity;
use crate::output::Flow;
use crate::read::more_results;
use crate::references::{Accepts, Referred};
use crate::values::fold;
use crate::{Directory, Run};

impl Run {
    pub(crate) async fn get_distribution_group_member(&self) -> Flow {
        let size = self.result_size()?;
        let Some(identity) = self.wanted_identity()? else { return Ok(()) };
        let (Some(groups), Some(recipients)) = (noun("DistributionGroup"), noun("Recipient")) else { return Ok(()) };
        let group = match self.resolve(groups, &identity).await? {
            Ok(group) => group,
            Err(record) => return self.output.error(record).await,
        };
        let unit = self.organization().text(&group, "OrganizationalUnit");
        let mut left = size.limit();
        let members = self.organization().stored(&group, groups, "Members").as_array();
        for name in members.into_iter().flatten().filter_map(|name| name.as_str()) {
            self.output.check()?;
            // A group holds names, which are unique in its organisational unit. One that went away is no member any more.
            let Ok(member) = self.resolve(recipients, &format!("{unit}/{name}")).await? else { continue };
            if left == 0 {
                return self.output.warning(more_results(size)).await;
            }
            left -= 1;
            self.show(&member, recipients).await?;
        }
        Ok(())
    }
}

/// What a cmdlet does to the members of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership {
    /// One more.
    Add,
    /// One less.
    Remove,
    /// Exactly these.
    Update,
}

impl Membership {
    fn parameter(self) -> &'static str {
        if self == Self::Update { "Members" } else { "Member" }
    }
}

/// Everything that the decision inside the transaction needs.
struct Transaction {
    directory: Directory,
    groups: &'static Noun,
    property: &'static Property,
    membership: Membership,
    edit: Edit,
    referred: Referred,
    identity: String,
    scopes: Vec<exops_filter::Filter>,
    intent: Option<IntentId>,
    origin: Origin,
}

impl Run {
    /// Adds, removes or replaces members. The caller is an application and so never an owner of the group.
    pub(crate) async fn change_members(&self, membership: Membership) -> Flow {
        self.need_intent()?;
        let parameter = membership.parameter();
        let value = self.command.argument(parameter).cloned();
        let Some(groups) = noun("DistributionGroup") else { return Ok(()) };
        let Some(property) = groups.property("Members") else { return Ok(()) };
        let wrong = |value: &Value, reason: &str| {
            self.origin().conversion(
                parameter,
                &value.display(),
                "Microsoft.Exchange.Configuration.Tasks.GeneralRecipientIdParameter",
                reason,
            )
        };
        let Some(value) = value.filter(|v| membership == Membership::Update || !v.display().trim().is_empty()) else {
            return Err(self.terminate(wrong(&Value::Null, "It must name a recipient.")).await);
        };
        if membership != Membership::Update && value.as_list().is_some() {
            return Err(self.terminate(wrong(&value, "It takes one recipient, not a list; run the cmdlet once for each.")).await);
        }
        let mut edit = match Edit::read(property, &value) {
            Ok(edit) => edit,
            Err(reason) => return Err(self.terminate(wrong(&value, &reason)).await),
        };
        let identity = self.identity().unwrap_or_default();
        let group = match self.resolve(groups, &identity).await {
            Ok(Ok(group)) => group,
            Ok(Err(record)) => return self.reject(record).await,
            Err(end) => return Err(self.close_entry(end).await),
        };
        if !self.command.flag("BypassSecurityGroupManagerCheck") {
            return self.reject(self.origin().not_a_manager()).await;
        }
        let mut referred = Referred::default();
        match self.refer(&mut edit, Accepts::Recipients, &mut referred).await {
            Ok(Ok(())) if referred.ids().any(|id| id == group.id) => {
                let text = "A group can't be a member of itself.".to_owned();
                return self.reject(self.origin().validation(text)).await;
            }
            Ok(Ok(())) => {}
            Ok(Err(record)) => return self.reject(record).await,
            Err(end) => return Err(self.close_entry(end).await),
        }
        let name = self.organization().canonical_name(&group);
        let members = referred.text();
        let action = match membership {
            Membership::Add => format!("Adding distribution group member \"{members}\" on group \"{name}\"."),
            Membership::Remove => format!("Removing distribution group member \"{members}\" on group \"{name}\"."),
            Membership::Update => format!("Replacing the members of group \"{name}\" by \"{members}\"."),
        };
        if !self.agreed(&group, action).await? {
            return Ok(());
        }
        let transaction = Transaction {
            directory: self.directory.clone(),
            groups,
            property,
            membership,
            edit,
            referred,
            identity,
            scopes: self.permit.obligations().write_scopes.clone(),
            intent: self.invocation.intent,
            origin: self.origin().clone(),
        };
        let related = transaction.referred.related(&self.directory, false);
        match self.store().change_object(group.id, related, self.directory.index(), move |found| transaction.decide(&found)).await {
            Ok(None) => Ok(()),
            Ok(Some(record)) => self.output.error(record).await,
            Err(error) => Err(self.terminate(self.origin().storage(&error)).await),
        }
    }
}

impl Transaction {
    /// Sees the group as it is in the transaction. Answers the record of why nothing was changed.
    fn decide(self, found: &Found) -> Change<Option<Box<ErrorRecord>>> {
        let organization = &self.directory.0.organization;
        let read = found.object.as_ref().map(Entity::read).transpose().map_err(|e| self.origin.storage(&e));
        let before = match read {
            Ok(Some(entity)) => entity,
            Ok(None) => return self.rejected(&self.identity, self.origin.not_found(&self.identity)),
            Err(record) => return self.rejected(&self.identity, record),
        };
        let name = organization.canonical_name(&before);
        if !in_scope(organization, self.groups, &self.scopes, &before) {
            return self.rejected(&name, self.origin.out_of_scope(&self.groups.name, &name));
        }
        let edit = match self.referred.found(organization, &self.origin, &found.named) {
            Ok(recipients) => recipients.name(&self.edit, None),
            Err(record) => return self.rejected(&name, record),
        };
        let old = organization.stored(&before, self.groups, &self.property.name);
        let members = match self.members(&edit, old, organization.text(&before, "Name")) {
            Ok(members) => members,
            Err(record) => return self.rejected(&name, record),
        };
        let mut after = before.clone();
        put(&mut after, &self.property.name, Some(members));
        let changes = changes(organization, self.groups, &before, &after);
        let done = |fate, changes| Change {
            fate,
            holders: Vec::new(),
            outcome: outcome(self.intent, &self.origin, Ending::Succeeded, &name, changes),
            answer: None,
        };
        if changes.is_empty() {
            return done(Fate::Kept, changes);
        }
        put(&mut after, "WhenChanged", Some(seconds(self.origin.time)));
        match organization.rows(&after) {
            Ok(row) => done(Fate::Changed(Box::new(row)), changes),
            Err(error) => self.rejected(&name, self.origin.storage(&error)),
        }
    }

    /// The members afterwards.
    fn members(&self, edit: &Edit, old: &Json, group: &str) -> Result<Json, Box<ErrorRecord>> {
        let old = old.as_array().map_or(&[][..], Vec::as_slice);
        let Edit::Replace(Json::Array(named)) = edit else {
            return Ok(edit.apply(self.property, &Json::Array(old.to_vec())).unwrap_or_else(|| Json::Array(Vec::new())));
        };
        let one = named.first().and_then(Json::as_str).unwrap_or_default();
        let is_one = |item: &Json| item.as_str().is_some_and(|text| fold(text) == fold(one));
        match self.membership {
            Membership::Add if old.iter().any(is_one) => Err(self.origin.member_exists(one, group)),
            Membership::Add => Ok(old.iter().chain(named).cloned().collect()),
            Membership::Remove if !old.iter().any(is_one) => Err(self.origin.member_not_found(one, group)),
            Membership::Remove => Ok(old.iter().filter(|item| !is_one(item)).cloned().collect()),
            Membership::Update => Ok(named.clone().into()),
        }
    }

    fn rejected(&self, object: &str, record: Box<ErrorRecord>) -> Change<Option<Box<ErrorRecord>>> {
        let ending = Ending::Failed(record.message.to_string());
        let outcome = outcome(self.intent, &self.origin, ending, object, Vec::new());
        Change { fate: Fate::Kept, holders: Vec::new(), outcome, answer: Some(record) }
    }
}
