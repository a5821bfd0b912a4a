//! What arrives at the listener as XML, SOAP and WS-Management.

use std::net::TcpListener;
use std::process::Command as Process;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exops_psrp::{Command, MessageType};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use uuid::Uuid;

use super::peer::{RESOURCE, SHELL, TRANSFER, Target, envelope, raw_message};

const IDENTIFY: &str = "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\"><s:Header/><s:Body>\
                        <i:Identify xmlns:i=\"http://schemas.dmtf.org/wbem/wsman/identify/1/wsmanidentity.xsd\"/></s:Body></s:Envelope>";
/// Megabytes by which hostile requests may make the process larger.
const GROWTH: u64 = 96;

/// A place that nobody may call.
fn trap() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[track_caller]
fn nobody_came(listener: &TcpListener) {
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "somebody followed an address");
}

/// X-01: a document type is refused wherever it stands, before it can grow.
#[tokio::test(flavor = "multi_thread")]
async fn x_01_entity_expansion() {
    let target = Target::start();
    let shell = target.open().await;
    let receive = shell.receive_envelope(None);
    let laughs: String = (1..12).map(|n| format!("<!ENTITY l{n} \"{}\">", format!("&l{};", n - 1).repeat(10))).collect();
    let wide = format!("<!DOCTYPE a [<!ENTITY l0 \"{}\">]>", "x".repeat(500_000));
    for (what, hostile) in [
        ("a document type alone", format!("<!DOCTYPE a>{receive}")),
        ("billion laughs", format!("<!DOCTYPE a [<!ENTITY l0 \"ha\">{laughs}]>{}", receive.replace("PT3S", "&l11;"))),
        ("quadratic", format!("{wide}{}", receive.replace("PT3S", &"&l0;".repeat(1000)))),
        ("after a declaration", format!("<?xml version=\"1.0\"?>\n<!DOCTYPE a []>{receive}")),
        ("after a comment", format!("<!-- c --><!DOCTYPE a []>{receive}")),
        ("in the body", receive.replace("<s:Body>", "<s:Body><!DOCTYPE a>")),
        ("an unknown entity", receive.replace("PT3S", "&l0;")),
        ("behind the document", format!("{receive}<!DOCTYPE a>")),
    ] {
        target.post(hostile).await.is_refused(what);
    }
    assert!(target.memory().1 < 600, "{:?}", target.memory());
    target.lives().await;
}

/// X-02: nothing that a document names is opened: no address, no file, no stylesheet, no inclusion.
#[tokio::test(flavor = "multi_thread")]
async fn x_02_external_entities() {
    let target = Target::start();
    let shell = target.open().await;
    let receive = shell.receive_envelope(None);
    let (listener, address) = trap();
    // Whoever opened this one to read would wait for ever.
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Process::new("mkfifo").arg(&pipe).status().unwrap().success());
    let pipe = pipe.display();
    for system in [format!("http://{address}/x"), format!("file://{pipe}"), format!("{pipe}"), format!("\\\\{address}\\share\\x")] {
        let entity = receive.replace("PT3S", "&x;");
        target.post(format!("<!DOCTYPE a [<!ENTITY x SYSTEM \"{system}\">]>{entity}")).await.is_refused("a general entity");
        target.post(format!("<!DOCTYPE a [<!ENTITY % x SYSTEM \"{system}\"> %x;]>{receive}")).await.is_refused("a parameter entity");
        target.post(format!("<!DOCTYPE a SYSTEM \"{system}\">{receive}")).await.is_refused("an external subset");
        target.post(format!("<?xml-stylesheet href=\"{system}\"?>{receive}")).await.is_refused("a stylesheet");
        // An element that means nothing here; what it says stays unread.
        let include = format!("<i:include xmlns:i=\"http://www.w3.org/2001/XInclude\" href=\"{system}\" parse=\"text\"/>");
        target.post(IDENTIFY.replace("<s:Header/>", &format!("<s:Header>{include}</s:Header>"))).await.is_done("an inclusion");
    }
    nobody_came(&listener);
    target.lives().await;
}

