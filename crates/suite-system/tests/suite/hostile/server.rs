//! `exops run` against servers that lie: it ends with an error of its own, soon, without much memory and without a panic.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value as Json, json};

use super::peer::fragment;
use crate::bad_input::service;
use crate::cli::{certificate, now};
use crate::not_accepted::toml_of;
use crate::program::Home;

const TENANT: &str = "99999999-2222-3333-4444-555555555555";
const APP: &str = "11111111-2222-3333-4444-555555555555";

/// What a server says in place of one answer.
#[derive(Clone)]
enum Lie {
    /// Fragments in place of the output of a command.
    Output(Vec<u8>),
    /// A message's content in place of an output object; the command then ends as it should.
    Object(String),
    /// Fragments on the pool's stream before it is open.
    Pool(Vec<u8>),
    /// A whole body in place of every answer.
    Body(u16, Vec<u8>),
}

/// Case, what is said, and what the output must hold where it is none of the client's business to refuse it.
type Row = (&'static str, Lie, Option<&'static str>);

fn rows() -> Vec<Row> {
    let obj = |inside: &str| format!("<Obj RefId=\"0\">{inside}</Obj>");
    let soap = |inside: &str| format!("<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\">{inside}</s:Envelope>").into_bytes();
    let laughs: String = (1..12).map(|n| format!("<!ENTITY l{n} \"{}\">", format!("&l{};", n - 1).repeat(10))).collect();
    let fan = {
        let level = |n: usize| format!("<Obj RefId=\"{n}\"><LST>{}</LST></Obj>", format!("<Ref RefId=\"{}\"/>", n - 1).repeat(16));
        obj(&format!("<LST><Obj RefId=\"1\"><LST><S>x</S></LST></Obj>{}</LST>", (2..20).map(level).collect::<String>()))
    };
    let gadget =
        "<TN RefId=\"0\"><T>System.Diagnostics.Process</T></TN><ToString>calc.exe</ToString><Props><S N=\"Alias\">as data</S></Props>";
    let (output, object) = (|bytes| Lie::Output(bytes), |text: &str| Lie::Object(text.to_owned()));
    vec![
        ("C-01 two gigabytes", output([&fragment(9, 0, 1, b"")[..17], &(1_u32 << 31).to_be_bytes(), b"xx"].concat()), None),
        ("C-01 an empty fragment", output(fragment(9, 0, 3, b"")), None),
        ("C-01 no start", output(fragment(9, 4, 2, b"x")), None),
        ("C-01 a short message", output(fragment(9, 0, 3, &[0; 12])), None),
        ("C-03 many levels", object(&"<Obj RefId=\"0\"><LST>".repeat(50_000)), None),
        ("C-03 an unknown reference", object("<Ref RefId=\"7\"/>"), None),
        // PowerShell writes such objects, and nothing that a service sent is to be skipped.
        ("C-03 a reference to itself", object(&obj("<ToString>itself</ToString><LST><Ref RefId=\"0\"/></LST>")), Some("itself")),
        ("C-04 references that multiply", object(&fan), None),
        ("C-05 and C-06 a dangerous type", object(&obj(gadget)), Some("as data")),
        ("C-07 year 10000", object("<DT>10000-01-01T00:00:00Z</DT>"), None),
        ("C-08 escapes", object("<S>_x005F_x000A_</S>"), Some("_x000A_")),
        ("C-10 a message of a client", Lie::Pool(message(0x0001_0004, false, "<Obj RefId=\"0\"><MS/></Obj>", None)), None),
        ("C-10 the end before the beginning", Lie::Pool(state(5)), None),
        (
            "X-01 billion laughs",
            Lie::Body(200, [format!("<!DOCTYPE a [<!ENTITY l0 \"ha\">{laughs}]>").into_bytes(), soap("<s:Body>&l11;</s:Body>")].concat()),
            None,
        ),
        ("X-03 deep", Lie::Body(200, soap(&"<a>".repeat(300_000))), None),
        ("X-03 wide", Lie::Body(200, soap(&"<a/>".repeat(1_000_000))), None),
        ("X-03 large", Lie::Body(200, soap(&"x".repeat(80 << 20))), None),
        ("X-04 two bodies", Lie::Body(200, soap("<s:Body/><s:Body/>")), None),
        ("X-05 UTF-7", Lie::Body(200, b"+ADw-s:Envelope/+AD4-".to_vec()), None),
        ("X-05 nothing", Lie::Body(200, Vec::new()), None),
        ("a fault without content", Lie::Body(500, soap("<s:Body><s:Fault/></s:Body>")), None),
    ]
}

