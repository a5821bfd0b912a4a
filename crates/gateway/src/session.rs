//! The session layer: what stands between a front end and the runspace.
//!
//! Bind against what the caller may see → decide → make the intent durable → run → close the intent. A command that is
//! refused on the way and was no read leaves an entry too.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use exops_audit::{Actor, Ending, Intent, IntentId, Outcome, Parameter};
use exops_catalogue::{
    BoundCommand, BoundPipeline, Catalogue, Command, ConfirmImpact, LocalStage, ParameterKind, Pipeline, Stage, UnknownNames, bind,
    bind_session, is_read,
};
use exops_policy::{Caller, Decision, Denial, Permit, Principal, Request, Rights, RoleModel, decide};
use exops_psobject::{ErrorCategory, ErrorRecord, Value};
use exops_runspace::{Confirm, Ended, Fault, Host, Invocation, Record, RecordStream, Runspace, Step, StopToken, ended, run_local_stages};
use exops_store::Store;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;
use uuid::{NoContext, Timestamp, Uuid};

use crate::chain::{self, Segment};
use crate::{Clock, restricted, trail};

/// The service ends a cmdlet that runs longer (documented limit of the REST service; kept for both front ends).
pub(crate) const RUN_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Records on their way to a front end. A slow consumer stops the runspace after that many.
pub(crate) const QUEUE: usize = 64;

/// Names that clients send by themselves or that people type, beside the session's own commands: they run nowhere, change
/// nothing and are not audited.
const HARMLESS: [&str; 4] = ["Where-Object", "ForEach-Object", "Sort-Object", "prompt"];

/// One pipeline as a front end hands it over.
pub(crate) struct Call {
    /// For whom.
    pub(crate) caller: Caller,
    /// What, as sent.
    pub(crate) pipeline: Pipeline,
    /// Objects piped in, as they come; `None` where nothing is piped.
    pub(crate) input: Option<mpsc::Receiver<Value>>,
    /// A restricted session, which has commands of its own, rather than a single call.
    pub(crate) session: bool,
    /// What a cmdlet that asks for confirmation does.
    pub(crate) on_confirm: Confirm,
    /// The way back for prompts.
    pub(crate) host: Option<Arc<dyn Host>>,
    /// Stops it.
    pub(crate) stop: StopToken,
    /// Id of the request or pipeline.
    pub(crate) correlation_id: Uuid,
}

/// Shared by both front ends.
pub(crate) struct SessionLayer {
    pub(crate) runspace: Arc<dyn Runspace>,
    pub(crate) roles: Arc<RoleModel>,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
}

impl SessionLayer {
    /// What the caller may call.
    pub(crate) fn rights(&self, caller: &Caller) -> Rights {
        self.roles.rights(caller)
    }

    /// Everything that exists for the caller: the backend's catalogue, cut to what is granted.
    pub(crate) async fn catalogue(&self, caller: &Caller) -> Result<Catalogue, Fault> {
        let rights = self.rights(caller);
        let whole = self.runspace.catalogue(caller).await?;
        Ok(granted(&whole, &rights, whole.names(), true))
    }

    /// Whether a cmdlet of the backend pages its result (has `-ResultSize`); `true` for a name that it lacks.
    pub(crate) async fn has_result_size(&self, caller: &Caller, cmdlet: &str) -> Result<bool, Fault> {
        let whole = self.runspace.catalogue(caller).await?;
        Ok(whole.cmdlet(cmdlet).is_none_or(|c| c.parameter("ResultSize").is_some()))
    }

    /// The parameters of a cmdlet that hold a secret; `true` for those that are a credential.
    pub(crate) async fn secret_parameters(&self, caller: &Caller, cmdlet: &str) -> Result<Vec<(Arc<str>, bool)>, Fault> {
        let whole = self.runspace.catalogue(caller).await?;
        let secret = whole.cmdlet(cmdlet).into_iter().flat_map(|c| &c.parameters).filter(|p| p.is_secret());
        Ok(secret.map(|p| (Arc::clone(&p.name), p.kind == ParameterKind::Credential)).collect())
    }

