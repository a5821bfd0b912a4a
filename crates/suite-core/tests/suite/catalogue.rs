//! The built-in catalogue against facts that are known of it, and binding by PowerShell's rules.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use exops_catalogue::{
    Argument, BoundCommand, COMMON_PARAMETERS, Catalogue, Command, ConfirmImpact, LocalStage, ParameterKind, Pipeline, Stage, UnknownNames,
    Validator, bind, bind_input, bind_session, convert, view,
};
use exops_psobject::{Base, DateTime, ErrorCategory, ErrorRecord, ListKind, Properties, PsObject, TimeSpan, Value};
use proptest::prelude::*;
use uuid::Uuid;

fn named(name: &str) -> Argument {
    Argument { name: Some(name.into()), value: None, glued: false }
}

fn value(value: impl Into<Value>) -> Argument {
    Argument { name: None, value: Some(value.into()), glued: false }
}

fn glued(name: &str, value: impl Into<Value>) -> Argument {
    Argument { name: Some(name.into()), value: Some(value.into()), glued: true }
}

fn list<const N: usize>(items: [Value; N]) -> Value {
    PsObject::from_list(items.into()).into()
}

fn command(name: &str, arguments: Vec<Argument>) -> Command {
    Command { arguments, ..Command::new(name) }
}

