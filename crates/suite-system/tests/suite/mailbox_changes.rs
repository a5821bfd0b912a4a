//! What Set-Mailbox must not do, what two writers and both transports make of its lists, and mailboxes that come and go.

use exops_catalogue::{Command, Stage};
use exops_policy::{Decision, Request, RoleModel, decide};
use exops_psobject::canonical::canonical;
use exops_psobject::{PsObject, Value};
use exops_runspace::{Confirm, Ended, Runspace};
use serde_json::{Value as Json, json};

use crate::client::World;
use crate::directory::{Organisation, collect, command, table};

fn list(items: &[&str]) -> Value {
    PsObject::from_list(items.iter().map(|i| Value::from(*i)).collect()).into()
}

fn set(parameter: &str, value: impl Into<Value>) -> Command {
    command("Set-Mailbox").with("Identity", "ann.beebe").with(parameter, value.into())
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_by_name_and_leaves_an_entry() {
    let organisation = Organisation::seeded().await;
    let ann = || command("Get-Mailbox").with("Identity", "ann.beebe");
    let before = organisation.read(ann()).await.remove(0);
    let taken = "Microsoft.Exchange.Data.ProxyAddressExistsException";
    let foreign = "Microsoft.Exchange.Configuration.ObjectModel.NotAcceptedDomainException";
    let invalid = "Microsoft.Exchange.Data.DataValidationException";
    let missing = "Microsoft.Exchange.Configuration.Tasks.ManagementObjectNotFoundException";
    let add = |item: &str| table(&[("Add", item.into())]);
    let own = "ann.beebe@contoso.onmicrosoft.com";
    // Errors that do not end the pipeline: exception, and what the message must name.
    for (command, exception, names) in [
        (set("EmailAddresses", add("smtp:BILLING@contoso.com")), taken, ["\"SMTP:billing@contoso.com\"", "/billing202"]),
        (set("EmailAddresses", add("board@contoso.com")), taken, ["board@contoso.com", "/Board"]),
        (set("WindowsEmailAddress", "dana.novotna@fabrikam.example"), foreign, ["fabrikam.example", "Ann Beebe"]),
        (set("EmailAddresses", list(&[own, "ann@Elsewhere.example"])), foreign, ["elsewhere.example", "ann@Elsewhere.example"]),
        (
            set("EmailAddresses", list(&["SMTP:a1@contoso.com", "SMTP:a2@contoso.com"])),
            invalid,
            ["SMTP:a1@contoso.com", "SMTP:a2@contoso.com"],
        ),
        (set("EmailAddresses", list(&["smtp:a1@contoso.com", "A1@contoso.com"])), invalid, ["A1@contoso.com", "more than once"]),
        (set("EmailAddresses", list(&["X500:/o=a"])), invalid, ["primary SMTP address", "SMTP:"]),
        (set("EmailAddresses", Value::Null), invalid, ["primary SMTP address", "SMTP:"]),
        (set("EmailAddresses", table(&[("Remove", own.into())])), invalid, [own, "primary"]),
        (set("Alias", "board"), invalid, ["\"board\"", "/Board"]),
        (set("Alias", ".ann"), invalid, ["\".ann\"", "Alias"]),
        (set("ForwardingAddress", "nobody at all"), missing, ["'nobody at all'", "couldn't be found"]),
        (set("GrantSendOnBehalfTo", add("nobody")), missing, ["'nobody'", "couldn't be found"]),
    ] {
        let ran = organisation.run(command.clone()).await;
        let [record] = ran.errors.as_slice() else { panic!("{command:?}: {ran:?}") };
        assert_eq!((record.exception_type(), &ran.end), (exception, &Ended::Completed), "{command:?}: {record:?}");
        assert!(names.iter().all(|name| record.message.contains(name)), "{command:?}: {}", record.message);
        let outcome = organisation.entries().await.remove(0).outcome.unwrap();
        assert_eq!((outcome.ending.word(), outcome.ending.reason()), ("failed", &*record.message), "{command:?}");
    }
    // Values that do not become what the parameter takes end it.
    for (command, names) in [
        (set("EmailAddresses", add("not an address")), "\"not an address\""),
        (set("EmailAddresses", list(&[own, "smtp:a@b@c"])), "\"smtp:a@b@c\""),
        (set("EmailAddresses", table(&[("Replace", own.into())])), "\"Replace\" is neither"),
        (set("GrantSendOnBehalfTo", table(&[("Delete", "billing".into())])), "\"Delete\" is neither"),
        (set("Type", "Robot"), "Regular, Shared, Room, Equipment, Workspace, Desk"),
        (set("AuditOwner", list(&["Update", "MessageBind"])), "MailItemsAccessed"),
        (set("AuditLogAgeLimit", "-1.00:00:00"), "time span"),
        (set("RecipientLimits", "-1"), "from 0 on"),
        (set("RecipientLimits", 3_000_000_000_i64), "from 0 on"),
        (set("LitigationHoldDate", "soon"), "a time such as"),
        (set("RetentionPolicy", "No such policy"), "Default MRM Policy"),
        (set("AddressBookPolicy", "Sales"), "only $null"),
        (set("WindowsEmailAddress", Value::Null), "SMTP address"),
        (set("Alias", ""), "1 to 64"),
        (set("ExtensionCustomAttribute1", list(&["x", &"y".repeat(2049)])), "2049 characters"),
    ] {
        let ran = organisation.run(command.clone()).await;
        let Ended::Failed(record) = &ran.end else { panic!("{command:?}: {ran:?}") };
        assert!(record.message.contains(names), "{command:?}: {}", record.message);
        assert_eq!(organisation.entries().await.remove(0).outcome.unwrap().ending.word(), "failed", "{command:?}");
    }
    assert_eq!(organisation.read(ann()).await.remove(0), before);
    // What is there or gone already is not a change.
    for command in [
        set("EmailAddresses", add(own)),
        set("EmailAddresses", table(&[("Remove", "smtp:gone@contoso.com".into()), ("Add", Value::Null)])),
        set("Type", "regular"),
        set("RetentionPolicy", "Default MRM Policy"),
        set("AuditEnabled", true),
    ] {
        let ran = organisation.run(command.clone()).await;
        let text = "' have been modified.";
        assert!(ran.errors.is_empty() && ran.warnings.len() == 1 && ran.warnings[0].ends_with(text), "{command:?}: {ran:?}");
    }
    assert_eq!(organisation.read(ann()).await.remove(0), before);
}

#[tokio::test]
async fn a_litigation_hold_notes_when_and_by_whom() {
    let organisation = Organisation::seeded().await;
    let hold = || async {
        let ann = organisation.read(command("Get-Mailbox").with("Identity", "ann.beebe")).await.remove(0);
        json!([ann["LitigationHoldEnabled"], ann["LitigationHoldDate"], ann["LitigationHoldOwner"]])
    };
    organisation.run(set("LitigationHoldEnabled", true)).await;
    assert_eq!(hold().await, json!([true, "2026-11-24T09:30:00.0000000Z", "testkit"]));
    let changes = organisation.entries().await.remove(0).outcome.unwrap().changes;
    let names: Vec<_> = changes.iter().map(|c| (c.property.as_str(), c.old.as_str())).collect();
    assert_eq!(names, [("LitigationHoldDate", ""), ("LitigationHoldEnabled", "False"), ("LitigationHoldOwner", "")]);
    organisation.run(set("LitigationHoldEnabled", true).with("LitigationHoldOwner", "legal")).await;
    assert_eq!(hold().await, json!([true, "2026-11-24T09:30:00.0000000Z", "legal"]));
    organisation.run(set("LitigationHoldEnabled", false)).await;
    assert_eq!(hold().await, json!([false, null, null]));
    organisation.run(set("LitigationHoldEnabled", true).with("LitigationHoldDate", "2025-01-02T00:00:00Z")).await;
    assert_eq!(hold().await, json!([true, "2025-01-02T00:00:00.0000000Z", "testkit"]));
}

#[tokio::test]
async fn writers_of_one_mailbox_at_once_lose_nothing() {
    let organisation = Organisation::seeded().await;
    let mut runs = Vec::new();
    for number in 0..30 {
        let (name, own) = (format!("CustomAttribute{}", number % 15 + 1), format!("at.once{number}@contoso.com"));
        let change = set("EmailAddresses", table(&[("Add", own.as_str().into())])).with(&name, format!("{number}"));
        let invocation = organisation.invocation(change).await;
        let directory = organisation.directory.clone();
        runs.push(tokio::spawn(async move { collect(&directory, invocation).await }));
    }
    // Two that want the same address: one of them gets it.
    for identity in ["bob.castellano", "ann.beebe"] {
        let change =
            command("Set-Mailbox").with("Identity", identity).with("EmailAddresses", table(&[("Add", "wanted@contoso.com".into())]));
        let invocation = organisation.invocation(change).await;
        let directory = organisation.directory.clone();
        runs.push(tokio::spawn(async move { collect(&directory, invocation).await }));
    }
    let (mut errors, mut wanted) = (0, 0);
    for run in runs {
        let ran = run.await.unwrap();
        assert_eq!(ran.end, Ended::Completed);
        errors += ran.errors.len();
    }
    let found = organisation.read(command("Get-Mailbox").with("ResultSize", "Unlimited")).await;
    for mailbox in &found {
        wanted += mailbox["EmailAddresses"].as_array().unwrap().iter().filter(|a| **a == json!("smtp:wanted@contoso.com")).count();
    }
    assert_eq!((errors, wanted), (1, 1));
    let ann = found.iter().find(|m| m["Alias"] == "ann.beebe").unwrap();
    let added = ann["EmailAddresses"].as_array().unwrap().iter().filter(|a| a.as_str().is_some_and(|a| a.contains("at.once"))).count();
    assert_eq!(added, 30);
    let entries = organisation.entries().await;
    assert_eq!(entries.len(), 32);
    let ended = |word| entries.iter().filter(|e| e.outcome.as_ref().is_some_and(|o| o.ending.word() == word)).count();
    assert_eq!((ended("succeeded"), ended("failed")), (31, 1));
    // Each entry's before is another entry's after: nothing came in between.
    let of = |entry: &exops_audit::Entry| {
        let changes = entry.outcome.as_ref().map(|o| o.changes.clone()).unwrap_or_default();
        changes.into_iter().find(|c| c.property == "EmailAddresses" && c.new.contains("at.once"))
    };
    let lists: Vec<_> = entries.iter().filter_map(of).collect();
    let first = lists.iter().filter(|c| !lists.iter().any(|other| other.new == c.old)).count();
    assert!(first <= 2, "{first} changes begin from a list that no other change left");
}

#[tokio::test]
async fn lists_are_replaced_and_amended_over_both_transports() {
    let world = World::new().await;
    let (rest, rps) = (world.rest(), world.rps());
    let read = async |connection: &dyn Runspace| -> Json {
        let (objects, _, end) = world.run(connection, command("Get-Mailbox").with("Identity", "ann.beebe")).await;
        assert_eq!(end, Ended::Completed);
        let ann = canonical(&objects[0]);
        json!([ann["EmailAddresses"], ann["GrantSendOnBehalfTo"], ann["ExtensionCustomAttribute2"], ann["ForwardingAddress"]])
    };
    let own = format!("SMTP:ann.beebe@{}", exops_testkit::ORGANIZATION);
    for (number, connection) in [&rest as &dyn Runspace, &rps].into_iter().enumerate() {
        let extra = format!("smtp:extra{number}@contoso.com");
        for (parameter, value, expected) in [
            ("EmailAddresses", list(&[&own, &extra]), json!([[own, extra], [], [], null])),
            (
                "EmailAddresses",
                table(&[("Add", list(&["x500:/o=one", "two@contoso.com"])), ("Remove", extra.as_str().into())]),
                json!([[own, "x500:/o=one", "smtp:two@contoso.com"], [], [], null]),
            ),
            ("EmailAddresses", own.as_str().into(), json!([[own], [], [], null])),
            ("GrantSendOnBehalfTo", list(&["board", "payrollaccess"]), json!([[own], ["Board", "Payroll Access"], [], null])),
            ("GrantSendOnBehalfTo", table(&[("remove", "Board".into())]), json!([[own], ["Payroll Access"], [], null])),
            ("GrantSendOnBehalfTo", Value::Null, json!([[own], [], [], null])),
            ("ExtensionCustomAttribute2", list(&["one", "two"]), json!([[own], [], ["one", "two"], null])),
            (
                "ExtensionCustomAttribute2",
                table(&[("Add", "drei".into()), ("Remove", list(&["one", "two"]))]),
                json!([[own], [], ["drei"], null]),
            ),
            ("ExtensionCustomAttribute2", Value::Null, json!([[own], [], [], null])),
            ("ForwardingAddress", "board@contoso.com".into(), json!([[own], [], [], "Board"])),
            ("ForwardingAddress", Value::Null, json!([[own], [], [], null])),
        ] {
            let (_, warnings, end) = world.run(connection, set(parameter, value)).await;
            assert_eq!((end, warnings), (Ended::Completed, Vec::new()), "{number} {parameter}");
            assert_eq!(read(&rest).await, expected, "{number} {parameter}");
            assert_eq!(read(&rps).await, expected, "{number} {parameter}");
        }
    }
    rest.close().await;
    rps.close().await;
}

#[tokio::test]
async fn a_new_mailbox_is_there_after_a_restart_and_a_removed_one_leaves_nothing_behind() {
    let mut organisation = Organisation::seeded().await;
    let new = |name: &str, kind: &str| command("New-Mailbox").with("Name", name).with(kind, true);
    let made = organisation.read(new("Front Desk Île", "Shared").with("DisplayName", "Front Desk")).await.remove(0);
    let expected = json!({
        "Name": "Front Desk Île", "DisplayName": "Front Desk", "Alias": "FrontDeskÎle", "RecipientTypeDetails": "SharedMailbox",
        "PrimarySmtpAddress": "FrontDeskÎle@contoso.onmicrosoft.com", "IsShared": true, "IsResource": false, "AccountDisabled": true,
        "ProhibitSendReceiveQuota": "50 GB (53,687,091,200 bytes)", "WhenCreatedUTC": "2026-11-24T09:30:00.0000000Z",
        "EmailAddresses": ["SMTP:FrontDeskÎle@contoso.onmicrosoft.com"],
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(made[name], *value, "{name}");
    }
    let entry = organisation.entries().await.remove(0);
    let outcome = entry.outcome.unwrap();
    assert_eq!((entry.intent.cmdlet.as_str(), outcome.ending.word()), ("New-Mailbox", "succeeded"));
    assert!(outcome.object.ends_with("/Front Desk Île"), "{}", outcome.object);
    assert!(outcome.changes.iter().any(|c| c.property == "Alias" && c.old.is_empty() && c.new == "FrontDeskÎle"), "{outcome:?}");
    let room = new("Attic", "Room").with("ResourceCapacity", 12).with("Alias", "attic.1").with("PrimarySmtpAddress", "attic@contoso.com");
    let room = organisation.read(room.with("Phone", "+47 1")).await.remove(0);
    assert_eq!(room["EmailAddresses"], json!(["SMTP:attic@contoso.com", "smtp:attic.1@contoso.onmicrosoft.com"]));
    assert_eq!((&room["ResourceType"], &room["ResourceCapacity"]), (&json!("Room"), &json!(12)));
    let van = organisation.read(new("Second Van", "Equipment")).await.remove(0);
    assert_eq!((&van["ResourceType"], &van["RecipientTypeDetails"]), (&json!("Equipment"), &json!("EquipmentMailbox")));
    organisation = organisation.restarted().await;
    for made in [&made, &room, &van] {
        for name in ["Guid", "ExchangeGuid", "Name", "Alias", "PrimarySmtpAddress", "DistinguishedName", "UserPrincipalName"] {
            let found = organisation.read(command("Get-Mailbox").with("Identity", made[name].as_str().unwrap())).await;
            assert_eq!(found.as_slice(), std::slice::from_ref(made), "{name}");
        }
    }
    // What does not go is said, and nothing is made.
    let count = async || organisation.read(command("Get-Recipient").with("ResultSize", "Unlimited")).await.len();
    let before = count().await;
    for (command, names) in [
        (new("front desk île", "Room"), "\"frontdeskîle\" is already being used"),
        (new("Attic", "Shared").with("Alias", "attic.2"), "/Attic\" already exists"),
        (new("Attic Two", "Shared").with("PrimarySmtpAddress", "ATTIC@contoso.com"), "SMTP:attic@contoso.com\" is already being used"),
        (new("Attic Two", "Shared").with("PrimarySmtpAddress", "attic@elsewhere.example"), "\"elsewhere.example\""),
        (new("Attic Two", "Shared").with("PrimarySmtpAddress", "attic"), "\"attic\""),
        (new("Attic Two", "Shared").with("Alias", "attic two"), "\"attic two\""),
        (new("Attic Two", "Room").with("ResourceCapacity", "many"), "\"many\""),
        (new(&"x".repeat(65), "Shared"), "1 to 64 characters"),
    ] {
        let ran = organisation.run(command.clone()).await;
        let record = match &ran.end {
            Ended::Failed(record) => record,
            _ => &Box::new(ran.errors[0].clone()),
        };
        assert!(record.message.contains(names) && ran.output.is_empty(), "{command:?}: {}", record.message);
        let outcome = organisation.entries().await.remove(0).outcome.unwrap();
        assert_eq!((outcome.ending.reason(), outcome.object.is_empty()), (&*record.message, false), "{command:?}");
    }
    let ran = organisation.run(new("Attic Two", "Shared").with("WhatIf", true)).await;
    assert!(ran.host[0].starts_with("What if: Creating mailbox") && ran.output.is_empty(), "{ran:?}");
    assert_eq!(count().await, before);

    // Others name it: a member of a group, a forwarding, a delegate. All of that goes with it, and comes back with nobody.
    let group = organisation.read(command("Get-DistributionGroup").with("Identity", "payrollaccess")).await.remove(0);
    let member = group["Members"][0].as_str().unwrap().to_owned();
    let old = organisation.read(command("Get-Mailbox").with("Identity", member.as_str())).await.remove(0);
    let billing = |parameter: &str, value: Value| command("Set-Mailbox").with("Identity", "billing").with(parameter, value);
    organisation.run(billing("ForwardingAddress", member.as_str().into())).await;
    organisation.run(billing("GrantSendOnBehalfTo", list(&[&member, "board"]))).await;
    let remove = || command("Remove-Mailbox").with("Identity", member.as_str());
    let ran = organisation.run(remove().with("WhatIf", true)).await;
    assert!(ran.host[0].starts_with("What if: Removing mailbox Identity:"), "{ran:?}");
    assert_eq!(organisation.read(command("Get-Mailbox").with("Identity", member.as_str())).await.len(), 1);
    let ran = organisation.run(remove()).await;
    assert_eq!((&ran.end, ran.errors.len(), ran.output.len()), (&Ended::Completed, 0, 0));
    let outcome = organisation.entries().await.remove(0).outcome.unwrap();
    let alias = outcome.changes.iter().find(|c| c.property == "Alias").unwrap();
    assert_eq!((alias.old.as_str(), alias.new.as_str()), (old["Alias"].as_str().unwrap(), ""));
    assert!(outcome.changes.iter().all(|c| c.new.is_empty()), "nothing is claimed of what is gone: {outcome:?}");
    let addresses = outcome.changes.iter().find(|c| c.property == "EmailAddresses").unwrap();
    assert!(addresses.old.starts_with("SMTP:") && addresses.old.contains(";smtp:"), "{addresses:?}");
    organisation = organisation.restarted().await;
    let again = new(&member, "Shared").with("Alias", old["Alias"].as_str().unwrap());
    assert_eq!(organisation.run(again.clone()).await.errors.len(), 0, "its name and addresses are free");
    let group = organisation.read(command("Get-DistributionGroup").with("Identity", "payrollaccess")).await.remove(0);
    assert!(!group["Members"].as_array().unwrap().contains(&json!(member)), "{group}");
    let billing = organisation.read(command("Get-Mailbox").with("Identity", "billing")).await.remove(0);
    assert_eq!((&billing["ForwardingAddress"], &billing["GrantSendOnBehalfTo"]), (&Json::Null, &json!(["Board"])));
    let ran = organisation.run(command("Remove-Mailbox").with("Identity", "board")).await;
    assert!(ran.errors[0].message.contains("'board' couldn't be found"), "a group is not a mailbox: {ran:?}");
    let entry = organisation.entries().await.remove(0);
    assert_eq!((entry.intent.cmdlet.as_str(), entry.outcome.unwrap().ending.word()), ("Remove-Mailbox", "failed"));
}

#[tokio::test]
async fn a_write_scope_holds_before_and_after_a_change() {
    const MODEL: &str = "directory-role Exchange Administrator = Room Keepers, Labellers
        group Room Keepers = Rooms
        group Labellers = Labels
        role Rooms = Set-Mailbox, New-Mailbox, Remove-Mailbox
        role Labels = Set-Mailbox(Identity CustomAttribute1 WhatIf)
        scope Room Keepers = RecipientTypeDetails -eq 'RoomMailbox'";
    let organisation = Organisation::seeded().await;
    let rights = RoleModel::parse(MODEL).unwrap().rights(&organisation.caller);
    let asking = async |command: Command, confirm: Confirm| {
        let mut invocation = organisation.invocation(command).await;
        invocation.confirm = confirm;
        let Some(Stage::Cmdlet(bound)) = invocation.pipeline.stages.first() else { panic!() };
        let parameters: Vec<&str> = bound.arguments.iter().map(|a| &*a.parameter.name).collect();
        let request = Request { cmdlet: &bound.cmdlet.name, parameters: &parameters, digest: bound.digest() };
        let Decision::Permit(permit) = decide(&rights, &organisation.caller, request) else { panic!("denied") };
        invocation.permit = Some(permit);
        collect(&organisation.directory, invocation).await
    };
    let run = |command| asking(command, Confirm::Yes);
    let room = |parameter: &str, value: &str| command("Set-Mailbox").with("Identity", "roomoslo101").with(parameter, value);
    let new = |kind: &str| command("New-Mailbox").with("Name", "Cellar").with(kind, true);
    let before = organisation.read(command("Get-Recipient").with("ResultSize", "Unlimited")).await;
    for (command, allowed) in [
        (set("CustomAttribute2", "x"), false),
        (room("Type", "Regular"), false),
        (new("Shared"), false),
        (command("Remove-Mailbox").with("Identity", "ann.beebe"), false),
        // Another assignment grants this one parameter on everything, but none on what it does not hold.
        (set("CustomAttribute1", "x").with("CustomAttribute2", "x"), false),
        (set("CustomAttribute1", "x"), true),
        (room("CustomAttribute2", "x"), true),
        (new("Room"), true),
        (command("Remove-Mailbox").with("Identity", "cellar"), true),
    ] {
        let ran = run(command.clone()).await;
        assert_eq!((ran.errors.is_empty(), &ran.end), (allowed, &Ended::Completed), "{command:?}: {ran:?}");
        let outcome = organisation.entries().await.remove(0).outcome.unwrap();
        assert_eq!(outcome.ending.word() == "succeeded", allowed, "{command:?}");
        if !allowed {
            assert!(ran.errors[0].message.contains("it's out of the current user's write scope"), "{command:?}: {ran:?}");
            assert_eq!(organisation.read(crate::directory::command("Get-Recipient").with("ResultSize", "Unlimited")).await, before);
        }
    }
    // What is outside is refused before anybody is told what would be done, or asked.
    for (outside, confirm) in
        [(true, Confirm::Yes), (false, Confirm::ReportOnly), (false, Confirm::Ask)].into_iter().flat_map(|(what_if, confirm)| {
            let remove = command("Remove-Mailbox").with("Identity", "ann.beebe");
            [new("Shared"), set("CustomAttribute2", "x"), remove].map(|command| (command.with("WhatIf", what_if), confirm))
        })
    {
        let ran = asking(outside.clone(), confirm).await;
        assert!(ran.host.is_empty() && ran.errors[0].message.contains("write scope"), "{outside:?}, {confirm:?}: {ran:?}");
        assert!(organisation.entries().await.iter().all(|entry| entry.outcome.is_some()), "an entry was left open");
    }
    let inside = asking(new("Room").with("WhatIf", true), Confirm::Yes).await;
    assert!(inside.host[0].starts_with("What if: Creating mailbox"), "{inside:?}");
    let wrong = MODEL.replace("-eq 'RoomMailbox'", "-eq");
    assert!(RoleModel::parse(&wrong).unwrap_err().problem.contains("Room Keepers"));
    assert!(RoleModel::parse(&MODEL.replace("scope Room Keepers", "scope Nobody")).unwrap_err().problem.contains("'Nobody'"));
}
