//! One HTTP client for token, cmdlets and set-up, so that they share connections; its failures as faults.

use std::error::Error as _;
use std::sync::Mutex;
use std::time::Duration;

use exops_runspace::{Fault, FaultKind};
use secrecy::{ExposeSecret as _, SecretString};

use crate::Endpoint;

/// Longest answer that is read, in bytes.
const BODY_LIMIT: usize = 64 << 20;
/// Most bytes for which room is made because an answer announces them.
const ANNOUNCED: usize = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a file may be under way and be worked on.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(3600);
/// Header that marks a lab's answers.
const LAB_HEADER: &str = "x-exops-lab";

/// The code of faults about a connection that was cut after the request went out.
pub(crate) const CONNECTION_LOST: &str = "ConnectionLost";

/// The code of faults about a host on which nobody listens.
pub(crate) const CONNECTION_REFUSED: &str = "ConnectionRefused";

/// The code of faults about a network that leads nowhere.
pub(crate) const NO_ROUTE: &str = "Unreachable";

/// The code of faults about a far end that takes too long.
pub(crate) const TIMEOUT: &str = "Timeout";

/// The code of faults about the lab's mark.
pub const LAB_MARK: &str = "LabMark";

/// A connection pool with the trust of one endpoint. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
    is_lab: bool,
}

/// One request. Secrets are in headers and bodies only; `url` may appear in messages.
pub(crate) struct Request<'a> {
    pub method: http::Method,
    pub url: &'a str,
    pub headers: Vec<(&'static str, String)>,
    /// Value of the `Authorization` header; marked sensitive, so that it is in no log.
    pub authorization: Option<&'a str>,
    pub body: Vec<u8>,
    pub timeout: Duration,
}

/// One answer, whole.
pub(crate) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// No usable answer.
pub(crate) struct Lost {
    pub fault: Fault,
    /// The request may have reached the far end.
    pub sent: bool,
}

impl Http {
    /// A client for an endpoint: TLS 1.2 or later, no redirects followed, only the endpoint's own CA where it has one.
    ///
    /// # Errors
    /// The CA file is not PEM, or the system's trust store cannot be read.
    pub fn new(endpoint: &Endpoint) -> Result<Self, Fault> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("exops/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .https_only(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http1_only();
        if let Some(pem) = &endpoint.ca_pem {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).unwrap_or_default();
            if certificates.is_empty() {
                return Err(Fault::new(FaultKind::Unreachable, "the CA file holds no PEM certificate")
                    .with_hint("give the file that holds -----BEGIN CERTIFICATE----- blocks with --ca-file"));
            }
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().map_err(|e| Fault::new(FaultKind::Unreachable, format!("TLS cannot be set up: {}", innermost(&e))))?;
        Ok(Self { client, is_lab: endpoint.is_lab })
    }

