//! A shell outlives its client: disconnect, reconnect, connect; and the key for SecureStrings.
#![allow(clippy::unwrap_used)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exops_auth::session_key::{ExchangeKey, SessionKey};
use exops_psobject::{Limits as ValueLimits, Value, clixml};
use exops_psrp::{Capability, Defragmenter, FragmentLimits, HostInfo, Message, MessageType, Output, PipelineEnd};
use exops_remoting::client::{ClientConfig, ClientSession};
use exops_remoting::server::{Handled, HttpAnswer, Peer, ServerConfig, ServerSession, SessionEvent, Target, target};
use exops_wsman::{Fault, Limits, Request, ResponseBody, parse_request, parse_response, uri};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

const POOL: Uuid = Uuid::from_u128(0xC0FFEE);
const COMMAND: Uuid = Uuid::from_u128(0xBEEF);
const LIMIT: usize = 20_000;

fn message(object: u64, kind: MessageType, pipeline: Uuid, content: &str) -> Vec<u8> {
    let mut blob = 2u32.to_le_bytes().to_vec();
    blob.extend(kind.number().to_le_bytes());
    blob.extend(POOL.to_bytes_le());
    blob.extend(pipeline.to_bytes_le());
    blob.extend(content.as_bytes());
    let mut out = object.to_be_bytes().to_vec();
    out.extend([0; 8]);
    out.push(3);
    out.extend(u32::try_from(blob.len()).unwrap().to_be_bytes());
    out.extend(blob);
    out
}

fn capability() -> Vec<u8> {
    let own = Capability::own();
    let (protocol, ps, serialization) = (own.protocol_version, own.ps_version, own.serialization_version);
    let content = format!(
        "<Obj RefId=\"0\"><MS><Version N=\"protocolversion\">{protocol}</Version><Version N=\"PSVersion\">{ps}</Version>\
         <Version N=\"SerializationVersion\">{serialization}</Version></MS></Obj>"
    );
    message(1, MessageType::SessionCapability, Uuid::nil(), &content)
}

/// A shell with one running pipeline, and who asks it.
struct Shell {
    session: ServerSession,
    sent: u32,
    client: String,
    now: u64,
}

impl Shell {
    fn open() -> Self {
        let mut next = 1u128;
        let mut ids = move || {
            next += 1;
            Uuid::from_u128(next)
        };
        let config = ClientConfig { host: HostInfo::INTERACTIVE, ..ClientConfig::new("https://localhost/", POOL, Uuid::from_u128(1)) };
        let mut client = ClientSession::new(config, Box::new(ids));
        let text = String::from_utf8(client.poll_request().unwrap().1).unwrap();
        let request = parse_request(text.as_bytes(), &Limits::default()).unwrap();
        let peer = Peer { owner: "app", client_ip: "127.0.0.1" };
        let config = ServerConfig { disconnected_output: LIMIT, ..ServerConfig::default() };
        let (session, _) = ServerSession::open(&request, &config, peer, &mut ids, 0).unwrap();
        let mut shell = Self { session, sent: 0, client: request.session_id.unwrap(), now: 0 };
        let create = "<Obj RefId=\"0\"><MS><B N=\"NoInput\">true</B><Obj N=\"PowerShell\" RefId=\"1\"><MS><Obj N=\"Cmds\" RefId=\"2\"><LST>\
                      <Obj RefId=\"3\"><MS><S N=\"Cmd\">X</S></MS></Obj></LST></Obj></MS></Obj></MS></Obj>";
        let argument = STANDARD.encode(message(3, MessageType::CreatePipeline, COMMAND, create));
        let body =
            format!("<rsp:CommandLine CommandId=\"{COMMAND}\"><rsp:Command/><rsp:Arguments>{argument}</rsp:Arguments></rsp:CommandLine>");
        shell.ok("Command", &body);
        assert_eq!(shell.session.next_event(), Some(SessionEvent::Opened));
        assert!(matches!(shell.session.next_event(), Some(SessionEvent::CreatePipeline { id: COMMAND, .. })));
        shell
    }

