//! `epp` from start to exit: refusals at the start, health, files that change, drain.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::envoy::Envoy;
use crate::support::envoy_config::EnvoySetup;
use crate::support::epp::{Epp, EppSetup, endpoints_yaml, refused_start};
use crate::support::hermetic::SEED_CONFIG;
use crate::support::upstream::{AfterEvents, Answer, Upstream};
use crate::support::{Protocol, client, eventually};

const BODY: &str = r#"{"model":"m","prompt":"a"}"#;

/// An event as the upstream frames it.
fn frame(event: &str) -> String {
    format!("data: {event}\n\n")
}

/// The pace of a model that writes.
async fn tick() {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    ticks.tick().await;
    ticks.tick().await;
}

async fn post(envoy: &Envoy) -> reqwest::Response {
    client(Protocol::Http1).post(envoy.http()).body(BODY).send().await.expect("Envoy answers")
}

/// Row 144 of the functional specification, without leader election: one answer for every service name.
#[tokio::test]
async fn row_144_every_service_name_has_the_pools_health() {
    let epp = Epp::start(&[]).await;
    for service in ["", "liveness", "readiness", "inference-extension", "unknown"] {
        assert_eq!(epp.health(service).await, ServingStatus::Serving, "{service:?}");
    }
}

#[tokio::test]
async fn sigterm_says_not_serving_lets_streams_end_and_exits_with_0() {
    let event = r#"{"choices":[]}"#.to_owned();
    let upstream = Upstream::start(Answer::Sse { events: vec![event.clone()], then: AfterEvents::Hold });
    let args = vec!["--drain-timeout".to_owned(), "4s".to_owned()];
    let mut epp = Epp::with(EppSetup { args, ..EppSetup::new(&[upstream.addr()]) }).await;
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    let mut open = post(&envoy).await;
    assert!(open.chunk().await.unwrap().is_some());
    epp.terminate();
    eventually("health says NOT_SERVING", async || {
        (epp.health("readiness").await == ServingStatus::NotServing).then_some(())
    })
    .await;
    // The gateway needs a moment to notice; until then it loses nothing.
    upstream.answer(Answer::Echo);
    assert_eq!(post(&envoy).await.text().await.unwrap(), BODY);
    upstream.kill();
    while let Ok(Some(_)) = open.chunk().await {}
    assert_eq!(epp.ended().await.code(), Some(0));
    envoy.assert_clean().await;
}

