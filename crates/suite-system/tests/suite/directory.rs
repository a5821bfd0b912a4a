//! The embedded organisation through its runspace: the seed, and the types of everything that it shows. Further topics have files of
//! their own.

mod audit;
mod changes;
mod groups;
mod names;
mod permissions;
mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use exops_audit::{Actor, Entry, Intent, IntentId};
use exops_catalogue::{Command, Pipeline, Stage, UnknownNames, bind};
use exops_directory::nouns::{Form, Type, noun, nouns};
use exops_directory::{Directory, Seed};
use exops_policy::{Caller, Decision, DirectoryRole, Permit, Request, RoleModel, decide};
use exops_psobject::canonical::canonical;
use exops_psobject::{Base, DateTimeKind, ErrorRecord, PsObject, Value};
use exops_runspace::{Ended, Invocation, Record, Runspace, Step};
use exops_store::{AuditQuery, Store, TenantStore};
use exops_testkit::{ORGANIZATION, TENANT, caller};
use futures_util::StreamExt as _;
use serde_json::{Value as Json, json};
use uuid::Uuid;

pub(crate) use changes::{PAYROLL, group_value, mailbox_values};

/// 2026-11-24T09:30:00Z.
const NOW: i64 = 1_795_512_600_000;
const SERVER: &str = "lab01.contoso.test";

pub(crate) struct Organisation {
    _folder: tempfile::TempDir,
    path: PathBuf,
    store: Store,
    pub(crate) directory: Directory,
    pub(crate) caller: Caller,
}

#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) output: Vec<Value>,
    pub(crate) errors: Vec<ErrorRecord>,
    pub(crate) warnings: Vec<String>,
    pub(crate) host: Vec<String>,
    pub(crate) end: Ended,
}

impl Organisation {
    pub(crate) async fn seeded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lab.sqlite");
        let store = Store::open(&path).await.unwrap();
        Seed::Standard.fill(&store.tenant(TENANT), ORGANIZATION).await.unwrap();
        let directory = Directory::new(&store, TENANT, ORGANIZATION, SERVER).with_clock(|| NOW);
        Self { _folder: folder, path, store, directory, caller: caller(&[DirectoryRole::ExchangeAdministrator]) }
    }

    pub(crate) async fn restarted(mut self) -> Self {
        self.store.close().await;
        self.store = Store::open(&self.path).await.unwrap();
        self.directory = Directory::new(&self.store, TENANT, ORGANIZATION, SERVER).with_clock(|| NOW);
        self
    }

    fn tenant(&self) -> TenantStore {
        self.store.tenant(TENANT)
    }

    /// Binds, gets a permit, writes the intent of a change, as the session layer does.
    pub(crate) async fn invocation(&self, command: Command) -> Invocation {
        let pipeline =
            bind(&self.directory.catalogue(&self.caller).await.unwrap(), &Pipeline::from(command), UnknownNames::Refuse).unwrap();
        let mut invocation = Invocation::new(self.caller.clone(), pipeline.clone(), Uuid::from_u128(42));
        let Some(Stage::Cmdlet(bound)) = pipeline.stages.first() else { panic!("{pipeline:?}") };
        invocation.permit = Some(permit(&self.caller, &bound.cmdlet.name, bound.digest()));
        if !bound.cmdlet.is_read() && !bound.flag("WhatIf") {
            invocation.intent =
                Some(self.intent(&bound.cmdlet.name, &bound.arguments.iter().map(|a| &*a.parameter.name).collect::<Vec<_>>()).await);
        }
        invocation
    }

    async fn intent(&self, cmdlet: &str, parameters: &[&str]) -> IntentId {
        let parameter = |name: &&str| exops_audit::Parameter { name: (*name).to_owned(), value: String::new() };
        let intent = Intent {
            id: IntentId(Uuid::now_v7()),
            tenant: TENANT.0,
            time: NOW,
            actor: Actor {
                app_id: Uuid::from_u128(7),
                object_id: self.caller.principal.object_id(),
                name: self.caller.principal.display_name().to_owned(),
                client_address: self.caller.client_address.clone(),
            },
            cmdlet: cmdlet.to_owned(),
            parameters: parameters.iter().map(parameter).collect(),
            correlation_id: Uuid::from_u128(42),
        };
        self.tenant().audit_intent(&intent).await.unwrap();
        intent.id
    }

    pub(crate) async fn run(&self, command: Command) -> Ran {
        collect(&self.directory, self.invocation(command).await).await
    }

    /// Output of a command that must succeed, as canonical JSON.
    pub(crate) async fn read(&self, command: Command) -> Vec<Json> {
        let ran = self.run(command).await;
        assert_eq!((&ran.end, &ran.errors), (&Ended::Completed, &Vec::new()));
        ran.output.iter().map(canonical).collect()
    }

    /// Runs a command that must say exactly one error, and that one with `text` in it.
    pub(crate) async fn fails_with(&self, command: Command, text: &str) {
        let ran = self.run(command).await;
        let ended = if let Ended::Failed(record) = &ran.end { Some(&**record) } else { None };
        let messages: Vec<_> = ran.errors.iter().chain(ended).map(|r| &*r.message).collect();
        assert!(messages.len() == 1 && messages[0].contains(text), "{text}: {messages:?}");
    }

    pub(crate) async fn entries(&self) -> Vec<Entry> {
        self.tenant().audit_search(&AuditQuery::default(), None, 100).await.unwrap().entries
    }
}

