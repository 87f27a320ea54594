//! A node of a file: its attributes, and which inputs and outputs it has.

use tract_onnx::pb::{AttributeProto, NodeProto};
use tract_onnx::tract_core::internal::*;

/// A node, as the file has it.
#[derive(Debug)]
pub(super) struct Node(NodeProto);

impl Node {
    pub(super) fn new(node: &NodeProto) -> Self {
        Self(node.clone())
    }

    /// How errors call the node: a name is optional in ONNX, and that of what it makes is not.
    pub(super) fn label(&self) -> String {
        let made = self.0.output.iter().find(|name| !name.is_empty());
        let name = if self.0.name.is_empty() { made } else { Some(&self.0.name) };
        format!("the {} {:?}", self.0.op_type, name.map_or("", String::as_str))
    }

    /// Places of the outputs that have a name in the file.
    pub(super) fn wanted(&self) -> impl Iterator<Item = usize> {
        let named = self.0.output.iter().enumerate().filter(|(_, name)| !name.is_empty());
        named.map(|(i, _)| i)
    }

    /// Which of tract's inputs is the schema's `place`.
    pub(super) fn slot(&self, place: usize) -> Option<usize> {
        let given = self.0.input.get(place).is_some_and(|name| !name.is_empty());
        given.then(|| self.0.input[..place].iter().filter(|name| !name.is_empty()).count())
    }

    pub(super) fn places(&self) -> usize {
        self.0.input.len()
    }

    fn find(&self, name: &str) -> Option<&AttributeProto> {
        self.0.attribute.iter().find(|attribute| attribute.name == name)
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.find(name).map_or(default, |attribute| attribute.i)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.int(name, 0) != 0
    }

    /// A count, which has to be there.
    pub(super) fn count(&self, name: &str) -> TractResult<usize> {
        let count = usize::try_from(self.int(name, 0)).ok().filter(|&count| count > 0);
        count.with_context(|| format!("its `{name}` is missing or not positive"))
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f32 {
        self.find(name).map_or(default, |attribute| attribute.f)
    }

    pub(super) fn floats(&self, name: &str) -> &[f32] {
        self.find(name).map_or(&[], |attribute| &attribute.floats)
    }

    pub(super) fn ints(&self, name: &str) -> &[i64] {
        self.find(name).map_or(&[], |attribute| &attribute.ints)
    }

    /// Sizes, if the attribute is there.
    pub(super) fn sizes(&self, name: &str) -> TractResult<Option<TVec<usize>>> {
        let sizes = self.ints(name).iter().map(|&size| usize::try_from(size));
        let sizes: TVec<_> =
            sizes.collect::<Result<_, _>>().with_context(|| format!("`{name}` is negative"))?;
        Ok(Some(sizes).filter(|sizes| !sizes.is_empty()))
    }

    pub(super) fn string(&self, name: &str) -> TractResult<&str> {
        let Some(attribute) = self.find(name) else { return Ok("") };
        std::str::from_utf8(&attribute.s).with_context(|| format!("`{name}` is not UTF-8"))
    }

    pub(super) fn strings(&self, name: &str) -> TractResult<Vec<&str>> {
        let strings = self.find(name).map_or(&[][..], |attribute| &attribute.strings);
        let strings = strings.iter().map(|text| std::str::from_utf8(text));
        strings.collect::<Result<_, _>>().with_context(|| format!("`{name}` is not UTF-8"))
    }

    /// Refuses attributes that are there and say something.
    pub(super) fn without(&self, names: &[&str], instead: &str) -> TractResult<()> {
        for name in names {
            ensure!(!self.flag(name), "its `{name}` is not supported; {instead}");
        }
        Ok(())
    }
}
