//! A token that is not accepted, at its first use or in the middle of a run: what is wrong, and what to do.

use std::fs;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Path;
use axum::http::{HeaderName, StatusCode};
use axum::routing::{any, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::bad_input::{http_date, service};
use crate::cli::{Prepared, certificate, now, says};
use crate::program::{Home, LabProgram};

const TENANT: &str = "99999999-2222-3333-4444-555555555555";
const APP: &str = "11111111-2222-3333-4444-555555555555";

/// Claims that differ from a good token's, the reason that the far end gives, how far its clock is ahead, and what is said.
type Row = (Value, &'static str, i64, Vec<String>);

/// An admin API that accepts no token, for one reason after the other, on both transports and for raw calls.
#[tokio::test(flavor = "multi_thread")]
async fn every_reason() {
    let home = Home::new();
    let folder = tempfile::tempdir().expect("a folder");
    let whole = |text: &str| vec![text.to_owned()];
    let table: Vec<Row> = vec![
        (
            json!({"roles": []}),
            "",
            0,
            vec![format!("application {APP} has no app role in this tenant"), "grant it Exchange.ManageAsApp".to_owned()],
        ),
        (
            json!({"roles": ["full_access_as_app"]}),
            "The token contains no permissions",
            0,
            whole("the app roles full_access_as_app only in this tenant: grant it Exchange.ManageAsApp"),
        ),
        (
            json!({"aud": "https://graph.microsoft.com"}),
            "The audience claim value is invalid.",
            0,
            whole("the token is for https://graph.microsoft.com: connect with an --endpoint"),
        ),
        (
            json!({}),
            "the token is for a tenant that is not served here",
            0,
            whole(&format!("the token is for tenant {TENANT} (contoso.onmicrosoft.com)")),
        ),
        (json!({}), "The token has an invalid signature.", 0, whole("must belong together")),
        (json!({}), "the token expired", 7200, vec!["and the token is good from".to_owned(), "one of them is wrong".to_owned()]),
        (json!({}), "the token is not valid yet", -7200, whole("one of them is wrong")),
        (json!({}), "the token expired", 0, whole("may differ, or the token was taken back: connect again")),
        (json!({}), "", 0, whole("connect again; if it stays")),
    ];
    let asked = Arc::new(AtomicUsize::new(0));
    let (rows, counted) = (Arc::new(table.clone()), asked.clone());
    let of_row = rows.clone();
    let token = move |Path((row, _)): Path<(usize, String)>| async move {
        counted.fetch_add(1, Ordering::SeqCst);
        let mut claims = json!({"tid": TENANT, "appid": APP, "roles": ["Exchange.ManageAsApp"], "aud": "https://outlook.office365.com",
            "nbf": now() - 300, "exp": now() + 3600, "exops_lab": true});
        for (name, value) in of_row[row].0.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
        let token = format!("{}.{}.AAAA", encode(json!({"alg": "RS256"}).to_string()), encode(claims.to_string()));
        ([("x-exops-lab", "1")], json!({"access_token": token, "expires_in": 3600, "token_type": "Bearer"}).to_string())
    };
    let refused = move |Path(parts): Path<Vec<(String, String)>>| async move {
        let (_, reason, ahead, _) = &rows[parts[0].1.parse::<usize>().expect("a row")];
        let diagnostics =
            if reason.is_empty() { String::new() } else { format!("2000002;reason=\"{reason}\";error_category=\"invalid_token\"") };
        let header = HeaderName::from_static;
        let headers = [
            (header("x-exops-lab"), "1".to_owned()),
            (header("x-ms-diagnostics"), diagnostics),
            (header("date"), http_date(now() + ahead)),
        ];
        (StatusCode::UNAUTHORIZED, headers)
    };
    let routes = axum::Router::new()
        .route("/{row}/{tenant}/oauth2/v2.0/token", post(token))
        .route("/{row}/adminapi/{*path}", any(refused.clone()))
        .route("/{row}/powershell-liveid", any(refused));
    let url = service(folder.path(), now(), routes).await;
    let (thumbprint, _) = certificate(&home, "client");
    let ca = folder.path().join("ca.pem").to_string_lossy().into_owned();
    for (row, (claims, reason, ahead, parts)) in table.iter().enumerate() {
        let at = format!("{url}/{row}");
        let words =
            ["connect", "--lab", "--authority", &at, "--endpoint", &at, "--ca-file", &ca, "--app-id", APP, "--thumbprint", &thumbprint];
        let profile = json!({"app_id": APP, "organization": "contoso.onmicrosoft.com", "tenant_id": TENANT, "connection_id": APP,
            "endpoint": {"kind": "fixed", "authority": at, "admin_api": at, "powershell": format!("{at}/powershell-liveid"), "ca_file": ca, "lab": true},
            "credential": {"kind": "store", "thumbprint": thumbprint}});
        fs::create_dir_all(home.path().join("profiles")).expect("a folder");
        fs::write(home.path().join("profiles/refused.toml"), toml_of(&profile)).expect("a profile");
        let calls: [Vec<&str>; 3] = [
            [&words[..], &["--organization", "contoso.onmicrosoft.com"]].concat(),
            vec!["run", "Set-Mailbox", "ann", "-CustomAttribute1", "x", "--profile", "refused"],
            vec!["run", "Get-Mailbox", "--profile", "refused", "--transport", "rps"],
        ];
        for call in &calls {
            asked.store(0, Ordering::SeqCst);
            let run = tokio::task::block_in_place(|| home.exops(call)).exits(4);
            says(&run, &parts.iter().map(String::as_str).chain(["does not accept the token", reason]).collect::<Vec<_>>());
            assert_eq!(asked.load(Ordering::SeqCst), 2, "one more token, and no third: {claims} {ahead} {}", run.stderr);
        }
    }
    assert!(!home.path().join("profiles/default.toml").exists(), "a connection that failed was saved");
}

/// A profile's text; its values are texts, truth values and tables of them.
pub(crate) fn toml_of(profile: &Value) -> String {
    let line = |(name, value): (&String, &Value)| format!("{name} = {value}\n");
    let (tables, plain): (Vec<_>, Vec<_>) = profile.as_object().into_iter().flatten().partition(|(_, v)| v.is_object());
    let table =
        |(name, value): (&String, &Value)| format!("[{name}]\n{}", value.as_object().into_iter().flatten().map(line).collect::<String>());
    plain.into_iter().map(line).chain(tables.into_iter().map(table)).collect()
}

/// A call with the lab's own token.
fn own(lab: &LabProgram, method: reqwest::Method, path: &str, body: &Value) -> Value {
    let bootstrap: Value = serde_json::from_slice(&fs::read(lab.data().join("bootstrap.json")).expect("a file")).expect("JSON");
    let ca = fs::read(lab.text("ca_file")).expect("the CA");
    let url = format!("{}{path}", lab.text("authority"));
    tokio::runtime::Runtime::new().expect("threads").block_on(async {
        let client =
            reqwest::Client::builder().tls_certs_only(reqwest::Certificate::from_pem_bundle(&ca).expect("PEM")).build().expect("a client");
        let answer = client
            .request(method, url)
            .bearer_auth(bootstrap["token"].as_str().expect("a token"))
            .json(body)
            .send()
            .await
            .expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        serde_json::from_str(&answer.text().await.expect("a body")).unwrap_or_default()
    })
}

pub(crate) fn levers(lab: &LabProgram, levers: &Value) {
    own(lab, reqwest::Method::POST, "/exops-lab/v1/levers", levers);
}

/// K-09, and what else can be wrong between a program and a lab.
#[test]
fn between_a_program_and_a_lab() {
    let prepared = Prepared::connected();
    let (lab, home) = (&prepared.lab, &prepared.lab.home);
    let place = lab.text("authority").to_owned();

    // The lab's clock is an hour off, either way, and is set right. By one that is behind, the new certificate is not valid yet.
    for (offset, side, code) in [(3600, "behind", "AADSTS700024"), (-3600, "ahead of", "AADSTS700027")] {
        levers(lab, &json!({"clock_offset": offset}));
        let hint = format!("this machine's clock is 60 minutes {side} {place}: set it");
        says(&prepared.connect(&["--profile", "late"]).exits(4), &[code, &hint]);
        says(&prepared.run(&["Get-Mailbox", "-o", "table"]).exits(4), &[code, &hint]);
        says(&home.exops(&["status"]).exits(4), &[&hint]);
    }
    levers(lab, &json!({}));
    prepared.run(&["Get-AcceptedDomain"]).exits(0);
    assert!(!home.path().join("profiles/late.toml").exists(), "a connection that failed was saved");

    // No app role.
    let (thumbprint, public) = certificate(home, "without");
    let made =
        lab.exops(&["lab", "app", "create", "--name", "without", "--certificate", &public, "--directory-role", "Global Reader", "--json"]);
    let app = made.exits(0).json()["app_id"].as_str().expect("an id").to_owned();
    let connect = ["connect", "--lab", "--app-id", &app, "--thumbprint", &thumbprint];
    says(&lab.exops(&connect).exits(4), &[&app, "has no app role in this tenant: grant it Exchange.ManageAsApp"]);

    // The token service of one lab, the admin API of another; both are trusted.
    let other = LabProgram::start();
    let both = home.path().join("both.pem");
    fs::write(&both, [lab, &other].map(|l| fs::read_to_string(l.text("ca_file")).expect("a CA")).concat()).expect("a file");
    let both = both.to_string_lossy().into_owned();
    let crossed = ["connect", "--lab", "--authority", &place, "--endpoint", other.text("authority"), "--ca-file", &both];
    let more = ["--app-id", &prepared.app_id, "--thumbprint", &prepared.thumbprint, "--organization", "contoso.onmicrosoft.com"];
    let crossed = home.exops(&[&crossed[..], &more].concat()).exits(4);
    says(&crossed, &[other.text("authority"), "does not trust", "must belong together"]);

    // In the middle of a run, while it waits for a reader: the certificate is taken away; the clock jumps.
    let shown = lab.exops(&["lab", "app", "show", &prepared.app_id, "--json"]).exits(0).json();
    let object = format!("/v1.0/applications/{}", shown["object_id"].as_str().expect("an id"));
    type Wrong<'a> = (&'a dyn Fn(), &'a [&'a str]);
    let wrong: [Wrong<'_>; 2] = [
        (&|| levers(lab, &json!({"token_requests": 1, "clock_offset": 3600})), &["AADSTS700024", "60 minutes behind"]),
        (
            &|| {
                levers(lab, &json!({"token_requests": 1}));
                own(lab, reqwest::Method::PATCH, &object, &json!({"keyCredentials": []}));
            },
            &["AADSTS700027", "register the certificate with the application"],
        ),
    ];
    for (happens, parts) in wrong {
        levers(lab, &json!({}));
        let mut child =
            home.command(&["run", "Get-Recipient", "-ResultSize", "Unlimited", "--transport", "rps"]).spawn().expect("it starts");
        let mut first = [0];
        let mut output = child.stdout.take().expect("standard output");
        output.read_exact(&mut first).expect("an object");
        happens();
        let mut rest = first.to_vec();
        output.read_to_end(&mut rest).expect("the rest");
        let ended = child.wait_with_output().expect("it ends");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(4), "{stderr}");
        assert!(parts.iter().all(|part| stderr.contains(part)) && stderr.contains("hint: "), "{parts:?}: {stderr}");
        let text = String::from_utf8(rest).expect("UTF-8");
        let objects = text.lines().filter(|l| serde_json::from_str::<Value>(l).is_ok()).count();
        assert_eq!(objects, text.lines().count(), "whole lines");
        assert!(objects > 0 && objects < 214 && text.ends_with('\n'), "{objects} objects came before");
    }
}
