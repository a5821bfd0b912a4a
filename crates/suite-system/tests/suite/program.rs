//! The built program and a lab that it runs, as a person would use them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long a lab may take until it accepts requests, and to end; a large one fills its organisation first.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// What a run of the program left.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        Self { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Itself, when the exit code is this one.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code; standard output:\n{}\nstandard error:\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in:\n{}\nstandard error:\n{}", self.stdout, self.stderr))
    }
}

/// A folder that stands for a person's: configuration, certificate store and default data folder lie in it.
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder for the test") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The program with these arguments; what the environment of the test says to it is taken away.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("EXOPS_") || name.starts_with("AZURE_") || name.to_ascii_lowercase().ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        command.args(arguments).env("EXOPS_HOME", self.path()).env("HOME", self.path()).env("NO_COLOR", "1");
        command.current_dir(self.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn exops(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().expect("the program starts"))
    }
}

/// The built program. `cargo xtask test` names one that it built; otherwise cargo builds it now, so that no test meets an old one.
fn binary() -> PathBuf {
    static BINARY: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    BINARY
        .get_or_init(|| {
            if let Some(path) = std::env::var_os("EXOPS_BINARY") {
                return path.into();
            }
            let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            let status = build.args(["build", "--quiet", "--locked", "-p", "exops"]).current_dir(root()).status();
            assert!(status.is_ok_and(|status| status.success()), "cargo build -p exops");
            let own = std::env::current_exe().expect("path of the test");
            let folder = own.ancestors().nth(2).expect("target/debug/deps/suite").to_path_buf();
            folder.join(format!("exops{}", std::env::consts::EXE_SUFFIX))
        })
        .clone()
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/suite-system").to_path_buf()
}

/// An application that was registered in a lab.
pub(crate) struct Application {
    pub(crate) app_id: String,
    /// PEM file with its certificate and key, written by openssl.
    pub(crate) pem: PathBuf,
}

/// A running `exops lab up` with a home of its own.
pub(crate) struct LabProgram {
    pub(crate) home: Home,
    pub(crate) ready: Value,
    child: Child,
}

impl LabProgram {
    /// Starts a lab on a port that the system chooses and waits for its ready file.
    pub(crate) fn start() -> Self {
        Self::start_in(Home::new(), &[])
    }

    /// The same with more options, in a home that may hold the data of an earlier one (`<home>/lab`).
    pub(crate) fn start_in(home: Home, options: &[&str]) -> Self {
        let data = home.path().join("lab");
        let ready_file = data.join("ready.json");
        let _ = std::fs::remove_file(&ready_file);
        let mut arguments = vec!["lab", "up", "--listen", "127.0.0.1:0", "--data", data.to_str().expect("UTF-8 path")];
        arguments.extend(options);
        let log = std::fs::File::create(home.path().join("lab.log")).expect("a file for the lab's messages");
        let mut command = home.command(&arguments);
        let mut child = command.stdout(Stdio::null()).stderr(log).spawn().expect("the lab starts");
        let begun = Instant::now();
        let ready = loop {
            if let Ok(text) = std::fs::read_to_string(&ready_file) {
                break serde_json::from_str(&text).expect("the ready file is JSON, whole from the first moment");
            }
            let ended = child.try_wait().expect("state of the lab");
            let log = || std::fs::read_to_string(home.path().join("lab.log")).unwrap_or_default();
            assert!(ended.is_none(), "the lab ended with {ended:?}:\n{}", log());
            assert!(begun.elapsed() < PATIENCE, "no ready file after {PATIENCE:?}:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        };
        Self { home, ready, child }
    }

    /// A key of the ready file that holds text.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.ready[key].as_str().unwrap_or_else(|| panic!("'{key}' in the ready file"))
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.path().join("lab")
    }

    pub(crate) fn ready_file(&self) -> PathBuf {
        self.data().join("ready.json")
    }

    /// Runs `exops <words> --data <the lab's>`.
    pub(crate) fn exops(&self, arguments: &[&str]) -> Run {
        let data = self.data();
        self.home.exops(&[arguments, &["--data", data.to_str().expect("UTF-8 path")]].concat())
    }

    /// Registers an application with a certificate of openssl's making and these directory roles.
    pub(crate) fn application(&self, name: &str, directory_roles: &[&str]) -> Application {
        let (certificate, pem) = openssl_certificate(self.home.path(), name);
        let path = certificate.to_string_lossy().into_owned();
        let mut arguments = vec!["lab", "app", "create", "--name", name, "--certificate", &path, "--app-role", "Exchange.ManageAsApp"];
        for role in directory_roles {
            arguments.extend(["--directory-role", role]);
        }
        let made = self.exops(&[&arguments[..], &["--json"]].concat()).exits(0).json();
        Application { app_id: made["app_id"].as_str().expect("app_id").to_owned(), pem }
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) -> Home {
        self.child.kill().expect("the lab is killed");
        self.child.wait().expect("the lab ends");
        std::mem::replace(&mut self.home, Home::new())
    }
}

impl Drop for LabProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.home.path().join("lab.log")).unwrap_or_default();
            let _ = writeln!(std::io::stderr(), "the lab said:\n{log}");
        }
    }
}

/// A certificate and a file with certificate and key, both PEM, made by openssl.
pub(crate) fn openssl_certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key, both) =
        (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")), folder.join(format!("{name}.pem")));
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let subject = format!("/CN={name}");
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-noenc",
        "-days",
        "30",
        "-subj",
        &subject,
        "-keyout",
        &path(&key),
        "-out",
        &path(&certificate),
    ]);
    let read = |path| std::fs::read_to_string(path).expect("what openssl wrote");
    std::fs::write(&both, read(&certificate) + &read(&key)).expect("one file of both");
    (certificate, both)
}

/// Runs openssl and gives back its standard output.
pub(crate) fn openssl(arguments: &[&str]) -> String {
    let run = Run::of(Command::new("openssl").args(arguments).stdin(Stdio::null()).output().expect("openssl starts"));
    run.exits(0).stdout
}

/// Runs a script of `interop/` against a lab and gives back its lines of JSON by their `step`, in order.
pub(crate) fn interop(python: &Path, script: &str, lab: &LabProgram, application: &Application, more: &[&str]) -> Vec<(String, Value)> {
    let (ready, pem) = (lab.ready_file(), application.pem.as_os_str().to_owned());
    let mut command = Command::new(python);
    command.arg(root().join("interop").join(script)).arg("--ready").arg(ready).arg("--app-id").arg(&application.app_id);
    command.arg("--certificate").arg(pem).args(more).env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    let run = Run::of(command.output().expect("python starts")).exits(0);
    let line = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        (value["step"].as_str().unwrap_or_default().to_owned(), value)
    };
    run.stdout.lines().map(line).collect()
}
