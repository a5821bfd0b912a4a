//! Applications, service principals, their credentials and their grants.

use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;

use crate::store::{id, key};
use crate::{StoreError, TenantStore};

/// Most rows that one list answers.
const LIST: i64 = 1000;

const APPLICATIONS: &str =
    "SELECT id, app_id, display_name, required_access, created FROM applications WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3";
const APPLICATION: &str = "SELECT id, app_id, display_name, required_access, created FROM applications WHERE tenant = $1 AND id = $2";
const APPLICATION_BY_CLIENT: &str =
    "SELECT id, app_id, display_name, required_access, created FROM applications WHERE tenant = $1 AND app_id = $2";
const CREDENTIALS: &str = "SELECT id, kind, material, display_name, hint, starts, ends FROM credentials WHERE tenant = $1 AND application = $2 \
                           ORDER BY position, id";
const PRINCIPALS: &str =
    "SELECT id, app_id, display_name, enabled, app_roles FROM service_principals WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3";
const PRINCIPAL: &str = "SELECT id, app_id, display_name, enabled, app_roles FROM service_principals WHERE tenant = $1 AND id = $2";
const PRINCIPAL_BY_CLIENT: &str =
    "SELECT id, app_id, display_name, enabled, app_roles FROM service_principals WHERE tenant = $1 AND app_id = $2";
const GRANTS_OF: &str = "SELECT id, principal, resource, role, created FROM app_role_assignments WHERE tenant = $1 AND principal = $2";
const GRANTS_ON: &str =
    "SELECT id, principal, resource, role, created FROM app_role_assignments WHERE tenant = $1 AND resource = $2 LIMIT $3";
const ROLES_OF: &str = "SELECT id, principal, role, scope FROM role_assignments WHERE tenant = $1 AND principal = $2";
const ROLES: &str = "SELECT id, principal, role, scope FROM role_assignments WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3";

/// Statements of reads, for the test of query plans.
pub(crate) const QUERIES: &[(&str, &str)] = &[
    ("applications", APPLICATIONS),
    ("application", APPLICATION),
    ("application by client id", APPLICATION_BY_CLIENT),
    ("credentials", CREDENTIALS),
    ("service principals", PRINCIPALS),
    ("service principal", PRINCIPAL),
    ("service principal by client id", PRINCIPAL_BY_CLIENT),
    ("app roles of a principal", GRANTS_OF),
    ("app roles on a resource", GRANTS_ON),
    ("directory roles of a principal", ROLES_OF),
    ("directory roles", ROLES),
];

/// A registered application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationRow {
    /// Object id.
    pub id: Uuid,
    /// Client id.
    pub app_id: Uuid,
    /// Display name.
    pub display_name: String,
    /// `requiredResourceAccess` as it was given, a JSON list.
    pub required_access: String,
    /// Unix milliseconds.
    pub created: i64,
}

/// What kind of credential it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// A certificate; the material is its DER.
    Certificate,
    /// A secret; the material is salt and hash.
    Secret,
}

impl CredentialKind {
    fn word(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Secret => "secret",
        }
    }
}

/// A credential of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Key id.
    pub id: Uuid,
    /// Kind.
    pub kind: CredentialKind,
    /// See [`CredentialKind`].
    pub material: Vec<u8>,
    /// Display name.
    pub display_name: String,
    /// First characters of a secret, empty for a certificate.
    pub hint: String,
    /// Unix seconds.
    pub starts: i64,
    /// Unix seconds.
    pub ends: i64,
}

/// An app role that a resource offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRole {
    /// Role id.
    pub id: Uuid,
    /// What the claim `roles` holds.
    pub value: String,
    /// Display name.
    pub display_name: String,
}

/// A service principal: an application as this tenant sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePrincipal {
    /// Object id.
    pub id: Uuid,
    /// Client id.
    pub app_id: Uuid,
    /// Display name.
    pub display_name: String,
    /// May sign in.
    pub enabled: bool,
    /// What it offers as a resource.
    pub app_roles: Vec<AppRole>,
}

