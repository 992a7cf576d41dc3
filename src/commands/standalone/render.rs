//! `epp standalone render`: manifests → the configuration of an Envoy. Entry point: `run`.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use clap::Args;
use epp_framework::plugin::PluginType;

use super::{SOURCES, SourceArgs, checked, status};
use crate::commands::config::{Ended, FINE, TROUBLE};
use crate::standalone::render::{PortMap, Rendered, Settings, render};
use crate::standalone::report;
use crate::standalone::topology::Address;
use crate::standalone::xds::XdsFile;

/// Flags of `standalone render`.
#[derive(Clone, Debug, Args)]
#[command(after_help = SOURCES)]
pub struct RenderArgs {
    /// The manifests.
    #[command(flatten)]
    pub sources: SourceArgs,
    /// Where listeners listen
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub address: IpAddr,
    /// Ports of listeners and what they are here, as PORT=PORT or NAMESPACE/GATEWAY:PORT=PORT; below 1024 they are 8000 more unless named
    #[arg(long, value_delimiter = ',', value_name = "PORT=PORT")]
    pub port_map: Vec<String>,
    /// The picker of all pools: ext_proc without TLS; the authority of a call says the pool
    #[arg(long, default_value = "127.0.0.1:9002", value_name = "IP:PORT")]
    pub picker: SocketAddr,
    /// The picker also tells its health there; pools that fail open then serve requests with bodies without it, too
    #[arg(long)]
    pub picker_health: bool,
    /// What reads models, as `epp --model-extractor-port` does
    #[arg(long, default_value = "127.0.0.1:9005", value_name = "IP:PORT")]
    pub model_extractor: SocketAddr,
    /// Members of a pool, as NAMESPACE/POOL=HOST:PORT,…; may be repeated
    #[arg(long, value_name = "POOL=LIST")]
    pub pool_endpoints: Vec<String>,
    /// Where a Service or another host is here, as HOST:PORT=HOST:PORT,…; may be repeated
    #[arg(long, value_name = "HOST=LIST")]
    pub service_endpoints: Vec<String>,
    /// Envoy's own pages
    #[arg(long, default_value = "127.0.0.1:9901", value_name = "HOST:PORT")]
    pub admin: String,
    /// The file that is told of requests
    #[arg(long, default_value = "/dev/stdout", value_name = "FILE")]
    pub access_log: String,
    /// Let clients name objectives, fairness ids and latency objectives
    #[arg(long)]
    pub trust_client_headers: bool,
    /// Longest body that is held in one piece, in bytes
    #[arg(long, default_value_t = 50 << 20, value_name = "BYTES")]
    pub buffer_limit: u32,
    /// One configuration with everything in it; so it is unless --xds-dir is there
    #[arg(long = "static", conflicts_with = "xds_dir")]
    pub is_static: bool,
    /// Write what changes while Envoy runs into files of this folder; what is printed leads there
    #[arg(long, value_name = "DIR")]
    pub xds_dir: Option<PathBuf>,
    /// What Envoy finds that folder as, if it sees another file system
    #[arg(long, requires = "xds_dir", value_name = "DIR")]
    pub xds_path_prefix: Option<PathBuf>,
}

/// Does what the flags say, with these plugin types.
pub(super) fn run(args: &RenderArgs, types: &'static [PluginType]) -> Ended {
    let settings = match settings(args) {
        Ok(settings) => settings,
        Err(why) => return Ended { status: TROUBLE, trouble: vec![why] },
    };
    let (sources, mut checked) = match checked(&args.sources, types) {
        Ok(checked) => checked,
        Err(ended) => return ended,
    };
    let rendered = render(&checked.topology, &settings, &mut checked.findings);
    let status = status(&checked.findings, args.sources.strict);
    let mut trouble: Vec<_> =
        report::lines(&mut checked.findings, &sources).lines().map(str::to_owned).collect();
    if status != FINE {
        return Ended { status, trouble };
    }
    let text = match &args.xds_dir {
        None => rendered.bootstrap(),
        Some(folder) => match write_all(folder, &rendered) {
            Ok(()) => rendered.dynamic_bootstrap(),
            Err(why) => {
                trouble.push(why);
                return Ended { status: TROUBLE, trouble };
            }
        },
    };
    let mut ended = Ended::having_said(&text, status);
    trouble.append(&mut ended.trouble);
    Ended { trouble, ..ended }
}

