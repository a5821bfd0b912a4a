//! Permissions on mailboxes and recipients: entries that are kept with the object that they protect.
//!
//! An entry names who has the right by immutable id. Whoever is removed has no right any more, and a new recipient of the
//! same name does not inherit one; an entry that leads nowhere is not shown.

use std::collections::{BTreeSet, HashMap};

use exops_audit::{Change as Changed, Ending, IntentId};
use exops_psobject::{ErrorRecord, Value};
use exops_store::{Change, Fate, Found, Object, Related};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use crate::change::{in_scope, outcome, put, seconds};
use crate::errors::Origin;
use crate::nouns::{Form, Noun, noun};
use crate::organization::Entity;
use crate::output::Flow;
use crate::read::{Pages, Wanted, more_results};
use crate::references::Accepts;
use crate::values::flag;
use crate::{Directory, Run};

/// What everybody has on an own mailbox, and nobody can take away.
const SELF: &str = "NT AUTHORITY\\SELF";
const SELF_SID: &str = "S-1-5-10";
/// How entries are inherited when nothing is said.
const INHERITANCE: &str = "All";
/// The only right with which Outlook opens a mailbox by itself.
const FULL_ACCESS: &str = "FullAccess";
/// The noun that shows the owner of a mailbox, and the key under which it is kept; [`SELF`] where there is none.
const OWNER: &str = "MailboxOwner";
/// Looks among removed mailboxes only, of which none are kept.
const REMOVED: &str = "SoftDeletedMailbox";

/// Parameters of `Remove-MailboxPermission`.
pub(crate) const REMOVE_FROM_MAILBOX: [&str; 10] = [
    "Identity",
    "User",
    "AccessRights",
    "Deny",
    "InheritanceType",
    "ResetDefault",
    "ClearAutoMapping",
    "SoftDeletedMailbox",
    "IgnoreDefaultScope",
    "BypassMasterAccountSid",
];
/// Parameters of `Remove-RecipientPermission`.
pub(crate) const REMOVE_FROM_RECIPIENT: [&str; 7] = [
    "Identity",
    "Trustee",
    "AccessRights",
    "Deny",
    "SkipDomainValidationForMailContact",
    "SkipDomainValidationForMailUser",
    "SkipDomainValidationForSharedMailbox",
];

/// A kind of permission.
pub(crate) struct Kind {
    /// The noun of the rows that are shown, and the key under which entries are kept.
    shown: &'static str,
    /// The noun of what is protected.
    on: &'static str,
    /// The parameter and property of who has the right.
    who: &'static str,
    /// The property with that one's security identifier.
    sid: &'static str,
    /// What [`SELF`] has on a mailbox.
    own: &'static [&'static str],
    /// Where a right that is not one of these is found.
    hint: &'static str,
}

/// `*-MailboxPermission`.
pub(crate) static MAILBOX: Kind = Kind {
    shown: "MailboxPermission",
    on: "Mailbox",
    who: "User",
    sid: "UserSid",
    own: &["FullAccess", "ReadPermission"],
    hint: " SendAs is granted by Add-RecipientPermission.",
};
/// `*-RecipientPermission`.
pub(crate) static RECIPIENT: Kind = Kind {
    shown: "RecipientPermission",
    on: "Recipient",
    who: "Trustee",
    sid: "TrusteeSidString",
    own: &["SendAs"],
    hint: " Rights to a mailbox are granted by Add-MailboxPermission.",
};

/// An entry as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    who: Uuid,
    rights: BTreeSet<String>,
    deny: bool,
    inheritance: String,
    /// Outlook opens the mailbox by itself.
    auto_mapping: bool,
}

impl Entry {
    /// Entries of one key are one entry.
    fn is_like(&self, other: &Self) -> bool {
        (self.who, self.deny, &self.inheritance) == (other.who, other.deny, &other.inheritance)
    }

