//! The lines of a body that does not end, as they come: [`Lines::next`].
//!
//! A watch sends one JSON document a line. A line is bounded: an object of Kubernetes is.

use std::fmt::Display;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use memchr::memchr;

/// Longest line: an object may have 1.5 MiB in etcd, and is longer as JSON.
const MAX_LINE_BYTES: usize = 8 << 20;

/// Cuts a body into lines.
pub(super) struct Lines<B> {
    body: B,
    buffer: BytesMut,
    /// Bytes of the buffer that hold no end of a line.
    searched: usize,
}

impl<B: Body<Data = Bytes, Error: Display> + Unpin> Lines<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0 }
    }

    /// The next line without its end; `None` once the body has ended, also within a line.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            if let Some(at) = memchr(b'\n', &self.buffer[self.searched..]) {
                let mut line = self.buffer.split_to(self.searched + at + 1);
                line.truncate(line.len() - 1);
                self.searched = 0;
                return Some(Ok(line.freeze()));
            }
            self.searched = self.buffer.len();
            if self.searched > MAX_LINE_BYTES {
                return Some(Err(format!("a line of more than {MAX_LINE_BYTES} bytes")));
            }
            match self.body.frame().await? {
                Ok(frame) => self.buffer.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Err(error) => return Some(Err(error.to_string())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    async fn all(chunks: Vec<Result<Vec<u8>, &'static str>>) -> Vec<Result<String, String>> {
        let frames = chunks.into_iter().map(|chunk| chunk.map(|chunk| Frame::data(Bytes::from(chunk))));
        let mut lines = Lines::new(StreamBody::new(stream::iter(frames)));
        let mut all = Vec::new();
        while let Some(line) = lines.next().await {
            let failed = line.is_err();
            all.push(line.map(|line| String::from_utf8(line.to_vec()).unwrap()));
            if failed {
                break;
            }
        }
        all
    }

    #[tokio::test]
    async fn lines_are_cut_wherever_the_chunks_end() {
        let text = "one\n\ntwo\nthree\nrest that has no end";
        for size in 1..text.len() {
            let chunks = text.as_bytes().chunks(size).map(|chunk| Ok(chunk.to_vec())).collect();
            let want = ["one", "", "two", "three"].map(|line| Ok(line.to_owned()));
            assert_eq!(all(chunks).await, want, "chunks of {size}");
        }
    }

    #[tokio::test]
    async fn an_endless_line_and_a_broken_body_are_errors() {
        let chunk = || Ok(vec![b'x'; 1 << 20]);
        let endless = all((0..20).map(|_| chunk()).collect()).await;
        assert_eq!(endless, [Err("a line of more than 8388608 bytes".to_owned())]);
        let broken = all(vec![Ok(b"one\ntw".to_vec()), Err("reset")]).await;
        assert_eq!(broken, [Ok("one".to_owned()), Err("reset".to_owned())]);
    }
}
