//! New names of objects and whatever refers to them; and that what scripts use is served.

use std::collections::BTreeSet;

use exops_catalogue::{Catalogue, Command};
use exops_directory::Directory;
use exops_directory::nouns::noun;
use exops_psobject::Value;
use exops_runspace::Ended;
use serde_json::{Value as Json, json};

use super::{Organisation, Ran, collect, command, list, table};

/// Cmdlet, and the parameters that public scripts give it (18 repositories, 918 scripts), without the common ones.
const USED: [(&str, &str); 23] = [
    ("Add-DistributionGroupMember", "BypassSecurityGroupManagerCheck Identity Member"),
    ("Add-MailboxPermission", "AccessRights AutoMapping Identity InheritanceType User"),
    ("Add-RecipientPermission", "AccessRights Identity Trustee"),
    ("Get-AcceptedDomain", "Identity"),
    ("Get-DistributionGroup", "Filter Identity RecipientTypeDetails ResultSize"),
    ("Get-DistributionGroupMember", "Identity ResultSize"),
    ("Get-Group", "Identity"),
    ("Get-MailContact", "Identity ResultSize"),
    (
        "Get-Mailbox",
        "Arbitration Archive Database DomainController Filter GroupMailbox Identity InactiveMailboxOnly IncludeInactiveMailbox MailboxPlan \
         PublicFolder RecipientTypeDetails ResultSize SoftDeletedMailbox",
    ),
    ("Get-MailboxPermission", "Identity SoftDeletedMailbox User"),
    (
        "Get-Recipient",
        "Filter Identity IncludeSoftDeletedRecipients OrganizationalUnit RecipientPreviewFilter RecipientTypeDetails ResultSize SortBy",
    ),
    ("Get-RecipientPermission", "AccessRights Identity ResultSize Trustee"),
    ("Get-User", "DomainController Filter Identity RecipientTypeDetails ResultSize"),
    (
        "New-DistributionGroup",
        "Alias Description DisplayName ManagedBy Members Name PrimarySmtpAddress RequireSenderAuthenticationEnabled RoomList Type",
    ),
    ("New-Mailbox", "Alias DisplayName Equipment Name PrimarySmtpAddress Shared"),
    ("Remove-DistributionGroup", "BypassSecurityGroupManagerCheck Identity"),
    ("Remove-DistributionGroupMember", "BypassSecurityGroupManagerCheck Identity Member"),
    ("Remove-Mailbox", "Identity"),
    ("Remove-MailboxPermission", "AccessRights Identity InheritanceType User"),
    ("Remove-RecipientPermission", "AccessRights Identity Trustee"),
    (
        "Search-UnifiedAuditLog",
        "EndDate Formatted FreeText IPAddresses ObjectIds Operations RecordType ResultSize SessionCommand SessionId StartDate UserIds",
    ),
    (
        "Set-DistributionGroup",
        "Alias BypassSecurityGroupManagerCheck CustomAttribute15 Description DisplayName EmailAddresses HiddenFromAddressListsEnabled \
         Identity ManagedBy Name PrimarySmtpAddress RequireSenderAuthenticationEnabled",
    ),
    (
        "Set-Mailbox",
        "AddressBookPolicy Alias AuditAdmin AuditDelegate AuditEnabled AuditLogAgeLimit AuditOwner CustomAttribute13 CustomAttribute15 \
         CustomAttribute5 CustomAttribute6 DeliverToMailboxAndForward DisplayName EmailAddresses ExcludeFromAllHolds \
         ExtensionCustomAttribute2 ForwardingAddress ForwardingSmtpAddress GrantSendOnBehalfTo HiddenFromAddressListsEnabled Identity \
         InactiveMailbox IsExchangeCloudManaged IssueWarningQuota LitigationHoldDate LitigationHoldEnabled LitigationHoldOwner \
         MessageCopyForSendOnBehalfEnabled MessageCopyForSentAsEnabled ProhibitSendQuota ProhibitSendReceiveQuota RecipientLimits \
         RetentionPolicy Type WindowsEmailAddress",
    ),
];

