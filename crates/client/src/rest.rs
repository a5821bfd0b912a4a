//! A connection over the REST admin API as a runspace.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use exops_adminapi::{ApiError, InvokeRequest, PAGE_SIZE, Page, link, parse_page};
use exops_auth::parameter_key;
use exops_catalogue::{Catalogue, is_read};
use exops_policy::Caller;
use exops_psobject::{DateTime, ErrorCategory, ErrorRecord, InformationRecord, Limits, Value};
use exops_runspace::{
    BoxFuture, Choice, Ended, Fault, FaultKind, Host, Invocation, Record, RecordStream, Runspace, Step, StopToken, ended,
};
use futures_util::stream;
use secrecy::ExposeSecret as _;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::arguments::{self, MORE_RESULTS, ResultSize};
use crate::diagnosis::{missing_role, unaccepted};
use crate::endpoint::CLOUD;
use crate::http::{Answer, CONNECTION_LOST, Cookies, Lost, Request, place};
use crate::{Http, Token, TokenSource};

/// The service ends a cmdlet after 15 minutes; this is a minute more.
/// Error id where a question finds nobody; the one that a session without a host gives.
const UNASKED: &str = "HostFunctionNotImplemented";
const LONGEST_CMDLET: Duration = Duration::from_secs(960);
/// Tries of a read that meets a busy or broken far end, and of anything that is throttled.
const TRIES: u32 = 4;
/// First wait between tries; doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait that a far end may ask for before the call ends as throttled.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Most pages of one result.
const PAGES: usize = 100_000;

/// Runs cmdlets over `InvokeCommand`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RestConnection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: Http,
    tokens: TokenSource,
    cookies: Cookies,
    connection_id: Uuid,
    closed: StopToken,
    /// The service's public key for secrets in parameters, once one was needed.
    public_key: OnceCell<String>,
}

impl RestConnection {
    /// A connection; nothing is sent before the first cmdlet.
    #[must_use]
    pub fn new(http: Http, tokens: TokenSource) -> Self {
        let (cookies, connection_id, closed) = (Cookies::default(), Uuid::new_v4(), StopToken::new());
        Self(Arc::new(Inner { http, tokens, cookies, connection_id, closed, public_key: OnceCell::new() }))
    }

    /// The id under which the far end logs this connection.
    #[must_use]
    pub fn connection_id(&self) -> Uuid {
        self.0.connection_id
    }
}

impl Runspace for RestConnection {
    fn catalogue<'a>(&'a self, _caller: &'a Caller) -> BoxFuture<'a, Result<Arc<Catalogue>, Fault>> {
        Box::pin(async { Ok(Catalogue::built_in()) })
    }

    fn invoke(&self, invocation: Invocation) -> RecordStream {
        let run = match Run::new(self.0.clone(), &invocation) {
            Ok(run) => run,
            Err(end) => return ended(end),
        };
        let records = stream::unfold(run, |mut run| async {
            let step = run.next().await?;
            Some((step, run))
        });
        arguments::with_local_stages(Box::pin(records), &invocation)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.0.closed.stop() })
    }
}

/// One cmdlet in work: what waits to be yielded, and where the next page is.
struct Run {
    connection: Arc<Inner>,
    request: InvokeRequest,
    body: Vec<u8>,
    /// Parameters hold secrets that are not sealed yet: there is no body before.
    seals: bool,
    is_read: bool,
    what_if: bool,
    result_size: ResultSize,
    received: usize,
    pages: usize,
    /// The next page to fetch; `Start` before the first.
    next: Next,
    queue: VecDeque<Step>,
    stop: StopToken,
    deadline: Option<Duration>,
    host: Option<Arc<dyn Host>>,
}

enum Next {
    Start,
    Page(String),
    Nothing,
}

/// A try that gave no page: the end, or try again after a wait.
enum Trouble {
    End(Ended),
    Wait(Duration),
}

