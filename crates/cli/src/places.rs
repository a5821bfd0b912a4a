//! Where files are: XDG on Linux, Application Support on macOS, AppData on Windows; `EXOPS_HOME` overrides all.

use std::env;
use std::path::PathBuf;

use crate::exit::Exit;
use crate::failure::Failure;

/// Folder of the profiles.
pub(crate) fn profiles() -> Result<PathBuf, Failure> {
    Ok(match home_override() {
        Some(home) => home.join("profiles"),
        None => platform("XDG_CONFIG_HOME", ".config")?.join("profiles"),
    })
}

/// Data folder of the lab.
pub(crate) fn lab_data() -> Result<PathBuf, Failure> {
    Ok(match home_override() {
        Some(home) => home.join("lab"),
        None => platform("XDG_DATA_HOME", ".local/share")?.join("lab"),
    })
}

/// Root of the certificate store: `EXOPS_HOME` or the home directory; the store's own folders are below it.
pub(crate) fn certificate_store_home() -> Result<PathBuf, Failure> {
    home_override().map_or_else(home, Ok)
}

fn home_override() -> Option<PathBuf> {
    env::var_os("EXOPS_HOME").filter(|v| !v.is_empty()).map(PathBuf::from)
}

fn home() -> Result<PathBuf, Failure> {
    env::home_dir()
        .filter(|h| !h.as_os_str().is_empty())
        .ok_or_else(|| Failure::new(Exit::Unexpected, "there is no home directory").hint("set EXOPS_HOME to a folder of your own"))
}

fn platform(variable: &str, below_home: &str) -> Result<PathBuf, Failure> {
    let base = if cfg!(target_os = "macos") {
        home()?.join("Library/Application Support")
    } else if cfg!(windows) {
        env::var_os("APPDATA").map_or_else(|| home().map(|h| h.join("AppData/Roaming")), |v| Ok(PathBuf::from(v)))?
    } else {
        match env::var_os(variable).map(PathBuf::from).filter(|p| p.is_absolute()) {
            Some(base) => base,
            None => home()?.join(below_home),
        }
    };
    Ok(base.join("exops"))
}
