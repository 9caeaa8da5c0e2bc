//! [`Parts`]: the parts of documents that predicates on one table read, so that each document of a row is walked once
//! for all of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::computed::{Argument, Computed};
use super::leaf::{DocumentSide, Item, Leaf, Test};
use super::matcher::Node;
use super::scalar::{Part, Scalar, Step};
use crate::types::{Exhausted, JsonForm, Paths, Way, Work};

/// The parts that are read, by the documents that they are of.
#[derive(Debug, Default)]
pub(super) struct Parts {
    documents: Vec<Document>,
    places: HashMap<Arc<Part>, Place>,
}

/// A column of documents.
#[derive(Debug)]
struct Document {
    column: usize,
    form: JsonForm,
    paths: Paths,
    /// The number of uses of its parts.
    uses: usize,
}

#[derive(Debug)]
struct Place {
    document: usize,
    /// The end of its way.
    end: u32,
    uses: usize,
}

impl Parts {
    /// Adds what an expression reads.
    pub(super) fn add_node(&mut self, node: &Node) {
        of_node(node, &mut |part| self.add(part));
    }

    /// Removes what was added so.
    pub(super) fn remove_node(&mut self, node: &Node) {
        of_node(node, &mut |part| self.remove(part));
    }

    /// Adds what a value is made of.
    pub(super) fn add_scalar(&mut self, scalar: &Scalar) {
        of_scalar(scalar, &mut |part| self.add(part));
    }

    /// Removes what was added so.
    pub(super) fn remove_scalar(&mut self, scalar: &Scalar) {
        of_scalar(scalar, &mut |part| self.remove(part));
    }

    fn add(&mut self, part: &Arc<Part>) {
        let known = self.documents.iter();
        let known = known.enumerate().find(|(_, document)| document.holds(part));
        let number = known.map_or(self.documents.len(), |(number, _)| number);
        if number == self.documents.len() {
            self.documents.push(Document {
                column: part.column,
                form: part.form,
                paths: Paths::default(),
                uses: 0,
            });
        }
        let Some(document) = self.documents.get_mut(number) else {
            return;
        };
        if let Some(place) = self.places.get_mut(part) {
            place.uses += 1;
            document.uses += 1;
            return;
        }
        let ways = part.steps.iter().map(|step| match step {
            Step::Field(key) => Way::Field(key),
            Step::Element(index) => Way::Element(*index),
            Step::Path(path) => Way::Path(path),
        });
        if let Some(end) = document.paths.add(ways) {
            document.uses += 1;
            let place = Place {
                document: number,
                end,
                uses: 1,
            };
            self.places.insert(Arc::clone(part), place);
        }
    }

    fn remove(&mut self, part: &Arc<Part>) {
        let Some(place) = self.places.get_mut(part) else {
            return;
        };
        place.uses -= 1;
        if let Some(document) = self.documents.get_mut(place.document) {
            document.uses -= 1;
            if place.uses == 0 {
                document.paths.remove(place.end);
            }
        }
        if place.uses == 0 {
            self.places.remove(part);
        }
    }

    /// Tells whether every trace of what was removed is gone, but for which columns have documents.
    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        let mut documents = self.documents.iter();
        self.places.is_empty() && documents.all(|document| document.uses == 0 && document.paths.is_empty())
    }
}

impl Document {
    fn holds(&self, part: &Part) -> bool {
        (self.column, self.form) == (part.column, part.form)
    }
}

/// The parts that a row's documents hold: each document is walked when the first of its parts is asked for.
#[derive(Debug)]
pub(super) struct Walked<'r> {
    parts: &'r Parts,
    /// By the numbers of the documents.
    documents: RefCell<Vec<Walk<'r>>>,
}

/// A document, as far as it was walked.
#[derive(Clone, Debug, Default)]
enum Walk<'r> {
    #[default]
    NotYet,
    /// The texts of its parts that are there, by the ends of their ways.
    Found(Vec<(u32, &'r [u8])>),
    /// Each way is to be followed by itself.
    Singly,
}

impl<'r> Walked<'r> {
    pub(super) fn new(parts: &'r Parts) -> Walked<'r> {
        Walked {
            parts,
            documents: RefCell::default(),
        }
    }

    /// The part's text, or else that it is not there, if the document is walked for several; `None` if it is to be
    /// looked for by itself. The walk is counted for the first who asks: no more than it would take alone.
    pub(super) fn find(
        &self,
        part: &Part,
        text: &'r [u8],
        work: &Work,
    ) -> Result<Option<Option<&'r [u8]>>, Exhausted> {
        let Some(place) = self.parts.places.get(part) else {
            return Ok(None);
        };
        let Some(document) = self.parts.documents.get(place.document) else {
            return Ok(None);
        };
        if document.uses < 2 {
            return Ok(None);
        }
        let mut walks = self.documents.borrow_mut();
        if walks.is_empty() {
            walks.resize(self.parts.documents.len(), Walk::NotYet);
        }
        let Some(walk) = walks.get_mut(place.document) else {
            return Ok(None);
        };
        if let Walk::NotYet = walk {
            work.spend(text.len())?;
            *walk = match document.paths.follow(text, document.form) {
                Ok(found) => Walk::Found(found),
                Err(_) => Walk::Singly,
            };
        }
        match walk {
            Walk::Found(found) => {
                work.spend(FIND)?;
                let place = found.binary_search_by_key(&place.end, |(end, _)| *end);
                Ok(Some(
                    place
                        .ok()
                        .and_then(|place| found.get(place))
                        .map(|(_, text)| *text),
                ))
            }
            _ => Ok(None),
        }
    }
}

/// The work of finding a part of a document that was walked.
const FIND: usize = 32;

fn of_node(node: &Node, each: &mut impl FnMut(&Arc<Part>)) {
    match node {
        Node::Constant(_)
        | Node::IsNull { .. }
        | Node::Compare { .. }
        | Node::Columns { .. }
        | Node::In { .. } => {}
        Node::Leaf(leaf) => of_leaf(leaf, each),
        Node::Is { node, .. } | Node::Certain { node, .. } => of_node(node, each),
        Node::And(nodes) | Node::Or(nodes) => nodes.iter().for_each(|node| of_node(node, each)),
    }
}

fn of_leaf(leaf: &Leaf, each: &mut impl FnMut(&Arc<Part>)) {
    of_scalar(&leaf.left, each);
    match &leaf.test {
        Test::With { right, .. }
        | Test::Labels { right, .. }
        | Test::Document {
            right: DocumentSide::Value(right),
            ..
        } => of_scalar(right, each),
        Test::Any {
            item: Item::Value(item),
            ..
        } => of_scalar(item, each),
        _ => {}
    }
}

fn of_scalar(scalar: &Scalar, each: &mut impl FnMut(&Arc<Part>)) {
    match scalar {
        Scalar::Column(_) => {}
        Scalar::Part(part) => each(part),
        Scalar::Computed(computed) => match &**computed {
            Computed::Lower(of, _) | Computed::Upper(of, _) | Computed::Cast { of, .. } => {
                of_scalar(of, each)
            }
            Computed::Coalesce(arguments) => arguments.iter().for_each(|one| of_argument(one, each)),
            Computed::Arithmetic { left, right, .. } => {
                of_argument(left, each);
                of_argument(right, each);
            }
        },
    }
}

fn of_argument(argument: &Argument, each: &mut impl FnMut(&Arc<Part>)) {
    if let Argument::Value(scalar) = argument {
        of_scalar(scalar, each);
    }
}
