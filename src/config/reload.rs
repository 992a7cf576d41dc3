//! Where the configuration comes from, and its reload: watch the file, check, build, swap.
//!
//! A file with any error changes nothing: the pipeline before goes on, and every problem is logged with its place. An
//! empty file is an error, too, unless `epp` starts with it. A text that somebody hands over ([`Following::exchange`]) is
//! dealt with in the same way.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use epp_framework::plugin::PluginType;
use prometheus::Registry;
use tokio::signal::unix::Signal;

use super::DEFAULT_CONFIG;
use super::build::{self, Composition};
use super::node::{self, Value};
use super::problem::{Position, Problem, Severity};
use super::standing::{ConfigStanding, Standing};
use super::{EMPTY, effective};
use crate::args::ConfigArgs;
use crate::file_watch::FileWatch;
use crate::pipeline::Pipeline;
use crate::pool::PoolState;
use crate::scrape::LayerCheck;

/// The source of a configuration.
pub struct ConfigSource {
    name: String,
    text: String,
    watch: Option<FileWatch>,
    costs: Option<String>,
}

impl ConfigSource {
    /// Reads the file or text of the command line; with neither, the built-in default.
    pub fn open(args: &ConfigArgs, interval: Duration) -> anyhow::Result<Self> {
        if let Some(path) = &args.config_file {
            let mut watch = FileWatch::new(path, interval);
            let name = path.display().to_string();
            let text = watch.first_read().with_context(|| format!("cannot read --config-file {name}"))?;
            return Ok(Self { name, text, watch: Some(watch), costs: None });
        }
        let (name, text) = match &args.config_text {
            Some(text) => ("--config-text", text.as_str()),
            None => ("built-in default", args.built_in.as_deref().unwrap_or(DEFAULT_CONFIG)),
        };
        Ok(Self { name: name.to_owned(), text: text.to_owned(), watch: None, costs: None })
    }

    /// A text that is handed over, under the name that messages have; without one the built-in default.
    pub fn given(name: &str, text: Option<String>) -> Self {
        let text = text.unwrap_or_else(|| DEFAULT_CONFIG.to_owned());
        Self { name: name.to_owned(), text, watch: None, costs: None }
    }

    /// Gives `llm-request-costs` these parameters where the configuration does not declare it.
    #[must_use]
    pub fn with_costs(self, costs: Option<String>) -> Self {
        Self { costs, ..self }
    }

    /// Checks the configuration. Warnings are logged; with any error, all problems are in the error.
    pub fn first(&self, types: &'static [PluginType]) -> anyhow::Result<Composition> {
        let (composition, problems) = build::load_with_costs(&self.text, types, self.costs.as_deref());
        match composition {
            Some(composition) => {
                warn(&self.name, &problems);
                Ok(composition)
            }
            None => bail!("the configuration is refused:\n{}", lines(&self.name, &problems).join("\n")),
        }
    }

    /// How it stands with this configuration, once it is the first; `composition` is what it came to.
    pub fn standing(&self, registry: &Registry, composition: &Composition) -> anyhow::Result<ConfigStanding> {
        let effective = effective::of(&self.text, composition);
        let standing = ConfigStanding::new(registry, &self.name, &self.text, effective)?;
        let Standing { source, hash, generation, .. } = standing.now();
        tracing::info!(source, hash, generation, "configuration loaded");
        Ok(standing)
    }

    /// The file to watch, if there is one, and the costs.
    pub fn into_parts(self) -> (Option<FileWatch>, Option<String>) {
        (self.watch, self.costs)
    }
}

fn lines<'p>(name: &str, problems: impl IntoIterator<Item = &'p Problem>) -> Vec<String> {
    problems.into_iter().map(|problem| problem.in_file(name)).collect()
}

/// Logs the warnings among the problems.
fn warn(name: &str, problems: &[Problem]) {
    for problem in lines(name, problems.iter().filter(|problem| !problem.is_error())) {
        tracing::warn!(problem, "configuration");
    }
}

/// What a file came to that was followed.
struct Checked {
    composition: Composition,
    /// It as text.
    effective: String,
    warnings: Vec<Problem>,
}

