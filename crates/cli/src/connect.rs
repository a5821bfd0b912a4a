//! `exops connect` and `exops disconnect`.

use std::path::PathBuf;
use std::sync::Arc;

use exops_catalogue::{Catalogue, Command, Pipeline, UnknownNames, bind};
use exops_client::{RestConnection, Token};
use exops_lab::Bootstrap;
use exops_runspace::{Ended, Fault, FaultKind, Invocation, Runspace as _, Step};
use futures_util::StreamExt as _;
use uuid::Uuid;

use crate::environment::{self, variable};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::options::Connect;
use crate::output::printable;
use crate::profile::{self, Profile, SavedCredential, SavedEndpoint, file_failure};
use crate::session::{self, Session};
use crate::{cert, password, print, status};

/// The call that a connection is tried with: every role may make it.
const TRIAL: &str = "Get-AcceptedDomain";

/// Signs in, makes one call, and only then saves the profile.
pub(crate) async fn connect(options: Connect, profile: Option<String>, as_json: bool) -> Result<Exit, Failure> {
    let name = profile.unwrap_or_else(|| profile::DEFAULT.to_owned());
    let (saved, session, token) = open(&options).await?;
    let connection = RestConnection::new(session.http.clone(), session.tokens.clone());
    try_out(&connection, &token).await?;
    let saved = Profile { connection_id: connection.connection_id(), ..saved };
    saved.save(&name)?;
    if as_json {
        print(&format!("{}\n", status::describe(&name, &saved, session.tokens.endpoint(), &token)))?;
    } else {
        let claims = token.claims();
        print(&format!(
            "connected to {} ({}) as {} ({}); token good for {} min; saved as profile '{name}'\n",
            saved.organization,
            saved.tenant_id,
            if claims.display_name.is_empty() { "application".to_owned() } else { printable(&claims.display_name) },
            saved.app_id,
            status::minutes_left(&token),
        ))?;
    }
    Ok(Exit::Ok)
}

/// Signs in as options and variables say. Azure's variables count where neither says something.
pub(crate) async fn open(options: &Connect) -> Result<(Profile, Session, Arc<Token>), Failure> {
    environment::refuse_gateway()?;
    let app_id = app_id(options)?;
    let saved_endpoint = saved_endpoint(options)?;
    // A ready file knows its own.
    let elsewhere = variable("AZURE_TENANT_ID").filter(|_| !matches!(saved_endpoint, SavedEndpoint::Lab { .. }));
    let organization = match (options.organization.clone().or(elsewhere), &saved_endpoint) {
        (Some(organization), _) => organization,
        (None, SavedEndpoint::Lab { data }) => Bootstrap::open(data)?.ready.organization,
        (None, _) => {
            return Err(Failure::usage("--organization is missing").hint("a domain of the organisation, such as contoso.onmicrosoft.com"));
        }
    };
    let endpoint = session::endpoint(&saved_endpoint, &organization, None)?;
    let (credential, saved_credential) = credential(options)?;
    let session = Session::new(endpoint, app_id, credential)?;
    let token = session.tokens.token().await?;
    let claims = token.claims();
    let profile = Profile {
        app_id,
        organization,
        tenant_id: claims.tenant_id,
        connection_id: Uuid::new_v4(),
        app_roles: claims.app_roles.clone(),
        directory_roles: claims.directory_roles.clone(),
        endpoint: saved_endpoint,
        credential: saved_credential,
    };
    Ok((profile, session, token))
}

/// Whether variables alone say who signs in, with what and where; with `azures`, those of Azure's libraries too.
pub(crate) fn is_described(said: &Connect, azures: bool) -> bool {
    let or = |ours: bool, name: &str| ours || azures && variable(name).is_some();
    // A ready file says the organisation too.
    let ready = said.lab && said.authority.is_none() && said.endpoint.is_none();
    or(said.app_id.is_some(), "AZURE_CLIENT_ID")
        && or(said.organization.is_some() || ready, "AZURE_TENANT_ID")
        && or(said.certificate_file_path.is_some(), "AZURE_CLIENT_CERTIFICATE_PATH")
}

/// The option or its variable, else the variable that Azure's libraries read.
fn app_id(options: &Connect) -> Result<Uuid, Failure> {
    match options.app_id {
        Some(id) => Ok(id),
        None => environment::client_id("AZURE_CLIENT_ID")?.ok_or_else(|| {
            Failure::usage("--app-id is missing").hint("the client id of the application; EXOPS_APP_ID and AZURE_CLIENT_ID give it too")
        }),
    }
}

fn saved_endpoint(options: &Connect) -> Result<SavedEndpoint, Failure> {
    let explicit = options.authority.is_some() || options.endpoint.is_some();
    if options.lab && !explicit {
        return Ok(SavedEndpoint::Lab { data: session::lab_data(options.data.data.as_ref())? });
    }
    let worldwide = exops_client::Endpoint::worldwide("");
    let address = |given: &Option<String>, default: String, name: &str| match given {
        None if options.lab => Err(Failure::usage(format!("{name} is missing"))
            .hint("--lab alone takes all from the ready file; otherwise give --authority and --endpoint")),
        None => Ok(default),
        Some(url) => https(url, name),
    };
    let (admin_api, powershell) = address(&options.endpoint, worldwide.admin_api, "--endpoint").map(|url| both(&url))?;
    let ca_file = options.ca_file.as_ref().map(|f| std::path::absolute(f).map_err(|e| file_failure("use", f, &e))).transpose()?;
    Ok(SavedEndpoint::Fixed {
        authority: address(&options.authority.clone().or_else(azure_authority), worldwide.authority, "--authority")?,
        powershell,
        admin_api,
        ca_file,
        lab: options.lab,
    })
}

