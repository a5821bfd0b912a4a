//! The words of a cmdlet line, as a shell hands them over, read in PowerShell's manner.
//!
//! A shell has removed the outer quotes before we see a word, so what a word means depends on the parameter that it is
//! for: a comma separates items for a list and is part of the text otherwise.

use std::collections::VecDeque;
use std::sync::Arc;

use exops_catalogue::{Argument, Catalogue, Cmdlet, Command, Parameter, ParameterKind};
use exops_psobject::{PsObject, Value};

use crate::failure::Failure;
use crate::params::hashtable;

/// Deepest nesting of `@{…}`.
const DEPTH: usize = 16;

/// Reads the words after a cmdlet's name.
pub(crate) fn command(cmdlet: &str, words: Vec<String>) -> Result<Command, Failure> {
    let known = Catalogue::built_in().cmdlet(cmdlet).cloned();
    let mut words: VecDeque<String> = words.into();
    let mut command = Command::new(cmdlet);
    let mut position = 0;
    // The parameter whose value comes next, as far as this end knows.
    let mut waiting: Option<String> = None;
    while let Some(word) = words.pop_front() {
        no_typography(&word)?;
        if let Some((name, value)) = name_of(&word) {
            let parameter = known.as_ref().and_then(|c| parameter(c, &name));
            if name.len() == 1 && parameter.is_none_or(|p| !p.aliases.iter().any(|a| a.eq_ignore_ascii_case(&name))) {
                return Err(Failure::usage(format!("'{word}' is no parameter: a single letter is never taken as the start of a name"))
                    .hint("write the name out; exops' own options other than -o come before the cmdlet"));
            }
            match value {
                Some("") => {
                    return Err(Failure::usage(format!("'{word}' has no value: a shell turns $true and $false into nothing"))
                        .hint(format!("write -{name}:true or -{name}:false, or quote the word: '-{name}:$false'")));
                }
                Some(value) => {
                    let secret = parameter.is_some_and(|p| p.is_secret());
                    let value = match secret {
                        // Where it is, not what it is: [`crate::secret_argument`] gets it.
                        true => Value::from(value),
                        false => typed(&gather(value.to_owned(), &mut words), Some(&name), parameter, true)?,
                    };
                    command.arguments.push(Argument { name: Some(name), value: Some(value), glued: true });
                    waiting = None;
                }
                None => {
                    command.arguments.push(Argument { name: Some(name.clone()), value: None, glued: false });
                    let is_switch = parameter.is_some_and(|p| p.kind == ParameterKind::Switch);
                    waiting = (!is_switch).then_some(name);
                }
            }
            continue;
        }
        let name = waiting.take();
        let parameter = match (&known, &name) {
            (Some(cmdlet), Some(name)) => parameter(cmdlet, name),
            (Some(cmdlet), None) => {
                position += 1;
                positional(cmdlet, position - 1)
            }
            _ => None,
        };
        if parameter.is_some_and(|p| p.is_secret()) {
            command.arguments.push(Argument { name: None, value: Some(word.into()), glued: false });
            continue;
        }
        let mut raw = gather(word, &mut words);
        if takes_list(parameter) {
            // `a, b` and `a ,b` are one list.
            while raw.ends_with(',') || words.front().is_some_and(|w| w.starts_with(',')) {
                let Some(next) = words.pop_front() else { break };
                raw.push_str(&next);
            }
        }
        let value = typed(&raw, name.as_deref(), parameter, false)?;
        command.arguments.push(Argument { name: None, value: Some(value), glued: false });
    }
    Ok(command)
}

/// Text processors turn `-Name` and `"…"` into dashes and quotes that no shell knows.
fn no_typography(word: &str) -> Result<(), Failure> {
    let mut letters = word.chars();
    let what = match (letters.next(), letters.next()) {
        (Some('\u{2013}' | '\u{2014}' | '\u{2015}'), Some(c)) if c.is_ascii_alphabetic() => "dash",
        (Some('\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{2018}' | '\u{201a}'), _) => "quote",
        _ => return Ok(()),
    };
    Err(Failure::usage(format!("'{word}' begins with a typographic {what}, as documents and mails have them")).hint(if what == "dash" {
        "type it again with the '-' of the keyboard"
    } else {
        "type it again with the keyboard's own quotes"
    }))
}

