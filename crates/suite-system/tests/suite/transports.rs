//! Both transports side by side, as clients of others see them: a table of calls, questions before a change, and a session in the habits
//! of PowerShell on Linux.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::counterparts::{prepared, some_mailbox, step};
use crate::program::{Application, LabProgram, interop};

/// Ids of PowerShell's own errors.
const IDS: [&str; 10] = [
    "AmbiguousParameterSet",
    "ParameterArgumentTransformationError",
    "ParameterArgumentValidationError",
    "ParameterBindingFailed",
    "NamedParameterNotFound",
    "MissingMandatoryParameter",
    "CannotConvertArgumentNoMessage",
    "CommandNotFoundException",
    "ActionPreferenceStop",
    "HostFunctionNotImplemented",
];

/// What REST says otherwise, by the documented shapes of the service; everything else must be equal.
///
/// - The category of an error is `Client` where it is the default one or a parameter did not bind.
/// - A parameter that does not exist is an unresolvable parameter set.
/// - A parameter that no role grants does not exist in a session. REST knows it and says that it is refused.
/// - A cmdlet that does not exist for the caller has no error envelope at all.
fn session_as_rest(row: &Value, kind: &str, error: &Value) -> Value {
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
        Some(14) => "OperationStopped",
        other => panic!("category {other:?} has no row here: {error}"),
    };
    error["category"] = category.into();
    let name = error["message"].as_str().unwrap_or_default().rsplit('\'').nth(1).unwrap_or_default().to_owned();
    if kind == "unknown parameter" || (kind == "preferences" && name == "CustomAttribute16") {
        let prefix = "Parameter set cannot be resolved using the specified named parameters. Invalid cmdlet parameters specified.";
        error["message"] = format!("{prefix} {name}").into();
        error["exception"] = "System.Management.Automation.AmbiguousParameterSetException".into();
        error["reason"] = "AmbiguousParameterSetException".into();
    }
    if kind == "parameter not in the roles" {
        assert!(error["message"].as_str().is_some_and(|text| text.starts_with("A parameter cannot be found that matches")), "{error}");
        let cmdlet = row["cmdlet"].as_str().unwrap_or_default();
        error["message"] = format!(
            "Some of the parameters specified with the \"{cmdlet}\" cmdlet aren't present in the role definition for the current user. Check \
             the management roles assigned to you, and try again."
        )
        .into();
        error["exception"] = "Microsoft.Exchange.Configuration.Authorization.CmdletAccessDeniedException".into();
        error["reason"] = "CmdletAccessDeniedException".into();
        error["category"] = "PermissionDenied".into();
    }
    for only_in_a_session in ["types", "activity", "id"] {
        error.as_object_mut().expect("an error").remove(only_in_a_session);
    }
    error
}

