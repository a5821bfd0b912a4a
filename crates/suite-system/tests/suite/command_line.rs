//! The command line in breadth: formats, parameters from JSON, key files, explanations, two labs.

use std::io::Write as _;
use std::process::Stdio;

use exops_psobject::{Limits, Value, clixml};
use serde_json::json;

use crate::cli::{Prepared, says};
use crate::program::openssl;

const ADDRESS: &str = "ann.beebe@contoso.onmicrosoft.com";

#[test]
fn formats_and_parameters() {
    let prepared = Prepared::connected();
    // Whatever no shell can spoil: typed values, a hashtable, a text that looks like a switch's value, a formula.
    let parameters = json!({"Identity": ADDRESS, "CustomAttribute1": "=1+1", "CustomAttribute2": "a;\"b\",\n#c: 'd'", "CustomAttribute3": "yes",
        "DeliverToMailboxAndForward": false, "IssueWarningQuota": "30GB", "ProhibitSendQuota": "40GB"});
    let file = prepared.lab.home.path().join("parameters.json");
    std::fs::write(&file, format!("\u{feff}{parameters}")).expect("a file");
    prepared.run(&["Set-Mailbox", "--params", &format!("@{}", file.display())]).exits(0);
    let mut child =
        prepared.lab.home.command(&["Get-Mailbox", "--params", "-", "-o", "json", "--select", "customattribute1,Nothing,IsShared"]);
    let mut child = child.stdin(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("standard input").write_all(json!({"Identity": ADDRESS}).to_string().as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(shown, json!([{"CustomAttribute1": "=1+1", "Nothing": null, "IsShared": false}]));

    let select = "DisplayName,CustomAttribute1,CustomAttribute2,CustomAttribute3,EmailAddresses,IsShared,ForwardingAddress";
    for transport in ["rest", "rps"] {
        let run =
            |more: &[&str]| prepared.run(&[&["Get-Mailbox", "-ResultSize", "2", "--transport", transport], more].concat()).exits(0).stdout;
        let csv = run(&["-o", "csv", "--select", select]);
        let addresses: Vec<String> = serde_json::from_str::<serde_json::Value>(&run(&["-o", "json"])).expect("JSON")[0]["EmailAddresses"]
            .as_array()
            .map(|a| a.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect())
            .unwrap_or_default();
        assert!(addresses.len() > 1, "{addresses:?}");
        let expected = format!("{select}\nAnn Beebe,'=1+1,\"a;\"\"b\"\",\n#c: 'd'\",yes,{},False,\n", addresses.join(";"));
        assert!(csv.starts_with(&expected), "{csv}\n---\n{expected}");
        let yaml = run(&["-o", "yaml", "--select", select]);
        let expected = format!(
            "- DisplayName: Ann Beebe\n  CustomAttribute1: \"=1+1\"\n  CustomAttribute2: \"a;\\\"b\\\",\\n#c: 'd'\"\n  CustomAttribute3: \"yes\"\n  \
             EmailAddresses: [{}]\n  IsShared: false\n  ForwardingAddress: null\n",
            addresses.iter().map(|a| format!("\"{a}\"")).collect::<Vec<_>>().join(", ")
        );
        assert!(yaml.starts_with(&expected), "{yaml}\n---\n{expected}");
        let table = run(&["-o", "table", "--select", "CustomAttribute1,DisplayName"]);
        assert!(table.starts_with("CustomAttribute1 DisplayName\n"), "{table}");
        // One document with one space of ids, whatever its length.
        let document = run(&["-o", "clixml"]);
        let objects = clixml::read_document(document.as_bytes(), &Limits::default()).expect("CLIXML");
        assert_eq!(objects.len(), 2);
        let quota = objects.first().and_then(Value::as_object).and_then(|o| o.property("ProhibitSendQuota")).map(Value::display);
        assert_eq!(quota.as_deref(), Some("40 GB (42,949,672,960 bytes)"));
        let mut ids: Vec<&str> = document.split("<Obj").skip(1).filter_map(|o| o.split_once("RefId=\"")?.1.split('"').next()).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "an id was given twice");
    }
    assert_eq!(prepared.run(&["Get-Mailbox", "-Filter", "CustomAttribute1 -eq 'nobody'", "-o", "yaml"]).exits(0).stdout, "[]\n");
}

#[test]
fn key_files_go_out_and_come_in() {
    let prepared = Prepared::new(&["Exchange Administrator"]);
    let home = &prepared.lab.home;
    let path = |name: &str| home.path().join(name).to_string_lossy().into_owned();
    std::fs::write(path("password"), "a good password\n").expect("a file");
    let (plain, protected, pem, store) = (path("plain.pfx"), path("protected.pfx"), path("key.pem"), path("another store"));
    let thumbprint = prepared.thumbprint.as_str();
    home.exops(&["cert", "export", thumbprint, "--out", &plain]).exits(0);
    home.exops(&["cert", "export", thumbprint, "--out", &protected, "-CertificatePasswordFile", &path("password")]).exits(0);
    home.exops(&["cert", "export", thumbprint, "--out", &pem]).exits(0);
    says(&home.exops(&["cert", "export", thumbprint, "--out", &pem]).exits(1), &["is there already", "another name"]);
    says(
        &home.exops(&["cert", "export", thumbprint, "--out", &path("x.pem"), "-CertificatePasswordFile", &path("password")]).exits(2),
        &["PEM"],
    );
    for (file, password) in [(&plain, "pass:"), (&protected, "pass:a good password")] {
        let read = openssl(&["pkcs12", "-in", file, "-passin", password, "-nodes"]);
        assert!(read.contains("BEGIN CERTIFICATE") && read.contains("BEGIN PRIVATE KEY"), "{file}");
    }
    assert!(openssl(&["pkey", "-in", &pem, "-noout", "-text"]).contains("2048 bit"));
    for file in [&plain, &protected, &pem] {
        let imported = home.exops(&["cert", "import", file, "--store", &store, "--certificate-password-file", &path("password"), "--json"]);
        assert_eq!(imported.exits(0).json()["thumbprint"], thumbprint);
        // Pasted with what certificate dialogs put in.
        let pasted =
            format!("\u{200e}{}", thumbprint.as_bytes().chunks(2).filter_map(|c| str::from_utf8(c).ok()).collect::<Vec<_>>().join(":"));
        prepared.connect(&["--thumbprint", &pasted, "--store", &store]).exits(0);
        let removed = home.exops(&["cert", "remove", thumbprint, "--store", &store, "--json"]).exits(0).json();
        assert_eq!(removed["removed"].as_array().map(Vec::len), Some(1));
        home.exops(&["cert", "show", thumbprint, "--store", &store]).exits(9);
    }
}

#[test]
fn explanations() {
    let prepared = Prepared::new(&["Global Reader"]);
    let home = &prepared.lab.home;
    let all = home.exops(&["explain", "set-mailbox", "--json"]).exits(0).json();
    assert_eq!((&all["cmdlet"], &all["reads"], &all["granted"]), (&json!("Set-Mailbox"), &json!(false), &json!(null)));
    assert!(
        all["syntax"][0].as_str().is_some_and(|s| s.starts_with("Set-Mailbox [-Identity] <MailboxIdParameter> [")),
        "{}",
        all["syntax"]
    );
    let one = home.exops(&["explain", "Get-Mailbox", "--parameter", "resultsize"]).exits(0).stdout;
    assert!(one.contains("name       ResultSize\ntype       Unlimited\n"), "{one}");

    // With a connection it is told what its roles grant.
    prepared.connect(&[]).exits(0);
    assert_eq!(home.exops(&["explain", "Set-Mailbox", "--json"]).exits(0).json()["granted"], false);
    let refused = home.exops(&["explain", "Set-Mailbox"]).exits(0).stdout;
    assert!(refused.contains("not granted to the application of the profile"), "{refused}");
}

/// I-07: two labs side by side, a profile for each: a command for one never reaches the other.
#[test]
fn two_labs() {
    let (first, second) = (Prepared::connected(), Prepared::connected());
    let data = second.lab.data().to_string_lossy().into_owned();
    let home = &first.lab.home;
    let store = second.lab.home.path().join(".dotnet/corefx/cryptography/x509stores/my").to_string_lossy().into_owned();
    let other = ["connect", "--lab", "--data", &data, "--app-id", &second.app_id, "--thumbprint", &second.thumbprint, "--store", &store];
    home.exops(&[&other[..], &["--profile", "second"]].concat()).exits(0);
    let requests =
        |prepared: &Prepared| prepared.lab.exops(&["lab", "status", "--json"]).exits(0).json()["requests"].as_u64().unwrap_or_default();
    let mark = |prepared: &Prepared| prepared.run(&["Get-Mailbox", ADDRESS, "-o", "json"]).exits(0).json()[0]["CustomAttribute5"].clone();

    let before = requests(&second);
    home.exops(&["run", "Set-Mailbox", ADDRESS, "-CustomAttribute5", "first"]).exits(0);
    assert_eq!(requests(&second), before + 1, "only the question itself reached the second lab");
    home.exops(&["run", "Set-Mailbox", ADDRESS, "-CustomAttribute5", "second", "--profile", "second", "--transport", "rps"]).exits(0);
    let variable = home.command(&["run", "Get-Mailbox", ADDRESS, "-o", "json"]).env("EXOPS_PROFILE", "second").output().expect("it runs");
    let variable: serde_json::Value = serde_json::from_slice(&variable.stdout).expect("JSON");
    assert_eq!((mark(&first), mark(&second), &variable[0]["CustomAttribute5"]), (json!("first"), json!("second"), &json!("second")));

    // The tenant that a script means is not the one that the profile is for: nothing is sent.
    let id = second.lab.text("tenant_id").to_owned();
    let before = (requests(&first), requests(&second));
    says(
        &home.exops(&["run", "Set-Mailbox", ADDRESS, "-CustomAttribute5", "x", "--require-tenant", &id]).exits(2),
        &[&id, "nothing was sent"],
    );
    assert_eq!((requests(&first), requests(&second)), (before.0 + 1, before.1 + 1));
    home.exops(&["run", "Get-AcceptedDomain", "--require-tenant", &id, "--profile", "second"]).exits(0);

    // The data folder of a profile holds another lab now: its tenant is not the profile's.
    let profiles = home.path().join("profiles");
    let saved = std::fs::read_to_string(profiles.join("second.toml")).expect("the profile");
    let crossed = saved.replace(&data, &first.lab.data().to_string_lossy());
    std::fs::write(profiles.join("crossed.toml"), crossed).expect("a profile");
    let crossed = home.exops(&["run", "Set-Mailbox", ADDRESS, "-CustomAttribute5", "crossed", "--profile", "crossed"]);
    assert_eq!(crossed.code, 4, "{}", crossed.stderr);
    assert_eq!((mark(&first), mark(&second)), (json!("first"), json!("second")));
}
