//! Profiles: what `connect` saves. No secret is in them.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use exops_policy::{Application, Caller, Principal, Rights, RoleModel, TenantId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::{environment, places, session, suggest};

/// The profile without a name of its own.
pub(crate) const DEFAULT: &str = "default";
/// Code of a failure about a file that cannot be used.
pub(crate) const FILE: &str = "File";
/// Code of a failure about a profile that is not there.
pub(crate) const NOT_CONNECTED: &str = "NotConnected";
/// Code of a failure about a connection to another tenant than the one that was meant.
pub(crate) const OTHER_TENANT: &str = "OtherTenant";

/// A saved connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    pub app_id: Uuid,
    pub organization: String,
    pub tenant_id: Uuid,
    pub connection_id: Uuid,
    /// What the token said when it was made: completions offer what these roles grant.
    #[serde(default)]
    pub app_roles: Vec<String>,
    #[serde(default)]
    pub directory_roles: Vec<Uuid>,
    pub endpoint: SavedEndpoint,
    pub credential: SavedCredential,
}

/// Where the organisation is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub(crate) enum SavedEndpoint {
    /// The lab on a data folder; its ready file says where it is today.
    Lab { data: PathBuf },
    /// Fixed addresses.
    Fixed { authority: String, admin_api: String, powershell: String, ca_file: Option<PathBuf>, lab: bool },
}

/// How the application signs in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub(crate) enum SavedCredential {
    /// A certificate in a store.
    Store { thumbprint: String, store: Option<PathBuf> },
    /// A PFX or PEM file.
    File { path: PathBuf, password: PasswordSource },
}

/// Where the password of a file comes from. The password itself is never kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PasswordSource {
    /// The file opens without.
    None,
    /// Asked at the terminal.
    Prompt,
    /// The first line of a file.
    File(PathBuf),
    /// The file that `EXOPS_CERTIFICATE_PASSWORD_FILE` names.
    Variable,
    /// `AZURE_CLIENT_CERTIFICATE_PASSWORD` itself.
    Azure,
}

impl Profile {
    /// Reads a profile.
    pub(crate) fn load(name: &str) -> Result<Self, Failure> {
        let path = path(name)?;
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|e| unreadable(&path, &text, &e)),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                Err(Failure { code: NOT_CONNECTED.to_owned(), ..Failure::new(Exit::SignIn, format!("there is no profile '{name}'")) }
                    .hint("sign in with 'exops connect --app-id … --organization … --certificate-file-path …' (--lab for a lab), or set EXOPS_APP_ID, EXOPS_ORGANIZATION and EXOPS_CERTIFICATE"))
            }
            Err(e) => Err(file_failure("read", &path, &e)),
        }
    }

    /// Whether it is for a tenant, by id or domain.
    pub(crate) fn is_for(&self, tenant: &str) -> bool {
        tenant.eq_ignore_ascii_case(&self.organization) || tenant.eq_ignore_ascii_case(&self.tenant_id.to_string())
    }

    /// What the application's roles granted when the profile was made. Known of a lab only, whose role model is the
    /// built-in one, and not of another application, organisation or place that a variable puts in its place.
    pub(crate) fn rights(&self) -> Option<Rights> {
        let said = environment::said().ok()?;
        if said.app_id.is_some_and(|id| id != self.app_id) || said.organization.as_ref().is_some_and(|o| !self.is_for(o)) {
            return None;
        }
        if said.authority.is_some() || said.endpoint.is_some() {
            let mut endpoint = session::endpoint(&self.endpoint, &self.organization, None).ok()?;
            if session::redirect(&mut endpoint, &said).ok()?.is_some() {
                return None;
            }
        }
        let is_lab = matches!(self.endpoint, SavedEndpoint::Lab { .. } | SavedEndpoint::Fixed { lab: true, .. });
        let rights = RoleModel::built_in().rights(&Caller {
            tenant: TenantId(self.tenant_id),
            principal: Principal::Application(Application {
                app_id: self.app_id,
                object_id: Uuid::nil(),
                display_name: String::new(),
                app_roles: self.app_roles.clone(),
                directory_roles: self.directory_roles.clone(),
            }),
            client_address: String::new(),
        });
        Some(rights).filter(|r| is_lab && !r.is_empty())
    }

    /// Writes a profile.
    pub(crate) fn save(&self, name: &str) -> Result<(), Failure> {
        path(name)?;
        self.save_in(&places::profiles()?, name)
    }

    /// Writes a profile into a folder in one step, readable by its owner only.
    pub(crate) fn save_in(&self, folder: &Path, name: &str) -> Result<(), Failure> {
        let path = folder.join(format!("{name}.toml"));
        let text =
            toml::to_string_pretty(self).map_err(|e| Failure::new(Exit::Unexpected, format!("the profile cannot be written: {e}")))?;
        let written = fs::create_dir_all(folder).and_then(|()| {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(text.as_bytes())?;
            file.persist(&path).map_err(|e| e.error).map(drop)
        });
        written.map_err(|e| file_failure("write", &path, &e))
    }

    /// Removes a profile; `false` where there was none.
    pub(crate) fn remove(name: &str) -> Result<bool, Failure> {
        let path = path(name)?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(file_failure("remove", &path, &e)),
        }
    }

    /// Names of all profiles.
    pub(crate) fn names() -> Result<Vec<String>, Failure> {
        let folder = places::profiles()?;
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(file_failure("read", &folder, &e)),
        };
        let mut names: Vec<String> =
            entries.filter_map(|e| e.ok()?.file_name().into_string().ok()?.strip_suffix(".toml").map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }
}

/// A profile whose text is none: the line, and the key that an unknown one may stand for.
fn unreadable(path: &Path, text: &str, error: &toml::de::Error) -> Failure {
    let message = error.message();
    // A table is read whole before its keys are judged: its span begins at its heading, so the key itself is sought.
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = if message.starts_with("unknown field") { names.next() } else { None };
    let of_key = unknown.and_then(|key| text.lines().position(|l| l.split('=').next().is_some_and(|k| k.trim() == key)));
    let of_span = || Some(text.get(..error.span()?.start)?.matches('\n').count());
    let place = of_key.or_else(of_span).map(|line| format!(", line {}", line + 1)).unwrap_or_default();
    let question = unknown.map(|key| suggest::question(&suggest::near(key, names), "")).filter(|q| !q.is_empty());
    let hint = question.map_or_else(String::new, |q| format!("{q} Or ")) + "connect again to write it anew";
    Failure::new(Exit::Unexpected, format!("the profile {}{place} cannot be read: {message}", path.display())).hint(hint)
}

fn path(name: &str) -> Result<PathBuf, Failure> {
    let good = !name.is_empty()
        && name.len() <= 100
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !name.starts_with('.');
    if !good {
        return Err(Failure::usage(format!("'{name}' is no name for a profile")).hint("letters, digits, '-', '_' and '.'"));
    }
    Ok(places::profiles()?.join(format!("{name}.toml")))
}

/// A file that cannot be used.
pub(crate) fn file_failure(action: &str, path: &Path, error: &std::io::Error) -> Failure {
    let (path, reason) = (path.display(), crate::io_reason(error));
    let hint = match error.kind() {
        ErrorKind::IsADirectory => "name a file in it",
        ErrorKind::StorageFull => "make room on that disk",
        ErrorKind::ReadOnlyFilesystem => "choose a place that can be written",
        _ => "check that the path exists and that you may use it",
    };
    Failure { code: FILE.to_owned(), ..Failure::new(Exit::Unexpected, format!("cannot {action} {path}: {reason}")) }.hint(hint)
}
