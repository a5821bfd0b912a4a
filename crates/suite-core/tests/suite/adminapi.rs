#![allow(clippy::unwrap_used)]
//! The REST admin protocol: parameter encoding, pages, error envelopes, links, hostile input.

use std::sync::Arc;
use std::time::Duration;

use exops_adminapi::link::{self, LinkError};
use exops_adminapi::{
    BodyError, FORBIDDEN_BODY_BYTES, InvokeRequest, Page, PageWriter, ResponseFormat, error_body, forbidden_body, parameter, parse_error,
    parse_invoke, parse_page,
};
use exops_psobject::{Base, DateTime, ErrorCategory, ErrorRecord, Limits, ListKind, Properties, PsObject, TimeSpan, TypeNames, Value};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use uuid::Uuid;

fn types(names: &[&str]) -> TypeNames {
    names.iter().map(|n| Arc::from(*n)).collect()
}

fn hashtable(entries: &[(&str, Value)]) -> Value {
    let entries = entries.iter().map(|(k, v)| (Value::from(*k), v.clone())).collect();
    PsObject { base: Base::Dictionary(entries), ..PsObject::default() }.into()
}

fn list(items: Vec<Value>) -> Value {
    PsObject::from_list(items).into()
}

#[test]
fn parameters_encode_as_the_proxy_module_does() {
    let switch = PsObject {
        to_string: Some("True".into()),
        ..PsObject::typed(
            types(&["System.Management.Automation.SwitchParameter", "System.ValueType"]),
            Properties::from_iter([("IsPresent", true)]),
        )
    };
    let megabytes = PsObject { to_string: Some("10MB".into()), base: Base::Primitive(Value::I32(10_485_760)), ..PsObject::default() };
    let enumeration =
        PsObject::enumeration(types(&["Microsoft.Exchange.X", "System.Enum", "System.ValueType", "System.Object"]), "Room", 16);
    let table: Vec<(Value, Json)> = vec![
        (Value::Null, json!(null)),
        ("text".into(), json!("text")),
        (true.into(), json!(true)),
        (Value::I32(-7), json!(-7)),
        (Value::I64(1 << 40), json!(1u64 << 40)),
        (Value::U64(u64::MAX), json!(u64::MAX)),
        (Value::Double(1.5), json!(1.5)),
        (Value::Double(f64::NAN), json!("NaN")),
        (DateTime::parse("2026-11-24T10:30:15.7654321+02:00").unwrap().into(), json!("2026-11-24T08:30:15")),
        (Value::TimeSpan(TimeSpan::parse("30.00:00:00").unwrap()), json!("30.00:00:00")),
        (Value::Guid(Uuid::from_u128(0xab)), json!("00000000-0000-0000-0000-0000000000ab")),
        (Value::ScriptBlock("Alias -eq 'x'".into()), json!("Alias -eq 'x'")),
        (Value::Bytes(Arc::from([1u8, 255].as_slice())), json!({"@odata.type": "#Exchange.ByteArrayType", "Data": [1, 255]})),
        (switch.into(), json!(true)),
        (megabytes.into(), json!(10_485_760)),
        (enumeration.into(), json!("Room")),
        (list(vec!["a".into(), Value::I32(2)]), json!(["a", 2])),
        (list(vec![]), json!([])),
        (
            hashtable(&[
                ("Add", list(vec!["smtp:a@b".into()])),
                ("Inner", hashtable(&[("k", 1.into())])),
                ("L", list(vec![hashtable(&[("k", 1.into())])])),
            ]),
            json!({
                "@odata.type": "#Exchange.GenericHashTable",
                "Add": ["smtp:a@b"],
                "Inner": {"@odata.type": "#Exchange.GenericHashTable", "k": 1},
                "L": [{"k": 1}],
            }),
        ),
    ];
    for (value, expected) in &table {
        let encoded = parameter::encode(&[("P".to_owned(), value.clone())]).unwrap();
        assert_eq!(Json::Object(encoded), json!({"P": expected}), "{value:?}");
    }
    let several = [
        ("Rules".to_owned(), list(vec![hashtable(&[("k", 1.into())])])),
        ("Blobs".to_owned(), list(vec![Value::Bytes(Arc::from([7u8].as_slice()))])),
    ];
    assert_eq!(
        Json::Object(parameter::encode(&several).unwrap()),
        json!({
            "Rules@odata.type": "#Collection(Exchange.GenericHashTable)", "Rules": [{"k": 1}],
            "Blobs@odata.type": "#Collection(Exchange.ByteArrayType)", "Blobs": [{"Data": [7]}],
        })
    );
    // L-01: a secret is refused by name, its text appears nowhere.
    let credential = PsObject {
        type_names: types(&["System.Management.Automation.PSCredential"]),
        adapted: Properties::from_iter([("Password", Value::SecureString("c2VjcmV0".into()))]),
        ..PsObject::default()
    };
    for secret in [Value::SecureString("c2VjcmV0".into()), credential.into(), hashtable(&[("x", Value::SecureString("c2VjcmV0".into()))])] {
        let error = parameter::encode(&[("Password".to_owned(), secret)]).unwrap_err().to_string();
        assert!(error.contains("Password") && !error.contains("c2VjcmV0"), "{error}");
    }
}

