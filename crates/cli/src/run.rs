//! `exops run`: one cmdlet, its records on standard output and error.

use std::io::{BufWriter, IsTerminal as _, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use exops_catalogue::{Argument, Catalogue, Pipeline, UnknownNames, bind};
use exops_psobject::{ErrorRecord, Value};
use exops_runspace::{Ended, Fault, FaultKind, Invocation, Record, Runspace, Step, StopToken};
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::json;
use uuid::Uuid;

use crate::cmdlet_line::CmdletLine;
use crate::exit::{Exit, is_not_served};
use crate::failure::Failure;
use crate::output::{Format, Output, printable, without_tokens};
use crate::progress::Progress;
use crate::query::{Found, Query};
use crate::session::Connection;
use crate::{asked_to_stop, host, output_failure, params, secret_argument, suggest, tell, words};

/// How long closing may take when nobody reads any more.
const GOODBYE: Duration = Duration::from_secs(2);

/// Part of the id of an error about a question that nobody answered.
const UNANSWERED: &str = "HostFunctionNotImplemented";

/// A cmdlet runs: the first interrupt is for it, not for the program.
pub(crate) static STOPS_ITSELF: AtomicBool = AtomicBool::new(false);

/// Runs the cmdlet of a command line.
pub(crate) async fn run(line: CmdletLine) -> Result<Exit, Failure> {
    let mut command = words::command(&line.cmdlet, line.words)?;
    if let Some(params) = &line.params {
        command.arguments.extend(params::arguments(params)?);
    }
    secret_argument::resolve(&mut command)?;
    let sent = Sent::of(&line.cmdlet, &command.arguments);
    let query = line.query.as_deref().map(Query::new).transpose()?;
    let bound = bind(&Catalogue::built_in(), &Pipeline::from(command), UnknownNames::Pass).map_err(|e| sent.failure(&e.record))?;
    let session = Connection::open(&line.global, line.require_tenant.as_deref()).await?.session;
    let caller = session.tokens.token().await?.caller();
    let connection = session.connection(line.transport.unwrap_or_default());
    let correlation_id = Uuid::new_v4();
    let mut invocation = Invocation::new(caller, bound, correlation_id);
    invocation.host = host::terminal(&invocation.stop);

    let terminal = std::io::stdout().is_terminal();
    let explicit = line.global.output;
    let format = explicit.unwrap_or(if terminal { Format::Table } else { Format::Jsonl });
    let width = terminal.then(terminal_width);
    let out = BufWriter::with_capacity(64 << 10, std::io::stdout());
    let mut shown = Shown {
        output: Output::new(format, out, &sent.cmdlet, width, line.select, query.is_some()),
        query,
        progress: Progress::new(line.progress, line.global.quiet),
        quiet: line.global.quiet,
        show_secrets: line.show_secrets,
        sent,
        as_json: explicit.is_some_and(Format::is_json),
        correlation_id,
        worst: Exit::Ok,
    };
    stop_on_interrupt(invocation.stop.clone());
    let result = shown.all(connection.as_ref(), invocation).await;
    shown.progress.finish();
    let closing = tokio::time::timeout(if result.is_ok() { Duration::from_secs(10) } else { GOODBYE }, connection.close());
    let _ = closing.await;
    result
}

/// The first Ctrl-C (or SIGTERM) asks the cmdlet to stop; the second ends the program. A thread of its own, because
/// this one may be held up by a reader of standard output that does not read.
fn stop_on_interrupt(stop: StopToken) {
    STOPS_ITSELF.store(true, Ordering::Relaxed);
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async {
            asked_to_stop().await;
            stop.stop();
            asked_to_stop().await;
            std::process::exit(Exit::Interrupted.code().into());
        });
    });
}

fn terminal_width() -> usize {
    terminal_size::terminal_size().map_or(120, |(width, _)| width.0.into())
}

/// Records on their way out.
struct Shown<W: Write> {
    output: Output<W>,
    query: Option<Query>,
    progress: Progress,
    quiet: bool,
    show_secrets: bool,
    sent: Sent,
    as_json: bool,
    correlation_id: Uuid,
    worst: Exit,
}

