//! [`Paths`]: ways through documents that are followed together, so that a document is read once for all of them.

use std::borrow::Cow;
use std::collections::HashMap;

use slab::Slab;

use super::json_read::{Children, Shape, split_value, unescape};
use super::jsonb::Path;
use super::{JsonForm, Malformed};

/// A step of a way through documents.
#[derive(Clone, Copy, Debug)]
pub enum Way<'s> {
    /// `-> 'key'`
    Field(&'s str),
    /// `-> 1`
    Element(i32),
    /// `#> '{…}'`
    Path(&'s Path),
}

/// The most steps that are followed together with those of others: a longer way is followed by itself.
const MAX_STEPS: usize = 64;

/// Ways from the beginning of a document, with the steps that they share.
///
/// Each leads to where it does by itself in a [`Document`](super::Document). A text that is not what a server prints,
/// or in which a key stands twice, is refused.
#[derive(Debug)]
pub struct Paths {
    places: Slab<Place>,
}

/// The target of a way.
#[derive(Debug, Default)]
struct Place {
    /// The number of ways that end here.
    ends: u32,
    /// The place before it, and the step from there.
    from: Option<(u32, Edge)>,
    /// Targets by an object's keys. A number is a key and an index for some, and a key alone for others.
    fields: HashMap<Box<[u8]>, Vec<u32>>,
    /// Targets by an array's elements, in their order.
    elements: Vec<(u32, u32)>,
    /// The target of a scalar that is its own element.
    itself: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Edge {
    key: Option<Box<[u8]>>,
    index: Option<u32>,
}

impl Default for Paths {
    fn default() -> Paths {
        let mut places = Slab::new();
        places.insert(Place::default());
        Paths { places }
    }
}

const ROOT: u32 = 0;

impl Paths {
    /// Adds a way, and returns the number of its end; `None` if it is followed by itself alone: it counts from the end
    /// of an array, or is long.
    pub fn add<'s>(&mut self, ways: impl Iterator<Item = Way<'s>>) -> Option<u32> {
        let mut edges = Vec::new();
        for way in ways {
            match way {
                Way::Field(key) => edges.push(Edge {
                    key: Some(key.as_bytes().into()),
                    index: None,
                }),
                Way::Element(index) => edges.push(Edge {
                    key: None,
                    index: Some(u32::try_from(index).ok()?),
                }),
                Way::Path(path) => {
                    // An empty one leads to the value with its blanks.
                    path.steps().next()?;
                    for (key, index) in path.steps() {
                        edges.push(Edge {
                            key: key.map(Into::into),
                            index: index.map(u32::try_from).transpose().ok()?,
                        });
                    }
                }
            }
        }
        if edges.is_empty() || edges.len() > MAX_STEPS {
            return None;
        }
        let end = edges.into_iter().fold(ROOT, |at, edge| self.after(at, edge));
        self.places.get_mut(end as usize)?.ends += 1;
        Some(end)
    }

    /// The place that a step leads to, made if need be.
    fn after(&mut self, at: u32, edge: Edge) -> u32 {
        let known = self.next(at).find(|(_, place)| {
            let from = place.from.as_ref();
            from.is_some_and(|(_, known)| *known == edge)
        });
        if let Some((number, _)) = known {
            return number;
        }
        let number = self.places.insert(Place {
            from: Some((at, edge.clone())),
            ..Place::default()
        }) as u32;
        if let Some(place) = self.places.get_mut(at as usize) {
            if let (None, Some(0)) = (&edge.key, edge.index) {
                place.itself = Some(number);
            }
            if let Some(index) = edge.index {
                let behind = place.elements.partition_point(|(known, _)| *known <= index);
                place.elements.insert(behind, (index, number));
            }
            if let Some(key) = edge.key {
                place.fields.entry(key).or_default().push(number);
            }
        }
        number
    }

    /// The places one step further on.
    fn next(&self, at: u32) -> impl Iterator<Item = (u32, &Place)> {
        let place = self.places.get(at as usize);
        let numbers = place.into_iter().flat_map(|place| {
            let fields = place.fields.values().flatten();
            fields.chain(place.elements.iter().map(|(_, number)| number))
        });
        numbers.filter_map(|&number| Some((number, self.places.get(number as usize)?)))
    }

    /// Removes a way by the number of its end.
    pub fn remove(&mut self, end: u32) {
        if let Some(place) = self.places.get_mut(end as usize) {
            place.ends = place.ends.saturating_sub(1);
        }
        let mut at = end;
        while let Some(place) = self.places.get(at as usize)
            && place.ends == 0
            && place.fields.is_empty()
            && place.elements.is_empty()
            && let Some((from, edge)) = place.from.clone()
        {
            self.places.try_remove(at as usize);
            if let Some(place) = self.places.get_mut(from as usize) {
                if place.itself == Some(at) {
                    place.itself = None;
                }
                place.elements.retain(|(_, number)| *number != at);
                if let Some(key) = &edge.key
                    && let Some(numbers) = place.fields.get_mut(key)
                {
                    numbers.retain(|number| *number != at);
                    if numbers.is_empty() {
                        place.fields.remove(key);
                    }
                }
            }
            at = from;
        }
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.len() == 1
    }

    /// The values that the ways lead to in a document, by the numbers of their ends, in the order of these. A way
    /// without one leads to null.
    ///
    /// # Errors
    /// Each is to be followed by itself: the text is not what a server prints, or a key of it stands twice.
    pub fn follow<'a>(&self, text: &'a [u8], form: JsonForm) -> Result<Vec<(u32, &'a [u8])>, Malformed> {
        let mut walk = Walk {
            paths: self,
            form,
            met: vec![false; self.places.capacity()],
            found: Vec::new(),
        };
        walk.value(
            ROOT,
            super::json_read::without_blanks(text),
            form == JsonForm::Jsonb,
        )?;
        walk.found.sort_unstable_by_key(|(end, _)| *end);
        Ok(walk.found)
    }
}

