//! Fragments, messages and the two state machines of PSRP. An input of these targets is a list of steps:
//! one byte that says what, two of length (little endian), and so many bytes.

use exops_psobject::{ErrorCategory, ErrorRecord, PsObject, Value, clixml};
use exops_psrp::{
    Channel, ClientPool, ClientPoolConfig, ClientPoolEvent, Command, Defragmenter, FragmentLimits, HostInfo, HostMethod, HostResponse,
    Message, MessageType, Output, PipelineEnd, PipelineRequest, Priority, ServerPool, ServerPoolConfig, ServerPoolEvent, error_from_value,
    error_to_value, first_pipeline_id,
};
use uuid::Uuid;

use crate::wire::LIMITS;
use crate::{MAX_INPUT, Outcome, Problem, holds, refused, same, taken};

const FRAGMENTS: FragmentLimits = FragmentLimits { object_bytes: 16 * 1024, open_bytes: 24 * 1024, open_objects: 4, fragments: 64 };
const POOL: Uuid = Uuid::from_u128(0xC0FFEE);
const PIPELINES: [Uuid; 3] = [Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3)];
/// Steps of one input that are run.
const STEPS: usize = 256;

pub(crate) const FLAGS: &[&[u8]] = &[&[0, 0, 0, 0, 0, 0, 0, 1], &[0; 8], &[3, 0, 0, 0, 0], &[1, 0, 0, 0, 1], &[2, 0, 0, 0, 1], &[0xff; 8]];
pub(crate) const MEMBERS: &[&[u8]] = &[
    b"<S N=\"protocolversion\">2.3</S>",
    b"<I32 N=\"MinRunspaces\">",
    b"<I32 N=\"RunspaceState\">2</I32>",
    b"<I32 N=\"PipelineState\">4</I32>",
    b"<I64 N=\"ci\">1</I64>",
    b"<I32 N=\"mi\">11</I32>",
    b"<Obj N=\"mr\" RefId=\"1\">",
    b"<Obj RefId=\"0\"><MS>",
    b"</MS></Obj>",
    b"<Nil N=\"HostInfo\"/>",
    b"<B N=\"NoInput\">true</B>",
    b"<LST>",
    b"</LST>",
    b"<S N=\"Cmd\">Get-Mailbox</S>",
    b"\x00\x00\x00",
    b"\x01\x00\x00",
    b"\x09\x00\x00",
    b"-1",
    b"<S/>",
];

fn fragment(object: u64, id: u64, flags: u8, blob: &[u8]) -> Vec<u8> {
    let length = u32::try_from(blob.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&object.to_be_bytes()[..], &id.to_be_bytes(), &[flags], &length, blob].concat()
}

fn message(kind: MessageType, pipeline: Uuid, to: u32, content: &[u8]) -> Vec<u8> {
    [&to.to_le_bytes()[..], &kind.number().to_le_bytes(), &POOL.to_bytes_le(), &pipeline.to_bytes_le(), content].concat()
}

/// The same objects come out however the bytes are cut.
pub(crate) fn fragments(input: &[u8]) -> Result<Outcome, Problem> {
    let (mut whole, mut objects) = (Defragmenter::new(FRAGMENTS), Vec::new());
    let result = whole.push(input, &mut objects);
    let width = input.first().map_or(1, |byte| usize::from(*byte) % 40 + 1);
    let (mut cut, mut in_parts) = (Defragmenter::new(FRAGMENTS), Vec::new());
    let parts = input.chunks(width).try_for_each(|part| cut.push(part, &mut in_parts));
    same("cut, the answer differs", &result, &parts)?;
    same("cut, the objects differ", &objects, &in_parts)?;
    same("cut, it waits for something else", &whole.is_idle(), &cut.is_idle())?;
    holds("an object above its limit", objects.iter().all(|object| object.len() <= FRAGMENTS.object_bytes))?;
    holds("more came out than went in", objects.iter().map(Vec::len).sum::<usize>() <= input.len())?;
    if let Err(error) = result {
        holds("after an error something is left", whole.is_idle())?;
        return Ok(refused(&error) ^ taken(&[objects.len()]));
    }
    Ok(taken(&[objects.len(), usize::from(whole.is_idle())]))
}

