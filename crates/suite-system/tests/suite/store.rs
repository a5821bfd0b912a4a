//! The store: schema vocabulary, query plans, group commit, reopening, the audit trail, tenants.

use std::path::PathBuf;
use std::time::Instant;

use exops_audit::{Actor, Change as Changed, Ending, Intent, IntentId, Outcome, Parameter, verify};
use exops_policy::TenantId;
use exops_store::migrations::MIGRATIONS;
use exops_store::{
    AuditQuery, Change, Fate, Found, Identity, Listing, Load, Lookup, Object, Position, PropertyIndex, Refusal, Related, Row, Store,
    StoreError, TenantStore, Text,
};
use uuid::Uuid;

const TENANT: TenantId = TenantId(Uuid::from_u128(1));
const OTHER: TenantId = TenantId(Uuid::from_u128(2));

async fn open() -> (tempfile::TempDir, PathBuf, Store) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lab.sqlite");
    let store = Store::open(&path).await.unwrap();
    (folder, path, store)
}

fn object(number: u128, name: &str) -> (Object, Vec<Identity>, Vec<PropertyIndex>) {
    let object = Object {
        id: Uuid::from_u128(number),
        noun: "Mailbox".to_owned(),
        listing: "Recipient".to_owned(),
        sort: name.to_owned(),
        revision: 0,
        body: name.as_bytes().to_vec(),
    };
    let identity = |kind: &str, value: String, exclusive| Identity { kind: kind.into(), value, exclusive };
    let identities = vec![identity("proxy", format!("{name}@contoso.com"), true), identity("name", name.to_owned(), false)];
    let index = |property: &str, text: &str| PropertyIndex { property: property.into(), text: text.to_owned() };
    let indexes = vec![index("Alias", name), index("Hidden", if number.is_multiple_of(2) { "1" } else { "0" })];
    (object, identities, indexes)
}

/// What finds an object that was stored.
fn stored(old: &Object) -> Result<Row, StoreError> {
    Ok(object(old.id.as_u128(), &old.sort))
}

/// A change that looks at nothing else.
fn alone(_: Option<&Object>) -> Related {
    Related::default()
}

/// Sends rows and, where they are to be kept, the end.
fn sent(batches: Vec<Vec<Row>>, end: bool) -> tokio::sync::mpsc::Receiver<Load> {
    let (sender, receiver) = tokio::sync::mpsc::channel(batches.len() + 1);
    batches.into_iter().for_each(|rows| sender.try_send(Load::Rows(rows)).unwrap());
    if end {
        sender.try_send(Load::End).unwrap();
    }
    receiver
}

fn intent(number: u128, tenant: TenantId, cmdlet: &str, time: i64) -> Intent {
    Intent {
        id: IntentId(Uuid::from_u128(number)),
        tenant: tenant.0,
        time,
        actor: Actor {
            app_id: Uuid::from_u128(77),
            object_id: Uuid::from_u128(78),
            name: "Automation".to_owned(),
            client_address: "127.0.0.1:1".to_owned(),
        },
        cmdlet: cmdlet.to_owned(),
        parameters: vec![Parameter { name: "Identity".to_owned(), value: "ann".to_owned() }],
        correlation_id: Uuid::from_u128(9),
    }
}

fn outcome(number: u128, ending: Ending, object: &str) -> Outcome {
    let changes = vec![Changed { property: "Alias".to_owned(), old: "a".to_owned(), new: "b".to_owned() }];
    Outcome { id: IntentId(Uuid::from_u128(number)), time: 5, ending, object: object.to_owned(), changes }
}

