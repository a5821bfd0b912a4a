//! Enumerate and Pull: a list in parts. The context of the next part says where it begins, so the server keeps nothing.

use crate::answer::{self, ShellDescription, element_into, escape_into, shell_into};
use crate::incoming::{schema, shell_selector};
use crate::xml::Element;
use crate::{Action, CommandState, Fault, uri};

/// What Enumerate or Pull asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enumeration {
    /// The commands of this shell; `None`: the shells.
    pub shell_id: Option<String>,
    /// Only items after this id.
    pub after: Option<String>,
    /// So many items at most. None for an Enumerate that is not optimized: it gets a context to pull with.
    pub max_elements: usize,
}

impl Enumeration {
    pub(crate) fn enumerate(content: Option<&Element>) -> Result<Self, Fault> {
        let filter = content.and_then(|e| e.child(uri::WSMAN, "Filter"));
        let shell_id = match filter.map(|filter| filter.child(uri::WSMAN, "SelectorSet")) {
            None => None,
            Some(Some(set)) => shell_selector(set)?,
            Some(None) => return Err(schema("the Filter of Enumerate holds no SelectorSet; no other dialect is known here")),
        };
        let optimized = content.is_some_and(|e| e.child(uri::WSMAN, "OptimizeEnumeration").is_some());
        let wanted = max_elements(content.and_then(|e| e.child(uri::WSMAN, "MaxElements")))?;
        Ok(Self { shell_id, after: None, max_elements: if optimized { wanted } else { 0 } })
    }

    pub(crate) fn pull(content: &Element) -> Result<Self, Fault> {
        let context = content.child(uri::ENUMERATION, "EnumerationContext").map_or("", |e| e.text.trim());
        let id = |text: &str| -> Option<Option<String>> {
            let is_id = text.len() <= 64 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
            is_id.then(|| Some(text.to_owned()).filter(|id| !id.is_empty()))
        };
        let parts = context.split_once('/').and_then(|(shell, after)| Some((id(shell)?, id(after)?)));
        let Some((shell_id, after)) = parts else {
            return Err(schema(format!("EnumerationContext {context:?} was not given out here")));
        };
        let max_elements = max_elements(content.child(uri::ENUMERATION, "MaxElements"))?;
        Ok(Self { shell_id, after, max_elements })
    }

    fn context(&self, after: Option<&str>) -> String {
        format!("{}/{}", self.shell_id.as_deref().unwrap_or_default(), after.unwrap_or_default())
    }
}

fn max_elements(element: Option<&Element>) -> Result<usize, Fault> {
    // DSP0226: one, where nothing is said.
    let Some(text) = element.map(|e| e.text.trim()) else { return Ok(1) };
    let number = if text.bytes().all(|b| b.is_ascii_digit()) { text.parse::<usize>().unwrap_or(usize::MAX) } else { 0 };
    if number > 0 { Ok(number) } else { Err(schema(format!("MaxElements {text:?} is not a number greater than zero"))) }
}

/// A command, as Enumerate describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandDescription {
    /// The command's id.
    pub command_id: String,
    /// Whether anything of it is left to fetch.
    pub state: CommandState,
}

/// Answers to Enumerate and Pull of one request.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// [`Action::Enumerate`] or [`Action::Pull`].
    pub action: &'a Action,
    /// What the request asks for.
    pub asked: &'a Enumeration,
    /// Longest answer in bytes. One item is given in any case.
    pub max_envelope_size: usize,
    /// The request's MessageID.
    pub relates_to: &'a str,
    /// The answer's own.
    pub message_id: &'a str,
}

impl Part<'_> {
    /// The answer, of all shells that there are, sorted by their ids.
    #[must_use]
    pub fn shells(&self, shells: &[ShellDescription<'_>]) -> String {
        self.envelope(shells.iter().map(|shell| (shell.shell_id, shell)), |shell, out| shell_into(shell, out))
    }

    /// The answer, of all commands that there are, sorted by their ids.
    #[must_use]
    pub fn commands(&self, commands: &[CommandDescription]) -> String {
        self.envelope(commands.iter().map(|command| (command.command_id.as_str(), command)), |command, out| {
            out.push_str("<rsp:Command>");
            for (name, value) in [
                ("rsp:CommandId", command.command_id.as_str()),
                // PowerShell's command is in its first fragments; Windows names the element all the same.
                ("rsp:CommandLine", ""),
                ("rsp:CommandState", command.state.name()),
            ] {
                element_into(name, value, out);
            }
            out.push_str("</rsp:Command>");
        })
    }

    fn envelope<'i, T: 'i>(&self, items: impl Iterator<Item = (&'i str, T)>, write: impl Fn(T, &mut String)) -> String {
        let (response, prefix) = match self.action {
            Action::Pull => ("PullResponse", "n"),
            _ => ("EnumerateResponse", "w"),
        };
        let frame = |context: Option<&str>, items: &str| {
            let mut out = answer::response(self.action, self.relates_to, self.message_id);
            out.push_str(&format!("<n:{response} xmlns:n=\"{}\"><n:EnumerationContext>", uri::ENUMERATION));
            escape_into(context.unwrap_or_default(), &mut out);
            out.push_str(&format!("</n:EnumerationContext><{prefix}:Items>{items}</{prefix}:Items>"));
            if context.is_none() {
                out.push_str(&format!("<{prefix}:EndOfSequence/>"));
            }
            out.push_str(&format!("</n:{response}>"));
            answer::close(out)
        };
        // The longest frame: what an id takes as context, and the end of the sequence.
        let room = self.max_envelope_size.saturating_sub(frame(Some(&self.asked.context(Some(&"0".repeat(64)))), "").len() + 32);
        let (mut out, mut count, mut last) = (String::new(), 0, self.asked.after.as_deref());
        for (id, item) in items.skip_while(|(id, _)| self.asked.after.as_deref().is_some_and(|after| *id <= after)) {
            let before = out.len();
            if count < self.asked.max_elements {
                write(item, &mut out);
            }
            if count == self.asked.max_elements || (count > 0 && out.len() > room) {
                out.truncate(before);
                return frame(Some(&self.asked.context(last)), &out);
            }
            (count, last) = (count + 1, Some(id));
        }
        frame(None, &out)
    }
}
