//! The chunked transfer coding (RFC 9112 7.1), decoded piece by piece as it comes.
//!
//! Must not contain: connections. Nothing is kept but where in the coding we are.

/// Octets of a size line, or of all trailer lines, at most.
const LINE_MAX: u16 = 4 * 1024;

/// Where in the coding the next octet lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the digits of a size; `true`: after the first one.
    Size(bool),
    /// Between the digits and the end of their line.
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the beginning of a line behind the last chunk.
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
    End,
}

/// What lies at the front of some input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    /// Octets of the coding: skip them.
    pub(super) coding: usize,
    /// Octets of the body right behind those.
    pub(super) data: usize,
    /// The body ends here.
    pub(super) end: bool,
}

/// The input is not in the coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A decoder for one body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decoder {
    place: Place,
    /// The size read so far, then what is left of the chunk.
    left: u64,
    /// Octets of the present line, or of the trailer.
    line: u16,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { place: Place::Size(false), left: 0, line: 0 }
    }
}

impl Decoder {
    /// Reads the coding at the front of `input` up to the next octets of the body. All of `coding` counts as read; of
    /// the body only what [`Decoder::took`] is told.
    pub(super) fn next(&mut self, input: &[u8]) -> Result<Piece, Malformed> {
        let mut coding = 0;
        while self.place != Place::Data && self.place != Place::End {
            let Some(&octet) = input.get(coding) else { break };
            self.step(octet)?;
            coding += 1;
        }
        let here = (input.len() - coding) as u64;
        let data = if self.place == Place::Data { self.left.min(here) as usize } else { 0 };
        Ok(Piece { coding, data, end: self.place == Place::End })
    }

    /// So many octets of the body have been taken.
    pub(super) fn took(&mut self, octets: usize) {
        self.left = self.left.saturating_sub(octets as u64);
        if self.left == 0 && self.place == Place::Data {
            self.place = Place::DataCr;
        }
    }

    fn step(&mut self, octet: u8) -> Result<(), Malformed> {
        self.line += 1;
        if self.line > LINE_MAX {
            return Err(Malformed);
        }
        self.place = match (self.place, octet) {
            (Place::Size(_), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if self.left >> 60 != 0 {
                    return Err(Malformed);
                }
                let digit = char::from(octet).to_digit(16).ok_or(Malformed)?;
                self.left = self.left << 4 | u64::from(digit);
                Place::Size(true)
            }
            (Place::Size(true), b';' | b' ' | b'\t') => Place::Extension,
            (Place::Size(true) | Place::Extension, b'\r') => Place::SizeLf,
            (Place::Extension, octet) if octet != b'\n' => Place::Extension,
            (Place::SizeLf, b'\n') => {
                self.line = 0;
                if self.left == 0 { Place::TrailerStart } else { Place::Data }
            }
            (Place::DataCr, b'\r') => Place::DataLf,
            (Place::DataLf, b'\n') => {
                self.line = 0;
                Place::Size(false)
            }
            (Place::TrailerStart, b'\r') => Place::LastLf,
            (Place::Trailer, b'\r') => Place::TrailerLf,
            (Place::TrailerStart | Place::Trailer, octet) if octet != b'\n' => Place::Trailer,
            (Place::TrailerLf, b'\n') => Place::TrailerStart,
            (Place::LastLf, b'\n') => Place::End,
            _ => return Err(Malformed),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The body, and what is left behind it.
    fn decode(mut input: &[u8], window: usize) -> Result<(Vec<u8>, &[u8]), Malformed> {
        let (mut decoder, mut body) = (Decoder::default(), Vec::new());
        loop {
            let piece = decoder.next(&input[..input.len().min(window)])?;
            input = &input[piece.coding..];
            body.extend_from_slice(&input[..piece.data]);
            decoder.took(piece.data);
            input = &input[piece.data..];
            if piece.end || input.is_empty() {
                return if piece.end { Ok((body, input)) } else { Err(Malformed) };
            }
        }
    }

    #[test]
    fn bodies_are_the_same_however_they_are_cut() {
        let text = b"4\r\nWiki\r\n007;name=\"value\"\r\npedia i\r\nB \r\nn \r\nchunks.\r\n0\r\nExpires: now\r\nX: y\r\n\r\nGET /";
        for window in 1..text.len() {
            let (body, rest) = decode(text, window).unwrap();
            assert_eq!(body, b"Wikipedia in \r\nchunks.", "{window}");
            assert_eq!(rest, b"GET /");
        }
        assert_eq!(decode(b"0\r\n\r\n", 9).unwrap(), (vec![], &b""[..]));
    }

    #[test]
    fn what_is_not_in_the_coding_is_refused() {
        let endless = [&b"1;"[..], &[b'x'; 5000]].concat();
        for text in [
            &b"\r\n"[..],
            b"x\r\n",
            b"4\nWiki\r\n",
            b"4\r\nWikiX",
            b"4\r\nWiki\rX",
            b"-1\r\n",
            b";\r\n",
            b"0\r\n\n",
            b"10000000000000000\r\n",
            &endless,
        ] {
            for window in [1, 3, 10_000] {
                assert_eq!(decode(text, window), Err(Malformed), "{text:?}");
            }
        }
    }

    #[test]
    fn the_largest_size_is_no_overflow() {
        let mut decoder = Decoder::default();
        let piece = decoder.next(b"ffffffffffffffff\r\nabc").unwrap();
        assert_eq!(piece, Piece { coding: 18, data: 3, end: false });
    }
}
