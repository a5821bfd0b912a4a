//! The token service and its Graph: set-up calls, tokens, and the table of refusals.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use exops_auth::assertion::{self, Request as AssertionRequest};
use exops_auth::token::{self, Expected, KeySet};
use exops_auth::{Algorithm, Identity, Signer as _, issue};
use exops_authority::{Authority, AuthorityConfig, EXCHANGE_APP_ID, EXCHANGE_RESOURCE, Tenant, ensure_tenant, signing_key};
use exops_policy::{DirectoryRole, TenantId};
use exops_store::Store;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use uuid::Uuid;

/// 2026-11-24T12:00:00Z.
const NOW: i64 = 1_795_521_600;
const BASE: &str = "https://localhost:8443";
const ALIAS: &str = "https://login.microsoftonline.com";
const CONTOSO: &str = "11111111-1111-4111-8111-111111111111";
const FABRIKAM: &str = "22222222-2222-4222-8222-222222222222";
const BOOTSTRAP: &str = "bootstrap-token";
const MANAGE_AS_APP: &str = "dc50a0fb-09a3-484d-be87-e023b12c6440";
const NO_ROLE: &str = "0997a1d0-0d1d-4acb-b408-d5ca73121e90";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const SCOPE: &str = "https://outlook.office365.com/.default";

/// A token service for two tenants on a database of its own, with a clock that the test sets.
struct World {
    router: Router,
    keys: Arc<KeySet>,
    clock: Arc<AtomicI64>,
    store: Store,
    _folder: tempfile::TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn text(&self, pointer: &str) -> &str {
        self.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    #[track_caller]
    fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }
}

impl World {
    async fn new(strict: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("lab.sqlite")).await.unwrap();
        let tenants: Vec<Tenant> = [(CONTOSO, "contoso.onmicrosoft.com"), (FABRIKAM, "fabrikam.onmicrosoft.com")]
            .map(|(id, domain)| Tenant { id: TenantId(id.parse().unwrap()), domains: vec![domain.to_owned()] })
            .to_vec();
        for tenant in &tenants {
            ensure_tenant(&store.tenant(tenant.id)).await.unwrap();
            ensure_tenant(&store.tenant(tenant.id)).await.unwrap();
        }
        let key = signing_key(&store, NOW).await.unwrap();
        assert_eq!(signing_key(&store, NOW + 1).await.unwrap().kid(), key.kid(), "one key a lab");
        let clock = Arc::new(AtomicI64::new(NOW * 1000));
        let now = Arc::clone(&clock);
        let authority = Authority::new(AuthorityConfig {
            store: store.clone(),
            signing_keys: vec![key],
            bases: vec![BASE.to_owned(), ALIAS.to_owned()],
            tenants,
            bootstrap_token: BOOTSTRAP.into(),
            clock: Arc::new(move || now.load(Ordering::Relaxed)),
            strict,
            lab: true,
        })
        .unwrap();
        Self { keys: authority.keys(), router: authority.router(), clock, store, _folder: folder }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        Answer { status, headers, body: serde_json::from_slice(&bytes).unwrap_or_default() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).header("host", "localhost:8443").body(Body::empty()).unwrap()).await
    }

    async fn graph(&self, method: &str, path: &str, body: Value) -> Answer {
        let request = Request::builder().method(method).uri(format!("/v1.0{path}")).header("authorization", format!("Bearer {BOOTSTRAP}"));
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(request.header("content-type", "application/json").body(body).unwrap()).await
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], form: &[(&str, &str)]) -> Answer {
        let mut request = Request::post(path).header("host", "localhost:8443").header("content-type", "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body: Vec<String> = form.iter().map(|(n, v)| format!("{n}={}", encode(v))).collect();
        self.send(request.body(Body::from(body.join("&"))).unwrap()).await
    }

    /// Registers an application with its certificate as a set-up program does.
    async fn application(&self, identity: &Identity) -> Application {
        let key = STANDARD.encode(identity.certificate.as_der());
        let body = json!({
            "displayName": "exops test", "signInAudience": "AzureADMyOrg",
            "requiredResourceAccess": [{"resourceAppId": EXCHANGE_APP_ID, "resourceAccess": [{"id": MANAGE_AS_APP, "type": "Role"}]}],
            "keyCredentials": [{"type": "AsymmetricX509Cert", "usage": "Verify", "key": key}],
        });
        let made = self.graph("POST", "/applications", body).await.is(201);
        let principal = self.graph("POST", "/servicePrincipals", json!({"appId": made.text("/appId")})).await.is(201);
        Application { id: made.text("/id").to_owned(), app_id: made.text("/appId").to_owned(), principal: principal.text("/id").to_owned() }
    }

    async fn grant(&self, application: &Application, role: DirectoryRole) -> Answer {
        let exchange = self.graph("GET", &format!("/servicePrincipals(appId='{EXCHANGE_APP_ID}')"), Value::Null).await.is(200);
        let body = json!({"principalId": application.principal, "resourceId": exchange.text("/id"), "appRoleId": MANAGE_AS_APP});
        self.graph("POST", &format!("/servicePrincipals/{}/appRoleAssignedTo", exchange.text("/id")), body).await.is(201);
        let body = json!({
            "@odata.type": "#microsoft.graph.unifiedRoleAssignment", "roleDefinitionId": role.template_id(),
            "principalId": application.principal, "directoryScopeId": "/",
        });
        self.graph("POST", "/roleManagement/directory/roleAssignments", body).await.is(201)
    }

    /// A version 2 request with an assertion.
    async fn with_assertion(&self, application: &Application, assertion: &str) -> Answer {
        self.post(&v2(CONTOSO), &[], &assertion_form(&application.app_id, assertion, SCOPE)).await
    }
}

