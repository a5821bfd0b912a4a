use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A tenant. Part of every handle, row and audit key, so that one tenant's command cannot reach another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(pub Uuid);

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Value of the app role that lets an application manage Exchange (claim `roles`).
pub const EXCHANGE_MANAGE_AS_APP: &str = "Exchange.ManageAsApp";

/// Entra directory roles that matter to Exchange, by template id.
///
/// Source: the built-in role reference of Entra and the app-only page of Exchange Online PowerShell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DirectoryRole {
    /// All of Exchange and Security & Compliance.
    GlobalAdministrator,
    /// All of Exchange.
    ExchangeAdministrator,
    /// Recipients only.
    ExchangeRecipientAdministrator,
    /// Compliance cmdlets.
    ComplianceAdministrator,
    /// Security configuration.
    SecurityAdministrator,
    /// Reads security configuration.
    SecurityReader,
    /// Reads everything.
    GlobalReader,
    /// Reads everything, resets passwords.
    HelpdeskAdministrator,
}

impl DirectoryRole {
    /// All roles of the table.
    pub const ALL: [Self; 8] = [
        Self::GlobalAdministrator,
        Self::ExchangeAdministrator,
        Self::ExchangeRecipientAdministrator,
        Self::ComplianceAdministrator,
        Self::SecurityAdministrator,
        Self::SecurityReader,
        Self::GlobalReader,
        Self::HelpdeskAdministrator,
    ];

    /// The template id, equal in every tenant; what the token claim `wids` holds.
    #[must_use]
    pub const fn template_id(self) -> Uuid {
        Uuid::from_u128(match self {
            Self::GlobalAdministrator => 0x62e9_0394_69f5_4237_9190_0121_7714_5e10,
            Self::ExchangeAdministrator => 0x2923_2cdf_9323_42fd_ade2_1d09_7af3_e4de,
            Self::ExchangeRecipientAdministrator => 0x3139_2ffb_586c_42d1_9346_e594_15a2_cc4e,
            Self::ComplianceAdministrator => 0x1731_5797_102d_40b4_93e0_4320_62ca_ca18,
            Self::SecurityAdministrator => 0x194a_e4cb_b126_40b2_bd5b_6091_b380_977d,
            Self::SecurityReader => 0x5d6b_6bb7_de71_4623_b4af_9638_0a35_2509,
            Self::GlobalReader => 0xf2ef_992c_3afb_46b9_b7cf_a126_ee74_c451,
            Self::HelpdeskAdministrator => 0x7298_27e3_9c14_49f7_bb1b_9608_f156_bbb8,
        })
    }

    /// The display name.
    #[must_use]
    pub const fn display_name(self) -> &'static str {
        match self {
            Self::GlobalAdministrator => "Global Administrator",
            Self::ExchangeAdministrator => "Exchange Administrator",
            Self::ExchangeRecipientAdministrator => "Exchange Recipient Administrator",
            Self::ComplianceAdministrator => "Compliance Administrator",
            Self::SecurityAdministrator => "Security Administrator",
            Self::SecurityReader => "Security Reader",
            Self::GlobalReader => "Global Reader",
            Self::HelpdeskAdministrator => "Helpdesk Administrator",
        }
    }

    /// By display name without case, or by template id.
    #[must_use]
    pub fn find(name_or_id: &str) -> Option<Self> {
        let id = Uuid::try_parse(name_or_id).ok();
        Self::ALL.into_iter().find(|r| Some(r.template_id()) == id || r.display_name().eq_ignore_ascii_case(name_or_id))
    }
}

/// An application that signed in as itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Application {
    /// Client id (claim `appid`).
    pub app_id: Uuid,
    /// Object id of its service principal (claim `oid`).
    pub object_id: Uuid,
    /// Display name (claim `app_displayname`).
    pub display_name: String,
    /// App roles of the resource that were granted (claim `roles`).
    pub app_roles: Vec<String>,
    /// Template ids of its directory roles (claim `wids`).
    pub directory_roles: Vec<Uuid>,
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Principal {
    /// An application, by certificate or secret.
    Application(Application),
}

impl Principal {
    /// The object id: what sessions and quotas bind to.
    #[must_use]
    pub fn object_id(&self) -> Uuid {
        match self {
            Self::Application(a) => a.object_id,
        }
    }

    /// The name that people know.
    #[must_use]
    pub fn display_name(&self) -> &str {
        match self {
            Self::Application(a) => &a.display_name,
        }
    }
}

/// A principal in a tenant, as one request or session brought it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The tenant whose objects the call is about.
    pub tenant: TenantId,
    /// Who acts.
    pub principal: Principal,
    /// Address and port of the client; for the audit trail, never for a decision.
    pub client_address: String,
}
