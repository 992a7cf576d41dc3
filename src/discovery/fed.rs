//! A pool whose members somebody else in the process knows: [`FedSource`] follows what it is told.

use std::sync::Arc;

use tokio::sync::watch;

use super::file::PoolFile;
use super::list::ListWriter;
use crate::datastore::StoreWriter;
use crate::pool::PoolState;

/// The receiver of a pool's members, as its source. Names and destinations must be unique, as in a file.
pub struct FedSource {
    members: watch::Receiver<Arc<PoolFile>>,
    list: ListWriter,
}

impl FedSource {
    /// Makes the source of `pool`, which knows what it is told now.
    pub fn new(
        mut members: watch::Receiver<Arc<PoolFile>>,
        writer: StoreWriter,
        pool: Arc<PoolState>,
    ) -> Self {
        let mut list = ListWriter::new(writer, pool);
        let first = PoolFile::clone(&members.borrow_and_update());
        list.apply(first);
        Self { members, list }
    }

    /// Follows it for ever; who stops telling leaves the pool as it is.
    pub async fn run(mut self) -> anyhow::Result<()> {
        while self.members.changed().await.is_ok() {
            let next = PoolFile::clone(&self.members.borrow_and_update());
            self.list.apply(next);
        }
        std::future::pending().await
    }
}
