//! Anonymous network namespaces: one lives as long as its handle or a process inside, so nothing is ever left behind,
//! not even by `kill -9`. Needs CAP_SYS_ADMIN: root, or the root of a user namespace (`unshare -Ur`).

use crate::sys;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// A network namespace of our own, loopback up.
#[derive(Debug)]
pub struct Namespace {
    handle: File,
    /// The user namespace that it belongs to, where that is not ours.
    user: Option<File>,
}

impl Namespace {
    /// Makes an empty namespace.
    ///
    /// # Errors
    /// `unshare(2)` is refused without CAP_SYS_ADMIN; `ip` is missing.
    pub fn new() -> io::Result<Self> {
        // A namespace belongs to a thread: a helper makes it and hands out the handle, ours stays where it is.
        let handle = on_helper_thread(|| {
            // SAFETY: touches no memory; it changes the namespace of the helper thread, which ends right after.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                let e = io::Error::last_os_error();
                return Err(io::Error::new(e.kind(), format!("unshare(CLONE_NEWNET): {e}")));
            }
            File::open("/proc/thread-self/ns/net")
        })?;
        let namespace = Self { handle, user: None };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Makes an empty namespace that belongs to a user namespace of its own, whose root may do less than we: what
    /// `unshare -Urn` gives to a normal user.
    ///
    /// # Errors
    /// User namespaces are forbidden here; `unshare` or `ip` is missing.
    pub fn rootless() -> io::Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["-Urn", "sh", "-c", "echo there; exec cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = sys::die_with_parent(&mut command).spawn()?;
        // It lives until both handles are open: its standard input ends with `holder`.
        let mut line = String::new();
        let told = holder.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        let handle = |name| File::open(format!("/proc/{}/ns/{name}", holder.id()));
        let handles = handle("net").and_then(|net| Ok((net, handle("user")?)));
        drop(holder.stdin.take());
        holder.wait()?;
        if told.is_none() || line.trim() != "there" {
            return Err(io::Error::other("unshare -Urn: user namespaces are not allowed here"));
        }
        let (handle, user) = handles?;
        let namespace = Self { handle, user: Some(user) };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// A command that will run inside, and die with the thread that spawns it.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let fd = self.handle.as_raw_fd();
        let user = self.user.as_ref().map(AsRawFd::as_raw_fd);
        // SAFETY: setns is async-signal-safe; the descriptors are ours and, being CLOEXEC, still open in the child here.
        unsafe {
            command.pre_exec(move || {
                let entered = libc::setns(fd, libc::CLONE_NEWNET) == 0
                    && user.is_none_or(|user| libc::setns(user, libc::CLONE_NEWUSER) == 0);
                if entered { Ok(()) } else { Err(io::Error::last_os_error()) }
            });
        }
        sys::die_with_parent(&mut command);
        command
    }

    /// Lends the namespace to a command that is to enter it by itself. Returns the path by which that finds it.
    pub fn lend_to(&self, command: &mut Command) -> String {
        let fd = self.handle.as_raw_fd();
        // SAFETY: fcntl is async-signal-safe; the descriptor is ours and still open in the child, whose copy alone it
        // changes.
        unsafe {
            command.pre_exec(move || {
                if libc::fcntl(fd, libc::F_SETFD, 0) == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
            });
        }
        format!("/proc/self/fd/{fd}")
    }

    /// Whether there is a default route (IPv4) inside.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn has_default_route(&self) -> io::Result<bool> {
        let routes = self.inside(|| std::fs::read_to_string("/proc/thread-self/net/route"))?;
        Ok(routes.lines().any(|line| line.split_whitespace().nth(1) == Some("00000000")))
    }

    /// Runs `ip` with these words inside.
    ///
    /// # Errors
    /// `ip` is missing or refuses.
    pub fn ip(&self, words: &str) -> io::Result<()> {
        let mut command = self.command("ip");
        command.args(words.split_whitespace());
        match sys::run(&mut command, std::time::Duration::from_secs(10)) {
            Ok(_) => Ok(()),
            Err(e) => Err(io::Error::new(e.kind(), format!("ip {words}: {e}"))),
        }
    }

    /// Connects two namespaces by a veth pair; each side is given as (interface, address with prefix length).
    ///
    /// # Errors
    /// As [`Namespace::ip`].
    pub fn veth(&self, ours: (&str, &str), other: &Self, theirs: (&str, &str), mtu: u32) -> io::Result<()> {
        let peer = format!("/proc/{}/fd/{}", std::process::id(), other.handle.as_raw_fd());
        self.ip(&format!("link add {} mtu {mtu} type veth peer name {} mtu {mtu} netns {peer}", ours.0, theirs.0))?;
        for (namespace, (name, address)) in [(self, ours), (other, theirs)] {
            namespace.ip(&format!("address add {address} dev {name}"))?;
            namespace.ip(&format!("link set {name} up"))?;
        }
        Ok(())
    }

    /// Has a device inside neither cut nor join segments: no TSO, GSO or GRO.
    ///
    /// # Errors
    /// No such device, or it refuses.
    pub fn without_segmentation(&self, device: &str) -> io::Result<()> {
        self.inside(|| sys::without_segmentation(device))
    }

    /// Reads a sysctl below `net.`, by its dotted name.
    ///
    /// # Errors
    /// No such sysctl.
    pub fn sysctl(&self, name: &str) -> io::Result<String> {
        self.inside(|| Ok(std::fs::read_to_string(sysctl_path(name))?.trim().to_string()))
    }

    /// Writes a sysctl below `net.`, by its dotted name.
    ///
    /// # Errors
    /// No such sysctl, a value it refuses, or no permission.
    pub fn set_sysctl(&self, name: &str, value: &str) -> io::Result<()> {
        self.inside(|| {
            std::fs::write(sysctl_path(name), value)
                .map_err(|e| io::Error::new(e.kind(), format!("sysctl {name}={value}: {e}")))
        })
    }

    /// The kernel's table of IPv4 and IPv6 TCP sockets inside, as text.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn listening(&self) -> io::Result<String> {
        self.inside(|| {
            let v6 = std::fs::read_to_string("/proc/thread-self/net/tcp6").unwrap_or_default();
            Ok(std::fs::read_to_string("/proc/thread-self/net/tcp")? + &v6)
        })
    }

    /// Runs a closure on a thread that has entered the namespace. It must not spawn processes.
    fn inside<T: Send>(&self, what: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let fd = self.handle.as_raw_fd();
        on_helper_thread(move || {
            // SAFETY: touches no memory; the descriptor is open for as long as `self` is borrowed.
            if unsafe { libc::setns(fd, libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            what()
        })
    }
}

fn sysctl_path(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

fn on_helper_thread<T: Send>(what: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| scope.spawn(what).join())
        .unwrap_or_else(|_| Err(io::Error::other("helper thread panicked")))
}
