//! The client half of a pool beside plain commands: questions to its host, the list of commands, runspaces, events, lists in parts.
#![allow(clippy::unwrap_used)]

use exops_psobject::{DateTime, Value};
use exops_psrp::{
    Channel, ClientPool, ClientPoolConfig, ClientPoolEvent, CommandDescription, CommandKind, FieldDescription, HostCall, HostInfo,
    HostMethod, HostQuestion, MetadataError, MetadataRequest, Output, ParameterDescription, PipelineEnd, Priority, QuestionError,
    RunspaceAnswer, RunspaceRequest, ServerPool, ServerPoolConfig, ServerPoolEvent, UserEvent, choice_call, count_object, credential_call,
    prompt_call, read_commands, read_line_call,
};
use exops_remoting::client::{ClientConfig, ClientError, ClientEvent, ClientSession, Operation, ShellList};
use exops_wsman::{Fault, Limits, RequestBody, parse_request};
use uuid::Uuid;

const POOL: Uuid = Uuid::from_u128(0xC0FFEE);

fn call((method, parameters): (HostMethod, Vec<Value>)) -> HostCall {
    HostCall { call_id: 1, method, parameters }
}

/// A prompt for strings and secrets.
fn prompt(caption: &str, message: &str, fields: &[(&str, bool)]) -> (HostMethod, Vec<Value>) {
    let field = |(name, is_secret): &(&str, bool)| FieldDescription {
        name: (*name).to_owned(),
        label: String::new(),
        help: String::new(),
        type_name: if *is_secret { "System.Security.SecureString" } else { "System.String" }.to_owned(),
        is_mandatory: true,
        default: None,
    };
    prompt_call(caption, message, &fields.iter().map(field).collect::<Vec<_>>())
}