    /// One call with a JSON answer to a service that is neither Graph nor the admin API: status and body, `Null`
    /// where the body is no JSON.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn json(
        &self,
        method: http::Method,
        url: &str,
        bearer: &SecretString,
        timeout: Duration,
    ) -> Result<(u16, serde_json::Value), Fault> {
        let authorization = SecretString::from(format!("Bearer {}", bearer.expose_secret()));
        let request = Request {
            method,
            url,
            headers: vec![("Accept", "application/json".to_owned())],
            authorization: Some(authorization.expose_secret()),
            body: Vec::new(),
            timeout,
        };
        let answer = self.send(request).await.map_err(|lost| lost.fault)?;
        Ok((answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()))
    }

    /// Sends a file as a body, part by part, to a service that answers in JSON: status and body, `Null` where the body is no
    /// JSON.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn upload(&self, url: &str, bearer: &SecretString, file: std::fs::File) -> Result<(u16, serde_json::Value), Fault> {
        let authorization = SecretString::from(format!("Bearer {}", bearer.expose_secret()));
        let request = Request {
            method: http::Method::POST,
            url,
            headers: vec![("Accept", "application/json".to_owned()), ("Content-Type", "application/octet-stream".to_owned())],
            authorization: Some(authorization.expose_secret()),
            body: Vec::new(),
            timeout: UPLOAD_TIMEOUT,
        };
        let answer = self.send_body(request, tokio::fs::File::from_std(file).into()).await.map_err(|lost| lost.fault)?;
        Ok((answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()))
    }

    pub(crate) async fn send(&self, mut request: Request<'_>) -> Result<Answer, Lost> {
        let body = std::mem::take(&mut request.body);
        self.send_body(request, body.into()).await
    }

    /// Sends a request with that body instead of its own.
    async fn send_body(&self, request: Request<'_>, body: reqwest::Body) -> Result<Answer, Lost> {
        let url = request.url;
        let mut builder = self.client.request(request.method, url).timeout(request.timeout);
        // What stays on this machine is not worth packing. Where no lab is, a loopback address is likely the end of a tunnel.
        if self.is_lab && is_loopback(url) {
            builder = builder.header(http::header::ACCEPT_ENCODING, "identity");
        }
        for (name, value) in request.headers {
            builder = builder.header(name, value);
        }
        if let Some(authorization) = request.authorization {
            let mut value = http::HeaderValue::from_str(authorization).map_err(|_| Lost {
                fault: Fault::new(FaultKind::Internal, "the token holds characters that no header takes"),
                sent: false,
            })?;
            value.set_sensitive(true);
            builder = builder.header(http::header::AUTHORIZATION, value);
        }
        let mut response = builder.body(body).send().await.map_err(|e| self.lost(&e, url))?;
        let status = response.status().as_u16();
        let headers: Vec<(String, String)> =
            response.headers().iter().map(|(n, v)| (n.as_str().to_owned(), String::from_utf8_lossy(v.as_bytes()).into_owned())).collect();
        let announced = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
        let mut body = Vec::with_capacity(announced.min(ANNOUNCED));
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > BODY_LIMIT => {
                    let text = format!("the answer of {} is longer than {} MB", place(url), BODY_LIMIT >> 20);
                    return Err(Lost { fault: Fault::new(FaultKind::Protocol, text), sent: true });
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                // A refused cmdlet is answered with a body that claims to be gzip and is none.
                Err(e) if status >= 400 && e.is_decode() => break,
                Err(e) => return Err(Lost { sent: true, ..self.lost(&e, url) }),
            }
        }
        let answer = Answer { status, headers, body };
        self.check_mark(&answer, url)?;
        Ok(answer)
    }

    fn check_mark(&self, answer: &Answer, url: &str) -> Result<(), Lost> {
        let marked = answer.header(LAB_HEADER) == Some("1");
        if marked == self.is_lab {
            return Ok(());
        }
        Err(Lost { fault: mark_fault(marked, &place(url)), sent: true })
    }

    fn lost(&self, error: &reqwest::Error, url: &str) -> Lost {
        let mut fault = self.classify(error, url);
        fault.kind = FaultKind::Unreachable;
        Lost { fault, sent: !error.is_connect() && !error.is_builder() }
    }

    fn classify(&self, error: &reqwest::Error, url: &str) -> Fault {
        let place = place(url);
        let fault = |text: String| Fault::new(FaultKind::Unreachable, text);
        for cause in causes(error) {
            if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
                return self.classify_tls(tls, &place);
            }
            match cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
                Some(std::io::ErrorKind::ConnectionRefused) if self.is_lab => {
                    return fault(format!("no lab answers at {place} (connection refused)"))
                        .with_code(CONNECTION_REFUSED)
                        .with_hint("start it with 'exops lab up', with the --data it had; 'exops lab status' shows whether one runs");
                }
                Some(std::io::ErrorKind::ConnectionRefused) => {
                    return fault(format!("{place} refused the connection"))
                        .with_code(CONNECTION_REFUSED)
                        .with_hint("check host and port; for a lab, start it with 'exops lab up'");
                }
                _ => {}
            }
        }
        let reason = innermost(error);
        if error.is_timeout() {
            return fault(format!("no answer from {place} in time"))
                .with_code(TIMEOUT)
                .with_hint("check the network and any proxy, then try again");
        }
        if error.is_connect() {
            return fault(format!("{place} is not reached: {reason}"))
                .with_code(NO_ROUTE)
                .with_hint("check the host name, the network and any firewall");
        }
        fault(format!("the connection to {place} was lost: {reason}")).with_code(CONNECTION_LOST).with_hint("try again")
    }

    fn classify_tls(&self, error: &rustls::Error, place: &str) -> Fault {
        use rustls::CertificateError as C;
        let fault = |code: &str, text: String| Fault::new(FaultKind::Unreachable, text).with_code(code);
        match error {
            rustls::Error::InvalidCertificate(C::UnknownIssuer | C::BadSignature) => fault(
                "UnknownIssuer",
                format!("the certificate of {place} comes from an authority that is not trusted here"),
            )
            .with_hint(if self.is_lab {
                "the lab has another CA than the profile knows: connect again with --lab (and --data), or give its ca.pem with --ca-file"
            } else {
                "for a lab, connect with --lab; otherwise give the authority's certificate with --ca-file"
            }),
            rustls::Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
                fault("NotValidForName", format!("the certificate of {place} is for another name"))
                    .with_hint("use a host name that the certificate holds; a lab takes more with --host-alias")
            }
            rustls::Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => {
                fault("ServerCertificateExpired", format!("the certificate of {place} has expired by this machine's clock ({})", clock()))
                    .with_hint("check that clock; a lab renews its certificate when it starts again")
            }
            rustls::Error::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => fault(
                "ServerCertificateNotYetValid",
                format!("the certificate of {place} is not valid yet by this machine's clock ({})", clock()),
            )
            .with_hint("check that clock: it is likely behind"),
            other => fault("Tls", format!("no secure connection to {place}: {other}")).with_hint("check that host and port speak TLS"),
        }
    }
}

