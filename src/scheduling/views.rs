//! What decisions see of a pool: [`Views`], kept from one decision to the next.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use epp_framework::changes::ChangeBits;
use epp_framework::endpoint::{Endpoint, Freshness, Load};
use epp_framework::snapshot::{EndpointView, Snapshot};
use epp_framework::time::Timestamp;

use super::Eligibility;

/// The endpoints of a pool, as they were when last looked at.
///
/// Of a pool there may be one that looks again and again ([`look`](Self::look)), as it takes the endpoints' bits; others
/// look [`once`](Self::once).
#[derive(Default)]
pub struct Views {
    pool: Option<Arc<Snapshot>>,
    endpoints: Vec<EndpointView>,
    groups: Vec<Group>,
    staleness: Duration,
    /// How many are of a lower tier than fresh ones.
    n_lower: usize,
    /// The last moment at which no scrape is too old that was not before.
    good_until: Timestamp,
}

/// Endpoints whose bits are in one word.
struct Group {
    bits: Arc<ChangeBits>,
    /// Where each is among the views, [`NOBODY`] for bits of others.
    members: [u32; ChangeBits::MEMBERS as usize],
}

const NOBODY: u32 = u32::MAX;

impl Deref for Views {
    type Target = [EndpointView];

    fn deref(&self) -> &[EndpointView] {
        &self.endpoints
    }
}

impl Views {
    /// Looks at a pool for a single time. Scrapes older than `staleness` count as stale.
    pub fn once(pool: &Snapshot, now: Timestamp, staleness: Duration) -> Self {
        let view = |endpoint: &Arc<Endpoint>| EndpointView::of(endpoint.clone(), now, staleness);
        Self::of(pool.endpoints.iter().map(view).collect())
    }

    /// These, which are not looked at again.
    pub(super) fn of(endpoints: Vec<EndpointView>) -> Self {
        let n_lower = endpoints.iter().filter(|view| tier(&view.load) != Eligibility::Fresh).count();
        Self { endpoints, n_lower, ..Self::default() }
    }

    /// Looks at a pool: at all of an endpoint that is new, at what changed of the others.
    #[inline]
    pub fn look(&mut self, pool: &Arc<Snapshot>, now: Timestamp, staleness: Duration) -> &Self {
        if self.pool.as_ref().is_none_or(|known| !Arc::ptr_eq(known, pool)) {
            self.replace(pool, now, staleness);
        }
        if now > self.good_until || staleness != self.staleness {
            self.refresh_all(now, staleness);
        }
        for group in 0..self.groups.len() {
            let mut bits = self.groups[group].bits.take();
            while bits != 0 {
                let at = self.groups[group].members[bits.trailing_zeros() as usize];
                if at != NOBODY {
                    self.refresh(at as usize, now);
                }
                bits &= bits - 1;
            }
        }
        self
    }

    /// Whether all are fresh.
    #[inline]
    pub(super) fn all_fresh(&self) -> bool {
        self.n_lower == 0
    }

    fn refresh(&mut self, at: usize, now: Timestamp) {
        let view = &mut self.endpoints[at];
        let is_lower = |view: &EndpointView| usize::from(tier(&view.load) != Eligibility::Fresh);
        self.n_lower -= is_lower(view);
        view.refresh(now, self.staleness);
        self.n_lower += is_lower(view);
        self.good_until = self.good_until.min(good_until(view, self.staleness));
    }

    #[cold]
    fn refresh_all(&mut self, now: Timestamp, staleness: Duration) {
        self.staleness = staleness;
        self.n_lower = 0;
        self.good_until = Timestamp(u64::MAX);
        for view in &mut self.endpoints {
            view.refresh(now, staleness);
            self.n_lower += usize::from(tier(&view.load) != Eligibility::Fresh);
            self.good_until = self.good_until.min(good_until(view, staleness));
        }
    }

