//! `exops quickstart`: the whole path on this machine, each step timed and shown.

mod compare;
mod screen;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use exops_auth::Identity;
use exops_catalogue::{Catalogue, Command, Pipeline, UnknownNames, bind};
use exops_client::{Credential, NewApplication, RegisteredApplication, Token};
use exops_keystore::CertificateStore;
use exops_lab::{Lab, LabConfig, RunningLab};
use exops_psobject::{Value, json as psjson};
use exops_runspace::{Ended, Fault, FaultKind, Invocation, Record, Runspace, Step};
use futures_util::StreamExt as _;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use self::screen::Screen;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::options::Transport;
use crate::profile::{self, Profile, SavedCredential, SavedEndpoint, file_failure};
use crate::session::{Session, lab_endpoint};
use crate::{cert, lab};

const APPLICATION: &str = "exops-quickstart";
const SUBJECT: &str = "CN=ExOPS";
const DAYS: u32 = 365;
const APP_ROLE: &str = "Exchange.ManageAsApp";
const DIRECTORY_ROLE: &str = "Exchange Administrator";
/// The property that the audited change writes.
const PROPERTY: &str = "CustomAttribute1";
/// What it writes; the second where an earlier run in a kept folder wrote the first.
const VALUES: [&str; 2] = ["set by exops", "set by exops again"];

/// Runs all steps in a folder of its own, which goes away unless it is to be kept or a step failed.
pub(crate) async fn run(keep: Option<PathBuf>, as_json: bool) -> Result<Exit, Failure> {
    let mut screen = Screen::new(as_json);
    screen.title(&format!("exops {} quickstart: a lab organisation on this machine; nothing leaves it", env!("CARGO_PKG_VERSION")))?;
    let temporary = match &keep {
        Some(_) => None,
        None => Some(
            tempfile::Builder::new().prefix("exops-quickstart-").tempdir().map_err(|e| file_failure("make", &std::env::temp_dir(), &e))?,
        ),
    };
    let folder = match (&keep, &temporary) {
        (Some(folder), _) => {
            std::fs::create_dir_all(folder).map_err(|e| file_failure("make", folder, &e))?;
            std::path::absolute(folder).map_err(|e| file_failure("use", folder, &e))?
        }
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => return Err(Failure::new(Exit::Unexpected, "there is no folder")),
    };
    let mut running = None;
    let result = steps(&folder, &mut running, &mut screen).await;
    let authority = running.as_ref().map(|lab: &RunningLab| lab.ready().authority.clone());
    if let Some(lab) = running
        && let Err(error) = lab.stop().await
    {
        tracing::warn!(%error, "the lab did not stop cleanly");
    }
    match result {
        Ok(profile) => {
            screen.done(next(keep.is_some().then_some(folder.as_path()), &profile))?;
            Ok(Exit::Ok)
        }
        Err(failure) => {
            // Whoever closed our output has seen enough; nobody will look into the folder.
            if failure.exit != Some(Exit::OutputClosed) {
                let left = temporary.map_or(folder, tempfile::TempDir::keep);
                screen.failed(&failure, &left, authority.as_deref())?;
            }
            // A person has read it in the step's line.
            if as_json { Err(failure) } else { Ok(failure.exit.unwrap_or(Exit::Unexpected)) }
        }
    }
}

async fn steps(folder: &Path, running: &mut Option<RunningLab>, screen: &mut Screen) -> Result<Profile, Failure> {
    screen.begin("lab");
    let data = folder.join("lab");
    let config = LabConfig { data_dir: Some(data.clone()), listen: ([127, 0, 0, 1], 0).into(), ..LabConfig::default() };
    let lab = running.insert(Lab::start(config).await?);
    let ready = lab.ready().clone();
    screen.step(
        &format!("{}  {}", ready.authority, ready.organization),
        json!({"authority": ready.authority, "organization": ready.organization, "tenant_id": ready.tenant_id, "data_dir": ready.data_dir}),
    )?;

    screen.begin("certificate");
    let identity = cert::make(SUBJECT, DAYS)?;
    let store = CertificateStore::current_user(folder);
    let file = cert::add(&store, &identity)?;
    let thumbprint = identity.certificate.sha1_thumbprint();
    let bits = identity.certificate.key_bits();
    screen.step(
        &format!("{SUBJECT}  RSA {bits}  thumbprint {}…{}  {DAYS} days", head(&thumbprint, 6), tail(&thumbprint, 2)),
        json!({"subject": SUBJECT, "bits": bits, "thumbprint": thumbprint, "days": DAYS, "file": file}),
    )?;

    screen.begin("application");
    let application = register(lab, &identity).await?;
    screen.step(
        &format!("{APPLICATION} {}  {APP_ROLE}, {DIRECTORY_ROLE}", short(application.app_id)),
        serde_json::to_value(&application).unwrap_or_default(),
    )?;

    screen.begin("token");
    let endpoint = lab_endpoint(&ready, &ready.organization, Some(ready.tenant_id))?;
    let session = Session::new(endpoint, application.app_id, Credential::Certificate(Arc::new(identity)))?;
    let token = session.tokens.token().await?;
    let minutes = crate::status::minutes_left(&token);
    screen.step(
        &format!("PS256 assertion, app-only, good for {minutes} min"),
        json!({"assertion": "PS256", "minutes": minutes, "app_roles": token.claims().app_roles}),
    )?;

    rest(&session, &token, &application, screen).await?;
    both(&session, &token, screen).await?;

    let profile = Profile {
        app_id: application.app_id,
        organization: ready.organization,
        tenant_id: ready.tenant_id,
        connection_id: Uuid::new_v4(),
        app_roles: token.claims().app_roles.clone(),
        directory_roles: token.claims().directory_roles.clone(),
        endpoint: SavedEndpoint::Lab { data },
        credential: SavedCredential::Store { thumbprint, store: Some(store.directory().to_owned()) },
    };
    profile.save_in(&folder.join("profiles"), profile::DEFAULT)?;
    Ok(profile)
}

