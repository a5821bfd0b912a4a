//! `--query`, `exops rest`, and where values come from.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use exops_auth::{issue, pfx};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::cli::{Prepared, now, says};
use crate::program::Run;

const ADDRESS: &str = "ann.beebe@contoso.onmicrosoft.com";

#[test]
fn queries() {
    let prepared = Prepared::connected();
    let run = |more: &[&str]| prepared.run(&[&["Get-Mailbox", "-ResultSize", "60"], more].concat());
    let all = run(&["-o", "json"]).exits(0).json();
    let all = all.as_array().expect("a list").clone();
    let names = |of: &dyn Fn(&&Value) -> bool| -> Value { all.iter().filter(of).map(|m| m["DisplayName"].clone()).collect() };
    let shared = names(&|m| m["IsShared"] == true);
    assert!(shared.as_array().is_some_and(|s| !s.is_empty()));

    for transport in ["rest", "rps"] {
        // A list is shown as objects are; one value is the document.
        let table: &[(&str, Value)] = &[
            ("[?IsShared].DisplayName", shared.clone()),
            ("[].DisplayName", names(&|_| true)),
            ("[?IsShared] | [0].DisplayName", shared[0].clone()),
            ("length(@)", json!(all.len())),
            ("[1:3].DisplayName", json!([all[1]["DisplayName"], all[2]["DisplayName"]])),
            ("[?DisplayName=='nobody']", json!([])),
            ("[0].Nothing", json!(null)),
        ];
        for (expression, expected) in table {
            let found = run(&["-o", "json", "--transport", transport, "--query", expression]).exits(0);
            assert_eq!(found.json(), *expected, "{expression}");
        }
    }
    // The objects that pass are the same ones, with their properties in the same order.
    let passed = run(&["-o", "json", "--query", "[?IsShared]"]).exits(0).stdout;
    let expected: Vec<&Value> = all.iter().filter(|m| m["IsShared"] == true).collect();
    let passed: Vec<Value> = serde_json::from_str(&passed).expect("JSON");
    assert_eq!(json!(passed).to_string(), json!(expected).to_string());

    // Every form; columns as the expression names them, --select on top.
    let pair = format!("[?PrimarySmtpAddress=='{ADDRESS}'].{{Who: DisplayName, Mail: PrimarySmtpAddress, Many: IsShared}}");
    let forms: &[(&[&str], String)] = &[
        (&["-o", "csv"], format!("Who,Mail,Many\nAnn Beebe,{ADDRESS},False\n")),
        (&["-o", "jsonl"], format!("{{\"Who\":\"Ann Beebe\",\"Mail\":\"{ADDRESS}\",\"Many\":false}}\n")),
        (&["-o", "yaml"], format!("- Who: Ann Beebe\n  Mail: {ADDRESS}\n  Many: false\n")),
        (&["-o", "list"], format!("Who  : Ann Beebe\nMail : {ADDRESS}\nMany : False\n")),
        (&["-o", "csv", "--select", "Mail,Who"], format!("Mail,Who\n{ADDRESS},Ann Beebe\n")),
        (&[], format!("{{\"Who\":\"Ann Beebe\",\"Mail\":\"{ADDRESS}\",\"Many\":false}}\n")),
    ];
    for (form, expected) in forms {
        assert_eq!(run(&[*form, &["--query", &pair]].concat()).exits(0).stdout, *expected, "{form:?}");
    }
    let table = run(&["-o", "table", "--query", &pair]).exits(0).stdout;
    assert!(table.starts_with("Who       Mail ") && table.lines().count() == 3, "{table}");
    // Whole objects have the columns of their type's view.
    let head = |more: &[&str]| -> Vec<String> {
        let shown = run(&[&["-o", "table"], more].concat()).exits(0).stdout;
        shown.lines().next().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(head(&["--query", "[?IsShared]"]), head(&[]));
    assert!(run(&["-o", "clixml", "--query", &pair]).exits(0).stdout.contains("N=\"Mail\">ann.beebe"));

    // What is wrong with an expression, and where, before anything is sent.
    let bad = prepared.run(&["Get-Mailbox", "--query", "[?IsShared"]).exits(2);
    says(&bad, &["'[?IsShared'", "no JMESPath expression", "at character 11", "jmespath.org"]);
    let bad = prepared.run(&["Get-Mailbox", "--query", "nothing(@)", "-o", "json"]).exits(2);
    let error: Value = serde_json::from_str(&bad.stderr).expect("JSON");
    assert_eq!((&error["error"]["code"], &error["error"]["target"]), (&json!("Query"), &json!("nothing(@)")), "{error}");
    says(&prepared.run(&["Get-Mailbox", "--query"]).exits(2), &["--query needs a value"]);
}

#[test]
fn raw_calls() {
    let prepared = Prepared::connected();
    let home = &prepared.lab.home;
    let tenant = prepared.lab.text("tenant_id").to_owned();
    let path = "/adminapi/beta/{tenant}/InvokeCommand";
    let body = json!({"CmdletInput": {"CmdletName": "Get-Mailbox", "Parameters": {"Identity": ADDRESS}}}).to_string();
    fs::write(home.path().join("call.json"), format!("\u{feff}{body}")).expect("a file");
    let inline = home.exops(&["rest", "POST", path, "--body", &body]).exits(0).json();
    assert_eq!(inline["value"][0]["PrimarySmtpAddress"], ADDRESS, "{inline}");
    assert!(inline["value"][0].as_object().is_some_and(|o| o.keys().any(|k| k.contains("@odata.type") || k.contains("@data.type"))), "raw");
    let filed = home.exops(&["rest", "post", path, "--body", "@call.json"]).exits(0).json();
    assert_eq!(filed["value"], inline["value"]);
    let mut piped = home.command(&["rest", "POST", path, "-Body", "-"]).stdin(Stdio::piped()).spawn().expect("it starts");
    piped.stdin.take().expect("standard input").write_all(body.as_bytes()).expect("it reads");
    let piped = piped.wait_with_output().expect("it ends");
    assert_eq!(serde_json::from_slice::<Value>(&piped.stdout).expect("JSON")["value"], inline["value"]);
    // A whole URL of the connection's own; the call as curl, without the token.
    let url = format!("{}/adminapi/beta/{tenant}/InvokeCommand", prepared.lab.text("admin_api"));
    let shown = home.exops(&["rest", "POST", &url, "--body", &body, "--show-curl"]).exits(0);
    assert!(
        shown.stderr.contains(&url) && shown.stderr.contains("Bearer $TOKEN") && shown.stderr.contains("X-AnchorMailbox"),
        "{}",
        shown.stderr
    );
    assert!(!shown.stderr.contains("eyJ"), "{}", shown.stderr);

    // H-03: the token goes to nobody else, whatever the address looks like.
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("a port");
    let calls = Arc::new(AtomicUsize::new(0));
    let port = elsewhere.local_addr().expect("its address").port();
    let counted = calls.clone();
    std::thread::spawn(move || {
        for _ in elsewhere.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let own = prepared.lab.text("admin_api").to_owned();
    let foreign = [
        format!("https://127.0.0.1:{port}/adminapi/beta/x/InvokeCommand"),
        format!("http://127.0.0.1:{port}/adminapi/beta/x/InvokeCommand"),
        format!("//127.0.0.1:{port}/adminapi/"),
        format!("{own}@127.0.0.1:{port}/adminapi/beta"),
        format!("{own}.example.com/adminapi/beta"),
        "/adminapi/../exops-lab/v1/shutdown".to_owned(),
        "/adminapi/%2e%2e/exops-lab/v1/shutdown".to_owned(),
        "/exops-lab/v1/shutdown".to_owned(),
        "/adminapi\\..\\x".to_owned(),
        "/adminapi/beta/{organisation}/InvokeCommand".to_owned(),
        "/adminapi/beta/a b".to_owned(),
    ];
    for address in &foreign {
        let refused = home.exops(&["rest", "POST", address, "--body", "{}"]).exits(2);
        says(&refused, &["such as /adminapi/beta/{tenant}/InvokeCommand"]);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 0, "something was sent");

    // Errors and their codes, for people and for programs.
    let call = |cmdlet: &str, parameters: Value| json!({"CmdletInput": {"CmdletName": cmdlet, "Parameters": parameters}}).to_string();
    let absent = call("Get-Mailbox", json!({"Identity": "nobody at all"}));
    let unknown = call("Get-Mailbx", json!({}));
    let table: &[(&[&str], i32, &str)] = &[
        (&["rest", "POST", path, "--body", &absent], 3, "nobody at all"),
        (&["rest", "POST", path, "--body", &unknown], 5, "not allowed to call Get-Mailbx"),
        (&["rest", "GET", path], 1, "HTTP"),
        (&["rest", "POST", "/adminapi/beta/{tenant}/Nothing", "--body", "{}"], 3, "no resource"),
        (&["rest", "FETCH", path], 2, "'FETCH' is no method"),
        (&["rest", "POST", path, "--body", "{x"], 2, "--body is no JSON"),
        (&["rest", "POST", path, "--body", "@/nonexistent"], 1, "/nonexistent"),
        (&["rest", "POST", path, "--body", &body, "--require-tenant", "fabrikam.com"], 2, "fabrikam.com"),
        (&["rest", "GET", "/v1.0/applications", "--profile", "absent"], 4, "absent"),
        (&["rest", "GET", "/v1.0/applications"], 4, "token"),
    ];
    for (words, exit, part) in table {
        let run = home.exops(words);
        assert_eq!(run.code, *exit, "{words:?}: {}", run.stderr);
        assert!(run.stderr.contains("error: ") && run.stderr.contains(part), "{words:?}: {}", run.stderr);
        let run = home.exops(&[*words, &["-o", "json"]].concat()).exits(*exit);
        let error: Value = serde_json::from_str(&run.stderr).unwrap_or_else(|e| panic!("{words:?}: {e}: {}", run.stderr));
        assert!(error["error"]["message"].as_str().is_some_and(|m| !m.is_empty()), "{error}");
    }
}

/// Precedence: the option, then our variable, then that of Azure's libraries.
#[test]
fn where_values_come_from() {
    let prepared = Prepared::new(&["Exchange Administrator"]);
    let home = &prepared.lab.home;
    let data = prepared.lab.data().to_string_lossy().into_owned();
    let authority = prepared.lab.text("authority").to_owned();
    let ca = prepared.lab.text("ca_file").to_owned();
    let password = "correct horse";
    let identity = issue::self_signed("CN=variables", 10, now()).expect("a certificate");
    let path = |name: &str| home.path().join(name).to_string_lossy().into_owned();
    let (key, public, secret) = (path("variables.pfx"), path("variables.crt"), path("password"));
    fs::write(&key, pfx::write(&identity, Some(&password.into())).expect("a PFX").expose_secret()).expect("a file");
    fs::write(&public, identity.certificate.to_pem()).expect("a file");
    fs::write(&secret, format!("{password}\n")).expect("a file");
    let made = ["lab", "app", "create", "--name", "variables", "--certificate", &public, "--app-role", "Exchange.ManageAsApp", "--json"];
    let made = prepared.lab.exops(&[&made[..], &["--directory-role", "Global Reader"]].concat()).exits(0).json();
    let app = made["app_id"].as_str().expect("app_id");
    let (nobody, nowhere) = ("11111111-2222-3333-4444-555555555555", "https://localhost:1");
    let thumbprint = prepared.thumbprint.as_str();
    let tenant = prepared.lab.text("tenant_id");
    let azure: &[(&str, &str)] = &[
        ("AZURE_CLIENT_ID", app),
        ("AZURE_TENANT_ID", tenant),
        ("AZURE_CLIENT_CERTIFICATE_PATH", &key),
        ("AZURE_CLIENT_CERTIFICATE_PASSWORD", password),
        ("AZURE_AUTHORITY_HOST", &authority),
    ];
    let fixed = ["connect", "--lab", "--endpoint", &authority, "--ca-file", &ca];
    let in_lab = ["connect", "--lab", "--data", &data];
    type Row<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str], i32, &'a str);
    let table: &[Row<'_>] = &[
        // Only the options that no variable of Azure's names.
        (&fixed, &[], &["--organization", "contoso.onmicrosoft.com"], 0, "contoso.onmicrosoft.com"),
        (&in_lab, &[], &[], 0, "contoso.onmicrosoft.com"),
        (&in_lab, &[("EXOPS_APP_ID", nobody)], &[], 4, nobody),
        (&in_lab, &[("EXOPS_APP_ID", nobody)], &["--app-id", app], 0, app),
        (&in_lab, &[("EXOPS_CERTIFICATE", "/nonexistent/key")], &[], 4, "/nonexistent/key"),
        (&in_lab, &[("EXOPS_CERTIFICATE", "/nonexistent/key")], &["-CertificateFilePath", &key], 0, app),
        (&in_lab, &[("EXOPS_CERTIFICATE_PASSWORD_FILE", "/nonexistent/password")], &[], 4, "/nonexistent/password"),
        (&in_lab, &[("EXOPS_CERTIFICATE_PASSWORD_FILE", "/nonexistent/password")], &["-CertificatePasswordFile", &secret], 0, app),
        (&in_lab, &[("EXOPS_ORGANIZATION", "nobody.onmicrosoft.com")], &[], 4, "nobody.onmicrosoft.com"),
        (&in_lab, &[("AZURE_CLIENT_ID", "me")], &[], 2, "AZURE_CLIENT_ID is 'me'"),
        (&in_lab, &[("AZURE_CLIENT_ID", "")], &[], 2, "--app-id is missing"),
        (&in_lab, &[("AZURE_CLIENT_CERTIFICATE_PASSWORD", "wrong horse")], &[], 4, "the password is wrong"),
        (&in_lab, &[("AZURE_CLIENT_CERTIFICATE_PASSWORD", "")], &[], 4, "protected by a password"),
        // A secret is told of where it is all that there is, and stands in nobody's way.
        (&in_lab, &[("AZURE_CLIENT_CERTIFICATE_PATH", ""), ("AZURE_CLIENT_SECRET", "horse")], &[], 2, "AZURE_CLIENT_SECRET is not used"),
        (&in_lab, &[("AZURE_CLIENT_SECRET", "horse")], &[], 0, app),
        (&in_lab, &[("EXOPS_CERTIFICATE", "/nonexistent/key")], &["--app-id", &prepared.app_id, "-Thumbprint", thumbprint], 0, "cli-test"),
        // A lab by variable, in any word for yes or no.
        (&["connect", "--data", &data], &[("EXOPS_LAB", "1")], &[], 0, "contoso.onmicrosoft.com"),
        (&["connect", "--data", &data], &[("EXOPS_LAB", "true")], &[], 0, "contoso.onmicrosoft.com"),
        (&["connect", "--endpoint", &authority, "--ca-file", &ca], &[("EXOPS_LAB", "Off")], &[], 4, "--lab"),
        // Addresses and CA, each said by the option, by our variable, by Azure's.
        (&["connect", "--lab"], &[("EXOPS_ENDPOINT", &authority), ("EXOPS_CA_FILE", &ca)], &[], 0, tenant),
        (&fixed, &[("EXOPS_AUTHORITY", nowhere)], &[], 8, nowhere),
        (&fixed, &[("EXOPS_AUTHORITY", nowhere)], &["--authority", &authority], 0, tenant),
        (&fixed, &[("AZURE_AUTHORITY_HOST", nowhere)], &[], 8, nowhere),
        (&fixed, &[("AZURE_AUTHORITY_HOST", "localhost:1")], &[], 8, nowhere),
        (&fixed, &[("AZURE_AUTHORITY_HOST", nowhere), ("EXOPS_AUTHORITY", &authority)], &[], 0, tenant),
        (&fixed, &[("EXOPS_ENDPOINT", nowhere), ("EXOPS_CA_FILE", "/nonexistent/ca")], &[], 0, tenant),
        (&["connect", "--lab"], &[("EXOPS_ENDPOINT", nowhere), ("EXOPS_CA_FILE", &ca)], &[], 8, nowhere),
        (&["connect", "--lab"], &[("EXOPS_ENDPOINT", &authority), ("EXOPS_CA_FILE", "/nonexistent/ca")], &[], 1, "/nonexistent/ca"),
        (&fixed, &[("EXOPS_ORGANIZATION", "nobody.onmicrosoft.com")], &["-Organization", tenant], 0, tenant),
        (&fixed, &[("EXOPS_ORGANIZATION", "contoso.onmicrosoft.com"), ("AZURE_TENANT_ID", nobody)], &[], 0, tenant),
        (&fixed, &[("AZURE_TENANT_ID", nobody)], &[], 4, nobody),
        // The form and the name of the connection.
        (&in_lab, &[("EXOPS_OUTPUT", "json")], &[], 0, "\"AppId\""),
        (&in_lab, &[("EXOPS_OUTPUT", "json")], &["-o", "table"], 0, "saved as profile 'default'"),
        (&in_lab, &[("EXOPS_OUTPUT", "xml")], &[], 2, "xml"),
        (&in_lab, &[("EXOPS_PROFILE", "named")], &[], 0, "saved as profile 'named'"),
        (&in_lab, &[("EXOPS_PROFILE", "named")], &["--profile", "other"], 0, "saved as profile 'other'"),
    ];
    for (base, variables, more, exit, part) in table {
        let mut command = home.command(&[*base, *more].concat());
        command.envs(azure.iter().copied()).envs(variables.iter().copied());
        let run = command.output().expect("it runs");
        let text = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(*exit), "{variables:?} {more:?}: {text}");
        assert!(text.contains(part) && !text.contains("horse"), "{variables:?} {more:?}: {text}");
    }
    // For every other command: an option goes before its variable, our variable before the profile, the profile before the
    // default and before what Azure's libraries read. Two profiles: one by file, one by thumbprint.
    let stored = ["--app-id", &prepared.app_id, "--certificate-thumbprint", thumbprint, "--profile", "stored"];
    home.exops(&[&in_lab[..], &stored].concat()).exits(0);
    let by_file = ["--app-id", app, "--certificate", &key, "--certificate-password-file", &secret, "--profile", "named"];
    home.exops(&[&in_lab[..], &by_file].concat()).exits(0);
    fs::remove_file(home.path().join("profiles/default.toml")).expect("the default profile");
    let other = prepared.lab.exops(&["lab", "status", "--json"]).exits(0).json();
    assert_eq!(other["organization"], "contoso.onmicrosoft.com");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let empty = elsewhere.path().join("empty.pem");
    fs::write(&empty, "nothing\n").expect("a file");
    let empty = empty.to_string_lossy().into_owned();
    let all = [
        ("EXOPS_LAB", "1"),
        ("EXOPS_APP_ID", app),
        ("EXOPS_CERTIFICATE", &key),
        ("EXOPS_CERTIFICATE_PASSWORD_FILE", &secret),
        ("EXOPS_AUTHORITY", &authority),
        ("EXOPS_ENDPOINT", &authority),
        ("EXOPS_CA_FILE", &ca),
        ("EXOPS_ORGANIZATION", "contoso.onmicrosoft.com"),
    ];
    let but = |name: &str, value: &'static str| -> Vec<(&str, &str)> {
        all.iter().map(|(n, v)| if *n == name { (*n, value) } else { (*n, *v) }).collect()
    };
    let azures = [azure, &[("EXOPS_LAB", "1"), ("EXOPS_ENDPOINT", &authority), ("EXOPS_CA_FILE", &ca)]].concat();
    let (named, kept): (&[&str], &[&str]) = (&["--profile", "named"], &["--profile", "stored"]);
    let by_file = format!("\"AppId\":\"{app}\"");
    let by_store = format!("\"AppId\":\"{}\"", prepared.app_id);
    type Status<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], i32, &'a str);
    let table: &[Status<'_>] = &[
        (&[], named, 0, &by_file),
        (&[], kept, 0, &by_store),
        (&[], &[], 4, "no profile 'default'"),
        (&[("EXOPS_PROFILE", "named")], &[], 0, &by_file),
        (&[("EXOPS_PROFILE", "named")], kept, 0, &by_store),
        (&[("EXOPS_PROFILE", "absent")], &[], 4, "no profile 'absent'"),
        // All that a connection needs, and no profile.
        (&all, &[], 0, "\"Profile\":\"environment\""),
        (&all, kept, 0, &by_file),
        (&but("EXOPS_LAB", ""), &[], 4, "--lab"),
        (&but("EXOPS_LAB", "no"), &[], 4, "--lab"),
        (&but("EXOPS_APP_ID", "me"), &[], 2, "EXOPS_APP_ID is 'me'"),
        (&but("EXOPS_APP_ID", nobody), &[], 4, nobody),
        (&but("EXOPS_APP_ID", ""), &[], 4, "no profile 'default'"),
        (&but("EXOPS_CERTIFICATE", "/nonexistent/key"), &[], 4, "/nonexistent/key"),
        (&but("EXOPS_CERTIFICATE_PASSWORD_FILE", "/nonexistent/word"), &[], 4, "/nonexistent/word"),
        (&but("EXOPS_AUTHORITY", nowhere), &[], 8, nowhere),
        (&but("EXOPS_AUTHORITY", "http://localhost"), &[], 2, "no https URL"),
        (&but("EXOPS_CA_FILE", "/nonexistent/ca"), &[], 1, "/nonexistent/ca"),
        (&but("EXOPS_ORGANIZATION", "nobody.example"), &[], 4, "nobody.example"),
        (&but("EXOPS_ORGANIZATION", ""), &[], 4, "EXOPS_ORGANIZATION"),
        // A ready file says the organisation and all addresses.
        (&all[..4], &[], 0, &by_file),
        // Each goes before what the profile says.
        (&[("EXOPS_APP_ID", nobody)], named, 4, nobody),
        (&[("EXOPS_CERTIFICATE", "/nonexistent/key")], named, 4, "/nonexistent/key"),
        (&[("EXOPS_CERTIFICATE", &key), ("EXOPS_APP_ID", app)], kept, 4, "protected by a password"),
        (&[("EXOPS_CERTIFICATE", &key), ("EXOPS_APP_ID", app), ("EXOPS_CERTIFICATE_PASSWORD_FILE", &secret)], kept, 0, &by_file),
        (&[("EXOPS_CERTIFICATE_PASSWORD_FILE", "/nonexistent/word")], named, 4, "/nonexistent/word"),
        (&[("EXOPS_CERTIFICATE_PASSWORD_FILE", "/nonexistent/word")], kept, 0, &by_store),
        (&[("EXOPS_PROFILE", "named"), ("EXOPS_AUTHORITY", nowhere)], &[], 8, nowhere),
        (&[("EXOPS_AUTHORITY", "localhost:1")], named, 2, "EXOPS_AUTHORITY 'localhost:1' is no https URL"),
        (&[("EXOPS_PROFILE", "named"), ("EXOPS_ENDPOINT", nowhere)], &[], 0, nowhere),
        (&[("EXOPS_ENDPOINT", "localhost:1")], named, 2, "EXOPS_ENDPOINT 'localhost:1' is no https URL"),
        (&[("EXOPS_CA_FILE", "/nonexistent/ca")], named, 1, "/nonexistent/ca"),
        (&[("EXOPS_PROFILE", "named"), ("EXOPS_CA_FILE", &empty)], &[], 8, "holds no PEM certificate"),
        (&[("EXOPS_ORGANIZATION", tenant)], named, 0, &by_file),
        (&[("EXOPS_ORGANIZATION", "nobody.example")], named, 4, "nobody.example"),
        (&[("EXOPS_APP_ID", "")], named, 0, &by_file),
        // Azure's say only what nobody else does.
        (&azures, &[], 0, &by_file),
        (
            &[("AZURE_CLIENT_ID", nobody), ("AZURE_TENANT_ID", nobody), ("AZURE_CLIENT_CERTIFICATE_PATH", "/nonexistent")],
            named,
            0,
            &by_file,
        ),
        // There is no gateway: nobody goes past one that was meant.
        (&[("EXOPS_GATEWAY", "https://gw:5986")], named, 2, "EXOPS_GATEWAY is 'https://gw:5986'"),
        (&[("EXOPS_GATEWAY", "")], named, 0, &by_file),
        (&[("EXOPS_OUTPUT", "xml")], named, 2, "xml"),
    ];
    for (variables, more, exit, part) in table {
        let mut command = home.command(&[&["status"], *more].concat());
        // Where nothing else is asked for, a program reads it.
        command.env("EXOPS_OUTPUT", "json").envs(variables.iter().copied());
        let run = command.output().expect("it runs");
        let text = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(*exit), "{variables:?} {more:?}: {text}");
        assert!(text.contains(part) && !text.contains("horse"), "{variables:?} {more:?}: {text}");
    }
    // The same for commands that send something, and what only they have.
    let run = |words: &[&str], variables: &[(&str, &str)]| {
        let run = home.command(words).envs(variables.iter().copied()).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (run.status.code(), text(&run.stdout), text(&run.stderr))
    };
    let domains = ["run", "Get-AcceptedDomain", "--select", "Name"];
    let by_variable = [("EXOPS_PROFILE", "named")];
    for (variables, more, exit, out) in [
        (&[][..], &[][..], 0, "{"),
        (&[("EXOPS_OUTPUT", "csv")], &[], 0, "Name\n"),
        (&[("EXOPS_OUTPUT", "csv")], &["-o", "json"], 0, "["),
        (&[("EXOPS_OUTPUT", "xml")], &[], 2, ""),
        (&[("EXOPS_TRANSPORT", "rps")], &[], 0, "{"),
        (&[("EXOPS_TRANSPORT", "RPS"), ("EXOPS_ENDPOINT", nowhere)], &[], 8, ""),
        (&[("EXOPS_TRANSPORT", "smtp")], &["--transport", "rest"], 0, "{"),
        (&[("EXOPS_TRANSPORT", "smtp")], &[], 2, ""),
        (&[("EXOPS_ENDPOINT", nowhere)], &[], 8, ""),
        (&[("EXOPS_GATEWAY", "gw")], &[], 2, ""),
    ] {
        let (code, stdout, stderr) = run(&[&domains[..], more].concat(), &[&by_variable[..], variables].concat());
        assert!(code == Some(exit) && stdout.starts_with(out), "{variables:?} {more:?}: {stdout}{stderr}");
    }
    let path =
        ["rest", "POST", "/adminapi/beta/{tenant}/InvokeCommand", "--body", r#"{"CmdletInput":{"CmdletName":"Get-AcceptedDomain"}}"#];
    assert_eq!(run(&path, &all).0, Some(0));
    assert_eq!(run(&["connect", "--lab"], &[("EXOPS_GATEWAY", "gw")]).0, Some(2));
    // A profile that the command line names is led nowhere else by a variable: nobody there is asked for anything, or for a token.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("it does not wait");
    let beside = format!("https://localhost:{}", listener.local_addr().expect("an address").port());
    for words in [&domains[..], &["status"], &path] {
        for (variable, value) in [("EXOPS_AUTHORITY", beside.as_str()), ("EXOPS_ENDPOINT", &beside), ("EXOPS_CA_FILE", &empty)] {
            for words in [[words, named].concat(), [named, words].concat()] {
                let mut command = home.command(&words);
                let refused = command.env("EXOPS_PROFILE", "stored").env(variable, value).output().expect("it runs");
                says(&Run::of(refused).exits(2), &["'named'", variable, value, "unset", "nothing was sent"]);
            }
        }
    }
    assert!(listener.accept().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "the other host was asked");
    // What the roles of a profile grant is not known of another connection that variables make of it.
    let (known, unknown) = (json!(false), Value::Null);
    for (variable, value, granted) in [
        ("EXOPS_APP_ID", app, &known),
        ("EXOPS_APP_ID", nobody, &unknown),
        ("EXOPS_ORGANIZATION", tenant, &known),
        ("EXOPS_ORGANIZATION", "nobody.example", &unknown),
        ("EXOPS_AUTHORITY", &authority, &known),
        ("EXOPS_AUTHORITY", nowhere, &unknown),
        ("EXOPS_ENDPOINT", &authority, &known),
        ("EXOPS_ENDPOINT", nowhere, &unknown),
    ] {
        let (_, stdout, stderr) = run(&[&["explain", "Set-Mailbox", "--json"], named].concat(), &[(variable, value)]);
        let told: Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}{stderr}"));
        assert_eq!(&told["granted"], granted, "{variable}={value}");
    }
    // I-07: what a variable says leads to no other tenant than the profile's, and both are shown.
    let second = Prepared::connected();
    let there = second.lab.text("authority").to_owned();
    let their = second.lab.text("ca_file").to_owned();
    let key = second.lab.home.path().join("there.pem").to_string_lossy().into_owned();
    second.lab.home.exops(&["cert", "export", &second.thumbprint, "--out", &key]).exits(0);
    let crossed = [
        ("EXOPS_PROFILE", "named"),
        ("EXOPS_AUTHORITY", there.as_str()),
        ("EXOPS_ENDPOINT", &there),
        ("EXOPS_CA_FILE", &their),
        ("EXOPS_APP_ID", &second.app_id),
        ("EXOPS_CERTIFICATE", &key),
    ];
    assert_eq!(run(&domains, &crossed).0, Some(4), "the pinned tenant is not known there");
    let crossed = [&crossed[..], &[("EXOPS_ORGANIZATION", "contoso.onmicrosoft.com")]].concat();
    assert_eq!(run(&domains, &crossed).0, Some(4), "the profile's own domain is still its tenant");
    let by_id = [&crossed[..6], &[("EXOPS_ORGANIZATION", second.lab.text("tenant_id"))]].concat();
    let (code, _, stderr) = run(&domains, &by_id);
    assert!(code == Some(2) && stderr.contains(tenant) && stderr.contains(second.lab.text("tenant_id")), "{stderr}");
    // Variables alone are held to --require-tenant too, and are not called a profile.
    let alone = [&by_id[1..], &[("EXOPS_LAB", "1")]].concat();
    let mut command = home.command(&["run", "Get-AcceptedDomain", "--require-tenant", tenant]);
    let refused = command.envs(alone.iter().copied()).output().expect("it runs");
    says(&Run::of(refused).exits(2), &["the variables are for", "--require-tenant", "no command was sent"]);
    assert_eq!(run(&["run", "Get-AcceptedDomain"], &alone).0, Some(0));
    // Where files are: EXOPS_HOME, else XDG's folders, else the home directory.
    #[cfg(target_os = "linux")]
    for (variables, profiles) in [
        (&[("EXOPS_HOME", "a"), ("XDG_CONFIG_HOME", "b"), ("HOME", "c")][..], "a/profiles"),
        (&[("EXOPS_HOME", ""), ("XDG_CONFIG_HOME", "b"), ("HOME", "c")], "b/exops/profiles"),
        (&[("EXOPS_HOME", ""), ("XDG_CONFIG_HOME", ""), ("HOME", "c")], "c/.config/exops/profiles"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = home.command(&in_lab);
        command.envs(azure.iter().copied());
        for (name, value) in variables {
            command.env(name, if value.is_empty() { "".into() } else { folder.path().join(value) });
        }
        assert!(command.status().is_ok_and(|s| s.success()), "{variables:?}");
        assert!(folder.path().join(profiles).join("default.toml").is_file(), "{variables:?}");
    }
    // The profile says where the password comes from, and no more.
    let mut command = home.command(&in_lab);
    assert!(command.envs(azure.iter().copied()).status().is_ok_and(|s| s.success()));
    let saved = fs::read_to_string(home.path().join("profiles/default.toml")).expect("the profile");
    assert!(saved.contains("password = \"azure\"") && !saved.contains("horse"), "{saved}");
    says(&home.exops(&["run", "Get-AcceptedDomain"]).exits(4), &["AZURE_CLIENT_CERTIFICATE_PASSWORD", "as when you connected"]);
    let mut command = home.command(&["run", "Get-AcceptedDomain"]);
    assert!(command.env("AZURE_CLIENT_CERTIFICATE_PASSWORD", password).status().is_ok_and(|s| s.success()));
}
