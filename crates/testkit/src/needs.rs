//! Things that a test needs from outside the repository.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Says that a test, or a part of one, was not run: a line that `cargo xtask test` lists.
#[allow(clippy::print_stdout, reason = "the line is read from the test's standard output")]
pub fn not_run(name: &str, why: &str) {
    println!("NOT RUN: {name}: {why}");
}

/// A folder of recorded samples, or `None` after saying so.
#[must_use]
pub fn samples(folder: &str) -> Option<PathBuf> {
    let found = std::env::var_os("EXOPS_SAMPLES").map(|samples| PathBuf::from(samples).join(folder)).filter(|path| path.is_dir());
    if found.is_none() {
        not_run(&format!("samples/{folder}"), "EXOPS_SAMPLES names no folder that holds it");
    }
    found
}

/// The Python interpreter that has msal, azure-identity and pypsrp, with psrp in a folder beside it, or `None` after saying so.
///
/// # Panics
/// With `CI=true`, where every counterpart must be there.
#[must_use]
pub fn python() -> Option<PathBuf> {
    counterpart(
        "msal, azure-identity, pypsrp and psrp",
        std::env::var_os("EXOPS_PYTHON").map(PathBuf::from),
        "EXOPS_PYTHON is not set: use `cargo xtask test`",
    )
}

/// openssl's command line, or `None` after saying so.
///
/// # Panics
/// With `CI=true`, where every counterpart must be there.
#[must_use]
pub fn openssl() -> Option<PathBuf> {
    let mut version = Command::new("openssl");
    version.arg("version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let found = version.status().is_ok_and(|status| status.success()).then(|| PathBuf::from("openssl"));
    counterpart("openssl", found, "it is not in PATH")
}

fn counterpart(name: &str, found: Option<PathBuf>, why: &str) -> Option<PathBuf> {
    if found.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "with CI=true the counterpart {name} must be there: {why}");
        not_run(name, why);
    }
    found
}
