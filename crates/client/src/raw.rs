//! One call of the admin API or of Graph as its caller wrote it.

use std::time::Duration;

use exops_adminapi::{InvokeRequest, PAGE_SIZE, parse_error};
use exops_psobject::{ErrorRecord, Limits};
use exops_runspace::{Fault, FaultKind};
use http::Method;
use secrecy::ExposeSecret as _;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::diagnosis::{missing_role, unaccepted};
use crate::http::{Request, place};
use crate::{EXCHANGE_RESOURCE, GRAPH_RESOURCE, Http, TokenSource};

/// As long as a cmdlet may take.
const TIMEOUT: Duration = Duration::from_secs(960);

/// A call that was checked and not sent yet. Its address is one of the endpoint's own.
#[derive(Debug)]
pub struct RawCall {
    method: Method,
    url: String,
    resource: &'static str,
    body: Vec<u8>,
}

/// What came back when it was no success.
#[derive(Debug)]
pub enum RawFailure {
    /// No usable answer, or none that the caller may have.
    Fault(Fault),
    /// An error of the service about this call, and those that were told after it.
    Record(Box<ErrorRecord>, Vec<ErrorRecord>),
    /// The same, with status 403.
    Refused(Box<ErrorRecord>),
}

impl From<Fault> for RawFailure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl RawCall {
    /// `address` is a path of the admin API (`/adminapi/…`) or of Graph (`/v1.0/…`, `/beta/…`), or a whole URL of one
    /// of the two; `{tenant}` and `{organization}` stand for those of the connection.
    ///
    /// # Errors
    /// The text of what is wrong with the address: another host, another path, or no Graph there.
    pub fn new(tokens: &TokenSource, tenant_id: Uuid, method: Method, address: &str, body: Vec<u8>) -> Result<Self, String> {
        let endpoint = tokens.endpoint();
        let address = address.replace("{tenant}", &tenant_id.to_string()).replace("{organization}", &endpoint.organization);
        if let Some(unknown) = address.split_once('{').and_then(|(_, rest)| rest.split_once('}')) {
            return Err(format!("'{{{}}}' stands for nothing here: there are {{tenant}} and {{organization}}", unknown.0));
        }
        let good = address.bytes().all(|b| b.is_ascii_graphic() && b != b'\\' && b != b'#');
        if !good {
            return Err(format!("'{address}' holds what no address holds: write blanks as %20"));
        }
        let bases = [
            (&endpoint.admin_api, "/adminapi/", EXCHANGE_RESOURCE),
            (&endpoint.graph, "/v1.0/", GRAPH_RESOURCE),
            (&endpoint.graph, "/beta/", GRAPH_RESOURCE),
        ];
        for (base, prefix, resource) in bases {
            let path = if address.starts_with('/') {
                Some(address.as_str())
            } else {
                address.strip_prefix(base.as_str()).filter(|_| !base.is_empty())
            };
            let Some(path) = path.filter(|p| p.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))) else {
                continue;
            };
            if base.is_empty() {
                return Err(format!("'{address}' is Graph's, and it is not known where this connection has Graph"));
            }
            let url = format!("{base}{path}");
            // What the URL parser makes of it counts: `/adminapi/../x` is another path.
            let parsed = url::Url::parse(&url).map_err(|e| format!("'{url}' is no URL: {e}"))?;
            if place(&url) != place(base) || !parsed.path().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)) {
                return Err(format!("'{address}' leads elsewhere"));
            }
            return Ok(Self { method, url, resource, body });
        }
        Err(format!("'{address}' is neither of the admin API nor of Graph of this connection; the token goes nowhere else"))
    }

    /// The whole address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it goes to the admin API; Graph else.
    #[must_use]
    pub fn is_admin_api(&self) -> bool {
        self.resource == EXCHANGE_RESOURCE
    }

    /// All headers but `Authorization` and `User-Agent`.
    #[must_use]
    pub fn headers(&self, tenant_id: Uuid, call: Uuid) -> Vec<(&'static str, String)> {
        if !self.is_admin_api() {
            let mut headers = vec![("Accept", "application/json".to_owned()), ("client-request-id", call.to_string())];
            if !self.body.is_empty() {
                headers.push(("Content-Type", "application/json".to_owned()));
            }
            return headers;
        }
        let body: Json = serde_json::from_slice(&self.body).unwrap_or_default();
        let cmdlet = body.pointer("/CmdletInput/CmdletName").and_then(Json::as_str).unwrap_or_default();
        let request = InvokeRequest {
            // A header takes no more than this.
            cmdlet: cmdlet.chars().filter(|c| c.is_ascii_graphic()).take(200).collect(),
            parameters: Vec::new(),
            max_page_size: PAGE_SIZE,
            anchor: InvokeRequest::system_mailbox_anchor(tenant_id),
            client_request_id: call,
            connection_id: call,
            application: "exops".to_owned(),
        };
        request.headers()
    }

    /// Sends it, once more with a new token where the first is refused, and gives the body of a success. Nothing is
    /// repeated otherwise: nobody here knows what the call does.
    ///
    /// # Errors
    /// See [`RawFailure`].
    pub async fn send(&self, http: &Http, tokens: &TokenSource, tenant_id: Uuid) -> Result<Vec<u8>, RawFailure> {
        let tokens = tokens.for_resource(self.resource);
        let mut token = tokens.token().await?;
        let call = Uuid::new_v4();
        let mut renewed = false;
        let answer = loop {
            let bearer = token.bearer();
            let request = Request {
                method: self.method.clone(),
                url: &self.url,
                headers: self.headers(tenant_id, call),
                authorization: Some(bearer.expose_secret()),
                body: self.body.clone(),
                timeout: TIMEOUT,
            };
            let answer = http.send(request).await.map_err(|lost| {
                let read = self.method == Method::GET || self.method == Method::HEAD;
                if lost.sent && !read {
                    crate::rest::outcome_unknown(&format!("the {} of {}", self.method, self.url), &lost.fault.message)
                } else {
                    lost.fault
                }
            })?;
            if answer.status != 401 || renewed {
                break answer;
            }
            renewed = true;
            token = tokens.renew(&token).await?;
        };
        let error = match answer.status {
            200..=299 => return Ok(answer.body),
            status => parse_error(status, &answer.headers, &answer.body, &Limits::default()),
        };
        let fault = |kind: FaultKind, text: String| {
            let mut fault = Fault::new(kind, text).with_code(format!("HTTP{}", error.status));
            fault.request_id = error.request_id.clone();
            fault
        };
        let place = place(&self.url);
        let message = &error.record.message;
        Err(match error.status {
            401 if self.is_admin_api() => {
                let fault = fault(FaultKind::SignIn, format!("{place} does not accept the token: {message}"));
                unaccepted(fault, &answer, &self.url, &token, tokens.endpoint()).into()
            }
            401 => fault(FaultKind::SignIn, format!("{place} does not accept the token: {message}"))
                .with_hint("the application needs app roles of Graph; a lab's Graph takes no application's token")
                .into(),
            403 => {
                let mut record = error.record;
                record.recommended_action = Some(missing_role(&token).into());
                RawFailure::Refused(record)
            }
            429 => fault(FaultKind::Throttled(error.retry_after.unwrap_or(Duration::from_secs(1))), format!("{place} is busy: {message}"))
                .into(),
            _ if error.structured => RawFailure::Record(error.record, error.further),
            300..=399 => fault(FaultKind::Protocol, format!("{place} redirects elsewhere, which is not followed")).into(),
            500..=599 => fault(FaultKind::Unreachable, format!("{place} failed: {message}")).with_hint("try again later").into(),
            status => fault(FaultKind::Protocol, format!("{place} answered HTTP {status} to {} {}: {message}", self.method, self.url))
                .with_hint("check the path and the method")
                .into(),
        })
    }
}
