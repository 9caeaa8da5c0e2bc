//! Questions to the database on behalf of clients: a few at a time, and each with a time limit.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{REFRESH_INTERVAL, Tables};
use crate::event::TableName;
use crate::lsn::Lsn;
use crate::postgres::{Catalog, Connection, Error, Purpose, Unpublished};
use crate::telemetry::traces::Span;
use crate::telemetry::{CLIENT_CHARS, Excerpt, in_this_span};
use crate::types::CollationQuestion;
use tracing::Instrument as _;

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

/// The reason why the database did not answer a client's question.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It refused, or cannot be reached.
    #[error("the database cannot be asked")]
    Postgres(#[from] Error),
    /// It takes too long.
    #[error("the database does not answer")]
    Timeout,
    /// Another caller asked the same question, and got this error while this one waited.
    #[error(transparent)]
    Shared(Arc<AskError>),
}

impl AskError {
    /// The SQLSTATE with which the database refused.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            AskError::Postgres(error) => error.sqlstate(),
            AskError::Shared(error) => error.sqlstate(),
            AskError::Timeout => None,
        }
    }
}

/// The questions about collations that have no answer.
#[derive(Debug, Default)]
pub(super) struct Learning {
    /// The last one that failed.
    failed: Option<FailedToLearn>,
    /// The questions about collations that the database did not have at that time.
    in_vain: Vec<(CollationQuestion, Instant)>,
}

#[derive(Debug)]
struct FailedToLearn {
    question: CollationQuestion,
    ended: Instant,
    error: Arc<AskError>,
}

impl Learning {
    /// True if the database recently answered that there is no such collation.
    fn is_in_vain(&self, question: &CollationQuestion, now: Instant) -> bool {
        let is_recent = |asked: Instant| now.saturating_duration_since(asked) < IN_VAIN_AGE;
        self.in_vain
            .iter()
            .any(|(known, asked)| known == question && is_recent(*asked))
    }

    fn note_in_vain(&mut self, question: &CollationQuestion, now: Instant) {
        let is_other = |known: &CollationQuestion, asked: Instant| {
            known != question && now.saturating_duration_since(asked) < IN_VAIN_AGE
        };
        self.in_vain.retain(|(known, asked)| is_other(known, *asked));
        self.in_vain.push((question.clone(), now));
    }
}

/// The time for which an answer that there is no such collation is kept. One may be created.
const IN_VAIN_AGE: Duration = Duration::from_secs(10);

/// The least time between two questions for the server's position because clients resume beyond the head.
const WRITTEN_INTERVAL: Duration = Duration::from_millis(100);
/// The name of the encoding in which most databases are.
const UTF8: &str = "UTF8";
/// The longest time that a client waits for the database's answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

