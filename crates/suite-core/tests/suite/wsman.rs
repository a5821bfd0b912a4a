//! Envelopes, their limits and faults.
#![allow(clippy::unwrap_used)]

use exops_wsman::request::{self, Header, NewShell};
use exops_wsman::{
    Action, CommandState, Fault, FaultParty, Limits, Request, RequestBody, RequestError, ResponseBody, StreamData, answer, format_duration,
    parse_duration, parse_request, parse_response, uri,
};
use proptest::prelude::*;

const ACTION: &str = "<a:Action s:mustUnderstand=\"true\">http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Receive</a:Action>";
const MESSAGE: &str = "<a:MessageID>uuid:1</a:MessageID>";
const RESOURCE: &str =
    "<w:ResourceURI s:mustUnderstand=\"true\">http://schemas.microsoft.com/powershell/Microsoft.Exchange</w:ResourceURI>";
const SELECTOR: &str = "<w:SelectorSet><w:Selector Name=\"ShellId\">AB</w:Selector></w:SelectorSet>";
const BODY: &str = "<rsp:Receive><rsp:DesiredStream CommandId=\"C1\">stdout</rsp:DesiredStream></rsp:Receive>";

fn envelope(headers: &[&str], body: &str) -> String {
    format!(
        "<s:Envelope xmlns:s=\"{}\" xmlns:a=\"{}\" xmlns:w=\"{}\" xmlns:p=\"{}\" xmlns:rsp=\"{}\"><s:Header>{}</s:Header><s:Body>{body}</s:Body></s:Envelope>",
        uri::SOAP,
        uri::ADDRESSING,
        uri::WSMAN,
        uri::WSMAN_MICROSOFT,
        uri::SHELL,
        headers.concat()
    )
}

fn parse(text: &str) -> Result<Request, RequestError> {
    parse_request(text.as_bytes(), &Limits::default())
}

fn refused(text: &str) -> u32 {
    parse(text).unwrap_err().fault.code
}

fn receive(extra: &str) -> String {
    envelope(&[ACTION, MESSAGE, RESOURCE, SELECTOR, extra], BODY)
}

#[test]
fn a_request_is_read() {
    let request = parse(&receive(
        "<w:OperationTimeout>PT3M</w:OperationTimeout><w:MaxEnvelopeSize>153600</w:MaxEnvelopeSize><w:Locale xml:lang=\"en-us\" s:mustUnderstand=\"false\"/>\
         <w:OptionSet s:mustUnderstand=\"true\"><w:Option Name=\"protocolversion\" Type=\"x:string\">2.3</w:Option></w:OptionSet>",
    ))
    .unwrap();
    assert_eq!(request.action, Action::Receive);
    assert_eq!((request.message_id.as_str(), request.shell_id.as_deref()), ("uuid:1", Some("AB")));
    assert_eq!((request.operation_timeout, request.max_envelope_size), (Some(180_000), Some(153_600)));
    assert_eq!(request.option("PROTOCOLVERSION").map(|o| (o.value.as_str(), o.must_comply)), Some(("2.3", false)));
    assert_eq!(request.body, RequestBody::Receive { command_id: Some("C1".to_owned()) });
    // Prefixes are free, and may be bound anew in the body, as PowerShell's Unix client does.
    let rebound = receive("").replace("<rsp:Receive>", "<p:Receive xmlns:p=\"http://schemas.microsoft.com/wbem/wsman/1/windows/shell\">");
    let rebound = rebound.replace("</rsp:Receive>", "</p:Receive>").replace("rsp:DesiredStream", "p:DesiredStream");
    assert!(matches!(parse(&rebound).unwrap().body, RequestBody::Receive { .. }));
    // Identify needs no header.
    let identify = envelope(&[], &format!("<i:Identify xmlns:i=\"{}\"/>", uri::IDENTIFY));
    assert_eq!(parse(&identify.replace("<s:Header></s:Header>", "")).unwrap().action, Action::Identify);
}