#[tokio::test]
async fn a_stream_that_goes_on_long_after_sigterm_loses_no_byte() {
    let drain_timeout = Duration::from_secs(12);
    // After a quarter of it and a second, nothing but the stream keeps epp from ending.
    let long = drain_timeout / 4 + Duration::from_secs(2);
    let (feed, events) = watch::channel(vec!["0".to_owned()]);
    let upstream = Upstream::start(Answer::Follow(events));
    let args = vec!["--drain-timeout".to_owned(), "12s".to_owned()];
    let setup = EppSetup { secure: true, args, ..EppSetup::new(&[upstream.addr()]) };
    let mut epp = Epp::with(setup).await;
    let envoy = Envoy::start(EnvoySetup { epp_tls: true, ..EnvoySetup::new(epp.ext_proc) }).await;
    let mut answer = post(&envoy).await;
    let mut arrived = answer.chunk().await.unwrap().expect("the stream is open").to_vec();

    epp.terminate();
    let terminated = Instant::now();
    eventually("health says NOT_SERVING", async || {
        (epp.health("").await == ServingStatus::NotServing).then_some(())
    })
    .await;
    assert!(terminated.elapsed() < drain_timeout / 4, "at once, not after the drain");
    let mut n_events = 1;
    while terminated.elapsed() < long {
        // The events come when the test has read the one before, as slowly as a model writes.
        feed.send_modify(|events| events.push(format!("{n_events} {}", "x".repeat(1000))));
        n_events += 1;
        let whole: usize = feed.borrow().iter().map(|event| frame(event).len()).sum();
        while arrived.len() < whole {
            arrived.extend_from_slice(&answer.chunk().await.unwrap().expect("the stream is open"));
        }
        tick().await;
    }
    assert_eq!(epp.health("").await, ServingStatus::NotServing);
    let whole: String = feed.borrow().iter().map(|event| frame(event)).collect();
    drop(feed);
    while let Some(rest) = answer.chunk().await.expect("it ends in order") {
        arrived.extend_from_slice(&rest);
    }
    assert_eq!(String::from_utf8(arrived).unwrap(), whole);
    assert_eq!(epp.ended().await.code(), Some(0));
    envoy.assert_clean().await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_with_1() {
    let upstream = Upstream::start(Answer::Sse { events: vec!["0".to_owned()], then: AfterEvents::Hold });
    let mut epp = Epp::start(&[upstream.addr()]).await;
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    let mut open = post(&envoy).await;
    assert!(open.chunk().await.unwrap().is_some());
    epp.terminate();
    eventually("it drains", async || epp.log().contains("\"draining\"").then_some(())).await;
    let second = Instant::now();
    epp.terminate();
    assert_eq!(epp.ended().await.code(), Some(1));
    assert!(second.elapsed() < Duration::from_secs(8), "the drain would have taken ten at least");
}

#[tokio::test]
async fn without_open_streams_nothing_is_cut() {
    let args = vec!["--drain-timeout=0s".to_owned()];
    let mut epp = Epp::with(EppSetup { args, ..EppSetup::new(&[]) }).await;
    epp.terminate();
    assert_eq!(epp.ended().await.code(), Some(0));
    assert!(epp.log().contains("\"stopped\"") && !epp.log().contains("are cut"), "{}", epp.log());
}

#[tokio::test]
async fn streams_that_outlast_the_drain_are_cut_with_an_error_never_with_ok() {
    let event = r#"{"choices":[]}"#.to_owned();
    let upstream = Upstream::start(Answer::Sse { events: vec![event], then: AfterEvents::Hold });
    let args = vec!["--drain-timeout".to_owned(), "100ms".to_owned()];
    let mut epp = Epp::with(EppSetup { args, ..EppSetup::new(&[upstream.addr()]) }).await;
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    let mut open = post(&envoy).await;
    assert!(open.chunk().await.unwrap().is_some());
    epp.terminate();
    assert_eq!(epp.ended().await.code(), Some(0));
    assert!(epp.log().contains("open streams are cut"), "{}", epp.log());
    while let Ok(Some(_)) = open.chunk().await {}
    assert_eq!(envoy.stat("http.it.ext_proc.streams_failed").await, 1, "Envoy saw an error");
}

#[tokio::test]
async fn a_pool_without_metrics_serves_at_once_evenly_with_one_log_line_per_endpoint() {
    let upstreams: Vec<Upstream> = (0..3).map(|_| Upstream::start(Answer::Echo)).collect();
    let members: Vec<SocketAddr> = upstreams.iter().map(Upstream::addr).collect();
    let epp = Epp::start(&members).await;
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    for n in 0..300 {
        let body = format!(r#"{{"model":"m","prompt":"{n}"}}"#);
        let answer = client(Protocol::Http1).post(envoy.http()).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let shares: Vec<usize> = upstreams.iter().map(|upstream| upstream.received().len()).collect();
    // Ties are broken at random: 300 fair draws of three fall outside of 60 to 140 once in ten million runs.
    assert!(shares.iter().all(|share| (60..=140).contains(share)), "{shares:?}");
    for member in &members {
        let about = |line: &&Value| {
            line["logger"] == "epp.scrape"
                && line["endpoint"].as_str().is_some_and(|endpoint| endpoint.ends_with(&member.to_string()))
        };
        let lines: Vec<Value> = epp.log_lines().iter().filter(about).cloned().collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
    }
    envoy.assert_clean().await;
}

#[tokio::test]
async fn the_endpoints_file_is_followed_and_a_bad_edit_changes_nothing() {
    let upstreams = [Upstream::start(Answer::Echo), Upstream::start(Answer::Echo)];
    let epp = Epp::start(&[upstreams[0].addr()]).await;
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    assert_eq!(post(&envoy).await.status(), 200);
    for bad in
        ["endpoints:\n- {name: a, address: a-host-name, port: 0}\n", "endpoints: [\n", "", "pods: []\n"]
    {
        let before = epp.metric("epp_endpoints_reload_total{result=\"refused\"}").await.unwrap_or(0.0);
        fs::write(epp.endpoints_file(), bad).unwrap();
        eventually("the edit is refused", async || {
            let refused = epp.metric("epp_endpoints_reload_total{result=\"refused\"}").await.unwrap_or(0.0);
            (refused > before).then_some(())
        })
        .await;
        assert_eq!(post(&envoy).await.status(), 200, "{bad:?}");
    }
    assert!(epp.log().contains("a-host-name"), "the log says what is wrong");
    assert!(upstreams[1].received().is_empty());
    fs::write(epp.endpoints_file(), endpoints_yaml(&[upstreams[1].addr()])).unwrap();
    eventually("the good edit is followed", async || {
        (epp.metric("epp_endpoints_reload_total{result=\"ok\"}").await == Some(1.0)).then_some(())
    })
    .await;
    let before = upstreams[0].received().len();
    assert_eq!(post(&envoy).await.status(), 200);
    assert_eq!((upstreams[0].received().len(), upstreams[1].received().len()), (before, 1));
}

#[tokio::test]
async fn the_configuration_is_followed_and_a_bad_edit_is_refused_with_all_reasons() {
    let upstream = Upstream::start(Answer::Echo);
    let epp = Epp::start(&[upstream.addr()]).await;
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    let bad = SEED_CONFIG.replace("type: queue-scorer", "type: queue-scorre\n  nam: x");
    fs::write(epp.config_file(), bad.replace("kind: EndpointPickerConfig\n", "")).unwrap();
    eventually("the edit is refused", async || {
        (epp.metric("epp_config_reload_total{result=\"refused\"}").await == Some(1.0)).then_some(())
    })
    .await;
    let problems: Vec<Value> = epp.log_lines().into_iter().filter(|line| line["level"] == "error").collect();
    let told = |word: &str| {
        problems.iter().any(|line| line["problem"].as_str().is_some_and(|text| text.contains(word)))
    };
    assert!(!told("warning"), "{problems:?}");
    let warned = |line: &Value| {
        line["level"] == "warn"
            && line["problem"].as_str().is_some_and(|text| text.contains("`kind` is missing"))
    };
    assert!(epp.log_lines().iter().any(warned), "{}", epp.log());
    assert!(told("queue-scorre") && told("did you mean `queue-scorer`") && told("`nam`"), "{problems:?}");
    assert_eq!(post(&envoy).await.status(), 200);
    for (n, emptied) in [(2.0, ""), (3.0, "# kind: EndpointPickerConfig\n")] {
        fs::write(epp.config_file(), emptied).unwrap();
        eventually("the emptied file is refused", async || {
            (epp.metric("epp_config_reload_total{result=\"refused\"}").await == Some(n)).then_some(())
        })
        .await;
    }
    assert_eq!(epp.metric("epp_config_reload_total{result=\"ok\"}").await, Some(0.0));

    fs::write(
        epp.config_file(),
        SEED_CONFIG.replace("Ref: queue-scorer", "Ref: queue-scorer\n    weight: 5"),
    )
    .unwrap();
    eventually("the good edit is followed", async || {
        (epp.metric("epp_config_reload_total{result=\"ok\"}").await == Some(1.0)).then_some(())
    })
    .await;
    assert_eq!(post(&envoy).await.status(), 200);
    let decision = &epp.decisions().await[0];
    let candidate = &decision["profiles"][0]["candidates"][0];
    assert_eq!(decision["profiles"][0]["scorers"][0]["weight"], 5.0);
    // The prefix that the first request left is still known: the instance outlived the reload.
    assert_eq!(candidate["scores"].as_array().unwrap().len(), 3);
    envoy.assert_clean().await;
}

#[test]
fn a_start_that_cannot_work_is_refused_with_every_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("good.yaml"), "endpoints: []\n").unwrap();
    fs::write(path("bad.yaml"), "endpoints:\n- {name: a, address: x, port: 0}\n- {name: a, port: 1}\n")
        .unwrap();
    fs::write(path("config.yaml"), "kind: Nonsense\nplugins: []\n").unwrap();
    fs::write(path("discovery.yaml"), file_discovery("/elsewhere.yaml", true)).unwrap();
    for (args, reasons) in [
        (vec![], vec!["poolName", "--pool-name"]),
        (vec!["--pool-name", "p"], vec!["--endpoints-file"]),
        (vec!["--pool-name", "p", "--endpoints-file", "/nowhere"], vec!["/nowhere"]),
        (vec!["--pool-name", "p", "--endpoints-file", "BAD"], vec![":2:", ":3:", "`x`", "already listed"]),
        (vec!["--pool-name", "p", "--endpoints-file", "GOOD", "--config-file", "CONFIG"], vec!["Nonsense"]),
        (vec!["--pool-name", "p", "--config-file", "DISCOVERY"], vec!["/elsewhere.yaml"]),
        (
            vec!["--pool-name", "p", "--endpoints-file", "GOOD", "--config-file", "DISCOVERY"],
            vec!["good.yaml", "/elsewhere.yaml", "only one"],
        ),
        (
            vec!["--pool-name", "p", "--endpoints-file", "GOOD", "--cert-path", "/nowhere"],
            vec!["/nowhere/tls.crt"],
        ),
        (vec!["--no-such-flag"], vec!["--no-such-flag"]),
        (vec!["--drain-timeout", "5"], vec!["--drain-timeout", "50ms"]),
        (
            vec!["--total-queued-requests-metric", "m{l}"],
            vec!["--total-queued-requests-metric", "expected `=` and the label's value at character 4"],
        ),
        (
            vec!["--lora-info-metric", "m{l=v"],
            vec!["--lora-info-metric", "expected `,` or `}` at character 6"],
        ),
        (
            vec!["--model-server-metrics-scheme", "ftp"],
            vec![
                "unexpected \"ftp\" value for \"model-server-metrics-scheme\" flag, it can only be set to 'http' \
                 or 'https'",
            ],
        ),
        (
            vec!["--pool-name", "p", "--endpoints-file", "GOOD", "--model-server-metrics-path", "metrics"],
            vec!["--model-server-metrics-path", "`metrics`"],
        ),
    ] {
        let real = |arg: &&str| match *arg {
            "BAD" => path("bad.yaml"),
            "GOOD" => path("good.yaml"),
            "CONFIG" => path("config.yaml"),
            "DISCOVERY" => path("discovery.yaml"),
            other => other.to_owned(),
        };
        let said = refused_start(&args.iter().map(real).collect::<Vec<_>>());
        for reason in reasons {
            assert!(said.contains(reason), "{args:?}: {reason:?} is missing in\n{said}");
        }
    }
}

#[test]
fn a_start_that_fails_tells_what_is_wrong_with_both_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("endpoints.yaml"), "endpoints:\n- {name: a, address: x, port: 0}\n").unwrap();
    fs::write(path("config.yaml"), "kind: Nonsense\n").unwrap();
    for (config, endpoints) in
        [("config.yaml", "endpoints.yaml"), ("config.yaml", "no-file"), ("nothing", "endpoints.yaml")]
    {
        let args = ["--pool-name=p", "--config-file", &path(config), "--endpoints-file", &path(endpoints)]
            .map(str::to_owned);
        let said = refused_start(&args);
        for (file, problem) in [(config, "Nonsense"), (endpoints, "`x`")] {
            let problem = if file.starts_with("no") { "No such file" } else { problem };
            assert!(said.contains(&path(file)) && said.contains(problem), "{said}");
        }
    }
}

