#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use thiserror::Error;

use crate::xml::{self, Element};
use crate::{Enumeration, Fault, Limits, XmlError, parse_duration, uri};

/// Longest accepted message, shell or command id: real ones have 41 characters.
const LONGEST_ID: usize = 256;

/// Peers differ in whether they pad.
const ANY_PADDING: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
/// With vector instructions where the processor has them: objects travel as nothing but base64.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) static BASE64: LazyLock<base64::engine::Simd> = LazyLock::new(|| base64::engine::Simd::standard(ANY_PADDING));
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) static BASE64: base64::engine::GeneralPurpose = base64::engine::GeneralPurpose::new(&base64::alphabet::STANDARD, ANY_PADDING);

/// What a request wants.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of WS-Transfer, WS-Enumeration and the shell operations")]
pub enum Action {
    Identify,
    Create,
    Delete,
    Get,
    Enumerate,
    Pull,
    Command,
    Send,
    Receive,
    Signal,
    Disconnect,
    Reconnect,
    Connect,
    /// Anything else, by its URI.
    Other(String),
}

const ACTIONS: [(&str, &str, Action); 12] = [
    (uri::TRANSFER, "Create", Action::Create),
    (uri::TRANSFER, "Delete", Action::Delete),
    (uri::TRANSFER, "Get", Action::Get),
    (uri::ENUMERATION, "Enumerate", Action::Enumerate),
    (uri::ENUMERATION, "Pull", Action::Pull),
    (uri::SHELL, "Command", Action::Command),
    (uri::SHELL, "Send", Action::Send),
    (uri::SHELL, "Receive", Action::Receive),
    (uri::SHELL, "Signal", Action::Signal),
    (uri::SHELL, "Disconnect", Action::Disconnect),
    (uri::SHELL, "Reconnect", Action::Reconnect),
    (uri::SHELL, "Connect", Action::Connect),
];

impl Action {
    fn from_uri(text: &str) -> Self {
        let found = text.rsplit_once('/').and_then(|(space, name)| ACTIONS.iter().find(|(s, n, _)| *s == space && *n == name));
        found.map_or_else(|| Self::Other(text.to_owned()), |(_, _, action)| action.clone())
    }

    /// The action's URI; empty for Identify, which has none.
    #[must_use]
    pub fn uri(&self) -> String {
        match (ACTIONS.iter().find(|(_, _, action)| action == self), self) {
            (Some((space, name, _)), _) => format!("{space}/{name}"),
            (None, Self::Other(text)) => text.clone(),
            (None, _) => String::new(),
        }
    }
}

/// An option of the header's OptionSet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellOption {
    /// Name as sent.
    pub name: String,
    /// Value as sent.
    pub value: String,
    /// The server must refuse the request when it does not know this option.
    pub must_comply: bool,
}

/// Bytes of one stream of a Send or a Receive answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamData {
    /// `stdin`, `pr`, `stdout`.
    pub name: String,
    /// The command as sent; `None` for the shell itself.
    pub command_id: Option<String>,
    /// Decoded bytes.
    pub data: Vec<u8>,
}

/// Body of a Create.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CreateShell {
    /// Chosen by the client since PowerShell 3; older clients leave it to the server.
    pub shell_id: Option<String>,
    /// Wanted idle time-out in milliseconds.
    pub idle_timeout: Option<u64>,
    /// Decoded content of `creationXml`.
    pub creation: Vec<u8>,
}

/// Body of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestBody {
    /// Nothing, or nothing that matters for the action.
    Empty,
    /// Create.
    Create(CreateShell),
    /// Command: the id as sent and the decoded arguments; the command text is ignored, it carries nothing.
    Command {
        /// Chosen by the client; `None` leaves it to the server.
        command_id: Option<String>,
        /// PowerShell sends exactly one.
        arguments: Vec<Vec<u8>>,
    },
    /// Send.
    Send(Vec<StreamData>),
    /// Receive.
    Receive {
        /// `None` for the shell itself.
        command_id: Option<String>,
    },
    /// Signal.
    Signal {
        /// `None` for the shell itself.
        command_id: Option<String>,
        /// The signal's URI.
        code: String,
    },
    /// Disconnect.
    Disconnect {
        /// Wanted idle time-out in milliseconds while nobody is connected.
        idle_timeout: Option<u64>,
        /// What becomes of output meanwhile.
        buffer_mode: Option<BufferMode>,
    },
    /// Reconnect.
    Reconnect {
        /// `None` for the shell with all its commands.
        command_id: Option<String>,
    },
    /// Connect.
    Connect {
        /// `None` for the shell itself.
        command_id: Option<String>,
        /// Decoded content of `connectXml`; none for a command.
        connect: Vec<u8>,
    },
    /// Enumerate or Pull: the shells, or the commands of one.
    Enumerate(Enumeration),
}

