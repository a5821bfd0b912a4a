//! Remote PowerShell sessions that are left and continued, moved, throttled and compressed.

use std::io::Write as _;
use std::process::Command as Process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exops_catalogue::Command;
use exops_client::{Credential, Endpoint, Http, RemotePowerShellConnection, SessionOptions, TokenSource};
use exops_remoting::wsman::Fault;
use exops_runspace::{Ended, FaultKind, Record, RecordStream, Runspace, Step};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::client::{World, property};
use crate::front::{Front, Reply};

/// What the second process of a test is to do.
const ATTACH: &str = "EXOPS_TEST_ATTACH";
const SECRET: &str = "a secret of the test";

fn all() -> Command {
    Command::new("Get-Mailbox").with("ResultSize", "Unlimited")
}

async fn drain(records: &mut RecordStream) -> (Vec<String>, Ended) {
    let mut found = Vec::new();
    loop {
        match records.next().await {
            Some(Step::Record(Record::Output(value))) => found.push(property(&value, "Guid")),
            Some(Step::Record(_)) => {}
            Some(Step::Ended(end)) => return (found, end),
            None => panic!("no end came"),
        }
    }
}

/// one process reads a part and leaves, another one reads the rest: every object once and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x11_another_process_goes_on() {
    let world = World::new().await;
    let expected: Vec<String> = world.run(&world.rest(), all()).await.0.iter().map(|m| property(m, "Guid")).collect();
    assert!(expected.len() > 150, "{}", expected.len());

    let rps = world.rps();
    assert!(rps.leave(None).await.is_err(), "there is nothing to leave");
    let mut records = rps.invoke(world.invocation(all()).await);
    let mut before = Vec::new();
    while before.len() < 3 {
        if let Some(Step::Record(Record::Output(value))) = records.next().await {
            before.push(property(&value, "Guid"));
        }
    }
    let leaving = {
        let rps = rps.clone();
        tokio::spawn(async move { rps.leave(Some(Duration::from_secs(600))).await })
    };
    let (more, end) = drain(&mut records).await;
    before.extend(more);
    let Ended::OutcomeUnknown(fault) = end else { panic!("{end:?}") };
    assert_eq!(fault.code, "SessionLeft");
    let shell = leaving.await.unwrap().expect("it is left");
    assert!(before.len() < expected.len(), "nothing is left to read: {}", before.len());

    let endpoint = world.tokens.endpoint();
    let ca = String::from_utf8(endpoint.ca_pem.clone().unwrap()).unwrap();
    let task = json!({
        "shell": shell, "authority": endpoint.authority, "graph": endpoint.graph, "admin_api": endpoint.admin_api,
        "powershell": endpoint.powershell, "organization": endpoint.organization, "tenant": endpoint.tenant_id, "ca": ca,
        "app": world.tokens.token().await.unwrap().claims().app_id,
    });
    let mut second = Process::new(std::env::current_exe().unwrap());
    second.args(["--exact", "sessions::second_process", "--nocapture"]).env(ATTACH, task.to_string());
    let output = tokio::task::spawn_blocking(move || second.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let after: Vec<String> = text.lines().filter_map(|l| l.strip_prefix("guid ")).map(str::to_owned).collect();
    assert_eq!([before, after].concat(), expected);

    // The one who left can come back as somebody new only while the session is there; it was closed by the second process.
    let fault = world.rps().attach(shell).await.expect_err("it is gone");
    assert!(fault.message.contains("connecting to the remote PowerShell session failed"), "{fault:?}");
    // The connection itself opens another session.
    assert_eq!(world.run(&rps, Command::new("Get-AcceptedDomain")).await.2, Ended::Completed);
    rps.close().await;
    world.lab.stop().await.expect("it stops");
}