    fn request(&mut self, action: &str, body: &str) -> Request {
        self.sent += 1;
        let space = if action == "Get" { uri::TRANSFER } else { uri::SHELL };
        let text = format!(
            "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
             xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\" xmlns:p=\"http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd\" \
             xmlns:rsp=\"http://schemas.microsoft.com/wbem/wsman/1/windows/shell\"><s:Header>\
             <a:Action>{space}/{action}</a:Action><a:MessageID>uuid:{}</a:MessageID>\
             <w:ResourceURI>http://schemas.microsoft.com/powershell/Microsoft.Exchange</w:ResourceURI><w:MaxEnvelopeSize>512000</w:MaxEnvelopeSize>\
             <p:SessionId>{}</p:SessionId><w:SelectorSet><w:Selector Name=\"ShellId\">{}</w:Selector></w:SelectorSet></s:Header>\
             <s:Body>{body}</s:Body></s:Envelope>",
            self.sent,
            self.client,
            self.session.shell_id(),
        );
        let request = parse_request(text.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(target(&request), Target::Shell(self.session.shell_id().to_owned()));
        request
    }

    fn send(&mut self, action: &str, body: &str) -> Handled {
        let request = self.request(action, body);
        self.session.handle(&request, self.now)
    }

    #[track_caller]
    fn ok(&mut self, action: &str, body: &str) -> HttpAnswer {
        match self.send(action, body) {
            Handled::Answer(answer) if answer.status == 200 => answer,
            other => panic!("{action}: {other:?}"),
        }
    }

    #[track_caller]
    fn refused(&mut self, action: &str, body: &str) -> u32 {
        match self.send(action, body) {
            Handled::Answer(answer) => fault(&answer),
            Handled::Held(_) => panic!("{action} is held"),
        }
    }

    /// Everything that a Receive gives now, as messages; the stream starts afresh.
    fn receive(&mut self, command: Option<Uuid>) -> Vec<Message> {
        let attribute = command.map(|id| format!(" CommandId=\"{id}\"")).unwrap_or_default();
        let body = format!("<rsp:Receive><rsp:DesiredStream{attribute}>stdout</rsp:DesiredStream></rsp:Receive>");
        let answer = self.ok("Receive", &body);
        let ResponseBody::Receive { streams, .. } = parse_response(&answer.body, &Limits::default()).unwrap().body else {
            panic!("{answer:?}")
        };
        let mut objects = Vec::new();
        let mut defragmenter = Defragmenter::new(FragmentLimits::default());
        for stream in streams {
            defragmenter.push(&stream.data, &mut objects).unwrap();
        }
        objects.into_iter().map(|object| Message::decode(object).unwrap()).collect()
    }

    fn write(&mut self, text: &str) {
        self.session.write(COMMAND, Output::Object(&Value::from(text)), self.now);
    }
}

fn fault(answer: &HttpAnswer) -> u32 {
    assert_eq!(answer.status, 500);
    match parse_response(&answer.body, &Limits::default()).unwrap().body {
        ResponseBody::Fault(fault) => fault.code,
        other => panic!("{other:?}"),
    }
}

fn texts(messages: &[Message]) -> Vec<String> {
    let outputs = messages.iter().filter(|m| m.kind == MessageType::PipelineOutput);
    outputs.map(|m| clixml::read(m.content(), &ValueLimits::default()).unwrap().as_str().unwrap().to_owned()).collect()
}

const DISCONNECT: &str = "<rsp:Disconnect><rsp:IdleTimeOut>PT600S</rsp:IdleTimeOut></rsp:Disconnect>";

/// who may come back when, and that nothing is lost or sent twice.
#[test]
fn x11_disconnect_and_reconnect() {
    let mut shell = Shell::open();
    let pool: Vec<_> = shell.receive(None).iter().map(|m| m.kind).collect();
    assert_eq!(pool, [MessageType::SessionCapability, MessageType::ApplicationPrivateData, MessageType::RunspacePoolState]);
    shell.write("before");
    assert_eq!(texts(&shell.receive(Some(COMMAND))), ["before"]);
    let receive = "<rsp:Receive><rsp:DesiredStream>stdout</rsp:DesiredStream></rsp:Receive>";
    assert!(matches!(shell.send("Receive", receive), Handled::Held(_)));
    let of_command = format!("<rsp:Receive><rsp:DesiredStream CommandId=\"{COMMAND}\">stdout</rsp:DesiredStream></rsp:Receive>");
    assert!(matches!(shell.send("Receive", &of_command), Handled::Held(_)));
    // A client that is connected cannot be pushed out.
    let connect = format!(
        "<rsp:Connect><connectXml xmlns=\"http://schemas.microsoft.com/powershell\">{}</connectXml></rsp:Connect>",
        STANDARD.encode([capability(), message(2, MessageType::ConnectRunspacePool, Uuid::nil(), "<S/>")].concat())
    );
    assert_eq!(shell.refused("Connect", &connect), Fault::CONNECTED_TO_DIFFERENT_CLIENT);

    shell.ok("Disconnect", DISCONNECT);
    let ended: Vec<u32> = std::iter::from_fn(|| shell.session.poll_answer(0)).map(|(_, answer)| fault(&answer)).collect();
    assert_eq!(ended, [Fault::SHELL_DISCONNECTED, Fault::STREAM_DISCONNECTED]);
    assert_eq!(shell.refused("Receive", receive), Fault::SHELL_DISCONNECTED);
    shell.write("meanwhile");
    let own = std::mem::replace(&mut shell.client, "uuid:somebody-else".to_owned());
    assert_eq!(shell.refused("Reconnect", ""), Fault::CLIENT_SESSION_MISMATCH);
    shell.client = own;
    shell.ok("Reconnect", "");
    assert_eq!(texts(&shell.receive(Some(COMMAND))), ["meanwhile"]);

    // The idle time-out counts from the disconnect and is the one that was asked for there.
    shell.now = 1_000;
    shell.ok("Disconnect", DISCONNECT);
    shell.session.handle_timeout(600_999);
    assert!(!std::iter::from_fn(|| shell.session.next_event()).any(|event| event == SessionEvent::Closed));
    shell.session.handle_timeout(601_000);
    assert!(std::iter::from_fn(|| shell.session.next_event()).any(|event| event == SessionEvent::Closed));
    assert_eq!(shell.refused("Reconnect", ""), Fault::UNEXPECTED_SELECTORS);
}

/// Another process takes a shell over: the session data comes again, and output from the first byte that waits, also of a
/// message of which the client before had a part.
#[test]
fn x11_connect_from_another_process() {
    let connect = |parts: &[Vec<u8>]| {
        let data = STANDARD.encode(parts.concat());
        format!("<rsp:Connect><connectXml xmlns=\"http://schemas.microsoft.com/powershell\">{data}</connectXml></rsp:Connect>")
    };
    let wish = |text: &str| message(2, MessageType::ConnectRunspacePool, Uuid::nil(), text);
    let numbers =
        |min, max| format!("<Obj RefId=\"0\"><MS><I32 N=\"MinRunspaces\">{min}</I32><I32 N=\"MaxRunspaces\">{max}</I32></MS></Obj>");
    let mut shell = Shell::open();
    shell.receive(None);
    let big = "b".repeat(600_000);
    shell.write(&big);
    assert!(shell.receive(Some(COMMAND)).is_empty(), "a part of one message");
    shell.ok("Disconnect", DISCONNECT);
    shell.write("after");
    shell.session.finish(COMMAND, &PipelineEnd::Completed, 0);
    shell.client = "uuid:second".to_owned();
    for wrong in [
        connect(&[capability()]),
        connect(&[wish("<S/>"), capability()]),
        connect(&[capability(), wish("<S/>"), capability()]),
        connect(&[capability(), wish(&numbers(7, 9))]),
        connect(&[capability(), wish("<S/>")[..30].to_vec()]),
        connect(&[]),
    ] {
        shell.refused("Connect", &wrong);
        assert_eq!(shell.refused("Send", "<rsp:Send/>"), Fault::SHELL_DISCONNECTED, "still disconnected after {wrong}");
    }
    let answer = shell.ok("Connect", &connect(&[capability(), wish("<S/>")]));
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let (_, data) = text.split_once("<connectResponseXml xmlns=\"http://schemas.microsoft.com/powershell\">").unwrap();
    let data = STANDARD.decode(data.split_once('<').unwrap().0).unwrap();
    let mut objects = Vec::new();
    Defragmenter::new(FragmentLimits::default()).push(&data, &mut objects).unwrap();
    let kinds: Vec<_> = objects.into_iter().map(|o| Message::decode(o).unwrap().kind).collect();
    assert_eq!(kinds, [MessageType::SessionCapability, MessageType::RunspacePoolInitData]);
    assert!(data.len() <= 2 * 4_096);
    let kinds: Vec<_> = shell.receive(None).iter().map(|m| m.kind).collect();
    assert_eq!(kinds, [MessageType::ApplicationPrivateData, MessageType::RunspacePoolState]);
    shell.ok("Connect", &format!("<rsp:Connect CommandId=\"{COMMAND}\"/>"));
    assert_eq!(shell.refused("Connect", &format!("<rsp:Connect CommandId=\"{POOL}\"/>")), Fault::UNEXPECTED_SELECTORS);
    // The whole of it again, in a stream that begins with a first fragment.
    let (mut objects, mut defragmenter) = (Vec::new(), Defragmenter::new(FragmentLimits::default()));
    while objects.len() < 3 {
        let body = format!("<rsp:Receive><rsp:DesiredStream CommandId=\"{COMMAND}\">stdout</rsp:DesiredStream></rsp:Receive>");
        let answer = shell.ok("Receive", &body);
        let ResponseBody::Receive { streams, .. } = parse_response(&answer.body, &Limits::default()).unwrap().body else { panic!() };
        streams.iter().for_each(|s| defragmenter.push(&s.data, &mut objects).unwrap());
    }
    let messages: Vec<_> = objects.into_iter().map(|o| Message::decode(o).unwrap()).collect();
    assert_eq!(texts(&messages), [big, "after".to_owned()]);
    assert_eq!(messages.last().unwrap().kind, MessageType::PipelineState);
}

/// A client that dies: it may come back as if nothing had happened until somebody else connects, who is asked what the
/// dead one did not answer.
#[test]
fn x11_a_client_that_leaves_without_a_word() {
    let receive = "<rsp:Receive><rsp:DesiredStream>stdout</rsp:DesiredStream></rsp:Receive>";
    let take_over = format!(
        "<rsp:Connect><connectXml xmlns=\"http://schemas.microsoft.com/powershell\">{}</connectXml></rsp:Connect>",
        STANDARD.encode([capability(), message(2, MessageType::ConnectRunspacePool, Uuid::nil(), "<S/>")].concat())
    );
    let connected = |shell: &mut Shell| {
        let body = shell.ok("Get", "").body;
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.contains("<rsp:State>"));
        text.contains("<rsp:State>Connected</rsp:State>")
    };
    let mut shell = Shell::open();
    shell.receive(None);
    let call = shell.session.read_line(COMMAND).unwrap();
    let asked = |messages: &[Message]| -> Vec<i64> {
        let calls = messages.iter().filter(|m| m.kind == MessageType::PipelineHostCall);
        let id = |m: &Message| {
            let value = clixml::read(m.content(), &ValueLimits::default()).unwrap();
            value.as_object().unwrap().property("ci").unwrap().as_i64().unwrap()
        };
        calls.map(id).collect()
    };
    assert_eq!(asked(&shell.receive(Some(COMMAND))), [call]);
    shell.write("waits");
    // Two connections wait for the same; the second dies, then the first.
    let request = shell.request("Receive", receive);
    let Handled::Held(first) = shell.session.handle(&request, 0) else { panic!() };
    let Handled::Held(second) = shell.session.handle(&request, 0) else { panic!() };
    shell.session.connection_gone(second, 0);
    shell.now = 20_000;
    assert!(connected(&mut shell), "one of two connections is left");
    shell.session.connection_gone(first, 20_000);
    shell.session.connection_gone(first, 25_000);
    shell.now = 29_999;
    assert!(connected(&mut shell));
    assert_eq!(shell.refused("Connect", &take_over), Fault::CONNECTED_TO_DIFFERENT_CLIENT);
    shell.now = 30_000;
    assert!(!connected(&mut shell));
    assert!(shell.session.is_lost(30_000));
    // It comes back.
    let Handled::Held(again) = shell.session.handle(&request, 30_000) else { panic!("the same Receive, late") };
    assert!(connected(&mut shell) && !shell.session.is_lost(30_000));
    shell.session.connection_gone(again, 30_000);
    shell.now = 40_000;

