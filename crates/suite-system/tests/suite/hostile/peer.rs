//! A client that can do everything wrong: it writes each envelope itself and looks at nothing but what came back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exops_psobject::Value;
use exops_psrp::{Channel, ClientPool, ClientPoolConfig, ClientPoolEvent, Command, MessageType, PipelineEnd, PipelineRequest};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value as Json;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use uuid::Uuid;

use crate::scripted_endpoint::Endpoint;

pub(super) const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer";
pub(super) const SHELL: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell";
pub(super) const RESOURCE: &str = "http://schemas.microsoft.com/powershell/Microsoft.Exchange";
pub(super) const UNKNOWN_SHELL: u32 = 2_150_858_843;
const SOAP: &str = "application/soap+xml;charset=UTF-8";
/// Whoever sends more than this may be cut off before all of it is sent, and then never sees why.
const LARGE: usize = 4 << 20;
/// In place of a status: the connection was cut off.
const CUT_OFF: u16 = 0;
/// What a refusal may take, however large the request is.
const SOON: Duration = Duration::from_secs(20);

/// The scripted endpoint as its enemy sees it.
pub(super) struct Target {
    endpoint: Endpoint,
    pub(super) client: reqwest::Client,
    root: reqwest::Certificate,
    ca_file: String,
    pub(super) url: String,
    pub(super) authorization: String,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: String,
    pub(super) headers: HeaderMap,
}

impl Answer {
    /// The code of a fault.
    pub(super) fn fault(&self) -> Option<u32> {
        let (_, code) = self.text.split_once("WSManFault")?.1.split_once("Code=\"")?;
        code.split('"').next()?.parse().ok()
    }

    /// Not carried out: an HTTP status of refusal, or a fault.
    #[track_caller]
    pub(super) fn is_refused(&self, what: &str) {
        let refused = self.status == CUT_OFF || (400..500).contains(&self.status) || (self.status == 500 && self.text.contains("Fault"));
        assert!(refused, "{what}: {} {}", self.status, self.start());
    }

    #[track_caller]
    pub(super) fn is_done(&self, what: &str) {
        assert_eq!(self.status, 200, "{what}: {}", self.start());
    }

    /// Fragments in the answer to a Receive.
    fn streams(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in self.text.split("Stream ").skip(1) {
            let content = piece.split_once('>').and_then(|(_, rest)| rest.split_once('<')).map_or("", |(content, _)| content);
            bytes.extend(STANDARD.decode(content.trim()).unwrap());
        }
        bytes
    }

    fn start(&self) -> String {
        self.text.chars().take(600).collect()
    }
}

impl Target {
    pub(super) fn start() -> Self {
        Self::with_descriptors(None)
    }

    /// With no more than so many files and connections at once.
    pub(super) fn with_descriptors(most: Option<u32>) -> Self {
        let endpoint = Endpoint::with_descriptors(most);
        let ready: Json = serde_json::from_slice(&std::fs::read(&endpoint.ready).unwrap()).unwrap();
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        let root = reqwest::Certificate::from_pem(&std::fs::read(text("ca_file")).unwrap()).unwrap();
        let client = client(&root);
        let authorization = format!("Basic {}", STANDARD.encode(format!("{}:{}", text("user"), text("password"))));
        Self { endpoint, client, root, ca_file: text("ca_file"), url: text("powershell"), authorization }
    }

    /// Sends bytes as they are.
    pub(super) async fn post(&self, body: impl Into<Vec<u8>>) -> Answer {
        self.post_as(body, &[(AUTHORIZATION, &self.authorization), (CONTENT_TYPE, SOAP)]).await
    }

