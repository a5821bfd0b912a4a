//! The error records of a pipeline that does not bind, worded as PowerShell words them (MS-PSRP leaves the texts to the
//! implementation; scripts match on them and on the ids).

use exops_psobject::{ErrorCategory, ErrorRecord, Value};

use crate::convert::ConvertError;
use crate::{Cmdlet, Parameter};

/// Longest piece of a client's text in a message.
const SHOWN: usize = 1000;

const BINDING: &str = "System.Management.Automation.ParameterBindingException";
const VALIDATION: &str = "System.Management.Automation.ParameterBindingValidationException";

/// The start of a text, so that no message grows with what a client sent.
pub(crate) fn clip(text: &str) -> &str {
    text.char_indices().nth(SHOWN).map_or(text, |(end, _)| text.get(..end).unwrap_or_default())
}

fn record(exception: &str, message: String, category: ErrorCategory, id: &str, activity: &str) -> Box<ErrorRecord> {
    let mut record = ErrorRecord::new(exception, message, category, id);
    record.activity = activity.into();
    Box::new(record)
}

fn binding(cmdlet: &Cmdlet, id: &str, message: String) -> Box<ErrorRecord> {
    record(BINDING, message, ErrorCategory::InvalidArgument, &format!("{id},{}", class(cmdlet)), &cmdlet.name)
}

fn invalid_data(cmdlet: &Cmdlet, id: &str, message: String) -> Box<ErrorRecord> {
    record(VALIDATION, message, ErrorCategory::InvalidData, &format!("{id},{}", class(cmdlet)), &cmdlet.name)
}

/// The .NET class that an error id names; for Exchange's own cmdlets the name stands for it.
fn class(cmdlet: &Cmdlet) -> &str {
    match &*cmdlet.name {
        "Select-Object" => "Microsoft.PowerShell.Commands.SelectObjectCommand",
        "Measure-Object" => "Microsoft.PowerShell.Commands.MeasureObjectCommand",
        "Get-Command" => "Microsoft.PowerShell.Commands.GetCommandCommand",
        name => name,
    }
}

pub(crate) fn scripts_not_allowed() -> Box<ErrorRecord> {
    record(
        "System.Management.Automation.ParseException",
        "The syntax is not supported by this runspace. This can occur if the runspace is in no-language mode.".into(),
        ErrorCategory::ParserError,
        "ScriptsNotAllowed",
        "",
    )
}

pub(crate) fn empty_pipeline() -> Box<ErrorRecord> {
    record(
        "System.Management.Automation.ParseException",
        "An empty pipe element is not allowed.".into(),
        ErrorCategory::ParserError,
        "EmptyPipeElement",
        "",
    )
}

pub(crate) fn command_not_found(name: &str) -> Box<ErrorRecord> {
    let name = clip(name);
    let mut record = record(
        "System.Management.Automation.CommandNotFoundException",
        format!(
            "The term '{name}' is not recognized as the name of a cmdlet, function, script file, or operable program. Check the spelling of \
             the name, or if a path was included, verify that the path is correct and try again."
        ),
        ErrorCategory::ObjectNotFound,
        "CommandNotFoundException",
        "",
    );
    record.target_name = name.into();
    record.target_type = "String".into();
    record.target_object = name.into();
    record
}

pub(crate) fn named_parameter_not_found(cmdlet: &Cmdlet, name: &str) -> Box<ErrorRecord> {
    binding(cmdlet, "NamedParameterNotFound", format!("A parameter cannot be found that matches parameter name '{}'.", clip(name)))
}

pub(crate) fn positional_parameter_not_found(cmdlet: &Cmdlet, value: &Value) -> Box<ErrorRecord> {
    let shown = value.display();
    let message = format!("A positional parameter cannot be found that accepts argument '{}'.", clip(&shown));
    binding(cmdlet, "PositionalParameterNotFound", message)
}

pub(crate) fn ambiguous_parameter<'a>(cmdlet: &Cmdlet, name: &str, candidates: impl Iterator<Item = &'a str>) -> Box<ErrorRecord> {
    let candidates: String = candidates.flat_map(|c| [" -", c]).collect();
    let message = format!(
        "Parameter cannot be processed because the parameter name '{}' is ambiguous. Possible matches include:{candidates}.",
        clip(name)
    );
    binding(cmdlet, "AmbiguousParameter", message)
}

