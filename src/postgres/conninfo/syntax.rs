//! The two spellings of a connection string, both read to pairs of parameter and value. Pure.
//!
//! Documentation: libpq, "Connection Strings". Lists of hosts and ports stay lists in one value, joined by commas.

use percent_encoding::percent_decode_str;

use super::ConnInfoError;

/// The parameters as written, in order; a later one overrides an earlier one.
pub(super) type Pairs = Vec<(String, String)>;

/// Reads either spelling.
pub(super) fn parse(text: &str) -> Result<Pairs, ConnInfoError> {
    let url = ["postgresql://", "postgres://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    match url {
        Some(rest) => parse_url(rest),
        None => parse_keywords(text),
    }
}

fn parse_url(url: &str) -> Result<Pairs, ConnInfoError> {
    let mut pairs = Pairs::new();
    let (user_info, rest) = split_user_info(url);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
    if user_info.is_empty() && database.contains('@') {
        return Err(syntax("the database's name has an @: write it as %40".into()));
    }
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    for (name, value) in [("user", user), ("password", password), ("dbname", database)] {
        if !value.is_empty() {
            pairs.push((name.into(), decode(value)?));
        }
    }
    if !hosts.is_empty() {
        let (hosts, ports) = parse_hosts(hosts)?;
        pairs.push(("host".into(), hosts));
        pairs.push(("port".into(), ports));
    }
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        // What stands there may belong to a password: it is not repeated.
        let (name, value) = parameter
            .split_once('=')
            .ok_or_else(|| syntax("a parameter behind the ? of the URL has no value".into()))?;
        pairs.push(match (decode(name)?, decode(value)?) {
            // JDBC's spelling, which libpq knows too.
            (name, value) if name == "ssl" && value == "true" => ("sslmode".into(), "require".into()),
            pair => pair,
        });
    }
    Ok(pairs)
}

/// Splits a URL behind its user and password, which end with an `@` before the first slash. As for libpq, a `?` may stand
/// in them.
fn split_user_info(url: &str) -> (&str, &str) {
    let head = url.split('/').next().unwrap_or(url);
    let authority = head.split('?').next().unwrap_or(head);
    let end = authority.rfind('@').or_else(|| head.find('@'));
    end.and_then(|end| Some((url.get(..end)?, url.get(end + 1..)?)))
        .unwrap_or(("", url))
}

/// True if a URL may have its user and password where other parts are expected, since a character of these is not encoded:
/// it has an `@`, and not before the first slash.
pub(super) fn may_hide_a_password(text: &str) -> bool {
    let mut schemes = ["postgresql://", "postgres://"].iter();
    schemes
        .find_map(|scheme| text.strip_prefix(scheme))
        .is_some_and(|url| split_user_info(url).0.is_empty() && url.contains('@'))
}

/// Splits `h1:5432,[::1],%2Ftmp:5433` into a list of hosts and a list of ports.
fn parse_hosts(hosts: &str) -> Result<(String, String), ConnInfoError> {
    let mut names = Vec::new();
    let mut ports = Vec::new();
    for host in hosts.split(',') {
        let (name, port) = match host.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest
                    .split_once(']')
                    .ok_or_else(|| syntax(format!("missing ] after {host:?}")))?;
                let port = port.strip_prefix(':').or(port.is_empty().then_some(""));
                let port =
                    port.ok_or_else(|| syntax(format!("expected a colon and a port after ] in {host:?}")))?;
                (address, port)
            }
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(decode(name)?);
        ports.push(decode(port)?);
    }
    Ok((names.join(","), ports.join(",")))
}

fn decode(text: &str) -> Result<String, ConnInfoError> {
    let mut escapes = text.split('%').skip(1);
    let valid = escapes.all(|escape| {
        let digits = escape.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit) && digits != b"00")
    });
    let decoded = percent_decode_str(text).decode_utf8().ok().filter(|_| valid);
    // The text may be a password: it is not repeated.
    let problem = || syntax("a part is not percent-encoded UTF-8: write % as %25, @ as %40, / as %2F".into());
    decoded.map(String::from).ok_or_else(problem)
}

/// Reads `name = value name = 'quoted \' value'`.
fn parse_keywords(text: &str) -> Result<Pairs, ConnInfoError> {
    let mut pairs = Pairs::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(|| {
            syntax("expected postgresql://… or name=value pairs, but an = is missing".into())
        })?;
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(syntax("a name=value pair lacks its name or its =".into()));
        }
        let (value, after) = parse_value(after.trim_start(), name)?;
        pairs.push((name.into(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// Reads one value, quoted or not, and returns it with what follows.
fn parse_value<'a>(text: &'a str, name: &str) -> Result<(String, &'a str), ConnInfoError> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            c if c.is_whitespace() && !quoted => return Ok((value, text.get(at..).unwrap_or_default())),
            c => value.push(c),
        }
    }
    if quoted {
        return Err(syntax(format!("the quoted value of {name} does not end")));
    }
    Ok((value, ""))
}

fn syntax(problem: String) -> ConnInfoError {
    ConnInfoError::Syntax(problem)
}
