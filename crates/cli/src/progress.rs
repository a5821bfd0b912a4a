//! How far a cmdlet is: on standard error, and by itself only where a person looks at it.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::options::Progress as Choice;
use crate::tell;

/// Time between two tellings.
const EVERY: Duration = Duration::from_millis(100);

/// Counts objects and tells of it.
pub(crate) struct Progress {
    form: Form,
    objects: u64,
    began: Instant,
    told: Option<Instant>,
    /// Letters of the line that stands on the terminal.
    line: usize,
}

enum Form {
    Nothing,
    Line,
    Jsonl,
}

impl Progress {
    /// Where both streams are one terminal the objects themselves show how far it is.
    pub(crate) fn new(choice: Choice, quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let form = match choice {
            Choice::Jsonl => Form::Jsonl,
            Choice::Auto if !quiet && !dumb && std::io::stderr().is_terminal() && !std::io::stdout().is_terminal() => Form::Line,
            _ => Form::Nothing,
        };
        Self { form, objects: 0, began: Instant::now(), told: None, line: 0 }
    }

    /// One object more.
    pub(crate) fn object(&mut self) {
        self.objects += 1;
        if self.told.is_none_or(|at| at.elapsed() >= EVERY) {
            self.told = Some(Instant::now());
            self.show();
        }
    }

    fn show(&mut self) {
        let seconds = self.began.elapsed().as_secs_f64();
        match self.form {
            Form::Nothing => {}
            Form::Jsonl => {
                tell(&json!({"progress": {"objects": self.objects, "seconds": (seconds * 1000.0).round() / 1000.0}}).to_string())
            }
            Form::Line => {
                #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
                let rate = self.objects as f64 / seconds.max(0.001);
                let text = format!("{} objects, {rate:.0}/s", self.objects);
                let mut err = std::io::stderr().lock();
                let _ = write!(err, "\r{text:width$}", width = self.line).and_then(|()| err.flush());
                self.line = text.len();
            }
        }
    }

    /// Takes the line away, so that something else can be written.
    pub(crate) fn clear(&mut self) {
        if self.line > 0 {
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "\r{:width$}\r", "", width = self.line).and_then(|()| err.flush());
            self.line = 0;
        }
    }

    /// The last word.
    pub(crate) fn finish(&mut self) {
        self.clear();
        if matches!(self.form, Form::Jsonl) {
            self.show();
        }
    }
}