/// An app role granted to a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRoleAssignment {
    /// Assignment id.
    pub id: Uuid,
    /// Service principal that got it.
    pub principal: Uuid,
    /// Service principal that offers it.
    pub resource: Uuid,
    /// Role id.
    pub role: Uuid,
    /// Unix milliseconds.
    pub created: i64,
}

/// A directory role held by a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleAssignment {
    /// Assignment id.
    pub id: Uuid,
    /// Service principal.
    pub principal: Uuid,
    /// Template id of the role.
    pub role: Uuid,
    /// Directory scope, `/` for the tenant.
    pub scope: String,
}

/// Names an application or service principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntraKey {
    /// By object id.
    Object(Uuid),
    /// By client id.
    Client(Uuid),
}

impl TenantStore {
    /// Registers an application with its credentials.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the client id is taken.
    pub async fn add_application(&self, application: &ApplicationRow, credentials: &[Credential]) -> Result<(), StoreError> {
        let (tenant, row, credentials) = (self.key(), application.clone(), credentials.to_vec());
        self.store.write(move |connection| Box::pin(async move {
            let sql =
                "INSERT INTO applications (tenant, id, app_id, display_name, required_access, created) VALUES ($1, $2, $3, $4, $5, $6)";
            let query = sqlx::query(sql).bind(&tenant).bind(key(row.id)).bind(key(row.app_id)).bind(&row.display_name);
            let query = query.bind(&row.required_access).bind(row.created);
            once(query.execute(&mut *connection).await, "application")?;
            for (position, credential) in credentials.iter().enumerate() {
                insert_credential(connection, &tenant, row.id, position, credential).await?;
            }
            Ok(())
        })).await
    }