/// The second process of [`x11_another_process_goes_on`]; by itself it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_process() {
    let Ok(task) = std::env::var(ATTACH) else { return };
    let task: serde_json::Value = serde_json::from_str(&task).unwrap();
    let text = |name: &str| task[name].as_str().unwrap().to_owned();
    let endpoint = Endpoint {
        authority: text("authority"),
        graph: text("graph"),
        admin_api: text("admin_api"),
        powershell: text("powershell"),
        organization: text("organization"),
        tenant_id: Some(text("tenant").parse().unwrap()),
        ca_pem: Some(text("ca").into_bytes()),
        is_lab: true,
    };
    let http = Http::new(&endpoint).unwrap();
    let tokens = TokenSource::new(http.clone(), endpoint, text("app").parse().unwrap(), Credential::Secret(SECRET.into()));
    let rps = RemotePowerShellConnection::new(http, tokens);
    let mut pipelines = rps.attach(text("shell").parse().unwrap()).await.expect("the session");
    assert_eq!(pipelines.len(), 1);
    let (found, end) = drain(&mut pipelines.remove(0).records).await;
    assert_eq!(end, Ended::Completed);
    let mut out = std::io::stdout().lock();
    for guid in found {
        writeln!(out, "guid {guid}").unwrap();
    }
    drop(out);
    rps.close().await;
}

/// A lab, and a front end before its remote PowerShell.
async fn fronted() -> (World, Front) {
    let front = Front::start().await;
    let place = format!("https://127.0.0.1:{}/powershell-liveid", front.port);
    let world = World::with(Some((&place, &front.certificate))).await;
    let ready = world.lab.ready();
    let lab = ready.powershell.split('/').nth(2).and_then(|host| host.rsplit(':').next()).unwrap().to_owned();
    front.before(format!("127.0.0.1:{lab}").parse().unwrap(), &std::fs::read(&ready.ca_file).unwrap());
    (world, front)
}

fn moved(status: u16, location: &str) -> Reply {
    Reply { status, headers: format!("Location: {location}\r\n"), body: Vec::new() }
}

fn fault(code: u32, text: &str) -> Reply {
    let headers = "Content-Type: application/soap+xml;charset=UTF-8\r\n".to_owned();
    Reply { status: 500, headers, body: Fault::new(code, text).envelope(None, "uuid:1").into_bytes() }
}

