//! Clients that others wrote against the scripted endpoint, and XPRESS against a reader that others wrote.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use exops_remoting::wsman::xpress;
use exops_testkit::python;
use serde_json::{Value, json};

use crate::counterparts::step;

/// The running binary; it is ended with the test.
pub(crate) struct Endpoint {
    pub(crate) process: Child,
    pub(crate) ready: PathBuf,
    _folder: tempfile::TempDir,
}

impl Endpoint {
    pub(crate) fn start() -> Self {
        Self::with_descriptors(None)
    }

    /// With no more than so many files and connections at once.
    pub(crate) fn with_descriptors(most: Option<u32>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready.json");
        let program = env!("CARGO_BIN_EXE_scripted-endpoint");
        let mut command = Command::new(if most.is_some() { "/bin/sh" } else { program });
        if let Some(most) = most {
            command.args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\""), program]);
        }
        let process = command.args(["--listen", "127.0.0.1:0", "--ready-file"]).arg(&ready).stdin(Stdio::null()).spawn().unwrap();
        let limit = Instant::now() + Duration::from_secs(60);
        while !ready.exists() {
            assert!(Instant::now() < limit, "the endpoint did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, ready, _folder: folder }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop").join(name)
}

#[test]
fn pypsrp_drives_every_command() {
    let Some(python) = python() else { return };
    let endpoint = Endpoint::start();
    let ready: Value = serde_json::from_slice(&std::fs::read(&endpoint.ready).unwrap()).unwrap();
    let keys: Vec<&str> = ready.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["powershell", "ca_file", "user", "password"]);
    let output = Command::new(python).arg(script("counterpart_scripted.py")).arg(&endpoint.ready).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let steps: Vec<(String, Value)> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|value| (value["step"].as_str().unwrap_or_default().to_owned(), value))
        .collect();

    let aliases: Vec<String> = (1..=7).map(|n| format!("user{n:06}")).collect();
    assert_eq!(step(&steps, "mailboxes")["output"], json!(aliases));
    assert!(step(&steps, "missing")["errors"][0].as_str().is_some_and(|text| text.contains("object 'missing.one' couldn't be found")));
    assert_eq!(step(&steps, "sleep")["output"].as_array().map(Vec::len), Some(1));
    assert_eq!(step(&steps, "input")["output"], json!([1, "two", [3, 4]]));
    assert_eq!(step(&steps, "value")["output"], json!([["x", 5]]));
    let streams = step(&steps, "streams");
    assert_eq!(streams["counts"], json!({"debug": 1, "verbose": 1, "warning": 1, "error": 1, "information": 1, "progress": 1}));
    assert_eq!((&streams["activities"], streams["output"].as_array().map(Vec::len)), (&json!([["Working", 50]]), Some(1)));
    assert_eq!(step(&steps, "host")["output"], json!(["typed here"]));
    let streamed = step(&steps, "streaming input");
    assert_eq!((&streamed["seen"], &streamed["output"]), (&json!(["first"]), &json!(["first", "second", "third"])));
    let secret = step(&steps, "get secret");
    assert_eq!((&secret["output"], &secret["types"]), (&json!(["p@ss w\u{f6}rd"]), &json!(["str"])));
    assert_eq!(step(&steps, "measure secret")["output"], json!([9]));
    assert_eq!(step(&steps, "flood")["counts"]["verbose"], 3000);
    for name in ["stopped sleep", "stopped flood"] {
        assert_eq!(step(&steps, name)["stopped"], true, "{name}");
    }
    assert_eq!(step(&steps, "after")["output"], json!(["user000001"]));
}

