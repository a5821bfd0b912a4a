//! A client that sends PowerShell's recorded requests and reads the answers with its rules. It is not PowerShell.

use std::process::{Command, Stdio};

use exops_testkit::python;
use serde_json::{Value, json};

use crate::counterparts::{prepared, some_mailbox, step};
use crate::program::interop;
use crate::scripted_endpoint::{Endpoint, script};

/// Whether the recordings are there.
fn recorded() -> bool {
    let there = std::env::var_os("EXOPS_SAMPLES").is_some();
    if !there {
        println!("NOT RUN: PowerShell-shaped client: EXOPS_SAMPLES names no folder of recordings");
    }
    there
}

/// Every recording with the commands that it was made with: what goes wrong in the shape of an answer, the script says itself.
#[test]
fn every_recording_is_answered_as_powershell_needs_it() {
    let Some(python) = python().filter(|_| recorded()) else { return };
    let endpoint = Endpoint::start();
    let mut command = Command::new(python);
    let output = command.arg(script("powershell_recorded.py")).arg(&endpoint.ready).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Vec<Value> = String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = [
        json!({"step": "01", "selected": ["Alias", "PrimarySmtpAddress"]}),
        json!({"step": "02", "states": [4, 5], "counted": "0", "failed": ["CommandNotFoundException"]}),
        json!({"step": "04", "bound": [
            {"Flag": "B true"},
            {"Flag": "B false", "Confirm": "B false"},
            {"Identity": "S a", "Name": "S b"},
            {"List": ["S a", "S b"], "Table": {"Add": ["S x", "S y"]}, "Name": "Nil"},
            {"Name": "SBK Alias -eq 'x'", "When": "DT 2026-01-02T03:04:05+00:00", "Id": "G 00000000-0000-0000-0000-000000000000", "ErrorAction": "S Stop"},
            {"Id": "I32 10485760", "List": ["S a", "S b"], "Flag": "B true"},
        ]}),
        json!({"step": "05", "states": [4, 4], "first": "p1", "null": true, "last": "x",
            "types": ["System.Management.Automation.PSCustomObject", "System.Object"]}),
        // Debug, verbose, warning, information, progress, error, output.
        json!({"step": "06", "counts": [1, 1, 1, 1, 1, 1, 1], "details": "details message", "action": "do this", "activity": "Get-Mailbox",
            "shown": ["both ways"], "merged": [1, 0], "failed": ["CommandNotFoundException", "ScriptsNotAllowed"]}),
        json!({"step": "07", "state": 3, "id": "PipelineStopped", "category": "14", "kind": "System.Management.Automation.PipelineStoppedException"}),
        // Host calls by number, and whether they want an answer; the key is asked for once, before the first secret.
        json!({"step": "08", "states": [4, 4, 4, 4, 4, 4], "key_requests": 1, "line": ["alice"], "secure": ["secure(secret)"], "choice": ["0"],
            "asked": [[[11, true]], [[12, true]], [[26, true]], [[23, true]], [[24, true]], [[17, false], [22, false]]],
            "prompt": {"Name": "S nm"}, "credential": ["bob", "secure(pw)"]}),
        json!({"step": "09", "written": [[16, ""], [16, "Identity"], [16, "--------"], [16, "a"], [16, "3"]], "output": 0,
            "leaving": [[[53, -100, ""]], 4]}),
        json!({"step": "secrets", "got": ["p@ss w\u{f6}rd"], "measured": ["9"], "credential": ["bob", "hidden"], "requests": 1}),
        json!({"step": "values", "back": ["I32 5", "TS P1DT2H", "URI https://contoso.com/a?b=c", "G 7f2e3d5e-0f54-4a5e-9c5d-9e5f2f6f8a11",
            "Version 1.2.3", "By 7", "C 65", "D 1.20", "Nil"]}),
        json!({"step": "input", "back": ["a", null, "3"]}),
        json!({"step": "a token that is none", "status": 401, "after": [4, 2]}),
    ];
    let (last, others) = told.split_last().unwrap();
    for (told, expected) in others.iter().zip(&expected) {
        assert_eq!(told, expected);
    }
    assert_eq!(others.len(), expected.len());
    // Its Receives may wait for half a second, its command takes three.
    assert!(last["silent"].as_u64().is_some_and(|silent| (3..=6).contains(&silent)), "{last}");
    assert_eq!((&last["output"], &last["state"]), (&json!(["slept 3 seconds"]), &json!(4)));
}