#[test]
fn what_scripts_use_and_the_session_has_is_served() {
    let catalogue = Catalogue::built_in();
    let mut count = 0;
    for (cmdlet, used) in USED {
        let served = Directory::served_parameters(cmdlet).unwrap();
        let known = catalogue.cmdlet(cmdlet).unwrap();
        for parameter in used.split_whitespace().filter_map(|name| known.parameter(name)) {
            assert!(served.iter().any(|s| **s == *parameter.name), "{cmdlet} -{}", parameter.name);
            count += 1;
        }
    }
    assert!(count > 130, "{count}");
    println!("{count} parameters that scripts use and the session catalogue has, all served");
}

fn set(kind: &str, identity: &str, parameter: &str, value: impl Into<Value>) -> Command {
    command(&format!("Set-{kind}")).with("Identity", identity).with(parameter, value.into())
}

fn clean(ran: &Ran) {
    assert_eq!((&ran.end, ran.errors.len(), ran.warnings.len()), (&Ended::Completed, 0, 0), "{ran:?}");
}

fn names(rows: &[Json]) -> Vec<&str> {
    rows.iter().filter_map(|row| row["Name"].as_str()).collect()
}

#[tokio::test]
async fn references_follow_a_new_name() {
    const NEW: &str = "O'Beebe, Ann \\ + <Ännchen>";
    let mut organisation = Organisation::seeded().await;
    let get = |kind: &str, identity: &str| command(&format!("Get-{kind}")).with("Identity", identity);
    // Ann is a member, an owner, a target of forwarding, and somebody on whose behalf others send.
    for command in [
        command("New-DistributionGroup")
            .with("Name", "Night Watch")
            .with("Members", list(["ann.beebe", "Board"]))
            .with("ManagedBy", "ann.beebe"),
        set("Mailbox", "billing", "ForwardingAddress", "ann.beebe"),
        set("Mailbox", "billing", "GrantSendOnBehalfTo", list(["Laser Cutter", "ann.beebe"])),
        set("DistributionGroup", "Board", "ModeratedBy", list(["ann.beebe"])),
        set("Mailbox", "ann.beebe", "GrantSendOnBehalfTo", list(["ann.beebe"])),
        command("Add-MailboxPermission").with("Identity", "billing").with("User", "ann.beebe").with("AccessRights", "FullAccess"),
    ] {
        let ran = organisation.run(command).await;
        assert_eq!((&ran.end, ran.errors.len()), (&Ended::Completed, 0), "{ran:?}");
    }
    let before = organisation.read(get("Mailbox", "ann.beebe")).await.remove(0);
    let old_dn = before["DistinguishedName"].as_str().unwrap().to_owned();
    let groups_with = |property: &str, dn: &str| {
        command("Get-DistributionGroup")
            .with("Filter", format!("{property} -eq '{}'", dn.replace('\'', "''")))
            .with("ResultSize", "Unlimited")
    };
    let member_of = organisation.read(groups_with("Members", &old_dn)).await;
    let managed = organisation.read(groups_with("ManagedBy", &old_dn)).await;
    assert!(names(&member_of).contains(&"Night Watch") && names(&managed).contains(&"Night Watch"));

    // Refused: no name, one that is too long, one that somebody has.
    let who = |name: &str| set("Mailbox", "ann.beebe", "Name", name);
    for (wrong, text) in
        [("x".repeat(65), "1 to 64 characters"), ("a\u{7}b".to_owned(), "1 to 64 characters"), ("board".to_owned(), "already exists")]
    {
        let ran = organisation.run(who(&wrong)).await;
        assert!(ran.errors.iter().any(|e| e.message.contains(text)), "{wrong}: {ran:?}");
        assert_eq!(organisation.read(get("Mailbox", "ann.beebe")).await[0], before);
        let outcome = organisation.entries().await.remove(0).outcome.unwrap();
        assert_eq!(outcome.ending.word(), "failed", "{outcome:?}");
    }
    let exists = organisation.run(who("Board")).await;
    assert_eq!(exists.errors[0].exception_type(), "Microsoft.Exchange.Data.Directory.ADObjectAlreadyExistsException");
    assert!(organisation.run(who("Ann Beebe")).await.warnings[0].contains("no settings of"));

    clean(&organisation.run(who(NEW)).await);
    let outcome = organisation.entries().await.remove(0).outcome.unwrap();
    let changed: Vec<_> = outcome.changes.iter().map(|c| (&*c.property, &*c.old)).collect();
    assert_eq!(changed, [("DistinguishedName", &*old_dn), ("GrantSendOnBehalfTo", "Ann Beebe"), ("Name", "Ann Beebe")]);
    organisation = organisation.restarted().await;
    let after = organisation.read(get("Mailbox", NEW)).await.remove(0);
    let dn = after["DistinguishedName"].as_str().unwrap().to_owned();
    assert_eq!(dn, old_dn.replace("CN=Ann Beebe,", "CN=O'Beebe\\, Ann \\\\ \\+ \\<Ännchen\\>,"));
    assert_eq!((&after["Identity"], &after["Id"], &after["GrantSendOnBehalfTo"]), (&json!(NEW), &json!(NEW), &json!([NEW])));
    assert_eq!(after["DisplayName"], before["DisplayName"]);
    // Found by what it has now, and no longer by what it had; the display name still names it.
    for identity in [&*dn, "ann.beebe", "Ann Beebe"] {
        assert_eq!(organisation.read(get("Recipient", identity)).await[0]["Guid"], before["Guid"], "{identity}");
    }
    let gone = organisation.run(get("Recipient", &old_dn)).await;
    assert_eq!(&*gone.errors[0].reason, "ManagementObjectNotFoundException");
    // Everything that refers to it does so by the new name.
    let billing = organisation.read(get("Mailbox", "billing")).await.remove(0);
    assert_eq!((&billing["ForwardingAddress"], &billing["GrantSendOnBehalfTo"]), (&json!(NEW), &json!(["Laser Cutter", NEW])));
    let watch = organisation.read(get("DistributionGroup", "Night Watch")).await.remove(0);
    assert_eq!((&watch["Members"], &watch["ManagedBy"]), (&json!([NEW, "Board"]), &json!([NEW])));
    assert_eq!(organisation.read(get("DistributionGroup", "Board")).await[0]["ModeratedBy"], json!([NEW]));
    let members = organisation.read(command("Get-DistributionGroupMember").with("Identity", "Night Watch")).await;
    assert_eq!(names(&members), [NEW, "Board"]);
    let rights = organisation.read(command("Get-MailboxPermission").with("Identity", "billing").with("User", &*dn)).await;
    assert_eq!(rights[0]["AccessRights"], json!(["FullAccess"]));

    // Filters by the new DN: who has it as a member or owner, and who is in a group.
    assert_eq!(names(&organisation.read(groups_with("Members", &dn)).await), names(&member_of));
    assert_eq!(names(&organisation.read(groups_with("ManagedBy", &dn)).await), names(&managed));
    assert_eq!(organisation.read(groups_with("Members", &old_dn)).await, Vec::<Json>::new());
    let everybody = organisation.read(command("Get-Recipient").with("ResultSize", "Unlimited")).await.len();
    let watch_dn = watch["DistinguishedName"].as_str().unwrap();
    let count = async |kind: &str, filter: &str| {
        organisation.read(command(kind).with("Filter", filter).with("ResultSize", "Unlimited")).await.len()
    };
    let inside = format!("MemberOfGroup -eq '{watch_dn}'");
    assert_eq!(names(&organisation.read(command("Get-Mailbox").with("Filter", &*inside)).await), [NEW]);
    assert_eq!((count("Get-Recipient", &inside).await, count("Get-DistributionGroup", &inside).await), (2, 1));
    assert_eq!(count("Get-Recipient", &inside.replace("-eq", "-ne")).await, everybody - 2);
    assert_eq!(count("Get-User", &format!("-not ({inside}) -and UserPrincipalName -like 'ann.beebe@*'")).await, 0);
    let (none, some) = (count("Get-Recipient", "MemberOfGroup -eq $null").await, count("Get-Recipient", "MemberOfGroup -ne $null").await);
    assert!(none + some == everybody && some > 2, "{none} {some} {everybody}");
    assert_eq!(count("Get-Recipient", "MemberOfGroup -eq 'nobody'").await, 0);
    for nobody in ["*", "00000000-0000-0000-0000-000000000000"] {
        let filter = format!("MemberOfGroup -eq $null -or MemberOfGroup -eq '{nobody}'");
        assert_eq!(count("Get-Recipient", &filter).await, none, "{filter}");
    }
    let twice = format!("{} -and (MemberOfGroup -eq 'NIGHT watch' -or MemberOfGroup -ne $null)", inside.replace("Night", "night"));
    assert_eq!(count("Get-Recipient", &twice).await, 2);
    assert_eq!(count("Get-Recipient", &format!("Members -eq '{}'", dn.replace('\'', "''"))).await, member_of.len());
    for wrong in ["MemberOfGroup -like '*Watch*'", "MemberOfGroup -gt 'Night Watch'"] {
        let ran = organisation.run(command("Get-Mailbox").with("Filter", wrong)).await;
        assert!(matches!(&ran.end, Ended::Failed(r) if r.message.contains("MemberOfGroup")), "{wrong}: {ran:?}");
    }

    // A group by another name stays a member where it is one.
    clean(&organisation.run(set("DistributionGroup", "Board", "Name", "Directors")).await);
    assert_eq!(organisation.read(get("DistributionGroup", "Night Watch")).await[0]["Members"], json!([NEW, "Directors"]));
    // Another primary address keeps the one before as a secondary one.
    let old = organisation.read(get("DistributionGroup", "Directors")).await[0]["PrimarySmtpAddress"].clone();
    clean(&organisation.run(set("DistributionGroup", "Directors", "PrimarySmtpAddress", "directors@contoso.com")).await);
    let directors = organisation.read(get("DistributionGroup", "directors@contoso.com")).await.remove(0);
    let addresses = directors["EmailAddresses"].as_array().unwrap();
    assert_eq!(directors["PrimarySmtpAddress"], "directors@contoso.com");
    for address in ["SMTP:directors@contoso.com".to_owned(), format!("smtp:{}", old.as_str().unwrap())] {
        assert!(addresses.contains(&json!(address)), "{addresses:?}");
    }
    // Whoever goes is referred to no longer, by any name.
    clean(&organisation.run(command("Remove-Mailbox").with("Identity", NEW)).await);
    assert_eq!(organisation.read(get("DistributionGroup", "Night Watch")).await[0]["Members"], json!(["Directors"]));
    assert_eq!(organisation.read(get("Mailbox", "billing")).await[0]["ForwardingAddress"], Json::Null);
}

