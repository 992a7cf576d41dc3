//! `epp config` from outside: what it prints, where, and with which status.
//!
//! `UPDATE_GOLDEN=1 cargo test -p epp --test it config_commands` writes anew what `check` says of broken files.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const BROKEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fixtures/config/broken");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Runs `epp config` in a folder, with a text as its standard input.
pub(crate) fn config(folder: &str, args: &[&str], stdin: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_epp"));
    command.arg("config").args(args).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("epp runs");
    // One that reads no input may be gone already.
    let _ = child.stdin.take().expect("it is piped").write_all(stdin.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

pub(crate) fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    files.sort();
    files
}

#[test]
fn every_broken_file_is_told_as_its_golden_says() {
    let files = yaml_files(BROKEN);
    assert!(files.len() >= 30, "found only {}", files.len());
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let (status, said, noise) = config(BROKEN, &["check", name], "");
        assert_eq!((status, noise.as_str()), (1, ""), "{name}: {said}");
        assert_golden(&path, &said);
    }
}

/// Compares what was said of a file with the text beside it, or writes that anew if it is told to.
#[track_caller]
pub(crate) fn assert_golden(path: &Path, said: &str) {
    let golden = path.with_extension("txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, said).unwrap();
    } else {
        let want = std::fs::read_to_string(golden).unwrap_or_default();
        assert_eq!(said, want, "{}; UPDATE_GOLDEN=1 writes it anew", path.display());
    }
}

/// Every golden has its file.
#[test]
fn no_golden_is_left_over() {
    for entry in std::fs::read_dir(BROKEN).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.with_extension("yaml").exists(), "{}", path.display());
    }
}

#[test]
fn the_files_of_this_repository_are_fine() {
    let files = [
        "config/default-plugins.yaml",
        "config/legacy-plugins.yaml",
        "config/manifests/httproute/inferencepool.yaml",
    ];
    let (status, said, noise) = config(ROOT, &[&["check", "--strict"], &files[..]].concat(), "");
    assert_eq!((status, noise.as_str()), (0, ""), "{said}");
    assert_eq!(said, "4 configurations in 3 files: no problems\n");
}

const WARNED: &str = "apiVersion: inference.networking.x-k8s.io/v1alpha1\nplugins: [{type: queue-scorer}]\n";

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn the_status_says_how_it_went() {
    let fine = "config/default-plugins.yaml";
    for (args, stdin, want, out, err) in [
        (&["check", fine][..], "", 0, "1 configuration: no problems\n", ""),
        (&["check", "-"], WARNED, 0, "<stdin>:1:1: warning: `kind` is missing", ""),
        (&["check", "--strict", "-"], WARNED, 1, "1 configuration: 1 warning\n", ""),
        (&["check", "-", fine], "plugins: 3", 1, "2 configurations in 2 files: 1 error, 2 warnings\n", ""),
        (
            &["check", "-"],
            "",
            0,
            "<stdin>:1:1: warning: the configuration is empty: epp starts with its built-in default then, and refuses a reload",
            "",
        ),
        (
            &["check", "nowhere.yaml", fine],
            "",
            2,
            "1 configuration: no problems\n",
            "epp: cannot read nowhere.yaml: No such file",
        ),
        (&["check", "nowhere.yaml"], "", 2, "", "epp: cannot read nowhere.yaml"),
        (&["check", "src"], "", 2, "", "epp: cannot read src"),
        (&["check"], "", 2, "", "FILE"),
        (&["check", "--for", "v2", fine], "", 2, "", "expected one of `v1.0.1`, `v1.5`, `llm-d`"),
        (&["check", "--for", "v1.0.1, v1.5", fine], "", 0, "note: v1.5 loads this configuration", ""),
        (
            &["check", "--for", "v0.5.1", fine],
            "",
            2,
            "",
            "a version before v1 has no `EndpointPickerConfig`, it is configured by environment variables; expected one \
             of `v1.0.1`, `v1.5`, `llm-d`",
        ),
        (&["diff", fine, fine, "--format=json"], "", 0, "\"changes\": []", ""),
        (
            &["diff", fine, fine, "--key=a", "--key=b", "--key=c"],
            "",
            2,
            "",
            "--key: expected one for both files",
        ),
        (&["check", "--format", "xml", fine], "", 2, "", "xml"),
        (&["show", fine], "", 0, "schedulingProfiles:\n", ""),
        (
            &["show", "-"],
            "plugins: 3",
            1,
            "",
            "epp: <stdin>:1:10: error: `plugins`: expected a list, found 3\n",
        ),
        (&["show", "nowhere"], "", 2, "", "epp: cannot read nowhere"),
        (&["schema"], "", 0, "\"$schema\": \"http://json-schema.org/draft-07/schema#\"", ""),
        (&["diff", fine, fine], "", 0, "", ""),
        (&["diff", fine, "-"], "plugins: []", 1, "- plugin `queue-scorer`\n", ""),
        (
            &["diff", fine, "-"],
            "plugins: 3",
            2,
            "",
            "<stdin>:1:10: error: `plugins`: expected a list, found 3\n",
        ),
        (&["diff", fine, "nowhere"], "", 2, "", "epp: cannot read nowhere"),
        (&["chek", fine], "", 2, "", "check"),
    ] {
        let (status, said, noise) = config(ROOT, args, stdin);
        assert_eq!(status, want, "{args:?}: {said}{noise}");
        for (said, want) in [(said, out), (noise, err)] {
            assert!(said.contains(want) && said.is_empty() == want.is_empty(), "{args:?}: {said:?}");
        }
    }
}

