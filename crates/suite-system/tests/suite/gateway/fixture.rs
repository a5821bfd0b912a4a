//! A gateway over a scripted runspace, with a client and a key that signs tokens.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exops_audit::Entry;
use exops_auth::token::{ClientCredential, Grant, KeySet, SigningKey, mint};
use exops_catalogue::{Catalogue, Cmdlet, ConfirmImpact, Parameter, ParameterKind, SetMembership};
use exops_client::{Credential, Endpoint, Http, TokenSource};
use exops_gateway::{Gateway, GatewayConfig, Quotas, Tenant, tls_config};
use exops_policy::{Caller, DirectoryRole, EXCHANGE_MANAGE_AS_APP, RoleModel};
use exops_psobject::{ErrorCategory, ErrorRecord, SecureString, Value};
use exops_runspace::{BoxFuture, Ended, Fault, Invocation, Record, RecordStream, Runspace};
use exops_store::{AuditQuery, Store};
use exops_testkit::{Act, ORGANIZATION, ScriptedRunspace, TENANT, cmdlet, mailbox};
use secrecy::ExposeSecret as _;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Length of a long answer.
pub(super) const BIG: usize = 32 << 20;
pub(super) const AUDIENCE: &str = "https://outlook.office365.com";
const ROLES: &str = "
directory-role Exchange Administrator = Admins
directory-role Global Reader = Readers
group Admins = Writes, Reads
group Readers = Reads
role Writes = Set-Mailbox(Identity DisplayName Password WhatIf Confirm), Set-Broken, Set-Panic, Remove-Thing
role Reads = Get-Mailbox, Get-Many, Get-Part, Get-Several, Get-Mixed, Get-Slow, Get-Busy, Get-Forever, Get-Flood, Get-Faults, Get-Secrets
";

/// A runspace that panics for one cmdlet and is scripted for the rest.
struct Fragile(Arc<ScriptedRunspace>);

impl Runspace for Fragile {
    fn catalogue<'a>(&'a self, caller: &'a Caller) -> BoxFuture<'a, Result<Arc<Catalogue>, Fault>> {
        self.0.catalogue(caller)
    }
    fn invoke(&self, invocation: Invocation) -> RecordStream {
        let name = match invocation.pipeline.stages.first() {
            Some(exops_catalogue::Stage::Cmdlet(command)) => command.cmdlet.name.to_string(),
            _ => String::new(),
        };
        assert_ne!(name, "Set-Panic", "this test's runspace panics on purpose");
        self.0.invoke(invocation)
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.close()
    }
}