/// References of mailboxes and groups that are no recipient's name.
async fn dangling(organisation: &Organisation) -> Vec<String> {
    let all = async |kind: &str| organisation.read(command(kind).with("ResultSize", "Unlimited")).await;
    let everybody = all("Get-Recipient").await;
    let everybody: BTreeSet<_> = names(&everybody).into_iter().collect();
    let mut lost = Vec::new();
    for kind in ["Mailbox", "DistributionGroup"] {
        let properties = || noun(kind).unwrap().properties.iter().filter(|p| p.reference);
        for row in all(&format!("Get-{kind}")).await {
            for property in properties() {
                let value = &row[&*property.name];
                let held = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice).iter().filter_map(Json::as_str);
                let held = held.filter(|name| !everybody.contains(name));
                lost.extend(held.map(|name| format!("{} {}: {name}", row["Name"], property.name)));
            }
        }
    }
    lost
}

/// Renamed by two, referred to by five, and somebody is removed: whoever is named is there by that name.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_reference_is_lost_among_changes_at_once() {
    const ROUNDS: usize = 12;
    let organisation = Organisation::seeded().await;
    assert_eq!(dangling(&organisation).await, Vec::<String>::new());
    let group = |name: &str| command("New-DistributionGroup").with("Name", name);
    clean(&organisation.run(group("Night Watch")).await);
    let member = |verb: &str| command(&format!("{verb}-DistributionGroupMember")).with("BypassSecurityGroupManagerCheck", true);
    let mut runs = Vec::new();
    for round in 0..ROUNDS {
        let gone = format!("gone{round}");
        let new = command("New-Mailbox").with("Name", &*gone).with("Shared", true);
        assert_eq!(organisation.run(new).await.errors, []);
        let both = list(["ann.beebe", &gone]);
        for command in [
            set("Mailbox", "ann.beebe", "Name", format!("Ann {round}")),
            set("Mailbox", "billing", "ForwardingAddress", "ann.beebe"),
            set("Mailbox", "billing", "GrantSendOnBehalfTo", both.clone()),
            set("Mailbox", "ann@contoso.com", "Name", format!("Anna {round}")),
            set("DistributionGroup", "Board", "AcceptMessagesOnlyFrom", table(&[("Add", both.clone())])),
            member("Update").with("Identity", "Night Watch").with("Members", both.clone()),
            command("Remove-Mailbox").with("Identity", &*gone),
            member("Add").with("Identity", "Board").with("Member", &*gone),
            group(&format!("Watch {round}")).with("Members", both.clone()).with("ManagedBy", &*gone),
        ] {
            let invocation = organisation.invocation(command).await;
            let directory = organisation.directory.clone();
            runs.push(tokio::spawn(async move { collect(&directory, invocation).await }));
        }
        for run in runs.drain(..) {
            // Somebody may be gone before he could be named; nothing else goes wrong.
            let ran = run.await.unwrap();
            let ended = if let Ended::Failed(record) = &ran.end { Some(&**record) } else { None };
            for record in ran.errors.iter().chain(ended) {
                assert_eq!(&*record.reason, "ManagementObjectNotFoundException", "{record:?}");
                assert!(record.message.contains(&*gone), "{record:?}");
            }
        }
        assert_eq!(dangling(&organisation).await, Vec::<String>::new(), "{round}");
    }
    let ann = organisation.read(command("Get-Mailbox").with("Identity", "ann.beebe")).await.remove(0);
    let billing = organisation.read(command("Get-Mailbox").with("Identity", "billing")).await.remove(0);
    assert_eq!(billing["ForwardingAddress"], ann["Name"]);
}