pub(crate) fn fragment_seeds() -> Vec<Vec<u8>> {
    vec![
        fragment(1, 0, 3, b"whole"),
        [
            fragment(1, 0, 1, b"one"),
            fragment(2, 0, 1, b"two"),
            fragment(1, 1, 0, b"middle"),
            fragment(2, 1, 2, b"end"),
            fragment(1, 2, 2, b"end"),
        ]
        .concat(),
        [fragment(7, 0, 1, &[]), fragment(7, 1, 2, &[]), fragment(8, 0, 3, &[9; 600])].concat(),
    ]
}

/// A message with its header, and its content as an error record.
pub(crate) fn messages(input: &[u8]) -> Result<Outcome, Problem> {
    let raw = match Message::decode(input.to_vec()) {
        Ok(raw) => raw,
        Err(error) => return Ok(refused(&error)),
    };
    let written = [
        &raw.destination.to_le_bytes()[..],
        &raw.kind.number().to_le_bytes(),
        &raw.pool_id.to_bytes_le(),
        &raw.pipeline_id.to_bytes_le(),
        raw.content(),
    ];
    same("written again, the message differs", &input, &written.concat().as_slice())?;
    same("the first pipeline differs", &Some(raw.pipeline_id), &first_pipeline_id(&fragment(1, 0, 3, input)))?;
    let value = match clixml::read(raw.content(), &LIMITS) {
        Ok(value) => value,
        Err(error) => return Ok(refused(&error)),
    };
    // Whatever an error record was made of, written and read it stays.
    let record = error_from_value(&value);
    let again = error_from_value(&error_to_value(&record));
    same(
        "written again, the error differs",
        &(&record.message, &record.fully_qualified_error_id),
        &(&again.message, &again.fully_qualified_error_id),
    )?;
    same("written again, the category differs", &record.category, &again.category)?;
    Ok(taken(&[raw.kind.number() as usize, record.message.len(), record.exception_types.len()]))
}

pub(crate) fn message_seeds() -> Vec<Vec<u8>> {
    let record = error_to_value(&error());
    vec![
        message(MessageType::ErrorRecord, PIPELINES[0], 1, clixml::write(&record).as_bytes()),
        message(MessageType::PipelineOutput, PIPELINES[0], 1, clixml::write(&exops_testkit::mailbox("adele")).as_bytes()),
        message(MessageType::EndOfPipelineInput, PIPELINES[0], 2, b""),
    ]
}

fn error() -> ErrorRecord {
    ErrorRecord::new("System.Exception", "not there", ErrorCategory::ObjectNotFound, "Id")
}

/// Types of messages by number of the step, in both directions.
const KINDS: [MessageType; 20] = [
    MessageType::SessionCapability,
    MessageType::InitRunspacePool,
    MessageType::PublicKey,
    MessageType::ConnectRunspacePool,
    MessageType::SetMaxRunspaces,
    MessageType::SetMinRunspaces,
    MessageType::GetAvailableRunspaces,
    MessageType::CreatePipeline,
    MessageType::GetCommandMetadata,
    MessageType::PipelineInput,
    MessageType::EndOfPipelineInput,
    MessageType::PipelineHostResponse,
    MessageType::RunspacePoolState,
    MessageType::ApplicationPrivateData,
    MessageType::PipelineOutput,
    MessageType::ErrorRecord,
    MessageType::PipelineState,
    MessageType::ProgressRecord,
    MessageType::PipelineHostCall,
    MessageType::Unknown(0x0004_2000),
];

/// The steps of an input: what, for which pipeline (`None` is the pool), and the bytes.
fn steps(mut input: &[u8]) -> Vec<(u8, Option<Uuid>, &[u8])> {
    let mut steps = Vec::new();
    while let Some(([what, low, high], rest)) = input.split_first_chunk::<3>()
        && steps.len() < STEPS
    {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (bytes, later) = rest.split_at(length);
        steps.push((*what & 0x3f, PIPELINES.get(usize::from(*what >> 6)).copied(), bytes));
        input = later;
    }
    steps
}

fn step(what: u8, pipeline: Option<usize>, bytes: &[u8]) -> Vec<u8> {
    let head = what | u8::try_from(pipeline.unwrap_or(3) << 6).unwrap_or_default();
    let [low, high] = u16::try_from(bytes.len()).unwrap_or_default().to_le_bytes();
    [&[head, low, high], bytes].concat()
}

