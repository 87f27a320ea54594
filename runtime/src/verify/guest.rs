//! The guests of the verification: each looks, reports, and spoils.

/// Bytes of a guest's report: six counts of 32 bits, eight bytes of padding, and a draw of 128 bits.
pub const REPORT_BYTES: usize = 48;

/// Below this address a guest works; from here on it spoils.
const WORK: u32 = 4096;
/// What an image is filled with: eight times this byte, wherever a kind has data.
const DATA: char = 'Z';

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

    /// What a report says that must not be; the counts are in the order of `wat`.
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

    /// The module, as text.
    pub fn wat(&self) -> String {
        let Self { pages, grows, data, snapshot, .. } = self;
        let (start, end) = (1u32 << 16, (1 + data) << 16);
        let image = match (data, snapshot) {
            (0, _) => String::new(),
            (_, false) => {
                let bytes = String::from(DATA).repeat((end - start) as usize);
                format!(r#"(data (i32.const {start}) "{bytes}")"#)
            }
            (_, true) => format!(
                r#"(func (export "mayfly_init")
                (memory.fill (i32.const {start}) (i32.const {}) (i32.const {})))"#,
                u32::from(DATA),
                end - start
            ),
        };
        // A module that writes to its table cannot have a snapshot.
        let (look_at_table, spoil_table) =
            if *snapshot { (String::new(), "") } else { (LOOK_AT_TABLE.into(), SPOIL_TABLE) };
        format!(
            r#"(module {IMPORTS}
            (memory (export "memory") {pages})
            (table $table 16 64 funcref)
            (global $g (mut i64) (i64.const 7))
            (func (export "mayfly_abi_1"))
            (elem declare func $f) (func $f)
            {image}
            ;; Words between two addresses that differ from one.
            (func $differing (param $at i32) (param $end i32) (param $word i64) (result i32)
              (local $n i32)
              (block $done (loop $next
                (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
                (if (i64.ne (i64.load (local.get $at)) (local.get $word))
                  (then (local.set $n (i32.add (local.get $n) (i32.const 1)))))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br $next)))
              (local.get $n))
            (func $spoil (param $at i32) (param $end i32)
              (block $done (loop $next
                (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
                (i64.store (local.get $at) (i64.const 0x5EC2E75EC2E7CAFE))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br $next))))
            ;; Fills the native stack.
            (func $sink (param i32 i64 i64 i64) (result i64)
              (if (result i64) (local.get 0)
                (then (i64.add (local.get 1) (call $sink (i32.sub (local.get 0) (i32.const 1))
                  (local.get 3) (local.get 1) (local.get 2))))
                (else (local.get 3))))
            (func (export "mayfly_handle") (local $old i32) (local $i i32)
              (i32.store (i32.const 1024) (i32.add (i32.add
                (call $differing (i32.const 0) (i32.const 1024) (i64.const 0))
                (call $differing (i32.const 1032) (i32.const {start}) (i64.const 0)))
                (i32.add
                (call $differing (i32.const {start}) (i32.const {end}) (i64.const {word}))
                (call $differing (i32.const {end}) (i32.const {born}) (i64.const 0)))))
              (local.set $old (i32.shl (memory.grow (i32.const {grows})) (i32.const 16)))
              (i32.store (i32.const 1028) (call $differing (local.get $old)
                (i32.shl (memory.size) (i32.const 16)) (i64.const 0)))
              {look_at_table}
              (i32.store (i32.const 1036) (i64.ne (global.get $g) (i64.const 7)))
              (drop (call $environ (i32.const 1040) (i32.const 1044)))
              (drop (call $random (i32.const 1056) (i32.const 16)))
              ;; Everything is known: now it is spoilt.
              (call $spoil (i32.const {WORK}) (i32.shl (memory.size) (i32.const 16)))
              {spoil_table}
              (global.set $g (call $sink (i32.const 2000) (i64.const 0x5EC2E75EC2E7CAFE)
                (i64.const 0x5EC2E75EC2E7CAFE) (i64.const 0x5EC2E75EC2E7CAFE)))
              (i32.store (i32.const 512) (i32.const {WORK})) (i32.store (i32.const 516) (i32.const 64))
              (drop (call $fd_write (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 520)))
              (drop (call $fd_write (i32.const 2) (i32.const 512) (i32.const 1) (i32.const 520)))
              (drop (call $read (i32.const 256) (i32.const 1)))
              (if (i32.eq (i32.load8_u (i32.const 256)) (i32.const 49)) (then unreachable))
              (i32.store (i32.const 0) (i32.const 200))
              (drop (call $start (i32.const 0) (i32.const 4) (i32.const 1024) (i32.const {REPORT_BYTES})))))"#,
            word = i64::from_le_bytes([DATA as u8; 8]),
            born = pages << 16,
        )
    }
}

const IMPORTS: &str = r#"
    (import "mayfly_http_v1" "request_body_read" (func $read (param i32 i32) (result i32)))
    (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))"#;

const LOOK_AT_TABLE: &str = "
    (drop (table.grow $table (ref.null func) (i32.const 16)))
    (loop $next
      (if (i32.eqz (ref.is_null (table.get $table (local.get $i))))
        (then (i32.store (i32.const 1032) (i32.add (i32.load (i32.const 1032)) (i32.const 1)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (table.size $table))))";

const SPOIL_TABLE: &str = "(table.fill $table (i32.const 0) (ref.func $f) (table.size $table))";

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
            let wasm = wat::parse_str(kind.wat()).unwrap_or_else(|e| panic!("{}: {e}", kind.name));
            wasmparser::validate(&wasm).unwrap();
            // In code it is an immediate of LEB128, never these bytes.
            assert!(!wasm.windows(8).any(|bytes| bytes == canary), "{}", kind.name);
        }
    }
}
