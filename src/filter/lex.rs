//! Everything that may stand in a predicate: tokens, names, and where they are.
//!
//! sqlparser reads more than Postgres does (`==`, `a NOT NULL`, reserved words as names). What is let through here
//! means the same to both.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::Error;
use super::limits::Limits;

/// A predicate's text, and how to find a place in it.
pub(super) struct Text<'a> {
    text: &'a str,
    /// The byte offset of each character.
    characters: Vec<usize>,
    /// The index of each line's first character.
    lines: Vec<usize>,
    /// True if `LIKE` may stand as the operators that the database has for it.
    has_like_operators: bool,
}

impl<'a> Text<'a> {
    pub(super) fn new(text: &'a str, has_like_operators: bool) -> Text<'a> {
        let line_ends = text.chars().enumerate().filter(|(_, c)| *c == '\n');
        Text {
            text,
            has_like_operators,
            characters: text.char_indices().map(|(offset, _)| offset).collect(),
            lines: std::iter::once(0)
                .chain(line_ends.map(|(index, _)| index + 1))
                .collect(),
        }
    }

    /// The byte offset of the end.
    pub(super) fn end(&self) -> usize {
        self.text.len()
    }

    /// The byte offset of a line and column, which count characters from 1; the end of the text for a place beyond it.
    pub(super) fn offset(&self, at: Location) -> usize {
        let index = |one_based: u64| usize::try_from(one_based.saturating_sub(1)).unwrap_or(usize::MAX);
        let line = self.lines.get(index(at.line)).copied().unwrap_or(usize::MAX);
        let character = line.saturating_add(index(at.column));
        self.characters.get(character).copied().unwrap_or(self.end())
    }

    /// The tokens, if each of them may stand in a predicate and together they cannot nest beyond the limits.
    pub(super) fn tokens(&self, limits: &Limits) -> Result<Vec<TokenWithSpan>, Error> {
        if let Some(offset) = self.text.find('\0') {
            return Err(Error::syntax(
                "a predicate cannot hold the character U+0000",
                offset,
            ));
        }
        let tokens = Tokenizer::new(&PostgreSqlDialect {}, self.text)
            .tokenize_with_location()
            .map_err(|e| Error::syntax(e.message, self.offset(e.location)))?;
        let mut before = [&Token::EOF, &Token::EOF];
        let mut shape = Shape::new(limits);
        for TokenWithSpan { token, span } in &tokens {
            if matches!(token, Token::Whitespace(_)) {
                continue;
            }
            let offset = self.offset(span.start);
            self.check(token, before, offset)?;
            shape.add(token, offset)?;
            before = [before[1], token];
        }
        Ok(tokens)
    }

    fn check(&self, token: &Token, before: [&Token; 2], offset: usize) -> Result<(), Error> {
        match token {
            Token::Number(digits, long) => {
                let plain = digits
                    .bytes()
                    .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
                if !plain || *long {
                    return Err(Error::unsupported(format!("the number {token}"), offset));
                }
            }
            Token::SingleQuotedString(_) if matches!(before[1], Token::SingleQuotedString(_)) => {
                return Err(Error::unsupported("a string in several parts", offset));
            }
            Token::Word(word)
                if *before[1] == Token::EOF && matches!(word.keyword, Keyword::SELECT | Keyword::WHERE) =>
            {
                let message = "a predicate is the condition behind WHERE alone, such as status = 'paid'";
                return Err(Error::syntax(message, offset));
            }
            Token::Word(word)
                if word.keyword == Keyword::NULL
                    && is_keyword(before[1], Keyword::NOT)
                    && ends_operand(before[0]) =>
            {
                return Err(Error::syntax("NOT NULL without IS", offset));
            }
            Token::Colon | Token::Sharp => return Err(Error::syntax(PARAMETER, offset)),
            Token::Question | Token::Mod if begins_operand(before[1]) => {
                return Err(Error::syntax(PARAMETER, offset));
            }
            Token::Word(_) | Token::SingleQuotedString(_) | Token::Placeholder(_) => {}
            Token::Eq | Token::Neq | Token::Lt | Token::Gt | Token::LtEq | Token::GtEq => {}
            Token::LParen | Token::RParen | Token::Comma | Token::Period | Token::DoubleColon => {}
            // In the name of an array's type.
            Token::LBracket | Token::RBracket => {}
            Token::Plus | Token::Minus | Token::Mul | Token::Div | Token::Mod => {}
            Token::Arrow | Token::LongArrow | Token::HashArrow | Token::HashLongArrow => {}
            Token::AtArrow | Token::ArrowAt | Token::Overlap | Token::Question => {}
            Token::DoubleTilde
            | Token::DoubleTildeAsterisk
            | Token::ExclamationMarkDoubleTilde
            | Token::ExclamationMarkDoubleTildeAsterisk
                if self.has_like_operators => {}
            Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::HexStringLiteral(_) => {
                return Err(Error::unsupported("this notation of a literal", offset));
            }
            Token::SemiColon => {
                return Err(Error::syntax("a predicate is one expression, without ;", offset));
            }
            other => {
                let instead = match other {
                    Token::DoubleEq => " (write =)",
                    Token::StringConcat => " (write OR between conditions)",
                    Token::ExclamationMark => " (write NOT)",
                    _ => "",
                };
                return Err(Error::unsupported(
                    format!("the operator {other}{instead}"),
                    offset,
                ));
            }
        }
        Ok(())
    }
}

/// Bounds how deep the tree of some tokens can be before it is made.
///
/// sqlparser bounds its own recursion, but a chain of operators (`a + a + …`) makes a tree as deep as the chain is
/// long, and to drop such a tree, or to ask for its place, recurses that deep.
struct Shape<'a> {
    limits: &'a Limits,
    /// The `AND` and `OR` of the whole text, those of `BETWEEN` included.
    conjunctions: usize,
    /// For each open parenthesis, and for the text itself, the tokens since the last `AND`, `OR` or comma.
    runs: Vec<usize>,
}

