//! The MTU of the device is changed while connections are open (`ip link set trust0 mtu ...`): they follow, in both
//! directions, and so do new ones.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use trust::device::kernel_has_ipv6;

use crate::fragments::Raw;
use crate::hostile::Transfer;
use crate::support::*;

const TRUST: &str = env!("CARGO_BIN_EXE_trust");

fn set(mtu: u16) {
    must(5, "ip", &["link", "set", "trust0", "mtu", &mtu.to_string()]);
}

/// The engine's connections: the peer's port, the size of its segments with all headers, and that of what it asks for.
fn sizes(control: &str) -> Vec<(u64, [u64; 2])> {
    let said = must(10, TRUST, &["ss", "--control", control, "--json"]);
    let sockets = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let open = sockets.filter(|socket| socket["info"].is_object() && socket["state"] == "ESTAB");
    open.map(|socket| {
        let headers = if socket["local"].as_str().unwrap().contains("fd00") { 72 } else { 52 };
        let size = |name: &str| socket["info"][name].as_u64().unwrap() + headers;
        let port = socket["peer"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
        (port, [size("mss"), size("receive_mss")])
    })
    .collect()
}

/// Opens a connection, has it closed again, and gives what it was like.
fn new_one(control: &str, address: IpAddr) -> [u64; 2] {
    let mut stream = TcpStream::connect((address, 7)).unwrap();
    stream.write_all(b"here").unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    let port = u64::from(stream.local_addr().unwrap().port());
    sizes(control).into_iter().find(|(other, _)| *other == port).unwrap().1
}

/// The longest packet on the device, either way, for a while.
fn longest() -> Result<usize, String> {
    let (raw, start, mut longest) = (Raw::both_ways()?, Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(300) {
        match raw.hear() {
            Some((_, len)) => longest = longest.max(len),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    Ok(longest)
}

pub(crate) fn changes() -> Outcome {
    need(&["ip"])?;
    for (index, arguments) in
        [&["--plan", "fused"][..], &["--plan", "pipeline", "--offload", "off"], &["--device", "tun-tap"]]
            .iter()
            .enumerate()
    {
        let path = std::env::temp_dir().join(format!("trust-mtu-{}-{index}", std::process::id()));
        let control = path.to_str().unwrap();
        let engine = Engine::start(&[&["--control", control], *arguments].concat());
        let mut addresses = vec![IpAddr::V4(ENGINE)];
        if kernel_has_ipv6() {
            addresses.push("fd00:7::2".parse().unwrap());
        }
        let transfers: Vec<_> = addresses.iter().map(|address| Transfer::start(*address)).collect();
        assert!(sizes(control).iter().all(|(_, sizes)| *sizes == [1_500; 2]), "{:?}", sizes(control));
        // None of these segments is cut or joined by anybody else.
        let plain = arguments.contains(&"off") && arguments.contains(&"--offload") || arguments.contains(&"tun-tap");
        for mtu in [1_400, 1_300, 1_500] {
            set(mtu);
            let all = |sizes: &[(u64, [u64; 2])]| {
                sizes.len() == transfers.len() && sizes.iter().all(|(_, [sends, _])| *sends == u64::from(mtu))
            };
            eventually(Duration::from_secs(10), &format!("{arguments:?}: segments of {mtu}"), || all(&sizes(control)));
            for address in &addresses {
                assert_eq!(new_one(control, *address), [u64::from(mtu); 2], "{arguments:?} {address}");
            }
            if plain {
                // What was queued before has left by now; the device is busy with full segments.
                std::thread::sleep(Duration::from_millis(300));
                assert_eq!(longest()?, usize::from(mtu), "{arguments:?}");
            }
        }
        for transfer in transfers {
            let before = transfer.octets();
            eventually(Duration::from_secs(20), "the transfer goes on", || transfer.octets() > before);
            assert_eq!(transfer.end(), Ok(()), "{arguments:?}");
        }
        // Nobody does anything: it is noticed all the same.
        set(1_350);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(new_one(control, addresses[0]), [1_350; 2], "{arguments:?}");
        drop(engine.finish());
    }
    Ok(())
}
