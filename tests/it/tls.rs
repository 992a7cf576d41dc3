//! `epp` over TLS: certificates that rotate, versions and suites, clients with certificates and silent ones.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{CipherSuite, SupportedProtocolVersion};

use crate::support::envoy::Envoy;
use crate::support::envoy_config::{EnvoySetup, EppConnection};
use crate::support::epp::{Epp, EppSetup, endpoints_yaml, refused_start};
use crate::support::tls::{Authority, Issued, NAME, TlsClient};
use crate::support::upstream::{Answer, Upstream};
use crate::support::{Protocol, client, eventually};

const BODY: &str = r#"{"model":"m","prompt":"a"}"#;

/// An `epp` over `upstream` with the certificate in `folder`.
async fn epp(upstream: &Upstream, folder: &Path, flags: &[&str]) -> Epp {
    let mut args = vec!["--cert-path".to_owned(), folder.display().to_string()];
    args.extend(flags.iter().map(|flag| (*flag).to_owned()));
    Epp::with(EppSetup { secure: true, args, ..EppSetup::new(&[upstream.addr()]) }).await
}

async fn envoy(epp: &Epp, epp_connection: EppConnection) -> Envoy {
    Envoy::start(EnvoySetup { epp_tls: true, epp_connection, ..EnvoySetup::new(epp.ext_proc) }).await
}

async fn status(envoy: &Envoy) -> u16 {
    client(Protocol::Http1).post(envoy.http()).body(BODY).send().await.unwrap().status().as_u16()
}

async fn until_served(epp: &Epp, issued: &Issued, client: &TlsClient) {
    eventually("new connections get the new certificate", async || {
        let served = client.greet(epp.ext_proc).await.expect("every handshake succeeds");
        (served.certificate == issued.certificate).then_some(())
    })
    .await;
}

async fn until_counted(epp: &Epp, result: &str, count: f64) {
    let series = format!("epp_tls_reload_total{{result=\"{result}\"}}");
    eventually(&series, async || (epp.metric(&series).await == Some(count)).then_some(())).await;
}

