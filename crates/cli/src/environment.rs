//! What the environment says of a connection. An option goes before its variable, the variable before the profile.

use clap::Command;
use clap::builder::{FalseyValueParser, TypedValueParser as _};
use uuid::Uuid;

use crate::failure::Failure;
use crate::options::{Connect, Json, LabData};

/// A variable that is set to something.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// A variable that holds a client id.
pub(crate) fn client_id(name: &str) -> Result<Option<Uuid>, Failure> {
    let parse = |text: String| {
        text.parse().map_err(|_| Failure::usage(format!("{name} is '{text}', which is no GUID")).hint("the client id of the application"))
    };
    variable(name).map(parse).transpose()
}

/// What the variables of `connect` say, for a command that has none of its options.
pub(crate) fn said() -> Result<Connect, Failure> {
    Ok(Connect {
        app_id: client_id("EXOPS_APP_ID")?,
        organization: variable("EXOPS_ORGANIZATION"),
        certificate_thumbprint: None,
        certificate_file_path: variable("EXOPS_CERTIFICATE").map(Into::into),
        certificate_password_file: None,
        store: None,
        // As clap reads it for `connect`.
        lab: variable("EXOPS_LAB")
            .is_some_and(|v| FalseyValueParser::new().parse_ref(&Command::default(), None, v.as_ref()).unwrap_or(false)),
        data: LabData { data: None },
        authority: variable("EXOPS_AUTHORITY"),
        endpoint: variable("EXOPS_ENDPOINT"),
        ca_file: variable("EXOPS_CA_FILE").map(Into::into),
        json: Json::default(),
    })
}

/// Refuses to go past a gateway that somebody meant to be used: this version has none.
pub(crate) fn refuse_gateway() -> Result<(), Failure> {
    match variable("EXOPS_GATEWAY") {
        None => Ok(()),
        Some(gateway) => Err(Failure::usage(format!("EXOPS_GATEWAY is '{gateway}', and this version goes through no gateway"))
            .hint("unset it to reach the service itself; nothing was sent")),
    }
}
