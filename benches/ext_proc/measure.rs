//! Servers in turns under the same loads, and the table of what they cost.

use std::time::Duration;

use anyhow::ensure;
use clap::ValueEnum;

use crate::args::{MeasureArgs, Shape};
use crate::load::Outcome;
use crate::process::{self, Epp, EppSetup, Process, say};

/// One line of the table.
struct Row {
    name: &'static str,
    shape: Shape,
    /// Streams at once.
    users: u32,
    /// Beats per second; 0: as many as the server can take.
    rate: u32,
}

const ROWS: &[Row] = &[
    Row { name: "small request", shape: Shape::Small, users: 64, rate: 6000 },
    Row { name: "medium request", shape: Shape::Medium, users: 64, rate: 5000 },
    Row { name: "long request", shape: Shape::Long, users: 64, rate: 1000 },
    Row { name: "streamed chunk", shape: Shape::Streamed, users: 100, rate: 20_000 },
    Row { name: "full load: small", shape: Shape::Small, users: 64, rate: 0 },
    Row { name: "full load: chunk", shape: Shape::Streamed, users: 64, rate: 0 },
];

/// Aim per request and per chunk: epp / trivial.
const RATIO_AIM: f64 = 2.0;

/// Aim when idle, in cores.
const IDLE_AIM: f64 = 0.15;

/// What one run showed.
struct Run {
    cpu_us_per_beat: f64,
    outcome: Outcome,
    beats_per_second: f64,
}

/// Measures and prints.
pub(crate) fn run(args: &MeasureArgs) -> anyhow::Result<()> {
    ensure!(args.seconds > 0 && args.pods > 0, "--seconds and --pods must be at least 1");
    let wanted =
        |name: &str| args.rows.is_empty() || args.rows.iter().any(|part| name.contains(part.as_str()));
    let rows: Vec<_> = ROWS.iter().filter(|row| wanted(row.name)).collect();
    if !rows.is_empty() {
        requests(args, &rows)?;
    }
    for (name, plain) in [("idle, filtered pages", false), ("idle, plain pages", true)] {
        if wanted(name) {
            idle(args, name, plain)?;
        }
    }
    Ok(())
}

/// The rows about requests.
fn requests(args: &MeasureArgs, rows: &[&Row]) -> anyhow::Result<()> {
    let pods = Process::start(&["pods", &args.pods.to_string()])?;
    let destinations = pods.addresses();
    let trivial = Process::start(&["trivial", &destinations[0]])?;
    let setup = EppSetup {
        binary: args.epp.as_deref(),
        endpoints: &destinations,
        // Scraping has rows of its own.
        scrape_interval: "1s",
    };
    let epp = Epp::start(&setup)?;
    epp.wait_until_fresh(destinations.len())?;
    say(&format!(
        "CPU time in microseconds, medians of {} rounds of {} s; {} pods, {} connections",
        args.rounds, args.seconds, args.pods, args.connections
    ));
    say("ratio = epp / trivial server; pick = from a request's first byte to its destination, p50 / p99\n");
    say(&format!(
        "{:<22}{:>10} {:>10}{:>8}{:>7}  {:>10}{:>16} {:>16}",
        "", "trivial", "epp", "ratio", "aim", "load", "pick, trivial", "pick, epp"
    ));
    let (trivial_address, epp_address) = (trivial.addresses().remove(0), epp.address());
    let servers = [(trivial.pid, trivial_address.as_str()), (epp.pid(), epp_address.as_str())];
    for row in rows {
        let mut runs = [Vec::new(), Vec::new()];
        for _ in 0..args.rounds.get() {
            for (runs, (pid, address)) in runs.iter_mut().zip(servers) {
                runs.push(load(args, row, pid, address, &destinations)?);
            }
        }
        print_row(row, &runs);
    }
    ensure!(epp.metric("inference_model_running_requests")? == 0.0, "requests still count as running");
    ensure!(epp.metric("epp_extproc_streams")? == 0.0, "streams still count as open");
    Ok(())
}

