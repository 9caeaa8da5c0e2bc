//! [`exchange`]: one HTTP/1.1 request over a connection, and its answer within bounds.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// The largest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The reason why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The answer is not HTTP.
    #[error("the answer cannot be read: {0}")]
    Http(hyper::Error),
    /// The body ended early.
    #[error("the answer ended early: {0}")]
    Body(axum::Error),
    /// The body is too large.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

/// Sends a request and returns the answer's body, if `accept` takes the status.
///
/// # Errors
/// Those of `accept`, and [`ExchangeError`]; a body of more than `max_bytes` is one.
pub async fn exchange<E: From<ExchangeError>>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    request: Request<Body>,
    max_bytes: usize,
    accept: impl FnOnce(StatusCode) -> Result<(), E>,
) -> Result<Bytes, E> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES);
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ExchangeError::Http)?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(ExchangeError::Http)?;
        accept(response.status())?;
        let mut pieces = Body::new(response.into_body()).into_data_stream();
        let mut body = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(ExchangeError::Body)?;
            if body.len() + piece.len() > max_bytes {
                return Err(ExchangeError::TooLarge(max_bytes).into());
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = connection => match ended {
            // The answer may be complete by then.
            Ok(()) => answer.await,
            Err(error) => Err(ExchangeError::Http(error).into()),
        },
    }
}
