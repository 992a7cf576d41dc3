//! Several candidates, whose clocks go wrong and whose network loses and delays: never do two lead.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::*;

/// A clock runs up to so many times as fast as another.
const FASTEST: f64 = 1.49;

/// Until then there is trouble; behind it peace, in which somebody must come to lead.
const TROUBLE_S: f64 = 300.0;
const PEACE_S: f64 = 60.0;

#[derive(Debug)]
enum Event {
    Wake,
    /// The request of that number gets to the API: with what, and which version it replaces.
    Arrive(u64, Step, u64),
    /// The answer to the request of that number, and the version that it tells.
    Hear(u64, Answer, u64),
}

struct Node {
    elector: Elector,
    rate: f64,
    offset_s: f64,
    /// The version that the next write replaces.
    version: u64,
    /// The number of the request under way, and when it was sent by this node's clock.
    waiting: Option<(u64, Timestamp)>,
    n_requests: u64,
}

impl Node {
    fn now(&self, time_s: f64) -> Timestamp {
        at(self.offset_s + self.rate * time_s)
    }

    /// How long it is until then by the world's clock.
    fn until_s(&self, then: Timestamp, time_s: f64) -> f64 {
        then.since(self.now(time_s)).as_secs_f64() / self.rate
    }
}

struct World {
    rng: SmallRng,
    time_s: f64,
    nodes: Vec<Node>,
    lease: Option<LeaseSpec>,
    version: u64,
    /// By time in nanoseconds, then by place in `events`.
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    events: Vec<Option<(usize, Event)>>,
    leader: Option<usize>,
    n_hand_overs: usize,
}

impl World {
    fn new(seed: u64, n_nodes: usize) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let nodes = (0..n_nodes).map(|node| Node {
            elector: Elector::new(format!("node_{node}")),
            rate: rng.random_range(1.0..FASTEST),
            offset_s: rng.random_range(0.0..1e6),
            version: 0,
            waiting: None,
            n_requests: 0,
        });
        let mut world = Self {
            nodes: nodes.collect(),
            rng,
            time_s: 0.0,
            lease: None,
            version: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            leader: None,
            n_hand_overs: 0,
        };
        (0..n_nodes).for_each(|node| world.after(0.0, node, Event::Wake));
        world
    }

    fn after(&mut self, seconds: f64, node: usize, event: Event) {
        let then = at(self.time_s + seconds).0;
        self.queue.push(Reverse((then, self.events.len())));
        self.events.push(Some((node, event)));
    }

    /// How long something takes that is usually quick.
    fn delay_s(&mut self) -> f64 {
        let slow = self.time_s < TROUBLE_S && self.rng.random_bool(0.15);
        if slow { self.rng.random_range(0.0..12.0) } else { self.rng.random_range(0.0..0.05) }
    }

    fn is_lost(&mut self, place: usize) -> bool {
        // Now this node is cut off, now that one, for long enough that another takes over.
        let spell = Duration::from_secs_f64(self.time_s).as_secs() / 30 % 3 == place as u64 % 3;
        self.time_s < TROUBLE_S && self.rng.random_bool(if spell { 0.95 } else { 0.05 })
    }

    fn run(&mut self) {
        while let Some(Reverse((then, place))) = self.queue.pop() {
            self.time_s = Duration::from_nanos(then).as_secs_f64();
            if self.time_s > TROUBLE_S + PEACE_S {
                return;
            }
            let (node, event) = self.events[place].take().unwrap();
            match event {
                Event::Wake => self.wake(node),
                Event::Arrive(number, step, version) => {
                    let answer = self.arrive(step, version);
                    self.answer(node, number, answer);
                }
                Event::Hear(number, answer, version) => self.hear(node, number, answer, version),
            }
            let leads = |node: &Node| node.elector.leads(node.now(self.time_s));
            let leaders: Vec<usize> =
                (0..self.nodes.len()).filter(|&place| leads(&self.nodes[place])).collect();
            assert!(leaders.len() <= 1, "{leaders:?} lead at {} s", self.time_s);
            if let Some(&leader) = leaders.first() {
                self.n_hand_overs += usize::from(self.leader.is_some_and(|before| before != leader));
                self.leader = Some(leader);
            }
        }
    }

    /// A step of the node.
    fn wake(&mut self, place: usize) {
        let late_s = self.delay_s();
        let time_s = self.time_s;
        let node = &mut self.nodes[place];
        if node.waiting.is_some() {
            return;
        }
        let now = node.now(time_s);
        let step = node.elector.next(now, &wall(i64::try_from(now.0 / 1_000_000_000).unwrap()));
        if let Step::Wait(until) = step {
            let seconds = node.until_s(until, time_s) + late_s;
            return self.after(seconds, place, Event::Wake);
        }
        node.n_requests += 1;
        let (number, version) = (node.n_requests, node.version);
        node.waiting = Some((number, now));
        let patience_s = node.until_s(node.elector.patience(now), time_s);
        self.after(patience_s, place, Event::Hear(number, Answer::Failed, 0));
        if !self.is_lost(place) {
            let seconds = self.delay_s();
            self.after(seconds, place, Event::Arrive(number, step, version));
        }
    }

    /// The API does what an API does.
    fn arrive(&mut self, step: Step, version: u64) -> Answer {
        match step {
            Step::Create(_) if self.lease.is_some() => Answer::Conflict,
            Step::Write(_) if version != self.version => Answer::Conflict,
            Step::Create(spec) | Step::Write(spec) => {
                self.version += 1;
                self.lease = Some(spec.clone());
                Answer::Written(spec)
            }
            _ => Answer::Read(self.lease.clone()),
        }
    }

    fn answer(&mut self, place: usize, number: u64, answer: Answer) {
        if !self.is_lost(place) {
            let seconds = self.delay_s();
            self.after(seconds, place, Event::Hear(number, answer, self.version));
        }
    }

    fn hear(&mut self, place: usize, number: u64, answer: Answer, version: u64) {
        let chance = self.rng.random();
        let node = &mut self.nodes[place];
        let Some((_, sent)) = node.waiting.take_if(|(waiting, _)| *waiting == number) else { return };
        if !matches!(answer, Answer::Failed | Answer::Conflict) {
            node.version = version;
        }
        let now = node.now(self.time_s);
        node.elector.heard(answer, sent, now, chance);
        self.after(0.0, place, Event::Wake);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_two_lead_and_in_peace_one_does(seed: u64, n_nodes in 1..6_usize) {
        let mut world = World::new(seed, n_nodes);
        world.run();
        let leads = |node: &Node| node.elector.leads(node.now(TROUBLE_S + PEACE_S));
        prop_assert!(world.nodes.iter().any(leads));
    }
}

#[test]
fn the_trouble_is_such_that_the_lease_changes_hands() {
    let hand_overs = (0..20).map(|seed| {
        let mut world = World::new(seed, 3);
        world.run();
        world.n_hand_overs
    });
    let total: usize = hand_overs.sum();
    assert!(total > 40, "{total} in 20 worlds");
}
