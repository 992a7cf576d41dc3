//! The pools that this process picks for, and which of them a call is for: [`Pools`].
//!
//! Each call looks once into an immutable table, without waiting for anybody; pools come and go by a new table. A call
//! that is under way keeps its pool. What makes and runs a pool is elsewhere.

pub mod authority;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use epp_framework::time::Timestamp;
use parking_lot::Mutex;
use prometheus::IntCounter;
use tokio::sync::watch;

use self::authority::{Authorities, Authority};
use crate::clock::Clock;
use crate::config::problem::shown;
use crate::config::standing::ConfigStanding;
use crate::director::Director;
use crate::ext_proc::PickerServer;
use crate::metrics::Metrics;
use crate::metrics::page::page;
use crate::metrics::process::ProcessMetrics;
use crate::pool::PoolState;

/// Least time between two log lines about calls that name no pool.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// Most pools that a text names.
const MAX_NAMED: usize = 20;

/// A pool that is served.
pub struct Served {
    /// The pool.
    pub state: Arc<PoolState>,
    /// What directs its requests.
    pub director: Arc<Director>,
    /// How its configuration stands.
    pub standing: Arc<ConfigStanding>,
    /// What answers its calls.
    pub picker: PickerServer,
}

/// Whom a call is for.
pub enum Choice {
    /// The one pool that there is, whatever the call says.
    Only,
    /// The pool that its authority names.
    ByAuthority {
        /// Where requests are counted that no pool is known of.
        unrouted: Arc<Metrics>,
        /// Counts calls that name no pool.
        unknown: IntCounter,
    },
}

impl Choice {
    /// Makes the latter, and registers its counter.
    pub fn by_authority(process: &ProcessMetrics, unrouted: Arc<Metrics>) -> anyhow::Result<Self> {
        let help = "ext_proc streams whose authority names no pool.";
        let unknown = IntCounter::new("epp_unknown_authorities_total", help)?;
        process.registry().register(Box::new(unknown.clone()))?;
        Ok(Self::ByAuthority { unrouted, unknown })
    }
}

/// The pools.
pub struct Pools {
    choice: Choice,
    /// Families that are there once.
    pub process: ProcessMetrics,
    clock: Clock,
    table: ArcSwap<Table>,
    /// Held while a table is made from the one before.
    changing: Mutex<()>,
    synced: watch::Sender<bool>,
    each_synced: watch::Sender<Arc<BTreeMap<String, bool>>>,
    said_unknown: Mutex<Option<Timestamp>>,
}

/// The pools at one moment.
#[derive(Default)]
struct Table {
    rows: Vec<Row>,
    /// Owners are places in `rows`.
    authorities: Authorities,
}

#[derive(Clone)]
struct Row {
    pool: Arc<Served>,
    /// Beside its own name and namespace.
    authorities: Vec<Authority>,
    /// Its picker's Service, as its discovery tells.
    service: Option<Authority>,
}

/// Why a pool cannot be added.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolsError {
    /// There is one of that name.
    #[error("there is a pool {0} already")]
    Known(String),
    /// Another pool is called so.
    #[error("the pool {pool} cannot be called {authority}, which is the pool {other}")]
    Taken {
        /// The pool.
        pool: String,
        /// What it would be called.
        authority: String,
        /// The pool that is called so.
        other: String,
    },
}

impl Pools {
    /// No pools yet.
    pub fn new(choice: Choice, process: ProcessMetrics, clock: Clock) -> Self {
        Self {
            choice,
            process,
            clock,
            table: ArcSwap::default(),
            changing: Mutex::default(),
            synced: watch::Sender::new(false),
            each_synced: watch::Sender::default(),
            said_unknown: Mutex::default(),
        }
    }

    /// What answers a call to this address; `None` if it names no pool.
    pub fn picker(&self, called: &http::Uri) -> Option<PickerServer> {
        let table = self.table.load();
        let at = match &self.choice {
            Choice::Only => 0,
            Choice::ByAuthority { .. } => table.authorities.owner(called.host()?, called.port_u16())?,
        };
        table.rows.get(at).map(|row| row.pool.picker.clone())
    }