/// `-Name`, `-Name:value`, `--what-if`, `--result-size=5`: the name without dashes, and the value that is glued to it.
fn name_of(word: &str) -> Option<(String, Option<&str>)> {
    let (long, rest) = match word.strip_prefix("--") {
        Some(rest) => (true, rest),
        None => (false, word.strip_prefix('-')?),
    };
    if !rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || (long && c == '-'))).unwrap_or(rest.len());
    let (name, tail) = rest.split_at(end);
    let value = match tail.chars().next() {
        None => None,
        Some(':') => tail.get(1..),
        Some('=') if long => tail.get(1..),
        // `-not (…)`: a value that begins with a dash.
        Some(_) => return None,
    };
    let name = if long { name.split('-').map(capital).collect() } else { name.to_owned() };
    Some((name, value))
}

fn capital(part: &str) -> String {
    let mut letters = part.chars();
    letters.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

/// A parameter by name, alias or unique prefix of two letters or more.
pub(crate) fn parameter<'a>(cmdlet: &'a Cmdlet, name: &str) -> Option<&'a Arc<Parameter>> {
    if let Some(exact) = cmdlet.parameter(name) {
        return Some(exact);
    }
    let starts = |text: &str| text.get(..name.len()).is_some_and(|t| t.eq_ignore_ascii_case(name));
    let mut fitting = cmdlet.parameters.iter().filter(|p| name.len() > 1 && (starts(&p.name) || p.aliases.iter().any(|a| starts(a))));
    let first = fitting.next()?;
    fitting.next().is_none().then_some(first)
}

fn positional(cmdlet: &Cmdlet, position: u32) -> Option<&Arc<Parameter>> {
    cmdlet.parameters.iter().find(|p| p.sets.iter().any(|s| s.position == Some(position)))
}

/// Whether commas separate items: the parameter is a list, or nobody here knows it.
fn takes_list(parameter: Option<&Arc<Parameter>>) -> bool {
    parameter.is_some_and(|p| p.kind == ParameterKind::TextList || is_collection(&p.type_name))
}

fn is_collection(type_name: &str) -> bool {
    type_name.ends_with("[]") || type_name.contains("MultiValuedProperty") || type_name.ends_with("Collection")
}

/// Puts the words of one `@{ … }` or `@( … )` together again.
fn gather(mut word: String, words: &mut VecDeque<String>) -> String {
    let open = |text: &str| -> i64 {
        let mut depth = 0i64;
        let mut quote = None;
        for c in text.chars() {
            match (quote, c) {
                (Some(q), c) if c == q => quote = None,
                (None, '\'' | '"') => quote = Some(c),
                (None, '{' | '(') => depth += 1,
                (None, '}' | ')') => depth -= 1,
                _ => {}
            }
        }
        depth
    };
    if word.starts_with("@{") || word.starts_with("@(") {
        while open(&word) > 0 {
            let Some(next) = words.pop_front() else { break };
            word.push(' ');
            word.push_str(&next);
        }
    }
    word
}

/// The value of one word.
fn typed(raw: &str, name: Option<&str>, parameter: Option<&Arc<Parameter>>, glued: bool) -> Result<Value, Failure> {
    let shown = name.map(|n| format!(" of -{n}")).unwrap_or_default();
    if raw == "System.Collections.Hashtable" || raw == "System.Object[]" {
        return Err(Failure::usage(format!(
            "the value{shown} is '{raw}': PowerShell hands a program the name of a type, not the @{{…}} you wrote"
        ))
        .hint("quote it for the program: '@{Add=\"x\"}'"));
    }
    if raw.starts_with("@{") || raw.starts_with("@(") {
        let mut reader = Reader { rest: raw, depth: 0 };
        let value = reader.value(&[]).and_then(|v| {
            reader.blanks();
            if reader.rest.is_empty() { Ok(v) } else { Err(format!("'{}' is left over", reader.rest)) }
        });
        return value.map_err(|e| {
            Failure::usage(format!("the value{shown} cannot be read: {e} in {raw}"))
                .hint("write @{Add='a','b'; Remove='c'} and quote the whole for your shell")
        });
    }
    match raw.to_ascii_lowercase().as_str() {
        "$true" => return Ok(Value::Bool(true)),
        "$false" => return Ok(Value::Bool(false)),
        "$null" => return Ok(Value::Null),
        word @ ("true" | "false") => {
            let kind = parameter.map(|p| p.kind);
            let boolean = matches!(kind, Some(ParameterKind::Switch | ParameterKind::Boolean)) || (glued && kind.is_none());
            if boolean {
                return Ok(Value::Bool(word == "true"));
            }
        }
        _ => {}
    }
    if takes_list(parameter) && raw.contains(',') || (raw.starts_with(['\'', '"']) && raw.len() > 1) {
        let mut reader = Reader { rest: raw, depth: 0 };
        if let Ok(value) = reader.value(&[]) {
            reader.blanks();
            if reader.rest.is_empty() {
                return Ok(value);
            }
        }
    }
    Ok(raw.into())
}

