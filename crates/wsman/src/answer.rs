//! Writes the server's answers. Every function gives a whole envelope; `relates_to` is the request's MessageID, which
//! clients compare, `message_id` the answer's own.

use base64::Engine as _;

use crate::incoming::BASE64;
use crate::{Action, BufferMode, CommandState, format_duration, uri};

/// What the answers to Create and Get say about a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellDescription<'a> {
    /// The streams are compressed by [`crate::xpress`].
    pub compressed: bool,
    /// Id as clients will send it.
    pub shell_id: &'a str,
    /// The session configuration.
    pub resource_uri: &'a str,
    /// Address that the client used, for the endpoint reference.
    pub address: &'a str,
    /// Account that opened it.
    pub owner: &'a str,
    /// Address of the client.
    pub client_ip: &'a str,
    /// Idle time-out in milliseconds.
    pub idle_timeout: u64,
    /// Longest idle time-out that may be asked for, in milliseconds.
    pub max_idle_timeout: u64,
    /// What becomes of output above the limit while nobody fetches it.
    pub buffer_mode: BufferMode,
    /// A client is connected.
    pub connected: bool,
    /// Milliseconds since the shell was made.
    pub age: u64,
    /// Milliseconds since its last request.
    pub inactivity: u64,
}

const OPENING: &[&str] = &[
    "<?xml version=\"1.0\" encoding=\"utf-8\"?><s:Envelope xml:lang=\"en-US\" xmlns:s=\"",
    uri::SOAP,
    "\" xmlns:a=\"",
    uri::ADDRESSING,
    "\" xmlns:w=\"",
    uri::WSMAN,
    "\" xmlns:p=\"",
    uri::WSMAN_MICROSOFT,
    "\" xmlns:rsp=\"",
    uri::SHELL,
    "\" xmlns:x=\"",
    uri::TRANSFER,
    "\"><s:Header><a:Action>",
];

pub(crate) fn open(action: &str, relates_to: Option<&str>, message_id: &str) -> String {
    let mut out = String::with_capacity(2_048);
    OPENING.iter().for_each(|part| out.push_str(part));
    escape_into(action, &mut out);
    out.push_str("</a:Action><a:MessageID>");
    escape_into(message_id, &mut out);
    out.push_str("</a:MessageID><a:To>");
    out.push_str(uri::ANONYMOUS);
    out.push_str("</a:To>");
    if let Some(id) = relates_to {
        element_into("a:RelatesTo", id, &mut out);
    }
    out.push_str("</s:Header><s:Body>");
    out
}

pub(crate) fn close(mut out: String) -> String {
    out.push_str("</s:Body></s:Envelope>");
    out
}

pub(crate) fn escape_into(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push(character),
            // XML 1.0 cannot carry these in any form.
            '\0'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}' => out.push('\u{FFFD}'),
            other => out.push(other),
        }
    }
}

