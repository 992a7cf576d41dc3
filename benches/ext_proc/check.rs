//! Checks answers: a destination that the pool has, bodies as they were sent.

use std::collections::HashSet;

use anyhow::{bail, ensure};
use envoy_types::pb::envoy::service::ext_proc::v3::{
    BodyResponse, CommonResponse, HeadersResponse, ProcessingResponse, body_mutation::Mutation,
    processing_response::Response,
};
use epp::ext_proc::destination::DESTINATION;

/// The destinations that may be named.
pub(crate) struct Destinations(HashSet<String>);

impl Destinations {
    pub(crate) fn new(destinations: &[String]) -> Self {
        Self(destinations.iter().cloned().collect())
    }

    /// Takes the answer to request headers.
    pub(crate) fn check(&self, answer: ProcessingResponse) -> anyhow::Result<()> {
        let Some(Response::RequestHeaders(HeadersResponse { response: Some(common) })) = answer.response
        else {
            bail!("expected an answer to the request headers, found {answer:?}");
        };
        let set = common.header_mutation.unwrap_or_default().set_headers;
        let header = set.into_iter().filter_map(|set| set.header).find(|header| header.key == DESTINATION);
        let Some(header) = header else { bail!("no destination in the answer to the request headers") };
        let destination = String::from_utf8(header.raw_value)?;
        ensure!(self.0.contains(&destination), "the pool has no `{destination}`");
        Ok(())
    }
}

/// What comes back of a body.
pub(crate) struct Echo<'a> {
    expected: &'a [u8],
    seen: usize,
}

impl<'a> Echo<'a> {
    pub(crate) fn of(expected: &'a [u8]) -> Self {
        Self { expected, seen: 0 }
    }

    /// Takes the next piece of a body; tells whether it was the last.
    pub(crate) fn check(&mut self, answer: ProcessingResponse) -> anyhow::Result<bool> {
        let Some(Response::RequestBody(body) | Response::ResponseBody(body)) = answer.response else {
            bail!("expected a piece of a body, found {answer:?}");
        };
        let BodyResponse { response: Some(CommonResponse { body_mutation: Some(mutation), .. }) } = body
        else {
            bail!("expected a body mutation");
        };
        let Some(Mutation::StreamedResponse(piece)) = mutation.mutation else {
            bail!("expected a streamed response");
        };
        let end = self.seen + piece.body.len();
        let same = self.expected.get(self.seen..end) == Some(piece.body.as_slice());
        ensure!(same, "bytes {}..{end} of a body of {} changed", self.seen, self.expected.len());
        self.seen = end;
        ensure!(!piece.end_of_stream || end == self.expected.len(), "a body was cut short");
        Ok(piece.end_of_stream)
    }

    /// Whether all bytes have come back.
    pub(crate) fn is_whole(&self) -> bool {
        self.seen == self.expected.len()
    }
}

/// Takes the answer to response headers.
pub(crate) fn response_headers(answer: &ProcessingResponse) -> anyhow::Result<()> {
    let right = matches!(answer.response, Some(Response::ResponseHeaders(_)));
    ensure!(right, "expected an answer to the response headers, found {answer:?}");
    Ok(())
}

/// Takes the refusal of a request.
pub(crate) fn refusal(answer: &ProcessingResponse) -> anyhow::Result<()> {
    let right = matches!(answer.response, Some(Response::ImmediateResponse(_)));
    ensure!(right, "expected a refusal, found {answer:?}");
    Ok(())
}