    pub(super) async fn post_as(&self, body: impl Into<Vec<u8>>, headers: &[(HeaderName, &str)]) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let (begun, body) = (Instant::now(), body.into());
        let large = body.len() > LARGE;
        let request = self.client.post(&self.url).headers(map).body(body);
        let answer = match tokio::time::timeout(Duration::from_secs(60), request.send()).await.unwrap() {
            Ok(answer) => answer,
            Err(_) if large => return Answer { status: CUT_OFF, text: String::new(), headers: HeaderMap::new() },
            Err(error) => panic!("{error}"),
        };
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = String::from_utf8_lossy(&answer.bytes().await.unwrap()).into_owned();
        assert!(begun.elapsed() < SOON, "{:?} for {status} {}", begun.elapsed(), text.chars().take(200).collect::<String>());
        Answer { status, text, headers }
    }

    /// A client without connections.
    pub(super) fn fresh_client(&self) -> reqwest::Client {
        client(&self.root)
    }

    /// Where the process listens.
    pub(super) fn address(&self) -> String {
        let port = self.url.trim_start_matches("https://localhost:").split('/').next().unwrap();
        format!("127.0.0.1:{port}")
    }

    /// A TLS connection for whoever reads as slowly as it likes; the system takes in little for it.
    pub(super) async fn stream(&self) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca_file).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        let socket = socket.connect(self.address().parse().unwrap()).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), socket).await.unwrap()
    }

    /// Files and connections that the process has open.
    pub(super) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.endpoint.process.id())).map_or(usize::MAX, Iterator::count)
    }

    /// How long the process has computed. Clock ticks are a hundredth of a second on every Linux.
    pub(super) fn worked(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.endpoint.process.id())).unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        Duration::from_millis(fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
    }

    /// Megabytes that the process holds now, and has held at most. Zero where the system does not tell.
    pub(super) fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.endpoint.process.id())).unwrap_or_default();
        let of = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or_default() / 1024
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    pub(super) async fn open(&self) -> Shell<'_> {
        let mut shell = Shell::new(self);
        shell.create().await.is_done("open");
        while !shell.opened {
            let answer = shell.receive(None).await;
            answer.is_done("the first Receive");
            shell.read(None, &answer);
        }
        shell
    }

    /// Ids of the shells that Enumerate lists.
    pub(super) async fn shells(&self) -> Vec<String> {
        let body = r#"<n:Enumerate xmlns:n="http://schemas.xmlsoap.org/ws/2004/09/enumeration"><w:OptimizeEnumeration/><w:MaxElements>32000</w:MaxElements></n:Enumerate>"#;
        let shells = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell";
        let answer = self.post(envelope("http://schemas.xmlsoap.org/ws/2004/09/enumeration/Enumerate", shells, "", body)).await;
        answer.is_done("Enumerate");
        answer.text.split("ShellId>").skip(1).step_by(2).map(|text| text.split('<').next().unwrap().to_owned()).collect()
    }

    /// Still there, and serves somebody new.
    pub(super) async fn lives(&self) {
        let mut shell = self.open().await;
        shell.lives().await;
        shell.delete().await.is_done("delete");
    }
}

fn client(root: &reqwest::Certificate) -> reqwest::Client {
    reqwest::Client::builder().tls_certs_only([root.clone()]).no_proxy().build().unwrap()
}

/// An envelope with the headers that every request has, and more.
pub(super) fn envelope(action: &str, resource: &str, headers: &str, body: &str) -> String {
    format!(
        "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\" xmlns:p=\"http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd\" \
         xmlns:r=\"{SHELL}\"><s:Header><a:To>https://localhost/powershell</a:To><a:ReplyTo><a:Address s:mustUnderstand=\"true\">\
         http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>\
         <a:Action s:mustUnderstand=\"true\">{action}</a:Action><a:MessageID>uuid:{}</a:MessageID>\
         <w:MaxEnvelopeSize s:mustUnderstand=\"true\">153600</w:MaxEnvelopeSize><w:OperationTimeout>PT3S</w:OperationTimeout>\
         <w:ResourceURI s:mustUnderstand=\"true\">{resource}</w:ResourceURI>{headers}</s:Header><s:Body>{body}</s:Body></s:Envelope>",
        Uuid::new_v4()
    )
}

/// A message whose content is this text, whatever it is, in one fragment.
pub(super) fn raw_message(object: u64, kind: MessageType, pool: Uuid, pipeline: Uuid, content: &str) -> Vec<u8> {
    let mut message = 2_u32.to_le_bytes().to_vec();
    message.extend(kind.number().to_le_bytes());
    message.extend(pool.to_bytes_le());
    message.extend(pipeline.to_bytes_le());
    message.extend(content.as_bytes());
    fragment(object, 0, 3, &message)
}

/// A fragment. `flags`: 1 the first, 2 the last.
pub(super) fn fragment(object: u64, number: u64, flags: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = [object.to_be_bytes(), number.to_be_bytes()].concat();
    bytes.push(flags);
    bytes.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
    bytes.extend(content);
    bytes
}

/// An open shell, or one that could be.
pub(super) struct Shell<'a> {
    pub(super) target: &'a Target,
    pub(super) pool: ClientPool,
    pub(super) id: Uuid,
    pub(super) opened: bool,
    pub(super) output: Vec<Value>,
    pub(super) end: Option<PipelineEnd>,
    pub(super) calls: Vec<exops_psrp::HostCall>,
    /// The session key under the client's, where it came.
    pub(super) key: Option<String>,
}

impl<'a> Shell<'a> {
    pub(super) fn new(target: &'a Target) -> Self {
        let id = Uuid::new_v4();
        let config = ClientPoolConfig { host: exops_psrp::HostInfo::INTERACTIVE, ..ClientPoolConfig::new(id) };
        Self { target, pool: ClientPool::new(config), id, opened: false, output: Vec::new(), end: None, calls: Vec::new(), key: None }
    }

