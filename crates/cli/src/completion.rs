//! `exops completion`: a small script for each shell, which asks this program for the words that fit.

use std::io::IsTerminal as _;

use clap::CommandFactory as _;
use exops_catalogue::{Catalogue, ParameterKind, Validator};
use exops_policy::Rights;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::options::{Cli, Shell};
use crate::profile::{DEFAULT, Profile};
use crate::{note, print, words};

/// First word of a question by a script; the words of the command line follow, the one at the cursor last.
pub(crate) const ASK: &str = "__complete";
/// Stands for an empty last word where a shell drops it.
const BLANK: &str = "__blank";

const BASH: &str = r#"# Load it: source <(exops completion bash)
_exops() {
    local IFS=$'\n'
    COMPREPLY=($(exops __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _exops exops
"#;

const ZSH: &str = r#"#compdef exops
# Load it: source <(exops completion zsh), after compinit
_exops() {
    local -a found
    found=("${(@f)$(exops __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n ${found[1]} ]]; then compadd -M 'm:{a-zA-Z}={A-Za-z}' -- "${found[@]}"; else _files; fi
}
compdef _exops exops
"#;

const FISH: &str = r#"# Load it: exops completion fish | source
function __exops_complete
    set -l tokens (commandline -opc)
    set -e tokens[1]
    set -l current (commandline -ct)
    exops __complete $tokens "$current" 2>/dev/null
end
complete -c exops -a '(__exops_complete)'
"#;

const POWERSHELL: &str = r#"# Load it: exops completion powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName exops -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $given = @($commandAst.CommandElements | Select-Object -Skip 1 | ForEach-Object { $_.ToString() })
    if ($wordToComplete -eq '') { $given += '__blank' }
    exops __complete @given 2>$null | ForEach-Object { [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_) }
}
"#;

/// Prints the script of a shell.
pub(crate) fn script(shell: Shell) -> Result<Exit, Failure> {
    print(match shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
        Shell::Pwsh => POWERSHELL,
    })?;
    if std::io::stdout().is_terminal() {
        note("the script's first comment says how it is loaded");
    }
    Ok(Exit::Ok)
}

/// Prints the words that can stand where the last one is, one a line.
pub(crate) fn answer(words: &[String]) -> Result<Exit, Failure> {
    let (current, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let current = if current == BLANK { "" } else { current };
    let fitting = candidates(before, current);
    let starts = |w: &String| w.get(..current.len()).is_some_and(|start| start.eq_ignore_ascii_case(current));
    print(&fitting.into_iter().filter(starts).map(|w| w + "\n").collect::<String>())?;
    Ok(Exit::Ok)
}

fn candidates(before: &[String], current: &str) -> Vec<String> {
    let command = Cli::command();
    let mut path = vec![&command];
    let mut profile = std::env::var("EXOPS_PROFILE").unwrap_or_default();
    let mut cmdlet = None;
    let mut takes_cmdlet = true;
    let mut given = before.iter().map(String::as_str).peekable();
    while let Some(word) = given.next() {
        if let Some(long) = word.strip_prefix("--") {
            let option = path.iter().flat_map(|c| c.get_arguments()).find(|a| a.get_long() == Some(long));
            if option.is_some_and(|a| a.get_action().takes_values()) {
                let value = given.next();
                if long == "profile" {
                    profile = value.unwrap_or_default().to_owned();
                }
            }
        } else if word == "-o" {
            given.next();
        } else if let Some(sub) = path.last().and_then(|c| c.get_subcommands().find(|s| s.get_name() == word)) {
            takes_cmdlet = matches!(word, "run" | "explain");
            path.push(sub);
        } else if takes_cmdlet && cmdlet.is_none() && !word.starts_with('-') {
            cmdlet = Some(word);
        }
    }
    let explains = path.last().is_some_and(|c| c.get_name() == "explain");
    let rights = rights(&profile);
    if let Some(known) = cmdlet.and_then(|name| Catalogue::built_in().cmdlet(name).cloned()).filter(|_| !explains) {
        let grant = rights.as_ref().and_then(|r| r.grant(&known.name));
        let last = before.last().and_then(|w| w.strip_prefix('-')).and_then(|name| words::parameter(&known, name));
        if let Some(parameter) = last.filter(|p| p.kind != ParameterKind::Switch && !current.starts_with('-')) {
            let members = parameter.validators.iter().filter_map(|v| if let Validator::Set(m) = v { Some(m.clone()) } else { None });
            return members.flatten().collect();
        }
        if current.starts_with("--") {
            return options(&[&command, command.find_subcommand("run").unwrap_or(&command)]);
        }
        if !current.starts_with('-') {
            return Vec::new();
        }
        let allowed = known.parameters.iter().filter(|p| p.common || rights.is_none() || grant.is_some_and(|g| g.allows(&p.name)));
        return allowed.map(|p| format!("-{}", p.name)).collect();
    }
    if current.starts_with('-') {
        return options(&path);
    }
    let mut found: Vec<String> = path.last().into_iter().flat_map(|c| c.get_subcommands()).map(|s| s.get_name().to_owned()).collect();
    if takes_cmdlet && cmdlet.is_none() {
        let catalogue = Catalogue::built_in();
        let names = catalogue.cmdlets().filter(|c| rights.as_ref().is_none_or(|r| r.grant(&c.name).is_some()));
        found.extend(names.map(|c| c.name.to_string()));
    } else if path.last().is_some_and(|c| c.get_name() == "completion") {
        found.extend(["bash", "zsh", "fish", "powershell"].map(str::to_owned));
    }
    found
}

/// Long options of the last command, and the global ones.
fn options(path: &[&clap::Command]) -> Vec<String> {
    let own = path.last().into_iter().flat_map(|c| c.get_arguments());
    let global = path.iter().rev().skip(1).flat_map(|c| c.get_arguments().filter(|a| a.is_global_set()));
    own.chain(global).filter_map(|a| a.get_long()).map(|l| format!("--{l}")).collect()
}

/// What the profile's application may run; `None` (everything) where that is not known.
fn rights(profile: &str) -> Option<Rights> {
    Profile::load(if profile.is_empty() { DEFAULT } else { profile }).ok()?.rights()
}
