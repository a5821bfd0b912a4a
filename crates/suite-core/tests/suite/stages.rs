//! Select-Object and Measure-Object behind any runspace.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use exops_catalogue::{BoundArgument, BoundCommand, Cmdlet, LocalStage, Parameter, ParameterKind, Stage};
use exops_psobject::{ErrorCategory, ErrorRecord, PsObject, TypeNames, Value, canonical::canonical};
use exops_runspace::{Ended, Record, RecordStream, Step, StopToken, run_local_stages};
use futures_util::{FutureExt, Stream, StreamExt};
use serde_json::{Value as Json, json};

fn stage(stage: LocalStage, arguments: &[(&str, Value)]) -> Stage {
    let argument = |(name, value): &(&str, Value)| BoundArgument {
        parameter: Arc::new(Parameter {
            name: (*name).into(),
            aliases: Vec::new(),
            kind: ParameterKind::Any,
            type_name: "Object".into(),
            sets: Vec::new(),
            validators: Vec::new(),
            common: false,
        }),
        value: value.clone(),
    };
    let cmdlet: Arc<Cmdlet> = exops_testkit::cmdlet("Select-Object", &[]);
    Stage::Local(stage, BoundCommand { cmdlet, set: None, arguments: arguments.iter().map(argument).collect() })
}

fn select(arguments: &[(&str, Value)]) -> Stage {
    stage(LocalStage::SelectObject, arguments)
}

fn measure() -> Stage {
    stage(LocalStage::MeasureObject, &[])
}

fn names(list: &[&str]) -> Value {
    PsObject::from_list(list.iter().map(|n| Value::from(*n)).collect()).into()
}

fn mailbox(number: i32) -> Value {
    let types: TypeNames = [Arc::from("Contoso.Mailbox"), Arc::from("System.Object")].as_slice().into();
    let properties = [
        ("Name", Value::from(format!("m{number}"))),
        ("Number", number.into()),
        ("Parity", (number % 2).into()),
        ("Addresses", PsObject::from_list(vec![format!("a{number}").into(), format!("b{number}").into()]).into()),
    ];
    PsObject::typed(types, properties.into_iter().collect()).into()
}

/// Objects without end, or so many of them; ends as stopped once the token says so. Counts what it was asked for.
struct Source {
    next: i32,
    until: i32,
    stop: StopToken,
    end: Option<Ended>,
    made: Arc<AtomicUsize>,
}

impl Stream for Source {
    type Item = Step;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Step>> {
        if self.end.is_some() && self.stop.is_stopped() {
            self.end = None;
            return Poll::Ready(Some(Step::Ended(Ended::Stopped)));
        }
        if self.next < self.until {
            self.next += 1;
            self.made.fetch_add(1, Ordering::Relaxed);
            return Poll::Ready(Some(Step::Record(Record::Output(mailbox(self.next)))));
        }
        Poll::Ready(self.end.take().map(Step::Ended))
    }
}

struct Ran {
    output: Vec<Value>,
    others: Vec<Record>,
    end: Ended,
    made: usize,
    stopped: bool,
}

impl Ran {
    fn json(&self) -> Json {
        self.output.iter().map(canonical).collect()
    }
}

fn run(count: i32, stages: &[Stage]) -> Ran {
    run_to(count, Ended::Completed, stages)
}

fn run_to(count: i32, end: Ended, stages: &[Stage]) -> Ran {
    let (stop, made) = (StopToken::new(), Arc::new(AtomicUsize::new(0)));
    let source = Source { next: 0, until: count, stop: stop.clone(), end: Some(end), made: made.clone() };
    drain(Box::pin(source), stages, &stop, &made)
}

fn drain(source: RecordStream, stages: &[Stage], stop: &StopToken, made: &AtomicUsize) -> Ran {
    let mut steps: VecDeque<Step> = run_local_stages(source, stages, stop).collect::<Vec<_>>().now_or_never().unwrap().into();
    let Some(Step::Ended(end)) = steps.pop_back() else { panic!("no end") };
    let (mut output, mut others) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Record(Record::Output(value)) => output.push(value),
            Step::Record(other) => others.push(other),
            Step::Ended(end) => panic!("a second end: {end:?}"),
        }
    }
    Ran { output, others, end, made: made.load(Ordering::Relaxed), stopped: stop.is_stopped() }
}

