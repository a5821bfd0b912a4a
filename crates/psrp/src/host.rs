use exops_psobject::{ErrorRecord, PsObject, Value};

use crate::notes::{Reader, array_list, enumeration, notes, object, text, types};
use crate::record::error_to_value;
use crate::{FieldDescription, MessageType, ProtocolError};

/// Calls that expect no answer carry this id.
pub(crate) const NO_ANSWER: i64 = -100;

macro_rules! methods {
    ($($name:ident = $number:literal,)*) => {
        /// Methods of a client's host (MS-PSRP 2.2.3.17).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the names are those of the specification")]
        pub enum HostMethod {
            $($name,)*
            /// A method that this end does not know.
            Unknown(i32),
        }

        impl HostMethod {
            /// From the wire number.
            #[must_use]
            pub fn from_number(number: i64) -> Self {
                match number {
                    $($number => Self::$name,)*
                    other => Self::Unknown(i32::try_from(other).unwrap_or(0)),
                }
            }

            /// The wire number.
            #[must_use]
            pub fn number(self) -> i32 {
                match self {
                    $(Self::$name => $number,)*
                    Self::Unknown(other) => other,
                }
            }

            fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    Self::Unknown(_) => "Unknown",
                }
            }
        }
    };
}

methods! {
    GetName = 1,
    GetVersion = 2,
    GetInstanceId = 3,
    GetCurrentCulture = 4,
    GetCurrentUICulture = 5,
    SetShouldExit = 6,
    EnterNestedPrompt = 7,
    ExitNestedPrompt = 8,
    NotifyBeginApplication = 9,
    NotifyEndApplication = 10,
    ReadLine = 11,
    ReadLineAsSecureString = 12,
    Write1 = 13,
    Write2 = 14,
    WriteLine1 = 15,
    WriteLine2 = 16,
    WriteLine3 = 17,
    WriteErrorLine = 18,
    WriteDebugLine = 19,
    WriteProgress = 20,
    WriteVerboseLine = 21,
    WriteWarningLine = 22,
    Prompt = 23,
    PromptForCredential1 = 24,
    PromptForCredential2 = 25,
    PromptForChoice = 26,
    GetForegroundColor = 27,
    SetForegroundColor = 28,
    GetBackgroundColor = 29,
    SetBackgroundColor = 30,
    GetCursorPosition = 31,
    SetCursorPosition = 32,
    GetWindowPosition = 33,
    SetWindowPosition = 34,
    GetCursorSize = 35,
    SetCursorSize = 36,
    GetBufferSize = 37,
    SetBufferSize = 38,
    GetWindowSize = 39,
    SetWindowSize = 40,
    GetWindowTitle = 41,
    SetWindowTitle = 42,
    GetMaxWindowSize = 43,
    GetMaxPhysicalWindowSize = 44,
    GetKeyAvailable = 45,
    ReadKey = 46,
    FlushInputBuffer = 47,
    SetBufferContents1 = 48,
    SetBufferContents2 = 49,
    GetBufferContents = 50,
    ScrollBufferContents = 51,
    PushRunspace = 52,
    PopRunspace = 53,
    GetIsRunspacePushed = 54,
    GetRunspace = 55,
    PromptForChoiceMultipleSelection = 56,
}

/// A call of the client's host by the server.
#[derive(Debug, Clone, PartialEq)]
pub struct HostCall {
    /// Answers carry it; -100 when none is expected.
    pub call_id: i64,
    /// What to do.
    pub method: HostMethod,
    /// Parameters in order.
    pub parameters: Vec<Value>,
}

/// The client's answer to a host call.
#[derive(Debug, Clone, PartialEq)]
pub struct HostResponse {
    /// Id of the call.
    pub call_id: i64,
    /// Method of the call.
    pub method: HostMethod,
    /// What the method returned, or its exception.
    pub result: Result<Value, Box<ErrorRecord>>,
}

pub(crate) fn method_value(method: HostMethod) -> Value {
    enumeration("System.Management.Automation.Remoting.RemoteHostMethodId", method.name(), method.number())
}

impl HostCall {
    /// `true` when the server waits for an answer.
    #[must_use]
    pub fn expects_answer(&self) -> bool {
        self.call_id != NO_ANSWER
    }

    /// The answer to it.
    #[must_use]
    pub fn answer(&self, result: Result<Value, Box<ErrorRecord>>) -> HostResponse {
        HostResponse { call_id: self.call_id, method: self.method, result }
    }

