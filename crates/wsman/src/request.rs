//! Writes the client's requests. Every function gives a whole envelope.

use base64::Engine as _;

use crate::answer::{command_attribute, element_into, escape_into};
use crate::incoming::BASE64;
use crate::{Action, StreamData, format_duration, uri};

/// Items in one part of a list: so many descriptions stay far below the number of elements that an answer may have.
const PART: &str = "50";

/// What every request of one shell says in its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header<'a> {
    /// URL of the endpoint.
    pub to: &'a str,
    /// URI of the session configuration.
    pub resource_uri: &'a str,
    /// This request's id with its `uuid:` prefix; a repeated request carries the same.
    pub message_id: &'a str,
    /// Longest answer that is accepted, in bytes.
    pub max_envelope_size: usize,
    /// How long the server may wait for something to answer, in milliseconds.
    pub operation_timeout: u64,
    /// One per client session, with its `uuid:` prefix.
    pub session_id: &'a str,
    /// The shell, except on Create.
    pub shell_id: Option<&'a str>,
    /// Language of texts, `en-US`.
    pub locale: &'a str,
}

fn open(header: &Header<'_>, action: &Action, options: &[(&str, &str, bool)]) -> String {
    let mut out = String::with_capacity(2_048);
    for part in [
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><s:Envelope xmlns:s=\"",
        uri::SOAP,
        "\" xmlns:a=\"",
        uri::ADDRESSING,
        "\" xmlns:w=\"",
        uri::WSMAN,
        "\" xmlns:p=\"",
        uri::WSMAN_MICROSOFT,
        "\" xmlns:rsp=\"",
        uri::SHELL,
        "\"><s:Header>",
    ] {
        out.push_str(part);
    }
    element_into("a:To", header.to, &mut out);
    out.push_str("<a:ReplyTo><a:Address s:mustUnderstand=\"true\">");
    out.push_str(uri::ANONYMOUS);
    out.push_str("</a:Address></a:ReplyTo><a:Action s:mustUnderstand=\"true\">");
    out.push_str(&action.uri());
    out.push_str("</a:Action>");
    element_into("a:MessageID", header.message_id, &mut out);
    out.push_str("<w:ResourceURI s:mustUnderstand=\"true\">");
    escape_into(header.resource_uri, &mut out);
    out.push_str("</w:ResourceURI><w:MaxEnvelopeSize s:mustUnderstand=\"true\">");
    out.push_str(&header.max_envelope_size.to_string());
    out.push_str("</w:MaxEnvelopeSize>");
    element_into("w:OperationTimeout", &format_duration(header.operation_timeout), &mut out);
    for (name, end) in
        [("<w:Locale xml:lang=\"", "\" s:mustUnderstand=\"false\"/>"), ("<p:DataLocale xml:lang=\"", "\" s:mustUnderstand=\"false\"/>")]
    {
        out.push_str(name);
        escape_into(header.locale, &mut out);
        out.push_str(end);
    }
    out.push_str("<p:SessionId s:mustUnderstand=\"false\">");
    escape_into(header.session_id, &mut out);
    out.push_str("</p:SessionId>");
    if let Some(shell) = header.shell_id {
        out.push_str("<w:SelectorSet><w:Selector Name=\"ShellId\">");
        escape_into(shell, &mut out);
        out.push_str("</w:Selector></w:SelectorSet>");
    }
    if !options.is_empty() {
        out.push_str("<w:OptionSet s:mustUnderstand=\"true\">");
        for (name, value, must_comply) in options {
            out.push_str("<w:Option Name=\"");
            escape_into(name, &mut out);
            out.push_str(if *must_comply { "\" MustComply=\"true\">" } else { "\">" });
            escape_into(value, &mut out);
            out.push_str("</w:Option>");
        }
        out.push_str("</w:OptionSet>");
    }
    out.push_str("</s:Header><s:Body>");
    out
}

fn close(mut out: String) -> String {
    out.push_str("</s:Body></s:Envelope>");
    out
}

