//! Log lines: on stderr, JSON or for people, at the verbosity that `--v` asks for.
//!
//! Only our own packages are heard below a warning: what libraries print at lower levels may hold bytes of requests.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::Encoder;

/// Starts logging for the process. A second call changes nothing.
pub fn start(verbosity: u8, encoder: Encoder) {
    let level = match verbosity {
        0 | 1 => LevelFilter::WARN,
        2 | 3 => LevelFilter::INFO,
        4 => LevelFilter::DEBUG,
        5.. => LevelFilter::TRACE,
    };
    let ours = ["epp", "epp_plugins", "epp_framework"].map(|target| (target, level));
    let filter = Targets::new().with_default(LevelFilter::WARN).with_targets(ours);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match encoder {
        Encoder::Json => lines.json().flatten_event(true).boxed(),
        Encoder::Console => lines.with_ansi(false).boxed(),
    };
    // The message of a panic may quote what was being read; its place says enough.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "a bug: the program panicked");
    }));
    // Tests start several servers in one process; the first one's choice stands.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
}
