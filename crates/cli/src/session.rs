//! From a profile to something that runs cmdlets.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use exops_client::{Credential, Endpoint, Http, RemotePowerShellConnection, RestConnection, TokenSource};
use exops_lab::{Bootstrap, Ready};
use exops_runspace::Runspace;
use uuid::Uuid;

use crate::cert;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::options::Transport;
use crate::password;
use crate::places;
use crate::profile::{Profile, SavedCredential, SavedEndpoint, file_failure};

/// A signed-in connection's parts; nothing was sent yet.
pub(crate) struct Session {
    pub http: Http,
    pub tokens: TokenSource,
}

impl Session {
    /// Of a saved profile.
    pub(crate) fn open(profile: &Profile) -> Result<Self, Failure> {
        let endpoint = endpoint(&profile.endpoint, &profile.organization, Some(profile.tenant_id))?;
        Self::new(endpoint, profile.app_id, credential(&profile.credential)?)
    }

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
            ca_pem: ca_file.as_deref().map(read).transpose()?,
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
        return Err(Failure::new(Exit::Usage, format!("{} has more than {} MB", path.display(), LIMIT >> 20))
            .hint("certificates, secrets and parameters are smaller: is it the right file?"));
    }
    Ok(bytes)
}
