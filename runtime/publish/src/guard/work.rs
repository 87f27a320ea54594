//! How much work an instruction may be before the next one begins, for every instruction that a guest may use.

use wasmparser::Operator;

/// What an instruction may do in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A few machine instructions, whatever its operands are.
    Plain,
    /// Touches one place of memory or a table: it may be the first to touch its page, which costs 0.25 to 0.5 us. (Globals lie in one stretch that is touched anyway.)
    Access,
    /// Decides where the path goes on; the walk over paths knows how.
    Control,
    /// Runs another function.
    Call,
    /// Moves as many bytes of memory as an operand says, up to all of it.
    MemoryBulk,
    /// Moves as many elements of a table as an operand says: at most `table_elements` of 8 bytes.
    TableBulk,
    /// Makes the memory or a table larger: a system call, and the table's elements are written.
    Grow,
    /// Of a proposal that is off: there is no such instruction in a valid module.
    Off,
}

/// Names `Load` and `Store` are those of memory; a lane's too.
const fn classify(proposal: &str, name: &str) -> Class {
    let on = same(proposal, "mvp")
        || same(proposal, "sign_extension")
        || same(proposal, "saturating_float_to_int")
        || same(proposal, "bulk_memory")
        || same(proposal, "reference_types")
        || same(proposal, "simd")
        || same(proposal, "relaxed_simd");
    if !on {
        return Class::Off;
    }
    if one_of(
        name,
        &["Unreachable", "Block", "Loop", "If", "Else", "End", "Br", "BrIf", "BrTable", "Return"],
    ) {
        Class::Control
    } else if one_of(name, &["Call", "CallIndirect"]) {
        Class::Call
    } else if one_of(name, &["MemoryFill", "MemoryCopy", "MemoryInit"]) {
        Class::MemoryBulk
    } else if one_of(name, &["TableFill", "TableCopy", "TableInit"]) {
        Class::TableBulk
    } else if one_of(name, &["MemoryGrow", "TableGrow"]) {
        Class::Grow
    } else if has(name, "Load") || has(name, "Store") || one_of(name, &["TableGet", "TableSet"]) {
        Class::Access
    } else {
        Class::Plain
    }
}

const fn one_of(name: &str, names: &[&str]) -> bool {
    let mut at = 0;
    while at < names.len() {
        if same(name, names[at]) {
            return true;
        }
        at += 1;
    }
    false
}

const fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && begins(a.as_bytes(), b.as_bytes(), 0)
}

const fn has(name: &str, part: &str) -> bool {
    let mut at = 0;
    while at + part.len() <= name.len() {
        if begins(name.as_bytes(), part.as_bytes(), at) {
            return true;
        }
        at += 1;
    }
    false
}

/// Whether `part` stands in `name` at `at`; there is room for it.
const fn begins(name: &[u8], part: &[u8], at: usize) -> bool {
    let mut i = 0;
    while i < part.len() {
        if name[at + i] != part[i] {
            return false;
        }
        i += 1;
    }
    true
}

macro_rules! classes {
    ($(@$proposal:ident $op:ident $({ $($arg:ident: $ty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
        /// The class of an instruction. What a later parser knows beside is off until it is decided here.
        #[must_use]
        pub fn class(operator: &Operator<'_>) -> Class {
            match operator {
                $(Operator::$op { .. } => const { classify(stringify!($proposal), stringify!($op)) },)*
                _ => Class::Off,
            }
        }

        /// Every instruction that the parser knows: its proposal, its name, its class.
        #[must_use]
        pub fn all() -> Vec<(&'static str, &'static str, Class)> {
            vec![$((
                stringify!($proposal),
                stringify!($op),
                const { classify(stringify!($proposal), stringify!($op)) },
            )),*]
        }
    };
}

wasmparser::for_each_operator!(classes);
