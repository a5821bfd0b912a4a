//! The annotated JSON of REST, the plain one, and the canonical form in which both transports agree.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use exops_psobject::canonical::canonical;
use exops_psobject::json::{JsonError, from_rest, plain, rest as written_rest, to_plain, to_rest};
use exops_psobject::{Base, DateTime, DateTimeKind, Properties, PsObject, TimeSpan, Value, clixml};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use uuid::Uuid;

fn typed(name: &str, text: Option<&str>, properties: &[(&str, Value)]) -> PsObject {
    let names = [name, "System.Object"].map(Arc::from).as_slice().into();
    let adapted = properties.iter().map(|(n, v)| (*n, v.clone())).collect();
    PsObject { to_string: text.map(Arc::from), ..PsObject::typed(names, adapted) }
}

/// One object with a value of every kind that Exchange shows.
fn mailbox() -> Value {
    let time = DateTime::parse("2024-05-01T08:00:00.5Z").unwrap();
    let size = typed("Contoso.ByteQuantifiedSize", Some("35 MB (36,700,160 bytes)"), &[("Bytes", Value::U64(36_700_160))]);
    let hash = PsObject { base: Base::Dictionary(vec![("Add".into(), "a".into()), (Value::I32(2), Value::I32(3))]), ..PsObject::default() };
    let mut mailbox = typed(
        "Contoso.Mailbox",
        Some("adele"),
        &[
            ("Name", "adele".into()),
            (
                "EmailAddresses",
                PsObject::from_list(vec!["SMTP:a@b.c".into(), typed("Contoso.Address", Some("smtp:d@e.f"), &[]).into()]).into(),
            ),
            ("Extensions", PsObject::from_list(Vec::new()).into()),
            ("Guid", Uuid::from_u128(0xABCD).into()),
            ("Guids", PsObject::from_list(vec![Uuid::from_u128(1).into()]).into()),
            ("WhenCreatedUTC", time.into()),
            ("WhenChanged", DateTime::parse("2024-05-01T10:00:00+02:00").unwrap().into()),
            ("RecipientLimits", 500.into()),
            ("SCLDeleteThreshold", Value::I16(9)),
            ("ItemCount", Value::I64(5_000_000_000)),
            ("Ratio", Value::Single(0.1)),
            ("Load", Value::Double(f64::NAN)),
            ("MaxSendSize", size.into()),
            ("Type", PsObject::enumeration(["Contoso.Kind".into()].into(), "RoomMailbox", 16).into()),
            ("RetainDeletedItemsFor", Value::TimeSpan(TimeSpan::parse("14.00:00:00").unwrap())),
            ("RetentionHoldEnabled", false.into()),
            ("LitigationHoldDate", Value::Null),
            ("Version", Value::Version("0.20.15.0".into())),
            ("Picture", Value::Bytes([1, 2, 3].as_slice().into())),
            ("Nested", typed("Contoso.Pair", None, &[("Id", 7.into()), ("When", time.into())]).into()),
            ("Delta", hash.into()),
        ],
    );
    mailbox.extended.push("PSComputerName", "server");
    mailbox.into()
}