    /// Applications by object id, after `after`, at most 1,000.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn applications(&self, after: Uuid) -> Result<Vec<ApplicationRow>, StoreError> {
        let query = sqlx::query(APPLICATIONS).bind(self.key()).bind(key(after)).bind(LIST);
        query.fetch_all(&mut *self.store.read().await?).await?.iter().map(application).collect()
    }

    /// One application.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn application(&self, which: EntraKey) -> Result<Option<ApplicationRow>, StoreError> {
        let (sql, value) = match which {
            EntraKey::Object(value) => (APPLICATION, value),
            EntraKey::Client(value) => (APPLICATION_BY_CLIENT, value),
        };
        let row = sqlx::query(sql).bind(self.key()).bind(key(value)).fetch_optional(&mut *self.store.read().await?).await?;
        row.as_ref().map(application).transpose()
    }

    /// Removes an application with its credentials, its service principal and all grants. `false` when there is none.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn remove_application(&self, object: Uuid) -> Result<bool, StoreError> {
        let tenant = self.key();
        self.store.write(move |connection| Box::pin(async move {
            let principals = "SELECT s.id FROM service_principals s JOIN applications a ON a.tenant = s.tenant AND a.app_id = s.app_id \
                              WHERE a.tenant = $1 AND a.id = $2";
            for sql in [
                format!("DELETE FROM app_role_assignments WHERE tenant = $1 AND principal IN ({principals})"),
                format!("DELETE FROM role_assignments WHERE tenant = $1 AND principal IN ({principals})"),
                format!("DELETE FROM service_principals WHERE tenant = $1 AND id IN ({principals})"),
                "DELETE FROM credentials WHERE tenant = $1 AND application = $2".to_owned(),
            ] {
                sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&tenant).bind(key(object)).execute(&mut *connection).await?;
            }
            let sql = "DELETE FROM applications WHERE tenant = $1 AND id = $2";
            Ok(sqlx::query(sql).bind(&tenant).bind(key(object)).execute(connection).await?.rows_affected() > 0)
        })).await
    }

    /// Credentials of an application in the order in which they were given.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn credentials(&self, application: Uuid) -> Result<Vec<Credential>, StoreError> {
        let query = sqlx::query(CREDENTIALS).bind(self.key()).bind(key(application));
        query.fetch_all(&mut *self.store.read().await?).await?.iter().map(credential).collect()
    }

    /// Puts a list in place of all credentials of one kind.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn replace_credentials(&self, application: Uuid, kind: CredentialKind, list: &[Credential]) -> Result<(), StoreError> {
        let (tenant, list) = (self.key(), list.to_vec());
        self.store
            .write(move |connection| {
                Box::pin(async move {
                    let sql = "DELETE FROM credentials WHERE tenant = $1 AND application = $2 AND kind = $3";
                    sqlx::query(sql).bind(&tenant).bind(key(application)).bind(kind.word()).execute(&mut *connection).await?;
                    for (position, credential) in list.iter().enumerate() {
                        insert_credential(connection, &tenant, application, position, credential).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Adds a credential behind the others.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn add_credential(&self, application: Uuid, credential: &Credential) -> Result<(), StoreError> {
        let (tenant, credential) = (self.key(), credential.clone());
        self.store
            .write(move |connection| {
                Box::pin(async move {
                    // Credentials of one application are few; a time of day keeps the order across calls.
                    let position = usize::try_from(credential.starts).unwrap_or_default();
                    insert_credential(connection, &tenant, application, position, &credential).await
                })
            })
            .await
    }

    /// Removes a credential. `false` when there is none.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn remove_credential(&self, application: Uuid, credential: Uuid, kind: CredentialKind) -> Result<bool, StoreError> {
        let tenant = self.key();
        self.store
            .write(move |connection| {
                Box::pin(async move {
                    let sql = "DELETE FROM credentials WHERE tenant = $1 AND application = $2 AND id = $3 AND kind = $4";
                    let query = sqlx::query(sql).bind(tenant).bind(key(application)).bind(key(credential)).bind(kind.word());
                    Ok(query.execute(connection).await?.rows_affected() > 0)
                })
            })
            .await
    }

    /// Makes a service principal.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the client id has one already.
    pub async fn add_service_principal(&self, principal: &ServicePrincipal) -> Result<(), StoreError> {
        let (tenant, row) = (self.key(), principal.clone());
        let roles = serde_json::to_vec(&row.app_roles).map_err(|e| StoreError::corrupt("app role list", e))?;
        self.store.write(move |connection| Box::pin(async move {
            let sql =
                "INSERT INTO service_principals (tenant, id, app_id, display_name, enabled, app_roles) VALUES ($1, $2, $3, $4, $5, $6)";
            let query = sqlx::query(sql).bind(tenant).bind(key(row.id)).bind(key(row.app_id)).bind(row.display_name);
            once(query.bind(i64::from(row.enabled)).bind(roles).execute(connection).await, "service principal")
        })).await
    }

    /// Gives an application another display name. `false` when there is none.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn rename_application(&self, application: Uuid, display_name: &str) -> Result<bool, StoreError> {
        let (tenant, name) = (self.key(), display_name.to_owned());
        self.store
            .write(move |connection| {
                Box::pin(async move {
                    let sql = "UPDATE applications SET display_name = $3 WHERE tenant = $1 AND id = $2";
                    let query = sqlx::query(sql).bind(tenant).bind(key(application)).bind(name);
                    Ok(query.execute(connection).await?.rows_affected() > 0)
                })
            })
            .await
    }

    /// Lets a service principal sign in or not. `false` when there is none.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn enable_service_principal(&self, principal: Uuid, enabled: bool) -> Result<bool, StoreError> {
        let tenant = self.key();
        self.store
            .write(move |connection| {
                Box::pin(async move {
                    let sql = "UPDATE service_principals SET enabled = $3 WHERE tenant = $1 AND id = $2";
                    let query = sqlx::query(sql).bind(tenant).bind(key(principal)).bind(i64::from(enabled));
                    Ok(query.execute(connection).await?.rows_affected() > 0)
                })
            })
            .await
    }

    /// Service principals by object id, after `after`, at most 1,000.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn service_principals(&self, after: Uuid) -> Result<Vec<ServicePrincipal>, StoreError> {
        let query = sqlx::query(PRINCIPALS).bind(self.key()).bind(key(after)).bind(LIST);
        query.fetch_all(&mut *self.store.read().await?).await?.iter().map(principal).collect()
    }

    /// One service principal.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn service_principal(&self, which: EntraKey) -> Result<Option<ServicePrincipal>, StoreError> {
        let (sql, value) = match which {
            EntraKey::Object(value) => (PRINCIPAL, value),
            EntraKey::Client(value) => (PRINCIPAL_BY_CLIENT, value),
        };
        let row = sqlx::query(sql).bind(self.key()).bind(key(value)).fetch_optional(&mut *self.store.read().await?).await?;
        row.as_ref().map(principal).transpose()
    }

    /// Grants an app role.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when it is granted already.
    pub async fn add_app_role_assignment(&self, assignment: &AppRoleAssignment) -> Result<(), StoreError> {
        let (tenant, row) = (self.key(), assignment.clone());
        self.store
            .write(move |connection| {
                Box::pin(async move {
                    let sql =
                        "INSERT INTO app_role_assignments (tenant, id, principal, resource, role, created) VALUES ($1, $2, $3, $4, $5, $6)";
                    let query = sqlx::query(sql).bind(tenant).bind(key(row.id)).bind(key(row.principal)).bind(key(row.resource));
                    once(query.bind(key(row.role)).bind(row.created).execute(connection).await, "app role assignment")
                })
            })
            .await
    }

    /// App roles that a principal holds.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn app_roles_of(&self, principal: Uuid) -> Result<Vec<AppRoleAssignment>, StoreError> {
        let query = sqlx::query(GRANTS_OF).bind(self.key()).bind(key(principal));
        query.fetch_all(&mut *self.store.read().await?).await?.iter().map(app_role_assignment).collect()
    }

    /// Grants of a resource's app roles, at most 1,000.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn app_roles_on(&self, resource: Uuid) -> Result<Vec<AppRoleAssignment>, StoreError> {
        let query = sqlx::query(GRANTS_ON).bind(self.key()).bind(key(resource)).bind(LIST);
        query.fetch_all(&mut *self.store.read().await?).await?.iter().map(app_role_assignment).collect()
    }

    /// Takes an app role away. `false` when there is no such assignment.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn remove_app_role_assignment(&self, assignment: Uuid) -> Result<bool, StoreError> {
        self.remove_by_id("DELETE FROM app_role_assignments WHERE tenant = $1 AND id = $2", assignment).await
    }

    /// Assigns a directory role.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when it is assigned already.
    pub async fn add_role_assignment(&self, assignment: &RoleAssignment) -> Result<(), StoreError> {
        let (tenant, row) = (self.key(), assignment.clone());
        self.store
            .write(move |connection| {
                Box::pin(async move {
                    let sql = "INSERT INTO role_assignments (tenant, id, principal, role, scope) VALUES ($1, $2, $3, $4, $5)";
                    let query =
                        sqlx::query(sql).bind(tenant).bind(key(row.id)).bind(key(row.principal)).bind(key(row.role)).bind(row.scope);
                    once(query.execute(connection).await, "role assignment")
                })
            })
            .await
    }

    /// Directory roles of a principal, or of all (at most 1,000).
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn role_assignments(&self, principal: Option<Uuid>) -> Result<Vec<RoleAssignment>, StoreError> {
        let query = match principal {
            Some(principal) => sqlx::query(ROLES_OF).bind(self.key()).bind(key(principal)),
            None => sqlx::query(ROLES).bind(self.key()).bind(key(Uuid::nil())).bind(LIST),
        };
        query.fetch_all(&mut *self.store.read().await?).await?.iter().map(role_assignment).collect()
    }

    /// Takes a directory role away. `false` when there is none.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn remove_role_assignment(&self, assignment: Uuid) -> Result<bool, StoreError> {
        self.remove_by_id("DELETE FROM role_assignments WHERE tenant = $1 AND id = $2", assignment).await
    }

    /// Uses up the name of a client assertion, durably: `false` when it was used before. It is kept until `expires`; `now`
    /// and `expires` are Unix seconds.
    ///
    /// # Errors
    /// When it could not be written: then the assertion must not count.
    pub async fn redeem_assertion(&self, application: Uuid, jti: &str, expires: i64, now: i64) -> Result<bool, StoreError> {
        let (tenant, jti) = (self.key(), jti.to_owned());
        self.store
            .write(move |connection| {
                Box::pin(async move {
                    let over = "DELETE FROM assertions WHERE tenant = $1 AND expires < $2";
                    sqlx::query(over).bind(&tenant).bind(now).execute(&mut *connection).await?;
                    let sql = "INSERT INTO assertions (tenant, application, jti, expires) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
                    let query = sqlx::query(sql).bind(&tenant).bind(key(application)).bind(jti).bind(expires);
                    Ok(query.execute(connection).await?.rows_affected() > 0)
                })
            })
            .await
    }

    async fn remove_by_id(&self, sql: &'static str, row: Uuid) -> Result<bool, StoreError> {
        let tenant = self.key();
        self.store
            .write(move |connection| {
                Box::pin(async move { Ok(sqlx::query(sql).bind(tenant).bind(key(row)).execute(connection).await?.rows_affected() > 0) })
            })
            .await
    }
}