    /// The rights, for people.
    fn text(&self) -> String {
        let deny = if self.deny { "Deny " } else { "" };
        let rights = self.rights.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let mapped = self.auto_mapping || self.deny || !self.rights.contains(FULL_ACCESS);
        format!("{deny}{rights}{}", if mapped { "" } else { " (not mapped automatically)" })
    }
}

/// What is to become of the permissions of an object.
#[derive(Clone)]
enum Wish {
    /// One recipient has an entry, or not.
    Entry(Entity, Entry),
    /// Somebody owns the mailbox; nobody but itself.
    Owner(Option<Entity>),
    /// All entries and the owner go.
    ResetDefault,
    /// Outlook opens it for nobody by itself.
    ClearAutoMapping,
}

/// Who is asked for.
enum Who {
    Itself,
    Recipient(Entity),
}

/// How a transaction ended.
enum Done {
    Changed,
    /// The entry is there already, or is not there.
    Nothing,
    Rejected(Box<ErrorRecord>),
}

impl Run {
    pub(crate) async fn get_permissions(&self, kind: &'static Kind) -> Flow {
        let size = self.result_size()?;
        let rights = self.rights(kind)?;
        let Some(on) = noun(kind.on) else { return Ok(()) };
        let who = match self.named_by(kind.who) {
            None => None,
            Some(text) => match self.who(&text).await? {
                Ok(who) => Some(who),
                Err(record) => return self.output.error(record).await,
            },
        };
        let owner = self.command.flag("Owner");
        let removed = self.command.flag(REMOVED);
        let mut left = size.limit();
        let mut show = async |entity: &Entity| {
            for row in self.entries(kind, entity, who.as_ref(), &rights).await? {
                self.output.check()?;
                if left == 0 {
                    self.output.warning(more_results(size)).await?;
                    return Ok(false);
                }
                left -= 1;
                self.show(&row, row.noun).await?;
            }
            Ok(true)
        };
        if let Some(identity) = self.wanted_identity()? {
            return match self.resolve(on, &identity).await? {
                Ok(_) if removed => self.output.error(self.origin().not_found(&identity)).await,
                Ok(entity) if owner => self.show_owner(&entity).await,
                Ok(entity) => show(&entity).await.map(|_| ()),
                Err(record) => self.output.error(record).await,
            };
        }
        let (mut pages, wanted) = (Pages::of(on), Wanted::all());
        while let Some(entity) = pages.next(self, on, &wanted).await? {
            if !show(&entity).await? {
                break;
            }
        }
        Ok(())
    }

    /// Adds or removes rights of one recipient, or changes the permissions of an object as a whole.
    pub(crate) async fn change_permissions(&self, kind: &'static Kind, add: bool) -> Flow {
        self.need_intent()?;
        let (entity, wish) = match self.wish(kind).await {
            Ok(Ok(wish)) => wish,
            Ok(Err(record)) => return self.reject(record).await,
            Err(end) => return Err(self.close_entry(end).await),
        };
        let name = self.organization().canonical_name(&entity);
        let action = match &wish {
            Wish::Entry(who, entry) => {
                let (verb, preposition) = if add { ("Adding", "to") } else { ("Removing", "from") };
                format!("{verb} the right {} on \"{name}\" {preposition} \"{}\".", entry.text(), self.account(who))
            }
            Wish::Owner(who) => format!("Setting the owner of \"{name}\" to \"{}\".", who.as_ref().map_or(SELF, |who| self.account(who))),
            Wish::ResetDefault => format!("Resetting the permissions on \"{name}\" to the default."),
            Wish::ClearAutoMapping => format!("Clearing the automatic mapping of \"{name}\" for everybody."),
        };
        if !self.agreed(&entity, action).await? {
            return Ok(());
        }
        let transaction = Transaction {
            directory: self.directory.clone(),
            kind,
            add,
            accounts: self.accounts(kind, &entity, &wish).await?,
            wish: wish.clone(),
            identity: self.identity().unwrap_or_default(),
            scopes: self.permit.obligations().write_scopes.clone(),
            intent: self.invocation.intent,
            origin: self.origin().clone(),
        };
        // Whoever has a right is named by id: nobody else has to be looked at.
        let alone = |_: Option<&Object>| Related::default();
        let decide = move |found: Found| transaction.decide(found.object.as_ref());
        match self.store().change_object(entity.id, alone, self.directory.index(), decide).await {
            Ok(Done::Changed) => match &wish {
                Wish::Entry(who, entry) if add => match self.permission_row(kind, &entity, who, entry) {
                    Some(row) => self.show(&row, row.noun).await,
                    None => Ok(()),
                },
                _ => Ok(()),
            },
            Ok(Done::Nothing) => {
                let text = match &wish {
                    Wish::Entry(who, _) if add => format!(
                        "The appropriate access control entry is already present on the object \"{name}\" for account \"{}\".",
                        self.account(who)
                    ),
                    Wish::Entry(who, _) => format!(
                        "Can't remove the access control entry on the object \"{name}\" for account \"{}\" because the ACE isn't present.",
                        self.account(who)
                    ),
                    _ => format!("The command completed successfully but no settings of '{name}' have been modified."),
                };
                self.output.warning(text).await
            }
            Ok(Done::Rejected(record)) => self.output.error(record).await,
            Err(error) => Err(self.terminate(self.origin().storage(&error)).await),
        }
    }

