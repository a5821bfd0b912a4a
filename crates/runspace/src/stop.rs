use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Asks a running pipeline to stop. Clones share one state; asking twice is the same as once.
#[derive(Debug, Clone, Default)]
pub struct StopToken(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    wakers: Vec<Waker>,
}

impl StopToken {
    /// A token that nobody has stopped yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to stop and wakes everyone who waits for it.
    pub fn stop(&self) {
        let wakers = {
            let mut state = self.lock();
            state.stopped = true;
            std::mem::take(&mut state.wakers)
        };
        for waker in wakers {
            waker.wake();
        }
    }

    /// Whether somebody asked.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Ready once somebody asked.
    pub fn poll_stopped(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.stopped {
            return Poll::Ready(());
        }
        if !state.wakers.iter().any(|w| w.will_wake(context.waker())) {
            state.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until somebody asks.
    pub async fn stopped(&self) {
        std::future::poll_fn(|context| self.poll_stopped(context)).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
