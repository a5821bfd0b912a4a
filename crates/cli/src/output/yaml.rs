use std::io::{self, Write};

use exops_psobject::{Value, json};
use serde_json::Value as Json;

/// One item of a block list: a mapping whose values are in YAML's flow form, of which JSON is a part.
pub(super) fn object(value: &Value, out: &mut impl Write) -> io::Result<()> {
    match json::to_plain(value) {
        Json::Object(map) if !map.is_empty() => {
            for (i, (name, value)) in map.iter().enumerate() {
                writeln!(out, "{}{}: {}", if i == 0 { "- " } else { "  " }, scalar(name), flow(value))?;
            }
            Ok(())
        }
        other => writeln!(out, "- {}", flow(&other)),
    }
}

fn flow(value: &Json) -> String {
    match value {
        Json::String(text) => scalar(text),
        Json::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Json::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{}: {}", scalar(k), flow(v))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

/// Plain where no reader, of YAML 1.1 or 1.2, can take it for anything but this text; else in double quotes.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '@' | '/' | ' '))
        && !text.ends_with(' ')
        && !WORDS.iter().any(|w| text.eq_ignore_ascii_case(w));
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => quoted += &format!("\\u{:04X}", u32::from(c)),
            c if c.is_control() => quoted += &format!("\\x{:02X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
