//! `exops lab …`: start one, find the one that runs, manage its applications.

use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use exops_client::{Endpoint, GraphSetup, Http, NewApplication, RegisteredApplication};
use exops_lab::{Bootstrap, Lab, LabConfig, Seed};
use secrecy::SecretString;
use serde_json::{Value as Json, json};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::options::{LabApp, LabAppCreate, LabData, LabImport, LabSeed, LabUp};
use crate::output::{Format, printable};
use crate::profile::file_failure;
use crate::session::{lab_data, lab_endpoint, read, read_some};
use crate::{asked_to_stop, io_reason, note, print, progress, tell};

/// What `--noun` takes.
const NOUN_HINT: &str = "--noun takes what stands behind Get- in the cmdlet that was exported, such as Mailbox";
/// What a database says of a disk without room.
const DISK_FULL: &str = "disk is full";
/// How long `down` waits for the lab to drain.
const DRAIN: Duration = Duration::from_secs(30);
/// How long a large organisation may take to be filled anew.
const REFILL: Duration = Duration::from_secs(600);

/// Starts a lab and stays until it is asked to stop.
pub(crate) async fn up(options: LabUp) -> Result<Exit, Failure> {
    let data_dir = if options.ephemeral { None } else { Some(lab_data(options.data.data.as_ref())?) };
    let config = LabConfig {
        data_dir,
        listen: options.listen,
        ready_file: options.ready_file,
        organization: options.organization,
        tenant_id: options.tenant_id,
        host_aliases: options.host_aliases,
        seed: options.seed.map(|seed| match seed {
            LabSeed::Standard => Seed::Standard,
            LabSeed::Large => Seed::Large,
        }),
        strict: options.strict,
    };
    let filling = if options.seed == Some(LabSeed::Large) { "the organisation is filled" } else { "the lab starts" };
    let running = progress::during(|| filling.to_owned(), Lab::start(config)).await?;
    let ready = running.ready();
    print(&format!(
        "lab {}  {}\n  organisation  {} ({})\n  data          {}\n  CA            {}\nstop it with Ctrl-C or 'exops lab down'\n",
        ready.version,
        ready.authority,
        ready.organization,
        ready.tenant_id,
        ready.data_dir.display(),
        ready.ca_file.display(),
    ))?;
    let first = async {
        asked_to_stop().await;
        tell("stopping when the requests under way are done; Ctrl-C again ends it at once");
        tokio::spawn(async {
            asked_to_stop().await;
            std::process::exit(Exit::Interrupted.code().into());
        });
    };
    running.run_until(first).await?;
    Ok(Exit::Ok)
}

/// A running lab, and a client for its own API.
struct Found {
    bootstrap: Bootstrap,
    endpoint: Endpoint,
    http: Http,
}

impl Found {
    fn open(data: &LabData) -> Result<Self, Failure> {
        Self::of(Bootstrap::open(&lab_data(data.data.as_ref())?)?)
    }

    fn of(bootstrap: Bootstrap) -> Result<Self, Failure> {
        let ready = &bootstrap.ready;
        let endpoint = lab_endpoint(ready, &ready.organization, Some(ready.tenant_id))?;
        Ok(Self { http: Http::new(&endpoint)?, endpoint, bootstrap })
    }

    async fn call(&self, method: &str, path: &str, patience: Duration) -> Result<Json, Failure> {
        let url = format!("{}/exops-lab/v1/{path}", self.endpoint.authority);
        let method = if method == "POST" { exops_client::Method::POST } else { exops_client::Method::GET };
        match self.http.json(method, &url, &self.bootstrap.token, patience).await? {
            (200..=299, body) => Ok(body),
            (401 | 403, _) => Err(Failure::new(
                Exit::SignIn,
                format!("the lab at {} does not accept the key in {}", self.endpoint.authority, self.data()),
            )
            .hint("another lab listens there now: look for its data folder")),
            (status, body) => {
                let text = |key: &str| body.pointer(key).and_then(Json::as_str).map(printable);
                let Some(why) = text("/error/message") else {
                    let failure = Failure::new(Exit::Unexpected, format!("the lab at {} answered HTTP {status}", self.endpoint.authority));
                    return Err(failure.hint("is it of the same version as this program?"));
                };
                let hint = if why.contains(DISK_FULL) { "make room on the disk of its data folder" } else { "the lab's log says more" };
                let failure = Failure::new(Exit::Unexpected, format!("the lab at {} refused: {why}", self.endpoint.authority));
                Err(Failure { code: text("/error/code").unwrap_or_default().to_string(), ..failure }.hint(hint))
            }
        }
    }

    fn data(&self) -> String {
        self.bootstrap.ready.data_dir.display().to_string()
    }

    fn graph(&self) -> GraphSetup {
        GraphSetup::new(self.http.clone(), &self.endpoint.graph, &self.bootstrap.token, self.bootstrap.ready.tenant_id)
    }
}

/// Set-up calls to a lab that runs.
pub(crate) fn graph_of(bootstrap: &Bootstrap) -> Result<GraphSetup, Failure> {
    Ok(Found::of(bootstrap.clone())?.graph())
}