/// A message of `KINDS` as a step.
fn message_step(kind: MessageType, pipeline: Option<usize>, content: &[u8]) -> Vec<u8> {
    let at = KINDS.iter().position(|known| *known == kind).unwrap_or_default();
    step(u8::try_from(at).unwrap_or_default(), pipeline, content)
}

fn channel(pipeline: Option<Uuid>) -> Channel {
    pipeline.map_or(Channel::Pool, Channel::Pipeline)
}

/// A whole message of the step's type in one fragment, or the step's bytes as they are (`None`: no step of this kind).
fn arriving(what: u8, pipeline: Option<Uuid>, object: u64, to: u32, bytes: &[u8]) -> Option<Vec<u8>> {
    match KINDS.get(usize::from(what)) {
        Some(kind) => Some(fragment(object, 0, 3, &message(*kind, pipeline.unwrap_or_default(), to, bytes))),
        None => (what == 20).then(|| bytes.to_vec()),
    }
}

/// What a machine sends, put together again.
struct Sent {
    input: Defragmenter,
    messages: usize,
    to: u32,
}

impl Sent {
    fn new(to: u32) -> Self {
        Self { input: Defragmenter::new(FragmentLimits::default()), messages: 0, to }
    }

    fn take(&mut self, bytes: &[u8], capacity: usize) -> Result<(), Problem> {
        holds("more was sent than fits", bytes.len() <= capacity)?;
        let mut objects = Vec::new();
        self.input.push(bytes, &mut objects).map_err(|error| format!("what is sent is not put together: {error}"))?;
        for object in objects {
            let sent = Message::decode(object).map_err(|error| format!("what is sent is no message: {error}"))?;
            same("it is sent to the wrong end", &self.to, &sent.destination)?;
            clixml::read(sent.content(), &exops_psobject::Limits::default())
                .map_err(|error| format!("what is sent is not read: {error}"))?;
            self.messages += 1;
        }
        Ok(())
    }
}

pub(crate) fn server_pool(input: &[u8]) -> Result<Outcome, Problem> {
    let config =
        ServerPoolConfig { pipelines: 2, waiting_input: MAX_INPUT, fragments: FRAGMENTS, values: LIMITS, ..ServerPoolConfig::default() };
    let mut pool = ServerPool::new(config);
    let mut sent: Vec<(Channel, Sent)> = std::iter::once(None).chain(PIPELINES.map(Some)).map(|id| (channel(id), Sent::new(1))).collect();
    let (mut outcome, mut events, mut begun) = (0_u64, 0, 0_usize);
    for (object, (what, pipeline, bytes)) in (1..).zip(steps(input)) {
        let id = pipeline.unwrap_or_default();
        let priority = if bytes.len() % 5 == 4 { Priority::PromptResponse } else { Priority::Default };
        if let Some(bytes) = arriving(what, pipeline, object, 2, bytes)
            && let Err(error) = pool.receive(channel(pipeline), priority, &bytes)
        {
            outcome ^= refused(&error).rotate_left(u32::from(what));
        }
        let size = bytes.len();
        match what {
            21 | 22 => match pool.begin_pipeline(id) {
                Ok(()) => begun += 1,
                Err(error) => outcome ^= refused(&error),
            },
            23 => drop(pool.stop(id)),
            24 => drop(pool.terminate(id)),
            25 => pool.write(id, Output::Object(&Value::from(String::from_utf8_lossy(bytes).as_ref()))),
            26 => pool.write(id, Output::Error(&error())),
            27 => pool.write(id, Output::Warning("careful")),
            28 => pool.finish(id, &PipelineEnd::Completed),
            29 => pool.finish(id, &PipelineEnd::Failed(Box::new(error()))),
            30 => drop(pool.call_host(id, HostMethod::from_number(size as i64), vec![Value::Null])),
            31 => match pool.connect(bytes) {
                Ok(_) => outcome ^= 0x1000,
                Err(error) => outcome ^= refused(&error),
            },
            32 => pool.drop_oldest(size),
            33 => pool.close(),
            34 => pool.request_key(),
            35 => pool.answer_key("AAAA"),
            _ => {}
        }
        let capacity = 64 + size * 3;
        for (channel, sent) in sent.iter_mut().filter(|_| what % 2 == 0 && what != 32) {
            sent.take(&pool.take(*channel, capacity), capacity)?;
        }
        while let Some(event) = pool.next_event() {
            events += 1;
            if let ServerPoolEvent::Pipeline { .. } = event {
                outcome = outcome.rotate_left(3) ^ 5;
            }
        }
        holds("more pipelines than are allowed", pool.pipelines().count() <= begun)?;
    }
    for (channel, sent) in &mut sent {
        let mut rounds = 0;
        while pool.has_output(*channel) {
            rounds += 1;
            let bytes = pool.take(*channel, 32 * 1024);
            holds("there is output that never comes", !bytes.is_empty() && rounds < 10_000)?;
            sent.take(&bytes, 32 * 1024)?;
        }
        same("nothing waits, and yet there are bytes", &pool.buffered(*channel), &0)?;
        outcome = outcome.wrapping_mul(31) ^ taken(&[sent.messages]);
    }
    Ok(outcome ^ taken(&[events, pool.ignored().min(3) as usize]))
}

