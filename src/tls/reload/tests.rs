//! Certificates that are replaced, file by file, by symlink, and wrongly.

use std::fs;
use std::path::Path;
use std::time::Duration;

use prometheus::Registry;
use tempfile::TempDir;

use crate::tls::testing::{args, cert_path, pair, write};
use crate::tls::{Reload, Tls, open};

const INTERVAL: Duration = Duration::from_secs(10);

/// A first of January in seconds since 1970.
fn year(year: i32) -> i64 {
    rcgen::date_time_ymd(year, 1, 1).unix_timestamp()
}

struct Followed {
    tls: Tls,
    reload: Option<Reload>,
    folder: TempDir,
}

fn follow() -> Followed {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &pair(2040));
    let (tls, reload) = open(&cert_path(folder.path()), INTERVAL, &Registry::new()).unwrap().unwrap();
    assert_eq!(tls.metrics.expiry.get(), year(2040));
    Followed { tls, reload, folder }
}

/// Lets the follower look ten times while `change` happens; says which reloads were followed and which refused.
async fn after(followed: &mut Followed, change: impl AsyncFnOnce(&Path)) -> (u64, u64) {
    let before = (followed.tls.metrics.reloaded.get(), followed.tls.metrics.refused.get());
    let mut reload = followed.reload.take().unwrap();
    tokio::select! {
        () = reload.follow() => panic!("it follows for ever"),
        () = async {
            change(followed.folder.path()).await;
            tokio::time::sleep(INTERVAL * 10).await;
        } => {}
    }
    followed.reload = Some(reload);
    let metrics = &followed.tls.metrics;
    (metrics.reloaded.get() - before.0, metrics.refused.get() - before.1)
}

#[tokio::test(start_paused = true)]
async fn a_pair_that_fits_is_followed_however_it_comes() {
    let mut followed = follow();
    assert_eq!(after(&mut followed, async |_| ()).await, (0, 0), "nothing changed");
    let counts = after(&mut followed, async |folder| write(folder, &pair(2041))).await;
    assert_eq!((counts, followed.tls.metrics.expiry.get()), ((1, 0), year(2041)));

    // As Kubernetes mounts secrets.
    let counts = after(&mut followed, async |folder| {
        for (n, name) in ["..first", "..second"].iter().enumerate() {
            let n = i32::try_from(n).unwrap();
            fs::create_dir(folder.join(name)).unwrap();
            write(&folder.join(name), &pair(2042 + n));
        }
        std::os::unix::fs::symlink("..first", folder.join("..data")).unwrap();
        for name in ["tls.crt", "tls.key"] {
            fs::remove_file(folder.join(name)).unwrap();
            std::os::unix::fs::symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
        }
    })
    .await;
    assert_eq!((counts, followed.tls.metrics.expiry.get()), ((1, 0), year(2042)));
    let counts = after(&mut followed, async |folder| {
        std::os::unix::fs::symlink("..second", folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    })
    .await;
    assert_eq!((counts, followed.tls.metrics.expiry.get()), ((1, 0), year(2043)));
}

#[tokio::test(start_paused = true)]
async fn a_pair_that_is_wrong_changes_nothing_and_is_told_once() {
    let mut followed = follow();
    let config = followed.tls.current.load_full();
    let (certificate, key) = pair(2041);
    for (name, text) in [("tls.crt", certificate.as_str()), ("tls.key", ""), ("tls.key", &key[..100])] {
        let counts = after(&mut followed, async |folder| fs::write(folder.join(name), text).unwrap()).await;
        assert_eq!(counts, (0, 1), "{name} {text:?}");
    }
    let counts = after(&mut followed, async |folder| fs::remove_file(folder.join("tls.key")).unwrap()).await;
    assert_eq!(counts, (0, 1), "the key is gone");
    assert!(std::sync::Arc::ptr_eq(&config, &followed.tls.current.load_full()));
    assert_eq!(followed.tls.metrics.expiry.get(), year(2040));
    let counts = after(&mut followed, async |folder| fs::write(folder.join("tls.key"), &key).unwrap()).await;
    assert_eq!((counts, followed.tls.metrics.expiry.get()), ((1, 0), year(2041)));
}

#[tokio::test(start_paused = true)]
async fn a_pair_that_is_being_written_is_waited_for() {
    let mut followed = follow();
    let (certificate, key) = pair(2041);
    let counts = after(&mut followed, async |folder| {
        // Between the looks: they have a thread of their own.
        tokio::time::sleep(INTERVAL / 2).await;
        for part in 1..=8 {
            fs::write(folder.join("tls.crt"), &certificate[..certificate.len() * part / 8]).unwrap();
            tokio::time::sleep(INTERVAL).await;
        }
        fs::write(folder.join("tls.key"), &key).unwrap();
    })
    .await;
    assert_eq!((counts, followed.tls.metrics.expiry.get()), ((1, 0), year(2041)));
}

#[test]
fn only_files_are_followed_and_only_if_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &pair(2040));
    let (path, authority) = (folder.path().to_str().unwrap(), folder.path().join("tls.crt"));
    let authority = authority.to_str().unwrap();
    for (flags, want) in [
        (vec![], false),
        (vec!["--cert-path", path], true),
        (vec!["--cert-path", path, "--enable-cert-reload"], true),
        (vec!["--cert-path", path, "--enable-cert-reload=false"], false),
        (vec!["--client-ca-file", authority], true),
    ] {
        let (_, reload) = open(&args(&flags), INTERVAL, &Registry::new()).unwrap().unwrap();
        assert_eq!(reload.is_some(), want, "{flags:?}");
    }
    assert!(open(&args(&["--secure-serving=false"]), INTERVAL, &Registry::new()).unwrap().is_none());
}