    pub(crate) fn to_value(&self) -> Value {
        object([("ci", self.call_id.into()), ("mi", method_value(self.method)), ("mp", array_list(self.parameters.clone()))])
    }

    pub(crate) fn from_value(kind: MessageType, value: &Value) -> Result<Self, ProtocolError> {
        let reader = Reader::new(kind, value)?;
        Ok(Self {
            call_id: reader.number("ci")?,
            method: HostMethod::from_number(reader.number("mi")?),
            parameters: reader.list("mp").to_vec(),
        })
    }
}

impl HostResponse {
    pub(crate) fn to_value(&self) -> Value {
        let mut content = notes([]);
        match &self.result {
            Ok(Value::Null) => {}
            Ok(value) => content.extended.push("mr", value.clone()),
            Err(record) => content.extended.push("me", error_to_value(record)),
        }
        content.extended.push("ci", self.call_id);
        content.extended.push("mi", method_value(self.method));
        content.into()
    }

    pub(crate) fn from_value(kind: MessageType, value: &Value) -> Result<Self, ProtocolError> {
        let reader = Reader::new(kind, value)?;
        let result = match reader.get("me") {
            Some(error) => Err(Box::new(crate::error_from_value(error))),
            None => Ok(reader.get("mr").cloned().unwrap_or_default()),
        };
        Ok(Self { call_id: reader.number("ci")?, method: HostMethod::from_number(reader.number("mi")?), result })
    }
}

/// Parameters of PromptForChoice: caption, message, `(label, help)` of each choice, index of the default. The answer is
/// the index of the choice taken (I32).
#[must_use]
pub fn choice_call(caption: &str, message: &str, choices: &[(&str, &str)], default: i32) -> (HostMethod, Vec<Value>) {
    let choice = |(label, help): &(&str, &str)| {
        let bag = PsObject {
            type_names: types(&["System.Management.Automation.Host.ChoiceDescription", "System.Object"]),
            ..notes([("label", text(label)), ("helpMessage", text(help))])
        };
        Value::from(bag)
    };
    let list = array_list(choices.iter().map(choice).collect());
    (HostMethod::PromptForChoice, vec![text(caption), text(message), list, default.into()])
}

/// Parameters of ReadLine; the answer is the line (S).
#[must_use]
pub fn read_line_call() -> (HostMethod, Vec<Value>) {
    (HostMethod::ReadLine, Vec::new())
}

/// Parameters of PromptForCredential: caption, message, the name that is offered, where the credential will be used. The answer
/// is a PSCredential with `UserName` (S) and `Password` (SS).
#[must_use]
pub fn credential_call(caption: &str, message: &str, user: &str, target: &str) -> (HostMethod, Vec<Value>) {
    (HostMethod::PromptForCredential1, [caption, message, user, target].map(text).into())
}

/// Parameters of Prompt: caption, message, and what is asked. The answer is a hashtable with the names as keys; a SecureString in it
/// is an SS.
#[must_use]
pub fn prompt_call(caption: &str, message: &str, fields: &[FieldDescription]) -> (HostMethod, Vec<Value>) {
    let field = |field: &FieldDescription| {
        let kind = field.type_name.as_str();
        // The two that PowerShell 5 loads such types from.
        let (assembly, version, key) = match kind.starts_with("System.Management.Automation.") {
            true => ("System.Management.Automation", "3.0.0.0", "31bf3856ad364e35"),
            false => ("mscorlib", "4.0.0.0", "b77a5c561934e089"),
        };
        let assembly = format!("{kind}, {assembly}, Version={version}, Culture=neutral, PublicKeyToken={key}");
        let mut content = notes([
            ("name", text(&field.name)),
            ("label", text(&field.label)),
            ("parameterTypeName", text(kind.rsplit('.').next().unwrap_or(kind))),
            ("parameterTypeFullName", text(kind)),
            ("parameterAssemblyFullName", text(&assembly)),
            ("helpMessage", text(&field.help)),
            ("isMandatory", field.is_mandatory.into()),
            ("metadata", array_list(Vec::new())),
            ("modifiedByRemotingProtocol", false.into()),
            ("isFromRemoteHost", false.into()),
        ]);
        if let Some(default) = &field.default {
            content.extended.push("defaultValue", default.clone());
        }
        content.into()
    };
    (HostMethod::Prompt, vec![text(caption), text(message), array_list(fields.iter().map(field).collect())])
}
