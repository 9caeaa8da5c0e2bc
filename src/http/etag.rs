//! [`entity_tag`]: names of files by their contents, so that browsers ask for each once (RFC 9110, section 8.8.3). Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::http::{HeaderMap, header};

/// The entity tag of a file with these contents.
pub(crate) fn entity_tag(contents: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    contents.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

/// True if the requester has what the tag stands for, by `If-None-Match` (RFC 9110, section 13.1.2).
pub(crate) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let fields = headers.get_all(header::IF_NONE_MATCH).into_iter();
    let known = fields.filter_map(|field| field.to_str().ok());
    let mut known = known.flat_map(|field| field.split(',')).map(str::trim);
    known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_alone_in_a_list_and_weak() {
        let knows = |field: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, field.parse().unwrap());
            is_known(&headers, "\"a\"")
        };
        for field in ["\"a\"", "\"b\", \"a\"", "W/\"a\"", "*"] {
            assert!(knows(field), "{field}");
        }
        assert!(!knows("\"b\"") && !knows("a") && !knows(""));
    }
}
