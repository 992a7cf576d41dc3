//! A Kubernetes API that fails, in every way that the double knows: the last known pool serves on, and what happened
//! meanwhile is made up for.

use std::time::Duration;

use super::*;
use crate::support::kube_api::{Delivery, Order};

/// The log's line when the API fails.
const FAILS: &str = "the Kubernetes API fails; what is known serves on";

/// A pool of three servers in a double, and the picker that knows it.
async fn known() -> (KubeApi, Vec<Upstream>, Epp) {
    let api = KubeApi::start_double().await;
    api.define(POOLS).await;
    api.apply(&role(&EVERYTHING)).await;
    let servers = Upstream::pods(3, &Answer::Echo);
    api.apply(&pool(&[servers[0].addr().port()]).to_string()).await;
    apply_pods(&api, "x", &servers[..2]).await;
    let epp = Epp::with(EppSetup::of_pool("p", api.kubeconfig(ACCOUNT))).await;
    endpoints(&epp, &["pod-0", "pod-1"]).await;
    (api, servers, epp)
}

async fn join(api: &KubeApi, servers: &[Upstream], epp: &Epp) {
    api.apply(&pod("pod-2", "x", &servers[2].addr().ip().to_string()).to_string()).await;
    endpoints(epp, &["pod-0", "pod-1", "pod-2"]).await;
}

async fn watched(epp: &Epp, resource: &str, up: bool) {
    let series = format!("epp_kube_watch_up{{resource=\"{resource}\"}}");
    eventually(&format!("{series} {up}"), async || epp.metric(&series).await.filter(|&is| (is > 0.0) == up))
        .await;
}

