//! `New-Mailbox` and `Remove-Mailbox`.

use exops_audit::Ending;
use exops_psobject::{ErrorRecord, Value};
use exops_runspace::Ended;
use exops_store::{Change, Fate, Found, Row, StoreError};
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use crate::change::{Done, changes, in_scope, is_alias, outcome, put, seconds};
use crate::edit::Edit;
use crate::errors::Origin;
use crate::nouns::{Noun, Property, noun};
use crate::organization::{Entity, Organization};
use crate::output::Flow;
use crate::references::{Recipients, Referred, renamed};
use crate::seed::{dn, escape_dn};
use crate::values::is_smtp_address;
use crate::{FOREST, Run};

/// Parameters of `New-Mailbox`.
pub(crate) const NEW: [&str; 18] = [
    "Name",
    "MicrosoftOnlineServicesID",
    "Password",
    "ResetPasswordOnNextLogon",
    "Shared",
    "Room",
    "Equipment",
    "Alias",
    "DisplayName",
    "PrimarySmtpAddress",
    "FirstName",
    "LastName",
    "Initials",
    "Office",
    "Phone",
    "ResourceCapacity",
    "WhatIf",
    "Confirm",
];
/// Parameters of `Remove-Mailbox`. Nothing is kept behind a removed mailbox, so both ways of removing are one.
pub(crate) const REMOVE: [&str; 5] = ["Identity", "Force", "PermanentlyDelete", "WhatIf", "Confirm"];

/// The kinds that it makes, by switch; also values of `Set-Mailbox -Type`.
const KINDS: [&str; 3] = ["Shared", "Room", "Equipment"];
/// Parameters that fill the property of their name.
const TEXTS: [&str; 6] = ["DisplayName", "FirstName", "LastName", "Initials", "Office", "Phone"];
/// Longest name and alias.
pub(crate) const NAME_CHARS: usize = 64;
/// Lengths of a password, and how many of the four kinds of characters it has.
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 8..=256;
const PASSWORD_KINDS: usize = 3;
const GIB: u64 = 1 << 30;
const ADMINISTRATIVE_GROUP: &str = "/o=ExchangeLabs/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)";

/// A new object, and the recipients to which it is going to refer.
pub(crate) struct Draft {
    pub(crate) entity: Entity,
    /// Properties that hold names, and the ids whose names they are to hold.
    pub(crate) references: Vec<(&'static Property, Edit)>,
    pub(crate) referred: Referred,
}

/// What names a new recipient.
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) alias: String,
    /// Primary address.
    pub(crate) primary: String,
    /// Proxy addresses with their prefixes.
    pub(crate) addresses: Vec<String>,
    /// The alias in the default domain.
    pub(crate) own: String,
}

impl Run {
    pub(crate) async fn new_mailbox(&self) -> Flow {
        self.need_intent()?;
        let Some(mailbox) = noun("Mailbox") else { return Ok(()) };
        match self.draft(mailbox).await {
            Ok(entity) => self.create(Draft { entity, references: Vec::new(), referred: Referred::default() }).await,
            Err(end) => Err(self.close_entry(end).await),
        }
    }

    /// Stores a new object and shows it.
    pub(crate) async fn create(&self, draft: Draft) -> Flow {
        let entity = draft.complete(&draft.referred.recipients());
        let (id, kind, name) = (entity.id, entity.noun, self.organization().canonical_name(&entity));
        if !self.agreed(&entity, format!("Creating {} \"{name}\".", kind.name.to_lowercase())).await? {
            return Ok(());
        }
        let related = draft.referred.related(&self.directory, false);
        let (directory, origin, intent) = (self.directory.clone(), self.origin().clone(), self.invocation.intent);
        let scopes = self.permit.obligations().write_scopes.clone();
        let decide = move |found: Found| {
            let organization = &directory.0.organization;
            let (fate, ending, changes, answer) = match draft.decide(organization, &origin, &scopes, &found) {
                Ok((entity, row, changes)) => (Fate::Changed(Box::new(row)), Ending::Succeeded, changes, Ok(entity)),
                Err(record) => (Fate::Kept, Ending::Failed(record.message.to_string()), Vec::new(), Err(record)),
            };
            Change { fate, holders: Vec::new(), outcome: outcome(intent, &origin, ending, &name, changes), answer }
        };
        match self.store().change_object(id, related, self.directory.index(), decide).await {
            Ok(Ok(entity)) => self.show(&entity, kind).await,
            Ok(Err(record)) => self.output.error(record).await,
            Err(StoreError::IdentityTaken { kind, value, owner }) => self.reject(self.taken(&kind, &value, owner).await).await,
            Err(error) => Err(self.terminate(self.origin().storage(&error)).await),
        }
    }