pub(crate) fn parameter_already_bound(cmdlet: &Cmdlet, parameter: &Parameter) -> Box<ErrorRecord> {
    let message = format!(
        "Cannot bind parameter because parameter '{}' is specified more than once. To provide multiple values to parameters that can accept \
         multiple values, use the array syntax. For example, \"-parameter value1,value2,value3\".",
        parameter.name
    );
    binding(cmdlet, "ParameterAlreadyBound", message)
}

pub(crate) fn missing_argument(cmdlet: &Cmdlet, parameter: &Parameter) -> Box<ErrorRecord> {
    let message = format!(
        "Missing an argument for parameter '{}'. Specify a parameter of type '{}' and try again.",
        parameter.name, parameter.type_name
    );
    binding(cmdlet, "MissingArgument", message)
}

pub(crate) fn missing_mandatory<'a>(cmdlet: &Cmdlet, names: impl Iterator<Item = &'a str>) -> Box<ErrorRecord> {
    let names: String = names.flat_map(|n| [" ", n]).collect();
    let message = format!("Cannot process command because of one or more missing mandatory parameters:{names}.");
    binding(cmdlet, "MissingMandatoryParameter", message)
}

pub(crate) fn ambiguous_set(cmdlet: &Cmdlet) -> Box<ErrorRecord> {
    let message = "Parameter set cannot be resolved using the specified named parameters. One or more parameters issued cannot be used \
                   together or an insufficient number of parameters were provided.";
    binding(cmdlet, "AmbiguousParameterSet", message.into())
}

pub(crate) fn input_not_bound(cmdlet: &Cmdlet, input: &Value) -> Box<ErrorRecord> {
    let message = "The input object cannot be bound to any parameters for the command either because the command does not take pipeline \
                   input or the input and its properties do not match any of the parameters that take pipeline input.";
    let mut record = binding(cmdlet, "InputObjectNotBound", message.into());
    record.target_name = clip(&input.display()).into();
    record.target_type = "PSObject".into();
    record.target_object = input.clone();
    record
}

pub(crate) fn not_converted(cmdlet: &Cmdlet, parameter: &Parameter, error: &ConvertError) -> Box<ErrorRecord> {
    let name = &parameter.name;
    let (id, text) = match error {
        ConvertError::Null => return null_not_allowed(cmdlet, parameter),
        ConvertError::Value { .. } if parameter.is_secret() => {
            ("CannotConvertArgumentNoMessage", format!("Cannot bind parameter '{name}': the value does not have its form."))
        }
        ConvertError::Value { value, target, reason } => (
            "CannotConvertArgumentNoMessage",
            format!("Cannot bind parameter '{name}'. Cannot convert value \"{}\" to type \"{target}\". {reason}", clip(value)),
        ),
        ConvertError::Kind { from, target } => (
            "CannotConvertArgument",
            format!(
                "Cannot convert '{}' to the type '{target}' required by parameter '{name}'. Specified method is not supported.",
                clip(from)
            ),
        ),
    };
    binding(cmdlet, id, text)
}

pub(crate) fn not_valid(cmdlet: &Cmdlet, parameter: &Parameter, reason: &str) -> Box<ErrorRecord> {
    let message = format!("Cannot validate argument on parameter '{}'. {reason}", parameter.name);
    invalid_data(cmdlet, "ParameterArgumentValidationError", message)
}

pub(crate) fn null_not_allowed(cmdlet: &Cmdlet, parameter: &Parameter) -> Box<ErrorRecord> {
    let message = format!("Cannot bind argument to parameter '{}' because it is null.", parameter.name);
    invalid_data(cmdlet, "ParameterArgumentValidationErrorNullNotAllowed", message)
}

pub(crate) fn empty_text_not_allowed(cmdlet: &Cmdlet, parameter: &Parameter) -> Box<ErrorRecord> {
    let message = format!("Cannot bind argument to parameter '{}' because it is an empty string.", parameter.name);
    invalid_data(cmdlet, "ParameterArgumentValidationErrorEmptyStringNotAllowed", message)
}

pub(crate) fn empty_list_not_allowed(cmdlet: &Cmdlet, parameter: &Parameter) -> Box<ErrorRecord> {
    let message = format!("Cannot bind argument to parameter '{}' because it is an empty array.", parameter.name);
    invalid_data(cmdlet, "ParameterArgumentValidationErrorEmptyArrayNotAllowed", message)
}
