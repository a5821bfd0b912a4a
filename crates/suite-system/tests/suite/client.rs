//! The client's connections against a lab behind a line that can be cut: what is tried again, what is not, and how a
//! pipeline ends. Attack cases of lost answers are named in `docs/threats.md`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use exops_auth::{Identity, issue};
use exops_catalogue::{Catalogue, Command, Pipeline, UnknownNames, bind};
use exops_client::{Credential, Endpoint, GraphSetup, Http, NewApplication, RemotePowerShellConnection, RestConnection, TokenSource};
use exops_lab::{Lab, LabConfig, RunningLab};
use exops_psobject::Value;
use exops_runspace::{Ended, FaultKind, Invocation, Record, Runspace, Step};
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

/// A lab, an application in it, and the line to it.
pub(crate) struct World {
    pub(crate) lab: RunningLab,
    line: Line,
    pub(crate) tokens: TokenSource,
    pub(crate) http: Http,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(None).await
    }

    /// With remote PowerShell at another place, and a certificate that is trusted beside the lab's.
    pub(crate) async fn with(front: Option<(&str, &str)>) -> Self {
        let lab = Lab::start(LabConfig { listen: ([127, 0, 0, 1], 0).into(), ..LabConfig::default() }).await.expect("a lab");
        let ready = lab.ready();
        let port = ready.authority.rsplit(':').next().and_then(|p| p.parse().ok()).expect("a port");
        let line = Line::to(SocketAddr::from(([127, 0, 0, 1], port))).await;
        let through = |url: &str| url.replace(&format!(":{port}"), &format!(":{}", line.port));
        let mut endpoint = Endpoint {
            authority: ready.authority.clone(),
            graph: ready.graph.clone(),
            admin_api: through(&ready.admin_api),
            powershell: through(&ready.powershell),
            organization: ready.organization.clone(),
            tenant_id: Some(ready.tenant_id),
            ca_pem: Some(std::fs::read(&ready.ca_file).expect("the CA")),
            is_lab: true,
        };
        if let Some((powershell, certificate)) = front {
            endpoint.powershell = powershell.to_owned();
            endpoint.ca_pem.get_or_insert_default().extend_from_slice(certificate.as_bytes());
        }
        let http = Http::new(&endpoint).expect("a client");
        let identity = identity();
        let setup = GraphSetup::new(http.clone(), &ready.graph, &lab.bootstrap().token, ready.tenant_id);
        let new = NewApplication {
            name: "client-test".to_owned(),
            certificates: vec![identity.certificate.as_der().to_vec()],
            secret: Some("a secret of the test".into()),
            app_roles: vec!["Exchange.ManageAsApp".to_owned()],
            directory_roles: vec!["Exchange Administrator".to_owned()],
            ..NewApplication::default()
        };
        let made = setup.create(&new).await.expect("an application");
        let tokens = TokenSource::new(http.clone(), endpoint, made.app_id, Credential::Certificate(Arc::new(identity)));
        Self { lab, line, tokens, http }
    }

    pub(crate) fn rest(&self) -> RestConnection {
        RestConnection::new(self.http.clone(), self.tokens.clone())
    }

    pub(crate) fn rps(&self) -> RemotePowerShellConnection {
        RemotePowerShellConnection::new(self.http.clone(), self.tokens.clone())
    }

    pub(crate) async fn invocation(&self, command: Command) -> Invocation {
        let bound = bind(&Catalogue::built_in(), &Pipeline::from(command), UnknownNames::Pass).expect("it binds");
        Invocation::new(self.tokens.token().await.expect("a token").caller(), bound, Uuid::new_v4())
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, connection: &dyn Runspace, command: Command) -> (Vec<Value>, Vec<String>, Ended) {
        let (mut objects, mut warnings) = (Vec::new(), Vec::new());
        let mut records = connection.invoke(self.invocation(command).await);
        while let Some(step) = records.next().await {
            match step {
                Step::Record(Record::Output(object)) => objects.push(object),
                Step::Record(Record::Warning(text)) => warnings.push(text.to_string()),
                Step::Record(_) => {}
                Step::Ended(end) => {
                    assert!(records.next().await.is_none(), "something followed the end");
                    return (objects, warnings, end);
                }
            }
        }
        panic!("no end came");
    }
}