#[test]
fn a_request_reads_back() {
    let request = InvokeRequest {
        cmdlet: "Set-Mailbox".to_owned(),
        parameters: vec![
            ("Identity".to_owned(), "adele@contoso.com".into()),
            (
                "EmailAddresses".to_owned(),
                hashtable(&[("Add", list(vec!["smtp:a2@contoso.com".into()])), ("Remove", "smtp:old@contoso.com".into())]),
            ),
            ("Rules".to_owned(), list(vec![hashtable(&[("k", 1.into())])])),
            ("Picture".to_owned(), Value::Bytes(Arc::from([1u8, 2].as_slice()))),
            ("Confirm".to_owned(), false.into()),
            ("Nothing".to_owned(), Value::Null),
        ],
        max_page_size: 5000,
        anchor: InvokeRequest::system_mailbox_anchor(Uuid::nil()),
        client_request_id: Uuid::nil(),
        connection_id: Uuid::nil(),
        application: "exops/0.1.0".to_owned(),
    };
    let headers = request.headers();
    assert!(headers.contains(&("Prefer", "odata.maxpagesize=1000".to_owned())));
    assert!(headers.contains(&(
        "X-AnchorMailbox",
        "APP:SystemMailbox{bb558c35-97f1-4cb9-8ff7-d53741dc928c}@00000000-0000-0000-0000-000000000000".to_owned()
    )));
    let read = parse_invoke(&request.body().unwrap(), &Limits::default()).unwrap();
    assert_eq!(read.cmdlet, "Set-Mailbox");
    let names: Vec<_> = read.parameters.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["Identity", "EmailAddresses", "Rules", "Picture", "Confirm", "Nothing"], "annotations are no parameters");
    assert_eq!(parameter::encode(&read.parameters).unwrap(), parameter::encode(&request.parameters).unwrap());

    let lax = br#"{"cmdletinput":{"CMDLETNAME":"Get-X"}}"#;
    assert_eq!(parse_invoke(lax, &Limits::default()).unwrap().parameters, vec![]);
    let base64 = br##"{"CmdletInput":{"CmdletName":"X","Parameters":{"P":{"@odata.type":"#Exchange.ByteArrayType","Data":"AQI="}}}}"##;
    assert_eq!(
        parse_invoke(base64, &Limits::default()).unwrap().parameters,
        [("P".to_owned(), Value::Bytes(Arc::from([1u8, 2].as_slice())))]
    );
}

#[test]
fn hostile_requests_are_refused_before_they_are_built() {
    let limits = Limits { bytes: 1000, depth: 8, values: 50, attributes: 0, own_members: false };
    let deep = format!("{}{}", "[".repeat(20), "]".repeat(20));
    let wide = format!("[{}]", vec!["1"; 60].join(","));
    assert_eq!(parse_invoke(&[b' '; 1001], &limits), Err(BodyError::TooLong { actual: 1001, limit: 1000 }));
    assert_eq!(parse_invoke(deep.as_bytes(), &limits), Err(BodyError::TooDeep(8)));
    assert_eq!(parse_invoke(wide.as_bytes(), &limits), Err(BodyError::TooMany(50)));
    // Brackets inside text are no nesting.
    let text = json!({"CmdletInput": {"CmdletName": "X", "Parameters": {"P": format!("\\\"{}", "[".repeat(50))}}}).to_string();
    assert!(parse_invoke(text.as_bytes(), &limits).is_ok());
    for bad in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"CmdletInput":{}}"#,
        r#"{"CmdletInput":{"CmdletName":""}}"#,
        r#"{"CmdletInput":{"CmdletName":"X","Parameters":[]}}"#,
        "\u{0}",
    ] {
        assert!(parse_invoke(bad.as_bytes(), &limits).is_err(), "{bad}");
    }
}

