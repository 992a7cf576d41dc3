//! What tests stand on: a real Envoy, the model server behind it, and an `ext_proc` server that is known to be right.
//!
//! A test starts an [`Upstream`](upstream::Upstream), an `ext_proc` server (`epp`, or
//! [`StubEpp`](stub_epp::StubEpp)) and an [`Envoy`](envoy::Envoy) between them, all on ports the system chose, and
//! sends requests with [`client`]. Everything ends when its value is dropped.

pub(crate) mod envoy;
pub(crate) mod envoy_config;
pub(crate) mod epp;
pub(crate) mod hermetic;
pub(crate) mod kube_api;
pub(crate) mod leash;
pub(crate) mod metrics_server;
pub(crate) mod rate_limit;
pub(crate) mod raw_upstream;
pub(crate) mod stub_epp;
pub(crate) mod tls;
pub(crate) mod upstream;

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// The HTTP version a client speaks to Envoy.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge, in clear text.
    Http2,
}

/// Makes an HTTP client that takes no proxy from the environment and follows no redirect.
pub(crate) fn client(protocol: Protocol) -> reqwest::Client {
    // Whoever builds one must have chosen; the first choice stands.
    rustls::crypto::ring::default_provider().install_default().ok();
    // Without authorities: to read the system's takes longer than most requests, and no test needs them.
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    let builder = builder.redirect(reqwest::redirect::Policy::none());
    let builder = match protocol {
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_prior_knowledge(),
    };
    builder.build().expect("the settings are constant")
}

/// Asks `probe` again and again until it yields a value. Fails the test after a minute, naming `what` was awaited.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let found = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            ticks.tick().await;
            if let Some(value) = probe().await {
                return value;
            }
        }
    });
    found.await.map_err(|_| what).expect("within a minute")
}

/// Makes a runtime of one thread for a server of its own: shutting it down closes every socket of that server.
pub(crate) fn server_runtime(name: &str) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(name)
        .enable_all()
        .build()
        .expect("a thread can be started")
}
