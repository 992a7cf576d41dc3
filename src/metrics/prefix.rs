//! What prefix indices tell of themselves: [`PrefixMetrics`].

use prometheus::{Histogram, IntGauge, Registry};

use super::{histogram, register};

const PREFIX_RATIOS: &[f64] = &[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
const PREFIX_BYTES: &[f64] =
    &[0.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0];

/// What prefix indices tell.
pub(super) struct PrefixMetrics {
    pub(super) entries: IntGauge,
    pub(super) hit_ratio: Histogram,
    pub(super) hit_bytes: Histogram,
}

impl PrefixMetrics {
    /// Registers the families.
    pub(super) fn register(registry: &Registry) -> Self {
        let entries = IntGauge::new(
            "inference_extension_prefix_indexer_size",
            "Blocks in the prefix index, once per endpoint that holds them.",
        );
        Self {
            entries: register(registry, entries),
            hit_ratio: histogram(
                registry,
                "inference_extension_prefix_indexer_hit_ratio",
                "Share of a prompt's blocks that the picked endpoint holds.",
                PREFIX_RATIOS,
            ),
            hit_bytes: histogram(
                registry,
                "inference_extension_prefix_indexer_hit_bytes",
                "Bytes of a prompt that the picked endpoint holds.",
                PREFIX_BYTES,
            ),
        }
    }
}