/// Composes what a file shows that was followed, or tells everything that is to be said of it.
///
/// A file that shows nothing is one that is being written, or that was cut: it does not mean the built-in default.
fn check(text: &str, types: &'static [PluginType], costs: Option<&str>) -> Result<Checked, Vec<Problem>> {
    // Nothing is one value, too: `null`.
    if node::parse_up_to(1, text).is_ok_and(|root| root.value == Value::Null) {
        return Err(vec![Problem::error(Position::START, EMPTY)]);
    }
    match build::load_with_costs(text, types, costs) {
        (Some(composition), warnings) => {
            let effective = effective::of(text, &composition);
            Ok(Checked { composition, effective, warnings })
        }
        (None, problems) => Err(problems),
    }
}

/// Follows the file for ever. A hangup (SIGHUP) has it read at once.
pub async fn run(mut watch: FileWatch, mut hangup: Signal, following: Arc<Following>) -> anyhow::Result<()> {
    let name = watch.path().display().to_string();
    loop {
        let read = tokio::select! {
            read = watch.changed() => read,
            Some(()) = hangup.recv() => watch.read_now().await,
        };
        match read {
            Ok(text) => following.take(&name, text).await,
            Err(error) => {
                following.refuse(None, vec![(Severity::Error, format!("{name}: {error}"))]);
            }
        }
    }
}

/// Says, for ever, that there is nothing to read again.
pub async fn run_without_file(mut hangup: Signal) -> anyhow::Result<()> {
    while hangup.recv().await.is_some() {
        tracing::warn!("SIGHUP: there is no --config-file to read again");
    }
    std::future::pending().await
}

/// What follows the file.
pub struct Following {
    /// Whose pipeline is swapped.
    pub pool: Arc<PoolState>,
    /// The types that a configuration may name.
    pub types: &'static [PluginType],
    /// What knows whether its data layer can be polled.
    pub layers: LayerCheck,
    /// Where it is noted what runs.
    pub standing: Arc<ConfigStanding>,
    /// Parameters of `llm-request-costs`, where a configuration does not declare it.
    pub costs: Option<String>,
}

impl Following {
    async fn take(self: &Arc<Self>, name: &str, text: String) {
        let (following, owned) = (self.clone(), name.to_owned());
        // A long file takes its time, and the metrics port answers from this thread.
        let taken = tokio::task::spawn_blocking(move || following.exchange(&owned, &text)).await;
        if let Err(error) = taken {
            self.refuse(None, vec![(Severity::Error, format!("{name}: {error}"))]);
        }
    }

    /// Lets this text take over, which messages call `name`; or logs everything that is wrong with it, and returns that.
    pub fn exchange(&self, name: &str, text: &str) -> Result<(), Vec<String>> {
        if self.standing.unchanged(text) {
            tracing::info!(file = name, "configuration unchanged");
            return Ok(());
        }
        match check(text, self.types, self.costs.as_deref()) {
            Ok(checked) => self.swap(name, text, checked),
            Err(problems) => {
                let told = problems.iter().map(|problem| (problem.severity, problem.in_file(name)));
                Err(self.refuse(Some(text), told.collect()))
            }
        }
    }

    fn swap(&self, name: &str, text: &str, checked: Checked) -> Result<(), Vec<String>> {
        let before = self.pool.pipeline();
        let pipeline = Pipeline::build(&checked.composition, &self.pool.slots, Some(&before));
        if let Err(problem) = self.layers.check(&pipeline.data_layer, &before.data_layer) {
            return Err(self.refuse(Some(text), vec![(Severity::Error, format!("{name}: {problem}"))]));
        }
        warn(name, &checked.warnings);
        if pipeline.discovery != before.discovery {
            tracing::warn!(file = name, "dataLayer.discovery changed, which a restart is needed for");
        }
        self.pool.swap_pipeline(pipeline);
        let generation = self.standing.accepted(text, checked.effective);
        tracing::info!(file = name, generation, "configuration reloaded");
        Ok(())
    }

    fn refuse(&self, text: Option<&str>, told: Vec<(Severity, String)>) -> Vec<String> {
        for (severity, problem) in &told {
            if *severity == Severity::Error {
                tracing::error!(problem, "configuration refused; the one before goes on");
            } else {
                tracing::warn!(problem, "configuration refused; the one before goes on");
            }
        }
        let told: Vec<_> = told.into_iter().map(|(_, problem)| problem).collect();
        self.standing.refused(text, told.iter().cloned());
        told
    }
}
