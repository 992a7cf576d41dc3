//! The configuration is exchanged while requests pass: nothing fails, nothing that is the same is forgotten.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::envoy::Envoy;
use crate::support::envoy_config::EnvoySetup;
use crate::support::epp::{Epp, EppSetup};
use crate::support::upstream::{Answer, Upstream};
use crate::support::{Protocol, client, eventually};

/// Affinity counts for more than anything else can, whatever `weight` is.
fn config(weight: u32) -> String {
    format!(
        "apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: prefix-cache-scorer
- type: kv-cache-utilization-scorer
schedulingProfiles:
- name: default
  plugins:
  - {{pluginRef: prefix-cache-scorer, weight: {weight}000}}
  - {{pluginRef: kv-cache-utilization-scorer, weight: {weight}}}
"
    )
}

const BAD: &str = "kind: EndpointPickerConfig\nplugins: [{type: prefix-cache-scorr}]\n";

async fn page(epp: &Epp) -> Value {
    serde_json::from_str(&epp.get("/debug/config").await).expect("the page is JSON")
}

/// Puts `text` into the file as an editor does, and has it read at once.
fn edit(epp: &Epp, text: &str) {
    let new = epp.config_file().with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, epp.config_file()).unwrap();
    epp.hang_up();
}

/// Waits until the process has seen the edit that makes the page look like this.
async fn seen(epp: &Epp, what: &str, look: impl Fn(&Value) -> bool) -> Value {
    eventually(what, async || Some(page(epp).await).filter(|page| look(page))).await
}

#[tokio::test]
async fn the_debug_page_says_what_runs_and_why_an_edit_was_refused() {
    let epp = Epp::with(EppSetup { config: config(1), ..EppSetup::new(&[]) }).await;
    let first = page(&epp).await;
    assert_eq!(first["config"]["generation"], 1);
    assert_eq!(first["config"]["source"], epp.config_file().display().to_string());
    assert!(first["config"]["refused"].is_null());
    let effective = first["config"]["effective"].as_str().unwrap();
    assert!(
        effective.contains("    weight: 1000\n") && effective.contains("lruCapacityPerServer"),
        "{effective}"
    );
    let hash = first["config"]["hash"].as_str().unwrap().to_owned();
    assert_eq!(epp.metric(&format!("epp_config_reload_hash{{hash=\"{hash}\"}}")).await, Some(1.0));

    edit(&epp, BAD);
    let refused = seen(&epp, "the bad edit is refused", |page| page["config"]["refused"].is_object()).await;
    let problems = refused["config"]["refused"]["problems"].as_array().unwrap();
    let problem = problems.last().unwrap().as_str().unwrap();
    assert!(
        problem.contains(":2:18: error: unknown plugin type `prefix-cache-scorr`, did you mean"),
        "{problems:?}"
    );
    assert_eq!((&refused["config"]["hash"], &refused["config"]["generation"]), (&hash.into(), &1.into()));
    assert_eq!(epp.metric("epp_config_reload_refused").await, Some(1.0));

    let kv_changed = config(2).replace(
        "kv-cache-utilization-scorer\n",
        "kv-cache-utilization-scorer\n  parameters: {anticipate: false}\n",
    );
    edit(&epp, &kv_changed);
    let after = seen(&epp, "the good edit runs", |page| page["config"]["generation"] != 1).await;
    assert!(after["config"]["refused"].is_null());
    let since = |name: &str| {
        let plugins = after["plugins"].as_array().unwrap();
        plugins.iter().find(|plugin| plugin["name"] == name).unwrap()["since_generation"].clone()
    };
    assert_eq!(since("prefix-cache-scorer"), 1, "unchanged");
    assert_ne!(since("kv-cache-utilization-scorer"), 1, "changed");
}

/// Certificates are to be verified, and there is none to do so by: the pipeline is not exchanged either.
#[tokio::test]
async fn a_reload_whose_data_layer_cannot_be_polled_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (roots, none) = (folder.path().join("roots.pem"), folder.path().join("none"));
    fs::write(&roots, "").unwrap();
    fs::create_dir(&none).unwrap();
    let variable = |name: &str, path: &std::path::Path| (name.to_owned(), path.display().to_string());
    let env = vec![variable("SSL_CERT_FILE", &roots), variable("SSL_CERT_DIR", &none)];
    let epp = Epp::with(EppSetup { config: config(1), env, ..EppSetup::new(&[]) }).await;
    let verified =
        "plugins:\n- type: metrics-data-source\n  parameters: {scheme: https, insecureSkipVerify: false}\n";
    edit(&epp, &config(2).replace("plugins:\n- type: prefix", &format!("{verified}- type: prefix")));
    let page = seen(&epp, "the edit is refused", |page| page["config"]["refused"].is_object()).await;
    let problem = page["config"]["refused"]["problems"][0].as_str().unwrap();
    assert!(problem.contains("expected root certificates in the system's place for them"), "{problem}");
    assert_eq!(page["config"]["generation"], 1);
    assert_eq!(epp.metric("epp_config_reload_total{result=\"ok\"}").await, Some(0.0));
    edit(&epp, &config(3));
    seen(&epp, "the next edit runs", |page| page["config"]["generation"] == 2).await;
}

