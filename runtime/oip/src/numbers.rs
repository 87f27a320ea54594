//! A tensor's numbers as JSON has them, nested or flat, to the bytes that a tensor frame has.

use half::{bf16, f16};
use mayfly_abi::DataType;
use mayfly_abi::limits::TENSOR_RANK;

use crate::text::{Token, Tokens};

/// Reads `text`, which is known to be valid JSON, as a tensor of this type and shape. Allocates for what the text can
/// hold, not for what the shape claims.
///
/// # Errors
/// Which element is wrong and why, or how many there are and should be.
pub(crate) fn read(
    text: &str,
    datatype: DataType,
    shape: &[u64],
    elements: u64,
) -> Result<Vec<u8>, String> {
    // Every element takes a character and a comma or bracket.
    let possible = text.len() as u64 / 2 + 1;
    let capacity =
        usize::try_from(elements.min(possible)).unwrap_or(0) * datatype.size().unwrap_or(8);
    let mut reader = Reader {
        datatype,
        shape,
        elements,
        count: 0,
        depth: 0,
        leaf: None,
        children: [0; TENSOR_RANK + 2],
        bytes: Vec::with_capacity(capacity),
    };
    for token in Tokens::new(text) {
        match token {
            Token::Open => reader.open()?,
            Token::Close => reader.close()?,
            Token::Scalar(scalar) => reader.scalar(scalar)?,
        }
    }
    if reader.count != elements {
        return Err(reader.wrong_count());
    }
    Ok(reader.bytes)
}

struct Reader<'s> {
    datatype: DataType,
    shape: &'s [u64],
    elements: u64,
    /// Elements so far.
    count: u64,
    /// Arrays that are open.
    depth: usize,
    /// The depth at which elements stand: 1 if flat, else the rank.
    leaf: Option<usize>,
    /// What each open array has so far; index 1 is the outermost.
    children: [u64; TENSOR_RANK + 2],
    bytes: Vec<u8>,
}

impl Reader<'_> {
    fn open(&mut self) -> Result<(), String> {
        let deepest = self.leaf.unwrap_or_else(|| self.shape.len().max(1));
        if self.depth >= deepest {
            return Err(match self.leaf {
                Some(1) if self.shape.len() > 1 => {
                    "its data are partly flat and partly nested".into()
                }
                _ => format!("its data are nested deeper than its shape {:?}", self.shape),
            });
        }
        self.children[self.depth] += 1;
        self.depth += 1;
        self.children[self.depth] = 0;
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let found = self.children[self.depth];
        let flat = self.leaf.map_or(self.depth == 1 && found == 0, |leaf| leaf == 1);
        if flat {
            if found != self.elements {
                return Err(self.wrong_count());
            }
        } else if self.shape.get(self.depth - 1) != Some(&found) {
            return Err(format!(
                "its data have {found} entries in dimension {}, and its shape {:?} says {}",
                self.depth - 1,
                self.shape,
                self.shape.get(self.depth - 1).copied().unwrap_or(1),
            ));
        }
        self.depth -= 1;
        Ok(())
    }

    fn scalar(&mut self, text: &str) -> Result<(), String> {
        let rank = self.shape.len();
        match self.leaf {
            None if self.depth <= 1 || self.depth == rank => {
                if self.depth == 0 && rank != 0 {
                    return Err("its data are not an array".into());
                }
                self.leaf = Some(self.depth);
            }
            Some(leaf) if leaf == self.depth => {}
            None | Some(_) => return Err("its data are not nested evenly".into()),
        }
        if self.count == self.elements {
            // Counting on would read all of it only to refuse it.
            return Err(format!(
                "its data have more than the {} elements of its shape {:?}",
                self.elements, self.shape
            ));
        }
        let index = self.count;
        self.count += 1;
        self.children[self.depth] += 1;
        write(text, self.datatype, &mut self.bytes).map_err(|wrong| {
            let short: String = text.chars().take(40).collect();
            format!("element {index} of its data is {short}, {wrong}")
        })
    }

    fn wrong_count(&self) -> String {
        format!(
            "its data have {} elements, and its shape {:?} needs {}",
            self.count, self.shape, self.elements
        )
    }
}

/// Appends one element; says what the type needs if it is none.
fn write(text: &str, datatype: DataType, out: &mut Vec<u8>) -> Result<(), String> {
    macro_rules! whole {
        ($type:ty) => {{
            let range = || {
                format!(
                    "and {} needs a whole number of {} to {}",
                    datatype.name(),
                    <$type>::MIN,
                    <$type>::MAX
                )
            };
            let value: $type = text.parse().map_err(|_| range())?;
            out.extend_from_slice(&value.to_le_bytes());
        }};
    }
    let number = || -> Result<f64, String> {
        let value: f64 =
            text.parse().map_err(|_| format!("and {} needs a number", datatype.name()))?;
        if value.is_finite() { Ok(value) } else { Err(too_large(datatype)) }
    };
    match datatype {
        DataType::Bool => match text {
            "true" => out.push(1),
            "false" => out.push(0),
            _ => return Err("and BOOL needs true or false".into()),
        },
        DataType::U8 => whole!(u8),
        DataType::U16 => whole!(u16),
        DataType::U32 => whole!(u32),
        DataType::U64 => whole!(u64),
        DataType::I8 => whole!(i8),
        DataType::I16 => whole!(i16),
        DataType::I32 => whole!(i32),
        DataType::I64 => whole!(i64),
        DataType::F16 => {
            let value = f16::from_f64(number()?);
            finite(value.is_finite(), datatype)?;
            out.extend_from_slice(&value.to_le_bytes());
        }
        DataType::Bf16 => {
            let value = bf16::from_f64(number()?);
            finite(value.is_finite(), datatype)?;
            out.extend_from_slice(&value.to_le_bytes());
        }
        DataType::F32 => {
            // Straight from the text: by way of f64 a number could be rounded twice.
            let value: f32 = text.parse().map_err(|_| "and FP32 needs a number".to_owned())?;
            finite(value.is_finite(), datatype)?;
            out.extend_from_slice(&value.to_le_bytes());
        }
        DataType::F64 => out.extend_from_slice(&number()?.to_le_bytes()),
        DataType::Bytes => {
            let string: std::borrow::Cow<'_, str> =
                serde_json::from_str(text).map_err(|_| "and BYTES needs a string".to_owned())?;
            let length = u32::try_from(string.len()).map_err(|_| "which is too long".to_owned())?;
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(string.as_bytes());
        }
    }
    Ok(())
}

fn too_large(datatype: DataType) -> String {
    format!("which is too large for {}", datatype.name())
}

fn finite(is: bool, datatype: DataType) -> Result<(), String> {
    if is { Ok(()) } else { Err(too_large(datatype)) }
}

#[cfg(test)]
mod tests;
