//! The way from a cmdlet that asks something to the host of the client that runs it.

use std::sync::Arc;

use exops_psobject::{CREDENTIAL, SECURE_STRING, Value};
use exops_psrp::{FieldDescription, HostMethod, credential_call, prompt_call};
use exops_remoting::server::ServerSession;
use exops_runspace::{BoxFuture, Choice, Field, Host, HostError, Question, StopToken};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{Shell, Shells};
use crate::session::RUN_LIMIT;

/// The host of the client that runs a pipeline, asked over host calls.
pub(super) struct ClientHost {
    pub(super) shells: Arc<Shells>,
    pub(super) shell: Arc<Shell>,
    pub(super) pipeline: Uuid,
    pub(super) stop: StopToken,
}

impl ClientHost {
    /// Makes a call and waits for what the client answers, until the pipeline is stopped (also by the end of its
    /// shell) or a cmdlet's longest time is over.
    async fn call(&self, call: impl FnOnce(&mut ServerSession) -> Option<i64>) -> Result<Value, HostError> {
        let (key, answer) = {
            let mut state = self.shell.lock();
            let key = (self.pipeline, call(&mut state.session).ok_or(HostError::NotInteractive)?);
            let (sender, receiver) = oneshot::channel();
            state.prompts.insert(key, sender);
            self.shells.pump(&self.shell, &mut state);
            (key, receiver)
        };
        let answer = tokio::select! {
            answer = tokio::time::timeout(RUN_LIMIT, answer) => answer,
            () = self.stop.stopped() => Ok(Ok(Err(HostError::Cancelled))),
        };
        self.shell.lock().prompts.remove(&key);
        answer.ok().and_then(Result::ok).unwrap_or(Err(HostError::Cancelled))
    }
}

impl Host for ClientHost {
    fn prompt_for_choice<'a>(
        &'a self,
        caption: &'a str,
        message: &'a str,
        choices: &'a [Choice],
        default: usize,
    ) -> BoxFuture<'a, Result<usize, HostError>> {
        Box::pin(async move {
            let pairs: Vec<(&str, &str)> = choices.iter().map(|c| (c.label.as_str(), c.help.as_str())).collect();
            let default = i32::try_from(default).unwrap_or(-1);
            let answer = self.call(|session| session.prompt_for_choice(self.pipeline, caption, message, &pairs, default)).await?;
            let chosen = answer.as_i64().and_then(|index| usize::try_from(index).ok()).filter(|index| *index < choices.len());
            chosen.ok_or(HostError::Cancelled)
        })
    }

    fn read_line(&self) -> BoxFuture<'_, Result<String, HostError>> {
        Box::pin(async move {
            let answer = self.call(|session| session.read_line(self.pipeline)).await?;
            answer.as_str().map(str::to_owned).ok_or(HostError::Cancelled)
        })
    }

    fn ask<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Value, HostError>> {
        let ((method, parameters), holds_secret) = match question {
            Question::Secret => ((HostMethod::ReadLineAsSecureString, Vec::new()), true),
            Question::Credential { caption, message, user, target } => (credential_call(caption, message, user, target), true),
            Question::Fields { caption, message, fields } => {
                let described: Vec<FieldDescription> = fields.iter().map(described).collect();
                (prompt_call(caption, message, &described), fields.iter().any(|field| field.is_secret || field.type_name == CREDENTIAL))
            }
        };
        Box::pin(async move {
            if holds_secret {
                // Not every client exchanges keys by itself. One that did not until now is asked all the same: it may yet.
                self.shells.share_key(&self.shell, &self.stop).await;
            }
            let answer = self.call(|session| session.call_host(self.pipeline, method, parameters)).await?;
            if answers(question, &answer) { Ok(answer) } else { Err(HostError::Cancelled) }
        })
    }
}

fn described(field: &Field) -> FieldDescription {
    let kind = match field.type_name.as_str() {
        _ if field.is_secret => SECURE_STRING,
        "" => "System.String",
        other => other,
    };
    FieldDescription {
        name: field.name.clone(),
        label: field.label.clone(),
        help: field.help.clone(),
        type_name: kind.to_owned(),
        is_mandatory: field.default.is_none(),
        default: field.default.clone(),
    }
}

/// Whether an answer has what the question asked for.
fn answers(question: &Question, answer: &Value) -> bool {
    let is_secret = |value: Option<&Value>| matches!(value, Some(Value::SecureString(_)));
    match question {
        Question::Secret => is_secret(Some(answer)),
        Question::Credential { .. } => answer.is_credential(),
        Question::Fields { fields, .. } => answer.as_object().and_then(|object| object.dictionary()).is_some_and(|entries| {
            fields.iter().all(|field| {
                let found = entries.iter().find(|(name, _)| name.as_str() == Some(&field.name)).map(|(_, value)| value);
                if field.is_secret { is_secret(found) } else { found.is_some() }
            })
        }),
    }
}
