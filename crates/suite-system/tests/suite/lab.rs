//! The lab as a whole, in this process: its folder and files, its own API, and that everything behind one listener works.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use exops_catalogue::{Catalogue, Command, UnknownNames, bind};
use exops_client::{
    Credential, Endpoint, GraphSetup, Http, Method, NewApplication, RegisteredApplication, RemotePowerShellConnection, RestConnection,
    TokenSource,
};
use exops_lab::{Bootstrap, Lab, LabConfig, LabError, RunningLab, Seed};
use exops_psobject::Value;
use exops_runspace::{Ended, Invocation, Record, Runspace, Step};
use futures_util::StreamExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use uuid::Uuid;

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn on(folder: &Path) -> LabConfig {
    LabConfig { data_dir: Some(folder.to_owned()), listen: any_port(), ..LabConfig::default() }
}

/// What somebody on this machine knows of a running lab.
fn endpoint(bootstrap: &Bootstrap) -> Endpoint {
    let ready = &bootstrap.ready;
    Endpoint {
        authority: ready.authority.clone(),
        graph: ready.graph.clone(),
        admin_api: ready.admin_api.clone(),
        powershell: ready.powershell.clone(),
        organization: ready.organization.clone(),
        tenant_id: Some(ready.tenant_id),
        ca_pem: Some(std::fs::read(&ready.ca_file).unwrap()),
        is_lab: true,
    }
}

/// How long an answer of a lab may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn http(bootstrap: &Bootstrap) -> Http {
    Http::new(&endpoint(bootstrap)).unwrap()
}

/// An application with the right to everything.
async fn register(bootstrap: &Bootstrap, name: &str, certificate: &[u8]) -> RegisteredApplication {
    let setup = GraphSetup::new(http(bootstrap), &bootstrap.ready.graph, &bootstrap.token, bootstrap.ready.tenant_id);
    let new = NewApplication {
        name: name.to_owned(),
        app_id: None,
        certificates: vec![certificate.to_vec()],
        secret: None,
        app_roles: vec!["Exchange.ManageAsApp".to_owned()],
        directory_roles: vec!["Exchange Administrator".to_owned()],
    };
    setup.create(&new).await.unwrap()
}

fn identity() -> Arc<exops_auth::Identity> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    Arc::new(exops_auth::issue::self_signed("CN=lab test", 30, i64::try_from(now).unwrap()).unwrap())
}

fn tokens(bootstrap: &Bootstrap, app_id: Uuid, identity: &Arc<exops_auth::Identity>) -> TokenSource {
    TokenSource::new(http(bootstrap), endpoint(bootstrap), app_id, Credential::Certificate(identity.clone()))
}

/// Runs one command to its end: output and end.
async fn run(runspace: &dyn Runspace, tokens: &TokenSource, command: Command) -> (Vec<Value>, Ended) {
    let caller = tokens.token().await.unwrap().caller();
    let pipeline = bind(&Catalogue::built_in(), &command.into(), UnknownNames::Pass).unwrap();
    let mut steps = runspace.invoke(Invocation::new(caller, pipeline, Uuid::new_v4()));
    let mut output = Vec::new();
    while let Some(step) = steps.next().await {
        match step {
            Step::Record(Record::Output(value)) => output.push(value),
            Step::Record(Record::Error(error)) => panic!("{}", error.message),
            Step::Record(_) => {}
            Step::Ended(end) => return (output, end),
        }
    }
    panic!("a stream without an end")
}