fn bind_one(command: Command) -> Result<BoundCommand, Box<ErrorRecord>> {
    let bound = bind(&Catalogue::built_in(), &command.into(), UnknownNames::Refuse).map_err(|e| e.record)?;
    match bound.stages.into_iter().next() {
        Some(Stage::Cmdlet(command) | Stage::Local(_, command)) => Ok(command),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_table_holds_what_the_session_offered() {
    let catalogue = Catalogue::built_in();
    assert_eq!(catalogue.len(), 787);
    assert_eq!(catalogue.names().count(), 787);
    let own: usize = catalogue.cmdlets().map(|c| c.parameters.iter().filter(|p| !p.common).count()).sum();
    assert_eq!(own, 5907);
    let with = |impact| catalogue.cmdlets().filter(|c| c.impact == impact).count();
    assert_eq!((with(ConfirmImpact::High), with(ConfirmImpact::Medium), with(ConfirmImpact::None)), (129, 303, 355));
    let of_kind = |kind| catalogue.cmdlets().flat_map(|c| &c.parameters).filter(|p| !p.common && p.kind == kind).count();
    assert_eq!(
        [ParameterKind::Switch, ParameterKind::Boolean, ParameterKind::Int32, ParameterKind::TextList, ParameterKind::SecureString]
            .map(of_kind),
        [638, 943, 174, 59, 19]
    );
    let checks = |wanted: fn(&Validator) -> bool| {
        catalogue.cmdlets().flat_map(|c| &c.parameters).filter(|p| !p.common).flat_map(|p| &p.validators).filter(|v| wanted(v)).count()
    };
    assert_eq!(checks(|v| *v == Validator::NotNullOrEmpty), 215);
    assert_eq!(checks(|v| *v == Validator::NotNull), 103);
    assert_eq!(checks(|v| matches!(v, Validator::Length(..))), 44);
    assert_eq!(checks(|v| matches!(v, Validator::Range(..))), 9);
    assert_eq!(checks(|v| matches!(v, Validator::Set(_))), 5);
    assert_eq!(checks(|v| matches!(v, Validator::Count(..))), 4);
    for cmdlet in catalogue.cmdlets() {
        assert!(cmdlet.verb() != &*cmdlet.name && !cmdlet.parameters.is_empty(), "{}", cmdlet.name);
        assert!(Arc::ptr_eq(catalogue.cmdlet(&cmdlet.name.to_uppercase()).unwrap(), cmdlet));
        for parameter in &cmdlet.parameters {
            assert!(!parameter.name.is_empty() && !parameter.type_name.is_empty() && !parameter.sets.is_empty(), "{}", cmdlet.name);
            // Names differ, without case, from all other names and aliases: no name means two parameters.
            let same = cmdlet.parameters.iter().filter(|p| p.name.eq_ignore_ascii_case(&parameter.name));
            assert_eq!(same.count(), 1, "{} -{}", cmdlet.name, parameter.name);
        }
        let common: Vec<&str> = cmdlet.parameters.iter().filter(|p| p.common).map(|p| &*p.name).collect();
        let expected: &[&str] = if cmdlet.supports_should_process { &["WhatIf", "Confirm"] } else { &[] };
        assert_eq!(common, [&COMMON_PARAMETERS[..], expected].concat());
    }
}

#[test]
fn single_facts_of_single_cmdlets() {
    let catalogue = Catalogue::built_in();
    let get = catalogue.cmdlet("get-mailbox").unwrap();
    assert_eq!((&*get.name, get.default_set.as_deref(), get.is_read()), ("Get-Mailbox", Some("Identity"), true));
    let identity = get.parameter("IDENTITY").unwrap();
    let part = identity.membership(Some("Identity")).unwrap();
    assert_eq!((part.position, part.mandatory, part.from_pipeline, part.from_pipeline_by_property_name), (Some(0), false, true, true));
    assert!(identity.membership(Some("AnrSet")).is_none());
    assert_eq!((&*identity.type_name, identity.kind), ("MailboxIdParameter", ParameterKind::Any));
    assert_eq!(get.parameter("Anr").unwrap().validators, [Validator::Length(3, 5120)]);
    assert_eq!(&*get.parameter("ResultSize").unwrap().type_name, "Unlimited");
    let set = catalogue.cmdlet("Set-Mailbox").unwrap();
    assert!(set.supports_should_process && !set.is_read() && set.impact == ConfirmImpact::Medium);
    assert!(set.parameter("Identity").unwrap().membership(Some("Identity")).unwrap().mandatory);
    assert_eq!(set.parameter("HiddenFromAddressListsEnabled").unwrap().kind, ParameterKind::Boolean);
    assert_eq!(&*set.parameter("wi").unwrap().name, "WhatIf");
    assert_eq!(&*set.parameter("infa").unwrap().name, "InformationAction");
    assert_eq!(&*catalogue.cmdlet("Get-MoveRequest").unwrap().parameter("MoveStatus").unwrap().name, "Status");
    assert_eq!(catalogue.cmdlet("Remove-Mailbox").unwrap().impact, ConfirmImpact::High);
    assert_eq!(catalogue.cmdlet("New-Mailbox").unwrap().default_set.as_deref(), Some("User"));
    assert!(catalogue.cmdlet("Search-AdminAuditLog").unwrap().is_read());
    let restricted = set.restricted(|p| &*p.name == "Identity");
    assert_eq!(restricted.parameters.len(), 1 + 13);
    let columns = view::table_columns("Deserialized.Microsoft.Exchange.Data.Directory.Management.Mailbox").unwrap();
    assert_eq!(
        columns.iter().map(|c| c.property).collect::<Vec<_>>().join(" "),
        "Name Alias Database ProhibitSendQuota ExternalDirectoryObjectId"
    );
    assert_eq!(columns.first().unwrap().width, Some(25));
    assert!(view::table_columns("System.String").is_none());
}

/// cmdlet names that look like another one are nobody's name, and script text never runs.
#[test]
fn a_03_names_of_cmdlets_are_whole_or_unknown() {
    for name in ["get-mailbox", "GET-MAILBOX", "Get-Mailbox"] {
        assert_eq!(&*bind_one(Command::new(name)).unwrap().cmdlet.name, "Get-Mailbox");
    }
    let tricks = [
        "Get-Mailbo",
        "Get-Mailbox ",
        " Get-Mailbox",
        "Get-Mailbox\u{a0}",
        "Get-Mailbox\0",
        "Get-Mailb?x",
        "Get-Mail*",
        "*",
        "",
        "ExchangeOnlineManagement\\Get-Mailbox",
        "\\Get-Mailbox",
        "Mailbox",
        "Get\u{2013}Mailbox",
        "Get\u{2014}Mailbox",
        "Get-\u{041c}ailbox",
        "Get-Mailbo\u{445}",
        "\u{ff27}et-Mailbox",
        "G\u{435}t-Mailbox",
        "Get-Mailbox;Remove-Mailbox",
        "& Get-Mailbox",
        ". Get-Mailbox",
        "'Get-Mailbox'",
        "\u{2018}Get-Mailbox\u{2019}",
        "\"Get-Mailbox\"",
        "Get-Mailbox\u{200b}",
        "\u{202e}xobliaM-teG",
        "gm",
        "select",
        "?",
        "%",
        "iex",
        "Invoke-Expression",
        "Where-Object",
        "ForEach-Object",
        "cmd",
        "/bin/sh",
        "\u{212a}et-X",
    ];
    for name in tricks {
        let error = bind_one(Command::new(name)).unwrap_err();
        assert_eq!(&*error.fully_qualified_error_id, "CommandNotFoundException", "{name:?}");
        assert_eq!(
            (error.category, error.exception_type()),
            (ErrorCategory::ObjectNotFound, "System.Management.Automation.CommandNotFoundException")
        );
        assert_eq!((error.target_object.as_str(), &*error.activity, &*error.target_name), (Some(name), "", name));
        assert!(error.message.starts_with(&format!(
            "The term '{name}' is not recognized as the name of a cmdlet, function, script file, or operable program."
        )));
    }
    let long = bind_one(Command::new("x".repeat(1 << 20))).unwrap_err();
    assert!(long.message.len() < 2000 && long.target_name.len() <= 1000);
    for script in ["Get-Mailbox", "Get-Mailbox | ? { $_.Name }", "", "Invoke-Expression 'Get-Mailbox'"] {
        let error = bind_one(Command { is_script: true, ..Command::new(script) }).unwrap_err();
        assert_eq!(&*error.fully_qualified_error_id, "ScriptsNotAllowed");
        assert_eq!(&*error.message, "The syntax is not supported by this runspace. This can occur if the runspace is in no-language mode.");
    }
    let error = bind(&Catalogue::built_in(), &Pipeline::default(), UnknownNames::Pass).unwrap_err();
    assert_eq!(&*error.record.fully_qualified_error_id, "EmptyPipeElement");
}

/// What a bound command holds, as text: `Set: -Name value …`.
fn shown(bound: &BoundCommand) -> String {
    let arguments = bound.arguments.iter().map(|a| format!(" -{} {}", a.parameter.name, a.value.display()));
    format!("{}:{}", bound.set.as_deref().unwrap_or("-"), arguments.collect::<String>())
}

/// however a parameter is named (prefix, alias, position, glued), what comes out is one bound form.
#[test]
fn a_04_parameters_bind_as_in_powershell() {
    let switch_object = PsObject {
        to_string: Some("False".into()),
        adapted: Properties::from_iter([("IsPresent", Value::Bool(false))]),
        ..PsObject::default()
    };
    let ten_megabytes = PsObject { to_string: Some("10MB".into()), base: Base::Primitive(Value::I32(10_485_760)), ..PsObject::default() };
    let rows: Vec<(&str, Vec<Argument>, &str)> = vec![
        ("Get-Mailbox", vec![], "Identity:"),
        ("Get-Mailbox", vec![value("ann")], "Identity: -Identity ann"),
        ("Get-Mailbox", vec![named("Identity"), value("ann")], "Identity: -Identity ann"),
        ("Get-Mailbox", vec![named("iD"), value("ann")], "Identity: -Identity ann"),
        ("Get-Mailbox", vec![glued("Identity", "ann")], "Identity: -Identity ann"),
        ("Get-Mailbox", vec![named("Anr"), value("ann")], "AnrSet: -Anr ann"),
        ("Get-Mailbox", vec![named("MailboxPlan"), value("x")], "MailboxPlanSet: -MailboxPlan x"),
        // A switch leaves the value that follows it to a position.
        ("Get-Mailbox", vec![named("Archive"), value("ann")], "Identity: -Archive True -Identity ann"),
        ("Get-Mailbox", vec![named("arch")], "Identity: -Archive True"),
        ("Get-Mailbox", vec![glued("Archive", false)], "Identity: -Archive False"),
        ("Get-Mailbox", vec![glued("Archive", switch_object)], "Identity: -Archive False"),
        ("Get-Mailbox", vec![glued("Archive", Value::Null)], "Identity: -Archive True"),
        ("Get-Mailbox", vec![Argument { glued: true, ..named("Archive") }], "Identity: -Archive True"),
        ("Get-Mailbox", vec![named("ResultSize"), value(5), value("ann")], "Identity: -ResultSize 5 -Identity ann"),
        ("Get-Mailbox", vec![named("Filter"), value(Value::ScriptBlock("Alias -eq 'x'".into()))], "Identity: -Filter Alias -eq 'x'"),
        // A prefix that fits one own parameter and common ones (-OutVariable) means the own one.
        ("Set-AcceptedDomain", vec![value("x"), glued("Out", true)], "Identity: -OutboundOnly True -Identity x"),
        ("Get-Mailbox", vec![named("vb")], "Identity: -Verbose True"),
        ("Get-Mailbox", vec![glued("Verbose", "False")], "Identity: -Verbose False"),
        ("Get-Mailbox", vec![named("ea"), value("stop")], "Identity: -ErrorAction stop"),
        ("Set-Mailbox", vec![value("ann"), named("DisplayName"), value("Ann")], "Identity: -DisplayName Ann -Identity ann"),
        ("Set-Mailbox", vec![value("ann"), named("wi"), glued("cf", false)], "Identity: -WhatIf True -Confirm False -Identity ann"),
        (
            "Set-Mailbox",
            vec![value("ann"), glued("HiddenFromAddressListsEnabled", 1)],
            "Identity: -HiddenFromAddressListsEnabled True -Identity ann",
        ),
        (
            "Set-Mailbox",
            vec![value("ann"), named("RemoveDelayHoldApplied")],
            "RemoveDelayHoldApplied: -RemoveDelayHoldApplied True -Identity ann",
        ),
        ("New-Mailbox", vec![value("Room 1"), named("Room")], "Room: -Room True -Name Room 1"),
        // Two positions: the first nameless value goes to the first free one.
        ("New-DkimSigningConfig", vec![value("a.example"), value(true)], "-: -DomainName a.example -Enabled True"),
        ("New-DkimSigningConfig", vec![value(true), glued("DomainName", "a.example")], "-: -DomainName a.example -Enabled True"),
        ("Search-AdminAuditLog", vec![glued("ResultSize", 7)], "Identity: -ResultSize 7"),
        ("Search-AdminAuditLog", vec![glued("StartIndex", ten_megabytes)], "Identity: -StartIndex 10485760"),
        ("Search-AdminAuditLog", vec![glued("StartIndex", "1kb")], "Identity: -StartIndex 1024"),
        ("Select-Object", vec![value(list(["Name".into(), "Alias".into()]))], "DefaultParameter: -Property Name Alias"),
        ("select-object", vec![named("f"), value(3)], "DefaultParameter: -First 3"),
        ("Measure-Object", vec![], "-:"),
    ];
    for (name, arguments, expected) in rows {
        let sent = format!("{name} {arguments:?}");
        match bind_one(command(name, arguments)) {
            Ok(bound) => assert_eq!(shown(&bound), expected, "{sent}"),
            Err(error) => panic!("{sent}: {}", error.message),
        }
    }
}

/// a parameter that does not resolve to exactly one, or to one twice, is refused.
#[test]
fn a_04_what_does_not_bind_is_refused_by_name() {
    let long = "é".repeat(6000);
    let rows: Vec<(&str, Vec<Argument>, &str, &str)> = vec![
        (
            "Get-Mailbox",
            vec![glued("NoSuch", 1)],
            "NamedParameterNotFound",
            "A parameter cannot be found that matches parameter name 'NoSuch'.",
        ),
        ("Get-Mailbox", vec![glued("", 1)], "NamedParameterNotFound", "parameter name ''"),
        ("Get-Mailbox", vec![glued("Identity ", 1)], "NamedParameterNotFound", "parameter name 'Identity '"),
        ("Get-Mailbox", vec![glued("-Identity", 1)], "NamedParameterNotFound", "parameter name '-Identity'"),
        ("Get-Mailbox", vec![glued("Ident\u{131}ty", 1)], "NamedParameterNotFound", "matches parameter name"),
        ("Get-Mailbox", vec![glued("*", 1)], "NamedParameterNotFound", "parameter name '*'"),
        (
            "Get-Mailbox",
            vec![glued("IncludeA", true)],
            "AmbiguousParameter",
            "ambiguous. Possible matches include: -IncludeAcceptMessagesOnlyFromDLMembersWithDisplayNames -Include",
        ),
        ("Set-Mailbox", vec![value("a"), glued("CustomAttribute", "x")], "AmbiguousParameter", "-CustomAttribute1 -CustomAttribute10"),
        (
            "Get-Mailbox",
            vec![value("a"), glued("Identity", "b")],
            "PositionalParameterNotFound",
            "A positional parameter cannot be found that accepts argument 'a'.",
        ),
        ("Get-Mailbox", vec![value("a"), value("b")], "PositionalParameterNotFound", "accepts argument 'b'"),
        (
            "Get-Mailbox",
            vec![glued("Identity", "a"), glued("Id", "b")],
            "ParameterAlreadyBound",
            "parameter 'Identity' is specified more than once",
        ),
        ("Set-Mailbox", vec![value("a"), named("wi"), named("WhatIf")], "ParameterAlreadyBound", "parameter 'WhatIf'"),
        (
            "Get-Mailbox",
            vec![named("Identity")],
            "MissingArgument",
            "Missing an argument for parameter 'Identity'. Specify a parameter of type 'MailboxIdParameter'",
        ),
        ("Get-Mailbox", vec![named("Identity"), named("Archive")], "MissingArgument", "parameter 'Identity'"),
        ("Get-Mailbox", vec![value("a"), glued("Anr", "abc")], "PositionalParameterNotFound", "'a'"),
        (
            "Get-Mailbox",
            vec![glued("Identity", "a"), glued("Anr", "abc")],
            "AmbiguousParameterSet",
            "Parameter set cannot be resolved using the specified named parameters.",
        ),
        ("Get-Mailbox", vec![value("a"), glued("Identity", "a"), glued("Anr", "abc")], "AmbiguousParameterSet", "cannot be resolved"),
        (
            "Set-Mailbox",
            vec![glued("DisplayName", "x")],
            "MissingMandatoryParameter",
            "Cannot process command because of one or more missing mandatory parameters: Identity.",
        ),
        (
            "Set-Mailbox",
            vec![glued("Identity", Value::Null)],
            "ParameterArgumentValidationErrorNullNotAllowed",
            "parameter 'Identity' because it is null",
        ),
        (
            "Set-Mailbox",
            vec![value("")],
            "ParameterArgumentValidationErrorEmptyStringNotAllowed",
            "parameter 'Identity' because it is an empty string",
        ),
        ("Set-Mailbox", vec![value(list([]))], "ParameterArgumentValidationErrorEmptyArrayNotAllowed", "empty array"),
        (
            "Set-Mailbox",
            vec![value("a"), glued("AuditEnabled", Value::Null)],
            "ParameterArgumentValidationErrorNullNotAllowed",
            "'AuditEnabled'",
        ),
        (
            "Set-Mailbox",
            vec![value("a"), glued("AuditEnabled", "yes")],
            "CannotConvertArgumentNoMessage",
            "Cannot bind parameter 'AuditEnabled'. Cannot convert value \"System.String\" to type \"System.Boolean\".",
        ),
        (
            "Set-Mailbox",
            vec![value("a"), glued("Force", "x")],
            "CannotConvertArgumentNoMessage",
            "to type \"System.Management.Automation.SwitchParameter\"",
        ),
        (
            "Set-Mailbox",
            vec![value("a"), glued("DisplayName", list(["x".into()]))],
            "CannotConvertArgument",
            "Cannot convert 'System.Object[]' to the type 'System.String' required by parameter 'DisplayName'.",
        ),
        (
            "Set-Mailbox",
            vec![value("a"), glued("Password", "hunter2-canary")],
            "CannotConvertArgument",
            "type 'System.Security.SecureString' required by parameter 'Password'",
        ),
        (
            "Search-AdminAuditLog",
            vec![glued("ResultSize", "many")],
            "CannotConvertArgumentNoMessage",
            "Cannot convert value \"many\" to type \"System.Int32\". Error: \"Input string was not in a correct format.\"",
        ),
        (
            "Search-AdminAuditLog",
            vec![glued("ResultSize", 3_000_000_000i64)],
            "CannotConvertArgumentNoMessage",
            "either too large or too small for an Int32",
        ),
        (
            "Search-AdminAuditLog",
            vec![glued("ResultSize", 0)],
            "ParameterArgumentValidationError",
            "Cannot validate argument on parameter 'ResultSize'. The 0 argument is less than the minimum allowed range of 1.",
        ),
        (
            "Search-AdminAuditLog",
            vec![glued("ResultSize", 250_001)],
            "ParameterArgumentValidationError",
            "greater than the maximum allowed range of 250000",
        ),
        (
            "Get-Mailbox",
            vec![glued("Anr", "ab")],
            "ParameterArgumentValidationError",
            "The character length (2) of the argument is too short.",
        ),
        (
            "Get-Mailbox",
            vec![glued("Anr", long.as_str())],
            "ParameterArgumentValidationError",
            "The character length of the 6000 argument is too long.",
        ),
        (
            "Get-Mailbox",
            vec![glued("Filter", "")],
            "ParameterArgumentValidationError",
            "parameter 'Filter'. The argument is null or empty.",
        ),
        (
            "Get-Mailbox",
            vec![glued("RecipientTypeDetails", list([Value::Null]))],
            "ParameterArgumentValidationError",
            "contains a null value",
        ),
        (
            "New-DkimSigningConfig",
            vec![value("a"), value(true), glued("KeySize", 512)],
            "ParameterArgumentValidationError",
            "The argument \"512\" does not belong to the set \"1024,2048\"",
        ),
        ("Get-Mailbox", vec![glued("ErrorAction", "Explode")], "ParameterArgumentValidationError", "does not belong to the set"),
        ("Select-Object", vec![glued("First", -1)], "ParameterArgumentValidationError", "'First'"),
        ("Select-Object", vec![value(Value::ScriptBlock("$_.Name".into()))], "CannotConvertArgument", "'Property'"),
        ("Measure-Object", vec![value("x")], "PositionalParameterNotFound", "'x'"),
    ];
    for (name, arguments, id, text) in rows {
        let sent = format!("{name} {arguments:?}");
        let error = bind_one(command(name, arguments)).map(|bound| shown(&bound)).unwrap_err();
        let (found, class) = error.fully_qualified_error_id.split_once(',').unwrap();
        assert_eq!(found, id, "{sent}: {}", error.message);
        assert!(error.message.contains(text), "{sent}: {}", error.message);
        assert!(class == name || class.starts_with("Microsoft.PowerShell.Commands."), "{class}");
        assert_eq!(&*error.activity, name);
        assert!(error.exception_types.iter().any(|t| &**t == "System.Management.Automation.ParameterBindingException"), "{sent}");
        let data = id.starts_with("ParameterArgumentValidationError");
        assert_eq!(error.category, if data { ErrorCategory::InvalidData } else { ErrorCategory::InvalidArgument }, "{sent}");
        assert!(!format!("{error:?}").contains("canary"), "{sent}");
    }
}

#[test]
fn pipelines_local_stages_and_what_a_client_passes_on() {
    let catalogue = Catalogue::built_in();
    let commands = vec![Command::new("Get-Mailbox"), Command::new("Set-Mailbox").with("DisplayName", "x"), Command::new("Measure-Object")];
    let bound = bind(&catalogue, &Pipeline { commands }, UnknownNames::Refuse).unwrap();
    // Behind a pipe the mandatory identity comes with the objects.
    assert!(
        matches!(&bound.stages[..], [Stage::Cmdlet(_), Stage::Cmdlet(set), Stage::Local(LocalStage::MeasureObject, _)] if set.argument("Identity").is_none())
    );
    let passed = |command: Command| bind(&catalogue, &command.into(), UnknownNames::Pass);
    let unknown = Command::new("Get-MessageTraceV2").with("StartDate", "2026-01-01");
    assert_eq!(passed(unknown.clone()).unwrap().stages, [Stage::Unresolved(unknown)]);
    let newer = Command::new("Get-Mailbox").with("Brand", "new");
    assert_eq!(passed(newer.clone()).unwrap().stages, [Stage::Unresolved(newer)]);
    // What is known and wrong is wrong here already.
    assert!(passed(Command::new("Set-Mailbox").with("AuditEnabled", "yes").with("Identity", "a")).is_err());
    assert!(passed(Command::new("Set-Mailbox")).is_err());
    // A caller's own catalogue decides, not the built-in one.
    let reader = Catalogue::new([Arc::new(catalogue.cmdlet("Get-Mailbox").unwrap().restricted(|p| &*p.name == "Identity"))]);
    let refused =
        |command: Command| bind(&reader, &command.into(), UnknownNames::Refuse).unwrap_err().record.fully_qualified_error_id.to_string();
    assert_eq!(refused(Command::new("Set-Mailbox")), "CommandNotFoundException");
    assert_eq!(refused(Command::new("Get-Mailbox").with("ResultSize", 1)), "NamedParameterNotFound,Get-Mailbox");
}

#[test]
fn values_convert_by_kind() {
    let time = DateTime::parse("2026-09-01T17:05:00").unwrap();
    let guid = Uuid::from_u128(7);
    let rows: Vec<(Value, ParameterKind, Option<Value>)> = vec![
        (Value::I64(5), ParameterKind::Int32, Some(Value::I32(5))),
        (" 0x1F ".into(), ParameterKind::Int32, Some(Value::I32(31))),
        (Value::Double(2.5), ParameterKind::Int32, Some(Value::I32(2))),
        ("3.5".into(), ParameterKind::Int32, Some(Value::I32(4))),
        (Value::Double(f64::NAN), ParameterKind::Int32, None),
        ("99999999999999999999".into(), ParameterKind::Int32, None),
        ("0x".into(), ParameterKind::Int32, None),
        ("9999999PB".into(), ParameterKind::Int32, None),
        ("inf".into(), ParameterKind::Int32, None),
        ("é1".into(), ParameterKind::Int32, None),
        (Value::I32(-1), ParameterKind::UInt32, None),
        (Value::U64(u64::MAX), ParameterKind::UInt32, None),
        (Value::Null, ParameterKind::Int32, None),
        (Value::Null, ParameterKind::Text, Some(Value::Null)),
        (Value::I32(5), ParameterKind::Text, Some("5".into())),
        (Value::SecureString("c2VjcmV0".into()), ParameterKind::Text, None),
        ("a".into(), ParameterKind::TextList, Some(list(["a".into()]))),
        (list([Value::I32(1), Value::Null]), ParameterKind::TextList, Some(list(["1".into(), Value::Null]))),
        ("{00000000-0000-0000-0000-000000000007}".into(), ParameterKind::Guid, Some(guid.into())),
        ("(00000000-0000-0000-0000-000000000007)".into(), ParameterKind::Guid, Some(guid.into())),
        ("7".into(), ParameterKind::Guid, None),
        ("9/1/2026 5:05 PM".into(), ParameterKind::DateTime, Some(time.into())),
        ("09/01/2026 17:05:00".into(), ParameterKind::DateTime, Some(time.into())),
        ("2026-09-01T17:05:00".into(), ParameterKind::DateTime, Some(time.into())),
        ("2026-09-01".into(), ParameterKind::DateTime, DateTime::parse("2026-09-01T00:00:00").map(Value::DateTime)),
        ("13/13/2026".into(), ParameterKind::DateTime, None),
        ("yesterday".into(), ParameterKind::DateTime, None),
        ("14.00:00:00".into(), ParameterKind::TimeSpan, Some(Value::TimeSpan(TimeSpan(14 * 864_000_000_000)))),
        ("14".into(), ParameterKind::TimeSpan, Some(Value::TimeSpan(TimeSpan(14 * 864_000_000_000)))),
        ("10675199".into(), ParameterKind::TimeSpan, Some(Value::TimeSpan(TimeSpan(10_675_199 * 864_000_000_000)))),
        ("10675200".into(), ParameterKind::TimeSpan, None),
        (list([Value::I32(1), Value::I32(255)]), ParameterKind::Bytes, Some(Value::Bytes([1, 255].into()))),
        (list([Value::I32(256)]), ParameterKind::Bytes, None),
        ("x".into(), ParameterKind::Credential, None),
        ("x".into(), ParameterKind::Hashtable, None),
        (list([]), ParameterKind::Any, Some(list([]))),
    ];
    for (value, kind, expected) in rows {
        assert_eq!(convert(&value, kind).ok(), expected, "{value:?} as {kind:?}");
    }
}

#[test]
fn a_digest_tells_any_two_bound_commands_apart() {
    let with = |value: Value| bind_one(Command::new("Set-Mailbox").with("Identity", "a").with("EmailAddresses", value)).unwrap().digest();
    let dictionary =
        |key: &str, value: Value| -> Value { PsObject { base: Base::Dictionary(vec![(key.into(), value)]), ..PsObject::default() }.into() };
    let stack = PsObject { base: Base::List(ListKind::Stack, vec!["a".into()]), ..PsObject::default() };
    let values: Vec<Value> = vec![
        Value::Null,
        "".into(),
        "a".into(),
        "ab".into(),
        Value::ScriptBlock("a".into()),
        Value::Uri("a".into()),
        true.into(),
        1.into(),
        1i64.into(),
        Value::U8(1),
        list([]),
        list(["a".into()]),
        list(["a".into(), "b".into()]),
        list(["ab".into()]),
        list([list(["a".into()]), "b".into()]),
        list([list(["a".into(), "b".into()])]),
        stack.into(),
        dictionary("Add", "a".into()),
        dictionary("Remove", "a".into()),
        dictionary("Add", list(["a".into()])),
        PsObject::notes(Properties::from_iter([("Add", "a")])).into(),
        PsObject { adapted: Properties::from_iter([("Add", "a")]), ..PsObject::default() }.into(),
        DateTime::parse("2026-09-01T17:05:00").unwrap().into(),
        DateTime::parse("2026-09-01T17:05:00Z").unwrap().into(),
    ];
    let mut digests: Vec<[u8; 32]> = values.into_iter().map(with).collect();
    digests.push(bind_one(Command::new("Set-Mailbox").with("Identity", "a")).unwrap().digest());
    digests.push(bind_one(Command::new("Set-MailUser").with("Identity", "a")).unwrap().digest());
    digests.push(bind_one(Command::new("Set-Mailbox").with("Identity", "a").with("WhatIf", true)).unwrap().digest());
    let count = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), count);
}

