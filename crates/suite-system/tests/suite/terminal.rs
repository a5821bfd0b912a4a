//! What a person at a terminal sees and is asked, through a pseudo-terminal; and that nothing of it is in a pipe.

use std::fs;
use std::process::{Command, Stdio};

use exops_auth::{issue, pfx};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::cli::{Prepared, now};
use crate::program::{Home, root};

/// What was typed and when: the text to wait for, and what is typed then.
type Typed<'a> = &'a [(&'a str, &'a str)];

/// More words, variables, and where standard output goes.
type Silent<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], Option<&'a str>);

pub(crate) struct Session {
    pub(crate) code: i64,
    pub(crate) screen: String,
    /// Whether the terminal shows what is typed: at every stop, and at the end.
    echo: Value,
}

/// Runs the program at a terminal; standard output goes into `output` where that is given. `None` without Python.
fn at_terminal(home: &Home, words: &[&str], more: &[(&str, &str)], output: Option<&str>, typed: Typed<'_>) -> Option<Session> {
    acting(home.command(words).envs(more.iter().copied()), output, &json!(typed))
}

/// The same for any program, and where not everything is typed: see `interop/terminal.py`.
pub(crate) fn acting(command: &Command, output: Option<&str>, acts: &Value) -> Option<Session> {
    let mut environment: serde_json::Map<String, Value> =
        ["PATH", "HOME"].iter().filter_map(|n| Some(((*n).to_owned(), std::env::var(n).ok()?.into()))).collect();
    environment.insert("TERM".to_owned(), "xterm".into());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            environment.insert(name.to_string_lossy().into_owned(), value.to_string_lossy().into());
        }
    }
    let line: Vec<String> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(|w| w.to_string_lossy().into_owned()).collect();
    let given = json!({"command": line, "environment": environment, "output": output, "type": acts});
    let python = std::env::var_os("EXOPS_PYTHON").unwrap_or_else(|| "python3".into());
    let run = Command::new(&python).arg(root().join("interop/terminal.py")).arg(given.to_string()).stdin(Stdio::null()).output();
    assert!(run.is_ok() || std::env::var("CI").as_deref() != Ok("true"), "with CI=true {} must be there", python.display());
    let run = run.ok()?;
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let told: Value = serde_json::from_slice(&run.stdout).expect("JSON");
    let screen = told["screen"].as_str().unwrap_or_default().to_owned();
    assert_eq!(told["untyped"], 0, "{command:?} did not ask for everything:\n{screen}");
    Some(Session { code: told["code"].as_i64().unwrap_or_default(), screen, echo: told["echo"].clone() })
}

