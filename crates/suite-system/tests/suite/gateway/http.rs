//! What remote PowerShell's front end does around the envelopes: forms of the URL, headers, encodings, the affinity cookie.

use std::io::Read as _;

use exops_remoting::client::{ClientConfig, ClientSession};
use exops_remoting::wsman::{Fault, Limits, ResponseBody, parse_response};
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderMap, SET_COOKIE};
use uuid::Uuid;

use super::fixture::{Fixture, basic};
use super::powershell::envelope;

const RECEIVE: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Receive";
const ENUMERATE: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration/Enumerate";

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn fault(&self) -> Fault {
        match parse_response(&self.body, &Limits::default()).unwrap().body {
            ResponseBody::Fault(fault) => fault,
            other => panic!("{other:?}"),
        }
    }
}

async fn post(fixture: &Fixture, target: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Answer {
    let mut request = fixture.client.post(format!("{}{target}", fixture.base)).body(body);
    let names = headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect::<Vec<_>>();
    if !names.contains(&"authorization".to_owned()) {
        request = request.bearer_auth(fixture.admin());
    }
    if !names.contains(&"content-type".to_owned()) {
        request = request.header(CONTENT_TYPE, "application/soap+xml;charset=UTF-8");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    assert!(answer.headers().contains_key(CONTENT_LENGTH), "always with a length");
    Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), body: answer.bytes().await.unwrap().to_vec() }
}

fn create() -> Vec<u8> {
    let config = ClientConfig::new("https://localhost/powershell-liveid", Uuid::new_v4(), Uuid::new_v4());
    ClientSession::new(config, Box::new(Uuid::new_v4)).poll_request().unwrap().1
}

/// The three forms in which clients join parameters to the path, and a path in any case.
#[tokio::test(flavor = "multi_thread")]
async fn forms_of_the_url_and_long_headers() {
    let fixture = Fixture::start().await;
    let unknown = || envelope(RECEIVE, "C0FFEE00-0000-0000-0000-000000000001");
    for target in [
        "/powershell-liveid",
        "/PowerShell-LiveId/",
        "/powershell?BasicAuthToOAuthConversion=true&serializationLevel=Full",
        "/powershell-liveid?BasicAuthToOAuthConversion=true;PSVersion=5.1.19041.610",
        "/powershell-liveid;PSVersion=7.0.13",
        "/powershell-liveid?a=b&amp;PSVersion=7.0.13",
        "/powershell-liveid?clientApplication=EMC;ExchClientVer=14.1.218.6;PSVersion=2.0",
    ] {
        let answer = post(&fixture, target, &[], unknown()).await;
        assert_eq!((answer.status, answer.fault().code), (500, Fault::UNEXPECTED_SELECTORS), "{target}");
        assert!(!answer.headers.contains_key(SET_COOKIE));
    }
    // The tenant to act on, joined in each of the forms: this caller's token is for another one.
    for target in
        ["?DelegatedOrg=fabrikam.com", ";DelegatedOrg=fabrikam.com", "?x=1;delegatedorg=fabrikam.com", "?x=1&amp;DelegatedOrg=fabrikam.com"]
    {
        assert_eq!(post(&fixture, &format!("/powershell-liveid{target}"), &[], unknown()).await.status, 401, "{target}");
    }
    // Header lines of 16 KiB are usual with tokens; a head of more than 64 KiB is refused, and so are more headers than a hundred.
    let long = |size: usize| "x".repeat(size);
    assert_eq!(post(&fixture, "/powershell", &[("X-Long", &long(16 << 10))], unknown()).await.status, 500);
    let token = format!("Bearer {}", fixture.admin());
    let wide = basic(&format!("OAuthUser@{}", long(15 << 10)), &token);
    assert_eq!(post(&fixture, "/powershell", &[("Authorization", &wide)], unknown()).await.status, 500);
    let answer =
        fixture.client.post(format!("{}/powershell", fixture.base)).header("X-Long", long(80 << 10)).body("").send().await.unwrap();
    assert_eq!(answer.status(), 431);
    let mut request = fixture.client.post(format!("{}/powershell", fixture.base)).body("");
    for n in 0..200 {
        request = request.header(format!("x-{n}"), "1");
    }
    assert_eq!(request.send().await.unwrap().status(), 431);
    fixture.finish().await;
}

/// Create sets the cookie of a balancer; whoever loses it, or brings another one, is served all the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_affinity_cookie() {
    let fixture = Fixture::start().await;
    let mut cookies = Vec::new();
    for target in ["/powershell-liveid?x=1", "/PowerShell;PSVersion=7.0"] {
        let answer = post(&fixture, target, &[], create()).await;
        assert_eq!(answer.status, 200);
        cookies.push(answer.headers[SET_COOKIE].to_str().unwrap().to_owned());
    }
    let (value, rest) = cookies[0].split_once("; ").unwrap();
    assert!(value.starts_with("MS-WSMAN=") && value.len() > 30, "{value}");
    assert_eq!(rest, "path=/powershell-liveid; secure; HttpOnly");
    assert_eq!(cookies[1], format!("{value}; path=/PowerShell; secure; HttpOnly"), "one server, one value");
    for cookie in [value, "MS-WSMAN=another; other=1", "MS-WSMAN=", "garbage"] {
        let answer = post(&fixture, "/powershell-liveid", &[(COOKIE.as_str(), cookie)], create()).await;
        assert_eq!(answer.status, 200, "{cookie}");
    }
    let refused = post(&fixture, "/powershell", &[], "<x/>").await;
    assert!(refused.status == 500 && !refused.headers.contains_key(SET_COOKIE));
    fixture.finish().await;
}