#[tokio::test]
async fn certificates_rotate_under_traffic_without_a_failed_request() {
    let (upstream, authority, folder) =
        (Upstream::start(Answer::Echo), Authority::new(), tempfile::tempdir().unwrap());
    authority.issue().write(folder.path());
    let epp = epp(&upstream, folder.path(), &[]).await;
    // Envoy verifies, and connects anew all the time.
    let connection = EppConnection {
        authority: Some((authority.file(), NAME)),
        max_requests: Some(3),
        ..EppConnection::default()
    };
    let envoy = envoy(&epp, connection).await;
    let (over, n_requests) = (AtomicBool::new(false), AtomicUsize::new(0));
    let traffic = join_all((0..4).map(async |_| {
        let client = client(Protocol::Http1);
        while !over.load(Ordering::Relaxed) {
            let answer = client.post(envoy.http()).body(BODY).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{}", envoy.access_log());
            assert_eq!(answer.text().await.unwrap(), BODY);
            n_requests.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let rotations = async {
        let fresh = TlsClient::new(&authority);
        for version in 1..=5 {
            let issued = authority.issue();
            // Twice file by file, then as a mounted secret.
            if version <= 2 {
                issued.write(folder.path());
            } else {
                issued.mount(folder.path(), version);
            }
            until_served(&epp, &issued, &fresh).await;
            let before = envoy.stat("cluster.epp.upstream_cx_total").await;
            eventually("Envoy connects anew", async || {
                (envoy.stat("cluster.epp.upstream_cx_total").await >= before + 3).then_some(())
            })
            .await;
        }
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(traffic, rotations);
    assert!(n_requests.load(Ordering::Relaxed) > 50);
    for name in
        ["upstream_cx_connect_fail", "ssl.connection_error", "ssl.fail_verify_error", "ssl.fail_verify_san"]
    {
        assert_eq!(envoy.stat(&format!("cluster.epp.{name}")).await, 0, "{name}");
    }
    assert!(epp.metric("epp_tls_reload_total{result=\"ok\"}").await >= Some(5.0));
    envoy.assert_clean().await;
}

#[tokio::test]
async fn a_bad_pair_is_kept_out_and_told() {
    let (upstream, authority, folder) =
        (Upstream::start(Answer::Echo), Authority::new(), tempfile::tempdir().unwrap());
    let (good, fresh) = (authority.issue(), TlsClient::new(&authority));
    good.write(folder.path());
    let epp = epp(&upstream, folder.path(), &[]).await;
    let expiry = epp.metric("epp_tls_certificate_expiry_timestamp_seconds").await;
    assert!(expiry > Some(1.0e9), "{expiry:?}");
    // The key of another certificate.
    let other = authority.issue();
    other.write(folder.path());
    fs::write(folder.path().join("tls.key"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    until_counted(&epp, "refused", 1.0).await;
    until_served(&epp, &good, &fresh).await;
    let told = epp.log_lines().into_iter().find(|line| line["level"] == "error").expect("it is told");
    let reason = told["reason"].as_str().expect("a text");
    let file = folder.path().join("tls.key").display().to_string();
    assert!(reason.contains("does not fit") && reason.contains(&file), "{reason}");
    fs::write(folder.path().join("tls.key"), "-----BEGIN").unwrap();
    until_counted(&epp, "refused", 2.0).await;
    other.write(folder.path());
    until_counted(&epp, "ok", 1.0).await;
    until_served(&epp, &other, &fresh).await;
}

#[tokio::test]
async fn nothing_is_reloaded_when_that_is_switched_off() {
    let (upstream, authority, folder) =
        (Upstream::start(Answer::Echo), Authority::new(), tempfile::tempdir().unwrap());
    let first = authority.issue();
    first.write(folder.path());
    let epp = epp(&upstream, folder.path(), &["--enable-cert-reload=false"]).await;
    authority.issue().write(folder.path());
    // Files are looked at equally often: two later changes of another one have been followed.
    for n_endpoints in [0, 1] {
        fs::write(epp.endpoints_file(), endpoints_yaml(&[upstream.addr()][..n_endpoints])).unwrap();
        let series = "epp_endpoints_reload_total{result=\"ok\"}";
        let want = if n_endpoints == 0 { 1.0 } else { 2.0 };
        eventually(series, async || (epp.metric(series).await == Some(want)).then_some(())).await;
    }
    until_served(&epp, &first, &TlsClient::new(&authority)).await;
    until_counted(&epp, "ok", 0.0).await;
}

#[tokio::test]
async fn versions_and_suites_are_those_that_are_allowed() {
    const AES_128: CipherSuite = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    const AES_256: CipherSuite = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
    const TLS13_AES_128: CipherSuite = CipherSuite::TLS13_AES_128_GCM_SHA256;
    static ONLY_12: &[&SupportedProtocolVersion] = &[&TLS12];
    static ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];
    let (upstream, authority, folder) =
        (Upstream::start(Answer::Echo), Authority::new(), tempfile::tempdir().unwrap());
    authority.issue().write(folder.path());
    let only_256 = "--tls-cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    for (flags, cases) in [
        (vec![], vec![(ONLY_12, AES_128, true), (ONLY_12, AES_256, true), (ONLY_13, TLS13_AES_128, true)]),
        (vec!["--tls-min-version=VersionTLS10"], vec![(ONLY_12, AES_128, true)]),
        (
            vec!["--tls-min-version=VersionTLS13", only_256],
            vec![(ONLY_12, AES_256, false), (ONLY_13, TLS13_AES_128, true)],
        ),
        (
            vec![only_256],
            vec![(ONLY_12, AES_128, false), (ONLY_12, AES_256, true), (ONLY_13, TLS13_AES_128, true)],
        ),
    ] {
        let epp = epp(&upstream, folder.path(), &flags).await;
        for (versions, suite, want) in cases {
            let client = TlsClient::speaking(&authority, versions, suite);
            let served = client.greet(epp.ext_proc).await;
            assert_eq!(
                served.as_ref().is_ok_and(|served| served.suite == suite),
                want,
                "{flags:?} {suite:?}"
            );
        }
        let warned = epp.log().contains("TLS 1.2 is the least that is spoken");
        assert_eq!(warned, flags.contains(&"--tls-min-version=VersionTLS10"), "{flags:?}");
    }
}

#[tokio::test]
async fn clients_need_a_certificate_if_an_authority_is_given() {
    let (upstream, authority, folder) =
        (Upstream::start(Answer::Echo), Authority::new(), tempfile::tempdir().unwrap());
    authority.issue().write(folder.path());
    let (clients, others) = (Authority::new(), Authority::new());
    let client_ca = folder.path().join("client-ca.crt");
    fs::copy(clients.file(), &client_ca).unwrap();
    let epp = epp(&upstream, folder.path(), &["--client-ca-file", &client_ca.display().to_string()]).await;

    let envoys_own = tempfile::tempdir().unwrap();
    let identity = clients.issue().write(envoys_own.path());
    let with = envoy(&epp, EppConnection { identity: Some(identity), ..EppConnection::default() }).await;
    let without = envoy(&epp, EppConnection::default()).await;
    assert_eq!((status(&with).await, status(&without).await), (200, 500));

    let stranger = TlsClient::with_identity(&authority, &others.issue());
    assert!(stranger.greet(epp.ext_proc).await.is_err());
    let known = TlsClient::with_identity(&authority, &clients.issue());
    for resumed in [false, true] {
        let served = known.greet(epp.ext_proc).await.expect("it was signed by the right authority");
        assert_eq!(served.resumed, resumed);
    }

    // The authority is replaced: whom it knew can neither connect anew nor resume.
    fs::copy(others.file(), &client_ca).unwrap();
    until_counted(&epp, "ok", 1.0).await;
    assert!(known.greet(epp.ext_proc).await.is_err());
    stranger.greet(epp.ext_proc).await.expect("now it is the one that is known");
    assert_eq!(status(&with).await, 200, "a connection that is open goes on");
    assert!(epp.metric("epp_tls_handshakes_total{result=\"failed\"}").await >= Some(3.0));
}

#[tokio::test]
async fn clients_that_stall_in_the_handshake_hold_nobody_up() {
    let upstream = Upstream::start(Answer::Echo);
    let epp = Epp::with(EppSetup { secure: true, ..EppSetup::new(&[upstream.addr()]) }).await;
    let mut stalled = Vec::new();
    for n in 0..20 {
        let mut socket = TcpStream::connect(epp.ext_proc).await.unwrap();
        // Nothing, or the beginning of a record.
        socket.write_all(&[22, 3, 1, 2, 0, 1][..n % 7]).await.unwrap();
        stalled.push(socket);
    }
    let envoy = envoy(&epp, EppConnection::default()).await;
    assert_eq!(status(&envoy).await, 200);
    let mut byte = [0];
    assert!(stalled.iter().all(|socket| socket.try_read(&mut byte).is_err()), "they are waited for");
    envoy.assert_clean().await;
}

#[test]
fn a_start_with_files_or_flags_that_cannot_work_names_them() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name);
    let endpoints = path("endpoints.yaml").display().to_string();
    fs::write(&endpoints, "endpoints: []\n").unwrap();
    for name in ["good", "mismatch", "no-key", "no-pem"] {
        fs::create_dir(path(name)).unwrap();
        authority.issue().write(&path(name));
    }
    let other_key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    fs::write(path("mismatch/tls.key"), other_key).unwrap();
    fs::remove_file(path("no-key/tls.key")).unwrap();
    fs::write(path("no-pem/tls.crt"), "certificate").unwrap();
    let given = |flag: &str, name: &str| vec![flag.to_owned(), path(name).display().to_string()];
    let suite = || vec!["--tls-cipher-suites".to_owned(), "TLS_RSA_WITH_RC4_128_SHA".to_owned()];
    for (args, reasons) in [
        (given("--cert-path", "nowhere"), ["nowhere/tls.crt", "No such file"]),
        (given("--cert-path", "no-key"), ["no-key/tls.key", "No such file"]),
        (given("--cert-path", "no-pem"), ["no-pem/tls.crt", "expected PEM certificates"]),
        (given("--cert-path", "mismatch"), ["mismatch/tls.key", "does not fit"]),
        (given("--client-ca-file", "nowhere"), ["nowhere", "No such file"]),
        (given("--client-ca-file", "good/tls.key"), ["good/tls.key", "expected PEM certificates"]),
        (
            [given("--client-ca-file", "good/tls.crt"), vec!["--secure-serving=false".to_owned()]].concat(),
            ["--client-ca-file", "--secure-serving"],
        ),
        (suite(), ["TLS_RSA_WITH_RC4_128_SHA", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]),
        (vec!["--tls-min-version=VersionTLS14".to_owned()], ["VersionTLS14", "VersionTLS13"]),
    ] {
        let pool = ["--pool-name", "p", "--endpoints-file", &endpoints].map(str::to_owned);
        let said = refused_start(&[args.clone(), pool.to_vec()].concat());
        for reason in reasons {
            assert!(said.contains(reason), "{args:?}: {reason:?} is missing in\n{said}");
        }
    }
}