/// What a server does with output above its limit while nobody fetches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BufferMode {
    /// The command waits.
    Block,
    /// The oldest output is lost.
    Drop,
}

impl BufferMode {
    /// Name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Block => "Block",
            Self::Drop => "Drop",
        }
    }
}

/// A request with its namespaces resolved and its blobs decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What it wants.
    pub action: Action,
    /// `a:MessageID` as sent; empty for Identify without one.
    pub message_id: String,
    /// `a:To`; never used as an address.
    pub to: String,
    /// `w:ResourceURI`; empty for Identify.
    pub resource_uri: String,
    /// Selector `ShellId`.
    pub shell_id: Option<String>,
    /// `w:OperationTimeout` in milliseconds, greater than zero.
    pub operation_timeout: Option<u64>,
    /// `w:MaxEnvelopeSize` in bytes: no answer may be longer.
    pub max_envelope_size: Option<usize>,
    /// OptionSet in order.
    pub options: Vec<ShellOption>,
    /// `rsp:CompressionType` (`xpress`) when compression is wanted.
    pub compression: Option<String>,
    /// The compression header is marked mustUnderstand: without it the client wants no shell.
    pub compression_required: bool,
    /// `p:SessionId`.
    pub session_id: Option<String>,
    /// The body.
    pub body: RequestBody,
}

impl Request {
    /// An option by name without case.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&ShellOption> {
        self.options.iter().find(|o| o.name.eq_ignore_ascii_case(name))
    }
}

/// A request that cannot be served, with the fault to answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{fault}")]
pub struct RequestError {
    /// What to answer.
    pub fault: Fault,
    /// The request's MessageID, where there is exactly one.
    pub message_id: Option<String>,
}

impl From<XmlError> for Fault {
    fn from(error: XmlError) -> Self {
        let code = match error {
            XmlError::TooLarge { .. } => Self::ENVELOPE_TOO_LARGE,
            _ => Self::INVALID_XML,
        };
        Self::new(code, error.to_string())
    }
}

/// Reads a request. Headers, ids and bodies that stand twice, a header after the body, and unknown headers marked
/// mustUnderstand are refused (case X-04).
///
/// # Errors
/// The fault to answer with.
pub fn parse_request(bytes: &[u8], limits: &Limits) -> Result<Request, RequestError> {
    let root = xml::read(bytes, limits).map_err(|e| RequestError { fault: e.into(), message_id: None })?;
    let envelope = Envelope::of(&root).map_err(|fault| RequestError { fault, message_id: None })?;
    let message_id = envelope.once(uri::ADDRESSING, "MessageID").ok().flatten().map(str::to_owned);
    read_request(&envelope).map_err(|fault| RequestError { fault, message_id })
}

/// As [`parse_request`], of an envelope in UTF-16, which the Content-Type told.
///
/// # Errors
/// The fault to answer with.
pub fn parse_request_utf16(bytes: &[u8], limits: &Limits) -> Result<Request, RequestError> {
    let text = xml::from_utf16(bytes, limits).map_err(|e| RequestError { fault: e.into(), message_id: None })?;
    parse_request(text.as_bytes(), &Limits { bytes: text.len(), ..*limits })
}

pub(crate) fn schema(message: impl Into<String>) -> Fault {
    Fault::new(Fault::SCHEMA, message)
}

fn header(message: impl Into<String>) -> Fault {
    Fault::new(Fault::INVALID_HEADER, message)
}

/// Header and body of an envelope, each at most once and in this order.
pub(crate) struct Envelope<'a> {
    pub(crate) headers: &'a [Element],
    pub(crate) body: &'a Element,
}

