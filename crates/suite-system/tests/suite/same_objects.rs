//! The same objects everywhere: every object of the seed, every property, equal in canonical form over REST, over remote
//! PowerShell by our client, over remote PowerShell by pypsrp, and over REST as CLIXML by a plain HTTP client.

use std::collections::BTreeMap;
use std::sync::Arc;

use exops_catalogue::{Catalogue, Command, Pipeline, UnknownNames, bind};
use exops_client::{Credential, Endpoint, Http, RemotePowerShellConnection, RestConnection, TokenSource};
use exops_psobject::canonical::canonical;
use exops_runspace::{Ended, Invocation, Record, Runspace, Step};
use exops_testkit::{openssl, python};
use futures_util::StreamExt;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::program::{Application, LabProgram, interop};

/// What is read: the cmdlet, whether it takes `-ResultSize Unlimited`, and how many objects and properties there must be at least, so that
/// nothing is equal for being empty.
const READ: [(&str, bool, usize, usize); 5] = [
    ("Get-Recipient", true, 150, 20),
    ("Get-Mailbox", true, 100, 100),
    ("Get-DistributionGroup", true, 5, 20),
    ("Get-AcceptedDomain", false, 1, 10),
    ("Get-OrganizationConfig", false, 1, 100),
];

#[tokio::test]
async fn over_every_transport() {
    let (Some(python), Some(_)) = (python(), openssl()) else { return };
    let lab = LabProgram::start();
    let application = lab.application("same-objects", &["Exchange Administrator"]);
    let (http, tokens) = sign_in(&lab, &application);
    let rest = read_all(&RestConnection::new(http.clone(), tokens.clone()), &tokens).await;
    let rps = read_all(&RemotePowerShellConnection::new(http, tokens.clone()), &tokens).await;

    let names: Vec<String> = READ.iter().map(|(name, unlimited, ..)| format!("{name}{}", if *unlimited { "*" } else { "" })).collect();
    let theirs = tokio::task::spawn_blocking(move || {
        let steps = interop(&python, "all_recipients_pypsrp.py", &lab, &application, &["--cmdlets", &names.join(",")]);
        let objects = |step: &Json| {
            assert_eq!(step["errors"], Json::Array(Vec::new()));
            step["objects"].as_array().cloned().unwrap_or_default()
        };
        steps.into_iter().map(|(name, step)| (name, objects(&step))).collect::<BTreeMap<_, _>>()
    });
    let theirs = theirs.await.unwrap();

    let mut differences = Vec::new();
    for (name, _, objects, properties) in READ {
        let reference = &rest[name];
        assert!(reference.len() >= objects, "{name}: {} objects over REST", reference.len());
        let widest = reference.iter().filter_map(Json::as_object).map(serde_json::Map::len).max().unwrap_or_default();
        assert!(widest >= properties, "{name}: {widest} properties");
        compare(&format!("{name}, our remote PowerShell client"), reference, &rps[name], &mut differences);
        compare(&format!("{name}, pypsrp"), reference, &theirs[name], &mut differences);
        compare(&format!("{name}, REST as CLIXML"), reference, &theirs[&format!("{name} as CLIXML")], &mut differences);
    }
    assert!(theirs["nothing as CLIXML"].is_empty(), "a document without objects");
    let shown = differences.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "{} differences from REST:\n{shown}", differences.len());
}

/// A client of the lab in this process.
pub(crate) fn sign_in(lab: &LabProgram, application: &Application) -> (Http, TokenSource) {
    let endpoint = Endpoint {
        authority: lab.text("authority").to_owned(),
        graph: lab.text("graph").to_owned(),
        admin_api: lab.text("admin_api").to_owned(),
        powershell: lab.text("powershell").to_owned(),
        organization: lab.text("organization").to_owned(),
        tenant_id: lab.text("tenant_id").parse().ok(),
        ca_pem: Some(std::fs::read(lab.text("ca_file")).unwrap()),
        is_lab: true,
    };
    let identity = exops_auth::pem::read_identity(&std::fs::read(&application.pem).unwrap(), None, None).unwrap();
    let http = Http::new(&endpoint).unwrap();
    let tokens = TokenSource::new(http.clone(), endpoint, application.app_id.parse().unwrap(), Credential::Certificate(Arc::new(identity)));
    (http, tokens)
}

async fn read_all(connection: &dyn Runspace, tokens: &TokenSource) -> BTreeMap<&'static str, Vec<Json>> {
    let caller = tokens.token().await.unwrap().caller();
    let mut all = BTreeMap::new();
    for (name, unlimited, ..) in READ {
        let command = if unlimited { Command::new(name).with("ResultSize", "Unlimited") } else { Command::new(name) };
        let pipeline = bind(&Catalogue::built_in(), &Pipeline::from(command), UnknownNames::Pass).unwrap();
        let mut records = connection.invoke(Invocation::new(caller.clone(), pipeline, Uuid::new_v4()));
        let mut objects = Vec::new();
        while let Some(step) = records.next().await {
            match step {
                Step::Record(Record::Output(value)) => objects.push(canonical(&value)),
                Step::Record(Record::Error(record)) => panic!("{name}: {record:?}"),
                Step::Record(_) => {}
                Step::Ended(end) => assert_eq!(end, Ended::Completed, "{name}"),
            }
        }
        all.insert(name, objects);
    }
    connection.close().await;
    all
}

fn compare(what: &str, reference: &[Json], other: &[Json], differences: &mut Vec<String>) {
    if reference.len() != other.len() {
        differences.push(format!("{what}: {} objects instead of {}", other.len(), reference.len()));
    }
    for (index, (left, right)) in reference.iter().zip(other).enumerate() {
        let keys = |object: &Json| object.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
        if keys(left) != keys(right) {
            differences.push(format!("{what}: object {index} has the properties {:?} instead of {:?}", keys(right), keys(left)));
        }
        for key in keys(left) {
            if left[&key] != right[&key] {
                differences.push(format!("{what}: object {index}, {key}: {} instead of {}", right[&key], left[&key]));
            }
        }
    }
}
