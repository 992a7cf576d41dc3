//! What the sidecar of a decode worker does before the worker answers: it has the prompt computed elsewhere.
//!
//! Entry point: [`prefill`]. The header [`PREFILLER`] names the server; it is asked for one token of the same request,
//! and what it says of its cache would go to the worker. Here it only counts that it answered: the worker computes the
//! prompt as well, since the transfer is not modelled.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Header that names the server which computes the prompt, `ip:port`.
pub(super) const PREFILLER: &str = "x-prefiller-host-port";

/// How long a prompt may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Has the prompt of a request computed by whom its header names, if it names one. Returns who did it: by the name that
/// it gives itself, or else its address. Nobody did if it fails; the answer is then computed here alone, as sidecars do.
pub(super) async fn prefill(path: &str, headers: &HeaderMap, body: &[u8]) -> Option<HeaderValue> {
    let named = headers.get(PREFILLER)?;
    let address: SocketAddr = named.to_str().ok()?.parse().ok()?;
    let request = request(path, address, headers, body)?;
    timeout(PATIENCE, ask(address, request)).await.ok().flatten()
}

/// The same request for one token, whose cache entries stay for somebody else.
fn request(
    path: &str,
    address: SocketAddr,
    headers: &HeaderMap,
    body: &[u8],
) -> Option<Request<Full<Bytes>>> {
    let mut body: Map<String, Value> = serde_json::from_slice(body).ok()?;
    body.insert("max_tokens".to_owned(), json!(1));
    body.insert("stream".to_owned(), json!(false));
    body.remove("stream_options");
    for limit in ["max_completion_tokens", "max_output_tokens"] {
        if let Some(limit) = body.get_mut(limit) {
            *limit = json!(1);
        }
    }
    let transfer = json!({
        "do_remote_decode": true, "do_remote_prefill": false, "remote_engine_id": null, "remote_block_ids": null,
        "remote_host": null, "remote_port": null,
    });
    body.insert("kv_transfer_params".to_owned(), transfer);
    let mut request = Request::post(path)
        .header(header::HOST, address.to_string())
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(id) = headers.get("x-request-id") {
        request = request.header("x-request-id", id);
    }
    request.body(Full::from(Value::from(body).to_string())).ok()
}

async fn ask(address: SocketAddr, request: Request<Full<Bytes>>) -> Option<HeaderValue> {
    let socket = TcpStream::connect(address).await.ok()?;
    let (mut requests, connection) = http1::handshake(TokioIo::new(socket)).await.ok()?;
    let answered = async move {
        let answer = requests.send_request(request).await.ok()?;
        let name = answer.headers().get("x-sim-server").cloned();
        let name = name.or_else(|| HeaderValue::from_str(&address.to_string()).ok());
        name.filter(|_| answer.status().is_success())
    };
    // The connection ends when nobody is left to send over it. The body of the answer is read by nobody.
    join(answered, connection).await.0
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn asked(body: &str) -> Option<Value> {
        let headers = HeaderMap::from_iter([(
            header::HeaderName::from_static("x-request-id"),
            HeaderValue::from_static("r"),
        )]);
        let request = request("/v1/completions", "[::1]:80".parse().unwrap(), &headers, body.as_bytes())?;
        assert_eq!(
            (request.headers()["host"].as_bytes(), request.headers()["x-request-id"].as_bytes()),
            (&b"[::1]:80"[..], &b"r"[..])
        );
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Some(serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_prefill_request_wants_one_token_at_once() {
        let body =
            r#"{"model":"m","prompt":"p","stream":true,"stream_options":{},"max_completion_tokens":9}"#;
        let asked_for = asked(body).await.unwrap();
        for (key, want) in [
            ("model", json!("m")),
            ("prompt", json!("p")),
            ("stream", json!(false)),
            ("stream_options", Value::Null),
            ("max_tokens", json!(1)),
            ("max_completion_tokens", json!(1)),
        ] {
            assert_eq!(asked_for[key], want, "{key}");
        }
        assert_eq!(asked_for["kv_transfer_params"]["do_remote_decode"], true);
        assert_eq!(asked("[]").await, None);
    }
}