#[test]
fn migrations_know_three_column_types_and_a_tenant_in_every_table_and_key() {
    for (number, name, text) in MIGRATIONS {
        let text: String = text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
        for statement in text.split(';').map(str::trim).filter(|s| s.starts_with("CREATE TABLE")) {
            let inside = &statement[statement.find('(').unwrap() + 1..statement.rfind(')').unwrap()];
            let mut columns = Vec::new();
            for line in inside.lines().map(|l| l.trim().trim_end_matches(',')).filter(|l| !l.is_empty()) {
                if let Some(key) = line.strip_prefix("PRIMARY KEY (") {
                    assert!(key.starts_with("tenant"), "migration {number} ({name}): key {key} does not begin with the tenant");
                    continue;
                }
                let mut words = line.split_whitespace();
                columns.push(words.next().unwrap());
                let kind = words.next().unwrap();
                assert!(["TEXT", "BIGINT", "BLOB"].contains(&kind), "migration {number} ({name}): column type {kind}");
                let rest: Vec<_> = words.collect();
                assert!(rest.is_empty() || rest == ["NOT", "NULL"], "migration {number} ({name}): {line}");
            }
            assert!(columns.contains(&"tenant"), "migration {number} ({name}): a table without tenant: {statement}");
            assert!(inside.contains("PRIMARY KEY ("), "migration {number} ({name}): a table without key: {statement}");
        }
    }
}

#[tokio::test]
async fn every_query_uses_an_index_and_sorts_nothing() {
    let (_folder, _path, store) = open().await;
    let plans = store.query_plans().await.unwrap();
    assert!(plans.len() >= 15);
    for (name, lines) in plans {
        assert!(!lines.is_empty(), "{name}");
        for line in lines {
            assert!(!line.contains("SCAN") && !line.contains("TEMP B-TREE"), "{name}: {line}");
        }
    }
}