impl<W: Write> Shown<W> {
    async fn all(&mut self, connection: &dyn Runspace, invocation: Invocation) -> Result<Exit, Failure> {
        let stop = invocation.stop.clone();
        let mut records = connection.invoke(invocation);
        let mut left_out = false;
        loop {
            // What is there goes out before we wait for more.
            let next = match records.next().now_or_never() {
                Some(next) => next,
                None => {
                    self.output.flush().map_err(|e| output_failure(&e))?;
                    records.next().await
                }
            };
            match next {
                // Who interrupts does not want to see what is still on its way.
                Some(Step::Record(Record::Output(_))) if stop.is_stopped() => left_out = true,
                Some(Step::Record(record)) => self.record(record)?,
                Some(Step::Ended(end)) => {
                    self.finish()?;
                    // The question that the interrupt took away is no news to whoever did it.
                    let unanswered = |r: &ErrorRecord| r.fully_qualified_error_id.contains(UNANSWERED);
                    if stop.is_stopped() && matches!(&end, Ended::Failed(r) | Ended::Refused(r) if unanswered(r)) {
                        return Ok(Exit::Interrupted);
                    }
                    return if left_out && end == Ended::Completed { Ok(Exit::Interrupted) } else { self.ended(end) };
                }
                None => {
                    self.finish()?;
                    return Err(Fault::new(FaultKind::Internal, "the connection ended without telling how").into());
                }
            }
        }
    }

    fn object(&mut self, value: &Value) -> Result<(), Failure> {
        self.progress.object();
        match &mut self.query {
            None => self.output.object(value),
            Some(query) => query.object(value)?.iter().try_for_each(|found| self.output.object(found)),
        }
        .map_err(|e| output_failure(&e))
    }

    /// Ends the document, also after an error in the middle.
    fn finish(&mut self) -> Result<(), Failure> {
        let found = self.query.as_mut().map(Query::finish).transpose()?.flatten();
        match found {
            None => Ok(()),
            Some(Found::Items(items)) => items.iter().try_for_each(|found| self.output.object(found)),
            Some(Found::One(json)) => self.output.whole(&json),
        }
        .and_then(|()| self.output.finish())
        .map_err(|e| output_failure(&e))
    }

    fn record(&mut self, record: Record) -> Result<(), Failure> {
        match record {
            Record::Output(mut value) => {
                if self.show_secrets {
                    value.reveal_secrets();
                }
                self.object(&value)?;
            }
            Record::Error(record) => {
                let failure = self.identified(self.sent.failure(&record));
                self.worst = failure.exit.filter(|_| self.worst == Exit::Ok).unwrap_or(self.worst);
                self.progress.clear();
                failure.print(self.as_json);
            }
            Record::Warning(text) => self.say("warning", &text),
            Record::Verbose(text) => self.say("verbose", &text),
            Record::Debug(text) => self.say("debug", &text),
            Record::Information(record) => self.say("information", &Value::display(&record.message)),
            Record::Progress(_) => {}
        }
        Ok(())
    }

    /// A line of another stream on standard error.
    fn say(&mut self, stream: &str, text: &str) {
        if self.quiet {
            return;
        }
        self.progress.clear();
        let text = printable(&without_tokens(text));
        match (self.as_json, stream) {
            (true, _) => tell(&json!({ stream: text }).to_string()),
            (false, "information") => tell(&text),
            (false, _) => tell(&format!("{}: {text}", stream.to_uppercase())),
        }
    }

    fn identified(&self, failure: Failure) -> Failure {
        Failure { client_request_id: Some(self.correlation_id.to_string()), ..failure }
    }

    /// How it ended, as an exit code.
    fn ended(&self, end: Ended) -> Result<Exit, Failure> {
        let failure = match end {
            Ended::Completed => return Ok(self.worst),
            Ended::Stopped => return Ok(Exit::Interrupted),
            Ended::Failed(record) | Ended::Refused(record) => self.sent.failure(&record),
            Ended::Throttled(after) => {
                Fault::new(FaultKind::Throttled(after), format!("{} was throttled, and waiting did not help", self.sent.cmdlet))
                    .with_hint(format!("try again in {} s", after.as_secs().max(1)))
                    .into()
            }
            Ended::OutcomeUnknown(fault) => Failure { exit: Some(Exit::OutcomeUnknown), retryable: false, ..fault.into() },
            Ended::SignIn(fault) | Ended::Unreachable(fault) => fault.into(),
            other => Fault::new(FaultKind::Internal, format!("{} ended as {other:?}", self.sent.cmdlet)).into(),
        };
        Err(self.identified(failure))
    }
}

/// What was sent, for telling what is wrong with it.
struct Sent {
    cmdlet: String,
    parameters: Vec<String>,
    identity: Option<String>,
    /// The values without a name are all names of files in the current folder.
    globbed: bool,
}

/// What a shell did to `*` and `?`.
const GLOBBED: &str = "a shell turned * or ? into names of files: quote it, such as '*'";

