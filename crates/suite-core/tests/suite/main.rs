//! Tests of tiers 0 and 1 at the level of their public interfaces.
#![allow(missing_docs)]
mod adminapi;
mod catalogue;
mod clixml;
mod filter;
mod json;
mod psrp;
mod stages;
mod wsman;