#[test]
fn json_has_an_object_for_each_line() {
    let (status, said, _) =
        config(ROOT, &["check", "--format=json", "--for=llm-d", "-"], "plugins: [{typ: a}]");
    let findings: Value = serde_json::from_str(&said).unwrap();
    let findings = findings.as_array().unwrap();
    assert_eq!(status, 1);
    let of = |severity: &str| findings.iter().filter(|it| it["severity"] == severity).collect::<Vec<_>>();
    let error = of("error")[0];
    assert_eq!(
        (&error["file"], &error["line"], &error["column"]),
        (&"<stdin>".into(), &1.into(), &12.into())
    );
    assert_eq!(error["message"], "unknown field `typ`, did you mean `type`?");
    assert!(error.get("version").is_none());
    assert_eq!(of("warning").len(), 2);
    assert_eq!(of("note")[0]["release"], "llm-d (v0.10-dev of August 2026)");
    assert!(of("note").len() > 1 && of("note").iter().all(|note| note["version"] == "llm-d"), "{said}");
    let (status, said, noise) = config(ROOT, &["check", "--format=json", "nowhere.yaml"], "");
    assert_eq!((status, noise.contains("cannot read nowhere.yaml")), (2, true), "{noise}");
    let unread: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&unread[0]["file"], &unread[0]["severity"]), (&"nowhere.yaml".into(), &"error".into()));
    assert!(
        unread[0]["message"].as_str().unwrap().starts_with("cannot read nowhere.yaml: No such file"),
        "{said}"
    );
    let (status, said, _) = config(ROOT, &["check", "--format=json", "config/default-plugins.yaml"], "");
    assert_eq!((status, said.as_str()), (0, "[]\n"));
}

#[test]
fn other_versions_are_judged_beside_ours() {
    let text = "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n\
                - type: prefix-cache-scorer\n  parameters:\n    hashBlockSize: 16\nparser:\n  pluginRef: openai-parser\n";
    let (status, said, _) = config(ROOT, &["check", "--for", "v1.0.1,v1.5", "--for", "llm-d", "-"], text);
    assert_eq!(status, 0, "{said}");
    for line in [
        "<stdin>:1:1: note: v1.0.1 refuses this configuration, for one reason",
        "<stdin>:7:1: note: v1.0.1 refuses the field `parser`, which came with v1.5",
        "<stdin>:6:5: note: v1.5 ignores the parameter `hashBlockSize`",
        "<stdin>:6:5: note: llm-d (v0.10-dev of August 2026) refuses the unknown parameter `hashBlockSize`",
        "1 configuration: no problems",
    ] {
        assert!(said.lines().any(|it| it == line), "{line} is missing:\n{said}");
    }
    assert!(
        said.contains("<stdin>:1:1: note: v1.5 loads this configuration, and adds `max-score-picker`"),
        "{said}"
    );
}

#[test]
fn a_configuration_among_several_is_named_by_its_key() {
    let values = "a:\n  one.yaml: |\n    kind: EndpointPickerConfig\n    plugins: [{type: queue-scorer}]\n  two.yaml: |\n    kind: EndpointPickerConfig\n    plugins: [{type: random-picker}]\n";
    let (status, said, noise) = config(ROOT, &["show", "-"], values);
    assert_eq!((status, said.as_str()), (2, ""));
    assert_eq!(
        noise,
        "epp: <stdin>: it holds 2 configurations: choose one with --key: `one.yaml`, `two.yaml`\n"
    );
    let (status, said, _) = config(ROOT, &["show", "-", "--key", "two.yaml"], values);
    assert!(status == 0 && said.contains("- name: random-picker"), "{said}");
    let (status, _, noise) = config(ROOT, &["show", "-", "--key", "three.yaml"], values);
    let want = "no configuration has the key `three.yaml`: choose one of `one.yaml`, `two.yaml`";
    assert_eq!((status, noise.contains(want)), (2, true), "{noise}");
}

