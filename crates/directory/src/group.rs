//! `New-DistributionGroup` and `Remove-DistributionGroup`.

use exops_runspace::Ended;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use crate::Run;
use crate::change::{put, seconds};
use crate::edit::Edit;
use crate::mailbox::{Draft, Named, distinguished_name, legacy_dn};
use crate::nouns::{Noun, noun};
use crate::organization::Entity;
use crate::output::Flow;
use crate::references::{Accepts, Referred};

/// Parameters of `New-DistributionGroup`.
pub(crate) const NEW: [&str; 13] = [
    "Name",
    "Type",
    "RoomList",
    "Alias",
    "DisplayName",
    "PrimarySmtpAddress",
    "ManagedBy",
    "Members",
    "Notes",
    "Description",
    "MemberJoinRestriction",
    "MemberDepartRestriction",
    "RequireSenderAuthenticationEnabled",
];
/// Parameters of `Remove-DistributionGroup`.
pub(crate) const REMOVE: [&str; 2] = ["Identity", "BypassSecurityGroupManagerCheck"];

/// Parameters that fill the property of their name with one value, and with recipients.
const VALUES: [&str; 6] =
    ["DisplayName", "Notes", "Description", "MemberJoinRestriction", "MemberDepartRestriction", "RequireSenderAuthenticationEnabled"];
const RECIPIENTS: [&str; 2] = ["ManagedBy", "Members"];

impl Run {
    pub(crate) async fn new_distribution_group(&self) -> Flow {
        self.need_intent()?;
        let Some(groups) = noun("DistributionGroup") else { return Ok(()) };
        match self.group_draft(groups).await {
            Ok(draft) => self.create(draft).await,
            Err(end) => Err(self.close_entry(end).await),
        }
    }

    /// The caller is an application and so never an owner of the group.
    pub(crate) async fn remove_distribution_group(&self) -> Flow {
        self.need_intent()?;
        if !self.command.flag("BypassSecurityGroupManagerCheck") {
            return self.reject(self.origin().not_a_manager()).await;
        }
        self.remove("DistributionGroup", "removes the group, not its members").await
    }

    async fn group_draft(&self, groups: &'static Noun) -> Flow<Draft> {
        let Named { name, alias, primary, addresses, .. } = self.named().await?;
        let security = match self.said("Type").unwrap_or_default().to_ascii_lowercase().as_str() {
            "" | "distribution" => false,
            "security" => true,
            _ => {
                let value = self.command.argument("Type").cloned().unwrap_or_default();
                let kind = "Microsoft.Exchange.Management.RecipientTasks.GroupType";
                return Err(self.conversion("Type", &value, kind, "It must be one of Distribution, Security."));
            }
        };
        let rooms = self.command.flag("RoomList");
        if security && rooms {
            let text = "A room list is a distribution group: -Type Security does not go with -RoomList.".to_owned();
            return Err(Ended::Failed(self.origin().validation(text)));
        }
        let id = Uuid::new_v4();
        let now = seconds(self.origin().time);
        let mut entity = Entity { id, noun: groups, values: Map::new() };
        let values = json!({
            "Name": name, "DisplayName": name, "Alias": alias, "Guid": id, "ExternalDirectoryObjectId": Uuid::new_v4(),
            "PrimarySmtpAddress": primary, "EmailAddresses": addresses,
            "DistinguishedName": distinguished_name(&name, self.organization().name()), "LegacyExchangeDN": legacy_dn(id, &alias),
            "WhenCreated": now, "WhenChanged": now,
        });
        if let Json::Object(values) = values {
            entity.values = values;
        }
        if security {
            let kind = "MailUniversalSecurityGroup";
            for (name, value) in [("RecipientType", kind), ("RecipientTypeDetails", kind), ("GroupType", "Universal, SecurityEnabled")] {
                put(&mut entity, name, Some(value.into()));
            }
        }
        if rooms {
            put(&mut entity, "RecipientTypeDetails", Some("RoomList".into()));
        }
        for parameter in VALUES {
            self.fill(&mut entity, groups.property(parameter), parameter)?;
        }
        let (mut references, mut referred) = (Vec::new(), Referred::default());
        for parameter in RECIPIENTS {
            let (Some(value), Some(property)) = (self.command.argument(parameter), groups.property(parameter)) else { continue };
            let edit = Edit::read(property, value);
            let mut edit = edit.map_err(|reason| self.conversion(parameter, value, &property.kind.name, &reason))?;
            self.refer(&mut edit, Accepts::Recipients, &mut referred).await?.map_err(Ended::Failed)?;
            references.push((property, edit));
        }
        Ok(Draft { entity, references, referred })
    }
}