impl<'a> Envelope<'a> {
    pub(crate) fn of(root: &'a Element) -> Result<Self, Fault> {
        if !root.is(uri::SOAP, "Envelope") {
            return Err(schema(format!("the root element is {}, not a SOAP 1.2 Envelope", root.name)));
        }
        match root.children.as_slice() {
            [head, body] if head.is(uri::SOAP, "Header") && body.is(uri::SOAP, "Body") => Ok(Self { headers: &head.children, body }),
            [body] if body.is(uri::SOAP, "Body") => Ok(Self { headers: &[], body }),
            _ => Err(schema("the Envelope does not consist of one Header and one Body, in this order")),
        }
    }

    fn one(&self, namespace: &str, name: &str) -> Result<Option<&'a Element>, Fault> {
        let mut found = self.headers.iter().filter(|h| h.is(namespace, name));
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(header(format!("header {name} stands twice"))),
            (first, None) => Ok(first),
        }
    }

    /// The trimmed text of a header that may stand at most once.
    pub(crate) fn once(&self, namespace: &str, name: &str) -> Result<Option<&'a str>, Fault> {
        Ok(self.one(namespace, name)?.map(|e| e.text.trim()))
    }

    fn required(&self, namespace: &str, name: &str) -> Result<&'a str, Fault> {
        match self.once(namespace, name)? {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(Fault::new(Fault::HEADER_REQUIRED, format!("header {name} is missing"))),
        }
    }
}

const UNDERSTOOD: [(&str, &[&str]); 4] = [
    (uri::ADDRESSING, &["To", "From", "ReplyTo", "FaultTo", "Action", "MessageID", "RelatesTo"]),
    (uri::WSMAN, &["ResourceURI", "SelectorSet", "OptionSet", "OperationTimeout", "MaxEnvelopeSize", "Locale"]),
    (uri::WSMAN_MICROSOFT, &["DataLocale", "SessionId", "OperationID", "SequenceId", "ActivityId"]),
    (uri::SHELL, &["CompressionType"]),
];

fn must_understand(element: &Element) -> bool {
    element.qualified(uri::SOAP, "mustUnderstand").is_some_and(|v| matches!(v.trim(), "true" | "1"))
}

fn check_understood(headers: &[Element]) -> Result<(), Fault> {
    for element in headers {
        let known = UNDERSTOOD.iter().any(|(space, names)| element.namespace == *space && names.contains(&element.name.as_str()));
        if must_understand(element) && !known {
            return Err(Fault::new(
                Fault::MUST_UNDERSTAND,
                format!("header {} is marked mustUnderstand and is not understood", element.name),
            ));
        }
    }
    Ok(())
}

fn read_request(envelope: &Envelope<'_>) -> Result<Request, Fault> {
    check_understood(envelope.headers)?;
    let content = match envelope.body.children.as_slice() {
        [] => None,
        [one] => Some(one),
        _ => return Err(schema("the Body has more than one element")),
    };
    if content.is_some_and(|c| c.is(uri::IDENTIFY, "Identify")) {
        return Ok(Request {
            action: Action::Identify,
            message_id: envelope.once(uri::ADDRESSING, "MessageID")?.unwrap_or_default().to_owned(),
            to: String::new(),
            resource_uri: String::new(),
            shell_id: None,
            operation_timeout: None,
            max_envelope_size: None,
            options: Vec::new(),
            compression: None,
            compression_required: false,
            session_id: None,
            body: RequestBody::Empty,
        });
    }
    let action = Action::from_uri(envelope.required(uri::ADDRESSING, "Action")?);
    let body = read_body(&action, content)?;
    let compression = envelope.one(uri::SHELL, "CompressionType")?;
    Ok(Request {
        message_id: id(envelope.required(uri::ADDRESSING, "MessageID")?, "MessageID")?,
        to: envelope.once(uri::ADDRESSING, "To")?.unwrap_or_default().to_owned(),
        resource_uri: envelope.required(uri::WSMAN, "ResourceURI")?.to_owned(),
        shell_id: selector(envelope)?,
        operation_timeout: operation_timeout(envelope)?,
        max_envelope_size: max_envelope_size(envelope)?,
        options: options(envelope)?,
        compression: compression.map(|c| c.text.trim().to_owned()),
        compression_required: compression.is_some_and(must_understand),
        session_id: envelope.once(uri::WSMAN_MICROSOFT, "SessionId")?.map(str::to_owned),
        action,
        body,
    })
}