    let before = std::mem::replace(&mut shell.client, "uuid:second".to_owned());
    shell.ok("Connect", &take_over);
    assert!(connected(&mut shell));
    shell.ok("Connect", &format!("<rsp:Connect CommandId=\"{COMMAND}\"/>"));
    assert_eq!(shell.receive(None).len(), 2);
    let messages = shell.receive(Some(COMMAND));
    assert_eq!((asked(&messages), texts(&messages)), (vec![call], vec!["waits".to_owned()]), "asked again, and what waited");
    // The one before is told, in whatever it tries.
    shell.client = before;
    for (action, body) in [("Receive", receive), ("Reconnect", ""), ("Disconnect", DISCONNECT), ("Connect", &take_over)] {
        assert_eq!(shell.refused(action, body), Fault::CONNECTED_TO_DIFFERENT_CLIENT, "{action}");
    }
    shell.client = "uuid:second".to_owned();
    let answer = format!("<Obj RefId=\"0\"><MS><S N=\"mr\">a line</S><I64 N=\"ci\">{call}</I64><I32 N=\"mi\">11</I32></MS></Obj>");
    let data = STANDARD.encode(message(3, MessageType::PipelineHostResponse, COMMAND, &answer));
    shell.ok("Send", &format!("<rsp:Send><rsp:Stream Name=\"pr\" CommandId=\"{COMMAND}\">{data}</rsp:Stream></rsp:Send>"));
    let Some(SessionEvent::HostResponse { id: COMMAND, response }) = shell.session.next_event() else { panic!() };
    assert_eq!((response.call_id, response.result), (call, Ok(Value::from("a line"))));
    // An answered call is not repeated; a call of which nothing went out is sent once; a Receive that waits keeps its client.
    let Handled::Held(_) = shell.send("Receive", receive) else { panic!() };
    shell.now = 300_000;
    assert!(connected(&mut shell));
    shell.session.handle_timeout(340_000);
    let unsent = shell.session.read_line(COMMAND).unwrap();
    shell.now = 579_999;
    assert_eq!(shell.refused("Connect", &take_over), Fault::CONNECTED_TO_DIFFERENT_CLIENT);
    shell.now = 580_000;
    shell.client = "uuid:third".to_owned();
    shell.ok("Connect", &take_over);
    assert_eq!(asked(&shell.receive(Some(COMMAND))), [unsent]);
}

