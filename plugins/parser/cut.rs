//! Reads a body of which only the beginning was seen. One entry point: [`parse`].
//!
//! The JSON is closed where it breaks off and then read as ever: a prompt that was cut is still a prefix of the prompt.
//! It cannot be known whether such a body is in order, so nothing is refused: what cannot be read is not there.

use super::openai::{self, ParsedBody};

/// Stands in front of the body's own members; of duplicate keys the last wins, so these count only where it has none.
const DEFAULTS: &[u8] = br#""model":"","prompt":"","#;

/// Reads the beginning of a body. `model_span` is empty when no whole model was seen.
pub fn parse(body: &[u8]) -> ParsedBody {
    read(body).unwrap_or_default()
}

fn read(body: &[u8]) -> Option<ParsedBody> {
    let open = body.iter().position(|byte| !byte.is_ascii_whitespace()).filter(|&at| body[at] == b'{')? + 1;
    let (keep, closers) = close(body)?;
    let members = &body[open..keep];
    let mut whole = Vec::with_capacity(body.len() + DEFAULTS.len() + closers.len());
    whole.extend_from_slice(&body[..open]);
    whole.extend_from_slice(DEFAULTS);
    if members.iter().all(u8::is_ascii_whitespace) {
        // No comma before what closes the object.
        whole.pop();
    }
    whole.extend_from_slice(members);
    whole.extend_from_slice(&closers);
    let mut parsed = openai::parse(&whole).ok()?;
    let span = &parsed.model_span;
    // A model that is ours, or that we closed, is not the client's.
    if span.start < open + DEFAULTS.len() || span.end > keep + DEFAULTS.len() {
        parsed.model.clear();
        parsed.model_span = 0..0;
    } else {
        parsed.model_span = span.start - DEFAULTS.len()..span.end - DEFAULTS.len();
    }
    Some(parsed)
}

/// How many bytes to keep of a JSON text that breaks off, and what to put behind them so that it ends properly.
///
/// What is cut in the middle is dropped, except a string that is a value, of which the beginning stays.
fn close(body: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut closers = Vec::new();
    let (mut keep, mut at, mut in_key) = (0, 0, false);
    while at < body.len() {
        match body[at] {
            b'"' => match read_string(&body[at + 1..]) {
                Ok(length) => {
                    at += length;
                    keep = if in_key { keep } else { at + 1 };
                }
                Err(_) if in_key => break,
                Err(length) => {
                    keep = at + 1 + length;
                    closers.push(b'"');
                    break;
                }
            },
            opener @ (b'{' | b'[') => {
                in_key = opener == b'{';
                closers.push(if in_key { b'}' } else { b']' });
                keep = at + 1;
            }
            b'}' | b']' => {
                closers.pop()?;
                keep = at + 1;
            }
            b',' => {
                in_key = closers.last() == Some(&b'}');
                keep = at;
            }
            b':' => in_key = false,
            _ => {}
        }
        at += 1;
    }
    closers.reverse();
    Some((keep, closers))
}

/// Length of the string that `rest` begins within, its closing quote included; of a string that breaks off, the bytes
/// that are whole characters.
fn read_string(rest: &[u8]) -> Result<usize, usize> {
    let mut at = 0;
    while let Some(&byte) = rest.get(at) {
        let length = match (byte, rest.get(at + 1..).unwrap_or_default()) {
            (b'"', _) => return Ok(at + 1),
            (b'\\', [b'u', ..]) => escape_length(&rest[at..]),
            (b'\\' | 0xC0..=0xDF, _) => 2,
            (0xE0..=0xEF, _) => 3,
            (0xF0..=0xFF, _) => 4,
            _ => 1,
        };
        if at + length > rest.len() {
            break;
        }
        at += length;
    }
    Err(at)
}