#[test]
fn x04_what_stands_twice_or_is_not_understood() {
    assert!(parse(&receive("")).is_ok());
    for (extra, code) in [
        (ACTION, Fault::INVALID_HEADER),
        (MESSAGE, Fault::INVALID_HEADER),
        (SELECTOR, Fault::INVALID_HEADER),
        ("<a:To>x</a:To><a:To>x</a:To>", Fault::INVALID_HEADER),
        ("<x:Unknown xmlns:x=\"urn:x\" s:mustUnderstand=\"true\"/>", Fault::MUST_UNDERSTAND),
        ("<x:Action xmlns:x=\"urn:x\" s:mustUnderstand=\"1\"/>", Fault::MUST_UNDERSTAND),
    ] {
        assert_eq!(refused(&receive(extra)), code, "{extra}");
    }
    assert!(parse(&receive("<x:Unknown xmlns:x=\"urn:x\"/>")).is_ok());
    let two = SELECTOR.replace("</w:SelectorSet>", "<w:Selector Name=\"SHELLID\">CD</w:Selector></w:SelectorSet>");
    assert_eq!(refused(&envelope(&[ACTION, MESSAGE, RESOURCE, &two], BODY)), Fault::INVALID_HEADER);
    for missing in [&[MESSAGE, RESOURCE][..], &[ACTION, RESOURCE], &[ACTION, MESSAGE]] {
        assert_eq!(refused(&envelope(missing, BODY)), Fault::HEADER_REQUIRED);
    }
    let good = receive("");
    let (head, body) = good.split_once("<s:Body>").unwrap();
    let body = format!("<s:Body>{}", body.strip_suffix("</s:Envelope>").unwrap());
    let (open, header) = head.split_once("<s:Header>").unwrap();
    let header = format!("<s:Header>{header}");
    for wrong in [
        format!("{open}{body}{header}</s:Envelope>"),
        format!("{open}{header}{body}{body}</s:Envelope>"),
        format!("{open}{header}{header}{body}</s:Envelope>"),
        format!("{open}{header}</s:Envelope>"),
        good.replace(BODY, &format!("{BODY}{BODY}")),
        good.replace(BODY, ""),
        good.replace(uri::SOAP, "http://schemas.xmlsoap.org/soap/envelope/"),
        good.replace(&format!("xmlns:rsp=\"{}\"", uri::SHELL), "xmlns:rsp=\"urn:other\""),
    ] {
        assert_eq!(refused(&wrong), Fault::SCHEMA, "{wrong}");
    }
    // The fault still tells which request it answers.
    assert_eq!(parse(&receive("<x:U xmlns:x=\"u\" s:mustUnderstand=\"true\"/>")).unwrap_err().message_id.as_deref(), Some("uuid:1"));
    // A prefix that is not declared, and an action of a wrong namespace.
    assert_eq!(refused(&receive("<nope:X/>")), Fault::INVALID_XML);
    let other = ACTION.replace("windows/shell/Receive", "windows/shell/receive");
    assert!(matches!(parse(&envelope(&[&other, MESSAGE, RESOURCE], BODY)).unwrap().action, Action::Other(_)));
}

