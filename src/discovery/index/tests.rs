//! Rows 125 to 135 of the table of test vectors; what goes beyond it has names of its own.

mod properties;

use epp_framework::endpoint::EndpointMeta;

use super::endpoints::ACTIVE_PORTS;
use super::rewrites::{RewriteRule, RewriteTarget};
use super::*;

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect()
}

/// The pool `x`.
fn pool(ports: &[u16]) -> Event {
    Event::Pool(Some(PoolSpec {
        match_labels: pairs(&[("app", "x")]),
        target_ports: ports.to_vec(),
        ..PoolSpec::default()
    }))
}

/// A ready pod of the pool `x`.
fn pod(name: &str, address: &str) -> PodState {
    PodState {
        name: name.into(),
        labels: pairs(&[("app", "x"), ("role", "decode")]),
        addresses: vec![address.into()],
        ready: true,
        ..PodState::default()
    }
}

fn ours() -> PoolRef {
    PoolRef { name: "pool".into(), group: "inference.networking.k8s.io".into() }
}

/// References that are not to our pool.
fn others() -> [PoolRef; 2] {
    [PoolRef { name: "other".into(), ..ours() }, PoolRef { group: "other".into(), ..ours() }]
}

/// An index, and the endpoints that its updates led to.
struct World {
    index: PoolIndex,
    endpoints: BTreeMap<String, EndpointMeta>,
}

impl World {
    fn new() -> Self {
        Self { index: PoolIndex::new("ns".into(), ours()), endpoints: BTreeMap::new() }
    }

    /// With the pool `x` of these ports, and all the pods there are.
    fn with(ports: &[u16], pods: Vec<PodState>) -> Self {
        let mut world = Self::new();
        assert!(world.tell(pool(ports)).relist_pods);
        assert!(world.tell(Event::Pods(Told::Reset(pods))).synced);
        world
    }

    fn tell(&mut self, event: Event) -> Update {
        self.index.tell(event);
        self.update()
    }

    fn apply(&mut self, pod: PodState) -> Update {
        self.tell(Event::Pods(Told::Apply(pod)))
    }

    fn update(&mut self) -> Update {
        let update = self.index.update();
        for change in &update.changes {
            match change {
                Change::Upsert(meta) => {
                    let before = self.endpoints.insert(meta.name.clone(), meta.clone());
                    assert_ne!(before.as_ref(), Some(meta), "told twice");
                }
                Change::Remove { name, .. } => {
                    assert!(self.endpoints.remove(name).is_some(), "{name} is not there");
                }
            }
        }
        update
    }

    /// `name=ip:port` of each endpoint, by name.
    fn list(&self) -> Vec<String> {
        let destination = |meta: &EndpointMeta| std::net::SocketAddr::new(meta.address, meta.port);
        self.endpoints.values().map(|meta| format!("{}={}", meta.name, destination(meta))).collect()
    }
}

/// Ways in which a pod cannot serve.
fn unfit(name: &str, address: &str) -> Vec<(&'static str, PodState)> {
    let fit = pod(name, address);
    vec![
        ("not ready", PodState { ready: false, ..fit.clone() }),
        ("other label", PodState { labels: pairs(&[("app", "y")]), ..fit.clone() }),
        ("no label", PodState { labels: BTreeMap::new(), ..fit.clone() }),
        ("no address", PodState { addresses: vec![], ..fit.clone() }),
        ("no usable address", PodState { addresses: vec![String::new(), "0.0.0.0".into()], ..fit }),
    ]
}

#[test]
fn row_125_ready_pods_that_match_are_endpoints() {
    for (name, other) in unfit("b", "10.0.0.2") {
        let world = World::with(&[8000], vec![pod("a", "10.0.0.1"), other]);
        assert_eq!(world.list(), ["a=10.0.0.1:8000"], "{name}");
        assert_eq!(world.endpoints["a"].labels, pairs(&[("app", "x"), ("role", "decode")]), "{name}");
        assert_eq!(world.endpoints["a"].namespace, "ns", "{name}");
    }
}

