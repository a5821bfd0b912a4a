//! What a restricted session answers itself: `Get-Command`, `Get-FormatData`, `Get-Help`.

use exops_catalogue::view::{self, Column};
use exops_catalogue::{BoundCommand, Catalogue, Cmdlet, LocalStage, ParameterKind};
use exops_psobject::{Base, ErrorCategory, ErrorRecord, ListKind, Properties, PsObject, Value, wildcard};
use exops_runspace::Record;
use uuid::Uuid;

use crate::translate;

/// `CommandTypes.Cmdlet`.
const CMDLET: i64 = 8;

/// The records of a command that makes its own. `catalogue` holds what exists for the caller.
pub(crate) fn records(stage: LocalStage, command: &BoundCommand, catalogue: &Catalogue) -> Vec<Record> {
    match stage {
        LocalStage::GetCommand => get_command(command, catalogue),
        LocalStage::GetFormatData => get_format_data(command),
        LocalStage::GetHelp => get_help(command, catalogue),
        _ => Vec::new(),
    }
}

/// A parameter's value as texts.
fn texts(command: &BoundCommand, parameter: &str) -> Vec<String> {
    match command.argument(parameter) {
        None | Some(Value::Null) => Vec::new(),
        Some(value) => value.as_list().unwrap_or(std::slice::from_ref(value)).iter().map(Value::display).collect(),
    }
}

/// Whether a name pattern means a cmdlet of the backend, or a command of the session by its whole name: for `*` a client
/// would make proxies of the session's own.
pub(crate) fn named<'c>(catalogue: &'c Catalogue, patterns: &[String]) -> Vec<&'c Cmdlet> {
    let own = Catalogue::session_commands().map(|c| &**c).filter(|c| patterns.iter().any(|p| p.eq_ignore_ascii_case(&c.name)));
    let matches = |name: &str| patterns.iter().any(|p| wildcard::fits(name, p));
    let names: Vec<&str> = catalogue.names().filter(|name| matches(name)).collect();
    names.into_iter().filter_map(|name| catalogue.cmdlet(name)).map(|c| &**c).chain(own).collect()
}

fn get_command(command: &BoundCommand, catalogue: &Catalogue) -> Vec<Record> {
    let mut names = texts(command, "Name");
    let kinds = texts(command, "CommandType");
    let number = command.argument("CommandType").and_then(Value::as_i64);
    let has_cmdlets = number.map_or_else(
        || {
            kinds.is_empty()
                || kinds.iter().any(|k| k.split(',').any(|k| ["all", "cmdlet"].iter().any(|c| k.trim().eq_ignore_ascii_case(c))))
        },
        |number| number & CMDLET != 0,
    );
    // Cmdlets here belong to no module.
    if !has_cmdlets || texts(command, "Module").iter().any(|m| !m.is_empty() && m != "*") {
        return Vec::new();
    }
    if names.is_empty() {
        names.push("*".to_owned());
    }
    let missing = names.iter().filter(|name| !wildcard::is_pattern(name) && named(catalogue, std::slice::from_ref(name)).is_empty());
    let missing: Vec<Record> = missing
        .map(|name| {
            let mut record = crate::session::not_found(name);
            record.fully_qualified_error_id = "CommandNotFoundException,Microsoft.PowerShell.Commands.GetCommandCommand".into();
            record.activity = "Get-Command".into();
            Record::Error(Box::new(record))
        })
        .collect();
    named(catalogue, &names).into_iter().map(|cmdlet| Record::Output(translate::command_information(cmdlet))).chain(missing).collect()
}

fn get_help(command: &BoundCommand, catalogue: &Catalogue) -> Vec<Record> {
    let name = command.argument("Name").map_or_else(|| "*".to_owned(), Value::display);
    let found = named(catalogue, std::slice::from_ref(&name));
    if found.is_empty() && !wildcard::is_pattern(&name) {
        let mut record = ErrorRecord::new(
            "Microsoft.PowerShell.Commands.HelpNotFoundException",
            format!("Get-Help could not find {name} in a help file in this session."),
            ErrorCategory::ResourceUnavailable,
            "HelpNotFound,Microsoft.PowerShell.Commands.GetHelpCommand",
        );
        record.activity = "Get-Help".into();
        return vec![Record::Error(Box::new(record))];
    }
    let help = |cmdlet: &Cmdlet| {
        let mut notes = Properties::with_capacity(4);
        notes.push("Name", Value::from(&*cmdlet.name));
        notes.push("Category", "Cmdlet");
        notes.push("Synopsis", syntax(cmdlet));
        notes.push("Component", Value::Null);
        let names = ["HelpInfoShort", "System.Management.Automation.PSCustomObject", "System.Object"];
        Record::Output(PsObject { type_names: names.into_iter().map(Into::into).collect(), ..PsObject::notes(notes) }.into())
    };
    found.into_iter().map(help).collect()
}

