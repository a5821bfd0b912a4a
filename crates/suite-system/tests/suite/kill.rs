//! `kill -9` of the lab under a load of writes over both transports: what was acknowledged is there, every change has its
//! entry, and no entry claims a change that is not there.

use std::time::{Duration, SystemTime};

use exops_audit::{Ending, Entry};
use exops_catalogue::{Catalogue, Command, Pipeline, UnknownNames, bind};
use exops_client::{RemotePowerShellConnection, RestConnection, TokenSource};
use exops_directory::Directory;
use exops_directory::nouns::noun;
use exops_policy::TenantId;
use exops_psobject::Value;
use exops_psobject::canonical::canonical;
use exops_runspace::{Ended, Invocation, Record, Runspace, Step};
use exops_store::{AuditQuery, Store};
use exops_testkit::openssl;
use futures_util::StreamExt;
use uuid::Uuid;

use crate::directory::{PAYROLL, group_value, mailbox_values};
use crate::program::{Home, LabProgram};
use crate::same_objects::sign_in;

/// Kills in one run; a longer run sets `EXOPS_KILLS`.
const KILLS: usize = 50;
/// Writers, each on a mailbox of its own, by turns over REST and over remote PowerShell.
const WRITERS: usize = 6;
/// Of the kills, at least this share must have hit a write: an intent without outcome, or a write without answer.
const HIT: f64 = 0.6;

/// Parameters whose only accepted value is what the seed has.
const UNCHANGED: [&str; 3] = ["AddressBookPolicy", "WindowsEmailAddress", "PrimarySmtpAddress"];

