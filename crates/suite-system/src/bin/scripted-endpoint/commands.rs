//! What the endpoint's commands do.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use exops_catalogue::{BoundCommand, Cmdlet, Stage};
use exops_psobject::{
    Base, DateTime, ErrorCategory, ErrorRecord, InformationRecord, ProgressRecord, ProgressType, Properties, PsObject, SecureString, Value,
};
use exops_runspace::{Choice, Ended, Field, HostError, Invocation, Question, Record, RecordStream, Step};
use exops_testkit::{Act, Script, mailbox};
use futures_util::StreamExt as _;
use secrecy::ExposeSecret as _;
use tokio::sync::mpsc;

/// Mailboxes without `-ResultSize`, as in Exchange.
const RESULT_SIZE: i64 = 1000;
/// All that there are.
const MAILBOXES: i64 = 100_000;
/// Records on their way to the session layer.
const QUEUE: usize = 64;

/// What Get-Secret tells.
const SECRET: &str = "p@ss w\u{f6}rd";

const STREAMS: &str = "Output,Error,Warning,Verbose,Debug,Information,Progress";

type Run = fn(Invocation, Out) -> std::pin::Pin<Box<dyn Future<Output = Ended> + Send>>;

/// The row of the catalogue after the name, and what runs.
///
/// `Read-Thing`, `Set-Thing` and `Write-ErrorX` are what PowerShell's client was recorded against: questions on its host, parameters in
/// every encoding, an error with all that may be in one.
const COMMANDS: [(&str, &str, Run); 12] = [
    ("Get-Mailbox", "Identity:a@*/0v ResultSize:a", |call, out| Box::pin(get_mailbox(call, out))),
    ("Start-Sleep", "Seconds:i@*/0m", |call, out| Box::pin(start_sleep(call, out))),
    ("Echo-Input", "InputObject:o@*/v", |call, out| Box::pin(echo_input(call, out))),
    ("Echo-Value", "Value:o@*/0m#N;C", |call, out| Box::pin(echo_value(call, out))),
    ("Write-Streams", "", |call, out| Box::pin(write_streams(call, out))),
    ("Invoke-HostCall", "", |call, out| Box::pin(invoke_host_call(call, out))),
    ("Get-Secret", "", |call, out| Box::pin(get_secret(call, out))),
    ("Measure-Secret", "Secret:x@*/0m", |call, out| Box::pin(measure_secret(call, out))),
    ("Read-Thing", "Kind:t@*/0m", |call, out| Box::pin(read_thing(call, out))),
    ("Set-Thing", "Identity:a@*/0 Name:a@*/1 When:d Id:a List:a Table:a Flag:s", |call, out| Box::pin(set_thing(call, out))),
    ("Write-ErrorX", "Kind:t@*/0m", |call, out| Box::pin(write_error(call, out))),
    ("Write-Flood", "Stream:t@*/0m# Count:i@*/1m", |call, out| Box::pin(write_flood(call, out))),
];

/// The names of all commands.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|(name, ..)| *name)
}

/// All commands with their scripts.
pub(crate) fn all() -> impl Iterator<Item = (Arc<Cmdlet>, Script)> {
    COMMANDS.into_iter().map(|(name, parameters, run)| {
        let parameters = parameters.replace("Stream:t@*/0m#", &format!("Stream:t@*/0m#s{STREAMS}"));
        let script: Script = Box::new(move |invocation| start(invocation.clone(), run));
        // What changes things has -WhatIf and -Confirm.
        let impact = if name.starts_with("Set-") { "M" } else { "" };
        (Arc::new(Cmdlet::from_row(&format!("{name}|{impact}||{parameters}"))), script)
    })
}

/// Where a command writes. Waits while the client does not fetch.
struct Out(mpsc::Sender<Step>);

impl Out {
    async fn write(&self, record: Record) {
        // Nobody reads any more: the stop that follows ends the command.
        let _ = self.0.send(Step::Record(record)).await;
    }

    async fn object(&self, value: impl Into<Value>) {
        self.write(Record::Output(value.into())).await;
    }
}

/// Runs a command in a task; a stop ends it wherever it waits.
fn start(invocation: Invocation, run: Run) -> RecordStream {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let stop = invocation.stop.clone();
        let end = tokio::select! {
            biased;
            () = stop.stopped() => Ended::Stopped,
            end = run(invocation, Out(sender.clone())) => end,
        };
        let _ = sender.send(Step::Ended(end)).await;
    });
    Box::pin(
        futures_util::stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|step| (step, receiver)) }).fuse(),
    )
}

fn command(call: &Invocation) -> Option<&BoundCommand> {
    match call.pipeline.stages.first() {
        Some(Stage::Cmdlet(command)) => Some(command),
        _ => None,
    }
}

fn argument(call: &Invocation, name: &str) -> Value {
    command(call).and_then(|c| c.argument(name)).cloned().unwrap_or_default()
}

fn number(call: &Invocation, name: &str) -> i64 {
    argument(call, name).as_i64().unwrap_or_default()
}