#[test]
fn properties_are_chosen() {
    let ran = run(1, &[select(&[("Property", names(&["name", "Nothing", "P*", "Number"]))])]);
    let object = ran.output[0].as_object().unwrap();
    let type_names: Vec<&str> = object.type_names.iter().map(|n| &**n).collect();
    assert_eq!(type_names, ["Selected.Contoso.Mailbox", "System.Management.Automation.PSCustomObject", "System.Object"]);
    assert!(object.adapted.is_empty(), "values are notes");
    assert_eq!(canonical(&ran.output[0]).to_string(), r#"{"Name":"m1","Nothing":null,"Parity":1,"Number":1}"#);
    assert_eq!(ran.end, Ended::Completed);

    assert_eq!(run(1, &[select(&[("Property", "*".into())])]).json()[0].as_object().unwrap().len(), 4);
    assert_eq!(run(2, &[select(&[("ExpandProperty", "Addresses".into())])]).json(), json!(["a1", "b1", "a2", "b2"]));
    let both = run(1, &[select(&[("Property", "Number".into()), ("ExpandProperty", "Name".into())])]);
    let expanded = both.output[0].as_object().unwrap();
    assert_eq!((expanded.primitive(), expanded.extended.get("Number")), (Some(&"m1".into()), Some(&1.into())));
    let missing = run(2, &[select(&[("ExpandProperty", "Nothing".into())])]);
    assert!(missing.output.is_empty() && missing.end == Ended::Completed && missing.others.len() == 2);
    let Record::Error(error) = &missing.others[0] else { panic!("{:?}", missing.others) };
    assert_eq!(error.fully_qualified_error_id.as_ref(), "ExpandPropertyNotFound,Microsoft.PowerShell.Commands.SelectObjectCommand");
}

#[test]
fn objects_are_counted_and_chosen() {
    let numbers = |arguments: &[(&str, Value)]| -> Vec<i64> {
        run(6, &[select(arguments)]).output.iter().map(|v| v.as_object().unwrap().property("Number").unwrap().as_i64().unwrap()).collect()
    };
    assert_eq!(numbers(&[]), [1, 2, 3, 4, 5, 6]);
    assert_eq!(numbers(&[("First", 2.into())]), [1, 2]);
    assert_eq!(numbers(&[("First", "2".into()), ("Skip", 3.into())]), [4, 5]);
    assert_eq!(numbers(&[("First", 0.into())]), [0; 0]);
    assert_eq!(numbers(&[("First", 100.into())]), [1, 2, 3, 4, 5, 6]);
    assert_eq!(numbers(&[("Skip", 4.into())]), [5, 6]);
    assert_eq!(numbers(&[("Last", 2.into())]), [5, 6]);
    assert_eq!(numbers(&[("Last", 2.into()), ("Skip", 1.into())]), [4, 5]);
    assert_eq!(numbers(&[("Last", 1.into()), ("First", 2.into())]), [1, 2, 6]);
    assert_eq!(run(6, &[select(&[("Property", "Parity".into()), ("Unique", true.into())])]).json(), json!([{"Parity": 1}, {"Parity": 0}]));

    let counted = run(6, &[measure()]);
    let object = counted.output[0].as_object().unwrap();
    assert_eq!(object.type_name(), Some("Microsoft.PowerShell.Commands.GenericMeasureInfo"));
    assert_eq!(object.adapted.get("Count"), Some(&Value::I32(6)));
    assert_eq!(run(0, &[measure(), select(&[("Property", "Count".into())])]).json(), json!([{"Count": 0}]));
    assert_eq!(run(5, &[select(&[("First", 3.into())]), measure()]).json()[0]["Count"], 3);
}

/// `-First` does not read on: it stops the producer, and the pipeline has completed all the same.
#[test]
fn first_stops_the_producer() {
    let ran = run(i32::MAX, &[select(&[("First", 3.into())]), select(&[("Property", "Name".into())])]);
    assert_eq!((ran.output.len(), &ran.end, ran.made, ran.stopped), (3, &Ended::Completed, 3, true));
    let whole = run(3, &[select(&[("Skip", 1.into())])]);
    assert_eq!((whole.output.len(), &whole.end, whole.stopped), (2, &Ended::Completed, false));
}

/// Ends and records other than output pass; what a stage holds back is not shown when the input failed or was stopped.
#[test]
fn ends_pass() {
    let record = || Box::new(ErrorRecord::new("System.Exception", "no", ErrorCategory::NotSpecified, "No"));
    for end in [Ended::Failed(record()), Ended::Stopped, Ended::Refused(record())] {
        let ran = run_to(2, end.clone(), &[measure()]);
        assert!(ran.output.is_empty() && ran.end == end, "{end:?}");
    }
    let stop = StopToken::new();
    let steps = [Record::Warning("w".into()), Record::Output(mailbox(1)), Record::Error(record())];
    let steps = steps.into_iter().map(Step::Record).chain([Step::Ended(Ended::Completed)]);
    let ran = drain(Box::pin(futures_util::stream::iter(steps.collect::<Vec<_>>())), &[measure()], &stop, &AtomicUsize::new(0));
    assert_eq!((ran.output.len(), ran.others.len()), (1, 2));

    for bad in [
        select(&[("First", (-1).into())]),
        select(&[("Last", "x".into())]),
        select(&[("Property", PsObject { base: exops_psobject::Base::Dictionary(Vec::new()), ..PsObject::default() }.into())]),
        select(&[("Property", Value::ScriptBlock("$_.Name".into()))]),
        Stage::Unresolved(exops_catalogue::Command::new("Where-Object")),
    ] {
        let ran = run(1, &[bad]);
        assert!(matches!(ran.end, Ended::Refused(_)) && ran.made == 0, "{:?}", ran.end);
    }
}
