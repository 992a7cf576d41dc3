//! `config/envoy/model-routing.yaml` as it is, through a real Envoy: two pools with an `epp` each, and a plain server,
//! chosen by the model in the body. Ports are replaced by those that the system chose, and nothing else.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};

use epp::args::{ServeArgs, read};
use serde_json::{Value, json};

use crate::support::envoy::Envoy;
use crate::support::epp::{Epp, EppSetup};
use crate::support::upstream::{Answer, Received, Upstream};
use crate::support::{Protocol, client, eventually};

const LLAMA: &str = "meta-llama/Llama-3.1-8B-Instruct";
const MISTRAL: &str = "mistral:latest";
const PLAIN: &str = "some-cool-self-hosted-model";

const PROTOCOLS: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

fn config_text() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/envoy/model-routing.yaml");
    std::fs::read_to_string(path).unwrap()
}

/// The file; anchors are resolved.
fn config() -> Value {
    serde_yaml::from_str(&config_text()).unwrap()
}

/// A port that is free, and that the system gives to nobody who asks for any: they come from 32768 on.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 8_000).unwrap();
    let free = |port: &u16| TcpListener::bind(("::", *port)).is_ok();
    (0..1_000)
        .map(|_| 21_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 8_000)
        .find(free)
        .expect("one is free")
}

/// The body of the guide's curl.
fn curl_body(model: &str) -> String {
    format!(
        r#"{{
        "model": "{model}",
        "messages": [
            {{
                "role": "user",
                "content": "Hi. Say this is a test"
            }}
        ]
    }}"#
    )
}

/// Everything that the file's comment starts.
struct Stage {
    llama: [Upstream; 2],
    mistral: [Upstream; 2],
    plain: Upstream,
    llama_epp: Epp,
    mistral_epp: Epp,
    envoy: Envoy,
}

impl Stage {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// `change` has its way with the file.
    async fn with(change: impl FnOnce(&mut Value)) -> Self {
        let upstream = || Upstream::start(Answer::Echo);
        let (llama, mistral, plain) = ([upstream(), upstream()], [upstream(), upstream()], upstream());
        let port = free_port();
        let setup = EppSetup::new(&llama.each_ref().map(Upstream::addr));
        let args = vec![format!("--model-extractor-port={port}"), "--health-checking".to_owned()];
        let llama_epp = Epp::with(EppSetup { args, ..setup }).await;
        let mistral_epp = Epp::start(&mistral.each_ref().map(Upstream::addr)).await;
        let clusters = [
            ("plain", plain.addr()),
            ("model-extractor", ([127, 0, 0, 1], port).into()),
            ("epp-llama", llama_epp.ext_proc),
            ("epp-mistral", mistral_epp.ext_proc),
        ];
        let envoy = Envoy::with(|access_log| {
            let mut config = placed(&clusters, access_log);
            change(&mut config);
            config
        })
        .await;
        Self { llama, mistral, plain, llama_epp, mistral_epp, envoy }
    }

    /// Every server with the models that belong there.
    fn servers(&self) -> [(&str, &Upstream); 5] {
        let ([a, b], [c, d]) = (&self.llama, &self.mistral);
        [(LLAMA, a), (LLAMA, b), (MISTRAL, c), (MISTRAL, d), (PLAIN, &self.plain)]
    }

    /// The one request that arrived since all servers together had `before`, and the model of the server that got it.
    fn arrived(&self, before: usize) -> (&str, SocketAddr, Received) {
        assert_eq!(self.total(), before + 1, "{}", self.envoy.access_log());
        let newest = self.servers().into_iter().filter_map(|(model, server)| {
            let received = server.received().pop()?;
            (received.headers.get("x-case")? == before.to_string().as_str()).then_some((
                model,
                server.addr(),
                received,
            ))
        });
        newest.last().expect("it says which one it is")
    }

    fn total(&self) -> usize {
        self.servers().iter().map(|(_, server)| server.received().len()).sum()
    }

