//! Fetches one metrics page over HTTP/1.1, in clear text or over TLS, trusting the server with nothing.
//!
//! Entry point: [`PageClient::get`]. No redirect is followed, no proxy taken from the environment, nothing
//! decompressed; size and time are capped. What the page says is not looked at.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, HOST, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::{Body, Incoming};
use tokio_rustls::{TlsConnector, rustls};

use super::connection::PageConnection;
use super::{Scheme, ScrapeError, trust};

/// uvicorn closes idle connections after 5 s; ours must give up first.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);

/// Media type of metrics pages.
pub(super) const METRICS_TEXT: &str = "text/plain;version=0.0.4";

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

/// Where metrics pages are: the same on every endpoint.
#[derive(Clone, Debug)]
pub(super) struct PagePath {
    pub(super) whole: Uri,
    pub(super) filtered: Uri,
}

impl PagePath {
    /// Takes the path of the whole page, and the query that filters it by name.
    pub(super) fn build(path: &str, wanted_query: &str) -> Result<Self, ScrapeError> {
        let refuse = || ScrapeError::Path(path.to_owned());
        let whole: Uri = path.parse().map_err(|_| refuse())?;
        if whole.host().is_some() || !path.starts_with('/') {
            return Err(refuse());
        }
        // vLLM ignores the query on the bare path and heeds it after a slash.
        let bare = whole.path().trim_end_matches('/');
        let filtered = match whole.query() {
            Some(query) => format!("{bare}/?{query}&{wanted_query}"),
            None => format!("{bare}/?{wanted_query}"),
        };
        Ok(Self { filtered: filtered.parse().map_err(|_| refuse())?, whole })
    }
}

/// One endpoint as a server of pages, which are read one after the other.
#[derive(Debug)]
pub(super) struct PageServer {
    address: SocketAddr,
    host: HeaderValue,
    /// Which form of the page is asked for.
    accept: HeaderValue,
    /// Between two requests, if it can be used again.
    connection: Option<PageConnection>,
    /// The last page, whole if [`PageClient::get`] said so.
    pub(super) page: Vec<u8>,
}

impl PageServer {
    pub(super) fn new(address: SocketAddr, accept: &'static str) -> Self {
        let host = HeaderValue::try_from(address.to_string()).expect("an address is a header's value");
        let accept = HeaderValue::from_static(accept);
        Self { address, host, accept, connection: None, page: Vec::new() }
    }

    /// The connection of the last page, unless the server may be about to close it.
    fn idle_connection(&mut self) -> Option<PageConnection> {
        self.connection.take().filter(|connection| connection.used.elapsed() < IDLE_CONNECTION)
    }

    fn request(&self, target: &Uri) -> Request<Empty<bytes::Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = target.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(ACCEPT, self.accept.clone());
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        request
    }
}

/// Fetches pages.
pub(super) struct PageClient {
    tls: Option<TlsConnector>,
    timeout: Duration,
    max_page_bytes: usize,
}

impl PageClient {
    pub(super) fn build(
        scheme: Scheme,
        timeout: Duration,
        max_page_bytes: usize,
    ) -> Result<Self, ScrapeError> {
        Ok(Self { tls: trust::connector(scheme)?, timeout, max_page_bytes })
    }

    /// Reads the page `target` of the server into `server.page`, within the timeout.
    pub(super) async fn get(&self, target: &Uri, server: &mut PageServer) -> Result<(), Failure> {
        server.page.clear();
        let exchange = self.exchange(target, server);
        tokio::time::timeout(self.timeout, exchange).await.unwrap_or(Err(Failure::Timeout))
    }

    async fn exchange(&self, target: &Uri, server: &mut PageServer) -> Result<(), Failure> {
        let (mut connection, response) = self.ask(target, server).await?;
        match response.status() {
            StatusCode::OK => self.read_body(&mut connection, response, &mut server.page).await?,
            status @ (StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED) => return Err(Failure::NoPage(status.as_u16())),
            status if status.is_redirection() => return Err(Failure::NoPage(status.as_u16())),
            status => return Err(Failure::Status(status.as_u16())),
        }
        server.connection = Some(connection);
        Ok(())
    }

