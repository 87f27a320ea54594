//! Room that all tenants use together, and that none can have to itself.
//!
//! A holder may have as much as is still free, and no more: one alone gets half, two that want all of it a third each,
//! and a part is always left for who comes next. The last eighth is for those that have nothing yet, whatever others have:
//! else six functions of one tenant would leave the seventh of another a part of less than one. No holder knows of the others, and no lock is taken. Holders are
//! functions, and addresses of clients, of which each may have three times as much as is free: a proxy in front of the
//! node that is not trusted is one address for many users, and a function behind it must not take all that is the proxy's.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counters of addresses. Two that meet in one share its part, which costs them something only when room is short.
const ADDRESSES: usize = 1024;
/// An address may have so many times what is free.
const ADDRESS_FACTOR: usize = 3;

/// Part of a pot that only those may have who have nothing of it.
const FIRST_SHARE: usize = 8;

/// What one function has of a [`Pot`].
pub type Share = AtomicUsize;

/// Room of one kind: bytes, or places.
#[derive(Debug)]
pub struct Pot {
    free: AtomicUsize,
    /// Of it, for those who have nothing.
    kept: usize,
    addresses: Box<[AtomicUsize]>,
    /// Drawn anew for each process, so that nobody can choose whom to share a counter with.
    hasher: RandomState,
}

impl Pot {
    /// A pot with this much in it.
    #[must_use]
    pub fn new(room: usize) -> Arc<Self> {
        let addresses = std::iter::repeat_with(AtomicUsize::default).take(ADDRESSES).collect();
        Arc::new(Self {
            free: AtomicUsize::new(room),
            kept: room / FIRST_SHARE,
            addresses,
            hasher: RandomState::new(),
        })
    }

    /// What nobody has.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.load(Relaxed)
    }

    /// A grant of nothing yet, to a client of a function, or of none.
    #[must_use]
    pub fn grant(self: &Arc<Self>, function: Option<Arc<Share>>, client: IpAddr) -> Grant {
        Grant { pot: self.clone(), function, address: self.address(client), amount: 0 }
    }

    /// A grant to a client of which no more is known than its connection to a proxy.
    #[must_use]
    pub fn grant_connection(self: &Arc<Self>, peer: SocketAddr) -> Grant {
        let address = usize::try_from(self.hasher.hash_one(peer) % ADDRESSES as u64).unwrap_or(0);
        Grant { pot: self.clone(), function: None, address, amount: 0 }
    }

    fn address(&self, client: IpAddr) -> usize {
        // Who has one address of IPv6 has all of its network.
        let key = match client.to_canonical() {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits() >> 64 << 64,
        };
        usize::try_from(self.hasher.hash_one(key) % ADDRESSES as u64).unwrap_or(0)
    }
}

/// A part of a [`Pot`], given back when dropped.
#[derive(Debug)]
pub struct Grant {
    pot: Arc<Pot>,
    function: Option<Arc<Share>>,
    address: usize,
    amount: usize,
}

impl Grant {
    /// Takes so much more; says whether it was to be had.
    #[must_use]
    pub fn grow(&mut self, more: usize) -> bool {
        let taken = self.pot.free.fetch_update(Relaxed, Relaxed, |free| free.checked_sub(more));
        let Ok(free) = taken else { return false };
        let free = (free - more).saturating_sub(self.pot.kept);
        let address = self.held_by_address().fetch_add(more, Relaxed) + more;
        let function = self.function.as_ref().map_or(0, |f| f.fetch_add(more, Relaxed) + more);
        self.amount += more;
        let of_function = function == more || function <= free;
        let of_address = address == more || address <= free.saturating_mul(ADDRESS_FACTOR);
        let fair = of_function && of_address;
        if !fair {
            self.shrink(more);
        }
        fair
    }

    /// Gives so much back.
    pub fn shrink(&mut self, less: usize) {
        let less = less.min(self.amount);
        self.amount -= less;
        self.held_by_address().fetch_sub(less, Relaxed);
        if let Some(function) = &self.function {
            function.fetch_sub(less, Relaxed);
        }
        self.pot.free.fetch_add(less, Relaxed);
    }

