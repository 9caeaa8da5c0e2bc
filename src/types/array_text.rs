//! [`ArrayText`]: an array, read in place from the text of its output function (documentation, "Array Input and Output
//! Syntax").

use std::borrow::Cow;

use super::json_nested::{MAX_DIMENSIONS, Quoted};

/// A part of an array's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Open,
    Close,
    Delimiter,
    Null,
    Plain(&'a [u8]),
    Quoted(Quoted<'a>),
}

/// Reads an array's text from its first brace on. (The writer of JSON has a loop of its own over the same grammar:
/// taking tokens from here cost it up to a third.)
#[derive(Clone, Copy, Debug)]
struct Tokens<'a> {
    rest: &'a [u8],
    delimiter: u8,
    depth: usize,
    expects_item: bool,
}

impl<'a> Tokens<'a> {
    /// Starts behind the bounds, if there are any: `[2:3]={…}`
    fn new(text: &'a [u8], delimiter: u8) -> Option<Tokens<'a>> {
        let rest = match text.first()? {
            b'[' => text.get(text.iter().position(|b| *b == b'=')? + 1..)?,
            _ => text,
        };
        Some(Tokens {
            rest,
            delimiter,
            depth: 0,
            expects_item: true,
        })
    }

    /// The number of braces that are open.
    fn depth(&self) -> usize {
        self.depth
    }

    /// True if nothing follows what has been read.
    fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next token; `None` if the text is no array's. What follows the last brace is up to the caller.
    #[inline]
    fn next(&mut self) -> Option<Token<'a>> {
        let (byte, after) = self.rest.split_first()?;
        let delimiter = self.delimiter;
        Some(match byte {
            b'{' if self.expects_item && self.depth < MAX_DIMENSIONS => {
                self.depth += 1;
                self.rest = after;
                if after.first() == Some(&b'}') {
                    self.expects_item = false;
                }
                Token::Open
            }
            b'}' if !self.expects_item && self.depth > 0 => {
                self.depth -= 1;
                self.rest = after;
                Token::Close
            }
            byte if *byte == delimiter && !self.expects_item => {
                self.rest = after;
                self.expects_item = true;
                Token::Delimiter
            }
            b'"' if self.expects_item && self.depth > 0 => {
                let (quoted, after) = Quoted::split(self.rest)?;
                self.rest = after;
                self.expects_item = false;
                Token::Quoted(quoted)
            }
            _ if self.expects_item && self.depth > 0 => {
                let is_end = |b: &u8| *b == delimiter || matches!(b, b'}' | b'{' | b'"' | b'\\');
                let (item, after) = self.rest.split_at_checked(self.rest.iter().position(is_end)?)?;
                self.rest = after;
                self.expects_item = false;
                match item {
                    b"" => return None,
                    b"NULL" => Token::Null,
                    item => Token::Plain(item),
                }
            }
            _ => return None,
        })
    }
}

/// An array's text. Nothing is read of it before it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayText<'a> {
    text: &'a [u8],
    delimiter: u8,
}

/// A dimension of an array.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dimension {
    /// The index of the first element, 1 unless the array says otherwise.
    pub lower: i32,
    /// The number of elements, at least 1.
    pub length: u32,
}

/// An array's dimensions, outermost first; an empty array has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dimensions {
    count: usize,
    all: [Dimension; MAX_DIMENSIONS],
}

impl Dimensions {
    /// Those of a plain list.
    pub(super) fn one(dimension: Dimension) -> Dimensions {
        let mut dimensions = Dimensions::default();
        for first in dimensions.all.iter_mut().take(1) {
            *first = dimension;
            dimensions.count = 1;
        }
        dimensions
    }

    /// Something of each dimension, for comparisons; of those that are not there, zero.
    pub(super) fn map<T: Default>(&self, of: impl Fn(&Dimension) -> T) -> [T; MAX_DIMENSIONS] {
        std::array::from_fn(|at| self.get(at).map(&of).unwrap_or_default())
    }
}

impl std::ops::Deref for Dimensions {
    type Target = [Dimension];

    fn deref(&self) -> &[Dimension] {
        self.all.get(..self.count).unwrap_or_default()
    }
}

/// A text is no array's, which no server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed array")]
pub struct Malformed;

