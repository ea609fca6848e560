//! SHA-1 of one message that fits into a block (RFC 3174), for names, not for secrets.

/// A message with room for its end: at most 55 bytes fit.
pub(super) struct Block {
    pub(super) bytes: [u8; 64],
    length: u8,
}

impl Block {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; 64], length: 0 }
    }

    /// Appends what fits.
    #[inline(always)]
    pub(super) fn put<const N: usize>(&mut self, piece: [u8; N]) {
        let start = usize::from(self.length);
        if let Some(place) = self.bytes.get_mut(start..start + N) {
            place.copy_from_slice(&piece);
            self.length += N as u8;
        }
    }

    /// Says that this was all.
    #[inline(always)]
    pub(super) fn end(&mut self) {
        let bits = u16::from(self.length) * 8;
        self.put([0x80]);
        if let Some(place) = self.bytes.last_chunk_mut() {
            *place = bits.to_be_bytes();
        }
    }

    /// The digest of a message that has its end.
    pub(super) fn digest(&self) -> [u8; 20] {
        compress(&self.bytes)
    }
}

pub(super) const START: [u32; 5] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0];

pub(super) const CONSTANTS: [u32; 4] = [0x5A82_7999, 0x6ED9_EBA1, 0x8F1B_BCDC, 0xCA62_C1D6];

#[expect(
    clippy::indexing_slicing,
    reason = "fixed places in arrays of fixed size; nothing is checked at run time"
)]
fn compress(block: &[u8; 64]) -> [u8; 20] {
    let mut words = schedule(block);
    // Together with the constants, so that the rounds have less to do one after the other.
    for (word, round) in words.iter_mut().zip(0..) {
        *word = word.wrapping_add(CONSTANTS[round / 20]);
    }
    let [first, second, third, fourth] = [0, 20, 40, 60].map(|at| words[at..].first_chunk::<20>());
    let mut state = START;
    if let (Some(first), Some(second), Some(third), Some(fourth)) = (first, second, third, fourth) {
        rounds(&mut state, first, |b, c, d| d ^ (b & (c ^ d)));
        rounds(&mut state, second, |b, c, d| b ^ c ^ d);
        rounds(&mut state, third, |b, c, d| (b & c).wrapping_add((b ^ c) & d));
        rounds(&mut state, fourth, |b, c, d| b ^ c ^ d);
    }
    let mut digest = [0; 20];
    let sums = state.iter().zip(START).map(|(word, start)| word.wrapping_add(start));
    for (place, sum) in digest.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
        *place = sum.to_be_bytes();
    }
    digest
}

/// The words of all rounds.
#[expect(
    clippy::indexing_slicing,
    reason = "fixed places in arrays of fixed size; nothing is checked at run time"
)]
fn schedule(block: &[u8; 64]) -> [u32; 80] {
    let mut words = [0u32; 80];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    for at in 16..32 {
        words[at] = (words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16]).rotate_left(1);
    }
    // The same recurrence applied to itself: it reaches back far enough to do four words at once.
    for at in (32..80).step_by(4) {
        let four: [u32; 4] = std::array::from_fn(|lane| {
            let at = at + lane;
            (words[at - 6] ^ words[at - 16] ^ words[at - 28] ^ words[at - 32]).rotate_left(2)
        });
        words[at..at + 4].copy_from_slice(&four);
    }
    words
}

/// Twenty rounds with the same function, five at a time: then every word of the state is in its place again.
#[inline(always)]
fn rounds(state: &mut [u32; 5], words: &[u32; 20], mix: impl Fn(u32, u32, u32) -> u32) {
    let [mut a, mut b, mut c, mut d, mut e] = *state;
    let step = |a: u32, b: &mut u32, c: u32, d: u32, e: &mut u32, word: u32| {
        *e = e.wrapping_add(word).wrapping_add(mix(*b, c, d)).wrapping_add(a.rotate_left(5));
        *b = b.rotate_left(30);
    };
    for [v, w, x, y, z] in words.as_chunks::<5>().0 {
        step(a, &mut b, c, d, &mut e, *v);
        step(e, &mut a, b, c, &mut d, *w);
        step(d, &mut e, a, b, &mut c, *x);
        step(c, &mut d, e, a, &mut b, *y);
        step(b, &mut c, d, e, &mut a, *z);
    }
    *state = [a, b, c, d, e];
}

/// How many messages are hashed at once.
pub(super) const TOGETHER: usize = 8;

/// The digests of that many of the messages, each with its end; of further ones something else.
pub(super) fn digests(blocks: &[Block; TOGETHER], count: usize) -> [[u8; 20]; TOGETHER] {
    #[cfg(target_arch = "x86_64")]
    if count > 1 {
        return super::sha1_lanes::digests(blocks, count);
    }
    let mut digests = [[0; 20]; TOGETHER];
    for (digest, block) in digests.iter_mut().zip(blocks).take(count) {
        *digest = block.digest();
    }
    digests
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> String {
        let mut block = Block::new();
        text.bytes().for_each(|byte| block.put([byte]));
        block.end();
        block.digest().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// RFC 3174, section 7.3, and FIPS 180 examples.
    #[test]
    fn the_published_digests_come_out() {
        assert_eq!(digest("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(digest(""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        let text = "The quick brown fox jumps over the lazy dog";
        assert_eq!(digest(text), "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12");
    }

    #[test]
    fn several_messages_at_once_have_the_digests_that_each_has_alone() {
        for seed in 0..64u8 {
            let blocks: [Block; TOGETHER] = std::array::from_fn(|lane| {
                let mut block = Block::new();
                (0..seed % 56).for_each(|at| block.put([seed.wrapping_mul(at) ^ lane as u8]));
                block.end();
                block
            });
            for count in 0..=TOGETHER {
                let alone = blocks.iter().take(count).map(Block::digest);
                assert!(digests(&blocks, count).into_iter().take(count).eq(alone), "{count}");
            }
        }
    }
}
