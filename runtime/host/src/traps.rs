//! What a trap was, in words that lead on to its cause.
//!
//! Guests are compiled without a table from code to their functions, so no name can be given. What is known is the kind
//! of the trap, for memory the address, and what lies at the memory's start: linkers put the guest's own stack there,
//! growing down, so that one that is used up has been written to there.

use mayfly_core::units::human_size;
use wasmtime::{Error, Trap};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Addresses have 32 bits: what lies below 0 comes out at the upper end.
const END: u64 = 1 << 32;
/// Where a stack that grows down ends, and how much of that has to be written to for it to be used up.
const STACKS_END: usize = 1 << 10;
const WRITTEN_WORDS: usize = 16;

/// A trap in words, and in wasmtime's at their end. `memory` is the guest's as the trap left it, or empty.
#[must_use]
pub fn words(error: &Error, memory: &[u8]) -> String {
    let Some(trap) = error.downcast_ref::<Trap>() else { return format!("{error:#}") };
    let meant = match trap {
        Trap::MemoryOutOfBounds => match fault(error) {
            Some((address, size)) => outside(address, size, memory),
            None => "a pointer or a length that reaches beyond its memory, perhaps one that it gave \
                     to the host"
                .to_owned(),
        },
        Trap::UnreachableCodeReached => {
            "it ended itself: a panic, an abort, a failed assertion; what it wrote before says which"
                .to_owned()
        }
        Trap::IndirectCallToNull => "it called a null function pointer".to_owned(),
        Trap::TableOutOfBounds => {
            "it called a function pointer that is none, which a stray write may have made".to_owned()
        }
        Trap::BadSignature => {
            "it called a function pointer as one of another type: a wrong cast or declaration".to_owned()
        }
        Trap::StackOverflow => "its native stack is used up: look for unbounded recursion".to_owned(),
        _ => return trap.to_string(),
    };
    format!("{meant} ({trap})")
}

/// Lines at the end of a text among which a panic is looked for.
const LAST_LINES: usize = 20;

/// What a program said last, in one line: a panic of Rust's with its place behind it, else its last line. Advice on how to
/// get more of one is left out, which nobody can follow here, and what the SDK says to `mayfly deploy`.
#[must_use]
pub fn last_words(said: &str) -> String {
    const ASIDE: [&str; 2] = ["note: run with `RUST_BACKTRACE=", "mayfly: a panic while trying: "];
    let advice = |line: &&str| ASIDE.iter().any(|aside| line.starts_with(aside));
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty() && !advice(line));
    let mut lines: Vec<_> = lines.rev().take(LAST_LINES).collect();
    lines.reverse();
    let panic = lines.iter().rposition(|line| is_panic(line));
    if let Some(at) = panic
        && at + 1 < lines.len()
    {
        let place = lines[at].trim_end_matches(':');
        return format!("{} ({place})", lines[at + 1..].join(" "));
    }
    lines.last().map_or_else(String::new, |line| (*line).to_owned())
}

/// `thread 'main' panicked at src/lib.rs:5:9:`
fn is_panic(line: &str) -> bool {
    line.starts_with("thread ") && line.contains(" panicked at ") && line.ends_with(':')
}

/// The address of a fault and the memory's size, which wasmtime gives in words only.
fn fault(error: &Error) -> Option<(u64, u64)> {
    error.chain().find_map(|cause| {
        let text = cause.to_string();
        let rest = text.strip_prefix("memory fault at wasm address 0x")?;
        let (address, size) = rest.split_once(" in linear memory of size 0x")?;
        Some((u64::from_str_radix(address, 16).ok()?, u64::from_str_radix(size, 16).ok()?))
    })
}

fn outside(address: u64, size: u64, memory: &[u8]) -> String {
    let all = human_size(size);
    if (END - 64 * MIB..END + 64 * KIB).contains(&address) {
        if used_up(memory) {
            return format!(
                "its own stack in its memory is used up (address {address:#x}, below 0): look for unbounded recursion or \
                 large local variables, or link it with a larger stack (-z stack-size=...)"
            );
        }
        if address >= END - 4 * KIB {
            return format!("a null pointer, or one near it (address {address:#x}, just below 0)");
        }
        return format!(
            "an address below 0 ({address:#x}): local variables larger than its own stack, or a negative index"
        );
    }
    if address < size.saturating_add(64 * KIB) {
        return format!(
            "an index or a loop that runs beyond the end (address {address:#x}, just behind its memory of {all})"
        );
    }
    format!("a stray pointer or index (address {address:#x}, far beyond its memory of {all})")
}

/// Whether a stack that grows down to address 0 has been used to its end.
fn used_up(memory: &[u8]) -> bool {
    let (words, _) = memory[..memory.len().min(STACKS_END)].as_chunks::<8>();
    words.iter().filter(|word| **word != [0; 8]).count() >= WRITTEN_WORDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_memory_is_told_apart_by_where() {
        let (mut empty, size) = (vec![0; 64 << 10], 1 << 20);
        for (address, expected) in [
            (END - 8, "a null pointer"),
            (END - 100_000, "an address below 0"),
            (size, "runs beyond the end"),
            (size + 5000, "just behind its memory of 1.0 MiB"),
            (1 << 30, "a stray pointer or index"),
            (END + MIB, "a stray pointer or index"),
        ] {
            let words = outside(address, size, &empty);
            assert!(words.contains(expected), "{address:#x}: {words}");
        }
        // A stack that is used up has left its frames there.
        empty[..1024].fill(7);
        for address in [END - 8, END - 100_000] {
            assert!(outside(address, size, &empty).contains("own stack"), "{address:#x}");
        }
        assert!(!used_up(&[]));
    }

    #[test]
    fn last_words_are_a_panics_message_or_the_last_line() {
        let note = "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace";
        let panic = "thread 'main' (1) panicked at src/lib.rs:5:9:\nno weights\nat all";
        for (said, expected) in [
            ("", ""),
            ("one\n two \n\n", "two"),
            (
                &*format!("loading\n{panic}\n{note}\n"),
                "no weights at all (thread 'main' (1) panicked at src/lib.rs:5:9)",
            ),
            (
                &*format!("{panic}\n{note}\n").replace("no weights\nat all\n", ""),
                "thread 'main' (1) panicked at src/lib.rs:5:9:",
            ),
            ("what\nmayfly: a panic while trying: any\n", "what"),
            ("Traceback:\n  line 1\nValueError: x", "ValueError: x"),
        ] {
            assert_eq!(last_words(said), expected);
        }
    }

    #[test]
    fn a_trap_without_an_address_is_named_too() {
        for (trap, expected) in [
            (Trap::MemoryOutOfBounds, "a pointer or a length"),
            (Trap::UnreachableCodeReached, "a panic, an abort"),
            (Trap::IndirectCallToNull, "a null function pointer"),
            (Trap::BadSignature, "of another type"),
            (Trap::IntegerDivisionByZero, "divide by zero"),
        ] {
            let words = words(&trap.into(), &[]);
            assert!(words.contains(expected) && words.contains(&trap.to_string()), "{words}");
        }
        assert_eq!(words(&Error::msg("mine"), &[]), "mine");
    }
}
