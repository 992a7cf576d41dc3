//! `epp standalone render` from outside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const GUIDE: [&str; 2] = ["-f", "config/manifests/aigatewayroute"];

fn run(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_epp"));
    let output = command.args(["standalone", "render"]).args(args).current_dir(ROOT).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_configuration_goes_to_stdout_and_what_is_told_to_stderr() {
    let members = ["--pool-endpoints", "mistral=127.0.0.1:8000,127.0.0.1:8001"];
    let (status, said, noise) = run(&[&GUIDE[..], &members].concat());
    assert_eq!(status, 0, "{noise}");
    let config: serde_json::Value = serde_yaml::from_str(&said).unwrap();
    assert!(config["static_resources"]["listeners"].is_array());
    assert!(said.contains("port_value: 8001"));
    assert_eq!((said, noise), {
        let (_, said, noise) = run(&[&GUIDE[..], &members].concat());
        (said, noise)
    });
}

#[test]
fn files_are_their_owners_alone_and_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let args = [&GUIDE[..], &["--xds-dir", dir, "--xds-path-prefix", "/etc/xds"]].concat();
    let (status, said, noise) = run(&args);
    assert_eq!(status, 0, "{noise}");
    assert!(said.contains("path: /etc/xds/lds.yaml\n"), "{said}");
    let mut known = Vec::new();
    for name in ["lds.yaml", "cds.yaml", "rds", "eds"] {
        let path = folder.path().join(name);
        let files: Vec<_> = match fs::read_dir(&path) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => vec![path],
        };
        assert!(!files.is_empty(), "{name}");
        for file in files {
            let metadata = fs::metadata(&file).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{}", file.display());
            assert_eq!(file.extension().unwrap(), "yaml");
            known.push((metadata.modified().unwrap(), file));
        }
    }
    assert_eq!(run(&args).0, 0);
    for (modified, file) in known {
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), modified, "{}", file.display());
    }
}

#[test]
fn nothing_is_printed_of_what_cannot_be_served() {
    let bad = Path::new("tests/it/fixtures/standalone/bad");
    let first = fs::read_dir(Path::new(ROOT).join(bad)).unwrap().map(|entry| entry.unwrap().path());
    let wrong = first.into_iter().find(|path| {
        path.extension().is_some_and(|ending| ending == "txt")
            && fs::read_to_string(path).unwrap().contains(": error: ")
    });
    let wrong = wrong.unwrap().with_extension("yaml");
    let (status, said, noise) = run(&["-f", wrong.to_str().unwrap()]);
    assert_eq!((status, said.as_str()), (1, ""), "{noise}");
    assert!(noise.contains(": error: "), "{noise}");
    for (flag, value, want) in [
        ("--port-map", "80", "expected PORT=PORT"),
        ("--pool-endpoints", "mistral", "expected NAME=HOST:PORT"),
        ("--service-endpoints", "a=1.2.3.4:5", "expected HOST:PORT"),
        ("--admin", "9901", "expected HOST:PORT or unix:PATH"),
    ] {
        let (status, said, noise) = run(&[&GUIDE[..], &[flag, value]].concat());
        assert_eq!((status, said.as_str()), (2, ""), "{noise}");
        assert!(noise.contains(want), "{flag}: {noise}");
    }
}
