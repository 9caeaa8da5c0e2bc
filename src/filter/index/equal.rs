//! [`Equalities`]: items by the values that some columns must have.

use hashbrown::HashTable;
use slab::Slab;

use super::item::Item;
use super::level::{Candidates, Filing, Found, Posting, Search};
use super::plan::Conjunction;
use super::record::Test;
use super::source::{Key, SourceId, Sources};
use crate::filter::matcher::Comparison;
use crate::filter::row::Row;

/// A hash table over the values of one set of sources.
#[derive(Debug)]
pub(super) struct Equalities {
    sources: Box<[SourceId]>,
    slots: HashTable<Slot>,
    postings: Slab<Posting>,
    /// About how many items there are.
    items: usize,
    secret: u64,
}

/// The items of one key, in 16 bytes.
#[derive(Clone, Copy, Debug)]
struct Slot {
    bits: u64,
    /// The item's entry, or the number of a posting.
    number: u32,
    part: u8,
    /// True if rows of the key have the value itself.
    exact: bool,
    to: To,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Item,
    /// An item whose predicate asks for nothing but the value.
    Whole,
    Posting,
}

impl Slot {
    fn item(&self) -> Item {
        Item::new(self.number, self.part.into())
    }

    fn key(&self) -> Key {
        Key {
            bits: self.bits,
            exact: self.exact,
        }
    }
}

/// From so many slots on a look-up mostly waits for memory.
const LARGE: usize = if cfg!(test) { 10 } else { 200_000 };

/// A table is made smaller when it has come to hold less than one part in so many of its capacity.
const SPARSE: usize = 8;

impl Equalities {
    /// No items, by the values of `sources`; `secret` keeps clients from choosing values that collide.
    pub(super) fn new(sources: Box<[SourceId]>, secret: u64) -> Equalities {
        Equalities {
            sources,
            slots: HashTable::new(),
            postings: Slab::new(),
            items: 0,
            secret,
        }
    }

    pub(super) fn sources(&self) -> &[SourceId] {
        &self.sources
    }