async fn register(lab: &RunningLab, identity: &Identity) -> Result<RegisteredApplication, Failure> {
    let new = NewApplication {
        name: APPLICATION.to_owned(),
        certificates: vec![identity.certificate.as_der().to_vec()],
        app_roles: vec![APP_ROLE.to_owned()],
        directory_roles: vec![DIRECTORY_ROLE.to_owned()],
        ..NewApplication::default()
    };
    Ok(lab::graph_of(lab.bootstrap())?.create(&new).await?)
}

/// Step 5: read some, change one, find the change in the audit log.
async fn rest(session: &Session, token: &Token, application: &RegisteredApplication, screen: &mut Screen) -> Result<(), Failure> {
    screen.begin("REST");
    let connection = session.connection(Transport::Rest);
    let read = gather(connection.as_ref(), token, Command::new("Get-Mailbox").with("ResultSize", "5")).await?;
    let mailboxes: Vec<Json> = read.objects.iter().map(psjson::to_plain).collect();
    screen.step("Get-Mailbox -ResultSize 5", json!({"mailboxes": mailboxes.len(), "warnings": read.warnings}))?;
    screen.mailboxes(&read.objects, &read.warnings)?;
    screen.keep("mailboxes", mailboxes.into());
    let first = read.objects.first().ok_or_else(|| step_failure("Get-Mailbox gave no mailbox"))?;
    let text = |name: &str| first.as_object().and_then(|o| o.property(name)).map(Value::display).unwrap_or_default();
    let (alias, guid) = (text("Alias"), text("Guid"));
    let before = text(PROPERTY);
    let value = if before == VALUES[0] { VALUES[1] } else { VALUES[0] };

    let began = Instant::now();
    let change = Command::new("Set-Mailbox").with("Identity", guid.as_str()).with(PROPERTY, value);
    gather(connection.as_ref(), token, change).await?;
    screen.sub_step(&format!("Set-Mailbox {alias} -{} \"{}\"", PROPERTY, value), "set", began.elapsed())?;

    let began = Instant::now();
    let search = Command::new("Search-AdminAuditLog").with("Cmdlets", "Set-Mailbox");
    let found = gather(connection.as_ref(), token, search).await?;
    let entry = found.objects.iter().find(|e| speaks_of(e, application, value)).ok_or_else(|| {
        step_failure(&format!(
            "Search-AdminAuditLog shows {} entries, and none for {} of {alias} by {}",
            found.objects.len(),
            PROPERTY,
            application.name
        ))
    })?;
    screen.sub_step(&audit_line(entry, [&before, value], application), "audit", began.elapsed())?;
    screen.keep("audit", found.objects.iter().map(psjson::to_plain).collect());
    Ok(())
}

/// Whether an audit entry is about our change under the application's name.
fn speaks_of(entry: &Value, application: &RegisteredApplication, value: &str) -> bool {
    let plain = psjson::to_plain(entry);
    let text = |name: &str| plain.get(name).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).unwrap_or_default();
    let caller = text("Caller");
    text("CmdletName").eq_ignore_ascii_case("Set-Mailbox")
        && caller.contains(&application.name)
        && caller.contains(&application.app_id.to_string())
        && plain.to_string().contains(value)
}

fn audit_line(entry: &Value, [before, value]: [&str; 2], application: &RegisteredApplication) -> String {
    let plain = psjson::to_plain(entry);
    let text = |name: &str| plain.get(name).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).unwrap_or_default();
    let time: String = text("RunDate").split('T').nth(1).unwrap_or_default().chars().take(8).collect();
    let succeeded = if text("Succeeded").eq_ignore_ascii_case("true") { "Succeeded" } else { "Failed" };
    let caller = text("Caller").replace(&application.app_id.to_string(), &short(application.app_id));
    format!("Search-AdminAuditLog: {time} Z  {caller}  {}  {}: \"{before}\" → \"{}\"  {succeeded}", text("CmdletName"), PROPERTY, value)
}

