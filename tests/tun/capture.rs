//! What tshark makes of our packets: no bad checksum, nothing malformed, nothing sent twice or out of order.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::*;

/// A capture of the device into a nameless directory's file.
struct Capture {
    child: Child,
    file: String,
}

impl Capture {
    /// Capturing, once this returns.
    fn start() -> Result<Self, String> {
        need(&["tshark"])?;
        // SAFETY: no memory is involved.
        let thread = unsafe { libc::gettid() };
        let file = std::env::temp_dir().join(format!("trust-capture-{thread}.pcapng"));
        let file = file.to_str().unwrap().to_owned();
        // 256 MB of buffer: what the machine is too busy to take at once is not lost.
        let arguments = ["-q", "-i", "trust0", "-B", "256", "-w", &file, "tcp port 7 or tcp port 19"];
        let child =
            tshark(60, &arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let capture = Self { child, file };
        // Its file has a header when it captures.
        let start = Instant::now();
        while std::fs::metadata(&capture.file).map_or(0, |m| m.len()) < 100 {
            if start.elapsed() > Duration::from_secs(20) {
                return Err(format!("tshark does not capture: {}", capture.end()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(capture)
    }

    /// Ends it; what it said.
    fn end(mut self) -> String {
        // Tell what is still in the kernel's buffer from the end of the capture.
        std::thread::sleep(Duration::from_millis(500));
        // SAFETY: the child has not been waited for, so the number is still its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGINT) };
        let mut text = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            let _ = std::io::Read::read_to_string(&mut errors, &mut text);
        }
        let _ = self.child.wait();
        text
    }

    /// Frames that a display filter finds, tshark verifying all checksums.
    fn count(file: &str, filter: &str) -> usize {
        let verify = ["-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE"];
        let fields = ["-T", "fields", "-e", "frame.number"];
        let output = tshark(90, &[&["-n", "-r", file, "-Y", filter], &verify[..], &fields].concat()).output().unwrap();
        assert!(output.status.success(), "tshark {filter:?}: {}", describe(&output));
        String::from_utf8_lossy(&output.stdout).lines().count()
    }
}

/// Without anybody's own preferences: they may change what it finds, and crash it where they cannot be read.
fn tshark(limit: u64, arguments: &[&str]) -> Command {
    let mut command = bounded(limit, "tshark", arguments);
    command.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME");
    command
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Removed(String);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const BAD_CHECKSUM: &str = "ip.checksum.status==\"Bad\" || tcp.checksum.status==\"Bad\"";

/// Echo and chargen without offload and without loss: nothing broken, nothing out of order, nothing sent again because an ACK
/// seemed to ask for it. On a machine that is short of time an ACK may come so late that the loss timer sends a segment
/// again, which is no fault.
pub(crate) fn clean() -> Outcome {
    const MOST_BY_TIMER: usize = 20;
    need(&["nc"])?;
    let engine = Engine::start(&["--offload", "off"]);
    let capture = Capture::start()?;
    let file = Removed(capture.file.clone());
    echo_exact(60, &noise(size(4_000_000, 20_000_000), 10));
    for _ in 0..20 {
        echo_exact(10, b"short");
    }
    must(20, "sh", &["-c", "nc -d 10.7.0.2 19 | head -c 1000000"]);
    let said = capture.end();
    assert!(!said.contains("dropped"), "capture drops: {said}");
    let ours = |what: &str| Capture::count(&file.0, &format!("ip.src==10.7.0.2 && ({what})"));
    let all = ours("tcp");
    assert!(all > 3_000, "only {all} packets of ours were captured: {said}");
    let broken = format!("{BAD_CHECKSUM} || _ws.malformed || tcp.analysis.lost_segment");
    assert_eq!(ours(&broken), 0, "broken packets of ours, or missing ones");
    assert_eq!(
        ours("tcp.analysis.fast_retransmission || tcp.analysis.out_of_order"),
        0,
        "sent again or late, of {all}"
    );
    let by_timer = ours("tcp.analysis.retransmission || tcp.analysis.spurious_retransmission");
    assert!(by_timer <= MOST_BY_TIMER, "{by_timer} of {all} were sent again");
    for counter in ["TcpInCsumErrors", "TcpInErrs", "IpInHdrErrors"] {
        assert_eq!(nstat(counter), 0, "{counter}");
    }
    engine.finish();
    Ok(())
}

/// The same look turns red when our packets are broken.
pub(crate) fn broken() -> Outcome {
    need(&["nc"])?;
    let engine = Engine::start(&["--offload", "off", "--impair", "tx.corrupt=0.05,seed=10"]);
    let capture = Capture::start()?;
    let file = Removed(capture.file.clone());
    echo_exact(60, &noise(1_000_000, 11));
    capture.end();
    let bad = Capture::count(&file.0, &format!("ip.src==10.7.0.2 && ({BAD_CHECKSUM})"));
    assert!(bad > 10, "{bad} bad checksums were found");
    assert!(nstat("TcpInCsumErrors") + nstat("IpInHdrErrors") > 10);
    engine.finish();
    Ok(())
}
