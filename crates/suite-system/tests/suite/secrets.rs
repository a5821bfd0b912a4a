//! L-01, K-10: the program says all that it can say, also where something is wrong, and no password, key, assertion or token
//! is found in what it said, in what it left on disk, or in what the system shows of its process.

use std::fs;
use std::path::Path;
use std::process::Output;

use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::{any, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::bad_input::service;
use crate::cli::{certificate, now};
use crate::program::{Home, LabProgram};

const PASSWORD: &str = "canary-Corr3ct-horse";
const WRONG: &str = "canary-wrong-horse";
const SECRET: &str = "canary-client-secret";
/// Of every JSON Web Token: the base64url of `{"`.
const TOKEN: &str = "eyJ";

/// What was said, and by which command.
#[derive(Default)]
struct Heard(Vec<(String, String)>);

impl Heard {
    fn add(&mut self, words: &[&str], output: &Output) -> String {
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        self.0.push((words.join(" "), text.clone()));
        text
    }

    /// Runs a command with all its logs.
    #[track_caller]
    fn run(&mut self, home: &Home, variables: &[(&str, &str)], words: &[&str], exit: i32) -> String {
        let output = home.command(&[&["-vv"], words].concat()).envs(variables.iter().copied()).output().expect("it runs");
        let text = self.add(words, &output);
        assert_eq!(output.status.code(), Some(exit), "{words:?}: {text}");
        text
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten().map(|e| e.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Bytes as text of which every byte is a letter.
fn letters(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

#[test]
fn nothing_that_is_said_or_kept_holds_a_secret() {
    let lab = LabProgram::start_in(Home::new(), &["-vv"]);
    let home = &lab.home;
    let path = |name: &str| home.path().join(name).to_string_lossy().into_owned();
    let (data, tenant) = (lab.data().to_string_lossy().into_owned(), lab.text("tenant_id").to_owned());
    // What a person keeps, and what is therefore not searched.
    fs::create_dir(home.path().join("private")).expect("a folder");
    let (good, wrong, secret) = (path("private/password"), path("private/wrong"), path("private/secret"));
    for (file, content) in [(&good, PASSWORD), (&wrong, WRONG), (&secret, SECRET)] {
        fs::write(file, format!("{content}\n")).expect("a file");
    }
    let (thumbprint, public) = certificate(home, "automation");
    let mut heard = Heard::default();
    let (pfx, pem, store) = (path("private/key.pfx"), path("private/key.pem"), path("private/store"));
    let create = ["lab", "app", "create", "--data", &data, "--name", "automation", "--certificate", &public, "--secret-file", &secret];
    let roles = ["--app-role", "Exchange.ManageAsApp", "--directory-role", "Exchange Administrator"];
    heard.run(home, &[], &[&create[..], &roles].concat(), 0);
    let listed = lab.exops(&["lab", "app", "show", "automation", "--json"]).exits(0).json();
    let app = listed["app_id"].as_str().expect("an id");
    heard.run(home, &[], &["cert", "export", &thumbprint, "--out", &pfx, "-CertificatePasswordFile", &good], 0);
    heard.run(home, &[], &["cert", "export", &thumbprint, "--out", &pem], 0);
    let plain = [("AZURE_CLIENT_CERTIFICATE_PASSWORD", PASSWORD)];
    let other = [("AZURE_CLIENT_CERTIFICATE_PASSWORD", WRONG)];
    let by_file = ["connect", "--lab", "--data", &data, "--app-id", app, "-CertificateFilePath", &pfx];
    let read = ["run", "Get-Mailbox", "-ResultSize", "3", "-Verbose"];
    let body = json!({"CmdletInput": {"CmdletName": "Get-AcceptedDomain", "Parameters": {}}}).to_string();
    let call = ["rest", "POST", "/adminapi/beta/{tenant}/InvokeCommand", "--body", &body, "--show-curl"];
    let at_file = format!("@{good}");
    let new = |name: &'static str, address: &'static str, password: &'static str| {
        ["run", "New-Mailbox", "-Name", name, "-MicrosoftOnlineServicesID", address, password]
    };
    let by_name = |name, address| [&new(name, address, "-Password")[..], &[&at_file]].concat();
    type Row<'a> = (&'a [(&'a str, &'a str)], Vec<&'a str>, i32);
    let table: Vec<Row<'_>> = vec![
        (&[], vec!["cert", "import", &pfx, "--store", &store, "-CertificatePasswordFile", &wrong], 4),
        (&other, vec!["cert", "import", &pfx, "--store", &store], 4),
        (&plain, vec!["cert", "import", &pfx, "--store", &store], 0),
        (&[], vec!["cert", "import", &pem, "--store", &store], 0),
        (&[], [&by_file[..], &["-CertificatePassword", PASSWORD]].concat(), 2),
        (&[], [&by_file[..], &["--certificate-password-file", &wrong]].concat(), 4),
        (&other, by_file.to_vec(), 4),
        (&[], [&by_file[..], &["--certificate-password-file", &good, "--profile", "file"]].concat(), 0),
        (&plain, [&by_file[..], &["--json"]].concat(), 0),
        (&plain, vec!["status"], 0),
        (&plain, read.to_vec(), 0),
        (&[], [&read[..], &["--profile", "file", "--transport", "rps"]].concat(), 0),
        (&other, [&read[..], &["-o", "json"]].concat(), 4),
        (&plain, call.to_vec(), 0),
        (&plain, [&new("none", "none@contoso.onmicrosoft.com", "-Password")[..], &[PASSWORD]].concat(), 2),
        (&plain, by_name("zoe", "zoe@contoso.onmicrosoft.com"), 0),
        (&plain, [&by_name("zed", "zed@contoso.onmicrosoft.com")[..], &["--transport", "rps", "-o", "json"]].concat(), 0),
        (&plain, [&by_name("zed", "zed@contoso.onmicrosoft.com")[..], &["-o", "json"]].concat(), 3),
        (&[], vec!["quickstart", "--keep", "kept"], 0),
    ];
    for (variables, words, exit) in &table {
        heard.run(home, variables, words, *exit);
    }
    services_that_send_back_what_they_got(&mut heard, home, &tenant, app, &pem);
    as_the_system_shows_it(&mut heard, home, lab.ready["pid"].as_u64().expect("a process"));

    let bootstrap: Value = serde_json::from_slice(&fs::read(lab.data().join("bootstrap.json")).expect("a file")).expect("JSON");
    let bootstrap =
        bootstrap.as_object().into_iter().flat_map(|o| o.values()).filter_map(Value::as_str).next().expect("a token").to_owned();
    assert!(bootstrap.len() > 20);
    let key: String = fs::read_to_string(&pem).expect("a key").split("PRIVATE KEY-----").nth(1).unwrap_or_default().to_owned();
    let key = key.trim_end_matches("-----END ").lines().map(str::trim).collect::<String>();
    // Out of the private exponent, as text and as bytes.
    let exponent = letters(STANDARD.decode(&key).expect("base64").get(340..400).expect("a key"));
    let key = key.get(450..510).expect("a key");
    heard.0.push(("the lab".to_owned(), fs::read_to_string(home.path().join("lab.log")).expect("the lab's log")));
    assert!(heard.0.iter().any(|(who, text)| who == "the lab" && text.contains("DEBUG")), "the lab logs");
    assert!(heard.0.iter().filter(|(_, text)| text.contains("token received")).count() > 4, "the program logs");
    for (who, text) in &heard.0 {
        for secret in ["canary-", TOKEN, "PRIVATE KEY", &bootstrap, key] {
            assert!(!text.contains(secret), "{secret:?} was said by '{who}':\n{text}");
        }
    }
    let searched: Vec<_> = files(home.path()).into_iter().filter(|f| !f.starts_with(home.path().join("private"))).collect();
    assert!(searched.len() > 12, "{searched:?}");
    for file in &searched {
        let content = letters(&fs::read(file).expect("a file"));
        let name = file.to_string_lossy();
        for secret in ["canary-", TOKEN, key, &exponent] {
            assert!(!content.contains(secret), "{secret:?} is in {name}");
        }
        let keeps_keys = name.contains("/ca.key") || name.contains("/lab.sqlite");
        assert!(keeps_keys || !content.contains("PRIVATE KEY"), "a key is in {name}");
        assert!(name.ends_with("/bootstrap.json") || !content.contains(&bootstrap), "the lab's own token is in {name}");
        #[cfg(unix)]
        if keeps_keys || name.ends_with("/bootstrap.json") || name.ends_with(".pfx") {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(file).expect("the file").permissions().mode() & 0o77, 0, "{name}");
        }
    }
}

/// A token service that sends back the assertion, and an admin API that sends back the token.
fn services_that_send_back_what_they_got(heard: &mut Heard, home: &Home, tenant: &str, app: &str, pem: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let claims = json!({"tid": tenant, "appid": app, "roles": ["Exchange.ManageAsApp"], "exops_lab": true}).to_string();
    let token = format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#), URL_SAFE_NO_PAD.encode(claims));
    let mark = [("x-exops-lab", "1")];
    let given = json!({"access_token": token, "expires_in": 3600, "token_type": "Bearer"}).to_string();
    let returned = move |headers: HeaderMap| async move {
        let sent = headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let status = headers.get("x-anchormailbox").map_or(StatusCode::FORBIDDEN, |_| StatusCode::BAD_REQUEST);
        let error = json!({"error": {"code": "BadRequest", "message": format!("not wanted: {sent}"), "details": []}});
        (status, mark, error.to_string())
    };
    let routes = axum::Router::new()
        .route(
            "/returned/{tenant}/oauth2/v2.0/token",
            post(move |form: String| async move {
                let text = format!("AADSTS50000: no use for {form}");
                (StatusCode::BAD_REQUEST, mark, json!({"error": "server_error", "error_description": text}).to_string())
            }),
        )
        .route("/given/{tenant}/oauth2/v2.0/token", post(move || async move { (mark, given).into_response() }))
        .route("/given/adminapi/{*path}", any(returned))
        .route("/given/powershell-liveid", any(returned));
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let url = runtime.block_on(service(folder.path(), now(), routes));
    let ca = folder.path().join("ca.pem").to_string_lossy().into_owned();
    let connect = |at: &str| -> Vec<String> {
        let url = format!("{url}/{at}");
        let words = ["connect", "--lab", "--authority", &url, "--endpoint", &url, "--ca-file", &ca, "--app-id", app];
        let more = ["--organization", "contoso.onmicrosoft.com", "--certificate-file-path", pem];
        words.iter().chain(&more).map(|w| (*w).to_owned()).collect()
    };
    for (at, exit) in [("returned", 4), ("given", 3)] {
        let words = connect(at);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        for more in [&[][..], &["-o", "json"]] {
            let said = heard.run(home, &[], &[&words[..], more].concat(), exit);
            assert!(said.contains("[token]"), "{at} says what was wrong: {said}");
        }
    }
    // The same with a profile.
    let profile = json!({"app_id": app, "organization": "contoso.onmicrosoft.com", "tenant_id": tenant, "connection_id": app});
    let lines: String = profile.as_object().into_iter().flatten().map(|(k, v)| format!("{k} = {v}\n")).collect();
    let given = format!("{url}/given");
    let endpoint = json!({"kind": "fixed", "authority": given, "admin_api": given, "powershell": format!("{given}/powershell-liveid"),
        "ca_file": ca, "lab": true});
    let endpoint: String = endpoint.as_object().into_iter().flatten().map(|(k, v)| format!("{k} = {v}\n")).collect();
    let text = format!("{lines}[endpoint]\n{endpoint}[credential]\nkind = \"file\"\npath = {}\npassword = \"none\"\n", json!(pem));
    fs::write(home.path().join("profiles/returned.toml"), &text).expect("a profile");
    // Its admin API only says no.
    let text = text.replace(&format!("admin_api = {}", json!(given)), &format!("admin_api = {}", json!(url)));
    fs::write(home.path().join("profiles/refused.toml"), text).expect("a profile");
    for (words, exit) in [
        (&["run", "Get-Mailbox", "--profile", "returned"][..], 3),
        (&["run", "Get-Mailbox", "--profile", "returned", "--transport", "rps"], 5),
        (&["rest", "POST", "/adminapi/beta/{tenant}/InvokeCommand", "--body", "{}", "--profile", "refused"], 4),
        (&["run", "Get-Mailbox", "--profile", "refused"], 4),
    ] {
        heard.run(home, &[], words, exit);
    }
}

/// A process in the middle of its work, and the lab's: no dump of memory, no secret among its words, no children.
fn as_the_system_shows_it(heard: &mut Heard, home: &Home, lab: u64) {
    if !cfg!(target_os = "linux") {
        println!("NOT RUN: what the system shows of a process: only Linux has /proc");
        return;
    }
    let words = ["run", "Get-Recipient", "-ResultSize", "Unlimited", "--profile", "file"];
    let mut child = home.command(&words).spawn().expect("it starts");
    // It has begun, and waits for a reader of its output.
    let mut first = [0];
    let mut output = child.stdout.take().expect("standard output");
    std::io::Read::read_exact(&mut output, &mut first).expect("an object");
    for process in [u64::from(child.id()), lab] {
        let shown = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default();
        let limits = shown("limits");
        let cores = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap_or_default();
        assert_eq!(cores.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{limits}");
        let line = shown("cmdline");
        assert!(line.contains("exops"), "{line:?}");
        heard.0.push((format!("/proc/{process}/cmdline"), line));
        assert_eq!(shown(&format!("task/{process}/children")), "", "it starts no other program");
        // Whoever may not act for the system cannot look into it.
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").expect("this process")) != 0 {
            assert!(fs::read(format!("/proc/{process}/environ")).is_err(), "the environment of {process} is open to others");
        }
    }
    drop(output);
    let output = child.wait_with_output().expect("it ends");
    heard.add(&words, &output);
}
