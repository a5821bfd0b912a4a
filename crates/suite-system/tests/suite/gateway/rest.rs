//! Sign-in, the REST front end, the audit trail, the listener.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use exops_audit::Ending;
use exops_auth::token::{ClientCredential, Grant, SigningKey, mint};
use exops_policy::{DirectoryRole, EXCHANGE_MANAGE_AS_APP};
use exops_testkit::{ORGANIZATION, TENANT};
use reqwest::header::AUTHORIZATION;
use secrecy::ExposeSecret as _;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::fixture::{AUDIENCE, Fixture, basic, now};
use super::powershell::Session;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_a_good_token() {
    let fixture = Fixture::start().await;
    let good = fixture.admin();
    let admin = [DirectoryRole::ExchangeAdministrator];
    let app = [EXCHANGE_MANAGE_AS_APP];
    let other_key = SigningKey::generate(now() / 1000).unwrap();
    let forged = {
        let grant = Grant {
            tenant: TENANT.0,
            audience: AUDIENCE,
            app_id: Uuid::nil(),
            object_id: Uuid::nil(),
            app_display_name: "",
            credential: ClientCredential::Secret,
            roles: &[EXCHANGE_MANAGE_AS_APP.to_owned()],
            directory_roles: &[],
            lab: true,
            unique_id: Uuid::nil(),
        };
        mint(&other_key, &grant, now() / 1000).unwrap().expose_secret().to_owned()
    };
    let foreign = fixture.token_of(Uuid::from_u128(2), 1, &app, &admin, true, AUDIENCE);
    let unserved = fixture.token_of(Uuid::from_u128(3), 1, &app, &admin, true, AUDIENCE);
    let graph = fixture.token_of(TENANT.0, 1, &app, &admin, true, "https://graph.microsoft.com");
    let no_role = fixture.token_of(TENANT.0, 1, &[], &admin, true, AUDIENCE);
    let unmarked = fixture.token_of(TENANT.0, 1, &app, &admin, false, AUDIENCE);
    // A-01, J-15, J-16: each with a word of the reason.
    let table: Vec<(Vec<String>, &str)> = vec![
        (vec![], "no Authorization"),
        (vec![String::new()], "no credentials"),
        (vec!["Bearer".to_owned()], "no credentials"),
        (vec!["Bearer  ".to_owned()], "no credentials"),
        (vec![format!("Bearer {good}"), format!("Bearer {good}")], "more than one"),
        (vec![format!("Negotiate {good}")], "neither"),
        (vec![basic("", &format!("Bearer {good}"))], "Basic credentials"),
        (vec![basic("user", &good)], "Basic credentials"),
        (vec!["Basic !!!".to_owned()], "Basic credentials"),
        (vec!["Bearer garbage".to_owned()], "malformed"),
        (vec![format!("Bearer {forged}")], "not known"),
        (vec![format!("Bearer {graph}")], "audience"),
        (vec![format!("Bearer {unserved}")], "not served"),
        (vec![format!("Bearer {unmarked}")], "not the lab's"),
        (vec![format!("Bearer {no_role}")], "no permissions"),
    ];
    for (values, reason) in &table {
        for (url, challenge) in [(fixture.url(), "Bearer "), (format!("{}/PowerShell-LiveId?x=y", fixture.base), "Basic realm=")] {
            let mut request = fixture.client.post(url).header("Content-Type", "application/soap+xml");
            for value in values {
                request = request.header(AUTHORIZATION, value);
            }
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 401, "{reason}");
            let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
            assert!(header("WWW-Authenticate").starts_with(challenge));
            assert!(header("x-ms-diagnostics").contains(reason), "{} / {reason}", header("x-ms-diagnostics"));
            assert_eq!((header("X-Exops-Lab"), header("content-length")), ("1".to_owned(), "0".to_owned()));
        }
    }
    // J-16: the path's tenant and the routing hint must be the token's.
    assert_eq!(fixture.invoke(&foreign, "Get-Mailbox", json!({})).await.status(), 401);
    let anchored =
        |anchor: String| fixture.client.post(fixture.url()).bearer_auth(&good).header("X-AnchorMailbox", anchor).body("{}").send();
    assert_eq!(anchored(format!("APP:SystemMailbox{{x}}@{}", Uuid::from_u128(9))).await.unwrap().status(), 401);
    assert_eq!(anchored("UPN:a@FABRIKAM.com".to_owned()).await.unwrap().status(), 401);
    assert_eq!(anchored("UPN:a@somewhere.example".to_owned()).await.unwrap().status(), 400, "an unknown domain decides nothing");
    let delegated = format!("{}/powershell?a=b;DelegatedOrg=fabrikam.com", fixture.base);
    assert_eq!(fixture.client.post(delegated).bearer_auth(&good).send().await.unwrap().status(), 401);

    // Every good way in: Bearer and Basic in any case, tenant by id or domain.
    let by_id = fixture.url().replace(ORGANIZATION, &TENANT.to_string());
    for (url, value) in [
        (fixture.url(), format!("bEARER {good}")),
        (by_id.clone(), basic("anyone@nowhere", &format!("Bearer {good}"))),
        (by_id, basic("u", &format!("bearer {good}")).replace("Basic", "basic")),
    ] {
        let body = json!({"CmdletInput": {"CmdletName": "Get-Mailbox"}});
        let answer = fixture.client.post(url).header(AUTHORIZATION, value).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    // The lever: a token is good for so many requests, the next one is too.
    assert!(fixture.gateway.authenticator().limit_token_uses(std::num::NonZeroU32::new(2)));
    let (first, second) = (fixture.admin(), fixture.admin());
    for (token, status) in [(&first, 200), (&first, 200), (&first, 401), (&second, 200), (&first, 401), (&second, 200), (&second, 401)] {
        let answer = fixture.invoke(token, "Get-Mailbox", json!({})).await;
        assert_eq!(answer.status(), status);
        assert!(status == 200 || answer.headers()["x-ms-diagnostics"].to_str().unwrap().contains("lever"));
    }
    fixture.gateway.authenticator().limit_token_uses(None);
    assert_eq!(fixture.invoke(&first, "Get-Mailbox", json!({})).await.status(), 200);
    // J-09: over, skew included.
    fixture.clock.fetch_add(3_901_000, Ordering::Relaxed);
    let late = fixture.invoke(&good, "Get-Mailbox", json!({})).await;
    assert!(late.headers()["x-ms-diagnostics"].to_str().unwrap().contains("expired"));
    assert!(fixture.entries().await.is_empty(), "reads and refused sign-ins leave no entry");

    // A directory role that leads nowhere: 403 on both faces.
    let stranger = fixture.token(0xc, DirectoryRole::SecurityReader);
    let answer = fixture.invoke(&stranger, "Get-Mailbox", json!({})).await;
    assert_eq!(answer.status(), 403);
    assert!(answer.bytes().await.unwrap().iter().all(|b| *b == 0));
    let mut session = Session::new(&fixture, &stranger);
    session.turn().await;
    assert_eq!(session.statuses, [403]);
    fixture.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_pages() {
    let fixture = Fixture::start().await;
    let token = fixture.admin();
    let first = fixture.invoke(&token, "get-MANY", json!({"ResultSize": "Unlimited"})).await;
    assert_eq!(first.status(), 200);
    for header in ["request-id", "x-calculatedbetarget", "odata-version", "date", "content-length"] {
        assert!(first.headers().contains_key(header), "{header}");
    }
    let first: Json = first.json().await.unwrap();
    assert_eq!((first["value"].as_array().unwrap().len(), &first["@adminapi.warnings"]), (10, &json!([])));
    assert_eq!(first["value"][0]["Guid@data.type"], "System.Guid");
    let link = first["@odata.nextLink"].as_str().unwrap().to_owned();
    assert!(link.starts_with(&fixture.url()), "{link}");

    // Somebody else's link is no link.
    let reader = fixture.token(0xd, DirectoryRole::GlobalReader);
    let foreign = fixture.client.post(&link).bearer_auth(&reader).send().await.unwrap();
    assert_eq!(foreign.status(), 400);
    assert!(foreign.text().await.unwrap().contains("pagination request"));

    let page = |link: String| {
        let request = fixture.client.post(link).bearer_auth(&token).body("{\"CmdletInput\":{\"CmdletName\":\"Get-Many\"}}");
        async move { request.send().await.unwrap().bytes().await.unwrap() }
    };
    let second = page(link.clone()).await;
    let again = fixture.client.get(&link).bearer_auth(&token).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(second, again, "a repeated request gets the same page");
    let second: Json = serde_json::from_slice(&second).unwrap();
    let last_link = second["@odata.nextLink"].as_str().unwrap().to_owned();
    let last = page(last_link.clone()).await;
    assert_eq!(last, page(last_link.clone()).await);
    let last: Json = serde_json::from_slice(&last).unwrap();
    assert_eq!((last["value"].as_array().unwrap().len(), &last["@adminapi.warnings"]), (5, &json!(["there is more"])));
    assert!(last.get("@odata.nextLink").is_none());
    assert_eq!(last["value"][4]["Alias"], "user24");
    // The page before the last one is gone.
    assert!(String::from_utf8_lossy(&page(link).await).contains("Expired or Invalid"));

    // Half an hour later the rest of a result is gone, and so is what it held.
    let slow: Json = fixture.invoke(&token, "Get-Many", json!({})).await.json().await.unwrap();
    let link = slow["@odata.nextLink"].as_str().unwrap().to_owned();
    fixture.invoke(&token, "Get-Flood", json!({})).await;
    fixture.clock.fetch_add(31 * 60 * 1000, Ordering::Relaxed);
    assert!(String::from_utf8_lossy(&page(link).await).contains("Expired or Invalid"));
    let began = Instant::now();
    while !fixture.runspace.invocations().last().unwrap().stop.is_stopped() {
        assert!(began.elapsed() < Duration::from_secs(5), "a result that nobody reads on stops its pipeline");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // $select, CLIXML, an unknown format.
    let token = fixture.admin();
    let send = |query: &str, format: &str| {
        let body = json!({"CmdletInput": {"CmdletName": "Get-Many"}});
        fixture.client.post(fixture.url() + query).bearer_auth(&token).header("X-ResponseFormat", format).json(&body).send()
    };
    let selected: Json = send("?$select=Alias,guid", "json").await.unwrap().json().await.unwrap();
    let keys: Vec<_> = selected["value"][0].as_object().unwrap().keys().filter(|k| !k.contains('@')).collect();
    assert_eq!((keys.len(), selected["value"].as_array().unwrap().len()), (2, 25));
    let clixml: Json = send("", "clixml").await.unwrap().json().await.unwrap();
    assert!(clixml["value"][0]["_clixml"].as_str().unwrap().contains("user24"));
    assert_eq!(send("", "yaml").await.unwrap().status(), 400);
    fixture.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_errors() {
    let fixture = Fixture::start().await;
    let token = fixture.admin();
    let reader = fixture.token(0xd, DirectoryRole::GlobalReader);

    // Output and errors: 200 with both. Only errors: the envelope.
    let part: Json = fixture.invoke(&token, "Get-Mailbox", json!({})).await.json().await.unwrap();
    assert_eq!((part["value"].as_array().unwrap().len(), &part["@adminapi.warnings"]), (1, &json!(["careful"])));
    assert!(part["@adminapi.errors"][0].as_str().unwrap().contains("'nobody'"));
    let missing = fixture.invoke(&token, "Get-Part", json!({})).await;
    assert_eq!(
        (missing.status().as_u16(), &missing.headers()["x-exceptiontype"]),
        (404, &"ManagementObjectNotFoundException".parse().unwrap())
    );
    let missing: Json = missing.json().await.unwrap();
    assert!(missing["error"]["details"][0]["message"].as_str().unwrap().starts_with("Ex6F9304|Microsoft.Exchange"));
    assert_eq!(missing["error"]["@adminapi.warnings"], json!(["w"]));

    // Errors in the middle and at the end: what came stands, with every text in order.
    let mixed: Json = fixture.invoke(&token, "Get-Mixed", json!({})).await.json().await.unwrap();
    let errors: Vec<_> = mixed["@adminapi.errors"].as_array().unwrap().iter().map(|e| e.as_str().unwrap()).collect();
    assert_eq!((mixed["value"].as_array().unwrap().len(), &mixed["@adminapi.warnings"]), (3, &json!(["between"])));
    assert!(errors.len() == 3 && errors[0].contains("'first'") && errors[1].contains("'second'") && errors[2] == "cut short", "{errors:?}");

    // More errors than an answer holds: the rest is counted.
    let many: Json = fixture.invoke(&token, "Get-Faults", json!({})).await.json().await.unwrap();
    let details = many["error"]["details"].as_array().unwrap();
    let text = |at: usize| details[at]["message"].as_str().unwrap();
    assert!(details.len() == 1001 && text(999).contains("one of many") && text(1000).contains("500 more errors"), "{}", details.len());

    // Does not exist, is not granted, is not granted in this form.
    for (token, name) in [
        (&token, "Get-Nothing"),
        (&token, "Set-Hidden"),
        (&reader, "Set-Mailbox"),
        (&token, "Mod\\Get-Mailbox"),
        (&token, "Get-*"),
        (&token, "Get-Mailbox "),
    ] {
        let refused = fixture.invoke(token, name, json!({})).await;
        assert_eq!((refused.status().as_u16(), &refused.headers()["content-encoding"]), (403, &"gzip".parse().unwrap()), "{name}");
        let body = refused.bytes().await.unwrap();
        assert!(!body.is_empty() && body.iter().all(|b| *b == 0));
    }
    // A parameter that nobody knows, and one that no role of the caller grants.
    for (parameters, status, exception, message) in [
        (json!({"Nonsense": 1}), 400, "AmbiguousParameterSetException", "Invalid cmdlet parameters specified."),
        (json!({"Hidden": "not in the role"}), 403, "CmdletAccessDeniedException", "Ex5E8EA4|"),
    ] {
        let refused = fixture.invoke(&token, "Set-Mailbox", parameters).await;
        assert_eq!((refused.status().as_u16(), &refused.headers()["x-exceptiontype"]), (status, &exception.parse().unwrap()));
        let text = refused.text().await.unwrap();
        assert!(text.contains(exception) && text.contains(message), "{text}");
    }
    let busy = fixture.invoke(&token, "Get-Busy", json!({})).await;
    assert_eq!((busy.status().as_u16(), &busy.headers()["retry-after"]), (429, &"3".parse().unwrap()));

    // Paths, verbs, bodies.
    let post =
        |path: &str, body: &'static str| fixture.client.post(format!("{}{path}", fixture.base)).bearer_auth(&token).body(body).send();
    assert_eq!(post(&format!("/adminapi/v1.0/{ORGANIZATION}/InvokeCommand"), "{}").await.unwrap().status(), 405);
    assert_eq!(post(&format!("/adminapi/beta/{ORGANIZATION}/Nothing"), "{}").await.unwrap().status(), 404);
    assert_eq!(fixture.client.get(fixture.url()).bearer_auth(&token).send().await.unwrap().status(), 405);
    let banner: Json = fixture
        .client
        .get(format!("{}/AdminApi/v1.0/{ORGANIZATION}/EXOBanner('AutogenSession')?Version=1", fixture.base))
        .bearer_auth(&token)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(banner["sessionType"], "AutogenSession");
    // J-12: a name that stands twice has two readings.
    let twice = r#"{"CmdletInput":{"CmdletName":"Get-Mailbox","Parameters":{"Identity":"a","Identity":"b"}}}"#;
    for body in ["", "{", "[]", "{\"CmdletInput\":{\"CmdletName\":5}}", twice] {
        let answer = post(&format!("/adminapi/beta/{ORGANIZATION}/InvokeCommand"), body).await.unwrap();
        assert_eq!(answer.status(), 400);
        assert_eq!(answer.json::<Json>().await.unwrap()["error"]["code"], "BadRequest");
    }
    let deep = format!("{{\"CmdletInput\":{}", "[".repeat(10_000));
    let answer = fixture.client.post(fixture.url()).bearer_auth(&token).body(deep).send().await.unwrap();
    assert!(answer.text().await.unwrap().contains("deeper than"));
    let large = vec![b' '; (16 << 20) + 1];
    let answer = fixture.client.post(fixture.url()).bearer_auth(&token).body(large).send().await;
    assert!(answer.is_err() || answer.unwrap().status() == 413);
    fixture.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_no_read_leaves_one_entry() {
    let fixture = Fixture::start().await;
    let token = fixture.admin();
    let reader = fixture.token(0xd, DirectoryRole::GlobalReader);
    // L-01: none of these may turn up in the trail.
    let canary = "c4n4ry";
    let parameters = json!({"Identity": "adele", "DisplayName": "Adele V", "Password": canary});
    assert_eq!(fixture.invoke(&token, "set-mailbox", parameters.clone()).await.status(), 200);
    assert_eq!(fixture.invoke(&token, "Set-Broken", json!({"Identity": "nobody"})).await.status(), 404);
    assert_eq!(fixture.invoke(&token, "Set-Mailbox", json!({"Nonsense": 1, "Pass": canary})).await.status(), 400);
    assert_eq!(fixture.invoke(&reader, "Set-Mailbox", parameters).await.status(), 403);
    assert_eq!(fixture.invoke(&token, "Remove-Everything", json!({"AccessToken": canary})).await.status(), 403);
    assert_eq!(fixture.invoke(&token, "Set-Panic", json!({})).await.status(), 500);
    // No entry: reads, refused reads, -WhatIf, a validation call.
    fixture.invoke(&token, "Get-Mailbox", json!({})).await;
    fixture.invoke(&token, "Get-Nothing", json!({})).await;
    fixture.invoke(&token, "Set-Mailbox", json!({"Identity": "adele", "WhatIf": true})).await;
    fixture.invoke(&token, "Set-Mailbox", json!({"Identity": "adele", "Confirm": true})).await;
    let confirms: Vec<_> = fixture.runspace.invocations().iter().map(|i| (i.confirm, i.permit.is_some(), i.intent.is_some())).collect();
    assert_eq!(confirms[0], (exops_runspace::Confirm::Yes, true, true));
    assert_eq!(confirms.last(), Some(&(exops_runspace::Confirm::ReportOnly, true, false)));

    let entries = fixture.entries().await;
    let seen: Vec<_> = entries.iter().map(|e| (e.intent.cmdlet.as_str(), e.outcome.as_ref().unwrap().ending.word())).collect();
    assert_eq!(
        seen,
        [
            ("Set-Mailbox", "succeeded"),
            ("Set-Broken", "failed"),
            ("Set-Mailbox", "refused"),
            ("Set-Mailbox", "refused"),
            ("Remove-Everything", "refused"),
            ("Set-Panic", "unknown"),
        ]
    );
    let actor = &entries[0].intent.actor;
    assert_eq!((actor.name.as_str(), actor.app_id, actor.object_id), ("ExOPS test", Uuid::from_u128(0xa), Uuid::from_u128(0xb)));
    assert!(actor.client_address.starts_with("127.0.0.1:"));
    let parameters: BTreeMap<_, _> = entries[0].intent.parameters.iter().map(|p| (p.name.as_str(), p.value.as_str())).collect();
    assert_eq!(parameters, BTreeMap::from([("Identity", "adele"), ("DisplayName", "Adele V"), ("Password", "System.String")]));
    assert!(!format!("{entries:?}").contains(canary));
    assert!(matches!(&entries[1].outcome.as_ref().unwrap().ending, Ending::Failed(text) if text.contains("'nobody'")));

    // No trail, no work (L-03); reads go on.
    fixture.store.close().await;
    let before = fixture.runspace.invocations().len();
    let refused = fixture.invoke(&token, "Set-Mailbox", json!({"Identity": "adele"})).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.text().await.unwrap().contains("audit trail cannot be written"));
    assert_eq!(fixture.runspace.invocations().len(), before);
    assert_eq!(fixture.invoke(&token, "Get-Mailbox", json!({})).await.status(), 200);
    fixture.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_serves_others_while_somebody_dawdles() {
    let fixture = Fixture::start().await;
    let address = fixture.base.trim_start_matches("https://").to_owned();
    // H-10: peers that never begin their handshake, or never send a head.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(tokio::net::TcpStream::connect(&address).await.unwrap());
    }
    let ping = |path: &'static str| fixture.client.get(format!("{}{path}", fixture.base)).send();
    let answer = ping("/ping").await.unwrap();
    assert_eq!(answer.headers()["x-exops-lab"], "1");
    assert_eq!(answer.text().await.unwrap(), "pong");
    let panicked = ping("/panic").await.unwrap();
    assert_eq!(panicked.status(), 500);
    assert!(panicked.text().await.unwrap().contains("request failed inside"));
    assert_eq!(ping("/nothing").await.unwrap().status(), 404);
    // A client that leaves does not cut a change off.
    let body = json!({"CmdletInput": {"CmdletName": "Set-Mailbox", "Parameters": {"Identity": "left"}}});
    let request = fixture.client.post(fixture.url()).bearer_auth(fixture.admin()).json(&body).timeout(Duration::from_micros(1));
    let _ = request.send().await;
    // A request in flight is answered after shutdown was asked for; new connections are not taken.
    let slow = tokio::spawn(ping("/slow"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let client = fixture.client.clone();
    let url = format!("{}/ping", fixture.base);
    let began = Instant::now();
    fixture.finish().await;
    assert!(began.elapsed() < Duration::from_secs(4), "silent peers do not hold the drain up");
    assert_eq!(slow.await.unwrap().unwrap().text().await.unwrap(), "done");
    assert!(client.get(url).send().await.is_err());
}