    /// Runs a pipeline. Whatever is wrong with it comes as the stream's end.
    pub(crate) async fn run(self: &Arc<Self>, call: Call) -> RecordStream {
        match self.begin(call).await {
            Ok(records) => records,
            Err(end) => ended(end),
        }
    }

    /// Binds and decides the whole pipeline, then begins it: nothing runs where any of its commands is refused.
    async fn begin(self: &Arc<Self>, mut call: Call) -> Result<RecordStream, Ended> {
        let whole = self.runspace.catalogue(&call.caller).await?;
        let rights = self.rights(&call.caller);
        // A session lacks what is not granted; REST knows every parameter of a cmdlet and checks the right to it afterwards.
        let visible = granted(&whole, &rights, call.pipeline.commands.iter().map(|c| c.name.as_str()), call.session);
        let checked = match check_script(&call.pipeline) {
            Some(record) => Err(record),
            None if call.session => bind_session(&visible, &call.pipeline, call.input.is_some()).map_err(|error| error.record),
            None => bind(&visible, &call.pipeline, UnknownNames::Refuse).map_err(|error| error.record),
        };
        let input = call.input.take();
        let context = Context {
            rights,
            session: call.session,
            caller: call.caller.clone(),
            on_confirm: call.on_confirm,
            host: call.host.clone(),
            correlation_id: call.correlation_id,
        };
        let stages = checked.and_then(|bound| {
            check_order(&bound, input.is_some(), call.session)?;
            // What comes from the pipe is decided with each object again.
            bound.stages.iter().filter_map(command_of).try_for_each(|command| context.allow(command).map(|_| ()))?;
            Ok(bound.stages)
        });
        let stages = match stages {
            Ok(stages) => stages,
            Err(record) => return Err(self.refuse_sent(&call, &whole, record).await),
        };
        let mut segment = input.map(|input| Segment::of_input(input, &call.stop));
        for stage in stages {
            segment = Some(match (stage, segment) {
                (Stage::Cmdlet(command), Some(above)) => chain::each(Arc::clone(self), context.clone(), command, above, &call.stop),
                (Stage::Cmdlet(command), None) => {
                    let stop = StopToken::new();
                    let records = self.start_allowed(&context, command, &stop).await?;
                    Segment::new(records, stop, &call.stop)
                }
                (Stage::Local(local, command), None) if local.is_source() => {
                    let everything = granted(&whole, &context.rights, whole.names(), true);
                    Segment::of_records(restricted::records(local, &command, &everything), &call.stop)
                }
                (Stage::Local(LocalStage::OutDefault | LocalStage::ExitPsSession | LocalStage::ClearHost, _), above) => {
                    above.unwrap_or_else(|| Segment::of_records(Vec::new(), &call.stop))
                }
                (stage, above) => {
                    let above = above.unwrap_or_else(|| Segment::of_records(Vec::new(), &call.stop));
                    let records = run_local_stages(above.records, &[stage], &above.stop);
                    Segment { records, stop: above.stop }
                }
            });
        }
        segment.map(|segment| segment.records).ok_or_else(|| Ended::Refused(Box::new(internal_error("the pipeline is empty"))))
    }

