//! `epp config`: what is thought of configurations, without a server. Entry point: [`run`].
//!
//! Reads the files, prints, and chooses the status: 0 is fine, 1 is what was asked about, 2 is that it cannot be told.
//! What it prints is made by the pure modules of [`config`](crate::config).

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use epp_framework::plugin::{PluginType, Release};

use crate::config::build::Composition;
use crate::config::document::{self, Found};
use crate::config::node::MAX_BYTES;
use crate::config::problem::{Problem, shown, shown_list};
use crate::config::releases::RELEASES;
use crate::config::report::{self, Finding, Tally};
use crate::config::{diff, effective, schema};
use crate::stdout;

/// Flags of `config`.
#[derive(Clone, Debug, Args)]
pub struct ConfigTool {
    /// What to do
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What `config` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Tell everything that is wrong with configurations; status 0 if they are fine, 1 if not, 2 if a file cannot be read
    Check(CheckArgs),
    /// Print the configuration that applies in effect: every default filled in, every injected plugin there
    Show(ShowArgs),
    /// Print a JSON Schema of the format, for editors
    Schema,
    /// Tell what changes in effect from one configuration to another; status 0 if nothing, 1 if something, 2 if it cannot be told
    Diff(DiffArgs),
}

const SOURCES: &str = "A file is an EndpointPickerConfig, or a Kubernetes manifest (ConfigMap) or Helm values that hold \
                       one or several, as text or as maps; - is standard input.";

/// Flags of `config check`.
#[derive(Clone, Debug, Args)]
#[command(after_help = SOURCES)]
pub struct CheckArgs {
    /// Files with configurations; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How to tell: as lines, or as an array of objects
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Count warnings as errors
    #[arg(long)]
    pub strict: bool,
    /// Also tell what these versions of the Go EPP would do with the files: v1.0.1, v1.5, llm-d; separated by
    /// commas, or repeated
    #[arg(long = "for", value_parser = version, value_delimiter = ',', value_name = "VERSION")]
    pub versions: Vec<Release>,
}

/// How checks and comparisons tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for people
    Text,
    /// JSON for programs
    Json,
}

/// Flags of `config show`.
#[derive(Clone, Debug, Args)]
#[command(after_help = SOURCES)]
pub struct ShowArgs {
    /// File with the configuration; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Key of the configuration, where the file holds several: KEY, OBJECT/KEY or "line N", as the error lists them
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
}

/// Flags of `config diff`.
#[derive(Clone, Debug, Args)]
#[command(after_help = SOURCES)]
pub struct DiffArgs {
    /// File with the configuration before
    #[arg(value_name = "A")]
    pub before: PathBuf,
    /// File with the configuration after
    #[arg(value_name = "B")]
    pub after: PathBuf,
    /// Key of the configuration, where a file holds several; given twice, the first is for A and the second for B
    #[arg(long, value_name = "KEY")]
    pub key: Vec<String>,
    /// How to tell: as lines, or as an object
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Everything is fine.
pub(super) const FINE: u8 = 0;
/// There are errors, or differences.
pub(super) const NOT_FINE: u8 = 1;
/// It cannot be told.
pub(super) const TROUBLE: u8 = 2;

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// The process's status.
    pub status: u8,
    /// What could not be done, for stderr.
    pub trouble: Vec<String>,
}

impl Ended {
    fn with(status: u8) -> Self {
        Self { status, trouble: Vec::new() }
    }

    /// Prints what is to be said; that it could not be written is what counts then.
    pub(super) fn having_said(text: &str, status: u8) -> Self {
        match stdout::print(text) {
            Ok(()) => Self::with(status),
            Err(error) => Self::in_trouble(format!("cannot write to standard output: {error}")),
        }
    }

    fn in_trouble(why: String) -> Self {
        Self { status: TROUBLE, trouble: vec![why] }
    }
}

/// Does what the command says, with these plugin types.
pub fn run(command: &ConfigCommand, types: &'static [PluginType]) -> Ended {
    match command {
        ConfigCommand::Check(args) => check(args, types),
        ConfigCommand::Show(args) => show(args, types),
        ConfigCommand::Schema => Ended::having_said(&format!("{:#}\n", schema::schema(types)), FINE),
        ConfigCommand::Diff(args) => compare(args, types),
    }
}

fn check(args: &CheckArgs, types: &'static [PluginType]) -> Ended {
    let (mut findings, mut tally, mut trouble) = (Vec::new(), Tally::default(), Vec::new());
    for path in &args.files {
        match read(path) {
            Ok((name, text)) => {
                findings.extend(report::check(&name, &text, &args.versions, types, &mut tally));
            }
            Err(why) => trouble.push((title(path), why)),
        }
    }
    let said = match args.format {
        Format::Json => report::json(&findings, &trouble),
        Format::Text if tally.files == 0 => String::new(),
        Format::Text => report::lines(&findings) + &report::summary(&tally),
    };
    let status = match tally {
        _ if !trouble.is_empty() => TROUBLE,
        Tally { errors: 1.., .. } => NOT_FINE,
        Tally { warnings: 1.., .. } if args.strict => NOT_FINE,
        _ => FINE,
    };
    let mut ended = Ended::having_said(&said, status);
    ended.trouble.extend(trouble.into_iter().map(|(_, why)| why));
    ended
}

