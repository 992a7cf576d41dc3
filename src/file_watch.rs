//! Tells when the content of a file changes: [`FileWatch`]; or of files that belong together: [`FilesWatch`].
//!
//! It polls the content and nothing else, so that symlink swaps of a ConfigMap, renames by an editor and network file
//! systems are all the same to it. A content counts once two polls in a row saw it, so half-written files do not.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::node::MAX_BYTES;

/// From one look to the next where a file is read at once: whoever is writing it writes on meanwhile.
const SETTLED: Duration = Duration::from_millis(50);

/// Watches one file.
pub struct FileWatch {
    path: PathBuf,
    files: FilesWatch,
}

/// Watches files that belong together: a change of one shows all.
pub struct FilesWatch {
    paths: Vec<PathBuf>,
    interval: Duration,
    /// What the caller was given last, in the order of `paths`.
    returned: Option<Vec<Seen>>,
    /// What the last poll saw.
    polled: Option<Vec<Seen>>,
}

/// What one look at a file showed. Errors are equal if they say the same.
#[derive(Clone, PartialEq)]
enum Seen {
    Text(String),
    Failure(ErrorKind, String),
}

impl FileWatch {
    /// Watches `path`, looking at it every `interval` (at least a millisecond).
    pub fn new(path: impl Into<PathBuf>, interval: Duration) -> Self {
        let path = path.into();
        Self { files: FilesWatch::new(vec![path.clone()], interval), path }
    }

    /// The file that is watched.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file now, for the start; blocks. Fails if it cannot be read, is no regular file, is not UTF-8, or is
    /// larger than what [`parse`](crate::config::node::parse) would take.
    pub fn first_read(&mut self) -> Result<String> {
        only(self.files.look_first())
    }

    /// Reads the file now, whatever it showed before, until two looks in a row see the same; the next change is one
    /// from this.
    pub async fn read_now(&mut self) -> Result<String> {
        only(self.files.look_now().await)
    }

    /// Waits until the file shows something else than was returned last, for two polls in a row.
    ///
    /// A read error is returned once, until there is another one; after an error the content is returned again, even
    /// if it is the old one. Never returns while the content changes at every poll. Cancel-safe.
    pub async fn changed(&mut self) -> Result<String> {
        only(self.files.look().await)
    }
}

impl FilesWatch {
    /// Watches `paths`, looking at all of them every `interval` (at least a millisecond).
    pub fn new(paths: Vec<PathBuf>, interval: Duration) -> Self {
        let interval = interval.max(Duration::from_millis(1));
        Self { paths, interval, returned: None, polled: None }
    }

    /// Reads the files now, as [`FileWatch::first_read`] does; the error names the file.
    pub fn first_read(&mut self) -> Result<Vec<String>> {
        let seen = self.look_first();
        self.texts(seen)
    }

    /// Waits as [`FileWatch::changed`] does, until no file of them changes any more; the error names the file.
    pub async fn changed(&mut self) -> Result<Vec<String>> {
        let seen = self.look().await;
        self.texts(seen)
    }

    fn look_first(&mut self) -> Vec<Seen> {
        let seen = look_at(&self.paths);
        self.returned = Some(seen.clone());
        seen
    }

    async fn look(&mut self) -> Vec<Seen> {
        loop {
            tokio::time::sleep(self.interval).await;
            let seen = self.poll().await;
            let stable = self.polled.as_ref() == Some(&seen);
            if stable && self.returned.as_ref() != Some(&seen) {
                self.returned = Some(seen.clone());
                return seen;
            }
            self.polled = Some(seen);
        }
    }

    async fn look_now(&mut self) -> Vec<Seen> {
        let mut seen = self.poll().await;
        loop {
            tokio::time::sleep(self.interval.min(SETTLED)).await;
            let again = self.poll().await;
            if seen == again {
                self.returned = Some(seen.clone());
                return seen;
            }
            seen = again;
        }
    }

    async fn poll(&self) -> Vec<Seen> {
        let paths = self.paths.clone();
        // A network file system may block for long.
        let looked = tokio::task::spawn_blocking(move || look_at(&paths)).await;
        looked.unwrap_or_else(|error| {
            let failure = Seen::Failure(ErrorKind::Other, error.to_string());
            vec![failure; self.paths.len()]
        })
    }

    fn texts(&self, seen: Vec<Seen>) -> Result<Vec<String>> {
        let named = |(path, seen): (&PathBuf, Seen)| {
            seen.into_result()
                .map_err(|error| Error::new(error.kind(), format!("{}: {error}", path.display())))
        };
        self.paths.iter().zip(seen).map(named).collect()
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

fn only(seen: Vec<Seen>) -> Result<String> {
    seen.into_iter().next().map_or_else(|| Err(ErrorKind::NotFound.into()), Seen::into_result)
}

fn look_at(paths: &[PathBuf]) -> Vec<Seen> {
    paths.iter().map(|path| Seen::of(read(path))).collect()
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
