//! The trivial server: what an `ext_proc` server costs that does nothing. It names one destination, whatever comes, and
//! repeats every chunk as it came.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::{
    BodyMutation, BodyResponse, CommonResponse, HeaderMutation, HeadersResponse, HttpBody, ProcessingRequest,
    ProcessingResponse, StreamedBodyResponse, TrailersResponse, body_mutation::Mutation,
    processing_request::Request as Part, processing_response::Response as Answer,
};
use epp::ext_proc::destination::DESTINATION;
use epp::runtime::edge;
use epp::sockets::{Sockets, sockets};
use futures_util::{Stream, StreamExt};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::process;

struct Trivial {
    destination: String,
}

#[tonic::async_trait]
impl ExternalProcessor for Trivial {
    type ProcessStream = Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let destination = self.destination.clone();
        let answers = request.into_inner().map(move |message| Ok(answer(message?, &destination)));
        Ok(Response::new(Box::pin(answers)))
    }
}

fn answer(message: ProcessingRequest, destination: &str) -> ProcessingResponse {
    let answer = message.request.map(|part| match part {
        Part::RequestHeaders(_) => Answer::RequestHeaders(headers(Some(destination))),
        Part::ResponseHeaders(_) => Answer::ResponseHeaders(headers(None)),
        Part::RequestBody(chunk) => Answer::RequestBody(body(chunk)),
        Part::ResponseBody(chunk) => Answer::ResponseBody(body(chunk)),
        Part::RequestTrailers(_) => Answer::RequestTrailers(TrailersResponse::default()),
        Part::ResponseTrailers(_) => Answer::ResponseTrailers(TrailersResponse::default()),
    });
    ProcessingResponse { response: answer, ..ProcessingResponse::default() }
}

fn headers(destination: Option<&str>) -> HeadersResponse {
    let set = |destination: &str| {
        let header = HeaderValue {
            key: DESTINATION.to_owned(),
            raw_value: destination.as_bytes().to_vec(),
            ..HeaderValue::default()
        };
        HeaderValueOption { header: Some(header), ..HeaderValueOption::default() }
    };
    let header_mutation = destination.map(|destination| HeaderMutation {
        set_headers: vec![set(destination)],
        ..HeaderMutation::default()
    });
    HeadersResponse { response: Some(CommonResponse { header_mutation, ..CommonResponse::default() }) }
}

fn body(chunk: HttpBody) -> BodyResponse {
    let streamed = StreamedBodyResponse {
        body: chunk.body,
        end_of_stream: chunk.end_of_stream,
        ..StreamedBodyResponse::default()
    };
    let body_mutation = Some(BodyMutation { mutation: Some(Mutation::StreamedResponse(streamed)) });
    BodyResponse { response: Some(CommonResponse { body_mutation, ..CommonResponse::default() }) }
}

/// Serves until killed. Threads and connection settings are `epp`'s.
pub(crate) fn run(destination: String) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        process::announce(&[listener.local_addr()?.port()]);
        let server = Server::builder()
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(16 << 20)
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)));
        let serve = move |dealt: Sockets| {
            let service = ExternalProcessorServer::new(Trivial { destination: destination.clone() });
            server.clone().add_service(service).serve_with_incoming(dealt.map(Ok::<_, Infallible>))
        };
        edge::serve(sockets(listener), std::future::pending(), serve).await
    })
}