fn settings(args: &RenderArgs) -> Result<Settings, String> {
    let mut settings = Settings {
        address: args.address,
        ports: PortMap::default(),
        picker: args.picker,
        picker_tells_health: args.picker_health,
        model_extractor: args.model_extractor,
        members: [].into(),
        service_hosts: [].into(),
        rate_limit: None,
        admin: address(&args.admin).map_err(|why| format!("--admin: {why}"))?,
        access_log: args.access_log.clone(),
        trust_client_headers: args.trust_client_headers,
        buffer_bytes: args.buffer_limit,
        folder: args.xds_path_prefix.clone().or_else(|| args.xds_dir.clone()).unwrap_or_default(),
        authorities: authorities(),
        created: args.sources.files.iter().filter_map(|path| changed(path)).max().unwrap_or_default(),
    };
    for text in &args.port_map {
        settings.ports.add(text).map_err(|why| format!("--port-map: {why}"))?;
    }
    for text in &args.pool_endpoints {
        let (pool, list) = list(text).map_err(|why| format!("--pool-endpoints: {why}"))?;
        let (namespace, name) = pool.split_once('/').unwrap_or((&args.sources.namespace, pool));
        settings.members.entry((namespace.to_owned(), name.to_owned())).or_default().extend(list);
    }
    for text in &args.service_endpoints {
        let (host, list) = list(text).map_err(|why| format!("--service-endpoints: {why}"))?;
        let Ok(Address::Host(host, port)) = address(host) else {
            return Err(format!("--service-endpoints: `{host}`: expected HOST:PORT"));
        };
        settings.service_hosts.entry((host, port)).or_default().extend(list);
    }
    Ok(settings)
}

fn list(text: &str) -> Result<(&str, Vec<Address>), String> {
    let (name, list) = text.split_once('=').ok_or_else(|| format!("`{text}`: expected NAME=HOST:PORT,…"))?;
    Ok((name, list.split(',').map(address).collect::<Result<_, _>>()?))
}

pub(super) fn address(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Address::Unix(path.to_owned()));
    }
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = parts.ok_or_else(|| format!("`{text}`: expected HOST:PORT or unix:PATH"))?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(Address::Host(bare.to_owned(), port))
}

/// Where systems keep the authorities that they trust.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Those of this system.
pub(super) fn authorities() -> PathBuf {
    AUTHORITIES
        .iter()
        .map(Path::new)
        .find(|path| path.exists())
        .unwrap_or(Path::new(AUTHORITIES[0]))
        .to_owned()
}

/// When a file was changed, in seconds since 1970: the same manifests yield the same configuration.
fn changed(path: &Path) -> Option<i64> {
    let changed = std::fs::metadata(path).ok()?.modified().ok()?;
    i64::try_from(changed.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

fn write_all(folder: &Path, rendered: &Rendered) -> Result<(), String> {
    for file in rendered.files() {
        let path = folder.join(&file.path);
        write(&path, &file).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Envoy sees a file only if it is moved to its place.
fn write(path: &Path, file: &XdsFile) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if std::fs::read(path).is_ok_and(|old| old == file.text.as_bytes()) {
        return Ok(());
    }
    let new = path.with_extension("yaml.new");
    std::fs::remove_file(&new).ok();
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    // Certificates have keys, and routes may have those of providers.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&new)?.write_all(file.text.as_bytes())?;
    std::fs::rename(&new, path)
}
