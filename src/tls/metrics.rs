//! TLS's own metrics: [`TlsMetrics::register`], a set per port.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// A port that speaks TLS.
#[derive(Clone, Copy, Debug)]
pub enum Port {
    /// That of ext_proc.
    ExtProc,
    /// That of metrics and debug pages.
    Metrics,
}

impl Port {
    /// What log lines call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExtProc => "ext_proc",
            Self::Metrics => "metrics",
        }
    }

    /// The names of reloads, handshakes, and the certificate's end.
    fn families(self) -> [&'static str; 3] {
        match self {
            Self::ExtProc => [
                "epp_tls_reload_total",
                "epp_tls_handshakes_total",
                "epp_tls_certificate_expiry_timestamp_seconds",
            ],
            Self::Metrics => [
                "epp_metrics_tls_reload_total",
                "epp_metrics_tls_handshakes_total",
                "epp_metrics_tls_certificate_expiry_timestamp_seconds",
            ],
        }
    }
}

/// Counters and the certificate's end; clones count together.
#[derive(Clone, Debug)]
pub struct TlsMetrics {
    /// Reloads that were followed.
    pub reloaded: IntCounter,
    /// Reloads that changed nothing, because something was wrong with a file.
    pub refused: IntCounter,
    /// When the certificate in use ends, in seconds since 1970.
    pub expiry: IntGauge,
    pub(super) ok: IntCounter,
    pub(super) failed: IntCounter,
    pub(super) timeout: IntCounter,
    pub(super) displaced: IntCounter,
    /// The port's name.
    pub(super) port: &'static str,
}

impl TlsMetrics {
    /// Registers the families of this port: reloads and handshakes by `result`, and when the certificate ends.
    ///
    /// Fails when one of them is registered already.
    pub fn register(registry: &Registry, port: Port) -> Result<Self, prometheus::Error> {
        let [reloads, handshakes, expiry] = port.families();
        let what = match port {
            Port::ExtProc => "",
            Port::Metrics => " of the metrics port",
        };
        let counter = |name, help: String| IntCounterVec::new(Opts::new(name, help), &["result"]);
        let reloads = counter(reloads, format!("Reloads of the certificate's files{what}, by result."))?;
        let handshakes = counter(handshakes, format!("TLS handshakes{what}, by result."))?;
        let help = format!("When the serving certificate{what} expires, in seconds since 1970.");
        let expiry = IntGauge::new(expiry, help)?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(handshakes.clone()))?;
        registry.register(Box::new(expiry.clone()))?;
        let of = |result| handshakes.with_label_values(&[result]);
        Ok(Self {
            reloaded: reloads.with_label_values(&["ok"]),
            refused: reloads.with_label_values(&["refused"]),
            expiry,
            ok: of("ok"),
            failed: of("failed"),
            timeout: of("timeout"),
            displaced: of("displaced"),
            port: port.name(),
        })
    }
}