#[test]
fn an_endpoint_is_on_the_host_of_its_pod() {
    let host = "kubernetes.io/hostname";
    let on_node = PodState { node: "n".into(), host_address: "192.0.2.1".into(), ..pod("a", "10.0.0.1") };
    let mut says_so = PodState { name: "b".into(), addresses: vec!["10.0.0.2".into()], ..on_node.clone() };
    says_so.labels.insert(host.into(), "h".into());
    let world = World::with(&[8000], vec![on_node, says_so]);
    for (name, want) in [("a", "n"), ("b", "h")] {
        let address = ("epp/host-address", "192.0.2.1");
        let want = pairs(&[("app", "x"), ("role", "decode"), (host, want), address]);
        assert_eq!(world.endpoints[name].labels, want, "{name}");
    }
}

#[test]
fn a_pod_does_not_choose_the_address_of_its_host() {
    let label = "epp/host-address";
    for (host_address, want) in [("192.0.2.1", Some("192.0.2.1")), ("", None)] {
        let mut pod = PodState { host_address: host_address.into(), ..pod("a", "10.0.0.1") };
        pod.labels.insert(label.into(), "198.51.100.7".into());
        let world = World::with(&[8000], vec![pod]);
        assert_eq!(world.endpoints["a"].labels.get(label).map(String::as_str), want);
    }
}

#[test]
fn row_126_a_changed_selector_asks_for_a_list_that_drops_pods() {
    let both = PodState { labels: pairs(&[("app", "x"), ("v", "2")]), ..pod("both", "10.0.0.3") };
    let new = PodState { labels: pairs(&[("v", "2")]), ..pod("new", "10.0.0.2") };
    let all = vec![pod("old", "10.0.0.1"), new, both];
    let mut world = World::with(&[8000], all.clone());
    assert_eq!(world.list(), ["both=10.0.0.3:8000", "old=10.0.0.1:8000"]);
    let selector =
        PoolSpec { match_labels: pairs(&[("v", "2")]), target_ports: vec![8000], ..PoolSpec::default() };
    let update = world.tell(Event::Pool(Some(selector)));
    assert!(update.relist_pods && update.synced);
    assert_eq!(world.list(), ["both=10.0.0.3:8000", "old=10.0.0.1:8000"], "until the list is there");
    assert!(!world.update().relist_pods, "said once");
    world.tell(Event::Pods(Told::Reset(all)));
    assert_eq!(world.list(), ["both=10.0.0.3:8000", "new=10.0.0.2:8000"]);
    let ports = PoolSpec { match_labels: pairs(&[("v", "2")]), target_ports: vec![1], ..PoolSpec::default() };
    assert!(!world.tell(Event::Pool(Some(ports))).relist_pods, "other ports take no list");
}

#[test]
fn row_127_a_pool_that_goes_takes_its_endpoints_along() {
    let mut world = World::with(&[8000], vec![pod("a", "10.0.0.1")]);
    let objective = Objective { name: "o".into(), pool: ours(), priority: Some(3) };
    world.tell(Event::Objectives(Origin::Older, Told::Apply(objective)));
    let update = world.tell(Event::Pool(None));
    assert!(!update.synced && !update.relist_pods);
    assert_eq!(update.objectives, None, "they are kept");
    assert!(world.list().is_empty());
    assert_eq!(world.apply(pod("b", "10.0.0.2")), Update::default());
    let update = world.tell(pool(&[8000]));
    assert!(update.relist_pods && !update.synced);
    assert!(world.list().is_empty());
    assert!(world.tell(Event::Pods(Told::Reset(vec![pod("b", "10.0.0.2")]))).synced);
    assert_eq!(world.list(), ["b=10.0.0.2:8000"]);
}

#[test]
fn row_128_a_changed_address_is_an_upsert() {
    let mut world = World::with(&[8000], vec![pod("a", "10.0.0.1")]);
    let update = world.apply(pod("a", "fd00::1"));
    assert!(matches!(&update.changes[..], [Change::Upsert(meta)] if meta.name == "a"), "{update:?}");
    assert_eq!(world.list(), ["a=[fd00::1]:8000"]);
}

#[test]
fn the_first_usable_address_counts() {
    for (addresses, want) in [
        (&["10.0.0.1", "fd00::1"][..], "10.0.0.1:8000"),
        (&["fd00::1", "10.0.0.1"], "[fd00::1]:8000"),
        (&["", "pod.local", "0.0.0.0", "::", "224.0.0.1", "10.0.0.1:80", "10.0.0.1"], "10.0.0.1:8000"),
    ] {
        let addresses = addresses.iter().map(|&address| address.into()).collect();
        let world = World::with(&[8000], vec![PodState { addresses, ..pod("a", "") }]);
        assert_eq!(world.list(), [format!("a={want}")]);
    }
}