/// A message in one fragment. `None`: for the pool.
fn message(kind: u32, to_client: bool, content: &str, ids: Option<(&[u8], &[u8])>) -> Vec<u8> {
    let (pool, pipeline) = ids.unwrap_or((&[0; 16], &[0; 16]));
    let destination = if to_client { 1_u32 } else { 2 };
    let bytes = [&destination.to_le_bytes(), &kind.to_le_bytes()[..], pool, pipeline, content.as_bytes()].concat();
    fragment(100, 0, 3, &bytes)
}

fn state(number: i32) -> Vec<u8> {
    message(0x0002_1005, true, &format!("<Obj RefId=\"0\"><MS><I32 N=\"RunspaceState\">{number}</I32></MS></Obj>"), None)
}

/// Text between two others.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    text.split_once(before).and_then(|(_, rest)| rest.split_once(after)).map_or("", |(found, _)| found)
}

/// A server that does everything right until it lies. It keeps nothing: all it needs stands in the request.
fn answer(lie: &Lie, request: &str) -> (u16, Vec<u8>) {
    if let Lie::Body(status, body) = lie {
        return (*status, body.clone());
    }
    let action = between(request, "Action s:mustUnderstand=\"true\">", "<").rsplit('/').next().unwrap_or_default().to_owned();
    let action =
        if action.is_empty() { between(request, "Action", "</").rsplit('/').next().unwrap_or_default().to_owned() } else { action };
    let relates = between(request, "MessageID>", "<");
    let relates = if relates.is_empty() { between(request, "MessageID", "</").rsplit('>').next().unwrap_or_default() } else { relates };
    let command = between(request, "CommandId=\"", "\"");
    let (name, body) = match action.as_str() {
        "Create" => ("http://schemas.xmlsoap.org/ws/2004/09/transfer/CreateResponse", {
            let id = between(request, "ShellId=\"", "\"");
            format!(
                "<x:ResourceCreated xmlns:x=\"http://schemas.xmlsoap.org/ws/2004/09/transfer\"><a:Address>https://localhost</a:Address><a:ReferenceParameters><w:ResourceURI>http://schemas.microsoft.com/powershell/Microsoft.Exchange</w:ResourceURI><w:SelectorSet><w:Selector Name=\"ShellId\">{id}</w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated><r:Shell><r:ShellId>{id}</r:ShellId><r:ResourceUri>http://schemas.microsoft.com/powershell/Microsoft.Exchange</r:ResourceUri><r:InputStreams>stdin pr</r:InputStreams><r:OutputStreams>stdout</r:OutputStreams></r:Shell>"
            )
        }),
        "Command" => (
            "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandResponse",
            format!("<r:CommandResponse><r:CommandId>{command}</r:CommandId></r:CommandResponse>"),
        ),
        "Receive" => {
            let bytes = match (lie, command.is_empty()) {
                (Lie::Pool(bytes), true) => bytes.clone(),
                (_, true) => opening(),
                (Lie::Output(bytes), false) => bytes.clone(),
                (Lie::Object(content), false) => {
                    let pipeline = uuid::Uuid::parse_str(command).unwrap_or_default().to_bytes_le();
                    let ids = Some((&[0; 16][..], &pipeline[..]));
                    let end = "<Obj RefId=\"0\"><MS><I32 N=\"PipelineState\">4</I32></MS></Obj>";
                    [message(0x0004_1004, true, content, ids), message(0x0004_1006, true, end, ids)].concat()
                }
                (Lie::Pool(_) | Lie::Body(..), false) => Vec::new(),
            };
            let of = if command.is_empty() { String::new() } else { format!(" CommandId=\"{command}\"") };
            let stream = format!("<r:Stream Name=\"stdout\"{of}>{}</r:Stream>", STANDARD.encode(bytes));
            (
                "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/ReceiveResponse",
                format!("<r:ReceiveResponse>{stream}</r:ReceiveResponse>"),
            )
        }
        "Send" => ("http://schemas.microsoft.com/wbem/wsman/1/windows/shell/SendResponse", "<r:SendResponse/>".to_owned()),
        "Signal" => ("http://schemas.microsoft.com/wbem/wsman/1/windows/shell/SignalResponse", "<r:SignalResponse/>".to_owned()),
        _ => ("http://schemas.xmlsoap.org/ws/2004/09/transfer/DeleteResponse", String::new()),
    };
    let envelope = format!(
        "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\" xmlns:r=\"http://schemas.microsoft.com/wbem/wsman/1/windows/shell\">\
         <s:Header><a:Action>{name}</a:Action><a:MessageID>uuid:{}</a:MessageID><a:RelatesTo>{relates}</a:RelatesTo></s:Header>\
         <s:Body>{body}</s:Body></s:Envelope>",
        uuid::Uuid::new_v4()
    );
    (200, envelope.into_bytes())
}

