//! References to recipients: one rule for what a client names, wherever a parameter takes a recipient.
//!
//! Nobody, several, or somebody of a kind that cannot stand there is an error before anything is changed.

use exops_psobject::ErrorRecord;
use exops_store::{Object, Row, StoreError};
use serde_json::Value as Json;

use crate::Run;
use crate::edit::Edit;
use crate::nouns::{noun, nouns};
use crate::organization::{Entity, Organization};
use crate::output::Flow;
use crate::values::fold;

/// Which recipients can stand somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepts {
    /// All.
    Recipients,
    /// Who can be given a right: users and security groups.
    SecurityPrincipals,
}

impl Accepts {
    fn takes(self, kind: &str) -> bool {
        self == Self::Recipients || matches!(kind, "UserMailbox" | "MailUser" | "MailUniversalSecurityGroup")
    }
}

/// Where the store finds who refers to an object of that name: the properties that refer to recipients, and the text.
pub(crate) fn holding(name: &str) -> (Vec<String>, String) {
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
                Err(self.origin().not_a_principal(self.organization().text(&entity, "Name"), kind))
            }
        }))
    }

    /// Puts the names of recipients where a client wrote whatever identifies them. Answers their ids.
    pub(crate) async fn name_recipients(&self, edit: &mut Edit, accepts: Accepts) -> Flow<Result<Vec<uuid::Uuid>, Box<ErrorRecord>>> {
        let mut ids = Vec::new();
        for text in edit.texts_mut() {
            match self.recipient(text.as_str().unwrap_or_default(), accepts).await? {
                Ok(entity) => {
                    *text = self.organization().text(&entity, "Name").into();
                    ids.push(entity.id);
                }
                Err(record) => return Ok(Err(record)),
            }
        }
        Ok(Ok(ids))
    }
}
