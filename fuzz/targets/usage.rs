//! `usage` of answers: the same however the bytes are cut; and, where the answer is
//! plain enough to leave no doubt, what `serde_json::Value` says. Of streams that is: lines that end with `\n`, and
//! events about no response or message; of counts: whole numbers and `null`. Entry point: [`check`].

use std::iter::once;

use epp_framework::answer::Usage;
use epp_framework::parsing::{AnswerHead, AnswerReader};
use epp_plugins::parser::answer::{JsonAnswer, MAX_LINE_BYTES, TAIL_BYTES};
use serde_json::Value;

use crate::cuts::Choices;
use crate::json;

/// Reads `answer` as a stream and as a JSON body, and sometimes again after making it longer than what is kept.
pub(crate) fn check(answer: &[u8]) {
    check_stream(answer);
    check_body(answer);
    let mut choices = Choices::of(answer);
    if choices.below(64) == 0 {
        let at = choices.below(answer.len() + 1);
        let n_blanks = [TAIL_BYTES, 2 * TAIL_BYTES, MAX_LINE_BYTES][choices.below(3)];
        let n_blanks = n_blanks - choices.below(answer.len() + 16);
        let longer = [&answer[..at], &vec![b' '; n_blanks], &answer[at..]].concat();
        check_stream(&longer);
        check_body(&longer);
    }
}

fn read<'a>(streaming: bool, chunks: impl IntoIterator<Item = &'a [u8]>) -> Option<Usage> {
    let content_type = if streaming { "text/event-stream" } else { "application/json" };
    let mut reader = JsonAnswer::new(&AnswerHead { content_type });
    for chunk in chunks {
        reader.feed(chunk);
    }
    reader.finish().usage
}

/// Reads `answer` in one chunk, and in many: the same must come out.
fn read_cut(streaming: bool, answer: &[u8]) -> Option<Usage> {
    let mut choices = Choices::of(answer);
    let longest = if answer.len() > TAIL_BYTES / 2 { 20_000 } else { 1 + choices.below(40) };
    let whole = read(streaming, once(answer));
    assert_eq!(read(streaming, choices.cut(answer, longest)), whole, "chunks of 1 to {longest} bytes");
    whole
}

fn check_stream(answer: &[u8]) {
    let found = read_cut(true, answer);
    if has_other_counts(answer) || answer.contains(&b'\r') || answer.starts_with("\u{feff}".as_bytes()) {
        return;
    }
    let (mut event, mut expected) = (Vec::new(), Counts::default());
    for line in answer.split(|&byte| byte == b'\n').chain([&b""[..]]) {
        if line.is_empty() {
            match counts_of_event(&std::mem::take(&mut event)) {
                Ok(counts) => expected.update(counts),
                Err(Ambiguous) => return,
            }
        } else if line.len() > MAX_LINE_BYTES {
            return;
        } else if let Some(data) = line.strip_prefix(b"data:") {
            if event.len() + data.len() > MAX_LINE_BYTES {
                return;
            }
            event.extend_from_slice(data);
            event.push(b'\n');
        }
    }
    assert_eq!(found, expected.usage(), "of a stream");
}

/// What an event adds; the reader may take what is no JSON for `Value`, or not.
fn counts_of_event(event: &[u8]) -> Result<Counts, Ambiguous> {
    if n_usages(event) == 0 {
        return Ok(Counts::default());
    }
    let event = json::unambiguous(event).ok_or(Ambiguous)?;
    if event.get("response").is_some() || event.get("message").is_some() {
        return Err(Ambiguous);
    }
    Counts::of(&event)
}

fn check_body(answer: &[u8]) {
    let found = read_cut(false, answer);
    if has_other_counts(answer)
        || answer.len() > TAIL_BYTES
        || answer.contains(&b'\\')
        || n_usages(answer) != 1
    {
        return;
    }
    let Some(body) = json::unambiguous(answer).filter(|body| body.get("usage").is_some()) else { return };
    if let Ok(expected) = Counts::of(&body) {
        assert_eq!(found, expected.usage(), "of a body");
    }
}

