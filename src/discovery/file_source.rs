//! Follows the endpoints file: reads it at the start, then on every change, and applies the difference.
//!
//! A file with any error changes nothing: the last good state serves on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::file::{self, PoolFile};
use super::list::ListWriter;
use crate::datastore::StoreWriter;
use crate::file_watch::FileWatch;
use crate::pool::PoolState;

/// The endpoints file, as a source of the pool.
pub struct FileSource {
    watch: FileWatch,
    follow: bool,
    list: ListWriter,
    pool: Arc<PoolState>,
}

impl FileSource {
    /// Makes the source of `pool`; reads nothing yet. Without an interval the file is read once only.
    pub fn new(path: PathBuf, follow: Option<Duration>, writer: StoreWriter, pool: Arc<PoolState>) -> Self {
        let watch = FileWatch::new(path, follow.unwrap_or_default());
        let list = ListWriter::new(writer, pool.clone());
        Self { watch, follow: follow.is_some(), list, pool }
    }

    /// Reads the file for the first time. With any error, all problems are in the error.
    pub fn first(&mut self) -> anyhow::Result<()> {
        let file = first_read(&mut self.watch, &self.pool.namespace)?;
        self.list.apply(file);
        Ok(())
    }

    /// Follows the file for ever, or waits for ever if it is not to be followed.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let name = self.name();
        if !self.follow {
            std::future::pending::<()>().await;
        }
        loop {
            let result = match self.watch.changed().await {
                Ok(text) => read(&name, &text, &self.pool.namespace),
                Err(error) => Err(vec![format!("{name}: {error}")]),
            };
            match result {
                Ok(file) => {
                    let endpoints = file.endpoints.len();
                    self.list.apply(file);
                    self.count("ok");
                    tracing::info!(file = name, endpoints, "endpoints reloaded");
                }
                Err(problems) => {
                    self.count("refused");
                    for problem in problems {
                        tracing::error!(problem, "endpoints file refused; the last good state serves on");
                    }
                }
            }
        }
    }

    fn name(&self) -> String {
        self.watch.path().display().to_string()
    }

    fn count(&self, result: &str) {
        self.pool.metrics.endpoints_reloads.with_label_values(&[result]).inc();
    }
}

/// Says what is wrong with the file at `path`, if anything is; for a start that fails anyway.
pub fn check(path: &Path, namespace: &str) -> anyhow::Result<()> {
    first_read(&mut FileWatch::new(path, Duration::ZERO), namespace).map(|_| ())
}

fn first_read(watch: &mut FileWatch, namespace: &str) -> anyhow::Result<PoolFile> {
    let name = watch.path().display().to_string();
    let text = watch.first_read().with_context(|| format!("cannot read the endpoints file {name}"))?;
    read(&name, &text, namespace)
        .map_err(|problems| anyhow!("the endpoints file is refused:\n{}", problems.join("\n")))
}

fn read(name: &str, text: &str, namespace: &str) -> Result<PoolFile, Vec<String>> {
    file::parse(text, namespace)
        .map_err(|problems| problems.iter().map(|problem| problem.in_file(name)).collect())
}