/// Who may send to somebody: two lists, and the one that is both.
#[tokio::test]
async fn senders_that_are_accepted_and_refused() {
    let mut organisation = Organisation::seeded().await;
    for (kind, identity) in [("Mailbox", "billing"), ("DistributionGroup", "Board")] {
        for list_name in ["AcceptMessagesOnlyFrom", "RejectMessagesFrom"] {
            let (groups, both) = (format!("{list_name}DLMembers"), format!("{list_name}SendersOrMembers"));
            let shown = async |organisation: &Organisation| {
                let row = organisation.read(command(&format!("Get-{kind}")).with("Identity", identity)).await.remove(0);
                json!([row[list_name], row[&groups], row[&both]])
            };
            for (parameter, value, expected) in [
                (list_name, list(["ann.beebe", "Laser Cutter"]), json!([["Ann Beebe", "Laser Cutter"], [], ["Ann Beebe", "Laser Cutter"]])),
                (list_name, table(&[("Remove", "Laser Cutter".into())]), json!([["Ann Beebe"], [], ["Ann Beebe"]])),
                (&groups, "Payroll Access".into(), json!([["Ann Beebe"], ["Payroll Access"], ["Ann Beebe", "Payroll Access"]])),
                (
                    &both,
                    table(&[("Add", list(["Board", "Laser Cutter"])), ("Remove", list(["Payroll Access", "ann.beebe"]))]),
                    json!([["Laser Cutter"], ["Board"], ["Laser Cutter", "Board"]]),
                ),
                (&both, list(["Payroll Access", "ann.beebe", "ann@contoso.com"]), {
                    json!([["Ann Beebe"], ["Payroll Access"], ["Ann Beebe", "Payroll Access"]])
                }),
            ] {
                clean(&organisation.run(set(kind, identity, parameter, value)).await);
                assert_eq!(shown(&organisation).await, expected, "{kind} {parameter}");
                let changed = organisation.entries().await.remove(0).outcome.unwrap().changes;
                assert!(changed.iter().any(|change| change.property == both), "{changed:?}");
            }
            let before = shown(&organisation).await;
            for (parameter, value, text) in [
                (
                    list_name,
                    "Payroll Access",
                    "\"Payroll Access\" is a MailUniversalSecurityGroup. Only a mailbox, mail user or mail contact",
                ),
                (&*groups, "ann.beebe", "\"Ann Beebe\" is a UserMailbox. Only a group"),
                (list_name, "nobody", "object 'nobody' couldn't be found"),
                (&both, "Irene Ivanova", "'Irene Ivanova' matches multiple entries"),
            ] {
                organisation.fails_with(set(kind, identity, parameter, value), text).await;
            }
            for part in [list_name, &groups] {
                organisation.fails_with(set(kind, identity, &both, "ann.beebe").with(part, Value::Null), "can't be used together").await;
            }
            assert_eq!(shown(&organisation).await, before);
        }
    }
    let dn = organisation.read(command("Get-Mailbox").with("Identity", "ann.beebe")).await[0]["DistinguishedName"].clone();
    let filter = format!("AcceptMessagesOnlyFrom -eq '{}' -and RejectMessagesFromDLMembers -eq 'payrollaccess'", dn.as_str().unwrap());
    assert_eq!(organisation.read(command("Get-Mailbox").with("Filter", filter)).await[0]["DisplayName"], "Billing");
    // They follow a new name and vanish with whoever goes.
    clean(&organisation.run(set("Mailbox", "ann.beebe", "Name", "Anna")).await);
    clean(&organisation.run(set("DistributionGroup", "Payroll Access", "Name", "Payroll")).await);
    let lists = async |organisation: &Organisation| {
        let row = organisation.read(command("Get-Mailbox").with("Identity", "billing")).await.remove(0);
        json!([row["RejectMessagesFrom"], row["RejectMessagesFromDLMembers"], row["RejectMessagesFromSendersOrMembers"]])
    };
    assert_eq!(lists(&organisation).await, json!([["Anna"], ["Payroll"], ["Anna", "Payroll"]]));
    clean(&organisation.run(command("Remove-Mailbox").with("Identity", "Anna")).await);
    organisation = organisation.restarted().await;
    assert_eq!(lists(&organisation).await, json!([[], ["Payroll"], ["Payroll"]]));
    clean(&organisation.run(set("Mailbox", "billing", "RejectMessagesFromSendersOrMembers", Value::Null)).await);
    assert_eq!(lists(&organisation).await, json!([[], [], []]));
}

