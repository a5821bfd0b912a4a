//! `exops rest`: one call of the admin API or of Graph, as it is.

use std::io::Write as _;

use exops_client::{Method, RawCall, RawFailure};
use uuid::Uuid;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::options::{Global, Rest};
use crate::session::Connection;
use crate::{output_failure, params, tell};

/// Methods that carry a body, or may.
const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PATCH, Method::PUT, Method::DELETE];

/// Makes the call and prints what came.
pub(crate) async fn rest(options: Rest, global: &Global, as_json: bool) -> Result<Exit, Failure> {
    let method = METHODS.into_iter().find(|m| m.as_str().eq_ignore_ascii_case(&options.method));
    let method = method.ok_or_else(|| {
        Failure::usage(format!("'{}' is no method", options.method)).hint("GET, POST, PATCH, PUT or DELETE, then the path")
    })?;
    let body = options.body.as_deref().map(params::bytes).transpose()?.unwrap_or_default();
    if let (true, Err(e)) = (options.body.is_some(), serde_json::from_slice::<serde_json::Value>(&body)) {
        return Err(Failure::usage(format!("--body is no JSON: {e}")).hint("JSON itself, @FILE, or - for standard input"));
    }
    let Connection { profile: saved, session, .. } = Connection::open(global, options.require_tenant.as_deref()).await?;
    let call = RawCall::new(&session.tokens, saved.tenant_id, method.clone(), &options.address, body.clone()).map_err(|what| {
        Failure { code: "Address".to_owned(), target: options.address.clone(), ..Failure::usage(what) }
            .hint("such as /adminapi/beta/{tenant}/InvokeCommand or /v1.0/applications")
    })?;
    if options.show_curl {
        tell(&curl(&method, &call, saved.tenant_id, &body));
    }
    let answer = call.send(&session.http, &session.tokens, saved.tenant_id).await.map_err(|failure| match failure {
        RawFailure::Fault(fault) if fault.code == "OutcomeUnknown" => {
            Failure { exit: Some(Exit::OutcomeUnknown), retryable: false, ..fault.into() }
        }
        RawFailure::Fault(fault) => fault.into(),
        RawFailure::Refused(record) => Failure::of_record(&record, Exit::Refused),
        RawFailure::Record(first, mut further) => {
            let last = further.pop().map(Box::new);
            let before = last.is_some().then_some(&first).into_iter().map(|first| &**first).chain(&further);
            before.for_each(|record| Failure::of_record(record, Exit::Cmdlet).print(as_json));
            Failure::of_record(last.as_ref().unwrap_or(&first), Exit::Cmdlet)
        }
    })?;
    let mut out = std::io::stdout().lock();
    let end: &[u8] = if answer.is_empty() || answer.ends_with(b"\n") { b"" } else { b"\n" };
    out.write_all(&answer).and_then(|()| out.write_all(end)).and_then(|()| out.flush()).map_err(|e| output_failure(&e))?;
    Ok(Exit::Ok)
}

/// The same call for a POSIX shell, with a variable where the token is.
fn curl(method: &Method, call: &RawCall, tenant_id: Uuid, body: &[u8]) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let mut words = vec![format!("curl -X {method} {}", quoted(call.url())), "-H \"Authorization: Bearer $TOKEN\"".to_owned()];
    words.extend(call.headers(tenant_id, Uuid::new_v4()).iter().map(|(name, value)| format!("-H {}", quoted(&format!("{name}: {value}")))));
    if !body.is_empty() {
        words.push(format!("--data-binary {}", quoted(&String::from_utf8_lossy(body))));
    }
    words.join(" \\\n  ")
}
