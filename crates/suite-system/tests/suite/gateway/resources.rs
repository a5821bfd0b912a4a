//! What callers of remote PowerShell may use at once, and what becomes of what they leave behind.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exops_gateway::Quotas;
use exops_policy::DirectoryRole;
use exops_psrp::{Channel, ClientPool, ClientPoolConfig, Command, PipelineEnd};
use exops_remoting::client::ClientEvent;
use exops_remoting::wsman::{Fault, Limits, ResponseBody, parse_response};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use uuid::Uuid;

use super::fixture::{BIG, Fixture};
use super::powershell::{Session, envelope};

/// The fault with which a new shell is refused, if it is.
async fn refused(fixture: &Fixture, token: &str) -> Result<Session, Fault> {
    let mut session = Session::new(fixture, token);
    match session.event().await {
        ClientEvent::Opened => Ok(session),
        ClientEvent::Broken(error) => Err(error.fault().cloned().unwrap_or_else(|| panic!("{error}"))),
        other => panic!("{other:?}"),
    }
}

/// R-03: a caller that sends too fast is told how long to wait; nobody else is; and after that time it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn r03_load_and_operations_of_one_caller() {
    let quotas = Quotas { requests: 40, per: Duration::from_secs(2), operations: 3, ..Quotas::default() };
    let fixture = Fixture::with_quotas(quotas).await;
    let (noisy, quiet) = (fixture.admin(), fixture.token(0xd, DirectoryRole::ExchangeAdministrator));
    let mut patient = Session::new(&fixture, &quiet);
    patient.open().await;
    let ask = async |token: &str| {
        let body = envelope("http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Receive", "C0FFEE00-0000-0000-0000-000000000001");
        let url = format!("{}/powershell", fixture.base);
        let post = fixture.client.post(url).bearer_auth(token).header("Content-Type", "application/soap+xml").body(body);
        let answer = post.send().await.unwrap();
        (answer.status().as_u16(), fault(&answer.bytes().await.unwrap()))
    };
    let (mut served, mut told) = (0, None);
    while told.is_none() {
        let (status, fault) = ask(&noisy).await;
        assert_eq!(status, 500);
        match fault.code {
            Fault::UNEXPECTED_SELECTORS => served += 1,
            2_150_859_175 => told = Some(fault),
            other => panic!("{other}: {fault}"),
        }
        assert!(served < 400, "nobody slowed it down");
    }
    assert!(served >= 40, "a burst of {served}");
    assert_eq!(patient.run(Command::new("Get-Mailbox")).await.3, PipelineEnd::Completed);
    let fault = told.unwrap();
    let text = "The user load quota of 40 requests per 2 seconds has been exceeded.";
    assert!(fault.message.contains(text) && fault.subcode == "w:QuotaLimit", "{fault}");
    let wait = fault.not_before().unwrap();
    assert!((1..=50).contains(&wait), "{wait} ms: one request is let through every 50");
    tokio::time::sleep(Duration::from_millis(wait + 1)).await;
    assert_eq!(ask(&noisy).await.1.code, Fault::UNEXPECTED_SELECTORS);

    // Three Receives wait, of the session and of two commands; nothing more of this caller is taken, until one of them is answered.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut waiting = Session::new(&fixture, &noisy);
    waiting.open().await;
    waiting.start(Command::new("Get-Forever"));
    waiting.start(Command::new("Get-Forever"));
    waiting.rest(3).await;
    let refused = ask(&noisy).await.1;
    assert_eq!(refused.code, 2_150_859_174);
    assert!(refused.message.contains("maximum number of 3 concurrent operations, which has been exceeded"), "{refused}");
    assert_eq!(patient.run(Command::new("Get-Mailbox")).await.3, PipelineEnd::Completed);
    drop(waiting);
    let limit = Instant::now() + Duration::from_secs(10);
    while ask(&noisy).await.1.code != Fault::UNEXPECTED_SELECTORS {
        assert!(Instant::now() < limit, "what nobody waits for counts no more");
    }
    patient.close().await;
    fixture.finish().await;
}

