//! The sources that are polled: a task for each, which has the tasks of its endpoints.
//!
//! Entry points: [`Sources::start`] and [`Sources::stop_others`]. Dropping it stops all.

use std::convert::Infallible;
use std::sync::Arc;

use epp_framework::snapshot::Snapshot;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::source::Prepared;
use crate::data_layer::{DataLayer, Source};

/// Held by what all pollers of a source share, so that its end is the end of the last of them.
pub(super) type Polling = mpsc::Sender<Infallible>;

/// The tasks, by source.
pub(super) struct Sources {
    tasks: JoinSet<()>,
    running: Vec<Running>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

struct Running {
    source: Source,
    task: AbortHandle,
    /// Closed once nothing polls the source any more.
    polling: mpsc::Receiver<Infallible>,
}

impl Sources {
    pub(super) fn new(snapshots: watch::Receiver<Arc<Snapshot>>) -> Self {
        Self { tasks: JoinSet::new(), running: Vec::new(), snapshots }
    }

    pub(super) fn start(&mut self, prepared: Vec<(Source, Prepared)>) {
        for (source, prepared) in prepared {
            let (work, polling) = prepared.run(&self.snapshots);
            let task = self.tasks.spawn(work);
            self.running.push(Running { source, task, polling });
        }
    }

    /// Stops those that `layer` does not have. Once it returns, they leave nothing on endpoints any more.
    pub(super) async fn stop_others(&mut self, layer: &DataLayer) {
        let others = self.running.extract_if(.., |running| !layer.sources.contains(&running.source));
        let mut others: Vec<_> = others.collect();
        for other in &others {
            other.task.abort();
        }
        for other in &mut others {
            // The tasks of its endpoints end after its own does.
            let _ended = other.polling.recv().await;
        }
        while self.tasks.try_join_next().is_some() {}
    }
}
