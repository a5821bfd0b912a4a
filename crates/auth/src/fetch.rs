use std::pin::Pin;

/// A fetch that did not succeed; the text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url} could not be fetched: {reason}")]
pub struct FetchError {
    /// What was asked for.
    pub url: String,
    /// Why there is no answer.
    pub reason: String,
}

/// Bytes of a URL: how key sets of other issuers arrive without this crate knowing a network.
pub trait Fetch: Send + Sync {
    /// Gets a URL, at most `limit` bytes.
    fn fetch<'a>(&'a self, url: &'a str, limit: usize) -> Pin<Box<dyn Future<Output = Result<Vec<u8>, FetchError>> + Send + 'a>>;
}
