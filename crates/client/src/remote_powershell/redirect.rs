//! Whether a redirect is followed: the credential goes along, so it decides who gets that.

use exops_runspace::{Fault, FaultKind};
use url::Url;

use crate::endpoint::CLOUD;
use crate::http::place;

/// Redirects of one session that are followed.
const LIMIT: usize = 5;
/// Longest address that goes into an error.
const EXCERPT: usize = 200;

/// The address to go on with: an https address of the same host and port, or from one host of the cloud to another, not one
/// where this session has been (`before`), and no more than five.
pub(super) fn follow(location: &str, from: &str, before: &[String]) -> Result<String, Fault> {
    let refuse = |why: &str| refused(from, location, why);
    let current = Url::parse(from).map_err(|_| refuse("the address before it is not usable"))?;
    let mut url = current.join(location).map_err(|_| refuse("that is no address"))?;
    if url.scheme() != "https" {
        return Err(refuse("it would not be encrypted"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("an address with a user name is not followed"));
    }
    if url.origin() != current.origin() && !(is_cloud(&url) && is_cloud(&current)) {
        return Err(refuse("that is another host, and the token is for this one"));
    }
    url.set_fragment(None);
    // The far end reads the token in the Basic pair only with this.
    if !url.query_pairs().any(|(name, _)| name.eq_ignore_ascii_case("BasicAuthToOAuthConversion")) {
        url.query_pairs_mut().append_pair("BasicAuthToOAuthConversion", "true");
    }
    let url = String::from(url);
    if url == from || before.contains(&url) {
        return Err(refuse("the session has been there: it goes round in a circle"));
    }
    if before.len() >= LIMIT {
        return Err(refuse("there were too many redirects before it"));
    }
    Ok(url)
}

/// The fault of a redirect that is not followed.
pub(super) fn refused(from: &str, location: &str, why: &str) -> Fault {
    let location: String = location.chars().take(EXCERPT).collect();
    Fault::new(FaultKind::Protocol, format!("{} redirects to '{location}', which is not followed: {why}", place(from)))
        .with_code("RedirectRefused")
        .with_hint("connect with --endpoint to that host if you trust it")
}

/// A host of the cloud, on its usual port.
fn is_cloud(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ends = |end: &str| host.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    url.port().is_none() && CLOUD.iter().any(|end| ends(end))
}
