//! Groups and their members.

use exops_directory::Directory;
use exops_directory::nouns::noun;
use exops_psobject::Value;
use exops_runspace::Ended;
use serde_json::{Value as Json, json};

use super::{Organisation, PAYROLL, command, group_value, list};

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
        organisation.fails_with(set().with(parameter, value), text).await;
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
        organisation.fails_with(wrong, text).await;
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
