//! CLIXML: what is written reads back, what PowerShell wrote is read, what is hostile is refused.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use exops_psobject::clixml::{ClixmlError, Decoder, read, read_document, write, write_document, write_to_depth};
use exops_psobject::xml::XmlError;
use exops_psobject::{
    Base, DateTime, DateTimeKind, Limits, ListKind, MemberSet, Properties, PsObject, SecureString, TimeSpan, TypeNames, Value, json,
};
use proptest::prelude::*;
use uuid::Uuid;

fn limits() -> Limits {
    Limits::default()
}

fn decode(text: &str) -> Result<Value, ClixmlError> {
    read(text.as_bytes(), &limits())
}

/// Any text, with what needs escapes more often than chance would bring it.
fn text() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![
        any::<String>(),
        "[ -~]{0,20}",
        "(_x[0-9A-Fa-f]{0,5}_?|_|x|_X005F_|[\u{0}-\u{9f}]|\u{1F600}|[\u{fff0}-\u{ffff}]|<|&|\"|]]>|\r\n){0,8}"
    ]
    .prop_map(Arc::from)
}

fn name() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![4 => "[A-Za-z][A-Za-z0-9]{0,8}".prop_map(Arc::from), 1 => text().prop_filter("empty", |t: &Arc<str>| !t.is_empty())]
}

fn date_time() -> impl Strategy<Value = DateTime> {
    let kind = prop_oneof![Just(DateTimeKind::Utc), Just(DateTimeKind::Unspecified), (-840i16..=840).prop_map(DateTimeKind::Local)];
    (0i64..=3_155_378_975_999_999_999, kind).prop_map(|(ticks, kind)| DateTime::from_ticks(ticks, kind).unwrap())
}

fn primitive() -> impl Strategy<Value = Value> {
    let finite = prop_oneof![any::<f64>(), -1e20..1e20f64, (-1000i32..1000).prop_map(f64::from)].prop_filter("finite", |n| n.is_finite());
    let single = any::<f32>().prop_filter("finite", |n| n.is_finite());
    prop_oneof![
        Just(Value::Null),
        text().prop_map(Value::String),
        text().prop_map(Value::ScriptBlock),
        text().prop_map(Value::Uri),
        text().prop_map(Value::Xml),
        "[A-Za-z0-9+/=]{0,24}".prop_map(|s| Value::SecureString(s.as_str().into())),
        any::<u16>().prop_map(Value::Char),
        any::<bool>().prop_map(Value::Bool),
        date_time().prop_map(Value::DateTime),
        any::<i64>().prop_map(|t| Value::TimeSpan(TimeSpan(t))),
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        single.prop_map(Value::Single),
        finite.prop_map(Value::Double),
        (any::<i64>(), "(\\.[0-9]{1,9})?").prop_map(|(n, fraction)| Value::Decimal(format!("{n}{fraction}").into())),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|b| Value::Bytes(b.into())),
        any::<u128>().prop_map(|n| Value::Guid(Uuid::from_u128(n))),
        (any::<u16>(), any::<u16>(), "(\\.[0-9]{1,5}){0,2}").prop_map(|(a, b, rest)| Value::Version(format!("{a}.{b}{rest}").into())),
    ]
}

fn base(inner: impl Strategy<Value = Value> + Clone) -> impl Strategy<Value = Base> {
    let kind = prop_oneof![Just(ListKind::List), Just(ListKind::Enumerable), Just(ListKind::Stack), Just(ListKind::Queue)];
    let items = prop::collection::vec(inner.clone(), 0..4);
    prop_oneof![
        Just(Base::None),
        primitive().prop_map(Base::Primitive),
        (kind, items).prop_map(|(kind, items)| Base::List(kind, items)),
        prop::collection::vec((primitive(), inner), 0..4).prop_map(Base::Dictionary),
    ]
}

fn member_sets(inner: impl Strategy<Value = Value> + Clone) -> impl Strategy<Value = Vec<MemberSet>> {
    let set = (name().boxed(), prop::collection::vec((name().boxed(), inner), 0..3)).prop_map(|(name, properties)| MemberSet {
        name,
        properties: properties.into_iter().collect(),
        member_sets: Vec::new(),
    });
    let nested = (set.clone(), prop::collection::vec(set, 0..2)).prop_map(|(outer, member_sets)| MemberSet { member_sets, ..outer });
    prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(nested, 1..3)]
}

