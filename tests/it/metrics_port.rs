//! Who may read the metrics port, and over TLS: `epp` beside an API that reviews callers.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::support::epp::{Epp, EppSetup};
use crate::support::tls::{Authority, TlsClient};
use crate::support::{Protocol, client, eventually, server_runtime};

/// What the API does.
#[derive(Clone, Copy)]
enum Mode {
    /// It knows tokens that begin with `known` and lets their users read `/metrics`, and those that begin with `admin`
    /// and lets them do everything.
    Review,
    /// It answers with this status, and with what it was sent.
    Echo(StatusCode),
}

/// An API that knows reviews only.
struct ReviewApi {
    runtime: Option<Runtime>,
    mode: Arc<Mutex<Mode>>,
    folder: TempDir,
}

impl ReviewApi {
    fn start() -> Self {
        let (runtime, folder) = (server_runtime("review-api"), tempfile::tempdir().unwrap());
        let mode = Arc::new(Mutex::new(Mode::Review));
        let routes = Router::new().fallback(review).with_state(mode.clone());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        runtime.spawn(async move {
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), routes).await.unwrap();
        });
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": format!("http://{at}")}}],
            "users": [{"name": "it", "user": {}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}]});
        fs::write(folder.path().join("config"), config.to_string()).unwrap();
        Self { runtime: Some(runtime), mode, folder }
    }

    fn does(&self, mode: Mode) {
        *self.mode.lock() = mode;
    }

    /// `epp` with these arguments, which asks this API.
    async fn epp(&self, args: &[&str]) -> Epp {
        let config = self.folder.path().join("config").display().to_string();
        Epp::with(EppSetup { env: vec![("KUBECONFIG".to_owned(), config)], ..setup(args) }).await
    }
}

