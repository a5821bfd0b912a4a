//! The messages of a pool beside those of its pipelines: numbers of runspaces, nested pipelines, the pool's own host calls, events,
//! and stops at any moment.
#![allow(clippy::unwrap_used)]

use exops_psobject::{DateTime, Limits, Value, clixml};
use exops_psrp::{
    Channel, Defragmenter, FragmentLimits, HostMethod, Message, MessageType, Output, PipelineEnd, PipelineState, Priority, ProtocolError,
    ServerPool, ServerPoolConfig, ServerPoolEvent, UserEvent,
};
use uuid::Uuid;

const POOL: Uuid = Uuid::from_u128(0xC0FFEE);
const VERSIONS: &str = "<Obj RefId=\"0\"><MS><Version N=\"protocolversion\">2.3</Version><Version N=\"PSVersion\">2.0</Version>\
                        <Version N=\"SerializationVersion\">1.1.0.1</Version></MS></Obj>";

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

struct Pool {
    server: ServerPool,
    sent: u64,
    read: Defragmenter,
}

impl Pool {
    fn open(possible: usize, min: u32, max: u32) -> Self {
        let server = ServerPool::new(ServerPoolConfig { runspaces: possible, ..ServerPoolConfig::default() });
        let mut pool = Self { server, sent: 0, read: Defragmenter::new(FragmentLimits::default()) };
        pool.send(MessageType::SessionCapability, None, VERSIONS).unwrap();
        let host = "<Obj N=\"HostInfo\" RefId=\"1\"><MS><B N=\"_isHostNull\">false</B><B N=\"_isHostUINull\">false</B>\
                    <B N=\"_isHostRawUINull\">false</B><B N=\"_useRunspaceHost\">false</B></MS></Obj>";
        let init = format!("<Obj RefId=\"0\"><MS><I32 N=\"MinRunspaces\">{min}</I32><I32 N=\"MaxRunspaces\">{max}</I32>{host}</MS></Obj>");
        pool.send(MessageType::InitRunspacePool, None, &init).unwrap();
        assert_eq!(pool.server.next_event(), Some(ServerPoolEvent::Opened));
        pool.messages(None);
        pool
    }

    fn send(&mut self, kind: MessageType, pipeline: Option<Uuid>, content: &str) -> Result<(), ProtocolError> {
        let mut blob = 2u32.to_le_bytes().to_vec();
        blob.extend(kind.number().to_le_bytes());
        blob.extend(POOL.to_bytes_le());
        blob.extend(pipeline.unwrap_or_default().to_bytes_le());
        blob.extend(content.as_bytes());
        self.sent += 1;
        let mut bytes = self.sent.to_be_bytes().to_vec();
        bytes.extend([0; 8]);
        bytes.push(3);
        bytes.extend(u32::try_from(blob.len()).unwrap().to_be_bytes());
        bytes.extend(blob);
        self.server.receive(pipeline.map_or(Channel::Pool, Channel::Pipeline), Priority::Default, &bytes)
    }

    /// What waits for the client.
    fn messages(&mut self, pipeline: Option<Uuid>) -> Vec<(MessageType, Value)> {
        let bytes = self.server.take(pipeline.map_or(Channel::Pool, Channel::Pipeline), usize::MAX);
        let mut objects = Vec::new();
        self.read.push(&bytes, &mut objects).unwrap();
        let decoded = objects.into_iter().map(|object| Message::decode(object).unwrap());
        decoded.map(|m| (m.kind, clixml::read(m.content(), &Limits::default()).unwrap())).collect()
    }

    /// A request about the runspaces, and its answer.
    fn ask(&mut self, kind: MessageType, number: Option<(&str, i32)>) -> Value {
        let call = self.sent + 100;
        let number = number.map(|(name, n)| format!("<I32 N=\"{name}\">{n}</I32>")).unwrap_or_default();
        self.send(kind, None, &format!("<Obj RefId=\"0\"><MS>{number}<I64 N=\"ci\">{call}</I64></MS></Obj>")).unwrap();
        let messages = self.messages(None);
        let [(MessageType::RunspaceAvailability, answer)] = messages.as_slice() else { panic!("{messages:?}") };
        assert_eq!(property(answer, "ci").as_i64(), i64::try_from(call).ok());
        property(answer, "SetMinMaxRunspacesResponse")
    }

