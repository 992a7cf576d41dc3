//! gRPC health of the `epp` binary: `Check`, `List` and `Watch`, on the health port and beside `ext_proc`.

use std::process::{Command, Stdio};

use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use crate::support::epp::{Epp, EppSetup};
use crate::support::eventually;

#[tokio::test]
async fn health_beside_ext_proc_serves_until_the_drain_and_is_watched_on_both_ports() {
    let ext_proc = "envoy.service.ext_proc.v3.ExternalProcessor";
    let (serving, not_serving) = (ServingStatus::Serving as i32, ServingStatus::NotServing as i32);
    let args = vec!["--health-checking".to_owned(), "--drain-timeout=40s".to_owned()];
    let mut epp = Epp::with(EppSetup { args, ..EppSetup::new(&[]) }).await;
    assert_eq!(epp.health_list(false).await, [(ext_proc.to_owned(), serving)]);
    assert_eq!(epp.health_list(true).await, [(String::new(), serving), (ext_proc.to_owned(), serving)]);

    let request = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let mut beside = epp.health_client(true).await;
    for service in ["", ext_proc] {
        let status = beside.check(request(service)).await.expect("a known name").into_inner().status;
        assert_eq!(status, serving, "{service:?}");
    }
    let unknown = beside.check(request("inference-extension")).await.expect_err("no such service");
    assert_eq!(unknown.code(), tonic::Code::NotFound);

    let mut watched = Vec::new();
    for (beside_ext_proc, service) in [(false, "inference-extension"), (true, ext_proc), (true, "")] {
        let mut client = epp.health_client(beside_ext_proc).await;
        let mut stream = client.watch(request(service)).await.expect("Watch is implemented").into_inner();
        let first = stream.message().await.expect("no error").expect("a status");
        assert_eq!(first.status, serving, "{service:?}");
        watched.push(stream);
    }
    epp.terminate();
    for stream in &mut watched {
        let next = stream.message().await.expect("no error").expect("a status");
        assert_eq!(next.status, not_serving);
    }
    for stream in &mut watched {
        assert!(matches!(stream.message().await, Ok(None)), "the stream ends in order");
    }
    assert_eq!(epp.ended().await.code(), Some(0));
    assert!(!epp.log().contains("connections that did not end"), "watchers hold up no exit");
}

#[tokio::test]
async fn without_the_flag_ext_proc_answers_no_health_checks() {
    let epp = Epp::start(&[]).await;
    let request = HealthCheckRequest { service: String::new() };
    let status = epp.health_client(true).await.check(request).await.expect_err("no such service here");
    assert_eq!(status.code(), tonic::Code::Unimplemented);
}

/// A configuration of a Kubernetes API where nobody listens.
const NO_API: &str = "{apiVersion: v1, kind: Config, current-context: x, users: [{name: u, user: {}}], \
                      clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}], \
                      contexts: [{name: x, context: {cluster: c, user: u}}]}";

#[tokio::test]
async fn a_candidate_that_does_not_reach_the_api_is_alive_and_not_ready() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let kubeconfig = folder.path().join("config");
    std::fs::write(&kubeconfig, NO_API).expect("the folder is ours");
    let env = vec![("KUBECONFIG".to_owned(), kubeconfig.to_string_lossy().into_owned())];
    let args = vec!["--ha-enable-leader-election".to_owned(), "--drain-timeout=2s".to_owned()];
    let mut epp = Epp::with(EppSetup { args, env, ..EppSetup::new(&[]) }).await;
    eventually("it has tried", async || epp.log().contains("the lease cannot be used").then_some(())).await;
    for (service, want) in [
        ("liveness", ServingStatus::Serving),
        ("readiness", ServingStatus::NotServing),
        ("inference-extension", ServingStatus::NotServing),
        ("unknown", ServingStatus::ServiceUnknown),
    ] {
        assert_eq!(epp.health(service).await, want, "{service}");
    }
    let lease = "epp-default-it.gateway-api-inference-extension.sigs.k8s.io";
    let leads = epp.metric(&format!("leader_election_master_status{{name=\"{lease}\"}}")).await;
    assert_eq!(leads, Some(0.0));
    epp.terminate();
    assert_eq!(epp.ended().await.code(), Some(0));
}

#[test]
fn an_election_takes_an_api() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let endpoints = folder.path().join("endpoints.yaml");
    std::fs::write(&endpoints, "endpoints: []").expect("the folder is ours");
    let mut epp = Command::new(env!("CARGO_BIN_EXE_epp"));
    epp.args(["--pool-name=it", "--grpc-port=0", "--grpc-health-port=0", "--metrics-port=0"]);
    epp.arg("--ha-enable-leader-election").arg("--endpoints-file").arg(endpoints);
    epp.env("HOME", folder.path()).env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST");
    let ended = epp.stdin(Stdio::null()).output().expect("there is a binary");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("--ha-enable-leader-election needs a Kubernetes API"), "{said}");
}
