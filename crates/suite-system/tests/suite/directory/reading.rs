//! Reading: identities, sizes, filters, views, and streams that are stopped.

use std::io::{Seek as _, Write as _};
use std::time::{Duration, Instant};

use exops_directory::{ImportOptions, import};
use exops_psobject::canonical::canonical;
use exops_psobject::{PsObject, Value};
use exops_runspace::{Ended, Runspace, Step, StopToken};
use exops_testkit::ORGANIZATION;
use futures_util::StreamExt as _;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::client::World;

use super::{Organisation, SERVER, collect, command, identities, list};

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
    // What the index holds in part only, or not at all: long texts, blanks, and what objects of a noun have by default.
    let long = format!("{}z", "y".repeat(40));
    for (identity, property, text) in [
        ("ann.beebe", "CustomAttribute1", "  "),
        ("billing", "CustomAttribute1", " x"),
        ("Laser Cutter", "CustomAttribute1", &*long),
        ("Laser Cutter", "DisplayName", &long),
        // SQLite ends a text there.
        ("billing", "CustomAttribute2", "v\0w\0end"),
        ("billing", "DisplayName", "v\0w\0end"),
    ] {
        let ran = organisation.run(command("Set-Mailbox").with("Identity", identity).with(property, text)).await;
        assert_eq!((ran.errors.len(), ran.warnings.len()), (0, 0), "{identity}");
    }
    for (filter, expected) in [
        ("CustomAttribute1 -ne $null", 3),
        ("CustomAttribute1 -like '*'", 3),
        ("CustomAttribute1 -like ' *'", 2),
        ("CustomAttribute1 -like '* x'", 1),
        ("CustomAttribute1 -like '*z'", 1),
        ("CustomAttribute1 -like 'yy*y*z'", 1),
        ("CustomAttribute1 -like 'yy*x*'", 0),
        ("CustomAttribute1 -eq ' x'", 1),
        ("CustomAttribute1 -eq 'x'", 0),
        ("CustomAttribute1 -like '_x'", 0),
        ("CustomAttribute2 -like '*w*'", 1),
        ("CustomAttribute2 -like 'v*end'", 1),
        ("CustomAttribute2 -like 'v\0w*'", 1),
        ("CustomAttribute2 -eq 'v\0w\0end'", 1),
        ("CustomAttribute2 -eq 'v'", 0),
        ("DisplayName -like '*w\0end'", 1),
        ("DisplayName -like 'v\0w*'", 1),
        ("DisplayName -like 'v'", 0),
        (&*format!("DisplayName -like '{long}'"), 1),
        (&*format!("DisplayName -like '{}*z'", "y".repeat(35)), 1),
        ("DisplayName -like '%müller'", 0),
        ("RecipientType -eq 'MailContact'", 16),
        ("RecipientType -eq 'MailContact' -and HiddenFromAddressListsEnabled -eq $false", 16),
        ("RecipientType -eq 'MailContact' -or RecipientTypeDetails -eq 'RoomMailbox'", 34),
        ("RecipientType -ne $null", 214),
        ("MemberOfGroup -ne $null -and CustomAttribute1 -ne $null -and RecipientType -eq 'MailContact'", 0),
        (
            "FirstName -like '*a*' -and Department -eq 'Sales' -and LastName -like '*o*'",
            count(&|o| {
                let has = |name: &str, part| o[name].as_str().is_some_and(|text| text.to_lowercase().contains(part));
                has("FirstName", "a") && has("LastName", "o") && o["Department"] == "Sales"
            }),
        ),
    ] {
        let found = organisation.read(command("Get-Recipient").with("ResultSize", "Unlimited").with("Filter", filter)).await;
        assert_eq!(found.len(), expected, "{filter}: {:?}", identities(&found));
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
        ("Filter", "  ", "expected a property name"),
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

/// More than are looked at one by one: the list is walked, with the same answer.
#[tokio::test]
async fn a_group_of_more_members_than_the_index_is_asked_for() {
    const MEMBERS: usize = 2500;
    let organisation = Organisation::seeded().await;
    let address = |alias: &str| json!({"Name": alias, "Alias": alias, "PrimarySmtpAddress": format!("{alias}@contoso.com")});
    let names: Vec<String> = (0..MEMBERS).map(|number| format!("crew{number:04}")).collect();
    let mut crew = address("crew");
    crew["Members"] = names.iter().map(|name| name.to_uppercase()).collect();
    for (noun, objects) in [("Mailbox", names.iter().map(|name| address(name)).collect()), ("DistributionGroup", vec![crew])] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&serde_json::to_vec(&objects).unwrap()).unwrap();
        file.rewind().unwrap();
        let options = ImportOptions { noun: Some(noun.to_owned()), dry_run: false };
        let report = import(&organisation.tenant(), ORGANIZATION, SERVER, file, options).await.unwrap();
        assert_eq!((report.refused_count, report.objects[noun]), (0, objects.len() as u64), "{report:?}");
    }
    let begun = Instant::now();
    for (filter, expected) in [
        ("MemberOfGroup -eq 'crew'", MEMBERS),
        ("MemberOfGroup -ne 'crew'", 215),
        ("MemberOfGroup -eq 'crew' -and Alias -like 'crew01*'", 100),
        ("MemberOfGroup -eq 'Board' -or Alias -like '*crew1*9'", 112),
        ("MemberOfGroup -ne $null -and Alias -like 'crew*'", MEMBERS),
    ] {
        let found = organisation.read(command("Get-Recipient").with("ResultSize", "Unlimited").with("Filter", filter)).await;
        assert_eq!(found.len(), expected, "{filter}");
    }
    println!("by members: {:?}", begun.elapsed());
    // Named twice, each is a member once.
    let twice: Vec<Value> = names.iter().chain(&names).map(|name| name.as_str().into()).collect();
    let update = command("Update-DistributionGroupMember").with("Identity", "crew").with("BypassSecurityGroupManagerCheck", true);
    let ran = organisation.run(update.with("Members", Value::from(PsObject::from_list(twice)))).await;
    assert_eq!((ran.errors.len(), &ran.end), (0, &Ended::Completed));
    let crew = organisation.read(command("Get-DistributionGroup").with("Identity", "crew")).await.remove(0);
    assert_eq!(crew["Members"], json!(names));
    println!("and all replaced: {:?}", begun.elapsed());
    // Clauses for which the index would be read from end to end, each once more than it bears.
    let wide = (0..999).map(|number| format!("Alias -like '*x{number:04}*'")).collect::<Vec<_>>().join(" -or ");
    let filter = format!("{wide} -or Alias -like '*w24*'");
    let found = organisation.read(command("Get-Recipient").with("ResultSize", "Unlimited").with("Filter", &*filter)).await;
    assert_eq!(found.len(), 100);
    println!("and by a thousand wide clauses: {:?}", begun.elapsed());
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
    // An identity with a wildcard: every object that it names, with other conditions; nothing is an error.
    let like = |o: &Json, part: &str| {
        ["Name", "DisplayName", "Alias"].iter().any(|p| o[p].as_str().unwrap_or_default().to_lowercase().contains(part))
    };
    let expected: Vec<_> = recipients.iter().filter(|r| like(r, "ann")).collect();
    let found = organisation.read(command("Get-Recipient").with("Identity", "*ANN*")).await;
    assert!(found.iter().collect::<Vec<_>>() == expected && expected.len() > 3);
    assert_eq!(organisation.read(command("Get-Recipient").with("Identity", "*").with("ResultSize", "Unlimited")).await, recipients);
    let some = organisation.run(command("Get-Mailbox").with("Identity", "*").with("ResultSize", 2).with("SortBy", "Alias")).await;
    assert_eq!((some.output.len(), some.warnings.len()), (2, 1));
    let none = organisation.run(command("Get-Mailbox").with("Identity", "zz*")).await;
    assert_eq!((none.output.len(), &*none.errors[0].reason), (0, "ManagementObjectNotFoundException"));
    assert_eq!(organisation.read(command("Get-AcceptedDomain").with("Identity", "contoso.*")).await.len(), 2);
    let changed = organisation.run(command("Set-Mailbox").with("Identity", "ann*").with("CustomAttribute1", "x")).await;
    assert_eq!(&*changed.errors[0].reason, "ManagementObjectNotFoundException");
    // A kind by its number.
    let shared = organisation.read(command("Get-Mailbox").with("Filter", "RecipientTypeDetails -eq 4")).await;
    assert_eq!(shared, organisation.read(command("Get-Mailbox").with("RecipientTypeDetails", "SharedMailbox")).await);
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

