//! SHA-1 of four blocks at once, each in its lane of the vectors of SSE2, which every x86-64 has.
#![expect(
    unsafe_code,
    reason = "instructions of the processor's own; the compiler makes no vectors of it by itself"
)]

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_and_si128, _mm_cvtsi128_si32, _mm_or_si128, _mm_set_epi32, _mm_set1_epi32,
    _mm_shuffle_epi32, _mm_slli_epi32, _mm_srli_epi32, _mm_xor_si128,
};

use super::sha1::{CONSTANTS, START, TOGETHER};

/// The same word of all messages.
type Lanes = __m128i;

/// The digests of four messages, each with its end.
pub(super) fn digests(blocks: &[[u8; 64]; TOGETHER]) -> [[u8; 20]; TOGETHER] {
    // SAFETY: SSE2 is part of x86-64. Nothing here takes a pointer.
    let state = unsafe { compress(blocks) };
    let mut digests = [[0; 20]; TOGETHER];
    for (at, words) in state.iter().enumerate() {
        for (digest, word) in digests.iter_mut().zip(words) {
            if let Some(place) = digest.as_chunks_mut::<4>().0.get_mut(at) {
                *place = word.to_be_bytes();
            }
        }
    }
    digests
}

#[target_feature(enable = "sse2")]
fn compress(blocks: &[[u8; 64]; TOGETHER]) -> [[u32; TOGETHER]; 5] {
    let start = START.map(|word| _mm_set1_epi32(word.cast_signed()));
    let mut state = start;
    let words = schedule(blocks);
    for (twenty, (words, constant)) in words.as_chunks::<20>().0.iter().zip(CONSTANTS).enumerate() {
        let constant = _mm_set1_epi32(constant.cast_signed());
        match twenty {
            0 => rounds(&mut state, words, constant, |b, c, d| xor(d, and(b, xor(c, d)))),
            2 => rounds(&mut state, words, constant, |b, c, d| add(and(b, c), and(xor(b, c), d))),
            _ => rounds(&mut state, words, constant, |b, c, d| xor(xor(b, c), d)),
        }
    }
    let mut sums = [[0; TOGETHER]; 5];
    for (sum, (word, start)) in sums.iter_mut().zip(state.into_iter().zip(start)) {
        *sum = apart(add(word, start));
    }
    sums
}

/// The words of all rounds.
#[target_feature(enable = "sse2")]
#[expect(
    clippy::indexing_slicing,
    reason = "fixed places in arrays of fixed size; nothing is checked at run time"
)]
fn schedule(blocks: &[[u8; 64]; TOGETHER]) -> [Lanes; 80] {
    let mut words = [_mm_set1_epi32(0); 80];
    let of = |lane: usize, at: usize| i32::from_be_bytes(blocks[lane].as_chunks::<4>().0[at]);
    for (at, word) in words.iter_mut().take(16).enumerate() {
        *word = _mm_set_epi32(of(3, at), of(2, at), of(1, at), of(0, at));
    }
    for at in 16..80 {
        let mixed = xor(xor(words[at - 3], words[at - 8]), xor(words[at - 14], words[at - 16]));
        words[at] = rotate_left::<1, 31>(mixed);
    }
    words
}

/// Twenty rounds with the same function, five at a time: then every word of the state is in its place again.
#[target_feature(enable = "sse2")]
#[inline]
fn rounds(
    state: &mut [Lanes; 5],
    words: &[Lanes; 20],
    constant: Lanes,
    mix: impl Fn(Lanes, Lanes, Lanes) -> Lanes,
) {
    let [mut a, mut b, mut c, mut d, mut e] = *state;
    let step = |a: Lanes, b: &mut Lanes, c: Lanes, d: Lanes, e: &mut Lanes, word: Lanes| {
        *e = add(add(add(*e, add(word, constant)), mix(*b, c, d)), rotate_left::<5, 27>(a));
        *b = rotate_left::<30, 2>(*b);
    };
    for &[v, w, x, y, z] in words.as_chunks::<5>().0 {
        step(a, &mut b, c, d, &mut e, v);
        step(e, &mut a, b, c, &mut d, w);
        step(d, &mut e, a, b, &mut c, x);
        step(c, &mut d, e, a, &mut b, y);
        step(b, &mut c, d, e, &mut a, z);
    }
    *state = [a, b, c, d, e];
}

#[target_feature(enable = "sse2")]
#[inline]
fn apart(words: Lanes) -> [u32; TOGETHER] {
    let turned =
        [words, _mm_shuffle_epi32::<1>(words), _mm_shuffle_epi32::<2>(words), _mm_shuffle_epi32::<3>(words)];
    turned.map(|first| _mm_cvtsi128_si32(first).cast_unsigned())
}

/// `LEFT` and `RIGHT` are 32 together.
#[target_feature(enable = "sse2")]
#[inline]
fn rotate_left<const LEFT: i32, const RIGHT: i32>(words: Lanes) -> Lanes {
    _mm_or_si128(_mm_slli_epi32::<LEFT>(words), _mm_srli_epi32::<RIGHT>(words))
}

#[target_feature(enable = "sse2")]
#[inline]
fn add(a: Lanes, b: Lanes) -> Lanes {
    _mm_add_epi32(a, b)
}

#[target_feature(enable = "sse2")]
#[inline]
fn xor(a: Lanes, b: Lanes) -> Lanes {
    _mm_xor_si128(a, b)
}

#[target_feature(enable = "sse2")]
#[inline]
fn and(a: Lanes, b: Lanes) -> Lanes {
    _mm_and_si128(a, b)
}
