use std::sync::Arc;

use exops_psobject::{ErrorRecord, Value};

use crate::validate::validate;
use crate::{
    BoundArgument, BoundCommand, BoundPipeline, Catalogue, Cmdlet, Command, Parameter, ParameterKind, Pipeline, Stage, Validator, convert,
    refusal, table,
};

/// What to do with names that the catalogue lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownNames {
    /// An error, as a server answers.
    Refuse,
    /// They travel as [`Stage::Unresolved`], as a client's do.
    Pass,
}

/// Why a pipeline does not bind.
#[derive(Debug, Clone, PartialEq)]
pub struct BindError {
    /// As PowerShell words it.
    pub record: Box<ErrorRecord>,
}

impl From<Box<ErrorRecord>> for BindError {
    fn from(record: Box<ErrorRecord>) -> Self {
        Self { record }
    }
}

/// Resolves a pipeline's names against a catalogue and converts and checks its values, by PowerShell's rules.
///
/// * A cmdlet is known by its whole name; a parameter by name, alias or unique prefix; none by case. A prefix that fits
///   one own parameter and common ones means the own one.
/// * `-Name` without a value takes the next nameless value unless it is a switch.
/// * Nameless values go to the free parameters with a position that the parameter sets still possible offer, the
///   default set first.
/// * Every bound parameter narrows the sets. Of those left, the default set is taken, else the only one, else the only
///   one whose mandatory parameters are all there.
/// * Behind a pipe, a mandatory parameter that takes the pipeline's object need not be given.
///
/// # Errors
/// The record that a session would give: unknown names (with [`UnknownNames::Refuse`]), ambiguous prefixes or sets,
/// names given twice, missing or misplaced values, values that do not convert or fail a check, and script text.
pub fn bind(catalogue: &Catalogue, pipeline: &Pipeline, unknown: UnknownNames) -> Result<BoundPipeline, BindError> {
    bind_stages(catalogue, pipeline, unknown, false, false)
}

/// [`bind`] for a restricted session: unknown names are refused, the commands of the session itself exist, and with
/// `input` the first command takes objects from the pipe too.
///
/// # Errors
/// As [`bind`].
pub fn bind_session(catalogue: &Catalogue, pipeline: &Pipeline, input: bool) -> Result<BoundPipeline, BindError> {
    bind_stages(catalogue, pipeline, UnknownNames::Refuse, true, input)
}

fn bind_stages(
    catalogue: &Catalogue,
    pipeline: &Pipeline,
    unknown: UnknownNames,
    session: bool,
    input: bool,
) -> Result<BoundPipeline, BindError> {
    if pipeline.commands.is_empty() {
        return Err(refusal::empty_pipeline().into());
    }
    let stages = pipeline.commands.iter().enumerate();
    let stages = stages.map(|(index, command)| stage(catalogue, command, input || index > 0, unknown, session));
    Ok(BoundPipeline { stages: stages.collect::<Result<_, _>>()? })
}

fn stage(catalogue: &Catalogue, command: &Command, piped: bool, unknown: UnknownNames, session: bool) -> Result<Stage, BindError> {
    if command.is_script {
        return Err(refusal::scripts_not_allowed().into());
    }
    if let Some((stage, cmdlet)) = table::local_stage(&command.name).filter(|(stage, _)| session || stage.is_everywhere()) {
        return match bind_command(cmdlet, command, piped) {
            Ok(bound) => Ok(Stage::Local(stage, bound)),
            Err(Unbound::Name(record) | Unbound::Other(record)) => Err(record.into()),
        };
    }
    let Some(cmdlet) = catalogue.cmdlet(&command.name) else {
        return match unknown {
            UnknownNames::Pass => Ok(Stage::Unresolved(command.clone())),
            UnknownNames::Refuse => Err(refusal::command_not_found(&command.name).into()),
        };
    };
    match bind_command(cmdlet, command, piped) {
        Ok(bound) => Ok(Stage::Cmdlet(bound)),
        Err(Unbound::Name(_)) if unknown == UnknownNames::Pass => Ok(Stage::Unresolved(command.clone())),
        Err(Unbound::Name(record) | Unbound::Other(record)) => Err(record.into()),
    }
}

