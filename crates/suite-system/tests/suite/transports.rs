//! Both transports side by side, as clients of others see them: a table of calls, questions before a change, and a session in the habits
//! of PowerShell on Linux.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::counterparts::{prepared, some_mailbox, step};
use crate::program::{Application, LabProgram, interop};

/// What REST says otherwise, by the documented shapes of the service; everything else must be equal.
///
/// - The category of an error is `Client` where it is the default one or a parameter did not bind.
/// - A parameter that does not exist is an unresolvable parameter set.
/// - A cmdlet that does not exist for the caller has no error envelope at all.
fn session_as_rest(kind: &str, error: &Value) -> Value {
    let mut error = error.clone();
    let category = match error["category"].as_i64() {
        Some(0) => "Client",
        _ if error["reason"]
            .as_str()
            .is_some_and(|reason| ["ParameterBindingException", "ParameterBindingValidationException"].contains(&reason)) =>
        {
            "Client"
        }
        Some(5) => "InvalidArgument",
        Some(6) => "InvalidData",
        other => panic!("category {other:?} has no row here: {error}"),
    };
    error["category"] = category.into();
    if kind == "unknown parameter" {
        let name = error["message"].as_str().unwrap_or_default().rsplit('\'').nth(1).unwrap_or_default().to_owned();
        let prefix = "Parameter set cannot be resolved using the specified named parameters. Invalid cmdlet parameters specified.";
        error["message"] = format!("{prefix} {name}").into();
        error["exception"] = "System.Management.Automation.AmbiguousParameterSetException".into();
        error["reason"] = "AmbiguousParameterSetException".into();
    }
    error
}

#[test]
fn the_same_calls() {
    let Some((python, lab, application)) = prepared() else { return };
    let (one, other) = two_mailboxes(&lab, &application);
    let reader = lab.application("reader", &["Global Reader"]);
    let calls = |caller: &Application, name| {
        interop(&python, "call_table.py", &lab, caller, &["--identity", &one, "--other", &other, "--caller", name])
    };
    let rows = [calls(&application, "administrator"), calls(&reader, "reader")].concat();
    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failures = 0;
    for (kind, row) in &rows {
        let (session, rest) = (&row["session"], &row["rest"]);
        let fails = row["fails"] == true;
        failures += usize::from(fails);
        *classes.entry(kind).or_default() += 1;
        let errors = session["errors"].as_array().map_or(0, Vec::len);
        assert_eq!(errors, usize::from(fails), "{row:#}");
        assert_eq!(session["objects"], rest["objects"], "{row:#}");
        // The second of two equal changes warns, whichever transport it comes over.
        if kind != "prepared" {
            assert_eq!(session["warnings"], rest["warnings"], "{row:#}");
        }
        match (fails, kind.as_str()) {
            (true, "no such cmdlet" | "not in the roles") => {
                let message = format!("2000003;reason=\"User is not allowed to call {}\"", row["cmdlet"].as_str().unwrap_or_default());
                assert_eq!((&rest["status"], &rest["reason"]), (&json!(403), &json!(message)), "{row:#}");
                assert_eq!(session["errors"][0]["exception"], "System.Management.Automation.CommandNotFoundException", "{row:#}");
            }
            (true, _) => assert_eq!(session_as_rest(kind, &session["errors"][0]), rest["error"], "{row:#}"),
            (false, _) => {
                assert_eq!((&rest["status"], &rest["texts"], &session["ended"]), (&json!(200), &json!([]), &json!(true)), "{row:#}")
            }
        }
        if kind == "warnings" {
            assert_eq!(session["warnings"].as_array().map(Vec::len), Some(1), "{row:#}");
        }
        let exception = rest["error"]["exception"].as_str().unwrap_or_default();
        let expected = match kind.as_str() {
            "not found" => "Microsoft.Exchange.Configuration.Tasks.ManagementObjectNotFoundException",
            "ambiguous" => "Microsoft.Exchange.Configuration.Tasks.ManagementObjectAmbiguousException",
            "unknown parameter" => "System.Management.Automation.AmbiguousParameterSetException",
            _ => exception,
        };
        assert_eq!(exception, expected, "{row:#}");
    }
    let thin: Vec<_> = classes.iter().filter(|(kind, count)| **count < 3 && **kind != "prepared").collect();
    assert!(thin.is_empty() && failures * 2 >= rows.len(), "{classes:?}, {failures} failures of {}", rows.len());
}

