//! What people and administrators write: filters, commands, role models.

use std::sync::Arc;

use exops_catalogue::{Argument, BoundPipeline, Catalogue, Command, ParameterKind, Pipeline, Stage, UnknownNames, convert};
use exops_filter::{Filter, parse_opath};
use exops_policy::{DirectoryRole, RoleModel};
use exops_psobject::{Value, clixml};

use crate::{Outcome, Problem, holds, phrase, refused, same, taken, wire};

pub(crate) const OPATH: &[&[u8]] = &[
    b" -eq ",
    b" -ne ",
    b" -lt ",
    b" -ge ",
    b" -like ",
    b" -notlike ",
    b" -and ",
    b" -or ",
    b"-not ",
    b"(",
    b")",
    b"{",
    b"}",
    b"$true",
    b"$null",
    b"'",
    b"''",
    b"\"",
    b"Name -eq 'a'",
    b"`",
    "\u{2013}".as_bytes(),
    "\u{201c}".as_bytes(),
    b"*",
    b"1.5",
    b"!",
];
pub(crate) const COMMANDS: &[&[u8]] = &[
    b"Get-Mailbox",
    b"Set-Mailbox",
    b"New-Mailbox",
    b"Select-Object",
    b"Measure-Object",
    b"|",
    b"\n",
    b"-Identity",
    b"-ResultSize:Unlimited",
    b"-First:3",
    b"-WhatIf",
    b"-Confirm:$false",
    b"-",
    b":",
    b"$true",
    b"$null",
    b"@a,b",
    b"<I32>5</I32>",
    b"-Id",
    b"-Force",
    b"-ProhibitSendQuota:1GB",
];
pub(crate) const ROLES: &[&[u8]] = &[
    b"group ",
    b"role ",
    b"scope ",
    b"directory-role ",
    b"=",
    b",",
    b"(",
    b")",
    b"#",
    b"\n",
    b"Get-Mailbox",
    b"Exchange Administrator",
    b"{Name -eq 'a'}",
];

pub(crate) fn opath(input: &[u8]) -> Result<Outcome, Problem> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(1) };
    let filter = match parse_opath(text) {
        Ok(filter) => filter,
        Err(error) => {
            holds("the position is not in the text", (1..=text.chars().count() + 1).contains(&error.position))?;
            return Ok(phrase(&error.message));
        }
    };
    // Braces stand around the whole only; in parentheses it may be one level too deep, which is refused and not misread.
    if !text.trim_start().starts_with('{') {
        if let Ok(inner) = parse_opath(&format!("({text})")) {
            same("in parentheses it means something else", &filter, &inner)?;
        }
        if let Ok(negated) = parse_opath(&format!("-not ({text})")) {
            same("negated it means something else", &Filter::Not(Box::new(filter.clone())), &negated)?;
        }
    }
    let names = filter.properties().len();
    holds("more comparisons than are allowed", names <= 1_000)?;
    for value in [Value::Null, "a".into(), Value::I32(5), Value::Bool(true)] {
        let lookup = |_: &str| Some(value.clone());
        let negated = Filter::Not(Box::new(filter.clone()));
        holds("it and its negation both hold, or neither", filter.matches(&lookup) != negated.matches(&lookup))?;
    }
    Ok(taken(&[names, filter.properties().iter().map(|name| name.len()).max().unwrap_or_default()]))
}

pub(crate) fn opath_seeds() -> Vec<Vec<u8>> {
    [
        "Name -eq 'adele'",
        "{RecipientTypeDetails -eq \"UserMailbox\" -and (Alias -like 'a*' -or -not (Hidden -eq $true))}",
        "WhenCreated -gt '2024-05-01' -or Size -le 1.5 -and X -ne $null",
        "((((a -eq 'it''s'))))",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

const KINDS: [ParameterKind; 14] = [
    ParameterKind::Switch,
    ParameterKind::Boolean,
    ParameterKind::Int32,
    ParameterKind::UInt32,
    ParameterKind::Text,
    ParameterKind::TextList,
    ParameterKind::Guid,
    ParameterKind::DateTime,
    ParameterKind::TimeSpan,
    ParameterKind::Bytes,
    ParameterKind::SecureString,
    ParameterKind::Credential,
    ParameterKind::Hashtable,
    ParameterKind::Any,
];

/// Words of a command line, commands separated by `|`. A word that begins with `<` is a CLIXML value, which is also
/// converted to every kind; `@a,b` is a list.
pub(crate) fn bind(input: &[u8]) -> Result<Outcome, Problem> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(1) };
    let text = text.chars().take(4_096).collect::<String>();
    let mut seen = 0;
    for value in text.split_whitespace().take(16).map(value) {
        for kind in KINDS {
            match convert(&value, kind) {
                Ok(once) if !matches!(kind, ParameterKind::SecureString | ParameterKind::Credential) => {
                    same(
                        "converted twice, it differs",
                        &convert(&once, kind).map(|value| clixml::write(&value)),
                        &Ok(clixml::write(&once)),
                    )?;
                }
                Ok(_) => {}
                Err(error) => seen ^= refused(&error),
            }
        }
    }
    let pipeline = Pipeline { commands: text.split('|').take(8).map(command).collect() };
    let catalogue = Catalogue::built_in();
    for unknown in [UnknownNames::Pass, UnknownNames::Refuse] {
        match exops_catalogue::bind(&catalogue, &pipeline, unknown) {
            Ok(bound) => {
                seen ^= taken(&[bound.stages.len(), rebound(&catalogue, &bound)?]);
            }
            Err(error) => seen ^= refused(&error.record.fully_qualified_error_id),
        }
    }
    Ok(match exops_catalogue::bind_session(&catalogue, &pipeline, true) {
        Ok(bound) => seen ^ taken(&[bound.stages.len()]),
        Err(_) => seen,
    })
}

