//! [`Answer`]: an answer that is a connection's last, by the HTTP library or as text where that is not asked any more.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// An answer that is a connection's last.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The seconds after which to try again.
    pub(super) retry_after: Option<&'static str>,
    /// The body.
    pub(super) words: &'static str,
}

/// The answer to a handshake that took too long.
pub(super) static TOO_SLOW: Answer = Answer {
    status: StatusCode::REQUEST_TIMEOUT,
    retry_after: None,
    words: "the handshake took too long: try again.\n",
};
/// The answer to a connection for which there is no place.
pub(super) static FULL: Answer = Answer {
    status: StatusCode::SERVICE_UNAVAILABLE,
    retry_after: Some("5"),
    words: "too many connections: try again later\n",
};
/// The answer to a connection whose address has as many as it may have.
pub(super) static CROWDED: Answer = Answer {
    status: StatusCode::TOO_MANY_REQUESTS,
    retry_after: Some("10"),
    words: "too many connections from your address: close some, or try again later\n",
};
/// The answer to a connection whose address makes them too fast.
pub(super) static HURRIED: Answer = Answer {
    status: StatusCode::TOO_MANY_REQUESTS,
    retry_after: Some("5"),
    words: "new connections come from your address too fast: try again later\n",
};
/// The answer to a connection that does not begin TLS where it has to.
pub(super) static NEEDS_TLS: Answer = Answer {
    status: StatusCode::BAD_REQUEST,
    retry_after: None,
    words: "this port speaks TLS: connect by wss:// or https://\n",
};

impl Answer {
    /// The whole answer as it is sent (RFC 9112, section 4).
    pub(super) fn to_text(&self) -> String {
        let Answer { status, words, .. } = self;
        let retry = self
            .retry_after
            .map(|seconds| format!("retry-after: {seconds}\r\n"));
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n{}content-length: {}\
             \r\n\r\n{words}",
            retry.unwrap_or_default(),
            words.len()
        )
    }
}

impl IntoResponse for &'static Answer {
    fn into_response(self) -> Response {
        let retry = self.retry_after.map(|seconds| [(header::RETRY_AFTER, seconds)]);
        (self.status, retry, self.words).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_says_how_long_its_words_are() {
        for answer in [&TOO_SLOW, &FULL, &CROWDED, &HURRIED, &NEEDS_TLS] {
            let answer = answer.to_text();
            let (head, words) = answer.split_once("\r\n\r\n").unwrap();
            let length = head.rsplit_once("content-length: ").unwrap().1;
            assert_eq!(length.parse(), Ok(words.len()), "{answer}");
        }
    }

    #[test]
    fn an_answer_is_written_as_http_has_it() {
        assert_eq!(
            FULL.to_text(),
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\
             retry-after: 5\r\ncontent-length: 38\r\n\r\ntoo many connections: try again later\n"
        );
    }
}
