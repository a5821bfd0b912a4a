//! The program's own client, and the program itself, before the scripted runspace: the same over both transports.

use exops_catalogue::{Command, Pipeline, UnknownNames, bind};
use exops_client::{RemotePowerShellConnection, RestConnection};
use exops_psobject::{ErrorCategory, ErrorRecord};
use exops_runspace::{Ended, Invocation, Record, Runspace, Step};
use exops_testkit::{ORGANIZATION, TENANT};
use futures_util::StreamExt as _;
use serde_json::Value as Json;
use uuid::Uuid;

use super::fixture::Fixture;
use crate::program::{Home, Run, openssl_certificate};

/// What a person is told of an error: type, message, category, target.
type Told = (String, String, ErrorCategory, String);

/// The errors of one call in order, an end with one among them, and how many other records came.
async fn errors(fixture: &Fixture, connection: &dyn Runspace, name: &str) -> (Vec<Told>, usize) {
    let (_, tokens) = fixture.own_client();
    let caller = tokens.token().await.unwrap().caller();
    let catalogue = fixture.runspace.catalogue(&caller).await.unwrap();
    let bound = bind(&catalogue, &Pipeline::from(Command::new(name)), UnknownNames::Pass).unwrap();
    let mut records = connection.invoke(Invocation::new(caller, bound, Uuid::new_v4()));
    let (mut errors, mut others) = (Vec::new(), 0);
    let told = |e: &ErrorRecord| (e.exception_type().to_owned(), e.message.to_string(), e.category, e.target_name.to_string());
    while let Some(step) = records.next().await {
        match step {
            Step::Record(Record::Error(record)) | Step::Ended(Ended::Failed(record)) => errors.push(told(&record)),
            Step::Record(_) => others += 1,
            Step::Ended(Ended::Completed) => {}
            Step::Ended(end) => panic!("{name}: {end:?}"),
        }
    }
    (errors, others)
}

/// A person's folder with a profile that leads to the fixture.
fn home(fixture: &Fixture) -> Home {
    home_at(&fixture.base, &format!("{}/powershell-liveid", fixture.base), &fixture.ca_pem())
}

/// A person's folder with a profile that leads to these places.
pub(super) fn home_at(base: &str, powershell: &str, ca_pem: &str) -> Home {
    let home = Home::new();
    let (_, pem) = openssl_certificate(home.path(), "caller");
    let ca = home.path().join("fixture.pem");
    std::fs::write(&ca, ca_pem).unwrap();
    let tenant = TENANT.0;
    let profile = format!(
        "app_id = '{}'\norganization = '{ORGANIZATION}'\ntenant_id = '{tenant}'\nconnection_id = '{tenant}'\n[endpoint]\nkind = 'fixed'\n\
         authority = '{base}'\nadmin_api = '{base}'\npowershell = '{powershell}'\nca_file = '{}'\nlab = true\n[credential]\n\
         kind = 'file'\npath = '{}'\npassword = 'none'\n",
        Uuid::from_u128(0xa),
        ca.display(),
        pem.display(),
    );
    std::fs::create_dir(home.path().join("profiles")).unwrap();
    std::fs::write(home.path().join("profiles/default.toml"), profile).unwrap();
    home
}

#[tokio::test(flavor = "multi_thread")]
async fn several_errors_in_one_call() {
    let fixture = Fixture::start().await;
    let (http, tokens) = fixture.own_client();
    let rest = RestConnection::new(http.clone(), tokens.clone());
    let rps = RemotePowerShellConnection::new(http, tokens);
    for (name, count, other) in [("Get-Several", 4, 1), ("Get-Mixed", 3, 4), ("Get-Part", 1, 1), ("Get-Mailbox", 1, 2)] {
        let (over_rest, over_session) = (errors(&fixture, &rest, name).await, errors(&fixture, &rps, name).await);
        assert_eq!((over_session.0.len(), over_session.1), (count, other), "{name}");
        assert_eq!(over_rest, over_session, "{name}");
    }
    rps.close().await;

    // The same as a person and as a program is told it, and the same exit code.
    let home = home(&fixture);
    let run = async |arguments: &[&str]| {
        let mut command = home.command(arguments);
        Run::of(tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
    };
    for format in ["table", "json"] {
        let [over_rest, over_session] = [
            run(&["run", "--transport", "rest", "Get-Several", "-o", format]).await,
            run(&["run", "--transport", "rps", "Get-Several", "-o", format]).await,
        ];
        let (over_rest, over_session) = (over_rest.exits(3), over_session.exits(3));
        let told = |run: &Run| -> Vec<String> {
            let own = |line: &&str| if format == "json" { line.starts_with("{\"error\"") } else { line.starts_with("error: ") };
            let errors = run.stderr.lines().filter(own);
            errors
                .map(|line| match serde_json::from_str::<Json>(line) {
                    Ok(json) => ["message", "category", "cmdlet", "target"].map(|k| json["error"][k].to_string()).join(" "),
                    Err(_) => line.to_owned(),
                })
                .collect()
        };
        assert_eq!(told(&over_rest).len(), 4, "{}", over_rest.stderr);
        assert_eq!(told(&over_rest), told(&over_session), "{format}");
    }
    // One plain call of the API, as it comes.
    let path = format!("/adminapi/beta/{}/InvokeCommand", TENANT.0);
    let raw = run(&["rest", "POST", &path, "--body", r#"{"CmdletInput":{"CmdletName":"Get-Several"}}"#]).await.exits(3);
    assert_eq!(raw.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 4, "{}", raw.stderr);
    fixture.finish().await;
}
