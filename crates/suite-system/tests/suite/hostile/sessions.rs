//! Shells under clients that race, vanish, guess and hoard.

use std::time::{Duration, Instant};

use base64::Engine as _;
use exops_psrp::{Channel, ClientPool, ClientPoolConfig, Command};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

use super::peer::{SHELL, Shell, TRANSFER, Target, UNKNOWN_SHELL};

/// a thousand Receives, each of a command of its own, are held at once and all answered in time; they cost little, and nothing
/// once their clients are gone. An idle connection beside them is of no account.
#[tokio::test(flavor = "multi_thread")]
async fn x_08_held_receives() {
    let target = Target::start();
    let _idle: Vec<_> = (0..50).map(|_| std::net::TcpStream::connect(target.address()).unwrap()).collect();
    let mut shells = Vec::new();
    let mut commands = Vec::new();
    for shell in 0..20 {
        shells.push(target.open().await);
        for _ in 0..50 {
            let sleeping = Command::new("Start-Sleep").with("Seconds", 600);
            commands.push((shell, shells[shell].invoke(sleeping, false).await));
        }
    }
    let round = |vanish: bool| {
        let target = &target;
        let requests: Vec<String> = commands.iter().map(|(shell, id)| shells[*shell].receive_envelope(Some(*id))).collect();
        async move {
            let sent = requests.into_iter().map(|body| async move {
                let (begun, request) = (Instant::now(), target.client.post(&target.url).header(AUTHORIZATION, &target.authorization));
                let sent = request.header(CONTENT_TYPE, "application/soap+xml").body(body.replace("PT3S", "PT5S")).send();
                // Held for five seconds; who vanishes does so before.
                let answer = tokio::time::timeout(Duration::from_secs(if vanish { 2 } else { 60 }), sent).await.ok()?.ok()?;
                let text = answer.text().await.ok()?;
                Some((text.contains("2150858793"), begun.elapsed()))
            });
            futures_util::future::join_all(sent).await
        }
    };
    let answers = round(false).await;
    let held = answers.iter().flatten().filter(|(timed_out, held)| *timed_out && *held >= Duration::from_secs(4)).count();
    assert_eq!(held, 1000, "{:?}", answers.iter().find(|answer| !matches!(answer, Some((true, _)))));
    let latest = answers.iter().flatten().map(|(_, held)| *held).max().unwrap();
    assert!(latest < Duration::from_secs(25), "the last was answered after {latest:?}");
    let before = target.memory().0;
    for _ in 0..2 {
        let answers = round(true).await;
        assert!(answers.iter().all(Option::is_none), "each was held until its client left");
    }
    let after = target.memory().0;
    assert!(after < before + 64, "{before} MB became {after} MB");
    for (shell, id) in commands {
        shells[shell].signal(id, &format!("{SHELL}/signal/terminate")).await.is_done("terminate");
    }
    for shell in &mut shells {
        shell.lives().await;
    }
}

/// a hundred thousand mailboxes for a client that reads a kilobyte a second: the server makes no more of them than it has room
/// for, stands still meanwhile, and goes on for whoever comes back.
#[tokio::test(flavor = "multi_thread")]
async fn r_01_a_slow_reader() {
    let target = Target::start();
    let mut shell = target.open().await;
    let before = target.memory().0;
    let id = shell.invoke(Command::new("Get-Mailbox").with("ResultSize", "Unlimited"), false).await;
    // One answer holds more than such a client reads in two minutes.
    let mut stream = target.stream().await;
    let body = shell.receive_envelope(Some(id));
    let head = format!(
        "POST /powershell-liveid HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nContent-Type: application/soap+xml\r\nContent-Length: {}\r\n\r\n",
        target.authorization,
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let (mut part, mut read, mut worked) = ([0; 1 << 10], Vec::new(), Vec::new());
    for _ in 0..8 {
        stream.read_exact(&mut part).await.unwrap();
        read.extend(part);
        tokio::time::sleep(Duration::from_secs(1)).await;
        worked.push(target.worked());
    }
    assert!(read.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&read));
    let (now, most) = target.memory();
    assert!(most < before + 32, "{before} MB became {now}, at most {most}");
    let standing = worked[7].saturating_sub(worked[1]);
    assert!(standing < Duration::from_millis(600), "it worked for {standing:?} of six seconds while nobody read: {worked:?}");
    drop(stream);
    shell.receive(Some(id)).await.is_done("the next Receive");
    shell.signal(id, "powershell/signal/crtl_c").await.is_done("stop");
    shell.signal(id, &format!("{SHELL}/signal/terminate")).await.is_done("terminate");
    shell.lives().await;
}

