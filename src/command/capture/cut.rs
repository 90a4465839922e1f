//! Super-segments, cut into the segments that a wire would carry: what a device with segmentation offload does.

use trust::device::segment::{self, Shape};

use super::super::control::packets::Packet;

/// The segments of a super-segment, each with what was kept of it. One whose headers are not all there is given back as
/// it is.
pub(super) fn cut(packet: &Packet) -> Vec<Packet> {
    let (gso_size, octets) = (packet.sight.gso_size, &packet.octets);
    let payload = |shape: &Shape| (packet.sight.len as usize).checked_sub(shape.header_len);
    let Some((shape, payload)) = Shape::of(octets).and_then(|shape| Some((shape, payload(&shape)?))) else {
        return vec![packet.clone()];
    };
    let segments = 0..segment::count(payload, gso_size);
    let cut_one = |index: usize| {
        let mut octets = vec![0; shape.header_len];
        let range = segment::cut_header(&packet.octets, &shape, payload, gso_size, index..index + 1, &mut octets);
        let kept = &packet.octets[shape.header_len..];
        octets.extend_from_slice(&kept[range.start.min(kept.len())..range.end.min(kept.len())]);
        let mut sight = packet.sight;
        (sight.len, sight.kept) = ((shape.header_len + range.len()) as u32, octets.len() as u32);
        (sight.gso_size, sight.checksum_start) = (0, shape.ip_len as u16);
        if index > 0 {
            sight.missed = 0;
        }
        Packet { shard: packet.shard, sight, octets }
    };
    segments.map(cut_one).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use trust::shard::tap::Sight;

    use super::*;

    /// A packet of so many octets of payload, of which so many octets are kept.
    fn packet(payload: usize, kept: usize) -> Packet {
        let mut octets = vec![0; 20];
        octets[0] = 0x45;
        octets[9] = 6;
        octets.extend([0, 80, 0, 81, 0xff, 0xff, 0xff, 0x00, 0, 0, 0, 1, 0x50, 0x19, 1, 0, 0, 0, 0, 0]);
        octets.extend((0..payload).map(|index| index as u8));
        let len = octets.len();
        octets.truncate(kept);
        let sight = Sight { len: len as u32, kept: octets.len() as u32, gso_size: 100, missed: 3, ..Sight::default() };
        Packet { shard: 1, sight, octets }
    }

    #[test]
    fn segments_follow_each_other_as_on_a_wire() {
        let segments = cut(&packet(250, 1_000));
        assert_eq!(segments.len(), 3);
        let mut stream = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            let octets = &segment.octets;
            assert_eq!(octets.len(), segment.sight.len as usize);
            assert_eq!(usize::from(octets[2]) << 8 | usize::from(octets[3]), octets.len());
            let seq = u32::from_be_bytes([octets[24], octets[25], octets[26], octets[27]]);
            assert_eq!(seq, 0xffff_ff00_u32.wrapping_add(100 * index as u32));
            assert_eq!(octets[33], if index == 2 { 0x19 } else { 0x10 }, "PSH and FIN are the last one's");
            assert_eq!(segment.sight.missed, if index == 0 { 3 } else { 0 });
            stream.extend_from_slice(&octets[40..]);
        }
        assert_eq!(stream, (0..250).map(|index| index as u8).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_not_kept_is_not_made_up() {
        let segments = cut(&packet(250, 40 + 130));
        let kept: Vec<_> = segments.iter().map(|segment| (segment.sight.len, segment.octets.len())).collect();
        assert_eq!(kept, [(140, 140), (140, 70), (90, 40)]);
        for kept in [0, 10, 30, 39] {
            let packet = packet(250, kept);
            assert_eq!(cut(&packet), [packet]);
        }
    }
}
