//! A real Envoy under supervision: its life, its files, and what happens when either goes wrong.

mod world;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use epp::standalone::supervise::binary::{MINIMUM, find, validate};
use epp::standalone::supervise::{EnvoyError, State, Supervisor};
use epp::standalone::xds_folder::XdsFolder;
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::support::tls::{Authority, TlsClient};
use crate::support::upstream::{Answer, Upstream};
use crate::support::{Protocol, client, eventually};
use world::{Load, Plan, World, settings, xds};

/// Names the folder in which the process is to hold an Envoy.
const HOLD: &str = "EPP_IT_HOLD_ENVOY";

fn upstream() -> Upstream {
    Upstream::start(Answer::Status(200))
}

/// Kills Envoy as a crash would.
fn crash(pid: Option<u32>) {
    let status = Command::new("kill").args(["-9", &pid.unwrap().to_string()]).status().unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn envoy_serves_and_ends_with_its_requests() {
    let (events, follow) = watch::channel(vec!["one".to_owned()]);
    let slow = Upstream::start(Answer::Follow(follow));
    let mut world = World::start(&Plan::new(&[("slow", slow.addr())])).await;
    let ready = world.state(State::Ready, 0).await;
    assert!(ready.pid.is_some() && ready.last_words.is_empty());
    let listener = world.listener().await;
    let mut stream = client(Protocol::Http1).get(format!("http://{listener}/")).send().await.unwrap();
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "data: one\n\n");

    world.stop.take();
    world.state(State::Stopping, 0).await;
    eventually("no connection is taken any more", async || std::net::TcpStream::connect(listener).err())
        .await;
    events.send_modify(|events| events.push("two".to_owned()));
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "data: two\n\n");
    assert_eq!(world.status.borrow().state, State::Stopping);
    drop(events);
    assert_eq!(stream.chunk().await.unwrap(), None, "the answer ends as it should");
    world.ended().await.unwrap();
    let stopped = world.status.borrow().clone();
    assert_eq!((stopped.state, stopped.pid), (State::Stopped, None));
}

#[tokio::test]
async fn requests_that_do_not_end_are_cut_off() {
    let hanging = Upstream::start(Answer::Hang);
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(&[("a", hanging.addr())]);
    XdsFolder::new(xds(folder.path())).fill(plan.files(&xds(folder.path()))).await.unwrap();
    let settings =
        epp::standalone::supervise::Settings { drain: Duration::from_secs(1), ..settings(folder.path()) };
    let supervisor = Supervisor::start(settings).await.unwrap();
    let page = supervisor.handle().admin.get("/listeners").await.unwrap();
    let listener = page.trim().rsplit_once("::").unwrap().1.to_owned();
    let asked = client(Protocol::Http1).get(format!("http://{listener}/")).send();
    let stopped = supervisor.run(async {
        hanging.wait_for(1).await;
    });
    let (asked, stopped) = tokio::join!(asked, stopped);
    stopped.unwrap();
    assert!(asked.is_err());
}

