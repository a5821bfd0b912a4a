//! One form for comparing the same object however it was read: over REST, over remote PowerShell by our client, over
//! remote PowerShell by another one.

use serde_json::{Map, Value as Json};

use crate::Value;
use crate::json::{Shape, is_adornment, primitive, shape};

/// Deepest nesting that is compared; what lies deeper counts as its type's name.
const MAX_DEPTH: usize = 128;

/// The canonical form. Names keep their order and spelling; nothing is sorted.
///
/// What two transports may differ in, and what is therefore dropped or levelled, is exactly this:
///
/// | levelled | why |
/// |---|---|
/// | an object below the top that has a string form is that text | REST gives no more of sizes, addresses, identities, enumerations and `Unlimited` (`ByteQuantifiedSize`: "35 MB (36,700,160 bytes)") |
/// | a time is written in UTC with seven digits and `Z` | REST writes an offset and always seven digits, CLIXML `Z` or an offset and only the digits that are needed |
/// | a time span is `[-][d.]hh:mm:ss[.fffffff]` | REST has that text, CLIXML an XML Schema duration |
/// | a GUID is lower case with hyphens; bytes are base64 | REST has them as text |
/// | the type of a list, of a number, of an object; `Props` against `MS`; `ToString` at the top | JSON has one array, one number, one kind of object, and no string form of an object with properties |
/// | `PSComputerName`, `RunspaceId`, `PSShowComputerName` | PowerShell's client adds them on receipt; no server sends them |
/// | names that contain `@` | they are annotations of REST, not properties |
#[must_use]
pub fn canonical(value: &Value) -> Json {
    reduce(value, true, 0)
}

fn reduce(value: &Value, top: bool, depth: usize) -> Json {
    if depth >= MAX_DEPTH {
        return Json::String(value.type_name().to_owned());
    }
    let mut map = Map::new();
    let mut insert = |name: &str, value: &Value| {
        if !name.contains('@') && !is_adornment(name) {
            map.insert(name.to_owned(), reduce(value, false, depth + 1));
        }
    };
    match shape(value, top) {
        Shape::Text(text) => return Json::String(text.into_owned()),
        Shape::Primitive(value) => return primitive(value),
        Shape::List(items) => return items.iter().map(|item| reduce(item, false, depth + 1)).collect(),
        Shape::Dictionary(entries) => entries.iter().for_each(|(key, value)| insert(&key.display(), value)),
        Shape::Properties(object) => object.properties().for_each(|(name, value)| insert(name, value)),
    }
    Json::Object(map)
}
