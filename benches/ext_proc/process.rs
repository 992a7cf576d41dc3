//! The other processes: starting them, what they cost, what they tell.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::leash;

/// What `/proc/PID/stat` counts in, per second; the same on every Linux of note.
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) const MIB: f64 = 1024.0 * 1024.0;

/// What a child says once it is ready.
#[derive(Serialize, Deserialize)]
struct Ready {
    pid: u32,
    ports: Vec<u16>,
}

/// Prints a line.
#[expect(clippy::print_stdout, reason = "the report is the purpose")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Tells the parent that this process listens.
pub(crate) fn announce(ports: &[u16]) {
    let ready = Ready { pid: std::process::id(), ports: ports.to_vec() };
    say(&serde_json::to_string(&ready).expect("it is plain data"));
}

/// A child that dies with us.
pub(crate) struct Process {
    leash: Child,
    pub(crate) pid: u32,
    pub(crate) ports: Vec<u16>,
}

impl Process {
    /// Starts this binary in another role and waits until it listens.
    pub(crate) fn start(args: &[&str]) -> anyhow::Result<Self> {
        let mut leash = leash::command(std::env::current_exe()?).args(args).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(leash.stdout.take().context("it is piped")?).read_line(&mut line)?;
        let Ready { pid, ports } =
            serde_json::from_str(&line).with_context(|| format!("`{args:?}` did not start"))?;
        Ok(Self { leash, pid, ports })
    }

    /// The `ip:port`s.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.leash.stdin.take());
        self.leash.wait().ok();
    }
}

/// Runs this binary in another role, with these flags, to its end; returns the last line that it printed.
pub(crate) fn run(role: &str, flags: &[(&str, String)]) -> anyhow::Result<String> {
    let mut command = leash::command(std::env::current_exe()?);
    command.arg(role).stdout(Stdio::piped());
    for (flag, value) in flags {
        command.args([flag, value.as_str()]);
    }
    let mut child = command.spawn()?;
    // Waiting for a child closes its standard input first, which would end a leash.
    let _stdin = child.stdin.take();
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "`{role}` failed");
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().last().unwrap_or_default().to_owned())
}

/// How `epp` is started.
pub(crate) struct EppSetup<'a> {
    /// The binary, if not the one that was built along.
    pub(crate) binary: Option<&'a Path>,
    pub(crate) endpoints: &'a [String],
    pub(crate) scrape_interval: &'a str,
}

/// A running `epp`.
pub(crate) struct Epp {
    process: Process,
    folder: TempDir,
}

impl Epp {
    /// Starts it and waits until it listens.
    pub(crate) fn start(setup: &EppSetup<'_>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("endpoints.yaml"), endpoints_yaml(setup.endpoints))?;
        std::fs::write(path("config.yaml"), include_str!("../../config/default-plugins.yaml"))?;
        let log = std::fs::File::create(path("log"))?;
        let built = Path::new(env!("CARGO_BIN_EXE_epp"));
        let leash = leash::command(setup.binary.unwrap_or(built))
            .args(["--pool-name", "bench", "--secure-serving=false", "--zap-encoder", "json"])
            .args(["--grpc-port", "0", "--grpc-health-port", "0", "--metrics-port", "0"])
            .args(["--refresh-metrics-interval", setup.scrape_interval])
            .arg("--config-file")
            .arg(path("config.yaml"))
            .arg("--endpoints-file")
            .arg(path("endpoints.yaml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut process = Process { leash, pid: 0, ports: Vec::new() };
        for _ in 0..200 {
            std::thread::sleep(Duration::from_millis(50));
            let log = std::fs::read_to_string(path("log"))?;
            let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
            let mut serving = lines.filter(|line: &serde_json::Value| line["msg"] == "serving");
            if let Some(line) = serving.next() {
                process.pid = u32::try_from(line["pid"].as_u64().context("no pid")?)?;
                process.ports = vec![port(&line["ext_proc"])?, port(&line["metrics"])?];
                return Ok(Self { process, folder });
            }
            ensure!(process.leash.try_wait()?.is_none(), "epp did not start: {log}");
        }
        bail!("epp did not start in time")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Where it serves `ext_proc`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.process.ports[0])
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// GET on its metrics port.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<String> {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.process.ports[1]))?;
        write!(connection, "GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer on the metrics port")?;
        ensure!(head.contains(" 200 "), "{path}: {head}");
        Ok(body.to_owned())
    }

    /// The sum of the series of a family on its metrics page.
    pub(crate) fn metric(&self, family: &str) -> anyhow::Result<f64> {
        let page = self.get("/metrics")?;
        let series = page
            .lines()
            .filter(|line| line.strip_prefix(family).is_some_and(|rest| rest.starts_with([' ', '{'])));
        series
            .map(|line| Ok(line.rsplit(' ').next().unwrap_or_default().parse::<f64>()?))
            .try_fold(0.0, |sum, value: anyhow::Result<f64>| Ok(sum + value?))
    }

    /// Waits until this many endpoints are fresh.
    pub(crate) fn wait_until_fresh(&self, endpoints: usize) -> anyhow::Result<()> {
        for _ in 0..200 {
            if self.metric("inference_pool_ready_pods")? >= endpoints as f64 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("not every endpoint was scraped in time")
    }
}

/// An endpoints file with these members.
pub(crate) fn endpoints_yaml(addresses: &[String]) -> String {
    let entry = |(n, address): (usize, &String)| {
        let (ip, port) = address.split_once(':').expect("we wrote it");
        format!("- {{name: pod-{n}, address: {ip}, port: {port}}}\n")
    };
    let entries: String = addresses.iter().enumerate().map(entry).collect();
    format!("endpoints:\n{entries}")
}

fn port(address: &serde_json::Value) -> anyhow::Result<u16> {
    let (_, port) = address.as_str().and_then(|text| text.rsplit_once(':')).context("no port")?;
    Ok(port.parse()?)
}

/// CPU time that a process has taken, user and system.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let times: Vec<u32> = fields.split(' ').skip(12).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(f64::from(times.iter().sum::<u32>()) / TICKS_PER_SECOND)
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}