/// H-03: a redirect is followed on the same host, and nothing goes anywhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h03_hostile_redirects() {
    let (world, front) = fronted().await;
    let elsewhere = Front::start().await;
    let domains = || Command::new("Get-AcceptedDomain");
    let here = format!("https://127.0.0.1:{}", front.port);

    // Followed: absolute, relative, by fault; twice in a row.
    for way in 0..4 {
        let place = here.clone();
        front.behave(move |asked, _| {
            let target = format!("{place}/powershell-liveid?hop=1");
            match (way, asked.path.contains("hop=")) {
                (0, false) => Some(moved(302, &target)),
                (1, false) => Some(moved(307, "/powershell-liveid?hop=1")),
                (2, false) => Some(fault(Fault::REDIRECT_REQUESTED, &format!("Redirect location reported: {target}."))),
                (3, false) => Some(moved(301, "/powershell-liveid?hop=1")),
                (3, true) if !asked.path.contains("hop=2") => Some(moved(308, "/powershell-liveid?hop=2")),
                _ => None,
            }
        });
        let rps = world.rps();
        let (found, warnings, end) = world.run(&rps, domains()).await;
        assert_eq!((found.len(), end), (2, Ended::Completed), "way {way}: {warnings:?}");
        assert!(warnings[0].starts_with("Your connection has been redirected to the following URI: \"https://127.0.0.1:"), "{warnings:?}");
        let seen = front.seen();
        assert!(seen.iter().all(|asked| asked.path.contains("BasicAuthToOAuthConversion=true")), "{:?}", seen[1].path);
        assert!(seen.iter().skip(2).all(|asked| asked.path.contains("hop=")), "a request went to the old place");
        rps.close().await;
    }

    // Not followed.
    let table: [(&str, String, &str, usize); 9] = [
        ("another port", format!("https://127.0.0.1:{}/powershell-liveid", elsewhere.port), "another host", 1),
        ("the same machine by another name", format!("https://localhost:{}/powershell-liveid", front.port), "another host", 1),
        ("the cloud", "https://outlook.office365.com/powershell-liveid".to_owned(), "another host", 1),
        ("not encrypted", format!("http://127.0.0.1:{}/powershell-liveid", front.port), "not be encrypted", 1),
        ("another scheme", "file:///etc/passwd".to_owned(), "not be encrypted", 1),
        ("with a user", format!("https://me@127.0.0.1:{}/powershell-liveid", front.port), "user name", 1),
        ("no address", "https://[".to_owned(), "no address", 1),
        ("itself", format!("{here}/powershell-liveid?BasicAuthToOAuthConversion=true"), "circle", 1),
        ("for ever", "COUNT".to_owned(), "too many redirects", 6),
    ];
    for (name, location, why, requests) in &table {
        for by_fault in [false, true] {
            let (location, mut count) = (location.clone(), 0);
            if by_fault && !location.starts_with("http") && location != "COUNT" {
                continue;
            }
            let place = here.clone();
            front.behave(move |_, _| {
                count += 1;
                let location = if location == "COUNT" { format!("{place}/powershell-liveid?n={count}") } else { location.clone() };
                Some(if by_fault {
                    fault(Fault::REDIRECT_REQUESTED, &format!("It moved to \"{location}\"."))
                } else {
                    moved(302, &location)
                })
            });
            elsewhere.behave(|_, _| None);
            let rps = world.rps();
            let (_, _, end) = world.run(&rps, domains()).await;
            let Ended::Unreachable(fault) = end else { panic!("{name}: {end:?}") };
            assert!(fault.message.contains("redirects to") && fault.message.contains(why), "{name}: {}", fault.message);
            assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Protocol, "RedirectRefused"), "{name}");
            assert!(!fault.hint.is_empty());
            assert_eq!(front.seen().len(), *requests, "{name}");
            assert!(elsewhere.seen().is_empty(), "{name}: something went there");
            rps.close().await;
        }
    }

    // In the middle of a session there are no redirects: the command is lost, and no later one goes there.
    let place = format!("https://127.0.0.1:{}/powershell-liveid", elsewhere.port);
    front.behave(move |asked, _| asked.says("/shell/Command</").then(|| moved(302, &place)));
    let rps = world.rps();
    let set = Command::new("Set-Mailbox").with("Identity", "ann.beebe@contoso.onmicrosoft.com").with("CustomAttribute4", "x");
    let (_, _, end) = world.run(&rps, set).await;
    assert!(matches!(&end, Ended::Unreachable(fault) if fault.message.contains("redirects to")), "{end:?}");
    assert!(elsewhere.seen().is_empty());
    rps.close().await;
    world.lab.stop().await.expect("it stops");
}

