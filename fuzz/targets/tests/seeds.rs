//! Every seed through its target, and the targets' programs, seeds and lock file as they should be.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use epp_fuzz_targets::TARGETS;

fn fuzz_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it lies in `fuzz`")
}

/// Whole, and cut short: most of what can be wrong with an input is that it ends.
#[test]
fn no_seed_is_a_finding() {
    for (name, target) in TARGETS {
        let seeds: Vec<_> = fs::read_dir(fuzz_folder().join("seeds").join(name)).unwrap().collect();
        assert!(seeds.len() >= 3, "{name}: {} seeds", seeds.len());
        for seed in seeds {
            let path = seed.unwrap().path();
            let input = fs::read(&path).unwrap();
            assert!(input.len() <= 4096, "{}: seeds are small", path.display());
            for end in (0..input.len()).step_by(1 + input.len() / 200).chain([input.len()]) {
                println!("{name}: the first {end} bytes of {}", path.display());
                target(&input[..end]);
            }
        }
    }
}

#[test]
fn every_target_has_a_program() {
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
    let programs = manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/"));
    let programs: BTreeSet<_> = programs.map(|path| path.trim_end_matches(".rs\"")).collect();
    assert_eq!(programs, TARGETS.iter().map(|(name, _)| *name).collect());
}

/// What is fuzzed is what is built: the second lock file follows the first.
#[test]
fn the_lock_files_agree() {
    let packages = |path: &Path| -> BTreeSet<(String, String)> {
        let text = fs::read_to_string(path).unwrap();
        let field = |package: &str, key: &str| {
            let value = package.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            value.trim_matches([' ', '=', '"']).to_owned()
        };
        text.split("[[package]]").skip(1).map(|one| (field(one, "name"), field(one, "version"))).collect()
    };
    let theirs = packages(&fuzz_folder().join("Cargo.lock"));
    let ours = packages(&fuzz_folder().parent().unwrap().join("Cargo.lock"));
    let names: BTreeSet<_> = ours.iter().map(|(name, _)| name).collect();
    let strangers: Vec<_> = theirs.difference(&ours).filter(|(name, _)| names.contains(name)).collect();
    let remedy = "cp Cargo.lock fuzz/Cargo.lock && cargo tree --manifest-path fuzz/Cargo.toml";
    assert!(strangers.is_empty(), "only in fuzz/Cargo.lock: {strangers:?}; mend it by: {remedy}");
}