pub(crate) fn client_pool(input: &[u8]) -> Result<Outcome, Problem> {
    let mut pool = ClientPool::new(ClientPoolConfig { fragments: FRAGMENTS, values: LIMITS, ..ClientPoolConfig::new(POOL) });
    let mut sent: Vec<(Channel, Sent)> = std::iter::once(None).chain(PIPELINES.map(Some)).map(|id| (channel(id), Sent::new(2))).collect();
    let request = PipelineRequest { commands: vec![Command::new("Get-Mailbox")], ..PipelineRequest::default() };
    let (mut outcome, mut ended, mut opened) = (0_u64, std::collections::HashSet::new(), 0);
    let mut running = std::collections::HashSet::new();
    for (object, (what, pipeline, bytes)) in (1..).zip(steps(input)) {
        let id = pipeline.unwrap_or_default();
        if let Some(bytes) = arriving(what, pipeline, object, 1, bytes)
            && let Err(error) = pool.receive(channel(pipeline), &bytes)
        {
            outcome ^= refused(&error).rotate_left(u32::from(what));
        }
        match what {
            21 | 22 if running.insert(id) => pool.invoke(id, &request),
            23 => pool.input(id, &Value::from("in")),
            24 => pool.end_input(id),
            25 => {
                pool.forget(id);
                running.remove(&id);
                ended.remove(&id);
            }
            26 => {
                let response = HostResponse { call_id: bytes.len() as i64, method: HostMethod::from_number(11), result: Ok("yes".into()) };
                let answer = pool.respond(pipeline, &response);
                Sent::new(2).take(&answer, usize::MAX)?;
            }
            _ => {}
        }
        let capacity = 64 + bytes.len() * 3;
        for (channel, sent) in sent.iter_mut().filter(|_| what % 2 == 0) {
            sent.take(&pool.take(*channel, capacity), capacity)?;
        }
        holds("events of one step exceed its messages many times", pool.waiting_events() <= bytes.len() + 8)?;
        while let Some(event) = pool.next_event() {
            let number = match event {
                ClientPoolEvent::Opened => {
                    opened += 1;
                    1
                }
                ClientPoolEvent::PipelineEnded(id, _) => {
                    holds("a pipeline ended twice", ended.insert(id))?;
                    2
                }
                ClientPoolEvent::Output(id, _) => {
                    holds("output of a pipeline that nobody began", running.contains(&id))?;
                    holds("output after the end", !ended.contains(&id))?;
                    3
                }
                ClientPoolEvent::Error(..) => 4,
                ClientPoolEvent::HostCall(..) => 5,
                ClientPoolEvent::Ended(_) => 6,
                _ => 7,
            };
            outcome = outcome.rotate_left(3) ^ number;
        }
        holds("opened twice", opened <= 1)?;
    }
    Ok(outcome ^ taken(&[pool.ignored().min(3) as usize, usize::from(pool.peer().is_some())]))
}

