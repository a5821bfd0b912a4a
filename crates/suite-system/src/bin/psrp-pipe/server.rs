//! Our server half, whose runspace is whoever sends the orders.

use std::collections::VecDeque;

use exops_auth::session_key::SessionKey;
use exops_psobject::{DateTime, ErrorCategory, ErrorRecord, InformationRecord, ProgressRecord, ProgressType, SecureString, Value};
use exops_psrp::{
    Channel, Command, CommandDescription, CommandKind, FieldDescription, HostMethod, Output, ParameterDescription, PipelineEnd, Priority,
    ServerPool, ServerPoolConfig, ServerPoolEvent, choice_call, count_object, credential_call, prompt_call, read_line_call,
};
use secrecy::ExposeSecret as _;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{Half, Result, event, given, shown, text};

pub(crate) struct Server {
    pool: ServerPool,
    key: SessionKey,
    /// Pipelines that exist, in the order in which they began.
    pipelines: Vec<Uuid>,
    /// The last object of pipeline input.
    held: Value,
    frames: VecDeque<(u8, Uuid, Vec<u8>)>,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self {
            pool: ServerPool::new(ServerPoolConfig { runspaces: 2, ..ServerPoolConfig::default() }),
            key: SessionKey::generate().unwrap_or_else(|_| std::process::abort()),
            pipelines: Vec::new(),
            held: Value::Null,
            frames: VecDeque::new(),
        }
    }

    fn heard(&mut self, heard: ServerPoolEvent) -> Result<(u8, Uuid, Vec<u8>)> {
        Ok(match heard {
            ServerPoolEvent::Opened => event(Uuid::nil(), "opened", json!({ "pool": self.pool.id() })),
            ServerPoolEvent::PublicKey { key } => {
                let sealed = self.key.seal(&key)?;
                self.pool.answer_key(&sealed);
                event(Uuid::nil(), "key", json!({}))
            }
            ServerPoolEvent::Pipeline { id, request } => {
                let statements = std::iter::once(&request.commands).chain(&request.more_statements);
                let statements = statements.map(|commands| commands.iter().map(|c| self.command(c)).collect::<Result<Vec<_>>>());
                let statements = statements.collect::<Result<Vec<_>>>()?;
                let fields = json!({ "statements": statements, "no_input": request.no_input, "nested": request.is_nested,
                    "history": request.history, "has_ui": self.pool.has_ui(id), "merges_errors": request.merges_errors() });
                event(id, "pipeline", fields)
            }
            ServerPoolEvent::Metadata { id, request } => {
                event(id, "metadata", json!({ "names": request.names, "types": request.command_types, "namespaces": request.namespaces }))
            }
            ServerPoolEvent::Input { id, value } => {
                let fields = json!({ "value": shown(&value) });
                self.held = value;
                event(id, "input", fields)
            }
            ServerPoolEvent::EndOfInput { id } => event(id, "end of input", json!({})),
            ServerPoolEvent::HostResponse { id, response } => {
                let (value, error) = match &response.result {
                    Ok(value) => (self.open(value)?, None),
                    Err(error) => (Json::Null, Some(&*error.message)),
                };
                event(id, "answer", json!({ "call": response.call_id, "value": value, "error": error }))
            }
            ServerPoolEvent::Stop { id } => event(id, "stop", json!({})),
            ServerPoolEvent::Terminated { id } => event(id, "terminated", json!({})),
            #[allow(unreachable_patterns, reason = "what else the pool may say has no order here")]
            other => event(Uuid::nil(), "other", json!({ "is": format!("{other:?}") })),
        })
    }

    fn command(&self, command: &Command) -> Result<Json> {
        let arguments = command.arguments.iter().map(|argument| {
            let value = argument.value.as_ref().map_or(Ok(Json::Null), |value| self.open(value))?;
            Ok(json!([argument.name, value]))
        });
        Ok(json!({ "name": command.name, "script": command.is_script, "arguments": arguments.collect::<Result<Vec<_>>>()? }))
    }

    /// A value for an event; of a SecureString in it the secret.
    fn open(&self, value: &Value) -> Result<Json> {
        if let Value::SecureString(sealed) = value {
            let secret = self.key.decrypt(sealed.ciphertext().unwrap_or_default())?;
            return Ok(json!({ "secret": secret.expose_secret() }));
        }
        let Some(object) = value.as_object().filter(|_| value.has_secret()) else { return Ok(shown(value)) };
        let entries = object.dictionary().unwrap_or_default().iter().map(|(name, value)| (name.display(), value));
        let parts = entries.chain(object.properties().map(|(name, value)| (name.to_string(), value)));
        Ok(Json::Object(parts.map(|(name, value)| Ok((name, self.open(value)?))).collect::<Result<_>>()?))
    }

    /// One record of each stream.
    fn write_streams(&mut self, id: Uuid) {
        let information = InformationRecord {
            message: "one information record".into(),
            source: "psrp-pipe".into(),
            time: DateTime::from_unix_milliseconds(1_700_000_000_000),
            tags: vec!["PSHOST".into()],
        };
        let progress = ProgressRecord {
            activity: "Working".into(),
            activity_id: 7,
            status: "one progress record".into(),
            current_operation: "counting".into(),
            parent_activity_id: -1,
            percent_complete: 50,
            seconds_remaining: 9,
            kind: ProgressType::Processing,
        };
        let error = ErrorRecord::new("System.ArgumentException", "one error record", ErrorCategory::InvalidArgument, "OneError");
        let output = Value::from("one output");
        for output in [
            Output::Debug("one debug record"),
            Output::Verbose("one verbose record"),
            Output::Warning("one warning record"),
            Output::Error(&error),
            Output::Information(&information),
            Output::Progress(&progress),
            Output::Object(&output),
        ] {
            self.pool.write(id, output);
        }
    }

    /// What Import-PSSession gets: the count, then the command.
    fn describe(&mut self, id: Uuid, name: &str) {
        let parameters = ["Identity", "WhatIf"].map(|parameter| ParameterDescription {
            name: parameter,
            type_name: None,
            aliases: if parameter == "WhatIf" { &["wi"] } else { &[] },
            is_switch: parameter == "WhatIf",
        });
        let command = CommandDescription { name, kind: CommandKind::Cmdlet, namespace: "", parameters: parameters.into() }.to_value();
        self.pool.write(id, Output::Object(&count_object(1)));
        self.pool.write(id, Output::Object(&command));
    }
}

