//! Tests of tiers 2 and above, of the binary and of real counterparts.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used)]
#![allow(clippy::print_stdout, reason = "figures that a long run reports")]
mod authority;
mod bad_input;
mod cli;
mod client;
mod command_line;
mod completion;
mod counterparts;
mod directory;
mod front;
mod gateway;
mod hostile;
mod import;
mod keystore;
mod kill;
mod lab;
mod large;
mod mailbox_changes;
mod not_accepted;
mod openssl;
mod passwords;
#[cfg(target_os = "linux")]
mod places;
mod powershell_shaped;
mod program;
mod psrp_counterparts;
mod query_and_rest;
mod quickstart;
mod renewal;
mod same_objects;
mod scripted_endpoint;
mod secrets;
mod sessions;
mod store;
mod strict;
mod terminal;
mod transports;