#[test]
fn questions_of_a_server() {
    let asked = |parts| call(parts).question();
    assert_eq!(asked(read_line_call()), Ok(Some(HostQuestion::Line)));
    assert_eq!(asked((HostMethod::ReadLineAsSecureString, Vec::new())), Ok(Some(HostQuestion::SecretLine)));
    assert_eq!(asked((HostMethod::GetName, Vec::new())), Ok(None));
    let HostQuestion::Credential { user, target, .. } = asked(credential_call("C", "M", "bob", "host")).unwrap().unwrap() else { panic!() };
    assert_eq!((&*user, &*target), ("bob", "host"));
    // The second form has the kinds of credential and options behind it.
    let (_, mut longer) = credential_call("C", "M", "bob", "host");
    longer.extend([Value::I32(1), Value::I32(0)]);
    assert_eq!(asked((HostMethod::PromptForCredential2, longer.clone())), asked((HostMethod::PromptForCredential1, longer)));
    let HostQuestion::Fields { fields, .. } = asked(prompt("C", "M", &[("Name", false), ("Pw", true)])).unwrap().unwrap() else { panic!() };
    let types: Vec<(&str, &str)> = fields.iter().map(|f| (&*f.name, &*f.type_name)).collect();
    assert_eq!(types, [("Name", "System.String"), ("Pw", "System.Security.SecureString")]);
    let choices = [("&Yes", "do it"), ("&No", ""), ("&All", "")];
    for (default, due) in [(1, Ok(Some(1))), (-1, Ok(None)), (3, Err(3)), (-2, Err(-2)), (i32::MAX, Err(i64::from(i32::MAX)))] {
        let found = asked(choice_call("C", "M", &choices, default)).map(|question| match question {
            Some(HostQuestion::Choice { choices, default, .. }) => {
                assert_eq!((choices.len(), &*choices[0].label, &*choices[0].help), (3, "&Yes", "do it"));
                default
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(found, due.map_err(|index| QuestionError::NoSuchChoice { index, count: 3 }), "{default}");
    }
    // Several at once.
    let several = |defaults: &[i32]| {
        let (_, mut parameters) = choice_call("C", "M", &choices, 0);
        let list: Vec<Value> = defaults.iter().map(|n| Value::I32(*n)).collect();
        parameters[3] = exops_psobject::PsObject {
            base: exops_psobject::Base::List(exops_psobject::ListKind::List, list),
            ..exops_psobject::PsObject::default()
        }
        .into();
        asked((HostMethod::PromptForChoiceMultipleSelection, parameters))
    };
    let Ok(Some(HostQuestion::Choices { defaults, .. })) = several(&[0, 2]) else { panic!() };
    assert_eq!(defaults, [0, 2]);
    assert_eq!(several(&[7]), Err(QuestionError::NoSuchChoice { index: 7, count: 3 }));
    // Hostile ones: too many, too long, twice, nothing.
    let names: Vec<String> = (0..10_000).map(|n| format!("field{n}")).collect();
    let many: Vec<(&str, bool)> = names.iter().map(|n| (n.as_str(), false)).collect();
    assert_eq!(asked(prompt("C", "M", &many)), Err(QuestionError::TooMany { what: "fields", count: 10_000, limit: 256 }));
    assert!(asked(prompt("C", "M", &many[..256])).is_ok());
    let offers: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "")).collect();
    assert!(matches!(asked(choice_call("C", "M", &offers, 0)), Err(QuestionError::TooMany { what: "choices", count: 10_000, .. })));
    let long = "x".repeat(70_000);
    assert!(matches!(asked(prompt(&long, "M", &many[..1])), Err(QuestionError::TooLong { what: "caption", bytes: 70_000, .. })));
    assert!(matches!(asked(credential_call("C", "M", &long, "")), Err(QuestionError::TooLong { what: "user name", .. })));
    assert_eq!(asked(prompt("C", "M", &[("a", false), ("A", true)])), Err(QuestionError::Twice("A".to_owned())));
    assert_eq!(asked(prompt("C", "M", &[("", false)])), Err(QuestionError::Lacks("name")));
    assert_eq!(asked(prompt("C", "M", &[])), Err(QuestionError::Lacks("fields")));
    assert_eq!(asked((HostMethod::PromptForChoice, Vec::new())), Err(QuestionError::Lacks("choices")));
    assert_eq!(asked((HostMethod::Prompt, vec![1.into(), "M".into()])), Err(QuestionError::Lacks("caption")));
    let record = QuestionError::Lacks("fields").record();
    assert_eq!((&*record.fully_qualified_error_id, record.message.contains("no usable fields")), ("PromptRefused", true));
}

/// An open pool at both ends.
fn pools(runspaces: usize) -> (ClientPool, ServerPool) {
    let config = ClientPoolConfig { host: HostInfo::INTERACTIVE, runspaces: (1, 2), ..ClientPoolConfig::new(POOL) };
    let (mut client, mut server) =
        (ClientPool::new(config), ServerPool::new(ServerPoolConfig { runspaces, ..ServerPoolConfig::default() }));
    carry(&mut client, &mut server, Channel::Pool);
    assert_eq!(client.next_event(), Some(ClientPoolEvent::Opened));
    (client, server)
}

fn carry(client: &mut ClientPool, server: &mut ServerPool, channel: Channel) {
    server.receive(channel, Priority::Default, &client.take(channel, usize::MAX)).unwrap();
    client.receive(channel, &server.take(channel, usize::MAX)).unwrap();
}

#[test]
fn runspaces_and_events_reach_the_client() {
    let (mut client, mut server) = pools(5);
    let mut ask = |request| {
        let call = client.ask_runspaces(request);
        carry(&mut client, &mut server, Channel::Pool);
        let Some(ClientPoolEvent::Runspaces(answered, answer)) = client.next_event() else { panic!() };
        assert_eq!(answered, call);
        answer
    };
    assert_eq!(ask(RunspaceRequest::Available), RunspaceAnswer::Available(2));
    assert_eq!(ask(RunspaceRequest::Max(4)), RunspaceAnswer::Granted(true));
    assert_eq!(ask(RunspaceRequest::Available), RunspaceAnswer::Available(4));
    assert_eq!(ask(RunspaceRequest::Max(400)), RunspaceAnswer::Granted(false));
    assert_eq!(ask(RunspaceRequest::Min(3)), RunspaceAnswer::Granted(true));
    assert_eq!(ask(RunspaceRequest::Min(9)), RunspaceAnswer::Granted(false));
    let event = UserEvent {
        identifier: 7,
        source: "Timer".to_owned(),
        time: DateTime::parse("2026-11-24T21:00:00Z").unwrap(),
        sender: "who".into(),
        arguments: vec![1.into(), "two".into()],
        data: "attached".into(),
        computer: "localhost".to_owned(),
        runspace: POOL,
    };
    server.raise_event(&event);
    carry(&mut client, &mut server, Channel::Pool);
    assert_eq!(client.next_event(), Some(ClientPoolEvent::UserEvent(Box::new(event))));
    assert_eq!(client.ignored(), 0);
}

#[test]
fn the_list_of_commands() {
    let (mut client, mut server) = pools(1);
    let id = Uuid::from_u128(9);
    let channel = Channel::Pipeline(id);
    client.get_commands(id, &MetadataRequest::of_names(["Get-*", "Set-Mailbox"]));
    server.begin_pipeline(id).unwrap();
    carry(&mut client, &mut server, channel);
    let events: Vec<_> = std::iter::from_fn(|| server.next_event()).collect();
    let asked = events.iter().find_map(|e| if let ServerPoolEvent::Metadata { request, .. } = e { Some(request) } else { None }).unwrap();
    assert_eq!((&asked.names[..], asked.command_types), (&["Get-*".to_owned(), "Set-Mailbox".to_owned()][..], 271));
    let parameter = |name, is_switch| ParameterDescription { name, type_name: Some("System.String"), aliases: &["Other"], is_switch };
    let command = CommandDescription {
        name: "Get-Mailbox",
        kind: CommandKind::Function,
        namespace: "M",
        parameters: vec![parameter("Identity", false), parameter("Archive", true)],
    };
    for value in [count_object(1), command.to_value()] {
        server.write(id, Output::Object(&value));
    }
    server.finish(id, &PipelineEnd::Completed);
    carry(&mut client, &mut server, channel);
    let output: Vec<Value> = std::iter::from_fn(|| client.next_event())
        .filter_map(|e| if let ClientPoolEvent::Output(_, v) = e { Some(v) } else { None })
        .collect();
    let [found] = read_commands(&output).unwrap().try_into().unwrap();
    assert_eq!((&*found.name, found.command_type, &*found.namespace, found.resolved), ("Get-Mailbox", 2, "M", None));
    let parameters: Vec<_> = found.parameters.iter().map(|p| (&*p.name, p.is_switch, &p.aliases[..])).collect();
    assert_eq!(parameters, [("Identity", false, &["Other".to_owned()][..]), ("Archive", true, &["Other".to_owned()][..])]);
    // What a server may do wrong.
    assert_eq!(read_commands(&[]), Err(MetadataError::NoCount));
    assert_eq!(read_commands(&output[1..]), Err(MetadataError::NoCount));
    assert_eq!(read_commands(&output[..1]), Err(MetadataError::Incomplete { announced: 1, found: 0 }));
    assert_eq!(read_commands(&[count_object(i32::MAX)]), Err(MetadataError::TooMany { what: "commands", count: i64::from(i32::MAX) }));
    assert_eq!(read_commands(&[count_object(-1)]), Err(MetadataError::Incomplete { announced: -1, found: 0 }));
    assert_eq!(read_commands(&[count_object(1), "no object".into()]), Err(MetadataError::Lacks("Name")));
}

fn counter() -> impl FnMut() -> Uuid + Send {
    let mut next = 0;
    move || {
        next += 1;
        Uuid::from_u128(next)
    }
}

/// A part of a list as Windows and others write it: items of either kind, and what the next part is asked for with.
fn part(request: &[u8], ids: &[u32], context: Option<&str>) -> Vec<u8> {
    let request = parse_request(request, &Limits::default()).unwrap();
    let pulled = matches!(&request.body, RequestBody::Enumerate(asked) if asked.after.is_some());
    let (name, prefix) = if pulled { ("PullResponse", "n") } else { ("EnumerateResponse", "w") };
    let items: String = ids
        .iter()
        .map(|id| {
            format!(
                "<rsp:Shell><rsp:ShellId>{}</rsp:ShellId><rsp:ResourceUri>http://schemas.microsoft.com/powershell/X</rsp:ResourceUri>\
                 <rsp:State>Disconnected</rsp:State></rsp:Shell>",
                Uuid::from_u128(u128::from(*id))
            )
        })
        .collect();
    let end = if context.is_none() { format!("<{prefix}:EndOfSequence/>") } else { String::new() };
    format!(
        "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:n=\"http://schemas.xmlsoap.org/ws/2004/09/enumeration\" xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\" \
         xmlns:rsp=\"http://schemas.microsoft.com/wbem/wsman/1/windows/shell\"><s:Header><a:RelatesTo>{}</a:RelatesTo></s:Header><s:Body>\
         <n:{name}><n:EnumerationContext>{}</n:EnumerationContext><{prefix}:Items>{items}</{prefix}:Items>{end}</n:{name}></s:Body></s:Envelope>",
        request.message_id,
        context.unwrap_or_default()
    )
    .into_bytes()
}

#[test]
fn lists_come_in_parts() {
    let list = || ShellList::new(ClientConfig::new("https://localhost/", POOL, POOL), Box::new(counter()));
    let mut whole = list();
    for (ids, context, more) in [(&[1, 2][..], Some("/AB"), true), (&[3], Some("/AC"), true), (&[4], None, false)] {
        let request = whole.request();
        assert_eq!(whole.handle_answer(200, &part(&request, ids, context)).unwrap(), more);
    }
    let shells = whole.shells();
    assert_eq!(shells.len(), 4);
    assert!(shells.iter().all(|s| !s.connected && s.resource_uri.ends_with("/X")));
    // A list without end, an empty part in the middle, more than anybody has, an answer to something else, a fault.
    let protocol = |result: Result<bool, ClientError>| match result {
        Err(ClientError::Protocol { operation: Operation::List, reason }) => reason,
        other => panic!("{other:?}"),
    };
    let mut endless = list();
    let mut last = Ok(true);
    let mut asked = 0;
    while last.as_ref().is_ok_and(|more| *more) {
        let request = endless.request();
        asked += 1;
        last = endless.handle_answer(200, &part(&request, &[asked], Some("/AB")));
    }
    assert!(protocol(last).contains("longer than") && asked == 400, "{asked}");
    let mut empty = list();
    let request = empty.request();
    assert!(empty.handle_answer(200, &part(&request, &[], Some("/AB"))).unwrap());
    let request = empty.request();
    assert!(protocol(empty.handle_answer(200, &part(&request, &[], Some("/AB")))).contains("empty"));
    let mut other = list();
    let before = other.request();
    other.request();
    assert!(protocol(other.handle_answer(200, &part(&before, &[1], None))).contains("relates to"));
    let fault = Fault::new(Fault::ACTION_NOT_SUPPORTED, "no").envelope(None, "uuid:1");
    assert!(matches!(list().handle_answer(500, fault.as_bytes()), Err(ClientError::Fault { operation: Operation::List, .. })));
    assert!(matches!(list().handle_answer(503, b"busy"), Err(ClientError::Http { status: 503, .. })));
}

#[test]
fn a_closed_session_lists_nothing() {
    let mut session = ClientSession::new(ClientConfig::new("https://localhost/", POOL, POOL), Box::new(counter()));
    session.close();
    let id = session.get_commands(&MetadataRequest::of_names(["*"]));
    let events: Vec<_> = std::iter::from_fn(|| session.next_event()).collect();
    assert!(events.contains(&ClientEvent::PipelineLost { pipeline: id, error: ClientError::Closed }), "{events:?}");
}
