use exops_psobject::Value;

use crate::notes::{Reader, enumeration, notes, object, text, typed_list};
use crate::{MessageType, ProtocolError};

/// One argument as it travels (MS-PSRP 2.2.3.13).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Argument {
    /// Name without leading dash and trailing colon; `None` for a positional value.
    pub name: Option<String>,
    /// `None` when a name came without a value: only the cmdlet's metadata tells whether it is a switch or whether the
    /// next positional value belongs to it.
    pub value: Option<Value>,
    /// The value belongs to the name whatever the metadata says: both came together, or the name ended with a colon.
    pub glued: bool,
}

impl Argument {
    /// A name with its value.
    #[must_use]
    pub fn named(name: &str, value: impl Into<Value>) -> Self {
        Self { name: Some(name.to_owned()), value: Some(value.into()), glued: true }
    }

    fn from_value(value: &Value) -> Result<Self, ProtocolError> {
        let reader = Reader::new(MessageType::CreatePipeline, value)?;
        let name = match reader.get("N") {
            None => None,
            Some(name) => Some(name.as_str().ok_or_else(|| reader.lacks("N"))?),
        };
        let value = reader.get("V").cloned();
        let Some(name) = name.filter(|n| !n.is_empty()) else {
            return Ok(Self { name: None, value: Some(value.unwrap_or_default()), glued: false });
        };
        let bare = name.strip_prefix('-').unwrap_or(name);
        let (bare, colon) = bare.strip_suffix(':').map_or((bare, false), |b| (b, true));
        let glued = colon || value.is_some();
        let value = if colon { Some(value.unwrap_or_default()) } else { value };
        Ok(Self { name: Some(bare.to_owned()), value, glued })
    }

    fn to_value(&self) -> Value {
        let name = match (&self.name, self.glued) {
            (None, _) => Value::Null,
            (Some(name), true) => Value::from(format!("-{name}:")),
            (Some(name), false) => Value::from(format!("-{name}")),
        };
        object([("N", name), ("V", self.value.clone().unwrap_or_default())])
    }
}

/// Where a command's streams go: numbers of `PipelineResultTypes` (0 none, 1 output, 2 error, 3 warning …).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merge {
    /// `MergeMyResult`.
    pub my_result: i32,
    /// `MergeToResult`.
    pub to_result: i32,
    /// `MergePreviousResults`.
    pub previous_results: i32,
    /// `MergeError`.
    pub error: i32,
    /// `MergeWarning`.
    pub warning: i32,
    /// `MergeVerbose`.
    pub verbose: i32,
    /// `MergeDebug`.
    pub debug: i32,
    /// `MergeInformation`.
    pub information: i32,
}

const OUTPUT: i32 = 1;
const ERROR: i32 = 2;
const RESULT_TYPES: [&str; 7] = ["None", "Output", "Error", "Warning", "Verbose", "Debug", "Information"];

/// One command of a pipeline.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Command {
    /// Cmdlet name, or script text.
    pub name: String,
    /// The name is script text.
    pub is_script: bool,
    /// `UseLocalScope`.
    pub use_local_scope: Option<bool>,
    /// Where its streams go.
    pub merge: Merge,
    /// In order.
    pub arguments: Vec<Argument>,
}

