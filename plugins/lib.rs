//! The built-in plugins, and the one table that lists them.