/// While nobody is connected a pipeline waits above its bound, or loses its oldest output; its end never.
#[test]
fn output_is_kept_or_dropped_within_the_limit() {
    for drops in [false, true] {
        let mut shell = Shell::open();
        let mode = if drops { "Drop" } else { "Block" };
        shell.ok("Disconnect", &format!("<rsp:Disconnect><rsp:BufferMode>{mode}</rsp:BufferMode></rsp:Disconnect>"));
        for n in 0..100 {
            shell.write(&format!("{n:03}{}", "x".repeat(1_000)));
        }
        // What the driver looks at to decide whether the command has to wait.
        assert_eq!(shell.session.buffered(COMMAND) > LIMIT, !drops);
        shell.session.finish(COMMAND, &PipelineEnd::Completed, 0);
        shell.ok("Reconnect", "");
        assert!(!drops || shell.session.buffered(COMMAND) <= LIMIT + 1_000);
        let messages = shell.receive(Some(COMMAND));
        let found: Vec<String> = texts(&messages).iter().map(|t| t.chars().take(3).collect()).collect();
        let first = if drops { 100 - found.len() } else { 0 };
        let expected: Vec<String> = (first..100).map(|n| format!("{n:03}")).collect();
        assert_eq!(found, expected);
        assert!(!drops || (15..25).contains(&found.len()), "{}", found.len());
        assert_eq!(messages.last().unwrap().kind, MessageType::PipelineState);
    }
}

