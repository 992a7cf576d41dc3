//! Tells when the content of a file changes: [`FileWatch`].
//!
//! It polls the content and nothing else, so that symlink swaps of a ConfigMap, renames by an editor and network file
//! systems are all the same to it. A content counts once two polls in a row saw it, so half-written files do not.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::node::MAX_BYTES;

/// Watches one file.
#[derive(Debug)]
pub struct FileWatch {
    path: PathBuf,
    interval: Duration,
    /// What the caller was given last.
    returned: Option<Seen>,
    /// What the last poll saw.
    polled: Option<Seen>,
}

/// What one look at the file showed. Errors are equal if they say the same.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Text(String),
    Failure(ErrorKind, String),
}

impl FileWatch {
    /// Watches `path`, looking at it every `interval` (at least a millisecond).
    pub fn new(path: impl Into<PathBuf>, interval: Duration) -> Self {
        let interval = interval.max(Duration::from_millis(1));
        Self { path: path.into(), interval, returned: None, polled: None }
    }

    /// The file that is watched.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file now, for the start; blocks. Fails if it cannot be read, is no regular file, is not UTF-8, or is
    /// larger than what [`parse`](crate::config::node::parse) would take.
    pub fn first_read(&mut self) -> Result<String> {
        let seen = Seen::of(read(&self.path));
        self.returned = Some(seen.clone());
        seen.into_result()
    }

    /// Waits until the file shows something else than was returned last, for two polls in a row.
    ///
    /// A read error is returned once, until there is another one; after an error the content is returned again, even
    /// if it is the old one. Never returns while the content changes at every poll. Cancel-safe.
    pub async fn changed(&mut self) -> Result<String> {
        loop {
            tokio::time::sleep(self.interval).await;
            let path = self.path.clone();
            // A network file system may block for long.
            let read = tokio::task::spawn_blocking(move || read(&path)).await;
            let seen = Seen::of(read.unwrap_or_else(|error| Err(Error::other(error))));
            let stable = self.polled.as_ref() == Some(&seen);
            if stable && self.returned.as_ref() != Some(&seen) {
                self.returned = Some(seen.clone());
                return seen.into_result();
            }
            self.polled = Some(seen);
        }
    }
}

impl Seen {
    fn of(read: Result<String>) -> Self {
        match read {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Failure(error.kind(), error.to_string()),
        }
    }

    fn into_result(self) -> Result<String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Failure(kind, message) => Err(Error::new(kind, message)),
        }
    }
}

fn read(path: &Path) -> Result<String> {
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("larger than {MAX_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| Error::new(ErrorKind::InvalidData, error.utf8_error()))
}

#[cfg(test)]
mod tests;