fn value() -> impl Strategy<Value = Value> {
    primitive().prop_recursive(5, 60, 5, |inner| {
        let properties = || prop::collection::vec((name(), inner.clone()), 0..4).prop_map(Properties::from_iter);
        (
            prop::collection::vec(text(), 0..4),
            prop::option::of(text()),
            base(inner.clone()),
            properties(),
            properties(),
            member_sets(inner.clone()),
        )
            .prop_map(|(type_names, to_string, base, adapted, extended, member_sets)| {
                PsObject { type_names: type_names.into(), to_string, base, adapted, extended, member_sets }.into()
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// C-08 among others: any text in any place comes back as it was.
    #[test]
    fn what_is_written_reads_back(values in prop::collection::vec(value(), 1..4)) {
        for value in &values {
            prop_assert_eq!(&decode(&write(value)).unwrap(), value);
        }
        let document = write_document(&values);
        prop_assert!(document.bytes().all(|b| b >= b' '), "a document is one line of printable text");
        prop_assert_eq!(&read_document(document.as_bytes(), &limits()).unwrap(), &values);
        let mut utf16 = vec![0xFF, 0xFE];
        utf16.extend(document.encode_utf16().flat_map(u16::to_le_bytes));
        prop_assert_eq!(&read_document(&utf16, &limits()).unwrap(), &values);
    }

    /// No input makes the reader panic or run away.
    #[test]
    fn any_text_is_read_or_refused(text in prop_oneof![
        any::<String>(),
        "(<Obj RefId=\"[0-3]\">|</Obj>|<TN RefId=\"0\"><T>a</T></TN>|<TNRef RefId=\"[01]\"/>|<Ref RefId=\"[0-3]\"/>|<LST>|</LST>|<MS>|</MS>|<S N=\"a\">b</S>|<I32>[0-9]{1,12}</I32>|<!\\[CDATA\\[x\\]\\]>|&#[0-9]{1,7};|<DCT>|<En>|</En>){0,20}",
    ]) {
        let _ = decode(&text);
        let _ = read_document(text.as_bytes(), &limits());
    }
}

/// Written form, byte by byte: element names, order of children, escapes, ids, shared type names and objects.
#[test]
fn the_written_form_is_that_of_powershell() {
    let names: TypeNames = ["Contoso.Kind", "System.Enum", "System.ValueType", "System.Object"].map(Arc::from).as_slice().into();
    let shared: Value = PsObject::enumeration(names.clone(), "Room", 5).into();
    let mut object = PsObject { to_string: Some("a<b".into()), ..PsObject::default() };
    object.type_names = ["T_x0041_".into()].into();
    object.adapted.push("First", shared.clone());
    object.adapted.push("Again", shared);
    object.adapted.push("Other", PsObject::enumeration(names, "User", 1));
    object.adapted.push("List", PsObject::from_list(vec![1.into(), Value::Null]));
    object.adapted.push("Empty", PsObject::from_list(Vec::new()));
    object.extended.push("Smile", "\u{1F600}\t_X\u{85}");
    object.extended.push("Span", Value::TimeSpan(TimeSpan(-10_000_000)));
    object.extended.push("Big", Value::Double(1e300));
    object.extended.push("Small", Value::Double(5.787_037_037_037_036_6e-5));
    object.extended.push("Whole", Value::Double(15_552_000_000.0));
    object.extended.push("None", Value::Single(f32::NEG_INFINITY));
    object.extended.push("Char", Value::Char(0xD83D));
    object.extended.push("Time", DateTime::from_unix_milliseconds(1_714_550_400_500));
    let dictionary = PsObject { base: Base::Dictionary(vec![("k".into(), true.into())]), ..PsObject::default() };
    object.extended.push("Table", dictionary);
    let expected = concat!(
        r#"<Obj RefId="0"><TN RefId="0"><T>T_x005F_x0041_</T></TN><ToString>a&lt;b</ToString><Props>"#,
        r#"<Obj N="First" RefId="1"><TN RefId="1"><T>Contoso.Kind</T><T>System.Enum</T><T>System.ValueType</T><T>System.Object</T></TN>"#,
        r#"<ToString>Room</ToString><I32>5</I32></Obj><Ref N="Again" RefId="1"/>"#,
        r#"<Obj N="Other" RefId="2"><TNRef RefId="1"/><ToString>User</ToString><I32>1</I32></Obj>"#,
        r#"<Obj N="List" RefId="3"><LST><I32>1</I32><Nil/></LST></Obj><Obj N="Empty" RefId="4"><LST/></Obj></Props>"#,
        r#"<MS><S N="Smile">_xD83D__xDE00__x0009__x005F_X_x0085_</S><TS N="Span">-PT1S</TS><Db N="Big">1E+300</Db>"#,
        r#"<Db N="Small">5.7870370370370366E-05</Db><Db N="Whole">15552000000</Db><Sg N="None">-INF</Sg><C N="Char">55357</C>"#,
        r#"<DT N="Time">2024-05-01T08:00:00.5Z</DT><Obj N="Table" RefId="5"><DCT><En><S N="Key">k</S><B N="Value">true</B></En></DCT></Obj>"#,
        "</MS></Obj>"
    );
    assert_eq!(write(&object.into()), expected);
}

/// What peers write differently is read as the same: order of children, namespaces, white space, BOM, comments, CDATA.
#[test]
fn other_spellings_are_read() {
    let plain =
        decode(r#"<Obj RefId="0"><TN RefId="0"><T>E</T></TN><ToString>x</ToString><I32>2</I32><MS><S N="a">b</S></MS></Obj>"#).unwrap();
    let other = "\u{FEFF}<?xml version='1.0' encoding='utf-8'?>\r\n<p:Obj xmlns:p='urn:x' RefId = '7'><!-- c -->\n <MS>\n <S N='a'><![CDATA[b]]></S></MS>\
        <I32> 2 </I32><ToString>&#120;</ToString><MS Name='PSStandardMembers'/><TN RefId='4'><T>E</T></TN></p:Obj >\n";
    assert_eq!(decode(other).unwrap(), plain);
    let member_sets =
        r#"<Obj RefId="0"><MS><MS N="PSStandardMembers"><Obj N="x" RefId="1"><LST><S>y</S></LST></Obj></MS><I32 N="n">1</I32></MS></Obj>"#;
    let read = decode(member_sets).unwrap();
    let object = read.as_object().unwrap();
    assert_eq!((object.properties().count(), object.property("N")), (1, Some(&Value::I32(1))), "a member set is no property");
    assert_eq!((&*object.member_sets[0].name, object.member_sets[0].properties.len()), ("PSStandardMembers", 1));
    assert_eq!(decode(&write(&read)).unwrap(), read);
    for nothing in ["", "\u{FEFF}", " \n", "<!-- nothing -->"] {
        assert_eq!(decode(nothing).unwrap(), Value::Null);
    }
    assert!(read_document(b"<Objs/>", &limits()).unwrap().is_empty());
    let text = "<PR><AV>a</AV><AI>1</AI><Nil/><PI>-1</PI><PC>50</PC><T>Processing</T><SR>-1</SR><SD>s</SD></PR>";
    let progress = decode(text).unwrap();
    assert_eq!(write(&progress), text);
    assert_eq!(progress.as_object().unwrap().property("PercentComplete"), Some(&Value::I32(50)));
    assert_eq!(decode("<S>a\r\nb\rc</S>").unwrap(), "a\nb\nc".into());
    assert_eq!(decode("<BA>\n AAEC\n Aw==</BA>").unwrap(), Value::Bytes([0, 1, 2, 3].as_slice().into()));
}

/// Objects of one type share their names, also across messages of one decoder.
#[test]
fn names_are_shared() {
    let message = r#"<Obj RefId="0"><TN RefId="0"><T>A</T><T>B</T></TN><Props><S N="Name">n</S></Props></Obj>"#;
    let mut decoder = Decoder::new(limits());
    let objects = [decoder.read(message.as_bytes()).unwrap(), decoder.read(message.as_bytes()).unwrap()];
    let [first, second] = objects.each_ref().map(|o| o.as_object().unwrap());
    assert!(Arc::ptr_eq(&first.type_names, &second.type_names));
    assert!(Arc::ptr_eq(first.adapted.iter().next().unwrap().0, second.adapted.iter().next().unwrap().0));
    // However many types a message has, and however they are held: each is written once, and once more for a list.
    let one = |number: usize| {
        let chain: TypeNames = [format!("Type{number}").into(), "System.Object".into()].as_slice().into();
        Value::from(PsObject { type_names: chain, to_string: Some(number.to_string().into()), ..PsObject::default() })
    };
    let list = || Value::from(PsObject::from_list((0..100).chain(0..100).map(one).collect()));
    let numbered = (0..100).chain(0..100).map(|number| (format!("P{number}"), one(number)));
    let all = Value::from(PsObject::notes(
        [("Before".to_owned(), list())].into_iter().chain(numbered).chain([("After".to_owned(), list())]).collect(),
    ));
    let text = write(&all);
    for number in 0..100 {
        assert_eq!(text.matches(&format!("<T>Type{number}</T>")).count(), 2, "{number}");
    }
    assert_eq!(decode(&text).unwrap(), all);
}

/// C-08: escapes that are nested, broken, in lower case, halves of a pair; what is written reads back (see the
/// round trip above).
#[test]
fn c_08_escapes() {
    for (written, read) in [
        ("_x0041_", "A"),
        ("_X0041_", "A"),
        ("_x00e9_", "é"),
        ("_x005F_x0041_", "_x0041_"),
        ("_x005F_x005F_x0041_", "_x005FA"),
        ("_x005F_x005F_x005F_x0041_", "_x005F_x0041_"),
        ("_x0041", "_x0041"),
        ("_x41_", "_x41_"),
        ("_x00 41_", "_x00 41_"),
        ("__x0041__", "_A_"),
        ("_xD83D__xDE00_", "\u{1F600}"),
        ("_xd83d__xde00_", "\u{1F600}"),
        ("_xD83D_", "\u{10D83D}"),
        ("_xDE00__xD83D_", "\u{10DE00}\u{10D83D}"),
        ("_xD83D__x0041_", "\u{10D83D}A"),
        ("_xD83D__xD83D__xDE00_", "\u{10D83D}\u{1F600}"),
        ("_x&#48;041_", "A"),
        ("a_x0000_b", "a\0b"),
    ] {
        assert_eq!(decode(&format!("<S>{written}</S>")).unwrap(), read.into(), "{written}");
    }
    // Halves that stand alone go out as they came, from any place that holds text; so does the character that such a
    // half is kept as, when a document really has it.
    for half in ["_xD83D_", "_xDE00__xD83D_", "_xDFFF_a_xD800_", "_xDBF6__xDC3D_"] {
        let text = format!(
            "<Obj RefId=\"0\"><TN RefId=\"0\"><T>{half}</T></TN><ToString>{half}</ToString><SBK>{half}</SBK>\
             <MS><S N=\"{half}\">{half}</S><MS N=\"{half}\"><URI N=\"x\">{half}</URI></MS></MS></Obj>"
        );
        assert_eq!(write(&decode(&text).unwrap()), text);
    }
    assert_eq!(write(&decode("<S>\u{10D83D}</S>").unwrap()), "<S>_xDBF6__xDC3D_</S>");
}

/// C-09, as far as values go: a secure string shows nothing, and a secret in clear is never written.
#[test]
fn c_09_secure_strings() {
    let sealed = decode("<SS>c2VjcmV0</SS>").unwrap();
    assert_eq!(write(&sealed), "<SS>c2VjcmV0</SS>");
    // No cipher text looks like that, but what came goes out.
    assert_eq!(write(&decode("<SS>a_x005F_x0041_</SS>").unwrap()), "<SS>a_x005F_x0041_</SS>");
    let clear = Value::SecureString(SecureString::clear("p@ss w\u{f6}rd".into()));
    let list = Value::from(PsObject::from_list(vec![clear.clone(), sealed.clone()]));
    for text in [format!("{clear:?} {sealed:?} {list:?}"), clear.display(), sealed.display(), list.display()] {
        assert!(!text.contains("p@ss") && !text.contains("c2VjcmV0"), "{text}");
    }
    assert_eq!(write(&clear), "<SS></SS>");
    assert_eq!(json::to_rest(&clear), serde_json::Value::Null);
    assert_ne!(clear, sealed);
    assert_eq!(clear, Value::SecureString(SecureString::clear("p@ss w\u{f6}rd".into())));
}

/// C-05, C-06: what a type name promises is never made. Names of dangerous types, string forms, serialised blobs and
/// script are text and bytes, whatever chain of `Deserialized.` stands before them, and go out as they came.
#[test]
fn c_05_c_06_type_names_are_text() {
    for name in [
        "System.Diagnostics.Process",
        "System.Windows.Markup.XamlReader",
        "Deserialized.Deserialized.System.UnitySerializationHolder",
        "Microsoft.Exchange.Data.MultiValuedProperty`1[[System.Windows.Data.ObjectDataProvider]]",
    ] {
        let text = format!(
            "<Obj RefId=\"0\"><TN RefId=\"0\"><T>{name}</T><T>System.Object</T></TN><ToString>&lt;x/&gt;</ToString>\
             <BA>AAEAAAD/////</BA><Props><S N=\"TargetTypeForDeserialization\">{name}</S><SBK N=\"Run\">calc</SBK></Props></Obj>"
        );
        let value = decode(&text).unwrap();
        let object = value.as_object().unwrap();
        assert_eq!(object.property("run"), Some(&Value::ScriptBlock("calc".into())));
        assert_eq!(object.primitive(), Some(&Value::Bytes([0, 1, 0, 0, 0, 255, 255, 255, 255].as_slice().into())));
        assert_eq!(write(&value), text);
    }
}

/// Levels of objects are counted, not elements: fifty levels of dictionaries are read and written. Below the levels that
/// are asked for stand string forms, and of a container those of its items.
#[test]
fn depth_counts_objects() {
    let dictionary = |inner: Value| PsObject { base: Base::Dictionary(vec![("k".into(), inner)]), ..PsObject::default() };
    let deep = (0..50).fold(Value::from(1), |inner, _| dictionary(inner).into());
    assert_eq!(decode(&write(&deep)).unwrap(), deep);
    let sized = PsObject { to_string: Some("1 KB".into()), ..PsObject::notes([("Bytes", 1024)].into_iter().collect()) };
    let top = Value::from(PsObject::notes(Properties::from_iter([
        ("Size", Value::from(sized.clone())),
        ("Sizes", PsObject::from_list(vec![sized.into(), 5.into(), PsObject::from_list(vec![1.into(), 2.into()]).into()]).into()),
    ])));
    assert_eq!(
        write_to_depth(&top, 1),
        r#"<Obj RefId="0"><MS><S N="Size">1 KB</S><Obj N="Sizes" RefId="1"><LST><S>1 KB</S><I32>5</I32><S>1 2</S></LST></Obj></MS></Obj>"#
    );
    assert_eq!(write_to_depth(&top, 3), write(&top));
    assert_eq!(write_to_depth(&7.into(), 0), "<I32>7</I32>");
}

/// One object that is no CLIXML is an error in its place; the others of the document are read.
#[test]
fn a_bad_object_does_not_end_the_stream() {
    let document = "<Objs><I32>1</I32><I32>x</I32><Obj RefId='0'><MS><Obj N='a'><LST><Odd/></LST></Obj></MS></Obj><S>a<S/></S>\
        <Ref RefId='9'/><Obj><TNRef RefId='7'/><I32>1</I32></Obj><S>last</S></Objs>";
    let values = Decoder::new(limits()).read_each(document.as_bytes()).unwrap();
    let read: Vec<_> = values.iter().map(|value| value.as_ref().ok()).collect();
    assert_eq!(read, [Some(&1.into()), None, None, None, None, None, Some(&"last".into())]);
    assert!(matches!(values[1], Err(ClixmlError::BadValue { element: "I32", .. })));
    assert!(matches!(&values[2], Err(ClixmlError::UnexpectedElement { name, .. }) if name == "Odd"));
    assert!(matches!(values[4], Err(ClixmlError::UnknownReference { .. })));
    assert!(Decoder::new(limits()).read_each(b"<Objs><I32>1</I32><S>a</T></Objs>").is_err());
}

/// C-03: nesting of 10^5, references to what is unknown, comes later or is the object itself; chains of references that together are
/// deeper than any one element. Each is an error of its object alone. A reference to an object further out is its text: PowerShell
/// writes them, and values have no cycles.
#[test]
fn c_03_nesting_and_references() {
    let deep = |n: usize, open: &str, close: &str| format!("{}{}", open.repeat(n), close.repeat(n));
    assert!(matches!(decode(&deep(100_000, "<Obj><LST>", "</LST></Obj>")), Err(ClixmlError::Xml(XmlError::TooDeep(128)))));
    let wide = Limits { depth: usize::MAX, ..limits() };
    let refused = read(deep(100_000, "<Obj><MS><Obj N='a'>", "</Obj></MS></Obj>").as_bytes(), &wide);
    assert!(matches!(refused, Err(ClixmlError::Xml(XmlError::TooDeep(128)))));
    for reference in [
        r#"<Ref RefId="0"/>"#,
        r#"<Ref/>"#,
        r#"<Ref RefId="x"/>"#,
        r#"<Obj RefId="0"><LST><Ref RefId="1"/><Obj RefId="1"/></LST></Obj>"#,
        r#"<Obj RefId="0"><TNRef RefId="0"/></Obj>"#,
    ] {
        assert!(matches!(decode(reference), Err(ClixmlError::UnknownReference { .. })), "{reference}");
    }
    let own = [
        r#"<Obj RefId="0"><LST><Ref RefId="0"/></LST></Obj>"#,
        r#"<Obj RefId="0"><MS><Ref N="a" RefId="0"/></MS></Obj>"#,
        r#"<Obj RefId="0"><Props><Ref N="a" RefId="0"/></Props></Obj>"#,
        r#"<Obj RefId="0"><DCT><En><S N="Key">a</S><Ref N="Value" RefId="0"/></En></DCT></Obj>"#,
        r#"<Obj RefId="1"><LST><Obj RefId="0"><LST><Ref RefId="0"/></LST></Obj></LST></Obj>"#,
        r#"<Obj RefId="0"><Ref RefId="0"/></Obj>"#,
    ];
    for reference in own {
        assert!(matches!(decode(reference), Err(ClixmlError::SelfReference { id: 0, .. })), "{reference}");
    }
    let document = format!("<Objs><I32>1</I32>{}<I32>2</I32></Objs>", own.concat());
    let values = Decoder::new(limits()).read_each(document.as_bytes()).unwrap();
    assert_eq!(values.iter().filter_map(|value| value.as_ref().ok()).collect::<Vec<_>>(), [&Value::I32(1), &Value::I32(2)]);
    assert_eq!(values.iter().filter(|value| matches!(value, Err(ClixmlError::SelfReference { .. }))).count(), own.len());
    let allowed = Limits { own_members: true, ..limits() };
    let member = read(r#"<Obj RefId="0"><ToString>own</ToString><MS><Ref N="a" RefId="0"/></MS></Obj>"#.as_bytes(), &allowed).unwrap();
    assert_eq!(member.as_object().unwrap().property("a"), Some(&"own".into()));
    let cycle = decode(
        r#"<Obj RefId="0"><ToString>outer</ToString><LST><Obj RefId="1"><LST><Ref RefId="0"/><Obj RefId="2"><LST><Ref RefId="1"/></LST></Obj></LST></Obj></LST></Obj>"#,
    );
    let inner = PsObject::from_list(vec!["".into()]).into();
    assert_eq!(cycle.unwrap().as_list().unwrap(), [PsObject::from_list(vec!["outer".into(), inner]).into()]);
    let mut chain = String::from("<Objs><Obj RefId='0'/>");
    for n in 1..100_000 {
        chain += &format!("<Obj RefId='{n}'><LST><Ref RefId='{}'/></LST></Obj>", n - 1);
    }
    chain += "</Objs>";
    assert!(matches!(read_document(chain.as_bytes(), &limits()), Err(ClixmlError::Xml(XmlError::TooDeep(128)))));
}

/// C-04: a short text whose references stand for a huge one is refused; within the limits it is written as short as it
/// was, and its JSON is as large as the limits allow at most.
#[test]
fn c_04_reference_fan_out() {
    let fan = |levels: usize, width: usize| {
        let mut text = String::from("<Obj RefId='0'><LST><Obj RefId='1'><S>a text of some length</S></Obj>");
        for level in 2..levels {
            text += &format!("<Obj RefId='{level}'><LST>{}</LST></Obj>", format!("<Ref RefId='{}'/>", level - 1).repeat(width));
        }
        text + "</LST></Obj>"
    };
    assert!(matches!(decode(&fan(40, 10)), Err(ClixmlError::Expansion(_))));
    let tight = Limits { bytes: 100_000, ..limits() };
    assert!(matches!(read(fan(12, 4).as_bytes(), &tight), Err(ClixmlError::Expansion(_))));
    let value = read(fan(6, 4).as_bytes(), &tight).unwrap();
    let written = write(&value);
    assert!(written.len() < fan(6, 4).len() + 200, "{} bytes", written.len());
    assert_eq!(decode(&written).unwrap(), value);
    assert!(json::to_rest(&value).to_string().len() < tight.bytes);
}

/// C-07: numbers, times and the like at their edges and beyond them.
#[test]
fn c_07_edges_of_primitives() {
    for (good, value) in [
        ("<I64>-9223372036854775808</I64>", Value::I64(i64::MIN)),
        ("<U64>18446744073709551615</U64>", Value::U64(u64::MAX)),
        ("<SB>-128</SB>", Value::I8(-128)),
        ("<C>55357</C>", Value::Char(0xD83D)),
        ("<C>65535</C>", Value::Char(0xFFFF)),
        ("<Db>INF</Db>", Value::Double(f64::INFINITY)),
        ("<Db>1.7976931348623157E+308</Db>", Value::Double(f64::MAX)),
        ("<D>-79228162514264337593543950335</D>", Value::Decimal("-79228162514264337593543950335".into())),
        ("<D>1.20</D>", Value::Decimal("1.20".into())),
        ("<TS>-P10675199DT2H48M5.4775808S</TS>", Value::TimeSpan(TimeSpan(i64::MIN))),
        ("<TS>P10675199DT2H48M5.4775807S</TS>", Value::TimeSpan(TimeSpan(i64::MAX))),
        (
            "<DT>9999-12-31T23:59:59.9999999</DT>",
            Value::DateTime(DateTime::from_ticks(3_155_378_975_999_999_999, DateTimeKind::Unspecified).unwrap()),
        ),
        ("<DT>0001-01-01T00:00:00+14:00</DT>", Value::DateTime(DateTime::from_ticks(0, DateTimeKind::Local(840)).unwrap())),
        ("<Version>15.20</Version>", Value::Version("15.20".into())),
        ("<S>&#xD;a &amp;\r\n<!-- & < -->&lt;<![CDATA[<&amp;]]>\rb&#65;</S >", Value::from("\ra &\n<<&amp;\nbA")),
        ("<S>a &amp; b &gt; c</S>", Value::from("a & b > c")),
        ("<p:S\n xmlns:p = 'urn:&gt;/>'  />", Value::from("")),
        ("<B>True</B>", Value::Bool(true)),
    ] {
        assert_eq!(decode(good).unwrap(), value, "{good}");
        assert_eq!(decode(&write(&value)).unwrap(), value, "{good}");
    }
    assert!(matches!(decode("<Sg>NaN</Sg>").unwrap(), Value::Single(n) if n.is_nan()));
    for bad in [
        "<I64>9223372036854775808</I64>",
        "<I32>2147483648</I32>",
        "<I32>1.0</I32>",
        "<I32></I32>",
        "<By>256</By>",
        "<By>-1</By>",
        "<C>65536</C>",
        "<C>x</C>",
        "<D>NaN</D>",
        "<D>INF</D>",
        "<D>1E3</D>",
        "<D>79228162514264337593543950336</D>",
        "<D>0.12345678901234567890123456789</D>",
        "<D>.</D>",
        "<Db>1E400</Db>",
        "<Db>infinity</Db>",
        "<Db>0x10</Db>",
        "<DT>0000-01-01T00:00:00</DT>",
        "<DT>10000-01-01T00:00:00</DT>",
        "<DT>2023-02-29T00:00:00</DT>",
        "<DT>2024-01-01T24:00:01</DT>",
        "<DT>2024-01-01T00:00:00.0000000000</DT>",
        "<TS>P10675199DT2H48M5.4775808S</TS>",
        "<TS>P99999999999999999999D</TS>",
        "<TS>P1Y</TS>",
        "<TS>1:00:00</TS>",
        "<G>0f8fad5b-d9cb-469f-a165-70867728950</G>",
        "<G>urn:uuid:0f8fad5b-d9cb-469f-a165-70867728950e</G>",
        "<Version>1.2.3.4.5</Version>",
        "<Version>1.-2</Version>",
        "<Version>1.2147483648</Version>",
        "<B>yes</B>",
        "<BA>AA=A</BA>",
    ] {
        assert!(matches!(decode(bad), Err(ClixmlError::BadValue { .. })), "{bad}");
    }
    let script = "x".repeat(5 << 20);
    assert_eq!(decode(&format!("<SBK>{script}</SBK>")).unwrap(), Value::ScriptBlock(script.as_str().into()));
}

/// X-01: a document type is refused before anything it declares is looked at. Beside it the other things that are not
/// read (X-02, X-05): processing instructions, entities, other versions and encodings, characters that XML forbids.
#[test]
fn x_01_document_types() {
    let laughs = "<!DOCTYPE lolz [<!ENTITY lol \"lol\"><!ENTITY lol2 \"&lol;&lol;&lol;\">]><S>&lol2;</S>";
    for text in [laughs, "<!DOCTYPE S SYSTEM \"file:///etc/passwd\"><S/>", "<!doctype S><S/>", "<S><!DOCTYPE S></S>"] {
        assert!(matches!(decode(text), Err(ClixmlError::Xml(XmlError::DocumentType(_)))), "{text}");
    }
    for text in [
        "<!DOCTYPE S [",
        "<?xml-stylesheet href='x'?><S/>",
        "<S/><?xml version='1.0'?>",
        "<S>&lol;</S>",
        "<Obj><MS><S N='&lol;'/></MS></Obj>",
        "<S>a & b</S>",
    ] {
        assert!(matches!(decode(text), Err(ClixmlError::Xml(_))), "{text}");
    }
    for text in ["<?xml version='1.1'?><S/>", "<?xml version='1.0' encoding='utf-7'?><S/>"] {
        assert!(matches!(decode(text), Err(ClixmlError::Xml(XmlError::Declaration(_)))), "{text}");
    }
    for text in ["<S>\u{0}</S>", "<S>&#0;</S>", "<S>&#xD800;</S>", "<S>&#x1F;</S>", "<S>a\u{1b}</S>", "<Obj><MS><S N='\u{1}'/></MS></Obj>"]
    {
        assert!(decode(text).is_err(), "{text:?}");
    }
    for bytes in [b"<S>\xC0\xAF</S>".as_slice(), b"\xFF\xFE<\0S\0", b"\xFE\xFF\xD8\x00", b"<\0S\0/\0>\0"] {
        assert!(read(bytes, &limits()).is_err(), "{bytes:?}");
    }
    for text in [
        "<S>",
        "<S>a</T>",
        "</S>",
        "<S",
        "<S N=a/>",
        "<S N='a' N='b'/>",
        "<S N='a'M='b'/>",
        "<S N='a/>",
        "<S N/>",
        "<S /a>",
        "<S>a</S",
        "<S>a</SS>",
        "<S>&amp</S>",
        "<S><!-- a</S>",
        "<S><![CDATA[a</S>",
        "< S/>",
        "<S/><S/>",
        "text",
        "<S/>text",
        "<Objs/>",
        "<S><S/></S>",
        "<LST/>",
        "<Obj>x</Obj>",
    ] {
        assert!(decode(text).is_err(), "{text}");
    }
    for text in [
        "<Obj><MS><S>no name</S></MS></Obj>",
        "<Obj><DCT><En><S N='Key'>k</S></En></DCT></Obj>",
        "<Obj><DCT><En><S N='Key'>k</S><S N='Key'>k</S></En></DCT></Obj>",
        "<Obj><I32>1</I32><I32>2</I32></Obj>",
        "<Obj><LST/><DCT/></Obj>",
    ] {
        assert!(decode(text).is_err(), "{text}");
    }
}

/// X-03: each bound refuses what exceeds it, and refuses it early.
#[test]
fn x_03_sizes() {
    let refused = |text: &str, limits: Limits| match read(text.as_bytes(), &limits) {
        Err(ClixmlError::Xml(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&format!("<S>{}</S>", "a".repeat(1 << 20)), Limits { bytes: 1 << 20, ..limits() }), XmlError::TooLong(1 << 20));
    assert_eq!(refused(&"<Obj>".repeat(1_000_000), limits()), XmlError::TooDeep(128));
    let attributes: String = (0..1_000_000).map(|n| format!(" a{n}=''")).collect();
    assert_eq!(refused(&format!("<S{attributes}/>"), limits()), XmlError::TooManyAttributes(64));
    let namespaces: String = (0..100_000).map(|n| format!(" xmlns:n{n}='urn:{n}'")).collect();
    assert_eq!(refused(&format!("<Nil{namespaces}/>"), limits()), XmlError::TooManyAttributes(64));
    let many = format!("<Obj><LST>{}</LST></Obj>", "<Nil/>".repeat(1000));
    assert_eq!(refused(&many, Limits { values: 1000, ..limits() }), XmlError::TooMany(1000));
    let rebinding: String = (0..200).map(|n| format!("<Obj xmlns='urn:{n}'><LST xmlns:a='urn:{n}'>")).collect();
    assert_eq!(refused(&rebinding, limits()), XmlError::TooDeep(128));
    // Numbers and times of any length are refused, not computed with.
    let digits = "9".repeat(1_000_000);
    for element in ["I32", "U64", "D", "Db", "Version", "DT", "TS", "G"] {
        let _ = read(format!("<{element}>{digits}</{element}>").as_bytes(), &limits()).unwrap_err();
    }
}

/// Every file that PowerShell wrote decodes, and what is written of it decodes to the same.
#[test]
fn recorded_files() {
    let Some(folder) = exops_testkit::samples("clixml") else { return };
    // One has objects of .NET's reflection that are their own members.
    let limits = || Limits { own_members: true, ..Limits::default() };
    let (mut documents, mut objects) = (0, 0);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let values = match read_document(&bytes, &limits()) {
            Ok(values) => values,
            // Some of the recordings are XML of other kinds.
            Err(ClixmlError::UnexpectedElement { name, .. })
                if ["Configuration", "Definition", "configuration"].contains(&name.as_str()) =>
            {
                continue;
            }
            Err(ClixmlError::Xml(XmlError::Declaration(_))) => continue,
            Err(error) => panic!("{}: {error}", file.display()),
        };
        let again = read_document(write_document(&values).as_bytes(), &limits()).unwrap();
        assert_eq!(again, values, "{}", file.display());
        for value in &values {
            assert_eq!(&decode(&write(value)).unwrap(), value, "{}", file.display());
        }
        documents += 1;
        objects += values.len();
    }
    assert!(documents >= 55 && objects > documents, "{documents} documents, {objects} objects");
}
