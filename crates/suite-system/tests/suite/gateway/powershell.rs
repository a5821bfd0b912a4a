//! The remote PowerShell front end, driven by the project's own client half.

use std::sync::Arc;
use std::time::Duration;

use exops_auth::session_key::{ExchangeKey, SessionKey};
use exops_gateway::Quotas;
use exops_policy::{DirectoryRole, EXCHANGE_MANAGE_AS_APP};
use exops_psobject::{ErrorCategory, ErrorRecord, Properties, PsObject, SecureString, Value};
use exops_psrp::{Command, HostInfo, HostMethod, HostResponse, PipelineEnd, PipelineRequest};
use exops_remoting::client::{ClientConfig, ClientEvent, ClientSession, RequestId};
use exops_runspace::{Choice, Confirm, Field, HostError, Question};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH};
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::fixture::{AUDIENCE, Fixture, basic};

/// Status and body, or nothing where the exchange was lost.
type Answered = Option<(u16, Vec<u8>)>;

/// Drives a [`ClientSession`] over HTTP.
pub(super) struct Session {
    machine: ClientSession,
    client: reqwest::Client,
    url: String,
    token: String,
    requests: JoinSet<(RequestId, Answered)>,
    pub(super) statuses: Vec<u16>,
    pub(super) pool_id: Uuid,
}

impl Session {
    pub(super) fn new(fixture: &Fixture, token: &str) -> Self {
        Self::with(fixture, token, |_| {})
    }

    pub(super) fn with(fixture: &Fixture, token: &str, change: impl FnOnce(&mut ClientConfig)) -> Self {
        let url = format!("{}/PowerShell-LiveId?BasicAuthToOAuthConversion=true;PSVersion=7.0", fixture.base);
        let pool_id = Uuid::new_v4();
        let mut config = ClientConfig { operation_timeout: 500, ..ClientConfig::new(&url, pool_id, Uuid::new_v4()) };
        change(&mut config);
        Self {
            machine: ClientSession::new(config, Box::new(Uuid::new_v4)),
            client: fixture.client.clone(),
            url,
            token: token.to_owned(),
            requests: JoinSet::new(),
            statuses: Vec::new(),
            pool_id,
        }
    }

    /// Sends what there is to send.
    pub(super) fn send(&mut self) {
        while let Some((id, body)) = self.machine.poll_request() {
            let request = self
                .client
                .post(&self.url)
                .header(AUTHORIZATION, basic("OAuthUser@tenant", &format!("Bearer {}", self.token)))
                .header("Content-Type", "application/soap+xml;charset=UTF-8")
                .body(body);
            self.requests.spawn(async move {
                let Ok(answer) = request.send().await else { return (id, None) };
                assert!(answer.headers().contains_key(CONTENT_LENGTH), "always with a length");
                let status = answer.status().as_u16();
                (id, answer.bytes().await.ok().map(|body| (status, body.to_vec())))
            });
        }
    }

    /// Goes on until something else has come.
    async fn turn_until<T>(&mut self, other: impl Future<Output = T>) -> T {
        tokio::pin!(other);
        loop {
            tokio::select! {
                other = &mut other => return other,
                () = self.turn() => {}
            }
        }
    }

    /// Sends what there is to send and takes one answer.
    pub(super) async fn turn(&mut self) {
        self.send();
        match self.requests.join_next().await.map(Result::unwrap) {
            Some((id, Some((status, body)))) => {
                self.statuses.push(status);
                self.machine.handle_answer(id, status, &body);
            }
            Some((id, None)) => self.machine.handle_lost(id),
            None => {}
        }
    }

    /// Goes on until so many requests wait at the server.
    pub(super) async fn rest(&mut self, requests: usize) {
        loop {
            let quiet = tokio::time::timeout(Duration::from_millis(200), self.turn()).await.is_err();
            if quiet && self.requests.len() == requests {
                return;
            }
        }
    }

