//! The remote PowerShell front end: one HTTP request in, one SOAP answer out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use exops_remoting::server::{HttpAnswer, ServerConfig, Target, fault_answer, identify_answer, target};
use exops_remoting::wsman::{Fault, Limits, parse_request, parse_request_utf16};
use http::header::{CONTENT_TYPE, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use uuid::Uuid;

use crate::connections::Paced;
use crate::session::SessionLayer;
use crate::shells::Shells;
use crate::{Authenticator, Clock, Gone, Quotas, Scheme, answer};

/// Longest request body: twice the envelope that answers announce, for clients that count it before base64.
const BODY_BYTES: usize = 2 << 20;

/// What clients choose the mechanism from.
const BASIC_CHALLENGE: &str = "Basic realm=\"Exchange\"";
const NO_RIGHTS: &str = "2000003;reason=\"The application holds no directory role that grants Exchange cmdlets: assign it one, such as \
                         Exchange Administrator\"";

/// The front end's state.
pub(crate) struct PowerShell {
    authenticator: Arc<Authenticator>,
    shells: Arc<Shells>,
    config: ServerConfig,
    limits: Limits,
    server_name: String,
    /// This server, in the cookie of a balancer.
    node: Uuid,
}

impl PowerShell {
    pub(crate) fn new(
        authenticator: Arc<Authenticator>,
        layer: Arc<SessionLayer>,
        clock: Clock,
        server_name: String,
        quotas: Quotas,
    ) -> Self {
        let mut config = ServerConfig { broken_after: milliseconds(quotas.broken_after), ..ServerConfig::default() };
        (config.pool.pipelines, config.pool.runspaces) = (quotas.commands, quotas.runspaces);
        let shells = Arc::new(Shells::new(layer, clock, server_name.clone(), quotas));
        let limits = Limits { bytes: BODY_BYTES, ..Limits::default() };
        Self { authenticator, shells, config, limits, server_name, node: Uuid::new_v4() }
    }

    /// Whether a path is this front end's: `/powershell` or `/powershell-liveid` in any case. Clients write parameters
    /// behind it as they like (`?…`, `;PSVersion=…`, a literal `&amp;`).
    pub(crate) fn claims(path: &str) -> bool {
        let name = path.strip_prefix('/').unwrap_or_default();
        let name = name.split(['/', ';', '&']).next().unwrap_or_default();
        name.eq_ignore_ascii_case("powershell") || name.eq_ignore_ascii_case("powershell-liveid")
    }

    pub(crate) fn reap(&self) {
        self.shells.reap();
    }

    pub(crate) async fn close(&self) {
        self.shells.close().await;
    }

    pub(crate) async fn answer(&self, request: Request<Paced>, peer: SocketAddr, request_id: Uuid, gone: Gone) -> Response<Body> {
        let (parts, mut body) = request.into_parts();
        let mut response = self.respond(&parts, &mut body, peer, request_id, gone).await;
        answer::discard(&parts.headers, &mut body).await;
        response = answer::packed(response, &parts.headers).await;
        if let Ok(name) = self.server_name.parse() {
            response.headers_mut().insert("X-CalculatedBETarget", name);
        }
        response
    }

    /// What keeps a client at this server behind a balancer. It is set once and never asked for: clients on Unix drop it.
    fn affinity(&self, path: &str) -> String {
        let name = path.get(1..).unwrap_or_default().split(['/', ';', '&']).next().unwrap_or_default();
        format!("MS-WSMAN={}; path=/{name}; secure; HttpOnly", self.node.simple())
    }

    async fn respond(&self, parts: &Parts, body: &mut Paced, peer: SocketAddr, request_id: Uuid, gone: Gone) -> Response<Body> {
        let unauthenticated_identify =
            parts.headers.get("WSMANIDENTIFY").is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"unauthenticated"));
        let tenant = delegated_organization(&parts.uri.to_string());
        let caller = match self.authenticator.caller(&parts.headers, peer, tenant.as_deref()) {
            Ok(caller) => Some(caller),
            Err(_) if unauthenticated_identify => None,
            Err(denied) => return denied.response(Scheme::Basic),
        };
        if parts.method != Method::POST {
            return answer::whole(405, [("Allow", "POST".to_owned())], Vec::new());
        }
        if !is_soap(&parts.headers) {
            return answer::whole(415, [], Vec::new());
        }
        let bytes = match answer::read_body(body, BODY_BYTES).await {
            Ok(bytes) => bytes,
            Err(status) => return answer::whole(status, [], Vec::new()),
        };
        let parsed = if is_utf16(&parts.headers) { parse_request_utf16(&bytes, &self.limits) } else { parse_request(&bytes, &self.limits) };
        let request = match parsed {
            Ok(request) => request,
            // Nothing about the service is told to somebody who has not signed in.
            Err(_) if caller.is_none() => return answer::whole(400, [], Vec::new()),
            Err(error) => return soap(fault_answer(&error.fault, error.message_id.as_deref(), Uuid::new_v4())),
        };
        let target = target(&request);
        if target == Target::Identify {
            return soap(identify_answer(&request, &self.config, Uuid::new_v4()));
        }
        let Some(caller) = caller else {
            return answer::whole(401, [("WWW-Authenticate", BASIC_CHALLENGE.to_owned())], Vec::new());
        };
        tracing::debug!(%request_id, principal = %caller.principal.object_id(), ?target, "remote PowerShell request");
        let refuse = |fault: &Fault| soap(fault_answer(fault, Some(&request.message_id), Uuid::new_v4()));
        let _operation = match self.shells.admit(&caller) {
            Ok(operation) => operation,
            Err(fault) => return refuse(&fault),
        };
        match target {
            Target::Create(wanted) => {
                if !self.shells.has_rights(&caller) {
                    return answer::whole(403, [("x-ms-diagnostics", NO_RIGHTS.to_owned())], Vec::new());
                }
                let mut response = soap(self.shells.open(&request, &self.config, caller, wanted.as_deref()));
                if response.status().is_success()
                    && let Ok(cookie) = self.affinity(parts.uri.path()).parse()
                {
                    response.headers_mut().insert(SET_COOKIE, cookie);
                }
                response
            }
            Target::Shell(id) => match self.shells.find(&id, &caller) {
                Some(shell) => soap(self.shells.handle(&shell, &request, caller, gone).await),
                None => refuse(&Fault::unknown_shell(&id)),
            },
            Target::Shells => soap(self.shells.list(&request, &caller)),
            Target::Commands(id) => match self.shells.find(&id, &caller) {
                Some(shell) => soap(self.shells.commands(&shell, &request)),
                None => refuse(&Fault::unknown_shell(&id)),
            },
            Target::Refused(fault) => refuse(&fault),
            Target::Identify => refuse(&Fault::action_not_supported(&request.action.uri())),
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn soap(answer: HttpAnswer) -> Response<Body> {
    answer::whole(answer.status, [("Content-Type", answer.content_type.to_owned())], answer.body)
}

fn is_soap(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/soap+xml")
}

fn is_utf16(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let charset =
        value.split(';').skip(1).filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    charset.is_some_and(|(_, name)| name.trim().trim_matches('"').to_ascii_lowercase().starts_with("utf-16"))
}

/// `DelegatedOrg` of the query, in whatever way it was joined.
fn delegated_organization(target: &str) -> Option<String> {
    let (_, query) = target.split_once(['?', ';'])?;
    let pair = query.split(['&', ';']).find_map(|part| {
        let (name, value) = part.trim_start_matches("amp;").split_once('=')?;
        name.eq_ignore_ascii_case("DelegatedOrg").then_some(value)
    })?;
    url::form_urlencoded::parse(format!("v={pair}").as_bytes()).next().map(|(_, v)| v.into_owned())
}
