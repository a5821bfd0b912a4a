//! The embedded organisation through its runspace: seed, types, identities, sizes, filters, changes, audit, refusals.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use exops_audit::{Actor, Entry, Intent, IntentId};
use exops_catalogue::{Command, Pipeline, Stage, UnknownNames, bind};
use exops_directory::nouns::{Form, Type, noun, nouns};
use exops_directory::{Directory, seed_standard};
use exops_policy::{Caller, Decision, DirectoryRole, Permit, Request, RoleModel, decide};
use exops_psobject::canonical::canonical;
use exops_psobject::{Base, DateTimeKind, ErrorRecord, PsObject, TimeSpan, Value};
use exops_runspace::{Confirm, Ended, Invocation, Record, Runspace, Step, StopToken};
use exops_store::{AuditQuery, Store, TenantStore};
use exops_testkit::{ORGANIZATION, TENANT, caller};
use futures_util::StreamExt as _;
use serde_json::{Value as Json, json};
use uuid::Uuid;

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
        seed_standard(&store.tenant(TENANT), ORGANIZATION).await.unwrap();
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

    seed_standard(&organisation.tenant(), ORGANIZATION).await.unwrap();
    let other = Organisation::seeded().await;
    assert_eq!(all, other.read(command("Get-Recipient").with("ResultSize", "unlimited")).await);
    let start = Instant::now();
    let third = Store::open(&other.path.with_file_name("third.sqlite")).await.unwrap();
    let opened = start.elapsed();
    seed_standard(&third.tenant(TENANT), ORGANIZATION).await.unwrap();
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
            assert_eq!(names, noun.properties.iter().map(|p| &*p.name).collect::<Vec<_>>());
            for (property, (name, value)) in noun.properties.iter().zip(shown.adapted.iter()) {
                assert!(fits(&property.kind, value), "{} {name} is not {}: {value:?}", noun.name, property.kind.name);
                if !value.is_null() {
                    seen.insert(property.kind.name.to_string());
                }
            }
        }
    }
    // The table has what was recorded: 256 properties of a mailbox, 259 of the organisation without session fields.
    assert_eq!(noun("Mailbox").map(|n| n.properties.len()), Some(256));
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

#[tokio::test]
async fn an_identity_is_everything_that_names_an_object() {
    let organisation = Organisation::seeded().await;
    let ann = organisation.read(command("Get-Mailbox").with("Identity", "ann.beebe")).await.remove(0);
    let text = |name: &str| ann[name].as_str().unwrap().to_owned();
    let mut names = [
        "Guid",
        "ExchangeGuid",
        "ExternalDirectoryObjectId",
        "UserPrincipalName",
        "PrimarySmtpAddress",
        "DistinguishedName",
        "Name",
        "DisplayName",
        "LegacyExchangeDN",
        "SamAccountName",
    ]
    .map(text)
    .to_vec();
    let proxies: Vec<_> = ann["EmailAddresses"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().to_owned()).collect();
    assert!(proxies.len() >= 5, "{proxies:?}");
    names.extend(proxies.iter().map(|p| p.strip_prefix("SMTP:").or(p.strip_prefix("smtp:")).unwrap_or(p).to_owned()));
    names.extend(proxies);
    names.extend([text("Guid").to_uppercase(), format!("{{{}}}", text("Guid")), "ANN@Contoso.com".to_owned(), " ann.beebe ".to_owned()]);
    names.push(format!("{}/Ann Beebe", text("OrganizationalUnit")));
    for cmdlet in ["Get-Mailbox", "Get-Recipient"] {
        for name in &names {
            let found = organisation.read(command(cmdlet).with("Identity", name.as_str())).await;
            assert_eq!(found.iter().map(|o| &o["Guid"]).collect::<Vec<_>>(), [&ann["Guid"]], "{cmdlet} {name}");
        }
    }
    let guid = Value::Guid(text("Guid").parse().unwrap());
    assert_eq!(organisation.read(command("Get-Mailbox").with("Identity", guid)).await.len(), 1);

    // Two users of one display name.
    for cmdlet in ["Get-Mailbox", "Get-Recipient", "Set-Mailbox"] {
        let ran = organisation.run(command(cmdlet).with("Identity", "Irene Ivanova")).await;
        // A name is unique in its organisational unit only, so it does not decide.
        assert_eq!((ran.output.len(), &ran.end), (0, &Ended::Completed), "{cmdlet}");
        assert_eq!(ran.errors[0].exception_type(), "Microsoft.Exchange.Configuration.Tasks.ManagementObjectAmbiguousException");
        assert_eq!(ran.errors[0].string_id.as_deref(), Some("Ex9E65A2"));
        assert!(ran.errors[0].message.contains("'Irene Ivanova' matches multiple entries"), "{}", ran.errors[0].message);
    }
    // Nothing, and something of another kind.
    for (cmdlet, name) in
        [("Get-Mailbox", "nobody"), ("Get-Mailbox", "Board"), ("Get-DistributionGroup", "ann.beebe"), ("Set-Mailbox", "Board")]
    {
        let ran = organisation.run(command(cmdlet).with("Identity", name)).await;
        let [error] = ran.errors.as_slice() else { panic!("{ran:?}") };
        assert_eq!(
            &*error.message,
            format!("The operation couldn't be performed because object '{name}' couldn't be found on '{SERVER}'.")
        );
        assert_eq!(error.string_id.as_deref(), Some("Ex6F9304"));
        assert_eq!((&*error.reason, &*error.activity), ("ManagementObjectNotFoundException", cmdlet));
        let id = &error.fully_qualified_error_id;
        let start = "[Server=LAB01,RequestId=00000000-0000-0000-0000-00000000002a,TimeStamp=11/24/2026 9:30:00 AM] \
                     [FailureCategory=Cmdlet-ManagementObjectNotFoundException] ";
        assert!(id.starts_with(start) && id.contains(",Microsoft.Exchange.Management.RecipientTasks."), "{id}");
    }
    // What names nothing and everything but one object is no identity; null names everything.
    for (wrong, reason) in [("".into(), "can't be empty"), ("  ".into(), "can't be empty"), (list(["ann.beebe", "billing"]), "not a list")]
    {
        let ran = organisation.run(command("Get-Mailbox").with("Identity", wrong)).await;
        let Ended::Failed(record) = &ran.end else { panic!("{ran:?}") };
        assert!(record.message.contains(reason) && record.message.contains("MailboxIdParameter"), "{}", record.message);
    }
    let domain_user = format!("eurpr00a001\\{}", text("SamAccountName"));
    assert_eq!(organisation.read(command("Get-User").with("Identity", domain_user)).await.len(), 1);
    assert_eq!(organisation.read(command("Get-Mailbox").with("Identity", Value::Null)).await.len(), 176);
    // -ErrorAction.
    let missing = |action: &str| command("Get-Mailbox").with("Identity", "nobody").with("ErrorAction", action);
    assert!(matches!(organisation.run(missing("Stop")).await.end, Ended::Failed(record) if record.reason.contains("NotFound")));
    let silent = organisation.run(missing("SilentlyContinue")).await;
    assert_eq!((silent.errors.len(), silent.end), (0, Ended::Completed));
}