/// Turns a broken uniqueness into [`StoreError::Exists`].
fn once<T>(result: Result<T, sqlx::Error>, what: &'static str) -> Result<(), StoreError> {
    match result {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Err(StoreError::Exists(what)),
        other => Ok(other.map(drop)?),
    }
}

async fn insert_credential(
    connection: &mut SqliteConnection,
    tenant: &[u8],
    application: Uuid,
    position: usize,
    credential: &Credential,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO credentials (tenant, application, id, kind, position, material, display_name, hint, starts, ends) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let query = sqlx::query(sql).bind(tenant.to_vec()).bind(key(application)).bind(key(credential.id)).bind(credential.kind.word());
    let query = query.bind(i64::try_from(position).unwrap_or(i64::MAX)).bind(credential.material.clone());
    let query = query.bind(credential.display_name.clone()).bind(credential.hint.clone()).bind(credential.starts).bind(credential.ends);
    once(query.execute(connection).await, "credential")
}

fn application(row: &SqliteRow) -> Result<ApplicationRow, StoreError> {
    Ok(ApplicationRow {
        id: id(row, "id")?,
        app_id: id(row, "app_id")?,
        display_name: row.try_get("display_name")?,
        required_access: row.try_get("required_access")?,
        created: row.try_get("created")?,
    })
}