/// The recorded annotations stand before their values, in the order of the properties.
#[test]
fn the_annotated_form() {
    let rest = to_rest(&mailbox());
    let expected = r##"{
        "Name": "adele",
        "EmailAddresses@odata.type": "#Collection(String)", "EmailAddresses": ["SMTP:a@b.c", "smtp:d@e.f"],
        "Extensions@odata.type": "#Collection(String)", "Extensions": [],
        "Guid@data.type": "System.Guid", "Guid@odata.type": "#Guid", "Guid": "00000000-0000-0000-0000-00000000abcd",
        "Guids@odata.type": "#Collection(Guid)", "Guids": ["00000000-0000-0000-0000-000000000001"],
        "WhenCreatedUTC@data.type": "System.DateTime", "WhenCreatedUTC": "2024-05-01T08:00:00.5000000+00:00",
        "WhenChanged@data.type": "System.DateTime", "WhenChanged": "2024-05-01T10:00:00.0000000+02:00",
        "RecipientLimits@data.type": "System.Int32", "RecipientLimits": 500,
        "SCLDeleteThreshold@data.type": "System.Int16", "SCLDeleteThreshold@odata.type": "#Int16", "SCLDeleteThreshold": 9,
        "ItemCount@data.type": "System.Int64", "ItemCount@odata.type": "#Int64", "ItemCount": 5000000000,
        "Ratio@data.type": "System.Single", "Ratio@odata.type": "#Single", "Ratio": 0.1,
        "Load@data.type": "System.Double", "Load": "NaN",
        "MaxSendSize": "35 MB (36,700,160 bytes)",
        "Type": "RoomMailbox",
        "RetainDeletedItemsFor": "14.00:00:00",
        "RetentionHoldEnabled": false,
        "LitigationHoldDate": null,
        "Version": "0.20.15.0",
        "Picture@data.type": "System.Byte[]", "Picture@odata.type": "#Binary", "Picture": "AQID",
        "Nested": {
            "Id@data.type": "System.Int32", "Id": 7,
            "When@data.type": "System.DateTime", "When": "2024-05-01T08:00:00.5000000+00:00"
        },
        "Delta": {"@odata.type": "#Exchange.GenericHashTable", "Add": "a", "2@data.type": "System.Int32", "2": 3},
        "PSComputerName": "server"
    }"##;
    let expected: Json = serde_json::from_str(expected).unwrap();
    assert_eq!(rest.to_string(), expected.to_string(), "the order counts too");

    let back = from_rest(&rest).unwrap();
    let object = back.as_object().unwrap();
    for (name, value) in [
        ("Guid", Value::Guid(Uuid::from_u128(0xABCD))),
        ("recipientlimits", Value::I32(500)),
        ("SCLDeleteThreshold", Value::I16(9)),
        ("Ratio", Value::Single(0.1)),
        ("WhenCreatedUTC", DateTime::parse("2024-05-01T08:00:00.5Z").unwrap().into()),
        ("LitigationHoldDate", Value::Null),
        ("Picture", Value::Bytes([1, 2, 3].as_slice().into())),
    ] {
        assert_eq!(object.extended.get(name), Some(&value), "{name}");
    }
    assert_eq!(object.property("Guids").unwrap().as_list(), Some([Value::Guid(Uuid::from_u128(1))].as_slice()));
    assert_eq!(object.property("Delta").unwrap().as_object().unwrap().type_name(), Some("System.Collections.Hashtable"));
    assert_eq!(to_plain(&mailbox()), without_annotations(&rest));
}

fn without_annotations(json: &Json) -> Json {
    match json {
        Json::Object(map) => {
            map.iter().filter(|(name, _)| !name.contains('@')).map(|(name, value)| (name.clone(), without_annotations(value))).collect()
        }
        Json::Array(items) => items.iter().map(without_annotations).collect(),
        other => other.clone(),
    }
}

/// Parameters as clients send them; values that contradict their annotation are named.
#[test]
fn requests_and_refusals() {
    let parameters = json!({
        "EmailAddresses": {"@odata.type": "#Exchange.GenericHashTable", "Add": ["smtp:a@b.c"], "Remove": "smtp:d@e.f"},
        "Rules": [{"a": 1}], "Rules@odata.type": "#Collection(Exchange.GenericHashTable)",
        "Numbers": {"@odata.type": "#Exchange.ByteArrayType", "Data": [1, 255]},
        "Base64": {"@odata.type": "#Exchange.ByteArrayType", "Data": "Af8="},
        "Count": 5, "Large": 18_446_744_073_709_551_615_u64, "Part": 1.5, "Flag": true, "None": null, "Unknown@data.type": "Contoso.Odd", "Unknown": "x",
        "Null@data.type": "System.Guid", "Null": null,
    });
    let read = from_rest(&parameters).unwrap();
    let object = read.as_object().unwrap();
    let delta = object.property("EmailAddresses").unwrap().as_object().unwrap().dictionary().unwrap();
    assert_eq!(delta[0].1.as_list().unwrap(), ["smtp:a@b.c".into()]);
    assert!(object.property("Rules").unwrap().as_list().unwrap()[0].as_object().unwrap().dictionary().is_some());
    let bytes = Value::Bytes([1, 255].as_slice().into());
    for (name, value) in [
        ("Numbers", bytes.clone()),
        ("Base64", bytes),
        ("Count", Value::I64(5)),
        ("Large", Value::U64(u64::MAX)),
        ("Part", Value::Double(1.5)),
        ("Flag", true.into()),
        ("None", Value::Null),
        ("Unknown", "x".into()),
        ("Null", Value::Null),
    ] {
        assert_eq!(object.property(name), Some(&value), "{name}");
    }
    for (annotation, value) in [
        ("System.Guid", json!("x")),
        ("System.Int32", json!(2_147_483_648_i64)),
        ("System.Int16", json!(1.5)),
        ("System.DateTime", json!("yesterday")),
        ("System.Byte[]", json!([256])),
        ("System.Decimal", json!("NaN")),
        ("System.Double", json!("1")),
        ("System.Guid", json!({})),
    ] {
        let refused = from_rest(&json!({"P@data.type": annotation, "P": value})).unwrap_err();
        assert!(matches!(&refused, JsonError::BadValue { name, .. } if name == "P"), "{annotation} {value}: {refused}");
        assert!(refused.to_string().contains(annotation));
    }
    let deep = (0..5_000).fold(Json::Null, |inner, _| Json::Array(vec![inner]));
    assert_eq!(from_rest(&deep), Err(JsonError::TooDeep(128)));
    // Taken apart by hand: dropping it all at once would recurse as deep as it is.
    let mut rest = deep;
    while let Json::Array(mut items) = rest {
        rest = items.pop().unwrap_or_default();
    }
}

