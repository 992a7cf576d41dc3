//! `epp standalone -f`: the guides on this machine, with a real Envoy, as a user starts them.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::model_routing::free_port;
use crate::support::envoy::binary;
use crate::support::{Protocol, client, eventually, leash};

const EPP: &str = env!("CARGO_BIN_EXE_epp");

const LLAMA: &str = "meta-llama/Llama-3.1-8B-Instruct";

/// A running `epp standalone` with its folder; dropping it kills it, and so Envoy.
struct Standalone {
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Standalone {
    /// Serves these files with simulated servers, once everything is there.
    async fn start(files: &[&Path]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut command = command(leash::command(EPP), folder.path(), port);
        command.arg("--simulate");
        for file in files {
            command.arg("-f").arg(file);
        }
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut standalone = Self { process, folder, port };
        eventually("Envoy serves", async || {
            let ended = standalone.process.try_wait().unwrap();
            assert!(ended.is_none(), "{}", standalone.log());
            standalone.report().filter(|report| report["is_ready"] == true)
        })
        .await;
        standalone
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn status(&self, format: &str) -> Output {
        let mut command = Command::new(EPP);
        command.args(["standalone", "status", "--format", format, "--run-dir"]).arg(self.folder.path());
        command.output().unwrap()
    }

    /// What it says of itself.
    fn report(&self) -> Option<Value> {
        serde_json::from_slice(&self.status("json").stdout).ok()
    }

    /// Asks for one token of an answer.
    async fn ask(
        &self,
        client: &reqwest::Client,
        model: &str,
        headers: &[(&str, &str)],
    ) -> reqwest::Response {
        let body = json!({"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "Hi."}]});
        let mut post = client.post(format!("http://127.0.0.1:{}/v1/chat/completions", self.port));
        for (name, value) in headers {
            post = post.header(*name, *value);
        }
        post.header("content-type", "application/json").body(body.to_string()).send().await.unwrap()
    }

    /// Status and server of an answer.
    async fn served(&self, model: &str) -> (StatusCode, String) {
        let answer = self.ask(&client(Protocol::Http1), model, &[]).await;
        let server = answer.headers().get("x-sim-server").map_or("", |name| name.to_str().unwrap());
        (answer.status(), server.to_owned())
    }

    /// Asks it to end, and waits.
    async fn stop(mut self) -> String {
        let pid = self.report().expect("it runs")["pid"].to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        // Waiting for it would close its standard input, and so end it.
        let ended = eventually("it ends", async || self.process.try_wait().unwrap()).await;
        assert!(ended.success(), "{ended}: {}", self.log());
        self.log()
    }
}

impl Drop for Standalone {
    #[expect(clippy::print_stderr, reason = "the log of a failed test")]
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- log of standalone\n{}---", self.log());
        }
    }
}

fn command(mut command: Command, folder: &Path, port: u16) -> Command {
    let ports = format!("80={port}");
    command.args(["standalone", "--metrics-port", "0", "--drain-timeout", "5s", "--port-map", &ports]);
    command.arg("--envoy").arg(binary()).arg("--run-dir").arg(folder);
    command
}

fn manifests(guide: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/manifests").join(guide)
}

/// A copy of a guide's manifests, to be edited.
fn copy(guide: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(manifests(guide)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    folder
}

/// Replaces what stands in a file exactly once.
fn edit(folder: &Path, file: &str, from: &str, to: &str) {
    let text = fs::read_to_string(folder.join(file)).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
    let new = folder.join("new");
    fs::write(&new, text.replace(from, to)).unwrap();
    fs::rename(new, folder.join(file)).unwrap();
}

/// The guide's three models: two pools and a plain backend; what it says of others, and the list.
async fn shows_the_guide(standalone: &Standalone) {
    for (model, status, server) in [
        ("mistral:latest", 200, "mistral-upstream-"),
        (LLAMA, 200, "vllm-llama3-8b-instruct-"),
        ("some-cool-self-hosted-model", 200, "envoy-ai-gateway-basic-testupstream-"),
        ("unknown", 404, ""),
    ] {
        let (found, by) = standalone.served(model).await;
        assert_eq!(found.as_u16(), status, "{model}");
        assert!(by.starts_with(server) && by.is_empty() == server.is_empty(), "{model} by {by}");
    }
    let list = client(Protocol::Http1).get(format!("http://127.0.0.1:{}/v1/models", standalone.port));
    let list = list.send().await.unwrap().text().await.unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["data"].as_array().unwrap().len(), 3, "{list}");
}

#[tokio::test]
async fn the_guide_of_ai_routes_runs() {
    let standalone = Standalone::start(&[&manifests("aigatewayroute")]).await;
    shows_the_guide(&standalone).await;
    let status = standalone.status("text");
    let told = String::from_utf8(status.stdout).unwrap();
    assert!(status.status.success(), "{told}");
    for part in [
        "envoy   ready, process ",
        "listener default/inference-pool-with-aigwroute/http  http://127.0.0.1:",
        "/* x-ai-eg-model=mistral:latest -> InferencePool default/mistral\n",
        "pool default/vllm-llama3-8b-instruct\n  vllm-llama3-8b-instruct-0 127.0.0.1:",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    standalone.stop().await;
}

/// The page as it is, where it is there; the pool that it takes from an address is ours.
#[tokio::test]
async fn the_guides_page_runs_as_it_is() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/seeds");
    let Ok(pages) = fs::read_dir(page) else { return };
    for page in pages {
        let page = page.unwrap().path();
        let text = fs::read_to_string(&page).unwrap_or_default();
        if text.contains("kind: InferenceObjective") && text.contains("name: mistral-epp") {
            let llama = manifests("aigatewayroute").join("llama.yaml");
            let standalone = Standalone::start(&[&page, &llama]).await;
            shows_the_guide(&standalone).await;
            return;
        }
    }
}

#[tokio::test]
async fn the_guide_of_http_routes_runs() {
    let standalone = Standalone::start(&[&manifests("httproute")]).await;
    let report = standalone.report().unwrap();
    let pool = &report["pools"][0];
    assert!(pool["endpoints"].as_array().is_some_and(|members| !members.is_empty()), "{report}");
    let (status, by) = standalone.served("food-review").await;
    assert_eq!(status, 200, "{}", standalone.log());
    assert!(by.starts_with("vllm-llama3-8b-instruct-"), "{by}");
}

/// Clients that ask on and on until `done`; the statuses that they got.
fn load(standalone: &Arc<Standalone>, done: &Arc<AtomicBool>) -> JoinSet<Vec<u16>> {
    let mut clients = JoinSet::new();
    for _ in 0..3 {
        let (standalone, done) = (Arc::clone(standalone), Arc::clone(done));
        clients.spawn(async move {
            let client = client(Protocol::Http1);
            let mut statuses = Vec::new();
            while !done.load(Relaxed) {
                let answer = standalone.ask(&client, "mistral:latest", &[]).await;
                statuses.push(answer.status().as_u16());
                answer.bytes().await.unwrap();
            }
            statuses
        });
    }
    clients
}

/// Files that are being written, and what passes from one pool to another.
async fn is_patient(standalone: &Standalone, files: &Path) {
    // An empty file is one that is being written.
    let whole = fs::read_to_string(files.join("llama.yaml")).unwrap();
    fs::write(files.join("llama.yaml"), "").unwrap();
    eventually("the empty file is refused", async || {
        standalone.report()?["refused"].as_str().filter(|why| why.contains("llama.yaml is empty")).map(|_| ())
    })
    .await;
    assert_eq!(standalone.served(LLAMA).await.0, 200);
    fs::write(files.join("llama.yaml"), whole).unwrap();
    eventually("it is whole again", async || standalone.report()?["refused"].is_null().then_some(())).await;

    // A pool of another name may have the picker's Service of the one that goes.
    let named = "kind: InferencePool\nmetadata:\n  name: mistral\n";
    edit(files, "mistral.yaml", named, &named.replace("name: mistral", "name: renamed"));
    edit(files, "gateway-and-route.yaml", "name: mistral}", "name: renamed}");
    eventually("the renamed pool serves", async || {
        let report = standalone.report()?;
        let routes = report["routes"]
            .as_array()?
            .iter()
            .any(|route| route["answer"] == "InferencePool default/renamed");
        (routes && report["refused"].is_null()).then_some(())
    })
    .await;
    assert_eq!(standalone.served("mistral:latest").await.0, 200);
}

/// Annotations, matches and selectors are changed while clients ask: each takes effect, and no request fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_take_effect_and_fail_no_request() {
    let folder = copy("aigatewayroute");
    let standalone = Arc::new(Standalone::start(&[folder.path()]).await);
    let done = Arc::new(AtomicBool::new(false));
    let clients = load(&standalone, &done);
    let becomes = async |model: &str, want: &str| {
        eventually(want, async || {
            let (status, by) = standalone.served(model).await;
            (status == 200 && by.starts_with(want)).then_some(())
        })
        .await;
    };
    let files = folder.path();
    edit(files, "gateway-and-route.yaml", "value: some-cool-self-hosted-model", "value: another");
    becomes("another", "envoy-ai-gateway-basic-testupstream-").await;
    assert_eq!(standalone.served("some-cool-self-hosted-model").await.0, 404);

    // How bodies are sent to a picker is a filter's business: connections of the old one drain.
    let mode = "metadata:\n  name: mistral\n  annotations:\n    aigateway.envoyproxy.io/processing-body-mode: buffered\n";
    edit(
        files,
        "mistral.yaml",
        "kind: InferencePool\nmetadata:\n  name: mistral\n",
        &format!("kind: InferencePool\n{mode}"),
    );
    eventually("Envoy has another filter", async || {
        let listeners = fs::read_to_string(standalone.folder.path().join("xds/lds.yaml")).unwrap();
        // The extractor's is the third.
        (listeners.matches("BUFFERED").count() == 3).then_some(())
    })
    .await;

    // A manifest that is wrong changes nothing, and is told.
    edit(files, "gateway-and-route.yaml", "value: another", "value: [another]");
    eventually("the edit is refused", async || {
        let report = standalone.report()?;
        report["refused"].as_str().filter(|why| why.contains("gateway-and-route.yaml:")).map(|_| ())
    })
    .await;
    assert_eq!(standalone.status("text").status.code(), Some(1));
    becomes("another", "envoy-ai-gateway-basic-testupstream-").await;
    edit(files, "gateway-and-route.yaml", "value: [another]", "value: third");
    becomes("third", "envoy-ai-gateway-basic-testupstream-").await;

    is_patient(&standalone, files).await;
    done.store(true, Relaxed);
    let statuses = clients.join_all().await.concat();
    assert!(statuses.len() > 20 && statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let standalone = Arc::into_inner(standalone).unwrap();
    assert!(standalone.stop().await.contains("the manifests were read again"));
}

/// The guide's costs with a budget: requests pass until the tokens that were reported exceed it.
#[tokio::test]
async fn tokens_are_limited() {
    let folder = copy("aigatewayroute");
    let route = folder.path().join("gateway-and-route.yaml");
    let text = fs::read_to_string(&route).unwrap();
    let costs = "  llmRequestCosts:\n  - {metadataKey: llm_total_token, type: TotalToken}\n  rules:\n";
    assert_eq!(text.matches("  rules:\n").count(), 1, "{text}");
    let policy = "
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: budget}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: inference-pool-with-aigwroute}]
  rateLimit:
    type: Global
    global:
      rules:
      - clientSelectors: [{headers: [{name: x-tenant-id, type: Distinct}]}]
        limit: {requests: 1, unit: Year}
        cost:
          request: {from: Number, number: 0}
          response: {from: Metadata, metadata: {namespace: io.envoy.ai_gateway, key: llm_total_token}}