struct Application {
    id: String,
    app_id: String,
    principal: String,
}

impl Application {
    fn assertion(&self, identity: &Identity, algorithm: Algorithm, audience: &str, now: i64) -> String {
        let request = AssertionRequest { client_id: &self.app_id, audience, jti: Uuid::new_v4(), now, chain: None };
        let prepared = assertion::prepare(&identity.certificate, algorithm, &request);
        let signature = identity.sign(algorithm, &prepared.digest()).unwrap();
        assertion::finish(prepared, &identity.certificate, &signature).unwrap().expose_secret().to_owned()
    }
}

fn v1(tenant: &str) -> String {
    format!("/{tenant}/oauth2/token")
}

fn v2(tenant: &str) -> String {
    format!("/{tenant}/oauth2/v2.0/token")
}

fn assertion_form<'a>(app_id: &'a str, assertion: &'a str, scope: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("grant_type", "client_credentials"),
        ("client_id", app_id),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion),
        ("scope", scope),
    ]
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() || b"-._~".contains(&b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// A refusal: code, error word, status and begin of the text, and everything around them.
#[track_caller]
fn refused(answer: &Answer, code: u32, error: &str, status: u16, text: &str) {
    assert_eq!(answer.body["error_codes"], json!([code]), "{}", answer.body);
    assert_eq!((answer.text("/error"), answer.status.as_u16()), (error, status), "{}", answer.body);
    let description = answer.text("/error_description");
    assert!(description.starts_with(&format!("AADSTS{code}: {text}")), "{description}");
    let (trace, correlation, time) = (answer.text("/trace_id"), answer.text("/correlation_id"), answer.text("/timestamp"));
    let end = format!(" Trace ID: {trace} Correlation ID: {correlation} Timestamp: {time}");
    assert!(description.ends_with(&end) && Uuid::try_parse(trace).is_ok() && Uuid::try_parse(correlation).is_ok(), "{description}");
    assert!(time.len() == 20 && time.ends_with('Z') && time.as_bytes()[10] == b' ', "{time}");
    assert_eq!(answer.text("/error_uri"), format!("{BASE}/error?code={code}"));
    assert_eq!(answer.headers["content-type"].to_str().unwrap().split(';').next(), Some("application/json"));
    assert_eq!(answer.headers["x-ms-request-id"], trace);
}

#[tokio::test]
async fn authority_discovery() {
    let world = World::new(false).await;
    for (path, issuer, token_path) in [
        ("/contoso.onmicrosoft.com/v2.0/.well-known/openid-configuration", format!("{BASE}/{CONTOSO}/v2.0"), "oauth2/v2.0/token"),
        ("/contoso.onmicrosoft.com/.well-known/openid-configuration", format!("https://sts.windows.net/{CONTOSO}/"), "oauth2/token"),
    ] {
        let document = world.get(path).await.is(200);
        assert_eq!(document.text("/issuer"), issuer);
        assert_eq!(document.text("/token_endpoint"), format!("{BASE}/contoso.onmicrosoft.com/{token_path}"));
        let keys = world.get(document.text("/jwks_uri").strip_prefix(BASE).unwrap()).await.is(200);
        let key = &keys.body["keys"][0];
        assert_eq!((&key["kty"], &key["use"], &key["kid"], &key["x5t"]), (&json!("RSA"), &json!("sig"), &key["x5t"], &key["kid"]));
        assert_eq!(key["kid"], world.keys.keys()[0].kid());
        assert_eq!((key["e"].as_str(), key["n"].as_str().map(str::len)), (Some("AQAB"), Some(342)));
    }
    let shared = world.get("/common/v2.0/.well-known/openid-configuration").await.is(200);
    assert_eq!(shared.text("/issuer"), format!("{BASE}/{{tenantid}}/v2.0"));
    // Under an alias the document speaks of the alias; under a host of nobody's of the first base.
    for (host, base) in [("login.microsoftonline.com", ALIAS), ("attacker.example", BASE)] {
        let request = Request::get(format!("/{CONTOSO}/v2.0/.well-known/openid-configuration")).header("host", host);
        let document = world.send(request.body(Body::empty()).unwrap()).await.is(200);
        assert_eq!(document.text("/issuer"), format!("{base}/{CONTOSO}/v2.0"));
    }
    let unknown = world.get("/nobody.example/v2.0/.well-known/openid-configuration").await;
    refused(&unknown, 90_002, "invalid_request", 400, "Tenant 'nobody.example' not found.");
    // The path is a tenant's or the shared one; a library that leaves the port out is understood, another host is not.
    let ask = |endpoint: &str| format!("/common/discovery/instance?api-version=1.1&authorization_endpoint={}", encode(endpoint));
    let instance = world.get(&ask(&format!("{BASE}/{CONTOSO}/oauth2/v2.0/authorize"))).await.is(200);
    assert_eq!(instance.text("/tenant_discovery_endpoint"), format!("{BASE}/{CONTOSO}/v2.0/.well-known/openid-configuration"));
    assert_eq!(instance.body["metadata"][0]["aliases"], json!(["localhost:8443", "login.microsoftonline.com"]));
    let no_port = world.get(&ask(&format!("https://localhost/{CONTOSO}/oauth2/v2.0/authorize"))).await.is(200);
    assert_eq!(no_port.text("/tenant_discovery_endpoint"), instance.text("/tenant_discovery_endpoint"));
    for other in
        ["https://attacker.example/x", "https://localhost:84433/x", "https://localhost.attacker.example/x", "http://localhost:8443/x", ""]
    {
        refused(&world.get(&ask(other)).await, 50_049, "invalid_instance", 400, "");
    }
}

/// The set-up of an application, call by call, with the refusals of each.
#[tokio::test]
async fn graph_set_up() {
    let world = World::new(false).await;
    let identity = issue::self_signed("CN=ExOPS", 365, NOW).unwrap();
    // Only the bootstrap token, and only as a bearer token.
    for authorization in [None, Some("Bearer x"), Some("Bearer "), Some("bootstrap-token"), Some("Basic Ym9vdHN0cmFwLXRva2Vu")] {
        let mut request = Request::get("/v1.0/applications").header("client-request-id", Uuid::from_u128(5).to_string());
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let answer = world.send(request.body(Body::empty()).unwrap()).await.is(401);
        assert_eq!(answer.text("/error/code"), "InvalidAuthenticationToken");
        assert_eq!(answer.text("/error/innerError/client-request-id"), Uuid::from_u128(5).to_string());
        assert_eq!(answer.headers["request-id"], answer.text("/error/innerError/request-id"));
    }
    let application = world.application(&identity).await;
    let at = |rest: &str| format!("/applications/{}{rest}", application.id);
    // The bytes of a key come back only where one object is read with that selection.
    let thumbprint = identity.certificate.sha1_thumbprint();
    for (path, with_key) in [
        (at(""), false),
        (at("?$select=keyCredentials"), true),
        (format!("/applications(appId='{}')?$select=id,appId,keyCredentials", application.app_id), true),
    ] {
        let shown = world.graph("GET", &path, Value::Null).await.is(200);
        let key = &shown.body["keyCredentials"][0];
        assert_eq!((&key["customKeyIdentifier"], key["key"].is_string()), (&json!(thumbprint), with_key), "{path}");
    }
    let select = world.graph("GET", &at("?$select=appId"), Value::Null).await.is(200);
    assert_eq!(select.body.as_object().unwrap().keys().filter(|k| !k.starts_with('@')).collect::<Vec<_>>(), ["appId"]);
    let filter = format!("/applications?$filter={}", encode(&format!("appId eq '{}'", application.app_id)));
    assert_eq!(world.graph("GET", &filter, Value::Null).await.is(200).body["value"][0]["id"], json!(application.id));
    // Service principals.
    let again = world.graph("POST", "/servicePrincipals", json!({"appId": application.app_id})).await.is(409);
    assert_eq!(again.text("/error/code"), "Request_MultipleObjectsWithSameKeyValue");
    world.graph("POST", "/servicePrincipals", json!({"appId": Uuid::from_u128(9)})).await.is(400);
    let filter = format!("/servicePrincipals?$filter={}&$select=id,appRoles", encode(&format!("appId eq '{EXCHANGE_APP_ID}'")));
    let exchange = world.graph("GET", &filter, Value::Null).await.is(200).body["value"][0].clone();
    assert_eq!(exchange["appRoles"][0]["id"], MANAGE_AS_APP);
    assert_eq!(exchange["appRoles"][0]["value"], "Exchange.ManageAsApp");
    let exchange = exchange["id"].as_str().unwrap().to_owned();
    // App role, by either of the two paths; once.
    world.grant(&application, DirectoryRole::ExchangeAdministrator).await;
    let body = json!({"principalId": application.principal, "resourceId": exchange, "appRoleId": MANAGE_AS_APP});
    for path in [
        format!("/servicePrincipals/{}/appRoleAssignments", application.principal),
        format!("/servicePrincipals/{exchange}/appRoleAssignedTo"),
    ] {
        let again = world.graph("POST", &path, body.clone()).await.is(400);
        assert_eq!(
            (again.text("/error/code"), again.text("/error/message")),
            ("Request_BadRequest", "Permission being assigned already exists on the object.")
        );
        let held = world.graph("GET", &path, Value::Null).await.is(200).body["value"][0].clone();
        assert_eq!(
            (&held["principalId"], &held["resourceDisplayName"]),
            (&json!(application.principal), &json!("Office 365 Exchange Online"))
        );
    }
    let other = json!({"principalId": application.principal, "resourceId": exchange, "appRoleId": Uuid::from_u128(9)});
    world.graph("POST", &format!("/servicePrincipals/{exchange}/appRoleAssignedTo"), other).await.is(400);
    // Directory role.
    let role = DirectoryRole::ExchangeAdministrator.template_id();
    let body = json!({"roleDefinitionId": role, "principalId": application.principal, "directoryScopeId": "/"});
    let again = world.graph("POST", "/roleManagement/directory/roleAssignments", body).await.is(400);
    assert!(again.text("/error/message").starts_with("A conflicting object"), "{}", again.body);
    let unknown = json!({"roleDefinitionId": Uuid::from_u128(9), "principalId": application.principal, "directoryScopeId": "/"});
    world.graph("POST", "/roleManagement/directory/roleAssignments", unknown).await.is(404);
    let filter =
        format!("/roleManagement/directory/roleAssignments?$filter={}", encode(&format!("principalId eq '{}'", application.principal)));
    let held = world.graph("GET", &filter, Value::Null).await.is(200);
    assert_eq!(held.body["value"].as_array().unwrap().len(), 1);
    let definitions = world.graph("GET", "/roleManagement/directory/roleDefinitions", Value::Null).await.is(200);
    assert_eq!(definitions.body["value"].as_array().unwrap().len(), DirectoryRole::ALL.len());
    // Key credentials: the list is replaced, dates are the certificate's at most.
    let second = issue::self_signed("CN=second", 30, NOW).unwrap();
    let key = |extra: Value| {
        let mut entry = json!({"type": "AsymmetricX509Cert", "usage": "Verify", "key": STANDARD.encode(second.certificate.as_der())});
        entry.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"keyCredentials": [entry]})
    };
    let kept = world.graph("GET", &at("?$select=keyCredentials"), Value::Null).await.body["keyCredentials"][0].clone();
    let both = json!({"keyCredentials": [kept, key(json!({}))["keyCredentials"][0]]});
    world.graph("PATCH", &at(""), both).await.is(204);
    let shown = world.graph("GET", &at(""), Value::Null).await;
    assert_eq!(shown.body["keyCredentials"].as_array().unwrap().len(), 2);
    assert_eq!(shown.body["keyCredentials"][0]["keyId"], kept["keyId"]);
    world.graph("PATCH", &at(""), key(json!({"endDateTime": "2026-12-24T12:00:00Z"}))).await.is(204);
    for (extra, code) in [
        (json!({"endDateTime": "2026-12-24T12:00:01Z"}), "KeyCredentialsInvalidEndDate"),
        (json!({"endDateTime": "2026-11-24T11:00:00Z"}), "KeyCredentialsInvalidEndDate"),
        (json!({"startDateTime": "2020-01-01T00:00:00Z"}), "KeyCredentialsInvalidStartDate"),
        (json!({"key": ""}), "KeyCredentialsInvalidValue"),
        (json!({"key": "AAAA"}), "KeyCredentialsInvalidValue"),
    ] {
        let answer = world.graph("PATCH", &at(""), key(extra)).await.is(400);
        assert_eq!(answer.text("/error/code"), code);
    }
    let shown = world.graph("GET", &at(""), Value::Null).await;
    assert_eq!(shown.body["keyCredentials"].as_array().unwrap().len(), 1, "a refused list changes nothing");
    // Secrets are shown once.
    let added = world.graph("POST", &at("/addPassword"), json!({"passwordCredential": {"displayName": "ci"}})).await.is(200);
    assert_eq!((added.text("/secretText").len(), added.text("/hint")), (40, &added.text("/secretText")[..3]));
    let shown = world.graph("GET", &at("?$select=passwordCredentials"), Value::Null).await;
    assert_eq!(shown.body["passwordCredentials"][0]["secretText"], Value::Null);
    world.graph("POST", &at("/removePassword"), json!({"keyId": added.text("/keyId")})).await.is(204);
    world.graph("POST", &at("/removePassword"), json!({"keyId": added.text("/keyId")})).await.is(400);
    let at_creation = json!({"displayName": "x", "passwordCredentials": [{"displayName": "x"}]});
    world.graph("POST", "/applications", at_creation).await.is(400);
    // What is not there, and not served.
    for path in [
        "/applications/none",
        &format!("/applications/{}", Uuid::from_u128(9)),
        &format!("/servicePrincipals(appId='{}')", Uuid::from_u128(9)),
    ] {
        assert_eq!(world.graph("GET", path, Value::Null).await.is(404).text("/error/code"), "Request_ResourceNotFound");
    }
    world.graph("GET", "/users", Value::Null).await.is(400);
    world.graph("GET", "/applications?$filter=startswith(displayName,'a')", Value::Null).await.is(400);
    world.graph("DELETE", &at(""), Value::Null).await.is(204);
    world.graph("GET", &at(""), Value::Null).await.is(404);
    let gone = application.assertion(&second, Algorithm::Ps256, &format!("{BASE}{}", v2(CONTOSO)), NOW);
    refused(&world.with_assertion(&application, &gone).await, 700_016, "unauthorized_client", 400, "Application with identifier '");
    // The other tenant has none of it.
    let fabrikam = world.store.tenant(TenantId(FABRIKAM.parse().unwrap()));
    assert!(fabrikam.applications(Uuid::nil()).await.unwrap().is_empty());
}

