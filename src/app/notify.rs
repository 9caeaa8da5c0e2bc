//! [`Notifier`]: tells the service manager what `serve` does, by the protocol of sd_notify(3).
//!
//! systemd names a datagram socket in `NOTIFY_SOCKET` where the unit has `Type=notify`, and in `WATCHDOG_USEC` how often
//! it wants to hear of the process where the unit has `WatchdogSec=`. Without them nothing is sent.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The service manager, if there is one that wants to be told. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Notifier(Option<Arc<Manager>>);

#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// The time without a word after which it ends the process.
    watchdog: Option<Duration>,
    /// True once it was told that clients are answered.
    is_ready: AtomicBool,
}

impl Notifier {
    /// The one that the environment names. A socket that cannot be used is logged, and nobody is told then.
    pub fn of_environment() -> Notifier {
        let variable = |name: &str| std::env::var_os(name);
        Notifier::named(variable).unwrap_or_else(|error| {
            tracing::warn!(
                event = "service_manager_unreachable", %error,
                "the service manager cannot be told of the state (NOTIFY_SOCKET)"
            );
            Notifier::default()
        })
    }

    /// # Errors
    /// The socket's name is none, or the system has no socket left.
    fn named(variable: impl Fn(&str) -> Option<OsString>) -> io::Result<Notifier> {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Notifier::default());
        };
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        // A process that was started by the unit's own does not answer for it.
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|&usec| is_ours && usec > 0);
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read holds up nobody.
        socket.set_nonblocking(true)?;
        Ok(Notifier(Some(Arc::new(Manager {
            socket,
            address: address(&name)?,
            watchdog: watchdog.map(Duration::from_micros),
            is_ready: AtomicBool::new(false),
        }))))
    }

    /// Clients are answered from here on.
    pub fn ready(&self) {
        if let Some(manager) = &self.0 {
            // No memory depends on it.
            manager.is_ready.store(true, Ordering::Relaxed);
        }
        self.tell("READY=1");
    }

    /// The configuration file is read again. [`Notifier::reloaded`] says that it has been; certificates and keys follow
    /// within moments. Says nothing before [`Notifier::ready`].
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let usec = now
            .tv_sec
            .saturating_mul(1_000_000)
            .saturating_add(now.tv_nsec / 1_000);
        self.tell_if_ready(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// The configuration file was read again.
    pub fn reloaded(&self) {
        self.tell_if_ready("READY=1");
    }

    /// The process is about to end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Tells the manager twice in its time that the process still works, until `stop`. It is told from a task, so that
    /// it hears nothing when the threads that serve clients do not come to their tasks any more.
    pub async fn feed_watchdog(self, stop: CancellationToken) {
        let watchdog = self.0.as_ref().and_then(|manager| manager.watchdog);
        let Some(watchdog) = watchdog else { return };
        let mut ticks = tokio::time::interval(watchdog / 2);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.tell("WATCHDOG=1"),
                () = stop.cancelled() => return,
            }
        }
    }

    /// Tells the manager the state in words, in one line, if it is another one at the next `interval`, until `stop`.
    pub async fn tell_status(self, status: impl Fn() -> String, interval: Duration, stop: CancellationToken) {
        if self.0.is_none() {
            return;
        }
        let mut told = String::new();
        let mut ticks = tokio::time::interval(interval);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            // A line feed would begin another assignment.
            let now = status().replace(char::is_control, " ");
            if now != told {
                self.tell(&format!("STATUS={now}"));
                told = now;
            }
        }
    }

    fn tell_if_ready(&self, state: &str) {
        let manager = self.0.as_ref();
        if manager.is_some_and(|manager| manager.is_ready.load(Ordering::Relaxed)) {
            self.tell(state);
        }
    }

    fn tell(&self, state: &str) {
        let Some(manager) = &self.0 else { return };
        if let Err(error) = manager.socket.send_to_addr(state.as_bytes(), &manager.address) {
            tracing::debug!(%error, state, "the service manager was not told");
        }
    }
}

/// The address of a name: a path, or on Linux `@` and a name in the abstract namespace.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::ffi::OsStrExt;
        if let Some(name) = name.as_bytes().strip_prefix(b"@") {
            return SocketAddr::from_abstract_name(name);
        }
    }
    SocketAddr::from_pathname(Path::new(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager's socket, and a notifier that was told of it with these further variables.
    fn told(name: &OsStr, variables: &[(&str, &str)]) -> Notifier {
        let variable = |wanted: &str| match wanted {
            "NOTIFY_SOCKET" => Some(name.to_owned()),
            _ => variables
                .iter()
                .find_map(|(name, value)| (*name == wanted).then(|| OsString::from(value))),
        };
        Notifier::named(variable).unwrap()
    }

    fn heard(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(buffer.get(..length).unwrap()).into_owned()
    }

    #[test]
    fn a_socket_by_its_path_hears_of_each_state() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = told(path.as_os_str(), &[]);
        notifier.ready();
        assert_eq!(heard(&manager), "READY=1");
        notifier.reloading();
        let reloading = heard(&manager);
        let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(usec.parse::<u64>().unwrap() > 0);
        notifier.stopping();
        assert_eq!(heard(&manager), "STOPPING=1");
    }

    #[tokio::test]
    async fn a_state_is_told_once_in_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let stop = CancellationToken::new();
        let states = std::sync::Mutex::new(vec!["ready", "ready", "not ready: no\nserver"]);
        let status = {
            let stop = stop.clone();
            move || {
                let state = states.lock().unwrap().pop();
                state.unwrap_or_else(|| {
                    stop.cancel();
                    "ready"
                })
            }
        };
        let status = move || status().to_owned();
        told(path.as_os_str(), &[])
            .tell_status(status, Duration::from_millis(1), stop)
            .await;
        assert_eq!(heard(&manager), "STATUS=not ready: no server");
        assert_eq!(heard(&manager), "STATUS=ready");
        let mut buffer = [0; 8];
        assert!(manager.recv(&mut buffer).is_err(), "it was told again");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_socket_hears_too() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("walcast-notify-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        told(OsStr::new(&format!("@{name}")), &[]).ready();
        assert_eq!(heard(&manager), "READY=1");
    }

    #[tokio::test]
    async fn the_watchdog_is_fed_until_the_end_and_only_for_this_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let own = std::process::id().to_string();
        let fed = told(
            path.as_os_str(),
            &[("WATCHDOG_USEC", "2000"), ("WATCHDOG_PID", &own)],
        );
        let stop = CancellationToken::new();
        let feeding = tokio::spawn(fed.feed_watchdog(stop.clone()));
        let twice = tokio::task::spawn_blocking(move || [heard(&manager), heard(&manager)]);
        assert_eq!(twice.await.unwrap(), ["WATCHDOG=1", "WATCHDOG=1"]);
        stop.cancel();
        feeding.await.unwrap();
        // It returns at once.
        told(
            path.as_os_str(),
            &[("WATCHDOG_USEC", "2000"), ("WATCHDOG_PID", "1")],
        )
        .feed_watchdog(CancellationToken::new())
        .await;
    }

    #[test]
    fn without_a_manager_nothing_is_sent() {
        let notifier = Notifier::named(|_| None).unwrap();
        notifier.ready();
        assert!(notifier.0.is_none());
    }
}
