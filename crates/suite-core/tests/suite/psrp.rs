//! Fragments, messages and the two pool machines.
#![allow(clippy::unwrap_used)]

use exops_psobject::{ErrorCategory, ErrorRecord, Value, clixml};
use exops_psrp::{
    Capability, Channel, ClientPool, ClientPoolConfig, ClientPoolEvent, Command, Defragmenter, FragmentError, FragmentLimits, HostInfo,
    HostMethod, HostResponse, MessageType, Output, PipelineEnd, PipelineRequest, Priority, ProtocolError, ServerPool, ServerPoolConfig,
    ServerPoolEvent, choice_call, error_from_value, error_to_value,
};
use proptest::prelude::*;
use uuid::Uuid;

const POOL: Uuid = Uuid::from_u128(0xC0FFEE);

fn fragment(object: u64, id: u64, flags: u8, blob: &[u8]) -> Vec<u8> {
    let mut out = object.to_be_bytes().to_vec();
    out.extend(id.to_be_bytes());
    out.push(flags);
    out.extend(u32::try_from(blob.len()).unwrap().to_be_bytes());
    out.extend(blob);
    out
}

fn push(defragmenter: &mut Defragmenter, bytes: &[u8]) -> Result<Vec<Vec<u8>>, FragmentError> {
    let mut out = Vec::new();
    defragmenter.push(bytes, &mut out).map(|()| out)
}

fn message(kind: MessageType, pool: Uuid, pipeline: Uuid, destination: u32, content: &str) -> Vec<u8> {
    let mut out = destination.to_le_bytes().to_vec();
    out.extend(kind.number().to_le_bytes());
    out.extend(pool.to_bytes_le());
    out.extend(pipeline.to_bytes_le());
    out.extend(content.as_bytes());
    out
}

/// A message of a client in one fragment.
fn from_client(kind: MessageType, pipeline: Uuid, content: &str) -> Vec<u8> {
    fragment(1, 0, 3, &message(kind, POOL, pipeline, 2, content))
}

