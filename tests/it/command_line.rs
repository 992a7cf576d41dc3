//! The command line from outside: help and errors, log lines, and their verbosity at run time.

use std::process::{Command, Output, Stdio};

use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_client::ExternalProcessorClient;
use reqwest::StatusCode;
use serde_json::Value;

use crate::support::envoy::Envoy;
use crate::support::envoy_config::EnvoySetup;
use crate::support::epp::{Epp, EppSetup};
use crate::support::hermetic::{SEED_CONFIG, request_headers};
use crate::support::{Protocol, client, eventually};

/// What `--version` prints, and no more than that.
const VERSION: &str = concat!("epp ", env!("CARGO_PKG_VERSION"), " (", env!("EPP_COMMIT"), ")\n");

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_epp")).args(args).stdin(Stdio::null()).output().expect("epp runs")
}

#[test]
fn help_goes_to_stdout_and_errors_to_stderr() {
    for (args, status, out, err) in [
        (&["-h"][..], 0, "Usage: epp", ""),
        (&["--help"], 0, "Examples:", ""),
        (&["-help"], 0, "Examples:", ""),
        (&["help"], 0, "Examples:", ""),
        (&["--version"], 0, VERSION, ""),
        (&["sim", "serve", "--help"], 0, "--servers", ""),
        (&["--pool-nam", "x"], 2, "", "did you mean `pool-name`?"),
        (&["smi"], 2, "", "unrecognized subcommand"),
        (&["-poolName=x", "-secureServing", "false"], 2, "", "write -secureServing=false"),
        (&["--pool-name=x", "--kubeconfig=y"], 1, "", "epp: --kubeconfig y: failed to read kubeconfig"),
    ] {
        let ended = run(args);
        let (stdout, stderr) =
            (String::from_utf8(ended.stdout).unwrap(), String::from_utf8(ended.stderr).unwrap());
        assert_eq!(ended.status.code(), Some(status), "{args:?}: {stderr}");
        for (said, want) in [(stdout, out), (stderr, err)] {
            assert!(said.contains(want) && said.is_empty() == want.is_empty(), "{args:?}: {said:?}");
        }
    }
}

#[test]
fn a_taken_port_is_told_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ended = run(&["sim", "serve", "--listen", &taken.local_addr().unwrap().to_string()]);
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), said.matches("in use").count()), (Some(1), 1), "{said}");
}

fn with_args(args: &[&str]) -> EppSetup {
    EppSetup { args: args.iter().map(|arg| (*arg).to_owned()).collect(), ..EppSetup::new(&[]) }
}

/// Section 1.4 of the functional specification.
#[tokio::test]
async fn json_lines_have_the_keys_that_pipelines_parse() {
    let epp = Epp::with(with_args(&["--enable-pprof=true", "stray\nword"])).await;
    let log = epp.log();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    for line in &lines {
        for key in ["level", "ts", "logger", "caller", "msg"] {
            assert!(line[key].is_string(), "{key}: {line}");
        }
    }
    let serving = lines.iter().find(|line| line["msg"] == "serving").unwrap();
    assert_eq!((serving["level"].as_str(), serving["logger"].as_str()), (Some("info"), Some("epp.runtime")));
    assert!(serving["caller"].as_str().unwrap().starts_with("src/runtime.rs:"), "{serving}");
    assert_eq!(serving["pool"], "it");
    let notes: Vec<_> = lines.iter().filter(|line| line["msg"] == "command line").collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes.iter().all(|line| line["level"] == "warn"));
}

#[tokio::test]
async fn the_time_is_written_as_asked_for() {
    let epp = Epp::with(with_args(&["--zap-time-encoding=epoch"])).await;
    assert!(epp.log_lines().iter().all(|line| line["ts"].is_f64()));
}

