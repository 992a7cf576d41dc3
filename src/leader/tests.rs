//! Candidates over an API that knows leases and nothing else. Time is tokio's, and paused.

use std::io::Write;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const NAME: &str = "epp-default-mistral.gateway-api-inference-extension.sigs.k8s.io";

/// What is wrong with the API, for one method or all.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Status(u16),
    Silence,
}

#[derive(Default)]
struct Stored {
    lease: Option<Value>,
    version: u64,
    fault: Option<(Option<Method>, Fault)>,
    /// Method, path and body.
    requests: Vec<(Method, String, Value)>,
}

#[derive(Clone, Default)]
struct FakeApi(Arc<Mutex<Stored>>);

impl FakeApi {
    fn client(&self) -> Client {
        Client::new(Router::new().fallback(serve).with_state(self.clone()), "default")
    }

    fn candidate(&self, identity: &str) -> (Candidate, Registry) {
        let registry = Registry::new();
        let lease = ["default".to_owned(), lease_name("default", "mistral")];
        let identity = identity.to_owned();
        let candidate = Candidate::new(self.client(), lease, identity, Clock::start(), &registry).unwrap();
        (candidate, registry)
    }

    fn fails(&self, method: Option<Method>, fault: Fault) {
        self.0.lock().fault = Some((method, fault));
    }

    fn works(&self) {
        self.0.lock().fault = None;
    }

    /// Somebody else writes the lease.
    fn write(&self, change: impl FnOnce(&mut Value)) {
        let mut stored = self.0.lock();
        let mut lease =
            stored.lease.take().unwrap_or_else(|| json!({"metadata": {"name": NAME}, "spec": {}}));
        change(&mut lease);
        stored.put(lease);
    }

    fn held_by(&self, holder: &str) {
        self.write(|lease| {
            lease["spec"] = json!({
                "holderIdentity": holder,
                "leaseDurationSeconds": 15,
                "acquireTime": "2026-01-01T00:00:00.000000Z",
                "renewTime": "2026-01-01T00:00:00.000000Z",
                "leaseTransitions": 3,
            });
        });
    }

    fn spec(&self, field: &str) -> Value {
        self.0.lock().lease.as_ref().map_or(Value::Null, |lease| lease["spec"][field].clone())
    }

    fn n_requests(&self) -> usize {
        self.0.lock().requests.len()
    }
}

impl Stored {
    fn put(&mut self, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.lease = Some(lease.clone());
        lease
    }

    fn answer(&mut self, method: &Method, path: &str, body: Value) -> Result<Value, u16> {
        let one = path == format!("{LEASES}/{NAME}");
        match (method.as_str(), &self.lease) {
            ("GET", Some(lease)) if one => Ok(lease.clone()),
            ("PUT", Some(lease)) if one => {
                let same = body["metadata"]["resourceVersion"] == lease["metadata"]["resourceVersion"];
                if same { Ok(self.put(body)) } else { Err(409) }
            }
            ("POST", Some(_)) if path == LEASES => Err(409),
            ("POST", None) if path == LEASES && body["metadata"]["name"] == NAME => Ok(self.put(body)),
            _ => Err(404),
        }
    }
}

async fn serve(State(api): State<FakeApi>, method: Method, uri: Uri, body: Bytes) -> Response {
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let path = uri.path().to_owned();
    let fault = {
        let mut stored = api.0.lock();
        stored.requests.push((method.clone(), path.clone(), Value::clone(&body)));
        stored.fault.clone().filter(|(of, _)| of.as_ref().is_none_or(|of| *of == method))
    };
    let answer = match fault {
        Some((_, Fault::Status(code))) => Err(code),
        Some((_, Fault::Silence)) => std::future::pending().await,
        None => api.0.lock().answer(&method, &path, body),
    };
    match answer {
        Ok(lease) => axum::Json(lease).into_response(),
        Err(code) => {
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                                "message": "said so", "reason": "Test", "code": code});
            (StatusCode::from_u16(code).unwrap(), axum::Json(status)).into_response()
        }
    }
}

/// Candidates at work.
#[derive(Default)]
struct Rig {
    api: FakeApi,
    tasks: JoinSet<()>,
}

/// One of them, as others see it.
struct Seen {
    leading: watch::Receiver<bool>,
    draining: watch::Sender<bool>,
    registry: Registry,
}

impl Rig {
    fn start(&mut self, identity: &str) -> Seen {
        let (candidate, registry) = self.api.candidate(identity);
        let (leading, draining) = (candidate.leading(), watch::Sender::new(false));
        self.tasks.spawn(candidate.run(draining.subscribe()));
        Seen { leading, draining, registry }
    }
}

