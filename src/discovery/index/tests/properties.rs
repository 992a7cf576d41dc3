//! Whatever came before: once everything has been listed again, the state is that of the lists.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::discovery::index::rewrites::{Criticality, RewriteRule, RewriteTarget};

/// Names few enough to meet again, one longer than Kubernetes allows.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[abc]", 1 => Just("n".repeat(300)), 1 => Just(String::new()), 1 => Just("a-rank-0".into())]
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop_oneof![
        3 => Just(pairs(&[("app", "x")])),
        1 => Just(pairs(&[("app", "y")])),
        1 => Just(pairs(&[("app", "x"), ("", "")])),
        1 => Just(BTreeMap::new()),
    ]
}

fn pods() -> impl Strategy<Value = PodState> {
    let addresses = prop_oneof![
        6 => "10\\.0\\.0\\.[1-3]".prop_map(|address| vec![address]),
        1 => Just(vec!["fd00::1".into(), "10.0.0.1".into()]),
        1 => Just(vec![]),
        1 => ".*".prop_map(|text| vec![text]),
    ];
    let annotation =
        prop_oneof![3 => Just(None), 1 => "[0-3, ]{0,5}".prop_map(Some), 1 => ".*".prop_map(Some)];
    (name(), labels(), annotation, addresses, prop::bool::weighted(0.8), 0..3_i64).prop_map(
        |(name, labels, annotation, addresses, ready, started)| {
            let annotations =
                annotation.into_iter().map(|ports| (ACTIVE_PORTS[1].to_owned(), ports)).collect();
            PodState {
                name,
                labels,
                annotations,
                node: String::new(),
                host_address: String::new(),
                addresses,
                ready,
                started,
            }
        },
    )
}

fn pools() -> impl Strategy<Value = Option<PoolSpec>> {
    let ports = prop_oneof![
        4 => prop::collection::vec(0..4_u16, 0..4),
        1 => Just((0..=u16::MAX).rev().collect()),
    ];
    let spec = (labels(), ports).prop_map(|(match_labels, target_ports)| PoolSpec {
        match_labels,
        target_ports,
        picker: None,
    });
    prop::option::weighted(0.8, spec)
}

fn pool_refs() -> impl Strategy<Value = PoolRef> {
    let [name, group] = others();
    prop_oneof![6 => Just(ours()), 1 => Just(name), 1 => Just(group)]
}

fn targets() -> impl Strategy<Value = Vec<RewriteTarget>> {
    let target = (name(), prop::option::of(0..3_u32));
    prop::collection::vec(target.prop_map(|(model, weight)| RewriteTarget { model, weight }), 0..3)
}

fn objectives() -> impl Strategy<Value = Objective> {
    (name(), pool_refs(), any::<Option<i32>>()).prop_map(|(name, pool, priority)| Objective {
        name,
        pool,
        priority,
    })
}

fn rewrites() -> impl Strategy<Value = ModelRewrite> {
    let rule =
        (prop::collection::vec(name(), 0..3), targets()).prop_map(|(models, targets): (Vec<String>, _)| {
            let matches = models.iter().map(|model| model.as_str().into()).collect();
            RewriteRule { matches, targets }
        });
    (name(), pool_refs(), 0..3_i64, prop::collection::vec(rule, 0..3))
        .prop_map(|(name, pool, created, rules)| ModelRewrite { name, pool, created, rules })
}

fn models() -> impl Strategy<Value = InferenceModel> {
    let criticality =
        prop::option::of(prop_oneof![Just(Criticality::Critical), Just(Criticality::Sheddable)]);
    (name(), pool_refs(), 0..3_i64, name(), criticality, targets()).prop_map(
        |(name, pool, created, model_name, criticality, targets)| InferenceModel {
            name,
            pool,
            created,
            model_name,
            criticality,
            targets,
        },
    )
}

fn told<T: Clone + std::fmt::Debug + 'static>(
    object: impl Strategy<Value = T> + Clone + 'static,
) -> impl Strategy<Value = Told<T>> {
    prop_oneof![
        6 => object.clone().prop_map(Told::Apply),
        2 => name().prop_map(Told::Delete),
        1 => prop::collection::vec(object, 0..5).prop_map(Told::Reset),
    ]
}

