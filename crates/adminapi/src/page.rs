use std::collections::BTreeMap;
use std::sync::Arc;

use exops_psobject::{ErrorRecord, Limits, Value, clixml, json as psjson};
use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::error::{detail, of_detail, of_text, place, text_of, texts};
use crate::{ApiError, BodyError, bounded, parse_error};

/// Largest and default number of objects in a page.
pub const PAGE_SIZE: usize = 1000;

/// Errors under status 200 as texts: what the service gives.
const ERRORS: &str = "@adminapi.errors";
/// The same errors in the same order, each as a detail of an error envelope: what this program gives beside them. Other
/// clients skip annotations that they do not know.
const ERROR_DETAILS: &str = "@exops.errors";

/// How objects travel (`X-ResponseFormat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ResponseFormat {
    /// Annotated JSON, one item an object; also what an absent header means.
    #[default]
    Json,
    /// One item with one CLIXML document of all objects, as the PowerShell module asks for.
    Clixml,
}

impl ResponseFormat {
    /// From the header's value; `None` for a format that does not exist.
    #[must_use]
    pub fn from_header(value: &str) -> Option<Self> {
        match value.trim() {
            v if v.eq_ignore_ascii_case("json") || v.is_empty() => Some(Self::Json),
            v if v.eq_ignore_ascii_case("clixml") => Some(Self::Clixml),
            _ => None,
        }
    }
}

/// Writes one page, object by object: an object is serialised when it comes and not kept.
#[derive(Debug)]
pub struct PageWriter {
    select: Vec<String>,
    body: Vec<u8>,
    clixml: Option<Vec<Value>>,
    count: usize,
}

impl PageWriter {
    /// Begins a page. `context` is the metadata URL without fragment
    /// (`https://host/adminapi/beta/{tenant}/$metadata`); a non-empty `select` keeps only those properties (JSON only).
    #[must_use]
    pub fn new(context: &str, format: ResponseFormat, select: &[&str]) -> Self {
        let context = Json::from(format!("{context}#Collection(Exchange.GenericHashTable)"));
        Self {
            select: select.iter().map(|s| s.trim().to_ascii_lowercase()).filter(|s| !s.is_empty()).collect(),
            body: format!("{{\"@odata.context\":{context},\"value\":[").into_bytes(),
            clixml: (format == ResponseFormat::Clixml).then(Vec::new),
            count: 0,
        }
    }

    /// Adds an object.
    pub fn push(&mut self, object: &Value) {
        if let Some(objects) = &mut self.clixml {
            objects.push(object.clone());
        } else if self.select.is_empty() {
            self.item(&psjson::rest(object));
        } else {
            let projected = self.project(psjson::to_rest(object));
            self.item(&projected);
        }
        self.count += 1;
    }

    /// Objects so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Ends the page with what stands beside the objects; [`Page::objects`] is not looked at.
    #[must_use]
    pub fn finish(mut self, beside: &Page) -> Vec<u8> {
        if let Some(objects) = self.clixml.take() {
            // Also without objects there is one item: the module reads the first without looking.
            self.count = 0;
            self.item(&BTreeMap::from([("_clixml", clixml::write_document(&objects))]));
        }
        let mut tail = Map::new();
        tail.insert("adminapi.warnings@odata.type".to_owned(), "#Collection(String)".into());
        tail.insert("@adminapi.warnings".to_owned(), beside.warnings.iter().map(|text| &**text).collect());
        if !beside.errors.is_empty() {
            tail.insert(ERRORS.to_owned(), beside.errors.iter().map(text_of).collect());
            tail.insert(ERROR_DETAILS.to_owned(), beside.errors.iter().map(detail).collect());
        }
        if let Some(text) = &beside.confirmation {
            tail.insert("@adminapi.confirmationmessage".to_owned(), (&**text).into());
        }
        if let Some(link) = &beside.next_link {
            tail.insert("@odata.nextLink".to_owned(), link.as_str().into());
        }
        let tail = Json::Object(tail).to_string();
        self.body.extend_from_slice(b"],");
        self.body.extend_from_slice(tail.trim_start_matches('{').as_bytes());
        self.body
    }

