use exops_psobject::{Base, PsObject, Value};

use thiserror::Error;

use crate::notes::{Reader, adapted, dictionary, enumeration, notes, object, text, typed_list, types};
use crate::{MessageType, ProtocolError};

/// Content of GET_COMMAND_METADATA: what Import-PSSession asks first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataRequest {
    /// Name patterns with `*` and `?`; `*` when the client gave none.
    pub names: Vec<String>,
    /// Flags of CommandTypes: 1 alias, 2 function, 8 cmdlet …
    pub command_types: i64,
    /// Module names; empty for all.
    pub namespaces: Vec<String>,
}

/// Alias, function, filter, cmdlet and configuration: what PowerShell asks for.
const USUAL_TYPES: i64 = 271;
/// Most commands of one answer, and most parameters of a command, that are read.
pub const MOST_COMMANDS: usize = 20_000;

impl MetadataRequest {
    /// Commands of every usual kind whose names match one of these patterns.
    #[must_use]
    pub fn of_names(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { names: names.into_iter().map(Into::into).collect(), command_types: USUAL_TYPES, namespaces: Vec::new() }
    }

    pub(crate) fn to_value(&self) -> Value {
        let texts =
            |texts: &[String]| typed_list(&["System.String[]", "System.Array", "System.Object"], texts.iter().map(|t| text(t)).collect());
        let kinds = PsObject {
            type_names: types(&["System.Management.Automation.CommandTypes", "System.Enum", "System.ValueType", "System.Object"]),
            base: Base::Primitive(i32::try_from(self.command_types).unwrap_or(i32::MAX).into()),
            ..PsObject::default()
        };
        object([
            ("Name", texts(&self.names)),
            ("CommandType", kinds.into()),
            ("Namespace", texts(&self.namespaces)),
            ("FullyQualifiedModule", Value::Null),
            ("ArgumentList", Value::Null),
        ])
    }

    pub(crate) fn from_value(value: &Value) -> Result<Self, ProtocolError> {
        let reader = Reader::new(MessageType::GetCommandMetadata, value)?;
        let texts = |name: &str| reader.list(name).iter().map(Value::display).filter(|t| !t.is_empty()).collect::<Vec<_>>();
        let mut names = texts("Name");
        if names.is_empty() {
            names.push("*".to_owned());
        }
        Ok(Self {
            names,
            command_types: reader.get("CommandType").and_then(Value::as_i64).unwrap_or(i64::MAX),
            namespaces: texts("Namespace"),
        })
    }
}

/// The kind of a command with its number in CommandTypes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandKind {
    /// 2.
    Function,
    /// 8.
    Cmdlet,
}

/// A parameter as Import-PSSession needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterDescription<'a> {
    /// Name as it shall be spelt. Common parameters must be among them, or the proxy treats them as its own badly.
    pub name: &'a str,
    /// .NET type name; `None` when not known.
    pub type_name: Option<&'a str>,
    /// Other names.
    pub aliases: &'a [&'a str],
    /// A switch.
    pub is_switch: bool,
}

/// A command as the answer to GET_COMMAND_METADATA describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandDescription<'a> {
    /// Name; must match a pattern that was asked for.
    pub name: &'a str,
    /// What it is.
    pub kind: CommandKind,
    /// Module.
    pub namespace: &'a str,
    /// All parameters, common ones included.
    pub parameters: Vec<ParameterDescription<'a>>,
}

/// The first object of the answer: how many command objects follow. Without it, or with another type than I32, the
/// client gives up.
#[must_use]
pub fn count_object(count: i32) -> Value {
    PsObject {
        type_names: types(&[
            "Selected.Microsoft.PowerShell.Commands.GenericMeasureInfo",
            "System.Management.Automation.PSCustomObject",
            "System.Object",
        ]),
        ..notes([("Count", count.into())])
    }
    .into()
}

impl CommandDescription<'_> {
    /// The command object. HelpUri is empty: clients would fetch help for every command otherwise.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let (member, number) = match self.kind {
            CommandKind::Function => ("Function", 2),
            CommandKind::Cmdlet => ("Cmdlet", 8),
        };
        let parameters = self.parameters.iter().map(|p| (text(p.name), p.to_value())).collect();
        PsObject {
            type_names: types(&[
                "Selected.System.Management.Automation.CmdletInfo",
                "System.Management.Automation.PSCustomObject",
                "System.Object",
            ]),
            ..notes([
                ("Name", text(self.name)),
                ("Namespace", text(self.namespace)),
                ("HelpUri", text("")),
                ("CommandType", enumeration("System.Management.Automation.CommandTypes", member, number)),
                ("ResolvedCommandName", Value::Null),
                ("OutputType", typed_list(&["System.Collections.ObjectModel.ReadOnlyCollection`1", "System.Object"], Vec::new())),
                ("Parameters", dictionary(&["System.Collections.Generic.Dictionary`2", "System.Object"], parameters)),
            ])
        }
        .into()
    }
}