#[tokio::test]
async fn result_size_and_its_warnings() {
    let organisation = Organisation::seeded().await;
    let ran = organisation.run(command("Get-Mailbox").with("ResultSize", 5)).await;
    assert_eq!(ran.output.len(), 5);
    assert!(ran.warnings[0].starts_with("There are more results available than are currently displayed."), "{:?}", ran.warnings);
    let exact = organisation.run(command("Get-Mailbox").with("ResultSize", "176")).await;
    assert_eq!((exact.output.len(), exact.warnings.len()), (176, 0));
    let quiet = organisation.run(command("Get-Mailbox").with("ResultSize", 5).with("WarningAction", "SilentlyContinue")).await;
    assert_eq!((quiet.output.len(), quiet.warnings.len()), (5, 0));
    for wrong in ["many", "0", "-3", "1.5", "", "4294967296"] {
        let ran = organisation.run(command("Get-Mailbox").with("ResultSize", wrong)).await;
        let Ended::Failed(record) = ran.end else { panic!("{ran:?}") };
        assert!(record.message.contains(&format!("\"{wrong}\"")) && record.message.contains("ResultSize"), "{}", record.message);
    }
    let filtered = organisation.run(command("Get-Mailbox").with("ResultSize", 2).with("Filter", "DisplayName -like 'Ann *'")).await;
    assert_eq!((filtered.output.len(), filtered.warnings.len()), (2, 1));

    // More than a thousand: the default stops there and says so.
    let more: Vec<_> = (0..900u128)
        .map(|n| {
            let name = format!("bulk{n:04}");
            let body = json!({"Name": name, "DisplayName": name, "Guid": Uuid::from_u128(1 << 90 | n)}).to_string().into_bytes();
            let (id, noun, listing) = (Uuid::from_u128(1 << 90 | n), "Mailbox".to_owned(), "Recipient".to_owned());
            (exops_store::Object { id, noun, listing, sort: name, revision: 0, body }, Vec::new(), Vec::new())
        })
        .collect();
    organisation.tenant().insert_objects(more).await.unwrap();
    let ran = organisation.run(command("Get-Mailbox")).await;
    assert_eq!(ran.output.len(), 1000);
    assert!(ran.warnings[0].starts_with("By default, only the first 1000 items are returned."), "{:?}", ran.warnings);
    assert_eq!(organisation.run(command("Get-Mailbox").with("ResultSize", "UNLIMITED")).await.output.len(), 1076);
}

#[tokio::test]
async fn filters_are_answered_from_the_index_and_by_evaluation() {
    let organisation = Organisation::seeded().await;
    let all = organisation.read(command("Get-Recipient").with("ResultSize", "Unlimited")).await;
    let count = |test: &dyn Fn(&Json) -> bool| all.iter().filter(|o| test(o)).count();
    let is = |name: &'static str, value: &'static str| move |o: &Json| o[name].as_str().is_some_and(|t| t.eq_ignore_ascii_case(value));
    for (filter, expected) in [
        ("RecipientTypeDetails -eq 'roommailbox'", count(&is("RecipientTypeDetails", "RoomMailbox"))),
        ("RecipientTypeDetails -ne 'UserMailbox'", 88),
        ("Alias -eq 'ANN.beebe'", 1),
        ("DisplayName -like 'ann *'", 3),
        ("DisplayName -like '*müller'", 3),
        ("{Department -eq 'Sales' -and City -eq 'Oslo'}", count(&|o| is("Department", "Sales")(o) && is("City", "Oslo")(o))),
        ("(Department -eq 'Sales') -or (Department -eq 'Legal')", 36),
        ("-not (RecipientType -eq 'UserMailbox')", 38),
        ("HiddenFromAddressListsEnabled -eq $true", count(&|o| o["HiddenFromAddressListsEnabled"] == true)),
        ("EmailAddresses -eq 'ann@contoso.com'", 1),
        ("EmailAddresses -like 'smtp:ann.*'", 3),
        ("Company -eq $null", count(&|o| o["Company"].is_null())),
        ("LastName -eq 'O''Brien'", 3),
        ("WhenCreated -lt '2023-03-02'", 1),
        ("Alias -eq 'nobody'", 0),
    ] {
        let found = organisation.read(command("Get-Recipient").with("ResultSize", "Unlimited").with("Filter", filter)).await;
        assert_eq!(found.len(), expected, "{filter}: {:?}", identities(&found));
        assert!(identities(&found).windows(2).all(|w| w[0].to_lowercase() <= w[1].to_lowercase()), "{filter}");
    }
    for (filter, expected) in [("ProhibitSendQuota -lt '60GB'", 92), ("ResourceCapacity -ge 16", 6), ("IsShared -eq 'true'", 24)] {
        assert_eq!(organisation.read(command("Get-Mailbox").with("Filter", filter)).await.len(), expected, "{filter}");
    }
    let kinds = Value::from(PsObject::from_list(vec!["RoomMailbox".into(), "equipmentmailbox".into()]));
    assert_eq!(organisation.read(command("Get-Mailbox").with("RecipientTypeDetails", kinds)).await.len(), 26);
    let groups = command("Get-Recipient").with("RecipientType", "MailUniversalSecurityGroup,MailContact");
    assert_eq!(organisation.read(groups).await.len(), 22);
    for (parameter, value, names) in [
        ("Filter", "Department -eq 'Sales'", "\"Department\" is not a filterable property of Get-Mailbox"),
        ("Filter", "Nonsense -eq 'x'", "\"Nonsense\""),
        ("Filter", "Alias -eq", "Alias -eq"),
        ("Filter", "AuditEnabled -eq 'perhaps'", "\"perhaps\" is not a value of the property AuditEnabled"),
        ("Filter", "RecipientTypeDetails -eq 'Robot'", "RoomMailbox"),
        ("RecipientTypeDetails", "Robot", "SharedMailbox"),
        ("RecipientTypeDetails", "UserMailbox,MailContact", "\"MailContact\""),
        ("Filter", "RecipientTypeDetails -like '*Mailbox'", "RecipientTypeDetails takes no wildcards"),
        ("Filter", "WhenCreated -like '2023*'", "WhenCreated takes no wildcards"),
        ("Anr", "ann*", "without wildcards"),
        ("SortBy", "EmailAddresses", "\"EmailAddresses\""),
        ("SortBy", "Nonsense", "property with one value"),
    ] {
        let ran = organisation.run(command("Get-Mailbox").with(parameter, value)).await;
        let Ended::Failed(record) = &ran.end else { panic!("{value}: {ran:?}") };
        assert!(record.message.contains(names), "{value}: {}", record.message);
    }
}

