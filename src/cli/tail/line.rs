//! [`Line`]: a change as it is printed, for programs or for people.

use std::borrow::Cow;

use serde_json::json;
use serde_json::value::RawValue;

use super::object::Object;
use crate::lsn::Position;

/// The form in which changes are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// A JSON object on each line.
    Json,
    /// Words on each line, for people.
    Text,
}

/// A change with where it stands.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// The position to resume from after it; `None` where there is none yet.
    pub(super) position: Option<Position>,
    /// The change's number in its transaction.
    pub(super) seq: u32,
    /// The transaction.
    pub(super) xid: u32,
    /// The time of its commit.
    pub(super) ts: &'a str,
    /// The table, where several are followed.
    pub(super) table: Option<&'a str>,
    /// The change as the server wrote it.
    pub(super) change: &'a Object,
}

/// Writes the line of a row that was there before any change, without the line's end.
///
/// # Errors
/// The row is not a JSON object.
pub(super) fn of_row(
    row: &RawValue,
    table: Option<&str>,
    format: Format,
) -> Result<String, serde_json::Error> {
    match format {
        Format::Json => {
            let table = table.map_or(String::new(), |table| format!(r#""table":{},"#, json!(table)));
            let row = on_one_line(row);
            Ok(format!(r#"{{{table}"op":"snapshot","row":{row}}}"#))
        }
        Format::Text => {
            let mut line = String::from("snapshot");
            push_word(&mut line, table);
            push_values(&mut line, "", row)?;
            Ok(line)
        }
    }
}

/// The line which says that the rows so far are void, since they come once more.
pub(super) fn reset(table: Option<&str>, format: Format) -> String {
    match format {
        Format::Json => {
            let table = table.map_or(String::new(), |table| format!(r#""table":{},"#, json!(table)));
            format!(r#"{{{table}"op":"reset"}}"#)
        }
        Format::Text => {
            let mut line = String::from("reset");
            push_word(&mut line, table);
            line
        }
    }
}

impl Line<'_> {
    /// Writes the line, without its end.
    ///
    /// # Errors
    /// A row or a key of the change is not a JSON object.
    pub(super) fn write(&self, format: Format) -> Result<String, serde_json::Error> {
        match format {
            Format::Json => Ok(self.json()),
            Format::Text => self.text(),
        }
    }

    fn json(&self) -> String {
        let mut line = String::from("{");
        let mut field = |name: &str, value: &str| {
            if line.len() > 1 {
                line.push(',');
            }
            line.push_str(&format!("{}:{value}", json!(name)));
        };
        if let Some(position) = self.position {
            field("position", &json!(position).to_string());
        }
        field("seq", &self.seq.to_string());
        field("xid", &self.xid.to_string());
        field("ts", &json!(self.ts).to_string());
        if let Some(table) = self.table {
            field("table", &json!(table).to_string());
        }
        for (name, value) in self.change.fields() {
            if !matches!(name, "id" | "seq") {
                field(name, &on_one_line(value));
            }
        }
        line.push('}');
        line
    }

    fn text(&self) -> Result<String, serde_json::Error> {
        let mut line = self
            .position
            .map_or_else(|| "-".to_owned(), |position| position.to_string());
        push_word(&mut line, Some(self.ts));
        let mut cause = "";
        for (name, value) in self.change.fields() {
            match name {
                "op" => push_word(&mut line, serde_json::from_str(value.get())?),
                "cause" => cause = " (by an update)",
                _ => {}
            }
        }
        line.push_str(cause);
        push_word(&mut line, self.table);
        let old = self.change.get("old");
        for (name, value) in self.change.fields() {
            match name {
                "id" | "seq" | "op" | "cause" => {}
                "row" => match old {
                    Some(old) => push_changed(&mut line, old, value)?,
                    None => push_values(&mut line, "", value)?,
                },
                // Shown beside the new values.
                "old" if self.change.get("row").is_some() => {}
                "key" if self.change.get("row").is_none() => push_values(&mut line, "", value)?,
                "key" => push_values(&mut line, "was ", value)?,
                "old" | "new_key" => push_values(&mut line, &format!("{name} "), value)?,
                _ => line.push_str(&format!("  {name}: {}", harmless(value))),
            }
        }
        Ok(line)
    }
}

fn push_word(line: &mut String, word: Option<&str>) {
    if let Some(word) = word {
        line.push_str(&format!("  {}", printable(word)));
    }
}

/// Adds the values of a row, or of a key: `  id: 1, status: "paid"`.
fn push_values(line: &mut String, before: &str, row: &RawValue) -> Result<(), serde_json::Error> {
    let row: Object = serde_json::from_str(row.get())?;
    let values = row.fields();
    let values = values.map(|(name, value)| format!("{}: {}", printable(name), harmless(value)));
    line.push_str(&format!("  {before}{}", values.collect::<Vec<_>>().join(", ")));
    Ok(())
}

/// Adds the values of a row beside those that it had before: `  id: 1, status: "new" → "paid"`.
fn push_changed(line: &mut String, old: &RawValue, row: &RawValue) -> Result<(), serde_json::Error> {
    let (old, row): (Object, Object) = (serde_json::from_str(old.get())?, serde_json::from_str(row.get())?);
    let value = |(name, value): (&str, &RawValue)| {
        let before = old.get(name).filter(|before| before.get() != value.get());
        let before = before.map_or(String::new(), |before| format!("{} → ", harmless(before)));
        format!("{}: {before}{}", printable(name), harmless(value))
    };
    line.push_str(&format!(
        "  {}",
        row.fields().map(value).collect::<Vec<_>>().join(", ")
    ));
    Ok(())
}

/// The text, escaped if it could do anything to a terminal but print.
fn printable(text: &str) -> String {
    if text.chars().any(char::is_control) {
        return harmless_text(&json!(text).to_string());
    }
    text.to_owned()
}

/// The value without line breaks: a `json` column's text may have them between its parts, never inside a string.
fn on_one_line(value: &RawValue) -> Cow<'_, str> {
    if value.get().contains(['\n', '\r']) {
        Cow::Owned(value.get().replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(value.get())
    }
}

/// The value with what a terminal could act on escaped, beyond what JSON escapes already.
fn harmless(value: &RawValue) -> Cow<'_, str> {
    if value.get().contains(char::is_control) {
        Cow::Owned(harmless_text(&on_one_line(value)))
    } else {
        Cow::Borrowed(value.get())
    }
}

fn harmless_text(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\t' => text.push(' '),
            c if c.is_control() => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(change: &str, table: Option<&str>) -> String {
        let change: Object = serde_json::from_str(change).unwrap();
        let line = Line {
            position: "0/FF:2".parse().ok(),
            seq: 2,
            xid: 7,
            ts: "2026-01-01T00:00:00.000001Z",
            table,
            change: &change,
        };
        line.write(Format::Text).unwrap()
    }

    #[test]
    fn people_read_the_place_the_time_the_operation_and_the_values() {
        for (change, line) in [
            (
                r#"{"id":"t","seq":2,"op":"insert","row":{"id":1,"note":"a\u001bb","n":1.50}}"#,
                r#"insert  id: 1, note: "a\u001bb", n: 1.50"#,
            ),
            (
                r#"{"id":"t","seq":2,"op":"delete","cause":"update","key":{"id":1}}"#,
                "delete (by an update)  id: 1",
            ),
            (
                r#"{"id":"t","seq":2,"op":"update","row":{"id":2,"s":"paid"},"key":{"id":1},"old":{"id":1,"s":"paid"}}"#,
                r#"update  id: 1 → 2, s: "paid"  was id: 1"#,
            ),
            (
                r#"{"id":"t","seq":2,"op":"delete","key":{},"old":{"a":1}}"#,
                "delete    old a: 1",
            ),
            (
                r#"{"id":"t","seq":2,"op":"update","row":{"id":2},"unchanged":["body"]}"#,
                r#"update  id: 2  unchanged: ["body"]"#,
            ),
            (r#"{"id":"t","seq":2,"op":"truncate"}"#, "truncate"),
        ] {
            let expected = format!("0/FF:2  2026-01-01T00:00:00.000001Z  {line}");
            assert_eq!(text(change, None), expected, "{change}");
        }
        let change = r#"{"id":"t","seq":2,"op":"truncate"}"#;
        assert!(text(change, Some("shop.orders")).ends_with("truncate  shop.orders"));
    }

    #[test]
    fn names_that_a_terminal_would_act_on_are_escaped() {
        let change = "{\"id\":\"t\",\"seq\":2,\"op\":\"insert\",\"row\":{\"\\u001b[2J\":1}}";
        assert!(text(change, None).ends_with(r#"insert  "\u001b[2J": 1"#));
        assert!(text(change, Some("\x1b")).contains(r#"  "\u001b"  "#));
    }

    #[test]
    fn a_row_that_was_there_has_no_place() {
        let row: &RawValue = serde_json::from_str(r#"{"b":1.50}"#).unwrap();
        let line = |table, format| of_row(row, table, format).unwrap();
        assert_eq!(line(None, Format::Json), r#"{"op":"snapshot","row":{"b":1.50}}"#);
        assert_eq!(
            line(Some("t"), Format::Json),
            r#"{"table":"t","op":"snapshot","row":{"b":1.50}}"#
        );
        assert_eq!(line(Some("t"), Format::Text), "snapshot  t  b: 1.50");
    }

    #[test]
    fn a_value_with_line_breaks_stays_on_its_line() {
        let row: &RawValue = serde_json::from_str("{\"j\":{\n\t\"a\": \"\u{9b}2J\"\r\n}}").unwrap();
        let json = of_row(row, None, Format::Json).unwrap();
        assert_eq!(json.lines().count(), 1, "{json}");
        let text = of_row(row, None, Format::Text).unwrap();
        assert_eq!(text, "snapshot  j: {  \"a\": \"\\u009b2J\"  }");
    }
}
