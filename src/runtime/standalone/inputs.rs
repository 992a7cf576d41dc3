//! What `epp standalone` reads, again and again: the manifests and the endpoints file.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use epp_framework::plugin::PluginType;

use crate::discovery::file::{self, PoolFile};
use crate::standalone::finding::Level;
use crate::standalone::input::Source;
use crate::standalone::{self, Checked, report};

/// Reads files and folders; or tells all that cannot be read.
pub type Read = fn(&[PathBuf]) -> Result<Vec<Source>, Vec<String>>;

/// Where manifests are, and how strictly they are read.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// What was read once and for all, with its names.
    pub given: Vec<(String, String)>,
    /// Files and folders.
    pub files: Vec<PathBuf>,
    /// Namespace of objects and endpoints that name none.
    pub namespace: String,
    /// Whether warnings are errors.
    pub is_strict: bool,
    /// The endpoints file, if there is one.
    pub endpoints: Option<PathBuf>,
    /// Reads files and folders.
    pub read: Read,
}

/// What was read, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Texts {
    sources: Vec<(String, String)>,
    endpoints: Option<String>,
}

/// What was read, understood.
pub(super) struct Understood {
    /// What the manifests come to.
    pub checked: Checked,
    /// What the endpoints file lists.
    pub listed: PoolFile,
    /// Everything that is to be told, as lines.
    pub told: String,
    /// When it was read, in seconds since 1970.
    pub at: i64,
}

impl Understood {
    /// Logs what is to be told of it.
    pub(super) fn tell(&self) {
        self.told.lines().for_each(|finding| tracing::warn!(finding, "manifests"));
    }
}

impl Inputs {
    /// Reads everything, which blocks; all that cannot be read is told.
    pub(super) fn texts(&self) -> anyhow::Result<Texts> {
        let sources = match (self.read)(&self.files) {
            Ok(sources) => {
                let read = sources.into_iter().map(|source| (source.name, source.text));
                self.given.iter().cloned().chain(read).collect()
            }
            Err(trouble) => bail!("{}", trouble.join("\n")),
        };
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path)
                .map_err(|error| anyhow::anyhow!("cannot read {}: {error}", path.display()))
        };
        let endpoints = self.endpoints.as_ref().map(read).transpose()?;
        Ok(Texts { sources, endpoints })
    }

    /// Checks what was read; with any error nothing of it is to be used, and the error is all that is to be told.
    pub(super) fn understand(
        &self,
        texts: &Texts,
        types: &'static [PluginType],
    ) -> anyhow::Result<Understood> {
        let source = |(name, text): &(String, String)| Source { name: name.clone(), text: text.clone() };
        let sources: Vec<_> = texts.sources.iter().map(source).collect();
        if let Some((name, _)) = texts.sources.iter().find(|(_, text)| text.trim().is_empty()) {
            bail!("{name} is empty; it may be about to be written");
        }
        let mut checked = standalone::check(&sources, &self.namespace, types);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let at = now.as_secs().cast_signed();
        checked.tell_expired(at);
        let n = |level| checked.findings.count(level);
        let is_fine = n(Level::Error) == 0 && !(self.is_strict && n(Level::Degraded) + n(Level::Warning) > 0);
        let told = report::lines(&mut checked.findings, &sources);
        if !is_fine {
            bail!("the manifests cannot be served\n{}", told.trim_end());
        }
        if checked.topology.gateways.iter().all(|gateway| gateway.listeners.is_empty()) {
            bail!("the manifests have no Gateway with a listener that can be served\n{}", told.trim_end());
        }
        Ok(Understood { checked, listed: self.listed(texts)?, told, at })
    }

    fn listed(&self, texts: &Texts) -> anyhow::Result<PoolFile> {
        let (Some(path), Some(text)) = (&self.endpoints, &texts.endpoints) else {
            return Ok(PoolFile::default());
        };
        file::parse(text, &self.namespace).map_err(|problems| {
            let name = path.display().to_string();
            let lines: Vec<_> = problems.iter().map(|problem| problem.in_file(&name)).collect();
            anyhow::anyhow!("{}", lines.join("\n"))
        })
    }
}