/// C-01: messages that never end count together, whosever they are. The shell that goes beyond is closed and the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn c01_messages_without_end_in_all_shells() {
    const PART: u32 = 300 << 10;
    let fixture = Fixture::with_quotas(Quotas { unfinished: 1 << 20, ..Quotas::default() }).await;
    let (hostile, quiet) = (fixture.admin(), fixture.token(0xd, DirectoryRole::ExchangeAdministrator));
    let mut patient = Session::new(&fixture, &quiet);
    patient.open().await;
    let begin = async |session: &Session| {
        let part = [&7_u64.to_be_bytes()[..], &[0; 8], &[1], &PART.to_be_bytes(), &vec![0; PART as usize]].concat();
        let shell = session.pool_id.to_string().to_uppercase();
        let body = envelope("http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Send", &shell).replace("AAAA", &STANDARD.encode(part));
        let url = format!("{}/powershell", fixture.base);
        let post = fixture.client.post(url).bearer_auth(&hostile).header("Content-Type", "application/soap+xml").body(body);
        let answer = post.send().await.unwrap();
        let status = answer.status();
        let body = answer.bytes().await.unwrap();
        if status == 200 { Ok(()) } else { Err(fault(&body)) }
    };
    let mut shells = Vec::new();
    for _ in 0..3 {
        let mut session = Session::new(&fixture, &hostile);
        session.open().await;
        assert_eq!(begin(&session).await, Ok(()));
        shells.push(session);
    }
    for _ in 0..2 {
        let mut one_more = Session::new(&fixture, &hostile);
        one_more.open().await;
        let refused = begin(&one_more).await.unwrap_err();
        assert!(refused.code == Fault::QUOTA_USER && refused.message.contains("more than 1048576 bytes"), "{refused}");
        assert_eq!(begin(&one_more).await.unwrap_err().code, Fault::UNEXPECTED_SELECTORS, "it is closed");
    }
    assert_eq!(patient.run(Command::new("Get-Mailbox")).await.3, PipelineEnd::Completed);
    // What ends makes room.
    shells.pop().unwrap().close().await;
    let mut another = Session::new(&fixture, &hostile);
    another.open().await;
    assert_eq!(begin(&another).await, Ok(()));
    for session in shells.into_iter().chain([another, patient]) {
        session.close().await;
    }
    fixture.finish().await;
}

/// One runspace: commands wait for each other. Two: they do not.
#[tokio::test(flavor = "multi_thread")]
async fn commands_of_a_shell_run_as_its_client_asked() {
    let fixture = Fixture::start().await;
    let token = fixture.admin();
    for most in [1, 2] {
        let mut session = Session::with(&fixture, &token, |config| config.runspaces = (1, most));
        session.open().await;
        let first = session.start(Command::new("Get-Forever"));
        // Two requests on their way may overtake each other.
        session.rest(2).await;
        let second = session.start(Command::new("Get-Mailbox"));
        let mut done = tokio::time::timeout(Duration::from_millis(1_500), session.ended()).await.ok();
        assert_eq!(done.is_some(), most == 2, "{most} at once");
        session.stop(first);
        let mut ends = vec![session.ended().await];
        if let Some(done) = done.take() {
            ends.insert(0, done);
        } else {
            ends.push(session.ended().await);
        }
        let expected = [(second, PipelineEnd::Completed), (first, PipelineEnd::Stopped)];
        assert_eq!(ends, if most == 2 { expected.to_vec() } else { expected.into_iter().rev().collect() });
        session.close().await;
    }
    fixture.finish().await;
}