";
    fs::write(&route, text.replace("  rules:\n", costs) + policy).unwrap();
    let standalone = Standalone::start(&[folder.path()]).await;
    let client = client(Protocol::Http1);
    let first = standalone.ask(&client, "mistral:latest", &[("x-tenant-id", "t1")]).await;
    assert_eq!(first.status(), 200);
    first.bytes().await.unwrap();
    let refused = eventually("the budget is spent", async || {
        let answer = standalone.ask(&client, "mistral:latest", &[("x-tenant-id", "t1")]).await;
        (answer.status() == 429).then_some(answer)
    })
    .await;
    assert!(refused.headers()["x-ratelimit-limit"].to_str().unwrap().starts_with("1, 1;w=31536000"));
    for headers in [&[("x-tenant-id", "t2")][..], &[]] {
        assert_eq!(standalone.ask(&client, "mistral:latest", headers).await.status(), 200, "{headers:?}");
    }
}

/// What keeps it from running is told, in words that say what to do.
#[test]
fn what_cannot_run_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let guide = manifests("aigatewayroute");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let told = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let epp = || Command::new(EPP);
    let busy = told(command(epp(), folder.path(), port).arg("-f").arg(&guide));
    assert!(busy.contains(&format!("127.0.0.1:{port} is in use")) && busy.contains("--port-map"), "{busy}");
    let mut no_envoy = epp();
    no_envoy.args(["standalone", "--envoy", "/nowhere/envoy", "--metrics-port", "0", "--run-dir"]);
    let none = told(no_envoy.arg(folder.path()).arg("-f").arg(&guide));
    assert!(none.contains("/nowhere/envoy"), "{none}");
    let nothing = told(command(epp(), folder.path(), port).args(["-f", "/nowhere/guide.yaml"]));
    assert!(nothing.contains("/nowhere/guide.yaml"), "{nothing}");
    let none_runs = told(epp().args(["standalone", "status", "--run-dir"]).arg(folder.path()));
    assert!(none_runs.contains("no `epp standalone` runs in"), "{none_runs}");
}