fn permit(caller: &Caller, cmdlet: &str, digest: [u8; 32]) -> Permit {
    let rights = RoleModel::built_in().rights(caller);
    match decide(&rights, caller, Request { cmdlet, parameters: &[], digest }) {
        Decision::Permit(permit) => permit,
        Decision::Deny(denial) => panic!("{denial:?}"),
    }
}

pub(crate) async fn collect(directory: &Directory, invocation: Invocation) -> Ran {
    let mut ran = Ran { output: Vec::new(), errors: Vec::new(), warnings: Vec::new(), host: Vec::new(), end: Ended::Stopped };
    let mut ends = 0;
    let mut steps = directory.invoke(invocation);
    while let Some(step) = steps.next().await {
        assert_eq!(ends, 0, "something after the end");
        match step {
            Step::Record(Record::Output(value)) => ran.output.push(value),
            Step::Record(Record::Error(record)) => ran.errors.push(*record),
            Step::Record(Record::Warning(text)) => ran.warnings.push(text.to_string()),
            Step::Record(Record::Information(record)) => ran.host.push(record.message.display()),
            Step::Record(other) => panic!("{other:?}"),
            Step::Ended(end) => {
                ran.end = end;
                ends += 1;
            }
        }
    }
    assert_eq!(ends, 1);
    ran
}

pub(crate) fn command(name: &str) -> Command {
    Command::new(name)
}

fn identities(objects: &[Json]) -> Vec<&str> {
    objects.iter().filter_map(|o| o["DisplayName"].as_str()).collect()
}

fn list<const N: usize>(items: [&str; N]) -> Value {
    PsObject::from_list(items.map(Value::from).to_vec()).into()
}

/// A hashtable.
pub(crate) fn table(entries: &[(&str, Value)]) -> Value {
    let entries = entries.iter().map(|(key, value)| (Value::from(*key), value.clone())).collect();
    let names = ["System.Collections.Hashtable", "System.Object"].map(std::sync::Arc::from);
    PsObject { type_names: names.as_slice().into(), base: Base::Dictionary(entries), ..PsObject::default() }.into()
}

fn object(value: &Value) -> &PsObject {
    value.as_object().unwrap()
}

