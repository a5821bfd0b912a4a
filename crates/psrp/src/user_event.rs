use exops_psobject::{DateTime, Value};
use uuid::Uuid;

use crate::notes::{array_list, object, text};

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
}
