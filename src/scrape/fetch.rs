//! Fetches one metrics page over HTTP/1.1, in clear text or over TLS, trusting the server with nothing.
//!
//! Entry point: [`PageClient::get`]. No redirect is followed, no proxy taken from the environment, nothing
//! decompressed; size and time are capped. What the page says is not looked at.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, Response, StatusCode, Url, redirect};

use super::{Scheme, ScrapeError};

/// uvicorn closes idle connections after 5 s; ours must give up first.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);

/// Why a scrape found nothing. Holds no byte of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// A page came, without any wanted family.
    #[error("page without a wanted family")]
    NoFamily,
    /// The server says that there is no page for us.
    #[error("no page, status {0}")]
    NoPage(u16),
    /// Nobody listens.
    #[error("connection refused")]
    Refused,
    /// No whole page in time.
    #[error("timeout")]
    Timeout,
    /// The page is over the cap.
    #[error("page too large")]
    TooLarge,
    /// Another status than 200.
    #[error("status {0}")]
    Status(u16),
    /// The server's certificate is not one that we may trust.
    #[error("certificate not trusted")]
    Untrusted,
    /// The connection broke, or what came is no HTTP or is cut short.
    #[error("broken exchange")]
    Broken,
}

/// URL of a metrics page, for any address.
#[derive(Clone, Debug)]
pub(super) struct PageUrl {
    plain: Url,
    filtered: Url,
}

impl PageUrl {
    /// Takes protocol and path, and the query that filters the page by name.
    pub(super) fn build(scheme: Scheme, path: &str, wanted_query: &str) -> Result<Self, ScrapeError> {
        let refuse = || ScrapeError::Path(path.to_owned());
        if !path.starts_with('/') {
            return Err(refuse());
        }
        let scheme = if scheme == Scheme::Http { "http" } else { "https" };
        let plain = Url::parse(&format!("{scheme}://127.0.0.1{path}")).map_err(|_| refuse())?;
        let mut filtered = plain.clone();
        // vLLM ignores the query on the bare path and heeds it after a slash.
        filtered.set_path(&format!("{}/", plain.path().trim_end_matches('/')));
        filtered.set_query(Some(&match plain.query() {
            Some(query) => format!("{query}&{wanted_query}"),
            None => wanted_query.to_owned(),
        }));
        Ok(Self { plain, filtered })
    }

    /// The whole page and the filtered one, at `address`.
    pub(super) fn at(&self, address: SocketAddr) -> [Url; 2] {
        [&self.plain, &self.filtered].map(|url| at(url.clone(), address.ip(), address.port()))
    }
}

fn at(mut url: Url, ip: IpAddr, port: u16) -> Url {
    url.set_ip_host(ip).expect("a web URL takes an address");
    url.set_port(Some(port)).expect("a web URL takes a port");
    url
}

/// Where the pages of one endpoint are read into, one after the other.
#[derive(Debug, Default)]
pub(super) struct PageBuffer {
    /// The last page, whole if [`PageClient::get`] said so.
    pub(super) bytes: Vec<u8>,
    /// Whether the next request may meet a connection that was used before.
    reused: bool,
}

/// Fetches pages; keeps one idle connection per endpoint.
#[derive(Debug)]
pub(super) struct PageClient {
    http: Client,
    timeout: Duration,
    max_page_bytes: usize,
}