/// Tells where the running lab is.
pub(crate) async fn status(data: &LabData, as_json: bool) -> Result<Exit, Failure> {
    let found = Found::open(data)?;
    let own = found.call("GET", "status", DRAIN).await?;
    let ready = &found.bootstrap.ready;
    if as_json {
        print(&format!("{own}\n"))?;
    } else {
        let text = |key: &str| own.get(key).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).unwrap_or_default();
        print(&format!(
            "lab {}  {}  running (process {})\n  organisation  {} ({})\n  data          {}\n  CA            {}\n  started       {}\n  requests      {}\n  tokens        {} issued, {} refused by the lever\n",
            ready.version,
            ready.authority,
            ready.pid,
            ready.organization,
            ready.tenant_id,
            ready.data_dir.display(),
            ready.ca_file.display(),
            text("started"),
            text("requests"),
            text("tokens_issued"),
            text("tokens_refused"),
        ))?;
    }
    Ok(Exit::Ok)
}

/// Takes the running lab's organisation back to its first day.
pub(crate) async fn reset(data: &LabData, as_json: bool) -> Result<Exit, Failure> {
    let found = Found::open(data)?;
    let text = || "the organisation is filled again".to_owned();
    let done = progress::during(text, found.call("POST", "reset", REFILL)).await?;
    if as_json {
        print(&format!("{done}\n"))?;
    } else {
        let organization = &found.bootstrap.ready.organization;
        let seed = done.get("seed").and_then(Json::as_str).unwrap_or_default();
        print(&format!("{organization} holds its {seed} seed again, and its audit log is empty; applications stay registered\n"))?;
    }
    Ok(Exit::Ok)
}

/// Sends a file to the running lab, which takes every object in it or none.
pub(crate) async fn import(options: LabImport, as_json: bool) -> Result<Exit, Failure> {
    let path = &options.file;
    let file = std::fs::File::open(path).map_err(|e| file_failure("read", path, &e))?;
    if file.metadata().map_err(|e| file_failure("read", path, &e))?.is_dir() {
        return Err(file_failure("read", path, &std::io::ErrorKind::IsADirectory.into()));
    }
    let found = Found::open(&options.data)?;
    let mut url = format!("{}/exops-lab/v1/import?dry_run={}", found.endpoint.authority, options.dry_run);
    if let Some(noun) = &options.noun {
        if !noun.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(Failure::usage(format!("--noun \"{noun}\" is no noun")).hint(NOUN_HINT));
        }
        url += &format!("&noun={noun}");
    }
    // Both handles have one position: how far the file is read is how much of it is on its way.
    let (size, position) = (file.metadata().map_or(0, |m| m.len()), file.try_clone().ok());
    let sent = || position.as_ref().and_then(|mut file| file.stream_position().ok()).unwrap_or(size);
    let text = || match sent() {
        all if all >= size => format!("{} sent; the lab takes the objects in", megabytes(size)),
        part => format!("{} of {} sent", megabytes(part), megabytes(size)),
    };
    let (status, body) = progress::during(text, found.http.upload(&url, &found.bootstrap.token, file)).await?;
    let text = |of: &Json, key: &str| of.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
    match (status, body.get("error")) {
        (200 | 422, None) => {}
        (400..=499, Some(error)) => {
            let hint = if text(error, "code") == "UnknownNoun" {
                NOUN_HINT
            } else {
                "give JSON, CLIXML or CSV that PowerShell or exops wrote; nothing was imported"
            };
            let failure = Failure::new(Exit::Usage, format!("{}: {}", path.display(), text(error, "message")));
            return Err(Failure { code: text(error, "code"), ..failure }.hint(hint));
        }
        (_, error) => {
            let why = error.map_or_else(|| format!("HTTP {status}"), |error| text(error, "message"));
            return Err(Failure::new(Exit::Unexpected, format!("the lab did not import {}: {why}", path.display()))
                .hint("nothing was imported; the lab's log says more"));
        }
    }
    if as_json {
        print(&format!("{body}\n"))?;
    }
    let list = |key: &str| body.get(key).and_then(Json::as_array).cloned().unwrap_or_default();
    for warning in list("warnings") {
        tell(&format!("warning: {} ({})", printable(&text(&warning, "text")), objects(warning["objects"].as_u64().unwrap_or_default())));
    }
    let (refused, count) = (list("refused"), body["refused_count"].as_u64().unwrap_or_default());
    for one in &refused {
        tell(&format!("object {} (line {}): {}", one["object"], one["line"], printable(&text(one, "reason"))));
    }
    if count > 0 {
        let more = count - refused.len() as u64;
        let listed = if more > 0 { format!(" ({more} more than those listed)") } else { String::new() };
        return Err(Failure::new(
            Exit::Cmdlet,
            format!("{} of {} cannot be taken{listed}; nothing was imported", objects(count), path.display()),
        )
        .hint("correct them or take them out of the file, and import it again"));
    }
    if !as_json {
        let objects = body.get("objects").and_then(Json::as_object).cloned().unwrap_or_default();
        let verb = if options.dry_run { "would import" } else { "imported" };
        let counts: Vec<String> = objects.iter().map(|(noun, count)| format!("{count} {noun}")).collect();
        print(&format!("{verb} {}\n", counts.join(", ")))?;
    }
    Ok(Exit::Ok)
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

