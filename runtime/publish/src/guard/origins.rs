//! From a function of a rewritten module back to the one that it was: the way that the rewriting went, read backwards.

use super::bulk::Helper;
use super::parts::Parts;
use super::rewrite::Moved;

/// What a compiled function was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A function of the module, with this index in it.
    Own(u32),
    /// It only calls the import with this index.
    Thunk(u32),
    /// It does the work of one instruction, in pieces.
    Helper(&'static str),
    /// No function of the rewritten module.
    Unknown,
}

/// Of one module. A snapshot has the same functions as the module that it was made of, and so the same origins.
#[derive(Debug)]
pub struct Origins {
    imported: u32,
    own: u32,
    helpers: Vec<&'static str>,
}

impl Origins {
    /// Of a valid module, as it was before.
    ///
    /// # Errors
    /// For a module that is not valid.
    pub fn of(wasm: &[u8]) -> wasmparser::Result<Self> {
        let moved = Moved::new(&Parts::of(wasm)?)?;
        let name = |helper: &Helper| match helper {
            Helper::Fill => "memory.fill",
            Helper::Copy => "memory.copy",
            Helper::Init { .. } => "memory.init",
        };
        let helpers = moved.helpers.keys().map(name).collect();
        Ok(Self { imported: moved.imported, own: moved.own, helpers })
    }

    /// What the function with this index in the rewritten module was.
    #[must_use]
    pub fn origin(&self, function: u32) -> Origin {
        let thunks = self.imported + self.own;
        if function < self.imported {
            // Never on a guest's stack: it is the host's.
            return Origin::Thunk(function);
        }
        let Some(beyond) = function.checked_sub(thunks) else { return Origin::Own(function) };
        match beyond.checked_sub(self.imported) {
            None => Origin::Thunk(beyond),
            Some(at) => {
                self.helpers.get(at as usize).map_or(Origin::Unknown, |h| Origin::Helper(h))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::guard;
    use super::*;

    /// By what the bodies are, not by how they came there: each function of the module marks itself by a constant.
    #[test]
    fn every_function_leads_back_to_what_it_was() {
        let wasm = wat::parse_str(
            r#"(module (import "a" "a" (func)) (import "b" "b" (func (param i32)))
            (memory 1) (data $d "x")
            (func (drop (i32.const 1002)) (call 0))
            (func (param i32) (drop (i32.const 1003)) (memory.fill (local.get 0) (local.get 0) (local.get 0)))
            (func (param i32) (drop (i32.const 1004)) (call 1 (i32.const 0))
                (memory.init $d (local.get 0) (local.get 0) (local.get 0))))"#,
        )
        .unwrap();
        let (origins, rewritten) = (Origins::of(&wasm).unwrap(), guard(&wasm).unwrap());
        let parts = Parts::of(&rewritten).unwrap();
        let mut found = Vec::new();
        for (body, index) in parts.bodies.iter().zip(parts.imported()..) {
            let operators = body.get_operators_reader().unwrap().into_iter().map(Result::unwrap);
            let marks = operators.filter_map(|operator| match operator {
                wasmparser::Operator::I32Const { value } if (1002..2000).contains(&value) => {
                    Some(Origin::Own(value.cast_unsigned() - 1000))
                }
                wasmparser::Operator::Call { function_index } if function_index < 2 => {
                    Some(Origin::Thunk(function_index))
                }
                wasmparser::Operator::MemoryFill { .. } => Some(Origin::Helper("memory.fill")),
                wasmparser::Operator::MemoryInit { .. } => Some(Origin::Helper("memory.init")),
                _ => None,
            });
            let mark = marks.into_iter().next().unwrap();
            assert_eq!(origins.origin(index), mark, "function {index}");
            found.push(mark);
        }
        assert_eq!(found.len(), 7);
        assert_eq!(origins.origin(9), Origin::Unknown);
    }
}
