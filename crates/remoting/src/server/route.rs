//! What an endpoint does with a request before, or without, a session.

use exops_wsman::{Action, Fault, Part, Request, RequestBody, answer, uri};
use uuid::Uuid;

use super::check::check_common;
use super::receive::DEFAULT_ENVELOPE;
use super::{HttpAnswer, ServerConfig, ServerSession, fault_with, message_text};

/// Where a request belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Answer with [`identify_answer`]; needs no authentication.
    Identify,
    /// Opens a shell. The id is the client's choice in capitals, when it made one: an id that is in use must be refused.
    Create(Option<String>),
    /// Belongs to this shell, its id in capitals.
    Shell(String),
    /// Answer with [`shells_answer`].
    Shells,
    /// Answer with [`commands_answer`]: the commands of this shell, its id in capitals.
    Commands(String),
    /// Not served.
    Refused(Fault),
}

/// Tells where a parsed request belongs.
#[must_use]
pub fn target(request: &Request) -> Target {
    match (&request.action, &request.body, &request.shell_id) {
        (Action::Identify, _, _) => Target::Identify,
        (Action::Create, RequestBody::Create(shell), _) => Target::Create(shell.shell_id.as_ref().map(|id| id.to_uppercase())),
        (Action::Enumerate | Action::Pull, RequestBody::Enumerate(asked), _) => enumerated(request, asked.shell_id.as_deref()),
        (Action::Create | Action::Enumerate | Action::Pull | Action::Other(_), _, _) => {
            Target::Refused(Fault::action_not_supported(&request.action.uri()))
        }
        (_, _, Some(id)) => Target::Shell(id.to_uppercase()),
        (Action::Get, _, None) => Target::Refused(Fault::action_not_supported(&request.action.uri())),
        (_, _, None) => Target::Refused(Fault::new(Fault::UNEXPECTED_SELECTORS, "the request names no shell: selector ShellId is missing")),
    }
}

fn enumerated(request: &Request, shell_id: Option<&str>) -> Target {
    match (request.resource_uri.as_str(), shell_id) {
        (uri::SHELL, None) => Target::Shells,
        (uri::SHELL_COMMAND, Some(id)) => Target::Commands(id.to_uppercase()),
        (uri::SHELL_COMMAND, None) => {
            Target::Refused(Fault::new(Fault::UNEXPECTED_SELECTORS, "the filter names no shell: selector ShellId is missing"))
        }
        (other, _) => Target::Refused(Fault::unknown_resource(other)),
    }
}

/// The HTTP answer to Enumerate or Pull of shells. Whose are given, sorted by their ids, is the driver's business.
#[must_use]
pub fn shells_answer<'a>(
    request: &Request,
    sessions: impl IntoIterator<Item = &'a ServerSession>,
    message_id: Uuid,
    now_ms: u64,
) -> HttpAnswer {
    let shells: Vec<_> = sessions.into_iter().map(|s| s.description(now_ms)).collect();
    listed(request, message_id, |part| part.shells(&shells))
}

/// The HTTP answer to Enumerate or Pull of a shell's commands.
#[must_use]
pub fn commands_answer(request: &Request, session: &ServerSession, message_id: Uuid) -> HttpAnswer {
    listed(request, message_id, |part| part.commands(&session.commands()))
}

fn listed(request: &Request, message_id: Uuid, write: impl FnOnce(&Part<'_>) -> String) -> HttpAnswer {
    let RequestBody::Enumerate(asked) = &request.body else {
        return fault_answer(&Fault::action_not_supported(&request.action.uri()), Some(&request.message_id), message_id);
    };
    if let Err(fault) = check_common(request) {
        return fault_answer(&fault, Some(&request.message_id), message_id);
    }
    let max_envelope_size = request.max_envelope_size.unwrap_or(DEFAULT_ENVELOPE);
    let (action, relates_to, message_id) = (&request.action, request.message_id.as_str(), message_text(message_id));
    HttpAnswer::ok(write(&Part { action, asked, max_envelope_size, relates_to, message_id: &message_id }))
}

/// The HTTP answer for a fault.
#[must_use]
pub fn fault_answer(fault: &Fault, relates_to: Option<&str>, message_id: Uuid) -> HttpAnswer {
    fault_with(fault, relates_to, &message_text(message_id))
}

/// The HTTP answer to Identify.
#[must_use]
pub fn identify_answer(request: &Request, config: &ServerConfig, message_id: Uuid) -> HttpAnswer {
    let relates_to = Some(request.message_id.as_str()).filter(|id| !id.is_empty());
    HttpAnswer::ok(answer::identify(&config.vendor, &config.product_version, relates_to, &message_text(message_id)))
}
