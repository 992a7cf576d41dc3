//! Certificates, and a client that says no more than HTTP/2 needs. Entry points [`Authority`] and [`TlsClient`].
//!
//! Certificates are for [`NAME`]. A client counts as served once the server has spoken HTTP/2: with TLS 1.3 a handshake
//! ends for the client before the server has looked at the client's certificate.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::client::{Resumption, WantsClientCert, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    ALL_VERSIONS, CipherSuite, ClientConfig, ConfigBuilder, HandshakeKind, RootCertStore, ServerConfig,
    SupportedProtocolVersion,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The name in every certificate.
pub(crate) const NAME: &str = "epp.test";

/// Who signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    folder: TempDir,
}

/// A certificate and its key, signed by an [`Authority`].
pub(crate) struct Issued {
    pub(crate) certificate: CertificateDer<'static>,
    certificate_pem: String,
    key: KeyPair,
}

impl Authority {
    /// Makes an authority.
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        // OpenSSL takes a certificate whose subject is its issuer's for a self-signed one.
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.crt"), certificate.pem()).unwrap();
        let certificate = certificate.der().clone();
        Self { issuer: Issuer::new(params, key), certificate, folder }
    }

    /// The file with its certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Signs a certificate for [`NAME`].
    pub(crate) fn issue(&self) -> Issued {
        self.issue_for(&[NAME])
    }

    /// Signs a certificate for these names and addresses.
    pub(crate) fn issue_for(&self, names: &[&str]) -> Issued {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate: certificate.der().clone(), certificate_pem: certificate.pem(), key }
    }
}

impl Issued {
    /// Writes `tls.crt` and `tls.key`, one after the other, into `folder`, and returns their paths.
    pub(crate) fn write(&self, folder: &Path) -> (PathBuf, PathBuf) {
        let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        fs::write(&certificate, &self.certificate_pem).unwrap();
        fs::write(&key, self.key.serialize_pem()).unwrap();
        (certificate, key)
    }

    /// What a server of ours makes of connections with it.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        let config = config.with_single_cert(vec![self.certificate.clone()], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// Puts them into `folder` as Kubernetes does: into a new folder named after `version`, to which a link is renamed.
    pub(crate) fn mount(&self, folder: &Path, version: usize) {
        use std::os::unix::fs::symlink;
        let (target, link) = (format!("..{version}"), folder.join("..data_tmp"));
        fs::create_dir(folder.join(&target)).unwrap();
        self.write(&folder.join(&target));
        symlink(&target, &link).unwrap();
        fs::rename(&link, folder.join("..data")).unwrap();
        for name in ["tls.crt", "tls.key"] {
            let file = folder.join(name);
            if !file.is_symlink() {
                fs::remove_file(&file).ok();
                symlink(Path::new("..data").join(name), file).unwrap();
            }
        }
    }
}

/// A client of the EPP's port.
pub(crate) struct TlsClient(TlsConnector);

/// What a client saw of a server that served it.
pub(crate) struct Served {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) suite: CipherSuite,
    pub(crate) resumed: bool,
}

impl TlsClient {
    /// A client that trusts this authority, and resumes no session.
    pub(crate) fn new(authority: &Authority) -> Self {
        let mut config = verifying(authority, ring::default_provider(), ALL_VERSIONS).with_no_client_auth();
        config.resumption = Resumption::disabled();
        Self::of(config)
    }

    /// The same, speaking these versions and offering only this suite.
    pub(crate) fn speaking(
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
        only: CipherSuite,
    ) -> Self {
        let mut provider = ring::default_provider();
        provider.cipher_suites.retain(|suite| suite.suite() == only);
        Self::of(verifying(authority, provider, versions).with_no_client_auth())
    }

    /// A client with a certificate of its own, which resumes its sessions if it can.
    pub(crate) fn with_identity(authority: &Authority, issued: &Issued) -> Self {
        let key = PrivateKeyDer::Pkcs8(issued.key.serialize_der().into());
        let config = verifying(authority, ring::default_provider(), ALL_VERSIONS);
        Self::of(config.with_client_auth_cert(vec![issued.certificate.clone()], key).unwrap())
    }

    fn of(mut config: ClientConfig) -> Self {
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// Connects and exchanges the first frames of HTTP/2.
    pub(crate) async fn greet(&self, server: SocketAddr) -> Result<Served> {
        let socket = TcpStream::connect(server).await?;
        let mut stream = self.0.connect(ServerName::try_from(NAME).unwrap(), socket).await?;
        let (_, session) = stream.get_ref();
        let certificate =
            session.peer_certificates().and_then(<[_]>::first).expect("servers have one").clone();
        let suite = session.negotiated_cipher_suite().expect("the handshake is over").suite();
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        // The preface, and an empty SETTINGS frame.
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).await?;
        if frame[3] != 4 {
            return Err(Error::new(ErrorKind::InvalidData, "no SETTINGS frame"));
        }
        Ok(Served { certificate, suite, resumed })
    }

    /// GET over HTTP/1.1: the server's certificate, and its answer from the first line to the end.
    pub(crate) async fn get(
        &self,
        server: SocketAddr,
        path: &str,
    ) -> Result<(CertificateDer<'static>, String)> {
        let mut config = ClientConfig::clone(self.0.config());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let socket = TcpStream::connect(server).await?;
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(ServerName::try_from(NAME).unwrap(), socket).await?;
        let certificates = stream.get_ref().1.peer_certificates();
        let certificate = certificates.and_then(<[_]>::first).expect("servers have one").clone();
        let ask = format!("GET {path} HTTP/1.1\r\nhost: {NAME}\r\nconnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok((certificate, answer))
    }
}

fn verifying(
    authority: &Authority,
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    let provider = Arc::new(provider);
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    config.with_webpki_verifier(verifier.unwrap())
}
