//! One life of a program that cannot outlive us: [`Process`].
//!
//! A shell starts a watcher and becomes the program, so that its id and status are the program's own. The watcher reads
//! from a pipe that only we hold open: at its end, however we ended, it kills the program. Where there is no shell, the
//! program is still killed when its value is dropped.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use super::words::{Line, Lines, Weight, Words};
use crate::stdout;

/// A line from the pipe means that the program has ended.
const LEASH: &str = r#"exec 3<&0
(read -r _ <&3 || kill -9 $$) </dev/null >/dev/null 2>&1 &
exec "$@" </dev/null 3<&-"#;

/// How long what was printed may take to reach us once the program has ended.
const LAST_LINES: Duration = Duration::from_secs(1);

/// A running program.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    leash: Option<ChildStdin>,
    readers: JoinSet<()>,
}

impl Process {
    /// Starts a program in a process group of its own; what it prints is logged, and what it complains of is kept.
    pub(super) fn spawn(program: &Path, arguments: &[OsString], words: &Arc<Words>) -> io::Result<Self> {
        let mut leashed = Command::new("sh");
        leashed.args(["-c", LEASH, "leash"]).arg(program);
        let mut child = match spawn(&mut leashed, arguments, Stdio::piped()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::warn!("without a shell Envoy goes on if this process is killed");
                spawn(&mut Command::new(program), arguments, Stdio::null())
            }
            spawned => spawned,
        }?;
        words.begin();
        let mut readers = JoinSet::new();
        if let Some(out) = child.stdout.take() {
            readers.spawn(pass_on(out));
        }
        if let Some(err) = child.stderr.take() {
            readers.spawn(read(err, Arc::clone(words)));
        }
        Ok(Self { leash: child.stdin.take(), child, readers })
    }

    /// Its id; `None` once it has ended.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it has ended and all that it printed was read. Cancel-safe.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        if let Some(leash) = &mut self.leash {
            // Let go before the id can be somebody else's.
            leash.write_all(b"\n").await.ok();
            self.leash = None;
        }
        let read = async { while self.readers.join_next().await.is_some() {} };
        timeout(LAST_LINES, read).await.ok();
        status
    }

    /// Kills it, and waits until that is done.
    pub(super) async fn kill(&mut self) {
        // It fails if the program has ended, which is as good.
        self.child.start_kill().ok();
        self.ended().await.ok();
    }
}

fn spawn(command: &mut Command, arguments: &[OsString], stdin: Stdio) -> io::Result<Child> {
    command.args(arguments).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Keys that end us at a terminal would end it at once, and not as it should.
    command.process_group(0).kill_on_drop(true).spawn()
}

/// Access logs, which may go to its standard output, go to ours as they are.
async fn pass_on(mut pipe: impl AsyncRead + Unpin) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
        let bytes = buffer[..n].to_vec();
        // Whoever reads ours may be slow. Where it is closed, Envoy must not be held up.
        let _ = spawn_blocking(move || stdout::write(&bytes)).await;
    }
}

async fn read(mut pipe: impl AsyncRead + Unpin, words: Arc<Words>) {
    let (mut lines, mut buffer) = (Lines::default(), vec![0; 16 << 10]);
    while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
        lines.push(&buffer[..n], |line| hear(line, &words));
    }
    lines.end(|line| hear(line, &words));
}

fn hear(line: &str, words: &Words) {
    words.heard(line);
    let Line { weight, component, said } = Line::read(line);
    match weight {
        Weight::Debug => tracing::debug!(component, said, "Envoy"),
        Weight::Info => tracing::info!(component, said, "Envoy"),
        Weight::Warning => tracing::warn!(component, said, "Envoy"),
        Weight::Error => tracing::error!(component, said, "Envoy"),
    }
}

#[cfg(test)]
mod tests;