impl Drop for ReviewApi {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn review(State(mode): State<Arc<Mutex<Mode>>>, uri: Uri, body: String) -> (StatusCode, String) {
    if let Mode::Echo(status) = *mode.lock() {
        return (status, body);
    }
    let spec: Value = serde_json::from_str::<Value>(&body).unwrap()["spec"].take();
    let status = match uri.path() {
        "/apis/authentication.k8s.io/v1/tokenreviews" => {
            let token = spec["token"].as_str().unwrap();
            let user = token.split('-').next().filter(|user| ["known", "admin"].contains(user));
            json!({"authenticated": user.is_some(), "user": {"username": user, "groups": ["g"]}})
        }
        "/apis/authorization.k8s.io/v1/subjectaccessreviews" => {
            let reads = json!({"path": "/metrics", "verb": "get"});
            json!({"allowed": spec["user"] == "admin" || spec["nonResourceAttributes"] == reads})
        }
        other => panic!("{other} is no review"),
    };
    (StatusCode::CREATED, json!({"spec": spec, "status": status}).to_string())
}

fn setup(args: &[&str]) -> EppSetup {
    EppSetup { args: args.iter().map(|arg| (*arg).to_owned()).collect(), ..EppSetup::new(&[]) }
}

async fn ask(epp: &Epp, method: &str, path: &str, token: &str) -> (u16, String) {
    let ask =
        client(Protocol::Http1).request(method.parse().unwrap(), format!("http://{}{path}", epp.metrics));
    let ask = if token.is_empty() { ask } else { ask.bearer_auth(token) };
    let answer = ask.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn get(epp: &Epp, path: &str, token: &str) -> (u16, String) {
    ask(epp, "GET", path, token).await
}

/// How often a message was logged.
fn logged(epp: &Epp, message: &str) -> usize {
    epp.log_lines().iter().filter(|line| line["msg"] == message).count()
}

#[tokio::test]
async fn pages_are_for_those_whom_the_api_allows_it() {
    let api = ReviewApi::start();
    let epp = api.epp(&["--metrics-endpoint-auth", "--debug-access=review"]).await;
    for (method, path, token, status, text) in [
        ("GET", "/metrics", "", 401, "Unauthorized\n"),
        ("GET", "/metrics", "other", 401, "Unauthorized\n"),
        ("GET", "/metrics", "known-1", 200, "inference_pool_ready_pods"),
        ("POST", "/metrics", "known-1", 403, "Authorization denied for user known\n"),
        ("GET", "/debug/decisions", "known-1", 403, "Authorization denied for user known\n"),
        ("GET", "/debug/decisions", "", 401, "Unauthorized\n"),
        ("GET", "/debug/decisions", "admin-1", 200, "\"decisions\""),
        ("POST", "/debug/log-level?v=5", "known-1", 403, "Authorization denied"),
        ("POST", "/debug/log-level?v=5", "admin-1", 200, "\"v\":5"),
        ("GET", "/", "", 404, ""),
    ] {
        let (got, said) = ask(&epp, method, path, token).await;
        assert!(got == status && said.contains(text), "{method} {path} {token}: {got} {said}");
    }
    let page = get(&epp, "/metrics", "known-1").await.1;
    for (result, n) in
        [("allowed", 4), ("unauthenticated", 3), ("denied", 3), ("not_permitted", 0), ("failed", 0)]
    {
        let line = format!("epp_metrics_reviews_total{{result=\"{result}\"}} {n}\n");
        assert!(page.contains(&line), "{line}{page}");
    }
}

#[tokio::test]
async fn a_missing_right_is_told_to_the_caller_and_once_in_the_log() {
    let api = ReviewApi::start();
    let epp = api.epp(&["--metrics-endpoint-auth"]).await;
    let (troubles, better) =
        ("callers of the metrics port cannot be reviewed", "callers of the metrics port are reviewed again");
    api.does(Mode::Echo(StatusCode::FORBIDDEN));
    for _ in 0..5 {
        let (status, said) = get(&epp, "/metrics", "known-1").await;
        assert_eq!(status, 403, "{said}");
        assert!(said.contains("epp may not create tokenreviews: grant its service account"), "{said}");
    }
    assert_eq!((logged(&epp, troubles), logged(&epp, better)), (1, 0));
    api.does(Mode::Review);
    assert_eq!(get(&epp, "/metrics", "known-1").await.0, 200);
    assert_eq!((logged(&epp, troubles), logged(&epp, better)), (1, 1));

    drop(api);
    assert_eq!(get(&epp, "/metrics", "known-1").await.0, 200, "what the API said still counts");
    let (status, said) = get(&epp, "/metrics", "known-2").await;
    assert_eq!(
        (status, said.as_str()),
        (503, "Authentication failed: the Kubernetes API cannot be reached\n")
    );
    let lines = epp.log_lines();
    let troubles: Vec<&Value> = lines.iter().filter(|line| line["msg"] == troubles).collect();
    assert_eq!(troubles.len(), 2, "{troubles:?}");
    assert!(troubles[1]["cause"].as_str().unwrap().contains("refused"), "{troubles:?}");
    assert!(lines.iter().all(|line| line["level"] != "error"), "libraries stay silent: {lines:?}");
}

/// Invariant 1, for those who read metrics: their tokens appear nowhere, whatever the API answers.
#[tokio::test]
async fn no_token_appears_in_logs_metrics_or_answers() {
    const CANARY: &str = "c4n4ry";
    let api = ReviewApi::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, format!("{CANARY}-debug")).unwrap();
    let file_flag = format!("--debug-token-file={}", file.display());
    let epp = api.epp(&["--metrics-endpoint-auth", &file_flag]).await;
    let mut said = Vec::new();
    for (n, mode) in [
        Mode::Review,
        Mode::Echo(StatusCode::CREATED),
        Mode::Echo(StatusCode::FORBIDDEN),
        Mode::Echo(StatusCode::NOT_FOUND),
        Mode::Echo(StatusCode::SERVICE_UNAVAILABLE),
    ]
    .into_iter()
    .enumerate()
    {
        api.does(mode);
        for token in [format!("known-{CANARY}-{n}"), format!("{CANARY}-{n}"), format!("{CANARY} {n}")] {
            said.push(get(&epp, "/metrics", &token).await.1);
        }
        said.push(get(&epp, &format!("/debug/decisions?token={CANARY}"), CANARY).await.1);
    }
    // The file is replaced by one that cannot be used.
    fs::write(&file, format!("{CANARY} {CANARY}")).unwrap();
    eventually("the token is refused", async || {
        (logged(&epp, "debug token refused; the one before goes on") == 1).then_some(())
    })
    .await;
    assert!(epp.log().contains("callers of the metrics port cannot be reviewed"), "reviews failed");
    said.push(epp.log());
    for text in &said {
        assert!(!text.contains(CANARY), "{text}");
    }
}

#[tokio::test]
async fn debug_pages_are_off_or_ask_for_the_token_of_a_file() {
    let epp = Epp::with(setup(&["--debug-access=off"])).await;
    for path in ["/debug/decisions", "/debug/log-level"] {
        assert_eq!(get(&epp, path, "").await.0, 404, "{path}");
    }
    assert_eq!(get(&epp, "/metrics", "").await.0, 200);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "first\n").unwrap();
    let epp = Epp::with(setup(&["--debug-token-file", &file.display().to_string()])).await;
    let statuses = async |token| {
        (
            get(&epp, "/debug/decisions", token).await.0,
            ask(&epp, "POST", "/debug/log-level?v=4", token).await.0,
        )
    };
    assert_eq!(get(&epp, "/metrics", "").await.0, 200, "it is for debug pages only");
    assert_eq!((statuses("").await, statuses("second").await), ((401, 401), (401, 401)));
    assert_eq!(statuses("first").await, (200, 200));
    assert_eq!(get(&epp, "/debug/log-level?v=5", "first").await.1, "{\"shows\":\"debug\",\"v\":4}");
    fs::write(&file, "second\n").unwrap();
    eventually("the file is read again", async || (statuses("second").await == (200, 200)).then_some(()))
        .await;
    assert_eq!(statuses("first").await, (401, 401));
    assert_eq!(logged(&epp, "debug token reloaded"), 1);
}

