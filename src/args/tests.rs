//! Every flag of the specification, the seeds' command lines, help, and `docs/flags.md`.

use clap::CommandFactory;

use super::flags::{FLAGS, Fate, Flag, Kind};
use super::read::{Ending, declared, read};
use super::*;

fn with_env(line: &[&str], env: &[(&str, &str)]) -> Result<ServeArgs, Ending> {
    let words = line.iter().map(|word| (*word).to_owned()).collect();
    let find =
        |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    read(words, &find).map(|args| args.serve)
}

/// With a pool's name, and no variables.
fn with(line: &[&str]) -> Result<ServeArgs, Ending> {
    with_env(&[&["--pool-name=p"], line].concat(), &[])
}

#[track_caller]
fn refusal(ending: Result<ServeArgs, Ending>) -> String {
    match ending {
        Err(Ending::Refused(lines)) => lines.join("\n"),
        Err(Ending::Usage(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The flags of the functional specification, tables 1.1 and 1.2, and of the one of v0.5.1, table 2.1.
const SPECIFIED: &str = "grpc-port grpc-health-port metrics-port enable-pprof pool-name pool-group pool-namespace v \
    secure-serving health-checking cert-path total-queued-requests-metric kv-cache-usage-percentage-metric \
    lora-info-metric refresh-metrics-interval refresh-prometheus-metrics-interval metrics-staleness-threshold \
    config-file config-text model-server-metrics-port model-server-metrics-path model-server-metrics-scheme \
    model-server-metrics-https-insecure-skip-verify ha-enable-leader-election zap-devel zap-encoder zap-log-level \
    zap-stacktrace-level zap-time-encoding kubeconfig \
    endpoint-selector endpoint-target-ports disable-endpoint-subset-filter total-running-requests-metric \
    cache-info-metric tracing enable-cert-reload metrics-endpoint-auth metrics-cert-dir metrics-client-ca-file \
    drain-timeout grpc-max-recv-msg-size grpc-max-send-msg-size emit-endpoint-scores tls-min-version \
    tls-cipher-suites enable-grpc-stream-metrics allow-experimental-plugins \
    grpcPort grpcHealthPort metricsPort enablePprof destinationEndpointHintKey \
    DestinationEndpointHintMetadataNamespace destinationEndpointHintMetadataNamespace poolName poolNamespace \
    refreshMetricsInterval refreshPrometheusMetricsInterval secureServing healthChecking certPath \
    totalQueuedRequestsMetric kvCacheUsagePercentageMetric loraInfoMetric configFile configText \
    modelServerMetricsPort modelServerMetricsPath modelServerMetricsScheme modelServerMetricsHttpsInsecureSkipVerify";

/// A value that the flag takes and that is not the one which is taken silently.
fn example(flag: &Flag) -> &'static str {
    match (flag.name, flag.kind) {
        ("pool-group", _) => "inference.networking.x-k8s.io",
        ("grpc-max-recv-msg-size" | "grpc-max-send-msg-size", _) => "10MiB",
        ("model-server-metrics-scheme", _) => "https",
        ("endpoint-target-ports", _) => "8000",
        ("tls-min-version", _) => "VersionTLS13",
        ("tls-cipher-suites", _) => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        ("zap-encoder", _) => "json",
        ("zap-log-level", _) => "debug",
        ("zap-time-encoding", _) => "epoch",
        (_, Kind::Bool) => "true",
        (_, Kind::Integer) => "3",
        (_, Kind::Duration) => "1m30s",
        (_, Kind::Word(words)) => words[0],
        (_, Kind::Text) => "x",
    }
}

#[test]
fn every_flag_of_every_version_is_taken() {
    for name in SPECIFIED.split_whitespace() {
        let flag = flags::find(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        let value = example(flag);
        let word = format!("--{name}={value}");
        let beside = match flag.name {
            "pool-name" => &[][..],
            "endpoint-selector" => &["--endpoint-target-ports=8000"],
            "endpoint-target-ports" => &["--endpoint-selector=x"],
            _ => &["--pool-name=p"],
        };
        let words = [beside, &[word.as_str()]].concat();
        let ending = with_env(&words, &[]);
        match flag.fate {
            Fate::Inert { why, told } => {
                let told = told == Some(value);
                let notes = ending.unwrap_or_else(|ending| panic!("{name}: {ending:?}")).notes;
                assert_eq!(notes.iter().any(|note| note.contains(why)), told, "{name}: {notes:?}");
            }
            Fate::Same | Fate::Changed(_) => {
                assert!(ending.is_ok(), "{name}: {ending:?}");
            }
        }
    }
}

#[test]
fn the_table_and_the_declarations_agree() {
    let command = Args::command();
    for flag in FLAGS {
        assert!(SPECIFIED.split_whitespace().any(|name| name == flag.name), "{} is specified", flag.name);
        let declared = declared(&command).find(|(name, _)| *name == flag.name);
        let takes_part = matches!(flag.fate, Fate::Same | Fate::Changed(_));
        assert_eq!(declared.is_some(), takes_part, "{}", flag.name);
        if let Some((name, arg)) = declared {
            let number_or_switch = |kind| matches!(kind, Kind::Bool | Kind::Integer);
            let same = read::kind(arg) == flag.kind || !number_or_switch(flag.kind);
            assert!(same, "{name} is declared as what the table says");
        }
    }
}

/// The first guide's Deployment.
#[test]
fn the_seeds_arguments_of_v1_0_1_are_taken_as_printed() {
    let line = "--pool-name mistral --pool-namespace default --v 4 --zap-encoder json --grpc-port 9002 \
                --grpc-health-port 9003 --config-file /config/default-plugins.yaml";
    let args = with_env(&line.split_whitespace().collect::<Vec<_>>(), &[]).unwrap();
    assert_eq!((args.pool.pool_name.as_str(), args.pool.pool_group.as_str()), ("mistral", POOL_GROUP));
    assert_eq!((args.logging.verbosity(), args.logging.encoder()), (Verbosity::of_v(4), Encoder::Json));
    assert!(args.tls.secure_serving && !args.legacy && args.notes.is_empty(), "{:?}", args.notes);
}

const POOL_GROUP: &str = "inference.networking.k8s.io";

/// The Deployment of the v0.5.1 manifests, which the other guides apply: both kinds of dashes, camelCase.
#[test]
fn the_seeds_arguments_of_v0_5_1_are_taken_as_printed() {
    let line = "-poolName vllm-llama3-8b-instruct -poolNamespace default -v 4 --zap-encoder json -grpcPort 9002 \
                -grpcHealthPort 9003 -configFile /config/default-plugins.yaml";
    let args = with_env(&line.split_whitespace().collect::<Vec<_>>(), &[]).unwrap();
    assert_eq!(args.pool.pool_name, "vllm-llama3-8b-instruct");
    assert_eq!(args.pool.pool_group, "inference.networking.x-k8s.io");
    assert_eq!((args.listeners.grpc_port, args.listeners.grpc_health_port), (9002, 9003));
    assert_eq!(args.logging.verbosity().v(), 4);
    assert!(args.legacy && args.config.built_in.is_none());
    assert_eq!(args.notes.len(), 1, "one line of deprecation: {:?}", args.notes);
    let renamed = ["--pool-name for -poolName", "--grpc-port for -grpcPort", "--config-file for -configFile"];
    assert!(renamed.iter().all(|pair| args.notes[0].contains(pair)), "{:?}", args.notes);
}

#[test]
fn the_namespace_is_the_flags_or_the_variables_or_default() {
    for (line, env, want) in [
        (&["--pool-namespace", "a"][..], &[("NAMESPACE", "b")][..], "a"),
        (&["--pool-namespace", ""], &[("NAMESPACE", "b")], "b"),
        (&[], &[("NAMESPACE", "b")], "b"),
        (&[], &[("NAMESPACE", "")], "default"),
        (&[], &[], "default"),
        (&[], &[("POOL_NAMESPACE", "c")], "default"),
        (&["-grpcPort=1"], &[("POOL_NAMESPACE", "c"), ("NAMESPACE", "b")], "c"),
    ] {
        let args = with_env(&[&["--pool-name=p"], line].concat(), env).unwrap();
        assert_eq!(args.pool.pool_namespace, want, "{line:?} {env:?}");
    }
}

#[test]
fn variables_of_v0_5_1_count_below_its_flags_and_not_without_them() {
    let env = [
        ("POOL_NAME", "from-env"),
        ("GRPC_PORT", "0x10"),
        ("GRPC_HEALTH_PORT", "many"),
        ("REFRESH_METRICS_INTERVAL", "1s"),
        ("SECURE_SERVING", "f"),
    ];
    let args = with_env(&["-grpcPort", "7"], &env).unwrap();
    assert_eq!((args.pool.pool_name.as_str(), args.listeners.grpc_port), ("from-env", 7));
    assert_eq!((args.listeners.grpc_health_port, args.tls.secure_serving), (9003, false));
    assert_eq!(args.scraping.refresh_metrics_interval, Duration::from_secs(1));
    assert!(args.notes.iter().any(|note| note.contains("GRPC_HEALTH_PORT") && note.contains("`many`")));
    assert_eq!(with_env(&["-metricsPort=1"], &env).unwrap().listeners.grpc_port, 16);
    let args = with_env(&["--pool-name=p"], &env).unwrap();
    assert_eq!((args.listeners.grpc_port, args.tls.secure_serving), (9002, true));
    assert!(refusal(with_env(&["--v=2"], &env)).contains("poolName"));
    // What a parser of ours refuses is ignored, too.
    assert_eq!(with_env(&["-v=2", "-poolName=p"], &[("GRPC_PORT", "99999")]).unwrap().notes.len(), 2);
}

#[test]
fn what_cannot_be_is_refused_with_every_reason() {
    let line = ["--pool-group=x", "--config-file=a", "--config-text=b", "--endpoint-target-ports=8000"];
    let said = refusal(with_env(&line, &[]));
    for reason in [
        "required \"poolName\" flag not set (-poolName or --pool-name)",
        "unknown group `x`",
        "both the \"config-text\" and \"config-file\" flags can not be set at the same time: set only one of them",
        "--endpoint-target-ports is for --endpoint-selector",
    ] {
        assert!(said.contains(reason), "{reason}\n{said}");
    }
    let mixed = refusal(with(&["-configFile=a", "--config-text=b"]));
    assert!(mixed.contains("both the \"configText\" and \"configFile\" flags"), "{mixed}");
    assert!(with(&["--config-file=a", "--config-text", ""]).is_ok(), "an empty text is none");
}

#[test]
fn the_destination_is_told_as_v0_5_1_was_asked_to() {
    let (key, at) = ("DESTINATION_ENDPOINT_HINT_KEY", "-DestinationEndpointHintMetadataNamespace");
    let usual = DestinationHint::default();
    let hint = |key, namespace| DestinationHint::new(key, namespace).unwrap();
    for (line, env, want, warnings) in [
        (&["-poolName=p"][..], &[][..], usual.clone(), 0),
        (&["-destinationEndpointHintKey", DESTINATION, at, NAMESPACE], &[], usual.clone(), 0),
        (&["-grpcPort=1"], &[(key, DESTINATION)], usual.clone(), 0),
        (&["--destinationEndpointHintKey=x-mine"], &[], hint("x-mine", NAMESPACE), 1),
        (&["-grpcPort=1"], &[(key, "x-mine")], hint("x-mine", NAMESPACE), 1),
        (&["-destinationEndpointHintKey=x-a"], &[(key, "x-b")], hint("x-a", NAMESPACE), 1),
        (&["-v=2"], &[(key, "x-mine")], usual, 0),
        (&[at, "my.lb"], &[], hint(DESTINATION, "my.lb"), 1),
        (&["-destinationEndpointHintMetadataNamespace="], &[], hint(DESTINATION, ""), 1),
        (
            &["-destinationEndpointHintKey", "x-envoy-original-dst-host"],
            &[],
            hint("x-envoy-original-dst-host", NAMESPACE),
            2,
        ),
    ] {
        let args = with_env(&[&["--pool-name=p"], line].concat(), env);
        let args = args.unwrap_or_else(|ending| panic!("{line:?} {env:?}: {ending:?}"));
        assert_eq!(args.listeners.destination_hint(), Ok(want), "{line:?} {env:?}");
        let told = args.notes.iter().filter(|note| !note.contains("new names")).count();
        assert_eq!(told, warnings, "{line:?} {env:?}: {:?}", args.notes);
    }
    let warned = with(&["-destinationEndpointHintKey=x-mine", &format!("{at}=")]).unwrap().notes;
    assert!(warned[0].contains("`x-mine`") && warned[0].contains("at the top"), "{warned:?}");
    assert!(warned[0].contains(DESTINATION) && warned[0].contains(NAMESPACE), "{warned:?}");
    for (line, env, named) in [
        (
            &["-destinationEndpointHintKey=X-Mine"][..],
            &[][..],
            "-destinationEndpointHintKey cannot be `X-Mine`",
        ),
        (&["--destinationEndpointHintKey="], &[], "--destinationEndpointHintKey cannot be ``"),
        (&["-destinationEndpointHintKey=host"], &[], "-destinationEndpointHintKey cannot be `host`"),
        (&["-grpcPort=1"], &[(key, ":path")], "DESTINATION_ENDPOINT_HINT_KEY cannot be `:path`"),
    ] {
        let said = refusal(with_env(&[&["--pool-name=p"], line].concat(), env));
        assert!(said.contains(named), "{line:?} {env:?}: {said}");
    }
}

/// Variables of v1.0.1 and later count in every version.
#[test]
fn experiments_that_are_not_there_refuse_no_start() {
    let env = [("ENABLE_EXPERIMENTAL_DATALAYER_V2", "true"), ("ENABLE_EXPERIMENTAL_FLOW_CONTROL_LAYER", "t")];
    for line in [&["--pool-name=p"][..], &["-poolName=p"]] {
        let notes = with_env(line, &env).unwrap().notes;
        for (name, _) in env {
            assert_eq!(notes.iter().filter(|note| note.starts_with(name)).count(), 1, "{line:?}: {notes:?}");
        }
    }
}

#[test]
fn pods_may_be_selected_without_a_pool() {
    let line = ["--endpoint-selector", "app=vllm", "--endpoint-target-ports", "8000,8001"];
    for (env, name) in [
        (&[("POD_NAME", "my-epp-5d9c7b8f6d-x2x4z"), ("HOSTNAME", "h")][..], "my-epp"),
        (&[("HOSTNAME", "my-epp-5d9c7b8f6d-x2x4z")], "my-epp"),
        (&[("POD_NAME", "mine")], "mine"),
        (&[], "epp"),
    ] {
        let args = with_env(&line, env).unwrap();
        assert_eq!(args.pool.pool_name, name, "{env:?}");
        assert_eq!(args.cluster.endpoint_selector.0, "app=vllm");
        assert_eq!(args.cluster.endpoint_target_ports.0, [8000, 8001]);
    }
    for (more, said) in [
        (&["--pool-name=p"][..], "--pool-name and --endpoint-selector each say what the pool is"),
        (&["--endpoint-target-ports="], "--endpoint-selector needs --endpoint-target-ports"),
        (&["--endpoint-selector="], "--endpoint-target-ports is for --endpoint-selector"),
        (&["--endpoint-selector=="], "is no requirement"),
        (&["--endpoint-target-ports=0"], "expected a port from 1 to 65535"),
        (&["--endpoints-file=x"], "--endpoint-selector and --endpoints-file each say"),
    ] {
        let refused = refusal(with_env(&[&line[..], more].concat(), &[]));
        assert!(refused.contains(said), "{more:?}: {refused}");
    }
    assert!(with(&["--endpoint-selector=", "--endpoint-target-ports="]).is_ok(), "empty values are none");
}

#[test]
fn an_empty_path_is_none() {
    let args = with(&[
        "--config-file=",
        "--cert-path=",
        "--client-ca-file=",
        "--endpoints-file=",
        "--config-text=kind: x",
    ])
    .unwrap();
    assert_eq!((args.config.config_file, args.pool.endpoints_file), (None, None));
    assert_eq!((args.tls.cert_path, args.tls.client_ca_file), (None, None));
    let old = with(&["-configFile", "", "-certPath=", "-poolName=p"]).unwrap();
    assert_eq!((old.config.config_file, old.tls.cert_path), (None, None));
    assert_eq!(
        with(&["--config-file=a", "--config-file="]).unwrap().config.config_file,
        None,
        "the last one counts"
    );
}

#[test]
fn words_of_zap_flags_may_have_any_case() {
    let line = [
        "--zap-log-level=ERROR",
        "--zap-encoder=JSON",
        "--zap-stacktrace-level=Panic",
        "--zap-time-encoding=EPOCH",
    ];
    let logging = with(&line).unwrap().logging;
    assert_eq!((logging.verbosity(), logging.encoder()), (Verbosity::parse("error").unwrap(), Encoder::Json));
    assert_eq!(logging.zap_time_encoding, Some(TimeEncoding::Epoch));
    let said = refusal(with(&["--zap-log-level=loud"]));
    for word in ["error", "panic", "warn", "info", "debug", "trace"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn what_is_valid_but_may_surprise_is_told() {
    let tls13 = "TLS_AES_128_GCM_SHA256";
    let tls12 = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
    let suites = |list: &str| format!("--tls-cipher-suites={list}");
    let (only13, both, only12) = (suites(tls13), suites(&format!("{tls13},{tls12}")), suites(tls12));
    let cases: [(&[&str], &[&str]); 15] = [
        (
            &["--grpc-max-recv-msg-size=4MiB"],
            &["--grpc-max-recv-msg-size (4MiB) is below --max-body-bytes (64MiB)"],
        ),
        (
            &["--grpc-max-send-msg-size=1MB"],
            &["--grpc-max-send-msg-size (1000000) is below --max-body-bytes (64MiB)"],
        ),
        (
            &["--max-unfinished-bytes=63MiB"],
            &["--max-unfinished-bytes (63MiB) is below --max-body-bytes (64MiB)"],
        ),
        (&["--max-body-bytes=2GiB"], &["--max-unfinished-bytes (1GiB) is below --max-body-bytes (2GiB)"]),
        (
            &[
                "--grpc-max-recv-msg-size=64MiB",
                "--grpc-max-send-msg-size=64MiB",
                "--max-unfinished-bytes=64MiB",
            ],
            &[],
        ),
        (&["--max-body-bytes=1MiB", "--grpc-max-recv-msg-size=4MiB"], &[]),
        (&[&only13], &["names of TLS 1.3 choose nothing", "TLS 1.2 is off"]),
        (&[&both], &["names of TLS 1.3 choose nothing"]),
        (&[&only12], &[]),
        (&["--tls-cipher-suites="], &[]),
        (&[&only13, "--tls-min-version=VersionTLS13"], &["names of TLS 1.3 choose nothing"]),
        (&[&only12, "--tls-min-version=VersionTLS13"], &[]),
        (&[&only13, "--secure-serving=false"], &[]),
        (
            &["--cert-path=/c", "--secure-serving=false"],
            &["--cert-path is not used, because of --secure-serving=false"],
        ),
        (&["--cert-path=/c"], &[]),
    ];
    for (line, want) in cases {
        let notes = with(line).unwrap().notes;
        assert_eq!(notes.len(), want.len(), "{line:?}: {notes:?}");
        assert!(want.iter().zip(&notes).all(|(want, note)| note.contains(want)), "{line:?}: {notes:?}");
    }
}

#[test]
fn waits_of_no_length_are_refused_where_they_refuse_every_request() {
    for name in ["--decision-timeout", "--upload-idle-timeout"] {
        for zero in ["0", "0s", "0ms"] {
            let said = refusal(with(&[&format!("{name}={zero}")]));
            assert!(said.contains(name) && said.contains("expected more than 0"), "{said}");
        }
        assert!(with(&[&format!("{name}=1ms")]).is_ok());
    }
}

#[test]
fn usage_errors_say_how_to_get_help() {
    for line in [&["--no-such-flag"][..], &["--drain-timeout", "5"], &["--grpc-port=70000"]] {
        let Err(Ending::Usage(error)) = with(line) else { panic!("{line:?}") };
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--help"), "{error}");
    }
}

#[test]
fn limits_and_logging_are_read() {
    let line = "--max-body-bytes 25MB --grpc-max-recv-msg-size 10MiB --max-unfinished-bytes 2Gi \
                --decision-timeout 900ms --upload-idle-timeout 1m --drain-timeout 0 -v -7 --zap-devel=false \
                --zap-time-encoding RFC3339Nano";
    let args = with(&line.split_whitespace().collect::<Vec<_>>()).unwrap();
    let limits = &args.limits;
    assert_eq!((limits.max_body_bytes, limits.max_unfinished_bytes), (25_000_000, 2 << 30));
    assert_eq!((limits.grpc_max_recv_msg_size, limits.decision_timeout.as_millis()), (Some(10 << 20), 900));
    assert_eq!(args.logging.verbosity(), Verbosity::parse("error").unwrap(), "as zap's levels below 0");
    assert_eq!(args.logging.encoder(), Encoder::Json);
    assert_eq!(args.logging.zap_time_encoding, Some(TimeEncoding::Rfc3339Nano));
    let both = with(&["-v5", "--zap-log-level=error"]).unwrap().logging;
    assert_eq!(both.verbosity(), Verbosity::parse("error").unwrap(), "zap-log-level wins");
    assert_eq!(with(&[]).unwrap().logging.encoder(), Encoder::Console);
}

#[test]
fn the_model_extractor_is_off_unless_asked_for_and_its_headers_are_checked() {
    let usual = with(&[]).unwrap().listeners;
    assert_eq!(usual.model_extractor_port, 0);
    assert_eq!(
        usual.model_extractor_headers,
        ModelHeaders::parse("x-ai-eg-model,X-Gateway-Model-Name").unwrap()
    );
    let mine =
        with(&["--model-extractor-port", "9005", "--model-extractor-headers=X-Model"]).unwrap().listeners;
    assert_eq!(mine.model_extractor_port, 9005);
    assert_eq!(mine.model_extractor_headers, ModelHeaders::parse("X-Model").unwrap());
    let Err(Ending::Usage(error)) = with(&["--model-extractor-headers=host"]) else { panic!("taken") };
    assert!(error.to_string().contains("for something else"), "{error}");
}

#[test]
fn subcommands_keep_their_flags() {
    let words = ["sim", "serve", "--servers", "4", "--endpoints-file", "e"].map(str::to_owned).to_vec();
    let args = read(words, &|_| None).unwrap();
    assert!(matches!(args.command, Some(Command::Sim(_))));
    let typo = read(vec!["smi".to_owned()], &|_| None).unwrap_err();
    assert!(matches!(typo, Ending::Usage(error) if error.exit_code() == 2));
}

fn help(word: &str) -> String {
    match read(vec![word.to_owned()], &|_| None) {
        Err(Ending::Show(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn help_is_grouped_names_every_flag_and_fits_100_columns() {
    let (short, long) = (help("-h"), help("--help"));
    assert_eq!(help("help"), long);
    assert!(short.lines().count() < long.lines().count());
    for text in [&short, &long] {
        let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > 100).collect();
        assert!(wide.is_empty(), "{wide:?}");
        for group in ["Pool:", "Configuration:", "Listeners:", "TLS:", "Scraping:", "Limits:", "Logging:"] {
            assert_eq!(text.lines().filter(|line| *line == group).count(), 1, "{group}");
        }
    }
    assert!(long.contains("Examples:") && !short.contains("Examples:"));
    for flag in FLAGS {
        let dashed = if flag.name == "v" { "-v ".to_owned() } else { format!("--{}", flag.name) };
        assert!(long.contains(&dashed), "{}", flag.name);
    }
    let words = |text: &str| text.replace('`', "").split_whitespace().collect::<Vec<_>>().join(" ");
    let (command, said) = (Args::command(), words(&long));
    for (name, arg) in declared(&command) {
        assert!(name == "v" || long.contains(&format!("--{name}")), "{name}");
        assert!(said.contains(&words(&help::explained(arg))), "{name} is explained");
    }
}

mod docs;
mod pools;