#[tokio::test]
async fn the_seed_is_the_same_every_time_and_has_every_kind() {
    let organisation = Organisation::seeded().await;
    let all = organisation.read(command("Get-Recipient").with("ResultSize", "Unlimited")).await;
    assert_eq!(all.len(), 214);
    let mut kinds = BTreeMap::new();
    for recipient in &all {
        *kinds.entry(recipient["RecipientTypeDetails"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    let expected = [
        ("EquipmentMailbox", 8),
        ("MailContact", 16),
        ("MailUniversalDistributionGroup", 16),
        ("MailUniversalSecurityGroup", 6),
        ("RoomMailbox", 18),
        ("SharedMailbox", 24),
        ("UserMailbox", 126),
    ];
    assert_eq!(kinds, expected.map(|(kind, count)| (kind.to_owned(), count)).into());
    let ann = &all[0];
    assert_eq!(ann["DisplayName"], "Ann Beebe");
    assert_eq!(ann["PrimarySmtpAddress"], "ann.beebe@contoso.onmicrosoft.com");
    assert!(all.iter().any(|r| r["DisplayName"] == "Oliver O'Brien"));
    let mailbox = organisation.read(command("Get-Mailbox").with("Identity", "ann.beebe")).await.remove(0);
    assert_eq!(mailbox["ProhibitSendQuota"], "49.5 GB (53,150,220,288 bytes)");
    assert_eq!(mailbox["RulesQuota"], "256 KB (262,144 bytes)");
    assert_eq!(mailbox["MaxSendSize"], "35 MB (36,700,160 bytes)");
    assert_eq!(mailbox["RetainDeletedItemsFor"], "14.00:00:00");
    assert_eq!(mailbox["Identity"], "Ann Beebe");
    assert_eq!(mailbox["OrganizationId"].as_str().unwrap().matches(ORGANIZATION).count(), 2);
    let shared = organisation.read(command("Get-Mailbox").with("Identity", "billing")).await.remove(0);
    assert_eq!((shared["AccountDisabled"].clone(), shared["IsShared"].clone()), (json!(true), json!(true)));
    let group = organisation.read(command("Get-DistributionGroup").with("Identity", "Payroll Access")).await.remove(0);
    assert_eq!(group["RecipientType"], "MailUniversalSecurityGroup");
    assert!(group["Members"].as_array().unwrap().len() > 5);
    let config = organisation.read(command("Get-OrganizationConfig")).await;
    assert_eq!((config.len(), config[0]["Name"].as_str()), (1, Some(ORGANIZATION)));
    let domains = organisation.read(command("Get-AcceptedDomain")).await;
    assert_eq!(domains.iter().map(|d| d["DomainName"].as_str().unwrap()).collect::<Vec<_>>(), ["contoso.com", ORGANIZATION]);
    assert_eq!(domains.iter().map(|d| d["Default"].as_bool().unwrap()).collect::<Vec<_>>(), [false, true]);

    Seed::Standard.fill(&organisation.tenant(), ORGANIZATION).await.unwrap();
    let other = Organisation::seeded().await;
    assert_eq!(all, other.read(command("Get-Recipient").with("ResultSize", "unlimited")).await);
    let start = Instant::now();
    let third = Store::open(&other.path.with_file_name("third.sqlite")).await.unwrap();
    let opened = start.elapsed();
    Seed::Standard.fill(&third.tenant(TENANT), ORGANIZATION).await.unwrap();
    println!("open {opened:?}, seed {:?}", start.elapsed() - opened);
}

#[tokio::test]
async fn every_property_has_the_element_and_type_of_the_noun_table() {
    let organisation = Organisation::seeded().await;
    let mut seen = BTreeSet::new();
    for noun in nouns() {
        let Some(get) = &noun.get else { continue };
        let unlimited = get.parameters.iter().any(|p| &**p == "ResultSize");
        let mut query = command(&get.cmdlet);
        if unlimited {
            query = query.with("ResultSize", "Unlimited");
        }
        let ran = organisation.run(query).await;
        assert!(!ran.output.is_empty(), "{}", noun.name);
        for value in &ran.output {
            let shown = object(value);
            assert_eq!(shown.type_names, noun.chain);
            assert!(shown.extended.is_empty());
            assert_eq!(shown.to_string.as_deref(), shown.property("Name").and_then(Value::as_str));
            let names: Vec<_> = shown.adapted.iter().map(|(name, _)| &**name).collect();
            let seen_by_all = || noun.properties.iter().filter(|p| !p.unseen);
            assert_eq!(names, seen_by_all().map(|p| &*p.name).collect::<Vec<_>>());
            for (property, (name, value)) in seen_by_all().zip(shown.adapted.iter()) {
                assert!(fits(&property.kind, value), "{} {name} is not {}: {value:?}", noun.name, property.kind.name);
                if !value.is_null() {
                    seen.insert(property.kind.name.to_string());
                }
            }
        }
    }
    // The table has what was recorded: 256 properties of a mailbox, 259 of the organisation without session fields.
    assert_eq!(noun("Mailbox").map(|n| n.properties.iter().filter(|p| !p.unseen).count()), Some(256));
    assert_eq!(noun("OrganizationConfig").map(|n| n.properties.len()), Some(259));
    for kind in [
        "ADObjectId",
        "ADObjectIdList",
        "Bool",
        "DateTime",
        "DateTimeUtc",
        "EnhancedTimeSpan",
        "Guid",
        "Int16",
        "Int32",
        "ProxyAddress",
        "ProxyAddressCollection",
        "RecipientTypeDetails",
        "SmtpAddress",
        "Text",
        "TextList",
        "UInt32",
        "UnlimitedInt32",
        "UnlimitedSize",
    ] {
        assert!(seen.contains(kind), "no object shows a {kind}");
    }
}

/// Whether a value is null or what the type says.
fn fits(kind: &Type, value: &Value) -> bool {
    let typed = |object: &PsObject| object.type_names == kind.chain && object.adapted.is_empty() && object.extended.is_empty();
    let named = |object: &PsObject| typed(object) && object.to_string.is_some();
    match (&kind.form, value) {
        (_, Value::Null)
        | (Form::Text, Value::String(_))
        | (Form::Uri, Value::Uri(_))
        | (Form::Bool, Value::Bool(_))
        | (Form::Int16, Value::I16(_))
        | (Form::Int32, Value::I32(_))
        | (Form::UInt32, Value::U32(_))
        | (Form::Guid, Value::Guid(_)) => true,
        (Form::DateTime, Value::DateTime(time)) => time.kind() == DateTimeKind::Local(0),
        (Form::DateTimeUtc, Value::DateTime(time)) => time.kind() == DateTimeKind::Utc,
        (Form::Object | Form::Size | Form::UnlimitedSize | Form::UnlimitedNumber, Value::Object(object)) => {
            named(object) && object.base == Base::None
        }
        (Form::Enum { wide, members }, Value::Object(object)) => {
            let member = members.iter().find(|(name, _)| Some(name) == object.to_string.as_ref());
            let number = member.map(|(_, number)| if *wide { Value::I64(*number) } else { Value::I32(i32::try_from(*number).unwrap()) });
            named(object) && object.primitive() == number.as_ref() && number.is_some()
        }
        (Form::List(item), Value::Object(object)) => {
            typed(object) && object.list().is_some_and(|items| items.iter().all(|i| fits(item, i)))
        }
        _ => false,
    }
}