/// The same object over REST, as our client reads CLIXML, and as PowerShell's client adorns it.
#[test]
fn all_transports_agree() {
    let mailbox = mailbox();
    let over_rest = canonical(&from_rest(&serde_json::from_str(&to_rest(&mailbox).to_string()).unwrap()).unwrap());
    let over_remoting = canonical(&clixml::read(clixml::write(&mailbox).as_bytes(), &exops_psobject::Limits::default()).unwrap());
    assert_eq!(over_rest.to_string(), over_remoting.to_string());
    assert_eq!(over_rest, canonical(&mailbox));
    for (name, value) in [
        ("WhenCreatedUTC", json!("2024-05-01T08:00:00.5000000Z")),
        ("WhenChanged", json!("2024-05-01T08:00:00.0000000Z")),
        ("MaxSendSize", json!("35 MB (36,700,160 bytes)")),
        ("Type", json!("RoomMailbox")),
        ("Extensions", json!([])),
        ("LitigationHoldDate", json!(null)),
        ("Nested", json!({"Id": 7, "When": "2024-05-01T08:00:00.5000000Z"})),
    ] {
        assert_eq!(over_rest[name], value, "{name}");
    }
    assert!(over_rest.get("PSComputerName").is_none());
}

fn leaf() -> impl Strategy<Value = Value> {
    let time = (
        0i64..=3_155_378_975_999_999_999,
        prop_oneof![Just(DateTimeKind::Utc), Just(DateTimeKind::Unspecified), (-840i16..=840).prop_map(DateTimeKind::Local)],
    );
    prop_oneof![
        Just(Value::Null),
        any::<String>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        any::<u16>().prop_map(Value::Char),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<i32>().prop_map(Value::I32),
        any::<i16>().prop_map(Value::I16),
        any::<u8>().prop_map(Value::U8),
        any::<u32>().prop_map(Value::U32),
        any::<f32>().prop_map(Value::Single),
        any::<f64>().prop_map(Value::Double),
        any::<i64>().prop_map(|t| Value::TimeSpan(TimeSpan(t))),
        any::<u128>().prop_map(|n| Value::Guid(Uuid::from_u128(n))),
        time.prop_map(|(ticks, kind)| Value::DateTime(DateTime::from_ticks(ticks, kind).unwrap())),
        (any::<i64>(), 0u8..100).prop_map(|(n, f)| Value::Decimal(format!("{n}.{f}").into())),
        prop::collection::vec(any::<u8>(), 0..6).prop_map(|b| Value::Bytes(b.into())),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 40, 5, |inner| {
        let name = prop_oneof![4 => "[A-Za-z]{1,4}", 1 => "[ -~]{1,6}"];
        let properties = || prop::collection::vec((name.clone(), inner.clone()), 0..4).prop_map(Properties::from_iter);
        let base = prop_oneof![
            2 => Just(Base::None),
            1 => leaf().prop_map(Base::Primitive),
            2 => prop::collection::vec(inner.clone(), 0..4).prop_map(|items| Base::List(exops_psobject::ListKind::List, items)),
            1 => prop::collection::vec((name.clone().prop_map(Value::from), inner.clone()), 0..4).prop_map(Base::Dictionary),
        ];
        (prop::option::of("[ -~]{0,9}"), base, properties(), properties()).prop_map(|(text, base, adapted, extended)| {
            PsObject { to_string: text.map(Arc::from), base, adapted, extended, ..PsObject::default() }.into()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the value, REST carries all that the canonical form keeps.
    #[test]
    fn rest_carries_the_canonical_form(value in value()) {
        let rest = to_rest(&value);
        let text = rest.to_string();
        let parsed: Json = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(canonical(&from_rest(&parsed).unwrap()).to_string(), canonical(&value).to_string(), "{}", text);
        prop_assert_eq!(to_plain(&value).to_string(), without_annotations(&rest).to_string());
        // Written at once it is the same, also where names stand twice.
        prop_assert_eq!(serde_json::to_string(&plain(&value)).unwrap(), to_plain(&value).to_string());
        prop_assert_eq!(serde_json::to_string(&written_rest(&value)).unwrap(), text);
    }
}
