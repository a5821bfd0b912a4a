//! Recorded conversations of PowerShell 7.0.13 with a server, and answers of its own server.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use exops_psobject::{ErrorCategory, Value};
use exops_psrp::{Channel, ClientPool, ClientPoolConfig, ClientPoolEvent, HostInfo, HostMethod, PipelineRequest};
use exops_remoting::client::{ClientConfig, ClientEvent, ClientSession};
use exops_remoting::server::{Handled, Output, Peer, PipelineEnd, ServerConfig, ServerSession, SessionEvent, Target, target};
use exops_testkit::samples;
use exops_wsman::{Action, Fault, Limits, Request, RequestBody, ResponseBody, parse_request, parse_response};
use uuid::Uuid;

use crate::recorded::{Block, blocks, encode, message};

fn open(request: &Request) -> ServerSession {
    let mut next = 1u128;
    let mut ids = || {
        next += 1;
        Uuid::from_u128(next)
    };
    ServerSession::open(request, &ServerConfig::default(), Peer { owner: "x", client_ip: "y" }, &mut ids, 0)
        .map_err(|a| String::from_utf8_lossy(&a.body).into_owned())
        .unwrap()
        .0
}

/// A session for samples that leave the opening out: the opening of the first sample with their shell id.
fn open_as(folder: &Path, shell: &str) -> ServerSession {
    let create = blocks(&folder.join("01-open-invoke-close.txt")).remove(0);
    let id = create.request();
    let RequestBody::Create(body) = &id.body else { panic!() };
    let old = body.shell_id.clone().unwrap();
    let text = std::fs::read_to_string(folder.join("01-open-invoke-close.txt")).unwrap();
    let text = text.replace(&old, shell).replace(&old.to_lowercase(), &shell.to_lowercase());
    let body = text.split_once("\n\n<s:Envelope").unwrap().1.split_once("\n\n<<<").unwrap().0;
    open(&Block { request: true, line: create.line, body: encode(&format!("<s:Envelope{body}\n")) }.request())
}

/// What a sample's client got from our server.
#[derive(Default)]
struct Played {
    pipelines: Vec<PipelineRequest>,
    metadata: Vec<Vec<String>>,
    inputs: Vec<Value>,
    stops: usize,
    faults: Vec<u32>,
    done: usize,
    closed: bool,
}

fn play(folder: &Path, name: &str) -> Played {
    let mut played = Played::default();
    let mut session: Option<ServerSession> = None;
    for block in blocks(&folder.join(name)).iter().filter(|b| b.request) {
        let request = block.request();
        if request.action == Action::Create {
            assert!(matches!(target(&request), Target::Create(Some(_))));
            session = Some(open(&request));
            continue;
        }
        let session = session.get_or_insert_with(|| open_as(folder, request.shell_id.as_deref().unwrap()));
        match session.handle(&request, 0) {
            Handled::Held(_) => {}
            Handled::Answer(answer) => match parse_response(&answer.body, &Limits::default()).unwrap().body {
                ResponseBody::Fault(fault) => played.faults.push(fault.code),
                ResponseBody::Receive { streams, .. } if streams.is_empty() => played.done += 1,
                _ => assert_eq!(answer.status, 200),
            },
        }
        while let Some(event) = session.next_event() {
            match event {
                SessionEvent::CreatePipeline { id, request } => {
                    if request.commands[0].name != "Start-Sleep" {
                        session.write(id, Output::Object(&"x".into()), 0);
                        if request.no_input {
                            session.finish(id, &PipelineEnd::Completed, 0);
                        }
                    }
                    played.pipelines.push(*request);
                }
                SessionEvent::CommandMetadata { id, request } => {
                    played.metadata.push(request.names);
                    session.write(id, Output::Object(&exops_psrp::count_object(0)), 0);
                    session.finish(id, &PipelineEnd::Completed, 0);
                }
                SessionEvent::Input { value, .. } => played.inputs.push(value),
                SessionEvent::EndOfInput { id } => session.finish(id, &PipelineEnd::Completed, 0),
                SessionEvent::Stop { id } => {
                    played.stops += 1;
                    session.finish(id, &PipelineEnd::Stopped, 0);
                }
                SessionEvent::Terminated { id } => session.finish(id, &PipelineEnd::Stopped, 0),
                SessionEvent::Closed => played.closed = true,
                SessionEvent::Opened
                | SessionEvent::PublicKey { .. }
                | SessionEvent::PoolHostResponse { .. }
                | SessionEvent::HostResponse { .. } => {}
            }
        }
        while session.poll_answer(0).is_some() {}
    }
    played
}

