//! Prompts of cmdlets at the terminal.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;

use exops_psobject::{Base, CREDENTIAL, ListKind, PsObject, Value};
use exops_runspace::{BoxFuture, Choice, Field, Host, HostError, Question, StopToken};
use secrecy::SecretString;

use crate::hidden;
use crate::output::printable;
use crate::secret_argument::{credential, secure};

/// Most items of a list that are asked for.
const ITEMS: usize = 1000;

/// Asks on standard error, reads standard input, until the cmdlet is to stop. Secrets are asked for at the terminal itself.
struct Terminal(StopToken);

/// A host, where somebody sits at the terminal.
pub(crate) fn terminal(stop: &StopToken) -> Option<Arc<dyn Host>> {
    let somebody = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    somebody.then(|| Arc::new(Terminal(stop.clone())) as Arc<dyn Host>)
}

impl Host for Terminal {
    fn prompt_for_choice<'a>(
        &'a self,
        caption: &'a str,
        message: &'a str,
        choices: &'a [Choice],
        default: usize,
    ) -> BoxFuture<'a, Result<usize, HostError>> {
        let usual = choices.get(default).map(|c| format!(" (default is \"{}\")", hot(c).to_uppercase())).unwrap_or_default();
        let question = format!("{}{}{usual}: ", introduction(caption, message), offers(choices));
        Box::pin(async move {
            loop {
                let answer = ask(question.clone(), &self.0).await?;
                if answer.trim().is_empty() && default < choices.len() {
                    return Ok(default);
                }
                if let Some(chosen) = chosen(choices, answer.trim()) {
                    return Ok(chosen);
                }
            }
        })
    }

    fn prompt_for_choices<'a>(
        &'a self,
        caption: &'a str,
        message: &'a str,
        choices: &'a [Choice],
        defaults: &'a [usize],
    ) -> BoxFuture<'a, Result<Vec<usize>, HostError>> {
        let usual: Vec<String> = defaults.iter().filter_map(|i| choices.get(*i)).map(|c| hot(c).to_uppercase().to_string()).collect();
        let usual = if usual.is_empty() { String::new() } else { format!(" (default is \"{}\")", usual.join(",")) };
        let question = format!("{}{}\nSeveral with commas{usual}: ", introduction(caption, message), offers(choices));
        Box::pin(async move {
            loop {
                let answer = ask(question.clone(), &self.0).await?;
                if answer.trim().is_empty() {
                    return Ok(defaults.to_vec());
                }
                let found: Option<Vec<usize>> = answer.split(',').map(|part| chosen(choices, part.trim())).collect();
                if let Some(mut found) = found {
                    found.sort_unstable();
                    found.dedup();
                    return Ok(found);
                }
            }
        })
    }

    fn read_line(&self) -> BoxFuture<'_, Result<String, HostError>> {
        Box::pin(ask(String::new(), &self.0))
    }

    fn ask<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Value, HostError>> {
        Box::pin(async move {
            match question {
                Question::Secret => ask_hidden("The cmdlet asks for a secret: ".to_owned(), &self.0).await.map(secure),
                Question::Credential { caption, message, user, target } => {
                    let place = if target.is_empty() { String::new() } else { format!(" for {}", printable(target)) };
                    let (user, place) = (printable(user), format!("{}User name{place}", introduction(caption, message)));
                    self.credential(&place, &user).await
                }
                Question::Fields { caption, message, fields } => {
                    let mut introduction = introduction(caption, message);
                    let mut entries = Vec::new();
                    for field in fields {
                        let value = self.field(std::mem::take(&mut introduction), field).await?;
                        entries.push((Value::from(field.name.as_str()), value));
                    }
                    Ok(PsObject { base: Base::Dictionary(entries), ..PsObject::default() }.into())
                }
            }
        })
    }
}

