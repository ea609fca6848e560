//! A network namespace of its own for each test, with loopback up and accounting on.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::{Command, id},
    thread,
};

use conntally::kernel::netns::{Namespace, within};

/// Removed when dropped.
pub(crate) struct TestNamespace {
    name: String,
    namespace: Option<Namespace>,
}

impl TestNamespace {
    /// `None`, with the reason on stderr, where the test cannot run.
    pub(crate) fn create(purpose: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            assert!(
                std::env::var_os("REQUIRE_ROOT_TESTS").is_none(),
                "not root, and REQUIRE_ROOT_TESTS forbids to skip"
            );
            eprintln!("skipped: network namespaces need root");
            return None;
        }
        let name = format!("ctt-{purpose}-{}", id());
        run(&["ip", "netns", "add", &name]);
        run(&["ip", "-n", &name, "link", "set", "lo", "up"]);
        let path = format!("/run/netns/{name}");
        let namespace = Namespace::open(Path::new(&path), Some(name.clone())).unwrap();
        let created = Self { name, namespace: Some(namespace) };
        created.sysctl("nf_conntrack_acct", "1");
        created.sysctl("nf_conntrack_timestamp", "1");
        Some(created)
    }

    /// Its name for `ip netns`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The handle on it; keeps it alive, so not after [`Self::delete`].
    pub(crate) fn namespace(&self) -> &Namespace {
        self.namespace.as_ref().unwrap()
    }

    /// Sets one of `net.netfilter`.
    pub(crate) fn sysctl(&self, key: &str, value: &str) {
        within(self.namespace(), || std::fs::write(format!("/proc/sys/net/netfilter/{key}"), value))
            .unwrap()
            .unwrap();
    }

    /// Runs a command inside, which must succeed.
    pub(crate) fn run(&self, command: &[&str]) {
        self.output(command);
    }

    /// What a command says inside.
    pub(crate) fn output(&self, command: &[&str]) -> String {
        let inside = [&["ip", "netns", "exec", &self.name], command].concat();
        run(&inside)
    }

    /// Removes the name and the own handle, as `ip netns del` does.
    pub(crate) fn delete(&mut self) {
        if self.namespace.take().is_some() {
            run(&["ip", "netns", "del", &self.name]);
        }
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        self.delete();
    }
}

fn run(command: &[&str]) -> String {
    let (program, arguments) = command.split_first().unwrap();
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Sends so many datagrams of 100 bytes, which someone receives.
pub(crate) fn udp(from: &str, to: &str, datagrams: u32) {
    let receiver = bind(to);
    let sender = bind(from);
    for _ in 0..datagrams {
        sender.send_to(&[7; 100], to).unwrap();
        receiver.recv(&mut [0; 128]).unwrap();
    }
}

/// Sends so many bytes over a connection that both ends close. Returns the client's port and those bytes.
pub(crate) fn tcp(listen: &str, bytes: u64) -> (u16, u64) {
    let listener = TcpListener::bind(listen).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(&vec![7; usize::try_from(bytes).unwrap()]).unwrap();
    let port = client.local_addr().unwrap().port();
    drop(client);
    server.read_to_end(&mut Vec::new()).unwrap();
    (port, bytes)
}

/// A command that another test starts at this moment holds copies of sockets that were closed here, until it runs.
fn bind(address: &str) -> UdpSocket {
    loop {
        match UdpSocket::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => thread::yield_now(),
            bound => return bound.unwrap(),
        }
    }
}