pub(super) struct Fixture {
    pub(super) base: String,
    pub(super) client: reqwest::Client,
    /// The certificate of the listener.
    pub(super) root: rustls_pki_types::CertificateDer<'static>,
    pub(super) key: SigningKey,
    pub(super) store: Store,
    pub(super) runspace: Arc<ScriptedRunspace>,
    pub(super) clock: Arc<AtomicI64>,
    pub(super) gateway: Arc<Gateway>,
    /// What the token service gives whoever asks.
    pub(super) given: Arc<Mutex<String>>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

fn parameter(name: &str, kind: ParameterKind) -> Arc<Parameter> {
    let sets =
        vec![SetMembership { set: None, mandatory: false, position: None, from_pipeline: false, from_pipeline_by_property_name: false }];
    Arc::new(Parameter {
        name: name.into(),
        aliases: Vec::new(),
        kind,
        type_name: "String".into(),
        sets,
        validators: Vec::new(),
        common: false,
    })
}

fn set_mailbox() -> Arc<Cmdlet> {
    Arc::new(Cmdlet {
        name: "Set-Mailbox".into(),
        parameters: vec![
            parameter("Identity", ParameterKind::Any),
            parameter("DisplayName", ParameterKind::Text),
            parameter("Password", ParameterKind::Any),
            parameter("Hidden", ParameterKind::Text),
            parameter("WhatIf", ParameterKind::Switch),
            parameter("Confirm", ParameterKind::Switch),
        ],
        default_set: None,
        supports_should_process: true,
        impact: ConfirmImpact::Medium,
    })
}

/// Asks by itself, as its impact is high.
fn remove_thing() -> Arc<Cmdlet> {
    Arc::new(Cmdlet { name: "Remove-Thing".into(), impact: ConfirmImpact::High, ..Cmdlet::clone(&set_mailbox()) })
}

fn scripts() -> Vec<(Arc<Cmdlet>, Vec<Act>)> {
    let paged = |name: &str| cmdlet(name, &["Identity", "ResultSize"]);
    let mut many: Vec<Act> = (0..25).map(|i| Act::output(mailbox(&format!("user{i:02}")))).collect();
    many.push(Act::warning("there is more"));
    let fault = ErrorRecord::new("System.TimeoutException", "one of many", ErrorCategory::OperationTimeout, "X");
    let busy = Act::End(Ended::Throttled(Duration::from_secs(3)));
    vec![
        (paged("Get-Mailbox"), vec![Act::output(mailbox("adele")), Act::warning("careful"), Act::not_found("nobody")]),
        (paged("Get-Many"), many),
        (cmdlet("Get-Part", &["Identity"]), vec![Act::not_found("nobody"), Act::warning("w")]),
        (cmdlet("Get-Several", &["Identity"]), several()),
        (
            paged("Get-Mixed"),
            vec![
                Act::output(mailbox("one")),
                Act::not_found("first"),
                Act::output(mailbox("two")),
                Act::warning("between"),
                Act::not_found("second"),
                Act::output(mailbox("three")),
                Act::End(Ended::Failed(Box::new(ErrorRecord::new(
                    "System.TimeoutException",
                    "cut short",
                    ErrorCategory::OperationTimeout,
                    "X",
                )))),
            ],
        ),
        (paged("Get-Slow"), vec![Act::output(mailbox("a")), Act::Hang]),
        (paged("Get-Busy"), vec![busy]),
        (paged("Get-Forever"), vec![Act::Hang]),
        (paged("Get-Flood"), vec![Act::Flood(Record::Output(mailbox("flood")), 3000)]),
        (paged("Get-Faults"), vec![Act::Flood(Record::Error(Box::new(fault)), 1500)]),
        (paged("Get-Secrets"), vec![Act::Flood(Record::Output(Value::SecureString(SecureString::clear("word".into()))), 1000)]),
        (set_mailbox(), vec![]),
        (cmdlet("Set-Broken", &["Identity"]), vec![Act::not_found("nobody")]),
        (cmdlet("Set-Panic", &["Identity"]), vec![]),
        (remove_thing(), vec![Act::Hang]),
        (cmdlet("Set-Hidden", &["Identity"]), vec![]),
    ]
}

/// Errors of every kind that one call can have, and nothing else that could be shown.
fn several() -> Vec<Act> {
    let error = |exception: &str, text: &str, category, target: &str| {
        let record = ErrorRecord::new(exception, text, category, "Several");
        Act::Write(Record::Error(Box::new(ErrorRecord { target_name: target.into(), activity: "Get-Several".into(), ..record })))
    };
    let ambiguous = "Microsoft.Exchange.Configuration.Tasks.ManagementObjectAmbiguousException";
    vec![
        error("Microsoft.Exchange.Configuration.Tasks.ManagementObjectNotFoundException", "no a|b", ErrorCategory::NotSpecified, "a|b"),
        error(ambiguous, "'ann' matches multiple entries.", ErrorCategory::InvalidData, "ann"),
        Act::warning("between"),
        error("System.TimeoutException", "\u{fc}ber\nzwei \u{1b}[31mZeilen", ErrorCategory::OperationTimeout, ""),
        error("System.InvalidOperationException", "not now", ErrorCategory::InvalidOperation, "bob"),
    ]
}

impl Fixture {
    pub(super) async fn start() -> Self {
        Self::with_quotas(Quotas::default()).await
    }

