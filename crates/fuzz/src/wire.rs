//! CLIXML, SOAP, XPRESS and the JSON of the REST admin protocol.

use std::sync::Arc;

use exops_adminapi::{InvokeRequest, PageWriter, ResponseFormat, error_body, parse_error, parse_invoke, parse_page};
use exops_psobject::canonical::canonical;
use exops_psobject::{
    Base, DateTime, DateTimeKind, ErrorCategory, ErrorRecord, Limits, PsObject, SecureString, TimeSpan, Value, clixml, json,
};
use exops_wsman::request::{self, Header, NewShell};
use exops_wsman::{
    Action, CommandState, Fault, RequestBody, ResponseBody, StreamData, answer, parse_request, parse_response, uri, xpress as packed,
};
use uuid::Uuid;

use crate::{MAX_INPUT, Outcome, Problem, holds, phrase, refused, same, taken};

/// Bounds of the first reading; the second, of what was written, has the product's.
pub(crate) const LIMITS: Limits = Limits { bytes: MAX_INPUT, depth: 128, values: 20_000, attributes: 64, own_members: true };

pub(crate) const CLIXML: &[&[u8]] = &[
    b"<Obj RefId=\"0\">",
    b"</Obj>",
    b"<TN RefId=\"0\"><T>",
    b"</T></TN>",
    b"<TNRef RefId=\"0\"/>",
    b"<Ref RefId=\"0\"/>",
    b"<MS>",
    b"</MS>",
    b"<Props>",
    b"</Props>",
    b"<LST>",
    b"</LST>",
    b"<DCT><En>",
    b"</En></DCT>",
    b"<IE>",
    b"<QUE>",
    b"<STK>",
    b"<Nil/>",
    b"<S N=\"a\">",
    b"</S>",
    b"<I32>",
    b"</I32>",
    b"<Db>NaN</Db>",
    b"<Sg>INF</Sg>",
    b"<D>1.00</D>",
    b"<DT>2024-05-01T08:00:00.5+02:00</DT>",
    b"<TS>P1DT2H</TS>",
    b"<C>55296</C>",
    b"<BA>AAEC</BA>",
    b"<SS>AAAA</SS>",
    b"<G>",
    b"<Version>1.2.3.4</Version>",
    b"<SBK>",
    b"<URI>",
    b"<XD>",
    b"<ToString>",
    b"<PR>",
    b" N=\"Key\"",
    b" N=\"Value\"",
    b"_x000A_",
    b"_xD83D__xDE00_",
    b"_x005F_",
    b"_xD800_",
    b"&amp;",
    b"&#x10FFFF;",
    b"<![CDATA[",
    b"]]>",
    b"<!--",
    b"-->",
    b"<?xml version=\"1.0\"?>",
    b"<!DOCTYPE a>",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"<Objs Version=\"1.1.0.1\" xmlns=\"http://schemas.microsoft.com/powershell/2004/04\">",
    b"</Objs>",
];
pub(crate) const SOAP: &[&[u8]] = &[
    b" s:mustUnderstand=\"true\"",
    b" xmlns:x=\"urn:x\"",
    b"<w:OperationTimeout>PT3M</w:OperationTimeout>",
    b"<w:MaxEnvelopeSize>1</w:MaxEnvelopeSize>",
    b"<w:Selector Name=\"ShellId\">",
    b"<w:Option Name=\"protocolversion\" MustComply=\"true\">2.3</w:Option>",
    b" CommandId=\"C1\"",
    b"AAAA",
    b"====",
    b"<rsp:Stream Name=\"pr\">",
    b"</rsp:Stream>",
    b"<s:Body>",
    b"</s:Body>",
    b"<s:Fault>",
    b"&#0;",
    b"&lt;",
    b"<!DOCTYPE a>",
    b"P",
    b"T",
    b"uuid:",
];
pub(crate) const XPRESS: &[&[u8]] = &[b"\xff\xff", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x07\x00", b"\x0f\x00", b"\xff\x00\x00"];
pub(crate) const JSON: &[&[u8]] = &[
    b"{\"",
    b"\":",
    b"@data.type",
    b"@odata.type",
    b"#Int64",
    b"#Collection(String)",
    b"System.DateTime",
    b"System.Guid",
    b"System.Int32",
    b"System.Byte[]",
    b"null",
    b"true",
    b"[[",
    b"]]",
    b"\\ud800",
    b"\\u0000",
    b"\"CmdletInput\"",
    b"\"Parameters\"",
    b"\"@odata.nextLink\"",
    b"\"value\"",
    b"\"error\"",
    b"\"details\"",
    b"\"message\":\"a|b|c\"",
    b"\"@adminapi.warnings\"",
    b"1e400",
    b"-0",
    b"18446744073709551616",
    b",",
    b"GenericHashTable",
];

/// One value of every kind.
pub(crate) fn values() -> Vec<Value> {
    let hash = PsObject { base: Base::Dictionary(vec![("Add".into(), "a".into()), (Value::I32(2), Value::I32(3))]), ..PsObject::default() };
    let all = vec![
        Value::Null,
        "a _x000A_ <&\r\n\u{1F600}".into(),
        Value::Char(0xD800),
        Value::Bool(true),
        DateTime::from_ticks(638_500_000_000_000_001, DateTimeKind::Local(120)).map_or(Value::Null, Value::DateTime),
        Value::TimeSpan(TimeSpan(864_000_000_001)),
        Value::U8(255),
        Value::I16(-3),
        Value::I64(i64::MIN),
        Value::U64(u64::MAX),
        Value::Single(0.1),
        Value::Double(f64::NAN),
        Value::Decimal("1.00".into()),
        Value::Bytes([1, 2, 3].as_slice().into()),
        Value::Guid(Uuid::from_u128(7)),
        Value::Uri("https://a/".into()),
        Value::Version("1.2.3.4".into()),
        Value::Xml("<a/>".into()),
        Value::ScriptBlock("1".into()),
        Value::SecureString(SecureString::sealed("AAAA")),
        hash.into(),
        PsObject::enumeration(["Kind".into()].into(), "Room", 16).into(),
        exops_testkit::mailbox("adele"),
    ];
    let list = PsObject::from_list(all.clone()).into();
    all.into_iter().chain([list]).collect()
}

/// What is written of a value reads back as that value, and is written the same again.
fn there_and_back(value: &Value) -> Result<usize, Problem> {
    let text = clixml::write(value);
    let again = clixml::read(text.as_bytes(), &Limits::default())
        .map_err(|error| format!("what is written is not read: {error}\n  {text:.900}"))?;
    same("written again, it differs", &text, &clixml::write(&again))?;
    // NaN is not equal to itself.
    if !text.contains("NaN") {
        same("read again, it differs", value, &again)?;
    }
    Ok(text.len())
}

pub(crate) fn clixml(input: &[u8]) -> Result<Outcome, Problem> {
    match clixml::read(input, &LIMITS) {
        Ok(value) => {
            let plain = json::to_plain(&value).to_string();
            Ok(taken(&[there_and_back(&value)?, value.type_name().len(), plain.len(), canonical(&value).to_string().len()]))
        }
        Err(error) => Ok(refused(&error)),
    }
}

pub(crate) fn clixml_seeds() -> Vec<Vec<u8>> {
    values().iter().map(|value| clixml::write(value).into_bytes()).collect()
}

pub(crate) fn clixml_document(input: &[u8]) -> Result<Outcome, Problem> {
    let mut decoder = clixml::Decoder::new(LIMITS);
    let whole = decoder.read_document(input);
    let each = decoder.read_each(input);
    match (&whole, &each) {
        (Ok(values), Ok(each)) => {
            same("read as a whole and one by one, the number differs", &values.len(), &each.iter().flatten().count())?;
            let text = clixml::write_document(values);
            let again = clixml::read_document(text.as_bytes(), &Limits::default())
                .map_err(|error| format!("what is written is not read: {error}"))?;
            same("written again, the document differs", &text, &clixml::write_document(&again))?;
            Ok(taken(&[values.len(), text.len()]))
        }
        (Ok(_), Err(error)) => Err(format!("read as a whole but not one by one: {error}")),
        (Err(error), each) => Ok(refused(error) ^ each.as_ref().map_or(0, |each| taken(&[each.len(), each.iter().flatten().count()]))),
    }
}

pub(crate) fn clixml_document_seeds() -> Vec<Vec<u8>> {
    let document = clixml::write_document(&values());
    let wide = document.encode_utf16().flat_map(u16::to_le_bytes);
    let marked = [0xff, 0xfe].into_iter().chain(wide).collect();
    let broken = document.replacen("<B>", "<B>x", 1).into_bytes();
    vec![document.into_bytes(), marked, broken, clixml::write_document(&[]).into_bytes()]
}

fn soap_limits() -> exops_wsman::Limits {
    exops_wsman::Limits { bytes: MAX_INPUT, ..exops_wsman::Limits::default() }
}

const HEADER: Header<'_> = Header {
    to: "https://localhost/powershell",
    resource_uri: "http://schemas.microsoft.com/powershell/Microsoft.Exchange",
    message_id: "uuid:1",
    max_envelope_size: 153_600,
    operation_timeout: 180_000,
    session_id: "uuid:2",
    shell_id: Some("AB"),
    locale: "en-US",
};

