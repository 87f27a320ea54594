//! NaN in a pool, the same on every CPU.

use mayfly_kernels::pack::Window;
use mayfly_kernels::{Plane, PlaneOp, plane};

use super::{cpus, in_pieces};

#[test]
fn a_pool_passes_over_nan_wherever_it_is() {
    let window = Window { kernel: [2, 2], stride: [1; 2], dilation: [1; 2], pad: [0; 2] };
    // Wide enough for whole vectors and a rest.
    let (width, out) = (38, 37);
    for cpu in cpus() {
        for tap in 0..4 {
            let mut input: Vec<f32> = (0..2 * width).map(|i| (i % width) as f32).collect();
            for x in (tap % 2..width).step_by(2) {
                input[tap / 2 * width + x] = f32::NAN;
            }
            let expected: Vec<f32> = (1..width).map(|x| x as f32).collect();
            let mut output = vec![f32::NAN; out];
            let mut scratch = vec![f32::NAN; plane::scratch_len(&window, 1, out).unwrap()];
            let mut call = Plane {
                op: PlaneOp::Max,
                channels: 1,
                height: 2,
                width,
                window,
                out_height: 1,
                out_width: out,
                input: &input,
                weights: &[],
                bias: None,
                lo: f32::NEG_INFINITY,
                hi: f32::INFINITY,
                output: &mut output,
                scratch: &mut scratch,
            };
            call.check().unwrap();
            in_pieces(cpu, &mut call);
            assert_eq!(output, expected, "{cpu:?}, NaN at tap {tap}");
        }
    }
}
