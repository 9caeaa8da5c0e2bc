//! `order_by`, `limit` and `bound` of a subscription.

use serde_json::value::RawValue;

use super::super::fields::{Fields, bad, quoted};
use super::exact;
use crate::protocol::{ErrorMessage, OrderBy, Ordered, Wanted};

/// The most columns of an order.
const MAX_COLUMNS: usize = 8;
/// The most rows that may be asked for.
const MAX_LIMIT: u32 = 10_000;

const EXCLUDED: &str = "\"limit\" and \"bound\" exclude each other";

pub(super) fn read(fields: &Fields<'_>) -> Result<Option<Ordered>, ErrorMessage> {
    let limit = fields.get("limit")?.map(limit).transpose()?;
    let is_all = fields.get("bound")?.is_some_and(|bound| bound.get() == "null");
    let bound = if is_all { None } else { fields.array("bound")? };
    let Some(columns) = fields.array("order_by")? else {
        return match (limit, bound) {
            (None, None) if !is_all => Ok(None),
            _ => Err(bad(
                "\"limit\" and \"bound\" are those of an order: say it in \"order_by\"",
            )),
        };
    };
    let by = columns.into_iter().map(order_by).collect::<Result<Vec<_>, _>>()?;
    if by.is_empty() || by.len() > MAX_COLUMNS {
        return Err(bad(format!("\"order_by\" must have 1 to {MAX_COLUMNS} columns")));
    }
    let twice =
        |(index, this): (usize, &OrderBy)| by.iter().take(index).any(|other| other.column == this.column);
    if by.iter().enumerate().any(twice) {
        return Err(bad("\"order_by\" has a column twice"));
    }
    let wanted = match (limit, bound) {
        (None, None) if is_all => Wanted::All,
        (Some(_), None) if is_all => return Err(bad(EXCLUDED)),
        (Some(limit), None) => Wanted::First(limit),
        (None, Some(bound)) if bound.len() == by.len() => {
            let values = bound.into_iter().map(|value| exact(value.get()));
            let values: Option<Vec<_>> = values.collect();
            Wanted::Within(values.ok_or_else(|| {
                bad("\"bound\" holds a number that cannot be kept as it is written; send it as text")
            })?)
        }
        (None, Some(_)) => return Err(bad("\"bound\" must have a value for each column of \"order_by\"")),
        (Some(_), Some(_)) => return Err(bad(EXCLUDED)),
        (None, None) => return Err(bad("an \"order_by\" has a \"limit\" or a \"bound\"")),
    };
    Ok(Some(Ordered { by, wanted }))
}

fn limit(value: &RawValue) -> Result<u32, ErrorMessage> {
    let limit: Option<u32> = value.get().parse().ok();
    limit
        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
        .ok_or_else(|| bad(format!("\"limit\" must be a number from 1 to {MAX_LIMIT}")))
}

fn order_by(column: &RawValue) -> Result<OrderBy, ErrorMessage> {
    if !column.get().starts_with('{') {
        return Err(bad(
            "\"order_by\" is an array of objects such as {\"column\": \"at\", \"desc\": true}",
        ));
    }
    let fields = Fields::parse(column.get())?;
    fields.check_all("a column of \"order_by\"", &["column", "desc", "nulls"])?;
    let descending = fields.flag("desc")?;
    let nulls_first = match fields.text("nulls")?.as_deref() {
        // As in SQL.
        None => descending,
        Some("first") => true,
        Some("last") => false,
        Some(other) => {
            return Err(bad(format!(
                "\"nulls\" cannot be {}; it may be: first, last",
                quoted(other)
            )));
        }
    };
    Ok(OrderBy {
        column: fields.required_text("column")?,
        descending,
        nulls_first,
    })
}
