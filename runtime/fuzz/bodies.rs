//! What every fuzz target does with its bytes: parsers of ours that read what others wrote. `cargo fuzz` explores them
//! for as long as it is given; `runtime/tests/hostile/fuzzed.rs` runs the same on a few thousand inputs that are always
//! the same ones.
//!
//! A body may panic for one reason: something does not hold.

use bytes::Bytes;
use mayfly_core::{
    ArtifactKey, Digest, FunctionName, Limits, Mac, MacKey, RequestId, auth, router,
};
use mayfly_host::kernels::{self, Cpu};
use mayfly_host::sandbox::{cgi, head};
use mayfly_publish::child;
use mayfly_publish::validate;
use mayfly_serve::gateway::framing::Framing;

/// A target: its name, what it does, and inputs to begin with.
pub struct Target {
    /// As in `runtime/fuzz/targets`.
    pub name: &'static str,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
    /// Inputs near what is valid.
    pub seeds: &'static [&'static [u8]],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "framing", run: framing, seeds: FRAMING_SEEDS },
    Target { name: "cgi_head", run: cgi_head, seeds: CGI_SEEDS },
    Target {
        name: "frames",
        run: frames,
        seeds: &[b"\xc8\x00\x01\x00\x01\x00a\x01\x00b", b"\x03\x00GET\x01\x00/"],
    },
    Target { name: "inference", run: inference, seeds: INFERENCE_SEEDS },
    Target { name: "module", run: module, seeds: MODULE_SEEDS },
    Target { name: "child_answer", run: child_answer, seeds: ANSWER_SEEDS },
    Target { name: "kernels", run: native_kernels, seeds: &[&[0; 128], &[1; 200]] },
    Target {
        name: "names",
        run: names,
        seeds: &[b"hello-1", b"/api/...", b"Bearer 0123", b"a.example:80", b"/a/%2e%2e/b"],
    },
    Target {
        name: "calls",
        run: calls,
        seeds: &[
            b"https://a.example:8443/v1/x?y=z",
            b"GET,POST https://*.example.com:8443/v1/...",
            b"http://[2001:db8::1]:80/",
            b"http://127.0.0.1/%2e%2e/",
            b"mayfly://other/path",
        ],
    },
];

const FRAMING_SEEDS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n",
];
const CGI_SEEDS: &[&[u8]] = &[
    b"Status: 404 Not Found\nContent-Type: text/plain\r\nX: y\n\nbody",
    b"Location: /there\n\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
];
const INFERENCE_SEEDS: &[&[u8]] = &[
    br#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1.5,-2e3]}]}"#,
    br#"{"id":"1","inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}],"outputs":[{"name":"y","parameters":{"binary_data":true}}]}"#,
    br#"{"inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1,2]}]}"#,
    b"/v2/models/a/versions/1/infer",
];
/// Type, import, function, memory, export and code sections, and an asset.
const MODULE_SEEDS: &[&[u8]] = &[
    b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x01\x07\x13\x02\x06memory\x02\0\x06_start\0\0\x0a\x04\x01\x02\0\x0b",
    b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x03\x02\0\0\x05\x03\x01\0\x01\x07\x29\x03\x06memory\x02\0\x0cmayfly_abi_1\0\0\x0dmayfly_handle\0\x01\x0a\x07\x02\x02\0\x0b\x02\0\x0b\0\x13\x0emayfly.asset/mDATA",
    b"\0asm\x0d\0\x01\0",
    b"\x7fELF\x02\x01\x01\0",
];
const ANSWER_SEEDS: &[&[u8]] = &[
    b"\x04\0\0\0\0\0\0\0null\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0abc",
    b"\x02\0\0\0\0\0\0\0{}\0\0\0\0\0\0\0\0",
];