#[tokio::test]
async fn references_prefixes_orders_and_views() {
    let organisation = Organisation::seeded().await;
    let recipients = organisation.read(command("Get-Recipient").with("ResultSize", "Unlimited")).await;
    // A property that refers to recipients is compared with any identity of one, by DN first of all.
    let group = organisation.read(command("Get-DistributionGroup").with("Identity", "Payroll Access")).await.remove(0);
    let owner = group["ManagedBy"][0].as_str().unwrap();
    let owner = recipients.iter().find(|r| r["Name"] == owner).unwrap();
    let groups = |filter: String| command("Get-DistributionGroup").with("Filter", filter);
    let owned = organisation.read(groups(format!("ManagedBy -eq '{}'", owner["Name"].as_str().unwrap()))).await;
    assert!(!owned.is_empty() && owned.len() < 22);
    for name in ["DistinguishedName", "PrimarySmtpAddress", "Guid"] {
        let mailbox = organisation.read(command("Get-Mailbox").with("Identity", owner["Guid"].as_str().unwrap())).await.remove(0);
        let literal = mailbox[name].as_str().unwrap();
        assert_eq!(organisation.read(groups(format!("ManagedBy -eq '{literal}'"))).await, owned, "{name}");
        assert_eq!(organisation.read(groups(format!("ManagedBy -ne '{literal}'"))).await.len(), 22 - owned.len(), "{name}");
    }
    // Members, in the shape of recipients, in the group's order.
    let members = organisation.read(command("Get-DistributionGroupMember").with("Identity", "Payroll Access")).await;
    assert_eq!(members.iter().map(|m| &m["Name"]).collect::<Vec<_>>(), group["Members"].as_array().unwrap().iter().collect::<Vec<_>>());
    assert!(members.iter().all(|m| recipients.contains(m)));
    let some = organisation.run(command("Get-DistributionGroupMember").with("Identity", "Payroll Access").with("ResultSize", 2)).await;
    assert_eq!((some.output.len(), some.warnings.len()), (2, 1));
    let ran = organisation.run(command("Get-DistributionGroupMember").with("Identity", "ann.beebe")).await;
    assert_eq!(&*ran.errors[0].reason, "ManagementObjectNotFoundException");

    // -Anr: the beginning of any of the names, with other conditions.
    let starts = |o: &Json, text: &str| {
        ["Name", "DisplayName", "FirstName", "LastName", "Alias"]
            .iter()
            .any(|p| o[p].as_str().unwrap_or_default().to_lowercase().starts_with(text))
    };
    for anr in ["ann", "IVAN", "o'bri", "müll", "zzz"] {
        let expected: Vec<_> = recipients.iter().filter(|r| starts(r, &anr.to_lowercase())).collect();
        assert_eq!(organisation.read(command("Get-Recipient").with("Anr", anr)).await.iter().collect::<Vec<_>>(), expected, "{anr}");
    }
    let both = command("Get-Mailbox").with("Anr", "ann").with("Filter", "Alias -like '*beebe'");
    assert_eq!(organisation.read(both).await.len(), 1);

    // -SortBy: by value, objects without one last, equal ones in list order; sizes of results count behind it.
    for (property, descending_last) in [("Alias", false), ("City", true), ("WhenCreated", false)] {
        let sorted = organisation.read(command("Get-Recipient").with("SortBy", property).with("ResultSize", "Unlimited")).await;
        assert_eq!(sorted.len(), recipients.len());
        let keys: Vec<_> = sorted.iter().map(|o| o[property].as_str().map(str::to_lowercase)).collect();
        assert!(keys.windows(2).all(|w| w[1].is_none() || (w[0].is_some() && w[0] <= w[1])), "{property}: {keys:?}");
        assert_eq!(keys.last().is_some_and(Option::is_none), descending_last, "{property}");
        let first = organisation.run(command("Get-Recipient").with("SortBy", property).with("ResultSize", 3)).await;
        assert_eq!(first.output.iter().map(canonical).collect::<Vec<_>>(), sorted[..3].to_vec());
        assert_eq!(first.warnings.len(), 1);
    }

    // Views of one noun, with what the noun itself does not show.
    let users = organisation.read(command("Get-User").with("Filter", "Department -eq 'Sales' -and City -eq 'Oslo'")).await;
    let expected = recipients.iter().filter(|r| r["Department"] == "Sales" && r["City"] == "Oslo").count();
    assert!(expected > 0 && users.len() == expected && users.iter().all(|u| u["LastName"].is_string()));
    assert_eq!(organisation.read(command("Get-User").with("RecipientTypeDetails", list(["RoomMailbox", "sharedmailbox"]))).await.len(), 42);
    assert_eq!(organisation.read(command("Get-Group")).await.len(), 22);
    assert_eq!(organisation.read(command("Get-MailContact")).await.len(), 16);
    for (cmdlet, wrong) in [("Get-User", "Payroll Access"), ("Get-Group", "ann.beebe"), ("Get-MailContact", "ann.beebe")] {
        let ran = organisation.run(command(cmdlet).with("Identity", wrong)).await;
        assert_eq!((ran.output.len(), ran.errors.len()), (0, 1), "{cmdlet}");
    }

    // a thousand wide clauses cost no more than walking the list once.
    let wide = (0..1_000).map(|n| format!("DisplayName -like '{}*'", char::from(b'a' + (n % 26) as u8))).collect::<Vec<_>>().join(" -or ");
    let start = Instant::now();
    let found = organisation.read(command("Get-Recipient").with("Filter", wide).with("ResultSize", "Unlimited")).await;
    assert!(found.len() > 150 && start.elapsed() < Duration::from_secs(10), "{} {:?}", found.len(), start.elapsed());
}