proptest! {
    /// C-01: whatever way objects are cut, interleaved and delivered, they come out whole.
    #[test]
    fn c01_fragments_in_any_cut(
        objects in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6),
        part in 1usize..80,
        steps in prop::collection::vec(1usize..97, 1..40),
    ) {
        let mut queues: Vec<Vec<Vec<u8>>> = objects.iter().enumerate().map(|(object, bytes)| {
            let parts: Vec<&[u8]> = if bytes.is_empty() { vec![&[]] } else { bytes.chunks(part).collect() };
            let last = parts.len() - 1;
            parts.iter().enumerate().map(|(i, p)| fragment(object as u64, i as u64, u8::from(i == 0) | u8::from(i == last) << 1, p)).collect()
        }).collect();
        let mut stream = Vec::new();
        let mut turn = 0;
        while queues.iter().any(|q| !q.is_empty()) {
            let at = turn % queues.len();
            turn += 1;
            if !queues[at].is_empty() {
                stream.extend(queues[at].remove(0));
            }
        }
        let mut defragmenter = Defragmenter::new(FragmentLimits::default());
        let mut found = Vec::new();
        let mut rest = stream.as_slice();
        for step in steps.iter().cycle() {
            if rest.is_empty() { break; }
            let (now, later) = rest.split_at((*step).min(rest.len()));
            found.extend(push(&mut defragmenter, now).unwrap());
            rest = later;
        }
        prop_assert!(defragmenter.is_idle());
        let mut expected = objects;
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn c01_wrong_fragments_are_refused() {
    let limits = FragmentLimits { object_bytes: 1_000, open_bytes: 1_500, open_objects: 3, fragments: 50 };
    let fresh = || Defragmenter::new(limits);
    // A length of 2^31 is refused at the header: nothing is waited for, nothing allocated.
    let mut header = fragment(1, 0, 3, &[]);
    header[17..21].copy_from_slice(&(1u32 << 31).to_be_bytes());
    assert!(matches!(push(&mut fresh(), &header), Err(FragmentError::ObjectTooLarge { object: 1, .. })));
    // Zero length is fine, alone and within an object.
    assert_eq!(push(&mut fresh(), &fragment(1, 0, 3, &[])).unwrap(), vec![Vec::<u8>::new()]);
    let joined = [fragment(1, 0, 1, &[]), fragment(1, 1, 0, b"ab"), fragment(1, 2, 2, &[])].concat();
    assert_eq!(push(&mut fresh(), &joined).unwrap(), vec![b"ab".to_vec()]);
    for (bytes, expected) in [
        ([fragment(1, 0, 1, b"a"), fragment(1, 2, 2, b"b")].concat(), FragmentError::OutOfOrder { object: 1, found: 2, expected: 1 }),
        ([fragment(1, 0, 1, b"a"), fragment(1, 0, 0, b"b")].concat(), FragmentError::OutOfOrder { object: 1, found: 0, expected: 1 }),
        (fragment(1, 1, 3, b"a"), FragmentError::OutOfOrder { object: 1, found: 1, expected: 0 }),
        (fragment(7, 1, 0, b"a"), FragmentError::NotStarted { object: 7 }),
        ([fragment(1, 0, 1, b"a"), fragment(1, 0, 3, b"b")].concat(), FragmentError::StartedTwice { object: 1 }),
        ((0..4).flat_map(|o| fragment(o, 0, 1, b"a")).collect(), FragmentError::TooManyObjects { limit: 3 }),
        ((0..3).flat_map(|o| fragment(o, 0, 1, &[0; 900])).collect(), FragmentError::OpenTooLarge { limit: 1_500 }),
    ] {
        let mut defragmenter = fresh();
        assert_eq!(push(&mut defragmenter, &bytes), Err(expected));
        // The stream goes on afresh.
        assert!(defragmenter.is_idle());
        assert_eq!(push(&mut defragmenter, &fragment(1, 0, 3, b"ok")).unwrap(), vec![b"ok".to_vec()]);
    }
    // A flood of empty fragments ends at the count.
    let mut defragmenter = fresh();
    push(&mut defragmenter, &fragment(1, 0, 1, &[])).unwrap();
    let flood = (1..1_000_000u64).map(|n| push(&mut defragmenter, &fragment(1, n, 0, &[]))).find_map(Result::err);
    assert_eq!(flood, Some(FragmentError::TooManyFragments { object: 1, limit: 50 }));
}

#[test]
fn c02_an_object_is_capped_before_it_grows() {
    let mut defragmenter = Defragmenter::new(FragmentLimits { object_bytes: 10_000, ..FragmentLimits::default() });
    push(&mut defragmenter, &fragment(1, 0, 1, &[1; 4_000])).unwrap();
    push(&mut defragmenter, &fragment(1, 1, 0, &[1; 4_000])).unwrap();
    assert_eq!(push(&mut defragmenter, &fragment(1, 2, 2, &[1; 4_000])), Err(FragmentError::ObjectTooLarge { object: 1, limit: 10_000 }));
}

fn capability(protocol: &str, ps: &str, serialization: &str) -> Vec<u8> {
    from_client(
        MessageType::SessionCapability,
        Uuid::nil(),
        &format!(
            "\u{FEFF}<Obj RefId=\"0\"><MS><Version N=\"ProtocolVersion\">{protocol}</Version><Version N=\"psversion\">{ps}</Version>\
             <Version N=\"serializationversion\">{serialization}</Version></MS></Obj>"
        ),
    )
}

fn init(min: &str, max: &str) -> Vec<u8> {
    from_client(
        MessageType::InitRunspacePool,
        Uuid::nil(),
        &format!("<Obj RefId=\"0\"><MS><I32 N=\"MinRunspaces\">{min}</I32><I32 N=\"MaxRunspaces\">{max}</I32></MS></Obj>"),
    )
}

fn opened() -> ServerPool {
    let mut server = ServerPool::new(ServerPoolConfig::default());
    let bytes = [capability("2.3", "2.0", "1.1.0.1"), init("1", "1")].concat();
    server.receive(Channel::Pool, Priority::Default, &bytes).unwrap();
    assert_eq!(server.next_event(), Some(ServerPoolEvent::Opened));
    server
}

fn create(server: &mut ServerPool, id: Uuid) -> Result<(), ProtocolError> {
    server.begin_pipeline(id)?;
    let content = "<Obj RefId=\"0\"><MS><Obj N=\"PowerShell\" RefId=\"1\"><MS><Obj N=\"cmds\" RefId=\"2\"><LST><Obj RefId=\"3\"><MS>\
                   <S N=\"CMD\">Get-Mailbox</S><B N=\"isscript\">false</B></MS></Obj></LST></Obj></MS></Obj></MS></Obj>";
    server.receive(Channel::Pipeline(id), Priority::Default, &from_client(MessageType::CreatePipeline, id, content))
}

#[test]
fn c10_states_and_versions() {
    let receive = |server: &mut ServerPool, bytes: &[u8]| server.receive(Channel::Pool, Priority::Default, bytes);
    // Later minors are accepted and answered with ours, earlier ones accepted.
    for protocol in ["2.0", "2.1", "2.2", "2.3", "2.4"] {
        let mut server = ServerPool::new(ServerPoolConfig::default());
        receive(&mut server, &[capability(protocol, "2.0", "1.1.0.1"), init("1", "5")].concat()).unwrap();
        assert_eq!(server.next_event(), Some(ServerPoolEvent::Opened));
    }
    for (protocol, ps, serialization) in
        [("1.0", "2.0", "1.1.0.1"), ("3.0", "2.0", "1.1.0.1"), ("2.3", "3.0", "1.1.0.1"), ("2.3", "2.0", "1.0.0.0")]
    {
        let mut server = ServerPool::new(ServerPoolConfig::default());
        assert!(matches!(receive(&mut server, &capability(protocol, ps, serialization)), Err(ProtocolError::Version { .. })));
        // The client learns it as state Broken with a record.
        assert!(server.has_output(Channel::Pool));
        assert!(receive(&mut server, &init("1", "1")).is_err());
        assert_eq!(server.next_event(), None);
    }
    // INIT before capability; capability twice; min > max; nothing to run in.
    assert!(receive(&mut ServerPool::new(ServerPoolConfig::default()), &init("1", "1")).is_err());
    assert!(receive(&mut opened(), &capability("2.3", "2.0", "1.1.0.1")).is_err());
    for (min, max) in [("2", "1"), ("0", "0"), ("-1", "1"), ("1", "0")] {
        let mut server = ServerPool::new(ServerPoolConfig::default());
        let bytes = [capability("2.3", "2.0", "1.1.0.1"), init(min, max)].concat();
        assert!(matches!(receive(&mut server, &bytes), Err(ProtocolError::Property { .. })), "{min} {max}");
        assert_eq!(server.next_event(), None);
    }
    // A pipeline before the pool is open.
    assert!(matches!(create(&mut ServerPool::new(ServerPoolConfig::default()), Uuid::max()), Err(ProtocolError::Unexpected { .. })));
    // State messages from the wrong side, by type and by destination; the pool survives.
    let mut server = opened();
    let state = "<Obj RefId=\"0\"><MS><I32 N=\"RunspaceState\">2</I32></MS></Obj>";
    assert!(receive(&mut server, &from_client(MessageType::RunspacePoolState, Uuid::nil(), state)).is_err());
    let other_way = fragment(9, 0, 3, &message(MessageType::GetAvailableRunspaces, POOL, Uuid::nil(), 1, state));
    assert!(receive(&mut server, &other_way).is_err());
    let foreign = fragment(9, 0, 3, &message(MessageType::GetAvailableRunspaces, Uuid::max(), Uuid::nil(), 2, state));
    assert!(matches!(receive(&mut server, &foreign), Err(ProtocolError::WrongTarget { .. })));
    // Unknown types are counted and dropped.
    receive(&mut server, &from_client(MessageType::Unknown(0x0002_100E), Uuid::nil(), "")).unwrap();
    assert_eq!(server.ignored(), 1);
    create(&mut server, Uuid::max()).unwrap();
    assert!(matches!(server.next_event(), Some(ServerPoolEvent::Pipeline { .. })));
    // The same id again.
    assert_eq!(create(&mut server, Uuid::max()), Err(ProtocolError::PipelineExists(Uuid::max())));
}

#[test]
fn pipelines_queue_on_one_runspace_and_end_once() {
    let mut server = opened();
    let ids: Vec<Uuid> = (1..=4).map(Uuid::from_u128).collect();
    for id in &ids {
        create(&mut server, *id).unwrap();
    }
    let started = |server: &mut ServerPool| match server.next_event() {
        Some(ServerPoolEvent::Pipeline { id, .. }) => Some(id),
        _ => None,
    };
    assert_eq!(started(&mut server), Some(ids[0]));
    assert_eq!(server.next_event(), None);
    // C-14: a waiting one that is stopped ends without having begun; stopping twice changes nothing.
    server.stop(ids[1]).unwrap();
    server.stop(ids[1]).unwrap();
    assert!(server.has_output(Channel::Pipeline(ids[1])));
    assert_eq!(server.next_event(), None);
    // A running one is asked; it may still complete; a second end and later output do not count.
    server.stop(ids[0]).unwrap();
    assert_eq!(server.next_event(), Some(ServerPoolEvent::Stop { id: ids[0] }));
    server.finish(ids[0], &PipelineEnd::Stopped);
    let length = server.buffered(Channel::Pipeline(ids[0]));
    server.finish(ids[0], &PipelineEnd::Completed);
    server.write(ids[0], Output::Object(&Value::I32(1)));
    assert_eq!(server.buffered(Channel::Pipeline(ids[0])), length);
    assert_eq!(started(&mut server), Some(ids[2]));
    // Given up while running: the runspace is busy until the pipeline is finished.
    server.terminate(ids[2]).unwrap();
    assert_eq!(server.next_event(), Some(ServerPoolEvent::Terminated { id: ids[2] }));
    assert_eq!(server.next_event(), None);
    server.write(ids[2], Output::Warning("nobody listens"));
    server.finish(ids[2], &PipelineEnd::Completed);
    assert_eq!(started(&mut server), Some(ids[3]));
    assert_eq!(server.terminate(ids[2]), Err(ProtocolError::UnknownPipeline(ids[2])));
    // The number of pipelines is bounded.
    let refused = (100..200).map(|n| create(&mut server, Uuid::from_u128(n))).find_map(Result::err);
    assert!(matches!(refused, Some(ProtocolError::TooManyPipelines { limit: 64 })));
}

/// A client pool joined to a server pool, with everything that waits carried over.
fn carry(client: &mut ClientPool, server: &mut ServerPool, channel: Channel, capacity: usize) {
    let up = client.take(channel, capacity);
    server.receive(channel, Priority::Default, &up).unwrap();
    while server.has_output(channel) {
        client.receive(channel, &server.take(channel, capacity)).unwrap();
    }
}

#[test]
fn c11_host_calls_and_forged_answers() {
    let mut client = ClientPool::new(ClientPoolConfig { host: HostInfo::INTERACTIVE, ..ClientPoolConfig::new(POOL) });
    let mut server = ServerPool::new(ServerPoolConfig::default());
    carry(&mut client, &mut server, Channel::Pool, 100_000);
    assert_eq!(client.next_event(), Some(ClientPoolEvent::Opened));
    assert_eq!(client.peer(), Some(&Capability::own()));
    let id = Uuid::from_u128(5);
    let channel = Channel::Pipeline(id);
    // The pipeline names no host of its own: the pool's counts.
    client.invoke(id, &PipelineRequest::from(Command::new("Remove-Mailbox").with("Identity", "x")));
    server.begin_pipeline(id).unwrap();
    carry(&mut client, &mut server, channel, 100_000);
    assert!(server.has_ui(id));
    server.write(id, Output::Warning("careful"));
    let (method, parameters) = choice_call("Confirm", "Sure?", &[("&Yes", "do it"), ("&No", "")], 1);
    let call_id = server.call_host(id, method, parameters).unwrap();
    carry(&mut client, &mut server, channel, 100_000);
    assert_eq!(client.next_event(), Some(ClientPoolEvent::Warning(Some(id), "careful".into())));
    let calls: Vec<_> = std::iter::from_fn(|| client.next_event()).collect();
    let [ClientPoolEvent::HostCall(_, line), ClientPoolEvent::HostCall(Some(_), call)] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((line.method, line.call_id, line.expects_answer()), (HostMethod::WriteWarningLine, -100, false));
    assert_eq!((call.method, call.call_id, call.parameters.len()), (HostMethod::PromptForChoice, call_id, 4));
    let response = |call_id| HostResponse { call_id, method: HostMethod::PromptForChoice, result: Ok(Value::I32(0)) };
    let mut events = Vec::new();
    // Forged, right, repeated.
    for call_id in [call_id + 1, call_id, call_id, -100] {
        let bytes = client.respond(Some(id), &response(call_id));
        server.receive(channel, Priority::PromptResponse, &bytes).unwrap();
        events.extend(std::iter::from_fn(|| server.next_event()));
    }
    assert_eq!(events.pop(), Some(ServerPoolEvent::HostResponse { id, response: response(call_id) }));
    assert_eq!(server.ignored(), 3);
}

#[test]
fn error_records_survive_and_have_what_clients_insist_on() {
    let record = ErrorRecord {
        activity: "Get-Mailbox".into(),
        target_name: "x".into(),
        target_type: "String".into(),
        target_object: "x".into(),
        details_message: Some("shown <instead> & such".into()),
        ..ErrorRecord::new("A.B.ManagementObjectNotFoundException", "not found", ErrorCategory::ObjectNotFound, "[Server=X] ABC,Full.Type")
    };
    let value = error_to_value(&record);
    for property in [
        "Exception",
        "TargetObject",
        "FullyQualifiedErrorId",
        "ErrorCategory_Category",
        "ErrorCategory_Activity",
        "ErrorCategory_Reason",
        "ErrorCategory_TargetName",
        "ErrorCategory_TargetType",
        "ErrorCategory_Message",
        "SerializeExtendedInfo",
    ] {
        assert!(value.as_object().unwrap().property(property).is_some(), "{property}");
    }
    let text = clixml::write(&value);
    let back = clixml::read(text.as_bytes(), &exops_psobject::Limits::default()).unwrap();
    assert_eq!(error_from_value(&back), ErrorRecord { recommended_action: None, ..record });
    // Anything else is read as far as it goes.
    assert_eq!(&*error_from_value(&Value::from("just text")).message, "just text");
}

proptest! {
    /// A request survives the way to the server in any cut, with its names stripped of dash and colon.
    #[test]
    fn requests_survive(
        names in prop::collection::vec("[A-Za-z]{1,12}", 0..5),
        text in "\\PC*",
        capacity in 62usize..4_000,
        no_input in any::<bool>(),
        script in any::<bool>(),
    ) {
        let mut command = Command { is_script: script, ..Command::new("Set-Mailbox") };
        for name in &names {
            command = command.with(name, text.as_str());
        }
        let request = PipelineRequest { no_input, more_statements: vec![vec![Command::new("Get-Mailbox")]], ..PipelineRequest::from(command) };
        let mut client = ClientPool::new(ClientPoolConfig::new(POOL));
        let mut server = ServerPool::new(ServerPoolConfig::default());
        while client.has_output(Channel::Pool) {
            carry(&mut client, &mut server, Channel::Pool, capacity);
        }
        let id = Uuid::from_u128(9);
        client.invoke(id, &request);
        server.begin_pipeline(id).unwrap();
        while client.has_output(Channel::Pipeline(id)) {
            carry(&mut client, &mut server, Channel::Pipeline(id), capacity);
        }
        prop_assert_eq!(server.next_event(), Some(ServerPoolEvent::Opened));
        prop_assert_eq!(server.next_event(), Some(ServerPoolEvent::Pipeline { id, request: Box::new(request) }));
    }
}
