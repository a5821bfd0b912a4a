//! Bad input at command level: each row is one thing that a person gives wrong, with the exit code and what the message
//! must say: what failed, with which value, and what to do. What is not here:
//!
//! | what | where |
//! |---|---|
//! | unregistered certificate; unknown tenant, application, thumbprint | `cli::errors_of_signing_in` |
//! | unknown cmdlet and parameter, identity not found, a value that a shell ate | `cli::errors_of_cmdlets` |
//! | lab not running, port taken, data folder in use, CA not trusted, a lab that pretends to be the cloud | `cli::errors_of_the_network` |
//! | standard output closed | `cli::objects_in_every_format` |
//! | nobody to ask for a password or a confirmation; a question that is broken off | `terminal::*` |
//! | missing roles, wrong audience, authority and clock | `cli::roles_decide`, `not_accepted::*` |
//! | broken key files in many forms | `openssl::*`, `keystore::*` |

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exops_auth::{Identity, issue, pem, pfx};
use exops_gateway::{Gateway, GatewayConfig, tls_config};
use exops_policy::RoleModel;
use exops_store::Store;
use exops_testkit::ScriptedRunspace;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use secrecy::ExposeSecret as _;

use crate::cli::{Prepared, now, says};
use crate::program::{Home, openssl};

const DAY: i64 = 86_400;

/// A file in a home.
fn file(home: &Home, name: &str, content: &[u8]) -> String {
    let path = home.path().join(name);
    fs::write(&path, content).expect("a file");
    path.to_string_lossy().into_owned()
}

fn identity(subject: &str, begins: i64) -> Identity {
    issue::self_signed(subject, 10, begins).expect("a certificate")
}

fn pem_file(home: &Home, name: &str, identity: &Identity) -> String {
    file(home, name, pem::write_identity(identity).expose_secret().as_bytes())
}

#[test]
fn key_files() {
    let prepared = Prepared::new(&["Exchange Administrator"]);
    let home = &prepared.lab.home;
    let protected = pfx::write(&identity("CN=protected", now()), Some(&"correct horse".into())).expect("a PFX");
    let protected = file(home, "protected.pfx", protected.expose_secret());
    let (empty, wrong) = (file(home, "empty", b""), file(home, "wrong", b"wrong horse\n"));
    let expired = pem_file(home, "expired.pem", &identity("CN=expired", now() - 100 * DAY));
    let early = pem_file(home, "early.pem", &identity("CN=early", now() + 100 * DAY));
    let key_only = openssl(&["genrsa", "2048"]);
    let other_key = file(home, "other-key.pem", (identity("CN=first", now()).certificate.to_pem() + &key_only).as_bytes());
    let path = |name: &str| home.path().join(name).to_string_lossy().into_owned();
    let (ec_key, ec) = (path("ec.key"), path("ec.crt"));
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-noenc",
        "-subj",
        "/CN=ec",
        "-keyout",
        &ec_key,
        "-out",
        &ec,
    ]);
    let both = fs::read_to_string(&ec).expect("a certificate") + &fs::read_to_string(&ec_key).expect("a key");
    let elliptic = file(home, "elliptic.pem", both.as_bytes());
    let folder = path("a-folder");
    fs::create_dir(&folder).expect("a folder");

    let public = path("registered.pem");
    let table: &[(&[&str], i32, &[&str])] = &[
        (&[&protected], 4, &["protected.pfx", "protected by a password", "--certificate-password-file"]),
        (&[&protected, "--certificate-password-file", &wrong], 4, &["protected.pfx", "the password is wrong"]),
        (&[&protected, "--certificate-password-file", &empty], 4, &["the first line of the password file", &empty]),
        (&[&protected, "--certificate-password-file", "/nonexistent/password"], 4, &["/nonexistent/password", "no such file"]),
        (&[&expired], 9, &["CN=expired", "expired", "exops cert new"]),
        (&[&early], 9, &["CN=early", "is valid from", "clock"]),
        (&[&other_key], 4, &["other-key.pem", "does not belong to the certificate CN=first"]),
        (&[&elliptic], 4, &["elliptic.pem", "elliptic-curve", "RSA"]),
        (&[&public], 4, &["registered.pem", "no private key"]),
        (&[&empty], 4, &["empty is empty"]),
        (&[&folder], 4, &["a-folder", "is a directory"]),
        (&["/nonexistent/key.pfx"], 4, &["/nonexistent/key.pfx", "no such file"]),
        // It has no end, and does not tell its size.
        (&["/dev/zero"], 4, &["/dev/zero", "more than 4 MB"]),
    ];
    for (words, exit, parts) in table {
        let run = prepared.connect(&[&["--certificate-file-path"], *words].concat());
        assert_eq!(run.code, *exit, "{words:?}: {}", run.stderr);
        says(&run, parts);
        assert!(!run.stderr.contains("horse"), "a password is in the message: {}", run.stderr);
    }
    assert!(!home.path().join("profiles").exists(), "a connection that failed was saved");

    // A key that others can read still works, and is told of.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let exported = path("exported.pem");
        home.exops(&["cert", "export", &prepared.thumbprint, "--out", &exported]).exits(0);
        assert_eq!(fs::metadata(&exported).expect("the file").permissions().mode() & 0o777, 0o600);
        assert!(prepared.connect(&["--certificate-file-path", &exported]).exits(0).stderr.is_empty());
        fs::set_permissions(&exported, fs::Permissions::from_mode(0o644)).expect("permissions");
        let told = prepared.connect(&["--certificate-file-path", &exported]).exits(0);
        assert!(
            told.stderr.contains("others than you may read the private key in") && told.stderr.contains("chmod 600"),
            "{}",
            told.stderr
        );
    }
}