impl Run {
    fn new(connection: Arc<Inner>, invocation: &Invocation) -> Result<Self, Ended> {
        let stage = arguments::remote_stage(invocation, "the REST admin API runs one cmdlet at a time")?;
        let (cmdlet, mut parameters) = arguments::named(stage)?;
        // The service asks only when it is told to: what PowerShell asks for by itself, this end has to ask for.
        if arguments::asks_by_itself(stage) {
            parameters.push(("Confirm".to_owned(), Value::Bool(true)));
        }
        let result_size = ResultSize::of(stage, &parameters);
        let what_if = parameters.iter().any(|(n, v)| n.eq_ignore_ascii_case("WhatIf") && v.as_bool() == Some(true));
        let request = InvokeRequest {
            cmdlet,
            parameters,
            max_page_size: result_size.remaining(0).min(PAGE_SIZE),
            anchor: String::new(),
            client_request_id: invocation.correlation_id,
            connection_id: connection.connection_id,
            application: "exops".to_owned(),
        };
        let seals = request.parameters.iter().any(|(_, value)| value.has_secret());
        let body = if seals { Vec::new() } else { body(&request)? };
        Ok(Self {
            is_read: is_read(&request.cmdlet) || what_if,
            connection,
            request,
            body,
            seals,
            what_if,
            result_size,
            received: 0,
            pages: 0,
            next: Next::Start,
            queue: VecDeque::new(),
            stop: invocation.stop.clone(),
            deadline: invocation.deadline,
            host: invocation.host.clone(),
        })
    }