fn id(text: &str, what: &str) -> Result<String, Fault> {
    if text.is_empty() || text.len() > LONGEST_ID || text.chars().any(char::is_whitespace) {
        return Err(header(format!("{what} is empty, longer than {LONGEST_ID} characters or contains blanks")));
    }
    Ok(text.to_owned())
}

fn selector(envelope: &Envelope<'_>) -> Result<Option<String>, Fault> {
    envelope.one(uri::WSMAN, "SelectorSet")?.map_or(Ok(None), shell_selector)
}

pub(crate) fn shell_selector(set: &Element) -> Result<Option<String>, Fault> {
    let mut found = set.all(uri::WSMAN, "Selector").filter(|s| s.attribute("Name").is_some_and(|n| n.eq_ignore_ascii_case("ShellId")));
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(header("selector ShellId stands twice")),
        (Some(one), None) => id(one.text.trim(), "ShellId").map(Some),
        (None, None) => Ok(None),
    }
}

fn operation_timeout(envelope: &Envelope<'_>) -> Result<Option<u64>, Fault> {
    let Some(text) = envelope.once(uri::WSMAN, "OperationTimeout")? else { return Ok(None) };
    match parse_duration(text) {
        Some(0) | None => Err(header(format!("OperationTimeout {text:?} is not a duration greater than zero, such as PT60S"))),
        some => Ok(some),
    }
}

fn max_envelope_size(envelope: &Envelope<'_>) -> Result<Option<usize>, Fault> {
    let Some(text) = envelope.once(uri::WSMAN, "MaxEnvelopeSize")? else { return Ok(None) };
    let valid = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // What does not fit is more than this end ever sends.
    if valid {
        Ok(Some(text.parse().unwrap_or(usize::MAX)))
    } else {
        Err(header(format!("MaxEnvelopeSize {text:?} is not a number of bytes")))
    }
}

fn options(envelope: &Envelope<'_>) -> Result<Vec<ShellOption>, Fault> {
    let Some(set) = envelope.one(uri::WSMAN, "OptionSet")? else { return Ok(Vec::new()) };
    set.all(uri::WSMAN, "Option")
        .map(|o| {
            Ok(ShellOption {
                name: o.attribute("Name").ok_or_else(|| header("an Option has no Name"))?.to_owned(),
                value: o.text.trim().to_owned(),
                must_comply: o.attribute("MustComply").is_some_and(|v| matches!(v.trim(), "true" | "1")),
            })
        })
        .collect()
}

pub(crate) fn decode(element: &Element) -> Result<Vec<u8>, Fault> {
    let text = element.text.trim();
    // Hardly any peer breaks lines: what has no blanks is not searched for them.
    let decoded = BASE64.decode(text).or_else(|_| BASE64.decode(text.split_ascii_whitespace().collect::<String>()));
    decoded.map_err(|e| schema(format!("the content of {} is not base64: {e}", element.name)))
}

fn command_id(element: &Element) -> Result<Option<String>, Fault> {
    element.attribute("CommandId").map(|text| id(text.trim(), "CommandId")).transpose()
}

fn read_body(action: &Action, content: Option<&Element>) -> Result<RequestBody, Fault> {
    type Read = fn(&Element) -> Result<RequestBody, Fault>;
    let (name, read): (&str, Read) = match action {
        Action::Create => ("Shell", create),
        Action::Command => ("CommandLine", command),
        Action::Send => ("Send", send),
        Action::Receive => ("Receive", receive),
        Action::Signal => ("Signal", signal),
        Action::Disconnect => ("Disconnect", disconnect),
        Action::Connect => ("Connect", connect),
        Action::Reconnect => {
            // pypsrp and PowerShell send an empty body for the shell.
            let command_id = content.map_or(Ok(None), command_id)?;
            return Ok(RequestBody::Reconnect { command_id });
        }
        Action::Enumerate => return Enumeration::enumerate(content).map(RequestBody::Enumerate),
        Action::Pull => {
            let pull = content.filter(|c| c.is(uri::ENUMERATION, "Pull")).ok_or_else(|| schema("the Body holds no Pull"))?;
            return Enumeration::pull(pull).map(RequestBody::Enumerate);
        }
        _ => return Ok(RequestBody::Empty),
    };
    match content {
        Some(element) if element.is(uri::SHELL, name) => read(element),
        Some(element) => Err(schema(format!("the Body holds {} where {name} is needed", element.name))),
        None => Err(schema(format!("the Body is empty where {name} is needed"))),
    }
}

