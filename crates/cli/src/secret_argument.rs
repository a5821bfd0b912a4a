//! Parameters that hold a secret (`-Password`): from a file, standard input or a question, never from the command line,
//! where every process can read it.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::Path;
use std::sync::Arc;

use exops_catalogue::{Argument, Catalogue, Command, Parameter, ParameterKind};
use exops_psobject::{CREDENTIAL, PsObject, SecureString, Value};
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::read;
use crate::{hidden, io_reason, words};

/// Longest line from standard input.
const LIMIT: u64 = 64 << 10;

/// Puts a secret where a command has a parameter that takes one.
pub(crate) fn resolve(command: &mut Command) -> Result<(), Failure> {
    let Some(cmdlet) = Catalogue::built_in().cmdlet(&command.name).cloned() else { return Ok(()) };
    let mut index = 0;
    while let Some(argument) = command.arguments.get(index) {
        index += 1;
        let name = argument.name.clone().unwrap_or_default();
        let Some(parameter) = words::parameter(&cmdlet, &name).filter(|p| p.is_secret()) else { continue };
        let given = match &argument.value {
            Some(value) => Some(value.clone()),
            // In a word of its own.
            None if command.arguments.get(index).is_some_and(|next| next.name.is_none()) => command.arguments.remove(index).value,
            None => None,
        };
        let value = match given {
            None => asked(&command.name, parameter)?,
            Some(Value::String(text)) if text.starts_with('@') => of_file(text.get(1..).unwrap_or_default(), parameter)?,
            Some(_) => {
                return Err(Failure::usage(format!(
                    "-{} is not taken from the command line, where every process can read it",
                    parameter.name
                ))
                .hint(how(parameter)));
            }
        };
        if let Some(argument) = command.arguments.get_mut(index - 1) {
            *argument = Argument { name: Some(name), value: Some(value), glued: true };
        }
    }
    Ok(())
}

fn how(parameter: &Parameter) -> String {
    let what = if is_credential(parameter) { "user name and password are its first two lines" } else { "it is the first line" };
    format!("name a file, -{} @FILE ({what}; @- is standard input), or give no value to be asked", parameter.name)
}

fn is_credential(parameter: &Parameter) -> bool {
    parameter.kind == ParameterKind::Credential
}

fn of_file(file: &str, parameter: &Parameter) -> Result<Value, Failure> {
    let fail = |text: String| Failure::new(Exit::Usage, text).hint(how(parameter));
    let count = if is_credential(parameter) { 2 } else { 1 };
    let lines: Vec<Zeroizing<String>> = if file == "-" {
        use std::io::Read as _;
        let lines = std::io::stdin().lock().take(LIMIT).lines().take(count).map(|line| line.map(Zeroizing::new));
        lines.collect::<Result<_, _>>().map_err(|e| fail(format!("standard input cannot be read: {}", io_reason(&e))))?
    } else {
        let bytes = Zeroizing::new(read(Path::new(file))?);
        let text = std::str::from_utf8(&bytes).map_err(|_| fail(format!("{file} is not text")))?;
        text.trim_start_matches('\u{feff}').lines().take(count).map(|line| Zeroizing::new(line.to_owned())).collect()
    };
    match lines.as_slice() {
        [secret] if count == 1 && !secret.is_empty() => Ok(secure(SecretString::from(secret.as_str()))),
        [user, password] if !user.is_empty() && !password.is_empty() => Ok(credential(user, SecretString::from(password.as_str()))),
        _ => Err(fail(format!("{} holds no value for -{}", if file == "-" { "standard input" } else { file }, parameter.name))),
    }
}

fn asked(cmdlet: &str, parameter: &Parameter) -> Result<Value, Failure> {
    let fail = |text: String| Failure::new(Exit::Usage, text).hint(how(parameter));
    if !std::io::stdin().is_terminal() {
        return Err(fail(format!("-{} of {cmdlet} has no value, and nobody can be asked", parameter.name)));
    }
    let not_read = |e: std::io::Error| fail(format!("-{} was not read: {}", parameter.name, io_reason(&e)));
    let user = if is_credential(parameter) {
        eprint_question(&format!("-{} of {cmdlet}, user name: ", parameter.name));
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map_err(not_read)?;
        Some(line.trim().to_owned())
    } else {
        None
    };
    let secret = hidden::ask(&format!("-{} of {cmdlet}: ", parameter.name)).map_err(not_read)?;
    Ok(match user {
        Some(user) => credential(&user, secret),
        None => secure(secret),
    })
}

#[allow(clippy::print_stderr, reason = "a question, whose answer stands behind it")]
fn eprint_question(text: &str) {
    eprint!("{text}");
}

pub(crate) fn secure(secret: SecretString) -> Value {
    Value::SecureString(SecureString::clear(secret))
}

pub(crate) fn credential(user: &str, password: SecretString) -> Value {
    let type_names = [CREDENTIAL, "System.Object"].into_iter().map(Arc::from).collect();
    let properties = [("UserName", Value::from(user)), ("Password", secure(password))];
    PsObject { type_names, adapted: properties.into_iter().collect(), ..PsObject::default() }.into()
}