/// What was bound, written out with whole names, binds to the same: otherwise a permit would name another command.
fn rebound(catalogue: &Catalogue, bound: &BoundPipeline) -> Result<usize, Problem> {
    let mut arguments = 0;
    for stage in &bound.stages {
        let (Stage::Cmdlet(command) | Stage::Local(_, command)) = stage else { continue };
        arguments += command.arguments.len();
        let mut again = Command::new(&*command.cmdlet.name);
        for argument in &command.arguments {
            again = again.with(&argument.parameter.name, argument.value.clone());
        }
        // Behind a pipe a mandatory parameter may be missing, which alone is an error.
        if let Ok(again) = exops_catalogue::bind(catalogue, &again.into(), UnknownNames::Refuse) {
            let digest = match again.stages.first() {
                Some(Stage::Cmdlet(again) | Stage::Local(_, again)) => again.digest(),
                _ => return Err("bound again, it is not resolved".to_owned()),
            };
            same("bound again, the digest differs", &command.digest(), &digest)?;
        }
    }
    Ok(arguments)
}

fn command(text: &str) -> Command {
    let mut words = text.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    for word in words.take(64) {
        command.arguments.push(match word.strip_prefix('-').map(|named| named.split_once(':')) {
            Some(Some((name, text))) => Argument { name: Some(name.to_owned()), value: Some(value(text)), glued: true },
            Some(None) => Argument { name: word.get(1..).map(str::to_owned), value: None, glued: false },
            None => Argument { name: None, value: Some(value(word)), glued: false },
        });
    }
    command
}

fn value(text: &str) -> Value {
    match text {
        "$null" => Value::Null,
        "$true" => Value::Bool(true),
        "$false" => Value::Bool(false),
        _ if text.starts_with('<') => clixml::read(text.as_bytes(), &wire::LIMITS).unwrap_or_default(),
        _ => match text.strip_prefix('@') {
            Some(list) => exops_psobject::PsObject::from_list(list.split(',').map(value).collect()).into(),
            None => Value::String(Arc::from(text)),
        },
    }
}

pub(crate) fn bind_seeds() -> Vec<Vec<u8>> {
    let mut seeds = [
        "Get-Mailbox adele -ResultSize:Unlimited | Select-Object -Property:@Name,Alias -First:3",
        "Set-Mailbox -Identity adele -ProhibitSendQuota:1GB -HiddenFromAddressListsEnabled:$true -WhatIf",
        "New-Mailbox -Name:a -Shared | Measure-Object",
        "Get-Nothing -What 1 <I32>5</I32> <S>2024-05-01</S> 1.00:00:00",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    // Values of every kind whose text has no blank.
    let texts = wire::values().iter().map(clixml::write).filter(|text| !text.contains(' ') && text.len() < 200).collect::<Vec<_>>();
    seeds.extend(texts.iter().map(|text| format!("Set-Mailbox a -MaxSendSize:{text} {text}").into_bytes()));
    seeds
}

pub(crate) fn role_model(input: &[u8]) -> Result<Outcome, Problem> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(1) };
    match RoleModel::parse(text) {
        Ok(model) => {
            let caller = exops_testkit::caller(&[DirectoryRole::ExchangeAdministrator, DirectoryRole::GlobalReader]);
            let rights = model.rights(&caller);
            let nobody = model.rights(&exops_testkit::caller(&[]));
            holds("rights without a directory role", nobody.is_empty())?;
            let again =
                RoleModel::parse(&format!("{text}\n# and nothing more\n")).map_err(|error| format!("a comment is not taken: {error}"))?;
            let granted = |rights: &exops_policy::Rights| Catalogue::built_in().names().filter(|name| rights.grant(name).is_some()).count();
            let count = granted(&rights);
            same("with a comment it grants something else", &count, &granted(&again.rights(&caller)))?;
            holds(
                "a cmdlet is granted that the text does not name",
                Catalogue::built_in()
                    .names()
                    .all(|name| rights.grant(name).is_none() || text.to_ascii_lowercase().contains(&name.to_ascii_lowercase())),
            )?;
            Ok(taken(&[count, text.lines().count()]))
        }
        Err(error) => {
            holds("the line is not in the text", error.line <= text.lines().count())?;
            Ok(phrase(&error.problem))
        }
    }
}

pub(crate) fn role_model_seeds() -> Vec<Vec<u8>> {
    vec![
        b"role Reading = Get-Mailbox, Set-Mailbox(Identity ProhibitSendQuota) # some\ngroup Readers = Reading\n\
          directory-role Exchange Administrator = Readers\nscope Readers = Alias -like 'a*'\n"
            .to_vec(),
        include_bytes!("../../policy/src/roles.txt").to_vec(),
    ]
}