impl PageClient {
    pub(super) fn build(
        scheme: Scheme,
        timeout: Duration,
        max_page_bytes: usize,
    ) -> Result<Self, ScrapeError> {
        // The client takes the process's provider; if somebody has chosen one already, that one stands.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/plain;version=0.0.4"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let builder = match scheme {
            Scheme::Https { verify: true } => Client::builder().tls_certs_only(system_roots()?),
            Scheme::Https { verify: false } | Scheme::Http => {
                Client::builder().tls_danger_accept_invalid_certs(true)
            }
        };
        let http = builder
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .default_headers(headers)
            .http1_only()
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(IDLE_CONNECTION)
            .tcp_nodelay(true)
            .build()
            .map_err(ScrapeError::Client)?;
        Ok(Self { http, timeout, max_page_bytes })
    }

    /// Reads the page at `url` into `page`, within the timeout.
    pub(super) async fn get(&self, url: &Url, page: &mut PageBuffer) -> Result<(), Failure> {
        let exchange = self.exchange(url, page);
        tokio::time::timeout(self.timeout, exchange).await.unwrap_or(Err(Failure::Timeout))
    }

    async fn exchange(&self, url: &Url, page: &mut PageBuffer) -> Result<(), Failure> {
        page.bytes.clear();
        let reused = std::mem::take(&mut page.reused);
        let response = match self.http.get(url.clone()).send().await {
            // The server may close an idle connection in the moment of its next use; nothing was answered yet.
            Err(error) if reused && error.is_request() && !error.is_connect() => {
                self.http.get(url.clone()).send().await
            }
            first => first,
        };
        let response = response.map_err(|error| failure(&error))?;
        page.reused = true;
        match response.status() {
            StatusCode::OK => self.read_body(response, &mut page.bytes).await,
            StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED => Err(Failure::NoPage(response.status().as_u16())),
            status if status.is_redirection() => Err(Failure::NoPage(status.as_u16())),
            status => Err(Failure::Status(status.as_u16())),
        }
    }

    async fn read_body(&self, mut response: Response, bytes: &mut Vec<u8>) -> Result<(), Failure> {
        if response.content_length().is_some_and(|length| length > self.max_page_bytes as u64) {
            return Err(Failure::TooLarge);
        }
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
            if bytes.len() + chunk.len() > self.max_page_bytes {
                // Nothing of this size is to be kept for an endpoint that does not use it.
                *bytes = Vec::new();
                return Err(Failure::TooLarge);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(())
    }
}

fn failure(error: &reqwest::Error) -> Failure {
    let mut cause = error.source();
    while let Some(error) = cause {
        if matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))) {
            return Failure::Untrusted;
        }
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return Failure::Refused;
        }
        // The source of an I/O error is that of the error it wraps, which is thus left out.
        let wrapped = io.and_then(io::Error::get_ref).map(|error| error as &(dyn Error + 'static));
        cause = wrapped.or_else(|| error.source());
    }
    Failure::Broken
}

/// The roots that the system trusts, or those in the file that `SSL_CERT_FILE` names.
fn system_roots() -> Result<Vec<Certificate>, ScrapeError> {
    let found = rustls_native_certs::load_native_certs();
    let roots: Vec<_> = found.certs.iter().filter_map(|root| Certificate::from_der(root).ok()).collect();
    if roots.is_empty() { Err(ScrapeError::NoRoots) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_take_any_address_and_a_slash_before_the_filter() {
        let cases = [
            (
                "/metrics",
                "10.0.0.1:8000",
                "http://10.0.0.1:8000/metrics",
                "http://10.0.0.1:8000/metrics/?name[]=a:b",
            ),
            (
                "/metrics/",
                "[fd00::1]:80",
                "http://[fd00::1]/metrics/",
                "http://[fd00::1]/metrics/?name[]=a:b",
            ),
            ("/p/m?x=1", "[::1]:1", "http://[::1]:1/p/m?x=1", "http://[::1]:1/p/m/?x=1&name[]=a:b"),
            ("/", "1.2.3.4:5", "http://1.2.3.4:5/", "http://1.2.3.4:5/?name[]=a:b"),
        ];
        for (path, address, plain, filtered) in cases {
            let url = PageUrl::build(Scheme::Http, path, "name[]=a:b").unwrap();
            assert_eq!(url.at(address.parse().unwrap()).map(String::from), [plain, filtered], "{path}");
            let url = PageUrl::build(Scheme::Https { verify: true }, path, "name[]=a:b").unwrap();
            let secure = [plain, filtered].map(|url| url.replace("http:", "https:").replace("]/", "]:80/"));
            assert_eq!(url.at(address.parse().unwrap()).map(String::from), secure, "{path}");
        }
    }

    #[test]
    fn a_path_must_begin_with_a_slash() {
        for path in ["", "metrics", "@elsewhere/metrics", ":81/metrics", ".elsewhere/"] {
            assert!(matches!(PageUrl::build(Scheme::Http, path, "q"), Err(ScrapeError::Path(_))), "{path}");
        }
    }
}