    /// What it has.
    #[must_use]
    pub fn amount(&self) -> usize {
        self.amount
    }

    fn held_by_address(&self) -> &AtomicUsize {
        &self.pot.addresses[self.address]
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.shrink(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    /// So many clients with a counter each: which share one is another thing in each process, as their hashes are.
    fn clients(pot: &Pot, count: usize) -> Vec<IpAddr> {
        let mut counters = std::collections::HashSet::new();
        let all = (0..=255).map(client);
        all.filter(|client| counters.insert(pot.address(*client))).take(count).collect()
    }

    /// Takes single units until there is none to be had.
    fn greedy(pot: &Arc<Pot>, function: Option<&Arc<Share>>, from: IpAddr) -> Grant {
        let mut grant = pot.grant(function.cloned(), from);
        while grant.grow(1) {}
        grant
    }

    #[test]
    fn one_function_gets_half_and_the_next_half_of_the_rest() {
        // 200 are for who has nothing.
        let pot = Pot::new(1600);
        let functions: Vec<_> = (0..5).map(|_| Arc::<Share>::default()).collect();
        let held: Vec<_> =
            functions.iter().map(|f| greedy(&pot, Some(f), client(1)).amount()).collect();
        assert_eq!(held, [700; 5], "each was given back");
        let grants: Vec<_> = functions.iter().map(|f| greedy(&pot, Some(f), client(1))).collect();
        let held: Vec<_> = grants.iter().map(Grant::amount).collect();
        // The address is over its three quarters from the third on.
        assert_eq!(held, [700, 350, 0, 0, 0]);
        let other =
            clients(&pot, 255).into_iter().find(|c| pot.address(*c) != pot.address(client(1)));
        assert_eq!(greedy(&pot, Some(&functions[4]), other.unwrap()).amount(), 175);
    }

    #[test]
    fn who_has_nothing_gets_something_whatever_others_have() {
        let pot = Pot::new(64);
        let mut held = Vec::new();
        for client in clients(&pot, 14) {
            held.push(greedy(&pot, Some(&Arc::default()), client));
        }
        let amounts: Vec<_> = held.iter().map(Grant::amount).collect();
        assert_eq!(amounts, [28, 14, 7, 3, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        held.clear();
        assert_eq!(pot.free(), 64);
    }

    #[test]
    fn an_address_gets_three_quarters() {
        let pot = Pot::new(1600);
        let clients = clients(&pot, 2);
        let first = greedy(&pot, None, clients[0]);
        assert_eq!((first.amount(), pot.free()), (1050, 550));
        assert_eq!(greedy(&pot, None, clients[1]).amount(), 262);
        assert_eq!(greedy(&pot, None, clients[0]).amount(), 0);
        drop(first);
        assert_eq!(pot.free(), 1600);
    }

    #[test]
    fn who_asks_for_too_much_at_once_gets_nothing_and_keeps_what_it_had() {
        let pot = Pot::new(100);
        let function = Arc::<Share>::default();
        let mut grant = pot.grant(Some(function.clone()), client(1));
        assert!(grant.grow(40) && !grant.grow(11) && !grant.grow(usize::MAX));
        assert_eq!((grant.amount(), function.load(Relaxed), pot.free()), (40, 40, 60));
        grant.shrink(usize::MAX);
        assert_eq!((grant.amount(), function.load(Relaxed), pot.free()), (0, 0, 100));
    }

    #[test]
    fn connections_of_a_proxy_are_not_one_client() {
        let pot = Pot::new(1200);
        let counters: std::collections::HashSet<_> = (1..100)
            .map(|port| pot.grant_connection(SocketAddr::new(client(1), port)).address)
            .collect();
        assert!(counters.len() > 50, "{}", counters.len());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_mapped_one_is_itself() {
        let pot = Pot::new(1);
        let at = |text: &str| pot.address(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::2:3"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
    }
}