    /// Decides one bound command, makes its intent durable and starts it.
    pub(crate) async fn start_allowed(&self, context: &Context, command: BoundCommand, stop: &StopToken) -> Result<RecordStream, Ended> {
        let (permit, confirm) = match context.allow(&command) {
            Ok(allowed) => allowed,
            Err(record) => return Err(self.refuse_bound(context, &command, record).await),
        };
        let changes = !command.cmdlet.is_read() && !command.flag("WhatIf") && confirm != Confirm::ReportOnly;
        let intent = if changes {
            let intent = self.intent(context, &command.cmdlet.name, trail::bound(&command));
            let id = intent.id;
            let written = self.store.tenant(context.caller.tenant).audit_intent(&intent).await;
            written.map_err(|error| Ended::Refused(Box::new(not_audited(&command.cmdlet.name, &error.to_string()))))?;
            Some(id)
        } else {
            None
        };
        let pipeline = BoundPipeline { stages: vec![Stage::Cmdlet(command)] };
        Ok(self.start(Invocation {
            deadline: Some(RUN_LIMIT),
            stop: stop.clone(),
            host: context.host.clone(),
            confirm,
            permit: Some(permit),
            intent,
            ..Invocation::new(context.caller.clone(), pipeline, context.correlation_id)
        }))
    }

    /// Runs the invocation in a task of its own, so that neither a consumer that leaves nor a panic keeps the
    /// intent from being closed. A consumer that leaves stops the pipeline.
    fn start(&self, invocation: Invocation) -> RecordStream {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (store, clock) = (self.store.tenant(invocation.caller.tenant), Arc::clone(&self.clock));
        let (intent, stop, id) = (invocation.intent, invocation.stop.clone(), invocation.correlation_id);
        let runspace = Arc::clone(&self.runspace);
        tokio::spawn(async move {
            let mut first_error = None;
            let run = run(&*runspace, invocation, &sender, &stop, &mut first_error);
            let (end, ending) = match AssertUnwindSafe(run).catch_unwind().await {
                Ok(end) => {
                    let ending = ending(&end, first_error);
                    (end, ending)
                }
                Err(_) => {
                    tracing::error!(%id, "a pipeline failed inside the runspace");
                    let text = "the command failed inside the server";
                    (Ended::Failed(Box::new(internal_error(text))), Ending::Unknown(text.to_owned()))
                }
            };
            if let Some(intent) = intent {
                let outcome = Outcome { id: intent, time: clock(), ending, object: String::new(), changes: Vec::new() };
                if let Err(error) = store.audit_outcome(&outcome).await {
                    // The intent stays open and is closed as "unknown" at the next start.
                    tracing::error!(%id, %error, "the outcome of a command could not be written to the audit trail");
                }
            }
            let _ = sender.send(Step::Ended(end)).await;
        });
        receiver_stream(receiver)
    }

    fn intent(&self, context: &Context, cmdlet: &str, parameters: Vec<Parameter>) -> Intent {
        let time = (self.clock)();
        let seconds = u64::try_from(time / 1000).unwrap_or_default();
        let nanos = u32::try_from(time.rem_euclid(1000)).unwrap_or_default() * 1_000_000;
        let app_id = match &context.caller.principal {
            Principal::Application(application) => application.app_id,
            _ => Uuid::nil(),
        };
        Intent {
            id: IntentId(Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, nanos))),
            tenant: context.caller.tenant.0,
            time,
            actor: Actor {
                app_id,
                object_id: context.caller.principal.object_id(),
                name: context.caller.principal.display_name().to_owned(),
                client_address: context.caller.client_address.clone(),
            },
            cmdlet: cmdlet.to_owned(),
            parameters,
            correlation_id: context.correlation_id,
        }
    }

    /// Refuses a pipeline as it was sent; its first command that is no read leaves an entry.
    async fn refuse_sent(&self, call: &Call, whole: &Catalogue, record: Box<ErrorRecord>) -> Ended {
        let Some(command) = call.pipeline.commands.iter().find(|c| leaves_entry(c)) else { return Ended::Refused(record) };
        let known = whole.cmdlet(&command.name);
        let name = if command.is_script { "(script)" } else { known.map_or(command.name.as_str(), |c| &c.name) };
        let name: String = name.chars().take(200).collect();
        let parameters = if command.is_script { Vec::new() } else { trail::sent(command, known.map(|c| &**c)) };
        let context = Context {
            rights: Rights::default(),
            session: call.session,
            caller: call.caller.clone(),
            on_confirm: call.on_confirm,
            host: None,
            correlation_id: call.correlation_id,
        };
        self.refuse(&context, &name, parameters, record).await
    }

    /// Refuses a command that was bound; one that is no read leaves an entry.
    async fn refuse_bound(&self, context: &Context, command: &BoundCommand, record: Box<ErrorRecord>) -> Ended {
        if command.cmdlet.is_read() {
            return Ended::Refused(record);
        }
        self.refuse(context, &command.cmdlet.name, trail::bound(command), record).await
    }

    async fn refuse(&self, context: &Context, name: &str, parameters: Vec<Parameter>, record: Box<ErrorRecord>) -> Ended {
        let intent = self.intent(context, name, parameters);
        let ending = Ending::Refused(record.message.chars().take(1000).collect());
        let outcome = Outcome { id: intent.id, time: intent.time, ending, object: String::new(), changes: Vec::new() };
        match self.store.tenant(context.caller.tenant).audit_refused(intent, outcome).await {
            Ok(()) => Ended::Refused(record),
            Err(error) => Ended::Refused(Box::new(not_audited(name, &error.to_string()))),
        }
    }
}

