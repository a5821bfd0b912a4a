//! What a pipeline writes, and its calls of the client's host.

use exops_psobject::Value;
use uuid::Uuid;

use super::{ServerPool, State};
use crate::notes::{array_list, object};
use crate::record::{error_to_value, information_to_value, informational, progress_to_value};
use crate::{HostCall, HostMethod, MessageType, Output, host};

/// The colour that the host writes in anyway.
const HOST_COLOUR: Value = Value::I32(-1);

impl ServerPool {
    /// Writes to a running pipeline; ignored for any other. Warning, verbose, debug and progress records are written
    /// a second time as a host call when the client has a user interface: the records alone are never displayed. Information
    /// for the host is too, as PowerShell's `Write-Host` does it.
    pub fn write(&mut self, id: Uuid, output: Output<'_>) {
        let Some(pipeline) = self.pipelines.get(&id).filter(|p| matches!(p.state, State::Running)) else { return };
        let (merges_errors, has_colours) = (pipeline.merges_errors, pipeline.has_colours);
        match output {
            Output::Object(value) => self.push_pipeline(id, MessageType::PipelineOutput, value),
            Output::Error(record) => {
                let kind = if merges_errors { MessageType::PipelineOutput } else { MessageType::ErrorRecord };
                self.push_pipeline(id, kind, &error_to_value(record));
            }
            Output::Warning(text) => self.write_line(id, MessageType::WarningRecord, HostMethod::WriteWarningLine, text),
            Output::Verbose(text) => self.write_line(id, MessageType::VerboseRecord, HostMethod::WriteVerboseLine, text),
            Output::Debug(text) => self.write_line(id, MessageType::DebugRecord, HostMethod::WriteDebugLine, text),
            Output::Information(record) => {
                self.push_pipeline(id, MessageType::InformationRecord, &information_to_value(record));
                if record.is_for_host() {
                    let line = record.message.display().into();
                    // psrp of pypsrp 1.0.0b1, which has no raw user interface unless somebody writes one, knows no colour of that number.
                    match has_colours {
                        true => self.void_call(id, HostMethod::WriteLine3, vec![HOST_COLOUR, HOST_COLOUR, line]),
                        false => self.void_call(id, HostMethod::WriteLine2, vec![line]),
                    }
                }
            }
            Output::Progress(record) => {
                let value = progress_to_value(record);
                self.push_pipeline(id, MessageType::ProgressRecord, &value);
                self.void_call(id, HostMethod::WriteProgress, vec![Value::I64(0), value]);
            }
        }
    }

    fn write_line(&mut self, id: Uuid, kind: MessageType, method: HostMethod, text: &str) {
        self.push_pipeline(id, kind, &informational(kind, text));
        self.void_call(id, method, vec![text.into()]);
    }

    /// Tells the client's host something that it gives no answer to; ignored where nobody is there or the pipeline does not run.
    pub fn tell_host(&mut self, id: Uuid, method: HostMethod, parameters: Vec<Value>) {
        if self.pipelines.get(&id).is_some_and(|p| matches!(p.state, State::Running)) {
            self.void_call(id, method, parameters);
        }
    }

    fn void_call(&mut self, id: Uuid, method: HostMethod, parameters: Vec<Value>) {
        if self.has_ui(id) {
            let call = object([("ci", host::NO_ANSWER.into()), ("mi", host::method_value(method)), ("mp", array_list(parameters))]);
            self.push_pipeline(id, MessageType::PipelineHostCall, &call);
        }
    }

    /// Calls the client's host; the answer comes as an event with the id returned here. `None` when nobody is there or
    /// the pipeline does not run.
    pub fn call_host(&mut self, id: Uuid, method: HostMethod, parameters: Vec<Value>) -> Option<i64> {
        let call_id = self.next_call;
        let pipeline = self.pipelines.get_mut(&id).filter(|p| p.has_ui && matches!(p.state, State::Running))?;
        let call = HostCall { call_id, method, parameters };
        let value = call.to_value();
        pipeline.calls.insert(call_id, (self.next_object, call));
        self.next_call += 1;
        self.push_pipeline(id, MessageType::PipelineHostCall, &value);
        self.start_next();
        Some(call_id)
    }
}
