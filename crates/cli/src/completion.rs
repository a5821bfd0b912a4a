//! `exops completion`: a small script for each shell, which asks this program for the words that fit.

use std::io::IsTerminal as _;
use std::sync::Arc;

use clap::{Arg, Command, CommandFactory as _};
use exops_catalogue::{Catalogue, Cmdlet, Parameter, ParameterKind, Validator};
use exops_directory::nouns::{Form, nouns};
use exops_policy::Rights;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::options::{Cli, Shell};
use crate::profile::{DEFAULT, Profile};
use crate::{cert, dialect, note, print, words};

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
# In a folder of $fpath this file is the function; elsewhere it only defines it.
if [[ ${funcstack[1]-} = _exops ]]; then _exops "$@"; else compdef _exops exops; fi
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
    let mut place =
        Place { path: vec![&command], profile: std::env::var("EXOPS_PROFILE").unwrap_or_default(), cmdlet: None, value_of: None };
    before.iter().for_each(|word| place.pass(word));
    if let Some(option) = place.value_of {
        return place.values(option);
    }
    if let Some((name, _)) = current.split_once('=').filter(|(name, _)| name.starts_with("--")) {
        let values = dialect::find(&place.path, name).map(|option| place.values(option)).unwrap_or_default();
        return values.into_iter().map(|value| format!("{name}={value}")).collect();
    }
    if !place.runs() || current.starts_with("--") {
        return place.own(current);
    }
    place.of_cmdlet(before.last().map(String::as_str).unwrap_or_default(), current)
}

/// Where in the command line the cursor is.
struct Place<'a> {
    /// The commands that were named.
    path: Vec<&'a Command>,
    profile: String,
    cmdlet: Option<Arc<Cmdlet>>,
    /// The option of ours whose value comes next.
    value_of: Option<&'a Arg>,
}

impl<'a> Place<'a> {
    fn name(&self) -> &'a str {
        self.path.last().map(|c| c.get_name()).unwrap_or_default()
    }

    /// The words of a cmdlet come here.
    fn runs(&self) -> bool {
        self.cmdlet.is_some() && self.name() == "run"
    }

    /// A cmdlet's name can come here.
    fn takes_cmdlet(&self) -> bool {
        self.cmdlet.is_none() && (self.path.len() == 1 || matches!(self.name(), "run" | "explain"))
    }

    /// Takes a word before the cursor.
    fn pass(&mut self, word: &str) {
        if let Some(option) = self.value_of.take() {
            if word == "=" {
                // bash takes `--output=json` for three words.
                self.value_of = Some(option);
            } else if option.get_id() == "profile" {
                word.clone_into(&mut self.profile);
            }
            return;
        }
        let dashes = word.bytes().take_while(|b| *b == b'-').count();
        if word == "-o" || dashes == 2 || (dashes == 1 && !self.runs()) {
            let short = self.path.iter().flat_map(|c| c.get_arguments()).find(|a| a.get_short().is_some_and(|c| word == format!("-{c}")));
            let option = short.or_else(|| dialect::find(&self.path, word).ok());
            self.value_of = option.filter(|a| a.get_action().takes_values() && !word.contains(['=', ':']));
        } else if let Some(sub) = self.path.last().and_then(|c| c.get_subcommands().find(|s| s.get_name().eq_ignore_ascii_case(word))) {
            self.path.push(sub);
        } else if self.takes_cmdlet() {
            self.cmdlet = Catalogue::built_in().cmdlet(word).cloned();
            // `exops Get-Mailbox` is `exops run Get-Mailbox`.
            let run = self.path.first().and_then(|c| c.find_subcommand("run")).filter(|_| self.path.len() == 1 && self.cmdlet.is_some());
            self.path.extend(run);
        }
    }

    /// What an option of ours takes.
    fn values(&self, option: &Arg) -> Vec<String> {
        match option.get_id().as_str() {
            "profile" => Profile::names().unwrap_or_default(),
            "parameter" => self.cmdlet.iter().flat_map(|c| &c.parameters).filter(|p| !p.common).map(|p| p.name.to_string()).collect(),
            "thumbprint" | "certificate_thumbprint" => cert::thumbprints(),
            _ => option.get_possible_values().iter().map(|v| v.get_name().to_owned()).collect(),
        }
    }

    /// Commands, options of ours and names of cmdlets.
    fn own(&self, current: &str) -> Vec<String> {
        if current.starts_with('-') {
            let pascal = current.len() > 1 && !current.starts_with("--");
            let names = dialect::options(&self.path).filter_map(Arg::get_long);
            return names.map(|long| if pascal { format!("-{}", dialect::pascal(long)) } else { format!("--{long}") }).collect();
        }
        let last = self.path.last();
        let mut found: Vec<String> = last.iter().flat_map(|c| c.get_subcommands()).map(|s| s.get_name().to_owned()).collect();
        found.extend(last.iter().flat_map(|c| c.get_positionals()).flat_map(|a| self.values(a)));
        if self.takes_cmdlet() {
            let (catalogue, rights) = (Catalogue::built_in(), rights(&self.profile));
            let granted = |c: &&Arc<Cmdlet>| rights.as_ref().is_none_or(|r| r.grant(&c.name).is_some());
            found.extend(catalogue.cmdlets().filter(granted).map(|c| c.name.to_string()));
        }
        found
    }

    /// Parameters of the cmdlet, and what the one before the cursor takes.
    fn of_cmdlet(&self, last: &str, current: &str) -> Vec<String> {
        let Some(cmdlet) = &self.cmdlet else { return Vec::new() };
        if current.starts_with('-') {
            let rights = rights(&self.profile);
            let grant = rights.as_ref().and_then(|r| r.grant(&cmdlet.name));
            let granted = |p: &&Arc<Parameter>| p.common || rights.is_none() || grant.is_some_and(|g| g.allows(&p.name));
            return cmdlet.parameters.iter().filter(granted).map(|p| format!("-{}", p.name)).collect();
        }
        let parameter = last.strip_prefix('-').and_then(|name| words::parameter(cmdlet, name));
        let members = parameter.filter(|p| p.kind != ParameterKind::Switch).map(|p| members(p)).unwrap_or_default();
        // The last item of a list.
        let before = current.rfind(',').and_then(|at| current.get(..=at)).unwrap_or_default();
        members.iter().map(|member| format!("{before}{member}")).collect()
    }
}

/// The values that a parameter takes: what the catalogue lists, else the members of the enumeration that it is of.
fn members(parameter: &Parameter) -> Vec<String> {
    let listed = parameter.validators.iter().find_map(|v| if let Validator::Set(members) = v { Some(members.clone()) } else { None });
    let name = parameter.type_name.trim_end_matches("[]");
    let mut kinds = nouns().iter().flat_map(|n| &n.properties).map(|p| &p.kind).filter(|kind| &*kind.name == name);
    let of_type = || {
        kinds.find_map(|kind| {
            if let Form::Enum { members, .. } = &kind.form { Some(members.iter().map(|(m, _)| m.to_string()).collect()) } else { None }
        })
    };
    listed.or_else(of_type).unwrap_or_default()
}

/// What the profile's application may run; `None` (everything) where that is not known.
fn rights(profile: &str) -> Option<Rights> {
    Profile::load(if profile.is_empty() { DEFAULT } else { profile }).ok()?.rights()
}
