//! Renewal of tokens inside a running read, on both transports: ahead of expiry, and when a token that was good is
//! refused. Nothing may be lost or come twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use axum::routing::post;
use exops_auth::token::{ClientCredential, Grant, KeySet, SigningKey, mint};
use exops_catalogue::{Argument, Catalogue, Command, Pipeline, UnknownNames, bind};
use exops_client::{Credential, EXCHANGE_RESOURCE, Endpoint, Http, RemotePowerShellConnection, RestConnection, TokenSource};
use exops_gateway::{Gateway, GatewayConfig, Tenant, tls_config};
use exops_policy::{DirectoryRole, EXCHANGE_MANAGE_AS_APP, RoleModel};
use exops_psobject::{PsObject, Value};
use exops_runspace::{Ended, Invocation, Record, Runspace, Step};
use exops_store::Store;
use exops_testkit::{Act, ORGANIZATION, ScriptedRunspace, TENANT, cmdlet};
use futures_util::StreamExt as _;
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::net::TcpListener;
use uuid::Uuid;

/// A gateway with a token service beside it.
struct World {
    http: Http,
    endpoint: Endpoint,
    /// Tokens that were made.
    minted: Arc<AtomicU64>,
    /// Requests after which the tokens that are out are not accepted any more; 0 for never.
    good_for: Arc<AtomicU64>,
    /// How often that happened.
    retired: Arc<AtomicU64>,
    /// What a new token says of its life, in seconds.
    life: Arc<AtomicU64>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start(objects: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.sqlite")).await.unwrap();
        let acts = (0..objects).map(|i| {
            let number = i32::try_from(i).unwrap();
            Act::output(PsObject::notes([("Number", Value::I32(number))].into_iter().collect()))
        });
        let runspace = ScriptedRunspace::new([(cmdlet("Get-Mailbox", &["Identity", "ResultSize"]), acts.collect())]);
        // Two signing keys, of which one counts: to retire a token is to take the other.
        let keys: Arc<Vec<SigningKey>> = Arc::new((0..2).map(|_| SigningKey::generate(now()).unwrap()).collect());
        let sets: Vec<Arc<KeySet>> = keys.iter().map(|key| Arc::new(KeySet::of(std::slice::from_ref(key)).unwrap())).collect();
        let current = Arc::new(AtomicUsize::new(0));
        let (minted, good_for, retired) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let life = Arc::new(AtomicU64::new(3600));
        let token_keys = {
            let (current, good_for, retired, checks) = (current.clone(), good_for.clone(), retired.clone(), AtomicU64::new(0));
            move || {
                let good_for = good_for.load(Ordering::SeqCst);
                if good_for > 0 && (checks.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(good_for) {
                    current.fetch_xor(1, Ordering::SeqCst);
                    retired.fetch_add(1, Ordering::SeqCst);
                }
                sets[current.load(Ordering::SeqCst)].clone()
            }
        };
        let token = {
            let (minted, life) = (minted.clone(), life.clone());
            move || {
                minted.fetch_add(1, Ordering::SeqCst);
                let token = token(&keys[current.load(Ordering::SeqCst)]);
                let answer = json!({"token_type": "Bearer", "expires_in": life.load(Ordering::SeqCst), "access_token": token});
                async move { axum::Json(answer) }
            }
        };
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let private = rustls_pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let gateway = Gateway::new(GatewayConfig {
            quotas: exops_gateway::Quotas::default(),
            runspace: Arc::new(runspace),
            roles: Arc::new(RoleModel::built_in()),
            store,
            token_keys: Arc::new(token_keys),
            audiences: vec![EXCHANGE_RESOURCE.to_owned()],
            tenants: vec![Tenant { id: TENANT, domains: vec![ORGANIZATION.to_owned()] }],
            authority: "https://localhost".to_owned(),
            server_name: "LAB01.contoso.onmicrosoft.com".to_owned(),
            mark_lab: true,
            extra_routes: axum::Router::new().route("/{tenant}/oauth2/v2.0/token", post(token)),
            clock: Arc::new(|| now() * 1000),
            tls: tls_config(vec![certified.cert.der().clone()], private.into()).unwrap(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        tokio::spawn(gateway.serve(listener, std::future::pending()));
        let endpoint = Endpoint {
            authority: base.clone(),
            admin_api: base.clone(),
            powershell: format!("{base}/powershell-liveid"),
            tenant_id: Some(TENANT.0),
            ca_pem: Some(certified.cert.pem().into_bytes()),
            is_lab: true,
            ..Endpoint::worldwide(ORGANIZATION)
        };
        let http = Http::new(&endpoint).unwrap();
        Self { http, endpoint, minted, good_for, retired, life, _folder: folder }
    }

    fn connections(&self) -> [(&'static str, Box<dyn Runspace>, TokenSource); 2] {
        let tokens = || TokenSource::new(self.http.clone(), self.endpoint.clone(), Uuid::from_u128(0xa), Credential::Secret("x".into()));
        let (rest, rps) = (tokens(), tokens());
        [
            ("REST", Box::new(RestConnection::new(self.http.clone(), rest.clone())), rest),
            ("remote PowerShell", Box::new(RemotePowerShellConnection::new(self.http.clone(), rps.clone())), rps),
        ]
    }
}

fn token(key: &SigningKey) -> String {
    let grant = Grant {
        tenant: TENANT.0,
        audience: EXCHANGE_RESOURCE,
        app_id: Uuid::from_u128(0xa),
        object_id: Uuid::from_u128(0xb),
        app_display_name: "ExOPS test",
        credential: ClientCredential::Secret,
        roles: &[EXCHANGE_MANAGE_AS_APP.to_owned()],
        directory_roles: &[DirectoryRole::ExchangeAdministrator.template_id()],
        lab: true,
        unique_id: Uuid::new_v4(),
    };
    mint(key, &grant, now()).unwrap().expose_secret().to_owned()
}

fn now() -> i64 {
    crate::cli::now()
}

/// Reads all objects; fails where one is missing, comes twice or out of order.
async fn read_all(transport: &str, connection: &dyn Runspace, tokens: &TokenSource, objects: usize) {
    let mut command = Command::new("Get-Mailbox");
    command.arguments.push(Argument { name: Some("ResultSize".to_owned()), value: Some("Unlimited".into()), glued: true });
    let bound = bind(&Catalogue::built_in(), &Pipeline::from(command), UnknownNames::Pass).unwrap();
    let caller = tokens.token().await.unwrap().caller();
    let mut records = connection.invoke(Invocation::new(caller, bound, Uuid::new_v4()));
    let mut count = 0;
    while let Some(step) = records.next().await {
        match step {
            Step::Record(Record::Output(object)) => {
                let number = object.as_object().and_then(|o| o.property("Number")).and_then(Value::as_i64);
                assert_eq!(number, i64::try_from(count).ok(), "{transport}: object {count}");
                count += 1;
            }
            Step::Record(other) => panic!("{transport}: {other:?}"),
            Step::Ended(end) => assert_eq!(end, Ended::Completed, "{transport} after {count} objects"),
        }
    }
    assert_eq!(count, objects, "{transport}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_a_read_of_100_000_objects() {
    let world = World::start(100_000).await;
    let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    // Remote PowerShell brings more objects with each answer, so fewer requests are in one read.
    for ((transport, connection, tokens), good_for) in world.connections().into_iter().zip([7, 4]) {
        world.good_for.store(good_for, Ordering::SeqCst);
        let (minted, retired) = (count(&world.minted), count(&world.retired));
        read_all(transport, connection.as_ref(), &tokens, 100_000).await;
        connection.close().await;
        let (minted, retired) = (count(&world.minted) - minted, count(&world.retired) - retired);
        println!("{transport}: {retired} tokens were refused in the read, {minted} made");
        assert!(retired >= 10 && minted >= 10, "{transport}: {retired} refused, {minted} made");
    }
    // No token is refused, but each says that it ends at once: every request brings a new one.
    let world = World::start(30_000).await;
    world.life.store(0, Ordering::SeqCst);
    for (transport, connection, tokens) in world.connections() {
        let minted = count(&world.minted);
        read_all(transport, connection.as_ref(), &tokens, 30_000).await;
        connection.close().await;
        let minted = count(&world.minted) - minted;
        assert!(minted >= 10, "{transport}: {minted} made");
    }
}
