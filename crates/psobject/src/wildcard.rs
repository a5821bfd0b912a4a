//! PowerShell's wildcard patterns, as names are chosen with.

/// Whether `name` has wildcards at all.
#[must_use]
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// Whether the whole text fits the pattern, without case: `*` stands for any text, `?` for one character. Character
/// ranges in brackets are not served and stand for themselves. At worst the product of both lengths is looked at.
#[must_use]
pub fn fits(text: &str, pattern: &str) -> bool {
    let fold = |s: &str| s.to_lowercase().chars().collect::<Vec<char>>();
    let (text, pattern) = (fold(text), fold(pattern));
    // Behind the last `*`: where the pattern goes on, and the text that the star does not cover yet.
    let mut back = None;
    let (mut t, mut p) = (0, 0);
    while let Some(c) = text.get(t) {
        match pattern.get(p) {
            Some('*') => {
                p += 1;
                back = Some((p, t));
            }
            Some(q) if *q == '?' || q == c => (t, p) = (t + 1, p + 1),
            _ => match back {
                Some((after, from)) => {
                    (t, p) = (from + 1, after);
                    back = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == '*')
}