/// Values for a parameter of Set-Mailbox on Ann Beebe, each with what its property then shows in canonical form. The last ones put
/// things back where a later parameter needs them so.
pub(crate) fn mailbox_values(parameter: &str, form: &Form) -> Vec<(Value, Json)> {
    let list = |items: &[&str]| Value::from(PsObject::from_list(items.iter().map(|i| Value::from(*i)).collect()));
    let amend = |add: &str, remove: &str| {
        let entries = vec![("Add".into(), list(&[add])), ("remove".into(), remove.into())];
        Value::from(PsObject { base: Base::Dictionary(entries), ..PsObject::default() })
    };
    let address = "ann.beebe@contoso.onmicrosoft.com";
    match (parameter, form) {
        ("Type", _) => vec![
            ("shared".into(), json!("SharedMailbox")),
            ("Room".into(), json!("RoomMailbox")),
            ("Equipment".into(), json!("EquipmentMailbox")),
            ("Regular".into(), json!("UserMailbox")),
        ],
        ("Alias", _) => vec![("ann.b+1".into(), json!("ann.b+1")), ("ann.beebe".into(), json!("ann.beebe"))],
        ("EmailAddresses", _) => vec![
            (
                list(&[address, "ann.x@contoso.com", "X500:/o=Old/cn=ann"]),
                json!([format!("SMTP:{address}"), "smtp:ann.x@contoso.com", "X500:/o=Old/cn=ann"]),
            ),
            (
                amend("ann@contoso.com", "smtp:ANN.X@contoso.com"),
                json!([format!("SMTP:{address}"), "X500:/o=Old/cn=ann", "smtp:ann@contoso.com"]),
            ),
            (
                amend("SMTP:first@contoso.com", "x500:/o=old/cn=ann"),
                json!([format!("smtp:{address}"), "smtp:ann@contoso.com", "SMTP:first@contoso.com"]),
            ),
            (format!("SMTP:{address}").into(), json!([format!("SMTP:{address}")])),
        ],
        ("WindowsEmailAddress", _) => {
            vec![("ann@contoso.com".into(), json!("ann@contoso.com")), (address.into(), json!(address))]
        }
        ("ForwardingAddress", _) => vec![("payrollaccess".into(), json!("Payroll Access")), (Value::Null, Json::Null)],
        ("GrantSendOnBehalfTo", _) => vec![
            (list(&["payrollaccess", "Laser Cutter"]), json!(["Payroll Access", "Laser Cutter"])),
            (amend("board@contoso.com", "Payroll Access"), json!(["Laser Cutter", "Board"])),
            (Value::Null, json!([])),
        ],
        ("RetentionPolicy", _) => vec![(Value::Null, Json::Null), ("default mrm policy".into(), json!("Default MRM Policy"))],
        ("AddressBookPolicy", _) => vec![(Value::Null, Json::Null)],
        ("AuditAdmin" | "AuditDelegate" | "AuditOwner", _) => vec![
            (list(&["update", "HardDelete"]), json!(["Update", "HardDelete"])),
            (amend("SoftDelete", "HardDelete"), json!(["Update", "SoftDelete"])),
            ("None".into(), json!([])),
        ],
        ("AuditLogAgeLimit", _) => vec![
            ("30.12:00:00".into(), json!("30.12:00:00")),
            (60.into(), json!("60.00:00:00")),
            (Value::TimeSpan(TimeSpan(864_000_000_000)), json!("1.00:00:00")),
        ],
        ("LitigationHoldDate", _) => {
            vec![("2026-11-01T00:00:00Z".into(), json!("2026-11-01T00:00:00.0000000Z")), (Value::Null, Json::Null)]
        }
        (_, Form::List(_)) => vec![
            (list(&["a", "Grüße <&>"]), json!(["a", "Grüße <&>"])),
            (amend("c", "A"), json!(["Grüße <&>", "c"])),
            ("one".into(), json!(["one"])),
            (Value::Null, json!([])),
        ],
        (_, Form::UnlimitedNumber) => vec![(250.into(), json!("250")), ("unlimited".into(), json!("Unlimited"))],
        (_, Form::Text) => vec![("Grüße <&> \"ü\"".into(), json!("Grüße <&> \"ü\"")), ("second".into(), json!("second"))],
        (_, Form::Bool) => vec![(true.into(), json!(true)), (false.into(), json!(false))],
        (_, Form::UnlimitedSize) => {
            vec![
                ("49.75GB".into(), json!("49.75 GB (53,418,655,744 bytes)")),
                ("49.5 GB (53,150,220,288 bytes)".into(), json!("49.5 GB (53,150,220,288 bytes)")),
            ]
        }
        (_, Form::Object) => vec![("Bob@Fabrikam.example".into(), json!("smtp:Bob@Fabrikam.example")), (Value::Null, Json::Null)],
        (_, other) => panic!("{parameter}: no values for {other:?}"),
    }
}

/// Address of the group whose settings are changed.
pub(crate) const PAYROLL: &str = "payrollaccess@contoso.onmicrosoft.com";

/// A value for a parameter of Set-DistributionGroup on that group, with what its property then shows. `now` is what a boolean is.
pub(crate) fn group_value(parameter: &str, form: &Form, now: bool) -> (Value, Json) {
    match (parameter, form) {
        ("Alias", _) => ("pay.roll".into(), json!("pay.roll")),
        ("EmailAddresses", _) => (list([PAYROLL, "pay@contoso.com"]), json!([format!("SMTP:{PAYROLL}"), "smtp:pay@contoso.com"])),
        ("WindowsEmailAddress", _) => (PAYROLL.into(), json!(PAYROLL)),
        ("ManagedBy" | "GrantSendOnBehalfTo", _) => (list(["ann.beebe", "Laser Cutter"]), json!(["Ann Beebe", "Laser Cutter"])),
        ("MemberJoinRestriction", _) => ("approvalrequired".into(), json!("ApprovalRequired")),
        ("MemberDepartRestriction", _) => ("closed".into(), json!("Closed")),
        (_, Form::Bool) => ((!now).into(), json!(!now)),
        (_, Form::List(_)) => (list(["a", "b"]), json!(["a", "b"])),
        _ => ("Grüße <&>".into(), json!("Grüße <&>")),
    }
}

#[tokio::test]
async fn every_served_parameter_changes_what_is_read_back_after_a_restart() {
    let mut organisation = Organisation::seeded().await;
    let mailbox = noun("Mailbox").unwrap();
    let parameters: Vec<_> = Directory::served_parameters("Set-Mailbox").unwrap().into_iter().filter(|p| *p != "Identity").collect();
    assert!(parameters.len() >= 48);
    let ann = || command("Get-Mailbox").with("Identity", "ann.beebe@contoso.onmicrosoft.com");
    for parameter in parameters {
        // The one that names no property and changes nothing: there are no inactive mailboxes.
        if parameter == "InactiveMailbox" {
            let ran =
                organisation.run(command("Set-Mailbox").with("Identity", "ann.beebe@contoso.onmicrosoft.com").with(parameter, true)).await;
            assert!(ran.errors[0].message.contains("couldn't be found"), "{ran:?}");
            continue;
        }
        // What it sets shows under its name, but for the parameter that stands for a whole kind.
        let shown = if parameter == "Type" { "RecipientTypeDetails" } else { parameter };
        let before = organisation.read(ann()).await.remove(0);
        let property = mailbox.property(shown).unwrap();
        let cases = mailbox_values(parameter, &property.kind.form);
        for (value, expected) in cases {
            // Sizes that must not decrease are moved together.
            let mut set = command("Set-Mailbox").with("Identity", "ann.beebe@contoso.onmicrosoft.com");
            for name in &mailbox.ordered {
                if mailbox.ordered.iter().any(|o| **o == *parameter) && **name != *parameter {
                    set = set.with(name, value.clone());
                }
            }
            let ran = organisation.run(set.with(parameter, value.clone())).await;
            assert_eq!((&ran.end, ran.errors.len()), (&Ended::Completed, 0), "{parameter} {value:?}: {ran:?}");
            let now = organisation.read(ann()).await.remove(0);
            assert_eq!(now[shown], expected, "{parameter}");
            organisation = organisation.restarted().await;
            assert_eq!(organisation.read(ann()).await.remove(0), now, "{parameter}");
            if before[shown] != expected && parameter != "WindowsEmailAddress" {
                let entry = organisation.entries().await.remove(0);
                let outcome = entry.outcome.unwrap();
                let change = outcome.changes.iter().find(|c| c.property == shown).unwrap_or_else(|| panic!("{parameter}: {outcome:?}"));
                assert_ne!(change.old, change.new, "{parameter}");
                if let Json::String(new) = &expected {
                    assert!(change.new == *new || parameter == "LitigationHoldDate", "{parameter}: {change:?}");
                }
                assert!(outcome.object.ends_with("/Ann Beebe"), "{}", outcome.object);
                assert_eq!(now["WhenChangedUTC"], "2026-11-24T09:30:00.0000000Z");
            }
        }
    }
    // The index followed.
    organisation
        .run(
            command("Set-Mailbox")
                .with("Identity", "ann.beebe@contoso.onmicrosoft.com")
                .with("DisplayName", "Zelda Last")
                .with("CustomAttribute7", "Rot"),
        )
        .await;
    let last = organisation.read(command("Get-Mailbox").with("ResultSize", "Unlimited")).await;
    assert!(identities(&last).iter().position(|n| *n == "Zelda Last") > Some(160));
    assert_eq!(organisation.read(command("Get-Recipient").with("Filter", "CustomAttribute7 -eq 'rot'")).await.len(), 1);
    assert_eq!(organisation.read(command("Get-Mailbox").with("Identity", "zelda last")).await.len(), 1);
}

