//! A client that sends PowerShell's recorded requests and reads the answers with its rules. It is not PowerShell.

use serde_json::json;

use crate::counterparts::{prepared, some_mailbox, step};
use crate::program::interop;

#[test]
fn a_client_shaped_like_powershell_gets_what_it_reads() {
    if std::env::var_os("EXOPS_SAMPLES").is_none() {
        println!("NOT RUN: PowerShell-shaped client: EXOPS_SAMPLES names no folder of recordings");
        return;
    }
    let Some((python, lab, application)) = prepared() else { return };
    let mailbox = some_mailbox(&lab, &application);
    let steps = interop(&python, "powershell_shaped.py", &lab, &application, &["--identity", &mailbox]);
    let import = step(&steps, "import");
    assert_eq!((&import["names"], &import["errors"]), (&json!(["Set-Mailbox"]), &json!(1)), "alice does not exist: {import}");
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
