//! Starts QEMU, passes on what the guest prints, and brings its results back.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use super::{Guest, Outcome, archive::Tree, systemd};
use crate::{
    command::{output, program, run as run_command},
    paths::Paths,
};

const QEMU: &str = "qemu-system-x86_64";

/// Boots a guest on top of its kernel's base, see [`Guest::run`].
pub(crate) fn run(
    paths: &Paths,
    guest: &Guest<'_>,
    base: &Path,
    script: &str,
    line: impl FnMut(&str),
) -> Result<Outcome> {
    drop(fs::remove_dir_all(&guest.out));
    fs::create_dir_all(&guest.out).with_context(|| format!("cannot create {}", guest.out.display()))?;
    let image = guest.out.join("boot.cpio");
    assemble(paths, guest, base, script, &image)?;
    let mut running =
        Running(qemu(guest, &image).spawn().context("cannot run qemu: run `cargo xtask setup`")?);
    let printed = follow(&mut running, guest, line)?;
    drop(running);
    fs::remove_file(&image)?;
    let code = bring_back(guest)?;
    Ok(Outcome { code, printed })
}

/// The kernel unpacks archives one after the other: the base, then what is special about this run.
fn assemble(paths: &Paths, guest: &Guest<'_>, base: &Path, script: &str, image: &Path) -> Result<()> {
    fs::create_dir_all(&paths.target)?;
    let tree = Tree::new(guest.out.join("tree"))?;
    tree.script("command.sh", script)?;
    for file in &guest.files {
        let name =
            file.file_name().with_context(|| format!("{} is no file", file.display()))?.to_string_lossy();
        tree.copy(file, &format!("root/{name}"))?;
        tree.link(&format!("/root/{name}"), &format!("bin/{name}"))?;
    }
    if guest.systemd {
        systemd::add(&tree)?;
    }
    let top = guest.out.join("top.cpio");
    tree.pack(&top)?;
    fs::copy(base, image).context("cannot copy the guest's base")?;
    let mut image = File::options().append(true).open(image)?;
    std::io::copy(&mut File::open(&top)?, &mut image)?;
    fs::remove_file(&top)?;
    Ok(())
}

fn qemu(guest: &Guest<'_>, image: &Path) -> Command {
    let file = |name: &str| format!("file:{}", guest.out.join(name).display());
    // An emulated timer that comes late on a busy machine is no reason to panic.
    let mut append = "console=ttyS0 panic=-1 quiet mitigations=off tsc=reliable no_timer_check".to_owned();
    append.push(' ');
    append.push_str(guest.append);
    let mut qemu = program(QEMU);
    qemu.args(["-accel", "tcg", "-cpu", "max", "-nodefaults", "-display", "none", "-no-reboot"]);
    if guest.icount {
        qemu.args(["-icount", "shift=0,sleep=off"]);
    }
    let cpus = if guest.icount { 1 } else { guest.cpus };
    qemu.args(["-smp", &cpus.to_string(), "-m", &guest.memory.to_string()])
        .args(["-chardev", "stdio,id=printed,signal=off"])
        .args(["-serial", &file("console.log"), "-serial", "chardev:printed", "-serial", &file("out.tgz")])
        .arg("-kernel")
        .arg(guest.kernel.image())
        .arg("-initrd")
        .arg(image)
        .args(["-append", &append])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    qemu
}

/// A QEMU that does not outlive its reader.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Passes on each line until the guest is off, or its time is up.
fn follow(running: &mut Running, guest: &Guest<'_>, mut line: impl FnMut(&str)) -> Result<String> {
    let output = running.0.stdout.take().context("qemu has no output")?;
    let (send, receive) = mpsc::channel();
    thread::spawn(move || send_lines(output, &send));
    let end = Instant::now() + guest.limit;
    let mut printed = String::new();
    loop {
        match receive.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(text) => {
                line(&text);
                printed.push_str(&text);
                printed.push('\n');
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(printed),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("the guest was not done after {} s{}", guest.limit.as_secs(), console_tail(guest))
            }
        }
    }
}

fn send_lines(output: impl Read, to: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(output);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
        if to.send(text).is_err() {
            return;
        }
        bytes.clear();
    }
}

