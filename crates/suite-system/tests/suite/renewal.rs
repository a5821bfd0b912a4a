//! Renewal of tokens ahead of their end, inside a running read on both transports. Nothing may be lost or come twice. What a
//! lab can show, tokens that are refused in a running read, is in the test of the large organisation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Objects of one read: their requests are more than ten.
const OBJECTS: usize = 30_000;

/// A gateway with a token service beside it.
struct World {
    http: Http,
    endpoint: Endpoint,
    /// Tokens that were made.
    minted: Arc<AtomicU64>,
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
        let key = Arc::new(SigningKey::generate(now()).unwrap());
        let keys = Arc::new(KeySet::of(std::slice::from_ref(&key)).unwrap());
        let minted = Arc::new(AtomicU64::new(0));
        let token = {
            let minted = minted.clone();
            move || {
                minted.fetch_add(1, Ordering::SeqCst);
                // No token is refused, but each says that it ends at once.
                let answer = json!({"token_type": "Bearer", "expires_in": 0, "access_token": token(&key)});
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
            token_keys: Arc::new(move || keys.clone()),
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
        Self { http, endpoint, minted, _folder: folder }
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
async fn ahead_of_the_end() {
    let world = World::start(OBJECTS).await;
    for (transport, connection, tokens) in world.connections() {
        let before = world.minted.load(Ordering::SeqCst);
        read_all(transport, connection.as_ref(), &tokens, OBJECTS).await;
        connection.close().await;
        let minted = world.minted.load(Ordering::SeqCst) - before;
        println!("{transport}: {minted} tokens made");
        assert!(minted >= 10, "{transport}: {minted} made");
    }
}