/// What a client says of the shell that it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewShell<'a> {
    /// Its id, which the client chose.
    pub shell_id: &'a str,
    /// Version of the protocol inside.
    pub protocol_version: &'a str,
    /// Idle time-out to ask for, in milliseconds.
    pub idle_timeout: Option<u64>,
    /// Asks for streams compressed by [`crate::xpress`].
    pub compressed: bool,
}

/// Create: opens a shell whose id the client chose. `creation` is the first batch of what the shell carries.
#[must_use]
pub fn create(header: &Header<'_>, shell: &NewShell<'_>, creation: &[u8]) -> String {
    let mut out = open(header, &Action::Create, &[("protocolversion", shell.protocol_version, true)]);
    if shell.compressed {
        // Not mustUnderstand: a server that cannot compress goes on without.
        let header = "<rsp:CompressionType s:mustUnderstand=\"false\">xpress</rsp:CompressionType></s:Header>";
        out = out.replacen("</s:Header>", header, 1);
    }
    out.push_str("<rsp:Shell ShellId=\"");
    escape_into(shell.shell_id, &mut out);
    out.push_str("\"><rsp:InputStreams>stdin pr</rsp:InputStreams><rsp:OutputStreams>stdout</rsp:OutputStreams>");
    if let Some(milliseconds) = shell.idle_timeout {
        element_into("rsp:IdleTimeOut", &format_duration(milliseconds), &mut out);
    }
    out.push_str("<creationXml xmlns=\"");
    out.push_str(uri::POWERSHELL);
    out.push_str("\">");
    BASE64.encode_string(creation, &mut out);
    out.push_str("</creationXml></rsp:Shell>");
    close(out)
}

/// Command: starts a command with its first bytes as the one argument.
#[must_use]
pub fn command(header: &Header<'_>, command_id: &str, argument: &[u8]) -> String {
    let mut out = open(header, &Action::Command, &[]);
    out.push_str("<rsp:CommandLine CommandId=\"");
    escape_into(command_id, &mut out);
    out.push_str("\"><rsp:Command> </rsp:Command><rsp:Arguments>");
    BASE64.encode_string(argument, &mut out);
    out.push_str("</rsp:Arguments></rsp:CommandLine>");
    close(out)
}

/// Send: bytes for `stdin` or `pr` of the shell or of a command.
#[must_use]
pub fn send(header: &Header<'_>, stream: &StreamData) -> String {
    let mut out = open(header, &Action::Send, &[]);
    out.push_str("<rsp:Send><rsp:Stream Name=\"");
    escape_into(&stream.name, &mut out);
    out.push('"');
    command_attribute(stream.command_id.as_deref(), &mut out);
    out.push('>');
    BASE64.encode_string(&stream.data, &mut out);
    out.push_str("</rsp:Stream></rsp:Send>");
    close(out)
}

/// Receive: asks for what the shell or a command has to say; long-polled.
#[must_use]
pub fn receive(header: &Header<'_>, command_id: Option<&str>) -> String {
    let mut out = open(header, &Action::Receive, &[("WSMAN_CMDSHELL_OPTION_KEEPALIVE", "TRUE", false)]);
    out.push_str("<rsp:Receive><rsp:DesiredStream");
    command_attribute(command_id, &mut out);
    out.push_str(">stdout</rsp:DesiredStream></rsp:Receive>");
    close(out)
}

/// Signal: stop or terminate a command.
#[must_use]
pub fn signal(header: &Header<'_>, command_id: &str, code: &str) -> String {
    let mut out = open(header, &Action::Signal, &[]);
    out.push_str("<rsp:Signal CommandId=\"");
    escape_into(command_id, &mut out);
    out.push_str("\">");
    element_into("rsp:Code", code, &mut out);
    out.push_str("</rsp:Signal>");
    close(out)
}

