//! Reads rows of the compact table; its form is explained in the head of `table/cmdlets.txt`.

use std::sync::{Arc, OnceLock};

use crate::{Cmdlet, ConfirmImpact, LocalStage, Parameter, ParameterKind, SetMembership, Validator};

const CMDLETS: &str = include_str!("../table/cmdlets.txt");

/// What the local stages take: what a restricted session's proxies offer and, of `Select-Object`, what scripts use.
const LOCAL_STAGES: [(LocalStage, &str); 8] = [
    (
        LocalStage::SelectObject,
        "Select-Object|-|DefaultParameter|ExpandProperty:t#e First:i#r0-2147483647 InputObject:a@*/v Last:i#r0-2147483647 \
         Property:l@*/0 Skip:i#r0-2147483647 Unique:s",
    ),
    (LocalStage::MeasureObject, "Measure-Object|-||InputObject:a@*/v"),
    (
        LocalStage::GetCommand,
        "Get-Command|-||ArgumentList:aObject[]~Args@*/1#c0-100 CommandType:aCommandTypes~Type@*/n ListImported:s Module:l~PSSnapin@*/n#c0-100 \
         Name:l@*/0vn#e;c0-1000 ShowCommandInfo:s",
    ),
    (LocalStage::GetFormatData, "Get-FormatData|-||PowerShellVersion:aVersion TypeName:l@*/0#e;c0-1000"),
    (LocalStage::GetHelp, "Get-Help|-||Category:l#c0-1 Name:t@*/0n#l1-1000"),
    (LocalStage::OutDefault, "Out-Default|-||InputObject:a@*/v Transcript:s"),
    (LocalStage::ExitPsSession, "Exit-PSSession|-||"),
    (LocalStage::ClearHost, "Clear-Host|-||"),
];

/// Common parameters in PowerShell's order: name, alias, kind, documented type.
const COMMON: [(&str, &str, ParameterKind, &str); 11] = [
    ("Verbose", "vb", ParameterKind::Switch, "SwitchParameter"),
    ("Debug", "db", ParameterKind::Switch, "SwitchParameter"),
    ("ErrorAction", "ea", ParameterKind::Text, "ActionPreference"),
    ("WarningAction", "wa", ParameterKind::Text, "ActionPreference"),
    ("InformationAction", "infa", ParameterKind::Text, "ActionPreference"),
    ("ErrorVariable", "ev", ParameterKind::Text, "String"),
    ("WarningVariable", "wv", ParameterKind::Text, "String"),
    ("InformationVariable", "iv", ParameterKind::Text, "String"),
    ("OutVariable", "ov", ParameterKind::Text, "String"),
    ("OutBuffer", "ob", ParameterKind::Int32, "Int32"),
    ("PipelineVariable", "pv", ParameterKind::Text, "String"),
];
const SHOULD_PROCESS: [(&str, &str, ParameterKind, &str); 2] =
    [("WhatIf", "wi", ParameterKind::Switch, "SwitchParameter"), ("Confirm", "cf", ParameterKind::Switch, "SwitchParameter")];
/// `Inquire`, `Suspend` and `Break` wait for somebody in the middle of a run. They are refused before it begins, not taken for `Continue`.
const ACTION_PREFERENCES: [&str; 4] = ["SilentlyContinue", "Stop", "Continue", "Ignore"];

/// The rows, by name without case.
pub(crate) fn rows() -> impl Iterator<Item = &'static str> {
    CMDLETS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// A row's cmdlet name.
pub(crate) fn name(row: &str) -> &str {
    row.split('|').next().unwrap_or_default()
}

/// The metadata of the local stages.
pub(crate) fn local_stages() -> &'static [(LocalStage, Arc<Cmdlet>)] {
    static STAGES: OnceLock<Vec<(LocalStage, Arc<Cmdlet>)>> = OnceLock::new();
    STAGES.get_or_init(|| LOCAL_STAGES.iter().map(|(stage, row)| (*stage, Arc::new(cmdlet(row)))).collect())
}

/// A local stage by name without case.
pub(crate) fn local_stage(name: &str) -> Option<(LocalStage, &'static Arc<Cmdlet>)> {
    local_stages().iter().find(|(_, cmdlet)| cmdlet.name.eq_ignore_ascii_case(name)).map(|(stage, cmdlet)| (*stage, cmdlet))
}

/// Reads a row. Rows are the project's own: what does not have the form is read as far as it does.
pub(crate) fn cmdlet(row: &str) -> Cmdlet {
    let mut fields = row.splitn(4, '|');
    let name = fields.next().unwrap_or_default();
    let impact = match fields.next() {
        Some("M") => ConfirmImpact::Medium,
        Some("H") => ConfirmImpact::High,
        _ => ConfirmImpact::None,
    };
    let mut sets = Names(Vec::new());
    let default_set = fields.next().filter(|s| !s.is_empty()).map(|s| sets.get(s));
    let own = fields.next().unwrap_or_default().split_whitespace();
    let mut parameters: Vec<Arc<Parameter>> = own.map(|text| Arc::new(parameter(text, &mut sets))).collect();
    let supports_should_process = impact != ConfirmImpact::None;
    let common = common_parameters();
    parameters.extend(common.iter().take(if supports_should_process { common.len() } else { COMMON.len() }).cloned());
    Cmdlet { name: name.into(), parameters, default_set, supports_should_process, impact }
}

