//! The pool at one moment, and the part of it that is still in the running.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::attribute::Attributes;
use crate::endpoint::{Endpoint, EndpointId, Freshness, Load};
use crate::lora::LoraAdapters;
use crate::time::Timestamp;

/// The endpoints of a pool at one moment; never changes, a new one is published instead.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Endpoints in a stable order. A position in here is an *index*; it is not the endpoint's slot.
    pub endpoints: Vec<Arc<Endpoint>>,
}

/// What one cycle sees of an endpoint: all plugins see the same, whatever happens meanwhile.
///
/// Two cache lines, of which scorers of load and of prefixes need the first one only.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct EndpointView {
    /// Its identity.
    pub id: EndpointId,
    /// Its load.
    pub load: Load,
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// What is known of it beside.
    pub facts: Facts,
    /// Changes of the endpoint that are in here.
    changes: u64,
}

const _: () = assert!(size_of::<EndpointView>() == 128, "two cache lines");

/// What is known of an endpoint, beside its load.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its labels.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Its LoRA adapters.
    pub lora: Arc<LoraAdapters>,
    /// Its attributes.
    pub attributes: Arc<Attributes>,
}

impl Facts {
    fn of(endpoint: &Endpoint) -> Self {
        let labels = Arc::clone(&endpoint.labels());
        Self { labels, lora: Arc::clone(&endpoint.lora()), attributes: Arc::clone(&endpoint.attributes()) }
    }
}

impl EndpointView {
    /// An endpoint with a load that is given.
    pub fn new(endpoint: Arc<Endpoint>, load: Load) -> Self {
        let (id, changes) = (endpoint.id, endpoint.changes());
        Self { id, load, facts: Facts::of(&endpoint), changes, endpoint }
    }

    /// Looks at an endpoint. Scrapes older than `staleness` count as stale.
    pub fn of(endpoint: Arc<Endpoint>, now: Timestamp, staleness: Duration) -> Self {
        let mut view = Self::new(endpoint, Load::default());
        view.load = view.endpoint.sample(now, staleness);
        view
    }

    /// Looks at the endpoint again, which costs little where nothing changed.
    #[inline]
    pub fn refresh(&mut self, now: Timestamp, staleness: Duration) {
        let changes = self.endpoint.changes();
        let expired = self.load.freshness == Freshness::Fresh && now > self.load.scraped_at.after(staleness);
        if changes != self.changes || expired {
            self.take(changes, now, staleness);
        }
    }

    fn take(&mut self, changes: u64, now: Timestamp, staleness: Duration) {
        self.load = self.endpoint.sample(now, staleness);
        if changes >> 32 != self.changes >> 32 {
            self.facts = Facts::of(&self.endpoint);
        }
        self.changes = changes;
    }
}

/// One endpoint that is still in the running.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Position in [`Cycle::pool`](crate::scheduling::Cycle::pool).
    pub index: u32,
    /// The endpoint. Its load and what else may change are to be read from the other fields.
    pub endpoint: &'a Arc<Endpoint>,
    /// Its identity.
    pub id: EndpointId,
    /// Its load.
    pub load: &'a Load,
    /// What is known of it beside.
    pub facts: &'a Facts,
}

/// The endpoints of a pool that are still in the running, in an order that filters may set.
#[derive(Debug)]
pub struct Candidates<'a> {
    pool: &'a [EndpointView],
    /// The candidates are those from `start` on; below it lies what outer attempts will need again.
    live: &'a mut Vec<u32>,
    start: usize,
}

impl<'a> Candidates<'a> {
    /// Makes the candidates `live` (indices into `pool`).
    pub fn new(pool: &'a [EndpointView], live: &'a mut Vec<u32>) -> Self {
        Self { pool, live, start: 0 }
    }

    /// Number of candidates.
    #[inline]
    pub fn len(&self) -> usize {
        self.live.len() - self.start
    }

