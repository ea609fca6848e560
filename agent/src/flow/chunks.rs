//! Storage that grows by chunks: what is stored never moves, so growing copies nothing.

/// Elements in a chunk.
const CHUNK: usize = 4096;

/// Elements by position, from 0 on.
#[derive(Debug)]
pub(super) struct Chunks<T> {
    /// Every one but the last is full; none is longer than [`CHUNK`].
    chunks: Vec<Vec<T>>,
}

impl<T> Chunks<T> {
    pub(super) fn get(&self, position: u32) -> Option<&T> {
        let position = position as usize;
        self.chunks.get(position / CHUNK)?.get(position % CHUNK)
    }

    pub(super) fn get_mut(&mut self, position: u32) -> Option<&mut T> {
        let position = position as usize;
        self.chunks.get_mut(position / CHUNK)?.get_mut(position % CHUNK)
    }

    /// Appends an element and returns its position.
    pub(super) fn push(&mut self, value: T) -> u32 {
        let position = self.len();
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(value),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(value);
                self.chunks.push(chunk);
            }
        }
        position
    }

    pub(super) fn len(&self) -> u32 {
        let last = self.chunks.last().map_or(0, Vec::len);
        let length = self.chunks.len().saturating_sub(1) * CHUNK + last;
        u32::try_from(length).unwrap_or(u32::MAX)
    }

    /// Bytes allocated.
    pub(super) fn memory(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<T>() + self.chunks.capacity() * size_of::<Vec<T>>()
    }
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_position_over_the_borders_of_chunks() {
        let mut chunks = Chunks::default();
        for n in 0..10_000u32 {
            assert_eq!(chunks.push(n), n);
        }
        assert_eq!(chunks.len(), 10_000);
        assert!((0..10_000).all(|n| chunks.get(n) == Some(&n)));
        assert_eq!(chunks.get(10_000), None);
        assert_eq!(chunks.get(u32::MAX), None);
        *chunks.get_mut(4096).unwrap() = 7;
        assert_eq!(chunks.get(4096), Some(&7));
    }

    #[test]
    fn growing_moves_nothing() {
        let mut chunks = Chunks::default();
        chunks.push([0u64; 4]);
        let before: *const _ = chunks.get(0).unwrap();
        for n in 0..100_000 {
            chunks.push([n; 4]);
        }
        assert!(std::ptr::eq(before, chunks.get(0).unwrap()));
        assert!(chunks.memory() < 32 * (100_000 + 2 * CHUNK));
    }
}