fn origins() -> impl Strategy<Value = Origin> {
    prop_oneof![Just(Origin::Older), Just(Origin::Newer)]
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => pools().prop_map(Event::Pool),
        6 => told(pods().boxed()).prop_map(Event::Pods),
        1 => (origins(), told(objectives().boxed())).prop_map(|(origin, told)| Event::Objectives(origin, told)),
        1 => (origins(), told(rewrites().boxed())).prop_map(|(origin, told)| Event::Rewrites(origin, told)),
        1 => told(models().boxed()).prop_map(Event::Models),
    ]
}

/// Everything there is, as lists.
fn lists() -> impl Strategy<Value = (Vec<Event>, Vec<PodState>)> {
    let pods = prop::collection::vec(pods(), 0..6);
    let others = (
        pools(),
        prop::collection::vec(objectives(), 0..4),
        prop::collection::vec(rewrites(), 0..4),
        prop::collection::vec(models(), 0..4),
    );
    (pods, others).prop_map(|(pods, (pool, objectives, rewrites, models))| {
        let events = vec![
            Event::Pods(Told::Reset(pods.clone())),
            Event::Pool(pool),
            Event::Objectives(Origin::Older, Told::Reset(objectives)),
            Event::Objectives(Origin::Newer, Told::Reset(vec![])),
            Event::Rewrites(Origin::Older, Told::Reset(rewrites)),
            Event::Rewrites(Origin::Newer, Told::Reset(vec![])),
            Event::Models(Told::Reset(models)),
        ];
        (events, pods)
    })
}

/// What updates led to.
#[derive(Debug, PartialEq)]
struct State {
    endpoints: BTreeMap<String, EndpointMeta>,
    objectives: BTreeMap<String, i32>,
    model_priorities: BTreeMap<String, i32>,
    rewrites: Rewrites,
    synced: bool,
}

/// Tells `events` to a new index, asking for an update after those that `ask` says, and answering wishes for a list of
/// pods with `pods`.
fn play(events: impl IntoIterator<Item = Event>, ask: &[bool], pods: &[PodState]) -> State {
    let mut world = World::new();
    let mut state = State {
        endpoints: BTreeMap::new(),
        objectives: BTreeMap::new(),
        model_priorities: BTreeMap::new(),
        rewrites: Rewrites::default(),
        synced: false,
    };
    let mut take = |world: &mut World| {
        let update = world.update();
        let destinations: BTreeSet<_> =
            world.endpoints.values().map(|meta| (meta.address, meta.port)).collect();
        assert_eq!(destinations.len(), world.endpoints.len(), "a destination is there twice");
        state.objectives = update.objectives.unwrap_or_else(|| std::mem::take(&mut state.objectives));
        let priorities = std::mem::take(&mut state.model_priorities);
        state.model_priorities = update.model_priorities.unwrap_or(priorities);
        state.rewrites = update.rewrites.unwrap_or_else(|| std::mem::take(&mut state.rewrites));
        state.synced = update.synced;
        update.relist_pods
    };
    for (event, ask) in events.into_iter().zip(ask.iter().cycle()) {
        world.index.tell(event);
        if *ask && take(&mut world) {
            world.index.tell(Event::Pods(Told::Reset(pods.to_vec())));
        }
    }
    if take(&mut world) {
        world.index.tell(Event::Pods(Told::Reset(pods.to_vec())));
        take(&mut world);
    }
    State { endpoints: world.endpoints, ..state }
}

proptest! {
    #[test]
    fn lists_of_every_kind_undo_whatever_came_before(
        history in prop::collection::vec(events(), 0..12),
        // Positions in the history: events come twice, late, or never.
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
        ask in prop::collection::vec(any::<bool>(), 1..8),
        (lists, pods) in lists(),
        shuffled in Just((0..7).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let order = if history.is_empty() { Vec::new() } else { order };
        let events = order.iter().map(|at| at.get(&history).clone());
        let events = events.chain(shuffled.iter().map(|&at| lists[at].clone()));
        prop_assert_eq!(play(events, &ask, &pods), play(lists.clone(), &[false], &pods));
    }

    #[test]
    fn what_is_told_again_changes_nothing(history in prop::collection::vec(events(), 0..12), again in events()) {
        let mut world = World::new();
        for event in history.into_iter().chain([again.clone()]) {
            world.tell(event);
        }
        let update = world.tell(again);
        prop_assert_eq!(Update { synced: false, ..update }, Update::default());
    }
}