pub(crate) fn element_into(name: &str, text: &str, out: &mut String) {
    out.push('<');
    out.push_str(name);
    out.push('>');
    escape_into(text, out);
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

pub(crate) fn response(action: &Action, relates_to: &str, message_id: &str) -> String {
    open(&format!("{}Response", action.uri()), Some(relates_to), message_id)
}

pub(crate) fn shell_into(shell: &ShellDescription<'_>, out: &mut String) {
    out.push_str("<rsp:Shell>");
    for (name, value) in [
        ("rsp:ShellId", shell.shell_id),
        ("rsp:ResourceUri", shell.resource_uri),
        ("rsp:Owner", shell.owner),
        ("rsp:ClientIP", shell.client_ip),
        ("rsp:IdleTimeOut", &format_duration(shell.idle_timeout)),
        ("rsp:InputStreams", "stdin pr"),
        ("rsp:OutputStreams", "stdout"),
        ("rsp:MaxIdleTimeOut", &format_duration(shell.max_idle_timeout)),
        ("rsp:Locale", "en-US"),
        ("rsp:DataLocale", "en-US"),
        ("rsp:CompressionMode", if shell.compressed { "XpressCompression" } else { "NoCompression" }),
        ("rsp:ProfileLoaded", "No"),
        ("rsp:Encoding", "UTF8"),
        ("rsp:BufferMode", shell.buffer_mode.name()),
        ("rsp:State", if shell.connected { "Connected" } else { "Disconnected" }),
        ("rsp:ShellRunTime", &format_duration(shell.age)),
        ("rsp:ShellInactivity", &format_duration(shell.inactivity)),
    ] {
        element_into(name, value, out);
    }
    out.push_str("</rsp:Shell>");
}

/// Answer to Create: endpoint reference and description; clients take the selector from the first, id and resource
/// from the second.
#[must_use]
pub fn create(shell: &ShellDescription<'_>, relates_to: &str, message_id: &str) -> String {
    let mut out = response(&Action::Create, relates_to, message_id);
    out.push_str("<x:ResourceCreated>");
    element_into("a:Address", shell.address, &mut out);
    out.push_str("<a:ReferenceParameters>");
    element_into("w:ResourceURI", shell.resource_uri, &mut out);
    out.push_str("<w:SelectorSet><w:Selector Name=\"ShellId\">");
    escape_into(shell.shell_id, &mut out);
    out.push_str("</w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated>");
    shell_into(shell, &mut out);
    close(out)
}

/// Answer to Get on a shell: its description.
#[must_use]
pub fn get(shell: &ShellDescription<'_>, relates_to: &str, message_id: &str) -> String {
    let mut out = response(&Action::Get, relates_to, message_id);
    shell_into(shell, &mut out);
    close(out)
}

/// Answer to Command, with the id as the client wrote it.
#[must_use]
pub fn command(command_id: &str, relates_to: &str, message_id: &str) -> String {
    let mut out = response(&Action::Command, relates_to, message_id);
    out.push_str("<rsp:CommandResponse>");
    element_into("rsp:CommandId", command_id, &mut out);
    out.push_str("</rsp:CommandResponse>");
    close(out)
}

/// Answer to Send.
#[must_use]
pub fn send(relates_to: &str, message_id: &str) -> String {
    let mut out = response(&Action::Send, relates_to, message_id);
    out.push_str("<rsp:SendResponse/>");
    close(out)
}

/// Answer to Signal.
#[must_use]
pub fn signal(relates_to: &str, message_id: &str) -> String {
    let mut out = response(&Action::Signal, relates_to, message_id);
    out.push_str("<rsp:SignalResponse/>");
    close(out)
}

/// Answer to Delete.
#[must_use]
pub fn delete(relates_to: &str, message_id: &str) -> String {
    close(response(&Action::Delete, relates_to, message_id))
}

/// Answer to Disconnect.
#[must_use]
pub fn disconnect(relates_to: &str, message_id: &str) -> String {
    let mut out = response(&Action::Disconnect, relates_to, message_id);
    out.push_str("<rsp:DisconnectResponse/>");
    close(out)
}

/// Answer to Reconnect.
#[must_use]
pub fn reconnect(relates_to: &str, message_id: &str) -> String {
    let mut out = response(&Action::Reconnect, relates_to, message_id);
    out.push_str("<rsp:ReconnectResponse/>");
    close(out)
}

/// Answer to Connect: the shell's session data, nothing for a command.
#[must_use]
pub fn connect(data: &[u8], relates_to: &str, message_id: &str) -> String {
    let mut out = response(&Action::Connect, relates_to, message_id);
    out.push_str("<rsp:ConnectResponse>");
    if !data.is_empty() {
        out.push_str("<connectResponseXml xmlns=\"");
        out.push_str(uri::POWERSHELL);
        out.push_str("\">");
        BASE64.encode_string(data, &mut out);
        out.push_str("</connectResponseXml>");
    }
    out.push_str("</rsp:ConnectResponse>");
    close(out)
}

/// Answer to Receive: bytes of `stdout` (none when empty) and the command's state.
///
/// PowerShell's own client on Unix sees only the stream of an answer that holds both, so a server must be able to say
/// `Done` again in an answer of its own.
#[must_use]
pub fn receive(command_id: Option<&str>, data: &[u8], state: Option<CommandState>, relates_to: &str, message_id: &str) -> String {
    let mut out = response(&Action::Receive, relates_to, message_id);
    out.reserve(data.len() / 3 * 4 + 512);
    out.push_str("<rsp:ReceiveResponse>");
    if !data.is_empty() {
        out.push_str("<rsp:Stream Name=\"stdout\"");
        command_attribute(command_id, &mut out);
        out.push('>');
        BASE64.encode_string(data, &mut out);
        out.push_str("</rsp:Stream>");
    }
    if let Some(state) = state {
        out.push_str("<rsp:CommandState");
        command_attribute(command_id, &mut out);
        out.push_str(" State=\"");
        out.push_str(uri::COMMAND_STATE_PREFIX);
        out.push_str(state.name());
        out.push_str("\">");
        if state == CommandState::Done {
            out.push_str("<rsp:ExitCode>0</rsp:ExitCode>");
        }
        out.push_str("</rsp:CommandState>");
    }
    out.push_str("</rsp:ReceiveResponse>");
    close(out)
}

/// How many bytes of data a Receive answer may hold so that its envelope is not longer than `max_envelope_size`.
#[must_use]
pub fn receive_capacity(
    max_envelope_size: usize,
    command_id: Option<&str>,
    state: Option<CommandState>,
    relates_to: &str,
    message_id: &str,
) -> usize {
    // One byte of data makes the stream element appear, and four characters of base64 with it.
    let overhead = receive(command_id, &[0], state, relates_to, message_id).len() - 4;
    max_envelope_size.saturating_sub(overhead) / 4 * 3
}

pub(crate) fn command_attribute(command_id: Option<&str>, out: &mut String) {
    if let Some(id) = command_id {
        out.push_str(" CommandId=\"");
        escape_into(id, out);
        out.push('"');
    }
}

/// Answer to Identify.
#[must_use]
pub fn identify(vendor: &str, version: &str, relates_to: Option<&str>, message_id: &str) -> String {
    let mut out = open(&format!("{}/IdentifyResponse", uri::IDENTIFY), relates_to, message_id);
    out.push_str("<wsmid:IdentifyResponse xmlns:wsmid=\"");
    out.push_str(uri::IDENTIFY);
    out.push_str("\">");
    element_into("wsmid:ProtocolVersion", uri::WSMAN, &mut out);
    element_into("wsmid:ProductVendor", vendor, &mut out);
    element_into("wsmid:ProductVersion", version, &mut out);
    out.push_str("</wsmid:IdentifyResponse>");
    close(out)
}
