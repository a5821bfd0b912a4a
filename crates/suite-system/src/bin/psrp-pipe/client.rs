//! Our client half, whose user is whoever sends the orders.

use std::collections::VecDeque;

use exops_auth::session_key::{ExchangeKey, SessionKey};
use exops_psobject::{ErrorRecord, SecureString, Value};
use exops_psrp::{
    Channel, ClientPool, ClientPoolConfig, ClientPoolEvent, Command, HostInfo, HostMethod, HostResponse, PipelineEnd, PipelineRequest,
    Priority,
};
use secrecy::ExposeSecret as _;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{Half, Result, event, given, shown, text};

pub(crate) struct Client {
    pool: ClientPool,
    pipelines: Vec<Uuid>,
    /// The last output object.
    held: Value,
    exchange: ExchangeKey,
    key: Option<SessionKey>,
    frames: VecDeque<(u8, Uuid, Vec<u8>)>,
}

impl Client {
    pub(crate) fn new() -> Result<Self> {
        let host = HostInfo::INTERACTIVE;
        let config = ClientPoolConfig { host, ..ClientPoolConfig::new(Uuid::new_v4()) };
        let exchange = ExchangeKey::generate()?;
        let pool = ClientPool::new(config);
        Ok(Self { pool, pipelines: Vec::new(), held: Value::Null, exchange, key: None, frames: VecDeque::new() })
    }

    fn key(&self) -> Result<&SessionKey> {
        self.key.as_ref().ok_or_else(|| "no key was exchanged".into())
    }

    fn heard(&mut self, heard: ClientPoolEvent) -> Result<(u8, Uuid, Vec<u8>)> {
        let record = |record: &ErrorRecord| {
            json!({ "text": &*record.message, "id": &*record.fully_qualified_error_id, "type": record.exception_type(),
                "category": record.category.name() })
        };
        let nil = Uuid::nil();
        Ok(match heard {
            ClientPoolEvent::KeyRequested => event(nil, "key requested", json!({})),
            ClientPoolEvent::Key(sealed) => {
                self.key = Some(self.exchange.open(&sealed)?);
                event(nil, "key", json!({}))
            }
            ClientPoolEvent::Output(id, Value::SecureString(sealed)) => {
                let secret = self.key()?.decrypt(sealed.ciphertext().unwrap_or_default())?;
                event(id, "output", json!({ "value": { "secret": secret.expose_secret() } }))
            }
            ClientPoolEvent::Opened => event(nil, "opened", json!({ "private": shown(self.pool.private_data()) })),
            ClientPoolEvent::Ended(reason) => event(nil, "ended", json!({ "reason": reason.as_deref().map(record) })),
            ClientPoolEvent::Output(id, value) => {
                let fields = json!({ "value": shown(&value) });
                self.held = value;
                event(id, "output", fields)
            }
            ClientPoolEvent::Error(id, error) => event(id, "error", record(&error)),
            ClientPoolEvent::Warning(id, text) => event(id.unwrap_or_default(), "warning", json!({ "text": &*text })),
            ClientPoolEvent::Verbose(id, text) => event(id, "verbose", json!({ "text": &*text })),
            ClientPoolEvent::Debug(id, text) => event(id, "debug", json!({ "text": &*text })),
            ClientPoolEvent::Information(id, it) => event(
                id,
                "information",
                json!({ "text": shown(&it.message), "source": &*it.source, "tags": it.tags.iter().map(|t| &**t).collect::<Vec<_>>() }),
            ),
            ClientPoolEvent::Progress(id, it) => event(
                id,
                "progress",
                json!({ "activity": &*it.activity, "number": it.activity_id, "text": &*it.status, "percent": it.percent_complete,
                    "seconds": it.seconds_remaining, "operation": &*it.current_operation }),
            ),
            ClientPoolEvent::HostCall(id, call) => event(
                id.unwrap_or_default(),
                "call",
                json!({ "call": call.call_id, "method": call.method.number(), "answer": call.expects_answer(),
                    "parameters": call.parameters.iter().map(shown).collect::<Vec<_>>() }),
            ),
            ClientPoolEvent::PipelineEnded(id, end) => {
                let (end, reason) = match &end {
                    PipelineEnd::Completed => ("completed", None),
                    PipelineEnd::Stopped => ("stopped", None),
                    PipelineEnd::Failed(error) => ("failed", Some(record(error))),
                };
                event(id, "end", json!({ "end": end, "reason": reason }))
            }
            #[allow(unreachable_patterns, reason = "what else the pool may say has no order here")]
            other => event(nil, "other", json!({ "is": format!("{other:?}") })),
        })
    }
}

impl Half for Client {
    fn receive(&mut self, pipeline: Uuid, _: Priority, bytes: &[u8]) -> Result<()> {
        let channel = if pipeline.is_nil() { Channel::Pool } else { Channel::Pipeline(pipeline) };
        Ok(self.pool.receive(channel, bytes)?)
    }

    fn signal(&mut self, kind: u8, pipeline: Uuid) -> Result<()> {
        match kind {
            b'T' => self.pool.forget(pipeline),
            other => return Err(format!("no frame of kind {other} for a client").into()),
        }
        Ok(())
    }

    fn order(&mut self, id: Uuid, order: &Json) -> Result<()> {
        match text(order, "do")? {
            "invoke" => {
                let mut command = Command::new(text(order, "command")?);
                for (name, value) in order.get("arguments").and_then(Json::as_object).into_iter().flatten() {
                    command = command.with(name, exops_psobject::json::from_rest(value)?);
                }
                if let Some(secret) = order.get("secret").and_then(Json::as_str) {
                    let sealed = self.key()?.encrypt(&secret.to_owned().into())?;
                    command = command.with("Secret", Value::SecureString(SecureString::sealed(sealed)));
                }
                let flag = |name| order.get(name).and_then(Json::as_bool).unwrap_or_default();
                let request = PipelineRequest { no_input: !flag("input"), is_nested: flag("nested"), ..PipelineRequest::from(command) };
                self.pool.invoke(id, &request);
                self.pipelines.push(id);
            }
            "input" => self.pool.input(id, &given(order, "value")?),
            "send back" => self.pool.input(id, &self.held.clone()),
            "send key" => self.pool.send_key(self.exchange.public_key()),
            "end input" => self.pool.end_input(id),
            "answer" => {
                let number = |name| order.get(name).and_then(Json::as_i64).unwrap_or_default();
                let method = HostMethod::from_number(number("method"));
                let response = HostResponse { call_id: number("call"), method, result: Ok(given(order, "value")?) };
                let bytes = self.pool.respond((!id.is_nil()).then_some(id), &response);
                self.frames.push_back((b'P', id, bytes));
            }
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
