//! What a client is asked by a call of its host: read with limits, because the asker is a server.

use exops_psobject::{ErrorCategory, ErrorRecord, Value};
use thiserror::Error;

use crate::{HostCall, HostMethod};

/// Most fields of a prompt and most answers that a question offers.
const MOST: usize = 256;
/// Longest text of a question, in bytes.
const LONGEST: usize = 64 << 10;

/// A question to whoever sits before the client's host.
#[derive(Debug, Clone, PartialEq)]
pub enum HostQuestion {
    /// ReadLine. The answer is S.
    Line,
    /// ReadLineAsSecureString. The answer is SS.
    SecretLine,
    /// Prompt. The answer is a hashtable with the names of the fields as keys.
    Fields {
        /// Title.
        caption: String,
        /// What the values are for.
        message: String,
        /// What is asked, at least one.
        fields: Vec<FieldDescription>,
    },
    /// PromptForCredential, both forms. The answer is a PSCredential.
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
    /// PromptForChoice. The answer is an index (I32).
    Choice {
        /// Title.
        caption: String,
        /// What is to be decided.
        message: String,
        /// What is offered, at least one.
        choices: Vec<ChoiceDescription>,
        /// Index of what an empty answer means; `None`: nothing.
        default: Option<usize>,
    },
    /// PromptForChoice with several answers (IHostUISupportsMultipleChoiceSelection). The answer is a list of indexes.
    Choices {
        /// Title.
        caption: String,
        /// What is to be decided.
        message: String,
        /// What is offered, at least one.
        choices: Vec<ChoiceDescription>,
        /// Indexes of what an empty answer means.
        defaults: Vec<usize>,
    },
}

/// One value of a prompt (FieldDescription, MS-PSRP 2.2.3.18).
#[derive(Debug, Clone, PartialEq)]
pub struct FieldDescription {
    /// The key of its value in the answer.
    pub name: String,
    /// Shown instead of the name where it is not empty; `&` stands before the hot key.
    pub label: String,
    /// Longer text.
    pub help: String,
    /// .NET name of the value's type.
    pub type_name: String,
    /// A value must be given.
    pub is_mandatory: bool,
    /// What an empty answer means.
    pub default: Option<Value>,
}

/// One answer that a choice offers (ChoiceDescription, MS-PSRP 2.2.3.19).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoiceDescription {
    /// Shown; `&` stands before the hot key.
    pub label: String,
    /// Longer text.
    pub help: String,
}

/// Why a question is not put to anybody.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuestionError {
    /// More of something than a person can look at.
    #[error("it has {count} {what}, and at most {limit} are taken")]
    TooMany {
        /// Fields or choices.
        what: &'static str,
        /// How many.
        count: usize,
        /// Most that are taken.
        limit: usize,
    },
    /// A text is too long.
    #[error("its {what} has {bytes} bytes, and at most {limit} are taken")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// Longest that is taken.
        limit: usize,
    },
    /// Something that a question must have is not there, or of another type.
    #[error("it has no usable {0}")]
    Lacks(&'static str),
    /// Two fields have one name: the answer could hold one of them.
    #[error("it asks twice for '{0}'")]
    Twice(String),
    /// The default is none of the choices.
    #[error("its default is choice {index}, and there are {count}")]
    NoSuchChoice {
        /// The default, from 0.
        index: i64,
        /// Number of choices.
        count: usize,
    },
}

impl QuestionError {
    /// What the server is told.
    #[must_use]
    pub fn record(&self) -> ErrorRecord {
        let text = format!("The prompt was refused: {self}.");
        ErrorRecord::new("System.Management.Automation.Host.PromptingException", text, ErrorCategory::InvalidArgument, "PromptRefused")
    }
}