impl<'a> ArrayText<'a> {
    /// An array whose elements the delimiter separates ([`Kind::delimiter`](super::Kind::delimiter)).
    pub fn new(text: &'a [u8], delimiter: u8) -> ArrayText<'a> {
        ArrayText { text, delimiter }
    }

    /// The elements in the order of their storage, row by row; `None` is a null. An element is its type's text, in
    /// place unless some of it is escaped. The first error is the last item.
    pub fn elements(self) -> Elements<'a> {
        Elements {
            tokens: Tokens::new(self.text, self.delimiter),
            is_done: false,
        }
    }

    /// The dimensions, for which the whole text is read.
    pub fn dimensions(self) -> Result<Dimensions, Malformed> {
        self.read_dimensions().ok_or(Malformed)
    }

    fn read_dimensions(self) -> Option<Dimensions> {
        let mut tokens = Tokens::new(self.text, self.delimiter)?;
        // The lengths of what is open, and those of the first that was closed at each depth.
        let mut open = [0u32; MAX_DIMENSIONS];
        let mut closed = [None; MAX_DIMENSIONS];
        let mut deepest = 0;
        loop {
            let outer = tokens.depth();
            let is_item = match tokens.next()? {
                Token::Delimiter => continue,
                Token::Open => {
                    *open.get_mut(outer)? = 0;
                    true
                }
                Token::Close => {
                    let length = *open.get(outer - 1)?;
                    let first = closed.get_mut(outer - 1)?;
                    if *first.get_or_insert(length) != length {
                        return None;
                    }
                    if outer == 1 {
                        break;
                    }
                    false
                }
                Token::Null | Token::Plain(_) | Token::Quoted(_) => {
                    // Elements stand at one depth only.
                    if deepest != 0 && deepest != outer {
                        return None;
                    }
                    deepest = outer;
                    true
                }
            };
            if is_item && outer > 0 {
                let length = open.get_mut(outer - 1)?;
                *length = length.checked_add(1)?;
            }
        }
        if !tokens.is_at_end() {
            return None;
        }
        let mut dimensions = Dimensions::default();
        if deepest == 0 {
            return (closed == [Some(0), None, None, None, None, None] && self.text.first() == Some(&b'{'))
                .then_some(dimensions);
        }
        let is_uniform = closed.iter().skip(deepest).all(Option::is_none);
        dimensions.count = deepest;
        for (dimension, length) in dimensions.all.iter_mut().zip(closed).take(deepest) {
            let length = length?;
            *dimension = Dimension { lower: 1, length };
        }
        is_uniform.then_some(())?;
        self.read_bounds(&mut dimensions)?;
        Some(dimensions)
    }

    /// Reads `[2:3][0:4]=`, if it is there.
    fn read_bounds(self, dimensions: &mut Dimensions) -> Option<()> {
        let mut rest = self.text;
        if rest.first() != Some(&b'[') {
            return Some(());
        }
        for dimension in dimensions.all.iter_mut().take(dimensions.count) {
            let (bounds, after) = rest
                .strip_prefix(b"[")
                .and_then(|rest| rest.split_at_checked(rest.iter().position(|b| *b == b']')?))?;
            rest = after.get(1..)?;
            let (lower, upper) = std::str::from_utf8(bounds).ok()?.split_once(':')?;
            let upper: i32 = upper.parse().ok()?;
            dimension.lower = lower.parse().ok()?;
            let length = i64::from(upper) - i64::from(dimension.lower) + 1;
            (length == i64::from(dimension.length)).then_some(())?;
        }
        rest.starts_with(b"=").then_some(())
    }
}

/// The elements of an [`ArrayText`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    tokens: Option<Tokens<'a>>,
    is_done: bool,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Option<Cow<'a, [u8]>>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        loop {
            match self.tokens.as_mut().and_then(Tokens::next) {
                Some(Token::Null) => return Some(Ok(None)),
                Some(Token::Plain(text)) => return Some(Ok(Some(Cow::Borrowed(text)))),
                Some(Token::Quoted(quoted)) => return Some(Ok(Some(quoted.text()))),
                Some(Token::Open | Token::Delimiter) => {}
                Some(Token::Close) => {
                    let is_closed = |tokens: &Tokens<'_>| tokens.depth() == 0;
                    if self.tokens.as_ref().is_some_and(is_closed) {
                        self.is_done = true;
                        let is_whole = self.tokens.as_ref().is_some_and(Tokens::is_at_end);
                        return if is_whole { None } else { Some(Err(Malformed)) };
                    }
                }
                None => {
                    self.is_done = true;
                    return Some(Err(Malformed));
                }
            }
        }
    }
}
