//! A bearer token that a file holds: [`TokenFile::open`], and [`Follower::run`], which looks at the file again.
//!
//! A file without a usable token changes nothing: the token before goes on. To shut somebody out, write another token.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use thiserror::Error;

use crate::admin::digest::{Digest, Digester};
use crate::file_watch::FileWatch;

/// Knows the token of a file when it is shown.
#[derive(Clone)]
pub struct TokenFile {
    digester: Arc<Digester>,
    current: Arc<ArcSwap<Digest>>,
}

/// Follows the file of one [`TokenFile`].
pub struct Follower {
    watch: FileWatch,
    token: TokenFile,
}

/// The file holds no token that a caller could show.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("expected one token of visible ASCII characters, and nothing else")]
pub struct NoToken;

impl TokenFile {
    /// Reads the token; it is to be followed by looking at the file every `interval`.
    pub fn open(path: &Path, interval: Duration) -> anyhow::Result<(Self, Follower)> {
        let context = || format!("--debug-token-file {}", path.display());
        let mut watch = FileWatch::new(path, interval);
        let text = watch.first_read().with_context(context)?;
        let digester = Digester::new()?;
        let digest = digester.digest(token(&text).with_context(context)?.as_bytes());
        let token = Self { digester: Arc::new(digester), current: Arc::new(ArcSwap::from_pointee(digest)) };
        Ok((token.clone(), Follower { watch, token }))
    }

    /// Whether this is the token; takes as long either way.
    pub fn is(&self, shown: &str) -> bool {
        self.digester.fits(shown.as_bytes(), &self.current.load())
    }
}

impl Follower {
    /// Follows the file for ever.
    pub async fn run(mut self) -> anyhow::Result<()> {
        loop {
            let read = self.watch.changed().await.map_err(|error| error.to_string());
            // Neither reason quotes the file.
            let reason = match read.as_deref().map(token) {
                Ok(Ok(token)) => {
                    let digest = self.token.digester.digest(token.as_bytes());
                    self.token.current.store(Arc::new(digest));
                    tracing::info!("debug token reloaded");
                    continue;
                }
                Ok(Err(no_token)) => no_token.to_string(),
                Err(error) => error.clone(),
            };
            tracing::error!(reason, "debug token refused; the one before goes on");
        }
    }
}

/// The token in the text of a file, which may end its line.
fn token(text: &str) -> Result<&str, NoToken> {
    let token = text.trim();
    let visible = token.bytes().all(|byte| byte.is_ascii_graphic());
    if token.is_empty() || !visible { Err(NoToken) } else { Ok(token) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_token() {
        for (text, want) in [
            ("secret", Ok("secret")),
            ("secret\n", Ok("secret")),
            ("  se-cr_et~+/=. \r\n", Ok("se-cr_et~+/=.")),
            ("", Err(NoToken)),
            (" \n", Err(NoToken)),
            ("two words", Err(NoToken)),
            ("two\nlines", Err(NoToken)),
            ("schlüssel", Err(NoToken)),
            ("a\0b", Err(NoToken)),
        ] {
            assert_eq!(token(text), want, "{text:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_file_is_followed_and_without_a_token_the_one_before_goes_on() {
        let second = Duration::from_secs(1);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for (text, named) in [(None, "No such file"), (Some(""), "expected one token")] {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let error = TokenFile::open(&path, second).map(|_| ()).unwrap_err();
            let said = format!("{error:#}");
            assert!(said.contains("--debug-token-file") && said.contains(named), "{said}");
        }
        std::fs::write(&path, "first\n").unwrap();
        let (file, follower) = TokenFile::open(&path, second).unwrap();
        assert!(file.is("first"));
        for not in ["", "firs", "first\n", "First", "first "] {
            assert!(!file.is(not), "{not:?}");
        }
        let changes = async {
            for (text, first, second_token) in [
                (Some("second"), false, true),
                (Some(""), false, true),
                (None, false, true),
                (Some("first"), true, false),
            ] {
                match text {
                    Some(text) => std::fs::write(&path, text).unwrap(),
                    None => std::fs::remove_file(&path).unwrap(),
                }
                tokio::time::sleep(10 * second).await;
                assert_eq!((file.is("first"), file.is("second")), (first, second_token), "{text:?}");
            }
        };
        tokio::select! {
            end = follower.run() => panic!("it follows for ever: {end:?}"),
            () = changes => {}
        }
    }
}