    pub(crate) async fn remove_mailbox(&self) -> Flow {
        self.need_intent()?;
        self.remove("Mailbox", "removes it with everything in it").await
    }

    /// Removes an object of a noun and every reference to it.
    pub(crate) async fn remove(&self, name: &str, effect: &str) -> Flow {
        let (Some(kind), Some(identity)) = (noun(name), self.identity()) else {
            let record = self.origin().conversion("Identity", "", "an identity", "It must name an object.");
            return Err(self.terminate(record).await);
        };
        let entity = match self.resolve(kind, &identity).await {
            Ok(Ok(entity)) => entity,
            Ok(Err(record)) => return self.reject(record).await,
            Err(end) => return Err(self.close_entry(end).await),
        };
        let name = self.organization().canonical_name(&entity);
        if !self.agreed(&entity, format!("Removing {} Identity:\"{name}\" {effect}.", kind.name.to_lowercase())).await? {
            return Ok(());
        }
        let related = Referred::default().related(&self.directory, true);
        let removing = Removing {
            directory: self.directory.clone(),
            origin: self.origin().clone(),
            intent: self.invocation.intent,
            scopes: self.permit.obligations().write_scopes.clone(),
            kind,
            identity,
        };
        match self.store().change_object(entity.id, related, self.directory.index(), move |found| removing.decide(&found)).await {
            Ok(Done::Rejected(record)) => self.output.error(record).await,
            Ok(_) => Ok(()),
            Err(error) => Err(self.terminate(self.origin().storage(&error)).await),
        }
    }