struct Walk<'p, 'a> {
    paths: &'p Paths,
    form: JsonForm,
    /// The places that it came to: none twice, unless a key stands twice.
    met: Vec<bool>,
    found: Vec<(u32, &'a [u8])>,
}

impl<'a> Walk<'_, 'a> {
    /// Follows the ways on from a place, whose value the text starts with, and returns what is behind the value. If
    /// nothing else is to be looked for, it may end before it is there.
    fn value(&mut self, number: u32, text: &'a [u8], is_last: bool) -> Result<&'a [u8], Malformed> {
        let paths = self.paths;
        let place = paths.places.get(number as usize).ok_or(Malformed)?;
        if let Some(met) = self.met.get_mut(number as usize)
            && std::mem::replace(met, true)
        {
            return Err(Malformed);
        }
        let is_last = is_last && place.ends == 0;
        let rest = match Shape::of(text).ok_or(Malformed)? {
            Shape::Object if !place.fields.is_empty() => self.object(place, text, is_last)?,
            Shape::Array if !place.elements.is_empty() => self.array(place, text, is_last)?,
            shape => {
                if let Some(itself) = place.itself
                    && !shape.is_container()
                    && self.form == JsonForm::Jsonb
                {
                    self.value(itself, text, false)?;
                }
                split_value(text).ok_or(Malformed)?.1
            }
        };
        if place.ends > 0 {
            let value = text.get(..text.len() - rest.len()).ok_or(Malformed)?;
            self.found.push((number, value));
        }
        Ok(rest)
    }

    fn object(&mut self, place: &Place, text: &'a [u8], is_last: bool) -> Result<&'a [u8], Malformed> {
        let mut children = Children::of(text);
        let mut left: usize = place.fields.values().map(Vec::len).sum();
        while let Some(start) = children.next_start()? {
            let key: Cow<'_, [u8]> = unescape(start.key).ok_or(Malformed)?;
            let Some(numbers) = place.fields.get(&*key) else {
                children.skip_value()?;
                continue;
            };
            let mut rest = start.text;
            for &number in numbers {
                left = left.saturating_sub(1);
                rest = self.value(number, start.text, is_last && left == 0)?;
            }
            if is_last && left == 0 {
                return Ok(rest);
            }
            children.go_on(rest);
        }
        children.behind()
    }

    fn array(&mut self, place: &Place, text: &'a [u8], is_last: bool) -> Result<&'a [u8], Malformed> {
        let mut children = Children::of(text);
        let mut wanted = place.elements.iter().peekable();
        let mut at = 0;
        while let Some(start) = children.next_start()? {
            let mut rest = None;
            while let Some((_, number)) = wanted.next_if(|(index, _)| *index == at) {
                let is_last = is_last && wanted.peek().is_none();
                rest = Some(self.value(*number, start.text, is_last)?);
            }
            match rest {
                Some(rest) if is_last && wanted.peek().is_none() => return Ok(rest),
                Some(rest) => children.go_on(rest),
                None => children.skip_value()?,
            }
            at += 1;
        }
        children.behind()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{Document, JsonError};

    #[derive(Clone, Debug)]
    enum Step {
        Field(String),
        Element(i32),
        Path(Path),
    }

    impl Step {
        fn way(&self) -> Way<'_> {
            match self {
                Step::Field(key) => Way::Field(key),
                Step::Element(index) => Way::Element(*index),
                Step::Path(path) => Way::Path(path),
            }
        }
    }

    fn by_itself<'a>(steps: &[Step], text: &'a [u8], form: JsonForm) -> Result<Option<&'a [u8]>, JsonError> {
        let mut document = Document::new(text, form);
        for step in steps {
            let found = match step {
                Step::Field(key) => document.field(key)?,
                Step::Element(index) => document.element(*index)?,
                Step::Path(path) => document.path(path)?,
            };
            match found {
                Some(found) => document = found,
                None => return Ok(None),
            }
        }
        Ok(Some(document.raw()))
    }

    fn key() -> impl Strategy<Value = String> {
        prop::sample::select(&["a", "b", "0", "1", "ä", ""][..]).prop_map(str::to_owned)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => key().prop_map(Step::Field),
            2 => (-1..3).prop_map(Step::Element),
            3 => prop::collection::vec(key(), 0..4)
                .prop_map(|keys| Step::Path(Path::new(keys.iter().map(String::as_str)).unwrap())),
        ]
    }

