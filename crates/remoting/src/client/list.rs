//! Lists that a server gives in parts.

use exops_wsman::request::{self, Header};
use exops_wsman::{Enumerated, Limits, Response, ResponseBody, parse_response, uri};
use uuid::Uuid;

use super::answer::excerpt;
use super::{ClientConfig, ClientError, Operation};

/// Most parts of one list.
const PARTS: usize = 400;
/// Most items of one list.
const ITEMS: usize = 10_000;

/// What came of a list so far.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) items: Vec<Enumerated>,
    /// What the next part is pulled with.
    pub(super) context: Option<String>,
    count: usize,
}

impl Parts {
    /// Takes a part; `true` when another one follows.
    ///
    /// # Errors
    /// When the list does not come to an end.
    pub(super) fn take(&mut self, items: Vec<Enumerated>, context: Option<String>) -> Result<bool, String> {
        self.count += 1;
        if self.count > 1 && context.is_some() && items.is_empty() {
            return Err("a part of the list is empty and not the last".to_owned());
        }
        if self.items.len() + items.len() > ITEMS || (self.count >= PARTS && context.is_some()) {
            return Err(format!("the list is longer than {ITEMS} items in {PARTS} parts"));
        }
        self.items.extend(items);
        self.context = context;
        Ok(self.context.is_some())
    }
}

/// The caller's shells at an endpoint: what can be [attached](super::ClientSession::attach) to.
///
/// A driver POSTs what [`request`](Self::request) gives and hands the answer to [`handle_answer`](Self::handle_answer), until
/// that says that the list is whole.
pub struct ShellList {
    config: ClientConfig,
    ids: Box<dyn FnMut() -> Uuid + Send>,
    parts: Parts,
    message_id: String,
}

impl ShellList {
    /// A list to be asked for; of the configuration its URL, time-out, envelope and ids count.
    #[must_use]
    pub fn new(config: ClientConfig, ids: Box<dyn FnMut() -> Uuid + Send>) -> Self {
        Self { config, ids, parts: Parts::default(), message_id: String::new() }
    }

    /// The next request.
    pub fn request(&mut self) -> Vec<u8> {
        self.message_id = format!("uuid:{}", (self.ids)().to_string().to_uppercase());
        let header = Header {
            to: &self.config.url,
            resource_uri: uri::SHELL,
            message_id: &self.message_id,
            max_envelope_size: self.config.max_envelope,
            operation_timeout: self.config.operation_timeout,
            session_id: &format!("uuid:{}", self.config.session_id.to_string().to_uppercase()),
            shell_id: None,
            locale: &self.config.locale,
        };
        match &self.parts.context {
            Some(context) => request::pull(&header, context),
            None => request::enumerate(&header, None),
        }
        .into_bytes()
    }

    /// Takes the answer to the last request; `true` when another request is to follow.
    ///
    /// # Errors
    /// When the server refuses, or does not answer what was asked.
    pub fn handle_answer(&mut self, status: u16, body: &[u8]) -> Result<bool, ClientError> {
        let operation = Operation::List;
        let limits = Limits { bytes: self.config.max_envelope, ..Limits::default() };
        let wrong = |reason: String| ClientError::Protocol { operation, reason };
        match parse_response(body, &limits) {
            Ok(Response { body: ResponseBody::Fault(fault), .. }) => Err(ClientError::Fault { operation, fault }),
            Ok(Response { relates_to: Some(id), .. }) if !id.eq_ignore_ascii_case(&self.message_id) => {
                Err(wrong(format!("it relates to {id}")))
            }
            Ok(Response { body: ResponseBody::Enumerated { items, context }, .. }) if status == 200 => {
                self.parts.take(items, context).map_err(wrong)
            }
            Ok(_) if status == 200 => Err(wrong("it answers another operation".to_owned())),
            Err(error) if status == 200 => Err(wrong(error.to_string())),
            _ => Err(ClientError::Http { operation, status, excerpt: excerpt(body) }),
        }
    }

    /// What was listed so far. The server chose every text in it.
    #[must_use]
    pub fn shells(self) -> Vec<Enumerated> {
        self.parts.items
    }
}
