//! The proxy addresses of a recipient: their syntax, which one is primary, and edits of the list.
//!
//! `SMTP:` marks the one primary address, `smtp:` the others; what stands behind other prefixes (`SIP:`, `X500:` …) is not
//! checked beyond being there.

use std::collections::HashSet;

use crate::values::{is_smtp_address, smtp_address};

/// Longest prefix.
const PREFIX_CHARS: usize = 16;
/// Longest address behind a prefix other than SMTP's.
const ADDRESS_CHARS: usize = 1024;
const PRIMARY: &str = "SMTP:";
const SECONDARY: &str = "smtp:";

/// Checks an address as a client wrote it, with or without prefix, and gives it back trimmed.
pub(crate) fn read(text: &str) -> Result<String, String> {
    let text = text.trim();
    let fits = match split(text) {
        Some((prefix, address)) if prefix.eq_ignore_ascii_case("smtp") => is_smtp_address(address),
        Some((_, address)) => !address.is_empty() && address.chars().count() <= ADDRESS_CHARS && !address.chars().any(char::is_control),
        None => is_smtp_address(text),
    };
    let reason = "It must be an address such as ann@contoso.com, smtp:ann@contoso.com, SMTP:ann@contoso.com (primary) or X500:/o=….";
    if fits { Ok(text.to_owned()) } else { Err(reason.to_owned()) }
}

/// The list that replaces the one before: exactly one primary address. Where none is marked, the first without a prefix
/// becomes primary, else the first SMTP address.
pub(crate) fn replace(items: &[&str]) -> Result<Vec<String>, String> {
    let mut there = HashSet::with_capacity(items.len());
    if let Some(item) = items.iter().find(|item| !there.insert(folded(item))) {
        return Err(format!("The address \"{item}\" is there more than once. Leave one of them out."));
    }
    let marked: Vec<_> = items.iter().filter(|item| item.starts_with(PRIMARY)).collect();
    if let [first, second, ..] = marked.as_slice() {
        return Err(format!("\"{first}\" and \"{second}\" cannot both be the primary SMTP address. Write one of them as smtp:."));
    }
    let bare = items.iter().find(|item| split(item).is_none());
    let primary = marked.first().copied().or(bare).or_else(|| items.iter().find(|item| smtp_address(item).is_some()));
    let Some(primary) = primary else {
        return Err("A recipient must have a primary SMTP address. Add one such as SMTP:ann@contoso.com.".to_owned());
    };
    Ok(items.iter().map(|item| if item == primary { mark(item, PRIMARY) } else { secondary(item) }).collect())
}

/// The list before without some addresses and with others. One added as `SMTP:` becomes the primary one; what is there or
/// gone already stays so.
pub(crate) fn amend(old: &[&str], add: &[&str], remove: &[&str]) -> Result<Vec<String>, String> {
    let marked: Vec<_> = add.iter().filter(|item| item.starts_with(PRIMARY)).collect();
    if let [first, second, ..] = marked.as_slice() {
        return Err(format!("\"{first}\" and \"{second}\" cannot both be the primary SMTP address. Write one of them as smtp:."));
    }
    let removed: HashSet<_> = remove.iter().map(|item| folded(item)).collect();
    let mut list: Vec<String> = Vec::with_capacity(old.len() + add.len());
    for item in old {
        if !removed.contains(&folded(item)) {
            list.push((*item).to_owned());
        } else if item.starts_with(PRIMARY) && marked.is_empty() {
            return Err(format!("\"{item}\" is the primary SMTP address and cannot be removed. Make another one primary first."));
        }
    }
    let mut there: HashSet<_> = list.iter().map(|item| folded(item)).collect();
    list.extend(add.iter().filter(|item| there.insert(folded(item))).map(|item| secondary(item)));
    Ok(match marked.first() {
        Some(primary) => promote(&list.iter().map(String::as_str).collect::<Vec<_>>(), address(primary)),
        None => list,
    })
}

/// The list with that SMTP address as the primary one, added where it is not there yet; the one before becomes another.
pub(crate) fn promote(old: &[&str], primary: &str) -> Vec<String> {
    let is_it = |item: &str| folded(item) == folded(primary);
    let mut list: Vec<String> = old.iter().map(|item| if is_it(item) { mark(primary, PRIMARY) } else { demote(item) }).collect();
    if !list.iter().any(|item| is_it(item)) {
        list.push(mark(primary, PRIMARY));
    }
    list
}

/// The primary SMTP address of a list.
pub(crate) fn primary(list: &[String]) -> Option<&str> {
    list.iter().find_map(|item| item.strip_prefix(PRIMARY))
}

/// Domain of an SMTP address, folded.
pub(crate) fn domain(item: &str) -> Option<String> {
    smtp_address(item)?.rsplit_once('@').map(|(_, domain)| domain.to_lowercase())
}

/// An address that may have lost its prefix when it was folded.
pub(crate) fn prefixed(item: &str) -> String {
    if split(item).is_none() { mark(item, PRIMARY) } else { item.to_owned() }
}

fn secondary(item: &str) -> String {
    if split(item).is_none() { mark(item, SECONDARY) } else { demote(item) }
}

fn demote(item: &str) -> String {
    if smtp_address(item).is_some() { mark(item, SECONDARY) } else { item.to_owned() }
}

fn mark(item: &str, prefix: &str) -> String {
    format!("{prefix}{}", address(item))
}

fn address(item: &str) -> &str {
    smtp_address(item).unwrap_or(item)
}

/// Prefix and the rest. `ann@contoso.com` has none.
fn split(text: &str) -> Option<(&str, &str)> {
    let (prefix, address) = text.split_once(':')?;
    let named = !prefix.is_empty() && prefix.len() <= PREFIX_CHARS && prefix.bytes().all(|b| b.is_ascii_alphanumeric());
    named.then_some((prefix, address))
}

/// What spellings of one address have in common: case does not count, and no prefix means SMTP.
fn folded(item: &str) -> String {
    address(item).to_lowercase()
}