/// Step 6: all recipients over both transports, property by property.
async fn both(session: &Session, token: &Token, screen: &mut Screen) -> Result<(), Failure> {
    screen.begin("remote PowerShell");
    let rest = session.connection(Transport::Rest);
    let rps = session.connection(Transport::Rps);
    let (mut recipients, mut properties) = (0, 0);
    for cmdlet in ["Get-Recipient", "Get-Mailbox", "Get-DistributionGroup"] {
        let command = Command::new(cmdlet).with("ResultSize", "Unlimited");
        let over_rest = gather(rest.as_ref(), token, command.clone()).await?;
        let over_rps = gather(rps.as_ref(), token, command).await?;
        properties += compare::equal(cmdlet, &over_rest.objects, &over_rps.objects).map_err(|difference| {
            step_failure(&format!("REST and remote PowerShell differ: {difference}")).hint("this is a defect of exops: please report it")
        })?;
        if cmdlet == "Get-Recipient" {
            recipients = over_rest.objects.len();
        }
    }
    rps.close().await;
    if recipients == 0 {
        return Err(step_failure("neither transport gave a recipient"));
    }
    screen.step(
        &format!("{recipients} recipients, {} properties: equal to REST", screen::grouped(properties)),
        json!({"recipients": recipients, "properties": properties, "equal": true}),
    )
}

struct Gathered {
    objects: Vec<Value>,
    warnings: Vec<String>,
}

/// Runs one command to its end; any error is a failure.
async fn gather(connection: &dyn Runspace, token: &Token, command: Command) -> Result<Gathered, Failure> {
    let name = command.name.clone();
    let bound = bind(&Catalogue::built_in(), &Pipeline::from(command), UnknownNames::Pass)
        .map_err(|e| Failure::of_record(&e.record, Exit::Usage))?;
    let mut records = connection.invoke(Invocation::new(token.caller(), bound, Uuid::new_v4()));
    let mut gathered = Gathered { objects: Vec::new(), warnings: Vec::new() };
    while let Some(step) = records.next().await {
        match step {
            Step::Record(Record::Output(object)) => gathered.objects.push(object),
            Step::Record(Record::Warning(text)) => gathered.warnings.push(text.to_string()),
            Step::Record(Record::Error(record)) => return Err(Failure::of_record(&record, Exit::Cmdlet)),
            Step::Record(_) => {}
            Step::Ended(Ended::Completed) => return Ok(gathered),
            Step::Ended(Ended::Failed(record)) => return Err(Failure::of_record(&record, Exit::Cmdlet)),
            Step::Ended(Ended::Refused(record)) => return Err(Failure::of_record(&record, Exit::Refused)),
            Step::Ended(Ended::SignIn(fault) | Ended::Unreachable(fault)) => return Err(fault.into()),
            Step::Ended(Ended::OutcomeUnknown(fault)) => return Err(Failure { exit: Some(Exit::OutcomeUnknown), ..fault.into() }),
            Step::Ended(Ended::Throttled(after)) => {
                return Err(Fault::new(FaultKind::Throttled(after), format!("{name} was throttled")).into());
            }
            Step::Ended(other) => return Err(step_failure(&format!("{name} ended as {other:?}"))),
        }
    }
    Err(step_failure(&format!("{name} ended without telling how")))
}

fn step_failure(message: &str) -> Failure {
    Failure { code: "Quickstart".to_owned(), ..Failure::new(Exit::Unexpected, message) }
}

/// How to go on: with what was kept, or with a lab of one's own.
fn next(kept: Option<&Path>, profile: &Profile) -> Vec<(String, String)> {
    let line = |command: &str, what: &str| (command.to_owned(), what.to_owned());
    match kept {
        Some(folder) => {
            let home = format!("EXOPS_HOME={} exops", folder.display());
            vec![
                line(&format!("{home} lab up --listen 127.0.0.1:0 &"), "the same lab again"),
                line(&format!("{home} status"), "the saved connection"),
                line(&format!("{home} run Get-Mailbox -ResultSize 10"), ""),
            ]
        }
        None => vec![
            line("exops lab up", "a lab that stays (exops lab app create --help)"),
            line(&format!("exops connect --lab --app-id … --thumbprint … --organization {}", profile.organization), ""),
            line("exops run Get-Mailbox -ResultSize 10", ""),
        ],
    }
}

/// The beginning of an id, for a line that a person reads.
fn short(id: Uuid) -> String {
    format!("{}…", head(&id.to_string(), 4))
}

fn head(text: &str, n: usize) -> String {
    text.chars().take(n).collect()
}

fn tail(text: &str, n: usize) -> String {
    text.chars().skip(text.chars().count().saturating_sub(n)).collect()
}