#[test]
fn configuration_places_and_output() {
    let prepared = Prepared::connected();
    let home = &prepared.lab.home;
    let profiles: PathBuf = home.path().join("profiles");
    let good = fs::read_to_string(profiles.join("default.toml")).expect("the profile");
    let write = |name: &str, text: &[u8]| fs::write(profiles.join(format!("{name}.toml")), text).expect("a profile");
    write("broken", b"[[[");
    write("unknown", format!("colour = \"red\"\n{good}").as_bytes());
    write("nested", good.replace("kind = \"lab\"", "kind = \"lab\"\ncolour = 1").as_bytes());
    let mistyped = format!("# by hand\norganisation = \"contoso.onmicrosoft.com\"\n{good}");
    write("mistyped", mistyped.as_bytes());
    write("binary", b"\xff\xfe");
    let data = prepared.lab.data().to_string_lossy().into_owned();
    let table: &[(&[&str], i32, &[&str])] = &[
        (&["--profile", "broken", "run", "Get-Mailbox"], 1, &["broken.toml, line 1 ", "connect again"]),
        (&["--profile", "unknown", "run", "Get-Mailbox"], 1, &["unknown.toml, line 1 ", "unknown field `colour`"]),
        (&["--profile", "nested", "status"], 1, &["nested.toml, line ", "unknown field `colour`"]),
        (
            &["--profile", "mistyped", "status"],
            1,
            &["mistyped.toml, line 2 ", "unknown field `organisation`", "did you mean organization?"],
        ),
        (&["--profile", "binary", "status"], 1, &["binary.toml", "utf-8"]),
        (&["--profile", "../default", "status"], 2, &["'../default'", "letters, digits"]),
        (&["--profile", "absent", "explain", "Get-Mailbox"], 4, &["no profile 'absent'", "exops connect"]),
        (&["run", "Get-Mailbox", "-o", "xml"], 2, &["'xml'", "one of table, list, json, jsonl, csv, yaml, clixml"]),
        (&["run", "Get-Mailbox", "--params", "{x"], 2, &["--params is no JSON", "--params @FILE"]),
        (&["run", "Get-Mailbox", "--params", "[1]"], 2, &["no object", "--params @FILE"]),
        // A name that stands twice has two readings, in any case and with a dash before it.
        (&["run", "Get-Mailbox", "--params", "{\"Identity\": \"a\", \"Identity\": \"b\"}"], 2, &["'Identity' stands twice"]),
        (&["run", "Get-Mailbox", "--params", "{\"Identity\": \"a\", \"-identity\": \"b\"}"], 2, &["it gives -identity twice"]),
        (&["run", "Set-Mailbox", "--params", "{\"EmailAddresses\": {\"Add\": 1, \"Add\": 2}}"], 2, &["'Add' stands twice"]),
        (&["run", "Get-Mailbox", "-Identity", "a", "--params", "{\"identity\": \"b\"}"], 2, &["Identity"]),
        (&["run", "Get-Mailbox", "--params", "{}", "--params", "{}"], 2, &["--params is given twice"]),
        (&["run", "Get-Mailbox", "-o", "list", "--output", "csv"], 2, &["--output is given twice"]),
        (&["run", "Get-Mailbox", "--params", &format!("{{\"a\": {}", "[".repeat(100))], 2, &["--params is not taken", "nests deeper"]),
        (&["run", "Get-Mailbox", "--params", "@/nonexistent"], 1, &["/nonexistent", "no such file"]),
        (&["run", "Get-Mailbox", "--require-tenant", "fabrikam.com"], 2, &["contoso.onmicrosoft.com", "'fabrikam.com'", "--profile"]),
        // I-01: pasted from a document.
        (&["run", "Get-Mailbox", "\u{2013}ResultSize", "5"], 2, &["typographic dash", "keyboard"]),
        (&["run", "Get-Mailbox", "\u{201c}Ann Beebe\u{201d}"], 2, &["typographic quote", "keyboard"]),
        (&["run", "Get-Mailbox", "-ResultSize", "some"], 3, &["some"]),
        (&["run", "Get-Recipient", "-RecipientTypeDetails", "UserMailbx"], 3, &["UserMailbx", "UserMailbox"]),
        (&["run", "Get-Mailbox", "Irene Ivanova"], 3, &["'Irene Ivanova' matches multiple entries", "primary address or its Guid"]),
        (&["run", "Set-Mailbox", "-CustomAttribute1", "x"], 2, &["mandatory parameters: Identity", "exops explain Set-Mailbox"]),
        (&["run", "New-DistributionGroup"], 2, &["mandatory parameters: Name", "exops explain New-DistributionGroup"]),
        (&["run", "Get-Mailbox", "--select", ","], 2, &["--select names no property", "DisplayName"]),
        // I-01: $false is nothing, * is the names of files.
        (
            &["run", "Set-Mailbox", "ann", "-DeliverToMailboxAndForward", "-CustomAttribute1", "x"],
            2,
            &["DeliverToMailboxAndForward", "-Name:false"],
        ),
        (&["run", "Get-Mailbox", "lab", "lab.log", "profiles"], 2, &["'lab.log'", "a shell turned * or ? into names of files", "'*'"]),
        (&["run", "Get-Mailbox", "profiles"], 3, &["'profiles'", "couldn't be found", "a shell turned * or ? into names of files"]),
        (&["explain", "Get-Mailbx"], 2, &["'Get-Mailbx'", "did you mean Get-Mailbox?"]),
        (&["explain", "Get-Mailbox", "-Parameter", "ResultSiez"], 2, &["'ResultSiez'", "did you mean -ResultSize?"]),
        (&["cert", "show", "0A1B"], 2, &["'0A1B'", "40"]),
        (
            &["cert", "remove", "0000000000000000000000000000000000000000"],
            9,
            &["0000000000000000000000000000000000000000", "exops cert list"],
        ),
        (&["cert", "import", &data], 4, &["is a directory"]),
        (&["disconnect", "--profile", "a/b"], 2, &["'a/b'"]),
    ];
    for (words, exit, parts) in table {
        let run = home.exops(words);
        assert_eq!(run.code, *exit, "{words:?}: {}", run.stderr);
        assert!(run.stderr.contains("error: "), "{words:?}: {}", run.stderr);
        for part in *parts {
            assert!(run.stderr.contains(part), "{words:?}: {part:?} is missing in:\n{}", run.stderr);
        }
    }
    // A variable that is set to nothing is not set.
    let status = home.command(&["status"]).env("EXOPS_OUTPUT", "").env("EXOPS_PROFILE", "").env("EXOPS_APP_ID", "").output();
    assert!(status.is_ok_and(|o| o.status.success()), "empty variables");
    // A home that cannot be used.
    for words in [&["cert", "new"][..], &["lab", "up", "--listen", "127.0.0.1:0"]] {
        let run = home.command(words).env("EXOPS_HOME", "/dev/null/home").output().expect("it runs");
        let stderr = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.code() == Some(1) && stderr.contains("/dev/null/home") && stderr.contains("hint: "), "{stderr}");
    }
    // A full disk behind standard output.
    #[cfg(target_os = "linux")]
    for words in [&["run", "Get-Mailbox"][..], &["status"], &["--help"], &["cert", "list"], &["completion", "bash"]] {
        let full = fs::File::options().write(true).open("/dev/full").expect("/dev/full");
        let run = home.command(words).stdout(Stdio::from(full)).output().expect("it runs");
        assert_eq!(run.status.code(), Some(1), "{words:?}");
        assert!(String::from_utf8_lossy(&run.stderr).contains("standard output cannot be written: no space left"), "{words:?}");
    }
}

