//! OPATH filters: what is understood, how it is refused, what it matches.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use exops_filter::{Filter, Operator, parse_opath};
use exops_psobject::{DateTime, PsObject, Value};
use proptest::prelude::*;
use uuid::Uuid;

fn compare(property: &str, operator: Operator, value: impl Into<Value>) -> Filter {
    Filter::Compare { property: property.to_owned(), operator, value: value.into() }
}

#[test]
fn what_is_understood() {
    let alias = || compare("Alias", Operator::Equal, "x");
    let name = || compare("Name", Operator::Like, "y*");
    let office = || compare("Office", Operator::NotEqual, Value::Null);
    for (text, filter) in [
        ("Alias -eq 'x'", alias()),
        ("{Alias -EQ \"x\"}", alias()),
        (" { ( (Alias -eq 'x') ) } ", alias()),
        ("Alias \u{2013}eq \u{2018}x\u{2019}", alias()),
        ("Alias \u{2014}eq \u{201C}x\u{201D}", alias()),
        ("Alias -eq 'it''s'", compare("Alias", Operator::Equal, "it's")),
        ("Alias -eq \"a\"\"b'c\"", compare("Alias", Operator::Equal, "a\"b'c")),
        ("Alias -eq ''", compare("Alias", Operator::Equal, "")),
        ("n -lt 5", compare("n", Operator::Less, Value::I64(5))),
        ("n -ge -5", compare("n", Operator::GreaterOrEqual, Value::I64(-5))),
        ("n -le 1.5", compare("n", Operator::LessOrEqual, Value::Double(1.5))),
        ("n -gt $True", compare("n", Operator::Greater, true)),
        ("n -notlike $false", compare("n", Operator::NotLike, false)),
        ("Office -ne $null", office()),
        ("Alias -eq 'x' -and Name -like 'y*' -and Office -ne $null", Filter::And(vec![alias(), name(), office()])),
        ("Alias -eq 'x' -AND(Name -like 'y*' -or Office -ne $null)", Filter::And(vec![alias(), Filter::Or(vec![name(), office()])])),
        // Equal precedence, from left to right, as PowerShell has it.
        ("Alias -eq 'x' -or Name -like 'y*' -and Office -ne $null", Filter::And(vec![Filter::Or(vec![alias(), name()]), office()])),
        ("Alias -eq 'x' -and Name -like 'y*' -or Office -ne $null", Filter::Or(vec![Filter::And(vec![alias(), name()]), office()])),
        ("-not Alias -eq 'x' -and Name -like 'y*'", Filter::And(vec![Filter::Not(Box::new(alias())), name()])),
        ("-not(Alias -eq 'x' -or Name -like 'y*')", Filter::Not(Box::new(Filter::Or(vec![alias(), name()])))),
        ("-not -not Alias -eq 'x'", Filter::Not(Box::new(Filter::Not(Box::new(alias()))))),
    ] {
        assert_eq!(parse_opath(text).unwrap(), filter, "{text}");
    }
    assert_eq!(parse_opath("a -eq 1 -or (b -eq 2 -and a -eq 3)").unwrap().properties(), ["a", "b", "a"]);
}