    pub(super) async fn with_quotas(quotas: Quotas) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.sqlite")).await.unwrap();
        let runspace = Arc::new(ScriptedRunspace::new(scripts()));
        let clock = Arc::new(AtomicI64::new(now()));
        let key = SigningKey::generate(clock.load(Ordering::Relaxed) / 1000).unwrap();
        let keys = Arc::new(KeySet::of(std::slice::from_ref(&key)).unwrap());
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let private = rustls_pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let tls = tls_config(vec![certified.cert.der().clone()], private.into()).unwrap();
        let time = Arc::clone(&clock);
        let given = Arc::new(Mutex::new(String::new()));
        let gives = Arc::clone(&given);
        let gateway = Gateway::new(GatewayConfig {
            quotas,
            runspace: Arc::new(Fragile(Arc::clone(&runspace))),
            roles: Arc::new(RoleModel::parse(ROLES).unwrap()),
            store: store.clone(),
            token_keys: Arc::new(move || Arc::clone(&keys)),
            audiences: vec![AUDIENCE.to_owned()],
            tenants: vec![
                Tenant { id: TENANT, domains: vec![ORGANIZATION.to_owned()] },
                Tenant { id: exops_policy::TenantId(Uuid::from_u128(2)), domains: vec!["fabrikam.com".to_owned()] },
            ],
            authority: "https://localhost".to_owned(),
            server_name: "LAB01.contoso.onmicrosoft.com".to_owned(),
            mark_lab: true,
            extra_routes: axum::Router::new()
                .route(
                    &format!("/{}/oauth2/v2.0/token", TENANT.0),
                    post(async move || json!({"access_token": *gives.lock().unwrap(), "expires_in": 3600}).to_string()),
                )
                .route("/ping", get(async || "pong"))
                .route("/count", post(async |body: axum::body::Bytes| body.len().to_string()))
                .route("/big", get(async || "x".repeat(BIG)))
                .route("/panic", get(async || -> &'static str { panic!("this test's route panics on purpose") }))
                .route(
                    "/slow",
                    get(async || {
                        tokio::time::sleep(Duration::from_millis(700)).await;
                        "done"
                    }),
                ),
            // A tick at every look, so that entries of the trail have an order.
            clock: Arc::new(move || time.fetch_add(1, Ordering::Relaxed)),
            tls,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(Arc::clone(&gateway).serve(listener, async {
            let _ = stopped.await;
        }));
        let root = reqwest::Certificate::from_pem(certified.cert.pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([root]).gzip(false).no_proxy().build().unwrap();
        Self {
            base,
            client,
            root: certified.cert.der().clone(),
            key,
            store,
            runspace,
            clock,
            gateway,
            given,
            stop: Some(stop),
            task,
            _folder: folder,
        }
    }

    /// What leads the program's own client here, signed in as an administrator by any secret.
    pub(super) fn own_client(&self) -> (Http, TokenSource) {
        *self.given.lock().unwrap() = self.admin();
        self.client_of(format!("{}/powershell-liveid", self.base), self.ca_pem())
    }

    /// What leads the program's own client to a session elsewhere, with tokens from here; `ca_pem` is whom it trusts.
    pub(super) fn client_of(&self, powershell: String, ca_pem: String) -> (Http, TokenSource) {
        let endpoint = Endpoint {
            authority: self.base.clone(),
            graph: String::new(),
            admin_api: self.base.clone(),
            powershell,
            organization: ORGANIZATION.to_owned(),
            tenant_id: Some(TENANT.0),
            ca_pem: Some(ca_pem.into_bytes()),
            is_lab: true,
        };
        let http = Http::new(&endpoint).unwrap();
        let tokens = TokenSource::new(http.clone(), endpoint, Uuid::from_u128(0xa), Credential::Secret("any".into()));
        (http, tokens)
    }

    /// The certificate of the listener as PEM.
    pub(super) fn ca_pem(&self) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(&self.root))
    }

    pub(super) fn token_of(
        &self,
        tenant: Uuid,
        object_id: u128,
        roles: &[&str],
        directory_roles: &[DirectoryRole],
        lab: bool,
        audience: &str,
    ) -> String {
        let roles: Vec<String> = roles.iter().map(|r| (*r).to_owned()).collect();
        let directory_roles: Vec<Uuid> = directory_roles.iter().map(|r| r.template_id()).collect();
        let grant = Grant {
            tenant,
            audience,
            app_id: Uuid::from_u128(0xa),
            object_id: Uuid::from_u128(object_id),
            app_display_name: "ExOPS test",
            credential: ClientCredential::Certificate,
            roles: &roles,
            directory_roles: &directory_roles,
            lab,
            unique_id: Uuid::new_v4(),
        };
        mint(&self.key, &grant, self.clock.load(Ordering::Relaxed) / 1000).unwrap().expose_secret().to_owned()
    }

    pub(super) fn token(&self, object_id: u128, role: DirectoryRole) -> String {
        self.token_of(TENANT.0, object_id, &[EXCHANGE_MANAGE_AS_APP], &[role], true, AUDIENCE)
    }

    pub(super) fn admin(&self) -> String {
        self.token(0xb, DirectoryRole::ExchangeAdministrator)
    }

    pub(super) fn url(&self) -> String {
        format!("{}/AdminApi/beta/{ORGANIZATION}/InvokeCommand", self.base)
    }

    pub(super) async fn invoke(&self, token: &str, name: &str, parameters: Json) -> reqwest::Response {
        let body = json!({"CmdletInput": {"CmdletName": name, "Parameters": parameters}});
        self.client.post(self.url()).bearer_auth(token).header("Prefer", "odata.maxpagesize=10").json(&body).send().await.unwrap()
    }

    pub(super) async fn entries(&self) -> Vec<Entry> {
        let page = self.store.tenant(TENANT).audit_search(&AuditQuery::default(), None, 100).await.unwrap();
        let mut entries = page.entries;
        entries.reverse();
        entries
    }

    pub(super) async fn finish(mut self) {
        let _ = self.stop.take().unwrap().send(());
        tokio::time::timeout(Duration::from_secs(20), self.task).await.unwrap().unwrap();
        assert!(self.runspace.is_closed());
    }
}

pub(super) fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