pub(crate) fn soap_request(input: &[u8]) -> Result<Outcome, Problem> {
    let read = match parse_request(input, &soap_limits()) {
        Ok(read) => read,
        Err(error) => {
            let envelope = error.fault.envelope(error.message_id.as_deref(), "uuid:9");
            let answer = parse_response(envelope.as_bytes(), &exops_wsman::Limits::default())
                .map_err(|error| format!("our fault is not read: {error}"))?;
            holds(
                "our fault reads as something else",
                matches!(answer.body, ResponseBody::Fault(fault) if fault.code == error.fault.code),
            )?;
            return Ok(phrase(&error.fault.message) ^ u64::from(error.fault.code) << 1);
        }
    };
    holds("a time-out of zero", read.operation_timeout != Some(0))?;
    let header = Header {
        to: &read.to,
        resource_uri: &read.resource_uri,
        message_id: &read.message_id,
        shell_id: read.shell_id.as_deref(),
        max_envelope_size: read.max_envelope_size.unwrap_or(HEADER.max_envelope_size),
        operation_timeout: read.operation_timeout.unwrap_or(HEADER.operation_timeout),
        ..HEADER
    };
    let written = match &read.body {
        RequestBody::Create(shell) if read.shell_id.is_none() => shell.shell_id.as_deref().map(|id| {
            let new = NewShell {
                shell_id: id,
                protocol_version: "2.3",
                idle_timeout: shell.idle_timeout,
                compressed: read.compression.is_some(),
            };
            request::create(&header, &new, &shell.creation)
        }),
        RequestBody::Command { command_id: Some(id), arguments } if arguments.len() == 1 => {
            arguments.first().map(|argument| request::command(&header, id, argument))
        }
        RequestBody::Send(streams) if streams.len() == 1 => streams.first().map(|stream| request::send(&header, stream)),
        RequestBody::Receive { command_id } => Some(request::receive(&header, command_id.as_deref())),
        RequestBody::Signal { command_id: Some(id), code } => Some(request::signal(&header, id, code)),
        _ => None,
    };
    if let Some(written) = &written {
        let again = parse_request(written.as_bytes(), &exops_wsman::Limits::default())
            .map_err(|error| format!("what is written is not read: {error}\n  {written}"))?;
        same("written and read again, the body differs", &read.body, &again.body)?;
        same("written and read again, the ids differ", &(&read.message_id, &read.shell_id), &(&again.message_id, &again.shell_id))?;
    }
    Ok(taken(&[
        phrase(&read.action.uri()) as usize & 0xffff,
        read.options.len(),
        usize::from(written.is_some()),
        usize::from(read.compression.is_some()),
    ]))
}

