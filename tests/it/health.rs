//! gRPC health of the `epp` binary: `Check`, `List` and `Watch`, on the health port and beside `ext_proc`.

use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use crate::support::epp::{Epp, EppSetup};

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
