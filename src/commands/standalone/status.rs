//! `epp standalone status`: what a running `epp standalone` says of itself. Entry point: [`run`].

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::run::usual_folder;
use crate::commands::config::{Ended, FINE, Format, NOT_FINE, TROUBLE};
use crate::runtime::standalone::status::{FILE, Report};

/// Flags of `standalone status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Its folder [default: as that of `epp standalone`]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// How to tell: as lines, or as an object
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Prints it; status 1 if it does not serve what the manifests say, 2 if none runs.
pub(super) fn run(args: &StatusArgs) -> Ended {
    let folder = args.run_dir.clone().unwrap_or_else(usual_folder);
    let report = match Report::of_running(&folder) {
        Ok(report) => report,
        Err(why) => return Ended { status: TROUBLE, trouble: vec![why] },
    };
    let status = if report.refused.is_none() && report.is_ready { FINE } else { NOT_FINE };
    match args.format {
        Format::Text => Ended::having_said(&lines(&report, &folder), status),
        Format::Json => match serde_json::to_string_pretty(&report) {
            Ok(text) => Ended::having_said(&format!("{text}\n"), status),
            Err(error) => Ended { status: TROUBLE, trouble: vec![error.to_string()] },
        },
    }
}

fn lines(report: &Report, folder: &Path) -> String {
    let Report { pid, envoy, metrics, refused, listeners, routes, pools, .. } = report;
    let mut text = format!("epp     process {pid}, metrics at http://{metrics}/metrics\nenvoy   {envoy}\n");
    if let Some(refused) = refused {
        let _ = writeln!(text, "\nthe last change is refused, what was before goes on:\n{refused}");
    }
    let mut before = None;
    for listener in listeners {
        let scheme = if listener.tls { "https" } else { "http" };
        let full = format!("{}/{}", listener.gateway, listener.name);
        let _ = writeln!(text, "\nlistener {full}  {scheme}://{}", listener.address);
        for route in routes.iter().filter(|route| route.listener == full) {
            let host = Some((&full, &route.host)).map(|(full, host)| (full.clone(), host.clone()));
            if before != host {
                let _ = writeln!(text, "  host {}", route.host);
                before = host;
            }
            let _ = writeln!(text, "    {} -> {}", route.requests, route.answer);
        }
    }
    for pool in pools {
        let _ = writeln!(text, "\npool {}", pool.name);
        for endpoint in &pool.endpoints {
            let _ = writeln!(text, "  {endpoint}");
        }
        if pool.endpoints.is_empty() {
            text.push_str("  no members: give an --endpoints-file, or --simulate\n");
        }
    }
    let _ = writeln!(text, "\n({})", folder.join(FILE).display());
    text
}
