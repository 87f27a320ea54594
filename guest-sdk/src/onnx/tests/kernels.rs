//! Operators at the bounds of what one call of a kernel takes, and beyond them.

use tract_onnx::pb::AttributeProto;
use tract_onnx::pb::attribute_proto::AttributeType;

use super::*;

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Ints as i32,
        ints: ints.to_vec(),
        ..AttributeProto::default()
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    let r#type = AttributeType::Int as i32;
    AttributeProto { name: name.to_owned(), r#type, i, ..AttributeProto::default() }
}

fn with(mut node: NodeProto, attributes: Vec<AttributeProto>) -> NodeProto {
    node.attribute = attributes;
    node
}

/// A model of `nodes`, the last of which makes `y`; its dimensions are whatever they turn out to be.
fn load(
    inputs: &[(&str, &[Dimension])],
    rank: usize,
    constants: Vec<TensorProto>,
    nodes: Vec<NodeProto>,
) -> crate::Result<Model> {
    let dims = (0..rank).map(|i| open(&format!("y{i}"))).collect();
    let graph = GraphProto {
        input: inputs.iter().map(|(name, dims)| floats(name, dims.to_vec())).collect(),
        output: vec![floats("y", dims)],
        initializer: constants,
        node: nodes,
        ..GraphProto::default()
    };
    Model::options().warm_up(false).parse("m", &file(graph))
}

fn run(
    model: &Model,
    inputs: &[(&str, &[usize], &[f32])],
) -> crate::Result<(Vec<usize>, Vec<f32>)> {
    let inputs =
        inputs.iter().map(|(name, shape, data)| (*name, Tensor::new(shape, data).unwrap()));
    let outputs = model.run(inputs)?;
    let y = outputs.get("y").unwrap();
    Ok((y.shape().to_vec(), y.as_slice::<f32>().unwrap().to_vec()))
}

/// Small whole numbers, in no order: their sums are exact.
#[allow(clippy::cast_precision_loss, reason = "they are -2 to 2")]
fn numbers(len: usize, seed: usize) -> Vec<f32> {
    let mut state = seed as u64 * 0x9e37_79b9 + 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 5) as f32 - 2.0
    };
    (0..len).map(next).collect()
}

/// A square convolution or pool over square images of one batch.
#[derive(Clone, Copy)]
struct Square {
    channels: usize,
    filters: usize,
    group: usize,
    side: usize,
    kernel: usize,
    stride: usize,
    /// Before and after.
    pad: [usize; 2],
}

impl Square {
    fn out(&self) -> usize {
        (self.side + self.pad[0] + self.pad[1] - self.kernel) / self.stride + 1
    }

    fn window(&self) -> Vec<AttributeProto> {
        let [kernel, stride, before, after] =
            [self.kernel, self.stride, self.pad[0], self.pad[1]].map(|v| i64::try_from(v).unwrap());
        let pads = ints("pads", &[before, before, after, after]);
        vec![ints("kernel_shape", &[kernel; 2]), ints("strides", &[stride; 2]), pads]
    }

    fn conv(&self) -> NodeProto {
        let mut attributes = self.window();
        attributes.push(int("group", i64::try_from(self.group).unwrap()));
        with(node("Conv", "conv", &["x", "w", "b"], "y"), attributes)
    }

    fn shape(&self) -> [usize; 4] {
        [1, self.channels, self.side, self.side]
    }

    fn constants(&self, w: &[f32], b: &[f32]) -> Vec<TensorProto> {
        let dims = [self.filters, self.channels / self.group, self.kernel, self.kernel];
        let dims = dims.map(|size| i64::try_from(size).unwrap());
        vec![weights("w", &dims, w.to_vec()), weights("b", &dims[..1], b.to_vec())]
    }

    fn dims(&self) -> Vec<Dimension> {
        self.shape().iter().map(|size| fixed(i64::try_from(*size).unwrap())).collect()
    }

