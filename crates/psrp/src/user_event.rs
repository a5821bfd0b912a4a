use exops_psobject::{DateTime, Value};
use uuid::Uuid;

use crate::notes::{Reader, array_list, object, text};
use crate::{MessageType, ProtocolError};

/// USER_EVENT (MS-PSRP 2.2.2.12): something that a client subscribed to happened in the far runspace.
#[derive(Debug, Clone, PartialEq)]
pub struct UserEvent {
    /// Its number in the session.
    pub identifier: i32,
    /// Name under which the client subscribed.
    pub source: String,
    /// When it happened.
    pub time: DateTime,
    /// Who raised it.
    pub sender: Value,
    /// What belongs to it, in order.
    pub arguments: Vec<Value>,
    /// What the subscriber or the raiser attached.
    pub data: Value,
    /// The computer on which it happened.
    pub computer: String,
    /// The runspace in which it happened.
    pub runspace: Uuid,
}

impl UserEvent {
    pub(crate) fn to_value(&self) -> Value {
        object([
            ("PSEventArgs.EventIdentifier", self.identifier.into()),
            ("PSEventArgs.SourceIdentifier", text(&self.source)),
            ("PSEventArgs.TimeGenerated", Value::DateTime(self.time)),
            ("PSEventArgs.Sender", self.sender.clone()),
            ("PSEventArgs.SourceArgs", array_list(self.arguments.clone())),
            ("PSEventArgs.MessageData", self.data.clone()),
            ("PSEventArgs.ComputerName", text(&self.computer)),
            ("PSEventArgs.RunspaceId", Value::Guid(self.runspace)),
        ])
    }

    /// Only its number must be there: servers fill the rest as they please.
    pub(crate) fn from_value(value: &Value) -> Result<Self, ProtocolError> {
        let reader = Reader::new(MessageType::UserEvent, value)?;
        let field = |name: &str| reader.get(name).cloned().unwrap_or_default();
        let number = reader.number("PSEventArgs.EventIdentifier")?;
        Ok(Self {
            identifier: i32::try_from(number).map_err(|_| reader.lacks("PSEventArgs.EventIdentifier"))?,
            source: field("PSEventArgs.SourceIdentifier").display(),
            time: match field("PSEventArgs.TimeGenerated") {
                Value::DateTime(time) => time,
                _ => DateTime::from_unix_milliseconds(0),
            },
            sender: field("PSEventArgs.Sender"),
            arguments: reader.list("PSEventArgs.SourceArgs").to_vec(),
            data: field("PSEventArgs.MessageData"),
            computer: field("PSEventArgs.ComputerName").display(),
            runspace: match field("PSEventArgs.RunspaceId") {
                Value::Guid(id) => id,
                _ => Uuid::nil(),
            },
        })
    }
}
