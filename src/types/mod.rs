//! What Postgres' types mean: which there are, how their text reads, compares and prints as JSON. Pure.

mod array;
mod array_text;
mod attnum;
mod bytea;
mod calendar;
mod compare;
mod convert;
mod ctype;
mod interval;
pub mod json;
mod json_nested;
mod json_read;
mod json_text;
mod jsonb;
mod jsonb_compare;
mod jsonb_constant;
mod kind;
mod like;
mod network;
mod parse;
mod reading;
mod work;

pub use array::{Array, ArrayRef, ArraySet};
pub use array_text::{ArrayText, Dimension, Dimensions, Elements, Malformed};
pub use attnum::Attnum;
pub use compare::{Abbreviated, Datum, Decimal, Float};
pub use convert::{Failure, Simple, of_jsonb};
pub use ctype::{CaseMap, Ctype, NoLetters};
pub use jsonb::{Document, JsonError, JsonForm, Path};
pub use jsonb_constant::Jsonb;
pub use kind::{Altered, Attribute, Kind, Type};
pub use like::{Case, Pattern, PatternError};
pub use network::Inet;
pub use parse::{LiteralError, cast, literal};
pub use reading::Reading;
pub use work::{Exhausted, Work};