impl Command {
    /// A cmdlet without arguments.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Adds a named argument.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.arguments.push(Argument::named(name, value));
        self
    }

    /// Its errors travel in the output stream (`2>&1`).
    #[must_use]
    pub fn merges_errors(&self) -> bool {
        self.merge.error == OUTPUT || (self.merge.my_result == ERROR && self.merge.to_result == OUTPUT)
    }

    fn from_value(value: &Value) -> Result<Self, ProtocolError> {
        let reader = Reader::new(MessageType::CreatePipeline, value)?;
        let stream = |name: &str| reader.get(name).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
        Ok(Self {
            name: reader.text("Cmd")?.to_owned(),
            is_script: reader.flag("IsScript"),
            use_local_scope: reader.get("UseLocalScope").and_then(Value::as_bool),
            merge: Merge {
                my_result: stream("MergeMyResult"),
                to_result: stream("MergeToResult"),
                previous_results: stream("MergePreviousResults"),
                error: stream("MergeError"),
                warning: stream("MergeWarning"),
                verbose: stream("MergeVerbose"),
                debug: stream("MergeDebug"),
                information: stream("MergeInformation"),
            },
            arguments: reader.list("Args").iter().map(Argument::from_value).collect::<Result<_, _>>()?,
        })
    }

    fn to_value(&self) -> Value {
        let stream = |number: i32| {
            let member = usize::try_from(number).ok().and_then(|n| RESULT_TYPES.get(n)).copied().unwrap_or("None");
            enumeration("System.Management.Automation.Runspaces.PipelineResultTypes", member, number)
        };
        object([
            ("Cmd", text(&self.name)),
            ("IsScript", self.is_script.into()),
            ("UseLocalScope", self.use_local_scope.map_or(Value::Null, Value::Bool)),
            ("MergeMyResult", stream(self.merge.my_result)),
            ("MergeToResult", stream(self.merge.to_result)),
            ("MergePreviousResults", stream(self.merge.previous_results)),
            ("MergeError", stream(self.merge.error)),
            ("MergeWarning", stream(self.merge.warning)),
            ("MergeVerbose", stream(self.merge.verbose)),
            ("MergeDebug", stream(self.merge.debug)),
            ("MergeInformation", stream(self.merge.information)),
            ("Args", object_list(self.arguments.iter().map(Argument::to_value).collect())),
        ])
    }
}

fn object_list(items: Vec<Value>) -> Value {
    typed_list(
        &["System.Collections.Generic.List`1[[System.Management.Automation.PSObject, System.Management.Automation]]", "System.Object"],
        items,
    )
}

/// What host the client has (MS-PSRP 2.2.3.14), without its colours and sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostInfo {
    /// `_isHostNull`.
    pub is_host_null: bool,
    /// `_isHostUINull`.
    pub is_ui_null: bool,
    /// `_isHostRawUINull`.
    pub is_raw_ui_null: bool,
    /// `_useRunspaceHost`: the pipeline uses the host of the pool.
    pub use_runspace_host: bool,
}

impl HostInfo {
    /// No host; a pipeline that says this uses the pool's.
    pub const NONE: Self = Self { is_host_null: true, is_ui_null: true, is_raw_ui_null: true, use_runspace_host: true };
    /// A host with a user interface, but no screen.
    pub const INTERACTIVE: Self = Self { is_host_null: false, is_ui_null: false, is_raw_ui_null: true, use_runspace_host: false };

    /// Somebody is there who sees lines and can be asked.
    #[must_use]
    pub fn has_ui(self) -> bool {
        !self.is_host_null && !self.is_ui_null
    }

    pub(crate) fn from_value(value: Option<&Value>) -> Self {
        let Some(object) = value.and_then(Value::as_object) else { return Self::NONE };
        let flag = |name: &str, absent: bool| object.property(name).and_then(Value::as_bool).unwrap_or(absent);
        Self {
            is_host_null: flag("_isHostNull", true),
            is_ui_null: flag("_isHostUINull", true),
            is_raw_ui_null: flag("_isHostRawUINull", true),
            use_runspace_host: flag("_useRunspaceHost", false),
        }
    }

    pub(crate) fn to_value(self) -> Value {
        object([
            ("_isHostNull", self.is_host_null.into()),
            ("_isHostUINull", self.is_ui_null.into()),
            ("_isHostRawUINull", self.is_raw_ui_null.into()),
            ("_useRunspaceHost", self.use_runspace_host.into()),
        ])
    }
}

