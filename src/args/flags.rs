//! Every flag of the versions that we replace: what it was called, and what becomes of it here. [`FLAGS`] is the table;
//! `docs/flags.md`, the syntax and the help read it. Flags of ours alone are declared in `args` only.

use super::duration;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As Go reads it: `true`, `T`, `1` …; no value means `true`.
    Bool,
    /// As Go reads it: decimal, `0x`, `0o`, `0b`, `_` between digits.
    Integer,
    /// As Go reads it: `1m30s`.
    Duration,
    /// One of these, in upper or lower case.
    Word(&'static [&'static str]),
    /// Anything.
    Text,
}

/// What becomes of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It works as it did.
    Same,
    /// It works, with this difference.
    Changed(&'static str),
    /// It is taken and does nothing, for this reason.
    Inert {
        /// The reason.
        why: &'static str,
        /// The value whose user is told so in the log.
        told: Option<&'static str>,
    },
}

/// One flag of the Go implementations.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its name today.
    pub name: &'static str,
    /// Its name in v0.5.1, where that differs.
    pub camel: Option<&'static str>,
    /// The variable that v0.5.1 read it from.
    pub env: Option<&'static str>,
    /// How its value is written.
    pub kind: Kind,
    /// Where it is from.
    pub versions: &'static str,
    /// What becomes of it.
    pub fate: Fate,
}

impl Kind {
    /// Reads a value, and writes it in the one form that the rest of the program knows; else says what was expected.
    pub fn normalize(self, value: &str) -> Result<String, String> {
        match self {
            Self::Bool => {
                boolean(value).map(|set| set.to_string()).ok_or("expected true or false".to_owned())
            }
            Self::Integer => {
                integer(value).map(|number| number.to_string()).ok_or("expected an integer".to_owned())
            }
            Self::Duration => duration::parse(value).map(|_| value.to_owned()),
            Self::Word(words) => {
                let known = words.iter().find(|word| word.eq_ignore_ascii_case(value));
                known
                    .map(|word| (*word).to_owned())
                    .ok_or_else(|| format!("expected one of {}", words.join(", ")))
            }
            Self::Text => Ok(value.to_owned()),
        }
    }
}

/// Reads a truth value as Go does.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Reads an integer as Go does with base 0: a prefix or a leading zero sets the base, and `_` may separate digits.
pub fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let misplaced = digits.ends_with('_') || digits.contains("__") || (base == 10 && digits.starts_with('_'));
    let digits = digits.replace('_', "");
    if misplaced || !digits.starts_with(|first: char| first.is_digit(base)) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), base).ok()
}

/// The row of a flag, by either of its names.
pub fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name || flag.camel == Some(name))
}

const OLD: &str = "v0.5.1 on";
const A: &str = "v1.0.1 on";
const B: &str = "v1.5 on";
const C: &str = "llm-d";

/// The flag that names the destination's header; it never got a name of later versions.
pub const HINT_KEY: &str = "destinationEndpointHintKey";

/// The flag that names the destination's namespace, which has its capital in v0.5.1.
pub const HINT_NAMESPACE: &str = "DestinationEndpointHintMetadataNamespace";

const METRIC: Fate = Fate::Same;

const fn flag(name: &'static str, kind: Kind, versions: &'static str, fate: Fate) -> Flag {
    Flag { name, camel: None, env: None, kind, versions, fate }
}

impl Flag {
    const fn camel(self, camel: &'static str) -> Self {
        Self { camel: Some(camel), ..self }
    }

    const fn env(self, env: &'static str) -> Self {
        Self { env: Some(env), ..self }
    }
}

