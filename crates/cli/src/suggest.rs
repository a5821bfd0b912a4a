//! Names near a mistyped one.

/// At most three of `names`: those nearest to `wanted`, where they are close.
pub(crate) fn near<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = wanted.to_ascii_lowercase();
    let limit = (wanted.len() / 4).clamp(1, 4);
    let mut found: Vec<(usize, &str)> = names
        .filter(|n| n.len().abs_diff(wanted.len()) <= limit)
        .map(|n| (distance(&wanted, &n.to_ascii_lowercase()), n))
        .filter(|(d, _)| *d <= limit)
        .collect();
    found.sort();
    let nearest = found.first().map_or(0, |(d, _)| *d);
    found.into_iter().take_while(|(d, _)| *d == nearest).take(3).map(|(_, n)| n).collect()
}

/// "did you mean A or B?", or nothing.
pub(crate) fn question(found: &[&str], before: &str) -> String {
    let names: Vec<String> = found.iter().map(|n| format!("{before}{n}")).collect();
    if names.is_empty() { String::new() } else { format!("did you mean {}?", names.join(" or ")) }
}

/// Edits between two words: insertions, deletions, replacements, and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let up = last.get(j + 1).copied().unwrap_or_default() + 1;
            let left = row.get(j).copied().unwrap_or_default() + 1;
            let diagonal = last.get(j).copied().unwrap_or_default() + usize::from(x != y);
            let mut best = up.min(left).min(diagonal);
            if i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x) {
                best = best.min(before.get(j - 1).copied().unwrap_or_default() + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}
