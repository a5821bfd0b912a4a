use exops_psobject::{Limits, Value};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use crate::parameter::{self, ParameterError};
use crate::{BodyError, PAGE_SIZE, bounded};

/// Version of the module that is asked for: any that there was will do, the key is the same.
const MODULE_VERSION: &str = "3.7.0";

/// One `InvokeCommand` call as a client sends it. Pages and retries repeat the same body and the same
/// `client_request_id`; the bearer token is added by whoever sends it.
#[derive(Debug, Clone, PartialEq)]
pub struct InvokeRequest {
    /// Cmdlet name.
    pub cmdlet: String,
    /// Parameters in order.
    pub parameters: Vec<(String, Value)>,
    /// Objects a page, 1 to [`PAGE_SIZE`].
    pub max_page_size: usize,
    /// Routing hint (`X-AnchorMailbox`), such as `APP:SystemMailbox{…}@{tenant}`.
    pub anchor: String,
    /// One id per cmdlet execution.
    pub client_request_id: Uuid,
    /// One id per connection.
    pub connection_id: Uuid,
    /// What the client calls itself (`X-ClientApplication`).
    pub application: String,
}

impl InvokeRequest {
    /// The anchor that reaches the organisation's system mailbox, which every tenant has.
    #[must_use]
    pub fn system_mailbox_anchor(tenant: Uuid) -> String {
        format!("APP:SystemMailbox{{bb558c35-97f1-4cb9-8ff7-d53741dc928c}}@{tenant}")
    }

    /// Where it goes: `{base}/adminapi/beta/{tenant}/InvokeCommand`; `base` without a trailing slash.
    #[must_use]
    pub fn url(base: &str, tenant: &str) -> String {
        format!("{base}/adminapi/beta/{tenant}/InvokeCommand")
    }

    /// Where the service's public key for secrets is: `{base}/adminapi/v1.0/{tenant}/EXOModuleFile`; `base` without a trailing
    /// slash. See [`public_key`](crate::public_key).
    #[must_use]
    pub fn module_file_url(base: &str, tenant: &str) -> String {
        format!("{base}/adminapi/v1.0/{tenant}/EXOModuleFile?Version={MODULE_VERSION}")
    }

    /// The request body.
    ///
    /// # Errors
    /// A parameter whose value has no encoding.
    pub fn body(&self) -> Result<Vec<u8>, ParameterError> {
        let parameters = parameter::encode(&self.parameters)?;
        Ok(json!({"CmdletInput": {"CmdletName": self.cmdlet, "Parameters": parameters}}).to_string().into_bytes())
    }

    /// All headers but `Authorization`, `User-Agent` and those of the HTTP stack itself.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let page = self.max_page_size.clamp(1, PAGE_SIZE);
        vec![
            ("Accept", "application/json".to_owned()),
            ("Accept-Charset", "UTF-8".to_owned()),
            ("Accept-Language", "en-US".to_owned()),
            ("Content-Type", "application/json".to_owned()),
            ("X-CmdletName", self.cmdlet.clone()),
            ("X-ResponseFormat", "json".to_owned()),
            ("X-SerializationLevel", "Partial".to_owned()),
            ("X-ClientApplication", self.application.clone()),
            ("X-AnchorMailbox", self.anchor.clone()),
            ("Prefer", format!("odata.maxpagesize={page}")),
            ("client-request-id", self.client_request_id.to_string()),
            ("connection-id", self.connection_id.to_string()),
        ]
    }
}

/// What a request body asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Invoke {
    /// Cmdlet name as sent.
    pub cmdlet: String,
    /// Parameters in order, names as sent.
    pub parameters: Vec<(String, Value)>,
}

/// Reads a request body. `Parameters` may be absent or null; key names match without case, as .NET reads them.
///
/// # Errors
/// Limits exceeded, not JSON, a name twice in one object, no `CmdletInput`, or no `CmdletName`.
pub fn parse_invoke(body: &[u8], limits: &Limits) -> Result<Invoke, BodyError> {
    let json = bounded::parse_unique(body, limits)?;
    let shape = |what: &str| BodyError::Shape(what.to_owned());
    let input = json
        .as_object()
        .and_then(|o| key(o, "CmdletInput"))
        .and_then(Json::as_object)
        .ok_or_else(|| shape("the body has no object 'CmdletInput'"))?;
    let cmdlet = key(input, "CmdletName")
        .and_then(Json::as_str)
        .filter(|name| !name.is_empty())
        .ok_or_else(|| shape("'CmdletInput' has no text 'CmdletName'"))?;
    let parameters = match key(input, "Parameters") {
        None | Some(Json::Null) => Vec::new(),
        Some(Json::Object(map)) => parameter::decode(map),
        Some(_) => return Err(shape("'Parameters' is not an object")),
    };
    Ok(Invoke { cmdlet: cmdlet.to_owned(), parameters })
}

fn key<'a>(map: &'a Map<String, Json>, name: &str) -> Option<&'a Json> {
    map.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v)
}