/// A configuration whose endpoints stand in the file at `path`.
fn file_discovery(path: &str, follow: bool) -> String {
    format!(
        "plugins:\n- type: file-discovery\n  parameters: {{path: {path}, watchFile: {follow}}}\n\
         dataLayer:\n  discovery:\n    pluginRef: file-discovery\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_may_name_the_endpoints_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("endpoints.yaml");
    let write = |n: usize| {
        // Ports as strings, as the format elsewhere has them.
        let entry = |n| format!("- {{name: a{n}, address: 127.0.0.1, port: \"{}\"}}\n", 40_000 + n);
        fs::write(&path, format!("endpoints:\n{}", (0..n).map(entry).collect::<String>())).unwrap();
    };
    write(2);
    let start = async |follow: bool, flag: bool| {
        let config = file_discovery(path.to_str().unwrap(), follow);
        let mut line = vec!["epp", "--pool-name", "p", "--secure-serving=false", "--config-text", &config];
        line.extend(["--grpc-port=0", "--grpc-health-port=0", "--metrics-port=0"]);
        if flag {
            line.extend(["--endpoints-file", path.to_str().unwrap()]);
        }
        let args = epp::args::Args::try_parse_from(line).unwrap().serve;
        epp::runtime::start(args, epp_plugins::BUILT_IN).await.unwrap()
    };
    let (once, follows, told_twice) =
        (start(false, false).await, start(true, false).await, start(false, true).await);
    let n_endpoints = |epp: &epp::runtime::Epp| epp.pools().states()[0].store.snapshot().endpoints.len();
    assert_eq!([&once, &follows, &told_twice].map(n_endpoints), [2; 3]);
    write(3);
    for epp in [&follows, &told_twice] {
        eventually("the file is read again", async || (n_endpoints(epp) == 3).then_some(())).await;
    }
    assert_eq!(n_endpoints(&once), 2, "it is read once");
}

#[tokio::test]
async fn debug_pages_refuse_names_of_somebody_else() {
    let epp = Epp::start(&[]).await;
    for (host, status) in [
        ("127.0.0.1:9090", 200),
        ("localhost:9090", 200),
        ("[::1]:9090", 200),
        ("rebound.example:9090", 403),
        ("", 403),
    ] {
        let ask = client(Protocol::Http1).get(format!("http://{}/debug/decisions", epp.metrics));
        assert_eq!(ask.header("host", host).send().await.unwrap().status(), status, "{host:?}");
    }
    let post = client(Protocol::Http1).post(format!("http://{}/debug/decisions", epp.metrics));
    assert_eq!(post.send().await.unwrap().status(), 405, "nothing can be changed");
}
