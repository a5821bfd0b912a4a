//! The same objects over two transports.

use exops_psobject::Value;
use exops_psobject::canonical::canonical;
use serde_json::Value as Json;

/// Compares two results object by object in their canonical form. Answers how many properties were compared, or the
/// first difference.
pub(super) fn equal(cmdlet: &str, rest: &[Value], rps: &[Value]) -> Result<usize, String> {
    if rest.len() != rps.len() {
        return Err(format!("{cmdlet} gives {} objects over REST and {} over remote PowerShell", rest.len(), rps.len()));
    }
    let mut compared = 0;
    for (a, b) in rest.iter().zip(rps) {
        let (a, b) = (canonical(a), canonical(b));
        if a != b {
            return Err(difference(cmdlet, &a, &b));
        }
        compared += a.as_object().map_or(1, serde_json::Map::len);
    }
    Ok(compared)
}

fn difference(cmdlet: &str, rest: &Json, rps: &Json) -> String {
    let who = ["Identity", "Name", "Guid"].iter().find_map(|n| rest.get(n)?.as_str()).unwrap_or("an object");
    let names = |json: &Json| json.as_object().into_iter().flat_map(|m| m.keys().cloned()).collect::<Vec<_>>();
    let mut all = names(rest);
    all.extend(names(rps));
    for name in all {
        let (a, b) = (rest.get(&name), rps.get(&name));
        if a != b {
            let shown = |v: Option<&Json>| v.map_or_else(|| "absent".to_owned(), |v| v.to_string().chars().take(200).collect());
            return format!("{cmdlet}, {who}, {name}: {} over REST, {} over remote PowerShell", shown(a), shown(b));
        }
    }
    format!("{cmdlet}, {who}: the order of properties")
}