    /// A document as it is written, here with a key twice, a blank or an escape that are only in some.
    fn document() -> impl Strategy<Value = String> {
        let scalar =
            prop::sample::select(&["1", "\"x\"", "null", "true", "\"\\u0000\"", "\"a\\\"b\"", "?"][..]);
        let leaf = prop_oneof![20 => scalar.prop_map(str::to_owned), 1 => Just(String::new())];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let written = prop_oneof![
                20 => key(), 1 => Just("\\u0061".to_owned()), 1 => Just("\\u0000".to_owned()),
            ];
            let members = prop::collection::vec((written, inner.clone()), 0..4);
            let blank = || prop::sample::select(&["", "", " ", "\n"][..]);
            prop_oneof![
                (members, blank()).prop_map(|(members, blank)| {
                    let members: Vec<_> = members
                        .iter()
                        .map(|(key, value)| format!("\"{key}\":{blank}{value}"))
                        .collect();
                    format!("{blank}{{{}{blank}}}{blank}", members.join(","))
                }),
                (prop::collection::vec(inner, 0..4), blank()).prop_map(|(elements, blank)| {
                    format!("[{}{blank}]", elements.join(&format!(",{blank}")))
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn what_is_followed_together_leads_to_where_each_does_by_itself(
            ways in prop::collection::vec(prop::collection::vec(step(), 1..4), 1..12),
            removed in prop::collection::vec(any::<bool>(), 12),
            texts in prop::collection::vec(document(), 1..6),
            form in prop::sample::select(&[JsonForm::Json, JsonForm::Jsonb][..]),
        ) {
            let mut paths = Paths::default();
            let ends: Vec<_> = ways.iter().map(|steps| paths.add(steps.iter().map(Step::way))).collect();
            let mut held = Vec::new();
            for ((steps, end), removed) in ways.iter().zip(ends).zip(removed) {
                match end {
                    Some(end) if removed => paths.remove(end),
                    Some(end) => held.push((steps, end)),
                    None => {}
                }
            }
            for text in &texts {
                let Ok(found) = paths.follow(text.as_bytes(), form) else { continue };
                for (steps, end) in &held {
                    let together = found.binary_search_by_key(end, |(end, _)| *end).ok();
                    let together = together.map(|place| found[place].1);
                    prop_assert_eq!(Ok(together), by_itself(steps, text.as_bytes(), form), "{:?} of {}", steps, text);
                }
            }
            for (_, end) in held {
                paths.remove(end);
            }
            prop_assert!(paths.is_empty());
        }
    }

    #[test]
    fn ordinary_documents_are_followed_together() {
        let mut paths = Paths::default();
        let a = paths.add([Way::Field("a"), Way::Field("b")].into_iter());
        let path = Path::new(["a", "c", "1"]).unwrap();
        let c = paths.add([Way::Path(&path)].into_iter());
        let whole = paths.add([Way::Field("a")].into_iter());
        let text = br#"{"a": {"b": "x", "c": [1, [2]]}, "d": 4}"#;
        for form in [JsonForm::Json, JsonForm::Jsonb] {
            let found = paths.follow(text, form).unwrap();
            let of = |end: Option<u32>| {
                let (_, value) = found.iter().find(|(known, _)| Some(*known) == end).unwrap();
                std::str::from_utf8(value).unwrap()
            };
            assert_eq!(
                (of(a), of(c), of(whole)),
                ("\"x\"", "[2]", r#"{"b": "x", "c": [1, [2]]}"#)
            );
        }
    }
}