/// Set names of one cmdlet, each allocated once.
struct Names(Vec<Arc<str>>);

impl Names {
    fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.iter().find(|n| ***n == *name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.0.push(Arc::clone(&name));
        name
    }
}

fn common_parameters() -> &'static [Arc<Parameter>] {
    static PARAMETERS: OnceLock<Vec<Arc<Parameter>>> = OnceLock::new();
    PARAMETERS.get_or_init(|| {
        let rows = COMMON.iter().chain(&SHOULD_PROCESS);
        rows.map(|(name, alias, kind, type_name)| {
            let validators = match *type_name {
                "ActionPreference" => vec![Validator::Set(ACTION_PREFERENCES.map(str::to_owned).to_vec())],
                _ => Vec::new(),
            };
            Arc::new(Parameter {
                name: (*name).into(),
                aliases: vec![(*alias).into()],
                kind: *kind,
                type_name: (*type_name).into(),
                sets: vec![ALL_SETS],
                validators,
                common: true,
            })
        })
        .collect()
    })
}

const ALL_SETS: SetMembership =
    SetMembership { set: None, mandatory: false, position: None, from_pipeline: false, from_pipeline_by_property_name: false };

fn parameter(text: &str, sets: &mut Names) -> Parameter {
    let (text, checks) = text.split_once('#').unwrap_or((text, ""));
    let (text, groups) = text.split_once('@').unwrap_or((text, ""));
    let (text, aliases) = text.split_once('~').unwrap_or((text, ""));
    let (name, kind) = text.split_once(':').unwrap_or((text, ""));
    let mut rest = kind.chars();
    let (kind, implied) = kind_of(rest.next());
    let type_name = if rest.as_str().is_empty() { implied } else { rest.as_str() };
    let mut memberships = Vec::new();
    for group in groups.split('+').filter(|g| !g.is_empty()) {
        let (names, flags) = group.split_once('/').unwrap_or((group, ""));
        memberships.extend(names.split(',').map(|name| SetMembership {
            set: (name != "*").then(|| sets.get(name)),
            mandatory: flags.contains('m'),
            position: flags.chars().find_map(|c| c.to_digit(10)),
            from_pipeline: flags.contains('v'),
            from_pipeline_by_property_name: flags.contains('n'),
        }));
    }
    if memberships.is_empty() {
        memberships.push(ALL_SETS);
    }
    Parameter {
        name: name.into(),
        aliases: list(aliases).map(Into::into).collect(),
        kind,
        type_name: type_name.into(),
        sets: memberships,
        validators: checks.split(';').filter_map(validator).collect(),
        common: false,
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|t| !t.is_empty())
}

fn kind_of(letter: Option<char>) -> (ParameterKind, &'static str) {
    match letter {
        Some('s') => (ParameterKind::Switch, "SwitchParameter"),
        Some('b') => (ParameterKind::Boolean, "Boolean"),
        Some('i') => (ParameterKind::Int32, "Int32"),
        Some('u') => (ParameterKind::UInt32, "UInt32"),
        Some('t') => (ParameterKind::Text, "String"),
        Some('l') => (ParameterKind::TextList, "String[]"),
        Some('g') => (ParameterKind::Guid, "Guid"),
        Some('d') => (ParameterKind::DateTime, "DateTime"),
        Some('p') => (ParameterKind::TimeSpan, "TimeSpan"),
        Some('y') => (ParameterKind::Bytes, "Byte[]"),
        Some('x') => (ParameterKind::SecureString, "SecureString"),
        Some('c') => (ParameterKind::Credential, "PSCredential"),
        Some('h') => (ParameterKind::Hashtable, "Hashtable"),
        Some('o') => (ParameterKind::Object, "PSObject"),
        _ => (ParameterKind::Any, "Object"),
    }
}

fn validator(text: &str) -> Option<Validator> {
    let mut rest = text.chars();
    let letter = rest.next()?;
    let rest = rest.as_str();
    let bounds = || rest.split_once('-');
    Some(match letter {
        'e' => Validator::NotNullOrEmpty,
        'n' => Validator::NotNull,
        'N' => Validator::AllowNull,
        'C' => Validator::AllowEmptyList,
        'l' => bounds().and_then(|(low, high)| Some(Validator::Length(low.parse().ok()?, high.parse().ok()?)))?,
        'r' => bounds().and_then(|(low, high)| Some(Validator::Range(low.parse().ok()?, high.parse().ok()?)))?,
        'c' => bounds().and_then(|(low, high)| Some(Validator::Count(low.parse().ok()?, high.parse().ok()?)))?,
        's' => Validator::Set(list(rest).map(str::to_owned).collect()),
        _ => return None,
    })
}