#[tokio::test]
async fn switches_that_restrict_a_list() {
    let organisation = Organisation::seeded().await;
    let all = organisation.read(command("Get-Mailbox").with("ResultSize", "Unlimited")).await;
    let count = async |cmdlet: &str, parameter: &str, value: Value| {
        organisation.read(command(cmdlet).with(parameter, value).with("ResultSize", "Unlimited")).await.len()
    };
    let archives = all.iter().filter(|m| m["ArchiveState"] != "None").count();
    let plan = all[0]["MailboxPlan"].as_str().unwrap_or("none").to_owned();
    let planned = all.iter().filter(|m| m["MailboxPlan"] == plan.as_str()).count();
    for (parameter, value, expected) in [
        ("Archive", true.into(), archives),
        ("InactiveMailboxOnly", true.into(), 0),
        ("SoftDeletedMailbox", true.into(), 0),
        ("GroupMailbox", true.into(), 0),
        ("PublicFolder", true.into(), 0),
        ("PublicFolder", false.into(), all.len()),
        ("IncludeInactiveMailbox", true.into(), all.len()),
        ("MailboxPlan", plan.as_str().into(), planned),
    ] {
        assert_eq!(count("Get-Mailbox", parameter, value).await, expected, "{parameter}");
    }
    let unit = all[0]["OrganizationalUnit"].as_str().unwrap();
    let everybody = count("Get-Recipient", "OrganizationalUnit", unit.into()).await;
    assert_eq!(count("Get-Recipient", "OrganizationalUnit", "elsewhere".into()).await, 0);
    assert_eq!(count("Get-Recipient", "IncludeSoftDeletedRecipients", true.into()).await, everybody);
    assert_eq!(count("Get-Recipient", "RecipientPreviewFilter", "RecipientTypeDetails -eq 'RoomMailbox'".into()).await, 18);
    // Get-Recipient filters on what only some of its objects have, and does not show it.
    let held = organisation.run(set("Mailbox", "ann.beebe", "LitigationHoldEnabled", true)).await;
    clean(&held);
    let found = organisation.read(command("Get-Recipient").with("Filter", "LitigationHoldEnabled -eq $true")).await;
    let held = organisation.read(command("Get-Mailbox").with("Filter", "LitigationHoldEnabled -eq $true")).await;
    assert_eq!(names(&found), names(&held));
    assert!(names(&held).contains(&"Ann Beebe") && held.len() < 20);
    assert!(found[0].get("LitigationHoldEnabled").is_none());
    let guid = &all[1]["ExchangeGuid"];
    let by_guid = format!("ExchangeGuid -eq {guid}").replace('"', "'");
    assert_eq!(names(&organisation.read(command("Get-Recipient").with("Filter", by_guid)).await), [all[1]["Name"].as_str().unwrap()]);
}
