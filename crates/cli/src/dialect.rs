//! PowerShell's way of writing options (`-AppId x`, `-CertificateFilePath:x`, `-org x`), put into ours before clap
//! reads them.

use clap::{Arg, ArgAction, Command};

use crate::failure::Failure;
use crate::suggest;

/// Options of the PowerShell module that have no effect here, and whether a value follows.
const IGNORED: [(&str, bool); 12] = [
    ("ShowBanner", false),
    ("ShowProgress", false),
    ("SkipLoadingFormatData", false),
    ("SkipLoadingCmdletHelp", false),
    ("LoadCmdletHelp", false),
    ("DisableWAM", false),
    ("InlineCredential", false),
    ("UseMultithreading", false),
    ("EXOModuleBasePath", true),
    ("SigningCertificate", true),
    ("PSSessionOption", true),
    ("FormatTypeName", true),
];

/// Options that would carry a secret, which every process on the machine could read.
const SECRET: &str = "CertificatePassword";

/// Names of the PowerShell module for what we call otherwise.
const VERBS: [(&str, &str); 3] =
    [("Connect-ExchangeOnline", "connect"), ("Disconnect-ExchangeOnline", "disconnect"), ("Get-ConnectionInformation", "status")];

/// Our verb for a cmdlet of the PowerShell module that is no cmdlet of the service.
pub(crate) fn verb_of(word: &str) -> Option<&'static str> {
    VERBS.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(word)).map(|(_, ours)| *ours)
}

/// The same command line with every option in the long form, and notes about what has no effect.
pub(crate) fn rewrite(root: &Command, words: Vec<String>) -> Result<(Vec<String>, Vec<String>), Failure> {
    let mut command = root;
    let mut path: Vec<&Command> = vec![root];
    let mut out = Vec::new();
    let mut notes = Vec::new();
    let mut words = words.into_iter();
    out.extend(words.next());
    while let Some(word) = words.next() {
        if word == "--" {
            out.push(word);
            out.extend(words.by_ref());
            break;
        }
        let dashes = word.bytes().take_while(|b| *b == b'-').count();
        let body = word.get(dashes..).unwrap_or_default();
        if dashes == 0 || dashes > 2 || !body.starts_with(|c: char| c.is_ascii_alphabetic()) || (dashes == 1 && is_short(&path, body)) {
            let name = verb_of(&word).unwrap_or(&word);
            if let Some(sub) = command.get_subcommands().find(|c| c.get_name().eq_ignore_ascii_case(name)) {
                command = sub;
                path.push(sub);
                out.push(sub.get_name().to_owned());
            } else {
                out.push(word);
            }
            continue;
        }
        let (name, glued) = match body.find([':', '=']) {
            Some(at) => (body.get(..at).unwrap_or_default(), body.get(at + 1..)),
            None => (body, None),
        };
        if let Some((_, takes_value)) = IGNORED.iter().find(|(n, _)| folded(n) == folded(name)) {
            if *takes_value && glued.is_none() {
                words.next();
            }
            notes.push(format!("'{word}' has no effect here"));
            continue;
        }
        if folded(name) == folded(SECRET) {
            return Err(Failure::usage("a password is not taken from the command line, where every process can read it")
                .hint("leave it out to be asked, or name a file with --certificate-password-file"));
        }
        let option = match find(&path, name) {
            Ok(option) => option,
            // clap has its own words for an unknown long option.
            Err(Found::Nothing) if dashes == 2 => {
                out.push(word);
                continue;
            }
            Err(Found::Nothing) => {
                let names: Vec<String> = options(&path).filter_map(Arg::get_long).map(pascal).collect();
                let near = suggest::near(name, names.iter().map(String::as_str));
                return Err(Failure::usage(format!("there is no option '-{name}'")).hint(suggest::question(&near, "-")));
            }
            Err(Found::Several(names)) => {
                return Err(
                    Failure::usage(format!("'-{name}' is the start of several options")).hint(format!("write one of {}", names.join(", ")))
                );
            }
        };
        let long = format!("--{}", option.get_long().unwrap_or_default());
        if option.get_action().takes_values() {
            let value = match glued {
                Some(value) => Some(value.to_owned()),
                None => words.next(),
            };
            out.push(long);
            out.extend(value);
        } else {
            match glued.map(str::to_ascii_lowercase).as_deref() {
                None | Some("true" | "$true" | "1") => out.push(long),
                Some("false" | "$false" | "0") => {}
                Some(other) => {
                    return Err(Failure::usage(format!("'{word}': a switch takes true or false, not '{other}'"))
                        .hint(format!("a shell turns $false into nothing: write -{name}:false")));
                }
            }
        }
    }
    Ok((out, notes))
}

pub(crate) enum Found {
    Nothing,
    Several(Vec<String>),
}

/// Options of the last command, and the global ones of those before it.
pub(crate) fn options<'a>(path: &[&'a Command]) -> impl Iterator<Item = &'a Arg> {
    let last = path.last().into_iter().flat_map(|c| c.get_arguments());
    let inherited = path.iter().rev().skip(1).flat_map(|c| c.get_arguments().filter(|a| a.is_global_set()));
    last.chain(inherited).filter(|a| a.get_long().is_some())
}

/// An option by its whole name, else by a unique prefix.
pub(crate) fn find<'a>(path: &[&'a Command], name: &str) -> Result<&'a Arg, Found> {
    let wanted = folded(name);
    let names = |a: &Arg| -> Vec<String> {
        let aliases = a.get_all_aliases().unwrap_or_default();
        a.get_long().into_iter().chain(aliases).map(folded).collect()
    };
    if let Some(exact) = options(path).find(|a| names(a).contains(&wanted)) {
        return Ok(exact);
    }
    let mut fitting: Vec<&Arg> = options(path).filter(|a| names(a).iter().any(|n| n.starts_with(&wanted))).collect();
    match fitting.len() {
        0 => Err(Found::Nothing),
        1 => fitting.pop().ok_or(Found::Nothing),
        _ => Err(Found::Several(fitting.iter().filter_map(|a| a.get_long()).map(|l| format!("-{}", pascal(l))).collect())),
    }
}

/// `-o`, `-v`, `-vv`, `-h`, `-V`: single letters never are the start of a name.
fn is_short(path: &[&Command], body: &str) -> bool {
    let known = |c: char| matches!(c, 'h' | 'V') || path.iter().flat_map(|p| p.get_arguments()).any(|a| a.get_short() == Some(c));
    let counts = |c: char| {
        path.iter().flat_map(|p| p.get_arguments()).any(|a| a.get_short() == Some(c) && matches!(a.get_action(), ArgAction::Count))
    };
    body.len() == 1 || body.chars().next().is_some_and(|c| known(c) && counts(c) && body.chars().all(|d| d == c))
}

fn folded(name: &str) -> String {
    name.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect()
}

/// `app-id` as `AppId`.
pub(crate) fn pascal(long: &str) -> String {
    long.split('-')
        .map(|part| {
            let mut letters = part.chars();
            letters.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
        })
        .collect()
}

#[cfg(test)]
mod tests;