/// Objects from the pipe: by value, by the name of a property, or not at all. The session's own commands exist in a session only.
#[test]
fn pipeline_input_is_bound_by_value_and_by_property() {
    let built_in = Catalogue::built_in();
    let template = |command: Command| match bind_session(&built_in, &command.into(), true).unwrap().stages.remove(0) {
        Stage::Cmdlet(command) => command,
        other => panic!("{other:?}"),
    };
    let set = template(Command::new("Set-Mailbox").with("DisplayName", "Ann"));
    let mailbox: Value = PsObject::notes([("identity", Value::from("ann")), ("DisplayName", "Other".into())].into_iter().collect()).into();
    for input in [Value::from("ann"), mailbox] {
        let bound = bind_input(&set, &input).unwrap();
        assert_eq!((bound.argument("Identity"), bound.argument("DisplayName")), (Some(&"ann".into()), Some(&"Ann".into())), "{input:?}");
        assert_ne!(bound.digest(), set.digest());
    }
    for input in [Value::Null, PsObject::from_list(Vec::new()).into()] {
        let _ = bind_input(&set, &input);
    }
    let named = template(Command::new("Get-Mailbox").with("Identity", "ann"));
    let refused = bind_input(&named, &"bob".into()).unwrap_err();
    assert_eq!(&*refused.fully_qualified_error_id, "InputObjectNotBound,Get-Mailbox");
    let other = PsObject::notes([("Colour", Value::from("red"))].into_iter().collect());
    let refused = bind_input(&template(Command::new("Remove-Mailbox")), &other.into()).unwrap_err();
    assert_eq!(&*refused.fully_qualified_error_id, "InputObjectNotBound,Remove-Mailbox");
    let get_command = Command::new("get-command").with("Name", "Get-Mailbox");
    assert!(bind_session(&built_in, &get_command.clone().into(), false).is_ok());
    let outside = bind(&built_in, &get_command.into(), UnknownNames::Refuse).unwrap_err();
    assert_eq!(&*outside.record.fully_qualified_error_id, "CommandNotFoundException");
}