#[test]
fn a_client_shaped_like_powershell_gets_what_it_reads() {
    if !recorded() {
        return;
    }
    let Some((python, lab, application)) = prepared() else { return };
    let mailbox = some_mailbox(&lab, &application);
    let steps = interop(&python, "powershell_shaped.py", &lab, &application, &["--identity", &mailbox]);
    let import = step(&steps, "import");
    assert_eq!((&import["names"], &import["errors"]), (&json!(["Set-Mailbox"]), &json!(1)), "alice does not exist: {import}");
    assert_eq!(import["states"], json!([4, 4]));
    let format = step(&steps, "format data");
    assert_eq!(format["same"], json!(true));
    assert!(format["views"].as_u64().is_some_and(|views| views >= 5), "{format}");
    assert!(format["states"].as_array().is_some_and(|states| states.iter().take(3).all(|state| state == 4)), "{format}");
    // The import is answered with no command, then every call of a proxy fails.
    assert_eq!(step(&steps, "unknown")["states"], json!([4, 5]));
    assert_eq!(step(&steps, "refused"), &json!({"step": "refused", "script": true, "unknown": true}));
    // Their cmdlets are unknown here as well; what was piped in or stopped after that does no harm.
    assert_eq!(step(&steps, "05-pipeline-input.txt")["states"], json!([4, 5]));
    assert_eq!(step(&steps, "07-stop.txt")["states"], json!([5]));
    let enter = step(&steps, "enter");
    assert_eq!(enter["names"], json!(["Exit-PSSession", "Out-Default"]));
    // WriteLine2 instead of output, PopRunspace without a wish for an answer, WriteErrorLine for errors that are sent back.
    assert_eq!((&enter["output"], &enter["written"], &enter["leaving"]), (&json!(0), &json!([16]), &json!([[53, -100, ""]])));
    assert!(enter["errors"].as_array().is_some_and(|errors| !errors.is_empty() && errors.iter().all(|method| method == 18)), "{enter}");
    for (name, output) in [
        ("in braces", 1),
        ("of a proxy", 1),
        ("by position", 1),
        ("by a prefix", 1),
        ("a number with a text", 1),
        ("a script block", 1),
        ("a switch", 0),
        ("a switch denied", 0),
        ("a hash table", 0),
    ] {
        let told = step(&steps, name);
        assert_eq!((&told["state"], &told["output"], &told["errors"]), (&json!(4), &json!(output), &json!(0)), "{told}");
    }
    let wrong = step(&steps, "no such parameter");
    assert_eq!((&wrong["state"], &wrong["failed"]), (&json!(5), &json!(["NamedParameterNotFound,Set-Mailbox"])));
    assert_eq!(step(&steps, "piped in"), &json!({"step": "piped in", "state": 4, "errors": 1, "unbound": true, "value": "piped"}));
    assert_eq!(step(&steps, "several"), &json!({"step": "several", "state": 4, "counted": ["3"]}));
    assert_eq!(step(&steps, "behind"), &json!({"step": "behind", "state": 4, "value": "behind"}));
    assert_eq!(step(&steps, "get-command")["names"], json!(["Set-Mailbox"]));
    assert_eq!(step(&steps, "get-command, more"), &json!({"step": "get-command, more", "state": 4, "names": ["Set-Mailbox"]}));
    // State, outputs, errors, warnings, host calls. A warning is shown by its host call (22, WriteWarningLine), never by its record.
    let shown = json!([[22, -100]]);
    for (name, state, output, errors, warnings, calls) in [
        ("warned", 4, 0, 0, 1, &shown),
        ("warned, nobody there", 4, 0, 0, 1, &json!([])),
        ("warned, silent", 4, 0, 0, 0, &json!([])),
        ("missing", 4, 0, 1, 0, &json!([])),
        ("missing, merged", 4, 1, 0, 0, &json!([])),
        ("missing, stop", 5, 0, 0, 0, &json!([])),
        ("missing, silent", 4, 0, 0, 0, &json!([])),
        ("an enum", 4, 2, 0, 1, &shown),
        ("a guid", 4, 1, 0, 0, &json!([])),
        ("a list", 4, 2, 0, 1, &shown),
        ("variables", 4, 1, 0, 0, &json!([])),
        ("a time", 4, 2, 0, 0, &json!([])),
    ] {
        let told = step(&steps, name);
        let same = name != "warned, nobody there";
        let expected =
            json!({"step": name, "state": state, "output": output, "errors": errors, "warnings": warnings, "calls": calls, "same": same});
        assert_eq!(told, &expected, "same: the host is told what the records say");
    }
    // Recordings 08 and 10: a SecureString under the key that was exchanged, and every fault with what the client reads of it.
    assert_eq!(step(&steps, "a SecureString"), &json!({"step": "a SecureString", "state": 4, "output": 1, "failed": []}));
    let foreign = step(&steps, "a SecureString of another key");
    assert_eq!((&foreign["state"], &foreign["failed"]), (&json!(5), &json!(["SecureStringNotReadable"])));
    assert_eq!(step(&steps, "faults"), &json!({"step": "faults", "quota": true, "silent": 1, "lost": true, "again": 200}));
    // Each object from the pipe is a command of its own in the trail; what did not bind is none.
    for (parameter, entries) in [("CustomAttribute2", 2), ("CustomAttribute3", 1)] {
        let line = ["run", "Search-AdminAuditLog", "-Cmdlets", "Set-Mailbox", "-Parameters", parameter, "-o", "json"];
        let found = lab.home.exops(&line).exits(0).json();
        assert_eq!(found.as_array().map(Vec::len), Some(entries), "{found}");
    }
}

