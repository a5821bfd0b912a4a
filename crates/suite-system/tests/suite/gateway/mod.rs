//! The gateway in front of a scripted runspace, over real TLS connections.

mod fixture;
mod http;
mod own_client;
mod powershell;
mod questions;
mod resources;
mod rest;