fn property(object: &Value, name: &str) -> String {
    object.as_object().unwrap().property(name).unwrap().display()
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn its_folder_its_files_and_its_own_api() {
    let parent = TempDir::new().unwrap();
    let (folder, copy) = (parent.path().join("a/lab"), parent.path().join("copy.json"));
    let config = LabConfig { ready_file: Some(copy.clone()), organization: Some("Fabrikam.OnMicrosoft.com".into()), ..on(&folder) };
    assert!(matches!(Lab::open_bootstrap(&folder), Err(LabError::NotRunning { data_dir }) if data_dir == folder));
    let lab = Lab::start(config).await.unwrap();
    let folder = folder.canonicalize().unwrap();

    // The ready file has exactly the keys of what is built.
    let ready: Json = serde_json::from_slice(&std::fs::read(folder.join("ready.json")).unwrap()).unwrap();
    let base = ready["authority"].as_str().unwrap().to_owned();
    let tenant = ready["tenant_id"].as_str().unwrap().to_owned();
    let port: u16 = base.strip_prefix("https://localhost:").unwrap().parse().unwrap();
    assert!(port != 0 && Uuid::try_parse(&tenant).unwrap().get_version_num() == 4);
    let expected = json!({
        "pid": std::process::id(), "version": env!("CARGO_PKG_VERSION"), "data_dir": folder, "tenant_id": tenant,
        "organization": "fabrikam.onmicrosoft.com", "authority": base,
        "token_endpoint": format!("{base}/{tenant}/oauth2/v2.0/token"), "graph": base, "admin_api": base,
        "powershell": format!("{base}/powershell-liveid"), "ca_file": folder.join("ca.pem"),
        "tenants": [{"tenant_id": tenant, "organization": "fabrikam.onmicrosoft.com"}],
    });
    assert_eq!(ready, expected);
    assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(folder.join("ready.json")).unwrap());
    let mut files: Vec<String> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.retain(|name| !name.starts_with("lab.sqlite-"));
    files.sort();
    assert_eq!(files, ["bootstrap.json", "ca.key", "ca.pem", "lab.sqlite", "lock", "ready.json"]);
    #[cfg(unix)]
    {
        assert_eq!(mode(&folder), 0o700);
        for name in files {
            assert_eq!(mode(&folder.join(&name)), 0o600, "{name}");
        }
        assert_eq!(mode(&copy), 0o600);
    }

    // Who has the folder finds the lab and may manage it; nobody else may.
    let bootstrap = Lab::open_bootstrap(&folder).unwrap();
    assert_eq!((&bootstrap.ready, bootstrap.token.expose_secret()), (lab.ready(), lab.bootstrap().token.expose_secret()));
    assert!(bootstrap.token.expose_secret().len() >= 40 && !format!("{bootstrap:?}{lab:?}").contains(bootstrap.token.expose_secret()));
    let http = http(&bootstrap);
    let url = |route: &str| format!("{base}/exops-lab/v1/{route}");
    let (status, answer) = http.json(Method::GET, &url("status"), &bootstrap.token, PATIENCE).await.unwrap();
    assert_eq!((status, &answer["running"], &answer["requests"]), (200, &json!(true), &json!(1)));
    assert!(answer["started"].as_str().unwrap().ends_with('Z'));
    for (key, value) in ready.as_object().unwrap() {
        assert_eq!(&answer[key], value, "{key}");
    }
    let almost = bootstrap.token.expose_secret().get(1..).unwrap().to_owned();
    for wrong in ["x", "", &almost, &format!("{}x", bootstrap.token.expose_secret())] {
        for (method, route) in [(Method::GET, "status"), (Method::POST, "shutdown")] {
            let (status, answer) = http.json(method, &url(route), &SecretString::from(wrong), PATIENCE).await.unwrap();
            assert_eq!((status, &answer["error"]["code"]), (401, &json!("Unauthorized")), "{wrong}");
        }
    }
    assert_eq!(http.json(Method::GET, &url("shutdown"), &bootstrap.token, PATIENCE).await.unwrap().0, 405);
    let (status, answer) = http.json(Method::GET, &url("status"), &bootstrap.token, PATIENCE).await.unwrap();
    assert_eq!((status, &answer["requests"]), (200, &json!(11)));

    // Asked to stop, it does, and cleans up behind itself.
    let ended = tokio::spawn(lab.run_until(std::future::pending()));
    let (status, answer) = http.json(Method::POST, &url("shutdown"), &bootstrap.token, PATIENCE).await.unwrap();
    assert_eq!((status, answer), (202, json!({"stopping": true})));
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap().unwrap().unwrap();
    assert!(!folder.join("ready.json").exists() && !copy.exists());
    assert!(matches!(Lab::open_bootstrap(&folder), Err(LabError::NotRunning { .. })));
    assert!(http.json(Method::GET, &url("status"), &bootstrap.token, PATIENCE).await.is_err());
}

