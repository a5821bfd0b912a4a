//! Reads recorded conversations: the samples, and our own of `interop/record_conversations.py`. Both have one form, which that script describes.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exops_psrp::MessageType;
use exops_wsman::{Limits, Request, parse_request};
use uuid::Uuid;

const TYPES: [(&str, MessageType); 31] = [
    ("SESSION_CAPABILITY", MessageType::SessionCapability),
    ("INIT_RUNSPACEPOOL", MessageType::InitRunspacePool),
    ("PUBLIC_KEY", MessageType::PublicKey),
    ("ENCRYPTED_SESSION_KEY", MessageType::EncryptedSessionKey),
    ("RUNSPACEPOOL_STATE", MessageType::RunspacePoolState),
    ("CREATE_PIPELINE", MessageType::CreatePipeline),
    ("APPLICATION_PRIVATE_DATA", MessageType::ApplicationPrivateData),
    ("GET_COMMAND_METADATA", MessageType::GetCommandMetadata),
    ("RUNSPACEPOOL_HOST_CALL", MessageType::RunspacePoolHostCall),
    ("RUNSPACEPOOL_HOST_RESPONSE", MessageType::RunspacePoolHostResponse),
    ("RUNSPACE_AVAILABILITY", MessageType::RunspaceAvailability),
    ("PIPELINE_INPUT", MessageType::PipelineInput),
    ("END_OF_PIPELINE_INPUT", MessageType::EndOfPipelineInput),
    ("PIPELINE_OUTPUT", MessageType::PipelineOutput),
    ("ERROR_RECORD", MessageType::ErrorRecord),
    ("PIPELINE_STATE", MessageType::PipelineState),
    ("DEBUG_RECORD", MessageType::DebugRecord),
    ("VERBOSE_RECORD", MessageType::VerboseRecord),
    ("WARNING_RECORD", MessageType::WarningRecord),
    ("PROGRESS_RECORD", MessageType::ProgressRecord),
    ("INFORMATION_RECORD", MessageType::InformationRecord),
    ("PIPELINE_HOST_CALL", MessageType::PipelineHostCall),
    ("PIPELINE_HOST_RESPONSE", MessageType::PipelineHostResponse),
    ("GET_AVAILABLE_RUNSPACES", MessageType::GetAvailableRunspaces),
    ("PUBLIC_KEY_REQUEST", MessageType::PublicKeyRequest),
    ("CONNECT_RUNSPACEPOOL", MessageType::ConnectRunspacePool),
    ("RUNSPACEPOOL_INIT_DATA", MessageType::RunspacePoolInitData),
    ("SET_MAX_RUNSPACES", MessageType::SetMaxRunspaces),
    ("SET_MIN_RUNSPACES", MessageType::SetMinRunspaces),
    ("RESET_RUNSPACE_STATE", MessageType::ResetRunspaceState),
    ("USER_EVENT", MessageType::UserEvent),
];

/// One decoded fragment as its bytes, with the pipeline and the kind of its message; both are of the first fragment alone.
pub(super) fn message(text: &str) -> (Uuid, MessageType, Vec<u8>) {
    let (head, xml) = text.split_once('\n').unwrap();
    let fields: Vec<&str> = head.split(' ').collect();
    let (mut pipeline, mut kind, mut bytes, mut part) = (Uuid::nil(), MessageType::Unknown(0), Vec::new(), "0/3");
    match fields.as_slice() {
        [_, later] => part = later,
        [_, destination, name, pool, of, bom, several @ ..] => {
            kind = TYPES.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name}")).1;
            pipeline = Uuid::parse_str(of).unwrap();
            bytes.extend(destination.parse::<u32>().unwrap().to_le_bytes());
            bytes.extend(kind.number().to_le_bytes());
            bytes.extend(Uuid::parse_str(pool).unwrap_or_default().to_bytes_le());
            bytes.extend(pipeline.to_bytes_le());
            bytes.extend(if *bom == "1" { "\u{FEFF}" } else { "" }.as_bytes());
            part = several.first().unwrap_or(&part);
        }
        _ => panic!("{head}"),
    }
    bytes.extend(xml.as_bytes());
    let (number, flags) = part.split_once('/').unwrap();
    let fragment = fragment(fields[0].parse().unwrap(), number.parse().unwrap(), flags.parse().unwrap(), &bytes);
    (pipeline, kind, fragment)
}