/// Reads literal values: quoted and bare texts, comma lists, `@{…}`, `@(…)`, `$true`, `$false`, `$null`.
struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.blanks();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// One value or a comma list; a bare text ends before one of `stops` or a comma.
    fn value(&mut self, stops: &[char]) -> Result<Value, String> {
        let first = self.single(stops)?;
        if !self.eat(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        loop {
            items.push(self.single(stops)?);
            if !self.eat(",") {
                return Ok(PsObject::from_list(items).into());
            }
        }
    }

    fn single(&mut self, stops: &[char]) -> Result<Value, String> {
        self.blanks();
        if self.depth > DEPTH {
            return Err(format!("more than {DEPTH} levels"));
        }
        if self.rest.starts_with("@{") {
            return self.table();
        }
        if self.eat("@(") {
            self.depth += 1;
            let items = if self.eat(")") {
                Vec::new()
            } else {
                let value = self.value(&[')'])?;
                if !self.eat(")") {
                    return Err("a ')' is missing".to_owned());
                }
                value.as_list().map_or_else(|| vec![value.clone()], <[Value]>::to_vec)
            };
            self.depth -= 1;
            return Ok(PsObject::from_list(items).into());
        }
        if let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"')) {
            return self.quoted(quote).map(Value::from);
        }
        let end = self.rest.find(|c| c == ',' || stops.contains(&c)).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(match text.trim() {
            t if t.eq_ignore_ascii_case("$true") => Value::Bool(true),
            t if t.eq_ignore_ascii_case("$false") => Value::Bool(false),
            t if t.eq_ignore_ascii_case("$null") => Value::Null,
            t => t.into(),
        })
    }

    /// A doubled quote inside stands for itself.
    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut text = String::new();
        let mut letters = self.rest.char_indices().skip(1).peekable();
        while let Some((at, c)) = letters.next() {
            if c != quote {
                text.push(c);
            } else if letters.peek().is_some_and(|(_, next)| *next == quote) {
                letters.next();
                text.push(quote);
            } else {
                self.rest = self.rest.get(at + c.len_utf8()..).unwrap_or_default();
                return Ok(text);
            }
        }
        Err(format!("a closing {quote} is missing"))
    }

    fn table(&mut self) -> Result<Value, String> {
        self.eat("@{");
        self.depth += 1;
        let mut entries = Vec::new();
        loop {
            while self.eat(";") {}
            if self.eat("}") {
                break;
            }
            self.blanks();
            let key = match self.rest.chars().next() {
                Some(quote @ ('\'' | '"')) => self.quoted(quote)?,
                _ => {
                    let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
                    let (key, rest) = self.rest.split_at(end);
                    self.rest = rest;
                    key.to_owned()
                }
            };
            if key.is_empty() || !self.eat("=") {
                return Err("a name and '=' are missing".to_owned());
            }
            entries.push((key.into(), self.value(&[';', '}'])?));
            if !self.rest.trim_start().starts_with([';', '}']) {
                return Err("a '}' is missing".to_owned());
            }
        }
        self.depth -= 1;
        Ok(hashtable(entries))
    }
}

#[cfg(test)]
mod tests;
