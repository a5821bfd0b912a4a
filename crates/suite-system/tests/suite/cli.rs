//! The command line: what a newcomer's first mistakes answer, how objects look, and how options may be written.

use std::process::Stdio;

use exops_auth::{issue, pfx};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::program::{Home, LabProgram, Run};

/// A lab with a registered application whose certificate is in the store of the lab's home.
pub(crate) struct Prepared {
    pub(crate) lab: LabProgram,
    pub(crate) app_id: String,
    pub(crate) thumbprint: String,
}

impl Prepared {
    pub(crate) fn new(directory_roles: &[&str]) -> Self {
        let lab = LabProgram::start();
        let (thumbprint, public) = certificate(&lab.home, "registered");
        let mut arguments =
            vec!["lab", "app", "create", "--name", "cli-test", "--certificate", &public, "--app-role", "Exchange.ManageAsApp"];
        for role in directory_roles {
            arguments.extend(["--directory-role", role]);
        }
        let made = lab.exops(&[&arguments[..], &["--json"]].concat()).exits(0).json();
        let app_id = made["app_id"].as_str().expect("app_id").to_owned();
        assert_eq!(made["certificates"][0]["thumbprint"], thumbprint.as_str(), "{made}");
        Self { lab, app_id, thumbprint }
    }

    /// The same, connected.
    pub(crate) fn connected() -> Self {
        let prepared = Self::new(&["Exchange Administrator"]);
        prepared.connect(&[]).exits(0);
        prepared
    }

    pub(crate) fn connect(&self, more: &[&str]) -> Run {
        let certificate = ["--thumbprint", self.thumbprint.as_str()];
        let chosen: &[&str] = if more.iter().any(|w| w.contains("humbprint") || w.contains("ertificate")) { &[] } else { &certificate };
        self.lab.exops(&[&["connect", "--lab", "--app-id", &self.app_id], chosen, more].concat())
    }

    pub(crate) fn run(&self, words: &[&str]) -> Run {
        self.lab.home.exops(&[&["run"], words].concat())
    }

    fn profile(&self) -> bool {
        self.lab.home.path().join("profiles/default.toml").exists()
    }
}

/// Makes a certificate in a home's store; its thumbprint and a PEM file without the key.
pub(crate) fn certificate(home: &Home, name: &str) -> (String, String) {
    let public = home.path().join(format!("{name}.pem")).to_string_lossy().into_owned();
    let made = home.exops(&["cert", "new", "--subject", &format!("CN={name}"), "--out", &public, "--json"]).exits(0).json();
    (made["thumbprint"].as_str().expect("a thumbprint").to_owned(), public)
}

/// The human form of an error: what failed, with which value, and what to do.
#[track_caller]
pub(crate) fn says(run: &Run, parts: &[&str]) {
    let stderr = &run.stderr;
    assert!(stderr.contains("error: ") && stderr.contains("hint: "), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} is missing in:\n{stderr}");
    }
}

