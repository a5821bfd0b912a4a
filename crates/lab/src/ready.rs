use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::LabError;
use crate::folder::{self, Folder};

/// Content of the ready file: where everything of a running lab is. Keys of faces that are not built are absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Process id of the lab.
    pub pid: u32,
    /// Version of the program.
    pub version: String,
    /// The data folder.
    pub data_dir: PathBuf,
    /// The first tenant.
    pub tenant_id: Uuid,
    /// Its initial domain.
    pub organization: String,
    /// Base URL of the sign-in service.
    pub authority: String,
    /// Token endpoint of the first tenant.
    pub token_endpoint: String,
    /// Base URL of Graph.
    pub graph: String,
    /// Base URL of the REST admin API.
    pub admin_api: String,
    /// URL of remote PowerShell.
    pub powershell: String,
    /// Certificate of the lab's authority, PEM.
    pub ca_file: PathBuf,
    /// All tenants.
    pub tenants: Vec<ReadyTenant>,
}

/// A tenant in the ready file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyTenant {
    /// Its id.
    pub tenant_id: Uuid,
    /// Its initial domain.
    pub organization: String,
}

/// What a program on the same machine needs in order to manage a running lab.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// Where everything is.
    pub ready: Ready,
    /// Bearer token for the lab's own API (`/exops-lab/v1/`) and for its Graph.
    pub token: SecretString,
}

/// Content of `bootstrap.json`.
#[derive(Serialize, Deserialize)]
struct BootstrapFile {
    token: String,
}

impl Bootstrap {
    /// Finds the lab that runs on a data folder. A folder that a killed lab left behind counts as one where none runs.
    ///
    /// # Errors
    /// [`LabError::NotRunning`] when none does, [`LabError::File`] when its files cannot be read.
    pub fn open(data_dir: &Path) -> Result<Self, LabError> {
        let not_running = || LabError::NotRunning { data_dir: data_dir.to_owned() };
        let ready = folder::read(&data_dir.join(folder::READY))?.filter(|_| Folder::is_held(data_dir)).ok_or_else(not_running)?;
        let bootstrap = folder::read(&data_dir.join(folder::BOOTSTRAP))?.ok_or_else(not_running)?;
        let ready = serde_json::from_str(&ready).map_err(|error| LabError::part("reading ready.json", error))?;
        let file: BootstrapFile =
            serde_json::from_str(&bootstrap).map_err(|_| LabError::part("reading bootstrap.json", "it is damaged"))?;
        Ok(Self { ready, token: file.token.into() })
    }

    /// Writes the token's file.
    pub(crate) fn write(path: &Path, token: &SecretString) -> Result<(), LabError> {
        folder::write_json(path, &BootstrapFile { token: token.expose_secret().to_owned() })
    }
}
