//! Places that do not take or give what they should: a disk without room, a folder that is read-only, a key that is another
//! person's. What needs a namespace or another user says so where it cannot have one.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cli::{certificate, says};
use crate::program::{Home, PATIENCE, Run};

/// Who owns nothing.
const NOBODY: u32 = 65_534;
const ANN: &str = "ann.beebe@contoso.onmicrosoft.com";

/// The same command, run by another program.
fn within(by: &[&str], inner: &Command) -> Command {
    let [program, arguments @ ..] = by else { panic!("a program") };
    let mut command = Command::new(program);
    command.args(arguments).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(inner.get_current_dir().unwrap_or(Path::new("/")));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A disk of 16 MiB that only this test sees; it goes with the process that holds its namespace.
struct SmallDisk {
    holder: Child,
    pid: String,
}

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let script = "mount -t tmpfs -o size=16m tmpfs \"$0\" && echo mounted && exec sleep 900";
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(at);
        let mut holder = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take()?).read_line(&mut line).ok()?;
        let disk = Self { pid: holder.id().to_string(), holder };
        (line == "mounted\n" && disk.run(&Command::new("true")).is_some_and(|run| run.code == 0)).then_some(disk)
    }

    fn command(&self, inner: &Command) -> Command {
        let by = ["nsenter", "--user", "--preserve-credentials", "--mount", "--target", &self.pid, "--"];
        within(&by, inner)
    }

    fn run(&self, inner: &Command) -> Option<Run> {
        self.command(inner).output().ok().map(Run::of)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Kills what it holds.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was acknowledged stays; what has no room is refused by name; the lab answers on, and takes changes again once there is room.
#[test]
fn a_full_disk() {
    let home = Home::new();
    let place = home.path().join("disk");
    fs::create_dir(&place).expect("a folder");
    let Some(disk) = SmallDisk::mount(&place) else {
        println!("NOT RUN: a full disk needs unshare and nsenter with user namespaces");
        return;
    };
    let (data, ready) = (place.join("lab"), home.path().join("ready.json"));
    let data = data.to_str().expect("UTF-8 path");
    let exops = |words: &[&str]| disk.run(&home.command(words)).expect("it runs");
    let up = || {
        let _ = fs::remove_file(&ready);
        let words = ["lab", "up", "--listen", "127.0.0.1:0", "--data", data, "--ready-file", ready.to_str().expect("UTF-8 path")];
        let mut command = disk.command(&home.command(&words));
        let lab = Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"));
        let begun = Instant::now();
        while !ready.exists() {
            assert!(begun.elapsed() < PATIENCE, "no ready file");
            std::thread::sleep(Duration::from_millis(20));
        }
        lab
    };
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(&place);
        disk.run(&command).expect("it runs")
    };
    let set = |value: &str, transport: &str| exops(&["run", "Set-Mailbox", ANN, "-CustomAttribute1", value, "--transport", transport]);
    let read = || exops(&["run", "Get-Mailbox", ANN, "-o", "json"]).exits(0).json()[0]["CustomAttribute1"].clone();

    let lab = up();
    let (thumbprint, public) = certificate(&home, "full");
    let create = ["lab", "app", "create", "--data", data, "--name", "full", "--certificate", &public, "--app-role", "Exchange.ManageAsApp"];
    let made = exops(&[&create[..], &["--directory-role", "Exchange Administrator", "--json"]].concat()).exits(0).json();
    let app_id = made["app_id"].as_str().expect("app_id").to_owned();
    exops(&["connect", "--lab", "--data", data, "--app-id", &app_id, "--thumbprint", &thumbprint]).exits(0);
    set("before", "rest").exits(0);

    shell("cat /dev/zero > $0/fill");
    for transport in ["rest", "rps"] {
        let refused = set("lost", transport).exits(3);
        for part in ["Set-Mailbox was not carried out", "disk is full", "Free the disk"] {
            assert!(refused.stderr.contains(part), "{transport}: {part:?} is missing in:\n{}", refused.stderr);
        }
    }
    assert_eq!(read(), "before");
    let refused = exops(&["lab", "app", "create", "--data", data, "--name", "more"]);
    assert!(refused.code != 0 && refused.stderr.contains("disk is full"), "{}", refused.stderr);
    let reset = exops(&["lab", "reset", "--data", data]).exits(1);
    says(&reset, &["the organisation is as it was", "disk is full", "make room"]);
    let other = place.join("other");
    let another = exops(&["lab", "up", "--listen", "127.0.0.1:0", "--data", other.to_str().expect("UTF-8 path")]).exits(1);
    says(&another, &["make room on that disk", "--data"]);
    assert_eq!(read(), "before");

    shell("rm $0/fill");
    set("after", "rps").exits(0);
    drop(lab);
    let _lab = up();
    exops(&["connect", "--lab", "--data", data, "--app-id", &app_id, "--thumbprint", &thumbprint]).exits(0);
    assert_eq!(read(), "after");
}

