//! What a lab is from one start to the next: its tenant, and the authority that vouches for its listener.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use exops_auth::issue::{self, LabAuthority};
use exops_directory::Seed;
use exops_policy::TenantId;
use exops_store::{Store, StoreError};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::folder::{self, CA_CERTIFICATE, CA_KEY, DATABASE, Folder};
use crate::{LabConfig, LabError};

/// Initial domain of a lab that was not given one.
const ORGANIZATION: &str = "contoso.onmicrosoft.com";
/// An authority with less than this left is made anew at the start: seconds.
const CA_RESERVE: i64 = 7 * 86_400;
/// Setting with the tenant.
const TENANT: &str = "lab.tenant";
/// Setting with the aliases that the authority may vouch for.
const ALIASES: &str = "lab.host-aliases";

/// The lab's tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tenant {
    pub(crate) tenant_id: Uuid,
    pub(crate) organization: String,
}

impl Tenant {
    /// The tenant of the data folder; a new folder gets the one that was asked for.
    pub(crate) async fn of(store: &Store, folder: &Folder, config: &LabConfig) -> Result<Self, LabError> {
        let wanted = config.organization.as_deref().map(domain).transpose()?;
        let whole = store.whole();
        if let Some(kept) = whole.setting(TENANT).await.map_err(database)? {
            let kept: Self = serde_json::from_slice(&kept).map_err(|error| LabError::part("reading the tenant", error))?;
            let other = |found: String, wanted: String| LabError::OtherOrganization { path: folder.path().to_owned(), found, wanted };
            return match (&wanted, config.tenant_id) {
                (Some(name), _) if *name != kept.organization => Err(other(kept.organization, name.clone())),
                (_, Some(id)) if id != kept.tenant_id => Err(other(format!("tenant {}", kept.tenant_id), format!("tenant {id}"))),
                _ => Ok(kept),
            };
        }
        let tenant = Self {
            tenant_id: config.tenant_id.unwrap_or_else(Uuid::new_v4),
            organization: wanted.unwrap_or_else(|| ORGANIZATION.to_owned()),
        };
        if tenant.tenant_id.is_nil() {
            return Err(LabError::BadValue { what: "tenant id", value: tenant.tenant_id.to_string(), reason: "it names no tenant".into() });
        }
        let bytes = serde_json::to_vec(&tenant).map_err(|error| LabError::part("writing the tenant", error))?;
        whole.set_setting(TENANT, &bytes).await.map_err(database)?;
        Ok(tenant)
    }

    pub(crate) fn id(&self) -> TenantId {
        TenantId(self.tenant_id)
    }
}

/// Opens the database of the folder. A new one gets its tenant and its seed before it has its name, so that no start finds
/// half an organisation.
pub(crate) async fn open(folder: &Folder, config: &LabConfig) -> Result<(Store, Tenant), LabError> {
    let path = folder.file(DATABASE);
    if !path.exists() {
        let draft = Store::draft(&path).await.map_err(database)?;
        match found(&draft, folder, config).await {
            Ok(_) => draft.publish(&path).await.map_err(database)?,
            Err(error) => {
                draft.discard(&path).await;
                return Err(error);
            }
        }
    }
    let store = Store::open(&path).await.map_err(database)?;
    let tenant = found(&store, folder, config).await?;
    Ok((store, tenant))
}

/// The tenant of a database, filled.
async fn found(store: &Store, folder: &Folder, config: &LabConfig) -> Result<Tenant, LabError> {
    let tenant = Tenant::of(store, folder, config).await?;
    let rows = store.tenant(tenant.id());
    match (Seed::of(&rows).await.map_err(database)?, config.seed) {
        (Some(found), Some(wanted)) if found != wanted => {
            let (found, wanted) = (format!("the {} seed", found.name()), format!("the {} one", wanted.name()));
            Err(LabError::OtherOrganization { path: folder.path().to_owned(), found, wanted })
        }
        (Some(_), _) => Ok(tenant),
        (None, wanted) => {
            wanted.unwrap_or_default().fill(&rows, &tenant.organization).await.map_err(database)?;
            Ok(tenant)
        }
    }
}

/// A domain in lower case.
fn domain(text: &str) -> Result<String, LabError> {
    let label = |l: &str| (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let labels: Vec<&str> = text.split('.').collect();
    if text.len() <= 253 && labels.len() >= 2 && labels.iter().all(|l| label(l)) {
        return Ok(text.to_ascii_lowercase());
    }
    let reason = "it is no domain name such as contoso.onmicrosoft.com".into();
    Err(LabError::BadValue { what: "organization", value: text.to_owned(), reason })
}

/// The authority of the data folder, made anew when it nears its end or may not vouch for these aliases. `now` is Unix
/// seconds.
pub(crate) async fn authority(store: &Store, folder: &Folder, aliases: &[String], now: i64) -> Result<LabAuthority, LabError> {
    let whole = store.whole();
    let mut names: Vec<String> = aliases.iter().map(|a| a.to_ascii_lowercase()).collect();
    names.sort();
    names.dedup();
    let names = serde_json::to_vec(&names).map_err(|error| LabError::part("writing the host aliases", error))?;
    let (certificate, key) = (folder.file(CA_CERTIFICATE), folder.file(CA_KEY));
    if whole.setting(ALIASES).await.map_err(database)?.as_deref() == Some(&names)
        && let (Some(certificate), Some(key)) = (folder::read(&certificate)?, folder::read(&key)?)
    {
        match LabAuthority::from_pem(certificate.as_bytes(), &key.into()) {
            Ok(kept) if kept.certificate().not_after() - now >= CA_RESERVE => return Ok(kept),
            Ok(_) => tracing::info!("the lab's authority nears its end: clients have to read ca.pem again"),
            Err(error) => tracing::warn!(%error, "the lab's authority is made anew"),
        }
    }
    let made = issue::lab_authority(aliases, now).map_err(|error| LabError::BadValue {
        what: "host alias",
        value: aliases.join(", "),
        reason: error.to_string(),
    })?;
    // A certificate never stands beside a key that is not its own, whenever the process may die.
    folder::remove(&certificate)?;
    folder::write(&key, made.key_pem().expose_secret().as_bytes())?;
    folder::write(&certificate, made.certificate().to_pem().as_bytes())?;
    whole.set_setting(ALIASES, &names).await.map_err(database)?;
    Ok(made)
}

/// The listener's address must be one that the certificate's names lead to.
pub(crate) fn check_address(addr: SocketAddr) -> Result<(), LabError> {
    let local: [IpAddr; 4] =
        [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into(), Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    if local.contains(&addr.ip()) {
        return Ok(());
    }
    let reason = "a lab answers to localhost: use 127.0.0.1 or [::1], or 0.0.0.0 or [::] in a container".into();
    Err(LabError::BadValue { what: "listen address", value: addr.to_string(), reason })
}

/// Every base URL under which the lab is reached; the first is the one that it shows. An alias is meant with the lab's
/// port and, for programs whose host names are fixed, without one.
pub(crate) fn bases(port: u16, aliases: &[String]) -> Vec<String> {
    let local = ["localhost", "127.0.0.1", "[::1]"].map(|host| format!("https://{host}:{port}"));
    let aliases = aliases.iter().map(|a| a.to_ascii_lowercase());
    local.into_iter().chain(aliases.flat_map(|a| [format!("https://{a}:{port}"), format!("https://{a}")])).collect()
}

pub(crate) fn database(error: StoreError) -> LabError {
    LabError::part("the database", error)
}
