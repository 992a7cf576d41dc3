//! Writes whole lists of a pool's endpoints to its store, one after the other: [`ListWriter`].

use std::sync::Arc;

use epp_framework::endpoint::EndpointMeta;

use super::diff;
use super::file::PoolFile;
use crate::datastore::StoreWriter;
use crate::pool::PoolState;

/// The store of a pool whose source knows lists, not changes.
pub(super) struct ListWriter {
    writer: StoreWriter,
    pool: Arc<PoolState>,
    known: Vec<EndpointMeta>,
}

impl ListWriter {
    /// Nothing is known yet.
    pub(super) fn new(writer: StoreWriter, pool: Arc<PoolState>) -> Self {
        Self { writer, pool, known: Vec::new() }
    }

    /// Has the pool be what the list says.
    pub(super) fn apply(&mut self, list: PoolFile) {
        let changes = diff(&self.known, &list.endpoints);
        self.writer.update_rules(|rules| {
            rules.objectives = list.objectives;
            rules.model_priorities = list.model_priorities;
            rules.rewrites = list.rewrites;
        });
        // Forgetting walks whole indices; other tasks of this thread must not wait for it.
        tokio::task::block_in_place(|| self.writer.apply(changes, |left| self.pool.forget(left)));
        self.writer.set_synced(true);
        self.known = list.endpoints;
    }
}
