//! The REST front end: `InvokeCommand` and its pages.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use exops_adminapi::{PAGE_SIZE, ResponseFormat, error_body, forbidden_body, link, parse_invoke};
use exops_catalogue::{Argument, Command, Pipeline};
use exops_policy::Caller;
use exops_psobject::{ErrorRecord, Limits};
use exops_runspace::{Confirm, Ended, Fault, StopToken};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use serde_json::json;
use uuid::Uuid;

use crate::connections::Paced;
use crate::cursor::{Cursor, Cursors, Made, Shape, end_record};
use crate::module_file::ModuleFile;
use crate::session::{Call, SessionLayer};
use crate::{Authenticator, Clock, Scheme, answer};

/// Longest request body: pictures and rule collections travel in parameters.
const BODY_BYTES: usize = 16 << 20;
/// Bounds of a request body; PowerShell's own encoder stops at depth 10.
const LIMITS: Limits = Limits { bytes: BODY_BYTES, depth: 32, values: 1_000_000, attributes: 0, own_members: false };
/// Results of cmdlets without `-ResultSize` come whole: the module does not follow their links.
const WHOLE_RESULT: usize = 10_000;
/// Preferences that come as headers.
const PREFERENCES: [&str; 2] = ["WarningAction", "ErrorAction"];
const JSON_PAGE: &str = "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8";

/// The front end's state.
pub(crate) struct Rest {
    authenticator: Arc<Authenticator>,
    layer: Arc<SessionLayer>,
    cursors: Cursors,
    module_file: ModuleFile,
    clock: Clock,
    server_name: String,
}

/// The operation that a path names.
enum Operation {
    Invoke,
    Banner,
    State,
    ModuleFile,
}

impl Rest {
    pub(crate) fn new(authenticator: Arc<Authenticator>, layer: Arc<SessionLayer>, clock: Clock, server_name: String) -> Self {
        Self { authenticator, layer, cursors: Cursors::default(), module_file: ModuleFile::default(), clock, server_name }
    }

    /// Whether a path is this front end's: everything below `/adminapi`, in any case.
    pub(crate) fn claims(path: &str) -> bool {
        path.split('/').nth(1).is_some_and(|first| first.eq_ignore_ascii_case("adminapi"))
    }

    pub(crate) fn reap(&self) {
        self.cursors.reap((self.clock)());
    }

    pub(crate) fn close(&self) {
        self.cursors.clear();
    }

