//! What is refused before a request is carried out, and with which fault.

use exops_psrp::ProtocolError;
use exops_wsman::{CreateShell, Fault, Request, RequestBody, uri};
use uuid::Uuid;

use super::ServerConfig;

/// DSP0226 lets no client ask for less.
pub(super) const SMALLEST_ENVELOPE: usize = 8_192;
/// Options that this server knows; none changes anything but `protocolversion`.
const KNOWN_OPTIONS: [&str; 6] = [
    "protocolversion",
    "WINRS_NOPROFILE",
    "WINRS_CODEPAGE",
    "WINRS_SKIP_CMD_SHELL",
    "WINRS_CONSOLEMODE_STDIN",
    "WSMAN_CMDSHELL_OPTION_KEEPALIVE",
];

pub(super) fn parse_command_id(text: &str) -> Result<Uuid, Fault> {
    Uuid::parse_str(text).map_err(|_| Fault::new(Fault::PLUGIN_BAD_ARGUMENTS, format!("command id {text:?} is not a GUID")))
}

pub(super) fn check_common(request: &Request) -> Result<(), Fault> {
    if let Some(option) = request.options.iter().find(|o| o.must_comply && !KNOWN_OPTIONS.iter().any(|k| k.eq_ignore_ascii_case(&o.name))) {
        return Err(Fault::new(
            Fault::INVALID_OPTIONS,
            format!("The WS-Management service cannot process the request: option {:?} is not known and marked MustComply.", option.name),
        ));
    }
    if let Some(size) = request.max_envelope_size.filter(|s| *s < SMALLEST_ENVELOPE) {
        return Err(Fault::new(
            Fault::ENVELOPE_TOO_LARGE,
            format!("MaxEnvelopeSize {size} is below the minimum of {SMALLEST_ENVELOPE} bytes"),
        ));
    }
    Ok(())
}

pub(super) fn check_create<'a>(request: &'a Request, config: &ServerConfig) -> Result<&'a CreateShell, Fault> {
    let RequestBody::Create(shell) = &request.body else { return Err(Fault::action_not_supported(&request.action.uri())) };
    let name = request.resource_uri.strip_prefix(uri::CONFIGURATION_PREFIX).unwrap_or_default();
    if !config.configurations.iter().any(|c| c.eq_ignore_ascii_case(name)) {
        return Err(Fault::unknown_resource(&request.resource_uri));
    }
    check_common(request)?;
    let Some(version) = request.option("protocolversion") else {
        return Err(Fault::new(
            Fault::PLUGIN_OPTION_MISSING,
            "option protocolversion is missing; PowerShell's clients send it with Create",
        ));
    };
    if version.value.split('.').next() != Some("2") {
        return Err(Fault::new(Fault::PLUGIN_PROTOCOL_VERSION, format!("protocol version {:?} is not spoken here; 2.3 is", version.value)));
    }
    if request.compression_required && !wants_xpress(request) {
        let text = format!("compression {:?} is not known here; xpress is", request.compression.as_deref().unwrap_or_default());
        return Err(Fault::new(Fault::MUST_UNDERSTAND, text));
    }
    if shell.shell_id.as_deref().is_some_and(|id| Uuid::parse_str(id).is_err()) {
        return Err(Fault::new(Fault::SCHEMA, "ShellId is not a GUID"));
    }
    Ok(shell)
}

pub(super) fn wants_xpress(request: &Request) -> bool {
    request.compression.as_deref().is_some_and(|name| name.eq_ignore_ascii_case("xpress"))
}

pub(super) fn protocol_fault(error: &ProtocolError) -> Fault {
    let code = match error {
        ProtocolError::Version { .. } => Fault::PLUGIN_EXCEPTION,
        ProtocolError::TooMuch { .. } => Fault::QUOTA_LIMIT,
        ProtocolError::TooManyPipelines { limit } => {
            let text = format!(
                "The WS-Management service cannot process the request. The maximum number of concurrent commands per shell has been \
                 exceeded, which is {limit} here. Retry the request later or raise the quota for concurrent commands per shell."
            );
            return Fault::new(Fault::QUOTA_COMMANDS, text);
        }
        ProtocolError::UnknownPipeline(_) => return Fault::unknown_command(),
        _ => Fault::PLUGIN_BAD_ARGUMENTS,
    };
    Fault::new(code, error.to_string())
}
