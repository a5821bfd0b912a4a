//! Permissions on mailboxes and recipients.

use exops_catalogue::Command;
use exops_psobject::Value;
use exops_runspace::Ended;
use serde_json::{Value as Json, json};

use super::{Organisation, Ran, command, list, object};

const SELF: &str = "NT AUTHORITY\\SELF";

fn on(verb: &str, user: &str, rights: impl Into<Value>) -> Command {
    command(&format!("{verb}-MailboxPermission")).with("Identity", "billing").with("User", user).with("AccessRights", rights.into())
}

fn send_as(verb: &str, target: &str, trustee: &str) -> Command {
    command(&format!("{verb}-RecipientPermission")).with("Identity", target).with("Trustee", trustee).with("AccessRights", "SendAs")
}

/// Who has what, after the row that every mailbox has.
fn rights(rows: &[Json], who: &str) -> Vec<(String, Json)> {
    assert_eq!(rows[0][who], SELF);
    rows[1..].iter().map(|row| (row[who].as_str().unwrap().to_owned(), row["AccessRights"].clone())).collect()
}

fn done(ran: &Ran) {
    assert_eq!((&ran.end, ran.errors.len(), ran.warnings.len()), (&Ended::Completed, 0, 0), "{ran:?}");
}

#[tokio::test]
async fn rights_to_a_mailbox_come_and_go() {
    let mut organisation = Organisation::seeded().await;
    let get = || command("Get-MailboxPermission").with("Identity", "billing");
    let rows = organisation.read(get()).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["Identity"], "billing20260101091510");
    assert_eq!((&rows[0]["AccessRights"], &rows[0]["UserSid"]), (&json!(["FullAccess", "ReadPermission"]), &json!("S-1-5-10")));

    // By any identity; what is shown is the row with its types.
    let ann = organisation.read(command("Get-Mailbox").with("Identity", "ann.beebe")).await.remove(0);
    let upn = ann["UserPrincipalName"].as_str().unwrap();
    let ran = organisation.run(on("Add", ann["Guid"].as_str().unwrap(), list(["fullaccess"])).with("AutoMapping", false)).await;
    done(&ran);
    let row = object(&ran.output[0]);
    assert_eq!(&*row.type_names[0], "Microsoft.Exchange.Management.RecipientTasks.MailboxAcePresentationObject");
    let names: Vec<_> = row.adapted.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["User", "IsInherited", "AccessRights", "Identity", "Deny", "InheritanceType", "UserSid", "IsValid", "ObjectState"]);
    let outcome = organisation.entries().await.remove(0).outcome.unwrap();
    assert_eq!(
        (&*outcome.changes[0].property, outcome.changes[0].new.as_str()),
        ("MailboxPermission", &*format!("{upn}: FullAccess (not mapped automatically)"))
    );
    assert!(outcome.object.contains("/billing2026"), "{}", outcome.object);
    organisation = organisation.restarted().await;
    let full = (upn.to_owned(), json!(["FullAccess"]));
    assert_eq!(rights(&organisation.read(get()).await, "User"), std::slice::from_ref(&full));

    // There already: a warning, and no change. One more right, a group, and a refusal of a right are entries.
    let again = organisation.run(on("Add", "ann.beebe", "FullAccess")).await;
    assert!(again.output.is_empty() && again.errors.is_empty() && again.warnings[0].contains("already present"), "{again:?}");
    assert!(organisation.entries().await[0].outcome.as_ref().unwrap().changes.is_empty());
    done(&organisation.run(on("Add", "ann.beebe", "ReadPermission, FullAccess")).await);
    done(&organisation.run(on("Add", "Payroll Access", list(["DeleteItem"])).with("InheritanceType", "none")).await);
    done(&organisation.run(on("Add", "ann.beebe", "ChangeOwner").with("Deny", true)).await);
    let rows = organisation.read(get()).await;
    let both = (upn.to_owned(), json!(["FullAccess", "ReadPermission"]));
    let group = ("Payroll Access".to_owned(), json!(["DeleteItem"]));
    assert_eq!(rights(&rows, "User"), [both.clone(), group.clone(), (upn.to_owned(), json!(["ChangeOwner"]))]);
    assert_eq!((&rows[2]["InheritanceType"], &rows[1]["Deny"], &rows[3]["Deny"]), (&json!("None"), &json!(false), &json!(true)));
    for (user, count) in [(SELF, 1), ("payrollaccess", 1), ("ann.beebe", 2), ("Laser Cutter", 0)] {
        assert_eq!(organisation.read(get().with("User", user)).await.len(), count, "{user}");
    }
    let cut = organisation.run(get().with("ResultSize", 2)).await;
    assert_eq!((cut.output.len(), cut.warnings.len()), (2, 1));

    // What is refused changes nothing, and is in the trail as failed.
    for (wrong, text) in [
        (on("Add", "nobody", "FullAccess"), "'nobody'"),
        (on("Remove", "nobody", "FullAccess"), "'nobody'"),
        (on("Add", "Irene Ivanova", "FullAccess"), "multiple entries"),
        (on("Add", "dana.novotna@fabrikam.example", "FullAccess"), "MailContact"),
        (on("Add", SELF, "FullAccess"), "belong to every mailbox"),
        (on("Add", "ann.beebe", "SendAs"), "Add-RecipientPermission"),
        (on("Add", "ann.beebe", list(["FullAccess", "Everything"])), "ChangeOwner"),
        (on("Add", "ann.beebe", "DeleteItem").with("InheritanceType", "Perhaps"), "SelfAndChildren"),
        (on("Add", "ann.beebe", "DeleteItem").with("AutoMapping", "perhaps"), "$true or $false"),
        (
            command("Add-MailboxPermission")
                .with("Identity", "Payroll Access")
                .with("User", "Laser Cutter")
                .with("AccessRights", "FullAccess"),
            "'Payroll Access'",
        ),
    ] {
        organisation.fails_with(wrong, text).await;
        assert_eq!(organisation.entries().await[0].outcome.as_ref().unwrap().ending.word(), "failed", "{text}");
    }
    let asked = organisation.run(on("Remove", "ann.beebe", "FullAccess").with("WhatIf", true)).await;
    assert!(asked.host[0].starts_with("What if: Removing the right FullAccess on "), "{:?}", asked.host);
    assert_eq!(organisation.read(get()).await, rows);

    // Removal: a part, what is not there, and the rest.
    done(&organisation.run(on("Remove", "ann.beebe", "ReadPermission")).await);
    let missing = organisation.run(on("Remove", "ann.beebe", "ReadPermission")).await;
    assert!(missing.errors.is_empty() && missing.warnings[0].contains("isn't present"), "{missing:?}");
    done(&organisation.run(on("Remove", "ann.beebe", "ChangeOwner").with("Deny", true)).await);
    assert_eq!(rights(&organisation.read(get()).await, "User"), [full, group.clone()]);

    // Whoever goes leaves no right behind, and a newcomer of that name has none.
    done(&organisation.run(command("Remove-Mailbox").with("Identity", "ann.beebe")).await);
    assert_eq!(rights(&organisation.read(get()).await, "User"), std::slice::from_ref(&group));
    done(&organisation.run(command("New-Mailbox").with("Name", "Ann Beebe").with("Alias", "ann.beebe").with("Shared", true)).await);
    assert_eq!(rights(&organisation.read(get()).await, "User"), [group]);
    // With the mailbox go its entries.
    done(&organisation.run(command("Remove-Mailbox").with("Identity", "billing")).await);
    assert_eq!(organisation.run(get()).await.errors.len(), 1);
}