fn create(shell: &Element) -> Result<RequestBody, Fault> {
    let mut blobs = shell.all(uri::POWERSHELL, "creationXml");
    let creation = match (blobs.next(), blobs.next()) {
        (_, Some(_)) => return Err(schema("creationXml stands twice")),
        (Some(one), None) => decode(one)?,
        (None, None) => Vec::new(),
    };
    let idle_timeout = idle_timeout(shell)?;
    let shell_id = shell.attribute("ShellId").map(|text| id(text.trim(), "ShellId")).transpose()?;
    Ok(RequestBody::Create(CreateShell { shell_id, idle_timeout, creation }))
}

fn idle_timeout(parent: &Element) -> Result<Option<u64>, Fault> {
    let Some(element) = parent.child(uri::SHELL, "IdleTimeOut") else { return Ok(None) };
    let text = element.text.trim();
    parse_duration(text).map(Some).ok_or_else(|| schema(format!("IdleTimeOut {text:?} is not a duration")))
}

fn disconnect(element: &Element) -> Result<RequestBody, Fault> {
    let buffer_mode = match element.child(uri::SHELL, "BufferMode").map(|e| e.text.trim()) {
        None => None,
        Some(text) => {
            let known = [BufferMode::Block, BufferMode::Drop].into_iter().find(|mode| mode.name().eq_ignore_ascii_case(text));
            Some(known.ok_or_else(|| schema(format!("BufferMode {text:?} is neither Block nor Drop")))?)
        }
    };
    Ok(RequestBody::Disconnect { idle_timeout: idle_timeout(element)?, buffer_mode })
}

fn connect(element: &Element) -> Result<RequestBody, Fault> {
    let mut blobs = element.all(uri::POWERSHELL, "connectXml");
    let connect = match (blobs.next(), blobs.next()) {
        (_, Some(_)) => return Err(schema("connectXml stands twice")),
        (Some(one), None) => decode(one)?,
        (None, None) => Vec::new(),
    };
    Ok(RequestBody::Connect { command_id: command_id(element)?, connect })
}

fn command(line: &Element) -> Result<RequestBody, Fault> {
    let arguments = line.all(uri::SHELL, "Arguments").map(decode).collect::<Result<_, _>>()?;
    Ok(RequestBody::Command { command_id: command_id(line)?, arguments })
}

pub(crate) fn decode_streams(parent: &Element) -> Result<Vec<StreamData>, Fault> {
    parent
        .all(uri::SHELL, "Stream")
        .map(|stream| {
            Ok(StreamData {
                name: stream.attribute("Name").unwrap_or_default().to_owned(),
                command_id: command_id(stream)?,
                data: decode(stream)?,
            })
        })
        .collect()
}

fn send(element: &Element) -> Result<RequestBody, Fault> {
    decode_streams(element).map(RequestBody::Send)
}

fn receive(element: &Element) -> Result<RequestBody, Fault> {
    let mut desired = element.all(uri::SHELL, "DesiredStream");
    match (desired.next(), desired.next()) {
        (Some(one), None) => Ok(RequestBody::Receive { command_id: command_id(one)? }),
        _ => Err(schema("Receive does not hold exactly one DesiredStream")),
    }
}

fn signal(element: &Element) -> Result<RequestBody, Fault> {
    let code = element.child(uri::SHELL, "Code").ok_or_else(|| schema("Signal holds no Code"))?;
    Ok(RequestBody::Signal { command_id: command_id(element)?, code: code.text.trim().to_owned() })
}
