//! The remote PowerShell front end: one HTTP request in, one SOAP answer out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use exops_policy::Caller;
use exops_remoting::server::{Handled, HttpAnswer, ServerConfig, ServerSession, Target, fault_answer, parse, target};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::session::SessionLayer;
use crate::shells::{Opened, Shell, Shells};
use crate::{Authenticator, Scheme, answer};

/// Longest request body: twice the envelope that answers announce, for clients that count it before base64.
const BODY_BYTES: usize = 2 << 20;

/// The front end's state.
pub(crate) struct PowerShell {
    authenticator: Arc<Authenticator>,
    shells: Arc<Shells>,
    config: ServerConfig,
    server_name: String,
}

impl PowerShell {
    pub(crate) fn new(authenticator: Arc<Authenticator>, layer: Arc<SessionLayer>, server_name: String) -> Self {
        Self { authenticator, shells: Arc::new(Shells::new(layer)), config: ServerConfig::default(), server_name }
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

    /// Answers a request. `gone` is ready when the client has left.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        request_id: Uuid,
        gone: oneshot::Receiver<()>,
    ) -> Response<Body> {
        let mut response = self.respond(request, peer, request_id, gone).await;
        if let Ok(name) = self.server_name.parse() {
            response.headers_mut().insert("X-CalculatedBETarget", name);
        }
        response
    }

    async fn respond(&self, request: Request<Incoming>, peer: SocketAddr, request_id: Uuid, gone: oneshot::Receiver<()>) -> Response<Body> {
        let (parts, body) = request.into_parts();
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
        let request = match parse(&bytes, &self.config) {
            Ok(request) => request,
            Err(answer) => return soap(answer),
        };
        let Some(caller) = caller else {
            return match target(&request) {
                Target::Identify => soap(exops_remoting::server::identify(&request, &self.config)),
                _ => answer::whole(401, [("WWW-Authenticate", "Basic realm=\"Exchange\"".to_owned())], Vec::new()),
            };
        };
        tracing::debug!(%request_id, principal = %caller.principal.object_id(), "remote PowerShell request");
        match target(&request) {
            Target::Identify => soap(exops_remoting::server::identify(&request, &self.config)),
            Target::Create => {
                if !self.shells.has_rights(&caller) {
                    let reason = "2000003;reason=\"The application holds no directory role that grants Exchange cmdlets\"";
                    return answer::whole(403, [("x-ms-diagnostics", reason.to_owned())], Vec::new());
                }
                soap(self.shells.open(&request, &self.config, caller))
            }
            Target::Shell(id) => match self.shells.find(&id, &caller) {
                Some(shell) => soap(self.shells.handle(&shell, &request, caller, gone).await),
                None => soap(fault_answer::unknown_shell(&request, &id)),
            },
        }
    }
}

fn soap(answer: HttpAnswer) -> Response<Body> {
    answer::whole(answer.status, [("Content-Type", answer.content_type.to_owned())], answer.body)
}

fn is_soap(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/soap+xml")
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