impl Seen {
    /// Waits until it leads, or leads no more; returns for how many seconds.
    async fn leads(&mut self, leads: bool) -> f64 {
        let began = Instant::now();
        let changed = self.leading.wait_for(|&now| now == leads);
        timeout(Duration::from_secs(100), changed).await.expect("it changes in time").expect("it runs");
        let [family] = &self.registry.gather()[..] else { panic!("one family") };
        let [series] = family.get_metric() else { panic!("one series") };
        assert_eq!(family.name(), "leader_election_master_status");
        assert_eq!((series.get_label()[0].name(), series.get_label()[0].value()), ("name", NAME));
        assert!((series.get_gauge().get_value() - f64::from(u8::from(leads))).abs() < 1e-9);
        began.elapsed().as_secs_f64()
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_candidate_makes_the_lease_of_the_go_epp_and_keeps_it() {
    let mut rig = Rig::default();
    let mut one = rig.start("one_1");
    assert!(one.leads(true).await < 0.1);
    let (method, path, lease) = rig.api.0.lock().requests[1].clone();
    assert_eq!((method, path.as_str()), (Method::POST, LEASES));
    assert_eq!(lease["metadata"]["name"], NAME);
    let spec = &lease["spec"];
    assert_eq!((&spec["holderIdentity"], &spec["leaseDurationSeconds"]), (&json!("one_1"), &json!(15)));
    assert_eq!(spec["leaseTransitions"], 0);
    for time in ["acquireTime", "renewTime"] {
        let text = spec[time].as_str().unwrap();
        assert!(text.len() == "2026-01-01T00:00:00.000000Z".len() && text.ends_with('Z'), "{text}");
    }
    let before = rig.api.n_requests();
    sleep(Duration::from_secs(60)).await;
    let n_requests = rig.api.n_requests() - before;
    assert!((29..=30).contains(&n_requests), "{n_requests}: one write every two seconds");
    assert!(*one.leading.borrow());
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_which_nobody_hears_any_more_is_taken_over() {
    let mut rig = Rig::default();
    rig.api.held_by("gone_1");
    rig.api.write(|lease| lease["metadata"]["labels"] = json!({"kept": "yes"}));
    let mut one = rig.start("one_1");
    let seconds = one.leads(true).await;
    assert!((15.0..15.1).contains(&seconds), "{seconds}");
    assert_eq!(
        (rig.api.spec("holderIdentity"), rig.api.spec("leaseTransitions")),
        (json!("one_1"), json!(4))
    );
    assert_eq!(rig.api.0.lock().lease.as_ref().unwrap()["metadata"]["labels"]["kept"], "yes");
}

#[tokio::test(start_paused = true)]
async fn a_drain_hands_the_lease_over() {
    let mut rig = Rig::default();
    let mut one = rig.start("one_1");
    one.leads(true).await;
    let mut other = rig.start("other_2");
    sleep(Duration::from_secs(60)).await;
    assert!(*one.leading.borrow() && !*other.leading.borrow());
    one.draining.send_replace(true);
    assert!(one.leads(false).await < 0.1);
    rig.tasks.join_next().await.unwrap().unwrap();
    assert_eq!((rig.api.spec("holderIdentity"), rig.api.spec("leaseDurationSeconds")), (json!(""), json!(1)));
    let seconds = other.leads(true).await;
    assert!(seconds < 3.1, "{seconds}");
    assert_eq!(
        (rig.api.spec("holderIdentity"), rig.api.spec("leaseTransitions")),
        (json!("other_2"), json!(1))
    );
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_does_not_lead_any_more_and_comes_back() {
    for fault in [Fault::Silence, Fault::Status(500), Fault::Status(403)] {
        let mut rig = Rig::default();
        let mut one = rig.start("one_1");
        one.leads(true).await;
        rig.api.fails(None, fault);
        let seconds = one.leads(false).await;
        assert!((9.9..10.1).contains(&seconds), "{fault:?}: {seconds}");
        sleep(Duration::from_secs(60)).await;
        rig.api.works();
        let seconds = one.leads(true).await;
        assert!(seconds < 3.1, "{fault:?}: {seconds}");
        assert_eq!(rig.api.spec("leaseTransitions"), 0, "{fault:?}: nobody else had it");
    }
}

#[tokio::test(start_paused = true)]
async fn who_sees_another_holder_does_not_lead_any_more() {
    let mut rig = Rig::default();
    let mut one = rig.start("one_1");
    one.leads(true).await;
    rig.api.held_by("other_2");
    let seconds = one.leads(false).await;
    assert!(seconds < 2.1, "{seconds}");
    assert_eq!(rig.api.spec("holderIdentity"), "other_2", "which it does not write over");
    let seconds = one.leads(true).await;
    assert!((15.0..15.1).contains(&seconds), "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_is_deleted_or_labelled_goes_on() {
    let mut rig = Rig::default();
    let mut one = rig.start("one_1");
    one.leads(true).await;
    rig.api.write(|lease| lease["metadata"]["labels"] = json!({"by": "somebody"}));
    sleep(Duration::from_secs(3)).await;
    rig.api.0.lock().lease = None;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.api.spec("holderIdentity"), "one_1");
    sleep(Duration::from_secs(20)).await;
    assert!(!one.leading.has_changed().unwrap(), "it led all the time");
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_not_held_up_by_the_api() {
    for (fault, want_s) in [(Fault::Silence, 2.0), (Fault::Status(500), 0.0), (Fault::Status(409), 0.0)] {
        let mut rig = Rig::default();
        let mut one = rig.start("one_1");
        one.leads(true).await;
        rig.api.fails(matches!(fault, Fault::Status(409)).then_some(Method::PUT), fault);
        one.draining.send_replace(true);
        let began = Instant::now();
        assert!(one.leads(false).await < 0.1, "{fault:?}");
        rig.tasks.join_next().await.unwrap().unwrap();
        let seconds = began.elapsed().as_secs_f64();
        assert!((want_s..want_s + 0.1).contains(&seconds), "{fault:?}: {seconds}");
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Listens to this thread.
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || log.clone());
        let layer = tracing_subscriber::layer::Layer::with_filter(
            layer,
            tracing_subscriber::filter::LevelFilter::INFO,
        );
        tracing::subscriber::set_default(tracing_subscriber::registry().with(layer))
    }

    /// Its lines of ours since the last call.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap();
        text.lines().filter(|line| line.contains("epp::leader")).map(str::to_owned).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_right_is_told_once_and_the_candidate_follows() {
    for (method, verb, code) in
        [("GET", "get", 403), ("POST", "create", 403), ("PUT", "update", 403), ("POST", "", 404)]
    {
        let log = Log::default();
        let _listening = log.listen();
        let mut rig = Rig::default();
        if method == "PUT" {
            rig.api.held_by("");
        }
        rig.api.fails(Some(method.parse().unwrap()), Fault::Status(code));
        let mut one = rig.start("one_1");
        sleep(Duration::from_secs(60)).await;
        assert!(!*one.leading.borrow(), "{method} {code}");
        let lines = log.lines();
        assert_eq!(lines.len(), 1, "{method} {code}: {lines:#?}");
        let right =
            if code == 403 { format!("`{verb}` on `leases`") } else { "coordination.k8s.io/v1".to_owned() };
        assert!(lines[0].contains("ERROR") && lines[0].contains(&right), "{lines:#?}");
        assert!(lines[0].contains("said so") && lines[0].contains("default"), "{lines:#?}");
        rig.api.works();
        assert!(one.leads(true).await < 3.1, "{method} {code}");
        let lines = log.lines();
        let told = ["the lease can be used again", "this replica leads"];
        assert!(
            lines.len() == 2 && lines.iter().zip(told).all(|(line, told)| line.contains(told)),
            "{lines:#?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn writes_that_fail_are_told_once_while_reads_work() {
    for fault in [Fault::Status(500), Fault::Silence] {
        let log = Log::default();
        let _listening = log.listen();
        let mut rig = Rig::default();
        let mut one = rig.start("one_1");
        one.leads(true).await;
        rig.api.fails(Some(Method::PUT), fault);
        one.leads(false).await;
        sleep(Duration::from_secs(60)).await;
        let lines = log.lines();
        assert_eq!(lines.len(), 3, "it leads, it cannot write, it does not lead: {lines:#?}");
        assert!(lines[1].contains("WARN") && lines[1].contains("the lease cannot be used"), "{lines:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_change_is_told_once() {
    let log = Log::default();
    let _listening = log.listen();
    let mut rig = Rig::default();
    let expect = |told: &[&str]| {
        let lines = log.lines();
        let all = lines.len() == told.len() && lines.iter().zip(told).all(|(line, told)| line.contains(told));
        assert!(all, "{told:?}: {lines:#?}");
    };
    rig.api.held_by("other_2");
    let mut one = rig.start("one_1");
    sleep(Duration::from_secs(10)).await;
    expect(&["another replica leads"]);
    one.leads(true).await;
    expect(&["this replica leads"]);
    rig.api.fails(None, Fault::Silence);
    one.leads(false).await;
    sleep(Duration::from_secs(60)).await;
    expect(&["the lease cannot be used; going on to try", "does not lead any more"]);
    rig.api.works();
    one.leads(true).await;
    expect(&["the lease can be used again", "this replica leads"]);
    one.draining.send_replace(true);
    rig.tasks.join_next().await.unwrap().unwrap();
    expect(&["the lease is released"]);
}

#[test]
fn the_lease_is_called_as_the_go_epp_calls_it() {
    assert_eq!(lease_name("default", "mistral"), NAME);
}