fn show(args: &ShowArgs, types: &'static [PluginType]) -> Ended {
    match only(&args.file, args.key.as_deref(), true, types) {
        Ok((text, composition)) => Ended::having_said(&effective::of(&text, &composition), FINE),
        // What is on stdout may go straight into a file.
        Err(Failed::Refused(findings)) => {
            let trouble = report::lines(&findings).lines().map(str::to_owned).collect();
            Ended { status: NOT_FINE, trouble }
        }
        Err(Failed::Trouble(why)) => Ended::in_trouble(why),
    }
}

fn compare(args: &DiffArgs, types: &'static [PluginType]) -> Ended {
    let (mut sides, mut trouble) = (Vec::new(), Vec::new());
    if args.key.len() > 2 {
        return Ended::in_trouble("--key: expected one for both files, or one for each".to_owned());
    }
    for (path, key) in [(&args.before, args.key.first()), (&args.after, args.key.last())] {
        match only(path, key.map(String::as_str), false, types) {
            Ok((_, composition)) => sides.push(composition),
            Err(Failed::Refused(findings)) => {
                trouble.extend(report::lines(&findings).lines().map(str::to_owned));
            }
            Err(Failed::Trouble(why)) => trouble.push(why),
        }
    }
    let [before, after] = sides.as_slice() else { return Ended { status: TROUBLE, trouble } };
    let diff = diff::diff(before, after);
    let said = match args.format {
        Format::Json => diff.json(),
        Format::Text => diff.lines().into_iter().map(|line| line + "\n").collect(),
    };
    Ended::having_said(&said, if diff.is_empty() { FINE } else { NOT_FINE })
}

/// Why there is no configuration.
enum Failed {
    /// It has errors.
    Refused(Vec<Finding>),
    /// There is none, or it is not clear which.
    Trouble(String),
}

/// The one configuration of a file, or the one under `key`; that of the only one is `compared`, or does not matter.
fn only(
    path: &Path,
    key: Option<&str>,
    compared: bool,
    types: &'static [PluginType],
) -> Result<(String, Composition), Failed> {
    let (name, text) = read(path).map_err(Failed::Trouble)?;
    let finding = |problem: Problem| Finding { file: name.clone(), problem, release: None };
    let (all, problems) = document::find(&text);
    if !problems.is_empty() {
        return Err(Failed::Refused(problems.into_iter().map(finding).collect()));
    }
    let key = key.filter(|_| compared || all.len() > 1);
    let is_meant = |found: &Found| key.is_none_or(|key| found.names().iter().any(|name| name == key));
    let n_meant = all.iter().filter(|found| is_meant(found)).count();
    let Some(found) = all.iter().find(|found| is_meant(found)).filter(|_| n_meant == 1) else {
        let which = shown_list(own_names(&all).iter().map(String::as_str));
        let n_all = all.len();
        let why = match key.map(shown) {
            Some(key) if n_meant == 0 => {
                format!("{name}: no configuration has the key {key}: choose one of {which}")
            }
            Some(key) => {
                format!("{name}: {n_meant} configurations have the key {key}: choose one of {which}")
            }
            None => format!("{name}: it holds {n_all} configurations: choose one with --key: {which}"),
        };
        return Err(Failed::Trouble(why));
    };
    let (composition, problems) = report::load(found, types);
    let composition =
        composition.ok_or_else(|| Failed::Refused(problems.into_iter().map(finding).collect()))?;
    Ok((found.text(), composition))
}

/// The shortest name of each configuration that no other one has.
fn own_names(all: &[Found]) -> Vec<String> {
    let taken = |name: &String| all.iter().filter(|found| found.names().contains(name)).count();
    let own = |found: &Found| found.names().into_iter().find(|name| taken(name) == 1);
    all.iter().filter_map(own).collect()
}

/// What messages call a file.
pub(super) fn title(path: &Path) -> String {
    if path.as_os_str() == "-" { "<stdin>".to_owned() } else { path.display().to_string() }
}

/// The text of a file, and what messages call it.
pub(super) fn read(path: &Path) -> Result<(String, String), String> {
    let is_stdin = path.as_os_str() == "-";
    let name = title(path);
    let mut bytes = Vec::new();
    // One byte more than is taken: the loader tells what is too long.
    let most = MAX_BYTES as u64 + 1;
    let result = if is_stdin {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    result.map_err(|error| format!("cannot read {name}: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("cannot read {name}: it is not UTF-8, at byte {at}")
    })?;
    Ok((name, text))
}

fn version(name: &str) -> Result<Release, String> {
    let name = name.trim();
    let found = RELEASES.iter().find(|(known, _)| *known == name);
    let names = || shown_list(RELEASES.iter().map(|(name, _)| *name));
    found.map(|(_, release)| *release).ok_or_else(|| {
        let older = if name.starts_with("v0.") || name.starts_with("0.") {
            "a version before v1 has no `EndpointPickerConfig`, it is configured by environment variables; "
        } else {
            ""
        };
        format!("{older}expected one of {}", names())
    })
}