/// H-10: one address holds so many connections and no more; a peer that does not read its answer is cut off.
#[tokio::test(flavor = "multi_thread")]
async fn h10_connections_of_one_address_and_readers_that_stall() {
    let quotas = Quotas { connections: 20, stalled_after: Duration::from_millis(1_500), ..Quotas::default() };
    let fixture = Fixture::with_quotas(quotas).await;
    let server: SocketAddr = fixture.base.replace("https://localhost", "127.0.0.1").parse().unwrap();
    let connect = async |from: &str| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(256 << 10).unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(server).await.unwrap()
    };
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(connect("127.0.0.1").await);
    }
    let mut byte = [0];
    assert_eq!(connect("127.0.0.1").await.read(&mut byte).await.ok().unwrap_or(0), 0, "closed at once");
    let mut other = connect("127.0.0.2").await;
    let read = tokio::time::timeout(Duration::from_millis(300), other.read(&mut byte)).await;
    assert!(read.is_err(), "another address is served: {read:?}");
    silent.clear();
    let limit = Instant::now() + Duration::from_secs(10);
    while fixture.client.get(format!("{}/ping", fixture.base)).send().await.is_err() {
        assert!(Instant::now() < limit, "connections that are gone count no more");
    }

    let connector = connector(&fixture);
    let ask = async || {
        let mut stream = connector.connect("localhost".try_into().unwrap(), connect("127.0.0.1").await).await.unwrap();
        stream.write_all(b"GET /big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        stream
    };
    let (mut stalled, mut slow) = (ask().await, ask().await);
    // One takes longer than that for the whole, the other takes nothing.
    let (mut part, mut count) = (vec![0; 300 << 10], 0);
    let began = Instant::now();
    while let Ok(1..) = slow.read_exact(&mut part).await {
        count += part.len();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(count > BIG - part.len() && began.elapsed() > Duration::from_secs(1), "{count} in {:?}", began.elapsed());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut rest = Vec::new();
    let ended = stalled.read_to_end(&mut rest).await;
    assert!(rest.len() < BIG, "cut off after {} bytes: {ended:?}", rest.len());
    fixture.finish().await;
}

/// H-10: a body that comes byte by byte is cut off in its time on every route, whoever would read it; others are served meanwhile. A
/// large one that comes at a usual rate may take longer.
#[tokio::test(flavor = "multi_thread")]
async fn h10_bodies_that_come_slowly() {
    let within = Duration::from_millis(500);
    let fixture = Fixture::with_quotas(Quotas { body_within: within, ..Quotas::default() }).await;
    let server: SocketAddr = fixture.base.replace("https://localhost", "127.0.0.1").parse().unwrap();
    let connector = connector(&fixture);
    let token = fixture.admin();
    let slow = async |path: &str, kind: &str| {
        let mut stream =
            connector.connect("localhost".try_into().unwrap(), tokio::net::TcpStream::connect(server).await.unwrap()).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: {kind}\r\nContent-Length: 100000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let began = Instant::now();
        let trickle = async {
            while writer.write_all(b"<").await.is_ok() && writer.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            std::future::pending().await
        };
        let mut answer = vec![0; 64];
        let read = tokio::select! {
            read = reader.read(&mut answer) => read.unwrap_or(0),
            () = trickle => 0,
        };
        (String::from_utf8_lossy(&answer[..read]).chars().skip(9).take(3).collect::<String>(), began.elapsed())
    };
    let rest = fixture.url().split_once("localhost").unwrap().1.split_once('/').map(|(_, path)| format!("/{path}")).unwrap();
    let others = async {
        let began = Instant::now();
        for _ in 0..20 {
            let answer = fixture.client.get(format!("{}/ping", fixture.base)).send().await.unwrap();
            assert_eq!(answer.text().await.unwrap(), "pong");
        }
        assert!(began.elapsed() < Duration::from_secs(5));
    };
    let soap = "application/soap+xml;charset=UTF-8";
    let (powershell, rest, count, ()) =
        tokio::join!(slow("/powershell-liveid", soap), slow(&rest, "application/json"), slow("/count", "text/plain"), others);
    for (what, (status, took), due) in [("powershell", powershell, "408"), ("REST", rest, "408"), ("another route", count, "408")] {
        assert_eq!(status, due, "{what}");
        assert!(took >= within && took < Duration::from_secs(15), "{what} was cut off after {took:?}");
    }
    // A mebibyte in thirty-two parts, which takes twice the time that a byte may take.
    let mut stream =
        connector.connect("localhost".try_into().unwrap(), tokio::net::TcpStream::connect(server).await.unwrap()).await.unwrap();
    stream.write_all(b"POST /count HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\nConnection: close\r\n\r\n").await.unwrap();
    let began = Instant::now();
    for _ in 0..32 {
        stream.write_all(&[b'x'; 32 << 10]).await.unwrap();
        stream.flush().await.unwrap();
        tokio::time::sleep(within / 16).await;
    }
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("1048576") && began.elapsed() > within, "{answer}");
    fixture.finish().await;
}

/// A TLS client for whoever writes its own bytes.
fn connector(fixture: &Fixture) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(fixture.root.clone()).unwrap();
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

fn fault(body: &[u8]) -> Fault {
    match parse_response(body, &Limits::default()).unwrap().body {
        ResponseBody::Fault(fault) => fault,
        other => panic!("{other:?}"),
    }
}

/// R-02: clients that die leave shells behind; those make room for new ones, those of living clients never.
#[tokio::test(flavor = "multi_thread")]
async fn r02_shells_that_were_left_behind_make_room() {
    let quotas = Quotas { shells: 3, broken_after: Duration::from_millis(300), ..Quotas::default() };
    let fixture = Fixture::with_quotas(quotas).await;
    let token = fixture.admin();
    let mut alive = Session::new(&fixture, &token);
    alive.open().await;
    for round in 0..4 {
        let mut dying = Vec::new();
        let limit = Instant::now() + Duration::from_secs(20);
        while dying.len() < 2 {
            match refused(&fixture, &token).await {
                Ok(session) => dying.push(session),
                Err(fault) => {
                    assert_eq!(fault.code, Fault::QUOTA_SHELLS);
                    assert!(round > 0 && Instant::now() < limit, "{fault}");
                }
            }
            // It is heard of now and then: its shell stays.
            assert_eq!(alive.run(Command::new("Get-Mailbox")).await.3, PipelineEnd::Completed);
        }
        // Their Receives wait at the server when they die.
        for session in &mut dying {
            session.send();
        }
        assert_eq!(alive.run(Command::new("Get-Mailbox")).await.3, PipelineEnd::Completed);
    }
    alive.close().await;
    fixture.finish().await;
}

