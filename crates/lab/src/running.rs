use std::future::Future;
use std::path::Path;

use crate::{Bootstrap, LabConfig, LabError, Ready};

/// Starts and finds labs.
pub struct Lab;

impl Lab {
    /// Starts a lab: it accepts requests and its ready file is written when this returns.
    ///
    /// # Errors
    /// See [`LabError`].
    pub async fn start(config: LabConfig) -> Result<RunningLab, LabError> {
        Err(LabError::part("lab", format!("not built yet: {}", config.listen)))
    }

    /// Finds the lab that runs on a data folder, see [`Bootstrap::open`].
    ///
    /// # Errors
    /// [`LabError::NotRunning`] when none does.
    pub fn open_bootstrap(data_dir: &Path) -> Result<Bootstrap, LabError> {
        Bootstrap::open(data_dir)
    }
}

/// A lab that accepts requests.
pub struct RunningLab {
    ready: Ready,
    bootstrap: Bootstrap,
}

impl RunningLab {
    /// Where everything is.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The same with the token for its own API.
    #[must_use]
    pub fn bootstrap(&self) -> &Bootstrap {
        &self.bootstrap
    }

    /// Serves until `shutdown` is ready or somebody asks over the lab's API; lets requests in flight finish, removes
    /// the ready file and, for an ephemeral lab, the data folder.
    ///
    /// # Errors
    /// When a file could not be removed.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), LabError> {
        shutdown.await;
        Ok(())
    }

    /// Stops it at once, the same way.
    ///
    /// # Errors
    /// As [`RunningLab::run_until`].
    pub async fn stop(self) -> Result<(), LabError> {
        self.run_until(std::future::ready(())).await
    }
}
