//! What only the double can do: that each fault is seen by users, and not by the test's own client.

use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, WatchParams};
use kube::core::WatchEvent;

use super::{names, next, pods, refusal, told};
use crate::support::eventually;
use crate::support::kube_api::{ADMIN, Delivery, KubeApi, Order, pod};

/// A double, and its pods as a user sees them.
async fn double() -> (KubeApi, Api<Pod>) {
    let api = KubeApi::start_double().await;
    let pods = pods(api.client_of(ADMIN).await);
    (api, pods)
}

type Watch = futures_util::stream::BoxStream<'static, kube::Result<WatchEvent<Pod>>>;

async fn watch(pods: &Api<Pod>) -> Watch {
    let version = pods.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    pods.watch(&WatchParams::default(), &version).await.unwrap().boxed()
}

/// Reads on until the watch breaks or ends.
async fn broken(watch: &mut Watch) {
    while let Some(Ok(event)) = watch.next().await {
        assert_eq!(told(&event).0, "BOOKMARK");
    }
}

#[tokio::test]
async fn watches_are_cut_once_and_again_and_again() {
    let (api, pods) = double().await;
    let mut open = watch(&pods).await;
    api.double().cut_watches();
    broken(&mut open).await;
    api.double().cut_watches_every(Some(Duration::from_millis(5)));
    for _ in 0..3 {
        broken(&mut watch(&pods).await).await;
    }
    api.double().cut_watches_every(None);
    api.double().put(pod("a", "vllm", "10.0.0.1"));
    let mut open = pods.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    assert_eq!(next(&mut open, 1).await, [("ADDED", "a".to_owned())]);
}

#[tokio::test]
async fn every_answer_is_an_error() {
    let (api, pods) = double().await;
    let mut open = watch(&pods).await;
    for (code, reason) in [(500, "InternalError"), (503, "ServiceUnavailable"), (429, "TooManyRequests")] {
        api.double().answer_with(Some(code));
        let refused = refusal(pods.list(&ListParams::default()).await);
        assert_eq!((refused.code, &*refused.reason), (code, reason));
        api.apply(&pod(&format!("pod-{code}"), "vllm", "10.0.0.1").to_string()).await;
    }
    let told = next(&mut open, 6).await;
    assert!(told.contains(&("MODIFIED", "pod-429".to_owned())), "{told:?}");
    api.double().answer_with(None);
    assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), 3);
}

#[tokio::test]
async fn the_server_goes_down_and_comes_back_where_it_was() {
    let (api, pods) = double().await;
    let mut open = watch(&pods).await;
    for _ in 0..3 {
        api.double().go_down().await;
        broken(&mut open).await;
        assert!(matches!(pods.list(&ListParams::default()).await, Err(kube::Error::Service(_))));
        api.apply(&pod("a", "vllm", "10.0.0.1").to_string()).await;
        api.double().come_back();
        assert_eq!(names(pods.list(&ListParams::default()).await.unwrap()), ["a"]);
        open = watch(&pods).await;
    }
}

#[tokio::test]
async fn a_server_that_hangs_answers_later() {
    let (api, pods) = double().await;
    let mut open = watch(&pods).await;
    api.double().hang(true);
    api.double().put(pod("a", "vllm", "10.0.0.1"));
    let (params, watched) = (ListParams::default(), WatchParams::default());
    let mut list = std::pin::pin!(pods.list(&params));
    let mut again = std::pin::pin!(pods.watch(&watched, "0"));
    let short = Duration::from_millis(30);
    assert!(tokio::time::timeout(short, &mut list).await.is_err());
    assert!(tokio::time::timeout(short, &mut again).await.is_err());
    assert!(tokio::time::timeout(short, next(&mut open, 1)).await.is_err());
    api.double().hang(false);
    assert_eq!(names(list.await.unwrap()), ["a"]);
    assert_eq!(next(&mut open, 1).await, [("ADDED", "a".to_owned())]);
    assert_eq!(next(&mut again.await.unwrap().boxed(), 1).await, [("ADDED", "a".to_owned())]);
}

