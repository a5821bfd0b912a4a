use std::sync::Arc;

use exops_psobject::Value;

use crate::{Cmdlet, Parameter};

/// One argument as a client sent it.
///
/// `-Name value` from a parsed script arrives as a name without value followed by a value without name, which
/// only binding against metadata can tell from a switch and a positional argument.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Argument {
    /// Name as sent, without a leading dash or trailing colon; `None` for a positional value.
    pub name: Option<String>,
    /// The value; `None` when a name came alone.
    pub value: Option<Value>,
    /// The name ended with a colon (`-Name:`): the value belongs to it whatever the metadata says.
    pub glued: bool,
}

/// One command of a pipeline as sent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Command {
    /// Cmdlet name as sent, or script text.
    pub name: String,
    /// The name is script text.
    pub is_script: bool,
    /// Arguments in order.
    pub arguments: Vec<Argument>,
    /// Errors of this command travel in the output stream (`2>&1`).
    pub merge_errors: bool,
}

impl Command {
    /// A command without arguments.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Adds a named argument.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.arguments.push(Argument { name: Some(name.to_owned()), value: Some(value.into()), glued: true });
        self
    }
}

/// Commands joined by pipes, as a client sent them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pipeline {
    /// At least one command.
    pub commands: Vec<Command>,
}

impl From<Command> for Pipeline {
    fn from(command: Command) -> Self {
        Self { commands: vec![command] }
    }
}

/// A parameter and its converted, validated value.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundArgument {
    /// The parameter.
    pub parameter: Arc<Parameter>,
    /// The value after conversion. A switch is `Bool`.
    pub value: Value,
}

/// A cmdlet with all its names resolved and values converted.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundCommand {
    /// The cmdlet as the caller's catalogue has it.
    pub cmdlet: Arc<Cmdlet>,
    /// The resolved parameter set, where the cmdlet has several.
    pub set: Option<Arc<str>>,
    /// In the order of binding.
    pub arguments: Vec<BoundArgument>,
}

impl BoundCommand {
    /// The value of a parameter by canonical name without case.
    #[must_use]
    pub fn argument(&self, name: &str) -> Option<&Value> {
        self.arguments.iter().find(|a| a.parameter.name.eq_ignore_ascii_case(name)).map(|a| &a.value)
    }

    /// A switch or boolean; absent is `false`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.argument(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// SHA-256 over the canonical name, the set, and every parameter name and value in a fixed order: what a permit
    /// names.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        crate::digest::digest(self)
    }
}

/// Commands that every session offers without a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LocalStage {
    /// `Select-Object -Property … -First n -Last n -Skip n -Unique -ExpandProperty p`.
    SelectObject,
    /// `Measure-Object`: counts.
    MeasureObject,
    /// `Get-Command`; this and the following exist in a restricted session only.
    GetCommand,
    /// `Get-FormatData`: the views of output types.
    GetFormatData,
    /// `Get-Help`.
    GetHelp,
    /// `Out-Default`: shows what it is given on the client's host.
    OutDefault,
    /// `Exit-PSSession`: the client leaves an interactive session.
    ExitPsSession,
    /// `Clear-Host`.
    ClearHost,
}

impl LocalStage {
    /// Exists at every end, not in restricted sessions only.
    #[must_use]
    pub fn is_everywhere(self) -> bool {
        matches!(self, Self::SelectObject | Self::MeasureObject)
    }

    /// Makes output of its own, so it can stand first in a pipeline.
    #[must_use]
    pub fn is_source(self) -> bool {
        matches!(self, Self::GetCommand | Self::GetFormatData | Self::GetHelp)
    }
}

/// One stage of a bound pipeline.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Stage {
    /// Runs in the backend.
    Cmdlet(BoundCommand),
    /// Runs in front of it, in this process.
    Local(LocalStage, BoundCommand),
    /// Not in the catalogue of this end: travels as sent, for the far end to judge. A local backend refuses it.
    Unresolved(Command),
}

/// A pipeline whose names are resolved against a catalogue.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundPipeline {
    /// At least one stage.
    pub stages: Vec<Stage>,
}
