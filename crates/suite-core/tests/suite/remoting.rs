//! Our client half against our server half, in memory, over a network that reorders, loses and repeats.
#![allow(clippy::unwrap_used)]

mod simulation;
mod world;

use exops_psobject::{DateTime, InformationRecord, Value};
use exops_psrp::{Command, HostInfo, HostMethod, HostResponse, Output, PipelineRequest};
use exops_remoting::client::{ClientConfig, ClientError, ClientEvent, ClientSession, Operation};
use exops_remoting::server::{Handled, HttpAnswer, Peer, PipelineEnd, ServerConfig, ServerSession, SessionEvent, Target, target};
use exops_wsman::{Fault, Limits, Request, RequestBody, ResponseBody, parse_request, parse_response};
use uuid::Uuid;
use world::{Item, World, counter, error, items};

/// As `assert_eq`, without printing megabytes.
fn same(found: &[Item], expected: &[Item], seed: u64) {
    assert_eq!(found.len(), expected.len(), "seed {seed}");
    for (n, (f, e)) in found.iter().zip(expected).enumerate() {
        let short = |item: &Item| format!("{item:?}").chars().take(60).collect::<String>();
        assert!(f == e, "seed {seed}, item {n}: {} where {} is due", short(f), short(e));
    }
}

#[test]
fn everything_arrives_once_whatever_gets_lost() {
    for seed in 0..24u64 {
        let mut world = World::new(seed, |client, _| client.max_envelope = if seed % 3 == 0 { 20_000 } else { 512_000 });
        world.lossy = seed % 2 == 0;
        let mut expected = Vec::new();
        for name in ["A", "B", "C"] {
            let count = world.random.below(60);
            let script = items(&mut world.random, count);
            let end = if world.random.one_in(3) { PipelineEnd::Failed(Box::new(error("terminating"))) } else { PipelineEnd::Completed };
            world.script(name, script.clone(), end.clone());
            expected.push((world.invoke(name), script, end));
        }
        // Input of any size, cut over several Sends.
        let input: Vec<Item> = (0..world.random.below(12))
            .map(|n| Item::Object(Value::from("y".repeat(n * 5_000))))
            .chain([Item::Object(Value::Null)])
            .collect();
        let echo = world.client.invoke(&PipelineRequest { no_input: false, ..Command::new("Echo").into() });
        for item in &input {
            let Item::Object(value) = item else { continue };
            world.client.input(echo, value);
        }
        world.client.end_input(echo);
        expected.push((echo, input, PipelineEnd::Completed));
        world.run();
        if world.lossy {
            // What was held for a connection that died comes back with the repeated request.
            assert!(!world.lost.is_empty());
        }
        assert_eq!(world.events.first(), Some(&ClientEvent::Opened));
        for (id, script, end) in expected {
            same(&world.items(id), &script, seed);
            match (world.ends(id).as_slice(), &end) {
                ([PipelineEnd::Failed(found)], PipelineEnd::Failed(sent)) => assert_eq!(found.message, sent.message),
                (found, _) => assert_eq!(found, &[&end], "seed {seed}"),
            }
        }
        world.close();
    }
}

#[test]
fn answers_fill_the_envelope_and_stay_below_it() {
    for max in [8_192, 50_000, 512_000, 10_000_000] {
        let mut world = World::new(7, |client, _| client.max_envelope = max);
        let script = vec![Item::Object(Value::from("z".repeat(900_000)))];
        world.script("Big", script.clone(), PipelineEnd::Completed);
        let id = world.invoke("Big");
        world.run();
        same(&world.items(id), &script, 7);
        let expected = max.min(512_000);
        assert!(world.largest_answer <= expected && world.largest_answer > expected - 8, "{} of {expected}", world.largest_answer);
    }
}

#[test]
fn compressed_streams_carry_the_same_in_fewer_bytes() {
    let mut sizes = Vec::new();
    for compression in [false, true] {
        let mut world = World::new(11, |client, _| {
            client.compression = compression;
            client.max_envelope = 60_000;
        });
        let script: Vec<Item> = (0..40).map(|n| Item::Object(Value::from(format!("mailbox {n} ").repeat(2_000)))).collect();
        world.script("Big", script.clone(), PipelineEnd::Completed);
        let id = world.invoke("Big");
        let echo = world.client.invoke(&PipelineRequest { no_input: false, ..Command::new("Echo").into() });
        let input = [Item::Object(Value::from("input ".repeat(60_000))), Item::Object(Value::Null)];
        for item in &input {
            let Item::Object(value) = item else { continue };
            world.client.input(echo, value);
        }
        world.client.end_input(echo);
        world.run();
        same(&world.items(id), &script, 11);
        same(&world.items(echo), &input, 11);
        sizes.push(world.answered);
        world.close();
    }
    assert!(sizes[1] * 10 < sizes[0], "{sizes:?}");
}

