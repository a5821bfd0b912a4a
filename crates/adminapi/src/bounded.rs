use exops_psobject::Limits;
use serde_json::Value as Json;
use thiserror::Error;

/// Why a JSON body is not read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BodyError {
    /// Longer than the limit.
    #[error("the body has {actual} bytes, {limit} are accepted")]
    TooLong {
        /// Its length.
        actual: usize,
        /// The limit.
        limit: usize,
    },
    /// Deeper than the limit.
    #[error("the body nests deeper than {0} levels")]
    TooDeep(usize),
    /// More values than the limit.
    #[error("the body holds more than {0} values")]
    TooMany(usize),
    /// Not JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// JSON of another shape.
    #[error("{0}")]
    Shape(String),
}

/// Parses JSON after a scan that counts nesting and values, so that nothing is allocated for a body that is
/// refused anyway.
pub(crate) fn parse(body: &[u8], limits: &Limits) -> Result<Json, BodyError> {
    if body.len() > limits.bytes {
        return Err(BodyError::TooLong { actual: body.len(), limit: limits.bytes });
    }
    let (mut depth, mut values, mut in_string, mut escaped) = (0usize, 1usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                values += 1;
                if depth > limits.depth {
                    return Err(BodyError::TooDeep(limits.depth));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if values > limits.values {
            return Err(BodyError::TooMany(limits.values));
        }
    }
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::from_slice(body).map_err(|e| BodyError::NotJson(e.to_string()))
}