/// X-03: size in every direction is bounded before it costs anything.
#[tokio::test(flavor = "multi_thread")]
async fn x_03_huge_documents() {
    let target = Target::start();
    let shell = target.open().await;
    let receive = shell.receive_envelope(None);
    let inside = |text: &str| receive.replace("</s:Header>", &format!("{text}</s:Header>"));
    let numbered = |count: usize, form: fn(usize) -> String| (0..count).map(form).collect::<String>();
    let before = target.memory().0;
    // What is longer than a body may be, and of each the most that fits into one: that is for the reader to refuse.
    for (what, hostile, fits) in [
        ("a million nested elements", inside(&"<a>".repeat(1_000_000)), false),
        ("nested as deep as a body allows", inside(&"<a>".repeat(600_000)), true),
        ("nested and closed", inside(&format!("{}{}", "<a>".repeat(200_000), "</a>".repeat(200_000))), true),
        ("a million attributes", inside(&format!("<a{}/>", numbered(1_000_000, |n| format!(" a{n}=''")))), false),
        ("attributes as many as a body allows", inside(&format!("<a{}/>", numbered(150_000, |n| format!(" a{n}=''")))), true),
        ("64 MiB of text", inside(&"x".repeat(64 << 20)), false),
        ("100,000 namespaces", inside(&format!("<a{}/>", numbered(100_000, |n| format!(" xmlns:n{n}='u:{n}'")))), false),
        ("100,000 short ones", inside(&format!("<a{}/>", numbered(100_000, |n| format!(" xmlns:n{n:x}=''")))), true),
        ("namespaces as many as a body allows", inside(&format!("<a{}/>", numbered(60_000, |n| format!(" xmlns:n{n}='u:{n}'")))), true),
        ("a prefix bound anew by each element", inside(&numbered(70_000, |n| format!("<x:a xmlns:x='u:{n}'>"))), true),
        ("a prefix bound anew side by side", inside(&numbered(60_000, |n| format!("<x:a xmlns:x='u:{n}'/>"))), true),
        ("elements side by side", inside(&"<a/>".repeat(400_000)), true),
    ] {
        let answer = target.post(hostile).await;
        answer.is_refused(what);
        assert_eq!(answer.fault().is_some(), fits, "{what}: {answer:?}");
    }
    let (_, most) = target.memory();
    assert!(most < before + GROWTH, "{before} MB became {most} MB");
    target.lives().await;
}

/// X-04: an envelope that can be read in two ways is a fault, and nothing of it is done.
#[tokio::test(flavor = "multi_thread")]
async fn x_04_ambiguous_envelopes() {
    let target = Target::start();
    let mut shell = target.open().await;
    let receive = shell.receive_envelope(None);
    let delete = shell.envelope(&format!("{TRANSFER}/Delete"), "");
    let action = |name: &str| format!("<a:Action>{name}</a:Action>");
    let other = shell.selector().replace("ShellId\">", "ShellId\">0");
    let header = delete.split_once("<s:Header>").unwrap().1.split_once("</s:Header>").unwrap().0.to_owned();
    let envelope_of = |inside: &str| {
        let start = receive.split_once("<s:Header>").unwrap().0;
        format!("{start}{inside}</s:Envelope>")
    };
    let (header_of, schema, must, action_of) = (2_150_858_767, 2_150_858_817, 2_150_858_768, 2_150_858_771);
    for (what, hostile, due) in [
        ("two actions", receive.replace("<a:Action", &format!("{}<a:Action", action(&format!("{TRANSFER}/Delete")))), header_of),
        (
            "an action after the action",
            receive.replace("</s:Header>", &format!("{}</s:Header>", action(&format!("{TRANSFER}/Delete")))),
            header_of,
        ),
        ("two shells", delete.replace("</w:SelectorSet>", &format!("</w:SelectorSet>{other}")), header_of),
        (
            "two ids in one set",
            delete.replace("<w:SelectorSet>", &format!("<w:SelectorSet>{}", "<w:Selector Name=\"ShellId\">0</w:Selector>")),
            header_of,
        ),
        ("two bodies", receive.replace("</s:Envelope>", "<s:Body/></s:Envelope>"), schema),
        ("the header after the body", envelope_of(&format!("<s:Body/><s:Header>{header}</s:Header>")), schema),
        ("two headers", envelope_of(&format!("<s:Header>{header}</s:Header><s:Header>{header}</s:Header><s:Body/>")), schema),
        (
            "a header that must be understood",
            delete.replace("</s:Header>", "<x:New xmlns:x='u:x' s:mustUnderstand='true'/></s:Header>"),
            must,
        ),
        ("SOAP 1.1", delete.replace("http://www.w3.org/2003/05/soap-envelope", "http://schemas.xmlsoap.org/soap/envelope/"), schema),
        (
            "another addressing",
            delete.replace("http://schemas.xmlsoap.org/ws/2004/08/addressing\"", "http://www.w3.org/2005/08/addressing\""),
            must,
        ),
        ("no action", delete.replace("a:Action", "a:NoAction"), must),
        ("no body", envelope_of(&format!("<s:Header>{header}</s:Header>")), schema),
        ("an unknown action", delete.replace("/Delete", "/Destroy"), action_of),
    ] {
        let answer = target.post(hostile).await;
        assert_eq!((answer.status, answer.fault()), (500, Some(due)), "{what}: {answer:?}");
    }
    // Nothing was deleted.
    assert_eq!(target.shells().await.len(), 1);
    shell.lives().await;
}

