//! The Internet checksum (RFC 1071; MUST-2, MUST-3), for buffers in one piece and in several.
//!
//! A *partial sum* is a `u32` that means "some octets, added as 16-bit big-endian words in one's complement". Partial
//! sums are folded to 16 bits by [`sum`] and [`pseudo_header`], so a few dozen of them can be added with `+` before
//! [`fold`]. No header layout but the pseudo-header's is known here.

use std::net::IpAddr;

/// Octets that are added up before a 32-bit counter could overflow: 65,536 words of at most 0xffff each.
const BLOCK: usize = 4 * 65_536;

/// Partial sum of `data`, an odd last octet padded with zero on the right (RFC 1071, MUST-2). At most 0xffff.
///
/// The words are added in the byte order of the machine and swapped once at the end: one's complement addition does
/// not care (RFC 1071 section 2B). Two 16-bit words are read at a time, and the low and the high ones counted apart:
/// with no carry to pass on, the compiler does the loop in 32-bit lanes of vector registers.
#[inline]
#[must_use]
pub fn sum(data: &[u8]) -> u32 {
    #[cfg(test)]
    SUMMED.set(SUMMED.get() + data.len());
    let mut total: u64 = 0;
    for block in data.chunks(BLOCK) {
        let (words, rest) = block.as_chunks::<4>();
        let (mut low, mut high) = (0u32, 0u32);
        for word in words {
            // Never wraps (BLOCK); said so that no overflow check stands in the way of vectors in any profile.
            let word = u32::from_ne_bytes(*word);
            low = low.wrapping_add(word & 0xffff);
            high = high.wrapping_add(word >> 16);
        }
        total += u64::from(low) + u64::from(high);
        // Only the last block can have a rest, or be odd.
        let (pairs, last) = rest.as_chunks::<2>();
        for pair in pairs {
            total += u64::from(u16::from_ne_bytes(*pair));
        }
        if let [last] = last {
            total += u64::from(u16::from_ne_bytes([*last, 0]));
        }
    }
    u32::from(u16::from_be(fold64(total)))
}

