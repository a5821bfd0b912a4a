#![allow(clippy::unwrap_used)]
//! The gateway in front of a scripted runspace, over real TLS connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exops_audit::{Ending, Entry};
use exops_auth::token::{ClientCredential, Grant, KeySet, SigningKey, mint};
use exops_catalogue::{Catalogue, Cmdlet, ConfirmImpact, Parameter, ParameterKind, SetMembership};
use exops_gateway::{Gateway, GatewayConfig, Tenant, tls_config};
use exops_policy::{Caller, DirectoryRole, EXCHANGE_MANAGE_AS_APP, RoleModel};
use exops_psobject::{ErrorCategory, ErrorRecord, PsObject, Value};
use exops_psrp::{Command, PipelineEnd, PipelineRequest};
use exops_remoting::client::{ClientConfig, ClientEvent, ClientSession};
use exops_runspace::{BoxFuture, Ended, Fault, Invocation, Record, RecordStream, Runspace};
use exops_store::{AuditQuery, Store};
use exops_testkit::{Act, ORGANIZATION, ScriptedRunspace, TENANT, cmdlet, mailbox};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH};
use secrecy::ExposeSecret as _;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use uuid::Uuid;

const AUDIENCE: &str = "https://outlook.office365.com";
const ROLES: &str = "
directory-role Exchange Administrator = Admins
directory-role Global Reader = Readers
group Admins = Writes, Reads
group Readers = Reads
role Writes = Set-Mailbox(Identity DisplayName Password WhatIf Confirm), Set-Broken, Set-Panic
role Reads = Get-Mailbox, Get-Many, Get-Part, Get-Slow, Get-Busy, Get-Forever, Get-Flood
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