/// The strict reader finds the same, however the stream was cut into reads.
pub fn framing(data: &[u8]) {
    let whole = Framing::default().follow(data).map(drop);
    for step in [1, 7] {
        let (mut cut, mut at, mut found) = (Framing::default(), 0, Ok(()));
        for piece in data.chunks(step) {
            if let Err(index) = cut.follow(piece) {
                assert!(index < piece.len(), "an error lies behind its bytes");
                found = Err(at + index);
                break;
            }
            at += piece.len();
        }
        assert_eq!(whole.is_ok(), found.is_ok(), "cut into {step}: {found:?}, whole: {whole:?}");
    }
}

/// What a command writes is a head or an error, the same however it is cut; and the body is what is behind it.
pub fn cgi_head(data: &[u8]) {
    let whole = cgi::HeadParser::default().push(data);
    let (mut parser, mut found) = (cgi::HeadParser::default(), Ok(None));
    for (at, piece) in data.chunks(3).enumerate() {
        found = parser.push(piece).map(|head| {
            head.map(|(head, mut body)| {
                body.extend_from_slice(&data[(3 * at + piece.len()).min(data.len())..]);
                (head, body)
            })
        });
        if !matches!(found, Ok(None)) {
            break;
        }
    }
    match (whole, found) {
        (Ok(Some((_, one))), Ok(Some((_, other)))) => {
            assert_eq!(one, other);
            assert!(data.ends_with(&one));
        }
        (Ok(None), Ok(None)) | (Err(_), Err(_)) => {}
        // The limit is looked at between reads, so a head that is over it may be seen whole in one.
        (Ok(Some(_)), Err(_)) if data.len() > mayfly_core::limits::node::CGI_HEAD_BYTES => {}
        (one, other) => panic!("whole {one:?}, cut {other:?}"),
    }
}

/// Frames that guests and hosts hand each other.
pub fn frames(data: &[u8]) {
    if let Ok(head) = head::decode(data) {
        assert!((100..1000).contains(&head.status.as_u16()));
    }
    if let Ok(frame) = mayfly_abi::RequestHead::decode(data) {
        frame.headers().for_each(drop);
    }
    if let Ok(frame) = mayfly_abi::FetchHead::decode(data) {
        frame.headers().for_each(drop);
    }
    if let Ok(frame) = mayfly_abi::ResponseHead::decode(data) {
        frame.headers().for_each(drop);
    }
    let _ = mayfly_oip::decode_frame(&Bytes::copy_from_slice(data));
}

/// The Open Inference Protocol: models as guests describe them, requests as clients send them.
pub fn inference(data: &[u8]) {
    const MODEL: &[u8] = INFERENCE_SEEDS[2];
    if let Ok(path) = std::str::from_utf8(data)
        && let Some(parsed) = mayfly_oip::Resource::parse(path)
    {
        assert!(mayfly_oip::Resource::claims(path), "{parsed:?}");
    }
    let _ = mayfly_oip::Model::parse(data);
    let model = mayfly_oip::Model::parse(MODEL).unwrap_or_else(|error| panic!("{error}"));
    let bounds = mayfly_oip::Bounds { binary_bytes: 1 << 20, frame_bytes: 1 << 20 };
    if let Ok(request) = mayfly_oip::InferRequest::parse(data, &model, bounds) {
        assert!(request.data_bytes() <= 1 << 20);
        let _ = request.frame_head();
    }
}

