//! [`Addresses`]: counts and limits the connections of each client address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::limit::{Bucket, Rate};

/// The limits of one address. An IPv6 address counts as its /64 network, in which a client can choose any address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressLimit {
    /// Connections at once.
    pub connections: usize,
    /// New connections; `None` if they may come as fast as they like.
    pub rate: Option<Rate>,
}

/// The limits of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressLimits {
    /// Those of addresses of other machines.
    pub remote: AddressLimit,
    /// Those of addresses of this machine, behind which there is often a proxy.
    pub loopback: AddressLimit,
}

impl AddressLimit {
    /// No limit.
    pub const NONE: AddressLimit = AddressLimit {
        connections: usize::MAX,
        rate: None,
    };
}

impl AddressLimits {
    /// No limits.
    pub const NONE: AddressLimits = AddressLimits {
        remote: AddressLimit::NONE,
        loopback: AddressLimit::NONE,
    };
}

/// The reason why an address gets no further connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It has as many as it may have.
    Crowded,
    /// They come too fast.
    Hurried,
}

/// The connections by address.
#[derive(Debug)]
pub(super) struct Addresses {
    limits: AddressLimits,
    known: Mutex<Known>,
}

/// The addresses that have connections, or had some so recently that their rate counts.
#[derive(Debug, Default)]
struct Known {
    addresses: HashMap<IpAddr, Counts>,
    /// The number of addresses that the last sweep left.
    swept: usize,
}

#[derive(Clone, Copy, Debug)]
struct Counts {
    open: usize,
    new: Bucket,
}

/// The number of addresses below which a sweep is not worth it.
const FEW: usize = if cfg!(test) { 4 } else { 1024 };

/// One of the connections that an address may have, given back on drop.
#[derive(Debug)]
pub(super) struct Share {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    pub(super) fn new(limits: AddressLimits) -> Arc<Addresses> {
        Arc::new(Addresses {
            limits,
            known: Mutex::default(),
        })
    }

    /// Counts one more connection of the address, unless it has reached a limit.
    pub(super) fn share(self: &Arc<Addresses>, address: IpAddr, now: Instant) -> Result<Share, Refusal> {
        let address = network(address);
        let limit = if address.is_loopback() {
            self.limits.loopback
        } else {
            self.limits.remote
        };
        let mut known = self.known.lock();
        known.sweep(now);
        let counts = known.addresses.entry(address).or_insert(Counts {
            open: 0,
            new: Bucket::full(now),
        });
        if counts.open >= limit.connections {
            return Err(Refusal::Crowded);
        }
        if let Some(rate) = limit.rate {
            let taken = counts.new.take(1, rate, now);
            taken.map_err(|_| Refusal::Hurried)?;
        }
        counts.open += 1;
        drop(known);
        Ok(Share {
            addresses: Arc::clone(self),
            address,
        })
    }
}

impl Known {
    /// Forgets the addresses without connections that may have as many new ones as any other, whenever there are twice
    /// as many as the last sweep left.
    fn sweep(&mut self, now: Instant) {
        if self.addresses.len() > 2 * self.swept.max(FEW) {
            self.addresses.retain(|_, counts| !counts.is_idle(now));
            self.swept = self.addresses.len();
        }
    }
}

impl Counts {
    fn is_idle(&self, now: Instant) -> bool {
        self.open == 0 && self.new.is_full(now)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut known = self.addresses.known.lock();
        if let Some(counts) = known.addresses.get_mut(&self.address) {
            counts.open = counts.open.saturating_sub(1);
            if counts.is_idle(Instant::now()) {
                known.addresses.remove(&self.address);
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
    use std::time::Duration;

    use super::*;

    fn connections(connections: usize) -> AddressLimit {
        AddressLimit {
            connections,
            rate: None,
        }
    }

    #[test]
    fn each_address_has_its_share_and_gets_it_back() {
        let addresses = Addresses::new(AddressLimits {
            remote: connections(2),
            loopback: connections(3),
        });
        let now = Instant::now();
        let take = |text: &str| addresses.share(text.parse().unwrap(), now);
        let mut held = vec![take("203.0.113.9").unwrap(), take("::ffff:203.0.113.9").unwrap()];
        assert_eq!(take("203.0.113.9").unwrap_err(), Refusal::Crowded);
        held.push(take("203.0.113.10").unwrap());
        // One network of 64 bits.
        held.push(take("2001:db8:0:1::1").unwrap());
        held.push(take("2001:db8:0:1:ffff::2").unwrap());
        assert!(take("2001:db8:0:1::3").is_err());
        held.push(take("2001:db8:0:2::1").unwrap());
        for loopback in ["127.0.0.1", "127.0.0.1", "127.0.0.1", "::1"] {
            held.push(take(loopback).unwrap());
        }
        assert!(take("127.0.0.1").is_err());
        held.remove(0);
        held.push(take("203.0.113.9").unwrap());
        assert!(take("203.0.113.9").is_err());
        drop(held);
        assert!(addresses.known.lock().addresses.is_empty());
    }

    #[test]
    fn new_connections_come_in_a_burst_and_then_steadily_and_addresses_are_forgotten_in_time() {
        let rate = Rate {
            per_second: 2,
            burst: 3,
        };
        let addresses = Addresses::new(AddressLimits {
            remote: AddressLimit {
                connections: 10,
                rate: Some(rate),
            },
            loopback: AddressLimit::NONE,
        });
        let start = Instant::now();
        let take = |text: &str, millis| {
            let at = start + Duration::from_millis(millis);
            addresses.share(text.parse().unwrap(), at)
        };
        // They are gone at once, and count all the same.
        assert!((0..3).all(|_| take("203.0.113.9", 0).is_ok()));
        assert_eq!(take("203.0.113.9", 0).unwrap_err(), Refusal::Hurried);
        assert_eq!(take("203.0.113.9", 499).unwrap_err(), Refusal::Hurried);
        assert!(take("203.0.113.9", 500).is_ok() && take("203.0.113.9", 500).is_err());
        assert!(take("203.0.113.10", 0).is_ok());
        assert!((0..100).all(|_| take("127.0.0.1", 0).is_ok()));
        for host in 0..100 {
            drop(take(&format!("198.51.100.{host}"), 500).unwrap());
        }
        assert!(addresses.known.lock().addresses.len() >= 100);
        for host in 0..200 {
            drop(take(&format!("192.0.2.{host}"), 3_000 + 1_000 * host).unwrap());
        }
        let kept = addresses.known.lock().addresses.len();
        assert!(kept <= 2 * FEW + 1, "{kept}");
    }
}
