//! One gRPC stream over `h2`: frames out, messages in. Entry point [`Stream::open`].

use anyhow::{Context, ensure};
use bytes::{Buf, Bytes, BytesMut};
use envoy_types::pb::envoy::service::ext_proc::v3::ProcessingResponse;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::Request;
use prost::Message;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const METHOD: &str = "http://epp/envoy.service.ext_proc.v3.ExternalProcessor/Process";

/// A connection to a server; `driver` holds the task that drives it.
pub(crate) async fn connect(
    address: std::net::SocketAddr,
    driver: &mut JoinSet<()>,
) -> anyhow::Result<SendRequest<Bytes>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(16 << 20);
    let (sender, connection) = builder.handshake(tcp).await?;
    driver.spawn(async move {
        // Its streams fail as well, and say so.
        let _ = connection.await;
    });
    Ok(sender)
}

/// One open stream.
pub(crate) struct Stream {
    out: SendStream<Bytes>,
    answers: RecvStream,
    buffer: BytesMut,
}

impl Stream {
    /// Opens a stream and sends `frames`.
    pub(crate) async fn open(
        connection: &SendRequest<Bytes>,
        frames: impl Iterator<Item = Bytes>,
    ) -> anyhow::Result<Self> {
        let request = Request::post(METHOD)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut connection = connection.clone().ready().await?;
        let (response, mut out) = connection.send_request(request, false)?;
        for frame in frames {
            out.send_data(frame, false)?;
        }
        let response = response.await?;
        ensure!(response.status() == 200, "status {}", response.status());
        Ok(Self { out, answers: response.into_body(), buffer: BytesMut::new() })
    }

    pub(crate) fn send(&mut self, frame: Bytes) -> anyhow::Result<()> {
        Ok(self.out.send_data(frame, false)?)
    }

    /// The next message, or `None` when the server has ended the stream.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<ProcessingResponse>> {
        loop {
            if let Some(mut prefix) = self.buffer.get(..5) {
                let _uncompressed = prefix.get_u8();
                let end = 5 + usize::try_from(prefix.get_u32())?;
                if self.buffer.len() >= end {
                    let frame = self.buffer.split_to(end);
                    return Ok(Some(ProcessingResponse::decode(&frame[5..])?));
                }
            }
            let Some(data) = self.answers.data().await else {
                ensure!(self.buffer.is_empty(), "the stream ended inside a message");
                return Ok(None);
            };
            let data = data?;
            self.answers.flow_control().release_capacity(data.len())?;
            self.buffer.extend_from_slice(&data);
        }
    }

    /// The next message; there must be one.
    pub(crate) async fn answer(&mut self) -> anyhow::Result<ProcessingResponse> {
        self.next().await?.context("the stream ended before its time")
    }

    /// Closes our half, and waits until the server ends the stream with OK.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        self.out.send_data(Bytes::new(), true)?;
        ensure!(self.next().await?.is_none(), "an answer too many");
        let trailers = self.answers.trailers().await?.context("no trailers")?;
        let status = trailers.get("grpc-status").context("no status")?;
        ensure!(status == "0", "the stream ended with status {status:?}");
        Ok(())
    }

    /// Resets the stream, as Envoy does when its client goes away.
    pub(crate) fn reset(mut self) {
        self.out.send_reset(h2::Reason::CANCEL);
    }
}
