//! Fragments of both families from addresses that nobody has, as many as the machine sends: memory is flat, each kind is
//! counted, and who means it is served.

use std::time::Duration;

use trust::device::kernel_has_ipv6;

use super::honest::Transfer;
use super::{Row, measured_alone, memory};
use crate::fragments::{Kind, Storm};
use crate::support::*;

/// Fragments that wait, 1 MB for each reader, and what the pools and the transfer take.
const GROWTH: u64 = 32 << 20;

pub(crate) fn storms() -> Outcome {
    let _turn = measured_alone();
    for plan in [&["--plan", "fused"][..], &["--plan", "pipeline"]] {
        let engine = Engine::start(plan);
        let families = if kernel_has_ipv6() { &[false, true][..] } else { &[false] };
        let transfer = Transfer::start(ENGINE);
        let alone = transfer.rate(Duration::from_millis(size(500, 3_000) as u64));
        let (before, span) = (memory(engine.pid(), "VmRSS"), Duration::from_millis(size(1_000, 20_000) as u64));
        for kind in [Kind::Overlapping, Kind::TinyFirst, Kind::NeverFinished] {
            let storms: Vec<_> = families.iter().map(|v6| Storm::start(*v6, kind)).collect::<Result<_, _>>()?;
            let rate = transfer.rate(span);
            let sent: Vec<_> = storms.into_iter().map(Storm::end).collect();
            assert!(sent.iter().all(|(sent, _)| *sent > 0), "{kind:?}: {sent:?}");
            let each_second: f64 = sent.iter().map(|(sent, took)| *sent as f64 / took.as_secs_f64()).sum();
            super::add_row(Row {
                load: format!("fragments, {kind:?}"),
                plan: plan[1].to_owned(),
                clients: format!("{each_second:.0}/s"),
                served: "-".to_owned(),
                p99: Duration::MAX,
                worst: Duration::MAX,
                megabyte: Duration::MAX,
                keeps: format!("{:.0}", 100.0 * rate / alone),
                memory: format!("{} {} -", before >> 20, memory(engine.pid(), "VmHWM") >> 20),
            });
        }
        let after = transfer.octets();
        eventually(Duration::from_secs(20), "the transfer goes on", || transfer.octets() > after);
        assert_eq!(transfer.end(), Ok(()), "{plan:?}");
        let grown = memory(engine.pid(), "VmHWM").saturating_sub(before);
        assert!(grown <= GROWTH, "{plan:?}: {grown} octets more than before");
        let text = engine.finish().text;
        for reason in ["FragmentOverlap", "FragmentTiny", "FragmentUnfinished"] {
            assert!(number_before(&text, &format!(": {reason}")).is_some_and(|count| count > 0.0), "{reason}: {text}");
        }
        assert!(!text.contains("FragmentOdd"), "{text}");
    }
    Ok(())
}