/// with no file descriptor left, those who are connected are served, new ones wait or are turned away, a caller above its share is
/// told so, and all of it works again when the crowd has gone, in the same process.
#[tokio::test(flavor = "multi_thread")]
async fn r_08_no_descriptors_left() {
    let target = Target::with_descriptors(Some(128));
    let mut shell = target.open().await;
    for round in 0..3 {
        let crowd: Vec<_> = (0..300).map(|_| std::net::TcpStream::connect(target.address()).unwrap()).collect();
        let limit = Instant::now() + Duration::from_secs(10);
        while target.descriptors() < 120 {
            assert!(Instant::now() < limit, "round {round}: {} descriptors", target.descriptors());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The client has a connection from before.
        let begun = Instant::now();
        shell.lives().await;
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        // Nobody new gets in; that costs no work.
        let worked = target.worked();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(target.worked().saturating_sub(worked) < Duration::from_millis(500), "it spins");
        drop(crowd);
        let fresh = target.fresh_client();
        let limit = Instant::now() + Duration::from_secs(20);
        loop {
            let request = fresh.post(&target.url).header(AUTHORIZATION, &target.authorization).header(CONTENT_TYPE, "application/soap+xml");
            match tokio::time::timeout(Duration::from_secs(5), request.body(shell.receive_envelope(None)).send()).await {
                Ok(Ok(answer)) if answer.status() == 500 => break,
                other => assert!(Instant::now() < limit, "round {round}: {other:?}"),
            }
        }
    }
    // Above its share of shells, the fault that says so, and again room when one is closed.
    let mut shells = Vec::new();
    let refused = loop {
        let mut next = Shell::new(&target);
        let answer = next.create().await;
        if answer.status != 200 {
            break answer;
        }
        shells.push(next);
    };
    assert!(refused.fault() == Some(2_150_859_173) && refused.text.contains("w:QuotaLimit"), "{refused:?}");
    for shell in shells {
        shell.delete().await.is_done("delete");
    }
    target.lives().await;
}

/// whoever is first wins, everybody gets an answer, and nothing is left behind.
#[tokio::test(flavor = "multi_thread")]
async fn x_11_races() {
    let target = Target::start();
    // One id, several that create it at once.
    let shell = Shell::new(&target);
    let creation = ClientPool::new(ClientPoolConfig::new(shell.id)).take(Channel::Pool, usize::MAX);
    let created = futures_util::future::join_all((0..8).map(|_| target.post(shell.create_envelope(&creation)))).await;
    assert_eq!(created.iter().filter(|answer| answer.status == 200).count(), 1, "{created:?}");
    assert!(created.iter().all(|answer| answer.status == 200 || answer.fault().is_some()));
    shell.delete().await.is_done("delete");

    for round in 0..4 {
        let mut shell = target.open().await;
        let command = shell.invoke(Command::new("Start-Sleep").with("Seconds", 60), false).await;
        let empty = |name: &str| shell.envelope(&format!("{SHELL}/{name}"), &format!("<r:{name}/>"));
        let capability = ClientPool::new(ClientPoolConfig::new(shell.id)).take(Channel::Pool, usize::MAX);
        let capability = base64::engine::general_purpose::STANDARD.encode(capability);
        let connect =
            format!("<r:Connect><connectXml xmlns=\"http://schemas.microsoft.com/powershell\">{capability}</connectXml></r:Connect>");
        let mut requests = Vec::new();
        for _ in 0..6 {
            requests.extend([empty("Disconnect"), empty("Reconnect"), shell.receive_envelope(None), shell.receive_envelope(Some(command))]);
            requests.push(shell.envelope(&format!("{SHELL}/Connect"), &connect));
        }
        // In the middle of it, the end.
        requests.insert(requests.len() / (round + 1) / 2, shell.envelope(&format!("{TRANSFER}/Delete"), ""));
        let answers = futures_util::future::join_all(requests.into_iter().map(|request| target.post(request))).await;
        assert!(answers.iter().all(|answer| answer.status == 200 || answer.fault().is_some()), "{answers:?}");
        // Whoever came to a shell that somebody had left was turned away, the Delete too: then it is made once more.
        let _ = target.post(empty("Reconnect")).await;
        let _ = shell.delete().await;
        assert_eq!(shell.receive(None).await.fault(), Some(UNKNOWN_SHELL));
    }
    assert_eq!(target.shells().await, Vec::<String>::new());
    target.lives().await;
}

/// a guessed id is nobody's, under every operation; a command belongs to its shell.
#[tokio::test(flavor = "multi_thread")]
async fn a_08_guessed_ids() {
    let target = Target::start();
    let (mut mine, mut other) = (target.open().await, target.open().await);
    let command = other.invoke(Command::new("Start-Sleep").with("Seconds", 60), false).await;
    let guessed = Shell::new(&target);
    for name in ["Receive", "Send", "Signal", "Command", "Disconnect", "Reconnect", "Connect"] {
        let body = match name {
            "Receive" => "<r:Receive><r:DesiredStream>stdout</r:DesiredStream></r:Receive>".to_owned(),
            "Send" => "<r:Send><r:Stream Name=\"stdin\">AAAA</r:Stream></r:Send>".to_owned(),
            "Signal" => format!("<r:Signal CommandId=\"{command}\"><r:Code>powershell/signal/crtl_c</r:Code></r:Signal>"),
            "Command" => "<r:CommandLine><r:Command/><r:Arguments>AAAA</r:Arguments></r:CommandLine>".to_owned(),
            other => format!("<r:{other}/>"),
        };
        let answer = target.post(guessed.envelope(&format!("{SHELL}/{name}"), &body)).await;
        assert_eq!(answer.fault(), Some(UNKNOWN_SHELL), "{name}: {answer:?}");
    }
    assert_eq!(guessed.delete().await.fault(), Some(UNKNOWN_SHELL));
    // The command of one shell through another one.
    mine.receive(Some(command)).await.is_refused("another shell's output");
    mine.send(Some(command), b"x").await.is_refused("another shell's input");
    mine.signal(command, "powershell/signal/crtl_c").await.is_refused("another shell's command");
    mine.lives().await;
    assert_eq!(other.receive(Some(command)).await.fault(), Some(2_150_858_793), "it sleeps on");
}

/// shells that nobody comes back to are gone after their idle time, and their owner may open others; above its share it
/// gets the quota fault at once, and what it has goes on.
#[tokio::test(flavor = "multi_thread")]
async fn r_02_and_r_03_abandoned_shells() {
    let target = Target::start();
    let before = target.memory().0;
    for _ in 0..3 {
        let mut shells = Vec::new();
        let refused = loop {
            let mut shell = Shell::new(&target);
            let creation = shell.pool.take(Channel::Pool, usize::MAX);
            let envelope =
                shell.create_envelope(&creation).replace("<r:InputStreams>", "<r:IdleTimeOut>PT2.000S</r:IdleTimeOut><r:InputStreams>");
            let answer = target.post(envelope).await;
            if answer.status != 200 {
                break answer;
            }
            shells.push(shell);
            assert!(shells.len() < 1000, "no quota");
        };
        assert_eq!(refused.fault(), Some(2_150_859_173), "{refused:?}");
        // A command that runs keeps nobody's shell for ever.
        let mut last = shells.pop().unwrap();
        last.invoke(Command::new("Echo-Input"), true).await;
        let limit = Instant::now() + Duration::from_secs(20);
        while !target.shells().await.is_empty() {
            assert!(Instant::now() < limit, "shells are left");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(last.receive(None).await.fault(), Some(UNKNOWN_SHELL));
        assert_eq!(last.receive(Some(Uuid::new_v4())).await.fault(), Some(UNKNOWN_SHELL));
    }
    let after = target.memory().0;
    assert!(after < before + 48, "{before} MB became {after} MB");
    target.lives().await;
}