#[tokio::test]
async fn changes_that_are_not_made_say_why_and_leave_an_entry() {
    let organisation = Organisation::seeded().await;
    let set = || command("Set-Mailbox").with("Identity", "ann.beebe");
    let before = organisation.read(command("Get-Mailbox").with("Identity", "ann.beebe")).await.remove(0);
    for (parameter, value, names) in [
        ("ProhibitSendQuota", Value::from("lots"), "\"lots\""),
        ("ProhibitSendQuota", "5 parsecs".into(), "\"5 parsecs\""),
        ("IssueWarningQuota", "-1GB".into(), "\"-1GB\""),
        ("ForwardingSmtpAddress", "not an address".into(), "\"not an address\""),
        ("DisplayName", "x".repeat(257).into(), "257 characters"),
        ("CustomAttribute1", "x".repeat(1025).into(), "1025 characters"),
    ] {
        let ran = organisation.run(set().with(parameter, value)).await;
        let Ended::Failed(record) = &ran.end else { panic!("{parameter}: {ran:?}") };
        assert!(record.message.contains(names) && record.message.contains(parameter), "{}", record.message);
        let entry = organisation.entries().await.remove(0);
        assert_eq!(entry.outcome.unwrap().ending.word(), "failed", "{parameter}");
    }
    let ran = organisation.run(set().with("IssueWarningQuota", "51GB")).await;
    assert!(ran.errors[0].message.contains("IssueWarningQuota (51 GB (54,760,833,024 bytes)) must be less than or equal"), "{ran:?}");
    let entry = organisation.entries().await.remove(0).outcome.unwrap();
    assert_eq!(entry.ending.reason(), &*ran.errors[0].message);

    let ran = organisation.run(set().with("CustomAttribute1", "")).await;
    let text = "The command completed successfully but no settings of '";
    assert!(ran.warnings[0].starts_with(text) && ran.warnings[0].ends_with("Ann Beebe' have been modified."), "{ran:?}");
    let entry = organisation.entries().await.remove(0).outcome.unwrap();
    assert_eq!((entry.ending.word(), entry.changes.len()), ("succeeded", 0));

    let entries = organisation.entries().await.len();
    let ran = organisation.run(set().with("CustomAttribute1", "x").with("WhatIf", true)).await;
    assert!(ran.host[0].starts_with("What if: Setting mailbox Identity:") && ran.end == Ended::Completed, "{ran:?}");
    let mut only = organisation.invocation(set().with("CustomAttribute1", "x")).await;
    (only.confirm, only.intent) = (Confirm::ReportOnly, None);
    assert_eq!(collect(&organisation.directory, only).await.host.len(), 1);
    let mut asked = organisation.invocation(set().with("CustomAttribute1", "x").with("Confirm", true)).await;
    asked.confirm = Confirm::Ask;
    assert!(matches!(collect(&organisation.directory, asked).await.end, Ended::Failed(r) if r.message.contains("-Confirm:$false")));
    // The two invocations wrote an intent each; the second was closed as failed, the first belongs to nobody.
    assert_eq!(organisation.entries().await.len(), entries + 2);
    assert_eq!(organisation.read(command("Get-Mailbox").with("Identity", "ann.beebe")).await.remove(0), before);
}

#[tokio::test]
async fn without_the_right_permit_and_intent_nothing_happens() {
    let organisation = Organisation::seeded().await;
    let set = command("Set-Mailbox").with("Identity", "ann.beebe").with("CustomAttribute1", "x");
    let good = organisation.invocation(set.clone()).await;
    let other = organisation.invocation(command("Set-Mailbox").with("Identity", "ann.beebe").with("CustomAttribute1", "y")).await;
    let mut stranger = caller(&[DirectoryRole::ExchangeAdministrator]);
    let exops_policy::Principal::Application(application) = &mut stranger.principal else { panic!() };
    application.object_id = Uuid::from_u128(5);
    let mut elsewhere = caller(&[DirectoryRole::ExchangeAdministrator]);
    elsewhere.tenant = exops_policy::TenantId(Uuid::from_u128(3));
    let cases = [
        Invocation { permit: None, ..good.clone() },
        Invocation { permit: other.permit.clone(), ..good.clone() },
        Invocation { caller: stranger, ..good.clone() },
        Invocation { caller: elsewhere.clone(), ..good.clone() },
        Invocation { intent: None, ..good.clone() },
        Invocation { input: vec!["x".into()], ..good.clone() },
    ];
    for (number, case) in cases.into_iter().enumerate() {
        let ran = collect(&organisation.directory, case).await;
        assert!(matches!(&ran.end, Ended::Refused(_)), "case {number}: {ran:?}");
        let found = organisation.read(command("Get-Mailbox").with("Identity", "ann.beebe")).await.remove(0);
        assert_eq!(found["CustomAttribute1"], "", "case {number}");
    }
    assert!(organisation.directory.catalogue(&elsewhere).await.is_err());
    // A parameter that is not served is named, on Get and Set alike; so is a second stage.
    for refused in [
        command("Get-Mailbox").with("Archive", true),
        command("Get-Mailbox").with("SoftDeletedMailbox", true),
        command("Set-Mailbox").with("Identity", "ann.beebe").with("CustomAttribute1", "x").with("MailTip", "hello"),
        command("Search-AdminAuditLog").with("ExternalAccess", true),
    ] {
        let name = refused.arguments.last().and_then(|a| a.name.clone()).unwrap();
        let ran = organisation.run(refused).await;
        assert!(matches!(&ran.end, Ended::Refused(r) if r.message.contains(&format!("'{name}'"))), "{ran:?}");
    }
    let get = Pipeline { commands: vec![command("Get-Mailbox"), command("Set-Mailbox").with("CustomAttribute1", "x")] };
    let pipeline = bind(&organisation.directory.catalogue(&organisation.caller).await.unwrap(), &get, UnknownNames::Refuse).unwrap();
    let mut piped = organisation.invocation(command("Get-Mailbox")).await;
    piped.pipeline = pipeline;
    assert!(matches!(collect(&organisation.directory, piped).await.end, Ended::Refused(r) if r.message.contains("piping")));
    let found = organisation.read(command("Get-Mailbox").with("Identity", "ann.beebe")).await.remove(0);
    assert_eq!(found["CustomAttribute1"], "");
    // The good one works.
    assert_eq!(collect(&organisation.directory, good).await.end, Ended::Completed);
    // The catalogue is exactly what is served.
    let catalogue = organisation.directory.catalogue(&organisation.caller).await.unwrap();
    assert!(catalogue.names().all(|name| Directory::served_parameters(name).is_some()));
    for (cmdlet, served) in
        [("Get-Mailbox", true), ("Set-Mailbox", true), ("Get-DistributionGroupMember", true), ("Get-TransportRule", false)]
    {
        assert_eq!(catalogue.cmdlet(cmdlet).is_some(), served, "{cmdlet}");
    }
}

