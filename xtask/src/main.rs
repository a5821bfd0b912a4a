//! The tasks of this repository: `cargo xtask <task>`.
//!
//! Only the standard library and serde_json, so that it builds in seconds on a fresh machine. Every task fails with one
//! sentence that says what to do.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to the person who runs it")]

mod arrows;
mod ci;
mod fuzz;
mod interop;
mod run;
mod test;
mod threats;
mod tiers;

use std::process::ExitCode;

/// A task's result; the text is shown to the person as it is.
type Outcome = Result<(), String>;

const USAGE: &str = "\
cargo xtask <task>

  test [filter]…   install what the counterparts need under target/, build, run every test
  ci               everything that must hold: fmt, clippy, tiers, deny, test, fuzz, doc
  tiers            check the crates against the arrows of ARCHITECTURE.md, and the attack cases against docs/threats.md
  soak [kills]     the long runs: the kill test by the hundred (default 500)
  soak fuzz [seconds]
                   every fuzz target for so long (default 600); a finding is replayed by
                   soak fuzz --target <target> --replay <file>
  figures [runs]   measure a release build beside msal and pypsrp (default 20 runs a row)
  peers [rounds]   measure CLIXML beside psrp-rs, roxmltree and quick-xml (default 7 rounds)
  peers large      measure a release build reading 100,000 mailboxes beside pypsrp, and idle sessions
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    let outcome = match arguments.first().map(String::as_str) {
        Some("test") => test::run(rest),
        Some("ci") => ci::run(),
        Some("tiers") => tiers::run().and_then(|()| threats::run()),
        Some("soak") if rest.first().is_some_and(|what| what == "fuzz") => fuzz::soak(rest.get(1..).unwrap_or_default()),
        Some("soak") => test::soak(rest.first().map_or("500", String::as_str)),
        Some("figures") => interop::measure("figures.py", rest),
        Some("peers") if rest.first().is_some_and(|what| what == "large") => {
            interop::measure("large.py", rest.get(1..).unwrap_or_default())
        }
        Some("peers") => {
            let rounds = rest.first().map_or("7", String::as_str);
            run::run(&mut run::cargo(&["run", "--release", "--locked", "--manifest-path", "benches/peers/Cargo.toml", "--", rounds]))
        }
        None | Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Some(other) => Err(format!("there is no task '{other}'\n\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}
