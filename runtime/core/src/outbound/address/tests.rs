use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;
use crate::outbound::Target;

/// Addresses that no function may reach, the ones that attackers try first.
const PRIVATE: &[[u8; 4]] = &[
    [0, 0, 0, 0],
    [0, 0, 0, 1],
    [10, 0, 0, 1],
    [10, 255, 255, 254],
    [100, 64, 0, 1],
    [100, 100, 100, 200],
    [127, 0, 0, 1],
    [127, 127, 127, 127],
    [127, 255, 255, 255],
    [169, 254, 169, 254],
    [169, 254, 170, 2],
    [172, 16, 0, 1],
    [172, 17, 0, 1],
    [172, 31, 255, 255],
    [192, 0, 0, 1],
    [192, 0, 0, 192],
    [192, 0, 2, 1],
    [192, 88, 99, 1],
    [192, 168, 0, 1],
    [192, 168, 255, 255],
    [198, 18, 0, 1],
    [198, 19, 255, 255],
    [198, 51, 100, 1],
    [203, 0, 113, 1],
    [224, 0, 0, 1],
    [239, 255, 255, 250],
    [240, 0, 0, 1],
    [255, 255, 255, 255],
];

/// One address in every spelling and wrapping.
fn spellings([a, b, c, d]: [u8; 4]) -> Vec<String> {
    let n = u32::from_be_bytes([a, b, c, d]);
    let (high, low) = (n >> 16, n & 0xffff);
    let mut all: Vec<String> = vec![
        format!("{a}.{b}.{c}.{d}"),
        format!("{a}.{b}.{c}.{d}."),
        format!("{n}"),
        format!("0x{n:x}"),
        format!("0{n:o}"),
        format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a}.{}", n & 0xff_ffff),
        format!("{a}.{b}.{low}"),
        format!("0{a}.{b}.{c}.{d}"),
        format!("user@{a}.{b}.{c}.{d}"),
        format!("example.com@{a}.{b}.{c}.{d}"),
        format!("{a}%2e{b}%2e{c}%2e{d}"),
        format!("{a}。{b}。{c}。{d}"),
        format!("{a}.{b}.{c}.{d}%00.example.com"),
    ];
    for wrapped in [
        format!("::ffff:{a}.{b}.{c}.{d}"),
        format!("::ffff:{high:x}:{low:x}"),
        format!("::{a}.{b}.{c}.{d}"),
        format!("::ffff:0:{high:x}:{low:x}"),
        format!("64:ff9b::{a}.{b}.{c}.{d}"),
        format!("64:ff9b:1::{high:x}:{low:x}"),
        format!("2002:{high:x}:{low:x}::1"),
        format!("2001:0:{high:x}:{low:x}::1"),
        format!("2606:4700::5efe:{high:x}:{low:x}"),
        format!("2606:4700::200:5efe:{high:x}:{low:x}"),
        format!("fe80::5efe:{high:x}:{low:x}"),
        format!("::ffff:{a}.{b}.{c}.{d}%25eth0"),
    ] {
        all.push(format!("[{wrapped}]"));
    }
    all
}

#[test]
fn none_of_hundreds_of_ways_to_a_private_address_is_open() {
    let mut hosts: Vec<String> = PRIVATE.iter().flat_map(|address| spellings(*address)).collect();
    hosts.extend(
        [
            "[::]",
            "[::1]",
            "[fc00::1]",
            "[fd00:ec2::254]",
            "[fdff::1]",
            "[fe80::1]",
            "[fec0::1]",
            "[ff02::1]",
            "[100::1]",
            "[100:0:0:1::1]",
            "[2001:db8::1]",
            "[2001:2::1]",
            "[2001:10::1]",
            "[2001:20::1]",
            "[3fff::1]",
            "[5f00::1]",
            "[3ffe::1]",
            "[2620:4f:8000::1]",
            "[64:ff9b:1::1]",
            "[4000::1]",
        ]
        .map(str::to_owned),
    );
    let mut open = Vec::new();
    for host in &hosts {
        for url in [format!("http://{host}/"), format!("https://{host}:8443/latest/meta-data")] {
            let target = Target::parse(&url);
            // A host that is a name is judged by what it resolves to: none of these may pass as one.
            if target
                .is_ok_and(|target| target.address.is_none_or(|address| check(address).is_ok()))
            {
                open.push(url);
            }
        }
    }
    assert!(hosts.len() >= 400, "{} vectors", hosts.len());
    assert!(open.is_empty(), "{open:#?}");
}