/// L-02, I-08: what a service sends cannot command the terminal, nor look like a message of ours.
#[test]
fn text_of_a_service() {
    let prepared = Prepared::connected();
    let hostile = "\u{1b}[2J\u{9b}31m\r\nerror: gone\u{202e}";
    prepared.lab.exops(&["lab", "app", "create", "--name", hostile]).exits(0);
    let list = prepared.lab.exops(&["lab", "app", "list"]).exits(0).stdout;
    assert_eq!(list.lines().count(), 2, "{list:?}");
    let address = "ann.beebe@contoso.onmicrosoft.com";
    prepared.run(&["Set-Mailbox", address, "-CustomAttribute3", hostile]).exits(0);
    for format in ["table", "list"] {
        let shown = prepared.run(&["Get-Mailbox", address, "-o", format, "--select", "CustomAttribute3"]).exits(0).stdout;
        assert!(!shown.contains(['\u{1b}', '\u{9b}', '\r', '\u{202e}']) && shown.contains("error: gone"), "{shown:?}");
    }
    let absent = prepared.run(&["Get-Mailbox", hostile]).exits(3);
    assert!(!absent.stderr.contains(['\u{1b}', '\u{9b}', '\r', '\u{202e}']), "{:?}", absent.stderr);
    assert!(absent.stderr.lines().all(|l| !l.starts_with("error: gone")), "{:?}", absent.stderr);
}

