//! Every fuzz target over its seeds, its committed inputs and a few thousand mutations; and the engine itself: a target
//! with a planted defect must be found, written and replayed.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use exops_fuzz::{Settings, TARGETS, Target, committed, replay, run};

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn committed_inputs_and_some_more() {
    for target in TARGETS {
        for (path, input) in committed(target.name).unwrap() {
            replay(target, &input).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
        }
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        let settings = Settings { seed: 7, time: HOUR, executions: 1_500, folder: None };
        let report = run(target, &settings).unwrap();
        assert!(report.findings.is_empty(), "{}: {:?}", target.name, report.findings);
        assert_eq!(report.executions, 1_500);
        // What the encoders make is taken, not refused: a seed that is refused leads nowhere. Outcomes of what is taken are
        // even; those of the machines and of targets with several decoders are mixed.
        if ["clixml", "clixml-document", "soap-response", "rest-values", "opath", "role-model"].contains(&target.name) {
            let broken = seeds.iter().filter(|seed| replay(target, seed).is_ok_and(|outcome| outcome % 2 == 1)).count();
            assert!(broken <= 1, "{}: {broken} seeds are refused", target.name);
        }
        // Outcomes must differ, or the target sees nothing of its input.
        assert!(report.outcomes > 5, "{}: {} outcomes", target.name, report.outcomes);
    }
    // Every folder of committed inputs belongs to a target.
    for kind in ["corpus", "findings"] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/");
        for entry in std::fs::read_dir(format!("{folder}{kind}")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(TARGETS.iter().any(|target| target.name == name), "{kind}/{name} belongs to no target");
        }
    }
}

/// A decoder with two planted defects: a panic behind two words, and a property that does not hold.
fn planted(input: &[u8]) -> Result<u64, String> {
    match input {
        [b'k', b'e', b'y', b'!', ..] => panic!("planted at {}", input.len()),
        [b'k', b'e', b'y', ..] => Ok(2),
        [0xff, 0xff, ..] => Err("planted property".to_owned()),
        _ => Ok(1),
    }
}

#[test]
fn a_planted_defect_is_found_written_and_replayed() {
    let target = Target { name: "planted", run: planted, seeds: || vec![b"start".to_vec()], words: &[b"key", b"!"] };
    let folder = std::env::temp_dir().join(format!("exops-fuzz-{}", std::process::id()));
    let settings = Settings { seed: 3, time: HOUR, executions: 200_000, folder: Some(folder.clone()) };
    let report = run(&target, &settings).unwrap();
    let again = run(&target, &settings).unwrap();
    let mut problems: Vec<&str> = report.findings.iter().map(|finding| finding.problem.as_str()).collect();
    problems.sort_unstable();
    // Each once, however often it was met.
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("panicked: planted at ") && problems[1] == "planted property", "{problems:?}");
    for finding in &report.findings {
        let kept = std::fs::read(finding.path.as_ref().unwrap()).unwrap();
        assert_eq!(kept, finding.input);
        assert_eq!(replay(&target, &kept), Err(finding.problem.clone()));
    }
    // The same seed gives the same inputs.
    let inputs = |report: &exops_fuzz::Report| report.findings.iter().map(|finding| finding.input.clone()).collect::<Vec<_>>();
    assert_eq!((inputs(&report), report.outcomes), (inputs(&again), again.outcomes));
    std::fs::remove_dir_all(folder).unwrap();
}
