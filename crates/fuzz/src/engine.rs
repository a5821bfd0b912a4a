//! Runs a target over its seeds, its committed inputs and mutations of both.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::mutate::{Random, mutate};
use crate::{HASH_BASIS, Outcome, Target, hash};

/// Inputs that are kept for mutation; beyond that a new one takes the place of another.
const POOL: usize = 1_024;
/// An execution that takes longer is a finding: no input of 64 KiB may ask for so much work. Opening a key file may do
/// 1.8 million rounds of key derivation, which is the longest honest execution.
const SLOW: Duration = Duration::from_secs(20);
/// Findings after which a target stops: more of them say nothing new.
const ENOUGH: usize = 10;

/// How a target is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Same seed, same inputs (but for keys and signatures, which are made anew).
    pub seed: u64,
    /// Stops after so long.
    pub time: Duration,
    /// Stops after so many executions.
    pub executions: u64,
    /// Findings are written to a folder of the target's name here, and the input that runs to `running` therein, which
    /// is what is left when the process dies. `None` writes nothing.
    pub folder: Option<PathBuf>,
}

/// An input on which a target panicked, broke a property or took too long.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What went wrong.
    pub problem: String,
    /// The input.
    pub input: Vec<u8>,
    /// Where it was written.
    pub path: Option<PathBuf>,
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Inputs that were run.
    pub executions: u64,
    /// Outcomes that differ.
    pub outcomes: usize,
    /// Inputs in the pool at the end.
    pub inputs: usize,
    /// The longest execution.
    pub longest: Duration,
    /// What was found; one of each problem.
    pub findings: Vec<Finding>,
}

/// The committed inputs of a target: its corpus, and findings of earlier runs, by path and in order.
///
/// # Errors
/// A folder or file that cannot be read.
pub fn committed(target: &str) -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut paths = Vec::new();
    for kind in ["corpus", "findings"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target);
        if folder.is_dir() {
            for entry in fs::read_dir(folder)? {
                paths.push(entry?.path());
            }
        }
    }
    paths.sort();
    paths.into_iter().map(|path| fs::read(&path).map(|input| (path, input))).collect()
}

/// Runs one input; `Err` says what went wrong.
///
/// # Errors
/// A panic, a property that does not hold, or too long a time.
pub fn replay(target: &Target, input: &[u8]) -> Result<Outcome, String> {
    let begin = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = begin.elapsed();
    match result {
        Ok(Ok(_)) if took > SLOW => Err(format!("it took {} ms", took.as_millis())),
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(format!("panicked: {}", text.unwrap_or("without a message")))
        }
    }
}

/// Runs a target: first every seed and committed input as it is, then mutations until time or count is over.
///
/// # Errors
/// Committed inputs that cannot be read, findings that cannot be written.
pub fn run(target: &Target, settings: &Settings) -> std::io::Result<Report> {
    let mut running = Running::new(target.name, settings.folder.as_deref())?;
    let mut first = (target.seeds)();
    first.extend(committed(target.name)?.into_iter().map(|(_, input)| input));
    let mut random = Random::new(settings.seed);
    let (mut pool, mut seen, mut problems) = (Vec::<Vec<u8>>::new(), HashSet::new(), HashSet::new());
    let mut report = Report::default();
    let begin = Instant::now();
    let mut first = first.into_iter();
    while report.executions < settings.executions && begin.elapsed() < settings.time && report.findings.len() < ENOUGH {
        let fresh = first.next();
        let is_seed = fresh.is_some();
        let input = fresh.unwrap_or_else(|| {
            // The latest inputs are the least explored.
            let recent = pool.len().saturating_sub(pool.len().min(16));
            let from = if random.below(2) == 0 { pool.get(recent..).unwrap_or_default() } else { &pool };
            let mut input = random.of(from).cloned().unwrap_or_default();
            let other = random.of(&pool).map(Vec::as_slice).unwrap_or_default();
            mutate(&mut input, other, target.words, &mut random);
            input
        });
        running.note(&input)?;
        let before = Instant::now();
        let outcome = replay(target, &input);
        report.longest = report.longest.max(before.elapsed());
        report.executions += 1;
        match outcome {
            Ok(outcome) => {
                // 20 bits of it: what was seen stays small however long a run is.
                if seen.insert(outcome.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) || is_seed {
                    if pool.len() < POOL {
                        pool.push(input);
                    } else if let Some(slot) = {
                        let at = random.below(POOL);
                        pool.get_mut(at)
                    } {
                        *slot = input;
                    }
                }
            }
            Err(problem) => {
                // The first line without its numbers: one finding for each way to fail.
                let kind: String = problem.lines().next().unwrap_or_default().chars().filter(|c| !c.is_ascii_digit()).collect();
                if problems.insert(kind) {
                    let path = running.keep(&input)?;
                    report.findings.push(Finding { problem, input, path });
                }
            }
        }
    }
    report.outcomes = seen.len();
    report.inputs = pool.len();
    Ok(report)
}

/// The folder of a target that runs.
struct Running(Option<(PathBuf, File)>);

impl Running {
    fn new(target: &str, folder: Option<&Path>) -> std::io::Result<Self> {
        let Some(folder) = folder else { return Ok(Self(None)) };
        let folder = folder.join(target);
        fs::create_dir_all(&folder)?;
        let file = File::create(folder.join("running"))?;
        Ok(Self(Some((folder, file))))
    }

    fn note(&mut self, input: &[u8]) -> std::io::Result<()> {
        let Some((_, file)) = &mut self.0 else { return Ok(()) };
        file.seek(SeekFrom::Start(0))?;
        file.write_all(input)?;
        file.set_len(input.len() as u64)
    }

    fn keep(&self, input: &[u8]) -> std::io::Result<Option<PathBuf>> {
        let Some((folder, _)) = &self.0 else { return Ok(None) };
        let name = input.iter().copied().fold(HASH_BASIS, hash);
        let path = folder.join(format!("{name:016x}"));
        fs::write(&path, input)?;
        Ok(Some(path))
    }
}
