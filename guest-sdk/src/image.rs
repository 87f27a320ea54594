//! Pictures to the numbers that a model takes.
//!
//! ```
//! use mayfly::image::{Layout, Picture};
//!
//! # fn tensor(upload: &[u8]) -> mayfly::Result<Vec<f32>> {
//! let picture = Picture::decode(upload)?.resize_to_fill(224, 224);
//! Ok(picture.pixels(Layout::Nchw, [127.0; 3], [128.0; 3]))
//! # }
//! # assert!(tensor(b"no picture").is_err());
//! ```

use std::io::Cursor;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::error::{ImageError, ImageResult};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};

use crate::{Error, Result};

/// The longest side that [`Picture::decode`] takes by default, in pixels.
pub const MAX_SIDE: u32 = 16_384;

/// The memory that a decoded picture may take by default, in bytes: 64 MiB hold 22 megapixels of RGB
/// and leave as much again of a usual function's 128 MiB.
pub const MAX_DECODED: u64 = 64 << 20;

/// A decoded picture: 8 bits each of red, green and blue.
#[derive(Debug, Clone)]
pub struct Picture(RgbImage);

/// The order of a picture's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// All red, then all green, then all blue: what most ONNX models take.
    Nchw,
    /// Red, green and blue of each pixel together: what models that come from TensorFlow take.
    Nhwc,
}

impl Picture {
    /// Decodes a PNG or JPEG of at most [`MAX_SIDE`] and [`MAX_DECODED`].
    ///
    /// # Errors
    /// As [`decode_within`](Self::decode_within).
    pub fn decode(file: &[u8]) -> Result<Self> {
        Self::decode_within(file, MAX_SIDE, MAX_DECODED)
    }

    /// Decodes a PNG or JPEG whose sides have at most `max_side` pixels and whose pixels take at most
    /// `max_bytes`. A picture that is too large is refused by its header, before its pixels are touched.
    /// A photo that says which way up it is gets turned that way.
    ///
    /// # Errors
    /// An [`Error`] that the client sees: 415 when it is neither PNG nor JPEG, 413 when it is too
    /// large, 422 when it is damaged.
    pub fn decode_within(file: &[u8], max_side: u32, max_bytes: u64) -> Result<Self> {
        let reader = ImageReader::new(Cursor::new(file)).with_guessed_format()?;
        if reader.format().is_none() {
            return Err(Error::unsupported_media_type("send a PNG or a JPEG").into());
        }
        let mut limits = Limits::default();
        limits.max_image_width = Some(max_side);
        limits.max_image_height = Some(max_side);
        limits.max_alloc = Some(max_bytes);
        match decode(reader, limits) {
            Ok(picture) => Ok(Self(picture)),
            Err(error) => Err(refusal(error, max_side, max_bytes).into()),
        }
    }

    /// A picture from red, green and blue of each pixel, row by row; nothing if there are not
    /// exactly `3 * width * height` of them.
    #[must_use]
    pub fn from_rgb(width: u32, height: u32, rgb: Vec<u8>) -> Option<Self> {
        RgbImage::from_raw(width, height, rgb).map(Self)
    }