/// GET /metrics over TLS: the server's certificate, the status line and the page.
async fn page(client: &TlsClient, at: SocketAddr) -> std::io::Result<(CertificateDer<'static>, String)> {
    client.get(at, "/metrics").await
}

#[tokio::test]
async fn metrics_are_served_over_tls_to_clients_of_an_authority() {
    let (authority, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let first = authority.issue();
    first.mount(folder.path(), 1);
    let (dir, ca) = (folder.path().display().to_string(), clients.file().display().to_string());
    let epp = Epp::with(setup(&["--metrics-cert-dir", &dir, "--metrics-client-ca-file", &ca])).await;

    let known = TlsClient::with_identity(&authority, &clients.issue());
    let (certificate, text) = page(&known, epp.metrics).await.expect("it is known");
    assert_eq!(certificate, first.certificate);
    assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("epp_metrics_tls_handshakes_total"), "{text}");
    let (_, decisions) = known.get(epp.metrics, "/debug/decisions").await.expect("it is near, too");
    assert!(
        decisions.starts_with("HTTP/1.1 403 "),
        "the name in its request is not this machine's: {decisions}"
    );

    for (who, stranger) in [
        ("no certificate", TlsClient::new(&authority)),
        ("a stranger's", TlsClient::with_identity(&authority, &others.issue())),
    ] {
        assert!(page(&stranger, epp.metrics).await.is_err(), "{who}");
    }
    let mut plain = TcpStream::connect(epp.metrics).await.unwrap();
    plain.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));

    // Clients that stall in the handshake hold nobody up, and the certificate rotates.
    let mut stalled = Vec::new();
    for _ in 0..20 {
        stalled.push(TcpStream::connect(epp.metrics).await.unwrap());
    }
    let second = authority.issue();
    second.mount(folder.path(), 2);
    let text = eventually("the new certificate is served", async || {
        let (certificate, text) = page(&known, epp.metrics).await.expect("it is served all the time");
        (certificate == second.certificate).then_some(text)
    })
    .await;
    assert!(text.contains("epp_metrics_tls_reload_total{result=\"ok\"} 1\n"), "{text}");
    drop(stalled);
}

#[tokio::test]
async fn tls_alone_goes_with_reviews() {
    let (api, authority, folder) = (ReviewApi::start(), Authority::new(), tempfile::tempdir().unwrap());
    authority.issue().write(folder.path());
    let dir = folder.path().display().to_string();
    let epp = api.epp(&["--metrics-cert-dir", &dir, "--metrics-endpoint-auth"]).await;
    let (_, text) = page(&TlsClient::new(&authority), epp.metrics).await.expect("any client may connect");
    assert!(text.starts_with("HTTP/1.1 401 ") && text.contains("www-authenticate: Bearer"), "{text}");
}

/// What `epp` says when it refuses to start on a machine that knows no Kubernetes API.
fn refused_without_api(folder: &Path, args: &[&str]) -> String {
    let endpoints = folder.join("endpoints.yaml");
    fs::write(&endpoints, "endpoints: []\n").unwrap();
    let mut epp = Command::new(env!("CARGO_BIN_EXE_epp"));
    epp.env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST").env("HOME", folder);
    epp.args([
        "--pool-name=p",
        "--grpc-port=0",
        "--grpc-health-port=0",
        "--metrics-port=0",
        "--endpoints-file",
    ]);
    let ended = epp.arg(endpoints).args(args).stdin(Stdio::null()).output().expect("there is a binary");
    assert!(!ended.status.success(), "{args:?}");
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

#[test]
fn a_start_without_what_a_flag_needs_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    fs::write(&empty, "\n").unwrap();
    let empty = empty.display().to_string();
    for (args, reasons) in [
        (&["--metrics-endpoint-auth"][..], ["--metrics-endpoint-auth asks a Kubernetes API", "KUBECONFIG"]),
        (&["--debug-access=review"], ["--debug-access=review asks a Kubernetes API", "KUBECONFIG"]),
        (&["--metrics-cert-dir=d"], ["--metrics-cert-dir alone", "--metrics-client-ca-file"]),
        (&["--metrics-client-ca-file=c"], ["--metrics-client-ca-file", "expected --metrics-cert-dir"]),
        (&["--metrics-cert-dir=d", "--metrics-client-ca-file=c"], ["the metrics port", "d/tls.crt"]),
        (&["--debug-token-file", &empty], ["--debug-token-file", "expected one token"]),
        (&["--debug-token-file", "nowhere"], ["--debug-token-file nowhere", "No such file"]),
        (&["--debug-access=token"], ["--debug-access=token", "expected --debug-token-file"]),
    ] {
        let said = refused_without_api(folder.path(), args);
        for reason in reasons {
            assert!(said.contains(reason), "{args:?}: {reason:?} is missing in\n{said}");
        }
    }
}
