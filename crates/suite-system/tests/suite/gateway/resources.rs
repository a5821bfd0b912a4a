//! What callers of remote PowerShell may use at once, and what becomes of what they leave behind.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exops_gateway::Quotas;
use exops_policy::DirectoryRole;
use exops_psrp::{Command, PipelineEnd};
use exops_remoting::client::ClientEvent;
use exops_remoting::wsman::{Fault, Limits, ResponseBody, parse_response};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

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

/// a caller that sends too fast is told how long to wait; nobody else is; and after that time it goes on.
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

    let mut roots = RootCertStore::empty();
    roots.add(fixture.root.clone()).unwrap();
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
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

fn fault(body: &[u8]) -> Fault {
    match parse_response(body, &Limits::default()).unwrap().body {
        ResponseBody::Fault(fault) => fault,
        other => panic!("{other:?}"),
    }
}

/// clients that die leave shells behind; those make room for new ones, those of living clients never.
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