/// For whom the commands of one pipeline run.
#[derive(Clone)]
pub(crate) struct Context {
    rights: Rights,
    /// Remote PowerShell, not REST.
    session: bool,
    caller: Caller,
    on_confirm: Confirm,
    host: Option<Arc<dyn Host>>,
    correlation_id: Uuid,
}

impl Context {
    /// The permit for a command as it is bound, and what it does where it would ask.
    fn allow(&self, command: &BoundCommand) -> Result<(Permit, Confirm), Box<ErrorRecord>> {
        let confirm = confirm(command, self)?;
        let names: Vec<&str> = command.arguments.iter().filter(|a| !a.parameter.common).map(|a| &*a.parameter.name).collect();
        let request = Request { cmdlet: &command.cmdlet.name, parameters: &names, digest: command.digest() };
        match decide(&self.rights, &self.caller, request) {
            Decision::Permit(permit) => Ok((permit, confirm)),
            Decision::Deny(denial) => Err(Box::new(denied(&denial, self.session))),
        }
    }
}

/// Hands records over until the end; behind a consumer that left, waits for it after asking to stop.
async fn run(
    runspace: &dyn Runspace,
    invocation: Invocation,
    sender: &mpsc::Sender<Step>,
    stop: &StopToken,
    first_error: &mut Option<String>,
) -> Ended {
    let mut records = runspace.invoke(invocation);
    loop {
        let step = tokio::select! {
            step = records.next() => step,
            () = sender.closed(), if !stop.is_stopped() => {
                stop.stop();
                continue;
            }
        };
        match step {
            Some(Step::Ended(end)) => return end,
            Some(Step::Record(record)) => {
                if let (Record::Error(error), None) = (&record, &first_error) {
                    *first_error = Some(error.message.to_string());
                }
                // Nobody listens any more: the rest is read to its end and dropped.
                let _ = sender.send(Step::Record(record)).await;
            }
            None => break,
        }
    }
    Ended::Failed(Box::new(internal_error("the command ended without a result")))
}

/// The steps of a channel, as a stream. A channel that breaks off without an end gives one.
pub(crate) fn receiver_stream(receiver: mpsc::Receiver<Step>) -> RecordStream {
    Box::pin(futures_util::stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Step::Ended(end)) => Some((Step::Ended(end), None)),
            Some(step) => Some((step, Some(receiver))),
            None => Some((Step::Ended(Ended::Failed(Box::new(internal_error("the command was cut off inside the server")))), None)),
        }
    }))
}

/// The named cmdlets of a catalogue with the granted parameters.
fn granted<'a>(whole: &Catalogue, rights: &Rights, names: impl IntoIterator<Item = &'a str>, cut: bool) -> Catalogue {
    let cmdlets = names.into_iter().filter_map(|name| {
        let cmdlet = whole.cmdlet(name)?;
        let grant = rights.grant(&cmdlet.name)?;
        Some(match grant {
            exops_policy::Grant::All => Arc::clone(cmdlet),
            _ if !cut => Arc::clone(cmdlet),
            grant => Arc::new(cmdlet.restricted(|p| grant.allows(&p.name))),
        })
    });
    Catalogue::new(cmdlets)
}

