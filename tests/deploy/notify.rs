//! Messages of `serve` to the service manager.

use std::collections::VecDeque;
use std::os::unix::net::UnixDatagram;

use tempfile::TempDir;

use crate::support::{DEADLINE, Database, Setup};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t";

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
    heard: VecDeque<String>,
}

impl Manager {
    fn new() -> Manager {
        let directory = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Manager {
            socket,
            directory,
            heard: VecDeque::new(),
        }
    }

    fn starts(&self, setup: Setup) -> Setup {
        let path = self.directory.path().join("notify");
        setup
            .variable("NOTIFY_SOCKET", path.to_str().unwrap())
            .variable("WATCHDOG_USEC", "200000")
    }

    /// The next state that begins like this; what comes before it is dropped.
    fn hears(&mut self, beginning: &str) -> String {
        loop {
            if let Some(state) = self.heard.pop_front() {
                if state.starts_with(beginning) {
                    return state;
                }
                continue;
            }
            let mut buffer = [0; 512];
            let length = self
                .socket
                .recv(&mut buffer)
                .unwrap_or_else(|e| panic!("no {beginning}: {e}"));
            self.heard
                .push_back(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    }
}

#[test]
fn the_service_manager_hears_of_start_work_reload_and_end() {
    let database = Database::new(SCHEMA);
    let mut manager = Manager::new();
    let walcast = manager.starts(Setup::new(&database)).start();
    assert_eq!(manager.hears("READY"), "READY=1");
    assert_eq!(manager.hears("WATCHDOG"), "WATCHDOG=1");
    walcast.hang_up();
    assert!(
        manager
            .hears("RELOADING")
            .starts_with("RELOADING=1\nMONOTONIC_USEC=")
    );
    manager.hears("READY=1");
    manager.hears("WATCHDOG=1");
    assert!(walcast.stop().success());
    manager.hears("STOPPING=1");
}

#[test]
fn a_server_that_waits_for_its_database_has_started_and_works() {
    let database = Database::on_its_own_server(SCHEMA, &[]);
    let setup = Setup::new(&database);
    let mut manager = Manager::new();
    let setup = manager.starts(setup);
    database.server().stop(walcast::cluster::Shutdown::Fast).unwrap();
    let walcast = setup.start_unready();
    manager.hears("READY=1");
    manager.hears("WATCHDOG=1");
    assert!(walcast.ready().is_err());
    assert!(walcast.stop().success());
    manager.hears("STOPPING=1");
}