#[test]
fn pages_read_back_and_follow_the_annotation_pattern() {
    let mut properties = Properties::default();
    properties.push("Name", "adele");
    properties.push("Guid", Uuid::from_u128(0x0b2f));
    properties.push("Count", 5);
    properties.push("WhenCreatedUTC", DateTime::parse("2024-05-01T08:00:00Z").unwrap());
    properties.push("EmailAddresses", PsObject::from_list(vec!["SMTP:adele@contoso.com".into()]));
    properties.push("LitigationHoldDate", Value::Null);
    let object: Value = PsObject::typed(types(&["Microsoft.Exchange.Data.Directory.Management.Mailbox"]), properties).into();

    let beside = Page {
        warnings: vec!["w \"1\"".into()],
        errors: vec![missing("e | f"), ErrorRecord::new("A.Busy", "e", ErrorCategory::ResourceBusy, "")],
        next_link: Some("https://h/adminapi/beta/t/InvokeCommand?$skiptoken=1".to_owned()),
        confirmation: Some("sure?".into()),
        ..Page::default()
    };
    let mut writer = PageWriter::new("https://h/adminapi/beta/t/$metadata", ResponseFormat::Json, &[]);
    writer.push(&object);
    writer.push(&object);
    let body = writer.finish(&beside);
    let json: Json = serde_json::from_slice(&body).unwrap();
    assert_eq!(json["@odata.context"], "https://h/adminapi/beta/t/$metadata#Collection(Exchange.GenericHashTable)");
    assert_eq!(json["value"][1]["Guid@data.type"], "System.Guid");
    assert_eq!(json["value"][1]["EmailAddresses@odata.type"], "#Collection(String)");
    let page = parse_page(200, &[], &body, &Limits::default()).unwrap();
    assert_eq!((page.objects.len(), &page.warnings), (2, &beside.warnings));
    // Texts for everybody, and everything that an error is for whoever reads on.
    assert_eq!(json["@adminapi.errors"], json!([&*missing("e | f").message, "e"]));
    assert_eq!(told(&page.errors), told(&beside.errors));
    assert_eq!((&page.next_link, &page.confirmation), (&beside.next_link, &beside.confirmation));
    let read = page.objects[0].as_object().unwrap();
    assert_eq!(read.property("Guid"), Some(&Value::Guid(Uuid::from_u128(0x0b2f))));
    assert_eq!(read.property("Count"), Some(&Value::I32(5)));
    assert!(read.property("Guid@data.type").is_none());

    // $select keeps a property with its annotations.
    let mut writer = PageWriter::new("c", ResponseFormat::Json, &["guid"]);
    writer.push(&object);
    let json: Json = serde_json::from_slice(&writer.finish(&Page::default())).unwrap();
    assert_eq!(json["value"][0].as_object().unwrap().keys().filter(|k| !k.contains('@')).collect::<Vec<_>>(), ["Guid"]);
    assert_eq!(json["@adminapi.warnings"], json!([]), "always there");
    assert!(json.get("@odata.nextLink").is_none());

    // The PowerShell module's form: one item with one document, also when it is empty.
    for count in [0usize, 3] {
        let mut writer = PageWriter::new("c", ResponseFormat::Clixml, &[]);
        (0..count).for_each(|_| writer.push(&object));
        let body = writer.finish(&Page::default());
        let json: Json = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["value"].as_array().unwrap().len(), 1);
        assert!(json["value"][0]["_clixml"].is_string());
        assert_eq!(parse_page(200, &[], &body, &Limits::default()).unwrap().objects.len(), count);
    }
}

#[test]
fn answers_that_are_no_page_become_errors() {
    let limits = Limits { values: 100, ..Limits::default() };
    for empty in [&b""[..], b" \r\n"] {
        assert_eq!(parse_page(204, &[], empty, &limits).unwrap(), Page::default());
    }
    // H-06: error body, HTML, garbage, too much, under status 200.
    let envelope =
        br#"{"error":{"code":"BadRequest","message":"m","details":[{"code":"Client","target":"x","message":"Ex6F9304|A.B|text|more"}]}}"#;
    let error = parse_page(200, &[], envelope, &limits).unwrap_err();
    assert_eq!((error.status, error.structured, &*error.record.message), (200, true, "text|more"));
    let many = format!("{{\"value\":[{}]}}", vec!["1"; 200].join(","));
    for bad in [&b"<html>"[..], b"[1]", b"{\"value\":1}", &[0x1f, 0x8b, 0, 1][..], many.as_bytes()] {
        let error = parse_page(200, &[], bad, &limits).unwrap_err();
        assert!(!error.structured && error.record.message.contains("not a page"), "{error}");
    }
}

