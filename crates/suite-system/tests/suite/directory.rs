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
use exops_psobject::{Base, DateTimeKind, ErrorRecord, PsObject, Value};
use exops_runspace::{Confirm, Ended, Invocation, Record, Runspace, Step, StopToken};
use exops_store::{AuditQuery, Store, TenantStore};
use exops_testkit::{ORGANIZATION, TENANT, caller};
use futures_util::StreamExt as _;
use serde_json::{Value as Json, json};
use uuid::Uuid;

/// 2026-11-24T09:30:00Z.
const NOW: i64 = 1_795_512_600_000;
const SERVER: &str = "lab01.contoso.test";

struct Organisation {
    _folder: tempfile::TempDir,
    path: PathBuf,
    store: Store,
    directory: Directory,
    caller: Caller,
}

#[derive(Debug)]
struct Ran {
    output: Vec<Value>,
    errors: Vec<ErrorRecord>,
    warnings: Vec<String>,
    host: Vec<String>,
    end: Ended,
}

impl Organisation {
    async fn seeded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lab.sqlite");
        let store = Store::open(&path).await.unwrap();
        seed_standard(&store.tenant(TENANT), ORGANIZATION).await.unwrap();
        let directory = Directory::new(&store, TENANT, ORGANIZATION, SERVER).with_clock(|| NOW);
        Self { _folder: folder, path, store, directory, caller: caller(&[DirectoryRole::ExchangeAdministrator]) }
    }

    async fn restarted(mut self) -> Self {
        self.store.close().await;
        self.store = Store::open(&self.path).await.unwrap();
        self.directory = Directory::new(&self.store, TENANT, ORGANIZATION, SERVER).with_clock(|| NOW);
        self
    }

    fn tenant(&self) -> TenantStore {
        self.store.tenant(TENANT)
    }

    /// Binds, gets a permit, writes the intent of a change, as the session layer does.
    async fn invocation(&self, command: Command) -> Invocation {
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

    async fn run(&self, command: Command) -> Ran {
        collect(&self.directory, self.invocation(command).await).await
    }

    /// Output of a command that must succeed, as canonical JSON.
    async fn read(&self, command: Command) -> Vec<Json> {
        let ran = self.run(command).await;
        assert_eq!((&ran.end, &ran.errors), (&Ended::Completed, &Vec::new()));
        ran.output.iter().map(canonical).collect()
    }

    async fn entries(&self) -> Vec<Entry> {
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

async fn collect(directory: &Directory, invocation: Invocation) -> Ran {
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

fn command(name: &str) -> Command {
    Command::new(name)
}

fn identities(objects: &[Json]) -> Vec<&str> {
    objects.iter().filter_map(|o| o["DisplayName"].as_str()).collect()
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
    // Null names everything.
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
    for wrong in ["many", "0", "-3", "1.5"] {
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
    ] {
        let ran = organisation.run(command("Get-Mailbox").with(parameter, value)).await;
        let Ended::Failed(record) = &ran.end else { panic!("{value}: {ran:?}") };
        assert!(record.message.contains(names), "{value}: {}", record.message);
    }
}

#[tokio::test]
async fn every_served_parameter_changes_what_is_read_back_after_a_restart() {
    let mut organisation = Organisation::seeded().await;
    let mailbox = noun("Mailbox").unwrap();
    let parameters: Vec<_> = Directory::served_parameters("Set-Mailbox").unwrap().into_iter().filter(|p| *p != "Identity").collect();
    assert!(parameters.len() >= 23);
    let ann = || command("Get-Mailbox").with("Identity", "ann.beebe");
    for parameter in parameters {
        let before = organisation.read(ann()).await.remove(0);
        let cases: Vec<(Value, Json)> = match &mailbox.property(parameter).unwrap().kind.form {
            Form::Text => vec![("Grüße <&> \"ü\"".into(), json!("Grüße <&> \"ü\"")), ("second".into(), json!("second"))],
            Form::Bool => vec![(true.into(), json!(true)), (false.into(), json!(false))],
            Form::UnlimitedSize => {
                vec![
                    ("49.75GB".into(), json!("49.75 GB (53,418,655,744 bytes)")),
                    ("49.5 GB (53,150,220,288 bytes)".into(), json!("49.5 GB (53,150,220,288 bytes)")),
                ]
            }
            Form::Object => vec![("Bob@Fabrikam.example".into(), json!("smtp:Bob@Fabrikam.example")), (Value::Null, Json::Null)],
            other => panic!("{parameter}: no values for {other:?}"),
        };
        for (value, expected) in cases {
            // Sizes that must not decrease are moved together.
            let mut set = command("Set-Mailbox").with("Identity", "ann.beebe");
            for name in &mailbox.ordered {
                if mailbox.ordered.iter().any(|o| **o == *parameter) && **name != *parameter {
                    set = set.with(name, value.clone());
                }
            }
            let ran = organisation.run(set.with(parameter, value.clone())).await;
            assert_eq!((&ran.end, ran.errors.len()), (&Ended::Completed, 0), "{parameter} {value:?}: {ran:?}");
            let now = organisation.read(ann()).await.remove(0);
            assert_eq!(now[parameter], expected, "{parameter}");
            organisation = organisation.restarted().await;
            assert_eq!(organisation.read(ann()).await.remove(0), now, "{parameter}");
            if before[parameter] != expected {
                let entry = organisation.entries().await.remove(0);
                let outcome = entry.outcome.unwrap();
                let change = outcome.changes.iter().find(|c| c.property == parameter).unwrap();
                assert_eq!(
                    change.new,
                    expected.as_str().map_or_else(|| Value::display(&value_of(&expected)), str::to_owned),
                    "{parameter}"
                );
                assert!(outcome.object.ends_with("/Ann Beebe"), "{}", outcome.object);
                assert_eq!(now["WhenChangedUTC"], "2026-11-24T09:30:00.0000000Z");
            }
        }
    }
    // The index followed.
    organisation
        .run(command("Set-Mailbox").with("Identity", "ann.beebe").with("DisplayName", "Zelda Last").with("CustomAttribute7", "Rot"))
        .await;
    let last = organisation.read(command("Get-Mailbox").with("ResultSize", "Unlimited")).await;
    assert!(identities(&last).iter().position(|n| *n == "Zelda Last") > Some(160));
    assert_eq!(organisation.read(command("Get-Recipient").with("Filter", "CustomAttribute7 -eq 'rot'")).await.len(), 1);
    assert_eq!(organisation.read(command("Get-Mailbox").with("Identity", "zelda last")).await.len(), 1);
}

fn value_of(json: &Json) -> Value {
    match json {
        Json::Bool(flag) => Value::Bool(*flag),
        _ => Value::Null,
    }
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
        command("Get-Mailbox").with("Anr", "ann"),
        command("Get-Mailbox").with("SortBy", "Name"),
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
    let names: Vec<_> =
        organisation.directory.catalogue(&organisation.caller).await.unwrap().cmdlets().map(|c| c.name.to_string()).collect();
    assert_eq!(
        names,
        [
            "Get-AcceptedDomain",
            "Get-DistributionGroup",
            "Get-Mailbox",
            "Get-OrganizationConfig",
            "Get-Recipient",
            "Search-AdminAuditLog",
            "Set-Mailbox"
        ]
    );
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
