//! Goodput of bulk transfers over simulated paths.
//!
//! | file | holds |
//! | --- | --- |
//! | `table.md` | what was measured; committed, so that a change shows as a difference |
//! | `table` | the paths, and the test that measures them again |
//! | `odd` | large windows and odd paths, and what a loss on them costs |
//! | `laws` | what holds whatever the table says |
//! | `features` | worlds in which one feature makes the difference, with it and without |
//! | `disturbed`, `pair` | chosen disturbances of one connection, seen segment by segment, and what each may cost |
//! | `path` | paths, and transfers over them |
//! | `smoltcp`, `limitless` | measures: a sender of another stack, a receiver that nothing limits |
//!
//! Time is virtual, seeds are fixed and numbers whole: every machine gets the same table.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod disturbed;
mod features;
mod laws;
mod limitless;
mod odd;
mod pair;
mod path;
mod smoltcp;
#[path = "../smoltcp_wire/mod.rs"]
mod smoltcp_wire;
mod table;