/// Disconnect: the shell and its commands go on without a client, for the idle time-out in milliseconds where one is given.
#[must_use]
pub fn disconnect(header: &Header<'_>, idle_timeout: Option<u64>) -> String {
    let mut out = open(header, &Action::Disconnect, &[]);
    out.push_str("<rsp:Disconnect>");
    if let Some(milliseconds) = idle_timeout {
        element_into("rsp:IdleTimeOut", &format_duration(milliseconds), &mut out);
    }
    out.push_str("</rsp:Disconnect>");
    close(out)
}

/// Reconnect: the client that disconnected comes back to its shell and all commands of it.
#[must_use]
pub fn reconnect(header: &Header<'_>) -> String {
    let mut out = open(header, &Action::Reconnect, &[]);
    out.push_str("<rsp:Reconnect/>");
    close(out)
}

/// Connect: another client comes to the shell with its first bytes.
#[must_use]
pub fn connect(header: &Header<'_>, session_data: &[u8]) -> String {
    let mut out = open(header, &Action::Connect, &[]);
    out.push_str("<rsp:Connect><connectXml xmlns=\"");
    out.push_str(uri::POWERSHELL);
    out.push_str("\">");
    BASE64.encode_string(session_data, &mut out);
    out.push_str("</connectXml></rsp:Connect>");
    close(out)
}

/// Connect of a command, after that of its shell.
#[must_use]
pub fn connect_command(header: &Header<'_>, command_id: &str) -> String {
    let mut out = open(header, &Action::Connect, &[]);
    out.push_str("<rsp:Connect");
    command_attribute(Some(command_id), &mut out);
    out.push_str("/>");
    close(out)
}

/// Enumerate: the caller's shells, or the commands of one of them. The header's resource is [`uri::SHELL`] or
/// [`uri::SHELL_COMMAND`] then, and names no shell.
#[must_use]
pub fn enumerate(header: &Header<'_>, commands_of: Option<&str>) -> String {
    let mut out = open(header, &Action::Enumerate, &[]);
    out.push_str("<n:Enumerate xmlns:n=\"");
    out.push_str(uri::ENUMERATION);
    out.push_str("\"><w:OptimizeEnumeration/><w:MaxElements>");
    out.push_str(PART);
    out.push_str("</w:MaxElements>");
    if let Some(shell) = commands_of {
        out.push_str("<w:Filter Dialect=\"");
        out.push_str(uri::SELECTOR_FILTER);
        out.push_str("\"><w:SelectorSet><w:Selector Name=\"ShellId\">");
        escape_into(shell, &mut out);
        out.push_str("</w:Selector></w:SelectorSet></w:Filter>");
    }
    out.push_str("</n:Enumerate>");
    close(out)
}

/// Pull: the next part of what Enumerate began to list, from the context of the part before. The header is that of the Enumerate.
#[must_use]
pub fn pull(header: &Header<'_>, context: &str) -> String {
    let mut out = open(header, &Action::Pull, &[]);
    out.push_str("<n:Pull xmlns:n=\"");
    out.push_str(uri::ENUMERATION);
    out.push_str("\"><n:EnumerationContext>");
    escape_into(context, &mut out);
    out.push_str("</n:EnumerationContext><n:MaxElements>");
    out.push_str(PART);
    out.push_str("</n:MaxElements></n:Pull>");
    close(out)
}

/// Delete: closes the shell.
#[must_use]
pub fn delete(header: &Header<'_>) -> String {
    close(open(header, &Action::Delete, &[]))
}

/// How many bytes one request may carry so that its envelope is not longer than `max_envelope_size`: the header of
/// these requests is below 2,300 bytes with ids and URL of usual length.
#[must_use]
pub fn payload_capacity(header: &Header<'_>, max_envelope_size: usize) -> usize {
    let overhead = send(header, &StreamData { name: "stdin".to_owned(), command_id: Some("0".repeat(64)), data: Vec::new() }).len() + 384;
    max_envelope_size.saturating_sub(overhead) / 4 * 3
}
