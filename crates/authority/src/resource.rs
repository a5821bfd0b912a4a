//! The resources that tokens can be had for.

use exops_policy::EXCHANGE_MANAGE_AS_APP;
use exops_store::{AppRole, ServicePrincipal};
use uuid::Uuid;

/// Client id of Office 365 Exchange Online, equal in every tenant.
pub const EXCHANGE_APP_ID: Uuid = Uuid::from_u128(0x0000_0002_0000_0ff1_ce00_0000_0000_0000);
/// Its resource URL in the worldwide cloud: the audience of tokens.
pub const EXCHANGE_RESOURCE: &str = "https://outlook.office365.com";
/// Client id of Microsoft Graph.
pub const GRAPH_APP_ID: Uuid = Uuid::from_u128(0x0000_0003_0000_0000_c000_0000_0000_0000);

/// Resource URLs without a trailing slash, and whose they are.
const RESOURCES: [(&str, Uuid); 2] = [(EXCHANGE_RESOURCE, EXCHANGE_APP_ID), ("https://graph.microsoft.com", GRAPH_APP_ID)];

/// A resource that was asked for and is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) app_id: Uuid,
    /// What the token says: the resource as it was asked for.
    pub(crate) audience: String,
}

/// The resource that a URL or client id names. An own origin of the authority stands for Exchange Online, whatever host its
/// endpoints have.
pub(crate) fn find(asked: &str, own: &[String]) -> Option<Resource> {
    let bare = asked.strip_suffix('/').unwrap_or(asked);
    if own.iter().any(|base| base.eq_ignore_ascii_case(bare)) {
        return Some(Resource { app_id: EXCHANGE_APP_ID, audience: EXCHANGE_RESOURCE.to_owned() });
    }
    if let Some((_, app_id)) = RESOURCES.into_iter().find(|(_, app_id)| Uuid::try_parse(bare).is_ok_and(|id| id == *app_id)) {
        return Some(Resource { app_id, audience: app_id.to_string() });
    }
    let (url, app_id) = RESOURCES.into_iter().find(|(url, _)| url.eq_ignore_ascii_case(bare))?;
    let slash = if bare.len() == asked.len() { "" } else { "/" };
    Some(Resource { app_id, audience: format!("{url}{slash}") })
}

/// The service principals of the resources in a tenant. Their object ids are of that tenant alone.
pub(crate) fn principals(tenant: Uuid) -> [ServicePrincipal; 2] {
    let principal = |app_id: Uuid, display_name: &str, app_roles: Vec<AppRole>| ServicePrincipal {
        id: Uuid::new_v5(&tenant, app_id.as_bytes()),
        app_id,
        display_name: display_name.to_owned(),
        enabled: true,
        app_roles,
    };
    let manage = AppRole {
        id: Uuid::from_u128(0xdc50_a0fb_09a3_484d_be87_e023_b12c_6440),
        value: EXCHANGE_MANAGE_AS_APP.to_owned(),
        display_name: "Manage Exchange As Application".to_owned(),
    };
    [principal(EXCHANGE_APP_ID, "Office 365 Exchange Online", vec![manage]), principal(GRAPH_APP_ID, "Microsoft Graph", Vec::new())]
}
