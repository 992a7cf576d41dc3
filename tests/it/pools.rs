//! One process that picks for several pools: chosen by authority and by port, added and removed under load, behind a real
//! Envoy. Pools of a Kubernetes API are in `kube_pools.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use clap::Parser;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_client::ExternalProcessorClient;
use epp::args::{Args, ServeArgs};
use epp::discovery::file::{PoolFile, parse};
use epp::runtime::pools::PoolSetup;
use epp::runtime::{self, Epp};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::envoy::Envoy;
use crate::support::envoy_config::EnvoySetup;
use crate::support::epp::endpoints_yaml;
use crate::support::hermetic::{request_body, request_headers};
use crate::support::upstream::{Answer, Upstream};
use crate::support::{Protocol, client, eventually};

/// The common flags: loopback, clear text, ports of the system's choice; and more.
fn args(more: &[&str]) -> ServeArgs {
    let mut line = vec!["epp", "--secure-serving=false", "--bind-address=127.0.0.1", "--grpc-port=0"];
    line.extend(["--grpc-health-port=0", "--metrics-port=0"]);
    line.extend(more);
    Args::try_parse_from(line).expect("the flags are right").serve
}

/// An epp without pools.
async fn no_pools() -> Epp {
    runtime::serve_pools(args(&[]), epp_plugins::BUILT_IN).await.expect("it starts")
}

/// The members of a pool.
fn members(at: &[SocketAddr]) -> Arc<PoolFile> {
    Arc::new(parse(&endpoints_yaml(at), "default").expect("a list of endpoints"))
}

/// A pool `default/name` with these members, and what tells of others.
fn setup(name: &str, at: &[SocketAddr]) -> (PoolSetup, watch::Sender<Arc<PoolFile>>) {
    let (tell, members) = watch::channel(members(at));
    let namespace = "default".to_owned();
    let (authorities, config, costs) = (Vec::new(), None, None);
    (PoolSetup { namespace, name: name.to_owned(), authorities, config, costs, members }, tell)
}

/// An Envoy whose calls to the picker have this authority.
async fn envoy(at: SocketAddr, authority: &'static str) -> Envoy {
    Envoy::start(EnvoySetup { authority: Some(authority), ..EnvoySetup::new(at) }).await
}

/// The status of a request.
async fn ask(envoy: &Envoy) -> u16 {
    let url = format!("{}/v1/completions", envoy.http());
    let body = r#"{"model":"m","prompt":"p"}"#;
    client(Protocol::Http1).post(url).body(body).send().await.expect("Envoy answers").status().as_u16()
}