#[cfg(unix)]
#[test]
fn progress_and_questions() {
    let prepared = Prepared::connected();
    let home = &prepared.lab.home;
    let file = home.path().join("objects.jsonl").to_string_lossy().into_owned();
    let read = ["run", "Get-Recipient", "-ResultSize", "Unlimited"];
    let Some(seen) = at_terminal(home, &read, &[], Some(&file), &[]) else {
        println!("NOT RUN: pseudo-terminal: python3 is not there");
        return;
    };
    // Counted while it runs, and gone at the end.
    assert!(seen.code == 0 && seen.screen.contains("\r1 objects, ") && seen.screen.ends_with(" \r"), "{:?}", seen.screen);
    let objects = fs::read_to_string(&file).expect("the objects").lines().count();
    assert!(objects > 200, "{objects}");
    let silent: &[Silent<'_>] = &[
        (&["--quiet"], &[], Some(&file)),
        (&["--progress", "none"], &[], Some(&file)),
        (&[], &[("TERM", "dumb")], Some(&file)),
        // The objects themselves show how far it is.
        (&["-o", "json"], &[], None),
    ];
    for (more, variables, output) in silent {
        let seen = at_terminal(home, &[&read[..], more].concat(), variables, *output, &[]).expect("python");
        assert!(seen.code == 0 && !seen.screen.contains(" objects, "), "{more:?} {variables:?}: {:?}", seen.screen);
        assert!(output.is_none() || seen.screen.is_empty(), "{more:?}: {:?}", seen.screen);
    }
    let piped = prepared.run(&read[1..]).exits(0);
    assert_eq!(piped.stderr, "");
    let told = prepared.run(&[&read[1..], &["--progress", "jsonl"]].concat()).exits(0);
    let last: Value = serde_json::from_str(told.stderr.lines().last().unwrap_or_default()).expect("JSON");
    assert_eq!(last["progress"]["objects"], objects);

    // An import says what it does and for how long, on a terminal alone, and takes it back; with what it is told in the end.
    let many = home.path().join("many.csv").to_string_lossy().into_owned();
    let rows = (0..20_000).map(|n| format!("Many {n},many{n}@contoso.com\n"));
    fs::write(&many, "Name,PrimarySmtpAddress\n".to_owned() + &rows.collect::<String>()).expect("a file");
    let data = prepared.lab.data().to_string_lossy().into_owned();
    let import = ["lab", "import", &many, "--noun", "Mailbox", "--dry-run", "--data", &data];
    let seen = at_terminal(home, &import, &[], None, &[]).expect("python");
    assert!(seen.code == 0 && seen.screen.contains("0.6 MB sent; the lab takes the objects in, "), "{:?}", seen.screen);
    assert!(seen.screen.ends_with(" \rwould import 20000 Mailbox\r\n"), "{:?}", seen.screen);
    for (more, variables) in [(&["--quiet"][..], &[][..]), (&[], &[("TERM", "dumb")])] {
        let seen = at_terminal(home, &[&import[..], more].concat(), variables, None, &[]).expect("python");
        assert_eq!((seen.code, &*seen.screen), (0, "would import 20000 Mailbox\r\n"), "{more:?}");
    }
    let piped = home.exops(&import).exits(0);
    assert_eq!((&*piped.stdout, &*piped.stderr), ("would import 20000 Mailbox\n", ""));

    // A question: what was answered is done, on both transports; in a pipe nothing is asked.
    let address = "ann.beebe@contoso.onmicrosoft.com";
    let held = || prepared.run(&["Get-Mailbox", address, "-o", "json"]).exits(0).json()[0]["CustomAttribute4"].clone();
    for transport in ["rest", "rps"] {
        let asking =
            |value: &'static str| ["run", "Set-Mailbox", address, "-CustomAttribute4", value, "-Confirm", "--transport", transport];
        let ask = |value: &'static str, typed: Typed<'_>| at_terminal(home, &asking(value), &[], None, typed).expect("python");
        prepared.run(&["Set-Mailbox", address, "-CustomAttribute4", "before"]).exits(0);
        let no = ask("no", &[("default is \"Y\"", "n\n")]);
        assert!(no.code != 130 && held() == "before", "{transport}: {}", no.screen);
        let odd = ask("yes", &[("default is \"Y\"", "perhaps\n"), ("default is \"Y\"", "y\n")]);
        assert!(odd.code == 0 && held() == "yes", "{transport}: {}", odd.screen);
        let stopped = ask("stopped", &[("default is \"Y\"", "\u{3}")]);
        assert!(stopped.code == 130 && held() == "yes", "{transport}: {} {}", stopped.code, stopped.screen);
        let nobody = home.exops(&asking("nobody")).exits(2);
        assert!(nobody.stderr.contains("-Confirm:false") && held() == "yes", "{transport}: {}", nobody.stderr);
    }
    // The password of a key file: asked for, not shown, not stored.
    let identity = issue::self_signed("CN=asked", 10, now()).expect("a certificate");
    let public = home.path().join("asked.crt").to_string_lossy().into_owned();
    fs::write(&public, identity.certificate.to_pem()).expect("a file");
    let key = home.path().join("asked.pfx").to_string_lossy().into_owned();
    fs::write(&key, pfx::write(&identity, Some(&"correct horse".into())).expect("a PFX").expose_secret()).expect("a file");
    let made = ["lab", "app", "create", "--name", "asked", "--certificate", &public, "--app-role", "Exchange.ManageAsApp", "--json"];
    let app = prepared.lab.exops(&[&made[..], &["--directory-role", "Global Reader"]].concat()).exits(0).json();
    let app = app["app_id"].as_str().expect("app_id").to_owned();
    let connect = ["connect", "--lab", "--app-id", &app, "--certificate-file-path", &key, "--profile", "asked"];
    let connect = |answer: &str| at_terminal(home, &connect, &[], None, &[("Password of ", answer)]).expect("python");
    let wrong = connect("wrong horse\n");
    assert!(wrong.code == 4 && wrong.screen.contains("the password is wrong") && !wrong.screen.contains("horse"), "{}", wrong.screen);
    let right = connect("correct horse\n");
    assert!(right.code == 0 && right.screen.contains("connected to") && !right.screen.contains("horse"), "{}", right.screen);
    let saved = fs::read_to_string(home.path().join("profiles/asked.toml")).expect("the profile");
    assert!(saved.contains("password = \"prompt\"") && !saved.contains("horse"), "{saved}");
    let nobody = home.exops(&["run", "Get-AcceptedDomain", "--profile", "asked"]).exits(4);
    assert!(
        nobody.stderr.contains("protected by a password") && nobody.stderr.contains("--certificate-password-file"),
        "{}",
        nobody.stderr
    );
}

