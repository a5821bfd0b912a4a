//! Calls of the far end's cmdlets to whoever started them: which are answered here, which are questions, and what the answers
//! are worth.

use std::sync::Arc;

use exops_psobject::{Base, CREDENTIAL, DateTime, ErrorCategory, ErrorRecord, InformationRecord, ListKind, PsObject, SECURE_STRING, Value};
use exops_psrp::{ChoiceDescription, FieldDescription, HostCall, HostMethod, HostQuestion, QuestionError};
use exops_runspace::{Choice, Field, Host, HostError, NO_DEFAULT, Question, Record};
use uuid::Uuid;

use crate::rest::now;

/// How often a value is asked for that cannot be converted.
const TRIES: usize = 3;
/// What stands where a far end asks for the size of a screen: columns and lines.
const SCREEN: (i32, i32) = (120, 50);
const NAME: &str = "exops";
const CULTURE: &str = "en-US";

/// What a call means here.
pub(super) enum Meaning {
    /// Something to show.
    Line(Record),
    /// Answered without asking anybody. Calls without an answer need none of it.
    Answer(Result<Value, Box<ErrorRecord>>),
    /// Somebody has to say.
    Ask(HostQuestion),
    /// A question that nobody is asked.
    Refuse(QuestionError),
}

pub(super) fn meaning(call: &HostCall, session: Uuid) -> Meaning {
    match call.question() {
        Ok(None) => {}
        Ok(Some(question)) => return Meaning::Ask(question),
        Err(error) => return Meaning::Refuse(error),
    }
    let text = |i: usize| call.parameters.get(i).map(Value::display).unwrap_or_default();
    let size = |(width, height): (i32, i32)| pair(["width", "height"], [width, height]);
    Meaning::Answer(Ok(match call.method {
        HostMethod::Write1 | HostMethod::WriteLine2 | HostMethod::WriteErrorLine => return Meaning::Line(line(text(0))),
        HostMethod::Write2 | HostMethod::WriteLine3 => return Meaning::Line(line(text(2))),
        HostMethod::WriteLine1 => return Meaning::Line(line(String::new())),
        HostMethod::GetName | HostMethod::GetWindowTitle => NAME.into(),
        HostMethod::GetVersion => Value::Version(env!("CARGO_PKG_VERSION").into()),
        HostMethod::GetInstanceId => Value::Guid(session),
        HostMethod::GetCurrentCulture | HostMethod::GetCurrentUICulture => CULTURE.into(),
        HostMethod::GetIsRunspacePushed | HostMethod::GetKeyAvailable => false.into(),
        // ConsoleColor: gray on black.
        HostMethod::GetForegroundColor => Value::I32(7),
        HostMethod::GetBackgroundColor => Value::I32(0),
        HostMethod::GetCursorPosition | HostMethod::GetWindowPosition => pair(["x", "y"], [0, 0]),
        HostMethod::GetCursorSize => Value::I32(25),
        HostMethod::GetBufferSize | HostMethod::GetWindowSize | HostMethod::GetMaxWindowSize | HostMethod::GetMaxPhysicalWindowSize => {
            size(SCREEN)
        }
        HostMethod::EnterNestedPrompt
        | HostMethod::ReadKey
        | HostMethod::GetBufferContents
        | HostMethod::PushRunspace
        | HostMethod::PopRunspace
        | HostMethod::GetRunspace
        | HostMethod::Unknown(_) => return Meaning::Answer(Err(Box::new(nobody("this client's host does not offer that")))),
        // What changes a screen or tells of an end changes nothing here: the command ends when its pipeline does.
        _ => Value::Null,
    }))
}

/// Whether the answer holds a secret.
pub(super) fn wants_secret(question: &HostQuestion) -> bool {
    match question {
        HostQuestion::SecretLine | HostQuestion::Credential { .. } => true,
        HostQuestion::Fields { fields, .. } => fields.iter().any(|f| is_type(f, SECURE_STRING) || is_type(f, CREDENTIAL)),
        HostQuestion::Line | HostQuestion::Choice { .. } | HostQuestion::Choices { .. } => false,
    }
}

