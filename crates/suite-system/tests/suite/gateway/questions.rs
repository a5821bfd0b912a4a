//! Questions that a far end asks whoever runs a cmdlet, and secrets that it tells: through the client, and at a terminal.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use exops_catalogue::{Catalogue, Command, Pipeline, UnknownNames, bind};
use exops_client::{Http, RemotePowerShellConnection, SessionOptions, TokenSource};
use exops_psobject::{Base, PsObject, SecureString, Value};
use exops_psrp::{RunspaceAnswer, RunspaceRequest};
use exops_runspace::{BoxFuture, Choice, Ended, Field, Host, HostError, Invocation, Question, Record, Runspace, Step};
use futures_util::StreamExt as _;
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::sync::Notify;
use uuid::Uuid;

use super::fixture::Fixture;
use super::own_client::home_at;
use crate::program::{Home, Run};
use crate::terminal::acting;

const SECRET: &str = "p@ss w\u{f6}rd";

/// Somebody who answers everything, with a name first where a number is asked for.
#[derive(Default)]
struct Person {
    asked: AtomicUsize,
    /// Thinks until it is told to go on.
    thinks: Option<Notify>,
}

impl Host for Person {
    fn prompt_for_choice<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        choices: &'a [Choice],
        default: usize,
    ) -> BoxFuture<'a, Result<usize, HostError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { Ok((default + 1) % choices.len()) })
    }

    fn read_line(&self) -> BoxFuture<'_, Result<String, HostError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {
            if let Some(thinks) = &self.thinks {
                thinks.notified().await;
            }
            Ok("a line".to_owned())
        })
    }

    fn ask<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Value, HostError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let secret = || Value::SecureString(SecureString::clear("s\u{e9}cret".into()));
        let value = match question {
            Question::Secret => secret(),
            Question::Credential { user, .. } => {
                let adapted = [("UserName", Value::from(user.as_str())), ("Password", secret())].into_iter().collect();
                PsObject { adapted, ..PsObject::default() }.into()
            }
            Question::Fields { fields, .. } => {
                let typed = |field: &Field| if field.is_secret { secret() } else { "typed".into() };
                let entries = fields.iter().map(|f| (Value::from(f.name.as_str()), typed(f))).collect();
                PsObject { base: Base::Dictionary(entries), ..PsObject::default() }.into()
            }
        };
        Box::pin(async { Ok(value) })
    }
}

/// The scripted endpoint, and a token service that gives its token.
struct Scripted {
    fixture: Fixture,
    tokens: TokenSource,
    http: Http,
    ca: String,
    powershell: String,
    _endpoint: crate::scripted_endpoint::Endpoint,
}

impl Scripted {
    async fn start() -> Self {
        let fixture = Fixture::start().await;
        let endpoint = tokio::task::spawn_blocking(crate::scripted_endpoint::Endpoint::start).await.unwrap();
        let ready: serde_json::Value = serde_json::from_slice(&fs::read(&endpoint.ready).unwrap()).unwrap();
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        *fixture.given.lock().unwrap() = text("password").strip_prefix("Bearer ").unwrap().to_owned();
        let (ca, powershell) = (fixture.ca_pem() + &fs::read_to_string(text("ca_file")).unwrap(), text("powershell"));
        let (http, tokens) = fixture.client_of(powershell.clone(), ca.clone());
        Self { fixture, tokens, http, ca, powershell, _endpoint: endpoint }
    }

    fn rps(&self) -> RemotePowerShellConnection {
        RemotePowerShellConnection::new(self.http.clone(), self.tokens.clone())
    }

    async fn run(&self, rps: &RemotePowerShellConnection, command: Command, host: Option<Arc<dyn Host>>) -> (Vec<Value>, Ended) {
        run(rps, &self.tokens, command, host).await
    }
}

async fn run(rps: &RemotePowerShellConnection, tokens: &TokenSource, command: Command, host: Option<Arc<dyn Host>>) -> (Vec<Value>, Ended) {
    let caller = tokens.token().await.unwrap().caller();
    let bound = bind(&Catalogue::built_in(), &Pipeline::from(command), UnknownNames::Pass).unwrap();
    let mut invocation = Invocation::new(caller, bound, Uuid::new_v4());
    invocation.host = host;
    let mut records = rps.invoke(invocation);
    let mut output = Vec::new();
    loop {
        match records.next().await {
            Some(Step::Record(Record::Output(value))) => output.push(value),
            // Told in its place among the objects.
            Some(Step::Record(Record::Error(record))) => output.push(Value::from(&*record.fully_qualified_error_id)),
            Some(Step::Record(_)) => {}
            Some(Step::Ended(end)) => return (output, end),
            None => panic!("no end"),
        }
    }
}