/// Length of the escape `\uXXXX` that `rest` begins with: of the pair, if it is a high surrogate and its low one follows
/// or may still come.
fn escape_length(rest: &[u8]) -> usize {
    let is_high = |at: usize| {
        matches!(rest.get(at..at + 2), Some([b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B']))
    };
    let low = rest.get(6..).unwrap_or_default();
    let may_be_low = low.iter().zip(0..).all(|(byte, at)| match at {
        0 => *byte == b'\\',
        1 => *byte == b'u',
        2 => matches!(byte, b'd' | b'D'),
        3 => matches!(byte, b'c'..=b'f' | b'C'..=b'F'),
        _ => true,
    });
    if is_high(2) && may_be_low { 12 } else { 6 }
}

#[cfg(test)]
mod tests {
    use epp_framework::request::Prompt;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_there_is_read() {
        let text = |text: &str| Prompt::Text(text.to_owned());
        for (body, model, prompt) in [
            ("", "", Prompt::None),
            ("no object", "", Prompt::None),
            ("}", "", Prompt::None),
            ("{", "", text("")),
            (r#" {"model":"m""#, "m", text("")),
            (r#"{"model":"m"#, "", text("")),
            (r#"{"model":"m","pro"#, "m", text("")),
            (r#"{"model":"m","prompt":"#, "m", text("")),
            (r#"{"model":"m","prompt":"a b"#, "m", text("a b")),
            (r#"{"model":"m","prompt":"a\\"#, "m", text("a\\")),
            (r#"{"model":"m","prompt":"a\"#, "m", text("a")),
            (r#"{"model":"m","prompt":"a\u00e9\u00"#, "m", text("a\u{e9}")),
            (r#"{"model":"m","prompt":"a\ud83d\ude0"#, "m", text("a")),
            (r#"{"model":"m","prompt":"a\ud83d"#, "m", text("a")),
            (r#"{"model":"m","prompt":"a\ud83d\ude00b"#, "m", text("a\u{1f600}b")),
            (r#"{"prompt":"\ud800","model":"m","n":1"#, "m", text("\u{fffd}\u{fffd}\u{fffd}")),
            (
                r#"{"prompt":"\ud800\ud83d\ude00","model":"m","n":1"#,
                "m",
                text("\u{fffd}\u{fffd}\u{fffd}\u{1f600}"),
            ),
            (r#"{"prompt":"a","model":"m","n":1"#, "m", text("a")),
            (r#"{"model":"m","prompt":[1,2,3"#, "m", Prompt::Tokens(vec![1, 2])),
            (
                r#"{"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"#,
                "",
                text("<|im_start|>user\na<|im_end|>\n<|im_start|>user\nb<|im_end|>\n"),
            ),
            (r#"{"model":"m","prompt":"whole"}"#, "m", text("whole")),
        ] {
            let parsed = parse(body.as_bytes());
            assert_eq!((parsed.model.as_str(), &parsed.prompt), (model, &prompt), "{body}");
            let span = &body.as_bytes()[parsed.model_span];
            assert_eq!(span, if model.is_empty() { &b""[..] } else { br#""m""# }, "{body}");
        }
        assert_eq!(parse(b"{\"prompt\":\"a\xc3").prompt, text("a"), "half a character");
        assert_eq!(parse(br#"{"model":"m","prompt":"a","max_tokens":12"#).max_tokens, None, "half a number");
    }

    proptest! {
        /// However long the beginning, what is read of it is the beginning of what the whole body says.
        #[test]
        fn a_beginning_reads_as_a_beginning(prompt in "\\PC{0,40}", at in any::<usize>()) {
            let prompt_json = serde_json::to_string(&prompt).unwrap();
            let body = format!(r#"{{"n":[1,{{"a":null}}],"prompt":{prompt_json},"model":"m"}}"#);
            match parse(&body.as_bytes()[..at % (body.len() + 1)]).prompt {
                Prompt::Text(read) => prop_assert!(prompt.starts_with(&read)),
                other => prop_assert_eq!(other, Prompt::None),
            }
            prop_assert_eq!(parse(body.as_bytes()), openai::parse(body.as_bytes()).unwrap());
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            parse(&body);
            let tokens: Vec<u8> = body.iter().map(|byte| b"{}[],:\"\\u1a a"[usize::from(byte % 13)]).collect();
            parse(&tokens);
        }
    }
}
