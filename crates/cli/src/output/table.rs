use std::io::{self, Write};

use exops_catalogue::view;
use exops_psobject::{PsObject, Value};

use super::{cell, printable};

/// Rows from which the widths are taken.
const SAMPLE: usize = 50;
/// Most columns of an object without a view.
const FALLBACK_COLUMNS: usize = 5;
/// Properties that an object without a view is known by, best first.
const TELLING: [&str; 6] = ["Name", "DisplayName", "Identity", "PrimarySmtpAddress", "RecipientTypeDetails", "Enabled"];

/// Which columns a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Columns {
    /// Those of the type's view.
    View,
    /// The same where the first object has them all; else every property.
    ViewIfWhole,
    /// Every property.
    All,
}

/// `Format-Table`: the first rows are kept until the widths are known, later ones go out at once.
pub(super) struct Table {
    noun: String,
    width: Option<usize>,
    choice: Columns,
    columns: Vec<String>,
    widths: Vec<usize>,
    waiting: Vec<Vec<String>>,
    begun: bool,
}

impl Table {
    pub(super) fn new(cmdlet: &str, width: Option<usize>, choice: Columns) -> Self {
        let noun = cmdlet.split_once('-').map_or(cmdlet, |(_, noun)| noun).to_owned();
        Self { noun, width, choice, columns: Vec::new(), widths: Vec::new(), waiting: Vec::new(), begun: false }
    }

    pub(super) fn object(&mut self, value: &Value, out: &mut impl Write) -> io::Result<()> {
        if self.columns.is_empty() {
            self.columns = match value.as_object() {
                Some(object) if self.choice == Columns::All => all(object),
                Some(object) => {
                    let columns = columns(value, &self.noun);
                    let whole = columns.iter().all(|c| object.property(c).is_some());
                    if self.choice == Columns::View || whole { columns } else { all(object) }
                }
                None => columns(value, &self.noun),
            };
        }
        let row: Vec<String> = self.columns.iter().map(|c| text(value, c)).collect();
        if self.begun {
            return self.row(&row, out);
        }
        self.waiting.push(row);
        if self.waiting.len() < SAMPLE { Ok(()) } else { self.begin(out) }
    }

    pub(super) fn finish(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.begun || self.waiting.is_empty() { Ok(()) } else { self.begin(out) }
    }

    fn begin(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.begun = true;
        let rows = std::mem::take(&mut self.waiting);
        self.widths = (0..self.columns.len())
            .map(|i| {
                let cells = rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count());
                cells.chain(self.columns.get(i).map(|c| c.chars().count())).max().unwrap_or_default()
            })
            .collect();
        if let Some(width) = self.width {
            fit(&mut self.widths, width);
        }
        let heads = self.columns.clone();
        self.row(&heads, out)?;
        let rules: Vec<String> = heads.iter().zip(&self.widths).map(|(h, w)| "-".repeat(h.chars().count().min(*w))).collect();
        self.row(&rules, out)?;
        rows.iter().try_for_each(|row| self.row(row, out))
    }

    fn row(&self, cells: &[String], out: &mut impl Write) -> io::Result<()> {
        let mut line = String::new();
        for (i, (cell, width)) in cells.iter().zip(&self.widths).enumerate() {
            if i > 0 {
                line.push(' ');
            }
            let length = cell.chars().count();
            if self.width.is_some() && length > *width {
                line.extend(cell.chars().take(width.saturating_sub(1)));
                line.push('…');
            } else {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width.saturating_sub(length)));
            }
        }
        writeln!(out, "{}", line.trim_end())
    }
}

fn text(value: &Value, column: &str) -> String {
    match value.as_object() {
        Some(object) => object.property(column).map(|v| printable(&cell(v))).unwrap_or_default(),
        None => printable(&cell(value)),
    }
}

/// The columns of an object: its type's view, else that of the cmdlet's noun, else the properties that tell most.
fn columns(value: &Value, noun: &str) -> Vec<String> {
    let Some(object) = value.as_object() else { return vec!["Value".to_owned()] };
    let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    if let Some(view) = object.type_name().and_then(view::table_columns).or_else(|| view::table_columns(noun)) {
        return view.iter().map(|c| c.property.to_owned()).collect();
    }
    let telling: Vec<&str> = TELLING.iter().copied().filter(|n| object.property(n).is_some()).collect();
    if !telling.is_empty() {
        return owned(&telling);
    }
    object.properties().take(FALLBACK_COLUMNS).map(|(n, _)| n.to_string()).collect()
}

fn all(object: &PsObject) -> Vec<String> {
    object.properties().map(|(n, _)| n.to_string()).collect()
}

/// Narrows the widest columns until the line fits; no column gets narrower than eight.
fn fit(widths: &mut [usize], width: usize) {
    let total = |w: &[usize]| w.iter().sum::<usize>() + w.len().saturating_sub(1);
    while total(widths) > width {
        match widths.iter_mut().max() {
            Some(widest) if *widest > 8 => *widest -= 1,
            _ => return,
        }
    }
}
