//! The folder that Envoy watches: [`XdsFolder`] writes its files so that a running Envoy drops nothing.
//!
//! Each file is renamed into its place, and only if its text changes. New things are there before something refers to
//! them, and old ones stay until nothing does; after each step Envoy is asked what it made of it. What it does not take
//! is taken back, so that the folder always holds what would serve after a new start of Envoy. Knows nothing of what
//! the files say: see [`steps`] for what that asks of them.

pub mod steps;
pub mod subscriptions;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, interval, timeout};

use self::steps::Steps;
use self::subscriptions::{Fate, Subscriptions};
use super::supervise::Handle;
use super::xds::{XdsFile, XdsKind};

/// From one question what Envoy made of a file to the next.
const POLL: Duration = Duration::from_millis(20);

/// How long Envoy may take to read a file, and to get ready what is in it. It waits 15 s for what a cluster or a
/// listener needs, such as addresses of a name.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long Envoy's reasons may take to reach us once it counts that it has one.
const REASON_WITHIN: Duration = Duration::from_millis(500);

/// Longest reason that is told, in characters.
const MAX_REASON: usize = 1000;

/// The folder, and what was written to it.
#[derive(Debug)]
pub struct XdsFolder {
    root: PathBuf,
    /// What lies there, by path; also what is not in use any more, or not taken.
    held: BTreeMap<String, XdsFile>,
    /// Paths of what is in use.
    wanted: BTreeSet<String>,
    leftovers: Option<Leftovers>,
}

/// What is to be done once nobody can need it any more.
#[derive(Debug)]
struct Leftovers {
    due: Instant,
    clusters: Option<XdsFile>,
    unused: Vec<String>,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Paths of the files that were written, in order.
    pub written: Vec<String>,
    /// Those among them of which Envoy did not tell in time that it took them, or that it is not done with: it was not
    /// running, or waits for something, such as addresses of a name.
    pub unconfirmed: Vec<String>,
}

/// Why files were not put to use.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A file cannot be written.
    #[error("cannot write {}: {}", .0.display(), .1)]
    Write(PathBuf, #[source] io::Error),
    /// Envoy did not take files; those before them serve on.
    #[error("envoy does not take {}: {}", .files.join(", "), .reasons.join("; "))]
    Refused {
        /// Their paths.
        files: Vec<String>,
        /// Its reasons, in its own words.
        reasons: Vec<String>,
    },
}

impl XdsFolder {
    /// A folder, which is made with the first file.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), held: BTreeMap::new(), wanted: BTreeSet::new(), leftovers: None }
    }

    /// Writes files that no running Envoy watches, in any order.
    pub async fn fill(&mut self, files: Vec<XdsFile>) -> Result<Applied, ApplyError> {
        let mut applied = Applied::default();
        self.wanted = files.iter().map(|file| file.path.clone()).collect();
        for file in files {
            if self.write(&file).await? {
                applied.written.push(file.path);
            }
        }
        Ok(applied)
    }

    /// Asks an Envoy that is ready whether it took all files; it is ready even if it took none.
    pub async fn confirm_start(&self, envoy: &Handle) -> Result<(), ApplyError> {
        let Some(now) = look(envoy).await else { return Ok(()) };
        let refused: Vec<_> = self.held.values().filter(|file| now.has_none(file)).collect();
        if refused.is_empty() { Ok(()) } else { Err(refusal(&refused, envoy, 0).await) }
    }

    /// Brings the folder to these files while Envoy runs: all of them, or none if it refuses one.
    ///
    /// `clusters_between` must be there if a cluster goes away: all clusters of `files`, and those that were there
    /// before. They stay, as do files that nobody needs any more, until [`clear`](Self::clear) is called, which should
    /// be `grace` later: as long as requests and replaced listeners may live, so Envoy's drain time at least. Routes
    /// that fit only one of two versions of a listener's filters need another name, and so another file, with each.
    pub async fn apply(
        &mut self,
        files: Vec<XdsFile>,
        clusters_between: Option<&XdsFile>,
        grace: Duration,
        envoy: &Handle,
    ) -> Result<Applied, ApplyError> {
        let plan = Steps::new(&self.held, &self.wanted, &files, clusters_between);
        let mut round =
            Round { before: look(envoy).await, refused: envoy.words.refused(), written: Vec::new() };
        let mut applied = Applied::default();
        let mut undo = Vec::new();
        for step in plan.steps {
            let stepped = self.step(&step, &mut undo, &mut round, envoy).await;
            match stepped {
                Ok(unconfirmed) => applied.unconfirmed.extend(unconfirmed),
                Err(error) => {
                    self.undo(undo, &step).await;
                    return Err(error);
                }
            }
        }
        applied.written = round.written.into_iter().map(|file| file.path).collect();
        self.wanted = files.into_iter().map(|file| file.path).collect();
        let Steps { clusters_at_last: clusters, unused, .. } = plan;
        let is_left = clusters.is_some() || !unused.is_empty();
        self.leftovers = is_left.then(|| Leftovers { due: Instant::now() + grace, clusters, unused });
        Ok(applied)
    }

    /// When [`clear`](Self::clear) has something to do.
    pub fn due(&self) -> Option<Instant> {
        self.leftovers.as_ref().map(|leftovers| leftovers.due)
    }

    /// Takes clusters and files away that nobody needs any more.
    pub async fn clear(&mut self, envoy: &Handle) -> Result<Applied, ApplyError> {
        let Some(Leftovers { clusters, unused, .. }) = self.leftovers.take() else {
            return Ok(Applied::default());
        };
        let mut round =
            Round { before: look(envoy).await, refused: envoy.words.refused(), written: Vec::new() };
        let mut applied = Applied::default();
        if let Some(clusters) = clusters {
            let (step, mut undo) = ([clusters], Vec::new());
            match self.step(&step, &mut undo, &mut round, envoy).await {
                Ok(unconfirmed) => applied.unconfirmed = unconfirmed,
                Err(error) => {
                    self.undo(undo, &step).await;
                    return Err(error);
                }
            }
        }
        for path in unused {
            let file = self.root.join(&path);
            match tokio::fs::remove_file(&file).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(file = %file.display(), %error, "cannot remove a file that nobody needs");
                }
                _ => {}
            }
            self.held.remove(&path);
        }
        applied.written = round.written.into_iter().map(|file| file.path).collect();
        Ok(applied)
    }

    /// Writes files and waits for what Envoy makes of them, and of those before them; tells those of which it says
    /// nothing.
    async fn step(
        &mut self,
        files: &[XdsFile],
        undo: &mut Vec<XdsFile>,
        round: &mut Round,
        envoy: &Handle,
    ) -> Result<Vec<String>, ApplyError> {
        for file in files {
            undo.extend(self.held.get(&file.path).cloned());
            if self.write(file).await? {
                round.written.push(file.clone());
            }
        }
        let unconfirmed = || files.iter().map(|file| file.path.clone()).collect();
        let Some(before) = &round.before else { return Ok(unconfirmed()) };
        let refused = timeout(PATIENCE, settled(before, &round.written, envoy)).await;
        match refused {
            Ok(refused) if refused.is_empty() => Ok(Vec::new()),
            Ok(refused) => Err(refusal(&refused, envoy, round.refused).await),
            Err(_) => Ok(unconfirmed()),
        }
    }

    /// Puts back what was there, the last first. Clusters that were taken may stay: nobody is asked to use them.
    async fn undo(&mut self, undo: Vec<XdsFile>, last: &[XdsFile]) {
        let is_last = |file: &XdsFile| last.iter().any(|last| last.path == file.path);
        for file in undo.into_iter().rev().filter(|file| file.kind != XdsKind::Clusters || is_last(file)) {
            if let Err(error) = self.write(&file).await {
                tracing::error!(%error, "cannot put a file back that served");
            }
        }
    }

    /// Writes a file if its text changes; tells whether it did.
    async fn write(&mut self, file: &XdsFile) -> Result<bool, ApplyError> {
        let (root, copy) = (self.root.clone(), file.clone());
        // A network file system may block for long.
        let wrote = tokio::task::spawn_blocking(move || write(&root, &copy)).await;
        let wrote = wrote.unwrap_or_else(|error| Err(io::Error::other(error)));
        let wrote = wrote.map_err(|error| ApplyError::Write(self.root.join(&file.path), error))?;
        self.held.insert(file.path.clone(), file.clone());
        Ok(wrote)
    }
}