/// One run against one server.
fn load(args: &MeasureArgs, row: &Row, pid: u32, address: &str, pods: &[String]) -> anyhow::Result<Run> {
    let shape = row.shape.to_possible_value().expect("every shape can be asked for");
    let plan = [
        ("--address", address.to_owned()),
        ("--connections", args.connections.to_string()),
        ("--users", row.users.to_string()),
        ("--rate", row.rate.to_string()),
        ("--seconds", args.seconds.to_string()),
        ("--shape", shape.get_name().to_owned()),
        ("--destinations", pods.join(",")),
    ];
    let before = process::cpu_seconds(pid)?;
    let outcome: Outcome = serde_json::from_str(&process::run("load", &plan)?)?;
    let took = process::cpu_seconds(pid)? - before;
    ensure!(outcome.beats > 0, "no request came to its end");
    let beats = outcome.beats as f64;
    Ok(Run { cpu_us_per_beat: took * 1e6 / beats, beats_per_second: beats / outcome.wall_seconds, outcome })
}

fn print_row(row: &Row, [trivial, epp]: &[Vec<Run>; 2]) {
    let cpu = |runs: &[Run]| median(runs.iter().map(|run| run.cpu_us_per_beat));
    let (yardstick, ours) = (cpu(trivial), cpu(epp));
    let ratio = ours / yardstick;
    let pick = |runs: &[Run]| {
        let p50 = median(runs.iter().map(|run| run.outcome.p50_us as f64));
        let p99 = median(runs.iter().map(|run| run.outcome.p99_us as f64));
        format!("{:.2} / {:.2} ms", p50 / 1e3, p99 / 1e3)
    };
    let rate = median(epp.iter().map(|run| run.beats_per_second));
    say(&format!(
        "{:<22}{yardstick:>10.1} {ours:>10.1}{ratio:>8.2}{:>7}  {rate:>8.0}/s{:>16} {:>16}{}",
        row.name,
        format!("<= {RATIO_AIM:.0}"),
        pick(trivial),
        pick(epp),
        verdict(ratio <= RATIO_AIM)
    ));
}

/// What scraping alone costs.
fn idle(args: &MeasureArgs, name: &str, plain: bool) -> anyhow::Result<()> {
    let n = args.pods.to_string();
    let pods = if plain { Process::start(&["pods", &n, "--plain"])? } else { Process::start(&["pods", &n])? };
    let endpoints = pods.addresses();
    let setup = EppSetup { binary: args.epp.as_deref(), endpoints: &endpoints, scrape_interval: "50ms" };
    let epp = Epp::start(&setup)?;
    epp.wait_until_fresh(endpoints.len())?;
    std::thread::sleep(Duration::from_secs(1));
    let mut cores = Vec::new();
    let so_far = || epp.metric("epp_scrape_total");
    let (began, before_all) = (tokio::time::Instant::now(), so_far()?);
    for _ in 0..args.rounds.get() {
        let (before, began) = (process::cpu_seconds(epp.pid())?, tokio::time::Instant::now());
        std::thread::sleep(Duration::from_secs(args.seconds.into()));
        let took = process::cpu_seconds(epp.pid())? - before;
        cores.push(took / began.elapsed().as_secs_f64());
    }
    let scrapes = (so_far()? - before_all) / began.elapsed().as_secs_f64();
    ensure!(scrapes > f64::from(args.pods) * 10.0, "{scrapes:.0} scrapes a second: the pods cannot keep up");
    let cores = median(cores.into_iter());
    let aim = if plain { String::new() } else { format!("<= {IDLE_AIM}") };
    say(&format!(
        "{name:<22}{:>10} {cores:>5.3} core {aim:>14}  {scrapes:>8.0}/s {:>8.0} us per scrape, RSS {:.1} MiB{}",
        "",
        cores * 1e6 / scrapes,
        process::resident_bytes(epp.pid())? / process::MIB,
        verdict(plain || cores <= IDLE_AIM)
    ));
    Ok(())
}

fn verdict(reached: bool) -> &'static str {
    if reached { "" } else { "  over" }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