/// `Get-Thing [[-Identity] <ThingIdParameter>] [-Force] [<CommonParameters>]`
fn syntax(cmdlet: &Cmdlet) -> String {
    let mut text = cmdlet.name.to_string();
    for parameter in cmdlet.parameters.iter().filter(|p| !p.common) {
        let mandatory = parameter.sets.iter().all(|m| m.mandatory);
        let positional = parameter.sets.iter().any(|m| m.position.is_some());
        let name = if positional { format!("[-{}]", parameter.name) } else { format!("-{}", parameter.name) };
        let value = if parameter.kind == ParameterKind::Switch { String::new() } else { format!(" <{}>", parameter.type_name) };
        text.push_str(&if mandatory { format!(" {name}{value}") } else { format!(" [{name}{value}]") });
    }
    text + " [<CommonParameters>]"
}

fn get_format_data(command: &BoundCommand) -> Vec<Record> {
    let mut wanted = texts(command, "TypeName");
    if wanted.is_empty() {
        wanted.push("*".to_owned());
    }
    let fits = |name: &str| wanted.iter().any(|w| wildcard::fits(name, w) || wildcard::fits(name, w.trim_start_matches("Deserialized.")));
    view::tables().filter(|(name, _)| fits(name)).map(|(name, columns)| Record::Output(type_definition(&name, columns))).collect()
}

/// An object of a class of PowerShell's formatting, with live properties.
fn live<const N: usize>(class: &str, base: &[&str], shown: &str, properties: [(&str, Value); N]) -> Value {
    let class = format!("System.Management.Automation.{class}");
    let names = std::iter::once(class.as_str()).chain(base.iter().copied()).chain(["System.Object"]);
    let shown = if shown.is_empty() { &class } else { shown };
    PsObject {
        type_names: names.map(Into::into).collect(),
        to_string: Some(shown.into()),
        adapted: properties.into_iter().collect(),
        ..PsObject::default()
    }
    .into()
}

fn list_of(class: &str, items: Vec<Value>) -> Value {
    let name = format!("System.Collections.Generic.List`1[[{class}]]");
    let names = [name.as_str(), "System.Object"];
    PsObject { type_names: names.into_iter().map(Into::into).collect(), base: Base::List(ListKind::List, items), ..PsObject::default() }
        .into()
}

/// What a client makes a view of: an `ExtendedTypeDefinition` with one table, for objects as they arrive there.
fn type_definition(name: &str, columns: &[Column]) -> Value {
    const PREFIX: &str = "System.Management.Automation.";
    let received = format!("Deserialized.{name}");
    let header = |column: &Column| {
        let width = column.width.map_or(0, i32::from);
        live(
            "TableControlColumnHeader",
            &[],
            "",
            [("Label", column.property.into()), ("Alignment", "Undefined".into()), ("Width", width.into())],
        )
    };
    let cell = |column: &Column| {
        let shown = format!("property: {}", column.property);
        let entry = live("DisplayEntry", &[], &shown, [("ValueType", "Property".into()), ("Value", column.property.into())]);
        let properties = [("Alignment", "Undefined".into()), ("DisplayEntry", entry), ("FormatString", Value::Null)];
        live("TableControlColumn", &[], column.property, properties)
    };
    let cells = list_of(&format!("{PREFIX}TableControlColumn"), columns.iter().map(cell).collect());
    let row = live("TableControlRow", &[], "", [("Columns", cells), ("SelectedBy", Value::Null), ("Wrap", false.into())]);
    let control = live(
        "TableControl",
        &["System.Management.Automation.PSControl"],
        "",
        [
            ("Headers", list_of(&format!("{PREFIX}TableControlColumnHeader"), columns.iter().map(header).collect())),
            ("Rows", list_of(&format!("{PREFIX}TableControlRow"), vec![row])),
            ("AutoSize", false.into()),
            ("HideTableHeaders", false.into()),
            ("GroupBy", Value::Null),
            ("OutOfBand", false.into()),
        ],
    );
    // The view's own id: the same for the same type, so that a client can tell views apart.
    let instance =
        name.bytes().fold(0xcbf2_9ce4_8422_2325_u128, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(0x0100_0000_01b3_0000_01b3));
    let view = live(
        "FormatViewDefinition",
        &[],
        "",
        [("Name", name.into()), ("Control", control), ("InstanceId", Value::Guid(Uuid::from_u128(instance)))],
    );
    live(
        "ExtendedTypeDefinition",
        &[],
        &received,
        [
            ("TypeName", received.as_str().into()),
            ("TypeNames", list_of("System.String", vec![received.as_str().into()])),
            ("FormatViewDefinition", list_of(&format!("{PREFIX}FormatViewDefinition"), vec![view])),
        ],
    )
}