#[tokio::test]
async fn routes_change_under_load() {
    let (a, b) = (upstream(), upstream());
    let mut plan = Plan::new(&[("a", a.addr()), ("b", b.addr())]);
    let mut world = World::start(&plan).await;
    let load = Load::on(world.listener().await);
    a.wait_for(100).await;

    // X1: new weights. X10: the same files again.
    plan.shares = vec![("a", 0), ("b", 1)];
    assert_eq!(world.apply(&plan, None).await, ["rds/default~gw~http.yaml"]);
    b.wait_for(100).await;
    assert_eq!(world.apply(&plan, None).await, [""; 0]);

    // X3 and X8: what is broken is refused and put back, in whatever way it is broken.
    let root = xds(world.folder.path());
    let path = root.join("rds/default~gw~http.yaml");
    let good = std::fs::read_to_string(&path).unwrap();
    let n_routes = good.matches("RouteConfiguration").count();
    assert_eq!(n_routes, 1);
    let twice = format!("{{\"resources\":[{0},{0}]}}", &good[14..good.len() - 2]);
    for (text, want) in [
        ("{{{ broken".to_owned(), "yaml"),
        (good.replace("\"prefix\"", "\"prefux\""), "path_specifier"),
        (good.replace("default/gw/http", "other"), "expecting default/gw/http"),
        (twice, "Unexpected RDS resource length: 2"),
    ] {
        let mut files = plan.files(&root);
        files.iter_mut().find(|file| file.path.starts_with("rds/")).unwrap().text = text;
        let grace = Duration::from_secs(60);
        let error = world.xds.apply(files, None, grace, &world.envoy).await.unwrap_err().to_string();
        assert!(error.starts_with("envoy does not take rds/default~gw~http.yaml: "), "{error}");
        assert!(error.contains(want), "{want}: {error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), good);
    }

    // X2: what is not renamed into its place is not seen; the next file is, and was written later.
    let scope = "http.it.rds.default/gw/http.update_attempt";
    eventually("the last file that was put back was read", async || {
        (world.stat(scope).await == 1 + 1 + 2 * 4).then_some(())
    })
    .await;
    std::fs::write(&path, good.replace("\"b\"", "\"nobody\"")).unwrap();
    plan.clusters.insert("c", a.addr());
    assert_eq!(world.apply(&plan, None).await, ["cds.yaml"]);
    assert_eq!(world.stat(scope).await, 1 + 1 + 2 * 4);
    load.assert_served().await;
}

#[tokio::test]
async fn pools_come_and_go_under_load() {
    let (a, b) = (upstream(), upstream());
    let old = Plan::new(&[("a", a.addr())]);
    let mut world = World::draining(&old, Duration::from_secs(2)).await;
    let load = Load::on(world.listener().await);
    a.wait_for(50).await;

    // A pool comes.
    let both = Plan { shares: vec![("a", 1), ("b", 1)], ..Plan::new(&[("a", a.addr()), ("b", b.addr())]) };
    assert_eq!(world.apply(&both, None).await, ["cds.yaml", "rds/default~gw~http.yaml"]);
    b.wait_for(50).await;

    // X4 and X5: one goes, and the listener changes with the routes, which have another name therefore.
    let new = Plan { routes: "default/gw/http@2", listener: 2, ..Plan::new(&[("b", b.addr())]) };
    let written = world.apply(&new, Some(&both.clusters_file())).await;
    assert_eq!(written, ["rds/default~gw~http@2.yaml", "lds.yaml"], "the clusters of both were there");
    assert_eq!(world.asked().await, (200, "version-2".to_owned()));
    assert_eq!(world.stat("cluster_manager.active_clusters").await, 2);

    // Until it is gone, the old filter chain has the old routes.
    assert!(world.xds.due().is_some());
    assert_eq!(world.stat("listener_manager.total_filter_chains_draining").await, 1);
    eventually("the old filter chain is gone", async || {
        (world.stat("listener_manager.total_filter_chains_draining").await == 0).then_some(())
    })
    .await;
    assert_eq!(world.xds.clear(&world.envoy).await.unwrap().written, ["cds.yaml"]);
    assert_eq!(world.stat("cluster_manager.active_clusters").await, 1);
    let rds = std::fs::read_dir(xds(world.folder.path()).join("rds")).unwrap();
    let left: Vec<_> = rds.map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["default~gw~http@2.yaml"]);
    let served = b.received().len();
    b.wait_for(served + 50).await;
    load.assert_served().await;
}

