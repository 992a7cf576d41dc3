//! The example's binary: its plugin is known to `epp config`, and decides.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_client::ExternalProcessorClient;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    HttpBody, HttpHeaders, ProcessingRequest, processing_request, processing_response,
};

const BINARY: &str = env!("CARGO_BIN_EXE_epp-example");

const CONFIG: &str = "\
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: spot-scorer
  parameters: {label: spot}
";

const ENDPOINTS: &str = "\
endpoints:
- {name: a, address: 127.0.0.1, port: 1, labels: {spot: 'true'}}
- {name: b, address: 127.0.0.1, port: 2}
- {name: c, address: 127.0.0.1, port: 3, labels: {spot: 'true'}}
";

/// A server, ended with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn epp_config_knows_the_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        let file = folder.path().join("config.yaml");
        fs::write(&file, text).unwrap();
        let run = Command::new(BINARY).args(["config", "check"]).arg(file).output().unwrap();
        (run.status.code(), String::from_utf8(run.stdout).unwrap())
    };
    assert_eq!(check(CONFIG).0, Some(0));
    let (code, told) = check(&CONFIG.replace("{label: spot}", "{label: 1}"));
    assert!(code == Some(1) && told.contains("plugin `spot-scorer`: parameter `label`"), "{told}");
}

#[tokio::test]
async fn the_plugin_decides() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let mut server = Command::new(BINARY)
        .args(["--pool-name", "p", "--secure-serving=false", "--zap-encoder", "json"])
        .args(["--grpc-port", "0", "--grpc-health-port", "0", "--metrics-port", "0"])
        .args(["--config-file", &file("config.yaml", CONFIG)])
        .args(["--endpoints-file", &file("endpoints.yaml", ENDPOINTS)])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(server.stderr.take().unwrap());
    let _server = Server(server);
    let mut lines = log.lines().map(|line| line.unwrap());
    let serving = lines.find(|line| line.contains("\"serving\"")).expect("it listens");
    let serving: serde_json::Value = serde_json::from_str(&serving).unwrap();
    let port = serving["ext_proc"].as_str().unwrap().rsplit_once(':').unwrap().1.to_owned();

    let mut client = ExternalProcessorClient::connect(format!("http://127.0.0.1:{port}")).await.unwrap();
    let path =
        HeaderValue { key: ":path".into(), raw_value: b"/v1/completions".into(), ..HeaderValue::default() };
    let headers = HeaderMap { headers: vec![path] };
    let headers = HttpHeaders { headers: Some(headers), ..HttpHeaders::default() };
    let body = br#"{"model":"m","prompt":"a"}"#.to_vec();
    let body = HttpBody { body, end_of_stream: true, ..HttpBody::default() };
    let messages = [
        processing_request::Request::RequestHeaders(headers),
        processing_request::Request::RequestBody(body),
    ];
    let messages =
        messages.map(|request| ProcessingRequest { request: Some(request), ..ProcessingRequest::default() });
    let mut answers = client.process(tokio_stream::iter(messages)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().expect("an answer").response;
    let Some(processing_response::Response::RequestHeaders(picked)) = answer else { panic!("{answer:?}") };
    let set = picked.response.unwrap().header_mutation.unwrap().set_headers;
    let destination = set.into_iter().filter_map(|set| set.header);
    let destination = destination.into_iter().find(|header| header.key == "x-gateway-destination-endpoint");
    assert_eq!(destination.unwrap().raw_value, b"127.0.0.1:2", "the one that is not on a spot machine");
}
