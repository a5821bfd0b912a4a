//! Changing mailboxes: every parameter, what is refused, and what a change needs before it begins.

use exops_catalogue::{Pipeline, UnknownNames, bind};
use exops_directory::Directory;
use exops_directory::nouns::{Form, noun};
use exops_policy::DirectoryRole;
use exops_psobject::{Base, PsObject, TimeSpan, Value};
use exops_runspace::{Confirm, Ended, Invocation, Runspace as _};
use exops_testkit::caller;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{Organisation, collect, command, identities, list};

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
        ("Name", _) => vec![("Beebe, \"Ann\"".into(), json!("Beebe, \"Ann\"")), ("Ann Beebe".into(), json!("Ann Beebe"))],
        ("SendModerationNotifications", _) => vec![("never".into(), json!("Never")), ("Always".into(), json!("Always"))],
        ("GrantSendOnBehalfTo" | "ModeratedBy" | "BypassModerationFromSendersOrMembers", _) => vec![
            (list(&["payrollaccess", "Laser Cutter"]), json!(["Payroll Access", "Laser Cutter"])),
            (amend("board@contoso.com", "Payroll Access"), json!(["Laser Cutter", "Board"])),
            (Value::Null, json!([])),
        ],
        (name, _) if name.ends_with("MessagesOnlyFrom") || name.ends_with("MessagesFrom") => vec![
            (list(&["billing", "Laser Cutter"]), json!(["billing20260101091510", "Laser Cutter"])),
            (amend("ann.beebe", "billing"), json!(["Laser Cutter", "Ann Beebe"])),
            (Value::Null, json!([])),
        ],
        (name, _) if name.ends_with("FromDLMembers") => {
            vec![("board".into(), json!(["Board"])), (amend("payrollaccess", "board"), json!(["Payroll Access"])), (Value::Null, json!([]))]
        }
        (name, _) if name.ends_with("FromSendersOrMembers") => vec![
            (list(&["payrollaccess", "Laser Cutter"]), json!(["Laser Cutter", "Payroll Access"])),
            (amend("board@contoso.com", "Laser Cutter"), json!(["Payroll Access", "Board"])),
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
        ("Name", _) => ("Pay, \"Roll\"".into(), json!("Pay, \"Roll\"")),
        ("SendModerationNotifications", _) => ("internal".into(), json!("Internal")),
        ("WindowsEmailAddress" | "PrimarySmtpAddress", _) => (PAYROLL.into(), json!(PAYROLL)),
        ("ManagedBy" | "GrantSendOnBehalfTo" | "ModeratedBy" | "BypassModerationFromSendersOrMembers", _) => {
            (list(["ann.beebe", "Laser Cutter"]), json!(["Ann Beebe", "Laser Cutter"]))
        }
        (name, _) if name.ends_with("MessagesOnlyFrom") || name.ends_with("MessagesFrom") => ("ann.beebe".into(), json!(["Ann Beebe"])),
        (name, _) if name.ends_with("FromDLMembers") => ("board".into(), json!(["Board"])),
        (name, _) if name.ends_with("FromSendersOrMembers") => (list(["board", "Laser Cutter"]), json!(["Laser Cutter", "Board"])),
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
        command("Get-Mailbox").with("Migration", true),
        command("Get-Mailbox").with("IncludeEmailAddressDisplayNames", true),
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