/// Whoever interrupts the question for a password, by whatever means, has a terminal that shows what is typed.
#[cfg(unix)]
#[test]
fn an_interrupted_password() {
    let home = Home::new();
    let key = home.path().join("key.pfx").to_string_lossy().into_owned();
    let identity = issue::self_signed("CN=asked", 10, now()).expect("a certificate");
    fs::write(&key, pfx::write(&identity, Some(&"correct horse".into())).expect("a PFX").expose_secret()).expect("a file");
    let asks = "Password of ";
    let by = |name: &str| json!({"signal": name});
    let (resume, answer) = (json!({"resume": true}), json!("correct horse\n"));
    let table: &[(&str, Value, i64, Value)] = &[
        ("an answer", json!([[asks, answer]]), 0, json!([true])),
        ("corrected before Enter", json!([[asks, "wrong\u{15}correct horsy\u{7f}e\n"]]), 0, json!([true])),
        ("Ctrl-C", json!([[asks, "half\u{3}"]]), 130, json!([true])),
        ("Ctrl-\\", json!([[asks, "\u{1c}"]]), 130, json!([true])),
        ("Ctrl-D", json!([[asks, "\u{4}"]]), 4, json!([true])),
        ("kill", json!([[asks, by("TERM")]]), 130, json!([true])),
        ("hangup", json!([[asks, by("HUP")]]), 130, json!([true])),
        ("Ctrl-Z and on", json!([[asks, "half\u{1a}"], ["", resume], [asks, answer]]), 0, json!([true, true])),
        ("a signal to stop and on", json!([[asks, by("TSTP")], ["", resume], [asks, answer]]), 0, json!([true, true])),
        (
            "Ctrl-Z twice, Ctrl-C",
            json!([[asks, "\u{1a}"], ["", resume], [asks, "\u{1a}"], ["", resume], [asks, "\u{3}"]]),
            130,
            json!([true, true, true]),
        ),
    ];
    for (what, acts, code, echo) in table {
        let Some(seen) = acting(&home.command(&["cert", "import", &key, "--json"]), None, acts) else {
            println!("NOT RUN: pseudo-terminal: python3 is not there");
            return;
        };
        assert_eq!((seen.code, &seen.echo), (*code, echo), "{what}: {}", seen.screen);
        assert!(!seen.screen.contains("hors") && !seen.screen.contains("half"), "{what}: {}", seen.screen);
        assert_eq!(seen.screen.contains("\"thumbprint\""), *code == 0, "{what}: {}", seen.screen);
        assert!(*code != 4 || seen.screen.contains("was not read: no answer was given"), "{what}: {}", seen.screen);
    }
    // Nobody to ask: the question is not put, and it is said what else there is.
    let nobody = home.exops(&["cert", "import", &key]).exits(4);
    assert!(
        nobody.stderr.contains("protected by a password") && nobody.stderr.contains("--certificate-password-file"),
        "{}",
        nobody.stderr
    );
}
