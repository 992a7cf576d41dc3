//! Builders of `ProcessingResponse`: the only place that knows how Envoy wants to be answered.
//!
//! Header values go into `raw_value` (Envoy empties a header that comes in `value`); bodies go in pieces of at most
//! [`PIECE_BYTES`], made one at a time, so that a long body is never held twice.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::ext_proc::v3::{
    BodyMutation, BodyResponse, CommonResponse, HeaderMutation, HeadersResponse, ImmediateResponse,
    ProcessingResponse, StreamedBodyResponse, TrailersResponse, body_mutation::Mutation,
    processing_response::Response,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use epp_framework::lifecycle::Attribute;

use super::destination::{DestinationHint, SCORES};
use crate::rejection::ErrorPage;

/// Longest body piece, in bytes: below the 64 KiB that data planes agree on.
pub const PIECE_BYTES: usize = 62_000;

/// Header of an error page that says why llm-d's picker dropped the request.
const DROPPED_REASON: &str = "x-llm-d-request-dropped-reason";

/// Which half of the exchange an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the model server.
    Request,
    /// From the model server to the client.
    Response,
}

/// Header changes, in the order they are to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Headers to set, replacing what is there.
    pub set: Vec<(String, String)>,
    /// Headers to remove.
    pub remove: Vec<String>,
}

impl HeaderEdits {
    fn into_mutation(self) -> Option<HeaderMutation> {
        if self.set.is_empty() && self.remove.is_empty() {
            return None;
        }
        let set_headers = self.set.into_iter().map(|(key, value)| header(key, value)).collect();
        Some(HeaderMutation { set_headers, remove_headers: self.remove })
    }
}

fn header(key: String, value: String) -> HeaderValueOption {
    let header = HeaderValue { key, raw_value: value.into_bytes(), ..HeaderValue::default() };
    HeaderValueOption { header: Some(header), ..HeaderValueOption::default() }
}

/// What a verdict adds to the answer of a request: the destination as header and as metadata, and other edits.
#[derive(Clone, Debug, Default)]
pub struct Pick {
    /// Header changes beside the destination's.
    pub edits: HeaderEdits,
    /// Value of the destination header and metadata; `None` leaves both out.
    pub destination: Option<String>,
    /// How both are named.
    pub hint: DestinationHint,
    /// `ip:port` and score of every candidate, for the metadata; empty when they are not emitted.
    pub scores: Vec<(String, f64)>,
}

impl Pick {
    fn into_common(self) -> (CommonResponse, Option<Struct>) {
        let mut edits = self.edits;
        let metadata = self.destination.map(|destination| {
            edits.set.insert(0, (self.hint.key().to_owned(), destination.clone()));
            metadata(&self.hint, destination, self.scores)
        });
        let common = CommonResponse {
            header_mutation: edits.into_mutation(),
            clear_route_cache: true,
            ..CommonResponse::default()
        };
        (common, metadata)
    }
}

