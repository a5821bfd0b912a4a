//! Everything that must hold before a change goes in. An automatic build runs this and nothing else.

use crate::{Outcome, fuzz, run, test, threats, tiers};

/// The task.
pub(crate) fn run() -> Outcome {
    run::run(&mut run::cargo(&["fmt", "--all", "--check"]))?;
    run::run(&mut run::cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    tiers::run()?;
    threats::run()?;
    run::run(&mut run::command(cargo_deny()?, &["--offline", "--locked", "check", "bans", "licenses", "sources"]))?;
    test::run(&[])?;
    fuzz::run(fuzz::CI_SECONDS, fuzz::CI_SEED)?;
    run::run(run::cargo(&["doc", "--locked", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

/// cargo-deny from PATH, or from where `.ci/run` puts it.
fn cargo_deny() -> Result<std::path::PathBuf, String> {
    let own = run::target().join("tools/bin/cargo-deny");
    let found = ["cargo-deny".into(), own].into_iter().find(|program: &std::path::PathBuf| run::succeeds(program, &["--version"]));
    found.ok_or_else(|| {
        "cargo-deny is missing: run .ci/run, which installs it under target/tools, or `cargo install --locked cargo-deny`".to_owned()
    })
}