    pub(super) fn is_by(&self, equals: &[(SourceId, Key)]) -> bool {
        let sources = equals.iter().map(|(source, _)| source);
        self.sources.iter().eq(sources)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The key of several is a hash of theirs.
    fn key(&self, mut keys: impl Iterator<Item = Key>) -> Key {
        let first = keys.next().unwrap_or(Key {
            bits: 0,
            exact: false,
        });
        keys.fold(first, |one, other| Key {
            bits: mix(one.bits ^ self.secret, other.bits.rotate_left(32) ^ MULTIPLIER),
            exact: false,
        })
    }

    pub(super) fn file(
        &mut self,
        item: Item,
        keys: impl Iterator<Item = Key>,
        conjunction: &Conjunction,
        filing: &mut Filing<'_>,
    ) {
        let key = self.key(keys);
        let secret = self.secret;
        if let Some(slot) = self
            .slots
            .find_mut(hash(key.bits, secret), |slot| slot.key() == key)
        {
            let posting = match slot.to {
                To::Posting => slot.number,
                To::Item | To::Whole if slot.item() == item => return,
                To::Item | To::Whole => {
                    let posting = self.postings.insert(Posting::Few(vec![slot.item()])) as u32;
                    slot.number = posting;
                    slot.to = To::Posting;
                    posting
                }
            };
            if let Some(posting) = self.postings.get_mut(posting as usize) {
                posting.file(item, conjunction, filing);
            }
            self.items += 1;
            return;
        }
        let is_whole = match filing.records.tests(item.entry) {
            [Test::Compare { comparison, .. }] => {
                key.exact && matches!(comparison, Comparison::Equal | Comparison::NotDistinct)
            }
            _ => false,
        };
        let slot = Slot {
            bits: key.bits,
            number: item.entry,
            part: item.part as u8,
            exact: key.exact,
            to: if is_whole { To::Whole } else { To::Item },
        };
        self.slots
            .insert_unique(hash(key.bits, secret), slot, |slot| hash(slot.bits, secret));
        self.items += 1;
    }

    /// Removes an item. Whether it was there.
    pub(super) fn unfile(
        &mut self,
        item: Item,
        keys: impl Iterator<Item = Key>,
        conjunction: &Conjunction,
        filing: &mut Filing<'_>,
    ) -> bool {
        let key = self.key(keys);
        let secret = self.secret;
        let Ok(found) = self
            .slots
            .find_entry(hash(key.bits, secret), |slot| slot.key() == key)
        else {
            return false;
        };
        let slot = *found.get();
        let (removed, emptied) = match slot.to {
            To::Item | To::Whole => (slot.item() == item, slot.item() == item),
            To::Posting => match self.postings.get_mut(slot.number as usize) {
                Some(posting) => (posting.unfile(item, conjunction, filing), posting.is_empty()),
                None => (false, true),
            },
        };
        self.items = self.items.saturating_sub(usize::from(removed));
        if emptied {
            found.remove();
            if slot.to == To::Posting {
                self.postings.try_remove(slot.number as usize);
            }
            if self.slots.len() < self.slots.capacity() / SPARSE {
                self.slots.shrink_to_fit(|slot| hash(slot.bits, secret));
                self.postings.shrink_to_fit();
            }
        }
        removed
    }

    /// True if it holds more than a processor's caches do.
    pub(super) fn is_large(&self) -> bool {
        self.slots.len() > LARGE
    }

    /// The key under which it would look for a row, if its columns have values.
    pub(super) fn key_of(&self, row: &Row<'_>, sources: &Sources) -> Option<Key> {
        let mut key = None;
        for &source in &self.sources {
            let next = sources.key(&sources.read(source, row)?);
            key = Some(match key {
                None => next,
                Some(key) => self.key([key, next].into_iter()),
            });
        }
        key
    }

    /// The entry that has a key to itself, if there is one.
    pub(super) fn peek(&self, key: Key) -> Option<u32> {
        let slot = self
            .slots
            .find(hash(key.bits, self.secret), |slot| slot.key() == key)?;
        (slot.to == To::Item).then_some(slot.number)
    }

    pub(super) fn search(&self, search: &mut Search<'_, '_>) {
        let begun = search.work.done();
        let key = self.key_in(search);
        let units = search.work.done() - begun;
        search.charges.share(units, self.items, |each| self.each(each));
        match key {
            Place::Nowhere => {}
            Place::Anywhere => self.each(&mut |item| search.find(item)),
            Place::Candidates { key, is_same } => self.search_under(key, is_same, search),
        }
    }

    /// The place where the row belongs.
    fn key_in(&self, search: &mut Search<'_, '_>) -> Place {
        let mut key: Option<Key> = None;
        let mut is_same = true;
        for &source in &self.sources {
            match search.under(source) {
                Candidates::Value(value) => {
                    let Ok(next) = search.seen.key(source, value) else {
                        return Place::Anywhere;
                    };
                    key = Some(match key {
                        None => next,
                        Some(key) => self.key([key, next].into_iter()),
                    });
                    is_same = is_same && search.is_same(source, value);
                }
                Candidates::Everything => return Place::Anywhere,
                Candidates::Null | Candidates::Nothing => return Place::Nowhere,
            }
        }
        key.map_or(Place::Nowhere, |key| Place::Candidates { key, is_same })
    }

    fn search_under(&self, key: Key, is_same: bool, search: &mut Search<'_, '_>) {
        let found = self
            .slots
            .find(hash(key.bits, self.secret), |slot| slot.key() == key);
        match found {
            None => {}
            Some(slot) if slot.to == To::Posting => match self.postings.get(slot.number as usize) {
                Some(Posting::Few(_)) if is_same => {}
                Some(posting) => search.below(is_same, |search| posting.search(search)),
                None => {}
            },
            Some(_) if is_same => {}
            Some(slot) => search.found.push(Found {
                entry: slot.number,
                matches: search.is_last() && slot.to == To::Whole,
            }),
        }
    }

    /// Hands each item to `each`.
    pub(super) fn each(&self, each: &mut dyn FnMut(Item)) {
        for slot in &self.slots {
            match slot.to {
                To::Item | To::Whole => each(slot.item()),
                To::Posting => {
                    if let Some(posting) = self.postings.get(slot.number as usize) {
                        posting.each(each);
                    }
                }
            }
        }
    }
}

/// The place where a row belongs in a table.
enum Place {
    Nowhere,
    /// The value is not known.
    Anywhere,
    Candidates {
        key: Key,
        is_same: bool,
    },
}

/// An odd number whose bits look random (the golden ratio's).
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of a key. It is the construction of the crate foldhash, which was measured in its place at 0.88 to 1.19 of
/// the time for a look-up (1.02 on average): no gain for a dependency.
fn hash(bits: u64, secret: u64) -> u64 {
    mix(bits ^ secret, MULTIPLIER)
}

/// Both halves of the product.
fn mix(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}
