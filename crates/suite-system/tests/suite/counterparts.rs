//! Programs that others wrote, against the lab: msal, azure-identity and pypsrp, a plain HTTP client, openssl. What they are pinned to stands in
//! `interop/requirements.txt`.

use exops_testkit::{not_run, openssl as openssl_is_there, python};
use serde_json::{Value, json};

use crate::program::{Application, Home, LabProgram, interop, openssl, openssl_certificate};

const MORE_RESULTS: &str = "There are more results available than are currently displayed";

/// The step of that name.
#[track_caller]
pub(crate) fn step<'a>(steps: &'a [(String, Value)], name: &str) -> &'a Value {
    &steps.iter().find(|(step, _)| step == name).unwrap_or_else(|| panic!("no step '{name}' in {steps:#?}")).1
}

/// A lab with an application that is Exchange administrator, and the Python that the scripts need.
pub(crate) fn prepared() -> Option<(std::path::PathBuf, LabProgram, Application)> {
    let (python, _) = (python()?, openssl_is_there()?);
    let lab = LabProgram::start();
    let application = lab.application("counterpart", &["Exchange Administrator"]);
    Some((python, lab, application))
}

/// A mailbox of the seed, by its primary address.
pub(crate) fn some_mailbox(lab: &LabProgram, application: &Application) -> String {
    let pem = application.pem.to_string_lossy().into_owned();
    lab.exops(&["connect", "--lab", "--app-id", &application.app_id, "--certificate-file-path", &pem]).exits(0);
    let mailboxes = lab.home.exops(&["run", "Get-Mailbox", "-ResultSize", "1", "-o", "json"]).exits(0).json();
    let first = mailboxes.get(0).unwrap_or(&mailboxes);
    first["PrimarySmtpAddress"].as_str().expect("a mailbox has an address").to_owned()
}

