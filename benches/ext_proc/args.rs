//! The command line, and with it the explanation of what is measured.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

const ABOUT: &str = "\
Measures the CPU time that epp takes per request, per chunk of a streamed answer, and when idle.

The yardstick is a trivial ext_proc server: the same gRPC library, allocator, runtime and connection settings, but it
reads no body, keeps no metrics and always names the same destination. A ratio is epp's CPU time divided by the
trivial server's, for the same work; 1.00 would mean that picking an endpoint is free. Ratios carry over to other
machines, microseconds do not.

Both servers, the stand-ins for model servers and the load client are processes of their own. The client speaks gRPC
over HTTP/2 in clear text as Envoy does in FULL_DUPLEX_STREAMED mode: few connections, a stream per request, the body in
messages of at most 16 KiB, then the answer's headers and chunks. Every answer is checked: the destination must be a
member of the pool, and every body must come back byte for byte. Anything else ends the run with an error.

The servers take turns (A B A B ...) under the same load; what is shown are medians of the rounds. CPU time is user and
system time of the server's process. The work of a request is: 13 request headers, the body, 8 response headers, and
the answer (one chunk of 600 bytes and an empty last one; or, in the rows per chunk, 200 chunks of 200 bytes).";

/// The yardstick.
#[derive(Parser)]
#[command(name = "ext_proc", about = "What epp costs beside a trivial ext_proc server", long_about = ABOUT)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) measure: MeasureArgs,
    /// What cargo says to every bench.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct MeasureArgs {
    /// Length of one run, in seconds; a row takes twice this per round
    #[arg(long, default_value_t = 2)]
    pub(crate) seconds: u32,
    /// Rounds per row
    #[arg(long, default_value_t = NonZeroU32::new(3).expect("it is 3"))]
    pub(crate) rounds: NonZeroU32,
    /// Connections of the load client
    #[arg(long, default_value_t = NonZeroU32::new(2).expect("it is 2"))]
    pub(crate) connections: NonZeroU32,
    /// Members of the pool
    #[arg(long, default_value_t = 100)]
    pub(crate) pods: u16,
    /// Only rows whose name holds one of these
    #[arg(long, value_delimiter = ',')]
    pub(crate) rows: Vec<String>,
    /// Another epp in place of the one that was built along
    #[arg(long, value_name = "FILE")]
    pub(crate) epp: Option<PathBuf>,
}

/// The other processes, and the other mode.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Full load on epp with disconnects, resets, refusals and reloads: memory must stay flat, counters return to zero
    Soak(SoakArgs),
    #[command(hide = true)]
    Trivial { destination: String },
    #[command(hide = true)]
    Pods {
        pods: u16,
        #[arg(long)]
        plain: bool,
    },
    #[command(hide = true)]
    Load(Plan),
    #[command(hide = true)]
    Turmoil(TurmoilPlan),
}

/// How long to soak.
#[derive(clap::Args)]
pub(crate) struct SoakArgs {
    /// Length in seconds
    #[arg(long, default_value_t = 600)]
    pub(crate) seconds: u32,
    /// Requests in flight, rounded up to a multiple of 16
    #[arg(long, default_value_t = 64)]
    pub(crate) in_flight: u32,
}

/// What a load client does.
#[derive(clap::Args, Clone)]
pub(crate) struct Plan {
    /// Where the server listens.
    #[arg(long)]
    pub(crate) address: SocketAddr,
    #[arg(long)]
    pub(crate) connections: u32,
    /// Streams at once.
    #[arg(long)]
    pub(crate) users: u32,
    /// Beats per second over all users, a beat being a request or, in streamed answers, a chunk; 0: no pause.
    #[arg(long)]
    pub(crate) rate: u32,
    #[arg(long)]
    pub(crate) seconds: u32,
    #[arg(long, value_enum)]
    pub(crate) shape: Shape,
    /// The members of the pool.
    #[arg(long, value_delimiter = ',')]
    pub(crate) destinations: Vec<String>,
}

/// What a load client in turmoil does.
#[derive(clap::Args)]
pub(crate) struct TurmoilPlan {
    #[arg(long)]
    pub(crate) address: SocketAddr,
    #[arg(long)]
    pub(crate) users: u32,
    #[arg(long)]
    pub(crate) seconds: u32,
    #[arg(long, value_delimiter = ',')]
    pub(crate) destinations: Vec<String>,
}

/// What a request is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// A chat of 500 bytes.
    Small,
    /// A chat of 4 KiB.
    Medium,
    /// A chat of 64 KiB.
    Long,
    /// A chat of 500 bytes whose answer streams.
    Streamed,
}

impl Shape {
    /// Length of the request's body, in bytes.
    pub(crate) fn body_bytes(self) -> usize {
        match self {
            Self::Small | Self::Streamed => 500,
            Self::Medium => 4 << 10,
            Self::Long => 64 << 10,
        }
    }

    /// Beats in one request.
    pub(crate) fn beats(self) -> usize {
        if self == Self::Streamed { 200 } else { 1 }
    }
}