struct Fixture {
    base: String,
    client: reqwest::Client,
    key: SigningKey,
    store: Store,
    runspace: Arc<ScriptedRunspace>,
    clock: Arc<AtomicI64>,
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

fn scripts() -> Vec<(Arc<Cmdlet>, Vec<Act>)> {
    let paged = |name: &str| cmdlet(name, &["Identity", "ResultSize"]);
    let mut many: Vec<Act> = (0..25).map(|i| Act::output(mailbox(&format!("user{i:02}")))).collect();
    many.push(Act::warning("there is more"));
    let busy = Act::End(Ended::Throttled(Duration::from_secs(3)));
    vec![
        (paged("Get-Mailbox"), vec![Act::output(mailbox("adele")), Act::warning("careful"), Act::not_found("nobody")]),
        (paged("Get-Many"), many),
        (cmdlet("Get-Part", &["Identity"]), vec![Act::not_found("nobody"), Act::warning("w")]),
        (paged("Get-Slow"), vec![Act::output(mailbox("a")), Act::Hang]),
        (paged("Get-Busy"), vec![busy]),
        (paged("Get-Forever"), vec![Act::Hang]),
        (paged("Get-Flood"), vec![Act::Flood(Record::Output(mailbox("flood")), 3000)]),
        (set_mailbox(), vec![]),
        (cmdlet("Set-Broken", &["Identity"]), vec![Act::not_found("nobody")]),
        (cmdlet("Set-Panic", &["Identity"]), vec![]),
        (cmdlet("Set-Hidden", &["Identity"]), vec![]),
    ]
}

impl Fixture {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.sqlite")).await.unwrap();
        let runspace = Arc::new(ScriptedRunspace::new(scripts()));
        let clock = Arc::new(AtomicI64::new(jiff_now()));
        let key = SigningKey::generate(clock.load(Ordering::Relaxed) / 1000).unwrap();
        let keys = Arc::new(KeySet::of(std::slice::from_ref(&key)).unwrap());
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let private = rustls_pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let tls = tls_config(vec![certified.cert.der().clone()], private.into()).unwrap();
        let time = Arc::clone(&clock);
        let gateway = Gateway::new(GatewayConfig {
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
                .route("/ping", get(async || "pong"))
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
        let task = tokio::spawn(gateway.serve(listener, async {
            let _ = stopped.await;
        }));
        let root = reqwest::Certificate::from_pem(certified.cert.pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([root]).gzip(false).no_proxy().build().unwrap();
        Self { base, client, key, store, runspace, clock, stop: Some(stop), task, _folder: folder }
    }

    fn token_of(
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

    fn token(&self, object_id: u128, role: DirectoryRole) -> String {
        self.token_of(TENANT.0, object_id, &[EXCHANGE_MANAGE_AS_APP], &[role], true, AUDIENCE)
    }

    fn admin(&self) -> String {
        self.token(0xb, DirectoryRole::ExchangeAdministrator)
    }

    fn url(&self) -> String {
        format!("{}/AdminApi/beta/{ORGANIZATION}/InvokeCommand", self.base)
    }

    async fn invoke(&self, token: &str, name: &str, parameters: Json) -> reqwest::Response {
        let body = json!({"CmdletInput": {"CmdletName": name, "Parameters": parameters}});
        self.client.post(self.url()).bearer_auth(token).header("Prefer", "odata.maxpagesize=10").json(&body).send().await.unwrap()
    }

    async fn entries(&self) -> Vec<Entry> {
        let page = self.store.tenant(TENANT).audit_search(&AuditQuery::default(), None, 100).await.unwrap();
        let mut entries = page.entries;
        entries.reverse();
        entries
    }

    async fn finish(mut self) {
        let _ = self.stop.take().unwrap().send(());
        tokio::time::timeout(Duration::from_secs(20), self.task).await.unwrap().unwrap();
        assert!(self.runspace.is_closed());
    }
}

fn jiff_now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_a_good_token() {
    let fixture = Fixture::start().await;
    let good = fixture.admin();
    let admin = [DirectoryRole::ExchangeAdministrator];
    let app = [EXCHANGE_MANAGE_AS_APP];
    let other_key = SigningKey::generate(jiff_now() / 1000).unwrap();
    let forged = {
        let grant = Grant {
            tenant: TENANT.0,
            audience: AUDIENCE,
            app_id: Uuid::nil(),
            object_id: Uuid::nil(),
            app_display_name: "",
            credential: ClientCredential::Secret,
            roles: &[EXCHANGE_MANAGE_AS_APP.to_owned()],
            directory_roles: &[],
            lab: true,
            unique_id: Uuid::nil(),
        };
        mint(&other_key, &grant, jiff_now() / 1000).unwrap().expose_secret().to_owned()
    };
    let foreign = fixture.token_of(Uuid::from_u128(2), 1, &app, &admin, true, AUDIENCE);
    let unserved = fixture.token_of(Uuid::from_u128(3), 1, &app, &admin, true, AUDIENCE);
    let graph = fixture.token_of(TENANT.0, 1, &app, &admin, true, "https://graph.microsoft.com");
    let no_role = fixture.token_of(TENANT.0, 1, &[], &admin, true, AUDIENCE);
    let unmarked = fixture.token_of(TENANT.0, 1, &app, &admin, false, AUDIENCE);
    // A-01, J-15, J-16: each with a word of the reason.
    let table: Vec<(Vec<String>, &str)> = vec![
        (vec![], "no Authorization"),
        (vec![String::new()], "no credentials"),
        (vec!["Bearer".to_owned()], "no credentials"),
        (vec!["Bearer  ".to_owned()], "no credentials"),
        (vec![format!("Bearer {good}"), format!("Bearer {good}")], "more than one"),
        (vec![format!("Negotiate {good}")], "neither"),
        (vec![basic("", &format!("Bearer {good}"))], "Basic credentials"),
        (vec![basic("user", &good)], "Basic credentials"),
        (vec!["Basic !!!".to_owned()], "Basic credentials"),
        (vec!["Bearer garbage".to_owned()], "malformed"),
        (vec![format!("Bearer {forged}")], "not known"),
        (vec![format!("Bearer {graph}")], "audience"),
        (vec![format!("Bearer {unserved}")], "not served"),
        (vec![format!("Bearer {unmarked}")], "not the lab's"),
        (vec![format!("Bearer {no_role}")], "no permissions"),
    ];
    for (values, reason) in &table {
        for (url, challenge) in [(fixture.url(), "Bearer "), (format!("{}/PowerShell-LiveId?x=y", fixture.base), "Basic realm=")] {
            let mut request = fixture.client.post(url).header("Content-Type", "application/soap+xml");
            for value in values {
                request = request.header(AUTHORIZATION, value);
            }
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 401, "{reason}");
            let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
            assert!(header("WWW-Authenticate").starts_with(challenge));
            assert!(header("x-ms-diagnostics").contains(reason), "{} / {reason}", header("x-ms-diagnostics"));
            assert_eq!((header("X-Exops-Lab"), header("content-length")), ("1".to_owned(), "0".to_owned()));
        }
    }
    // J-16: the path's tenant and the routing hint must be the token's.
    assert_eq!(fixture.invoke(&foreign, "Get-Mailbox", json!({})).await.status(), 401);
    let anchored =
        |anchor: String| fixture.client.post(fixture.url()).bearer_auth(&good).header("X-AnchorMailbox", anchor).body("{}").send();
    assert_eq!(anchored(format!("APP:SystemMailbox{{x}}@{}", Uuid::from_u128(9))).await.unwrap().status(), 401);
    assert_eq!(anchored("UPN:a@FABRIKAM.com".to_owned()).await.unwrap().status(), 401);
    assert_eq!(anchored("UPN:a@somewhere.example".to_owned()).await.unwrap().status(), 400, "an unknown domain decides nothing");
    let delegated = format!("{}/powershell?a=b;DelegatedOrg=fabrikam.com", fixture.base);
    assert_eq!(fixture.client.post(delegated).bearer_auth(&good).send().await.unwrap().status(), 401);

    // Every good way in: Bearer and Basic in any case, tenant by id or domain.
    let by_id = fixture.url().replace(ORGANIZATION, &TENANT.to_string());
    for (url, value) in [
        (fixture.url(), format!("bEARER {good}")),
        (by_id.clone(), basic("anyone@nowhere", &format!("Bearer {good}"))),
        (by_id, basic("u", &format!("bearer {good}")).replace("Basic", "basic")),
    ] {
        let body = json!({"CmdletInput": {"CmdletName": "Get-Mailbox"}});
        let answer = fixture.client.post(url).header(AUTHORIZATION, value).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    // J-09: over, skew included.
    fixture.clock.fetch_add(3_901_000, Ordering::Relaxed);
    let late = fixture.invoke(&good, "Get-Mailbox", json!({})).await;
    assert!(late.headers()["x-ms-diagnostics"].to_str().unwrap().contains("expired"));
    assert!(fixture.entries().await.is_empty(), "reads and refused sign-ins leave no entry");

    // A directory role that leads nowhere: 403 on both faces.
    let stranger = fixture.token(0xc, DirectoryRole::SecurityReader);
    let answer = fixture.invoke(&stranger, "Get-Mailbox", json!({})).await;
    assert_eq!(answer.status(), 403);
    assert!(answer.bytes().await.unwrap().iter().all(|b| *b == 0));
    let mut session = Session::new(&fixture, &stranger);
    session.turn().await;
    assert_eq!(session.statuses, [403]);
    fixture.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_pages() {
    let fixture = Fixture::start().await;
    let token = fixture.admin();
    let first = fixture.invoke(&token, "get-MANY", json!({"ResultSize": "Unlimited"})).await;
    assert_eq!(first.status(), 200);
    for header in ["request-id", "x-calculatedbetarget", "odata-version", "date", "content-length"] {
        assert!(first.headers().contains_key(header), "{header}");
    }
    let first: Json = first.json().await.unwrap();
    assert_eq!((first["value"].as_array().unwrap().len(), &first["@adminapi.warnings"]), (10, &json!([])));
    assert_eq!(first["value"][0]["Guid@data.type"], "System.Guid");
    let link = first["@odata.nextLink"].as_str().unwrap().to_owned();
    assert!(link.starts_with(&fixture.url()), "{link}");

    // Somebody else's link is no link.
    let reader = fixture.token(0xd, DirectoryRole::GlobalReader);
    let foreign = fixture.client.post(&link).bearer_auth(&reader).send().await.unwrap();
    assert_eq!(foreign.status(), 400);
    assert!(foreign.text().await.unwrap().contains("pagination request"));

    let page = |link: String| {
        let request = fixture.client.post(link).bearer_auth(&token).body("{\"CmdletInput\":{\"CmdletName\":\"Get-Many\"}}");
        async move { request.send().await.unwrap().bytes().await.unwrap() }
    };
    let second = page(link.clone()).await;
    let again = fixture.client.get(&link).bearer_auth(&token).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(second, again, "a repeated request gets the same page");
    let second: Json = serde_json::from_slice(&second).unwrap();
    let last_link = second["@odata.nextLink"].as_str().unwrap().to_owned();
    let last = page(last_link.clone()).await;
    assert_eq!(last, page(last_link.clone()).await);
    let last: Json = serde_json::from_slice(&last).unwrap();
    assert_eq!((last["value"].as_array().unwrap().len(), &last["@adminapi.warnings"]), (5, &json!(["there is more"])));
    assert!(last.get("@odata.nextLink").is_none());
    assert_eq!(last["value"][4]["Alias"], "user24");
    // The page before the last one is gone.
    assert!(String::from_utf8_lossy(&page(link).await).contains("Expired or Invalid"));

    // Half an hour later the rest of a result is gone, and so is what it held.
    let slow: Json = fixture.invoke(&token, "Get-Many", json!({})).await.json().await.unwrap();
    let link = slow["@odata.nextLink"].as_str().unwrap().to_owned();
    fixture.clock.fetch_add(31 * 60 * 1000, Ordering::Relaxed);
    assert!(String::from_utf8_lossy(&page(link).await).contains("Expired or Invalid"));

    // $select, CLIXML, an unknown format.
    let token = fixture.admin();
    let send = |query: &str, format: &str| {
        let body = json!({"CmdletInput": {"CmdletName": "Get-Many"}});
        fixture.client.post(fixture.url() + query).bearer_auth(&token).header("X-ResponseFormat", format).json(&body).send()
    };
    let selected: Json = send("?$select=Alias,guid", "json").await.unwrap().json().await.unwrap();
    let keys: Vec<_> = selected["value"][0].as_object().unwrap().keys().filter(|k| !k.contains('@')).collect();
    assert_eq!((keys.len(), selected["value"].as_array().unwrap().len()), (2, 25));
    let clixml: Json = send("", "clixml").await.unwrap().json().await.unwrap();
    assert!(clixml["value"][0]["_clixml"].as_str().unwrap().contains("user24"));
    assert_eq!(send("", "yaml").await.unwrap().status(), 400);
    fixture.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_errors() {
    let fixture = Fixture::start().await;
    let token = fixture.admin();
    let reader = fixture.token(0xd, DirectoryRole::GlobalReader);

    // Output and errors: 200 with both. Only errors: the envelope.
    let part: Json = fixture.invoke(&token, "Get-Mailbox", json!({})).await.json().await.unwrap();
    assert_eq!((part["value"].as_array().unwrap().len(), &part["@adminapi.warnings"]), (1, &json!(["careful"])));
    assert!(part["@adminapi.errors"][0].as_str().unwrap().contains("'nobody'"));
    let missing = fixture.invoke(&token, "Get-Part", json!({})).await;
    assert_eq!(
        (missing.status().as_u16(), &missing.headers()["x-exceptiontype"]),
        (404, &"ManagementObjectNotFoundException".parse().unwrap())
    );
    let missing: Json = missing.json().await.unwrap();
    assert!(missing["error"]["details"][0]["message"].as_str().unwrap().starts_with("Ex6F9304|Microsoft.Exchange"));
    assert_eq!(missing["error"]["@adminapi.warnings"], json!(["w"]));

    // Does not exist, is not granted, is not granted in this form.
    for (token, name) in [
        (&token, "Get-Nothing"),
        (&token, "Set-Hidden"),
        (&reader, "Set-Mailbox"),
        (&token, "Mod\\Get-Mailbox"),
        (&token, "Get-*"),
        (&token, "Get-Mailbox "),
    ] {
        let refused = fixture.invoke(token, name, json!({})).await;
        assert_eq!((refused.status().as_u16(), &refused.headers()["content-encoding"]), (403, &"gzip".parse().unwrap()), "{name}");
        let body = refused.bytes().await.unwrap();
        assert!(!body.is_empty() && body.iter().all(|b| *b == 0));
    }
    for parameters in [json!({"Nonsense": 1}), json!({"Hidden": "not in the role"})] {
        let unknown = fixture.invoke(&token, "Set-Mailbox", parameters).await;
        assert_eq!(unknown.status(), 400);
        let text = unknown.text().await.unwrap();
        assert!(text.contains("AmbiguousParameterSetException") && text.contains("Invalid cmdlet parameters specified."), "{text}");
    }
    let busy = fixture.invoke(&token, "Get-Busy", json!({})).await;
    assert_eq!((busy.status().as_u16(), &busy.headers()["retry-after"]), (429, &"3".parse().unwrap()));

    // Paths, verbs, bodies.
    let post =
        |path: &str, body: &'static str| fixture.client.post(format!("{}{path}", fixture.base)).bearer_auth(&token).body(body).send();
    assert_eq!(post(&format!("/adminapi/v1.0/{ORGANIZATION}/InvokeCommand"), "{}").await.unwrap().status(), 405);
    assert_eq!(post(&format!("/adminapi/beta/{ORGANIZATION}/Nothing"), "{}").await.unwrap().status(), 404);
    assert_eq!(fixture.client.get(fixture.url()).bearer_auth(&token).send().await.unwrap().status(), 405);
    let banner: Json = fixture
        .client
        .get(format!("{}/AdminApi/v1.0/{ORGANIZATION}/EXOBanner('AutogenSession')?Version=1", fixture.base))
        .bearer_auth(&token)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(banner["sessionType"], "AutogenSession");
    for body in ["", "{", "[]", "{\"CmdletInput\":{\"CmdletName\":5}}"] {
        let answer = post(&format!("/adminapi/beta/{ORGANIZATION}/InvokeCommand"), body).await.unwrap();
        assert_eq!(answer.status(), 400);
        assert_eq!(answer.json::<Json>().await.unwrap()["error"]["code"], "BadRequest");
    }
    let deep = format!("{{\"CmdletInput\":{}", "[".repeat(10_000));
    let answer = fixture.client.post(fixture.url()).bearer_auth(&token).body(deep).send().await.unwrap();
    assert!(answer.text().await.unwrap().contains("deeper than"));
    let large = vec![b' '; (16 << 20) + 1];
    let answer = fixture.client.post(fixture.url()).bearer_auth(&token).body(large).send().await;
    assert!(answer.is_err() || answer.unwrap().status() == 413);
    fixture.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_no_read_leaves_one_entry() {
    let fixture = Fixture::start().await;
    let token = fixture.admin();
    let reader = fixture.token(0xd, DirectoryRole::GlobalReader);
    // L-01: none of these may turn up in the trail.
    let canary = "c4n4ry";
    let parameters = json!({"Identity": "adele", "DisplayName": "Adele V", "Password": canary});
    assert_eq!(fixture.invoke(&token, "set-mailbox", parameters.clone()).await.status(), 200);
    assert_eq!(fixture.invoke(&token, "Set-Broken", json!({"Identity": "nobody"})).await.status(), 404);
    assert_eq!(fixture.invoke(&token, "Set-Mailbox", json!({"Nonsense": 1, "Pass": canary})).await.status(), 400);
    assert_eq!(fixture.invoke(&reader, "Set-Mailbox", parameters).await.status(), 403);
    assert_eq!(fixture.invoke(&token, "Remove-Everything", json!({"AccessToken": canary})).await.status(), 403);
    assert_eq!(fixture.invoke(&token, "Set-Panic", json!({})).await.status(), 500);
    // No entry: reads, refused reads, -WhatIf, a validation call.
    fixture.invoke(&token, "Get-Mailbox", json!({})).await;
    fixture.invoke(&token, "Get-Nothing", json!({})).await;
    fixture.invoke(&token, "Set-Mailbox", json!({"Identity": "adele", "WhatIf": true})).await;
    fixture.invoke(&token, "Set-Mailbox", json!({"Identity": "adele", "Confirm": true})).await;
    let confirms: Vec<_> = fixture.runspace.invocations().iter().map(|i| (i.confirm, i.permit.is_some(), i.intent.is_some())).collect();
    assert_eq!(confirms[0], (exops_runspace::Confirm::Yes, true, true));
    assert_eq!(confirms.last(), Some(&(exops_runspace::Confirm::ReportOnly, true, false)));

    let entries = fixture.entries().await;
    let seen: Vec<_> = entries.iter().map(|e| (e.intent.cmdlet.as_str(), e.outcome.as_ref().unwrap().ending.word())).collect();
    assert_eq!(
        seen,
        [
            ("Set-Mailbox", "succeeded"),
            ("Set-Broken", "failed"),
            ("Set-Mailbox", "refused"),
            ("Set-Mailbox", "refused"),
            ("Remove-Everything", "refused"),
            ("Set-Panic", "unknown"),
        ]
    );
    let actor = &entries[0].intent.actor;
    assert_eq!((actor.name.as_str(), actor.app_id, actor.object_id), ("ExOPS test", Uuid::from_u128(0xa), Uuid::from_u128(0xb)));
    assert!(actor.client_address.starts_with("127.0.0.1:"));
    let parameters: BTreeMap<_, _> = entries[0].intent.parameters.iter().map(|p| (p.name.as_str(), p.value.as_str())).collect();
    assert_eq!(parameters, BTreeMap::from([("Identity", "adele"), ("DisplayName", "Adele V"), ("Password", "System.String")]));
    assert!(!format!("{entries:?}").contains(canary));
    assert!(matches!(&entries[1].outcome.as_ref().unwrap().ending, Ending::Failed(text) if text.contains("'nobody'")));

    // No trail, no work (L-03); reads go on.
    fixture.store.close().await;
    let before = fixture.runspace.invocations().len();
    let refused = fixture.invoke(&token, "Set-Mailbox", json!({"Identity": "adele"})).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.text().await.unwrap().contains("audit trail cannot be written"));
    assert_eq!(fixture.runspace.invocations().len(), before);
    assert_eq!(fixture.invoke(&token, "Get-Mailbox", json!({})).await.status(), 200);
    fixture.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_serves_others_while_somebody_dawdles() {
    let fixture = Fixture::start().await;
    let address = fixture.base.trim_start_matches("https://").to_owned();
    // H-10: peers that never begin their handshake, or never send a head.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(tokio::net::TcpStream::connect(&address).await.unwrap());
    }
    let ping = |path: &'static str| fixture.client.get(format!("{}{path}", fixture.base)).send();
    let answer = ping("/ping").await.unwrap();
    assert_eq!(answer.headers()["x-exops-lab"], "1");
    assert_eq!(answer.text().await.unwrap(), "pong");
    let panicked = ping("/panic").await.unwrap();
    assert_eq!(panicked.status(), 500);
    assert!(panicked.text().await.unwrap().contains("request failed inside"));
    assert_eq!(ping("/nothing").await.unwrap().status(), 404);
    // A client that leaves does not cut a change off.
    let body = json!({"CmdletInput": {"CmdletName": "Set-Mailbox", "Parameters": {"Identity": "left"}}});
    let request = fixture.client.post(fixture.url()).bearer_auth(fixture.admin()).json(&body).timeout(Duration::from_micros(1));
    let _ = request.send().await;
    // A request in flight is answered after shutdown was asked for; new connections are not taken.
    let slow = tokio::spawn(ping("/slow"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let client = fixture.client.clone();
    let url = format!("{}/ping", fixture.base);
    let began = Instant::now();
    fixture.finish().await;
    assert!(began.elapsed() < Duration::from_secs(4), "silent peers do not hold the drain up");
    assert_eq!(slow.await.unwrap().unwrap().text().await.unwrap(), "done");
    assert!(client.get(url).send().await.is_err());
}

/// Drives a [`ClientSession`] over HTTP.
struct Session {
    machine: ClientSession,
    client: reqwest::Client,
    url: String,
    token: String,
    requests: JoinSet<(exops_remoting::client::RequestId, Option<(u16, Vec<u8>)>)>,
    statuses: Vec<u16>,
    pool_id: Uuid,
}

impl Session {
    fn new(fixture: &Fixture, token: &str) -> Self {
        let url = format!("{}/PowerShell-LiveId?BasicAuthToOAuthConversion=true;PSVersion=7.0", fixture.base);
        let pool_id = Uuid::new_v4();
        let config = ClientConfig { operation_timeout: 2_000, ..ClientConfig::new(&url, pool_id, Uuid::new_v4()) };
        Self {
            machine: ClientSession::new(config, Box::new(Uuid::new_v4)),
            client: fixture.client.clone(),
            url,
            token: token.to_owned(),
            requests: JoinSet::new(),
            statuses: Vec::new(),
            pool_id,
        }
    }

    /// Sends what there is to send and takes one answer.
    async fn turn(&mut self) {
        while let Some((id, body)) = self.machine.poll_request() {
            let request = self
                .client
                .post(&self.url)
                .header(AUTHORIZATION, basic("OAuthUser@tenant", &format!("Bearer {}", self.token)))
                .header("Content-Type", "application/soap+xml;charset=UTF-8")
                .body(body);
            self.requests.spawn(async move {
                let Ok(answer) = request.send().await else { return (id, None) };
                assert!(answer.headers().contains_key(CONTENT_LENGTH), "always with a length");
                let status = answer.status().as_u16();
                (id, answer.bytes().await.ok().map(|body| (status, body.to_vec())))
            });
        }
        match self.requests.join_next().await.map(Result::unwrap) {
            Some((id, Some((status, body)))) => {
                self.statuses.push(status);
                self.machine.handle_answer(id, status, &body);
            }
            Some((id, None)) => self.machine.handle_lost(id),
            None => {}
        }
    }

    async fn event(&mut self) -> ClientEvent {
        loop {
            if let Some(event) = self.machine.next_event() {
                return event;
            }
            tokio::time::timeout(Duration::from_secs(10), self.turn()).await.unwrap();
        }
    }

    async fn open(&mut self) {
        assert_eq!(self.event().await, ClientEvent::Opened);
    }

    /// Everything until the pipeline's end.
    async fn collect(&mut self, id: Uuid) -> (Vec<Value>, Vec<ErrorRecord>, Vec<String>, PipelineEnd) {
        let (mut output, mut errors, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            match self.event().await {
                ClientEvent::Output { value, .. } => output.push(value),
                ClientEvent::Error { record, .. } => errors.push(*record),
                ClientEvent::Warning { text, .. } => warnings.push(text.to_string()),
                ClientEvent::PipelineEnded { pipeline, end } if pipeline == id => return (output, errors, warnings, end),
                other => panic!("{other:?}"),
            }
        }
    }

    async fn run(&mut self, command: Command) -> (Vec<Value>, Vec<ErrorRecord>, Vec<String>, PipelineEnd) {
        let id = self.machine.invoke(&PipelineRequest::from(command));
        self.collect(id).await
    }

    async fn close(mut self) {
        self.machine.close();
        assert_eq!(self.event().await, ClientEvent::Closed);
    }
}

fn failure(end: PipelineEnd) -> Box<ErrorRecord> {
    match end {
        PipelineEnd::Failed(record) => record,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn remote_powershell_runs_commands() {
    let fixture = Fixture::start().await;
    let mut session = Session::new(&fixture, &fixture.admin());
    session.open().await;
    let (output, errors, warnings, end) = session.run(Command::new("get-mailbox").with("Identity", "adele")).await;
    assert_eq!((output.len(), warnings.as_slice(), end), (1, &["careful".to_owned()][..], PipelineEnd::Completed));
    assert_eq!(output[0].as_object().unwrap().property("Alias"), Some(&"adele".into()));
    assert_eq!(errors.len(), 1);
    assert!(errors[0].fully_qualified_error_id.starts_with("[Server=LAB01,RequestId="), "{}", errors[0].fully_qualified_error_id);
    assert!(errors[0].fully_qualified_error_id.ends_with("[FailureCategory=Cmdlet-ManagementObjectNotFoundException] 0,GetMailbox"));

    // Local stages, errors merged into the output, more output than one envelope holds.
    let mut request = PipelineRequest::from(Command::new("Get-Flood"));
    request.commands.push(Command::new("Select-Object").with("Property", PsObject::from_list(vec!["Alias".into()])));
    let id = session.machine.invoke(&request);
    let (output, _, _, end) = session.collect(id).await;
    assert_eq!((output.len(), end), (3000, PipelineEnd::Completed));
    assert_eq!(output[2999].as_object().unwrap().properties().count(), 1);
    let (output, ..) = session.run(Command::new("Get-Flood")).await;
    assert_eq!(output.len(), 3000);

    // No language, no such command, no such parameter, not in the role.
    let script = Command { is_script: true, ..Command::new("Get-Mailbox | ? { $_ }") };
    let record = failure(session.run(script).await.3);
    assert_eq!(
        (&*record.fully_qualified_error_id, record.exception_type()),
        ("ScriptsNotAllowed", "System.Management.Automation.ParseException")
    );
    for name in ["Get-Nothing", "Set-Hidden", "Invoke-Expression", "prompt"] {
        let record = failure(session.run(Command::new(name)).await.3);
        assert_eq!(
            (&*record.fully_qualified_error_id, record.category),
            ("CommandNotFoundException", ErrorCategory::ObjectNotFound),
            "{name}"
        );
        assert!(record.message.contains(name));
    }
    for name in ["Nonsense", "Hidden"] {
        let record = failure(session.run(Command::new("Set-Mailbox").with(name, "x")).await.3);
        assert!(record.fully_qualified_error_id.starts_with("NamedParameterNotFound"), "{record:?}");
    }
    let record = failure(session.run(Command::new("Set-Mailbox").with("Identity", "a").with("Confirm", true)).await.3);
    assert!(record.message.contains("cannot ask for confirmation"));
    assert!(failure(session.run(Command::new("Set-Panic")).await.3).message.contains("inside the server"));
    let record = failure(session.run(Command::new("Get-Busy")).await.3);
    assert_eq!(record.category, ErrorCategory::LimitsExceeded);

    // Stop: while it waits, and while the client does not fetch.
    for name in ["Get-Forever", "Get-Slow"] {
        let id = session.machine.invoke(&PipelineRequest::from(Command::new(name)));
        for _ in 0..3 {
            session.turn().await;
        }
        session.machine.stop(id);
        assert_eq!(session.collect(id).await.3, PipelineEnd::Stopped);
    }
    assert_eq!(session.run(Command::new("Set-Mailbox").with("Identity", "z")).await.3, PipelineEnd::Completed);
    let endings: Vec<_> =
        fixture.entries().await.iter().map(|e| (e.intent.cmdlet.clone(), e.outcome.as_ref().unwrap().ending.word())).collect();
    let refused = endings.iter().filter(|(_, word)| *word == "refused").count();
    assert_eq!(refused, 6, "the script, Set-Hidden, Invoke-Expression, two parameters, the prompt that nobody answers: {endings:?}");
    assert_eq!(endings.last(), Some(&("Set-Mailbox".to_owned(), "succeeded")));
    session.close().await;
    fixture.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_belongs_to_its_principal() {
    let fixture = Fixture::start().await;
    let mut session = Session::new(&fixture, &fixture.admin());
    session.open().await;
    // A-08: the right shell id under another principal is an unknown shell; the owner does not notice.
    let mut thief = Session::new(&fixture, &fixture.token(0xd, DirectoryRole::ExchangeAdministrator));
    let selector = session.pool_id.to_string().to_uppercase();
    for action in [
        "http://schemas.xmlsoap.org/ws/2004/09/transfer/Delete",
        "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Receive",
        "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Signal",
    ] {
        let body = envelope(action, &selector);
        let post = |token: &str| {
            fixture.client.post(&thief.url).bearer_auth(token).header("Content-Type", "application/soap+xml").body(body.clone()).send()
        };
        let answer = post(&thief.token).await.unwrap();
        assert_eq!(answer.status(), 500);
        let text = answer.text().await.unwrap();
        assert!(text.contains("2150858843") && text.contains("was not found on the server"), "{text}");
    }
    thief.open().await;
    // A fresh token of the same principal, and a role that is gone (A-09).
    session.token = fixture.admin();
    assert_eq!(session.run(Command::new("Set-Mailbox").with("Identity", "a")).await.3, PipelineEnd::Completed);
    session.token = fixture.token(0xb, DirectoryRole::GlobalReader);
    assert_eq!(
        &*failure(session.run(Command::new("Set-Mailbox").with("Identity", "a")).await.3).fully_qualified_error_id,
        "CommandNotFoundException"
    );
    assert_eq!(session.run(Command::new("Get-Mailbox")).await.3, PipelineEnd::Completed);

    // R-03: so many shells and no more; the quota fault, not an endless wait.
    let mut sessions = Vec::new();
    loop {
        let mut next = Session::new(&fixture, &session.token);
        match next.event().await {
            ClientEvent::Opened => sessions.push(next),
            ClientEvent::Broken(error) => {
                assert!(error.to_string().contains("maximum number of"), "{error}");
                break;
            }
            other => panic!("{other:?}"),
        }
        assert!(sessions.len() < 100);
    }
    sessions.pop().unwrap().close().await;
    let mut next = Session::new(&fixture, &session.token);
    next.open().await;

    // Not SOAP, not POST, too large, hostile: answered, and the session goes on.
    let raw = |body: Vec<u8>, kind: &str| {
        fixture.client.post(&session.url).bearer_auth(&session.token).header("Content-Type", kind).body(body).send()
    };
    assert_eq!(raw(b"a=b".to_vec(), "application/x-www-form-urlencoded").await.unwrap().status(), 415);
    assert_eq!(fixture.client.get(&session.url).bearer_auth(&session.token).send().await.unwrap().status(), 405);
    let hostile = raw(b"<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>".to_vec(), "application/soap+xml;charset=UTF-8").await.unwrap();
    assert_eq!(hostile.status(), 500);
    assert!(hostile.text().await.unwrap().contains("WSManFault"));
    let identify = br#"<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header/><s:Body><i:Identify xmlns:i="http://schemas.dmtf.org/wbem/wsman/identify/1/wsmanidentity.xsd"/></s:Body></s:Envelope>"#;
    let anonymous = fixture
        .client
        .post(&session.url)
        .header("WSMANIDENTIFY", "unauthenticated")
        .header("Content-Type", "application/soap+xml")
        .body(identify.as_slice())
        .send()
        .await
        .unwrap();
    assert!(anonymous.text().await.unwrap().contains("ProtocolVersion"));
    let body = envelope("http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Receive", &selector);
    let anonymous = fixture
        .client
        .post(&session.url)
        .header("WSMANIDENTIFY", "unauthenticated")
        .header("Content-Type", "application/soap+xml")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(anonymous.status(), 401, "only Identify goes without a token");
    assert_eq!(session.run(Command::new("Get-Mailbox")).await.3, PipelineEnd::Completed);

    // Shutdown ends what is open.
    let watch = tokio::spawn(async move { next.event().await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    fixture.finish().await;
    assert!(matches!(watch.await.unwrap(), ClientEvent::Broken(_) | ClientEvent::Closed));
}

fn envelope(action: &str, shell: &str) -> String {
    let body = match action.rsplit('/').next().unwrap() {
        "Receive" => r#"<r:Receive><r:DesiredStream>stdout</r:DesiredStream></r:Receive>"#,
        "Signal" => r#"<r:Signal CommandId="00000000-0000-0000-0000-000000000001"><r:Code>powershell/signal/crtl_c</r:Code></r:Signal>"#,
        _ => "",
    };
    format!(
        r#"<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:r="http://schemas.microsoft.com/wbem/wsman/1/windows/shell"><s:Header><a:To>https://localhost</a:To><a:ReplyTo><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo><a:Action>{action}</a:Action><a:MessageID>uuid:{}</a:MessageID><w:ResourceURI>http://schemas.microsoft.com/powershell/Microsoft.Exchange</w:ResourceURI><w:SelectorSet><w:Selector Name="ShellId">{shell}</w:Selector></w:SelectorSet></s:Header><s:Body>{body}</s:Body></s:Envelope>"#,
        Uuid::new_v4()
    )
}