/// Answers are compressed for those who ask; envelopes may come in UTF-16 where the Content-Type says so (case X-05).
#[tokio::test(flavor = "multi_thread")]
async fn x05_encodings_of_bodies() {
    let fixture = Fixture::start().await;
    let plain = post(&fixture, "/powershell", &[], create()).await;
    assert!(plain.status == 200 && !plain.headers.contains_key(CONTENT_ENCODING));
    for (wish, zipped) in [
        ("gzip", true),
        ("gzip, deflate", true),
        ("deflate, GZIP;q=0.5", true),
        ("identity", false),
        ("gzip;q=0", false),
        ("gzip; q=0.0, identity", false),
        ("*", false),
        ("br", false),
    ] {
        let answer = post(&fixture, "/powershell", &[("Accept-Encoding", wish)], create()).await;
        assert_eq!((answer.status, answer.headers.contains_key(CONTENT_ENCODING)), (200, zipped), "{wish}");
        if zipped {
            let mut text = Vec::new();
            flate2::read::GzDecoder::new(answer.body.as_slice()).read_to_end(&mut text).unwrap();
            assert!(answer.body.len() < text.len() && parse_response(&text, &Limits::default()).is_ok());
        }
    }
    // Too short to be worth it.
    let short = post(&fixture, "/powershell", &[("Accept-Encoding", "gzip"), ("Authorization", "x y")], "").await;
    assert!(short.status == 401 && !short.headers.contains_key(CONTENT_ENCODING));

    let text = envelope(ENUMERATE, "")
        .replace("http://schemas.microsoft.com/powershell/Microsoft.Exchange", "http://schemas.microsoft.com/wbem/wsman/1/windows/shell");
    let text = text.replace(r#"<w:SelectorSet><w:Selector Name="ShellId"></w:Selector></w:SelectorSet>"#, "");
    let wide = |text: &str, mark: bool, little: bool| -> Vec<u8> {
        let units = mark.then_some(0xFEFF).into_iter().chain(text.encode_utf16());
        units.flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect()
    };
    let utf16 = "application/soap+xml;charset=UTF-16";
    let declared = |encoding: &str| format!("<?xml version=\"1.0\" encoding=\"{encoding}\"?>{text}");
    let mut odd = wide(&text, true, true);
    odd.pop();
    let mut half = wide(&text, true, true);
    half.extend([0x00, 0xD8]);
    let xml = Fault::INVALID_XML;
    for (name, kind, body, fault) in [
        ("little end first", utf16, wide(&text, true, true), None),
        ("big end first", utf16, wide(&text, true, false), None),
        ("no mark, little", "application/soap+xml; charset=\"utf-16\"", wide(&text, false, true), None),
        ("no mark, big", "application/soap+xml; action=\"x\"; charset=utf-16be", wide(&text, false, false), None),
        ("declared", utf16, wide(&declared("UTF-16"), true, true), None),
        ("declared otherwise", utf16, wide(&declared("UTF-8"), true, true), Some(xml)),
        ("another version", utf16, wide(&declared("UTF-16").replace("1.0", "1.1"), true, true), Some(xml)),
        ("half a character", utf16, odd, Some(xml)),
        ("half a pair", utf16, half, Some(xml)),
        ("eight bits", utf16, text.clone().into_bytes(), Some(xml)),
        ("nothing", utf16, Vec::new(), Some(xml)),
        ("sixteen bits where eight are told", "application/soap+xml;charset=UTF-8", wide(&text, true, true), Some(xml)),
        ("sixteen bits where nothing is told", "application/soap+xml", wide(&text, false, true), Some(xml)),
        ("eight bits declared as sixteen", "application/soap+xml;charset=UTF-8", declared("UTF-16").into_bytes(), Some(xml)),
        ("seven bits", "application/soap+xml;charset=UTF-7", b"+ADw-a/+AD4-".to_vec(), Some(xml)),
        ("a document type", utf16, wide(&format!("<!DOCTYPE a [<!ENTITY b \"c\">]>{text}"), true, true), Some(xml)),
    ] {
        let answer = post(&fixture, "/powershell", &[("Content-Type", kind)], body).await;
        match fault {
            None => assert_eq!(answer.status, 200, "{name}: {}", String::from_utf8_lossy(&answer.body)),
            Some(code) => assert_eq!(answer.fault().code, code, "{name}: {}", answer.fault()),
        }
    }
    fixture.finish().await;
}