#[tokio::test]
async fn the_right_to_send_as_somebody() {
    let mut organisation = Organisation::seeded().await;
    let get = |target: &str| command("Get-RecipientPermission").with("Identity", target);
    let ran = organisation.run(send_as("Add", "billing", "ann.beebe")).await;
    done(&ran);
    assert_eq!(&*object(&ran.output[0]).type_names[0], "Microsoft.Exchange.Data.Directory.Permission.RecipientPermission");
    // A group and a contact can be sent as too; they have no row of their own.
    done(&organisation.run(send_as("Add", "Payroll Access", "Laser Cutter")).await);
    done(&organisation.run(send_as("Add", "dana.novotna@fabrikam.example", "ann.beebe")).await);
    organisation = organisation.restarted().await;
    let rows = organisation.read(get("billing")).await;
    assert_eq!(rights(&rows, "Trustee"), [("ann.beebe@contoso.onmicrosoft.com".to_owned(), json!(["SendAs"]))]);
    assert_eq!((&rows[1]["AccessControlType"], &rows[1]["InheritanceType"]), (&json!("Allow"), &json!("All")));
    assert_eq!(organisation.read(get("Payroll Access")).await.len(), 1);
    // Rights to the mailbox are another matter.
    assert_eq!(organisation.read(command("Get-MailboxPermission").with("Identity", "billing")).await.len(), 1);
    // Without identity: of everybody, by trustee.
    let of_ann = organisation.read(command("Get-RecipientPermission").with("Trustee", "ann.beebe").with("ResultSize", "Unlimited")).await;
    assert_eq!(of_ann.len(), 2);
    assert_eq!(organisation.read(command("Get-RecipientPermission").with("ResultSize", 5)).await.len(), 5);

    for (wrong, text) in [
        (send_as("Add", "nobody", "ann.beebe"), "'nobody'"),
        (send_as("Add", "billing", "nobody"), "'nobody'"),
        (send_as("Add", "billing", "dana.novotna@fabrikam.example"), "MailContact"),
        (
            command("Add-RecipientPermission")
                .with("Identity", "billing")
                .with("Trustee", "Laser Cutter")
                .with("AccessRights", "FullAccess"),
            "Add-MailboxPermission",
        ),
    ] {
        organisation.fails_with(wrong, text).await;
    }
    let again = organisation.run(send_as("Add", "billing", "ann.beebe")).await;
    assert!(again.warnings[0].contains("already present"), "{again:?}");
    done(&organisation.run(send_as("Remove", "billing", "ann.beebe")).await);
    let missing = organisation.run(send_as("Remove", "billing", "ann.beebe")).await;
    assert!(missing.errors.is_empty() && missing.warnings[0].contains("isn't present"), "{missing:?}");
    assert_eq!(organisation.read(get("billing")).await.len(), 1);
}

