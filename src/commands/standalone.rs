//! `epp standalone`: gateways of manifests, without a cluster. Entry points: [`run()`] for the subcommands, and
//! [`run::serve`] without one.
//!
//! Reads the files, prints, and chooses the status, as `epp config` does. What it prints is made by the pure modules of
//! [`standalone`].

pub mod render;
pub mod run;
mod status;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use epp_framework::plugin::PluginType;

use super::config::{Ended, FINE, Format, NOT_FINE, TROUBLE, read, title};
use crate::standalone::finding::{Findings, Level};
use crate::standalone::input::Source;
use crate::standalone::manifest::values;
use crate::standalone::{self, Checked, report};

/// Flags of `standalone`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, after_help = SOURCES)]
pub struct StandaloneTool {
    /// What to do; without it, the manifests are served
    #[command(subcommand)]
    pub command: Option<StandaloneCommand>,
    /// How they are served.
    #[command(flatten)]
    pub run: run::RunArgs,
}

/// What `standalone` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum StandaloneCommand {
    /// Tell what is wrong with manifests, and what gateways would do with them; status 0 if they can be served, 1 if not, 2 if a file cannot be read
    Check(CheckArgs),
    /// Print the configuration of an Envoy that does what gateways would do with manifests; what is to be told goes to stderr, and the status is that of `check`
    Render(Box<render::RenderArgs>),
    /// Show gateways, routes, pools and members of a running `epp standalone`
    Status(status::StatusArgs),
}

const SOURCES: &str = "A file is YAML or JSON, or a Markdown page with manifests in fenced blocks; of a folder its \
                       .yaml, .yml, .json and .md files are read; - is standard input.";

/// Which manifests are read, and how.
#[derive(Clone, Debug, Args)]
pub struct SourceArgs {
    /// Manifests of Gateway API, Envoy AI Gateway and the inference extension; may be repeated
    #[arg(short = 'f', long = "file", required = true, num_args = 1.., value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Namespace of objects that name none
    #[arg(long, default_value = "default", value_parser = namespace, value_name = "NAME")]
    pub namespace: String,
    /// Count warnings, and what is degraded, as errors
    #[arg(long)]
    pub strict: bool,
}

/// Flags of `standalone check`.
#[derive(Clone, Debug, Args)]
#[command(after_help = SOURCES)]
pub struct CheckArgs {
    /// The manifests.
    #[command(flatten)]
    pub sources: SourceArgs,
    /// How to tell: as lines, or as an object
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Also tell what each listener does with requests, in the order in which its entries count
    #[arg(long)]
    pub explain: bool,
}

fn namespace(text: &str) -> Result<String, String> {
    values::namespace(text).map(|()| text.to_owned()).map_err(|expected| format!("expected {expected}"))
}

/// Does what the command says, with these plugin types.
pub fn run(command: &StandaloneCommand, types: &'static [PluginType]) -> Ended {
    match command {
        StandaloneCommand::Check(args) => check(args, types),
        StandaloneCommand::Render(args) => render::run(args, types),
        StandaloneCommand::Status(args) => status::run(args),
    }
}

/// The manifests, read and checked.
fn checked(args: &SourceArgs, types: &'static [PluginType]) -> Result<(Vec<Source>, Checked), Ended> {
    let sources = sources(&args.files).map_err(|trouble| Ended { status: TROUBLE, trouble })?;
    let mut checked = standalone::check(&sources, &args.namespace, types);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed());
    checked.tell_expired(now);
    Ok((sources, checked))
}

/// What is in files and folders: all of it, for half of the manifests would mislead; or what cannot be read.
fn sources(paths: &[PathBuf]) -> Result<Vec<Source>, Vec<String>> {
    let (mut sources, mut trouble) = (Vec::new(), Vec::new());
    for path in paths {
        for file in files(path).unwrap_or_else(|why| {
            trouble.push(why);
            Vec::new()
        }) {
            match read(&file) {
                Ok((name, text)) => sources.push(Source { name, text }),
                Err(why) => trouble.push(why),
            }
        }
    }
    if trouble.is_empty() { Ok(sources) } else { Err(trouble) }
}

/// What findings make of the status.
fn status(findings: &Findings, is_strict: bool) -> u8 {
    let n = |level| findings.count(level);
    let is_fine = n(Level::Error) == 0 && !(is_strict && n(Level::Degraded) + n(Level::Warning) > 0);
    if is_fine { FINE } else { NOT_FINE }
}

fn check(args: &CheckArgs, types: &'static [PluginType]) -> Ended {
    let (sources, mut checked) = match checked(&args.sources, types) {
        Ok(checked) => checked,
        Err(ended) => return ended,
    };
    let said = match args.format {
        Format::Json => report::json(&mut checked.findings, &sources, &checked.topology, args.explain),
        Format::Text => {
            let mut said = report::lines(&mut checked.findings, &sources);
            for part in [
                report::conditions(&checked.topology),
                if args.explain { report::explanation(&checked.topology) } else { String::new() },
            ] {
                if !said.is_empty() && !part.is_empty() {
                    said.push('\n');
                }
                said += &part;
            }
            if !said.is_empty() {
                said.push('\n');
            }
            said + &report::summary(&checked.findings, checked.documents, sources.len())
        }
    };
    Ended::having_said(&said, status(&checked.findings, args.sources.strict))
}

/// The file, or those of a folder in the order of their names.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let cannot = |error: std::io::Error| format!("cannot read {}: {error}", title(path));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(cannot)? {
        let file = entry.map_err(cannot)?.path();
        let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if ["yaml", "yml", "json", "md"].contains(&ending) && file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(format!("cannot read {}: it has no .yaml, .yml, .json or .md files", title(path)));
    }
    files.sort();
    Ok(files)
}
