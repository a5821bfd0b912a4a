//! How far a cmdlet or another long command is: on standard error, and by itself only where a person looks at it.

use std::future::Future;
use std::io::{IsTerminal as _, Write as _};
use std::pin::pin;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::options::Progress as Choice;
use crate::tell;

/// Time between two tellings.
const EVERY: Duration = Duration::from_millis(100);

/// What is over sooner is not told of.
const SOON: Duration = Duration::from_millis(500);

/// Does something that takes a while, with a line on a terminal that says what and for how long; `text` is asked anew
/// for each.
pub(crate) async fn during<T>(text: impl Fn() -> String, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    if crate::is_quiet() || !is_for_a_person() {
        return work.await;
    }
    let (began, mut line, mut wait) = (Instant::now(), Line(0), SOON);
    loop {
        match tokio::time::timeout(wait, &mut work).await {
            Ok(done) => {
                line.clear();
                return done;
            }
            Err(_) => line.show(&format!("{}, {} s", text(), began.elapsed().as_secs())),
        }
        wait = EVERY;
    }
}

/// Whether a line can change where standard error goes.
fn is_for_a_person() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// A line on the terminal, by the letters that stand there.
struct Line(usize);

impl Line {
    fn show(&mut self, text: &str) {
        let mut err = std::io::stderr().lock();
        let _ = write!(err, "\r{text:width$}", width = self.0).and_then(|()| err.flush());
        self.0 = text.chars().count();
    }

    /// Takes the line away, so that something else can be written.
    fn clear(&mut self) {
        if self.0 > 0 {
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "\r{:width$}\r", "", width = self.0).and_then(|()| err.flush());
            self.0 = 0;
        }
    }
}

/// Counts objects and tells of it.
pub(crate) struct Progress {
    form: Form,
    objects: u64,
    began: Instant,
    told: Option<Instant>,
    line: Line,
}

enum Form {
    Nothing,
    Line,
    Jsonl,
}

impl Progress {
    /// Where both streams are one terminal the objects themselves show how far it is.
    pub(crate) fn new(choice: Choice, quiet: bool) -> Self {
        let form = match choice {
            Choice::Jsonl => Form::Jsonl,
            Choice::Auto if !quiet && is_for_a_person() && !std::io::stdout().is_terminal() => Form::Line,
            _ => Form::Nothing,
        };
        Self { form, objects: 0, began: Instant::now(), told: None, line: Line(0) }
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
                self.line.show(&format!("{} objects, {rate:.0}/s", self.objects));
            }
        }
    }

    /// Takes the line away, so that something else can be written.
    pub(crate) fn clear(&mut self) {
        self.line.clear();
    }

    /// The last word.
    pub(crate) fn finish(&mut self) {
        self.clear();
        if matches!(self.form, Form::Jsonl) {
            self.show();
        }
    }
}
