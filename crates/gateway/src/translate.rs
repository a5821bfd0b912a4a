//! Between the words of PSRP and those of the runspace.

use exops_catalogue::{Argument, Catalogue, Cmdlet, Command, ParameterKind, Pipeline};
use exops_psobject::{ErrorCategory, ErrorRecord, Value};
use exops_psrp::{CommandDescription, CommandKind, MetadataRequest, ParameterDescription, count_object};
use exops_remoting::server::PipelineEnd;
use exops_runspace::{Ended, Fault};

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

/// The answer to GET_COMMAND_METADATA: the count, then one object for each cmdlet that was asked for.
pub(crate) fn descriptions(catalogue: &Catalogue, request: &MetadataRequest) -> Vec<Value> {
    let wanted = |cmdlet: &Cmdlet| {
        request.command_types & CMDLET != 0 && request.namespaces.is_empty() && request.names.iter().any(|name| like(name, &cmdlet.name))
    };
    let cmdlets: Vec<_> = catalogue.cmdlets().filter(|c| wanted(c)).collect();
    let mut objects = Vec::with_capacity(cmdlets.len() + 1);
    objects.push(count_object(i32::try_from(cmdlets.len()).unwrap_or(i32::MAX)));
    objects.extend(cmdlets.into_iter().map(|cmdlet| description(cmdlet)));
    objects
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

/// PowerShell's wildcards `*` and `?`, without case. Linear in the text for each star.
fn like(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.to_lowercase().chars().collect(), text.to_lowercase().chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || text.get(t) == Some(c) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((star_p, star_t)) => {
                    star = Some((star_p, star_t + 1));
                    p = star_p + 1;
                    t = star_t + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}