#[tokio::test]
async fn writes_share_commits_and_survive_reopening() {
    let (_folder, path, store) = open().await;
    let tenant = store.tenant(TENANT);
    let start = Instant::now();
    let writes = (0..200u128).map(|n| {
        let tenant = tenant.clone();
        tokio::spawn(async move { tenant.insert_objects(vec![object(n, &format!("user{n:03}"))]).await })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap().unwrap();
    }
    println!("200 acknowledged writes: {:?}", start.elapsed());
    // What fails leaves nothing behind, and nothing of its neighbours is lost.
    let clash = object(900, "user007");
    let (good, bad) =
        tokio::join!(tenant.insert_objects(vec![object(901, "late")]), tenant.insert_objects(vec![object(902, "first"), clash]));
    good.unwrap();
    match bad.unwrap_err() {
        StoreError::IdentityTaken { kind, value, owner } => {
            assert_eq!((kind.as_str(), value.as_str(), owner), ("proxy", "user007@contoso.com", Uuid::from_u128(7)));
        }
        other => panic!("{other}"),
    }
    assert_eq!(tenant.object(Uuid::from_u128(902)).await.unwrap(), None);
    // Nor does one that panics take the writer with it.
    let error =
        tenant.change_object(Uuid::from_u128(1), alone, stored, |_| -> Change<()> { panic!("a defect in a change") }).await.unwrap_err();
    assert!(matches!(error, StoreError::NotCommitted(_)), "{error}");
    tenant.set_setting("still", b"here").await.unwrap();
    store.close().await;
    assert!(matches!(tenant.object(Uuid::from_u128(1)).await, Err(StoreError::Closed)));
    assert!(matches!(tenant.set_setting("a", b"b").await, Err(StoreError::Closed)));

    let store = Store::open(&path).await.unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let tenant = store.tenant(TENANT);
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = tenant.page(Listing::Wider("Recipient"), after.as_ref(), 64).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(Position { sort: last.sort.clone(), id: last.id });
        seen.extend(page.into_iter().map(|o| o.sort));
    }
    assert_eq!(seen.len(), 201);
    assert!(seen.is_sorted());
    assert_eq!(tenant.page(Listing::Noun("DistributionGroup"), None, 10).await.unwrap(), Vec::new());
    let is = |text: &str| Text::Is(text.to_owned());
    let like = |text: &str| Text::Like(text.to_owned());
    let property = |name: &str, text| Lookup::Property(name.to_owned(), text);
    for (lookup, count) in [
        (property("Alias", like("user00*")), 10),
        (property("Alias", like("*07")), 2),
        (property("Alias", like("u*r*19*")), 12),
        (property("Alias", like("user_07")), 0),
        (property("Alias", like("%07")), 0),
        (property("Alias", like("*\\")), 0),
        (property("Alias", is("late")), 1),
        (property("Alias", is("l*")), 0),
        (Lookup::Sort(like("user01*")), 10),
        (Lookup::Sort(like("*01*")), 12),
        (Lookup::Sort(is("user01")), 0),
        (Lookup::Name("late@contoso.com".to_owned()), 1),
        (Lookup::Name("late@contoso".to_owned()), 0),
        (Lookup::Noun("Recipient".to_owned()), 0),
    ] {
        assert_eq!(tenant.candidates("Recipient", &lookup, 20).await.unwrap().unwrap().len(), count, "{lookup:?}");
    }
    for wide in [property("Hidden", is("1")), property("Alias", like("*")), Lookup::Noun("Mailbox".to_owned())] {
        assert_eq!(tenant.candidates("Recipient", &wide, 20).await.unwrap(), None, "{wide:?}");
    }
    // Behind what is kept of it, a text may be anything.
    let long = "x".repeat(40);
    let (mut row, names, _) = object(950, "long");
    row.sort = long.clone();
    let index = vec![PropertyIndex { property: "Alias".into(), text: long }];
    tenant.insert_objects(vec![(row, names, index)]).await.unwrap();
    for (text, count) in [(like("*z"), 1), (like("x*"), 1), (like(&format!("{}z*", "x".repeat(35))), 1), (like("y*"), 0)] {
        assert_eq!(tenant.candidates("Recipient", &property("Alias", text), 20).await.unwrap().unwrap().len(), count);
    }
    let whole = Lookup::Sort(is(&"x".repeat(40)));
    assert_eq!(tenant.candidates("Recipient", &whole, 20).await.unwrap().unwrap().len(), 1, "what lists are ordered by is kept whole");
    let found = tenant.candidates("Recipient", &property("Alias", like("*0*")), 300).await.unwrap().unwrap();
    let places = tenant.positions(found.into_iter().chain([Uuid::from_u128(77_777)])).await.unwrap();
    let ordered: Vec<_> = seen.iter().filter(|name| name.contains('0')).cloned().chain(["x".repeat(40)]).collect();
    assert_eq!(places.into_iter().map(|place| place.sort).collect::<Vec<_>>(), ordered);
    // A scan keeps what it is told to, and says where it ended.
    let mut keep = |object: &Object| Ok(object.sort.ends_with('9'));
    let (found, end) = tenant.scan(Listing::Noun("Mailbox"), None, (50, 3), &mut keep).await.unwrap();
    assert_eq!((found.len(), end.as_ref().map(|end| end.sort == found[2].sort)), (3, Some(true)));
    let (found, end) = tenant.scan(Listing::Noun("Mailbox"), end.as_ref(), (5, 3), &mut keep).await.unwrap();
    assert_eq!((found.len(), end.is_some()), (0, true));
    let (found, end) = tenant.scan(Listing::Noun("Mailbox"), end.as_ref(), (500, 300), &mut keep).await.unwrap();
    assert_eq!((found.len(), end), (17, None));
}

