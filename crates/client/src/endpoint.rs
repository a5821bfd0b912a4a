use uuid::Uuid;

/// Audience of tokens for the worldwide cloud's Exchange, whatever host an endpoint has.
pub const EXCHANGE_RESOURCE: &str = "https://outlook.office365.com";

/// Audience of tokens for the worldwide cloud's Graph.
pub const GRAPH_RESOURCE: &str = "https://graph.microsoft.com";

/// Ends of the names of the clouds' Exchange hosts: what leads from one of them to another may be followed.
pub(crate) const CLOUD: [&str; 4] = ["outlook.com", "office365.com", "office365.us", "partner.outlook.cn"];

/// Where one organisation is reached, and what is trusted there. URLs have no trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Base of the token service (`https://login.microsoftonline.com`).
    pub authority: String,
    /// Base of Graph (`https://graph.microsoft.com`); empty where it is not known.
    pub graph: String,
    /// Base of the REST admin API (`https://outlook.office365.com`).
    pub admin_api: String,
    /// URL of remote PowerShell (`https://outlook.office365.com/powershell-liveid`).
    pub powershell: String,
    /// The organisation's domain.
    pub organization: String,
    /// The tenant, where it is known; otherwise the token says it.
    pub tenant_id: Option<Uuid>,
    /// PEM of the only certificate authorities that are trusted; `None` trusts those of the system.
    pub ca_pem: Option<Vec<u8>>,
    /// A lab: tokens and answers must carry the lab's mark. Elsewhere they must not.
    pub is_lab: bool,
}

impl Endpoint {
    /// The worldwide cloud.
    #[must_use]
    pub fn worldwide(organization: &str) -> Self {
        Self {
            authority: "https://login.microsoftonline.com".to_owned(),
            graph: GRAPH_RESOURCE.to_owned(),
            admin_api: EXCHANGE_RESOURCE.to_owned(),
            powershell: format!("{EXCHANGE_RESOURCE}/powershell-liveid"),
            organization: organization.to_owned(),
            tenant_id: None,
            ca_pem: None,
            is_lab: false,
        }
    }

    /// The v2 token URL, which is the audience of an assertion too.
    #[must_use]
    pub fn token_url(&self) -> String {
        let tenant = self.tenant_id.map_or_else(|| self.organization.clone(), |id| id.to_string());
        format!("{}/{tenant}/oauth2/v2.0/token", self.authority)
    }
}
