//! The tensor frame: what an inference request's and its response's bodies are between host and guest.
//!
//! ```text
//! frame      = "MFT1" head:u32 count:u16 descriptor* data*
//! descriptor = name:str datatype:u8 rank:u8 dim:u64* bytes:u64
//! ```
//!
//! `head` counts from the frame's first byte to the first byte of data. The data follow each other in the order of the
//! descriptors, without gaps: a reader knows every size before the first number arrives, and can put each tensor where
//! it is to stay. Numbers are little-endian and row-major; a `BOOL` is a byte of 0 or 1; an element of `BYTES` is a
//! `u32` length and that many bytes.

use crate::limits;

/// Media type of a body that is a tensor frame.
pub const CONTENT_TYPE_TENSORS: &str = "application/vnd.mayfly.tensors";
/// Media type of what a model says of itself: `{"inputs": [{"name", "datatype", "shape"}], "outputs": [..]}`.
pub const CONTENT_TYPE_MODEL: &str = "application/vnd.mayfly.model+json";
/// Export that marks a reactor as answering `GET /` with its metadata and `POST /` with a tensor frame: a function
/// `[] -> []` that is never called.
pub const EXPORT_TENSORS_V1: &str = "mayfly_tensors_1";

/// Bytes to read before the length of the head is known.
pub const TENSORS_PREFIX_BYTES: usize = 8;
const MAGIC: [u8; 4] = *b"MFT1";

/// The types of elements, as the Open Inference Protocol names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DataType {
    /// `BOOL`
    Bool = 1,
    /// `UINT8`
    U8 = 2,
    /// `UINT16`
    U16 = 3,
    /// `UINT32`
    U32 = 4,
    /// `UINT64`
    U64 = 5,
    /// `INT8`
    I8 = 6,
    /// `INT16`
    I16 = 7,
    /// `INT32`
    I32 = 8,
    /// `INT64`
    I64 = 9,
    /// `FP16`
    F16 = 10,
    /// `FP32`
    F32 = 11,
    /// `FP64`
    F64 = 12,
    /// `BYTES`
    Bytes = 13,
    /// `BF16`
    Bf16 = 14,
}

impl DataType {
    /// Every type, in the order of their codes.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::F16,
        Self::F32,
        Self::F64,
        Self::Bytes,
        Self::Bf16,
    ];

    /// As the protocol writes it: `FP32`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::U8 => "UINT8",
            Self::U16 => "UINT16",
            Self::U32 => "UINT32",
            Self::U64 => "UINT64",
            Self::I8 => "INT8",
            Self::I16 => "INT16",
            Self::I32 => "INT32",
            Self::I64 => "INT64",
            Self::F16 => "FP16",
            Self::F32 => "FP32",
            Self::F64 => "FP64",
            Self::Bytes => "BYTES",
            Self::Bf16 => "BF16",
        }
    }

    /// The type of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|datatype| datatype.name() == name)
    }

    /// The type of this code in a frame.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|datatype| *datatype as u8 == code)
    }

    /// Bytes of an element; nothing for `BYTES`, whose elements differ.
    #[must_use]
    pub const fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::U8 | Self::I8 => Some(1),
            Self::U16 | Self::I16 | Self::F16 | Self::Bf16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Bytes => None,
        }
    }
}

/// A tensor frame that does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorError {
    /// It does not begin with `MFT1`.
    Magic,
    /// The head ends before the field that its lengths promise, or is longer than its fields.
    Length,
    /// The head is over [`limits::TENSOR_HEAD_BYTES`].
    TooLong,
    /// A name is not UTF-8.
    Name,
    /// There is no datatype of this code.
    DataType(u8),
    /// A tensor has more than [`limits::TENSOR_RANK`] dimensions.
    Rank(u8),
    /// Size of the data and shape of a tensor do not fit together.
    Size,
}

/// What a frame says of one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorInfo<'a> {
    /// The input's or output's name.
    pub name: &'a str,
    /// Of its elements.
    pub datatype: DataType,
    dims: &'a [u8],
    /// Bytes of its data.
    pub bytes: u64,
}

impl TensorInfo<'_> {
    /// The size of each dimension, outermost first.
    pub fn shape(&self) -> impl ExactSizeIterator<Item = u64> + Clone + '_ {
        self.dims.as_chunks::<8>().0.iter().map(|dim| u64::from_le_bytes(*dim))
    }

    /// Elements in the shape, if the number can be counted at all.
    #[must_use]
    pub fn elements(&self) -> Option<u64> {
        self.shape().try_fold(1u64, u64::checked_mul)
    }
}

/// The checked head of a frame: an iterator over what it says of each tensor.
#[derive(Debug, Clone, Copy)]
pub struct TensorsHead<'a> {
    left: u16,
    rest: &'a [u8],
}