#[test]
fn questions_before_a_change() {
    let Some((python, lab, application)) = prepared() else { return };
    let (mailbox, removed) = two_mailboxes(&lab, &application);
    // Our own client asks on both transports alike, and finds nobody at a terminal: nothing is removed.
    for transport in ["rest", "rps"] {
        let refused = lab.home.exops(&["run", "--transport", transport, "Remove-Mailbox", &removed]).exits(2);
        assert!(refused.stderr.contains("-Confirm"), "{transport}: {refused:?}");
    }
    let steps = interop(&python, "counterpart_confirm.py", &lab, &application, &["--identity", &mailbox, "--removed", &removed]);
    for (name, asked, errors, left) in [
        ("remove no", 1, json!([]), 200),
        ("remove nobody", 0, json!(["HostFunctionNotImplemented"]), 200),
        ("remove yes", 1, json!([]), 404),
    ] {
        let told = step(&steps, name);
        assert_eq!((&told["asked"], &told["errors"], &told["left"]), (&json!(asked), &errors, &json!(left)), "{name}");
    }
    let action = |text: &Value| text.as_str().is_some_and(|text| text.contains("Setting mailbox Identity:"));
    // Somebody is there: asked with the action named, and only a yes changes something.
    let after = |name: &str| step(&steps, name)["after"].as_str().unwrap_or_default().to_owned();
    for (name, value, completed) in [("yes", "yes", true), ("no", "yes", true), ("nonsense", "yes", false)] {
        let told = step(&steps, name);
        let question = &told["asked"][0];
        assert!(action(&question["message"]), "{told}");
        assert_eq!((&question["labels"], &question["default"]), (&json!(["&Yes", "&No"]), &json!(0)));
        assert_eq!((told["after"].as_str(), told["completed"] == true), (Some(value), completed), "{told}");
    }
    // Nothing to ask: a change of medium impact, -Confirm:$false, -WhatIf before -Confirm.
    for (name, value) in [("not asked for", "not asked for"), ("confirm false", "confirm false"), ("what if", "confirm false")] {
        let told = step(&steps, name);
        assert_eq!((&told["asked"], &told["completed"], after(name).as_str()), (&json!([]), &json!(true), value), "{told}");
    }
    // Nobody is there: an error that says what to do, at once; -WhatIf needs nobody.
    let told = step(&steps, "nobody");
    assert_eq!((&told["completed"], &told["errors"][0]["id"]), (&json!(false), &json!("HostFunctionNotImplemented")));
    assert!(told["errors"][0]["message"].as_str().is_some_and(|text| text.contains("-Confirm:$false")), "{told}");
    for name in ["what if", "nobody what if"] {
        let told = step(&steps, name);
        assert!(action(&told["said"][0]) && told["said"][0].as_str().is_some_and(|text| text.starts_with("What if: ")), "{told}");
    }
    // REST: the question comes back instead of the change; the answer is the same call without it.
    for (name, value) in [("rest what if", "confirm false"), ("rest question", "confirm false")] {
        let told = step(&steps, name);
        assert!(action(&told["question"]), "{told}");
        assert_eq!((&told["status"], after(name).as_str()), (&json!(200), value), "{told}");
    }
    for name in ["rest answer", "rest plain"] {
        assert_eq!((&step(&steps, name)["question"], after(name).as_str()), (&Value::Null, name));
    }
    // The trail holds what was carried out, and nothing that was only asked.
    assert_eq!(step(&steps, "log")["carried_out"], json!(["rest plain", "rest answer", "confirm false", "not asked for", "yes"]));
}

