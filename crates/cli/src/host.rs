//! Prompts of cmdlets at the terminal.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;

use exops_runspace::{BoxFuture, Choice, Host, HostError, StopToken};

use crate::output::printable;

/// Asks on standard error, reads standard input, until the cmdlet is to stop.
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
        let shown = |c: &Choice| printable(&c.label).replacen('&', "", 1);
        let hot = |c: &Choice| c.label.split_once('&').and_then(|(_, rest)| rest.chars().next()).unwrap_or('?');
        let offers: Vec<String> = choices.iter().map(|c| format!("[{}] {}", hot(c).to_uppercase(), shown(c))).collect();
        let usual = choices.get(default).map(|c| hot(c).to_uppercase().to_string()).unwrap_or_default();
        let lines = |text: &str| text.lines().map(printable).collect::<Vec<_>>().join("\n");
        let (caption, message) = (lines(caption), lines(message));
        let question = format!("\n{caption}\n{message}\n{} (default is \"{usual}\"): ", offers.join("  "));
        Box::pin(async move {
            loop {
                let answer = ask(question.clone(), &self.0).await?;
                let answer = answer.trim();
                if answer.is_empty() {
                    return Ok(default);
                }
                let fits = |c: &Choice| shown(c).eq_ignore_ascii_case(answer) || hot(c).to_string().eq_ignore_ascii_case(answer);
                if let Some(chosen) = choices.iter().position(fits) {
                    return Ok(chosen);
                }
            }
        })
    }

    fn read_line(&self) -> BoxFuture<'_, Result<String, HostError>> {
        Box::pin(ask(String::new(), &self.0))
    }
}

/// One line. The thread that waits for it does not keep the program from ending.
async fn ask(question: String, stop: &StopToken) -> Result<String, HostError> {
    let read = tokio::task::spawn_blocking(move || {
        // The lock ends before the wait begins: others have something to say meanwhile.
        std::io::stderr().write_all(question.as_bytes()).ok()?;
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).ok().filter(|n| *n > 0).map(|_| line)
    });
    let line = tokio::select! {
        () = stop.stopped() => None,
        read = read => read.ok().flatten(),
    };
    let line = line.ok_or(HostError::Cancelled)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
