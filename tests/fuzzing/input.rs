//! A string of octets read as a script: what is wanted is taken from its front, and when it is used up zeros follow.

/// What is left of the script.
#[derive(Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn octet(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.octet(), self.octet()])
    }

    pub fn long(&mut self) -> u32 {
        u32::from(self.word()) << 16 | u32::from(self.word())
    }

    /// As many octets as the next one says, at most what is there.
    pub fn slice(&mut self) -> &'a [u8] {
        let len = usize::from(self.octet()).min(self.rest.len());
        let (slice, rest) = self.rest.split_at(len);
        self.rest = rest;
        slice
    }

    /// One of a list.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::from(self.octet()) % list.len()]
    }

    /// An offset to a number that was right: mostly nothing or little, sometimes anything.
    pub fn offset(&mut self) -> u32 {
        match self.octet() {
            0..=127 => 0,
            small @ 128..=191 => u32::from(small).wrapping_sub(160),
            192..=223 => u32::from(self.word()),
            224..=247 => u32::from(self.word()).wrapping_neg(),
            _ => self.long(),
        }
    }
}
