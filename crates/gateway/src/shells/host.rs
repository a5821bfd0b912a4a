//! The way from a cmdlet that asks something to the host of the client that runs it.

use std::sync::Arc;

use exops_psobject::Value;
use exops_remoting::server::ServerSession;
use exops_runspace::{BoxFuture, Choice, Host, HostError, StopToken};
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
    async fn ask(&self, call: impl FnOnce(&mut ServerSession) -> Option<i64>) -> Result<Value, HostError> {
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
            () = self.stop.stopped() => Ok(Ok(None)),
        };
        self.shell.lock().prompts.remove(&key);
        match answer {
            Ok(Ok(Some(value))) => Ok(value),
            Ok(Ok(None)) if !self.stop.is_stopped() => Err(HostError::NotInteractive),
            _ => Err(HostError::Cancelled),
        }
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
            let default = i32::try_from(default).unwrap_or_default();
            let answer = self.ask(|session| session.prompt_for_choice(self.pipeline, caption, message, &pairs, default)).await?;
            let chosen = answer.as_i64().and_then(|index| usize::try_from(index).ok()).filter(|index| *index < choices.len());
            chosen.ok_or(HostError::Cancelled)
        })
    }

    fn read_line(&self) -> BoxFuture<'_, Result<String, HostError>> {
        Box::pin(async move {
            let answer = self.ask(|session| session.read_line(self.pipeline)).await?;
            answer.as_str().map(str::to_owned).ok_or(HostError::Cancelled)
        })
    }
}