#[tokio::test]
async fn a_change_and_its_outcome_commit_together() {
    let (_folder, path, store) = open().await;
    let tenant = store.tenant(TENANT);
    tenant.insert_objects(vec![object(1, "ann"), object(2, "bob")]).await.unwrap();
    tenant.audit_intent(&intent(10, TENANT, "Set-Mailbox", 1)).await.unwrap();
    assert!(matches!(tenant.audit_intent(&intent(10, TENANT, "Set-Mailbox", 1)).await, Err(StoreError::Audit(..))));
    let renamed = |name: &'static str, number| {
        move |found: Found| {
            assert_eq!(found.object.unwrap().sort, "ann");
            let outcome = Some(outcome(number, Ending::Succeeded, "contoso/ann"));
            Change { fate: Fate::Changed(Box::new(object(1, name))), holders: Vec::new(), outcome, answer: 42 }
        }
    };
    // The name of another object: neither the change nor the outcome is there.
    let error = tenant.change_object(Uuid::from_u128(1), alone, stored, renamed("bob", 10)).await.unwrap_err();
    assert!(matches!(error, StoreError::IdentityTaken { .. }), "{error}");
    assert_eq!(tenant.object(Uuid::from_u128(1)).await.unwrap().unwrap().revision, 1);
    let page = tenant.audit_search(&AuditQuery::default(), None, 10).await.unwrap();
    assert_eq!(page.entries[0].outcome, None);
    // An outcome without intent: no change either.
    let error = tenant.change_object(Uuid::from_u128(1), alone, stored, renamed("anna", 11)).await.unwrap_err();
    assert!(matches!(error, StoreError::Audit(..)), "{error}");
    assert_eq!(tenant.object(Uuid::from_u128(1)).await.unwrap().unwrap().sort, "ann");

    assert_eq!(tenant.change_object(Uuid::from_u128(1), alone, stored, renamed("anna", 10)).await.unwrap(), 42);
    let changed = tenant.object(Uuid::from_u128(1)).await.unwrap().unwrap();
    assert_eq!((changed.sort.as_str(), changed.revision), ("anna", 2));
    assert!(tenant.resolve("ann", 10).await.unwrap().is_empty());
    assert_eq!(tenant.resolve("anna@contoso.com", 10).await.unwrap()[0].kind, "proxy");
    // The first outcome stands.
    tenant.audit_outcome(&outcome(10, Ending::Failed("late".to_owned()), "x")).await.unwrap();

    // Intents that the process did not live to close.
    tenant.audit_intent(&intent(20, TENANT, "Set-Mailbox", 2)).await.unwrap();
    tenant.audit_refused(intent(21, TENANT, "Remove-Mailbox", 3), outcome(21, Ending::Refused("no".to_owned()), "")).await.unwrap();
    assert!(matches!(tenant.audit_intent(&intent(22, OTHER, "Set-Mailbox", 2)).await, Err(StoreError::Audit(..))));
    drop((tenant, store));
    let store = Store::open(&path).await.unwrap();
    let tenant = store.tenant(TENANT);
    assert_eq!(tenant.audit_close_orphans(99).await.unwrap(), 1);
    assert_eq!(tenant.audit_close_orphans(99).await.unwrap(), 0);

    let search = |query: AuditQuery| {
        let tenant = tenant.clone();
        async move {
            let page = tenant.audit_search(&query, None, 10).await.unwrap();
            page.entries.iter().map(|e| (e.intent.id.0.as_u128(), e.outcome.as_ref().unwrap().ending.word())).collect::<Vec<_>>()
        }
    };
    assert_eq!(search(AuditQuery::default()).await, [(21, "refused"), (20, "unknown"), (10, "succeeded")]);
    let text = |s: &str| vec![s.to_owned()];
    assert_eq!(search(AuditQuery { cmdlets: text("set-mailbox"), ..Default::default() }).await, [(20, "unknown"), (10, "succeeded")]);
    assert_eq!(search(AuditQuery { objects: text("Contoso/Ann"), ..Default::default() }).await, [(10, "succeeded")]);
    assert_eq!(search(AuditQuery { callers: text("automation"), from: Some(3), ..Default::default() }).await, [(21, "refused")]);
    assert_eq!(search(AuditQuery { callers: text("nobody"), ..Default::default() }).await, []);
    assert_eq!(search(AuditQuery { to: Some(1), ..Default::default() }).await, [(10, "succeeded")]);

    let records = tenant.audit_records(0, 100).await.unwrap();
    assert_eq!(records.iter().map(|r| r.0).collect::<Vec<_>>(), (1..=6).collect::<Vec<_>>());
    verify(records.iter().map(|(_, body, link)| (body.as_slice(), *link))).unwrap();
}