#[test]
fn x01_x03_x05_x12_documents() {
    let good = receive("");
    for bad in [
        format!("<!DOCTYPE s [<!ENTITY a \"b\">]>{good}"),
        format!("<?xml-stylesheet href=\"x\"?>{good}"),
        good.replace("uuid:1", "&undefined;"),
        format!("<?xml version=\"1.1\"?>{good}"),
        format!("<?xml version=\"1.0\" encoding=\"utf-16\"?>{good}"),
        good.replace("uuid:1", "uuid:\u{1}"),
        good.replace("uuid:1", "uuid:\0"),
        format!("{good}<more/>"),
        good[..good.len() - 4].to_owned(),
        String::new(),
        receive(&"<d>".repeat(100)),
        receive(&format!("<d{}/>", (0..100).map(|n| format!(" a{n}=\"\"")).collect::<String>())),
        receive(&format!("<d{}/>", (0..30).map(|n| format!(" xmlns:n{n}=\"u\"")).collect::<String>()).repeat(2_100)),
        receive("<d a=\"1\" a=\"2\"/>"),
    ] {
        let error = parse(&bad).unwrap_err();
        assert_eq!(error.fault.code, Fault::INVALID_XML, "{}", error.fault);
    }
    let utf16: Vec<u8> = std::iter::once(0xFEFF).chain(good.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    assert_eq!(parse_request(&utf16, &Limits::default()).unwrap_err().fault.code, Fault::INVALID_XML);
    assert_eq!(parse_request(&[b"\xEF\xBB\xBF", good.as_bytes()].concat(), &Limits::default()).unwrap().message_id, "uuid:1");
    assert_eq!(refused(&receive(&" ".repeat(2 << 20))), Fault::ENVELOPE_TOO_LARGE);
    // comments and CDATA do not split a text.
    let split = good.replace("uuid:1", "uu<!-- x -->id:<![CDATA[1]]>");
    assert_eq!(parse(&split).unwrap().message_id, "uuid:1");
}

#[test]
fn x07_sizes_and_times() {
    for (text, milliseconds) in [
        ("PT3M", 180_000),
        ("PT180.000S", 180_000),
        ("PT0.5S", 500),
        ("P0DT0H0M1S", 1_000),
        ("P1DT1H", 90_000_000),
        ("PT20S", 20_000),
        ("P9999Y", 9_999 * 365 * 86_400_000),
        ("P99999999999999999999Y", u64::MAX),
    ] {
        assert_eq!(parse_duration(text), Some(milliseconds), "{text}");
    }
    for wrong in ["", "P", "PT", "-PT1S", "PT-1S", "3", "PT1", "1S", "PT1S1M", "PTS", "PT1.S2", "PT1é"] {
        assert_eq!(parse_duration(wrong), None, "{wrong}");
    }
    assert_eq!(format_duration(180_250), "PT180.250S");
    for wrong in ["PT0S", "-PT1S", "soon", ""] {
        assert_eq!(refused(&receive(&format!("<w:OperationTimeout>{wrong}</w:OperationTimeout>"))), Fault::INVALID_HEADER, "{wrong}");
    }
    assert_eq!(
        parse(&receive("<w:OperationTimeout>P9999Y</w:OperationTimeout>")).unwrap().operation_timeout,
        Some(9_999 * 365 * 86_400_000)
    );
    assert_eq!(parse(&receive("")).unwrap().operation_timeout, None);
    for (text, size) in [("0", Some(0)), ("153600", Some(153_600)), ("99999999999999999999999", Some(usize::MAX))] {
        assert_eq!(parse(&receive(&format!("<w:MaxEnvelopeSize>{text}</w:MaxEnvelopeSize>"))).unwrap().max_envelope_size, size);
    }
    for wrong in ["-1", "+5", "1e5", "big"] {
        assert_eq!(refused(&receive(&format!("<w:MaxEnvelopeSize>{wrong}</w:MaxEnvelopeSize>"))), Fault::INVALID_HEADER);
    }
}

#[test]
fn faults_have_the_shape_that_clients_read() {
    let fault = Fault::timed_out();
    assert_eq!((fault.code, fault.party, fault.subcode.as_str()), (2_150_858_793, FaultParty::Receiver, "w:TimedOut"));
    assert_eq!(Fault::unknown_shell("X").code, 2_150_858_843);
    assert_eq!(Fault::action_not_supported("x").code, 2_150_858_771);
    assert_eq!(Fault::INVALID_OPTIONS, 2_150_858_809);
    let text = Fault::unknown_shell("<&>").envelope(Some("uuid:7"), "uuid:8");
    assert!(text.contains("<a:Action>http://schemas.dmtf.org/wbem/wsman/1/wsman/fault</a:Action>"));
    assert!(text.contains("<a:RelatesTo>uuid:7</a:RelatesTo>"));
    // f:Message is the first child and has text.
    assert!(text.contains("Code=\"2150858843\"><f:Message>The request"));
    let response = parse_response(text.as_bytes(), &Limits::default()).unwrap();
    assert_eq!(response.relates_to.as_deref(), Some("uuid:7"));
    assert_eq!(response.body, ResponseBody::Fault(Fault::unknown_shell("<&>")));
    // A provider's fault, a signed code, and a fault with a reason only.
    let with = |detail: &str| {
        let body = format!(
            "<s:Fault><s:Code><s:Value>s:Receiver</s:Value></s:Code><s:Reason><s:Text xml:lang=\"\">reason</s:Text></s:Reason>{detail}</s:Fault>"
        );
        match parse_response(envelope(&[], &body).as_bytes(), &Limits::default()).unwrap().body {
            ResponseBody::Fault(fault) => (fault.code, fault.message),
            other => panic!("{other:?}"),
        }
    };
    let detail = |code: &str, message: &str| {
        format!("<s:Detail><f:WSManFault xmlns:f=\"{}\" Code=\"{code}\">{message}</f:WSManFault></s:Detail>", uri::FAULT)
    };
    assert_eq!(with(""), (0, "reason".to_owned()));
    let provider = "<f:Message><f:ProviderFault provider=\"x\">inner</f:ProviderFault></f:Message>";
    assert_eq!(with(&detail("-2144108453", provider)), (2_150_858_843, "inner".to_owned()));
    assert_eq!(with(&detail("5", "")), (5, "reason".to_owned()));
}

const SHELL: NewShell<'_> =
    NewShell { shell_id: "00000000-0000-0000-0000-000000000003", protocol_version: "2.3", idle_timeout: Some(1), compressed: true };
const HEADER: Header<'_> = Header {
    to: "https://localhost/powershell-liveid?a=b&c=d;PSVersion=5.1",
    resource_uri: "http://schemas.microsoft.com/powershell/Microsoft.Exchange",
    message_id: "uuid:00000000-0000-0000-0000-000000000001",
    max_envelope_size: 512_000,
    operation_timeout: 180_000,
    session_id: "uuid:00000000-0000-0000-0000-000000000002",
    shell_id: Some("00000000-0000-0000-0000-000000000003"),
    locale: "en-US",
};