/// What one writer did in one round.
struct Written {
    acknowledged: Vec<String>,
    /// Sent and never answered.
    unanswered: Option<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives() {
    if openssl().is_none() {
        return;
    }
    let kills = std::env::var("EXOPS_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS);
    let lab = LabProgram::start_in(Home::new(), &[]);
    let application = lab.application("kill", &["Exchange Administrator"]);
    let tenant = TenantId(lab.text("tenant_id").parse().unwrap());
    let mailboxes = {
        let (http, tokens) = sign_in(&lab, &application);
        let (found, _) = run(&RestConnection::new(http, tokens.clone()), &tokens, Command::new("Get-Mailbox").with("ResultSize", 50)).await;
        found.iter().map(|m| m.property("Guid").unwrap().display()).take(WRITERS).collect::<Vec<_>>()
    };
    assert_eq!(mailboxes.len(), WRITERS);
    let mut home = lab.kill();
    let (mut hit, mut acknowledged, mut open, mut unanswered) = (0, 0, 0, 0);
    // What each mailbox must show at the next start.
    let mut expected: Vec<String> = vec![String::new(); WRITERS];
    for round in 0..kills {
        let lab = LabProgram::start_in(home, &[]);
        let (http, tokens) = sign_in(&lab, &application);
        let rest = RestConnection::new(http.clone(), tokens.clone());
        for (mailbox, value) in mailboxes.iter().zip(&expected) {
            assert_eq!(read(&rest, &tokens, mailbox).await, *value, "round {round}, mailbox {mailbox} over REST");
        }
        if round + 1 == kills || round % 10 == 0 {
            let powershell = RemotePowerShellConnection::new(http, tokens.clone());
            for (mailbox, value) in mailboxes.iter().zip(&expected) {
                assert_eq!(read(&powershell, &tokens, mailbox).await, *value, "round {round}, mailbox {mailbox} over remote PowerShell");
            }
            powershell.close().await;
        }
        let begun = now();
        let writers = mailboxes.iter().enumerate().map(|(index, mailbox)| {
            let (http, tokens) = sign_in(&lab, &application);
            tokio::spawn(write_until_killed(http, tokens, round, index, mailbox.clone()))
        });
        let writers: Vec<_> = writers.collect();
        // From "just opened" to "in full swing", never the same moment twice.
        tokio::time::sleep(Duration::from_millis(40 + (round as u64 * 37) % 360)).await;
        home = lab.kill();
        let mut written = Vec::new();
        for writer in writers {
            let outcome = tokio::time::timeout(Duration::from_secs(60), writer).await;
            written.push(outcome.expect("a writer ends when its server is gone").unwrap());
        }

        let store = Store::open(&home.path().join("lab").join("lab.sqlite")).await.unwrap();
        let entries = entries(&store, tenant, begun).await;
        verify_chain(&store, tenant).await;
        store.close().await;
        let without_outcome = entries.iter().filter(|e| e.outcome.is_none()).count();
        for (index, written) in written.iter().enumerate() {
            let claimed = claimed(&entries, &format!("r{round}-m{index}-"), &expected[index]);
            let context = format!("round {round}, mailbox {index}: acknowledged {:?}, in the trail {claimed:?}", written.acknowledged);
            // Everything acknowledged is in the trail, in order, and beyond it at most the one write that got no answer.
            assert!(claimed.starts_with(&written.acknowledged), "{context}");
            match (&claimed[written.acknowledged.len()..], &written.unanswered) {
                ([], _) => {}
                ([one], Some(sent)) => assert_eq!(one, sent, "{context}"),
                _ => panic!("more changes than writes: {context}"),
            }
            if let Some(last) = claimed.last() {
                expected[index].clone_from(last);
            }
        }
        let lost = written.iter().filter(|w| w.unanswered.is_some()).count();
        acknowledged += written.iter().map(|w| w.acknowledged.len()).sum::<usize>();
        open += without_outcome;
        unanswered += lost;
        hit += usize::from(without_outcome > 0 || lost > 0);
    }
    // The last kill left something open: the next start closes it as unknown, and the values are as the trail says.
    let lab = LabProgram::start_in(home, &[]);
    let (http, tokens) = sign_in(&lab, &application);
    let (rest, powershell) = (RestConnection::new(http.clone(), tokens.clone()), RemotePowerShellConnection::new(http, tokens.clone()));
    for (mailbox, value) in mailboxes.iter().zip(&expected) {
        assert_eq!(read(&rest, &tokens, mailbox).await, *value);
        assert_eq!(read(&powershell, &tokens, mailbox).await, *value);
    }
    let home = lab.kill();
    let store = Store::open(&home.path().join("lab").join("lab.sqlite")).await.unwrap();
    let all = entries(&store, tenant, 0).await;
    store.close().await;
    assert!(all.iter().all(|e| e.outcome.is_some()), "the start closes what a kill left open");
    let unknown = all.iter().filter(|e| e.outcome.as_ref().is_some_and(|o| matches!(o.ending, Ending::Unknown(_)))).count();
    assert_eq!(unknown, open, "every entry that was found open is closed as unknown, and no other");
    println!(
        "{kills} kills, {hit} of them hit a write: {acknowledged} acknowledged, {unanswered} unanswered, {open} intents without outcome"
    );
    assert!(hit as f64 >= HIT * kills as f64, "only {hit} of {kills} kills hit a write");
}

/// Every (Set cmdlet, parameter) that is served: set over one transport, kill, restart, read back over both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_served_parameter_survives() {
    if openssl().is_none() {
        return;
    }
    let mailbox = "ann.beebe@contoso.onmicrosoft.com";
    let mut todo: Vec<(&str, &str, &str, &str)> = Vec::new();
    for (set, get, identity) in [("Set-Mailbox", "Get-Mailbox", mailbox), ("Set-DistributionGroup", "Get-DistributionGroup", PAYROLL)] {
        // Neither names a property: one finds inactive mailboxes, of which there are none, the other lifts a check.
        let skip = ["Identity", "InactiveMailbox", "BypassSecurityGroupManagerCheck"];
        let served = Directory::served_parameters(set).unwrap().into_iter().filter(|p| !skip.contains(p));
        todo.extend(served.map(|parameter| (set, get, identity, parameter)));
    }
    assert!(todo.len() >= 83, "{}", todo.len());
    let mut lab = LabProgram::start_in(Home::new(), &[]);
    let application = lab.application("served", &["Exchange Administrator"]);
    for (index, (set, get, identity, parameter)) in todo.into_iter().enumerate() {
        let noun = noun(&get["Get-".len()..]).unwrap();
        let shown = if parameter == "Type" { "RecipientTypeDetails" } else { parameter };
        let form = &noun.property(shown).unwrap().kind.form;
        let get = || Command::new(get).with("Identity", identity);
        let (http, tokens) = sign_in(&lab, &application);
        let connections = |http: exops_client::Http, tokens: &TokenSource| -> [Box<dyn Runspace>; 2] {
            [Box::new(RestConnection::new(http.clone(), tokens.clone())), Box::new(RemotePowerShellConnection::new(http, tokens.clone()))]
        };
        let both = connections(http, &tokens);
        let before = canonical(&Value::from(run(&*both[0], &tokens, get()).await.0.remove(0)));
        let now = before[shown].as_bool().unwrap_or_default();
        let values = if set == "Set-Mailbox" { mailbox_values(parameter, form) } else { vec![group_value(parameter, form, now)] };
        // Sizes that must not decrease are moved together.
        let set_to = |value: &Value| {
            let together = noun.ordered.iter().filter(|o| noun.ordered.iter().any(|n| **n == *parameter) && ***o != *parameter);
            together
                .fold(Command::new(set).with("Identity", identity), |command, other| command.with(other, value.clone()))
                .with(parameter, value.clone())
        };
        let (value, expected) = values.iter().find(|(_, expected)| before[shown] != *expected).unwrap_or(&values[0]);
        run(&*both[index % 2], &tokens, set_to(value)).await;
        lab = LabProgram::start_in(lab.kill(), &[]);
        let (http, tokens) = sign_in(&lab, &application);
        for connection in connections(http.clone(), &tokens) {
            let found = canonical(&Value::from(run(&*connection, &tokens, get()).await.0.remove(0)));
            assert_eq!(found[shown], *expected, "{set} -{parameter}");
            assert!(before[shown] != *expected || UNCHANGED.contains(&parameter), "{set} -{parameter} changes nothing");
        }
        // The last values put things back for the parameters that follow.
        let rest = RestConnection::new(http, tokens.clone());
        for (value, _) in values.iter().skip(1) {
            run(&rest, &tokens, set_to(value)).await;
        }
    }
}

/// Rights that were acknowledged over one transport are there after a kill, over both, with their records in the unified log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permissions_survive() {
    if openssl().is_none() {
        return;
    }
    let lab = LabProgram::start_in(Home::new(), &[]);
    let application = lab.application("rights", &["Exchange Administrator"]);
    let (mailbox, user) = ("billing@contoso.onmicrosoft.com", "ann.beebe@contoso.onmicrosoft.com");
    let on = |cmdlet: &str| Command::new(cmdlet).with("Identity", mailbox);
    let text = |row: &exops_psobject::PsObject, name: &str| row.property(name).map(Value::display).unwrap_or_default();
    let connections = |lab: &LabProgram| {
        let (http, tokens) = sign_in(lab, &application);
        let rest = RestConnection::new(http.clone(), tokens.clone());
        (rest, RemotePowerShellConnection::new(http, tokens.clone()), tokens)
    };
    let (rest, powershell, tokens) = connections(&lab);
    let full = on("Add-MailboxPermission").with("User", user).with("AccessRights", "FullAccess").with("AutoMapping", false);
    assert_eq!(run(&powershell, &tokens, full.with("InheritanceType", "Descendents")).await.0.len(), 1);
    let deny = on("Add-MailboxPermission").with("User", user).with("AccessRights", "DeleteItem,ChangeOwner").with("Deny", true);
    run(&rest, &tokens, deny).await;
    run(&powershell, &tokens, on("Add-MailboxPermission").with("Owner", user)).await;
    run(&rest, &tokens, on("Add-RecipientPermission").with("Trustee", user).with("AccessRights", "SendAs").with("Confirm", false)).await;
    let lab = LabProgram::start_in(lab.kill(), &[]);
    let (rest, powershell, tokens) = connections(&lab);
    for connection in [&rest as &dyn Runspace, &powershell] {
        let rows = run(connection, &tokens, on("Get-MailboxPermission").with("User", user)).await.0;
        let shown = |name: &str| rows.iter().map(|row| text(row, name)).collect::<Vec<_>>();
        assert_eq!(shown("InheritanceType"), ["Descendents", "All"]);
        assert_eq!(shown("Deny"), ["False", "True"]);
        assert_eq!(canonical(&Value::from(rows[1].clone()))["AccessRights"], serde_json::json!(["ChangeOwner", "DeleteItem"]));
        let owner = run(connection, &tokens, on("Get-MailboxPermission").with("Owner", true)).await.0;
        assert_eq!(text(&owner[0], "Owner"), user);
        let send_as = run(connection, &tokens, on("Get-RecipientPermission").with("Trustee", user)).await.0;
        assert_eq!(send_as.iter().map(|row| text(row, "Trustee")).collect::<Vec<_>>(), [user]);
        // What each changed stands in the unified log.
        for (operation, record) in [
            ("Add-MailboxPermission", r#"{"Name":"Owner","OldValue":"NT AUTHORITY\\SELF","NewValue":"ann.beebe@contoso.onmicrosoft.com"}"#),
            ("Add-MailboxPermission", r#""NewValue":"ann.beebe@contoso.onmicrosoft.com: FullAccess (not mapped automatically)""#),
            ("Add-MailboxPermission", "Deny ChangeOwner, DeleteItem"),
            (
                "Add-RecipientPermission",
                r#"{"Name":"RecipientPermission","OldValue":"","NewValue":"ann.beebe@contoso.onmicrosoft.com: SendAs"}"#,
            ),
        ] {
            let search = Command::new("Search-UnifiedAuditLog").with("StartDate", "2020-01-01").with("EndDate", "2100-01-01");
            let found = run(connection, &tokens, search.with("Operations", operation)).await.0;
            assert!(found.iter().any(|row| text(row, "AuditData").contains(record)), "{operation}: {record} in {found:#?}");
        }
    }
    // Away again over the other transport, and dead again.
    run(&rest, &tokens, on("Remove-MailboxPermission").with("ResetDefault", true).with("Confirm", false)).await;
    let remove = on("Remove-RecipientPermission").with("Trustee", user).with("AccessRights", "SendAs").with("Confirm", false);
    run(&powershell, &tokens, remove).await;
    let lab = LabProgram::start_in(lab.kill(), &[]);
    let (rest, powershell, tokens) = connections(&lab);
    for connection in [&rest as &dyn Runspace, &powershell] {
        assert_eq!(run(connection, &tokens, on("Get-MailboxPermission")).await.0.len(), 1);
        let owner = run(connection, &tokens, on("Get-MailboxPermission").with("Owner", true)).await.0;
        assert_eq!(text(&owner[0], "Owner"), "NT AUTHORITY\\SELF");
        assert!(run(connection, &tokens, on("Get-RecipientPermission").with("Trustee", user)).await.0.is_empty());
    }
}

async fn write_until_killed(http: exops_client::Http, tokens: TokenSource, round: usize, index: usize, mailbox: String) -> Written {
    let connection: Box<dyn Runspace> = if index.is_multiple_of(2) {
        Box::new(RestConnection::new(http, tokens.clone()))
    } else {
        Box::new(RemotePowerShellConnection::new(http, tokens.clone()))
    };
    let mut written = Written { acknowledged: Vec::new(), unanswered: None };
    for number in 0.. {
        let value = format!("r{round}-m{index}-n{number}");
        let command = Command::new("Set-Mailbox").with("Identity", mailbox.as_str()).with("CustomAttribute1", value.as_str());
        let Ok(token) = tokens.token().await else { break };
        let pipeline = bind(&Catalogue::built_in(), &Pipeline::from(command), UnknownNames::Pass).unwrap();
        let mut records = connection.invoke(Invocation::new(token.caller(), pipeline, Uuid::new_v4()));
        let mut end = None;
        while let Some(step) = records.next().await {
            match step {
                Step::Record(Record::Error(record)) => panic!("{value}: {record:?}"),
                Step::Record(_) => {}
                Step::Ended(ended) => end = Some(ended),
            }
        }
        match end.expect("a stream ends with its end") {
            Ended::Completed => written.acknowledged.push(value),
            // Said to be unknown, or never begun; whether it was carried out is what the trail must tell.
            Ended::OutcomeUnknown(_) | Ended::Unreachable(_) => {
                written.unanswered = Some(value);
                break;
            }
            other => panic!("{value}: {other:?}"),
        }
    }
    written
}

async fn read(connection: &dyn Runspace, tokens: &TokenSource, mailbox: &str) -> String {
    let (found, _) = run(connection, tokens, Command::new("Get-Mailbox").with("Identity", mailbox)).await;
    assert_eq!(found.len(), 1);
    found[0].property("CustomAttribute1").unwrap().display()
}

/// Output objects and warnings of a command that must succeed.
pub(crate) async fn run(
    connection: &dyn Runspace,
    tokens: &TokenSource,
    command: Command,
) -> (Vec<std::sync::Arc<exops_psobject::PsObject>>, usize) {
    let pipeline = bind(&Catalogue::built_in(), &Pipeline::from(command), UnknownNames::Pass).unwrap();
    let mut records = connection.invoke(Invocation::new(tokens.token().await.unwrap().caller(), pipeline, Uuid::new_v4()));
    let (mut objects, mut warnings) = (Vec::new(), 0);
    while let Some(step) = records.next().await {
        match step {
            Step::Record(Record::Output(value)) => objects.push(value.as_object().unwrap().clone()),
            Step::Record(Record::Warning(_)) => warnings += 1,
            Step::Record(Record::Error(record)) => panic!("{record:?}"),
            Step::Record(_) => {}
            Step::Ended(end) => assert_eq!(end, Ended::Completed),
        }
    }
    (objects, warnings)
}

/// Entries since a time, oldest first.
async fn entries(store: &Store, tenant: TenantId, since: i64) -> Vec<Entry> {
    let query = AuditQuery { from: Some(since), ..AuditQuery::default() };
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.tenant(tenant).audit_search(&query, cursor, 500).await.unwrap();
        all.extend(page.entries);
        match page.next {
            None => break,
            next => cursor = next,
        }
    }
    all.reverse();
    all
}

/// New values that succeeded entries claim for one writer, in order; each must continue from the one before.
fn claimed(entries: &[Entry], prefix: &str, before: &str) -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    for entry in entries {
        let Some(outcome) = entry.outcome.as_ref().filter(|o| o.ending == Ending::Succeeded) else { continue };
        for change in outcome.changes.iter().filter(|c| c.property == "CustomAttribute1" && c.new.starts_with(prefix)) {
            assert_eq!(change.old, *values.last().map_or(before, String::as_str), "{change:?} continues from the value before it");
            values.push(change.new.clone());
        }
    }
    values
}

async fn verify_chain(store: &Store, tenant: TenantId) {
    let (mut records, mut after) = (Vec::new(), 0);
    loop {
        let page = store.tenant(tenant).audit_records(after, 1000).await.unwrap();
        let Some((last, ..)) = page.last() else { break };
        after = *last;
        records.extend(page);
    }
    assert_eq!(exops_audit::verify(records.iter().map(|(_, body, link)| (body.as_slice(), *link))), Ok(()));
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