    /// Sends `body`; it must come to a server of `model` and back as it is.
    async fn assert_reaches(&self, model: &str, protocol: Protocol, body: String) {
        let before = self.total();
        let case = format!("{model}, {protocol:?}, {} bytes", body.len());
        let post = client(protocol).post(format!("{}/v1/chat/completions", self.envoy.http()));
        let post = post.header("content-type", "application/json").header("x-case", before.to_string());
        let answer = post.body(body.clone()).send().await.expect(&case);
        assert_eq!(answer.status(), 200, "{case}: {}", self.envoy.access_log());
        let through_picker = answer.headers().contains_key("x-went-into-resp-headers");
        assert!(answer.text().await.expect(&case) == body, "{case}: the answer differs");
        let (reached, at, received) = self.arrived(before);
        assert_eq!(reached, model, "{case}");
        assert!(received.body.as_deref() == Some(body.as_bytes()), "{case}: the request differs");
        for name in ["x-ai-eg-model", "x-gateway-model-name"] {
            let values: Vec<_> = received.headers.get_all(name).iter().collect();
            assert_eq!(values, [model], "{case}: {name}");
        }
        let picked = received.headers.get("x-gateway-destination-endpoint");
        let want = (model != PLAIN).then(|| at.to_string());
        assert_eq!(picked.map(|value| value.to_str().unwrap().to_owned()), want, "{case}");
        assert_eq!(through_picker, model != PLAIN, "{case}");
    }

    /// How many requests either picker was asked about.
    async fn asked(&self) -> [u64; 2] {
        let llama = self.envoy.stat("cluster.epp-llama.upstream_rq_total").await;
        [llama, self.envoy.stat("cluster.epp-mistral.upstream_rq_total").await]
    }

    async fn assert_clean(&self) {
        eventually("every ext_proc stream ended", async || {
            let mut active = 0;
            for cluster in ["model-extractor", "epp-llama", "epp-mistral"] {
                active += self.envoy.stat(&format!("cluster.{cluster}.upstream_rq_active")).await;
            }
            (active == 0).then_some(())
        })
        .await;
        for filter in ["model", "llama", "mistral"] {
            for name in ["spurious_msgs_received", "streams_failed", "server_half_closed"] {
                let stat = format!("http.models.ext_proc.{filter}.{name}");
                assert_eq!(self.envoy.stat(&stat).await, 0, "{stat}");
            }
        }
        self.llama_epp.wait_until_idle().await;
        self.mistral_epp.wait_until_idle().await;
    }
}

/// The file with these addresses in its clusters, and ports of the system's choice.
fn placed(clusters: &[(&str, SocketAddr)], access_log: &Path) -> Value {
    let mut config = config();
    let port = |address: &mut Value, port: u16| address["socket_address"]["port_value"] = json!(port);
    port(&mut config["admin"]["address"], 0);
    let resources = &mut config["static_resources"];
    let listener = &mut resources["listeners"][0];
    port(&mut listener["address"], 0);
    listener["address"]["socket_address"]["address"] = json!("127.0.0.1");
    listener["filter_chains"][0]["filters"][0]["typed_config"]["access_log"] = json!([{
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": access_log,
        },
    }]);
    for (name, at) in clusters {
        let all = resources["clusters"].as_array_mut().unwrap();
        let cluster = all.iter_mut().find(|cluster| cluster["name"] == *name).expect("the file has it");
        let endpoint =
            &mut cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"];
        port(endpoint, at.port());
    }
    config
}

/// The filters, in their order.
fn filters(config: &mut Value) -> impl Iterator<Item = &mut Value> {
    let manager = &mut config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0];
    manager["typed_config"]["http_filters"].as_array_mut().unwrap().iter_mut()
}

#[tokio::test]
async fn the_guides_three_requests_reach_two_pools_and_a_plain_server() {
    let stage = Stage::start().await;
    for protocol in PROTOCOLS {
        for model in [LLAMA, MISTRAL, PLAIN] {
            stage.assert_reaches(model, protocol, curl_body(model)).await;
        }
    }
    assert_eq!(stage.asked().await, [2, 2], "each picker is asked about its own model");
    stage.assert_clean().await;
}

