//! Callers against an API that answers, refuses, falls silent and comes back; in process, so that time can be paused.

use std::collections::VecDeque;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use futures_util::future::{join_all, pending};
use serde_json::{Value, json};
use tokio::time::{advance, sleep, timeout};

use super::*;

const TOKENS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESSES: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// What the API does with a review.
#[derive(Clone, Debug)]
enum Does {
    /// Answers with this status and body.
    Say(u16, String),
    /// Answers after this time.
    Late(Duration, String),
    /// Never answers.
    Hang,
}

/// An API, and what it was asked.
struct Fake {
    token: Mutex<VecDeque<Does>>,
    access: Mutex<VecDeque<Does>>,
    asked: Mutex<Vec<(String, Value)>>,
}

fn say(status: u16, body: &Value) -> Does {
    Does::Say(status, body.to_string())
}

fn user() -> Does {
    let user = json!({"username": "system:serviceaccount:monitoring:prometheus", "uid": "u-1",
        "groups": ["system:authenticated", "g"], "extra": {"k": ["v", "w"]}});
    say(201, &json!({"status": {"authenticated": true, "user": user}}))
}

fn nobody() -> Does {
    say(201, &json!({"status": {"error": "[invalid bearer token, token lookup failed]"}}))
}

fn allowed(allowed: bool) -> Does {
    say(201, &json!({"status": {"allowed": allowed, "reason": "RBAC"}}))
}

impl Fake {
    /// The last thing that is to be done with a kind of review is done with all that follow.
    fn new(token: &[Does], access: &[Does]) -> (Arc<Self>, Arc<Reviews>) {
        let fake = Arc::new(Self {
            token: Mutex::new(token.iter().cloned().collect()),
            access: Mutex::new(access.iter().cloned().collect()),
            asked: Mutex::default(),
        });
        let client = kube::Client::new(Router::new().fallback(answer).with_state(fake.clone()), "default");
        let metrics = ReviewMetrics::register(&Registry::new()).unwrap();
        (fake, Reviews::new(client, metrics).unwrap())
    }

    fn then(&self, token: Does, access: Does) {
        (*self.token.lock(), *self.access.lock()) = ([token].into(), [access].into());
    }

    /// How many reviews of either kind were asked since the last call.
    fn asked(&self) -> (usize, usize) {
        let asked = std::mem::take(&mut *self.asked.lock());
        let tokens = asked.iter().filter(|(path, _)| path == TOKENS).count();
        (tokens, asked.len() - tokens)
    }
}

async fn answer(State(fake): State<Arc<Fake>>, uri: Uri, body: String) -> Response {
    fake.asked.lock().push((uri.path().to_owned(), serde_json::from_str(&body).unwrap()));
    let does = {
        let mut does = if uri.path() == TOKENS { fake.token.lock() } else { fake.access.lock() };
        if does.len() > 1 { does.pop_front() } else { does.front().cloned() }
    };
    let (status, body) = match does.unwrap() {
        Does::Say(status, body) => (status, body),
        Does::Late(after, body) => {
            sleep(after).await;
            (201, body)
        }
        Does::Hang => pending().await,
    };
    (StatusCode::from_u16(status).unwrap(), Body::from(body)).into_response()
}

#[tokio::test(start_paused = true)]
async fn the_reviews_ask_what_the_go_epp_asks() {
    let (fake, reviews) = Fake::new(&[user()], &[allowed(true)]);
    assert_eq!(reviews.admit(Some("t0ken"), "/metrics", "get").await, Ok(()));
    let asked = fake.asked.lock().clone();
    let paths: Vec<&str> = asked.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, [TOKENS, ACCESSES]);
    assert_eq!(asked[0].1["spec"], json!({"token": "t0ken"}), "no audience");
    assert_eq!(
        (&asked[0].1["apiVersion"], &asked[0].1["kind"]),
        (&json!("authentication.k8s.io/v1"), &json!("TokenReview"))
    );
    let spec = json!({"user": "system:serviceaccount:monitoring:prometheus", "uid": "u-1",
        "groups": ["system:authenticated", "g"], "extra": {"k": ["v", "w"]},
        "nonResourceAttributes": {"path": "/metrics", "verb": "get"}});
    assert_eq!(asked[1].1["spec"], spec);
    assert_eq!(
        (&asked[1].1["apiVersion"], &asked[1].1["kind"]),
        (&json!("authorization.k8s.io/v1"), &json!("SubjectAccessReview"))
    );
}

