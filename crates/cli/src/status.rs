//! `exops status`: the connection under the names of `Get-ConnectionInformation`.

use std::time::SystemTime;

use exops_client::{Endpoint, Token};
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::options::Global;
use crate::output::printable;
use crate::print;
use crate::profile::{Profile, SavedCredential};
use crate::session::Connection;

/// Signs in and tells what the connection is.
pub(crate) async fn status(global: &Global, as_json: bool) -> Result<Exit, Failure> {
    let Connection { name, profile: saved, session } = Connection::open(global, None).await?;
    let token = session.tokens.token().await?;
    let described = describe(&name, &saved, session.tokens.endpoint(), &token);
    if as_json {
        print(&format!("{described}\n"))?;
    } else {
        let lines = described.as_object().into_iter().flatten().map(|(key, value)| {
            let text = match value {
                Json::String(s) => s.clone(),
                Json::Null => String::new(),
                Json::Bool(b) => (if *b { "True" } else { "False" }).to_owned(),
                Json::Array(items) => format!("{{{}}}", items.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(", ")),
                other => other.to_string(),
            };
            format!("{key:37} : {}", printable(&text)).trim_end().to_owned() + "\n"
        });
        print(&lines.collect::<String>())?;
    }
    Ok(Exit::Ok)
}

/// The properties of `Get-ConnectionInformation`, then our own.
pub(crate) fn describe(name: &str, profile: &Profile, endpoint: &Endpoint, token: &Token) -> Json {
    let claims = token.claims();
    let expiry = Timestamp::try_from(token.expires_at()).map(|t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default();
    let (thumbprint, file) = match &profile.credential {
        SavedCredential::Store { thumbprint, .. } => (Some(thumbprint.clone()), None),
        SavedCredential::File { path, .. } => (None, Some(path.display().to_string())),
    };
    json!({
        "ConnectionId": profile.connection_id,
        "State": "Connected",
        "Name": format!("ExchangeOnline_{name}"),
        "UserPrincipalName": "",
        "ConnectionUri": endpoint.admin_api,
        "AzureAdAuthorizationEndpointUri": endpoint.authority,
        "TokenExpiryTimeUTC": expiry,
        "CertificateAuthentication": true,
        "ModuleName": "",
        "ModulePrefix": "",
        "Organization": profile.organization,
        "DelegatedOrganization": "",
        "AppId": profile.app_id,
        "PageSize": 1000,
        "TenantID": profile.tenant_id,
        "TokenStatus": "Active",
        "ConnectionUsedForInbuiltCmdlets": true,
        "IsEopSession": false,
        "Profile": name,
        "IsLab": endpoint.is_lab,
        "ApplicationName": claims.display_name,
        "AppRoles": claims.app_roles,
        "DirectoryRoles": directory_roles(claims),
        "CertificateThumbprint": thumbprint,
        "CertificateFilePath": file,
        "TokenMinutesLeft": minutes_left(token),
    })
}

fn directory_roles(claims: &exops_client::TokenClaims) -> Vec<String> {
    let known = |id: &uuid::Uuid| exops_policy::DirectoryRole::find(&id.to_string()).map(|r| r.display_name().to_owned());
    claims.directory_roles.iter().filter_map(known).collect()
}

/// Whole minutes that a token is still good for, rounded.
pub(crate) fn minutes_left(token: &Token) -> u64 {
    let left = token.expires_at().duration_since(SystemTime::now()).unwrap_or_default();
    (left.as_secs() + 30) / 60
}
