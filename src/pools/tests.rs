//! Which pool a call is for, and what becomes of calls, health and metrics while pools come and go.

use prometheus::IntGauge;

use super::*;
use crate::config::DEFAULT_CONFIG;
use crate::config::build;
use crate::config::standing::ConfigStanding;
use crate::datastore::{self, StoreWriter};
use crate::director::Rules;
use crate::ext_proc::{Limits, Options, Shared};
use crate::pipeline::Pipeline;
use crate::pool::PoolParts;

fn served(namespace: &str, name: &str) -> (Arc<Served>, StoreWriter) {
    let (store, writer) = datastore::store();
    let parts = PoolParts {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        store,
        metrics: Arc::new(Metrics::new()),
        staleness: Duration::from_secs(2),
        decision_timeout: Duration::from_secs(1),
        seed: 1,
        emit_scores: false,
    };
    let composition = build::load(DEFAULT_CONFIG, epp_plugins::BUILT_IN).0.unwrap();
    let build = |slots: &_| Pipeline::build(&composition, slots, None);
    let state = Arc::new(PoolState::new(parts, Clock::start(), build));
    let standing = ConfigStanding::new(state.metrics.registry(), "test", "", String::new()).unwrap();
    let director = Arc::new(Director::new(state.clone(), Rules::default()));
    let streams = IntGauge::new("streams", "Streams.").unwrap();
    let shared = Shared::new(streams, watch::channel(false).1, Limits::default(), Options::default());
    let picker = shared.picker(director.clone()).into_server();
    (Arc::new(Served { state, director, standing: Arc::new(standing), picker }), writer)
}

fn pools(several: bool) -> Pools {
    let process = ProcessMetrics::new();
    let choice = if several {
        Choice::by_authority(&process, Arc::new(Metrics::new())).unwrap()
    } else {
        Choice::Only
    };
    Pools::new(choice, process, Clock::start())
}

fn authorities(texts: &[&str]) -> Vec<Authority> {
    texts.iter().map(|text| Authority::parse(text).unwrap()).collect()
}

fn called(text: &str) -> http::Uri {
    format!("http://{text}/envoy.service.ext_proc.v3.ExternalProcessor/Process").parse().unwrap()
}

fn finds(pools: &Pools, text: &str) -> bool {
    pools.picker(&called(text)).is_some()
}

#[test]
fn the_only_pool_takes_every_call_and_its_page_has_no_further_label() {
    let pools = pools(false);
    assert!(!finds(&pools, "whatever"));
    let (pool, _writer) = served("d", "a");
    pool.state.metrics.model("m", "m").count_request(1);
    let alone = pool.state.metrics.render();
    pools.insert(pool, Vec::new()).unwrap();
    assert!(finds(&pools, "whatever:1") && pools.picker(&http::Uri::from_static("/path")).is_some());
    assert!(pools.each_synced().is_none());
    let page = pools.metrics_page();
    assert!(alone.lines().all(|line| page.lines().any(|found| found == line)), "{page}");
    assert!(!page.contains("inference_pool=") && !page.contains("epp_unknown_authorities_total"), "{page}");
}

#[test]
fn calls_find_the_pool_that_they_name_and_no_other() {
    let pools = pools(true);
    let (a, _a) = served("d", "a");
    let (b, _b) = served("e", "b");
    pools.insert(a, authorities(&["picker.d.svc:9002"])).unwrap();
    pools.insert(b, authorities(&["picker.d.svc:9003", "other"])).unwrap();
    for (text, want) in [
        ("picker.d.svc.cluster.local:9002", true),
        ("a.d", true),
        ("b.e:1", true),
        ("other:9002", true),
        ("picker.d:9004", false),
        ("b.d", false),
        ("127.0.0.1:9002", false),
    ] {
        assert_eq!(finds(&pools, text), want, "{text}");
    }
    assert!(pools.picker(&http::Uri::from_static("/path")).is_none());
    let said = pools.unknown(&called("picker.d:9004"));
    let names = "d/a (picker.d:9002, a.d); e/b (picker.d:9003, other, b.e)";
    assert_eq!(said, format!("no pool is called `picker.d:9004`; there are: {names}"));
    assert!(pools.metrics_page().contains("epp_unknown_authorities_total 1\n"));
    let (again, _again) = served("d", "a");
    assert_eq!(pools.insert(again, Vec::new()), Err(PoolsError::Known("d/a".to_owned())));
    let (c, _c) = served("d", "c");
    let taken = pools.insert(c.clone(), authorities(&["other"])).unwrap_err();
    assert_eq!(taken.to_string(), "the pool d/c cannot be called other, which is the pool e/b");
    assert_eq!(pools.all().len(), 2, "what is refused changes nothing");
    assert!(pools.remove("e/b") && !pools.remove("e/b"));
    pools.insert(c, authorities(&["other"])).unwrap();
    assert!(!finds(&pools, "b.e") && finds(&pools, "other") && finds(&pools, "c.d"));
    assert!(finds(&pools, "picker.d:9003"), "the host is of one pool alone again");
}