const MAPS: &str = "\
kind: List
items:
- metadata: {name: a}
  data:
    x.yaml: |
      kind: EndpointPickerConfig
      plugins: [{type: queue-scorer}]
- metadata: {name: b}
  data:
    x.yaml: |
      kind: EndpointPickerConfig
      plugins: [{type: random-picker}]
- {kind: EndpointPickerConfig, plugins: [{type: running-requests-size-scorer}]}
";

/// Two objects may have equal keys, and what stands in a list has none.
#[test]
fn equal_keys_are_told_apart_by_their_objects() {
    let (status, _, noise) = config(ROOT, &["show", "-", "--key", "x.yaml"], MAPS);
    let want = "epp: <stdin>: 2 configurations have the key `x.yaml`: choose one of `a/x.yaml`, `b/x.yaml`, `line 13`\n";
    assert_eq!((status, noise.as_str()), (2, want));
    for (key, plugin) in [
        ("a/x.yaml", "queue-scorer"),
        ("b/x.yaml", "random-picker"),
        ("line 13", "running-requests-size-scorer"),
    ] {
        let (status, said, noise) = config(ROOT, &["show", "-", "--key", key], MAPS);
        assert!(status == 0 && said.contains(&format!("- name: {plugin}\n")), "{key}: {said}{noise}");
    }
    let fine = "config/default-plugins.yaml";
    for keys in [&["--key", "a/x.yaml"][..], &["--key", "none", "--key", "a/x.yaml"]] {
        let (status, said, noise) = config(ROOT, &[&["diff", fine, "-"], keys].concat(), MAPS);
        assert!(status == 1 && said.contains("- plugin `prefix-cache-scorer`"), "{keys:?}: {said}{noise}");
    }
}

#[test]
fn a_difference_says_why_a_plugin_starts_anew() {
    let before = "plugins:\n- {type: low-queue-filter, name: f, parameters: {threshold: 1}}\n\
                  - {type: decision-tree-filter, name: t, parameters: {current: {pluginRef: f}}}\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), before).unwrap();
    let after = before.replace("threshold: 1", "threshold: 2");
    let (status, said, noise) = config(folder.path().to_str().unwrap(), &["diff", "a.yaml", "-"], &after);
    assert_eq!((status, noise.as_str()), (1, ""));
    assert!(
        said.contains("  start anew: `f` (its parameters change), `t` (it refers to `f`, anew or changed)\n"),
        "{said}"
    );
    let args = ["diff", "a.yaml", "-", "--format", "json"];
    let (status, said, _) = config(folder.path().to_str().unwrap(), &args, &after);
    let diff: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((status, &diff["changes"][0]["change"]), (1, &"changed".into()));
    let anew = serde_json::json!([
        {"plugin": "f", "because": "its parameters change"},
        {"plugin": "t", "because": "it refers to `f`, anew or changed"},
    ]);
    assert_eq!(diff["reload"]["anew"], anew);
}

/// A full disk is no success; a reader that has seen enough is no failure.
#[test]
fn what_cannot_be_written_is_told() {
    let epp = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_epp"));
        command.args(["config", "schema"]).stderr(Stdio::piped());
        command
    };
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let Output { status, stderr, .. } = epp().stdout(full).output().unwrap();
    let noise = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(noise.starts_with("epp: cannot write to standard output: No space left"), "{noise}");
    let mut child = epp().stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert_eq!((status.code(), stderr.as_slice()), (Some(0), &b""[..]));
}

/// What `show` prints is a configuration without a problem, and `diff` finds no difference to what it came from.
#[test]
fn what_is_shown_is_the_same_configuration() {
    let fixtures = yaml_files(&format!("{ROOT}/tests/it/fixtures/config"));
    let shipped = yaml_files(&format!("{ROOT}/config"));
    let mut n_shown = 0;
    for path in fixtures.iter().chain(&shipped) {
        let path = path.to_str().unwrap();
        let (status, shown, noise) = config(ROOT, &["show", path], "");
        assert_eq!(noise.is_empty(), status == 0, "{noise}");
        if status == 0 {
            let (status, said, noise) = config(ROOT, &["diff", path, "-"], &shown);
            assert_eq!((status, said.as_str(), noise.as_str()), (0, "", ""), "{path}:\n{shown}");
            n_shown += 1;
        }
    }
    assert!(n_shown >= 6, "only {n_shown}");
    assert!(Path::new(BROKEN).exists());
}
