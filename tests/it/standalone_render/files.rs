//! Every file that is rendered passes Envoy's own validation, and folders of files serve like one configuration.

use std::fs;
use std::path::{Path, PathBuf};

use epp::standalone::finding::{Findings, Level};
use epp::standalone::input::Source;
use epp::standalone::render::{Rendered, Settings, render};

use super::{Backends, GATEWAY, address, ask, checked, rendered, route, service, settings};
use crate::support::envoy::{Envoy, validate};
use crate::support::eventually;

fn manifests(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let source = |path: PathBuf| Source {
        name: path.display().to_string().replace(".txt", ".md"),
        text: fs::read_to_string(path).unwrap(),
    };
    paths.into_iter().map(source).collect()
}

fn write(folder: &Path, rendered: &Rendered) {
    for file in rendered.files() {
        let path = folder.join(&file.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path.with_extension("new"), &file.text).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }
}

/// The static configuration, and the one of files.
fn assert_valid(sources: &[Source], settings: &Settings) {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { folder: folder.path().to_owned(), ..settings.clone() };
    let checked = checked(sources);
    let rendered = render(&checked.topology, &settings, &mut Findings::default());
    assert_eq!(validate(&rendered.bootstrap()), "", "{}", rendered.bootstrap());
    write(folder.path(), &rendered);
    assert_eq!(validate(&rendered.dynamic_bootstrap()), "", "{}", rendered.dynamic_bootstrap());
    let again = render(&checked.topology, &settings, &mut Findings::default());
    assert_eq!((again.files(), again.bootstrap()), (rendered.files(), rendered.bootstrap()));
}

#[test]
fn our_own_guides_are_taken_by_envoy() {
    for folder in ["config/manifests/aigatewayroute", "config/manifests/httproute"] {
        let sources = manifests(folder);
        assert!(!sources.is_empty(), "{folder}");
        assert_valid(&sources, &settings());
    }
}

/// Only where the guides lie beside the clone; nothing else needs them.
#[test]
fn the_guides_pages_are_taken_by_envoy() {
    for source in manifests("../shared/seeds") {
        let told = epp::standalone::check(std::slice::from_ref(&source), "default", epp_plugins::BUILT_IN);
        // One of the pages shows routes without their gateways.
        if told.findings.count(Level::Error) == 0 {
            assert_valid(&[source], &settings());
        }
    }
}

/// X1, X8 of the rows of reloading, as far as the files themselves matter: Envoy reads all of them, and follows them.
#[tokio::test]
async fn envoy_follows_the_files() {
    let backends = Backends::start(["a".to_owned(), "b".to_owned()]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings { folder: folder.path().to_owned(), ..settings() };
    let text = GATEWAY.to_owned() + &service("default", "a") + &service("default", "b");
    for name in ["a", "b"] {
        let host = format!("{name}.default.svc.cluster.local");
        settings.service_hosts.insert((host, 80), vec![address(backends.at[name])]);
    }
    let of = |rule: &str| {
        let both = route("r", "", "all", &[], &[rule, "P:/both -> a,b"]);
        rendered(&(text.clone() + &both), &settings)
    };
    // The harness finds the listener, wherever it is.
    let port = "port_value: 8080\n";
    let write_all = |rendered: &Rendered| {
        write(folder.path(), rendered);
        let lds = folder.path().join("lds.yaml");
        let text = fs::read_to_string(&lds).unwrap().replace(port, "port_value: 0\n");
        fs::write(folder.path().join("lds.new"), text).unwrap();
        fs::rename(folder.path().join("lds.new"), lds).unwrap();
    };
    let (first, second) = (of("P:/ -> a"), of("P:/ -> b"));
    write_all(&first);
    let envoy = Envoy::with_config(&first.dynamic_bootstrap()).await;
    let at = envoy.http().strip_prefix("http://").unwrap().parse().unwrap();
    assert_eq!(ask(at, "h", "/").await.by(), "a");
    for file in second.files().into_iter().filter(|file| !first.files().contains(file)) {
        if file.path.starts_with("rds/") || file.path == "cds.yaml" {
            fs::write(folder.path().join("new"), &file.text).unwrap();
            fs::rename(folder.path().join("new"), folder.path().join(&file.path)).unwrap();
        }
    }
    eventually("Envoy follows", async || (ask(at, "h", "/").await.by() == "b").then_some(())).await;
}

/// What the guides have not: TLS on both sides, `FailOpen`, HTTP/2, priorities, weights, redirects and other edits.
#[test]
fn everything_that_can_be_said_is_taken_by_envoy() {
    let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let authorities = folder.path().join("ca.pem");
    fs::write(&authorities, made.cert.pem()).unwrap();
    let indented = |pem: String| "    ".to_owned() + &pem.trim_end().replace('\n', "\n    ") + "\n";
    let text = include_str!("../fixtures/standalone/everything.yaml")
        .replace("    CERTIFICATE\n", &indented(made.cert.pem()))
        .replace("    KEY\n", &indented(made.signing_key.serialize_pem()));
    let settings = Settings { authorities, picker_tells_health: true, ..settings() };
    let source = Source { name: "everything.yaml".to_owned(), text };
    assert_valid(std::slice::from_ref(&source), &settings);
    // What is not rendered is not tested.
    let checked = checked(&[source]);
    let all = render(&checked.topology, &settings, &mut Findings::default()).bootstrap();
    for part in [
        "tls_inspector",
        "health_checks",
        "auto_sni",
        "trusted_ca",
        "http2_protocol_options",
        "weighted_clusters",
        "previous_priorities",
        "priority: 1",
        "host_rewrite_literal",
        "path_redirect",
        "regex_rewrite",
        "BUFFERED",
        "allow_mode_override: true",
        "failure_mode_allow: true",
        "per_try_timeout",
        "pipe:",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
}
