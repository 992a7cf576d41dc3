//! What happens to an exchange, made of a fuzzer's bytes: [`Script`].

use std::ops::Range;

use arbitrary::Unstructured;
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, Metadata};
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    HttpBody, HttpHeaders, HttpTrailers, ProcessingRequest, ProtocolConfiguration,
    processing_request::Request,
};
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};

/// One thing that happens.
pub(super) enum Event {
    /// Envoy sends a message.
    Message(Box<ProcessingRequest>),
    /// The director has decided, whether it was asked or not.
    Decide(Option<Splice>),
    /// Nothing comes for a while.
    Pause,
    /// The request is refused.
    Refuse,
}

/// A change of a body.
pub(super) struct Splice {
    start: usize,
    len: usize,
    replacement: Vec<u8>,
}

impl Splice {
    /// Replaces `len` bytes from `start` on.
    pub(super) fn anywhere(start: usize, len: usize) -> Self {
        Self { start, len, replacement: vec![b'm'; len / 2] }
    }

    /// The change of a body of `len` bytes.
    pub(super) fn within(self, len: usize) -> (Range<usize>, Vec<u8>) {
        let start = self.start.min(len);
        (start..(start + self.len).min(len), self.replacement)
    }
}

/// The events of an input; there are always finitely many.
pub(super) struct Script<'a> {
    bytes: Unstructured<'a>,
    modes: Option<ProtocolConfiguration>,
    /// The longest body that the exchange takes.
    pub(super) max_body_bytes: usize,
}

impl<'a> Script<'a> {
    /// Takes the settings off the beginning of `bytes`.
    pub(super) fn begin(mut bytes: Unstructured<'a>) -> arbitrary::Result<Self> {
        const MODES: [BodySendMode; 5] = [
            BodySendMode::FullDuplexStreamed,
            BodySendMode::Buffered,
            BodySendMode::Streamed,
            BodySendMode::None,
            BodySendMode::BufferedPartial,
        ];
        let modes = ProtocolConfiguration {
            request_body_mode: (*bytes.choose(&MODES)?).into(),
            response_body_mode: (*bytes.choose(&MODES)?).into(),
            send_body_without_waiting_for_header_response: bytes.arbitrary()?,
        };
        let max_body_bytes = *bytes.choose(&[0, 10, 300, 200_000])?;
        Ok(Self { bytes, modes: Some(modes), max_body_bytes })
    }

    /// The next event, until the bytes are used up.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        if self.bytes.is_empty() {
            return None;
        }
        self.event().ok()
    }

    fn event(&mut self) -> arbitrary::Result<Event> {
        let request = match self.bytes.int_in_range(0..=16)? {
            0..=2 => Some(Request::RequestHeaders(self.headers()?)),
            3..=5 => Some(Request::RequestBody(self.body()?)),
            6 => Some(Request::RequestTrailers(HttpTrailers::default())),
            7 | 8 => Some(Request::ResponseHeaders(self.headers()?)),
            9 | 10 => Some(Request::ResponseBody(self.body()?)),
            11 => Some(Request::ResponseTrailers(HttpTrailers::default())),
            12 | 13 => return Ok(Event::Decide(self.splice()?)),
            14 => None,
            15 => return Ok(Event::Pause),
            _ => return Ok(Event::Refuse),
        };
        let metadata_context = if self.bytes.ratio(1, 8)? { Some(self.hint()?) } else { None };
        let protocol_config = self.modes.take();
        let rest = ProcessingRequest::default();
        let message = ProcessingRequest { request, metadata_context, protocol_config, ..rest };
        Ok(Event::Message(Box::new(message)))
    }

    fn headers(&mut self) -> arbitrary::Result<HttpHeaders> {
        let end_of_stream = self.bytes.ratio(1, 4)?;
        let mut headers = Vec::new();
        for _ in 0..self.bytes.int_in_range(0..=3)? {
            const KEYS: [&str; 5] = ["content-type", "Content-Type", ":path", "x-request-id", "é"];
            const VALUES: [&str; 3] = ["text/event-stream; charset=utf-8", "application/json", ""];
            let (key, value) = ((*self.bytes.choose(&KEYS)?).to_owned(), *self.bytes.choose(&VALUES)?);
            headers.push(if self.bytes.arbitrary()? {
                HeaderValue { key, value: value.to_owned(), raw_value: self.bytes.arbitrary()? }
            } else {
                HeaderValue { key, value: String::new(), raw_value: value.into() }
            });
        }
        let headers = if self.bytes.ratio(7, 8)? { Some(HeaderMap { headers }) } else { None };
        Ok(HttpHeaders { headers, end_of_stream, ..HttpHeaders::default() })
    }

    fn body(&mut self) -> arbitrary::Result<HttpBody> {
        let end_of_stream = self.bytes.ratio(1, 4)?;
        let body = if self.bytes.ratio(7, 8)? {
            self.bytes.arbitrary()?
        } else {
            // Long enough to be sent in pieces, and different everywhere.
            let n_bytes = *self.bytes.choose(&[61_999, 62_000, 62_001, 65_535, 65_536, 125_000])?;
            (0..n_bytes).map(|n: u32| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect()
        };
        Ok(HttpBody { body, end_of_stream, ..HttpBody::default() })
    }

    fn splice(&mut self) -> arbitrary::Result<Option<Splice>> {
        if self.bytes.arbitrary()? {
            return Ok(None);
        }
        let (start, len) = (self.bytes.int_in_range(0..=70_000)?, self.bytes.int_in_range(0..=70_000)?);
        Ok(Some(Splice { start, len, replacement: self.bytes.arbitrary()? }))
    }

    fn hint(&mut self) -> arbitrary::Result<Metadata> {
        let mut values = Vec::new();
        for _ in 0..self.bytes.int_in_range(0..=3)? {
            let kind = if self.bytes.ratio(3, 4)? {
                Kind::StringValue(self.bytes.arbitrary()?)
            } else {
                Kind::NumberValue(self.bytes.arbitrary()?)
            };
            values.push(Value { kind: Some(kind) });
        }
        let key = "x-gateway-destination-endpoint-subset".to_owned();
        let list = Value { kind: Some(Kind::ListValue(ListValue { values })) };
        let fields = Struct { fields: [(key, list)].into() };
        Ok(Metadata {
            filter_metadata: [("envoy.lb.subset_hint".to_owned(), fields)].into(),
            ..Metadata::default()
        })
    }
}

/// A message of every kind, and one of none.
pub(super) fn one_of_each() -> impl Iterator<Item = ProcessingRequest> {
    let requests = [
        Some(Request::RequestHeaders(HttpHeaders::default())),
        Some(Request::RequestBody(HttpBody { body: vec![7; 9], end_of_stream: true, ..HttpBody::default() })),
        Some(Request::RequestTrailers(HttpTrailers::default())),
        Some(Request::ResponseHeaders(HttpHeaders::default())),
        Some(Request::ResponseBody(HttpBody {
            body: vec![7; 9],
            end_of_stream: true,
            ..HttpBody::default()
        })),
        Some(Request::ResponseTrailers(HttpTrailers::default())),
        None,
    ];
    requests.into_iter().map(|request| ProcessingRequest { request, ..ProcessingRequest::default() })
}