    /// What is to be changed, and on which object.
    async fn wish(&self, kind: &'static Kind) -> Flow<Result<(Entity, Wish), Box<ErrorRecord>>> {
        let (Some(on), Some(identity)) = (noun(kind.on), self.identity()) else {
            return Err(self.conversion("Identity", &"".into(), "an identity", "It must name an object."));
        };
        let whole = if self.command.flag("ResetDefault") {
            Some(Wish::ResetDefault)
        } else if self.command.flag("ClearAutoMapping") {
            Some(Wish::ClearAutoMapping)
        } else {
            None
        };
        let named = if self.command.argument("Owner").is_some() { "Owner" } else { kind.who };
        let entry = if whole.is_none() && named != "Owner" { Some(self.wished_entry(kind)?) } else { None };
        let text = self.named_by(named);
        if whole.is_none() && text.is_none() {
            return Err(self.conversion(named, &"".into(), "SecurityPrincipalIdParameter", "It must name a user or security group."));
        }
        let entity = match self.resolve(on, &identity).await? {
            Ok(_) if self.command.flag(REMOVED) => return Ok(Err(self.origin().not_found(&identity))),
            Ok(entity) => entity,
            Err(record) => return Ok(Err(record)),
        };
        if let Some(whole) = whole {
            return Ok(Ok((entity, whole)));
        }
        Ok(self.who(&text.unwrap_or_default()).await?.and_then(|who| match (who, entry) {
            (Who::Recipient(who), Some(mut entry)) => {
                entry.who = who.id;
                // Only users open mailboxes by themselves.
                entry.auto_mapping &= self.organization().text(&who, "RecipientType") != "MailUniversalSecurityGroup";
                Ok((entity, Wish::Entry(who, entry)))
            }
            (Who::Recipient(who), None) => Ok((entity, Wish::Owner(Some(who)))),
            (Who::Itself, None) => Ok((entity, Wish::Owner(None))),
            (Who::Itself, Some(_)) => {
                Err(self.origin().validation(format!("The rights of {SELF} belong to every mailbox and can't be changed.")))
            }
        }))
    }

    /// The entry that the parameters describe, of nobody yet.
    fn wished_entry(&self, kind: &'static Kind) -> Flow<Entry> {
        let rights = self.rights(kind)?;
        if rights.is_empty() {
            return Err(self.conversion("AccessRights", &Value::Null, kind.shown, "It must name a right."));
        }
        let inheritance = match self.said("InheritanceType") {
            None => INHERITANCE.to_owned(),
            Some(text) => match member(kind, "InheritanceType", &text) {
                Ok(member) => member,
                Err(reason) => return Err(self.conversion("InheritanceType", &text.into(), "ActiveDirectorySecurityInheritance", &reason)),
            },
        };
        let auto_mapping = match self.command.argument("AutoMapping") {
            None => true,
            Some(value) => flag(value).map_err(|reason| self.conversion("AutoMapping", value, "System.Boolean", &reason))?,
        };
        let deny = self.command.flag("Deny");
        let auto_mapping = auto_mapping && !deny && rights.contains(FULL_ACCESS);
        Ok(Entry { who: Uuid::nil(), rights, deny, inheritance, auto_mapping })
    }