/// Puts a question, and gives the answer as it travels, with secrets in clear.
pub(super) async fn ask(host: &dyn Host, question: HostQuestion) -> Result<Value, Box<ErrorRecord>> {
    let failed = |e: HostError| Box::new(nobody(&e.to_string()));
    let index = |index: usize| i32::try_from(index).unwrap_or(i32::MAX);
    match question {
        HostQuestion::Line => host.read_line().await.map(Value::from).map_err(failed),
        HostQuestion::SecretLine => match host.ask(&Question::Secret).await.map_err(failed)? {
            secret @ Value::SecureString(_) => Ok(secret),
            _ => Err(unusable()),
        },
        HostQuestion::Credential { caption, message, user, target } => {
            let given = host.ask(&Question::Credential { caption, message, user, target }).await.map_err(failed)?;
            if given.is_credential() { Ok(given) } else { Err(unusable()) }
        }
        HostQuestion::Fields { caption, message, fields } => ask_fields(host, caption, message, &fields).await,
        HostQuestion::Choice { caption, message, choices, default } => {
            let choices = offered(choices);
            let chosen = host.prompt_for_choice(&caption, &message, &choices, default.unwrap_or(NO_DEFAULT)).await.map_err(failed)?;
            if chosen < choices.len() { Ok(Value::I32(index(chosen))) } else { Err(unusable()) }
        }
        HostQuestion::Choices { caption, message, choices, defaults } => {
            let choices = offered(choices);
            let chosen = host.prompt_for_choices(&caption, &message, &choices, &defaults).await.map_err(failed)?;
            if chosen.iter().any(|chosen| *chosen >= choices.len()) {
                return Err(unusable());
            }
            Ok(list(chosen.into_iter().map(|chosen| Value::I32(index(chosen))).collect()))
        }
    }
}

fn offered(choices: Vec<ChoiceDescription>) -> Vec<Choice> {
    choices.into_iter().map(|ChoiceDescription { label, help }| Choice { label, help }).collect()
}

/// Asks for all values, and then again for those that are not of their type.
async fn ask_fields(host: &dyn Host, caption: String, message: String, fields: &[FieldDescription]) -> Result<Value, Box<ErrorRecord>> {
    let mut entries: Vec<Option<Value>> = vec![None; fields.len()];
    for _ in 0..TRIES {
        let left = fields.iter().zip(&entries).filter(|(_, entry)| entry.is_none()).map(|(field, _)| shown(field)).collect();
        let question = Question::Fields { caption: caption.clone(), message: message.clone(), fields: left };
        let answer = host.ask(&question).await.map_err(|e| Box::new(nobody(&e.to_string())))?;
        let given = answer.as_object().and_then(|o| o.dictionary()).ok_or_else(unusable)?;
        for (field, entry) in fields.iter().zip(&mut entries).filter(|(_, entry)| entry.is_none()) {
            let value = given.iter().find(|(name, _)| name.as_str() == Some(&field.name)).map(|(_, value)| value);
            *entry = converted(field, value);
        }
        if entries.iter().all(Option::is_some) {
            let pairs = fields.iter().zip(entries).map(|(field, entry)| (Value::from(field.name.as_str()), entry.unwrap_or_default()));
            let base = Base::Dictionary(pairs.collect());
            return Ok(
                PsObject { type_names: types(["System.Collections.Hashtable", "System.Object"]), base, ..PsObject::default() }.into()
            );
        }
    }
    Err(unusable())
}

fn shown(field: &FieldDescription) -> Field {
    Field {
        name: field.name.clone(),
        is_secret: is_type(field, SECURE_STRING),
        label: field.label.clone(),
        help: field.help.clone(),
        type_name: field.type_name.clone(),
        default: field.default.clone().filter(|_| !is_type(field, SECURE_STRING)),
    }
}

fn is_type(field: &FieldDescription, name: &str) -> bool {
    field.type_name.eq_ignore_ascii_case(name)
}