fn command_of(stage: &Stage) -> Option<&BoundCommand> {
    match stage {
        Stage::Cmdlet(command) => Some(command),
        _ => None,
    }
}

/// What cannot run in this order. Outside a session there is nothing to pipe from or into.
fn check_order(bound: &BoundPipeline, input: bool, session: bool) -> Result<(), Box<ErrorRecord>> {
    let last = bound.stages.len().saturating_sub(1);
    let refused = |message: String| {
        let exception = "System.Management.Automation.PSNotSupportedException";
        Err(Box::new(ErrorRecord::new(exception, message, ErrorCategory::NotImplemented, "PipelineNotSupported")))
    };
    for (index, stage) in bound.stages.iter().enumerate() {
        match stage {
            Stage::Cmdlet(_) if index == 0 || session => {}
            Stage::Cmdlet(_) => {
                return refused("a pipeline of several cmdlets is not served here: run them one after the other".to_owned());
            }
            Stage::Local(stage, command) => {
                let name = &command.cmdlet.name;
                if stage.is_source() && (index > 0 || input) {
                    return refused(format!("'{name}' takes nothing from a pipe here: name what it shall show as parameters"));
                }
                let ends = matches!(stage, LocalStage::OutDefault | LocalStage::ExitPsSession | LocalStage::ClearHost);
                // Entering a session, a client puts Out-Default behind everything.
                let shown = matches!(bound.stages.get(index + 1), Some(Stage::Local(LocalStage::OutDefault, _)));
                if ends && index < last && !(shown && index + 1 == last) {
                    return refused(format!("'{name}' passes nothing on: it can only stand last in a pipeline"));
                }
                if !session && index == 0 {
                    return refused(format!("'{name}' cannot stand first in a pipeline here: put a cmdlet before it"));
                }
            }
            Stage::Unresolved(command) => return Err(Box::new(not_found(&command.name))),
            _ => return refused("the pipeline holds a command of a kind that is not served here".to_owned()),
        }
    }
    Ok(())
}

/// Whether to ask: where `-Confirm` is given, that decides. Without it a session asks for what has a high impact, as
/// PowerShell does (`$ConfirmPreference`); REST carries it out, since there the client asks. Asking needs somebody to ask.
fn confirm(command: &BoundCommand, call: &Context) -> Result<Confirm, Box<ErrorRecord>> {
    let by_itself = call.on_confirm == Confirm::Ask && command.cmdlet.impact == ConfirmImpact::High;
    let asks = if command.argument("Confirm").is_some() { command.flag("Confirm") } else { by_itself };
    if !asks || command.flag("WhatIf") {
        return Ok(Confirm::Yes);
    }
    if call.on_confirm == Confirm::Ask && call.host.is_none() {
        let message =
            format!("{} asks for confirmation and nobody can answer in this session: use -Confirm:$false, or -WhatIf", command.cmdlet.name);
        let mut record = ErrorRecord::new(
            "System.Management.Automation.Host.HostException",
            message,
            ErrorCategory::NotImplemented,
            "HostFunctionNotImplemented",
        );
        record.activity = Arc::clone(&command.cmdlet.name);
        return Err(Box::new(record));
    }
    Ok(call.on_confirm)
}

fn leaves_entry(command: &Command) -> bool {
    let own = Catalogue::session_commands().map(|c| &*c.name);
    command.is_script || !(is_read(&command.name) || own.chain(HARMLESS).any(|name| name.eq_ignore_ascii_case(&command.name)))
}

