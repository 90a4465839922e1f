//! The repository keeps the bounds of `tools/code-metrics.txt`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use trust_tools::metrics::{Bounds, Repository, measure};

/// But for the packages, which `tools/features` counts.
#[test]
fn no_metric_of_the_code_is_above_its_bound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let bounds = Bounds::parse(&fs::read_to_string(root.join("tools/code-metrics.txt")).unwrap()).unwrap();
    let metrics = measure(&Repository::read(root).unwrap()).unwrap();
    let faults = bounds.faults(&metrics);
    assert!(faults.is_empty(), "{}\n{}", bounds.table(&metrics), faults.join("\n"));
}