/// Unpacks the guest's `/out`, looks for complaints of its kernel, and returns the command's exit code.
fn bring_back(guest: &Guest<'_>) -> Result<i32> {
    let packed = guest.out.join("out.tgz");
    let unpacked = run_command(program("tar").args(["-xzf"]).arg(&packed).arg("-C").arg(&guest.out));
    let code = unpacked.and_then(|()| Ok(fs::read_to_string(guest.out.join("exit-code"))?));
    let Ok(code) = code else {
        bail!("the guest ended before its command did{}", console_tail(guest));
    };
    fs::remove_file(&packed)?;
    if let Some(complaint) = complaint(guest) {
        bail!("the guest's kernel complained: {complaint}, see {}", guest.out.join("dmesg").display());
    }
    code.trim().parse().context("the guest's exit code is no number")
}

/// What a kernel says when something in it went wrong, even if it goes on.
fn complaint(guest: &Guest<'_>) -> Option<String> {
    let messages = fs::read_to_string(guest.out.join("dmesg")).unwrap_or_default();
    // Case matters: "MP-BIOS bug" is harmless.
    let signs = [
        "BUG:",
        "Oops",
        "WARNING: CPU",
        "WARNING: kernel",
        "general protection fault",
        "rcu_sched self-detected",
    ];
    messages.lines().find(|line| signs.iter().any(|sign| line.contains(sign))).map(str::to_owned)
}

/// The first version of QEMU that does not go on with code which another CPU has just rewritten.
///
/// <https://bugzilla.redhat.com/show_bug.cgi?id=2216496>
const REWRITES_SEEN: [u32; 2] = [8, 1];

/// Whether a guest with several CPUs, which left its words in `out`, died of a breakpoint that its kernel had taken out of
/// its code, as it does while programs are attached. Only older emulators go on with what is not there any more.
pub(crate) fn hit_stale_breakpoint(out: &Path) -> bool {
    let version = output(program(QEMU).arg("--version")).unwrap_or_default();
    if version_of(&version).is_none_or(|version| version >= REWRITES_SEEN) {
        return false;
    }
    let said = ["console.log", "dmesg"].map(|name| fs::read(out.join(name)).unwrap_or_default());
    said.iter().any(|words| is_stale_breakpoint(&String::from_utf8_lossy(words)))
}

/// Of `QEMU emulator version 7.2.22 (Debian …)`.
fn version_of(words: &str) -> Option<[u32; 2]> {
    let mut numbers = words.split_once(" version ")?.1.split('.');
    Some([numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?])
}

/// The first of the kernel's faults counts.
fn is_stale_breakpoint(words: &str) -> bool {
    words.lines().find(|line| line.contains("[#1]")).is_some_and(|line| line.contains("int3: 0000 [#1]"))
}

fn console_tail(guest: &Guest<'_>) -> String {
    let file: PathBuf = guest.out.join("console.log");
    let text = String::from_utf8_lossy(&fs::read(&file).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().rev().take(8).collect();
    let tail: Vec<_> = lines.into_iter().rev().collect();
    format!("; the end of {}:\n{}", file.display(), tail.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_emulators_are_excused() {
        let version = |words| version_of(words).is_some_and(|version| version < REWRITES_SEEN);
        assert!(version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)"));
        assert!(version("QEMU emulator version 8.0.5"));
        assert!(!version("QEMU emulator version 8.1.0"));
        assert!(!version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)"));
        assert!(!version("something else"));
    }

    #[test]
    fn only_a_breakpoint_as_the_first_fault_is_the_emulators() {
        let int3 = "[  255.217069] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI";
        assert!(is_stale_breakpoint(int3));
        assert!(is_stale_breakpoint(&format!("{int3}\n[  255.3] Oops: int3: 0000 [#2] PREEMPT SMP NOPTI")));
        let fault = "[    9.1] Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI";
        assert!(!is_stale_breakpoint(fault));
        assert!(!is_stale_breakpoint(&format!("{fault}\n[    9.2] Oops: int3: 0000 [#2] PREEMPT SMP NOPTI")));
        assert!(!is_stale_breakpoint("[    9.1] Kernel panic - not syncing"));
    }
}