impl Terminal {
    async fn credential(&self, place: &str, offered: &str) -> Result<Value, HostError> {
        let usual = if offered.is_empty() { String::new() } else { format!(" (default is \"{offered}\")") };
        let typed = ask(format!("{place}{usual}: "), &self.0).await?;
        let user = if typed.trim().is_empty() { offered } else { typed.trim() };
        if user.is_empty() {
            return Err(HostError::Cancelled);
        }
        let password = ask_hidden(format!("Password of {}: ", printable(user)), &self.0).await?;
        Ok(credential(user, password))
    }

    async fn field(&self, introduction: String, field: &Field) -> Result<Value, HostError> {
        let label = if field.label.is_empty() { &field.name } else { &field.label };
        let label = printable(&label.replacen('&', "", 1));
        let help = if field.help.is_empty() { String::new() } else { format!(" ({})", printable(&field.help)) };
        let label = format!("{introduction}{label}{help}");
        if field.is_secret {
            return ask_hidden(format!("{label}: "), &self.0).await.map(secure);
        }
        if field.type_name.eq_ignore_ascii_case(CREDENTIAL) {
            return self.credential(&format!("{label}, user name"), "").await;
        }
        let usual = field.default.as_ref().map(|d| format!(" (default is \"{}\")", printable(&d.display()))).unwrap_or_default();
        if !field.type_name.ends_with("[]") {
            return ask(format!("{label}{usual}: "), &self.0).await.map(Value::from);
        }
        // One a line; an empty line ends the list.
        let mut items = Vec::new();
        while items.len() < ITEMS {
            let line = ask(format!("{label}[{}]{usual}: ", items.len()), &self.0).await?;
            if line.is_empty() {
                break;
            }
            items.push(Value::from(line));
        }
        Ok(PsObject { base: Base::List(ListKind::List, items), ..PsObject::default() }.into())
    }
}

/// Title and message, each on its line.
fn introduction(caption: &str, message: &str) -> String {
    let lines = |text: &str| text.lines().map(printable).collect::<Vec<_>>().join("\n");
    let shown = [caption, message].into_iter().filter(|text| !text.is_empty()).map(|text| format!("{}\n", lines(text)));
    format!("\n{}", shown.collect::<String>())
}

fn shown(choice: &Choice) -> String {
    printable(&choice.label).replacen('&', "", 1)
}

fn hot(choice: &Choice) -> char {
    choice.label.split_once('&').and_then(|(_, rest)| rest.chars().next()).filter(|c| !c.is_control()).unwrap_or('?')
}

fn offers(choices: &[Choice]) -> String {
    choices.iter().map(|c| format!("[{}] {}", hot(c).to_uppercase(), shown(c))).collect::<Vec<_>>().join("  ")
}

fn chosen(choices: &[Choice], answer: &str) -> Option<usize> {
    let fits = |c: &Choice| shown(c).eq_ignore_ascii_case(answer) || hot(c).to_string().eq_ignore_ascii_case(answer);
    choices.iter().position(fits)
}

/// One line. The thread that waits for it does not keep the program from ending.
async fn ask(question: String, stop: &StopToken) -> Result<String, HostError> {
    let line = waited(stop, move || {
        // The lock ends before the wait begins: others have something to say meanwhile.
        std::io::stderr().write_all(question.as_bytes()).ok()?;
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).ok().filter(|n| *n > 0).map(|_| line)
    })
    .await?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A line that nobody sees.
async fn ask_hidden(question: String, stop: &StopToken) -> Result<SecretString, HostError> {
    waited(stop, move || hidden::ask(&question).ok()).await
}

async fn waited<T: Send + 'static>(stop: &StopToken, read: impl FnOnce() -> Option<T> + Send + 'static) -> Result<T, HostError> {
    let read = tokio::task::spawn_blocking(read);
    let answer = tokio::select! {
        () = stop.stopped() => None,
        read = read => read.ok().flatten(),
    };
    answer.ok_or(HostError::Cancelled)
}
