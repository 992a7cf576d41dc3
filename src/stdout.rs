//! What the process says on stdout, and nobody else: [`print()`].

use std::io::Write as _;

/// Writes `text` to stdout. That nobody reads it any more is no failure.
pub fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