    /// In pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.0.width()
    }

    /// In pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.0.height()
    }

    /// Red, green and blue of each pixel, row by row.
    #[must_use]
    pub fn rgb(&self) -> &[u8] {
        self.0.as_raw()
    }

    /// Stretches to exactly this size, with a bilinear filter that averages when it shrinks.
    #[must_use]
    pub fn resize(self, width: u32, height: u32) -> Self {
        if self.0.dimensions() == (width, height) {
            return self;
        }
        let all = [0, 0, self.width(), self.height()];
        self.part(all, width, height)
    }

    /// Cuts the largest piece of these proportions out of the middle and resizes it to this size.
    #[must_use]
    pub fn resize_to_fill(self, width: u32, height: u32) -> Self {
        let (all_width, all_height) = (u64::from(self.width()), u64::from(self.height()));
        let (wide, high) = (u64::from(width.max(1)), u64::from(height.max(1)));
        // Cutting first keeps the size of what is made bounded by what was given: a picture of one
        // pixel by thousands, resized first, would be thousands of times as large.
        let part_width = (all_height * wide / high).clamp(1, all_width.max(1));
        let part_height = (all_width * high / wide).clamp(1, all_height.max(1));
        let (x, y) = ((all_width - part_width) / 2, (all_height - part_height) / 2);
        if (part_width, part_height) == (all_width, all_height) {
            return self.resize(width, height);
        }
        let [x, y, part_width, part_height] =
            [x, y, part_width, part_height].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
        self.part([x, y, part_width, part_height], width, height)
    }

    /// The piece `[x, y, width, height]`, stretched to this size.
    fn part(&self, [x, y, part_width, part_height]: [u32; 4], width: u32, height: u32) -> Self {
        let mut part = Image::new(width, height, PixelType::U8x3);
        let [left, top, across, down] = [x, y, part_width, part_height].map(f64::from);
        let how = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
            .crop(left, top, across, down)
            .use_alpha(false);
        // Errors are of pieces outside the picture and of bytes that do not match its size: neither is possible here,
        // and of a picture of no pixels any other is black.
        if let Ok(all) = ImageRef::new(self.width(), self.height(), self.rgb(), PixelType::U8x3) {
            let _ = Resizer::new().resize(&all, &mut part, &how);
        }
        Self(RgbImage::from_raw(width, height, part.into_vec()).unwrap_or_default())
    }

    /// The numbers for a model: `(colour - mean) / scale`, with one mean and scale for each of red, green and blue.
    #[must_use]
    pub fn pixels(&self, layout: Layout, mean: [f32; 3], scale: [f32; 3]) -> Vec<f32> {
        let mut numbers = vec![0.0; self.rgb().len()];
        self.write(&mut numbers, layout, mean, scale);
        numbers
    }

    /// As [`pixels`](Self::pixels), in a tensor for one picture: `[1, 3, height, width]` or `[1, height, width, 3]`.
    ///
    /// # Errors
    /// When memory is short.
    #[cfg(feature = "onnx")]
    pub fn tensor(
        &self,
        layout: Layout,
        mean: [f32; 3],
        scale: [f32; 3],
    ) -> Result<crate::onnx::Tensor> {
        let (width, height) = (self.width() as usize, self.height() as usize);
        let shape = match layout {
            Layout::Nchw => [1, 3, height, width],
            Layout::Nhwc => [1, height, width, 3],
        };
        crate::onnx::Tensor::build(&shape, |numbers| self.write(numbers, layout, mean, scale))
    }

    /// `numbers` has one place for each byte of the picture.
    fn write(&self, numbers: &mut [f32], layout: Layout, mean: [f32; 3], scale: [f32; 3]) {
        let normal =
            |colour: u8, channel: usize| (f32::from(colour) - mean[channel]) / scale[channel];
        let (pixels, _) = self.rgb().as_chunks::<3>();
        match layout {
            Layout::Nhwc => {
                let (places, _) = numbers.as_chunks_mut::<3>();
                for (place, pixel) in places.iter_mut().zip(pixels) {
                    *place = std::array::from_fn(|channel| normal(pixel[channel], channel));
                }
            }
            Layout::Nchw => {
                let planes = numbers.chunks_exact_mut(pixels.len().max(1));
                for (channel, plane) in planes.enumerate() {
                    for (place, pixel) in plane.iter_mut().zip(pixels) {
                        *place = normal(pixel[channel], channel);
                    }
                }
            }
        }
    }
}

fn decode(mut reader: ImageReader<Cursor<&[u8]>>, mut limits: Limits) -> ImageResult<RgbImage> {
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    limits.reserve(decoder.total_bytes())?;
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

fn refusal(error: ImageError, max_side: u32, max_bytes: u64) -> Error {
    match &error {
        ImageError::Limits(_) => Error::too_large(format!(
            "the picture is over {max_side} pixels wide or high, or needs over {} MiB",
            max_bytes >> 20
        )),
        ImageError::Unsupported(_) => Error::unsupported_media_type("send a PNG or a JPEG"),
        ImageError::Decoding(_) | ImageError::IoError(_) => {
            Error::unprocessable(format!("the picture is damaged: {error}"))
        }
        _ => Error::unprocessable("the picture cannot be decoded"),
    }
    .with_source(error)
}

#[cfg(test)]
mod tests;
