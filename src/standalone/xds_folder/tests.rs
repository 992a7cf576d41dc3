//! Tests of what is written and how, without an Envoy; those with one are in `tests/it/standalone_envoy.rs`.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::standalone::supervise::admin::{Admin, AdminAddress};

fn file(kind: XdsKind, path: &str, text: &str) -> XdsFile {
    XdsFile { path: path.to_owned(), kind, text: text.to_owned() }
}

/// No Envoy at all.
fn nobody(folder: &TempDir) -> Handle {
    let admin = Admin::new(AdminAddress::Unix(folder.path().join("admin")));
    Handle { admin, words: Arc::default() }
}

/// What lies in a folder, with inode and mode.
fn lying(root: &Path) -> BTreeMap<String, (String, u64, u32)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let about = path.metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.insert(name, (fs::read_to_string(&path).unwrap(), about.ino(), about.mode() & 0o777));
        }
    }
    found
}

#[tokio::test]
async fn files_are_replaced_and_not_rewritten() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("made/anew");
    let files = vec![
        file(XdsKind::Listeners, "lds.yaml", "a"),
        file(XdsKind::Secret, "sds/cert.yaml", "key"),
        file(XdsKind::Routes, "rds/default~gw.yaml", "r"),
    ];
    let mut xds = XdsFolder::new(&root);
    assert_eq!(xds.fill(files.clone()).await.unwrap().written.len(), 3);
    let first = lying(&root);
    assert_eq!(first.keys().collect::<Vec<_>>(), ["lds.yaml", "rds/default~gw.yaml", "sds/cert.yaml"]);
    assert_eq!((first["lds.yaml"].2, first["sds/cert.yaml"].2), (0o600, 0o600));

    // X10, by this process and by another one.
    assert_eq!(xds.fill(files.clone()).await.unwrap(), Applied::default());
    let mut xds = XdsFolder::new(&root);
    fs::set_permissions(root.join("sds/cert.yaml"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(xds.fill(files.clone()).await.unwrap(), Applied::default());
    assert_eq!(lying(&root), first);

    // A draft that somebody left is in nobody's way.
    fs::write(root.join(".lds.yaml.new"), "x").unwrap();
    let changed = file(XdsKind::Listeners, "lds.yaml", "b");
    assert_eq!(xds.fill(vec![changed]).await.unwrap().written, ["lds.yaml"]);
    let second = lying(&root);
    assert_eq!((second.len(), &*second["lds.yaml"].0), (3, "b"));
    assert_ne!(second["lds.yaml"].1, first["lds.yaml"].1, "X2: it is another file");
}

#[tokio::test]
async fn nothing_is_written_elsewhere() {
    let folder = TempDir::new().unwrap();
    for path in ["../a", "/tmp/epp-xds-a", "rds/../../a", "", "."] {
        let error = XdsFolder::new(folder.path().join("x")).fill(vec![file(XdsKind::Routes, path, "")]).await;
        assert!(error.unwrap_err().to_string().ends_with("not a path below the folder"), "{path}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn without_envoy_files_are_written_in_order_and_cleared_when_due() {
    let folder = TempDir::new().unwrap();
    let envoy = nobody(&folder);
    let mut xds = XdsFolder::new(folder.path().join("x"));
    let clusters = |text| file(XdsKind::Clusters, "cds.yaml", text);
    let (listeners, a) =
        (file(XdsKind::Listeners, "lds.yaml", "l"), file(XdsKind::Routes, "rds/a.yaml", "a"));
    xds.fill(vec![clusters("ab"), listeners.clone(), a]).await.unwrap();
    assert_eq!(xds.due(), None);

    let b = file(XdsKind::Routes, "rds/b.yaml", "b");
    let grace = Duration::from_secs(60);
    let before = Instant::now();
    let files = vec![listeners, b, clusters("b")];
    let applied = xds.apply(files.clone(), Some(&clusters("abc")), grace, &envoy).await.unwrap();
    assert_eq!(applied.written, ["cds.yaml", "rds/b.yaml"]);
    assert_eq!(applied.unconfirmed, applied.written, "nobody confirms it");
    assert!(xds.due().is_some_and(|due| due >= before + grace));
    let text = |name: &str| lying(&folder.path().join("x")).get(name).map(|file| file.0.clone());
    assert_eq!((text("cds.yaml").as_deref(), text("rds/a.yaml").as_deref()), (Some("abc"), Some("a")));

    // The same files again change nothing, and forget nothing.
    let again = xds.apply(files, Some(&clusters("abc")), grace, &envoy).await.unwrap();
    assert_eq!(again, Applied::default());
    assert!(xds.due().is_some());

    assert_eq!(xds.clear(&envoy).await.unwrap().written, ["cds.yaml"]);
    assert_eq!((text("cds.yaml").as_deref(), text("rds/a.yaml")), (Some("b"), None));
    assert_eq!(xds.due(), None);
    assert_eq!(xds.clear(&envoy).await.unwrap(), Applied::default());
}