    /// What the trail calls those that the entries of an object and a wish name.
    async fn accounts(&self, kind: &Kind, entity: &Entity, wish: &Wish) -> Flow<HashMap<Uuid, String>> {
        let mut accounts = HashMap::new();
        if let Wish::Entry(who, _) | Wish::Owner(Some(who)) = wish {
            accounts.insert(who.id, self.account(who).to_owned());
        }
        let ids = entries(kind, entity).into_iter().map(|entry| entry.who).chain(owner(entity));
        for id in ids.collect::<BTreeSet<_>>() {
            if let Some(object) = self.store().object(id).await.map_err(|e| self.storage(&e))? {
                let who = Entity::read(&object).map_err(|e| self.storage(&e))?;
                accounts.insert(id, self.account(&who).to_owned());
            }
        }
        Ok(accounts)
    }

    /// The row of `-Owner`.
    async fn show_owner(&self, entity: &Entity) -> Flow {
        let owner = match owner(entity) {
            Some(id) => self.store().object(id).await.map_err(|e| self.storage(&e))?,
            None => None,
        };
        let owner = owner.map(|object| Entity::read(&object)).transpose().map_err(|e| self.storage(&e))?;
        let Some(noun) = noun(OWNER) else { return Ok(()) };
        let mut values = Map::new();
        for name in ["Name", "Identity"] {
            values.insert(name.to_owned(), self.organization().text(entity, "Name").into());
        }
        values.insert("Owner".to_owned(), owner.as_ref().map_or(SELF, |who| self.account(who)).into());
        self.show(&Entity { id: entity.id, noun, values }, noun).await
    }

    async fn who(&self, text: &str) -> Flow<Result<Who, Box<ErrorRecord>>> {
        if text.eq_ignore_ascii_case(SELF) || text.eq_ignore_ascii_case(SELF_SID) {
            return Ok(Ok(Who::Itself));
        }
        Ok(self.recipient(text, Accepts::SecurityPrincipals).await?.map(Who::Recipient))
    }

    /// The rights that `-AccessRights` names; none when it is not given.
    fn rights(&self, kind: &'static Kind) -> Flow<BTreeSet<String>> {
        let right = |text: String| {
            member(kind, "AccessRights", &text).map_err(|reason| {
                let chain = noun(kind.shown).and_then(|n| n.property("AccessRights")).and_then(|p| p.kind.chain.first().cloned());
                self.conversion("AccessRights", &text.into(), chain.as_deref().unwrap_or_default(), &(reason + kind.hint))
            })
        };
        self.list("AccessRights").into_iter().map(right).collect()
    }

    /// What errors, warnings and rows call somebody: the sign-in name of a user, the name of a group.
    fn account<'a>(&'a self, who: &'a Entity) -> &'a str {
        match self.organization().text(who, "UserPrincipalName") {
            "" => self.organization().text(who, "Name"),
            name => name,
        }
    }