    #[cold]
    fn replace(&mut self, pool: &Arc<Snapshot>, now: Timestamp, staleness: Duration) {
        self.endpoints.truncate(pool.endpoints.len());
        for (at, endpoint) in pool.endpoints.iter().enumerate() {
            match self.endpoints.get_mut(at) {
                Some(view) if Arc::ptr_eq(&view.endpoint, endpoint) => {}
                Some(view) => *view = EndpointView::of(endpoint.clone(), now, staleness),
                None => self.endpoints.push(EndpointView::of(endpoint.clone(), now, staleness)),
            }
        }
        self.pool = Some(pool.clone());
        self.group();
        self.refresh_all(now, staleness);
    }

    fn group(&mut self) {
        self.groups.clear();
        let mut known: HashMap<*const ChangeBits, usize> = HashMap::new();
        for (at, view) in (0..).zip(&self.endpoints) {
            let (bits, member) = view.endpoint.change_bit();
            let group = *known.entry(Arc::as_ptr(bits)).or_insert_with(|| {
                let members = [NOBODY; ChangeBits::MEMBERS as usize];
                self.groups.push(Group { bits: bits.clone(), members });
                self.groups.len() - 1
            });
            self.groups[group].members[member as usize] = at;
        }
    }
}

/// Which endpoints an endpoint with this load is among.
pub(super) fn tier(load: &Load) -> Eligibility {
    match load.freshness {
        Freshness::Fresh | Freshness::NoMetrics => Eligibility::Fresh,
        Freshness::Stale => Eligibility::Stale,
        Freshness::NeverScraped => Eligibility::NeverScraped,
    }
}

/// The last moment at which the scrape counts as it does now.
fn good_until(view: &EndpointView, staleness: Duration) -> Timestamp {
    match view.load.freshness {
        Freshness::Fresh => view.load.scraped_at.after(staleness),
        _ => Timestamp(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use epp_framework::endpoint::{Cost, EndpointId, EndpointMeta, Reservation, ScrapedLoad};
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const STALENESS: Duration = Duration::from_nanos(50);

    fn endpoint(slot: u32, bits: &Arc<ChangeBits>) -> Arc<Endpoint> {
        let meta = EndpointMeta {
            name: format!("pod-{slot}"),
            namespace: "default".into(),
            address: [10, 0, 0, 1].into(),
            port: 8000,
            labels: BTreeMap::new(),
        };
        Arc::new(Endpoint::sharing(EndpointId { slot, generation: 0 }, meta, bits.clone()))
    }

    /// However endpoints come, go, change and grow stale: what is kept is what a look from scratch sees.
    #[test]
    fn views_follow_their_pool() {
        let mut rng = SmallRng::seed_from_u64(3);
        let words: Vec<_> = (0..3).map(|_| Arc::default()).collect();
        let all: Vec<_> = (0..150).map(|slot| endpoint(slot, &words[slot as usize / 64])).collect();
        let (mut views, mut held) = (Views::default(), Vec::new());
        let mut pool = Arc::new(Snapshot::default());
        let found = ScrapedLoad { waiting: Some(1), ..ScrapedLoad::default() };
        for round in 1..2_000_u64 {
            let now = Timestamp(round);
            if rng.random_ratio(1, 20) {
                let some = |_: &&Arc<Endpoint>| rng.random_ratio(2, 3);
                pool = Arc::new(Snapshot { endpoints: all.iter().filter(some).cloned().collect() });
            }
            for _ in 0..rng.random_range(0..6) {
                let endpoint = &all[rng.random_range(0..all.len())];
                let cost = Cost { requests: 1, ..Cost::default() };
                match rng.random_range(0..4) {
                    0 => held.push(Reservation::new(endpoint.clone(), cost)),
                    1 => drop(held.pop()),
                    2 => endpoint.store_scrape_failing(),
                    _ => endpoint.store_scrape(endpoint.begin_scrape(), &found, now),
                }
            }
            let seen = views.look(&pool, now, STALENESS);
            let fresh = Views::once(&pool, now, STALENESS);
            assert_eq!(seen.len(), fresh.len(), "round {round}");
            for (seen, want) in seen.iter().zip(&*fresh) {
                assert_eq!((seen.id, seen.load), (want.id, want.load), "round {round}");
            }
            assert_eq!(seen.all_fresh(), fresh.all_fresh(), "round {round}");
        }
    }
}