#[tokio::test]
async fn pages_of_the_trail_are_complete_and_ordered() {
    let (_folder, _path, store) = open().await;
    let tenant = store.tenant(TENANT);
    for number in 0..60u128 {
        let cmdlet = if number % 3 == 0 { "Set-Mailbox" } else { "New-Mailbox" };
        tenant.audit_intent(&intent(number, TENANT, cmdlet, i64::try_from(number / 4).unwrap())).await.unwrap();
    }
    for (query, expected) in [
        (AuditQuery::default(), 60),
        (AuditQuery { cmdlets: vec!["Set-Mailbox".to_owned()], ..Default::default() }, 20),
        (AuditQuery { cmdlets: vec!["Set-Mailbox".to_owned(), "New-Mailbox".to_owned()], ..Default::default() }, 60),
    ] {
        let (mut cursor, mut seen) = (None, Vec::new());
        loop {
            let page = tenant.audit_search(&query, cursor, 7).await.unwrap();
            seen.extend(page.entries.iter().map(|e| (e.intent.time, e.intent.id)));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), expected);
        assert!(seen.windows(2).all(|w| w[0] > w[1]));
    }
}

#[tokio::test]
async fn one_tenant_never_sees_another() {
    let (_folder, _path, store) = open().await;
    let (one, two) = (store.tenant(TENANT), store.tenant(OTHER));
    one.insert_objects(vec![object(1, "ann")]).await.unwrap();
    one.set_setting("key", b"secret").await.unwrap();
    one.audit_intent(&intent(5, TENANT, "Set-Mailbox", 1)).await.unwrap();
    assert_eq!(two.object(Uuid::from_u128(1)).await.unwrap(), None);
    assert!(two.resolve("ann", 10).await.unwrap().is_empty());
    assert!(two.page(Listing::Wider("Recipient"), None, 10).await.unwrap().is_empty());
    assert!(two.candidates("Recipient", &Lookup::Name("ann".to_owned()), 10).await.unwrap().unwrap().is_empty());
    assert_eq!(two.setting("key").await.unwrap(), None);
    assert_eq!(store.whole().setting("key").await.unwrap(), None);
    assert!(two.audit_search(&AuditQuery::default(), None, 10).await.unwrap().entries.is_empty());
    assert!(matches!(two.audit_outcome(&outcome(5, Ending::Succeeded, "")).await, Err(StoreError::Audit(..))));
    assert_eq!(two.audit_close_orphans(9).await.unwrap(), 0);
    // The same ids and names are free in the other tenant, and changing them leaves the first alone.
    two.insert_objects(vec![object(1, "ann")]).await.unwrap();
    let zoe = |_| Change { fate: Fate::Changed(Box::new(object(1, "zoe"))), holders: Vec::new(), outcome: None, answer: () };
    two.change_object(Uuid::from_u128(1), alone, stored, zoe).await.unwrap();
    assert_eq!(one.object(Uuid::from_u128(1)).await.unwrap().unwrap().sort, "ann");
    assert_eq!(one.resolve("ann@contoso.com", 10).await.unwrap().len(), 1);
    // Replacing all of one tenant: not at all where an address is given twice, else whole, trail and mark with it.
    two.audit_intent(&intent(6, OTHER, "Set-Mailbox", 1)).await.unwrap();
    let twice = vec![object(3, "eve"), object(4, "eve")];
    assert!(matches!(two.replace_stream(sent(vec![twice], true), ("mark", b"1".to_vec())).await, Err(StoreError::IdentityTaken { .. })));
    assert_eq!(two.object(Uuid::from_u128(1)).await.unwrap().unwrap().sort, "zoe");
    let entries = async |tenant: &TenantStore| tenant.audit_search(&AuditQuery::default(), None, 10).await.unwrap().entries.len();
    assert_eq!((entries(&two).await, two.setting("mark").await.unwrap()), (1, None));
    two.replace_stream(sent(vec![vec![object(3, "eve")]], true), ("mark", b"1".to_vec())).await.unwrap();
    assert_eq!(two.object(Uuid::from_u128(1)).await.unwrap(), None);
    assert_eq!((two.resolve("zoe", 10).await.unwrap().len(), two.resolve("eve@contoso.com", 10).await.unwrap().len()), (0, 1));
    assert_eq!((entries(&two).await, two.setting("mark").await.unwrap()), (0, Some(b"1".to_vec())));
    assert_eq!((entries(&one).await, one.object(Uuid::from_u128(1)).await.unwrap().is_some()), (1, true));
}

