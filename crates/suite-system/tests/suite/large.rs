//! The organisation of 100,000 mailboxes: whole after a kill in the middle of its seed, read whole over both transports while
//! its tokens are refused all the time, taken back to its first day or left as it is, and the same every time.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use exops_catalogue::Command;
use exops_client::RemotePowerShellConnection;
use exops_directory::nouns::nouns;
use exops_policy::TenantId;
use exops_runspace::Runspace as _;
use exops_store::{Listing, Position, Store};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::cli::certificate;
use crate::kill::run;
use crate::not_accepted::levers;
use crate::program::{Application, Home, LabProgram, PATIENCE};
use crate::same_objects::sign_in;

const MAILBOXES: usize = 100_000;
const LARGE: [&str; 2] = ["--seed", "large"];
/// Bytes of a database in the making when it is killed: some tenth of the whole.
const HALF_WAY: u64 = 40 << 20;
/// A mailbox that is changed.
const ANN: &str = "ann.beebe@contoso.onmicrosoft.com";

#[test]
fn a_hundred_thousand_mailboxes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let home = Home::new();
    let data = home.path().join("lab");
    let (database, draft) = (data.join("lab.sqlite"), data.join("lab.draft"));

    // Killed in the middle of its seed, it is nothing yet; the next start makes it whole.
    let words = [&["lab", "up", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()], &LARGE[..]].concat();
    let mut child = home.command(&words).spawn().unwrap();
    until_grown(&draft, || child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!database.exists() && !data.join("ready.json").exists());
    let lab = timed("seed", || LabProgram::start_in(home, &LARGE));
    assert!(!draft.exists());

    let (thumbprint, public) = certificate(&lab.home, "large");
    let create = ["lab", "app", "create", "--name", "large", "--certificate", &public, "--app-role", "Exchange.ManageAsApp"];
    let made = lab.exops(&[&create[..], &["--directory-role", "Exchange Administrator", "--json"]].concat()).exits(0).json();
    let application = Application { app_id: made["app_id"].as_str().unwrap().to_owned(), pem: lab.home.path().join("both.pem") };
    lab.home.exops(&["cert", "export", &thumbprint, "--out", application.pem.to_str().unwrap()]).exits(0);
    lab.exops(&["connect", "--lab", "--app-id", &application.app_id, "--thumbprint", &thumbprint]).exits(0);

    // One read each, in which tokens are refused again and again: nothing is lost, nothing comes twice.
    let mut first: Option<HashSet<String>> = None;
    for (transport, good_for) in [("rest", 8), ("rps", 100)] {
        let words = ["run", "Get-Mailbox", "-ResultSize", "Unlimited", "--transport", transport, "-o", "jsonl", "--select", "Guid"];
        let read = || timed(&format!("Get-Mailbox over {transport}"), || lab.home.exops(&words).exits(0));
        let read = renewing(&lab, transport, good_for, read);
        assert_eq!(read.stdout.lines().count(), MAILBOXES, "{transport}: {}", read.stderr);
        let ids: HashSet<String> = read.stdout.lines().map(str::to_owned).collect();
        assert_eq!(ids.len(), MAILBOXES, "{transport}: some came twice");
        assert!(first.get_or_insert_with(|| ids.clone()) == &ids, "the transports do not bring the same");
    }
    // Several cmdlets in one open session.
    let (http, tokens) = sign_in(&lab, &application);
    let session = RemotePowerShellConnection::new(http, tokens.clone());
    let read = |size: i32| {
        let (found, _) = runtime.block_on(run(&session, &tokens, Command::new("Get-Mailbox").with("ResultSize", size)));
        found.iter().map(|mailbox| mailbox.property("Guid").unwrap().display()).collect::<Vec<_>>()
    };
    let (all, again) = renewing(&lab, "one session", 20, || (read(5000), read(2000)));
    runtime.block_on(session.close());
    assert!(all.len() == 5000 && all.iter().collect::<HashSet<_>>().len() == 5000 && all.get(..2000) == Some(&again[..]));

    // What names one object is found by an index, also among so many.
    for words in [&["-Identity", ANN][..], &["-Filter", "Alias -eq 'ann.beebe'"], &["-Anr", "ann beebe"]] {
        let begun = Instant::now();
        let found = lab.home.exops(&[&["run", "Get-Mailbox"], words, &["-o", "json"]].concat()).exits(0).json();
        assert_eq!(found[0]["PrimarySmtpAddress"], ANN, "{words:?}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{words:?}: {:?}", begun.elapsed());
    }

    // Killed in the middle of a reset, it is as it was: what was changed is still changed. After a whole one it is not.
    let tenant = TenantId(lab.text("tenant_id").parse().unwrap());
    let home = lab.kill();
    let seeded = runtime.block_on(digest(&database, tenant));
    let lab = LabProgram::start_in(home, &LARGE);
    let attribute = |lab: &LabProgram| {
        let read = lab.home.exops(&["run", "Get-Mailbox", ANN, "-o", "json"]).exits(0).json();
        read[0]["CustomAttribute1"].as_str().unwrap_or_default().to_owned()
    };
    lab.home.exops(&["run", "Set-Mailbox", ANN, "-CustomAttribute1", "changed"]).exits(0);
    let mut reset = lab.home.command(&["lab", "reset", "--data", data.to_str().unwrap()]).spawn().unwrap();
    until_grown(&data.join("lab.sqlite-wal"), || reset.try_wait().unwrap().is_none());
    let home = lab.kill();
    assert_eq!(reset.wait().unwrap().code(), Some(8));
    let lab = LabProgram::start_in(home, &LARGE);
    assert_eq!(attribute(&lab), "changed");
    let done = timed("reset", || lab.exops(&["lab", "reset"]).exits(0));
    assert!(done.stdout.contains("holds its large seed again"), "{}", done.stdout);
    assert_eq!(attribute(&lab), "");
    let _home = lab.kill();
    let again = runtime.block_on(digest(&database, tenant));
    assert_eq!(seeded, again, "another process made other objects");
}

