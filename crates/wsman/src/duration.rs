/// Reads an ISO 8601 duration as milliseconds: days, hours, minutes and seconds with a fraction, in any combination
/// (`PT3M`, `PT180.000S`, `P0DT0H0M0S`); years and months count 365 and 30 days, as nobody means them here. Negative
/// durations and texts without a component are `None`; what does not fit saturates.
#[must_use]
pub fn parse_duration(text: &str) -> Option<u64> {
    let rest = text.trim().strip_prefix('P')?;
    let (date, time) = match rest.split_once('T') {
        Some((_, "")) => return None,
        Some((date, time)) => (date, time),
        None => (rest, ""),
    };
    let days = components(date, &[('Y', 365), ('M', 30), ('W', 7), ('D', 1)])?;
    let seconds = components(time, &[('H', 3_600), ('M', 60), ('S', 1)])?;
    if date.is_empty() && time.is_empty() {
        return None;
    }
    Some(days.saturating_mul(86_400).saturating_add(seconds))
}

/// Sums `number unit` pairs in the order of `units`, in thousandths. A fraction may follow any number.
fn components(mut text: &str, units: &[(char, u64)]) -> Option<u64> {
    let mut total = 0u64;
    for (unit, factor) in units {
        let Some(at) = text.find(|c: char| c.is_ascii_alphabetic()) else { break };
        if !text[at..].starts_with(*unit) {
            continue;
        }
        total = total.saturating_add(thousandths(&text[..at])?.saturating_mul(*factor));
        text = &text[at + 1..];
    }
    text.is_empty().then_some(total)
}

fn thousandths(number: &str) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole = whole.parse::<u64>().unwrap_or(u64::MAX);
    let fraction = fraction.bytes().chain("000".bytes()).take(3).fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some(whole.saturating_mul(1_000).saturating_add(fraction))
}

/// Writes milliseconds as the form that Windows uses, `PT180.000S`.
#[must_use]
pub fn format_duration(milliseconds: u64) -> String {
    format!("PT{}.{:03}S", milliseconds / 1_000, milliseconds % 1_000)
}
