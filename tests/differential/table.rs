//! `table.md`: the classes as a table for people.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use super::classes::Other;

const HEAD: &str = "\
# Differences

Written by `TRUST_BLESS=1 cargo test --test differential` from `tests/differential/classes`, and compared by the test. Random
scripts, in which a peer sends raw segments and an application calls its socket, run on this stack and on another one. After
each step is compared what was acknowledged, sent, delivered, reset and ended, not when and in how many segments. A script
goes on to its first difference, and beyond one that is an ACK more or less; a difference that is of no class here fails the
test, and so does a class of which nothing is seen any more.

`acks+`: we sent an ACK, the other stack did not; `acked-`: we have acknowledged less; `reset~`: both reset, with other
numbers.
";

const SMOLTCP: &str = "
## smoltcp

0.12, with its timestamps and without Nagle's algorithm; virtual time, fixed seeds.
";

const KERNEL: &str = "
## Linux

Seen on 6.18 over a TUN device; other versions may differ in more. `TRUST_SOAK=1 cargo test --test differential kernel` runs
it. It takes real time and a network namespace.
";

const COLUMNS: &str = "
| what | when | seen | we | they | why |
| --- | --- | --- | --- | --- | --- |
";

fn table() -> String {
    let mut out = HEAD.to_owned();
    for (other, head) in [(Other::Smoltcp, SMOLTCP), (Other::Kernel, KERNEL)] {
        out.push_str(head);
        out.push_str(COLUMNS);
        for class in other.classes() {
            let seen = class.facts.iter().map(|facts| format!("`{facts}`")).collect::<Vec<_>>().join(", ");
            let _ = writeln!(
                out,
                "| {} | {} | {seen} | {} | {} | {} |",
                class.name, class.at, class.ours, class.theirs, class.why
            );
        }
    }
    out
}

pub(crate) fn compare() -> Result<(), String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/table.md");
    let rendered = table();
    if env::var_os("TRUST_BLESS").is_some_and(|bless| bless == "1") {
        return fs::write(file, rendered).map_err(|e| e.to_string());
    }
    if fs::read_to_string(&file).unwrap_or_default() == rendered {
        return Ok(());
    }
    Err("tests/differential/table.md is not what the classes say: \
         `TRUST_BLESS=1 cargo test --test differential table` writes the new one"
        .to_owned())
}
