use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use exops_catalogue::{BoundCommand, LocalStage, Stage};
use exops_psobject::{Base, ErrorCategory, ErrorRecord, Properties, PsObject, TypeNames, Value, canonical, wildcard};
use futures_core::Stream;

use crate::{Ended, Record, RecordStream, Step, StopToken, ended};

/// Longest property name or pattern that is matched.
const MAX_PATTERN: usize = 1_000;

/// Puts the local stages of a pipeline (everything behind its first stage) behind the records of that first stage.
///
/// `Select-Object` passes objects on as they come, `Measure-Object` holds a count only. Records other than output
/// pass. Once `Select-Object -First` has what it wants it asks `stop`, which must be the token of the invocation that
/// `records` belongs to, and drops what still comes; the stopped end that follows is then [`Ended::Completed`].
///
/// A stage that is not local, or an argument that means nothing to it, is [`Ended::Refused`] without reading a record.
#[must_use]
pub fn run_local_stages(records: RecordStream, stages: &[Stage], stop: &StopToken) -> RecordStream {
    let mut built: Vec<Box<dyn Work>> = Vec::with_capacity(stages.len());
    for stage in stages {
        match work(stage) {
            Ok(work) => built.push(work),
            Err(error) => return ended(Ended::Refused(error)),
        }
    }
    built.into_iter().fold(records, |records, work| {
        let stop = stop.clone();
        Box::pin(Staged { records, work, stop, ready: VecDeque::new(), satisfied: false, end: None, over: false })
    })
}

/// What a stage does with the output that it is given.
trait Work: Send {
    /// Takes one object. `false`: it wants no more.
    fn take(&mut self, value: Value, out: &mut VecDeque<Record>) -> bool;
    /// The input has come to its end.
    fn finish(&mut self, out: &mut VecDeque<Record>);
}

struct Staged {
    records: RecordStream,
    work: Box<dyn Work>,
    stop: StopToken,
    ready: VecDeque<Record>,
    satisfied: bool,
    end: Option<Ended>,
    over: bool,
}

impl Stream for Staged {
    type Item = Step;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Step>> {
        let this = &mut *self;
        loop {
            if let Some(record) = this.ready.pop_front() {
                return Poll::Ready(Some(Step::Record(record)));
            }
            if let Some(end) = this.end.take() {
                this.over = true;
                return Poll::Ready(Some(Step::Ended(end)));
            }
            if this.over {
                return Poll::Ready(None);
            }
            match ready!(this.records.as_mut().poll_next(context)) {
                Some(Step::Record(_)) if this.satisfied => {}
                Some(Step::Record(Record::Output(value))) => {
                    if !this.work.take(value, &mut this.ready) {
                        this.satisfied = true;
                        this.stop.stop();
                    }
                }
                Some(Step::Record(other)) => this.ready.push_back(other),
                Some(Step::Ended(end)) => {
                    let end = if this.satisfied && end == Ended::Stopped { Ended::Completed } else { end };
                    if end == Ended::Completed {
                        this.work.finish(&mut this.ready);
                    }
                    this.end = Some(end);
                }
                None => this.over = true,
            }
        }
    }
}

fn work(stage: &Stage) -> Result<Box<dyn Work>, Box<ErrorRecord>> {
    match stage {
        Stage::Local(LocalStage::SelectObject, command) => Ok(Box::new(Select::new(command)?)),
        Stage::Local(LocalStage::MeasureObject, _) => Ok(Box::new(Measure { count: 0 })),
        Stage::Local(..) => Err(refused("this command does not run behind a pipe here")),
        Stage::Cmdlet(command) => Err(refused(&format!("{} cannot stand behind a pipe here", command.cmdlet.name))),
        Stage::Unresolved(command) => Err(refused(&format!("{} cannot stand behind a pipe here", command.name))),
        _ => Err(refused("this stage cannot stand behind a pipe here")),
    }
}

fn refused(message: &str) -> Box<ErrorRecord> {
    let exception = "System.Management.Automation.PSNotSupportedException";
    Box::new(ErrorRecord::new(exception, message, ErrorCategory::InvalidOperation, "NotSupported"))
}