#[test]
fn row_129_a_pod_that_no_longer_fits_is_removed() {
    for (name, state) in unfit("a", "10.0.0.1") {
        let mut world = World::with(&[8000], vec![pod("a", "10.0.0.1"), pod("b", "10.0.0.2")]);
        world.apply(state);
        assert_eq!(world.list(), ["b=10.0.0.2:8000"], "{name}");
        world.apply(pod("a", "10.0.0.1"));
        assert_eq!(world.list().len(), 2, "{name}: it may come back");
    }
    let mut world = World::with(&[8000, 8001], vec![pod("a", "10.0.0.1"), pod("b", "10.0.0.2")]);
    world.tell(Event::Pods(Told::Delete("a".into())));
    assert_eq!(world.list(), ["b-rank-0=10.0.0.2:8000", "b-rank-1=10.0.0.2:8001"], "not found");
    assert_eq!(world.tell(Event::Pods(Told::Delete("a".into()))).changes, [], "told twice");
}

#[test]
fn row_130_objectives_of_other_pools_do_not_count() {
    for other in others() {
        let mut world = World::new();
        let mut objectives = |pool| {
            let objective = Objective { name: "o".into(), pool, priority: Some(3) };
            world.tell(Event::Objectives(Origin::Older, Told::Apply(objective))).objectives
        };
        assert_eq!(objectives(other.clone()), None);
        assert_eq!(objectives(ours()), Some(BTreeMap::from([("o".into(), 3)])));
        assert_eq!(objectives(ours()), None, "told twice");
        assert_eq!(objectives(other), Some(BTreeMap::new()));
    }
}

#[test]
fn row_131_the_last_priority_of_a_name_counts() {
    let mut world = World::new();
    let mut tell = |told| world.tell(Event::Objectives(Origin::Older, told)).objectives;
    let objective = |name: &str, priority| Objective { name: name.into(), pool: ours(), priority };
    let want = |list: &[(&str, i32)]| Some(list.iter().map(|&(name, n)| (name.into(), n)).collect());
    let all = vec![objective("a", Some(1)), objective("b", None)];
    assert_eq!(tell(Told::Reset(all.clone())), want(&[("a", 1), ("b", 0)]));
    assert_eq!(tell(Told::Apply(objective("a", Some(-2)))), want(&[("a", -2), ("b", 0)]));
    assert_eq!(tell(Told::Apply(objective("a", None))), want(&[("a", 0), ("b", 0)]));
    assert_eq!(tell(Told::Delete("b".into())), want(&[("a", 0)]));
    assert_eq!(tell(Told::Reset(all)), want(&[("a", 1), ("b", 0)]));
    assert_eq!(tell(Told::Reset(vec![])), want(&[]));
}

#[test]
fn row_132_ports_are_ranks_if_there_are_several() {
    let (one, two, three) = (&[8000][..], &[8000, 8001][..], &[8000, 8001, 8002][..]);
    let rank = |at: u16| format!("a-rank-{at}=10.0.0.1:{}", 8000 + at);
    let plain = "a=10.0.0.1:8000".to_owned();
    for (name, from, to, want) in [
        ("2 to 1", two, one, vec![plain.clone()]),
        ("3 to 1", three, one, vec![plain.clone()]),
        ("1 to 2", one, two, vec![rank(0), rank(1)]),
        ("2 to 3", two, three, vec![rank(0), rank(1), rank(2)]),
        ("3 to 2", three, two, vec![rank(0), rank(1)]),
        ("to none", two, &[], vec![]),
        ("repeated and impossible ones", two, &[0, 8000, 8000, 0], vec![plain]),
    ] {
        let mut world = World::with(from, vec![pod("a", "10.0.0.1")]);
        world.tell(pool(to));
        assert_eq!(world.list(), want, "{name}");
    }
    let many: Vec<u16> = (1..=u16::MAX).collect();
    assert_eq!(World::with(&many, vec![pod("a", "10.0.0.1")]).list().len(), 8);
}

