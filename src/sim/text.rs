//! A toy tokenizer and chat template. Entry points: [`tokens`], [`push_turn`] and [`output_text`].
//!
//! A token is a space (if there is one) and up to six bytes that are not white space, about four bytes of English.
//! Two properties matter to the prefix cache. A longer text begins with the tokens of its beginning, the last one
//! excepted. And output tokens written out and read again are the same tokens, with or without the blank in front,
//! so that a conversation's next turn finds the blocks of the last answer. It does not try to resemble any real model.

use crate::sim::engine::hash;

/// Number of words that an engine may generate; output tokens are below it.
pub const N_WORDS: u32 = 128;

const MAX_PIECE_BYTES: usize = 6;

/// Sorted, since it is searched; at most [`MAX_PIECE_BYTES`] letters each.
const WORDS: [&str; N_WORDS as usize] = [
    "a", "about", "above", "across", "after", "again", "all", "almost", "also", "always", "among", "an",
    "and", "answer", "any", "are", "as", "at", "back", "be", "before", "below", "better", "bird", "blue",
    "boat", "book", "both", "bridge", "but", "by", "call", "can", "city", "clear", "cloud", "cold", "come",
    "day", "deep", "do", "door", "down", "each", "early", "earth", "east", "even", "every", "far", "fast",
    "few", "field", "find", "fire", "first", "for", "forest", "from", "garden", "give", "go", "good",
    "green", "hand", "he", "high", "hill", "home", "house", "how", "if", "in", "it", "just", "know", "lake",
    "last", "late", "light", "like", "little", "long", "look", "made", "many", "may", "moon", "more", "most",
    "name", "near", "new", "next", "night", "north", "not", "now", "of", "old", "on", "one", "only", "open",
    "or", "other", "our", "out", "over", "part", "place", "quiet", "river", "road", "round", "sea", "see",
    "she", "so", "some", "south", "stone", "that", "the", "then", "they", "to", "water",
];

/// Splits `text` into token ids, lazily, so that a caller can stop at a limit.
pub fn tokens(text: &str) -> impl Iterator<Item = u32> + '_ {
    Pieces { rest: text.as_bytes() }.map(token_of)
}

/// Writes one message as ChatML.
pub fn push_turn(out: &mut String, role: &str, content: &str) {
    for part in ["<|im_start|>", role, "\n", content, "<|im_end|>\n"] {
        out.push_str(part);
    }
}

/// Writes the line after which the model answers.
pub fn push_answer_start(out: &mut String) {
    out.push_str("<|im_start|>assistant\n");
}

/// Writes output tokens as text, each word with a blank in front.
pub fn output_text(tokens: impl Iterator<Item = u32>) -> String {
    let mut text = String::new();
    for token in tokens {
        text.push(' ');
        text.push_str(WORDS[(token % N_WORDS) as usize]);
    }
    text
}

struct Pieces<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let n_blanks = usize::from(*self.rest.first()? == b' ');
        let body = &self.rest[n_blanks..];
        let mut n = body.iter().take(MAX_PIECE_BYTES).take_while(|byte| !byte.is_ascii_whitespace()).count();
        // A marker always begins a piece, so that what stands before it keeps its tokens.
        let first_cut = 1 - n_blanks;
        if let Some(cut) = (first_cut..n).find(|&at| body[at..].starts_with(b"<|")) {
            n = cut;
        }
        // Zero here: a line break or tab, which is a piece of its own.
        let (piece, rest) = self.rest.split_at((n_blanks + n).max(1));
        self.rest = rest;
        Some(piece)
    }
}

fn token_of(piece: &[u8]) -> u32 {
    let word = piece.strip_prefix(b" ").unwrap_or(piece);
    if let Ok(index) = WORDS.binary_search_by(|known| known.as_bytes().cmp(word)) {
        return u32::try_from(index).expect("the list has 128 words");
    }
    let mut bytes = [0; 8];
    bytes[..piece.len()].copy_from_slice(piece);
    let hashed = hash::mix(piece.len() as u64, u64::from_le_bytes(bytes));
    N_WORDS + u32::try_from(hashed >> 33).expect("31 bits remain")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces(text: &str) -> Vec<&str> {
        Pieces { rest: text.as_bytes() }.map(|piece| std::str::from_utf8(piece).unwrap()).collect()
    }

    #[test]
    fn words_are_sorted_short_and_distinct() {
        assert!(WORDS.is_sorted_by(|a, b| a < b));
        assert!(WORDS.iter().all(|word| word.len() <= MAX_PIECE_BYTES));
    }

    #[test]
    fn pieces_end_at_blanks_markers_and_six_bytes() {
        for (text, want) in [
            ("", vec![]),
            ("hello world", vec!["hello", " world"]),
            ("  x", vec![" ", " x"]),
            ("a\n\tb", vec!["a", "\n", "\t", "b"]),
            ("riverside", vec!["rivers", "ide"]),
            ("moon<|im_end|>\n", vec!["moon", "<|im_e", "nd|>", "\n"]),
            ("abcde<|x", vec!["abcde", "<|x"]),
            ("a <|x", vec!["a", " ", "<|x"]),
        ] {
            assert_eq!(pieces(text), want, "{text:?}");
        }
    }

    #[test]
    fn an_answer_read_again_is_the_same_tokens_also_when_trimmed() {
        let output: Vec<u32> = (0..N_WORDS).rev().collect();
        let text = output_text(output.iter().copied());
        let mut prompt = String::new();
        push_turn(&mut prompt, "user", "say something");
        push_answer_start(&mut prompt);
        let mut want: Vec<u32> = tokens(&prompt).collect();
        want.extend(&output);
        for answer in [text.as_str(), text.trim()] {
            let mut turn = String::new();
            push_turn(&mut turn, "user", "say something");
            push_turn(&mut turn, "assistant", answer);
            let got: Vec<u32> = tokens(&turn).take(want.len()).collect();
            assert_eq!(got, want);
        }
    }

    proptest! {
        #[test]
        fn a_longer_text_keeps_all_but_the_last_token(
            start in "[ab <|\\n\u{e9}]{0,40}",
            more in "[ab <|\\n\u{e9}]{0,40}",
        ) {
            let short: Vec<u32> = tokens(&start).collect();
            let long: Vec<u32> = tokens(&format!("{start}{more}")).collect();
            let kept = short.len().saturating_sub(1);
            prop_assert_eq!(&long[..kept], &short[..kept]);
        }
    }
}