/// A far end that is too busy is asked again when it said, as long as the caller waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttled_requests_wait() {
    let (world, front) = fronted().await;
    let slower = |milliseconds: u32| {
        let text = format!(
            "Send future requests at a slower rate. The next request from this user will not be approved for at least {milliseconds} milliseconds."
        );
        fault(Fault::QUOTA_USER, &text)
    };
    // Twice at the opening and twice at the command, by fault and by HTTP.
    let mut left = 4;
    front.behave(move |asked, _| {
        let opens = asked.says("/transfer/Create</") && left > 2;
        let starts = asked.says("/shell/Command</") && left > 0;
        (opens || starts).then(|| {
            left -= 1;
            if left % 2 == 0 { slower(300) } else { Reply { status: 503, headers: "Retry-After: 0.3\r\n".to_owned(), body: Vec::new() } }
        })
    });
    let rps = world.rps();
    let begun = Instant::now();
    let (found, _, end) = world.run(&rps, Command::new("Get-AcceptedDomain")).await;
    assert_eq!((found.len(), end), (2, Ended::Completed));
    assert!(begun.elapsed() >= Duration::from_millis(1_200), "{:?}", begun.elapsed());
    rps.close().await;

    // For ever: without a limit it ends after a few tries, with one as soon as the wait would be longer.
    front.behave(move |_, _| Some(slower(200)));
    let rps = world.rps();
    let (_, _, end) = world.run(&rps, Command::new("Get-AcceptedDomain")).await;
    assert_eq!((end, front.seen().len()), (Ended::Throttled(Duration::from_millis(200)), 4));
    front.behave(move |_, _| Some(slower(5_000)));
    let mut invocation = world.invocation(Command::new("Get-AcceptedDomain")).await;
    invocation.deadline = Some(Duration::from_secs(1));
    let begun = Instant::now();
    let (_, end) = drain(&mut rps.invoke(invocation)).await;
    assert_eq!((end, front.seen().len()), (Ended::Throttled(Duration::from_secs(5)), 1));
    assert!(begun.elapsed() < Duration::from_secs(1), "it does not wait in vain");
    // Too many shells is not a matter of waiting.
    front.behave(|_, _| {
        Some(fault(Fault::QUOTA_SHELLS, "This user is allowed a maximum number of 3 concurrent shells, which has been exceeded."))
    });
    let (_, _, end) = world.run(&rps, Command::new("Get-AcceptedDomain")).await;
    assert!(
        matches!(&end, Ended::Unreachable(fault) if fault.code == "2150859173" && fault.message.contains("3 concurrent shells")),
        "{end:?}"
    );
    assert_eq!(front.seen().len(), 1);
    rps.close().await;
    world.lab.stop().await.expect("it stops");
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Answers compressed by HTTP, streams compressed by XPRESS, and answers that swell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_answers() {
    let (world, front) = fronted().await;
    let (plain, _, _) = world.run(&world.rps(), all()).await;
    let compressed = |reply: &Reply| Reply {
        status: reply.status,
        headers: format!("{}Content-Encoding: gzip\r\n", reply.headers),
        body: gzip(&reply.body),
    };
    for options in [
        SessionOptions::default(),
        SessionOptions { compression: true, ..SessionOptions::default() },
        SessionOptions { runspaces: (1, 3), idle_timeout: Some(Duration::from_secs(60)), ..SessionOptions::default() },
    ] {
        front.behave(move |_, reply| reply.map(compressed));
        let rps = RemotePowerShellConnection::with_options(world.http.clone(), world.tokens.clone(), options);
        let (found, _, end) = world.run(&rps, all()).await;
        assert_eq!(end, Ended::Completed);
        assert!(found == plain, "{options:?}: {} of {}", found.len(), plain.len());
        let create = front.seen()[0].clone();
        // What stays on this machine need not be packed; it is read all the same.
        assert!(create.headers.to_ascii_lowercase().contains("accept-encoding: identity"), "{}", create.headers);
        assert_eq!(create.says("CompressionType"), options.compression);
        assert_eq!(create.says("PT60"), options.idle_timeout.is_some());
        rps.close().await;
    }
    // A loopback address without a lab behind it may be the end of a tunnel.
    front.behave(|_, _| None);
    let elsewhere = Http::new(&Endpoint { is_lab: false, ..world.tokens.endpoint().clone() }).unwrap();
    let rps = RemotePowerShellConnection::with_options(elsewhere, world.tokens.clone(), SessionOptions::default());
    let (_, _, end) = world.run(&rps, all()).await;
    assert!(matches!(&end, Ended::SignIn(fault) | Ended::Unreachable(fault) if fault.message.contains("is a lab's")), "{end:?}");
    assert!(front.seen()[0].headers.to_ascii_lowercase().contains("accept-encoding: gzip"));
    // 100 MB in 100 kB.
    let bomb: Arc<Vec<u8>> = Arc::new(gzip(&vec![b' '; 100 << 20]));
    front.behave(move |asked, _| {
        let headers = "Content-Type: application/soap+xml\r\nContent-Encoding: gzip\r\n".to_owned();
        asked.says("/shell/Receive</").then(|| Reply { status: 200, headers, body: bomb.to_vec() })
    });
    let rps = world.rps();
    let (_, _, end) = world.run(&rps, Command::new("Get-AcceptedDomain")).await;
    assert!(matches!(&end, Ended::Unreachable(fault) if fault.message.contains("is longer than")), "{end:?}");
    rps.close().await;
    world.lab.stop().await.expect("it stops");
}