/// X6.
#[tokio::test]
async fn a_stream_outlives_its_listener() {
    let (events, follow) = watch::channel(vec!["one".to_owned()]);
    let slow = Upstream::start(Answer::Follow(follow));
    let mut plan = Plan::new(&[("slow", slow.addr())]);
    let mut world = World::start(&plan).await;
    let url = format!("http://{}/", world.listener().await);
    let mut stream = client(Protocol::Http1).get(&url).send().await.unwrap();
    assert_eq!(stream.headers()["server"], "version-1");
    assert!(stream.chunk().await.unwrap().is_some());

    plan.listener = 2;
    assert_eq!(world.apply(&plan, None).await, ["lds.yaml"]);
    let other = client(Protocol::Http1).get(&url).send().await.unwrap();
    assert_eq!(other.headers()["server"], "version-2");

    events.send_modify(|events| events.push("two".to_owned()));
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "data: two\n\n");
    drop(events);
    assert_eq!(stream.chunk().await.unwrap(), None);
}

/// X7.
#[tokio::test]
async fn certificates_are_rotated() {
    let (a, authority) = (upstream(), Authority::new());
    let tls = TlsClient::new(&authority);
    let folder = tempfile::tempdir().unwrap();
    let issue = || {
        let issued = authority.issue();
        let (certificate, key) = issued.write(folder.path());
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        (issued.certificate.clone(), Some((read(certificate), read(key))))
    };
    let (first, certificate) = issue();
    let mut plan = Plan { certificate, ..Plan::new(&[("a", a.addr())]) };
    let mut world = World::start(&plan).await;
    let listener = world.listener().await;
    let (seen, answer) = tls.get(listener, "/").await.unwrap();
    assert!(seen == first && answer.starts_with("HTTP/1.1 200"), "{answer}");

    let (second, certificate) = issue();
    plan.certificate = certificate;
    assert_eq!(world.apply(&plan, None).await, ["sds/default~cert.yaml"]);
    eventually("new connections see the new certificate", async || {
        (tls.get(listener, "/").await.unwrap().0 == second).then_some(())
    })
    .await;

    let mut broken = plan.clone();
    broken.certificate = Some(("-----BEGIN NOTHING-----".to_owned(), "x".to_owned()));
    let files = broken.files(&xds(world.folder.path()));
    let error = world.xds.apply(files, None, Duration::ZERO, &world.envoy).await.unwrap_err().to_string();
    assert!(error.starts_with("envoy does not take sds/default~cert.yaml: Failed to load"), "{error}");
    assert!(tls.get(listener, "/").await.unwrap().0 == second);
}

#[tokio::test]
async fn a_refused_listener_is_put_back() {
    let a = upstream();
    let plan = Plan::new(&[("a", a.addr())]);
    let mut world = World::start(&plan).await;
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let moved = Plan { port: taken.port(), ..plan };
    let files = moved.files(&xds(world.folder.path()));
    let error = world.xds.apply(files, None, Duration::ZERO, &world.envoy).await.unwrap_err().to_string();
    assert!(error.contains(&format!("cannot bind '{taken}': Address already in use")), "{error}");
    eventually("the listener is back", async || {
        let url = format!("http://{}/", world.listener().await);
        client(Protocol::Http1).get(url).send().await.ok().filter(|answer| answer.status() == 200)
    })
    .await;

    // At the start there is nothing to put back.
    let folder = tempfile::tempdir().unwrap();
    let mut files = XdsFolder::new(xds(folder.path()));
    files.fill(moved.files(&xds(folder.path()))).await.unwrap();
    let supervisor = Supervisor::start(settings(folder.path())).await.unwrap();
    let error = files.confirm_start(&supervisor.handle()).await.unwrap_err().to_string();
    assert!(error.contains("lds.yaml") && error.contains("Address already in use"), "{error}");
}

#[tokio::test]
async fn a_crash_is_followed_by_a_new_start() {
    let a = upstream();
    let mut world = World::start(&Plan::new(&[("a", a.addr())])).await;
    for restarts in 0..3 {
        let ready = world.state(State::Ready, restarts).await;
        assert_eq!(world.asked().await.0, 200);
        crash(ready.pid);
    }
    let again = world.state(State::Ready, 3).await;
    assert_eq!(world.asked().await.0, 200);
    assert!(again.pid.is_some());
    world.stop.take();
    world.ended().await.unwrap();
}

