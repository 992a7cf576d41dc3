//! Numbers and words.

use super::{Read, Scanner, VALUE};

impl Scanner<'_> {
    pub(super) fn literal(&mut self) -> Read<()> {
        let rest = &self.text[self.at..];
        let (word, contexts) = match rest.first() {
            Some(b't') => TRUE,
            Some(b'f') => FALSE,
            _ => NULL,
        };
        for (at, byte) in word.iter().enumerate() {
            if rest.get(at) != Some(byte) {
                self.at += at;
                return Err(self.error(contexts[at]));
            }
        }
        self.at += word.len();
        Ok(())
    }

    pub(super) fn number(&mut self) -> Read<()> {
        const NUMBER: &str = "in numeric literal";
        if self.text[self.at] == b'-' {
            self.at += 1;
        }
        match self.text.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.error(NUMBER)),
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.some_digits("after decimal point in numeric literal")?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            self.some_digits("in exponent of numeric literal")?;
        }
        // A number that reaches the end of a text that goes on may go on as well.
        if self.cut && self.at == self.text.len() { Err(self.error(NUMBER)) } else { Ok(()) }
    }

    fn some_digits(&mut self, context: &'static str) -> Read<()> {
        if !matches!(self.text.get(self.at), Some(b'0'..=b'9')) {
            return Err(self.error(context));
        }
        self.digits();
        Ok(())
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.text.get(self.at) {
            self.at += 1;
        }
    }
}

/// A word, and what is said if one of its letters is another.
type Literal = (&'static [u8], &'static [&'static str]);

const TRUE: Literal = (
    b"true",
    &[
        VALUE,
        "in literal true (expecting 'r')",
        "in literal true (expecting 'u')",
        "in literal true (expecting 'e')",
    ],
);
const FALSE: Literal = (
    b"false",
    &[
        VALUE,
        "in literal false (expecting 'a')",
        "in literal false (expecting 'l')",
        "in literal false (expecting 's')",
        "in literal false (expecting 'e')",
    ],
);
const NULL: Literal = (
    b"null",
    &[
        VALUE,
        "in literal null (expecting 'u')",
        "in literal null (expecting 'l')",
        "in literal null (expecting 'l')",
    ],
);
