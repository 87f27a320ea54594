use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tract_onnx::prelude as tract;
use tract_onnx::prelude::{DatumType, IntoArcTensor, IntoTValue, TValue};

mod sealed {
    pub trait Sealed: super::tract::Datum + Copy + Default {}
}

/// What a [`Tensor`] may hold: `f32`, `f64`, `bool`, and the integers of 8 to 64 bits.
pub trait Element: sealed::Sealed {}

macro_rules! elements {
    ($($element:ty)*) => {
        $(
            impl sealed::Sealed for $element {}
            impl Element for $element {}
        )*
    };
}

elements! { f32 f64 bool i8 u8 i16 u16 i32 u32 i64 u64 }

/// Numbers of one type in a shape, rows last: what goes into a model and comes out of it.
#[derive(Debug, Clone)]
pub struct Tensor(Arc<tract::Tensor>);

impl Tensor {
    /// Copies `data` into a tensor of `shape`.
    ///
    /// # Errors
    /// When `data` has not exactly as many elements as `shape` needs.
    pub fn new<T: Element>(shape: &[usize], data: &[T]) -> Result<Self> {
        let needed = checked_len(shape)?;
        ensure!(
            needed == data.len(),
            "a tensor of shape {shape:?} has {needed} elements, not {}",
            data.len()
        );
        Ok(Self(tract::Tensor::from_shape(shape, data)?.into()))
    }

    /// A tensor of `shape` that `fill` writes into, over zeros. Saves the copy that [`new`](Self::new) makes.
    ///
    /// # Errors
    /// When the shape needs more elements than memory can hold.
    pub fn build<T: Element>(shape: &[usize], fill: impl FnOnce(&mut [T])) -> Result<Self> {
        checked_len(shape)?;
        let mut tensor = tract::Tensor::zero_dt(T::datum_type(), shape)?;
        fill(tensor.try_as_plain_ram_mut()?.as_slice_mut::<T>()?);
        Ok(Self(tensor.into()))
    }

    /// A tensor of text.
    ///
    /// # Errors
    /// When `texts` has not exactly as many elements as `shape` needs.
    pub fn from_strings(shape: &[usize], texts: &[String]) -> Result<Self> {
        let needed = checked_len(shape)?;
        ensure!(
            needed == texts.len(),
            "a tensor of shape {shape:?} has {needed} elements, not {}",
            texts.len()
        );
        Ok(Self(tract::tensor1(texts).into_shape(shape)?.into()))
    }

    pub(super) fn zeros(datum: DatumType, shape: &[usize]) -> Result<Self> {
        let len = checked_len(shape)?;
        if datum == DatumType::String {
            return Self::from_strings(shape, &vec![String::new(); len]);
        }
        Ok(Self(tract::Tensor::zero_dt(datum, shape)?.into()))
    }

    /// The size of each dimension, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    /// The elements, the last dimension's next to each other.
    ///
    /// # Errors
    /// When the tensor holds another type than `T`.
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        let view = self.0.as_plain_ram().context("the tensor's numbers are not in plain memory")?;
        view.as_slice::<T>().with_context(|| self.wrong_type::<T>())
    }

    /// The elements of a tensor of text.
    ///
    /// # Errors
    /// When the tensor holds numbers.
    pub fn as_strings(&self) -> Result<&[String]> {
        let view = self.0.as_plain_ram().context("the tensor's text is not in plain memory")?;
        view.as_slice().with_context(|| self.wrong_type::<String>())
    }

    pub(super) fn datum(&self) -> DatumType {
        self.0.datum_type()
    }

    pub(super) fn into_inner(self) -> TValue {
        self.0.into_tvalue()
    }

    pub(super) fn from_inner(value: TValue) -> Self {
        Self(value.into_arc_tensor())
    }

    fn wrong_type<T: tract::Datum>(&self) -> String {
        format!("the tensor holds {}, not {}", type_name(self.datum()), type_name(T::datum_type()))
    }
}

/// How Rust names an element type.
pub(super) fn type_name(datum: DatumType) -> String {
    format!("{datum:?}").to_lowercase()
}

fn checked_len(shape: &[usize]) -> Result<usize> {
    let len = shape.iter().try_fold(1usize, |len, &size| len.checked_mul(size));
    len.with_context(|| format!("a tensor of shape {shape:?} does not fit memory"))
}
