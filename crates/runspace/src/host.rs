use exops_psobject::Value;
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

/// A question that is neither a choice nor a line that everybody may see. Secrets in the answer are clear.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// A line that nobody sees while it is typed. The answer is a SecureString.
    Secret,
    /// A name and its password. The answer is a PSCredential: `UserName` (string) and `Password` (SecureString).
    Credential {
        /// Title.
        caption: String,
        /// What it is for.
        message: String,
        /// The name that is offered; may be empty.
        user: String,
        /// Where the credential will be used; may be empty.
        target: String,
    },
    /// Several values at once. The answer is a dictionary with the fields' names as keys.
    Fields {
        /// Title.
        caption: String,
        /// What they are for.
        message: String,
        /// What is asked.
        fields: Vec<Field>,
    },
}

/// Stands for the index of a default where there is none: an answer has to be given.
pub const NO_DEFAULT: usize = usize::MAX;

/// One value of [`Question::Fields`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Field {
    /// Its name, under which the answer holds it.
    pub name: String,
    /// Nobody sees it while it is typed: its value is a SecureString, any other's a string.
    pub is_secret: bool,
    /// Shown instead of the name where it is not empty; `&` stands before the hot key.
    pub label: String,
    /// Longer text; may be empty.
    pub help: String,
    /// .NET name of the value's type; empty for a string. An answer may be text all the same: whoever asked converts it. A
    /// `PSCredential` is answered as one, a name that ends in `[]` with a list.
    pub type_name: String,
    /// What an empty answer means.
    pub default: Option<Value>,
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
    /// A SecureString of the answer does not belong to the session's key.
    #[error("a SecureString in the answer to a prompt cannot be read: the session has no key for it")]
    Unreadable,
}

/// The way back to whoever started a pipeline: prompts travel over it.
pub trait Host: Send + Sync {
    /// Offers choices and answers the index of the one taken. `default` is what an empty answer means, or [`NO_DEFAULT`].
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

    /// Offers choices of which several can be taken, and answers their indexes; `defaults` are what an empty answer means.
    /// Whoever cannot offer them is as good as nobody.
    ///
    /// # Errors
    /// When nobody answers.
    fn prompt_for_choices<'a>(
        &'a self,
        _caption: &'a str,
        _message: &'a str,
        _choices: &'a [Choice],
        _defaults: &'a [usize],
    ) -> BoxFuture<'a, Result<Vec<usize>, HostError>> {
        Box::pin(std::future::ready(Err(HostError::NotInteractive)))
    }

    /// Reads one line.
    ///
    /// # Errors
    /// When nobody answers.
    fn read_line(&self) -> BoxFuture<'_, Result<String, HostError>>;

    /// Asks for secrets, or for several values. Whoever cannot ask for them is as good as nobody.
    ///
    /// # Errors
    /// When nobody answers, or the answer cannot be read.
    fn ask<'a>(&'a self, _question: &'a Question) -> BoxFuture<'a, Result<Value, HostError>> {
        Box::pin(std::future::ready(Err(HostError::NotInteractive)))
    }
}