/// The user whom file modes bind: this one, or nobody where this one is root. `None` where there is no way to be nobody.
fn bound_by_modes(home: &Home) -> Option<Vec<&'static str>> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let by: Vec<&str> = if root {
        chown(home.path(), Some(NOBODY), Some(NOBODY)).ok()?;
        vec!["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    } else {
        vec!["env"]
    };
    // The binary may lie where only root may look.
    within(&by, &home.command(&["--version"])).output().is_ok_and(|output| output.status.success()).then_some(by)
}

#[test]
fn without_permission() {
    let home = Home::new();
    let Some(by) = bound_by_modes(&home) else {
        println!("NOT RUN: files without permission need setpriv, or a user who is not root");
        return;
    };
    let exops = |words: &[&str]| Run::of(within(&by, &home.command(words)).output().expect("it runs"));
    let path = |name: &str| home.path().join(name).to_string_lossy().into_owned();
    let forbid = |path: &str, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");

    // A key that may not be read.
    let key = path("key.pem");
    let identity = exops_auth::issue::self_signed("CN=closed", 10, crate::cli::now()).expect("a certificate");
    fs::write(&key, secrecy::ExposeSecret::expose_secret(&exops_auth::pem::write_identity(&identity))).expect("a file");
    forbid(&key, 0o000);
    let app = "11111111-2222-3333-4444-555555555555";
    let connect = ["connect", "--app-id", app, "--organization", "contoso.onmicrosoft.com", "--certificate-file-path", &key];
    says(&exops(&connect).exits(4), &["key.pem", "permission denied"]);
    says(&exops(&["cert", "import", &key]).exits(4), &["key.pem", "permission denied"]);

    // A data folder that may not be written: a new one, and one that holds a lab.
    let (closed, used) = (path("closed"), path("used"));
    fs::create_dir(&closed).expect("a folder");
    forbid(&closed, 0o555);
    let up = |data: &str| exops(&["lab", "up", "--listen", "127.0.0.1:0", "--data", data]);
    says(&up(&closed).exits(1), &[&closed, "ermission denied", "--data"]);
    says(&up(&format!("{closed}/below")).exits(1), &[&closed, "ermission denied", "--data"]);
    fs::create_dir(&used).expect("a folder");
    fs::write(format!("{used}/lock"), "").expect("a file");
    forbid(&format!("{used}/lock"), 0o666);
    forbid(&used, 0o555);
    says(&up(&used).exits(1), &[&used, "ermission denied", "--data"]);
    // A configuration that may not be read.
    fs::create_dir_all(home.path().join("profiles")).expect("a folder");
    fs::write(home.path().join("profiles/closed.toml"), "").expect("a file");
    forbid(&path("profiles/closed.toml"), 0o000);
    says(&exops(&["--profile", "closed", "status"]).exits(1), &["closed.toml", "permission denied"]);
}