fn credential(row: &SqliteRow) -> Result<Credential, StoreError> {
    let kind = match row.try_get::<&str, _>("kind")? {
        "certificate" => CredentialKind::Certificate,
        "secret" => CredentialKind::Secret,
        other => return Err(StoreError::corrupt("credential", format!("kind '{other}'"))),
    };
    Ok(Credential {
        id: id(row, "id")?,
        kind,
        material: row.try_get("material")?,
        display_name: row.try_get("display_name")?,
        hint: row.try_get("hint")?,
        starts: row.try_get("starts")?,
        ends: row.try_get("ends")?,
    })
}

fn principal(row: &SqliteRow) -> Result<ServicePrincipal, StoreError> {
    Ok(ServicePrincipal {
        id: id(row, "id")?,
        app_id: id(row, "app_id")?,
        display_name: row.try_get("display_name")?,
        enabled: row.try_get::<i64, _>("enabled")? != 0,
        app_roles: serde_json::from_slice(row.try_get("app_roles")?).map_err(|e| StoreError::corrupt("app role list", e))?,
    })
}

fn app_role_assignment(row: &SqliteRow) -> Result<AppRoleAssignment, StoreError> {
    Ok(AppRoleAssignment {
        id: id(row, "id")?,
        principal: id(row, "principal")?,
        resource: id(row, "resource")?,
        role: id(row, "role")?,
        created: row.try_get("created")?,
    })
}

fn role_assignment(row: &SqliteRow) -> Result<RoleAssignment, StoreError> {
    Ok(RoleAssignment { id: id(row, "id")?, principal: id(row, "principal")?, role: id(row, "role")?, scope: row.try_get("scope")? })
}