/// Binds one object from the pipe to a command that was bound without it, as PowerShell does: first by value, to every free
/// parameter that takes the object; then by the names of its properties. An object with properties goes to a parameter that
/// its cmdlet would convert itself only where no property fits.
///
/// # Errors
/// The record of the error that PowerShell writes for such an object before it goes on with the next one.
pub fn bind_input(command: &BoundCommand, input: &Value) -> Result<BoundCommand, Box<ErrorRecord>> {
    let cmdlet = &command.cmdlet;
    let mut binder = Binder::new(cmdlet);
    for argument in &command.arguments {
        binder.valid.retain(|set| argument.parameter.membership(Some(set)).is_some());
        binder.bound.push(argument.clone());
    }
    let before = binder.bound.len();
    let properties = input.as_object().filter(|o| o.primitive().is_none() && o.properties().next().is_some());
    let by_value = |binder: &mut Binder<'_>, own: bool| {
        for parameter in &cmdlet.parameters {
            let takes = own || parameter.kind != ParameterKind::Any;
            if takes && binder.takes(parameter, |m| m.from_pipeline) {
                // What does not convert is not meant for this parameter.
                let _ = binder.bind(parameter, &plain(input, parameter));
            }
        }
    };
    by_value(&mut binder, properties.is_none());
    if let Some(object) = properties {
        for parameter in &cmdlet.parameters {
            if binder.takes(parameter, |m| m.from_pipeline_by_property_name) {
                let names = std::iter::once(&parameter.name).chain(&parameter.aliases);
                if let Some(value) = names.filter_map(|name| object.property(name)).find(|v| !v.is_null()) {
                    binder.bind(parameter, &plain(value, parameter))?;
                }
            }
        }
        // An object without a text of its own says nothing that such a parameter could be made of.
        if binder.bound.len() == before && object.to_string.is_some() {
            by_value(&mut binder, true);
        }
    }
    if binder.bound.len() == before {
        return Err(refusal::input_not_bound(cmdlet, input));
    }
    let set = binder.resolve_set(false)?;
    Ok(BoundCommand { cmdlet: Arc::clone(cmdlet), set, arguments: binder.bound })
}

/// What a cmdlet converts itself, it converts from the text that an object shows of itself.
fn plain(value: &Value, parameter: &Parameter) -> Value {
    match value.as_object().and_then(|o| o.to_string.as_ref()) {
        Some(text) if parameter.kind == ParameterKind::Any => Value::String(Arc::clone(text)),
        _ => value.clone(),
    }
}

/// Why one command does not bind.
enum Unbound {
    /// A parameter name that the cmdlet lacks.
    Name(Box<ErrorRecord>),
    /// Anything else.
    Other(Box<ErrorRecord>),
}

impl From<Box<ErrorRecord>> for Unbound {
    fn from(record: Box<ErrorRecord>) -> Self {
        Self::Other(record)
    }
}

fn bind_command(cmdlet: &Arc<Cmdlet>, command: &Command, piped: bool) -> Result<BoundCommand, Unbound> {
    let mut binder = Binder::new(cmdlet);
    let mut nameless: Vec<&Value> = Vec::new();
    let mut arguments = command.arguments.iter().peekable();
    while let Some(argument) = arguments.next() {
        let Some(name) = &argument.name else {
            nameless.push(argument.value.as_ref().unwrap_or(&Value::Null));
            continue;
        };
        let parameter = find(cmdlet, name)?;
        let value = match &argument.value {
            Some(value) => value,
            None if argument.glued => &Value::Null,
            None if parameter.kind == ParameterKind::Switch => &Value::Bool(true),
            None => {
                let next = arguments.next_if(|next| next.name.is_none());
                next.ok_or_else(|| refusal::missing_argument(cmdlet, parameter))?.value.as_ref().unwrap_or(&Value::Null)
            }
        };
        binder.bind(parameter, value)?;
    }
    // Names that no set has together are wrong whatever else was given.
    if binder.valid.is_empty() && !binder.sets.is_empty() {
        return Err(refusal::ambiguous_set(cmdlet).into());
    }
    for value in nameless {
        let parameter = binder.next_position().ok_or_else(|| refusal::positional_parameter_not_found(cmdlet, value))?;
        binder.bind(parameter, value)?;
    }
    let set = binder.resolve_set(piped)?;
    Ok(BoundCommand { cmdlet: Arc::clone(cmdlet), set, arguments: binder.bound })
}

/// A parameter by name, alias or unique prefix.
fn find<'c>(cmdlet: &'c Cmdlet, name: &str) -> Result<&'c Arc<Parameter>, Unbound> {
    if let Some(parameter) = cmdlet.parameter(name) {
        return Ok(parameter);
    }
    let fits = |full: &str| full.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    let candidates = || cmdlet.parameters.iter().filter(|p| fits(&p.name) || p.aliases.iter().any(|a| fits(a)));
    let only = |common_too: bool| {
        let mut candidates = candidates().filter(|p| common_too || !p.common);
        candidates.next().filter(|_| candidates.next().is_none())
    };
    if name.is_empty() || candidates().next().is_none() {
        return Err(Unbound::Name(refusal::named_parameter_not_found(cmdlet, name)));
    }
    let found = only(true).or_else(|| only(false));
    found.ok_or_else(|| refusal::ambiguous_parameter(cmdlet, name, candidates().map(|p| &*p.name)).into())
}

struct Binder<'c> {
    cmdlet: &'c Cmdlet,
    /// All parameter sets; none for a cmdlet that knows no named one.
    sets: Vec<&'c Arc<str>>,
    /// Those that everything bound so far belongs to.
    valid: Vec<&'c Arc<str>>,
    bound: Vec<BoundArgument>,
}

impl<'c> Binder<'c> {
    fn new(cmdlet: &'c Cmdlet) -> Self {
        let named = cmdlet.parameters.iter().flat_map(|p| &p.sets).filter_map(|m| m.set.as_ref());
        let mut sets: Vec<&Arc<str>> = cmdlet.default_set.iter().chain(named).collect();
        sets.sort();
        sets.dedup();
        Self { cmdlet, valid: sets.clone(), sets, bound: Vec::new() }
    }