/// An upload is refused in words, or is a module that the engine would take: custom sections and exports included.
pub fn module(data: &[u8]) {
    let wasm = Bytes::copy_from_slice(data);
    match validate::validate(&wasm, &Limits::default()) {
        Ok(validated) => assert!(validated.code.len() <= data.len()),
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
}

/// What a child of publish hands back, which may be forged.
pub fn child_answer(data: &[u8]) {
    if let Ok((_, blobs)) = child::wire::read::<serde_json::Value>(Bytes::copy_from_slice(data)) {
        assert!(blobs.iter().map(Bytes::len).sum::<usize>() <= data.len());
    }
    // And the proof over a file: only over these very bytes.
    let (secret, key) = (MacKey::new([7; 32]), ArtifactKey(Digest::of(b"fuzz")));
    let mac = secret.sign(&key, data);
    assert!(secret.verify(&key, data, &mac));
    if let Some(forged) = data.first_chunk::<32>() {
        let forged = Mac::from_bytes(*forged);
        assert_eq!(secret.verify(&key, data, &forged), forged.as_bytes() == mac.as_bytes());
    }
}

/// Bytes on both sides of a guest's memory, which no kernel may touch.
const GUARD: usize = 4096;

/// Native arithmetic on a memory that holds whatever it likes, from a descriptor anywhere in it.
pub fn native_kernels(data: &[u8]) {
    const MEMORY: usize = 64 << 10;
    let Some((&[which, low, high, ..], image)) =
        data.split_at_checked(4).map(|(a, b)| (<&[u8; 4]>::try_from(a).unwrap_or(&[0; 4]), b))
    else {
        return;
    };
    let mut buffer = vec![0xA5; GUARD + MEMORY + GUARD];
    let memory = &mut buffer[GUARD..GUARD + MEMORY];
    memory.fill(0);
    // The image comes again and again, so that wherever the descriptor points there is something.
    for chunk in memory.chunks_mut(image.len().max(1)) {
        let len = chunk.len();
        chunk.copy_from_slice(
            &image[..len.min(image.len())]
                .iter()
                .copied()
                .chain(std::iter::repeat(0))
                .take(len)
                .collect::<Vec<_>>(),
        );
    }
    let address = match which >> 6 {
        0 => 0,
        1 => u32::from(u16::from_le_bytes([low, high])) & !15,
        2 => u32::from(u16::from_le_bytes([low, high])),
        _ => u32::MAX - u32::from(low),
    };
    let call = kernels::KERNELS[usize::from(which & 3)];
    let _ = call(Cpu::get(), memory, address);
    assert!(buffer[..GUARD].iter().chain(&buffer[GUARD + MEMORY..]).all(|&byte| byte == 0xA5));
}

/// Names, routes, paths, hosts, tokens and ids.
pub fn names(data: &[u8]) {
    let _ = router::check_host(data);
    if let Some(id) = RequestId::from_client(data) {
        assert_eq!(id.as_str().as_bytes(), data);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(name) = FunctionName::new(text) {
        assert_eq!(name.as_str(), text);
        assert!(text.len() <= 63 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    }
    if let Ok(route) = router::Route::new(text) {
        let router = router::Router::new(vec![(route, ())]);
        let _ = router.find(text.trim_end_matches("..."));
    }
    if router::check_path(text).is_ok()
        && let Some((name, base, rest)) = router::split_name(text)
    {
        assert!(text.contains(name) && text.contains(base) && text.contains(rest));
    }
    let (full, metrics) = (auth::Token::generate([1; 32]), auth::Token::generate([2; 32]));
    let access = auth::Tokens::new(&full, &metrics).access(Some(data));
    let ours = [full.reveal(), metrics.reveal()];
    assert!(access.is_none() || ours.iter().any(|token| text.trim().ends_with(token)));
}

/// URLs that guests call, and rules of what they may: what is taken is written as it is read, and another reader finds
/// the same host in it.
pub fn calls(data: &[u8]) {
    use mayfly_core::outbound::{Rule, Target};
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(rule) = text.parse::<Rule>() {
        assert_eq!(rule.to_string().parse::<Rule>().as_ref(), Ok(&rule), "{text}");
    }
    let Ok(target) = Target::parse(text) else { return };
    assert_eq!(Target::parse(&target.to_string()).as_ref(), Ok(&target), "{text}");
    let uri: http::Uri = text.parse().unwrap_or_else(|why| panic!("{text}: {why}"));
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
    match target.address {
        Some(address) => assert_eq!(host.parse(), Ok(address), "{text}"),
        None => assert_eq!(host, target.host, "{text}"),
    }
    assert_eq!(uri.path(), target.path(), "{text}");
}
