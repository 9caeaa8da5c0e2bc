//! [`Addresses`]: counts and limits the connections of each client address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// The connections that one address may have open at once. An IPv6 address counts as its /64 network, in which a client
/// can choose any address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressLimit {
    /// The limit for addresses of other machines.
    pub remote: usize,
    /// The limit for addresses of this machine, behind which there is often a proxy.
    pub loopback: usize,
}

impl AddressLimit {
    /// No limit.
    pub const NONE: AddressLimit = AddressLimit {
        remote: usize::MAX,
        loopback: usize::MAX,
    };
}

/// The open connections by address.
#[derive(Debug)]
pub(super) struct Addresses {
    limit: AddressLimit,
    /// Has at most as many entries as there are connections.
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One of the connections that an address may have, given back on drop.
#[derive(Debug)]
pub(super) struct Share {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    pub(super) fn new(limit: AddressLimit) -> Arc<Addresses> {
        Arc::new(Addresses {
            limit,
            open: Mutex::default(),
        })
    }

    /// Counts one more connection of the address, unless it has reached its limit.
    pub(super) fn share(self: &Arc<Addresses>, address: IpAddr) -> Option<Share> {
        let address = network(address);
        let most = if address.is_loopback() {
            self.limit.loopback
        } else {
            self.limit.remote
        };
        let mut open = self.open.lock();
        match open.entry(address) {
            Entry::Occupied(mut count) if *count.get() < most => *count.get_mut() += 1,
            Entry::Occupied(_) => return None,
            Entry::Vacant(count) => drop(count.insert(1)),
        }
        Some(Share {
            addresses: Arc::clone(self),
            address,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.addresses.open.lock().entry(self.address) {
            match *count.get() {
                0 | 1 => drop(count.remove()),
                _ => *count.get_mut() -= 1,
            }
        }
    }
}

/// The address that a client is counted under.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_share_and_gets_it_back() {
        let addresses = Addresses::new(AddressLimit {
            remote: 2,
            loopback: 3,
        });
        let take = |text: &str| addresses.share(text.parse().unwrap());
        let mut held = vec![take("203.0.113.9").unwrap(), take("::ffff:203.0.113.9").unwrap()];
        assert!(take("203.0.113.9").is_none());
        held.push(take("203.0.113.10").unwrap());
        // One network of 64 bits.
        held.push(take("2001:db8:0:1::1").unwrap());
        held.push(take("2001:db8:0:1:ffff::2").unwrap());
        assert!(take("2001:db8:0:1::3").is_none());
        held.push(take("2001:db8:0:2::1").unwrap());
        for loopback in ["127.0.0.1", "127.0.0.1", "127.0.0.1", "::1"] {
            held.push(take(loopback).unwrap());
        }
        assert!(take("127.0.0.1").is_none());
        held.remove(0);
        held.push(take("203.0.113.9").unwrap());
        assert!(take("203.0.113.9").is_none());
        drop(held);
        assert!(addresses.open.lock().is_empty());
    }
}
