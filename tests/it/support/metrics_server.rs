//! A server that has nothing but metrics pages, in clear text or over TLS. Entry point [`MetricsServer::start`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Pages by path; other paths are answered with 404.
pub(crate) type Pages = &'static [(&'static str, &'static str)];

/// Serves until dropped.
pub(crate) struct MetricsServer {
    pub(crate) addr: SocketAddr,
    /// Path and query of each request so far.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

/// A certificate for an address of this machine, and its key.
pub(crate) struct LocalCertificate {
    pub(crate) pem: String,
    acceptor: TlsAcceptor,
}

impl LocalCertificate {
    /// Makes one for `name`.
    pub(crate) fn of(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().expect("keys can be made");
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("it signs itself");
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .expect("key and certificate belong together");
        Self { pem: certificate.pem(), acceptor: TlsAcceptor::from(Arc::new(config)) }
    }
}

impl MetricsServer {
    /// Serves `pages`, over TLS if there is a certificate.
    pub(crate) async fn start(pages: Pages, certificate: Option<&LocalCertificate>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let acceptor = certificate.map(|certificate| certificate.acceptor.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, acceptor, pages, asked.clone()));
        Self { addr, asked, _tasks: tasks }
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    pages: Pages,
    asked: Arc<Mutex<Vec<String>>>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("the listener stays");
        let (acceptor, asked) = (acceptor.clone(), asked.clone());
        connections.spawn(async move {
            match acceptor {
                None => serve(stream, pages, asked).await,
                // A client that does not trust us hangs up.
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, pages, asked).await;
                    }
                }
            }
        });
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    pages: Pages,
    asked: Arc<Mutex<Vec<String>>>,
) {
    let answer = |request: Request<Incoming>| {
        asked.lock().push(request.uri().to_string());
        let page = pages.iter().find(|(path, _)| *path == request.uri().path());
        let mut response =
            Response::new(Full::new(Bytes::from_static(page.map_or("", |page| page.1).as_bytes())));
        if page.is_none() {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        std::future::ready(Ok::<_, Infallible>(response))
    };
    let service = hyper::service::service_fn(answer);
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}