/// Ports of the endpoints of a pod with `annotations`, in a pool of 8000, 8001 and 8002.
fn ports(annotations: &[(&str, &str)]) -> Vec<u16> {
    let annotations = pairs(annotations);
    let world = World::with(&[8000, 8001, 8002], vec![PodState { annotations, ..pod("a", "10.0.0.1") }]);
    for meta in world.endpoints.values() {
        assert_eq!(meta.name, format!("a-rank-{}", meta.port - 8000), "the rank is the place in the pool");
    }
    world.endpoints.values().map(|meta| meta.port).collect()
}

#[test]
fn row_133_an_annotation_restricts_ports() {
    for key in ACTIVE_PORTS {
        for (value, want) in [
            ("8000", &[8000][..]),
            ("8000, 8002", &[8000, 8002]),
            ("", &[]),
            ("abc,-1", &[]),
            ("8001,8001, 8001", &[8001]),
            ("9000,8002,99999999", &[8002]),
            (" , ,", &[]),
        ] {
            assert_eq!(ports(&[(key, value)]), want, "{key}: {value}");
        }
    }
    assert_eq!(ports(&[("inference.networking.k8s.io/other", "8000")]), [8000, 8001, 8002], "absent");
}

#[test]
fn row_134_of_two_annotations_that_of_llm_d_counts() {
    let [newer, older] = ACTIVE_PORTS;
    assert_eq!(newer, "llm-d.ai/active-ports");
    assert_eq!(ports(&[(older, "8000"), (newer, "8001")]), [8001]);
    assert!(ports(&[(older, "8000"), (newer, "")]).is_empty());
}

#[test]
fn objects_of_both_groups_count_and_the_newer_one_first() {
    let mut world = World::new();
    let mut tell = |origin, name: &str, priority| {
        let objective = Objective { name: name.into(), pool: ours(), priority: Some(priority) };
        world.tell(Event::Objectives(origin, Told::Apply(objective))).objectives
    };
    let want = |list: &[(&str, i32)]| Some(list.iter().map(|&(name, n)| (name.into(), n)).collect());
    assert_eq!(tell(Origin::Newer, "a", 1), want(&[("a", 1)]));
    assert_eq!(tell(Origin::Older, "a", 2), want(&[("a", 1)]));
    assert_eq!(tell(Origin::Older, "b", 3), want(&[("a", 1), ("b", 3)]));
    let gone = world.tell(Event::Objectives(Origin::Newer, Told::Reset(vec![])));
    assert_eq!(gone.objectives, want(&[("a", 2), ("b", 3)]));
    for (origin, model, target) in [(Origin::Newer, "m", "x"), (Origin::Older, "n", "y")] {
        let targets = vec![RewriteTarget { model: target.into(), weight: None }];
        let rules = vec![RewriteRule { matches: vec![model.into()], targets }];
        let rewrite = ModelRewrite { name: "same".into(), pool: ours(), created: 1, rules };
        let told = world.tell(Event::Rewrites(origin, Told::Apply(rewrite)));
        assert_eq!(told.rewrites.unwrap().target(model, |_| None, 0.0), Some(target));
    }
    let told = world.tell(Event::Rewrites(Origin::Newer, Told::Delete("same".into()))).rewrites.unwrap();
    assert_eq!((told.target("m", |_| None, 0.0), told.target("n", |_| None, 0.0)), (None, Some("y")));
}

#[test]
fn an_annotation_may_wait_for_the_pool_to_have_its_port() {
    let annotations = pairs(&[(ACTIVE_PORTS[0], "9000")]);
    let mut world = World::with(&[8000], vec![PodState { annotations, ..pod("a", "10.0.0.1") }]);
    assert!(world.list().is_empty());
    world.tell(pool(&[8000, 9000]));
    assert_eq!(world.list(), ["a-rank-1=10.0.0.1:9000"]);
}

#[test]
fn row_135_rewrites_follow_their_objects() {
    let mut world = World::new();
    let rewrite = |target: &str, pool| {
        let targets = vec![RewriteTarget { model: target.into(), weight: None }];
        let rules = vec![RewriteRule { matches: vec!["m".into()], targets }];
        Event::Rewrites(
            Origin::Older,
            Told::Apply(ModelRewrite { name: "r".into(), pool, created: 1, rules }),
        )
    };
    let mut target = |event| {
        let rewrites = world.tell(event).rewrites?;
        Some(rewrites.target("m", |_| None, 0.0).unwrap_or("-").to_owned())
    };
    assert_eq!(target(rewrite("x", ours())).as_deref(), Some("x"));
    assert_eq!(target(rewrite("x", ours())), None, "told twice");
    assert_eq!(target(rewrite("y", ours())).as_deref(), Some("y"), "an update replaces");
    assert_eq!(target(Event::Rewrites(Origin::Older, Told::Delete("r".into()))).as_deref(), Some("-"));
    for other in others() {
        assert_eq!(target(rewrite("x", ours())).as_deref(), Some("x"));
        assert_eq!(target(rewrite("x", other)).as_deref(), Some("-"), "it left for another pool");
    }
}

