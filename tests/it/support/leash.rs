//! Child processes that cannot outlive the test process, however it ends. Entry point [`command`].

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// Runs its arguments as a command and kills it once standard input closes, which it does when the parent is gone.
const LEASH: &str = r#"exec 3<&0
"$@" </dev/null 3<&- & child=$!
exec 2>/dev/null
(read -r _ <&3; kill -9 "$child") & watcher=$!
wait "$child"; status=$?
kill "$watcher"
exit "$status""#;

/// A command that runs `program` on a leash: closing the child's standard input kills it.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", LEASH, "leash"]).arg(program).stdin(Stdio::piped());
    command
}
