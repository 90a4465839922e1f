//! Room that a crowd took in a table or a queue, and that goes back when the crowd has gone.

/// There is room for so many for good.
const KEPT: usize = 512;

/// For how many there should be room, where it is to be less: with few of a crowd left, and seldom enough that each that has
/// gone pays for its part of the move.
pub(crate) fn less_room(len: usize, room: usize) -> Option<usize> {
    (room > 2 * KEPT && len < room / 8).then(|| KEPT.max(room / 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 100,000 that leave, few are moved, and hardly any room is left.
    #[test]
    fn room_goes_back_at_little_cost() {
        let mut table: std::collections::HashSet<u32> = (0..100_000).collect();
        let mut moved = 0;
        for gone in 0..100_000 {
            table.remove(&gone);
            if let Some(room) = less_room(table.len(), table.capacity()) {
                moved += table.len();
                table.shrink_to(room);
            }
        }
        assert!(table.capacity() <= 4 * KEPT, "{}", table.capacity());
        assert!(moved < 30_000, "{moved}");
        assert_eq!(less_room(0, table.capacity().min(2 * KEPT)), None);
    }
}