#[test]
fn errors_of_signing_in() {
    let prepared = Prepared::new(&["Exchange Administrator"]);
    let home = &prepared.lab.home;

    // Wrong PFX password.
    let identity = issue::self_signed("CN=with password", 30, now()).expect("a certificate");
    let file = home.path().join("with-password.pfx");
    let content = pfx::write(&identity, Some(&"correct horse".into())).expect("a PFX");
    std::fs::write(&file, content.expose_secret()).expect("a file");
    let password = home.path().join("wrong-password").to_string_lossy().into_owned();
    std::fs::write(&password, "wrong horse\n").expect("a file");
    let file = file.to_string_lossy().into_owned();
    let wrong = prepared.connect(&["-CertificateFilePath", &file, "--certificate-password-file", &password]).exits(4);
    says(&wrong, &["with-password.pfx", "the password is wrong", "check the password"]);
    assert!(!wrong.stderr.contains("horse"), "{}", wrong.stderr);
    let nobody_to_ask = prepared.connect(&["-CertificateFilePath", &file]).exits(4);
    says(&nobody_to_ask, &["protected by a password", "--certificate-password-file"]);
    let on_the_line = prepared.connect(&["-CertificateFilePath", &file, "-CertificatePassword", "correct horse"]).exits(2);
    says(&on_the_line, &["not taken from the command line", "--certificate-password-file"]);

    // Certificate not registered.
    let (stranger, _) = certificate(home, "stranger");
    let unregistered = prepared.connect(&["--thumbprint", &stranger]).exits(4);
    says(&unregistered, &["AADSTS700027", &prepared.app_id, "contoso.onmicrosoft.com", "exops lab app create --certificate"]);

    // Unknown tenant, unknown application, a thumbprint that is in no store.
    let tenant = prepared.connect(&["-Organization", "nobody.onmicrosoft.com"]).exits(4);
    says(&tenant, &["AADSTS90002", "nobody.onmicrosoft.com", "check --organization"]);
    let data = prepared.lab.data().to_string_lossy().into_owned();
    let nobody = "11111111-2222-3333-4444-555555555555";
    let application = home.exops(&["connect", "--lab", "--data", &data, "--app-id", nobody, "--thumbprint", &prepared.thumbprint]).exits(4);
    says(&application, &["AADSTS700016", nobody, "exops lab app list"]);
    let absent = prepared.connect(&["--thumbprint", &"AB".repeat(20)]).exits(9);
    says(&absent, &[&"AB".repeat(20), "exops cert list"]);

    // As a JSON object for programs.
    let json = prepared.connect(&["--thumbprint", &stranger, "-o", "json"]).exits(4);
    let error: Value = serde_json::from_str(&json.stderr).expect("one JSON object");
    assert_eq!(error["error"]["code"], "AADSTS700027", "{error}");
    assert!(error["error"]["hint"].is_string() && error["error"]["retryable"] == false, "{error}");

    assert!(!prepared.profile(), "a connection that failed was saved");
    says(&prepared.run(&["Get-Mailbox"]).exits(4), &["no profile 'default'", "exops connect"]);
}

#[test]
fn errors_of_cmdlets() {
    let prepared = Prepared::connected();
    let unknown = prepared.run(&["Get-Mailbx"]).exits(2);
    says(&unknown, &["no cmdlet 'Get-Mailbx'", "did you mean Get-Mailbox?"]);
    let parameter = prepared.run(&["Get-Mailbox", "-ResultSiez", "5"]).exits(2);
    says(&parameter, &["Get-Mailbox has no parameter 'ResultSiez'", "did you mean -ResultSize?"]);
    for transport in ["rest", "rps"] {
        let absent = prepared.run(&["Get-Mailbox", "-Identity", "nobody at all", "--transport", transport]).exits(3);
        says(&absent, &["nobody at all", "couldn't be found", "Get-Recipient -Filter"]);
        let unknown = prepared.run(&["Get-Mailbx", "--transport", transport]).exits(2);
        prepared.run(&["Set-Mailbox", "-CustomAttribute1", "x", "--transport", transport]).exits(2);
        says(&prepared.run(&["Get-Mailbox", "-Migration", "--transport", transport]).exits(5), &["'Migration'", "not served"]);
        says(&unknown, &["no cmdlet 'Get-Mailbx'"]);
        // The service has it, and this lab does not serve it to anybody.
        let refused = prepared.run(&["Get-TransportRule", "--transport", transport]).exits(5);
        assert!(refused.stderr.contains("Get-TransportRule is not granted"), "{}", refused.stderr);
    }
    let json = prepared.run(&["Get-Mailbox", "nobody at all", "-o", "json"]).exits(3);
    let error: Value = serde_json::from_str(&json.stderr).expect("one JSON object");
    assert_eq!(error["error"]["code"], "Ex6F9304", "{error}");
    assert_eq!(error["error"]["cmdlet"], "Get-Mailbox", "{error}");
    assert_eq!(json.stdout.trim(), "[]");
    let emptied = prepared.run(&["Set-Mailbox", "x", "-Confirm:"]).exits(2);
    says(&emptied, &["'-Confirm:' has no value", "-Confirm:false"]);
    let eaten = prepared.run(&["Set-Mailbox", "x", "-EmailAddresses", "System.Collections.Hashtable"]).exits(2);
    says(&eaten, &["System.Collections.Hashtable", "quote it"]);
}

