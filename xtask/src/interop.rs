//! The Python environment of the counterparts, pinned, under the target folder.

use std::path::PathBuf;

use crate::{Outcome, run};

/// Oldest Python that the pinned packages run on.
const PYTHON: (u32, u32) = (3, 9);

/// A missing prerequisite: what it is for, why it cannot be had, the line that installs it.
#[derive(Debug)]
pub(crate) struct Missing {
    pub(crate) name: &'static str,
    pub(crate) why: String,
}

fn missing(name: &'static str, why: impl Into<String>) -> Missing {
    Missing { name, why: why.into() }
}

/// The interpreter with msal, azure-identity and pypsrp, psrp in a folder beside it, installed when it is not there yet or the pins changed.
pub(crate) fn python() -> Result<PathBuf, Missing> {
    const NAME: &str = "msal, azure-identity, pypsrp and psrp";
    let check = format!("import sys, venv, ensurepip; sys.exit(sys.version_info < {PYTHON:?})");
    let system = ["python3", "python"].into_iter().find(|program| run::succeeds(program, &["-c", &check])).ok_or_else(|| {
        let (major, minor) = PYTHON;
        missing(
            NAME,
            format!(
                "no Python {major}.{minor} or newer with venv and ensurepip is in PATH: {}",
                install_line("python3 python3-venv", "python")
            ),
        )
    })?;
    let folder = run::target().join("interop");
    let venv = folder.join("venv");
    let python = venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let requirements = run::root().join("interop/requirements.txt");
    // Both come in one package: the second goes to a folder that its script puts in front.
    let (second, second_folder) = (run::root().join("interop/requirements-psrp.txt"), folder.join("psrp"));
    let read = |path| run::read(path).map_err(|why| missing(NAME, why));
    let wanted = format!("{}{}", read(&requirements)?, read(&second)?);
    // What is installed stands beside the environment; it is written last, so an interrupted installation is made again.
    let stamp = folder.join("requirements.installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted)
        && second_folder.join("psrp").is_dir()
        && run::succeeds(&python, &["-c", "import msal, azure.identity, pypsrp"])
    {
        return Ok(python);
    }
    let path = |path: &PathBuf| path.to_string_lossy().into_owned();
    const INSTALL: [&str; 6] = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"];
    let install = |more: &[&str]| run::command(&python, &[&INSTALL, more].concat());
    let steps = [
        run::command(system, &["-m", "venv", "--clear", &path(&venv)]),
        install(&["-r", &path(&requirements)]),
        install(&["--upgrade", "--target", &path(&second_folder), "-r", &path(&second)]),
        run::command(&python, &["-m", "pip", "--disable-pip-version-check", "check"]),
    ];
    for mut step in steps {
        run::run(&mut step).map_err(|why| missing(NAME, format!("{why}; it needs a Python package index in reach")))?;
    }
    std::fs::write(&stamp, wanted).map_err(|error| missing(NAME, format!("cannot write {}: {error}", stamp.display())))?;
    Ok(python)
}

/// openssl's command line.
pub(crate) fn openssl() -> Result<(), Missing> {
    match run::succeeds("openssl", &["version"]) {
        true => Ok(()),
        false => Err(missing("openssl", format!("it is not in PATH: {}", install_line("openssl", "openssl@3")))),
    }
}

/// The line that installs a system package here.
fn install_line(debian: &str, brew: &str) -> String {
    if cfg!(target_os = "macos") {
        return format!("brew install {brew}");
    }
    if run::succeeds("dnf", &["--version"]) {
        format!("sudo dnf install {}", debian.replace("python3-venv", "python3-pip"))
    } else {
        format!("sudo apt-get install {debian}")
    }
}

/// Measures the release build with a script of `interop`.
pub(crate) fn measure(script: &str, arguments: &[String]) -> Outcome {
    let python = python().map_err(|missing| format!("{}: {}", missing.name, missing.why))?;
    openssl().map_err(|missing| format!("{}: {}", missing.name, missing.why))?;
    run::run(&mut run::cargo(&["build", "--release", "--locked", "-p", "exops"]))?;
    let mut command = run::command(python, &[&format!("interop/{script}"), &*run::binary("release").to_string_lossy()]);
    run::run(command.args(arguments))
}