/// A base URL without its last slash; `name` is the option or the variable that says it.
pub(crate) fn https(url: &str, name: &str) -> Result<String, Failure> {
    if !url.starts_with("https://") {
        return Err(Failure::usage(format!("{name} '{url}' is no https URL")).hint("such as https://localhost:8443"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// Bases of the admin API and of remote PowerShell at an address; people also give the latter's, as `-ConnectionUri`.
pub(crate) fn both(url: &str) -> (String, String) {
    const POWERSHELL: &str = "/powershell-liveid";
    let at = url.len().saturating_sub(POWERSHELL.len());
    let admin_api = url.get(at..).filter(|end| end.eq_ignore_ascii_case(POWERSHELL)).and(url.get(..at)).unwrap_or(url);
    (admin_api.to_owned(), format!("{admin_api}{POWERSHELL}"))
}

/// Azure's libraries take the host without a scheme too.
fn azure_authority() -> Option<String> {
    variable("AZURE_AUTHORITY_HOST").map(|host| if host.contains("://") { host } else { format!("https://{host}") })
}

fn credential(options: &Connect) -> Result<(exops_client::Credential, SavedCredential), Failure> {
    // A thumbprint on the command line goes before a file in the environment.
    let file = options
        .certificate_file_path
        .clone()
        .or_else(|| variable("EXOPS_CERTIFICATE").or_else(|| variable("AZURE_CLIENT_CERTIFICATE_PATH")).map(PathBuf::from));
    match (&options.certificate_thumbprint, &file) {
        (Some(thumbprint), _) => {
            let store = options.store.as_ref().map(|s| std::path::absolute(s).map_err(|e| file_failure("use", s, &e))).transpose()?;
            let credential = cert::from_store(thumbprint, store.as_deref())?;
            Ok((credential, SavedCredential::Store { thumbprint: thumbprint.clone(), store }))
        }
        (None, Some(file)) => {
            let path = std::path::absolute(file).map_err(|e| file_failure("use", file, &e))?;
            let (credential, password) = password::open(&path, password::source(options.certificate_password_file.as_deref())?)?;
            Ok((credential, SavedCredential::File { path, password }))
        }
        (None, None) => Err(match variable("AZURE_CLIENT_SECRET") {
            Some(_) => Failure::usage("AZURE_CLIENT_SECRET is not used: this program signs in with a certificate only"),
            None => Failure::usage("nothing to sign in with"),
        }
        .hint("--certificate-file-path FILE (PFX or PEM), --certificate-thumbprint HEX, EXOPS_CERTIFICATE or AZURE_CLIENT_CERTIFICATE_PATH; 'exops cert new' makes a certificate")),
    }
}

/// One authorised call, its objects thrown away.
async fn try_out(connection: &RestConnection, token: &Token) -> Result<(), Failure> {
    let pipeline = Pipeline::from(Command::new(TRIAL));
    let bound = bind(&Catalogue::built_in(), &pipeline, UnknownNames::Pass).map_err(|e| Failure::of_record(&e.record, Exit::Unexpected))?;
    let mut records = connection.invoke(Invocation::new(token.caller(), bound, Uuid::new_v4()));
    while let Some(step) = records.next().await {
        match step {
            Step::Ended(Ended::Completed) => return Ok(()),
            Step::Ended(Ended::Refused(record)) => {
                let mut failure = Failure::of_record(&record, Exit::Refused);
                failure.message = format!("signed in, but application {} may not run cmdlets: {}", token.claims().app_id, failure.message);
                return Err(failure);
            }
            Step::Ended(Ended::Failed(record)) => return Err(Failure::of_record(&record, Exit::Cmdlet)),
            Step::Ended(Ended::SignIn(fault) | Ended::Unreachable(fault) | Ended::OutcomeUnknown(fault)) => return Err(fault.into()),
            Step::Ended(Ended::Throttled(after)) => return Err(Fault::new(FaultKind::Throttled(after), "the service is busy").into()),
            Step::Ended(other) => return Err(Failure::new(Exit::Unexpected, format!("{TRIAL} ended as {other:?}"))),
            Step::Record(_) => {}
        }
    }
    Err(Failure::new(Exit::Unexpected, format!("{TRIAL} ended without telling how")))
}

/// Removes one profile or all.
pub(crate) fn disconnect(profile: Option<String>, all: bool) -> Result<Exit, Failure> {
    let names = match (all, profile) {
        (true, _) => Profile::names()?,
        (false, name) => vec![name.unwrap_or_else(|| profile::DEFAULT.to_owned())],
    };
    for name in names {
        if Profile::remove(&name)? {
            print(&format!("disconnected: profile '{name}' removed\n"))?;
        } else {
            print(&format!("there is no profile '{name}'\n"))?;
        }
    }
    Ok(Exit::Ok)
}
