use exops_psobject::Limits;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Value as Json};
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

/// Counts nesting and values, so that nothing is allocated for a body that is refused anyway. Gives the body without a
/// byte order mark.
fn scan<'b>(body: &'b [u8], limits: &Limits) -> Result<&'b [u8], BodyError> {
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
    Ok(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body))
}

/// Parses JSON after the scan.
pub(crate) fn parse(body: &[u8], limits: &Limits) -> Result<Json, BodyError> {
    serde_json::from_slice(scan(body, limits)?).map_err(|e| BodyError::NotJson(e.to_string()))
}

/// Parses JSON within limits for what asks for something: a name that stands twice in one object is refused, since two readers would
/// take different values (case J-12).
///
/// # Errors
/// Limits exceeded, no JSON, or [`BodyError::Shape`] with the name that stands twice.
pub fn parse_unique(body: &[u8], limits: &Limits) -> Result<Json, BodyError> {
    let unique: Result<Unique, _> = serde_json::from_slice(scan(body, limits)?);
    match unique {
        Ok(Unique(json)) => Ok(json),
        // Any JSON will do: the data are wrong where a name repeats, and nowhere else.
        Err(e) if e.is_data() => Err(BodyError::Shape(e.to_string())),
        Err(e) => Err(BodyError::NotJson(e.to_string())),
    }
}

struct Unique(Json);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Json;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut map = Map::new();
        while let Some((name, Unique(value))) = entries.next_entry::<String, _>()? {
            match map.entry(name) {
                Entry::Vacant(vacant) => drop(vacant.insert(value)),
                Entry::Occupied(known) => {
                    return Err(A::Error::custom(format_args!("the name '{}' stands twice in one object", known.key())));
                }
            }
        }
        Ok(Json::Object(map))
    }
}