    /// The rows of an object: its own, then those of its entries that lead to somebody.
    async fn entries(&self, kind: &'static Kind, entity: &Entity, only: Option<&Who>, rights: &BTreeSet<String>) -> Flow<Vec<Entity>> {
        let mut rows = Vec::new();
        let asked = |has: &BTreeSet<String>| rights.is_empty() || !has.is_disjoint(rights);
        let own = kind.own.iter().map(|right| (*right).to_owned()).collect();
        if &*entity.noun.name == "Mailbox" && !matches!(only, Some(Who::Recipient(_))) && asked(&own) {
            rows.extend(self.shown(kind, entity, SELF, SELF_SID, (&own, false, INHERITANCE)));
        }
        for entry in entries(kind, entity).iter().filter(|entry| asked(&entry.rights)) {
            let who = match only {
                Some(Who::Recipient(who)) if who.id == entry.who => who.clone(),
                Some(_) => continue,
                None => match self.store().object(entry.who).await.map_err(|e| self.storage(&e))? {
                    Some(object) => Entity::read(&object).map_err(|e| self.storage(&e))?,
                    None => continue,
                },
            };
            rows.extend(self.permission_row(kind, entity, &who, entry));
        }
        Ok(rows)
    }

    fn permission_row(&self, kind: &'static Kind, on: &Entity, who: &Entity, entry: &Entry) -> Option<Entity> {
        self.shown(kind, on, self.account(who), &sid(who.id), (&entry.rights, entry.deny, &entry.inheritance))
    }

    /// What a cmdlet shows of an entry.
    fn shown(
        &self,
        kind: &'static Kind,
        on: &Entity,
        who: &str,
        sid: &str,
        (rights, deny, inheritance): (&BTreeSet<String>, bool, &str),
    ) -> Option<Entity> {
        let mut values = Map::new();
        for name in ["Name", "Identity"] {
            values.insert(name.to_owned(), self.organization().text(on, "Name").into());
        }
        values.insert(kind.who.to_owned(), who.into());
        values.insert(kind.sid.to_owned(), sid.into());
        values.insert("AccessRights".to_owned(), rights.iter().cloned().collect());
        values.insert("Deny".to_owned(), deny.into());
        values.insert("AccessControlType".to_owned(), if deny { "Deny" } else { "Allow" }.into());
        values.insert("InheritanceType".to_owned(), inheritance.into());
        noun(kind.shown).map(|noun| Entity { id: on.id, noun, values })
    }
}

/// The member of an enumeration (or list of it) that a text is, or which there are.
fn member(kind: &Kind, property: &str, text: &str) -> Result<String, String> {
    let members = noun(kind.shown).and_then(|n| n.property(property)).map(|p| match &p.kind.form {
        Form::List(item) => &item.form,
        form => form,
    });
    let Some(Form::Enum { members, .. }) = members else { return Err(String::new()) };
    let found = members.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim()));
    found
        .map(|(name, _)| name.to_string())
        .ok_or_else(|| format!("It must be one of {}.", members.iter().map(|(name, _)| &**name).collect::<Vec<_>>().join(", ")))
}

/// The entries that are kept with an object.
fn entries(kind: &Kind, entity: &Entity) -> Vec<Entry> {
    let kept = entity.values.get(kind.shown).cloned().unwrap_or(Json::Null);
    serde_json::from_value::<Option<Vec<Entry>>>(kept).ok().flatten().unwrap_or_default()
}

/// Who owns a mailbox beside itself.
fn owner(entity: &Entity) -> Option<Uuid> {
    entity.values.get(OWNER).and_then(Json::as_str).and_then(|text| Uuid::try_parse(text).ok())
}

/// A security identifier made of an id: the same one every time.
fn sid(id: Uuid) -> String {
    let bits = id.as_u128();
    let part = |shift: u32| (bits >> shift) & 0xFFFF_FFFF;
    format!("S-1-5-21-{}-{}-{}-{}", part(96), part(64), part(32), part(0))
}

/// Everything that the decision inside the transaction needs.
struct Transaction {
    directory: Directory,
    kind: &'static Kind,
    add: bool,
    wish: Wish,
    /// Names by id, for the trail.
    accounts: HashMap<Uuid, String>,
    identity: String,
    scopes: Vec<exops_filter::Filter>,
    intent: Option<IntentId>,
    origin: Origin,
}

