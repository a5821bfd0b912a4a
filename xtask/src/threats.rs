//! Attack cases: each id that a test carries is explained in docs/threats.md, and each one explained there has a test.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Outcome, run};

/// First letters of the case ids.
const LETTERS: &str = "JAXCHKLRI";

/// The task.
pub(crate) fn run() -> Outcome {
    let root = run::root();
    let mut carried: BTreeMap<String, String> = BTreeMap::new();
    for suite in ["crates/suite-core/tests", "crates/suite-system/tests"] {
        for path in run::files(&root.join(suite), ".rs") {
            for id in ids(&run::read(&path)?) {
                carried.entry(id).or_insert_with(|| path.strip_prefix(&root).unwrap_or(&path).display().to_string());
            }
        }
    }
    let explained = explained(&run::read(&root.join("docs/threats.md"))?);
    let mut problems: Vec<String> = carried
        .iter()
        .filter(|(id, _)| !explained.contains(*id))
        .map(|(id, path)| format!("{path} carries {id}, which docs/threats.md does not explain"))
        .collect();
    problems.extend(
        explained.iter().filter(|id| !carried.contains_key(*id)).map(|id| format!("docs/threats.md explains {id}, which no test carries")),
    );
    if problems.is_empty() {
        eprintln!("threats: {} attack cases carried by tests, all explained", carried.len());
        return Ok(());
    }
    Err(problems.join("\n  "))
}

/// The ids at the beginning of the document's headings.
fn explained(document: &str) -> BTreeSet<String> {
    document
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .flat_map(|line| ids(line.split_whitespace().next().unwrap_or_default()))
        .collect()
}

/// Every `J-05` in a text.
fn ids(text: &str) -> BTreeSet<String> {
    let bytes = text.as_bytes();
    let word = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_alphanumeric);
    let found = text.match_indices('-').filter_map(|(at, _)| {
        let id = text.get(at.checked_sub(1)?..at + 3)?;
        let (letter, number) = id.split_once('-')?;
        let fits = LETTERS.contains(letter) && number.bytes().all(|b| b.is_ascii_digit());
        (fits && !word(at.checked_sub(2)) && !word(Some(at + 3))).then(|| id.to_owned())
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_where_they_are_words() {
        let found = ids("// A-01 and C-03, H-010, XA-02, Z-01; (J-05)");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["A-01", "C-03", "J-05"]);
        assert_eq!(explained("### C-03 deep nesting\ntext A-01\n### X-01\n").into_iter().collect::<Vec<_>>(), ["C-03", "X-01"]);
    }
}