    /// Sends the request, over the connection that is there or over a new one.
    async fn ask(
        &self,
        target: &Uri,
        server: &mut PageServer,
    ) -> Result<(PageConnection, Response<Incoming>), Failure> {
        if let Some(mut connection) = server.idle_connection() {
            // The server may close an idle connection in the moment of its next use; nothing was answered yet.
            if let Ok(response) = connection.send(server.request(target)).await {
                return Ok((connection, response));
            }
        }
        let opened = PageConnection::open(server.address, self.tls.as_ref()).await;
        let mut connection = opened.map_err(|error| failure(&error))?;
        let response = connection.send(server.request(target)).await.map_err(|_| Failure::Broken)?;
        Ok((connection, response))
    }

    async fn read_body(
        &self,
        connection: &mut PageConnection,
        response: Response<Incoming>,
        page: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let mut body = response.into_body();
        // What the server announced, if it did.
        if body.size_hint().lower() > self.max_page_bytes as u64 {
            return Err(Failure::TooLarge);
        }
        while let Some(chunk) = connection.chunk(&mut body).await {
            let chunk = chunk.map_err(|_| Failure::Broken)?;
            if page.len() + chunk.len() > self.max_page_bytes {
                // Nothing of this size is to be kept for an endpoint that does not use it.
                *page = Vec::new();
                return Err(Failure::TooLarge);
            }
            page.extend_from_slice(&chunk);
        }
        Ok(())
    }
}

/// Why no connection was to be had.
fn failure(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return Failure::Refused;
    }
    let cause = error.get_ref().map(|cause| cause as &(dyn Error + 'static));
    match cause.and_then(<dyn Error>::downcast_ref) {
        Some(rustls::Error::InvalidCertificate(_)) => Failure::Untrusted,
        _ => Failure::Broken,
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::parameters::ParameterKind;

    use super::*;

    #[test]
    fn the_filter_follows_a_slash_and_what_the_path_asks_for() {
        let cases = [
            ("/metrics", "/metrics", "/metrics/?name[]=a:b"),
            ("/metrics/", "/metrics/", "/metrics/?name[]=a:b"),
            ("/p/m?x=1", "/p/m?x=1", "/p/m/?x=1&name[]=a:b"),
            ("/", "/", "/?name[]=a:b"),
            ("//x/y", "//x/y", "//x/y/?name[]=a:b"),
        ];
        for (path, whole, filtered) in cases {
            let path = PagePath::build(path, "name[]=a:b").unwrap();
            assert_eq!([path.whole.to_string(), path.filtered.to_string()], [whole, filtered]);
        }
    }

    /// What `epp config check` says is what the fetcher does.
    #[test]
    fn paths_that_parameters_may_have_are_taken() {
        let sources = epp_plugins::BUILT_IN.iter().filter(|built_in| built_in.name.ends_with("-data-source"));
        let types = sources.flat_map(|built_in| built_in.parameters);
        let mut paths = types.filter(|parameter| parameter.name == "path");
        let Some(ParameterKind::Text { check, .. }) = paths.next().map(|path| &path.kind) else { panic!() };
        for byte in 0..0x80_u8 {
            for path in ["/m", "/m?q"].map(|before| format!("{before}{}x", char::from(byte))) {
                assert_eq!(check(&path).is_none(), PagePath::build(&path, "n").is_ok(), "{path:?}");
            }
        }
    }

    #[test]
    fn a_path_must_begin_with_a_slash_and_be_one() {
        let paths = [
            "",
            "metrics",
            "*",
            "http://elsewhere/metrics",
            "@elsewhere/metrics",
            ":81/metrics",
            "/a b",
            "/a\r\nb",
        ];
        for path in paths {
            assert!(matches!(PagePath::build(path, "q"), Err(ScrapeError::Path(_))), "{path:?}");
        }
    }
}