    /// What the window at an output pixel sees of a channel: each tap that is inside the image, and its value.
    fn seen<'a>(
        &self,
        x: &'a [f32],
        channel: usize,
        [oy, ox]: [usize; 2],
    ) -> impl Iterator<Item = (usize, f32)> + 'a {
        let Square { side, kernel, stride, pad: [pad, _], .. } = *self;
        let inside = move |at: usize, tap: usize| {
            (at * stride + tap).checked_sub(pad).filter(|at| *at < side)
        };
        (0..kernel * kernel).filter_map(move |tap| {
            let (y, x_at) = (inside(oy, tap / kernel)?, inside(ox, tap % kernel)?);
            Some((tap, x[(channel * side + y) * side + x_at]))
        })
    }

    fn sum(&self, x: &[f32], w: &[f32], b: &[f32], filter: usize, at: [usize; 2]) -> f32 {
        let (channels, taps) = (self.channels / self.group, self.kernel * self.kernel);
        let first = filter / (self.filters / self.group) * channels;
        let mut sum = b[filter];
        for channel in 0..channels {
            let w = &w[(filter * channels + channel) * taps..];
            sum += self.seen(x, first + channel, at).map(|(tap, x)| w[tap] * x).sum::<f32>();
        }
        sum
    }
}

/// Pixels to look at, of an output so wide: its corners and some between.
fn pixels(side: usize) -> Vec<[usize; 2]> {
    let places = [0, 1, side / 3, side / 2, side - 2, side - 1];
    places.iter().flat_map(|&y| places.map(|x| [y, x])).collect()
}

#[test]
fn convolutions_with_more_filters_than_one_call_takes() {
    let winograd = Square {
        channels: 512,
        filters: 512,
        group: 1,
        side: 14,
        kernel: 3,
        stride: 1,
        pad: [1, 1],
    };
    let direct = Square { filters: 1024, side: 6, stride: 2, ..winograd };
    for s in [winograd, direct] {
        let (x, w) = (numbers(512 * s.side * s.side, 1), numbers(s.filters * 512 * 9, 2));
        let (b, out) = (numbers(s.filters, 3), s.out());
        let add = numbers(s.filters * out * out, 4);
        let mut conv = s.conv();
        conv.output = vec!["sum".to_owned()];
        let nodes =
            vec![conv, node("Add", "add", &["sum", "r"], "z"), node("Relu", "relu", &["z"], "y")];
        let shape = [1, s.filters, out, out];
        let dims = shape.map(|size| fixed(i64::try_from(size).unwrap()));
        let model = load(&[("x", &s.dims()), ("r", &dims)], 4, s.constants(&w, &b), nodes).unwrap();
        let (_, y) = run(&model, &[("x", &s.shape(), &x), ("r", &shape, &add)]).unwrap();
        for filter in [0, 1, 107, 108, 179, 180, 215, 216, 359, 360, s.filters - 1] {
            for at in pixels(out) {
                let place = (filter * out + at[0]) * out + at[1];
                let expected = (s.sum(&x, &w, &b, filter, at) + add[place]).max(0.0);
                let off = (y[place] - expected).abs();
                assert!(off < 0.05, "filter {filter} at {at:?}: {} for {expected}", y[place]);
            }
        }
    }
}

#[test]
fn sums_longer_than_one_call_takes() {
    const K: usize = 400_000;
    let mut x = numbers(2 * K, 1);
    let mut w = numbers(K * 3, 2);
    x.iter_mut().for_each(|x| *x += 1.0);
    // The first slice's sums are below zero, where the bound after the last is.
    w.iter_mut().enumerate().for_each(|(i, w)| *w += if i / 3 < K / 2 { -1.0 } else { 2.0 });
    let bias = [5.0f32, 6.0, -7.0];
    let expected: Vec<f32> = (0..6)
        .map(|i| {
            let (row, col) = (i / 3, i % 3);
            let sum: f32 = (0..K).map(|k| x[row * K + k] * w[k * 3 + col]).sum();
            (sum + bias[col]).max(0.0)
        })
        .collect();
    assert!(expected.iter().all(|v| *v > 1000.0 && *v < 16e6), "exact in f32: {expected:?}");
    let nodes = || {
        vec![
            node("MatMul", "product", &["x", "w"], "p"),
            node("Add", "add", &["p", "b"], "z"),
            node("Relu", "relu", &["z"], "y"),
        ]
    };
    let long = i64::try_from(K).unwrap();
    let (x_dims, w_dims) = ([fixed(2), fixed(long)], [fixed(long), fixed(3)]);
    let constants = || vec![weights("b", &[3], bias.to_vec())];
    let model = load(&[("x", &x_dims), ("w", &w_dims)], 2, constants(), nodes()).unwrap();
    let given = run(&model, &[("x", &[2, K], &x), ("w", &[K, 3], &w)]).unwrap();
    assert_eq!(given, (vec![2, 3], expected.clone()));
    let mut known = constants();
    known.push(weights("w", &[long, 3], w.clone()));
    let model = load(&[("x", &x_dims)], 2, known, nodes()).unwrap();
    assert_eq!(run(&model, &[("x", &[2, K], &x)]).unwrap().1, expected);
}

