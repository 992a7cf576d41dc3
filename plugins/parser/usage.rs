//! Token counts in JSON: of completions, chat, responses, messages, `SGLang`'s own API and Ollama's.
//!
//! What cannot be read is no usage, never an error.

use epp_framework::answer::Usage;
use memchr::memmem;

use super::envelope::whole_number;
use super::json::{Kind, Scanner, SyntaxError};

/// What was said of counts; `None` where nothing was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    prompt: Option<u64>,
    completion: Option<u64>,
    total: Option<u64>,
    /// Part of `prompt`.
    cached: Option<u64>,
    /// Part of `completion`.
    reasoning: Option<u64>,
    /// Prompt tokens that `prompt` lacks: the messages API counts those read from and written to the cache apart.
    cache_read: Option<u64>,
    cache_created: Option<u64>,
}

impl Counts {
    /// Reads the usage object that `text` begins with. Of duplicate keys the last wins.
    fn read(text: &[u8]) -> Option<Self> {
        let mut counts = Self::default();
        leading_members(text, |scanner, key| counts.member(scanner, key))?;
        Some(counts)
    }

    fn member(&mut self, scanner: &mut Scanner<'_>, key: &str) -> Result<(), SyntaxError> {
        let details = |scanner: &mut Scanner<'_>, name: &str| {
            let value = scanner.skip()?;
            let mut found = None;
            leading_members(&scanner.text()[value], |scanner, key| {
                let value = count(scanner)?;
                if key == name {
                    found = value;
                }
                Ok(())
            });
            Ok(found)
        };
        match key {
            // What `SGLang` says in `meta_info` has the same names, apart from the cached ones.
            "prompt_tokens" | "input_tokens" => self.prompt = count(scanner)?,
            "completion_tokens" | "output_tokens" => self.completion = count(scanner)?,
            "total_tokens" => self.total = count(scanner)?,
            "cached_tokens" => self.cached = count(scanner)?,
            "reasoning_tokens" => self.reasoning = count(scanner)?,
            "cache_read_input_tokens" => self.cache_read = count(scanner)?,
            "cache_creation_input_tokens" => self.cache_created = count(scanner)?,
            "prompt_tokens_details" | "input_tokens_details" => {
                self.cached = details(scanner, "cached_tokens")?;
            }
            "completion_tokens_details" | "output_tokens_details" => {
                self.reasoning = details(scanner, "reasoning_tokens")?;
            }
            _ => {
                scanner.skip()?;
            }
        }
        Ok(())
    }

    /// Takes over what a later usage object says.
    pub(super) fn update(&mut self, later: Self) {
        for (mine, later) in [
            (&mut self.prompt, later.prompt),
            (&mut self.completion, later.completion),
            (&mut self.total, later.total),
            (&mut self.cached, later.cached),
            (&mut self.reasoning, later.reasoning),
            (&mut self.cache_read, later.cache_read),
            (&mut self.cache_created, later.cache_created),
        ] {
            *mine = later.or(*mine);
        }
    }

    /// The counts in one sum each.
    pub(super) fn usage(self) -> Option<Usage> {
        let prompt = [self.prompt, self.cache_read, self.cache_created].into_iter().flatten();
        let usage = Usage {
            prompt_tokens: prompt.reduce(u64::saturating_add),
            completion_tokens: self.completion,
            total_tokens: self.total,
            cached_tokens: self.cached.or(self.cache_read),
            cache_creation_tokens: self.cache_created,
            reasoning_tokens: self.reasoning,
        };
        (usage != Usage::default()).then_some(usage)
    }
}

/// The counts in the data of an event, or in one line of many: in its `usage`, in that of the response or message it is
/// about, or where `SGLang` and Ollama have them.
pub(super) fn in_event(data: &[u8]) -> Option<Counts> {
    // Most events have none; they cost a search or two.
    let names = [&b"\"usage\""[..], b"\"meta_info\"", b"eval_count\""];
    names.iter().find(|name| memmem::find(data, name).is_some())?;
    let (mut usage, mut nested, mut carries) = (None, None, false);
    let mut ollama = Counts::default();
    leading_members(data, |scanner, key| {
        match key {
            "usage" | "meta_info" => usage = Some(scanner.skip()?),
            "response" | "message" => nested = Some(scanner.skip()?),
            "type" => {
                let kind = scanner.skip()?;
                let with_usage: [&[u8]; 4] = [
                    b"\"response.completed\"",
                    b"\"response.incomplete\"",
                    b"\"response.failed\"",
                    b"\"message_start\"",
                ];
                carries = with_usage.contains(&&scanner.text()[kind]);
            }
            "prompt_eval_count" => ollama.prompt = count(scanner)?,
            "eval_count" => ollama.completion = count(scanner)?,
            _ => {
                scanner.skip()?;
            }
        }
        Ok(())
    })?;
    let nested = nested.filter(|_| carries).and_then(|about| {
        let (about, mut usage) = (&data[about], None);
        leading_members(about, |scanner, key| {
            let value = scanner.skip()?;
            if key == "usage" {
                usage = Some(value);
            }
            Ok(())
        })?;
        usage.map(|usage| &about[usage])
    });
    match nested.or(usage.map(|usage| &data[usage])) {
        Some(usage) => Counts::read(usage),
        None => Some(ollama),
    }
}

/// The counts in a part of a body: in the last `"usage": {…}` or `"meta_info": {…}` that has any, or Ollama's.
pub(super) fn in_tail(tail: &[u8]) -> Option<Counts> {
    // Forwards is many times as fast as backwards, and most parts have none.
    let names = [&b"\"usage\""[..], b"\"meta_info\"", b"eval_count\""];
    names.iter().find(|name| memmem::find(tail, name).is_some())?;
    let object =
        |name: &[u8]| members(tail, name).filter_map(Counts::read).find(|counts| counts.usage().is_some());
    if let Some(counts) = object(b"\"usage\"").or_else(|| object(b"\"meta_info\"")) {
        return Some(counts);
    }
    let number = |name: &[u8]| members(tail, name).find_map(|value| count(&mut Scanner::new(value)).ok()?);
    let (prompt, completion) = (number(b"\"prompt_eval_count\""), number(b"\"eval_count\""));
    let counts = Counts { prompt, completion, ..Counts::default() };
    Some(counts).filter(|counts| counts.usage().is_some())
}

/// What follows each `name` that is the name of a member, the last first. Inside a string its first quote would be
/// escaped.
fn members<'a>(tail: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    memmem::rfind_iter(tail, name).filter_map(move |at| {
        let is_text = at > 0 && tail[at - 1] == b'\\';
        let value = tail[at + name.len()..].trim_ascii_start();
        value.strip_prefix(b":").filter(|_| !is_text)
    })
}

/// Calls `on` for each member of the object that `text` begins with; what follows it is not looked at. `None` if there
/// is no such object.
pub(super) fn leading_members<'a>(
    text: &'a [u8],
    on: impl FnMut(&mut Scanner<'a>, &str) -> Result<(), SyntaxError>,
) -> Option<()> {
    let mut scanner = Scanner::new(text);
    (scanner.kind() == Ok(Kind::Object)).then_some(())?;
    scanner.object(on).ok()
}

/// A count, also when written as `"5"` or `5.0`.
fn count(scanner: &mut Scanner<'_>) -> Result<Option<u64>, SyntaxError> {
    let value = scanner.skip()?;
    let text = &scanner.text()[value];
    let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
    Ok(whole_number(text))
}
