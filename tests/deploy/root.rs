//! A root of Debian's, to install packages into.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{PROGRAM, left_out};
use crate::tools::{command, outcome, run};

/// The packages that every system of this version of Debian has, in a directory that is gone when it is dropped. Commands
/// run in it as root, or as a user of a namespace who looks like root in there.
pub(crate) struct Root {
    directory: TempDir,
}

/// The command line that runs the rest of it as root, with mounts of its own.
fn as_root() -> Vec<&'static str> {
    let by_user = ["--user", "--map-root-user", "--map-auto"];
    let is_root = rustix::process::geteuid().is_root();
    let by_user = by_user.into_iter().filter(|_| !is_root);
    ["unshare"]
        .into_iter()
        .chain(by_user)
        .chain(["--mount", "--"])
        .collect()
}

/// The version of Debian that the program was built on, and needs the libraries of.
fn codename() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let line = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(line.trim_matches('"').to_owned())
}

/// The packages as they were unpacked and configured, in an archive beside what cargo builds.
fn archive(codename: &str) -> Option<PathBuf> {
    let tools = Path::new(PROGRAM)
        .ancestors()
        .nth(2)
        .unwrap()
        .join("release-tools");
    let archive = tools.join(format!("{codename}.tar"));
    if archive.exists() {
        return Some(archive);
    }
    let mut make = command("mmdebstrap")?;
    fs::create_dir_all(&tools).unwrap();
    let unfinished = TempDir::new_in(&tools).unwrap();
    let here = unfinished.path().join("root.tar");
    let (succeeded, said) = outcome(make.args(["--quiet", "--variant=essential", codename]).arg(&here));
    if !succeeded {
        left_out("the Debian package in a root of its own", said.trim());
        return None;
    }
    fs::rename(here, &archive).unwrap();
    Some(archive)
}

impl Root {
    /// Says why there is none, if there is none.
    pub(crate) fn new() -> Option<Root> {
        let (may, said) = outcome(command("unshare")?.args(&as_root()[1..]).arg("true"));
        if !may {
            left_out("the Debian package in a root of its own", said.trim());
            return None;
        }
        let Some(codename) = codename() else {
            left_out(
                "the Debian package in a root of its own",
                "this system is not Debian",
            );
            return None;
        };
        let archive = archive(&codename)?;
        let root = Root {
            directory: TempDir::new().unwrap(),
        };
        // walcast runs there as a user of its own.
        fs::set_permissions(root.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        run(root
            .outside("tar")
            .args(["--extract", "--exclude=./dev/*", "--file"])
            .arg(archive)
            .arg("--directory")
            .arg(root.path("")));
        Some(root)
    }

    /// A path in it, seen from here.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.directory.path().join(inside)
    }

    /// A command of this machine, with root's rights on its files.
    pub(crate) fn outside(&self, program: &str) -> Command {
        let line = as_root();
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).arg(program);
        command
    }

    /// A command in it, with the devices and processes of this machine.
    pub(crate) fn inside<'a>(&self, line: impl IntoIterator<Item = &'a str>) -> Command {
        self.inside_as("0:0", line)
    }

    /// The same by another user, `UID:GID`.
    pub(crate) fn inside_as<'a>(&self, user: &str, line: impl IntoIterator<Item = &'a str>) -> Command {
        let enter = "mount --rbind /dev \"$0/dev\" && mount --rbind /proc \"$0/proc\" && exec chroot --userspec=\"$1\" \"$0\" \"${@:2}\"";
        let mut command = self.outside("bash");
        command
            .args(["-c", enter])
            .arg(self.directory.path())
            .arg(user)
            .args(line);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C");
        command
    }

    /// Writes a file in it.
    pub(crate) fn write(&self, path: &str, mode: &str, text: &str) {
        let new = TempDir::new().unwrap();
        let here = new.path().join("file");
        fs::write(&here, text).unwrap();
        run(self
            .outside("install")
            .args(["-D", "-m", mode])
            .arg(here)
            .arg(self.path(path)));
    }

    /// Reads a file in it; empty if there is none.
    pub(crate) fn read(&self, path: &str) -> String {
        let (is_there, text) = outcome(self.inside(["cat", path]).env("LC_ALL", "C"));
        if is_there { text } else { String::new() }
    }

    /// Every file in it but the package manager's own notes.
    pub(crate) fn files(&self) -> BTreeSet<String> {
        let find = "find / -xdev -path /proc -prune -o -path /dev -prune -o -print";
        let all = run(&mut self.inside(["sh", "-c", find]));
        let notes = ["/var/lib/dpkg", "/var/log", "/var/cache"];
        let of_package = |path: &&str| !notes.iter().any(|note| path.starts_with(note));
        all.lines().filter(of_package).map(str::to_owned).collect()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // Files of the namespace's other users are not ours to remove.
        let files = fs::read_dir(self.path(""))
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        let (removed, said) = outcome(self.outside("rm").arg("-rf").args(files.map(|file| file.path())));
        if !removed {
            eprintln!("{said}");
        }
    }
}