/// Asks for a bad request to be refused: with verbosity 4 and more, that is logged.
async fn logs_refusals(epp: &Epp) -> bool {
    let lines = || {
        let lines = epp.log_lines();
        let refused = lines.into_iter().filter(|line| line["msg"] == "request refused");
        refused.inspect(|line| assert_eq!(line["request_id"], "which", "{line}")).count()
    };
    let before = lines();
    let envoy = Envoy::start(EnvoySetup::new(epp.ext_proc)).await;
    let refused = client(Protocol::Http1).post(envoy.http()).header("x-request-id", "which");
    let refused = refused.body("no JSON").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    epp.wait_until_idle().await;
    lines() > before
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_logged_with_its_status() {
    let epp = Epp::with(with_args(&["-v=4", "--grpc-max-recv-msg-size=1KiB"])).await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", epp.ext_proc)).unwrap();
    let mut client = ExternalProcessorClient::new(channel.connect().await.unwrap());
    let long = request_headers(&[("x-long", &"secret".repeat(1000))], true);
    let answers = client.process(tokio_stream::iter([long])).await.unwrap();
    let status = answers.into_inner().message().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::OutOfRange, "{status}");
    let lines = epp.log_lines();
    let told = lines.iter().find(|line| line["msg"] == "a message from the gateway cannot be read");
    let told = told.unwrap_or_else(|| panic!("{lines:?}"));
    assert_eq!((&told["level"], &told["code"]), (&"debug".into(), &"OutOfRange".into()));
    assert!(!epp.log().contains("secret"));
}

#[tokio::test]
async fn verbosity_changes_at_run_time() {
    let epp = Epp::with(EppSetup { config: SEED_CONFIG.to_owned(), ..with_args(&["-v=2"]) }).await;
    let page = format!("http://{}/debug/log-level", epp.metrics);
    let post = async |query: &str, body: &str| {
        let ask = client(Protocol::Http1).post(format!("{page}{query}")).body(body.to_owned());
        let answer = ask.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let shown = async || serde_json::from_str::<Value>(&epp.get("/debug/log-level").await).unwrap();
    assert_eq!(shown().await, serde_json::json!({"v": 2, "shows": "info"}));
    assert!(!logs_refusals(&epp).await);
    for (query, body, v) in [
        ("?v=4", "", Value::from(4)),
        ("", "5", 5.into()),
        ("", "{\"v\": 3}", 3.into()),
        ("", "{\"v\": \"error\"}", "error".into()),
        ("?v=Panic", "", "error".into()),
        ("", "debug\n", 4.into()),
    ] {
        let (status, page) = post(query, body).await;
        assert_eq!((status, &shown().await["v"]), (200, &v), "{query} {body}: {page}");
    }
    assert!(logs_refusals(&epp).await);
    for (query, body) in
        [("", ""), ("?v=-1", ""), ("?v=loud", ""), ("?w=4", ""), ("", "{\"w\":4}"), ("", "[4]"), ("", "4.5")]
    {
        let (status, said) = post(query, body).await;
        assert_eq!(status, 400, "{query} {body}");
        assert!(said.contains("/debug/log-level?v=4"), "{said}");
    }
    assert_eq!(post("", &"4".repeat(2000)).await.0, 413);
    assert_eq!(shown().await["v"], 4, "nothing of that changed anything");
    eventually("the change is logged", async || {
        epp.log().contains("the log level was changed").then_some(())
    })
    .await;
    // Libraries stay at warnings, whatever the level: they would have logged every connection by now.
    post("?v=5", "").await;
    assert!(logs_refusals(&epp).await);
    assert!(epp.log_lines().iter().all(is_ours_or_a_warning));
}

fn is_ours_or_a_warning(line: &Value) -> bool {
    let ours = line["logger"].as_str().is_some_and(|logger| logger.starts_with("epp"));
    ours || line["level"] == "warn" || line["level"] == "error"
}

#[tokio::test]
async fn the_log_level_is_not_for_strangers() {
    let epp = Epp::start(&[]).await;
    for (header, value, status) in [
        ("host", "rebound.example:9090", 403),
        ("origin", "http://elsewhere.example", 403),
        ("origin", "null", 403),
        ("origin", &format!("http://{}", epp.metrics), 200),
    ] {
        let ask = client(Protocol::Http1).post(format!("http://{}/debug/log-level?v=3", epp.metrics));
        let answer = ask.header(header, value).send().await.unwrap();
        assert_eq!(answer.status(), status, "{header}: {value}");
    }
}