fn metadata(hint: &DestinationHint, destination: String, scores: Vec<(String, f64)>) -> Struct {
    let mut fields = vec![(hint.key().to_owned(), value(Kind::StringValue(destination)))];
    if !scores.is_empty() {
        let scores = scores.into_iter().map(|(at, score)| (at, value(Kind::NumberValue(score))));
        fields.push((SCORES.to_owned(), structure(scores)));
    }
    let fields = match hint.namespace() {
        Some(namespace) => [(namespace.to_owned(), structure(fields))].into(),
        None => fields.into_iter().collect(),
    };
    Struct { fields }
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn structure(fields: impl IntoIterator<Item = (String, Value)>) -> Value {
    value(Kind::StructValue(Struct { fields: fields.into_iter().collect() }))
}

/// Metadata of numbers by namespace and key; `None` when there are none.
fn reported(attributes: Vec<Attribute>) -> Option<Struct> {
    let mut namespaces: BTreeMap<String, Vec<(String, Value)>> = BTreeMap::new();
    for Attribute { namespace, key, value: number } in attributes {
        namespaces.entry(namespace).or_default().push((key, value(Kind::NumberValue(number as f64))));
    }
    let fields: HashMap<_, _> =
        namespaces.into_iter().map(|(namespace, fields)| (namespace, structure(fields))).collect();
    (!fields.is_empty()).then_some(Struct { fields })
}

fn answer(response: Response) -> ProcessingResponse {
    ProcessingResponse { response: Some(response), ..ProcessingResponse::default() }
}

/// Answers headers with `edits`; without edits it says "go on".
pub fn headers(direction: Direction, edits: HeaderEdits) -> ProcessingResponse {
    let common = CommonResponse { header_mutation: edits.into_mutation(), ..CommonResponse::default() };
    let headers = HeadersResponse { response: Some(common) };
    answer(match direction {
        Direction::Request => Response::RequestHeaders(headers),
        Direction::Response => Response::ResponseHeaders(headers),
    })
}

/// Answers request headers with the pick.
pub fn picked_headers(pick: Pick) -> ProcessingResponse {
    let (common, metadata) = pick.into_common();
    let mut answer = answer(Response::RequestHeaders(HeadersResponse { response: Some(common) }));
    answer.dynamic_metadata = metadata;
    answer
}

/// Answers a buffered request body with the pick; `replacement` is the new body, if it changed.
pub fn picked_body(pick: Pick, replacement: Option<OutgoingBody>) -> ProcessingResponse {
    let (mut common, metadata) = pick.into_common();
    common.body_mutation =
        replacement.map(|body| BodyMutation { mutation: Some(Mutation::Body(body.into_contiguous())) });
    let mut answer = answer(Response::RequestBody(BodyResponse { response: Some(common) }));
    answer.dynamic_metadata = metadata;
    answer
}

/// Lets a body chunk pass as it came, outside of duplex mode.
pub fn body_unchanged(direction: Direction) -> ProcessingResponse {
    body(direction, CommonResponse::default())
}

/// Replaces a body chunk, outside of duplex mode.
pub fn body_replaced(direction: Direction, bytes: Vec<u8>) -> ProcessingResponse {
    let mutation = if bytes.is_empty() { Mutation::ClearBody(true) } else { Mutation::Body(bytes) };
    let body_mutation = Some(BodyMutation { mutation: Some(mutation) });
    body(direction, CommonResponse { body_mutation, ..CommonResponse::default() })
}

fn streamed(direction: Direction, piece: Vec<u8>, end_of_stream: bool) -> ProcessingResponse {
    let streamed = StreamedBodyResponse { body: piece, end_of_stream, ..StreamedBodyResponse::default() };
    let mutation = BodyMutation { mutation: Some(Mutation::StreamedResponse(streamed)) };
    body(direction, CommonResponse { body_mutation: Some(mutation), ..CommonResponse::default() })
}

fn body(direction: Direction, common: CommonResponse) -> ProcessingResponse {
    let body = BodyResponse { response: Some(common) };
    answer(match direction {
        Direction::Request => Response::RequestBody(body),
        Direction::Response => Response::ResponseBody(body),
    })
}

/// Lets trailers pass.
pub fn trailers(direction: Direction) -> ProcessingResponse {
    answer(match direction {
        Direction::Request => Response::RequestTrailers(TrailersResponse::default()),
        Direction::Response => Response::ResponseTrailers(TrailersResponse::default()),
    })
}

/// Ends the request with an error page of ours.
pub fn immediate(page: ErrorPage) -> ProcessingResponse {
    let reason = page.dropped_reason.map(|reason| (DROPPED_REASON.to_owned(), reason.to_owned()));
    let edits = HeaderEdits { set: reason.into_iter().collect(), remove: Vec::new() };
    answer(Response::ImmediateResponse(ImmediateResponse {
        status: Some(HttpStatus { code: page.status.into() }),
        headers: edits.into_mutation(),
        body: page.body.into_bytes(),
        details: page.code.to_owned(),
        ..ImmediateResponse::default()
    }))
}

/// A body on its way out: the client's bytes, with at most one stretch replaced.
#[derive(Clone, Debug, Default)]
pub struct OutgoingBody {
    segments: [Bytes; 3],
}

impl OutgoingBody {
    /// The bytes as they came.
    pub fn unchanged(body: Bytes) -> Self {
        Self { segments: [body, Bytes::new(), Bytes::new()] }
    }

    /// The bytes with `range` replaced by `replacement`; no other byte changes.
    pub fn spliced(body: &Bytes, range: std::ops::Range<usize>, replacement: Bytes) -> Self {
        Self { segments: [body.slice(..range.start), replacement, body.slice(range.end..)] }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.segments.iter().map(Bytes::len).sum()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn into_contiguous(self) -> Vec<u8> {
        self.segments.concat()
    }

    /// Cuts at most `limit` bytes off the front.
    fn take(&mut self, limit: usize) -> Vec<u8> {
        let mut piece = Vec::with_capacity(limit.min(self.len()));
        for segment in &mut self.segments {
            let n = segment.len().min(limit - piece.len());
            piece.extend_from_slice(&segment.split_to(n));
        }
        piece
    }
}

/// Answers on their way to Envoy, in order; pieces of a body are made when they are asked for.
#[derive(Debug, Default)]
pub struct Replies {
    first: Option<ProcessingResponse>,
    pieces: Option<Pieces>,
    chunks: Chunks,
    last: Option<ProcessingResponse>,
    /// What the last of them carries.
    metadata: Option<Struct>,
}

#[derive(Debug)]
struct Pieces {
    direction: Direction,
    body: PiecesBody,
    end_of_stream: bool,
}

/// Request chunks that were sent ahead of their answers, outside of duplex mode.
#[derive(Debug, Default)]
struct Chunks {
    n_unanswered: usize,
    replaced: bool,
    /// What takes the place of all of them; goes out with the first.
    replacement: Option<OutgoingBody>,
}

impl Chunks {
    fn next(&mut self) -> Option<ProcessingResponse> {
        self.n_unanswered = self.n_unanswered.checked_sub(1)?;
        let mutation = match self.replacement.take() {
            Some(body) => Some(Mutation::Body(body.into_contiguous())),
            None => self.replaced.then_some(Mutation::ClearBody(true)),
        };
        let body_mutation = mutation.map(|mutation| BodyMutation { mutation: Some(mutation) });
        Some(body(Direction::Request, CommonResponse { body_mutation, ..CommonResponse::default() }))
    }
}

#[derive(Debug)]
enum PiecesBody {
    /// A chunk that fits in one piece: moved, not copied.
    Whole(Vec<u8>),
    Cut(OutgoingBody),
}

impl Replies {
    /// A single answer.
    pub fn one(answer: ProcessingResponse) -> Self {
        Self { first: Some(answer), ..Self::default() }
    }

    /// Echoes a chunk of a streamed body.
    pub fn chunk(direction: Direction, chunk: Vec<u8>, end_of_stream: bool) -> Self {
        let body = if chunk.len() <= PIECE_BYTES {
            PiecesBody::Whole(chunk)
        } else {
            PiecesBody::Cut(OutgoingBody::unchanged(chunk.into()))
        };
        Self { pieces: Some(Pieces { direction, body, end_of_stream }), ..Self::default() }
    }

    /// A header answer followed by a whole request body; `end_of_stream` is false when trailers follow.
    pub fn headers_and_body(headers: ProcessingResponse, body: OutgoingBody, end_of_stream: bool) -> Self {
        let pieces = Pieces { direction: Direction::Request, body: PiecesBody::Cut(body), end_of_stream };
        Self { first: Some(headers), pieces: Some(pieces), ..Self::default() }
    }

    /// A header answer followed by one answer for each of `n` request chunks; `replacement` replaces them all.
    pub fn headers_and_chunks(
        headers: ProcessingResponse,
        n: usize,
        replacement: Option<OutgoingBody>,
    ) -> Self {
        let chunks = Chunks { n_unanswered: n, replaced: replacement.is_some(), replacement };
        Self { first: Some(headers), chunks, ..Self::default() }
    }

    /// Bytes of bodies that wait to be sent.
    pub fn held_bytes(&self) -> usize {
        let pieces = self.pieces.as_ref().map_or(0, |pieces| match &pieces.body {
            PiecesBody::Whole(chunk) => chunk.len(),
            PiecesBody::Cut(body) => body.len(),
        });
        pieces + self.chunks.replacement.as_ref().map_or(0, OutgoingBody::len)
    }

    /// Has the last answer carry `attributes` as dynamic metadata.
    #[must_use]
    pub fn reporting(mut self, attributes: Vec<Attribute>) -> Self {
        self.metadata = reported(attributes);
        self
    }

    /// Adds an answer behind all others.
    #[must_use]
    pub fn then(mut self, answer: ProcessingResponse) -> Self {
        self.last = Some(answer);
        self
    }
}

impl Iterator for Replies {
    type Item = ProcessingResponse;

    fn next(&mut self) -> Option<ProcessingResponse> {
        let mut answer = self.next_answer()?;
        if self.metadata.is_some() && self.is_empty() {
            answer.dynamic_metadata = self.metadata.take();
        }
        Some(answer)
    }
}

impl Replies {
    fn is_empty(&self) -> bool {
        let Self { first, pieces, chunks, last, metadata: _ } = self;
        first.is_none() && pieces.is_none() && chunks.n_unanswered == 0 && last.is_none()
    }

    fn next_answer(&mut self) -> Option<ProcessingResponse> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let Some(mut pieces) = self.pieces.take() else {
            return self.chunks.next().or_else(|| self.last.take());
        };
        let body = match pieces.body {
            PiecesBody::Whole(chunk) => chunk,
            PiecesBody::Cut(mut body) => {
                let piece = body.take(PIECE_BYTES);
                if !body.is_empty() {
                    pieces.body = PiecesBody::Cut(body);
                    let answer = streamed(pieces.direction, piece, false);
                    self.pieces = Some(pieces);
                    return Some(answer);
                }
                piece
            }
        };
        Some(streamed(pieces.direction, body, pieces.end_of_stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext_proc::destination::{DESTINATION, NAMESPACE};

    fn pieces(replies: Replies) -> Vec<(usize, bool)> {
        let piece = |answer: ProcessingResponse| match answer.response {
            Some(Response::RequestBody(BodyResponse { response: Some(common) })) => {
                match common.body_mutation.unwrap().mutation.unwrap() {
                    Mutation::StreamedResponse(streamed) => (streamed.body.len(), streamed.end_of_stream),
                    other => panic!("expected a streamed body, found {other:?}"),
                }
            }
            other => panic!("expected a body answer, found {other:?}"),
        };
        replies.map(piece).collect()
    }

    /// Row 41 of the functional specification.
    #[test]
    fn row_41_bodies_are_cut_in_pieces_of_62000_bytes() {
        for (length, want) in [
            (0, vec![(0, true)]),
            (61_000, vec![(61_000, true)]),
            (62_000, vec![(62_000, true)]),
            (62_001, vec![(62_000, false), (1, true)]),
            (63_000, vec![(62_000, false), (1_000, true)]),
            (125_000, vec![(62_000, false), (62_000, false), (1_000, true)]),
        ] {
            let body = OutgoingBody::unchanged(vec![7; length].into());
            let replies =
                Replies::headers_and_body(headers(Direction::Request, HeaderEdits::default()), body, true);
            assert_eq!(pieces(Replies { first: None, ..replies }), want, "{length} bytes");
            assert_eq!(
                pieces(Replies::chunk(Direction::Request, vec![7; length], true)),
                want,
                "{length} bytes"
            );
        }
    }

    #[test]
    fn the_destination_is_told_under_the_names_that_were_asked_for() {
        for (key, namespace, scores) in [
            (DESTINATION, NAMESPACE, false),
            (DESTINATION, NAMESPACE, true),
            ("x-mine", "my.lb", true),
            ("x-mine", "", false),
            ("x-mine", "", true),
        ] {
            let case = format!("{key} in {namespace:?}, scores: {scores}");
            let hint = DestinationHint::new(key, namespace).expect(&case);
            let at = || "10.0.0.1:8000".to_owned();
            let scored = if scores { vec![(at(), 0.5)] } else { Vec::new() };
            let pick = Pick { destination: Some(at()), hint, scores: scored, ..Pick::default() };
            let mut want = vec![(key.to_owned(), value(Kind::StringValue(at())))];
            if scores {
                want.push((SCORES.to_owned(), structure([(at(), value(Kind::NumberValue(0.5)))])));
            }
            if !namespace.is_empty() {
                want = vec![(namespace.to_owned(), structure(want))];
            }
            for answer in [picked_headers(pick.clone()), picked_body(pick, None)] {
                let told = answer.dynamic_metadata.map(|metadata| structure(metadata.fields));
                assert_eq!(told, Some(structure(want.clone())), "{case}");
            }
        }
    }

    #[test]
    fn what_is_reported_goes_with_the_last_answer() {
        let attribute = |namespace: &str, key: &str, value| Attribute {
            namespace: namespace.to_owned(),
            key: key.to_owned(),
            value,
        };
        let attributes = || vec![attribute("a", "x", 1), attribute("b", "x", 2), attribute("a", "x", 3)];
        let number = |n| structure([("x".to_owned(), value(Kind::NumberValue(n)))]);
        let want = [("a".to_owned(), number(3.0)), ("b".to_owned(), number(2.0))];
        let long = vec![7; PIECE_BYTES + 1];
        for (name, replies, n_answers) in [
            ("one piece", Replies::chunk(Direction::Response, b"x".to_vec(), true), 1),
            ("two pieces", Replies::chunk(Direction::Response, long, true), 2),
            ("an empty piece", Replies::chunk(Direction::Response, Vec::new(), true), 1),
            ("outside of duplex mode", Replies::one(body_unchanged(Direction::Response)), 1),
            ("trailers", Replies::one(trailers(Direction::Response)), 1),
        ] {
            let told = |answer: ProcessingResponse| answer.dynamic_metadata.map(|told| told.fields);
            let mut answers: Vec<_> = replies.reporting(attributes()).map(told).collect();
            assert_eq!(answers.len(), n_answers, "{name}");
            assert_eq!(answers.pop().unwrap(), Some(want.clone().into()), "{name}");
            assert!(answers.iter().all(Option::is_none), "{name}");
        }
        let silent = Replies::one(trailers(Direction::Response)).reporting(Vec::new());
        assert!(silent.into_iter().all(|answer| answer.dynamic_metadata.is_none()));
    }

    #[test]
    fn a_splice_changes_no_other_byte() {
        let body = Bytes::from_static(br#"{"model":"a","n":1}"#);
        let mut spliced = OutgoingBody::spliced(&body, 9..12, Bytes::from_static(br#""bcd""#));
        assert_eq!(spliced.len(), 21);
        let mut out = spliced.take(10);
        out.extend(spliced.take(PIECE_BYTES));
        assert_eq!(out, br#"{"model":"bcd","n":1}"#);
        assert!(spliced.is_empty());
    }
}
