//! First contact: ping, a closed port, data through echo, the small services.

use std::time::{Duration, Instant};

use crate::support::*;

pub(crate) fn ping() -> Outcome {
    need(&["ping"])?;
    let engine = Engine::start(&[]);
    let text = must(10, "ping", &["-c", "3", "-i", "0.2", "-W", "2", "10.7.0.2"]);
    assert!(text.contains("3 received"), "{text}");
    engine.finish();
    Ok(())
}

/// SM-CLO-2: nobody listens there, so RST.
pub(crate) fn closed_port() -> Outcome {
    need(&["nc"])?;
    let engine = Engine::start(&[]);
    let start = Instant::now();
    let output = run(10, "nc", &["-v", "-N", "10.7.0.2", "4444"]);
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("refused"), "{}", describe(&output));
    assert!(start.elapsed() < Duration::from_secs(2), "a RST comes at once, not after {:?}", start.elapsed());
    let summary = engine.finish();
    assert_eq!(summary.number(" connections accepted"), 0.0);
    assert!(summary.number(" resets") >= 1.0, "{}", summary.text);
    Ok(())
}

pub(crate) fn bulk_echo() -> Outcome {
    need(&["nc"])?;
    let data = noise(size(20_000_000, 100_000_000), 4);
    let engine = Engine::start(&[]);
    echo_exact(120, &data);
    let summary = engine.finish();
    assert_eq!(summary.number(" connections accepted"), 1.0);
    assert_eq!(summary.number(" closed"), 1.0, "{}", summary.text);
    Ok(())
}

/// daytime ends by itself, chargen when told to, discard says nothing.
pub(crate) fn small_services() -> Outcome {
    need(&["nc"])?;
    let engine = Engine::start(&[]);
    let daytime = must(10, "nc", &["-d", "10.7.0.2", "13"]);
    assert!(daytime.ends_with("-UTC\r\n"), "{daytime:?}");
    let discard = pipe(&mut bounded(10, "nc", &["-N", "10.7.0.2", "9"]), &noise(1_000_000, 9));
    assert!(discard.status.success() && discard.stdout.is_empty(), "{}", describe(&discard));
    let chargen = must(10, "sh", &["-c", "nc -d 10.7.0.2 19 | head -c 1000000"]);
    let line = " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefg\r\n";
    assert_eq!((chargen.len(), &chargen[..line.len()]), (1_000_000, line));
    engine.finish();
    Ok(())
}