    /// The next end of a command.
    pub(super) async fn ended(&mut self) -> (Uuid, PipelineEnd) {
        loop {
            if let ClientEvent::PipelineEnded { pipeline, end } = self.event().await {
                return (pipeline, end);
            }
        }
    }

    pub(super) async fn event(&mut self) -> ClientEvent {
        loop {
            if let Some(event) = self.machine.next_event() {
                return event;
            }
            tokio::time::timeout(Duration::from_secs(10), self.turn()).await.unwrap();
        }
    }

    pub(super) async fn open(&mut self) {
        assert_eq!(self.event().await, ClientEvent::Opened);
    }

    /// Everything until the pipeline's end.
    pub(super) async fn collect(&mut self, id: Uuid) -> (Vec<Value>, Vec<ErrorRecord>, Vec<String>, PipelineEnd) {
        let (mut output, mut errors, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            match self.event().await {
                ClientEvent::Output { value, .. } => output.push(value),
                ClientEvent::Error { record, .. } => errors.push(*record),
                ClientEvent::Warning { text, .. } => warnings.push(text.to_string()),
                ClientEvent::PipelineEnded { pipeline, end } if pipeline == id => return (output, errors, warnings, end),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Asks for a command to be stopped.
    pub(super) fn stop(&mut self, id: Uuid) {
        self.machine.stop(id);
    }

    /// Begins a command; its requests go out with the next [`send`](Self::send).
    pub(super) fn start(&mut self, command: Command) -> Uuid {
        self.machine.invoke(&PipelineRequest::from(command))
    }

    pub(super) async fn run(&mut self, command: Command) -> (Vec<Value>, Vec<ErrorRecord>, Vec<String>, PipelineEnd) {
        let id = self.machine.invoke(&PipelineRequest::from(command));
        self.collect(id).await
    }

    pub(super) async fn close(mut self) {
        self.machine.close();
        assert_eq!(self.event().await, ClientEvent::Closed);
    }
}

fn failure(end: PipelineEnd) -> Box<ErrorRecord> {
    match end {
        PipelineEnd::Failed(record) => record,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn remote_powershell_runs_commands() {
    let fixture = Fixture::start().await;
    let mut session = Session::new(&fixture, &fixture.admin());
    session.open().await;
    let (output, errors, warnings, end) = session.run(Command::new("get-mailbox").with("Identity", "adele")).await;
    assert_eq!((output.len(), warnings.as_slice(), end), (1, &["careful".to_owned()][..], PipelineEnd::Completed));
    assert_eq!(output[0].as_object().unwrap().property("Alias"), Some(&"adele".into()));
    assert_eq!(errors.len(), 1);
    assert!(errors[0].fully_qualified_error_id.starts_with("[Server=LAB01,RequestId="), "{}", errors[0].fully_qualified_error_id);
    assert!(errors[0].fully_qualified_error_id.ends_with("[FailureCategory=Cmdlet-ManagementObjectNotFoundException] 0,GetMailbox"));

    let (output, errors, warnings, end) = session.run(Command::new("Get-Mixed")).await;
    let named: Vec<bool> = errors.iter().zip(["'first'", "'second'"]).map(|(error, name)| error.message.contains(name)).collect();
    assert_eq!((output.len(), named, warnings.len(), &*failure(end).message), (3, vec![true, true], 1, "cut short"));

    // Local stages, errors merged into the output, more output than one envelope holds.
    let mut request = PipelineRequest::from(Command::new("Get-Flood"));
    request.commands.push(Command::new("Select-Object").with("Property", PsObject::from_list(vec!["Alias".into()])));
    let id = session.machine.invoke(&request);
    let (output, _, _, end) = session.collect(id).await;
    assert_eq!((output.len(), end), (3000, PipelineEnd::Completed));
    assert_eq!(output[2999].as_object().unwrap().properties().count(), 1);
    let (output, ..) = session.run(Command::new("Get-Flood")).await;
    assert_eq!(output.len(), 3000);

    // No language, no such command, no such parameter, not in the role.
    let script = Command { is_script: true, ..Command::new("Get-Mailbox | ? { $_ }") };
    let record = failure(session.run(script).await.3);
    assert_eq!(
        (&*record.fully_qualified_error_id, record.exception_type()),
        ("ScriptsNotAllowed", "System.Management.Automation.ParseException")
    );
    for name in ["Get-Nothing", "Set-Hidden", "Invoke-Expression", "prompt"] {
        let record = failure(session.run(Command::new(name)).await.3);
        assert_eq!(
            (&*record.fully_qualified_error_id, record.category),
            ("CommandNotFoundException", ErrorCategory::ObjectNotFound),
            "{name}"
        );
        assert!(record.message.contains(name));
    }
    for name in ["Nonsense", "Hidden"] {
        let record = failure(session.run(Command::new("Set-Mailbox").with(name, "x")).await.3);
        assert!(record.fully_qualified_error_id.starts_with("NamedParameterNotFound"), "{record:?}");
    }
    let record = failure(session.run(Command::new("Set-Mailbox").with("Identity", "a").with("Confirm", true)).await.3);
    assert!(record.message.contains("nobody can answer"));
    assert!(failure(session.run(Command::new("Set-Panic")).await.3).message.contains("inside the server"));
    let record = failure(session.run(Command::new("Get-Busy")).await.3);
    assert_eq!(record.category, ErrorCategory::LimitsExceeded);

    // Stop: while it waits, and while the client does not fetch.
    for name in ["Get-Forever", "Get-Slow"] {
        let id = session.machine.invoke(&PipelineRequest::from(Command::new(name)));
        for _ in 0..3 {
            session.turn().await;
        }
        session.machine.stop(id);
        assert_eq!(session.collect(id).await.3, PipelineEnd::Stopped);
    }
    assert_eq!(session.run(Command::new("Set-Mailbox").with("Identity", "z")).await.3, PipelineEnd::Completed);
    let endings: Vec<_> =
        fixture.entries().await.iter().map(|e| (e.intent.cmdlet.clone(), e.outcome.as_ref().unwrap().ending.word())).collect();
    let refused = endings.iter().filter(|(_, word)| *word == "refused").count();
    assert_eq!(refused, 6, "the script, Set-Hidden, Invoke-Expression, two parameters, the prompt that nobody answers: {endings:?}");
    assert_eq!(endings.last(), Some(&("Set-Mailbox".to_owned(), "succeeded")));
    session.close().await;
    fixture.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_belongs_to_its_principal() {
    let fixture = Fixture::start().await;
    let mut session = Session::new(&fixture, &fixture.admin());
    session.open().await;
    // A-08: the right shell id under another principal, or under the same object id in another tenant, is an unknown shell; the
    // owner does not notice.
    let mut thief = Session::new(&fixture, &fixture.token(0xd, DirectoryRole::ExchangeAdministrator));
    let roles = ([EXCHANGE_MANAGE_AS_APP], [DirectoryRole::ExchangeAdministrator]);
    let elsewhere = fixture.token_of(Uuid::from_u128(2), 0xb, &roles.0, &roles.1, true, AUDIENCE);
    let selector = session.pool_id.to_string().to_uppercase();
    for token in [&thief.token, &elsewhere] {
        for action in
            ["transfer/Delete", "transfer/Get"].map(|action| format!("http://schemas.xmlsoap.org/ws/2004/09/{action}")).into_iter().chain(
                ["Receive", "Signal", "Send", "Command", "Disconnect", "Reconnect", "Connect"]
                    .map(|action| format!("http://schemas.microsoft.com/wbem/wsman/1/windows/shell/{action}")),
            )
        {
            let body = envelope(&action, &selector);
            let post = fixture.client.post(&thief.url).bearer_auth(token).header("Content-Type", "application/soap+xml").body(body).send();
            let answer = post.await.unwrap();
            assert_eq!(answer.status(), 500, "{action}");
            let text = answer.text().await.unwrap();
            assert!(text.contains("2150858843") && text.contains("was not found on the server"), "{action}: {text}");
        }
    }
    thief.open().await;
    // A fresh token of the same principal, and a role that is gone (A-09).
    session.token = fixture.admin();
    assert_eq!(session.run(Command::new("Set-Mailbox").with("Identity", "a")).await.3, PipelineEnd::Completed);
    session.token = fixture.token(0xb, DirectoryRole::GlobalReader);
    assert_eq!(
        &*failure(session.run(Command::new("Set-Mailbox").with("Identity", "a")).await.3).fully_qualified_error_id,
        "CommandNotFoundException"
    );
    assert_eq!(session.run(Command::new("Get-Mailbox")).await.3, PipelineEnd::Completed);

    // R-03: so many shells and no more; the quota fault, not an endless wait.
    let mut sessions = Vec::new();
    loop {
        let mut next = Session::new(&fixture, &session.token);
        match next.event().await {
            ClientEvent::Opened => sessions.push(next),
            ClientEvent::Broken(error) => {
                assert!(error.to_string().contains("maximum number of"), "{error}");
                break;
            }
            other => panic!("{other:?}"),
        }
        assert!(sessions.len() < 100);
    }
    sessions.pop().unwrap().close().await;
    let mut next = Session::new(&fixture, &session.token);
    next.open().await;

    // Not SOAP, not POST, too large, hostile: answered, and the session goes on.
    let raw = |body: Vec<u8>, kind: &str| {
        fixture.client.post(&session.url).bearer_auth(&session.token).header("Content-Type", kind).body(body).send()
    };
    assert_eq!(raw(b"a=b".to_vec(), "application/x-www-form-urlencoded").await.unwrap().status(), 415);
    assert_eq!(fixture.client.get(&session.url).bearer_auth(&session.token).send().await.unwrap().status(), 405);
    let hostile = raw(b"<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>".to_vec(), "application/soap+xml;charset=UTF-8").await.unwrap();
    assert_eq!(hostile.status(), 500);
    assert!(hostile.text().await.unwrap().contains("WSManFault"));
    let identify = br#"<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header/><s:Body><i:Identify xmlns:i="http://schemas.dmtf.org/wbem/wsman/identify/1/wsmanidentity.xsd"/></s:Body></s:Envelope>"#;
    let anonymous = fixture
        .client
        .post(&session.url)
        .header("WSMANIDENTIFY", "unauthenticated")
        .header("Content-Type", "application/soap+xml")
        .body(identify.as_slice())
        .send()
        .await
        .unwrap();
    assert!(anonymous.text().await.unwrap().contains("ProtocolVersion"));
    let body = envelope("http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Receive", &selector);
    let anonymous = fixture
        .client
        .post(&session.url)
        .header("WSMANIDENTIFY", "unauthenticated")
        .header("Content-Type", "application/soap+xml")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(anonymous.status(), 401, "only Identify goes without a token");
    assert_eq!(session.run(Command::new("Get-Mailbox")).await.3, PipelineEnd::Completed);

    // Shutdown ends what is open.
    let watch = tokio::spawn(async move { next.event().await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    fixture.finish().await;
    assert!(matches!(watch.await.unwrap(), ClientEvent::Broken(_) | ClientEvent::Closed));
}

/// What the client's host answers, and what the cmdlet gets.
type AnswerRow = (Result<Value, Box<ErrorRecord>>, Result<usize, HostError>);

/// Prompts travel to the client's host and back; none waits where nobody can answer.
#[tokio::test(flavor = "multi_thread")]
async fn prompts_of_cmdlets() {
    let fixture = Fixture::start().await;
    let token = fixture.admin();
    let mut session = Session::with(&fixture, &token, |config| config.host = HostInfo::INTERACTIVE);
    session.open().await;
    let choices = ["&Yes", "&No"].map(|label| Choice { label: label.to_owned(), help: "help".to_owned() });
    // A command that asks, begun; the host that it was given, and how it was told to ask.
    let ask = |before: usize| {
        let (runspace, choices) = (Arc::clone(&fixture.runspace), choices.clone());
        tokio::spawn(async move {
            while runspace.invocations().len() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let invocation = runspace.invocations().pop().unwrap();
            assert_eq!(invocation.confirm, Confirm::Ask);
            invocation.host.unwrap().prompt_for_choice("Confirm", "Really?", &choices, 0).await
        })
    };
    let answers: [AnswerRow; 4] = [
        (Ok(Value::I32(1)), Ok(1)),
        (Ok(Value::I32(2)), Err(HostError::Cancelled)),
        (Ok("yes".into()), Err(HostError::Cancelled)),
        (
            Err(Box::new(ErrorRecord::new("System.NotImplementedException", "no host", ErrorCategory::NotImplemented, "X"))),
            Err(HostError::NotInteractive),
        ),
    ];
    for (answer, expected) in answers {
        let asking = ask(fixture.runspace.invocations().len());
        let id = session.machine.invoke(&PipelineRequest::from(Command::new("Remove-Thing").with("Identity", "a")));
        let ClientEvent::HostCall { pipeline: Some(asked), call } = session.event().await else { panic!("a host call") };
        assert_eq!((asked, call.method, &call.parameters[1]), (id, HostMethod::PromptForChoice, &"Really?".into()));
        // C-11: an answer to something that was not asked changes nothing.
        let forged = HostResponse { call_id: call.call_id + 7, method: call.method, result: Ok(Value::I32(0)) };
        session.machine.respond(Some(id), &forged);
        session.machine.respond(Some(id), &HostResponse { call_id: call.call_id, method: call.method, result: answer });
        let answered = session.turn_until(asking).await.unwrap();
        assert_eq!(answered, expected);
        session.machine.stop(id);
        assert_eq!(session.collect(id).await.3, PipelineEnd::Stopped);
    }
    // C-14: a stop and the end of the shell end the prompt.
    for close in [false, true] {
        let asking = ask(fixture.runspace.invocations().len());
        let id = session.machine.invoke(&PipelineRequest::from(Command::new("Remove-Thing").with("Identity", "a")));
        assert!(matches!(session.event().await, ClientEvent::HostCall { .. }));
        if close {
            session.machine.close();
            while session.event().await != ClientEvent::Closed {}
        } else {
            session.machine.stop(id);
            assert_eq!(session.collect(id).await.3, PipelineEnd::Stopped);
        }
        assert_eq!(tokio::time::timeout(Duration::from_secs(5), asking).await.unwrap().unwrap(), Err(HostError::Cancelled));
    }

    // Nobody there: refused before anything begins, with an entry; what need not ask runs.
    let mut session = Session::new(&fixture, &token);
    session.open().await;
    let before = fixture.runspace.invocations().len();
    for command in [Command::new("Remove-Thing").with("Identity", "a"), Command::new("Set-Mailbox").with("Confirm", true)] {
        let record = failure(session.run(command).await.3);
        assert_eq!(&*record.fully_qualified_error_id, "HostFunctionNotImplemented");
        assert!(record.message.contains("-Confirm:$false"), "{}", record.message);
    }
    assert_eq!(fixture.runspace.invocations().len(), before);
    assert!(fixture.entries().await.iter().rev().take(2).all(|entry| entry.outcome.as_ref().unwrap().ending.word() == "refused"));
    assert_eq!(session.run(Command::new("Set-Mailbox").with("Identity", "a")).await.3, PipelineEnd::Completed);
    let id = session.machine.invoke(&PipelineRequest::from(Command::new("Remove-Thing").with("Confirm", false)));
    while fixture.runspace.invocations().len() < before + 2 {
        session.turn().await;
    }
    assert_eq!(fixture.runspace.invocations().pop().unwrap().confirm, Confirm::Yes);
    session.machine.stop(id);
    // REST carries out what does not say -Confirm, and only tells what it would ask where it does.
    let url = fixture.url();
    for (parameters, expected) in
        [(json!({"Identity": "a"}), Confirm::Yes), (json!({"Identity": "a", "Confirm": true}), Confirm::ReportOnly)]
    {
        let body = json!({"CmdletInput": {"CmdletName": "Remove-Thing", "Parameters": parameters}});
        let request = fixture.client.post(&url).bearer_auth(&token).json(&body).timeout(Duration::from_millis(300));
        assert!(request.send().await.unwrap_err().is_timeout());
        let invocation = fixture.runspace.invocations().pop().unwrap();
        assert_eq!(invocation.confirm, expected);
        invocation.stop.stop();
    }
    fixture.finish().await;
}

/// C-09: a secret that a host is asked for travels under the session's key, which the server asks for first and waits for, but not
/// for ever; one that the key does not open, and what is no secret, are no answer.
#[tokio::test(flavor = "multi_thread")]
async fn c09_secrets_that_a_host_is_asked_for() {
    let limit = Duration::from_millis(600);
    let fixture = Fixture::with_quotas(Quotas { key_after: limit, ..Quotas::default() }).await;
    let token = fixture.admin();
    let fields =
        vec![Field { name: "Name".to_owned(), ..Field::default() }, Field { name: "Pw".to_owned(), is_secret: true, ..Field::default() }];
    let (caption, message) = ("Cap".to_owned(), "Give it".to_owned());
    let credential =
        Question::Credential { caption: caption.clone(), message: message.clone(), user: "bob".to_owned(), target: String::new() };
    let form = Question::Fields { caption, message, fields };
    let of_credential = |secret: SecureString| {
        let properties: Properties = [("UserName", Value::from("bob")), ("Password", Value::SecureString(secret))].into_iter().collect();
        Value::from(PsObject { adapted: properties, ..PsObject::default() })
    };
    let of_form = |secret: SecureString| {
        let entries = vec![(Value::from("Name"), Value::from("typed")), (Value::from("Pw"), Value::SecureString(secret))];
        Value::from(PsObject { base: exops_psobject::Base::Dictionary(entries), ..PsObject::default() })
    };
    let clear = || SecureString::clear("p@ss w\u{f6}rd".into());
    for exchanges in [true, false] {
        let mut session = Session::with(&fixture, &token, |config| config.host = HostInfo::INTERACTIVE);
        session.open().await;
        let own = ExchangeKey::generate().unwrap();
        let mut key: Option<SessionKey> = None;
        // Many secrets in output wait for the key once.
        for again in [false, true].into_iter().filter(|_| !exchanges) {
            let begun = std::time::Instant::now();
            let id = session.machine.invoke(&PipelineRequest::from(Command::new("Get-Secrets")));
            let mut unsealed = 0;
            loop {
                match session.event().await {
                    ClientEvent::Error { record, .. } if record.fully_qualified_error_id.ends_with("SecureStringNotWritable") => {
                        unsealed += 1
                    }
                    ClientEvent::KeyRequested => assert!(!again, "it is asked for once"),
                    ClientEvent::PipelineEnded { pipeline, end } => {
                        assert_eq!((pipeline, end), (id, PipelineEnd::Completed));
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!((unsealed, begun.elapsed() >= limit), (1000, !again));
            assert!(begun.elapsed() < 3 * limit, "{:?}", begun.elapsed());
        }
        for (question, answer, method) in [
            (Question::Secret, (|secret| Value::SecureString(secret)) as fn(SecureString) -> Value, HostMethod::ReadLineAsSecureString),
            (credential.clone(), of_credential, HostMethod::PromptForCredential1),
            (form.clone(), of_form, HostMethod::Prompt),
        ] {
            for wrong in [false, true] {
                let before = fixture.runspace.invocations().len();
                let (runspace, asked) = (Arc::clone(&fixture.runspace), question.clone());
                let asking = tokio::spawn(async move {
                    while runspace.invocations().len() == before {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    runspace.invocations().pop().unwrap().host.unwrap().ask(&asked).await
                });
                let id = session.machine.invoke(&PipelineRequest::from(Command::new("Remove-Thing").with("Identity", "a")));
                let begun = std::time::Instant::now();
                let mut call = None;
                // The key and the call come on Receives of their own, in either order.
                while call.is_none() || key.is_some() != exchanges {
                    match session.event().await {
                        ClientEvent::KeyRequested if exchanges => session.machine.send_key(own.public_key()),
                        ClientEvent::KeyRequested => {}
                        ClientEvent::Key(sealed) => key = Some(own.open(&sealed).unwrap()),
                        ClientEvent::HostCall { pipeline: Some(asked), call: asked_by } => {
                            assert_eq!((asked, asked_by.method), (id, method));
                            call = Some(asked_by);
                        }
                        other => panic!("{other:?}"),
                    }
                }
                assert_eq!(begun.elapsed() >= limit, !exchanges, "waits for the key, and no longer");
                let call = call.unwrap();
                let sealed = match &key {
                    Some(key) if !wrong => key.encrypt(&"p@ss w\u{f6}rd".into()).unwrap(),
                    _ => SessionKey::generate().unwrap().encrypt(&"p@ss w\u{f6}rd".into()).unwrap(),
                };
                let result = Ok(answer(SecureString::sealed(sealed)));
                session.machine.respond(Some(id), &HostResponse { call_id: call.call_id, method, result });
                let answered = session.turn_until(asking).await.unwrap();
                let due = if exchanges && !wrong { Ok(answer(clear())) } else { Err(HostError::Unreadable) };
                assert_eq!(answered, due, "{method:?}");
                session.machine.stop(id);
                assert_eq!(session.ended().await, (id, PipelineEnd::Stopped));
            }
        }
        session.close().await;
    }
    fixture.finish().await;
}

pub(super) fn envelope(action: &str, shell: &str) -> String {
    let body = match action.rsplit('/').next().unwrap() {
        "Receive" => r#"<r:Receive><r:DesiredStream>stdout</r:DesiredStream></r:Receive>"#,
        "Send" => r#"<r:Send><r:Stream Name="stdin">AAAA</r:Stream></r:Send>"#,
        "Command" => r#"<r:CommandLine><r:Command/><r:Arguments>AAAA</r:Arguments></r:CommandLine>"#,
        "Disconnect" => "<r:Disconnect/>",
        "Reconnect" => "<r:Reconnect/>",
        "Connect" => r#"<r:Connect><connectXml xmlns="http://schemas.microsoft.com/powershell">AAAA</connectXml></r:Connect>"#,
        "Signal" => r#"<r:Signal CommandId="00000000-0000-0000-0000-000000000001"><r:Code>powershell/signal/crtl_c</r:Code></r:Signal>"#,
        _ => "",
    };
    format!(
        r#"<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:r="http://schemas.microsoft.com/wbem/wsman/1/windows/shell"><s:Header><a:To>https://localhost</a:To><a:ReplyTo><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo><a:Action>{action}</a:Action><a:MessageID>uuid:{}</a:MessageID><w:ResourceURI>http://schemas.microsoft.com/powershell/Microsoft.Exchange</w:ResourceURI><w:SelectorSet><w:Selector Name="ShellId">{shell}</w:Selector></w:SelectorSet></s:Header><s:Body>{body}</s:Body></s:Envelope>"#,
        Uuid::new_v4()
    )
}
