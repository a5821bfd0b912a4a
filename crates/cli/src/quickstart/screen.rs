//! What quickstart shows: lines for a person as steps end, or one JSON document at the end.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, Instant};

use exops_psobject::Value;
use serde_json::{Map, Value as Json, json};

use crate::failure::Failure;
use crate::output::{cell, printable};
use crate::print;

/// Columns of the table of mailboxes; quickstart chooses its own.
const COLUMNS: [&str; 4] = ["DisplayName", "PrimarySmtpAddress", "RecipientTypeDetails", "ProhibitSendQuota"];
/// Where the milliseconds end.
const WIDTH: usize = 104;

pub(super) struct Screen {
    as_json: bool,
    colour: bool,
    began: Instant,
    step_began: Instant,
    name: &'static str,
    steps: Vec<Json>,
    document: Map<String, Json>,
}

impl Screen {
    pub(super) fn new(as_json: bool) -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let now = Instant::now();
        Self { as_json, colour, began: now, step_began: now, name: "", steps: Vec::new(), document: Map::new() }
    }

    pub(super) fn title(&self, text: &str) -> Result<(), Failure> {
        self.line(&format!("{text}\n"))
    }

    /// A step starts; its clock runs.
    pub(super) fn begin(&mut self, name: &'static str) {
        self.name = name;
        self.step_began = Instant::now();
    }

    /// The step ended well.
    pub(super) fn step(&mut self, text: &str, detail: Json) -> Result<(), Failure> {
        let took = self.step_began.elapsed();
        self.steps.push(json!({"name": self.name, "ok": true, "ms": milliseconds(took), "detail": detail}));
        let begin = format!("{:>2} {:11}   {text}", self.steps.len(), self.name);
        self.line(&self.timed(&begin, took))
    }

    /// Something more within the step that ended last: a line of its own, and its time in the step's detail.
    pub(super) fn sub_step(&mut self, text: &str, key: &str, took: Duration) -> Result<(), Failure> {
        if let Some(detail) = self.steps.last_mut().and_then(|s| s.get_mut("detail")).and_then(Json::as_object_mut) {
            detail.insert(key.to_owned(), json!({"text": text, "ms": milliseconds(took)}));
        }
        self.line(&self.timed(&format!("   {text}"), took))
    }

    /// A table of mailboxes and the warnings that came with them.
    pub(super) fn mailboxes(&self, objects: &[Value], warnings: &[String]) -> Result<(), Failure> {
        let text = |o: &Value, c: &str| o.as_object().and_then(|o| o.property(c)).map(|v| printable(&cell(v))).unwrap_or_default();
        let rows: Vec<[String; 4]> = objects.iter().map(|o| COLUMNS.map(|c| text(o, c))).collect();
        let width = |i: usize| {
            let cells = rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count());
            cells.chain(COLUMNS.get(i).map(|c| c.len())).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
        let row = |cells: &[String]| {
            let padded: Vec<String> = cells.iter().zip(&widths).map(|(c, w)| format!("{c:w$}", w = *w)).collect();
            format!("   {}", padded.join("  ").trim_end())
        };
        self.line("")?;
        self.line(&row(&COLUMNS.map(str::to_owned)))?;
        for cells in &rows {
            self.line(&row(cells))?;
        }
        for warning in warnings {
            self.line(&format!("   WARNING: {warning}"))?;
        }
        self.line("")
    }

    /// A member of the JSON document.
    pub(super) fn keep(&mut self, name: &str, value: Json) {
        self.document.insert(name.to_owned(), value);
    }

    /// All steps ended well.
    pub(super) fn done(&mut self, next: Vec<(String, String)>) -> Result<(), Failure> {
        if self.as_json {
            let next: Vec<String> = next.into_iter().map(|(command, _)| command).collect();
            return self.document(true, json!({ "next": next }));
        }
        let width = next.iter().map(|(c, _)| c.chars().count()).max().unwrap_or_default().min(60);
        self.line(&format!("\nDone in {:.2} s. Next:", self.began.elapsed().as_secs_f64()))?;
        next.iter().try_for_each(|(command, what)| self.line(format!("  {command:width$}  {what}").trim_end()))
    }

    /// The step that was begun failed.
    pub(super) fn failed(&mut self, failure: &Failure, folder: &Path, authority: Option<&str>) -> Result<(), Failure> {
        let detail = json!({"error": failure.json().get("error"), "folder": folder, "authority": authority});
        self.steps.push(json!({"name": self.name, "ok": false, "ms": milliseconds(self.step_began.elapsed()), "detail": detail}));
        if self.as_json {
            return self.document(false, json!({"next": [], "folder": folder}));
        }
        self.line(&format!("{:>2} {:11}   {}", self.steps.len(), self.name, self.coloured("31", "FAILED")))?;
        self.line(&format!("   {}", failure.message))?;
        if !failure.hint.is_empty() {
            self.line(&format!("   {}", failure.hint))?;
        }
        self.line(&format!("\nEverything is left in {} for inspection.", folder.display()))
    }

    fn document(&mut self, ok: bool, rest: Json) -> Result<(), Failure> {
        let mut document = Map::new();
        document.insert("ok".to_owned(), ok.into());
        document.insert("steps".to_owned(), std::mem::take(&mut self.steps).into());
        for name in ["mailboxes", "audit"] {
            document.insert(name.to_owned(), self.document.remove(name).unwrap_or_else(|| json!([])));
        }
        if let Json::Object(rest) = rest {
            document.extend(rest);
        }
        print(&format!("{}\n", Json::Object(document)))
    }

    fn timed(&self, text: &str, took: Duration) -> String {
        let time = format!("{:>6.0} ms", milliseconds(took));
        let room = WIDTH.saturating_sub(text.chars().count() + time.len()).max(1);
        format!("{text}{}{}", " ".repeat(room), self.coloured("2", &time))
    }

    fn coloured(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn line(&self, text: &str) -> Result<(), Failure> {
        if self.as_json { Ok(()) } else { print(&format!("{text}\n")) }
    }
}

fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 100_000.0).round() / 100.0
}

/// `51360` as `51,360`.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
