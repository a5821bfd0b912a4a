//! What `Out-Default` writes on a client's host: the lines of tables and lists.
//!
//! Objects are shown as they come, so column widths are those of the view, or equal shares; nothing waits for the end.

use std::sync::Arc;

use exops_catalogue::view;
use exops_psobject::{PsObject, Value, canonical};
use exops_psrp::HostMethod;
use exops_runspace::Record;

/// Characters of a line.
const WIDTH: usize = 120;
/// An object with more properties is shown as a list.
const TABLE_COLUMNS: usize = 4;
/// Longest text of one value in a list.
const LONGEST: usize = 4_000;

/// The state between objects: which table is open.
#[derive(Default)]
pub(crate) struct Display {
    /// Type and columns of the last object; a table goes on while they stay.
    open: Option<(String, Vec<(String, usize)>)>,
}

impl Display {
    /// The lines that a record becomes and how the host shows them; nothing for records that travel on their own stream.
    pub(crate) fn lines(&mut self, record: &Record) -> Option<(HostMethod, Vec<String>)> {
        match record {
            Record::Error(error) => {
                let text = error.details_message.as_ref().unwrap_or(&error.message);
                let activity = if error.activity.is_empty() { error.category.name().to_string() } else { error.activity.to_string() };
                Some((HostMethod::WriteErrorLine, vec![format!("{activity}: {text}")]))
            }
            // After a line that failed, a client sends the error record back to be shown.
            Record::Output(value) if is_error(value) => {
                let text = value.as_object().map(|o| o.display()).unwrap_or_default();
                let activity = value.as_object().and_then(|o| o.property("ErrorCategory_Activity")).map(Value::display).unwrap_or_default();
                let line = if activity.is_empty() { text } else { format!("{activity}: {text}") };
                Some((HostMethod::WriteErrorLine, vec![line]))
            }
            Record::Output(value) => Some((HostMethod::WriteLine2, self.object(value))),
            _ => None,
        }
    }

    fn object(&mut self, value: &Value) -> Vec<String> {
        if let Some(items) = value.as_list() {
            return items.iter().flat_map(|item| self.object(item)).collect();
        }
        let object = value.as_object().filter(|o| o.primitive().is_none() && o.dictionary().is_none() && o.properties().next().is_some());
        let Some(object) = object else {
            self.open = None;
            return if value.is_null() { Vec::new() } else { value.display().lines().map(str::to_owned).collect() };
        };
        let columns = columns(object);
        if columns.is_empty() {
            self.open = None;
            return list(object);
        }
        let mut lines = Vec::new();
        let kind = object.type_name().unwrap_or_default();
        if self.open.as_ref().is_none_or(|(open, shown)| open != kind || *shown != columns) {
            let line = |text: &dyn Fn(&str) -> String| row(columns.iter().map(|(name, width)| (text(name), *width)));
            lines = vec![String::new(), line(&str::to_owned), line(&|name| "-".repeat(name.chars().count()))];
        }
        lines.push(row(columns.iter().map(|(name, width)| (shown(object.property(name)), *width))));
        self.open = Some((kind.to_owned(), columns));
        lines
    }
}

fn is_error(value: &Value) -> bool {
    value.as_object().is_some_and(|o| o.type_names.iter().any(|n| n.ends_with("System.Management.Automation.ErrorRecord")))
}

/// Names and widths of an object's table; none where it is shown as a list.
fn columns(object: &PsObject) -> Vec<(String, usize)> {
    let kind = object.type_name().unwrap_or_default();
    let own: Vec<(&str, Option<u16>)> = match view::table_columns(kind) {
        Some(columns) if !kind.starts_with("Selected.") => columns.iter().map(|c| (c.property, c.width)).collect(),
        _ => object.properties().map(|(name, _)| (&**name, None)).take(TABLE_COLUMNS + 1).filter(|(name, _)| !name.is_empty()).collect(),
    };
    let fixed: usize = own.iter().filter_map(|(_, width)| width.map(|w| usize::from(w) + 1)).sum();
    let shares = own.iter().filter(|(_, width)| width.is_none()).count().max(1);
    let share = (WIDTH.saturating_sub(fixed) / shares).saturating_sub(1).max(8);
    let has_view =
        own.iter().any(|(_, width)| width.is_some()) || view::table_columns(kind).is_some_and(|_| !kind.starts_with("Selected."));
    if !has_view && own.len() > TABLE_COLUMNS {
        return Vec::new();
    }
    own.into_iter().map(|(name, width)| (name.to_owned(), width.map_or(share, usize::from))).collect()
}

fn row(cells: impl Iterator<Item = (String, usize)>) -> String {
    let cells = cells.map(|(text, width)| {
        let length = text.chars().count();
        if length <= width {
            text + &" ".repeat(width - length)
        } else {
            text.chars().take(width.saturating_sub(3)).collect::<String>() + "..."
        }
    });
    cells.collect::<Vec<_>>().join(" ").trim_end().to_owned()
}

fn list(object: &PsObject) -> Vec<String> {
    let longest = object.properties().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let pad = |name: &Arc<str>| " ".repeat(longest.saturating_sub(name.chars().count()));
    let mut lines = vec![String::new()];
    lines.extend(object.properties().map(|(name, value)| {
        let text: String = shown(Some(value)).chars().take(LONGEST).collect();
        format!("{name}{} : {text}", pad(name)).trim_end().to_owned()
    }));
    lines
}

/// A value in one line.
fn shown(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => String::new(),
        Some(value) => match value.as_list() {
            Some(items) => format!("{{{}}}", items.iter().map(Value::display).collect::<Vec<_>>().join(", ")),
            None if value.as_object().is_some_and(|o| o.to_string.is_none() && o.primitive().is_none()) => {
                canonical::canonical(value).to_string()
            }
            None => value.display(),
        },
    };
    text.replace(['\r', '\n'], " ")
}
