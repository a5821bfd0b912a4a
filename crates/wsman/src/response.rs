use thiserror::Error;

use crate::incoming::{Envelope, decode, decode_streams};
use crate::xml;
use crate::{Fault, Limits, StreamData, XmlError, uri};

/// Where a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandState {
    /// Not begun.
    Pending,
    /// Running, or finished with bytes still to fetch.
    Running,
    /// Nothing more will come.
    Done,
}

impl CommandState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Done => "Done",
        }
    }

    fn from_uri(text: &str) -> Option<Self> {
        let name = text.trim().strip_prefix(uri::COMMAND_STATE_PREFIX)?;
        [Self::Pending, Self::Running, Self::Done].into_iter().find(|s| s.name() == name)
    }
}

/// Body of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseBody {
    /// To Create.
    Created {
        /// The shell's id, from the endpoint reference or the description.
        shell_id: Option<String>,
        /// The streams are compressed by [`crate::xpress`].
        compressed: bool,
    },
    /// To Command.
    Command {
        /// The command's id.
        command_id: Option<String>,
    },
    /// To Receive.
    Receive {
        /// Streams in order.
        streams: Vec<StreamData>,
        /// State of the command, when the answer tells it.
        state: Option<CommandState>,
    },
    /// To Connect: the shell's session data, empty for a command.
    Connected(Vec<u8>),
    /// To Enumerate or Pull.
    Enumerated {
        /// Shells or commands of this part.
        items: Vec<Enumerated>,
        /// What [`request::pull`](crate::request::pull) gets the next part with; `None` in the last one.
        context: Option<String>,
    },
    /// Anything went wrong.
    Fault(Fault),
    /// To Identify.
    Identify {
        /// `ProductVendor`.
        vendor: String,
        /// `ProductVersion`.
        version: String,
    },
    /// To Send, Signal, Delete, or something that needs no reading.
    Done,
}

/// A shell or a command, as Enumerate or Pull describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enumerated {
    /// The shell's id.
    pub shell_id: String,
    /// The command's id, where it is a command.
    pub command_id: Option<String>,
    /// The session configuration of a shell, as a URI.
    pub resource_uri: String,
    /// A client is connected.
    pub connected: bool,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// MessageID of the request that it answers, when the server says so.
    pub relates_to: Option<String>,
    /// The body.
    pub body: ResponseBody,
}

/// Why an answer is not read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ResponseError {
    /// Not acceptable XML.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// Not an envelope of the right form.
    #[error("the answer is not a WS-Management envelope: {0}")]
    Form(String),
}

/// Reads an answer of any server.
///
/// # Errors
/// When it is not XML within `limits` or not an envelope.
pub fn parse_response(bytes: &[u8], limits: &Limits) -> Result<Response, ResponseError> {
    let root = xml::read(bytes, limits)?;
    let form = |fault: Fault| ResponseError::Form(fault.message);
    let envelope = Envelope::of(&root).map_err(form)?;
    let relates_to = envelope.once(uri::ADDRESSING, "RelatesTo").map_err(form)?.map(str::to_owned);
    Ok(Response { relates_to, body: body(&envelope).map_err(form)? })
}

fn body(envelope: &Envelope<'_>) -> Result<ResponseBody, Fault> {
    let body = envelope.body;
    let text = |e: &xml::Element| e.text.trim().to_owned();
    if let Some(fault) = body.child(uri::SOAP, "Fault") {
        return Ok(ResponseBody::Fault(Fault::read(fault)));
    }
    if let Some(answer) = body.child(uri::SHELL, "ReceiveResponse") {
        let state = answer.child(uri::SHELL, "CommandState").and_then(|s| s.attribute("State")).and_then(CommandState::from_uri);
        return Ok(ResponseBody::Receive { streams: decode_streams(answer)?, state });
    }
    if let Some(answer) = body.child(uri::SHELL, "CommandResponse") {
        return Ok(ResponseBody::Command { command_id: answer.child(uri::SHELL, "CommandId").map(text) });
    }
    if let Some(answer) = body.child(uri::SHELL, "ConnectResponse") {
        let data = answer.child(uri::POWERSHELL, "connectResponseXml").map_or(Ok(Vec::new()), decode)?;
        return Ok(ResponseBody::Connected(data));
    }
    let part = ["EnumerateResponse", "PullResponse"].into_iter().find_map(|name| body.child(uri::ENUMERATION, name));
    if let Some(answer) = part {
        let either = |name: &str| [uri::WSMAN, uri::ENUMERATION].into_iter().find_map(|space| answer.child(space, name));
        let items = either("Items").map(|items| enumerated(items).collect()).unwrap_or_default();
        // Some servers give an empty context with the last part, some repeat the one before.
        let context = answer.child(uri::ENUMERATION, "EnumerationContext").map(text).filter(|context| !context.is_empty());
        return Ok(ResponseBody::Enumerated { items, context: context.filter(|_| either("EndOfSequence").is_none()) });
    }
    let created = body.child(uri::TRANSFER, "ResourceCreated");
    let shell = body.child(uri::SHELL, "Shell");
    if created.is_some() || shell.is_some() {
        let selector = created
            .and_then(|c| c.child(uri::ADDRESSING, "ReferenceParameters"))
            .and_then(|r| r.child(uri::WSMAN, "SelectorSet"))
            .and_then(|s| s.all(uri::WSMAN, "Selector").find(|s| s.attribute("Name") == Some("ShellId")));
        let described = shell.and_then(|s| s.child(uri::SHELL, "ShellId"));
        let compressed = shell.and_then(|s| s.child(uri::SHELL, "CompressionMode")).is_some_and(|m| m.text.trim() == "XpressCompression");
        return Ok(ResponseBody::Created { shell_id: selector.or(described).map(text), compressed });
    }
    if let Some(answer) = body.child(uri::IDENTIFY, "IdentifyResponse") {
        let field = |name: &str| answer.child(uri::IDENTIFY, name).map(text).unwrap_or_default();
        return Ok(ResponseBody::Identify { vendor: field("ProductVendor"), version: field("ProductVersion") });
    }
    Ok(ResponseBody::Done)
}

fn enumerated(items: &xml::Element) -> impl Iterator<Item = Enumerated> {
    ["Shell", "Command"].into_iter().flat_map(|name| items.all(uri::SHELL, name)).map(|item| {
        let field = |name: &str| item.child(uri::SHELL, name).map(|e| e.text.trim().to_owned());
        Enumerated {
            shell_id: field("ShellId").unwrap_or_default(),
            command_id: field("CommandId"),
            resource_uri: field("ResourceUri").unwrap_or_default(),
            connected: field("State").as_deref() != Some("Disconnected"),
        }
    })
}