#[test]
fn errors_of_the_network() {
    let prepared = Prepared::connected();
    // The CA is not trusted, where neither --lab nor --ca-file says so.
    let authority = prepared.lab.text("authority").to_owned();
    let untrusted =
        ["connect", "--app-id", &prepared.app_id, "--thumbprint", &prepared.thumbprint, "--organization", "contoso.onmicrosoft.com"];
    let home = &prepared.lab.home;
    let fixed = ["--authority", authority.as_str(), "--endpoint", authority.as_str()];
    let refused = home.exops(&[&untrusted[..], &fixed].concat()).exits(8);
    says(&refused, &[&authority, "not trusted", "--lab"]);
    // Trusted, but not known to be a lab: its mark gives it away before anything is believed.
    let ca = prepared.lab.text("ca_file").to_owned();
    let marked = home.exops(&[&untrusted[..], &fixed, &["--ca-file", &ca]].concat()).exits(4);
    says(&marked, &["is a lab's", "--lab"]);
    // With both it works, without the ready file.
    home.exops(&[&untrusted[..], &fixed, &["--ca-file", &ca, "--lab", "--profile", "fixed"]].concat()).exits(0);
    home.exops(&["run", "Get-AcceptedDomain", "--profile", "fixed"]).exits(0);

    // Port taken, data folder in use.
    let address = authority.trim_start_matches("https://").replace("localhost", "127.0.0.1");
    let taken = home.exops(&["lab", "up", "--ephemeral", "--listen", &address]).exits(1);
    says(&taken, &[&address, "--listen"]);
    let data = prepared.lab.data().to_string_lossy().into_owned();
    let in_use = home.exops(&["lab", "up", "--data", &data, "--listen", "127.0.0.1:0"]).exits(1);
    says(&in_use, &[&data, "in use", "exops lab down"]);

    // The lab is gone: with its ready file (down), and without a chance to remove it (killed).
    prepared.lab.exops(&["lab", "down"]).exits(0);
    let gone = prepared.run(&["Get-Mailbox"]).exits(8);
    says(&gone, &[&data, "exops lab up"]);
    let fixed = home.exops(&["run", "Get-Mailbox", "--profile", "fixed"]).exits(8);
    says(&fixed, &[&authority, "exops lab up"]);
    says(&home.exops(&["lab", "status", "--data", &data]).exits(8), &[&data, "exops lab up"]);
    let app_id = prepared.app_id.clone();
    let never =
        home.exops(&["connect", "--lab", "--data", "/nonexistent/lab", "--app-id", &app_id, "--thumbprint", &prepared.thumbprint]).exits(8);
    says(&never, &["/nonexistent/lab", "exops lab up"]);
}

#[test]
fn roles_decide() {
    let without = Prepared::new(&[]);
    let refused = without.connect(&[]).exits(5);
    says(&refused, &["may not run cmdlets", &without.app_id, "directory role"]);
    let reader = Prepared::new(&["Global Reader"]);
    reader.connect(&[]).exits(0);
    for transport in ["rest", "rps"] {
        reader.run(&["Get-Mailbox", "-ResultSize", "1", "--transport", transport]).exits(0);
        reader.run(&["Set-Mailbox", "anybody", "-CustomAttribute1", "x", "--transport", transport]).exits(5);
    }
}

