//! What the server half refuses or cuts into parts, by code and text; no answer is longer than the client takes.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exops_psrp::MessageType;
use exops_remoting::client::{ClientConfig, ClientSession};
use exops_remoting::server::{
    Handled, HttpAnswer, Peer, ServerConfig, ServerSession, Target, commands_answer, fault_answer, shells_answer, target,
};
use exops_wsman::{Fault, Limits, Request, ResponseBody, parse_request, parse_response, uri};
use uuid::Uuid;

/// Requests that were sent.
static SENT: AtomicU64 = AtomicU64::new(0);
const SMALLEST: usize = 8_192;
const CONFIGURATION: &str = "http://schemas.microsoft.com/powershell/Microsoft.Exchange";

fn pool(n: u128) -> Uuid {
    Uuid::from_u128(0xA000 + n)
}

/// A Create as our client writes it, changed as text.
fn create(n: u128, change: impl FnOnce(String) -> String) -> Result<ServerSession, Fault> {
    let mut next = n << 64;
    let mut ids = move || {
        next += 1;
        Uuid::from_u128(next)
    };
    let config = ClientConfig::new("https://localhost/powershell-liveid", pool(n), Uuid::from_u128(n));
    let text = change(String::from_utf8(ClientSession::new(config, Box::new(ids)).poll_request().unwrap().1).unwrap());
    let request = parse_request(text.as_bytes(), &Limits::default()).map_err(|error| error.fault)?;
    let peer = Peer { owner: "an application with a name of its own", client_ip: "127.0.0.1" };
    ServerSession::open(&request, &ServerConfig::default(), peer, &mut ids, 0).map(|(session, _)| session).map_err(|answer| fault(&answer))
}

/// A request of any kind.
fn request(action: &str, resource: &str, shell: Option<&str>, envelope: usize, body: &str) -> Result<Request, Fault> {
    let selector = shell.map(|id| format!("<w:SelectorSet><w:Selector Name=\"ShellId\">{id}</w:Selector></w:SelectorSet>"));
    let text = format!(
        "<s:Envelope xmlns:s=\"{}\" xmlns:a=\"{}\" xmlns:w=\"{}\" xmlns:rsp=\"{}\" xmlns:n=\"{}\"><s:Header><a:Action>{action}</a:Action>\
         <a:MessageID>uuid:1</a:MessageID><w:ResourceURI>{resource}</w:ResourceURI><w:MaxEnvelopeSize>{envelope}</w:MaxEnvelopeSize>\
         <w:OperationTimeout>PT0.001S</w:OperationTimeout>{}</s:Header><s:Body>{body}</s:Body></s:Envelope>",
        uri::SOAP,
        uri::ADDRESSING,
        uri::WSMAN,
        uri::SHELL,
        uri::ENUMERATION,
        selector.unwrap_or_default(),
    );
    parse_request(text.as_bytes(), &Limits::default()).map_err(|error| error.fault)
}

fn fault(answer: &HttpAnswer) -> Fault {
    assert_eq!(answer.status, 500);
    match parse_response(&answer.body, &Limits::default()).unwrap().body {
        ResponseBody::Fault(fault) => fault,
        other => panic!("{other:?}"),
    }
}

fn command(session: &mut ServerSession, n: u128) -> Result<(), Fault> {
    let id = Uuid::from_u128(n);
    let content = "<Obj RefId=\"0\"><MS><B N=\"NoInput\">false</B><Obj N=\"PowerShell\" RefId=\"1\"><MS><Obj N=\"Cmds\" RefId=\"2\"><LST>\
                   <Obj RefId=\"3\"><MS><S N=\"Cmd\">X</S></MS></Obj></LST></Obj></MS></Obj></MS></Obj>";
    let data = STANDARD.encode(message(n, MessageType::CreatePipeline, id, session, content));
    let body = format!("<rsp:CommandLine CommandId=\"{id}\"><rsp:Command/><rsp:Arguments>{data}</rsp:Arguments></rsp:CommandLine>");
    serve(session, "Command", &body)
}

fn message(object: u128, kind: MessageType, pipeline: Uuid, session: &ServerSession, content: &str) -> Vec<u8> {
    let mut blob = 2u32.to_le_bytes().to_vec();
    blob.extend(kind.number().to_le_bytes());
    blob.extend(Uuid::parse_str(session.shell_id()).unwrap().to_bytes_le());
    blob.extend(pipeline.to_bytes_le());
    blob.extend(content.as_bytes());
    let mut out = u64::try_from(object + 10).unwrap().to_be_bytes().to_vec();
    out.extend([0; 8]);
    out.push(3);
    out.extend(u32::try_from(blob.len()).unwrap().to_be_bytes());
    out.extend(blob);
    out
}