#[tokio::test]
async fn who_dies_again_and_again_is_given_up() {
    let a = upstream();
    let mut world = World::start(&Plan::new(&[("a", a.addr())])).await;
    let bootstrap = world.folder.path().join("envoy.yaml");
    std::fs::write(&bootstrap, "{ admin: { nonsense: 1 } }").unwrap();
    crash(world.state(State::Ready, 0).await.pid);
    let error = world.ended().await.unwrap_err();
    let told = error.to_string();
    assert!(
        told.starts_with("envoy died 5 times within 60 s, giving up: envoy ended (exit status: 1)"),
        "{told}"
    );
    assert!(told.contains("no such field: 'nonsense'"), "{told}");
    let status = world.status.borrow().clone();
    assert_eq!((status.state, status.pid, status.restarts), (State::GivenUp, None, 4));
    assert!(status.last_words.iter().any(|line| line.contains("nonsense")));

    // At the start once is enough, and it can be known before.
    let mut settings = settings(world.folder.path());
    let binary = find(Some(&settings.binary)).await.unwrap();
    assert!(binary.version >= MINIMUM);
    validate(&binary, &settings.bootstrap).await.unwrap();
    std::fs::write(&settings.bootstrap, "{ admin: { nonsense: 1 } }").unwrap();
    let invalid = validate(&binary, &settings.bootstrap).await.unwrap_err().to_string();
    assert!(
        invalid.starts_with("envoy does not take ") && invalid.contains("no such field: 'nonsense'"),
        "{invalid}"
    );
    settings.bootstrap.clone_from(&bootstrap);
    let died = Supervisor::start(settings).await.unwrap_err();
    assert!(matches!(died, EnvoyError::Died { .. }) && died.to_string().contains("nonsense"), "{died}");
}

#[tokio::test]
async fn a_taken_admin_port_and_silence_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let admin = |port| {
        format!("admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}")
    };
    std::fs::write(&settings.bootstrap, admin(taken.port())).unwrap();
    let error = Supervisor::start(settings.clone()).await.unwrap_err();
    assert!(matches!(&error, EnvoyError::InUse(address) if *address == taken.to_string()), "{error}");

    // Its admin interface is not where it was said to be.
    std::fs::write(&settings.bootstrap, admin(0)).unwrap();
    settings.ready_within = Duration::from_millis(300);
    let error = Supervisor::start(settings).await.unwrap_err().to_string();
    assert!(error.starts_with("envoy was not ready within 0.3 s; its last words: "), "{error}");
}

/// Holds an Envoy until it is killed; started by the test below.
#[tokio::test]
#[ignore = "another test runs it, in a process of its own"]
async fn hold_an_envoy() {
    let Some(folder) = std::env::var_os(HOLD).map(PathBuf::from) else { return };
    let supervisor = Supervisor::start(settings(&folder)).await.unwrap();
    std::fs::write(folder.join("held"), "").unwrap();
    supervisor.run(std::future::pending()).await.unwrap();
}

#[tokio::test]
async fn envoy_does_not_outlive_whoever_started_it() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(&[("a", ([127, 0, 0, 1], 1).into())]);
    XdsFolder::new(xds(folder.path())).fill(plan.files(&xds(folder.path()))).await.unwrap();
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "standalone_envoy::hold_an_envoy", "--ignored"])
        .env(HOLD, folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("an Envoy is held", async || Path::new(&folder.path().join("held")).exists().then_some(()))
        .await;
    let admin = folder.path().join("admin");
    assert!(UnixStream::connect(&admin).await.is_ok());
    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually("Envoy is gone", async || UnixStream::connect(&admin).await.err()).await;
}
