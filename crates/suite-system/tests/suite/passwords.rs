//! User mailboxes with their passwords: from the program over both transports, from pypsrp, and sealed by a program of others.

use std::process::Stdio;

use exops_testkit::openssl as openssl_is_there;
use serde_json::Value;

use crate::cli::Prepared;
use crate::counterparts::{prepared, step};
use crate::program::{Run, interop};

const PASSWORD: &str = "canary Pass-w\u{f6}rd 1";
const WEAK: &str = "canary-weak";

#[test]
fn the_program_creates_user_mailboxes() {
    if openssl_is_there().is_none() {
        return;
    }
    let prepared = Prepared::connected();
    let home = &prepared.lab.home;
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).expect("a file");
        format!("@{}", path.display())
    };
    let (good, weak, empty) = (file("good", &format!("{PASSWORD}\r\nmore\n")), file("weak", WEAK), file("empty", "\n"));
    let organization = prepared.lab.text("organization").to_owned();
    let mut said = String::new();
    let mut hear = |run: Run| {
        said.push_str(&run.stdout);
        said.push_str(&run.stderr);
        run
    };
    for transport in ["rest", "rps"] {
        let id = format!("new.{transport}@{organization}");
        let new = |name: &str, id: &str, password: &[&str]| {
            let words = ["run", "New-Mailbox", "-Name", name, "-MicrosoftOnlineServicesID", id];
            home.exops(&[&["-vv", "--transport", transport, "-o", "json"], &words[..], password].concat())
        };
        let made = hear(new(&format!("New {transport}"), &id, &["-Password", &good])).exits(0).json();
        let of = |mailbox: &Value, name: &str| mailbox[0][name].as_str().unwrap_or_default().to_owned();
        assert_eq!(of(&made, "UserPrincipalName"), id, "{made}");
        let found = prepared.run(&["Get-Mailbox", &id, "-o", "json"]).exits(0).json();
        let expected = [("RecipientTypeDetails", "UserMailbox"), ("Alias", &format!("new.{transport}")), ("PrimarySmtpAddress", &id)];
        for (name, value) in expected {
            assert_eq!(of(&found, name), value, "{name}");
        }
        // From standard input, through --params, and glued.
        let mut child = home
            .command(&["run", "New-Mailbox", "-Name", "Piped", "-MicrosoftOnlineServicesID", &format!("piped.{transport}@{organization}")])
            .args(["--transport", transport, "-Password", "@-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut input = child.stdin.take().expect("its input");
        std::io::Write::write_all(&mut input, format!("{PASSWORD}\n").as_bytes()).expect("it reads");
        drop(input);
        let piped = hear(Run::of(child.wait_with_output().expect("it ends")));
        assert!(transport != "rest" || piped.stderr.is_empty(), "{}", piped.stderr);
        if transport == "rest" {
            piped.exits(0);
        } else {
            // The name is taken by the first one.
            piped.exits(3);
        }
        let params = format!("{{\"Password\": \"{good}\"}}");
        hear(new(&format!("Params {transport}"), &format!("params.{transport}@{organization}"), &["--params", &params])).exits(0);
        hear(new(&format!("Glued {transport}"), &format!("glued.{transport}@{organization}"), &[&format!("-Password:{good}")])).exits(0);

        // What is refused, and nothing is made.
        let other = format!("other.{transport}@{organization}");
        let table: [(&[&str], i32, &[&str]); 8] = [
            (&["-Password", &weak], 3, &["password doesn't meet the requirements"]),
            (&["-Password", "literal-secret"], 2, &["-Password is not taken from the command line", "@FILE"]),
            (&["-Pass:literal-secret"], 2, &["-Password is not taken from the command line"]),
            (&["--params", "{\"password\": \"literal-secret\"}"], 2, &["-Password is not taken from the command line"]),
            (&["-Password"], 2, &["nobody can be asked"]),
            (&["-Password", &empty], 2, &["holds no value for -Password"]),
            (&["-Password", "@/nonexistent"], 1, &["/nonexistent", "no such file"]),
            (&["-Shared", "-Password", &good], 2, &["Parameter set cannot be resolved"]),
        ];
        for (words, exit, parts) in table {
            let run = hear(new("Other", &other, words));
            assert_eq!(run.code, exit, "{transport} {words:?}: {}", run.stderr);
            assert!(parts.iter().all(|part| run.stderr.contains(part)), "{words:?}: {}", run.stderr);
            assert!(!run.stderr.contains("literal-secret"), "{}", run.stderr);
        }
        for (id, part) in [("nobody", "must be a user name"), ("x@elsewhere.example", "elsewhere.example"), (&id, "already")] {
            let run = hear(new("Other", id, &["-Password", &good]));
            assert_eq!(run.code, 3, "{transport} {id}: {}", run.stderr);
            assert!(run.stderr.contains(part), "{id}: {}", run.stderr);
        }
        assert_eq!(prepared.run(&["Get-Mailbox", &other]).code, 3, "it was made all the same");
    }
    // In the trail there are the names, and no password; nor anywhere else.
    let trail = hear(prepared.run(&["Search-AdminAuditLog", "-Cmdlets", "New-Mailbox", "-o", "json"])).exits(0);
    assert!(trail.stdout.contains("MicrosoftOnlineServicesID") && trail.stdout.contains("Password"), "{}", trail.stdout);
    assert!(!said.contains("canary"), "a password was said");
    let data = prepared.lab.data();
    let home_kept = prepared.lab.kill();
    for entry in std::fs::read_dir(data).expect("the data") {
        let bytes = std::fs::read(entry.expect("a file").path()).unwrap_or_default();
        assert!(!bytes.windows(6).any(|w| w == b"canary"), "a password is on disk");
    }
    drop(home_kept);
}

#[test]
fn pypsrp_and_a_sealed_secret() {
    let Some((python, lab, application)) = prepared() else { return };
    let steps = interop(&python, "counterpart_password.py", &lab, &application, &["--password", PASSWORD, "--weak", WEAK]);
    let organization = lab.text("organization");
    assert_eq!(step(&steps, "pypsrp")["names"], serde_json::json!([format!("pypsrp@{organization}")]), "{steps:#?}");
    let weak = step(&steps, "pypsrp weak");
    assert!(weak["failed"] == true && weak["names"] == serde_json::json!([]), "{weak}");
    let file = step(&steps, "module file");
    assert_eq!((&file["status"], &file["name"], &file["bits"]), (&200.into(), &"ExchangeOnline.psm1".into(), &2048.into()));
    let made = step(&steps, "rest");
    assert_eq!((&made["status"], &made["names"]), (&200.into(), &serde_json::json!([format!("rest@{organization}")])), "{made}");
    for refused in ["rest weak", "rest plain", "rest other"] {
        let refused = step(&steps, refused);
        assert_eq!(refused["status"], 400, "{refused}");
        assert!(!refused.to_string().contains("canary"), "{refused}");
    }
}
