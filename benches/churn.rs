//! What decisions wait while pods come and go: 2,000 pods, 50 events a second, told to the index one by one as a
//! Kubernetes API tells them, and written to the store of a pool that decides all the time.
//!
//! Prints, for a quiet pool and one that churns, how long decisions took, and what an event cost. The prefix index holds
//! what was decided, so that endpoints that leave have something to be forgotten. `--seconds` is for each half.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use epp::clock::Clock;
use epp::config::build;
use epp::datastore::{self, StoreWriter};
use epp::director::{Director, Rules};
use epp::discovery::index::endpoints::{PodState, PoolSpec};
use epp::discovery::index::objects::Told;
use epp::discovery::index::rewrites::PoolRef;
use epp::discovery::index::{Event, PoolIndex};
use epp::metrics::Metrics;
use epp::pipeline::Pipeline;
use epp::pool::{PoolParts, PoolState};
use epp::raw_request::RawRequest;
use tokio::time::Instant;

const SEED_CONFIG: &str = include_str!("../config/default-plugins.yaml");

/// Between two decisions: some thousands a second, as a busy picker has.
const PAUSE: Duration = Duration::from_micros(200);

#[derive(Parser)]
struct Args {
    /// Pods of the pool.
    #[arg(long, default_value_t = 2_000)]
    pods: u32,
    /// Events a second.
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// For how long each half is measured.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Cargo says so; it means nothing.
    #[arg(long)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let mut world = World::new(args.pods);
    let length = Duration::from_secs(args.seconds);
    // All memory is used once before anything counts.
    decide_for(&world.pool, Duration::from_secs(1));
    let quiet = decide_for(&world.pool, length);
    let pool = world.pool.clone();
    let (churned, costs) = std::thread::scope(|scope| {
        let decider = scope.spawn(|| decide_for(&pool, length));
        let costs = world.churn(&args, length);
        (decider.join().expect("it does not panic"), costs)
    });
    report("decision, quiet pool", quiet);
    report("decision, pods come and go", churned);
    report("event, from the index to the store", costs);
}

/// Decides until the time is over; how long each took.
fn decide_for(pool: &Arc<PoolState>, length: Duration) -> Vec<Duration> {
    let director = Director::new(pool.clone(), Rules::default());
    let began = Instant::now();
    let mut took = Vec::new();
    while began.elapsed() < length {
        let text = format!("conversation {} ", took.len() % 64).repeat(40);
        let body = Bytes::from(format!(r#"{{"model":"m","prompt":"{text}"}}"#));
        let raw = RawRequest { body: Some(body), ..RawRequest::default() };
        let now = director.now();
        let before = Instant::now();
        black_box(director.decide(raw, now)).map_err(|page| page.code).expect("the pool has endpoints");
        took.push(before.elapsed());
        std::thread::sleep(PAUSE);
    }
    took
}

struct World {
    pool: Arc<PoolState>,
    index: PoolIndex,
    writer: StoreWriter,
}

impl World {
    fn new(pods: u32) -> Self {
        let (store, writer) = datastore::store();
        let parts = PoolParts {
            name: "churn".into(),
            namespace: "default".into(),
            store,
            metrics: Arc::new(Metrics::new()),
            staleness: Duration::from_secs(1),
            decision_timeout: Duration::from_secs(4),
            seed: 7,
            emit_scores: false,
        };
        let composition = build::load(SEED_CONFIG, epp_plugins::BUILT_IN).0.expect("the file is valid");
        let pool = PoolState::new(parts, Clock::start(), |slots| Pipeline::build(&composition, slots, None));
        let pool = Arc::new(pool);
        let index = PoolIndex::new("default".into(), PoolRef { name: "churn".into(), group: "g".into() });
        let mut world = Self { pool, index, writer };
        world.index.tell(Event::Pool(Some(PoolSpec { target_ports: vec![8000], ..PoolSpec::default() })));
        world.index.tell(Event::Pods(Told::Reset((0..pods).map(|n| pod(n, true)).collect())));
        world.apply();
        world
    }

    /// Pods leave and come back, one event at a time.
    fn churn(&mut self, args: &Args, length: Duration) -> Vec<Duration> {
        let (began, gap) = (Instant::now(), Duration::from_secs(1) / args.rate);
        let mut costs = Vec::new();
        for n in 0.. {
            let due = gap * n;
            if due > length {
                break;
            }
            std::thread::sleep(due.saturating_sub(began.elapsed()));
            let before = Instant::now();
            self.index.tell(Event::Pods(Told::Apply(pod(n / 2 % args.pods, n % 2 == 1))));
            self.apply();
            costs.push(before.elapsed());
        }
        costs
    }

    fn apply(&mut self) {
        let changes = self.index.update().changes;
        self.writer.apply(changes, |left| self.pool.forget(left));
    }
}

fn pod(n: u32, ready: bool) -> PodState {
    let [_, _, high, low] = n.to_be_bytes();
    let labels = [("app", "vllm"), ("pod-template-hash", "5d9c7b8f6d"), ("llm-d.ai/role", "decode")];
    PodState {
        name: format!("vllm-llama3-8b-instruct-5d9c7b8f6d-{n:05}"),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        addresses: vec![format!("10.1.{high}.{low}")],
        ready,
        ..PodState::default()
    }
}

#[expect(clippy::print_stdout, reason = "the result")]
fn report(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |mille: usize| took[(took.len() - 1) * mille / 1000].as_secs_f64() * 1e6;
    println!(
        "{what:38} n {:7}  median {:8.1} µs  99 % {:8.1} µs  99.9 % {:8.1} µs  longest {:8.1} µs",
        took.len(),
        at(500),
        at(990),
        at(999),
        at(1000)
    );
}