/// Each request has an id of its own: it is no repetition.
fn serve(session: &mut ServerSession, action: &str, body: &str) -> Result<(), Fault> {
    let mut request = request(&format!("{}/{action}", uri::SHELL), CONFIGURATION, Some(session.shell_id()), SMALLEST, body)?;
    request.message_id = format!("uuid:{}", SENT.fetch_add(1, Ordering::Relaxed));
    match session.handle(&request, 0) {
        Handled::Answer(answer) if answer.status == 200 => Ok(()),
        Handled::Answer(answer) => {
            assert!(answer.body.len() <= SMALLEST);
            Err(fault(&answer))
        }
        Handled::Held(_) => panic!("held"),
    }
}

/// Ids of one part of a list, and the context of the next part.
fn part(answer: &HttpAnswer, envelope: usize) -> (Vec<String>, Option<String>) {
    assert_eq!(answer.status, 200);
    assert!(answer.body.len() <= envelope, "{} of {envelope}", answer.body.len());
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let tag = if text.contains("<rsp:CommandId>") { "<rsp:CommandId>" } else { "<rsp:ShellId>" };
    let ids = text.split(tag).skip(1).map(|rest| rest.split('<').next().unwrap().to_owned()).collect();
    let context = text.split("<n:EnumerationContext>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    assert_eq!(text.contains("EndOfSequence/>"), context.is_empty());
    (ids, Some(context).filter(|c| !c.is_empty()))
}

#[test]
fn lists_come_in_parts_that_fit() {
    let mut sessions: Vec<ServerSession> = (0..30).map(|n| create(n, |text| text).unwrap()).collect();
    let mut last = sessions.pop().unwrap();
    // As many as fit into no smallest envelope.
    for n in 0..60 {
        command(&mut last, n).unwrap();
    }
    sessions.push(last);
    let all: Vec<String> = (0..30).map(|n| pool(n).to_string().to_uppercase()).collect();
    let commands: Vec<String> = (0..60).map(|n| Uuid::from_u128(n).to_string().to_uppercase()).collect();
    let answer = |request: &Request| match target(request) {
        Target::Shells => shells_answer(request, &sessions, Uuid::nil(), 1_000),
        Target::Commands(id) => commands_answer(request, sessions.iter().find(|s| s.shell_id() == id).unwrap(), Uuid::nil()),
        Target::Refused(fault) => fault_answer(&fault, None, Uuid::nil()),
        other => panic!("{other:?}"),
    };
    let filter = format!(
        "<w:Filter Dialect=\"{}\"><w:SelectorSet><w:Selector Name=\"ShellId\">{}</w:Selector></w:SelectorSet></w:Filter>",
        uri::SELECTOR_FILTER,
        all[29]
    );
    for (resource, filter, due) in [(uri::SHELL, "", &all), (uri::SHELL_COMMAND, filter.as_str(), &commands)] {
        let sevens = due.len().div_ceil(7);
        for (optimized, elements, envelope, parts) in [
            (true, "<w:MaxElements>32000</w:MaxElements>", 512_000, 1..=1),
            (true, "<w:MaxElements>32000</w:MaxElements>", SMALLEST, 2..=8),
            (true, "<w:MaxElements>7</w:MaxElements>", 512_000, sevens..=sevens),
            (true, "", 512_000, due.len()..=due.len()),
            (false, "<w:MaxElements>7</w:MaxElements>", 512_000, sevens + 1..=sevens + 1),
        ] {
            let optimize = if optimized { "<w:OptimizeEnumeration/>" } else { "" };
            let body = format!("<n:Enumerate>{filter}{optimize}{elements}</n:Enumerate>");
            let first = request(&format!("{}/Enumerate", uri::ENUMERATION), resource, None, envelope, &body).unwrap();
            let (mut found, mut context) = part(&answer(&first), envelope);
            assert!(optimized || found.is_empty());
            let mut count = 1;
            while let Some(next) = context {
                let elements = elements.replace("w:", "n:");
                let body = format!("<n:Pull><n:EnumerationContext>{next}</n:EnumerationContext>{elements}</n:Pull>");
                let pull = request(&format!("{}/Pull", uri::ENUMERATION), resource, None, envelope, &body).unwrap();
                let (more, after) = part(&answer(&pull), envelope);
                assert!(!more.is_empty(), "no part is empty");
                found.extend(more);
                (context, count) = (after, count + 1);
            }
            assert_eq!(&found, due);
            assert!(parts.contains(&count), "{count} parts of {elements} in {envelope}");
        }
    }
    let refused = |action: &str, envelope: usize, body: &str| {
        let request = request(&format!("{}/{action}", uri::ENUMERATION), uri::SHELL, None, envelope, body);
        request.map_or_else(|fault| fault.code, |request| fault(&answer(&request)).code)
    };
    let pull = |context: &str, more: &str| format!("<n:Pull><n:EnumerationContext>{context}</n:EnumerationContext>{more}</n:Pull>");
    for (action, envelope, body, code) in [
        ("Pull", 512_000, pull("", ""), Fault::SCHEMA),
        ("Pull", 512_000, pull("x y", ""), Fault::SCHEMA),
        ("Pull", 512_000, pull(&"0".repeat(100), ""), Fault::SCHEMA),
        ("Pull", 512_000, pull("/", "<n:MaxElements>0</n:MaxElements>"), Fault::SCHEMA),
        ("Pull", 512_000, pull("/", "<n:MaxElements>-1</n:MaxElements>"), Fault::SCHEMA),
        ("Pull", 512_000, String::new(), Fault::SCHEMA),
        // The context of another list.
        ("Pull", 512_000, pull(&format!("{}/", all[0]), ""), Fault::INVALID_RESOURCE),
        ("Enumerate", 512_000, "<n:Enumerate><w:Filter Dialect=\"WQL\">select</w:Filter></n:Enumerate>".to_owned(), Fault::SCHEMA),
        ("Enumerate", 8_000, "<n:Enumerate/>".to_owned(), Fault::ENVELOPE_TOO_LARGE),
    ] {
        assert_eq!(refused(action, envelope, &body), code, "{action} {body}");
    }
}

#[test]
fn quotas_of_a_shell_have_their_faults() {
    let mut session = create(1, |text| text).unwrap();
    for n in 0..64 {
        command(&mut session, n).unwrap();
    }
    let refused = command(&mut session, 64).unwrap_err();
    assert_eq!(refused.code, 2_150_859_241);
    assert!(refused.message.contains("maximum number of concurrent commands per shell has been exceeded, which is 64 here"), "{refused}");
    // One less, one more.
    let id = Uuid::from_u128(63);
    let end = format!("<rsp:Signal CommandId=\"{id}\"><rsp:Code>{}</rsp:Code></rsp:Signal>", uri::SIGNAL_TERMINATE);
    serve(&mut session, "Signal", &end).unwrap();
    command(&mut session, 64).unwrap();

    // Input for a command that waits for its turn is bounded.
    let content = format!("<S>{}</S>", "x".repeat(400_000));
    let input = |session: &mut ServerSession, n: u128| {
        let data = STANDARD.encode(message(1_000 + n, MessageType::PipelineInput, Uuid::from_u128(7), session, &content));
        let body = format!("<rsp:Send><rsp:Stream Name=\"stdin\" CommandId=\"{}\">{data}</rsp:Stream></rsp:Send>", Uuid::from_u128(7));
        serve(session, "Send", &body)
    };
    let refused = (0..100).find_map(|n| input(&mut session, n).err()).unwrap();
    assert_eq!(refused.code, Fault::QUOTA_LIMIT);
    assert!(refused.message.contains("bytes of input for a waiting pipeline"), "{refused}");
    command(&mut session, 65).unwrap_err();
    serve(&mut session, "Signal", &end.replace(&id.to_string(), &Uuid::from_u128(64).to_string())).unwrap();
}

/// an answer that would be longer than its client takes is refused before anything is done.
#[test]
fn x07_answers_never_exceed_the_envelope() {
    let sized = |size: usize| move |text: String| text.replace(">512000<", &format!(">{size}<"));
    assert!(create(1, sized(SMALLEST)).is_ok());
    assert_eq!(create(1, sized(SMALLEST - 1)).err().map(|f| f.code), Some(Fault::ENVELOPE_TOO_LARGE));
    // The answer to Create repeats the client's address.
    let far = |text: String| text.replace("/powershell-liveid", &format!("/powershell-liveid?x={}", "y".repeat(9_000)));
    let refused = create(1, |text| sized(SMALLEST)(far(text))).err().unwrap();
    assert_eq!(refused.code, Fault::ENVELOPE_TOO_LARGE);
    assert!(refused.message.contains("more than the 8192 of MaxEnvelopeSize"), "{refused}");
    assert!(create(1, far).is_ok());
    // Faults repeat what was wrong, as far as there is room.
    let mut session = create(1, |text| text).unwrap();
    let long = "&lt;".repeat(20_000);
    for (action, resource) in
        [(format!("urn:{long}"), CONFIGURATION.to_owned()), (format!("{}/Receive", uri::SHELL), format!("urn:{long}"))]
    {
        let body = "<rsp:Receive><rsp:DesiredStream>stdout</rsp:DesiredStream></rsp:Receive>";
        let request = request(&action, &resource, Some(session.shell_id()), SMALLEST, body).unwrap();
        let answer = match (target(&request), session.handle(&request, 0)) {
            (Target::Refused(fault), _) => fault_answer(&fault, Some("uuid:1"), Uuid::nil()),
            (_, Handled::Answer(answer)) => answer,
            (_, Handled::Held(_)) => panic!("held"),
        };
        assert!(answer.body.len() <= SMALLEST, "{}", answer.body.len());
        assert!(fault(&answer).message.contains("urn:<<<<"));
    }
}