fn missing(name: &str) -> ErrorRecord {
    let mut record = ErrorRecord::new(
        "Microsoft.Exchange.Configuration.Tasks.ManagementObjectNotFoundException",
        format!("The operation couldn't be performed because object '{name}' couldn't be found on 'DC01.example'."),
        ErrorCategory::NotSpecified,
        "8288830C,Microsoft.Exchange.Management.RecipientTasks.GetMailbox",
    );
    record.string_id = Some("Ex6F9304".into());
    record.target_name = name.into();
    record
}

/// What a client is told of each error.
fn told(errors: &[ErrorRecord]) -> Vec<(&str, &str, &str, ErrorCategory, Option<&str>)> {
    errors.iter().map(|e| (e.exception_type(), &*e.message, &*e.target_name, e.category, e.string_id.as_deref())).collect()
}

#[test]
fn error_envelopes_read_back() {
    let not_found = missing("x|y");
    let answer = error_body(&not_found, &[], &["careful".into()]);
    assert_eq!(answer.status, 404);
    assert!(answer.headers.contains(&("x-ExceptionType", "ManagementObjectNotFoundException".to_owned())));
    let json: Json = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(json["error"]["code"], "NotFound");
    assert_eq!(json["error"]["details"][0]["code"], "Client");
    assert!(
        json["error"]["details"][0]["message"].as_str().unwrap().starts_with("Ex6F9304|Microsoft.Exchange.Configuration.Tasks.Management")
    );

    let table = [
        (not_found, 404),
        (ErrorRecord::new("A.CmdletAccessDeniedException", "no", ErrorCategory::PermissionDenied, ""), 403),
        (ErrorRecord::new("System.InvalidOperationException", "a | b", ErrorCategory::InvalidData, ""), 400),
        (ErrorRecord::new("System.Management.Automation.ParameterBindingException", "p", ErrorCategory::InvalidArgument, ""), 400),
        (ErrorRecord::new("X.Busy", "later", ErrorCategory::ResourceUnavailable, ""), 503),
        (ErrorRecord::new("X.Slow", "late", ErrorCategory::OperationTimeout, ""), 504),
        (ErrorRecord::new("X.Broken", "own", ErrorCategory::InvalidResult, ""), 500),
    ];
    for (record, status) in table {
        let others = [missing("one | two"), ErrorRecord::new("A.Busy", "later", ErrorCategory::ResourceBusy, "")];
        let answer = error_body(&record, &others.iter().collect::<Vec<_>>(), &["careful".into()]);
        assert_eq!(answer.status, status, "the first decides: {record:?}");
        let mut headers: Vec<(String, String)> = answer.headers.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
        headers.extend(
            [("Request-Id", "r1"), ("x-calculatedbetarget", "BE01.example.com"), ("date", "D")].map(|(n, v)| (n.to_owned(), v.to_owned())),
        );
        let read = parse_error(answer.status, &headers, &answer.body, &Limits::default());
        assert!(read.structured);
        let got = &read.record;
        assert_eq!(
            (&got.message, got.category, &got.string_id, &got.target_name),
            (&record.message, record.category, &record.string_id, &record.target_name)
        );
        assert_eq!((got.exception_type(), &got.reason), (record.exception_type(), &record.reason));
        assert_eq!(&*got.fully_qualified_error_id, "[Server=BE01,RequestId=r1,TimeStamp=D],Write-ErrorMessage");
        assert_eq!((read.warnings, told(&read.further)), (vec![Arc::from("careful")], told(&others)));
    }
    // L-02: an object's name cannot smuggle a header.
    let mut evil = ErrorRecord::new("A.B", "m", ErrorCategory::NotSpecified, "");
    evil.target_type = "x\r\nSet-Cookie: a=b\"é".into();
    assert!(error_body(&evil, &[], &[]).headers.iter().all(|(_, v)| v.bytes().all(|b| b.is_ascii_graphic() || b == b' ')));
}

