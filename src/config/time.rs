//! Times, as the file and the command line have them.

use std::time::Duration;

/// The longest time: far beyond any use, and safe to add to any clock.
const LONGEST: Duration = Duration::from_secs(36_500 * 24 * 3600);

/// A time that is not zero.
///
/// # Errors
/// It is none; the text says how one is written.
pub fn time(text: &str) -> Result<Duration, String> {
    match time_or_none(text)? {
        Duration::ZERO => Err("write a time above zero, as in 500ms, 5s, 10min or 7days".into()),
        time => Ok(time),
    }
}

/// A time, zero included.
///
/// # Errors
/// It is none; the text says how one is written.
pub fn time_or_none(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|_| "write a time as in 500ms, 5s, 10min or 7days")?;
    if time > LONGEST {
        return Err("write a time of at most 100 years, as in 5s, 10min or 7days".into());
    }
    Ok(time)
}