/// What `f` gives, with how long it took on standard output.
fn timed<T>(what: &str, f: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let made = f();
    println!("{what}: {:.1} s", begun.elapsed().as_secs_f64());
    made
}

/// Waits until a file has so many bytes that its writer is in the middle; fails where `going` says that it is over.
fn until_grown(file: &Path, mut going: impl FnMut() -> bool) {
    let begun = Instant::now();
    while std::fs::metadata(file).map_or(0, |m| m.len()) < HALF_WAY {
        assert!(going(), "it ended before it was in the middle of {}", file.display());
        assert!(begun.elapsed() < PATIENCE, "{} does not grow", file.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads while each token is good for so many requests only; at least ten were refused and as many issued.
fn renewing<T>(lab: &LabProgram, what: &str, good_for: u32, read: impl FnOnce() -> T) -> T {
    let counts = || {
        let status: Value = lab.exops(&["lab", "status", "--json"]).exits(0).json();
        ["tokens_refused", "tokens_issued"].map(|key| status[key].as_u64().unwrap())
    };
    levers(lab, &json!({"token_requests": good_for}));
    let before = counts();
    let made = read();
    let [refused, issued] = counts();
    levers(lab, &json!({}));
    let (refused, issued) = (refused - before[0], issued - before[1]);
    println!("{what}: {refused} requests refused, {issued} tokens issued");
    assert!(refused >= 10 && issued >= 10, "{what}: {refused} requests refused, {issued} tokens issued");
    made
}

/// SHA-256 of every object with its place in lists.
async fn digest(database: &Path, tenant: TenantId) -> String {
    let store = Store::open(database).await.unwrap();
    let rows = store.tenant(tenant);
    let (mut sum, mut objects) = (Sha256::new(), 0);
    for listing in nouns().iter().map(|noun| noun.listed_as()).collect::<BTreeSet<_>>() {
        let mut after = None;
        loop {
            let page = rows.page(Listing::Wider(listing), after.as_ref(), 1000).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(Position { sort: last.sort.clone(), id: last.id });
            objects += page.len();
            for object in &page {
                sum.update(format!("{} {} {} {}\n", object.id, object.noun, object.sort, object.revision));
                sum.update(&object.body);
            }
        }
    }
    store.close().await;
    assert!(objects > MAILBOXES, "{objects}");
    format!("{objects} objects, {:x}", sum.finalize())
}
