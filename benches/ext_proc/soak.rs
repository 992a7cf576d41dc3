//! `epp` at full load for minutes, in turmoil, with reloads: is its memory flat, and is everything given back?

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::time::Instant;

use crate::args::SoakArgs;
use crate::process::{self, Epp, EppSetup, MIB, Process, endpoints_yaml, say};

/// As many as a record of a decision tells of, so that the last one tells of all.
const PODS: usize = 16;

/// Growth over the last third that counts as flat: a share of all, or this much, whichever is more.
const FLAT_SHARE: f64 = 0.03;
const FLAT_BYTES: f64 = 4.0 * MIB;

/// Soaks and prints.
pub(crate) fn run(args: &SoakArgs) -> anyhow::Result<()> {
    ensure!(args.seconds >= 30, "--seconds must be at least 30");
    let pods = Process::start(&["pods", &PODS.to_string()])?;
    let endpoints = pods.addresses();
    let setup = EppSetup { binary: None, endpoints: &endpoints, scrape_interval: "50ms" };
    let epp = Epp::start(&setup)?;
    epp.wait_until_fresh(PODS)?;
    let plan = [
        ("--address", epp.address()),
        ("--users", args.in_flight.to_string()),
        ("--seconds", args.seconds.to_string()),
        ("--destinations", endpoints.join(",")),
    ];
    let client = std::thread::spawn(move || process::run("turmoil", &plan));
    let samples = watch(&epp, &endpoints, args.seconds, || client.is_finished())?;
    let counts = client.join().ok().context("the client's thread panicked")??;
    say(&format!("done, how often: {counts}"));
    for (family, result) in [
        ("epp_config_reload_total", "ok"),
        ("epp_config_reload_total", "refused"),
        ("epp_endpoints_reload_total", "ok"),
    ] {
        let n = epp.metric(&format!("{family}{{result=\"{result}\"}}"))?;
        say(&format!("{family} {result}: {n}"));
        ensure!(n > 0.0, "no reload was {result}: the files were edited all the while");
    }
    given_back(&epp, &endpoints)?;
    flat(&samples)
}

/// Samples the memory until the client ends, and edits both files all the while.
fn watch(
    epp: &Epp,
    endpoints: &[String],
    seconds: u32,
    ended: impl Fn() -> bool,
) -> anyhow::Result<Vec<f64>> {
    let every = Duration::from_secs((u64::from(seconds) / 12).clamp(1, 10));
    let began = Instant::now();
    let (mut samples, mut cpu) = (Vec::new(), process::cpu_seconds(epp.pid())?);
    let mut requests = 0.0;
    while !ended() {
        edit(epp, endpoints, samples.len())?;
        std::thread::sleep(every);
        let resident = process::resident_bytes(epp.pid())?;
        samples.push(resident);
        let (cpu_now, requests_now) =
            (process::cpu_seconds(epp.pid())?, epp.metric("inference_model_request_total")?);
        say(&format!(
            "{:>5} s  RSS {:>7.1} MiB  {:>6.0} requests/s  {:.2} cores  {:.0} streams open",
            began.elapsed().as_secs(),
            resident / MIB,
            (requests_now - requests) / every.as_secs_f64(),
            (cpu_now - cpu) / every.as_secs_f64(),
            epp.metric("epp_extproc_streams")?,
        ));
        (cpu, requests) = (cpu_now, requests_now);
    }
    Ok(samples)
}

/// A quarter of the pool leaves and comes back, weights change, and now and then an edit is bad.
fn edit(epp: &Epp, endpoints: &[String], n: usize) -> anyhow::Result<()> {
    let members = if n.is_multiple_of(2) { endpoints } else { &endpoints[..PODS * 3 / 4] };
    std::fs::write(epp.file("endpoints.yaml"), endpoints_yaml(members))?;
    let config = include_str!("../../config/default-plugins.yaml");
    let config = match n % 4 {
        1 => format!("{config}    weight: 3\n"),
        3 => format!("{config}nonsense: true\n"),
        _ => config.to_owned(),
    };
    Ok(std::fs::write(epp.file("config.yaml"), config)?)
}

/// Fails unless nothing is held once the load is over.
fn given_back(epp: &Epp, endpoints: &[String]) -> anyhow::Result<()> {
    std::fs::write(epp.file("endpoints.yaml"), endpoints_yaml(endpoints))?;
    let held = || -> anyhow::Result<f64> {
        Ok(epp.metric("epp_extproc_streams")? + epp.metric("inference_model_running_requests")?)
    };
    for _ in 0..100 {
        if held()? == 0.0 && epp.metric("inference_pool_ready_pods")? >= PODS as f64 {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    ensure!(held()? == 0.0, "streams or requests still count as open: {}", held()?);
    // What is reserved shows in the record of a decision.
    let probe = [
        ("--address", epp.address()),
        ("--connections", "1".to_owned()),
        ("--users", "1".to_owned()),
        ("--rate", "2".to_owned()),
        ("--seconds", "1".to_owned()),
        ("--shape", "small".to_owned()),
        ("--destinations", endpoints.join(",")),
    ];
    process::run("load", &probe)?;
    let page: serde_json::Value = serde_json::from_str(&epp.get("/debug/decisions?limit=1")?)?;
    let candidates = page["decisions"][0]["profiles"][0]["candidates"].as_array().context("no decision")?;
    ensure!(candidates.len() == PODS, "{} candidates, expected {PODS}", candidates.len());
    let reserved: u64 = candidates.iter().filter_map(|candidate| candidate["in_flight"].as_u64()).sum();
    ensure!(reserved == 0, "{reserved} requests are still reserved");
    say("open streams, running requests, reservations: 0");
    Ok(())
}

/// Fails unless the last third of the samples is flat; prints both slopes.
fn flat(samples: &[f64]) -> anyhow::Result<()> {
    let third = samples.len() / 3;
    ensure!(third >= 2, "too few samples");
    let growth = |samples: &[f64]| {
        let half = samples.len() / 2;
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        mean(&samples[samples.len() - half..]) - mean(&samples[..half])
    };
    let (middle, last) = (&samples[third..2 * third], &samples[samples.len() - third..]);
    say(&format!(
        "growth of RSS: {:+.1} MiB within the second third, {:+.1} MiB within the last, which ends at {:.1} MiB",
        growth(middle) / MIB,
        growth(last) / MIB,
        samples[samples.len() - 1] / MIB
    ));
    if growth(last) > FLAT_BYTES.max(FLAT_SHARE * samples[samples.len() - 1]) {
        bail!("memory is not flat");
    }
    Ok(())
}
