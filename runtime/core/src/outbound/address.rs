//! Which addresses are the public internet's, and which are somebody's own network: IANA's special-purpose registries as
//! tables, and IPv4 addresses that hide in IPv6 ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is nobody's to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Special(pub &'static str);

/// IPv4 blocks that are not the public internet: iana-ipv4-special-registry, and what is not unicast.
pub const SPECIAL_V4: &[([u8; 4], u8, &str)] = &[
    ([0, 0, 0, 0], 8, "this network (0.0.0.0/8)"),
    ([10, 0, 0, 0], 8, "private use (10.0.0.0/8)"),
    ([100, 64, 0, 0], 10, "shared address space of carriers (100.64.0.0/10)"),
    ([127, 0, 0, 0], 8, "loopback (127.0.0.0/8)"),
    ([169, 254, 0, 0], 16, "link local, where clouds keep their metadata (169.254.0.0/16)"),
    ([172, 16, 0, 0], 12, "private use (172.16.0.0/12)"),
    ([192, 0, 0, 0], 24, "protocol assignments (192.0.0.0/24)"),
    ([192, 0, 2, 0], 24, "documentation (192.0.2.0/24)"),
    ([192, 31, 196, 0], 24, "AS112 (192.31.196.0/24)"),
    ([192, 52, 193, 0], 24, "AMT (192.52.193.0/24)"),
    ([192, 88, 99, 0], 24, "6to4 relays (192.88.99.0/24)"),
    ([192, 168, 0, 0], 16, "private use (192.168.0.0/16)"),
    ([192, 175, 48, 0], 24, "AS112 (192.175.48.0/24)"),
    ([198, 18, 0, 0], 15, "benchmarking (198.18.0.0/15)"),
    ([198, 51, 100, 0], 24, "documentation (198.51.100.0/24)"),
    ([203, 0, 113, 0], 24, "documentation (203.0.113.0/24)"),
    ([224, 0, 0, 0], 4, "multicast (224.0.0.0/4)"),
    ([240, 0, 0, 0], 4, "reserved, and broadcast (240.0.0.0/4)"),
];

/// IPv6 blocks inside `2000::/3` that are not the public internet (iana-ipv6-special-registry); all outside is refused.
pub const SPECIAL_V6: &[([u16; 8], u8, &str)] = &[
    // Teredo (2001::/32), ORCHID, benchmarking and the others of 2001::/23: none is a host that a function could mean.
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "protocol assignments, Teredo among them (2001::/23)"),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "documentation (2001:db8::/32)"),
    ([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, "AS112 (2620:4f:8000::/48)"),
    ([0x3ffe, 0, 0, 0, 0, 0, 0, 0], 16, "the 6bone, which is gone (3ffe::/16)"),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "documentation (3fff::/20)"),
];

/// Whether an address is the public internet's.
///
/// # Errors
/// [`Special`] says what it is instead.
pub fn check(address: IpAddr) -> Result<(), Special> {
    match address {
        IpAddr::V4(address) => check_v4(address),
        IpAddr::V6(address) => check_v6(address),
    }
}

/// Every address that one really is: itself, and the IPv4 one that a translator on its way would send it to. An allowance
/// for a private network, and what is the node's own, is asked of each.
#[must_use]
pub fn meanings(address: IpAddr) -> (IpAddr, Option<IpAddr>) {
    match address {
        IpAddr::V4(_) => (address, None),
        IpAddr::V6(v6) => (address, embedded(v6).map(IpAddr::V4)),
    }
}

fn check_v4(address: Ipv4Addr) -> Result<(), Special> {
    let bits = u32::from(address);
    let hit = SPECIAL_V4.iter().find(|(net, prefix, _)| {
        let mask = u32::MAX << (32 - u32::from(*prefix));
        bits & mask == u32::from(Ipv4Addr::from(*net))
    });
    hit.map_or(Ok(()), |(_, _, why)| Err(Special(why)))
}

fn check_v6(address: Ipv6Addr) -> Result<(), Special> {
    let s = address.segments();
    if address.is_unspecified() || address.is_loopback() {
        return Err(Special("this machine (:: and ::1)"));
    }
    if s[..3] == [0x64, 0xff9b, 1] {
        return Err(Special("local translation to IPv4 (64:ff9b:1::/48)"));
    }
    let wraps = embedded(address);
    if let Some(inner) = wraps {
        check_v4(inner)?;
    }
    // Mapped, compatible and NAT64 addresses lie outside global unicast; what they wrap has been judged.
    let translated = matches!(s[..6], [0, 0, 0, 0, 0, 0 | 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0]);
    if wraps.is_some() && translated {
        return Ok(());
    }
    if s[0] & 0xe000 != 0x2000 {
        return Err(Special("not global unicast (2000::/3): local, private or multicast"));
    }
    let bits = u128::from(address);
    let hit = SPECIAL_V6.iter().find(|(net, prefix, _)| {
        let mask = u128::MAX << (128 - u32::from(*prefix));
        bits & mask == u128::from(Ipv6Addr::from(*net))
    });
    hit.map_or(Ok(()), |(_, _, why)| Err(Special(why)))
}

/// The IPv4 address inside: mapped, compatible, NAT64, 6to4, ISATAP.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        // IPv4-translated (RFC 2765's ::ffff:0:a.b.c.d) as well.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => {
            of(high, low)
        }
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => of(high, low),
        [0x2002, high, low, ..] => of(high, low),
        [_, _, _, _, 0 | 0x200 | 0x100 | 0x300, 0x5efe, high, low] => of(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