/// The table.
pub const FLAGS: &[Flag] = &[
    flag("pool-name", Kind::Text, OLD, Fate::Same).camel("poolName").env("POOL_NAME"),
    flag("pool-namespace", Kind::Text, OLD, Fate::Changed("without it, NAMESPACE counts in every version"))
        .camel("poolNamespace")
        .env("POOL_NAMESPACE"),
    flag("pool-group", Kind::Text, A, Fate::Same),
    flag("kubeconfig", Kind::Text, OLD, Fate::Same),
    flag(
        "endpoint-selector",
        Kind::Text,
        B,
        Fate::Changed(
            "requirements of every kind; the pool is called like the Deployment of `POD_NAME` or `HOSTNAME`",
        ),
    ),
    flag("endpoint-target-ports", Kind::Text, B, Fate::Same),
    flag("grpc-port", Kind::Integer, OLD, Fate::Same).camel("grpcPort").env("GRPC_PORT"),
    flag("grpc-health-port", Kind::Integer, OLD, Fate::Same).camel("grpcHealthPort").env("GRPC_HEALTH_PORT"),
    flag("metrics-port", Kind::Integer, OLD, Fate::Same).camel("metricsPort"),
    flag("secure-serving", Kind::Bool, OLD, Fate::Same).camel("secureServing").env("SECURE_SERVING"),
    flag("health-checking", Kind::Bool, OLD, Fate::Same).camel("healthChecking"),
    flag("cert-path", Kind::Text, OLD, Fate::Same).camel("certPath"),
    flag("enable-cert-reload", Kind::Bool, B, Fate::Same),
    flag("tls-min-version", Kind::Text, C, Fate::Same),
    flag("tls-cipher-suites", Kind::Text, C, Fate::Same),
    flag(
        "metrics-endpoint-auth",
        Kind::Bool,
        B,
        Fate::Changed(
            "false by default where the endpoints come from a file; it does not hold for the debug pages",
        ),
    ),
    flag("metrics-cert-dir", Kind::Text, C, Fate::Changed("re-read when it changes")),
    flag("metrics-client-ca-file", Kind::Text, C, Fate::Same),
    flag("config-file", Kind::Text, OLD, Fate::Changed("re-read when it changes")).camel("configFile"),
    flag("config-text", Kind::Text, OLD, Fate::Same).camel("configText"),
    flag("refresh-metrics-interval", Kind::Duration, OLD, Fate::Changed("raised to 10ms if it is less"))
        .camel("refreshMetricsInterval")
        .env("REFRESH_METRICS_INTERVAL"),
    flag(
        "metrics-staleness-threshold",
        Kind::Duration,
        A,
        Fate::Changed("scheduling prefers endpoints whose last scrape is younger"),
    ),
    flag("total-queued-requests-metric", Kind::Text, OLD, METRIC).camel("totalQueuedRequestsMetric"),
    flag("kv-cache-usage-percentage-metric", Kind::Text, OLD, METRIC).camel("kvCacheUsagePercentageMetric"),
    flag("lora-info-metric", Kind::Text, OLD, METRIC).camel("loraInfoMetric"),
    flag("total-running-requests-metric", Kind::Text, B, METRIC),
    flag("cache-info-metric", Kind::Text, B, METRIC),
    flag("model-server-metrics-port", Kind::Integer, OLD, METRIC)
        .camel("modelServerMetricsPort")
        .env("MODEL_SERVER_METRICS_PORT"),
    flag("model-server-metrics-path", Kind::Text, OLD, METRIC)
        .camel("modelServerMetricsPath")
        .env("MODEL_SERVER_METRICS_PATH"),
    flag("model-server-metrics-scheme", Kind::Text, OLD, METRIC)
        .camel("modelServerMetricsScheme")
        .env("MODEL_SERVER_METRICS_SCHEME"),
    flag("model-server-metrics-https-insecure-skip-verify", Kind::Bool, OLD, METRIC)
        .camel("modelServerMetricsHttpsInsecureSkipVerify")
        .env("MODEL_SERVER_METRICS_HTTPS_INSECURE_SKIP_VERIFY"),
    flag("drain-timeout", Kind::Duration, C, Fate::Changed("120s unless said, instead of 30s")),
    flag(
        "grpc-max-recv-msg-size",
        Kind::Text,
        C,
        Fate::Changed("twice --max-body-bytes unless said, instead of 4MiB"),
    ),
    flag("grpc-max-send-msg-size", Kind::Text, C, Fate::Same),
    flag("disable-endpoint-subset-filter", Kind::Bool, B, Fate::Same),
    flag("emit-endpoint-scores", Kind::Bool, C, Fate::Same),
    flag("enable-grpc-stream-metrics", Kind::Bool, C, Fate::Same),
    flag(
        HINT_KEY,
        Kind::Text,
        "v0.5.1",
        Fate::Changed("checked at the start: a header's name in lower case that means nothing else"),
    )
    .env("DESTINATION_ENDPOINT_HINT_KEY"),
    flag(HINT_NAMESPACE, Kind::Text, "v0.5.1", Fate::Same).camel("destinationEndpointHintMetadataNamespace"),
    flag("v", Kind::Integer, OLD, Fate::Changed("what a level shows; see its help")),
    flag("zap-devel", Kind::Bool, OLD, Fate::Changed("chooses the default of --zap-encoder, nothing else")),
    flag("zap-encoder", Kind::Text, OLD, Fate::Same),
    flag("zap-log-level", Kind::Text, OLD, Fate::Changed("what a level shows; see the help of -v")),
    flag("zap-time-encoding", Kind::Text, OLD, Fate::Changed("unless said, RFC 3339 with milliseconds")),
    flag(
        "zap-stacktrace-level",
        Kind::Word(&["info", "error", "panic"]),
        OLD,
        Fate::Inert { why: "log lines carry no stack traces", told: None },
    ),
    flag(
        "refresh-prometheus-metrics-interval",
        Kind::Duration,
        OLD,
        Fate::Inert { why: "gauges are computed when they are scraped", told: None },
    )
    .camel("refreshPrometheusMetricsInterval"),
    flag(
        "enable-pprof",
        Kind::Bool,
        OLD,
        Fate::Inert {
            why: "pprof belongs to Go; look at /metrics and /debug/decisions, or use perf on the process",
            told: Some("true"),
        },
    )
    .camel("enablePprof"),
    flag(
        "tracing",
        Kind::Bool,
        B,
        Fate::Inert { why: "no spans are exported in this version; OTEL_* is not read", told: Some("true") },
    ),
    flag(
        "allow-experimental-plugins",
        Kind::Bool,
        C,
        Fate::Inert { why: "every built-in plugin may be used", told: None },
    ),
    flag(
        "ha-enable-leader-election",
        Kind::Bool,
        A,
        Fate::Changed("followers scrape as well; one that loses the lease is not ready, and does not exit"),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_go_reads_them() {
        for (text, want) in [
            ("4", Some(4)),
            ("-1", Some(-1)),
            ("+7", Some(7)),
            ("0", Some(0)),
            ("0x10", Some(16)),
            ("0X1f", Some(31)),
            ("0o17", Some(15)),
            ("017", Some(15)),
            ("0b101", Some(5)),
            ("0x_10", Some(16)),
            ("0_7", Some(7)),
            ("9_002", Some(9002)),
            ("9__002", None),
            ("_1", None),
            ("0x", None),
            ("0x1_", None),
            ("08", None),
            ("", None),
            ("-", None),
            ("--1", None),
            ("+-1", None),
            ("1.5", None),
            (" 1", None),
            ("99999999999999999999", None),
            ("-9223372036854775808", Some(i64::MIN)),
        ] {
            assert_eq!(integer(text), want, "{text:?}");
        }
    }

    #[test]
    fn truth_values_are_read_as_go_reads_them() {
        for (words, want) in [
            (&["1", "t", "T", "TRUE", "true", "True"][..], Some(true)),
            (&["0", "f", "F", "FALSE", "false", "False"][..], Some(false)),
            (&["", "yes", "tRUE", "2", "on"][..], None),
        ] {
            for word in words {
                assert_eq!(boolean(word), want, "{word:?}");
            }
        }
    }

    #[test]
    fn no_two_rows_share_a_name() {
        let mut names: Vec<_> =
            FLAGS.iter().flat_map(|flag| [Some(flag.name), flag.camel]).flatten().collect();
        names.sort_unstable();
        let n_names = names.len();
        names.dedup();
        assert_eq!(names.len(), n_names);
    }
}