/// The messages that the other half writes, as steps.
fn written(bytes: &[u8]) -> Vec<(MessageType, Vec<u8>)> {
    let mut objects = Vec::new();
    let _ = Defragmenter::new(FragmentLimits::default()).push(bytes, &mut objects);
    let messages = objects.into_iter().filter_map(|object| Message::decode(object).ok());
    messages.map(|message| (message.kind, message.content().to_vec())).collect()
}

/// What a client sends that opens a pool and runs a pipeline.
fn conversation() -> (Vec<u8>, Vec<u8>) {
    let mut client = ClientPool::new(ClientPoolConfig { host: HostInfo::INTERACTIVE, ..ClientPoolConfig::new(POOL) });
    let opening = client.take(Channel::Pool, MAX_INPUT);
    let request = PipelineRequest {
        commands: vec![Command::new("Get-Mailbox").with("Identity", "adele")],
        no_input: false,
        ..PipelineRequest::default()
    };
    client.invoke(PIPELINES[0], &request);
    client.input(PIPELINES[0], &Value::from("in"));
    client.end_input(PIPELINES[0]);
    (opening, client.take(Channel::Pipeline(PIPELINES[0]), MAX_INPUT))
}

pub(crate) fn server_seeds() -> Vec<Vec<u8>> {
    let (opening, pipeline) = conversation();
    let of = |bytes: &[u8], id| {
        written(bytes).into_iter().map(move |(kind, content)| message_step(kind, id, &content)).collect::<Vec<_>>().concat()
    };
    let open = of(&opening, None);
    let run = [step(21, Some(0), b""), of(&pipeline, Some(0))].concat();
    let work = [step(25, Some(0), b"out"), step(26, Some(0), b""), step(30, Some(0), &[0; 11]), step(28, Some(0), &[0; 400])].concat();
    let number = clixml::write(&PsObject::notes([("MaxRunspaces", Value::I32(3)), ("ci", Value::I64(1))].into_iter().collect()).into());
    vec![
        [step(20, None, &opening), step(21, Some(0), b""), step(20, Some(0), &pipeline), work.clone()].concat(),
        [open.clone(), run.clone(), work.clone()].concat(),
        [open.clone(), run.clone(), step(23, Some(0), b""), step(21, Some(1), b""), step(24, Some(1), b""), step(33, None, b"")].concat(),
        [open.clone(), message_step(MessageType::SetMaxRunspaces, None, number.as_bytes()), run, step(32, None, &[0; 100]), work].concat(),
        [open, message_step(MessageType::GetAvailableRunspaces, None, number.as_bytes()), step(31, None, &opening), step(34, None, b"")]
            .concat(),
    ]
}

pub(crate) fn client_seeds() -> Vec<Vec<u8>> {
    let (opening, pipeline) = conversation();
    let mut server = ServerPool::new(ServerPoolConfig::default());
    let _ = server.receive(Channel::Pool, Priority::Default, &opening);
    let opened = server.take(Channel::Pool, MAX_INPUT);
    let _ = server.begin_pipeline(PIPELINES[0]);
    let _ = server.receive(Channel::Pipeline(PIPELINES[0]), Priority::Default, &pipeline);
    server.write(PIPELINES[0], Output::Object(&exops_testkit::mailbox("adele")));
    server.write(PIPELINES[0], Output::Error(&error()));
    server.write(PIPELINES[0], Output::Warning("careful"));
    let _ = server.call_host(PIPELINES[0], HostMethod::from_number(11), Vec::new());
    server.finish(PIPELINES[0], &PipelineEnd::Completed);
    let ran = server.take(Channel::Pipeline(PIPELINES[0]), MAX_INPUT);
    let of = |bytes: &[u8], id| {
        written(bytes).into_iter().map(move |(kind, content)| message_step(kind, id, &content)).collect::<Vec<_>>().concat()
    };
    vec![
        [step(20, None, &opened), step(22, Some(0), &[0; 500]), step(20, Some(0), &ran)].concat(),
        [of(&opened, None), step(21, Some(0), b""), of(&ran, Some(0)), step(26, Some(0), b"1"), step(25, Some(0), b"")].concat(),
        [of(&opened, None), step(22, Some(1), b""), step(23, Some(1), b""), step(24, Some(1), b""), of(&ran, Some(1))].concat(),
    ]
}
