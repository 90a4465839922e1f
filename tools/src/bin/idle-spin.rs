//! Placeholder replaced by the tools room.
fn main() {}
