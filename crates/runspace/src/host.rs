use thiserror::Error;

use crate::BoxFuture;

/// One answer that a prompt offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Shown; `&` stands before the hot key.
    pub label: String,
    /// Longer text.
    pub help: String,
}

/// Why a host did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostError {
    /// Nobody is there to ask.
    #[error("nobody can answer a prompt here")]
    NotInteractive,
    /// The caller left or cancelled.
    #[error("the prompt was cancelled")]
    Cancelled,
}

/// The way back to whoever started a pipeline: prompts travel over it.
pub trait Host: Send + Sync {
    /// Offers choices and answers the index of the one taken.
    ///
    /// # Errors
    /// When nobody answers.
    fn prompt_for_choice<'a>(
        &'a self,
        caption: &'a str,
        message: &'a str,
        choices: &'a [Choice],
        default: usize,
    ) -> BoxFuture<'a, Result<usize, HostError>>;

    /// Reads one line.
    ///
    /// # Errors
    /// When nobody answers.
    fn read_line(&self) -> BoxFuture<'_, Result<String, HostError>>;
}