/// Megabytes that this process holds; zero where the system does not tell.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or_default() / 1024
}

/// R-02, R-03: a thousand shells that somebody opens and leaves are gone after their idle time, twice over, and memory stays where it
/// was; while they come and go another caller's commands take as long as before, and the one above a thousand is told why.
#[tokio::test(flavor = "multi_thread")]
async fn r02_and_r03_a_thousand_abandoned_shells() {
    const SHELLS: usize = 1_000;
    let quotas = Quotas { shells: SHELLS, requests: 100_000, ..Quotas::default() };
    let fixture = Fixture::with_quotas(quotas).await;
    let (noisy, quiet) = (fixture.admin(), fixture.token(0xd, DirectoryRole::ExchangeAdministrator));
    let mut patient = Session::new(&fixture, &quiet);
    patient.open().await;
    let url = format!("{}/powershell", fixture.base);
    let post = async |token: &str, body: String| {
        let request = fixture.client.post(&url).bearer_auth(token).header("Content-Type", "application/soap+xml").body(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    // All shells of a round end at one moment, however long it takes to open them.
    let create = |ends: Instant| {
        let idle = ends.saturating_duration_since(Instant::now()).as_secs_f32();
        let id = Uuid::new_v4();
        let creation = STANDARD.encode(ClientPool::new(ClientPoolConfig::new(id)).take(Channel::Pool, usize::MAX));
        let shell = format!(
            r#"<r:Shell ShellId="{id}"><r:IdleTimeOut>PT{idle:.3}S</r:IdleTimeOut><r:InputStreams>stdin pr</r:InputStreams><r:OutputStreams>stdout</r:OutputStreams><creationXml xmlns="http://schemas.microsoft.com/powershell">{creation}</creationXml></r:Shell>"#
        );
        let option = r#"<w:OptionSet><w:Option Name="protocolversion" MustComply="true">2.3</w:Option></w:OptionSet></s:Header><s:Body>"#;
        let envelope = envelope("http://schemas.xmlsoap.org/ws/2004/09/transfer/Create", "");
        let envelope = envelope.replace(r#"<w:SelectorSet><w:Selector Name="ShellId"></w:Selector></w:SelectorSet>"#, "");
        envelope.replace("</s:Header><s:Body>", &format!("{option}{shell}"))
    };
    let listed = async || {
        let list = envelope("http://schemas.xmlsoap.org/ws/2004/09/enumeration/Enumerate", "")
            .replace(r#"<w:SelectorSet><w:Selector Name="ShellId"></w:Selector></w:SelectorSet>"#, "")
            .replace("http://schemas.microsoft.com/powershell/Microsoft.Exchange", "http://schemas.microsoft.com/wbem/wsman/1/windows/shell")
            .replace("<s:Body></s:Body>", r#"<s:Body><n:Enumerate xmlns:n="http://schemas.xmlsoap.org/ws/2004/09/enumeration"><w:OptimizeEnumeration/><w:MaxElements>32000</w:MaxElements></n:Enumerate></s:Body>"#);
        let (status, text) = post(&noisy, list).await;
        assert_eq!(status, 200, "{text}");
        text.matches("<rsp:ShellId>").count()
    };
    let mut held = Vec::new();
    let mut slowest = Duration::ZERO;
    for round in 0..2 {
        let ends = Instant::now() + Duration::from_secs(20);
        for part in 0..SHELLS / 50 {
            let created = futures_util::future::join_all((0..50).map(|_| post(&noisy, create(ends)))).await;
            assert!(
                created.iter().all(|(status, _)| *status == 200),
                "round {round}, part {part}: {:?}",
                created.iter().find(|c| c.0 != 200)
            );
            if part % 5 == 0 {
                let began = Instant::now();
                assert_eq!(patient.run(Command::new("Get-Mailbox")).await.3, PipelineEnd::Completed);
                slowest = slowest.max(began.elapsed());
            }
        }
        let (status, text) = post(&noisy, create(ends)).await;
        assert!(status == 500 && text.contains("2150859173") && text.contains("maximum number of 1000 concurrent shells"), "{text}");
        assert!(listed().await > 0);
        let limit = Instant::now() + Duration::from_secs(40);
        while listed().await > 0 {
            assert!(Instant::now() < limit, "shells are left");
            tokio::time::sleep(Duration::from_millis(250)).await;
            assert_eq!(patient.run(Command::new("Get-Mailbox")).await.3, PipelineEnd::Completed);
        }
        held.push(resident());
    }
    assert!(held[1] <= held[0] + 16, "{held:?} MB after a thousand shells each");
    println!("R-02: {held:?} MB after each thousand; R-03: the other caller's slowest command took {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "another caller waited for {slowest:?}");
    patient.close().await;
    fixture.finish().await;
}