/// X-05: bytes are read as what they say they are, exactly, or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn x_05_encodings() {
    let target = Target::start();
    let units = |order: fn(u16) -> [u8; 2], mark: bool| -> Vec<u8> {
        let mark = mark.then_some(0xFEFF);
        mark.into_iter().chain(IDENTIFY.encode_utf16()).flat_map(order).collect()
    };
    let declared = |text: &str| format!("<?xml version=\"1.0\" encoding=\"{text}\"?>{IDENTIFY}").into_bytes();
    let with = |bytes: &[u8]| {
        let (before, after) = IDENTIFY.split_once("<s:Body>").unwrap();
        [before.as_bytes(), b"<s:Body>", bytes, after.as_bytes()].concat()
    };
    let (utf8, utf16) = ("application/soap+xml;charset=UTF-8", "application/soap+xml;charset=UTF-16");
    // The request, what it is said to be, and whether it is the request that it seems to be.
    for (what, body, kind, read) in [
        ("UTF-8", IDENTIFY.as_bytes().to_vec(), utf8, true),
        ("UTF-8 with its mark", [b"\xEF\xBB\xBF", IDENTIFY.as_bytes()].concat(), utf8, true),
        ("a declaration", declared("utf-8"), utf8, true),
        ("no charset", IDENTIFY.as_bytes().to_vec(), "application/soap+xml", true),
        ("UTF-16, little end first", units(u16::to_le_bytes, true), utf16, true),
        ("UTF-16, big end first", units(u16::to_be_bytes, true), utf16, true),
        ("UTF-16 with the mark of the other order", [&[0xFF, 0xFE][..], &units(u16::to_be_bytes, false)].concat(), utf16, false),
        ("UTF-8 with UTF-16's mark", [b"\xFF\xFE", IDENTIFY.as_bytes()].concat(), utf8, false),
        ("UTF-8 with UTF-32's mark", [b"\xFF\xFE\0\0", IDENTIFY.as_bytes()].concat(), utf8, false),
        ("UTF-16 with UTF-8's mark", [b"\xEF\xBB\xBF", &*units(u16::to_le_bytes, false)].concat(), utf16, false),
        ("UTF-16 that is said to be UTF-8", units(u16::to_le_bytes, true), utf8, false),
        ("UTF-16 cut in the middle of a unit", units(u16::to_le_bytes, true)[..301].to_vec(), utf16, false),
        ("UTF-7", IDENTIFY.replace('<', "+ADw-").into_bytes(), "application/soap+xml;charset=UTF-7", false),
        ("a declaration that lies", declared("UTF-7"), utf8, false),
        ("a declaration of another width", declared("UTF-32"), utf8, false),
        ("XML 1.1", format!("<?xml version=\"1.1\"?>{IDENTIFY}").into_bytes(), utf8, false),
        ("an overlong slash", with(b"\xC0\xAF"), utf8, false),
        ("half a pair as UTF-8", with(b"\xED\xA0\x80"), utf8, false),
        ("a NUL", with(b"\0"), utf8, false),
        ("a NUL as reference", with(b"&#0;"), utf8, false),
        ("a control character", with(b"\x01"), utf8, false),
        ("nothing", Vec::new(), utf8, false),
        ("only a mark", b"\xEF\xBB\xBF".to_vec(), utf8, false),
    ] {
        let answer = target.post_as(body, &[(AUTHORIZATION, &target.authorization), (CONTENT_TYPE, kind)]).await;
        if read {
            answer.is_done(what);
            assert!(answer.text.contains("ProductVendor"), "{what}");
        } else {
            answer.is_refused(what);
        }
    }
    target.lives().await;
}

