//! Shells under clients that race, vanish, guess and hoard.

use std::time::Duration;

use base64::Engine as _;
use exops_psrp::{Channel, ClientPool, ClientPoolConfig, Command};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use uuid::Uuid;

use super::peer::{SHELL, Shell, TRANSFER, Target, UNKNOWN_SHELL};

/// many Receives held at once are all answered in time, cost little, and cost nothing once their clients are gone.
#[tokio::test(flavor = "multi_thread")]
async fn x_08_held_receives() {
    let target = Target::start();
    let mut shells = Vec::new();
    for _ in 0..10 {
        shells.push(target.open().await);
    }
    let round = |vanish: bool| {
        let target = &target;
        let requests: Vec<String> = (0..1000).map(|n: usize| shells[n % shells.len()].receive_envelope(None)).collect();
        async move {
            let sent = requests.into_iter().map(|body| {
                let request = target.client.post(&target.url).header(AUTHORIZATION, &target.authorization);
                let sent = request.header(CONTENT_TYPE, "application/soap+xml").body(body).send();
                // Held for three seconds; who vanishes does so before.
                tokio::time::timeout(Duration::from_secs(if vanish { 2 } else { 60 }), sent)
            });
            let answers = futures_util::future::join_all(sent).await;
            answers.into_iter().filter(|answer| matches!(answer, Ok(Ok(answer)) if matches!(answer.status().as_u16(), 200 | 500))).count()
        }
    };
    assert_eq!(round(false).await, 1000, "each is answered");
    let before = target.memory().0;
    for _ in 0..2 {
        round(true).await;
    }
    let after = target.memory().0;
    assert!(after < before + 64, "{before} MB became {after} MB");
    for shell in &mut shells {
        shell.lives().await;
    }
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
        let limit = std::time::Instant::now() + Duration::from_secs(20);
        while !target.shells().await.is_empty() {
            assert!(std::time::Instant::now() < limit, "shells are left");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(last.receive(None).await.fault(), Some(UNKNOWN_SHELL));
        assert_eq!(last.receive(Some(Uuid::new_v4())).await.fault(), Some(UNKNOWN_SHELL));
    }
    let after = target.memory().0;
    assert!(after < before + 48, "{before} MB became {after} MB");
    target.lives().await;
}