#[tokio::test]
async fn what_is_taken_or_does_not_fit_is_refused() {
    let folder = TempDir::new().unwrap();
    let lab = Lab::start(on(folder.path())).await.unwrap();
    let refused = Lab::start(on(folder.path())).await.unwrap_err();
    assert!(matches!(&refused, LabError::DataFolderInUse { pid: Some(pid), .. } if *pid == std::process::id()), "{refused}");
    assert!(refused.to_string().contains(&folder.path().canonicalize().unwrap().display().to_string()), "{refused}");
    assert!(refused.hint().contains("exops lab down"));
    // The one that was there first is not disturbed.
    assert_eq!(Lab::open_bootstrap(folder.path()).unwrap().ready, *lab.ready());
    lab.stop().await.unwrap();

    let other = TcpListener::bind(any_port()).unwrap();
    let taken = other.local_addr().unwrap();
    let refused = Lab::start(LabConfig { listen: taken, ..on(folder.path()) }).await.unwrap_err();
    assert!(matches!(refused, LabError::PortTaken { addr } if addr == taken), "{refused}");
    assert!(refused.to_string().contains(&taken.to_string()) && refused.hint().contains("--listen"));
    assert!(!folder.path().join("ready.json").exists());

    let bad: [(LabConfig, &str); 6] = [
        (LabConfig { seed: Some(Seed::Large), ..on(folder.path()) }, "the standard seed"),
        (LabConfig { organization: Some("fabrikam.onmicrosoft.com".into()), ..on(folder.path()) }, "contoso.onmicrosoft.com"),
        (LabConfig { tenant_id: Some(Uuid::from_u128(1)), ..on(folder.path()) }, "00000000-0000-0000-0000-000000000001"),
        (LabConfig { organization: Some("no domain".into()), ..LabConfig { listen: any_port(), ..LabConfig::default() } }, "\"no domain\""),
        (LabConfig { host_aliases: vec!["a b".into()], ..on(folder.path()) }, "\"a b\""),
        (LabConfig { listen: "192.0.2.1:0".parse().unwrap(), ..on(folder.path()) }, "192.0.2.1:0"),
    ];
    for (config, value) in bad {
        let refused = Lab::start(config).await.unwrap_err();
        assert!(matches!(refused, LabError::OtherOrganization { .. } | LabError::BadValue { .. }), "{refused}");
        assert!(refused.to_string().contains(value) && !refused.hint().is_empty(), "{refused}");
    }
}

/// labs on one machine know nothing of each other, and an ephemeral one leaves nothing.
#[tokio::test]
async fn r_10_two_labs_side_by_side() {
    let start = async || Lab::start(LabConfig { listen: any_port(), ..LabConfig::default() }).await.unwrap();
    let (one, two): (RunningLab, RunningLab) = (start().await, start().await);
    assert_ne!(one.ready().data_dir, two.ready().data_dir);
    assert_ne!(one.ready().authority, two.ready().authority);
    let certificate = identity();
    let application = register(one.bootstrap(), "only in one", certificate.certificate.as_der()).await;
    tokens(one.bootstrap(), application.app_id, &certificate).token().await.unwrap();
    let refused = tokens(two.bootstrap(), application.app_id, &certificate).token().await.unwrap_err();
    assert_eq!(refused.code, "AADSTS700016", "{refused}");
    // Neither takes the other's token, nor does a client that trusts one reach the other.
    let crossed = Bootstrap { ready: two.ready().clone(), token: one.bootstrap().token.clone() };
    let setup = GraphSetup::new(http(&crossed), &two.ready().graph, &crossed.token, two.ready().tenant_id);
    assert!(setup.list().await.is_err());
    let status = format!("{}/exops-lab/v1/status", two.ready().authority);
    assert!(http(one.bootstrap()).json(Method::GET, &status, &two.bootstrap().token, PATIENCE).await.is_err());
    let (first, second) = (one.ready().data_dir.clone(), two.ready().data_dir.clone());
    one.stop().await.unwrap();
    assert!(!first.exists() && second.exists());
    let (answered, _) = http(two.bootstrap()).json(Method::GET, &status, &two.bootstrap().token, PATIENCE).await.unwrap();
    assert_eq!(answered, 200);
    two.stop().await.unwrap();
    assert!(!second.exists());
}

