//! Every test, with the counterparts that can be had, and by name what was not run.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Outcome, interop, run};

/// How a test says that something it needs is not there: `NOT RUN: <name>: <why>` on its standard output.
const NOT_RUN: &str = "NOT RUN: ";
/// A sample folder may be missing anywhere; whatever else is missing fails an automatic build.
const SAMPLES: &str = "EXOPS_SAMPLES";

/// The task: builds and runs all tests, or those whose names hold one of the filters.
pub(crate) fn run(filters: &[String]) -> Outcome {
    let mut not_run = Vec::new();
    let python = note(interop::python(), &mut not_run);
    note(interop::openssl(), &mut not_run);
    if run::is_ci() && !not_run.is_empty() {
        return Err(format!("with CI=true every counterpart must be there:\n  {}", not_run.join("\n  ")));
    }
    run::run(&mut run::cargo(&["build", "--locked", "-p", "exops"]))?;
    let binary = run::binary("debug");
    let environment = |command: &mut Command| {
        command.env("EXOPS_BINARY", &binary);
        if let Some(python) = &python {
            command.env("EXOPS_PYTHON", python);
        }
    };
    let outcome = suites(&["--workspace"], filters, environment, &mut not_run);
    not_run.sort();
    not_run.dedup();
    for line in &not_run {
        println!("{NOT_RUN}{line}");
    }
    outcome?;
    match not_run.iter().filter(|line| !line.contains(SAMPLES)).count() {
        0 => Ok(()),
        _ if !run::is_ci() => Ok(()),
        count => Err(format!("with CI=true every counterpart must be there; {count} did not run, see above")),
    }
}

/// Seeds of the simulated session over a bad network in a long run.
const SEEDS: &str = "100000";

/// The long runs.
pub(crate) fn soak(kills: &str) -> Outcome {
    kills.parse::<u32>().map_err(|_| format!("'{kills}' is no number of kills"))?;
    let mut simulation = run::cargo(&["test", "--locked", "--release", "-p", "exops-suite-core", "--", "the_same_records"]);
    run::run(simulation.env("EXOPS_SEEDS", SEEDS))?;
    run::run(&mut run::cargo(&["build", "--locked", "--release", "-p", "exops"]))?;
    let mut tests = run::cargo(&["test", "--locked", "--release", "-p", "exops-suite-system", "--", "kill", "--nocapture"]);
    run::run(tests.env("EXOPS_KILLS", kills).env("EXOPS_BINARY", run::binary("release")))
}

fn note<T>(answer: Result<T, interop::Missing>, not_run: &mut Vec<String>) -> Option<T> {
    answer.map_err(|missing| not_run.push(format!("{}: {}", missing.name, missing.why))).ok()
}

/// Runs tests with nextest where it is there, and collects what they say they did not run.
fn suites(packages: &[&str], filters: &[String], environment: impl Fn(&mut Command), not_run: &mut Vec<String>) -> Outcome {
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    if run::succeeds("cargo", &["nextest", "--version"]) {
        let report = run::target().join("nextest/default/junit.xml");
        let _ = std::fs::remove_file(&report);
        let mut command = run::cargo(&[&["nextest", "run", "--locked"], packages, &filters].concat());
        environment(&mut command);
        let outcome = run::run(&mut command);
        collect_report(&report, not_run);
        return outcome;
    }
    let mut command = run::cargo(&[&["test", "--locked"], packages, &["--"], &filters, &["--show-output"]].concat());
    environment(&mut command);
    eprintln!("$ cargo test --locked {} (cargo-nextest is not installed)", packages.join(" "));
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| format!("cargo could not be started: {error}"))?;
    for line in child.stdout.take().into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok) {
        not_run.extend(line.strip_prefix(NOT_RUN).map(str::to_owned));
        println!("{line}");
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("tests failed ({status})")),
        Err(error) => Err(format!("cargo did not end: {error}")),
    }
}

/// nextest shows no output of tests that pass, but keeps it in its report.
fn collect_report(report: &Path, not_run: &mut Vec<String>) {
    let text = std::fs::read_to_string(report).unwrap_or_default();
    for (_, after) in text.lines().filter_map(|line| line.split_once(NOT_RUN)) {
        let line = after.split("</system-out>").next().unwrap_or_default();
        not_run.push(line.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&"));
    }
}
