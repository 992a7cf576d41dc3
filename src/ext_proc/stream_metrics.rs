//! Metrics of the gRPC streams themselves: how many are open, how long they last, how they end.
//!
//! Entry point: [`StreamMetrics::register`], called only if they are wanted. A stream that ends before
//! its request was whole, or whose connection is lost, counts as canceled.

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};
use tokio::time::Instant;
use tonic::Code;

const DURATION_SECONDS: &[f64] =
    &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// The families; clones count together.
#[derive(Clone, Debug)]
pub struct StreamMetrics {
    in_flight: IntGauge,
    duration: Histogram,
    total: IntCounterVec,
}

impl StreamMetrics {
    /// Registers `llm_d_epp_extproc_streams_inflight`, `…_stream_duration_seconds` and `…_streams_total{code}`.
    ///
    /// Fails when one of them is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let in_flight = IntGauge::new("llm_d_epp_extproc_streams_inflight", "Open ext_proc streams.")?;
        let duration = HistogramOpts::new(
            "llm_d_epp_extproc_stream_duration_seconds",
            "Time from the beginning of an ext_proc stream to its end.",
        );
        let duration = Histogram::with_opts(duration.buckets(DURATION_SECONDS.to_vec()))?;
        let total =
            Opts::new("llm_d_epp_extproc_streams_total", "ext_proc streams that ended, by gRPC status.");
        let total = IntCounterVec::new(total, &["code"])?;
        registry.register(Box::new(in_flight.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(total.clone()))?;
        Ok(Self { in_flight, duration, total })
    }

    /// Observes a stream from now on until the value is dropped.
    pub(super) fn begin(&self) -> ObservedStream {
        self.in_flight.inc();
        ObservedStream { metrics: self.clone(), began: Instant::now(), code: Code::Cancelled }
    }
}

/// A stream that is being observed.
#[derive(Debug)]
pub(super) struct ObservedStream {
    metrics: StreamMetrics,
    began: Instant,
    code: Code,
}

impl ObservedStream {
    /// Says how the stream ends.
    pub(super) fn ends_with(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for ObservedStream {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        self.metrics.duration.observe(self.began.elapsed().as_secs_f64());
        self.metrics.total.with_label_values(&[name(self.code)]).inc();
    }
}

/// The status as Go's gRPC spells it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}
