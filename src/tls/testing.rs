//! What the tests of TLS share: pairs of certificate and key, arguments, and a client.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use clap::Parser;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::args::{Args, TlsArgs};

/// The name in every certificate.
pub(super) const NAME: &str = "epp.test";

/// A self-signed certificate and its key, as PEM.
pub(super) fn pair(expires_in_year: i32) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(expires_in_year, 1, 1);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// The flags of TLS as a command line gives them.
pub(super) fn args(flags: &[&str]) -> TlsArgs {
    Args::try_parse_from([&["epp"], flags].concat()).unwrap().serve.tls
}

pub(super) fn cert_path(folder: &Path) -> TlsArgs {
    args(&["--cert-path", folder.to_str().unwrap()])
}

/// Writes a pair into `folder` as Kubernetes names it.
pub(super) fn write(folder: &Path, (certificate, key): &(String, String)) {
    std::fs::write(folder.join("tls.crt"), certificate).unwrap();
    std::fs::write(folder.join("tls.key"), key).unwrap();
}

/// A client that offers these protocols and trusts the certificate of `pair`.
pub(super) async fn connect(
    to: SocketAddr,
    (certificate, _): &(String, String),
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_webpki_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let socket = TcpStream::connect(to).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME).unwrap(), socket).await
}