/// A caller with a token: what the API does with either review, the answer's status and a part of its text, and how often
/// the reviews are asked.
type Outcome = (&'static str, Does, Does, u16, &'static str, (usize, usize));

fn verdicts() -> Vec<Outcome> {
    vec![
        ("allowed", user(), allowed(true), 200, "", (1, 1)),
        ("nobody's", nobody(), allowed(true), 401, "Unauthorized", (1, 0)),
        (
            "no user",
            say(201, &json!({"status": {"authenticated": true}})),
            allowed(true),
            401,
            "Unauthorized",
            (1, 0),
        ),
        ("no status", say(201, &json!({})), allowed(true), 401, "Unauthorized", (1, 0)),
        (
            "denied",
            user(),
            allowed(false),
            403,
            "Authorization denied for user system:serviceaccount:monitoring:prometheus",
            (1, 1),
        ),
        (
            "both",
            user(),
            say(201, &json!({"status": {"allowed": true, "denied": true}})),
            403,
            "Authorization denied",
            (1, 1),
        ),
        ("no verdict", user(), say(201, &json!({})), 403, "Authorization denied", (1, 1)),
    ]
}

fn troubles() -> Vec<Outcome> {
    let garbage = Does::Say(201, "t0ken is no JSON".to_owned());
    let long = Does::Say(201, format!("{{\"x\":\"{}\"}}", "t0ken".repeat(100_000)));
    let refused = say(403, &json!({"kind": "Status", "message": "t0ken"}));
    vec![
        (
            "no right to review tokens",
            refused.clone(),
            allowed(true),
            403,
            "epp may not create tokenreviews",
            (1, 0),
        ),
        (
            "no right to review access",
            user(),
            refused,
            403,
            "epp may not create subjectaccessreviews",
            (1, 1),
        ),
        ("stranger itself", say(401, &json!({})), allowed(true), 403, "own credentials", (1, 0)),
        (
            "down",
            say(503, &json!({})),
            allowed(true),
            503,
            "Authentication failed: the Kubernetes API answers with status 503",
            (5, 0),
        ),
        ("down later", user(), say(500, &json!({})), 503, "Authorization failed: ", (1, 5)),
        ("busy", say(429, &json!({})), allowed(true), 503, "status 429", (5, 0)),
        ("no such API", say(404, &json!({})), allowed(true), 503, "status 404", (1, 0)),
        ("moved", say(302, &json!({})), allowed(true), 503, "status 302", (1, 0)),
        ("garbage", garbage, allowed(true), 503, "no review", (5, 0)),
        ("too long", long, allowed(true), 503, "no review", (5, 0)),
        ("silent", Does::Hang, allowed(true), 503, "does not answer in time", (1, 0)),
        (
            "silent later",
            user(),
            Does::Hang,
            503,
            "Authorization failed: the Kubernetes API does not answer in time",
            (1, 1),
        ),
    ]
}

