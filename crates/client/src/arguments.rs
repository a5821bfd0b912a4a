//! What both connections make of a bound pipeline.

use exops_catalogue::{Command, ConfirmImpact, Stage};
use exops_psobject::{ErrorCategory, ErrorRecord, Value};
use exops_runspace::{Ended, Invocation, RecordStream, run_local_stages};

/// Exchange's warning at the end of a cut result.
pub(crate) const MORE_RESULTS: &str =
    "There are more results available than are currently displayed. To view them, increase the value for the ResultSize parameter.";
/// Objects that a cmdlet with `ResultSize` gives without it.
const DEFAULT_RESULT_SIZE: usize = 1000;

/// The stage that goes to the far end: the first, with only local stages after it.
pub(crate) fn remote_stage<'a>(invocation: &'a Invocation, why_one: &str) -> Result<&'a Stage, Ended> {
    let mut stages = invocation.pipeline.stages.iter();
    match stages.next() {
        Some(first @ (Stage::Cmdlet(_) | Stage::Unresolved(_))) if stages.all(|s| matches!(s, Stage::Local(..))) => Ok(first),
        _ => Err(refused("System.Management.Automation.PSNotSupportedException", why_one.to_owned(), "")),
    }
}

/// Puts the stages after the first in front of a stream.
pub(crate) fn with_local_stages(records: RecordStream, invocation: &Invocation) -> RecordStream {
    match invocation.pipeline.stages.get(1..) {
        Some(rest) if !rest.is_empty() => run_local_stages(records, rest, &invocation.stop),
        _ => records,
    }
}

/// Cmdlet name and arguments by name. A command that this end does not know has its words paired as PowerShell
/// would guess: a name followed by a value takes it, a name alone is a switch.
pub(crate) fn named(stage: &Stage) -> Result<(String, Vec<(String, Value)>), Ended> {
    match stage {
        Stage::Cmdlet(command) => {
            let arguments = command.arguments.iter().map(|a| (a.parameter.name.to_string(), a.value.clone())).collect();
            Ok((command.cmdlet.name.to_string(), arguments))
        }
        Stage::Unresolved(command) => Ok((command.name.clone(), pair(command)?)),
        _ => Err(refused("System.Management.Automation.PSNotSupportedException", "this stage does not run at the far end".to_owned(), "")),
    }
}

/// Whether PowerShell would ask before this command although nobody wrote `-Confirm`: its impact is high
/// (`$ConfirmPreference`). A session at the far end does so of its own accord.
pub(crate) fn asks_by_itself(stage: &Stage) -> bool {
    let Stage::Cmdlet(command) = stage else { return false };
    command.cmdlet.impact == ConfirmImpact::High && command.argument("Confirm").is_none() && !command.flag("WhatIf")
}

fn pair(command: &Command) -> Result<Vec<(String, Value)>, Ended> {
    let mut paired: Vec<(String, Value)> = Vec::new();
    let mut open = false;
    for argument in &command.arguments {
        match (&argument.name, &argument.value) {
            (Some(name), Some(value)) => {
                paired.push((name.clone(), value.clone()));
                open = false;
            }
            (Some(name), None) => {
                paired.push((name.clone(), Value::Bool(true)));
                open = true;
            }
            (None, value) => match paired.last_mut().filter(|_| open) {
                Some((_, last)) => {
                    *last = value.clone().unwrap_or_default();
                    open = false;
                }
                None => {
                    let shown = value.as_ref().map(Value::display).unwrap_or_default();
                    let text = format!(
                        "'{shown}' has no parameter name, and positions of {} are not known here: name the parameter",
                        command.name
                    );
                    return Err(refused("System.Management.Automation.ParameterBindingException", text, &command.name));
                }
            },
        }
    }
    Ok(paired)
}

fn refused(exception: &str, text: String, activity: &str) -> Ended {
    let id = "PositionalParameterNotFound";
    let mut record = ErrorRecord::new(exception, text, ErrorCategory::InvalidArgument, id);
    record.activity = activity.into();
    Ended::Refused(Box::new(record))
}

/// How many objects may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResultSize {
    AtMost(usize),
    All,
}

impl ResultSize {
    /// From the arguments; a cmdlet without the parameter gives all it has.
    pub(crate) fn of(stage: &Stage, arguments: &[(String, Value)]) -> Self {
        let given = arguments.iter().find(|(n, _)| n.eq_ignore_ascii_case("ResultSize")).map(|(_, v)| v);
        let has_parameter = matches!(stage, Stage::Cmdlet(command) if command.cmdlet.parameter("ResultSize").is_some());
        match given {
            // A size that is no number is the far end's to judge.
            Some(value) => match value.as_i64().and_then(|n| usize::try_from(n).ok()).or_else(|| value.display().trim().parse().ok()) {
                Some(size) => Self::AtMost(size),
                None => Self::All,
            },
            None if has_parameter => Self::AtMost(DEFAULT_RESULT_SIZE),
            None => Self::All,
        }
    }

    /// How many more after `received`.
    pub(crate) fn remaining(self, received: usize) -> usize {
        match self {
            Self::AtMost(size) => size.saturating_sub(received),
            Self::All => usize::MAX,
        }
    }
}
