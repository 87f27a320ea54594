use mayfly_admin::profile::{Stack, Wait};

use super::*;

fn frame(kind: Kind, name: &str) -> Frame {
    Frame { kind, name: name.into() }
}

fn taken() -> Taken {
    Taken {
        function: "f".into(),
        revision: 2,
        took_us: 1_000_000,
        sample_us: 1_000,
        names: "names".into(),
        invocations: 7,
        call_us: 5_000,
        samples: 100,
        frames: vec![
            frame(Kind::Function, "handle"),
            frame(Kind::Function, "a;b<script>\u{1b}[1m"),
            frame(Kind::Kernel, "gemm"),
        ],
        stacks: vec![
            Stack { frames: vec![0, 1, 1], samples: 60 },
            Stack { frames: vec![2], samples: 30 },
            Stack { frames: vec![0, 99], samples: 10 },
        ],
        waits: vec![Wait { import: "m::wait".into(), us: 4_000 }],
        ..Taken::default()
    }
}

#[test]
fn a_files_name_says_what_it_is() {
    for (file, form) in [
        ("a.svg", Form::Svg),
        ("A.SVG", Form::Svg),
        ("b.folded", Form::Folded),
        ("c.pprof", Form::Pprof),
        ("c.pb.gz", Form::Pprof),
    ] {
        assert_eq!(Form::of(Path::new(file)).unwrap(), form, "{file}");
    }
    for file in ["svg", "a.txt", "/", "a.svg/"] {
        let refused = Form::of(Path::new(file));
        assert!(refused.is_err() || file == "a.svg/", "{file}");
    }
}

#[test]
fn each_stack_is_one_line_whatever_its_names_are() {
    let folded = folded::of(&taken());
    let name = "a:b<script>\\u{1b}[1m";
    assert_eq!(folded, format!("handle;{name};{name} 60\n[kernel] gemm 30\nhandle 10\n"));
}

#[test]
fn a_table_has_each_function_once_however_deep_it_is() {
    let text = table::of(&taken());
    assert!(text.starts_with("f#2: 100 samples of 1.0 ms in 1.00 s, 7 invocations"), "{text}");
    assert!(text.contains("points"), "{text}");
    for line in [
        "60.0 %  60.0 %  a;b<script>\\u{1b}[1m",
        "30.0 %  30.0 %  [kernel] gemm",
        "10.0 %  70.0 %  handle",
        "waited 4.0 ms in m::wait",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

#[test]
fn a_picture_has_boxes_upon_one_another_and_nothing_that_runs() {
    let picture = svg::of(&taken());
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    assert!(!picture.contains("<script") && !picture.contains('\u{1b}'), "{picture}");
    assert_eq!(picture.matches("<g>").count(), 4);
    assert_eq!(picture.matches("60 samples, 60.00 %").count(), 2);
    // handle and gemm, side by side.
    assert!(
        picture.contains("width=\"1120.00\"") && picture.contains("x=\"1130.00\""),
        "{picture}"
    );
}

#[test]
fn pprof_has_the_innermost_first_and_names_in_its_table() {
    let read = pprof::read(&pprof::of(&taken()).unwrap());
    assert_eq!(read.string_table[0], "");
    assert_eq!(read.sample[0].location_id, [2, 2, 1]);
    assert_eq!(read.sample[0].value, [60, 60_000_000]);
    let name = |at: usize| &read.string_table[usize::try_from(read.function[at].name).unwrap()];
    assert_eq!((name(0).as_str(), name(2).as_str()), ("handle", "[kernel] gemm"));
    assert_eq!((read.period, read.duration_nanos), (1_000_000, 1_000_000_000));
}

#[test]
fn an_empty_profile_says_whether_anybody_called() {
    let quiet = Taken { invocations: 0, samples: 0, stacks: Vec::new(), ..taken() };
    assert!(nothing(&quiet).text.contains("was not called within 1.00 s"));
    let short = nothing(&Taken { invocations: 7, ..quiet });
    assert!(short.text.contains("7 invocations of 'f' took 5.0 ms together"), "{}", short.text);
}
