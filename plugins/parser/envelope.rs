//! The top level of a JSON request: what all APIs have in common. Entry point: [`read`].

use epp_framework::parsing::{ModelPlace, ParseError, ParsedRequest, RequestBody};

use super::json::{Kind, Scanner, SyntaxError};

/// What members mean that only some APIs have.
pub(super) trait Members {
    /// Reads the value of the member `key` if it wants it; says whether it did.
    fn member(&mut self, scanner: &mut Scanner<'_>, key: &str) -> Result<bool, SyntaxError>;
}

/// Reads the request in `body`, its prompt excepted, and lets `members` read what is left. Of duplicate keys the last
/// wins, as in the model servers.
pub(super) fn read(body: &RequestBody<'_>, members: &mut impl Members) -> Result<ParsedRequest, ParseError> {
    read_bytes(body.bytes, body.whole, members)
}

/// The same of bytes, which may be only the beginning of a request.
pub(super) fn read_bytes(
    bytes: &[u8],
    whole: bool,
    members: &mut impl Members,
) -> Result<ParsedRequest, ParseError> {
    let mut request = ParsedRequest::default();
    let valid = match std::str::from_utf8(bytes) {
        Ok(_) => bytes,
        // What was cut within a character ends before it.
        Err(error) if !whole && error.error_len().is_none() => &bytes[..error.valid_up_to()],
        Err(_) => return Err(ParseError::NotAnObject("it is not UTF-8".to_owned())),
    };
    let mut scanner = if whole { Scanner::new(valid) } else { Scanner::of_beginning(valid) };
    match read_members(&mut scanner, &mut request, members) {
        Ok(()) => Ok(request),
        Err(_) if !whole => {
            // What was not seen may hold the model.
            if request.model.is_none() {
                request.model_place = ModelPlace::Nowhere;
            }
            Ok(request)
        }
        Err(why) => Err(ParseError::NotAnObject(why)),
    }
}

fn read_members(
    scanner: &mut Scanner<'_>,
    request: &mut ParsedRequest,
    members: &mut impl Members,
) -> Result<(), String> {
    let told = |error: SyntaxError| error.to_string();
    if scanner.kind().map_err(told)? != Kind::Object {
        scanner.skip().map_err(told)?;
        return Err("expected a JSON object".to_owned());
    }
    request.model_place = ModelPlace::Member { at: scanner.position() + 1, alone: true };
    let read = scanner.object(|scanner, key| {
        if let ModelPlace::Member { alone, .. } = &mut request.model_place {
            *alone = false;
        }
        match key {
            "model" => read_model(scanner, request),
            "stream" => truth(scanner).map(|stream| request.stream = stream),
            "cache_salt" => string(scanner).map(|salt| request.cache_salt = salt),
            _ if members.member(scanner, key)? => Ok(()),
            _ => scanner.skip().map(|_| ()),
        }
    });
    read.and_then(|()| scanner.end()).map_err(told)
}

/// Longest name of a model, in bytes; what is longer is none.
const MAX_MODEL_BYTES: usize = 4096;

fn read_model(scanner: &mut Scanner<'_>, request: &mut ParsedRequest) -> Result<(), SyntaxError> {
    request.model = None;
    if scanner.kind()? != Kind::String {
        request.model_place = ModelPlace::Value(scanner.skip()?);
        return Ok(());
    }
    let text = scanner.string()?;
    if text.n_bytes > MAX_MODEL_BYTES {
        request.model_place = ModelPlace::Value(text.span.start - 1..scanner.position());
    } else if !scanner.broke_off() {
        request.model_place = ModelPlace::Value(text.span.start - 1..text.span.end + 1);
        request.model = Some(scanner.decode(&text).into_owned());
    }
    Ok(())
}

/// Whether a value means yes: `true`, and what vLLM takes for it.
fn truth(scanner: &mut Scanner<'_>) -> Result<bool, SyntaxError> {
    let value = scanner.skip()?;
    let value = &scanner.text()[value];
    let words = [&b"true"[..], b"1", b"\"true\"", b"\"1\"", b"\"yes\"", b"\"on\"", b"\"t\"", b"\"y\""];
    Ok(words.iter().any(|word| value.eq_ignore_ascii_case(word)))
}

/// The string that comes next; `None` if it is something else, or breaks off.
pub(super) fn string(scanner: &mut Scanner<'_>) -> Result<Option<String>, SyntaxError> {
    if scanner.kind()? != Kind::String {
        return scanner.skip().map(|_| None);
    }
    let text = scanner.string()?;
    Ok((!scanner.broke_off()).then(|| scanner.decode(&text).into_owned()))
}

/// The count that comes next; `None` if it is something else.
pub(super) fn count(scanner: &mut Scanner<'_>) -> Result<Option<u64>, SyntaxError> {
    let value = scanner.skip()?;
    Ok(whole_number(&scanner.text()[value]))
}

/// Largest count that is believed: all below it are exact in any JSON writer.
const MAX_COUNT: u64 = 1 << 53;

/// A JSON number that is a count, also when written as `5.0` or `5e0`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "only whole numbers in range are cast"
)]
pub(super) fn whole_number(number: &[u8]) -> Option<u64> {
    let text =
        std::str::from_utf8(number).ok().filter(|text| text.starts_with(|c: char| c.is_ascii_digit()))?;
    let whole = || {
        let value: f64 = text.parse().ok()?;
        (value.fract() == 0.0 && (0.0..=MAX_COUNT as f64).contains(&value)).then_some(value as u64)
    };
    text.parse().ok().or_else(whole).filter(|&count| count <= MAX_COUNT)
}
