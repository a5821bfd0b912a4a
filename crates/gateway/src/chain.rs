//! Cmdlets behind a pipe: each object that comes is bound, decided, audited and run on its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Wakers, Poll};

use exops_catalogue::{BoundCommand, bind_input};
use exops_psobject::Value;
use exops_runspace::{Ended, Record, RecordStream, Step, StopToken};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;

use crate::session::{Context, QUEUE, SessionLayer, internal_error, receiver_stream};

/// The records of the stages so far. They stop alone (`Select-Object -First` has enough) or with the whole pipeline.
pub(crate) struct Segment {
    pub(crate) records: RecordStream,
    pub(crate) stop: StopToken,
}

impl Segment {
    pub(crate) fn new(records: RecordStream, stop: StopToken, whole: &StopToken) -> Self {
        Self { records: Box::pin(Stopping { records, stop: stop.clone(), whole: whole.clone() }), stop }
    }

    /// Records that are there already.
    pub(crate) fn of_records(records: Vec<Record>, whole: &StopToken) -> Self {
        let steps = records.into_iter().map(Step::Record).chain([Step::Ended(Ended::Completed)]);
        Self::new(Box::pin(stream::iter(steps)), StopToken::new(), whole)
    }

    /// Objects that come until their sender is gone, or until nobody wants them any more.
    pub(crate) fn of_input(input: mpsc::Receiver<Value>, whole: &StopToken) -> Self {
        let stop = StopToken::new();
        let records = stream::unfold(Some((input, stop.clone())), |reading| async move {
            let (mut input, stop) = reading?;
            let value = tokio::select! {
                biased;
                () = stop.stopped() => return Some((Step::Ended(Ended::Stopped), None)),
                value = input.recv() => value,
            };
            Some(match value {
                Some(value) => (Step::Record(Record::Output(value)), Some((input, stop))),
                None => (Step::Ended(Ended::Completed), None),
            })
        });
        Self::new(Box::pin(records), stop, whole)
    }
}

/// Hands the whole pipeline's stop on.
struct Stopping {
    records: RecordStream,
    stop: StopToken,
    whole: StopToken,
}

impl Stream for Stopping {
    type Item = Step;

    fn poll_next(mut self: Pin<&mut Self>, wakers: &mut Wakers<'_>) -> Poll<Option<Step>> {
        if !self.stop.is_stopped() && self.whole.poll_stopped(wakers).is_ready() {
            self.stop.stop();
        }
        self.records.as_mut().poll_next(wakers)
    }
}

/// A cmdlet behind the records of others.
pub(crate) fn each(layer: Arc<SessionLayer>, context: Context, command: BoundCommand, above: Segment, whole: &StopToken) -> Segment {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let stop = StopToken::new();
    let link = Link { layer, context, command, stop: stop.clone(), sender };
    tokio::spawn(async move {
        let end = link.run(above).await;
        let _ = link.sender.send(Step::Ended(end)).await;
    });
    Segment::new(receiver_stream(receiver), stop, whole)
}

struct Link {
    layer: Arc<SessionLayer>,
    context: Context,
    command: BoundCommand,
    stop: StopToken,
    sender: mpsc::Sender<Step>,
}

impl Link {
    async fn run(&self, mut above: Segment) -> Ended {
        // How this cmdlet ended the pipeline, where it did: what still comes from above is dropped then.
        let mut over = None;
        while let Some(step) = above.records.next().await {
            match step {
                Step::Ended(end) => return over.unwrap_or(end),
                Step::Record(_) if over.is_some() => {}
                Step::Record(_) if self.stop.is_stopped() => over = Some(Ended::Stopped),
                Step::Record(Record::Output(value)) => over = self.take(&value).await,
                Step::Record(other) => self.pass(other).await,
            }
            if over.is_some() {
                above.stop.stop();
            }
        }
        Ended::Failed(Box::new(internal_error("the command before this one ended without a result")))
    }

    /// Runs the cmdlet for one object. Answers the end where the pipeline cannot go on.
    async fn take(&self, value: &Value) -> Option<Ended> {
        let started = match bind_input(&self.command, value) {
            Ok(command) => self.layer.start_allowed(&self.context, command, &self.stop).await,
            Err(record) => Err(Ended::Refused(record)),
        };
        let mut records = match started {
            Ok(records) => records,
            Err(Ended::Refused(record)) => {
                self.pass(Record::Error(record)).await;
                return None;
            }
            Err(end) => return Some(end),
        };
        while let Some(step) = records.next().await {
            match step {
                Step::Record(record) => self.pass(record).await,
                Step::Ended(Ended::Completed) => return None,
                Step::Ended(Ended::Refused(record)) => {
                    self.pass(Record::Error(record)).await;
                    return None;
                }
                Step::Ended(end) => return Some(end),
            }
        }
        Some(Ended::Failed(Box::new(internal_error("the command ended without a result"))))
    }

    async fn pass(&self, record: Record) {
        if self.sender.send(Step::Record(record)).await.is_err() {
            self.stop.stop();
        }
    }
}
