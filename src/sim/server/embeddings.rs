//! `/v1/embeddings`: one vector of unit length per input, the same for the same tokens and seed. Entry points:
//! [`Asked::read`] and [`answer`]. Every model embeds here; real servers have models that do nothing else.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::call::prompt::prompts;
use super::call::{bad, missing};
use super::error::ApiError;
use super::live::Ticket;
use crate::sim::engine::{EngineRequest, Output};
use crate::sim::text::N_WORDS;

/// Length of a vector.
const N_DIMENSIONS: u32 = 64;

/// What a caller wants embedded.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) model: Option<String>,
    pub(super) inputs: Vec<EngineRequest>,
    pub(super) encoding: Encoding,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Encoding {
    #[default]
    Float,
    /// The bytes of 32-bit floats, little end first.
    Base64,
}

#[derive(Deserialize)]
struct Body<'a> {
    model: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    encoding_format: Option<Encoding>,
    dimensions: Option<u32>,
}

#[derive(Serialize)]
struct List<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    data: Vec<Row>,
    usage: Usage,
}

#[derive(Serialize)]
struct Row {
    index: usize,
    object: &'static str,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Floats(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
    completion_tokens: u32,
    prompt_tokens_details: (),
}

impl Asked {
    /// Reads a body; texts are cut just above `limit` tokens, for the engine to refuse.
    pub(super) fn read(body: &[u8], limit: u32) -> Result<Self, ApiError> {
        let body: Body<'_> = serde_json::from_slice(body)?;
        if body.dimensions.is_some_and(|n| n != N_DIMENSIONS) {
            let message = format!("the model has {N_DIMENSIONS} dimensions and cannot be cut");
            return Err(bad("dimensions", &message));
        }
        let input = body.input.ok_or_else(|| missing("input"))?;
        let inputs = prompts("input", input.get(), limit)?
            .into_iter()
            .map(|prompt_tokens| EngineRequest { prompt_tokens, max_tokens: 0, salt: 0 })
            .collect();
        Ok(Self { model: body.model, inputs, encoding: body.encoding_format.unwrap_or_default() })
    }
}

/// What an answer says besides its vectors.
#[derive(Debug)]
pub(super) struct Title {
    pub(super) id: String,
    /// Unix time in seconds.
    pub(super) created: u64,
    pub(super) model: String,
    /// Of all inputs together.
    pub(super) n_prompt: usize,
}

/// Waits for all tickets and gives their vectors, in the same order.
pub(super) async fn answer(
    tickets: Vec<Ticket>,
    title: Title,
    encoding: Encoding,
) -> Result<Response, ApiError> {
    let mut data = Vec::with_capacity(tickets.len());
    for (index, mut ticket) in tickets.into_iter().enumerate() {
        ticket.finished().await?;
        let floats = vector(ticket.output());
        let embedding = match encoding {
            Encoding::Float => Vector::Floats(floats),
            Encoding::Base64 => {
                let bytes: Vec<u8> = floats.iter().flat_map(|value| value.to_le_bytes()).collect();
                Vector::Base64(base64(&bytes))
            }
        };
        data.push(Row { index, object: "embedding", embedding });
    }
    let n_prompt = title.n_prompt;
    let usage = Usage {
        prompt_tokens: n_prompt,
        total_tokens: n_prompt,
        completion_tokens: 0,
        prompt_tokens_details: (),
    };
    let (id, created, model) = (&title.id, title.created, &title.model);
    Ok(Json(List { id, object: "list", created, model, data, usage }).into_response())
}

/// The direction in which the answer's first tokens would point.
fn vector(output: Output) -> Vec<f32> {
    let middle = (N_WORDS as f32 - 1.0) / 2.0;
    let raw: Vec<f32> = (0..N_DIMENSIONS).map(|at| output.token(at) as f32 - middle).collect();
    let length = raw.iter().map(|value| value * value).sum::<f32>().sqrt();
    raw.into_iter().map(|value| value / length).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut three = [0; 4];
        three[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(three);
        for place in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * place)) as usize & 63]);
            out.push(if place > chunk.len() { '=' } else { digit });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, want) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"fooba", "Zm9vYmE="),
            (b"foobar", "Zm9vYmFy"),
            (&[0xff, 0xfb, 0xf0], "//vw"),
        ] {
            assert_eq!(base64(bytes), want);
        }
        // A recorded pair of floats.
        let bytes: Vec<u8> = [0.5_f32, -0.25].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(base64(&bytes), "AAAAPwAAgL4=");
    }
}