/// Everything that says which objects are wanted, in Exchange's spellings and in those of somebody hostile: what comes, in
/// which order, and what is refused is the same over both transports.
#[tokio::test]
async fn what_is_wanted_means_the_same_over_both_transports() {
    let world = World::new().await;
    let (rest, rps) = (world.rest(), world.rps());
    let (many, deep) = (vec!["Alias -eq 'ann.beebe'"; 900].join(" -or "), format!("{}Alias -eq 'x'{}", "(".repeat(200), ")".repeat(200)));
    let filters = [
        ("displayname -EQ \"ann beebe\"", Ok(1)),
        ("{DisplayName -like '*o''brien*'}", Ok(3)),
        ("DisplayName -like '*MÜLLER'", Ok(3)),
        ("(Alias -eq 'ann.beebe' -or Alias -eq 'billing') -and -not(Alias -eq 'billing')", Ok(1)),
        ("Alias \u{2013}eq \u{2018}ann.beebe\u{2019}", Ok(1)),
        ("HiddenFromAddressListsEnabled -ne 'false'", Ok(4)),
        ("CustomAttribute1 -ne $null", Ok(0)),
        ("CustomAttribute1 -eq ''", Ok(176)),
        ("WhenCreated -ge '2024-01-01' -and WhenCreated -le '01/15/2024 10:00 PM'", Ok(5)),
        ("ExchangeGuid -ne '00000000-0000-0000-0000-000000000000'", Ok(176)),
        ("EmailAddresses -like 'smtp:ann*'", Ok(3)),
        ("EmailAddresses -notlike '*contoso.com'", Ok(0)),
        ("ResourceCapacity -gt '10'", Ok(10)),
        ("ResourceCapacity -lt 0", Ok(0)),
        ("RecipientTypeDetails -eq 4", Ok(24)),
        ("MemberOfGroup -eq 'Board'", Ok(12)),
        ("Alias -eq '<a>&\"_x0041_\u{202e}'", Ok(0)),
        (&*many, Ok(1)),
        (&*deep, Err("nested more than")),
        ("Alias -eq ann.beebe", Err("position 11")),
        ("Alias -eq 'ann.beebe'; Remove-Mailbox x", Err("unexpected character ';'")),
        ("$(Get-Mailbox)", Err("the variable $")),
        ("Alias -eq 'unclosed", Err("not closed")),
        ("Title -eq 'x'", Err("\"Title\" is not a filterable property of Get-Mailbox")),
        ("WhenCreated -gt 'yesterday'", Err("\"yesterday\" is not a value of the property WhenCreated")),
        ("Guid -eq 'x'", Err("\"x\" is not a value of the property Guid")),
        ("RecipientTypeDetails -like 'Shared*'", Err("takes no wildcards")),
        ("  ", Err("expected a property name")),
    ];
    let filters = filters.into_iter().map(|(filter, expected)| ("Filter", Value::from(filter), expected));
    let others = [
        ("Identity", "ann*".into(), Ok(3)),
        ("Identity", "a*n*".into(), Ok(3)),
        ("Identity", Value::Null, Ok(176)),
        ("Anr", "ANN".into(), Ok(3)),
        ("Anr", "ann*".into(), Err("without wildcards")),
        ("SortBy", "whencreated".into(), Ok(176)),
        ("SortBy", "EmailAddresses".into(), Err("one value")),
        ("RecipientTypeDetails", list(["roommailbox", "EquipmentMailbox"]), Ok(26)),
        ("RecipientTypeDetails", "RoomMailbox,EquipmentMailbox".into(), Ok(26)),
        ("RecipientTypeDetails", "MailContact".into(), Err("MailContact")),
        ("ResultSize", "-1".into(), Err("from 1 on")),
    ];
    for (parameter, value, expected) in filters.chain(others) {
        let query = || command("Get-Mailbox").with(parameter, value.clone());
        let (one, _, first) = world.run(&rest, query()).await;
        let (two, _, second) = world.run(&rps, query()).await;
        let [one, two] = [one, two].map(|objects| objects.iter().map(canonical).collect::<Vec<_>>());
        assert!(one == two, "{parameter} {value:?}: {} and {}", one.len(), two.len());
        match (expected, first, second) {
            (Ok(count), Ended::Completed, Ended::Completed) => assert_eq!(one.len(), count, "{parameter} {value:?}"),
            // Whether something may have begun before it failed is not seen alike over both; nothing had.
            (Err(text), Ended::Failed(first) | Ended::Refused(first), Ended::Failed(second) | Ended::Refused(second)) => {
                assert!(first.message.contains(text), "{parameter} {value:?}: {}", first.message);
                assert_eq!((&first.message, first.exception_type()), (&second.message, second.exception_type()), "{parameter} {value:?}");
            }
            other => panic!("{parameter} {value:?}: {other:?}"),
        }
    }
    rest.close().await;
    rps.close().await;
}
