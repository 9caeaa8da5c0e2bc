//! The reason why a test fails, said once more behind all that it prints meanwhile: what shows a failed run mostly
//! shows its end.

use std::cell::RefCell;
use std::sync::Once;

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