impl<'a> TensorsHead<'a> {
    /// Length of the whole head, by its first bytes.
    ///
    /// # Errors
    /// [`TensorError::Magic`] and [`TensorError::TooLong`].
    pub fn length(prefix: [u8; TENSORS_PREFIX_BYTES]) -> Result<usize, TensorError> {
        let [a, b, c, d, length @ ..] = prefix;
        if [a, b, c, d] != MAGIC {
            return Err(TensorError::Magic);
        }
        let length =
            usize::try_from(u32::from_le_bytes(length)).map_err(|_| TensorError::TooLong)?;
        if length > limits::TENSOR_HEAD_BYTES {
            return Err(TensorError::TooLong);
        }
        if length < TENSORS_PREFIX_BYTES + 2 {
            return Err(TensorError::Length);
        }
        Ok(length)
    }

    /// Decodes a head of exactly the length that [`length`](Self::length) gave, and checks all of it.
    ///
    /// # Errors
    /// [`TensorError`] says what is wrong with the first tensor that is.
    pub fn decode(head: &'a [u8]) -> Result<Self, TensorError> {
        let (prefix, rest) = head.split_first_chunk().ok_or(TensorError::Length)?;
        if Self::length(*prefix)? != head.len() {
            return Err(TensorError::Length);
        }
        let (count, rest) = rest.split_first_chunk::<2>().ok_or(TensorError::Length)?;
        let left = u16::from_le_bytes(*count);
        let mut unread = rest;
        for _ in 0..left {
            let info = take_info(&mut unread)?;
            let fits = match info.datatype.size() {
                Some(size) => {
                    let elements = info.elements().ok_or(TensorError::Size)?;
                    elements.checked_mul(size as u64) == Some(info.bytes)
                }
                // The length before each element is the least that it takes.
                None => info.elements().is_some_and(|n| n <= info.bytes / 4),
            };
            if !fits {
                return Err(TensorError::Size);
            }
        }
        if unread.is_empty() { Ok(Self { left, rest }) } else { Err(TensorError::Length) }
    }
}

impl<'a> Iterator for TensorsHead<'a> {
    type Item = TensorInfo<'a>;

    fn next(&mut self) -> Option<TensorInfo<'a>> {
        self.left = self.left.checked_sub(1)?;
        take_info(&mut self.rest).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for TensorsHead<'_> {}

fn take<'a>(from: &mut &'a [u8], n: usize) -> Result<&'a [u8], TensorError> {
    let (taken, rest) = from.split_at_checked(n).ok_or(TensorError::Length)?;
    *from = rest;
    Ok(taken)
}

fn take_info<'a>(from: &mut &'a [u8]) -> Result<TensorInfo<'a>, TensorError> {
    let n = take(from, 2)?;
    let name = take(from, u16::from_le_bytes([n[0], n[1]]).into())?;
    let name = core::str::from_utf8(name).map_err(|_| TensorError::Name)?;
    let fixed = take(from, 2)?;
    let datatype = DataType::from_code(fixed[0]).ok_or(TensorError::DataType(fixed[0]))?;
    let rank = fixed[1];
    if usize::from(rank) > limits::TENSOR_RANK {
        return Err(TensorError::Rank(rank));
    }
    let dims = take(from, usize::from(rank) * 8)?;
    let (bytes, rest) = from.split_first_chunk().ok_or(TensorError::Length)?;
    *from = rest;
    Ok(TensorInfo { name, datatype, dims, bytes: u64::from_le_bytes(*bytes) })
}

/// Writes the head of a tensor frame; the data go after it.
#[derive(Debug)]
pub struct TensorsWriter<'b> {
    buffer: &'b mut [u8],
    at: usize,
    count: u16,
}

impl<'b> TensorsWriter<'b> {
    /// Bytes of a head without tensors.
    pub const EMPTY_BYTES: usize = TENSORS_PREFIX_BYTES + 2;

    /// Bytes that one tensor takes in a head.
    #[must_use]
    pub const fn info_bytes(name: &str, rank: usize) -> usize {
        2 + name.len() + 2 + rank * 8 + 8
    }

    /// Starts a head.
    ///
    /// # Errors
    /// [`TensorError::TooLong`] when `buffer` is too small.
    pub fn new(buffer: &'b mut [u8]) -> Result<Self, TensorError> {
        if buffer.len() < Self::EMPTY_BYTES {
            return Err(TensorError::TooLong);
        }
        Ok(Self { buffer, at: Self::EMPTY_BYTES, count: 0 })
    }

    /// Adds one tensor.
    ///
    /// # Errors
    /// [`TensorError::TooLong`] when it does not fit the buffer, and [`TensorError::Rank`].
    pub fn tensor(
        &mut self,
        name: &str,
        datatype: DataType,
        shape: &[u64],
        bytes: u64,
    ) -> Result<(), TensorError> {
        let rank = u8::try_from(shape.len()).map_err(|_| TensorError::Rank(u8::MAX))?;
        if shape.len() > limits::TENSOR_RANK {
            return Err(TensorError::Rank(rank));
        }
        let length = u16::try_from(name.len()).map_err(|_| TensorError::TooLong)?;
        let count = self.count.checked_add(1).ok_or(TensorError::TooLong)?;
        let end = self.at + Self::info_bytes(name, shape.len());
        if end > self.buffer.len() {
            return Err(TensorError::TooLong);
        }
        self.put(&length.to_le_bytes());
        self.put(name.as_bytes());
        self.put(&[datatype as u8, rank]);
        for dim in shape {
            self.put(&dim.to_le_bytes());
        }
        self.put(&bytes.to_le_bytes());
        self.count = count;
        Ok(())
    }