/// Content of CREATE_PIPELINE.
#[derive(Debug, Clone, PartialEq)]
pub struct PipelineRequest {
    /// The first statement: commands joined by pipes, at least one.
    pub commands: Vec<Command>,
    /// Statements after the first one (`a; b`).
    pub more_statements: Vec<Vec<Command>>,
    /// No pipeline input will come.
    pub no_input: bool,
    /// `AddToHistory`.
    pub add_to_history: bool,
    /// The line as the user wrote it, when there was one.
    pub history: Option<String>,
    /// Nested in another pipeline (a debugger's).
    pub is_nested: bool,
    /// `RemoteStreamOptions`: 1 error, 2 warning, 4 verbose, 8 debug records shall carry their invocation.
    pub remote_stream_options: i32,
    /// The client's host for this pipeline.
    pub host: HostInfo,
}

impl Default for PipelineRequest {
    /// No commands yet, no input, the pool's host.
    fn default() -> Self {
        Self {
            commands: Vec::new(),
            more_statements: Vec::new(),
            no_input: true,
            add_to_history: false,
            history: None,
            is_nested: false,
            remote_stream_options: 0,
            host: HostInfo::NONE,
        }
    }
}

impl From<Command> for PipelineRequest {
    fn from(command: Command) -> Self {
        Self { commands: vec![command], ..Self::default() }
    }
}

impl PipelineRequest {
    /// Errors of the last command travel in the output stream.
    #[must_use]
    pub fn merges_errors(&self) -> bool {
        self.commands.last().is_some_and(Command::merges_errors)
    }

    pub(crate) fn from_value(value: &Value) -> Result<Self, ProtocolError> {
        let reader = Reader::new(MessageType::CreatePipeline, value)?;
        let shell = reader.reader("PowerShell")?;
        // With several statements ExtraCmds holds all of them, and Cmds repeats the first.
        let mut statements = Vec::new();
        for statement in shell.list("ExtraCmds") {
            statements.push(commands(&Reader::new(MessageType::CreatePipeline, statement)?)?);
        }
        let first = if statements.is_empty() { commands(&shell)? } else { statements.remove(0) };
        Ok(Self {
            commands: first,
            more_statements: statements,
            no_input: reader.get("NoInput").and_then(Value::as_bool).unwrap_or(true),
            add_to_history: reader.flag("AddToHistory"),
            history: shell.get("History").and_then(Value::as_str).map(str::to_owned),
            is_nested: reader.flag("IsNested") || shell.flag("IsNested"),
            remote_stream_options: reader
                .get("RemoteStreamOptions")
                .and_then(Value::as_i64)
                .and_then(|n| i32::try_from(n).ok())
                .unwrap_or(0),
            host: HostInfo::from_value(reader.get("HostInfo")),
        })
    }

    pub(crate) fn to_value(&self) -> Value {
        let list = |commands: &[Command]| object_list(commands.iter().map(Command::to_value).collect());
        let mut shell = notes([("Cmds", list(&self.commands))]);
        if !self.more_statements.is_empty() {
            let all = std::iter::once(&self.commands).chain(&self.more_statements);
            shell.extended.push("ExtraCmds", object_list(all.map(|s| object([("Cmds", list(s))])).collect()));
        }
        shell.extended.push("IsNested", self.is_nested);
        shell.extended.push("History", self.history.as_deref().map_or(Value::Null, text));
        shell.extended.push("RedirectShellErrorOutputPipe", true);
        let options = self.remote_stream_options;
        object([
            ("NoInput", self.no_input.into()),
            ("ApartmentState", enumeration("System.Threading.ApartmentState", "Unknown", 2)),
            ("RemoteStreamOptions", enumeration("System.Management.Automation.RemoteStreamOptions", &options.to_string(), options)),
            ("AddToHistory", self.add_to_history.into()),
            ("HostInfo", self.host.to_value()),
            ("PowerShell", shell.into()),
            ("IsNested", self.is_nested.into()),
        ])
    }
}

fn commands(reader: &Reader<'_>) -> Result<Vec<Command>, ProtocolError> {
    let commands = reader.list("Cmds").iter().map(Command::from_value).collect::<Result<Vec<_>, _>>()?;
    if commands.is_empty() { Err(reader.lacks("Cmds")) } else { Ok(commands) }
}