/// Tokens by certificate and by secret, on both endpoints, with everything that they say.
#[tokio::test]
async fn tokens() {
    let world = World::new(false).await;
    let identity = issue::self_signed("CN=ExOPS", 365, NOW).unwrap();
    let application = world.application(&identity).await;
    let audience = format!("{BASE}{}", v2(CONTOSO));
    let ps256 = application.assertion(&identity, Algorithm::Ps256, &audience, NOW);
    // Without any grant: a token, with neither roles nor directory roles.
    let bare = world.with_assertion(&application, &ps256).await.is(200);
    let said = claims(bare.text("/access_token"));
    assert_eq!((said.get("roles"), &said["wids"]), (None, &json!([NO_ROLE])));
    world.grant(&application, DirectoryRole::GlobalReader).await;
    // The same assertion again, as libraries do (J-05).
    let answer = world.with_assertion(&application, &ps256).await.is(200);
    let body = json!({"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": answer.body["access_token"]});
    assert_eq!(answer.body, body);
    assert_eq!(
        (&answer.headers["cache-control"], &answer.headers["pragma"]),
        (&"no-store, no-cache".parse().unwrap(), &"no-cache".parse().unwrap())
    );
    let said = claims(answer.text("/access_token"));
    let issuer = format!("https://sts.windows.net/{CONTOSO}/");
    let expected = json!({
        "aud": EXCHANGE_RESOURCE, "iss": issuer, "iat": NOW - 300, "nbf": NOW - 300, "exp": NOW + 3600, "aio": said["aio"],
        "app_displayname": "exops test", "appid": application.app_id, "appidacr": "2", "idp": issuer, "idtyp": "app",
        "oid": application.principal, "rh": said["rh"], "roles": ["Exchange.ManageAsApp"], "sub": application.principal, "tid": CONTOSO,
        "uti": said["uti"], "ver": "1.0", "wids": [DirectoryRole::GlobalReader.template_id(), NO_ROLE], "exops_lab": true,
    });
    assert_eq!(said, expected);
    let audiences = [EXCHANGE_RESOURCE.to_owned()];
    let verified = token::verify(answer.text("/access_token"), &world.keys, &Expected { audiences: &audiences }, NOW).unwrap();
    assert_eq!(verified.app_id.to_string(), application.app_id);
    // Version 1: every value is text.
    let rs256 = application.assertion(&identity, Algorithm::Rs256, &format!("{BASE}{}", v1(CONTOSO)), NOW);
    let mut form = assertion_form(&application.app_id, &rs256, "").to_vec();
    form[4] = ("resource", "https://outlook.office365.com/");
    let answer = world.post(&v1("contoso.onmicrosoft.com"), &[], &form).await.is(200);
    let body = json!({
        "token_type": "Bearer", "expires_in": "3599", "ext_expires_in": "3599", "expires_on": (NOW + 3600).to_string(),
        "not_before": (NOW - 300).to_string(), "resource": "https://outlook.office365.com/", "access_token": answer.body["access_token"],
    });
    assert_eq!(answer.body, body);
    assert_eq!(claims(answer.text("/access_token"))["aud"], "https://outlook.office365.com/");
    // Secrets, in the form and as HTTP Basic; only a salted hash is kept.
    let path = format!("/applications/{}/addPassword", application.id);
    let secret = world.graph("POST", &path, json!({"passwordCredential": {"displayName": "a"}})).await.text("/secretText").to_owned();
    let id: &str = &application.app_id;
    let grant = ("grant_type", "client_credentials");
    let answer = world.post(&v2(CONTOSO), &[], &[grant, ("client_id", id), ("client_secret", &secret), ("scope", SCOPE)]).await.is(200);
    assert_eq!(claims(answer.text("/access_token"))["appidacr"], "1");
    let basic = format!("Basic {}", STANDARD.encode(format!("{id}:{}", encode(&secret))));
    world.post(&v2(CONTOSO), &[("authorization", &basic)], &[grant, ("scope", SCOPE)]).await.is(200);
    let kept = world.store.tenant(TenantId(CONTOSO.parse().unwrap())).credentials(application.id.parse().unwrap()).await.unwrap();
    assert!(kept.iter().all(|c| !c.material.windows(secret.len()).any(|w| w == secret.as_bytes())));
    // Resources: as asked for. Roles are those of the resource. Scopes that libraries add are ignored.
    for (scope, aud, roles) in [
        ("https://outlook.office365.com//.default", "https://outlook.office365.com/", true),
        ("openid https://outlook.office365.com/.default offline_access profile", EXCHANGE_RESOURCE, true),
        ("https://localhost:8443/.default", EXCHANGE_RESOURCE, true),
        ("00000002-0000-0ff1-ce00-000000000000/.default", "00000002-0000-0ff1-ce00-000000000000", true),
        ("https://graph.microsoft.com/.default", "https://graph.microsoft.com", false),
    ] {
        let answer = world.post(&v2(CONTOSO), &[], &assertion_form(id, &ps256, scope)).await.is(200);
        let said = claims(answer.text("/access_token"));
        assert_eq!((said["aud"].as_str(), said.get("roles").is_some()), (Some(aud), roles), "{scope}");
    }
    // Unknown fields are ignored; the request id comes back, from the header or the query.
    let request_id = Uuid::from_u128(77).to_string();
    let mut form = assertion_form(id, &ps256, SCOPE).to_vec();
    form.extend([("client_info", "1"), ("x-client-SKU", "msal.js.node"), ("claims", "{\"access_token\":{}}")]);
    for (path, headers) in [
        (format!("{}?client-request-id={request_id}", v2(CONTOSO)), vec![]),
        (v2(CONTOSO), vec![("client-request-id", request_id.as_str())]),
    ] {
        let answer = world.post(&path, &headers, &form).await.is(200);
        assert_eq!(answer.headers["client-request-id"], request_id.as_str());
    }
}