fn alias(number: i64) -> String {
    format!("user{number:06}")
}

async fn get_mailbox(call: Invocation, out: Out) -> Ended {
    let identities: Vec<Value> = match argument(&call, "Identity") {
        Value::Null => call.input.clone(),
        given => vec![given],
    };
    if !identities.is_empty() {
        for identity in identities {
            let identity = identity.display();
            if identity.to_ascii_lowercase().starts_with("missing") {
                let Act::Write(record) = Act::not_found(&identity) else { continue };
                out.write(record).await;
            } else {
                out.object(mailbox(&identity)).await;
            }
        }
        return Ended::Completed;
    }
    let size = argument(&call, "ResultSize");
    let wanted = match &size {
        Value::Null => RESULT_SIZE,
        size if size.display().eq_ignore_ascii_case("Unlimited") => MAILBOXES,
        size => match size.as_i64().or_else(|| size.display().trim().parse().ok()) {
            Some(count) if count >= 0 => count.min(MAILBOXES),
            _ => return Ended::Failed(Box::new(no_size(&size.display()))),
        },
    };
    for index in 1..=wanted {
        out.object(mailbox(&alias(index))).await;
    }
    if wanted < MAILBOXES {
        out.write(Record::Warning(
            "There are more results available than are currently displayed. To view them, increase the value for the ResultSize parameter."
                .into(),
        ))
        .await;
    }
    Ended::Completed
}

fn no_size(text: &str) -> ErrorRecord {
    let message =
        format!("Cannot process argument transformation on parameter 'ResultSize'. Cannot convert value \"{text}\" to type \"Unlimited\".");
    let kind = "System.Management.Automation.ParameterBindingException";
    ErrorRecord::new(kind, message, ErrorCategory::InvalidData, "ParameterArgumentTransformationError,Get-Mailbox")
}

async fn start_sleep(call: Invocation, out: Out) -> Ended {
    let seconds = u64::try_from(number(&call, "Seconds")).unwrap_or_default();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    out.object(format!("slept {seconds} seconds").as_str()).await;
    Ended::Completed
}

async fn echo_input(call: Invocation, out: Out) -> Ended {
    // The session layer binds each piped object and calls once for each.
    if let Some(value) = command(&call).and_then(|c| c.argument("InputObject")) {
        out.write(Record::Output(value.clone())).await;
    }
    for value in call.input {
        out.write(Record::Output(value)).await;
    }
    Ended::Completed
}

async fn echo_value(call: Invocation, out: Out) -> Ended {
    out.write(Record::Output(argument(&call, "Value"))).await;
    Ended::Completed
}

async fn write_streams(_: Invocation, out: Out) -> Ended {
    for stream in ["Debug", "Verbose", "Warning", "Error", "Information", "Progress", "Output"] {
        out.write(record(stream, &format!("one {} record", stream.to_ascii_lowercase()))).await;
    }
    Ended::Completed
}

async fn write_flood(call: Invocation, out: Out) -> Ended {
    let stream = argument(&call, "Stream").display();
    for index in 1..=number(&call, "Count") {
        out.write(record(&stream, &format!("record {index}"))).await;
    }
    Ended::Completed
}

async fn get_secret(_: Invocation, out: Out) -> Ended {
    out.write(Record::Output(Value::SecureString(SecureString::clear(SECRET.into())))).await;
    Ended::Completed
}

/// Its length as .NET counts it.
async fn measure_secret(call: Invocation, out: Out) -> Ended {
    let argument = argument(&call, "Secret");
    let secret = if let Value::SecureString(secret) = &argument { secret.secret() } else { None };
    match secret {
        Some(secret) => {
            let length = secret.expose_secret().encode_utf16().count();
            out.write(Record::Output(Value::I32(i32::try_from(length).unwrap_or(i32::MAX)))).await;
            Ended::Completed
        }
        None => refused("-Secret is no SecureString that can be read here", "NoSecret"),
    }
}

fn refused(text: &str, id: &str) -> Ended {
    Ended::Failed(Box::new(ErrorRecord::new("System.ArgumentException", text, ErrorCategory::InvalidArgument, id)))
}

fn cannot_prompt(error: &HostError) -> Ended {
    let kind = "System.Management.Automation.Host.HostException";
    Ended::Failed(Box::new(ErrorRecord::new(kind, error.to_string(), ErrorCategory::NotImplemented, "CannotPromptUser")))
}

