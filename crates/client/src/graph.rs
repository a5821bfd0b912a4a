//! Set-up of applications through Graph: the calls, their order and their errors.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exops_policy::DirectoryRole;
use exops_runspace::{Fault, FaultKind};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::Http;
use crate::http::{Answer, Request, place};

/// Client id of Office 365 Exchange Online, the resource whose app roles are granted; equal in every tenant.
const EXCHANGE_APP_ID: Uuid = Uuid::from_u128(0x0000_0002_0000_0ff1_ce00_0000_0000_0000);
const TIMEOUT: Duration = Duration::from_secs(30);
/// Most pages of a list that are followed.
const PAGES: usize = 100;

/// Graph with a bearer token that may register applications and assign roles.
#[derive(Debug, Clone)]
pub struct GraphSetup {
    http: Http,
    base: String,
    authorization: SecretString,
    tenant_id: Uuid,
}

/// An application to register.
#[derive(Debug, Default)]
pub struct NewApplication {
    /// Display name.
    pub name: String,
    /// A client id of one's own choice; only a lab takes one.
    pub app_id: Option<Uuid>,
    /// DER of certificates to register as key credentials.
    pub certificates: Vec<Vec<u8>>,
    /// A client secret of one's own choice; only a lab takes one.
    pub secret: Option<SecretString>,
    /// App roles of Exchange Online by value (`Exchange.ManageAsApp`).
    pub app_roles: Vec<String>,
    /// Directory roles by display name or template id.
    pub directory_roles: Vec<String>,
}

/// A registered application with its service principal and grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RegisteredApplication {
    /// Display name.
    pub name: String,
    /// Client id.
    pub app_id: Uuid,
    /// Object id of the application.
    pub object_id: Uuid,
    /// Object id of the service principal, where there is one.
    pub service_principal_id: Option<Uuid>,
    /// The tenant.
    pub tenant_id: Uuid,
    /// Registered certificates.
    pub certificates: Vec<RegisteredCertificate>,
    /// Granted app roles by value.
    pub app_roles: Vec<String>,
    /// Assigned directory roles by name, or by id where the name is not known.
    pub directory_roles: Vec<String>,
}