#[test]
fn powershells_requests_are_served() {
    let Some(folder) = samples("psrp") else { return };
    let first = play(&folder, "01-open-invoke-close.txt");
    // A Receive may follow Signal terminate or Delete: then the command or shell is unknown.
    assert!(first.faults.iter().all(|code| *code == Fault::UNEXPECTED_SELECTORS), "{:?}", first.faults);
    assert!(first.closed && first.done > 0, "{} {}", first.closed, first.done);
    let command = &first.pipelines[0].commands[0];
    assert_eq!(command.name, "Get-Mailbox");
    // `-ResultSize 1` in braces: a name alone, then a value alone.
    assert_eq!(
        command.arguments.iter().map(|a| (a.name.as_deref(), a.value.clone(), a.glued)).collect::<Vec<_>>(),
        [(Some("ResultSize"), None, false), (None, Some(Value::I32(1)), false)]
    );
    assert!(first.pipelines[0].no_input && first.pipelines[0].host.use_runspace_host);

    let proxies = play(&folder, "04-proxy-parameters.txt");
    let arguments: Vec<_> = proxies.pipelines.iter().flat_map(|p| &p.commands).flat_map(|c| &c.arguments).collect();
    assert!(arguments.iter().all(|a| a.name.as_deref().is_none_or(|n| !n.starts_with('-') && !n.ends_with(':'))));
    assert!(arguments.iter().any(|a| a.glued && a.value.as_ref().and_then(Value::as_bool) == Some(true)));

    let input = play(&folder, "05-pipeline-input.txt");
    assert_eq!(input.inputs.len(), 3);
    assert_eq!((&input.inputs[1], &input.inputs[2]), (&Value::Null, &Value::from("x")));

    let streams = play(&folder, "06-streams-and-errors.txt");
    assert!(streams.pipelines.iter().any(PipelineRequest::merges_errors) && !streams.pipelines[0].merges_errors());
    assert!(streams.pipelines.iter().any(|p| p.commands[0].is_script));

    let stop = play(&folder, "07-stop.txt");
    assert_eq!((stop.stops, stop.closed), (1, true));
    for (name, count) in [("02-import-one-command.txt", 1), ("03-import-with-format-data.txt", 1), ("09-enter-session.txt", 1)] {
        let played = play(&folder, name);
        assert_eq!(played.metadata.len(), count, "{name}");
        assert!(played.metadata[0].iter().all(|n| !n.is_empty()));
        assert!(!played.pipelines.is_empty());
    }
    let several = play(&folder, "09-enter-session.txt").pipelines.iter().any(|p| !p.more_statements.is_empty());
    assert!(several);
    // Answers to host calls that this server did not make, and a key that it does not take yet, do no harm.
    assert!(play(&folder, "08-host-calls-and-key.txt").closed);
    for block in blocks(&folder.join("10-faults.txt")).iter().filter(|b| b.request) {
        let _ = block.request();
    }
}

#[test]
fn a_recorded_session_runs_in_our_client() {
    let Some(folder) = samples("psrp") else { return };
    let blocks = blocks(&folder.join("01-open-invoke-close.txt"));
    let create = blocks[0].request();
    let RequestBody::Create(shell) = &create.body else { panic!() };
    let pool = Uuid::parse_str(shell.shell_id.as_deref().unwrap()).unwrap();
    let commands: Vec<Uuid> = blocks
        .iter()
        .filter(|b| b.request)
        .filter_map(|b| match b.request().body {
            RequestBody::Command { command_id, .. } => Uuid::parse_str(&command_id?).ok(),
            _ => None,
        })
        .collect();
    let mut ids = commands.clone().into_iter();
    // Ids of pipelines come first, those of messages do not matter: each answer is bent to its request below.
    let mut client =
        ClientSession::new(ClientConfig::new("https://localhost/", pool, Uuid::nil()), Box::new(move || ids.next().unwrap_or(Uuid::max())));
    for command in &commands {
        assert_eq!(client.invoke(&PipelineRequest::from(exops_psrp::Command::new("Get-Mailbox"))), *command);
    }
    let mut answers: Vec<&Block> = blocks.iter().filter(|b| !b.request).collect();
    let mut flying = Vec::new();
    let mut events = Vec::new();
    loop {
        while let Some((id, bytes)) = client.poll_request() {
            flying.push((id, parse_request(&bytes, &Limits::default()).unwrap()));
        }
        // Answers in the recorded order, each for the first request that it fits.
        let fits = |request: &Request, block: &Block| {
            let relates = block.body.split_once("<a:RelatesTo>").and_then(|(_, r)| r.split_once('<')).map(|(id, _)| id.to_owned());
            let asked = blocks.iter().filter(|b| b.request).map(Block::request).find(|r| Some(&r.message_id) == relates.as_ref());
            let command = |r: &Request| match &r.body {
                RequestBody::Command { command_id, .. } | RequestBody::Receive { command_id } | RequestBody::Signal { command_id, .. } => {
                    command_id.clone()
                }
                _ => None,
            };
            asked.is_some_and(|a| a.action == request.action && command(&a) == command(request))
        };
        let found = answers.iter().enumerate().find_map(|(a, block)| flying.iter().position(|(_, r)| fits(r, block)).map(|f| (a, f)));
        let Some((a, f)) = found else { break };
        let (block, (id, request)) = (answers.remove(a), flying.remove(f));
        let status = block.line.split(' ').nth(1).unwrap().parse().unwrap();
        let old = block.body.split_once("<a:RelatesTo>").unwrap().1.split_once('<').unwrap().0;
        client.handle_answer(id, status, block.body.replace(old, &request.message_id).as_bytes());
        events.extend(std::iter::from_fn(|| client.next_event()));
        if events.iter().filter(|e| matches!(e, ClientEvent::PipelineEnded { .. })).count() == commands.len() {
            client.close();
        }
    }
    assert_eq!(events.first(), Some(&ClientEvent::Opened));
    assert!(events.iter().any(|e| matches!(e, ClientEvent::Output { pipeline, .. } if *pipeline == commands[0])));
    assert_eq!(events.last(), Some(&ClientEvent::Closed));
    assert!(!events.iter().any(|e| matches!(e, ClientEvent::PipelineLost { .. } | ClientEvent::Broken(_))), "{events:?}");
}