    fn item(&mut self, item: &impl Serialize) {
        if self.count > 0 {
            self.body.push(b',');
        }
        // Writing into memory does not fail.
        let _ = serde_json::to_writer(&mut self.body, item);
    }

    fn project(&self, object: Json) -> Json {
        match object {
            Json::Object(map) => map
                .into_iter()
                .filter(|(key, _)| {
                    let name = key.split('@').next().unwrap_or_default().to_ascii_lowercase();
                    self.select.contains(&name)
                })
                .collect(),
            other => other,
        }
    }
}

/// One page of a result.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The objects.
    pub objects: Vec<Value>,
    /// Warnings.
    pub warnings: Vec<Arc<str>>,
    /// Errors under status 200: the run failed in part. The service tells their texts only; an answer of this program
    /// tells message, type, category and target of each.
    pub errors: Vec<ErrorRecord>,
    /// Where the next page is, as sent: see [`crate::link::follow`].
    pub next_link: Option<String>,
    /// What would be done (`WhatIf`) or is to be confirmed (`Confirm: true`): nothing was done.
    pub confirmation: Option<Arc<str>>,
}

/// Reads an answer. An empty body under a 2xx status is an empty page, as cmdlets without output give.
///
/// # Errors
/// A status outside 200 to 299, an error envelope under any status, or a body that is no page.
pub fn parse_page(status: u16, headers: &[(String, String)], body: &[u8], limits: &Limits) -> Result<Page, Box<ApiError>> {
    if !(200..300).contains(&status) {
        return Err(Box::new(parse_error(status, headers, body, limits)));
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Page::default());
    }
    let broken = |problem: BodyError| {
        let mut error = parse_error(status, headers, b"", limits);
        error.record.message = format!("the answer of the service is not a page of objects: {problem}").into();
        Box::new(error)
    };
    let json = bounded::parse(body, limits).map_err(broken)?;
    let Json::Object(mut map) = json else {
        return Err(broken(BodyError::Shape("it is no JSON object".to_owned())));
    };
    if map.contains_key("error") {
        return Err(Box::new(parse_error(status, headers, body, limits)));
    }
    let mut objects = Vec::new();
    match map.remove("value") {
        None | Some(Json::Null) => {}
        Some(Json::Array(items)) => {
            objects.reserve(items.len());
            // Each item goes when its object is made.
            for item in items {
                match clixml_text(&item) {
                    Some(text) => {
                        let document = clixml::read_document(text.as_bytes(), limits);
                        objects.extend(document.map_err(|e| broken(BodyError::Shape(e.to_string())))?);
                    }
                    None => objects.push(psjson::from_rest(&item).map_err(|e| broken(BodyError::Shape(e.to_string())))?),
                }
            }
        }
        Some(_) => return Err(broken(BodyError::Shape("'value' is no list".to_owned()))),
    }
    Ok(Page {
        objects,
        warnings: texts(&map, "@adminapi.warnings"),
        errors: errors(&map, headers),
        next_link: map.get("@odata.nextLink").and_then(Json::as_str).map(str::to_owned),
        confirmation: map.get("@adminapi.confirmationmessage").and_then(Json::as_str).map(Arc::from),
    })
}

fn errors(map: &Map<String, Json>, headers: &[(String, String)]) -> Vec<ErrorRecord> {
    let mut errors: Vec<ErrorRecord> = match map.get(ERROR_DETAILS).and_then(Json::as_array) {
        Some(details) => details.iter().filter_map(|detail| of_detail(detail, None)).collect(),
        None => texts(map, ERRORS).iter().map(|text| of_text(text)).collect(),
    };
    errors.iter_mut().for_each(|error| place(error, headers));
    errors
}

fn clixml_text(item: &Json) -> Option<&str> {
    let map = item.as_object().filter(|m| m.len() == 1)?;
    map.iter().next().filter(|(k, _)| k.eq_ignore_ascii_case("_clixml")).and_then(|(_, v)| v.as_str())
}
