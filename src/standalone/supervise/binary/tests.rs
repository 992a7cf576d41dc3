//! Tests of what is found, with scripts in Envoy's place.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

/// An executable that says this.
fn script(folder: &Path, name: &str, says: &str) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Whoever executes a file that somebody has open for writing fails, be it a sibling that is just being forked.
    let draft = path.with_extension("draft");
    fs::write(&draft, format!("#!/bin/sh\n{says}\n")).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(draft, &path).unwrap();
    path
}

fn version(version: &str) -> String {
    format!("echo; echo \"$0  version: 9e55/{version}/Clean/RELEASE/BoringSSL\"")
}

#[test]
fn versions_are_read_and_compared() {
    for (said, want) in [
        ("\n/x/envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL", Some(Version(1, 40, 0))),
        ("envoy version: 9e55/1.36.12-dev/Clean/RELEASE/BoringSSL", Some(Version(1, 36, 12))),
        ("envoy 1.40.0", None),
        ("version: abc", None),
        ("", None),
    ] {
        assert_eq!(Version::read(said), want, "{said}");
    }
    assert!(Version(1, 9, 9) < MINIMUM && Version(2, 0, 0) > MINIMUM);
}

#[tokio::test]
async fn a_named_binary_is_taken_or_told_about() {
    let folder = TempDir::new().unwrap();
    let found = |name: PathBuf| async move { find_among(Some(&name), None, None).await };
    let good = script(folder.path(), "good", &version("1.36.0"));
    assert_eq!(found(good.clone()).await.unwrap(), EnvoyBinary { path: good, version: Version(1, 36, 0) });
    for (says, want) in [
        (version("1.35.9"), "is envoy 1.35.9, expected 1.36.0 or newer"),
        ("echo hello".to_owned(), "asked for its version it says \"hello\", exit status: 0"),
        ("exit 3".to_owned(), "it says nothing, exit status: 3"),
    ] {
        let path = script(folder.path(), "bad", &says);
        let error = found(path.clone()).await.unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()) && error.ends_with(want), "{error}");
    }
    let missing = found(folder.path().join("missing")).await.unwrap_err().to_string();
    assert!(missing.contains("missing, which is no executable file; get 1.36.0 or newer with"), "{missing}");
}

#[tokio::test]
async fn the_path_comes_before_the_cache_unless_it_is_too_old() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    let executable = Some(root.join("target/debug/epp"));
    let path = Some(OsString::from(root.join("bin")));
    let found = || find_among(None, path.clone(), executable.clone());

    let nothing = found().await.unwrap_err().to_string();
    let cache = format!("`envoy` on PATH, what `make demo` keeps in {}/.cache/envoy; get", root.display());
    assert!(nothing.contains(&cache), "{nothing}");

    script(root, "bin/envoy", &version("1.20.0"));
    assert!(matches!(found().await, Err(FindError::TooOld(_, Version(1, 20, 0)))));

    let name = format!("envoy-{}-{}", env::consts::OS, env::consts::ARCH);
    script(root, &format!(".cache/envoy/1.9.0/{name}"), &version("1.9.0"));
    let cached = script(root, &format!(".cache/envoy/1.40.0/{name}"), &version("1.40.0"));
    assert_eq!(found().await.unwrap().path, cached);

    let newer = script(root, "bin/envoy", &version("1.41.0-dev"));
    assert_eq!(found().await.unwrap().path, newer);
    assert!(found().await.is_ok_and(|binary| binary.version == Version(1, 41, 0)));
}

#[tokio::test]
async fn what_is_wrong_is_told_in_its_own_words() {
    let folder = TempDir::new().unwrap();
    for (says, want) in [
        ("exit 0", None),
        (
            "echo \"[warning][x] y\" >&2; echo \"[critical][main] no such field: 'z'\" >&2; exit 1",
            Some("no such field: 'z'"),
        ),
        ("echo odd >&2; exit 7", Some("it ended with exit status: 7: odd")),
    ] {
        let path = script(folder.path(), "envoy", says);
        let binary = EnvoyBinary { path, version: MINIMUM };
        let told = validate(&binary, Path::new("/x.yaml")).await.err().map(|error| error.to_string());
        assert_eq!(told, want.map(|want| format!("envoy does not take /x.yaml: {want}")));
    }
}