/// X-06: addresses in an envelope are text. Every answer comes back on the connection of its request.
#[tokio::test(flavor = "multi_thread")]
async fn x_06_addresses_in_envelopes() {
    let target = Target::start();
    let (listener, address) = trap();
    let shell = target.open().await;
    let anonymous = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous";
    for hostile in [format!("http://{address}/x"), format!("https://user@{address}/x"), "file:///etc/passwd".to_owned(), String::new()] {
        let to = |text: String| text.replace("https://localhost/powershell", &hostile);
        let reply = |text: String| text.replace(anonymous, &hostile);
        let more =
            format!("<a:FaultTo><a:Address>{hostile}</a:Address></a:FaultTo><a:From><a:Address>{hostile}</a:Address></a:From></s:Header>");
        let list = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Get";
        for get in [
            to(shell.envelope(list, "")),
            reply(shell.envelope(list, "")),
            shell.envelope(list, "").replace("</s:Header>", &more),
            shell.envelope("u:unknown", "").replace("</s:Header>", &more),
        ] {
            let answer = target.post(get).await;
            assert!(answer.status == 200 || answer.fault().is_some(), "{answer:?}");
        }
    }
    nobody_came(&listener);
    target.lives().await;
}

/// X-07: numbers and times that make no sense are a fault; absurd ones are cut to the server's own.
#[tokio::test(flavor = "multi_thread")]
async fn x_07_limits_of_the_client() {
    let target = Target::start();
    let shell = target.open().await;
    // Each a request of its own: one that repeats an id gets the answer of the first.
    let size = |text: &str| shell.receive_envelope(None).replace("153600", text);
    let time = |text: &str| shell.receive_envelope(None).replace("PT3S", text);
    let (too_small, header) = (2_150_858_824, 2_150_858_767);
    for (what, hostile, due) in [
        ("size 0", size("0"), too_small),
        ("size below zero", size("-1"), header),
        ("a size below the smallest", size("8191"), too_small),
        ("no number", size("large"), header),
        ("no time at all", time("PT0S"), header),
        ("time below zero", time("-PT5S"), header),
        ("no time", time("soon"), header),
    ] {
        let begun = Instant::now();
        let answer = target.post(hostile).await;
        assert_eq!((answer.status, answer.fault()), (500, Some(due)), "{what}: {answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{what} was held for {:?}", begun.elapsed());
    }
    // Held no longer than it says; held no longer than the server will, which is longer than this test waits.
    let begun = Instant::now();
    let answer = target.post(time("PT1S")).await;
    assert_eq!((answer.fault(), begun.elapsed().as_millis() >= 900), (Some(2_150_858_793), true), "{answer:?}");
    let none = shell.receive_envelope(None).replace("<w:OperationTimeout>PT3S</w:OperationTimeout>", "");
    let none = none.replace("<w:MaxEnvelopeSize s:mustUnderstand=\"true\">153600</w:MaxEnvelopeSize>", "");
    for (what, long) in [("absurd", time("P9999Y")), ("none", none), ("a large size", size("4294967295"))] {
        let request =
            target.client.post(&target.url).header(AUTHORIZATION, &target.authorization).header(CONTENT_TYPE, "application/soap+xml");
        let held = tokio::time::timeout(Duration::from_millis(1200), request.body(long).send()).await;
        assert!(held.is_err(), "{what} was answered with {:?}", held.map(|answer| answer.map(|a| a.status())));
    }
    target.lives().await;
}