/// Whether there may be counts where other engines have them, which the unit tests are for.
fn has_other_counts(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    ["meta_info", "eval_count", "\"cached_tokens\""].iter().any(|name| text.contains(name))
}

fn n_usages(text: &[u8]) -> usize {
    text.windows(7).filter(|window| window == b"\"usage\"").count()
}

/// Nobody says what a list means where an object should be, and the unit tests say what odd counts are.
struct Ambiguous;

/// What was said so far.
#[derive(Clone, Copy, Default)]
struct Counts {
    prompt: Option<u64>,
    completion: Option<u64>,
    cached: Option<u64>,
    cache_read: Option<u64>,
    cache_created: Option<u64>,
    total: Option<u64>,
    reasoning: Option<u64>,
}

impl Counts {
    /// The counts in the usage that an object has.
    fn of(event: &Value) -> Result<Self, Ambiguous> {
        if event.is_array() || event.get("usage").is_some_and(Value::is_array) {
            return Err(Ambiguous);
        }
        let Some(Value::Object(usage)) = event.get("usage") else { return Ok(Self::default()) };
        let either = |one: &str, other: &str| match (usage.get(one), usage.get(other)) {
            (Some(_), Some(_)) => Err(Ambiguous),
            (value, None) | (None, value) => Ok(value),
        };
        let cached = match either("prompt_tokens_details", "input_tokens_details")? {
            Some(Value::Array(_)) => return Err(Ambiguous),
            details => details.and_then(|details| details.get("cached_tokens")),
        };
        let details = either("completion_tokens_details", "output_tokens_details")?;
        let detailed = details.is_some();
        let reasoning = match details {
            Some(Value::Array(_)) => return Err(Ambiguous),
            details => details.and_then(|details| details.get("reasoning_tokens")),
        };
        Ok(Self {
            prompt: count(either("prompt_tokens", "input_tokens")?)?,
            completion: count(either("completion_tokens", "output_tokens")?)?,
            cached: count(cached)?,
            cache_read: count(usage.get("cache_read_input_tokens"))?,
            cache_created: count(usage.get("cache_creation_input_tokens"))?,
            total: count(usage.get("total_tokens"))?,
            reasoning: match usage.get("reasoning_tokens") {
                Some(_) if detailed => return Err(Ambiguous),
                plain => count(plain.or(reasoning))?,
            },
        })
    }

    fn update(&mut self, later: Self) {
        let Self { prompt, completion, cached, cache_read, cache_created, total, reasoning } = later;
        for (mine, later) in [
            (&mut self.prompt, prompt),
            (&mut self.completion, completion),
            (&mut self.cached, cached),
            (&mut self.cache_read, cache_read),
            (&mut self.cache_created, cache_created),
            (&mut self.total, total),
            (&mut self.reasoning, reasoning),
        ] {
            *mine = later.or(*mine);
        }
    }

    fn usage(&self) -> Option<Usage> {
        let Self { prompt, completion, cached, cache_read, cache_created, total, reasoning } = *self;
        let usage = Usage {
            prompt_tokens: [prompt, cache_read, cache_created].into_iter().flatten().reduce(|a, b| a + b),
            completion_tokens: completion,
            total_tokens: total,
            cached_tokens: cached.or(cache_read),
            cache_creation_tokens: cache_created,
            reasoning_tokens: reasoning,
        };
        (usage != Usage::default()).then_some(usage)
    }
}

/// Counts up to 2^53 are believed.
fn count(value: Option<&Value>) -> Result<Option<u64>, Ambiguous> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            value.as_u64().map(|count| Some(count).filter(|count| *count <= 1 << 53)).ok_or(Ambiguous)
        }
    }
}
