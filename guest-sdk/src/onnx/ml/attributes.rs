//! A node's attributes.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{AttributeProto, NodeProto};
use tract_onnx::tract_core::internal::*;

/// The operators' domain, as files name it.
const DOMAIN: &str = "ai.onnx.ml";

#[derive(Clone, Copy)]
pub(in crate::onnx) struct Attributes<'a> {
    context: &'a ParsingContext<'a>,
    node: &'a NodeProto,
    /// Of the operator set [`DOMAIN`].
    pub(super) version: i64,
}

impl<'a> Attributes<'a> {
    pub(in crate::onnx) fn new(context: &'a ParsingContext<'a>, node: &'a NodeProto) -> Self {
        let mut imports = context.model.opset_import.iter();
        let version = imports.find(|set| set.domain == DOMAIN).map_or(1, |set| set.version);
        Self { context, node, version }
    }

    /// How errors call the node: a name is optional in ONNX, and that of what it makes is not.
    pub(in crate::onnx) fn node(&self) -> String {
        let made = self.node.output.iter().find(|name| !name.is_empty());
        let name = if self.node.name.is_empty() { made } else { Some(&self.node.name) };
        format!("the {} {:?}", self.node.op_type, name.map_or("", String::as_str))
    }

    /// A size that only a run tells; each call makes another one.
    pub(in crate::onnx) fn unknown(&self) -> TDim {
        self.context.template.symbols.new_with_prefix("run").into()
    }

    fn find(&self, name: &str) -> Option<&'a AttributeProto> {
        self.node.attribute.iter().find(|attribute| attribute.name == name)
    }

    pub(in crate::onnx) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    pub(in crate::onnx) fn floats(&self, name: &str) -> &'a [f32] {
        self.find(name).map_or(&[], |attribute| &attribute.floats)
    }

    pub(in crate::onnx) fn ints(&self, name: &str) -> &'a [i64] {
        self.find(name).map_or(&[], |attribute| &attribute.ints)
    }

    /// Counts and indices.
    pub(in crate::onnx) fn sizes(&self, name: &str) -> TractResult<Vec<usize>> {
        let sizes = self.ints(name).iter().map(|&size| usize::try_from(size));
        sizes.collect::<Result<_, _>>().with_context(|| format!("`{name}` is negative"))
    }

    pub(in crate::onnx) fn strings(&self, name: &str) -> TractResult<Vec<String>> {
        let strings = self.find(name).map_or(&[][..], |attribute| &attribute.strings);
        let strings = strings.iter().map(|bytes| String::from_utf8(bytes.clone()));
        strings.collect::<Result<_, _>>().with_context(|| format!("`{name}` is not UTF-8"))
    }

    pub(in crate::onnx) fn int(&self, name: &str, default: i64) -> i64 {
        self.find(name).map_or(default, |attribute| attribute.i)
    }

    pub(in crate::onnx) fn float(&self, name: &str, default: f32) -> f32 {
        self.find(name).map_or(default, |attribute| attribute.f)
    }

    pub(in crate::onnx) fn string(
        &self,
        name: &str,
        default: &'static str,
    ) -> TractResult<&'a str> {
        let Some(attribute) = self.find(name) else { return Ok(default) };
        std::str::from_utf8(&attribute.s).with_context(|| format!("`{name}` is not UTF-8"))
    }

    pub(in crate::onnx) fn tensor(&self, name: &str) -> TractResult<Option<Tensor>> {
        let Some(proto) = self.find(name).and_then(|attribute| attribute.t.as_ref()) else {
            return Ok(None);
        };
        self.context.load_tensor(proto).with_context(|| format!("`{name}`")).map(Some)
    }

    /// Floats, or the doubles that newer operator sets have as a tensor of that name and `_as_tensor`.
    pub(in crate::onnx) fn doubles(&self, name: &str) -> TractResult<Vec<f64>> {
        match self.tensor(&format!("{name}_as_tensor"))? {
            Some(tensor) => {
                Ok(tensor.cast_to::<f64>()?.try_as_plain_ram()?.as_slice::<f64>()?.to_vec())
            }
            None => Ok(self.floats(name).iter().map(|&value| value.into()).collect()),
        }
    }
}
