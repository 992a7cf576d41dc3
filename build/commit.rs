//! Which commit the sources are, as variables for the compiler: entry point [`tell`].
//!
//! Whether files differ from their commit is not looked at. `tests/it/build_commit.rs` runs this in repositories of its own.

use std::path::Path;
use std::process::Command;

/// Sets `EPP_COMMIT` and `EPP_BUILD_REF` (a tag or a branch): as the environment says, or else as git does.
pub(crate) fn tell() {
    // Not a repository that the sources merely lie in.
    let checkout = Path::new(".git").exists();
    if checkout {
        watch();
    }
    for (name, question) in [
        ("EPP_COMMIT", ["rev-parse", "--verify", "-q", "HEAD"]),
        ("EPP_BUILD_REF", ["symbolic-ref", "--short", "-q", "HEAD"]),
    ] {
        println!("cargo::rerun-if-env-changed={name}");
        let given = std::env::var(name).ok().filter(|value| !value.is_empty());
        let value = given.or_else(|| checkout.then(|| git(&question)).flatten());
        println!("cargo::rustc-env={name}={}", value.as_deref().map_or("unknown", first_word));
    }
}

/// What cargo reads from us is a line each, and labels and versions are words.
fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or("unknown")
}

/// Asks to be run again when another commit is checked out. Cargo takes a file that is missing for one that changed, so
/// only those there are named: of a ref that is packed, the pack, and the folder where a commit would put it.
fn watch() {
    let mut watched = vec![git(&["rev-parse", "--git-path", "HEAD"])];
    if let Some(name) = git(&["symbolic-ref", "-q", "HEAD"]) {
        // In a worktree, `HEAD` is its own and refs are shared; git knows where each is.
        let loose = git(&["rev-parse", "--git-path", &name]);
        if loose.as_deref().is_some_and(|file| !Path::new(file).exists()) {
            watched.push(git(&["rev-parse", "--git-path", "packed-refs"]));
        }
        watched.push(loose.and_then(|file| {
            let there = Path::new(&file).ancestors().find(|path| path.exists())?;
            there.to_str().map(str::to_owned)
        }));
    }
    for file in watched.iter().flatten().filter(|file| Path::new(file).exists()) {
        println!("cargo::rerun-if-changed={file}");
    }
}

/// What git answers, or nothing if there is no git, or it refuses.
fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    let answer = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!answer.is_empty()).then_some(answer)
}
