//! [`wait`]: a future's end, for threads that may block.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::{Condvar, Mutex};

/// Wakes a thread. It has a condition of its own: a thread that reads a log is unparked for other reasons, too.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    rings: Condvar,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rung.lock() = true;
        self.rings.notify_one();
    }
}

/// Runs a future on this thread to its end. One that is ready at once, as what is read from memory or a local file,
/// costs nothing but a call.
pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return value;
    }
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let mut rung = bell.rung.lock();
        while !*rung {
            bell.rings.wait(&mut rung);
        }
        *rung = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_future_that_is_woken_by_another_thread_comes_to_its_end() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let later = std::thread::spawn(move || sender.send(7));
        assert_eq!(wait(receiver), Ok(7));
        later.join().unwrap().unwrap();
        assert_eq!(wait(async { 1 }), 1);
    }
}