/// The bytes of a fragment.
pub(super) fn fragment(object: u64, number: u64, flags: u8, blob: &[u8]) -> Vec<u8> {
    let length = u32::try_from(blob.len()).unwrap();
    [&object.to_be_bytes()[..], &number.to_be_bytes(), &[flags], &length.to_be_bytes(), blob].concat()
}

/// Puts base64 where a sample shows decoded messages.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::new();
    let mut pending = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        if !before.trim().is_empty() {
            out.push_str(&STANDARD.encode(std::mem::take(&mut pending)));
            out.push_str(before.trim());
        }
        let (inside, after) = after.split_once("}}\n").unwrap_or((after.trim_end().trim_end_matches("}}"), ""));
        pending.extend(message(inside).2);
        rest = after;
    }
    out.push_str(&STANDARD.encode(pending));
    out.push_str(rest.trim());
    out
}

pub(super) struct Block {
    pub(super) request: bool,
    pub(super) line: String,
    pub(super) body: String,
}

impl Block {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.line.split_once(&format!(" {name}="))?;
        Some(if name == "options" { rest } else { rest.split(' ').next().unwrap_or_default() })
    }

    /// The whole envelope of a request that stands with its body only, as the samples' description gives it.
    fn envelope(&self) -> String {
        if self.body.starts_with("<s:Envelope") || self.body.starts_with("<?xml") {
            return self.body.clone();
        }
        let name = self.line.split(' ').nth(1).unwrap();
        let space = if matches!(name, "Create" | "Delete") {
            "http://schemas.xmlsoap.org/ws/2004/09/transfer/"
        } else {
            "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/"
        };
        let selector = self.field("shell").map(|s| format!("<w:SelectorSet><w:Selector Name=\"ShellId\">{s}</w:Selector></w:SelectorSet>"));
        format!(
            "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
             xmlns:n=\"http://schemas.xmlsoap.org/ws/2004/09/enumeration\" xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\" \
             xmlns:xsi=\"http://www.w3.org/2001/XMLSchema\" xmlns:h=\"http://schemas.microsoft.com/wbem/wsman/1/windows/shell\" \
             xmlns:p=\"http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd\" ><s:Header><a:To>HTTPS://localhost:5986/</a:To>\
             <w:ResourceURI s:mustUnderstand=\"true\">http://schemas.microsoft.com/powershell/Microsoft.Exchange</w:ResourceURI>\
             <a:ReplyTo><a:Address s:mustUnderstand=\"true\">http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>\
             <a:Action>{space}{name}</a:Action><w:MaxEnvelopeSize s:mustUnderstand=\"true\">512000</w:MaxEnvelopeSize>\
             <a:MessageID>{}</a:MessageID><w:OperationTimeout>PT3M</w:OperationTimeout>\
             <w:Locale xml:lang=\"en-us\" s:mustUnderstand=\"false\"/><p:DataLocale xml:lang=\"en-us\" s:mustUnderstand=\"false\"/>\
             <w:OptionSet s:mustUnderstand=\"true\">{}</w:OptionSet>{}</s:Header><s:Body>{}</s:Body></s:Envelope>",
            self.field("id").unwrap(),
            self.field("options").unwrap_or_default(),
            selector.unwrap_or_default(),
            self.body
        )
    }

    pub(super) fn request(&self) -> Request {
        parse_request(self.envelope().as_bytes(), &Limits::default()).unwrap_or_else(|e| panic!("{e}: {}", self.line))
    }
}

pub(super) fn blocks(path: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut blocks: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if line.starts_with(">>> ") || line.starts_with("<<< ") {
            blocks.push((line.to_owned(), String::new()));
        } else if let Some((_, body)) = blocks.last_mut() {
            body.push_str(line);
            body.push('\n');
        }
    }
    blocks
        .into_iter()
        .map(|(line, body)| {
            // In the first sample HTTP headers stand before the envelope.
            let body = body.split_once("\n\n").filter(|(head, _)| head.starts_with("Connection:")).map_or(body.as_str(), |(_, b)| b);
            Block { request: line.starts_with(">>>"), body: encode(body), line }
        })
        .collect()
}

/// The bytes that stand decoded in a body that holds nothing else.
pub(super) fn decode(body: &str) -> Vec<u8> {
    STANDARD.decode(body).unwrap()
}