/// Exception types in the order of inheritance, and an error id of the documented form, which names the same place as REST's.
fn check_session_error(row: &Value, error: &Value, over_rest: Option<&Value>) {
    let text = |name: &str| error[name].as_str().unwrap_or_default();
    let types: Vec<&str> = error["types"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let base: &[&str] = match text("exception") {
        exception if exception.starts_with("Microsoft.Exchange.") => &["Microsoft.Exchange.Data.Common.LocalizedException"],
        exception if exception.starts_with("System.Management.Automation.ParameterBinding") && !exception.ends_with("BindingException") => {
            &[
                "System.Management.Automation.ParameterBindingException",
                "System.Management.Automation.RuntimeException",
                "System.SystemException",
            ]
        }
        exception if exception.starts_with("System.Management.Automation.") => {
            &["System.Management.Automation.RuntimeException", "System.SystemException"]
        }
        _ => &["System.SystemException"],
    };
    assert_eq!(types, [&[text("exception")], base, &["System.Exception", "System.Object"]].concat(), "{row:#}");
    assert_eq!(text("reason"), text("exception").rsplit('.').next().unwrap_or_default(), "{row:#}");
    // PowerShell's own id where the pipeline did not begin. Else `[Server=NAME,RequestId=guid,TimeStamp=date]
    // [FailureCategory=Cmdlet-Exception] `, then PowerShell's id, or Exchange's key and task class.
    let exchange = text("id").strip_prefix("[Server=").and_then(|id| id.split_once("] [FailureCategory=Cmdlet-"));
    let mut server = None;
    let mut own_id = text("id");
    if let Some((place, failure)) = exchange {
        let mut place = place.splitn(3, ',');
        server = place.next();
        let request = place.next().and_then(|part| part.strip_prefix("RequestId=")).unwrap_or_default();
        assert!(request.len() == 36 && place.next().is_some_and(|part| part.starts_with("TimeStamp=")), "{row:#}");
        let (reason, rest) = failure.split_once("] ").expect("a reason");
        assert_eq!(reason, text("reason"), "{row:#}");
        own_id = rest;
    }
    let (key, task) = own_id.split_once(',').unwrap_or((own_id, ""));
    let own = key.len() == 8 && key.bytes().all(|b| b.is_ascii_hexdigit());
    assert!((own && server.is_some()) || IDS.contains(&key), "{row:#}");
    assert!(
        key == "CommandNotFoundException"
            || task.rsplit('.').next().unwrap_or_default().replace('-', "") == text("activity").replace('-', ""),
        "{row:#}"
    );
    let Some(over_rest) = over_rest else { return };
    assert!(server.is_none_or(|server| over_rest["server"].as_str().map(str::to_uppercase).as_deref() == Some(server)), "{row:#}");
    let same = format!("Ex{}", key.get(2..).unwrap_or_default());
    let expected: &[&str] = match over_rest["exception"].as_str() {
        Some("Microsoft.Exchange.Configuration.Tasks.ManagementObjectNotFoundException") => &["Ex6F9304"],
        Some("Microsoft.Exchange.Configuration.Tasks.ManagementObjectAmbiguousException") => &["Ex9E65A2"],
        Some("Microsoft.Exchange.Configuration.Authorization.CmdletAccessDeniedException") => &["Ex5E8EA4"],
        Some(exception) if exception.starts_with("Microsoft.Exchange.") => &[&same],
        _ => &[""],
    };
    assert!(expected.contains(&over_rest["string id"].as_str().unwrap_or_default()), "{row:#}");
}

/// A call that never reaches a cmdlet: by status, challenge, diagnostics and the odd body.
fn check_refusal(kind: &str, row: &Value) {
    assert_eq!(row["status"], kind.parse::<u16>().unwrap_or_default(), "{row:#}");
    let diagnostics = row["diagnostics"].as_str().unwrap_or_default();
    if kind == "401" {
        assert!(
            row["challenge"].as_str().is_some_and(|text| text.starts_with("Bearer ") && text.contains("authorization_uri=")),
            "{row:#}"
        );
        assert!(diagnostics.starts_with("2000") && diagnostics.contains(";reason=\""), "{row:#}");
        assert_eq!((&row["bytes"], &row["session"]), (&json!(0), &json!(401)), "{row:#}");
        return;
    }
    assert_eq!(row["challenge"], Value::Null, "{row:#}");
    // Without any role there is no session either; a call that one lacks is no matter of the session.
    let (session, reason) = match row["case"].as_str() {
        Some("no directory role") => (json!(403), "The application holds no directory role"),
        _ => (Value::Null, "User is not allowed to call"),
    };
    assert_eq!(row["session"], session, "{row:#}");
    // NUL bytes that call themselves gzip.
    assert_eq!((&row["encoding"], &row["bytes"]), (&json!("gzip"), &row["zeros"]), "{row:#}");
    assert!(row["bytes"].as_u64() > Some(0) && diagnostics.starts_with(&format!("2000003;reason=\"{reason}")), "{row:#}");
}

#[test]
fn the_same_calls() {
    let Some((python, lab, application)) = prepared() else { return };
    let (one, other) = two_mailboxes(&lab, &application);
    let calls = |caller: &Application, name| {
        interop(&python, "call_table.py", &lab, caller, &["--identity", &one, "--other", &other, "--caller", name])
    };
    let mut rows = calls(&application, "administrator");
    for (name, roles) in [("recipients", &["Exchange Recipient Administrator"][..]), ("reader", &["Global Reader"]), ("powerless", &[])] {
        rows.extend(calls(&lab.application(name, roles), name));
    }
    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failures = 0;
    for (kind, row) in &rows {
        let fails = row["fails"].as_u64().unwrap_or_default();
        failures += usize::from(fails > 0);
        *classes.entry(kind).or_default() += 1;
        if ["401", "403"].contains(&kind.as_str()) {
            check_refusal(kind, row);
            continue;
        }
        let (session, rest) = (&row["session"], &row["rest"]);
        let errors = |of: &Value| of["errors"].as_array().cloned().unwrap_or_default();
        assert_eq!(errors(session).len() as u64, fails, "{row:#}");
        assert_eq!(session["objects"], rest["objects"], "{row:#}");
        // The second of two equal changes warns, whichever transport it comes over.
        if kind != "prepared" {
            assert_eq!(session["warnings"], rest["warnings"], "{row:#}");
        }
        assert_eq!(rest["texts"], json!([]), "{row:#}");
        if ["no such cmdlet", "not in the roles"].contains(&kind.as_str()) {
            let message = format!("2000003;reason=\"User is not allowed to call {}\"", row["cmdlet"].as_str().unwrap_or_default());
            assert_eq!((&rest["status"], &rest["reason"]), (&json!(403), &json!(message)), "{row:#}");
            assert_eq!(session["errors"][0]["exception"], "System.Management.Automation.CommandNotFoundException", "{row:#}");
            check_session_error(row, &session["errors"][0], None);
            continue;
        }
        assert_eq!(errors(rest).len() as u64, fails, "{row:#}");
        for (in_session, mut over_rest) in errors(session).iter().zip(errors(rest)) {
            check_session_error(row, in_session, Some(&over_rest));
            for only_over_rest in ["string id", "server"] {
                over_rest.as_object_mut().expect("an error").remove(only_over_rest);
            }
            assert_eq!(session_as_rest(row, kind, in_session), over_rest, "{row:#}");
        }
        let stopped = session["ended"] == false;
        if fails == 0 {
            assert_eq!((&rest["status"], stopped), (&json!(200), false), "{row:#}");
        }
        if row["piped"].is_array() {
            // Errors of single objects do not end the pipeline, and stand where they arose.
            let wants_stop = row["parameters"]["ErrorAction"] == "Stop";
            assert_eq!(stopped, wants_stop, "{row:#}");
            assert!(wants_stop || session["places"] == rest["places"], "{row:#}");
        }
        if kind == "error amid output" && row["parameters"]["ErrorAction"].is_null() {
            let count = session["objects"].as_array().map_or(0, Vec::len) as u64;
            assert!(session["places"][0].as_u64().is_some_and(|place| 0 < place && place < count), "{row:#}");
        }
        if kind == "warnings" {
            assert_eq!(session["warnings"].as_array().map(Vec::len), Some(1), "{row:#}");
        }
        let exception = rest["errors"][0]["exception"].as_str().unwrap_or_default();
        let expected = match kind.as_str() {
            "not found" => "Microsoft.Exchange.Configuration.Tasks.ManagementObjectNotFoundException",
            "ambiguous" => "Microsoft.Exchange.Configuration.Tasks.ManagementObjectAmbiguousException",
            "unknown parameter" => "System.Management.Automation.AmbiguousParameterSetException",
            "parameter not in the roles" => "Microsoft.Exchange.Configuration.Authorization.CmdletAccessDeniedException",
            _ => exception,
        };
        assert_eq!(exception, expected, "{row:#}");
    }
    let thin: Vec<_> = classes.iter().filter(|(kind, count)| **count < 3 && **kind != "prepared").collect();
    println!("{} rows, {failures} of them failures, all agree: {classes:?}", rows.len());
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
    // Rights ask where their cmdlet has a high impact: SendAs given or any taken away, in a session; over REST when it is wanted.
    for (name, asked, refused, rights) in [
        ("send as no", 1, false, [0, 0]),
        ("send as yes", 1, false, [1, 0]),
        ("full access", 0, false, [1, 1]),
        ("nobody takes", 0, true, [1, 1]),
        ("nobody is asked", 0, false, [0, 1]),
    ] {
        let told = step(&steps, name);
        assert_eq!(told["asked"].as_array().map(Vec::len), Some(asked), "{told}");
        assert_eq!((told["errors"] == json!(["HostFunctionNotImplemented"]), &told["rights"]), (refused, &json!(rights)), "{told}");
    }
    let question = step(&steps, "send as yes")["asked"][0]["message"].as_str().unwrap_or_default();
    assert!(question.contains("Adding the right SendAs on ") && question.contains(&removed), "{question}");
    for (name, question, rights) in
        [("rest: is it meant?", "Removing the right FullAccess on ", [0, 1]), ("rest: it is", "", [0, 0]), ("rest: unasked", "", [1, 0])]
    {
        let told = step(&steps, name);
        assert!(
            told["question"].as_str().unwrap_or_default().contains(question) && told["question"].is_string() != question.is_empty(),
            "{told}"
        );
        assert_eq!((&told["status"], &told["rights"]), (&json!(200), &json!(rights)), "{told}");
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