/// The number of tokens that a comparison takes at most, those in parentheses apart.
const MAX_RUN: usize = 64;

impl<'a> Shape<'a> {
    fn new(limits: &'a Limits) -> Shape<'a> {
        Shape {
            limits,
            conjunctions: 0,
            runs: vec![0],
        }
    }

    fn add(&mut self, token: &Token, offset: usize) -> Result<(), Error> {
        let too_large = |of, limit| Err(Error::TooLarge { of, limit, offset });
        match token {
            Token::LParen if self.runs.len() > self.limits.max_depth => {
                return too_large("levels of nesting", self.limits.max_depth);
            }
            Token::LParen => self.runs.push(0),
            // A parenthesis that was never opened is the parser's to refuse.
            Token::RParen if self.runs.len() > 1 => drop(self.runs.pop()),
            _ => {}
        }
        let and_or = is_keyword(token, Keyword::AND) || is_keyword(token, Keyword::OR);
        self.conjunctions += usize::from(and_or);
        if self.conjunctions > self.limits.max_nodes.saturating_mul(2) {
            return too_large("comparisons and logical operators", self.limits.max_nodes);
        }
        let Some(run) = self.runs.last_mut() else {
            return Ok(());
        };
        *run = if and_or || *token == Token::Comma {
            0
        } else {
            *run + 1
        };
        if *run > MAX_RUN {
            return too_large("tokens in a comparison", MAX_RUN);
        }
        Ok(())
    }
}

/// The hint for the ways in which drivers and other databases write parameters: `?`, `:name`, `%s`, `#{name}`.
const PARAMETER: &str = "a parameter is written $1, $2 and so on, and its value stands in params";

/// True if an operand begins behind this token, so that no operator between two can come.
fn begins_operand(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND | Keyword::OR | Keyword::NOT | Keyword::LIKE | Keyword::ILIKE | Keyword::BETWEEN
        ),
        Token::EOF | Token::LParen | Token::Comma => true,
        Token::Eq | Token::Neq | Token::Lt | Token::Gt | Token::LtEq | Token::GtEq => true,
        _ => false,
    }
}

/// True if a NOT behind this token is not the beginning of a condition.
fn ends_operand(token: &Token) -> bool {
    match token {
        Token::Word(word) => !matches!(
            word.keyword,
            Keyword::AND | Keyword::OR | Keyword::NOT | Keyword::IS | Keyword::WHEN
        ),
        Token::RParen | Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_) => true,
        _ => false,
    }
}

fn is_keyword(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.keyword == keyword)
}

/// True if an unquoted word cannot be a column's name in Postgres: its reserved words, and those that can name only
/// functions and types (documentation, "SQL Key Words", up to version 18).
pub(super) fn is_reserved(word: &str) -> bool {
    RESERVED.binary_search(&word).is_ok()
}

#[rustfmt::skip]
const RESERVED: &[&str] = &[
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization", "binary", "both",
    "case", "cast", "check", "collate", "collation", "column", "concurrently", "constraint", "create", "cross",
    "current_catalog", "current_date", "current_role", "current_schema", "current_time", "current_timestamp",
    "current_user", "default", "deferrable", "desc", "distinct", "do", "else", "end", "except", "false", "fetch",
    "for", "foreign", "freeze", "from", "full", "grant", "group", "having", "ilike", "in", "initially", "inner",
    "intersect", "into", "is", "isnull", "join", "lateral", "leading", "left", "like", "limit", "localtime",
    "localtimestamp", "natural", "not", "notnull", "null", "offset", "on", "only", "or", "order", "outer", "overlaps",
    "placing", "primary", "references", "returning", "right", "select", "session_user", "similar", "some",
    "symmetric", "system_user", "table", "tablesample", "then", "to", "trailing", "true", "union", "unique", "user",
    "using", "variadic", "verbose", "when", "where", "window", "with",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_in_text_of_several_lines_and_wide_characters() {
        let text = Text::new("é = 1\n  AND ü = 'x\ny' AND z", false);
        for (line, column, expected) in [
            (1, 1, "é"),
            (1, 3, "= 1"),
            (2, 3, "AND"),
            (2, 9, "= 'x"),
            (3, 4, "AND z"),
        ] {
            let offset = text.offset(Location { line, column });
            assert!(text.text[offset..].starts_with(expected), "{line}:{column}");
        }
        assert_eq!(text.offset(Location { line: 9, column: 9 }), text.end());
    }

    #[test]
    fn reserved_words_are_sorted() {
        assert!(RESERVED.is_sorted());
    }
}