/// X-10: bodies under WinRM's own encryption are not for this listener.
#[tokio::test(flavor = "multi_thread")]
async fn x_10_encrypted_bodies() {
    let target = Target::start();
    let receive = target.open().await.receive_envelope(None);
    let part = |length: usize, boundary: &str, body: &str| {
        format!(
            "--{boundary}\r\nContent-Type: application/HTTP-SPNEGO-session-encrypted\r\nOriginalContent: type=application/soap+xml;charset=UTF-8;\
             Length={length}\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n{body}--{boundary}--\r\n"
        )
    };
    let spnego = "multipart/encrypted;protocol=\"application/HTTP-SPNEGO-session-encrypted\";boundary=\"Encrypted Boundary\"";
    for (kind, body) in [
        (spnego, part(receive.len(), "Encrypted Boundary", &receive)),
        (spnego, part(usize::MAX, "Encrypted Boundary", &receive)),
        (spnego, part(0, "Another Boundary", &receive)),
        (spnego, receive.clone()),
        ("multipart/encrypted", String::new()),
        ("multipart/related;type=\"application/soap+xml\"", receive.clone()),
        ("application/soap+xml;charset=UTF-8", part(receive.len(), "Encrypted Boundary", &receive)),
    ] {
        target.post_as(body, &[(AUTHORIZATION, &target.authorization), (CONTENT_TYPE, kind)]).await.is_refused(kind);
    }
    target.lives().await;
}

/// X-12: one reading of an id and of an action: the text after decoding, whatever it is made of.
#[tokio::test(flavor = "multi_thread")]
async fn x_12_split_ids() {
    let target = Target::start();
    let mut shell = target.open().await;
    let id = shell.id.to_string().to_uppercase();
    let (first, rest) = id.split_at(9);
    let letter = rest.chars().next().unwrap();
    let delete = format!("{TRANSFER}/Delete");
    let get = format!("{TRANSFER}/Get");
    let split = |by: &str| shell.envelope(&get, "").replace(&id, by);
    for (what, request) in [
        ("a comment", split(&format!("{first}<!-- another -->{rest}"))),
        ("a CDATA section", split(&format!("{first}<![CDATA[{rest}]]>"))),
        ("a reference", split(&format!("{first}&#x{:x};{}", u32::from(letter), &rest[1..]))),
        ("an action in pieces", shell.envelope(&get, "").replace("transfer/Get", "transfer/<![CDATA[G]]><!-- Delete -->et")),
    ] {
        let answer = target.post(request).await;
        // The whole id, or none: never the part before the seam.
        assert!(answer.status == 200 && answer.text.contains(&id) || answer.fault().is_some(), "{what}: {answer:?}");
    }
    // The start of an id is no id, and neither is one with something behind it.
    for wrong in [first.to_owned(), format!("{id}<!-- -->0"), format!("{id}\u{200B}"), format!("{id} {id}")] {
        let answer = target.post(shell.envelope(&delete, "").replace(&id, &wrong)).await;
        assert!(answer.fault().is_some(), "{wrong}: {answer:?}");
    }
    shell.lives().await;
}

