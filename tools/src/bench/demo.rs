//! One minute for a newcomer: the same four things done with stock programs, once on the engine, once on the kernel's
//! TCP, each command shown as it runs, ratios at the end. A single run each: an impression, not a measurement.

use super::plan::{Conditions, Contestant, Kind};
use super::{Programs, Side, iperf3, machine, number, run_json, table::aligned};
use crate::sys;
use std::io;
use std::time::{Duration, Instant};

const IPERF_SECONDS: u64 = 5;

/// A line of the closing table.
struct Line {
    what: &'static str,
    unit: &'static str,
    /// Whether a greater value is the better one.
    rate: bool,
    values: [Option<f64>; 2],
}

fn ping(side: &Side) -> io::Result<f64> {
    let mut command = side.client("ping");
    command.args(["-q", "-c", "5", "-i", "0.2", "-W", "2", side.address]);
    let output = sys::run(&mut command, Duration::from_secs(15))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // "rtt min/avg/max/mdev = 0.024/0.031/0.040/0.006 ms"
    let average = text.lines().find(|l| l.starts_with("rtt ")).and_then(|l| l.split(" = ").nth(1)?.split('/').nth(1));
    let average = average.and_then(|ms| ms.parse::<f64>().ok());
    average.map(|ms| ms * 1e3).ok_or_else(|| io::Error::other("ping printed no average"))
}

fn clients(side: &Side, programs: &Programs, count: usize, bytes: usize) -> io::Result<f64> {
    let mut command = side.client(&programs.tool("nc-load"));
    command.args([side.address, "7", &count.to_string(), &bytes.to_string(), "--json", "--timeout", "20"]);
    Ok(number(&run_json(&mut command, Duration::from_secs(30))?, "/wall_s")? * 1e3)
}

/// Runs the demonstration and prints it. Returns whether everything succeeded.
///
/// # Errors
/// A side could not be set up at all.
pub fn demo(programs: &Programs) -> io::Result<bool> {
    let cpus = sys::usable_cpus();
    let (client_cpu, server_cpu) = (cpus[0], cpus[cpus.len() - 1]);
    let conditions = Conditions { congestion: None, ..Conditions::usual() };
    println!(
        "{}\nAbout 40 seconds: stock programs against the engine, then against the kernel's TCP over veth.",
        machine()
    );
    let began = Instant::now();
    let rate = |what, unit| Line { what, unit, rate: true, values: [None; 2] };
    let time = |what, unit| Line { what, unit, rate: false, values: [None; 2] };
    let mut lines = [
        time("ping, average", "us"),
        time("1 nc client, 1 MB echoed exactly", "ms"),
        rate("iperf3 to the server", "Gbit/s"),
        rate("iperf3 from the server (-R)", "Gbit/s"),
        time("100 nc clients at once, 100 KB each, exact", "ms"),
    ];
    let mut fine = true;
    let sides = [Contestant::new("trust", Kind::Engine(Vec::new())), Contestant::new("kernel", Kind::Kernel)];
    for (index, contestant) in sides.iter().enumerate() {
        println!("\n-- {} --", contestant.name);
        let side = Side::start(contestant, programs, &conditions, server_cpu)?;
        let address = side.address;
        let mut run = |line: usize, shown: String, result: &dyn Fn() -> io::Result<f64>| {
            println!("$ {shown}");
            match result() {
                Ok(value) => {
                    println!("    {value:.2} {}", lines[line].unit);
                    lines[line].values[index] = Some(value);
                }
                Err(e) => {
                    println!("    failed: {e}");
                    fine = false;
                }
            }
        };
        run(0, format!("ping -c 5 {address}"), &|| ping(&side));
        run(1, format!("nc -N {address} 7 < megabyte | cmp - megabyte"), &|| clients(&side, programs, 1, 1_000_000));
        let shown = format!("iperf3 -c {address} -t {IPERF_SECONDS}");
        run(2, shown.clone(), &|| iperf3(&side, IPERF_SECONDS, 1, false, Some(client_cpu)));
        run(3, format!("{shown} -R"), &|| iperf3(&side, IPERF_SECONDS, 1, true, Some(client_cpu)));
        run(4, format!("nc-load {address} 7 100 100000"), &|| clients(&side, programs, 100, 100_000));
    }
    let head = ["", "unit", "trust", "kernel", "trust is"].map(str::to_string).to_vec();
    let mut table = vec![head];
    for line in &lines {
        let text = |value: Option<f64>| value.map_or_else(|| "failed".to_string(), |v| format!("{v:.2}"));
        let ratio = match line.values {
            [Some(ours), Some(kernel)] if ours > 0.0 && kernel > 0.0 => {
                let better = if line.rate { ours / kernel } else { kernel / ours };
                format!("{better:.2} times as fast")
            }
            _ => "-".to_string(),
        };
        table.push(vec![
            line.what.to_string(),
            line.unit.to_string(),
            text(line.values[0]),
            text(line.values[1]),
            ratio,
        ]);
    }
    println!();
    print!("{}", aligned(&table));
    println!(
        "\nOne run each, {:.0} s in all; ./run.sh bench measures. Nothing is left running.",
        began.elapsed().as_secs_f64()
    );
    Ok(fine)
}
