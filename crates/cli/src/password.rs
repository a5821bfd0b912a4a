//! Key files and where their passwords come from: never the command line.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;

use exops_auth::{Identity, IdentityError};
use exops_client::Credential;
use secrecy::SecretString;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::printable;
use crate::profile::{PasswordSource, file_failure};
use crate::session::{read, read_some};
use crate::{hidden, io_reason, note};

/// Names a file with the password.
const VARIABLE: &str = "EXOPS_CERTIFICATE_PASSWORD_FILE";
/// Holds the password itself, as Azure's libraries read it.
const AZURE: &str = "AZURE_CLIENT_CERTIFICATE_PASSWORD";

/// Where the password of a connection comes from: the option, else the variable, else the terminal if one is needed.
pub(crate) fn source(file: Option<&Path>) -> Result<PasswordSource, Failure> {
    match file {
        Some(file) => std::path::absolute(file).map(PasswordSource::File).map_err(|e| file_failure("use", file, &e)),
        None if is_in_variable() => Ok(PasswordSource::Variable),
        None if std::env::var_os(AZURE).is_some_and(|v| !v.is_empty()) => Ok(PasswordSource::Azure),
        None => Ok(PasswordSource::Prompt),
    }
}

/// A variable names the file with the password.
pub(crate) fn is_in_variable() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|v| !v.is_empty())
}

/// Opens a PFX or PEM file to sign in with; the source is that of the password that it took.
pub(crate) fn open(path: &Path, source: PasswordSource) -> Result<(Credential, PasswordSource), Failure> {
    identity(path, source).map(|(identity, source)| (Credential::Certificate(Arc::new(identity)), source))
}

/// Certificate and key of a PFX or PEM file, and the source of the password that it took; a file that opens without one
/// is not asked for.
pub(crate) fn identity(path: &Path, source: PasswordSource) -> Result<(Identity, PasswordSource), Failure> {
    let bytes = read_some(path).map_err(|f| Failure { exit: Some(Exit::SignIn), ..f })?;
    let credential = |identity: Identity, source: PasswordSource| {
        if source == PasswordSource::None && exops_keystore::is_exposed(path) {
            note(&format!("others than you may read the private key in {}: chmod 600", path.display()));
        }
        Ok((identity, source))
    };
    match Identity::read(&bytes, None) {
        Ok(identity) => return credential(identity, PasswordSource::None),
        Err(IdentityError::PasswordNeeded | IdentityError::WrongPassword) => {}
        Err(error) => return Err(unusable(path, &error)),
    }
    let password = match &source {
        PasswordSource::None => return Err(unusable(path, &IdentityError::PasswordNeeded).hint(HOW)),
        PasswordSource::Prompt => ask(path)?,
        PasswordSource::File(file) => first_line(file)?,
        PasswordSource::Variable => match std::env::var_os(VARIABLE).filter(|v| !v.is_empty()) {
            Some(file) => first_line(Path::new(&file))?,
            None => return Err(unusable(path, &IdentityError::PasswordNeeded).hint(format!("set {VARIABLE}, as when you connected"))),
        },
        PasswordSource::Azure => match std::env::var(AZURE) {
            Ok(password) if !password.is_empty() => SecretString::from(password),
            _ => return Err(unusable(path, &IdentityError::PasswordNeeded).hint(format!("set {AZURE}, as when you connected"))),
        },
    };
    match Identity::read(&bytes, Some(&password)) {
        Ok(identity) => credential(identity, source),
        Err(error) => Err(unusable(path, &error)),
    }
}

const HOW: &str = "name a file that holds the password with --certificate-password-file or EXOPS_CERTIFICATE_PASSWORD_FILE";

/// A key file that cannot be used, with what to do about it.
fn unusable(path: &Path, error: &IdentityError) -> Failure {
    let code = match error {
        IdentityError::WrongPassword => "WrongPassword",
        IdentityError::PasswordNeeded => "PasswordNeeded",
        _ => "UnusableCertificate",
    };
    Failure {
        code: code.to_owned(),
        target: path.display().to_string(),
        ..Failure::new(Exit::SignIn, format!("{} cannot be used: {error}", path.display())).hint(error.hint().replace('`', "'"))
    }
}

fn ask(path: &Path) -> Result<SecretString, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(unusable(path, &IdentityError::PasswordNeeded).hint(HOW));
    }
    hidden::ask(&format!("Password of {}: ", printable(&path.to_string_lossy())))
        .map_err(|e| Failure::new(Exit::SignIn, format!("the password of {} was not read: {}", path.display(), io_reason(&e))).hint(HOW))
}

/// The password that a file holds.
pub(crate) fn first_line(file: &Path) -> Result<SecretString, Failure> {
    let bytes = read(file).map_err(|f| Failure { exit: Some(Exit::SignIn), ..f })?;
    let text =
        String::from_utf8(bytes).map_err(|_| Failure::new(Exit::SignIn, format!("the password file {} is not text", file.display())))?;
    match text.lines().next() {
        Some("") | None => Err(Failure::new(Exit::SignIn, format!("the first line of the password file {} is empty", file.display()))
            .hint("the password is its first line")),
        Some(password) => Ok(password.into()),
    }
}
