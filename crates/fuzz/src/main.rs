//! `exops-fuzz`: runs one target, or replays one input. `cargo xtask soak fuzz` and `cargo xtask ci` start it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to the person who runs it")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use exops_fuzz::{Settings, TARGETS, Target, replay, run};

const USAGE: &str = "exops-fuzz --list | --target T [--seconds N] [--seed N] [--folder F] | --target T --replay FILE";

/// Most memory of a run in KiB. Inputs are short and limits low, so that the pool of inputs (64 MiB) is the largest part.
const MOST_MEMORY: u64 = 256 * 1024;

fn main() -> ExitCode {
    match work(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("exops-fuzz: {problem}");
            ExitCode::from(2)
        }
    }
}

/// `true` when nothing was found.
fn work(arguments: &[String]) -> Result<bool, String> {
    let (mut target, mut file) = (None, None);
    let mut settings = Settings { seed: 1, time: Duration::from_secs(30), executions: u64::MAX, folder: Some("target/fuzz".into()) };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--list" {
            TARGETS.iter().for_each(|target| println!("{}", target.name));
            return Ok(true);
        }
        let value = arguments.next().ok_or(USAGE)?;
        let number = || value.parse::<u64>().map_err(|_| format!("{argument} {value}: not a number"));
        match argument.as_str() {
            "--target" => target = Some(find(value)?),
            "--seconds" => settings.time = Duration::from_secs(number()?),
            "--seed" => settings.seed = number()?,
            "--folder" => settings.folder = Some(value.into()),
            "--replay" => file = Some(PathBuf::from(value)),
            _ => return Err(USAGE.to_owned()),
        }
    }
    let target = target.ok_or(USAGE)?;
    if let Some(file) = file {
        let input = std::fs::read(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let result = replay(target, &input);
        match &result {
            Ok(outcome) => println!("{}: {} bytes: nothing found (outcome {outcome:x})", target.name, input.len()),
            Err(problem) => println!("{}: {} bytes: {problem}", target.name, input.len()),
        }
        return Ok(result.is_ok());
    }
    // A panic is a finding with a replay command; its trace is seen there.
    std::panic::set_hook(Box::new(|_| {}));
    let report = run(target, &settings).map_err(|error| format!("{}: {error}", target.name))?;
    let memory = peak_memory();
    println!(
        "{}: {} executions, {} findings; {} outcomes, {} inputs, longest {} ms, peak memory {} KiB (seed {})",
        target.name,
        report.executions,
        report.findings.len(),
        report.outcomes,
        report.inputs,
        report.longest.as_millis(),
        memory.map_or_else(|| "unknown".to_owned(), |memory| memory.to_string()),
        settings.seed,
    );
    for finding in &report.findings {
        let file = finding.path.as_deref().unwrap_or(std::path::Path::new("-")).display();
        println!("  {}\n    cargo xtask soak fuzz --target {} --replay {file}", finding.problem, target.name);
    }
    let within = memory.is_none_or(|memory| memory <= MOST_MEMORY);
    if !within {
        println!("  it took more than {MOST_MEMORY} KiB of memory: run it again with the same seed and fewer seconds");
    }
    Ok(within && report.findings.is_empty())
}

fn find(name: &str) -> Result<&'static Target, String> {
    TARGETS.iter().find(|target| target.name == name).ok_or_else(|| {
        format!("there is no target '{name}'; there are {}", TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(" "))
    })
}

/// Peak of the process's resident memory in KiB, where the system tells it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()
}