/// J-07: what an assertion may be meant for, in both modes; J-05 under strict reading.
#[tokio::test]
async fn assertion_audiences() {
    // Audience, accepted, accepted under strict reading.
    let rows: Vec<(String, bool, bool)> = vec![
        (format!("{BASE}{}", v2(CONTOSO)), true, true),
        (format!("{BASE}{}", v1(CONTOSO)), true, true),
        (format!("{BASE}{}", v2("contoso.onmicrosoft.com")), true, true),
        (format!("{ALIAS}{}", v2(CONTOSO)), true, true),
        (format!("{BASE}{}", v2("common")), true, false),
        (format!("{BASE}/{CONTOSO}/v2.0"), true, false),
        (format!("{BASE}/{CONTOSO}/"), true, false),
        (format!("https://sts.windows.net/{CONTOSO}/"), true, false),
        (format!("{BASE}{}", v2("CONTOSO.onmicrosoft.com")), true, false),
        (format!("HTTPS://LOCALHOST:8443{}", v2(CONTOSO)), true, false),
        (format!("{BASE}{}", v2(FABRIKAM)), false, false),
        (format!("https://sts.windows.net/{FABRIKAM}/"), false, false),
        (format!("{BASE}3{}", v2(CONTOSO)), false, false),
        (format!("https://login.microsoftonline.com.attacker.example{}", v2(CONTOSO)), false, false),
        (format!("http://localhost:8443{}", v2(CONTOSO)), false, false),
        (format!("https://localhost{}", v2(CONTOSO)), false, false),
        (format!("https://login.microsoftonlin\u{435}.com{}", v2(CONTOSO)), false, false),
        (format!("https://login.microsoftonline.us{}", v2(CONTOSO)), false, false),
        (format!("{BASE}{}/", v2(CONTOSO)), false, false),
        (format!("{BASE}/x{}", v2(CONTOSO)), false, false),
        (BASE.to_owned(), false, false),
        (String::new(), false, false),
    ];
    let identity = issue::self_signed("CN=ExOPS", 365, NOW).unwrap();
    for strict in [false, true] {
        let world = World::new(strict).await;
        let application = world.application(&identity).await;
        for (audience, lenient_takes, strict_takes) in &rows {
            let assertion = application.assertion(&identity, Algorithm::Ps256, audience, NOW);
            let answer = world.with_assertion(&application, &assertion).await;
            if if strict { *strict_takes } else { *lenient_takes } {
                answer.is(200);
                let again = world.with_assertion(&application, &assertion).await;
                assert_eq!(again.status == 200, !strict, "{audience}: {}", again.body);
            } else {
                refused(&answer, 700_023, "invalid_client", 401, "Client assertion audience claim does not match Realm issuer.");
            }
        }
    }
}