/// One change of the folder.
struct Round {
    /// What Envoy watched when it began; `None` if it could not be asked.
    before: Option<Subscriptions>,
    /// How many files Envoy had refused when it began.
    refused: u64,
    written: Vec<XdsFile>,
}

async fn look(envoy: &Handle) -> Option<Subscriptions> {
    let page = envoy.admin.get(subscriptions::PAGE).await;
    page.map_err(|error| tracing::debug!(%error, "Envoy is not asked about files"))
        .ok()
        .as_deref()
        .map(Subscriptions::read)
}

/// Waits until Envoy has read all files and has everything in them ready; returns those that it refused.
async fn settled<'a>(before: &Subscriptions, files: &'a [XdsFile], envoy: &Handle) -> Vec<&'a XdsFile> {
    let mut ticks = interval(POLL);
    loop {
        ticks.tick().await;
        let Some(now) = look(envoy).await else { continue };
        let with =
            |fate: Fate| files.iter().filter(|file| now.fate(before, file) == fate).collect::<Vec<_>>();
        let refused = with(Fate::Refused);
        if !refused.is_empty() || (with(Fate::Unread).is_empty() && now.warming == 0) {
            return refused;
        }
    }
}

async fn refusal(files: &[&XdsFile], envoy: &Handle, since: u64) -> ApplyError {
    let mut ticks = interval(POLL);
    let heard = async {
        while envoy.words.refused() == since {
            ticks.tick().await;
        }
    };
    timeout(REASON_WITHIN, heard).await.ok();
    let mut reasons = envoy.words.refusals_since(since);
    for reason in &mut reasons {
        *reason = reason.chars().take(MAX_REASON).collect();
    }
    if reasons.is_empty() {
        reasons.push("it gave no reason".to_owned());
    }
    ApplyError::Refused { files: files.iter().map(|file| file.path.clone()).collect(), reasons }
}

/// Writes a file beside its place and renames it: Envoy looks at nothing else. Tells whether the text is another one.
fn write(root: &Path, file: &XdsFile) -> io::Result<bool> {
    let relative = Path::new(&file.path);
    let (Some(name), true) =
        (relative.file_name(), relative.components().all(|part| matches!(part, Component::Normal(_))))
    else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a path below the folder"));
    };
    // Certificates have keys, and routes may have those of providers.
    let mode = 0o600;
    let path = root.join(relative);
    if fs::read(&path).is_ok_and(|text| text == file.text.as_bytes()) {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(root);
    fs::create_dir_all(folder)?;
    let draft = folder.join(format!(".{}.new", name.display()));
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut written = options.write(true).create_new(true).mode(mode).open(&draft)?;
    written.write_all(file.text.as_bytes())?;
    written.sync_all()?;
    fs::rename(&draft, &path)?;
    Ok(true)
}

#[cfg(test)]
mod tests;