#[test]
fn odd_error_bodies_are_tolerated() {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let limits = Limits::default();
    let refused = forbidden_body("User is not allowed to call Get-X");
    assert_eq!((refused.status, refused.body.len()), (403, FORBIDDEN_BODY_BYTES));
    let headers: Vec<_> = refused.headers.iter().map(|(n, v)| header(n, v)).collect();
    let read = parse_error(403, &headers, &refused.body, &limits);
    assert_eq!(
        (&*read.record.message, read.structured, read.record.category),
        ("User is not allowed to call Get-X", false, ErrorCategory::PermissionDenied)
    );

    let throttled =
        parse_error(429, &[header("retry-after", "2.5")], b"You have reached the maximum number of concurrent requests", &limits);
    assert_eq!(throttled.retry_after, Some(Duration::from_millis(2500)));
    assert!(throttled.record.message.starts_with("You have reached"));

    let challenge =
        parse_error(401, &[header("WWW-Authenticate", r#"Bearer authorization_uri="u", claims="eyJ9", error="e""#)], b"", &limits);
    assert_eq!(challenge.claims.as_deref(), Some("eyJ9"));
    assert!(challenge.record.message.contains("401"));

    for (body, message) in [
        (json!({"error": {"message": "User is not allowed to call Get-Mailbox"}}), "User is not allowed to call Get-Mailbox"),
        (json!({"error": {"message": "m", "innererror": {"internalexception": {"message": "inner", "type": "A.B"}}}}), "inner"),
        (json!({"error": {"details": [{"code": "13", "message": "{\"ClassName\":\"A.C\",\"Message\":\"json\"}"}]}}), "json"),
        (json!({"error": {"details": [{"message": "one | two"}]}}), "one | two"),
        (json!({"error": {"details": "x", "innererror": 5}}), "the service reported an error without a text"),
    ] {
        let padded = [&b"\0\0 "[..], body.to_string().as_bytes(), b"\0"].concat();
        let read = parse_error(400, &[], &padded, &limits);
        assert!(read.structured);
        assert_eq!(&*read.record.message, message);
    }
    // H-06: details after the first that are none, and details that disagree with the texts in number or in kind.
    let odd = json!({"error": {"details": [{"message": "one"}, 5, {"code": {}}, {"message": ""}, {"message": "A|B|C", "target": 7}]}});
    let read = parse_error(400, &[], odd.to_string().as_bytes(), &limits);
    assert_eq!(
        (&*read.record.message, told(&read.further)),
        ("one", vec![("System.Exception", "A|B|C", "", ErrorCategory::NotSpecified, None)])
    );
    for (errors, expected) in [
        (json!({"@adminapi.errors": ["plain", "Ex6F9304|A.B|text", 5]}), vec![("System.Exception", "plain"), ("A.B", "text")]),
        (json!({"@adminapi.errors": ["a"], "@exops.errors": [{"message": "|A.B|b"}, "c", {}]}), vec![("A.B", "b")]),
        (json!({"@adminapi.errors": ["a"], "@exops.errors": "none"}), vec![("System.Exception", "a")]),
    ] {
        let page = parse_page(200, &[], errors.to_string().as_bytes(), &limits).unwrap();
        assert_eq!(page.errors.iter().map(|e| (e.exception_type(), &*e.message)).collect::<Vec<_>>(), expected);
    }
    for junk in [&b"<html>busy</html>"[..], &[0xff, 0xfe], b"\x1b[31mred", b"{\"error\":"] {
        assert!(parse_error(503, &[], junk, &limits).record.message.contains("503"));
    }
}

#[test]
fn next_links_stay_with_the_connection() {
    // H-04, H-03
    let request = "https://localhost:8443/adminapi/beta/T/InvokeCommand";
    let ok = |link: &str| link::follow(link, request, &["outlook.com"]);
    assert_eq!(ok("https://LOCALHOST:443/AdminApi/beta/t/InvokeCommand?$skiptoken=a").unwrap(), format!("{request}?$skiptoken=a"));
    assert_eq!(ok("https://be7.outlook.com:444/adminapi/beta/T/InvokeCommand?$skiptoken=b").unwrap(), format!("{request}?$skiptoken=b"));
    for foreign in [
        "https://evil.example/adminapi/beta/T/InvokeCommand?x",
        "https://eviloutlook.com/adminapi/beta/T/InvokeCommand?x",
        "https://[::1]/adminapi/beta/T/InvokeCommand?x",
    ] {
        assert!(matches!(ok(foreign), Err(LinkError::ForeignHost(_))), "{foreign}");
    }
    for malformed in [
        "http://localhost:8443/adminapi/beta/T/InvokeCommand?x",
        "//localhost/adminapi/beta/T/InvokeCommand?x",
        "https://localhost@evil.example/adminapi/beta/T/InvokeCommand?x",
        "https://localhost\\@evil.example/adminapi/beta/T/InvokeCommand?x",
        "https://localhost/adminapi/beta/T/Invoke Command?x",
        "https:///x",
        "é",
        "",
    ] {
        assert!(matches!(ok(malformed), Err(LinkError::Malformed(_))), "{malformed}");
    }
    assert!(matches!(ok("https://localhost/adminapi/beta/OTHER/InvokeCommand?x"), Err(LinkError::ForeignPath(_))));
    let page = format!("{request}?$skiptoken=a");
    assert_eq!(link::follow(&page, &page, &[]), Err(LinkError::Loop));
    assert_eq!(link::follow(request, request, &[]), Err(LinkError::Loop));
}

#[test]
fn waiting_times_and_preferences() {
    // H-05
    let cap = Duration::from_secs(120);
    for (text, expected) in [
        ("0", Some(0.0)),
        ("2", Some(2.0)),
        (" 1.25 ", Some(1.25)),
        ("1e9", Some(120.0)),
        ("1e400", None),
        ("-1", None),
        ("NaN", None),
        ("inf", None),
        ("Tue, 24 Nov 2026 08:00:00 GMT", None),
        ("", None),
    ] {
        assert_eq!(link::retry_after(text, cap), expected.map(Duration::from_secs_f64), "{text}");
    }
    for (prefer, expected) in [
        ("odata.maxpagesize=10", Some(10)),
        ("odata.maxpagesize=7;odata.continue-on-error", Some(7)),
        ("return=minimal, OData.MaxPageSize = 5", Some(5)),
        ("odata.maxpagesize=x", None),
        ("odata.maxpagesize=-1", None),
        ("", None),
    ] {
        assert_eq!(link::max_page_size(prefer), expected, "{prefer}");
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i32>().prop_map(Value::I32),
        any::<i64>().prop_map(|n| i32::try_from(n).map_or(Value::I64(n), Value::I32)),
        ".{0,12}".prop_map(|s: String| Value::from(s)),
        proptest::collection::vec(any::<u8>(), 0..4).prop_map(|b| Value::Bytes(b.into())),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| {
                let object = PsObject {
                    type_names: types(&["System.Object[]", "System.Array", "System.Object"]),
                    base: Base::List(ListKind::List, items),
                    ..PsObject::default()
                };
                Value::from(object)
            }),
            proptest::collection::btree_map("[a-zA-Z]{1,6}", inner, 0..4).prop_map(|entries| {
                let entries = entries.into_iter().map(|(k, v)| (Value::from(k), v)).collect();
                let object = PsObject {
                    type_names: types(&["System.Collections.Hashtable", "System.Object"]),
                    base: Base::Dictionary(entries),
                    ..PsObject::default()
                };
                Value::from(object)
            }),
        ]
    })
}

proptest! {
    /// What one end encodes the other decodes, except byte arrays inside lists, whose mark is the parameter's.
    #[test]
    fn encoding_is_stable(values in proptest::collection::vec(value(), 0..4)) {
        let parameters: Vec<_> = values.into_iter().enumerate().map(|(i, v)| (format!("P{i}"), v)).collect();
        let once = parameter::encode(&parameters).unwrap();
        let read = parameter::decode(&once);
        prop_assert_eq!(read.len(), parameters.len());
        for ((_, sent), (_, got)) in parameters.iter().zip(&read) {
            if !format!("{sent:?}").contains("Bytes") {
                prop_assert_eq!(sent, got);
            }
        }
    }

    /// No body makes a reader panic.
    #[test]
    fn readers_survive_anything(body in proptest::collection::vec(any::<u8>(), 0..200), status in 100u16..600) {
        let limits = Limits::default();
        let _ = parse_invoke(&body, &limits);
        let _ = parse_page(status, &[], &body, &limits);
        let _ = parse_error(status, &[("Retry-After".to_owned(), String::from_utf8_lossy(&body).into_owned())], &body, &limits);
        let _ = link::follow(&String::from_utf8_lossy(&body), "https://h/p", &["h"]);
    }
}