/// Status and text of a page.
async fn page(epp: &Epp, path: &str) -> (u16, String) {
    let answer = client(Protocol::Http1).get(format!("http://{}{path}", epp.metrics)).send().await;
    let answer = answer.expect("the port answers");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

/// A client whose calls have this authority.
async fn calling(at: SocketAddr, authority: &str) -> ExternalProcessorClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{at}")).expect("an address");
    let endpoint = endpoint.origin(format!("http://{authority}").parse().expect("an authority"));
    ExternalProcessorClient::new(endpoint.connect().await.expect("it listens"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_for_the_pool_that_their_authority_names() {
    let [one, other] = [Upstream::start(Answer::Echo), Upstream::start(Answer::Echo)];
    let epp = no_pools().await;
    let pools = epp.pools();
    let (mut a, _a) = setup("a", &[one.addr()]);
    a.authorities = vec!["picker.default.svc:9002".to_owned()];
    let (b, tell_b) = setup("b", &[other.addr()]);
    let (same, _same) = setup("same", &[one.addr()]);
    for pool in [a, b, same] {
        pools.insert(pool).expect("it is right");
    }
    let at = epp.ext_proc;
    let received = || [one.received().len(), other.received().len()];
    for (authority, want) in [
        ("picker.default.svc.cluster.local:9002", [3, 0]),
        ("b.default", [3, 3]),
        ("same.default.svc", [6, 3]),
    ] {
        let envoy = envoy(at, authority).await;
        for _ in 0..3 {
            assert_eq!(ask(&envoy).await, 200, "{authority}");
        }
        assert_eq!(received(), want, "{authority}");
        envoy.assert_clean().await;
    }
    let stranger = envoy(at, "c.default").await;
    assert_eq!(ask(&stranger).await, 500);
    let status = calling(at, "c.default").await.process(tokio_stream::pending()).await.expect_err("no pool");
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("`c.default`; there are: default/a (picker.default:9002, a.default);"));
    let (_, metrics) = page(&epp, "/metrics").await;
    assert!(metrics.contains("epp_unknown_authorities_total 2\n"), "{metrics}");
    assert_exposition(&metrics);
    for pool in ["a", "b", "same"] {
        let line = format!(
            "inference_model_request_total{{inference_pool=\"{pool}\",inference_pool_namespace=\"default\",\
             model_name=\"m\",target_model_name=\"m\"}} 3\n"
        );
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    tell_b.send_replace(members(&[one.addr()]));
    let b = pools.states().into_iter().find(|pool| pool.name == "b").expect("it is there");
    eventually("the members are told", async || {
        let snapshot = b.store.snapshot();
        (snapshot.endpoints[0].destination == one.addr().to_string()).then_some(())
    })
    .await;
}

/// Every family is there once, with its series together, and no series twice.
fn assert_exposition(page: &str) {
    let types: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    assert_eq!(types.iter().collect::<BTreeSet<_>>().len(), types.len(), "{page}");
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let series: Vec<_> = samples.map(|line| line.rsplit_once(' ').expect("a value").0).collect();
    assert_eq!(series.iter().collect::<BTreeSet<_>>().len(), series.len(), "{page}");
    let of_process = ["epp_extproc_streams", "inference_extension_info", "epp_unknown_authorities_total"];
    let unlabelled = series.iter().filter(|series| !series.contains("inference_pool="));
    let strangers: Vec<_> =
        unlabelled.filter(|series| !of_process.iter().any(|known| series.starts_with(known))).collect();
    assert!(strangers.is_empty(), "{strangers:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_come_and_go_without_a_failed_request_of_another() {
    const N_REQUESTS: usize = 300;
    let server = Upstream::start(Answer::Echo);
    let epp = no_pools().await;
    let (kept, _kept) = setup("kept", &[server.addr()]);
    epp.pools().insert(kept).expect("it is right");
    let envoy = envoy(epp.ext_proc, "kept.default").await;
    let load = async {
        let mut statuses = BTreeSet::new();
        for _ in 0..N_REQUESTS {
            statuses.insert(ask(&envoy).await);
        }
        statuses
    };
    let churn = async {
        let mut n_rounds = 0;
        loop {
            let (pool, _tell) = setup("guest", &[server.addr()]);
            epp.pools().insert(pool).expect("it is right");
            tokio::task::yield_now().await;
            assert!(epp.pools().remove("default", "guest"));
            n_rounds += 1;
            if n_rounds % 10 == 0 {
                // Requests go on meanwhile.
                page(&epp, "/metrics").await;
            }
        }
    };
    let statuses = tokio::select! {
        statuses = load => statuses,
        () = churn => unreachable!("it never ends"),
    };
    assert_eq!(statuses, [200].into());
    envoy.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_under_way_outlive_their_pool() {
    let epp = no_pools().await;
    let at: SocketAddr = ([127, 0, 0, 1], 40_001).into();
    let (pool, _tell) = setup("a", &[at]);
    epp.pools().insert(pool).expect("it is right");
    let (again, _again) = setup("a", &[]);
    assert_eq!(
        epp.pools().insert(again).expect_err("it is there").to_string(),
        "there is a pool default/a already"
    );
    let mut client = calling(epp.ext_proc, "a.default").await;
    let (send, messages) = mpsc::channel(4);
    let answers = client.process(ReceiverStream::new(messages)).await.expect("there is a pool");
    let mut answers = answers.into_inner();
    send.send(request_headers(&[], false)).await.expect("it is read");
    assert!(epp.pools().remove("default", "a"));
    assert!(epp.pools().states().is_empty() && !epp.pools().remove("default", "a"));
    let gone = client.process(tokio_stream::pending()).await.expect_err("it is gone");
    assert_eq!(gone.code(), Code::NotFound);
    send.send(request_body(r#"{"model":"m","prompt":"p"}"#, true)).await.expect("it is read");
    drop(send);
    let mut picked = false;
    while let Some(answer) = answers.message().await.expect("it ends in order") {
        picked |= answer.dynamic_metadata.is_some();
    }
    assert!(picked, "it was decided all the same");
    let (status, text) = page(&epp, "/debug/decisions").await;
    assert_eq!((status, text.as_str()), (404, "there is no pool\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_is_exchanged_or_refused_and_costs_are_told() {
    let epp = no_pools().await;
    let costs = r#"{"llmRequestCosts":[{"metadataKey":"my_cost","type":"OutputToken"}]}"#;
    for name in ["a", "b"] {
        let (mut pool, _tell) = setup(name, &[]);
        pool.costs = Some(costs.to_owned());
        epp.pools().insert(pool).expect("it is right");
    }
    let (mut wrong, _tell) = setup("c", &[]);
    wrong.config = Some("plugins: [{type: queue-scorrer}]".to_owned());
    let error = format!("{:#}", epp.pools().insert(wrong).expect_err("no such type"));
    assert!(error.contains("configuration of default/c:1:") && error.contains("queue-scorrer"), "{error}");
    assert_eq!(epp.pools().states().len(), 2);

    let config = async |pool: &str| {
        let (status, text) = page(&epp, &format!("/debug/config?pool=default/{pool}")).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")
    };
    assert!(config("a").await["config"]["effective"].as_str().unwrap().contains("my_cost"));
    let other = "plugins: [{type: queue-scorer}]";
    epp.pools().reconfigure("default", "a", Some(other)).expect("it is right");
    let problems = epp.pools().reconfigure("default", "a", Some("plugins: 1")).expect_err("no list");
    let error = problems.last().expect("there is one");
    assert!(error.starts_with("configuration of default/a:1:10: error: "), "{problems:?}");
    let now = config("a").await;
    assert_eq!(now["config"]["generation"], 2);
    let effective = now["config"]["effective"].as_str().unwrap();
    assert!(
        effective.contains("my_cost") && !effective.contains("kv-cache-utilization-scorer"),
        "{effective}"
    );
    let refused = now["config"]["refused"]["problems"].as_array().unwrap();
    assert!(refused.iter().any(|told| told == error.as_str()), "{refused:?}");
    assert_eq!(config("b").await["config"]["generation"], 1);
    epp.pools().reconfigure("default", "c", None).expect_err("there is none");

    let choices = "there are several pools; say which with one of these\n?pool=default/a\n?pool=default/b\n";
    for path in ["/debug/config", "/debug/decisions", "/debug/endpoints"] {
        assert_eq!(page(&epp, path).await, (300, choices.to_owned()), "{path}");
        assert_eq!(page(&epp, &format!("{path}?pool=default/b")).await.0, 200, "{path}");
        assert_eq!(page(&epp, &format!("{path}?pool=default/c")).await.0, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_of_flags_have_ports_files_and_health_of_their_own() {
    let [one, other] = [Upstream::start(Answer::Echo), Upstream::start(Answer::Echo)];
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("the folder is ours");
        path.display().to_string()
    };
    let one_file = file("one.yaml", &endpoints_yaml(&[one.addr()]));
    let other_file = file("other.yaml", &endpoints_yaml(&[other.addr()]));
    let config = file("config.yaml", "plugins: [{type: queue-scorer}]\n");
    let one_pool = format!("--pool=default/one,port=0,endpoints-file={one_file},config-file={config}");
    let other_pool = format!("--pool=else/other,endpoints-file={other_file},authority=picker");
    let args = args(&[&one_pool, &other_pool]);
    let mut epp = runtime::start(args, epp_plugins::BUILT_IN).await.expect("it starts");
    let (name, own) = epp.own_ports[0].clone();
    assert_eq!((name.as_str(), epp.own_ports.len()), ("default/one", 1));
    for (at, authority, want) in [
        (own, "whatever", [1, 0]),
        (own, "other.else", [2, 0]),
        (epp.ext_proc, "one.default", [3, 0]),
        (epp.ext_proc, "picker", [3, 1]),
    ] {
        let envoy = envoy(at, authority).await;
        assert_eq!(ask(&envoy).await, 200, "{authority}");
        assert_eq!([one.received().len(), other.received().len()], want, "{authority}");
    }
    let plugins = |text: &str| text.contains("kv-cache-utilization-scorer");
    assert!(!plugins(&page(&epp, "/debug/config?pool=default/one").await.1));
    assert!(plugins(&page(&epp, "/debug/config?pool=else/other").await.1));
    let channel = Endpoint::from_shared(format!("http://{}", epp.health)).expect("an address");
    let mut health = HealthClient::new(channel.connect().await.expect("it listens"));
    for (service, want) in [("", Ok(1)), ("default/one", Ok(1)), ("else/one", Err(Code::NotFound))] {
        let checked = health.check(HealthCheckRequest { service: service.to_owned() }).await;
        let checked = checked.map(|answer| answer.get_ref().status).map_err(|status| status.code());
        assert_eq!(checked, want, "{service:?}");
    }
    drop(health);
    epp.drain(std::time::Duration::ZERO, std::time::Duration::from_secs(5)).await;
    assert!(tokio::net::TcpStream::connect(own).await.is_err(), "that port is closed, too");
}
