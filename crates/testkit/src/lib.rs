//! What the test suites share: a scripted runspace, callers and objects to feed it with, and how a test says that it was
//! not run.

mod fixtures;
mod needs;
mod scripted;

pub use fixtures::{ORGANIZATION, TENANT, caller, cmdlet, mailbox};
pub use needs::{not_run, openssl, python, samples};
pub use scripted::{Act, Script, ScriptedRunspace};
