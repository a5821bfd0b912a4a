//! Every fuzz target for a while, two at once.

use std::process::Command;
use std::sync::Mutex;

use crate::{Outcome, run};

/// Seconds for each target before a change goes in: sixteen targets, two at once, are four minutes.
pub(crate) const CI_SECONDS: u64 = 30;
/// Seconds for each target in a long run.
const SOAK_SECONDS: u64 = 600;
/// The seed before a change goes in: the same inputs each time. A long run takes a new one, which each target prints.
pub(crate) const CI_SEED: u64 = 1;
const AT_ONCE: usize = 2;

/// The long run: `[seconds]`, or the arguments of one run or replay of a target.
pub(crate) fn soak(arguments: &[String]) -> Outcome {
    match arguments.first() {
        None => run(SOAK_SECONDS, new_seed()),
        Some(first) if first.starts_with("--") => {
            build()?;
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            run::run(&mut program(&arguments))
        }
        Some(seconds) => run(seconds.parse().map_err(|_| format!("'{seconds}' is no number of seconds"))?, new_seed()),
    }
}

/// Runs every target. The build is the one with checks of arithmetic, which an optimised one lacks.
pub(crate) fn run(seconds: u64, seed: u64) -> Outcome {
    build()?;
    let list = run::output(&mut program(&["--list"]))?;
    eprintln!("$ exops-fuzz, {} targets, {seconds} s each, {AT_ONCE} at once", list.lines().count());
    let (waiting, failed) = (Mutex::new(list.lines()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().ok().and_then(|mut targets| targets.next());
                    let Some(target) = next else { return };
                    if let Err(problem) = one(target, seconds, seed)
                        && let Ok(mut failed) = failed.lock()
                    {
                        failed.push(problem);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    if failed.is_empty() { Ok(()) } else { Err(format!("fuzzing found something:\n  {}", failed.join("\n  "))) }
}

fn new_seed() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(CI_SEED, |since| since.as_secs())
}

fn build() -> Outcome {
    run::run(&mut run::cargo(&["build", "--locked", "-p", "exops-fuzz"]))
}

fn program(arguments: &[&str]) -> Command {
    run::command(run::target().join("debug").join(format!("exops-fuzz{}", std::env::consts::EXE_SUFFIX)), arguments)
}

/// One target to its end. What is found it prints itself, in one piece; a process that died left its last input.
fn one(target: &str, seconds: u64, seed: u64) -> Outcome {
    let folder = run::target().join("fuzz");
    let shown = folder.display().to_string();
    let (seconds, seed) = (seconds.to_string(), seed.to_string());
    let output = program(&["--target", target, "--seconds", &seconds, "--seed", &seed, "--folder", &shown]).output();
    let output = output.map_err(|error| format!("{target}: it could not be started: {error}"))?;
    print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match output.status.code() {
        Some(0) => Ok(()),
        Some(1) => Err(format!("{target}: see above")),
        Some(code) => Err(format!("{target}: it ended with {code}")),
        None => Err(format!(
            "{target}: the process died ({}): cargo xtask soak fuzz --target {target} --replay {shown}/{target}/running",
            output.status
        )),
    }
}
