use std::cmp::Ordering;

use exops_psobject::{DateTime, DateTimeKind, Value};

use crate::{Filter, Operator};

impl Filter {
    /// Whether an object matches whose properties `lookup` finds by name; a property that it does not find is null.
    ///
    /// Text compares without case. A literal in quotes is taken as what the property is: a number, a time (ISO, or
    /// month/day/year as en-US has it, UTC), a boolean, an enumeration member by name. Of a list any item may match;
    /// `-ne` and `-notlike` are the opposites of `-eq` and `-like`, so none may. `$null` equals a property without
    /// value: null, empty text, empty list. Ordering against null, or of what cannot be compared, does not match.
    #[must_use]
    pub fn matches(&self, lookup: &dyn Fn(&str) -> Option<Value>) -> bool {
        match self {
            Self::All => true,
            Self::And(parts) => parts.iter().all(|part| part.matches(lookup)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(lookup)),
            Self::Not(part) => !part.matches(lookup),
            Self::Compare { property, operator, value } => compare(&lookup(property).unwrap_or_default(), *operator, value),
        }
    }
}

fn compare(property: &Value, operator: Operator, literal: &Value) -> bool {
    match operator {
        Operator::NotEqual => return !compare(property, Operator::Equal, literal),
        Operator::NotLike => return !compare(property, Operator::Like, literal),
        _ => {}
    }
    if let Some(items) = property.as_list() {
        return match (operator, literal) {
            (Operator::Equal, Value::Null) => items.is_empty(),
            _ => items.iter().any(|item| compare(item, operator, literal)),
        };
    }
    let wanted = |ordering: Ordering| match operator {
        Operator::Less => ordering.is_lt(),
        Operator::LessOrEqual => ordering.is_le(),
        Operator::Greater => ordering.is_gt(),
        Operator::GreaterOrEqual => ordering.is_ge(),
        _ => ordering.is_eq(),
    };
    match (operator, literal) {
        (Operator::Equal, Value::Null) => is_empty(property),
        (Operator::Equal, literal) if literal.as_str() == Some("") => is_empty(property),
        _ if property.is_null() || literal.is_null() => false,
        (Operator::Like, pattern) => like(&fold(&property.display()), &fold(&pattern.display())),
        _ => order(property, literal).is_some_and(wanted),
    }
}

fn is_empty(property: &Value) -> bool {
    property.is_null() || property.as_str() == Some("")
}

/// How a property stands to a literal; `None` when they cannot be compared.
fn order(property: &Value, literal: &Value) -> Option<Ordering> {
    let text = literal.display();
    match property {
        Value::DateTime(time) => return Some(time.utc_ticks().cmp(&date(&text)?.utc_ticks())),
        Value::Bool(flag) => return Some(flag.cmp(&boolean(literal, &text)?)),
        Value::Object(object) if object.to_string.is_some() && number(literal).is_none() => {}
        _ => {
            // Whole numbers first: a double would lose digits of large ones.
            let whole = literal.as_i64().or_else(|| text.trim().parse().ok());
            if let (Some(left), Some(right)) = (property.as_i64(), whole) {
                return Some(left.cmp(&right));
            }
            if let Some(left) = number(property) {
                return left.partial_cmp(&number(literal).or_else(|| text.trim().parse().ok())?);
            }
        }
    }
    Some(fold(&property.display()).cmp(&fold(&text)))
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Single(n) => Some(f64::from(*n)),
        Value::Double(n) => Some(*n),
        Value::Decimal(text) => text.parse().ok(),
        Value::U64(n) => n.to_string().parse().ok(),
        Value::Object(object) => object.primitive().and_then(number),
        other => other.as_i64().and_then(|n| n.to_string().parse().ok()),
    }
}

fn boolean(literal: &Value, text: &str) -> Option<bool> {
    literal.as_bool().or_else(|| match fold(text.strip_prefix('$').unwrap_or(text)).as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    })
}

fn fold(text: &str) -> String {
    text.to_lowercase()
}

/// ISO with or without time, or `M/d/yyyy [h:mm[:ss] [AM|PM]]`.
fn date(text: &str) -> Option<DateTime> {
    let text = text.trim();
    if let Some(time) = DateTime::parse(text).or_else(|| DateTime::parse(&format!("{text}T00:00:00"))) {
        return Some(time);
    }
    let mut words = text.split_ascii_whitespace();
    let mut day = words.next()?.split('/').map(|part| part.parse::<u16>().ok());
    let (Some(Some(month)), Some(Some(day_of_month)), Some(Some(year)), None) = (day.next(), day.next(), day.next(), day.next()) else {
        return None;
    };
    let (clock, half, end) = (words.next().unwrap_or("0:00"), words.next(), words.next());
    let mut clock = clock.split(':').map(|part| part.parse::<u16>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next().unwrap_or(Some(0))?);
    let hour = match half.map(str::to_ascii_uppercase).as_deref() {
        None => hour,
        Some("AM") if (1..=12).contains(&hour) => hour % 12,
        Some("PM") if (1..=12).contains(&hour) => hour % 12 + 12,
        _ => return None,
    };
    if end.is_some() || clock.next().is_some() {
        return None;
    }
    let iso = format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}");
    DateTime::parse(&iso).filter(|time| time.kind() == DateTimeKind::Unspecified)
}

/// Whether folded text fits a folded pattern in which `*` stands for any text. Each part between stars is looked for
/// once and never again, so hostile patterns cost no more than others.
fn like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}