    /// Whether nobody is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The candidate at `position`, which must be below [`len`](Self::len).
    #[inline]
    pub fn at(&self, position: usize) -> Candidate<'_> {
        candidate(self.pool, self.live[self.start + position])
    }

    /// The candidates in order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Candidate<'_>> {
        self.live[self.start..].iter().map(|&index| candidate(self.pool, index))
    }

    /// Keeps the candidates for which `keep` holds, in order.
    pub fn retain(&mut self, mut keep: impl FnMut(Candidate<'_>) -> bool) {
        // Most filters keep everybody, most of the time: then nothing is moved.
        let mut stays = |index: u32| keep(candidate(self.pool, index));
        let Some(first) = self.live[self.start..].iter().position(|&index| !stays(index)) else { return };
        let mut kept = self.start + first;
        for at in kept + 1..self.live.len() {
            let index = self.live[at];
            if stays(index) {
                self.live[kept] = index;
                kept += 1;
            }
        }
        self.live.truncate(kept);
    }

    /// Removes everybody.
    pub fn clear(&mut self) {
        self.live.truncate(self.start);
    }

    /// Keeps the candidates for which `rank` is `Some`, in two groups, and of those only the group that `choose` names
    /// once it knows the sizes of the first (`true`) and the second. In order; `rank` is asked once for each.
    pub fn keep_group(
        &mut self,
        mut rank: impl FnMut(Candidate<'_>) -> Option<bool>,
        choose: impl FnOnce(usize, usize) -> bool,
    ) {
        let (end, mut second) = (self.live.len(), self.start);
        for at in self.start..end {
            let index = self.live[at];
            match rank(candidate(self.pool, index)) {
                Some(true) => self.live.push(index),
                Some(false) => {
                    self.live[second] = index;
                    second += 1;
                }
                None => {}
            }
        }
        if choose(self.live.len() - end, second - self.start) {
            self.live.drain(self.start..end);
        } else {
            self.live.truncate(second);
        }
    }

    /// Puts the candidate at `from` in the place of the one at `to`, which comes after it; order in between is kept.
    pub fn promote(&mut self, from: usize, to: usize) {
        self.live[self.start + to..=self.start + from].rotate_right(1);
    }

    /// Keeps the first `n` candidates.
    pub fn truncate(&mut self, n: usize) {
        self.live.truncate(self.start.saturating_add(n));
    }

    /// Lets `filter` try: if it leaves somebody, they are the candidates now; if not, all are as before, and the answer
    /// is `false`.
    pub fn attempt(&mut self, filter: impl FnOnce(&mut Candidates<'_>)) -> bool {
        let (start, end) = (self.start, self.live.len());
        self.live.extend_from_within(start..);
        filter(&mut Candidates { pool: self.pool, live: self.live, start: end });
        let left = self.live.len() > end;
        if left {
            self.live.drain(start..end);
        }
        left
    }
}

#[inline]
fn candidate(pool: &[EndpointView], index: u32) -> Candidate<'_> {
    let EndpointView { endpoint, id, load, facts, .. } = &pool[index as usize];
    Candidate { index, endpoint, id: *id, load, facts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::AttributeValue;
    use crate::endpoint::{Cost, EndpointMeta, FixedMeta, Reservation, ScrapedLoad};
    use crate::slot::SlotNames;

    const SECOND: Duration = Duration::from_secs(1);

    /// Runs `change` on six candidates, and returns the indices that are left.
    fn left(change: impl FnOnce(&mut Candidates<'_>)) -> Vec<u32> {
        let view = |slot| EndpointView::of(endpoint(slot), Timestamp(0), SECOND);
        let (pool, mut live) = ((0..6).map(view).collect::<Vec<_>>(), (0..6).collect());
        let mut candidates = Candidates::new(&pool, &mut live);
        change(&mut candidates);
        let left = candidates.iter().map(|candidate| candidate.index).collect();
        assert_eq!(live, left, "nothing is left beside the candidates");
        left
    }

    fn endpoint(slot: u32) -> Arc<Endpoint> {
        let meta = EndpointMeta {
            name: format!("pod-{slot}"),
            namespace: "default".into(),
            address: [10, 0, 0, 1].into(),
            port: 8000,
            labels: BTreeMap::new(),
        };
        Arc::new(Endpoint::new(EndpointId { slot, generation: 0 }, meta))
    }

    /// What the view says after each change is what a look from scratch says.
    #[test]
    fn a_view_follows_its_endpoint() {
        let endpoint = endpoint(0);
        let names = SlotNames::default();
        let key = names.attribute("p", "a");
        let mut view = EndpointView::of(endpoint.clone(), Timestamp(0), SECOND);
        let mut held = Vec::new();
        let scrape = |waiting, at| {
            let found = ScrapedLoad { waiting: Some(waiting), ..ScrapedLoad::default() };
            endpoint.store_scrape(endpoint.begin_scrape(), &found, Timestamp(at));
        };
        let meta = |label: &str| {
            let FixedMeta { name, namespace, address, port } = endpoint.meta.clone();
            let labels = [("a".to_owned(), label.to_owned())].into();
            EndpointMeta { name, namespace, address, port, labels }
        };
        let cost = Cost { requests: 2, prompt_tokens: 7, output_tokens: 1 };
        let changes: [(&str, u64, &mut dyn FnMut()); 10] = [
            ("a scrape", 5, &mut || scrape(3, 5)),
            ("nothing", 6, &mut || {}),
            ("a reservation", 7, &mut || held.push(Reservation::new(endpoint.clone(), cost))),
            ("labels", 8, &mut || assert!(endpoint.update(&meta("x")))),
            ("adapters", 9, &mut || endpoint.store_lora(LoraAdapters::new(vec!["l".into()], Vec::new(), 2))),
            ("an attribute", 10, &mut || {
                endpoint.store_attributes(&[(key, Some(AttributeValue::Number(1.0)))]);
            }),
            ("time", 1_000_000_006, &mut || {}),
            ("another scrape", 1_000_000_007, &mut || scrape(4, 1_000_000_007)),
            ("a scrape that fails", 1_000_000_008, &mut || endpoint.store_scrape_failing()),
            ("no metrics", 1_000_000_009, &mut || endpoint.store_no_metrics()),
        ];
        for (name, at, change) in changes {
            change();
            view.refresh(Timestamp(at), SECOND);
            let want = EndpointView::of(endpoint.clone(), Timestamp(at), SECOND);
            assert_eq!((&view.load, &*view.facts.labels), (&want.load, &*want.facts.labels), "{name}");
            let [facts, wanted] = [&view, &want].map(|view| (&*view.facts.lora, &*view.facts.attributes));
            assert_eq!(facts, wanted, "{name}");
        }
        assert_eq!(view.load.in_flight.requests, 2);
        drop(held);
        view.refresh(Timestamp(0), SECOND);
        assert_eq!(view.load.in_flight, Cost::default(), "given back");
    }

    #[test]
    fn attempts_that_leave_nobody_change_nothing() {
        let even = |candidates: &mut Candidates<'_>| candidates.retain(|candidate| candidate.index % 2 == 0);
        for (name, nobody, want) in
            [("somebody", false, &[0, 2, 4][..]), ("nobody", true, &[0, 1, 2, 3, 4, 5])]
        {
            let left = left(|candidates| {
                let tried = candidates.attempt(|inner| {
                    even(inner);
                    assert!(
                        !inner.attempt(|innermost| innermost.truncate(0)),
                        "{name}: the inner one changes nothing"
                    );
                    assert_eq!((inner.len(), inner.at(1).index), (3, 2), "{name}");
                    if nobody {
                        inner.clear();
                    }
                });
                assert_eq!(tried, !nobody, "{name}");
            });
            assert_eq!(left, want, "{name}");
        }
    }

    #[test]
    fn one_of_two_groups_is_kept_in_order() {
        let rank = |candidate: Candidate<'_>| match candidate.index {
            0 => None,
            index => Some(index % 2 == 1),
        };
        for (first, want) in [(true, [1, 3, 5].as_slice()), (false, &[2, 4])] {
            let group = |candidates: &mut Candidates<'_>| {
                candidates.keep_group(rank, |n_first, n_second| {
                    assert_eq!((n_first, n_second), (3, 2));
                    first
                });
            };
            assert_eq!(left(group), want);
            assert_eq!(left(|candidates| assert!(candidates.attempt(group))), want, "within an attempt");
        }
    }

    #[test]
    fn candidates_can_be_put_first() {
        let left = left(|candidates| {
            candidates.promote(4, 0);
            candidates.promote(2, 1);
            candidates.truncate(4);
        });
        assert_eq!(left, [4, 1, 0, 2]);
    }
}