#[test]
fn the_public_internet_is_open_in_every_wrapping() {
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "223.255.255.255",
        "2606:4700::1111",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
        "2002:101:101::1",
        "2001:200::1",
        "2a00::1",
        "3ffd::1",
        "3fff:1000::1",
    ] {
        assert_eq!(check(address.parse().unwrap()), Ok(()), "{address}");
    }
    let wrapped = "2002:7f00:1::1".parse().unwrap();
    assert_eq!(meanings(wrapped), (wrapped, Some("127.0.0.1".parse().unwrap())));
}

/// Every block's first and last address, and those beside them.
fn boundaries() -> Vec<IpAddr> {
    let mut all = Vec::new();
    for (net, prefix, _) in SPECIAL_V4 {
        let first = u32::from(Ipv4Addr::from(*net));
        let last = first | !(u32::MAX << (32 - u32::from(*prefix)));
        for n in [first.wrapping_sub(1), first, first + 1, last - 1, last, last.wrapping_add(1)] {
            all.push(Ipv4Addr::from(n).into());
            all.push(Ipv4Addr::from(n).to_ipv6_mapped().into());
        }
    }
    let extra = [
        ("::", 128u8),
        ("::1", 128),
        ("::ffff:0:0", 96),
        ("64:ff9b:1::", 48),
        ("100::", 64),
        ("2000::", 3),
        ("5f00::", 16),
        ("fc00::", 7),
        ("fe80::", 10),
        ("fec0::", 10),
        ("ff00::", 8),
    ];
    let extra = extra.map(|(net, prefix)| (u128::from(net.parse::<Ipv6Addr>().unwrap()), prefix));
    let listed =
        SPECIAL_V6.iter().map(|(net, prefix, _)| (u128::from(Ipv6Addr::from(*net)), *prefix));
    for (first, prefix) in listed.chain(extra) {
        let last = first | !u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
        for n in [
            first.wrapping_sub(1),
            first,
            first.wrapping_add(1),
            last.wrapping_sub(1),
            last,
            last.wrapping_add(1),
        ] {
            all.push(Ipv6Addr::from(n).into());
        }
    }
    all
}

/// Python's `ipaddress` keeps the same registries by other hands: what it calls not global, nobody reaches.
#[test]
fn no_address_is_open_that_python_calls_special() {
    let mut addresses = boundaries();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..30_000 {
        let (high, low) = (u128::from(next()), u128::from(next()));
        addresses.push(Ipv4Addr::from(u32::try_from(low & 0xffff_ffff).unwrap()).into());
        // Half of them in global unicast, where the decisions are.
        let bits = (high << 64) | low;
        let bits = if low & 1 == 0 { bits >> 3 | 1 << 125 } else { bits };
        addresses.push(Ipv6Addr::from(bits).into());
    }
    let program = "import sys,ipaddress\nfor line in sys.stdin:\n a=ipaddress.ip_address(line.strip())\n print(1 if a.is_global and not a.is_multicast else 0)";
    let mut python = Command::new("python3")
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3, which the tests need");
    let text: String = addresses.iter().map(|address| format!("{address}\n")).collect();
    let mut input = python.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let said: Vec<_> =
        output.stdout.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
    assert_eq!(said.len(), addresses.len());
    let open = |(address, said): (&IpAddr, &&[u8])| {
        (**said == *b"0" && check(*address).is_ok()).then_some(*address)
    };
    let wrong: Vec<_> = addresses.iter().zip(&said).filter_map(open).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