    /// What answers calls to the pool `namespace/name`, if it is still there.
    pub fn picker_of(&self, full_name: &str) -> Option<PickerServer> {
        let table = self.table.load();
        let row = table.rows.iter().find(|row| row.pool.state.full_name() == full_name);
        row.map(|row| row.pool.picker.clone())
    }

    /// Counts a call that names no pool, logs it if none was for a while, and says which pools there are.
    pub fn unknown(&self, called: &http::Uri) -> String {
        let authority = shown(called.authority().map_or("", |authority| authority.as_str()));
        let pools = self.named();
        if let Choice::ByAuthority { unknown, .. } = &self.choice {
            unknown.inc();
        }
        let now = self.clock.now();
        let mut said = self.said_unknown.lock();
        if said.is_none_or(|said| now.since(said) >= SAY_AGAIN) {
            *said = Some(now);
            tracing::warn!(authority, pools, "a call names no pool that there is");
        }
        format!("no pool is called {authority}; there are: {pools}")
    }

    /// The pools with what they are called, as text.
    fn named(&self) -> String {
        let table = self.table.load();
        let named = table.rows.iter().take(MAX_NAMED).map(|row| {
            let state = &row.pool.state;
            let own = Authority::of_service(&state.name, &state.namespace, None);
            let called: Vec<_> =
                row.authorities.iter().chain(&row.service).chain([&own]).map(Authority::to_string).collect();
            format!("{} ({})", state.full_name(), called.join(", "))
        });
        let mut named: Vec<_> = named.collect();
        if table.rows.len() > MAX_NAMED {
            named.push(format!("{} others", table.rows.len() - MAX_NAMED));
        }
        if named.is_empty() { "none".to_owned() } else { named.join("; ") }
    }

    /// Adds a pool, which is called by its own name and namespace and by `authorities`.
    pub fn insert(&self, pool: Arc<Served>, authorities: Vec<Authority>) -> Result<(), PoolsError> {
        {
            let _changing = self.changing.lock();
            let mut rows = self.table.load().rows.clone();
            let name = pool.state.full_name();
            if rows.iter().any(|row| row.pool.state.full_name() == name) {
                return Err(PoolsError::Known(name.to_owned()));
            }
            rows.push(Row { pool, authorities, service: None });
            self.table.store(Arc::new(Table::of(rows)?));
        }
        self.tell_synced();
        Ok(())
    }

    /// Has pools, by `namespace/name`, be called otherwise, all at once. What is theirs then is no other pool's.
    pub fn assign(&self, wanted: &BTreeMap<String, Vec<Authority>>) -> Result<(), PoolsError> {
        let _changing = self.changing.lock();
        let mut rows = self.table.load().rows.clone();
        for row in &mut rows {
            match wanted.get(row.pool.state.full_name()) {
                Some(own) => row.authorities.clone_from(own),
                None => {
                    row.authorities.retain(|known| !wanted.values().flatten().any(|taken| taken == known));
                }
            }
        }
        self.table.store(Arc::new(Table::of(rows)?));
        Ok(())
    }

    /// Removes the pool `namespace/name`; says whether it was there.
    pub fn remove(&self, full_name: &str) -> bool {
        let removed = {
            let _changing = self.changing.lock();
            let mut rows = self.table.load().rows.clone();
            let n_before = rows.len();
            rows.retain(|row| row.pool.state.full_name() != full_name);
            let removed = rows.len() < n_before;
            // What was there before without a conflict has none with one pool less.
            if let (true, Ok(table)) = (removed, Table::of(rows)) {
                self.table.store(Arc::new(table));
            }
            removed
        };
        self.tell_synced();
        removed
    }