fn objects(count: u64) -> String {
    if count == 1 { "1 object".to_owned() } else { format!("{count} objects") }
}

/// Asks the running lab to stop and waits until it has.
pub(crate) async fn down(data: &LabData) -> Result<Exit, Failure> {
    let found = Found::open(data)?;
    found.call("POST", "shutdown", DRAIN).await?;
    let ready_file = found.bootstrap.ready.data_dir.join("ready.json");
    let begun = Instant::now();
    while ready_file.exists() {
        if begun.elapsed() > DRAIN {
            return Err(Failure::new(Exit::Unexpected, format!("the lab (process {}) still drains", found.bootstrap.ready.pid))
                .hint("it stops when its last request is answered"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    print(&format!("the lab on {} has stopped\n", found.data()))?;
    Ok(Exit::Ok)
}

/// `exops lab app …`
pub(crate) async fn application(command: LabApp, output: Option<Format>) -> Result<Exit, Failure> {
    let wants_json = |json: bool| json || output.is_some_and(Format::is_json);
    match command {
        LabApp::Create(options) => {
            let json = wants_json(options.json.json);
            let graph = Found::open(&options.data)?.graph();
            let made = graph.create(&new_application(options)?).await?;
            show(&made, json)
        }
        LabApp::List(options) => {
            let all = Found::open(&options.data)?.graph().list().await?;
            if wants_json(options.json.json) {
                print(&format!("{}\n", json!(all)))?;
            } else if all.is_empty() {
                tell("no application is registered: exops lab app create --help");
            } else {
                all.iter().try_for_each(|app| print(&format!("{}  {}\n", app.app_id, printable(&app.name))))?;
            }
            Ok(Exit::Ok)
        }
        LabApp::Show(options) => {
            let app = Found::open(&options.data)?.graph().show(&options.app).await?;
            show(&app, wants_json(options.json.json))
        }
        LabApp::Remove(options) => {
            let id = Found::open(&options.data)?.graph().remove(&options.app).await?;
            if wants_json(options.json.json) {
                print(&format!("{}\n", json!({"removed": true, "object_id": id})))?;
            } else {
                print(&format!("removed {}\n", options.app))?;
            }
            Ok(Exit::Ok)
        }
    }
}

fn show(app: &RegisteredApplication, as_json: bool) -> Result<Exit, Failure> {
    if as_json {
        print(&format!("{}\n", json!(app)))?;
        return Ok(Exit::Ok);
    }
    let mut text = format!("{}\n  client id          {}\n  object id          {}\n", printable(&app.name), app.app_id, app.object_id);
    let mut line = |name: &str, value: String| text += &format!("  {name:18} {value}\n");
    line("service principal", app.service_principal_id.map(|id| id.to_string()).unwrap_or_default());
    line("tenant", app.tenant_id.to_string());
    for certificate in &app.certificates {
        line("certificate", format!("{} until {}", certificate.thumbprint, certificate.expires));
    }
    line("app roles", app.app_roles.join(", "));
    line("directory roles", app.directory_roles.join(", "));
    print(&text)?;
    Ok(Exit::Ok)
}

fn new_application(options: LabAppCreate) -> Result<NewApplication, Failure> {
    Ok(NewApplication {
        name: options.name,
        app_id: options.app_id,
        certificates: options.certificates.iter().map(|path| public_certificate(path)).collect::<Result<_, _>>()?,
        secret: options.secret_file.map(secret).transpose()?,
        app_roles: options.app_roles,
        directory_roles: options.directory_roles,
    })
}

/// DER of the certificate in a PEM or DER file.
fn public_certificate(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = read_some(path).map_err(|f| Failure { exit: Some(Exit::SignIn), ..f })?;
    let found = exops_auth::pem::read_certificates(&bytes)
        .map_err(|e| Failure::new(Exit::SignIn, format!("{} holds no certificate: {e}", path.display())).hint("give a PEM or DER file"))?;
    if found.holds_key {
        note(&format!("the private key in {} is not needed and not sent", path.display()));
    }
    Ok(found.certificate.as_der().to_vec())
}

fn secret(path: PathBuf) -> Result<SecretString, Failure> {
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin()
            .take(64 << 10)
            .read_to_string(&mut text)
            .map_err(|e| Failure::new(Exit::Unexpected, format!("standard input cannot be read: {}", io_reason(&e))))?;
        text
    } else {
        String::from_utf8(read(&path)?).map_err(|_| Failure::new(Exit::SignIn, format!("{} is not text", path.display())))?
    };
    let secret = text.lines().next().unwrap_or_default();
    if secret.is_empty() {
        return Err(Failure::new(Exit::SignIn, format!("{} holds no secret", path.display())).hint("the secret is its first line"));
    }
    Ok(secret.into())
}