    /// Whether a free parameter takes pipeline input in one of the sets that are still possible.
    fn takes(&self, parameter: &Parameter, how: impl Fn(&crate::SetMembership) -> bool) -> bool {
        let in_set = |set: Option<&str>| parameter.membership(set).is_some_and(&how);
        let possible = if self.sets.is_empty() { in_set(None) } else { self.valid.iter().any(|set| in_set(Some(set))) };
        possible && !self.is_bound(parameter)
    }

    fn is_bound(&self, parameter: &Parameter) -> bool {
        self.bound.iter().any(|b| b.parameter.name == parameter.name)
    }

    fn bind(&mut self, parameter: &Arc<Parameter>, value: &Value) -> Result<(), Box<ErrorRecord>> {
        if self.is_bound(parameter) {
            return Err(refusal::parameter_already_bound(self.cmdlet, parameter));
        }
        let value = convert(value, parameter.kind).map_err(|error| refusal::not_converted(self.cmdlet, parameter, &error))?;
        for validator in &parameter.validators {
            validate(validator, &value).map_err(|reason| refusal::not_valid(self.cmdlet, parameter, &reason))?;
        }
        if parameter.sets.iter().any(|m| m.mandatory) {
            self.check_mandatory(parameter, &value)?;
        }
        self.valid.retain(|set| parameter.membership(Some(set)).is_some());
        self.bound.push(BoundArgument { parameter: Arc::clone(parameter), value });
        Ok(())
    }

    /// A mandatory parameter takes no null, empty text or empty list unless it says so.
    fn check_mandatory(&self, parameter: &Parameter, value: &Value) -> Result<(), Box<ErrorRecord>> {
        if value.is_null() && !parameter.validators.contains(&Validator::AllowNull) {
            return Err(refusal::null_not_allowed(self.cmdlet, parameter));
        }
        if matches!(value, Value::String(text) if text.is_empty()) {
            return Err(refusal::empty_text_not_allowed(self.cmdlet, parameter));
        }
        if value.as_list().is_some_and(<[Value]>::is_empty) && !parameter.validators.contains(&Validator::AllowEmptyList) {
            return Err(refusal::empty_list_not_allowed(self.cmdlet, parameter));
        }
        Ok(())
    }

    /// The free parameter that the next nameless value goes to.
    fn next_position(&self) -> Option<&'c Arc<Parameter>> {
        let default = self.cmdlet.default_set.as_ref().filter(|d| self.valid.contains(d));
        let sets = default.into_iter().chain(self.valid.iter().copied()).map(|set| Some(&**set));
        let sets: Vec<Option<&str>> = if self.sets.is_empty() { vec![None] } else { sets.collect() };
        let free = self.cmdlet.parameters.iter().filter(|p| !self.is_bound(p));
        let ranked = free.filter_map(|p| {
            let places = sets.iter().enumerate();
            places.filter_map(|(rank, set)| Some((p.membership(*set)?.position?, rank))).min().map(|place| (place, p))
        });
        ranked.min_by_key(|(place, _)| *place).map(|(_, p)| p)
    }

    fn missing(&self, set: Option<&str>, piped: bool) -> Vec<&'c str> {
        let missing = self.cmdlet.parameters.iter().filter(|p| {
            let needed =
                p.membership(set).is_some_and(|m| m.mandatory && !(piped && (m.from_pipeline || m.from_pipeline_by_property_name)));
            needed && !self.is_bound(p)
        });
        missing.map(|p| &*p.name).collect()
    }

    fn resolve_set(&self, piped: bool) -> Result<Option<Arc<str>>, Box<ErrorRecord>> {
        let complete = |set: Option<&'c Arc<str>>| {
            let missing = self.missing(set.map(|s| &**s), piped);
            if missing.is_empty() { Ok(set.map(Arc::clone)) } else { Err(refusal::missing_mandatory(self.cmdlet, missing.into_iter())) }
        };
        if self.sets.is_empty() {
            return complete(None);
        }
        let default = self.cmdlet.default_set.as_ref().filter(|d| self.valid.contains(d));
        match (&self.valid[..], default) {
            ([], _) => Err(refusal::ambiguous_set(self.cmdlet)),
            ([only], _) => complete(Some(only)),
            (_, Some(default)) => complete(Some(default)),
            (valid, None) => {
                let finished: Vec<_> = valid.iter().filter(|set| self.missing(Some(set), piped).is_empty()).collect();
                match finished[..] {
                    [only] => Ok(Some(Arc::clone(only))),
                    // Nothing that was given tells sets apart, and none is preferred: PowerShell leaves it open.
                    [_, ..] if valid.len() == self.sets.len() && self.cmdlet.default_set.is_none() => Ok(None),
                    [] => complete(None).and(Err(refusal::ambiguous_set(self.cmdlet))),
                    _ => Err(refusal::ambiguous_set(self.cmdlet)),
                }
            }
        }
    }
}