    /// A parameter's text, if it has any.
    pub(crate) fn said(&self, parameter: &str) -> Option<String> {
        let text = self.command.argument(parameter).map(Value::display).unwrap_or_default().trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// Name, alias and addresses of a new recipient: what was said, else made from the name.
    pub(crate) async fn named(&self) -> Flow<Named> {
        let invalid = |text: String| Ended::Failed(self.origin().validation(text));
        let name = self.said("Name").unwrap_or_default();
        check_name(&name).map_err(invalid)?;
        // Somebody who signs in is named by that.
        let sign_in = self.said("MicrosoftOnlineServicesID");
        let local = sign_in.as_deref().and_then(|id| id.rsplit_once('@')).map(|(local, _)| local);
        let alias = self.said("Alias").unwrap_or_else(|| alias_of(local.unwrap_or(&name)));
        if alias.chars().count() > NAME_CHARS || !is_alias(&alias) {
            return Err(invalid(format!("The alias \"{alias}\" is not valid. Give one of letters, digits and inner dots with -Alias.")));
        }
        let domains = self.domains().await?;
        let default = domains.iter().find(|d| d.default).map(|d| d.name.clone()).unwrap_or_default();
        let own = format!("{alias}@{default}");
        let primary = self.said("PrimarySmtpAddress").or(sign_in).unwrap_or_else(|| own.clone());
        let domain = primary.rsplit_once('@').map(|(_, domain)| domain.to_lowercase()).unwrap_or_default();
        if !is_smtp_address(&primary) {
            let reason = "It must be an SMTP address such as desk@contoso.com.";
            return Err(Ended::Failed(self.origin().conversion(
                "PrimarySmtpAddress",
                &primary,
                "Microsoft.Exchange.Data.SmtpAddress",
                reason,
            )));
        }
        if !domains.iter().any(|d| d.name == domain) {
            return Err(Ended::Failed(self.origin().foreign_domain(&domain, &primary, &name)));
        }
        let mut addresses = vec![format!("SMTP:{primary}")];
        if !own.eq_ignore_ascii_case(&primary) {
            addresses.push(format!("smtp:{own}"));
        }
        Ok(Named { name, alias, primary, addresses, own })
    }

    /// The new mailbox, with everything that was not said filled in.
    async fn draft(&self, mailbox: &'static Noun) -> Flow<Entity> {
        let kind = KINDS.into_iter().find(|kind| self.command.flag(kind));
        let sign_in = self.said("MicrosoftOnlineServicesID");
        let variant = match (kind, &sign_in) {
            (Some(kind), None) => mailbox.variants.iter().find(|v| *v.value == *kind),
            (None, Some(_)) => None,
            _ => {
                let text =
                    "A mailbox has either -MicrosoftOnlineServicesID and -Password, or one of -Shared, -Room and -Equipment. Nothing \
                            was carried out."
                        .to_owned();
                return Err(Ended::Failed(self.origin().not_supported(text)));
            }
        };
        let signs_in = match sign_in {
            Some(id) => Some(self.sign_in(id).await?),
            None => None,
        };
        let Named { name, alias, primary, addresses, own } = self.named().await?;
        let user = signs_in.unwrap_or(own);
        let (id, exchange, external) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        let simple = exchange.simple().to_string();
        let now = seconds(self.origin().time);
        let mut entity = Entity { id, noun: mailbox, values: Map::new() };
        let values = json!({
            "Name": name, "DisplayName": name, "Alias": alias, "Guid": id, "ExchangeGuid": exchange, "ExternalDirectoryObjectId": external,
            "PrimarySmtpAddress": primary, "EmailAddresses": addresses, "UserPrincipalName": user,
            "DistinguishedName": distinguished_name(&name, self.organization().name()),
            "LegacyExchangeDN": legacy_dn(id, &alias),
            "ServerLegacyDN": format!("{ADMINISTRATIVE_GROUP}/cn=Configuration/cn=Servers/cn=eurpr00mb0001"),
            "SamAccountName": format!("${}", simple.get(..16).unwrap_or_default()),
            "NetID": simple.get(16..).unwrap_or_default().to_uppercase(),
            "IssueWarningQuota": 49 * GIB, "ProhibitSendQuota": 99 * GIB / 2, "ProhibitSendReceiveQuota": 50 * GIB,
            "WhenCreated": now, "WhenChanged": now,
        });
        if let Json::Object(values) = values {
            entity.values = values;
        }
        for (name, value) in variant.iter().flat_map(|variant| &variant.sets) {
            put(&mut entity, name, Some(value.clone()).filter(|v| !v.is_null()));
        }
        for parameter in TEXTS.into_iter().filter(|p| self.said(p).is_some()) {
            self.fill(&mut entity, mailbox.property(parameter), parameter)?;
        }
        if kind == Some("Room") {
            self.fill(&mut entity, mailbox.property("ResourceCapacity"), "ResourceCapacity")?;
        }
        Ok(entity)
    }

    /// The name with which somebody signs in, and a password for it. The password is looked at and not kept: nobody signs in
    /// here with one.
    async fn sign_in(&self, id: String) -> Flow<String> {
        let invalid = |text: &str| Ended::Failed(self.origin().validation(text.to_owned()));
        let parameter = "MicrosoftOnlineServicesID";
        if !is_smtp_address(&id) {
            let reason = "It must be a user name with a domain such as jo@contoso.com.";
            return Err(Ended::Failed(self.origin().conversion(parameter, &id, "Microsoft.Exchange.Data.WindowsLiveId", reason)));
        }
        let domain = id.rsplit_once('@').map(|(_, domain)| domain.to_lowercase()).unwrap_or_default();
        if !self.domains().await?.iter().any(|d| d.name == domain) {
            return Err(Ended::Failed(self.origin().foreign_domain(&domain, &id, &self.said("Name").unwrap_or_default())));
        }
        let password = match self.command.argument("Password") {
            Some(Value::SecureString(secret)) => secret.secret().map(|secret| strength(secret.expose_secret())),
            _ => return Err(invalid("A mailbox with -MicrosoftOnlineServicesID needs a -Password.")),
        };
        match password {
            Some((length, kinds)) if PASSWORD_CHARS.contains(&length) && kinds >= PASSWORD_KINDS => Ok(id),
            Some(_) => Err(invalid(
                "The password doesn't meet the requirements: 8 to 256 characters of three kinds among capitals, small letters, digits and \
                 others.",
            )),
            None => Err(invalid("The password arrived sealed with a key that this service doesn't have.")),
        }
    }

    /// Puts a parameter's value into the property of its name, by the property's rules where the noun has it.
    pub(crate) fn fill(&self, entity: &mut Entity, property: Option<&Property>, parameter: &str) -> Flow {
        let Some(value) = self.command.argument(parameter).filter(|v| !v.is_null()) else { return Ok(()) };
        let json = match property {
            Some(property) => {
                let edit = Edit::read(property, value).map_err(|reason| self.conversion(parameter, value, &property.kind.name, &reason))?;
                edit.apply(property, &Json::Null)
            }
            None => Some(value.display().trim().into()),
        };
        put(entity, parameter, json);
        Ok(())
    }
}

/// Characters of a password, and of how many kinds they are.
fn strength(password: &str) -> (usize, usize) {
    let kinds: [fn(char) -> bool; 4] =
        [char::is_uppercase, char::is_lowercase, char::is_numeric, |c| !c.is_uppercase() && !c.is_lowercase() && !c.is_numeric()];
    (password.chars().count(), kinds.iter().filter(|kind| password.chars().any(**kind)).count())
}

/// Whether a recipient can have that name, or why not.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let valid = !name.trim().is_empty() && name.chars().count() <= NAME_CHARS && !name.chars().any(char::is_control);
    if valid { Ok(()) } else { Err(format!("The name \"{name}\" is not valid: it must have 1 to {NAME_CHARS} characters.")) }
}

