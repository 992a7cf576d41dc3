//! The half of the build script that asks git, in small repositories of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A package whose program prints the commit and the branch that it was built with.
struct Package {
    root: TempDir,
    folder: PathBuf,
}

impl Package {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("package");
        fs::create_dir_all(folder.join("src")).unwrap();
        let script = format!(
            "#[path = {:?}]\nmod commit;\nfn main() {{ commit::tell() }}\n",
            concat!(env!("CARGO_MANIFEST_DIR"), "/build/commit.rs")
        );
        for (name, text) in [
            ("Cargo.toml", "[package]\nname = \"package\"\nedition = \"2024\"\n[workspace]\n"),
            ("build.rs", script.as_str()),
            (
                "src/main.rs",
                "fn main() { println!(\"{} {}\", env!(\"EPP_COMMIT\"), env!(\"EPP_BUILD_REF\")) }\n",
            ),
            (".gitignore", "/target\n/Cargo.lock\n"),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        Self { root, folder }
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.folder);
        for name in ["EPP_COMMIT", "EPP_BUILD_REF", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            command.env_remove(name);
        }
        command.env("CARGO_TARGET_DIR", self.folder.join("target"));
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "a").env(format!("GIT_{role}_EMAIL"), "a@b");
        }
        command
    }

    fn git(&self, arguments: &[&str]) -> String {
        said(&self.command("git", arguments).output().unwrap())
    }

    fn commit(&self) -> String {
        self.git(&["add", "."]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "a commit"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// What the program prints once it is built, and whether anything had to be compiled for that.
    fn build(&self, env: &[(&str, &str)]) -> (String, bool) {
        let mut command = self.command(env!("CARGO"), &["run", "--offline", "--color", "never"]);
        let output = command.envs(env.iter().copied()).output().unwrap();
        (said(&output), String::from_utf8_lossy(&output.stderr).contains("Compiling"))
    }

    #[track_caller]
    fn assert_says(&self, commit: &str, branch: &str) {
        assert_eq!(self.build(&[]).0, format!("{commit} {branch}"));
        assert_eq!(self.build(&[]), (format!("{commit} {branch}"), false), "built again without a reason");
    }

    fn worktree(self, branch: &str) -> Self {
        let folder = self.root.path().join("worktree");
        self.git(&["worktree", "add", "-q", "-b", branch, folder.to_str().unwrap()]);
        Self { folder, ..self }
    }
}

#[track_caller]
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

/// Nothing else needs git, so a machine may be without.
fn there_is_git() -> bool {
    Command::new("git").arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn the_program_knows_its_commit_wherever_git_keeps_it() {
    if !there_is_git() {
        return;
    }
    let package = Package::new();
    package.git(&["init", "-q"]);
    package.git(&["symbolic-ref", "HEAD", "refs/heads/main"]);
    package.assert_says("unknown", "main");
    package.assert_says(&package.commit(), "main");
    let commit = package.commit();
    package.assert_says(&commit, "main");
    package.git(&["pack-refs", "--all"]);
    package.assert_says(&commit, "main");
    package.assert_says(&package.commit(), "main");
    package.git(&["checkout", "-q", "-b", "a/b"]);
    package.assert_says(&package.commit(), "a/b");
    package.git(&["pack-refs", "--all"]);
    package.assert_says(&package.git(&["rev-parse", "HEAD"]), "a/b");
    package.assert_says(&package.commit(), "a/b");
    package.git(&["checkout", "-q", "--detach", "main"]);
    package.assert_says(&package.git(&["rev-parse", "main"]), "unknown");

    let worktree = package.worktree("other");
    worktree.assert_says(&worktree.git(&["rev-parse", "HEAD"]), "other");
    worktree.assert_says(&worktree.commit(), "other");
    worktree.git(&["pack-refs", "--all"]);
    worktree.assert_says(&worktree.commit(), "other");
}

#[test]
fn what_the_environment_says_goes_before_git() {
    let package = Package::new();
    // Not a checkout, though it lies in one.
    fs::create_dir(package.root.path().join(".git")).unwrap();
    assert_eq!(package.build(&[]).0, "unknown unknown");
    let given = [("EPP_COMMIT", "abc\ncargo::warning=x"), ("EPP_BUILD_REF", "v1.0")];
    assert_eq!(package.build(&given).0, "abc v1.0");
    assert_eq!(package.build(&[("EPP_COMMIT", ""), ("EPP_BUILD_REF", " ")]).0, "unknown unknown");
}

#[test]
fn a_git_that_does_not_answer_is_no_error() {
    let package = Package::new();
    fs::create_dir(package.folder.join(".git")).unwrap();
    let fakes = package.root.path().join("bin");
    write_program(&fakes, "git", "#!/bin/sh\nexit 127\n");
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", fakes.display());
    assert_eq!(package.build(&[("PATH", path.as_str())]).0, "unknown unknown");
}

fn write_program(folder: &Path, name: &str, text: &str) {
    fs::create_dir(folder).unwrap();
    fs::write(folder.join(name), text).unwrap();
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
}
