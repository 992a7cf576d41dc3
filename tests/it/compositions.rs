//! Every configuration that some release ships loads here, is checked and shown; what `check` says of it is beside it.
//!
//! `UPDATE_GOLDEN=1 cargo test -p epp --test it compositions` writes that anew.

use crate::config_commands::{assert_golden, config, yaml_files};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fixtures/config/compositions");

#[test]
fn every_composition_is_checked_and_shown() {
    let files = yaml_files(FOLDER);
    assert!(files.len() >= 27, "found only {}", files.len());
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let (status, said, noise) = config(FOLDER, &["check", name], "");
        assert_eq!((status, noise.as_str()), (0, ""), "{name}: {said}");
        assert_golden(&path, &said);
        let (status, shown, noise) = config(FOLDER, &["show", name], "");
        assert_eq!((status, noise.as_str()), (0, ""), "{name}");
        // The first showing declares what was injected, and says so; from then on nothing changes.
        let again = config(FOLDER, &["show", "-"], &shown).1;
        assert_eq!(config(FOLDER, &["show", "-"], &again).1, again, "{name}: what is shown shows itself");
        let (status, changes, _) = config(FOLDER, &["diff", name, "-"], &shown);
        assert_eq!((status, changes.as_str()), (0, ""), "{name}: what is shown means the same");
    }
}