#[tokio::test]
async fn a_compaction_ends_watches_and_what_they_could_resume() {
    let (api, pods) = double().await;
    api.double().put(pod("a", "vllm", "10.0.0.1"));
    let listed = pods.list(&ListParams::default().limit(1)).await.unwrap();
    let version = listed.metadata.resource_version.unwrap();
    let mut open = pods.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    api.double().compact();
    for _ in 0..2 {
        assert_eq!(next(&mut open, 1).await, [("ERROR", "410".to_owned())]);
        assert!(open.next().await.is_none());
        open = pods.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    }
    let mut fresh = watch(&pods).await;
    api.double().take(&pod("a", "vllm", "10.0.0.1"));
    assert_eq!(next(&mut fresh, 1).await, [("DELETED", "a".to_owned())]);
}

#[tokio::test]
async fn pages_do_not_outlive_a_compaction() {
    let (api, pods) = double().await;
    for name in ["a", "b"] {
        api.double().put(pod(name, "vllm", "10.0.0.1"));
    }
    let mut asked = ListParams::default().limit(1);
    asked.continue_token = pods.list(&asked).await.unwrap().metadata.continue_;
    assert_eq!(names(pods.list(&asked).await.unwrap()), ["b"]);
    api.double().compact();
    let refused = refusal(pods.list(&asked).await);
    assert_eq!((refused.code, &*refused.reason), (410, "Expired"));
}

#[tokio::test]
async fn events_come_twice_and_in_another_order() {
    for (twice, order, want) in [
        (true, Order::AsItHappened, "+b+b-a-a+a+a"),
        (false, Order::DeletionsFirst, "-a+b+a"),
        // The end of the first `a` stays before the beginning of the second.
        (false, Order::DeletionsLast, "+b-a+a"),
    ] {
        let (api, pods) = double().await;
        api.double().put(pod("a", "vllm", "10.0.0.1"));
        let mut open = watch(&pods).await;
        api.double().deliver(Delivery { twice, order });
        // They must fall into the same moment.
        api.double().hang(true);
        api.double().put(pod("b", "vllm", "10.0.0.1"));
        api.double().take(&pod("a", "vllm", "10.0.0.1"));
        api.double().put(pod("a", "vllm", "10.0.0.2"));
        api.double().hang(false);
        let told = next(&mut open, want.len() / 2).await;
        let words =
            told.iter().map(|(word, name)| format!("{}{name}", if *word == "ADDED" { '+' } else { '-' }));
        assert_eq!(words.collect::<String>(), want);
    }
}

#[tokio::test]
async fn a_revoked_token_is_refused() {
    let (api, pods) = double().await;
    pods.list(&ListParams::default()).await.unwrap();
    api.double().revoke(ADMIN);
    assert_eq!(refusal(pods.list(&ListParams::default()).await).code, 401);
}

#[tokio::test]
async fn bookmarks_tell_how_far_a_watch_has_come() {
    let (api, pods) = double().await;
    let mut open = watch(&pods).await;
    // Nothing that is watched, yet the version goes on.
    api.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: other}}").await;
    let version = api.get("v1", "ConfigMap", "other").await.unwrap()["metadata"]["resourceVersion"].clone();
    let event = open.next().await.unwrap().unwrap();
    assert_eq!(told(&event), ("BOOKMARK", version.as_str().unwrap().to_owned()));
}

#[tokio::test]
async fn ten_thousand_pods_are_listed_and_watched() {
    const PODS: usize = 10_000;
    let (api, pods) = double().await;
    let name = |at: usize| pod(&format!("pod-{at:05}"), "vllm", "10.0.0.1");
    for at in 0..PODS {
        api.double().put(name(at));
    }
    let mut asked = ListParams::default().limit(500);
    let mut seen = 0;
    let version = loop {
        let page = pods.list(&asked).await.unwrap();
        seen += page.items.len();
        asked.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if asked.continue_token.is_none() {
            break page.metadata.resource_version.unwrap();
        }
    };
    assert_eq!(seen, PODS);
    let mut open = pods.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    for at in 0..2000 {
        api.double().take(&name(at));
        api.double().put(name(at));
    }
    let last = eventually("all changes are told", async || next(&mut open, 4000).await.pop()).await;
    assert_eq!(last, ("ADDED", "pod-01999".to_owned()));
}
