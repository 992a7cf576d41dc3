//! What the process says on stdout, and nobody else: [`print()`].

use std::io::{ErrorKind, Write as _};

/// Writes `text` to stdout. That nobody reads it any more is no failure.
pub fn print(text: &str) -> std::io::Result<()> {
    write(text.as_bytes())
}

/// The same of bytes.
pub fn write(bytes: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}
