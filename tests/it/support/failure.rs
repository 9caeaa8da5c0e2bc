//! The reason why a test fails, said once more behind all that it prints meanwhile: what shows a failed run mostly
//! shows its end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

thread_local! {
    static REASON: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Has the reason of each panic remembered from now on.
pub fn remember() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let payload = panic.payload();
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            let message = text.unwrap_or("a panic without words");
            let place = panic
                .location()
                .map_or_else(String::new, |place| format!("{place}: "));
            // The first one: others may come of it.
            REASON.with_borrow_mut(|reason| {
                reason.get_or_insert_with(|| format!("{place}{message}"));
            });
            before(panic);
        }));
    });
}

/// The tests that are running, by number, each with the time by which it has to be done.
static RUNNING: Mutex<BTreeMap<usize, (String, Instant)>> = Mutex::new(BTreeMap::new());

/// Names a test as running until it is dropped. A test that hangs ends the whole run and is named: without that, nobody
/// is told how the others ended.
pub struct Running(usize);

impl Running {
    /// Names the test of this thread.
    pub fn begins() -> Running {
        static WATCH: Once = Once::new();
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        WATCH.call_once(|| drop(thread::spawn(watch)));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = thread::current().name().unwrap_or("a test's thread").to_owned();
        RUNNING.lock().insert(number, (name, Instant::now() + limit()));
        Running(number)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.lock().remove(&self.0);
    }
}

/// The time that one test may take; longer where it was asked to look for longer.
fn limit() -> Duration {
    let asked = ["WALCAST_LEAKS", "WALCAST_TORTURE"].map(|name| {
        let seconds = std::env::var(name).ok();
        seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
    });
    Duration::from_secs(600 + asked.iter().sum::<u64>())
}

fn watch() {
    loop {
        thread::sleep(Duration::from_secs(1));
        let now = Instant::now();
        let running = RUNNING.lock();
        let late = running.values().filter(|(_, until)| *until < now);
        let late: Vec<&str> = late.map(|(name, _)| name.as_str()).collect();
        if !late.is_empty() {
            // Not by a macro, whose output is kept for the test that began this thread.
            drop(writeln!(
                std::io::stderr(),
                "these tests hang: {}",
                late.join(", ")
            ));
            std::process::exit(101);
        }
    }
}

/// The reason of this thread's panic, if it was remembered.
pub fn reason() -> Option<String> {
    REASON.with_borrow(Clone::clone)
}

/// The last lines of a log.
pub fn last_lines(log: &str) -> String {
    const LINES: usize = 40;
    let left_out = log.lines().count().saturating_sub(LINES);
    let mut last = match left_out {
        0 => String::new(),
        _ => format!("({left_out} lines before)\n"),
    };
    for line in log.lines().skip(left_out) {
        last.push_str(line);
        last.push('\n');
    }
    last
}