#[test]
fn an_older_model_of_the_same_name_takes_over_and_gives_back() {
    let mut world = World::new();
    let model = |name: &str, created, target: &str| InferenceModel {
        name: name.into(),
        pool: PoolRef { group: "inference.networking.x-k8s.io".into(), ..ours() },
        created,
        model_name: "m".into(),
        criticality: Some(rewrites::Criticality::Critical),
        targets: vec![RewriteTarget { model: target.into(), weight: Some(1) }],
    };
    let mut target = |told| {
        let update = world.tell(Event::Models(told));
        let rewrites = update.rewrites.expect("models changed");
        let priority = update.model_priorities.expect("models changed").get("m").copied();
        (rewrites.target("m", |_| None, 0.0).map(str::to_owned), priority)
    };
    assert_eq!(target(Told::Apply(model("new", 2, "x"))), (Some("x".into()), Some(1)));
    assert_eq!(target(Told::Apply(model("old", 1, "y"))), (Some("y".into()), Some(1)));
    let away = InferenceModel { pool: PoolRef { name: "other".into(), ..ours() }, ..model("old", 1, "y") };
    assert_eq!(target(Told::Apply(away)), (Some("x".into()), Some(1)));
    assert_eq!(target(Told::Delete("new".into())), (None, None));
}

#[test]
fn of_two_pods_with_one_destination_the_newer_serves() {
    let started = |name, address, started| PodState { started, ..pod(name, address) };
    let (old, new) = (started("z", "10.0.0.1", 1), started("a", "10.0.0.1", 2));
    for pods in [[old.clone(), new.clone()], [new.clone(), old.clone()]] {
        let mut world = World::with(&[8000], vec![]);
        for pod in pods {
            world.apply(pod);
            assert_eq!(world.list().len(), 1);
        }
        assert_eq!(world.list(), ["a=10.0.0.1:8000"]);
        assert_eq!(world.apply(old.clone()).changes, [], "a late event of the old one");
        world.tell(Event::Pods(Told::Delete("z".into())));
        assert_eq!(world.list(), ["a=10.0.0.1:8000"]);
        world.apply(old.clone());
        world.tell(Event::Pods(Told::Delete("a".into())));
        assert_eq!(world.list(), ["z=10.0.0.1:8000"], "it has it back");
    }
    let mut world = World::with(&[8000], vec![started("a", "10.0.0.1", 1), started("b", "10.0.0.1", 1)]);
    assert_eq!(world.list(), ["a=10.0.0.1:8000"], "equally old: by name");
    let port = |name, started, port: &str| PodState {
        annotations: pairs(&[(ACTIVE_PORTS[0], port)]),
        started,
        ..pod(name, "10.0.0.1")
    };
    world.tell(pool(&[8000, 8001]));
    world.tell(Event::Pods(Told::Reset(vec![port("a", 1, "8000,8001"), port("b", 2, "8001")])));
    assert_eq!(world.list(), ["a-rank-0=10.0.0.1:8000", "b-rank-1=10.0.0.1:8001"], "port by port");
}

#[test]
fn pods_that_cannot_serve_are_not_kept() {
    let pods = |i: usize| PodState {
        labels: pairs(&[("app", if i < 12 { "x" } else { "y" })]),
        ..pod(&format!("pod-{i}"), &format!("10.0.{}.{}", i / 256, i % 256))
    };
    let mut world = World::with(&[8000], (0..10_000).map(pods).collect());
    assert_eq!(world.index.pods.by_name().len(), 12);
    for i in 0..10_000 {
        world.index.tell(Event::Pods(Told::Apply(pods(i))));
    }
    assert_eq!(world.index.pods.by_name().len(), 12);
    assert_eq!(world.update().changes, [], "nothing new");
    world.tell(Event::Pool(None));
    assert_eq!(world.index.pods.by_name().len(), 0);
}
