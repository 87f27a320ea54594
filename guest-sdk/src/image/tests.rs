use image::ImageFormat;

use super::*;
use crate::error::find;

fn png(width: u32, height: u32) -> Vec<u8> {
    let picture = RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([x.to_le_bytes()[0], y.to_le_bytes()[0], 7])
    });
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

fn status(result: Result<Picture>) -> u16 {
    let error = result.unwrap_err();
    find::<Error>(&error).unwrap().status().as_u16()
}

/// A PNG that says it has this size, and nothing after its header. The checksum has to be right.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut file = png(1, 1);
    file[16..20].copy_from_slice(&width.to_be_bytes());
    file[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = file[12..29].iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    });
    file[29..33].copy_from_slice(&(!crc).to_be_bytes());
    file
}

#[test]
fn a_picture_larger_than_the_limits_is_refused_by_its_header() {
    assert_eq!(status(Picture::decode(&bomb(100_000, 100_000))), 413);
    assert_eq!(status(Picture::decode(&bomb(16_000, 16_000))), 413);
    assert_eq!(status(Picture::decode_within(&png(11, 10), 10, 1 << 20)), 413);
    assert!(Picture::decode_within(&png(10, 10), 10, 1 << 20).is_ok());
}

#[test]
fn what_is_no_picture_and_what_is_half_of_one_are_told_apart() {
    assert_eq!(status(Picture::decode(b"hello")), 415);
    assert_eq!(status(Picture::decode(b"GIF89a\x01\x00\x01\x00")), 415);
    let whole = png(64, 64);
    assert_eq!(status(Picture::decode(&whole[..whole.len() / 2])), 422);
}

#[test]
fn filling_keeps_proportions_and_the_middle() {
    let picture = Picture::decode(&png(200, 100)).unwrap().resize_to_fill(50, 50);
    assert_eq!((picture.width(), picture.height()), (50, 50));
    // Red counts columns: the first is the 50th of the whole, the middle one the 100th.
    let red = |x: usize| picture.rgb()[3 * (25 * 50 + x)];
    assert!((50..=51).contains(&red(0)), "{}", red(0));
    assert!((100..=101).contains(&red(25)), "{}", red(25));
    for (width, height) in [(1, 200), (200, 1), (3, 3), (224, 224)] {
        let picture = Picture::decode(&png(width, height)).unwrap().resize_to_fill(224, 112);
        assert_eq!((picture.width(), picture.height()), (224, 112));
    }
}

#[test]
fn numbers_are_normalised_in_either_order() {
    let picture = Picture::from_rgb(2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
    let (mean, scale) = ([1.0, 1.0, 1.0], [1.0, 1.0, 2.0]);
    assert_eq!(picture.pixels(Layout::Nhwc, mean, scale), [0.0, 1.0, 1.0, 3.0, 4.0, 2.5]);
    assert_eq!(picture.pixels(Layout::Nchw, mean, scale), [0.0, 3.0, 1.0, 4.0, 1.0, 2.5]);
    assert!(Picture::from_rgb(2, 2, vec![0; 6]).is_none());
}