#[test]
fn stopping() {
    for seed in 0..10 {
        let mut world = World::new(seed, |_, _| {});
        let endless = world.invoke("Endless");
        world.run();
        let waiting = world.invoke("Waiting");
        let never_sent = world.invoke("NeverSent");
        world.client.stop(never_sent);
        world.run();
        assert_eq!(world.ends(never_sent), [&PipelineEnd::Stopped]);
        assert!(world.ends(endless).is_empty() && world.ends(waiting).is_empty());
        // One that has not begun because the runspace is busy, and one that runs, twice.
        world.client.stop(waiting);
        world.run();
        world.client.stop(endless);
        world.client.stop(endless);
        world.run();
        assert_eq!((world.ends(endless), world.ends(waiting)), (vec![&PipelineEnd::Stopped], vec![&PipelineEnd::Stopped]));
        world.client.stop(endless);
        let after = world.invoke("After");
        world.run();
        assert_eq!(world.ends(after), [&PipelineEnd::Completed]);
        let lost = world.invoke("Endless");
        world.run();
        world.close();
        assert!(world.events.contains(&ClientEvent::PipelineLost { pipeline: lost, error: ClientError::Closed }));
        assert_eq!(world.running.len(), 0, "the server's runspace is told");
    }
}

#[test]
fn x08_receives_are_released_in_time_and_idle_shells_end() {
    let mut world = World::new(3, |client, _| client.operation_timeout = 20_000);
    let id = world.invoke("Endless");
    world.run();
    let held = world.held.len();
    assert_eq!(held, 2, "one for the session, one for the command");
    for _ in 0..5 {
        world.tick(20_000);
        // Timed out and asked again at once, quietly.
        assert_eq!(world.held.len(), held);
    }
    assert!(world.ends(id).is_empty() && !world.events.iter().any(|e| matches!(e, ClientEvent::Broken(_))));
    // A thousand Receives on one stream: each releases the one before.
    let server = world.server.as_mut().unwrap();
    let request = |n: u32| {
        let text = exops_wsman::request::receive(
            &exops_wsman::request::Header {
                to: "x",
                resource_uri: "http://schemas.microsoft.com/powershell/Microsoft.Exchange",
                message_id: &format!("uuid:{n}"),
                max_envelope_size: 20_000,
                operation_timeout: 1_000_000_000,
                session_id: "uuid:s",
                shell_id: Some("x"),
                locale: "en-US",
            },
            None,
        );
        parse_request(text.as_bytes(), &Limits::default()).unwrap()
    };
    let now = world.now;
    for n in 0..1_000 {
        assert!(matches!(server.handle(&request(n), now), Handled::Held(_)));
    }
    let released: Vec<_> = std::iter::from_fn(|| server.poll_answer(now)).collect();
    assert_eq!(released.len(), 1_000);
    assert!(released.iter().all(|(_, answer)| fault(answer).code == Fault::TIMED_OUT));
    // The client is gone: the last Receive ends at the longest time, then the shell at its idle time-out.
    let mut last = now;
    let mut closed = false;
    while let Some(next) = server.poll_timeout() {
        assert!(next > last || next >= now);
        last = next;
        server.handle_timeout(next);
        while server.poll_answer(next).is_some() {}
        while let Some(event) = server.next_event() {
            closed |= event == SessionEvent::Closed;
        }
    }
    assert!(closed);
    assert_eq!(last, now + 300_000 + 900_000);
    assert_eq!(fault_of(server.handle(&request(5_000), last)).code, Fault::UNEXPECTED_SELECTORS);
}

fn fault(answer: &HttpAnswer) -> Fault {
    assert_eq!(answer.status, 500);
    match parse_response(&answer.body, &Limits::default()).unwrap().body {
        ResponseBody::Fault(fault) => fault,
        other => panic!("{other:?}"),
    }
}

