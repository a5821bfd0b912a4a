use std::net::SocketAddr;
use std::path::PathBuf;

use exops_directory::Seed;
use uuid::Uuid;

/// What a lab is started with.
#[derive(Debug, Clone)]
pub struct LabConfig {
    /// Folder for everything that the lab keeps; `None` makes one in the temp directory and removes it at the end.
    pub data_dir: Option<PathBuf>,
    /// Where it listens. Port 0: the system chooses.
    pub listen: SocketAddr,
    /// A second copy of the ready file.
    pub ready_file: Option<PathBuf>,
    /// Initial domain of the tenant. Only the first start of a data folder takes it; `None` is `contoso.onmicrosoft.com`.
    pub organization: Option<String>,
    /// Id of the tenant. Only the first start of a data folder takes it; `None` is a random one.
    pub tenant_id: Option<Uuid>,
    /// Host names beside `localhost` that the certificate, assertions and issuers may carry.
    pub host_aliases: Vec<String>,
    /// What the organisation holds at first. Only the first start of a data folder takes it; `None` is the standard one.
    pub seed: Option<Seed>,
    /// Refuses what the real token service lets pass.
    pub strict: bool,
}

impl Default for LabConfig {
    fn default() -> Self {
        Self {
            data_dir: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
            ready_file: None,
            organization: None,
            tenant_id: None,
            host_aliases: Vec::new(),
            seed: None,
            strict: false,
        }
    }
}
