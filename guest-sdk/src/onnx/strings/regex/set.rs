//! Sets of characters.

const LAST: u32 = 0x10_ffff;

/// Ranges, in any order, while an expression is read.
#[derive(Debug, Clone, Default)]
pub(super) struct Set(Vec<(u32, u32)>);

/// Ranges in order, none next to another; those of ASCII as bits.
#[derive(Debug)]
pub(super) struct Class {
    ascii: u128,
    above: Box<[(u32, u32)]>,
}

impl Set {
    pub(super) fn of(ranges: &[(char, char)]) -> Self {
        Self(ranges.iter().map(|&(from, to)| (from.into(), to.into())).collect())
    }

    pub(super) fn all() -> Self {
        Self(vec![(0, LAST)])
    }

    /// `\d`, `\s` and `\w`, which are ASCII's to RE2; their complements in capitals.
    pub(super) fn perl(name: char, fold: bool) -> Option<Self> {
        let set = Self::of(match name.to_ascii_lowercase() {
            'd' => &[('0', '9')],
            's' => &[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')],
            'w' => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
            _ => return None,
        });
        let set = if fold { set.folded()? } else { set };
        Some(if name.is_ascii_uppercase() { set.complement() } else { set })
    }

    /// `[:name:]`
    pub(super) fn posix(name: &str) -> Option<Self> {
        Some(Self::of(match name {
            "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
            "alpha" => &[('A', 'Z'), ('a', 'z')],
            "ascii" => &[('\0', '\x7f')],
            "blank" => &[('\t', '\t'), (' ', ' ')],
            "cntrl" => &[('\0', '\x1f'), ('\x7f', '\x7f')],
            "digit" => &[('0', '9')],
            "graph" => &[('!', '~')],
            "lower" => &[('a', 'z')],
            "print" => &[(' ', '~')],
            "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
            "space" => &[('\t', '\r'), (' ', ' ')],
            "upper" => &[('A', 'Z')],
            "word" => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
            "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
            _ => return None,
        }))
    }

    pub(super) fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// With every letter in both cases; nothing for what is beyond ASCII, whose cases are in tables that are not here.
    pub(super) fn folded(mut self) -> Option<Self> {
        if self.0.iter().any(|&(_, to)| to >= 0x80) {
            return None;
        }
        let has = |set: &Self, c: u32| set.0.iter().any(|&(from, to)| from <= c && c <= to);
        let letters = u32::from(b'a')..=u32::from(b'z');
        for lower in letters {
            let upper = lower - 0x20;
            if has(&self, lower) || has(&self, upper) {
                self.0.extend([(lower, lower), (upper, upper)]);
            }
        }
        // The long s and the sign of the kelvin are letters of ASCII in another case.
        for (letter, other) in [('s', 0x17f), ('k', 0x212a)] {
            if has(&self, letter.into()) {
                self.0.push((other, other));
            }
        }
        Some(self)
    }

    pub(super) fn complement(self) -> Self {
        let mut from = 0;
        let mut ranges = Vec::new();
        for (first, last) in self.sorted() {
            if from < first {
                ranges.push((from, first - 1));
            }
            from = last + 1;
        }
        if from <= LAST {
            ranges.push((from, LAST));
        }
        Self(ranges)
    }

    fn sorted(mut self) -> Vec<(u32, u32)> {
        self.0.sort_unstable();
        let mut ranges: Vec<(u32, u32)> = Vec::with_capacity(self.0.len());
        for (from, to) in self.0 {
            match ranges.last_mut() {
                Some((_, last)) if from <= *last + 1 => *last = to.max(*last),
                _ => ranges.push((from, to)),
            }
        }
        ranges
    }

    pub(super) fn class(&self) -> Class {
        let ranges = self.clone().sorted();
        let ascii = (0..0x80).filter(|&c| ranges.iter().any(|&(from, to)| from <= c && c <= to));
        let ascii = ascii.fold(0, |bits, c| bits | 1 << c);
        let above = ranges.into_iter().filter(|&(_, to)| to >= 0x80).collect();
        Class { ascii, above }
    }
}

impl Class {
    pub(super) fn has(&self, c: char) -> bool {
        let c = u32::from(c);
        if c < 0x80 {
            return self.ascii >> c & 1 == 1;
        }
        let at = self.above.partition_point(|&(_, to)| to < c);
        self.above.get(at).is_some_and(|&(from, _)| from <= c)
    }
}
