//! `epp standalone check` from outside: what it says of broken manifests, word by word, and of the guides' own.
//!
//! `UPDATE_GOLDEN=1 cargo test -p epp --test it standalone` writes anew what is said of the former.

use std::path::Path;
use std::process::Command;

use crate::config_commands::{assert_golden, yaml_files};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const BAD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fixtures/standalone/bad");

/// Kinds of mistakes that have a file, or several.
const N_MISTAKES: usize = 74;

fn check(folder: &str, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_epp"));
    let output = command.args(["standalone", "check"]).args(args).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_bad_manifest_is_told_as_its_golden_says() {
    let files = yaml_files(BAD);
    let mut numbers: Vec<_> =
        files.iter().map(|path| path.file_name().unwrap().to_str().unwrap()[..2].to_owned()).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), N_MISTAKES);
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let (status, said, noise) = check(BAD, &["-f", name]);
        assert_eq!(noise, "", "{name}");
        assert_eq!(status, i32::from(said.contains(": error: ")), "{name}: {said}");
        assert_golden(&path, &said);
        let strict = check(BAD, &["--strict", "-f", name]).0;
        let is_bad = [": error: ", ": degraded: ", ": warning: "].iter().any(|level| said.contains(level));
        assert_eq!(strict, i32::from(is_bad), "{name}: {said}");
    }
}

#[test]
fn no_golden_is_left_over() {
    for entry in std::fs::read_dir(BAD).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.with_extension("yaml").exists(), "{}", path.display());
    }
}

#[test]
fn our_own_guides_are_fine_and_lead_to_their_pools() {
    for (folder, want) in [
        (
            "config/manifests/aigatewayroute",
            &[
                "1. /* x-ai-eg-model=meta-llama/Llama-3.1-8B-Instruct -> InferencePool default/vllm-llama3-8b-instruct, at most 60s",
                "2. /* x-ai-eg-model=mistral:latest -> InferencePool default/mistral, at most 60s",
                "4. GET = /v1/models -> 200 (the list of 3 models)",
                "5. /* -> 404 (no rule for the model)",
                "picker mistral-epp.default.svc:9002, a configuration of its own, bodies duplex",
                "3 of Deployment default/mistral-upstream, port 8080",
                "objective food-review: priority 1",
                "1 of Deployment default/envoy-ai-gateway-basic-testupstream, port 8080",
            ][..],
        ),
        (
            "config/manifests/httproute",
            &[
                "1. /* -> InferencePool default/vllm-llama3-8b-instruct, at most 60s",
                "model food-review: priority 0",
                "some models are served by others",
            ][..],
        ),
    ] {
        let (status, said, noise) = check(ROOT, &["--strict", "--explain", "-f", folder]);
        assert_eq!((status, noise.as_str()), (0, ""), "{said}");
        assert!(said.ends_with(": no problems\n"), "{said}");
        for line in want {
            assert!(said.contains(line), "{line}: {said}");
        }
    }
}

#[test]
fn programs_get_an_object() {
    let args = ["-f", "01-pool-not-found.yaml", "--format=json", "--explain"];
    let (status, said, _) = check(BAD, &args);
    let told: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(status, 0);
    let finding =
        &told["findings"].as_array().unwrap().iter().find(|it| it["severity"] == "degraded").unwrap();
    assert_eq!(
        (finding["line"].as_u64(), finding["object"].as_str()),
        (Some(15), Some("HTTPRoute default/r"))
    );
    let entry = &told["gateways"][0]["listeners"][0]["hosts"][0]["entries"][0];
    assert_eq!(entry["answer"], "500 (InferencePool default/p not found)");
    let mut conditions = told["conditions"].as_array().unwrap().iter();
    assert!(conditions.any(|it| it["type"] == "ResolvedRefs" && it["reason"] == "BackendNotFound"), "{said}");
}

#[test]
fn what_cannot_be_read_is_told() {
    for (args, want) in [
        (&["-f", "nowhere.yaml"][..], "cannot read nowhere.yaml"),
        (&["-f", "src/standalone"], "it has no .yaml, .yml, .json or .md files"),
        (&["--namespace", "A b", "-f", "x"], "expected a namespace"),
        (&[], "--file"),
    ] {
        let (status, said, noise) = check(ROOT, args);
        assert_eq!((status, said.as_str()), (2, ""), "{args:?}");
        assert!(noise.contains(want), "{args:?}: {noise}");
    }
}

/// Only where the guides lie beside the clone; nothing else needs them.
#[test]
fn the_pages_of_the_guides_are_read() {
    let folder = Path::new(ROOT).join("../shared/seeds");
    let Ok(entries) = std::fs::read_dir(&folder) else { return };
    let mut n_routes = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        let (status, said, noise) = check(ROOT, &["--explain", "-f", path.to_str().unwrap()]);
        assert_eq!(noise, "", "{}", path.display());
        // One of the pages shows routes without their gateways.
        let errors: Vec<_> = said.lines().filter(|line| line.contains(": error: ")).collect();
        assert!(
            errors.iter().all(|line| line.contains("Gateway default/") && line.contains(" not found")),
            "{errors:#?}"
        );
        assert_eq!(status, i32::from(!errors.is_empty()), "{}", path.display());
        n_routes +=
            said.lines().filter(|line| line.contains("Route default/") && line.contains(" -> ")).count();
    }
    assert!(n_routes >= 5, "{n_routes}");
}