/// A file that shows what runs is read, and nothing is exchanged.
#[tokio::test]
async fn a_hangup_has_the_file_read_at_once() {
    let epp = Epp::with(EppSetup { config: config(1), ..EppSetup::new(&[]) }).await;
    epp.hang_up();
    let reloads = async || epp.metric("epp_config_reload_total{result=\"ok\"}").await;
    eventually("the file is read again", async || reloads().await.filter(|n| *n > 0.0)).await;
    assert_eq!(page(&epp).await["config"]["generation"], 1);
    assert!(epp.log_lines().iter().any(|line| line["msg"] == "configuration unchanged"));

    edit(&epp, "# nothing\n");
    let page = seen(&epp, "nothing is refused", |page| page["config"]["refused"].is_object()).await;
    let problem = page["config"]["refused"]["problems"][0].as_str().unwrap();
    assert!(problem.ends_with("and refuses a reload, as the file may have been cut"), "{problem}");

    edit(&epp, &config(1));
    let page = seen(&epp, "what runs is there again", |page| page["config"]["refused"].is_null()).await;
    assert_eq!(page["config"]["generation"], 1);
}

/// Warnings are told with the errors, as those of the file that is refused.
#[tokio::test]
async fn warnings_of_a_refused_file_are_not_those_of_what_runs() {
    let epp = Epp::with(EppSetup { config: config(1), ..EppSetup::new(&[]) }).await;
    edit(&epp, BAD);
    let page = seen(&epp, "the bad edit is refused", |page| page["config"]["refused"].is_object()).await;
    let problems = page["config"]["refused"]["problems"].as_array().unwrap();
    let warnings = problems.iter().filter(|line| line.as_str().unwrap().contains(": warning: ")).count();
    assert_eq!((problems.len(), warnings), (2, 1), "{problems:?}");
    let lines = epp.log_lines();
    assert!(lines.iter().all(|line| line["msg"] != "configuration"), "{lines:?}");
}

/// The `n`th edit: of three in turn the last is a bad one. Returns once it was seen.
async fn flip(epp: &Epp, n: u32) {
    match n % 3 {
        2 => {
            edit(epp, &format!("# {n}\n{BAD}"));
            seen(epp, "the bad edit", |page| page["config"]["refused"].is_object()).await;
        }
        weight => {
            let runs = page(epp).await["config"]["generation"].clone();
            edit(epp, &config(weight + 1));
            let new = |page: &Value| page["config"]["generation"] != runs;
            seen(epp, "the good edit", |page| new(page) && page["config"]["refused"].is_null()).await;
        }
    }
}

/// Many clients in a closed loop, and 200 edits: two good versions that differ in weights alone, and a bad one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_under_load_fail_no_request_and_forget_no_prefix() {
    let pods = Upstream::pods(3, &Answer::Echo);
    let addresses: Vec<_> = pods.iter().map(Upstream::addr).collect();
    let epp = Epp::with(EppSetup { config: config(2), ..EppSetup::new(&addresses) }).await;
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    let post = |conversation: u32| {
        let prompt = format!("conversation {conversation} ").repeat(100);
        let body = serde_json::json!({ "model": "m", "prompt": prompt }).to_string();
        (client(Protocol::Http1), envoy.http(), body)
    };
    // Each conversation is known before its hits are counted.
    for conversation in 0..8 {
        let (client, url, body) = post(conversation);
        assert_eq!(client.post(url).body(body).send().await.unwrap().status(), 200);
    }
    let hits = async || {
        let name = "inference_extension_prefix_indexer_hit_ratio";
        let (sum, count) = (format!("{name}_sum"), format!("{name}_count"));
        (epp.metric(&sum).await.unwrap(), epp.metric(&count).await.unwrap())
    };
    let before = hits().await;

    let done = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for conversation in 0..8 {
        let (done, (client, url, body)) = (done.clone(), post(conversation));
        clients.spawn(async move {
            let mut statuses = Vec::new();
            while !done.load(Relaxed) {
                let answer = client.post(&url).body(body.clone()).send().await.unwrap();
                statuses.push(answer.status().as_u16());
                answer.bytes().await.unwrap();
            }
            statuses
        });
    }
    let began = Instant::now();
    for n in 0..50 {
        flip(&epp, n).await;
    }
    let resident = epp.resident_bytes();
    for n in 50..200 {
        flip(&epp, n).await;
    }
    done.store(true, Relaxed);
    let statuses = clients.join_all().await.concat();
    let n = statuses.len();
    println!("{n} requests, {:.0} per second", n as f64 / began.elapsed().as_secs_f64());
    assert!(n > 200 && statuses.iter().all(|status| *status == 200), "{n} requests");
    let after = hits().await;
    let ratio = (after.0 - before.0) / (after.1 - before.1);
    assert!(ratio > 0.999, "every prompt was known, yet the ratio of hits is {ratio}");
    let grown = epp.resident_bytes().saturating_sub(resident);
    assert!(grown < 16 << 20, "grown by {grown} bytes over 150 edits");
    epp.wait_until_idle().await;
    envoy.assert_clean().await;
}
