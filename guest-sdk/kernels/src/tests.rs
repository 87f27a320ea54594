//! What a call may ask for, at its bounds.

use crate::pack::Window;
use crate::{Epilogue, Gemm, Left, MACS_MAX, Right, WORK_MAX, plane, work};

/// Whether a host would compute `batch` products of these sizes; strides of 0 let them be read from a few floats.
fn gemm_passes([m, n, k, batch]: [usize; 4]) -> bool {
    let data = &[0.0f32; 16][..];
    let mut c = vec![0.0; n];
    let call = Gemm {
        m,
        n,
        k,
        batch,
        left: Left::Strided { data, row: 0, col: 0, batch: 0 },
        right: Right::Strided { data, row: 0, col: 0, batch: 0 },
        c: &mut c,
        c_row: 0,
        c_batch: 0,
        epilogue: Epilogue::default(),
        scratch: &mut vec![0.0; crate::SCRATCH_MIN],
    };
    call.check().is_ok()
}

#[test]
fn products_of_next_to_nothing_are_work_too() {
    // Within the cap on multiply-adds, all of them.
    for sizes in [[1, 1, 1, 1 << 22], [1, 1, 1 << 14, 1 << 8], [1, 1 << 8, 1, 1 << 14]] {
        assert!(sizes.iter().product::<usize>() as u64 <= MACS_MAX);
        assert!(!gemm_passes(sizes), "{sizes:?}");
    }
    for sizes in [[1, 1, 1, 1 << 14], [64, 64, 64, 12], [49, 49, 32, 768], [1, 1000, 2048, 1]] {
        assert!(gemm_passes(sizes), "{sizes:?}");
    }
}

#[test]
fn a_call_as_large_as_its_multiply_adds_allow_is_no_more_work_than_allowed() {
    for (m, k) in [(24, 27), (64, 64), (64, 576), (512, 4608), (1000, 2048), (7, 147)] {
        let n = usize::try_from(MACS_MAX).unwrap() / (m * k) / 16 * 16;
        assert!(work::gemm([m, n, k, 1]) <= WORK_MAX, "{m} x {k} x {n}");
    }
    for (channels, filters) in [(24, 24), (64, 64), (32, 128), (256, 256)] {
        let tiles = usize::try_from(MACS_MAX).unwrap() / (channels * filters * 36) / 16 * 16;
        assert!(work::winograd(channels, filters, tiles) <= WORK_MAX, "{channels} to {filters}");
    }
}

#[test]
fn filters_of_next_to_nothing_are_work_too() {
    assert!(work::winograd(1, 1 << 20, 1) > WORK_MAX);
    assert!(work::winograd(1 << 20, 1, 1) > WORK_MAX);
    assert!(work::winograd(usize::MAX, usize::MAX, usize::MAX) > WORK_MAX);
}

#[test]
fn planes_and_rows_of_next_to_nothing_are_work_too() {
    let window = |kernel| Window { kernel, stride: [1; 2], dilation: [1; 2], pad: [0; 2] };
    let passes = |kernel, channels, input, output| {
        plane::check_sizes(&window(kernel), channels, input, output).is_ok()
    };
    assert!(!passes([1, 1], 1 << 20, [1, 1], [1, 1]));
    assert!(!passes([1, 1], 1, [1 << 21, 1], [1 << 21, 1]));
    assert!(passes([3, 3], 480, [14, 14], [14, 14]));
    assert!(passes([5, 5], 1152, [7, 7], [7, 7]));
    assert!(passes([7, 7], 2048, [7, 7], [1, 1]));
    assert!(passes([2, 2], 1, [2048, 2048], [2047, 2047]));
}