fn ended(order: &Json) -> Result<PipelineEnd> {
    Ok(match text(order, "end")? {
        "completed" => PipelineEnd::Completed,
        "stopped" => PipelineEnd::Stopped,
        message => {
            let kind = "System.InvalidOperationException";
            PipelineEnd::Failed(Box::new(ErrorRecord::new(kind, message, ErrorCategory::InvalidOperation, "ItFailed")))
        }
    })
}

impl Half for Server {
    fn receive(&mut self, pipeline: Uuid, priority: Priority, bytes: &[u8]) -> Result<()> {
        let channel = if pipeline.is_nil() { Channel::Pool } else { Channel::Pipeline(pipeline) };
        Ok(self.pool.receive(channel, priority, bytes)?)
    }

    fn signal(&mut self, kind: u8, pipeline: Uuid) -> Result<()> {
        match kind {
            b'C' => {
                self.pool.begin_pipeline(pipeline)?;
                self.pipelines.push(pipeline);
            }
            b'S' => self.pool.stop(pipeline)?,
            b'T' => self.pool.terminate(pipeline)?,
            other => return Err(format!("no frame of kind {other}").into()),
        }
        Ok(())
    }

    fn order(&mut self, id: Uuid, order: &Json) -> Result<()> {
        match text(order, "do")? {
            "output" => self.pool.write(id, Output::Object(&given(order, "value")?)),
            "echo" => self.pool.write(id, Output::Object(&self.held.clone())),
            "secret" => {
                let sealed = self.key.encrypt(&text(order, "value")?.to_owned().into())?;
                self.pool.write(id, Output::Object(&Value::SecureString(SecureString::sealed(sealed))));
            }
            "streams" => self.write_streams(id),
            "describe" => self.describe(id, text(order, "name")?),
            "ask" => {
                let (method, parameters) = read_line_call();
                self.pool.call_host(id, method, parameters);
            }
            "ask for secret" => {
                self.pool.call_host(id, HostMethod::ReadLineAsSecureString, Vec::new());
            }
            "ask for credential" => {
                let (method, parameters) = credential_call("Cap", "Give it", "bob", "there");
                self.pool.call_host(id, method, parameters);
            }
            "ask for fields" => {
                let field = |name: &str, kind: &str| FieldDescription {
                    name: name.to_owned(),
                    label: String::new(),
                    help: String::new(),
                    type_name: kind.to_owned(),
                    is_mandatory: true,
                    default: None,
                };
                let fields = [field("Name", "System.String"), field("Pw", "System.Security.SecureString")];
                let (method, parameters) = prompt_call("Cap", "Give it", &fields);
                self.pool.call_host(id, method, parameters);
            }
            "choose" => {
                let (method, parameters) = choice_call("Confirm", "Go on?", &[("&Yes", "go on"), ("&No", "do not")], 1);
                self.pool.call_host(id, method, parameters);
            }
            "write line" => self.pool.tell_host(id, HostMethod::WriteLine2, vec![text(order, "value")?.into()]),
            "request key" => self.pool.request_key(),
            "finish" => self.pool.finish(id, &ended(order)?),
            "close" => self.pool.close(),
            other => return Err(format!("no order {other}").into()),
        }
        Ok(())
    }

    fn next(&mut self, capacity: usize) -> Result<Option<(u8, Uuid, Vec<u8>)>> {
        while let Some(heard) = self.pool.next_event() {
            let frame = self.heard(heard)?;
            self.frames.push_back(frame);
        }
        if let Some(frame) = self.frames.pop_front() {
            return Ok(Some(frame));
        }
        if self.pool.has_output(Channel::Pool) {
            return Ok(Some((b'D', Uuid::nil(), self.pool.take(Channel::Pool, capacity))));
        }
        let with_output = self.pipelines.iter().copied().find(|id| self.pool.has_output(Channel::Pipeline(*id)));
        Ok(with_output.map(|id| (b'D', id, self.pool.take(Channel::Pipeline(id), capacity))))
    }
}