    /// Ends the head; gives its length.
    ///
    /// # Errors
    /// [`TensorError::TooLong`] when it is over [`limits::TENSOR_HEAD_BYTES`].
    pub fn finish(mut self) -> Result<usize, TensorError> {
        let end = self.at;
        if end > limits::TENSOR_HEAD_BYTES {
            return Err(TensorError::TooLong);
        }
        let length = u32::try_from(end).map_err(|_| TensorError::TooLong)?;
        self.at = 0;
        self.put(&MAGIC);
        self.put(&length.to_le_bytes());
        self.put(&self.count.to_le_bytes());
        Ok(end)
    }

    /// There is room: the callers have looked.
    fn put(&mut self, bytes: &[u8]) {
        self.buffer[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(buffer: &mut [u8]) -> usize {
        let mut writer = TensorsWriter::new(buffer).unwrap();
        writer.tensor("input", DataType::F32, &[1, 3], 12).unwrap();
        writer.tensor("", DataType::Bytes, &[], 7).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn a_head_survives_the_round_trip() {
        let mut buffer = [0; 128];
        let n = sample(&mut buffer);
        assert_eq!(TensorsHead::length(*buffer.first_chunk().unwrap()), Ok(n));
        let mut infos = TensorsHead::decode(&buffer[..n]).unwrap();
        assert_eq!(infos.len(), 2);
        let first = infos.next().unwrap();
        assert_eq!((first.name, first.datatype, first.bytes), ("input", DataType::F32, 12));
        assert!(first.shape().eq([1, 3]));
        let second = infos.next().unwrap();
        assert_eq!((second.name, second.elements(), second.bytes), ("", Some(1), 7));
        assert!(infos.next().is_none());
    }

    #[test]
    fn every_prefix_of_a_head_and_every_longer_one_is_refused() {
        let mut buffer = [0; 128];
        let n = sample(&mut buffer);
        for cut in 0..n {
            assert_eq!(TensorsHead::decode(&buffer[..cut]).unwrap_err(), TensorError::Length);
        }
        assert_eq!(TensorsHead::decode(&buffer[..n + 1]).unwrap_err(), TensorError::Length);
    }

    #[test]
    fn what_a_head_claims_must_be_possible() {
        let encode = |datatype, shape: &[u64], bytes| {
            let mut buffer = [0; 256];
            let mut writer = TensorsWriter::new(&mut buffer).unwrap();
            writer.tensor("x", datatype, shape, bytes).unwrap();
            let n = writer.finish().unwrap();
            TensorsHead::decode(&buffer[..n]).map(drop)
        };
        assert_eq!(encode(DataType::F32, &[2, 2], 16), Ok(()));
        assert_eq!(encode(DataType::F32, &[2, 2], 15), Err(TensorError::Size));
        assert_eq!(encode(DataType::F64, &[u64::MAX, 2], 16), Err(TensorError::Size));
        assert_eq!(encode(DataType::F64, &[1 << 61], 0), Err(TensorError::Size));
        assert_eq!(encode(DataType::Bytes, &[3], 11), Err(TensorError::Size));
        assert_eq!(encode(DataType::Bytes, &[0], 0), Ok(()));
    }

    #[test]
    fn rank_length_and_code_have_their_limits() {
        let mut buffer = [0; 40];
        let mut writer = TensorsWriter::new(&mut buffer).unwrap();
        let deep = [1; limits::TENSOR_RANK + 1];
        assert!(matches!(writer.tensor("x", DataType::U8, &deep, 1), Err(TensorError::Rank(_))));
        assert_eq!(writer.tensor("x", DataType::U8, &deep[..4], 1), Err(TensorError::TooLong));
        writer.tensor("x", DataType::U8, &deep[..1], 1).unwrap();
        let n = writer.finish().unwrap();
        buffer[13] = 99;
        assert_eq!(TensorsHead::decode(&buffer[..n]).unwrap_err(), TensorError::DataType(99));
        buffer[0] = b'm';
        assert_eq!(TensorsHead::decode(&buffer[..n]).unwrap_err(), TensorError::Magic);
        assert_eq!(TensorsHead::length(*b"MFT1\xff\xff\xff\x7f"), Err(TensorError::TooLong));
        assert_eq!(TensorsHead::length(*b"MFT1\0\0\0\0"), Err(TensorError::Length));
    }

    #[test]
    fn a_datatype_is_found_by_its_name_and_by_its_code() {
        for datatype in DataType::ALL {
            assert_eq!(DataType::from_name(datatype.name()), Some(datatype));
            assert_eq!(DataType::from_code(datatype as u8), Some(datatype));
        }
        assert_eq!(DataType::from_name("fp32"), None);
        assert_eq!(DataType::from_code(0), None);
    }
}
