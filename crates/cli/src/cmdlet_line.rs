//! `exops run <Cmdlet> …` and `exops <Cmdlet> …`: which words are ours, which are the cmdlet's.

use clap::ValueEnum;

use crate::dialect;
use crate::environment::variable;
use crate::failure::Failure;
use crate::options::{Global, Progress, Transport};
use crate::output::Format;

/// A command line that runs a cmdlet.
#[derive(Debug, Default)]
pub(crate) struct CmdletLine {
    pub global: Global,
    pub transport: Option<Transport>,
    /// Where further parameters come from: JSON, `@file` or `-`.
    pub params: Option<String>,
    /// The properties that are shown; all where it is empty.
    pub select: Vec<String>,
    /// A JMESPath expression.
    pub query: Option<String>,
    pub progress: Progress,
    /// The tenant, by id or domain, that the profile must be for.
    pub require_tenant: Option<String>,
    /// SecureStrings of objects are shown as text.
    pub show_secrets: bool,
    pub cmdlet: String,
    pub words: Vec<String>,
    /// Options that came already.
    seen: Vec<String>,
}

/// Reads the words after the program's name; `None` when it is another command, or a call for help.
///
/// Ours are the long options that we define and `-o`, anywhere before `--`; a short `-v` only before the cmdlet. Every
/// other word after the cmdlet is the cmdlet's.
pub(crate) fn read(words: &[String]) -> Result<Option<CmdletLine>, Failure> {
    let mut line = CmdletLine::default();
    let mut words = words.iter();
    let mut after_run = false;
    loop {
        let Some(word) = words.next() else { return Ok(None) };
        if line.own(word, &mut words)? {
            continue;
        }
        match word.as_str() {
            w if w.chars().filter(|c| *c == 'v').count() + 1 == w.len() && w.starts_with("-v") => {
                line.global.verbose += u8::try_from(w.len() - 1).unwrap_or(u8::MAX);
            }
            "run" if !after_run => after_run = true,
            w if w.starts_with('-') => return Ok(None),
            w if after_run || (is_verb_noun(w) && dialect::verb_of(w).is_none()) => {
                line.cmdlet = w.to_owned();
                break;
            }
            _ => return Ok(None),
        }
    }
    while let Some(word) = words.next() {
        if word == "--" {
            line.words.extend(words.by_ref().cloned());
        } else if matches!(word.as_str(), "--help") {
            return Ok(None);
        } else if !line.own(word, &mut words)? {
            line.words.push(word.clone());
        }
    }
    line.fill_from_environment()?;
    Ok(Some(line))
}

impl CmdletLine {
    /// Takes one of our options with its value.
    fn own<'a>(&mut self, word: &str, words: &mut impl Iterator<Item = &'a String>) -> Result<bool, Failure> {
        let (name, glued) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (word, None),
        };
        let name = if name.starts_with("--") { name.to_ascii_lowercase() } else { name.to_owned() };
        if name == "--verbose" && glued.is_none() {
            self.global.verbose += 1;
            return Ok(true);
        }
        if name == "--show-secrets" && glued.is_none() {
            self.show_secrets = true;
            return Ok(true);
        }
        if name == "--quiet" && glued.is_none() {
            self.global.quiet = true;
            return Ok(true);
        }
        if !matches!(
            name.as_str(),
            "-o" | "--output" | "--profile" | "--transport" | "--params" | "--select" | "--query" | "--progress" | "--require-tenant"
        ) {
            return Ok(false);
        }
        let long = if name == "-o" { "--output".to_owned() } else { name.clone() };
        if self.seen.contains(&long) {
            return Err(Failure::usage(format!("{long} is given twice")).hint("give it once"));
        }
        self.seen.push(long);
        let value = match glued {
            Some(value) => value,
            None => words
                .next()
                .cloned()
                .ok_or_else(|| Failure::usage(format!("{name} needs a value")).hint("'exops run --help' tells which"))?,
        };
        match name.as_str() {
            "--profile" => (self.global.profile, self.global.names_profile) = (Some(value), true),
            "--params" => self.params = Some(value),
            "--query" => self.query = Some(value),
            "--progress" => self.progress = choice(&name, &value)?,
            "--require-tenant" => self.require_tenant = Some(value),
            "--select" => {
                self.select = value.split(',').map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect();
                if self.select.is_empty() {
                    return Err(Failure::usage("--select names no property").hint("such as --select DisplayName,PrimarySmtpAddress"));
                }
            }
            "--transport" => self.transport = Some(choice(&name, &value)?),
            _ => self.global.output = Some(choice::<Format>(&name, &value)?),
        }
        Ok(true)
    }

    fn fill_from_environment(&mut self) -> Result<(), Failure> {
        if self.global.output.is_none() {
            self.global.output = variable("EXOPS_OUTPUT").map(|v| choice("EXOPS_OUTPUT", &v)).transpose()?;
        }
        if self.global.profile.is_none() {
            self.global.profile = variable("EXOPS_PROFILE");
        }
        if self.transport.is_none() {
            self.transport = variable("EXOPS_TRANSPORT").map(|v| choice("EXOPS_TRANSPORT", &v)).transpose()?;
        }
        Ok(())
    }
}

fn choice<T: ValueEnum>(name: &str, value: &str) -> Result<T, Failure> {
    T::from_str(value, true).map_err(|_| {
        let all: Vec<String> = T::value_variants().iter().filter_map(|v| Some(v.to_possible_value()?.get_name().to_owned())).collect();
        Failure::usage(format!("'{value}' is no value of {name}")).hint(format!("one of {}", all.join(", ")))
    })
}

/// `Get-Mailbox`: a verb and a noun with one dash.
fn is_verb_noun(word: &str) -> bool {
    let Some((verb, noun)) = word.split_once('-') else { return false };
    verb.len() > 1
        && verb.chars().all(|c| c.is_ascii_alphabetic())
        && noun.starts_with(|c: char| c.is_ascii_alphabetic())
        && noun.chars().all(|c| c.is_ascii_alphanumeric())
}