#[test]
fn faults_of_the_recorded_kind_are_read() {
    let Some(folder) = samples("psrp") else { return };
    let mut codes = Vec::new();
    for block in blocks(&folder.join("10-faults.txt")).iter().filter(|b| !b.request && b.body.starts_with("<s:Fault")) {
        let text = format!(
            "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\"><s:Header/><s:Body>{}</s:Body></s:Envelope>",
            block.body
        );
        let ResponseBody::Fault(fault) = parse_response(text.as_bytes(), &Limits::default()).unwrap().body else { panic!() };
        assert!(!fault.message.is_empty());
        codes.push(fault.code);
    }
    for code in [Fault::INVALID_RESOURCE, Fault::QUOTA_SHELLS, Fault::TIMED_OUT, Fault::UNEXPECTED_SELECTORS] {
        assert!(codes.contains(&code), "{codes:?}");
    }
}

#[test]
fn answers_of_powershells_own_server_are_read() {
    let Some(folder) = samples("psrp") else { return };
    let text = std::fs::read_to_string(folder.join("11-real-server-shapes.txt")).unwrap();
    let pool_id = Uuid::from_u128(1);
    let mut client = ClientPool::new(ClientPoolConfig { host: HostInfo::INTERACTIVE, ..ClientPoolConfig::new(pool_id) });
    let mut events = Vec::new();
    let mut rest = text.as_str();
    while let Some((_, after)) = rest.split_once("{{") {
        let (inside, after) = after.split_once("}}\n").unwrap_or((after, ""));
        rest = after;
        if inside.ends_with("…cut") {
            continue;
        }
        let (pipeline, kind, fragment) = message(inside);
        let channel = if pipeline.is_nil() { Channel::Pool } else { Channel::Pipeline(pipeline) };
        if !pipeline.is_nil() && !client.is_running(pipeline) {
            client.invoke(pipeline, &PipelineRequest::from(exops_psrp::Command::new("x")));
        }
        client.receive(channel, &fragment).unwrap_or_else(|e| panic!("{kind:?}: {e}"));
        events.extend(std::iter::from_fn(|| client.next_event()));
    }
    assert!(client.private_data().as_object().is_some());
    assert_eq!(events.first(), Some(&ClientPoolEvent::Opened));
    let failed = |id: &str| {
        events.iter().find_map(|e| match e {
            ClientPoolEvent::PipelineEnded(_, PipelineEnd::Failed(record)) if record.fully_qualified_error_id.starts_with(id) => {
                Some(record)
            }
            _ => None,
        })
    };
    let unknown = failed("CommandNotFoundException").unwrap();
    assert_eq!((unknown.category, &*unknown.target_name), (ErrorCategory::ObjectNotFound, "Get-Nope"));
    assert_eq!(unknown.exception_type(), "System.Management.Automation.CommandNotFoundException");
    assert!(failed("NamedParameterNotFound,").is_some());
    let written = events.iter().find_map(|e| match e {
        ClientPoolEvent::Error(_, record) => Some(record),
        _ => None,
    });
    let written = written.unwrap();
    assert_eq!(
        (&*written.message, written.category, written.recommended_action.as_deref()),
        ("we", ErrorCategory::InvalidArgument, Some("do it"))
    );
    assert!(events.iter().any(|e| matches!(e, ClientPoolEvent::Warning(Some(_), text) if &**text == "w1")));
    assert!(events.iter().any(|e| matches!(e, ClientPoolEvent::Progress(_, p) if p.percent_complete == 40)));
    assert!(events.iter().any(
        |e| matches!(e, ClientPoolEvent::Information(_, i) if &*i.source == "Write-Host" && *i.tags == [std::sync::Arc::from("PSHOST")])
    ));
    assert!(
        events
            .iter()
            .any(|e| matches!(e, ClientPoolEvent::HostCall(Some(_), call) if call.method == HostMethod::Prompt && call.expects_answer()))
    );
}
