use crate::answer;
use crate::uri;
use crate::xml::Element;

/// Who is to blame: `s:Sender` or `s:Receiver`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultParty {
    /// The request cannot be served as it is.
    Sender,
    /// The request was right; this end could not serve it.
    Receiver,
    /// A header marked mustUnderstand was not understood.
    MustUnderstand,
}

impl FaultParty {
    fn name(self) -> &'static str {
        match self {
            Self::Sender => "Sender",
            Self::Receiver => "Receiver",
            Self::MustUnderstand => "MustUnderstand",
        }
    }
}

/// A WS-Management fault: what PowerShell shows is `<name from the subcode>: <reason>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Who is to blame.
    pub party: FaultParty,
    /// Subcode with its prefix (`w:TimedOut`); empty when the peer sent none.
    pub subcode: String,
    /// `WSManFault/@Code`: the unsigned form of an HRESULT, or a small Win32 code; 0 when the peer sent none.
    pub code: u32,
    /// Text of reason and message.
    pub message: String,
}

/// Characters of a fault's text.
const LONGEST_TEXT: usize = 600;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:expr;)*) => {
        impl Fault {
            $($(#[$doc])* pub const $name: u32 = $code;)*
        }
    };
}

codes! {
    /// The caller may not do that.
    ACCESS_DENIED = 5;
    /// The plug-in got arguments that it cannot use.
    PLUGIN_BAD_ARGUMENTS = 0x8054_0BC4;
    /// The option `protocolversion` names a version that the plug-in does not speak.
    PLUGIN_PROTOCOL_VERSION = 0x8054_0BC5;
    /// The option `protocolversion` is missing.
    PLUGIN_OPTION_MISSING = 0x8054_0BC7;
    /// The plug-in failed; protocol errors inside the shell.
    PLUGIN_EXCEPTION = 0x8054_0FA0;
    /// A SOAP header is not valid.
    INVALID_HEADER = 0x8033_800F;
    /// A header marked mustUnderstand is not understood.
    MUST_UNDERSTAND = 0x8033_8010;
    /// A required header is missing.
    HEADER_REQUIRED = 0x8033_8011;
    /// The action is not supported.
    ACTION_NOT_SUPPORTED = 0x8033_8013;
    /// Nothing to answer within the time that the request gave.
    TIMED_OUT = 0x8033_8029;
    /// An option with MustComply is not known.
    INVALID_OPTIONS = 0x8033_8039;
    /// No such session configuration.
    INVALID_RESOURCE = 0x8033_803B;
    /// The envelope does not have the right form.
    SCHEMA = 0x8033_8041;
    /// The document is not acceptable XML.
    INVALID_XML = 0x8033_8043;
    /// The envelope, or an answer to it, is larger than allowed.
    ENVELOPE_TOO_LARGE = 0x8033_8048;
    /// The shell, or the command, is not known (any more).
    UNEXPECTED_SELECTORS = 0x8033_805B;
    /// The service moved.
    REDIRECT_REQUESTED = 0x8033_8199;
    /// A quota that has no code of its own.
    QUOTA_LIMIT = 0x8033_803F;
    /// Too many shells of this user.
    QUOTA_SHELLS = 0x8033_81A5;
    /// Too many operations of this user.
    QUOTA_OPERATIONS = 0x8033_81A6;
    /// This user sends too fast.
    QUOTA_USER = 0x8033_81A7;
    /// The system is too busy.
    QUOTA_SYSTEM = 0x8033_81A8;
    /// Too many commands of one shell.
    QUOTA_COMMANDS = 0x8033_81E9;
    /// The shell is disconnected: reconnect first.
    SHELL_DISCONNECTED = 0x8033_81C4;
    /// The shell does not support being disconnected.
    DISCONNECT_NOT_SUPPORTED = 0x8033_81C5;
    /// Only the client that disconnected a shell reconnects it; others connect.
    CLIENT_SESSION_MISMATCH = 0x8033_81C6;
    /// Another client is connected to the shell.
    CONNECTED_TO_DIFFERENT_CLIENT = 0x8033_81CD;
    /// The stream of a command ended because its shell was disconnected.
    STREAM_DISCONNECTED = 0x8033_81DE;
}

impl Fault {
    /// A fault with the party and subcode that belong to `code`; unknown codes are the receiver's `w:InternalError`.
    #[must_use]
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        use FaultParty::{MustUnderstand, Receiver, Sender};
        let (party, subcode) = match code {
            Self::ACCESS_DENIED => (Sender, "w:AccessDenied"),
            Self::INVALID_HEADER => (Sender, "a:InvalidMessageInformationHeader"),
            Self::HEADER_REQUIRED => (Sender, "a:MessageInformationHeaderRequired"),
            Self::MUST_UNDERSTAND => (MustUnderstand, ""),
            Self::ACTION_NOT_SUPPORTED => (Sender, "a:ActionNotSupported"),
            Self::TIMED_OUT => (Receiver, "w:TimedOut"),
            Self::INVALID_OPTIONS | Self::PLUGIN_OPTION_MISSING | Self::PLUGIN_PROTOCOL_VERSION => (Sender, "w:InvalidOptions"),
            Self::INVALID_RESOURCE => (Sender, "a:DestinationUnreachable"),
            Self::SCHEMA | Self::INVALID_XML => (Sender, "w:SchemaValidationError"),
            Self::ENVELOPE_TOO_LARGE => (Sender, "w:EncodingLimit"),
            Self::UNEXPECTED_SELECTORS => (Sender, "w:InvalidSelectors"),
            Self::REDIRECT_REQUESTED => (Sender, "a:DestinationUnreachable"),
            Self::QUOTA_LIMIT
            | Self::QUOTA_SHELLS
            | Self::QUOTA_OPERATIONS
            | Self::QUOTA_USER
            | Self::QUOTA_SYSTEM
            | Self::QUOTA_COMMANDS => (Receiver, "w:QuotaLimit"),
            Self::PLUGIN_BAD_ARGUMENTS => (Sender, "w:InvalidParameter"),
            Self::DISCONNECT_NOT_SUPPORTED => (Sender, "w:UnsupportedFeature"),
            Self::SHELL_DISCONNECTED | Self::STREAM_DISCONNECTED => (Receiver, "w:InternalError"),
            Self::CLIENT_SESSION_MISMATCH | Self::CONNECTED_TO_DIFFERENT_CLIENT => (Sender, "w:InvalidSelectors"),
            _ => (Receiver, "w:InternalError"),
        };
        // Texts name what was sent: however long that was, the fault fits the smallest envelope.
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(LONGEST_TEXT) {
            message.truncate(end);
            message.push_str("...");
        }
        Self { party, subcode: subcode.to_owned(), code, message }
    }

    /// Receive found nothing in time: the client asks again.
    #[must_use]
    pub fn timed_out() -> Self {
        Self::new(Self::TIMED_OUT, "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.")
    }

    /// The shell does not exist on this server.
    #[must_use]
    pub fn unknown_shell(shell_id: &str) -> Self {
        Self::new(
            Self::UNEXPECTED_SELECTORS,
            format!(
                "The request for the Windows Remote Shell with ShellId {shell_id} failed because the shell was not found on the server. \
                 Possible causes are: the specified ShellId is incorrect or the shell no longer exists on the server. Provide the correct \
                 ShellId or create a new shell and retry the operation."
            ),
        )
    }

    /// The command does not exist in this shell.
    #[must_use]
    pub fn unknown_command() -> Self {
        Self::new(
            Self::UNEXPECTED_SELECTORS,
            "The Windows Remote Shell received a request to perform an operation on a command identifier that does not exist. Either the \
             command has completed execution or the client specified an invalid command identifier.",
        )
    }

    /// The action is not served.
    #[must_use]
    pub fn action_not_supported(action: &str) -> Self {
        Self::new(
            Self::ACTION_NOT_SUPPORTED,
            format!("The WS-Management service cannot process the request: action {action} is not supported."),
        )
    }

    /// No such session configuration.
    #[must_use]
    pub fn unknown_resource(resource_uri: &str) -> Self {
        Self::new(
            Self::INVALID_RESOURCE,
            format!(
                "The WS-Management service cannot process the request. The resource URI ({resource_uri}) was not found in the WS-Management catalog."
            ),
        )
    }

    /// How long the sender of a load quota's fault wants to be left alone, in milliseconds, where its text says so.
    #[must_use]
    pub fn not_before(&self) -> Option<u64> {
        let is_load = matches!(self.code, Self::QUOTA_USER | Self::QUOTA_SYSTEM);
        let (_, rest) = self.message.split_once("at least ").filter(|_| is_load)?;
        let (number, unit) = rest.trim_start().split_once(' ')?;
        if unit.starts_with("milliseconds") { number.parse().ok() } else { None }
    }

    /// Where the service moved to: the first address in the text of a redirect's fault.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        let start = self.message.find("http").filter(|_| self.code == Self::REDIRECT_REQUESTED)?;
        let end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>');
        let address = self.message.get(start..)?.split(end).next()?;
        Some(address.trim_end_matches(['.', ',', ')']))
    }

    /// The whole answer. `f:Message` with text stands first in the detail: a real client needs it there.
    ///
    /// `relates_to` is the request's MessageID, where one could be read; `message_id` is the answer's own.
    #[must_use]
    pub fn envelope(&self, relates_to: Option<&str>, message_id: &str) -> String {
        let mut out = answer::open(uri::FAULT_ACTION, relates_to, message_id);
        out.push_str("<s:Fault><s:Code><s:Value>s:");
        out.push_str(self.party.name());
        out.push_str("</s:Value>");
        if !self.subcode.is_empty() {
            out.push_str("<s:Subcode><s:Value>");
            answer::escape_into(&self.subcode, &mut out);
            out.push_str("</s:Value></s:Subcode>");
        }
        out.push_str("</s:Code><s:Reason><s:Text xml:lang=\"en-US\">");
        answer::escape_into(&self.message, &mut out);
        out.push_str("</s:Text></s:Reason><s:Detail><f:WSManFault xmlns:f=\"");
        out.push_str(uri::FAULT);
        out.push_str("\" Code=\"");
        out.push_str(&self.code.to_string());
        out.push_str("\"><f:Message>");
        answer::escape_into(&self.message, &mut out);
        out.push_str("</f:Message></f:WSManFault></s:Detail></s:Fault>");
        answer::close(out)
    }

    /// Reads a fault as any server writes it: the text comes from `f:Message`, from the provider's message inside it,
    /// or from the reason.
    pub(crate) fn read(element: &Element) -> Self {
        let code = element.child(uri::SOAP, "Code");
        let party = match code.and_then(|c| c.child(uri::SOAP, "Value")).map(|v| local(&v.text)) {
            Some("Receiver") => FaultParty::Receiver,
            Some("MustUnderstand") => FaultParty::MustUnderstand,
            _ => FaultParty::Sender,
        };
        let subcode = code.and_then(|c| c.child(uri::SOAP, "Subcode")).and_then(|c| c.child(uri::SOAP, "Value"));
        let detail = element.child(uri::SOAP, "Detail").and_then(|d| d.child(uri::FAULT, "WSManFault"));
        let message = detail.and_then(|d| d.child(uri::FAULT, "Message"));
        let reason = element.child(uri::SOAP, "Reason").and_then(|r| r.child(uri::SOAP, "Text"));
        let text = [message.map(|m| m.text.trim().to_owned()), message.map(Element::deep_text), reason.map(|r| r.text.trim().to_owned())]
            .into_iter()
            .flatten()
            .find(|t| !t.is_empty())
            .unwrap_or_default();
        let number = detail.and_then(|d| d.attribute("Code")).and_then(|c| c.trim().parse::<i64>().ok()).unwrap_or(0);
        Self {
            party,
            subcode: subcode.map(|s| s.text.trim().to_owned()).unwrap_or_default(),
            // Some servers write the signed form.
            code: u32::try_from(number).or_else(|_| i32::try_from(number).map(i32::cast_unsigned)).unwrap_or(0),
            message: text,
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (WS-Management fault {}", self.message, self.code)?;
        if !self.subcode.is_empty() {
            write!(f, ", {}", self.subcode)?;
        }
        f.write_str(")")
    }
}

impl std::error::Error for Fault {}

fn local(qualified: &str) -> &str {
    let text = qualified.trim();
    text.rsplit(':').next().unwrap_or(text)
}