    pub(super) fn selector(&self) -> String {
        format!(r#"<w:SelectorSet><w:Selector Name="ShellId">{}</w:Selector></w:SelectorSet>"#, self.id.to_string().to_uppercase())
    }

    /// An envelope for this shell.
    pub(super) fn envelope(&self, action: &str, body: &str) -> String {
        envelope(action, RESOURCE, &self.selector(), body)
    }

    /// What opens it.
    pub(super) fn create_envelope(&self, creation: &[u8]) -> String {
        let options =
            r#"<w:OptionSet s:mustUnderstand="true"><w:Option Name="protocolversion" MustComply="true">2.3</w:Option></w:OptionSet>"#;
        let body = format!(
            "<r:Shell ShellId=\"{}\"><r:InputStreams>stdin pr</r:InputStreams><r:OutputStreams>stdout</r:OutputStreams>\
             <creationXml xmlns=\"http://schemas.microsoft.com/powershell\">{}</creationXml></r:Shell>",
            self.id.to_string().to_uppercase(),
            STANDARD.encode(creation)
        );
        envelope(&format!("{TRANSFER}/Create"), RESOURCE, options, &body)
    }

    pub(super) async fn create(&mut self) -> Answer {
        let creation = self.pool.take(Channel::Pool, usize::MAX);
        self.target.post(self.create_envelope(&creation)).await
    }

    pub(super) async fn delete(&self) -> Answer {
        self.target.post(self.envelope(&format!("{TRANSFER}/Delete"), "")).await
    }

    /// Begins a command with these fragments.
    pub(super) async fn command(&self, id: Uuid, bytes: &[u8]) -> Answer {
        let body = format!(
            r#"<r:CommandLine CommandId="{}"><r:Command/><r:Arguments>{}</r:Arguments></r:CommandLine>"#,
            id.to_string().to_uppercase(),
            STANDARD.encode(bytes)
        );
        self.target.post(self.envelope(&format!("{SHELL}/Command"), &body)).await
    }

    /// Begins a command as it should be.
    pub(super) async fn invoke(&mut self, command: Command, input: bool) -> Uuid {
        let id = Uuid::new_v4();
        self.pool.invoke(id, &PipelineRequest { no_input: !input, ..PipelineRequest::from(command) });
        let bytes = self.pool.take(Channel::Pipeline(id), usize::MAX);
        self.command(id, &bytes).await.is_done("Command");
        id
    }

    /// Sends this text as content of a stream.
    pub(super) async fn send_text(&self, command: Option<Uuid>, stream: &str, more: &str, content: &str) -> Answer {
        let command = command.map_or(String::new(), |id| format!(r#" CommandId="{}""#, id.to_string().to_uppercase()));
        let body = format!(r#"<r:Send><r:Stream Name="{stream}"{command}{more}>{content}</r:Stream></r:Send>"#);
        self.target.post(self.envelope(&format!("{SHELL}/Send"), &body)).await
    }

    pub(super) async fn send(&self, command: Option<Uuid>, bytes: &[u8]) -> Answer {
        self.send_text(command, "stdin", "", &STANDARD.encode(bytes)).await
    }

    pub(super) fn receive_envelope(&self, command: Option<Uuid>) -> String {
        let command = command.map_or(String::new(), |id| format!(r#" CommandId="{}""#, id.to_string().to_uppercase()));
        self.envelope(&format!("{SHELL}/Receive"), &format!("<r:Receive><r:DesiredStream{command}>stdout</r:DesiredStream></r:Receive>"))
    }

    pub(super) async fn receive(&self, command: Option<Uuid>) -> Answer {
        self.target.post(self.receive_envelope(command)).await
    }

    pub(super) async fn signal(&self, command: Uuid, code: &str) -> Answer {
        let body = format!(r#"<r:Signal CommandId="{}"><r:Code>{code}</r:Code></r:Signal>"#, command.to_string().to_uppercase());
        self.target.post(self.envelope(&format!("{SHELL}/Signal"), &body)).await
    }

    /// Takes what an answer holds.
    pub(super) fn read(&mut self, command: Option<Uuid>, answer: &Answer) {
        self.pool.receive(command.map_or(Channel::Pool, Channel::Pipeline), &answer.streams()).unwrap();
        while let Some(event) = self.pool.next_event() {
            match event {
                ClientPoolEvent::Opened => self.opened = true,
                ClientPoolEvent::Output(_, value) => self.output.push(value),
                ClientPoolEvent::PipelineEnded(_, end) => self.end = Some(end),
                ClientPoolEvent::HostCall(_, call) => self.calls.push(call),
                ClientPoolEvent::Key(sealed) => self.key = Some(sealed),
                _ => {}
            }
        }
    }

    /// Receives until the command has ended.
    pub(super) async fn collect(&mut self, id: Uuid) -> (Vec<Value>, PipelineEnd) {
        loop {
            if let Some(end) = self.end.take() {
                return (std::mem::take(&mut self.output), end);
            }
            let answer = self.receive(Some(id)).await;
            answer.is_done("Receive");
            self.read(Some(id), &answer);
        }
    }

    /// Still there, and runs a command.
    pub(super) async fn lives(&mut self) {
        let id = self.invoke(Command::new("Get-Mailbox").with("ResultSize", 1), false).await;
        let (output, end) = self.collect(id).await;
        assert_eq!((output.len(), end), (1, PipelineEnd::Completed));
        self.signal(id, "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/signal/terminate").await.is_done("terminate");
    }
}
