//! gRPC's framing: a flag, a length, a message. Entry points: [`first_message`] and [`MessageReader`].

use bytes::Bytes;
use epp_framework::parsing::{ParseError, RequestBody};

/// Length of what stands before a message, in bytes.
const HEAD_BYTES: usize = 5;

/// Longest message of an answer that is read, in bytes; longer ones are skipped.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// The first message of a request, which is all that these APIs send.
pub(super) fn first_message(request: &RequestBody<'_>) -> Result<Bytes, ParseError> {
    let invalid = |why: &'static str| ParseError::Invalid(why.into());
    let Some((head, rest)) = request.bytes.split_first_chunk::<HEAD_BYTES>() else {
        return Err(invalid("invalid gRPC request: it is shorter than the head of a message"));
    };
    if head[0] != 0 {
        return Err(invalid("invalid gRPC request: compressed messages are not supported"));
    }
    if length(*head) > rest.len() {
        return Err(invalid("invalid gRPC request: it is shorter than its head says"));
    }
    Ok(request.bytes.slice(HEAD_BYTES..HEAD_BYTES + length(*head)))
}

fn length([_, length @ ..]: [u8; HEAD_BYTES]) -> usize {
    u32::from_be_bytes(length) as usize
}

/// Cuts an answer into messages.
#[derive(Debug, Default)]
pub(super) struct MessageReader {
    /// The message that is coming, its head included.
    pending: Vec<u8>,
    /// Bytes to come of one that is not read.
    n_skipped: usize,
}

impl MessageReader {
    /// Takes the next bytes and gives each message that they end, unless it is compressed or too long.
    pub(super) fn feed(&mut self, mut chunk: &[u8], mut on_message: impl FnMut(&[u8])) {
        while !chunk.is_empty() {
            if self.n_skipped > 0 {
                let n = self.n_skipped.min(chunk.len());
                self.n_skipped -= n;
                chunk = &chunk[n..];
                continue;
            }
            let wanted = match self.pending.first_chunk::<HEAD_BYTES>() {
                Some(head) => HEAD_BYTES + length(*head),
                None => HEAD_BYTES,
            };
            let (part, rest) = chunk.split_at(chunk.len().min(wanted - self.pending.len()));
            self.pending.extend_from_slice(part);
            chunk = rest;
            self.end_message(&mut on_message);
        }
    }

    fn end_message(&mut self, on_message: &mut impl FnMut(&[u8])) {
        let Some((head, message)) = self.pending.split_first_chunk::<HEAD_BYTES>() else { return };
        let length = length(*head);
        if head[0] != 0 || length > MAX_MESSAGE_BYTES {
            self.n_skipped = length - message.len();
        } else if message.len() < length {
            return;
        } else {
            on_message(message);
        }
        self.pending.clear();
    }

    /// Whether the answer broke off within a message.
    pub(super) fn is_unfinished(&self) -> bool {
        !self.pending.is_empty() || self.n_skipped > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[flag][..], &length, message].concat()
    }

    #[test]
    fn messages_come_out_however_they_are_cut() {
        let long = vec![7; MAX_MESSAGE_BYTES + 1];
        let answer = [
            frame(0, b"one"),
            frame(0, b""),
            frame(1, b"compressed"),
            frame(0, &long),
            frame(0, &long[1..]),
            frame(0, b"last"),
        ]
        .concat();
        for size in [1, 2, 5, 7, 1000, answer.len()] {
            let mut reader = MessageReader::default();
            let mut found = Vec::new();
            for chunk in answer.chunks(size) {
                reader.feed(chunk, |message| found.push(message.len()));
                assert!(reader.pending.len() <= HEAD_BYTES + MAX_MESSAGE_BYTES);
            }
            assert_eq!(found, [3, 0, MAX_MESSAGE_BYTES, 4], "chunks of {size}");
            assert!(!reader.is_unfinished());
        }
        let mut reader = MessageReader::default();
        reader.feed(&answer[..7], |_| panic!("it is not whole"));
        assert!(reader.is_unfinished());
    }
}
