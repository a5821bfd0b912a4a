//! A whole cloud in one process: authority, Graph subset, directory and both front ends on one loopback listener.

mod api;
mod config;
mod error;
mod folder;
mod identity;
mod import;
mod ready;
mod running;

pub use config::LabConfig;
pub use error::LabError;
pub use exops_directory::Seed;
pub use ready::{Bootstrap, Ready, ReadyTenant};
pub use running::{Lab, RunningLab};