impl Transaction {
    /// Sees the object as it is in the transaction.
    fn decide(self, object: Option<&Object>) -> Change<Done> {
        let organization = &self.directory.0.organization;
        let mut entity = match object.map(Entity::read).transpose() {
            Ok(Some(entity)) => entity,
            Ok(None) => return self.rejected(&self.identity, self.origin.not_found(&self.identity)),
            Err(error) => return self.rejected(&self.identity, self.origin.storage(&error)),
        };
        let name = organization.canonical_name(&entity);
        let noun: &'static Noun = entity.noun;
        if !in_scope(organization, noun, &self.scopes, &entity) {
            return self.rejected(&name, self.origin.out_of_scope(&noun.name, &name));
        }
        let (before, owned) = (entries(self.kind, &entity), owner(&entity));
        let (after, owns) = self.apply(before.clone(), owned);
        let mut changes = Vec::new();
        if before != after {
            changes.push(Changed { property: self.kind.shown.to_owned(), old: self.text(&before), new: self.text(&after) });
        }
        if owned != owns {
            changes.push(Changed { property: "Owner".to_owned(), old: self.owner_text(owned), new: self.owner_text(owns) });
        }
        let changed = !changes.is_empty();
        let outcome = outcome(self.intent, &self.origin, Ending::Succeeded, &name, changes);
        if !changed {
            return Change { fate: Fate::Kept, holders: Vec::new(), outcome, answer: Done::Nothing };
        }
        put(&mut entity, self.kind.shown, Some(json!(after)).filter(|_| !after.is_empty()));
        put(&mut entity, OWNER, owns.map(|id| id.to_string().into()));
        put(&mut entity, "WhenChanged", Some(seconds(self.origin.time)));
        match organization.rows(&entity) {
            Ok(row) => Change { fate: Fate::Changed(Box::new(row)), holders: Vec::new(), outcome, answer: Done::Changed },
            Err(error) => self.rejected(&name, self.origin.storage(&error)),
        }
    }

    /// The entries and the owner afterwards.
    fn apply(&self, mut all: Vec<Entry>, owner: Option<Uuid>) -> (Vec<Entry>, Option<Uuid>) {
        let wished = match &self.wish {
            Wish::Entry(_, entry) => entry,
            Wish::Owner(who) => return (all, who.as_ref().map(|who| who.id)),
            Wish::ResetDefault => return (Vec::new(), None),
            Wish::ClearAutoMapping => {
                all.iter_mut().for_each(|entry| entry.auto_mapping = false);
                return (all, owner);
            }
        };
        match (all.iter_mut().find(|entry| entry.is_like(wished)), self.add) {
            (Some(entry), true) => {
                // Whether it is mapped is said with the right that it needs, when that is new.
                if wished.rights.contains(FULL_ACCESS) && !entry.rights.contains(FULL_ACCESS) {
                    entry.auto_mapping = wished.auto_mapping;
                }
                entry.rights.extend(wished.rights.iter().cloned());
            }
            (None, true) => all.push(wished.clone()),
            (Some(entry), false) => {
                entry.rights.retain(|right| !wished.rights.contains(right));
                all.retain(|entry| !entry.rights.is_empty());
            }
            (None, false) => {}
        }
        (all, owner)
    }

    fn account(&self, id: Uuid) -> String {
        self.accounts.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    fn owner_text(&self, owner: Option<Uuid>) -> String {
        owner.map_or_else(|| SELF.to_owned(), |id| self.account(id))
    }

    /// What those have whom the change is about, for the trail.
    fn text(&self, all: &[Entry]) -> String {
        let about = all.iter().filter(|entry| !matches!(&self.wish, Wish::Entry(who, _) if who.id != entry.who));
        about.map(|entry| format!("{}: {}", self.account(entry.who), entry.text())).collect::<Vec<_>>().join(";")
    }

    fn rejected(&self, object: &str, record: Box<ErrorRecord>) -> Change<Done> {
        let ending = Ending::Failed(record.message.to_string());
        let outcome = outcome(self.intent, &self.origin, ending, object, Vec::new());
        Change { fate: Fate::Kept, holders: Vec::new(), outcome, answer: Done::Rejected(record) }
    }
}