fn fault_of(handled: Handled) -> Fault {
    match handled {
        Handled::Answer(answer) => fault(&answer),
        Handled::Held(_) => panic!("held"),
    }
}

#[test]
fn the_server_can_end_a_session() {
    let mut world = World::new(4, |_, _| {});
    let id = world.invoke("Endless");
    world.run();
    let now = world.now;
    world.server.as_mut().unwrap().close(now);
    world.run();
    assert!(matches!(world.events.last(), Some(ClientEvent::Broken(error)) if error.is_session_gone()));
    assert!(world.events.iter().any(|e| matches!(e, ClientEvent::PipelineLost { pipeline, .. } if *pipeline == id)));
    assert!(world.running.is_empty());
    assert_eq!(world.client.poll_request(), None);
}

#[test]
fn prompts_reach_the_client() {
    let mut world = World::new(5, |client, _| client.host = HostInfo::INTERACTIVE);
    let id = world.invoke("Endless");
    world.run();
    let server = world.server.as_mut().unwrap();
    assert!(server.has_host(id));
    let call_id = server.prompt_for_choice(id, "Confirm", "Sure?", &[("&Yes", "")], 0).unwrap();
    world.run();
    let Some(ClientEvent::HostCall { call, .. }) = world.events.last().cloned() else { panic!("{:?}", world.events) };
    assert_eq!(call.call_id, call_id);
    world.client.respond(Some(id), &HostResponse { call_id, method: call.method, result: Ok(Value::I32(0)) });
    world.run();
    assert_eq!(world.items(id), [Item::Object(Value::I32(0))]);
    // What is written for the host travels as a record and as a call, and is told once; a line of its own is told as a call.
    let record = |tags: &[&str]| InformationRecord {
        message: "a line".into(),
        source: "test".into(),
        time: DateTime::from_unix_milliseconds(0),
        tags: tags.iter().map(|tag| (*tag).into()).collect(),
    };
    let server = world.server.as_mut().unwrap();
    let before = world.events.len();
    server.write(id, Output::Information(&record(&["PSHOST"])), 0);
    server.tell_host(id, HostMethod::WriteLine2, vec!["a line".into()]);
    server.write(id, Output::Information(&record(&[])), 0);
    server.tell_host(id, HostMethod::WriteLine2, vec!["a line".into()]);
    world.run();
    let kinds: Vec<&str> = world.events[before..]
        .iter()
        .map(|event| match event {
            ClientEvent::Information { .. } => "record",
            ClientEvent::HostCall { .. } => "call",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds, ["record", "call", "record", "call"]);
    // Without a host nobody is asked.
    let mut world = World::new(5, |_, _| {});
    let id = world.invoke("Endless");
    world.run();
    let server = world.server.as_mut().unwrap();
    assert!(!server.has_host(id) && server.read_line(id).is_none());
}

/// A request as the client would send it, changed as text.
fn opening(change: impl FnOnce(String) -> String) -> Result<ServerSession, Fault> {
    let mut ids = counter(9);
    let mut client = ClientSession::new(ClientConfig::new("https://localhost/", ids(), ids()), Box::new(counter(10)));
    let (_, bytes) = client.poll_request().unwrap();
    let text = change(String::from_utf8(bytes).unwrap());
    let request: Request = parse_request(text.as_bytes(), &Limits::default()).map_err(|e| e.fault)?;
    let peer = Peer { owner: "app", client_ip: "127.0.0.1" };
    ServerSession::open(&request, &ServerConfig::default(), peer, &mut ids, 0).map(|(session, _)| session).map_err(|answer| fault(&answer))
}

#[test]
fn x07_opening_is_refused_with_the_right_fault() {
    assert!(opening(|t| t).is_ok());
    let header = |extra: &str| {
        let extra = extra.to_owned();
        move |t: String| t.replace("<s:Header>", &format!("<s:Header>{extra}"))
    };
    let code = |result: Result<ServerSession, Fault>| result.map(|_| ()).unwrap_err().code;
    assert_eq!(code(opening(|t| t.replace("Microsoft.Exchange", "No.Such"))), 2_150_858_811);
    assert_eq!(code(opening(|t| t.replace("<w:Option Name=\"protocolversion\"", "<w:Option Name=\"other\""))), 2_150_858_809);
    assert_eq!(code(opening(|t| t.replace(" MustComply=\"true\"", "").replace("protocolversion", "other"))), Fault::PLUGIN_OPTION_MISSING);
    assert_eq!(code(opening(|t| t.replace(">2.3</w:Option>", ">3.0</w:Option>"))), Fault::PLUGIN_PROTOCOL_VERSION);
    let compression =
        |name: &str, must: bool| header(&format!("<rsp:CompressionType s:mustUnderstand=\"{must}\">{name}</rsp:CompressionType>"));
    assert_eq!(code(opening(compression("zip", true))), Fault::MUST_UNDERSTAND);
    assert!(opening(compression("zip", false)).is_ok() && opening(compression("XPRESS", true)).is_ok());
    for size in ["0", "100", "8191"] {
        assert_eq!(code(opening(|t| t.replace(">512000<", &format!(">{size}<")))), Fault::ENVELOPE_TOO_LARGE);
    }
    assert!(opening(|t| t.replace(">512000<", ">8192<")).is_ok());
    assert_eq!(code(opening(|t| t.replace("<rsp:Shell ShellId=\"", "<rsp:Shell ShellId=\"not-a-guid-"))), Fault::SCHEMA);
    assert_eq!(
        code(opening(|t| t.replace(
            "<creationXml xmlns=\"http://schemas.microsoft.com/powershell\">",
            "<creationXml xmlns=\"http://schemas.microsoft.com/powershell\">AAAA"
        ))),
        Fault::PLUGIN_BAD_ARGUMENTS
    );
}

#[test]
fn x09_requests_that_make_no_sense_do_not_hurt_the_shell() {
    let mut world = World::new(6, |_, _| {});
    let id = world.invoke("Endless");
    world.run();
    let now = world.now;
    let server = world.server.as_mut().unwrap();
    let shell = server.shell_id().to_owned();
    let send = |message: &str, action: &str, body: &str| {
        let text = format!(
            "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
             xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\" xmlns:r=\"http://schemas.microsoft.com/wbem/wsman/1/windows/shell\"><s:Header>\
             <a:Action>http://schemas.microsoft.com/wbem/wsman/1/windows/shell/{action}</a:Action><a:MessageID>uuid:{message}</a:MessageID>\
             <w:ResourceURI>http://schemas.microsoft.com/powershell/Microsoft.Exchange</w:ResourceURI>\
             <w:SelectorSet><w:Selector Name=\"ShellId\">{shell}</w:Selector></w:SelectorSet></s:Header><s:Body>{body}</s:Body></s:Envelope>"
        );
        parse_request(text.as_bytes(), &Limits::default()).unwrap()
    };
    let command = id.to_string();
    for (n, (action, body, code)) in [
        ("Send", "<r:Send/>".to_owned(), Fault::SCHEMA),
        (
            "Send",
            "<r:Send><r:Stream Name=\"stdin\">QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB</r:Stream></r:Send>".to_owned(),
            Fault::PLUGIN_BAD_ARGUMENTS,
        ),
        ("Send", "<r:Send><r:Stream Name=\"stdout\">AA==</r:Stream></r:Send>".to_owned(), Fault::PLUGIN_BAD_ARGUMENTS),
        (
            "Send",
            format!("<r:Send><r:Stream Name=\"stdin\" CommandId=\"{}\">AA==</r:Stream></r:Send>", Uuid::max()),
            Fault::UNEXPECTED_SELECTORS,
        ),
        ("Send", "<r:Send><r:Stream Name=\"stdin\" CommandId=\"x\">AA==</r:Stream></r:Send>".to_owned(), Fault::PLUGIN_BAD_ARGUMENTS),
        ("Signal", format!("<r:Signal CommandId=\"{command}\"><r:Code>boom</r:Code></r:Signal>"), Fault::PLUGIN_BAD_ARGUMENTS),
        ("Signal", "<r:Signal><r:Code>powershell/signal/crtl_c</r:Code></r:Signal>".to_owned(), Fault::SCHEMA),
        ("Command", "<r:CommandLine CommandId=\"x\"><r:Command>dir</r:Command></r:CommandLine>".to_owned(), Fault::PLUGIN_BAD_ARGUMENTS),
        (
            "Command",
            format!("<r:CommandLine CommandId=\"{command}\"><r:Arguments>AA==</r:Arguments></r:CommandLine>"),
            Fault::PLUGIN_BAD_ARGUMENTS,
        ),
        (
            "Receive",
            format!("<r:Receive><r:DesiredStream CommandId=\"{}\">stdout</r:DesiredStream></r:Receive>", Uuid::max()),
            Fault::UNEXPECTED_SELECTORS,
        ),
        ("Connect", "<r:Connect/>".to_owned(), Fault::CONNECTED_TO_DIFFERENT_CLIENT),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(fault_of(server.handle(&send(&n.to_string(), action, &body), now)).code, code, "{action} {body}");
    }
    assert!(matches!(target(&send("t", "Nonsense", "<r:X/>")), Target::Refused(f) if f.code == 2_150_858_771));
    // A repeated Signal after a lost answer is answered again, not carried out again.
    let stop = send("stop", "Signal", &format!("<r:Signal CommandId=\"{command}\"><r:Code>powershell/signal/crtl_c</r:Code></r:Signal>"));
    assert_eq!(server.handle(&stop, now), server.handle(&stop, now));
    assert_eq!(server.next_event(), Some(SessionEvent::Stop { id }));
    assert_eq!(server.next_event(), None);
    server.finish(id, &PipelineEnd::Stopped, now);
    // The stream first; Done in an answer of its own, again and again; after terminate the command is unknown.
    let receive = |n: u32| {
        send(
            &format!("r{n}"),
            "Receive",
            &format!("<r:Receive><r:DesiredStream CommandId=\"{command}\">stdout</r:DesiredStream></r:Receive>"),
        )
    };
    let mut texts = Vec::new();
    for n in 0..3 {
        let Handled::Answer(answer) = server.handle(&receive(n), now) else { panic!("held") };
        texts.push(String::from_utf8(answer.body.to_vec()).unwrap());
    }
    assert!(texts[0].contains("<rsp:Stream") && texts[0].contains("CommandState/Running"));
    assert!(texts[1..].iter().all(|t| !t.contains("<rsp:Stream") && t.contains("CommandState/Done")));
    let code = exops_wsman::uri::SIGNAL_TERMINATE;
    let terminate = send("end", "Signal", &format!("<r:Signal CommandId=\"{command}\"><r:Code>{code}</r:Code></r:Signal>"));
    assert!(matches!(server.handle(&terminate, now), Handled::Answer(a) if a.status == 200));
    assert_eq!(fault_of(server.handle(&receive(9), now)).code, Fault::UNEXPECTED_SELECTORS);
    // The shell still works.
    world.held.clear();
    let after = world.invoke("After");
    world.run();
    assert_eq!(world.ends(after), [&PipelineEnd::Completed]);
}

#[test]
fn failures_become_typed_errors() {
    let http = |status: u16, body: &str| {
        let mut world = World::new(8, |_, _| {});
        let (id, _) = world.client.poll_request().unwrap();
        world.client.handle_answer(id, status, body.as_bytes());
        world.client.next_event().unwrap()
    };
    let html = "<html>no</html>";
    for status in [302, 401, 403, 404, 503, 500] {
        assert!(
            matches!(http(status, html), ClientEvent::Broken(ClientError::Http { operation: Operation::Open, status: s, .. }) if s == status)
        );
    }
    assert!(matches!(http(200, html), ClientEvent::Broken(ClientError::Protocol { .. })));
    let quota = Fault::new(Fault::QUOTA_SHELLS, "too many").envelope(None, "uuid:1");
    assert!(matches!(http(500, &quota), ClientEvent::Broken(error) if error.fault().is_some_and(|f| f.code == 2_150_859_173)));
    // A command that fails on its way is lost alone; the session goes on.
    let mut world = World::new(9, |_, _| {});
    world.run();
    for lost in [false, true] {
        let pipeline = world.invoke("Anything");
        let (id, bytes) = world.client.poll_request().unwrap();
        assert!(std::str::from_utf8(&bytes).unwrap().contains("CommandLine"));
        let mut tries = 0;
        if lost {
            // It is sent again with the same bytes, a few times.
            let mut latest = id;
            world.client.handle_lost(latest);
            while let Some((again, _)) = world.client.poll_request().filter(|(_, repeated)| *repeated == bytes) {
                latest = again;
                world.client.handle_lost(latest);
                tries += 1;
            }
            assert_eq!(tries, 4);
        } else {
            world.client.handle_answer(id, 401, b"");
        }
        world.run();
        let found = world.events.iter().find_map(|e| match e {
            ClientEvent::PipelineLost { pipeline: p, error } if *p == pipeline => Some(error.clone()),
            _ => None,
        });
        assert!(matches!(
            (lost, found.unwrap()),
            (true, ClientError::Lost { operation: Operation::ReceivePipeline }) | (false, ClientError::Http { status: 401, .. })
        ));
    }
    let after = world.invoke("After");
    world.run();
    assert_eq!(world.ends(after), [&PipelineEnd::Completed]);
}

/// the client leaves, output collects, and it comes back, or another one comes in its place: every object once and in
/// order. Compressed or not, however answers are late.
#[test]
fn x11_left_sessions_go_on() {
    let mut halfway = 0;
    for seed in 0..60_u64 {
        let compression = seed.is_multiple_of(3);
        let mut world = World::new(seed, |client, _| {
            client.max_envelope = if seed.is_multiple_of(4) { 9_000 } else { 60_000 };
            client.compression = compression;
        });
        let count = 60 + world.random.below(60);
        let script = items(&mut world.random, count);
        world.script("Long", script.clone(), PipelineEnd::Completed);
        let id = world.invoke("Long");
        let steps = 20 + world.random.below(60);
        for _ in 0..steps {
            world.step();
        }
        let again = !seed.is_multiple_of(2);
        while !world.client.disconnect(Some(600_000)) {
            assert!(world.step(), "seed {seed}: it does not open");
        }
        world.run();
        assert_eq!(world.events.last(), Some(&ClientEvent::Disconnected), "seed {seed}");
        assert!(world.held.is_empty() && world.client.poll_request().is_none(), "nothing is asked for meanwhile");
        let before = world.items(id);
        halfway += usize::from(!before.is_empty() && before.len() < script.len());
        if again {
            world.client.reconnect();
        } else {
            let pool = world.server.as_ref().unwrap().shell_id().parse().unwrap();
            let config = ClientConfig {
                max_envelope: 30_000,
                compression,
                ..ClientConfig::new("https://localhost/powershell-liveid", pool, Uuid::from_u128(7))
            };
            world.client = ClientSession::attach(config, Box::new(counter(3)));
        }
        world.run();
        same(&world.items(id), &script, seed);
        assert_eq!(world.ends(id), [&PipelineEnd::Completed], "seed {seed}, {} before", before.len());
        if again {
            assert!(world.events.contains(&ClientEvent::Reconnected));
        } else if before.len() < script.len() {
            assert!(world.events.contains(&ClientEvent::Pipelines(vec![id])), "seed {seed}: {:?}", world.events.last());
        }
        // The session serves on.
        let after = world.invoke("After");
        world.run();
        assert_eq!(world.ends(after), [&PipelineEnd::Completed]);
        world.close();
    }
    assert!(halfway >= 10, "only {halfway} were left halfway");
    // A session that is gone, and one that somebody else is connected to.
    let mut world = World::new(1, |_, _| {});
    let id = world.invoke("Endless");
    world.run();
    let pool = world.server.as_ref().unwrap().shell_id().parse().unwrap();
    let config = |pool| ClientConfig::new("https://localhost/powershell-liveid", pool, Uuid::from_u128(8));
    for (pool, code) in [(pool, Fault::CONNECTED_TO_DIFFERENT_CLIENT), (Uuid::from_u128(99), Fault::UNEXPECTED_SELECTORS)] {
        let owner = std::mem::replace(&mut world.client, ClientSession::attach(config(pool), Box::new(counter(4))));
        let (request, bytes) = world.client.poll_request().unwrap();
        let Handled::Answer(answer) = world.serve(&bytes) else { panic!("held") };
        world.client.handle_answer(request, answer.status, &answer.body);
        let Some(ClientEvent::Broken(ClientError::Fault { operation: Operation::Connect, fault })) = world.client.next_event() else {
            panic!("no refusal")
        };
        assert_eq!(fault.code, code);
        world.client = owner;
    }
    // The owner is not disturbed.
    world.client.stop(id);
    world.run();
    assert_eq!(world.ends(id), [&PipelineEnd::Stopped]);
    // More pipelines than one part of the list holds.
    let mut world = World::new(3, |_, _| {});
    let mut left: Vec<Uuid> = (0..60).map(|_| world.invoke("Endless")).collect();
    world.run();
    assert!(world.client.disconnect(None));
    world.run();
    let pool = world.server.as_ref().unwrap().shell_id().parse().unwrap();
    world.client = ClientSession::attach(config(pool), Box::new(counter(5)));
    world.run();
    let mut found = world.events.iter().find_map(|e| if let ClientEvent::Pipelines(ids) = e { Some(ids.clone()) } else { None }).unwrap();
    left.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, left);
}

