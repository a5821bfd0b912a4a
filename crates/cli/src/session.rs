//! From a profile to something that runs cmdlets.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use exops_client::{Credential, Endpoint, Http, RemotePowerShellConnection, RestConnection, TokenSource};
use exops_lab::{Bootstrap, Ready};
use exops_runspace::Runspace;
use uuid::Uuid;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::options::{Connect, Global, Transport};
use crate::profile::{self, FILE, PasswordSource, Profile, SavedCredential, SavedEndpoint, file_failure};
use crate::{cert, connect, environment, password, places};

/// A signed-in connection's parts; nothing was sent yet.
pub(crate) struct Session {
    pub http: Http,
    pub tokens: TokenSource,
}

/// The connection that a command uses.
pub(crate) struct Connection {
    /// The profile's name, or [`FROM_VARIABLES`].
    pub name: String,
    /// What is so today: variables went before what was saved.
    pub profile: Profile,
    pub session: Session,
}

/// Stands where a profile's name would, when variables say everything.
const FROM_VARIABLES: &str = "environment";

impl Connection {
    /// The profile that was named, else what the variables say where they say everything, else the default profile.
    /// A variable goes before what the profile says of the same, and never leads to another tenant than the profile's
    /// (I-07), nor a profile that the command line names to another place: a variable that was set for something else would
    /// take its token there. `tenant` is the one that the command line requires.
    pub(crate) async fn open(global: &Global, tenant: Option<&str>) -> Result<Self, Failure> {
        environment::refuse_gateway()?;
        let said = environment::said()?;
        let named = global.profile.as_deref();
        if named.is_none() && connect::is_described(&said, false) {
            return Self::of_variables(&said, tenant).await;
        }
        let name = named.unwrap_or(profile::DEFAULT);
        let mut profile = match Profile::load(name) {
            Err(failure) if failure.code == profile::NOT_CONNECTED && named.is_none() && connect::is_described(&said, true) => {
                return Self::of_variables(&said, tenant).await;
            }
            loaded => loaded?,
        };
        require(&profile, tenant, "the profile is", "choose the connection with --profile; nothing was sent")?;
        let mut endpoint = endpoint(&profile.endpoint, &profile.organization, Some(profile.tenant_id))?;
        profile.app_id = said.app_id.unwrap_or(profile.app_id);
        if let Some((variable, saved)) = redirect(&mut endpoint, &said)?
            && global.names_profile
        {
            let says = environment::variable(variable).unwrap_or_default();
            let text = format!("the profile '{name}' has {saved}, and {variable} is '{says}': its token would go elsewhere");
            return Err(Failure::usage(text)
                .hint(format!("unset {variable}, or connect again under another name with what it says; nothing was sent")));
        }
        match (&mut profile.credential, said.certificate_file_path) {
            (credential, Some(file)) => {
                let path = std::path::absolute(&file).map_err(|e| file_failure("use", &file, &e))?;
                *credential = SavedCredential::File { path, password: password::source(None)? };
            }
            (SavedCredential::File { password, .. }, None) if password::is_in_variable() => *password = PasswordSource::Variable,
            _ => {}
        }
        let elsewhere = said.organization.filter(|o| !profile.is_for(o));
        if let Some(organization) = &elsewhere {
            (endpoint.organization, endpoint.tenant_id) = (organization.clone(), None);
        }
        let session = Session::new(endpoint, profile.app_id, credential(&profile.credential)?)?;
        if let Some(organization) = elsewhere {
            let found = session.tokens.token().await?.claims().tenant_id;
            if found != profile.tenant_id {
                let text = format!(
                    "the profile '{name}' is for {} ({}), and EXOPS_ORGANIZATION is {organization} ({found})",
                    profile.organization, profile.tenant_id
                );
                return Err(Failure { code: profile::OTHER_TENANT.to_owned(), ..Failure::usage(text) }
                    .hint("unset the variable, or choose the connection with --profile; no command was sent"));
            }
            profile.organization = organization;
        }
        Ok(Self { name: name.to_owned(), profile, session })
    }

    async fn of_variables(said: &Connect, tenant: Option<&str>) -> Result<Self, Failure> {
        let (profile, session, _) = connect::open(said).await?;
        let hint = "choose a connection with --profile, or set the variables for that tenant; no command was sent";
        require(&profile, tenant, "the variables are", hint)?;
        Ok(Self { name: FROM_VARIABLES.to_owned(), profile, session })
    }
}

/// Refuses a connection to another tenant than the one that the command line requires.
fn require(profile: &Profile, tenant: Option<&str>, who: &str, hint: &str) -> Result<(), Failure> {
    let Some(tenant) = tenant.filter(|t| !profile.is_for(t)) else { return Ok(()) };
    let text = format!("{who} for {} ({}), and --require-tenant says '{tenant}'", profile.organization, profile.tenant_id);
    Err(Failure { code: profile::OTHER_TENANT.to_owned(), ..Failure::usage(text) }.hint(hint))
}