#[tokio::test]
async fn long_bodies_are_routed_and_pass_unchanged() {
    let stage = Stage::start().await;
    let long = |model: &str| {
        let prompt = "0123456789abcdef".repeat(200_000);
        format!(r#"{{"messages":[{{"role":"user","content":"{prompt}"}}],"model":"{model}"}}"#)
    };
    for protocol in PROTOCOLS {
        for model in [LLAMA, MISTRAL, PLAIN] {
            stage.assert_reaches(model, protocol, long(model)).await;
        }
    }
    stage.assert_clean().await;
}

#[tokio::test]
async fn what_has_no_known_model_ends_at_the_catch_all_and_asks_no_picker() {
    let stage = Stage::start().await;
    let url = format!("{}/v1/chat/completions", stage.envoy.http());
    for protocol in PROTOCOLS {
        let client = client(protocol);
        for (case, body) in [
            ("another model", curl_body("gpt-4")),
            ("no model", r#"{"messages":[]}"#.to_owned()),
            (
                "a model that no header can say",
                r#"{"model":"mistral:latest\r\nx: y","messages":[]}"#.to_owned(),
            ),
            ("no JSON", "model=mistral:latest".to_owned()),
            ("broken JSON", r#"{"model":"mistral:latest","messages":[}"#.to_owned()),
            ("nothing", String::new()),
        ] {
            let sent = client.post(&url).header("x-ai-eg-model", MISTRAL).body(body);
            let answer = sent.header("X-Gateway-Model-Name", LLAMA).send().await.expect(case);
            assert_eq!(answer.status(), 404, "{protocol:?}, {case}: {}", stage.envoy.access_log());
            let page: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            assert_eq!(page["error"]["code"], "model_not_found", "{case}");
        }
        let get = client.get(format!("{}/v1/models", stage.envoy.http()));
        let listed = get.header("x-ai-eg-model", MISTRAL).send().await.unwrap();
        assert_eq!(
            (listed.status().as_u16(), &listed.headers()["content-type"] == "application/json"),
            (200, true)
        );
        let page: Value = serde_json::from_str(&listed.text().await.unwrap()).unwrap();
        let models: Vec<_> = page["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
        assert_eq!(models, [LLAMA, MISTRAL, PLAIN]);
        let other = client.get(format!("{}/v1/other", stage.envoy.http())).send().await.unwrap();
        assert_eq!(other.status(), 404);
    }
    assert_eq!((stage.asked().await, stage.total()), ([0, 0], 0));
    stage.assert_clean().await;
}

async fn assert_no_client_chooses(stage: &Stage, strips: bool) {
    for protocol in PROTOCOLS {
        for (named, model) in [(MISTRAL, LLAMA), (LLAMA, PLAIN), (PLAIN, MISTRAL)] {
            let case = format!("{protocol:?}, stripped: {strips}: a client that says {named}");
            let before = stage.total();
            let post = client(protocol).post(stage.envoy.http()).header("x-case", before.to_string());
            let post = post.header("x-ai-eg-model", named).header("X-AI-EG-Model", "another");
            let post = post.header("x-gateway-model-name", named);
            let post = post.header("x-gateway-destination-endpoint", stage.llama[0].addr().to_string());
            let answer = post.body(curl_body(model)).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{case}: {}", stage.envoy.access_log());
            let (reached, at, received) = stage.arrived(before);
            assert_eq!(reached, model, "{case}");
            let values = |name| received.headers.get_all(name).iter().collect::<Vec<_>>();
            assert_eq!(values("x-ai-eg-model"), [model], "{case}");
            assert_eq!(values("x-gateway-model-name"), [model], "{case}");
            if model != PLAIN {
                assert_eq!(values("x-gateway-destination-endpoint"), [&at.to_string()], "{case}");
            } else if strips {
                assert!(values("x-gateway-destination-endpoint").is_empty(), "{case}");
            }
        }
        let unknown = client(protocol).post(stage.envoy.http()).header("x-ai-eg-model", PLAIN);
        assert_eq!(unknown.body(curl_body("gpt-4")).send().await.unwrap().status(), 404);
        let bodiless = client(protocol).get(stage.envoy.http()).header("x-ai-eg-model", PLAIN);
        assert_eq!(bodiless.send().await.unwrap().status(), 404);
    }
    stage.assert_clean().await;
}

#[tokio::test]
async fn a_client_chooses_neither_its_route_nor_its_server() {
    assert_no_client_chooses(&Stage::start().await, true).await;
}

/// What a client says of the model counts for nothing even where nothing but the extractor minds it.
#[tokio::test]
async fn the_extractor_takes_no_clients_word_by_itself() {
    let unarmed = |config: &mut Value| {
        let strip = filters(config).find(|filter| filter["name"] == "control-headers").unwrap();
        strip["typed_config"]["mutations"]["request_mutations"] = json!([{ "remove": "x-of-no-concern" }]);
    };
    assert_no_client_chooses(&Stage::with(unarmed).await, false).await;
}

/// The file's mode is the cheapest; others work as well, with the answers passing through too. Where the headers have gone
/// on before the body comes, nothing has a model.
#[tokio::test]
async fn other_body_modes_route_the_same_where_they_show_the_body_in_time() {
    for (request, ahead, response, in_time) in [
        ("FULL_DUPLEX_STREAMED", false, "NONE", true),
        ("FULL_DUPLEX_STREAMED", false, "FULL_DUPLEX_STREAMED", true),
        ("BUFFERED", false, "BUFFERED", true),
        ("BUFFERED_PARTIAL", false, "STREAMED", true),
        ("STREAMED", true, "STREAMED", true),
        ("STREAMED", false, "NONE", false),
        ("NONE", false, "NONE", false),
    ] {
        let stage = Stage::with(|config| {
            let settings =
                &mut filters(config).find(|filter| filter["name"] == "model").unwrap()["typed_config"];
            settings["send_body_without_waiting_for_header_response"] = json!(ahead);
            let mode = &mut settings["processing_mode"];
            mode["request_body_mode"] = json!(request);
            mode["response_header_mode"] = json!("SEND");
            mode["response_body_mode"] = json!(response);
            mode["response_trailer_mode"] = json!("SEND");
        })
        .await;
        for protocol in PROTOCOLS {
            for model in [LLAMA, MISTRAL, PLAIN].into_iter().filter(|_| in_time) {
                stage.assert_reaches(model, protocol, curl_body(model)).await;
            }
            let unreadable = if in_time { "no JSON".to_owned() } else { curl_body(PLAIN) };
            let sent = client(protocol).post(stage.envoy.http()).header("x-ai-eg-model", PLAIN);
            let answer = sent.body(unreadable).send().await.unwrap();
            assert_eq!(answer.status(), 404, "{request} {response} {protocol:?}");
        }
        assert_eq!(stage.asked().await, if in_time { [2, 2] } else { [0, 0] }, "{request} {response}");
        stage.assert_clean().await;
    }
}

/// Both ports drain together, and health beside the extractor is that beside ext_proc.
#[tokio::test]
async fn the_extractor_has_health_beside_it_and_drains_with_the_rest() {
    let mut stage = Stage::start().await;
    let line = stage.llama_epp.log_lines().into_iter().find(|line| line["msg"] == "saying models in headers");
    let at = line.expect("it tells where it listens")["model_extractor"].as_str().unwrap().to_owned();
    let port = at.rsplit(':').next().unwrap().to_owned();
    let channel = tonic::transport::Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.connect().await.unwrap());
    let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
    let status = health.check(request).await.expect("health is served there").into_inner().status;
    assert_eq!(status, 1, "SERVING");
    drop(health);
    stage.assert_reaches(LLAMA, Protocol::Http1, curl_body(LLAMA)).await;
    stage.llama_epp.terminate();
    assert!(stage.llama_epp.ended().await.success());
    assert!(tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.is_err(), "its port is closed");
}

/// Which port the file sends a cluster's requests to.
fn port_of(config: &Value, cluster: &str) -> u64 {
    let all = config["static_resources"]["clusters"].as_array().unwrap();
    let cluster = all.iter().find(|known| known["name"] == cluster).expect("the file has it");
    let endpoint = &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    endpoint["address"]["socket_address"]["port_value"].as_u64().unwrap()
}

#[test]
fn the_command_lines_in_the_comment_fit_the_file() {
    let text = config_text();
    let lines = text.lines().filter_map(|line| line.strip_prefix("#   epp "));
    let args: Vec<ServeArgs> = lines
        .map(|line| {
            read::read(line.split_whitespace().map(str::to_owned).collect(), &|_| None).unwrap().serve
        })
        .collect();
    let [llama, mistral] = args.as_slice() else { panic!("{} command lines", args.len()) };
    assert_eq!((&*llama.pool.pool_name, &*mistral.pool.pool_name), ("vllm-llama3-8b-instruct", "mistral"));
    let config = config();
    for (cluster, port) in [
        ("epp-llama", llama.listeners.grpc_port),
        ("epp-mistral", mistral.listeners.grpc_port),
        ("model-extractor", llama.listeners.model_extractor_port),
    ] {
        assert_eq!(port_of(&config, cluster), u64::from(port), "{cluster}");
    }
    let ports = |args: &ServeArgs| {
        let listeners = &args.listeners;
        [
            listeners.grpc_port,
            listeners.grpc_health_port,
            listeners.metrics_port,
            listeners.model_extractor_port,
        ]
    };
    assert!(ports(llama).iter().all(|port| !ports(mistral).contains(port)), "both run on one machine");
    assert!(
        !llama.tls.secure_serving && !mistral.tls.secure_serving,
        "the clusters have no transport_socket"
    );
}