/// A key credential of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RegisteredCertificate {
    /// Id of the credential.
    pub key_id: Uuid,
    /// SHA-1 thumbprint, upper-case hex.
    pub thumbprint: String,
    /// End of its life, RFC 3339.
    pub expires: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApplicationWire {
    id: Uuid,
    app_id: Uuid,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    key_credentials: Vec<KeyWire>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyWire {
    key_id: Uuid,
    #[serde(default)]
    custom_key_identifier: Option<String>,
    #[serde(default)]
    end_date_time: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServicePrincipalWire {
    id: Uuid,
    #[serde(default)]
    app_roles: Vec<AppRoleWire>,
}

#[derive(Deserialize)]
struct AppRoleWire {
    id: Uuid,
    value: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AppRoleAssignmentWire {
    app_role_id: Uuid,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoleAssignmentWire {
    role_definition_id: String,
}

#[derive(Deserialize)]
struct ListWire<T> {
    value: Vec<T>,
    #[serde(rename = "@odata.nextLink")]
    next_link: Option<String>,
}

impl GraphSetup {
    /// Set-up calls to `base` (without `/v1.0`) with a bearer token.
    #[must_use]
    pub fn new(http: Http, base: &str, bearer: &SecretString, tenant_id: Uuid) -> Self {
        Self { http, base: format!("{base}/v1.0"), authorization: format!("Bearer {}", bearer.expose_secret()).into(), tenant_id }
    }

    /// Registers an application with its certificates, makes its service principal and grants the roles. What was
    /// made is removed again where a later step fails.
    ///
    /// # Errors
    /// A role that does not exist, or what Graph answered.
    pub async fn create(&self, new: &NewApplication) -> Result<RegisteredApplication, Fault> {
        let exchange = self.exchange().await?;
        let app_roles = new.app_roles.iter().map(|role| Ok((role, app_role(&exchange, role)?))).collect::<Result<Vec<_>, Fault>>()?;
        let directory_roles = new.directory_roles.iter().map(|role| directory_role(role)).collect::<Result<Vec<_>, Fault>>()?;
        let keys: Vec<Json> = new
            .certificates
            .iter()
            .map(|der| json!({"type": "AsymmetricX509Cert", "usage": "Verify", "key": STANDARD.encode(der), "displayName": new.name}))
            .collect();
        let access: Vec<Json> = app_roles.iter().map(|(_, id)| json!({"id": id, "type": "Role"})).collect();
        let mut body = json!({
            "displayName": new.name,
            "signInAudience": "AzureADMyOrg",
            "requiredResourceAccess": [{"resourceAppId": EXCHANGE_APP_ID, "resourceAccess": access}],
            "keyCredentials": keys,
        });
        if let (Some(id), Some(map)) = (new.app_id, body.as_object_mut()) {
            map.insert("appId".to_owned(), json!(id));
        }
        let application: ApplicationWire = self.post("/applications", &body).await?;
        let object_id = application.id;
        let made = self.furnish(application, new, &exchange, &app_roles, &directory_roles).await;
        if made.is_err() {
            // The first error is the one to report.
            let _ = self.call(http::Method::DELETE, &format!("/applications/{object_id}"), None).await;
        }
        made
    }

    async fn furnish(
        &self,
        application: ApplicationWire,
        new: &NewApplication,
        exchange: &ServicePrincipalWire,
        app_roles: &[(&String, Uuid)],
        directory_roles: &[(String, String)],
    ) -> Result<RegisteredApplication, Fault> {
        if new.app_id.is_some_and(|id| id != application.app_id) {
            return Err(Fault::new(FaultKind::Protocol, format!("{} chose another client id than the one asked for", place(&self.base)))
                .with_hint("leave out --app-id: only a lab lets you choose"));
        }
        if let Some(secret) = &new.secret {
            let body = json!({"passwordCredential": {"displayName": new.name, "secretText": secret.expose_secret()}});
            let _: Json = self.post(&format!("/applications/{}/addPassword", application.id), &body).await?;
        }
        let principal: ServicePrincipalWire = self.post("/servicePrincipals", &json!({"appId": application.app_id})).await?;
        for (_, role) in app_roles {
            let body = json!({"principalId": principal.id, "resourceId": exchange.id, "appRoleId": role});
            let _: Json = self.post(&format!("/servicePrincipals/{}/appRoleAssignedTo", exchange.id), &body).await?;
        }
        for (_, role) in directory_roles {
            let body = json!({
                "@odata.type": "#microsoft.graph.unifiedRoleAssignment",
                "roleDefinitionId": role,
                "principalId": principal.id,
                "directoryScopeId": "/",
            });
            let _: Json = self.post("/roleManagement/directory/roleAssignments", &body).await?;
        }
        Ok(RegisteredApplication {
            service_principal_id: Some(principal.id),
            app_roles: app_roles.iter().map(|(name, _)| (*name).clone()).collect(),
            directory_roles: directory_roles.iter().map(|(name, _)| name.clone()).collect(),
            ..self.bare(application)
        })
    }

    /// All registered applications with their grants.
    ///
    /// # Errors
    /// What Graph answered.
    pub async fn list(&self) -> Result<Vec<RegisteredApplication>, Fault> {
        let exchange = self.exchange().await?;
        let mut found = Vec::new();
        for application in self.list_of::<ApplicationWire>("/applications").await? {
            found.push(self.with_grants(application.id, &exchange).await?);
        }
        Ok(found)
    }

    /// One application by client id, object id or display name.
    ///
    /// # Errors
    /// None or several have that name; what Graph answered.
    pub async fn show(&self, which: &str) -> Result<RegisteredApplication, Fault> {
        let id = self.find(which).await?;
        self.with_grants(id, &self.exchange().await?).await
    }

    /// Removes an application with its service principal and grants.
    ///
    /// # Errors
    /// As [`Self::show`].
    pub async fn remove(&self, which: &str) -> Result<Uuid, Fault> {
        let id = self.find(which).await?;
        self.call(http::Method::DELETE, &format!("/applications/{id}"), None).await?;
        Ok(id)
    }

    async fn find(&self, which: &str) -> Result<Uuid, Fault> {
        let asked = Uuid::try_parse(which).ok();
        let all = self.list_of::<ApplicationWire>("/applications").await?;
        let fits =
            |a: &&ApplicationWire| asked.is_some_and(|id| a.id == id || a.app_id == id) || a.display_name.eq_ignore_ascii_case(which);
        let found: Vec<Uuid> = all.iter().filter(fits).map(|a| a.id).collect();
        let fault = |text: String, hint: &str| Fault::new(FaultKind::Protocol, text).with_code("Request_ResourceNotFound").with_hint(hint);
        match found.as_slice() {
            [id] => Ok(*id),
            [] => Err(fault(format!("there is no application '{which}'"), "'exops lab app list' shows them")),
            _ => Err(fault(format!("{} applications are called '{which}'", found.len()), "give the client id instead")),
        }
    }

    async fn with_grants(&self, id: Uuid, exchange: &ServicePrincipalWire) -> Result<RegisteredApplication, Fault> {
        let application: ApplicationWire = self.get(&format!("/applications/{id}?$select=id,appId,displayName,keyCredentials")).await?;
        let mut made = self.bare(application);
        let principal: Result<ServicePrincipalWire, Fault> =
            self.get(&format!("/servicePrincipals(appId='{}')?$select=id", made.app_id)).await;
        let principal = match principal {
            Ok(principal) => principal.id,
            Err(fault) if fault.code == "Request_ResourceNotFound" => return Ok(made),
            Err(fault) => return Err(fault),
        };
        made.service_principal_id = Some(principal);
        for grant in self.list_of::<AppRoleAssignmentWire>(&format!("/servicePrincipals/{principal}/appRoleAssignments")).await? {
            let known = exchange.app_roles.iter().find(|r| r.id == grant.app_role_id).and_then(|r| r.value.clone());
            made.app_roles.push(known.unwrap_or_else(|| grant.app_role_id.to_string()));
        }
        let filter = format!("/roleManagement/directory/roleAssignments?$filter=principalId%20eq%20'{principal}'");
        for grant in self.list_of::<RoleAssignmentWire>(&filter).await? {
            let known = DirectoryRole::find(&grant.role_definition_id).map(|r| r.display_name().to_owned());
            made.directory_roles.push(known.unwrap_or(grant.role_definition_id));
        }
        Ok(made)
    }

    fn bare(&self, application: ApplicationWire) -> RegisteredApplication {
        let certificates = application.key_credentials.into_iter().map(|key| RegisteredCertificate {
            key_id: key.key_id,
            thumbprint: thumbprint(&key.custom_key_identifier.unwrap_or_default()),
            expires: key.end_date_time.unwrap_or_default(),
        });
        RegisteredApplication {
            name: application.display_name,
            app_id: application.app_id,
            object_id: application.id,
            service_principal_id: None,
            tenant_id: self.tenant_id,
            certificates: certificates.collect(),
            app_roles: Vec::new(),
            directory_roles: Vec::new(),
        }
    }

    async fn exchange(&self) -> Result<ServicePrincipalWire, Fault> {
        self.get(&format!("/servicePrincipals(appId='{EXCHANGE_APP_ID}')?$select=id,appRoles")).await
    }

    async fn list_of<T: for<'a> Deserialize<'a>>(&self, path: &str) -> Result<Vec<T>, Fault> {
        let mut all = Vec::new();
        let mut path = path.to_owned();
        for _ in 0..PAGES {
            let page: ListWire<T> = self.get(&path).await?;
            all.extend(page.value);
            match page.next_link {
                None => return Ok(all),
                // Only below the same base: the token goes nowhere else.
                Some(link) => match link.strip_prefix(&self.base) {
                    Some(rest) => path = rest.to_owned(),
                    None => {
                        return Err(Fault::new(FaultKind::Protocol, format!("{} gives a next link to another place", place(&self.base))));
                    }
                },
            }
        }
        Err(Fault::new(FaultKind::Protocol, format!("{} gives more than {PAGES} pages", place(&self.base))))
    }

    async fn get<T: for<'a> Deserialize<'a>>(&self, path: &str) -> Result<T, Fault> {
        self.read(&self.call(http::Method::GET, path, None).await?)
    }

    async fn post<T: for<'a> Deserialize<'a>>(&self, path: &str, body: &Json) -> Result<T, Fault> {
        self.read(&self.call(http::Method::POST, path, Some(body)).await?)
    }

    fn read<T: for<'a> Deserialize<'a>>(&self, answer: &Answer) -> Result<T, Fault> {
        serde_json::from_slice(&answer.body)
            .map_err(|e| Fault::new(FaultKind::Protocol, format!("the answer of {} is not what Graph gives: {e}", place(&self.base))))
    }

    async fn call(&self, method: http::Method, path: &str, body: Option<&Json>) -> Result<Answer, Fault> {
        let url = format!("{}{path}", self.base);
        let mut headers = vec![("Accept", "application/json".to_owned()), ("client-request-id", Uuid::new_v4().to_string())];
        if body.is_some() {
            headers.push(("Content-Type", "application/json".to_owned()));
        }
        let body = body.map(|b| b.to_string().into_bytes()).unwrap_or_default();
        let authorization = Some(self.authorization.expose_secret());
        let answer =
            self.http.send(Request { method, url: &url, headers, authorization, body, timeout: TIMEOUT }).await.map_err(|l| l.fault)?;
        if (200..300).contains(&answer.status) { Ok(answer) } else { Err(refusal(&answer, &url)) }
    }
}

fn refusal(answer: &Answer, url: &str) -> Fault {
    let json: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = |pointer: &str| json.pointer(pointer).and_then(Json::as_str).map(str::to_owned);
    let (kind, hint) = match answer.status {
        401 => (FaultKind::SignIn, "the bearer token is not accepted: is this the data folder of the lab that runs?"),
        403 => (FaultKind::Forbidden, "the caller may not register applications or assign roles"),
        429 => (FaultKind::Throttled(Duration::from_secs(10)), ""),
        500..=599 => (FaultKind::Unreachable, "try again"),
        _ => (FaultKind::Protocol, ""),
    };
    let message = text("/error/message").unwrap_or_else(|| format!("HTTP status {}", answer.status));
    let mut fault = Fault::new(kind, format!("{} refused the call: {message}", place(url))).with_hint(hint);
    fault.code = text("/error/code").unwrap_or_default();
    fault.request_id = text("/error/innerError/request-id");
    fault
}

fn app_role(exchange: &ServicePrincipalWire, value: &str) -> Result<Uuid, Fault> {
    let known = || exchange.app_roles.iter().filter_map(|r| r.value.as_deref()).collect::<Vec<_>>().join(", ");
    exchange.app_roles.iter().find(|r| r.value.as_deref().is_some_and(|v| v.eq_ignore_ascii_case(value))).map(|r| r.id).ok_or_else(|| {
        Fault::new(FaultKind::Protocol, format!("Exchange Online has no app role '{value}'"))
            .with_code("Request_ResourceNotFound")
            .with_hint(format!("it has: {}", known()))
    })
}

/// Display name and template id.
fn directory_role(name: &str) -> Result<(String, String), Fault> {
    if let Some(role) = DirectoryRole::find(name) {
        return Ok((role.display_name().to_owned(), role.template_id().to_string()));
    }
    if let Ok(id) = Uuid::try_parse(name) {
        return Ok((id.to_string(), id.to_string()));
    }
    let known = DirectoryRole::ALL.map(DirectoryRole::display_name).join(", ");
    Err(Fault::new(FaultKind::Protocol, format!("there is no directory role '{name}'"))
        .with_code("Request_ResourceNotFound")
        .with_hint(format!("one of: {known}; or a template id")))
}

/// Graph gives `customKeyIdentifier` as hex or as base64 of the 20 bytes.
fn thumbprint(identifier: &str) -> String {
    if identifier.len() == 40 && identifier.bytes().all(|b| b.is_ascii_hexdigit()) {
        return identifier.to_ascii_uppercase();
    }
    STANDARD.decode(identifier).unwrap_or_default().iter().map(|b| format!("{b:02X}")).collect()
}