/// Section 2.6 of the functional specification, "Results"; a right or an API that is missing is no 500.
#[tokio::test(start_paused = true)]
async fn each_outcome_has_its_status_and_text() {
    for (name, token, access, status, text, asked) in verdicts().into_iter().chain(troubles()) {
        let (fake, reviews) = Fake::new(&[token], &[access]);
        let began = Instant::now();
        let admitted = reviews.admit(Some("t0ken"), "/metrics", "get").await;
        assert!(began.elapsed() <= BUDGET, "{name}: {:?}", began.elapsed());
        let (got, said) = match admitted {
            Ok(()) => (200, String::new()),
            Err(refusal) => (refusal.status().as_u16(), refusal.to_string()),
        };
        assert!(got == status && said.contains(text), "{name}: {got} {said}");
        assert!(!said.contains("t0ken"), "{name}: {said}");
        assert_eq!(fake.asked(), asked, "{name}");
    }
    let (fake, reviews) = Fake::new(&[user()], &[allowed(true)]);
    assert_eq!(reviews.admit(None, "/metrics", "get").await, Err(Refusal::Unauthorized));
    assert_eq!(fake.asked(), (0, 0), "without a token nobody is asked");
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_asked_again_within_the_budget() {
    let down = say(500, &json!({}));
    let (fake, reviews) = Fake::new(&[down.clone(), down.clone(), user()], &[down, allowed(true)]);
    let began = Instant::now();
    assert_eq!(reviews.admit(Some("t"), "/metrics", "get").await, Ok(()));
    assert_eq!(fake.asked(), (3, 2));
    let took_ms = began.elapsed().as_millis();
    assert!((1750..=2105).contains(&took_ms), "0.5 s and 0.75 s, then 0.5 s, each and a fifth: {took_ms}");
}

#[tokio::test(start_paused = true)]
async fn verdicts_are_cached_and_a_revoked_token_is_refused_after_a_minute() {
    let (fake, reviews) = Fake::new(&[user()], &[allowed(true)]);
    let second = Duration::from_secs(1);
    let admit = async |path| reviews.admit(Some("t"), path, "get").await;
    for _ in 0..59 {
        assert_eq!(admit("/metrics").await, Ok(()));
        advance(second).await;
    }
    assert_eq!(fake.asked(), (1, 1));
    fake.then(nobody(), allowed(false));
    assert_eq!(admit("/metrics").await, Ok(()), "it is not known yet");
    advance(second).await;
    assert_eq!(admit("/metrics").await, Err(Refusal::Unauthorized));
    assert_eq!(admit("/metrics").await, Err(Refusal::Unauthorized));
    assert_eq!(fake.asked(), (1, 0), "that is cached, too");

    fake.then(user(), allowed(false));
    advance(60 * second).await;
    assert_eq!(admit("/metrics").await, Ok(()), "what it may do counts for five minutes");
    assert_eq!(fake.asked(), (1, 0));
    assert!(matches!(admit("/debug/decisions").await, Err(Refusal::Denied { .. })), "of that path only");
    assert!(matches!(reviews.admit(Some("t"), "/metrics", "post").await, Err(Refusal::Denied { .. })));
    assert_eq!(fake.asked(), (0, 2));
    fake.then(user(), allowed(true));
    advance(29 * second).await;
    assert!(matches!(admit("/debug/decisions").await, Err(Refusal::Denied { .. })));
    advance(second).await;
    assert_eq!(admit("/debug/decisions").await, Ok(()), "half a minute after the refusal");
    assert_eq!(fake.asked(), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn troubles_are_not_cached_and_verdicts_outlive_the_api() {
    let (fake, reviews) = Fake::new(&[say(403, &json!({}))], &[allowed(true)]);
    let admit = async || reviews.admit(Some("t"), "/metrics", "get").await;
    assert!(matches!(admit().await, Err(Refusal::Trouble { review: Review::Token, .. })));
    fake.then(user(), allowed(true));
    assert_eq!(admit().await, Ok(()), "the right was granted");
    fake.then(Does::Hang, Does::Hang);
    advance(Duration::from_secs(59)).await;
    assert_eq!(admit().await, Ok(()), "the API is gone, the verdict is not");
    let counted: Vec<u64> =
        [&reviews.metrics.allowed, &reviews.metrics.not_permitted, &reviews.metrics.failed]
            .map(IntCounter::get)
            .to_vec();
    assert_eq!(counted, [2, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_with_one_token_costs_one_review() {
    let Does::Say(_, user) = user() else { panic!("it answers") };
    let late = Does::Late(Duration::from_secs(2), user);
    let (fake, reviews) = Fake::new(&[late], &[allowed(true)]);
    let admit = || reviews.admit(Some("t"), "/metrics", "get");
    // The one who asked leaves before the answer; the others lose nothing, and need not ask again.
    let first = timeout(Duration::from_millis(500), admit());
    let others = join_all((0..100).map(|_| admit()));
    let began = Instant::now();
    let (first, others) = tokio::join!(first, others);
    assert!(first.is_err(), "it left");
    assert!(others.iter().all(Result::is_ok), "{others:?}");
    assert_eq!((fake.asked(), began.elapsed().as_secs()), ((1, 1), 2));

    // Nobody waits any more: the question is dropped, and asked anew by the next one.
    assert!(timeout(Duration::from_secs(1), reviews.admit(Some("u"), "/metrics", "get")).await.is_err());
    sleep(Duration::from_secs(10)).await;
    assert_eq!(reviews.admit(Some("u"), "/metrics", "get").await, Ok(()));
    assert_eq!(fake.asked(), (2, 0), "the same user may do the same with another token");
}

#[tokio::test(start_paused = true)]
async fn many_tokens_are_reviewed_a_few_at_a_time() {
    let (fake, reviews) = Fake::new(&[Does::Hang], &[allowed(true)]);
    let tokens: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let strangers = join_all(tokens.iter().map(|token| reviews.admit(Some(token), "/metrics", "get")));
    assert!(strangers.await.iter().all(|admitted| matches!(admitted, Err(Refusal::Trouble { .. }))));
    assert_eq!(fake.asked(), (8, 0));
}
