//! The `exops` binary.
fn main() {}
