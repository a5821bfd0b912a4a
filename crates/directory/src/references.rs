//! References to recipients: one rule for what a client names, wherever a parameter takes a recipient.
//!
//! Nobody, several, or somebody of a kind that cannot stand there is an error before anything is changed. Objects hold the
//! names of those to whom they refer. A command holds ids until its transaction, which puts the names that they have by then,
//! and in which whoever gets another name, or goes, takes along every reference to it.

use std::collections::HashMap;

use exops_psobject::ErrorRecord;
use exops_store::{Object, Related, Row, StoreError};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::edit::Edit;
use crate::errors::Origin;
use crate::nouns::{noun, nouns};
use crate::organization::{Entity, Organization};
use crate::output::Flow;
use crate::values::fold;
use crate::{Directory, Run};

/// Which recipients can stand somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepts {
    /// All.
    Recipients,
    /// Who can be given a right: users and security groups.
    SecurityPrincipals,
    /// Who sends by itself: no groups.
    Senders,
    /// Groups.
    Groups,
}

impl Accepts {
    fn takes(self, kind: &str) -> bool {
        match self {
            Self::Recipients => true,
            Self::SecurityPrincipals => matches!(kind, "UserMailbox" | "MailUser" | "MailUniversalSecurityGroup"),
            Self::Senders => !is_group(kind),
            Self::Groups => is_group(kind),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Recipients => "a recipient",
            Self::SecurityPrincipals => "a user or a mail-enabled security group",
            Self::Senders => "a mailbox, mail user or mail contact",
            Self::Groups => "a group",
        }
    }
}

/// Whether a `RecipientType` is one of groups.
fn is_group(kind: &str) -> bool {
    kind.contains("Group")
}

/// The recipients that a command names: their ids, and what they were then.
#[derive(Debug, Default)]
pub(crate) struct Referred(Vec<(Uuid, Recipient)>);

/// A name, and whether it is a group's.
type Recipient = (String, bool);

impl Referred {
    pub(crate) fn ids(&self) -> impl Iterator<Item = Uuid> {
        self.0.iter().map(|(id, _)| *id)
    }

    /// The names, for a question or a message.
    pub(crate) fn text(&self) -> String {
        self.0.iter().map(|(_, (name, _))| name.as_str()).collect::<Vec<_>>().join("\", \"")
    }

    /// What [`TenantStore::change_object`](exops_store::TenantStore::change_object) is to show of others: the recipients that
    /// are named, and where `renames` says that the object goes or can get another name, those that refer to it.
    pub(crate) fn related(&self, directory: &Directory, renames: bool) -> impl FnOnce(Option<&Object>) -> Related + Send + use<> {
        let (named, directory) = (self.ids().collect(), directory.clone());
        move |object| {
            let entity = object.filter(|_| renames).and_then(|object| Entity::read(object).ok());
            let holding = entity.map(|entity| holding(directory.0.organization.text(&entity, "Name")));
            Related { named, holding: holding.unwrap_or_default() }
        }
    }

    /// Those recipients as they were when they were found.
    pub(crate) fn recipients(&self) -> Recipients {
        Recipients(self.0.iter().map(|(id, recipient)| (id.to_string(), recipient.clone())).collect())
    }

    /// Those recipients as they are in the transaction, or the record of who is gone.
    pub(crate) fn found(&self, organization: &Organization, origin: &Origin, found: &[Object]) -> Result<Recipients, Box<ErrorRecord>> {
        let mut recipients = HashMap::new();
        for object in found {
            let entity = Entity::read(object).map_err(|e| origin.storage(&e))?;
            recipients.insert(entity.id.to_string(), recipient(organization, &entity));
        }
        match self.0.iter().find(|(id, _)| !recipients.contains_key(&id.to_string())) {
            Some((_, (name, _))) => Err(origin.not_found(name)),
            None => Ok(Recipients(recipients)),
        }
    }
}

fn recipient(organization: &Organization, entity: &Entity) -> Recipient {
    (organization.text(entity, "Name").to_owned(), is_group(organization.text(entity, "RecipientType")))
}

/// Recipients by the text of their id.
pub(crate) struct Recipients(HashMap<String, Recipient>);

impl Recipients {
    /// The edit with names where it holds ids; only those that are groups, or are none, where that is asked for.
    pub(crate) fn name(&self, edit: &Edit, groups: Option<bool>) -> Edit {
        let name =
            |id: &str| self.0.get(id).filter(|(_, group)| groups.is_none_or(|groups| groups == *group)).map(|(name, _)| name.clone());
        edit.with_texts(name)
    }
}

/// Where the store finds who refers to an object of that name: the properties that refer to recipients, and the text.
fn holding(name: &str) -> (Vec<String>, String) {
    let properties: std::collections::BTreeSet<_> =
        nouns().iter().flat_map(|n| &n.properties).filter(|p| p.reference).map(|p| &p.name).collect();
    (properties.into_iter().map(ToString::to_string).collect(), fold(name))
}

/// Puts another name in every reference to `old`; without one the reference goes.
pub(crate) fn rename(holder: &mut Entity, old: &str, new: Option<&str>) {
    let old = fold(old);
    let is_it = |json: &Json| json.as_str().is_some_and(|name| fold(name) == old);
    for property in holder.noun.properties.iter().filter(|p| p.reference) {
        match (holder.values.get_mut(&*property.name), new) {
            (Some(Json::Array(items)), None) => items.retain(|item| !is_it(item)),
            (Some(Json::Array(items)), Some(new)) => items.iter_mut().filter(|item| is_it(item)).for_each(|item| *item = new.into()),
            (Some(json), new) if is_it(json) => *json = new.map_or(Json::Null, Json::from),
            _ => {}
        }
    }
}

/// The rows of stored objects after [`rename`].
pub(crate) fn renamed(organization: &Organization, holders: &[Object], old: &str, new: Option<&str>) -> Result<Vec<Row>, StoreError> {
    let row = |holder: &Object| {
        let mut holder = Entity::read(holder)?;
        rename(&mut holder, old, new);
        organization.rows(&holder)
    };
    holders.iter().map(row).collect()
}

impl Run {
    /// The recipient that a text names, or the record of why there is none.
    pub(crate) async fn recipient(&self, text: &str, accepts: Accepts) -> Flow<Result<Entity, Box<ErrorRecord>>> {
        let Some(recipients) = noun("Recipient") else { return Ok(Err(self.origin().not_found(text))) };
        let found = self.resolve(recipients, text).await?;
        Ok(found.and_then(|entity| {
            let kind = self.organization().text(&entity, "RecipientType");
            if accepts.takes(kind) {
                Ok(entity)
            } else {
                Err(self.origin().wrong_recipient(self.organization().text(&entity, "Name"), kind, accepts.text()))
            }
        }))
    }

    /// Puts ids where a client wrote whatever identifies recipients, and notes them; the record of who is none.
    pub(crate) async fn refer(&self, edit: &mut Edit, accepts: Accepts, referred: &mut Referred) -> Flow<Result<(), Box<ErrorRecord>>> {
        for text in edit.texts_mut() {
            match self.recipient(text.as_str().unwrap_or_default(), accepts).await? {
                Ok(entity) => {
                    *text = entity.id.to_string().into();
                    referred.0.push((entity.id, recipient(self.organization(), &entity)));
                }
                Err(record) => return Ok(Err(record)),
            }
        }
        Ok(Ok(()))
    }
}