/// The fault of a mark that does not fit the profile.
pub(crate) fn mark_fault(marked: bool, what: &str) -> Fault {
    let fault = if marked {
        Fault::new(FaultKind::SignIn, format!("{what} is a lab's, and this connection is not to a lab"))
            .with_hint("for a lab, connect with --lab; otherwise something pretends to be the cloud: check name resolution and proxies")
    } else {
        Fault::new(FaultKind::SignIn, format!("{what} does not carry the lab's mark, and this connection is to a lab"))
            .with_hint("connect without --lab to reach the cloud; nothing more was sent")
    };
    fault.with_code(LAB_MARK)
}

/// This machine's time, to the second.
fn clock() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// K-09: how far this machine's clock is from the one that stamped an answer (its `Date` header), where that is more than
/// the transport explains.
pub(crate) fn clock_error(answer: &Answer, url: &str) -> Option<String> {
    /// An answer is under way for less.
    const TOLERANCE: i64 = 90;
    let ahead = jiff::Timestamp::now().as_second().saturating_sub(date(answer)?);
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    let minutes = ahead.unsigned_abs().saturating_add(30) / 60;
    (ahead.abs() > TOLERANCE).then(|| format!("this machine's clock is {minutes} minutes {side} {}: set it", place(url)))
}

/// The far end's time (`Date`), in unix seconds.
pub(crate) fn date(answer: &Answer) -> Option<i64> {
    jiff::fmt::rfc2822::parse(answer.header("Date")?).ok().map(|date| date.timestamp().as_second())
}

/// Scheme, host and port of a URL.
pub(crate) fn place(url: &str) -> String {
    url::Url::parse(url).map(|u| u.origin().ascii_serialization()).unwrap_or_else(|_| "that address".to_owned())
}

fn is_loopback(url: &str) -> bool {
    match url::Url::parse(url).ok().as_ref().and_then(url::Url::host) {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The chain of causes, looking into `io::Error`, which hides what it wraps.
fn causes(error: &reqwest::Error) -> Vec<&(dyn std::error::Error + 'static)> {
    let mut found: Vec<&(dyn std::error::Error + 'static)> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next.filter(|_| found.len() < 16) {
        found.push(cause);
        next = match cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => cause.source(),
        };
    }
    found
}

fn innermost(error: &reqwest::Error) -> String {
    let causes = causes(error);
    let closed = |e: &std::io::Error| {
        use std::io::ErrorKind as K;
        matches!(e.kind(), K::UnexpectedEof | K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe)
    };
    if causes.iter().any(|e| e.downcast_ref::<std::io::Error>().is_some_and(closed)) {
        return "the other end closed it".to_owned();
    }
    causes.last().map_or_else(|| error.to_string(), |e| e.to_string())
}

/// Cookies of one connection: a front end's affinity cookie must come back. All requests of a connection go to one
/// host, so names are enough.
#[derive(Debug, Default)]
pub(crate) struct Cookies(Mutex<Vec<(String, String)>>);

impl Cookies {
    /// Most cookies kept.
    const LIMIT: usize = 32;

    pub(crate) fn take_from(&self, answer: &Answer) {
        let mut kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (_, value) in answer.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case("set-cookie")) {
            let Some((name, value)) = value.split(';').next().and_then(|pair| pair.split_once('=')) else { continue };
            let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
            let full = kept.len() >= Self::LIMIT;
            match kept.iter_mut().find(|(n, _)| *n == name) {
                Some((_, v)) => *v = value,
                None if full => {}
                None => kept.push((name, value)),
            }
        }
    }

    pub(crate) fn add_to(&self, headers: &mut Vec<(&'static str, String)>) {
        let kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !kept.is_empty() {
            headers.push(("Cookie", kept.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("; ")));
        }
    }
}