/// The same session in every form that a client, or a proxy on the way, may write it; and what is refused, with the connection left usable.
#[test]
fn odd_framing() {
    let Some((python, lab, application)) = prepared() else { return };
    let mailbox = some_mailbox(&lab, &application);
    let steps = interop(&python, "odd_framing.py", &lab, &application, &["--identity", &mailbox]);
    let (forms, refused): (Vec<_>, Vec<_>) = steps.into_iter().partition(|(_, told)| told.get("basic").is_none());
    assert_eq!(forms.len(), 31, "16 forms of the envelope, 13 of the message, 2 with a connection that is kept");
    for (name, told) in &forms {
        assert_eq!(told, &json!({"step": name, "output": 1, "state": 4, "ended": [200, 200]}));
    }
    let (xml, schema, not_understood) = (2_150_858_819_u64, 2_150_858_817_u64, 2_150_858_768_u64);
    let expected = [
        ("no credentials", 401, None),
        ("empty probe", 401, None),
        ("empty credentials", 401, None),
        ("scheme alone", 401, None),
        ("negotiate", 401, None),
        ("kerberos with body", 401, None),
        ("large without credentials", 401, None),
        ("expecting without credentials", 401, None),
        ("empty body", 500, Some(xml)),
        ("get", 405, None),
        ("no type", 415, None),
        ("another type", 415, None),
        ("too large", 413, None),
        ("two lengths", 400, None),
        ("sixteen bits", 500, Some(2_150_858_843)),
        ("must be understood", 500, Some(not_understood)),
        ("must be understood 1", 500, Some(not_understood)),
        ("document type", 500, Some(xml)),
        ("undeclared prefix", 500, Some(xml)),
        ("another SOAP", 500, Some(schema)),
        ("cut off", 500, Some(xml)),
        ("twice", 500, Some(xml)),
    ];
    assert_eq!(refused.len(), expected.len(), "{refused:#?}");
    for (name, status, fault) in expected {
        let told = step(&refused, name);
        // The next request on the connection is answered, unless its bytes could be taken for the refused one's.
        let again = (name != "expecting without credentials" && name != "two lengths").then_some(2_150_858_843_u64);
        assert_eq!(told, &json!({"step": name, "status": status, "fault": fault, "basic": status == 401, "again": again}));
    }
}
