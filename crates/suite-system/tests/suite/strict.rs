//! `exops lab up --strict`: what the real token service lets pass although its standards do not is refused, and our own client
//! writes nothing of it.

use exops_auth::assertion::{self, Request};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use uuid::Uuid;

use crate::cli::{certificate, now};
use crate::program::{Home, LabProgram};

#[test]
fn what_passes_by_default_is_refused() {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    for strict in [false, true] {
        let lab = LabProgram::start_in(Home::new(), if strict { &["--strict"] } else { &[] });
        assert_eq!(lab.exops(&["lab", "status", "--json"]).exits(0).json()["strict"], strict);
        let (thumbprint, public) = certificate(&lab.home, "strict");
        let create = ["lab", "app", "create", "--name", "strict", "--certificate", &public, "--app-role", "Exchange.ManageAsApp"];
        let made = lab.exops(&[&create[..], &["--directory-role", "Exchange Administrator", "--json"]].concat()).exits(0).json();
        let app_id = made["app_id"].as_str().expect("app_id");
        lab.exops(&["connect", "--lab", "--app-id", app_id, "--thumbprint", &thumbprint]).exits(0);
        for transport in ["rest", "rps"] {
            lab.home.exops(&["run", "Get-AcceptedDomain", "--transport", transport]).exits(0);
        }

        let pem = lab.home.path().join("both.pem");
        lab.home.exops(&["cert", "export", &thumbprint, "--out", pem.to_str().expect("UTF-8 path")]).exits(0);
        let identity = exops_auth::pem::read_identity(&std::fs::read(&pem).expect("a file"), None, None).expect("an identity");
        let issuer = format!("{}/{}/v2.0", lab.text("authority"), lab.text("tenant_id"));
        let assertion = |audience: &str| {
            let request = Request { client_id: app_id, audience, jti: Uuid::new_v4(), now: now(), chain: None };
            assertion::sign(&identity, &request).expect("an assertion").expose_secret().to_owned()
        };
        let send = |assertion: &str| {
            let sent = runtime.block_on(send(&lab, app_id, assertion));
            (sent.0, sent.1["error_codes"][0].as_u64())
        };
        // One assertion twice, and one that is meant for the issuer and not for the token URL.
        let once = assertion(lab.text("token_endpoint"));
        let answers = [send(&once), send(&once), send(&assertion(&issuer))];
        let good = (200, None);
        let expected = if strict { [good, (400, Some(50_027)), (401, Some(700_023))] } else { [good; 3] };
        assert_eq!(answers, expected, "strict: {strict}");
    }
}

async fn send(lab: &LabProgram, app_id: &str, assertion: &str) -> (u16, Value) {
    let ca = std::fs::read(lab.text("ca_file")).expect("the CA");
    let roots = reqwest::Certificate::from_pem_bundle(&ca).expect("PEM");
    let client = reqwest::Client::builder().tls_certs_only(roots).build().expect("a client");
    // Nothing in it needs to be escaped but what is escaped here.
    let form = format!(
        "grant_type=client_credentials&client_id={app_id}&scope=https%3A%2F%2Foutlook.office365.com%2F.default&client_assertion={assertion}\
         &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
    );
    let request = client.post(lab.text("token_endpoint")).header("content-type", "application/x-www-form-urlencoded").body(form);
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON"))
}
