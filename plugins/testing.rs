//! A pool to test plugins against: [`Pool`]. Endpoints, loads and one request, and a call for each capability.

use std::collections::BTreeMap;
use std::sync::Arc;

use epp_framework::endpoint::{Endpoint, EndpointId, EndpointMeta, Load};
use epp_framework::lifecycle::{Hook, Producer};
use epp_framework::request::InferenceRequest;
use epp_framework::scheduling::{Commit, Cycle, Decision, Picker, Picks, ProfileRuns, Scorer};
use epp_framework::snapshot::{Candidates, Snapshot};
use epp_framework::time::Timestamp;
use rand::rngs::SmallRng;
use smallvec::smallvec;

/// Endpoints whose slots are their indices, all of them candidates.
pub(crate) struct Pool {
    snapshot: Snapshot,
    loads: Vec<Load>,
    /// The request to place.
    pub(crate) request: InferenceRequest,
    /// Profiles that ran.
    pub(crate) runs: ProfileRuns,
}

impl Pool {
    /// Makes a pool with one endpoint per load.
    pub(crate) fn new(loads: impl IntoIterator<Item = Load>) -> Self {
        let loads: Vec<_> = loads.into_iter().collect();
        let endpoints =
            (0..).zip(&loads).map(|(slot, _)| endpoint(EndpointId { slot, generation: 0 })).collect();
        let (request, runs) = (InferenceRequest::default(), ProfileRuns::new());
        Self { snapshot: Snapshot { endpoints }, loads, request, runs }
    }

    /// Puts another endpoint into the slot of the one at `index`.
    pub(crate) fn replace(&mut self, index: usize) {
        let EndpointId { slot, generation } = self.snapshot.endpoints[index].id;
        self.snapshot.endpoints[index] = endpoint(EndpointId { slot, generation: generation + 1 });
    }

    /// The decision being made.
    pub(crate) fn cycle(&self) -> Cycle<'_> {
        Cycle {
            request: &self.request,
            pool: &self.snapshot,
            loads: &self.loads,
            runs: &self.runs,
            now: Timestamp(0),
        }
    }

    /// One score per endpoint.
    pub(crate) fn score(&self, by: &dyn Scorer) -> Vec<f64> {
        let mut live = self.live();
        let mut scores = vec![f64::NAN; live.len()];
        by.score(&self.cycle(), &Candidates::new(&self.snapshot, &self.loads, &mut live), &mut scores);
        scores
    }

    /// Indices of the picked endpoints.
    pub(crate) fn pick(&self, picker: &dyn Picker, scores: &[f64], rng: &mut SmallRng) -> Vec<u32> {
        let (mut live, mut picks) = (self.live(), Picks::new());
        let candidates = Candidates::new(&self.snapshot, &self.loads, &mut live);
        picker.pick(&self.cycle(), &candidates, scores, rng, &mut picks);
        picks.into_vec()
    }

    /// Lets `producer` work on the request.
    pub(crate) fn produce(&mut self, producer: &dyn Producer) {
        producer.produce(&Hook { now: Timestamp(0), pool: &self.snapshot }, &mut self.request);
    }

    /// Tells `commit` that the request goes to the endpoint at index `to`.
    pub(crate) fn commit(&self, commit: &dyn Commit, to: u32) {
        commit.commit(&self.cycle(), &Decision { primary: 0, targets: smallvec![to] });
    }

    fn live(&self) -> Vec<u32> {
        (0..).zip(&self.loads).map(|(index, _)| index).collect()
    }
}

fn endpoint(id: EndpointId) -> Arc<Endpoint> {
    let meta = EndpointMeta {
        name: format!("pod{}", id.slot + 1),
        namespace: "default".to_owned(),
        address: [10, 0, 0, 1].into(),
        port: 8000,
        labels: BTreeMap::new(),
    };
    Arc::new(Endpoint::new(id, meta))
}

/// Panics unless both have the same length and agree to four digits.
#[track_caller]
pub(crate) fn assert_close(found: &[f64], want: &[f64], name: &str) {
    let close = found.iter().zip(want).all(|(found, want)| (found - want).abs() < 1e-4);
    assert!(close && found.len() == want.len(), "{name}: found {found:?}, want {want:?}");
}