#[test]
fn lzxpress_reads_what_we_compress() {
    let Some(python) = python() else { return };
    let words = ["Get-Mailbox", "contoso.onmicrosoft.com", "\u{1F600}", "", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "<S N=\"Alias\">"];
    let mut plain = Vec::new();
    // Texts of all lengths around the borders of the symbol forms, and a whole chunk.
    for length in (1..400).chain([5_000, 0x1_0000]) {
        let text: String = words.iter().cycle().enumerate().map(|(n, word)| format!("{word}{}", n % 7)).take(length).collect();
        plain.push(text.into_bytes().into_iter().take(0x1_0000).collect::<Vec<u8>>());
        plain.push(vec![b'x'; length]);
    }
    let packed: Vec<Vec<u8>> = plain.iter().map(|data| xpress::compress(data)).collect();
    // A stored chunk says nothing about the encoder.
    let coded: Vec<(&[u8], &[u8])> = plain
        .iter()
        .zip(&packed)
        .filter_map(|(plain, packed)| {
            packed.split_at_checked(4).filter(|(sizes, _)| sizes[..2] != sizes[2..]).map(|(_, code)| (&**plain, code))
        })
        .collect();
    assert!(coded.len() > 700, "{}", coded.len());
    let mut child =
        Command::new(python).arg(script("counterpart_lzxpress.py")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines: Vec<String> = coded.iter().map(|(_, code)| code.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    let writer = std::thread::spawn(move || input.write_all((lines.join("\n") + "\n").as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let read = String::from_utf8(output.stdout).unwrap();
    assert_eq!(read.lines().count(), coded.len());
    for (line, (plain, _)) in read.lines().zip(coded) {
        let expected: String = plain.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(line == expected, "a chunk of {} bytes reads as something else", plain.len());
    }
}

/// What `interop/counterpart_pypsrp.py` tries against each of the two.
const THINGS: [&str; 17] = [
    "open with minimum and maximum of runspaces",
    "run",
    "input",
    "input as it comes",
    "stop",
    "stop before the end",
    "every stream",
    "host calls",
    "SecureString",
    "secrets of the host",
    "nested commands",
    "disconnect and reconnect",
    "connect from another process",
    "command metadata",
    "idle expiry",
    "quota fault",
    "small envelopes",
];

/// Runs the script; each line must be a pass. Answers the names.
fn passes(command: &mut Command) -> Vec<String> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let wrong: Vec<&str> = lines.lines().filter(|line| !line.starts_with("pass ")).collect();
    assert!(wrong.is_empty() && output.status.success(), "{wrong:#?} {}", String::from_utf8_lossy(&output.stderr));
    println!("{}", String::from_utf8_lossy(&output.stderr));
    lines.lines().map(|line| line.trim_start_matches("pass ").to_owned()).collect()
}

#[test]
fn pypsrp_does_all_it_can_here() {
    let Some(python) = python() else { return };
    let endpoint = Endpoint::start();
    let passed = passes(Command::new(python).arg(script("counterpart_pypsrp.py")).arg(&endpoint.ready));
    assert_eq!(passed, THINGS);
}

/// The client that succeeds pypsrp, with other habits.
#[test]
fn psrp_does_all_it_can_here() {
    let Some(python) = python() else { return };
    let endpoint = Endpoint::start();
    let passed = passes(Command::new(python).arg(script("counterpart_psrp.py")).arg(&endpoint.ready));
    let things = [
        "run",
        "input",
        "streams and host",
        "SecureString",
        "stop",
        "runspaces",
        "command metadata",
        "disconnect, reconnect, connect",
        "small envelopes",
        "many at once",
    ];
    assert_eq!(passed, things);
}

/// What no cmdlet of the lab has is left out there.
#[test]
fn pypsrp_does_all_it_can_in_the_lab() {
    let Some((python, lab, application)) = crate::counterparts::prepared() else { return };
    let mut command = Command::new(python);
    command.arg(script("counterpart_pypsrp.py")).arg("--ready").arg(lab.ready_file());
    let passed = passes(command.args(["--app-id", &application.app_id, "--certificate"]).arg(&application.pem));
    let absent = ["input as it comes", "stop", "every stream", "secrets of the host"];
    assert_eq!(passed, THINGS.into_iter().filter(|thing| !absent.contains(thing)).collect::<Vec<_>>());
}
