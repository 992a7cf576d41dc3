//! TLS's own metrics: [`TlsMetrics::register`].

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

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
}

impl TlsMetrics {
    /// Registers `epp_tls_reload_total{result}`, `epp_tls_handshakes_total{result}` and
    /// `epp_tls_certificate_expiry_timestamp_seconds`.
    ///
    /// Fails when one of them is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let reloads = Opts::new("epp_tls_reload_total", "Reloads of the certificate's files, by result.");
        let reloads = IntCounterVec::new(reloads, &["result"])?;
        let handshakes = Opts::new("epp_tls_handshakes_total", "TLS handshakes, by result.");
        let handshakes = IntCounterVec::new(handshakes, &["result"])?;
        let expiry = IntGauge::new(
            "epp_tls_certificate_expiry_timestamp_seconds",
            "When the serving certificate expires, in seconds since 1970.",
        )?;
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
        })
    }
}