/// Script text never runs: the session has no language. Text and id are PowerShell's own for such a session.
fn check_script(pipeline: &Pipeline) -> Option<Box<ErrorRecord>> {
    pipeline.commands.iter().any(|c| c.is_script).then(|| {
        Box::new(ErrorRecord::new(
            "System.Management.Automation.ParseException",
            "The syntax is not supported by this runspace. This can occur if the runspace is in no-language mode.",
            ErrorCategory::ParserError,
            "ScriptsNotAllowed",
        ))
    })
}

/// PowerShell's own words for a command that does not exist, which is also how a missing right shows.
pub(crate) fn not_found(name: &str) -> ErrorRecord {
    let message = format!(
        "The term '{name}' is not recognized as the name of a cmdlet, function, script file, or operable program. Check the spelling \
         of the name, or if a path was included, verify that the path is correct and try again."
    );
    let mut record = ErrorRecord::new(
        "System.Management.Automation.CommandNotFoundException",
        message,
        ErrorCategory::ObjectNotFound,
        "CommandNotFoundException",
    );
    record.target_name = name.into();
    record.target_type = "String".into();
    record.target_object = name.into();
    record
}

fn denied(denial: &Denial, session: bool) -> ErrorRecord {
    match denial {
        Denial::Cmdlet { cmdlet } => not_found(cmdlet),
        Denial::Parameter { cmdlet, .. } if !session => {
            let mut record = ErrorRecord::new(
                "Microsoft.Exchange.Configuration.Authorization.CmdletAccessDeniedException",
                format!(
                    "Some of the parameters specified with the \"{cmdlet}\" cmdlet aren't present in the role definition for the current \
                     user. Check the management roles assigned to you, and try again."
                ),
                ErrorCategory::PermissionDenied,
                &format!("CmdletAccessDenied,{cmdlet}"),
            );
            record.activity = cmdlet.as_str().into();
            record.string_id = Some("Ex5E8EA4".into());
            record
        }
        Denial::Parameter { cmdlet, parameter } => {
            let mut record = ErrorRecord::new(
                "System.Management.Automation.ParameterBindingException",
                format!("A parameter cannot be found that matches parameter name '{parameter}'."),
                ErrorCategory::InvalidArgument,
                &format!("NamedParameterNotFound,{cmdlet}"),
            );
            record.activity = cmdlet.as_str().into();
            record
        }
    }
}

fn not_audited(cmdlet: &str, reason: &str) -> ErrorRecord {
    let mut record = ErrorRecord::new(
        "System.InvalidOperationException",
        format!(
            "{cmdlet} was not carried out because the audit trail cannot be written ({reason}). Free the disk or repair the data folder, then try again."
        ),
        ErrorCategory::ResourceUnavailable,
        "AuditNotWritten",
    );
    record.activity = cmdlet.into();
    record
}

/// A record for a failure of our own.
pub(crate) fn internal_error(message: &str) -> ErrorRecord {
    ErrorRecord::new("System.InvalidOperationException", message, ErrorCategory::InvalidResult, "InternalServerError")
}

/// What an end says about an intent whose outcome the runspace did not write itself.
fn ending(end: &Ended, first_error: Option<String>) -> Ending {
    match (end, first_error) {
        (Ended::Completed, None) => Ending::Succeeded,
        (Ended::Completed, Some(error)) => Ending::Failed(error),
        (Ended::Failed(record), _) => Ending::Failed(record.message.to_string()),
        (Ended::Refused(record), _) => Ending::Refused(record.message.to_string()),
        (Ended::Stopped, _) => Ending::Unknown("stopped while it ran".to_owned()),
        (Ended::Throttled(_), _) => Ending::Failed("not begun: the service asked to come back later".to_owned()),
        (Ended::SignIn(fault) | Ended::Unreachable(fault), _) => Ending::Failed(fault.message.clone()),
        (Ended::OutcomeUnknown(fault), _) => Ending::Unknown(fault.message.clone()),
        (_, error) => Ending::Unknown(error.unwrap_or_else(|| "ended in a way that this version does not know".to_owned())),
    }
}