#[test]
fn msal_and_pypsrp() {
    let Some((python, lab, application)) = prepared() else { return };
    let mailbox = some_mailbox(&lab, &application);
    let steps = interop(&python, "counterpart_msal_pypsrp.py", &lab, &application, &["--identity", &mailbox, "--value", "set by pypsrp"]);

    // Token: the shape of app-only tokens for Exchange, and the lab's mark.
    let token = step(&steps, "token");
    let claims = &token["claims"];
    assert_eq!(token["token_type"], "Bearer");
    assert_eq!(claims["aud"], "https://outlook.office365.com");
    assert_eq!(claims["iss"], format!("https://sts.windows.net/{}/", lab.text("tenant_id")));
    assert_eq!(
        (&claims["appid"], &claims["appidacr"], &claims["idtyp"], &claims["ver"]),
        (&json!(application.app_id), &json!("2"), &json!("app"), &json!("1.0"))
    );
    assert_eq!((&claims["roles"], &claims["oid"]), (&json!(["Exchange.ManageAsApp"]), &claims["sub"]));
    let wids: Vec<&str> = claims["wids"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert!(wids.contains(&"29232cdf-9323-42fd-ade2-1d097af3e4de") && wids.contains(&"0997a1d0-0d1d-4acb-b408-d5ca73121e90"), "{wids:?}");
    assert_eq!(claims["exops_lab"], true);
    assert_eq!(step(&steps, "cached")["source"], "cache");

    // Session and streams.
    assert_eq!(step(&steps, "opened")["opened"], true);
    let get = step(&steps, "get");
    assert_eq!((&get["completed"], &get["count"], &get["errors"]), (&json!(true), &json!(5), &json!([])));
    assert!(
        get["types"][0].as_array().is_some_and(|types| types.contains(&json!("Microsoft.Exchange.Data.Directory.Management.Mailbox"))),
        "{get}"
    );
    assert!(get["warnings"][0].as_str().is_some_and(|text| text.starts_with(MORE_RESULTS)), "{get}");
    let set = step(&steps, "set");
    assert_eq!((&set["completed"], &set["count"], &set["errors"]), (&json!(true), &json!(0), &json!([])));
    let read_back = step(&steps, "read back");
    assert_eq!(read_back["output"][0]["CustomAttribute1"], "set by pypsrp");
    assert_eq!(read_back["output"][0]["PrimarySmtpAddress"], mailbox.as_str());
    let unchanged = step(&steps, "unchanged");
    assert!(unchanged["warnings"][0].as_str().is_some_and(|text| text.contains("no settings of")), "{unchanged}");

    // Errors: a cmdlet's own, and two that end the pipeline.
    let not_found = &step(&steps, "not found")["errors"][0];
    assert!(not_found["message"].as_str().is_some_and(|text| text.contains("nobody-has-this-name")), "{not_found}");
    assert_eq!(not_found["reason"], "ManagementObjectNotFoundException");
    for (name, reason) in [("unknown parameter", "ParameterBindingException"), ("unknown cmdlet", "CommandNotFoundException")] {
        let ended = step(&steps, name);
        assert_eq!((&ended["failed"], &ended["errors"][0]["reason"]), (&json!(true), &json!(reason)), "{ended}");
    }
    // Command metadata, as Import-PSSession asks for it: the granted cmdlets of these patterns with their parameters, switches told apart.
    let commands = &step(&steps, "metadata")["commands"];
    let names: Vec<&String> = commands.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    assert_eq!(names, ["Get-Mailbox", "Set-Mailbox"]);
    let parameters = &commands["Set-Mailbox"]["parameters"];
    assert_eq!(
        (&commands["Get-Mailbox"]["type"], &parameters["Identity"], &parameters["WhatIf"], &parameters["CustomAttribute1"]),
        (&json!(8), &json!(false), &json!(true), &json!(false))
    );
    for common in exops_catalogue::COMMON_PARAMETERS {
        assert!(parameters.get(common).is_some(), "without '{common}' a proxy keeps none of the common parameters to itself");
    }
    assert!(step(&steps, "all metadata")["count"].as_u64().is_some_and(|count| count > 5), "{steps:?}");
    assert_eq!(step(&steps, "closed")["closed"], true);
}

/// J-07, J-08, J-09, J-15 as two released libraries meet them: the same code for the same mistake, and the library shows it.
#[test]
fn azure_identity_beside_msal() {
    let Some((python, lab, application)) = prepared() else { return };
    let (_, stranger) = openssl_certificate(lab.home.path(), "stranger");
    let steps = interop(&python, "counterpart_azure_identity.py", &lab, &application, &["--stranger", &stranger.to_string_lossy()]);
    let named = |name: &'static str| steps.iter().filter(move |(step, _)| step == name).map(|(_, value)| value);

    // Every spelling of the resource; one assertion, presented again for each.
    let tokens: Vec<_> = named("token").collect();
    assert_eq!(tokens.len(), 8);
    for token in tokens {
        let (scope, claims) = (token["scope"].as_str().unwrap_or_default(), &token["claims"]);
        assert_eq!(claims["aud"].as_str(), scope.strip_suffix("/.default"), "{token}");
        assert_eq!((&claims["appidacr"], &claims["ver"]), (&json!("2"), &json!("1.0")), "{token}");
        // Exchange takes what was made for Exchange and nothing else.
        let graph = scope.contains("graph");
        assert_eq!(token["mailbox"], if graph { 401 } else { 200 }, "{token}");
        assert!(token["left"].as_f64().is_some_and(|left| (3500.0..=3600.0).contains(&left)), "{token}");
    }
    assert_eq!(named("tenant by name").filter(|step| step["tid"] == lab.text("tenant_id")).count(), 2);

    // Case, libraries that met it, error word, code; code 0: a token.
    let cases: [(&str, usize, &str, u32); 18] = [
        ("unknown tenant", 2, "", 90_002),
        ("unknown domain", 2, "", 90_002),
        ("unknown application", 2, "unauthorized_client", 700_016),
        ("unregistered certificate", 2, "invalid_client", 700_027),
        ("unknown resource", 2, "invalid_resource", 500_011),
        ("scope without .default", 2, "invalid_scope", 1_002_012),
        ("wrong secret", 2, "invalid_client", 7_000_215),
        ("accepted", 1, "", 0),
        ("the same name again", 1, "", 0),
        ("expired", 1, "invalid_client", 700_024),
        ("not yet valid", 1, "invalid_client", 700_024),
        ("other audience", 1, "invalid_client", 700_023),
        ("other issuer", 1, "invalid_client", 700_021),
        ("other subject", 1, "invalid_client", 700_021),
        ("elliptic curve", 1, "invalid_request", 5_002_738),
        ("shared key", 1, "invalid_request", 5_002_730),
        ("another key", 1, "invalid_client", 700_027),
        ("not a JWT", 1, "invalid_request", 50_027),
    ];
    assert_eq!(named("refused").count(), cases.iter().map(|(_, by, ..)| by).sum::<usize>());
    for (case, by, error, code) in cases {
        let met: Vec<_> = named("refused").filter(|step| step["case"] == case).collect();
        assert_eq!(met.len(), by, "{case}");
        for step in met {
            let message = step["message"].as_str().unwrap_or_default();
            // An unknown tenant is refused at discovery already, of which the libraries show less than of a token request.
            let shown =
                if code == 90_002 { !message.is_empty() && message != "a token" } else { message.contains(&format!("AADSTS{code}: ")) };
            assert!(if code == 0 { message == "a token" } else { shown }, "{case}: {step}");
            if step["by"] == "msal" && !error.is_empty() {
                assert_eq!((&step["error"], &step["codes"]), (&json!(error), &json!([code])), "{case}");
            }
        }
    }
}

#[test]
fn plain_http() {
    let Some((python, lab, application)) = prepared() else { return };
    let steps = interop(&python, "counterpart_rest.py", &lab, &application, &[]);

    let pages = step(&steps, "pages");
    let sizes: Vec<u64> = pages["sizes"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    let (last, whole) = sizes.split_last().expect("at least one page");
    assert!(sizes.len() > 2 && whole.iter().all(|size| *size == 40) && *last <= 40 && *last > 0, "{sizes:?}");
    assert_eq!((&pages["objects"], &pages["distinct"]), (&json!(sizes.iter().sum::<u64>()), &json!(sizes.iter().sum::<u64>())));
    assert_eq!(pages["warnings"], json!([]));

    let first = step(&steps, "first");
    assert_eq!((&first["status"], &first["mark"]), (&json!(200), &json!("1")));
    assert_eq!(first["objects"].as_array().map(Vec::len), Some(3));
    assert!(first["content_type"].as_str().is_some_and(|kind| kind.starts_with("application/json")), "{first}");
    assert!(first["request_id"].is_string(), "{first}");
    assert!(first["warnings"][0].as_str().is_some_and(|text| text.starts_with(MORE_RESULTS)), "{first}");
    let mailbox = &first["objects"][0];
    assert_eq!(mailbox["Guid@data.type"], "System.Guid", "{mailbox}");
    assert_eq!(mailbox["ProhibitSendQuota@data.type"], Value::Null, "{mailbox}");

    let not_found = step(&steps, "not found");
    assert_eq!((&not_found["status"], &not_found["error"]["code"]), (&json!(404), &json!("NotFound")));
    let detail = not_found["error"]["details"][0]["message"].as_str().unwrap_or_default();
    assert!(detail.starts_with("Ex6F9304|Microsoft.Exchange.Configuration.Tasks.ManagementObjectNotFoundException|"), "{detail}");
    assert_eq!(step(&steps, "unknown parameter")["status"], 400);
    for (name, warnings, objects) in [("no warning", 0, 1), ("a warning", 1, 1), ("empty", 1, 1), ("no error", 0, 0)] {
        let told = step(&steps, name);
        assert_eq!(told, &json!({"step": name, "status": 200, "warnings": warnings, "objects": objects}));
    }
    for (name, status) in [("unknown cmdlet", 403), ("no token", 401), ("bad token", 401), ("v1.0", 405)] {
        assert_eq!(step(&steps, name)["status"], status, "{name}");
    }
    assert!(step(&steps, "no token")["challenge"].as_str().is_some_and(|text| text.starts_with("Bearer")), "{steps:?}");

    let plain = step(&steps, "identity 40");
    assert_eq!((&plain["packed"], &plain["lengths"], plain["pages"].as_u64()), (&json!(["None"]), &json!([true]), Some(4)), "{plain}");
    assert_eq!(step(&steps, "gzip;q=0 40")["packed"], json!(["None"]));
    let packed = step(&steps, "gzip 40");
    assert_eq!((&packed["packed"], &packed["names"], &packed["pages"]), (&json!(["gzip"]), &plain["names"], &plain["pages"]));
    assert!(packed["bytes"].as_u64().unwrap_or_default() * 4 < plain["bytes"].as_u64().unwrap_or_default(), "{packed}");
    // One object is worth it; a page of more than a megabyte goes out while it is packed, without a length.
    assert_eq!((&step(&steps, "gzip 1")["packed"], &step(&steps, "gzip 1")["pages"]), (&json!(["gzip"]), &json!(4)));
    let long = step(&steps, "deflate, gzip;q=0.5 1000");
    assert_eq!((&long["packed"], &long["lengths"], &long["pages"]), (&json!(["gzip"]), &json!([false]), &json!(1)), "{long}");
}

/// What `exops cert new` writes is read by openssl: the certificate, and the key of the file in the store.
#[test]
fn openssl_reads_our_certificate() {
    if openssl_is_there().is_none() {
        return;
    }
    let home = Home::new();
    let made = home.exops(&["cert", "new", "--subject", "CN=shown to openssl", "--json"]).exits(0).json();
    let thumbprint = made["thumbprint"].as_str().expect("a thumbprint").to_owned();
    let files = walk(home.path());
    let stored = files
        .iter()
        .find(|path| path.to_string_lossy().ends_with(&format!("{thumbprint}.pfx")))
        .expect("a file named after the thumbprint");
    let pem = home.path().join("stored.pem").to_string_lossy().into_owned();
    openssl(&["pkcs12", "-in", &stored.to_string_lossy(), "-passin", "pass:", "-noenc", "-out", &pem]);
    let shown = openssl(&["x509", "-in", &pem, "-noout", "-subject", "-fingerprint", "-sha1", "-nameopt", "RFC2253"]);
    assert!(shown.contains("CN=shown to openssl"), "{shown}");
    assert!(shown.replace(':', "").contains(&thumbprint), "{shown} is not {thumbprint}");
    let key = openssl(&["pkey", "-in", &pem, "-noout", "-check"]);
    assert!(key.contains("valid"), "{key}");
    let public = |kind: &str| openssl(&[kind, "-in", &pem, "-pubout", "-outform", "PEM"]);
    let of_certificate = openssl(&["x509", "-in", &pem, "-noout", "-pubkey"]);
    assert_eq!(public("pkey"), of_certificate);
}

/// `exops connect` takes a PFX with password and a PEM, both written by openssl.
#[test]
fn openssl_writes_what_connect_reads() {
    if openssl_is_there().is_none() {
        return;
    }
    let lab = LabProgram::start();
    let application = lab.application("from-openssl", &["Exchange Administrator"]);
    let (folder, pem) = (lab.home.path().to_path_buf(), application.pem.to_string_lossy().into_owned());
    let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
    std::fs::write(at("password"), "correct horse\n").expect("a password file");
    openssl(&["pkcs12", "-export", "-in", &pem, "-out", &at("modern.pfx"), "-passout", "pass:correct horse"]);
    let connect = |file: &str, password: bool| {
        let mut command = lab.home.command(&[
            "connect",
            "--lab",
            "--data",
            &lab.data().to_string_lossy(),
            "-AppId",
            &application.app_id,
            "-CertificateFilePath",
            file,
        ]);
        if password {
            command.env("EXOPS_CERTIFICATE_PASSWORD_FILE", at("password"));
        }
        let output = command.output().expect("the program starts");
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        // With the password's source kept, and the password in no file.
        let profile = walk(&folder).into_iter().filter(|path| !path.ends_with("password"));
        for path in profile.filter_map(|path| std::fs::read(path).ok()) {
            assert!(!path.windows(13).any(|bytes| bytes == b"correct horse"), "the password was stored");
        }
    };
    connect(&pem, false);
    connect(&at("modern.pfx"), true);
    // The older form with 3DES and a SHA-1 MAC, where this openssl can still write it.
    let legacy = ["pkcs12", "-export", "-legacy", "-in", &pem, "-out", &at("legacy.pfx"), "-passout", "pass:correct horse"];
    match std::process::Command::new("openssl").args(legacy).output() {
        Ok(output) if output.status.success() => connect(&at("legacy.pfx"), true),
        _ => not_run("openssl's legacy PFX", "this openssl has no legacy provider"),
    }
    let (_, other) = openssl_certificate(&folder, "stranger");
    let refused =
        lab.exops(&["connect", "--lab", "--app-id", &application.app_id, "--certificate-file-path", &other.to_string_lossy()]).exits(4);
    assert!(refused.stderr.contains("AADSTS700027"), "{}", refused.stderr);
}

/// All files below a folder.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// pypsrp disconnects, reconnects, and connects as another client to what it finds by enumeration.
#[test]
fn pypsrp_resumes_a_session() {
    let Some((python, lab, application)) = prepared() else { return };
    let steps = interop(&python, "counterpart_resume.py", &lab, &application, &[]);
    assert_eq!(step(&steps, "receive while away")["code"], 2_150_859_204_u32);
    let reconnected = step(&steps, "reconnected");
    assert_eq!((reconnected["before"].as_array().map(Vec::len), &reconnected["before"]), (Some(3), &reconnected["after"]));
    let taken_over = step(&steps, "taken over");
    assert_eq!((&taken_over["count"], &taken_over["more"]), (&json!(40), &json!(2)), "{taken_over}");
    assert_eq!(step(&steps, "key")["exchanged"], true);
    assert_eq!(step(&steps, "closed")["left"], json!([]));
    // a process that was killed is found to be gone, and its command is taken over.
    assert_eq!(step(&steps, "killed"), &json!({"step": "killed", "alive": 2_150_859_213_u32, "count": 30, "more": 2}));
}