#[test]
fn many_small_products_are_as_many_calls_as_it_takes() {
    const BATCH: usize = 50_000;
    let (a, b) = (numbers(BATCH * 2, 1), numbers(BATCH * 6, 2));
    let batch = fixed(i64::try_from(BATCH).unwrap());
    let dims = [[batch.clone(), fixed(1), fixed(2)], [batch, fixed(2), fixed(3)]];
    let nodes = vec![node("MatMul", "product", &["a", "b"], "y")];
    let model = load(&[("a", &dims[0]), ("b", &dims[1])], 3, Vec::new(), nodes).unwrap();
    let (_, y) = run(&model, &[("a", &[BATCH, 1, 2], &a), ("b", &[BATCH, 2, 3], &b)]).unwrap();
    for (i, y) in y.iter().enumerate() {
        let (a, b) = (&a[i / 3 * 2..], &b[i / 3 * 6 + i % 3..]);
        assert_eq!(*y, a[0] * b[0] + a[1] * b[3], "element {i}");
    }
}

#[test]
fn windows_with_more_taps_than_the_kernels_take() {
    let s =
        Square { channels: 4, filters: 4, group: 4, side: 15, kernel: 13, stride: 1, pad: [6, 6] };
    let (x, w, b) = (numbers(4 * 225, 1), numbers(4 * 169, 2), numbers(4, 3));
    let model = load(&[("x", &s.dims())], 4, s.constants(&w, &b), vec![s.conv()]).unwrap();
    let (_, sums) = run(&model, &[("x", &s.shape(), &x)]).unwrap();
    let pool = with(node("MaxPool", "pool", &["x"], "y"), s.window());
    let model = load(&[("x", &s.dims())], 4, Vec::new(), vec![pool]).unwrap();
    let (_, largest) = run(&model, &[("x", &s.shape(), &x)]).unwrap();
    for channel in 0..4 {
        for at in pixels(15) {
            let place = (channel * 15 + at[0]) * 15 + at[1];
            assert_eq!(sums[place], s.sum(&x, &w, &b, channel, at), "{channel}, {at:?}");
            let most = s.seen(&x, channel, at).map(|(_, x)| x).fold(f32::MIN, f32::max);
            assert_eq!(largest[place], most, "{channel}, {at:?}");
        }
    }
}

#[test]
fn planes_larger_than_one_call_takes() {
    let s =
        Square { channels: 2, filters: 2, group: 2, side: 2101, kernel: 3, stride: 2, pad: [1, 1] };
    let (x, w, b) = (numbers(2 * 2101 * 2101, 1), numbers(18, 2), numbers(2, 3));
    let out = s.out();
    let pool = with(node("MaxPool", "pool", &["x"], "y"), s.window());
    let any = || [fixed(1), fixed(2), open("H"), open("W")];
    for dims in [s.dims(), any().to_vec()] {
        let conv = load(&[("x", &dims)], 4, s.constants(&w, &b), vec![s.conv()]).unwrap();
        let (_, sums) = run(&conv, &[("x", &s.shape(), &x)]).unwrap();
        let pool = load(&[("x", &dims)], 4, Vec::new(), vec![pool.clone()]).unwrap();
        let (_, largest) = run(&pool, &[("x", &s.shape(), &x)]).unwrap();
        for channel in 0..2 {
            // A column of them all, so that every row where a call begins is among them.
            let column = (0..out).map(|y| [y, out - 1]);
            for at in pixels(out).into_iter().chain(column) {
                let place = (channel * out + at[0]) * out + at[1];
                assert_eq!(sums[place], s.sum(&x, &w, &b, channel, at), "{channel}, {at:?}");
                let most = s.seen(&x, channel, at).map(|(_, x)| x).fold(f32::MIN, f32::max);
                assert_eq!(largest[place], most, "{channel}, {at:?}");
            }
        }
    }
}