    /// Has the pool be called by the Service of its picker, too. What several pools name is none of them's, and logged.
    pub fn tell_service(&self, full_name: &str, service: Option<&Authority>) {
        let _changing = self.changing.lock();
        let mut rows = self.table.load().rows.clone();
        let Some(row) = rows.iter_mut().find(|row| row.pool.state.full_name() == full_name) else { return };
        row.service = service.cloned();
        if let Some(service) = service {
            let others =
                rows.iter().filter(|row| row.calls(service) && row.pool.state.full_name() != full_name);
            let others: Vec<_> = others.map(|row| row.pool.state.full_name()).take(MAX_NAMED).collect();
            if !others.is_empty() {
                let (authority, others) = (service.to_string(), others.join(", "));
                tracing::warn!(
                    pool = full_name,
                    others,
                    authority,
                    "pools share a picker's service and port"
                );
            }
        }
        // Services conflict with nothing.
        if let Ok(table) = Table::of(rows) {
            self.table.store(Arc::new(table));
        }
    }

    /// All pools, in the order in which they came.
    pub fn all(&self) -> Vec<Arc<Served>> {
        self.table.load().rows.iter().map(|row| row.pool.clone()).collect()
    }

    /// Whether all pools are known to their discovery.
    pub fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// Whether each is, by `namespace/name`; `None` where there is but one, by whatever name it is asked for.
    pub fn each_synced(&self) -> Option<watch::Receiver<Arc<BTreeMap<String, bool>>>> {
        matches!(self.choice, Choice::ByAuthority { .. }).then(|| self.each_synced.subscribe())
    }

    /// Looks again which pools are synced; for whoever sees that this changed.
    pub fn tell_synced(&self) {
        let _changing = self.changing.lock();
        let table = self.table.load();
        let state =
            |row: &Row| (row.pool.state.full_name().to_owned(), *row.pool.state.store.synced().borrow());
        let each: BTreeMap<_, _> = table.rows.iter().map(state).collect();
        let all = each.values().all(|&synced| synced);
        self.each_synced.send_replace(Arc::new(each));
        self.synced.send_if_modified(|before| std::mem::replace(before, all) != all);
    }

    /// The metrics page.
    pub fn metrics_page(&self) -> String {
        let pools = self.all();
        let process = (self.process.registry().gather(), None);
        match &self.choice {
            Choice::Only => page(
                [process].into_iter().chain(pools.iter().map(|pool| (pool.state.gather_metrics(), None))),
            ),
            Choice::ByAuthority { unrouted, .. } => {
                let mut refused = unrouted.registry().gather();
                refused.retain(|family| family.name() == "inference_model_request_error_total");
                let pools = pools.iter().map(|pool| {
                    let PoolState { namespace, name, .. } = &*pool.state;
                    (pool.state.gather_metrics(), Some([namespace.as_str(), name.as_str()]))
                });
                page([process, (refused, None)].into_iter().chain(pools))
            }
        }
    }
}

impl Row {
    fn calls(&self, authority: &Authority) -> bool {
        self.service.iter().chain(&self.authorities).any(|known| known == authority)
    }
}

impl Table {
    fn of(rows: Vec<Row>) -> Result<Self, PoolsError> {
        let mut authorities = Authorities::default();
        for (at, row) in rows.iter().enumerate() {
            for authority in &row.authorities {
                authorities.give(authority, at).map_err(|other| PoolsError::Taken {
                    pool: row.pool.state.full_name().to_owned(),
                    authority: authority.to_string(),
                    other: rows[other].pool.state.full_name().to_owned(),
                })?;
            }
        }
        for (at, row) in rows.iter().enumerate() {
            let Some(service) = &row.service else { continue };
            let n_named = rows.iter().filter(|row| row.service.as_ref() == Some(service)).count();
            // What a flag says goes before.
            if n_named > 1 {
                authorities.contest(service);
            } else {
                let _ = authorities.give(service, at);
            }
        }
        for (at, row) in rows.iter().enumerate() {
            let PoolState { namespace, name, .. } = &*row.pool.state;
            authorities.give_if_free(&Authority::of_service(name, namespace, None), at);
        }
        Ok(Self { rows, authorities })
    }
}

#[cfg(test)]
mod tests;
