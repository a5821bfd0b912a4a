//! The REST admin protocol (`InvokeCommand`) as data: both halves, no HTTP stack.
//!
//! * [`InvokeRequest`] → body and headers, [`parse_page`] reads the answer: the client half.
//! * [`parse_invoke`] reads a request, [`PageWriter`] and [`error_body`] write answers: the server half.
//! * [`parameter`]: how PowerShell values travel as JSON parameters, both directions.
//! * [`public_key`] reads the module file, [`sealed`] makes a secret parameter of a clear one.
//! * [`link`]: what may be done with `@odata.nextLink` and `Retry-After`.
//!
//! The protocol is not documented for direct use; shapes follow what public clients send and receive.

mod bounded;
mod error;
mod invoke;
pub mod link;
mod module_file;
mod page;
pub mod parameter;

pub use bounded::{BodyError, parse_unique};
pub use error::{ApiError, ErrorBody, FORBIDDEN_BODY_BYTES, error_body, forbidden_body, parse_error};
pub use invoke::{Invoke, InvokeRequest, parse_invoke};
pub use module_file::{public_key, sealed};
pub use page::{PAGE_SIZE, Page, PageWriter, ResponseFormat, parse_page};
