//! Which sample of a metrics page carries a value: `name`, or `name{label=value,…}`, as flags and parameters write it.
//!
//! Entry point: [`MetricSpec::parse`]. Values stand without quotes, blanks around the parts do not count. Which spec is
//! for what is in [`MetricSpecs`]; pages are read elsewhere.

/// A sample's name, and the labels it must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricSpec {
    /// Name of the samples.
    pub name: String,
    /// Name and value of labels; a sample with further ones matches too.
    pub labels: Vec<(String, String)>,
}

/// What is wrong with a spec, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at character {at} (metric specs look like `name` or `name{{label=value,…}}`)")]
pub struct SpecError {
    expected: &'static str,
    /// Counted from 1.
    at: usize,
}

impl MetricSpec {
    /// Takes every sample of a name.
    pub fn of(name: &str) -> Self {
        Self { name: name.to_owned(), labels: Vec::new() }
    }

    /// Reads a spec; `None` for an empty text, which says that nothing is to be scraped.
    pub fn parse(text: &str) -> Result<Option<Self>, SpecError> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let mut reader = Reader { text, at: 0 };
        let name = reader.word("a metric name", |byte| is_label_byte(byte) || byte == b':')?;
        let mut labels: Vec<(String, String)> = Vec::new();
        if reader.takes(b'{') {
            loop {
                reader.skip_blanks();
                let label_at = reader.at;
                let label = reader.word("a label name", is_label_byte)?;
                reader.expect(b'=', "`=` and the label's value")?;
                let value = reader.value()?;
                if labels.iter().any(|(other, _)| *other == label) {
                    return Err(reader.error_at(label_at, "a label that was not named before"));
                }
                labels.push((label, value));
                if !reader.takes(b',') {
                    break;
                }
            }
            reader.expect(b'}', "`,` or `}`")?;
        }
        reader.skip_blanks();
        if reader.at < text.len() {
            let expected = if labels.is_empty() { "`{` or the end" } else { "the end" };
            return Err(reader.error_at(reader.at, expected));
        }
        Ok(Some(Self { name, labels }))
    }
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

struct Reader<'a> {
    text: &'a str,
    /// Byte that is read next; always at a character's beginning.
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn takes(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let found = self.rest().as_bytes().first() == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), SpecError> {
        if self.takes(byte) { Ok(()) } else { Err(self.error_at(self.at, expected)) }
    }

    fn word(&mut self, expected: &'static str, allowed: fn(u8) -> bool) -> Result<String, SpecError> {
        self.skip_blanks();
        let rest = self.rest();
        let end = rest.bytes().position(|byte| !allowed(byte)).unwrap_or(rest.len());
        let word = &rest[..end];
        if word.is_empty() || word.as_bytes()[0].is_ascii_digit() {
            return Err(self.error_at(self.at, expected));
        }
        let word = word.to_owned();
        self.at += end;
        Ok(word)
    }

    /// A label's value: whatever stands before `,` or `}`, but no second `=` and no quotes.
    fn value(&mut self) -> Result<String, SpecError> {
        self.skip_blanks();
        let rest = self.rest();
        let end = rest.find(['=', ',', '{', '}', '"']).unwrap_or(rest.len());
        let value = rest[..end].trim_end().to_owned();
        match rest.as_bytes().get(end) {
            Some(b'"') => Err(self.error_at(self.at + end, "a value without quotes")),
            Some(b'=' | b'{') => Err(self.error_at(self.at + end, "`,` or `}`")),
            _ if value.is_empty() => Err(self.error_at(self.at, "the label's value")),
            _ => {
                self.at += end;
                Ok(value)
            }
        }
    }

    fn error_at(&self, byte: usize, expected: &'static str) -> SpecError {
        SpecError { expected, at: self.text[..byte].chars().count() + 1 }
    }
}

/// Which samples of an engine's page tell what. A field without a spec is not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricSpecs {
    /// Requests waiting.
    pub waiting: Option<MetricSpec>,
    /// Requests running.
    pub running: Option<MetricSpec>,
    /// Fraction of KV blocks in use.
    pub kv_used: Option<MetricSpec>,
    /// LoRA adapters, as labels.
    pub lora: Option<MetricSpec>,
    /// Size and number of KV blocks, as labels; what it says comes before the two specs below.
    pub cache_config: Option<MetricSpec>,
    /// Label of `cache_config` with the tokens per KV block; empty for the usual ones.
    pub block_size_label: String,
    /// Label of `cache_config` with the number of KV blocks; empty for the usual ones.
    pub num_blocks_label: String,
    /// Tokens per KV block, as the value.
    pub block_size: Option<MetricSpec>,
    /// Number of KV blocks, as the value.
    pub num_blocks: Option<MetricSpec>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(name: &str, labels: &[(&str, &str)]) -> MetricSpec {
        let labels = labels.iter().map(|&(label, value)| (label.to_owned(), value.to_owned()));
        MetricSpec { name: name.to_owned(), labels: labels.collect() }
    }

    #[test]
    fn row_137_specs_are_read_with_and_without_labels_and_blanks() {
        for (text, want) in [
            ("", None),
            ("  ", None),
            ("m", Some(spec("m", &[]))),
            ("m{l=v}", Some(spec("m", &[("l", "v")]))),
            ("m{a=1,b=2}", Some(spec("m", &[("a", "1"), ("b", "2")]))),
            ("  m  {  a  =  1 } ", Some(spec("m", &[("a", "1")]))),
            ("m ", Some(spec("m", &[]))),
            ("vllm:kv_cache_usage_perc", Some(spec("vllm:kv_cache_usage_perc", &[]))),
            (
                "nv_trt_llm_request_metrics{request_type=waiting}",
                Some(spec("nv_trt_llm_request_metrics", &[("request_type", "waiting")])),
            ),
            ("m{l=a b.c:é/1}", Some(spec("m", &[("l", "a b.c:é/1")]))),
        ] {
            assert_eq!(MetricSpec::parse(text), Ok(want), "{text:?}");
        }
    }

    #[test]
    fn row_138_malformed_specs_are_refused_with_what_was_expected_and_where() {
        for (text, expected, at) in [
            ("m{l=v", "`,` or `}`", 6),
            ("ml=v}", "`{` or the end", 3),
            ("m{l}", "`=` and the label's value", 4),
            ("m{=v}", "a label name", 3),
            ("m{l=}", "the label's value", 5),
            ("m{  =  }", "a label name", 5),
            ("m{l=v}x", "the end", 7),
            ("{l=v}", "a metric name", 1),
            ("m{}", "a label name", 3),
            ("m{l=v,}", "a label name", 7),
            ("m{l=v=w}", "`,` or `}`", 6),
            ("m{l=v{}", "`,` or `}`", 6),
            ("m{l=\"v\"}", "a value without quotes", 5),
            ("m{l=é\"}", "a value without quotes", 6),
            ("m{l=1, l=2}", "a label that was not named before", 8),
            ("m}", "`{` or the end", 2),
            ("1m", "a metric name", 1),
            ("m.x", "`{` or the end", 2),
            ("é", "a metric name", 1),
        ] {
            assert_eq!(MetricSpec::parse(text), Err(SpecError { expected, at }), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[ -~é]{0,20}|m\\{[a-c=,\" {}é]{0,12}") {
            let _ = MetricSpec::parse(&text);
        }
    }
}
