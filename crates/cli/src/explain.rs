//! `exops explain`: what the built-in catalogue knows of a cmdlet.

use std::collections::BTreeSet;

use exops_catalogue::{Catalogue, Cmdlet, Parameter, ParameterKind, Validator};
use serde_json::{Value as Json, json};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::options::Explain;
use crate::profile::{DEFAULT, Profile};
use crate::{print, suggest, words};

/// Explains a cmdlet or one of its parameters.
pub(crate) fn explain(options: &Explain, profile: Option<&str>, as_json: bool) -> Result<Exit, Failure> {
    let catalogue = Catalogue::built_in();
    let Some(cmdlet) = catalogue.cmdlet(&options.cmdlet) else {
        let near = suggest::question(&suggest::near(&options.cmdlet, catalogue.cmdlets().map(|c| &*c.name)), "");
        let hint = if near.is_empty() { "check the spelling: the built-in catalogue has no such cmdlet".to_owned() } else { near };
        return Err(
            Failure { code: "CommandNotFound".to_owned(), ..Failure::usage(format!("there is no cmdlet '{}'", options.cmdlet)) }.hint(hint)
        );
    };
    // A profile that was named must be there; the default one need not.
    let profile = match (profile, Profile::load(profile.unwrap_or(DEFAULT))) {
        (_, Ok(profile)) => Some(profile),
        (None, Err(_)) => None,
        (Some(_), Err(failure)) => return Err(failure),
    };
    let grant = profile.and_then(|p| p.rights()).map(|rights| rights.grant(&cmdlet.name).cloned());
    let granted = |parameter: &Parameter| grant.as_ref().map(|g| g.as_ref().is_some_and(|g| g.allows(&parameter.name)));
    let document = match &options.parameter {
        Some(name) => {
            let parameter = words::parameter(cmdlet, name).ok_or_else(|| {
                let near = suggest::near(name, cmdlet.parameters.iter().map(|p| &*p.name));
                let hint = suggest::question(&near, "-");
                Failure { code: "ParameterNotFound".to_owned(), ..Failure::usage(format!("{} has no parameter '{name}'", cmdlet.name)) }
                    .hint(if hint.is_empty() { format!("'exops explain {}' lists them", cmdlet.name) } else { hint })
            })?;
            of_parameter(parameter, granted(parameter))
        }
        None => json!({
            "cmdlet": &*cmdlet.name,
            "reads": cmdlet.is_read(),
            "granted": grant.as_ref().map(Option::is_some),
            "syntax": sets(cmdlet).iter().map(|set| syntax(cmdlet, set.as_deref())).collect::<Vec<_>>(),
            "parameters": cmdlet.parameters.iter().filter(|p| !p.common).map(|p| of_parameter(p, granted(p))).collect::<Vec<_>>(),
        }),
    };
    print(&if as_json { format!("{document}\n") } else { text(&document) })?;
    Ok(Exit::Ok)
}

fn of_parameter(parameter: &Parameter, granted: Option<bool>) -> Json {
    json!({
        "name": &*parameter.name,
        "type": type_of(parameter),
        "aliases": parameter.aliases.iter().map(|a| &**a).collect::<Vec<_>>(),
        "mandatory": parameter.sets.iter().any(|s| s.mandatory),
        "position": parameter.sets.iter().find_map(|s| s.position),
        "sets": parameter.sets.iter().filter_map(|s| s.set.as_deref()).collect::<Vec<_>>(),
        "accepts": parameter.validators.iter().map(validator).collect::<Vec<_>>(),
        "granted": granted,
    })
}

fn type_of(parameter: &Parameter) -> &str {
    if parameter.kind == ParameterKind::Switch { "Switch" } else { &parameter.type_name }
}

fn validator(validator: &Validator) -> String {
    match validator {
        Validator::NotNullOrEmpty => "not empty".to_owned(),
        Validator::NotNull => "not $null".to_owned(),
        Validator::Length(from, to) => format!("{from} to {to} characters"),
        Validator::Range(from, to) => format!("{from} to {to}"),
        Validator::Count(from, to) => format!("{from} to {to} items"),
        Validator::Set(members) => format!("one of {}", members.join(", ")),
        Validator::AllowNull => "$null too".to_owned(),
        Validator::AllowEmptyList => "an empty list too".to_owned(),
    }
}

/// The parameter sets by name; one without a name where there is no other.
fn sets(cmdlet: &Cmdlet) -> Vec<Option<String>> {
    let own = cmdlet.parameters.iter().filter(|p| !p.common);
    let named: BTreeSet<String> = own.flat_map(|p| p.sets.iter().filter_map(|s| s.set.as_deref().map(str::to_owned))).collect();
    if named.is_empty() { vec![None] } else { named.into_iter().map(Some).collect() }
}

/// One line as Get-Help writes it: what is optional in brackets.
fn syntax(cmdlet: &Cmdlet, set: Option<&str>) -> String {
    let mut members: Vec<_> = cmdlet.parameters.iter().filter(|p| !p.common).filter_map(|p| Some((p, p.membership(set)?))).collect();
    members.sort_by_key(|(_, m)| (m.position.unwrap_or(u32::MAX), !m.mandatory));
    let mut line = cmdlet.name.to_string();
    for (parameter, member) in members {
        let name = if member.position.is_some() { format!("[-{}]", parameter.name) } else { format!("-{}", parameter.name) };
        let whole = if parameter.kind == ParameterKind::Switch { name } else { format!("{name} <{}>", type_of(parameter)) };
        line += &if member.mandatory { format!(" {whole}") } else { format!(" [{whole}]") };
    }
    line
}

/// The same document for people.
fn text(document: &Json) -> String {
    let field = |of: &Json, key: &str| match of.get(key) {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Array(items)) => items.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(", "),
        Some(Json::Bool(yes)) => (if *yes { "yes" } else { "no" }).to_owned(),
        Some(Json::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let mut out = String::new();
    if document.get("parameters").is_none() {
        for key in ["name", "type", "aliases", "mandatory", "position", "sets", "accepts", "granted"] {
            let value = field(document, key);
            if !value.is_empty() {
                out += &format!("{key:10} {value}\n");
            }
        }
        return out;
    }
    let list = |key: &str| document.get(key).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    out += &format!("{}{}\n", field(document, "cmdlet"), if field(document, "reads") == "yes" { "  (changes nothing)" } else { "" });
    if field(document, "granted") == "no" {
        out += "not granted to the application of the profile\n";
    }
    for line in list("syntax") {
        out += &format!("\n  {}\n", line.as_str().unwrap_or_default());
    }
    out.push('\n');
    for parameter in list("parameters") {
        let refused = if field(parameter, "granted") == "no" { "  (not granted)" } else { "" };
        out += format!("  -{:34} {}{refused}", field(parameter, "name"), field(parameter, "type")).trim_end();
        out.push('\n');
    }
    out
}