/// What was given, as the type that is asked for; `None` where it has to be asked again.
fn converted(field: &FieldDescription, value: Option<&Value>) -> Option<Value> {
    let value = value?;
    if is_type(field, SECURE_STRING) {
        return matches!(value, Value::SecureString(_)).then(|| value.clone());
    }
    if is_type(field, CREDENTIAL) {
        return value.is_credential().then(|| value.clone());
    }
    let empty = match value.as_list() {
        Some(items) => items.is_empty(),
        None => value.display().is_empty(),
    };
    if empty && let Some(default) = &field.default {
        return Some(default.clone());
    }
    if let Some(element) = field.type_name.strip_suffix("[]") {
        let items = value.as_list().unwrap_or(std::slice::from_ref(value));
        return items.iter().map(|item| of_type(element, item)).collect::<Option<_>>().map(list);
    }
    match of_type(&field.type_name, value) {
        None if empty && !field.is_mandatory => Some(Value::Null),
        converted => converted,
    }
}

/// Types that nobody here knows stay text, as PowerShell's own host keeps them.
fn of_type(name: &str, value: &Value) -> Option<Value> {
    let text = value.display();
    let trimmed = text.trim();
    Some(match name.to_ascii_lowercase().as_str() {
        "system.boolean" | "system.management.automation.switchparameter" => {
            Value::Bool(match trimmed.trim_start_matches('$').to_ascii_lowercase().as_str() {
                "true" | "1" => true,
                "false" | "0" => false,
                _ => return None,
            })
        }
        "system.int16" => Value::I16(trimmed.parse().ok()?),
        "system.int32" => Value::I32(trimmed.parse().ok()?),
        "system.int64" => Value::I64(trimmed.parse().ok()?),
        "system.uint16" => Value::U16(trimmed.parse().ok()?),
        "system.uint32" => Value::U32(trimmed.parse().ok()?),
        "system.uint64" => Value::U64(trimmed.parse().ok()?),
        "system.byte" => Value::U8(trimmed.parse().ok()?),
        "system.double" => Value::Double(trimmed.parse().ok()?),
        "system.datetime" => Value::DateTime(DateTime::parse(trimmed)?),
        "system.guid" => Value::Guid(Uuid::parse_str(trimmed).ok()?),
        _ => text.into(),
    })
}

fn types<const N: usize>(names: [&str; N]) -> Arc<[Arc<str>]> {
    names.into_iter().map(Arc::from).collect()
}

fn list(items: Vec<Value>) -> Value {
    let type_names = types(["System.Collections.ArrayList", "System.Object"]);
    PsObject { type_names, base: Base::List(ListKind::List, items), ..PsObject::default() }.into()
}

/// Coordinates and Size (MS-PSRP 2.2.3.1, 2.2.3.2).
fn pair(names: [&str; 2], values: [i32; 2]) -> Value {
    PsObject::notes(names.into_iter().zip(values.map(Value::from)).collect()).into()
}

pub(super) fn nobody(why: &str) -> ErrorRecord {
    ErrorRecord::new("System.Management.Automation.Host.HostException", why, ErrorCategory::NotImplemented, "HostFunctionNotImplemented")
}

/// A question while another one of the same command waits for its answer.
pub(super) fn busy() -> ErrorRecord {
    let why = "the prompt was refused: another prompt of this command waits for its answer";
    ErrorRecord::new("System.Management.Automation.Host.HostException", why, ErrorCategory::ResourceBusy, "PromptInPrompt")
}

/// The secret that was asked for cannot travel.
pub(super) fn unsealed() -> ErrorRecord {
    let why = "the far end exchanged no key, so a secret cannot be sent to it";
    ErrorRecord::new("System.Management.Automation.Host.HostException", why, ErrorCategory::SecurityError, "PromptWithoutKey")
}

/// What was answered is no answer to the question.
fn unusable() -> Box<ErrorRecord> {
    let why = "the answer to the prompt is not of the kind that was asked for";
    Box::new(ErrorRecord::new(
        "System.Management.Automation.Host.PromptingException",
        why,
        ErrorCategory::InvalidData,
        "PromptAnswerInvalid",
    ))
}

pub(super) fn line(text: String) -> Record {
    Record::Information(Box::new(InformationRecord {
        message: text.into(),
        source: "Write-Host".into(),
        time: now(),
        tags: vec!["PSHOST".into()],
    }))
}
