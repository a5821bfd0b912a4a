use exops_psobject::{PsObject, Value};

use crate::notes::{Reader, adapted, dictionary, enumeration, notes, text, typed_list, types};
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

impl MetadataRequest {
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
