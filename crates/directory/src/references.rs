//! References to recipients: one rule for what a client names, wherever a parameter takes a recipient.
//!
//! Nobody, several, or somebody of a kind that cannot stand there is an error before anything is changed.

use exops_psobject::ErrorRecord;

use crate::Run;
use crate::edit::Edit;
use crate::nouns::noun;
use crate::organization::Entity;
use crate::output::Flow;

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
