//! Tests of tiers 2 and above, of the binary and of real counterparts.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used)]
mod authority;
mod cli;
mod client;
mod counterparts;
mod gateway;
mod lab;
mod kill;
mod program;
mod quickstart;
mod same_objects;
mod directory;
mod store;
mod keystore;
mod openssl;
