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

use super::{Guest, Outcome, archive::Tree, emulator::Emulator, systemd};
use crate::{
    command::{program, run as run_command},
    paths::Paths,
};

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
    let mut qemu = qemu(paths, guest, &image)?;
    let mut running = Running(qemu.spawn().context("cannot run qemu")?);
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

fn qemu(paths: &Paths, guest: &Guest<'_>, image: &Path) -> Result<Command> {
    let file = |name: &str| format!("file:{}", guest.out.join(name).display());
    // A kernel with a fault may wait for ever. An emulated timer that comes late on a busy machine is none.
    let mut append =
        "console=ttyS0 oops=panic panic=-1 quiet mitigations=off tsc=reliable no_timer_check".to_owned();
    append.push(' ');
    append.push_str(guest.append);
    let cpus = if guest.icount { 1 } else { guest.cpus };
    let mut qemu = Emulator::find(paths, cpus)?.command();
    qemu.args(["-accel", "tcg", "-cpu", "max", "-nodefaults", "-display", "none", "-no-reboot"]);
    if guest.icount {
        qemu.args(["-icount", "shift=0,sleep=off"]);
    }
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
    Ok(qemu)
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

fn console_tail(guest: &Guest<'_>) -> String {
    let file: PathBuf = guest.out.join("console.log");
    let text = String::from_utf8_lossy(&fs::read(&file).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().rev().take(8).collect();
    let tail: Vec<_> = lines.into_iter().rev().collect();
    format!("; the end of {}:\n{}", file.display(), tail.join("\n"))
}
