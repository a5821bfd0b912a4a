//! Where keys live: certificate stores that are folders of PFX files, in the layout of .NET on Linux.

mod certificate_store;
mod error;

pub use certificate_store::{CertificateStore, Entry, Listing, Unreadable, is_exposed};
pub use error::KeystoreError;