#[tokio::test]
async fn the_admin_audit_log_shows_who_changed_what() {
    let organisation = Organisation::seeded().await;
    organisation.run(command("Set-Mailbox").with("Identity", "ann.beebe").with("CustomAttribute1", "one")).await;
    organisation
        .run(command("Set-Mailbox").with("Identity", "ann.beebe").with("CustomAttribute1", "two").with("ProhibitSendQuota", "50GB"))
        .await;
    organisation.run(command("Set-Mailbox").with("Identity", "nobody").with("CustomAttribute2", "x")).await;
    let search = || command("Search-AdminAuditLog");
    let all = organisation.read(search()).await;
    let [failed, second, first] = all.as_slice() else { panic!("{all:#?}") };
    assert_eq!((failed["Succeeded"].clone(), second["Succeeded"].clone()), (json!(false), json!(true)));
    assert!(failed["Error"].as_str().unwrap().contains("couldn't be found") && first["Error"] == "None");
    assert_eq!(second["ModifiedProperties"][0], json!({"Name": "CustomAttribute1", "OldValue": "one", "NewValue": "two"}));
    assert_eq!(second["ModifiedProperties"][1]["NewValue"], "50 GB (53,687,091,200 bytes)");
    assert_eq!(second["CmdletName"], "Set-Mailbox");
    assert!(second["Caller"].as_str().unwrap().starts_with("testkit ("));
    assert!(second["ObjectModified"].as_str().unwrap().ends_with("/Ann Beebe"));
    assert_eq!(second["OriginatingServer"], "LAB01 (15.20.9000.000)");
    for (query, expected) in [
        (search().with("Cmdlets", "set-mailbox"), 3),
        (search().with("Cmdlets", "New-Mailbox"), 0),
        (search().with("ObjectIds", "ann@contoso.com"), 2),
        (search().with("ObjectIds", "nobody"), 1),
        (search().with("UserIds", "TestKit"), 3),
        (search().with("UserIds", second["Caller"].as_str().unwrap()), 3),
        (search().with("UserIds", "somebody else"), 0),
        (search().with("IsSuccess", true), 2),
        (search().with("IsSuccess", "$false"), 1),
        (search().with("Parameters", "ProhibitSendQuota"), 1),
        (search().with("ResultSize", 1), 1),
        (search().with("StartIndex", 2), 1),
        (search().with("StartDate", "11/25/2026"), 0),
        (search().with("StartDate", "2026-11-24T00:00:00Z").with("EndDate", "11/24/2026 11:00 AM"), 3),
        (search().with("EndDate", "11/23/2026"), 0),
    ] {
        assert_eq!(organisation.read(query.clone()).await.len(), expected, "{query:?}");
    }
    for wrong in [search().with("StartDate", "soon"), search().with("StartDate", "11/25/2026").with("EndDate", "11/24/2026")] {
        assert!(matches!(organisation.run(wrong).await.end, Ended::Failed(r) if r.message.contains("StartDate")));
    }
}

#[tokio::test]
async fn every_served_parameter_of_groups_changes_what_is_read_back() {
    let mut organisation = Organisation::seeded().await;
    let groups = noun("DistributionGroup").unwrap();
    let address = PAYROLL;
    let get = || command("Get-DistributionGroup").with("Identity", address);
    let set = || command("Set-DistributionGroup").with("Identity", address);
    let mut parameters = Directory::served_parameters("Set-DistributionGroup").unwrap();
    parameters.retain(|p| !["Identity", "BypassSecurityGroupManagerCheck"].contains(p));
    assert!(parameters.len() >= 35);
    for parameter in parameters {
        let now = organisation.read(get()).await[0][parameter].as_bool().unwrap_or_default();
        let (value, expected) = group_value(parameter, &groups.property(parameter).unwrap().kind.form, now);
        let ran = organisation.run(set().with(parameter, value).with("BypassSecurityGroupManagerCheck", true)).await;
        assert_eq!((&ran.end, ran.errors.len()), (&Ended::Completed, 0), "{parameter}: {ran:?}");
        organisation = organisation.restarted().await;
        assert_eq!(organisation.read(get()).await[0][parameter], expected, "{parameter}");
    }
    for (parameter, value, text) in [
        ("MemberJoinRestriction", "Sometimes", "ApprovalRequired"),
        ("EmailAddresses", "SMTP:ann.beebe@contoso.onmicrosoft.com", "already being used"),
        ("EmailAddresses", "SMTP:x@fabrikam.example", "accepted domain"),
        ("ManagedBy", "nobody", "couldn't be found"),
        ("CustomAttribute1", &"x".repeat(1025), "1025 characters"),
    ] {
        let ran = organisation.run(set().with(parameter, value)).await;
        let messages: Vec<_> = ran
            .errors
            .iter()
            .chain(match &ran.end {
                Ended::Failed(record) => Some(&**record),
                _ => None,
            })
            .collect();
        assert!(messages.len() == 1 && messages[0].message.contains(text), "{parameter}: {messages:?}");
    }
    assert!(organisation.run(set().with("Alias", "pay.roll")).await.warnings[0].contains("no settings of"));
}