/// Puts the addresses and the CA that variables say into an endpoint. Answers the first variable that says another one, and
/// what the endpoint had.
pub(crate) fn redirect(endpoint: &mut Endpoint, said: &Connect) -> Result<Option<(&'static str, String)>, Failure> {
    let saved = endpoint.clone();
    if let Some(url) = &said.authority {
        endpoint.authority = connect::https(url, "EXOPS_AUTHORITY")?;
        endpoint.graph = fixed_graph(&endpoint.authority, endpoint.is_lab);
    }
    if let Some(url) = &said.endpoint {
        (endpoint.admin_api, endpoint.powershell) = connect::both(&connect::https(url, "EXOPS_ENDPOINT")?);
    }
    if let Some(file) = &said.ca_file {
        endpoint.ca_pem = Some(read_some(file)?);
    }
    let differ = |a: &str, b: &str| !a.eq_ignore_ascii_case(b);
    Ok(if differ(&saved.authority, &endpoint.authority) {
        Some(("EXOPS_AUTHORITY", saved.authority))
    } else if differ(&saved.admin_api, &endpoint.admin_api) || differ(&saved.powershell, &endpoint.powershell) {
        Some(("EXOPS_ENDPOINT", saved.admin_api))
    } else if saved.ca_pem != endpoint.ca_pem {
        Some(("EXOPS_CA_FILE", "its own certificate authorities".to_owned()))
    } else {
        None
    })
}

impl Session {
    pub(crate) fn new(endpoint: Endpoint, app_id: Uuid, credential: Credential) -> Result<Self, Failure> {
        let http = Http::new(&endpoint)?;
        let tokens = TokenSource::new(http.clone(), endpoint, app_id, credential);
        Ok(Self { http, tokens })
    }

    /// A connection over one transport.
    pub(crate) fn connection(&self, transport: Transport) -> Box<dyn Runspace> {
        match transport {
            Transport::Rest => Box::new(RestConnection::new(self.http.clone(), self.tokens.clone())),
            Transport::Rps => Box::new(RemotePowerShellConnection::new(self.http.clone(), self.tokens.clone())),
        }
    }
}

/// The endpoint of a profile as it is today.
pub(crate) fn endpoint(saved: &SavedEndpoint, organization: &str, tenant_id: Option<Uuid>) -> Result<Endpoint, Failure> {
    match saved {
        SavedEndpoint::Lab { data } => lab_endpoint(&Bootstrap::open(data)?.ready, organization, tenant_id),
        SavedEndpoint::Fixed { authority, admin_api, powershell, ca_file, lab } => Ok(Endpoint {
            authority: authority.clone(),
            graph: fixed_graph(authority, *lab),
            admin_api: admin_api.clone(),
            powershell: powershell.clone(),
            tenant_id,
            ca_pem: ca_file.as_deref().map(read_some).transpose()?,
            is_lab: *lab,
            ..Endpoint::worldwide(organization)
        }),
    }
}

/// A lab has Graph beside its token service; the cloud's is known; of anything else it is not.
fn fixed_graph(authority: &str, is_lab: bool) -> String {
    let worldwide = Endpoint::worldwide("");
    match authority {
        lab if is_lab => lab.to_owned(),
        cloud if cloud == worldwide.authority => worldwide.graph,
        _ => String::new(),
    }
}

/// The endpoint that a lab's ready file tells.
pub(crate) fn lab_endpoint(ready: &Ready, organization: &str, tenant_id: Option<Uuid>) -> Result<Endpoint, Failure> {
    Ok(Endpoint {
        authority: ready.authority.clone(),
        graph: ready.graph.clone(),
        admin_api: ready.admin_api.clone(),
        powershell: ready.powershell.clone(),
        organization: organization.to_owned(),
        tenant_id,
        ca_pem: Some(read(&ready.ca_file)?),
        is_lab: true,
    })
}

fn credential(saved: &SavedCredential) -> Result<Credential, Failure> {
    match saved {
        SavedCredential::Store { thumbprint, store } => cert::from_store(thumbprint, store.as_deref()),
        SavedCredential::File { path, password } => password::open(path, password.clone()).map(|(credential, _)| credential),
    }
}

/// The lab's data folder: the one given, else the platform's.
pub(crate) fn lab_data(given: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    match given {
        Some(path) => std::path::absolute(path).map_err(|e| file_failure("use", path, &e)),
        None => places::lab_data(),
    }
}

/// Reads a file of moderate size that the user named.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    /// Larger than any certificate file.
    const LIMIT: u64 = 4 << 20;
    let fail = |e| file_failure("read", path, &e);
    let mut bytes = Vec::new();
    // A device or pipe does not tell its size.
    std::fs::File::open(path).map_err(fail)?.take(LIMIT + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > LIMIT {
        let text = format!("{} has more than {} MB", path.display(), LIMIT >> 20);
        return Err(Failure { code: FILE.to_owned(), ..Failure::new(Exit::Usage, text) }
            .hint("certificates, secrets and parameters are smaller: is it the right file?"));
    }
    Ok(bytes)
}

/// The same of a file that holds something.
pub(crate) fn read_some(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = read(path)?;
    if bytes.is_empty() {
        return Err(Failure { code: FILE.to_owned(), ..Failure::new(Exit::Usage, format!("{} is empty", path.display())) }
            .hint("is it the right file, and was it written whole?"));
    }
    Ok(bytes)
}
