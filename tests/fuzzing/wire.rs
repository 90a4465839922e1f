//! The parsers, one after the other over the same octets: nothing panics, and what was read is written back the same.

use trust::services::iperf3::protocol::{BlobReader, PARAMS_MAX, Params, results_acceptable};
use trust::wire::options::TcpOptions;
use trust::wire::{self, PROTOCOL_TCP, icmp, ip, tcp, vnet};

/// Reads `data` as everything that comes from outside.
///
/// # Panics
///
/// When something is wrong.
pub fn run(data: &[u8]) {
    for trusted in [false, true] {
        let Ok(packet) = ip::parse(data, !trusted) else { continue };
        assert!(packet.header.len() + packet.payload.len() <= data.len());
        let _ = icmp::parse_error(&packet, trusted);
        if packet.protocol == PROTOCOL_TCP {
            let _ = tcp::parse(packet.payload, packet.src, packet.dst, trusted);
        }
        let mut copy = data.to_vec();
        if let Ok(Some(reply)) = icmp::echo_reply(&mut copy, trusted) {
            let reply = ip::parse(&copy[reply], true).expect("a reply is sound");
            assert_eq!((reply.src, reply.dst), (packet.dst, packet.src));
        }
    }
    segment(data);
    if let Ok(options) = TcpOptions::parse(&data[..data.len().min(40)]) {
        let mut out = [0; 40];
        let len = options.write(&mut out);
        assert_eq!(len, options.wire_len());
        let again = TcpOptions::parse(&out[..len]).expect("what we write is sound");
        if options.sack.len() == again.sack.len() {
            assert_eq!(again, options);
        }
    }
    if let Some(header) = data.first_chunk() {
        let _ = vnet::decode(header);
    }
    let mut reader = BlobReader::new(PARAMS_MAX);
    let (used, _) = reader.feed(data);
    assert!(used <= data.len());
    if let Ok(params) = Params::parse(data) {
        assert!(params.len > 0 && (1..=128).contains(&params.parallel));
    }
    let _ = results_acceptable(data);
}

/// A segment whatever its checksum: what is read of it is written back and read again.
fn segment(data: &[u8]) {
    let (src, dst) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let Ok((header, payload)) = tcp::parse(data, src, dst, true) else { return };
    let len = tcp::header_len(&header);
    let mut out = vec![0; len];
    tcp::write(&header, &mut out);
    tcp::set_checksum(&mut out, src, dst, &[payload]);
    out.extend_from_slice(payload);
    let (again, rest) = tcp::parse(&out, src, dst, false).expect("what we write is sound");
    assert_eq!(rest, payload);
    if again.options.sack.len() == header.options.sack.len() {
        assert_eq!((again.seq, again.ack, again.window), (header.seq, header.ack, header.window));
        assert_eq!(again.options, header.options);
    }
    let _ = wire::checksum::sum(data);
}
