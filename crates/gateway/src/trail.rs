//! What the audit trail is told about parameters: names and values as text, secrets as their type.

use exops_audit::Parameter;
use exops_catalogue::{Argument, BoundCommand, Cmdlet, Command, ParameterKind};
use exops_psobject::{CREDENTIAL, SECURE_STRING, Value};

/// Longest text of one value. A longer one ends in an ellipsis.
const VALUE_CHARS: usize = 4096;
/// Most parameters that one entry lists.
const PARAMETERS: usize = 200;
const HIDDEN: &str = "System.String";

/// Names of parameters whose values are secrets whatever their type.
const SECRET_NAMES: [&str; 7] = ["password", "passphrase", "secret", "credential", "privatekey", "accesstoken", "apikey"];

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|secret| name.contains(secret))
}

/// The parameters of a bound command in binding order.
pub(crate) fn bound(command: &BoundCommand) -> Vec<Parameter> {
    let arguments = command.arguments.iter().take(PARAMETERS);
    arguments
        .map(|a| Parameter { name: a.parameter.name.to_string(), value: value_text(&a.parameter.name, Some(a.parameter.kind), &a.value) })
        .collect()
}

/// The arguments of a command that did not bind, as they were sent. `cmdlet` is its metadata where the name is known.
///
/// A value without a name belongs to the name that was sent before it, if that came alone.
pub(crate) fn sent(command: &Command, cmdlet: Option<&Cmdlet>) -> Vec<Parameter> {
    let mut parameters = Vec::new();
    let mut pending: Option<&str> = None;
    for Argument { name, value, .. } in command.arguments.iter().take(PARAMETERS) {
        let owner = name.as_deref().or(pending);
        let secret = match (owner, cmdlet) {
            (Some(owner), _) if is_secret_name(owner) || is_secret_prefix(owner) => true,
            (Some(owner), Some(cmdlet)) => {
                cmdlet.parameters.iter().any(|p| starts_with(&p.name, owner) && (is_secret_kind(p.kind) || is_secret_name(&p.name)))
            }
            // A bare positional value of a command that takes a secret anywhere: which one it is was never decided.
            (None, Some(cmdlet)) => cmdlet.parameters.iter().any(|p| is_secret_kind(p.kind) && p.sets.iter().any(|s| s.position.is_some())),
            (_, None) => false,
        };
        let text = match value {
            Some(_) if secret => HIDDEN.to_owned(),
            Some(value) => value_text(owner.unwrap_or_default(), None, value),
            None => String::new(),
        };
        match (name, parameters.last_mut()) {
            (None, Some(last)) if pending.is_some() => {
                let last: &mut Parameter = last;
                last.value = text;
            }
            _ => parameters.push(Parameter { name: name.clone().unwrap_or_default(), value: text }),
        }
        pending = if value.is_none() { name.as_deref() } else { None };
    }
    parameters
}

/// An abbreviation that may mean a secret: `-Pass`, `-Pwd`.
fn is_secret_prefix(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.len() >= 2 && (name == "pwd" || SECRET_NAMES.iter().any(|secret| secret.starts_with(&name)))
}

fn starts_with(whole: &str, prefix: &str) -> bool {
    whole.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn is_secret_kind(kind: ParameterKind) -> bool {
    matches!(kind, ParameterKind::SecureString | ParameterKind::Credential)
}

fn value_text(name: &str, kind: Option<ParameterKind>, value: &Value) -> String {
    match kind {
        Some(ParameterKind::SecureString) => return SECURE_STRING.to_owned(),
        Some(ParameterKind::Credential) => return CREDENTIAL.to_owned(),
        _ => {}
    }
    let mut text = String::new();
    append(&mut text, name, value, 0);
    match text.char_indices().nth(VALUE_CHARS) {
        Some((end, _)) => {
            text.truncate(end);
            text.push('…');
            text
        }
        None => text,
    }
}

/// Lists join with `;`, dictionaries are `key=value`; both also inside each other, as far as an edit such as
/// `@{Add=…}` goes.
fn append(text: &mut String, name: &str, value: &Value, depth: usize) {
    // One byte more than is kept is enough to know that it is too long.
    if text.len() > VALUE_CHARS * 4 || depth > 8 {
        return;
    }
    if matches!(value, Value::SecureString(_)) {
        text.push_str(SECURE_STRING);
        return;
    }
    if let Some(items) = value.as_list() {
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                text.push(';');
            }
            append(text, name, item, depth + 1);
        }
        return;
    }
    if let Some(object) = value.as_object() {
        if object.type_name() == Some(CREDENTIAL) {
            text.push_str(CREDENTIAL);
            return;
        }
        if let Some(entries) = object.dictionary() {
            for (index, (key, item)) in entries.iter().enumerate() {
                if index > 0 {
                    text.push(';');
                }
                let key = key.display();
                text.push_str(&key);
                text.push('=');
                append(text, if is_secret_name(name) { name } else { &key }, item, depth + 1);
            }
            return;
        }
    }
    if is_secret_name(name) && !value.is_null() {
        text.push_str(HIDDEN);
    } else {
        text.push_str(&value.display());
    }
}
