//! TEMP
use conntally::kernel::bpf::*;
use std::time::Duration;
fn main() {
    let t = std::time::Instant::now();
    let hook = match std::env::args().nth(1).as_deref() {
        Some("kprobe") => HookPreference::Kprobe,
        Some("fentry") => HookPreference::Fentry,
        _ => HookPreference::Auto,
    };
    let o = KernelSideOptions {
        hook,
        slots: 65536,
        rings: RingSizes { updates: 1 << 22, ends: 1 << 22 },
        rate_curve: vec![RateStep { age: Duration::ZERO, every: Duration::from_secs(500) }],
    };
    match KernelSide::start(&o) {
        Err(e) => {
            println!("ERR {e}  {e:?}");
            std::process::exit(1)
        }
        Ok(mut s) => {
            println!(
                "ok in {:?} hz {} {} passed {:?} proven {:?} losses {:?}",
                t.elapsed(),
                s.ticks_per_second(),
                s.report(),
                s.report().passed_over,
                s.report().proven,
                s.losses()
            );
            std::thread::sleep(Duration::from_secs(
                std::env::args().nth(2).map_or(2, |s| s.parse().unwrap()),
            ));
            s.announce().unwrap();
            while let Some(i) = s.updates().next() {
                println!("U {} bytes kind {}", i.len(), i[190]);
            }
            while let Some(i) = s.ends().next() {
                println!("E {} bytes", i.len());
            }
        }
    }
}