impl Tables {
    /// Checks that the server's log goes as far as `lsn`, on disk or not; otherwise returns its end. Asks the database,
    /// on another thread, unless the last answer is enough.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn has_inserted(&self, lsn: Lsn) -> Result<Result<(), Lsn>, AskError> {
        let written = tokio::time::timeout(ANSWER_TIMEOUT, self.inserted_since(Instant::now(), lsn)).await;
        let written = written.unwrap_or(Err(AskError::Timeout))?;
        Ok(if lsn <= written { Ok(()) } else { Err(written) })
    }

    /// The end of the server's log, from an answer to a question that was asked after `since`, or a recent one that
    /// goes beyond `lsn`.
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

    /// True if the database's encoding has all characters of a text. Asks the database, on another thread, unless the
    /// text is ASCII or the database known to be UTF-8.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn can_hold(&self, text: &str) -> Result<bool, AskError> {
        if text.is_ascii() || self.is_utf8.load(Ordering::Acquire) {
            return Ok(true);
        }
        let conninfo = self.conninfo.clone();
        let text = text.to_owned();
        let (is_utf8, can_hold) = self
            .ask(move || {
                let mut connection = Connection::connect(&conninfo, Purpose::Query)?;
                let is_utf8 = connection.parameter("server_encoding") == Some("UTF8");
                let can_hold = is_utf8 || connection.can_hold(&text)?;
                connection.close();
                Ok((is_utf8, can_hold))
            })
            .await?;
        if is_utf8 {
            self.is_utf8.store(true, Ordering::Release);
        }
        Ok(can_hold)
    }

    /// Checks that `COLLATE "C"`, the order of the bytes in the database's encoding, is that of UTF-8's; otherwise
    /// returns the encoding's name. Asks the database, on another thread, unless it is known to be UTF-8.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn orders_bytes_as_utf8(&self) -> Result<Result<(), String>, AskError> {
        let encoding = self.encoding().await?;
        Ok(match encoding.as_str() {
            // A byte of LATIN1 is its code point; SQL_ASCII passes bytes on as they are.
            UTF8 | "LATIN1" | "SQL_ASCII" => Ok(()),
            _ => Err(encoding),
        })
    }

    /// Checks that the database's encoding is UTF-8; otherwise returns its name. Asks the database, on another thread,
    /// unless it is known to be UTF-8.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn is_in_utf8(&self) -> Result<Result<(), String>, AskError> {
        let encoding = self.encoding().await?;
        Ok(if encoding == UTF8 { Ok(()) } else { Err(encoding) })
    }

    /// The name of the database's encoding.
    async fn encoding(&self) -> Result<String, AskError> {
        if self.is_utf8.load(Ordering::Acquire) {
            return Ok(UTF8.to_owned());
        }
        let conninfo = self.conninfo.clone();
        let encoding = self
            .ask(move || {
                let connection = Connection::connect(&conninfo, Purpose::Query)?;
                let encoding = connection
                    .parameter("server_encoding")
                    .unwrap_or("unknown")
                    .to_owned();
                connection.close();
                Ok(encoding)
            })
            .await?;
        if encoding == UTF8 {
            self.is_utf8.store(true, Ordering::Release);
        }
        Ok(encoding)
    }

    /// Asks the database, on another thread, about collations that a predicate needs, unless that was asked in the
    /// meantime. Callers with the same question wait for the same answer. Answers are kept; that there is no such
    /// collation only for a while.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn learn(&self, question: &CollationQuestion) -> Result<(), AskError> {
        let came = Instant::now();
        let learnt = async {
            let mut learning = self.learning.lock().await;
            if question.is_answered() || learning.is_in_vain(question, came) {
                return Ok(());
            }
            if let Some(failed) = learning
                .failed
                .as_ref()
                .filter(|failed| failed.ended >= came && failed.question == *question)
            {
                return Err(AskError::Shared(Arc::clone(&failed.error)));
            }
            let conninfo = self.conninfo.clone();
            let learner = Arc::clone(&self.learner);
            let asking = question.clone();
            let asked = self.ask(move || {
                // A question whose client has gone may still be under way.
                let _turn = learner.lock();
                if asking.is_answered() {
                    Ok(())
                } else {
                    Catalog::new(conninfo).learn(&asking)
                }
            });
            if let Err(error) = asked.await {
                let error = Arc::new(error);
                learning.failed = Some(FailedToLearn {
                    question: question.clone(),
                    ended: Instant::now(),
                    error: Arc::clone(&error),
                });
                return Err(AskError::Shared(error));
            }
            if !question.is_answered() {
                learning.note_in_vain(question, Instant::now());
            }
            Ok(())
        };
        let learnt = tokio::time::timeout(ANSWER_TIMEOUT, learnt).await;
        learnt.unwrap_or(Err(AskError::Timeout))
    }

    /// Logs for the operator, now and then, why a table that a client asked for is not published. The client is told of
    /// published tables only, and does not wait for this.
    pub(super) fn explain(self: &Arc<Self>, wanted: &TableName) {
        let mut explained = self.explained.lock();
        if explained.is_some_and(|at| at.elapsed() < REFRESH_INTERVAL) {
            return;
        }
        *explained = Some(Instant::now());
        let tables = Arc::clone(self);
        let wanted = wanted.clone();
        let explaining = async move {
            let asker = Arc::clone(&tables);
            let name = wanted.clone();
            let why = tables.ask(move || {
                asker
                    .asked
                    .lock()
                    .catalog
                    .why_unpublished(&asker.publications, &name)
            });
            match why.await {
                Ok(Unpublished { what, cure, .. }) => {
                    let cure = cure.map(|cure| cure.replace('\n', " "));
                    let table = wanted.to_string();
                    let what = Excerpt::of(&what, 2 * CLIENT_CHARS);
                    tracing::info!(
                        event = "unpublished_table_requested", table = %Excerpt::new(&table), cure,
                        "a client asked for a table that is not published: {what}"
                    );
                }
                Err(error) => tracing::debug!(%error, "it was not asked why a table is not published"),
            }
        };
        tokio::spawn(explaining.in_current_span());
    }

    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, AskError> {
        let answer = async {
            let permit = Arc::clone(&self.questions).acquire_owned().await;
            let answered = tokio::task::spawn_blocking(in_this_span(move || {
                let answer = Span::here("catalog question").enter(question);
                // Held by the thread, which goes on even if nobody waits for it.
                drop(permit);
                answer
            }));
            match answered.await {
                Ok(answer) => Ok(answer?),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime is shutting down.
                Err(_) => Err(AskError::Timeout),
            }
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
        answer.unwrap_or(Err(AskError::Timeout))
    }
}
