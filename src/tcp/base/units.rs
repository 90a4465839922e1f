//! Bounds and clocks that more than one file needs, each in one place.

/// The largest window, of either side, in octets (RFC7323-2.3b).
pub const LARGEST_WINDOW: u32 = 1 << 30;

/// The smallest buffer, octets.
pub const SMALLEST_BUFFER: u32 = 256;

/// A buffer of so many octets, as far as it may be had.
#[must_use]
pub fn buffer_within_bounds(octets: u32) -> u32 {
    octets.clamp(SMALLEST_BUFFER, LARGEST_WINDOW)
}

/// A window field as on the wire (SEG.WND), not scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnscaledWindow(pub u16);

impl UnscaledWindow {
    /// What it stands for where it is not scaled: on a SYN, and where scaling was not negotiated (RFC7323-2.2c).
    #[must_use]
    #[inline]
    pub const fn octets(self) -> u32 {
        self.0 as u32
    }
}

/// How far a window field is shifted (RFC 7323 2): at most 14 (RFC7323-2.3b).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowScale(u8);

impl WindowScale {
    /// Not at all.
    pub const NONE: Self = Self(0);

    /// By `shift`, of which more than 14 means 14.
    #[must_use]
    pub const fn new(shift: u8) -> Self {
        Self(if shift < 14 { shift } else { 14 })
    }

    /// The smallest that lets the field express a buffer of so many octets (OPS-17).
    #[must_use]
    pub const fn for_buffer(largest: u32) -> Self {
        let mut shift = 0;
        while shift < 14 && (largest >> shift) > 65_535 {
            shift += 1;
        }
        Self(shift)
    }

    /// The shift.
    #[must_use]
    pub const fn shift(self) -> u8 {
        self.0
    }

    /// The octets that a window field stands for.
    #[must_use]
    #[inline]
    pub const fn scaled(self, field: UnscaledWindow) -> u32 {
        field.octets() << self.0
    }

    /// The field for a window of so many octets, as far as it reaches.
    #[must_use]
    #[inline]
    pub const fn field(self, octets: u32) -> UnscaledWindow {
        let field = octets >> self.0;
        UnscaledWindow(if field < 65_535 { field as u16 } else { 65_535 })
    }
}