#[test]
fn what_is_refused() {
    for (text, position, word) in [
        ("", 1, "property"),
        ("{}", 2, "property"),
        ("Alias", 6, "-notlike"),
        ("Alias eq 'x'", 7, "\"eq\""),
        ("Alias -equals 'x'", 7, "-equals"),
        ("Alias -and 'x'", 7, "operator"),
        ("Alias -eq", 10, "value"),
        ("Alias -eq x", 11, "quotes"),
        ("Alias -eq $x", 11, "$x"),
        ("Alias -eq 'x", 11, "not closed"),
        ("Alias -eq 5MB", 11, "number"),
        ("Alias -eq 99999999999999999999", 11, "number"),
        ("(Alias -eq 'x'", 15, "')'"),
        ("{Alias -eq 'x'", 15, "'}'"),
        ("Alias -eq 'x')", 14, "the end"),
        ("Alias -eq 'x'}", 14, "the end"),
        ("Alias -eq 'x' Name -eq 'y'", 15, "\"Name\""),
        ("Alias -eq 'x' -and", 19, "property"),
        ("'x' -eq Alias", 1, "property"),
        ("Alias -eq 'é' ; Remove-Mailbox", 15, "';'"),
        ("Alias -eq (Get-Mailbox)", 11, "value"),
        ("é -eq 1 !", 9, "'!'"),
    ] {
        let error = parse_opath(text).unwrap_err();
        assert_eq!(error.position, position, "{text}: {error}");
        assert!(error.to_string().contains(word), "{text}: {error}");
    }
    // Shallow in parentheses and changes between -and and -or each, a tall tree together.
    let tall = (0..12).fold("a -eq 1".to_owned(), |inner, _| format!("({inner}{})", " -and a -eq 1 -or a -eq 1".repeat(5)));
    // Bounds: length, depth, number of comparisons.
    for text in [
        tall,
        format!("a -eq '{}'", "x".repeat(70_000)),
        format!("{}a -eq 1{}", "(".repeat(1_000), ")".repeat(1_000)),
        format!("{}a -eq 1", "-not ".repeat(10_000)),
        vec!["a -eq 1"; 1_001].join(" -and "),
        vec!["a -eq 1 -and b -eq 1"; 100].join(" -or "),
    ] {
        let message = parse_opath(&text).unwrap_err().to_string();
        assert!(message.contains("than"), "{message}");
    }
    assert!(parse_opath(&vec!["a -eq 1"; 1_000].join(" -or ")).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_text_is_read_or_refused(text in prop_oneof![any::<String>(), "([a-z]{1,3}|-and|-or|-not|-eq|\\(|\\)|'|\"|[0-9.]{1,3}|\\$true|–| |\\{){0,30}"]) {
        if let Ok(filter) = parse_opath(&text) {
            let _ = filter.matches(&|_| None);
        }
    }
}

#[test]
fn what_matches() {
    let time = |text: &str| Value::from(DateTime::parse(text).unwrap());
    let lookup = |name: &str| -> Option<Value> {
        Some(match name.to_ascii_lowercase().as_str() {
            "alias" => "Adele.Vance".into(),
            "empty" => "".into(),
            "null" => Value::Null,
            "none" => PsObject::from_list(Vec::new()).into(),
            "addresses" => PsObject::from_list(vec!["SMTP:adele@contoso.com".into(), "smtp:av@contoso.com".into()]).into(),
            "count" => Value::I32(42),
            "big" => Value::I64(i64::MAX),
            "ratio" => Value::Double(0.5),
            "hidden" => true.into(),
            "created" => time("2024-05-01T08:00:00Z"),
            "guid" => Uuid::from_u128(0xABCDEF).into(),
            "type" => PsObject::enumeration([Arc::from("Kind")].as_slice().into(), "RoomMailbox", 16).into(),
            "umlaut" => "MÜLLER".into(),
            _ => return None,
        })
    };
    for (text, expected) in [
        ("Alias -eq 'adele.VANCE'", true),
        ("Alias -eq 'adele'", false),
        ("Alias -ne 'adele'", true),
        ("Alias -like 'adele*'", true),
        ("Alias -like '*vance'", true),
        ("Alias -like '*e.v*'", true),
        ("Alias -like 'a*.*e'", true),
        ("Alias -like '*'", true),
        ("Alias -like 'adele'", false),
        ("Alias -like 'adele.vance*vance'", false),
        ("Alias -like 'adele?vance'", false),
        ("Alias -eq 'adele*'", false),
        ("Alias -notlike '*x*'", true),
        ("Alias -gt 'adele'", true),
        ("Alias -lt 'B'", true),
        ("Umlaut -eq 'müller'", true),
        ("Empty -eq $null", true),
        ("Null -eq ''", true),
        ("None -eq $null", true),
        ("Missing -eq $null", true),
        ("Alias -ne $null", true),
        ("Null -ne 'x'", true),
        ("Null -lt 5", false),
        ("Null -like '*'", false),
        ("Addresses -eq 'smtp:AV@contoso.com'", true),
        ("Addresses -like '*adele@*'", true),
        ("Addresses -ne 'smtp:av@contoso.com'", false),
        ("Addresses -notlike '*fabrikam*'", true),
        ("Addresses -ne $null", true),
        ("Count -eq 42", true),
        ("Count -eq '42'", true),
        ("Count -gt 9", true),
        ("Count -gt '9'", true),
        ("Count -le 41.5", false),
        ("Count -eq 'x'", false),
        ("Big -eq 9223372036854775807", true),
        ("Big -eq 9223372036854775806", false),
        ("Ratio -lt 1", true),
        ("Hidden -eq $true", true),
        ("Hidden -eq 'True'", true),
        ("Hidden -eq '$false'", false),
        ("Hidden -ne 'yes'", true),
        ("Created -gt '2024-04-30'", true),
        ("Created -eq '2024-05-01T10:00:00+02:00'", true),
        ("Created -lt '5/1/2024'", false),
        ("Created -le '5/1/2024 8:00:00 AM'", true),
        ("Created -lt '5/1/2024 8:00 PM'", true),
        ("Created -lt '13/1/2024'", false),
        ("Created -gt 'soon'", false),
        ("Guid -eq '00000000-0000-0000-0000-000000ABCDEF'", true),
        ("Type -eq 'roommailbox'", true),
        ("Type -eq 16", true),
        ("Type -eq 'UserMailbox'", false),
        ("Type -like 'Room*'", true),
        ("Alias -like 'a*' -and Hidden -eq $false -or Count -eq 42", true),
        ("Count -eq 42 -or Alias -like 'a*' -and Hidden -eq $false", false),
        ("-not (Alias -like 'a*' -and Hidden -eq $false)", true),
    ] {
        assert_eq!(parse_opath(text).unwrap().matches(&lookup), expected, "{text}");
    }
    assert!(Filter::All.matches(&|_| None));
}
