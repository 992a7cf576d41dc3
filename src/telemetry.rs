//! Log lines: on stderr, JSON or for people, as much as `-v` asks for, which can be changed at run time.
//!
//! [`start`] is the entry point. Libraries are heard from warnings up only, from errors up if that is all we say: what
//! they print at lower levels may hold bytes of requests.

mod lines;
pub mod time;
pub mod verbosity;

use std::sync::OnceLock;

use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::LoggingArgs;
use lines::Lines;
use verbosity::Verbosity;

/// The crates that the verbosity is about.
const OURS: [&str; 3] = ["epp", "epp_plugins", "epp_framework"];

/// It logs each failed request as an error; whoever asked says once what that means.
const SILENT: &str = "kube_client";

/// What changes the level; the subscriber, too, is one for the process.
static CONTROL: OnceLock<Control> = OnceLock::new();

struct Control {
    handle: reload::Handle<Targets, Registry>,
    current: Mutex<Verbosity>,
}

/// Starts logging for the process. Where something else already logs, nothing changes.
pub fn start(args: &LoggingArgs) {
    let verbosity = args.verbosity();
    let (filter, handle) = reload::Layer::new(targets(verbosity));
    let lines = Lines { encoder: args.encoder(), time: args.zap_time_encoding.unwrap_or_default() };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).event_format(lines);
    if tracing_subscriber::registry().with(lines.with_filter(filter)).try_init().is_err() {
        return;
    }
    let _ = CONTROL.set(Control { handle, current: Mutex::new(verbosity) });
    // The message of a panic may quote what was being read; its place says enough.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "a bug: the program panicked");
    }));
}

fn targets(verbosity: Verbosity) -> Targets {
    let ours = OURS.map(|target| (target, verbosity.filter()));
    let libraries = verbosity.filter().min(LevelFilter::WARN);
    Targets::new().with_default(libraries).with_targets(ours).with_target(SILENT, LevelFilter::OFF)
}

/// How much is logged; `None` where logging was not started.
pub fn verbosity() -> Option<Verbosity> {
    CONTROL.get().map(|control| *control.current.lock())
}

/// Changes how much is logged. Says whether that could be done.
pub fn set_verbosity(verbosity: Verbosity) -> bool {
    let Some(control) = CONTROL.get() else { return false };
    let mut current = control.current.lock();
    let changed = control.handle.reload(targets(verbosity)).is_ok();
    if changed {
        *current = verbosity;
    }
    changed
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn libraries_are_heard_from_warnings_up_and_never_below_ourselves() {
        for (word, ours, libraries) in [
            ("error", Level::ERROR, Level::ERROR),
            ("warn", Level::WARN, Level::WARN),
            ("info", Level::INFO, Level::WARN),
            ("debug", Level::DEBUG, Level::WARN),
            ("trace", Level::TRACE, Level::WARN),
        ] {
            let targets = targets(Verbosity::parse(word).unwrap());
            for level in [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE] {
                assert_eq!(targets.would_enable("epp::scrape", &level), level <= ours, "{word} {level}");
                assert_eq!(targets.would_enable("h2::codec", &level), level <= libraries, "{word} {level}");
            }
        }
    }
}
