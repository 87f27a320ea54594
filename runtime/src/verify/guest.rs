//! The guests of the verification: each looks, reports, and spoils.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{ConstExpr, DataSection, GlobalSection, MemoryType, Module};
use wasmparser::Parser;

/// Bytes of a guest's report: six counts of 32 bits, eight bytes of padding, and a draw of 128 bits.
pub const REPORT_BYTES: usize = 48;

/// What an image is filled with, wherever a kind has data.
const DATA: u8 = b'Z';

/// Two modules stand for all kinds. As bytes, because a parser of text takes longer to build than this crate; a test
/// holds them to their text.
const PLAIN: &[u8] = include_bytes!("guests/plain.wasm");
const SNAPSHOT: &[u8] = include_bytes!("guests/snapshot.wasm");

/// One module: what is in its memory at birth, and how large it becomes.
pub struct Kind {
    /// Its function's name.
    pub name: &'static str,
    /// Pages at birth.
    pages: u32,
    /// Pages that it adds.
    grows: u32,
    /// Pages of image behind the first.
    data: u32,
    /// Whether the image comes from a snapshot, not from a data segment.
    snapshot: bool,
}

/// With and without data segments, with and without a snapshot, small and large.
pub const KINDS: &[Kind] = &[
    Kind { name: "small-empty", pages: 2, grows: 1, data: 0, snapshot: false },
    Kind { name: "small-data", pages: 3, grows: 1, data: 1, snapshot: false },
    Kind { name: "small-snapshot", pages: 3, grows: 1, data: 1, snapshot: true },
    Kind { name: "tall-empty", pages: 8, grows: 24, data: 0, snapshot: false },
    Kind { name: "large-empty", pages: 128, grows: 128, data: 0, snapshot: false },
    Kind { name: "large-data", pages: 70, grows: 64, data: 64, snapshot: false },
    Kind { name: "large-snapshot", pages: 300, grows: 64, data: 280, snapshot: true },
];

impl Kind {
    /// Whether one instance costs milliseconds.
    pub fn is_large(&self) -> bool {
        self.pages + self.grows > 64
    }

    /// What a report says that must not be; the counts are in the order of its text.
    pub fn wrong(&self, report: &[u8]) -> Option<String> {
        let count = |at: usize| {
            let bytes = report.get(at * 4..at * 4 + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(u32::MAX, u32::from_le_bytes)
        };
        let names = ["words of memory", "words of grown memory", "table elements", "globals"];
        for (at, name) in names.iter().enumerate() {
            if count(at) != 0 {
                return Some(format!("{} {name} were not as at birth", count(at)));
            }
        }
        // "KIND=" and the name, and a NUL.
        let bytes = u32::try_from(self.name.len()).unwrap_or(0) + 6;
        let environment = (count(4), count(5));
        (environment != (1, bytes)).then(|| {
            format!("its environment has {} entries and {} bytes", environment.0, environment.1)
        })
    }

    /// The module: one of two, with this kind's memory, data and numbers.
    ///
    /// # Errors
    /// Only if the embedded module is not one, which a test rules out.
    pub fn wasm(&self) -> Result<Vec<u8>, String> {
        let guest = if self.snapshot { SNAPSHOT } else { PLAIN };
        let end = (1 + self.data) << 16;
        // In the order of the module's first globals.
        let numbers = [1 << 16, end, self.pages << 16, self.grows];
        let mut fit = Fit { pages: self.pages, numbers: numbers.map(u32::cast_signed), next: 0 };
        let mut module = Module::new();
        fit.parse_core_module(&mut module, Parser::new(0), guest).map_err(|e| e.to_string())?;
        if self.data > 0 && !self.snapshot {
            let mut data = DataSection::new();
            let image = std::iter::repeat_n(DATA, (end - (1 << 16)) as usize);
            data.active(0, &ConstExpr::i32_const(1 << 16), image);
            module.section(&data);
        }
        Ok(module.finish())
    }
}

/// Fits an embedded module to a kind.
struct Fit {
    pages: u32,
    numbers: [i32; 4],
    next: usize,
}

impl Reencode for Fit {
    type Error = Infallible;

    fn memory_type(&mut self, ty: wasmparser::MemoryType) -> Result<MemoryType, Error<Infallible>> {
        let mut ty = wasm_encoder::reencode::utils::memory_type(self, ty);
        ty.minimum = self.pages.into();
        Ok(ty)
    }

    fn parse_global(
        &mut self,
        globals: &mut GlobalSection,
        global: wasmparser::Global<'_>,
    ) -> Result<(), Error<Infallible>> {
        let number = self.numbers.get(self.next).copied();
        self.next += 1;
        let Some(number) = number else {
            return wasm_encoder::reencode::utils::parse_global(self, globals, global);
        };
        globals.global(self.global_type(global.ty)?, &ConstExpr::i32_const(number));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_told() {
        let kind = &KINDS[0];
        let mut report = [0; REPORT_BYTES];
        report[16] = 1;
        report[20] = u8::try_from(kind.name.len()).unwrap() + 6;
        assert_eq!(kind.wrong(&report), None);
        for (byte, told) in [
            (0, "words of memory"),
            (6, "words of grown memory"),
            (11, "table elements"),
            (12, "globals"),
            (16, "environment"),
            (21, "environment"),
        ] {
            let mut seen = report;
            seen[byte] += 1;
            assert!(kind.wrong(&seen).unwrap().contains(told), "{byte}");
        }
        // A report that is cut short is no proof.
        assert!(kind.wrong(&report[..8]).is_some());
    }

    #[test]
    fn every_guest_is_a_module_and_none_is_born_with_the_canary() {
        let canary = 0x5EC2_E75E_C2E7_CAFE_u64.to_le_bytes();
        for kind in KINDS {
            let wasm = kind.wasm().unwrap();
            wasmparser::validate(&wasm).unwrap();
            // In code it is an immediate of LEB128, never these bytes.
            assert!(!wasm.windows(8).any(|bytes| bytes == canary), "{}", kind.name);
        }
    }
}
