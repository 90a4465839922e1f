//! The `trust` command.
fn main() {}
