//! A remote PowerShell endpoint for client tests: the scripted runspace behind the real listener, front end and session
//! layer. `scripted-endpoint --listen 127.0.0.1:0 --ready-file F` writes F when it accepts requests, with the keys
//! `powershell`, `ca_file`, `user` and `password` (the pair for Basic), and runs until it is interrupted.

mod commands;

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exops_auth::issue::{lab_authority, server_certificate};
use exops_auth::token::{ClientCredential, Grant, KeySet, SigningKey, mint_lasting};
use exops_gateway::{Gateway, GatewayConfig, Tenant, tls_config};
use exops_policy::{DirectoryRole, EXCHANGE_MANAGE_AS_APP, RoleModel};
use exops_store::Store;
use exops_testkit::{ORGANIZATION, ScriptedRunspace, TENANT};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use uuid::Uuid;

const AUDIENCE: &str = "https://outlook.office365.com";
/// The password is good for as long as the endpoint's certificate.
const PASSWORD_SECONDS: i64 = 30 * 24 * 3600;
const USAGE: &str = "usage: scripted-endpoint --ready-file FILE [--listen 127.0.0.1:0]";

struct Options {
    listen: String,
    ready_file: PathBuf,
}

#[tokio::main]
#[allow(clippy::print_stderr, reason = "a program says why it does not start")]
async fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scripted-endpoint: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
    let (mut listen, mut ready_file) = ("127.0.0.1:0".to_owned(), None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--listen" => listen = arguments.next()?,
            "--ready-file" => ready_file = Some(PathBuf::from(arguments.next()?)),
            _ => return None,
        }
    }
    Some(Options { listen, ready_file: ready_file? })
}

async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let now = unix_milliseconds() / 1000;
    let authority = lab_authority(&[], now)?;
    let certificate = server_certificate(&authority, &[], now)?;
    let chain = vec![CertificateDer::from(certificate.certificate.as_der().to_vec())];
    let tls = tls_config(chain, PrivatePkcs8KeyDer::from(certificate.key.expose_secret().to_vec()).into())?;
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, authority.certificate().to_pem())?;

    let key = SigningKey::generate(now)?;
    let keys = Arc::new(KeySet::of(std::slice::from_ref(&key))?);
    let gateway = Gateway::new(GatewayConfig {
        // A client that does not answer the wish for its key is waited for in every test of one.
        quotas: exops_gateway::Quotas { key_after: Duration::from_secs(2), ..exops_gateway::Quotas::default() },
        runspace: Arc::new(ScriptedRunspace::of_scripts(commands::all())),
        roles: Arc::new(RoleModel::parse(&role_model())?),
        store: Store::open(&folder.path().join("endpoint.sqlite")).await?,
        token_keys: Arc::new(move || Arc::clone(&keys)),
        audiences: vec![AUDIENCE.to_owned()],
        tenants: vec![Tenant { id: TENANT, domains: vec![ORGANIZATION.to_owned()] }],
        authority: "https://localhost".to_owned(),
        server_name: format!("SCRIPTED.{ORGANIZATION}"),
        mark_lab: true,
        extra_routes: axum::Router::new(),
        clock: Arc::new(unix_milliseconds),
        tls,
    });
    let listener = TcpListener::bind(&options.listen).await?;
    let ready = serde_json::json!({
        "powershell": format!("https://localhost:{}/powershell-liveid", listener.local_addr()?.port()),
        "ca_file": ca_file,
        "user": format!("OAuthUser@{ORGANIZATION}"),
        "password": format!("Bearer {}", token(&key, now)?),
    });
    write_whole(&options.ready_file, &serde_json::to_vec_pretty(&ready)?)?;
    gateway.serve(listener, interrupted()).await;
    std::fs::remove_file(&options.ready_file)?;
    Ok(())
}

/// One role holds every command.
fn role_model() -> String {
    let mut text = "directory-role Exchange Administrator = All\ngroup All = All\nrole All = ".to_owned();
    for name in commands::names() {
        let _ = write!(text, "{name}, ");
    }
    text
}

/// The gateway knows tokens only: the password of the Basic pair is one.
fn token(key: &SigningKey, now: i64) -> Result<String, Box<dyn Error>> {
    let grant = Grant {
        tenant: TENANT.0,
        audience: AUDIENCE,
        app_id: Uuid::new_v4(),
        object_id: Uuid::new_v4(),
        app_display_name: "client under test",
        credential: ClientCredential::Secret,
        roles: &[EXCHANGE_MANAGE_AS_APP.to_owned()],
        directory_roles: &[DirectoryRole::ExchangeAdministrator.template_id()],
        lab: true,
        unique_id: Uuid::new_v4(),
    };
    Ok(mint_lasting(key, &grant, now, PASSWORD_SECONDS)?.expose_secret().to_owned())
}

/// Readers see all of the file or none, and nobody else reads the password.
fn write_whole(path: &Path, content: &[u8]) -> Result<(), Box<dyn Error>> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(parent)?;
    file.write_all(content)?;
    file.persist(path)?;
    Ok(())
}

fn unix_milliseconds() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

async fn interrupted() {
    #[cfg(unix)]
    if let Ok(mut terminated) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated.recv() => {}
        }
        return;
    }
    let _ = tokio::signal::ctrl_c().await;
}