#[tokio::test]
async fn a_stream_of_objects_is_kept_whole_or_not_at_all() {
    let (_folder, path, store) = open().await;
    let tenant = store.tenant(TENANT);
    tenant.insert_objects(vec![object(1, "ann"), object(2, "bob")]).await.unwrap();
    // A sender that goes away, an id that is there, names that are there, and a name that comes twice.
    let many = |from: u128| (from..from + 300).map(|n| object(n, &format!("user{n:05}"))).collect::<Vec<_>>();
    let gone = tenant.insert_stream(sent(vec![many(1000)], false), 9).await;
    assert!(matches!(gone, Err(StoreError::GivenUp)), "{gone:?}");
    let bad = vec![object(1, "anna"), object(5, "bob"), object(6, "zoe"), object(7, "zoe")];
    let refused = tenant.insert_stream(sent(vec![many(1000), bad.clone()], true), 9).await.unwrap();
    let proxy = |name: &str| Some(("proxy".to_owned(), format!("{name}@contoso.com")));
    let refusal = |row, owner, identity| Refusal { row, owner: Uuid::from_u128(owner), identity };
    assert_eq!(refused, [refusal(300, 1, None), refusal(301, 2, proxy("bob")), refusal(303, 6, proxy("zoe"))]);
    assert_eq!(tenant.insert_stream(sent(vec![bad], true), 1).await.unwrap().len(), 1);
    assert_eq!(tenant.page(Listing::Wider("Recipient"), None, 1000).await.unwrap().len(), 2);
    // Meanwhile reads go on, and another writer comes after it.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let loading = tokio::spawn({
        let tenant = tenant.clone();
        async move { tenant.insert_stream(receiver, 1).await }
    });
    for batch in 0..20 {
        sender.send(Load::Rows(many(1000 + batch * 300))).await.unwrap();
    }
    let writing = tokio::spawn({
        let tenant = tenant.clone();
        async move { tenant.insert_objects(vec![object(8, "late")]).await }
    });
    assert_eq!(tenant.page(Listing::Wider("Recipient"), None, 1000).await.unwrap().len(), 2);
    assert!(!writing.is_finished());
    sender.send(Load::End).await.unwrap();
    assert_eq!(loading.await.unwrap().unwrap(), []);
    writing.await.unwrap().unwrap();
    assert_eq!(tenant.page(Listing::Wider("Recipient"), None, 9000).await.unwrap().len(), 6003);
    assert_eq!(tenant.resolve("user03210@contoso.com", 9).await.unwrap().len(), 1);

    // A draft is nothing until it has its name, and one that was left behind does not come back.
    let other = path.with_file_name("other.sqlite");
    for end in [false, true] {
        let draft = Store::draft(&other).await.unwrap();
        assert_eq!(draft.tenant(TENANT).page(Listing::Wider("Recipient"), None, 10).await.unwrap(), []);
        draft.tenant(TENANT).insert_objects(many(0)).await.unwrap();
        assert!(!other.exists());
        if end {
            draft.publish(&other).await.unwrap();
        } else {
            draft.close().await;
        }
    }
    let published = Store::open(&other).await.unwrap();
    assert_eq!(published.tenant(TENANT).page(Listing::Wider("Recipient"), None, 1000).await.unwrap().len(), 300);
}
