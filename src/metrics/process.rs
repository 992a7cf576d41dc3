//! Families that a process has once, however many pools it picks for: [`ProcessMetrics`].

use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};

use super::register;

/// The families of one process.
pub struct ProcessMetrics {
    registry: Registry,
    /// ext_proc streams that are open.
    pub streams: IntGauge,
}

impl ProcessMetrics {
    /// Registers them in a registry of its own.
    pub fn new() -> Self {
        let registry = Registry::new();
        register_info(&registry);
        let streams = register(&registry, IntGauge::new("epp_extproc_streams", "Open ext_proc streams."));
        Self { registry, streams }
    }

    /// The registry, for parts that bring families of their own.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

impl Default for ProcessMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A gauge that is 1 and says what was built.
fn register_info(registry: &Registry) {
    let opts = Opts::new("inference_extension_info", "What this was built from.");
    let info = register(registry, IntGaugeVec::new(opts, &["commit", "build_ref"]));
    info.with_label_values(&[env!("EPP_COMMIT"), env!("EPP_BUILD_REF")]).set(1);
}