/// What opens a pool.
fn opening() -> Vec<u8> {
    let capability = "<Obj RefId=\"0\"><MS><Version N=\"protocolversion\">2.3</Version><Version N=\"PSVersion\">2.0</Version>\
                      <Version N=\"SerializationVersion\">1.1.0.1</Version></MS></Obj>";
    let data = "<Obj RefId=\"0\"><MS><Nil N=\"ApplicationPrivateData\"/></MS></Obj>";
    [message(0x0001_0002, true, capability, None), message(0x0002_1009, true, data, None), state(2)].concat()
}

/// Everything at once: the cases C-01, C-03 to C-08, C-10, X-01, X-03, X-04 and X-05, from a server. One that tells the truth comes first,
/// so that it is the lies that are refused.
#[tokio::test(flavor = "multi_thread")]
async fn lying_servers() {
    let (home, folder) = (Home::new(), tempfile::tempdir().unwrap());
    let mut table = vec![("the truth", Lie::Object("<S>nothing but it</S>".to_owned()), Some("nothing but it"))];
    table.extend(rows());
    let table = Arc::new(table);
    let lies = Arc::clone(&table);
    let token = || async {
        let claims = json!({"tid": TENANT, "appid": APP, "roles": ["Exchange.ManageAsApp"], "aud": "https://outlook.office365.com",
            "nbf": now() - 300, "exp": now() + 3600, "exops_lab": true});
        let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
        let token = format!("{}.{}.AAAA", encode(json!({"alg": "RS256"}).to_string()), encode(claims.to_string()));
        ([("x-exops-lab", "1")], json!({"access_token": token, "expires_in": 3600, "token_type": "Bearer"}).to_string())
    };
    let powershell = move |Path(row): Path<usize>, body: Bytes| async move {
        let (status, body) = answer(&lies[row].1, &String::from_utf8_lossy(&body));
        let headers = [("x-exops-lab", "1"), ("content-type", "application/soap+xml;charset=UTF-8")];
        (StatusCode::from_u16(status).unwrap(), headers, body)
    };
    let routes =
        axum::Router::new().route("/{row}/{tenant}/oauth2/v2.0/token", post(token)).route("/{row}/powershell-liveid", post(powershell));
    let url = service(folder.path(), now(), routes).await;
    let (thumbprint, _) = certificate(&home, "client");
    let ca = folder.path().join("ca.pem").to_string_lossy().into_owned();
    std::fs::create_dir_all(home.path().join("profiles")).unwrap();
    for (row, (case, _, shown)) in table.iter().enumerate() {
        let at = format!("{url}/{row}");
        let profile: Json = json!({"app_id": APP, "organization": "contoso.onmicrosoft.com", "tenant_id": TENANT, "connection_id": APP,
            "endpoint": {"kind": "fixed", "authority": at, "admin_api": at, "powershell": format!("{at}/powershell-liveid"), "ca_file": ca, "lab": true},
            "credential": {"kind": "store", "thumbprint": thumbprint}});
        std::fs::write(home.path().join("profiles/liar.toml"), toml_of(&profile)).unwrap();
        let begun = Instant::now();
        let words = ["run", "Get-Mailbox", "--profile", "liar", "--transport", "rps", "-o", "json"];
        let output = tokio::task::block_in_place(|| home.command(&words).output().unwrap());
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let code = output.status.code();
        assert!(begun.elapsed() < Duration::from_secs(40), "{case}: {:?}", begun.elapsed());
        assert!(!stderr.contains("panicked"), "{case}: {stderr}");
        match shown {
            Some(text) => assert!(code == Some(0) && stdout.contains(text), "{case}: {code:?} {stdout} {stderr}"),
            None => {
                assert!(code.is_some_and(|code| code != 0 && code < 100), "{case}: {code:?} {stdout} {stderr}");
                let error: Json = serde_json::from_str(stderr.lines().last().unwrap_or_default()).unwrap_or_default();
                assert!(error["error"]["message"].is_string(), "{case}: {stderr}");
            }
        }
    }
}
