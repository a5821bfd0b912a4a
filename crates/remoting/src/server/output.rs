//! What the driver writes: records, ends, and calls of the client's host.

use exops_psobject::Value;
use exops_psrp::{Channel, HostMethod, Output, PipelineEnd, UserEvent, choice_call, read_line_call};
use uuid::Uuid;

use super::ServerSession;

impl ServerSession {
    /// Writes one item of a running pipeline; ignored when it does not run. Errors go into the output when the client
    /// asked for that (`2>&1`).
    pub fn write(&mut self, pipeline: Uuid, output: Output<'_>, _now_ms: u64) {
        self.pool.write(pipeline, output);
        if self.loses_output() {
            self.pool.drop_oldest(self.disconnected_output);
        }
    }

    /// Ends a pipeline; the next waiting one may begin. Only the first call counts.
    pub fn finish(&mut self, pipeline: Uuid, end: &PipelineEnd, _now_ms: u64) {
        self.pool.finish(pipeline, end);
    }

    /// Bytes of a pipeline that wait to be fetched: above a bound of its own, the driver stops pulling from the
    /// runspace until a Receive took some.
    #[must_use]
    pub fn buffered(&self, pipeline: Uuid) -> usize {
        if self.loses_output() {
            return 0;
        }
        self.pool.buffered(Channel::Pipeline(pipeline))
    }

    /// `true` when somebody on the client's side can be asked.
    #[must_use]
    pub fn has_host(&self, pipeline: Uuid) -> bool {
        self.pool.has_ui(pipeline)
    }

    /// Offers `(label, help)` choices on the client's host. The answer comes as [`SessionEvent::HostResponse`](crate::server::SessionEvent::HostResponse) with the id
    /// returned here and the index as its value; `None` when nobody can be asked.
    pub fn prompt_for_choice(
        &mut self,
        pipeline: Uuid,
        caption: &str,
        message: &str,
        choices: &[(&str, &str)],
        default: i32,
    ) -> Option<i64> {
        let (method, parameters) = choice_call(caption, message, choices, default);
        self.call_host(pipeline, method, parameters)
    }

    /// Reads a line on the client's host; as [`prompt_for_choice`](Self::prompt_for_choice), with the line as value.
    pub fn read_line(&mut self, pipeline: Uuid) -> Option<i64> {
        let (method, parameters) = read_line_call();
        self.call_host(pipeline, method, parameters)
    }

    /// Bytes of what the client began to send and has not ended.
    #[must_use]
    pub fn unfinished_bytes(&self) -> usize {
        self.pool.unfinished_bytes()
    }

    /// Tells the client's host something that it gives no answer to: a line to write, the end of an interactive session.
    pub fn tell_host(&mut self, pipeline: Uuid, method: HostMethod, parameters: Vec<Value>) {
        self.pool.tell_host(pipeline, method, parameters);
    }

    /// Calls any method of the client's host that gives an answer.
    pub fn call_host(&mut self, pipeline: Uuid, method: HostMethod, parameters: Vec<Value>) -> Option<i64> {
        self.pool.call_host(pipeline, method, parameters)
    }

    /// Tells the host of the session's client something that it gives no answer to.
    pub fn tell_pool_host(&mut self, method: HostMethod, parameters: Vec<Value>) {
        self.pool.tell_pool_host(method, parameters);
    }

    /// Calls any method of the host of the session's client that gives an answer, whatever runs: it comes as
    /// [`SessionEvent::PoolHostResponse`](super::SessionEvent::PoolHostResponse).
    pub fn call_pool_host(&mut self, method: HostMethod, parameters: Vec<Value>) -> Option<i64> {
        self.pool.call_pool_host(method, parameters)
    }

    /// Tells the client of an event that it subscribed to.
    pub fn raise_event(&mut self, event: &UserEvent) {
        self.pool.raise_event(event);
    }
}