#[test]
fn habits_of_powershell_on_linux() {
    let Some((python, lab, application)) = prepared() else { return };
    let mailbox = some_mailbox(&lab, &application);
    let steps = interop(&python, "unix_client.py", &lab, &application, &["--identity", &mailbox]);
    let unknown = 2_150_858_843_u64;
    assert_eq!(step(&steps, "order")["faults"], json!([unknown, unknown]));
    assert_eq!(step(&steps, "create"), &json!({"step": "create", "status": 200, "shell": true, "resource": true}));
    // SESSION_CAPABILITY, APPLICATION_PRIVATE_DATA, RUNSPACEPOOL_STATE.
    assert_eq!(step(&steps, "opened")["kinds"], json!(["00010002", "00021009", "00021005"]));
    let commands = step(&steps, "commands");
    assert_eq!(
        (&commands["statuses"], &commands["outputs"], &commands["states"]),
        (&json!([200, 200, 200]), &json!([3, 1]), &json!([4, 4]))
    );
    assert_eq!((&commands["done_with_data"], &commands["done"]), (&json!(false), &json!([true, true])), "Done comes alone, and again");
    assert_eq!((&commands["beside"], &commands["gone"]), (&json!(true), &json!(unknown)));
    let stop = step(&steps, "stop");
    assert_eq!((&stop["status"], &stop["again"]), (&json!(200), &json!(200)));
    // Stopped, or completed where the small result of the seed was whole before the signal came.
    assert!([json!(3), json!(4)].contains(&stop["state"]), "{stop}");
    assert_eq!(step(&steps, "more")["states"], json!([4, 5]));
    let wrong = step(&steps, "wrong");
    assert_eq!(
        (&wrong["bad_token"], &wrong["unknown_command"], &wrong["forms"], &wrong["still"]),
        (&json!(401), &json!(unknown), &json!([unknown, unknown, unknown]), &json!(true))
    );
    let delete = step(&steps, "delete");
    assert_eq!(
        (&delete["status"], &delete["open_receive"], &delete["soon"], &delete["after"]),
        (&json!(200), &json!(unknown), &json!(true), &json!(unknown))
    );
    assert_eq!((&step(&steps, "tls")["version"], &step(&steps, "tls")["ticket"]), (&json!("TLSv1.3"), &json!(false)));
}

/// The lab's lever: a token is good for so many requests, on both transports, until it is lifted.
#[test]
fn a_token_good_for_so_many_requests() {
    let Some((python, lab, application)) = prepared() else { return };
    let steps = interop(&python, "counterpart_lever.py", &lab, &application, &[]);
    assert_eq!(step(&steps, "stranger")["status"], 401, "the lever takes the lab's own token");
    assert_eq!(step(&steps, "wrong")["statuses"], json!([400, 400, 400, 400, 400]));
    assert_eq!(step(&steps, "before")["statuses"], json!([200, 200, 200]));
    let pulled = step(&steps, "pulled");
    assert_eq!((&pulled["status"], &pulled["statuses"]), (&json!(200), &json!([200, 200, 401, 200, 401])));
    assert!(step(&steps, "session")["refused"].is_string(), "two requests are not enough for a session: {steps:?}");
    assert_eq!(step(&steps, "lifted")["statuses"], json!([200, 200]));
}

/// The addresses of two mailboxes of the seed.
fn two_mailboxes(lab: &LabProgram, application: &Application) -> (String, String) {
    let one = some_mailbox(lab, application);
    let all = lab.home.exops(&["run", "Get-Mailbox", "-ResultSize", "2", "-o", "json"]).exits(0).json();
    let other = all[1]["PrimarySmtpAddress"].as_str().expect("a second mailbox").to_owned();
    (one, other)
}