proptest! {
    /// order of arguments, case, prefixes, aliases and position do not change the bound command that is decided on.
    #[test]
    fn a_04_the_digest_does_not_depend_on_how_it_was_written(
        order in Just((0..5usize).collect::<Vec<_>>()).prop_shuffle(),
        upper in any::<bool>(), cut in 0..4usize, positional in any::<bool>(), alias in any::<bool>(), apart in any::<bool>(),
    ) {
        let plain = [("Identity", Value::from("ann")), ("DisplayName", "Ann".into()), ("HiddenFromAddressListsEnabled", true.into()),
            ("Confirm", false.into()), ("CustomAttribute3", "x".into())];
        let expected = plain.iter().fold(Command::new("Set-Mailbox"), |c, (name, value)| c.with(name, value.clone()));
        let mut arguments = Vec::new();
        for index in order {
            let (name, value) = plain[index].clone();
            let name = match name {
                "Confirm" if alias => "cf".to_owned(),
                "DisplayName" | "HiddenFromAddressListsEnabled" => name[..name.len() - cut].to_owned(),
                "Identity" => name[..name.len() - cut].to_owned(),
                name => name.to_owned(),
            };
            let name = if upper { name.to_uppercase() } else { name };
            if plain[index].0 == "Identity" && positional {
                arguments.push(Argument { value: Some(value), ..Argument::default() });
            } else if apart && plain[index].0 != "Confirm" {
                arguments.push(named(&name));
                arguments.push(Argument { value: Some(value), ..Argument::default() });
            } else {
                arguments.push(glued(&name, value));
            }
        }
        let written = bind_one(command(if upper { "SET-MAILBOX" } else { "Set-Mailbox" }, arguments)).map_err(|e| TestCaseError::fail(e.message.to_string()))?;
        prop_assert_eq!(written.digest(), bind_one(expected).unwrap().digest());
    }

    /// No text that a client sends as a name or value makes binding do anything but answer.
    #[test]
    fn binding_answers_whatever_is_sent(name in ".{0,20}", parameter in ".{0,12}", text in ".{0,20}", known in any::<bool>(), kind in 0..4usize) {
        let name = if known { ["Get-Mailbox", "Set-Mailbox", "New-Mailbox", "Search-AdminAuditLog"][kind].to_owned() } else { name };
        let command = command(&name, vec![named(&parameter), value(text.as_str()), glued("ResultSize", text.as_str()), value(text.as_str())]);
        let _ = bind(&Catalogue::built_in(), &command.clone().into(), UnknownNames::Pass);
        let _ = bind(&Catalogue::built_in(), &command.into(), UnknownNames::Refuse);
        for kind in [ParameterKind::Int32, ParameterKind::Guid, ParameterKind::DateTime, ParameterKind::TimeSpan, ParameterKind::Bytes, ParameterKind::Boolean] {
            let _ = convert(&text.as_str().into(), kind);
        }
    }
}
