//! Tests of tiers 2 and above, of the binary and of real counterparts.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used)]
#![allow(clippy::print_stdout, reason = "figures that a long run reports")]
mod authority;
mod cli;
mod client;
mod counterparts;
mod directory;
mod gateway;
mod keystore;
mod kill;
mod lab;
mod openssl;
mod program;
mod quickstart;
mod same_objects;
mod store;