/// Every refusal that client credentials can meet (J-01, J-08, J-14 among them).
#[tokio::test]
async fn refusals() {
    let world = World::new(false).await;
    let identity = issue::self_signed("CN=ExOPS", 365, NOW).unwrap();
    let stranger = issue::self_signed("CN=stranger", 365, NOW).unwrap();
    let application = world.application(&identity).await;
    let id: &str = &application.app_id;
    let audience = format!("{BASE}{}", v2(CONTOSO));
    let good = application.assertion(&identity, Algorithm::Ps256, &audience, NOW);
    let path = format!("/applications/{}/addPassword", application.id);
    let secret = world.graph("POST", &path, json!({"passwordCredential": {"endDateTime": "2026-11-24T13:00:00Z"}})).await;
    let secret = secret.text("/secretText").to_owned();

    // The request: path and form.
    let grant = ("grant_type", "client_credentials");
    let form = |more: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        let mut form = vec![("grant_type", grant.1.to_owned()), ("client_id", id.to_owned())];
        form.extend(more.iter().map(|(n, v)| (*n, (*v).to_owned())));
        form
    };
    let with_secret = |secret: &str| form(&[("client_secret", secret), ("scope", SCOPE)]);
    let with_scope = |scope: &str| form(&[("client_secret", &secret), ("scope", scope)]);
    let mut missing_grant = with_secret(&secret);
    missing_grant.remove(0);
    let mut missing_client = with_secret(&secret);
    missing_client.remove(1);
    let mut other_grant = with_secret(&secret);
    other_grant[0].1 = "password".into();
    let mut unknown_app = with_secret(&secret);
    unknown_app[1].1 = Uuid::from_u128(9).to_string();
    let both =
        form(&[("client_secret", &secret), ("client_assertion_type", ASSERTION_TYPE), ("client_assertion", &good), ("scope", SCOPE)]);
    let twice = |name: &'static str, value: &str| [with_secret(&secret), vec![(name, value.to_owned())]].concat();
    let (request, client) = ("invalid_request", "invalid_client");
    type Row = (String, Vec<(&'static str, String)>, u32, &'static str, u16, &'static str);
    let rows: Vec<Row> = vec![
        (v2("nobody.example"), with_secret(&secret), 90_002, request, 400, "Tenant 'nobody.example' not found. Check to make sure"),
        (v2(&Uuid::from_u128(8).to_string()), with_secret(&secret), 90_002, request, 400, "Tenant '"),
        (v2("nobody"), with_secret(&secret), 900_023, request, 400, "Specified tenant identifier 'nobody' is neither a valid DNS name"),
        (v2(&Uuid::nil().to_string()), with_secret(&secret), 900_021, request, 400, "Requested tenant identifier "),
        (v2("common"), with_secret(&secret), 9_001_023, request, 400, ""),
        (v2("Organizations"), with_secret(&secret), 9_001_023, request, 400, ""),
        (v2(CONTOSO), missing_grant, 900_144, request, 400, "The request body must contain the following parameter: 'grant_type'."),
        (v2(CONTOSO), missing_client, 900_144, request, 400, "The request body must contain the following parameter: 'client_id'."),
        (
            v2(CONTOSO),
            form(&[("client_secret", &secret)]),
            900_144,
            request,
            400,
            "The request body must contain the following parameter: 'scope'.",
        ),
        (v1(CONTOSO), with_secret(&secret), 900_144, request, 400, "The request body must contain the following parameter: 'resource'."),
        (v2(CONTOSO), other_grant, 70_003, "unsupported_grant_type", 400, ""),
        (v2(CONTOSO), unknown_app, 700_016, "unauthorized_client", 400, "Application with identifier '00000000-"),
        (v2(FABRIKAM), with_secret(&secret), 700_016, "unauthorized_client", 400, "Application with identifier '"),
        (
            v2(CONTOSO),
            form(&[("scope", SCOPE)]),
            7_000_218,
            client,
            401,
            "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
        ),
        (
            v2(CONTOSO),
            with_secret("wrong"),
            7_000_215,
            client,
            401,
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value",
        ),
        (v2(CONTOSO), both, 90_023, request, 400, ""),
        (v2(CONTOSO), twice("client_id", id), 9_000_411, request, 400, ""),
        (v2(CONTOSO), twice("client_secret", &secret), 9_000_411, request, 400, ""),
        (v2(CONTOSO), twice("scope", SCOPE), 9_000_411, request, 400, ""),
        (format!("{}?client_id={id}", v2(CONTOSO)), with_secret(&secret), 9_000_411, request, 400, ""),
        (v2(CONTOSO), twice("resource", EXCHANGE_RESOURCE), 901_002, request, 400, "The 'resource' request parameter is not supported."),
        (
            v2(CONTOSO),
            with_scope("https://outlook.office365.com/Exchange.Manage"),
            1_002_012,
            "invalid_scope",
            400,
            "The provided value for scope https://outlook.office365.com/Exchange.Manage is not valid.",
        ),
        (
            v2(CONTOSO),
            with_scope("openid"),
            70_011,
            "invalid_scope",
            400,
            "The provided value for the input parameter 'scope' isn't valid.",
        ),
        (
            v2(CONTOSO),
            with_scope("/.default"),
            70_011,
            "invalid_scope",
            400,
            "The provided value for the input parameter 'scope' isn't valid.",
        ),
        (
            v2(CONTOSO),
            with_scope("https://outlook.office365.com/.default https://graph.microsoft.com/.default"),
            700_022,
            "invalid_scope",
            400,
            "",
        ),
        (
            v2(CONTOSO),
            with_scope("https://nobody.example/.default"),
            500_011,
            "invalid_resource",
            400,
            "The resource principal named https://nobody.example was not found in the tenant named contoso",
        ),
    ];
    for (path, form, code, error, status, text) in &rows {
        let form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
        refused(&world.post(path, &[], &form).await, *code, error, *status, text);
    }
    let many: Vec<(&str, &str)> = std::iter::repeat_n(("x", "y"), 100).collect();
    refused(&world.post(&v2(CONTOSO), &[], &many).await, 9_000_411, "invalid_request", 400, "");
    let get = world.get(&v2(CONTOSO)).await;
    refused(&get, 900_561, "invalid_request", 405, "The endpoint only accepts POST requests. Received a GET request.");
    let json_body = Request::post(v2(CONTOSO)).header("host", "localhost:8443").header("content-type", "application/json");
    let json_body = world.send(json_body.body(Body::from(r#"{"grant_type":"client_credentials"}"#)).unwrap()).await;
    refused(&json_body, 900_144, "invalid_request", 400, "The request body must contain the following parameter: 'grant_type'.");

    // The assertion.
    let sign = |change: &dyn Fn(&mut Value, &mut Value)| {
        let mut header = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": identity.certificate.x5t_s256()});
        let mut claims = json!({"aud": audience, "iss": id, "sub": id, "jti": "j", "nbf": NOW, "exp": NOW + 600});
        change(&mut header, &mut claims);
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let digest: [u8; 32] = sha2::Digest::finalize(sha2::Digest::chain_update(<sha2::Sha256 as sha2::Digest>::new(), &input)).into();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(identity.sign(Algorithm::Ps256, &digest).unwrap()))
    };
    let forged = {
        let (input, _) = good.rsplit_once('.').unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode([7; 256]))
    };
    let shown = |certificate: &exops_auth::Certificate| certificate.sha256().iter().map(|b| format!("{b:02X}")).collect::<String>();
    let rows: Vec<(String, u32, &str, u16, String)> = vec![
        (
            application.assertion(&stranger, Algorithm::Ps256, &audience, NOW),
            700_027,
            client,
            401,
            format!(
                "The certificate with identifier used to sign the client assertion is not registered on application. [Reason - The key was not \
                 found., Thumbprint of key used by client: '{}'",
                shown(&stranger.certificate)
            ),
        ),
        (
            forged,
            700_027,
            client,
            401,
            format!(
                "Client assertion failed signature validation. [Reason - Key was found, but use of the key to verify the signature failed., \
                 Thumbprint of key used by client: '{}', Found key 'Start=11/24/2026 11:50:00, End=11/24/2027 12:00:00'",
                shown(&identity.certificate)
            ),
        ),
        (
            sign(&|_, c| c["exp"] = json!(NOW - 300)),
            700_024,
            client,
            401,
            "Client assertion is not within its valid time range. Current time: 2026-11-24T12:00:00.0000000Z, assertion valid from \
             2026-11-24T12:00:00.0000000Z, expiry time of assertion 2026-11-24T11:55:00.0000000Z."
                .into(),
        ),
        (
            sign(&|_, c| {
                c.as_object_mut().unwrap().remove("nbf");
                c["exp"] = json!(NOW - 300);
            }),
            700_024,
            client,
            401,
            "Client assertion is not within its valid time range. Current time: 2026-11-24T12:00:00.0000000Z, assertion valid from 1970-01-01".into(),
        ),
        (sign(&|_, c| c["nbf"] = json!(NOW + 301)), 700_024, client, 401, "Client assertion is not within its valid time range.".into()),
        (sign(&|_, c| c["aud"] = json!("https://nobody.example/")), 700_023, client, 401, "Client assertion audience claim does not match Realm issuer.".into()),
        (sign(&|_, c| c["iss"] = json!(Uuid::from_u128(9))), 700_021, client, 401, "Client assertion application identifier doesn't match 'client_id' parameter.".into()),
        (sign(&|_, c| c["sub"] = json!(Uuid::from_u128(9))), 700_021, client, 401, String::new()),
        ("not a token".into(), 50_027, request, 400, "JWT token is invalid or malformed.".into()),
        (sign(&|_, c| c["exp"] = json!("soon")), 50_027, request, 400, "JWT token is invalid or malformed.".into()),
        (sign(&|h, _| h["alg"] = json!("none")), 5_002_730, request, 400, "Invalid JWT token.".into()),
        (sign(&|h, _| h["alg"] = json!("HS256")), 5_002_730, request, 400, "Invalid JWT token.".into()),
        (sign(&|h, _| h["alg"] = json!("ES256")), 5_002_738, request, 400, "Invalid JWT token.".into()),
        (sign(&|h, _| drop(h.as_object_mut().unwrap().remove("x5t#S256"))), 5_002_723, request, 400, "Invalid JWT token.".into()),
    ];
    for (assertion, code, error, status, text) in &rows {
        refused(&world.with_assertion(&application, assertion).await, *code, error, *status, text);
    }
    let mut wrong_type = assertion_form(id, &good, SCOPE);
    wrong_type[2].1 = "urn:ietf:params:oauth:client-assertion-type:saml2-bearer";
    refused(&world.post(&v2(CONTOSO), &[], &wrong_type).await, 7_000_219, request, 400, "");
    // Time goes on: the secret ends, later the certificate.
    world.clock.store((NOW + 3601) * 1000, Ordering::Relaxed);
    let expired = world.post(&v2(CONTOSO), &[], &[grant, ("client_id", id), ("client_secret", &secret), ("scope", SCOPE)]).await;
    refused(&expired, 7_000_222, client, 401, &format!("The provided client secret keys for app '{id}' are expired."));
    let later = NOW + 366 * 86_400;
    world.clock.store(later * 1000, Ordering::Relaxed);
    let assertion = application.assertion(&identity, Algorithm::Ps256, &audience, later);
    let expired = world.with_assertion(&application, &assertion).await;
    let text =
        "The certificate with identifier used to sign the client assertion is expired on application. [Reason - The key used is expired.";
    refused(&expired, 700_027, client, 401, text);
    assert!(expired.text("/error_description").contains("Found key 'Start=11/24/2026 11:50:00, End=11/24/2027 12:00:00'"));
    world.clock.store(NOW * 1000, Ordering::Relaxed);
    // A disabled service principal.
    let path = format!("/servicePrincipals/{}", application.principal);
    world.graph("PATCH", &path, json!({"accountEnabled": false})).await.is(204);
    let disabled = world.with_assertion(&application, &good).await;
    refused(&disabled, 7_000_112, "unauthorized_client", 400, &format!("Application '{id}'(exops test) is disabled."));
}