pub(crate) fn soap_request_seeds() -> Vec<Vec<u8>> {
    let new = NewShell { shell_id: "AB", protocol_version: "2.3", idle_timeout: Some(60_000), compressed: true };
    let stream = StreamData { name: "stdin".to_owned(), command_id: Some("C1".to_owned()), data: b"abc".to_vec() };
    let open = Header { shell_id: None, ..HEADER };
    let receive = request::receive(&HEADER, Some("C1"));
    let other = |name: &str, body: &str| {
        let (head, _) = receive.split_once("<s:Body>").unwrap_or_default();
        let head = head.replace(&Action::Receive.uri(), &format!("http://schemas.microsoft.com/wbem/wsman/1/windows/shell/{name}"));
        format!("{head}<s:Body>{body}</s:Body></s:Envelope>")
    };
    vec![
        request::create(&open, &new, b"creation"),
        request::command(&HEADER, "C1", b"argument"),
        request::send(&HEADER, &stream),
        request::receive(&HEADER, None),
        request::signal(&HEADER, "C1", "powershell/signal/crtl_c"),
        request::delete(&HEADER),
        other(
            "Disconnect",
            "<rsp:Disconnect><rsp:IdleTimeOut>PT60S</rsp:IdleTimeOut><rsp:BufferMode>Drop</rsp:BufferMode></rsp:Disconnect>",
        ),
        other("Reconnect", "<rsp:Reconnect/>"),
        other("Connect", "<rsp:Connect><connectXml xmlns=\"http://schemas.microsoft.com/powershell\">AAAA</connectXml></rsp:Connect>"),
        format!("<s:Envelope xmlns:s=\"{}\"><s:Body><i:Identify xmlns:i=\"{}\"/></s:Body></s:Envelope>", uri::SOAP, uri::IDENTIFY),
        receive,
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect()
}

pub(crate) fn soap_response(input: &[u8]) -> Result<Outcome, Problem> {
    let read = match parse_response(input, &soap_limits()) {
        Ok(read) => read,
        Err(error) => return Ok(refused(&error)),
    };
    let again = |written: String| {
        parse_response(written.as_bytes(), &exops_wsman::Limits::default())
            .map_err(|error| format!("what is written is not read: {error}\n  {written}"))
    };
    match &read.body {
        ResponseBody::Receive { streams, state } => {
            if let [stream] = streams.as_slice()
                && stream.name == "stdout"
                && !stream.data.is_empty()
            {
                let written = again(answer::receive(stream.command_id.as_deref(), &stream.data, *state, "uuid:1", "uuid:2"))?;
                same("written and read again, the answer differs", &read.body, &written.body)?;
            }
            Ok(taken(&[1, streams.len(), streams.iter().map(|stream| stream.data.len()).sum(), usize::from(state.is_some())]))
        }
        ResponseBody::Fault(fault) => {
            let written = again(fault.envelope(read.relates_to.as_deref(), "uuid:2"))?;
            let ResponseBody::Fault(back) = &written.body else { return Err("a fault reads as something else".to_owned()) };
            same("written and read again, the fault differs", &(fault.code, fault.message.trim()), &(back.code, back.message.trim()))?;
            Ok(taken(&[2, fault.code as usize, fault.message.len()]))
        }
        ResponseBody::Created { shell_id, compressed } => Ok(taken(&[3, usize::from(shell_id.is_some()), usize::from(*compressed)])),
        ResponseBody::Command { command_id } => Ok(taken(&[4, usize::from(command_id.is_some())])),
        ResponseBody::Identify { vendor, version } => Ok(taken(&[5, vendor.len(), version.len()])),
        ResponseBody::Done => Ok(taken(&[6])),
        ResponseBody::Connected(data) => {
            let written = again(answer::connect(data, "uuid:1", "uuid:2"))?;
            same("written and read again, the answer differs", &read.body, &written.body)?;
            Ok(taken(&[7, data.len()]))
        }
        ResponseBody::Enumerated { items, context } => Ok(taken(&[8, items.len(), usize::from(context.is_some())])),
    }
}

pub(crate) fn soap_response_seeds() -> Vec<Vec<u8>> {
    vec![
        answer::command("C1", "uuid:1", "uuid:2"),
        answer::receive(Some("C1"), b"bytes", Some(CommandState::Running), "uuid:1", "uuid:2"),
        answer::receive(Some("C1"), b"", Some(CommandState::Done), "uuid:1", "uuid:2"),
        answer::receive(None, b"pool", None, "uuid:1", "uuid:2"),
        answer::send("uuid:1", "uuid:2"),
        answer::connect(b"data", "uuid:1", "uuid:2"),
        answer::identify("vendor", "version", Some("uuid:1"), "uuid:2"),
        Fault::timed_out().envelope(Some("uuid:1"), "uuid:2"),
        Fault::unknown_shell("AB").envelope(Some("uuid:1"), "uuid:2"),
        Fault::new(Fault::REDIRECT_REQUESTED, "https://elsewhere/powershell").envelope(None, "uuid:2"),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect()
}

pub(crate) fn xpress(input: &[u8]) -> Result<Outcome, Problem> {
    const LIMIT: usize = 1 << 20;
    let packed_input = packed::compress(input);
    same("compressed and restored, the bytes differ", &Ok(input.to_vec()), &packed::decompress(&packed_input, input.len()))?;
    holds("it grew by more than its headers", packed::capacity(packed_input.len()) <= input.len())?;
    match packed::decompress(input, LIMIT) {
        Ok(plain) => {
            holds("more than the limit came out", plain.len() <= LIMIT)?;
            same(
                "restored, compressed and restored again, the bytes differ",
                &Ok(plain.clone()),
                &packed::decompress(&packed::compress(&plain), LIMIT),
            )?;
            Ok(taken(&[plain.len(), packed_input.len()]))
        }
        Err(error) => Ok(refused(&error) ^ taken(&[packed_input.len()])),
    }
}

pub(crate) fn xpress_seeds() -> Vec<Vec<u8>> {
    let plain = [b"abcdefghijklmnopqrstuvwxyz".to_vec(), b"abc".repeat(100), b"Get-Mailbox ".repeat(6_000), vec![0; 40_000]];
    let mut seeds: Vec<Vec<u8>> = plain.iter().map(|bytes| packed::compress(bytes)).collect();
    // MS-XCA's own example, which is compressed where ours is stored.
    seeds.push([b"\x19\x00\x1d\x00\x3f\x00\x00\x00", &b"abcdefghijklmnopqrstuvwxyz"[..]].concat());
    seeds
}

/// The first byte says which body it is, and of which status.
pub(crate) fn rest_bodies(input: &[u8]) -> Result<Outcome, Problem> {
    let Some((kind, body)) = input.split_first() else { return Ok(0) };
    let status = [200, 200, 204, 400, 404, 403, 429, 503, 302, 500][usize::from(*kind >> 1) % 10];
    if kind & 1 == 0 {
        let read = match parse_invoke(body, &LIMITS) {
            Ok(read) => read,
            Err(error) => return Ok(refused(&error)),
        };
        let request = InvokeRequest { cmdlet: read.cmdlet.clone(), parameters: read.parameters.clone(), ..invoke(Vec::new()) };
        let Ok(written) = request.body() else { return Ok(taken(&[1, read.parameters.len()])) };
        let again = parse_invoke(&written, &Limits::default()).map_err(|error| format!("what is written is not read: {error}"))?;
        let rewritten = InvokeRequest { parameters: again.parameters.clone(), ..request }
            .body()
            .map_err(|error| format!("what was read is not written: {error}"))?;
        same("written again, the request differs", &String::from_utf8_lossy(&written), &String::from_utf8_lossy(&rewritten))?;
        return Ok(taken(&[2, read.parameters.len(), written.len()]));
    }
    let headers = [("Retry-After".to_owned(), String::from_utf8_lossy(body.get(..8).unwrap_or_default()).into_owned())];
    let error = parse_error(status, &headers, body, &LIMITS);
    match parse_page(status, &headers, body, &LIMITS) {
        Ok(page) => {
            holds("a page under a status that is none", (200..300).contains(&status))?;
            let mut writer = PageWriter::new("https://localhost/$metadata", ResponseFormat::Json, &[]);
            page.objects.iter().for_each(|object| writer.push(object));
            let written = writer.finish(&page);
            let again =
                parse_page(200, &[], &written, &Limits::default()).map_err(|error| format!("what is written is not read: {error}"))?;
            same("written again, the number of objects differs", &page.objects.len(), &again.objects.len())?;
            same("written again, the texts differ", &(&page.warnings, &page.next_link), &(&again.warnings, &again.next_link))?;
            Ok(taken(&[3, page.objects.len(), page.warnings.len(), page.errors.len(), usize::from(page.next_link.is_some())]))
        }
        Err(found) => Ok(refused(&found) ^ refused(&error).rotate_left(5)),
    }
}

fn invoke(parameters: Vec<(String, Value)>) -> InvokeRequest {
    InvokeRequest {
        cmdlet: "Set-Mailbox".to_owned(),
        parameters,
        max_page_size: 1_000,
        anchor: "APP:x".to_owned(),
        client_request_id: Uuid::from_u128(1),
        connection_id: Uuid::from_u128(2),
        application: "fuzz".to_owned(),
    }
}

pub(crate) fn rest_body_seeds() -> Vec<Vec<u8>> {
    let of = |kind: u8, body: Vec<u8>| [vec![kind], body].concat();
    let parameters = values().into_iter().enumerate().filter(|(_, value)| invoke(vec![("P".to_owned(), value.clone())]).body().is_ok());
    let parameters = parameters.map(|(at, value)| (format!("P{at}"), value)).collect();
    let mut writer = PageWriter::new("https://localhost/$metadata", ResponseFormat::Json, &[]);
    writer.push(&exops_testkit::mailbox("adele"));
    let page = exops_adminapi::Page {
        warnings: vec![Arc::from("careful")],
        next_link: Some("https://localhost/next?$skiptoken=1".to_owned()),
        ..exops_adminapi::Page::default()
    };
    let record = ErrorRecord::new("System.Exception", "not there", ErrorCategory::ObjectNotFound, "Id");
    let error = error_body(&record, &[&record], &[Arc::from("warned")]).body;
    let mut clixml = PageWriter::new("https://localhost/$metadata", ResponseFormat::Clixml, &[]);
    clixml.push(&exops_testkit::mailbox("adele"));
    vec![
        of(0, invoke(parameters).body().unwrap_or_default()),
        of(1, writer.finish(&page)),
        of(1, clixml.finish(&exops_adminapi::Page::default())),
        of(3, error.clone()),
        of(7, error.clone()),
        of(13, error),
        of(5, Vec::new()),
    ]
}

pub(crate) fn rest_values(input: &[u8]) -> Result<Outcome, Problem> {
    let Ok(read) = serde_json::from_slice(input) else { return Ok(1) };
    match json::from_rest(&read) {
        Ok(value) => {
            let written = json::to_rest(&value);
            let again = json::from_rest(&written).map_err(|error| format!("what is written is not read: {error}\n  {written:.900}"))?;
            same("written again, it differs", &written, &json::to_rest(&again))?;
            there_and_back(&value)?;
            Ok(taken(&[written.to_string().len(), value.type_name().len()]))
        }
        Err(error) => Ok(refused(&error)),
    }
}

pub(crate) fn rest_value_seeds() -> Vec<Vec<u8>> {
    values().iter().map(|value| json::to_rest(value).to_string().into_bytes()).collect()
}