/// Asks on the client's host in the way that `-Kind` says, and tells what it got. A secret is told in clear: it is the test's own.
async fn read_thing(call: Invocation, out: Out) -> Ended {
    let kind = argument(&call, "Kind").display().to_ascii_lowercase();
    let Some(host) = &call.host else { return cannot_prompt(&HostError::NotInteractive) };
    let (caption, message) = ("Cap".to_owned(), "Give it".to_owned());
    let field = |name: &str, is_secret| Field { name: name.to_owned(), is_secret, ..Field::default() };
    let question = match kind.as_str() {
        "line" => return told(host.read_line().await.map(Value::from), &out).await,
        "choice" => {
            let choices = ["&Yes", "&No"].map(|label| Choice { label: label.to_owned(), help: String::new() });
            let chosen = host.prompt_for_choice(&caption, &message, &choices, 1).await;
            return told(chosen.map(|index| Value::I32(i32::try_from(index).unwrap_or(i32::MAX))), &out).await;
        }
        "secure" => Question::Secret,
        "cred" => Question::Credential { caption, message, user: "bob".to_owned(), target: String::new() },
        "prompt" => Question::Fields { caption: String::new(), message: String::new(), fields: vec![field("Name", false)] },
        "fields" => Question::Fields { caption, message, fields: vec![field("Name", false), field("Pw", true)] },
        "host" => {
            out.write(information("a line", &["PSHOST"])).await;
            out.write(Record::Warning("a warning line by host call".into())).await;
            return Ended::Completed;
        }
        other => return refused(&format!("there is no kind {other}"), "NoSuchKind"),
    };
    told(host.ask(&question).await, &out).await
}

/// Every string of an answer, and of a SecureString what it hides.
async fn told(answer: Result<Value, HostError>, out: &Out) -> Ended {
    let mut answer = match answer {
        Ok(answer) => answer,
        Err(error) => return cannot_prompt(&error),
    };
    reveal(&mut answer);
    out.write(Record::Output(answer)).await;
    Ended::Completed
}

fn reveal(value: &mut Value) {
    let clear = |value: &Value| match value {
        Value::SecureString(secret) => secret.secret().map(|secret| Value::from(format!("secure({})", secret.expose_secret()).as_str())),
        _ => None,
    };
    if let Some(text) = clear(value) {
        *value = text;
    } else if let Value::Object(object) = value {
        let object = Arc::make_mut(object);
        if let Base::Dictionary(entries) = &mut object.base {
            entries.iter_mut().for_each(|(_, value)| reveal(value));
        }
        let found: Vec<(Arc<str>, Value)> =
            object.adapted.iter().filter_map(|(name, value)| Some((Arc::clone(name), clear(value)?))).collect();
        found.into_iter().for_each(|(name, text)| object.adapted.set(&name, text));
    }
}

/// What was bound, by name.
async fn set_thing(call: Invocation, out: Out) -> Ended {
    let bound = command(&call).map(|command| command.arguments.as_slice()).unwrap_or_default();
    let bound: Properties = bound.iter().map(|argument| (&*argument.parameter.name, argument.value.clone())).collect();
    out.object(PsObject::notes(bound)).await;
    Ended::Completed
}

async fn write_error(_: Invocation, out: Out) -> Ended {
    let kind = "Microsoft.Exchange.Configuration.Tasks.ManagementObjectNotFoundException";
    out.write(Record::Error(Box::new(ErrorRecord {
        activity: "Get-Mailbox".into(),
        target_name: "tgt".into(),
        target_type: "String".into(),
        target_object: "tgt".into(),
        details_message: Some("details message".into()),
        recommended_action: Some("do this".into()),
        ..ErrorRecord::new(kind, "exc message", ErrorCategory::ObjectNotFound, "ABC,Full.Type.GetMailbox")
    })))
    .await;
    out.write(Record::Warning("both ways".into())).await;
    Ended::Completed
}

/// One record of a stream.
fn record(stream: &str, text: &str) -> Record {
    match stream.to_ascii_lowercase().as_str() {
        "error" => {
            let kind = "System.InvalidOperationException";
            Record::Error(Box::new(ErrorRecord::new(kind, text, ErrorCategory::InvalidOperation, "ScriptedError")))
        }
        "warning" => Record::Warning(text.into()),
        "verbose" => Record::Verbose(text.into()),
        "debug" => Record::Debug(text.into()),
        "information" => information(text, &[]),
        "progress" => Record::Progress(Box::new(ProgressRecord {
            activity: "Working".into(),
            activity_id: 1,
            status: text.into(),
            current_operation: "".into(),
            parent_activity_id: -1,
            percent_complete: 50,
            seconds_remaining: -1,
            kind: ProgressType::Processing,
        })),
        _ => Record::Output(text.into()),
    }
}

fn information(text: &str, tags: &[&str]) -> Record {
    let tags = tags.iter().map(|tag| (*tag).into()).collect();
    let time = DateTime::from_unix_milliseconds(crate::unix_milliseconds());
    Record::Information(Box::new(InformationRecord { message: text.into(), source: "scripted-endpoint".into(), time, tags }))
}

async fn invoke_host_call(call: Invocation, out: Out) -> Ended {
    let Some(host) = &call.host else { return cannot_prompt(&HostError::NotInteractive) };
    match host.read_line().await {
        Ok(line) => {
            out.write(information("got it", &["PSHOST"])).await;
            out.object(line.as_str()).await;
            Ended::Completed
        }
        Err(error) => cannot_prompt(&error),
    }
}
