//! The password file, `~/.pgpass`. Documentation: libpq, "The Password File". Pure.

/// The password of the first line that fits, if one does.
pub(super) fn lookup(file: &str, host: &str, port: u16, database: &str, user: &str) -> Option<String> {
    let port = port.to_string();
    let wanted = [host, &port, database, user];
    file.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| password_of(line, wanted))
}

fn password_of(line: &str, wanted: [&str; 4]) -> Option<String> {
    let mut rest = line;
    for wanted in wanted {
        let (field, wild, after) = split_field(rest);
        if !wild && field != wanted {
            return None;
        }
        rest = after?;
    }
    Some(split_field(rest).0)
}

/// The next field without its escapes, whether it is the bare `*`, and what follows the colon if there is one.
fn split_field(text: &str) -> (String, bool, Option<&str>) {
    let mut field = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            ':' => return (field, text.get(..at) == Some("*"), text.get(at + 1..)),
            '\\' => field.extend(chars.next().map(|(_, escaped)| escaped)),
            c => field.push(c),
        }
    }
    (field, text == "*", None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_gives_the_password() {
        let file = "# comment\n\
                    other:5432:*:*:no\n\
                    db\\:1:5433:orders:ann:with\\:colon\\\\\n\
                    short:line\n\
                    *:*:\\*:ann:literal star\n\
                    *:*:*:ann:any: rest is cut\n";
        let lookup = |host, port, database, user| lookup(file, host, port, database, user);
        assert_eq!(
            lookup("db:1", 5433, "orders", "ann").as_deref(),
            Some("with:colon\\")
        );
        assert_eq!(lookup("db", 1, "*", "ann").as_deref(), Some("literal star"));
        assert_eq!(lookup("db", 1, "x", "ann").as_deref(), Some("any"));
        assert_eq!(lookup("other", 5432, "x", "bob").as_deref(), Some("no"));
        assert_eq!(lookup("other", 5433, "x", "bob"), None);
    }
}
