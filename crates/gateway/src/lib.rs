//! Both front ends (remote PowerShell and the REST admin API) in front of any runspace, behind one TLS listener.
//!
//! A request passes: handshake in its own task → limits → route → [`authenticate`](Authenticator) → front end →
//! session layer (bind, decide, audit intent) → runspace. Routes of others (token authority, Graph, lab API) come in as
//! a router and are reached by every path that neither front end claims.
//!
//! The gateway knows no runspace by name, no directory and no authority.

mod answer;
mod authenticate;
mod chain;
mod connections;
mod cursor;
mod display;
mod listener;
mod module_file;
mod powershell;
mod quota;
mod rest;
mod restricted;
mod secrets;
mod session;
mod shells;
mod trail;
mod translate;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;

use exops_auth::token::KeySet;
use exops_policy::{RoleModel, TenantId};
use exops_runspace::Runspace;
use exops_store::Store;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use rustls::ServerConfig;
use tokio::sync::oneshot;
use tower::ServiceExt as _;
use uuid::Uuid;

use connections::Paced;

pub use authenticate::{Authenticator, Denied, Scheme};
pub use listener::tls_config;
pub use quota::Quotas;

/// A tenant that the gateway serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its domains, the initial one first.
    pub domains: Vec<String>,
}

/// Ends when the connection on which a request came is gone.
type Gone = oneshot::Receiver<Infallible>;

/// Milliseconds since 1970 UTC.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What a gateway is made of.
pub struct GatewayConfig {
    /// Where cmdlets run.
    pub runspace: Arc<dyn Runspace>,
    /// Who may call what.
    pub roles: Arc<RoleModel>,
    /// Where the audit trail is written.
    pub store: Store,
    /// The keys with which tokens verify, asked anew for every request so that a rollover takes effect at once.
    pub token_keys: Arc<dyn Fn() -> Arc<KeySet> + Send + Sync>,
    /// Accepted audiences: the cloud's resource and its aliases, without a trailing slash.
    pub audiences: Vec<String>,
    /// Served tenants.
    pub tenants: Vec<Tenant>,
    /// Base URL of the sign-in service, named in challenges.
    pub authority: String,
    /// The name that answers and errors carry for the server.
    pub server_name: String,
    /// It is a lab: every answer says `X-Exops-Lab: 1`, and tokens must carry the lab's mark. Otherwise they must not.
    pub mark_lab: bool,
    /// Routes of others, which bound the bodies that they read.
    pub extra_routes: Router,
    /// What one caller of remote PowerShell, and one address, may use.
    pub quotas: Quotas,
    /// The time.
    pub clock: Clock,
    /// TLS settings, see [`tls_config`].
    pub tls: Arc<ServerConfig>,
}

/// The listener's state and both front ends.
pub struct Gateway {
    runspace: Arc<dyn Runspace>,
    authenticator: Arc<Authenticator>,
    rest: rest::Rest,
    powershell: powershell::PowerShell,
    extra_routes: Router,
    mark_lab: bool,
    connections_per_address: usize,
    stalled_after: Duration,
    body_within: Duration,
    requests: AtomicU64,
    tls: Arc<ServerConfig>,
}

impl Gateway {
    /// A gateway that does not listen yet: [`Gateway::serve`] does.
    #[must_use]
    pub fn new(config: GatewayConfig) -> Arc<Self> {
        let authenticator = Arc::new(Authenticator {
            keys: config.token_keys,
            audiences: config.audiences,
            tenants: config.tenants,
            authority: config.authority,
            lab: config.mark_lab,
            clock: Arc::clone(&config.clock),
            uses: authenticate::TokenUses::default(),
        });
        let layer = Arc::new(session::SessionLayer {
            runspace: Arc::clone(&config.runspace),
            roles: config.roles,
            store: config.store,
            clock: Arc::clone(&config.clock),
        });
        let Quotas { connections: connections_per_address, stalled_after, body_within, .. } = config.quotas;
        Arc::new(Self {
            connections_per_address,
            stalled_after,
            body_within,
            rest: rest::Rest::new(Arc::clone(&authenticator), Arc::clone(&layer), Arc::clone(&config.clock), config.server_name.clone()),
            powershell: powershell::PowerShell::new(Arc::clone(&authenticator), layer, config.clock, config.server_name, config.quotas),
            runspace: config.runspace,
            authenticator,
            extra_routes: config.extra_routes,
            mark_lab: config.mark_lab,
            requests: AtomicU64::new(0),
            tls: config.tls,
        })
    }

    /// The token check, for routes of others that want the same one.
    #[must_use]
    pub fn authenticator(&self) -> &Arc<Authenticator> {
        &self.authenticator
    }

    /// Requests that came so far, on all routes.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Answers one request. The work runs in a task of its own: a panic in it becomes an answer, and a client that
    /// goes away does not cut a change off half-way.
    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let request_id = Uuid::new_v4();
        let gateway = Arc::clone(&self);
        let request = request.map(|body| Paced::new(body, self.body_within));
        // Dropped with this future when the connection goes; the work goes on and may look at it.
        let (_connection, gone) = oneshot::channel();
        let work = tokio::spawn(async move { gateway.route(request, peer, request_id, gone).await });
        let mut response = work.await.unwrap_or_else(|error| {
            tracing::error!(%request_id, %error, "a request failed inside the gateway");
            answer::internal(request_id)
        });
        let headers = response.headers_mut();
        if self.mark_lab {
            headers.insert("X-Exops-Lab", HeaderValue::from_static("1"));
            // A lab may have another time than the machine.
            if let Some(date) = self.date() {
                headers.entry("Date").or_insert(date);
            }
        }
        if let Ok(value) = HeaderValue::from_str(&request_id.to_string()) {
            headers.entry("request-id").or_insert(value);
        }
        response
    }

    async fn route(&self, request: Request<Paced>, peer: SocketAddr, request_id: Uuid, gone: Gone) -> Response<Body> {
        let path = request.uri().path();
        if powershell::PowerShell::claims(path) {
            return self.powershell.answer(request, peer, request_id, gone).await;
        }
        if rest::Rest::claims(path) {
            return self.rest.answer(request, peer, request_id).await;
        }
        let too_slow = request.body().too_slow();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        // A router answers every request; its error type has no values.
        let mut response = self.extra_routes.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        // Its extractors know only that the body broke off.
        if too_slow.load(Ordering::Relaxed) && response.status() == StatusCode::BAD_REQUEST {
            *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
        }
        response
    }

    /// The clock's time as headers have it.
    fn date(&self) -> Option<HeaderValue> {
        let now = jiff::Timestamp::from_millisecond((self.authenticator.clock)()).ok()?;
        let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok()?;
        HeaderValue::from_str(&text).ok()
    }

    /// Frees what is past its time: page cursors and idle sessions. Runs until it is dropped.
    async fn reap(self: Arc<Self>) {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.rest.reap();
            self.powershell.reap();
        }
    }

    /// Ends all sessions: held answers are given, running pipelines are stopped.
    async fn close_sessions(&self) {
        self.powershell.close().await;
    }

    async fn close(&self) {
        self.rest.close();
        self.runspace.close().await;
    }
}