#[tokio::test]
async fn groups_come_and_go() {
    let mut organisation = Organisation::seeded().await;
    let new = |name: &str| command("New-DistributionGroup").with("Name", name);
    let shown = organisation
        .read(
            new("Night Watch")
                .with("Type", "security")
                .with("ManagedBy", "ann.beebe")
                .with("Members", list(["board", "Laser Cutter"]))
                .with("PrimarySmtpAddress", "night@contoso.com")
                .with("MemberJoinRestriction", "open")
                .with("RequireSenderAuthenticationEnabled", false),
        )
        .await;
    organisation = organisation.restarted().await;
    for identity in ["Night Watch", "NightWatch", "nightwatch@contoso.onmicrosoft.com", "night@contoso.com"] {
        assert_eq!(organisation.read(command("Get-DistributionGroup").with("Identity", identity)).await, shown, "{identity}");
    }
    let group = &shown[0];
    assert_eq!((&group["RecipientTypeDetails"], &group["Alias"]), (&json!("MailUniversalSecurityGroup"), &json!("NightWatch")));
    assert_eq!(group["EmailAddresses"], json!(["SMTP:night@contoso.com", "smtp:NightWatch@contoso.onmicrosoft.com"]));
    assert_eq!((&group["ManagedBy"], &group["MemberJoinRestriction"]), (&json!(["Ann Beebe"]), &json!("Open")));
    assert_eq!(group["RequireSenderAuthenticationEnabled"], false);
    let members = organisation.read(command("Get-DistributionGroupMember").with("Identity", "Night Watch")).await;
    assert_eq!(members.iter().map(|m| &m["Name"]).collect::<Vec<_>>(), ["Board", "Laser Cutter"]);
    assert!(organisation.entries().await[0].outcome.as_ref().unwrap().object.ends_with("/Night Watch"));
    organisation.read(new("Rooms of Oslo").with("RoomList", true).with("Members", "Night Watch")).await;
    let rooms = command("Get-DistributionGroup").with("RecipientTypeDetails", "RoomList");
    assert_eq!(organisation.read(rooms).await.len(), 1);

    let remove = |bypass: bool| {
        let remove = command("Remove-DistributionGroup").with("Identity", "night@contoso.com");
        if bypass { remove.with("BypassSecurityGroupManagerCheck", true) } else { remove }
    };
    for (wrong, text) in [
        (new("Night Watch"), "Night Watch"),
        (new("Other").with("Alias", "nightwatch"), "nightwatch"),
        (new("Other").with("PrimarySmtpAddress", "night@contoso.com"), "already being used"),
        (new("Other").with("PrimarySmtpAddress", "x@fabrikam.example"), "accepted domain"),
        (new("Other").with("ManagedBy", "nobody"), "'nobody'"),
        (new("Other").with("Type", "Dynamic"), "Distribution, Security"),
        (new("Other").with("Type", "Security").with("RoomList", true), "does not go with"),
        (new("Other").with("MemberJoinRestriction", "Maybe"), "MemberJoinRestriction"),
        (new("Other").with("Alias", "a b"), "alias \"a b\""),
        (remove(false), "manager of the group"),
    ] {
        let ran = organisation.run(wrong).await;
        let ended = if let Ended::Failed(record) = &ran.end { Some(&**record) } else { None };
        let messages: Vec<_> = ran.errors.iter().chain(ended).map(|r| &*r.message).collect();
        assert!(messages.len() == 1 && messages[0].contains(text), "{text}: {messages:?}");
        assert_eq!(organisation.entries().await[0].outcome.as_ref().unwrap().ending.word(), "failed", "{text}");
    }
    assert_eq!(organisation.read(command("Get-Group")).await.len(), 24);
    assert_eq!(organisation.run(remove(true)).await.errors, []);
    organisation = organisation.restarted().await;
    assert_eq!(organisation.read(command("Get-Group")).await.len(), 23);
    assert!(organisation.read(command("Get-DistributionGroupMember").with("Identity", "Rooms of Oslo")).await.is_empty());
    assert_eq!(organisation.read(command("Get-DistributionGroup").with("Identity", "Rooms of Oslo")).await[0]["Members"], json!([]));
}