/// Certificate in, mailboxes out, over both transports; and all of it is there after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_reaches_mailboxes_over_both_transports_and_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let lab = Lab::start(on(folder.path())).await.unwrap();
    let (ready, ca) = (lab.ready().clone(), std::fs::read(&lab.ready().ca_file).unwrap());
    let certificate = identity();
    let application = register(lab.bootstrap(), "restart test", certificate.certificate.as_der()).await;
    let signed_in = tokens(lab.bootstrap(), application.app_id, &certificate);
    let claims = signed_in.token().await.unwrap().claims().clone();
    assert_eq!((claims.app_id, claims.tenant_id, claims.is_lab), (application.app_id, ready.tenant_id, true));

    let rest = RestConnection::new(http(lab.bootstrap()), signed_in.clone());
    let (mailboxes, end) = run(&rest, &signed_in, Command::new("Get-Mailbox").with("ResultSize", 5)).await;
    assert_eq!((mailboxes.len(), end), (5, Ended::Completed));
    let id = property(&mailboxes[0], "Guid");
    let set = |value: &str| Command::new("Set-Mailbox").with("Identity", id.as_str()).with("CustomAttribute1", value);
    assert_eq!(run(&rest, &signed_in, set("over REST")).await.1, Ended::Completed);
    let get = || Command::new("Get-Mailbox").with("Identity", id.as_str());
    let rps = RemotePowerShellConnection::new(http(lab.bootstrap()), signed_in.clone());
    let (read, end) = run(&rps, &signed_in, get()).await;
    assert_eq!((property(&read[0], "CustomAttribute1").as_str(), end), ("over REST", Ended::Completed));
    assert_eq!(run(&rps, &signed_in, set("over remote PowerShell")).await.1, Ended::Completed);
    rps.close().await;
    lab.stop().await.unwrap();

    // Another port, the same lab: tenant, authority, registration, change and audit trail.
    let lab = Lab::start(on(folder.path())).await.unwrap();
    assert_eq!((lab.ready().tenant_id, &lab.ready().organization), (ready.tenant_id, &ready.organization));
    assert_eq!(std::fs::read(&lab.ready().ca_file).unwrap(), ca);
    let signed_in = tokens(lab.bootstrap(), application.app_id, &certificate);
    let rest = RestConnection::new(http(lab.bootstrap()), signed_in.clone());
    let (read, _) = run(&rest, &signed_in, get()).await;
    assert_eq!(property(&read[0], "CustomAttribute1"), "over remote PowerShell");
    let search = Command::new("Search-AdminAuditLog").with("Cmdlets", "Set-Mailbox");
    let (entries, end) = run(&rest, &signed_in, search).await;
    assert_eq!((entries.len(), end), (2, Ended::Completed));
    for entry in &entries {
        assert_eq!(property(entry, "Succeeded"), "True");
        assert!(property(entry, "Caller").contains("restart test"), "{}", property(entry, "Caller"));
    }

    // Back to the first day: the change and its entries are gone, the registration is not, and the trail goes on.
    let reset = format!("{}/exops-lab/v1/reset", lab.ready().authority);
    assert_eq!(http(lab.bootstrap()).json(Method::POST, &reset, &SecretString::from("x"), PATIENCE).await.unwrap().0, 401);
    let (status, answer) = http(lab.bootstrap()).json(Method::POST, &reset, &lab.bootstrap().token, PATIENCE).await.unwrap();
    assert_eq!((status, answer), (200, json!({"reset": true, "organization": ready.organization, "seed": "standard"})));
    let (read, _) = run(&rest, &signed_in, get()).await;
    assert_ne!(property(&read[0], "CustomAttribute1"), "over remote PowerShell");
    let search = || Command::new("Search-AdminAuditLog").with("Cmdlets", "Set-Mailbox");
    assert_eq!(run(&rest, &signed_in, search()).await.0.len(), 0);
    assert_eq!(run(&rest, &signed_in, set("after the reset")).await.1, Ended::Completed);
    assert_eq!(run(&rest, &signed_in, search()).await.0.len(), 1);
    lab.stop().await.unwrap();

    // A new alias is a new authority: the old one may not vouch for it.
    let lab = Lab::start(LabConfig { host_aliases: vec!["login.example".into()], ..on(folder.path()) }).await.unwrap();
    assert_ne!(std::fs::read(&lab.ready().ca_file).unwrap(), ca);
    tokens(lab.bootstrap(), application.app_id, &certificate).token().await.unwrap();
    lab.stop().await.unwrap();
}