#[test]
fn services_of_pickers_name_their_pools_unless_several_share_one() {
    let pools = pools(true);
    let (a, _a) = served("d", "a");
    let (b, _b) = served("d", "b");
    pools.insert(a, Vec::new()).unwrap();
    pools.insert(b, Vec::new()).unwrap();
    let service = |name: &str| Authority::of_service(name, "d", Some(9002));
    assert!(!finds(&pools, "epp.d:9002"));
    pools.tell_service("d/a", Some(&service("epp")));
    pools.tell_service("d/gone", Some(&service("epp")));
    assert!(finds(&pools, "epp.d.svc:9002"));
    pools.tell_service("d/b", Some(&service("epp")));
    assert!(!finds(&pools, "epp.d.svc:9002") && finds(&pools, "a.d") && finds(&pools, "b.d"));
    pools.tell_service("d/b", Some(&service("other")));
    assert!(finds(&pools, "epp.d") && finds(&pools, "other.d"));
    pools.tell_service("d/a", None);
    assert!(!finds(&pools, "epp.d"));
}

#[test]
fn all_are_synced_when_each_is() {
    let pools = pools(true);
    let (all, each) = (pools.synced(), pools.each_synced().unwrap());
    let states = || each.borrow().values().copied().collect::<Vec<_>>();
    assert!(!*all.borrow());
    pools.tell_synced();
    assert!(*all.borrow(), "of no pool nothing is missing");
    let (a, mut a_writer) = served("d", "a");
    let (b, mut b_writer) = served("d", "b");
    pools.insert(a, Vec::new()).unwrap();
    pools.insert(b, Vec::new()).unwrap();
    assert_eq!((*all.borrow(), states()), (false, vec![false, false]));
    a_writer.set_synced(true);
    pools.tell_synced();
    assert_eq!((*all.borrow(), states()), (false, vec![true, false]));
    b_writer.set_synced(true);
    pools.tell_synced();
    assert_eq!((*all.borrow(), states()), (true, vec![true, true]));
    b_writer.set_synced(false);
    pools.tell_synced();
    assert!(!*all.borrow());
    pools.remove("d/b");
    assert_eq!((*all.borrow(), states()), (true, vec![true]));
}

#[test]
fn requests_of_no_pool_are_on_the_page_by_their_refusals_alone() {
    let unrouted = Arc::new(Metrics::new());
    let process = ProcessMetrics::new();
    let choice = Choice::by_authority(&process, unrouted.clone()).unwrap();
    let pools = Pools::new(choice, process, Clock::start());
    let (a, _writer) = served("d", "a");
    a.state.metrics.model("", "").count_error("BadRequest");
    pools.insert(a, Vec::new()).unwrap();
    unrouted.model("", "").count_error("BadRequest");
    let page = pools.metrics_page();
    let of = |labels: &str| {
        let series = format!(
            "inference_model_request_error_total{{error_code=\"BadRequest\",{labels}model_name=\"\",target_model_name=\"\"}} 1"
        );
        page.lines().filter(|line| **line == series).count()
    };
    assert_eq!(of(""), 1, "{page}");
    assert_eq!(of("inference_pool=\"a\",inference_pool_namespace=\"d\","), 1, "{page}");
    assert!(!page.contains("inference_model_request_total{model_name"), "{page}");
}