fn read_thing(kind: &str) -> Command {
    Command::new("Read-Thing").with("Kind", kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_answers_and_opens_secrets() {
    let scripted = Scripted::start().await;
    let rps = scripted.rps();
    // A secret before any key was exchanged, and after.
    for _ in 0..2 {
        let (output, end) = scripted.run(&rps, Command::new("Get-Secret"), None).await;
        let [Value::SecureString(secret)] = output.as_slice() else { panic!("{output:?} {end:?}") };
        assert_eq!(secret.secret().unwrap().expose_secret(), SECRET);
        assert!(!format!("{output:?}").contains(SECRET));
    }
    let person = Arc::new(Person::default());
    for (kind, due) in [
        ("line", "a line"),
        ("choice", "0"),
        ("secure", "secure(s\u{e9}cret)"),
        ("cred", "UserName=bob Password=secure(s\u{e9}cret)"),
        ("prompt", "Name=typed"),
        ("fields", "Name=typed Pw=secure(s\u{e9}cret)"),
    ] {
        let (output, end) = scripted.run(&rps, read_thing(kind), Some(Arc::clone(&person) as Arc<dyn Host>)).await;
        let [value] = output.as_slice() else { panic!("{kind}: {output:?} {end:?}") };
        let entries = value.as_object().map(|object| match object.dictionary() {
            Some(entries) => entries.iter().map(|(name, value)| (name.display(), value.display())).collect::<Vec<_>>(),
            None => object.properties().map(|(name, value)| (name.to_string(), value.display())).collect(),
        });
        let told = entries.filter(|entries| !entries.is_empty()).map_or_else(
            || value.display(),
            |entries| entries.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "),
        );
        assert_eq!((told.as_str(), &end), (due, &Ended::Completed), "{kind}");
    }
    assert_eq!(person.asked.load(Ordering::Relaxed), 6);
    // Nobody is there: no prompt waits, in a session that has a key and in one that has none.
    let fresh = scripted.rps();
    for (rps, kind) in [(&rps, "fields"), (&fresh, "secure"), (&fresh, "line"), (&fresh, "cred"), (&fresh, "choice")] {
        let begun = Instant::now();
        let (output, end) = scripted.run(rps, read_thing(kind), None).await;
        let Ended::Failed(record) = end else { panic!("{kind}: {end:?}") };
        assert!(output.is_empty() && record.fully_qualified_error_id.ends_with("CannotPromptUser"), "{kind}: {record:?}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{kind}: {:?}", begun.elapsed());
    }
    fresh.close().await;
    // Where no key comes in time a secret in output stays sealed, and nobody types one in vain.
    let options = SessionOptions { key_timeout: Duration::ZERO, ..SessionOptions::default() };
    let keyless = RemotePowerShellConnection::with_options(scripted.http.clone(), scripted.tokens.clone(), options);
    let (output, end) = scripted.run(&keyless, Command::new("Get-Secret"), None).await;
    let [Value::SecureString(secret), Value::String(error)] = output.as_slice() else { panic!("{output:?} {end:?}") };
    assert!(secret.secret().is_none() && &**error == "SecureStringSealed" && end == Ended::Completed, "{error} {end:?}");
    let before = person.asked.load(Ordering::Relaxed);
    for kind in ["secure", "cred", "fields"] {
        let (_, end) = scripted.run(&keyless, read_thing(kind), Some(Arc::clone(&person) as Arc<dyn Host>)).await;
        assert!(matches!(&end, Ended::Failed(record) if record.fully_qualified_error_id.ends_with("CannotPromptUser")), "{kind}: {end:?}");
    }
    assert_eq!(person.asked.load(Ordering::Relaxed), before, "a secret was asked for in vain");
    keyless.close().await;

    // What else the session tells of itself.
    let commands = rps.commands(&["*-Thing", "Get-Secret"]).await.unwrap();
    let mut names: Vec<&str> = commands.iter().map(|c| c.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["Get-Secret", "Read-Thing", "Set-Thing"]);
    assert!(commands.iter().any(|c| c.name == "Read-Thing" && c.parameters.iter().any(|p| p.name == "Kind" && !p.is_switch)));
    assert_eq!(rps.runspaces(RunspaceRequest::Available).await, Ok(RunspaceAnswer::Available(1)));
    assert_eq!(rps.runspaces(RunspaceRequest::Max(3)).await, Ok(RunspaceAnswer::Granted(true)));
    assert_eq!(rps.runspaces(RunspaceRequest::Available).await, Ok(RunspaceAnswer::Available(3)));
    let [session] = rps.sessions().await.unwrap().try_into().unwrap();
    assert_eq!((session.configuration.as_str(), session.is_connected), ("Microsoft.Exchange", true));
    let left = rps.leave(Some(Duration::from_secs(60))).await.unwrap();
    assert_eq!(session.id, left);
    let [session] = rps.sessions().await.unwrap().try_into().unwrap();
    assert_eq!((session.id, session.is_connected), (left, false));
    scripted.fixture.finish().await;
}

/// C-11, the other way round: a far end that asks for what nobody can answer is refused at once, and its cmdlet can go on.
#[tokio::test(flavor = "multi_thread")]
async fn c11_questions_that_nobody_is_asked() {
    let fixture = Fixture::start().await;
    let (http, tokens) = fixture.own_client();
    let rps = RemotePowerShellConnection::new(http, tokens.clone());
    let person = Arc::new(Person { thinks: Some(Notify::new()), ..Person::default() });
    let running = {
        let (rps, host) = (rps.clone(), Arc::clone(&person) as Arc<dyn Host>);
        tokio::spawn(async move { run(&rps, &tokens, Command::new("Remove-Thing").with("Identity", "a"), Some(host)).await })
    };
    while fixture.runspace.invocations().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let invocation = fixture.runspace.invocations().pop().unwrap();
    let host = invocation.host.clone().unwrap();
    let fields = |count: usize| Question::Fields {
        caption: String::new(),
        message: String::new(),
        fields: (0..count).map(|n| Field { name: format!("f{n}"), ..Field::default() }).collect(),
    };
    let yes = [Choice { label: "&Yes".to_owned(), help: String::new() }];
    let refused = async {
        assert!(host.ask(&fields(10_000)).await.is_err(), "10,000 fields");
        assert!(host.ask(&fields(0)).await.is_err(), "no field");
        assert!(host.prompt_for_choice("c", "m", &yes, 7).await.is_err(), "a default that is no choice");
        assert!(host.prompt_for_choice("c", "m", &[], 0).await.is_err(), "no choice");
        assert_eq!(person.asked.load(Ordering::Relaxed), 0, "somebody was asked");
        // A prompt inside a prompt.
        let (first, ()) = tokio::join!(host.read_line(), async {
            while person.asked.load(Ordering::Relaxed) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(host.ask(&Question::Secret).await.is_err(), "a second prompt");
            person.thinks.as_ref().unwrap().notify_one();
        });
        assert_eq!(first.as_deref(), Ok("a line"));
        assert!(host.ask(&fields(2)).await.is_ok(), "it goes on");
    };
    tokio::time::timeout(Duration::from_secs(30), refused).await.expect("no prompt waits");
    invocation.stop.stop();
    let _ = running.await.unwrap();
    rps.close().await;
    fixture.finish().await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_person_at_a_terminal_is_asked() {
    let scripted = Scripted::start().await;
    let home: Home = home_at(&scripted.fixture.base, &scripted.powershell, &scripted.ca);
    let file = home.path().join("out.json");
    for (kind, typed, due) in [
        ("line", json!([["", "hello there\n"]]), json!("hello there")),
        ("choice", json!([["default is \"N\"", "perhaps\n"], ["default is \"N\"", "y\n"]]), json!(0)),
        ("secure", json!([["asks for a secret: ", "horse 1\n"]]), json!("secure(horse 1)")),
        (
            "cred",
            json!([["default is \"bob\"", "\n"], ["Password of bob: ", "horse 1\n"]]),
            json!({"UserName": "bob", "Password": "secure(horse 1)"}),
        ),
        ("fields", json!([["Name: ", "ann\n"], ["Pw: ", "horse 1\n"]]), json!({"Name": "ann", "Pw": "secure(horse 1)"})),
    ] {
        let words = ["run", "Read-Thing", "-Kind", kind, "--transport", "rps", "-o", "jsonl"];
        let (command, output) = (home.command(&words), file.to_string_lossy().into_owned());
        let seen = tokio::task::spawn_blocking(move || acting(&command, Some(&output), &typed)).await.unwrap();
        let Some(seen) = seen else {
            println!("NOT RUN: pseudo-terminal: python3 is not there");
            return;
        };
        assert!(seen.code == 0 && !seen.screen.contains("horse"), "{kind}: {} {}", seen.code, seen.screen);
        let written = fs::read_to_string(&file).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), due, "{kind}");
    }
    let exops = async |words: &[&str]| {
        let mut command = home.command(words);
        Run::of(tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
    };
    // In a pipe nobody is asked, and nothing waits.
    for kind in ["line", "choice", "secure", "cred", "fields"] {
        let run = exops(&["run", "Read-Thing", "-Kind", kind, "--transport", "rps"]).await;
        assert!(!run.stderr.is_empty() && run.stdout.is_empty() && run.stderr.contains("prompt"), "{kind}: {}", run.stderr);
    }
    // A secret is shown where somebody asks for it, and nowhere else.
    for (format, shown) in [("jsonl", "null"), ("table", "System.Security.SecureString"), ("clixml", "<SS")] {
        let words = ["run", "Get-Secret", "--transport", "rps", "-o", format];
        let hidden = exops(&words).await.exits(0);
        assert!(hidden.stdout.contains(shown) && !hidden.stdout.contains("w\u{f6}rd"), "{format}: {}", hidden.stdout);
        let told = exops(&[&words[..], &["--show-secrets"]].concat()).await.exits(0);
        assert!(told.stdout.contains(SECRET), "{format}: {}", told.stdout);
    }
    scripted.fixture.finish().await;
}