fn logged(epp: &Epp, message: &str) -> usize {
    epp.log_lines().iter().filter(|line| line["msg"] == message).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_is_down_costs_no_request() {
    let (api, servers, epp) = known().await;
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    api.double().go_down().await;
    watched(&epp, "pods", false).await;
    watched(&epp, POOLS, false).await;
    let got = ask(&envoy, &servers, "m", 50).await;
    assert!(got[0] > 0 && got[1] > 0, "{got:?}");
    assert_eq!(epp.health(PROBE).await, ServingStatus::Serving);
    let age = epp.metric("epp_kube_watch_age_seconds{resource=\"pods\"}").await;
    assert!(age.is_some_and(|age| age > 0.0), "{age:?}");
    eventually("each of the two is told once", async || (logged(&epp, FAILS) == 2).then_some(())).await;
    // What happens meanwhile is found once it is back.
    api.double().take(&pod("pod-0", "x", "127.7.0.1"));
    api.double().come_back();
    endpoints(&epp, &["pod-1"]).await;
    watched(&epp, "pods", true).await;
    assert_eq!(epp.metric("epp_kube_watch_age_seconds{resource=\"pods\"}").await, Some(0.0));
    assert_eq!(logged(&epp, FAILS), 2);
    envoy.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_comes_late_is_waited_for() {
    let api = KubeApi::start_double().await;
    api.define(POOLS).await;
    api.apply(&role(&EVERYTHING)).await;
    api.apply(&pool(&[8000]).to_string()).await;
    api.double().go_down().await;
    let epp = Epp::with(EppSetup::of_pool("p", api.kubeconfig(ACCOUNT))).await;
    eventually("it was asked", async || (logged(&epp, FAILS) > 0).then_some(())).await;
    assert_eq!(epp.health(PROBE).await, ServingStatus::NotServing);
    api.double().come_back();
    healthy(&epp, ServingStatus::Serving).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_are_cut_again_and_again_miss_nothing() {
    let (api, servers, epp) = known().await;
    api.double().cut_watches_every(Some(Duration::from_millis(100)));
    let at = servers[2].addr().ip().to_string();
    for _ in 0..10 {
        join(&api, &servers, &epp).await;
        api.apply(&unready(pod("pod-2", "x", &at)).to_string()).await;
        endpoints(&epp, &["pod-0", "pod-1"]).await;
    }
    assert_eq!(epp.health(PROBE).await, ServingStatus::Serving);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_api_forgot_is_listed_again() {
    let (api, servers, epp) = known().await;
    for _ in 0..3 {
        api.double().compact();
        api.double().take(&pod("pod-0", "x", ""));
        api.double().compact();
        endpoints(&epp, &["pod-1"]).await;
        apply_pods(&api, "x", &servers[..2]).await;
        endpoints(&epp, &["pod-0", "pod-1"]).await;
    }
    join(&api, &servers, &epp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_errors_change_nothing() {
    let (api, servers, epp) = known().await;
    for code in [500, 503, 429, 401, 403, 404] {
        api.double().answer_with(Some(code));
        api.double().cut_watches();
        watched(&epp, "pods", false).await;
        assert_eq!(epp.health(PROBE).await, ServingStatus::Serving, "{code}");
        endpoints(&epp, &["pod-0", "pod-1"]).await;
        api.double().answer_with(None);
        watched(&epp, "pods", true).await;
        watched(&epp, POOLS, true).await;
    }
    join(&api, &servers, &epp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_hangs_costs_no_request() {
    let (api, servers, epp) = known().await;
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    api.double().hang(true);
    api.double().cut_watches();
    api.double().put(pod("pod-2", "x", &servers[2].addr().ip().to_string()));
    assert_eq!(ask(&envoy, &servers, "m", 10).await[2], 0);
    api.double().hang(false);
    endpoints(&epp, &["pod-0", "pod-1", "pod-2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_come_twice_or_in_another_order_converge() {
    let (api, servers, epp) = known().await;
    for (twice, order) in
        [(true, Order::AsItHappened), (false, Order::DeletionsFirst), (true, Order::DeletionsLast)]
    {
        api.double().deliver(Delivery { twice, order });
        for _ in 0..3 {
            join(&api, &servers, &epp).await;
            // In one burst, so that their events meet.
            api.double().put(unready(pod("pod-2", "x", "127.7.0.3")));
            api.double().take(&pod("pod-0", "x", ""));
            api.double().put(pod("pod-3", "x", "127.7.0.4"));
            endpoints(&epp, &["pod-1", "pod-3"]).await;
            api.double().take(&pod("pod-3", "x", ""));
            apply_pods(&api, "x", &servers[..2]).await;
            endpoints(&epp, &["pod-0", "pod-1"]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_pods_of_others_cost_nothing() {
    let api = KubeApi::start_double().await;
    api.define(POOLS).await;
    api.apply(&role(&EVERYTHING)).await;
    for n in 0..10_000 {
        let app = if n % 1000 < 12 && n < 1000 { "x" } else { "y" };
        api.double().put(pod(&format!("pod-{n:05}"), app, &format!("127.8.{}.{}", n / 250, n % 250 + 1)));
    }
    api.apply(&pool(&[8000]).to_string()).await;
    let epp = Epp::with(EppSetup::of_pool("p", api.kubeconfig(ACCOUNT))).await;
    let names: Vec<_> = (0..12).map(|n| format!("pod-{n:05}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    endpoints(&epp, &names).await;
    for n in 1000..2000 {
        api.double().put(unready(pod(&format!("pod-{n:05}"), "y", "127.8.9.9")));
    }
    api.double().take(&pod("pod-00000", "x", ""));
    endpoints(&epp, &names[1..]).await;
    let mib = epp.resident_bytes() >> 20;
    assert!(mib < 100, "{mib} MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_cannot_be_read_costs_no_other() {
    let (api, servers, epp) = known().await;
    let mut odd = pod("pod-odd", "x", "127.7.0.9");
    odd["status"]["conditions"] = json!("ready");
    api.double().put(odd);
    join(&api, &servers, &epp).await;
    let line = "an object cannot be read and does not count";
    let told: Vec<_> = epp.log_lines().into_iter().filter(|told| told["msg"] == line).collect();
    assert_eq!((told.len(), &told[0]["name"], &told[0]["resource"]), (1, &json!("pod-odd"), &json!("pods")));
    // Nor does it when all are listed anew.
    api.double().compact();
    api.double().take(&pod("pod-0", "x", ""));
    api.double().compact();
    endpoints(&epp, &["pod-1", "pod-2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_is_not_there_is_told() {
    let api = KubeApi::start_double().await;
    api.define(POOLS).await;
    api.apply(&role(&EVERYTHING)).await;
    let epp = Epp::with(EppSetup::of_pool("typo", api.kubeconfig(ACCOUNT))).await;
    let line = "there is no such pool; nothing is served until there is";
    eventually("the log says so", async || (logged(&epp, line) > 0).then_some(())).await;
    assert_eq!(epp.health(PROBE).await, ServingStatus::NotServing);
    assert_eq!(
        epp.metric("epp_kube_watch_age_seconds{resource=\"pods\"}").await,
        Some(0.0),
        "no pods to follow"
    );
}
