//! An `ext_proc` server that always picks the same endpoint and passes bodies through: entry point [`StubEpp::start`].
//!
//! It shows that Envoy, upstream and client work, so that what fails with the real `epp` in its place is `epp`. It keeps
//! every message that Envoy sent. Each message is answered by exactly one, at once; nothing is read or decided.

use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::{
    BodyMutation, BodyResponse, CommonResponse, HeaderMutation, HeadersResponse, HttpBody, ProcessingRequest,
    ProcessingResponse, StreamedBodyResponse, TrailersResponse, body_mutation::Mutation,
    processing_request::Request as Asked, processing_response::Response as Told,
};
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use epp::ext_proc::destination::{DESTINATION, NAMESPACE};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use crate::support::server_runtime;

/// A running stub on a loopback port.
pub(crate) struct StubEpp {
    at: SocketAddr,
    messages: Arc<Mutex<Vec<ProcessingRequest>>>,
    runtime: Option<Runtime>,
}

impl StubEpp {
    /// Starts a stub in clear text that answers `pick` (as written: one `ip:port`, or a list) to every request.
    pub(crate) fn start(pick: &impl ToString) -> Self {
        Self::serve(pick.to_string(), Server::builder())
    }

    /// Like [`StubEpp::start`], with TLS and a certificate of its own making.
    pub(crate) fn start_tls(pick: &impl ToString) -> Self {
        let made = rcgen::generate_simple_self_signed(["epp".to_owned()]).expect("the name is valid");
        let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem());
        let tls = ServerTlsConfig::new().identity(identity);
        Self::serve(
            pick.to_string(),
            Server::builder().tls_config(tls).expect("the certificate fits its key"),
        )
    }

    /// Where its `ext_proc` service listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.at
    }

    /// Every message that Envoy sent so far, those of concurrent streams mixed.
    pub(crate) fn messages(&self) -> Vec<ProcessingRequest> {
        self.messages.lock().clone()
    }

    fn serve(pick: String, mut server: Server) -> Self {
        let runtime = server_runtime("stub-epp");
        let messages = Arc::new(Mutex::new(Vec::new()));
        let service = Service { pick: pick.into(), messages: Arc::clone(&messages) };
        let service = ExternalProcessorServer::new(service).max_decoding_message_size(usize::MAX);
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        listener.set_nonblocking(true).expect("the socket is ours");
        let at = listener.local_addr().expect("the socket is bound");
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("the socket is non-blocking");
            server.add_service(service).serve_with_incoming(TcpIncoming::from(listener)).await
        });
        Self { at, messages, runtime: Some(runtime) }
    }
}

impl Drop for StubEpp {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Service {
    pick: Arc<str>,
    messages: Arc<Mutex<Vec<ProcessingRequest>>>,
}

#[tonic::async_trait]
impl ExternalProcessor for Service {
    type ProcessStream = Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let messages = Arc::clone(&self.messages);
        let mut exchange = Exchange { pick: Arc::clone(&self.pick), request: None, response: None };
        let answers = request.into_inner().map(move |message| {
            let message = message?;
            messages.lock().push(message.clone());
            exchange.answer(message)
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// One HTTP request: the pick, and the body modes that the first message told.
struct Exchange {
    pick: Arc<str>,
    request: Option<BodySendMode>,
    response: Option<BodySendMode>,
}

impl Exchange {
    fn answer(&mut self, message: ProcessingRequest) -> Result<ProcessingResponse, Status> {
        if let Some(config) = &message.protocol_config {
            self.request = Some(config.request_body_mode());
            self.response = Some(config.response_body_mode());
        }
        let buffered = self.request == Some(BodySendMode::Buffered);
        let (told, picks) = match message.request.ok_or_else(|| Status::invalid_argument("empty message"))? {
            Asked::RequestHeaders(headers) => {
                // BUFFERED sends the body only after this answer, and takes the pick with the body.
                let picks = !buffered || headers.end_of_stream;
                let response = picks.then(|| self.picking());
                (Told::RequestHeaders(HeadersResponse { response }), picks)
            }
            Asked::RequestBody(_) if buffered => {
                (Told::RequestBody(BodyResponse { response: Some(self.picking()) }), true)
            }
            Asked::RequestBody(body) => (Told::RequestBody(pass(self.request, body)), false),
            Asked::RequestTrailers(_) => (Told::RequestTrailers(TrailersResponse::default()), false),
            Asked::ResponseHeaders(_) => (Told::ResponseHeaders(HeadersResponse::default()), false),
            Asked::ResponseBody(body) => (Told::ResponseBody(pass(self.response, body)), false),
            Asked::ResponseTrailers(_) => (Told::ResponseTrailers(TrailersResponse::default()), false),
        };
        let dynamic_metadata = picks.then(|| self.metadata());
        Ok(ProcessingResponse { response: Some(told), dynamic_metadata, ..ProcessingResponse::default() })
    }

    fn picking(&self) -> CommonResponse {
        // Envoy reads `raw_value`; a header given in `value` alone arrives empty.
        let raw_value = self.pick.as_bytes().to_vec();
        let header = HeaderValue { key: DESTINATION.to_owned(), raw_value, ..HeaderValue::default() };
        let set_headers = vec![HeaderValueOption { header: Some(header), ..HeaderValueOption::default() }];
        CommonResponse {
            header_mutation: Some(HeaderMutation { set_headers, ..HeaderMutation::default() }),
            ..CommonResponse::default()
        }
    }

    fn metadata(&self) -> Struct {
        let pick = Value { kind: Some(Kind::StringValue(self.pick.to_string())) };
        let lb = Struct { fields: [(DESTINATION.to_owned(), pick)].into() };
        Struct { fields: [(NAMESPACE.to_owned(), Value { kind: Some(Kind::StructValue(lb)) })].into() }
    }
}

/// Lets a piece of body through unchanged: in duplex it has to be sent back, in other modes an empty answer does.
fn pass(mode: Option<BodySendMode>, body: HttpBody) -> BodyResponse {
    if mode != Some(BodySendMode::FullDuplexStreamed) {
        return BodyResponse::default();
    }
    let piece = StreamedBodyResponse {
        body: body.body,
        end_of_stream: body.end_of_stream,
        ..StreamedBodyResponse::default()
    };
    let body_mutation = Some(BodyMutation { mutation: Some(Mutation::StreamedResponse(piece)) });
    BodyResponse { response: Some(CommonResponse { body_mutation, ..CommonResponse::default() }) }
}
