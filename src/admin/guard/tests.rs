//! Guards before a page that is served over a socket.

use std::time::Duration;

use axum::Router;
use axum::http::Uri;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use kube::Client;
use prometheus::Registry;
use tokio::net::TcpListener;

use super::*;
use crate::admin::reviews::ReviewMetrics;
use crate::http1::{self, Limits};
use crate::sockets::sockets;

/// What a caller gets of a guarded page that shows "page" for GET: the status, the text, the scheme it is told to use.
async fn asked(guard: Guard, method: &str, headers: &[(&str, &str)]) -> (u16, String, Option<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let pages = Router::new().route("/page", get(async || "page"));
    let pages = pages.route_layer(from_fn_with_state(Arc::new(guard), check));
    let limits = Limits { connections: 8, silence: Duration::from_secs(30) };
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut ask = client.request(method.parse().unwrap(), format!("http://{at}/page"));
    for (name, value) in headers {
        ask = ask.header(*name, *value);
    }
    tokio::select! {
        () = http1::serve(sockets(listener), limits, pages) => unreachable!("listeners do not end"),
        answer = ask.send() => {
            let answer = answer.unwrap();
            let scheme = answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
            (answer.status().as_u16(), answer.text().await.unwrap(), scheme)
        }
    }
}

#[tokio::test]
async fn an_open_page_is_for_everybody_and_a_near_one_for_names_of_this_machine() {
    let elsewhere = ("origin", "http://elsewhere.example");
    for (headers, open, loopback) in [
        (&[][..], 200, 200),
        (&[("host", "localhost:9090")], 200, 200),
        (&[("host", "localhost:9090"), ("origin", "http://localhost:9090")], 200, 200),
        (&[("host", "localhost:9090"), ("origin", "https://localhost:9090")], 200, 200),
        (&[("host", "[::1]:9090")], 200, 200),
        (&[("host", "localhost:9090"), ("origin", "ftp://localhost:9090")], 200, 403),
        (&[("host", "rebound.example")], 200, 403),
        (&[elsewhere], 200, 403),
        (&[("origin", "null")], 200, 403),
    ] {
        assert_eq!(asked(Guard::Open, "GET", headers).await.0, open, "{headers:?}");
        assert_eq!(asked(Guard::Loopback, "GET", headers).await.0, loopback, "{headers:?}");
    }
}

#[tokio::test]
async fn a_token_is_asked_for_before_anything_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "s3cret\n").unwrap();
    let (file, _) = TokenFile::open(&path, Duration::from_secs(1)).unwrap();
    let long = format!("Bearer {}", "x".repeat(LONGEST_TOKEN + 1));
    for (method, headers, status) in [
        ("GET", &[("authorization", "Bearer s3cret")][..], 200),
        ("GET", &[("authorization", "bearer   s3cret")], 200),
        ("GET", &[("authorization", "Bearer s3cret"), ("host", "epp.pool.svc:9090")], 200),
        ("GET", &[("authorization", "Bearer s3cret"), ("origin", "http://elsewhere.example")], 403),
        ("POST", &[("authorization", "Bearer s3cret")], 405),
        ("POST", &[], 401),
        ("GET", &[], 401),
        ("GET", &[("authorization", "")], 401),
        ("GET", &[("authorization", "Bearer")], 401),
        ("GET", &[("authorization", "Bearer wrong")], 401),
        ("GET", &[("authorization", "Basic s3cret")], 401),
        ("GET", &[("authorization", "s3cret")], 401),
        ("GET", &[("authorization", long.as_str())], 401),
    ] {
        let (got, text, scheme) = asked(Guard::Token(file.clone()), method, headers).await;
        assert_eq!(got, status, "{method} {headers:?}: {text}");
        let wants_token = (status == 401).then(|| ("Unauthorized\n".to_owned(), Some("Bearer".to_owned())));
        assert_eq!((got == 401).then_some((text, scheme)), wants_token, "{method} {headers:?}");
    }
}

#[tokio::test]
async fn a_review_is_asked_with_path_and_method() {
    let api = |path: &'static str| {
        Router::new().fallback(async move |uri: Uri, body: String| {
            let allowed = body.contains(path) && body.contains("\"verb\":\"get\"");
            match uri.path().ends_with("tokenreviews") {
                true if body.contains("kn0wn") => {
                    r#"{"status":{"authenticated":true,"user":{"username":"u"}}}"#.to_owned()
                }
                true => r#"{"status":{"authenticated":false}}"#.to_owned(),
                false => format!(r#"{{"status":{{"allowed":{allowed}}}}}"#),
            }
        })
    };
    let guard = |path| {
        let metrics = ReviewMetrics::register(&Registry::new()).unwrap();
        Guard::Review(Reviews::new(Client::new(api(path), "default"), metrics).unwrap())
    };
    let known = &[("authorization", "Bearer kn0wn")][..];
    for (path, method, headers, status, text) in [
        ("/page", "GET", known, 200, "page"),
        ("/other", "GET", known, 403, "Authorization denied for user u\n"),
        ("/page", "POST", known, 403, "Authorization denied for user u\n"),
        ("/page", "HEAD", known, 403, ""),
        ("/page", "GET", &[("authorization", "Bearer other")], 401, "Unauthorized\n"),
        ("/page", "GET", &[], 401, "Unauthorized\n"),
    ] {
        let (got, said, scheme) = asked(guard(path), method, headers).await;
        assert_eq!((got, said.as_str()), (status, text), "{path} {method} {headers:?}");
        assert_eq!(scheme.is_some(), status == 401, "{path} {method} {headers:?}");
    }
}
