//! From the text of files to what a handshake needs: [`Recipe::build`]. Does no I/O.
//!
//! Errors name files and never quote them: one of them holds a private key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, InconsistentKeys, RootCertStore, ServerConfig};

use crate::args::TlsArgs;
use crate::tls::expiry;
use crate::tls::versions::MinVersion;

/// How a configuration is made, again and again.
pub struct Recipe {
    provider: Arc<CryptoProvider>,
    min_version: MinVersion,
    identity: Identity,
    client_ca: Option<PathBuf>,
    /// What is agreed on within the handshake (ALPN).
    protocol: &'static str,
}

enum Identity {
    Files { certificate: PathBuf, key: PathBuf },
    SelfSigned(Arc<CertifiedKey>),
}

impl Identity {
    /// Files as Kubernetes names them.
    fn of(folder: &Path) -> Self {
        Self::Files { certificate: folder.join("tls.crt"), key: folder.join("tls.key") }
    }
}

/// What came out.
pub struct Material {
    /// What handshakes use.
    pub config: Arc<ServerConfig>,
    /// When the certificate ends, in seconds since 1970.
    pub expiry: Option<i64>,
}

/// Why nothing came out.
#[derive(Debug, Error)]
pub enum MaterialError {
    /// No PEM certificate is in the file, or one is broken.
    #[error("expected PEM certificates in {0}")]
    Certificates(PathBuf),
    /// The first certificate is none that we understand.
    #[error("the certificate in {0} cannot be used: {1}")]
    Certificate(PathBuf, rustls::Error),
    /// No PEM key is in the file, or it is encrypted.
    #[error("expected a PEM private key in {0}, not encrypted")]
    Key(PathBuf),
    /// The key is of no kind that we can sign with.
    #[error(
        "the private key in {0} is of no kind that can be used: expected ECDSA, Ed25519 or RSA of 2048 bits or more"
    )]
    KeyKind(PathBuf),
    /// They are not a pair.
    #[error("the private key in {key} does not fit the certificate in {certificate}")]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A certificate of the clients' authority cannot be used.
    #[error("the certificates in {0} cannot verify clients: {1}")]
    ClientCa(PathBuf, String),
    /// No handshake is possible with these settings.
    #[error("no handshake is possible with these versions and cipher suites: {0}")]
    Settings(rustls::Error),
    /// Certificates could not be made.
    #[error(transparent)]
    SelfSigned(#[from] rcgen::Error),
    /// The certificate that we made is not accepted.
    #[error(transparent)]
    Unusable(rustls::Error),
}

impl Recipe {
    /// For ext_proc, over HTTP/2. Notes which files are needed; makes the self-signed certificate if there is no
    /// `--cert-path`.
    pub fn new(args: &TlsArgs) -> Result<Self, MaterialError> {
        let provider = args.tls_cipher_suites.provider();
        let identity = match &args.cert_path {
            Some(folder) => Identity::of(folder),
            None => Identity::SelfSigned(Arc::new(self_signed(&provider)?)),
        };
        let client_ca = args.client_ca_file.clone();
        Ok(Self { provider, min_version: args.tls_min_version, identity, client_ca, protocol: "h2" })
    }

    /// For HTTP/1.1 with the certificate in `folder`; versions and cipher suites are those of ext_proc.
    pub fn http1(folder: &Path, client_ca: Option<&Path>, args: &TlsArgs) -> Self {
        Self {
            provider: args.tls_cipher_suites.provider(),
            min_version: args.tls_min_version,
            identity: Identity::of(folder),
            client_ca: client_ca.map(Path::to_owned),
            protocol: "http/1.1",
        }
    }

    /// The files whose text is needed.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = match &self.identity {
            Identity::Files { certificate, key } => vec![certificate.clone(), key.clone()],
            Identity::SelfSigned(_) => Vec::new(),
        };
        files.extend(self.client_ca.clone());
        files
    }

    /// Makes a configuration of the texts of [`files`](Self::files), in that order.
    pub fn build(&self, texts: &[String]) -> Result<Material, MaterialError> {
        let (identity, rest) = match (&self.identity, texts) {
            (Identity::Files { certificate, key }, [certificate_text, key_text, rest @ ..]) => {
                let pair = pair(&self.provider, (certificate, certificate_text), (key, key_text))?;
                (Arc::new(pair), rest)
            }
            (Identity::Files { certificate, .. }, _) => {
                return Err(MaterialError::Certificates(certificate.clone()));
            }
            (Identity::SelfSigned(pair), rest) => (pair.clone(), rest),
        };
        let builder = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(self.min_version.versions())
            .map_err(MaterialError::Settings)?;
        let builder = match &self.client_ca {
            Some(path) => {
                let text = rest.first().map_or("", String::as_str);
                let roots = client_roots(path, text)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, self.provider.clone());
                builder.with_client_cert_verifier(verifier.build().map_err(
                    |error: VerifierBuilderError| MaterialError::ClientCa(path.clone(), error.to_string()),
                )?)
            }
            None => builder.with_no_client_auth(),
        };
        let expiry = identity.end_entity_cert().ok().and_then(|certificate| expiry::not_after(certificate));
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        config.alpn_protocols = vec![self.protocol.as_bytes().to_vec()];
        Ok(Material { config: Arc::new(config), expiry })
    }
}

/// Tells whether a certificate and a key, both PEM, can be used together; the messages call them what a Secret does.
pub fn check_pair(certificate: &str, key: &str) -> Result<(), MaterialError> {
    let provider = crypto::ring::default_provider();
    pair(&provider, (Path::new("tls.crt"), certificate), (Path::new("tls.key"), key)).map(drop)
}

/// The second, counted from 1970, after which the first certificate of a chain in PEM is no longer valid.
pub fn not_after(chain: &str) -> Option<i64> {
    expiry::not_after(&CertificateDer::from_pem_slice(chain.as_bytes()).ok()?)
}

fn pair(
    provider: &CryptoProvider,
    (certificate, certificate_text): (&Path, &str),
    (key, key_text): (&Path, &str),
) -> Result<CertifiedKey, MaterialError> {
    let chain = certificates(certificate, certificate_text)?;
    let der = PrivateKeyDer::from_pem_slice(key_text.as_bytes());
    let der = der.map_err(|_| MaterialError::Key(key.to_owned()))?;
    let signer = provider.key_provider.load_private_key(der);
    let pair = CertifiedKey::new(chain, signer.map_err(|_| MaterialError::KeyKind(key.to_owned()))?);
    match pair.keys_match() {
        Ok(()) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(MaterialError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() })
        }
        Err(error) => Err(MaterialError::Certificate(certificate.to_owned(), error)),
    }
}

fn certificates(path: &Path, text: &str) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| MaterialError::Certificates(path.to_owned()))
}

fn client_roots(path: &Path, text: &str) -> Result<Arc<RootCertStore>, MaterialError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, text)? {
        let added = roots.add(certificate);
        added.map_err(|error| MaterialError::ClientCa(path.to_owned(), error.to_string()))?;
    }
    Ok(Arc::new(roots))
}

/// Makes a certificate that nobody needs to trust: gateways connect to a picker without verification by default.
fn self_signed(provider: &CryptoProvider) -> Result<CertifiedKey, MaterialError> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "Inference Ext");
    params.key_usages =
        vec![rcgen::KeyUsagePurpose::DigitalSignature, rcgen::KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key)?;
    CertifiedKey::from_der(vec![certificate.der().clone()], key.into(), provider)
        .map_err(MaterialError::Unusable)
}

#[cfg(test)]
mod tests;