impl HostCall {
    /// What the call asks a person; `None` where it is another kind of call.
    ///
    /// # Errors
    /// When the question cannot be put: it is too large, or contradicts itself.
    pub fn question(&self) -> Result<Option<HostQuestion>, QuestionError> {
        let texts = || Ok::<_, QuestionError>((self.text(0, "caption")?, self.text(1, "message")?));
        Ok(Some(match self.method {
            HostMethod::ReadLine => HostQuestion::Line,
            HostMethod::ReadLineAsSecureString => HostQuestion::SecretLine,
            HostMethod::Prompt => {
                let (caption, message) = texts()?;
                HostQuestion::Fields { caption, message, fields: self.fields()? }
            }
            // What the second form says more, which kinds of credential and whether to check them, no client here can do.
            HostMethod::PromptForCredential1 | HostMethod::PromptForCredential2 => {
                let (caption, message) = texts()?;
                HostQuestion::Credential { caption, message, user: self.text(2, "user name")?, target: self.text(3, "target")? }
            }
            HostMethod::PromptForChoice => {
                let (caption, message) = texts()?;
                let choices = self.choices()?;
                // -1 stands for none.
                let default = match self.parameters.get(3).and_then(Value::as_i64).ok_or(QuestionError::Lacks("default"))? {
                    -1 => None,
                    index => Some(among(index, &choices)?),
                };
                HostQuestion::Choice { caption, message, choices, default }
            }
            HostMethod::PromptForChoiceMultipleSelection => {
                let (caption, message) = texts()?;
                let choices = self.choices()?;
                let given = self.parameters.get(3).and_then(Value::as_list).unwrap_or_default();
                few("defaults", given.len())?;
                let index = |v: &Value| v.as_i64().ok_or(QuestionError::Lacks("default")).and_then(|index| among(index, &choices));
                let defaults = given.iter().map(index).collect::<Result<_, _>>()?;
                HostQuestion::Choices { caption, message, choices, defaults }
            }
            _ => return Ok(None),
        }))
    }

    fn text(&self, index: usize, what: &'static str) -> Result<String, QuestionError> {
        short(what, self.parameters.get(index))
    }

    fn list(&self, what: &'static str) -> Result<&[Value], QuestionError> {
        let items = self.parameters.get(2).and_then(Value::as_list).filter(|items| !items.is_empty()).ok_or(QuestionError::Lacks(what))?;
        few(what, items.len())?;
        Ok(items)
    }

    fn choices(&self) -> Result<Vec<ChoiceDescription>, QuestionError> {
        let choice = |v: &Value| {
            let object = v.as_object().ok_or(QuestionError::Lacks("choices"))?;
            let part = |what, name: &str| short(what, object.property(name));
            Ok(ChoiceDescription { label: part("label", "label")?, help: part("help", "helpMessage")? })
        };
        self.list("choices")?.iter().map(choice).collect()
    }

    fn fields(&self) -> Result<Vec<FieldDescription>, QuestionError> {
        let mut fields: Vec<FieldDescription> = Vec::new();
        for value in self.list("fields")? {
            let object = value.as_object().ok_or(QuestionError::Lacks("fields"))?;
            let part = |what, name: &str| short(what, object.property(name));
            let field = FieldDescription {
                name: part("name", "name")?,
                label: part("label", "label")?,
                help: part("help", "helpMessage")?,
                type_name: part("type", "parameterTypeFullName")?,
                is_mandatory: object.property("isMandatory").and_then(Value::as_bool).unwrap_or(true),
                default: object.property("defaultValue").filter(|v| !v.is_null()).cloned(),
            };
            if field.name.is_empty() {
                return Err(QuestionError::Lacks("name"));
            }
            if fields.iter().any(|before| before.name.eq_ignore_ascii_case(&field.name)) {
                return Err(QuestionError::Twice(field.name));
            }
            fields.push(field);
        }
        Ok(fields)
    }
}

fn few(what: &'static str, count: usize) -> Result<(), QuestionError> {
    if count <= MOST { Ok(()) } else { Err(QuestionError::TooMany { what, count, limit: MOST }) }
}

/// A text, empty where none is given.
fn short(what: &'static str, value: Option<&Value>) -> Result<String, QuestionError> {
    match value {
        None | Some(Value::Null) => Ok(String::new()),
        Some(value) => {
            let text = value.as_str().ok_or(QuestionError::Lacks(what))?;
            let bytes = text.len();
            if bytes <= LONGEST { Ok(text.to_owned()) } else { Err(QuestionError::TooLong { what, bytes, limit: LONGEST }) }
        }
    }
}

fn among(index: i64, choices: &[ChoiceDescription]) -> Result<usize, QuestionError> {
    let found = usize::try_from(index).ok().filter(|index| *index < choices.len());
    found.ok_or(QuestionError::NoSuchChoice { index, count: choices.len() })
}