/// `Measure-Object` without a property: a count.
struct Measure {
    count: i32,
}

impl Work for Measure {
    fn take(&mut self, _: Value, _: &mut VecDeque<Record>) -> bool {
        self.count = self.count.saturating_add(1);
        true
    }

    fn finish(&mut self, out: &mut VecDeque<Record>) {
        let mut properties = Properties::with_capacity(6);
        properties.push("Count", self.count);
        for name in ["Average", "Sum", "Maximum", "Minimum", "Property"] {
            properties.push(name, Value::Null);
        }
        let names = ["Microsoft.PowerShell.Commands.GenericMeasureInfo", "Microsoft.PowerShell.Commands.MeasureInfo", "System.Object"];
        let object = PsObject::typed(names.map(Arc::from).as_slice().into(), properties);
        out.push_back(Record::Output(object.into()));
    }
}

/// `Select-Object`.
struct Select {
    properties: Vec<String>,
    expand: Option<String>,
    first: Option<usize>,
    last: Option<usize>,
    skip: usize,
    unique: bool,
    seen: HashSet<String>,
    /// Taken by `-First`.
    taken: usize,
    /// The newest objects: candidates of `-Last`, and those that `-Skip` holds back beside it.
    held: VecDeque<Value>,
    /// The type names that were made last, with those that they were made of.
    names: Option<(TypeNames, TypeNames)>,
}

impl Select {
    fn new(command: &BoundCommand) -> Result<Self, Box<ErrorRecord>> {
        let count = |name: &str| match command.argument(name) {
            None => Ok(None),
            Some(value) => {
                let number = value.as_i64().or_else(|| value.as_str()?.parse().ok()).and_then(|n| usize::try_from(n).ok());
                number
                    .map(Some)
                    .ok_or_else(|| refused(&format!("-{name} of Select-Object must be a number from 0 on, not {}", value.display())))
            }
        };
        let properties = match command.argument("Property") {
            None | Some(Value::Null) => Vec::new(),
            Some(value) => value.as_list().unwrap_or(std::slice::from_ref(value)).iter().map(name_of).collect::<Result<_, _>>()?,
        };
        let expand = command.argument("ExpandProperty").filter(|v| !v.is_null()).map(name_of).transpose()?;
        Ok(Self {
            properties,
            expand,
            first: count("First")?,
            last: count("Last")?,
            skip: count("Skip")?.unwrap_or(0),
            unique: command.flag("Unique"),
            seen: HashSet::new(),
            taken: 0,
            held: VecDeque::new(),
            names: None,
        })
    }

    /// What becomes of one object that was chosen.
    fn emit(&mut self, value: &Value, out: &mut VecDeque<Record>) {
        let selected = if self.properties.is_empty() { value.clone() } else { self.project(value) };
        let Some(expand) = &self.expand else { return self.push(selected, out) };
        let found: Vec<Value> = matching(value, expand).into_iter().map(|(_, v)| v.clone()).collect();
        if found.is_empty() {
            let mut error = ErrorRecord::new(
                "System.Management.Automation.PSArgumentException",
                format!("Property \"{expand}\" cannot be found."),
                ErrorCategory::InvalidArgument,
                "ExpandPropertyNotFound,Microsoft.PowerShell.Commands.SelectObjectCommand",
            );
            error.activity = "Select-Object".into();
            error.target_object = value.clone();
            return out.push_back(Record::Error(Box::new(error)));
        }
        let notes = (!self.properties.is_empty()).then(|| selected.as_object().map(|o| o.extended.clone())).flatten();
        for value in found {
            let items = value.as_list().map(<[Value]>::to_vec).unwrap_or_else(|| vec![value.clone()]);
            for item in items {
                let item = match &notes {
                    Some(notes) => with_notes(item, notes),
                    None => item,
                };
                self.push(item, out);
            }
        }
    }

    fn push(&mut self, value: Value, out: &mut VecDeque<Record>) {
        if !self.unique || self.seen.insert(format!("{}{}", value.type_name(), canonical::canonical(&value))) {
            out.push_back(Record::Output(value));
        }
    }