#[tokio::test]
async fn owner_default_and_automatic_mapping() {
    let mut organisation = Organisation::seeded().await;
    let get = || command("Get-MailboxPermission").with("Identity", "billing");
    let add = || command("Add-MailboxPermission").with("Identity", "billing");
    let remove = || command("Remove-MailboxPermission").with("Identity", "billing");
    let changes = async |organisation: &Organisation| {
        let outcome = organisation.entries().await.remove(0).outcome.unwrap();
        outcome.changes.into_iter().map(|c| (c.property.clone(), c.old.clone(), c.new.clone())).collect::<Vec<_>>()
    };
    let change = |property: &str, old: &str, new: &str| vec![(property.to_owned(), old.to_owned(), new.to_owned())];
    let ann = "ann.beebe@contoso.onmicrosoft.com";

    // The owner: the mailbox itself, until somebody else is.
    let owner = async |organisation: &Organisation| organisation.read(get().with("Owner", true)).await;
    let shown = organisation.run(get().with("Owner", true)).await;
    assert_eq!(&*object(&shown.output[0]).type_names[0], "Microsoft.Exchange.Management.RecipientTasks.OwnerPresentationObject");
    assert_eq!(owner(&organisation).await[0]["Owner"], SELF);
    assert!(organisation.run(add().with("Owner", SELF)).await.warnings[0].contains("no settings of"));
    done(&organisation.run(add().with("Owner", "ann.beebe")).await);
    assert_eq!(changes(&organisation).await, change("Owner", SELF, ann));
    organisation = organisation.restarted().await;
    let rows = owner(&organisation).await;
    assert_eq!((rows.len(), &rows[0]["Owner"], &rows[0]["Identity"]), (1, &json!(ann), &json!("billing20260101091510")));
    // It is no right, and a contact cannot be one.
    assert_eq!(organisation.read(get()).await.len(), 1);
    for wrong in ["nobody", "dana.novotna@fabrikam.example"] {
        assert_eq!(organisation.run(add().with("Owner", wrong)).await.errors.len(), 1, "{wrong}");
    }
    assert!(matches!(organisation.run(add().with("Owner", " ")).await.end, Ended::Failed(_)));

    // Mapping belongs to FullAccess of users that is granted.
    for (user, rights, deny, auto, told) in [
        ("ann.beebe", "FullAccess", false, true, "FullAccess"),
        ("Payroll Access", "FullAccess", false, true, "FullAccess (not mapped automatically)"),
        ("Laser Cutter", "ReadPermission", false, true, "ReadPermission"),
        ("Laser Cutter", "FullAccess", true, true, "Deny FullAccess"),
        ("roomoslo101", "FullAccess", false, false, "FullAccess (not mapped automatically)"),
    ] {
        let ran = organisation.run(on("Add", user, rights).with("Deny", deny).with("AutoMapping", auto)).await;
        done(&ran);
        let new = changes(&organisation).await.remove(0).2;
        assert!(new.ends_with(&format!(": {told}")), "{new}");
    }
    let rows = organisation.read(get()).await;
    assert_eq!(rows.len(), 6);
    done(&organisation.run(remove().with("ClearAutoMapping", true)).await);
    let (_, old, new) = changes(&organisation).await.remove(0);
    assert!(
        old.contains(&format!("{ann}: FullAccess;")) && new.contains(&format!("{ann}: FullAccess (not mapped automatically);")),
        "{old} {new}"
    );
    assert_eq!(organisation.read(get()).await, rows, "rights are as before");
    assert!(organisation.run(remove().with("ClearAutoMapping", true)).await.warnings[0].contains("no settings of"));
    // The right that is new says again whether it is mapped.
    done(&organisation.run(on("Add", "Laser Cutter", "FullAccess")).await);
    assert!(changes(&organisation).await[0].2.contains("FullAccess, ReadPermission;"), "{:?}", changes(&organisation).await);

    // Without effect on a removed mailbox, of which there are none; by question only with -WhatIf.
    for command in [get().with("SoftDeletedMailbox", true), on("Remove", "ann.beebe", "FullAccess").with("SoftDeletedMailbox", true)] {
        assert_eq!(&*organisation.run(command).await.errors[0].reason, "ManagementObjectNotFoundException");
    }
    let asked = organisation.run(remove().with("ResetDefault", true).with("WhatIf", true)).await;
    assert!(asked.host[0].starts_with("What if: Resetting the permissions on "), "{:?}", asked.host);
    assert_eq!(organisation.read(get()).await.len(), 6);

    done(&organisation.run(remove().with("ResetDefault", true)).await);
    let changed = changes(&organisation).await;
    assert_eq!(changed.iter().map(|(name, _, new)| (&**name, &**new)).collect::<Vec<_>>(), [("MailboxPermission", ""), ("Owner", SELF)]);
    organisation = organisation.restarted().await;
    assert_eq!((organisation.read(get()).await.len(), &owner(&organisation).await[0]["Owner"]), (1, &json!(SELF)));
    assert!(organisation.run(remove().with("ResetDefault", true)).await.warnings[0].contains("no settings of"));

    // An owner who goes leaves none behind.
    done(&organisation.run(add().with("Owner", "roomoslo101")).await);
    done(&organisation.run(command("Remove-Mailbox").with("Identity", "roomoslo101")).await);
    assert_eq!(owner(&organisation).await[0]["Owner"], SELF);

    // A denial of SendAs is never there.
    let none = organisation.run(send_as("Remove", "billing", "ann.beebe").with("Deny", true)).await;
    assert!(none.warnings[0].contains("isn't present"), "{none:?}");
}
