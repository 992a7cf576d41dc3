//! Declarations of where a pool's endpoints are listed, one file per type; the server executes them.

pub(crate) mod file;