    async fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(step) = self.queue.pop_front() {
                return Some(step);
            }
            let url = match std::mem::replace(&mut self.next, Next::Nothing) {
                Next::Nothing => return None,
                Next::Start => None,
                Next::Page(url) => Some(url),
            };
            match self.page(url).await {
                Ok((Page { confirmation: Some(question), .. }, _)) if !self.what_if => match self.confirm(&question).await {
                    Ok(()) => self.next = Next::Start,
                    Err(end) => self.queue.push_back(Step::Ended(end)),
                },
                Ok((page, url)) => self.take(page, &url),
                Err(end) => self.queue.push_back(Step::Ended(end)),
            }
        }
    }

    /// Queues what a page brought, decides whether another follows.
    fn take(&mut self, page: Page, url: &str) {
        self.pages += 1;
        let room = self.result_size.remaining(self.received);
        let cut = page.objects.len() > room;
        let mut push = |record: Record| self.queue.push_back(Step::Record(record));
        let count = page.objects.len().min(room);
        page.objects.into_iter().take(count).for_each(|o| push(Record::Output(o)));
        page.errors.into_iter().for_each(|error| push(Record::Error(Box::new(named(error, &self.request.cmdlet)))));
        self.received += count;
        let more_left = cut || page.next_link.is_some();
        let go_on = page.next_link.filter(|_| !cut && self.result_size.remaining(self.received) > 0);
        let mut told = false;
        for warning in page.warnings {
            let is_more = warning.starts_with(MORE_RESULTS.split('.').next().unwrap_or_default());
            // While pages follow, "there are more" is not news.
            if !(is_more && go_on.is_some()) {
                told |= is_more;
                push(Record::Warning(warning));
            }
        }
        if let Some(text) = page.confirmation {
            push(Record::Information(Box::new(InformationRecord {
                message: format!("What if: {text}").into(),
                source: self.request.cmdlet.as_str().into(),
                time: now(),
                tags: vec!["PSHOST".into()],
            })));
        }
        match go_on {
            None => {
                if more_left && !told {
                    push(Record::Warning(MORE_RESULTS.into()));
                }
                self.queue.push_back(Step::Ended(Ended::Completed));
            }
            Some(_) if self.pages >= PAGES => {
                self.queue.push_back(Step::Ended(protocol(format!("the result has more than {PAGES} pages")).into()))
            }
            Some(next) => match link::follow(&next, url, &CLOUD) {
                Ok(next) => self.next = Next::Page(next),
                Err(e) => self.queue.push_back(Step::Ended(protocol(e.to_string()).into())),
            },
        }
    }

    /// The call was `Confirm: true`: the service told what it would do and did nothing. Asks, and makes the same call
    /// without the question.
    async fn confirm(&mut self, question: &str) -> Result<(), Ended> {
        let cmdlet = self.request.cmdlet.clone();
        let undone = |why: &str, id: &str| {
            let text = format!("{why}, and nothing was done: {question}");
            let mut record = ErrorRecord::new("System.Management.Automation.Host.HostException", text, ErrorCategory::OperationStopped, id);
            record.activity = cmdlet.as_str().into();
            record.recommended_action = Some("run it at a terminal, or with -Confirm:false".into());
            Ended::Failed(Box::new(record))
        };
        let host = self.host.clone().ok_or_else(|| undone("nobody can be asked here", UNASKED))?;
        let choices = ["&Yes", "&No"].map(|label| Choice { label: label.to_owned(), help: String::new() });
        let chosen = host.prompt_for_choice("Confirm", question, &choices, 0).await;
        if self.stop.is_stopped() {
            return Err(Ended::Stopped);
        }
        if chosen.map_err(|e| undone(&e.to_string(), UNASKED))? != 0 {
            return Err(undone("it was not confirmed", "NotConfirmed"));
        }
        for (name, value) in &mut self.request.parameters {
            if name.eq_ignore_ascii_case("Confirm") {
                *value = Value::Bool(false);
            }
        }
        self.body = self.request.body().map_err(|e| Ended::from(protocol(e.to_string())))?;
        Ok(())
    }

    /// Fetches one page; `None` is the first. Answers it with the URL that it came from.
    async fn page(&mut self, url: Option<String>) -> Result<(Page, String), Ended> {
        let connection = self.connection.clone();
        if connection.closed.is_stopped() {
            return Err(Ended::Unreachable(Fault::new(FaultKind::Unreachable, "the connection was closed")));
        }
        let mut tries = 0;
        let mut token = connection.tokens.token().await?;
        let mut renewed = false;
        let tenant = connection.tokens.endpoint().tenant_id.unwrap_or(token.claims().tenant_id);
        self.request.anchor = InvokeRequest::system_mailbox_anchor(tenant);
        if std::mem::take(&mut self.seals) {
            self.seal(&token, tenant).await?;
        }
        let url = url.unwrap_or_else(|| InvokeRequest::url(&connection.tokens.endpoint().admin_api, &tenant.to_string()));
        let stop = self.stop.clone();
        loop {
            tries += 1;
            let answer = tokio::select! {
                biased;
                () = stop.stopped() => return Err(self.stopped()),
                answer = self.exchange(&connection, &url, &token) => answer,
            };
            let trouble = match answer {
                Err(lost) => self.lost(lost, tries),
                Ok(answer) if answer.status == 401 && !renewed => {
                    renewed = true;
                    token = connection.tokens.renew(&token).await?;
                    continue;
                }
                Ok(answer) => match parse_page(answer.status, &answer.headers, &answer.body, &Limits::default()) {
                    Ok(page) => return Ok((page, url)),
                    Err(mut error) => {
                        let (further, warnings) = (std::mem::take(&mut error.further), std::mem::take(&mut error.warnings));
                        match self.refused(*error, &answer, &url, &token, tries) {
                            Trouble::End(end) => Trouble::End(self.told_beside(end, further, warnings)),
                            wait => wait,
                        }
                    }
                },
            };
            match trouble {
                Trouble::End(end) => return Err(end),
                Trouble::Wait(wait) => {
                    tracing::info!(cmdlet = %self.request.cmdlet, milliseconds = wait.as_millis(), "trying again");
                    tokio::select! {
                        () = stop.stopped() => return Err(Ended::Stopped),
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
            token = connection.tokens.token().await?;
        }
    }

    /// Queues what an answer told beside its first error. Several errors are no end, but a refusal is: each other one is a record,
    /// as in a session.
    fn told_beside(&mut self, end: Ended, further: Vec<ErrorRecord>, warnings: Vec<Arc<str>>) -> Ended {
        self.queue.extend(warnings.into_iter().map(|text| Step::Record(Record::Warning(text))));
        let several = !further.is_empty();
        let mut errors: Vec<_> = further.into_iter().map(|error| Box::new(named(error, &self.request.cmdlet))).collect();
        let end = match end {
            Ended::Failed(first) if several => {
                errors.insert(0, first);
                Ended::Completed
            }
            end => end,
        };
        self.queue.extend(errors.into_iter().map(|error| Step::Record(Record::Error(error))));
        end
    }

    /// Seals the secrets among the parameters with the service's public key.
    async fn seal(&mut self, token: &Token, tenant: Uuid) -> Result<(), Ended> {
        let connection = self.connection.clone();
        let key = connection.public_key.get_or_try_init(|| connection.fetch_public_key(token, tenant)).await?;
        for (name, value) in &mut self.request.parameters {
            let sealed = exops_adminapi::sealed(value, |secret| parameter_key::seal(key, secret));
            let sealed = sealed.map_err(|e| Ended::from(protocol(format!("-{name} was not sent: {e}"))))?;
            if let Some(sealed) = sealed {
                *value = sealed;
            }
        }
        self.body = body(&self.request)?;
        Ok(())
    }

    async fn exchange(&self, connection: &Inner, url: &str, token: &Token) -> Result<Answer, Lost> {
        let mut headers = self.request.headers();
        connection.cookies.add_to(&mut headers);
        let bearer = token.bearer();
        let request = Request {
            method: http::Method::POST,
            url,
            headers,
            authorization: Some(bearer.expose_secret()),
            body: self.body.clone(),
            timeout: self.deadline.unwrap_or(LONGEST_CMDLET),
        };
        let answer = connection.http.send(request).await?;
        connection.cookies.take_from(&answer);
        tracing::debug!(cmdlet = %self.request.cmdlet, status = answer.status, request_id = answer.header("request-id"), "answered");
        Ok(answer)
    }

    /// A stop while a request is out: a read is simply given up; a write may have been carried out.
    fn stopped(&self) -> Ended {
        if self.is_read {
            return Ended::Stopped;
        }
        Ended::OutcomeUnknown(self.unknown("it was interrupted while it ran"))
    }

    fn unknown(&self, why: &str) -> Fault {
        outcome_unknown(&self.request.cmdlet, why)
    }

    fn lost(&self, lost: Lost, tries: u32) -> Trouble {
        if lost.sent && !self.is_read {
            return Trouble::End(Ended::OutcomeUnknown(Fault { request_id: lost.fault.request_id, ..self.unknown(&lost.fault.message) }));
        }
        // Not reached at all is told at once; a read that was cut off is worth another try.
        let again = lost.sent && tries < TRIES && lost.fault.code == CONNECTION_LOST;
        if again { Trouble::Wait(FIRST_WAIT * 2u32.pow(tries - 1)) } else { Trouble::End(lost.fault.into()) }
    }

    /// An answer that is not a page, without what it tells after the first error.
    fn refused(&self, error: ApiError, answer: &Answer, url: &str, token: &Token, tries: u32) -> Trouble {
        let mut record = Box::new(named(*error.record, &self.request.cmdlet));
        let fault = |kind: FaultKind, text: String| {
            let mut fault = Fault::new(kind, text).with_code(format!("HTTP{}", error.status));
            fault.request_id = error.request_id.clone();
            fault
        };
        let back_off = FIRST_WAIT * 2u32.pow(tries - 1);
        Trouble::End(match error.status {
            401 => Ended::SignIn(unaccepted(
                fault(FaultKind::SignIn, format!("{} does not accept the token: {}", place(url), record.message)),
                answer,
                url,
                token,
                self.connection.tokens.endpoint(),
            )),
            403 => {
                record.recommended_action = Some(missing_role(token).into());
                Ended::Refused(record)
            }
            429 => {
                let wait = error.retry_after.unwrap_or(back_off);
                if tries < TRIES && wait <= LONGEST_WAIT {
                    return Trouble::Wait(wait);
                }
                Ended::Throttled(wait)
            }
            300..=399 => {
                let location = answer.header("Location").unwrap_or("nowhere");
                let text = format!("{} redirects to '{}'", place(url), location.chars().take(200).collect::<String>());
                Ended::Unreachable(
                    fault(FaultKind::Protocol, text)
                        .with_hint("redirects are not followed: connect with --endpoint to that host if you trust it"),
                )
            }
            500..=599 => {
                if self.is_read && tries < TRIES {
                    return Trouble::Wait(error.retry_after.filter(|w| *w <= LONGEST_WAIT).unwrap_or(back_off));
                }
                if error.structured {
                    Ended::Failed(record)
                } else if self.is_read {
                    Ended::Unreachable(
                        fault(FaultKind::Unreachable, format!("{} failed: {}", place(url), record.message)).with_hint("try again later"),
                    )
                } else {
                    Ended::OutcomeUnknown(Fault { request_id: error.request_id, ..self.unknown(&record.message) })
                }
            }
            _ if error.structured => Ended::Failed(record),
            200..=299 if !self.is_read => Ended::OutcomeUnknown(self.unknown(&record.message)),
            _ => Ended::Unreachable(
                fault(FaultKind::Protocol, format!("{} did not answer as an admin API does: {}", place(url), record.message))
                    .with_hint("check --endpoint"),
            ),
        })
    }
}

/// The body of a call; a value that has no encoding is told as one that does not bind.
fn body(request: &InvokeRequest) -> Result<Vec<u8>, Ended> {
    request.body().map_err(|e| {
        let mut record =
            ErrorRecord::new("System.Management.Automation.ParameterBindingException", e.to_string(), ErrorCategory::InvalidArgument, "");
        record.activity = request.cmdlet.as_str().into();
        Ended::Refused(Box::new(record))
    })
}

impl Inner {
    /// The service's public key for secrets in parameters.
    async fn fetch_public_key(&self, token: &Token, tenant: Uuid) -> Result<String, Ended> {
        let url = InvokeRequest::module_file_url(&self.tokens.endpoint().admin_api, &tenant.to_string());
        let mut headers = vec![
            ("Accept", "application/json".to_owned()),
            ("X-AnchorMailbox", InvokeRequest::system_mailbox_anchor(tenant)),
            // The file holds the functions that are asked for, and the key in any case.
            ("CommandName", "Get-AcceptedDomain".to_owned()),
            ("SkipLoadingFormatData", "true".to_owned()),
        ];
        self.cookies.add_to(&mut headers);
        let bearer = token.bearer();
        let authorization = Some(bearer.expose_secret());
        let request = Request { method: http::Method::GET, url: &url, headers, authorization, body: Vec::new(), timeout: LONGEST_CMDLET };
        let answer = self.http.send(request).await.map_err(|lost| Ended::from(lost.fault))?;
        let key = exops_adminapi::public_key(&answer.body, &Limits::default()).filter(|_| answer.status == 200);
        key.ok_or_else(|| {
            let text = format!("{} gives no public key for the secret, which was not sent (HTTP {})", place(&url), answer.status);
            protocol(text).with_code("NoPublicKey").with_hint("send it over remote PowerShell, with --transport rps").into()
        })
    }
}

/// The fault of a write that may or may not have been carried out.
pub(crate) fn outcome_unknown(cmdlet: &str, why: &str) -> Fault {
    Fault::new(FaultKind::Unreachable, format!("nobody can tell whether {cmdlet} was carried out: {why}"))
        .with_code("OutcomeUnknown")
        .with_hint("read the object back before you try again; Search-AdminAuditLog shows what was carried out")
}

fn protocol(text: String) -> Fault {
    Fault::new(FaultKind::Protocol, text)
}

/// This machine's time.
pub(crate) fn now() -> DateTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    DateTime::from_unix_milliseconds(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// An error with the cmdlet's name, which the service leaves out where only one can be meant.
fn named(mut record: ErrorRecord, cmdlet: &str) -> ErrorRecord {
    if record.activity.is_empty() {
        record.activity = cmdlet.into();
    }
    record
}