/// The DN of a recipient in the organisation's unit.
pub(crate) fn distinguished_name(name: &str, root: &str) -> String {
    format!("CN={},OU={root},OU=Microsoft Exchange Hosted Organizations,{}", escape_dn(name), dn(FOREST))
}

pub(crate) fn legacy_dn(id: Uuid, alias: &str) -> String {
    format!("{ADMINISTRATIVE_GROUP}/cn=Recipients/cn={}-{alias}", id.simple())
}

/// A name as an alias: no spaces, `?` for what an alias cannot have.
fn alias_of(name: &str) -> String {
    let kept = name.chars().filter(|c| !c.is_whitespace());
    let text: String = kept.map(|c| if is_alias(c.encode_utf8(&mut [0; 4])) || c == '.' { c } else { '?' }).collect();
    text.split('.').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
}

impl Draft {
    /// The object with the names of those to whom it refers.
    fn complete(&self, recipients: &Recipients) -> Entity {
        let mut entity = self.entity.clone();
        for (property, edit) in &self.references {
            put(&mut entity, &property.name, recipients.name(edit, None).apply(property, &Json::Null));
        }
        entity
    }

    /// The object to store with its rows and everything that it changes, or the record of why there is none.
    fn decide(
        &self,
        organization: &Organization,
        origin: &Origin,
        scopes: &[exops_filter::Filter],
        found: &Found,
    ) -> Result<(Entity, Row, Vec<exops_audit::Change>), Box<ErrorRecord>> {
        let entity = self.complete(&self.referred.found(organization, origin, &found.named)?);
        if !in_scope(organization, entity.noun, scopes, &entity) {
            return Err(origin.out_of_scope(&entity.noun.name, &organization.canonical_name(&entity)));
        }
        let blank = Entity { values: Map::new(), ..entity.clone() };
        let mut changes = changes(organization, entity.noun, &blank, &entity);
        changes.iter_mut().for_each(|change| change.old.clear());
        let row = organization.rows(&entity).map_err(|e| origin.storage(&e))?;
        Ok((entity, row, changes))
    }
}

/// Everything that a removal's decision needs.
struct Removing {
    directory: crate::Directory,
    origin: Origin,
    intent: Option<exops_audit::IntentId>,
    scopes: Vec<exops_filter::Filter>,
    kind: &'static Noun,
    identity: String,
}

impl Removing {
    fn decide(self, found: &Found) -> Change<Done> {
        let organization = &self.directory.0.organization;
        let refused = |object: &str, record: Box<ErrorRecord>| Change {
            fate: Fate::Kept,
            holders: Vec::new(),
            outcome: outcome(self.intent, &self.origin, Ending::Failed(record.message.to_string()), object, Vec::new()),
            answer: Done::Rejected(record),
        };
        let entity = match found.object.as_ref().map(Entity::read).transpose() {
            Ok(Some(entity)) if entity.noun.name == self.kind.name => entity,
            Ok(_) => return refused(&self.identity, self.origin.not_found(&self.identity)),
            Err(error) => return refused(&self.identity, self.origin.storage(&error)),
        };
        let name = organization.canonical_name(&entity);
        if !in_scope(organization, self.kind, &self.scopes, &entity) {
            return refused(&name, self.origin.out_of_scope(&self.kind.name, &name));
        }
        let holders = match renamed(organization, &found.holders, organization.text(&entity, "Name"), None) {
            Ok(holders) => holders,
            Err(error) => return refused(&name, self.origin.storage(&error)),
        };
        let gone = Entity { values: Map::new(), ..entity.clone() };
        let mut changes = changes(organization, self.kind, &entity, &gone);
        changes.iter_mut().for_each(|change| change.new.clear());
        let outcome = outcome(self.intent, &self.origin, Ending::Succeeded, &name, changes);
        Change { fate: Fate::Removed, holders, outcome, answer: Done::Changed }
    }
}
