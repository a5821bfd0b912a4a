//! Tests of tiers 0 and 1 at the level of their public interfaces.
#![allow(missing_docs)]
mod adminapi;
mod auth;
mod catalogue;
mod client_half;
mod clixml;
mod conversations;
mod filter;
mod fuzz;
mod json;
mod policy;
mod pool_messages;
mod psrp;
mod psrp_samples;
mod recorded;
mod remoting;
mod resume;
mod server_limits;
mod stages;
mod wsman;
mod xpress;
