//! What clients have the database asked: a few questions at a time, none of which is waited for without a bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{REFRESH_INTERVAL, Tables};
use crate::lsn::Lsn;
use crate::postgres::{Connection, Error, Purpose};

#[derive(Debug, Default)]
pub(super) struct LastWritten {
    tried: Option<Instant>,
    answer: Option<Written>,
}

#[derive(Clone, Copy, Debug)]
struct Written {
    lsn: Lsn,
    asked: Instant,
}

/// Why the database did not answer a client's question.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It refused, or cannot be reached.
    #[error("the database cannot be asked")]
    Postgres(#[from] Error),
    /// It takes too long.
    #[error("the database does not answer")]
    Timeout,
}

/// Clients that resume beyond the head make us ask how far the server is at most this often.
const WRITTEN_INTERVAL: Duration = Duration::from_millis(100);
/// How long a client waits for the database's answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

impl Tables {
    /// Whether the server's log goes as far as `lsn`, on disk or not: if not, how far it goes. Asks the database, on another
    /// thread, unless the last answer says it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn has_inserted(&self, lsn: Lsn) -> Result<Result<(), Lsn>, AskError> {
        let written = tokio::time::timeout(ANSWER_TIMEOUT, self.inserted_since(Instant::now(), lsn)).await;
        let written = written.unwrap_or(Err(AskError::Timeout))?;
        Ok(if lsn <= written { Ok(()) } else { Err(written) })
    }

    /// How far the server's log goes: by an answer to a question asked after `since`, or by a recent one
    /// that goes beyond `lsn`.
    async fn inserted_since(&self, since: Instant, lsn: Lsn) -> Result<Lsn, AskError> {
        let mut last = self.written.lock().await;
        let known = last.answer.filter(|answer| {
            let recent = answer.asked.elapsed() < REFRESH_INTERVAL;
            lsn <= answer.lsn && recent || answer.asked >= since
        });
        if let Some(answer) = known {
            return Ok(answer.lsn);
        }
        if let Some(tried) = last.tried {
            tokio::time::sleep(WRITTEN_INTERVAL.saturating_sub(tried.elapsed())).await;
        }
        let asked = Instant::now();
        last.tried = Some(asked);
        let conninfo = self.conninfo.clone();
        let position = self.ask(move || {
            let mut connection = Connection::connect(&conninfo, Purpose::Query)?;
            let position = connection.inserted()?;
            connection.close();
            Ok(position)
        });
        let lsn = position.await?;
        last.answer = Some(Written { lsn, asked });
        Ok(lsn)
    }

    /// Whether the database's encoding has all characters of a text. Asks the database, on another thread, unless the text
    /// is ASCII or the database known to be UTF-8.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn can_hold(&self, text: &str) -> Result<bool, AskError> {
        if text.is_ascii() || self.is_utf8.get() == Some(&true) {
            return Ok(true);
        }
        let (conninfo, text) = (self.conninfo.clone(), text.to_owned());
        let (is_utf8, can_hold) = self
            .ask(move || {
                let mut connection = Connection::connect(&conninfo, Purpose::Query)?;
                let is_utf8 = connection.parameter("server_encoding") == Some("UTF8");
                let can_hold = is_utf8 || connection.can_hold(&text)?;
                connection.close();
                Ok((is_utf8, can_hold))
            })
            .await?;
        // The encoding of a database never changes, but another one may come under its name.
        if is_utf8 {
            let _known = self.is_utf8.set(true);
        }
        Ok(can_hold)
    }

    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, AskError> {
        let answer = async {
            let permit = Arc::clone(&self.questions).acquire_owned().await;
            let answered = tokio::task::spawn_blocking(move || {
                let answer = question();
                // Held by the thread, which goes on when nobody waits for it any more.
                drop(permit);
                answer
            });
            match answered.await {
                Ok(answer) => Ok(answer?),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime ends.
                Err(_) => Err(AskError::Timeout),
            }
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
        answer.unwrap_or(Err(AskError::Timeout))
    }
}