impl Sent {
    fn of(cmdlet: &str, arguments: &[Argument]) -> Self {
        let parameters = arguments.iter().filter_map(|a| a.name.clone()).collect();
        let value_after = |i: usize| arguments.get(i + 1).and_then(|a| a.value.clone());
        let identity = arguments.iter().enumerate().find_map(|(i, a)| match &a.name {
            Some(name) if name.eq_ignore_ascii_case("Identity") => a.value.clone().or_else(|| value_after(i)),
            None if i == 0 => a.value.clone(),
            _ => None,
        });
        let cmdlet = Catalogue::built_in().cmdlet(cmdlet).map_or_else(|| cmdlet.to_owned(), |c| c.name.to_string());
        // A value that follows its parameter's name in a word of its own has no name either.
        let unnamed = arguments.iter().filter(|a| a.name.is_none()).filter_map(|a| a.value.as_ref()).map(Value::display);
        let files: Vec<bool> = unnamed.map(|v| !v.contains(['/', '\\']) && Path::new(&v).exists()).collect();
        let globbed = !files.is_empty() && files.iter().all(|is_file| *is_file);
        Self { cmdlet, parameters, identity: identity.map(|v| v.display()), globbed }
    }

    /// An error record with what to do next, where we know.
    fn failure(&self, record: &ErrorRecord) -> Failure {
        let exit = Exit::of_record(record, &self.cmdlet, &self.parameters);
        let mut failure = Failure::of_record(record, exit);
        failure.cmdlet.clone_from(&self.cmdlet);
        let catalogue = Catalogue::built_in();
        let known = catalogue.cmdlet(&self.cmdlet);
        match (exit, known) {
            (Exit::Usage, _) if record.fully_qualified_error_id.contains(UNANSWERED) => {
                failure.hint = "run it at a terminal, or with -Confirm:false".to_owned();
            }
            (Exit::Usage, None) => {
                failure.code = "CommandNotFound".to_owned();
                failure.message = format!("there is no cmdlet '{}'", self.cmdlet);
                failure.hint = suggest::question(&suggest::near(&self.cmdlet, catalogue.cmdlets().map(|c| &*c.name)), "");
                if failure.hint.is_empty() {
                    failure.hint = "check the spelling: neither this program nor the service knows it".to_owned();
                }
            }
            (Exit::Usage, Some(cmdlet)) => {
                if let Some(unknown) = self.parameters.iter().find(|p| words::parameter(cmdlet, p).is_none()) {
                    failure.code = "ParameterNotFound".to_owned();
                    failure.message = format!("{} has no parameter '{unknown}'", self.cmdlet);
                    failure.hint = suggest::question(&suggest::near(unknown, cmdlet.parameters.iter().map(|p| &*p.name)), "-");
                    if failure.hint.is_empty() {
                        let own = cmdlet.parameters.iter().filter(|p| !p.common).take(12).map(|p| format!("-{}", p.name));
                        failure.hint = format!("some that it has: {}", own.collect::<Vec<_>>().join(" "));
                    }
                } else if failure.hint.is_empty() {
                    failure.hint = if self.globbed {
                        GLOBBED.to_owned()
                    } else if record.fully_qualified_error_id.starts_with("MissingArgument") && record.message.contains("'Boolean'") {
                        "a shell turns $true, $false and $null into nothing: quote them, or write -Name:false".to_owned()
                    } else {
                        format!("'exops explain {}' shows how it is called; a value with blanks is quoted", self.cmdlet)
                    };
                }
            }
            (Exit::Refused, _) if is_not_served(record) => {
                failure.code = "NotServed".to_owned();
                failure.hint = "leave it out: the cmdlet exists, and this service does not carry that part out".to_owned();
            }
            (Exit::Refused, _) => {
                failure.code = "NotGranted".to_owned();
                failure.message = match self.parameters.iter().find(|p| record.message.contains(&format!("'{p}'"))) {
                    Some(parameter) => format!("{} -{parameter} is not granted to this application", self.cmdlet),
                    None => format!("{} is not granted to this application", self.cmdlet),
                };
                if failure.hint.is_empty() {
                    failure.hint = "no role of the application grants it; 'exops status' shows its roles".to_owned();
                }
            }
            (Exit::Cmdlet, _) if failure.hint.is_empty() => {
                let shown = self.identity.as_deref().unwrap_or_default();
                failure.hint = if self.globbed { GLOBBED.to_owned() } else { advice(record, shown) };
                if failure.target.is_empty() && !failure.hint.is_empty() {
                    failure.target = shown.to_owned();
                }
            }
            _ => {}
        }
        failure
    }
}

/// What to do about errors of Exchange that people meet first.
fn advice(record: &ErrorRecord, identity: &str) -> String {
    let exception = record.exception_type();
    if exception.ends_with("ManagementObjectNotFoundException") {
        return format!("check the identity; similar names: exops run Get-Recipient -Filter \"DisplayName -like '*{identity}*'\"");
    }
    if exception.ends_with("ManagementObjectAmbiguousException") {
        return "give something that only one object has: its primary address or its Guid".to_owned();
    }
    String::new()
}
