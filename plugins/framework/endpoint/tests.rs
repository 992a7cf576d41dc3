//! Endpoints and reservations by themselves.

use super::*;
use crate::attribute::AttributeValue;
use crate::lora::Adapter;
use crate::slot::SlotNames;

fn endpoint() -> Arc<Endpoint> {
    let meta = EndpointMeta {
        name: "a".into(),
        namespace: "default".into(),
        address: "fd00::1".parse().unwrap(),
        port: 8000,
        labels: BTreeMap::new(),
    };
    Arc::new(Endpoint::new(EndpointId { slot: 0, generation: 0 }, meta))
}

const SECOND: Duration = Duration::from_secs(1);
const COST: Cost = Cost { requests: 1, prompt_tokens: 100, output_tokens: 10 };

#[test]
fn ipv6_destinations_are_bracketed() {
    assert_eq!(endpoint().destination, "[fd00::1]:8000");
}

#[test]
fn a_scrape_shows_only_what_was_dispatched_before_it_began() {
    let endpoint = endpoint();
    let before = Reservation::new(endpoint.clone(), COST);
    let mark = endpoint.begin_scrape();
    let during = Reservation::new(endpoint.clone(), COST);
    endpoint.store_scrape(mark, &ScrapedLoad::default(), Timestamp(1));
    let load = endpoint.sample(Timestamp(1), SECOND);
    assert_eq!((load.in_flight.requests, load.since_scrape.requests), (2, 1));
    assert_eq!(load.since_scrape.prompt_tokens, 100);
    drop((before, during));
    let load = endpoint.sample(Timestamp(1), SECOND);
    assert_eq!((load.in_flight, load.since_scrape), (Cost::default(), Unseen::default()));
}

#[test]
fn the_first_token_releases_the_prompt_part_once() {
    let endpoint = endpoint();
    let mut reservation = Reservation::new(endpoint.clone(), COST);
    reservation.first_token();
    reservation.first_token();
    let load = endpoint.sample(Timestamp(0), SECOND);
    assert_eq!(load.in_flight, Cost { requests: 1, prompt_tokens: 0, output_tokens: 10 });
    drop(reservation);
    assert_eq!(endpoint.sample(Timestamp(0), SECOND).in_flight, Cost::default());
}

#[test]
fn freshness_follows_age_and_failures() {
    let endpoint = endpoint();
    let at = |nanos| endpoint.freshness(Timestamp(nanos), SECOND);
    assert_eq!(at(5), Freshness::NeverScraped);
    endpoint.store_scrape_failing();
    assert_eq!(at(5), Freshness::NeverScraped);
    endpoint.store_scrape(endpoint.begin_scrape(), &ScrapedLoad::default(), Timestamp(10));
    assert_eq!(at(1_000_000_010), Freshness::Fresh);
    assert_eq!(at(1_000_000_011), Freshness::Stale);
    endpoint.store_scrape_failing();
    assert_eq!(at(20), Freshness::Stale);
    endpoint.store_scrape(
        endpoint.begin_scrape(),
        &ScrapedLoad { waiting: Some(50), ..ScrapedLoad::default() },
        Timestamp(15),
    );
    endpoint.store_no_metrics();
    assert_eq!(at(20), Freshness::NoMetrics);
    assert_eq!(endpoint.sample(Timestamp(20), SECOND).waiting, 0, "what it said before no longer counts");
}

#[test]
fn adapters_are_counted_once() {
    let endpoint = endpoint();
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let adapters = |running: &[&str], waiting: &[&str]| LoraAdapters::new(names(running), names(waiting), 3);
    endpoint.store_lora(adapters(&["b", "a", "b"], &["c", "b", "a"]));
    assert_eq!(**endpoint.lora(), adapters(&["a", "b"], &["c"]));
    assert!(!endpoint.lora().has_room());
    endpoint.store_lora(adapters(&["b", "a"], &["a", "b"]));
    let lora = endpoint.lora();
    assert!(lora.has_room(), "two of three, not four");
    let [b, c] = ["b", "c"].map(Adapter::named);
    assert_eq!((lora.runs(b), lora.waits(b), lora.runs(c)), (true, false, false));
    endpoint.store_no_metrics();
    assert_eq!(**endpoint.lora(), LoraAdapters::default(), "what it said before no longer counts");
}

#[test]
fn a_page_that_lacks_a_gauge_leaves_its_last_value() {
    let endpoint = endpoint();
    let full = ScrapedLoad {
        waiting: Some(3),
        kv_used: Some(0.5),
        block_size: Some(16),
        num_gpu_blocks: Some(10),
        ..ScrapedLoad::default()
    };
    endpoint.store_scrape(endpoint.begin_scrape(), &full, Timestamp(1));
    endpoint.store_scrape(
        endpoint.begin_scrape(),
        &ScrapedLoad { running: Some(2), ..ScrapedLoad::default() },
        Timestamp(2),
    );
    let load = endpoint.sample(Timestamp(2), SECOND);
    assert_eq!((load.waiting, load.running, load.kv_capacity_tokens), (3, 2, 160));
}

/// A prefill worker has done its part when the first token comes, whoever sends that.
#[test]
fn a_companions_reservation_ends_with_the_first_token() {
    let endpoint = endpoint();
    let in_flight = || endpoint.sample(Timestamp(0), SECOND).in_flight;
    let mut reservation = Reservation::until_first_token(endpoint.clone(), COST);
    assert_eq!(in_flight(), COST);
    reservation.first_token();
    assert_eq!(in_flight(), Cost::default());
    reservation.first_token();
    drop(reservation);
    assert_eq!(in_flight(), Cost::default(), "given back once");
    drop(Reservation::until_first_token(endpoint.clone(), COST));
    assert_eq!(in_flight(), Cost::default(), "an answer that never began");
}

#[test]
fn sources_write_beside_each_other() {
    let endpoint = endpoint();
    let names = SlotNames::default();
    let [a, b] = ["a", "b"].map(|name| names.attribute("p", name));
    let number = |value| Some(AttributeValue::Number(value));
    endpoint.store_attributes(&[(a, number(1.0))]);
    endpoint.store_attributes(&[(b, number(2.0))]);
    let before = endpoint.attributes();
    endpoint.store_attributes(&[(a, number(1.0))]);
    assert!(Arc::ptr_eq(&before, &endpoint.attributes()), "what is the same is not stored");
    endpoint.store_attributes(&[(a, None)]);
    let now = endpoint.attributes();
    assert_eq!((now.number(a), now.number(b), before.number(a)), (None, Some(2.0), Some(1.0)));
}