    fn project(&mut self, value: &Value) -> Value {
        let mut notes = Properties::with_capacity(self.properties.len());
        // Only these can name a property twice; to look for it costs more than the rest for `*` and a large object.
        let twice = self.properties.len() > 1 || value.as_object().is_some_and(|o| !o.extended.is_empty() && !o.adapted.is_empty());
        for pattern in &self.properties {
            let found = matching(value, pattern);
            if found.is_empty() && !wildcard::is_pattern(pattern) {
                notes.set(pattern, Value::Null);
            }
            for (name, value) in found {
                if twice {
                    notes.set(name, value.clone());
                } else {
                    notes.push(name.clone(), value.clone());
                }
            }
        }
        PsObject { type_names: self.selected_names(value), extended: notes, ..PsObject::default() }.into()
    }

    fn selected_names(&mut self, value: &Value) -> TypeNames {
        let source = value.as_object().map(|o| o.type_names.clone()).unwrap_or_default();
        if let Some((known, made)) = &self.names
            && !source.is_empty()
            && Arc::ptr_eq(known, &source)
        {
            return made.clone();
        }
        let selected = format!("Selected.{}", value.type_name());
        let made: TypeNames =
            [selected.as_str(), "System.Management.Automation.PSCustomObject", "System.Object"].map(Arc::from).as_slice().into();
        self.names = Some((source, made.clone()));
        made
    }
}

impl Work for Select {
    fn take(&mut self, value: Value, out: &mut VecDeque<Record>) -> bool {
        if let Some(last) = self.last {
            // -Skip counts from the end where -Last stands alone, as PowerShell has it.
            let from_end = if self.first.is_none() { self.skip } else { 0 };
            if self.first.is_some() && self.skip > 0 {
                self.skip -= 1;
                return true;
            }
            if self.first.is_some_and(|first| self.taken < first) {
                self.taken += 1;
                self.emit(&value, out);
                return true;
            }
            self.held.push_back(value);
            if self.held.len() > last.saturating_add(from_end) {
                self.held.pop_front();
            }
            return true;
        }
        if self.first == Some(0) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return true;
        }
        self.emit(&value, out);
        self.taken += 1;
        self.first.is_none_or(|first| self.taken < first)
    }

    fn finish(&mut self, out: &mut VecDeque<Record>) {
        if let Some(last) = self.last {
            let from_end = if self.first.is_none() { self.skip } else { 0 };
            let keep = self.held.len().saturating_sub(from_end).min(last);
            for value in std::mem::take(&mut self.held).into_iter().take(keep) {
                self.emit(&value, out);
            }
        }
    }
}

/// A property name or pattern. Calculated properties (hash tables, script blocks) would need an evaluator.
fn name_of(value: &Value) -> Result<String, Box<ErrorRecord>> {
    match value {
        Value::ScriptBlock(_) => Err(refused("calculated properties of Select-Object are not served; name the properties")),
        _ => match value.as_str() {
            Some(name) if name.len() <= MAX_PATTERN => Ok(name.to_owned()),
            Some(_) => Err(refused(&format!("a property name of Select-Object is longer than {MAX_PATTERN} bytes"))),
            None => Err(refused("calculated properties of Select-Object are not served; name the properties")),
        },
    }
}

/// Properties whose name is `pattern`, or fits it where it has `*` or `?`. Text has the one property `Length`.
fn matching<'v>(value: &'v Value, pattern: &str) -> Vec<(&'v Arc<str>, &'v Value)> {
    let Some(object) = value.as_object() else { return Vec::new() };
    if wildcard::is_pattern(pattern) {
        return object.properties().filter(|(name, _)| wildcard::fits(name, pattern)).collect();
    }
    // A note hides a live property of the same name: the last one counts.
    object.properties().filter(|(name, _)| name.eq_ignore_ascii_case(pattern)).last().into_iter().collect()
}

fn with_notes(value: Value, notes: &Properties) -> Value {
    let mut object = match value {
        Value::Object(object) => Arc::unwrap_or_clone(object),
        primitive => PsObject { base: Base::Primitive(primitive), ..PsObject::default() },
    };
    for (name, value) in notes.iter() {
        object.extended.set(name, value.clone());
    }
    object.into()
}
