//! Certificates, keys, assertions and tokens: all cryptography of the product is called here.
//!
//! * [`Identity`] is a certificate with its RSA key; [`pfx`] and [`pem`] read and write it, [`issue`] makes one.
//! * [`Signer`] is an identity whose key may be anywhere; [`assertion`] is signed with one, in one or two phases.
//! * [`assertion::verify`] is the token service's side, [`token`] makes and checks access tokens, [`secret`] keeps secrets.
//!
//! Times are arguments, in unix seconds. Randomness comes from aws-lc-rs and is used only where a key, a salt or a serial
//! number is made. This crate knows no socket, no file and no key store.

pub mod assertion;
mod certificate;
mod der;
mod error;
mod fetch;
mod identity;
pub mod issue;
mod json;
mod jwt;
mod key;
pub mod parameter_key;
mod pbe;
pub mod pem;
pub mod pfx;
pub mod secret;
pub mod session_key;
mod signer;
mod thumbprint;
pub mod token;

pub use certificate::Certificate;
pub use error::IdentityError;
pub use fetch::{Fetch, FetchError};
pub use identity::Identity;
pub use jwt::JwtError;
pub use key::{PrivateKey, RsaPublicKey};
pub use signer::{Algorithm, SignError, Signer};
pub use thumbprint::{Thumbprint, ThumbprintError};