#[tokio::test]
async fn members_of_groups_change_by_their_rules() {
    let mut organisation = Organisation::seeded().await;
    let group = "Payroll Access";
    let change = |verb: &str| {
        command(&format!("{verb}-DistributionGroupMember")).with("Identity", group).with("BypassSecurityGroupManagerCheck", true)
    };
    let names = |objects: &[Json]| objects.iter().map(|o| o["Name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let seeded = names(&organisation.read(command("Get-DistributionGroupMember").with("Identity", group)).await);
    let mut expected = seeded.clone();
    for (member, shown) in [("smtp:dana.novotna@fabrikam.example", "Dana Novotná"), ("board", "Board"), ("Laser Cutter", "Laser Cutter")] {
        let ran = organisation.run(change("Add").with("Member", member)).await;
        assert_eq!((&ran.end, ran.errors.len(), ran.output.len()), (&Ended::Completed, 0, 0), "{ran:?}");
        expected.push(shown.to_owned());
        organisation = organisation.restarted().await;
        assert_eq!(names(&organisation.read(command("Get-DistributionGroupMember").with("Identity", group)).await), expected);
        let outcome = organisation.entries().await.remove(0).outcome.unwrap();
        assert!(
            outcome.object.ends_with("/Payroll Access")
                && outcome.changes[0].property == "Members"
                && outcome.changes[0].new.contains(shown)
        );
    }
    let removed = expected.remove(0);
    let removed = organisation.read(command("Get-Recipient").with("Identity", removed)).await.remove(0);
    assert_eq!(organisation.run(change("Remove").with("Member", removed["Guid"].as_str().unwrap())).await.errors, []);
    assert_eq!(names(&organisation.read(command("Get-DistributionGroupMember").with("Identity", group)).await), expected);
    for (members, after) in [
        (list(["ann.beebe", "Board", "ANN.BEEBE@contoso.onmicrosoft.com"]), vec!["Ann Beebe", "Board"]),
        ("Laser Cutter".into(), vec!["Laser Cutter"]),
        (Value::Null, vec![]),
    ] {
        assert_eq!(organisation.run(change("Update").with("Members", members)).await.errors, []);
        assert_eq!(names(&organisation.read(command("Get-DistributionGroupMember").with("Identity", group)).await), after);
    }

    // What the rules forbid changes nothing and is in the trail as failed.
    organisation.run(change("Add").with("Member", "ann.beebe")).await;
    let unowned = |verb: &str| command(&format!("{verb}-DistributionGroupMember")).with("Identity", group).with("Member", "billing");
    for (wrong, exception, text) in [
        (
            change("Add").with("Member", "Ann Beebe"),
            "MemberAlreadyExistsException",
            "\"Ann Beebe\" is already a member of the group \"Payroll Access\"",
        ),
        (change("Remove").with("Member", "board"), "MemberNotFoundException", "\"Board\" isn't a member of the group"),
        (change("Add").with("Member", "nobody"), "ManagementObjectNotFoundException", "'nobody'"),
        (change("Add").with("Member", "Irene Ivanova"), "ManagementObjectAmbiguousException", "'Irene Ivanova'"),
        (change("Add").with("Member", group), "DataValidationException", "itself"),
        (change("Update").with("Members", list(["billing", "nobody"])), "ManagementObjectNotFoundException", "'nobody'"),
        (unowned("Add"), "OperationRequiresGroupManagerException", "BypassSecurityGroupManagerCheck"),
        (unowned("Remove"), "OperationRequiresGroupManagerException", "manager of the group"),
    ] {
        let ran = organisation.run(wrong).await;
        let [error] = ran.errors.as_slice() else { panic!("{text}: {ran:?}") };
        assert!(&*error.reason == exception && error.message.contains(text), "{}: {}", error.reason, error.message);
        let outcome = organisation.entries().await.remove(0).outcome.unwrap();
        assert_eq!((outcome.ending.word(), outcome.ending.reason()), ("failed", &*error.message));
    }
    for wrong in [change("Add"), change("Add").with("Member", ""), change("Remove").with("Member", list(["billing", "board"]))] {
        let ran = organisation.run(wrong).await;
        assert!(matches!(&ran.end, Ended::Failed(r) if r.message.contains("'Member'")), "{:?}", ran.end);
        assert_eq!(organisation.entries().await.remove(0).outcome.unwrap().ending.word(), "failed");
    }
    let what_if = organisation.run(change("Remove").with("Member", "ann.beebe").with("WhatIf", true)).await;
    assert!(what_if.host[0].starts_with("What if: Removing distribution group member \"Ann Beebe\""), "{:?}", what_if.host);
    assert_eq!(names(&organisation.read(command("Get-DistributionGroupMember").with("Identity", group)).await), ["Ann Beebe"]);
}

#[tokio::test]
async fn the_unified_audit_log_pages_through_a_session() {
    let mut organisation = Organisation::seeded().await;
    for number in 0..25 {
        let set = command("Set-Mailbox").with("Identity", "ann.beebe").with("CustomAttribute1", format!("value {number}"));
        assert_eq!(organisation.run(set).await.end, Ended::Completed);
    }
    let failed = organisation.run(command("Set-Mailbox").with("Identity", "nobody").with("CustomAttribute1", "x")).await;
    assert_eq!(failed.errors.len(), 1);
    let search = || command("Search-UnifiedAuditLog").with("StartDate", "2026-11-24").with("EndDate", "11/25/2026");
    let numbers = |rows: &[Json], name: &str| rows.iter().map(|r| r[name].as_i64().unwrap()).collect::<Vec<_>>();

    // One call: newest first, with its place and the number of all.
    let rows = organisation.read(search()).await;
    assert_eq!(numbers(&rows, "ResultIndex"), (1..=26).collect::<Vec<_>>());
    assert!(rows.iter().all(|r| r["ResultCount"] == 26 && r["RecordType"] == "ExchangeAdmin" && r["Operations"] == "Set-Mailbox"));
    // The columns in the order of the documented record.
    let ran = organisation.run(search().with("ResultSize", 1)).await;
    let names: Vec<_> = object(&ran.output[0]).adapted.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(
        names.join(" "),
        "RecordType CreationDate UserIds Operations AuditData ResultIndex ResultCount Identity IsValid ObjectState"
    );
    let data = |row: &Json| serde_json::from_str::<Json>(row["AuditData"].as_str().unwrap()).unwrap();
    let (newest, good) = (data(&rows[0]), data(&rows[1]));
    assert_eq!((newest["ResultStatus"].as_str(), good["ResultStatus"].as_str()), (Some("False"), Some("True")));
    assert_eq!((good["CreationTime"].as_str(), good["RecordType"].as_i64()), (Some("2026-11-24T09:30:00"), Some(1)));
    assert_eq!(good["Id"], rows[1]["Identity"]);
    assert_eq!(good["UserId"], rows[1]["UserIds"]);
    assert_eq!(good["ModifiedProperties"][0], json!({"Name": "CustomAttribute1", "OldValue": "value 23", "NewValue": "value 24"}));
    assert!(good["ObjectId"].as_str().unwrap().ends_with("/Ann Beebe"));
    let formatted = data(&organisation.read(search().with("Formatted", true)).await[0]);
    assert_eq!((formatted["RecordType"].as_str(), formatted["UserType"].as_str()), (Some("ExchangeAdmin"), Some("ServicePrincipal")));

    // The loop of scripts: the same session until it answers nothing; what happens meanwhile is not among it.
    for session_command in ["ReturnLargeSet", "returnnextpreviewpage"] {
        let next = || search().with("SessionId", session_command).with("SessionCommand", session_command).with("ResultSize", 10);
        let mut all = Vec::new();
        let mut sizes = Vec::new();
        loop {
            let rows = organisation.read(next()).await;
            sizes.push(rows.len());
            if rows.is_empty() {
                break;
            }
            all.extend(rows);
            assert!(sizes.len() < 10, "{sizes:?}");
        }
        assert_eq!(sizes, [10, 10, 6, 0], "{session_command}");
        assert_eq!(numbers(&all, "ResultIndex"), (1..=26).collect::<Vec<_>>());
        assert_eq!(all.iter().map(|r| r["Identity"].as_str().unwrap()).collect::<BTreeSet<_>>().len(), 26);
        assert!(organisation.read(next()).await.is_empty());
        // Another caller's session of that name is another session.
        let own = organisation.caller.clone();
        let exops_policy::Principal::Application(application) = &mut organisation.caller.principal else { panic!() };
        application.object_id = Uuid::from_u128(99);
        assert_eq!(organisation.read(next()).await.len(), 10);
        organisation.caller = own;
    }

    for (parameter, value, expected) in [
        ("Operations", "set-mailbox", 26),
        ("Operations", "New-Mailbox", 0),
        ("RecordType", "ExchangeItem", 0),
        ("RecordType", "exchangeadmin", 26),
        ("ObjectIds", "ann.beebe", 25),
        ("FreeText", "VALUE 7", 2),
        ("IPAddresses", "203.0.113.254", 0),
        ("UserIds", rows[0]["UserIds"].as_str().unwrap(), 26),
        ("UserIds", "somebody@contoso.com", 0),
        ("IPAddresses", organisation.caller.client_address.rsplit_once(':').unwrap().0, 26),
    ] {
        assert_eq!(organisation.read(search().with(parameter, value)).await.len(), expected, "{parameter} {value}");
    }
    assert!(
        organisation.read(command("Search-UnifiedAuditLog").with("StartDate", "2026-11-22").with("EndDate", "2026-11-23")).await.is_empty()
    );
    for (wrong, words) in [
        (search().with("SessionId", "ReturnLargeSet").with("Operations", "New-Mailbox"), "begun with other conditions"),
        (search().with("SessionCommand", "ReturnAll"), "ReturnNextPreviewPage"),
        (search().with("RecordType", "Nonsense"), "ExchangeAdmin"),
        (search().with("SessionId", ""), "1 to 256"),
        (command("Search-UnifiedAuditLog").with("StartDate", "2026-11-25").with("EndDate", "2026-11-24"), "must not be after EndDate"),
        (command("Search-UnifiedAuditLog").with("StartDate", "soon").with("EndDate", "2026-11-24"), "\"soon\""),
    ] {
        let ran = organisation.run(wrong).await;
        assert!(matches!(&ran.end, Ended::Failed(r) if r.message.contains(words)), "{words}: {:?}", ran.end);
    }
}

#[tokio::test]
async fn a_stop_or_deadline_ends_a_stream_between_objects() {
    let organisation = Organisation::seeded().await;
    let mut invocation = organisation.invocation(command("Get-Recipient").with("ResultSize", "Unlimited")).await;
    invocation.stop = StopToken::new();
    let stop = invocation.stop.clone();
    let mut steps = organisation.directory.invoke(invocation);
    assert!(matches!(steps.next().await, Some(Step::Record(_))));
    stop.stop();
    let rest: Vec<_> = steps.collect().await;
    assert!(rest.len() < 213 && rest.last() == Some(&Step::Ended(Ended::Stopped)), "{}", rest.len());
    let mut invocation = organisation.invocation(command("Get-Recipient")).await;
    invocation.deadline = Some(Duration::ZERO);
    assert!(matches!(collect(&organisation.directory, invocation).await.end, Ended::Failed(r) if r.message.contains("time given")));
}