#[cfg(test)]
thread_local! {
    /// Octets that this thread has summed.
    pub(crate) static SUMMED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Adds two partial sums. `odd` says that the octets of `b` begin at an odd offset from those of `a`, in which case
/// their bytes stand in the other half of the 16-bit words (RFC 1071 section 2B).
#[inline]
#[must_use]
pub fn combine(a: u32, b: u32, odd: bool) -> u32 {
    let b = fold(b);
    u32::from(fold(a)) + u32::from(if odd { b.swap_bytes() } else { b })
}

/// Whether an IPv4 header without options, which is not all zeros, has the right checksum: five additions, and whether
/// the sum is a multiple of 0xffff (RFC 1071 section 1).
#[inline]
#[must_use]
pub fn is_right_of_20(header: &[u8; 20]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    let total: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    total != 0 && total.is_multiple_of(0xffff)
}

/// The checksum field's value for octets that are given as 32-bit words, their numbers in host order.
#[inline]
#[must_use]
pub fn finish_words(words: &[u32]) -> u16 {
    !fold_words(words)
}

/// The folded partial sum of such octets.
#[inline]
#[must_use]
pub(super) fn fold_words(words: &[u32]) -> u16 {
    fold64(words.iter().map(|word| u64::from(*word)).sum())
}

/// Folds a partial sum to 16 bits, **not** complemented: what a device that completes checksums wants to find in the
/// checksum field, and 0xffff for any region that includes a right checksum.
#[inline]
#[must_use]
pub fn fold(sum: u32) -> u16 {
    fold64(u64::from(sum))
}

/// The checksum field's value for a partial sum: folded and complemented.
#[inline]
#[must_use]
pub fn finish(sum: u32) -> u16 {
    !fold(sum)
}

#[inline]
fn fold64(mut sum: u64) -> u16 {
    // Four rounds reach a fixed point from any u64: 64 -> 33 -> 18 -> 17 -> 16 bits.
    sum = (sum >> 32) + (sum & 0xffff_ffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

/// Partial sum of the pseudo-header: 12 octets for IPv4, 40 with a 32-bit length for IPv6 (MUST-2, IP-14). `len` is
/// the length of the upper-layer header and payload in octets.
///
/// Addresses of two families (which no packet has) are both taken as they are; the sum is then meaningless but defined.
#[inline]
#[must_use]
pub fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> u32 {
    let len = len as u32;
    u32::from(fold(address(src) + address(dst) + u32::from(protocol) + (len >> 16) + (len & 0xffff)))
}

#[inline]
fn address(addr: IpAddr) -> u32 {
    match addr {
        IpAddr::V4(a) => {
            let [a, b, c, d] = a.octets();
            u32::from(u16::from_be_bytes([a, b])) + u32::from(u16::from_be_bytes([c, d]))
        }
        IpAddr::V6(a) => a.segments().iter().map(|&s| u32::from(s)).sum(),
    }
}

/// Sums a packet that lies in several pieces of any length, keeping track of odd boundaries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accumulator {
    sum: u32,
    odd: bool,
}

impl Accumulator {
    /// Starts from a partial sum, for example a pseudo-header's.
    #[must_use]
    pub fn new(sum: u32) -> Self {
        Self { sum, odd: false }
    }

    /// Adds the next piece.
    #[inline]
    pub fn push(&mut self, piece: &[u8]) {
        self.sum = combine(self.sum, sum(piece), self.odd);
        self.odd ^= piece.len() % 2 == 1;
    }

    /// The partial sum of everything pushed.
    #[must_use]
    pub fn sum(&self) -> u32 {
        self.sum
    }
}

/// Does in software what a device does for `TxChecksum::Partial`: sums everything from `start` (in `header`, to its
/// end, then the payload pieces), where the field at `start + offset` already holds the folded pseudo-header sum, and
/// writes the result there. Returns `false`, with nothing changed, when the field lies outside `header`.
pub fn complete(header: &mut [u8], payload: &[&[u8]], start: u16, offset: u16) -> bool {
    let start = usize::from(start);
    let field = start + usize::from(offset);
    if field + 2 > header.len() {
        return false;
    }
    let mut sum = Accumulator::default();
    sum.push(&header[start..]);
    for piece in payload {
        sum.push(piece);
    }
    header[field..field + 2].copy_from_slice(&finish(sum.sum()).to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use etherparse::checksum::u64_16bit_word;
    use proptest::prelude::*;

    /// etherparse's value, complemented and in big-endian meaning.
    fn reference(data: &[u8]) -> u16 {
        u64_16bit_word::ones_complement(u64_16bit_word::add_slice(0, data)).to_be()
    }

    #[test]
    fn rfc1071_example() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&data)), 0xddf2);
        assert_eq!(sum(&[]), 0);
        assert_eq!(sum(&[0xab]), 0xab00, "MUST-2: an odd octet is padded on the right");
    }

    #[test]
    fn lanes_do_not_overflow() {
        for len in [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 31] {
            let data = vec![0xff; len];
            assert_eq!(finish(sum(&data)), reference(&data), "{len}");
        }
    }

    proptest! {
        #[test]
        fn five_additions_tell_whether_the_sum_is_right(mut data in any::<[u8; 20]>()) {
            prop_assert_eq!(is_right_of_20(&data), sum(&data) == 0xffff);
            data[10..12].fill(0);
            data[0] |= 1;
            let right = finish(sum(&data));
            data[10..12].copy_from_slice(&right.to_be_bytes());
            prop_assert!(is_right_of_20(&data));
            data[10..12].copy_from_slice(&(!right).to_be_bytes());
            prop_assert_eq!(is_right_of_20(&data), sum(&data) == 0xffff);
        }

        #[test]
        fn words_are_four_octets(words in any::<[u32; 5]>()) {
            let octets: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            prop_assert_eq!(finish_words(&words), finish(sum(&octets)));
        }
    }

    #[test]
    fn carries_of_five_additions() {
        assert!(is_right_of_20(&[0xff; 20]) && !is_right_of_20(&[0; 20]));
    }

    #[test]
    fn pseudo_headers() {
        let v4 = |a: [u8; 4]| IpAddr::from(a);
        let bytes = [192, 168, 0, 1, 10, 255, 3, 9, 0, 6, 0x12, 0x34];
        assert_eq!(pseudo_header(v4([192, 168, 0, 1]), v4([10, 255, 3, 9]), 6, 0x1234), sum(&bytes));
        let (a, b): ([u8; 16], [u8; 16]) = (std::array::from_fn(|i| i as u8 * 17), [0xfe; 16]);
        let mut bytes = [a, b].concat();
        bytes.extend_from_slice(&[0, 1, 2, 3, 0, 0, 0, 6]);
        assert_eq!(pseudo_header(a.into(), b.into(), 6, 0x010203), sum(&bytes));
    }

    proptest! {
        #[test]
        fn equals_etherparse(data in proptest::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(finish(sum(&data)), reference(&data));
        }

        #[test]
        fn pieces_equal_the_whole(data in proptest::collection::vec(any::<u8>(), 0..400), cuts in proptest::collection::vec(0usize..400, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(data.len())).collect();
            cuts.sort_unstable();
            let mut acc = Accumulator::new(0);
            let mut from = 0;
            for cut in cuts.into_iter().chain([data.len()]) {
                acc.push(&data[from..cut]);
                from = cut;
            }
            prop_assert_eq!(finish(acc.sum()), reference(&data));
        }

        #[test]
        fn completed_like_a_device(header in proptest::collection::vec(any::<u8>(), 40..80), a in proptest::collection::vec(any::<u8>(), 0..50), b in proptest::collection::vec(any::<u8>(), 0..50)) {
            let mut done = header.clone();
            prop_assert!(complete(&mut done, &[&a, &b], 20, 16));
            let mut whole = header[20..].to_vec();
            whole.extend_from_slice(&a);
            whole.extend_from_slice(&b);
            prop_assert_eq!(u16::from_be_bytes([done[36], done[37]]), reference(&whole));
            prop_assert!(!complete(&mut done[..37], &[], 20, 16));
        }
    }
}
