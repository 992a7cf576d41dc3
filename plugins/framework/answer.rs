//! What a model server's answer tells of itself.

/// Token counts that a model server reported; `None` where it did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens, those from the cache included.
    pub prompt_tokens: Option<u64>,
    /// Output tokens, those of reasoning included.
    pub completion_tokens: Option<u64>,
    /// The sum as the server gives it; see [`Usage::total`].
    pub total_tokens: Option<u64>,
    /// Prompt tokens that came from the server's prefix cache.
    pub cached_tokens: Option<u64>,
    /// Prompt tokens that were written to the server's prefix cache, as the messages API counts them.
    pub cache_creation_tokens: Option<u64>,
    /// Output tokens of reasoning.
    pub reasoning_tokens: Option<u64>,
}

impl Usage {
    /// All tokens: the server's sum, or else that of prompt and output; zero if neither was said.
    pub fn total(&self) -> u64 {
        let sum = || self.prompt_tokens.unwrap_or(0).saturating_add(self.completion_tokens.unwrap_or(0));
        self.total_tokens.unwrap_or_else(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_sum_counts_if_it_gives_one() {
        for (prompt, completion, total, want) in [
            (Some(3), Some(4), Some(9), 9),
            (Some(3), Some(4), None, 7),
            (Some(3), None, None, 3),
            (None, None, None, 0),
            (Some(u64::MAX), Some(1), None, u64::MAX),
        ] {
            let usage = Usage {
                prompt_tokens: prompt,
                completion_tokens: completion,
                total_tokens: total,
                ..Usage::default()
            };
            assert_eq!(usage.total(), want, "{usage:?}");
        }
    }
}
