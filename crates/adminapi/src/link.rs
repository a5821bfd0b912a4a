//! What may be done with links and waiting times that a server gives.

use std::time::Duration;

use thiserror::Error;

/// Why a link is not followed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Not an absolute https URL, or one that holds user information, blanks or backslashes.
    #[error("the next link '{0}' is not an absolute https URL")]
    Malformed(String),
    /// Leads to a host outside the accepted ones.
    #[error("the next link leads to '{0}', which is not a host of this connection")]
    ForeignHost(String),
    /// Leads to another path of the host: another tenant or another operation.
    #[error("the next link leads to the path '{0}', not to that of the request")]
    ForeignPath(String),
    /// The same link again: following it would never end.
    #[error("the next link is the link that was just followed")]
    Loop,
}

/// Checks a `@odata.nextLink` against the URL of the request that it answers and gives the URL to use.
///
/// The link's host must be the request's or end in one of `suffixes` (`outlook.com` accepts
/// `nam01.outlook.com`). Servers write internal hosts and ports into links, so the result keeps the **request's**
/// host and port and takes only the query from the link: a token never leaves toward another place.
///
/// # Errors
/// See [`LinkError`].
pub fn follow(link: &str, request: &str, suffixes: &[&str]) -> Result<String, LinkError> {
    let malformed = || LinkError::Malformed(link.chars().take(200).collect());
    let (_, host, link_path, query) = split(link).ok_or_else(malformed)?;
    let (authority, request_host, path, request_query) = split(request).ok_or_else(malformed)?;
    let same_suffix = |suffix: &&str| {
        let suffix = suffix.trim_start_matches('.').to_ascii_lowercase();
        !suffix.is_empty() && (host == suffix || host.strip_suffix(&suffix).is_some_and(|rest| rest.ends_with('.')))
    };
    if host != request_host && !suffixes.iter().any(same_suffix) {
        return Err(LinkError::ForeignHost(host));
    }
    if !link_path.eq_ignore_ascii_case(path) {
        return Err(LinkError::ForeignPath(link_path.to_owned()));
    }
    if query == request_query {
        return Err(LinkError::Loop);
    }
    Ok(format!("https://{authority}{path}?{query}"))
}

/// Authority as written, host folded and without port, path, query.
fn split(url: &str) -> Option<(&str, String, &str, &str)> {
    let rest = url.get(..8).filter(|s| s.eq_ignore_ascii_case("https://")).and_then(|_| url.get(8..))?;
    if url.len() > 16 << 10 || !url.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
        return None;
    }
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?.0,
        None => authority.split(':').next().unwrap_or_default(),
    };
    (!host.is_empty() && !authority.contains('@')).then(|| (authority, host.to_ascii_lowercase(), path, query))
}

/// Reads `Retry-After` as (possibly decimal) seconds, at most `cap`. `None` for what is no such number, negative or
/// a date: the caller's own back-off applies then.
#[must_use]
pub fn retry_after(value: &str, cap: Duration) -> Option<Duration> {
    let seconds: f64 = value.trim().parse().ok()?;
    if !seconds.is_finite() || seconds < 0.0 {
        return None;
    }
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(cap).min(cap))
}

/// The page size that a `Prefer` header asks for (`odata.maxpagesize=n`), if it asks for one.
#[must_use]
pub fn max_page_size(prefer: &str) -> Option<usize> {
    prefer.split([';', ',']).find_map(|part| {
        let (name, value) = part.split_once('=')?;
        let name = name.trim();
        let is_size = name.eq_ignore_ascii_case("odata.maxpagesize") || name.eq_ignore_ascii_case("maxpagesize");
        is_size.then(|| value.trim().trim_matches('"').parse().ok()).flatten()
    })
}
