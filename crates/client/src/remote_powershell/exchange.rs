use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exops_adminapi::{link, parse_error};
use exops_psobject::Limits;
use exops_remoting::CONTENT_TYPE;
use exops_runspace::{Fault, FaultKind};
use secrecy::{ExposeSecret as _, SecretString};

use super::redirect;
use crate::diagnosis::{missing_role, unaccepted};
use crate::http::{Answer, Cookies, Lost, Request, place};
use crate::{Http, Token, TokenSource};

/// What the far end may hold a Receive for.
pub(super) const OPERATION: Duration = Duration::from_secs(180);
/// Beyond that the connection counts as lost.
const MARGIN: Duration = Duration::from_secs(30);
/// Longest wait that is believed.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// Shortest wait that is told where the far end names none.
const BUSY: Duration = Duration::from_secs(30);

/// POSTs envelopes with the token of the moment. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Exchanger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: Http,
    tokens: TokenSource,
    cookies: Cookies,
    url: String,
    /// Where redirects came from.
    before: Vec<String>,
}

/// An answer for the session, and what it means where it is no SOAP.
pub(super) struct Exchanged {
    pub status: u16,
    pub body: Vec<u8>,
    pub refusal: Option<Fault>,
    /// Where an HTTP redirect leads.
    pub location: Option<String>,
    /// The far end is too busy now.
    pub retry_after: Option<Duration>,
}

impl Exchanger {
    pub(super) fn new(http: Http, tokens: TokenSource) -> Self {
        let url = format!("{}?BasicAuthToOAuthConversion=true", tokens.endpoint().powershell);
        Self(Arc::new(Inner { http, tokens, cookies: Cookies::default(), url, before: Vec::new() }))
    }

    /// The same where a redirect leads, when the credential may go there.
    pub(super) fn redirected(&self, location: &str) -> Result<Self, Fault> {
        let url = redirect::follow(location, &self.0.url, &self.0.before)?;
        let before = self.0.before.iter().chain([&self.0.url]).cloned().collect();
        let (http, tokens) = (self.0.http.clone(), self.0.tokens.clone());
        Ok(Self(Arc::new(Inner { http, tokens, cookies: Cookies::default(), url, before })))
    }

    /// The URL with its query.
    pub(super) fn url(&self) -> &str {
        &self.0.url
    }

    /// One exchange. A token that is not accepted is renewed once: such a request was not looked at.
    pub(super) async fn post(&self, envelope: Vec<u8>) -> Result<Exchanged, Lost> {
        let not_sent = |fault: Fault| Lost { fault, sent: false };
        let mut token = self.0.tokens.token().await.map_err(not_sent)?;
        let mut answer = self.once(&token, envelope.clone()).await?;
        if answer.status == 401 {
            token = self.0.tokens.renew(&token).await.map_err(not_sent)?;
            answer = self.once(&token, envelope).await?;
        }
        let refusal = self.refusal(&answer, &token);
        let location = answer.header("Location").filter(|_| matches!(answer.status, 301 | 302 | 307 | 308)).map(str::to_owned);
        let retry_after = answer.header("Retry-After").filter(|_| matches!(answer.status, 429 | 503));
        let retry_after = retry_after.and_then(|value| link::retry_after(value, LONGEST_PAUSE));
        Ok(Exchanged { status: answer.status, body: answer.body, refusal, location, retry_after })
    }

    async fn once(&self, token: &Token, envelope: Vec<u8>) -> Result<Answer, Lost> {
        let bearer = token.bearer();
        let pair = SecretString::from(format!("OAuthUser@{}:{}", token.claims().tenant_id, bearer.expose_secret()));
        let basic = SecretString::from(format!("Basic {}", STANDARD.encode(pair.expose_secret())));
        // What wants compression asks for it inside the protocol.
        let mut headers = vec![("Content-Type", CONTENT_TYPE.to_owned())];
        self.0.cookies.add_to(&mut headers);
        let request = Request {
            method: http::Method::POST,
            url: &self.0.url,
            headers,
            authorization: Some(basic.expose_secret()),
            body: envelope,
            timeout: OPERATION + MARGIN,
        };
        let answer = self.0.http.send(request).await?;
        self.0.cookies.take_from(&answer);
        Ok(answer)
    }

    /// Answers without SOAP: authentication, routing, unavailability.
    fn refusal(&self, answer: &Answer, token: &Token) -> Option<Fault> {
        let place = place(&self.0.url);
        let error = parse_error(answer.status, &answer.headers, &answer.body, &Limits::default());
        let why = &error.record.message;
        let mut fault = match answer.status {
            401 => {
                let fault = Fault::new(FaultKind::SignIn, format!("{place} does not accept the token: {why}"));
                unaccepted(fault, answer, &self.0.url, token, self.0.tokens.endpoint())
            }
            403 => {
                Fault::new(FaultKind::Forbidden, format!("{place} gives this application no session: {why}")).with_hint(missing_role(token))
            }
            429 | 503 => Fault::new(FaultKind::Throttled(error.retry_after.unwrap_or(BUSY)), format!("{place} is busy: {why}")),
            300..=399 => redirect::refused(&self.0.url, answer.header("Location").unwrap_or("nowhere"), "nothing leads there now"),
            404 | 405 | 413 => Fault::new(FaultKind::Protocol, format!("there is no remote PowerShell at {}: {why}", self.0.url))
                .with_hint("check --endpoint"),
            _ => return None,
        };
        fault.code = format!("HTTP{}", answer.status);
        fault.request_id = error.request_id;
        Some(fault)
    }
}