/// C-09: the exchange over the wire, both ends ours, and everything that is no key.
#[test]
fn c09_key_exchange() {
    let (own, exchange) = (SessionKey::generate().unwrap(), ExchangeKey::generate().unwrap());
    let public = |key: &str| {
        let content = format!("<Obj RefId=\"0\"><MS><S N=\"PublicKey\">{key}</S></MS></Obj>");
        let data = STANDARD.encode(message(9, MessageType::PublicKey, Uuid::nil(), &content));
        format!("<rsp:Send><rsp:Stream Name=\"stdin\">{data}</rsp:Stream></rsp:Send>")
    };
    let mut shell = Shell::open();
    shell.receive(None);
    shell.ok("Send", &public(exchange.public_key()));
    let Some(SessionEvent::PublicKey { key }) = shell.session.next_event() else { panic!("no public key came") };
    shell.session.answer_key(&own.seal(&key).unwrap());
    let [answer] = shell.receive(None).try_into().unwrap();
    assert_eq!(answer.kind, MessageType::EncryptedSessionKey);
    let content = clixml::read(answer.content(), &ValueLimits::default()).unwrap();
    let sealed = content.as_object().unwrap().property("EncryptedSessionKey").unwrap().as_str().unwrap();
    let theirs = exchange.open(sealed).unwrap();
    for text in ["p@ss wörd", "", "sixteen bytes!!!", "\u{1F511} key"] {
        let travels = theirs.encrypt(&SecretString::from(text)).unwrap();
        assert_eq!(own.decrypt(&travels).unwrap().expose_secret(), text);
    }
    // A second exchange by the same client is refused, and the shell lives.
    assert_ne!(shell.refused("Send", &public(exchange.public_key())), 0);
    assert_eq!(shell.session.next_event(), None);
    shell.write("lives");
    assert_eq!(texts(&shell.receive(Some(COMMAND))), ["lives"]);

    let other = ExchangeKey::generate().unwrap();
    assert!(other.open(sealed).is_err_and(|e| e == exchange.open("").unwrap_err()), "one text for all");
    let mut blob = STANDARD.decode(exchange.public_key()).unwrap();
    for wrong in [
        String::new(),
        "!".to_owned(),
        STANDARD.encode(&blob[..100]),
        STANDARD.encode([blob.as_slice(), &[0]].concat()),
        "A".repeat(1 << 20),
    ] {
        assert!(own.seal(&wrong).is_err());
    }
    blob[12] = 1;
    assert!(own.seal(&STANDARD.encode(&blob)).is_err(), "another key size in the header");
    let travels = STANDARD.decode(own.encrypt(&SecretString::from("secret")).unwrap()).unwrap();
    for wrong in [travels[..15].to_vec(), vec![0; 16], [travels.as_slice(), &[1; 3]].concat()] {
        assert!(own.decrypt(&STANDARD.encode(wrong)).is_err());
    }
}