impl ParameterDescription<'_> {
    /// In `Props`: pypsrp finds them only there; PowerShell takes both.
    fn to_value(&self) -> Value {
        let aliases = self.aliases.iter().map(|a| text(a)).collect();
        PsObject {
            type_names: types(&["System.Management.Automation.ParameterMetadata", "System.Object"]),
            to_string: Some("System.Management.Automation.ParameterMetadata".into()),
            adapted: adapted([
                ("Name", text(self.name)),
                ("ParameterType", self.type_name.map_or(Value::Null, text)),
                ("Aliases", typed_list(&["System.Collections.ObjectModel.Collection`1", "System.Object"], aliases)),
                ("IsDynamic", false.into()),
                ("SwitchParameter", self.is_switch.into()),
            ]),
            ..PsObject::default()
        }
        .into()
    }
}

/// A command as a server described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandMetadata {
    /// Name.
    pub name: String,
    /// Number of its kind in CommandTypes: 1 alias, 2 function, 8 cmdlet …
    pub command_type: i64,
    /// Module; may be empty.
    pub namespace: String,
    /// What an alias stands for.
    pub resolved: Option<String>,
    /// All parameters, common ones included, in the server's order.
    pub parameters: Vec<ParameterMetadata>,
}

/// A parameter as a server described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterMetadata {
    /// Name.
    pub name: String,
    /// .NET type name, where the server tells.
    pub type_name: Option<String>,
    /// Other names.
    pub aliases: Vec<String>,
    /// A switch.
    pub is_switch: bool,
}

/// Why the answer to GET_COMMAND_METADATA is of no use.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// The first object does not say how many follow.
    #[error("the list of commands does not begin with their number")]
    NoCount,
    /// There are not as many as it says.
    #[error("the list of commands has {found} of {announced}")]
    Incomplete {
        /// What the first object said.
        announced: i64,
        /// How many there are.
        found: usize,
    },
    /// More than anybody has.
    #[error("the list of commands names {count} {what}, and at most {MOST_COMMANDS} are taken")]
    TooMany {
        /// Commands or parameters.
        what: &'static str,
        /// How many.
        count: i64,
    },
    /// An object lacks what a command must have.
    #[error("a command in the list has no usable {0}")]
    Lacks(&'static str),
}

/// Reads the whole output of a pipeline that [`ClientPool::get_commands`](crate::ClientPool::get_commands) began.
///
/// # Errors
/// When it is not the number of the commands and then as many commands.
pub fn read_commands(output: &[Value]) -> Result<Vec<CommandMetadata>, MetadataError> {
    let (first, rest) = output.split_first().ok_or(MetadataError::NoCount)?;
    let announced = first.as_object().and_then(|o| o.property("Count")).and_then(Value::as_i64).ok_or(MetadataError::NoCount)?;
    bounded("commands", announced.max(i64::try_from(rest.len()).unwrap_or(i64::MAX)))?;
    if usize::try_from(announced) != Ok(rest.len()) {
        return Err(MetadataError::Incomplete { announced, found: rest.len() });
    }
    rest.iter().map(CommandMetadata::from_value).collect()
}

fn bounded(what: &'static str, count: i64) -> Result<(), MetadataError> {
    if usize::try_from(count).is_ok_and(|count| count > MOST_COMMANDS) { Err(MetadataError::TooMany { what, count }) } else { Ok(()) }
}

fn filled(object: &PsObject, name: &str) -> Option<String> {
    object.property(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

impl CommandMetadata {
    fn from_value(value: &Value) -> Result<Self, MetadataError> {
        let object = value.as_object().ok_or(MetadataError::Lacks("Name"))?;
        let kind = object.property("CommandType").ok_or(MetadataError::Lacks("CommandType"))?;
        let parameters = match object.property("Parameters").filter(|v| !v.is_null()) {
            // Such a command takes anything.
            None => &[],
            Some(value) => value.as_object().and_then(|o| o.dictionary()).ok_or(MetadataError::Lacks("Parameters"))?,
        };
        bounded("parameters", i64::try_from(parameters.len()).unwrap_or(i64::MAX))?;
        Ok(Self {
            name: filled(object, "Name").ok_or(MetadataError::Lacks("Name"))?,
            // Some servers send the member's name alone.
            command_type: kind.as_i64().or_else(|| kind_number(&kind.display())).ok_or(MetadataError::Lacks("CommandType"))?,
            namespace: filled(object, "Namespace").unwrap_or_default(),
            resolved: filled(object, "ResolvedCommandName"),
            parameters: parameters.iter().map(|(_, value)| ParameterMetadata::from_value(value)).collect::<Result<_, _>>()?,
        })
    }
}

fn kind_number(name: &str) -> Option<i64> {
    let kinds = [("Alias", 1), ("Function", 2), ("Filter", 4), ("Cmdlet", 8), ("Configuration", 256)];
    kinds.into_iter().find(|(kind, _)| kind.eq_ignore_ascii_case(name)).map(|(_, number)| number)
}

impl ParameterMetadata {
    fn from_value(value: &Value) -> Result<Self, MetadataError> {
        let object = value.as_object().ok_or(MetadataError::Lacks("parameter"))?;
        Ok(Self {
            name: filled(object, "Name").ok_or(MetadataError::Lacks("parameter's Name"))?,
            type_name: filled(object, "ParameterType"),
            aliases: object.property("Aliases").and_then(Value::as_list).unwrap_or_default().iter().map(Value::display).collect(),
            is_switch: object.property("SwitchParameter").and_then(Value::as_bool).unwrap_or(false),
        })
    }
}
