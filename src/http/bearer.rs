//! [`bearer`]: the token of a request. Pure.

use axum::http::{HeaderMap, header};

use crate::protocol::Token;

/// The `Authorization` header is not a bearer token.
#[derive(Debug)]
pub(super) struct NoBearer;

/// The token of `Authorization: Bearer` (RFC 6750, section 2.1), if there is such a header.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<Token>, NoBearer> {
    let mut values = headers.get_all(header::AUTHORIZATION).into_iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().map_err(|_| NoBearer)?,
        (Some(_), Some(_)) => return Err(NoBearer),
    };
    let (scheme, token) = value.split_once(' ').ok_or(NoBearer)?;
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(NoBearer);
    }
    Ok(Some(Token::new(token.trim())))
}
