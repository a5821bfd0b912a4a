//! Between the words of PSRP and those of the runspace.

use std::sync::Arc;

use exops_catalogue::{Argument, Catalogue, Cmdlet, Command, ParameterKind, Pipeline};
use exops_psobject::{ErrorCategory, ErrorRecord, Value};
use exops_psrp::{CommandDescription, CommandKind, MetadataRequest, ParameterDescription, count_object};
use exops_remoting::server::PipelineEnd;
use exops_runspace::{Ended, Fault};

use crate::restricted;

/// `CommandTypes.Cmdlet`.
const CMDLET: i64 = 8;

/// Commands as a client sent them.
pub(crate) fn pipeline(commands: Vec<exops_psrp::Command>) -> Pipeline {
    let command = |command: exops_psrp::Command| Command {
        merge_errors: command.merges_errors(),
        name: command.name,
        is_script: command.is_script,
        arguments: command.arguments.into_iter().map(|a| Argument { name: a.name, value: a.value, glued: a.glued }).collect(),
    };
    Pipeline { commands: commands.into_iter().map(command).collect() }
}

/// How a run's end shows in PSRP. `mark` completes the record of a cmdlet's own failure.
pub(crate) fn end(end: Ended, mark: impl FnOnce(&mut ErrorRecord)) -> PipelineEnd {
    let fault = |fault: Fault, category| {
        PipelineEnd::Failed(Box::new(ErrorRecord::new("System.InvalidOperationException", fault.message, category, &fault.code)))
    };
    match end {
        Ended::Completed => PipelineEnd::Completed,
        Ended::Stopped => PipelineEnd::Stopped,
        Ended::Failed(mut record) => {
            mark(&mut record);
            PipelineEnd::Failed(record)
        }
        Ended::Refused(record) => PipelineEnd::Failed(record),
        Ended::Throttled(after) => {
            let text = format!("the service is busy: try again in {} seconds", after.as_secs().max(1));
            PipelineEnd::Failed(Box::new(ErrorRecord::new(
                "System.InvalidOperationException",
                text,
                ErrorCategory::LimitsExceeded,
                "Throttled",
            )))
        }
        Ended::SignIn(problem) => fault(problem, ErrorCategory::AuthenticationError),
        Ended::Unreachable(problem) => fault(problem, ErrorCategory::ConnectionError),
        Ended::OutcomeUnknown(problem) => fault(problem, ErrorCategory::InvalidResult),
        _ => PipelineEnd::Failed(Box::new(crate::session::internal_error("the command ended in a way that PSRP cannot tell"))),
    }
}

/// The answer to GET_COMMAND_METADATA: the count, then one object for each command that was asked for.
pub(crate) fn descriptions(catalogue: &Catalogue, request: &MetadataRequest) -> Vec<Value> {
    let wanted = request.command_types & CMDLET != 0 && request.namespaces.is_empty();
    let cmdlets = if wanted { restricted::named(catalogue, &request.names) } else { Vec::new() };
    let mut objects = Vec::with_capacity(cmdlets.len() + 1);
    objects.push(count_object(i32::try_from(cmdlets.len()).unwrap_or(i32::MAX)));
    objects.extend(cmdlets.into_iter().map(description));
    objects
}

/// A command as `Get-Command` shows it: what the answer to GET_COMMAND_METADATA selects from.
pub(crate) fn command_information(cmdlet: &Cmdlet) -> Value {
    match description(cmdlet) {
        Value::Object(object) => {
            let mut object = Arc::unwrap_or_clone(object);
            let names = ["System.Management.Automation.CmdletInfo", "System.Management.Automation.CommandInfo", "System.Object"];
            object.type_names = names.into_iter().map(Into::into).collect();
            object.to_string = Some(Arc::clone(&cmdlet.name));
            object.adapted = std::mem::take(&mut object.extended);
            object.into()
        }
        other => other,
    }
}

fn description(cmdlet: &Cmdlet) -> Value {
    let aliases: Vec<Vec<&str>> = cmdlet.parameters.iter().map(|p| p.aliases.iter().map(|a| &**a).collect()).collect();
    let parameters = cmdlet.parameters.iter().zip(&aliases).map(|(parameter, aliases)| ParameterDescription {
        name: &parameter.name,
        type_name: None,
        aliases,
        is_switch: parameter.kind == ParameterKind::Switch,
    });
    CommandDescription { name: &cmdlet.name, kind: CommandKind::Cmdlet, namespace: "", parameters: parameters.collect() }.to_value()
}