/// A listener with the lab's mark, TLS and routes of the caller's; its certificate is as old as `issued` says, and its CA in
/// `ca.pem`.
pub(crate) async fn service(folder: &std::path::Path, issued: i64, routes: axum::Router) -> String {
    served(folder, issued, routes, true).await
}

/// The same, or something that is no lab.
async fn served(folder: &std::path::Path, issued: i64, routes: axum::Router, mark_lab: bool) -> String {
    let authority = issue::lab_authority(&[], issued).expect("an authority");
    let server = issue::server_certificate(&authority, &[], issued).expect("a certificate");
    fs::write(folder.join("ca.pem"), authority.certificate().to_pem()).expect("a file");
    let chain = vec![CertificateDer::from(server.certificate.as_der().to_vec())];
    let tls = tls_config(chain, PrivatePkcs8KeyDer::from(server.key.expose_secret().to_vec()).into()).expect("TLS");
    let gateway = Gateway::new(GatewayConfig {
        quotas: exops_gateway::Quotas::default(),
        runspace: Arc::new(ScriptedRunspace::of_scripts(Vec::new())),
        roles: Arc::new(RoleModel::built_in()),
        store: Store::open(&folder.join("store.sqlite")).await.expect("a store"),
        token_keys: Arc::new(|| Arc::new(exops_auth::token::KeySet::of(&[]).expect("no keys"))),
        audiences: Vec::new(),
        tenants: Vec::new(),
        authority: "https://localhost".to_owned(),
        server_name: String::new(),
        mark_lab,
        extra_routes: routes,
        clock: Arc::new(|| now() * 1000),
        tls,
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://localhost:{}", listener.local_addr().expect("its address").port());
    tokio::spawn(async move { gateway.serve(listener, std::future::pending()).await });
    url
}

/// A token service that finds every assertion out of its time, on a machine whose clock is `ahead` seconds before ours.
async fn token_service(folder: &std::path::Path, issued: i64, ahead: i64) -> String {
    let date = http_date(now() + ahead);
    let refused = move || async move {
        let body = r#"{"error":"invalid_client","error_codes":[700024],"error_description":"AADSTS700024: Client assertion is not within its valid time range."}"#;
        (axum::http::StatusCode::UNAUTHORIZED, [("date", date), ("x-exops-lab", "1".to_owned())], body)
    };
    service(folder, issued, axum::Router::new().route("/{tenant}/oauth2/v2.0/token", axum::routing::post(refused))).await
}

/// Time in an HTTP header.
pub(crate) fn http_date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).expect("a time").strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// What answers at the other end is not what it should be: another name, another program, another time.
#[tokio::test(flavor = "multi_thread")]
async fn the_other_end() {
    let home = Home::new();
    let key = pem_file(&home, "key.pem", &identity("CN=client", now()));
    let listener = || std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let (plain, dumb) = (listener(), listener());
    let port = |l: &std::net::TcpListener| format!("https://localhost:{}", l.local_addr().expect("its address").port());
    let (plain_url, dumb_url) = (port(&plain), port(&dumb));
    std::thread::spawn(move || {
        for mut stream in plain.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let folders: Vec<tempfile::TempDir> = (0..6).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let at = |n: usize| folders[n].path();
    let good = token_service(at(0), now(), 3600).await;
    let behind = token_service(at(1), now(), -3600).await;
    let steady = token_service(at(2), now(), 0).await;
    let over = token_service(at(3), now() - 40 * DAY, 0).await;
    let early = token_service(at(4), now() + 40 * DAY, 0).await;
    let unmarked = served(at(5), now(), axum::Router::new(), false).await;
    let elsewhere = steady.replace("localhost", "0.0.0.0");
    let table: &[(&str, usize, i32, &str, &[&str])] = &[
        (&good, 0, 4, "AADSTS700024", &["clock is 60 minutes behind https://localhost"]),
        (&behind, 1, 4, "AADSTS700024", &["clock is 60 minutes ahead of https://localhost"]),
        (&steady, 2, 4, "AADSTS700024", &["check this machine's clock"]),
        (&over, 3, 8, "ServerCertificateExpired", &[&over, "has expired by this machine's clock (20"]),
        (&early, 4, 8, "ServerCertificateNotYetValid", &[&early, "not valid yet by this machine's clock (20", "behind"]),
        // Another program, with a certificate that is trusted.
        (&unmarked, 5, 4, "LabMark", &[&unmarked, "does not carry the lab's mark", "nothing more was sent"]),
        // A name that the certificate does not hold.
        (&elsewhere, 2, 8, "NotValidForName", &[&elsewhere, "is for another name", "--host-alias"]),
        // Another lab's, or another program's, TLS.
        (&steady, 0, 8, "UnknownIssuer", &[&steady, "connect again with --lab"]),
        (&plain_url, 0, 8, "Tls", &[&plain_url, "no secure connection", "check that host and port speak TLS"]),
        (&dumb_url, 0, 8, "Timeout", &[&dumb_url, "no answer from", "check the network"]),
    ];
    for (url, ca, exit, code, parts) in table {
        let ca = at(*ca).join("ca.pem").to_string_lossy().into_owned();
        let app = "11111111-2222-3333-4444-555555555555";
        let connect = ["connect", "--lab", "--authority", url, "--endpoint", url, "--ca-file", &ca, "--app-id", app];
        let more = ["--organization", "contoso.onmicrosoft.com", "--certificate-file-path", &key];
        let (begun, words) = (Instant::now(), [&connect[..], &more].concat());
        let run = tokio::task::block_in_place(|| home.exops(&words));
        assert_eq!(run.code, *exit, "{url}: {}", run.stderr);
        says(&run, parts);
        assert!(cfg!(windows) || run.stderr.starts_with("note: others than you"), "{}", run.stderr);
        assert!(begun.elapsed() < Duration::from_secs(30), "{url}: {:?}", begun.elapsed());
        // --quiet leaves the error alone: one JSON object.
        let json = tokio::task::block_in_place(|| home.exops(&[&words[..], &["-o", "json", "--quiet"]].concat()));
        let error: serde_json::Value = serde_json::from_str(&json.stderr).expect("one JSON object");
        assert_eq!(error["error"]["code"], *code, "{error}");
    }
}