/// Redirects are for somebody else to judge, and only what opens a session is redirected.
#[test]
fn h03_redirects_and_pauses_are_events() {
    let by_fault = |place: &str| Fault::new(Fault::REDIRECT_REQUESTED, format!("The service is at \"{place}\".")).envelope(None, "uuid:1");
    for fault in [false, true] {
        let mut world = World::new(2, |_, _| {});
        let pipeline = world.invoke("Anything");
        let (id, first) = world.client.poll_request().unwrap();
        if fault {
            world.client.handle_answer(id, 500, by_fault("https://elsewhere.example/x?y=1").as_bytes());
        } else {
            world.client.handle_redirect(id, 302, "https://elsewhere.example/x?y=1");
        }
        let location = "https://elsewhere.example/x?y=1".to_owned();
        assert_eq!(world.client.next_event(), Some(ClientEvent::Redirected { location: location.clone() }));
        assert_eq!(world.client.poll_request(), None, "nothing goes on by itself");
        let mut refusing = World::new(2, |_, _| {});
        let lost = refusing.invoke("Anything");
        let (id, _) = refusing.client.poll_request().unwrap();
        refusing.client.handle_redirect(id, 302, &location);
        refusing.client.next_event();
        refusing.client.stay(&location);
        let error = ClientError::Redirected { location: location.clone() };
        assert_eq!(refusing.client.next_event(), Some(ClientEvent::PipelineLost { pipeline: lost, error: error.clone() }));
        assert_eq!(refusing.client.next_event(), Some(ClientEvent::Broken(error)));

        world.client.follow(location);
        let (id, second) = world.client.poll_request().unwrap();
        let creation = |bytes: &[u8]| match parse_request(bytes, &Limits::default()).unwrap().body {
            RequestBody::Create(shell) => shell.creation,
            other => panic!("{other:?}"),
        };
        assert_eq!(creation(&first), creation(&second), "the same session, elsewhere");
        assert!(std::str::from_utf8(&second).unwrap().contains(">https://elsewhere.example/x?y=1</a:To>"));
        // Busy: the request waits for the driver, then goes out as it was.
        let busy =
            Fault::new(Fault::QUOTA_USER, "Slower. The next request from this user will not be approved for at least 250 milliseconds.");
        world.client.handle_answer(id, 500, busy.envelope(None, "uuid:1").as_bytes());
        let event = world.client.next_event();
        assert_eq!(event, Some(ClientEvent::Throttled { request: id, milliseconds: Some(250), fault: busy.clone() }));
        assert_eq!(world.client.poll_request(), None);
        world.client.handle_unsent(id);
        let (id, third) = world.client.poll_request().unwrap();
        assert_eq!(second, third);
        let Handled::Answer(answer) = world.serve(&third) else { panic!("held") };
        world.client.handle_answer(id, answer.status, &answer.body);
        world.run();
        assert_eq!(world.ends(pipeline), [&PipelineEnd::Completed]);
        // One that is too busy for too long, and a redirect in the middle: the pipeline is lost, the session is not.
        for redirect in [false, true] {
            let pipeline = world.invoke("Anything");
            let (id, _) = world.client.poll_request().unwrap();
            if redirect {
                world.client.handle_redirect(id, 302, "https://elsewhere.example/");
            } else {
                world.client.handle_answer(id, 500, busy.envelope(None, "uuid:1").as_bytes());
                world.client.refuse(id, busy.clone());
            }
            world.run();
            let lost = |e: &ClientEvent| matches!(e, ClientEvent::PipelineLost { pipeline: p, .. } if *p == pipeline);
            assert!(world.events.iter().any(lost), "{:?}", world.events.last());
        }
        world.close();
    }
}