#[test]
fn own_requests_are_read_back() {
    let read = |text: String| parse(&text).unwrap();
    let create = read(request::create(
        &Header { shell_id: None, ..HEADER },
        &NewShell { shell_id: "AB", idle_timeout: Some(900_000), ..SHELL },
        b"blob",
    ));
    assert_eq!((create.action, create.to.as_str(), create.shell_id), (Action::Create, HEADER.to, None));
    assert!(
        matches!(create.body, RequestBody::Create(s) if s.creation == b"blob" && s.idle_timeout == Some(900_000) && s.shell_id.as_deref() == Some("AB"))
    );
    let command = read(request::command(&HEADER, "C1", b"first"));
    assert_eq!(command.body, RequestBody::Command { command_id: Some("C1".to_owned()), arguments: vec![b"first".to_vec()] });
    let stream = StreamData { name: "pr".to_owned(), command_id: Some("C1".to_owned()), data: vec![1, 2, 3] };
    assert_eq!(read(request::send(&HEADER, &stream)).body, RequestBody::Send(vec![stream]));
    assert_eq!(read(request::receive(&HEADER, None)).body, RequestBody::Receive { command_id: None });
    let signal = RequestBody::Signal { command_id: Some("C1".to_owned()), code: uri::SIGNAL_STOP.to_owned() };
    assert_eq!(read(request::signal(&HEADER, "C1", uri::SIGNAL_STOP)).body, signal);
    assert_eq!(read(request::delete(&HEADER)).action, Action::Delete);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Neither an answer nor a request is ever longer than the envelope may be, and an answer uses what it may.
    #[test]
    fn envelopes_keep_their_size(max in 8_192usize..600_000, id in prop::option::of("[0-9A-F-]{36}"), running in any::<bool>()) {
        let state = running.then_some(CommandState::Running);
        let capacity = answer::receive_capacity(max, id.as_deref(), state, "uuid:1", "uuid:2");
        let data = vec![0xA5; capacity];
        let text = answer::receive(id.as_deref(), &data, state, "uuid:1", "uuid:2");
        prop_assert!(text.len() <= max && text.len() > max - 8, "{} of {max}", text.len());
        let ResponseBody::Receive { streams, state: read } = parse_response(text.as_bytes(), &Limits::default()).unwrap().body else { panic!() };
        prop_assert_eq!(&streams[0].data, &data);
        prop_assert_eq!(read, state);
        let capacity = request::payload_capacity(&HEADER, max);
        let command_id = id.unwrap_or_else(|| "0".repeat(36));
        prop_assert!(request::command(&HEADER, &command_id, &vec![0; capacity]).len() <= max);
        let stream = StreamData { name: "stdin".to_owned(), command_id: Some(command_id), data: vec![0; capacity] };
        prop_assert!(request::send(&HEADER, &stream).len() <= max);
        prop_assert!(request::create(&HEADER, &SHELL, &vec![0; capacity]).len() <= max);
    }

}

proptest! {
    /// No bytes make the readers panic.
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in any::<prop::sample::Index>(), at in any::<prop::sample::Index>()) {
        let _ = parse_request(&bytes, &Limits::default());
        let mut good = receive("<w:OperationTimeout>PT3M</w:OperationTimeout>").into_bytes();
        let from = at.index(good.len());
        let to = (from + cut.index(40)).min(good.len());
        good.splice(from..to, bytes.into_iter().take(20));
        let _ = parse_request(&good, &Limits::default());
        let _ = parse_response(&good, &Limits::default());
    }
}
