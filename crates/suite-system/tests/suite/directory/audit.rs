//! The two searches of the trail.

use exops_runspace::Ended;
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use uuid::Uuid;

use super::{Organisation, command, object};

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
