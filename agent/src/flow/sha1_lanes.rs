//! SHA-1 of several blocks at once, each in its lane of the processor's vectors: eight by AVX2, else four by SSE2,
//! which every x86-64 has.
#![expect(
    unsafe_code,
    reason = "instructions of the processor's own; the compiler makes no vectors of it by itself"
)]

use std::arch::x86_64::*;

use super::sha1::{Block, CONSTANTS, START, TOGETHER};

/// The digests of that many messages, each with its end.
pub(super) fn digests(blocks: &[Block; TOGETHER], count: usize) -> [[u8; 20]; TOGETHER] {
    let mut digests = [[0; 20]; TOGETHER];
    if count > 4 && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as was just asked. Nothing in there takes a pointer.
        let state = unsafe { avx2::compress(blocks) };
        put(&mut digests, &state);
        return digests;
    }
    let fours = blocks.as_chunks::<4>().0.iter().zip(digests.chunks_mut(4));
    for (blocks, digests) in fours.take(count.div_ceil(4)) {
        // SAFETY: SSE2 is part of x86-64. Nothing in there takes a pointer.
        let state = unsafe { sse2::compress(blocks) };
        put(digests, &state);
    }
    digests
}

/// Turns the words of each lane into its digest.
#[inline]
fn put<const LANES: usize>(digests: &mut [[u8; 20]], state: &[[u32; LANES]; 5]) {
    for (at, words) in state.iter().enumerate() {
        for (digest, word) in digests.iter_mut().zip(words) {
            if let Some(place) = digest.as_chunks_mut::<4>().0.get_mut(at) {
                *place = word.to_be_bytes();
            }
        }
    }
}

/// The same for each width of vectors; `$lane` counts the lanes down, as the instruction that fills a vector takes them.
macro_rules! lanes {
    (
        $module:ident, $feature:literal, $lanes:literal: [$($lane:literal)*], $vector:ty,
        $all:ident, $set:ident, $add:ident, $xor:ident, $and:ident, $or:ident, $left:ident, $right:ident, $apart:expr
    ) => {
        mod $module {
            use super::*;

            /// The same word of all messages.
            type Lanes = $vector;

            #[target_feature(enable = $feature)]
            pub(super) fn compress(blocks: &[Block; $lanes]) -> [[u32; $lanes]; 5] {
                let start = START.map(|word| $all(word.cast_signed()));
                let mut state = start;
                let words = schedule(blocks);
                for (twenty, (words, constant)) in words.as_chunks::<20>().0.iter().zip(CONSTANTS).enumerate() {
                    let constant = $all(constant.cast_signed());
                    match twenty {
                        0 => rounds(&mut state, words, constant, |b, c, d| $xor(d, $and(b, $xor(c, d)))),
                        2 => rounds(&mut state, words, constant, |b, c, d| $add($and(b, c), $and($xor(b, c), d))),
                        _ => rounds(&mut state, words, constant, |b, c, d| $xor($xor(b, c), d)),
                    }
                }
                let mut sums = [[0; $lanes]; 5];
                for (sum, (word, start)) in sums.iter_mut().zip(state.into_iter().zip(start)) {
                    *sum = apart($add(word, start));
                }
                sums
            }

            /// The words of all rounds.
            #[target_feature(enable = $feature)]
            #[inline]
            #[expect(
                clippy::indexing_slicing,
                reason = "fixed places in arrays of fixed size; nothing is checked at run time"
            )]
            fn schedule(blocks: &[Block; $lanes]) -> [Lanes; 80] {
                // All in one place, as parts would be copied; and not zeros, which a call would write byte by byte.
                let mut words = [$all(-2); 80];
                for at in 0..16 {
                    words[at] = $set($(i32::from_be_bytes(blocks[$lane].bytes.as_chunks::<4>().0[at])),*);
                }
                for at in 16..80 {
                    let [a, b, c, d] = [16, 14, 8, 3].map(|before| words[at - before]);
                    words[at] = rotate_left::<1, 31>($xor($xor(a, b), $xor(c, d)));
                }
                words
            }

            /// Twenty rounds with the same function, five at a time: then every word of the state is in its place
            /// again.
            #[target_feature(enable = $feature)]
            #[inline]
            fn rounds(
                state: &mut [Lanes; 5],
                words: &[Lanes; 20],
                constant: Lanes,
                mix: impl Fn(Lanes, Lanes, Lanes) -> Lanes,
            ) {
                let [mut a, mut b, mut c, mut d, mut e] = *state;
                let step = |a: Lanes, b: &mut Lanes, c: Lanes, d: Lanes, e: &mut Lanes, word: Lanes| {
                    *e = $add($add($add(*e, $add(word, constant)), mix(*b, c, d)), rotate_left::<5, 27>(a));
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

            /// `LEFT` and `RIGHT` are 32 together.
            #[target_feature(enable = $feature)]
            #[inline]
            fn rotate_left<const LEFT: i32, const RIGHT: i32>(words: Lanes) -> Lanes {
                $or($left::<LEFT>(words), $right::<RIGHT>(words))
            }

            #[target_feature(enable = $feature)]
            #[inline]
            fn apart(words: Lanes) -> [u32; $lanes] {
                $apart(words)
            }
        }
    };
}

lanes!(
    sse2, "sse2", 4: [3 2 1 0], __m128i,
    _mm_set1_epi32, _mm_set_epi32, _mm_add_epi32, _mm_xor_si128, _mm_and_si128, _mm_or_si128, _mm_slli_epi32,
    _mm_srli_epi32,
    |words| [
        words,
        _mm_shuffle_epi32::<1>(words),
        _mm_shuffle_epi32::<2>(words),
        _mm_shuffle_epi32::<3>(words),
    ]
    .map(|first| _mm_cvtsi128_si32(first).cast_unsigned())
);

lanes!(
    avx2, "avx2", 8: [7 6 5 4 3 2 1 0], __m256i,
    _mm256_set1_epi32, _mm256_set_epi32, _mm256_add_epi32, _mm256_xor_si256, _mm256_and_si256, _mm256_or_si256,
    _mm256_slli_epi32, _mm256_srli_epi32,
    |words| [
        _mm256_extract_epi32::<0>(words),
        _mm256_extract_epi32::<1>(words),
        _mm256_extract_epi32::<2>(words),
        _mm256_extract_epi32::<3>(words),
        _mm256_extract_epi32::<4>(words),
        _mm256_extract_epi32::<5>(words),
        _mm256_extract_epi32::<6>(words),
        _mm256_extract_epi32::<7>(words),
    ]
    .map(i32::cast_unsigned)
);