#[test]
fn objects_in_every_format() {
    let prepared = Prepared::connected();
    let domains = ["Get-AcceptedDomain"];
    let run = |more: &[&str]| prepared.run(&[&domains[..], more].concat()).exits(0).stdout;

    let table = run(&["-o", "table"]);
    let expected = "\
Name                    DomainName              DomainType    Default
----                    ----------              ----------    -------
contoso.com             contoso.com             Authoritative False
contoso.onmicrosoft.com contoso.onmicrosoft.com Authoritative True
";
    assert_eq!(table, expected);
    assert_eq!(run(&["-o", "table", "--transport", "rps"]), expected);

    let list = run(&["-o", "list"]);
    let named = |l: &&str| l.starts_with("DomainName ") && l.ends_with(" : contoso.onmicrosoft.com");
    assert_eq!(list.lines().filter(named).count(), 1, "{list}");
    assert_eq!(list.split("\n\n").count(), 2, "a blank line between objects:\n{list}");

    let array: Value = serde_json::from_str(&run(&["-o", "json"])).expect("one array");
    let lines: Vec<Value> = run(&["-o", "jsonl"]).lines().map(|l| serde_json::from_str(l).expect("an object a line")).collect();
    assert_eq!(array, Value::Array(lines.clone()));
    assert_eq!(run(&[]), run(&["-o", "jsonl"]), "not on a terminal: one object a line");
    let first = lines.first().and_then(Value::as_object).expect("an object");
    assert!(first.keys().all(|k| !k.contains('@')), "{first:?}");
    let over_rps: Value = serde_json::from_str(&run(&["-o", "json", "--transport", "rps"])).expect("one array");
    assert_eq!(array, over_rps);

    // A warning is not an error, and does not disturb what is on standard output.
    let some = prepared.run(&["Get-Mailbox", "-ResultSize", "2", "-o", "json"]).exits(0);
    assert_eq!(some.json().as_array().map(Vec::len), Some(2));
    assert!(some.stderr.contains("There are more results available"), "{}", some.stderr);

    // Standard output that nobody reads any more ends the program without a word.
    let mut command = prepared.lab.home.command(&["run", "Get-Mailbox", "-ResultSize", "Unlimited"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.len()), (Some(141), 0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn options_as_people_write_them() {
    let prepared = Prepared::new(&["Exchange Administrator"]);
    let (id, thumbprint) = (prepared.app_id.clone(), prepared.thumbprint.clone());
    let data = prepared.lab.data().to_string_lossy().into_owned();
    let home = &prepared.lab.home;
    // Pasted from a script: another verb, colons, prefixes, switches without effect.
    let pasted = ["Connect-ExchangeOnline", "-lab", "-dat", &data, "-APPID", &id, "-CertificateThumb", &thumbprint, "-ShowBanner:$false"];
    let connected = home.exops(&pasted).exits(0);
    assert!(connected.stdout.contains("connected to contoso.onmicrosoft.com"), "{}", connected.stdout);
    assert!(connected.stderr.contains("ShowBanner"), "{}", connected.stderr);
    says(&home.exops(&["connect", "-Cert", "x"]).exits(2), &["start of several options", "-CertificateThumbprint"]);
    says(&home.exops(&["connect", "-AppIdd", &id]).exits(2), &["no option '-AppIdd'", "did you mean -AppId?"]);

    let status = home.exops(&["status", "--json"]).exits(0).json();
    for (key, value) in [("State", "Connected"), ("Organization", "contoso.onmicrosoft.com"), ("TokenStatus", "Active"), ("AppId", &id)] {
        assert_eq!(status[key], value, "{status}");
    }
    assert!(home.exops(&["Get-ConnectionInformation"]).exits(0).stdout.contains("TokenExpiryTimeUTC"));

    // The cmdlet's name alone, a positional argument, a prefix, a long form, and our options anywhere.
    let all = home.exops(&["-o", "json", "Get-Mailbox", "-Res", "3"]).exits(0).json();
    let address = all[0]["PrimarySmtpAddress"].as_str().expect("an address").to_owned();
    let one = home.exops(&["get-mailbox", "--output=json", &address, "--result-size", "1"]).exits(0).json();
    assert_eq!(one[0]["PrimarySmtpAddress"], address.as_str());
    home.exops(&["run", "Set-Mailbox", &address, "-CustomAttribute2", "a, b", "-DeliverToMailboxAndForward:false", "--what-if"]).exits(0);
    let untouched = home.exops(&["run", "Get-Mailbox", &address, "-o", "json"]).exits(0).json();
    assert_eq!(untouched[0]["CustomAttribute2"], "", "WhatIf changed it");
    home.exops(&["run", "Set-Mailbox", &address, "-CustomAttribute2", "a, b"]).exits(0);
    let changed = home.exops(&["run", "Get-Mailbox", "-Identity", &address, "-o", "jsonl", "--transport", "rps"]).exits(0).json();
    assert_eq!(changed["CustomAttribute2"], "a, b");

    assert_eq!(home.exops(&["--version"]).exits(0).stdout, format!("exops {}\n", env!("CARGO_PKG_VERSION")));
    home.exops(&["disconnect", "--all"]).exits(0);
    home.exops(&["status"]).exits(4);
}

#[test]
fn applications_and_certificates() {
    let prepared = Prepared::new(&["Global Reader"]);
    let shown = prepared.lab.exops(&["lab", "app", "show", "cli-test", "--json"]).exits(0).json();
    assert_eq!(shown["app_id"], prepared.app_id.as_str());
    assert_eq!(shown["app_roles"], serde_json::json!(["Exchange.ManageAsApp"]), "{shown}");
    assert_eq!(shown["directory_roles"], serde_json::json!(["Global Reader"]), "{shown}");
    let list = prepared.lab.exops(&["lab", "app", "list", "--json"]).exits(0).json();
    assert!(list.as_array().is_some_and(|apps| apps.contains(&shown)), "{list}");
    says(&prepared.lab.exops(&["lab", "app", "show", "nobody"]).exits(3), &["no application 'nobody'", "exops lab app list"]);
    says(
        &prepared.lab.exops(&["lab", "app", "create", "--name", "x", "--directory-role", "Mail King"]).exits(3),
        &["no directory role 'Mail King'", "Exchange Administrator"],
    );
    prepared.lab.exops(&["lab", "app", "remove", &prepared.app_id]).exits(0);
    prepared.lab.exops(&["lab", "app", "show", "cli-test"]).exits(3);

    let status = prepared.lab.exops(&["lab", "status", "--json"]).exits(0).json();
    assert_eq!(status["running"], true);
    for (key, value) in prepared.lab.ready.as_object().into_iter().flatten() {
        assert_eq!(&status[key], value, "{key} of the ready file");
    }
    let reset = prepared.lab.exops(&["lab", "reset"]).exits(0);
    assert!(reset.stdout.starts_with(prepared.lab.text("organization")), "{reset:?}");
    assert_eq!(prepared.lab.exops(&["lab", "reset", "--json"]).exits(0).json()["reset"], true);

    let home = &prepared.lab.home;
    let listed = home.exops(&["cert", "list", "--json"]).exits(0).json();
    assert_eq!(listed[0]["thumbprint"], prepared.thumbprint.as_str());
    assert_eq!(listed[0]["subject"], "CN=registered");
    let pem = home.exops(&["cert", "show", &prepared.thumbprint.to_lowercase(), "--pem"]).exits(0).stdout;
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----") && !pem.contains("PRIVATE"), "{pem}");
    home.exops(&["cert", "show", &"00".repeat(20)]).exits(9);
}

pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    i64::try_from(since.as_secs()).expect("before the year 292277026596")
}