fn identity() -> Identity {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
    issue::self_signed("CN=client test", 30, i64::try_from(now).expect("a date")).expect("a certificate")
}

pub(crate) fn property(object: &Value, name: &str) -> String {
    object.as_object().and_then(|o| o.property(name)).map(Value::display).unwrap_or_default()
}

/// A TCP line in front of a lab. TLS passes through it unread; what it can do is break.
struct Line {
    port: u16,
    /// How many answers are still to be swallowed, each with its connection.
    cuts: Arc<AtomicU32>,
}

impl Line {
    async fn to(lab: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let cuts = Arc::new(AtomicU32::new(0));
        let shared = cuts.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, lab, shared.clone()));
            }
        });
        Self { port, cuts }
    }

    /// The next `count` requests reach the lab, and their answers get lost.
    fn cut(&self, count: u32) {
        self.cuts.store(count, Ordering::SeqCst);
    }

    fn left(&self) -> u32 {
        self.cuts.load(Ordering::SeqCst)
    }
}

async fn carry(mut near: TcpStream, lab: SocketAddr, cuts: Arc<AtomicU32>) {
    let Ok(mut far) = TcpStream::connect(lab).await else { return };
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    // A handshake's answer is not a request's: it follows the first bytes of a connection.
    let mut turns = 0;
    let mut asked = false;
    loop {
        tokio::select! {
            read = near.read(&mut up) => match read {
                Ok(n) if n > 0 => {
                    asked = turns > 0;
                    if far.write_all(&up[..n]).await.is_err() { return }
                }
                _ => return,
            },
            read = far.read(&mut down) => match read {
                Ok(n) if n > 0 => {
                    if asked && cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |c| c.checked_sub(1)).is_ok() {
                        return;
                    }
                    turns += 1;
                    if near.write_all(&down[..n]).await.is_err() { return }
                }
                _ => return,
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_is_tried_again() {
    let world = World::new().await;
    let get = || Command::new("Get-Mailbox").with("ResultSize", "5");
    for connection in [&world.rest() as &dyn Runspace, &world.rps()] {
        let (objects, warnings, end) = world.run(connection, get()).await;
        assert_eq!((objects.len(), warnings.len(), end), (5, 1, Ended::Completed));
        world.line.cut(1);
        let (again, _, end) = world.run(connection, Command::new("Get-AcceptedDomain")).await;
        assert_eq!((again.len(), world.line.left()), (2, 0), "{end:?}");
        assert_eq!(end, Ended::Completed);
        connection.close().await;
        let (_, _, end) = world.run(connection, get()).await;
        // A remote session is opened anew; a closed REST connection is closed.
        assert!(matches!(end, Ended::Completed | Ended::Unreachable(_)), "{end:?}");
        connection.close().await;
    }
    world.lab.stop().await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_not() {
    let world = World::new().await;
    for (transport, value) in [("rest", "over rest"), ("rps", "over rps")] {
        let (rest, rps) = (world.rest(), world.rps());
        let connection: &dyn Runspace = if transport == "rest" { &rest } else { &rps };
        // The session is open and its Receive waits before the line breaks.
        let (mailboxes, _, _) = world.run(connection, Command::new("Get-Mailbox").with("ResultSize", "1")).await;
        let guid = property(mailboxes.first().expect("a mailbox"), "Guid");
        tokio::time::sleep(Duration::from_millis(200)).await;
        world.line.cut(1);
        let set = Command::new("Set-Mailbox").with("Identity", guid.as_str()).with("CustomAttribute3", value);
        let (_, _, end) = world.run(connection, set).await;
        match end {
            // A remote session's requests have ids: the same one is sent again and carried out once.
            Ended::Completed if transport == "rps" => {}
            Ended::OutcomeUnknown(fault) if transport == "rest" => {
                assert!(fault.message.contains("Set-Mailbox") && fault.hint.contains("Search-AdminAuditLog"), "{fault:?}");
            }
            end => panic!("{transport}: {end:?}"),
        }
        // What the advice says works: what was carried out, the trail shows once.
        let (entries, _, _) = world.run(&world.rest(), Command::new("Search-AdminAuditLog").with("Cmdlets", "Set-Mailbox")).await;
        let of_ours = entries.iter().filter(|e| exops_psobject::json::to_plain(e).to_string().contains(value)).count();
        let (read_back, _, _) = world.run(&world.rest(), Command::new("Get-Mailbox").with("Identity", guid.as_str())).await;
        let changed = property(read_back.first().expect("the mailbox"), "CustomAttribute3") == value;
        assert!(of_ours <= 1 && (!changed || of_ours == 1), "{transport}: {of_ours} entries, changed: {changed}");
        assert!(changed, "the request had reached the lab");
        connection.close().await;
    }
    world.lab.stop().await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_consumer_and_a_stop() {
    let world = World::new().await;
    let rps = world.rps();
    let invocation = world.invocation(Command::new("Get-Mailbox").with("ResultSize", "Unlimited")).await;
    let stop = invocation.stop.clone();
    let mut records = rps.invoke(invocation);
    assert!(matches!(records.next().await, Some(Step::Record(Record::Output(_)))));
    // Nobody pulls; another pipeline of the same session is not to be had meanwhile, but a stop is.
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.stop();
    let mut count = 1;
    let end = loop {
        match records.next().await {
            Some(Step::Record(Record::Output(_))) => count += 1,
            Some(Step::Record(_)) => {}
            Some(Step::Ended(end)) => break end,
            None => panic!("no end came"),
        }
    };
    // All may have been on the way already.
    assert!(end == Ended::Stopped || (end == Ended::Completed && count > 100), "{end:?} after {count}");
    // The session goes on.
    let (domains, _, end) = world.run(&rps, Command::new("Get-AcceptedDomain")).await;
    assert_eq!((domains.len(), end), (2, Ended::Completed));
    rps.close().await;

    // A stream that nobody wants any more does not hold up the session.
    let rps = world.rps();
    let mut dropped = rps.invoke(world.invocation(Command::new("Get-Mailbox").with("ResultSize", "Unlimited")).await);
    assert!(dropped.next().await.is_some());
    drop(dropped);
    let (domains, _, end) = world.run(&rps, Command::new("Get-AcceptedDomain")).await;
    assert_eq!((domains.len(), end), (2, Ended::Completed));
    rps.close().await;
    world.lab.stop().await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_shared_and_refused_with_advice() {
    let world = World::new().await;
    let (a, b) = tokio::join!(world.tokens.token(), world.tokens.token());
    let (a, b) = (a.expect("a token"), b.expect("a token"));
    assert!(Arc::ptr_eq(&a, &b), "two requests for one token");
    let renewed = world.tokens.renew(&a).await.expect("a token");
    assert!(!Arc::ptr_eq(&a, &renewed));
    assert!(Arc::ptr_eq(&renewed, &world.tokens.renew(&a).await.expect("a token")), "what was renewed already is not renewed again");

    let endpoint = world.tokens.endpoint().clone();
    let app_id = a.claims().app_id;
    let secret = |text: &str| TokenSource::new(world.http.clone(), endpoint.clone(), app_id, Credential::Secret(text.into()));
    assert_eq!(secret("a secret of the test").token().await.expect("a token").claims().app_id, app_id);
    let wrong = secret("another").token().await.expect_err("a wrong secret");
    assert_eq!((wrong.kind, wrong.code.as_str()), (FaultKind::SignIn, "AADSTS7000215"), "{wrong:?}");
    assert!(!wrong.hint.is_empty() && !wrong.message.contains("another"), "{wrong:?}");

    // An expired certificate is not even tried.
    let old = issue::self_signed("CN=old", 1, 1_000_000_000).expect("a certificate");
    let expired = TokenSource::new(world.http.clone(), endpoint.clone(), app_id, Credential::Certificate(Arc::new(old)));
    let fault = expired.token().await.expect_err("an expired certificate");
    assert_eq!(fault.code, exops_client::CERTIFICATE_EXPIRED, "{fault:?}");

    // A profile that is not a lab's takes nothing from a lab, and the reverse.
    let elsewhere = Endpoint { is_lab: false, ..endpoint };
    let http = Http::new(&elsewhere).expect("a client");
    let fault = TokenSource::new(http, elsewhere, app_id, Credential::Secret("x".into())).token().await.expect_err("a lab's mark");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::SignIn, exops_client::LAB_MARK), "{fault:?}");
    world.lab.stop().await.expect("it stops");
}