    pub(crate) async fn answer(&self, request: Request<Paced>, peer: SocketAddr, request_id: Uuid) -> Response<Body> {
        let (parts, mut body) = request.into_parts();
        let mut response = self.respond(&parts, &mut body, peer, request_id).await;
        answer::discard(&parts.headers, &mut body).await;
        response = answer::packed(response, &parts.headers).await;
        for (name, value) in [("X-CalculatedBETarget", self.server_name.as_str()), ("OData-Version", "4.0")] {
            if let Ok(value) = value.parse() {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    async fn respond(&self, parts: &Parts, body: &mut Paced, peer: SocketAddr, request_id: Uuid) -> Response<Body> {
        let path = parts.uri.path().to_owned();
        let mut segments = path.split('/').skip(2);
        let (version, tenant) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
        let caller = match self.authenticator.caller(&parts.headers, peer, Some(tenant)) {
            Ok(caller) => caller,
            Err(denied) => return denied.response(Scheme::Bearer),
        };
        if self.layer.rights(&caller).is_empty() {
            // No directory role that leads to a role group. The real service answers the same way for a cmdlet.
            let reason =
                "The application holds no directory role that grants Exchange cmdlets: assign it one, such as Exchange Administrator";
            return answer::envelope(forbidden_body(reason));
        }
        let operation = match (segments.next().unwrap_or_default(), segments.next()) {
            (name, None) if name.eq_ignore_ascii_case("InvokeCommand") => Operation::Invoke,
            (name, None) if starts_with(name, "EXOBanner(") => Operation::Banner,
            (name, None) if starts_with(name, "basicinfo(") => Operation::State,
            (name, None) if name.eq_ignore_ascii_case("EXOModuleFile") => Operation::ModuleFile,
            _ => return answer::error(404, "NotFound", &format!("there is no resource '{path}' here")),
        };
        match operation {
            Operation::Banner => properties(json!({"sessionType": "AutogenSession", "moduleBannerContent": ""})),
            Operation::ModuleFile if parts.method != Method::GET => method_not_allowed("GET"),
            Operation::ModuleFile => match self.module_file.answer() {
                Some(answer) => properties(answer),
                None => answer::error(500, "InternalServerError", "there is no key for secrets in parameters"),
            },
            Operation::State => properties(json!({"value": "Running"})),
            // Measured on the real service: the cmdlet operation exists in 'beta' only.
            Operation::Invoke if !version.eq_ignore_ascii_case("beta") => method_not_allowed(""),
            Operation::Invoke => {
                let query = parts.uri.query().unwrap_or_default();
                let owner = (caller.tenant.0, caller.principal.object_id());
                match (query_value(query, "$skiptoken"), &parts.method) {
                    (Some(token), &Method::POST | &Method::GET) => {
                        // The module repeats the whole request with the link; the cursor remembers what was asked.
                        let _ = answer::read_body(body, BODY_BYTES).await;
                        match self.cursors.page(&token, owner, (self.clock)()).await {
                            Some(made) => made_response(&made),
                            None => expired_page(),
                        }
                    }
                    (None, &Method::POST) => self.invoke(caller, &parts.headers, query, &path, body, request_id).await,
                    _ => method_not_allowed("POST"),
                }
            }
        }
    }

    async fn invoke(
        &self,
        caller: Caller,
        headers: &HeaderMap,
        query: &str,
        path: &str,
        body: &mut Paced,
        request_id: Uuid,
    ) -> Response<Body> {
        let bytes = match answer::read_body(body, BODY_BYTES).await {
            Ok(bytes) => bytes,
            Err(413) => return answer::error(413, "RequestEntityTooLarge", &format!("a request body holds at most {BODY_BYTES} bytes")),
            Err(status) => return answer::error(status, "BadRequest", "the request body did not arrive whole"),
        };
        let invoke = match parse_invoke(&bytes, &LIMITS) {
            Ok(invoke) => invoke,
            Err(error) => return answer::error(400, "BadRequest", &error.to_string()),
        };
        let Some(format) = ResponseFormat::from_header(text(headers, "X-ResponseFormat").unwrap_or_default()) else {
            return answer::error(400, "BadRequest", "X-ResponseFormat is 'json' or 'clixml'");
        };
        let mut parameters = invoke.parameters;
        let secret = match self.layer.secret_parameters(&caller, &invoke.cmdlet).await {
            Ok(secret) => secret,
            Err(fault) => return fault_response(&fault),
        };
        for (name, value) in &mut parameters {
            // One that is not sealed with this key is refused where parameters are bound.
            let credential = secret.iter().find(|(s, _)| s.eq_ignore_ascii_case(name)).map(|(_, credential)| *credential);
            if let Some(opened) = credential.and_then(|credential| self.module_file.open(value, credential)) {
                *value = opened;
            }
        }
        // The module sends preferences as headers; a parameter of the body wins.
        for preference in PREFERENCES {
            let value = text(headers, preference).filter(|value| !value.trim().is_empty());
            if let Some(value) = value.filter(|_| !parameters.iter().any(|(name, _)| name.eq_ignore_ascii_case(preference))) {
                parameters.push((preference.to_owned(), value.trim().into()));
            }
        }
        let arguments = parameters.into_iter().map(|(name, value)| Argument { name: Some(name), value: Some(value), glued: true });
        let command = Command { name: invoke.cmdlet, arguments: arguments.collect(), ..Command::default() };
        let owner = (caller.tenant.0, caller.principal.object_id());
        let paged = match self.layer.has_result_size(&caller, &command.name).await {
            Ok(paged) => paged,
            Err(fault) => return fault_response(&fault),
        };
        let size = text(headers, "Prefer").and_then(link::max_page_size).unwrap_or(PAGE_SIZE).clamp(1, PAGE_SIZE);
        let base = format!("https://{}", text(headers, "Host").unwrap_or("localhost"));
        let tenant = caller.tenant;
        let shape = Shape {
            context: format!("{base}/adminapi/beta/{tenant}/$metadata"),
            url: format!("{base}{path}"),
            format,
            select: query_value(query, "$select").map(|s| s.split(',').map(str::to_owned).collect()).unwrap_or_default(),
            size: if paged { size } else { WHOLE_RESULT },
        };
        let call = Call {
            caller,
            pipeline: Pipeline::from(command),
            input: None,
            session: false,
            on_confirm: Confirm::ReportOnly,
            host: None,
            stop: StopToken::new(),
            correlation_id: request_id,
        };
        let mut cursor = Cursor::new(self.layer.run(call).await, shape);
        let id = Uuid::new_v4();
        let (made, more) = cursor.make(id).await;
        if more {
            self.cursors.keep(id, owner, cursor, (self.clock)());
        }
        made_response(&made)
    }
}

fn made_response(made: &Made) -> Response<Body> {
    let (errors, end, warnings) = match made {
        Made::Page(body) => return answer::whole(200, [("Content-Type", JSON_PAGE.to_owned())], body.clone()),
        Made::Error { errors, end, warnings } => (errors, end, warnings),
    };
    if let [record, further @ ..] = errors.as_slice() {
        let last = end_record(end);
        let further: Vec<&ErrorRecord> = further.iter().chain(&last).collect();
        return answer::envelope(error_body(record, &further, warnings));
    }
    match end {
        Ended::Failed(record) => answer::envelope(error_body(record, &[], warnings)),
        Ended::Refused(record) => refused(record),
        Ended::Throttled(after) => {
            let headers = [("Content-Type", "text/plain; charset=utf-8".to_owned()), ("Retry-After", after.as_secs().max(1).to_string())];
            let text = "You have reached the maximum number of concurrent requests per tenant. Please wait and try again.";
            answer::whole(429, headers, text)
        }
        Ended::SignIn(fault) | Ended::Unreachable(fault) => fault_response(fault),
        Ended::OutcomeUnknown(fault) => answer::error(500, "InternalServerError", &fault.message),
        Ended::Stopped => answer::error(503, "ServiceUnavailable", "the command was stopped"),
        _ => answer::error(500, "InternalServerError", "the command ended in a way that REST cannot tell"),
    }
}

/// A refusal as the real service words it: a cmdlet that does not exist for the caller gives the odd 403; a parameter
/// that does not exist is an unresolvable parameter set.
fn refused(record: &ErrorRecord) -> Response<Body> {
    let id = &*record.fully_qualified_error_id;
    if id.starts_with("CommandNotFoundException") {
        return answer::envelope(forbidden_body(&format!("User is not allowed to call {}", record.target_name)));
    }
    if id.starts_with("NamedParameterNotFound") {
        let name = record.message.rsplit('\'').nth(1).unwrap_or_default();
        let mut record = record.clone();
        record.message =
            format!("Parameter set cannot be resolved using the specified named parameters. Invalid cmdlet parameters specified. {name}")
                .into();
        record.exception_types.insert(0, "System.Management.Automation.AmbiguousParameterSetException".into());
        record.reason = "AmbiguousParameterSetException".into();
        return answer::envelope(error_body(&record, &[], &[]));
    }
    answer::envelope(error_body(record, &[], &[]))
}

fn fault_response(fault: &Fault) -> Response<Body> {
    answer::error(503, "ServiceUnavailable", &fault.message)
}

fn expired_page() -> Response<Body> {
    answer::error(400, "BadRequest", "Expired or Invalid pagination request. Default Expiry time is 00:30:00")
}

fn method_not_allowed(allow: &str) -> Response<Body> {
    answer::whole(405, [("Allow", allow.to_owned())], Vec::new())
}

fn properties(value: serde_json::Value) -> Response<Body> {
    answer::whole(200, [("Content-Type", JSON_PAGE.to_owned())], value.to_string().into_bytes())
}

fn starts_with(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

/// The decoded value of a query parameter, name without case.
fn query_value(query: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes()).find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.into_owned())
}