    fn create(&mut self, pipeline: Uuid, nested: bool) {
        self.server.begin_pipeline(pipeline).unwrap();
        let content = format!(
            "<Obj RefId=\"0\"><MS><B N=\"IsNested\">{nested}</B><Obj N=\"PowerShell\" RefId=\"1\"><MS><Obj N=\"Cmds\" RefId=\"2\"><LST>\
             <Obj RefId=\"3\"><MS><S N=\"Cmd\">X</S></MS></Obj></LST></Obj></MS></Obj></MS></Obj>"
        );
        self.send(MessageType::CreatePipeline, Some(pipeline), &content).unwrap();
    }

    /// Pipelines that begin now.
    fn begun(&mut self) -> Vec<Uuid> {
        let begun = |event| match event {
            ServerPoolEvent::Pipeline { id, .. } => id,
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(|| self.server.next_event()).map(begun).collect()
    }

    /// How the pipeline ended, with all that waited taken.
    fn end(&mut self, pipeline: Uuid) -> Option<PipelineState> {
        let messages = self.messages(Some(pipeline));
        let states: Vec<_> = messages.iter().filter(|(kind, _)| *kind == MessageType::PipelineState).collect();
        assert!(states.len() <= 1, "one end");
        let number = property(&states.first()?.1, "PipelineState").as_i64().unwrap();
        Some(match number {
            3 => PipelineState::Stopped,
            4 => PipelineState::Completed,
            other => panic!("{other}"),
        })
    }
}

fn property(value: &Value, name: &str) -> Value {
    value.as_object().unwrap().property(name).unwrap_or_else(|| panic!("no {name} in {value:?}")).clone()
}

#[test]
fn runspaces_are_counted_and_changed() {
    use MessageType::{GetAvailableRunspaces, ResetRunspaceState, SetMaxRunspaces, SetMinRunspaces};
    let (yes, no) = (Value::from(true), Value::from(false));
    // One runspace: the second waits for the first.
    let mut one = Pool::open(4, 1, 1);
    one.create(id(1), false);
    one.create(id(2), false);
    assert_eq!(one.begun(), [id(1)]);
    one.server.finish(id(1), &PipelineEnd::Completed);
    assert_eq!(one.begun(), [id(2)]);

    // Two: both at once, the third when one of them ends or a third runspace is there.
    let mut pool = Pool::open(4, 1, 2);
    assert_eq!(pool.ask(GetAvailableRunspaces, None), Value::I64(2));
    assert_eq!(pool.ask(ResetRunspaceState, None), yes);
    (1..=4).for_each(|n| pool.create(id(n), false));
    assert_eq!(pool.begun(), [id(1), id(2)]);
    assert_eq!(pool.ask(GetAvailableRunspaces, None), Value::I64(0));
    assert_eq!(pool.ask(ResetRunspaceState, None), no);
    for (kind, name, number, done) in [
        (SetMaxRunspaces, "MaxRunspaces", 0, &no),
        (SetMaxRunspaces, "MaxRunspaces", -1, &no),
        (SetMaxRunspaces, "MaxRunspaces", 5, &no),
        (SetMinRunspaces, "MinRunspaces", 3, &no),
        (SetMinRunspaces, "MinRunspaces", 0, &no),
        (SetMinRunspaces, "MinRunspaces", 2, &yes),
        (SetMaxRunspaces, "MaxRunspaces", 1, &no),
    ] {
        assert_eq!(&pool.ask(kind, Some((name, number))), done, "{name} {number}");
        assert_eq!(pool.server.next_event(), None);
    }
    assert_eq!(pool.ask(SetMaxRunspaces, Some(("MaxRunspaces", 3))), yes);
    assert_eq!(pool.begun(), [id(3)]);
    // Fewer: those that run go on, and the next waits longer.
    assert_eq!(pool.ask(SetMaxRunspaces, Some(("MaxRunspaces", 2))), yes);
    pool.server.finish(id(1), &PipelineEnd::Completed);
    assert!(pool.begun().is_empty());
    pool.server.finish(id(2), &PipelineEnd::Completed);
    assert_eq!(pool.begun(), [id(4)]);
    // Without its number, or the id of the call, it is a protocol error.
    assert!(matches!(
        pool.send(SetMaxRunspaces, None, "<Obj RefId=\"0\"><MS><I64 N=\"ci\">1</I64></MS></Obj>"),
        Err(ProtocolError::Property { .. })
    ));
    assert!(pool.send(GetAvailableRunspaces, None, "<S/>").is_err());
    assert_eq!(pool.ask(GetAvailableRunspaces, None), Value::I64(0));
}

#[test]
fn a_pipeline_that_waits_for_its_host_lends_its_runspace_to_nested_ones() {
    let mut pool = Pool::open(1, 1, 1);
    pool.create(id(1), false);
    assert_eq!(pool.begun(), [id(1)]);
    // Whoever calls itself nested waits like the others, as long as nobody waits for the client.
    pool.create(id(2), true);
    pool.create(id(3), false);
    assert!(pool.begun().is_empty());
    let call = pool.server.call_host(id(1), HostMethod::ReadLine, Vec::new()).unwrap();
    assert_eq!(pool.begun(), [id(2)]);
    pool.create(id(4), true);
    assert!(pool.begun().is_empty(), "one at a time");
    pool.server.finish(id(2), &PipelineEnd::Completed);
    assert_eq!(pool.begun(), [id(4)]);
    pool.server.finish(id(4), &PipelineEnd::Completed);
    let answer = format!("<Obj RefId=\"0\"><MS><S N=\"mr\">x</S><I64 N=\"ci\">{call}</I64><I32 N=\"mi\">11</I32></MS></Obj>");
    pool.send(MessageType::PipelineHostResponse, Some(id(1)), &answer).unwrap();
    assert!(matches!(pool.server.next_event(), Some(ServerPoolEvent::HostResponse { .. })));
    pool.create(id(5), true);
    assert!(pool.begun().is_empty());
    pool.server.finish(id(1), &PipelineEnd::Completed);
    assert_eq!(pool.begun(), [id(3)]);
}

#[test]
fn the_host_of_the_pool_and_its_events() {
    let mut pool = Pool::open(1, 1, 1);
    pool.server.tell_pool_host(HostMethod::WriteLine2, vec!["a banner".into()]);
    let call = pool.server.call_pool_host(HostMethod::ReadLine, Vec::new()).unwrap();
    let event = UserEvent {
        identifier: 7,
        source: "Timer".to_owned(),
        time: DateTime::parse("2026-11-24T21:00:00Z").unwrap(),
        sender: Value::Null,
        arguments: vec![1.into(), "two".into()],
        data: "attached".into(),
        computer: "localhost".to_owned(),
        runspace: POOL,
    };
    pool.server.raise_event(&event);
    let [line, asked, raised] = pool.messages(None).try_into().unwrap();
    assert_eq!((line.0, asked.0, raised.0), (MessageType::RunspacePoolHostCall, MessageType::RunspacePoolHostCall, MessageType::UserEvent));
    assert_eq!((property(&line.1, "ci").as_i64(), property(&asked.1, "ci").as_i64()), (Some(-100), Some(call)));
    for (name, due) in [
        ("PSEventArgs.EventIdentifier", Value::I32(7)),
        ("PSEventArgs.SourceIdentifier", "Timer".into()),
        ("PSEventArgs.TimeGenerated", Value::DateTime(event.time)),
        ("PSEventArgs.Sender", Value::Null),
        ("PSEventArgs.MessageData", "attached".into()),
        ("PSEventArgs.ComputerName", "localhost".into()),
        ("PSEventArgs.RunspaceId", Value::Guid(POOL)),
    ] {
        assert_eq!(property(&raised.1, name), due, "{name}");
    }
    assert_eq!(property(&raised.1, "PSEventArgs.SourceArgs").as_list(), Some(event.arguments.as_slice()));
    // C-11: forged, right, repeated.
    let mut events = Vec::new();
    for ci in [call + 1, call, call] {
        let answer = format!("<Obj RefId=\"0\"><MS><S N=\"mr\">typed</S><I64 N=\"ci\">{ci}</I64><I32 N=\"mi\">11</I32></MS></Obj>");
        pool.send(MessageType::RunspacePoolHostResponse, None, &answer).unwrap();
        events.extend(std::iter::from_fn(|| pool.server.next_event()));
    }
    let [ServerPoolEvent::PoolHostResponse { response }] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((response.call_id, &response.result), (call, &Ok("typed".into())));
    assert_eq!(pool.server.ignored(), 2);
    pool.server.close();
    assert_eq!(pool.server.call_pool_host(HostMethod::ReadLine, Vec::new()), None);
    pool.server.raise_event(&event);
    assert_eq!(pool.messages(None).len(), 1, "the end of the pool, and nothing after it");
}

/// C-14: a stop finds a pipeline in any state; it ends once, and the next one begins.
#[test]
fn c14_stop_at_any_moment() {
    let mut pool = Pool::open(1, 1, 1);
    let stop = |pool: &mut Pool, n: u128| {
        pool.server.stop(id(n)).unwrap();
        pool.server.stop(id(n)).unwrap();
    };
    // While its request is still coming.
    pool.server.begin_pipeline(id(1)).unwrap();
    stop(&mut pool, 1);
    assert_eq!(pool.end(id(1)), Some(PipelineState::Stopped));
    // While it waits for a runspace, with input that waits with it.
    pool.create(id(2), false);
    pool.create(id(3), false);
    assert_eq!(pool.begun(), [id(2)]);
    pool.send(MessageType::PipelineInput, Some(id(3)), "<I32>1</I32>").unwrap();
    stop(&mut pool, 3);
    assert_eq!(pool.end(id(3)), Some(PipelineState::Stopped));
    pool.send(MessageType::PipelineInput, Some(id(3)), "<I32>2</I32>").unwrap();
    assert_eq!(pool.server.next_event(), None);
    // While it waits for its client's host, behind a flood that nobody fetched.
    for n in 0..10_000 {
        pool.server.write(id(2), Output::Object(&Value::I32(n)));
    }
    let call = pool.server.call_host(id(2), HostMethod::ReadLine, Vec::new()).unwrap();
    stop(&mut pool, 2);
    let events: Vec<_> = std::iter::from_fn(|| pool.server.next_event()).collect();
    assert!(!events.is_empty() && events.iter().all(|event| *event == ServerPoolEvent::Stop { id: id(2) }), "{events:?}");
    pool.create(id(4), false);
    pool.server.finish(id(2), &PipelineEnd::Stopped);
    assert_eq!(pool.begun(), [id(4)]);
    let answer = format!("<Obj RefId=\"0\"><MS><S N=\"mr\">late</S><I64 N=\"ci\">{call}</I64><I32 N=\"mi\">11</I32></MS></Obj>");
    pool.send(MessageType::PipelineHostResponse, Some(id(2)), &answer).unwrap();
    assert_eq!(pool.server.next_event(), None, "an answer that comes too late");
    let messages = pool.messages(Some(id(2)));
    let outputs = messages.iter().filter(|(kind, _)| *kind == MessageType::PipelineOutput).count();
    assert_eq!((outputs, messages.last().map(|(kind, _)| *kind)), (10_000, Some(MessageType::PipelineState)));
    // When it is over, or given up.
    pool.server.finish(id(4), &PipelineEnd::Completed);
    stop(&mut pool, 4);
    assert_eq!(pool.end(id(4)), Some(PipelineState::Completed));
    pool.create(id(5), false);
    assert_eq!(pool.begun(), [id(5)]);
    pool.server.terminate(id(5)).unwrap();
    assert!(matches!(pool.server.stop(id(5)), Err(ProtocolError::UnknownPipeline(_))));
    pool.server.finish(id(5), &PipelineEnd::Stopped);
    pool.create(id(6), false);
    assert_eq!(std::iter::from_fn(|| pool.server.next_event()).last().map(|e| matches!(e, ServerPoolEvent::Pipeline { .. })), Some(true));
}
