//! Serving over TLS: which certificate, which versions, which clients, and the sockets they come on.
//!
//! [`open`] reads what `--cert-path` and `--client-ca-file` name, or makes a self-signed certificate; [`open_metrics`]
//! does the like for the metrics port.
//! [`acceptor`] turns sockets into connections, also without TLS; [`reload`] follows the files. Connections that are
//! open keep the certificate they began with.

pub mod acceptor;
pub mod connection;
pub mod expiry;
pub mod material;
pub mod metrics;
pub mod reload;
pub mod versions;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use prometheus::Registry;
use tokio_rustls::rustls::ServerConfig;

use crate::args::TlsArgs;
use crate::file_watch::FilesWatch;
use crate::telemetry::time::TimeEncoding;
use crate::tls::material::{Material, Recipe};
use crate::tls::metrics::{Port, TlsMetrics};
use crate::tls::reload::Reload;
use crate::tls::versions::MinVersion;

/// What the next handshake uses; clones show the same.
#[derive(Clone)]
pub struct Tls {
    current: Arc<ArcSwap<ServerConfig>>,
    metrics: TlsMetrics,
}

/// Reads or makes the certificate, and with it the follower of its files; nothing if `ext_proc` is served in clear
/// text.
pub fn open(
    args: &TlsArgs,
    interval: Duration,
    registry: &Registry,
) -> anyhow::Result<Option<(Tls, Option<Reload>)>> {
    if !args.secure_serving {
        if args.client_ca_file.is_some() {
            bail!(
                "--client-ca-file asks clients for certificates, which needs TLS: expected --secure-serving"
            );
        }
        return Ok(None);
    }
    if matches!(args.tls_min_version, MinVersion::Tls10 | MinVersion::Tls11) {
        tracing::warn!("--tls-min-version: TLS 1.2 is the least that is spoken");
    }
    let recipe = Recipe::new(args).context("cannot make a self-signed certificate")?;
    let metrics = TlsMetrics::register(registry, Port::ExtProc)?;
    follow(recipe, args.enable_cert_reload.then_some(interval), metrics).map(Some)
}

/// The same for the metrics port, with the files of its own flags.
pub fn open_metrics(
    recipe: Recipe,
    reload: Option<Duration>,
    registry: &Registry,
) -> anyhow::Result<(Tls, Option<Reload>)> {
    let opened = follow(recipe, reload, TlsMetrics::register(registry, Port::Metrics)?);
    opened.context("the metrics port (--metrics-cert-dir, --metrics-client-ca-file)")
}

/// Builds what the recipe says, and the follower of its files if they are to be looked at again.
fn follow(
    recipe: Recipe,
    interval: Option<Duration>,
    metrics: TlsMetrics,
) -> anyhow::Result<(Tls, Option<Reload>)> {
    let mut watch = FilesWatch::new(recipe.files(), interval.unwrap_or_default());
    let texts = watch.first_read().context("cannot read what TLS needs")?;
    let material = recipe.build(&texts).context("cannot serve TLS")?;
    note(&material, &metrics);
    let tls = Tls { current: Arc::new(ArcSwap::new(material.config)), metrics };
    let follows = interval.is_some() && !recipe.files().is_empty();
    let reload = follows.then(|| Reload::new(recipe, watch, tls.clone()));
    Ok((tls, reload))
}

/// Shows when the certificate ends, and warns if that is past.
fn note(material: &Material, metrics: &TlsMetrics) {
    let port = metrics.port;
    let Some(expiry) = material.expiry else {
        tracing::warn!(port, "the certificate does not say when it expires");
        return;
    };
    metrics.expiry.set(expiry);
    let expires = u64::try_from(expiry).map(Duration::from_secs).unwrap_or_default();
    let expires = TimeEncoding::Rfc3339.write(expires);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if u64::try_from(expiry).is_ok_and(|expiry| now < expiry) {
        tracing::info!(port, expires, expires_unix_s = expiry, "certificate");
    } else {
        tracing::warn!(port, expires, expires_unix_s = expiry, "the certificate has expired");
    }
}

#[cfg(test)]
mod testing;
