//! The bodies of `runtime/fuzz` on inputs that are always the same: seeds, and what random damage makes of them.

#[path = "../../fuzz/bodies.rs"]
mod bodies;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::rig::soak;

/// Another input, made of a seed as a fuzzer would: bytes set, cut, doubled, moved, and numbers at their edges.
fn damaged(random: &mut StdRng, seeds: &[&[u8]]) -> Vec<u8> {
    let mut bytes = seeds.choose(random).unwrap().to_vec();
    for _ in 0..random.random_range(0..6) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.random()),
            2 if at < bytes.len() => bytes[at] = random.random(),
            3 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            4 => {
                let edge =
                    [0_u64, 1, 0x7f, 0x80, 0xff, 0xffff, 1 << 31, u64::from(u32::MAX), u64::MAX];
                let number = edge.choose(random).unwrap().to_le_bytes();
                let len = [1, 2, 4, 8].choose(random).copied().unwrap();
                bytes.splice(at..at, number[..len].iter().copied());
            }
            5 => {
                let other = seeds.choose(random).unwrap();
                let from = random.random_range(0..=other.len());
                bytes.splice(at..at, other[from..].iter().copied());
            }
            _ => {
                let tail = bytes[at..].to_vec();
                bytes.extend_from_slice(&tail);
            }
        }
        bytes.truncate(16 << 10);
    }
    bytes
}

#[test]
fn no_parser_is_broken_by_its_bytes() {
    for (number, target) in bodies::TARGETS.iter().enumerate() {
        target.seeds.iter().for_each(|seed| (target.run)(seed));
        for round in 0..2_000 * soak() as u64 {
            let seed = (number as u64) << 32 | round;
            let bytes = damaged(&mut StdRng::seed_from_u64(seed), target.seeds);
            if let Err(panic) = std::panic::catch_unwind(|| (target.run)(&bytes)) {
                eprintln!("{}, seed {seed}: {}", target.name, bytes.escape_ascii());
                std::panic::resume_unwind(panic);
            }
        }
    }
}