#[test]
fn a_window_of_one_with_padding_only_at_the_end() {
    let s =
        Square { channels: 3, filters: 4, group: 1, side: 4, kernel: 1, stride: 1, pad: [0, 1] };
    let (x, w, b) = (numbers(48, 1), numbers(12, 2), numbers(4, 3));
    let model = load(&[("x", &s.dims())], 4, s.constants(&w, &b), vec![s.conv()]).unwrap();
    let (shape, y) = run(&model, &[("x", &s.shape(), &x)]).unwrap();
    assert_eq!(shape, [1, 4, 5, 5]);
    for (i, y) in y.into_iter().enumerate() {
        assert_eq!(y, s.sum(&x, &w, &b, i / 25, [i / 5 % 5, i % 5]), "element {i}");
    }
}

#[test]
fn an_axis_of_one_is_repeated_along_an_open_one() {
    let (a, b) = (numbers(20, 1), numbers(3 * 30, 2));
    let dims = [[fixed(1), fixed(4), fixed(5)], [open("N"), fixed(5), fixed(6)]];
    let nodes = vec![node("MatMul", "product", &["a", "b"], "y")];
    let model = load(&[("a", &dims[0]), ("b", &dims[1])], 3, Vec::new(), nodes).unwrap();
    let (shape, y) = run(&model, &[("a", &[1, 4, 5], &a), ("b", &[3, 5, 6], &b)]).unwrap();
    assert_eq!(shape, [3, 4, 6]);
    for (i, y) in y.into_iter().enumerate() {
        let (n, row, col) = (i / 24, i / 6 % 4, i % 6);
        let sum: f32 = (0..5).map(|k| a[row * 5 + k] * b[(n * 5 + k) * 6 + col]).sum();
        assert_eq!(y, sum, "element {i}");
    }
}

#[test]
fn images_without_pixels_have_results_without_pixels() {
    let dims = [fixed(1), fixed(2), open("H"), open("W")];
    for group in [1, 2] {
        let s =
            Square { channels: 2, filters: 2, group, side: 8, kernel: 3, stride: 1, pad: [0, 0] };
        let constants = s.constants(&numbers(36 / group, 1), &numbers(2, 2));
        let model = load(&[("x", &dims)], 4, constants, vec![s.conv()]).unwrap();
        let (shape, y) = run(&model, &[("x", &[1, 2, 0, 8], &[])]).unwrap();
        assert_eq!((shape, y), (vec![1, 2, 0, 6], Vec::new()));
    }
    let s =
        Square { channels: 2, filters: 2, group: 2, side: 8, kernel: 3, stride: 1, pad: [1, 1] };
    let pool = with(node("MaxPool", "pool", &["x"], "y"), s.window());
    let model = load(&[("x", &dims)], 4, Vec::new(), vec![pool]).unwrap();
    assert!(line(run(&model, &[("x", &[1, 2, 0, 8], &[])])).contains("without pixels"));
}

#[test]
fn a_bound_lets_nan_through_in_a_convolution_along_rows() {
    let x_dims = [fixed(1), fixed(24), fixed(64)];
    let constants =
        vec![weights("w", &[24, 24, 3], numbers(24 * 72, 1)), weights("b", &[24], numbers(24, 2))];
    let conv = with(node("Conv", "conv", &["x", "w", "b"], "z"), vec![ints("kernel_shape", &[3])]);
    let nodes = vec![conv, node("Relu", "relu", &["z"], "y")];
    let model = load(&[("x", &x_dims)], 3, constants, nodes).unwrap();
    let mut x = numbers(24 * 64, 3);
    x[0] = f32::NAN;
    let (_, y) = run(&model, &[("x", &[1, 24, 64], &x)]).unwrap();
    for filter in y.chunks_exact(62) {
        assert!(filter[0].is_nan() && !filter[61].is_nan());
    }
}

#[test]
fn an_lp_pool_that_rounds_up_is_refused_in_words() {
    let attributes = vec![ints("kernel_shape", &[2]), ints("strides", &[2]), int("ceil_mode", 1)];
    let pool = with(node("LpPool", "pool", &["x"], "y"), attributes);
    let error = line(load(&[("x", &[fixed(1), fixed(1), fixed(5)])], 3, Vec::new(), vec![pool]));
    assert!(error.contains("\"pool\" has ceil_mode = 1"), "{error}");
}