/// A-01, A-02: no credentials, wrong ones, two pairs and mechanisms that are off are 401 with the list of what there is; there is no one
/// to be by default.
#[tokio::test(flavor = "multi_thread")]
async fn a_01_and_a_02_credentials() {
    let target = Target::start();
    let shell = target.open().await;
    let create = envelope(&format!("{TRANSFER}/Create"), RESOURCE, "", "<r:Shell/>");
    let good = target.authorization.as_str();
    let token = good.trim_start_matches("Basic ");
    let two = format!("{good}, {good}");
    let cases: [&[&str]; 16] = [
        &[],
        &[""],
        &["Basic"],
        &["Basic "],
        &["Basic Og=="],
        &["Basic OnBhc3N3b3Jk"],
        &["Basic ====="],
        &["Bearer"],
        &["Bearer null"],
        &["Bearer e30.e30."],
        &["Negotiate TlRMTVNTUAABAAAA"],
        &["Kerberos YII="],
        &["CredSSP TlRMTVNTUAABAAAA"],
        &["Digest username=\"OAuthUser\""],
        &[good, good],
        &[&two],
    ];
    for body in [create, shell.receive_envelope(None), shell.envelope(&format!("{TRANSFER}/Delete"), "")] {
        for case in cases {
            let mut headers = vec![(CONTENT_TYPE, "application/soap+xml;charset=UTF-8")];
            headers.extend(case.iter().map(|value| (AUTHORIZATION, *value)));
            let answer = target.post_as(body.clone(), &headers).await;
            let offered: Vec<_> = answer.headers.get_all("www-authenticate").iter().filter_map(|v| v.to_str().ok()).collect();
            assert_eq!(answer.status, 401, "{case:?}: {answer:?}");
            assert!(
                !offered.is_empty() && offered.iter().all(|v| v.starts_with("Basic ") || v.starts_with("Bearer ")),
                "{case:?}: {offered:?}"
            );
            assert!(!answer.text.contains(token), "a secret comes back");
        }
    }
    // And none over clear text: a port that speaks TLS says nothing else.
    let clear = target.url.replace("https://", "http://");
    let answer = target.client.post(clear).header(AUTHORIZATION, good).body("x").send().await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == 400), "clear text was served");
    target.lives().await;
}

/// X-09: what is sent wrongly is a fault, and the shell goes on.
#[tokio::test(flavor = "multi_thread")]
async fn x_09_wrong_sends() {
    let target = Target::start();
    let mut shell = target.open().await;
    let id = shell.invoke(Command::new("Echo-Input"), true).await;
    let good = "AAAAAAAAAAEAAAAAAAAAAAMAAAAA";
    for (what, command, stream, more, content) in [
        ("no base64", Some(id), "stdin", "", "!!!!"),
        ("base64 that ends early", Some(id), "stdin", "", "AAAAA"),
        ("another stream", Some(id), "stdout", "", good),
        ("no stream", Some(id), "", "", good),
        ("no such command", Some(Uuid::new_v4()), "stdin", "", good),
        ("an empty fragment", Some(id), "stdin", "", good),
        ("an empty fragment for the pool", None, "stdin", "", good),
    ] {
        shell.send_text(command, stream, more, content).await.is_refused(what);
    }
    // White space is no data, between the characters of data it counts for nothing.
    let nothing = shell.send_text(Some(id), "stdin", "", " \r\n\t ").await;
    assert!(nothing.status == 200 || nothing.fault().is_some(), "{nothing:?}");
    let input = raw_message(20, MessageType::PipelineInput, shell.id, id, "<S>x</S>");
    let spaced: String = STANDARD.encode(&input).chars().flat_map(|c| [c, '\n']).collect();
    shell.send_text(Some(id), "stdin", "", &spaced).await.is_done("white space between characters");
    // The end, and the end again; then something after a stop.
    for _ in 0..2 {
        let ended = shell.send_text(Some(id), "stdin", r#" End="true""#, "").await;
        assert!(ended.status == 200 || ended.fault().is_some(), "{ended:?}");
    }
    shell.signal(id, "powershell/signal/crtl_c").await.is_done("stop");
    let late = shell.send_text(Some(id), "stdin", "", good).await;
    assert!(late.status == 200 || late.fault().is_some(), "{late:?}");
    shell.signal(id, &format!("{SHELL}/signal/terminate")).await.is_done("terminate");
    shell.send_text(Some(id), "stdin", "", good).await.is_refused("after its end");
    shell.lives().await;
}
